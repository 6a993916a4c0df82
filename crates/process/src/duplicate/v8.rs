//! What a copy has to change in V8's isolate: queued microtasks, the state of `Math.random`, and the JavaScript that is under
//! way.
//!
//! # Safety
//!
//! Functions of V8's public interface, found by name. Where there is none, fields are found by watching them change, and are
//! touched only where they have.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};

use linux_clone_syscalls::{Errno, Failure, Result};

use crate::guard::exit_now;
use crate::random::fill_random;
use crate::uv::{symbol, take_messages, uv};

type Isolate = *mut c_void;
type Environment = *mut c_void;
/// A v8::Local<v8::Context>: where a tagged pointer is.
type Handle = *mut *mut usize;

/// A function by its name, of the type that v8-isolate.h, v8-context.h and rand.h declare; a handle is passed as a pointer.
macro_rules! function {
    ($name:literal, fn($($argument:ty),*) $(-> $result:ty)?) => {{
        let address = symbol($name)?;
        // SAFETY: it is declared so.
        unsafe {
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) $(-> $result)?>(address)
        }
    }};
}

struct V8 {
    current_isolate: unsafe extern "C" fn() -> Isolate,
    current_context: unsafe extern "C" fn(Isolate) -> Handle,
    microtask_queue: unsafe extern "C" fn(Handle) -> *mut usize,
    terminate: unsafe extern "C" fn(Isolate),
    cancel_termination: unsafe extern "C" fn(Isolate),
    add_entropy: unsafe extern "C" fn(*const c_void, c_int, f64),
    environment: unsafe extern "C" fn(Handle) -> Environment,
    set_exit_handler: unsafe extern "C" fn(Environment, *mut ExitHandler),
    silence: unsafe extern "C" fn(*const Silence, Isolate, c_int),
    end_silence: unsafe extern "C" fn(*const Silence),
}

/// Room for a v8::Isolate::DisallowJavascriptExecutionScope, which has three words.
type Silence = [AtomicUsize; 8];

static SILENCE: Silence = [const { AtomicUsize::new(0) }; 8];

/// Where the copy's microtasks are.
static QUEUE: AtomicPtr<usize> = AtomicPtr::new(std::ptr::null_mut());

/// libstdc++'s std::function<void(node::Environment*, int)>, whose name is part of the setter's.
#[repr(C)]
struct ExitHandler {
    bound: [usize; 2],
    manager: Option<unsafe extern "C" fn(*mut [usize; 2], *const [usize; 2], c_int) -> bool>,
    invoker: Option<unsafe extern "C" fn(*const [usize; 2], *const Environment, *const c_int)>,
}

/// Where V8 keeps what it shows nobody, in words.
#[derive(Clone, Copy, Debug)]
struct Places {
    /// In the microtask queue: how many there are.
    queued: usize,
    /// In the context: the index of the next of `Math.random`'s numbers, followed by its state and by the numbers.
    random: usize,
}

static PLACES: OnceLock<Option<Places>> = OnceLock::new();

fn v8() -> Result<&'static V8> {
    static V8: OnceLock<Option<V8>> = OnceLock::new();
    let found = V8.get_or_init(|| {
        Some(V8 {
            current_isolate: function!(b"_ZN2v87Isolate10GetCurrentEv\0", fn() -> Isolate),
            current_context: function!(b"_ZN2v87Isolate17GetCurrentContextEv\0", fn(Isolate) -> Handle),
            microtask_queue: function!(b"_ZN2v87Context17GetMicrotaskQueueEv\0", fn(Handle) -> *mut usize),
            terminate: function!(b"_ZN2v87Isolate18TerminateExecutionEv\0", fn(Isolate)),
            cancel_termination: function!(b"_ZN2v87Isolate24CancelTerminateExecutionEv\0", fn(Isolate)),
            add_entropy: function!(b"RAND_add\0", fn(*const c_void, c_int, f64)),
            environment: function!(
                b"_ZN4node21GetCurrentEnvironmentEN2v85LocalINS0_7ContextEEE\0",
                fn(Handle) -> Environment
            ),
            set_exit_handler: function!(
                b"_ZN4node21SetProcessExitHandlerEPNS_11EnvironmentEOSt8functionIFvS1_iEE\0",
                fn(Environment, *mut ExitHandler)
            ),
            silence: function!(
                b"_ZN2v87Isolate32DisallowJavascriptExecutionScopeC1EPS0_NS1_9OnFailureE\0",
                fn(*const Silence, Isolate, c_int)
            ),
            end_silence: function!(
                b"_ZN2v87Isolate32DisallowJavascriptExecutionScopeD1Ev\0",
                fn(*const Silence)
            ),
        })
    });
    found.as_ref().ok_or(UNKNOWN)
}

const UNKNOWN: Failure = Failure { call: "clone", errno: Errno::ENOTSUP, raw: libc::ENOTSUP };

