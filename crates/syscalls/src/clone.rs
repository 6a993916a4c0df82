//! clone(2) as fork(2) would be with flags: the child is a copy that goes on where the parent stands.
//!
//! # Safety
//!
//! What returns twice is the raw system call, without the libc's handlers of fork: the child may make
//! system calls, and touch what only its own thread owned.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::failure::named;
use crate::{CloneFlags, Result};

/// Who returned from [`copy`].
#[derive(Debug)]
pub enum Copied {
    /// The child itself.
    Child,
    /// The parent, with what it knows of the child.
    Parent {
        /// The child's pid, in the caller's pid namespace.
        pid: Pid,
        /// The child's pidfd, close-on-exec; a kernel before 5.2 gives none, and says nothing.
        pidfd: Option<OwnedFd>,
    },
}

/// Makes a copy of the calling process with one thread, which sends its parent no signal when it ends.
///
/// References: clone(2), with `CLONE_PIDFD`.
///
/// # Errors
///
/// EAGAIN, EINVAL, ENOMEM, ENOSPC, EPERM, EUSERS.
///
/// # Safety
///
/// In the child only async-signal-safe things may happen, until it ends by `_exit`; `flags` must not hold
/// `VM`, `VFORK`, `THREAD` or `SIGHAND`, with which the two would run on one stack.
pub unsafe fn copy(flags: CloneFlags) -> Result<Copied> {
    let mut pidfd: RawFd = -1;
    let address = &raw mut pidfd;
    #[allow(clippy::cast_possible_truncation)]
    let flags = flags.union(CloneFlags::PIDFD).bits() as libc::c_ulong;
    let none: libc::c_ulong = 0;
    #[cfg(not(target_arch = "s390x"))]
    // SAFETY: without a stack of its own the child runs on its copy of ours; `pidfd` outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, address, none, none) };
    #[cfg(target_arch = "s390x")]
    // SAFETY: as above; s390x takes the stack before the flags.
    let pid = unsafe { libc::syscall(libc::SYS_clone, none, flags, address, none, none) };
    named("clone", Errno::result(pid)).map(|pid| match pid {
        0 => Copied::Child,
        #[allow(clippy::cast_possible_truncation)]
        pid => Copied::Parent {
            pid: Pid::from_raw(pid as i32),
            // SAFETY: what is no longer -1 is a new descriptor, which the kernel wrote for us.
            pidfd: (pidfd != -1).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) }),
        },
    })
}
