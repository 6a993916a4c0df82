use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::Duration;

use linux_clone_process::Mount;
use linux_clone_process::setup::Setup;
use linux_clone_process::spawn::{self, Limits, Pipe, Program, Request, own_environment};
use linux_clone_syscalls::{CAPABILITIES, CloneFlags, Instruction, MountFlags, RESOURCES, ResourceLimit};
use napi::bindgen_prelude::{BigInt, Buffer, Uint8Array};
use napi::{Env, Error, Result, Status};
use napi_derive::napi;

use crate::child::{Epoll, ExitStatus, watch_process};
use crate::clone::{IdMappings, SetupRequest, id_maps};
use crate::convert::{c_string, flags, number};
use crate::event_loop;
use crate::failure::{Failure, Outcome, failure, outcome};

/// A namespace to enter: the descriptor stays the caller's.
#[napi(object)]
pub struct JoinRequest {
    pub fd: i32,
    pub nstype: u32,
    /// What an error names.
    pub path: String,
}

/// Something to mount.
#[napi(object)]
pub struct MountRequest {
    #[napi(js_name = "type")]
    pub kind: Option<String>,
    pub source: Option<String>,
    pub target: String,
    pub options: Vec<String>,
    pub create: bool,
    pub optional: bool,
}

/// How much of a resource may be used; all 64 bits: unlimited.
#[napi(object)]
pub struct Rlimit {
    pub resource: i32,
    pub soft: BigInt,
    pub hard: BigInt,
}

/// What is to be started.
#[napi(object)]
pub struct SpawnRequest {
    /// Without a slash it is looked up in the `PATH` of `env`.
    pub file: String,
    /// The first is the program's own name.
    pub args: Vec<String>,
    /// `NAME=value`; absent: as this process has it.
    pub env: Option<Vec<String>>,
    pub cwd: Option<String>,
    /// What 0, 1, 2 … are copies of; negative: /dev/null for the first three, else nothing.
    pub stdio: Vec<i32>,
    pub detached: bool,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Absent: nothing of it. Each property that is looked for costs as much as a system call.
    pub isolation: Option<IsolationRequest>,
}

/// Namespaces, and limits.
#[napi(object)]
#[derive(Default)]
pub struct IsolationRequest {
    /// `CLONE_NEW*`.
    pub unshare: u32,
    pub join: Vec<JoinRequest>,
    pub uid_mappings: Option<IdMappings>,
    pub gid_mappings: Option<IdMappings>,
    pub allow_setgroups: Option<bool>,
    /// What timens_offsets takes.
    pub time_offsets: Option<String>,
    pub root: Option<String>,
    pub setup: SetupRequest,
    pub init: bool,
    /// Absent or 0: none.
    pub parent_death_signal: Option<i32>,
    /// A descriptor of the caller's.
    pub cgroup: Option<i32>,
    /// By name; absent: left alone.
    pub capabilities: Option<Vec<String>>,
    pub no_new_privileges: bool,
    /// An array of `struct sock_filter`.
    pub seccomp: Option<Uint8Array>,
    pub rlimits: Vec<Rlimit>,
}

/// A program that runs: the pid of it, or of init; the pidfd of the same process; and where init reports the program's end, -1
/// where there is none.
#[napi(array)]
pub struct Spawned(pub i32, pub i32, pub i32);

/// Starts a program, and returns when exec has worked, or a step has failed. Its end is told by the number.
#[napi]
pub fn spawn_process(request: SpawnRequest, epoll: &Epoll, id: u32) -> Result<Outcome<Spawned>> {
    let spawned = spawn::spawn(request.try_into()?).and_then(|spawned| {
        watch_process(epoll.fd(), spawned.pidfd.as_fd(), id)?;
        Ok(spawned)
    });
    Ok(outcome(spawned, |spawned| {
        let report = spawned.report.map_or(-1, |report| epoll.own(report));
        Spawned(spawned.pid.as_raw(), epoll.own(spawned.pidfd), report)
    }))
}

