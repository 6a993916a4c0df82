//! A pipe for much at once.
//!
//! # Safety
//!
//! fcntl(2) with integers.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};

use linux_clone_syscalls::{Failure, Result};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

/// What an ordinary user may have, unless /proc/sys/fs/pipe-max-size says less.
const SIZE: libc::c_int = 1 << 20;

/// A pipe, close-on-exec, that holds as much as this user may have it hold.
///
/// References: pipe(2), fcntl(2) `F_SETPIPE_SZ`.
///
/// # Errors
///
/// EMFILE, ENFILE.
pub fn wide_pipe() -> Result<[OwnedFd; 2]> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| Failure::new("pipe2", errno))?;
    // A smaller one is as good, and slower.
    // SAFETY: integers only.
    unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, SIZE) };
    Ok([reader, writer])
}
