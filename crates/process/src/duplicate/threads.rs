//! Which threads there are, which of them go on in a copy, and how.
//!
//! # Safety
//!
//! A thread of the copy is made from what a signal's handler saved of the parent's, on the copy of its stack.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

use linux_clone_syscalls::{Errno, Failure, Result};

use super::late::make_late_threads;
use super::waits::learn_queue;
use crate::arch::{CloneArguments, resume, thread_pointer, was_in_system_call};
use crate::failure::ThreadFailure;
use crate::maps::Maps;
use crate::objects::data_beside;
use crate::park::{Interrupted, Parked};
use crate::uv::{Barrier, symbol};

/// Where the libc keeps things in a thread's structure, as offsets to the thread pointer.
#[derive(Clone, Copy, Debug)]
struct Layout {
    tid: isize,
    /// The function that it runs.
    routine: Option<Routine>,
    /// musl's: the pointer to the structure before it in the ring of all threads, which the one to the next stands behind.
    ring: Option<isize>,
    /// musl's: whether somebody may wait for its end, zero once it has ended; glibc has the id for that.
    joinable: Option<isize>,
    /// musl's: the one word of the process that the kernel clears when a thread has ended; glibc has each thread's id cleared.
    cleared: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Routine {
    /// glibc's structure has it.
    InStructure(isize),
    /// musl has it that far below the end of the stack, which the structure has.
    OnStack { end: isize, below: usize },
}

/// What [`probe`] is given, and gives.
struct Probe {
    /// The structure of the thread that has made it.
    maker: usize,
    /// Whether it is in the libc's ring, which it may not be yet when it begins.
    is_in_ring: AtomicBool,
    layouts: Vec<Layout>,
}

static LAYOUT: OnceLock<Layout> = OnceLock::new();

/// Found by looking for what is known of the calling thread, and of another one.
fn layout() -> Result<&'static Layout> {
    if let Some(layout) = LAYOUT.get() {
        return Ok(layout);
    }
    let mut other = Probe { maker: structure(), is_in_ring: AtomicBool::new(false), layouts: Vec::new() };
    // SAFETY: an integer or a pointer, which pthread_create(3) fills in.
    let mut thread: libc::pthread_t = unsafe { std::mem::zeroed() };
    let place = &raw mut other;
    // SAFETY: `probe` writes to the place, which outlives the join.
    let result = unsafe { libc::pthread_create(&raw mut thread, std::ptr::null(), probe, place.cast()) };
    if result != 0 {
        return Err(Failure::new("clone", Errno::from_raw(result)));
    }
    // SAFETY: the thread reads it, and writes other fields.
    unsafe { &(*place).is_in_ring }.store(true, Ordering::Release);
    // SAFETY: it was created, and nobody else joins it.
    unsafe { libc::pthread_join(thread, std::ptr::null_mut()) };
    let own = offsets_in_structure(&nix::unistd::gettid().as_raw());
    let found = other.layouts.into_iter().find(|layout| own.contains(&layout.tid));
    found.map(|found| LAYOUT.get_or_init(|| found)).ok_or(Failure::new("clone", Errno::ENOTSUP))
}

extern "C" fn probe(place: *mut c_void) -> *mut c_void {
    let place = place.cast::<Probe>();
    // SAFETY: as `layout` passes it, which writes this field alone.
    while !unsafe { &(*place).is_in_ring }.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    // SAFETY: as above, and it writes no more.
    let Probe { maker, layouts, .. } = unsafe { &mut *place };
    let own = probe as *const () as usize;
    let in_structure = offsets_in_structure(&own).first().map(|offset| Routine::InStructure(*offset));
    let routine = in_structure.or_else(|| routine_on_stack(own));
    let (ring, joinable) =
        if cfg!(target_env = "musl") { (ring_behind(*maker), joinable_behind_errno()) } else { (None, None) };
    let tids = offsets_in_structure(&nix::unistd::gettid().as_raw());
    layouts.extend(tids.into_iter().map(|tid| Layout {
        tid,
        routine,
        ring,
        joinable,
        cleared: cleared_but(tid),
    }));
    std::ptr::null_mut()
}

