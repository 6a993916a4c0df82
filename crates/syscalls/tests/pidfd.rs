//! Processes by descriptor.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs::read_to_string;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use linux_clone_syscalls::{
    Errno, Pid, PidfdFlags, PidfdSignalFlags, pidfd_getfd, pidfd_open, pidfd_send_signal,
};

fn child() -> (Child, OwnedFd) {
    let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    (child, pidfd_open(pid, PidfdFlags::empty()).unwrap())
}

fn fdinfo(fd: &OwnedFd) -> String {
    read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap()
}

#[test]
fn it_is_of_the_process_and_close_on_exec() {
    let (mut child, pidfd) = child();
    let info = fdinfo(&pidfd);
    assert!(info.contains(&format!("Pid:\t{}\n", child.id())), "{info}");
    assert!(info.contains("flags:\t02000002\n"), "{info}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_signal_ends_it() {
    let (mut child, pidfd) = child();
    assert_eq!(pidfd_send_signal(pidfd.as_fd(), 0, PidfdSignalFlags::empty()), Ok(()));
    assert_eq!(pidfd_send_signal(pidfd.as_fd(), libc::SIGTERM, PidfdSignalFlags::empty()), Ok(()));
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
    let failure = pidfd_send_signal(pidfd.as_fd(), libc::SIGTERM, PidfdSignalFlags::empty()).unwrap_err();
    assert_eq!((failure.call, failure.errno), ("pidfd_send_signal", Errno::ESRCH));
}

#[test]
fn its_descriptors_can_be_had() {
    let (mut child, pidfd) = child();
    let copy = pidfd_getfd(pidfd.as_fd(), 1).unwrap();
    let target = std::fs::read_link(format!("/proc/self/fd/{}", copy.as_raw_fd())).unwrap();
    assert_eq!(target.to_str(), Some("/dev/null"));
    assert!(fdinfo(&copy).contains("flags:\t02"), "{}", fdinfo(&copy));
    assert_eq!(pidfd_getfd(pidfd.as_fd(), 999).unwrap_err().errno, Errno::EBADF);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_is_no_process_is_an_error() {
    let failure = pidfd_open(Pid::from_raw(-1), PidfdFlags::empty()).unwrap_err();
    assert_eq!((failure.call, failure.errno), ("pidfd_open", Errno::EINVAL));
}
