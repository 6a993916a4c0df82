use linux_clone_process::{StepFailure, ThreadFailure};
use linux_clone_syscalls::{message, name};
use napi::Either;
use napi_derive::napi;

/// A system call that failed.
#[napi(object)]
#[derive(Clone, Debug)]
pub struct Failure {
    /// The errno's name.
    pub code: String,
    /// The errno, positive as in the kernel's headers.
    pub errno: i32,
    /// What the errno means.
    pub reason: String,
    /// The system call.
    pub syscall: String,
    /// Where it was not the calling thread that failed: which, as /proc/self/task has it.
    pub thread: Option<i32>,
    /// The step of starting a child.
    pub step: Option<String>,
    /// The file.
    pub path: Option<String>,
    /// The second of two.
    pub dest: Option<String>,
}

impl From<linux_clone_syscalls::Failure> for Failure {
    fn from(failure: linux_clone_syscalls::Failure) -> Self {
        let errno = failure.raw;
        Self {
            code: name(errno).unwrap_or_else(|| format!("E{errno}")),
            errno,
            reason: message(errno).unwrap_or("unknown error").to_owned(),
            syscall: failure.call.to_owned(),
            thread: None,
            step: None,
            path: None,
            dest: None,
        }
    }
}

impl From<ThreadFailure> for Failure {
    fn from(failure: ThreadFailure) -> Self {
        Self { thread: failure.thread, ..failure.failure.into() }
    }
}

impl From<StepFailure> for Failure {
    fn from(failure: StepFailure) -> Self {
        let step = Some(failure.step.name().to_owned());
        Self { step, path: failure.path, dest: failure.dest, ..failure.failure.into() }
    }
}

/// What a binding's function returns: its value, or why there is none.
#[napi]
pub type Outcome<T> = Either<T, Failure>;

/// Converts a result, and what it holds.
pub fn outcome<T, U, E: Into<Failure>>(result: Result<T, E>, convert: impl FnOnce(T) -> U) -> Outcome<U> {
    match result {
        Ok(value) => Either::A(convert(value)),
        Err(failure) => Either::B(failure.into()),
    }
}

/// Converts a result that holds nothing: `None` where it went well.
pub fn failure<E: Into<Failure>>(result: Result<(), E>) -> Option<Failure> {
    result.err().map(Into::into)
}
