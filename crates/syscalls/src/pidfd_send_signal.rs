//! # Safety
//!
//! A system call whose one pointer is null.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;
use std::ptr;

use bitflags::bitflags;
use nix::errno::Errno;

use crate::Result;
use crate::failure::named;

bitflags! {
    /// Whom pidfd_send_signal(2) addresses; 0 is what the pidfd refers to (Linux 6.9).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct PidfdSignalFlags: u32 {
        /// The thread.
        const THREAD = 1;
        /// The whole process.
        const THREAD_GROUP = 2;
        /// The process group of which it is the leader.
        const PROCESS_GROUP = 4;

        const _ = !0;
    }
}

/// Sends `signal` as kill(2) would; 0 only asks whether it could be sent.
///
/// References: pidfd_send_signal(2). Since Linux 5.1.
///
/// # Errors
///
/// EBADF, EINVAL, EPERM, ESRCH (it has ended and is reaped), ENOSYS.
pub fn pidfd_send_signal(pidfd: impl AsRawFd + Copy, signal: i32, flags: PidfdSignalFlags) -> Result<()> {
    let info: *const libc::siginfo_t = ptr::null();
    // SAFETY: the only pointer is null, which stands for what kill(2) would fill in.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, flags.bits()) };
    named("pidfd_send_signal", Errno::result(result).map(drop))
}
