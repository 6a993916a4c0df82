//! Parks every other thread of this process, and has them act one at a time.
//!
//! A thread is reached by a signal, waits in its handler on a futex, and does there what it is ordered to.
//! Between parking and release the caller must not allocate or take a lock: a parked thread may hold it.
//!
//! # Safety
//!
//! The handler touches nothing but statics, the order that is published while it is parked, and errno;
//! it makes only system calls.
#![allow(unsafe_code)]

use std::cell::{Cell, OnceCell};
use std::ffi::{c_int, c_void};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use linux_clone_syscalls::{CloneFlags, Errno, Failure, Pid, Result};

use crate::arch;
use crate::child::perform;
use crate::disposable::{Stack, attempt};
use crate::failure::ThreadFailure;
use crate::maps::page_size;
use crate::objects::data_beside;
use crate::plan::Action;
use crate::signals::Blocked;
use crate::tasks::{self, Task, Tasks};
use crate::uv::symbol;

/// How long a thread may take to come: it may be in a system call that no signal interrupts.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a thread may block every signal: longer than it takes to start another one.
const PATIENCE_WITH_THE_DEAF: Duration = Duration::from_secs(1);

/// How long all may take to come, or to unblock their signals, where they are let go and called again if they do not: the first
/// time, and twice as long each time after that, as they may wait for a processor.
const PATIENCE_WITH_SOME: Duration = Duration::from_millis(15);

/// The same as long as it is not known who Node's SignalInspector is: longer than it takes to find out.
const PATIENCE_TO_KNOW_INSPECTOR: Duration = Duration::from_millis(200);

/// How long threads may go on one by one until all stand well, before all go on; the first time, as above.
const PATIENCE_WITH_ONE: Duration = Duration::from_millis(3);

/// How long all go on before they are called again, the first time, as above: what one of them waits for may be work of others.
const REST: Duration = Duration::from_millis(2);

/// How long it may take until all stand well.
const PATIENCE_WITH_THE_RESTLESS: Duration = Duration::from_secs(2);

/// For how long a thread that may be Node's SignalInspector has to look like it.
const LONGER_THAN_A_MOMENT: Duration = Duration::from_millis(50);

/// More threads than a Node process has by orders of magnitude; statics, as a late signal may find them at any time.
const CAPACITY: usize = 4096;

/// What a slot's thread is doing. It is the futex that the thread waits on.
mod state {
    pub const FREE: u32 = 0;
    /// A signal is on its way.
    pub const CALLED: u32 = 1;
    /// It waits in the handler.
    pub const PARKED: u32 = 2;
    /// It is to act on the order.
    pub const ORDERED: u32 = 3;
    /// It is to leave the handler.
    pub const RELEASED: u32 = 4;
    /// It waits in the handler for what it was waiting for when the signal came.
    pub const RESTING: u32 = 5;
    /// It does, and is to go nowhere when that comes.
    pub const HELD: u32 = 6;
    /// It has come to a thread that is held, which waits for its release.
    pub const AWAKE: u32 = 7;
}

/// What a pass over the threads has found.
enum Found {
    /// Nobody new.
    Nobody,
    /// Threads that have been called now.
    Called,
    /// Nobody but threads that block every signal: the first.
    Deaf(i32),
}

struct Slot {
    tid: AtomicI32,
    shown: AtomicI32,
    state: AtomicU32,
    /// Where the kernel has saved what the signal interrupted.
    frame: AtomicPtr<c_void>,
    context: AtomicPtr<c_void>,
    thread_pointer: AtomicUsize,
    /// An address in the handler's frame, below which it waits.
    handler: AtomicUsize,
    /// Whether it may rest once it is released.
    may_rest: AtomicBool,
}

impl Slot {
    const fn empty() -> Self {
        Self {
            tid: AtomicI32::new(0),
            shown: AtomicI32::new(0),
            state: AtomicU32::new(state::FREE),
            frame: AtomicPtr::new(ptr::null_mut()),
            context: AtomicPtr::new(ptr::null_mut()),
            thread_pointer: AtomicUsize::new(0),
            handler: AtomicUsize::new(0),
            may_rest: AtomicBool::new(false),
        }
    }

    fn interrupted(&self) -> Interrupted {
        Interrupted {
            tid: self.tid.load(Ordering::Relaxed),
            frame: self.frame.load(Ordering::Relaxed),
            context: self.context.load(Ordering::Relaxed),
            thread_pointer: self.thread_pointer.load(Ordering::Relaxed),
        }
    }
}

static SLOTS: [Slot; CAPACITY] = [const { Slot::empty() }; CAPACITY];

/// Threads that rest: that had been waiting when they were parked, and go on waiting in the handler, with the arguments that they
/// waited with. Until what they wait for comes they need not be parked again: they are held, which wakes nobody.
static RESTING: [Slot; 64] = [const { Slot::empty() }; 64];

/// How many copies of copies this process is: who rested in the parent has no place here.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// A thread that waits in its handler, as a copy of this process has to know it.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted {
    pub tid: i32,
    /// What rt_sigreturn(2) wants the stack pointer to be.
    pub frame: *mut c_void,
    /// The `ucontext_t` in it.
    pub context: *const c_void,
    pub thread_pointer: usize,
}

