//! The kernel's constants under the kernel's names.
//!
//! Numbers are written out because no crate has them all, and libc's `CLONE_INTO_CGROUP` and
//! `CLONE_CLEAR_SIGHAND` do not fit its type; a test holds each against the kernel's headers.

const fn read_request(size: u32) -> u32 {
    (if cfg!(any(target_arch = "powerpc64", target_arch = "mips64")) { 1 << 30 } else { 2 << 30 })
        | size << 16
        | 0xb7 << 8
}

/// `_IOR(NSIO, …, __u64)`; powerpc numbers the directions in its own way.
const READ_U64: u32 = read_request(8);
/// `_IOR(NSIO, …, int)`.
const READ_INT: u32 = read_request(4);

// clone(2), unshare(2) and setns(2): linux/sched.h

/// The bits of clone(2)'s flags that hold the exit signal.
pub const CSIGNAL: u32 = 0xff;
/// Share memory.
pub const CLONE_VM: u32 = 0x100;
/// Share root, working directory and umask.
pub const CLONE_FS: u32 = 0x200;
/// Share the descriptor table.
pub const CLONE_FILES: u32 = 0x400;
/// Share signal handlers.
pub const CLONE_SIGHAND: u32 = 0x800;
/// Return a pidfd (Linux 5.2).
pub const CLONE_PIDFD: u32 = 0x1000;
/// A tracer traces the child too.
pub const CLONE_PTRACE: u32 = 0x2000;
/// The parent waits until the child execs or ends.
pub const CLONE_VFORK: u32 = 0x4000;
/// The child is a sibling.
pub const CLONE_PARENT: u32 = 0x8000;
/// Same thread group.
pub const CLONE_THREAD: u32 = 0x1_0000;
/// New mount namespace (Linux 2.4.19).
pub const CLONE_NEWNS: u32 = 0x2_0000;
/// Share System V semaphore adjustments.
pub const CLONE_SYSVSEM: u32 = 0x4_0000;
/// New thread-local storage.
pub const CLONE_SETTLS: u32 = 0x8_0000;
/// Write the thread id in the parent's memory.
pub const CLONE_PARENT_SETTID: u32 = 0x10_0000;
/// Clear the thread id in the child's memory when it ends.
pub const CLONE_CHILD_CLEARTID: u32 = 0x20_0000;
/// Ignored.
pub const CLONE_DETACHED: u32 = 0x40_0000;
/// No tracer can force `CLONE_PTRACE`.
pub const CLONE_UNTRACED: u32 = 0x80_0000;
/// Write the thread id in the child's memory.
pub const CLONE_CHILD_SETTID: u32 = 0x100_0000;
/// New cgroup namespace (Linux 4.6).
pub const CLONE_NEWCGROUP: u32 = 0x200_0000;
/// New UTS namespace (Linux 2.6.19).
pub const CLONE_NEWUTS: u32 = 0x400_0000;
/// New IPC namespace (Linux 2.6.19).
pub const CLONE_NEWIPC: u32 = 0x800_0000;
/// New user namespace (Linux 3.8).
pub const CLONE_NEWUSER: u32 = 0x1000_0000;
/// New pid namespace (Linux 2.6.24).
pub const CLONE_NEWPID: u32 = 0x2000_0000;
/// New network namespace (Linux 2.6.29).
pub const CLONE_NEWNET: u32 = 0x4000_0000;
/// Share the I/O context.
pub const CLONE_IO: u32 = 0x8000_0000;
/// New time namespace (Linux 5.6): unshare, setns and clone3.
pub const CLONE_NEWTIME: u32 = 0x80;
/// clone3: signal handlers go back to the default (Linux 5.5).
pub const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// clone3: start in a given cgroup (Linux 5.7).
pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

// kcmp(2): linux/kcmp.h

/// Do two descriptors refer to one open file description?
pub const KCMP_FILE: i32 = 0;
/// Memory.
pub const KCMP_VM: i32 = 1;
/// Descriptor tables.
pub const KCMP_FILES: i32 = 2;
/// Root, working directory and umask.
pub const KCMP_FS: i32 = 3;
/// Signal handlers.
pub const KCMP_SIGHAND: i32 = 4;
/// I/O contexts.
pub const KCMP_IO: i32 = 5;
/// Semaphore adjustments.
pub const KCMP_SYSVSEM: i32 = 6;
/// Is a descriptor what an epoll instance watches (Linux 4.13)?
pub const KCMP_EPOLL_TFD: i32 = 7;

