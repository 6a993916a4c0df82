use linux_clone_syscalls::Failure;

/// What failed, and in which thread where it was not the calling one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadFailure {
    /// The call and its errno.
    pub failure: Failure,
    /// The thread, as /proc/self/task has it.
    pub thread: Option<i32>,
}

impl ThreadFailure {
    pub(crate) fn of(failure: Failure, thread: i32) -> Self {
        Self { failure, thread: Some(thread) }
    }
}

impl From<Failure> for ThreadFailure {
    fn from(failure: Failure) -> Self {
        Self { failure, thread: None }
    }
}

/// What a child goes through before its program or function starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The process is made.
    Clone,
    /// It enters namespaces that are there.
    Join,
    /// Its ids are mapped.
    IdMap,
    /// Whether it may set supplementary groups is said.
    Setgroups,
    /// Its clocks are set.
    TimeOffsets,
    /// It enters its cgroup.
    Cgroup,
    /// Its mounts are kept apart.
    Propagation,
    /// File systems are mounted.
    Mount,
    /// It gets its root directory.
    PivotRoot,
    /// Its host gets a name.
    Hostname,
    /// `lo` is brought up.
    Network,
    /// Its resources are limited.
    ResourceLimit,
    /// Capabilities are given up, or the gaining of privileges.
    Capabilities,
    /// Its system calls are filtered.
    Seccomp,
    /// It gets its working directory.
    WorkingDirectory,
    /// It gets its ids, session and signals.
    Credentials,
    /// It gets its descriptors.
    Stdio,
    /// The program starts.
    Exec,
}

impl Step {
    /// As JavaScript has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Clone => "clone",
            Self::Join => "join",
            Self::IdMap => "id-map",
            Self::Setgroups => "setgroups",
            Self::TimeOffsets => "time-offsets",
            Self::Cgroup => "cgroup",
            Self::Propagation => "propagation",
            Self::Mount => "mount",
            Self::PivotRoot => "pivot-root",
            Self::Hostname => "hostname",
            Self::Network => "network",
            Self::ResourceLimit => "rlimit",
            Self::Capabilities => "capabilities",
            Self::Seccomp => "seccomp",
            Self::WorkingDirectory => "chdir",
            Self::Credentials => "credentials",
            Self::Stdio => "stdio",
            Self::Exec => "exec",
        }
    }
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepFailure {
    /// Which one.
    pub step: Step,
    /// The call, and in which thread.
    pub failure: ThreadFailure,
    /// The file that it concerned.
    pub path: Option<String>,
    /// The second of two.
    pub dest: Option<String>,
}

impl StepFailure {
    pub(crate) fn of(step: Step, failure: Failure) -> Self {
        Self { step, failure: failure.into(), path: None, dest: None }
    }

    pub(crate) fn at(step: Step, failure: Failure, path: impl Into<String>) -> Self {
        Self { path: Some(path.into()), ..Self::of(step, failure) }
    }
}

impl From<Failure> for StepFailure {
    fn from(failure: Failure) -> Self {
        Self::of(Step::Clone, failure)
    }
}

impl From<ThreadFailure> for StepFailure {
    fn from(failure: ThreadFailure) -> Self {
        Self { step: Step::Clone, failure, path: None, dest: None }
    }
}
