//! A copy of this process in which JavaScript goes on.
//!
//! Every other thread is parked, the process is cloned, and in the copy those threads that V8 and libuv cannot do without
//! are made anew where they stood. What the copy shares with the parent in the kernel it replaces by its own.
//!
//! # Safety
//!
//! The copy begins with one thread, while others were anywhere: until those are revived nothing allocates or locks.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use linux_clone_syscalls::{
    CloneFlags, Errno, Failure, Pid, PidfdFlags, PidfdSignalFlags, Result, pidfd_open, pidfd_send_signal,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::arch::{IS_SUPPORTED, was_in_system_call};
use crate::disposable::reap;
use crate::failed::Failed;
use crate::failure::{Step, StepFailure};
use crate::guard::exit_now;
use crate::objects::Code;
use crate::park::{Interrupted, Parked};
use crate::setup::Setup;
use crate::shared::Shared;
use crate::uv::layout::Loop;
use crate::uv::{
    Barrier, Uv, detach, drop_results_on_stack, is_being_woken, make_room, polled_descriptors, uv,
};
use crate::wait::write_all;
use call::Cloned;
use child::Handlers;
use heap::Heap;
use stack::Stack;
use talk::Talk;

mod call;
mod child;
mod descriptors;
mod heap;
mod late;
mod stack;
mod talk;
mod threads;
mod v8;
mod waits;

pub(crate) use heap::keep_from_fork;
pub use late::make_late_threads;
pub use threads::renew_ids;
pub use v8::{cancel_termination, end_silence, is_ending, silence, terminate};

/// What the copy is to be.
#[derive(Debug, Default)]
pub struct Request {
    /// clone3(2)'s.
    pub flags: CloneFlags,
    /// Bytes.
    pub stack_size: usize,
    /// What the parent gets when the copy ends.
    pub exit_signal: c_int,
    /// Pids, from the innermost pid namespace outwards.
    pub set_tid: Vec<libc::pid_t>,
    /// A directory of cgroup v2.
    pub cgroup: Option<RawFd>,
    /// Where the kernel writes the copy's id, in the parent.
    pub parent_tid: usize,
    /// Where the kernel writes it in the copy, and zero at its end.
    pub child_tid: usize,
    /// Whether it may begin without the threads that it is to have, as what it does may be over before they would have work.
    pub may_be_short: bool,
    /// What becomes of it in its new namespaces, before JavaScript goes on; those that it unshares itself are not made by the call.
    pub setup: Setup,
}

/// Who returned from [`duplicate`].
#[derive(Debug)]
pub enum Duplicate {
    /// The copy.
    Child,
    /// This process.
    Parent {
        /// The copy's pid.
        pid: Pid,
        /// Its pidfd.
        pidfd: OwnedFd,
    },
}

/// The phases of a clone, in order.
pub const PHASES: [&str; 6] = ["pool", "park", "let through", "clone", "release", "finish"];

static NANOSECONDS: [AtomicU64; PHASES.len()] = [const { AtomicU64::new(0) }; PHASES.len()];

/// How long each phase of the last clone took, in nanoseconds.
#[must_use]
pub fn durations() -> [u64; PHASES.len()] {
    std::array::from_fn(|phase| NANOSECONDS[phase].load(Ordering::Relaxed))
}

/// Measures the phases.
struct Clock {
    phase: usize,
    begin: Instant,
}

impl Clock {
    fn next(&mut self) {
        let now = Instant::now();
        let nanoseconds = u64::try_from((now - self.begin).as_nanos()).unwrap_or(u64::MAX);
        NANOSECONDS[self.phase].store(nanoseconds, Ordering::Relaxed);
        (self.phase, self.begin) = (self.phase + 1, now);
    }
}

/// Finds out once what has to be known of this process: `enqueue` adds a microtask that does nothing, `random` calls
/// `Math.random`.
///
/// # Errors
///
/// ENOSYS on other processors than x86-64 and aarch64; ENOTSUP where Node, V8 or the libc is not as they are known; ENOENT
/// without /proc; EMFILE, ENFILE: there are too few descriptors left.
pub fn prepare(enqueue: impl FnMut(), random: impl FnMut()) -> Result<()> {
    if !IS_SUPPORTED {
        return Err(Failure::new("clone", Errno::ENOSYS));
    }
    heap::can_read()?;
    uv()?;
    v8::learn(enqueue, random)?;
    threads::learn()?;
    waits::learn_abseil();
    heap::learn()?;
    descriptors::learn();
    late::learn();
    make_room();
    stack::end_of_own().map(drop)
}

