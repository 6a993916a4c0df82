//! What this process can do right now, by trying, in a copy of it that is thrown away.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use linux_clone_syscalls::constants::KCMP_VM;
use linux_clone_syscalls::{
    CloneFlags, Errno, Failure, Instruction, Loopback, MountFlags, Namespace, Pid, PidfdFlags, Result,
    clone3, kcmp, nsfs, pidfd_open,
};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

use crate::disposable::{Disposable, Stack, attempt, reap};
use crate::plan::Action;
use crate::shared::Shared;
use crate::subordinate::first_range;

/// What was found out of one feature.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Its name in the public contract.
    pub feature: &'static str,
    /// `None` where it works.
    pub obstacle: Option<Obstacle>,
}

/// Why a feature is not to be had.
#[derive(Clone, Debug)]
pub enum Obstacle {
    /// A system call failed.
    Refused(Failure),
    /// Something that is no system call is missing.
    Missing(&'static str),
}

impl From<Failure> for Obstacle {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

/// The user that an unprivileged process is tried as, where we are root.
const NOBODY: u32 = 65534;

#[allow(clippy::cast_possible_truncation, reason = "an instruction's code has 16 bits")]
const RETURN_CONSTANT: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
static ALLOW_ALL: [Instruction; 1] =
    [Instruction { code: RETURN_CONSTANT, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }];

/// How many trials there are at most: their results lie in memory that is shared with the process that is thrown away.
const MOST: usize = 32;

/// How one feature is tried.
enum Trial<'a> {
    /// Actions in a child with these new namespaces.
    Actions(CloneFlags, Vec<Action<'a>>),
    /// A child by clone3, with pids and a cgroup.
    Clone3(CloneFlags, &'a [libc::pid_t], Option<&'a OwnedFd>),
}

struct Trials<'a> {
    list: Vec<(&'static str, Trial<'a>)>,
    stack: Stack,
    results: Shared<[Cell<Result<()>>; MOST]>,
}

/// What the caller's children are tried with.
struct Caller {
    uid: Uid,
    gid: Gid,
    /// It may create namespaces; otherwise what needs one is tried in a user namespace.
    is_privileged: bool,
}

/// Tries every feature of the public contract.
///
/// # Errors
///
/// What clone(2) says where no process can be made at all; EBUSY where the next one would become pid 1 of a pid
/// namespace that the caller has made for its children.
pub fn probe() -> Result<Vec<Finding>> {
    let caller = Caller {
        uid: Uid::effective(),
        gid: Gid::effective(),
        is_privileged: attempt(&Stack::new()?, CloneFlags::empty(), &[Action::Unshare(CloneFlags::NEWNS)])
            .is_ok(),
    };
    let mut findings = try_in_a_process(&caller)?;
    findings.extend(try_here());
    findings.extend(try_mapping(&caller));
    for (feature, file) in [("subuid", "/etc/subuid"), ("subgid", "/etc/subgid")] {
        let obstacle = match first_range(file, caller.uid) {
            Ok(Some(_)) => None,
            Ok(None) => Some(Obstacle::Missing("the file gives this user no range of subordinate ids")),
            Err(errno) => Some(Failure::new("open", errno).into()),
        };
        findings.push(Finding { feature, obstacle });
    }
    Ok(findings)
}

fn try_in_a_process(caller: &Caller) -> Result<Vec<Finding>> {
    let loopback = Loopback::new();
    let (uid_map, gid_map) = (format!("0 {} 1", caller.uid), format!("0 {} 1", caller.gid));
    let cgroup = own_cgroup();
    let trials = Trials {
        list: list(caller, &loopback, [uid_map.as_bytes(), gid_map.as_bytes()], cgroup.as_ref().ok()),
        stack: Stack::new()?,
        results: Shared::new([const { Cell::new(Ok(())) }; MOST])?,
    };
    let process = Disposable::start(CloneFlags::empty(), run, &trials)?;
    if !process.finish() {
        return Err(Failure::new("clone", Errno::ESRCH));
    }
    let found = trials.list.iter().zip(trials.results.get()).map(|((feature, _), result)| Finding {
        feature,
        obstacle: result.get().err().map(Obstacle::Refused),
    });
    let mut findings: Vec<_> = found.collect();
    let obstacle = cgroup.err();
    if let Some(obstacle) = &obstacle {
        findings.push(Finding { feature: "into-cgroup", obstacle: Some(obstacle.clone()) });
    }
    findings.push(Finding { feature: "cgroup2", obstacle });
    Ok(findings)
}

/// In the process that is thrown away.
fn run(trials: &Trials<'_>) {
    for ((_, trial), result) in trials.list.iter().zip(trials.results.get()) {
        result.set(match trial {
            Trial::Actions(flags, actions) => attempt(&trials.stack, *flags, actions),
            Trial::Clone3(flags, set_tid, cgroup) => {
                clone3::ends_at_once(*flags, set_tid, cgroup.map(AsFd::as_fd)).map(|pid| {
                    reap(pid);
                })
            }
        });
    }
}

fn list<'a>(
    caller: &Caller,
    loopback: &'a Loopback,
    [uid_map, gid_map]: [&'a [u8]; 2],
    cgroup: Option<&'a OwnedFd>,
) -> Vec<(&'static str, Trial<'a>)> {
    const PRIVATE: Action<'_> = Action::Mount {
        source: c"none",
        target: c"/",
        fstype: None,
        flags: MountFlags::MS_PRIVATE.union(MountFlags::MS_REC),
        data: None,
    };
    // What needs privilege over a namespace is tried in a user namespace where the caller has none outside.
    let with_privilege = |flags: CloneFlags, actions: &[Action<'a>]| {
        if caller.is_privileged {
            return Trial::Actions(flags, actions.to_vec());
        }
        let as_root = [
            Action::Write { path: c"/proc/self/setgroups", contents: b"deny" },
            Action::Write { path: c"/proc/self/uid_map", contents: uid_map },
            Action::Write { path: c"/proc/self/gid_map", contents: gid_map },
        ];
        Trial::Actions(flags.union(CloneFlags::NEWUSER), [&as_root, actions].concat())
    };
    let mount = |fstype: &'static CStr, target: &'static CStr, data: Option<&'static CStr>| Action::Mount {
        source: fstype,
        target,
        fstype: Some(fstype),
        flags: MountFlags::empty(),
        data,
    };
    let mut list: Vec<_> = Namespace::ALL
        .iter()
        .map(|kind| (kind.name, Trial::Actions(CloneFlags::empty(), vec![Action::Unshare(kind.flag)])))
        .collect();
    let in_user_namespace = if caller.is_privileged { CloneFlags::empty() } else { CloneFlags::NEWUSER };
    list.push(("clone3", Trial::Clone3(CloneFlags::empty(), &[], None)));
    list.push(("set-tid", Trial::Clone3(CloneFlags::NEWPID.union(in_user_namespace), &[1], None)));
    if cgroup.is_some() {
        list.push(("into-cgroup", Trial::Clone3(CloneFlags::empty(), &[], cgroup)));
    }
    list.push((
        "setns-pidfd",
        with_privilege(CloneFlags::NEWUTS, &[Action::SetnsToSelf(CloneFlags::NEWUTS)]),
    ));
    let offsets =
        Action::Write { path: c"/proc/self/timens_offsets", contents: b"monotonic 1 0\nboottime 1 0\n" };
    list.push((
        "time-offsets",
        with_privilege(CloneFlags::empty(), &[Action::Unshare(CloneFlags::NEWTIME), offsets]),
    ));
    let mount_and_pid = CloneFlags::NEWNS.union(CloneFlags::NEWPID);
    list.push(("proc-mount", with_privilege(mount_and_pid, &[PRIVATE, mount(c"proc", c"/proc", None)])));
    // /proc is a directory that is sure to be there; what is mounted on it goes with the namespace.
    let overlay = [
        PRIVATE,
        mount(c"tmpfs", c"/proc", None),
        Action::Directory(c"/proc/lower"),
        Action::Directory(c"/proc/upper"),
        Action::Directory(c"/proc/work"),
        Action::Directory(c"/proc/merged"),
        mount(
            c"overlay",
            c"/proc/merged",
            Some(c"lowerdir=/proc/lower,upperdir=/proc/upper,workdir=/proc/work"),
        ),
    ];
    list.push(("overlay", with_privilege(CloneFlags::NEWNS, &overlay)));
    list.push(("loopback", with_privilege(CloneFlags::NEWNET, &[Action::Loopback(loopback)])));
    list.push((
        "seccomp",
        Trial::Actions(CloneFlags::empty(), vec![Action::NoNewPrivileges, Action::Filter(&ALLOW_ALL)]),
    ));
    // A user namespace is worth what can be done in it: AppArmor may allow the one and not the other.
    let as_user = [Action::Unshare(CloneFlags::NEWUSER), Action::Unshare(CloneFlags::NEWNS)];
    let as_nobody = if caller.uid.is_root() && caller.is_privileged && maps_nobody() {
        [&[Action::Credentials(NOBODY)], &as_user[..]].concat()
    } else {
        as_user.to_vec()
    };
    list.push(("unprivileged-userns", Trial::Actions(CloneFlags::empty(), as_nobody)));
    list
}

