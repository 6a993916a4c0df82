//! Starts a program in a child that shares this process's memory until exec: what it costs does not grow with that.
//!
//! The child makes system calls over what was prepared, on a stack of its own, while the calling thread is suspended. Two
//! more processes may be in the row: one before it, which enters a pid namespace that only its own children are in; and
//! one after it, the program, where the first process of a new pid namespace becomes init.
//!
//! Whoever may look into a child's memory, as root of its user namespace, would look into this process's own. So the program
//! waits until init has memory and descriptors of its own; and where the child meets processes that are there already, or
//! its credentials change, the memory is closed to others until no child has it any more ([`Dumpable`]).
//!
//! # Safety
//!
//! Every child ends by exec or `_exit`; its stack and what it reads outlive it, since `CLONE_VFORK` suspends whoever made it.
//! The program beside init is what that leaves out: it is waited for as one of the [`Sharers`].
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::fs::OpenOptions;
use std::io;
use std::iter;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use linux_clone_syscalls::{CloneFlags, Errno, Failure, Pid, PidfdFlags, clone3, pidfd_open};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{gettid, pipe2, read};

use crate::arch;
use crate::child::perform_rows;
use crate::disposable::{Stack, reap, status_of};
use crate::failed::Failed;
use crate::failure::{Step, StepFailure};
use crate::gate::Gate;
use crate::park::unblock_signal;
use crate::plan::{Action, Row};
use crate::setup::{Prepared, Setup};
use crate::shared::Shared;
use crate::signals::Blocked;
use program::Executable;

mod init;
mod program;
mod sync;

pub use program::{Program, own_environment};
pub use sync::{Finished, Limits, Pipe, spawn_sync};

/// What is to be started.
#[derive(Clone, Debug)]
pub struct Request {
    /// The program.
    pub program: Program,
    /// What its descriptors 0, 1, 2 … are copies of; `None`: /dev/null for the first three, else nothing.
    pub stdio: Vec<Option<RawFd>>,
    /// Whether it leads a session of its own.
    pub is_detached: bool,
    /// Everything else that it is to be.
    pub setup: Setup,
    /// Whether init is pid 1 of the new pid namespace.
    pub has_init: bool,
    /// What it gets when this process ends.
    pub death_signal: Option<c_int>,
    /// A directory of cgroup v2.
    pub cgroup: Option<RawFd>,
}

/// A program that runs.
#[derive(Debug)]
pub struct Spawned {
    /// Of the program, or of init.
    pub pid: Pid,
    /// Of the same process.
    pub pidfd: OwnedFd,
    /// Where init reports how the program has ended.
    pub report: Option<OwnedFd>,
}

/// Starts a program, and returns when exec has worked.
///
/// References: clone(2) `CLONE_VM`, `CLONE_VFORK`, execve(2).
///
/// # Errors
///
/// The step that failed; nothing is left of it then.
pub fn spawn(request: Request) -> Result<Spawned, StepFailure> {
    if request.death_signal.is_some() && gettid() != Pid::this() {
        return spawn_from_a_thread_that_stays(request);
    }
    start(&request)
}

/// The kernel sends the signal when the thread ends that made the child: a thread is made that lives as long as the child,
/// as the calling one may end before this process does.
fn spawn_from_a_thread_that_stays(request: Request) -> Result<Spawned, StepFailure> {
    const STACK: usize = 256 << 10;
    let (sender, receiver) = mpsc::sync_channel(1);
    let blocked = Blocked::all()?;
    let stay = move || {
        let spawned = start(&request);
        let pid = spawned.as_ref().map(|spawned| spawned.pid).ok();
        drop(request);
        // The calling thread waits for it.
        let _ = sender.send(spawned);
        if let Some(pid) = pid {
            // It handles no other signal of the process's, as its stack is small.
            unblock_signal();
            // Not by a descriptor, which there may be none left for. Another child that has got the pid only makes it longer.
            status_of(pid, 0);
        }
    };
    let made = thread::Builder::new().name("linux-clone".to_owned()).stack_size(STACK).spawn(stay);
    drop(blocked);
    made.map_err(|error| io_failure(Step::Clone, "clone", &error))?;
    receiver.recv().unwrap_or_else(|_| Err(Failure::new("clone", Errno::ESRCH).into()))
}

