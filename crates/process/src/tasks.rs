//! This process's threads as /proc shows them, read without allocating: a parked thread may hold malloc's lock.
//!
//! # Safety
//!
//! System calls that fill buffers on the stack.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::str::FromStr;

use linux_clone_syscalls::{Errno, Failure, Result};
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fstatat, stat};
use nix::unistd::read;

/// What matters of one thread.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Its id as its own pid namespace has it, which is what tgkill(2) wants.
    pub tid: i32,
    /// Its id as this /proc has it.
    pub shown: i32,
    /// The signals that it blocks, the first in bit 0.
    pub blocked: u64,
    /// A worker of the kernel's (`io_uring`): it takes no signals and runs no code of the process.
    pub is_kernel_worker: bool,
    name: Name,
}

type Name = [u8; 16];

impl Task {
    pub fn name(&self) -> &[u8] {
        self.name.split(|byte| *byte == 0).next().unwrap_or(&self.name)
    }
}

/// `/proc/self/task`.
#[derive(Debug)]
pub struct Tasks {
    directory: OwnedFd,
    /// Whether this /proc has the ids of the process's own pid namespace.
    shows_own_ids: bool,
}

/// The bits of a task's flags in its stat file that mark the kernel's workers inside a process.
const PF_IO_WORKER: u64 = 0x10;
const PF_USER_WORKER: u64 = 0x4000;

/// What is not in the form that proc(5) describes.
const MALFORMED: Failure = Failure { call: "read", errno: Errno::EBADMSG, raw: libc::EBADMSG };

