//! What runs in a child between clone and exec, and in a parked thread: system calls on prepared data.
//!
//! Nothing here allocates, takes a lock, panics or drops what was prepared; descriptors that it opens it closes.
//!
//! # Safety
//!
//! libc calls on borrowed C strings, slices and structures that outlive them.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, RawFd};

use linux_clone_syscalls::{
    CloneFlags, Errno, Failure, Pid, PidfdFlags, Result, are_groups_mapped, are_users_mapped,
    keep_capabilities, leave_groups, limit_bounding_set, mount, pidfd_open, seccomp_filter, set_capabilities,
    set_no_new_privileges, set_resource_limit, setdomainname, setgid, sethostname, setns, setresgid,
    setresuid, setuid, unshare,
};
use nix::fcntl::{OFlag, open, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};
use nix::unistd;

use crate::disposable::can_share_memory;
use crate::failed::Failed;
use crate::plan::{Action, Row};
use crate::signals::{default_effects, unblock_all};

mod descriptors;
mod mounts;

/// Performs `actions` in order, up to the first that fails.
pub fn perform(actions: &[Action<'_>]) -> Result<()> {
    actions.iter().try_for_each(perform_one)
}

/// The same with the lines of a table.
pub fn perform_rows(rows: &[Row<'_>]) -> std::result::Result<(), Failed> {
    rows.iter().try_for_each(|row| perform_one(&row.action).map_err(|failure| Failed::in_row(row, failure)))
}

/// Performs one.
pub fn perform_one(action: &Action<'_>) -> Result<()> {
    match *action {
        Action::Unshare(flags) => unshare(flags),
        Action::Setns(fd, flags) => setns(fd, flags),
        Action::TrySetns(fd, flags, is_done) => {
            is_done.set(setns(fd, flags).is_ok());
            Ok(())
        }
        Action::SetnsUnless(fd, flags, is_done) => {
            if is_done.get() {
                return Ok(());
            }
            setns(fd, flags)
        }
        Action::Root { root, cwd } => enter_root(root, cwd),
        Action::WorkingDirectory(directory) => failing_as("fchdir", unistd::fchdir(directory)),
        Action::ChangeDirectory(path) => failing_as("chdir", unistd::chdir(path)),
        Action::Umask(mask) => {
            umask(mask);
            Ok(())
        }
        Action::SetnsToSelf(flags) => setns(pidfd_open(Pid::this(), PidfdFlags::empty())?.as_fd(), flags),
        Action::Mount { source, target, fstype, flags, data } => {
            mount(Some(source), target, fstype, flags, data)
        }
        Action::OpenRoot { path, is_pivot, root } => {
            root.set(mounts::open_root(path, is_pivot)?);
            Ok(())
        }
        Action::Place { placement, root, mounted, covering } => {
            mounts::place(placement, root, mounted, covering)
        }
        Action::EnterAgain(covering) => mounts::enter_again(covering),
        Action::PivotRoot(root) => mounts::pivot(root.get()),
        Action::ChangeRoot(root) => mounts::change_root(root.get()),
        Action::Directory(path) => failing_as("mkdir", unistd::mkdir(path, Mode::from_bits_retain(0o755))),
        Action::Write { path, contents } => write(path, contents),
        Action::AwaitMaps { gate, parent } => gate.pass(parent),
        Action::TimeNamespace { proc, offsets } => enter_time_namespace(proc, offsets),
        Action::Cgroup(directory) => enter_cgroup(directory),
        Action::Hostname(name) => sethostname(name),
        Action::Domainname(name) => setdomainname(name),
        Action::Loopback(loopback) => loopback.configure(),
        Action::ResourceLimit(resource, limit) => set_resource_limit(resource, limit),
        Action::Session => failing_as("setsid", unistd::setsid().map(drop)),
        Action::DefaultSignals => {
            default_effects();
            Ok(())
        }
        Action::CloseOnExec => {
            descriptors::close_on_exec();
            Ok(())
        }
        Action::Stdio(descriptors) => descriptors::place(descriptors),
        Action::Credentials(id) => give_up_privileges(id),
        Action::LeaveGroups => {
            // Who may not keeps them, as with unshare(1).
            let _ = leave_groups();
            Ok(())
        }
        Action::LeaveUnmapped { uid, gid } => leave_unmapped(uid, gid),
        Action::Ids { uid, gid, keeps_capabilities } => set_ids(uid, gid, keeps_capabilities),
        Action::BoundingSet(kept) => limit_bounding_set(kept),
        Action::Capabilities(kept) => set_capabilities(kept),
        Action::NoNewPrivileges => set_no_new_privileges(),
        Action::Filter(filter) => seccomp_filter(filter),
        Action::DeathSignal { signal, parent } => die_with(signal, parent),
        Action::UnblockSignals => unblock_all(),
    }
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

fn enter_cgroup(directory: RawFd) -> Result<()> {
    if directory < 0 {
        return Err(Failure::new("openat", Errno::EBADF));
    }
    // SAFETY: a number that JavaScript has passed: one that is not open is the kernel's to refuse.
    let directory = unsafe { BorrowedFd::borrow_raw(directory) };
    write_at(directory, c"cgroup.procs", b"0")
}

fn write_at(directory: BorrowedFd<'_>, path: &CStr, contents: &[u8]) -> Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let file = failing_as("open", openat(directory, path, flags, Mode::empty()))?;
    failing_as("write", unistd::write(&file, contents)).map(drop)
}

/// Offsets can be written only while the namespace has no member. A process that shares its memory enters by exec, which
/// kernels before 6.2 do not do: those do not let it make a process with the same memory either (EINVAL).
///
/// What is at /proc in a mount namespace that was joined may be anything.
fn enter_time_namespace(proc: BorrowedFd<'_>, offsets: &[u8]) -> Result<()> {
    unshare(CloneFlags::NEWTIME)?;
    if !offsets.is_empty() {
        write_at(proc, c"self/timens_offsets", offsets)?;
    }
    let (path, flags) = (c"self/ns/time_for_children", OFlag::O_RDONLY | OFlag::O_CLOEXEC);
    let namespace = failing_as("open", openat(proc, path, flags, Mode::empty()))?;
    match setns(namespace.as_fd(), CloneFlags::NEWTIME) {
        Err(Failure { errno: Errno::EUSERS, .. }) => can_share_memory(),
        entered => entered,
    }
}

/// By system calls, since the libc's functions would do it to every thread that the parent has.
fn give_up_privileges(id: u32) -> Result<()> {
    leave_groups()?;
    setresgid(id)?;
    setresuid(id)?;
    // Having changed ids, a process is not dumpable, and cannot write its own id maps (user_namespaces(7)). That belongs
    // to the memory: only the child of a copy of this process may do this, never one that shares this process's own.
    let dumpable: libc::c_ulong = 1;
    // SAFETY: integers only.
    let result = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, dumpable) };
    failing_as("prctl", Errno::result(result)).map(drop)
}

/// Root of the user namespace could use an id of outside that stays.
fn leave_unmapped(uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    let (keeps_group, keeps_user) = (are_groups_mapped()?, are_users_mapped()?);
    if keeps_group && keeps_user {
        return Ok(());
    }
    // A user namespace may deny it; who may leave them outside has done so.
    let _ = leave_groups();
    if !keeps_group {
        setresgid(0).or_else(|failure| setresgid(gid.ok_or(failure)?))?;
    }
    if !keeps_user {
        setresuid(0).or_else(|failure| setresuid(uid.ok_or(failure)?))?;
    }
    Ok(())
}

fn set_ids(uid: Option<u32>, gid: Option<u32>, keeps_capabilities: bool) -> Result<()> {
    if keeps_capabilities && uid.is_some() {
        keep_capabilities()?;
    }
    // As libuv does it: who may not leave groups has none that it could abuse.
    let _ = leave_groups();
    gid.map_or(Ok(()), setgid)?;
    uid.map_or(Ok(()), setuid)
}

/// The kernel forgets the signal when ids change: this comes after that.
fn die_with(signal: i32, parent: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: integers only.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::c_long::from(signal)) };
    failing_as("prctl", Errno::result(result))?;
    let mut events = [PollFd::new(parent, PollFlags::POLLIN)];
    if poll(&mut events, PollTimeout::ZERO).is_ok_and(|ended| ended > 0) {
        // SAFETY: nobody waits for this process.
        unsafe { libc::_exit(1) }
    }
    Ok(())
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
