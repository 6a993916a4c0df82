use std::cell::{Cell, RefCell};
use std::ffi::{OsString, c_void};
use std::os::fd::{AsFd, RawFd};

use linux_clone_process::duplicate::{self, Duplicate, PHASES, Request};
use linux_clone_process::fill_random;
use linux_clone_process::id_maps::{self, IdMaps};
use linux_clone_process::setup::Setup;
use linux_clone_syscalls::CloneFlags;
use napi::bindgen_prelude::{Either, Function, Int32Array, Int32ArraySlice, Uint8Array, Unknown};
use napi::{Env, Error, Result, Status};
use napi_derive::napi;

use crate::child::{Epoll, watch_process};
use crate::convert::{c_string, number};
use crate::event_loop::{self, event_loop};
use crate::failure::{Failure, failure};
use crate::spawn::{MountRequest, mount, propagation};

/// A line of an id map.
#[napi(object)]
pub struct IdMapping {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

/// `'root'`, `'current'`, `'auto'`, `'all'`, or lines.
#[napi]
pub type IdMappings = Either<String, Vec<IdMapping>>;

/// What else a clone is to be.
#[napi(object)]
#[derive(Default)]
pub struct CloneRequest {
    pub set_tid: Vec<i32>,
    pub cgroup: Option<i32>,
    pub parent_tid: Option<Int32Array>,
    pub child_tid: Option<Int32Array>,
    pub uid_mappings: Option<IdMappings>,
    pub gid_mappings: Option<IdMappings>,
    pub allow_setgroups: Option<bool>,
    /// What timens_offsets takes.
    pub time_offsets: Option<String>,
    /// What is done in its namespaces before JavaScript goes on.
    pub setup: Option<SetupRequest>,
}

/// What is done in new namespaces.
#[napi(object)]
#[derive(Default)]
pub struct SetupRequest {
    /// `private`, `slave`, `shared`; absent: unchanged.
    pub propagation: Option<String>,
    pub mounts: Vec<MountRequest>,
    /// Where a new /proc goes.
    pub proc: Option<String>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub loopback: bool,
}

impl TryFrom<SetupRequest> for Setup {
    type Error = Error;

