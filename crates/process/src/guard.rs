//! A copy that ends with all that it has started, however it ends: by itself, by a signal, or because its parent has ended.
//!
//! # Safety
//!
//! Calls on integers, and on descriptors that are held here.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

use linux_clone_syscalls::{
    Errno, Failure, Pid, PidfdFlags, PidfdSignalFlags, Result, pidfd_open, pidfd_send_signal,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::read;

use crate::park::Parked;
use crate::signals::unblock_all;
use crate::tasks::Tasks;

/// Those that end a process, unless it does something about them.
const ENDING: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];

/// What a shell adds to a signal for the status of a process that it has ended.
const SIGNALLED: c_int = 128;

/// How many milliseconds a process that was killed may take to be gone; one that hangs in the kernel is not waited for.
const PATIENCE: u16 = 1000;

/// The process that is guarded: its own copies are not.
static GUARDED: AtomicI32 = AtomicI32::new(0);

/// Where its signals are told.
static BELL: AtomicI32 = AtomicI32::new(-1);

fn is_guarded() -> bool {
    GUARDED.load(Ordering::Relaxed) == Pid::this().as_raw()
}

/// From here on this process ends what it has started and what that leaves behind, before it ends itself: at its exit, by a
/// signal that would end it at once, and when `parent` has ended. The last tells it by SIGTERM, for which it may listen, and
/// it ends after `grace` whatever it does.
///
/// Pid 1 of a pid namespace, of which the kernel ends everything else, ends by those signals too; the kernel has it ignore
/// them otherwise.
///
/// References: prctl(2) `PR_SET_CHILD_SUBREAPER`, `PR_SET_PDEATHSIG`; pid_namespaces(7).
///
/// # Errors
///
/// EMFILE, ENFILE; EAGAIN, ENOMEM: no thread can be made for it.
pub fn guard(parent: Option<OwnedFd>, grace: Duration) -> Result<()> {
    const STACK: usize = 64 << 10;
    const YES: libc::c_ulong = 1;
    // SAFETY: integers only.
    let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, YES) };
    Errno::result(result).map_err(|errno| Failure::new("prctl", errno))?;
    // SAFETY: integers only.
    let bell = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    let bell = Errno::result(bell).map_err(|errno| Failure::new("eventfd", errno))?;
    if let Some(parent) = &parent {
        // Of a process that is stopped the thread below could not go on; and where the parent has ended already, it is not sent.
        // SAFETY: integers only.
        let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::c_long::from(libc::SIGCONT)) };
        Errno::result(result).map_err(|errno| Failure::new("prctl", errno))?;
        let mut events = [PollFd::new(parent.as_fd(), PollFlags::POLLIN)];
        if poll(&mut events, PollTimeout::ZERO).is_ok_and(|ended| ended > 0) {
            end_by(Signal::SIGTERM);
        }
    }
    BELL.store(bell, Ordering::Relaxed);
    GUARDED.store(Pid::this().as_raw(), Ordering::Relaxed);
    // SAFETY: the kernel has just made it.
    let bell = unsafe { OwnedFd::from_raw_fd(bell) };
    let made = thread::Builder::new()
        .name("linux-clone".to_owned())
        .stack_size(STACK)
        .spawn(move || watch(&bell, parent.as_ref(), grace));
    made.map_err(|error| {
        Failure::new("clone", Errno::from_raw(error.raw_os_error().unwrap_or(libc::EAGAIN)))
    })?;
    for signal in ENDING.into_iter().filter(|signal| handler_of(*signal) != libc::SIG_IGN) {
        set_handler(signal, ring as *const () as libc::sighandler_t);
    }
    Ok(())
}

fn watch(bell: &OwnedFd, parent: Option<&OwnedFd>, grace: Duration) {
    let parent = parent.unwrap_or(bell);
    loop {
        let mut events = [bell, parent].map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
        if poll(&mut events, PollTimeout::NONE).is_err() {
            continue;
        }
        if events[0].any() == Some(true) {
            end_by(rung(bell));
        }
        if handler_of(Signal::SIGTERM) != ring as *const () as libc::sighandler_t {
            let _ = kill(Pid::this(), Signal::SIGTERM);
            thread::sleep(grace);
        }
        end_by(Signal::SIGTERM);
    }
}

