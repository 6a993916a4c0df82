//! Processors on which this process cannot be copied: the calls fail as those of a kernel that lacks them.
//!
//! # Safety
//!
//! Nothing here does anything.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use linux_clone_syscalls::clone3::Arguments;

use super::{CloneArguments, Wait};

const MISSING: isize = -(libc::ENOSYS as isize);

/// # Safety
///
/// None is asked for.
pub unsafe fn clone3(_: *const Arguments, _: usize) -> isize {
    MISSING
}

/// # Safety
///
/// None is asked for.
pub unsafe fn clone3_calling(
    _: *const Arguments,
    _: usize,
    _: extern "C" fn(*mut c_void) -> c_int,
    _: *mut c_void,
) -> isize {
    MISSING
}

/// # Safety
///
/// None is asked for.
pub unsafe fn clone(_: &CloneArguments) -> isize {
    MISSING
}

/// # Safety
///
/// None is asked for.
pub unsafe fn resume(_: &CloneArguments) -> isize {
    MISSING
}

pub fn signal_frame(_: *mut libc::siginfo_t, context: *mut c_void) -> *mut c_void {
    context
}

pub fn thread_pointer() -> usize {
    0
}

/// # Safety
///
/// None is asked for.
pub unsafe fn was_in_system_call(_: *const c_void) -> Result<Option<usize>, usize> {
    Ok(None)
}

/// # Safety
///
/// None is asked for.
pub unsafe fn stack_pointer(_: *const c_void) -> usize {
    0
}

/// # Safety
///
/// None is asked for.
pub unsafe fn unlimited_wait(_: *const c_void) -> Option<Wait> {
    None
}

/// # Safety
///
/// None is asked for.
pub unsafe fn return_from(_: &Wait, _: *mut c_void, _: libc::c_long) {}