impl Tasks {
    pub fn of_this_process() -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(c"/proc/self/task", flags, Mode::empty());
        let directory = directory.map_err(|errno| Failure::new("open", errno))?;
        Ok(Self { directory, shows_own_ids: shows_own_id() })
    }

    /// Calls `visit` for each thread that is there, in the order of their creation; for some of them again
    /// where one ends meanwhile.
    pub fn for_each<E: From<Failure>>(
        &self,
        visit: impl FnMut(Task) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.for_each_but(|_| false, visit)
    }

    /// The same, but for those of which `skip`, which is given the thread's own id, wants to know no more: reading what /proc
    /// says of a thread takes longer than all else.
    pub fn for_each_but<E: From<Failure>>(
        &self,
        mut skip: impl FnMut(i32) -> bool,
        mut visit: impl FnMut(Task) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut buffer = [0_u64; 512];
        self.rewind()?;
        let mut has_lost_one = false;
        loop {
            let length = self.entries(&mut buffer)?;
            if length == 0 {
                if !has_lost_one {
                    return Ok(());
                }
                self.rewind()?;
                has_lost_one = false;
                continue;
            }
            let bytes = as_bytes(&buffer);
            let mut at = 0;
            // A struct linux_dirent64: ino 8 bytes, off 8, reclen 2, type 1, name.
            while at + 19 < length {
                let record = usize::from(u16::from_ne_bytes([bytes[at + 16], bytes[at + 17]]));
                let name = CStr::from_bytes_until_nul(&bytes[at + 19..length]).unwrap_or(c"");
                at += record.max(1);
                let shown = name.to_bytes();
                if shown.first().is_some_and(u8::is_ascii_digit)
                    && !(self.shows_own_ids && number(shown).is_some_and(&mut skip))
                {
                    match self.read(shown)? {
                        Some(task) => visit(task)?,
                        // Where whoever it has listed last has ended, the kernel goes on by number, past one that is there.
                        None => has_lost_one = true,
                    }
                }
            }
        }
    }

    /// The identity of a thread's namespace (`b"ns/uts"` …); `None` where the thread has ended.
    pub fn namespace(&self, shown: i32, link: &[u8]) -> Result<Option<libc::ino_t>> {
        let mut digits = [0; 12];
        let path = Path::new(&[decimal(shown, &mut digits), link])?;
        present(fstatat(&self.directory, path.as_c_str(), AtFlags::empty()), "newfstatat")
            .map(|status| status.map(|status| status.st_ino))
    }

    /// The system call that a thread is in, and its first argument; `None` where it is in none, or is ending, which is when the
    /// file is root's, or has ended.
    pub fn system_call(&self, shown: i32) -> Result<Option<(libc::c_long, usize)>> {
        let mut digits = [0; 12];
        let file = match self.open(decimal(shown, &mut digits), b"syscall") {
            Ok(Some(file)) => file,
            Ok(None) | Err(Failure { errno: Errno::EACCES, .. }) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        // Room for both.
        let mut text = [0; 40];
        let Some(length) = present(read(&file, &mut text), "read")? else { return Ok(None) };
        let mut words = text[..length].split(u8::is_ascii_whitespace);
        let call = words.next().and_then(number);
        let digits = words.next().and_then(|word| std::str::from_utf8(word.strip_prefix(b"0x")?).ok());
        let first = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        Ok(call.zip(first))
    }

    /// Calls `visit` for children of a thread: for the first hundreds, if there are more.
    pub fn children(&self, shown: i32, mut visit: impl FnMut(i32)) -> Result<()> {
        let mut digits = [0; 12];
        let Some(file) = self.open(decimal(shown, &mut digits), b"children")? else { return Ok(()) };
        let mut text = [0; 4096];
        let length = present(read(&file, &mut text), "read")?.unwrap_or(0);
        // A space is behind each.
        let end = text[..length].iter().rposition(|byte| *byte == b' ').unwrap_or(0);
        text[..end].split(|byte| *byte == b' ').filter_map(number).for_each(&mut visit);
        Ok(())
    }

    fn rewind(&self) -> Result<()> {
        // SAFETY: integers only.
        let position = unsafe { libc::lseek(self.directory.as_raw_fd(), 0, libc::SEEK_SET) };
        Errno::result(position).map(drop).map_err(|errno| Failure::new("lseek", errno))
    }

    fn entries(&self, buffer: &mut [u64; 512]) -> Result<usize> {
        let address = buffer.as_mut_ptr();
        // SAFETY: the buffer is as long as we say, and aligned for what the kernel writes.
        let length = unsafe {
            libc::syscall(libc::SYS_getdents64, self.directory.as_raw_fd(), address, size_of_val(buffer))
        };
        #[allow(
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "a length within the buffer"
        )]
        Errno::result(length).map(|length| length as usize).map_err(|errno| Failure::new("getdents64", errno))
    }

    /// `None` where the thread has ended meanwhile. Whatever else goes wrong is an error: nobody may be overlooked.
    fn read(&self, shown: &[u8]) -> Result<Option<Task>> {
        let Some(status) = self.open(shown, b"status")? else { return Ok(None) };
        let (mut name, mut blocked, mut tid) = (None, None, None);
        let read_whole = each_line(&status, |line| {
            if let Some(value) = line.strip_prefix(b"Name:\t") {
                name = Some(to_name(value));
            } else if let Some(value) = line.strip_prefix(b"SigBlk:\t") {
                blocked =
                    std::str::from_utf8(value).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
            } else if let Some(value) = line.strip_prefix(b"NSpid:\t") {
                // One id for each pid namespace from this /proc's down to the thread's own.
                tid = value.split(|byte| *byte == b'\t').next_back().and_then(number);
            }
        })?;
        if !read_whole {
            return Ok(None);
        }
        let Some(stat) = self.open(shown, b"stat")? else { return Ok(None) };
        let Some(flags) = flags(&stat)? else { return Ok(None) };
        Ok(Some(Task {
            tid: tid.ok_or(MALFORMED)?,
            shown: number(shown).ok_or(MALFORMED)?,
            blocked: blocked.ok_or(MALFORMED)?,
            is_kernel_worker: flags & (PF_IO_WORKER | PF_USER_WORKER) != 0,
            name: name.ok_or(MALFORMED)?,
        }))
    }

    fn open(&self, task: &[u8], file: &[u8]) -> Result<Option<OwnedFd>> {
        let path = Path::new(&[task, file])?;
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        present(openat(self.directory.as_fd(), path.as_c_str(), flags, Mode::empty()), "openat")
    }
}