extern "C" fn ring(signal: c_int) {
    if is_guarded() {
        let number = u64::from(signal.cast_unsigned());
        let bell: RawFd = BELL.load(Ordering::Relaxed);
        // SAFETY: eight bytes, to an eventfd.
        unsafe { libc::write(bell, (&raw const number).cast(), size_of::<u64>()) };
        return;
    }
    // SAFETY: integers only.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: an integer; it comes when the handler has returned.
    unsafe { libc::raise(signal) };
}

/// Several at once add up to something else, which ends it just as well.
fn rung(bell: &OwnedFd) -> Signal {
    let mut number = [0; size_of::<u64>()];
    let _ = read(bell, &mut number);
    let signal =
        i32::try_from(u64::from_ne_bytes(number)).ok().and_then(|number| Signal::try_from(number).ok());
    signal.filter(|signal| ENDING.contains(signal)).unwrap_or(Signal::SIGTERM)
}

fn end_by(signal: Signal) -> ! {
    end_descendants();
    set_handler(signal, libc::SIG_DFL);
    let _ = unblock_all();
    let _ = raise(signal);
    // Pid 1 goes on.
    // SAFETY: an integer.
    unsafe { libc::_exit(SIGNALLED + signal as c_int) }
}

/// Ends this process without destructors, or what was registered with atexit(3).
pub fn exit_now(code: i32) -> ! {
    if is_guarded() {
        end_descendants();
    }
    // SAFETY: an integer.
    unsafe { libc::_exit(code) }
}

/// What one of them leaves becomes a child of ours before it is gone: when there are no children, there are no descendants.
///
/// No other thread goes on meanwhile, which could start something else; it may hold the allocator's lock.
fn end_descendants() {
    if Pid::this().as_raw() == 1 {
        // The kernel does it.
        return;
    }
    let Ok(tasks) = Tasks::of_this_process() else { return };
    // One that does not answer hangs in the kernel, and starts nothing.
    mem::forget(Parked::all());
    while count(&tasks, kill_child) > 0 && count(&tasks, reap) > 0 {}
}

/// For how many children `what` is so.
fn count(tasks: &Tasks, what: fn(&OwnedFd) -> bool) -> usize {
    let mut count = 0;
    let _ = tasks.for_each(|task| {
        tasks.children(task.shown, |pid| count += usize::from(child(pid).is_some_and(|pidfd| what(&pidfd))))
    });
    count
}

/// None where it is no child any more: its pid may be another's.
fn child(pid: i32) -> Option<OwnedFd> {
    let pidfd = pidfd_open(Pid::from_raw(pid), PidfdFlags::empty()).ok()?;
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
    waitid(Id::PIDFd(pidfd.as_fd()), look).ok().map(|_| pidfd)
}

fn kill_child(pidfd: &OwnedFd) -> bool {
    pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL, PidfdSignalFlags::empty()).is_ok()
}

/// One that has come since then is killed too.
fn reap(pidfd: &OwnedFd) -> bool {
    kill_child(pidfd);
    let mut events = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    // By SIGCHLD, of one of them.
    let ended = loop {
        match poll(&mut events, PATIENCE) {
            Err(Errno::EINTR) => {}
            ended => break ended.is_ok_and(|ended| ended > 0),
        }
    };
    ended && waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::__WALL).is_ok()
}

fn handler_of(signal: Signal) -> libc::sighandler_t {
    // SAFETY: plain data, for which zero is valid.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: the call only writes what there is.
    unsafe { libc::sigaction(signal as c_int, ptr::null(), &raw mut action) };
    action.sa_sigaction
}

fn set_handler(signal: Signal, handler: libc::sighandler_t) {
    // SAFETY: as above.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the action is complete.
    unsafe { libc::sigaction(signal as c_int, &raw const action, ptr::null_mut()) };
}
