use std::fmt;

use nix::errno::Errno;

/// A system call that failed: which one, and what the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The call's name, as in its manual page.
    pub call: &'static str,
    /// What the kernel answered.
    pub errno: Errno,
    /// The same as a number, for those that have no name.
    pub raw: i32,
}

impl Failure {
    /// A failure of `call`, at once after it: a number that has no name is still where the libc has left it.
    #[must_use]
    pub fn new(call: &'static str, errno: Errno) -> Self {
        let raw = if errno == Errno::UnknownErrno { Errno::last_raw() } else { errno as i32 };
        Self { call, errno, raw }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}, {}", self.errno, self.errno.desc(), self.call)
    }
}

impl std::error::Error for Failure {}

/// What a system call returns.
pub type Result<T> = std::result::Result<T, Failure>;

/// Turns nix's result into ours.
pub(crate) fn named<T>(call: &'static str, result: nix::Result<T>) -> Result<T> {
    result.map_err(|errno| Failure::new(call, errno))
}
