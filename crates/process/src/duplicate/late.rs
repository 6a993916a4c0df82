//! Threads of a copy that are made late, as many a function is over before anybody would have had work for them.
//!
//! # Safety
//!
//! What the timer's signal does reads statics, and makes system calls.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering};

use linux_clone_syscalls::{Errno, Failure, Result};

use super::descriptors::replace_late_loops;
use super::{say_why, threads};
use crate::guard::exit_now;
use crate::park::{Interrupted, Parked, on_timer};
use crate::signals::Blocked;

/// How long they are put off: longer than a function takes that does little. Nothing counts on them for good before that, as what
/// is handed on to V8's threads, or to the pool's, is taken when they come.
const DELAY: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 3_000_000 };

/// Without so many a copy has them at once.
const MOST: usize = 64;

struct Late {
    tid: AtomicI32,
    frame: AtomicPtr<c_void>,
    context: AtomicPtr<c_void>,
    thread_pointer: AtomicUsize,
}

static LATE: [Late; MOST] = [const {
    Late {
        tid: AtomicI32::new(0),
        frame: AtomicPtr::new(ptr::null_mut()),
        context: AtomicPtr::new(ptr::null_mut()),
        thread_pointer: AtomicUsize::new(0),
    }
}; MOST];

/// How many are to be made.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// The kernel's number of what sends the signal.
static TIMER: AtomicI32 = AtomicI32::new(0);

/// To be called before the first copy is made.
pub fn learn() {
    on_timer(|| {
        if let Err(failure) = make() {
            say_why("go on", failure);
            exit_now(1);
        }
    });
}

/// Whether the threads, of which none holds a lock, will be made later: when the calling one asks for it by [`make_late_threads`], or
/// the timer does. All signals are blocked meanwhile.
pub fn put_off(late: impl Iterator<Item = Interrupted> + Clone, parked: &Parked) -> bool {
    let count = late.clone().count();
    let Some(signal) = parked.signal() else { return false };
    if count == 0 || count > MOST || start_timer(signal).is_err() {
        return false;
    }
    for (place, thread) in LATE.iter().zip(late) {
        place.tid.store(thread.tid, Ordering::Relaxed);
        place.frame.store(thread.frame, Ordering::Relaxed);
        place.context.store(thread.context.cast_mut(), Ordering::Relaxed);
        place.thread_pointer.store(thread.thread_pointer, Ordering::Relaxed);
    }
    COUNT.store(count, Ordering::Release);
    true
}

/// Whether there are any.
pub fn is_put_off() -> bool {
    COUNT.load(Ordering::Relaxed) != 0
}

/// Makes those that have been put off. To be called on the thread of which this process is a copy.
///
/// # Errors
///
/// EAGAIN: there are as many processes as RLIMIT_NPROC, or its cgroup, allows; EPERM: a filter of system calls does not.
pub fn make_late_threads() -> Result<()> {
    if !is_put_off() {
        return Ok(());
    }
    // Threads begin with the mask of who makes them, until they have returned from their signal's handler.
    let _blocked = Blocked::all()?;
    // SAFETY: the timer is ours.
    unsafe { libc::syscall(libc::SYS_timer_delete, TIMER.load(Ordering::Relaxed)) };
    make()
}

/// All signals are blocked.
fn make() -> Result<()> {
    // Before a thread of V8's could wake one.
    replace_late_loops();
    let count = COUNT.swap(0, Ordering::AcqRel);
    LATE[..count].iter().try_for_each(|place| {
        let thread = Interrupted {
            tid: place.tid.load(Ordering::Relaxed),
            frame: place.frame.load(Ordering::Relaxed),
            context: place.context.load(Ordering::Relaxed),
            thread_pointer: place.thread_pointer.load(Ordering::Relaxed),
        };
        // It held none when this process was cloned, also where what it waited for has come since.
        threads::revive(&thread, false)
    })
}

/// Has the kernel send the signal to the calling thread. The libc's functions may allocate.
fn start_timer(signal: c_int) -> Result<()> {
    // SAFETY: plain data, for which zero is valid.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = signal;
    event.sigev_notify_thread_id = nix::unistd::gettid().as_raw();
    // SAFETY: the structure is complete, and the kernel writes a number.
    let made = unsafe {
        libc::syscall(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, &raw const event, TIMER.as_ptr())
    };
    checked("timer_create", made)?;
    let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let once = libc::itimerspec { it_interval: never, it_value: DELAY };
    let nothing = ptr::null_mut::<libc::itimerspec>();
    // SAFETY: the structure is complete.
    let started = unsafe {
        libc::syscall(libc::SYS_timer_settime, TIMER.load(Ordering::Relaxed), 0, &raw const once, nothing)
    };
    checked("timer_settime", started)
}

fn checked(call: &'static str, result: libc::c_long) -> Result<()> {
    Errno::result(result).map(drop).map_err(|errno| Failure::new(call, errno))
}
