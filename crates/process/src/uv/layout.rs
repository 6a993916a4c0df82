//! The structures of uv.h, version 1, whose layout is part of libuv's binary interface; [`super::uv`] compares their sizes.

#![allow(clippy::struct_field_names, reason = "the names are libuv's")]

use std::ffi::{c_char, c_int, c_uint, c_void};

/// A node of a ring, or its head.
#[repr(C)]
#[derive(Debug)]
pub struct Queue {
    pub next: *mut Queue,
    pub prev: *mut Queue,
}

#[repr(C)]
#[derive(Debug)]
pub struct Io {
    pub cb: *mut c_void,
    pub pending_queue: Queue,
    pub watcher_queue: Queue,
    pub pevents: c_uint,
    pub events: c_uint,
    pub fd: c_int,
}

#[repr(C)]
#[derive(Debug)]
pub struct Handle {
    pub data: *mut c_void,
    pub owner: *mut Loop,
    pub kind: c_int,
    pub close_cb: *mut c_void,
    pub handle_queue: Queue,
    pub u: [*mut c_void; 4],
    pub next_closing: *mut Handle,
    pub flags: c_uint,
}

#[repr(C)]
#[derive(Debug)]
pub struct Stream {
    pub handle: Handle,
    pub write_queue_size: usize,
    pub alloc_cb: *mut c_void,
    pub read_cb: *mut c_void,
    pub connect_req: *mut c_void,
    pub shutdown_req: *mut c_void,
    pub io_watcher: Io,
    pub write_queue: Queue,
    pub write_completed_queue: Queue,
    pub connection_cb: *mut c_void,
    pub delayed_error: c_int,
    pub accepted_fd: c_int,
    pub queued_fds: *mut c_void,
}

#[repr(C)]
#[derive(Debug)]
pub struct Pipe {
    pub stream: Stream,
    pub ipc: c_int,
    pub name: *const c_char,
}

#[repr(C)]
#[derive(Debug)]
pub struct Udp {
    pub handle: Handle,
    pub send_queue_size: usize,
    pub send_queue_count: usize,
    pub alloc_cb: *mut c_void,
    pub recv_cb: *mut c_void,
    pub io_watcher: Io,
    pub write_queue: Queue,
    pub write_completed_queue: Queue,
}

#[repr(C)]
#[derive(Debug)]
pub struct Poll {
    pub handle: Handle,
    pub poll_cb: Option<unsafe extern "C" fn(*mut Poll, c_int, c_int)>,
    pub io_watcher: Io,
}

#[repr(C)]
#[derive(Debug)]
pub struct Check {
    pub handle: Handle,
    pub cb: Option<unsafe extern "C" fn(*mut Check)>,
    pub queue: Queue,
}

#[repr(C)]
#[derive(Debug)]
pub struct Prepare {
    pub handle: Handle,
    pub cb: Option<unsafe extern "C" fn(*mut Prepare)>,
    pub queue: Queue,
}

#[repr(C)]
#[derive(Debug)]
pub struct Idle {
    pub handle: Handle,
    pub cb: *mut c_void,
    pub queue: Queue,
}

#[repr(C)]
#[derive(Debug)]
pub struct Async {
    pub handle: Handle,
    pub cb: *mut c_void,
    pub queue: Queue,
    pub pending: c_int,
}

#[repr(C)]
#[derive(Debug)]
pub struct Timer {
    pub handle: Handle,
    pub cb: *mut c_void,
    pub node: [*mut c_void; 3],
    pub timeout: u64,
    pub repeat: u64,
    pub start_id: u64,
}

#[repr(C)]
#[derive(Debug)]
pub struct Process {
    pub handle: Handle,
    pub exit_cb: *mut c_void,
    pub pid: c_int,
    pub queue: Queue,
    pub status: c_int,
}

#[repr(C)]
#[derive(Debug)]
pub struct FsEvent {
    pub handle: Handle,
    pub path: *mut c_char,
    pub cb: *mut c_void,
    pub watchers: Queue,
    pub wd: c_int,
}

#[repr(C)]
#[derive(Debug)]
pub struct Signal {
    pub handle: Handle,
    pub cb: *mut c_void,
    pub signum: c_int,
    pub tree_entry: [*mut c_void; 4],
    pub caught: c_uint,
    pub dispatched: c_uint,
}

