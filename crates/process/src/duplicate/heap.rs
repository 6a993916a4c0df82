//! V8's heap, which V8 keeps from children (`MADV_DONTFORK`) so that a fork before an exec is cheap.
//!
//! Which mappings those are, only /proc/self/smaps says, and reading that costs more than the fork: it walks all memory. So
//! everything is let through each time, which is cheap. What is to be kept from forks again has the header of a chunk of
//! V8's heap, or was so when smaps was read, once; where V8 has made something else since, it stays let through, which
//! costs later forks a little, and is never wrong.
//!
//! # Safety
//!
//! The advice concerns what a fork copies, and nothing that this process does with its memory. What is read of a mapping is
//! its first words, where /proc says that they can be.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use linux_clone_syscalls::{Errno, Failure, Result};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::read;

/// The kernel's own limit (vm.max_map_count), unless it was raised.
const MOST: usize = 65_536;

/// Bytes: of some thousand mappings.
const LONGEST: usize = 256 << 10;

/// V8's chunks begin at multiples of this.
const CHUNK: usize = 256 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    start: usize,
    end: usize,
    permissions: [u8; 4],
    kind: Kind,
}

/// What is behind a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Memory,
    File,
    /// The kernel's own: vvar, vdso, vsyscall.
    Kernel,
}

impl Mapping {
    fn is_readable_memory(&self) -> bool {
        self.kind == Kind::Memory && self.permissions[0] == b'r'
    }

    /// A file's memory may end before its mapping does.
    fn is_writable_memory(&self) -> bool {
        self.kind == Kind::Memory && self.permissions.starts_with(b"rw")
    }

    fn may_be_chunk(&self) -> bool {
        self.kind == Kind::Memory && &self.permissions == b"rw-p" && self.start.is_multiple_of(CHUNK)
    }
}

/// What smaps has told.
struct Known {
    form: Option<Form>,
    /// What V8 keeps from forks, and is no chunk: code, what cannot be written, reserved space.
    others: Vec<Mapping>,
}

static KNOWN: OnceLock<Known> = OnceLock::new();

/// How the header of a chunk tells where the chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The first word is the length, the fourth where objects begin (Node 20).
    Length,
    /// The second word is the address (Node 22).
    Address,
    /// The second word points to a description whose second word is the address (Node 24 and later).
    Description,
}

impl Form {
    const ALL: [Self; 3] = [Self::Length, Self::Address, Self::Description];

    /// `word` reads a word of memory, where it can be read.
    fn is_of(self, mapping: &Mapping, word: impl Fn(usize) -> Option<usize>) -> bool {
        if !mapping.may_be_chunk() {
            return false;
        }
        let Mapping { start, end, .. } = *mapping;
        match self {
            Self::Length => {
                word(start).is_some_and(|length| (1..=end - start).contains(&length))
                    && word(start + 24).is_some_and(|objects| (start..start + CHUNK).contains(&objects))
            }
            Self::Address => word(start + 8) == Some(start),
            Self::Description => {
                let description = word(start + 8).filter(|description| description.is_multiple_of(8));
                description.and_then(|description| word(description + 8)) == Some(start)
            }
        }
    }
}

/// A word of memory that another thread may be unmapping: the kernel says whether it is there.
fn word_that_may_be_gone(address: usize) -> Option<usize> {
    words_that_may_be_gone(address, &mut [0]).first().copied()
}

/// As many words of memory as there are, which the kernel says.
pub fn words_that_may_be_gone(address: usize, words: &mut [usize]) -> &[usize] {
    let length = size_of_val(words);
    let local = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: length };
    let remote = libc::iovec { iov_base: address as *mut _, iov_len: length };
    let own = nix::unistd::getpid().as_raw();
    // SAFETY: words of ours are written; what is read of this process is checked by the kernel.
    let read = unsafe { libc::process_vm_readv(own, &raw const local, 1, &raw const remote, 1, 0) };
    &words[..usize::try_from(read).unwrap_or(0) / size_of::<usize>()]
}

/// A word of memory that stays as it is, as the other threads are parked, where one of the mappings `has` it.
fn word_of(mappings: &[Mapping], address: usize, has: impl Fn(&Mapping) -> bool) -> Option<usize> {
    let after = mappings.partition_point(|mapping| mapping.end <= address);
    let is_there = address.is_multiple_of(align_of::<usize>())
        && mappings.get(after).is_some_and(|mapping| mapping.start <= address && has(mapping));
    // SAFETY: it is mapped and readable, and aligned, so that it does not go beyond the mapping's end.
    is_there.then(|| unsafe { (address as *const usize).read_volatile() })
}

