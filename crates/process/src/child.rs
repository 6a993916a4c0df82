//! What runs in a child between clone and exec, and in a parked thread: system calls on prepared data.
//!
//! Nothing here allocates, takes a lock, panics or drops what was prepared; descriptors that it opens it closes.
//!
//! # Safety
//!
//! libc calls on borrowed C strings, slices and structures that outlive them.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use linux_clone_syscalls::{Errno, Failure, Pid, PidfdFlags, Result, mount, pidfd_open, setns, unshare};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, umask};
use nix::unistd;

use crate::plan::Action;

/// Performs `actions` in order, up to the first that fails.
pub fn perform(actions: &[Action<'_>]) -> Result<()> {
    for action in actions {
        match *action {
            Action::Unshare(flags) => unshare(flags)?,
            Action::Setns(fd, flags) => setns(fd, flags)?,
            Action::Root { root, cwd } => enter_root(root, cwd)?,
            Action::WorkingDirectory(directory) => failing_as("fchdir", unistd::fchdir(directory))?,
            Action::Umask(mask) => drop(umask(mask)),
            Action::SetnsToSelf(flags) => {
                setns(pidfd_open(Pid::this(), PidfdFlags::empty())?.as_fd(), flags)?;
            }
            Action::Mount { source, target, fstype, flags, data } => {
                mount(Some(source), target, fstype, flags, data)?;
            }
            Action::Directory(path) => {
                failing_as("mkdir", unistd::mkdir(path, Mode::from_bits_retain(0o755)))?;
            }
            Action::Write { path, contents } => write(path, contents)?,
            Action::Loopback(loopback) => loopback.configure()?,
            Action::Credentials(id) => give_up_privileges(id)?,
            Action::AllowAllFilter => allow_all_filter()?,
        }
    }
    Ok(())
}

fn failing_as<T>(call: &'static str, result: nix::Result<T>) -> Result<T> {
    result.map_err(|errno| Failure::new(call, errno))
}

/// Both descriptors are of the new mount namespace: those of the old one would lead back into it.
fn enter_root(root: BorrowedFd<'_>, cwd: BorrowedFd<'_>) -> Result<()> {
    failing_as("fchdir", unistd::fchdir(root))?;
    failing_as("chroot", unistd::chroot(c"."))?;
    failing_as("fchdir", unistd::fchdir(cwd))
}

fn write(path: &CStr, contents: &[u8]) -> Result<()> {
    let file = failing_as("open", open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()))?;
    failing_as("write", unistd::write(&file, contents)).map(drop)
}

/// By system calls, since the libc's functions would do it to every thread that the parent has.
fn give_up_privileges(id: u32) -> Result<()> {
    let no_groups: *const libc::gid_t = std::ptr::null();
    // SAFETY: the length is 0, so that nothing is read.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, 0, no_groups) };
    failing_as("setgroups", Errno::result(result))?;
    // SAFETY: three integers.
    let result = unsafe { libc::syscall(libc::SYS_setresgid, id, id, id) };
    failing_as("setresgid", Errno::result(result))?;
    // SAFETY: three integers.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, id, id, id) };
    failing_as("setresuid", Errno::result(result))?;
    // Having changed ids, a process is not dumpable, and cannot write its own id maps (user_namespaces(7)). That belongs
    // to the memory: only the child of a copy of this process may do this, never one that shares this process's own.
    let dumpable: libc::c_ulong = 1;
    // SAFETY: integers only.
    let result = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, dumpable) };
    failing_as("prctl", Errno::result(result)).map(drop)
}

fn allow_all_filter() -> Result<()> {
    #[allow(clippy::cast_possible_truncation, reason = "an instruction's code has 16 bits")]
    const RETURN_CONSTANT: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut filter = [libc::sock_filter { code: RETURN_CONSTANT, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }];
    let program = libc::sock_fprog { len: 1, filter: filter.as_mut_ptr() };
    let (yes, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: integers only.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, unused, unused, unused) };
    failing_as("prctl", Errno::result(result))?;
    // SAFETY: the program and its one instruction outlive the call, which copies them.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    failing_as("seccomp", Errno::result(result)).map(drop)
}

/// Opens a directory as a place only, close-on-exec.
pub fn open_place(path: &CStr) -> Result<i32> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the path is a live C string.
    let fd = unsafe { libc::open(path.as_ptr(), flags) };
    failing_as("open", Errno::result(fd))
}

/// Whether `cwd` can be entered again.
pub fn can_enter(cwd: i32) -> Result<()> {
    // SAFETY: an integer that open(2) has just returned.
    let cwd = unsafe { BorrowedFd::borrow_raw(cwd) };
    failing_as("fchdir", unistd::fchdir(cwd))
}