/// Whether the caller's user namespace has the id at all.
fn maps_nobody() -> bool {
    ["/proc/self/uid_map", "/proc/self/gid_map"].iter().all(|path| {
        fs::read_to_string(path).is_ok_and(|map| {
            map.lines().any(|line| {
                let mut numbers = line.split_whitespace().map_while(|number| number.parse::<u64>().ok());
                matches!((numbers.next(), numbers.nth(1)), (Some(first), Some(count))
                    if (first..first.saturating_add(count)).contains(&u64::from(NOBODY)))
            })
        })
    })
}

/// What changes nothing is tried in this process.
fn try_here() -> Vec<Finding> {
    let own = Pid::this();
    let open_namespace = |path: &CStr| {
        open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| Failure::new("open", errno))
    };
    let results = [
        ("pidfd", pidfd_open(own, PidfdFlags::empty()).map(drop)),
        ("kcmp", kcmp(own, own, KCMP_VM, 0, 0).map(drop)),
        ("nsfs-id", open_namespace(c"/proc/self/ns/uts").and_then(|fd| nsfs::get_id(fd.as_fd())).map(drop)),
        (
            "nsfs-pid-translation",
            open_namespace(c"/proc/self/ns/pid")
                .and_then(|fd| nsfs::get_pid_in_pidns(fd.as_fd(), own.as_raw()))
                .map(drop),
        ),
    ];
    results
        .into_iter()
        .map(|(feature, result)| Finding { feature, obstacle: result.err().map(Obstacle::Refused) })
        .collect()
}

