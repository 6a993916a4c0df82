use std::cell::Cell;
use std::ffi::{CStr, OsStr};
use std::os::fd::{BorrowedFd, RawFd};

use nix::sys::stat::Mode;

use linux_clone_syscalls::{CloneFlags, Instruction, Loopback, MountFlags, ResourceLimit};

use crate::failure::Step;
use crate::gate::Gate;
use crate::mounts::{Covering, Placement};

/// One thing that a child, or a parked thread, does; everything that it needs is there beforehand.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// unshare(2).
    Unshare(CloneFlags),
    /// setns(2), on a number: it may be one that JavaScript has passed.
    Setns(RawFd, CloneFlags),
    /// The same where that is allowed already: whether it was is noted.
    TrySetns(RawFd, CloneFlags, &'a Cell<bool>),
    /// The same where it has not been done.
    SetnsUnless(RawFd, CloneFlags, &'a Cell<bool>),
    /// Makes `root` the root directory and `cwd` the working directory.
    Root { root: BorrowedFd<'a>, cwd: BorrowedFd<'a> },
    /// fchdir(2).
    WorkingDirectory(BorrowedFd<'a>),
    /// chdir(2).
    ChangeDirectory(&'a CStr),
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
    /// Opens what is to be the root directory, as a mount of its own where it is to be pivoted to.
    OpenRoot { path: &'a CStr, is_pivot: bool, root: &'a Cell<RawFd> },
    /// Mounts something, seen from a root directory; for the other two see there.
    Place {
        placement: &'a Placement,
        root: &'a Cell<RawFd>,
        mounted: Option<&'a Cell<Option<RawFd>>>,
        covering: Option<&'a Covering>,
    },
    /// chdir(2) to the path of the working directory, where something is mounted over that.
    EnterAgain(&'a Covering),
    /// pivot_root(2), and the old root's mounts are gone.
    PivotRoot(&'a Cell<RawFd>),
    /// chroot(2).
    ChangeRoot(&'a Cell<RawFd>),
    /// mkdir(2), with mode 0755.
    Directory(&'a CStr),
    /// Writes a file under /proc in one write(2), as its id maps and offsets want it.
    Write { path: &'a CStr, contents: &'a [u8] },
    /// Waits until the parent has written the id maps.
    AwaitMaps { gate: &'a Gate, parent: BorrowedFd<'a> },
    /// A new time namespace, which those offsets are written for; it is entered now, or by exec. `proc` is the parent's /proc.
    TimeNamespace { proc: BorrowedFd<'a>, offsets: &'a [u8] },
    /// Moves the process into a directory of cgroup v2.
    Cgroup(RawFd),
    /// sethostname(2).
    Hostname(&'a OsStr),
    /// setdomainname(2).
    Domainname(&'a OsStr),
    /// Brings `lo` up.
    Loopback(&'a Loopback),
    /// prlimit(2).
    ResourceLimit(i32, &'a ResourceLimit),
    /// setsid(2).
    Session,
    /// The default effect of every signal.
    DefaultSignals,
    /// Every descriptor that is there is closed by exec.
    CloseOnExec,
    /// Copies descriptors to 0, 1, 2 …
    Stdio(&'a [Cell<RawFd>]),
    /// Gives up every id but this one, and with it every capability.
    Credentials(u32),
    /// Leaves the supplementary groups, where that is allowed.
    LeaveGroups,
    /// Of user and group, those that the user namespace does not know become 0, or where that is not known either, these.
    LeaveUnmapped { uid: Option<u32>, gid: Option<u32> },
    /// setgid(2) and setuid(2), without supplementary groups; the permitted capabilities may outlive it.
    Ids { uid: Option<u32>, gid: Option<u32>, keeps_capabilities: bool },
    /// Leaves these in the bounding set.
    BoundingSet(u64),
    /// Makes these the capabilities, over exec.
    Capabilities(u64),
    /// Forbids new privileges.
    NoNewPrivileges,
    /// Filters system calls.
    Filter(&'a [Instruction]),
    /// A signal when the parent thread ends; where that is over already, so is this process.
    DeathSignal { signal: i32, parent: BorrowedFd<'a> },
    /// No signal is blocked any more.
    UnblockSignals,
}

/// A line of the table of steps.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    pub step: Step,
    pub action: Action<'a>,
    /// The file that it concerns.
    pub path: Option<&'a CStr>,
    /// The second of two.
    pub dest: Option<&'a CStr>,
}

impl<'a> Row<'a> {
    pub fn new(step: Step, action: Action<'a>) -> Self {
        Self { step, action, path: None, dest: None }
    }

    pub fn at(step: Step, action: Action<'a>, path: &'a CStr) -> Self {
        Self { step, action, path: Some(path), dest: None }
    }
}
