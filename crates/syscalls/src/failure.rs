use std::fmt;

use nix::errno::Errno;

/// A system call that failed: which one, and what the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The call's name, as in its manual page.
    pub call: &'static str,
    /// What the kernel answered.
    pub errno: Errno,
}

impl Failure {
    /// What `errno` holds for this thread: to be taken at once after the call.
    #[must_use]
    pub fn last(call: &'static str) -> Self {
        Self { call, errno: Errno::last() }
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
    result.map_err(|errno| Failure { call, errno })
}