/// A pair of connected stream sockets, close-on-exec: what Node calls a pipe.
///
/// References: socketpair(2).
///
/// # Errors
///
/// EMFILE, ENFILE, ENOMEM.
pub fn socket_pair() -> linux_clone_syscalls::Result<[OwnedFd; 2]> {
    socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
        .map(|(ours, theirs)| [ours, theirs])
        .map_err(|errno| Failure::new("socketpair", errno))
}

fn io_failure(step: Step, call: &'static str, error: &io::Error) -> StepFailure {
    StepFailure::of(step, Failure::new(call, Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))))
}

fn start(request: &Request) -> Result<Spawned, StepFailure> {
    // A time namespace is entered by a process with memory of its own.
    let joins_time = request.setup.joined().contains(CloneFlags::NEWTIME);
    let copies_for_init = request.has_init && !init::IS_EXECUTABLE;
    let mut way = Way { shares_memory: !joins_time && !copies_for_init, enters_cgroup: false };
    loop {
        match attempt(request, way) {
            Err(failure) => way = way.instead(request, &failure).ok_or(failure)?,
            spawned => return spawned,
        }
    }
}

/// How a child is made, which older kernels, and filters of system calls, leave a choice of.
#[derive(Clone, Copy)]
struct Way {
    /// It shares this process's memory, else it has a copy.
    shares_memory: bool,
    /// It enters its cgroup itself, else it is born there.
    enters_cgroup: bool,
}

impl Way {
    /// Another one, where this one has failed for a reason of its own.
    fn instead(self, request: &Request, failure: &StepFailure) -> Option<Self> {
        let Failure { call, errno, .. } = failure.failure.failure;
        if failure.step == Step::TimeOffsets && (call, errno) == ("clone", Errno::EINVAL) {
            return self.shares_memory.then_some(Self { shares_memory: false, ..self });
        }
        // Without clone3(2), or before Linux 5.7.
        let is_refused = [Errno::ENOSYS, Errno::EPERM, Errno::EINVAL, Errno::E2BIG].contains(&errno);
        let can_enter = request.cgroup.is_some() && !self.enters_cgroup;
        (can_enter && call == "clone3" && is_refused).then_some(Self { enters_cgroup: true, ..self })
    }
}

/// What a child writes for its parent.
#[derive(Debug, Default)]
struct Record {
    failed: Cell<Option<Failed>>,
    /// Where the kernel writes the id of a child that a child has made.
    pid: Cell<libc::pid_t>,
    gate: Gate,
}

/// Everything that the children are given.
struct Start<'a> {
    joining: &'a [Row<'a>],
    inside: &'a [Row<'a>],
    program: &'a [Row<'a>],
    filter: Option<Row<'a>>,
    executable: &'a Executable<'a>,
    /// Makes the process that goes on, where the first one only enters.
    passes_on: Option<CloneFlags>,
    init: Option<&'a InitParts>,
    is_detached: bool,
    stacks: [Option<&'a Stack>; 2],
    record: &'a Record,
}

