//! The id maps of a new user namespace.
//!
//! References: user_namespaces(7), newuidmap(1), subuid(5).

use std::fs;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::process::{Command, Stdio};

use linux_clone_syscalls::{Errno, Failure};
use nix::unistd::{Uid, getegid, geteuid};

use crate::failure::{Step, StepFailure};
use crate::subordinate::first_range;

/// A line of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMapping {
    /// The first id in the namespace.
    pub inside: u32,
    /// The first id outside of it.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// What is to be mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdMappings {
    /// These.
    Lines(Vec<IdMapping>),
    /// The caller's own id as 0.
    Root,
    /// The caller's own id as itself.
    Current,
    /// The caller's own id as 0, and the first subordinate range after it.
    Auto,
    /// Every id that the caller has, as itself.
    All,
}

/// What is to be written for a new user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMaps {
    /// Into uid_map.
    pub uids: Option<IdMappings>,
    /// Into gid_map.
    pub gids: Option<IdMappings>,
    /// Into setgroups.
    pub allow_setgroups: Option<bool>,
}

/// One of the two maps.
struct Kind {
    file: &'static str,
    helper: &'static str,
    subordinate: &'static str,
    own: u32,
}

impl IdMaps {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether one of the caller's ids is not among the lines for it: the child is to be somebody else.
    pub(crate) fn leave_own_out(&self) -> bool {
        let leaves_out = |mappings: &Option<IdMappings>, own: u32| match mappings {
            Some(IdMappings::Lines(lines)) => !lines
                .iter()
                .any(|line| own.checked_sub(line.outside).is_some_and(|above| above < line.count)),
            _ => false,
        };
        leaves_out(&self.uids, geteuid().as_raw()) || leaves_out(&self.gids, getegid().as_raw())
    }

    /// Whether the supplementary groups cannot be left in the namespace, and can be outside.
    pub(crate) fn keep_groups(&self) -> bool {
        (self.allow_setgroups == Some(false) || self.gids.is_none()) && may_set_groups()
    }

    /// Writes them for the process of a pidfd.
    pub(crate) fn write(&self, pidfd: BorrowedFd<'_>) -> Result<(), StepFailure> {
        if self.is_empty() {
            return Ok(());
        }
        let pid = shown_pid(pidfd)?;
        let uid = geteuid().as_raw();
        let kind = Kind { file: "uid_map", helper: "newuidmap", subordinate: "/etc/subuid", own: uid };
        if let Some(uids) = &self.uids {
            kind.write(pid, &kind.lines(uids)?)?;
        }
        if let Some(allow) = self.allow_setgroups {
            allow_setgroups(pid, allow)?;
        }
        let gid = getegid().as_raw();
        let kind = Kind { file: "gid_map", helper: "newgidmap", subordinate: "/etc/subgid", own: gid };
        if let Some(gids) = &self.gids {
            let lines = kind.lines(gids)?;
            // An unprivileged process may map its group only where supplementary groups cannot be dropped.
            if self.allow_setgroups.is_none() && kind.is_own_alone(&lines) && !may_set_groups() {
                allow_setgroups(pid, false)?;
            }
            kind.write(pid, &lines)?;
        }
        Ok(())
    }
}

impl Kind {
    fn lines(&self, mappings: &IdMappings) -> Result<Vec<IdMapping>, StepFailure> {
        let own = |inside| IdMapping { inside, outside: self.own, count: 1 };
        Ok(match mappings {
            IdMappings::Lines(lines) => lines.clone(),
            IdMappings::Root => vec![own(0)],
            IdMappings::Current => vec![own(self.own)],
            IdMappings::Auto => {
                let failed =
                    |errno| StepFailure::at(Step::IdMap, Failure::new("open", errno), self.subordinate);
                let range = first_range(self.subordinate, Uid::effective()).map_err(failed)?;
                let (first, count) = range.ok_or_else(|| failed(Errno::ENOENT))?;
                vec![own(0), IdMapping { inside: 1, outside: first, count }]
            }
            IdMappings::All => {
                let path = format!("/proc/self/{}", self.file);
                let text = fs::read_to_string(&path).map_err(|error| io_failure("open", &error, &path))?;
                text.lines().filter_map(as_itself).collect()
            }
        })
    }

    fn is_own_alone(&self, lines: &[IdMapping]) -> bool {
        matches!(lines, [IdMapping { outside, count: 1, .. }] if *outside == self.own)
    }

    fn write(&self, pid: i32, lines: &[IdMapping]) -> Result<(), StepFailure> {
        let text: Vec<String> =
            lines.iter().map(|line| format!("{} {} {}\n", line.inside, line.outside, line.count)).collect();
        let result = write_file(Step::IdMap, &format!("/proc/{pid}/{}", self.file), text.concat().as_bytes());
        match result {
            Err(StepFailure { failure, .. })
                if failure.failure.errno == Errno::EPERM && !self.is_own_alone(lines) =>
            {
                self.write_by_helper(pid, lines)
            }
            result => result,
        }
    }

    /// The set-uid program writes what /etc/subuid allows this user.
    fn write_by_helper(&self, pid: i32, lines: &[IdMapping]) -> Result<(), StepFailure> {
        let numbers = lines.iter().flat_map(|line| [line.inside, line.outside, line.count]);
        let mut command = Command::new(self.helper);
        command.arg(pid.to_string()).args(numbers.map(|number| number.to_string()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            // It says why on standard error only: the ids are not this user's.
            Ok(_) => Err(StepFailure::at(Step::IdMap, Failure::new("write", Errno::EPERM), self.helper)),
            Err(error) => Err(io_failure("execve", &error, self.helper)),
        }
    }
}

/// The process's pid as our /proc has it.
fn shown_pid(pidfd: BorrowedFd<'_>) -> Result<i32, StepFailure> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = fs::read_to_string(&path).map_err(|error| io_failure("open", &error, &path))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    pid.filter(|pid| *pid > 0)
        .ok_or_else(|| StepFailure::at(Step::IdMap, Failure::new("open", Errno::ESRCH), path))
}

fn as_itself(line: &str) -> Option<IdMapping> {
    let mut numbers = line.split_ascii_whitespace().map(str::parse);
    let inside = numbers.next()?.ok()?;
    let count = numbers.nth(1)?.ok()?;
    Some(IdMapping { inside, outside: inside, count })
}

fn allow_setgroups(pid: i32, allow: bool) -> Result<(), StepFailure> {
    let word: &[u8] = if allow { b"allow" } else { b"deny" };
    write_file(Step::Setgroups, &format!("/proc/{pid}/setgroups"), word)
}

/// CAP_SETGID, in the user namespace of this process.
fn may_set_groups() -> bool {
    const CAP_SETGID: u32 = 6;
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective =
        status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:\t")?, 16).ok());
    effective.is_some_and(|capabilities| capabilities >> CAP_SETGID & 1 == 1)
}

/// In one write(2), as the kernel wants it.
fn write_file(step: Step, path: &str, contents: &[u8]) -> Result<(), StepFailure> {
    let failed = |call, error: &std::io::Error| StepFailure { step, ..io_failure(call, error, path) };
    let mut file = OpenOptions::new().write(true).open(path).map_err(|error| failed("open", &error))?;
    file.write(contents).map(drop).map_err(|error| failed("write", &error))
}

fn io_failure(call: &'static str, error: &std::io::Error, path: &str) -> StepFailure {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    StepFailure::at(Step::IdMap, Failure::new(call, errno), path)
}