    fn try_from(request: SetupRequest) -> Result<Self> {
        Ok(Self {
            propagation: request.propagation.as_deref().map(propagation).transpose()?,
            mounts: request.mounts.into_iter().map(mount).collect::<Result<_>>()?,
            proc: request.proc.map(c_string).transpose()?,
            hostname: request.hostname.map(OsString::from),
            domainname: request.domainname.map(OsString::from),
            loopback: request.loopback,
            ..Self::default()
        })
    }
}

/// Finds out once what cloning needs; `enqueue` adds a microtask that does nothing.
#[napi]
pub fn prepare_clone(env: Env, enqueue: Function<'_, (), ()>) -> Result<Option<Failure>> {
    // Not the caller's, which may be that of another context.
    let random: Function<'_, (), f64> = env.run_script("Math.random")?;
    let call_enqueue = || drop(enqueue.call(()));
    Ok(failure(duplicate::prepare(call_enqueue, || drop(random.call(())))))
}

/// Memory of Node's that every clone begins with anew.
struct Renewed {
    random: Vec<Region>,
    counts: Vec<Region>,
}

/// Where it is, and its length.
type Region = (*mut u8, usize);

thread_local! {
    static RENEWED: RefCell<Renewed> =
        const { RefCell::new(Renewed { random: Vec::new(), counts: Vec::new() }) };
}

/// What [`renew`] is to fill with random numbers, and what with zeros: Node keeps these arrays for good. JavaScript that filled
/// them in the clone would have it copy many pages.
#[napi]
#[allow(unsafe_code)]
pub fn renewed(random: Vec<Uint8Array>, counts: Vec<Uint8Array>) {
    let region = |mut array: Uint8Array| {
        // SAFETY: it is only asked where it is.
        let bytes = unsafe { array.as_mut() };
        (bytes.as_mut_ptr(), bytes.len())
    };
    let regions = |arrays: Vec<Uint8Array>| arrays.into_iter().map(region).collect();
    RENEWED.set(Renewed { random: regions(random), counts: regions(counts) });
}

/// In a clone: what Node has drawn in advance is drawn anew, and what it counts begins at zero.
#[napi]
#[allow(unsafe_code)]
pub fn renew() -> Option<Failure> {
    let filled = RENEWED.with_borrow(|renewed| {
        renewed.random.iter().try_for_each(|&(place, length)| {
            // SAFETY: Node keeps the array, and JavaScript waits.
            let bytes = unsafe { std::slice::from_raw_parts_mut(place, length) };
            // Where there are zeros alone nothing has been drawn.
            if bytes.iter().all(|byte| *byte == 0) { Ok(()) } else { fill_random(bytes) }
        })
    });
    renew_counts();
    failure(filled)
}

#[allow(unsafe_code)]
fn renew_counts() {
    RENEWED.with_borrow(|renewed| {
        for &(place, length) in &renewed.counts {
            // SAFETY: as above.
            unsafe { place.write_bytes(0, length) };
        }
    });
}

/// A clone that is about to be made.
struct Asked {
    request: Request,
    event_loop: *mut c_void,
    /// Where its end is told, and by which number.
    epoll: RawFd,
    id: u32,
    /// Room for two numbers.
    made: *mut [i32; 2],
}

thread_local! {
    static ASKED: Cell<Option<Asked>> = const { Cell::new(None) };
}

/// What the next clone is to be; its end is told by the number. `made` is filled in by it.
///
/// This is apart from the call itself as what converts arguments leaves things to be freed, which behind the fork are pages to be
/// copied.
#[napi]
#[allow(unsafe_code, clippy::too_many_arguments)]
pub fn ask_for_clone(
    env: Env,
    epoll: &Epoll,
    id: u32,
    mut made: Int32ArraySlice<'_>,
    flags: f64,
    stack_size: f64,
    exit_signal: i32,
    may_be_short: bool,
    request: Option<CloneRequest>,
) -> Result<()> {
    let mut request = request.unwrap_or_default();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "src/ has checked it")]
    let flags = CloneFlags::from_bits_retain(flags as u64);
    // With offsets the clone has to make the namespace itself.
    let made_by_call = if request.time_offsets.is_none() { CloneFlags::NEWTIME } else { CloneFlags::empty() };
    let request = Request {
        flags,
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "src/ has checked it")]
        stack_size: stack_size as usize,
        exit_signal,
        set_tid: request.set_tid,
        cgroup: request.cgroup,
        parent_tid: address(request.parent_tid.as_mut()),
        child_tid: address(request.child_tid.as_mut()),
        may_be_short,
        setup: Setup {
            unshare: flags - made_by_call,
            id_maps: id_maps(request.uid_mappings, request.gid_mappings, request.allow_setgroups)?,
            time_offsets: request.time_offsets.map(String::into_bytes),
            ..request.setup.unwrap_or_default().try_into()?
        },
    };
    // SAFETY: JavaScript waits, and no other thread has it.
    let made = <&mut [i32; 2]>::try_from(unsafe { made.as_mut() })
        .map_err(|_| Error::new(Status::InvalidArg, "room for two numbers is wanted"))?;
    let (event_loop, epoll) = (event_loop(&env)?, epoll.fd());
    ASKED.set(Some(Asked { request, event_loop, epoll, id, made }));
    Ok(())
}

/// clone3(2), as has been asked, with everything that JavaScript needs to go on in the clone. In the parent the clone's pid and
/// pidfd are where they were wanted; in the clone its own pid, and -1.
///
/// # Safety
///
/// JavaScript is on the stack, as it always is here, and holds the arrays that it has asked with.
#[napi]
#[allow(unsafe_code)]
pub fn clone_process() -> Result<Option<Failure>> {
    let Some(Asked { request, event_loop, epoll, id, made }) = ASKED.take() else {
        return Err(Error::new(Status::GenericFailure, "nothing has been asked for"));
    };
    // SAFETY: this is called by JavaScript, on the thread of this loop; typed arrays are writable.
    let result = unsafe { duplicate::duplicate(&request, event_loop) };
    Ok(failure(result.and_then(|duplicate| {
        let numbers = match duplicate {
            Duplicate::Child => [std::process::id().cast_signed(), -1],
            Duplicate::Parent { pid, pidfd } => {
                watch_process(epoll, pidfd.as_fd(), id)?;
                [pid.as_raw(), number(pidfd)]
            }
        };
        // SAFETY: as the caller promises, and nobody else writes to it.
        unsafe { made.write(numbers) };
        Ok(())
    })))
}

