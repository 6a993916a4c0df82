//! Makes an event loop of the parent's one of the copy's own: what the parent watches and waits for is not in it any more.
//!
//! # Safety
//!
//! The loop is the calling thread's, and no other thread of this process uses it: pointers in it are libuv's own.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use linux_clone_syscalls::{Errno, Failure, Result};

use super::handles::handles_of;
use super::layout::{
    ACTIVE, Async, CLOSING, Check, FsEvent, Handle, Idle, Io, Loop, Poll, PoolWork, Prepare, Process, Queue,
    REF, Stream, Timer, UV_ASYNC, UV_CHECK, UV_FS_EVENT, UV_IDLE, UV_NAMED_PIPE, UV_POLL, UV_PREPARE,
    UV_PROCESS, UV_SIGNAL, UV_TCP, UV_TIMER, UV_TTY, UV_UDP, Udp,
};
use super::wakes::fork;
use super::{Uv, symbol};
use crate::words::Words;

/// The parent's handles stay where they are, closed as far as libuv is concerned; their callbacks never run. Of its requests
/// `own_requests` will complete: those that the pool's threads in the copy hold. `unwound` is called once, when the loop calls
/// something again, and the JavaScript on the stack has ended.
///
/// # Safety
///
/// `event_loop` is the calling thread's loop in a copy of the process in which no other thread runs with it, and who would wake it is
/// held back.
pub unsafe fn detach(uv: &Uv, event_loop: *mut Loop, own_requests: usize, unwound: fn()) -> Result<()> {
    // SAFETY: as the caller promises.
    unsafe { hold_messages(event_loop) };
    let mut descriptors = Vec::new();
    // SAFETY: the loop is alive, and nobody else touches it; what releases a handle leaves it in the list.
    for handle in unsafe { handles_of(event_loop) } {
        // SAFETY: the handle is in the loop's list.
        unsafe { release(uv, event_loop, handle, &mut descriptors) };
    }
    // SAFETY: as the caller promises.
    unsafe { wrap_callbacks(event_loop, unwound) };
    // SAFETY: nobody else touches it.
    let had_inotify = empty(unsafe { &mut *event_loop }, own_requests);
    // A caller on the stack may be reading events, and goes on with the number of the epoll that it began with: it must be the
    // lowest that is free when the loop opens another.
    // SAFETY: as above.
    let backend = unsafe { (*event_loop).backend_fd };
    loop {
        // SAFETY: integers only.
        let lower = unsafe { libc::fcntl(backend, libc::F_DUPFD_CLOEXEC, 0) };
        descriptors.extend((lower >= 0).then_some(lower));
        if !(0..backend).contains(&lower) {
            break;
        }
    }
    // SAFETY: as libuv wants it after a fork; threads have been held back before they went on.
    let result = unsafe { fork(uv, event_loop) };
    for descriptor in descriptors {
        // SAFETY: the number was a handle's, which has let it go, or is one of those just made; standard streams stay.
        unsafe { libc::close(descriptor) };
    }
    if result < 0 {
        return Err(Failure::new("uv_loop_fork", Errno::from_raw(-result)));
    }
    if had_inotify {
        // SAFETY: as above.
        unsafe { open_inotify(uv, event_loop) };
    }
    Ok(())
}

