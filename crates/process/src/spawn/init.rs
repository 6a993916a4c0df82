//! Pid 1 of a new pid namespace: it reaps orphans, passes signals on to the program, and ends with it.
//!
//! A program that is root of its user namespace can trace it, and have it do what the program's own filter, limits and
//! capabilities forbid. So it can do nothing but what it has to.
//!
//! It outlives the set-up, and must not stay in the memory of the parent, which it shares until then. So it executes this
//! library's own code, which is copied into a file in memory once: a static program as the kernel sees it, that needs no
//! file system, no libc and no relocation, and a few pages.
//!
//! # Safety
//!
//! What runs as pid 1 is everything from `start` on: system calls alone, without the libc, statics that are written, panics,
//! copies that a compiler makes by calling memcpy(3), or functions of other crates, which a debug build calls by a table,
//! since nothing has linked it.
#![allow(unsafe_code)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers are what registers hold"
)]

use std::ffi::{c_int, c_long, c_uint};
use std::mem::MaybeUninit;
use std::ptr;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub use executable::{enter, image};

/// Whether the code can be executed on its own on this processor; else a copy of this process runs it.
pub const IS_EXECUTABLE: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

#[cfg(target_arch = "x86_64")]
unsafe fn system_call(number: c_long, arguments: [usize; 5]) -> isize {
    let result: isize;
    let [first, second, third, fourth, fifth] = arguments;
    // SAFETY: the caller says what the call may do to memory.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            in("r8") fifth,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn system_call(number: c_long, arguments: [usize; 5]) -> isize {
    let result: isize;
    let [first, second, third, fourth, fifth] = arguments;
    // SAFETY: the caller says what the call may do to memory.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") first => result,
            in("x1") second,
            in("x2") third,
            in("x3") fourth,
            in("x4") fifth,
            options(nostack),
        );
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn system_call(number: c_long, arguments: [usize; 5]) -> isize {
    let [first, second, third, fourth, fifth] = arguments;
    // SAFETY: the caller says what the call may do to memory.
    let result = unsafe { libc::syscall(number, first, second, third, fourth, fifth) };
    if result < 0 { -1 } else { result as isize }
}

/// As the kernel's siginfo_t begins, and as long as it is.
#[repr(C)]
struct SignalInformation {
    signal: c_int,
    errno: c_int,
    code: c_int,
    rest: [c_int; 29],
}

/// Runs as pid 1 until `program` has ended, and writes its wait status to `report`. Every signal is blocked. The program
/// waits for `ready`, an eventfd: it is to find nothing of the parent's here.
pub fn run(program: c_int, report: c_int, ready: c_int) -> ! {
    // SAFETY: a C string of fewer than 16 bytes.
    unsafe { system_call(libc::SYS_prctl, [libc::PR_SET_NAME as usize, c"init".as_ptr() as usize, 0, 0, 0]) };
    close_all_but(report, ready);
    give_up_privileges();
    let one: u64 = 1;
    // SAFETY: the bytes of an integer.
    unsafe {
        system_call(libc::SYS_write, [ready as usize, &raw const one as usize, size_of::<u64>(), 0, 0])
    };
    // SAFETY: integers only.
    unsafe { system_call(libc::SYS_close, [ready as usize, 0, 0, 0, 0]) };
    loop {
        reap(program, report);
        let signal = next_signal();
        if signal > 0 && signal != libc::SIGCHLD {
            // SAFETY: integers only.
            unsafe { system_call(libc::SYS_kill, [program as usize, signal as usize, 0, 0, 0]) };
        }
    }
}

/// Its own calls, which are all that [`FILTER`] allows.
const CALLS: [c_long; 6] = [
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_kill,
    libc::SYS_wait4,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_exit_group,
];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(target_arch = "arm")]
const ARCHITECTURE: u32 = 0x4000_0028;
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: u32 = 0xc000_00f3;
#[cfg(target_arch = "s390x")]
const ARCHITECTURE: u32 = 0x8000_0016;
#[cfg(target_arch = "powerpc64")]
const ARCHITECTURE: u32 = 0xc000_0015;

/// Calls by the numbers of the processor's other modes are none of these, nor are x32's.
static FILTER: [libc::sock_filter; 4 + CALLS.len() + 1] = filter();

