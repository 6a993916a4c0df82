//! # Safety
//!
//! A system call on a C string that outlives it, whose result is a new descriptor.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use crate::Result;
use crate::failure::named;
use crate::pidfd_open::owned;

/// A copy of what is mounted at `path`, as bind mounts are made; with `recursive` of what is mounted below it too. It is
/// attached nowhere until [`move_mount`](crate::move_mount), and goes with its descriptor, which is close-on-exec.
///
/// References: open_tree(2), `OPEN_TREE_CLONE`. Since Linux 5.2.
///
/// # Errors
///
/// EPERM, EINVAL, ENOENT, ENOTDIR, EACCES, ELOOP, EMFILE, ENOSYS.
pub fn open_tree(path: &CStr, recursive: bool) -> Result<OwnedFd> {
    const OPEN_TREE_CLONE: i32 = 1;
    const AT_RECURSIVE: i32 = 0x8000;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    named("open_tree", Errno::result(fd).map(owned))
}