/// # Safety
///
/// As [`detach`]; the handle is the loop's.
unsafe fn release(uv: &Uv, event_loop: *mut Loop, handle: *mut Handle, descriptors: &mut Vec<c_int>) {
    // SAFETY: handles are alive as long as they are listed.
    let kind = unsafe { (*handle).kind };
    match kind {
        // Those that hold the loop do so until the function begins. process.removeAllListeners() closes those for signals; the
        // loop's own, for children, stays.
        UV_ASYNC | UV_SIGNAL => return,
        UV_CHECK => {
            let check = handle.cast::<Check>();
            // SAFETY: a check handle.
            let callback = unsafe { (*check).cb };
            // SAFETY: its own callback; stopped and started it is in the loop's list, and not in that of a caller.
            unsafe { restart(handle, callback, check, uv.uv_check_stop, uv.uv_check_start) };
            return;
        }
        UV_PREPARE => {
            let prepare = handle.cast::<Prepare>();
            // SAFETY: a prepare handle.
            let callback = unsafe { (*prepare).cb };
            // SAFETY: as above.
            unsafe { restart(handle, callback, prepare, uv.uv_prepare_stop, uv.uv_prepare_start) };
            return;
        }
        UV_IDLE => {
            // SAFETY: an idle handle.
            unsafe { (uv.uv_idle_stop)(handle.cast::<Idle>()) };
        }
        UV_TIMER => {
            // SAFETY: a timer.
            unsafe { (uv.uv_timer_stop)(handle.cast::<Timer>()) };
        }
        UV_TCP | UV_NAMED_PIPE | UV_TTY => {
            // SAFETY: a stream; this changes memory alone.
            unsafe { (uv.uv_read_stop)(handle.cast::<Stream>()) };
            // SAFETY: a stream.
            release_stream(unsafe { &mut *handle.cast::<Stream>() }, descriptors);
        }
        UV_UDP => {
            // SAFETY: a UDP handle.
            release_udp(unsafe { &mut *handle.cast::<Udp>() }, descriptors);
        }
        UV_POLL => {
            // SAFETY: a poll handle.
            let poll = unsafe { &mut *handle.cast::<Poll>() };
            // One that is closed has left its number to others.
            let owns = poll.handle.flags & CLOSING == 0 && poll.io_watcher.fd > 2;
            silence_of(&poll.handle, &mut poll.io_watcher);
            descriptors.extend(owns.then_some(poll.io_watcher.fd));
            // Closing it takes the number out of epoll, which may be another's by then: one that nobody can have.
            poll.io_watcher.fd = c_int::MAX;
        }
        UV_FS_EVENT => {
            // SAFETY: a watcher of files, whose remaining events in this turn of the loop are nobody's.
            unsafe { (*handle.cast::<FsEvent>()).cb = ignore_event as *mut _ };
        }
        UV_PROCESS => {
            // SAFETY: a child of the parent's.
            let process = unsafe { &mut *handle.cast::<Process>() };
            process.exit_cb = ptr::null_mut();
        }
        _ => {}
    }
    // SAFETY: as the caller promises.
    let event_loop = unsafe { &mut *event_loop };
    // SAFETY: as above.
    deactivate(event_loop, unsafe { &mut *handle });
}

/// # Safety
///
/// The functions are those of the handle's kind.
unsafe fn restart<T>(
    handle: *mut Handle,
    callback: Option<unsafe extern "C" fn(*mut T)>,
    same: *mut T,
    stop: unsafe extern "C" fn(*mut T) -> c_int,
    start: unsafe extern "C" fn(*mut T, Option<unsafe extern "C" fn(*mut T)>) -> c_int,
) {
    // SAFETY: as the caller promises.
    if unsafe { (*handle).flags } & ACTIVE != 0 {
        // SAFETY: as the caller promises.
        unsafe { stop(same) };
        // SAFETY: as the caller promises.
        unsafe { start(same, callback) };
    }
}

/// What handles call that are part of Node's own machinery.
struct Wrapped {
    event_loop: usize,
    callbacks: Vec<(usize, usize)>,
    unwound: Option<fn()>,
}

static WRAPPED: Mutex<Wrapped> = Mutex::new(Wrapped { event_loop: 0, callbacks: Vec::new(), unwound: None });

fn wrapped() -> MutexGuard<'static, Wrapped> {
    WRAPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes room for what a copy notes, which would have to copy many pages to find some.
pub fn make_room() {
    const HANDLES_OF_NODE: usize = 64;
    wrapped().callbacks.reserve(HANDLES_OF_NODE);
}

/// The first of them to be called is where JavaScript may run again: what Node does there must not find it being ended.
///
/// # Safety
///
/// As [`detach`].
unsafe fn wrap_callbacks(event_loop: *mut Loop, unwound: fn()) {
    let mut wrapped = wrapped();
    wrapped.event_loop = event_loop as usize;
    wrapped.unwound = Some(unwound);
    wrapped.callbacks.clear();
    // SAFETY: as the caller promises.
    for handle in unsafe { handles_of(event_loop) } {
        // SAFETY: handles are alive as long as they are listed.
        let kind = unsafe { (*handle).kind };
        // SAFETY: these three have their callback in the same place.
        let callback = unsafe { &raw mut (*handle.cast::<Async>()).cb };
        if ![UV_CHECK, UV_PREPARE, UV_ASYNC].contains(&kind) {
            continue;
        }
        // SAFETY: as above.
        let own = unsafe { callback.read() };
        if !own.is_null() && own != ignore_event as *mut _ {
            wrapped.callbacks.push((handle as usize, own as usize));
            // SAFETY: as above.
            unsafe { callback.write(first_callback as *mut _) };
        }
    }
}

