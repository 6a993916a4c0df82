//! # Safety
//!
//! A libc call of two integers.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;

use nix::errno::Errno;

use crate::failure::named;
use crate::unshare::kernel_flags;
use crate::{CloneFlags, Result};

/// Moves the calling thread into the namespace, or into some of a process's namespaces, that `fd` refers to.
///
/// References: setns(2). A pidfd is accepted since Linux 5.8.
///
/// # Errors
///
/// EBADF, EINVAL, EPERM, ESRCH, EUSERS, ENOMEM.
pub fn setns(fd: impl AsRawFd + Copy, nstype: CloneFlags) -> Result<()> {
    // SAFETY: the call takes two integers, and memory is not involved.
    let result = unsafe { libc::setns(fd.as_raw_fd(), kernel_flags(nstype).bits()) };
    named("setns", Errno::result(result).map(drop))
}
