//! What a child is to be, and the ordered table of the steps that make it so.
//!
//! Whoever starts a child performs [`Prepared::joining`], then makes the namespaces, then performs [`Prepared::inside`],
//! and [`Prepared::limits`] where a program follows.

use std::cell::Cell;
use std::env;
use std::ffi::{CStr, CString, OsString};
use std::iter;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use linux_clone_syscalls::{CloneFlags, Errno, Failure, Instruction, Loopback, MountFlags, ResourceLimit};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::failure::{Step, StepFailure};
use crate::gate::Gate;
use crate::id_maps::IdMaps;
use crate::mounts::{Covering, Mount, Placement};
use crate::plan::{Action, Row};

/// What a child is to be.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Namespaces to enter: descriptors and types.
    pub joins: Vec<(RawFd, CloneFlags)>,
    /// The files of those, in the same order, for whoever is told that one cannot be entered.
    pub join_paths: Vec<CString>,
    /// Namespaces to create.
    pub unshare: CloneFlags,
    /// For a new user namespace.
    pub id_maps: IdMaps,
    /// Whether it becomes root of that where its own ids are left out of the maps.
    pub becomes_root: bool,
    /// What to write into timens_offsets, for a new time namespace.
    pub time_offsets: Option<Vec<u8>>,
    /// Of every mount in a new mount namespace.
    pub propagation: Option<MountFlags>,
    /// A new root directory.
    pub root: Option<CString>,
    /// Where a new /proc goes.
    pub proc: Option<CString>,
    /// In order.
    pub mounts: Vec<Mount>,
    /// Of the host.
    pub hostname: Option<OsString>,
    /// Of NIS.
    pub domainname: Option<OsString>,
    /// Whether `lo` is brought up.
    pub loopback: bool,
    /// Resources by number.
    pub rlimits: Vec<(i32, ResourceLimit)>,
    /// Capabilities to keep, by bit.
    pub capabilities: Option<u64>,
    /// Whether exec gains no privileges.
    pub no_new_privileges: bool,
    /// A program for system calls.
    pub seccomp: Option<Vec<Instruction>>,
    /// Of the program.
    pub uid: Option<u32>,
    /// Of the program.
    pub gid: Option<u32>,
    /// The working directory, inside.
    pub cwd: Option<CString>,
}

/// The same with everything that a child needs.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    setup: &'a Setup,
    /// Whether each has been entered before the user namespace.
    joined: Vec<Cell<bool>>,
    /// Whether the supplementary groups are left before there is a new user namespace.
    pub(crate) leaves_groups: bool,
    /// This process's /proc, for a new time namespace.
    own_proc: Option<OwnedFd>,
    placements: Vec<Placement>,
    root: Cell<RawFd>,
    covering: Option<Covering>,
    loopback: Option<Loopback>,
}

