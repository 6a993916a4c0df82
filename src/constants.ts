// Made by scripts/generate-constants.mjs from crates/syscalls/src/constants.rs.
import { constants as kernel } from '../binding.js'

/** Every constant by its kernel name. */
export const constants: Readonly<Record<string, number>> = Object.freeze({ ...kernel })

/** The bits of clone(2)'s flags that hold the exit signal. */
export const CSIGNAL: number = kernel.CSIGNAL

/** Share memory. */
export const CLONE_VM: number = kernel.CLONE_VM

/** Share root, working directory and umask. */
export const CLONE_FS: number = kernel.CLONE_FS

/** Share the descriptor table. */
export const CLONE_FILES: number = kernel.CLONE_FILES

/** Share signal handlers. */
export const CLONE_SIGHAND: number = kernel.CLONE_SIGHAND

/** Return a pidfd (Linux 5.2). */
export const CLONE_PIDFD: number = kernel.CLONE_PIDFD

/** A tracer traces the child too. */
export const CLONE_PTRACE: number = kernel.CLONE_PTRACE

/** The parent waits until the child execs or ends. */
export const CLONE_VFORK: number = kernel.CLONE_VFORK

/** The child is a sibling. */
export const CLONE_PARENT: number = kernel.CLONE_PARENT

/** Same thread group. */
export const CLONE_THREAD: number = kernel.CLONE_THREAD

/** New mount namespace (Linux 2.4.19). */
export const CLONE_NEWNS: number = kernel.CLONE_NEWNS

/** Share System V semaphore adjustments. */
export const CLONE_SYSVSEM: number = kernel.CLONE_SYSVSEM

/** New thread-local storage. */
export const CLONE_SETTLS: number = kernel.CLONE_SETTLS

/** Write the thread id in the parent's memory. */
export const CLONE_PARENT_SETTID: number = kernel.CLONE_PARENT_SETTID

/** Clear the thread id in the child's memory when it ends. */
export const CLONE_CHILD_CLEARTID: number = kernel.CLONE_CHILD_CLEARTID

/** Ignored. */
export const CLONE_DETACHED: number = kernel.CLONE_DETACHED

/** No tracer can force `CLONE_PTRACE`. */
export const CLONE_UNTRACED: number = kernel.CLONE_UNTRACED

/** Write the thread id in the child's memory. */
export const CLONE_CHILD_SETTID: number = kernel.CLONE_CHILD_SETTID

/** New cgroup namespace (Linux 4.6). */
export const CLONE_NEWCGROUP: number = kernel.CLONE_NEWCGROUP

/** New UTS namespace (Linux 2.6.19). */
export const CLONE_NEWUTS: number = kernel.CLONE_NEWUTS

/** New IPC namespace (Linux 2.6.19). */
export const CLONE_NEWIPC: number = kernel.CLONE_NEWIPC

/** New user namespace (Linux 3.8). */
export const CLONE_NEWUSER: number = kernel.CLONE_NEWUSER

/** New pid namespace (Linux 2.6.24). */
export const CLONE_NEWPID: number = kernel.CLONE_NEWPID

/** New network namespace (Linux 2.6.29). */
export const CLONE_NEWNET: number = kernel.CLONE_NEWNET

/** Share the I/O context. */
export const CLONE_IO: number = kernel.CLONE_IO

/** New time namespace (Linux 5.6): unshare, setns and clone3. */
export const CLONE_NEWTIME: number = kernel.CLONE_NEWTIME

/** clone3: signal handlers go back to the default (Linux 5.5). */
export const CLONE_CLEAR_SIGHAND: number = kernel.CLONE_CLEAR_SIGHAND

/** clone3: start in a given cgroup (Linux 5.7). */
export const CLONE_INTO_CGROUP: number = kernel.CLONE_INTO_CGROUP

/** Do two descriptors refer to one open file description? */
export const KCMP_FILE: number = kernel.KCMP_FILE

/** Memory. */
export const KCMP_VM: number = kernel.KCMP_VM

/** Descriptor tables. */
export const KCMP_FILES: number = kernel.KCMP_FILES

/** Root, working directory and umask. */
export const KCMP_FS: number = kernel.KCMP_FS

/** Signal handlers. */
export const KCMP_SIGHAND: number = kernel.KCMP_SIGHAND

/** I/O contexts. */
export const KCMP_IO: number = kernel.KCMP_IO

/** Semaphore adjustments. */
export const KCMP_SYSVSEM: number = kernel.KCMP_SYSVSEM

/** Is a descriptor what an epoll instance watches (Linux 4.13)? */
export const KCMP_EPOLL_TFD: number = kernel.KCMP_EPOLL_TFD

