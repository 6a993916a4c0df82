//! V8's heap, which V8 keeps from children (`MADV_DONTFORK`) so that a fork before an exec is cheap.
//!
//! For a copy all memory is let through, which is one call where nothing is new, and stays so until somebody else forks: only
//! then it is found out which mappings V8 keeps from forks, and they are kept from that one. Most programs clone more often than
//! they start others.
//!
//! Which those are, only /proc/self/smaps says, and reading that costs more than the fork: it walks all memory. It is read once, before
//! the first copy. Later they are known by the header of a chunk of V8's heap; where V8 has made something else since, it stays let
//! through, which costs forks a little.
//!
//! # Safety
//!
//! The advice concerns what a fork copies, and nothing that this process does with its memory. Memory that another thread may be
//! unmapping is read by the kernel.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use linux_clone_syscalls::{Errno, Failure, Result};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::read;

use crate::maps::page_size;
use crate::objects::constants_beside;
use crate::uv::symbol;
use crate::words::{TOP, Words};

/// The kernel's own limit (vm.max_map_count), unless it was raised.
const MOST: usize = 65_536;

/// Bytes that are read at once.
const AT_ONCE: usize = 64 << 10;

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
    fn may_have_chunks(&self) -> bool {
        self.kind == Kind::Memory && &self.permissions == b"rw-p"
    }

    fn may_be_chunk(&self) -> bool {
        self.may_have_chunks() && self.start.is_multiple_of(CHUNK)
    }
}

/// What smaps has told.
struct Known {
    form: Option<Form>,
    /// What V8 keeps from forks, and is no chunk: code, what cannot be written, reserved space.
    others: Vec<Mapping>,
    /// What is mapped of Node for good, and cannot be written.
    constant: Vec<Range<usize>>,
    /// What the kernel has not mapped for itself, and can be advised.
    ours: Vec<(usize, usize)>,
}

static KNOWN: OnceLock<Known> = OnceLock::new();

/// How the header of a chunk tells where the chunk is, and how long. Each does so more than once: what malloc has may look like one of
/// these words by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The first word is the length, the fourth where objects begin; the eleventh is the address, followed by the length (Node 20).
    Length,
    /// The second word is the address, followed by the length, and so is the twelfth (Node 22).
    Address,
    /// The second word points to a description whose second word is the address, followed by the length, which is the seventh too
    /// (Node 24 and later).
    Description,
}

impl Form {
    const ALL: [Self; 3] = [Self::Length, Self::Address, Self::Description];

    /// How long the chunk is that begins at `start`, if one does, and it ends at `end` at the latest.
    fn length(self, start: usize, end: usize) -> Option<usize> {
        const MOST_WORDS: usize = 13;
        if !is_resident(start) {
            return None;
        }
        let mut header = [0; MOST_WORDS];
        let header: &[usize; MOST_WORDS] = words_that_may_be_gone(start, &mut header).try_into().ok()?;
        let length = match (self, header) {
            (Self::Length, &[length, _, _, objects, .., begin, again, _]) => {
                let is_chunk = begin == start && again == length && (start..start + CHUNK).contains(&objects);
                is_chunk.then_some(length)
            }
            (Self::Address, &[_, begin, length, .., once_more, again]) => {
                (begin == start && once_more == start && again == length).then_some(length)
            }
            (Self::Description, &[_, place, ..]) if place.is_multiple_of(align_of::<usize>()) => {
                match words_that_may_be_gone(place, &mut [0; 7]) {
                    &[_, begin, length, _, _, _, again] => {
                        (begin == start && again == length).then_some(length)
                    }
                    _ => None,
                }
            }
            _ => None,
        }?;
        let length = length.checked_next_multiple_of(page_size())?;
        (1..=end - start).contains(&length).then_some(length)
    }
}

