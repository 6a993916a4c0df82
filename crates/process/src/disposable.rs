//! Processes that are thrown away.
//!
//! # Safety
//!
//! Each child runs on a copy of our memory, or on a stack of its own while we are suspended, and does
//! nothing but system calls on what was prepared.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use linux_clone_syscalls::clone::{Copied, copy};
use linux_clone_syscalls::{CloneFlags, Errno, Failure, Pid, Result};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::child::perform;
use crate::duplicate::keep_from_fork;
use crate::plan::Action;
use crate::signals::Blocked;

const MOMENT: Duration = Duration::from_micros(100);

/// A copy of this process with one thread and all signals blocked, killed and reaped when it is dropped.
#[derive(Debug)]
pub struct Disposable {
    pid: Pid,
    pidfd: Option<OwnedFd>,
}

impl Disposable {
    /// Starts `task` on `data` in the copy, which ends when the task returns, or with the calling thread.
    ///
    /// The task does what [`crate::child`] may do: system calls on prepared data.
    pub fn start<T>(flags: CloneFlags, task: fn(&T), data: &T) -> Result<Self> {
        refuse_to_be_init()?;
        let parent = Pid::this();
        keep_from_fork();
        let _blocked = Blocked::all()?;
        // SAFETY: the callers' flags share neither memory nor signal handlers, and the child ends below.
        match unsafe { copy(flags) }? {
            Copied::Parent { pid, pidfd } => Ok(Self { pid, pidfd }),
            Copied::Child => {
                // SAFETY: integers only.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                // 0 is a parent in another pid namespace; another number is who inherits orphans, the parent being gone.
                if ![parent.as_raw(), 0].contains(&Pid::parent().as_raw()) {
                    // SAFETY: as below.
                    unsafe { libc::_exit(1) }
                }
                task(data);
                // SAFETY: the copy ends here, without destructors or what was registered for an exit.
                unsafe { libc::_exit(0) }
            }
        }
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Since Linux 5.2.
    pub fn pidfd(&self) -> Result<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd).ok_or(Failure::new("clone", Errno::ENOSYS))
    }

    /// Waits until `done` says so, or it has ended: whether `done` came first.
    pub fn wait_until(&self, done: impl Fn() -> bool) -> bool {
        loop {
            // In this order: what it did before it ended is seen.
            let ended = status_of(self.pid, libc::WNOHANG).is_some();
            if done() {
                return true;
            }
            if ended {
                return false;
            }
            std::thread::sleep(MOMENT);
        }
    }

    /// Waits for its end: whether it came to the end of its task, rather than being killed.
    pub fn finish(self) -> bool {
        status_of(self.pid, 0) == Some(0)
    }
}

/// A child's exit status, or the signal that ended it, negative; it stays to be reaped. None where it runs, or is reaped.
pub fn status_of(pid: Pid, options: c_int) -> Option<c_int> {
    // SAFETY: the structure is plain data, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let how = libc::WEXITED | libc::WNOWAIT | libc::__WALL | options;
    loop {
        // SAFETY: the call only writes what it found into `info`.
        let result = unsafe { libc::waitid(libc::P_PID, pid.as_raw().cast_unsigned(), &raw mut info, how) };
        if Errno::result(result) != Err(Errno::EINTR) {
            break;
        }
    }
    // SAFETY: waitid(2) has filled in these, or has left them zero.
    let (pid, status) = unsafe { child_of(&info) };
    (pid != 0).then_some(if info.si_code == libc::CLD_EXITED { status } else { -status })
}

/// # Safety
///
/// `info` is what waitid(2) wrote, or all zeros.
unsafe fn child_of(info: &libc::siginfo_t) -> (libc::pid_t, c_int) {
    // SAFETY: as the caller says.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as the caller says.
    let status = unsafe { info.si_status() };
    (pid, status)
}