unsafe extern "C" fn first_callback(handle: *mut Handle) {
    let Wrapped { event_loop, callbacks, unwound } = {
        let mut wrapped = wrapped();
        Wrapped {
            callbacks: std::mem::take(&mut wrapped.callbacks),
            unwound: wrapped.unwound.take(),
            ..*wrapped
        }
    };
    let Some(unwound) = unwound else { return };
    let own_of = |handle: *mut Handle| {
        callbacks.iter().find(|(known, _)| *known == handle as usize).map(|(_, own)| *own as *mut c_void)
    };
    // SAFETY: it was the calling thread's loop when they were wrapped, which it stays.
    for listed in unsafe { handles_of(event_loop as *mut Loop) } {
        let Some(own) = own_of(listed) else { continue };
        // SAFETY: handles are alive as long as they are listed, and it is one of the three kinds if it has our callback.
        let callback = unsafe { &raw mut (*listed.cast::<Async>()).cb };
        // SAFETY: as above.
        if unsafe { callback.read() } == first_callback as *mut _ {
            // SAFETY: as above.
            unsafe { callback.write(own) };
        }
    }
    unwound();
    if let Some(own) = own_of(handle) {
        // SAFETY: what the handle calls.
        let own = unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut Handle)>(own) };
        // SAFETY: as libuv does it.
        unsafe { own(handle) };
    }
}

/// Message ports that are deaf.
struct Held {
    event_loop: usize,
    /// Their handles, and what these call.
    handles: Vec<(usize, usize)>,
}

static HELD: Mutex<Held> = Mutex::new(Held { event_loop: 0, handles: Vec::new() });

/// A port whose callback is ended delivers its next message in the loop's next turn: until the function begins, ports are
/// deaf. They are those that hold the loop, and those that are like them; Node's own handles of this kind do not hold it.
///
/// # Safety
///
/// As [`detach`].
unsafe fn hold_messages(event_loop: *mut Loop) {
    // SAFETY: handles are alive as long as they are listed.
    let header = |handle: &*mut Handle| unsafe { &**handle };
    // SAFETY: as the caller promises.
    let handles = || unsafe { handles_of(event_loop) };
    let asyncs = || handles().filter(|handle| header(handle).kind == UV_ASYNC);
    // SAFETY: async handles.
    let callback = |handle: &*mut Handle| unsafe { (*handle.cast::<Async>()).cb };
    let holds = |handle: &*mut Handle| header(handle).flags & REF != 0;
    let callbacks: Vec<_> = asyncs().filter(holds).map(|handle| callback(&handle)).collect();
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    held.event_loop = event_loop as usize;
    held.handles.clear();
    for handle in asyncs().filter(|handle| callbacks.contains(&callback(handle))) {
        held.handles.push((handle as usize, callback(&handle) as usize));
        // SAFETY: an async handle.
        unsafe { (*handle.cast::<Async>()).cb = ignore_event as *mut _ };
    }
}

/// From now on ports hear what is sent to them, on the loop's thread, and do not hold the loop. One that has been closed
/// meanwhile is in the loop no more, and its memory somebody else's.
pub fn take_messages(uv: &Uv) {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let Held { event_loop, handles } = &mut *held;
    if handles.is_empty() {
        return;
    }
    // SAFETY: it was the calling thread's loop when they were held, which it stays.
    for handle in unsafe { handles_of(*event_loop as *mut Loop) } {
        let Some((_, callback)) = handles.iter().find(|(held, _)| *held == handle as usize) else { continue };
        // SAFETY: handles are alive as long as they are listed.
        let is_async = unsafe { (*handle).kind } == UV_ASYNC;
        let handle = handle.cast::<Async>();
        // SAFETY: an async handle, if it is one.
        if is_async && unsafe { (*handle).cb } == ignore_event as *mut _ {
            // SAFETY: as above.
            unsafe { (*handle).cb = *callback as *mut _ };
            // SAFETY: as above.
            unsafe { (*handle).pending = 0 };
            // SAFETY: as above.
            unsafe { (uv.uv_unref)(handle.cast()) };
        }
    }
    handles.clear();
}