const fn filter() -> [libc::sock_filter; 4 + CALLS.len() + 1] {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const fn instruction(code: u16, yes: u8, no: u8, k: u32) -> libc::sock_filter {
        libc::sock_filter { code, jt: yes, jf: no, k }
    }
    let last = 3 + CALLS.len();
    let refuse = instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    let mut filter = [refuse; 4 + CALLS.len() + 1];
    // Of struct seccomp_data: the architecture is the second word, the number of the call the first.
    filter[0] = instruction(LOAD, 0, 0, 4);
    filter[1] = instruction(EQUAL, 0, last as u8 - 2, ARCHITECTURE);
    filter[2] = instruction(LOAD, 0, 0, 0);
    let mut index = 0;
    while index < CALLS.len() {
        let place = 3 + index;
        filter[place] = instruction(EQUAL, (last - place) as u8, 0, CALLS[index] as u32);
        index += 1;
    }
    filter[last + 1] = instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);
    filter
}

/// Where the kernel has no filters, or another one forbids them, it is capabilities that are given up alone, all but the one
/// for signals.
fn give_up_privileges() {
    const VERSION_3: u32 = 0x2008_0522;
    const KILL: u32 = 1 << 5;
    let header: [u32; 2] = [VERSION_3, 0];
    let sets: [u32; 6] = [KILL, KILL, 0, 0, 0, 0];
    let program =
        libc::sock_fprog { len: FILTER.len() as u16, filter: (&raw const FILTER).cast_mut().cast() };
    // SAFETY: structures as the kernel has them.
    unsafe {
        system_call(libc::SYS_capset, [&raw const header as usize, &raw const sets as usize, 0, 0, 0]);
    }
    // SAFETY: integers only.
    unsafe { system_call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0]) };
    let mode = libc::SECCOMP_MODE_FILTER as usize;
    // SAFETY: the program is as the kernel has it.
    unsafe {
        system_call(libc::SYS_prctl, [libc::PR_SET_SECCOMP as usize, mode, &raw const program as usize, 0, 0])
    };
}

/// Neither the parent's descriptors nor the program's are held open.
fn close_all_but(one: c_int, other: c_int) {
    let (low, high) = if one < other { (one, other) } else { (other, one) };
    let (low, high) = (low.cast_unsigned(), high.cast_unsigned());
    let close = |first: c_uint, last: c_uint| {
        if first > last {
            return 0;
        }
        // SAFETY: integers only.
        unsafe { system_call(libc::SYS_close_range, [first as usize, last as usize, 0, 0, 0]) }
    };
    if low > 0 {
        close(0, low.wrapping_sub(1));
    }
    close(low.wrapping_add(1), high.wrapping_sub(1));
    if close(high.wrapping_add(1), c_uint::MAX) == 0 {
        return;
    }
    // Before Linux 5.9.
    let mut descriptor = 0;
    while descriptor < 1024 {
        if descriptor != low && descriptor != high {
            // SAFETY: integers only.
            unsafe { system_call(libc::SYS_close, [descriptor as usize, 0, 0, 0, 0]) };
        }
        descriptor = descriptor.wrapping_add(1);
    }
}

/// Waits for a signal: 0 where it is not to be passed on, since the kernel has sent it to the whole group.
fn next_signal() -> c_int {
    let all = u64::MAX;
    let mut information = MaybeUninit::<SignalInformation>::uninit();
    let place = information.as_mut_ptr();
    let none: *const libc::timespec = ptr::null();
    // SAFETY: the set and the structure are as the kernel has them.
    let signal = unsafe {
        system_call(
            libc::SYS_rt_sigtimedwait,
            [&raw const all as usize, place as usize, none as usize, size_of::<u64>(), 0],
        )
    };
    if signal <= 0 {
        return 0;
    }
    // SAFETY: the kernel has filled it in.
    let code = unsafe { (*place).code };
    if code <= 0 { signal as c_int } else { 0 }
}

/// Reaps whatever has ended.
fn reap(program: c_int, report: c_int) {
    loop {
        let mut status: c_int = 0;
        let options = (libc::WNOHANG | libc::__WALL) as usize;
        let usage: *mut libc::rusage = ptr::null_mut();
        // SAFETY: the kernel writes the status.
        let pid = unsafe {
            system_call(libc::SYS_wait4, [usize::MAX, &raw mut status as usize, options, usage as usize, 0])
        };
        if pid <= 0 {
            return;
        }
        if pid as c_int == program {
            // SAFETY: the bytes of an integer.
            unsafe {
                system_call(
                    libc::SYS_write,
                    [report as usize, &raw const status as usize, size_of::<c_int>(), 0, 0],
                )
            };
            let signal = status & 0x7f;
            let code = if signal == 0 { status >> 8 & 0xff } else { 128 | signal };
            exit(code);
        }
    }
}