/// The first of those that have been parked before: they take signals, and run code of the process.
static HAVE_COME: [AtomicI32; 64] = [const { AtomicI32::new(0) }; 64];

/// What the ordered thread is to do; null while nothing is ordered.
static ORDER: AtomicPtr<Order<'static>> = AtomicPtr::new(ptr::null_mut());

/// One at a time: two threads that park each other would wait forever.
static TURN: Mutex<()> = Mutex::new(());

/// What a thread is to do, and what came of it.
struct Order<'a> {
    actions: &'a [Action<'a>],
    /// Where to rehearse it, rather than to do it.
    rehearsal: Option<&'a Stack>,
    result: Cell<Result<()>>,
}

/// Every other thread of the process, waiting; they go on when it is dropped.
pub struct Parked {
    count: Cell<usize>,
    /// Opened where somebody has to be looked for, and closed with the rest, unless the table of descriptors is another process's.
    tasks: ManuallyDrop<OnceCell<Tasks>>,
    shares_descriptors: bool,
    blocked: Blocked,
    _turn: MutexGuard<'static, ()>,
}

impl Parked {
    /// Parks all threads but the calling one, those of the kernel, and Node's SignalInspector.
    pub fn all() -> std::result::Result<Self, ThreadFailure> {
        Self::all_within(PATIENCE, PATIENCE_WITH_THE_DEAF, || ())
    }

    /// `hold` is called first, when nobody is parked yet.
    fn all_within(
        patience: Duration,
        patience_with_the_deaf: Duration,
        hold: fn(),
    ) -> std::result::Result<Self, ThreadFailure> {
        let signal = install_handler()?;
        data_of_node();
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        wait_until_all_have_left();
        // From here on nothing allocates; the signals of the process wait, as their handlers might.
        let (tasks, blocked) = (ManuallyDrop::default(), Blocked::all()?);
        let parked = Self { count: Cell::new(0), tasks, shares_descriptors: false, blocked, _turn: turn };
        hold();
        if !are_all_held() {
            parked.call_all(signal, patience, patience_with_the_deaf)?;
        }
        Ok(parked)
    }

    fn tasks(&self) -> Result<&Tasks> {
        match self.tasks.get() {
            Some(tasks) => Ok(tasks),
            None => Tasks::of_this_process().map(|tasks| self.tasks.get_or_init(|| tasks)),
        }
    }

    /// A thread that is still running may start another: calls those that are not parked until a pass finds nobody.
    fn call_all(
        &self,
        signal: c_int,
        patience: Duration,
        patience_with_the_deaf: Duration,
    ) -> std::result::Result<(), ThreadFailure> {
        let deadline = Instant::now() + patience;
        let mut inspector = Inspector::default();
        let (mut deaf_since, mut round) = (None, 0);
        loop {
            let found = self.call_new_ones(signal, &mut inspector)?;
            for slot in self.slots() {
                wait_for(slot, deadline)?;
            }
            match found {
                Found::Nobody => {
                    self.remember();
                    return Ok(());
                }
                Found::Called => deaf_since = None,
                Found::Deaf(thread) => {
                    if deaf_since.get_or_insert_with(Instant::now).elapsed() > patience_with_the_deaf {
                        let failure = Failure::new("tgkill", Errno::ETIMEDOUT);
                        return Err(ThreadFailure::of(failure, thread));
                    }
                    pause(&mut round);
                }
            }
        }
    }

    /// Sends the signal to each thread that has not had it, and could take it.
    fn call_new_ones(
        &self,
        signal: c_int,
        inspector: &mut Inspector,
    ) -> std::result::Result<Found, ThreadFailure> {
        let (tasks, counter) = (self.tasks()?, &self.count);
        let (own, before) = (gettid(), counter.get());
        let mut deaf = None;
        let is_known = |tid: i32| {
            let called = self.slots().iter().filter(|slot| slot.state.load(Ordering::Acquire) != state::FREE);
            called.chain(held()).any(|slot| slot.tid.load(Ordering::Relaxed) == tid)
        };
        let mut failed = Ok(());
        let skip = |tid| {
            if tid == own || tid == INSPECTOR.load(Ordering::Relaxed) || is_known(tid) {
                return true;
            }
            let has_come_before = HAVE_COME.iter().any(|other| other.load(Ordering::Relaxed) == tid);
            if has_come_before && failed.is_ok() {
                failed = call(counter, tid, tid, signal);
            }
            has_come_before
        };
        tasks.for_each_but(skip, |task| {
            if task.tid == own || is_known(task.tid) || task.is_kernel_worker {
                return Ok(());
            }
            if blocks_everything(&task) {
                // For a moment, as a thread does that starts another, or for good.
                if !inspector.is(&task, tasks)? {
                    deaf = deaf.or(Some(task.shown));
                }
                return Ok(());
            }
            call(counter, task.tid, task.shown, signal)
        })?;
        failed?;
        Ok(match deaf {
            _ if counter.get() > before => Found::Called,
            Some(thread) => Found::Deaf(thread),
            None => Found::Nobody,
        })
    }