impl Drop for Disposable {
    fn drop(&mut self) {
        // It is our child and not reaped yet, so that no other process can have its pid; pidfd_send_signal(2), unlike
        // kill(2), may be forbidden by a filter.
        let _ = kill(self.pid, Signal::SIGKILL);
        reap(self.pid);
    }
}

/// Waits for the end of a child that sends no SIGCHLD, which `__WALL` includes: whether it ended with status 0.
pub fn reap(pid: Pid) -> bool {
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL)) {
            Err(Errno::EINTR) => {}
            status => return matches!(status, Ok(WaitStatus::Exited(_, 0))),
        }
    }
}

/// A stack for one child, or one thread's rehearsal, at a time.
#[derive(Debug)]
pub struct Stack {
    bottom: NonNull<c_void>,
}

/// As many as one start needs, mostly; without a lock, which a parked thread might hold.
static SPARES: [AtomicPtr<c_void>; 2] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];

impl Stack {
    const LENGTH: NonZeroUsize = NonZeroUsize::MIN.saturating_add((64 << 10) - 1);

    /// One that was used before, if there is any: mapping it, and the pages that are written, takes as long as some of the calls
    /// that are made on it.
    pub fn new() -> Result<Self> {
        let spare =
            SPARES.iter().find_map(|place| NonNull::new(place.swap(ptr::null_mut(), Ordering::Acquire)));
        if let Some(bottom) = spare {
            return Ok(Self { bottom });
        }
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel picks the address, so that nothing of ours is mapped over.
        let memory = unsafe {
            mmap_anonymous(None, Self::LENGTH, protection, MapFlags::MAP_PRIVATE | MapFlags::MAP_STACK)
        };
        memory.map(|bottom| Self { bottom }).map_err(|errno| Failure::new("mmap", errno))
    }

    /// Its lowest address and its length, as clone3(2) has them.
    pub fn range(&self) -> (u64, u64) {
        (self.bottom.as_ptr() as u64, Self::LENGTH.get() as u64)
    }

    pub fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping, aligned to a page.
        unsafe { self.bottom.as_ptr().byte_add(Self::LENGTH.get()) }
    }

    fn middle(&self) -> *mut c_void {
        // SAFETY: within the mapping, aligned to a page.
        unsafe { self.bottom.as_ptr().byte_add(Self::LENGTH.get() / 2) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let bottom = self.bottom.as_ptr();
        let is_kept = SPARES.iter().any(|place| {
            place.compare_exchange(ptr::null_mut(), bottom, Ordering::Release, Ordering::Relaxed).is_ok()
        });
        if is_kept {
            return;
        }
        // SAFETY: the mapping is ours, has this length, and whoever ran on it has ended.
        let _ = unsafe { munmap(self.bottom, Self::LENGTH.get()) };
    }
}

/// What [`attempt`]'s child is given, in memory that it shares with us.
struct Attempt<'a> {
    actions: &'a [Action<'a>],
    result: Cell<Result<()>>,
    /// For a child of the child's.
    second_stack: *mut c_void,
}