/// What the pool knows of a piece of work.
#[repr(C)]
#[derive(Debug)]
pub struct PoolWork {
    pub work: *mut c_void,
    pub done: *mut c_void,
    pub owner: *mut Loop,
    pub queue: Queue,
}

#[repr(C)]
#[derive(Debug)]
pub struct Work {
    pub data: *mut c_void,
    pub kind: c_int,
    pub reserved: [*mut c_void; 6],
    pub owner: *mut Loop,
    pub work_cb: *mut c_void,
    pub after_work_cb: *mut c_void,
    pub work_req: PoolWork,
}

/// The beginning of a lookup, whose end nobody has to know.
#[repr(C)]
#[derive(Debug)]
pub struct Lookup {
    pub data: *mut c_void,
    pub kind: c_int,
    pub reserved: [*mut c_void; 6],
    pub owner: *mut Loop,
    pub work_req: PoolWork,
}

#[repr(C)]
#[derive(Debug)]
pub struct TimerHeap {
    pub min: *mut c_void,
    pub length: c_uint,
}

#[repr(C)]
pub struct Loop {
    pub data: *mut c_void,
    pub active_handles: c_uint,
    pub handle_queue: Queue,
    pub active_reqs: usize,
    pub internal_fields: *mut c_void,
    pub stop_flag: c_uint,
    pub flags: libc::c_ulong,
    pub backend_fd: c_int,
    pub pending_queue: Queue,
    pub watcher_queue: Queue,
    pub watchers: *mut *mut Io,
    pub nwatchers: c_uint,
    pub nfds: c_uint,
    pub wq: Queue,
    pub wq_mutex: libc::pthread_mutex_t,
    pub wq_async: Async,
    pub cloexec_lock: libc::pthread_rwlock_t,
    pub closing_handles: *mut Handle,
    pub process_handles: Queue,
    pub prepare_handles: Queue,
    pub check_handles: Queue,
    pub idle_handles: Queue,
    pub async_handles: Queue,
    pub async_unused: *mut c_void,
    pub async_io_watcher: Io,
    pub async_wfd: c_int,
    pub timer_heap: TimerHeap,
    pub timer_counter: u64,
    pub time: u64,
    pub signal_pipefd: [c_int; 2],
    pub signal_io_watcher: Io,
    pub child_watcher: Signal,
    pub emfile_fd: c_int,
    pub inotify_read_watcher: Io,
    pub inotify_watchers: *mut c_void,
    pub inotify_fd: c_int,
}

pub const UV_ASYNC: c_int = 1;
pub const UV_CHECK: c_int = 2;
pub const UV_FS_EVENT: c_int = 3;
pub const UV_IDLE: c_int = 6;
pub const UV_NAMED_PIPE: c_int = 7;
pub const UV_POLL: c_int = 8;
pub const UV_PREPARE: c_int = 9;
pub const UV_PROCESS: c_int = 10;
pub const UV_TCP: c_int = 12;
pub const UV_TIMER: c_int = 13;
pub const UV_TTY: c_int = 14;
pub const UV_UDP: c_int = 15;
pub const UV_SIGNAL: c_int = 16;
pub const UV_WORK: c_int = 7;
pub const UV_GETNAMEINFO: c_int = 9;
pub const UV_READABLE: c_int = 1;

/// Flags of a handle.
pub const CLOSING: c_uint = 1;
pub const ACTIVE: c_uint = 4;
pub const REF: c_uint = 8;

/// The size of each kind of handle that is used.
pub const SIZES: [(c_int, usize); 12] = [
    (UV_ASYNC, size_of::<Async>()),
    (UV_CHECK, size_of::<Check>()),
    (UV_FS_EVENT, size_of::<FsEvent>()),
    (UV_IDLE, size_of::<Idle>()),
    (UV_NAMED_PIPE, size_of::<Pipe>()),
    (UV_POLL, size_of::<Poll>()),
    (UV_PREPARE, size_of::<Prepare>()),
    (UV_PROCESS, size_of::<Process>()),
    (UV_TCP, size_of::<Stream>()),
    (UV_TIMER, size_of::<Timer>()),
    (UV_UDP, size_of::<Udp>()),
    (UV_SIGNAL, size_of::<Signal>()),
];
