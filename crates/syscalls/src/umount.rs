use std::ffi::CStr;

use nix::mount::{MntFlags, umount2};

use crate::Result;
use crate::failure::named;

/// What umount2(2) takes: `MNT_FORCE`, `MNT_DETACH`, `MNT_EXPIRE`, `UMOUNT_NOFOLLOW`.
pub type UmountFlags = MntFlags;

/// Unmounts what is on top of `target`.
///
/// References: umount2(2).
///
/// # Errors
///
/// EBUSY, EAGAIN (marked as expired), EINVAL (no mount point, or locked), ENOENT, EPERM.
pub fn umount(target: &CStr, flags: UmountFlags) -> Result<()> {
    named("umount2", umount2(target, flags))
}
