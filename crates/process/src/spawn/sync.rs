//! A program whose end is waited for, and whose pipes are served meanwhile: what Node's spawnSync does.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use linux_clone_syscalls::{Errno, Failure, Pid, PidfdSignalFlags, Result, pidfd_send_signal};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};

use super::{Request, Spawned, socket_pair, spawn};
use crate::failure::StepFailure;
use crate::wait::{ExitStatus, end, wait_for_program};

/// A pipe for one of the program's descriptors.
#[derive(Clone, Debug)]
pub struct Pipe {
    /// The program's descriptor.
    pub fd: usize,
    /// What the program reads; `None`: what it writes is collected.
    pub input: Option<Vec<u8>>,
}

/// How much is too much.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long the program may run.
    pub timeout: Option<Duration>,
    /// How many bytes it may write, over all pipes.
    pub output: Option<usize>,
    /// What ends it then.
    pub kill_signal: i32,
}

/// What has come of it.
#[derive(Debug)]
pub struct Finished {
    /// Of the program, or of init.
    pub pid: Pid,
    /// How it has ended.
    pub status: ExitStatus,
    /// What was read, with the descriptor.
    pub output: Vec<(usize, Vec<u8>)>,
    /// ETIMEDOUT, ENOBUFS: it was killed; EPIPE: it did not read its input.
    pub failure: Option<Failure>,
}

/// Starts a program, and returns when it has ended and nobody writes to its pipes any more; one that goes too far is killed,
/// and then only its end is waited for.
///
/// # Errors
///
/// Those of [`spawn`].
pub fn spawn_sync(
    mut request: Request,
    pipes: Vec<Pipe>,
    limits: &Limits,
) -> std::result::Result<Finished, StepFailure> {
    let deadline = limits.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut theirs = Vec::new();
    let mut streams = Vec::new();
    for pipe in pipes {
        let [ours, their] = socket_pair()?;
        if let Some(place) = request.stdio.get_mut(pipe.fd) {
            *place = Some(their.as_raw_fd());
        }
        theirs.push(their);
        streams.push(Stream::of(ours, pipe)?);
    }
    let spawned = spawn(request)?;
    drop(theirs);
    let mut served = Served { spawned, streams, limits, deadline, failure: None, broken: None };
    let status = served.run().inspect_err(|_| served.abandon())?;
    let output = served.streams.into_iter().filter_map(Stream::output).collect();
    Ok(Finished { pid: served.spawned.pid, status, output, failure: served.failure.or(served.broken) })
}

/// Our end of a pipe.
struct Stream {
    socket: Option<OwnedFd>,
    fd: usize,
    direction: Direction,
}

enum Direction {
    /// What is to be written, and how much of it has been.
    Input(Vec<u8>, usize),
    Output(Vec<u8>),
}

impl Stream {
    fn of(socket: OwnedFd, pipe: Pipe) -> Result<Self> {
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| Failure::new("fcntl", errno))?;
        let direction =
            pipe.input.map_or_else(|| Direction::Output(Vec::new()), |input| Direction::Input(input, 0));
        let mut stream = Self { socket: Some(socket), fd: pipe.fd, direction };
        stream.end_input();
        Ok(stream)
    }

    fn output(self) -> Option<(usize, Vec<u8>)> {
        match self.direction {
            Direction::Input(..) => None,
            Direction::Output(bytes) => Some((self.fd, bytes)),
        }
    }

    fn interest(&self) -> PollFlags {
        match self.direction {
            Direction::Input(..) => PollFlags::POLLOUT,
            Direction::Output(_) => PollFlags::POLLIN,
        }
    }

    /// The end of the input is told when all of it is written.
    fn end_input(&mut self) {
        if let (Some(socket), Direction::Input(input, written)) = (&self.socket, &self.direction)
            && *written == input.len()
        {
            // A program that is gone needs not be told.
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Write);
            self.socket = None;
        }
    }

    /// Moves what can be moved at once; how many bytes were read.
    fn serve(&mut self) -> Result<usize> {
        const CHUNK: usize = 64 << 10;
        let Some(socket) = &self.socket else { return Ok(0) };
        match &mut self.direction {
            Direction::Input(input, written) => {
                match send(socket.as_raw_fd(), &input[*written..], MsgFlags::MSG_NOSIGNAL) {
                    Ok(count) => {
                        *written += count;
                        self.end_input();
                    }
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(errno) => {
                        self.socket = None;
                        return Err(Failure::new("write", errno));
                    }
                }
                Ok(0)
            }
            Direction::Output(bytes) => {
                let begin = bytes.len();
                bytes.resize(begin + CHUNK, 0);
                let read = nix::unistd::read(socket, &mut bytes[begin..]);
                bytes.truncate(begin + read.unwrap_or(0));
                match read {
                    Ok(0) => self.socket = None,
                    Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(errno) => {
                        self.socket = None;
                        return Err(Failure::new("read", errno));
                    }
                }
                Ok(bytes.len() - begin)
            }
        }
    }
}

