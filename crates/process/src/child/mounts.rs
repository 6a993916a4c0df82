//! The root directory of a child, and what is mounted in it.
//!
//! A target is looked up once, inside the root, and used by its descriptor: nobody can put a symbolic link in between.
//!
//! # Safety
//!
//! Numbers of descriptors that this child has opened, and C strings.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use linux_clone_syscalls::{
    Errno, Failure, MountFlags, Result, UmountFlags, mount, mount_setattr, move_mount, open_tree, openat2,
    pivot_root, umount,
};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat, mkdirat};
use nix::unistd;

use super::failing_as;
use crate::mounts::{Kind, Placement, Target};

const PLACE: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);
const DIRECTORY: OFlag = PLACE.union(OFlag::O_DIRECTORY);

/// The number stays open until exec.
pub fn open_root(path: &CStr, is_pivot: bool) -> Result<RawFd> {
    let directory = failing_as("open", open(path, DIRECTORY, Mode::empty()))?;
    if !is_pivot {
        return Ok(directory.into_raw_fd());
    }
    // The new root has to be a mount. By its descriptor: what is at the path may be another directory by now.
    failing_as("fchdir", unistd::fchdir(&directory))?;
    let tree = open_tree(c".", true)?;
    move_mount(tree.as_fd(), directory.as_fd())?;
    Ok(tree.into_raw_fd())
}

/// The old root lies under the new one for a moment: no directory is needed for it.
pub fn pivot(root: RawFd) -> Result<()> {
    failing_as("fchdir", unistd::fchdir(borrowed(root)))?;
    pivot_root(c".", c".")?;
    umount(c".", UmountFlags::MNT_DETACH)?;
    failing_as("chdir", unistd::chdir(c"/"))
}

pub fn change_root(root: RawFd) -> Result<()> {
    failing_as("fchdir", unistd::fchdir(borrowed(root)))?;
    failing_as("chroot", unistd::chroot(c"."))
}

fn borrowed<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: open until exec, or AT_FDCWD, which only the calls take that know it.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Mounts something; `root` is the new root, or `AT_FDCWD` where there is none.
pub fn place(placement: &Placement, root: RawFd) -> Result<()> {
    if let Some(path) = &placement.source
        && placement.is_optional
        && matches!(
            unistd::access(path.as_c_str(), unistd::AccessFlags::F_OK),
            Err(Errno::ENOENT | Errno::ENOTDIR)
        )
    {
        return Ok(());
    }
    let cwd = failing_as("open", open(c".", DIRECTORY, Mode::empty()))?;
    let target = &placement.target;
    match &placement.kind {
        Kind::Bind { source, is_recursive, attributes } => {
            let tree = open_tree(source, *is_recursive)?;
            if !attributes.is_empty() {
                mount_setattr(tree.as_fd(), attributes, *is_recursive)?;
            }
            move_mount(tree.as_fd(), open_target(target, root, is_directory(&tree)?)?.as_fd())?;
        }
        Kind::FileSystem { source, fstype, flags, data, propagation } => {
            let directory = open_target(target, root, true)?;
            mount_on(&directory, source, fstype, *flags, data.as_deref())?;
            if !propagation.is_empty() {
                change(target, root, *propagation, None)?;
            }
        }
        Kind::Change { flags, data, propagation } => {
            if !flags.is_empty() {
                change(target, root, *flags, data.as_deref())?;
            }
            if !propagation.is_empty() {
                change(target, root, *propagation, None)?;
            }
        }
        Kind::Dev => place_devices(target, root)?,
    }
    failing_as("fchdir", unistd::fchdir(&cwd))
}