/// Where the calling thread's structure has the end of its stack, with the length behind it, and how far below the routine is.
fn routine_on_stack(routine: usize) -> Option<Routine> {
    const NEAR: usize = 8;
    // SAFETY: plain data, which the next call fills in.
    let mut attributes: libc::pthread_attr_t = unsafe { std::mem::zeroed() };
    // SAFETY: returns the calling thread's.
    let own = unsafe { libc::pthread_self() };
    // SAFETY: the calling thread, and a place for what it is made with; that holds no memory in musl.
    if unsafe { libc::pthread_getattr_np(own, &raw mut attributes) } != 0 {
        return None;
    }
    let (mut start, mut length) = (std::ptr::null_mut::<c_void>(), 0_usize);
    // SAFETY: they were filled in.
    if unsafe { libc::pthread_attr_getstack(&raw const attributes, &raw mut start, &raw mut length) } != 0 {
        return None;
    }
    let stack_end = (start as usize).checked_add(length)?;
    let words: Vec<(isize, usize)> = words_of_structure().collect();
    let has_stack = |pair: &&[(isize, usize)]| pair[0].1 == stack_end && pair[1].1 == length;
    let end = words.windows(2).find(has_stack)?[0].0;
    let mut belows = (1..=NEAR).map(|words| words * size_of::<usize>());
    // SAFETY: on the calling thread's stack, whose end is aligned.
    let holds = |below: &usize| routine == unsafe { ((stack_end - below) as *const usize).read_volatile() };
    belows.find(holds).map(|below| Routine::OnStack { end, below })
}

/// Where the calling thread's structure points to that of the thread which has made it, and waits for it, and has it in turn
/// as the next.
fn ring_behind(maker: usize) -> Option<isize> {
    let own = structure();
    let mut places = words_of_structure().filter(|(_, word)| *word == maker).map(|(offset, _)| offset);
    let pointer_of_maker = thread_pointer().wrapping_add(maker.wrapping_sub(own));
    places.find(|offset| {
        let next = pointer_of_maker.wrapping_add_signed(*offset) + size_of::<usize>();
        // SAFETY: the maker's structure is as long as the calling thread's.
        own == unsafe { (next as *const usize).read_volatile() }
    })
}

/// Where the calling thread's structure says that it can be joined: behind errno.
fn joinable_behind_errno() -> Option<isize> {
    /// musl's `DT_JOINABLE`.
    const JOINABLE: i32 = 2;
    // SAFETY: returns an address, of a field of the structure.
    let behind = unsafe { libc::__errno_location() } as usize + size_of::<i32>();
    let offset = behind.wrapping_sub(thread_pointer()).cast_signed();
    in_structure::<i32>().find(|place| *place == (offset, JOINABLE)).map(|(place, _)| place)
}

/// The word that the kernel clears when the calling thread ends, where it is not the thread's id in its structure.
fn cleared_but(tid: isize) -> Option<usize> {
    let mut cleared = 0_usize;
    // SAFETY: writes a pointer.
    let result = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut cleared) };
    // EINVAL: a kernel without checkpoint and restore does not tell.
    (result == 0 && cleared != place_in(thread_pointer(), tid) as usize).then_some(cleared)
}

fn structure() -> usize {
    #[allow(clippy::cast_possible_truncation, reason = "an address")]
    // SAFETY: returns a number.
    let structure = unsafe { libc::pthread_self() } as usize;
    structure
}

/// Where the calling thread's structure holds a value.
fn offsets_in_structure<T: Copy + PartialEq>(value: &T) -> Vec<isize> {
    in_structure::<T>().filter(|(_, held)| held == value).map(|(offset, _)| offset).collect()
}

fn words_of_structure() -> impl Iterator<Item = (isize, usize)> {
    in_structure()
}

/// What the calling thread's structure holds, and perhaps what is behind it: the thread's own too, as that of others may be
/// unmapped at any time, and looks like the same mapping. glibc's structure has some 2300 bytes, or 1800 and the thread-local
/// data behind them; musl's some 200, and 1024 for keys.
fn in_structure<T: Copy>() -> impl Iterator<Item = (isize, T)> {
    const LENGTH: usize = if cfg!(target_env = "musl") { 256 } else { 2048 };
    let structure = structure();
    let end = Maps::of_this_process().of(structure).map_or(structure, |range| range.end);
    let places = (structure..end.min(structure + LENGTH)).step_by(size_of::<T>());
    places.map(|place| {
        // SAFETY: within the mapping, and aligned.
        let value = unsafe { (place as *const T).read_volatile() };
        (place.wrapping_sub(thread_pointer()).cast_signed(), value)
    })
}

