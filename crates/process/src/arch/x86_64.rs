//! x86-64.
//!
//! # Safety
//!
//! System calls as `syscall` makes them: it changes rax, rcx and r11 alone. r12 holds the caller's stack pointer over the
//! call, in the child as in the parent.
#![allow(unsafe_code)]

use std::arch::asm;
use std::ffi::{c_int, c_void};

use linux_clone_syscalls::clone3::Arguments;

use super::{CloneArguments, Wait};

#[allow(clippy::cast_possible_truncation, reason = "this processor's words have 64 bits")]
const CLONE: isize = libc::SYS_clone as isize;
#[allow(clippy::cast_possible_truncation, reason = "as above")]
const CLONE3: isize = libc::SYS_clone3 as isize;

/// Bytes of the instruction.
const LENGTH_OF_SYSCALL: i64 = 2;

/// clone3(2) on the stack that `arguments` names, which the child leaves at once for its copy of the caller's own.
///
/// # Safety
///
/// The arguments are a struct `clone_args` of this size whose stack is mapped. Without `CLONE_VM`: else the child would
/// run on the caller's stack itself. What the child may do then is what fork(2) allows.
pub unsafe fn clone3(arguments: *const Arguments, size: usize) -> isize {
    let result: isize;
    // SAFETY: as the caller promises; both processes leave with the stack pointer that they entered with.
    unsafe {
        asm!(
            "mov r12, rsp",
            "syscall",
            "mov rsp, r12",
            inlateout("rax") CLONE3 => result,
            in("rdi") arguments,
            in("rsi") size,
            out("rcx") _,
            out("r11") _,
            out("r12") _,
        );
    }
    result
}

/// clone(2), as [`clone3`].
///
/// # Safety
///
/// As [`clone3`].
pub unsafe fn clone(arguments: &CloneArguments) -> isize {
    let result: isize;
    // SAFETY: as the caller promises; both processes leave with the stack pointer that they entered with.
    unsafe {
        asm!(
            "mov r12, rsp",
            "syscall",
            "mov rsp, r12",
            inlateout("rax") CLONE => result,
            in("rdi") arguments.flags,
            in("rsi") arguments.stack_top,
            in("rdx") arguments.parent_tid,
            in("r10") arguments.child_tid,
            in("r8") arguments.thread_pointer,
            out("rcx") _,
            out("r11") _,
            out("r12") _,
        );
    }
    result
}

