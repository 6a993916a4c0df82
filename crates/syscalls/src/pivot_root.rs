use std::ffi::CStr;

use nix::unistd;

use crate::Result;
use crate::failure::named;

/// Makes `new_root` the root of the mount namespace, and moves the old root to `put_old`.
///
/// References: pivot_root(2).
///
/// # Errors
///
/// EINVAL, EBUSY, ENOTDIR, ENOENT, EPERM.
pub fn pivot_root(new_root: &CStr, put_old: &CStr) -> Result<()> {
    named("pivot_root", unistd::pivot_root(new_root, put_old))
}
