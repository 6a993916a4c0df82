//! aarch64.
//!
//! # Safety
//!
//! System calls as `svc` makes them: it changes x0 alone. x9 holds the caller's stack pointer over the call, in the child as
//! in the parent.
#![allow(unsafe_code)]

use std::arch::asm;
use std::ffi::{c_int, c_void};

use linux_clone_syscalls::clone3::Arguments;

use super::{CloneArguments, Wait};

/// Bytes of the instruction.
const LENGTH_OF_SVC: i64 = 4;

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
            "mov x9, sp",
            "svc 0",
            "mov sp, x9",
            in("x8") libc::SYS_clone3,
            inlateout("x0") arguments => result,
            in("x1") size,
            out("x9") _,
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
            "mov x9, sp",
            "svc 0",
            "mov sp, x9",
            in("x8") libc::SYS_clone,
            inlateout("x0") arguments.flags => result,
            in("x1") arguments.stack_top,
            in("x2") arguments.parent_tid,
            in("x3") arguments.thread_pointer,
            in("x4") arguments.child_tid,
            out("x9") _,
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
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x10",
            "blr x9",
            "mov x8, {exit}",
            "svc 0",
            "2:",
            exit = const libc::SYS_exit_group,
            in("x8") libc::SYS_clone3,
            inlateout("x0") arguments => result,
            in("x1") size,
            in("x9") entry,
            in("x10") data,
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
            "svc 0",
            "cbnz x0, 2f",
            "mov x8, {rt_sigreturn}",
            "svc 0",
            "2:",
            rt_sigreturn = const libc::SYS_rt_sigreturn,
            inlateout("x8") libc::SYS_clone => _,
            inlateout("x0") arguments.flags => result,
            in("x1") arguments.stack_top,
            in("x2") arguments.parent_tid,
            in("x3") arguments.thread_pointer,
            in("x4") arguments.child_tid,
        );
    }
    result
}

/// What rt_sigreturn(2) wants the stack pointer to be: the frame begins with the `siginfo_t`.
pub fn signal_frame(info: *mut libc::siginfo_t, _: *mut c_void) -> *mut c_void {
    info.cast()
}

/// The thread pointer.
pub fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, tpidr_el0", out(reg) pointer, options(nostack, nomem, preserves_flags)) };
    pointer
}

/// Whether a thread was interrupted in a system call that waited, with the word if it was futex(2), and where it stood else.
///
/// # Safety
///
/// `context` is the `ucontext_t` of a thread that waits in its handler.
pub unsafe fn was_in_system_call(context: *const c_void) -> Result<Option<usize>, usize> {
    const SVC: u32 = 0xd400_0001;
    // SAFETY: as the caller promises.
    let machine = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
    let (counter, result, call) =
        (machine.pc as usize, machine.regs[0].cast_signed(), machine.regs[8].cast_signed());
    // SAFETY: the instruction that the thread goes on with is mapped.
    let next = unsafe { (counter as *const u32).read() };
    // SAFETY: no text begins at a page's first byte with the instruction behind a system call.
    let last = unsafe { ((counter - 4) as *const u32).read() };
    let arguments = [0, 1, 2].map(|name| machine.regs[name].cast_signed());
    // SAFETY: as the caller promises.
    let restarts = next == SVC && unsafe { super::only_waits(call, arguments) };
    let was_interrupted = last == SVC && result == -i64::from(libc::EINTR);
    if !restarts && !was_interrupted {
        return Err(counter);
    }
    Ok((restarts && call == libc::SYS_futex).then_some(machine.regs[0] as usize))
}

/// Where the stack of an interrupted thread ends.
///
/// # Safety
///
/// As [`was_in_system_call`].
pub unsafe fn stack_pointer(context: *const c_void) -> usize {
    // SAFETY: as the caller promises.
    unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.sp as usize }
}

/// What an interrupted thread waits for without a limit: a futex(2) that it is to call again. Of a call that has been interrupted
/// for good the first argument is lost.
///
/// # Safety
///
/// As [`was_in_system_call`].
pub unsafe fn unlimited_wait(context: *const c_void) -> Option<Wait> {
    // SAFETY: as the caller promises.
    unsafe { was_in_system_call(context) }.ok()??;
    // SAFETY: as the caller promises.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.regs };
    let arguments: [usize; 6] = std::array::from_fn(|name| registers[name] as usize);
    let has_limit = arguments[super::LIMIT_OF_FUTEX] != 0;
    (!has_limit).then_some(Wait { call: libc::SYS_futex, arguments, resumes_at: LENGTH_OF_SVC })
}

/// Has an interrupted thread go on with the result of what it waited for.
///
/// # Safety
///
/// The context is that of the calling handler, and [`unlimited_wait`] has told what it waits for.
pub unsafe fn return_from(wait: &Wait, context: *mut c_void, result: libc::c_long) {
    // SAFETY: as the caller promises.
    let machine = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext };
    machine.regs[0] = result.cast_unsigned();
    machine.pc = machine.pc.wrapping_add_signed(wait.resumes_at);
}
