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

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io::Write;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use linux_clone_syscalls::{CloneFlags, Errno, Failure, Pid, Result};

use crate::child::perform;
use crate::disposable::{Stack, attempt};
use crate::failure::ThreadFailure;
use crate::plan::Action;
use crate::signals::Blocked;
use crate::tasks::{Task, Tasks};

/// How long a thread may take to come: it may be in a system call that no signal interrupts.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a thread may block every signal: longer than it takes to start another one.
const PATIENCE_WITH_THE_DEAF: Duration = Duration::from_secs(1);

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
}

static SLOTS: [Slot; CAPACITY] =
    [const { Slot { tid: AtomicI32::new(0), shown: AtomicI32::new(0), state: AtomicU32::new(state::FREE) } };
        CAPACITY];

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
    count: usize,
    tasks: Tasks,
    _blocked: Blocked,
    _turn: MutexGuard<'static, ()>,
}

impl Parked {
    /// Parks all threads but the calling one, those of the kernel, and Node's SignalInspector.
    pub fn all() -> std::result::Result<Self, ThreadFailure> {
        let signal = install_handler()?;
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let tasks = Tasks::of_this_process()?;
        // From here on nothing allocates; the signals of the process wait, as their handlers might.
        let mut parked = Self { count: 0, tasks, _blocked: Blocked::all()?, _turn: turn };
        let deadline = Instant::now() + PATIENCE;
        let mut inspector = Inspector::default();
        let (mut deaf_since, mut round) = (None, 0);
        // A thread that is still running may start another: until a pass finds none that is new.
        loop {
            let found = parked.call_new_ones(signal, &mut inspector)?;
            for slot in parked.slots() {
                wait_for(slot, deadline)?;
            }
            match found {
                Found::Nobody => return Ok(parked),
                Found::Called => deaf_since = None,
                Found::Deaf(thread) => {
                    if deaf_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE_WITH_THE_DEAF {
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
        &mut self,
        signal: c_int,
        inspector: &mut Inspector,
    ) -> std::result::Result<Found, ThreadFailure> {
        let Self { count, tasks, .. } = self;
        let (own, before) = (gettid(), *count);
        let mut deaf = None;
        tasks.for_each(|task| {
            let is_known = SLOTS[..*count].iter().any(|slot| {
                slot.tid.load(Ordering::Relaxed) == task.tid
                    && slot.state.load(Ordering::Acquire) != state::FREE
            });
            if task.tid == own || is_known || task.is_kernel_worker {
                return Ok(());
            }
            if blocks_everything(&task) {
                // For a moment, as a thread does that starts another, or for good.
                if !inspector.is(&task, tasks)? {
                    deaf = deaf.or(Some(task.shown));
                }
                return Ok(());
            }
            let Some(slot) = SLOTS.get(*count) else {
                return Err(ThreadFailure::of(Failure::new("tgkill", Errno::E2BIG), task.shown));
            };
            slot.tid.store(task.tid, Ordering::Relaxed);
            slot.shown.store(task.shown, Ordering::Relaxed);
            slot.state.store(state::CALLED, Ordering::Release);
            *count += 1;
            if let Err(errno) = tgkill(task.tid, signal) {
                slot.state.store(state::FREE, Ordering::Relaxed);
                // It ended between the listing and the signal.
                if errno != Errno::ESRCH {
                    return Err(ThreadFailure::of(Failure::new("tgkill", errno), task.shown));
                }
            }
            Ok(())
        })?;
        Ok(match deaf {
            _ if *count > before => Found::Called,
            Some(thread) => Found::Deaf(thread),
            None => Found::Nobody,
        })
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

    fn own_namespace(&self, link: &[u8]) -> Result<Option<u64>> {
        let (own, mut shown) = (gettid(), 0);
        self.tasks.for_each::<Failure>(|task| {
            if task.tid == own {
                shown = task.shown;
            }
            Ok(())
        })?;
        self.tasks.namespace(shown, link)
    }

    fn namespace(&self, slot: &Slot, link: &[u8]) -> Result<Option<u64>> {
        self.tasks.namespace(slot.shown.load(Ordering::Relaxed), link)
    }

    fn parked(&self) -> impl Iterator<Item = &'static Slot> {
        self.slots().iter().filter(|slot| slot.state.load(Ordering::Acquire) == state::PARKED)
    }

    fn slots(&self) -> &'static [Slot] {
        &SLOTS[..self.count]
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
        for slot in self.slots() {
            // A thread that never came finds nothing to do when its signal arrives.
            if slot
                .state
                .compare_exchange(state::CALLED, state::FREE, Ordering::AcqRel, Ordering::Acquire)
                .is_err()
                && slot.state.load(Ordering::Acquire) == state::PARKED
            {
                slot.state.store(state::RELEASED, Ordering::Release);
                wake(&slot.state);
            }
        }
        // Slots are used again: each thread has left its own before the turn is over.
        for slot in self.slots() {
            let mut round = 0;
            while slot.state.load(Ordering::Acquire) == state::RELEASED {
                pause(&mut round);
            }
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
    /// Who it is: nobody else can be.
    found: Option<i32>,
    /// Who may be it, and since when it has looked like it.
    suspect: Option<(i32, Instant)>,
}

/// Its tid, once it is known.
static INSPECTOR: AtomicI32 = AtomicI32::new(0);

impl Inspector {
    /// Whether it is this thread, which blocks every signal. Since Node 24 it bears its name. Before, it is the first of
    /// those (Node makes it before it runs any program) that waits on a semaphore, and goes on so while all others are
    /// parked.
    fn is(&mut self, task: &Task, tasks: &Tasks) -> Result<bool> {
        if let Some(found) = self.found {
            return Ok(found == task.tid);
        }
        if task.tid == INSPECTOR.load(Ordering::Relaxed) || task.name() == b"SignalInspector" {
            self.found = Some(task.tid);
            return Ok(true);
        }
        let is_main = task.tid == Pid::this().as_raw();
        if is_main || !waits_on_futex(task, tasks)? {
            self.suspect = self.suspect.filter(|(tid, _)| *tid != task.tid);
            return Ok(false);
        }
        let (suspect, since) = *self.suspect.get_or_insert_with(|| (task.tid, Instant::now()));
        let is_it = suspect == task.tid && since.elapsed() > LONGER_THAN_A_MOMENT;
        if is_it {
            INSPECTOR.store(suspect, Ordering::Relaxed);
            self.found = Some(suspect);
        }
        Ok(is_it)
    }
}

fn waits_on_futex(task: &Task, tasks: &Tasks) -> Result<bool> {
    let mut expected = [0; 8];
    let mut rest = &mut expected[..];
    // Eight bytes hold the number of every system call.
    let _ = write!(rest, "{}", libc::SYS_futex);
    Ok(tasks.system_call(task.shown)? == Some(expected))
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

/// The first real-time signal, from the last, that nobody uses, with our handler: it stays for the process's life,
/// as a signal may arrive late, and its default would be the end.
fn install_handler() -> Result<c_int> {
    static SIGNAL: OnceLock<Result<c_int>> = OnceLock::new();
    *SIGNAL.get_or_init(|| {
        let free = (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev().find(|signal| is_default(*signal));
        let Some(signal) = free else {
            return Err(Failure::new("rt_sigaction", Errno::EBUSY));
        };
        // SAFETY: the structure is plain data, for which zero is valid.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as *const () as usize;
        // ONSTACK: a thread of another language's runtime may have a stack too small for handlers.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        // SAFETY: the set is ours.
        unsafe { libc::sigfillset(&raw mut action.sa_mask) };
        // SAFETY: the action is complete, and its handler is async-signal-safe.
        let result = unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
        Errno::result(result).map(|_| signal).map_err(|errno| Failure::new("rt_sigaction", errno))
    })
}

fn is_default(signal: c_int) -> bool {
    // SAFETY: the structure is plain data, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the call only writes what is there into `action`.
    let result = unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    result == 0 && action.sa_sigaction == libc::SIG_DFL
}

extern "C" fn on_signal(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    let errno = Errno::last_raw();
    let tid = gettid();
    let slot = SLOTS.iter().take_while(|slot| slot.tid.load(Ordering::Acquire) != 0).find(|slot| {
        slot.tid.load(Ordering::Relaxed) == tid
            && slot
                .state
                .compare_exchange(state::CALLED, state::PARKED, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    });
    if let Some(slot) = slot {
        obey(slot);
    }
    Errno::set_raw(errno);
}

fn obey(slot: &Slot) {
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
    slot.state.store(state::FREE, Ordering::Release);
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
