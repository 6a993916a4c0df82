//! # Safety
//!
//! Descriptors are integers in JavaScript: whoever passes one vouches for it, as with Node's own fs.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd};

use linux_clone_syscalls::{CloneFlags, Errno, Failure};
use napi::{Error, Result, Status};

/// A descriptor for the time of one call; -1, which Rust has no place for, is what the kernel would say of it.
pub fn descriptor<'a>(call: &'static str, fd: i32) -> std::result::Result<BorrowedFd<'a>, Failure> {
    if fd == -1 {
        return Err(Failure { call, errno: Errno::EBADF });
    }
    // SAFETY: it is not -1, and the kernel answers EBADF for what is no open descriptor.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// From here on the descriptor is JavaScript's to close.
pub fn number(fd: OwnedFd) -> i32 {
    fd.into_raw_fd()
}

pub fn flags(bits: u32) -> CloneFlags {
    CloneFlags::from_bits_retain(bits.into())
}

/// `src/` has refused strings with a NUL byte already.
pub fn c_string(text: String) -> Result<CString> {
    CString::new(text).map_err(|_| Error::new(Status::InvalidArg, "a string holds a NUL byte"))
}