/// Both ends of a pipe for a child, close-on-exec.
#[napi(object)]
pub struct SocketPair {
    pub ours: i32,
    pub theirs: i32,
}

/// socketpair(2).
#[napi]
pub fn socket_pair() -> Outcome<SocketPair> {
    outcome(spawn::socket_pair(), |[ours, theirs]| SocketPair { ours: number(ours), theirs: number(theirs) })
}

/// Opens for each of the descriptors the pipes that were made last, in that order.
///
/// # Safety
///
/// The descriptors are JavaScript's, and become the pipes'.
#[napi]
#[allow(unsafe_code)]
pub fn open_newest_pipes(env: Env, fds: &[i32]) -> Result<Option<Failure>> {
    let event_loop = event_loop::event_loop(&env)?;
    // SAFETY: the loop is this thread's; for the descriptors as the caller promises.
    Ok(failure(unsafe { linux_clone_process::event_loop::open_newest_pipes(event_loop, fds) }))
}

/// Closes what this binding has opened: in a Worker Node counts the descriptors of fs alone, and warns of others.
///
/// # Safety
///
/// The descriptor is JavaScript's, which does not use it any more.
#[napi]
#[allow(unsafe_code)]
pub fn close_descriptor(fd: i32) {
    if fd >= 0 {
        // SAFETY: as the caller promises.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

/// A pipe for one of the program's descriptors, whose entry in stdio is not looked at.
#[napi(object)]
pub struct SyncPipe {
    pub fd: u32,
    /// What the program reads; absent: what it writes is collected.
    pub input: Option<Uint8Array>,
}

/// How much is too much.
#[napi(object)]
pub struct SyncLimits {
    /// Milliseconds; 0: none.
    pub timeout: f64,
    /// Bytes over all pipes; `Infinity`: none.
    pub max_buffer: f64,
    pub kill_signal: i32,
}

/// A program that has ended.
#[napi(object)]
pub struct SpawnedSync {
    pub pid: i32,
    pub status: ExitStatus,
    /// For each entry of stdio: what was read there, if anything was to be.
    pub output: Vec<Option<Buffer>>,
    /// ETIMEDOUT, ENOBUFS: it was killed; EPIPE: it did not read its input.
    pub error: Option<Failure>,
}

/// Starts a program, serves its pipes, and returns when it has ended.
#[napi]
#[allow(clippy::needless_pass_by_value, reason = "a function of JavaScript's owns its arguments")]
pub fn spawn_process_sync(
    request: SpawnRequest,
    pipes: Vec<SyncPipe>,
    limits: SyncLimits,
) -> Result<Outcome<SpawnedSync>> {
    let count = request.stdio.len();
    let pipes = pipes
        .iter()
        .map(|pipe| Pipe { fd: pipe.fd as usize, input: pipe.input.as_deref().map(<[u8]>::to_vec) })
        .collect();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "src/ has checked it")]
    let limits = Limits {
        timeout: (limits.timeout > 0.0).then(|| Duration::from_millis(limits.timeout as u64)),
        output: limits.max_buffer.is_finite().then_some(limits.max_buffer as usize),
        kill_signal: limits.kill_signal,
    };
    Ok(outcome(spawn::spawn_sync(request.try_into()?, pipes, &limits), |finished| {
        let mut output: Vec<_> = (0..count).map(|_| None).collect();
        for (fd, bytes) in finished.output {
            if let Some(place) = output.get_mut(fd) {
                *place = Some(bytes.into());
            }
        }
        SpawnedSync {
            pid: finished.pid.as_raw(),
            status: finished.status.into(),
            output,
            error: finished.failure.map(Into::into),
        }
    }))
}

/// The capabilities' names, by number.
#[napi]
#[must_use]
pub fn capability_names() -> Vec<String> {
    CAPABILITIES.iter().map(ToString::to_string).collect()
}

/// A resource of getrlimit(2).
#[napi(object)]
pub struct ResourceName {
    pub name: String,
    pub resource: i32,
}