// ioctl_nsfs(2): linux/nsfs.h

/// Owning user namespace (Linux 4.9).
pub const NS_GET_USERNS: u32 = 0xb701;
/// Parent namespace (Linux 4.9).
pub const NS_GET_PARENT: u32 = 0xb702;
/// Type (Linux 4.11).
pub const NS_GET_NSTYPE: u32 = 0xb703;
/// Owner of a user namespace (Linux 4.11).
pub const NS_GET_OWNER_UID: u32 = 0xb704;
/// `Linux::Clone`'s name for [`NS_GET_OWNER_UID`].
pub const NS_OWNER_UID: u32 = NS_GET_OWNER_UID;
/// Id of a mount namespace (Linux 6.11).
pub const NS_GET_MNTNS_ID: u32 = READ_U64 | 5;
/// Translates a pid (Linux 6.11).
pub const NS_GET_PID_FROM_PIDNS: u32 = READ_INT | 6;
/// Translates a process's pid (Linux 6.11).
pub const NS_GET_TGID_FROM_PIDNS: u32 = READ_INT | 7;
/// Translates a pid (Linux 6.11).
pub const NS_GET_PID_IN_PIDNS: u32 = READ_INT | 8;
/// Translates a process's pid (Linux 6.11).
pub const NS_GET_TGID_IN_PIDNS: u32 = READ_INT | 9;
/// Id of a namespace (Linux 6.18).
pub const NS_GET_ID: u32 = READ_U64 | 0xd;

// mount(2): linux/mount.h

/// Read-only.
pub const MS_RDONLY: u32 = 0x1;
/// No set-user-id.
pub const MS_NOSUID: u32 = 0x2;
/// No devices.
pub const MS_NODEV: u32 = 0x4;
/// No programs.
pub const MS_NOEXEC: u32 = 0x8;
/// Synchronous writes.
pub const MS_SYNCHRONOUS: u32 = 0x10;
/// Change an existing mount.
pub const MS_REMOUNT: u32 = 0x20;
/// Mandatory locks (none since Linux 5.15).
pub const MS_MANDLOCK: u32 = 0x40;
/// Synchronous changes of directories.
pub const MS_DIRSYNC: u32 = 0x80;
/// Symbolic links are not followed (Linux 5.10).
pub const MS_NOSYMFOLLOW: u32 = 0x100;
/// No access times.
pub const MS_NOATIME: u32 = 0x400;
/// No access times of directories.
pub const MS_NODIRATIME: u32 = 0x800;
/// Bind mount.
pub const MS_BIND: u32 = 0x1000;
/// Move a mount.
pub const MS_MOVE: u32 = 0x2000;
/// With all mounts below.
pub const MS_REC: u32 = 0x4000;
/// Old name of [`MS_SILENT`].
pub const MS_VERBOSE: u32 = 0x8000;
/// No messages in the kernel's log.
pub const MS_SILENT: u32 = 0x8000;
/// The umask is left to the file system.
pub const MS_POSIXACL: u32 = 0x1_0000;
/// Propagation: none, and no bind mounts of it.
pub const MS_UNBINDABLE: u32 = 0x2_0000;
/// Propagation: none.
pub const MS_PRIVATE: u32 = 0x4_0000;
/// Propagation: inwards only.
pub const MS_SLAVE: u32 = 0x8_0000;
/// Propagation: both ways.
pub const MS_SHARED: u32 = 0x10_0000;
/// Access times once a day, or when they matter.
pub const MS_RELATIME: u32 = 0x20_0000;
/// The kernel's own.
pub const MS_KERNMOUNT: u32 = 0x40_0000;
/// Count changes of inodes.
pub const MS_I_VERSION: u32 = 0x80_0000;
/// Every access time.
pub const MS_STRICTATIME: u32 = 0x100_0000;
/// Times are written late (Linux 4.0).
pub const MS_LAZYTIME: u32 = 0x200_0000;
/// The kernel's own.
pub const MS_SUBMOUNT: u32 = 0x400_0000;
/// The kernel's own.
pub const MS_NOREMOTELOCK: u32 = 0x800_0000;
/// The kernel's own.
pub const MS_NOSEC: u32 = 0x1000_0000;
/// The kernel's own.
pub const MS_BORN: u32 = 0x2000_0000;
/// The kernel's own.
pub const MS_ACTIVE: u32 = 0x4000_0000;
/// The kernel's own.
pub const MS_NOUSER: u32 = 0x8000_0000;
/// What [`MS_REMOUNT`] can change of a file system.
pub const MS_RMT_MASK: u32 = MS_RDONLY | MS_SYNCHRONOUS | MS_MANDLOCK | MS_I_VERSION | MS_LAZYTIME;
/// Old magic number.
pub const MS_MGC_VAL: u32 = 0xc0ed_0000;
/// Its mask.
pub const MS_MGC_MSK: u32 = 0xffff_0000;

