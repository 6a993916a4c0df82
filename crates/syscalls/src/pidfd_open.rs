//! # Safety
//!
//! A system call without pointers, whose result is a new descriptor.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd};

use bitflags::bitflags;
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::Result;
use crate::failure::named;

bitflags! {
    /// What pidfd_open(2) takes.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct PidfdFlags: u32 {
        /// waitid(2) on it does not block (Linux 5.10).
        const NONBLOCK = 0o4000;
        /// A single thread rather than its process (Linux 6.9).
        const THREAD = 0o200;

        const _ = !0;
    }
}

/// A descriptor of the process `pid`, close-on-exec.
///
/// References: pidfd_open(2). Since Linux 5.3.
///
/// # Errors
///
/// EINVAL, ESRCH, EMFILE, ENFILE, ENODEV, ENOMEM, ENOSYS.
pub fn pidfd_open(pid: Pid, flags: PidfdFlags) -> Result<OwnedFd> {
    // SAFETY: the call takes two integers, and memory is not involved.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), flags.bits()) };
    named("pidfd_open", Errno::result(fd).map(owned))
}

/// The descriptor that a system call has just made.
#[allow(clippy::cast_possible_truncation)]
pub(crate) fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}
