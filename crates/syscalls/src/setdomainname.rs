//! # Safety
//!
//! One libc call on a pointer and its length.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

use crate::Result;
use crate::failure::named;

/// Sets the NIS domain name of the UTS namespace; 64 bytes at most.
///
/// References: setdomainname(2).
///
/// # Errors
///
/// EINVAL (too long), EPERM.
pub fn setdomainname(name: &OsStr) -> Result<()> {
    // SAFETY: the pointer and the length are of one live slice, which the call only reads.
    let result = unsafe { libc::setdomainname(name.as_bytes().as_ptr().cast(), name.len()) };
    named("setdomainname", Errno::result(result).map(drop))
}