fn attempt(request: &Request, way: Way) -> Result<Spawned, StepFailure> {
    let setup = &request.setup;
    let prepared = setup.prepare()?;
    let executable = Executable::of(&request.program)
        .map_err(|failure| StepFailure::at(Step::Exec, failure, request.program.file.to_string_lossy()))?;
    let null = NullDevices::open(&request.stdio)?;
    let stdio = null.stdio(&request.stdio);
    let parent = (setup.has_maps() || request.death_signal.is_some())
        .then(|| pidfd_open(Pid::this(), PidfdFlags::empty()).and_then(|pidfd| above(pidfd, stdio.len())))
        .transpose()?;
    let parent = parent.as_ref().map(AsFd::as_fd);
    let init = request.has_init.then(InitParts::make).transpose()?;
    let (own, shared);
    let record = if way.shares_memory {
        own = Record::default();
        &own
    } else {
        shared = Shared::new(Record::default())?;
        shared.get()
    };
    let plan = Plan::of(request, &prepared);
    let cgroup = request.cgroup.filter(|_| way.enters_cgroup);
    let entering = cgroup.map(|cgroup| Row::new(Step::Cgroup, Action::Cgroup(cgroup)));
    let close_on_exec = Row::new(Step::Stdio, Action::CloseOnExec);
    let joining: Vec<_> = iter::once(close_on_exec).chain(entering).chain(prepared.joining()).collect();
    let inside = plan.inside(request, &prepared, &record.gate, parent);
    let program = plan.program(request, &prepared, &stdio, parent);
    let stack = Stack::new()?;
    let more_stacks = [plan.passes_on.is_some(), init.is_some()];
    let more_stacks =
        [more_stacks[0].then(Stack::new).transpose()?, more_stacks[1].then(Stack::new).transpose()?];
    let start = Start {
        joining: &joining,
        inside: &inside,
        program: &program,
        filter: prepared.filter(),
        executable: &executable,
        passes_on: plan.passes_on,
        init: init.as_ref(),
        is_detached: request.is_detached,
        stacks: more_stacks.each_ref().map(Option::as_ref),
        record,
    };
    // In this order: whoever parks this thread, to copy the process, finds it without the lock.
    let blocked = Blocked::all()?;
    let dumpable = (setup.changes_credentials() || setup.meets_others()).then(|| Dumpable::hold(setup));
    let sharers = (init.is_some() || dumpable.is_some()).then(|| Sharers::new(stdio.len())).transpose()?;
    let made = with_maps(setup, record, |child| {
        let cgroup = request.cgroup.filter(|_| !way.enters_cgroup);
        let arguments = Arguments { flags: plan.first, cgroup, shares_memory: way.shares_memory };
        // SAFETY: what `start` refers to outlives the children's share in it, as this thread is suspended, and waits.
        let made = unsafe { clone_first(&arguments, &stack, &start, child) };
        if let Some(sharers) = sharers {
            sharers.wait();
        }
        made
    });
    drop(dumpable);
    drop(blocked);
    finish(made, &start).map(|(pid, pidfd)| Spawned { pid, pidfd, report: init.map(|init| init.reader) })
}

/// How the processes are divided.
struct Plan {
    /// Namespaces that the first process is made with.
    first: CloneFlags,
    /// Those that the second is made with, where there is one.
    passes_on: Option<CloneFlags>,
    /// What the process that goes on unshares itself.
    rest: CloneFlags,
}

impl Plan {
    fn of(request: &Request, prepared: &Prepared<'_>) -> Self {
        let setup = &request.setup;
        let mut new = setup.unshare - CloneFlags::NEWTIME;
        let mut rest = CloneFlags::empty();
        if request.cgroup.is_some() {
            // Its root is to be the cgroup that the child starts in, in which it is not before it exists.
            rest = new & CloneFlags::NEWCGROUP;
            new -= rest;
        }
        if setup.joins.is_empty() && !prepared.leaves_groups {
            return Self { first: new, passes_on: None, rest };
        }
        if (setup.joined() | new).contains(CloneFlags::NEWPID) {
            return Self { first: CloneFlags::empty(), passes_on: Some(new), rest };
        }
        Self { first: CloneFlags::empty(), passes_on: None, rest: new | rest }
    }

    fn inside<'a>(
        &self,
        request: &Request,
        prepared: &'a Prepared<'_>,
        gate: &'a Gate,
        parent: Option<BorrowedFd<'a>>,
    ) -> Vec<Row<'a>> {
        let mut rows = vec![Row::new(Step::Credentials, Action::DefaultSignals)];
        if request.is_detached {
            rows.push(Row::new(Step::Credentials, Action::Session));
        }
        if !self.rest.is_empty() {
            rows.push(Row::new(Step::Clone, Action::Unshare(self.rest)));
        }
        rows.extend(prepared.inside(gate, parent));
        if request.has_init {
            rows.extend(death_signal(request, parent));
        }
        rows
    }

    #[allow(clippy::unused_self, reason = "beside the other half")]
    fn program<'a>(
        &self,
        request: &Request,
        prepared: &'a Prepared<'_>,
        stdio: &'a [Cell<RawFd>],
        parent: Option<BorrowedFd<'a>>,
    ) -> Vec<Row<'a>> {
        let mut rows = prepared.limits(stdio);
        if !request.has_init {
            rows.extend(death_signal(request, parent));
        }
        rows.push(Row::new(Step::Credentials, Action::UnblockSignals));
        rows
    }
}

