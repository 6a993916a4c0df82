use std::ffi::OsStr;

use linux_clone_syscalls::{
    self as kernel, EpollSlot, Loopback, MOUNT_OPTIONS, MountFlags, OCTAL_OPTIONS, Pid, PidfdFlags,
    PidfdSignalFlags, UmountFlags,
};
use napi::Result;
use napi_derive::napi;

use crate::convert::{c_string, number};
use crate::failure::{Failure, Outcome, failure, outcome};

/// pivot_root(2).
#[napi]
pub fn pivot_root(new_root: String, put_old: String) -> Result<Option<Failure>> {
    Ok(failure(kernel::pivot_root(&c_string(new_root)?, &c_string(put_old)?)))
}

/// kcmp(2) of what needs no indices, which are 0: each argument costs as much as a tenth of the call.
#[napi]
pub fn kcmp(pid1: i32, pid2: i32, kind: i32) -> Outcome<i32> {
    kcmp_indexed(pid1, pid2, kind, 0, 0)
}

/// kcmp(2), without `KCMP_EPOLL_TFD`.
#[napi]
pub fn kcmp_indexed(pid1: i32, pid2: i32, kind: i32, idx1: u32, idx2: u32) -> Outcome<i32> {
    outcome(kernel::kcmp(Pid::from_raw(pid1), Pid::from_raw(pid2), kind, idx1, idx2), |order| order)
}

/// kcmp(2) with `KCMP_EPOLL_TFD`.
#[napi]
pub fn kcmp_epoll(pid1: i32, pid2: i32, idx1: u32, efd: u32, tfd: u32, toff: u32) -> Outcome<i32> {
    let slot = EpollSlot { efd, tfd, toff };
    outcome(kernel::kcmp_epoll(Pid::from_raw(pid1), Pid::from_raw(pid2), idx1, &slot), |order| order)
}

/// Brings `lo` up.
#[napi]
pub fn configure_loopback() -> Option<Failure> {
    failure(Loopback::new().configure())
}

/// mount(2).
#[napi]
pub fn mount(
    source: Option<String>,
    target: String,
    fstype: Option<String>,
    flags: u32,
    data: Option<String>,
) -> Result<Option<Failure>> {
    let [source, fstype, data] = [source, fstype, data].map(|text| text.map(c_string).transpose());
    let flags = MountFlags::from_bits_retain(flags.into());
    let result =
        kernel::mount(source?.as_deref(), &c_string(target)?, fstype?.as_deref(), flags, data?.as_deref());
    Ok(failure(result))
}

/// umount2(2).
#[napi]
pub fn umount(target: String, flags: u32) -> Result<Option<Failure>> {
    Ok(failure(kernel::umount(&c_string(target)?, UmountFlags::from_bits_retain(flags.cast_signed()))))
}

/// An option of mount(8) that is a flag of mount(2).
#[napi(object)]
pub struct MountOption {
    pub name: String,
    pub set: u32,
    pub clear: u32,
}

/// Every option of mount(8) that is a flag of mount(2).
#[napi]
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "the flags of mount(2) have 32 bits")]
pub fn mount_options() -> Vec<MountOption> {
    let convert = |option: &kernel::MountOption| MountOption {
        name: option.name.to_owned(),
        set: option.set.bits() as u32,
        clear: option.clear.bits() as u32,
    };
    MOUNT_OPTIONS.iter().map(convert).collect()
}

/// The file systems' options whose numbers are octal.
#[napi]
#[must_use]
pub fn octal_mount_options() -> Vec<String> {
    OCTAL_OPTIONS.iter().map(ToString::to_string).collect()
}

/// How many bytes of mount(2)'s data the kernel reads, the final NUL byte among them.
#[napi]
#[must_use]
pub fn mount_data_length() -> u32 {
    kernel::mount_data_length()
}

/// sethostname(2).
#[napi]
#[allow(clippy::needless_pass_by_value, reason = "a function of JavaScript's owns its arguments")]
pub fn sethostname(name: String) -> Option<Failure> {
    failure(kernel::sethostname(OsStr::new(&name)))
}

/// setdomainname(2).
#[napi]
#[allow(clippy::needless_pass_by_value, reason = "a function of JavaScript's owns its arguments")]
pub fn setdomainname(name: String) -> Option<Failure> {
    failure(kernel::setdomainname(OsStr::new(&name)))
}

/// pidfd_open(2).
#[napi]
pub fn pidfd_open(pid: i32, flags: u32) -> Outcome<i32> {
    outcome(kernel::pidfd_open(Pid::from_raw(pid), PidfdFlags::from_bits_retain(flags)), number)
}

/// pidfd_send_signal(2).
#[napi]
pub fn pidfd_send_signal(pidfd: i32, signal: i32, flags: u32) -> Option<Failure> {
    let flags = PidfdSignalFlags::from_bits_retain(flags);
    failure(kernel::pidfd_send_signal(pidfd, signal, flags))
}

/// pidfd_getfd(2).
#[napi]
pub fn pidfd_getfd(pidfd: i32, target_fd: i32) -> Outcome<i32> {
    outcome(kernel::pidfd_getfd(pidfd, target_fd), number)
}
