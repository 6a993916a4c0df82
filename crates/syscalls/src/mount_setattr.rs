//! # Safety
//!
//! A system call on a descriptor, an empty string, and a structure that outlives it.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::failure::named;
use crate::{MountFlags, Result};

/// What is to change of a mount: struct mount_attr of linux/mount.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Flags of mount(2) that a mount has, rather than its file system, and their `MOUNT_ATTR_*`.
const ATTRIBUTES: [(MountFlags, u64); 6] = [
    (MountFlags::MS_RDONLY, 0x01),
    (MountFlags::MS_NOSUID, 0x02),
    (MountFlags::MS_NODEV, 0x04),
    (MountFlags::MS_NOEXEC, 0x08),
    (MountFlags::MS_NODIRATIME, 0x80),
    (MountFlags::from_bits_retain(crate::constants::MS_NOSYMFOLLOW as libc::c_ulong), 0x20_0000),
];

/// One value out of several.
const ACCESS_TIMES: u64 = 0x70;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;

impl MountAttributes {
    /// What flags of mount(2) ask for, and what they do not; `None` where one of them is no attribute of a mount.
    #[must_use]
    #[allow(clippy::useless_conversion, reason = "a long has 32 bits elsewhere")]
    pub fn of(set: MountFlags, clear: MountFlags, propagation: MountFlags) -> Option<Self> {
        let times = MountFlags::MS_NOATIME | MountFlags::MS_STRICTATIME | MountFlags::MS_RELATIME;
        let known = ATTRIBUTES.iter().fold(times, |known, (flag, _)| known | *flag);
        if !known.contains(set | clear) {
            return None;
        }
        let bits = |flags: MountFlags| {
            ATTRIBUTES
                .iter()
                .filter(|(flag, _)| flags.contains(*flag))
                .fold(0, |bits, (_, attribute)| bits | attribute)
        };
        let mut attributes = Self {
            set: bits(set),
            clear: bits(clear),
            propagation: propagation.bits().into(),
            ..Self::default()
        };
        if (set | clear).intersects(times) {
            attributes.clear |= ACCESS_TIMES;
            if set.contains(MountFlags::MS_NOATIME) {
                attributes.set |= NOATIME;
            } else if set.contains(MountFlags::MS_STRICTATIME) || clear.contains(MountFlags::MS_NOATIME) {
                attributes.set |= STRICTATIME;
            }
        }
        Some(attributes)
    }

    /// Whether nothing is to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Changes a mount, and with `recursive` those below it: all of them, or none.
///
/// References: mount_setattr(2). Since Linux 5.12.
///
/// # Errors
///
/// EINVAL, EPERM (a flag that a user namespace may not clear), EBUSY (open for writing), ENOSYS.
pub fn mount_setattr(mount: BorrowedFd<'_>, attributes: &MountAttributes, recursive: bool) -> Result<()> {
    const AT_RECURSIVE: i32 = 0x8000;
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    let size = size_of::<MountAttributes>();
    let attributes: *const MountAttributes = attributes;
    // SAFETY: a static string, and a structure that outlives the call, which is told its size.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, mount.as_raw_fd(), c"".as_ptr(), flags, attributes, size)
    };
    named("mount_setattr", Errno::result(result).map(drop))
}