fn death_signal<'a>(request: &Request, parent: Option<BorrowedFd<'a>>) -> Option<Row<'a>> {
    let action = Action::DeathSignal { signal: request.death_signal?, parent: parent? };
    Some(Row::new(Step::Credentials, action))
}

/// /dev/null, for reading and for writing, as far as it is needed; a new root need not have it.
struct NullDevices {
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
}

impl NullDevices {
    fn open(stdio: &[Option<RawFd>]) -> Result<Self, StepFailure> {
        const PATH: &str = "/dev/null";
        let is_ignored = |place: usize| stdio.get(place).is_some_and(Option::is_none);
        let open = |is_output: bool| {
            OpenOptions::new().read(true).write(is_output).open(PATH).map(OwnedFd::from).map_err(|error| {
                StepFailure { path: Some(PATH.to_owned()), ..io_failure(Step::Stdio, "open", &error) }
            })
        };
        let input = is_ignored(0).then(|| open(false)).transpose()?;
        let output = (is_ignored(1) || is_ignored(2)).then(|| open(true)).transpose()?;
        Ok(Self { input, output })
    }

    fn stdio(&self, stdio: &[Option<RawFd>]) -> Vec<Cell<RawFd>> {
        let null = |place: usize| match place {
            0 => self.input.as_ref(),
            1 | 2 => self.output.as_ref(),
            _ => None,
        };
        let number = |(place, fd): (usize, &Option<RawFd>)| {
            fd.or_else(|| null(place).map(AsRawFd::as_raw_fd)).unwrap_or(-1)
        };
        stdio.iter().enumerate().map(number).map(Cell::new).collect()
    }
}

struct InitParts {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    image: BorrowedFd<'static>,
    reader: OwnedFd,
    writer: OwnedFd,
    ready: EventFd,
}

impl InitParts {
    fn make() -> Result<Self, StepFailure> {
        let (reader, writer) =
            pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(|errno| Failure::new("pipe2", errno))?;
        Ok(Self {
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            image: init::image()?,
            reader,
            writer,
            ready: EventFd::from_flags(EfdFlags::EFD_CLOEXEC)
                .map_err(|errno| Failure::new("eventfd", errno))?,
        })
    }
}

/// The children as long as they have this process's memory and descriptors: each holds the writer until exec, or its end.
///
/// The end of `CLONE_VFORK`'s suspension is not as late: the kernel lets go of the memory after that.
struct Sharers {
    reader: OwnedFd,
    writer: OwnedFd,
}

/// A descriptor above the places of so many others, where none of them is put.
fn above(descriptor: OwnedFd, places: usize) -> Result<OwnedFd, Failure> {
    let lowest = RawFd::try_from(places).unwrap_or(RawFd::MAX);
    if descriptor.as_raw_fd() >= lowest {
        return Ok(descriptor);
    }
    let moved = fcntl(&descriptor, FcntlArg::F_DUPFD_CLOEXEC(lowest))
        .map_err(|errno| Failure::new("fcntl", errno))?;
    // SAFETY: the kernel has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

impl Sharers {
    /// The writer is above the places of so many descriptors.
    fn new(descriptors: usize) -> Result<Self, Failure> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| Failure::new("pipe2", errno))?;
        Ok(Self { reader, writer: above(writer, descriptors)? })
    }

    fn wait(self) {
        drop(self.writer);
        // Signals are blocked: it returns when there is no writer any more.
        let _ = read(&self.reader, &mut [0]);
    }
}

/// Closes this process's memory, which its children share, to others. Where a child's credentials change the kernel does it,
/// before the child's new user can look; where the child meets processes that are there already, it is done here.
/// Afterwards it is as it was.
struct Dumpable {
    was_dumpable: bool,
    _one_at_a_time: std::sync::MutexGuard<'static, ()>,
}

impl Dumpable {
    fn hold(setup: &Setup) -> Self {
        // Another thread would take for ours what the first one's child has left.
        static LOCK: Mutex<()> = Mutex::new(());
        let guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: integers only.
        let dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
        let was_dumpable = dumpable == 1;
        // An ordinary user can write no id maps of a process that is closed.
        if was_dumpable && setup.meets_others() && !setup.has_maps() {
            set_dumpable(false);
        }
        Self { was_dumpable, _one_at_a_time: guard }
    }
}

