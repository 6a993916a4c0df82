//! What is loaded from files.
//!
//! # Safety
//!
//! The dynamic linker calls our functions with what it knows of each object, one after another, while we wait.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is loaded as code from files: who is interrupted elsewhere runs compiled JavaScript, and holds no lock.
#[derive(Debug, Default)]
pub struct Code {
    ranges: Vec<Range<usize>>,
    /// How often libraries have been loaded and unloaded.
    changes: (u64, u64),
}

impl Code {
    /// Read again only where it has changed.
    pub fn loaded() -> MutexGuard<'static, Self> {
        static CODE: Mutex<Code> = Mutex::new(Code { ranges: Vec::new(), changes: (0, 0) });
        let mut code = CODE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = (0_u64, 0_u64);
        // SAFETY: the function is called with our numbers, while we wait.
        unsafe { libc::dl_iterate_phdr(Some(count_changes), (&raw mut changes).cast()) };
        if code.changes != changes || code.ranges.is_empty() {
            code.changes = changes;
            code.ranges.clear();
            // SAFETY: the function is called with our vector, while we wait.
            unsafe { libc::dl_iterate_phdr(Some(add_code), (&raw mut code.ranges).cast()) };
        }
        code
    }

    pub fn holds(&self, address: usize) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }
}

unsafe extern "C" fn count_changes(
    info: *mut libc::dl_phdr_info,
    _: usize,
    changes: *mut c_void,
) -> libc::c_int {
    // SAFETY: `loaded` passes its numbers.
    let changes = unsafe { &mut *changes.cast::<(u64, u64)>() };
    // SAFETY: what dl_iterate_phdr(3) passes lives during the call.
    let info = unsafe { &*info };
    *changes = (info.dlpi_adds, info.dlpi_subs);
    // The first knows it.
    1
}

unsafe extern "C" fn add_code(info: *mut libc::dl_phdr_info, _: usize, ranges: *mut c_void) -> libc::c_int {
    // SAFETY: `loaded` passes its vector.
    let ranges = unsafe { &mut *ranges.cast::<Vec<Range<usize>>>() };
    // SAFETY: what dl_iterate_phdr(3) passes lives during the call.
    let info = unsafe { &*info };
    // SAFETY: as above.
    ranges.extend(unsafe { segments(info, is_code) });
    0
}

/// The data of the object that has been loaded with an address in it, and with that changes.
pub fn data_beside(address: usize) -> Vec<Range<usize>> {
    segments_beside(address, |rights| rights & libc::PF_W != 0)
}

/// What cannot be written of that object.
pub fn constants_beside(address: usize) -> Vec<Range<usize>> {
    segments_beside(address, |rights| rights & libc::PF_W == 0)
}

fn segments_beside(address: usize, has: fn(libc::Elf64_Word) -> bool) -> Vec<Range<usize>> {
    let mut search = Search { address, has, found: Vec::new() };
    // SAFETY: the function is called with our search, while we wait.
    unsafe { libc::dl_iterate_phdr(Some(find_segments), (&raw mut search).cast()) };
    search.found
}

struct Search {
    address: usize,
    has: fn(libc::Elf64_Word) -> bool,
    found: Vec<Range<usize>>,
}

unsafe extern "C" fn find_segments(
    info: *mut libc::dl_phdr_info,
    _: usize,
    search: *mut c_void,
) -> libc::c_int {
    // SAFETY: `segments_beside` passes its search.
    let search = unsafe { &mut *search.cast::<Search>() };
    // SAFETY: what dl_iterate_phdr(3) passes lives during the call.
    let info = unsafe { &*info };
    // SAFETY: as above.
    let is_it = unsafe { segments(info, is_code) }.any(|range| range.contains(&search.address));
    if is_it {
        // SAFETY: as above.
        search.found.extend(unsafe { segments(info, search.has) });
    }
    libc::c_int::from(is_it)
}

fn is_code(rights: libc::Elf64_Word) -> bool {
    rights & libc::PF_X != 0
}

/// What is loaded of an object with these rights.
///
/// # Safety
///
/// What dl_iterate_phdr(3) passes.
unsafe fn segments(
    info: &libc::dl_phdr_info,
    has: fn(libc::Elf64_Word) -> bool,
) -> impl Iterator<Item = Range<usize>> {
    // SAFETY: it has as many headers.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let loaded = headers.iter().filter(move |header| header.p_type == libc::PT_LOAD && has(header.p_flags));
    loaded.map(|header| {
        #[allow(clippy::cast_possible_truncation, reason = "addresses of this process")]
        let (start, length) = ((info.dlpi_addr + header.p_vaddr) as usize, header.p_memsz as usize);
        start..start + length
    })
}