impl Setup {
    /// Checks and allocates what a child cannot.
    ///
    /// # Errors
    ///
    /// EINVAL: a mount's options contradict each other. ENOENT: a new time namespace needs /proc.
    pub(crate) fn prepare(&self) -> Result<Prepared<'_>, StepFailure> {
        let failing_at =
            |path: &CStr, failure: Failure| StepFailure::at(Step::Mount, failure, path.to_string_lossy());
        // Nothing is created on the host.
        let is_under_root = self.root.is_some();
        let proc = self.proc.iter().map(|target| {
            Placement::of_proc(target, is_under_root).map_err(|failure| failing_at(target, failure))
        });
        let proc = proc.collect::<Result<Vec<_>, _>>()?;
        let mounts = self
            .mounts
            .iter()
            .map(|mount| Placement::of(mount).map_err(|failure| failing_at(&mount.target, failure)));
        let mut placements = mounts.collect::<Result<Vec<_>, _>>()?;
        // Before the others, which may go below it, but not hidden by one that is mounted on the root.
        let place = placements.iter().rposition(Placement::covers_root).map_or(0, |last| last + 1);
        placements.splice(place..place, proc);
        let covering = if placements.is_empty() { None } else { self.covering()? };
        Ok(Prepared {
            setup: self,
            joined: self.joins.iter().map(|_| Cell::new(false)).collect(),
            leaves_groups: self.changes_ids() && self.id_maps.keep_groups(),
            own_proc: self.unshare.contains(CloneFlags::NEWTIME).then(open_proc).transpose()?,
            placements,
            root: Cell::new(libc::AT_FDCWD),
            covering,
            loopback: self.loopback.then(Loopback::new),
        })
    }

    /// The working directory that stays; none where there is to be another anyway.
    fn covering(&self) -> Result<Option<Covering>, StepFailure> {
        let is_left = self.cwd.as_deref().is_some_and(|cwd| cwd.to_bytes().starts_with(b"/"));
        if is_left || self.root.is_some() {
            return Ok(None);
        }
        if self.joined().contains(CloneFlags::NEWNS) {
            // The kernel puts whoever comes there.
            return Ok(Some(Covering::of(Path::new("/"))));
        }
        let path = env::current_dir().map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
            StepFailure::of(Step::WorkingDirectory, Failure::new("getcwd", errno))
        })?;
        Ok(Some(Covering::of(&path)))
    }

    /// The namespaces that are joined.
    pub(crate) fn joined(&self) -> CloneFlags {
        self.joins.iter().fold(CloneFlags::empty(), |all, (_, kind)| all.union(*kind))
    }

    /// Whether the parent writes id maps.
    pub(crate) fn has_maps(&self) -> bool {
        !self.id_maps.is_empty()
    }

    /// Whether the child is to be somebody else in a new user namespace.
    fn changes_ids(&self) -> bool {
        let is_other = || self.uid.is_some() || self.gid.is_some() || self.id_maps.leave_own_out();
        self.becomes_root && self.unshare.contains(CloneFlags::NEWUSER) && is_other()
    }

    /// Whether the child's credentials change, and with them whether this process's memory, which it shares, may be looked at.
    pub(crate) fn changes_credentials(&self) -> bool {
        let user = (self.unshare | self.joined()).contains(CloneFlags::NEWUSER);
        user || self.uid.is_some() || self.gid.is_some() || self.capabilities.is_some()
    }

    /// Whether the child comes among processes that may look at it before it is the program: in another pid namespace they
    /// see it, and root of another user namespace may.
    pub(crate) fn meets_others(&self) -> bool {
        self.joined().intersects(CloneFlags::NEWPID.union(CloneFlags::NEWUSER))
    }
}