fn set_dumpable(is_dumpable: bool) {
    // SAFETY: integers only.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, libc::c_ulong::from(is_dumpable)) };
}

impl Drop for Dumpable {
    fn drop(&mut self) {
        if self.was_dumpable {
            set_dumpable(true);
        }
    }
}

/// What the kernel writes of the first child.
#[derive(Debug)]
struct Child {
    pidfd: Cell<RawFd>,
}

type Made = Result<(Pid, Option<OwnedFd>), StepFailure>;

/// Runs `start`, which returns when the child needs this process no more; a thread writes its id maps meanwhile, as this one
/// is suspended.
fn with_maps(setup: &Setup, record: &Record, start: impl FnOnce(&Child) -> Result<Pid, StepFailure>) -> Made {
    let child = Child { pidfd: Cell::new(-1) };
    let owned = |child: &Child| {
        let fd = child.pidfd.get();
        // SAFETY: a new descriptor, which the kernel has written.
        (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    };
    if !setup.has_maps() {
        let pid = start(&child)?;
        return Ok((pid, owned(&child)));
    }
    let writer = Writer { setup, gate: &record.gate, pidfd: child.pidfd.as_ptr(), pid: record.pid.as_ptr() };
    let (made, written) = thread::scope(|scope| {
        let handle = thread::Builder::new().spawn_scoped(scope, || writer.write());
        let handle = match handle {
            Ok(handle) => handle,
            Err(error) => return (Err(io_failure(Step::IdMap, "clone", &error)), Ok(())),
        };
        let made = start(&child);
        record.gate.leave();
        (made, handle.join().unwrap_or(Ok(())))
    });
    let made = made.map(|pid| (pid, owned(&child)));
    match (made, written) {
        (Ok((pid, pidfd)), Err(failure)) => {
            drop(pidfd);
            record.failed.set(None);
            reap(pid);
            if record.pid.get() != 0 {
                reap(Pid::from_raw(record.pid.get()));
            }
            Err(failure)
        }
        (made, _) => made,
    }
}

/// Writes the maps when the child asks for them.
struct Writer<'a> {
    setup: &'a Setup,
    gate: &'a Gate,
    pidfd: *const RawFd,
    pid: *const libc::pid_t,
}

// SAFETY: the kernel writes both before the child asks, and nobody else does.
unsafe impl Sync for Writer<'_> {}

impl Writer<'_> {
    fn write(&self) -> Result<(), StepFailure> {
        if !self.gate.is_asked() {
            return Ok(());
        }
        let result = self.pidfd().and_then(|pidfd| match pidfd {
            Held::Borrowed(pidfd) => self.setup.id_maps.write(pidfd),
            Held::Owned(pidfd) => self.setup.id_maps.write(pidfd.as_fd()),
        });
        self.gate.answer(result.is_ok());
        result
    }

    /// Of the process that has asked: of the second one, where the first only passes on.
    fn pidfd(&self) -> Result<Held<'_>, StepFailure> {
        // SAFETY: the kernel has written it before the child asked.
        let pid = unsafe { self.pid.read() };
        if pid != 0 {
            return Ok(Held::Owned(pidfd_open(Pid::from_raw(pid), PidfdFlags::empty())?));
        }
        // SAFETY: as above.
        let pidfd = unsafe { self.pidfd.read() };
        if pidfd < 0 {
            return Err(Failure::new("clone", Errno::ENOSYS).into());
        }
        // SAFETY: it is closed after this thread has ended.
        Ok(Held::Borrowed(unsafe { BorrowedFd::borrow_raw(pidfd) }))
    }
}

enum Held<'a> {
    Borrowed(BorrowedFd<'a>),
    Owned(OwnedFd),
}

/// What the first clone is asked for.
struct Arguments {
    flags: CloneFlags,
    cgroup: Option<RawFd>,
    shares_memory: bool,
}

/// Of the child that is to go on with `entry`. Where init stays in the copy of the memory that it has got, waiting for its exec
/// would be waiting for its end: then it is the [`Sharers`] alone that are waited for.
fn sharing(flags: CloneFlags, shares_memory: bool, has_init: bool) -> CloneFlags {
    let vm = if shares_memory { CloneFlags::VM } else { CloneFlags::empty() };
    let vfork = if has_init && !init::IS_EXECUTABLE { CloneFlags::empty() } else { CloneFlags::VFORK };
    flags | vm | vfork
}

