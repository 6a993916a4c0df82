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
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use linux_clone_syscalls::{CloneFlags, Errno, Failure, Pid, Result};

use crate::child::perform;
use crate::disposable::{Stack, attempt};
use crate::plan::Action;
use crate::signals::Blocked;
use crate::tasks::{Task, Tasks};
use crate::threads::ThreadFailure;

/// How long a thread may take to come: it may be in a system call that no signal interrupts.
const PATIENCE: Duration = Duration::from_secs(10);

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
        let mut parked = Self { count: 0, _blocked: Blocked::all()?, _turn: turn };
        let deadline = Instant::now() + PATIENCE;
        // A thread that is still running may start another: until a pass finds none that is new.
        while parked.call_new_ones(&tasks, signal)? {
            for slot in parked.slots() {
                wait_for(slot, deadline)?;
            }
        }
        Ok(parked)
    }

    /// Sends the signal to each thread that has not had it: whether there was one.
    fn call_new_ones(&mut self, tasks: &Tasks, signal: c_int) -> std::result::Result<bool, ThreadFailure> {
        let (own, before) = (gettid(), self.count);
        let mut inspector_seen = false;
        tasks.for_each(|task| {
            let known = SLOTS[..self.count].iter().any(|slot| slot.tid.load(Ordering::Relaxed) == task.tid);
            if task.tid == own || known || task.is_kernel_worker {
                return Ok(());
            }
            if blocks_everything(&task) && !inspector_seen && is_signal_inspector(&task) {
                inspector_seen = true;
                return Ok(());
            }
            let Some(slot) = SLOTS.get(self.count) else {
                return Err(ThreadFailure::of(Failure { call: "tgkill", errno: Errno::E2BIG }, task.shown));
            };
            slot.tid.store(task.tid, Ordering::Relaxed);
            slot.shown.store(task.shown, Ordering::Relaxed);
            slot.state.store(state::CALLED, Ordering::Release);
            self.count += 1;
            if let Err(errno) = tgkill(task.tid, signal) {
                slot.state.store(state::FREE, Ordering::Relaxed);
                // It ended between the listing and the signal.
                if errno != Errno::ESRCH {
                    return Err(ThreadFailure::of(Failure { call: "tgkill", errno }, task.shown));
                }
            }
            Ok(())
        })?;
        Ok(self.count > before)
    }

    fn slots(&self) -> &'static [Slot] {
        &SLOTS[..self.count]
    }

    /// Each parked thread tries `actions` in a child of its own, which has its credentials and filters.
    pub fn rehearse(&self, actions: &[Action<'_>], stack: &Stack) -> std::result::Result<(), ThreadFailure> {
        self.order(&Order { actions, rehearsal: Some(stack), result: Cell::new(Ok(())) })
    }

    /// Each parked thread performs `actions`.
    pub fn perform(&self, actions: &[Action<'_>]) -> std::result::Result<(), ThreadFailure> {
        self.order(&Order { actions, rehearsal: None, result: Cell::new(Ok(())) })
    }

    fn order(&self, order: &Order<'_>) -> std::result::Result<(), ThreadFailure> {
        ORDER.store(ptr::from_ref(order).cast_mut().cast(), Ordering::Release);
        let result = self
            .slots()
            .iter()
            .filter(|slot| slot.state.load(Ordering::Acquire) == state::PARKED)
            .try_for_each(|slot| {
                slot.state.store(state::ORDERED, Ordering::Release);
                wake(&slot.state);
                let mut round = 0;
                while slot.state.load(Ordering::Acquire) == state::ORDERED {
                    pause(&mut round);
                }
                order
                    .result
                    .get()
                    .map_err(|failure| ThreadFailure::of(failure, slot.shown.load(Ordering::Relaxed)))
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

/// Node's thread that turns SIGUSR1 into an inspector: since Node 24 it bears the name; before, it bears the program's.
fn is_signal_inspector(task: &Task) -> bool {
    matches!(task.name(), b"SignalInspector" | b"node" | b"MainThread")
}

fn wait_for(slot: &Slot, deadline: Instant) -> std::result::Result<(), ThreadFailure> {
    let mut round = 0;
    while slot.state.load(Ordering::Acquire) == state::CALLED {
        let failure = |errno| {
            Err(ThreadFailure::of(Failure { call: "tgkill", errno }, slot.shown.load(Ordering::Relaxed)))
        };
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
            return Err(Failure { call: "rt_sigaction", errno: Errno::EBUSY });
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
        Errno::result(result).map(|_| signal).map_err(|errno| Failure { call: "rt_sigaction", errno })
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
