//! How threads wake a loop, while what it is woken by is replaced.
//!
//! `uv_async_send` marks a handle as pending, unless it is already, and then writes to a descriptor of the loop's. uv_loop_fork(3)
//! closes that and opens another: a thread that writes in between is aborted.
//!
//! # Safety
//!
//! The loop is the calling thread's; other threads change of a handle only what is read and written atomically here.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use super::Uv;
use super::handles::asyncs_of;
use super::layout::{Async, Loop, Queue};

/// Whether a thread is in the midst of it: libuv counts them, in the handle.
///
/// # Safety
///
/// The loop is the calling thread's.
pub unsafe fn is_being_woken(event_loop: *mut Loop) -> bool {
    // SAFETY: as the caller promises.
    unsafe { asyncs_of(event_loop) }.any(|handle| {
        // SAFETY: handles are alive as long as they are listed.
        unsafe { senders(handle) }.load(Ordering::Acquire) != 0
    })
}

/// In a copy, before its threads go on: until [`fork`] they find every handle pending, and write nothing, unless they were in the
/// midst of it. Does not allocate.
///
/// # Safety
///
/// The loop is the calling thread's.
pub unsafe fn hold_back(event_loop: *mut Loop) {
    // SAFETY: as the caller promises.
    for handle in unsafe { asyncs_of(event_loop) } {
        // SAFETY: handles are alive as long as they are listed.
        unsafe { pending(handle) }.store(1, Ordering::Release);
    }
}

/// uv_loop_fork(3). What has been held back is not made up for: of the threads here V8's alone may have woken the loop, and its
/// tasks are asked for when the function has begun.
///
/// # Safety
///
/// As libuv wants it after a fork; the threads that are here have been held back.
pub unsafe fn fork(uv: &Uv, event_loop: *mut Loop) -> c_int {
    // SAFETY: as the caller promises.
    let ring = unsafe { &raw mut (*event_loop).async_handles };
    // libuv would have those that it finds there not pending before it closes the descriptor.
    // SAFETY: the ring is intact.
    let kept = unsafe { ring.replace(Queue { next: ring, prev: ring }) };
    // SAFETY: as the caller promises.
    let result = unsafe { (uv.uv_loop_fork)(event_loop) };
    if !ptr::eq(kept.next, ring) {
        // SAFETY: its members have kept their places, and their neighbours.
        unsafe { ring.write(kept) };
    }
    // SAFETY: as the caller promises.
    for handle in unsafe { asyncs_of(event_loop) } {
        // Of senders that are not here.
        // SAFETY: handles are alive as long as they are listed.
        unsafe { senders(handle) }.store(0, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { pending(handle) }.store(0, Ordering::Release);
    }
    result
}

/// # Safety
///
/// The handle is alive as long as this is used.
unsafe fn senders<'a>(handle: *mut Async) -> &'a AtomicI32 {
    // SAFETY: as the caller promises.
    let place = unsafe { &raw mut (*handle).handle.u };
    // SAFETY: an int, in a union of which handles of this kind use nothing else.
    unsafe { AtomicI32::from_ptr(place.cast()) }
}

/// # Safety
///
/// As [`senders`].
unsafe fn pending<'a>(handle: *mut Async) -> &'a AtomicI32 {
    // SAFETY: as the caller promises.
    let place = unsafe { &raw mut (*handle).pending };
    // SAFETY: as above.
    unsafe { AtomicI32::from_ptr(place) }
}
