//! What a child tells its parent of a step that failed, where it cannot allocate.
//!
//! # Safety
//!
//! A child is a copy of its parent, or shares its memory: what the parent has prepared is at the same addresses in both.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::ptr;

use linux_clone_syscalls::Failure;

use crate::failure::{Step, StepFailure};
use crate::plan::Row;

#[derive(Clone, Copy, Debug)]
pub struct Failed {
    step: Step,
    pub failure: Failure,
    path: Option<*const CStr>,
    dest: Option<*const CStr>,
}

impl Failed {
    pub fn of(step: Step, failure: Failure) -> Self {
        Self { step, failure, path: None, dest: None }
    }

    pub fn at(step: Step, failure: Failure, path: &CStr) -> Self {
        Self { path: Some(ptr::from_ref(path)), ..Self::of(step, failure) }
    }

    pub fn in_row(row: &Row<'_>, failure: Failure) -> Self {
        let [path, dest] = [row.path, row.dest].map(|path| path.map(ptr::from_ref));
        Self { path, dest, ..Self::of(row.step, failure) }
    }

    /// In the parent.
    ///
    /// # Safety
    ///
    /// What the paths were given as is alive.
    pub unsafe fn told(self) -> StepFailure {
        // SAFETY: as the caller promises.
        let text = |path: *const CStr| unsafe { &*path }.to_string_lossy().into_owned();
        let (path, dest) = (self.path.map(text), self.dest.map(text));
        StepFailure { path, dest, ..StepFailure::of(self.step, self.failure) }
    }
}
