//! A child process, held by its pidfd.
//!
//! # Safety
//!
//! The watch's callback is called with the watch's own data, on the environment's thread, while that is alive.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use linux_clone_process::event_loop::Watch;
use linux_clone_process::{self as process};
use napi::Env;
use napi::Result;
use napi::bindgen_prelude::{Function, Uint8ArraySlice};
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

/// The kernel's random numbers.
#[napi]
pub fn fill_random(mut bytes: Uint8ArraySlice<'_>) -> Option<Failure> {
    // SAFETY: JavaScript waits, and no other thread has it.
    failure(process::fill_random(unsafe { bytes.as_mut() }))
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

/// Calls a function each time that a pidfd's process is found to have ended, from when it is started.
#[napi]
pub struct PidfdWatch {
    // In this order: libuv lets the callback go first.
    watch: Option<Watch>,
    callback: Option<Rc<Callback>>,
}

#[napi]
impl PidfdWatch {
    #[napi(constructor)]
    pub fn new(env: Env, callback: Function<'_, (), ()>) -> Result<Self> {
        Ok(Self { watch: None, callback: Some(Rc::new(Callback::new(&env, &callback)?)) })
    }

    /// It owns the descriptors from now on, `status` being init's report, or -1; where it cannot begin, the process is killed, as
    /// nobody would hear of its end.
    #[napi]
    pub fn start(&mut self, env: Env, pidfd: i32, status: i32) -> Result<()> {
        unsafe extern "C" fn on_end(callback: *mut c_void) {
            // SAFETY: it came from an Rc that lives as long as the watch.
            unsafe { Rc::increment_strong_count(callback.cast::<Callback>()) };
            // What is called may close the watch.
            // SAFETY: counted just now.
            unsafe { Rc::from_raw(callback.cast::<Callback>()) }.call();
        }
        // SAFETY: JavaScript hands them over.
        let [pidfd, report] =
            [pidfd, status].map(|fd| (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) }));
        let (Some(pidfd), Some(callback)) = (pidfd, &self.callback) else {
            return Err(napi::Error::from_reason("a pidfd is wanted, and a watch that is not closed"));
        };
        let data = Rc::as_ptr(callback).cast_mut().cast();
        let event_loop = event_loop(&env)?;
        // SAFETY: the loop is this thread's.
        let watch = unsafe { Watch::new(event_loop, pidfd, report, on_end, data) };
        self.watch = Some(watch.map_err(|(failure, pidfd)| {
            process::end(pidfd.as_fd());
            napi::Error::from_reason(failure.to_string())
        })?);
        Ok(())
    }

    /// Whether it keeps the event loop alive.
    #[napi]
    pub fn hold(&self, holds: bool) {
        if let Some(watch) = &self.watch {
            // libuv was there when it was made.
            let _ = watch.hold(holds);
        }
    }

    /// The function is not called any more, and the descriptors are closed.
    #[napi]
    pub fn close(&mut self) {
        self.watch = None;
        self.callback = None;
    }
}
