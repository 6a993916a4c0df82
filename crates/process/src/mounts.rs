//! What is to be mounted in a child, prepared.

use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use linux_clone_syscalls::{Errno, Failure, MOUNT_OPTIONS, MountAttributes, MountFlags, Result};

/// One mount, as the public contract has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// `bind`, `dev`, or a file system's type; none with `bind` among the options, or for a change of what is mounted.
    pub kind: Option<CString>,
    /// A path outside of the new root, or what the file system takes for one.
    pub source: Option<CString>,
    /// A path inside of the new root.
    pub target: CString,
    /// As mount(8) has them.
    pub options: Vec<String>,
    /// Whether the target is made where it is missing.
    pub create: bool,
    /// Whether it is left out where the source is missing.
    pub optional: bool,
}

/// A mount with everything that the child needs for it.
#[derive(Debug)]
pub struct Placement {
    pub target: Target,
    pub kind: Kind,
    /// As it was given.
    pub source: Option<CString>,
    /// Whether nothing is mounted where the source is missing.
    pub is_optional: bool,
    /// What it has mounted, where a later one changes that: what is at the target then may be another mount.
    pub mounted: Cell<Option<RawFd>>,
}

/// The working directory, which what is mounted may hide from its own path.
#[derive(Debug)]
pub struct Covering {
    /// Its path, and those of the directories on the way, up to the root.
    pub path: Vec<CString>,
    /// Whether that has happened.
    pub is_covered: Cell<bool>,
}

impl Covering {
    pub fn of(cwd: &Path) -> Self {
        let path = cwd.ancestors().map(|path| owned(path.as_os_str().as_bytes().to_vec())).collect();
        Self { path, is_covered: Cell::new(false) }
    }

    /// Whether it is at this path, or below it.
    pub fn is_below(&self, path: &CStr) -> bool {
        self.path.iter().any(|own| own.as_c_str() == path)
    }
}

/// Where it goes.
#[derive(Debug)]
pub struct Target {
    pub path: CString,
    /// Each directory on the way, absolute, and the name that is looked up in it; none where nothing is to be made.
    pub steps: Vec<(CString, CString)>,
}

/// How it is mounted.
#[derive(Debug)]
pub enum Kind {
    Bind {
        source: CString,
        is_recursive: bool,
        attributes: MountAttributes,
    },
    FileSystem {
        source: CString,
        fstype: CString,
        flags: MountFlags,
        data: Option<CString>,
        propagation: MountFlags,
    },
    /// Of what is mounted already.
    Change {
        flags: MountFlags,
        data: Option<CString>,
        propagation: MountFlags,
    },
    /// A tmpfs with devices of the host's.
    Dev {
        is_recursive: bool,
        attributes: MountAttributes,
    },
}

const PROPAGATION: MountFlags = MountFlags::MS_PRIVATE
    .union(MountFlags::MS_SLAVE)
    .union(MountFlags::MS_SHARED)
    .union(MountFlags::MS_UNBINDABLE);

/// File systems of the kernel's own, on which neither programs nor devices are looked for.
const PSEUDO: [&CStr; 5] = [c"proc", c"sysfs", c"mqueue", c"cgroup2", c"devpts"];

impl Placement {
    /// EINVAL: the options contradict each other, or a source is missing.
    pub fn of(mount: &Mount) -> Result<Self> {
        let options = Options::of(&mount.options);
        let kind = match mount.kind.as_deref() {
            Some(kind) if kind == c"bind" => options.bind(mount)?,
            Some(kind) if kind == c"dev" => options.dev()?,
            Some(kind) => options.file_system(kind, mount)?,
            None if options.flags.contains(MountFlags::MS_BIND)
                && !options.flags.contains(MountFlags::MS_REMOUNT) =>
            {
                options.bind(mount)?
            }
            None => options.change(mount)?,
        };
        // Of a file system it may be a name.
        let has_path = matches!(kind, Kind::Bind { .. })
            || mount.source.as_ref().is_some_and(|source| source.as_bytes().starts_with(b"/"));
        Ok(Self {
            target: Target::of(&mount.target, mount.create),
            kind,
            source: mount.source.clone(),
            is_optional: mount.optional && has_path,
            mounted: Cell::new(None),
        })
    }

    /// Whether it is mounted on the root itself.
    pub fn covers_root(&self) -> bool {
        self.target.path.as_c_str() == c"/" && !matches!(self.kind, Kind::Change { .. })
    }

    /// The last of `all` before this one, at `index`, which it changes; of one that mounts, itself, where a later one may change it.
    pub fn mounted(all: &[Self], index: usize) -> Option<&Cell<Option<RawFd>>> {
        let (before, rest) = all.split_at_checked(index)?;
        let (this, after) = rest.split_first()?;
        let is_change = |other: &&Self| matches!(other.kind, Kind::Change { .. });
        let is_same = |other: &&Self| other.target.path == this.target.path;
        let found = if is_change(&this) {
            before.iter().rev().filter(is_same).find(|other| !is_change(other))
        } else {
            after.iter().filter(is_same).any(|other| is_change(&other)).then_some(this)
        };
        found.map(|found| &found.mounted)
    }