/// clone3(2) whose child calls `entry` on the stack that `arguments` names.
///
/// # Safety
///
/// The arguments are a struct `clone_args` of this size whose stack is mapped and not in use; `entry` does what a child that
/// shares memory may do, with `data`.
pub unsafe fn clone3_calling(
    arguments: *const Arguments,
    size: usize,
    entry: extern "C" fn(*mut c_void) -> c_int,
    data: *mut c_void,
) -> isize {
    let result: isize;
    // SAFETY: as the caller promises; the child never leaves the block, and the parent's stack is not the child's.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "mov edi, eax",
            "mov eax, {exit}",
            "syscall",
            "2:",
            exit = const libc::SYS_exit_group,
            inlateout("rax") CLONE3 => result,
            in("rdi") arguments,
            in("rsi") size,
            in("r12") entry,
            in("r13") data,
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// Makes a thread whose stack pointer is a signal's frame, and whose first act is to return from that signal.
///
/// # Safety
///
/// `stack_top` is the frame of a thread that does not exist in this process, interrupted by a signal, and the other
/// arguments are those of this thread.
pub unsafe fn resume(arguments: &CloneArguments) -> isize {
    let result: isize;
    // SAFETY: as the caller promises; the new thread never leaves the block, as rt_sigreturn(2) does not return.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov eax, {rt_sigreturn}",
            "syscall",
            "2:",
            rt_sigreturn = const libc::SYS_rt_sigreturn,
            inlateout("rax") CLONE => result,
            in("rdi") arguments.flags,
            in("rsi") arguments.stack_top,
            in("rdx") arguments.parent_tid,
            in("r10") arguments.child_tid,
            in("r8") arguments.thread_pointer,
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// What rt_sigreturn(2) wants the stack pointer to be: behind the handler's return address stands the `ucontext_t`.
pub fn signal_frame(_: *mut libc::siginfo_t, context: *mut c_void) -> *mut c_void {
    context
}

/// The thread pointer, which glibc and musl keep in its first word too.
pub fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: reads a word of the calling thread's own.
    unsafe { asm!("mov {}, fs:0", out(reg) pointer, options(nostack, readonly, preserves_flags)) };
    pointer
}

/// Whether a thread was interrupted in a system call that waited, with the word if it was futex(2), and where it stood else.
///
/// # Safety
///
/// `context` is the `ucontext_t` of a thread that waits in its handler.
pub unsafe fn was_in_system_call(context: *const c_void) -> Result<Option<usize>, usize> {
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    // SAFETY: as the caller promises.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    #[allow(clippy::cast_possible_truncation, reason = "this processor's words have 64 bits")]
    let (counter, result) =
        (registers[libc::REG_RIP as usize].cast_unsigned() as usize, registers[libc::REG_RAX as usize]);
    // SAFETY: the instruction that the thread goes on with is mapped.
    let next = unsafe { (counter as *const [u8; 2]).read_unaligned() };
    // SAFETY: no text begins at a page's first byte with the instruction behind a system call.
    let last = unsafe { ((counter - 2) as *const [u8; 2]).read_unaligned() };
    let arguments = [libc::REG_RDI as usize, libc::REG_RSI as usize, libc::REG_RDX as usize];
    let arguments = arguments.map(|name| registers[name]);
    // SAFETY: as the caller promises.
    let restarts = next == SYSCALL && unsafe { super::only_waits(result, arguments) };
    let was_interrupted = last == SYSCALL && result == -i64::from(libc::EINTR);
    if !restarts && !was_interrupted {
        return Err(counter);
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an address")]
    Ok((restarts && result == libc::SYS_futex).then_some(arguments[0] as usize))
}

/// Where the stack of an interrupted thread ends.
///
/// # Safety
///
/// As [`was_in_system_call`].
pub unsafe fn stack_pointer(context: *const c_void) -> usize {
    // SAFETY: as the caller promises.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    #[allow(clippy::cast_possible_truncation, reason = "this processor's words have 64 bits")]
    let pointer = registers[libc::REG_RSP as usize].cast_unsigned() as usize;
    pointer
}

/// What an interrupted thread waits for without a limit: a futex(2) that it is to call again, or epoll's wait.
///
/// # Safety
///
/// As [`was_in_system_call`].
pub unsafe fn unlimited_wait(context: *const c_void) -> Option<Wait> {
    // SAFETY: as the caller promises.
    let waits = unsafe { was_in_system_call(context) }.ok()?;
    // SAFETY: as the caller promises.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let names = [libc::REG_RDI, libc::REG_RSI, libc::REG_RDX, libc::REG_R10, libc::REG_R8, libc::REG_R9];
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "this processor's words have 64 bits; indices"
    )]
    let arguments = names.map(|name| registers[name as usize].cast_unsigned() as usize);
    if waits.is_some() {
        let has_limit = arguments[super::LIMIT_OF_FUTEX] != 0;
        return (!has_limit).then_some(Wait {
            call: libc::SYS_futex,
            arguments,
            resumes_at: LENGTH_OF_SYSCALL,
        });
    }
    if registers[libc::REG_RAX as usize] != -i64::from(libc::EINTR) {
        return None;
    }
    #[allow(clippy::cast_possible_truncation, reason = "this processor's words have 64 bits")]
    let counter = registers[libc::REG_RIP as usize].cast_unsigned() as usize;
    // SAFETY: no text begins within so few bytes of a system call.
    let code = unsafe { ((counter - LENGTH_OF_WRAPPER) as *const [u8; LENGTH_OF_WRAPPER]).read_unaligned() };
    let call = EPOLL.into_iter().find(|call| {
        let [n0, n1, n2, n3, ..] = call.to_le_bytes();
        code.windows(5).any(|instruction| instruction == [0xb8, n0, n1, n2, n3])
    })?;
    #[allow(clippy::cast_possible_truncation, reason = "an int of C's")]
    let has_limit = !(arguments[LIMIT_OF_EPOLL] as u32).cast_signed().is_negative();
    (!has_limit).then_some(Wait { call, arguments, resumes_at: 0 })
}

const EPOLL: [libc::c_long; 2] = [libc::SYS_epoll_wait, libc::SYS_epoll_pwait];

/// Which of its arguments says how long it may take.
const LIMIT_OF_EPOLL: usize = 3;

/// Bytes in which a call has its number put into eax, which its result has taken the place of, and is made.
const LENGTH_OF_WRAPPER: usize = 16;

/// Has an interrupted thread go on with the result of what it waited for.
///
/// # Safety
///
/// The context is that of the calling handler, and [`unlimited_wait`] has told what it waits for.
pub unsafe fn return_from(wait: &Wait, context: *mut c_void, result: libc::c_long) {
    // SAFETY: as the caller promises.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    registers[libc::REG_RAX as usize] = result;
    registers[libc::REG_RIP as usize] += wait.resumes_at;
}
