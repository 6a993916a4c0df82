//! unshare(2) and setns(2) for every thread of the process, or none.
//!
//! The kernel moves threads one by one, and refuses a mount namespace to those that share their working directory,
//! unless they follow another process into two kinds of namespaces at once. So a helper, a copy of this process, makes
//! the call that was asked for, with all that can fail in it; then every thread rehearses to follow it, in a child that
//! has the thread's own credentials and filters; and then every thread does.
//!
//! # Safety
//!
//! Descriptors that the helper has opened in the table that it shares with us.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::iter;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use linux_clone_syscalls::{CloneFlags, Errno, Failure, Result, nsfs};

use crate::child::{can_enter, open_place, perform, perform_rows};
use crate::disposable::{Disposable, Stack, attempt, attempt_sharing_places};
use crate::failed::Failed;
use crate::failure::{Step, StepFailure, ThreadFailure};
use crate::gate::Gate;
use crate::park::Parked;
use crate::plan::{Action, Row};
use crate::setup::Setup;
use crate::shared::Shared;
use crate::tasks::own_umask;

/// What a thread of many cannot leave (unshare(2), setns(2)), or must not: descriptors and working directory are
/// one for the process, and a pid namespace without its pid 1 cannot be followed into.
const NOT_FOR_ALL: CloneFlags = CloneFlags::VM
    .union(CloneFlags::THREAD)
    .union(CloneFlags::SIGHAND)
    .union(CloneFlags::FS)
    .union(CloneFlags::FILES)
    .union(CloneFlags::NEWUSER)
    .union(CloneFlags::NEWPID)
    .union(CloneFlags::NEWTIME);

/// How the threads of the process share their working directory and umask after a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkingDirectory {
    /// As before: one for all.
    Shared,
    /// Each thread has its own, all of them the same at first: see [`align_all`].
    Separate,
}

/// unshare(2) for every thread: all of them are in the same new namespaces afterwards, or none has moved.
///
/// Working and root directory stay where they are, in the new mount namespace. `may_separate` says whether threads may end
/// up with one each, where there is no other way: the caller then keeps them in step, by [`align_all`]. Since Linux 5.8.
///
/// # Errors
///
/// unshare(2)'s; EINVAL for what threads cannot have; ETIMEDOUT where one does not answer; setns(2)'s.
pub fn unshare_all(
    flags: CloneFlags,
    may_separate: bool,
) -> std::result::Result<WorkingDirectory, ThreadFailure> {
    let setup = Setup { unshare: flags, ..Setup::default() };
    setup_all(&setup, may_separate).map_err(|failure| failure.failure)
}

/// The same with all that is done in new namespaces, before the first thread is in them.
///
/// # Errors
///
/// As [`unshare_all`], and what the steps say.
pub fn setup_all(setup: &Setup, may_separate: bool) -> std::result::Result<WorkingDirectory, StepFailure> {
    let flags = setup.unshare;
    if flags.intersects(NOT_FOR_ALL) {
        return Err(Failure::new("unshare", Errno::EINVAL).into());
    }
    let adjustments = flags.intersection(CloneFlags::SYSVSEM);
    let followed = flags.difference(adjustments);
    let mut steps = Steps::default();
    steps.adjustments(adjustments);
    if followed.is_empty() {
        return Ok(steps.perform(may_separate)?);
    }
    let keep_places = followed.contains(CloneFlags::NEWNS);
    let (prepared, gate) = (setup.prepare()?, Gate::default());
    let unshare = Row::new(Step::Clone, Action::Unshare(followed));
    let rows: Vec<_> = iter::once(unshare).chain(prepared.inside(&gate, None)).collect();
    let helper = Helper::start(&rows, keep_places)?;
    steps.follow(&helper, followed)?;
    Ok(steps.perform(may_separate)?)
}

