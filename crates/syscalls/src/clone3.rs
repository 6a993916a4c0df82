//! clone3(2), tried with a child that ends at once.
//!
//! # Safety
//!
//! The child returns from the raw system call on its own copy of the stack, and does nothing but `_exit`.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::failure::named;
use crate::{CloneFlags, Result};

/// struct clone_args of linux/sched.h, which libc does not have for every processor; zero is what "absent" means.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "clone3(2) says what each is")]
pub struct Arguments {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    pub cgroup: u64,
}

/// Makes a child that ends with status 0 at once and sends no signal; it waits to be reaped (`__WALL`).
///
/// References: clone3(2). Since Linux 5.3; `set_tid` 5.5, `CLONE_INTO_CGROUP` 5.7.
///
/// # Errors
///
/// ENOSYS, EINVAL, EPERM, EEXIST (a pid of `set_tid` is taken), EBUSY and EOPNOTSUPP (the cgroup), EBADF, ENOSPC.
pub fn ends_at_once(
    flags: CloneFlags,
    set_tid: &[libc::pid_t],
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Pid> {
    let mut arguments = Arguments { flags: flags.bits(), ..Arguments::default() };
    if !set_tid.is_empty() {
        arguments.set_tid = set_tid.as_ptr() as u64;
        arguments.set_tid_size = set_tid.len() as u64;
    }
    if let Some(cgroup) = cgroup {
        arguments.flags |= CloneFlags::INTO_CGROUP.bits();
        arguments.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: the arguments, and the pids that they point to, outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<Arguments>()) };
    if pid == 0 {
        // SAFETY: the child, a copy with a stack of its own, ends without running anything of ours.
        unsafe { libc::_exit(0) }
    }
    #[allow(clippy::cast_possible_truncation)]
    named("clone3", Errno::result(pid).map(|pid| Pid::from_raw(pid as i32)))
}
