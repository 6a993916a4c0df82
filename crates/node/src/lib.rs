//! Converts JavaScript's values to Rust's and back; what JavaScript sees of it is `src/`, which has checked the values.
//!
//! A failed system call is returned as a [`failure::Failure`]: `src/` makes the error that is thrown.

mod child;
mod clone;
mod constants;
mod convert;
mod event_loop;
mod failure;
mod namespaces;
mod nsfs;
mod probe;
mod spawn;
mod system_calls;
