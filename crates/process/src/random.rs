//! The kernel's random numbers, which no copy of a process has in common with it.

use linux_clone_syscalls::{Errno, Failure, Result};

/// Fills it by getrandom(2), which waits until the kernel has gathered enough, once after it has booted.
///
/// # Errors
///
/// ENOSYS, EPERM: a seccomp filter refuses the call.
pub fn fill_random(mut bytes: &mut [u8]) -> Result<()> {
    while !bytes.is_empty() {
        #[allow(unsafe_code)]
        // SAFETY: as many bytes may be written.
        let result = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        match Errno::result(result) {
            Ok(length) => bytes = &mut bytes[length.cast_unsigned()..],
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Failure::new("getrandom", errno)),
        }
    }
    Ok(())
}
