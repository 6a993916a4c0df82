//! # Safety
//!
//! System calls on integers, and on structures that outlive the call.
#![allow(unsafe_code)]

use nix::errno::Errno;

use crate::Result;
use crate::failure::named;

/// The capabilities by number.
///
/// References: capabilities(7), linux/capability.h.
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// More than any kernel has: a capability is one of 64 bits.
const MOST: u32 = 64;

/// Leaves only these capabilities in the calling thread's bounding set.
///
/// References: prctl(2) `PR_CAPBSET_DROP`. Since Linux 2.6.25.
///
/// # Errors
///
/// EPERM: without `CAP_SETPCAP`, and there are others in it.
pub fn limit_bounding_set(kept: u64) -> Result<()> {
    for capability in (0..MOST).filter(|capability| kept >> capability & 1 == 0) {
        // SAFETY: integers only.
        match unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(capability)) } {
            1 => {
                // SAFETY: as above.
                let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability)) };
                named("prctl", Errno::result(result))?;
            }
            0 => {}
            // The kernel has no more.
            _ => break,
        }
    }
    Ok(())
}

/// The permitted capabilities outlive the change from uid 0 to others.
///
/// References: prctl(2) `PR_SET_KEEPCAPS`.
///
/// # Errors
///
/// EPERM: securebits forbid it.
pub fn keep_capabilities() -> Result<()> {
    let yes: libc::c_ulong = 1;
    // SAFETY: integers only.
    let result = unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, yes) };
    named("prctl", Errno::result(result).map(drop))
}

const VERSION: u32 = 0x2008_0522;

/// struct __user_cap_header_struct of linux/capability.h.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// struct __user_cap_data_struct.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Makes these the calling thread's effective, permitted, inheritable and ambient capabilities.
///
/// References: capset(2), prctl(2) `PR_CAP_AMBIENT` (Linux 4.3).
///
/// # Errors
///
/// EPERM: one of them is not permitted.
pub fn set_capabilities(kept: u64) -> Result<()> {
    #[allow(clippy::cast_possible_truncation, reason = "half of the bits is meant")]
    let halves = [kept as u32, (kept >> 32) as u32].map(|bits| Half {
        effective: bits,
        permitted: bits,
        inheritable: bits,
    });
    capset(halves)?;
    ambient(libc::PR_CAP_AMBIENT_CLEAR_ALL.cast_unsigned(), 0)?;
    for capability in (0..MOST).filter(|capability| kept >> capability & 1 == 1) {
        ambient(libc::PR_CAP_AMBIENT_RAISE.cast_unsigned(), capability)?;
    }
    Ok(())
}

/// What `action` returns, which is done without these effective capabilities in the calling thread.
///
/// References: capget(2), capset(2).
///
/// # Errors
///
/// Those of a filter of system calls.
pub fn without_capabilities<T>(bits: u64, action: impl FnOnce() -> T) -> Result<T> {
    let own = capget()?;
    let mut fewer = own;
    for (half, shift) in fewer.iter_mut().zip([0, 32]) {
        #[allow(clippy::cast_possible_truncation, reason = "half of the bits is meant")]
        let without = (bits >> shift) as u32;
        half.effective &= !without;
    }
    capset(fewer)?;
    let result = action();
    capset(own).map(|()| result)
}

fn capget() -> Result<[Half; 2]> {
    let header = Header { version: VERSION, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: the structures are of this version's form, and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw const header, halves.as_mut_ptr()) };
    named("capget", Errno::result(result).map(|_| halves))
}

fn capset(halves: [Half; 2]) -> Result<()> {
    let header = Header { version: VERSION, pid: 0 };
    // SAFETY: as above.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) };
    named("capset", Errno::result(result).map(drop))
}

fn ambient(command: u32, capability: u32) -> Result<()> {
    let unused: libc::c_ulong = 0;
    let [command, capability] = [command, capability].map(libc::c_ulong::from);
    // SAFETY: integers only.
    let result = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, command, capability, unused, unused) };
    named("prctl", Errno::result(result).map(drop))
}
