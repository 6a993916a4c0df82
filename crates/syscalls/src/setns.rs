use std::os::fd::BorrowedFd;

use nix::sched;

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
pub fn setns(fd: BorrowedFd<'_>, nstype: CloneFlags) -> Result<()> {
    named("setns", sched::setns(fd, kernel_flags(nstype)))
}