/// Whether there is a page: memory that is only reserved would get one where it is read, and tables for it, which a fork copies.
fn is_resident(page: usize) -> bool {
    let mut residence = 0;
    // SAFETY: a byte for one page, of which the kernel checks whether it is mapped.
    let result = unsafe { libc::mincore(page as *mut c_void, 1, &raw mut residence) };
    result == 0 && residence & 1 != 0
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

/// Where words can be, after [`learn`]. Does not allocate.
pub fn words() -> Words {
    Words::new(KNOWN.get().map_or(&[], |known| &known.constant))
}

/// The memory of this process.
pub struct Heap {
    known: &'static Known,
    buffer: Vec<u8>,
    mappings: Vec<Mapping>,
}

static HEAP: OnceLock<Mutex<Heap>> = OnceLock::new();

/// Whether a fork copies what V8 keeps from forks.
static IS_LET_THROUGH: AtomicBool = AtomicBool::new(false);

/// Whether as many files of /proc can be opened as are read at once: what is learnt of it is learnt once, and must not be what an
/// open that fails would have it be.
pub fn can_read() -> Result<()> {
    const FILES: usize = 8;
    let opened: Result<Vec<OwnedFd>> = (0..FILES).map(|_| open_file(c"/proc/self/maps")).collect();
    opened.map(drop)
}

/// Reads what /proc tells, once, and has each fork that the libc makes ask for what is to be kept from it.
pub fn learn() -> Result<()> {
    if HEAP.get().is_some() {
        return Ok(());
    }
    let heap = Heap { known: known()?, buffer: vec![0; AT_ONCE], mappings: Vec::with_capacity(MOST) };
    // SAFETY: a function of ours, in a library that stays.
    match unsafe { libc::pthread_atfork(Some(before_fork), None, None) } {
        0 => {
            HEAP.get_or_init(|| Mutex::new(heap));
            Ok(())
        }
        errno => Err(Failure { call: "pthread_atfork", errno: Errno::from_raw(errno), raw: errno }),
    }
}

unsafe extern "C" fn before_fork() {
    keep_from_fork();
}

/// What V8 keeps from forks is kept from the next one. Any thread may be who forks, while others run. Does not allocate.
pub fn keep_from_fork() {
    // A thread that makes a copy has it, and would wait for this one, which has its signals blocked: this fork is slower then.
    let Some(Ok(mut heap)) = HEAP.get().map(Mutex::try_lock) else { return };
    if IS_LET_THROUGH.load(Ordering::Relaxed) && heap.hold_back().is_ok() {
        IS_LET_THROUGH.store(false, Ordering::Relaxed);
    }
}

fn known() -> Result<&'static Known> {
    if let Some(known) = KNOWN.get() {
        return Ok(known);
    }
    let (mut mappings, mut kept) = (Vec::new(), Vec::new());
    let mut kernels = Vec::new();
    each_line(&open_file(c"/proc/self/smaps")?, &mut vec![0; AT_ONCE], |line| {
        if let Some(flags) = line.strip_prefix(b"VmFlags: ") {
            if flags.split(|byte| *byte == b' ').any(|flag| flag == b"dc") {
                kept.extend(mappings.last().copied());
            }
        } else if let Some(mapping) = parse(line) {
            if mapping.kind == Kind::Kernel {
                kernels.push((mapping.start, mapping.end));
            }
            mappings.push(mapping);
        }
    })?;
    let chunks = || kept.iter().filter(|mapping| mapping.may_be_chunk());
    let form = Form::ALL.into_iter().find(|form| {
        // Other memory of V8's may begin at such an address too.
        let is_of = |mapping: &&Mapping| form.length(mapping.start, mapping.end).is_some();
        chunks().filter(is_of).count() * 2 > chunks().count()
    });
    let is_chunk = |mapping: &Mapping| {
        mapping.may_be_chunk() && form.is_some_and(|form| form.length(mapping.start, mapping.end).is_some())
    };
    // Where chunks cannot be told, what is at their place later may be malloc's.
    let is_other = |mapping: &Mapping| !is_chunk(mapping) && (form.is_some() || !mapping.may_be_chunk());
    let others = kept.iter().copied().filter(is_other).collect();
    Ok(KNOWN.get_or_init(|| Known { form, others, constant: constant(), ours: beside(&kernels) }))
}

/// The executable's own, which is never unmapped.
fn constant() -> Vec<Range<usize>> {
    symbol(b"uv_run\0").map_or_else(Vec::new, |code| constants_beside(code as usize))
}

/// What is between some mappings, in order.
fn beside(mappings: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let starts = mappings.iter().map(|(start, _)| *start).chain([TOP]);
    let ends = [page_size()].into_iter().chain(mappings.iter().map(|(_, end)| *end));
    ends.zip(starts.map(|start| start.min(TOP))).filter(|(end, start)| end < start).collect()
}