/// setns(2) for every thread: all of them, or none has moved; for the rest as [`unshare_all`]. Since Linux 5.8.
///
/// # Errors
///
/// setns(2)'s; ETIMEDOUT where a thread does not answer.
pub fn setns_all(
    fd: RawFd,
    nstype: CloneFlags,
    may_separate: bool,
) -> std::result::Result<WorkingDirectory, ThreadFailure> {
    let types = if nstype.is_empty() {
        nsfs::get_nstype(fd).or_else(|failure| match failure.errno {
            Errno::EBADF => Err(Failure { call: "setns", ..failure }),
            // No namespace's descriptor: with a pidfd, types have to be named.
            _ => Ok(CloneFlags::empty()),
        })?
    } else {
        nstype
    };
    // Refused before anything is tried: entering one changes what may be done to the memory that a rehearsal shares with us.
    let refused = |errno| Err(Failure::new("setns", errno).into());
    if types.is_empty() || types.contains(CloneFlags::NEWUSER) {
        return refused(Errno::EINVAL);
    }
    if types.contains(CloneFlags::NEWTIME) {
        return refused(Errno::EUSERS);
    }
    // Only the helper's children would enter a pid namespace: it cannot show the way.
    let (direct, followed) = (types.intersection(CloneFlags::NEWPID), types.difference(CloneFlags::NEWPID));
    let rows = [Row::new(Step::Join, Action::Setns(fd, nstype))];
    let helper = Helper::start(&rows, false).map_err(|failure| failure.failure)?;
    let mut steps = Steps::default();
    if !followed.is_empty() {
        steps.follow(&helper, followed)?;
    }
    if !direct.is_empty() {
        steps.then(Action::Setns(fd, direct));
    }
    steps.perform(may_separate)
}

/// Gives every thread in the calling one's mount namespace its working directory and umask, for processes whose threads
/// have their own.
///
/// # Errors
///
/// EACCES; ETIMEDOUT where a thread does not answer.
pub fn align_all() -> std::result::Result<(), ThreadFailure> {
    // SAFETY: a descriptor that was made in this line.
    let cwd = unsafe { OwnedFd::from_raw_fd(open_place(c".")?) };
    let actions = [Action::WorkingDirectory(cwd.as_fd()), Action::Umask(own_umask()?)];
    // A directory of our mount namespace would lead a thread of another one out of its own.
    Parked::all()?.perform_within(b"ns/mnt", &actions)
}

/// What each thread does, in order; at most one of each kind.
#[derive(Default)]
struct Steps<'a> {
    actions: Vec<Action<'a>>,
    /// Those with which a mount namespace is entered alone, by threads that have given up what they share.
    alone: Vec<Action<'a>>,
}

impl<'a> Steps<'a> {
    fn adjustments(&mut self, flags: CloneFlags) {
        if !flags.is_empty() {
            self.then(Action::Unshare(flags));
        }
    }

    fn then(&mut self, action: Action<'a>) {
        self.actions.push(action);
        self.alone.push(action);
    }

    /// With two kinds at once the kernel works on a copy of root and working directory, and lets threads that share them enter
    /// a mount namespace, unless it is a newer one (6.12.117): the second is the UTS namespace, the helper's being the thread's
    /// own.
    fn follow(&mut self, helper: &'a Helper, kinds: CloneFlags) -> Result<()> {
        let pidfd = helper.process.pidfd()?.as_raw_fd();
        if kinds.contains(CloneFlags::NEWNS) {
            let together = if kinds == CloneFlags::NEWNS { kinds.union(CloneFlags::NEWUTS) } else { kinds };
            self.actions.push(Action::Setns(pidfd, together));
            self.alone.push(Action::Unshare(CloneFlags::FS));
            self.alone.push(Action::Setns(pidfd, kinds));
        } else {
            self.then(Action::Setns(pidfd, kinds));
        }
        if let Some(Places { root, cwd }) = &helper.places {
            self.then(Action::Root { root: root.as_fd(), cwd: cwd.as_fd() });
        }
        Ok(())
    }

