//! What makes, moves and tries out processes and threads with namespaces; it knows nothing of Node-API.

mod child;
mod disposable;
mod failure;
mod park;
mod plan;
mod probe;
mod shared;
mod signals;
mod subordinate;
mod tasks;
mod threads;

pub use failure::ThreadFailure;
pub use probe::{Finding, Obstacle, probe};
pub use threads::{WorkingDirectory, align_all, setns_all, unshare_all};
