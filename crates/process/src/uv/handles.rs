//! What is in an event loop.
//!
//! # Safety
//!
//! Pointers in a loop are libuv's own, and nobody but the loop's thread changes them.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::mem::offset_of;

use super::layout::{
    Async, CLOSING, Handle, Loop, Pipe, Poll, Signal, UV_ASYNC, UV_NAMED_PIPE, UV_POLL, UV_SIGNAL,
};

/// The handles of a loop, the oldest first.
///
/// # Safety
///
/// The loop is the calling thread's, and lives as long as the iterator.
pub unsafe fn handles_of(event_loop: *mut Loop) -> impl Iterator<Item = *mut Handle> {
    // SAFETY: as the caller promises.
    let head = unsafe { &raw mut (*event_loop).handle_queue };
    let mut node = head;
    std::iter::from_fn(move || {
        // SAFETY: the ring is intact.
        node = unsafe { (*node).next };
        (node != head).then(|| node.wrapping_byte_sub(offset_of!(Handle, handle_queue)).cast())
    })
}

/// The handles by which other threads wake a loop. Does not allocate.
///
/// # Safety
///
/// As [`handles_of`].
pub unsafe fn asyncs_of(event_loop: *mut Loop) -> impl Iterator<Item = *mut Async> {
    // SAFETY: as the caller promises.
    let handles = unsafe { handles_of(event_loop) };
    // SAFETY: handles are alive as long as they are listed.
    handles.filter(|handle| unsafe { (**handle).kind } == UV_ASYNC).map(<*mut Handle>::cast)
}

/// The signals that somebody listens for in a loop. Does not allocate.
///
/// # Safety
///
/// As [`handles_of`].
pub unsafe fn listened_signals(event_loop: *mut Loop) -> impl Iterator<Item = c_int> {
    // SAFETY: as the caller promises.
    let handles = unsafe { handles_of(event_loop) };
    // SAFETY: handles are alive as long as they are listed.
    let signals = handles.filter(|handle| unsafe { (**handle).kind } == UV_SIGNAL);
    // SAFETY: as above.
    signals.map(|handle| unsafe { (*handle.cast::<Signal>()).signum }).filter(|signal| *signal > 0)
}

/// The descriptors that poll handles watch.
///
/// # Safety
///
/// As [`handles_of`].
pub unsafe fn polled_descriptors(event_loop: *mut Loop) -> impl Iterator<Item = c_int> {
    // SAFETY: as the caller promises.
    let handles = unsafe { handles_of(event_loop) };
    // SAFETY: handles are alive as long as they are listed.
    let polls = handles.filter(|handle| unsafe { (**handle).kind } == UV_POLL);
    // SAFETY: as above.
    polls.map(|handle| unsafe { (*handle.cast::<Poll>()).io_watcher.fd })
}

/// Pipes that nothing has been opened for.
///
/// # Safety
///
/// As [`handles_of`].
pub unsafe fn unopened_pipes(event_loop: *mut Loop) -> impl Iterator<Item = *mut Pipe> {
    // SAFETY: as the caller promises.
    let handles = unsafe { handles_of(event_loop) };
    // SAFETY: handles are alive as long as they are listed.
    let pipes =
        handles.filter(|handle| unsafe { (**handle).kind } == UV_NAMED_PIPE).map(<*mut Handle>::cast::<Pipe>);
    pipes.filter(|pipe| {
        // SAFETY: as above.
        let stream = unsafe { &(**pipe).stream };
        stream.io_watcher.fd == -1 && stream.handle.flags & CLOSING == 0
    })
}
