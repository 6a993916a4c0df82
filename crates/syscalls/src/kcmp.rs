//! # Safety
//!
//! A system call of integers, one of which is, for `KCMP_EPOLL_TFD` alone, the address of a live slot.
#![allow(unsafe_code)]

use std::ptr;

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::constants::KCMP_EPOLL_TFD;
use crate::failure::named;
use crate::{Failure, Result};

/// Which registration of an epoll instance is meant: the kernel's `struct kcmp_epoll_slot`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpollSlot {
    /// The epoll instance.
    pub efd: u32,
    /// The descriptor that was registered.
    pub tfd: u32,
    /// Which of several registrations under that number.
    pub toff: u32,
}

/// Whether two processes share a resource: 0 equal, 1 less, 2 greater, 3 neither.
///
/// The kernel reads a descriptor's index as 32 bits, so that is what it can be here.
///
/// References: kcmp(2). Since Linux 3.5, where the kernel was built with it.
///
/// # Errors
///
/// EBADF, EINVAL (an unknown `kind`, and `KCMP_EPOLL_TFD`, which is [`kcmp_epoll`]'s), EPERM, ESRCH, ENOSYS.
pub fn kcmp(first: Pid, second: Pid, kind: i32, index1: u32, index2: u32) -> Result<i32> {
    if kind == KCMP_EPOLL_TFD {
        return Err(Failure::new("kcmp", Errno::EINVAL));
    }
    // SAFETY: with any kind but KCMP_EPOLL_TFD the kernel reads the indices as numbers.
    let result = unsafe {
        libc::syscall(libc::SYS_kcmp, first.as_raw(), second.as_raw(), kind, word(index1), word(index2))
    };
    order(result)
}

/// Whether descriptor `index1` of the first process is what `slot` of the second one's epoll instance watches.
///
/// References: kcmp(2), `KCMP_EPOLL_TFD`. Since Linux 4.13.
///
/// # Errors
///
/// EBADF, ENOENT (no such registration), EPERM, ESRCH, ENOSYS.
pub fn kcmp_epoll(first: Pid, second: Pid, index1: u32, slot: &EpollSlot) -> Result<i32> {
    let slot = ptr::from_ref(slot);
    // SAFETY: the slot outlives the call, which only reads it.
    let result = unsafe {
        libc::syscall(libc::SYS_kcmp, first.as_raw(), second.as_raw(), KCMP_EPOLL_TFD, word(index1), slot)
    };
    order(result)
}

/// An index as wide as the kernel's `unsigned long`, which is what a variadic function has to be given.
fn word(index: u32) -> libc::c_ulong {
    index.into()
}

#[allow(clippy::cast_possible_truncation)]
fn order(result: libc::c_long) -> Result<i32> {
    named("kcmp", Errno::result(result).map(|order| order as i32))
}
