//! What makes, moves and tries out processes and threads with namespaces; it knows nothing of Node-API.

mod arch;
mod child;
mod disposable;
pub mod duplicate;
pub mod event_loop;
mod failed;
mod failure;
mod gate;
mod guard;
pub mod id_maps;
mod maps;
mod mounts;
mod objects;
mod park;
mod plan;
mod probe;
mod random;
pub mod setup;
mod shared;
mod signals;
pub mod spawn;
mod subordinate;
mod tasks;
mod threads;
mod uv;
mod wait;
mod wide_pipe;

pub use failure::{Step, StepFailure, ThreadFailure};
pub use guard::{exit_now, guard};
pub use mounts::Mount;
pub use park::expect_no_inspector;
pub use probe::{Finding, Obstacle, probe};
pub use random::fill_random;
pub use threads::{WorkingDirectory, align_all, setns_all, setup_all, unshare_all};
pub use wait::{ExitStatus, end, wait, wait_for_program, write_all};
pub use wide_pipe::wide_pipe;