impl Heap {
    /// To be had before threads are parked, of which one may have it. ENOENT before [`learn`].
    pub fn of_this_process() -> Result<MutexGuard<'static, Self>> {
        let heap = HEAP.get().ok_or(Failure::new("open", Errno::ENOENT))?;
        Ok(heap.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets a fork copy them. Does not allocate.
    pub fn let_through(&mut self) -> Result<()> {
        IS_LET_THROUGH.store(true, Ordering::Relaxed);
        for range in &self.known.ours {
            if is_device(advise(*range, libc::MADV_DOFORK))? {
                return self.let_each_through();
            }
        }
        Ok(())
    }

    /// The same where a device's memory is mapped.
    fn let_each_through(&mut self) -> Result<()> {
        self.read()?;
        let is_memory = |mapping: &Mapping| mapping.kind == Kind::Memory;
        for neighbours in self.mappings.chunk_by(|one, next| is_memory(one) && is_memory(next)) {
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

    /// Keeps from forks what V8 does.
    fn hold_back(&mut self) -> Result<()> {
        self.read()?;
        let Self { known, mappings, .. } = self;
        let mut looks = MOST_LOOKS;
        for mapping in mappings.iter().filter(|mapping| mapping.kind != Kind::Kernel) {
            // What malloc has is readable and writable, or reserved for that: it must not be taken for V8's.
            let was_kept = known.others.iter().any(|other| {
                other.permissions == mapping.permissions
                    && if mapping.permissions[2] == b'x' {
                        other.start <= mapping.start && mapping.end <= other.end
                    } else {
                        (other.start, other.end) == (mapping.start, mapping.end)
                    }
            });
            if was_kept {
                advise((mapping.start, mapping.end), libc::MADV_DONTFORK)?;
            } else if let Some(form) = known.form.filter(|_| mapping.may_have_chunks()) {
                hold_chunks_back(form, mapping, &mut looks)?;
            }
        }
        Ok(())
    }

    /// Does not allocate.
    fn read(&mut self) -> Result<()> {
        let Self { buffer, mappings, .. } = self;
        mappings.clear();
        let mut too_many = false;
        each_line(&open_file(c"/proc/self/maps")?, buffer, |line| {
            if let Some(mapping) = parse(line) {
                too_many |= mappings.len() == mappings.capacity();
                if !too_many {
                    mappings.push(mapping);
                }
            }
        })?;
        if too_many { Err(Failure::new("madvise", Errno::ENOMEM)) } else { Ok(()) }
    }
}

/// How often chunks are looked for in vain before a fork, and how often in one mapping: memory that is reserved may have no end. Those
/// that are not found cost the fork a little.
const MOST_LOOKS: usize = 4096;
const MOST_LOOKS_AT_ONE: usize = 64;

/// A mapping may have several, between what is others'.
fn hold_chunks_back(form: Form, mapping: &Mapping, looks: &mut usize) -> Result<()> {
    let mut start = mapping.start.next_multiple_of(CHUNK);
    let mut looks_here = MOST_LOOKS_AT_ONE;
    while start < mapping.end && looks_here > 0 && *looks > 0 {
        let length = form.length(start, mapping.end);
        if length.is_none() {
            *looks -= 1;
            looks_here -= 1;
        }
        if let Some(length) = length {
            let range = (start, start + length);
            advise(range, libc::MADV_DONTFORK)?;
            // Another thread may have unmapped it meanwhile, and something else be there.
            if form.length(start, mapping.end) != Some(length) {
                advise(range, libc::MADV_DOFORK)?;
            }
        }
        start += length.unwrap_or(CHUNK).next_multiple_of(CHUNK);
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::{TOP, beside, page_size};

    #[test]
    fn all_is_ours_but_what_the_kernel_has_mapped() {
        let page = page_size();
        assert_eq!(beside(&[]), [(page, TOP)]);
        let (data, code, old) =
            ((40 * page, 44 * page), (44 * page, 46 * page), (usize::MAX - page, usize::MAX));
        assert_eq!(beside(&[data, code]), [(page, 40 * page), (46 * page, TOP)]);
        assert_eq!(beside(&[data, code, old]), [(page, 40 * page), (46 * page, TOP)]);
        let apart = (50 * page, 51 * page);
        assert_eq!(beside(&[code, apart]), [(page, 44 * page), (46 * page, 50 * page), (51 * page, TOP)]);
    }
}