/// Has the loop take the tasks that V8 has left for this thread, which may have been announced to the parent alone. Some
/// collect garbage: not before the function has begun, which may be short.
///
/// # Safety
///
/// The loop is the calling thread's.
pub unsafe fn deliver_tasks(uv: &Uv, event_loop: *mut Loop) {
    static FLUSH: OnceLock<Option<usize>> = OnceLock::new();
    let find = || {
        symbol(b"_ZN4node22PerIsolatePlatformData10FlushTasksEP10uv_async_s\0").map(|flush| flush as usize)
    };
    let flush = FLUSH.get_or_init(find).map(|flush| flush as *mut c_void);
    // SAFETY: as the caller promises.
    for handle in unsafe { handles_of(event_loop) } {
        // SAFETY: handles are alive as long as they are listed.
        let is_async = unsafe { (*handle).kind } == UV_ASYNC;
        // SAFETY: an async handle.
        if is_async && flush == Some(unsafe { (*handle.cast::<Async>()).cb }) {
            // SAFETY: as above.
            unsafe { (uv.uv_async_send)(handle.cast()) };
        }
    }
}

/// As uv_close(3) leaves it, except that its memory stays, and that its JavaScript object may still close it.
fn deactivate(event_loop: &mut Loop, handle: &mut Handle) {
    if handle.flags & (ACTIVE | REF) == ACTIVE | REF {
        event_loop.active_handles -= 1;
    }
    handle.flags &= !ACTIVE;
    if handle.flags & CLOSING == 0 {
        // What holds the loop is listed by process._getActiveHandles().
        handle.flags |= REF;
    }
    handle.close_cb = ptr::null_mut();
}

fn release_stream(stream: &mut Stream, descriptors: &mut Vec<c_int>) {
    silence_of(&stream.handle, &mut stream.io_watcher);
    stream.connect_req = ptr::null_mut();
    stream.shutdown_req = ptr::null_mut();
    stream.write_queue_size = 0;
    stream.delayed_error = 0;
    forget(&mut stream.write_queue);
    forget(&mut stream.write_completed_queue);
    for descriptor in [&mut stream.io_watcher.fd, &mut stream.accepted_fd] {
        descriptors.extend((*descriptor > 2).then_some(*descriptor));
        *descriptor = -1;
    }
}

fn release_udp(udp: &mut Udp, descriptors: &mut Vec<c_int>) {
    silence_of(&udp.handle, &mut udp.io_watcher);
    udp.send_queue_size = 0;
    udp.send_queue_count = 0;
    forget(&mut udp.write_queue);
    forget(&mut udp.write_completed_queue);
    descriptors.extend((udp.io_watcher.fd > 2).then_some(udp.io_watcher.fd));
    udp.io_watcher.fd = -1;
}

/// libuv takes the watcher of a handle that is closed out of its rings, and leaves what it points to as it was.
fn silence_of(handle: &Handle, watcher: &mut Io) {
    if handle.flags & CLOSING != 0 {
        forget(&mut watcher.pending_queue);
        forget(&mut watcher.watcher_queue);
    }
    silence(watcher);
}

fn silence(watcher: &mut Io) {
    watcher.pevents = 0;
    watcher.events = 0;
    unlink(&mut watcher.pending_queue);
    unlink(&mut watcher.watcher_queue);
}

/// Takes a node out of its ring.
fn unlink(node: &mut Queue) {
    let (next, prev) = (node.next, node.prev);
    if next.is_null() || prev.is_null() {
        return;
    }
    // SAFETY: nodes of an intact ring; it may be this one, of which `node` is not used meanwhile.
    unsafe { (*next).prev = prev };
    // SAFETY: as above.
    unsafe { (*prev).next = next };
    forget(node);
}