/// Makes the first child, and returns when it has become another program, or ended.
///
/// # Safety
///
/// As [`clone_calling`].
unsafe fn clone_first(
    arguments: &Arguments,
    stack: &Stack,
    start: &Start<'_>,
    child: &Child,
) -> Result<Pid, StepFailure> {
    let flags = sharing(arguments.flags, arguments.shares_memory, start.init.is_some()) | CloneFlags::PIDFD;
    let place = child.pidfd.as_ptr();
    // SAFETY: as the caller promises.
    let made = unsafe { clone_calling(flags, 0, arguments.cgroup, place, stack, first_process, start) };
    made.map_err(|failure| {
        const OF_CGROUP: [Errno; 6] =
            [Errno::EACCES, Errno::EBADF, Errno::EBUSY, Errno::EOPNOTSUPP, Errno::ENODEV, Errno::ENOENT];
        let is_of_cgroup = arguments.cgroup.is_some() && OF_CGROUP.contains(&failure.errno);
        StepFailure::of(if is_of_cgroup { Step::Cgroup } else { Step::Clone }, failure)
    })
}

/// A child that calls `entry` with `start` on a stack: by clone3(2), or by clone(2) where that is refused. `place` is for the
/// pidfd, or for the pid with `PARENT_SETTID`.
///
/// # Safety
///
/// The stack is not in use, `place` can be written, and `start` outlives the child's use of it.
unsafe fn clone_calling(
    flags: CloneFlags,
    exit_signal: c_int,
    cgroup: Option<RawFd>,
    place: *mut c_int,
    stack: &Stack,
    entry: extern "C" fn(*mut c_void) -> c_int,
    start: &Start<'_>,
) -> Result<Pid, Failure> {
    let data = (&raw const *start).cast_mut().cast::<c_void>();
    let mut arguments = clone3::Arguments {
        flags: flags.bits(),
        exit_signal: u64::from(exit_signal.cast_unsigned()),
        ..clone3::Arguments::default()
    };
    (arguments.stack, arguments.stack_size) = stack.range();
    if flags.contains(CloneFlags::PARENT_SETTID) {
        arguments.parent_tid = place as u64;
    } else {
        arguments.pidfd = place as u64;
    }
    if let Some(cgroup) = cgroup {
        arguments.flags |= CloneFlags::INTO_CGROUP.bits();
        arguments.cgroup = u64::from(cgroup.cast_unsigned());
    }
    // SAFETY: the arguments are complete, and as the caller promises.
    let result =
        unsafe { arch::clone3_calling(&raw const arguments, size_of::<clone3::Arguments>(), entry, data) };
    #[allow(clippy::cast_possible_truncation, reason = "a pid or an errno")]
    let failure = match result as i32 {
        pid @ 0.. => return Ok(Pid::from_raw(pid)),
        errno => Failure { call: "clone3", errno: Errno::from_raw(-errno), raw: -errno },
    };
    if !matches!(failure.errno, Errno::ENOSYS | Errno::EPERM) || cgroup.is_some() {
        return Err(failure);
    }
    #[allow(clippy::cast_possible_truncation, reason = "clone(2) has the low 32 bits")]
    let bits = flags.bits() as c_int | exit_signal;
    // SAFETY: as above; it has one place for pid and pidfd.
    let pid = unsafe { libc::clone(entry, stack.top(), bits, data, place) };
    Errno::result(pid).map(Pid::from_raw).map_err(|errno| Failure::new("clone", errno))
}

/// What has become of the processes, once this one goes on.
fn finish(made: Made, start: &Start<'_>) -> Result<(Pid, OwnedFd), StepFailure> {
    let (first, pidfd) = made?;
    let second = start.record.pid.get();
    if let Some(failed) = start.record.failed.get() {
        reap(first);
        if second != 0 {
            reap(Pid::from_raw(second));
        }
        // SAFETY: the rows, and the program, are borrowed by `start`.
        return Err(unsafe { failed.told() });
    }
    let (pid, pidfd) = if start.passes_on.is_some() {
        reap(first);
        if second == 0 {
            // Somebody has killed it.
            return Err(Failure::new("clone", Errno::ESRCH).into());
        }
        (Pid::from_raw(second), None)
    } else {
        (first, pidfd)
    };
    match pidfd.map_or_else(|| pidfd_open(pid, PidfdFlags::empty()), Ok) {
        Ok(pidfd) => Ok((pid, pidfd)),
        Err(failure) => {
            // It is our child, and not reaped yet.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            reap(pid);
            Err(failure.into())
        }
    }
}