/// The function that V8's platform threads run; 0 as long as it is not known.
static V8_ROUTINE: AtomicUsize = AtomicUsize::new(0);

/// The first of V8's platform threads.
static V8_FIRST: AtomicI32 = AtomicI32::new(0);

fn routine(thread: &Interrupted) -> Option<usize> {
    // SAFETY: it is there, in the structure of a thread that waits.
    let word = |offset| unsafe {
        (thread.thread_pointer.wrapping_add_signed(offset) as *const usize).read_volatile()
    };
    match LAYOUT.get()?.routine? {
        Routine::InStructure(offset) => Some(word(offset)),
        Routine::OnStack { end, below } => {
            // Null for a thread that is on a stack which the libc has not made.
            let place = word(end).checked_sub(below)? as *const usize;
            // SAFETY: it is on the stack of a thread that waits.
            Some(unsafe { place.read_volatile() })
        }
    }
}

/// What V8's platform threads have in common is known once the first of them is parked.
pub fn recognise(threads: impl Iterator<Item = Interrupted> + Clone) {
    if V8_ROUTINE.load(Ordering::Relaxed) == 0 {
        let tid = V8_FIRST.load(Ordering::Relaxed);
        let first = threads.clone().find(|thread| thread.tid == tid);
        V8_ROUTINE.store(first.as_ref().and_then(routine).unwrap_or(0), Ordering::Relaxed);
    }
    if V8_ROUTINE.load(Ordering::Relaxed) != 0 {
        let workers = threads.filter(is_v8_worker);
        // SAFETY: they wait in their handlers.
        let word = |thread: Interrupted| unsafe { was_in_system_call(thread.context) }.ok().flatten();
        learn_queue(&workers.clone().filter_map(word), workers.clone().count());
        let tids = workers.map(|thread| thread.tid).chain(std::iter::repeat(0));
        for (place, tid) in V8_WORKERS.iter().zip(tids) {
            match place.load(Ordering::Relaxed) {
                // Behind the last.
                0 if tid == 0 => break,
                known if known == tid => {}
                _ => place.store(tid, Ordering::Relaxed),
            }
        }
    }
}

/// Whether a parked thread is one of V8's platform.
pub fn is_v8_worker(thread: &Interrupted) -> bool {
    match V8_ROUTINE.load(Ordering::Relaxed) {
        0 => was_v8_worker(thread.tid),
        known => routine(thread) == Some(known),
    }
}

/// Finds out how many threads libuv's pool has. Whether there are more than have been waited for: in a copy, libuv would count
/// on those.
pub fn learn_pool(threads: impl Iterator<Item = Interrupted> + Clone) -> bool {
    let held = threads.clone().find(|thread| Barrier::holds(thread.tid));
    let Some(known) = held.as_ref().and_then(routine) else { return false };
    POOL_ROUTINE.store(known, Ordering::Relaxed);
    if let Some(data) = DATA_OF_UV.get() {
        Barrier::learn_head(|node| data.iter().any(|range| range.contains(&node)));
    }
    Barrier::learn_size(threads.filter(has_pool_routine).count())
}

/// The function that the threads of libuv's pool run; 0 as long as it is not known.
static POOL_ROUTINE: AtomicUsize = AtomicUsize::new(0);

static DATA_OF_UV: OnceLock<Vec<Range<usize>>> = OnceLock::new();

/// Whether the pool's threads are taken as they stand, rather than at the barrier.
static TAKES_POOL_AT_REST: AtomicBool = AtomicBool::new(false);

/// Has [`is_of_pool`] say it of the pool's threads as they stand, or of those at the barrier.
pub fn take_pool_at_rest(at_rest: bool) {
    TAKES_POOL_AT_REST.store(at_rest, Ordering::Relaxed);
}