/// The memory of this process while its threads are parked, and what of it a fork leaves out.
pub struct Heap {
    known: &'static Known,
    /// Of its own pages, which a fork does not copy: they would have to be copied for the next reading.
    buffer: &'static mut [u8],
    /// What the mappings have been read from, if it is not too long.
    text: Vec<u8>,
    mappings: Vec<Mapping>,
    /// The first and the last address of neighbours, between which nothing else is mapped.
    kept: Vec<(usize, usize)>,
}

/// Whether as many files of /proc can be opened as are read at once: what is learnt of it is learnt once, and must not be what an
/// open that fails would have it be.
pub fn can_read() -> Result<()> {
    const AT_ONCE: usize = 8;
    let opened: Result<Vec<OwnedFd>> = (0..AT_ONCE).map(|_| open_file(c"/proc/self/maps")).collect();
    opened.map(drop)
}

/// Reads what /proc tells, once.
pub fn learn() -> Result<()> {
    known().map(drop)
}

fn known() -> Result<&'static Known> {
    if let Some(known) = KNOWN.get() {
        return Ok(known);
    }
    let (mut mappings, mut kept) = (Vec::new(), Vec::new());
    each_line(&open_file(c"/proc/self/smaps")?, &mut vec![0; 64 << 10], |line| {
        if let Some(flags) = line.strip_prefix(b"VmFlags: ") {
            if flags.split(|byte| *byte == b' ').any(|flag| flag == b"dc") {
                kept.extend(mappings.last().copied());
            }
        } else {
            mappings.extend(parse(line));
        }
    })?;
    let chunks = || kept.iter().filter(|mapping| mapping.may_be_chunk());
    let form = Form::ALL.into_iter().find(|form| {
        // Other memory of V8's may begin at such an address too.
        let alike = chunks().filter(|mapping| form.is_of(mapping, word_that_may_be_gone)).count();
        alike * 2 > chunks().count()
    });
    let is_other = |mapping: &Mapping| !form.is_some_and(|form| form.is_of(mapping, word_that_may_be_gone));
    let others = kept.iter().copied().filter(is_other).collect();
    Ok(KNOWN.get_or_init(|| Known { form, others }))
}

