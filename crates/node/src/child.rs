//! A child process, held by its pidfd.
//!
//! # Safety
//!
//! The watch's callback is called with the watch's own data, on the environment's thread, while that is alive.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use linux_clone_process::event_loop::{Watches, forget, watch};
use linux_clone_process::{self as process};
use napi::Env;
use napi::Result;
use napi::bindgen_prelude::Function;
use napi_derive::napi;

use crate::convert::number;
use crate::event_loop::{Callback, event_loop};
use crate::failure::{Failure, Outcome, failure, outcome};
use crate::spawn::SocketPair;

/// How a process has ended: by its exit code, or by a signal's number.
#[napi(object)]
pub struct ExitStatus {
    pub code: Option<i32>,
    pub signal: Option<i32>,
}

impl From<process::ExitStatus> for ExitStatus {
    fn from(status: process::ExitStatus) -> Self {
        Self { code: status.code, signal: status.signal }
    }
}

/// Waits for the end of a process, and reaps it where it is a child of this one; init may have reported by `status` how a
/// program has ended (-1: there is none). An exit code, or the negative number of a signal; NaN: it has ended, and the kernel does
/// not tell how; null: it runs.
///
/// An object would cost more than the system call.
#[napi]
pub fn wait_spawned(pidfd: i32, status: i32, block: bool) -> Outcome<Option<f64>> {
    // SAFETY: the number is used during the call alone, and one that is not open is the kernel's to refuse.
    let pidfd = unsafe { BorrowedFd::borrow_raw(pidfd) };
    // SAFETY: as above.
    let report = (status >= 0).then(|| unsafe { BorrowedFd::borrow_raw(status) });
    outcome(process::wait_for_program(pidfd, report, block), |status| {
        status.map(|status| status.code.or(status.signal.map(|signal| -signal)).map_or(f64::NAN, f64::from))
    })
}

/// Writes all of it, also where the descriptor does not wait.
#[napi]
pub fn write_all(fd: i32, bytes: &[u8]) -> Option<Failure> {
    // SAFETY: as above.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    failure(process::write_all(fd, bytes))
}

/// Ends this process without anything that was registered for its exit.
#[napi]
pub fn exit_now(code: i32) {
    process::exit_now(code);
}

/// This process ends with all that it has started, and with its parent, whose pidfd is given away (-1: not with that): by
/// SIGTERM, and `grace` milliseconds later whatever it does.
#[napi]
pub fn guard(pidfd: i32, grace: u32) -> Option<Failure> {
    // SAFETY: JavaScript hands it over.
    let parent = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
    failure(process::guard(parent, Duration::from_millis(grace.into())))
}

/// A pipe that holds much: `ours` is the end to read.
#[napi]
pub fn wide_pipe() -> Outcome<SocketPair> {
    outcome(process::wide_pipe(), |[ours, theirs]| SocketPair { ours: number(ours), theirs: number(theirs) })
}

/// Descriptors that the event loop waits for: a function is called with the number of one that can be read.
#[napi]
pub struct Epoll {
    // In this order: libuv lets the callback go first.
    watches: Option<Watches>,
    callback: Box<Callback>,
    /// What goes where the thread's environment goes, which a Worker's may at any time.
    owned: RefCell<Vec<OwnedFd>>,
}

#[napi]
impl Epoll {
    #[napi(constructor)]
    pub fn new(env: Env, callback: Function<'_, u32, ()>) -> Result<Self> {
        let callback = Box::new(Callback::new(&env, &callback)?);
        Ok(Self { watches: None, callback, owned: RefCell::default() })
    }

    /// Before anything is added.
    #[napi]
    pub fn open(&mut self, env: Env) -> Result<Option<Failure>> {
        unsafe extern "C" fn on_readable(callback: *mut c_void, number: u64) {
            // SAFETY: the box lives as long as the watches.
            let callback = unsafe { &*callback.cast::<Callback>() };
            #[allow(clippy::cast_possible_truncation, reason = "it was made of as many bits")]
            callback.call(Some(number as u32));
        }
        let data = (&raw mut *self.callback).cast();
        let event_loop = event_loop(&env)?;
        // SAFETY: the loop is this thread's.
        let watches = unsafe { Watches::new(event_loop, on_readable, data) };
        Ok(failure(watches.map(|watches| self.watches = Some(watches))))
    }

    /// Whether it keeps the event loop alive.
    #[napi]
    pub fn hold(&self, holds: bool) {
        if let Some(watches) = &self.watches {
            // libuv was there when it was made.
            let _ = watches.hold(holds);
        }
    }

    /// Waits for a descriptor until it is closed here.
    #[napi]
    pub fn add(&self, fd: i32, number: u32) -> Option<Failure> {
        // SAFETY: the number is used during the call alone, and one that is not open is the kernel's to refuse.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        failure(watch(self.fd(), fd, number.into()))
    }

    /// Where there is one (-1: there is none).
    ///
    /// # Safety
    ///
    /// The descriptor is JavaScript's, which does not use it any more.
    #[napi]
    pub fn close(&self, fd: i32) {
        if fd < 0 {
            return;
        }
        let mut owned = self.owned.borrow_mut();
        let place = owned.iter().position(|other| other.as_raw_fd() == fd);
        let fd = match place {
            Some(place) => owned.swap_remove(place),
            // SAFETY: as the caller promises.
            None => unsafe { OwnedFd::from_raw_fd(fd) },
        };
        forget(self.fd(), fd.as_fd());
    }
}

impl Epoll {
    /// A number that JavaScript may use until it closes it here.
    pub fn own(&self, fd: OwnedFd) -> RawFd {
        let number = fd.as_raw_fd();
        self.owned.borrow_mut().push(fd);
        number
    }

    /// -1 where it is not open.
    pub fn fd(&self) -> RawFd {
        self.watches.as_ref().map_or(-1, Watches::epoll)
    }
}

/// Has an epoll tell of a process's end; one that nobody would hear of is killed.
pub fn watch_process(epoll: RawFd, pidfd: BorrowedFd<'_>, number: u32) -> linux_clone_syscalls::Result<()> {
    watch(epoll, pidfd, number.into()).inspect_err(|_| process::end(pidfd))
}