/// Whether all of the pool's threads wait for work, of which there is none.
pub fn is_pool_at_rest(threads: impl Iterator<Item = Interrupted> + Clone) -> bool {
    let waits = |thread: Interrupted| {
        // SAFETY: it waits in its handler.
        let word = unsafe { was_in_system_call(thread.context) }.ok().flatten();
        word.is_some_and(Barrier::is_for_work)
    };
    let mut pool = threads.filter(has_pool_routine);
    Barrier::is_at_rest() && Barrier::are_all(pool.clone().count()) && pool.all(waits)
}

/// Whether a parked thread is one of the pool's that goes on in a copy.
pub fn is_of_pool(thread: &Interrupted) -> bool {
    if TAKES_POOL_AT_REST.load(Ordering::Relaxed) {
        has_pool_routine(thread)
    } else {
        Barrier::holds(thread.tid)
    }
}

fn has_pool_routine(thread: &Interrupted) -> bool {
    let known = POOL_ROUTINE.load(Ordering::Relaxed);
    known != 0 && routine(thread) == Some(known)
}

/// Whether a thread watches how long JavaScript runs, for `vm` with a timeout: who called that would wait for it in the copy.
pub fn is_watchdog(thread: &Interrupted) -> bool {
    let watch = WATCHDOG_ROUTINE.load(Ordering::Relaxed);
    watch != 0 && routine(thread) == Some(watch)
}

static WATCHDOG_ROUTINE: AtomicUsize = AtomicUsize::new(0);

/// V8's platform threads, as many as Node makes at most.
const MOST: usize = 256;
static V8_WORKERS: [AtomicI32; MOST] = [const { AtomicI32::new(0) }; MOST];

/// Finds V8's platform threads, once.
pub fn learn() -> Result<()> {
    static LEARNT: OnceLock<()> = OnceLock::new();
    LEARNT.get_or_init(|| {
        PROCESSOR.get_or_init(learn_processor);
        let threads = threads_at_rest();
        let workers = v8_workers(&threads);
        let of_v8 = threads.iter().filter(|thread| workers.contains(&thread.tid));
        learn_queue(&of_v8.filter_map(|thread| futex(&thread.call)), workers.len());
        for (place, tid) in V8_WORKERS.iter().zip(workers) {
            place.store(tid, Ordering::Relaxed);
        }
        let is_named = |thread: &&Thread| thread.name.ends_with("V8Worker");
        let first =
            threads.iter().find(is_named).or_else(|| threads.get(scheduler(&threads).unwrap_or(1) + 1));
        V8_FIRST.store(first.map_or(0, |thread| thread.tid), Ordering::Relaxed);
        let scheduler = scheduler(&threads).and_then(|place| threads.get(place));
        let inspector = threads.iter().skip(1).find(|thread| thread.blocks_all);
        for (place, thread) in
            RESIDENTS.iter().zip(threads.first().into_iter().chain(scheduler).chain(inspector))
        {
            place.store(thread.tid, Ordering::Relaxed);
        }
    });
    let watchdog = symbol(b"_ZN4node8Watchdog3RunEPv\0").map_or(0, |address| address as usize);
    WATCHDOG_ROUTINE.store(watchdog, Ordering::Relaxed);
    DATA_OF_UV
        .get_or_init(|| symbol(b"uv_queue_work\0").map_or_else(Vec::new, |code| data_beside(code as usize)));
    layout().map(drop)
}

/// Whether it was one of V8's platform the last time, or seems to be one.
fn was_v8_worker(tid: i32) -> bool {
    V8_WORKERS.iter().any(|worker| worker.load(Ordering::Relaxed) == tid)
}

/// Whether there are threads that Node's start does not explain: libuv's pool may be there.
pub fn may_be_of_pool() -> bool {
    if Barrier::knows_pool() {
        return true;
    }
    let own = nix::unistd::gettid().as_raw();
    let known = |place: &&AtomicI32| ![0, own].contains(&place.load(Ordering::Relaxed));
    let explained = 1 + V8_WORKERS.iter().filter(known).count() + RESIDENTS.iter().filter(known).count();
    // A directory's links are those of its entries, and two of its own; those that are counted do not end.
    let links = fs::metadata("/proc/self/task").map_or(0, |directory| directory.nlink());
    links != explained as u64 + 2
}