    /// Those that have come need not be looked at the next time.
    fn remember(&self) {
        for (place, slot) in HAVE_COME.iter().zip(self.slots().iter().chain(held())) {
            place.store(slot.tid.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Whether all parked threads are in the calling one's namespace (`b"ns/uts"` …).
    pub fn share_namespace(&self, link: &[u8]) -> Result<bool> {
        let own = self.own_namespace(link)?;
        for slot in self.parked() {
            if self.namespace(slot, link)? != own {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn own_namespace(&self, link: &[u8]) -> Result<Option<libc::ino_t>> {
        let (own, mut shown) = (gettid(), 0);
        let tasks = self.tasks()?;
        tasks.for_each::<Failure>(|task| {
            if task.tid == own {
                shown = task.shown;
            }
            Ok(())
        })?;
        tasks.namespace(shown, link)
    }

    fn namespace(&self, slot: &Slot, link: &[u8]) -> Result<Option<libc::ino_t>> {
        self.tasks()?.namespace(slot.shown.load(Ordering::Relaxed), link)
    }

    /// After a fork: gives this process its own copy of what each thread writes to first when it goes on. While none runs a page
    /// costs its copy alone; later each one that any of them writes to interrupts the processors of all others.
    pub fn own_stacks(&self) {
        /// More than the handler's callees need.
        const BELOW: usize = 1024;
        let page = page_size();
        for slot in self.parked() {
            let handler = slot.handler.load(Ordering::Relaxed);
            let start = (handler - BELOW) / page * page;
            // SAFETY: the kernel writes nothing that is not there already. Before Linux 5.14 it refuses.
            unsafe { libc::madvise(start as *mut c_void, handler - start, libc::MADV_POPULATE_WRITE) };
        }
    }

    /// The signal, if the calling thread takes it too.
    pub fn signal(&self) -> Option<c_int> {
        let signal = install_handler().ok()?;
        (!self.blocked.keeps(signal)).then_some(signal)
    }

    /// What the threads were at.
    pub fn interrupted(&self) -> impl Iterator<Item = Interrupted> + Clone {
        self.parked().chain(held()).map(Slot::interrupted)
    }

    /// Lets those rest, when they are released, of which `may_rest` says so, and which wait without a limit.
    pub fn let_rest(&self, may_rest: impl Fn(&Interrupted) -> bool) {
        for slot in self.parked() {
            slot.may_rest.store(may_rest(&slot.interrupted()), Ordering::Relaxed);
        }
    }

    /// Parks all threads, but for those that rest, which are held, so that `is_settled` says of each that it stands well. A thread
    /// that does not goes on, and is parked again; where it waits for another one, both have to go on. Each time that all are
    /// parked, `look` is at them first.
    pub fn all_settled(
        look: impl Fn(&Self),
        is_settled: impl Fn(&Interrupted) -> bool,
    ) -> std::result::Result<Self, ThreadFailure> {
        let signal = install_handler()?;
        let deadline = Instant::now() + PATIENCE_WITH_THE_RESTLESS;
        let mut leniency = 1_u32;
        loop {
            // One that does not come may wait, with all signals blocked, for a lock of one that has come: as who starts a
            // program does.
            let knows_inspector = INSPECTOR.load(Ordering::Relaxed) != 0;
            let with_the_deaf = if knows_inspector { PATIENCE_WITH_SOME } else { PATIENCE_TO_KNOW_INSPECTOR };
            let left = deadline.saturating_duration_since(Instant::now());
            let within = |patience: Duration| (patience * leniency).min(left.max(patience));
            let settled = Self::all_within(within(PATIENCE_WITH_SOME), within(with_the_deaf), hold).and_then(
                |parked| {
                    // Those that have gone on may have started others.
                    while parked.settle(signal, within, &look, &is_settled)? {
                        parked.call_all(signal, within(PATIENCE_WITH_SOME), within(with_the_deaf))?;
                    }
                    Ok(parked)
                },
            );
            match settled {
                Err(ThreadFailure { failure: Failure { errno: Errno::ETIMEDOUT, .. }, .. })
                    if Instant::now() < deadline => {}
                result => return result,
            }
            std::thread::sleep(within(REST));
            leniency = leniency.saturating_mul(2);
        }
    }

    /// Whether any had to go on.
    fn settle(
        &self,
        signal: c_int,
        within: impl Fn(Duration) -> Duration,
        look: impl Fn(&Self),
        is_settled: impl Fn(&Interrupted) -> bool,
    ) -> std::result::Result<bool, ThreadFailure> {
        let deadline = Instant::now() + within(PATIENCE_WITH_ONE);
        // One that goes on may give another what that has waited for: until nobody has had to go on.
        let (mut has_moved, mut passes) = (true, 0_usize);
        while has_moved {
            (has_moved, passes) = (false, passes + 1);
            look(self);
            for slot in held().filter(|slot| !is_settled(&slot.interrupted())) {
                has_moved = true;
                let_go(slot);
            }
            for slot in self.slots() {
                let mut round = 0;
                while self.interrupted_in(slot).is_some_and(|thread| !is_settled(&thread)) {
                    has_moved = true;
                    let shown = slot.shown.load(Ordering::Relaxed);
                    if Instant::now() > deadline {
                        return Err(ThreadFailure::of(Failure::new("tgkill", Errno::ETIMEDOUT), shown));
                    }
                    slot.state.store(state::RELEASED, Ordering::Release);
                    wake(&slot.state);
                    let mut turn = 0;
                    while slot.state.load(Ordering::Acquire) == state::RELEASED {
                        pause(&mut turn);
                    }
                    pause(&mut round);
                    slot.state.store(state::CALLED, Ordering::Release);
                    if let Err(errno) = tgkill(slot.tid.load(Ordering::Relaxed), signal) {
                        slot.state.store(state::FREE, Ordering::Relaxed);
                        if errno != Errno::ESRCH {
                            return Err(ThreadFailure::of(Failure::new("tgkill", errno), shown));
                        }
                    }
                    wait_for(slot, deadline + within(PATIENCE_WITH_SOME))?;
                }
            }
        }
        Ok(passes > 1)
    }

    fn interrupted_in(&self, slot: &Slot) -> Option<Interrupted> {
        let tid = slot.tid.load(Ordering::Relaxed);
        self.interrupted().find(|thread| thread.tid == tid)
    }

    /// In a copy of the process, where the threads are not: there is nobody to be released.
    /// Descriptors are not closed where they are the parent's too.
    pub fn leave_behind(mut self, shares_descriptors: bool) {
        for slot in self.slots() {
            slot.state.store(state::FREE, Ordering::Relaxed);
        }
        self.count.set(0);
        for slot in &RESTING {
            slot.state.store(state::FREE, Ordering::Relaxed);
            slot.tid.store(0, Ordering::Relaxed);
        }
        INSPECTOR.store(NOBODY, Ordering::Relaxed);
        // Their numbers may be those of other threads here.
        for place in &HAVE_COME {
            place.store(0, Ordering::Relaxed);
        }
        self.shares_descriptors = shares_descriptors;
    }

    fn parked(&self) -> impl Iterator<Item = &'static Slot> + Clone {
        self.slots().iter().filter(|slot| slot.state.load(Ordering::Acquire) == state::PARKED)
    }

    fn slots(&self) -> &'static [Slot] {
        &SLOTS[..self.count.get()]
    }

    /// Each parked thread tries `actions` in a child of its own, which has its credentials and filters.
    pub fn rehearse(&self, actions: &[Action<'_>], stack: &Stack) -> std::result::Result<(), ThreadFailure> {
        let order = Order { actions, rehearsal: Some(stack), result: Cell::new(Ok(())) };
        self.order(&order, |_| Ok(true))
    }

    /// Each parked thread performs `actions`.
    pub fn perform(&self, actions: &[Action<'_>]) -> std::result::Result<(), ThreadFailure> {
        let order = Order { actions, rehearsal: None, result: Cell::new(Ok(())) };
        self.order(&order, |_| Ok(true))
    }

    /// Each parked thread that is in the calling one's namespace performs `actions`.
    pub fn perform_within(
        &self,
        link: &[u8],
        actions: &[Action<'_>],
    ) -> std::result::Result<(), ThreadFailure> {
        let own = self.own_namespace(link)?;
        let order = Order { actions, rehearsal: None, result: Cell::new(Ok(())) };
        self.order(&order, |slot| Ok(self.namespace(slot, link)? == own))
    }

    fn order(
        &self,
        order: &Order<'_>,
        concerns: impl Fn(&Slot) -> Result<bool>,
    ) -> std::result::Result<(), ThreadFailure> {
        ORDER.store(ptr::from_ref(order).cast_mut().cast(), Ordering::Release);
        let result = self.parked().try_for_each(|slot| {
            let failed = |failure| Err(ThreadFailure::of(failure, slot.shown.load(Ordering::Relaxed)));
            if !concerns(slot)? {
                return Ok(());
            }
            slot.state.store(state::ORDERED, Ordering::Release);
            wake(&slot.state);
            let mut round = 0;
            while slot.state.load(Ordering::Acquire) == state::ORDERED {
                pause(&mut round);
                // A filter may kill it for what it does.
                if tgkill(slot.tid.load(Ordering::Relaxed), 0) == Err(Errno::ESRCH) {
                    slot.state.store(state::FREE, Ordering::Release);
                    return failed(Failure::new("tgkill", Errno::ESRCH));
                }
            }
            order.result.get().or_else(failed)
        });
        ORDER.store(ptr::null_mut(), Ordering::Release);
        result
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        if !self.shares_descriptors {
            // SAFETY: nothing uses it any more.
            unsafe { ManuallyDrop::drop(&mut self.tasks) };
        }
        for slot in self.slots() {
            // A thread that never came finds nothing to do when its signal arrives.
            if slot
                .state
                .compare_exchange(state::CALLED, state::FREE, Ordering::AcqRel, Ordering::Acquire)
                .is_err()
                && slot.state.load(Ordering::Acquire) == state::PARKED
            {
                slot.state.store(state::RELEASED, Ordering::Release);
            }
        }
        wake_next(self.slots());
        held().for_each(let_go);
    }
}

/// In a copy of the process, before it has threads.
pub fn begin_generation() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Whether there is nobody but the calling thread, those that are held, and Node's SignalInspector. None of those starts another,
/// and a thread that ends is counted until it has: the kernel's number says it, without a look at each.
fn are_all_held() -> bool {
    let inspector = INSPECTOR.load(Ordering::Relaxed);
    let has_inspector = inspector > 0 && tgkill(inspector, 0).is_ok();
    tasks::count() == Some(1 + usize::from(has_inspector) + held().count())
}

/// Threads that rest go on resting until they are let go.
fn hold() {
    for slot in &RESTING {
        let _ = slot.state.compare_exchange(state::RESTING, state::HELD, Ordering::AcqRel, Ordering::Relaxed);
    }
}

fn held() -> impl Iterator<Item = &'static Slot> + Clone {
    RESTING.iter().filter(|slot| matches!(slot.state.load(Ordering::Acquire), state::HELD | state::AWAKE))
}

fn let_go(slot: &Slot) {
    let rests =
        slot.state.compare_exchange(state::HELD, state::RESTING, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    if !rests {
        slot.state.store(state::FREE, Ordering::Release);
        wake(&slot.state);
    }
}

/// Each thread that leaves wakes the next: whoever releases them all goes on after the first.
fn wake_next(slots: &[Slot]) {
    // One that leaves early has marked its own slot, and we the others: one of the two sees what the other has marked.
    fence(Ordering::SeqCst);
    let mut rest = slots.iter().take_while(|slot| slot.tid.load(Ordering::Relaxed) != 0);
    if let Some(next) = rest.find(|slot| slot.state.load(Ordering::Acquire) == state::RELEASED) {
        wake(&next.state);
    }
}

/// Slots are used again: each thread that was released has left its own by then.
fn wait_until_all_have_left() {
    for slot in SLOTS.iter().take_while(|slot| slot.tid.load(Ordering::Relaxed) != 0) {
        let mut round = 0;
        while slot.state.load(Ordering::Acquire) == state::RELEASED {
            pause(&mut round);
        }
    }
}

/// Every signal that a thread can block: not KILL and STOP, nor those that the libc keeps for itself.
fn blocks_everything(task: &Task) -> bool {
    const BLOCKABLE: u64 = !(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1) | 0b111 << 31);
    task.blocked & BLOCKABLE == BLOCKABLE
}

/// What is known of Node's thread that turns SIGUSR1 into an inspector.
#[derive(Default)]
struct Inspector {
    /// Who may be it, and since when it has looked like it.
    suspect: Option<(i32, Instant)>,
}

/// Its tid, once it is known.
static INSPECTOR: AtomicI32 = AtomicI32::new(0);

/// The tid of the inspector in a process that has none, as a copy has not.
const NOBODY: i32 = -1;

/// To be called where Node has been told to have none: another thread would be taken for it.
pub fn expect_no_inspector() {
    let _ = INSPECTOR.compare_exchange(0, NOBODY, Ordering::Relaxed, Ordering::Relaxed);
}

impl Inspector {
    /// Whether it is this thread, which blocks every signal. Since Node 24 it bears its name. Before, it waits on a semaphore
    /// of Node's own; where that is elsewhere, as older libcs have it, or cannot be seen, it is the first of those (Node makes
    /// it before it runs any program) that waits for something, and goes on so while all others are parked.
    fn is(&mut self, task: &Task, tasks: &Tasks) -> Result<bool> {
        let known = INSPECTOR.load(Ordering::Relaxed);
        if known != 0 {
            return Ok(known == task.tid);
        }
        if task.name() == b"SignalInspector" {
            INSPECTOR.store(task.tid, Ordering::Relaxed);
            return Ok(true);
        }
        let is_main = task.tid == Pid::this().as_raw();
        match wait_of(task, tasks)? {
            Wait::Futex(word) if !is_main && data_of_node().iter().any(|range| range.contains(&word)) => {
                INSPECTOR.store(task.tid, Ordering::Relaxed);
                return Ok(true);
            }
            Wait::Futex(_) | Wait::Unknown if !is_main => {}
            _ => {
                self.suspect = self.suspect.filter(|(tid, _)| *tid != task.tid);
                return Ok(false);
            }
        }
        let (suspect, since) = *self.suspect.get_or_insert_with(|| (task.tid, Instant::now()));
        let is_it = suspect == task.tid && since.elapsed() > LONGER_THAN_A_MOMENT;
        if is_it {
            INSPECTOR.store(suspect, Ordering::Relaxed);
        }
        Ok(is_it)
    }
}

/// What a thread waits for.
enum Wait {
    Futex(usize),
    Other,
    Unknown,
}

fn wait_of(task: &Task, tasks: &Tasks) -> Result<Wait> {
    // SAFETY: an integer.
    if unsafe { libc::prctl(libc::PR_GET_DUMPABLE) } != 1 {
        // The file is root's then, since the process has changed its ids.
        return Ok(Wait::Unknown);
    }
    Ok(match tasks.system_call(task.shown)? {
        Some((libc::SYS_futex, word)) => Wait::Futex(word),
        _ => Wait::Other,
    })
}

/// Where Node has its static data. Allocates the first time.
fn data_of_node() -> &'static [Range<usize>] {
    static DATA: OnceLock<Vec<Range<usize>>> = OnceLock::new();
    DATA.get_or_init(|| {
        symbol(b"node_module_register\0").map_or_else(Vec::new, |code| data_beside(code as usize))
    })
}

/// Sends the signal to a thread, for which the next slot is.
fn call(count: &Cell<usize>, tid: i32, shown: i32, signal: c_int) -> std::result::Result<(), ThreadFailure> {
    let Some(slot) = SLOTS.get(count.get()) else {
        return Err(ThreadFailure::of(Failure::new("tgkill", Errno::E2BIG), shown));
    };
    slot.tid.store(tid, Ordering::Relaxed);
    slot.shown.store(shown, Ordering::Relaxed);
    slot.may_rest.store(false, Ordering::Relaxed);
    slot.state.store(state::CALLED, Ordering::Release);
    count.set(count.get() + 1);
    if let Err(errno) = tgkill(tid, signal) {
        slot.state.store(state::FREE, Ordering::Relaxed);
        // It ended between the listing and the signal.
        if errno != Errno::ESRCH {
            return Err(ThreadFailure::of(Failure::new("tgkill", errno), shown));
        }
    }
    Ok(())
}

fn wait_for(slot: &Slot, deadline: Instant) -> std::result::Result<(), ThreadFailure> {
    let mut round = 0;
    while slot.state.load(Ordering::Acquire) == state::CALLED {
        let failure =
            |errno| Err(ThreadFailure::of(Failure::new("tgkill", errno), slot.shown.load(Ordering::Relaxed)));
        match tgkill(slot.tid.load(Ordering::Relaxed), 0) {
            // It ended; nobody else writes the slot any more.
            Err(Errno::ESRCH) => slot.state.store(state::FREE, Ordering::Relaxed),
            Err(errno) => return failure(errno),
            Ok(()) if Instant::now() > deadline => return failure(Errno::ETIMEDOUT),
            Ok(()) => pause(&mut round),
        }
    }
    Ok(())
}

static SIGNAL: OnceLock<Result<c_int>> = OnceLock::new();

/// What is done in the handler, with all signals blocked, where a timer has sent the signal.
static ON_TIMER: OnceLock<fn()> = OnceLock::new();

/// Says, once, what that is.
pub fn on_timer(act: fn()) {
    ON_TIMER.get_or_init(|| act);
}

/// The first real-time signal, from the last, that nobody uses, with our handler: it stays for the process's life,
/// as a signal may arrive late, and its default would be the end.
fn install_handler() -> Result<c_int> {
    *SIGNAL.get_or_init(|| {
        let free = (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev().find(|signal| is_default(*signal));
        let Some(signal) = free else {
            return Err(Failure::new("rt_sigaction", Errno::EBUSY));
        };
        set_handler(signal).map(|()| signal)
    })
}

fn set_handler(signal: c_int) -> Result<()> {
    // SAFETY: the structure is plain data, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as *const () as usize;
    // ONSTACK: a thread of another language's runtime may have a stack too small for handlers.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the set is ours.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    // SAFETY: the action is complete, and its handler is async-signal-safe.
    let result = unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    Errno::result(result).map(drop).map_err(|errno| Failure::new("rt_sigaction", errno))
}

/// Lets a thread that keeps all other signals blocked be parked.
pub fn unblock_signal() {
    // Where there is none, nobody is parked.
    let Ok(signal) = install_handler() else { return };
    let mut set = MaybeUninit::uninit();
    // SAFETY: the set is ours.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: it has been filled in.
    unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    // SAFETY: as above.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut()) };
}

/// In a copy whose handlers have been cleared: it may be parked as this process is.
pub fn restore_handler() {
    if let Some(Ok(signal)) = SIGNAL.get() {
        let _ = set_handler(*signal);
    }
}

fn is_default(signal: c_int) -> bool {
    // SAFETY: the structure is plain data, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the call only writes what is there into `action`.
    let result = unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    result == 0 && action.sa_sigaction == libc::SIG_DFL
}

extern "C" fn on_signal(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = Errno::last_raw();
    // SAFETY: the kernel has filled it in.
    if unsafe { (*info).si_code } == libc::SI_TIMER {
        if let Some(act) = ON_TIMER.get() {
            act();
        }
        Errno::set_raw(errno);
        return;
    }
    let tid = gettid();
    let mut slots = SLOTS.iter().enumerate().take_while(|(_, slot)| slot.tid.load(Ordering::Acquire) != 0);
    let slot = slots.find(|(_, slot)| {
        slot.tid.load(Ordering::Relaxed) == tid && slot.state.load(Ordering::Acquire) == state::CALLED
    });
    if let Some((place, slot)) = slot {
        slot.frame.store(arch::signal_frame(info, context), Ordering::Relaxed);
        slot.context.store(context, Ordering::Relaxed);
        slot.thread_pointer.store(arch::thread_pointer(), Ordering::Relaxed);
        slot.handler.store(&raw const errno as usize, Ordering::Relaxed);
        // Not where the call has been taken back meanwhile.
        if slot
            .state
            .compare_exchange(state::CALLED, state::PARKED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            let may_rest = obey(slot);
            wake_next(&SLOTS[place + 1..]);
            if may_rest {
                rest(tid, arch::signal_frame(info, context), context);
            }
        }
    }
    Errno::set_raw(errno);
}

/// Whether the thread may rest then.
fn obey(slot: &Slot) -> bool {
    loop {
        match slot.state.load(Ordering::Acquire) {
            state::PARKED => wait_while(&slot.state, state::PARKED),
            state::ORDERED => {
                let order = ORDER.load(Ordering::Acquire);
                // SAFETY: the order was published before the state, and lives until we answer.
                if let Some(order) = unsafe { order.as_ref() } {
                    order.result.set(match order.rehearsal {
                        Some(stack) => attempt(stack, CloneFlags::empty(), order.actions),
                        None => perform(order.actions),
                    });
                }
                slot.state.store(state::PARKED, Ordering::Release);
            }
            _ => break,
        }
    }
    let may_rest = slot.may_rest.load(Ordering::Relaxed);
    slot.state.store(state::FREE, Ordering::Release);
    may_rest
}

/// Goes on waiting, where the interrupted thread waits without a limit. Of what it has interrupted the frame tells for as long,
/// so that a copy's thread can be made of it; of signals the thread takes ours alone, and who is parked while it rests is parked
/// on top of that.
fn rest(tid: i32, frame: *mut c_void, context: *mut c_void) {
    // SAFETY: the context is that of this handler.
    let has_other_stack =
        unsafe { (*context.cast::<libc::ucontext_t>()).uc_stack.ss_flags } & libc::SS_DISABLE == 0;
    if has_other_stack {
        // It may have no room for another frame.
        return;
    }
    if RESTING.iter().any(|slot| slot.tid.load(Ordering::Relaxed) == tid) {
        // It does already, and was called when its place was not to be seen yet: a copy would have it twice.
        return;
    }
    // SAFETY: the context is that of this handler.
    let Some(wait) = (unsafe { arch::unlimited_wait(context) }) else { return };
    let is_taken =
        |slot: &&Slot| slot.tid.compare_exchange(0, tid, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    let Some(slot) = RESTING.iter().find(is_taken) else { return };
    slot.frame.store(frame, Ordering::Relaxed);
    slot.context.store(context, Ordering::Relaxed);
    slot.thread_pointer.store(arch::thread_pointer(), Ordering::Relaxed);
    slot.state.store(state::RESTING, Ordering::Release);
    let generation = GENERATION.load(Ordering::Relaxed);
    unblock_signal();
    let [first, second, third, fourth, fifth, sixth] = wait.arguments;
    // SAFETY: the call that the thread was in, whose arguments are alive as long as it waits.
    let result = unsafe { libc::syscall(wait.call, first, second, third, fourth, fifth, sixth) };
    let result = if result == -1 { -libc::c_long::from(Errno::last_raw()) } else { result };
    // A copy's thread may have been made of what is parked on top of this.
    while GENERATION.load(Ordering::Relaxed) == generation {
        let change = |from, to| slot.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        match change(state::RESTING, state::FREE) {
            Ok(_) | Err(state::FREE) => {
                slot.tid.store(0, Ordering::Release);
                break;
            }
            Err(state::HELD) => drop(change(state::HELD, state::AWAKE)),
            Err(state) => wait_while(&slot.state, state),
        }
    }
    // SAFETY: the context is that of this handler, whose thread would be told so by the kernel.
    unsafe { arch::return_from(&wait, context, result) };
}

fn gettid() -> i32 {
    nix::unistd::gettid().as_raw()
}

fn tgkill(tid: i32, signal: c_int) -> std::result::Result<(), Errno> {
    // SAFETY: integers only.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, Pid::this().as_raw(), tid, signal) };
    Errno::result(result).map(drop)
}

fn wait_while(word: &AtomicU32, value: u32) {
    let no_timeout: *const libc::timespec = ptr::null();
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word is a static's, and there is no timeout.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, no_timeout) };
}

fn wake(word: &AtomicU32) {
    // SAFETY: the word is a static's.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
}

/// Leaves the processor to others: at first only for a turn, then for a millisecond.
fn pause(round: &mut u32) {
    *round += 1;
    if *round < 100 {
        std::thread::yield_now();
    } else {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "in a test a panic is how it fails")]

    use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
    use std::sync::{Arc, Mutex, PoisonError};
    use std::thread::{self, JoinHandle};
    use std::time::{Duration, Instant};

    use super::{Parked, RESTING, gettid, state, wake};

    /// Each parks the other's threads.
    static ONE_BY_ONE: Mutex<()> = Mutex::new(());

    /// What a thread waits on, which then says that it has come.
    #[derive(Default)]
    struct Gate {
        word: AtomicU32,
        tid: AtomicI32,
        passed: AtomicU32,
    }

    impl Gate {
        fn pass(&self) {
            let none = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
            // SAFETY: the structure is complete; Rust has given the thread one.
            unsafe { libc::sigaltstack(&raw const none, std::ptr::null_mut()) };
            self.tid.store(gettid(), Ordering::Release);
            while self.word.load(Ordering::Acquire) == 0 {
                let operation = libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG;
                let (no_timeout, nothing) = (std::ptr::null::<libc::timespec>(), 0_usize);
                // SAFETY: a word of the gate's, without a limit.
                unsafe {
                    libc::syscall(
                        libc::SYS_futex,
                        self.word.as_ptr(),
                        operation,
                        0,
                        no_timeout,
                        nothing,
                        libc::FUTEX_BITSET_MATCH_ANY,
                    )
                };
            }
            self.passed.store(1, Ordering::Release);
        }

        fn open(&self) {
            self.word.store(1, Ordering::Release);
            wake(&self.word);
        }

        fn slot(&self) -> Option<&'static super::Slot> {
            let tid = self.tid.load(Ordering::Acquire);
            RESTING.iter().find(|slot| slot.tid.load(Ordering::Relaxed) == tid)
        }

        fn state(&self) -> u32 {
            self.slot().map_or(state::FREE, |slot| slot.state.load(Ordering::Acquire))
        }
    }

    fn until(is_so: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < Duration::from_secs(30), "it does not come about");
            thread::yield_now();
        }
    }

    fn waits(gate: &Gate) -> bool {
        let call = format!("/proc/self/task/{}/syscall", gate.tid.load(Ordering::Acquire));
        let futex = format!("{} {:?} ", libc::SYS_futex, gate.word.as_ptr());
        std::fs::read_to_string(call).is_ok_and(|text| text.starts_with(&futex))
    }

    /// A thread that waits at a gate, and its tid.
    fn waiting() -> (Arc<Gate>, JoinHandle<()>, i32) {
        let gate = Arc::new(Gate::default());
        let thread = thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.pass()
        });
        until(|| gate.tid.load(Ordering::Acquire) != 0 && waits(&gate));
        let tid = gate.tid.load(Ordering::Acquire);
        (gate, thread, tid)
    }

    /// Lets go what has been parked by a signal, and waits until this thread rests.
    fn rest(parked: Parked, gate: &Gate, tid: i32) {
        parked.let_rest(|thread| thread.tid == tid);
        drop(parked);
        until(|| gate.state() == state::RESTING && waits(gate));
    }

    fn park() -> Parked {
        Parked::all_settled(|_| (), |_| true).expect("all threads can be parked")
    }

    #[test]
    fn a_thread_that_rests_is_held_without_being_woken_and_goes_on_when_what_it_waits_for_comes() {
        let _turn = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (gate, thread, tid) = waiting();

        // Parked by a signal, and told that it may rest.
        let parked = park();
        let before = parked.interrupted().find(|thread| thread.tid == tid).expect("it is parked");
        assert_eq!(gate.state(), state::FREE);
        rest(parked, &gate, tid);

        // Held, and let go.
        for _ in 0..3 {
            let parked = park();
            assert_eq!(gate.state(), state::HELD);
            assert!(!parked.parked().any(|slot| slot.tid.load(Ordering::Relaxed) == tid), "it had a signal");
            let held = parked.interrupted().find(|thread| thread.tid == tid).expect("it is held");
            assert_eq!((held.frame, held.context), (before.frame, before.context));
            assert_eq!(held.thread_pointer, before.thread_pointer);
            drop(parked);
            assert_eq!(gate.state(), state::RESTING);
        }

        // A signal parks it on top of that, as one does that was on its way, and it rests as it did.
        let parked = Parked::all().expect("all threads can be parked");
        assert!(parked.parked().any(|slot| slot.tid.load(Ordering::Relaxed) == tid));
        rest(parked, &gate, tid);
        assert_eq!(RESTING.iter().filter(|slot| slot.tid.load(Ordering::Relaxed) == tid).count(), 1);

        // What it waits for comes while it is held.
        let parked = park();
        gate.open();
        until(|| gate.state() == state::AWAKE);
        assert!(parked.interrupted().any(|thread| thread.tid == tid));
        assert_eq!(gate.passed.load(Ordering::Acquire), 0, "it has gone on");
        drop(parked);
        thread.join().expect("it ends");
        assert_eq!(gate.passed.load(Ordering::Acquire), 1);
        assert!(gate.slot().is_none());
    }

    #[test]
    fn a_thread_that_stands_badly_when_it_rests_is_let_go() {
        let _turn = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (gate, thread, tid) = waiting();
        rest(park(), &gate, tid);

        let parked = Parked::all_settled(
            |_| (),
            |thread| {
                let rests = gate.state() == state::HELD;
                if thread.tid == tid && rests {
                    gate.open();
                }
                thread.tid != tid || !rests
            },
        );
        let parked = parked.expect("all threads can be parked");
        assert_ne!(gate.state(), state::HELD);
        drop(parked);
        thread.join().expect("it ends");
    }
}