/// The resources that can be limited.
#[napi]
#[must_use]
pub fn rlimit_names() -> Vec<ResourceName> {
    let convert =
        |(name, resource): &(&str, i32)| ResourceName { name: (*name).to_owned(), resource: *resource };
    RESOURCES.iter().map(convert).collect()
}

impl TryFrom<SpawnRequest> for Request {
    type Error = Error;

    fn try_from(request: SpawnRequest) -> Result<Self> {
        let texts = |texts: Vec<String>| texts.into_iter().map(c_string).collect::<Result<Vec<_>>>();
        let text = |text: Option<String>| text.map(c_string).transpose();
        let isolation = request.isolation.unwrap_or_default();
        Ok(Self {
            program: Program {
                file: c_string(request.file)?,
                args: texts(request.args)?,
                env: request.env.map_or_else(|| Ok(own_environment()), texts)?,
            },
            stdio: request.stdio.into_iter().map(|fd| (fd >= 0).then_some(fd)).collect(),
            is_detached: request.detached,
            has_init: isolation.init && flags(isolation.unshare).contains(CloneFlags::NEWPID),
            death_signal: isolation.parent_death_signal.filter(|signal| *signal != 0),
            cgroup: isolation.cgroup,
            setup: Setup {
                uid: request.uid,
                gid: request.gid,
                cwd: text(request.cwd)?,
                ..isolation.try_into()?
            },
        })
    }
}

impl TryFrom<IsolationRequest> for Setup {
    type Error = Error;

    fn try_from(request: IsolationRequest) -> Result<Self> {
        Ok(Self {
            joins: request.join.iter().map(|join| (join.fd, flags(join.nstype))).collect(),
            join_paths: request.join.into_iter().map(|join| c_string(join.path)).collect::<Result<_>>()?,
            unshare: flags(request.unshare),
            becomes_root: true,
            id_maps: id_maps(request.uid_mappings, request.gid_mappings, request.allow_setgroups)?,
            time_offsets: request.time_offsets.map(String::into_bytes),
            root: request.root.map(c_string).transpose()?,
            rlimits: request.rlimits.iter().map(rlimit).collect(),
            capabilities: request.capabilities.as_deref().map(capability_bits).transpose()?,
            no_new_privileges: request.no_new_privileges,
            seccomp: request.seccomp.as_deref().map(instructions),
            ..request.setup.try_into()?
        })
    }
}

fn unknown(what: &str) -> Error {
    Error::new(Status::InvalidArg, format!("an unknown name of {what}"))
}

pub fn propagation(name: &str) -> Result<MountFlags> {
    match name {
        "private" => Ok(MountFlags::MS_PRIVATE),
        "slave" => Ok(MountFlags::MS_SLAVE),
        "shared" => Ok(MountFlags::MS_SHARED),
        _ => Err(unknown("a propagation")),
    }
}

pub fn mount(request: MountRequest) -> Result<Mount> {
    let optional = |text: Option<String>| text.map(c_string).transpose();
    Ok(Mount {
        kind: optional(request.kind)?,
        source: optional(request.source)?,
        target: c_string(request.target)?,
        options: request.options,
        create: request.create,
        optional: request.optional,
    })
}

fn rlimit(request: &Rlimit) -> (i32, ResourceLimit) {
    let [soft, hard] = [&request.soft, &request.hard].map(|limit| limit.get_u64().1);
    (request.resource, ResourceLimit { soft, hard })
}

fn capability_bits(names: &[String]) -> Result<u64> {
    names.iter().try_fold(0, |bits, name| {
        let number = CAPABILITIES.iter().position(|known| known == name);
        number.map(|number| bits | 1 << number).ok_or_else(|| unknown("a capability"))
    })
}

fn instructions(bytes: &[u8]) -> Vec<Instruction> {
    let (instructions, _) = bytes.as_chunks::<8>();
    instructions
        .iter()
        .map(|[c0, c1, jt, jf, k0, k1, k2, k3]| Instruction {
            code: u16::from_ne_bytes([*c0, *c1]),
            jt: *jt,
            jf: *jf,
            k: u32::from_ne_bytes([*k0, *k1, *k2, *k3]),
        })
        .collect()
}