/// Whether a parked thread is one that Node has started with, or of the pool.
pub fn is_known(thread: &Interrupted) -> bool {
    is_v8_worker(thread) || is_resident(thread.tid) || is_of_pool(thread)
}

/// The main thread, that for delayed tasks, and that for signals, which are there from the start.
static RESIDENTS: [AtomicI32; 4] = [const { AtomicI32::new(0) }; 4];

fn is_resident(tid: i32) -> bool {
    RESIDENTS.iter().any(|resident| resident.load(Ordering::Relaxed) == tid)
}

struct Thread {
    tid: i32,
    name: String,
    start: u64,
    call: String,
    blocks_all: bool,
}

/// Where the thread for delayed tasks is, behind which Node makes V8's. It is in epoll, as the one for tracing is, which is
/// made before it, and V8's wait for work; libraries may have started others before that. An inspector's is in epoll too, and is
/// made behind the one that blocks every signal: with libuv's pool behind it, it would be taken for this one when V8's first is
/// at work.
fn scheduler(threads: &[Thread]) -> Option<usize> {
    let is_scheduler = |pair: &[Thread]| waits_in_epoll(&pair[0].call) && futex(&pair[1].call).is_some();
    let end = threads.iter().rposition(|thread| thread.blocks_all).unwrap_or(threads.len());
    threads[..end].windows(2).skip(1).position(is_scheduler).map(|place| place + 1)
}

/// The threads when the one for delayed tasks is found among them: at any moment it may be at work, and V8's first too.
fn threads_at_rest() -> Vec<Thread> {
    const TRIES: usize = 500;
    let mut found = threads();
    for _ in 0..TRIES {
        if scheduler(&found).is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
        found = threads();
    }
    found
}

/// Those that seem to be V8's. Since Node 24 they bear a name. Before, they are the threads that wait on one condition
/// variable of those that the main thread made at once, behind the one for delayed tasks, which waits in epoll: a guess, with
/// which a clone does no harm, and which [`recognise`] replaces where the libc tells what a thread runs.
fn v8_workers(threads: &[Thread]) -> Vec<i32> {
    let named: Vec<i32> =
        threads.iter().filter(|thread| thread.name.ends_with("V8Worker")).map(|thread| thread.tid).collect();
    if !named.is_empty() {
        return named;
    }
    let Some(place) = scheduler(threads) else { return named };
    let mut rest = threads.iter().skip(place);
    let Some(scheduler) = rest.next() else { return named };
    let mut condition = None;
    rest.take_while(|thread| thread.start <= scheduler.start + 1)
        .take_while(|thread| {
            // A condition variable of glibc's has two words to wait on.
            let Some(word) = futex(&thread.call) else { return true };
            word.abs_diff(*condition.get_or_insert(word)) < 64
        })
        .map(|thread| thread.tid)
        .collect()
}

/// In the order in which they were made.
fn threads() -> Vec<Thread> {
    let entries = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let path = entry.path();
            let stat = fs::read_to_string(path.join("stat")).ok()?;
            let status = fs::read_to_string(path.join("status")).ok()?;
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
            Some(Thread {
                tid: field("NSpid:\t")?.split('\t').next_back()?.parse().ok()?,
                name: field("Name:\t")?.to_owned(),
                // Behind the name in brackets: the 22nd field of all.
                start: stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?,
                call: fs::read_to_string(path.join("syscall")).unwrap_or_default(),
                blocks_all: field("SigBlk:\t")?.starts_with("ffff"),
            })
        })
        .collect()
}

fn waits_in_epoll(call: &str) -> bool {
    let number = call.split(' ').next().and_then(|number| number.parse::<libc::c_long>().ok());
    #[cfg(target_arch = "x86_64")]
    if number == Some(libc::SYS_epoll_wait) {
        return true;
    }
    number == Some(libc::SYS_epoll_pwait)
}

fn futex(call: &str) -> Option<usize> {
    let mut parts = call.split(' ');
    let is_futex = parts.next()?.parse::<libc::c_long>().ok()? == libc::SYS_futex;
    let word = usize::from_str_radix(parts.next()?.strip_prefix("0x")?, 16).ok()?;
    is_futex.then_some(word)
}

