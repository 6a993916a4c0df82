//! The ioctls of a namespace's descriptor.
//!
//! References: ioctl_nsfs(2).
//!
//! # Safety
//!
//! ioctls whose argument is an integer, or the address of the one value that the kernel writes.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;

use crate::constants as kernel;
use crate::failure::named;
use crate::pidfd_open::owned;
use crate::{CloneFlags, Result};

const CALL: &str = "ioctl";

/// The request number as the libc at hand wants it: c_ulong with glibc, c_int with musl.
#[allow(clippy::cast_possible_wrap, clippy::unnecessary_cast)]
const fn request(number: u32) -> libc::Ioctl {
    number as libc::Ioctl
}

/// An ioctl that takes an integer.
fn number(fd: impl AsRawFd + Copy, ioctl: u32, argument: i32) -> Result<i32> {
    // SAFETY: the ioctls that come here take an integer or nothing, and write no memory.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request(ioctl), libc::c_long::from(argument)) };
    named(CALL, Errno::result(result))
}

/// An ioctl that writes one value through its argument.
fn written<T: Default>(fd: impl AsRawFd + Copy, ioctl: u32) -> Result<T> {
    let mut value = T::default();
    let address = &raw mut value;
    // SAFETY: the callers pick `T` as the ioctl's definition has it, and it outlives the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request(ioctl), address) };
    named(CALL, Errno::result(result)).map(|_| value)
}

/// The user namespace that owns this one. Since Linux 4.9.
///
/// # Errors
///
/// ENOTTY (no namespace's descriptor), EPERM (it is outside of the caller's), EBADF.
pub fn get_userns(fd: impl AsRawFd + Copy) -> Result<OwnedFd> {
    number(fd, kernel::NS_GET_USERNS, 0).map(|fd| owned(fd.into()))
}

/// The parent of a user or pid namespace. Since Linux 4.9.
///
/// # Errors
///
/// EINVAL (a type without parents), EPERM (the initial one, or outside of the caller's), ENOTTY, EBADF.
pub fn get_parent(fd: impl AsRawFd + Copy) -> Result<OwnedFd> {
    number(fd, kernel::NS_GET_PARENT, 0).map(|fd| owned(fd.into()))
}

/// The namespace's type. Since Linux 4.11.
///
/// # Errors
///
/// ENOTTY, EBADF.
pub fn get_nstype(fd: impl AsRawFd + Copy) -> Result<CloneFlags> {
    number(fd, kernel::NS_GET_NSTYPE, 0)
        .map(|bits| CloneFlags::from_bits_retain(u64::from(bits.cast_unsigned())))
}

/// Who owns a user namespace, as the caller's user namespace numbers it. Since Linux 4.11.
///
/// # Errors
///
/// EINVAL (no user namespace), ENOTTY, EBADF.
pub fn get_owner_uid(fd: impl AsRawFd + Copy) -> Result<u32> {
    written(fd, kernel::NS_GET_OWNER_UID)
}

/// The id of a namespace, never used twice while the system runs. Since Linux 6.18.
///
/// # Errors
///
/// ENOTTY, EBADF.
pub fn get_id(fd: impl AsRawFd + Copy) -> Result<u64> {
    written(fd, kernel::NS_GET_ID)
}

/// The id of a mount namespace, as listmount(2) takes it. Since Linux 6.11.
///
/// # Errors
///
/// EINVAL (no mount namespace), ENOTTY, EBADF.
pub fn get_mntns_id(fd: impl AsRawFd + Copy) -> Result<u64> {
    written(fd, kernel::NS_GET_MNTNS_ID)
}

/// What the pid namespace calls `pid`, in the caller's numbers. Since Linux 6.11.
///
/// # Errors
///
/// EINVAL (no pid namespace), ESRCH, ENOTTY, EBADF.
pub fn get_pid_from_pidns(fd: impl AsRawFd + Copy, pid: i32) -> Result<i32> {
    number(fd, kernel::NS_GET_PID_FROM_PIDNS, pid)
}

/// The process of what the pid namespace calls `tgid`, in the caller's numbers. Since Linux 6.11.
///
/// # Errors
///
/// As for [`get_pid_from_pidns`].
pub fn get_tgid_from_pidns(fd: impl AsRawFd + Copy, tgid: i32) -> Result<i32> {
    number(fd, kernel::NS_GET_TGID_FROM_PIDNS, tgid)
}

/// What the caller calls `pid`, in the numbers of the pid namespace. Since Linux 6.11.
///
/// # Errors
///
/// As for [`get_pid_from_pidns`].
pub fn get_pid_in_pidns(fd: impl AsRawFd + Copy, pid: i32) -> Result<i32> {
    number(fd, kernel::NS_GET_PID_IN_PIDNS, pid)
}

/// The process of what the caller calls `tgid`, in the numbers of the pid namespace. Since Linux 6.11.
///
/// # Errors
///
/// As for [`get_pid_from_pidns`].
pub fn get_tgid_in_pidns(fd: impl AsRawFd + Copy, tgid: i32) -> Result<i32> {
    number(fd, kernel::NS_GET_TGID_IN_PIDNS, tgid)
}