impl<'a> Start<'a> {
    /// # Safety
    ///
    /// `data` is what a `Start` was passed as, and that is alive.
    unsafe fn of(data: *mut c_void) -> &'a Self {
        // SAFETY: as the caller promises.
        unsafe { &*data.cast::<Self>() }
    }

    /// Whether every row has worked.
    fn perform(&self, rows: &[Row<'a>]) -> bool {
        match perform_rows(rows) {
            Ok(()) => true,
            Err(failed) => {
                self.fail(failed);
                false
            }
        }
    }

    fn fail(&self, failed: Failed) {
        self.record.failed.set(Some(failed));
    }

    /// Becomes the program.
    fn become_program(&self) {
        if !self.perform(self.program) {
            return;
        }
        if let Some(filter) = &self.filter
            && !self.perform(std::slice::from_ref(filter))
        {
            return;
        }
        let failure = self.executable.execute();
        self.fail(Failed::at(Step::Exec, failure, self.executable.file()));
    }

    /// Makes the program a child of this process, which becomes init.
    fn become_init(&self, init: &InitParts) {
        let Some(stack) = self.stacks[1] else { return };
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        // It stays in its copy of the parent's memory.
        set_dumpable(false);
        let flags = CloneFlags::VM | CloneFlags::PARENT_SETTID;
        let pid = Cell::new(0);
        // Exec would make it SIGCHLD: init waits for that also where there is none.
        let exit_signal = libc::SIGCHLD;
        // SAFETY: nobody else uses the stack, and what the child reads is there until it has become the program.
        let made =
            unsafe { clone_calling(flags, exit_signal, None, pid.as_ptr(), stack, program_process, self) };
        let program = match made {
            Ok(program) => program,
            Err(failure) => return self.fail(Failed::of(Step::Clone, failure)),
        };
        if !self.is_detached {
            // What a terminal, or kill(2), sends to the program's group reaches the program once. Of another session, as a parent
            // in another group of the same one has that group get SIGHUP when the program ends, where somebody in it is stopped.
            let _ = nix::unistd::setsid();
        }
        let (report, ready) = (init.writer.as_raw_fd(), init.ready.as_raw_fd());
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        self.fail(Failed::of(Step::Exec, init::enter(init.image, program.as_raw(), report, ready)));
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        init::run(program.as_raw(), report, ready)
    }
}

/// Enters what is there, and either goes on or passes on.
extern "C" fn first_process(data: *mut c_void) -> c_int {
    // SAFETY: `attempt` passes its own.
    let start = unsafe { Start::of(data) };
    if !start.perform(start.joining) {
        return 1;
    }
    let (Some(flags), Some(stack)) = (start.passes_on, start.stacks[0]) else { return go_on(data) };
    let flags = sharing(flags | CloneFlags::PARENT | CloneFlags::PARENT_SETTID, true, start.init.is_some());
    // SAFETY: this process is suspended until the child needs its memory no more, or ends, and leaves that as it is.
    let made = unsafe { clone_calling(flags, 0, None, start.record.pid.as_ptr(), stack, go_on, start) };
    if let Err(failure) = made {
        start.fail(Failed::of(Step::Clone, failure));
    }
    0
}

/// Goes on inside.
extern "C" fn go_on(data: *mut c_void) -> c_int {
    // SAFETY: as above.
    let start = unsafe { Start::of(data) };
    if start.perform(start.inside) {
        match &start.init {
            Some(init) => start.become_init(init),
            None => start.become_program(),
        }
    }
    1
}

/// The program, where its parent becomes init first; were that to end, the kernel would end this one.
extern "C" fn program_process(data: *mut c_void) -> c_int {
    // SAFETY: as above.
    let start = unsafe { Start::of(data) };
    match start.init.map(|init| init.ready.read()) {
        Some(Err(errno)) => start.fail(Failed::of(Step::Clone, Failure::new("read", errno))),
        _ => start.become_program(),
    }
    1
}