fn exit(code: c_int) -> ! {
    loop {
        // SAFETY: integers only.
        unsafe { system_call(libc::SYS_exit_group, [code as usize, 0, 0, 0, 0]) };
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod executable {
    use std::ffi::{c_char, c_int, c_uint, c_void};
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
    use std::ptr;
    use std::slice;
    use std::sync::OnceLock;

    use linux_clone_syscalls::{Errno, Failure, Result};

    /// Where the kernel enters the program: the stack pointer is at the count of arguments.
    #[cfg(target_arch = "x86_64")]
    #[unsafe(naked)]
    unsafe extern "C" fn start() -> ! {
        std::arch::naked_asm!("xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {}", "ud2", sym main)
    }

    /// Where the kernel enters the program: the stack pointer is at the count of arguments.
    #[cfg(target_arch = "aarch64")]
    #[unsafe(naked)]
    unsafe extern "C" fn start() -> ! {
        std::arch::naked_asm!("mov x29, xzr", "mov x0, sp", "bl {}", "brk 1", sym main)
    }

    /// The arguments are the program's pid, the descriptor for its status and the one that it waits for.
    unsafe extern "C" fn main(stack: *const usize) -> ! {
        // SAFETY: behind the count: the name, then these three.
        let program = unsafe { argument(stack, 2) };
        // SAFETY: as above.
        let report = unsafe { argument(stack, 3) };
        // SAFETY: as above.
        let ready = unsafe { argument(stack, 4) };
        super::run(program, report, ready)
    }

    /// # Safety
    ///
    /// The word of the stack points to a C string of digits.
    unsafe fn argument(stack: *const usize, index: usize) -> c_int {
        let place = stack.wrapping_add(index);
        // SAFETY: as the caller promises.
        let mut text = unsafe { *place } as *const u8;
        let mut number: c_int = 0;
        loop {
            // SAFETY: within the string, or at its end.
            let byte = unsafe { *text };
            if byte == 0 {
                return number;
            }
            number = number.wrapping_mul(10).wrapping_add(c_int::from(byte.wrapping_sub(b'0')));
            text = text.wrapping_add(1);
        }
    }

    /// The program, in a file in memory that nobody can change.
    pub fn image() -> Result<BorrowedFd<'static>> {
        static IMAGE: OnceLock<OwnedFd> = OnceLock::new();
        if let Some(image) = IMAGE.get() {
            return Ok(image.as_fd());
        }
        let made = make_image()?;
        Ok(IMAGE.get_or_init(|| made).as_fd())
    }

    fn make_image() -> Result<OwnedFd> {
        let file = memory_file()?;
        let mut result = Err(Failure::new("dl_iterate_phdr", Errno::ENOEXEC));
        let mut copy = |object: &libc::dl_phdr_info| {
            if holds_start(object) {
                result = copy_object(object, &file);
            }
        };
        let mut copy: &mut dyn FnMut(&libc::dl_phdr_info) = &mut copy;
        // SAFETY: the callback is given its own data, during this call.
        unsafe { libc::dl_iterate_phdr(Some(on_object), (&raw mut copy).cast()) };
        result?;
        let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
        // SAFETY: integers only.
        let sealed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
        Errno::result(sealed).map(|_| file).map_err(|errno| Failure::new("fcntl", errno))
    }

    fn memory_file() -> Result<OwnedFd> {
        const MFD_EXEC: c_uint = 0x10;
        let create = |flags: c_uint| {
            // SAFETY: a C string, and an integer.
            let fd = unsafe { libc::syscall(libc::SYS_memfd_create, c"linux-clone-init".as_ptr(), flags) };
            Errno::result(fd)
        };
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // Before Linux 6.3 every such file can be executed, and the flag is unknown.
        let fd = match create(flags | MFD_EXEC) {
            Err(Errno::EINVAL) => create(flags),
            created => created,
        };
        // SAFETY: the kernel has just made it.
        fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
            .map_err(|errno| Failure::new("memfd_create", errno))
    }

    unsafe extern "C" fn on_object(object: *mut libc::dl_phdr_info, _: usize, data: *mut c_void) -> c_int {
        // SAFETY: the libc describes a loaded object.
        let object = unsafe { &*object };
        // SAFETY: what `make_image` has passed.
        let callback = unsafe { &mut *data.cast::<&mut dyn FnMut(&libc::dl_phdr_info)>() };
        callback(object);
        0
    }

    fn segments(object: &libc::dl_phdr_info) -> &[libc::Elf64_Phdr] {
        // SAFETY: the libc gives the object's own table.
        unsafe { slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) }
    }

    fn is_copied(segment: &libc::Elf64_Phdr) -> bool {
        segment.p_type == libc::PT_LOAD && segment.p_flags & libc::PF_W == 0
    }

    fn holds_start(object: &libc::dl_phdr_info) -> bool {
        let start = start as *const () as usize;
        segments(object).iter().filter(|segment| is_copied(segment)).any(|segment| {
            let begin = object.dlpi_addr as usize + segment.p_vaddr as usize;
            (begin..begin + segment.p_memsz as usize).contains(&start)
        })
    }

    /// Copies what is only read and executed, and makes `start` the entry; the rest of the table is struck out.
    fn copy_object(object: &libc::dl_phdr_info, file: &OwnedFd) -> Result<()> {
        let base = object.dlpi_addr as usize;
        let segments = segments(object);
        for segment in segments.iter().filter(|segment| is_copied(segment)) {
            let begin = (base + segment.p_vaddr as usize) as *const u8;
            // SAFETY: a segment that is mapped to be read, for the life of the object.
            let bytes = unsafe { slice::from_raw_parts(begin, segment.p_filesz as usize) };
            write_at(file, bytes, segment.p_offset)?;
        }
        let first = segments.iter().find(|segment| is_copied(segment) && segment.p_offset == 0);
        let first = first.ok_or(Failure::new("dl_iterate_phdr", Errno::ENOEXEC))?;
        // SAFETY: an object's first segment begins with its header.
        let mut header = unsafe { ((base + first.p_vaddr as usize) as *const libc::Elf64_Ehdr).read() };
        header.e_entry = (start as *const () as usize - base) as u64;
        (header.e_shoff, header.e_shnum, header.e_shstrndx) = (0, 0, 0);
        for (index, segment) in segments.iter().enumerate() {
            if !is_copied(segment) && segment.p_type != libc::PT_GNU_STACK {
                let struck_out = libc::Elf64_Phdr { p_type: libc::PT_NULL, ..*segment };
                let place = header.e_phoff + (index * size_of::<libc::Elf64_Phdr>()) as u64;
                write_at(file, bytes_of(&struck_out), place)?;
            }
        }
        write_at(file, bytes_of(&header), 0)
    }

    fn bytes_of<T>(value: &T) -> &[u8] {
        // SAFETY: structures of integers without gaps.
        unsafe { slice::from_raw_parts(ptr::from_ref(value).cast(), size_of::<T>()) }
    }

    fn write_at(file: &OwnedFd, mut bytes: &[u8], mut place: u64) -> Result<()> {
        while !bytes.is_empty() {
            // SAFETY: the bytes are mapped.
            let written = unsafe {
                libc::pwrite(file.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), place.cast_signed())
            };
            let written = Errno::result(written).map_err(|errno| Failure::new("pwrite", errno))?;
            bytes = &bytes[written.cast_unsigned()..];
            place += written.cast_unsigned() as u64;
        }
        Ok(())
    }

    /// In the child: becomes init, or says why not.
    pub fn enter(image: BorrowedFd<'_>, program: c_int, report: RawFd, ready: RawFd) -> Failure {
        for kept in [report, ready] {
            // SAFETY: integers only.
            if unsafe { libc::fcntl(kept, libc::F_SETFD, 0) } < 0 {
                return Failure::new("fcntl", Errno::last());
            }
        }
        let mut digits = [[0; DIGITS]; 3];
        let [first, second, third] = &mut digits;
        let argv = [
            c"init".as_ptr(),
            write_digits(program, first),
            write_digits(report, second),
            write_digits(ready, third),
            ptr::null(),
        ];
        let envp: [*const c_char; 1] = [ptr::null()];
        let (argv, envp, path) = (argv.as_ptr(), envp.as_ptr(), c"".as_ptr());
        let flags = libc::AT_EMPTY_PATH;
        // SAFETY: arrays of C strings that end with null.
        unsafe { libc::syscall(libc::SYS_execveat, image.as_raw_fd(), path, argv, envp, flags) };
        Failure::new("execveat", Errno::last())
    }

    const DIGITS: usize = 12;

    /// From the end, where a NUL byte stays.
    fn write_digits(number: c_int, place: &mut [u8; DIGITS]) -> *const c_char {
        let mut rest = number.unsigned_abs();
        let mut begin = DIGITS - 1;
        for (index, digit) in place.iter_mut().enumerate().rev().skip(1) {
            let value = (rest % 10) as u8;
            *digit = b'0' + value;
            rest /= 10;
            begin = index;
            if rest == 0 {
                break;
            }
        }
        place.as_ptr().wrapping_add(begin).cast()
    }
}