/// How often threads are let go that are found waking the loop, for which one needs a microsecond or two.
const WAKES: u32 = 100;

/// Makes the copy.
///
/// # Errors
///
/// What clone3(2) says; ENOMEM for the stack; EBUSY: no thread of libuv's pool is free, or JavaScript runs in `vm` with a
/// timeout; ETIMEDOUT: a thread cannot be stopped.
///
/// # Safety
///
/// Called with JavaScript on the stack of a thread whose event loop is `event_loop`; the places for ids are writable.
pub unsafe fn duplicate(
    request: &Request,
    event_loop: *mut c_void,
) -> std::result::Result<Duplicate, StepFailure> {
    make_late_threads()?;
    let (uv, event_loop) = (uv()?, event_loop.cast::<Loop>());
    let stack = Stack::new(request.stack_size)?;
    let own = request.setup.has_maps().then(|| pidfd_open(Pid::this(), PidfdFlags::empty())).transpose()?;
    let prepared = request.setup.prepare()?;
    let parent = own.as_ref().map(AsFd::as_fd);
    let alone = Talk::default();
    let has_to_tell = !prepared.inside(&alone.gate, parent).is_empty();
    let shared = has_to_tell.then(|| Shared::new(Talk::default())).transpose()?;
    let talk = shared.as_ref().map_or(&alone, Shared::get);
    let rows = prepared.inside(&talk.gate, parent);
    let stack_end = stack::end_of_own()?;
    let mut heap = Heap::of_this_process()?;
    let (code, handlers) = (Code::loaded(), Handlers::save(request.flags));
    let mut clock;
    // SAFETY: as the caller promises.
    let mut takes_pool_at_rest = unsafe { Barrier::may_be_needless(event_loop) };
    let mut attempts = 0..WAKES;
    let (barrier, parked) = loop {
        clock = Clock { phase: 0, begin: Instant::now() };
        let has_pool = threads::may_be_of_pool();
        let has_barrier = has_pool && !takes_pool_at_rest;
        // SAFETY: as the caller promises.
        let barrier = has_barrier.then(|| unsafe { Barrier::raise(uv, event_loop) }).transpose()?;
        threads::take_pool_at_rest(!has_barrier);
        clock.next();
        let parked = Parked::all_settled(
            |parked| threads::recognise(parked.interrupted()),
            |thread| stands_well(thread, &code),
        )?;
        clock.next();
        if has_pool && !has_barrier && !threads::is_pool_at_rest(parked.interrupted()) {
            takes_pool_at_rest = false;
            continue;
        }
        if threads::learn_pool(parked.interrupted()) {
            continue;
        }
        // SAFETY: as the caller promises.
        if !unsafe { is_being_woken(event_loop) } || attempts.next().is_none() {
            break (barrier, parked);
        }
    };
    if parked.interrupted().any(|thread| threads::is_watchdog(&thread)) {
        return Err(Failure::new("clone", Errno::EBUSY).into());
    }
    drop(code);
    let has_others = parked.interrupted().any(|thread| !threads::is_known(&thread));
    let let_through = heap.let_through();
    clock.next();
    // SAFETY: in the copy nothing allocates before `begin` has made the threads.
    let cloned = let_through.and_then(|()| unsafe { call::clone(request, &stack) });
    if let Ok(Cloned::Child) = cloned {
        let shares_descriptors = request.flags.contains(CloneFlags::FILES);
        if !shares_descriptors {
            // SAFETY: the loop and the stack are this thread's, and no other thread is here.
            unsafe { drop_results_on_stack(event_loop, stack_end, &heap::words()) };
        }
        let begun = child::begin(request, talk, &rows, &parked, &handlers, event_loop);
        let is_told = begun.is_err() && !rows.is_empty();
        let settle = || {
            // What it has open is room for what is opened now.
            parked.leave_behind(shares_descriptors);
            // SAFETY: the loop is this thread's, and the parent's other threads are not here.
            unsafe { settle_in(uv, event_loop, shares_descriptors, has_others) }
        };
        let settled = begun.and_then(|()| settle().map_err(|failure| Failed::of(Step::Clone, failure)));
        if let Err(failed) = settled {
            talk.fail(failed);
            if !is_told {
                say_why("begin", failed.failure);
            }
            exit_now(1);
        }
        if shares_descriptors {
            std::mem::forget((own, prepared));
        }
        return Ok(Duplicate::Child);
    }
    clock.next();
    // Unmapping waits for page faults, which threads have that go on, and who waits finds the copy on this processor.
    drop(stack);
    parked.own_stacks();
    parked.let_rest(threads::is_known);
    drop((parked, barrier));
    clock.next();
    let finished = match cloned? {
        Cloned::Child => return Ok(Duplicate::Child),
        Cloned::Parent { pid, pidfd } => {
            let finished = if rows.is_empty() {
                Ok(())
            } else {
                // SAFETY: the rows are alive.
                unsafe { finish(request, talk, &pidfd, pid) }
            };
            finished.map(|()| Duplicate::Parent { pid, pidfd })
        }
    };
    clock.next();
    finished
}