impl Prepared<'_> {
    /// What comes first, where no namespace is new yet.
    ///
    /// In two passes, as nsenter(1): what the caller may enter with the privileges that it has; then the user namespace, and
    /// what only it gives the privilege for.
    pub fn joining(&self) -> Vec<Row<'_>> {
        let setup = self.setup;
        let paths = || setup.join_paths.iter().map(|path| Some(path.as_c_str())).chain(iter::repeat(None));
        let joins = || setup.joins.iter().zip(&self.joined).zip(paths());
        let user = joins().find(|(((_, kind), _), _)| *kind == CloneFlags::NEWUSER);
        let leaving = Row::new(Step::Credentials, Action::LeaveGroups);
        let Some((((user, _), _), user_path)) = user else {
            let joins = joins().map(|(((fd, kind), _), path)| join(Action::Setns(*fd, *kind), path));
            return joins.chain(self.leaves_groups.then_some(leaving)).collect();
        };
        let others = || joins().filter(|(((_, kind), _), _)| *kind != CloneFlags::NEWUSER);
        let first =
            others().map(|(((fd, kind), is_done), path)| join(Action::TrySetns(*fd, *kind, is_done), path));
        let last = others()
            .map(|(((fd, kind), is_done), path)| join(Action::SetnsUnless(*fd, *kind, is_done), path));
        first
            .chain([
                leaving,
                join(Action::Setns(*user, CloneFlags::NEWUSER), user_path),
                join(Action::LeaveUnmapped { uid: setup.uid, gid: setup.gid }, None),
            ])
            .chain(last)
            .collect()
    }

    /// What comes next, in new namespaces.
    pub fn inside<'a>(&'a self, gate: &'a Gate, parent: Option<BorrowedFd<'a>>) -> Vec<Row<'a>> {
        let setup = self.setup;
        let mut rows = Vec::new();
        if let (true, Some(parent)) = (setup.has_maps(), parent) {
            rows.push(Row::new(Step::IdMap, Action::AwaitMaps { gate, parent }));
            if setup.becomes_root && setup.id_maps.leave_own_out() {
                let action = Action::LeaveUnmapped { uid: setup.uid, gid: setup.gid };
                rows.push(Row::new(Step::Credentials, action));
            }
        }
        if let Some(proc) = &self.own_proc {
            let offsets = setup.time_offsets.as_deref().unwrap_or_default();
            let action = Action::TimeNamespace { proc: proc.as_fd(), offsets };
            rows.push(Row::new(Step::TimeOffsets, action));
        }
        if let Some(flags) = setup.propagation {
            let action = Action::Mount {
                source: c"none",
                target: c"/",
                fstype: None,
                flags: flags.union(MountFlags::MS_REC),
                data: None,
            };
            rows.push(Row::at(Step::Propagation, action, c"/"));
        }
        self.file_systems(&mut rows);
        rows.extend(setup.hostname.as_deref().map(|name| Row::new(Step::Hostname, Action::Hostname(name))));
        rows.extend(
            setup.domainname.as_deref().map(|name| Row::new(Step::Hostname, Action::Domainname(name))),
        );
        rows.extend(self.loopback.as_ref().map(|it| Row::new(Step::Network, Action::Loopback(it))));
        rows
    }

    fn file_systems<'a>(&'a self, rows: &mut Vec<Row<'a>>) {
        let (setup, root) = (self.setup, &self.root);
        let is_pivot = setup.unshare.contains(CloneFlags::NEWNS);
        if let Some(path) = &setup.root {
            rows.push(Row::at(Step::PivotRoot, Action::OpenRoot { path, is_pivot, root }, path));
        }
        let covering = self.covering.as_ref();
        rows.extend(self.placements.iter().enumerate().map(|(index, placement)| {
            let (source, target) = (placement.source.as_deref(), placement.target.path.as_c_str());
            let mounted = Placement::mounted(&self.placements, index);
            let action = Action::Place { placement, root, mounted, covering };
            let row = Row::at(Step::Mount, action, source.unwrap_or(target));
            Row { dest: source.map(|_| target), ..row }
        }));
        rows.extend(covering.map(|covering| {
            let row = Row::new(Step::WorkingDirectory, Action::EnterAgain(covering));
            Row { path: covering.path.first().map(CString::as_c_str), ..row }
        }));
        if let Some(path) = &setup.root {
            let action = if is_pivot { Action::PivotRoot(root) } else { Action::ChangeRoot(root) };
            rows.push(Row::at(Step::PivotRoot, action, path));
        }
    }

    /// What comes before the program: `descriptors` are those that it gets.
    pub fn limits<'a>(&'a self, descriptors: &'a [Cell<RawFd>]) -> Vec<Row<'a>> {
        let setup = self.setup;
        let mut rows: Vec<_> = setup
            .rlimits
            .iter()
            .map(|(resource, limit)| Row::new(Step::ResourceLimit, Action::ResourceLimit(*resource, limit)))
            .collect();
        rows.push(Row::new(Step::Stdio, Action::Stdio(descriptors)));
        rows.extend(
            setup
                .cwd
                .as_deref()
                .map(|path| Row::at(Step::WorkingDirectory, Action::ChangeDirectory(path), path)),
        );
        rows.extend(setup.capabilities.map(|kept| Row::new(Step::Capabilities, Action::BoundingSet(kept))));
        if setup.uid.is_some() || setup.gid.is_some() {
            let keeps_capabilities = setup.capabilities.is_some();
            let action = Action::Ids { uid: setup.uid, gid: setup.gid, keeps_capabilities };
            rows.push(Row::new(Step::Credentials, action));
        }
        rows.extend(setup.capabilities.map(|kept| Row::new(Step::Capabilities, Action::Capabilities(kept))));
        if setup.no_new_privileges {
            rows.push(Row::new(Step::Capabilities, Action::NoNewPrivileges));
        }
        rows
    }

    /// What comes last: the filter may forbid everything else.
    pub fn filter(&self) -> Option<Row<'_>> {
        self.setup.seccomp.as_deref().map(|filter| Row::new(Step::Seccomp, Action::Filter(filter)))
    }
}

fn open_proc() -> Result<OwnedFd, StepFailure> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(c"/proc", flags, Mode::empty())
        .map_err(|errno| StepFailure::at(Step::TimeOffsets, Failure::new("open", errno), "/proc"))
}

fn join<'a>(action: Action<'a>, path: Option<&'a CStr>) -> Row<'a> {
    Row { path, ..Row::new(Step::Join, action) }
}
