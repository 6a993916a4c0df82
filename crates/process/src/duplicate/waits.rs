//! What a thread waits for that will not be in a copy: where others of the copy would count on it.
//!
//! # Safety
//!
//! The thread waits in its handler; what is read of its stack is checked by the kernel.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::heap::words_that_may_be_gone;
use crate::arch::stack_pointer;
use crate::park::Interrupted;
use crate::uv::symbol;

/// The word that V8's platform threads wait on for tasks, in the queue of these; 0 as long as it is not known.
static QUEUE: AtomicUsize = AtomicUsize::new(0);

/// The queue has a lock and two condition variables.
const LENGTH_OF_QUEUE: usize = 256;

/// Finds it, once, where most of V8's platform threads wait: `words`, of as many threads.
pub fn learn_queue(words: &(impl Iterator<Item = usize> + Clone), threads: usize) {
    if QUEUE.load(Ordering::Relaxed) != 0 {
        return;
    }
    let near = |word: &usize| words.clone().filter(|other| is_in_queue(*other, *word)).count();
    if let Some(word) = words.clone().find(|word| near(word) * 2 > threads) {
        QUEUE.store(word, Ordering::Relaxed);
    }
}

fn is_in_queue(word: usize, queue: usize) -> bool {
    word.abs_diff(queue) < LENGTH_OF_QUEUE
}

/// Whether a thread waits on `word` for what threads of the copy hand on to it: until V8's tasks are done, as a Worker does
/// that ends, since glibc has who wakes wait for those that were woken before; or for a lock of Abseil's, whose owner leaves
/// it to the next in its queue.
pub fn is_counted_on(thread: &Interrupted, word: usize) -> bool {
    let queue = QUEUE.load(Ordering::Relaxed);
    queue != 0 && is_in_queue(word, queue) || waits_for_abseil_lock(thread)
}

/// Where Abseil waits.
struct Abseil {
    for_locks: Range<usize>,
    /// For a condition variable.
    for_events: Range<usize>,
}

fn abseil() -> Option<&'static Abseil> {
    static ABSEIL: OnceLock<Option<Abseil>> = OnceLock::new();
    let find = || {
        Some(Abseil {
            for_locks: extent(b"_ZN4absl5Mutex5BlockEPNS_13base_internal14PerThreadSynchE\0")?,
            for_events: extent(
                b"_ZN4absl5Mutex17DecrementSynchSemEPS0_PNS_13base_internal14PerThreadSynchENS_24synchronization_internal13KernelTimeoutE\0",
            )?,
        })
    };
    ABSEIL.get_or_init(find).as_ref()
}

/// Looks for it once, before threads are parked, as the dynamic linker has locks.
pub fn learn_abseil() {
    abseil();
}

/// From where to where a function goes, as the dynamic linker knows it, which looks through all names there are each time.
fn extent(name: &[u8]) -> Option<Range<usize>> {
    const LONGEST: usize = 4096;
    let start = symbol(name)? as usize;
    if let Some(length) = length_of(start) {
        return Some(start..start + length);
    }
    let is_in = |address: usize| {
        let mut info = MaybeUninit::<libc::Dl_info>::uninit();
        // SAFETY: any address may be asked for.
        let found = unsafe { libc::dladdr(address as *const c_void, info.as_mut_ptr()) } != 0;
        // SAFETY: it has been filled in.
        found && unsafe { info.assume_init() }.dli_saddr as usize == start
    };
    if !is_in(start) {
        return None;
    }
    let (mut inside, mut outside) = (start, start + LONGEST);
    while outside - inside > 1 {
        let middle = inside.midpoint(outside);
        if is_in(middle) {
            inside = middle;
        } else {
            outside = middle;
        }
    }
    Some(start..outside)
}

/// glibc tells how long a function is.
fn length_of(start: usize) -> Option<usize> {
    /// glibc's `RTLD_DL_SYMENT`.
    const ENTRY: c_int = 1;
    type Dladdr1 =
        unsafe extern "C" fn(*const c_void, *mut libc::Dl_info, *mut *const libc::Elf64_Sym, c_int) -> c_int;
    let address = symbol(b"dladdr1\0")?;
    // SAFETY: dlfcn.h declares it so.
    let dladdr1 = unsafe { std::mem::transmute::<*mut c_void, Dladdr1>(address) };
    let (mut info, mut entry) = (MaybeUninit::uninit(), std::ptr::null());
    // SAFETY: any address may be asked for.
    let found = unsafe { dladdr1(start as *const c_void, info.as_mut_ptr(), &raw mut entry, ENTRY) } != 0;
    // SAFETY: null, or an entry of a table that is there as long as the object.
    let length = unsafe { entry.as_ref() }.filter(|_| found)?.st_size;
    usize::try_from(length).ok().filter(|length| *length != 0)
}

/// The first of its callers that is one of Abseil's two tells.
fn waits_for_abseil_lock(thread: &Interrupted) -> bool {
    let Some(Abseil { for_locks, for_events }) = abseil() else { return false };
    // SAFETY: the thread waits in its handler.
    let stack = unsafe { stack_pointer(thread.context) };
    let mut words = [0; 128];
    let read = words_that_may_be_gone(stack, &mut words);
    let caller = read.iter().find(|word| for_locks.contains(word) || for_events.contains(word));
    caller.is_some_and(|caller| for_locks.contains(caller))
}
