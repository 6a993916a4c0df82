use std::fs;

use linux_clone_syscalls::Errno;
use nix::unistd::{Uid, User};

/// Whether `file`, `/etc/subuid` or `/etc/subgid`, gives a range of ids to the user, by name or by number.
///
/// References: subuid(5).
pub fn has_range(file: &str, uid: Uid) -> Result<bool, Errno> {
    let text = fs::read(file).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    let number = uid.to_string();
    Ok(text.split(|byte| *byte == b'\n').any(|line| {
        let owner = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let is_range = line.split(|byte| *byte == b':').count() == 3;
        is_range && (owner == number.as_bytes() || name.as_ref().is_some_and(|name| owner == name.as_bytes()))
    }))
}
