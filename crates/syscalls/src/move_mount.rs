//! # Safety
//!
//! A system call on two descriptors, and empty strings.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::Result;
use crate::failure::named;

/// Attaches the mount of a descriptor on what another one refers to.
///
/// References: move_mount(2). Since Linux 5.2.
///
/// # Errors
///
/// EINVAL, ENOTDIR (one of the two is a directory, the other none), EPERM, ELOOP, ENOSYS.
pub fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x04;
    const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
    let (empty, flags) = (c"".as_ptr(), MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    // SAFETY: integers, and a static string.
    let result = unsafe {
        libc::syscall(libc::SYS_move_mount, mount.as_raw_fd(), empty, target.as_raw_fd(), empty, flags)
    };
    named("move_mount", Errno::result(result).map(drop))
}