/// In a copy: the calling thread's id is its own, and those of threads that are not in it may be others'.
pub fn rename_self() {
    for resident in &RESIDENTS {
        resident.store(0, Ordering::Relaxed);
    }
    if let Some(Layout { tid: offset, .. }) = LAYOUT.get() {
        // SAFETY: it is there, in the calling thread's structure.
        unsafe { place_in(thread_pointer(), *offset).write_volatile(nix::unistd::gettid().as_raw()) };
    }
}

/// In a copy: a thread of the parent's goes on where its signal interrupted it. `has_lock` says whether it may hold one by its id.
/// Does not allocate.
pub fn revive(thread: &Interrupted, has_lock: bool) -> Result<()> {
    let layout = layout()?;
    let place = place_in(thread.thread_pointer, layout.tid);
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_SETTLS
        | libc::CLONE_CHILD_CLEARTID;
    let flags = if has_lock {
        HAS_STALE_IDS.store(true, Ordering::Relaxed);
        flags
    } else {
        flags | libc::CLONE_PARENT_SETTID
    };
    #[allow(clippy::cast_sign_loss, reason = "these bits are not the sign")]
    let arguments = CloneArguments {
        flags: flags as usize,
        stack_top: thread.frame as usize,
        parent_tid: place as usize,
        child_tid: layout.cleared.unwrap_or(place as usize),
        thread_pointer: thread.thread_pointer,
    };
    let worker = V8_WORKERS.iter().find(|worker| worker.load(Ordering::Relaxed) == thread.tid);
    if let Some(offset) = PROCESSOR.get().copied().flatten() {
        // SAFETY: it is there, in the structure of a thread that does not run yet.
        unsafe { place_in(thread.thread_pointer, offset).write_volatile(UNREGISTERED) };
    }
    // SAFETY: it was interrupted by our signal, and is not in this process.
    let result = unsafe { resume(&arguments) };
    #[allow(clippy::cast_possible_truncation, reason = "an errno or a thread's id")]
    if result < 0 {
        return Err(Failure::new("clone", Errno::from_raw(-result as i32)));
    }
    #[allow(clippy::cast_possible_truncation, reason = "a thread's id")]
    if let Some(worker) = worker {
        worker.store(result as i32, Ordering::Relaxed);
    }
    Ok(())
}

/// Where glibc has the kernel tell a thread which processor it runs on, by rseq(2), which a new thread would have to ask for itself.
static PROCESSOR: OnceLock<Option<isize>> = OnceLock::new();

/// What is there as long as nobody has asked, which sched_getcpu(3) and allocators look for.
const UNREGISTERED: i32 = -1;

fn learn_processor() -> Option<isize> {
    /// Of the number of the processor in a `struct rseq`.
    const OFFSET: isize = 4;
    let offset = symbol(b"__rseq_offset\0")?.cast::<isize>();
    let size = symbol(b"__rseq_size\0")?.cast::<u32>();
    // SAFETY: a constant of glibc's, of this type.
    let is_used = unsafe { size.read() } > 0;
    // SAFETY: as above.
    is_used.then(|| unsafe { offset.read() } + OFFSET)
}

/// In a copy: a thread that is not in it has ended, as far as who joins it is concerned.
pub fn bury(thread: &Interrupted) {
    let Some(Layout { tid, joinable, .. }) = LAYOUT.get() else { return };
    for offset in [Some(*tid), *joinable].into_iter().flatten() {
        // SAFETY: it is there, in the structure of a thread that does not run here.
        unsafe { place_in(thread.thread_pointer, offset).write_volatile(0) };
    }
}

/// Whether a thread has in a copy, as far as the libc knows, the id that it has in the parent: one of V8's that was at work may
/// hold a recursive lock, whose owner is the id that the libc has noted. One that waits, and one of the pool, holds none.
pub fn keeps_its_id(thread: &Interrupted) -> bool {
    is_v8_worker(thread) && !is_at_rest(thread)
}

/// Whether a thread waits in a system call, and holds no lock.
pub fn is_at_rest(thread: &Interrupted) -> bool {
    // SAFETY: it waits in its handler, or is to go on there.
    unsafe { was_in_system_call(thread.context) }.is_ok()
}

/// Whether a thread of this copy has the id of the parent's.
static HAS_STALE_IDS: AtomicBool = AtomicBool::new(false);

