//! Memory that a copy of this process and this process both see.
//!
//! # Safety
//!
//! One shared mapping for one value of plain data, unmapped when its owner goes.
#![allow(unsafe_code)]

use std::num::NonZeroUsize;
use std::ptr::NonNull;

use linux_clone_syscalls::{Failure, Result};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// A value in memory that is shared with the children made while it lives.
///
/// It is plain data: a child ends without dropping it. The parent reads what a child has written only
/// after the child's end, or after an atomic in the value that says so.
#[derive(Debug)]
pub struct Shared<T> {
    place: NonNull<T>,
}

impl<T> Shared<T> {
    pub fn new(value: T) -> Result<Self> {
        // SAFETY: the kernel picks the address, so that nothing of ours is mapped over.
        let memory = unsafe {
            mmap_anonymous(
                None,
                Self::length(),
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
            )
        };
        let place: NonNull<T> = memory.map_err(|errno| Failure::new("mmap", errno))?.cast();
        // SAFETY: the mapping is new, writable, aligned to a page and long enough.
        unsafe { place.write(value) };
        Ok(Self { place })
    }

    fn length() -> NonZeroUsize {
        NonZeroUsize::MIN.saturating_add(size_of::<T>())
    }

    pub fn get(&self) -> &T {
        // SAFETY: the value was written in `new`, and lives until the drop; what a child changes is in cells.
        unsafe { self.place.as_ref() }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, was made with this length, and borrows of it have ended.
        let _ = unsafe { munmap(self.place.cast(), Self::length().get()) };
    }
}