/// Tries `actions` in a child that ends at once; `flags` are for namespaces. Neither allocates nor locks, so that
/// a parked thread can do it too.
///
/// The child shares our memory, so what it costs does not grow with that; we are suspended until it has ended.
pub fn attempt(stack: &Stack, flags: CloneFlags, actions: &[Action<'_>]) -> Result<()> {
    attempt_by(attempt_in_child, stack, flags, actions)
}

/// [`attempt`] by a child that shares root and working directory with another one, as threads do.
pub fn attempt_sharing_places(stack: &Stack, actions: &[Action<'_>]) -> Result<()> {
    attempt_by(attempt_in_second_child, stack, CloneFlags::empty(), actions)
}

fn attempt_by(
    entry: extern "C" fn(*mut c_void) -> c_int,
    stack: &Stack,
    flags: CloneFlags,
    actions: &[Action<'_>],
) -> Result<()> {
    let second_stack = stack.middle();
    let attempt = Attempt { actions, result: Cell::new(Ok(())), second_stack };
    refuse_to_be_init()?;
    let _blocked = Blocked::all()?;
    #[allow(clippy::cast_possible_truncation, reason = "the flags of namespaces have 32 bits")]
    let flags = flags.union(CloneFlags::VM).union(CloneFlags::VFORK).bits() as i32;
    let data = (&raw const attempt).cast_mut().cast();
    // SAFETY: the stack is not in use, and what the child reads and writes outlives it: VFORK suspends us until its end.
    let pid = unsafe { libc::clone(entry, stack.top(), flags, data) };
    let pid = Errno::result(pid).map_err(|errno| Failure::new("clone", errno))?;
    if !reap(Pid::from_raw(pid)) {
        // It was killed, perhaps while it wrote its result.
        return Err(Failure::new("clone", Errno::ESRCH));
    }
    attempt.result.get()
}

extern "C" fn attempt_in_child(data: *mut c_void) -> c_int {
    // SAFETY: `attempt` passes its own, and is suspended.
    let attempt = unsafe { &*data.cast::<Attempt<'_>>() };
    attempt.result.set(perform(attempt.actions));
    0
}

extern "C" fn attempt_in_second_child(data: *mut c_void) -> c_int {
    // SAFETY: `attempt_by` passes its own, and is suspended.
    let attempt = unsafe { &*data.cast::<Attempt<'_>>() };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FS;
    // SAFETY: nobody is on that half of the stack, and VFORK suspends us until the child's end.
    let pid = unsafe { libc::clone(attempt_in_child, attempt.second_stack, flags, data) };
    match Errno::result(pid) {
        Ok(pid) if reap(Pid::from_raw(pid)) => (),
        Ok(_) => attempt.result.set(Err(Failure::new("clone", Errno::ESRCH))),
        Err(errno) => attempt.result.set(Err(Failure::new("clone", errno))),
    }
    0
}

/// Whether a child may share our memory: EINVAL where it would have another time namespace, before Linux 6.2.
pub fn can_share_memory() -> Result<()> {
    extern "C" fn end(_: *mut c_void) -> c_int {
        0
    }
    let mut stack = [0_u128; 256];
    let flags = CloneFlags::VM.union(CloneFlags::VFORK);
    let none = ptr::null_mut();
    #[allow(clippy::cast_possible_truncation, reason = "the flags of clone(2) have 32 bits")]
    let flags = flags.bits() as i32;
    // SAFETY: the child ends at once, and we are suspended until then.
    let pid = unsafe { libc::clone(end, stack.as_mut_ptr_range().end.cast(), flags, none) };
    let pid = Errno::result(pid).map_err(|errno| Failure::new("clone", errno))?;
    reap(Pid::from_raw(pid));
    Ok(())
}

/// After `unshare(CLONE_NEWPID)` the next child is pid 1 of the new namespace, which ends with it: a process that is
/// thrown away must not be that child. The link cannot be read as long as there is no pid 1.
fn refuse_to_be_init() -> Result<()> {
    let mut target = [0_u8; 64];
    let path = c"/proc/thread-self/ns/pid_for_children";
    // SAFETY: a C string, and a buffer as long as we say.
    let length = unsafe { libc::readlink(path.as_ptr(), target.as_mut_ptr().cast(), target.len()) };
    // ENOENT is also what is said where there is no /proc: then the thread's own namespace cannot be seen either.
    if Errno::result(length) == Err(Errno::ENOENT) && is_there(c"/proc/thread-self/ns/pid") {
        return Err(Failure::new("clone", Errno::EBUSY));
    }
    Ok(())
}

fn is_there(path: &CStr) -> bool {
    // SAFETY: a C string.
    unsafe { libc::access(path.as_ptr(), libc::F_OK) == 0 }
}
