//! Brings the threads of libuv's pool to a place where they do nothing.
//!
//! # Safety
//!
//! Work that is queued by libuv's public function; the ring that it is in is read while every thread is parked.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use linux_clone_syscalls::{Errno, Failure, Result};

use super::Uv;
use super::layout::{Lookup, Loop, PoolWork, Queue, UV_GETNAMEINFO, Work};

/// libuv's own limit.
const MOST: usize = 1024;

/// How long to wait for those that are at work, once one has come: their work goes on in the parent, without them in the copy.
const PATIENCE: Duration = Duration::from_millis(20);

/// How long to wait for the first.
const PATIENCE_FOR_ONE: Duration = Duration::from_secs(2);

/// The futex that they wait on: a barrier is up while it has the barrier's number.
static GATE: AtomicU32 = AtomicU32::new(1);

/// Who waits: the barrier's number and the thread's, in one word, so that nobody is taken for one of another barrier's.
static WAITING: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];

/// The last piece of work that was queued: it stays in the pool's ring, through which the rest of it is reached.
static MARKER: AtomicPtr<Work> = AtomicPtr::new(ptr::null_mut());

/// The same among lookups of names, which libuv queues apart.
static LOOKUP: AtomicPtr<Lookup> = AtomicPtr::new(ptr::null_mut());

/// A ring of the pool's own that work is queued in, or a node of it that libuv has for itself; 0 as long as it is not known.
static HEAD: AtomicUsize = AtomicUsize::new(0);

/// Threads of the pool that wait; they go on when it is dropped.
pub struct Barrier(());

impl Barrier {
    /// Waits until the pool's threads have come, or those that are not in a long call.
    ///
    /// EBUSY where none has.
    ///
    /// # Safety
    ///
    /// The loop is the calling thread's.
    pub unsafe fn raise(uv: &Uv, event_loop: *mut Loop) -> Result<Self> {
        let expected = size();
        let barrier = Self(());
        for _ in 0..expected {
            // SAFETY: as the caller promises.
            unsafe { queue(uv, event_loop) }?;
        }
        let start = Instant::now();
        while Self::count() < expected {
            let patience = if Self::count() == 0 { PATIENCE_FOR_ONE } else { PATIENCE };
            if start.elapsed() > patience {
                break;
            }
            std::thread::yield_now();
        }
        if Self::count() == 0 {
            return Err(Failure::new("uv_queue_work", Errno::EBUSY));
        }
        // SAFETY: as the caller promises.
        unsafe { queue(uv, event_loop) }?;
        // SAFETY: as the caller promises.
        unsafe { queue_lookup(uv, event_loop) };
        Ok(barrier)
    }

    /// Whether this thread waits here.
    pub fn holds(tid: i32) -> bool {
        waiting().any(|waiting| waiting == tid)
    }

    /// Finds, while every thread is parked and the barrier is up, what the pool's threads wait for work beside.
    pub fn learn_head(is_static: impl Fn(usize) -> bool) {
        let marker = MARKER.load(Ordering::Relaxed);
        // SAFETY: it was queued, and its memory is freed on the loop alone.
        let Some(first) = (unsafe { marker.as_mut() }).map(|marker| &raw mut marker.work_req.queue) else {
            return;
        };
        // SAFETY: the ring is intact: nobody holds its lock, since all wait.
        let next = |node: &*mut Queue| Some(unsafe { (**node).next });
        let ring = std::iter::successors(next(&first), next).take_while(|node| *node != first);
        if let Some(head) = ring.map(|node| node as usize).find(|node| is_static(*node)) {
            HEAD.store(head, Ordering::Relaxed);
        }
    }

    /// Whether the pool's threads may be waiting for work, and it can be seen of each whether it is.
    ///
    /// # Safety
    ///
    /// The loop is the calling thread's.
    pub unsafe fn may_be_needless(event_loop: *mut Loop) -> bool {
        // SAFETY: as the caller promises.
        Self::is_at_rest() && unsafe { (*event_loop).active_reqs } == 0
    }

