//! What parent and copy tell each other, in memory that both see.
//!
//! # Safety
//!
//! futex(2) on words of that memory.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::failed::Failed;
use crate::gate::Gate;

const BUSY: u32 = 0;
const DONE: u32 = 1;
const FAILED: u32 = 2;

/// How long a look at the other's life may take to be repeated.
static MOMENT: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 5_000_000 };

#[derive(Debug, Default)]
pub struct Talk {
    /// Where the copy waits for its id maps.
    pub gate: Gate,
    state: AtomicU32,
    failed: Cell<Option<Failed>>,
}

impl Talk {
    pub fn succeed(&self) {
        self.end(DONE);
    }

    pub fn fail(&self, failed: Failed) {
        self.failed.set(Some(failed));
        self.end(FAILED);
    }

    fn end(&self, state: u32) {
        self.state.store(state, Ordering::Release);
        wake(&self.state);
    }

    /// By the parent: what came of it, if that is known after a moment.
    pub fn result(&self) -> Option<Result<(), Failed>> {
        wait_while(&self.state, BUSY);
        match self.state.load(Ordering::Acquire) {
            BUSY => None,
            DONE => Some(Ok(())),
            _ => self.failed.get().map(Err),
        }
    }
}

fn wait_while(word: &AtomicU32, value: u32) {
    // SAFETY: a word of memory that both have mapped, and a time.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &raw const MOMENT) };
}

fn wake(word: &AtomicU32) {
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}
