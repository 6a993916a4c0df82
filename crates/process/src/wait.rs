//! Waiting for a process by its pidfd, and writing all of a buffer.
//!
//! # Safety
//!
//! System calls on descriptors that the caller owns, and on memory of ours.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use linux_clone_syscalls::{Errno, Failure, PidfdSignalFlags, Result, pidfd_send_signal};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const MOMENT: Duration = Duration::from_millis(1);

/// How a process has ended; neither is known of one that is not our child, on a kernel that does not tell (before 6.15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitStatus {
    /// What it gave to exit(2).
    pub code: Option<i32>,
    /// What killed it.
    pub signal: Option<i32>,
}

/// Waits for the end of a process, and reaps it where it is our child: `None` where it still runs and `block` is false.
///
/// References: waitid(2) with `P_PIDFD` (Linux 5.4), ioctl(2) `PIDFD_GET_INFO`.
///
/// # Errors
///
/// EBADF, EINVAL.
pub fn wait(pidfd: BorrowedFd<'_>, block: bool) -> Result<Option<ExitStatus>> {
    // SAFETY: the structure is plain data, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // Without blocking: libuv makes what it watches a descriptor that does not wait, and of those waitid(2) does not either.
    let options = libc::WEXITED | libc::__WALL | libc::WNOHANG;
    let id = pidfd.as_raw_fd().cast_unsigned();
    loop {
        // SAFETY: the call only writes what it found into `info`.
        let result = unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, options) };
        match Errno::result(result) {
            Err(Errno::ECHILD) => return wait_for_others(pidfd, block),
            Err(errno) => return Err(Failure::new("waitid", errno)),
            Ok(_) => {}
        }
        // SAFETY: waitid(2) has filled it in, or has left it zero.
        if unsafe { info.si_pid() } != 0 {
            break;
        }
        if !block {
            return Ok(None);
        }
        if is_readable(pidfd, PollTimeout::ZERO)? {
            // Who traces it has not let go of it yet.
            thread::sleep(MOMENT);
        } else {
            is_readable(pidfd, PollTimeout::NONE)?;
        }
    }
    // SAFETY: waitid(2) has filled it in.
    let status = unsafe { info.si_status() };
    let has_exited = info.si_code == libc::CLD_EXITED;
    Ok(Some(ExitStatus { code: has_exited.then_some(status), signal: (!has_exited).then_some(status) }))
}

/// The same for a process that is no child of ours.
fn wait_for_others(pidfd: BorrowedFd<'_>, block: bool) -> Result<Option<ExitStatus>> {
    let timeout = if block { PollTimeout::NONE } else { PollTimeout::ZERO };
    Ok(is_readable(pidfd, timeout)?.then(|| told_by_kernel(pidfd)))
}

/// Waits for the end of a program, which init may have reported: that tells more than init's own.
///
/// # Errors
///
/// As [`wait`].
pub fn wait_for_program(
    pidfd: BorrowedFd<'_>,
    report: Option<BorrowedFd<'_>>,
    block: bool,
) -> Result<Option<ExitStatus>> {
    let ended = wait(pidfd, block)?;
    Ok(ended.map(|status| report.and_then(read_report).unwrap_or(status)))
}

/// Kills a process, and reaps it where it is our child.
pub fn end(pidfd: BorrowedFd<'_>) {
    // One that has ended already needs no signal, and whoever may not send it cannot wait for it either.
    if pidfd_send_signal(pidfd.as_raw_fd(), libc::SIGKILL, PidfdSignalFlags::empty()).is_ok() {
        let _ = wait(pidfd, true);
    }
}

/// There is none where init was killed before.
fn read_report(report: BorrowedFd<'_>) -> Option<ExitStatus> {
    let mut status = [0; size_of::<i32>()];
    let read = nix::unistd::read(report, &mut status).ok()?;
    (read == status.len()).then(|| ExitStatus::of(i32::from_ne_bytes(status)))
}

impl ExitStatus {
    /// Of what wait(2) gives.
    fn of(status: i32) -> Self {
        Self {
            code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
            signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
        }
    }
}

/// A pidfd is readable when its process has ended.
fn is_readable(pidfd: BorrowedFd<'_>, timeout: PollTimeout) -> Result<bool> {
    let mut events = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut events, timeout) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Failure::new("poll", errno)),
            Ok(_) if events[0].revents().is_some_and(|events| events.contains(PollFlags::POLLNVAL)) => {
                return Err(Failure::new("poll", Errno::EBADF));
            }
            Ok(count) => return Ok(count > 0),
        }
    }
}

/// struct pidfd_info of linux/pidfd.h.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

fn told_by_kernel(pidfd: BorrowedFd<'_>) -> ExitStatus {
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    const PIDFD_GET_INFO: libc::Ioctl = libc::_IOWR::<PidfdInfo>(0xff, 11);
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the structure is as long as the request says.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    if result < 0 || info.mask & PIDFD_INFO_EXIT == 0 {
        return ExitStatus::default();
    }
    ExitStatus::of(info.exit_code)
}

/// Writes all of `bytes`, also where the descriptor is one that does not wait.
///
/// # Errors
///
/// What write(2) says, but EAGAIN and EINTR.
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match nix::unistd::write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut events = [PollFd::new(fd, PollFlags::POLLOUT)];
                // Whatever has interrupted it, the next write says what is wrong.
                let _ = poll(&mut events, PollTimeout::NONE);
            }
            Err(errno) => return Err(Failure::new("write", errno)),
        }
    }
    Ok(())
}