/// Makes a head's ring empty, or a node's one of its own.
fn forget(node: &mut Queue) {
    node.next = node;
    node.prev = node;
}

/// Whether there was an inotify descriptor.
fn empty(event_loop: &mut Loop, own_requests: usize) -> bool {
    let own = [&raw mut event_loop.async_io_watcher, &raw mut event_loop.signal_io_watcher];
    for index in 0..event_loop.nwatchers as usize {
        // SAFETY: the array has as many elements.
        let place = unsafe { &mut *event_loop.watchers.wrapping_add(index) };
        if place.is_null() || own.contains(place) {
            continue;
        }
        // SAFETY: a watcher is alive as long as it is listed.
        silence(unsafe { &mut **place });
        *place = ptr::null_mut();
        event_loop.nfds -= 1;
    }
    // What is left in them is in no list of handles, or is queued again by uv_loop_fork.
    for queue in [
        &mut event_loop.pending_queue,
        &mut event_loop.watcher_queue,
        &mut event_loop.async_io_watcher.pending_queue,
        &mut event_loop.async_io_watcher.watcher_queue,
        &mut event_loop.signal_io_watcher.pending_queue,
        &mut event_loop.signal_io_watcher.watcher_queue,
    ] {
        forget(queue);
    }
    // Those that have ended may be in a list on the stack of a caller, who walks it, and finds them without a callback.
    while !ptr::eq(event_loop.process_handles.next, &raw const event_loop.process_handles) {
        // SAFETY: the ring is intact.
        unlink(unsafe { &mut *event_loop.process_handles.next });
    }
    forget(&mut event_loop.wq);
    event_loop.active_reqs = own_requests;
    event_loop.closing_handles = ptr::null_mut();
    event_loop.inotify_watchers = ptr::null_mut();
    event_loop.inotify_fd != -1
}

unsafe extern "C" fn ignore_event() {}

/// A caller that reads its events may be waiting for this to return, and goes on reading.
///
/// # Safety
///
/// As [`detach`].
unsafe fn open_inotify(uv: &Uv, event_loop: *mut Loop) {
    // SAFETY: plain data, which the initialisation fills in; it stays in the loop's list of handles for ever.
    let watcher: *mut FsEvent = Box::leak(Box::new(unsafe { std::mem::zeroed() }));
    // SAFETY: as libuv's manual wants it.
    unsafe { (uv.uv_fs_event_init)(event_loop, watcher) };
    // SAFETY: as above.
    unsafe { (uv.uv_fs_event_start)(watcher, ignore_event, c"/".as_ptr(), 0) };
    // SAFETY: as above.
    unsafe { (uv.uv_fs_event_stop)(watcher) };
}

/// Finished work that a caller further down the stack has taken off the loop's list, and was about to report one by one.
///
/// Such a list's head is on the stack, its nodes are not; each node stands behind a pointer to the loop (a piece of work), or
/// to one of its handles (a write). Does not allocate.
///
/// # Safety
///
/// The loop and the stack up to `stack_end` are the calling thread's, and no other thread runs.
pub unsafe fn drop_results_on_stack(event_loop: *mut Loop, stack_end: usize, words: &Words) {
    const OWNER_BEFORE_NODE: usize = offset_of!(PoolWork, queue) - offset_of!(PoolWork, owner);
    let here = &raw const stack_end as usize;
    let is_result = |node: usize| {
        words.at(node - OWNER_BEFORE_NODE).is_some_and(|owner| {
            // SAFETY: as the caller promises.
            owner == event_loop as usize
                || unsafe { handles_of(event_loop) }.any(|handle| handle as usize == owner)
        })
    };
    let mut head = here & !7;
    while head + 16 <= stack_end {
        // SAFETY: two words of the stack.
        let [next, prev] = unsafe { (head as *const [usize; 2]).read_volatile() };
        let may_be_node = |word| words.may_be(word) && !(here..stack_end).contains(&word);
        if may_be_node(next)
            && may_be_node(prev)
            && words.at(next + 8) == Some(head)
            && words.at(prev) == Some(head)
            && is_result(next)
        {
            // SAFETY: it has a ring's form, and holds results: its owner finds it empty.
            forget(unsafe { &mut *(head as *mut Queue) });
        }
        head += 8;
    }
}