fn context(v8: &V8) -> Handle {
    // SAFETY: called with JavaScript on the stack, by the isolate's own thread.
    let isolate = unsafe { (v8.current_isolate)() };
    // SAFETY: as above; the handle lives as long as the scope of who called us.
    unsafe { (v8.current_context)(isolate) }
}

/// The first words of the microtask queue.
fn queue(v8: &V8) -> *mut usize {
    // SAFETY: a live context.
    unsafe { (v8.microtask_queue)(context(v8)) }
}

/// The words of the context: V8's tagged pointers are one more than the address.
fn slots(v8: &V8) -> (*mut usize, usize) {
    // SAFETY: a live handle.
    let object = unsafe { *context(v8) } as usize - 1;
    // SAFETY: behind the map stands the length, a small integer in the upper half.
    let length = unsafe { *((object + 8) as *const usize) } >> HALF;
    (object as *mut usize, length.min(2048))
}

/// Of a word's bits; a small integer is in the upper half.
const HALF: u32 = usize::BITS / 2;

const QUEUE_WORDS: usize = 16;

/// Watches what changes when `enqueue` adds a microtask that does nothing, and when `random` draws a number.
///
/// ENOTSUP where V8 is not as it is known.
pub fn learn(mut enqueue: impl FnMut(), mut random: impl FnMut()) -> Result<()> {
    let v8 = v8()?;
    has_been_pid();
    let places = PLACES.get_or_init(|| {
        let queue = queue(v8);
        let snapshot = || -> [usize; QUEUE_WORDS] {
            // SAFETY: a V8 microtask queue has more fields than that.
            unsafe { queue.cast::<[usize; QUEUE_WORDS]>().read_volatile() }
        };
        let mut grows = [true; QUEUE_WORDS];
        for _ in 0..3 {
            let before = snapshot();
            enqueue();
            let after = snapshot();
            for index in 0..QUEUE_WORDS {
                grows[index] &= after[index] == before[index].wrapping_add(1);
            }
        }
        let queued = only(grows.iter().enumerate().filter(|(_, grows)| **grows).map(|(index, _)| index))?;
        let candidates = || -> Vec<(usize, usize)> {
            let (slots, length) = slots(v8);
            // SAFETY: within the context.
            let index_in = |place: usize| unsafe { random_index(slots.wrapping_add(place)) };
            (3..length.saturating_sub(2)).filter_map(|place| Some((place, index_in(place)?))).collect()
        };
        // The first number of a cache fills it.
        random();
        let before = candidates();
        random();
        let after = candidates();
        let moved = before.iter().filter(|(index, next)| {
            let expected = if *next == 0 { 63 } else { next - 1 };
            after.contains(&(*index, expected))
        });
        Some(Places { queued, random: only(moved.map(|(index, _)| *index))? })
    });
    places.map(drop).ok_or(UNKNOWN)
}

fn only(mut found: impl Iterator<Item = usize>) -> Option<usize> {
    let first = found.next();
    if found.next().is_some() { None } else { first }
}

/// The index, where these three words are that of `Math.random`, its state of 16 bytes, and its 64 numbers.
///
/// # Safety
///
/// The words are a context's.
unsafe fn random_index(slot: *const usize) -> Option<usize> {
    // SAFETY: as the caller promises.
    let [index, state, numbers] = unsafe { *slot.cast::<[usize; 3]>() };
    let is_small = |word: usize| word.trailing_zeros() >= HALF;
    let length_of = |object: usize| {
        // SAFETY: a tagged pointer to an object of V8's, which has two words at least.
        (object & 3 == 1)
            .then(|| unsafe { ((object - 1 + 8) as *const usize).read_volatile() })
            .filter(|word| is_small(*word))
    };
    let is_random = is_small(index)
        && index >> HALF <= 64
        && length_of(state)? >> HALF == 16
        && length_of(numbers)? >> HALF == 64;
    is_random.then_some(index >> HALF)
}

/// In a copy: no microtask is queued, and what is random is not what it would be in the parent and its other copies.
pub fn refresh() -> Result<()> {
    let (v8, places) = (v8()?, PLACES.get().copied().flatten().ok_or(UNKNOWN)?);
    let mut seed = [[0_u8; size_of::<usize>()]; 6];
    fill_random(seed.as_flattened_mut())?;
    let [first, second, entropy @ ..] = seed;
    QUEUE.store(queue(v8).wrapping_add(places.queued), Ordering::Relaxed);
    drop_microtasks();
    let (slots, _) = slots(v8);
    let slot = slots.wrapping_add(places.random);
    // SAFETY: it was so when it was learnt, and a context's slots keep their places.
    if unsafe { random_index(slot) }.is_none() {
        return Err(UNKNOWN);
    }
    // SAFETY: as above: behind its map and length the state's bytes.
    let state = unsafe { *slot.wrapping_add(1) } - 1 + 16;
    let state_seed = [usize::from_ne_bytes(first) | 1, usize::from_ne_bytes(second)];
    // SAFETY: as above; not zero, which would have V8 make a seed of its own, the same in every copy.
    unsafe { (state as *mut [usize; 2]).write_volatile(state_seed) };
    // SAFETY: as above; at zero the numbers are drawn anew.
    unsafe { slot.write_volatile(0) };
    if has_been_pid() {
        // SAFETY: the bytes are ours.
        unsafe { (v8.add_entropy)(entropy.as_ptr().cast(), 32, 32.0) };
    }
    Ok(())
}