// umount2(2): linux/fs.h

/// Abort what is under way.
pub const MNT_FORCE: u32 = 1;
/// Unmount when it is no longer busy.
pub const MNT_DETACH: u32 = 2;
/// Mark, and unmount at the second call.
pub const MNT_EXPIRE: u32 = 4;
/// Do not follow a symbolic link (Linux 2.6.34).
pub const UMOUNT_NOFOLLOW: u32 = 8;

// pidfd_open(2) and pidfd_send_signal(2): linux/pidfd.h

/// waitid(2) does not block (Linux 5.10).
pub const PIDFD_NONBLOCK: u32 = 0o4000;
/// A thread rather than its process (Linux 6.9).
pub const PIDFD_THREAD: u32 = 0o200;
/// To the thread (Linux 6.9).
pub const PIDFD_SIGNAL_THREAD: u32 = 1;
/// To the process (Linux 6.9).
pub const PIDFD_SIGNAL_THREAD_GROUP: u32 = 2;
/// To the process group (Linux 6.9).
pub const PIDFD_SIGNAL_PROCESS_GROUP: u32 = 4;
/// In place of a pidfd: the calling thread (Linux 6.14).
pub const PIDFD_SELF_THREAD: i32 = -10_000;
/// In place of a pidfd: the calling process (Linux 6.14, where it had another number at first).
pub const PIDFD_SELF_THREAD_GROUP: i32 = -10_001;

// Signals: asm/signal.h

/// signal(7).
pub const SIGHUP: i32 = libc::SIGHUP;
/// signal(7).
pub const SIGINT: i32 = libc::SIGINT;
/// signal(7).
pub const SIGQUIT: i32 = libc::SIGQUIT;
/// signal(7).
pub const SIGILL: i32 = libc::SIGILL;
/// signal(7).
pub const SIGTRAP: i32 = libc::SIGTRAP;
/// signal(7).
pub const SIGABRT: i32 = libc::SIGABRT;
/// signal(7).
pub const SIGBUS: i32 = libc::SIGBUS;
/// signal(7).
pub const SIGFPE: i32 = libc::SIGFPE;
/// signal(7).
pub const SIGKILL: i32 = libc::SIGKILL;
/// signal(7).
pub const SIGUSR1: i32 = libc::SIGUSR1;
/// signal(7).
pub const SIGSEGV: i32 = libc::SIGSEGV;
/// signal(7).
pub const SIGUSR2: i32 = libc::SIGUSR2;
/// signal(7).
pub const SIGPIPE: i32 = libc::SIGPIPE;
/// signal(7).
pub const SIGALRM: i32 = libc::SIGALRM;
/// signal(7).
pub const SIGTERM: i32 = libc::SIGTERM;
/// signal(7).
pub const SIGSTKFLT: i32 = libc::SIGSTKFLT;
/// signal(7).
pub const SIGCHLD: i32 = libc::SIGCHLD;
/// signal(7).
pub const SIGCONT: i32 = libc::SIGCONT;
/// signal(7).
pub const SIGSTOP: i32 = libc::SIGSTOP;
/// signal(7).
pub const SIGTSTP: i32 = libc::SIGTSTP;
/// signal(7).
pub const SIGTTIN: i32 = libc::SIGTTIN;
/// signal(7).
pub const SIGTTOU: i32 = libc::SIGTTOU;
/// signal(7).
pub const SIGURG: i32 = libc::SIGURG;
/// signal(7).
pub const SIGXCPU: i32 = libc::SIGXCPU;
/// signal(7).
pub const SIGXFSZ: i32 = libc::SIGXFSZ;
/// signal(7).
pub const SIGVTALRM: i32 = libc::SIGVTALRM;
/// signal(7).
pub const SIGPROF: i32 = libc::SIGPROF;
/// signal(7).
pub const SIGWINCH: i32 = libc::SIGWINCH;
/// signal(7).
pub const SIGIO: i32 = libc::SIGIO;
/// signal(7).
pub const SIGPWR: i32 = libc::SIGPWR;
/// signal(7).
pub const SIGSYS: i32 = libc::SIGSYS;
