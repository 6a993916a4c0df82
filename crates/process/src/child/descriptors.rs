//! The descriptors that a program gets.
//!
//! # Safety
//!
//! Calls on numbers, in a table that is the child's own.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::c_int;
use std::os::fd::RawFd;

use linux_clone_syscalls::{Errno, Failure, Result, close_range_on_exec};

/// Copies each descriptor to its place in the slice; a negative one leaves no descriptor there. The others are closed by exec.
///
/// What libuv does, in its two passes: first those go up that another copy would overwrite.
pub fn place(descriptors: &[Cell<RawFd>]) -> Result<()> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "the parent's descriptors"
    )]
    let count = descriptors.len() as RawFd;
    for (target, descriptor) in (0..count).zip(descriptors) {
        if (0..target).contains(&descriptor.get()) {
            // SAFETY: integers only.
            let copy = unsafe { libc::fcntl(descriptor.get(), libc::F_DUPFD_CLOEXEC, count) };
            descriptor.set(failing_as("fcntl", copy)?);
        }
    }
    for (target, descriptor) in (0..count).zip(descriptors) {
        let source = descriptor.get();
        if source < 0 {
            continue;
        }
        if source == target {
            // SAFETY: integers only.
            failing_as("fcntl", unsafe { libc::fcntl(target, libc::F_SETFD, 0) })?;
        } else {
            // SAFETY: integers only.
            failing_as("dup2", unsafe { libc::dup2(source, target) })?;
        }
        if target <= libc::STDERR_FILENO {
            make_blocking(target);
        }
    }
    Ok(())
}

fn failing_as(call: &'static str, result: c_int) -> Result<c_int> {
    Errno::result(result).map_err(|errno| Failure::new(call, errno))
}

fn set_close_on_exec(descriptor: u32) {
    // SAFETY: integers only; one that is not open stays so.
    unsafe { libc::fcntl(descriptor.cast_signed(), libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// Programs expect it of their standard streams.
fn make_blocking(descriptor: RawFd) {
    // SAFETY: integers only.
    let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFL) };
    if flags >= 0 && flags & libc::O_NONBLOCK != 0 {
        // SAFETY: as above.
        unsafe { libc::fcntl(descriptor, libc::F_SETFL, flags & !libc::O_NONBLOCK) };
    }
}

/// What libraries of the parent have opened without that flag does not reach the program either.
///
/// While /proc and the limit are the parent's own: others, and the limits that are asked for, may hide what is open.
pub fn close_on_exec() {
    if close_range_on_exec(0, u32::MAX).is_ok() {
        return;
    }
    // Before Linux 5.11, or where a filter refuses it.
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is written during the call.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    // SAFETY: a C string.
    let directory = unsafe {
        libc::open(c"/proc/self/fd".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC)
    };
    if directory < 0 {
        #[allow(clippy::cast_possible_truncation, reason = "descriptors are as many as 31 bits count")]
        for descriptor in 0..limit.rlim_cur.min(1 << 20) as u32 {
            set_close_on_exec(descriptor);
        }
        return;
    }
    close_listed(directory);
    // SAFETY: opened above.
    unsafe { libc::close(directory) };
}

/// Entries of getdents64(2): inode (8 bytes), offset (8), length of the entry (2), type (1), name.
fn close_listed(directory: RawFd) {
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    let mut entries = [0_u64; 512];
    loop {
        // SAFETY: the buffer is as long as the call is told.
        let read = unsafe {
            libc::syscall(libc::SYS_getdents64, directory, entries.as_mut_ptr(), size_of_val(&entries))
        };
        let Ok(read @ 1..) = usize::try_from(read) else { return };
        // SAFETY: the kernel has written as much, and bytes need no alignment.
        let bytes = unsafe { std::slice::from_raw_parts(entries.as_ptr().cast::<u8>(), read) };
        let mut rest = bytes;
        while let (Some(&[low, high]), Some(name)) = (rest.get(LENGTH..LENGTH + 2), rest.get(NAME..)) {
            let digits = name.iter().take_while(|byte| byte.is_ascii_digit());
            let number = digits
                .fold(0_u32, |number, digit| number.wrapping_mul(10).wrapping_add(u32::from(digit - b'0')));
            if name.first().is_some_and(u8::is_ascii_digit) {
                set_close_on_exec(number);
            }
            rest = rest.get(usize::from(u16::from_ne_bytes([low, high]))..).unwrap_or_default();
        }
    }
}