struct Served<'a> {
    spawned: Spawned,
    streams: Vec<Stream>,
    limits: &'a Limits,
    deadline: Option<Instant>,
    failure: Option<Failure>,
    /// What went wrong with a pipe, which matters less.
    broken: Option<Failure>,
}

impl Served<'_> {
    fn run(&mut self) -> Result<ExitStatus> {
        let mut status = None;
        let mut total = 0;
        loop {
            if let Some(status) = status
                && self.streams.iter().all(|stream| stream.socket.is_none())
            {
                return Ok(status);
            }
            let ready = self.wait(status.is_none())?;
            for (stream, is_ready) in self.streams.iter_mut().zip(ready) {
                match if is_ready { stream.serve() } else { Ok(0) } {
                    Ok(read) => total += read,
                    Err(failure) => self.broken = self.broken.or(Some(failure)),
                }
            }
            if self.limits.output.is_some_and(|most| total > most) {
                self.stop(Errno::ENOBUFS, status.is_none());
            }
            if status.is_none() {
                let report = self.spawned.report.as_ref().map(AsFd::as_fd);
                status = wait_for_program(self.spawned.pidfd.as_fd(), report, false)?;
                if status.is_none() && self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    self.stop(Errno::ETIMEDOUT, true);
                }
            }
        }
    }

    /// Which streams are ready, once something has happened.
    fn wait(&self, is_running: bool) -> Result<Vec<bool>> {
        let open =
            || self.streams.iter().filter_map(|stream| Some((stream.socket.as_ref()?, stream.interest())));
        let mut events: Vec<_> =
            open().map(|(socket, interest)| PollFd::new(socket.as_fd(), interest)).collect();
        if is_running {
            events.push(PollFd::new(self.spawned.pidfd.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut events, if is_running { self.time_left() } else { PollTimeout::NONE }) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Failure::new("poll", errno)),
        }
        let mut ready = events.iter().map(|event| event.any().unwrap_or(false));
        Ok(self
            .streams
            .iter()
            .map(|stream| stream.socket.is_some() && ready.next().unwrap_or(false))
            .collect())
    }

    /// Rounded up: what is looked at then is over.
    fn time_left(&self) -> PollTimeout {
        let Some(deadline) = self.deadline else { return PollTimeout::NONE };
        let left = deadline.saturating_duration_since(Instant::now());
        let milliseconds = left.as_nanos().div_ceil(1_000_000);
        i32::try_from(milliseconds).ok().and_then(|left| left.try_into().ok()).unwrap_or(PollTimeout::MAX)
    }

    /// Kills it, where it runs, and reads and writes no more; the first reason counts.
    fn stop(&mut self, reason: Errno, is_running: bool) {
        if self.failure.is_some() {
            return;
        }
        self.failure = Some(Failure { call: "spawnSync", errno: reason, raw: reason as i32 });
        self.deadline = None;
        if is_running
            && let Err(failure) = self.kill(self.limits.kill_signal)
            && failure.errno != Errno::ESRCH
        {
            self.failure = Some(failure);
            // It is our child: this one can be sent.
            let _ = self.kill(libc::SIGKILL);
        }
        for stream in &mut self.streams {
            stream.socket = None;
        }
    }

    fn kill(&self, signal: i32) -> Result<()> {
        pidfd_send_signal(self.spawned.pidfd.as_raw_fd(), signal, PidfdSignalFlags::empty())
    }

    /// Where it cannot be waited for as it should be, nothing of it is left all the same.
    fn abandon(&self) {
        end(self.spawned.pidfd.as_fd());
    }
}