/// How many threads this process has, by the links of their directory: exact, unlike the listing. `None` where there is no such
/// directory.
pub fn count() -> Option<usize> {
    /// A directory's own, and its parent's.
    const OTHERS: u64 = 2;
    let status = stat(c"/proc/self/task").ok()?;
    #[allow(clippy::useless_conversion, reason = "it is as wide as the processor has it")]
    let links = u64::from(status.st_nlink);
    links.checked_sub(OTHERS).and_then(|threads| usize::try_from(threads).ok())
}

fn shows_own_id() -> bool {
    let mut target = [0_u8; 16];
    // SAFETY: a C string, and a buffer as long as we say.
    let length = unsafe { libc::readlink(c"/proc/self".as_ptr(), target.as_mut_ptr().cast(), target.len()) };
    let digits = usize::try_from(length).ok().and_then(|length| target.get(..length));
    digits.and_then(number) == Some(nix::unistd::getpid().as_raw())
}

/// A task's flags in its stat file; `None` where the thread has ended.
fn flags(stat: &OwnedFd) -> Result<Option<u64>> {
    let mut text = [0; 1024];
    let Some(length) = present(read(stat, &mut text), "read")? else { return Ok(None) };
    // The name in brackets may hold anything, brackets too; behind it stand state, ppid and so on.
    let end = text[..length].iter().rposition(|byte| *byte == b')').ok_or(MALFORMED)?;
    let flags = text[end..length].split(|byte| *byte == b' ').nth(7);
    flags.and_then(number).map(Some).ok_or(MALFORMED)
}

/// What is not there because its thread has ended is no failure.
fn present<T>(result: nix::Result<T>, call: &'static str) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(errno) => Err(Failure::new(call, errno)),
    }
}

/// A short path, on the stack.
struct Path {
    bytes: [u8; 64],
}

impl Path {
    fn new(parts: &[&[u8]]) -> Result<Self> {
        let mut bytes = [0; 64];
        let mut rest = &mut bytes[..63];
        for (index, part) in parts.iter().enumerate() {
            let separator: &[u8] = if index == 0 { b"" } else { b"/" };
            rest.write_all(separator).and_then(|()| rest.write_all(part)).map_err(|_| MALFORMED)?;
        }
        Ok(Self { bytes })
    }

    fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

fn decimal(number: i32, digits: &mut [u8; 12]) -> &[u8] {
    let mut rest = &mut digits[..];
    // Twelve bytes hold every i32.
    let _ = write!(rest, "{number}");
    let unused = rest.len();
    &digits[..12 - unused]
}

/// Calls `visit` for each line but those longer than the buffer (`Groups:` has no limit, and nothing that we ask for);
/// false where the thread has ended.
fn each_line(file: &OwnedFd, mut visit: impl FnMut(&[u8])) -> Result<bool> {
    let mut buffer = [0; 4096];
    let (mut filled, mut is_rest_of_long_line) = (0, false);
    loop {
        let Some(length) = present(read(file, &mut buffer[filled..]), "read")? else { return Ok(false) };
        if length == 0 {
            return Ok(true);
        }
        filled += length;
        let mut start = 0;
        while let Some(end) = buffer[start..filled].iter().position(|byte| *byte == b'\n') {
            if !is_rest_of_long_line {
                visit(&buffer[start..start + end]);
            }
            is_rest_of_long_line = false;
            start += end + 1;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
        if filled == buffer.len() {
            (filled, is_rest_of_long_line) = (0, true);
        }
    }
}

fn to_name(value: &[u8]) -> Name {
    let mut name = Name::default();
    let length = value.len().min(name.len());
    name[..length].copy_from_slice(&value[..length]);
    name
}

fn as_bytes(words: &[u64; 512]) -> &[u8] {
    // SAFETY: any initialised words are readable as bytes.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

fn number<T: FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.trim().parse().ok()
}

/// The calling thread's umask, read without changing it. Allocates.
pub fn own_umask() -> Result<Mode> {
    let failed = |errno| Failure::new("open", errno);
    let status = std::fs::read_to_string("/proc/thread-self/status")
        .map_err(|error| failed(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
    let octal = status.lines().find_map(|line| line.strip_prefix("Umask:\t"));
    let mask = octal.and_then(|octal| libc::mode_t::from_str_radix(octal, 8).ok());
    mask.map(Mode::from_bits_retain).ok_or(MALFORMED)
}