/** Owning user namespace (Linux 4.9). */
export const NS_GET_USERNS: number = kernel.NS_GET_USERNS

/** Parent namespace (Linux 4.9). */
export const NS_GET_PARENT: number = kernel.NS_GET_PARENT

/** Type (Linux 4.11). */
export const NS_GET_NSTYPE: number = kernel.NS_GET_NSTYPE

/** Owner of a user namespace (Linux 4.11). */
export const NS_GET_OWNER_UID: number = kernel.NS_GET_OWNER_UID

/** `Linux::Clone`'s name for `NS_GET_OWNER_UID`. */
export const NS_OWNER_UID: number = kernel.NS_OWNER_UID

/** Id of a mount namespace (Linux 6.11). */
export const NS_GET_MNTNS_ID: number = kernel.NS_GET_MNTNS_ID

/** Translates a pid (Linux 6.11). */
export const NS_GET_PID_FROM_PIDNS: number = kernel.NS_GET_PID_FROM_PIDNS

/** Translates a process's pid (Linux 6.11). */
export const NS_GET_TGID_FROM_PIDNS: number = kernel.NS_GET_TGID_FROM_PIDNS

/** Translates a pid (Linux 6.11). */
export const NS_GET_PID_IN_PIDNS: number = kernel.NS_GET_PID_IN_PIDNS

/** Translates a process's pid (Linux 6.11). */
export const NS_GET_TGID_IN_PIDNS: number = kernel.NS_GET_TGID_IN_PIDNS

/** Id of a namespace (Linux 6.18). */
export const NS_GET_ID: number = kernel.NS_GET_ID

/** Read-only. */
export const MS_RDONLY: number = kernel.MS_RDONLY

/** No set-user-id. */
export const MS_NOSUID: number = kernel.MS_NOSUID

/** No devices. */
export const MS_NODEV: number = kernel.MS_NODEV

/** No programs. */
export const MS_NOEXEC: number = kernel.MS_NOEXEC

/** Synchronous writes. */
export const MS_SYNCHRONOUS: number = kernel.MS_SYNCHRONOUS

/** Change an existing mount. */
export const MS_REMOUNT: number = kernel.MS_REMOUNT

/** Mandatory locks (none since Linux 5.15). */
export const MS_MANDLOCK: number = kernel.MS_MANDLOCK

/** Synchronous changes of directories. */
export const MS_DIRSYNC: number = kernel.MS_DIRSYNC

/** Symbolic links are not followed (Linux 5.10). */
export const MS_NOSYMFOLLOW: number = kernel.MS_NOSYMFOLLOW

/** No access times. */
export const MS_NOATIME: number = kernel.MS_NOATIME

/** No access times of directories. */
export const MS_NODIRATIME: number = kernel.MS_NODIRATIME

/** Bind mount. */
export const MS_BIND: number = kernel.MS_BIND

/** Move a mount. */
export const MS_MOVE: number = kernel.MS_MOVE

/** With all mounts below. */
export const MS_REC: number = kernel.MS_REC

/** Old name of `MS_SILENT`. */
export const MS_VERBOSE: number = kernel.MS_VERBOSE

/** No messages in the kernel's log. */
export const MS_SILENT: number = kernel.MS_SILENT

/** The umask is left to the file system. */
export const MS_POSIXACL: number = kernel.MS_POSIXACL

/** Propagation: none, and no bind mounts of it. */
export const MS_UNBINDABLE: number = kernel.MS_UNBINDABLE

/** Propagation: none. */
export const MS_PRIVATE: number = kernel.MS_PRIVATE

/** Propagation: inwards only. */
export const MS_SLAVE: number = kernel.MS_SLAVE

/** Propagation: both ways. */
export const MS_SHARED: number = kernel.MS_SHARED

/** Access times once a day, or when they matter. */
export const MS_RELATIME: number = kernel.MS_RELATIME

/** The kernel's own. */
export const MS_KERNMOUNT: number = kernel.MS_KERNMOUNT

/** Count changes of inodes. */
export const MS_I_VERSION: number = kernel.MS_I_VERSION

/** Every access time. */
export const MS_STRICTATIME: number = kernel.MS_STRICTATIME

/** Times are written late (Linux 4.0). */
export const MS_LAZYTIME: number = kernel.MS_LAZYTIME

/** The kernel's own. */
export const MS_SUBMOUNT: number = kernel.MS_SUBMOUNT

/** The kernel's own. */
export const MS_NOREMOTELOCK: number = kernel.MS_NOREMOTELOCK

/** The kernel's own. */
export const MS_NOSEC: number = kernel.MS_NOSEC

/** The kernel's own. */
export const MS_BORN: number = kernel.MS_BORN