    /// Whether no work waits for a thread, as far as it is known where that would be.
    pub fn is_at_rest() -> bool {
        let head = HEAD.load(Ordering::Relaxed) as *const Queue;
        if head.is_null() {
            return false;
        }
        // SAFETY: libuv's own, which is there as long as libuv.
        let next = unsafe { &raw const (*head).next };
        // SAFETY: as above; it may change at any time.
        ptr::eq(unsafe { next.read_volatile() }, head)
    }

    /// Whether a word of futex(2) is what the pool's threads wait on for work.
    pub fn is_for_work(word: usize) -> bool {
        /// libuv has its rings, the lock and the condition variable side by side.
        const NEAR: usize = 512;
        HEAD.load(Ordering::Relaxed).abs_diff(word) < NEAR
    }

    /// Whether the pool has been seen: its threads do not end.
    pub fn knows_pool() -> bool {
        SIZE.load(Ordering::Relaxed) != 0
    }

    /// Whether as many threads are all that the pool has.
    pub fn are_all(found: usize) -> bool {
        found == SIZE.load(Ordering::Relaxed)
    }

    /// How many threads the pool has been found to have; whether that is more than was known.
    pub fn learn_size(found: usize) -> bool {
        let known = size();
        SIZE.store(found, Ordering::Relaxed);
        found > known
    }

    /// How many wait.
    pub fn count() -> usize {
        waiting().count()
    }

    /// In a copy, before its threads go on: what is queued is the parent's, and who is not among them does not wait.
    pub fn drop_queue() {
        for place in &WAITING {
            let word = place.load(Ordering::Relaxed);
            if word != 0 && parts(word).0 != GATE.load(Ordering::Relaxed) {
                place.store(0, Ordering::Relaxed);
            }
        }
        let marker = MARKER.load(Ordering::Relaxed);
        let lookup = LOOKUP.load(Ordering::Relaxed);
        // SAFETY: it was queued, and its memory is freed on the loop alone.
        let marker = unsafe { marker.as_mut() }.map(|marker| &raw mut marker.work_req.queue);
        // SAFETY: as above.
        let lookup = unsafe { lookup.as_mut() }.map(|lookup| &raw mut lookup.work_req.queue);
        let nodes = [marker, lookup];
        for node in nodes.into_iter().flatten() {
            // SAFETY: the rings are intact: nobody holds their lock, since all wait.
            unsafe { empty_ring(node) };
        }
    }
}

/// Takes a ring apart: its head, too, and the pool's own message that lookups are there.
///
/// # Safety
///
/// The ring is intact, and nobody else uses it.
unsafe fn empty_ring(first: *mut Queue) {
    let mut node = first;
    loop {
        // SAFETY: as the caller promises.
        let queue = unsafe { &mut *node };
        let next = queue.next;
        (queue.next, queue.prev) = (node, node);
        if next == first || next.is_null() {
            return;
        }
        node = next;
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        // The loop frees them from now on.
        MARKER.store(ptr::null_mut(), Ordering::Relaxed);
        LOOKUP.store(ptr::null_mut(), Ordering::Relaxed);
        GATE.fetch_add(1, Ordering::AcqRel);
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the word is a static's.
        unsafe { libc::syscall(libc::SYS_futex, GATE.as_ptr(), operation, c_int::MAX) };
    }
}

/// The threads that wait at the barrier that is up.
fn waiting() -> impl Iterator<Item = i32> {
    let number = GATE.load(Ordering::Acquire);
    WAITING.iter().filter_map(move |place| {
        let (barrier, tid) = parts(place.load(Ordering::Acquire));
        (barrier == number && tid != 0).then_some(tid)
    })
}

fn word(number: u32, tid: i32) -> u64 {
    u64::from(number) << 32 | u64::from(tid.cast_unsigned())
}

#[allow(clippy::cast_possible_truncation, reason = "the halves of a word")]
fn parts(word: u64) -> (u32, i32) {
    ((word >> 32) as u32, (word as u32).cast_signed())
}

