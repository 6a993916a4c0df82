//! This process's threads as /proc shows them, read without allocating: a parked thread may hold malloc's lock.
//!
//! # Safety
//!
//! System calls that fill buffers on the stack.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::fs::metadata;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use linux_clone_syscalls::{Errno, Failure, Result};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
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
    name: [u8; 16],
    /// A worker of the kernel's (`io_uring`): it takes no signals and runs no code of the process.
    pub is_kernel_worker: bool,
}

impl Task {
    pub fn name(&self) -> &[u8] {
        self.name.split(|byte| *byte == 0).next().unwrap_or(&self.name)
    }
}

/// `/proc/self/task`.
#[derive(Debug)]
pub struct Tasks {
    directory: OwnedFd,
}

/// The bits of a task's flags in its stat file that mark the kernel's workers inside a process.
const PF_IO_WORKER: u64 = 0x10;
const PF_USER_WORKER: u64 = 0x4000;

impl Tasks {
    pub fn of_this_process() -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(c"/proc/self/task", flags, Mode::empty());
        directory.map(|directory| Self { directory }).map_err(|errno| Failure { call: "open", errno })
    }

    /// Calls `visit` for each thread that is there, in the order of their creation.
    pub fn for_each<E: From<Failure>>(
        &self,
        mut visit: impl FnMut(Task) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut buffer = [0_u64; 512];
        self.rewind()?;
        loop {
            let length = self.entries(&mut buffer)?;
            if length == 0 {
                return Ok(());
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
                    && let Some(task) = self.read(shown)
                {
                    visit(task)?;
                }
            }
        }
    }

    fn rewind(&self) -> Result<()> {
        // SAFETY: integers only.
        let position = unsafe { libc::lseek(self.directory.as_raw_fd(), 0, libc::SEEK_SET) };
        Errno::result(position).map(drop).map_err(|errno| Failure { call: "lseek", errno })
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
        Errno::result(length)
            .map(|length| length as usize)
            .map_err(|errno| Failure { call: "getdents64", errno })
    }

    /// `None` where the thread has ended meanwhile.
    fn read(&self, shown: &[u8]) -> Option<Task> {
        let mut text = [0; 4096];
        let status = self.contents(shown, b"status", &mut text)?;
        let mut name = [0; 16];
        let shown_name = field(status, b"Name:")?;
        let length = shown_name.len().min(name.len());
        name[..length].copy_from_slice(&shown_name[..length]);
        let blocked = u64::from_str_radix(std::str::from_utf8(field(status, b"SigBlk:")?).ok()?, 16).ok()?;
        // One id for each pid namespace from this /proc's down to the thread's own.
        let tid = field(status, b"NSpid:")
            .and_then(|ids| ids.split(|byte| *byte == b'\t').next_back())
            .unwrap_or(shown);
        let (tid, shown_number) = (number(tid)?, number(shown)?);
        let mut text = [0; 1024];
        let stat = self.contents(shown, b"stat", &mut text)?;
        // The name in brackets may hold anything, brackets too; flags are the seventh field after it.
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        let flags: u64 = number(stat[end..].split(|byte| *byte == b' ').nth(7)?)?;
        let is_kernel_worker = flags & (PF_IO_WORKER | PF_USER_WORKER) != 0;
        Some(Task { tid, shown: shown_number, blocked, name, is_kernel_worker })
    }

    fn contents<'a>(&self, task: &[u8], file: &[u8], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let mut path = [0; 64];
        let mut rest = &mut path[..];
        for part in [task, b"/", file] {
            rest.write_all(part).ok()?;
        }
        let path = CStr::from_bytes_until_nul(&path).ok()?;
        let file =
            openat(self.directory.as_fd(), path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        let length = read(&file, buffer).ok()?;
        buffer.get(..length)
    }
}

fn as_bytes(words: &[u64; 512]) -> &[u8] {
    // SAFETY: any initialised words are readable as bytes.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

fn field<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name)).map(<[u8]>::trim_ascii)
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.trim().parse().ok()
}

/// Whether all threads are in one namespace of this kind (`"uts"` …). Allocates.
pub fn share_namespace(kind: &str) -> Result<bool> {
    let failed = |error: io::Error| Failure {
        call: "stat",
        errno: Errno::from_raw(error.raw_os_error().unwrap_or(0)),
    };
    let own = metadata(format!("/proc/thread-self/ns/{kind}")).map_err(failed)?.ino();
    let mut shared = true;
    Tasks::of_this_process()?.for_each::<Failure>(|task| {
        // One that has ended meanwhile is in none.
        let theirs = metadata(format!("/proc/self/task/{}/ns/{kind}", task.shown));
        shared &= theirs.map_or(true, |theirs| theirs.ino() == own);
        Ok(())
    })?;
    Ok(shared)
}

/// The calling thread's umask, read without changing it. Allocates.
pub fn own_umask() -> Result<Mode> {
    let failed = |errno| Failure { call: "open", errno };
    let status = std::fs::read("/proc/thread-self/status")
        .map_err(|error| failed(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
    let octal = field(&status, b"Umask:").and_then(|text| std::str::from_utf8(text).ok());
    let mask = octal.and_then(|text| libc::mode_t::from_str_radix(text, 8).ok());
    mask.map(Mode::from_bits_retain).ok_or(failed(Errno::ENODATA))
}
