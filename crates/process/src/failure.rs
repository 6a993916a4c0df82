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
