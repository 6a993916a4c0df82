//! The root directory of a child, and what is mounted in it.
//!
//! A target is looked up once, inside the root, and used by its descriptor, as is what is mounted there: whoever may rename
//! files in the root cannot put another one in between.
//!
//! # Safety
//!
//! Numbers of descriptors that this child has opened, C strings, and places for what the kernel writes.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use linux_clone_syscalls::{
    Errno, Failure, MountFlags, Result, UmountFlags, mount, mount_setattr, move_mount, open_tree, openat2,
    pivot_root, umount,
};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd;

use super::failing_as;
use crate::mounts::{Covering, Kind, Placement, Target};

const PLACE: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);
const DIRECTORY: OFlag = PLACE.union(OFlag::O_DIRECTORY);

/// The number stays open until exec.
pub fn open_root(path: &CStr, is_pivot: bool) -> Result<RawFd> {
    let directory = failing_as("open", open(path, DIRECTORY, Mode::empty()))?;
    if !is_pivot {
        return Ok(directory.into_raw_fd());
    }
    // The new root has to be a mount. By its descriptor: what is at the path may be another directory by now.
    let cwd = failing_as("open", open(c".", DIRECTORY, Mode::empty()))?;
    failing_as("fchdir", unistd::fchdir(&directory))?;
    let tree = open_tree(c".", true)?;
    move_mount(tree.as_fd(), directory.as_fd())?;
    failing_as("fchdir", unistd::fchdir(&cwd))?;
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

/// Mounts something; `new_root` is the new root, which is another one where it is mounted on that, or `AT_FDCWD` where there is
/// none. `mounted` is for the number of what it has mounted, which stays open until exec, or has the one that it changes.
pub fn place(
    placement: &Placement,
    new_root: &Cell<RawFd>,
    mounted: Option<&Cell<Option<RawFd>>>,
    covering: Option<&Covering>,
) -> Result<()> {
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
    let (root, target) = (new_root.get(), &placement.target);
    match &placement.kind {
        Kind::Bind { source, is_recursive, attributes } => {
            let tree = open_tree(source, *is_recursive)?;
            if !attributes.is_empty() {
                mount_setattr(tree.as_fd(), attributes, *is_recursive)?;
            }
            let is_directory = is_directory(&tree)?;
            let place = open_target(target, root, is_directory)?;
            move_mount(tree.as_fd(), place.as_fd())?;
            if is_directory {
                note(covering, &place);
            }
            keep(mounted, covered(new_root, &place)?, tree);
        }
        Kind::FileSystem { source, fstype, flags, data, propagation } => {
            let place = open_target(target, root, true)?;
            let top = mount_on(&place, source, fstype, *flags, data.as_deref())?;
            if !propagation.is_empty() {
                change(top.as_fd(), *propagation, None)?;
            }
            note(covering, &place);
            keep(mounted, covered(new_root, &place)?, top);
        }
        Kind::Change { flags, data, propagation } => {
            let found;
            let it = if let Some(it) = mounted.and_then(Cell::get) {
                borrowed(it)
            } else {
                found = look_up(root, &target.path, PLACE)?;
                found.as_fd()
            };
            if !flags.is_empty() {
                change(it, *flags, data.as_deref())?;
            }
            if !propagation.is_empty() {
                change(it, *propagation, None)?;
            }
        }
        Kind::Dev { is_recursive, attributes } => {
            let (place, top) = place_devices(target, root)?;
            if !attributes.is_empty() {
                mount_setattr(top.as_fd(), attributes, *is_recursive)?;
            }
            note(covering, &place);
            keep(mounted, covered(new_root, &place)?, top);
        }
    }
    failing_as("fchdir", unistd::fchdir(&cwd))
}

/// The number of what has been mounted is used again, as the new root too where it covers that.
fn keep(mounted: Option<&Cell<Option<RawFd>>>, root: Option<&Cell<RawFd>>, mount: OwnedFd) {
    if mounted.is_none() && root.is_none() {
        return;
    }
    let number = mount.into_raw_fd();
    if let Some(mounted) = mounted {
        mounted.set(Some(number));
    }
    if let Some(root) = root {
        root.set(number);
    }
}

/// The new root, where `place` is the same directory of the same mount.
fn covered<'a>(root: &'a Cell<RawFd>, place: &OwnedFd) -> Result<Option<&'a Cell<RawFd>>> {
    if root.get() == libc::AT_FDCWD {
        return Ok(None);
    }
    let is_same = identity(borrowed(root.get()))? == identity(place.as_fd())?;
    Ok(is_same.then_some(root))
}

