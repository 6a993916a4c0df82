//! Descriptors of the event loops that are not in a copy: behind their numbers it gets its own, of the same kind, so that it
//! neither takes a wake-up from the parent nor gives one.
//!
//! # Safety
//!
//! Numbers of descriptors are replaced in a table that is the copy's own.
#![allow(unsafe_code)]

use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use linux_clone_syscalls::{Errno, Failure, Result};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

/// libuv's lock for signals is a pipe with one byte in it, which whoever holds the lock has taken out.
#[derive(Clone, Copy, Debug)]
struct Lock {
    read: RawFd,
    write: RawFd,
}

/// Finds libuv's lock, and the loops that are there from the start, once.
pub fn learn() {
    lock();
    known_loops();
}

fn lock() -> Option<Lock> {
    static LOCK: OnceLock<Option<Lock>> = OnceLock::new();
    *LOCK.get_or_init(|| {
        let pipes: Vec<(RawFd, String)> =
            open_descriptors().filter(|(_, target)| target.starts_with("pipe:")).collect();
        let ends = pipes.iter().filter(|(fd, _)| is_lock(*fd));
        let mut locks = ends.filter_map(|(read, target)| {
            let (write, _) = pipes.iter().find(|(fd, other)| other == target && fd != read)?;
            Some(Lock { read: *read, write: *write })
        });
        locks.next()
    })
}

/// The reading end, which waits, with its one byte.
fn is_lock(fd: RawFd) -> bool {
    // SAFETY: integers only.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    let mut waiting = 0;
    // SAFETY: writes a number.
    let result = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut waiting) };
    flags & (libc::O_NONBLOCK | libc::O_ACCMODE) == libc::O_RDONLY && result == 0 && waiting == 1
}

/// What an event loop has open.
#[derive(Debug)]
struct LoopDescriptors {
    epoll: RawFd,
    events: Vec<RawFd>,
    /// For signals, the reading end first: libuv's handler writes to it, and ends the process where it cannot.
    pipes: Vec<(RawFd, RawFd)>,
    /// What a thread has open that is not in a copy.
    others: Vec<RawFd>,
}

/// The loops of threads that Node starts with: without others, a copy need not look at every descriptor.
fn known_loops() -> &'static [LoopDescriptors] {
    static KNOWN: OnceLock<Vec<LoopDescriptors>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        loops().into_iter().map(|known| LoopDescriptors { others: Vec::new(), ..known }).collect()
    })
}

fn loops() -> Vec<LoopDescriptors> {
    let open: Vec<(RawFd, String)> = open_descriptors().collect();
    let epolls = open.iter().filter(|(_, target)| target == EVENTPOLL);
    let describe = |(epoll, _): &(RawFd, String)| {
        let mut found =
            LoopDescriptors { epoll: *epoll, events: Vec::new(), pipes: Vec::new(), others: Vec::new() };
        for watched in watched_by(*epoll) {
            let target = open.iter().find(|(fd, _)| *fd == watched).map_or("", |(_, target)| target);
            let other_end = open.iter().find(|(fd, same)| *fd != watched && same == target);
            match other_end {
                _ if target == EVENTFD => found.events.push(watched),
                Some((write, _)) if target.starts_with("pipe:") => found.pipes.push((watched, *write)),
                _ => found.others.push(watched),
            }
        }
        found
    };
    epolls.map(describe).collect()
}

const EVENTPOLL: &str = "anon_inode:[eventpoll]";
const EVENTFD: &str = "anon_inode:[eventfd]";

/// In a copy: makes the lock for signals its own.
pub fn replace_lock() -> Result<()> {
    if let Some(lock) = lock() {
        let (read, write) = failing_as("pipe2", pipe2(OFlag::O_CLOEXEC))?;
        failing_as("write", nix::unistd::write(&write, b"*"))?;
        put(&read, lock.read)?;
        put(&write, lock.write)?;
    }
    Ok(())
}

/// In a copy: makes what belongs to loops its own, but for what the copy's own loop `has` itself. `has_others` says whether there
/// may be more than those that are known; without them nothing allocates.
pub fn replace_loops(has: impl Fn(RawFd) -> bool, has_others: bool) -> Result<()> {
    let all = has_others.then(loops);
    let mut others =
        all.as_deref().unwrap_or(known_loops()).iter().filter(|descriptors| !has(descriptors.epoll));
    others.try_for_each(LoopDescriptors::replace)
}

