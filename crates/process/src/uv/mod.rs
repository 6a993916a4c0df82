//! libuv, as the process that we are loaded into has it.
//!
//! # Safety
//!
//! Functions of libuv's public interface, found by name; their types are those of uv.h.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_uint, c_void};
use std::sync::OnceLock;

use linux_clone_syscalls::{Errno, Failure, Result};

mod detach;
mod handles;
pub mod layout;
mod pool;
mod wakes;

pub use detach::{deliver_tasks, detach, drop_results_on_stack, make_room, take_messages};
pub use handles::{listened_signals, polled_descriptors, unopened_pipes};
pub use pool::Barrier;
pub use wakes::{hold_back, is_being_woken};

use layout::{Async, Check, Handle, Idle, Lookup, Loop, Pipe, Poll, Prepare, Stream, Timer, Work};

macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// Those that are used.
        #[derive(Clone, Copy, Debug)]
        pub struct Uv {
            $(pub $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        fn find() -> Option<Uv> {
            Some(Uv {
                $($name: {
                    let address = symbol(concat!(stringify!($name), "\0").as_bytes())?;
                    // SAFETY: uv.h declares it so.
                    unsafe {
                        std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(address)
                    }
                },)*
            })
        }
    };
}

functions! {
    uv_version: fn() -> c_uint;
    uv_loop_size: fn() -> usize;
    uv_handle_size: fn(c_int) -> usize;
    uv_req_size: fn(c_int) -> usize;
    uv_loop_fork: fn(*mut Loop) -> c_int;
    uv_queue_work: fn(*mut Loop, *mut Work, unsafe extern "C" fn(*mut Work), unsafe extern "C" fn(*mut Work, c_int)) -> c_int;
    uv_getnameinfo: fn(*mut Loop, *mut Lookup, unsafe extern "C" fn(*mut Lookup), *const libc::sockaddr, c_int) -> c_int;
    uv_timer_init: fn(*mut Loop, *mut Timer) -> c_int;
    uv_timer_start: fn(*mut Timer, unsafe extern "C" fn(*mut Timer), u64, u64) -> c_int;
    uv_timer_stop: fn(*mut Timer) -> c_int;
    uv_idle_stop: fn(*mut Idle) -> c_int;
    uv_check_stop: fn(*mut Check) -> c_int;
    uv_check_start: fn(*mut Check, Option<unsafe extern "C" fn(*mut Check)>) -> c_int;
    uv_prepare_stop: fn(*mut Prepare) -> c_int;
    uv_prepare_start: fn(*mut Prepare, Option<unsafe extern "C" fn(*mut Prepare)>) -> c_int;
    uv_read_stop: fn(*mut Stream) -> c_int;
    uv_pipe_open: fn(*mut Pipe, c_int) -> c_int;
    uv_poll_init: fn(*mut Loop, *mut Poll, c_int) -> c_int;
    uv_poll_start: fn(*mut Poll, c_int, unsafe extern "C" fn(*mut Poll, c_int, c_int)) -> c_int;
    uv_close: fn(*mut Handle, unsafe extern "C" fn(*mut Handle));
    uv_loop_alive: fn(*const Loop) -> c_int;
    uv_async_send: fn(*mut Async) -> c_int;
    uv_ref: fn(*mut Handle);
    uv_unref: fn(*mut Handle);
    uv_fs_event_init: fn(*mut Loop, *mut layout::FsEvent) -> c_int;
    uv_fs_event_start: fn(*mut layout::FsEvent, unsafe extern "C" fn(), *const std::ffi::c_char, c_uint) -> c_int;
    uv_fs_event_stop: fn(*mut layout::FsEvent) -> c_int;
}

/// A function of the program, or of a library that it is linked with.
pub fn symbol(name: &[u8]) -> Option<*mut c_void> {
    let name = CStr::from_bytes_with_nul(name).ok()?;
    // SAFETY: a C string; the default handle searches what is loaded.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

/// libuv's functions; ENOTSUP where it is not there, or is laid out in another way than its public headers of version 1.
pub fn uv() -> Result<&'static Uv> {
    static UV: OnceLock<Option<Uv>> = OnceLock::new();
    let is_known = |uv: &Uv| {
        // SAFETY: the functions take and return integers.
        let major = unsafe { (uv.uv_version)() } >> 16;
        // SAFETY: as above.
        let loops = unsafe { (uv.uv_loop_size)() };
        // SAFETY: as above.
        let is_size_of = |(kind, size)| unsafe { (uv.uv_handle_size)(kind) } == size;
        // SAFETY: as above.
        let work = unsafe { (uv.uv_req_size)(layout::UV_WORK) };
        major == 1
            && loops == size_of::<Loop>()
            && work == size_of::<Work>()
            && layout::SIZES.into_iter().all(is_size_of)
    };
    let found = UV.get_or_init(|| find().filter(is_known));
    found.as_ref().ok_or(Failure::new("uv_loop_fork", Errno::ENOTSUP))
}