impl Heap {
    /// All that is needed while threads are parked: allocated once, as its pages cost more than what is written to them.
    pub fn of_this_process() -> Result<MutexGuard<'static, Self>> {
        static HEAP: OnceLock<Mutex<Heap>> = OnceLock::new();
        let known = known()?;
        if let Some(heap) = HEAP.get() {
            return Ok(heap.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let buffer = wiped_on_fork(LONGEST)?;
        let heap = HEAP.get_or_init(|| {
            Mutex::new(Self {
                known,
                buffer,
                text: Vec::with_capacity(LONGEST),
                mappings: Vec::with_capacity(MOST),
                kept: Vec::with_capacity(MOST),
            })
        });
        Ok(heap.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets a fork copy them. Does not allocate.
    pub fn let_through(&mut self) -> Result<()> {
        self.read()?;
        let Self { known, mappings, kept, .. } = self;
        kept.clear();
        let mut last_kept = None;
        for (index, mapping) in
            mappings.iter().enumerate().filter(|(_, mapping)| mapping.kind == Kind::Memory)
        {
            let range = (mapping.start, mapping.end);
            let is_chunk = known.form.is_some_and(|form| {
                form.is_of(mapping, |address| word_of(mappings, address, Mapping::is_readable_memory))
            });
            // What malloc has is readable and writable, or reserved for that: it must not be taken for V8's.
            let was_kept = known.others.iter().any(|other| {
                other.permissions == mapping.permissions
                    && if mapping.permissions[2] == b'x' {
                        other.start <= mapping.start && mapping.end <= other.end
                    } else {
                        (other.start, other.end) == range
                    }
            });
            if is_chunk || was_kept {
                match kept.last_mut() {
                    Some(neighbour) if last_kept == index.checked_sub(1) => neighbour.1 = mapping.end,
                    _ => kept.push(range),
                }
                last_kept = Some(index);
            }
        }
        let is_memory = |mapping: &Mapping| mapping.kind == Kind::Memory;
        for neighbours in mappings.chunk_by(|one, next| is_memory(one) && is_memory(next)) {
            if let (Some(first), Some(last)) = (neighbours.first(), neighbours.last())
                && is_memory(first)
                && is_device(advise((first.start, last.end), libc::MADV_DOFORK))?
            {
                for mapping in neighbours {
                    is_device(advise((mapping.start, mapping.end), libc::MADV_DOFORK))?;
                }
            }
        }
        Ok(())
    }

    /// Parses what is mapped only where it has changed. Does not allocate.
    fn read(&mut self) -> Result<()> {
        let Self { buffer, text, mappings, .. } = self;
        let file = open_file(c"/proc/self/maps")?;
        let mut filled = 0;
        while filled < buffer.len() {
            match read(&file, &mut buffer[filled..]).map_err(|errno| Failure::new("read", errno))? {
                0 => break,
                length => filled += length,
            }
        }
        let is_whole = filled < buffer.len();
        if is_whole && text[..] == buffer[..filled] {
            return Ok(());
        }
        mappings.clear();
        text.clear();
        let mut too_many = false;
        let mut add = |line: &[u8]| {
            if let Some(mapping) = parse(line) {
                too_many |= mappings.len() == mappings.capacity();
                if !too_many {
                    mappings.push(mapping);
                }
            }
        };
        if is_whole {
            text.extend_from_slice(&buffer[..filled]);
            text.split(|byte| *byte == b'\n').for_each(add);
        } else {
            each_line(&open_file(c"/proc/self/maps")?, buffer, &mut add)?;
        }
        if too_many { Err(Failure::new("madvise", Errno::ENOMEM)) } else { Ok(()) }
    }

    /// Keeps them from forks again, while no other thread runs that could map something between them.
    pub fn hold_back(&self) {
        for range in &self.kept {
            // It was so before.
            let _ = advise(*range, libc::MADV_DONTFORK);
        }
    }

    /// A word of memory that can be written, as it was when [`Heap::let_through`] looked.
    pub fn writable_word(&self, address: usize) -> Option<usize> {
        word_of(&self.mappings, address, Mapping::is_writable_memory)
    }
}

/// Memory that is zero in a copy of this process, for good.
fn wiped_on_fork(length: usize) -> Result<&'static mut [u8]> {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: the kernel picks the address, so that nothing of ours is mapped over.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        return Err(Failure::new("mmap", Errno::last()));
    }
    // SAFETY: the mapping is ours. Before Linux 4.14, which refuses, it is copied.
    unsafe { libc::madvise(memory, length, libc::MADV_WIPEONFORK) };
    // SAFETY: as long, of zeros, and nobody else has it.
    Ok(unsafe { std::slice::from_raw_parts_mut(memory.cast(), length) })
}

/// Whether there is a device's memory, which ends the advice: it is not V8's.
fn is_device(advised: Result<()>) -> Result<bool> {
    match advised {
        Err(Failure { errno: Errno::EINVAL, .. }) => Ok(true),
        result => result.map(|()| false),
    }
}

fn advise((start, end): (usize, usize), advice: c_int) -> Result<()> {
    // SAFETY: the advice changes what a fork copies.
    let result = unsafe { libc::madvise(start as *mut _, end - start, advice) };
    match Errno::result(result) {
        // ENOMEM: a part of it is not mapped; the rest has been advised.
        Ok(_) | Err(Errno::ENOMEM) => Ok(()),
        Err(errno) => Err(Failure::new("madvise", errno)),
    }
}

fn open_file(path: &std::ffi::CStr) -> Result<OwnedFd> {
    open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(|errno| Failure::new("open", errno))
}

fn each_line(file: &OwnedFd, buffer: &mut [u8], mut visit: impl FnMut(&[u8])) -> Result<()> {
    let mut filled = 0;
    loop {
        let length = read(file, &mut buffer[filled..]).map_err(|errno| Failure::new("read", errno))?;
        if length == 0 {
            return Ok(());
        }
        filled += length;
        let mut start = 0;
        while let Some(end) = buffer[start..filled].iter().position(|byte| *byte == b'\n') {
            visit(&buffer[start..start + end]);
            start += end + 1;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
}

/// `start-end perms offset device inode path`.
fn parse(line: &[u8]) -> Option<Mapping> {
    let (start, rest) = hexadecimal(line);
    let (end, rest) = hexadecimal(rest.strip_prefix(b"-")?);
    let (permissions, rest) = rest.strip_prefix(b" ")?.split_first_chunk::<4>()?;
    let mut fields = rest.strip_prefix(b" ")?.splitn(4, |byte| *byte == b' ');
    let (inode, name) = (fields.nth(2)?, fields.next().unwrap_or_default().trim_ascii_start());
    let kind = match (inode, name) {
        (b"0", [b'[', b'v', ..]) => Kind::Kernel,
        (b"0", _) => Kind::Memory,
        _ => Kind::File,
    };
    Some(Mapping { start, end, permissions: *permissions, kind })
}

/// The number that a text begins with, and what follows.
fn hexadecimal(text: &[u8]) -> (usize, &[u8]) {
    let (mut number, mut rest) = (0, text);
    while let [digit, following @ ..] = rest {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => break,
        };
        (number, rest) = (number << 4 | usize::from(value), following);
    }
    (number, rest)
}