/// Those of the known loops that are to be replaced, a bit for each.
static LATE: AtomicU64 = AtomicU64::new(0);

/// The same as [`replace_loops`] without others, but when [`replace_late_loops`] is called: until then the parent's threads may be
/// woken, and find nothing. Whether that can be noted.
pub fn put_off_loops(has: impl Fn(RawFd) -> bool) -> bool {
    let known = known_loops();
    if known.len() > u64::BITS as usize {
        return false;
    }
    let bits = known.iter().enumerate().filter(|(_, known)| !has(known.epoll)).map(|(place, _)| 1 << place);
    LATE.store(bits.fold(0, |all, bit| all | bit), Ordering::Relaxed);
    true
}

/// Where there are no descriptors left for it, the loops stay as they are. Does not allocate.
pub fn replace_late_loops() {
    let late = LATE.swap(0, Ordering::Relaxed);
    if late != 0 {
        let those = known_loops().iter().enumerate().filter(|(place, _)| late & 1 << place != 0);
        let _ = those.map(|(_, known)| known).try_for_each(LoopDescriptors::replace);
    }
}

impl LoopDescriptors {
    /// Numbers that are something else by now are somebody else's.
    fn replace(&self) -> Result<()> {
        if !Link::of(self.epoll).is(EVENTPOLL) {
            return Ok(());
        }
        for &event in self.events.iter().filter(|event| Link::of(**event).is(EVENTFD)) {
            // SAFETY: integers only.
            let new = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
            put(&owned("eventfd2", new)?, event)?;
        }
        for &(reading, writing) in
            self.pipes.iter().filter(|(read, write)| Link::of(*read) == Link::of(*write))
        {
            let (read, write) = failing_as("pipe2", pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK))?;
            put(&read, reading)?;
            put(&write, writing)?;
        }
        for &other in self.others.iter().filter(|other| **other > 2) {
            // SAFETY: nobody here uses the number.
            unsafe { libc::close(other) };
        }
        // SAFETY: integers only.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        put(&owned("epoll_create1", epoll)?, self.epoll)
    }
}

/// What /proc says that a descriptor is, or the beginning of it, without an allocation.
#[derive(PartialEq, Eq)]
struct Link {
    text: [u8; 32],
    length: usize,
}

impl Link {
    fn of(fd: RawFd) -> Self {
        let (mut path, mut text) = ([0_u8; 32], [0; 32]);
        // As many bytes hold the longest number, and a zero.
        let _ = write!(&mut path[..31], "/proc/self/fd/{fd}");
        // SAFETY: a path that ends with a zero, and a buffer as long as we say.
        let length = unsafe { libc::readlink(path.as_ptr().cast(), text.as_mut_ptr().cast(), text.len()) };
        Self { text, length: usize::try_from(length).unwrap_or(0) }
    }

    fn is(&self, target: &str) -> bool {
        &self.text[..self.length] == target.as_bytes()
    }
}

fn watched_by(epoll: RawFd) -> Vec<RawFd> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{epoll}")).unwrap_or_default();
    let numbers = text
        .lines()
        .filter_map(|line| line.strip_prefix("tfd:")?.split_ascii_whitespace().next()?.parse().ok());
    numbers.collect()
}

fn open_descriptors() -> impl Iterator<Item = (RawFd, String)> {
    fs::read_dir("/proc/self/fd").into_iter().flatten().flatten().filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        Some((number, fs::read_link(entry.path()).ok()?.to_str()?.to_owned()))
    })
}

fn owned(call: &'static str, fd: RawFd) -> Result<OwnedFd> {
    let fd = failing_as(call, Errno::result(fd))?;
    // SAFETY: a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts a descriptor behind a number.
fn put(fd: &OwnedFd, number: RawFd) -> Result<()> {
    // SAFETY: what the number was is this process's own copy.
    let result = unsafe { libc::dup3(fd.as_raw_fd(), number, libc::O_CLOEXEC) };
    failing_as("dup3", Errno::result(result)).map(drop)
}

fn failing_as<T>(call: &'static str, result: nix::Result<T>) -> Result<T> {
    result.map_err(|errno| Failure::new(call, errno))
}
