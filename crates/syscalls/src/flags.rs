use bitflags::bitflags;

bitflags! {
    /// What clone(2), unshare(2) and setns(2) take; 64 bits wide, as clone3 reads it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct CloneFlags: u64 {
        /// Share memory.
        const VM = 0x0000_0100;
        /// Share root, working directory and umask.
        const FS = 0x0000_0200;
        /// Share the descriptor table.
        const FILES = 0x0000_0400;
        /// Share signal handlers.
        const SIGHAND = 0x0000_0800;
        /// Return a pidfd of the child.
        const PIDFD = 0x0000_1000;
        /// Suspend the parent until the child execs or ends.
        const VFORK = 0x0000_4000;
        /// The child is a sibling.
        const PARENT = 0x0000_8000;
        /// Same thread group.
        const THREAD = 0x0001_0000;
        /// Write the child's id in the parent.
        const PARENT_SETTID = 0x0010_0000;
        /// New mount namespace.
        const NEWNS = 0x0002_0000;
        /// Share System V semaphore adjustments.
        const SYSVSEM = 0x0004_0000;
        /// New cgroup namespace.
        const NEWCGROUP = 0x0200_0000;
        /// New UTS namespace.
        const NEWUTS = 0x0400_0000;
        /// New IPC namespace.
        const NEWIPC = 0x0800_0000;
        /// New user namespace.
        const NEWUSER = 0x1000_0000;
        /// New pid namespace.
        const NEWPID = 0x2000_0000;
        /// New network namespace.
        const NEWNET = 0x4000_0000;
        /// New time namespace: unshare, setns and clone3 only, clone(2) reads the bit as part of a signal.
        const NEWTIME = 0x0000_0080;
        /// clone3 only: handled signals have their default effect in the child.
        const CLEAR_SIGHAND = 0x1_0000_0000;
        /// clone3 only: start in the cgroup that is given.
        const INTO_CGROUP = 0x2_0000_0000;

        const _ = !0;
    }
}

/// A kind of namespace, by its name under `/proc/PID/ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// `"mnt"`, `"uts"` …
    pub name: &'static str,
    /// The `CLONE_NEW*` bit.
    pub flag: CloneFlags,
}

impl Namespace {
    /// Every kind that Linux has; user first, as it decides what may be done to the others.
    ///
    /// References: namespaces(7).
    pub const ALL: [Self; 8] = [
        Self { name: "user", flag: CloneFlags::NEWUSER },
        Self { name: "mnt", flag: CloneFlags::NEWNS },
        Self { name: "uts", flag: CloneFlags::NEWUTS },
        Self { name: "ipc", flag: CloneFlags::NEWIPC },
        Self { name: "net", flag: CloneFlags::NEWNET },
        Self { name: "pid", flag: CloneFlags::NEWPID },
        Self { name: "cgroup", flag: CloneFlags::NEWCGROUP },
        Self { name: "time", flag: CloneFlags::NEWTIME },
    ];
}