/// Which directory of which mount it is; before Linux 5.8 not of which mount.
fn identity(place: BorrowedFd<'_>) -> Result<(u32, u32, u64, u64)> {
    let mut status = MaybeUninit::<libc::statx>::zeroed();
    let mask = libc::STATX_INO | libc::STATX_MNT_ID;
    let (fd, place) = (place.as_raw_fd(), status.as_mut_ptr());
    // SAFETY: an empty path, for the descriptor itself, and a place for what is found.
    let result = unsafe { libc::statx(fd, c"".as_ptr(), libc::AT_EMPTY_PATH, mask, place) };
    failing_as("statx", Errno::result(result))?;
    // SAFETY: plain data, which was zero, and has been filled in.
    let status = unsafe { status.assume_init() };
    Ok((status.stx_dev_major, status.stx_dev_minor, status.stx_ino, status.stx_mnt_id))
}

/// Says whether the working directory lies under what has been mounted on `place`.
fn note(covering: Option<&Covering>, place: &OwnedFd) {
    let Some(covering) = covering else { return };
    let mut buffer = [0; libc::PATH_MAX as usize];
    // What has no path is taken to cover it: to enter it again is no harm.
    if unistd::fchdir(place).is_err() || path_of_cwd(&mut buffer).is_none_or(|place| covering.is_below(place))
    {
        covering.is_covered.set(true);
    }
}

/// The kernel's own answer: the libc's function may allocate.
fn path_of_cwd(buffer: &mut [u8]) -> Option<&CStr> {
    // SAFETY: the buffer has that length.
    let length = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    Errno::result(length).ok()?;
    CStr::from_bytes_until_nul(buffer).ok()
}

/// Enters the working directory by its path, as far as that leads, where something has been mounted over it.
pub fn enter_again(covering: &Covering) -> Result<()> {
    if !covering.is_covered.get() {
        return Ok(());
    }
    let mut entered = Err(Errno::ENOENT);
    for path in &covering.path {
        entered = unistd::chdir(path.as_c_str());
        if !matches!(entered, Err(Errno::ENOENT | Errno::ENOTDIR)) {
            break;
        }
    }
    failing_as("chdir", entered)
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

/// mount(2) takes no descriptor, but the working directory is as good. Nor does it return one: to the kernel `..` of a root
/// directory is what is mounted on top of it.
fn mount_on(
    directory: &OwnedFd,
    source: &CStr,
    fstype: &CStr,
    flags: MountFlags,
    data: Option<&CStr>,
) -> Result<OwnedFd> {
    failing_as("fchdir", unistd::fchdir(directory))?;
    mount(Some(source), c".", Some(fstype), flags, data)?;
    look_up(directory.as_raw_fd(), c"..", DIRECTORY)
}

fn change(mounted: BorrowedFd<'_>, flags: MountFlags, data: Option<&CStr>) -> Result<()> {
    failing_as("fchdir", unistd::fchdir(mounted))?;
    mount(None, c".", None, flags, data)
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

/// A tmpfs with the devices that every program may count on; those are the host's, as a user namespace makes none. It may go
/// on /dev itself, so that they are taken before. Returns the place, and what is on it.
fn place_devices(target: &Target, root: RawFd) -> Result<(OwnedFd, OwnedFd)> {
    const NEW_PLACE: OFlag = PLACE.union(OFlag::O_NOFOLLOW);
    const NEW_DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
    let mut trees = [const { None }; DEVICES.len()];
    for (tree, (device, _)) in trees.iter_mut().zip(DEVICES) {
        *tree = match open_tree(device, false) {
            Err(Failure { errno: Errno::ENOENT, .. }) => None,
            tree => Some(tree?),
        };
    }
    let nosuid = MountFlags::MS_NOSUID;
    let place = open_target(target, root, true)?;
    let options = Some(c"mode=0755");
    let directory = mount_on(&place, c"tmpfs", c"tmpfs", nosuid | MountFlags::MS_NODEV, options)?;
    for (tree, (_, name)) in trees.iter().zip(DEVICES) {
        let Some(tree) = tree else { continue };
        make_file(&directory, name)?;
        let file = failing_as("openat", openat(&directory, name, NEW_PLACE, Mode::empty()))?;
        move_mount(tree.as_fd(), file.as_fd())?;
    }
    for (destination, name) in LINKS {
        failing_as("symlinkat", unistd::symlinkat(destination, &directory, name))?;
    }
    let everybody = Mode::from_bits_retain(0o1777);
    make_directory(&directory, c"shm", everybody.bits())?;
    let memory = failing_as("openat", openat(&directory, c"shm", NEW_DIRECTORY, Mode::empty()))?;
    // The umask has taken some of it.
    failing_as("fchmod", fchmod(&memory, everybody))?;
    make_directory(&directory, c"pts", 0o755)?;
    let terminals = failing_as("openat", openat(&directory, c"pts", NEW_DIRECTORY, Mode::empty()))?;
    let options = Some(c"newinstance,ptmxmode=0666,mode=0620");
    mount_on(&terminals, c"devpts", c"devpts", nosuid | MountFlags::MS_NOEXEC, options)?;
    Ok((place, directory))
}
