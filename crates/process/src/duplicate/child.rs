//! What the copy does first, as its only thread.
//!
//! # Safety
//!
//! System calls on prepared data; nothing here allocates or locks.
#![allow(unsafe_code)]

use std::ffi::c_int;

use linux_clone_syscalls::CloneFlags;

use super::talk::Talk;
use super::{Request, late, threads};
use crate::child::perform_rows;
use crate::failed::Failed;
use crate::failure::Step;
use crate::park::{Interrupted, Parked, begin_generation};
use crate::plan::Row;
use crate::signals::{KernelAction, rt_sigaction};
use crate::uv::layout::Loop;
use crate::uv::{Barrier, hold_back, listened_signals};

/// Becomes what it is to be, and makes the threads that go on.
pub fn begin(
    request: &Request,
    talk: &Talk,
    rows: &[Row<'_>],
    parked: &Parked,
    handlers: &Handlers,
    event_loop: *mut Loop,
) -> Result<(), Failed> {
    threads::rename_self();
    begin_generation();
    perform_rows(rows)?;
    handlers.restore();
    // SAFETY: the loop is this thread's, and its handles are alive.
    unsafe { default_signals(event_loop) };
    // SAFETY: as above.
    unsafe { hold_back(event_loop) };
    Barrier::drop_queue();
    let revived = parked.interrupted().filter(|thread| request.revives(thread));
    threads::close_ring(revived.clone());
    let are_late = request.may_put_off(revived.clone()) && late::put_off(revived, parked);
    for thread in parked.interrupted() {
        if !request.revives(&thread) {
            threads::bury(&thread);
        } else if !are_late {
            threads::revive(&thread, threads::keeps_its_id(&thread))
                .map_err(|failure| Failed::of(Step::Clone, failure))?;
        }
    }
    talk.succeed();
    Ok(())
}

/// What the parent listens for has its default effect, before any thread can take a signal; libuv's own handles for them are
/// closed later.
///
/// # Safety
///
/// The loop is this thread's.
unsafe fn default_signals(event_loop: *mut Loop) {
    // SAFETY: plain data: the default effect, without flags.
    let action: libc::sigaction = unsafe { std::mem::zeroed() };
    let set = |signal| {
        // SAFETY: the action is complete.
        unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    };
    // SAFETY: as the caller promises.
    for signal in unsafe { listened_signals(event_loop) }.filter(|signal| *signal != libc::SIGCHLD) {
        set(signal);
    }
    // Node's, which wakes the thread that starts the inspector: that is not here.
    set(libc::SIGUSR1);
}

/// Handlers without which the runtime does not work, as they are before the clone: `CLONE_CLEAR_SIGHAND` takes them away.
pub struct Handlers {
    saved: Option<[KernelAction; NEEDED.len()]>,
}

/// libuv's for children, V8's for WebAssembly, and the libc's own, for setuid(3) in every thread, which its functions hide.
const NEEDED: [c_int; 6] = [libc::SIGCHLD, libc::SIGSEGV, libc::SIGBUS, 32, 33, 34];

impl Handlers {
    pub fn save(flags: CloneFlags) -> Self {
        let read = |signal| {
            let mut action = KernelAction::default();
            rt_sigaction(signal, std::ptr::null(), &raw mut action);
            action
        };
        Self { saved: flags.contains(CloneFlags::CLEAR_SIGHAND).then(|| NEEDED.map(read)) }
    }

    fn restore(&self) {
        for (signal, action) in NEEDED.into_iter().zip(self.saved.iter().flatten()) {
            rt_sigaction(signal, action, std::ptr::null_mut());
        }
        if self.saved.is_some() {
            crate::park::restore_handler();
        }
    }
}

impl Request {
    /// With descriptors of the parent's no asynchronous work can be done, and the pool's threads would do the parent's.
    fn revives(&self, thread: &Interrupted) -> bool {
        threads::is_v8_worker(thread)
            || !self.flags.contains(CloneFlags::FILES) && threads::is_of_pool(thread)
    }

    /// A limit that they exceed is to be heard of at once where one is set by a cgroup, as for a copy it is. Until they are made the
    /// libc knows them by their ids in the parent, which in a new pid namespace may be those of others, and which musl's setuid(3)
    /// waits for.
    fn may_put_off(&self, mut revived: impl Iterator<Item = Interrupted>) -> bool {
        self.may_be_short
            && cfg!(target_env = "gnu")
            && !self.flags.contains(CloneFlags::NEWPID)
            && self.set_tid.is_empty()
            && self.cgroup.is_none()
            && revived.all(|thread| threads::is_at_rest(&thread))
    }
}
