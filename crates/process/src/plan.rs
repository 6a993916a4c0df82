use std::ffi::CStr;
use std::os::fd::{BorrowedFd, RawFd};

use nix::sys::stat::Mode;

use linux_clone_syscalls::{CloneFlags, Loopback, MountFlags};

/// One thing that a child, or a parked thread, does; everything that it needs is there beforehand.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// unshare(2).
    Unshare(CloneFlags),
    /// setns(2), on a number: it may be one that JavaScript has passed.
    Setns(RawFd, CloneFlags),
    /// Makes `root` the root directory and `cwd` the working directory.
    Root { root: BorrowedFd<'a>, cwd: BorrowedFd<'a> },
    /// fchdir(2).
    WorkingDirectory(BorrowedFd<'a>),
    /// umask(2).
    Umask(Mode),
    /// setns(2) into the namespaces of the caller's own pidfd.
    SetnsToSelf(CloneFlags),
    /// mount(2).
    Mount {
        source: &'a CStr,
        target: &'a CStr,
        fstype: Option<&'a CStr>,
        flags: MountFlags,
        data: Option<&'a CStr>,
    },
    /// mkdir(2), with mode 0755.
    Directory(&'a CStr),
    /// Writes a file under /proc in one write(2), as its id maps and offsets want it.
    Write { path: &'a CStr, contents: &'a [u8] },
    /// Brings `lo` up.
    Loopback(&'a Loopback),
    /// Gives up every id but this one, and with it every capability.
    Credentials(u32),
    /// Forbids new privileges, and installs a filter that allows everything.
    AllowAllFilter,
}
