//! # Safety
//!
//! A system call without pointers, whose result is a new descriptor.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;

use crate::Result;
use crate::failure::named;
use crate::pidfd_open::owned;

/// A copy, close-on-exec, of the descriptor that is number `target` in the process of `pidfd`.
///
/// References: pidfd_getfd(2). Since Linux 5.6.
///
/// # Errors
///
/// EBADF, EPERM (it needs what ptrace(2) needs to attach), ESRCH, EMFILE, ENFILE, ENOSYS.
pub fn pidfd_getfd(pidfd: impl AsRawFd + Copy, target: i32) -> Result<OwnedFd> {
    // SAFETY: the call takes three integers, and memory is not involved.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), target, 0) };
    named("pidfd_getfd", Errno::result(fd).map(owned))
}