fn is_directory(file: &OwnedFd) -> Result<bool> {
    let status = failing_as("fstat", fstat(file))?;
    Ok(status.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

fn look_up(root: RawFd, path: &CStr, flags: OFlag) -> Result<OwnedFd> {
    /// Somebody renames or mounts something, anywhere, while the kernel goes along a `..`: it wants to be asked again.
    const TRIES: usize = 10_000;
    let mut result = Err(Failure::new("openat2", Errno::EAGAIN));
    for _ in 0..TRIES {
        result = openat2(root, path, flags.bits(), 0, root != libc::AT_FDCWD);
        if !matches!(result, Err(Failure { errno: Errno::EAGAIN, .. })) {
            break;
        }
    }
    result
}

/// Opens the target as a place, and makes it where it is missing and may be made.
fn open_target(target: &Target, root: RawFd, is_directory: bool) -> Result<OwnedFd> {
    let flags = if is_directory { DIRECTORY } else { PLACE };
    match look_up(root, &target.path, flags) {
        Err(Failure { errno: Errno::ENOENT, .. }) if !target.steps.is_empty() => {}
        opened => return opened,
    }
    for (index, (parent, name)) in target.steps.iter().enumerate() {
        let parent = look_up(root, parent, DIRECTORY)?;
        if is_directory || index + 1 < target.steps.len() {
            make_directory(&parent, name, 0o755)?;
        } else {
            make_file(&parent, name)?;
        }
    }
    look_up(root, &target.path, flags)
}

/// What is there already stays.
fn make_directory(parent: &OwnedFd, name: &CStr, mode: u32) -> Result<()> {
    match mkdirat(parent, name, Mode::from_bits_retain(mode)) {
        Err(Errno::EEXIST) => Ok(()),
        result => failing_as("mkdirat", result),
    }
}

fn make_file(parent: &OwnedFd, name: &CStr) -> Result<()> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    match openat(parent, name, flags, Mode::from_bits_retain(0o644)) {
        Err(Errno::EEXIST) => Ok(()),
        result => failing_as("openat", result.map(drop)),
    }
}

/// mount(2) takes no descriptor, but the working directory is as good.
fn mount_on(
    directory: &OwnedFd,
    source: &CStr,
    fstype: &CStr,
    flags: MountFlags,
    data: Option<&CStr>,
) -> Result<()> {
    failing_as("fchdir", unistd::fchdir(directory))?;
    mount(Some(source), c".", Some(fstype), flags, data)
}

/// Changes what is mounted on the target, which is looked up anew: it is what is on top now.
fn change(target: &Target, root: RawFd, flags: MountFlags, data: Option<&CStr>) -> Result<()> {
    let mounted = look_up(root, &target.path, PLACE)?;
    if is_directory(&mounted)? {
        failing_as("fchdir", unistd::fchdir(&mounted))?;
        return mount(None, c".", None, flags, data);
    }
    Err(Failure::new("mount", Errno::ENOTDIR))
}

const DEVICES: [(&CStr, &CStr); 6] = [
    (c"/dev/null", c"null"),
    (c"/dev/zero", c"zero"),
    (c"/dev/full", c"full"),
    (c"/dev/random", c"random"),
    (c"/dev/urandom", c"urandom"),
    (c"/dev/tty", c"tty"),
];

const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"pts/ptmx", c"ptmx"),
];

/// A tmpfs with the devices that every program may count on; those are the host's, as a user namespace makes none.
fn place_devices(target: &Target, root: RawFd) -> Result<()> {
    let nosuid = MountFlags::MS_NOSUID;
    let below = open_target(target, root, true)?;
    mount_on(&below, c"tmpfs", c"tmpfs", nosuid | MountFlags::MS_NODEV, Some(c"mode=0755"))?;
    let directory = look_up(root, &target.path, DIRECTORY)?;
    for (device, name) in DEVICES {
        let tree = match open_tree(device, false) {
            Err(Failure { errno: Errno::ENOENT, .. }) => continue,
            tree => tree?,
        };
        make_file(&directory, name)?;
        let file = failing_as("openat", openat(&directory, name, PLACE, Mode::empty()))?;
        move_mount(tree.as_fd(), file.as_fd())?;
    }
    for (destination, name) in LINKS {
        failing_as("symlinkat", unistd::symlinkat(destination, &directory, name))?;
    }
    make_directory(&directory, c"shm", 0o1777)?;
    // The umask has taken some of it.
    let everybody = Mode::from_bits_retain(0o1777);
    failing_as("fchmodat", fchmodat(&directory, c"shm", everybody, FchmodatFlags::FollowSymlink))?;
    make_directory(&directory, c"pts", 0o755)?;
    let terminals = failing_as("openat", openat(&directory, c"pts", DIRECTORY, Mode::empty()))?;
    let options = Some(c"newinstance,ptmxmode=0666,mode=0620");
    mount_on(&terminals, c"devpts", c"devpts", nosuid | MountFlags::MS_NOEXEC, options)
}
