use std::fs;

use linux_clone_syscalls::Errno;
use nix::unistd::{Uid, User};

/// The first range of ids that `file`, `/etc/subuid` or `/etc/subgid`, gives to the user, by name or by number: where it
/// begins, and how many.
///
/// References: subuid(5).
pub fn first_range(file: &str, uid: Uid) -> Result<Option<(u32, u32)>, Errno> {
    let text = fs::read(file).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    let text = String::from_utf8_lossy(&text);
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    let number = uid.to_string();
    Ok(text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let is_line = fields.next().is_none();
        (is_line && (owner == number || name.as_deref() == Some(owner))).then_some(range)
    }))
}
