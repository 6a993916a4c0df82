//! What is asked of libuv's event loop.
//!
//! # Safety
//!
//! libuv's public functions, on handles that live until their close callback.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

use linux_clone_syscalls::{Errno, Failure, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags};

use crate::uv::layout::{Handle, Poll, Timer, UV_READABLE};
use crate::uv::{Uv, unopened_pipes, uv};

/// What is called, with what was given for it.
pub type Callback = unsafe extern "C" fn(*mut c_void);

/// Calls `first` in the loop's next turn, and `callback` in the one after that.
///
/// # Errors
///
/// ENOTSUP: libuv is not there.
///
/// # Safety
///
/// The loop is the calling thread's; the callback may be called with `data`.
pub unsafe fn call_after_turn(
    event_loop: *mut c_void,
    first: fn(),
    callback: Callback,
    data: *mut c_void,
) -> Result<()> {
    let uv = uv()?;
    // SAFETY: plain data, which uv_timer_init fills in.
    let timer: Timer = unsafe { std::mem::zeroed() };
    let soon = Box::into_raw(Box::new(Soon { timer, event_loop, first, callback, data }));
    // SAFETY: as the caller promises.
    unsafe { start(uv, soon.cast(), on_first_time) };
    Ok(())
}

/// Whether anything holds the loop.
///
/// # Errors
///
/// ENOTSUP: libuv is not there.
///
/// # Safety
///
/// The loop is the calling thread's.
pub unsafe fn is_alive(event_loop: *mut c_void) -> Result<bool> {
    // SAFETY: as the caller promises.
    uv().map(|uv| unsafe { (uv.uv_loop_alive)(event_loop.cast_const().cast()) } != 0)
}

/// Has the loop of a copy take the tasks that V8 has left for the thread.
///
/// # Errors
///
/// ENOTSUP: libuv is not there.
///
/// # Safety
///
/// The loop is the calling thread's.
pub unsafe fn deliver_tasks(event_loop: *mut c_void) -> Result<()> {
    // SAFETY: as the caller promises.
    uv().map(|uv| unsafe { crate::uv::deliver_tasks(uv, event_loop.cast()) })
}

/// Opens a pipe for each of the descriptors: the newest pipes, in the order in which they were made, that are not open yet.
///
/// # Errors
///
/// ENOTSUP: libuv is not there, or there are fewer pipes. What `uv_pipe_open` refuses.
///
/// # Safety
///
/// The loop is the calling thread's; the descriptors become the pipes'.
pub unsafe fn open_newest_pipes(event_loop: *mut c_void, descriptors: &[c_int]) -> Result<()> {
    let uv = uv()?;
    // SAFETY: as the caller promises.
    let pipes: Vec<_> = unsafe { unopened_pipes(event_loop.cast()) }.collect();
    let missing = Failure::new("uv_pipe_open", Errno::ENOTSUP);
    let first = pipes.len().checked_sub(descriptors.len()).ok_or(missing)?;
    for (&pipe, &descriptor) in pipes.iter().skip(first).zip(descriptors) {
        // SAFETY: a pipe of the loop's, and a descriptor that is its own from now on.
        let result = unsafe { (uv.uv_pipe_open)(pipe, descriptor) };
        if result < 0 {
            return Err(Failure::new("uv_pipe_open", Errno::from_raw(-result)));
        }
    }
    Ok(())
}

#[repr(C)]
struct Soon {
    timer: Timer,
    event_loop: *mut c_void,
    first: fn(),
    callback: Callback,
    data: *mut c_void,
}

/// # Safety
///
/// The timer is a [`Soon`]'s, which libuv does not have, and its loop the calling thread's.
unsafe fn start(uv: &Uv, timer: *mut Timer, callback: unsafe extern "C" fn(*mut Timer)) {
    // SAFETY: as the caller promises.
    let event_loop = unsafe { (*timer.cast::<Soon>()).event_loop };
    // SAFETY: as the caller promises.
    unsafe { (uv.uv_timer_init)(event_loop.cast(), timer) };
    // SAFETY: it was initialised.
    unsafe { (uv.uv_timer_start)(timer, callback, 0, 0) };
}

unsafe extern "C" fn on_first_time(timer: *mut Timer) {
    // SAFETY: made by `call_after_turn`.
    let first = unsafe { (*timer.cast::<Soon>()).first };
    first();
    if let Ok(uv) = uv() {
        // SAFETY: its memory is used again when libuv has let it go, which is at the turn's end.
        unsafe { (uv.uv_close)(timer.cast(), after_turn) };
    }
}

unsafe extern "C" fn after_turn(timer: *mut Handle) {
    if let Ok(uv) = uv() {
        // SAFETY: libuv has let it go.
        unsafe { start(uv, timer.cast(), on_time) };
    }
}

unsafe extern "C" fn on_time(timer: *mut Timer) {
    let soon = timer.cast::<Soon>();
    // SAFETY: made by `call_after_turn`.
    let Soon { callback, data, .. } = unsafe { &*soon };
    let (callback, data) = (*callback, *data);
    if let Ok(uv) = uv() {
        // SAFETY: it is freed when libuv has let it go.
        unsafe { (uv.uv_close)(timer.cast(), free::<Soon>) };
    }
    // SAFETY: as who called promised.
    unsafe { callback(data) };
}

unsafe extern "C" fn free<T>(handle: *mut Handle) {
    // SAFETY: boxed as this type, and not used any more.
    drop(unsafe { Box::from_raw(handle.cast::<T>()) });
}

/// What is told of a descriptor that can be read: with what was given for it, and the descriptor's number.
pub type OnReadable = unsafe extern "C" fn(*mut c_void, u64);