/// newuidmap(1) and newgidmap(1) are run on a process that waits in a user namespace of its own.
fn try_mapping(caller: &Caller) -> Vec<Finding> {
    let unmapped = Disposable::start(CloneFlags::NEWUSER, wait_forever, &());
    [("newuidmap", caller.uid.as_raw()), ("newgidmap", caller.gid.as_raw())]
        .into_iter()
        .map(|(program, id)| {
            let obstacle = match &unmapped {
                Err(failure) => Some(Obstacle::Refused(*failure)),
                Ok(process) => map_one(program, process.pid(), id).err(),
            };
            Finding { feature: program, obstacle }
        })
        .collect()
}

fn map_one(program: &'static str, pid: Pid, id: u32) -> std::result::Result<(), Obstacle> {
    let status = Command::new(program)
        .args([pid.to_string(), "0".into(), id.to_string(), "1".into()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Obstacle::Missing("the program is there, and refuses to map the caller's own id")),
        Err(error) => {
            Err(Obstacle::Refused(Failure::new("execve", Errno::from_raw(error.raw_os_error().unwrap_or(0)))))
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form of a disposable process's task")]
fn wait_forever((): &()) {
    loop {
        nix::unistd::pause();
    }
}

/// The directory of the caller's own cgroup in the unified hierarchy.
fn own_cgroup() -> std::result::Result<OwnedFd, Obstacle> {
    let read = |path| fs::read_to_string(path).map_err(|_| Obstacle::Missing("/proc cannot be read"));
    let cgroups = read("/proc/thread-self/cgroup")?;
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
    let own = own.ok_or(Obstacle::Missing("this kernel has no unified cgroup hierarchy"))?;
    let mounts = read("/proc/thread-self/mountinfo")?;
    let mut directories = mounts.lines().filter_map(|line| {
        // Id, parent, device, root, mount point; the file system's type is the first field after " - ".
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        let below = own.strip_prefix(root.trim_end_matches('/'))?;
        let is_below = below.is_empty() || below.starts_with('/');
        (is_below && kind.starts_with("cgroup2 ")).then(|| format!("{}{below}", unescaped(place)))
    });
    let path = directories
        .next()
        .ok_or(Obstacle::Missing("no cgroup2 file system is mounted that shows the own cgroup"))?;
    let path = CString::new(path).map_err(|_| Obstacle::Missing("the own cgroup has no path"))?;
    open(path.as_c_str(), OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| Failure::new("open", errno).into())
}

/// A path as mountinfo writes it, with space, tab, newline and backslash as three octal digits.
fn unescaped(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (escape, character)| path.replace(escape, character))
}
