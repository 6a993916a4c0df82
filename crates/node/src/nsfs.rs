use linux_clone_syscalls::nsfs;
use napi::bindgen_prelude::BigInt;
use napi_derive::napi;

use crate::convert::{descriptor, number};
use crate::failure::{Outcome, outcome};

const CALL: &str = "ioctl";

/// `NS_GET_USERNS`.
#[napi]
pub fn ns_get_userns(fd: i32) -> Outcome<i32> {
    outcome(descriptor(CALL, fd).and_then(nsfs::get_userns), number)
}

/// `NS_GET_PARENT`.
#[napi]
pub fn ns_get_parent(fd: i32) -> Outcome<i32> {
    outcome(descriptor(CALL, fd).and_then(nsfs::get_parent), number)
}

/// `NS_GET_NSTYPE`.
#[napi]
#[allow(clippy::cast_possible_truncation, reason = "the flags of namespaces have 32 bits")]
pub fn ns_get_nstype(fd: i32) -> Outcome<u32> {
    outcome(descriptor(CALL, fd).and_then(nsfs::get_nstype), |kind| kind.bits() as u32)
}

/// `NS_GET_OWNER_UID`.
#[napi]
pub fn ns_get_owner_uid(fd: i32) -> Outcome<u32> {
    outcome(descriptor(CALL, fd).and_then(nsfs::get_owner_uid), |uid| uid)
}

/// `NS_GET_ID`.
#[napi]
pub fn ns_get_id(fd: i32) -> Outcome<BigInt> {
    outcome(descriptor(CALL, fd).and_then(nsfs::get_id), BigInt::from)
}

/// `NS_GET_MNTNS_ID`.
#[napi]
pub fn ns_get_mntns_id(fd: i32) -> Outcome<BigInt> {
    outcome(descriptor(CALL, fd).and_then(nsfs::get_mntns_id), BigInt::from)
}

/// `NS_GET_PID_FROM_PIDNS`.
#[napi]
pub fn ns_get_pid_from_pidns(fd: i32, pid: i32) -> Outcome<i32> {
    outcome(descriptor(CALL, fd).and_then(|fd| nsfs::get_pid_from_pidns(fd, pid)), |pid| pid)
}

/// `NS_GET_TGID_FROM_PIDNS`.
#[napi]
pub fn ns_get_tgid_from_pidns(fd: i32, tgid: i32) -> Outcome<i32> {
    outcome(descriptor(CALL, fd).and_then(|fd| nsfs::get_tgid_from_pidns(fd, tgid)), |tgid| tgid)
}

/// `NS_GET_PID_IN_PIDNS`.
#[napi]
pub fn ns_get_pid_in_pidns(fd: i32, pid: i32) -> Outcome<i32> {
    outcome(descriptor(CALL, fd).and_then(|fd| nsfs::get_pid_in_pidns(fd, pid)), |pid| pid)
}

/// `NS_GET_TGID_IN_PIDNS`.
#[napi]
pub fn ns_get_tgid_in_pidns(fd: i32, tgid: i32) -> Outcome<i32> {
    outcome(descriptor(CALL, fd).and_then(|fd| nsfs::get_tgid_in_pidns(fd, tgid)), |tgid| tgid)
}