/// How many threads the pool has, once that is known: what it was configured to have when it was started may not stand in
/// the environment any more.
static SIZE: AtomicUsize = AtomicUsize::new(0);

fn size() -> usize {
    const BY_DEFAULT: usize = 4;
    match SIZE.load(Ordering::Relaxed) {
        0 => std::env::var("UV_THREADPOOL_SIZE")
            .map_or(BY_DEFAULT, |text| text.trim().parse().unwrap_or(BY_DEFAULT).clamp(1, MOST)),
        known => known,
    }
}

/// # Safety
///
/// As [`Barrier::raise`].
unsafe fn queue(uv: &Uv, event_loop: *mut Loop) -> Result<()> {
    let number = GATE.load(Ordering::Acquire);
    let work = Box::into_raw(Box::new(Work {
        data: number as usize as *mut c_void,
        kind: 0,
        reserved: [ptr::null_mut(); 6],
        owner: ptr::null_mut(),
        work_cb: ptr::null_mut(),
        after_work_cb: ptr::null_mut(),
        work_req: PoolWork {
            work: ptr::null_mut(),
            done: ptr::null_mut(),
            owner: ptr::null_mut(),
            queue: Queue { next: ptr::null_mut(), prev: ptr::null_mut() },
        },
    }));
    MARKER.store(work, Ordering::Relaxed);
    // SAFETY: the request lives until `finished`, which libuv calls on the loop.
    let result = unsafe { (uv.uv_queue_work)(event_loop, work, wait, finished) };
    if result < 0 {
        return Err(Failure::new("uv_queue_work", Errno::from_raw(-result)));
    }
    Ok(())
}

/// # Safety
///
/// As [`Barrier::raise`].
unsafe fn queue_lookup(uv: &Uv, event_loop: *mut Loop) {
    // SAFETY: an integer.
    let size = unsafe { (uv.uv_req_size)(UV_GETNAMEINFO) }.max(size_of::<Lookup>());
    // SAFETY: the size is not zero; libuv's callback frees it.
    let lookup = unsafe { libc::calloc(1, size) }.cast::<Lookup>();
    // SAFETY: plain data, for which zero is valid.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default();
    // Of numbers numbers are made: nobody is asked.
    let flags = libc::NI_NUMERICHOST | libc::NI_NUMERICSERV;
    let result = if lookup.is_null() {
        libc::ENOMEM
    } else {
        // SAFETY: the request lives until its callback; the address is copied.
        unsafe { (uv.uv_getnameinfo)(event_loop, lookup, free_lookup, (&raw const address).cast(), flags) }
    };
    LOOKUP.store(if result == 0 { lookup } else { ptr::null_mut() }, Ordering::Relaxed);
}

/// On the loop.
unsafe extern "C" fn free_lookup(lookup: *mut Lookup) {
    // SAFETY: allocated by `queue_lookup`, and not used any more.
    unsafe { libc::free(lookup.cast()) };
}

/// On a thread of the pool.
unsafe extern "C" fn wait(work: *mut Work) {
    // SAFETY: the request is alive until `finished`.
    let number = unsafe { (*work).data } as usize;
    let is_up = || GATE.load(Ordering::Acquire) as usize == number;
    if !is_up() {
        return;
    }
    #[allow(clippy::cast_possible_truncation, reason = "the number of a barrier")]
    let own = word(number as u32, nix::unistd::gettid().as_raw());
    let mut places = WAITING.iter();
    let place =
        places.find(|place| place.compare_exchange(0, own, Ordering::AcqRel, Ordering::Relaxed).is_ok());
    let no_timeout: *const libc::timespec = ptr::null();
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    while is_up() {
        // SAFETY: the word is a static's, and there is no timeout.
        unsafe { libc::syscall(libc::SYS_futex, GATE.as_ptr(), operation, number, no_timeout) };
    }
    if let Some(place) = place {
        place.store(0, Ordering::Release);
    }
}

/// On the loop.
unsafe extern "C" fn finished(work: *mut Work, _: c_int) {
    // SAFETY: made by `queue`, and not used any more.
    drop(unsafe { Box::from_raw(work) });
}