    /// Whether a mount namespace has to be entered alone: the kernel refuses it to threads that share root and working
    /// directory, or the UTS namespace belongs to a user namespace in which this thread has no privilege, or is not the same
    /// for all threads.
    fn must_enter_alone(&self, parked: &Parked, stack: &Stack) -> Result<bool> {
        if !self.alone.iter().any(|action| matches!(action, Action::Unshare(CloneFlags::FS))) {
            return Ok(false);
        }
        let refused = attempt_sharing_places(stack, &self.actions).err().map(|failure| failure.errno);
        let is_with_uts =
            self.alone.iter().any(|action| matches!(*action, Action::Setns(_, CloneFlags::NEWNS)));
        Ok(refused == Some(Errno::EINVAL)
            || is_with_uts && (refused == Some(Errno::EPERM) || !parked.share_namespace(b"ns/uts")?))
    }

    fn perform(&self, may_separate: bool) -> std::result::Result<WorkingDirectory, ThreadFailure> {
        let stack = Stack::new()?;
        let parked = Parked::all()?;
        let alone = self.must_enter_alone(&parked, &stack)?;
        if alone && !may_separate {
            return Err(Failure::new("setns", Errno::EPERM).into());
        }
        let actions = if alone { &self.alone } else { &self.actions };
        attempt(&stack, CloneFlags::empty(), actions)?;
        parked.rehearse(actions, &stack)?;
        // First this thread: what a process of many threads is refused altogether (a user or time namespace) fails here.
        perform(actions)?;
        parked.perform(actions)?;
        Ok(if alone { WorkingDirectory::Separate } else { WorkingDirectory::Shared })
    }
}

/// A copy of this process that has made the call and stays there to be followed.
struct Helper {
    process: Disposable,
    places: Option<Places>,
}

/// Root and working directory in the helper's mount namespace.
struct Places {
    root: OwnedFd,
    cwd: OwnedFd,
}

/// What the helper is to do, and what it tells, in memory that both see.
struct Errand<'a> {
    rows: &'a [Row<'a>],
    keep_places: bool,
    done: AtomicBool,
    result: Cell<std::result::Result<(), Failed>>,
    root: Cell<RawFd>,
    cwd: Cell<RawFd>,
}

impl Helper {
    fn start(rows: &[Row<'_>], keep_places: bool) -> std::result::Result<Self, StepFailure> {
        let errand = Shared::new(Errand {
            rows,
            keep_places,
            done: AtomicBool::new(false),
            result: Cell::new(Ok(())),
            root: Cell::new(-1),
            cwd: Cell::new(-1),
        })?;
        // It opens the places in the descriptor table that it shares with us.
        let process = Disposable::start(CloneFlags::FILES, run_errand, errand.get())?;
        let is_done = process.wait_until(|| errand.get().done.load(Ordering::Acquire));
        let owned = |fd: &Cell<RawFd>| {
            // SAFETY: where it is none of -1, the helper opened it for us.
            (fd.get() != -1).then(|| unsafe { OwnedFd::from_raw_fd(fd.get()) })
        };
        let (root, cwd) = (owned(&errand.get().root), owned(&errand.get().cwd));
        if !is_done {
            return Err(Failure::new("clone", Errno::ESRCH).into());
        }
        // SAFETY: the rows are the caller's.
        errand.get().result.get().map_err(|failed| unsafe { failed.told() })?;
        Ok(Self { process, places: root.zip(cwd).map(|(root, cwd)| Places { root, cwd }) })
    }
}

fn run_errand(errand: &Errand<'_>) {
    errand.result.set(errand.perform());
    errand.done.store(true, Ordering::Release);
    loop {
        // SAFETY: no arguments; every signal is blocked, so that it returns never.
        unsafe { libc::pause() };
    }
}

impl Errand<'_> {
    fn perform(&self) -> std::result::Result<(), Failed> {
        perform_rows(self.rows)?;
        self.open_places().map_err(|failure| Failed::of(Step::Clone, failure))
    }

    fn open_places(&self) -> Result<()> {
        if self.keep_places {
            self.root.set(open_place(c"/")?);
            self.cwd.set(open_place(c".")?);
            can_enter(self.cwd.get())?;
        }
        Ok(())
    }
}
