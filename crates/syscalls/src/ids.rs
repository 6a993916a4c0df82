//! The calling thread's ids: the libc's functions would change those of every thread that they know of.
//!
//! # Safety
//!
//! System calls of integers, and a list of no length.
#![allow(unsafe_code)]

use std::ptr;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getresgid, getresuid};

use crate::Result;
use crate::capabilities::without_capabilities;
use crate::failure::named;

const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;

/// The calls with 32-bit ids, which have a name of their own where there were others before.
#[cfg(not(any(target_arch = "arm", target_arch = "x86")))]
mod calls {
    pub use libc::{SYS_setgid, SYS_setgroups, SYS_setresgid, SYS_setresuid, SYS_setuid};
}
#[cfg(any(target_arch = "arm", target_arch = "x86"))]
mod calls {
    pub use libc::{
        SYS_setgid32 as SYS_setgid, SYS_setgroups32 as SYS_setgroups, SYS_setresgid32 as SYS_setresgid,
        SYS_setresuid32 as SYS_setresuid, SYS_setuid32 as SYS_setuid,
    };
}

/// Leaves every supplementary group.
///
/// References: setgroups(2).
///
/// # Errors
///
/// EPERM: without `CAP_SETGID`, or denied in this user namespace.
pub fn leave_groups() -> Result<()> {
    let none: *const libc::gid_t = ptr::null();
    // SAFETY: the length is 0, so that nothing is read.
    let result = unsafe { libc::syscall(calls::SYS_setgroups, 0, none) };
    named("setgroups", Errno::result(result).map(drop))
}

/// setgid(2).
///
/// # Errors
///
/// EINVAL (not mapped in this user namespace), EPERM.
pub fn setgid(id: u32) -> Result<()> {
    // SAFETY: an integer.
    let result = unsafe { libc::syscall(calls::SYS_setgid, id) };
    named("setgid", Errno::result(result).map(drop))
}

/// setuid(2).
///
/// # Errors
///
/// EAGAIN, EINVAL (not mapped in this user namespace), EPERM.
pub fn setuid(id: u32) -> Result<()> {
    // SAFETY: an integer.
    let result = unsafe { libc::syscall(calls::SYS_setuid, id) };
    named("setuid", Errno::result(result).map(drop))
}

/// setresgid(2), with one id for all three.
///
/// # Errors
///
/// EINVAL (not mapped in this user namespace), EPERM.
pub fn setresgid(id: u32) -> Result<()> {
    set(calls::SYS_setresgid, "setresgid", [id; 3])
}

/// setresuid(2), with one id for all three.
///
/// # Errors
///
/// EAGAIN, EINVAL (not mapped in this user namespace), EPERM.
pub fn setresuid(id: u32) -> Result<()> {
    set(calls::SYS_setresuid, "setresuid", [id; 3])
}

/// Whether the group ids are mapped in this user namespace. One that is not is shown as /proc/sys/fs/overflowgid, which may
/// be mapped to another: only what is one's own can be taken without privilege.
///
/// References: getresgid(2), setresgid(2), user_namespaces(7).
///
/// # Errors
///
/// Those of a filter of system calls.
pub fn are_groups_mapped() -> Result<bool> {
    let own = named("getresgid", getresgid())?;
    let ids = [own.real, own.effective, own.saved].map(Gid::as_raw);
    without_capabilities(1 << CAP_SETGID, || set(calls::SYS_setresgid, "setresgid", ids).is_ok())
}

/// The same of the user ids.
///
/// References: getresuid(2), setresuid(2), user_namespaces(7).
///
/// # Errors
///
/// Those of a filter of system calls.
pub fn are_users_mapped() -> Result<bool> {
    let own = named("getresuid", getresuid())?;
    let ids = [own.real, own.effective, own.saved].map(Uid::as_raw);
    without_capabilities(1 << CAP_SETUID, || set(calls::SYS_setresuid, "setresuid", ids).is_ok())
}

fn set(call: libc::c_long, name: &'static str, [real, effective, saved]: [u32; 3]) -> Result<()> {
    // SAFETY: integers.
    let result = unsafe { libc::syscall(call, real, effective, saved) };
    named(name, Errno::result(result).map(drop))
}
