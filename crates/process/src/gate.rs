//! Where a child waits for what only its parent can do.
//!
//! # Safety
//!
//! futex(2) on a word that both see.
#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use linux_clone_syscalls::{Errno, Failure, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const CLOSED: u32 = 0;
const ASKED: u32 = 1;
const OPEN: u32 = 2;
const REFUSED: u32 = 3;
const LEFT: u32 = 4;

/// How often the child looks whether its parent is alive.
static MOMENT: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 };

#[derive(Debug, Default)]
pub struct Gate {
    state: AtomicU32,
}

impl Gate {
    /// By the child: asks, and waits for the answer. ECANCELED: the parent has failed, and knows why.
    pub fn pass(&self, parent: BorrowedFd<'_>) -> Result<()> {
        // Some parents do not wait to be asked.
        let _ = self.state.compare_exchange(CLOSED, ASKED, Ordering::AcqRel, Ordering::Relaxed);
        self.wake();
        loop {
            match self.state.load(Ordering::Acquire) {
                OPEN => return Ok(()),
                REFUSED => return Err(Failure::new("write", Errno::ECANCELED)),
                state => self.wait_while(state, &raw const MOMENT),
            }
            let mut events = [PollFd::new(parent, PollFlags::POLLIN)];
            if poll(&mut events, PollTimeout::ZERO).is_ok_and(|ended| ended > 0) {
                return Err(Failure::new("write", Errno::ECANCELED));
            }
        }
    }

    /// By the parent: whether the child has asked, rather than ended before.
    pub fn is_asked(&self) -> bool {
        loop {
            match self.state.load(Ordering::Acquire) {
                CLOSED => self.wait_while(CLOSED, std::ptr::null()),
                state => return state == ASKED,
            }
        }
    }

    /// By the parent: the child may go on, or not.
    pub fn answer(&self, is_done: bool) {
        self.set(if is_done { OPEN } else { REFUSED });
    }

    /// There is no child any more: nobody is to wait for its question.
    pub fn leave(&self) {
        // One that has asked is answered, and over.
        let _ = self.state.compare_exchange(CLOSED, LEFT, Ordering::AcqRel, Ordering::Relaxed);
        self.wake();
    }

    fn set(&self, state: u32) {
        self.state.store(state, Ordering::Release);
        self.wake();
    }

    fn wait_while(&self, state: u32, at_most: *const libc::timespec) {
        // SAFETY: a word of memory that both have mapped, and a time, or none.
        unsafe { libc::syscall(libc::SYS_futex, self.state.as_ptr(), libc::FUTEX_WAIT, state, at_most) };
    }

    fn wake(&self) {
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_futex, self.state.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
    }
}
