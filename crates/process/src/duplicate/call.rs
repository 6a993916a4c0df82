//! The call that makes the copy.
//!
//! # Safety
//!
//! The copy returns into this function on its copy of the caller's stack; nothing here allocates.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use linux_clone_syscalls::{CloneFlags, Errno, Failure, Pid, Result, clone3};

use super::Request;
use super::stack::Stack;
use crate::arch::{self, CloneArguments};

/// Who has returned.
pub enum Cloned {
    Child,
    Parent { pid: Pid, pidfd: OwnedFd },
}

/// clone3(2), or clone(2) where that is refused and can do the same.
///
/// # Safety
///
/// In the copy nothing may allocate or lock before the other threads are there.
pub unsafe fn clone(request: &Request, stack: &Stack) -> Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let place_of_pidfd = &raw mut pidfd as usize;
    let (bottom, length) = stack.usable();
    // What the copy does for itself is not asked of the kernel.
    let flags = request.flags.difference(request.setup.unshare & CloneFlags::NEWTIME) | CloneFlags::PIDFD;
    let mut result = {
        let mut arguments = clone3::Arguments {
            flags: flags.bits(),
            exit_signal: u64::from(request.exit_signal.cast_unsigned()),
            stack: bottom as u64,
            stack_size: length as u64,
            pidfd: place_of_pidfd as u64,
            parent_tid: request.parent_tid as u64,
            child_tid: request.child_tid as u64,
            ..clone3::Arguments::default()
        };
        if !request.set_tid.is_empty() {
            arguments.set_tid = request.set_tid.as_ptr() as u64;
            arguments.set_tid_size = request.set_tid.len() as u64;
        }
        if let Some(cgroup) = request.cgroup {
            arguments.flags |= CloneFlags::INTO_CGROUP.bits();
            arguments.cgroup = u64::from(cgroup.cast_unsigned());
        }
        // SAFETY: the arguments are complete, and no flag shares memory.
        answer("clone3", unsafe { arch::clone3(&raw const arguments, size_of::<clone3::Arguments>()) })
    };
    if matches!(result, Err(Failure { errno: Errno::ENOSYS | Errno::EPERM, .. }))
        && can_fall_back(request, flags)
    {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "clone(2) has the low 32 bits, which are not the signal's"
        )]
        let bits = ((flags - CloneFlags::PARENT_SETTID).bits() as u32 | request.exit_signal.cast_unsigned())
            as usize;
        let arguments = CloneArguments {
            flags: bits,
            stack_top: bottom + length,
            // It has one place for both.
            parent_tid: place_of_pidfd,
            child_tid: request.child_tid,
            thread_pointer: 0,
        };
        // SAFETY: as above.
        result = answer("clone", unsafe { arch::clone(&arguments) });
        if let Ok(pid @ 1..) = result
            && request.parent_tid != 0
        {
            // SAFETY: the caller says that it may be written.
            unsafe { (request.parent_tid as *mut i32).write(pid) };
        }
    }
    Ok(match result? {
        0 => Cloned::Child,
        pid => Cloned::Parent {
            pid: Pid::from_raw(pid),
            // SAFETY: the kernel has written a new descriptor.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        },
    })
}

fn can_fall_back(request: &Request, flags: CloneFlags) -> bool {
    const CLONE3_ONLY: CloneFlags = CloneFlags::NEWTIME.union(CloneFlags::CLEAR_SIGHAND);
    request.set_tid.is_empty()
        && request.cgroup.is_none()
        && !flags.intersects(CLONE3_ONLY)
        && flags.bits() >> 32 == 0
}

#[allow(clippy::cast_possible_truncation, reason = "a pid or an errno")]
fn answer(call: &'static str, result: isize) -> Result<i32> {
    if result < 0 { Err(failure(call, -result as i32)) } else { Ok(result as i32) }
}

fn failure(call: &'static str, errno: i32) -> Failure {
    Failure { call, errno: Errno::from_raw(errno), raw: errno }
}
