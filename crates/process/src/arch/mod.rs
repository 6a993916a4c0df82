//! What differs from one processor to the next: the stack pointer, the thread pointer, and a signal's frame.
//!
//! # Safety
//!
//! A word is read that a parked thread waits on.
#![allow(unsafe_code)]

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod other;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use aarch64::{
    clone, clone3, clone3_calling, resume, return_from, signal_frame, stack_pointer, thread_pointer,
    unlimited_wait, was_in_system_call,
};
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub use other::{
    clone, clone3, clone3_calling, resume, return_from, signal_frame, stack_pointer, thread_pointer,
    unlimited_wait, was_in_system_call,
};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{
    clone, clone3, clone3_calling, resume, return_from, signal_frame, stack_pointer, thread_pointer,
    unlimited_wait, was_in_system_call,
};

/// Whether this process can be copied on this processor.
pub const IS_SUPPORTED: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// Where a clone(2) is to write, and what it is to be; zero is none.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, reason = "nothing is made from them there")
)]
pub struct CloneArguments {
    pub flags: usize,
    pub stack_top: usize,
    pub parent_tid: usize,
    pub child_tid: usize,
    pub thread_pointer: usize,
}

/// A system call that a signal has interrupted, and that can be made in the thread's place.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, reason = "there is none there")
)]
pub struct Wait {
    pub call: libc::c_long,
    pub arguments: [usize; 6],
    /// How many bytes behind where it was interrupted the thread goes on.
    resumes_at: i64,
}

/// Whether a system call is one in which no lock is held: malloc changes mappings under its own, fork(3) holds it, and of futex(2) it is what
/// glibc waits for events with, rather than for a lock, or, under another lock, for others to leave a condition variable;
/// and as long as there is something to wait for, as who does not wait any more may have been given a lock. musl waits for
/// everything alike.
///
/// # Safety
///
/// The thread that makes the call waits in its handler.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
unsafe fn only_waits(call: i64, arguments: [i64; 3]) -> bool {
    const UNDER_A_LOCK: [libc::c_long; 8] = [
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
    ];
    if call != libc::SYS_futex {
        #[cfg(target_arch = "x86_64")]
        if [libc::SYS_fork, libc::SYS_vfork].contains(&call) {
            return false;
        }
        return !UNDER_A_LOCK.contains(&call);
    }
    let [word, operation, expected] = arguments;
    let command = operation & !i64::from(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME);
    let is_for_events = cfg!(not(target_env = "gnu")) || command == i64::from(libc::FUTEX_WAIT_BITSET);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an address, and 32 bits")]
    let (word, expected) = (word as usize as *const u32, expected as u32);
    // SAFETY: the thread waits on it, so that it is mapped.
    is_for_events && unsafe { word.read_volatile() } == expected
}

/// Which of futex(2)'s arguments says how long it may take; null: without a limit.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const LIMIT_OF_FUTEX: usize = 3;

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use super::only_waits;

    #[test]
    fn who_forks_or_changes_mappings_may_hold_a_lock_and_who_reads_does_not() {
        // SAFETY: none of them is futex(2), whose word is read.
        let waits = |call| unsafe { only_waits(call, [0; 3]) };
        for call in [libc::SYS_clone, libc::SYS_clone3, libc::SYS_mmap, libc::SYS_brk] {
            assert!(!waits(call), "{call}");
        }
        #[cfg(target_arch = "x86_64")]
        for call in [libc::SYS_fork, libc::SYS_vfork] {
            assert!(!waits(call), "{call}");
        }
        for call in [libc::SYS_read, libc::SYS_ppoll, libc::SYS_epoll_pwait] {
            assert!(waits(call), "{call}");
        }
    }
}
