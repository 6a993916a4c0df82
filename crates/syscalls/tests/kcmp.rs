//! kcmp(2) on this process and a child of it.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};

use linux_clone_syscalls::constants::{KCMP_EPOLL_TFD, KCMP_FILE, KCMP_VM};
use linux_clone_syscalls::{EpollSlot, Errno, Pid, kcmp, kcmp_epoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

fn number(fd: RawFd) -> u32 {
    fd.try_into().unwrap()
}

#[test]
fn a_duplicate_is_the_same_file_and_a_second_opening_is_not() {
    let own = Pid::this();
    let first = File::open("/dev/null").unwrap();
    let duplicate = first.try_clone().unwrap();
    let second = File::open("/dev/null").unwrap();
    let compare =
        |other: &File| kcmp(own, own, KCMP_FILE, number(first.as_raw_fd()), number(other.as_raw_fd()));
    assert_eq!(compare(&duplicate), Ok(0));
    assert!(matches!(compare(&second), Ok(1 | 2)));
}

#[test]
fn a_registration_is_compared_by_its_slot() {
    let own = Pid::this();
    let watched = nix::unistd::pipe().unwrap();
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    epoll.add(&watched.0, EpollEvent::new(EpollFlags::EPOLLIN, 0)).unwrap();
    let slot = |tfd| EpollSlot { efd: number(epoll.0.as_raw_fd()), tfd, toff: 0 };
    let reader = number(watched.0.as_raw_fd());
    assert_eq!(kcmp_epoll(own, own, reader, &slot(reader)), Ok(0));
    let other = kcmp_epoll(own, own, reader, &slot(number(watched.1.as_raw_fd())));
    assert_eq!(other.map_err(|failure| failure.errno), Err(Errno::ENOENT));
}

#[test]
fn what_would_be_read_as_a_pointer_is_refused() {
    let own = Pid::this();
    let refused = kcmp(own, own, KCMP_EPOLL_TFD, 0, 0).map_err(|failure| failure.errno);
    assert_eq!(refused, Err(Errno::EINVAL));
}

#[test]
fn errors_name_the_call() {
    let failure = kcmp(Pid::this(), Pid::from_raw(-1), KCMP_VM, 0, 0).unwrap_err();
    assert_eq!((failure.call, failure.errno), ("kcmp", Errno::ESRCH));
    assert_eq!(failure.to_string(), "ESRCH: No such process, kcmp");
}