    /// The processes of a new pid namespace; `create` as [`Mount`] has it.
    pub fn of_proc(target: &CStr, create: bool) -> Result<Self> {
        Self::of(&Mount {
            kind: Some(c"proc".to_owned()),
            target: target.to_owned(),
            create,
            ..Mount::default()
        })
    }
}

impl Target {
    fn of(path: &CStr, create: bool) -> Self {
        let mut directory = b"/".to_vec();
        let mut steps = Vec::new();
        let names =
            path.to_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".");
        for name in names {
            steps.push((owned(directory.clone()), owned(name.to_vec())));
            if directory.last() != Some(&b'/') {
                directory.push(b'/');
            }
            directory.extend(name);
        }
        if !create {
            steps.clear();
        }
        Self { path: owned(directory), steps }
    }
}

/// Of a part of a C string.
fn owned(bytes: Vec<u8>) -> CString {
    CString::new(bytes).unwrap_or_default()
}

/// Options of mount(8), sorted by who takes them.
struct Options {
    flags: MountFlags,
    cleared: MountFlags,
    propagation: MountFlags,
    data: String,
}

impl Options {
    fn of(options: &[String]) -> Self {
        let mut sorted = Self {
            flags: MountFlags::empty(),
            cleared: MountFlags::empty(),
            propagation: MountFlags::empty(),
            data: String::new(),
        };
        for option in options {
            match MOUNT_OPTIONS.iter().find(|known| known.name == option) {
                Some(known) if known.set.intersects(PROPAGATION) => sorted.propagation = known.set,
                Some(known) => {
                    sorted.flags = sorted.flags.difference(known.clear).union(known.set);
                    sorted.cleared = sorted.cleared.difference(known.set).union(known.clear);
                }
                None => {
                    if !sorted.data.is_empty() {
                        sorted.data.push(',');
                    }
                    sorted.data.push_str(option);
                }
            }
        }
        sorted
    }

    fn data(&self) -> Result<Option<CString>> {
        if self.data.is_empty() {
            return Ok(None);
        }
        CString::new(self.data.as_str()).map(Some).map_err(|_| invalid())
    }

    fn bind(&self, mount: &Mount) -> Result<Kind> {
        let source = mount.source.clone().ok_or_else(invalid)?;
        let is_recursive = (self.flags | self.propagation).contains(MountFlags::MS_REC);
        let attributes = self.attributes(MountFlags::MS_BIND | MountFlags::MS_REC)?;
        Ok(Kind::Bind { source, is_recursive, attributes })
    }

    fn dev(&self) -> Result<Kind> {
        let is_recursive = self.propagation.contains(MountFlags::MS_REC);
        Ok(Kind::Dev { is_recursive, attributes: self.attributes(MountFlags::empty())? })
    }

    /// Of the mount itself; `others` are taken care of.
    fn attributes(&self, others: MountFlags) -> Result<MountAttributes> {
        let flags = self.flags.difference(others | MountFlags::MS_SILENT);
        let propagation = self.propagation.difference(MountFlags::MS_REC);
        if !self.data.is_empty() {
            return Err(invalid());
        }
        MountAttributes::of(flags, self.cleared, propagation).ok_or_else(invalid)
    }

    fn file_system(&self, fstype: &CStr, mount: &Mount) -> Result<Kind> {
        if self.flags.intersects(MountFlags::MS_BIND | MountFlags::MS_MOVE | MountFlags::MS_REMOUNT) {
            return Err(invalid());
        }
        let mut flags = self.flags;
        if PSEUDO.contains(&fstype) {
            flags |= MountFlags::MS_NOSUID | MountFlags::MS_NOEXEC;
            if fstype != c"devpts" {
                flags |= MountFlags::MS_NODEV;
            }
            flags = flags.difference(self.cleared);
        }
        let source = mount.source.as_deref().unwrap_or(fstype).to_owned();
        let (data, propagation) = (self.data()?, self.propagation);
        Ok(Kind::FileSystem { source, fstype: fstype.to_owned(), flags, data, propagation })
    }

    fn change(&self, mount: &Mount) -> Result<Kind> {
        let is_change = self.flags.contains(MountFlags::MS_REMOUNT) || !self.propagation.is_empty();
        if mount.source.is_some() || !is_change || self.flags.contains(MountFlags::MS_MOVE) {
            return Err(invalid());
        }
        let (flags, data, propagation) = (self.flags, self.data()?, self.propagation);
        Ok(Kind::Change { flags, data, propagation })
    }
}

fn invalid() -> Failure {
    Failure::new("mount", Errno::EINVAL)
}
