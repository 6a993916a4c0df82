use std::ffi::CStr;

use nix::mount::MsFlags;

use crate::Result;
use crate::constants::MS_NOSYMFOLLOW;
use crate::failure::named;

/// What mount(2) takes: `MS_*`.
pub type MountFlags = MsFlags;

/// An option's name as mount(8) has it, and the flags that it stands for.
#[derive(Clone, Copy, Debug)]
pub struct MountOption {
    /// `"ro"`, `"nosuid"` …
    pub name: &'static str,
    /// Bits that it sets.
    pub set: MountFlags,
    /// Bits that it clears.
    pub clear: MountFlags,
}

const fn sets(name: &'static str, set: MountFlags) -> MountOption {
    MountOption { name, set, clear: MountFlags::empty() }
}

const fn clears(name: &'static str, clear: MountFlags) -> MountOption {
    MountOption { name, set: MountFlags::empty(), clear }
}

/// nix has no name for it.
const NOSYMFOLLOW: MountFlags = MsFlags::from_bits_retain(MS_NOSYMFOLLOW as libc::c_ulong);

/// The options that are flags of mount(2) rather than the file system's own.
///
/// References: mount(2), mount(8) "filesystem-independent mount options".
pub const OPTIONS: [MountOption; 41] = [
    sets("ro", MsFlags::MS_RDONLY),
    clears("rw", MsFlags::MS_RDONLY),
    sets("nosuid", MsFlags::MS_NOSUID),
    clears("suid", MsFlags::MS_NOSUID),
    sets("nodev", MsFlags::MS_NODEV),
    clears("dev", MsFlags::MS_NODEV),
    sets("noexec", MsFlags::MS_NOEXEC),
    clears("exec", MsFlags::MS_NOEXEC),
    sets("sync", MsFlags::MS_SYNCHRONOUS),
    clears("async", MsFlags::MS_SYNCHRONOUS),
    sets("dirsync", MsFlags::MS_DIRSYNC),
    sets("mand", MsFlags::MS_MANDLOCK),
    clears("nomand", MsFlags::MS_MANDLOCK),
    sets("noatime", MsFlags::MS_NOATIME),
    clears("atime", MsFlags::MS_NOATIME),
    sets("nodiratime", MsFlags::MS_NODIRATIME),
    clears("diratime", MsFlags::MS_NODIRATIME),
    sets("relatime", MsFlags::MS_RELATIME),
    clears("norelatime", MsFlags::MS_RELATIME),
    sets("strictatime", MsFlags::MS_STRICTATIME),
    clears("nostrictatime", MsFlags::MS_STRICTATIME),
    sets("lazytime", MsFlags::MS_LAZYTIME),
    clears("nolazytime", MsFlags::MS_LAZYTIME),
    sets("iversion", MsFlags::MS_I_VERSION),
    clears("noiversion", MsFlags::MS_I_VERSION),
    sets("nosymfollow", NOSYMFOLLOW),
    clears("symfollow", NOSYMFOLLOW),
    sets("silent", MsFlags::MS_SILENT),
    clears("loud", MsFlags::MS_SILENT),
    sets("remount", MsFlags::MS_REMOUNT),
    sets("bind", MsFlags::MS_BIND),
    sets("rbind", MsFlags::MS_BIND.union(MsFlags::MS_REC)),
    sets("move", MsFlags::MS_MOVE),
    sets("private", MsFlags::MS_PRIVATE),
    sets("rprivate", MsFlags::MS_PRIVATE.union(MsFlags::MS_REC)),
    sets("slave", MsFlags::MS_SLAVE),
    sets("rslave", MsFlags::MS_SLAVE.union(MsFlags::MS_REC)),
    sets("shared", MsFlags::MS_SHARED),
    sets("rshared", MsFlags::MS_SHARED.union(MsFlags::MS_REC)),
    sets("unbindable", MsFlags::MS_UNBINDABLE),
    sets("runbindable", MsFlags::MS_UNBINDABLE.union(MsFlags::MS_REC)),
];

/// Mounts `source` on `target`, or changes what is mounted there.
///
/// References: mount(2).
///
/// # Errors
///
/// EPERM, EINVAL, EBUSY, ENODEV (no such file system), ENOENT, ENOTDIR, ENOTBLK, ENAMETOOLONG and the file system's own.
pub fn mount(
    source: Option<&CStr>,
    target: &CStr,
    fstype: Option<&CStr>,
    flags: MountFlags,
    data: Option<&CStr>,
) -> Result<()> {
    named("mount", nix::mount::mount(source, target, fstype, flags, data))
}

/// The file systems' own options whose numbers the kernel reads in octal.
///
/// References: tmpfs(5), mount(8) for devpts, fat and others.
pub const OCTAL_OPTIONS: [&str; 6] = ["mode", "ptmxmode", "umask", "dmask", "fmask", "allow_utime"];

/// How many bytes of the data the kernel reads, its final NUL byte among them: it cuts off the rest in silence.
#[must_use]
pub fn mount_data_length() -> u32 {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    page.ok().flatten().and_then(|length| length.try_into().ok()).unwrap_or(4096)
}
