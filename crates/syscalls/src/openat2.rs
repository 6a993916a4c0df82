//! # Safety
//!
//! A system call on a C string and a structure that outlive it, whose result is a new descriptor.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{OwnedFd, RawFd};

use nix::errno::Errno;

use crate::Result;
use crate::failure::named;
use crate::pidfd_open::owned;

/// struct open_how of linux/openat2.h.
#[repr(C)]
struct How {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// Opens `path`, seen from `directory`; with `is_root` that is the root directory for the path's resolution: neither `..`,
/// nor a symbolic link, nor an absolute path leads out of it. Close-on-exec.
///
/// References: openat2(2), `RESOLVE_IN_ROOT`. Since Linux 5.6.
///
/// # Errors
///
/// open(2)'s; EAGAIN (a rename outside raced with `..`), ENOSYS.
pub fn openat2(directory: RawFd, path: &CStr, flags: i32, mode: u32, is_root: bool) -> Result<OwnedFd> {
    const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
    const RESOLVE_IN_ROOT: u64 = 0x10;
    let how = How {
        flags: u64::from((flags | libc::O_CLOEXEC).cast_unsigned()),
        mode: u64::from(mode),
        resolve: if is_root { RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS } else { 0 },
    };
    // SAFETY: the path and the structure outlive the call, which is told the structure's size.
    let fd = unsafe {
        libc::syscall(libc::SYS_openat2, directory, path.as_ptr(), &raw const how, size_of::<How>())
    };
    named("openat2", Errno::result(fd).map(owned))
}
