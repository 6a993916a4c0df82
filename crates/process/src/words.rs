//! Words of memory at addresses of which it is not known what is there.
//!
//! # Safety
//!
//! The kernel is asked whether a page can be read, and no other thread may unmap it meanwhile.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::ptr;

use linux_clone_syscalls::Errno;

use crate::maps::page_size;

/// Above what a process can map; the kernel's page for old system calls is there.
pub const TOP: usize = 1 << (usize::BITS - 8);

/// Words that can be written, of a process that has no other thread.
pub struct Words {
    constant: &'static [Range<usize>],
    /// Pages that can be read, and some that cannot, each in its place: its number twice, and one more where it can.
    pages: [Cell<usize>; Self::PLACES],
    page: usize,
}

impl Words {
    const PLACES: usize = 64;

    /// What is `constant` is mapped for good, and cannot be written. Does not allocate.
    pub fn new(constant: &'static [Range<usize>]) -> Self {
        Self { constant, pages: [const { Cell::new(0) }; Self::PLACES], page: page_size() }
    }

    /// Whether it may be the address of one; what cannot be is told apart without a look.
    pub fn may_be(&self, address: usize) -> bool {
        address.is_multiple_of(align_of::<usize>())
            && (self.page..TOP).contains(&address)
            && !self.constant.iter().any(|range| range.contains(&address))
    }

    /// The word at an address. Does not allocate.
    pub fn at(&self, address: usize) -> Option<usize> {
        if !self.may_be(address) {
            return None;
        }
        let page = address / self.page;
        let place = &self.pages[page % Self::PLACES];
        if place.get() >> 1 != page {
            place.set(page << 1 | usize::from(can_be_read(address)));
        }
        // SAFETY: its page can be read, and it is aligned, so that it does not go beyond the page.
        (place.get() & 1 != 0).then(|| unsafe { (address as *const usize).read_volatile() })
    }
}

fn can_be_read(address: usize) -> bool {
    /// The kernel reads the set first, and then refuses this.
    const NO_OPERATION: c_int = -1;
    const LENGTH_OF_SET: usize = 8;
    let (set, former) = (address as *const c_void, ptr::null_mut::<c_void>());
    // SAFETY: the kernel checks the address.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, NO_OPERATION, set, former, LENGTH_OF_SET) };
    Errno::last() != Errno::EFAULT
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "in a test a panic is how it fails")]

    use super::Words;
    use crate::maps::page_size;

    /// Two pages, of which nobody may read the second.
    fn pages() -> (*mut usize, usize) {
        let (page, flags) = (page_size(), libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel picks the address.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), 2 * page, access, flags, -1, 0) };
        assert_ne!(memory, libc::MAP_FAILED);
        let second = (memory as usize + page) as *mut _;
        // SAFETY: the second of the two.
        assert_eq!(unsafe { libc::mprotect(second, page, libc::PROT_NONE) }, 0);
        (memory.cast(), second as usize)
    }

    #[test]
    fn a_word_is_there_where_it_can_be_read() {
        let words = Words::new(&[]);
        let (memory, second) = pages();
        // SAFETY: the first page is ours.
        unsafe { memory.write(7) };
        assert_eq!(words.at(memory as usize), Some(7));
        assert_eq!(words.at(memory as usize + 8), Some(0));
        assert_eq!(words.at(memory as usize + 1), None, "it is not aligned");
        assert_eq!(words.at(second), None, "it cannot be read");
        for address in [0, 8, usize::MAX - 7, 1 << 62, 0x5_0000_0008] {
            assert_eq!(words.at(address), None, "nothing is mapped there: {address:x}");
        }
        // SAFETY: ours, and nobody uses it any more.
        assert_eq!(unsafe { libc::munmap(memory.cast(), 2 * page_size()) }, 0);
    }

    #[test]
    fn what_is_constant_is_passed_over() {
        static NUMBER: usize = 9;
        let address = &raw const NUMBER as usize;
        assert_eq!(Words::new(&[]).at(address), Some(9));
        let words = Words::new(vec![address..address + 8, 0..0].leak());
        assert!(!words.may_be(address));
        assert_eq!(words.at(address), None);
    }
}
