//! # Safety
//!
//! A system call on a structure that outlives it.
#![allow(unsafe_code)]

use std::ptr;

use nix::errno::Errno;

use crate::Result;
use crate::failure::named;

/// The resources by name: getrlimit(2)'s without the prefix, in lower case.
#[allow(clippy::cast_possible_wrap, clippy::unnecessary_cast, reason = "the libcs differ in the type")]
pub const RESOURCES: [(&str, i32); 16] = [
    ("as", libc::RLIMIT_AS as i32),
    ("core", libc::RLIMIT_CORE as i32),
    ("cpu", libc::RLIMIT_CPU as i32),
    ("data", libc::RLIMIT_DATA as i32),
    ("fsize", libc::RLIMIT_FSIZE as i32),
    ("locks", libc::RLIMIT_LOCKS as i32),
    ("memlock", libc::RLIMIT_MEMLOCK as i32),
    ("msgqueue", libc::RLIMIT_MSGQUEUE as i32),
    ("nice", libc::RLIMIT_NICE as i32),
    ("nofile", libc::RLIMIT_NOFILE as i32),
    ("nproc", libc::RLIMIT_NPROC as i32),
    ("rss", libc::RLIMIT_RSS as i32),
    ("rtprio", libc::RLIMIT_RTPRIO as i32),
    ("rttime", libc::RLIMIT_RTTIME as i32),
    ("sigpending", libc::RLIMIT_SIGPENDING as i32),
    ("stack", libc::RLIMIT_STACK as i32),
];

/// What a process may use of a resource: struct rlimit64.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceLimit {
    /// What the kernel enforces; all bits: unlimited.
    pub soft: u64,
    /// Up to where the process may raise it.
    pub hard: u64,
}

/// Limits the calling process.
///
/// References: prlimit(2). Since Linux 2.6.36.
///
/// # Errors
///
/// EINVAL (the soft limit above the hard one), EPERM (the hard limit raised without `CAP_SYS_RESOURCE`).
pub fn set_resource_limit(resource: i32, limit: &ResourceLimit) -> Result<()> {
    let (limit, old): (*const ResourceLimit, *mut ResourceLimit) = (limit, ptr::null_mut());
    // SAFETY: the limits outlive the call, which is not asked for the old ones.
    let result = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, limit, old) };
    named("prlimit", Errno::result(result).map(drop))
}
