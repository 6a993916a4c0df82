use nix::unistd;

use std::ffi::OsStr;

use crate::Result;
use crate::failure::named;

/// Sets the host name of the UTS namespace; 64 bytes at most.
///
/// References: sethostname(2).
///
/// # Errors
///
/// EINVAL (too long), EPERM.
pub fn sethostname(name: &OsStr) -> Result<()> {
    named("sethostname", unistd::sethostname(name))
}
