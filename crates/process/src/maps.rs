//! What is mapped where.
//!
//! # Safety
//!
//! One question to the libc.
#![allow(unsafe_code)]

use std::fs;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The mappings of this process that can be read, in order.
#[derive(Debug)]
pub struct Maps {
    readable: Vec<Range<usize>>,
}

impl Maps {
    /// Empty where there is no /proc.
    pub fn of_this_process() -> Self {
        let text = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let readable = text.lines().filter_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            rest.starts_with('r').then(|| parse(range)).flatten()
        });
        Self { readable: readable.collect() }
    }

    /// The mapping that holds an address.
    pub fn of(&self, address: usize) -> Option<&Range<usize>> {
        let after = self.readable.partition_point(|range| range.end <= address);
        self.readable.get(after).filter(|range| range.contains(&address))
    }
}

fn parse(range: &str) -> Option<Range<usize>> {
    let (start, end) = range.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

/// Asked for once: a copy would run code of the libc's for it that it does not run otherwise.
pub fn page_size() -> usize {
    static SIZE: AtomicUsize = AtomicUsize::new(0);
    match SIZE.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: an integer.
            let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
            let size = usize::try_from(size).unwrap_or(4096);
            SIZE.store(size, Ordering::Relaxed);
            size
        }
        known => known,
    }
}
