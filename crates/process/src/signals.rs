//! Signals around the making of a child.
//!
//! # Safety
//!
//! System calls on structures that outlive them.
#![allow(unsafe_code)]

use std::ffi::c_int;

use linux_clone_syscalls::{Failure, Result};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

/// Blocks every signal of the calling thread until it is dropped.
///
/// A child inherits the mask, so that no handler of the parent's can run in it.
#[derive(Debug)]
pub struct Blocked {
    before: SigSet,
}

impl Blocked {
    pub fn all() -> Result<Self> {
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))
            .map_err(|errno| Failure::new("rt_sigprocmask", errno))?;
        Ok(Self { before })
    }

    /// Whether a signal will be blocked still when this is dropped.
    pub fn keeps(&self, signal: c_int) -> bool {
        // SAFETY: a set that the kernel gave us.
        unsafe { libc::sigismember(self.before.as_ref(), signal) == 1 }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // Restoring a mask that the kernel gave us cannot fail.
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// Bytes of the kernel's sigset_t, and its number of signals.
const LENGTH_OF_SET: usize = 8;
const COUNT: c_int = 64;

/// The kernel's struct sigaction, as long as the longest.
pub type KernelAction = [u64; 8];

/// rt_sigaction(2): the libc's function hides the signals that the libc itself uses.
pub fn rt_sigaction(signal: c_int, action: *const KernelAction, old: *mut KernelAction) {
    // SAFETY: the structures are as long as the kernel's, or null.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action, old, LENGTH_OF_SET) };
}

/// Every signal has its default effect, those that were ignored too.
pub fn default_effects() {
    let default = KernelAction::default();
    for signal in (1..=COUNT).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        rt_sigaction(signal, &raw const default, std::ptr::null_mut());
    }
}

/// No signal is blocked.
pub fn unblock_all() -> Result<()> {
    let (none, old): (u64, *mut u64) = (0, std::ptr::null_mut());
    // SAFETY: the set outlives the call. The libc's function would keep blocked what the libc itself uses.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, old, LENGTH_OF_SET)
    };
    linux_clone_syscalls::Errno::result(result)
        .map(drop)
        .map_err(|errno| Failure::new("rt_sigprocmask", errno))
}