#[allow(clippy::cast_sign_loss, reason = "a bit")]
const READABLE: u32 = libc::EPOLLIN as u32;

/// How many are told of in one turn of the loop; the others are in the next.
const AT_ONCE: usize = 64;

/// Waits in the loop for descriptors to become readable, as a pidfd is when its process has ended, by an epoll of its own: one
/// more costs a system call, and none of the loop's memory. It does not hold the loop.
#[derive(Debug)]
pub struct Watches {
    place: NonNull<Watched>,
    epoll: Option<OwnedFd>,
}

#[repr(C)]
#[derive(Debug)]
struct Watched {
    poll: Poll,
    callback: OnReadable,
    data: *mut c_void,
}

impl Watches {
    /// # Errors
    ///
    /// What epoll_create(2) and epoll_ctl(2) say; ENOTSUP: libuv is not there.
    ///
    /// # Safety
    ///
    /// The loop is the calling thread's; the callback may be called with `data` until this is dropped.
    pub unsafe fn new(event_loop: *mut c_void, callback: OnReadable, data: *mut c_void) -> Result<Self> {
        let uv = uv()?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
        let epoll = epoll.map_err(|errno| Failure::new("epoll_create1", errno))?.0;
        // SAFETY: plain data, which uv_poll_init fills in.
        let poll: Poll = unsafe { std::mem::zeroed() };
        let watched = Box::into_raw(Box::new(Watched { poll, callback, data }));
        // SAFETY: as the caller promises.
        let result = unsafe { (uv.uv_poll_init)(event_loop.cast(), watched.cast(), epoll.as_raw_fd()) };
        if let Err(failure) = checked("uv_poll_init", result) {
            // SAFETY: libuv has not taken it.
            drop(unsafe { Box::from_raw(watched) });
            return Err(failure);
        }
        // SAFETY: it was initialised.
        let result = unsafe { (uv.uv_poll_start)(watched.cast(), UV_READABLE, on_readable) };
        // SAFETY: as above.
        unsafe { (uv.uv_unref)(watched.cast()) };
        // SAFETY: not null.
        let place = unsafe { NonNull::new_unchecked(watched) };
        let made = Self { place, epoll: Some(epoll) };
        checked("uv_poll_start", result).map(|()| made)
    }

    /// The epoll's descriptor.
    #[must_use]
    pub fn epoll(&self) -> RawFd {
        self.epoll.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Whether they keep the loop alive.
    ///
    /// # Errors
    ///
    /// ENOTSUP: libuv is not there.
    pub fn hold(&self, holds: bool) -> Result<()> {
        let Uv { uv_ref, uv_unref, .. } = uv()?;
        let change = if holds { uv_ref } else { uv_unref };
        // SAFETY: the handle lives until the drop.
        unsafe { change(self.place.as_ptr().cast()) };
        Ok(())
    }
}

/// Has the epoll of [`Watches`] wait for one more, until it is [`forget`]ten.
///
/// # Errors
///
/// What epoll_ctl(2) says.
pub fn watch(epoll: RawFd, fd: BorrowedFd<'_>, number: u64) -> Result<()> {
    let mut event = libc::epoll_event { events: READABLE, u64: number };
    control(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event)
}

/// Before it is closed: a copy of this process may have it too, which would keep it in the epoll.
pub fn forget(epoll: RawFd, fd: BorrowedFd<'_>) {
    // One that is not there has been forgotten.
    let _ = control(epoll, libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut());
}

fn control(epoll: RawFd, operation: c_int, fd: BorrowedFd<'_>, event: *mut libc::epoll_event) -> Result<()> {
    // SAFETY: the event is complete, or not read.
    let result = unsafe { libc::epoll_ctl(epoll, operation, fd.as_raw_fd(), event) };
    Errno::result(result).map(drop).map_err(|errno| Failure::new("epoll_ctl", errno))
}

impl Drop for Watches {
    fn drop(&mut self) {
        // In a clone the parent's is closed already, and the number may be another's.
        // SAFETY: the handle lives until it is closed below.
        let watched = unsafe { self.place.as_ref() }.poll.io_watcher.fd;
        if let Some(epoll) = self.epoll.take_if(|epoll| epoll.as_raw_fd() != watched) {
            let _ = epoll.into_raw_fd();
        }
        if let Ok(uv) = uv() {
            // SAFETY: it is freed when libuv has let it go.
            unsafe { (uv.uv_close)(self.place.as_ptr().cast(), free::<Watched>) };
        }
    }
}

unsafe extern "C" fn on_readable(poll: *mut Poll, _: c_int, _: c_int) {
    let watched = poll.cast::<Watched>();
    // SAFETY: made by `Watches::new`, and freed by libuv in a later phase of the loop.
    let epoll_of = || unsafe { (*watched).poll.io_watcher.fd };
    let epoll = epoll_of();
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; AT_ONCE];
    let most = c_int::try_from(events.len()).unwrap_or(c_int::MAX);
    // SAFETY: the buffer holds as many.
    let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), most, 0) };
    for event in events.iter().take(usize::try_from(count).unwrap_or(0)) {
        // What was called may have dropped the watches, or gone on in a clone, where they are the parent's.
        if epoll_of() != epoll {
            return;
        }
        // SAFETY: as above.
        let Watched { callback, data, .. } = unsafe { &*watched };
        // SAFETY: as who called `Watches::new` promised.
        unsafe { callback(*data, event.u64) };
    }
}

fn checked(call: &'static str, result: c_int) -> Result<()> {
    if result < 0 { Err(Failure::new(call, Errno::from_raw(-result))) } else { Ok(()) }
}