/// In a copy: makes all threads that it is to have, each of which the libc knows by its own id, for setuid(3) and its like: they pass
/// over whoever they cannot signal, and who comes while they are at it. Who is at work is waited for.
///
/// # Errors
///
/// ETIMEDOUT; those of [`make_late_threads`].
pub fn renew_ids() -> std::result::Result<(), ThreadFailure> {
    make_late_threads()?;
    if !HAS_STALE_IDS.load(Ordering::Relaxed) {
        return Ok(());
    }
    let parked = Parked::all_settled(|_| (), |thread| !keeps_its_id(thread))?;
    for thread in parked.interrupted().filter(is_v8_worker) {
        let place = place_in(thread.thread_pointer, layout()?.tid);
        // SAFETY: it is there, in the structure of a thread that waits, and holds no lock.
        unsafe { place.write_volatile(thread.tid) };
    }
    close_ring(parked.interrupted());
    HAS_STALE_IDS.store(false, Ordering::Relaxed);
    Ok(())
}

/// As much of a thread's structure as is written when its neighbour in the ring ends.
static NOBODY: [AtomicUsize; 8] = [const { AtomicUsize::new(0) }; 8];

/// In a copy, whose threads will be the calling one and `others`: those are in musl's ring of threads, and nobody else. Its
/// setuid(3) signals each by its id, and waits for all to answer, so that the id has to be that of a thread of the copy. A thread
/// that is in no ring finds neighbours when it ends that are no threads.
pub fn close_ring(others: impl Iterator<Item = Interrupted>) {
    let Some(Layout { ring: Some(ring), .. }) = LAYOUT.get() else { return };
    let to_structure = structure().wrapping_sub(thread_pointer());
    // SAFETY: it is there, in the structures of threads of which none runs yet but this one.
    let set = |thread_pointer: usize, behind: usize, to: usize| unsafe {
        let place = thread_pointer.wrapping_add_signed(*ring) + behind;
        (place as *mut usize).write_volatile(to.wrapping_add(to_structure));
    };
    let (first, next) = (thread_pointer(), size_of::<usize>());
    let mut last = first;
    for thread in others {
        if keeps_its_id(&thread) {
            let nobody = (NOBODY.as_ptr() as usize).wrapping_sub(to_structure);
            set(thread.thread_pointer, 0, nobody);
            set(thread.thread_pointer, next, nobody);
            continue;
        }
        set(last, next, thread.thread_pointer);
        set(thread.thread_pointer, 0, last);
        last = thread.thread_pointer;
    }
    set(last, next, first);
    set(first, 0, last);
}

fn place_in(thread_pointer: usize, offset: isize) -> *mut i32 {
    thread_pointer.wrapping_add_signed(offset) as *mut i32
}

#[cfg(test)]
mod tests {
    use super::{Thread, scheduler};

    fn threads(calls: &[(&str, bool)]) -> Vec<Thread> {
        let call = |name: &str| match name {
            "epoll" => format!("{} 0xb 0x7f", libc::SYS_epoll_pwait),
            "futex" => format!("{} 0x1000 0x189", libc::SYS_futex),
            other => other.to_owned(),
        };
        (0_u8..)
            .zip(calls)
            .map(|(index, (name, blocks_all))| Thread {
                tid: i32::from(index) + 1,
                name: "node".to_owned(),
                start: 0,
                call: call(name),
                blocks_all: *blocks_all,
            })
            .collect()
    }

    #[test]
    fn an_inspector_is_not_taken_for_the_thread_for_delayed_tasks() {
        let all = |first_of_v8| {
            let main = [("running", false), ("epoll", false), (first_of_v8, false), ("futex", false)];
            threads(&[main.as_slice(), &[("futex", true), ("epoll", false), ("futex", false)]].concat())
        };
        assert_eq!(scheduler(&all("futex")), Some(1));
        assert_eq!(scheduler(&all("running")), None, "while V8's first is at work");
    }

    #[test]
    fn without_a_thread_that_blocks_every_signal_it_is_found_as_well() {
        let found =
            scheduler(&threads(&[("running", false), ("futex", false), ("epoll", false), ("futex", false)]));
        assert_eq!(found, Some(2));
    }
}
