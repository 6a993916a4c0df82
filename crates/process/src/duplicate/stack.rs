//! The stack that the copy is born on, and the one that it goes on with.
//!
//! # Safety
//!
//! A mapping of our own, with a page in front of it that nobody may touch.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;

use linux_clone_syscalls::{Errno, Failure, Result};

use crate::maps::{Maps, page_size};

/// Mapped memory for a stack, unmapped when it is dropped.
#[derive(Debug)]
pub struct Stack {
    bottom: *mut c_void,
    length: usize,
}

impl Stack {
    /// `size` is rounded up to pages, and one page more guards its end.
    ///
    /// ENOMEM where there is not as much memory.
    pub fn new(size: usize) -> Result<Self> {
        let page = page_size();
        let mapped = size.max(1).checked_next_multiple_of(page).and_then(|size| size.checked_add(page));
        let length = mapped.ok_or(Failure::new("mmap", Errno::ENOMEM))?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: the kernel picks the address, so that nothing of ours is mapped over.
        let bottom =
            unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if bottom == libc::MAP_FAILED {
            return Err(Failure::new("mmap", Errno::last()));
        }
        let stack = Self { bottom, length };
        // SAFETY: the mapping's first page, which nothing is on.
        let result = unsafe { libc::mprotect(bottom, page, libc::PROT_NONE) };
        Errno::result(result).map(|_| stack).map_err(|errno| Failure::new("mprotect", errno))
    }

    /// Its lowest address, above the guard, and its length.
    pub fn usable(&self) -> (usize, usize) {
        (self.bottom as usize + page_size(), self.length - page_size())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody runs on it: the copy has left it.
        unsafe { libc::munmap(self.bottom, self.length) };
    }
}

/// Where the calling thread's stack ends, above everything that is on it. In a copy it is where it was.
pub fn end_of_own() -> Result<usize> {
    static END: OnceLock<Option<usize>> = OnceLock::new();
    let here = 0_u8;
    let end = END.get_or_init(|| Maps::of_this_process().of(&raw const here as usize).map(|range| range.end));
    end.ok_or(Failure::new("open", Errno::ENOENT))
}
