use nix::sched;

use crate::failure::named;
use crate::{CloneFlags, Result};

/// Gives the calling thread what it shares as its own, or moves it into new namespaces.
///
/// References: unshare(2).
///
/// # Errors
///
/// EINVAL, EPERM, ENOSPC, ENOMEM, EUSERS.
pub fn unshare(flags: CloneFlags) -> Result<()> {
    named("unshare", sched::unshare(kernel_flags(flags)))
}

/// The 32 bits that unshare(2) and setns(2) take: callers have refused wider ones.
#[allow(clippy::cast_possible_truncation)]
pub(crate) fn kernel_flags(flags: CloneFlags) -> sched::CloneFlags {
    sched::CloneFlags::from_bits_retain(flags.bits() as i32)
}
