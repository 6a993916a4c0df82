//! # Safety
//!
//! A system call of three integers.
#![allow(unsafe_code)]

use nix::errno::Errno;

use crate::Result;
use crate::failure::named;

/// Marks every descriptor from `first` to `last` to be closed by exec.
///
/// References: close_range(2), `CLOSE_RANGE_CLOEXEC`. Since Linux 5.11.
///
/// # Errors
///
/// EINVAL (also: before 5.11), ENOSYS.
pub fn close_range_on_exec(first: u32, last: u32) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: integers only.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, CLOSE_RANGE_CLOEXEC) };
    named("close_range", Errno::result(result).map(drop))
}
