//! The constants against the kernel's headers as crates have them; those that no crate has are compared in JavaScript's tests.

use linux_clone_syscalls::{CloneFlags, Namespace, constants as ours};
use linux_raw_sys::general as kernel;

#[test]
fn clone_flags_are_the_kernels() {
    assert_eq!(ours::CLONE_NEWTIME, kernel::CLONE_NEWTIME);
    assert_eq!(ours::CLONE_IO, kernel::CLONE_IO);
    assert_eq!(ours::CLONE_CLEAR_SIGHAND, kernel::CLONE_CLEAR_SIGHAND);
    assert_eq!(ours::CLONE_INTO_CGROUP, kernel::CLONE_INTO_CGROUP);
    assert_eq!(i64::from(ours::PIDFD_SELF_THREAD), i64::from(kernel::PIDFD_SELF_THREAD));
}

#[test]
fn the_type_of_flags_has_the_constants_values() {
    for (flag, constant) in [
        (CloneFlags::VM, ours::CLONE_VM),
        (CloneFlags::FS, ours::CLONE_FS),
        (CloneFlags::FILES, ours::CLONE_FILES),
        (CloneFlags::SIGHAND, ours::CLONE_SIGHAND),
        (CloneFlags::PIDFD, ours::CLONE_PIDFD),
        (CloneFlags::VFORK, ours::CLONE_VFORK),
        (CloneFlags::THREAD, ours::CLONE_THREAD),
        (CloneFlags::SYSVSEM, ours::CLONE_SYSVSEM),
        (CloneFlags::NEWNS, ours::CLONE_NEWNS),
        (CloneFlags::NEWCGROUP, ours::CLONE_NEWCGROUP),
        (CloneFlags::NEWUTS, ours::CLONE_NEWUTS),
        (CloneFlags::NEWIPC, ours::CLONE_NEWIPC),
        (CloneFlags::NEWUSER, ours::CLONE_NEWUSER),
        (CloneFlags::NEWPID, ours::CLONE_NEWPID),
        (CloneFlags::NEWNET, ours::CLONE_NEWNET),
        (CloneFlags::NEWTIME, ours::CLONE_NEWTIME),
    ] {
        assert_eq!(flag.bits(), u64::from(constant));
    }
}

#[test]
fn every_kind_of_namespace_has_a_bit_of_its_own() {
    let all = Namespace::ALL.iter().fold(CloneFlags::empty(), |all, kind| all.union(kind.flag));
    assert_eq!(all.bits().count_ones(), 8);
}