/// # Safety
///
/// The slice is not used, only where it is.
#[allow(unsafe_code)]
fn address(place: Option<&mut Int32Array>) -> usize {
    // SAFETY: JavaScript waits for this call: nobody else reads or writes it.
    place.map_or(0, |place| unsafe { place.as_mut() }.as_mut_ptr() as usize)
}

pub fn id_maps(
    uids: Option<IdMappings>,
    gids: Option<IdMappings>,
    allow_setgroups: Option<bool>,
) -> Result<IdMaps> {
    Ok(IdMaps {
        uids: uids.map(mappings).transpose()?,
        gids: gids.map(mappings).transpose()?,
        allow_setgroups,
    })
}

fn mappings(mappings: IdMappings) -> Result<id_maps::IdMappings> {
    Ok(match mappings {
        Either::A(name) => match name.as_str() {
            "root" => id_maps::IdMappings::Root,
            "current" => id_maps::IdMappings::Current,
            "auto" => id_maps::IdMappings::Auto,
            "all" => id_maps::IdMappings::All,
            _ => return Err(Error::new(Status::InvalidArg, "an unknown name of a mapping")),
        },
        Either::B(lines) => id_maps::IdMappings::Lines(
            lines
                .iter()
                .map(|line| id_maps::IdMapping {
                    inside: line.inside,
                    outside: line.outside,
                    count: line.count,
                })
                .collect(),
        ),
    })
}

/// What [`start_over`] calls, by the number that this returns.
#[napi]
pub fn when_over(env: Env, callback: Function<'_, (), ()>) -> Result<u32> {
    // What the parent has put off in C++ counts down what it had counted.
    event_loop::when_over(env, renew_counts, &callback)
}

/// In a clone: ends the JavaScript that is on the stack, and calls what has this number when the event loop has turned once without
/// any, so that what the parent has left comes to its end unheard.
#[napi]
pub fn start_over(env: Env, number: u32) -> Result<Option<Failure>> {
    event_loop::start_over(&env, number)?;
    Ok(failure(duplicate::silence().and_then(|()| duplicate::terminate())))
}

/// Whether anything holds the event loop.
#[napi]
pub fn is_loop_alive(env: Env) -> Result<bool> {
    event_loop::is_alive(&env)
}

/// Has the event loop take the tasks that V8 has left for this thread.
#[napi]
pub fn deliver_tasks(env: Env) -> Result<()> {
    event_loop::deliver_tasks(&env)
}

/// In a clone: has it all threads that it is to have, which one that may be short has begun without.
#[napi]
#[must_use]
pub fn make_late_threads() -> Option<Failure> {
    failure(duplicate::make_late_threads())
}

/// Ends the JavaScript that is on the stack.
#[napi]
pub fn terminate_execution() -> Option<Failure> {
    failure(duplicate::terminate())
}

/// An error that nobody has caught: for the listeners of `process`, or printed, and the end.
#[napi]
pub fn throw_uncaught(env: Env, error: Unknown<'_>) {
    event_loop::throw_uncaught(&env, &error);
}

/// In a clone: all threads are there, and known to the libc by their own ids.
#[napi]
pub fn renew_thread_ids() -> Option<Failure> {
    failure(duplicate::renew_ids())
}

/// The phases of the last clone, and the nanoseconds that each took.
#[napi(object)]
pub struct Phase {
    pub name: String,
    pub nanoseconds: f64,
}

/// How long the last clone took, by phase.
#[napi]
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "a clone does not take months")]
pub fn clone_phases() -> Vec<Phase> {
    let phases = PHASES.into_iter().zip(duplicate::durations());
    phases
        .map(|(name, nanoseconds)| Phase { name: name.to_owned(), nanoseconds: nanoseconds as f64 })
        .collect()
}
