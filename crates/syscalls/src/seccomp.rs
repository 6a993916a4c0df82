//! # Safety
//!
//! System calls on integers, and on a program that outlives the call.
#![allow(unsafe_code)]

use nix::errno::Errno;

use crate::failure::named;
use crate::{Failure, Result};

/// An instruction of classic BPF: struct sock_filter of linux/filter.h.
pub type Instruction = libc::sock_filter;

/// The calling thread, and what it executes, gains no privileges by exec from now on.
///
/// References: prctl(2) `PR_SET_NO_NEW_PRIVS`. Since Linux 3.5.
///
/// # Errors
///
/// EINVAL: an older kernel.
pub fn set_no_new_privileges() -> Result<()> {
    let (yes, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: integers only.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, unused, unused, unused) };
    named("prctl", Errno::result(result).map(drop))
}

/// Filters the calling thread's system calls from now on.
///
/// References: seccomp(2) `SECCOMP_SET_MODE_FILTER`. Since Linux 3.17.
///
/// # Errors
///
/// EACCES (neither `CAP_SYS_ADMIN` nor no-new-privileges), EINVAL (the program), ENOMEM, ENOSYS.
pub fn seccomp_filter(filter: &[Instruction]) -> Result<()> {
    let length = u16::try_from(filter.len()).map_err(|_| Failure::new("seccomp", Errno::EINVAL))?;
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program and its instructions outlive the call, which copies them.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    named("seccomp", Errno::result(result).map(drop))
}
