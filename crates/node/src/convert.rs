use std::ffi::CString;
use std::os::fd::{IntoRawFd, OwnedFd};

use linux_clone_syscalls::CloneFlags;
use napi::{Error, Result, Status};

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