/** The kernel's own. */
export const MS_ACTIVE: number = kernel.MS_ACTIVE

/** The kernel's own. */
export const MS_NOUSER: number = kernel.MS_NOUSER

/** What `MS_REMOUNT` can change of a file system. */
export const MS_RMT_MASK: number = kernel.MS_RMT_MASK

/** Old magic number. */
export const MS_MGC_VAL: number = kernel.MS_MGC_VAL

/** Its mask. */
export const MS_MGC_MSK: number = kernel.MS_MGC_MSK

/** Abort what is under way. */
export const MNT_FORCE: number = kernel.MNT_FORCE

/** Unmount when it is no longer busy. */
export const MNT_DETACH: number = kernel.MNT_DETACH

/** Mark, and unmount at the second call. */
export const MNT_EXPIRE: number = kernel.MNT_EXPIRE

/** Do not follow a symbolic link (Linux 2.6.34). */
export const UMOUNT_NOFOLLOW: number = kernel.UMOUNT_NOFOLLOW

/** waitid(2) does not block (Linux 5.10). */
export const PIDFD_NONBLOCK: number = kernel.PIDFD_NONBLOCK

/** A thread rather than its process (Linux 6.9). */
export const PIDFD_THREAD: number = kernel.PIDFD_THREAD

/** To the thread (Linux 6.9). */
export const PIDFD_SIGNAL_THREAD: number = kernel.PIDFD_SIGNAL_THREAD

/** To the process (Linux 6.9). */
export const PIDFD_SIGNAL_THREAD_GROUP: number = kernel.PIDFD_SIGNAL_THREAD_GROUP

/** To the process group (Linux 6.9). */
export const PIDFD_SIGNAL_PROCESS_GROUP: number = kernel.PIDFD_SIGNAL_PROCESS_GROUP

/** In place of a pidfd: the calling thread (Linux 6.14). */
export const PIDFD_SELF_THREAD: number = kernel.PIDFD_SELF_THREAD

/** In place of a pidfd: the calling process (Linux 6.14, where it had another number at first). */
export const PIDFD_SELF_THREAD_GROUP: number = kernel.PIDFD_SELF_THREAD_GROUP

/** signal(7). */
export const SIGHUP: number = kernel.SIGHUP

/** signal(7). */
export const SIGINT: number = kernel.SIGINT

/** signal(7). */
export const SIGQUIT: number = kernel.SIGQUIT

/** signal(7). */
export const SIGILL: number = kernel.SIGILL

/** signal(7). */
export const SIGTRAP: number = kernel.SIGTRAP

/** signal(7). */
export const SIGABRT: number = kernel.SIGABRT

/** signal(7). */
export const SIGBUS: number = kernel.SIGBUS

/** signal(7). */
export const SIGFPE: number = kernel.SIGFPE

/** signal(7). */
export const SIGKILL: number = kernel.SIGKILL

/** signal(7). */
export const SIGUSR1: number = kernel.SIGUSR1

/** signal(7). */
export const SIGSEGV: number = kernel.SIGSEGV

/** signal(7). */
export const SIGUSR2: number = kernel.SIGUSR2

/** signal(7). */
export const SIGPIPE: number = kernel.SIGPIPE

/** signal(7). */
export const SIGALRM: number = kernel.SIGALRM

/** signal(7). */
export const SIGTERM: number = kernel.SIGTERM

/** signal(7). */
export const SIGSTKFLT: number = kernel.SIGSTKFLT

/** signal(7). */
export const SIGCHLD: number = kernel.SIGCHLD

/** signal(7). */
export const SIGCONT: number = kernel.SIGCONT

/** signal(7). */
export const SIGSTOP: number = kernel.SIGSTOP

/** signal(7). */
export const SIGTSTP: number = kernel.SIGTSTP

/** signal(7). */
export const SIGTTIN: number = kernel.SIGTTIN

/** signal(7). */
export const SIGTTOU: number = kernel.SIGTTOU

/** signal(7). */
export const SIGURG: number = kernel.SIGURG

/** signal(7). */
export const SIGXCPU: number = kernel.SIGXCPU

/** signal(7). */
export const SIGXFSZ: number = kernel.SIGXFSZ

/** signal(7). */
export const SIGVTALRM: number = kernel.SIGVTALRM

/** signal(7). */
export const SIGPROF: number = kernel.SIGPROF

/** signal(7). */
export const SIGWINCH: number = kernel.SIGWINCH

/** signal(7). */
export const SIGIO: number = kernel.SIGIO

/** signal(7). */
export const SIGPWR: number = kernel.SIGPWR

/** signal(7). */
export const SIGSYS: number = kernel.SIGSYS
