use linux_clone_process::duplicate::make_late_threads;
use linux_clone_process::setup::Setup;
use linux_clone_process::{
    WorkingDirectory, align_all, expect_no_inspector, setns_all, setup_all, unshare_all,
};
use linux_clone_syscalls::{self as kernel, Namespace};
use napi::Result;
use napi_derive::napi;

use crate::clone::SetupRequest;
use crate::convert::flags;
use crate::failure::{Failure, Outcome, failure, outcome};

/// A kind of namespace.
#[napi(object)]
pub struct NamespaceKind {
    pub name: String,
    pub flag: u32,
}

/// Every kind of namespace.
#[napi]
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "the flags of namespaces have 32 bits")]
pub fn namespace_kinds() -> Vec<NamespaceKind> {
    let convert =
        |kind: &Namespace| NamespaceKind { name: kind.name.to_owned(), flag: kind.flag.bits() as u32 };
    Namespace::ALL.iter().map(convert).collect()
}

/// unshare(2), which may be refused to a process that has threads: not by when it is asked.
#[napi]
pub fn unshare(bits: u32) -> Option<Failure> {
    failure(make_late_threads().and_then(|()| kernel::unshare(flags(bits))))
}

/// setns(2), as above.
#[napi]
pub fn setns(fd: i32, nstype: u32) -> Option<Failure> {
    failure(make_late_threads().and_then(|()| kernel::setns(fd, flags(nstype))))
}

/// unshare(2) for every thread: whether threads have working directories of their own since then.
#[napi]
pub fn unshare_every_thread(bits: u32, may_separate: bool) -> Outcome<bool> {
    outcome(unshare_all(flags(bits), may_separate), is_separate)
}

/// The same with what is done in new namespaces.
#[napi]
pub fn setup_every_thread(bits: u32, request: SetupRequest, may_separate: bool) -> Result<Outcome<bool>> {
    let setup = Setup { unshare: flags(bits), ..request.try_into()? };
    Ok(outcome(setup_all(&setup, may_separate), is_separate))
}

/// setns(2) for every thread: whether threads have working directories of their own since then.
#[napi]
pub fn setns_every_thread(fd: i32, nstype: u32, may_separate: bool) -> Outcome<bool> {
    outcome(setns_all(fd, flags(nstype), may_separate), is_separate)
}

/// To be called where Node has been told to have no thread for SIGUSR1.
#[napi]
pub fn expect_no_signal_inspector() {
    expect_no_inspector();
}

/// Gives every thread in the calling one's mount namespace its working directory and umask.
#[napi]
pub fn align_threads() -> Option<Failure> {
    failure(align_all())
}

fn is_separate(directory: WorkingDirectory) -> bool {
    directory == WorkingDirectory::Separate
}
