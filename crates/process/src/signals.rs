use linux_clone_syscalls::{Failure, Result};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

/// Blocks every signal of the calling thread until it is dropped.
///
/// A child inherits the mask, so that no handler of the parent's can run in it.
#[derive(Debug)]
pub struct Blocked {
    before: SigSet,
}

impl Blocked {
    pub fn all() -> Result<Self> {
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))
            .map_err(|errno| Failure::new("rt_sigprocmask", errno))?;
        Ok(Self { before })
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // Restoring a mask that the kernel gave us cannot fail.
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}
