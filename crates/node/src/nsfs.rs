use linux_clone_syscalls::nsfs;
use napi::bindgen_prelude::BigInt;
use napi_derive::napi;

use crate::convert::number;
use crate::failure::{Outcome, outcome};

/// `NS_GET_USERNS`.
#[napi]
pub fn ns_get_userns(fd: i32) -> Outcome<i32> {
    outcome(nsfs::get_userns(fd), number)
}

/// `NS_GET_PARENT`.
#[napi]
pub fn ns_get_parent(fd: i32) -> Outcome<i32> {
    outcome(nsfs::get_parent(fd), number)
}

/// `NS_GET_NSTYPE`.
#[napi]
#[allow(clippy::cast_possible_truncation, reason = "the flags of namespaces have 32 bits")]
pub fn ns_get_nstype(fd: i32) -> Outcome<u32> {
    outcome(nsfs::get_nstype(fd), |kind| kind.bits() as u32)
}

/// `NS_GET_OWNER_UID`.
#[napi]
pub fn ns_get_owner_uid(fd: i32) -> Outcome<u32> {
    outcome(nsfs::get_owner_uid(fd), |uid| uid)
}

/// `NS_GET_ID`.
#[napi]
pub fn ns_get_id(fd: i32) -> Outcome<BigInt> {
    outcome(nsfs::get_id(fd), BigInt::from)
}

/// `NS_GET_MNTNS_ID`.
#[napi]
pub fn ns_get_mntns_id(fd: i32) -> Outcome<BigInt> {
    outcome(nsfs::get_mntns_id(fd), BigInt::from)
}

/// `NS_GET_PID_FROM_PIDNS`.
#[napi]
pub fn ns_get_pid_from_pidns(fd: i32, pid: i32) -> Outcome<i32> {
    outcome(nsfs::get_pid_from_pidns(fd, pid), |pid| pid)
}

/// `NS_GET_TGID_FROM_PIDNS`.
#[napi]
pub fn ns_get_tgid_from_pidns(fd: i32, tgid: i32) -> Outcome<i32> {
    outcome(nsfs::get_tgid_from_pidns(fd, tgid), |tgid| tgid)
}

/// `NS_GET_PID_IN_PIDNS`.
#[napi]
pub fn ns_get_pid_in_pidns(fd: i32, pid: i32) -> Outcome<i32> {
    outcome(nsfs::get_pid_in_pidns(fd, pid), |pid| pid)
}

/// `NS_GET_TGID_IN_PIDNS`.
#[napi]
pub fn ns_get_tgid_in_pidns(fd: i32, tgid: i32) -> Outcome<i32> {
    outcome(nsfs::get_tgid_in_pidns(fd, tgid), |tgid| tgid)
}