fn drop_microtasks() {
    let count = QUEUE.load(Ordering::Relaxed);
    if !count.is_null() {
        // SAFETY: the field holds the count.
        unsafe { count.write_volatile(0) };
    }
}

/// In a copy: the JavaScript on the stack goes on, and none is called: not by what comes to its end in the event loop's turn, and in
/// the next one, the parent's handles that are closed, and what Node has put off for TLS, HTTP/2 and files.
///
/// # Errors
///
/// ENOTSUP: V8 is not there.
pub fn silence() -> Result<()> {
    /// V8 tells its platform, which does nothing, and goes on as if the function had returned.
    const DUMP_ON_FAILURE: c_int = 2;
    let v8 = v8()?;
    // SAFETY: the thread's own isolate.
    let isolate = unsafe { (v8.current_isolate)() };
    // SAFETY: there is room for it, and nobody else has it.
    unsafe { (v8.silence)(&raw const SILENCE, isolate, DUMP_ON_FAILURE) };
    Ok(())
}

/// JavaScript may go on, without what waits for promises that have been settled in [`silence`].
///
/// # Errors
///
/// ENOTSUP: V8 is not there.
pub fn end_silence() -> Result<()> {
    let v8 = v8()?;
    // SAFETY: it was begun.
    unsafe { (v8.end_silence)(&raw const SILENCE) };
    drop_microtasks();
    Ok(())
}

/// Whether this process's id has been that of one it is a copy of; from now on it has. OpenSSL notices a fork by the id, which in a
/// new pid namespace may be one that its state has been seeded under.
fn has_been_pid() -> bool {
    static PIDS: [AtomicI32; 8] = [const { AtomicI32::new(0) }; 8];
    let pid = nix::unistd::getpid().as_raw();
    for place in &PIDS {
        match place.load(Ordering::Relaxed) {
            0 => {
                place.store(pid, Ordering::Relaxed);
                return false;
            }
            known if known == pid => return true,
            _ => {}
        }
    }
    // It may have been one for which there was no more room.
    true
}

/// In a copy: where Node ends the process, after an uncaught error for one, it is ended at once. Node would take its platform
/// down, and wait for threads that are not here; and what is registered with atexit(3) is the parent's.
pub fn end_at_once() -> Result<()> {
    unsafe extern "C" fn manage(_: *mut [usize; 2], _: *const [usize; 2], _: c_int) -> bool {
        // Nothing is bound that would be copied or destroyed.
        false
    }
    unsafe extern "C" fn end(_: *const [usize; 2], _: *const Environment, code: *const c_int) {
        // SAFETY: std::function passes its arguments by reference.
        exit_now(unsafe { *code })
    }
    let v8 = v8()?;
    let mut handler = ExitHandler { bound: [0; 2], manager: Some(manage), invoker: Some(end) };
    // SAFETY: a live context.
    let environment = unsafe { (v8.environment)(context(v8)) };
    // SAFETY: the context is of Node's, as the addon was called from there; the handler is moved from.
    unsafe { (v8.set_exit_handler)(environment, &raw mut handler) };
    Ok(())
}

/// Whether the JavaScript on the stack is being ended.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Whether the JavaScript on the stack is being ended: who has called it need not say that it failed.
#[must_use]
pub fn is_ending() -> bool {
    IS_ENDING.load(Ordering::Relaxed)
}

/// Ends the JavaScript that is on the stack, once it goes on.
///
/// # Errors
///
/// ENOTSUP: V8 is not there.
pub fn terminate() -> Result<()> {
    let v8 = v8()?;
    IS_ENDING.store(true, Ordering::Relaxed);
    // SAFETY: the thread's own isolate.
    let isolate = unsafe { (v8.current_isolate)() };
    // SAFETY: as above.
    unsafe { (v8.terminate)(isolate) };
    Ok(())
}

/// What begins on an empty stack is not ended.
///
/// # Errors
///
/// ENOTSUP: V8 is not there.
pub fn cancel_termination() -> Result<()> {
    let v8 = v8()?;
    IS_ENDING.store(false, Ordering::Relaxed);
    take_messages(uv()?);
    // SAFETY: the thread's own isolate.
    let isolate = unsafe { (v8.current_isolate)() };
    // SAFETY: as above.
    unsafe { (v8.cancel_termination)(isolate) };
    Ok(())
}