/// Makes what the copy has of the kernel's its own, once its threads are there.
///
/// # Safety
///
/// The loop is this thread's, and nobody else uses it.
unsafe fn settle_in(
    uv: &Uv,
    event_loop: *mut Loop,
    shares_descriptors: bool,
    has_others: bool,
) -> Result<()> {
    v8::refresh()?;
    if shares_descriptors {
        // What would be closed or replaced is the parent's.
        return Ok(());
    }
    // SAFETY: as the caller promises.
    let backend = unsafe { (*event_loop).backend_fd };
    // SAFETY: as above.
    let is_polled = |fd| unsafe { polled_descriptors(event_loop) }.any(|polled| polled == fd);
    let has = |fd| fd == backend || is_polled(fd);
    descriptors::replace_lock()?;
    if has_others || !late::is_put_off() || !descriptors::put_off_loops(has) {
        descriptors::replace_loops(has, has_others)?;
    } else if !late::is_put_off() {
        // The timer was faster.
        descriptors::replace_late_loops();
    }
    let unwound = || {
        // V8 was there when it was refreshed.
        let _ = v8::cancel_termination();
    };
    // SAFETY: as the caller promises.
    unsafe { detach(uv, event_loop, Barrier::count(), unwound) }?;
    v8::end_at_once()
}

/// Whether a thread may be left as it is: one that goes on in the copy anywhere, another only where it holds no lock.
fn stands_well(thread: &Interrupted, code: &Code) -> bool {
    if threads::is_v8_worker(thread) || threads::is_of_pool(thread) {
        return true;
    }
    // SAFETY: the thread waits in its handler.
    match unsafe { was_in_system_call(thread.context) } {
        Ok(word) => !word.is_some_and(|word| waits::is_counted_on(thread, word)),
        // Compiled JavaScript.
        Err(counter) => !code.holds(counter),
    }
}

/// Its parent may have gone on already. Without its threads nothing may allocate.
fn say_why(what: &str, failure: Failure) {
    for part in ["clone: the child cannot ", what, ", ", failure.call, " has failed\n"] {
        let _ = write_all(std::io::stderr().as_fd(), part.as_bytes());
    }
}

/// Writes what the copy waits for, and hears what came of it; a copy that failed is gone.
///
/// # Safety
///
/// What the copy performs is alive.
unsafe fn finish(
    request: &Request,
    talk: &Talk,
    pidfd: &OwnedFd,
    pid: Pid,
) -> std::result::Result<(), StepFailure> {
    let result = request.setup.id_maps.write(pidfd.as_fd()).and_then(|()| {
        talk.gate.answer(true);
        loop {
            if let Some(result) = talk.result() {
                // SAFETY: as the caller promises.
                return result.map_err(|failed| unsafe { failed.told() });
            }
            if has_ended(pidfd) {
                return Err(StepFailure::of(Step::Clone, Failure::new("clone", Errno::ESRCH)));
            }
        }
    });
    if result.is_err() {
        let _ = pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL, PidfdSignalFlags::empty());
        reap(pid);
    }
    result
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut events = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut events, PollTimeout::ZERO).is_ok_and(|ended| ended > 0)
}
