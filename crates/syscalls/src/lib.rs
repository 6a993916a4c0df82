//! clone(2)'s family of system calls as safe functions, one call a file.
//!
//! Each function makes one system call, takes its flags as a type and its descriptors as whatever has one (a number is
//! what JavaScript has), and reports what the kernel said as a [`Failure`]. Nothing here retries, decides or keeps state,
//! and nothing allocates once its arguments are made: every call may be made in a child between clone and exec.
//!
//! Bits that the kernel does not know are passed on as they are: refusing them is its part.

mod capabilities;
pub mod clone;
pub mod clone3;
mod close_range;
pub mod constants;
mod errno;
mod failure;
mod flags;
mod ids;
mod kcmp;
mod loopback;
mod mount;
mod mount_setattr;
mod move_mount;
pub mod nsfs;
mod open_tree;
mod openat2;
mod pidfd_getfd;
mod pidfd_open;
mod pidfd_send_signal;
mod pivot_root;
mod rlimit;
mod seccomp;
mod setdomainname;
mod sethostname;
mod setns;
mod umount;
mod unshare;

pub use capabilities::{CAPABILITIES, keep_capabilities, limit_bounding_set, set_capabilities};
pub use close_range::close_range_on_exec;
pub use errno::{message, name};
pub use failure::{Failure, Result};
pub use flags::{CloneFlags, Namespace};
pub use ids::{are_groups_mapped, are_users_mapped, leave_groups, setgid, setresgid, setresuid, setuid};
pub use kcmp::{EpollSlot, kcmp, kcmp_epoll};
pub use loopback::Loopback;
pub use mount::{MountFlags, MountOption, OCTAL_OPTIONS, OPTIONS as MOUNT_OPTIONS, mount, mount_data_length};
pub use mount_setattr::{MountAttributes, mount_setattr};
pub use move_mount::move_mount;
pub use open_tree::open_tree;
pub use openat2::openat2;
pub use pidfd_getfd::pidfd_getfd;
pub use pidfd_open::{PidfdFlags, pidfd_open};
pub use pidfd_send_signal::{PidfdSignalFlags, pidfd_send_signal};
pub use pivot_root::pivot_root;
pub use rlimit::{RESOURCES, ResourceLimit, set_resource_limit};
pub use seccomp::{Instruction, seccomp_filter, set_no_new_privileges};
pub use setdomainname::setdomainname;
pub use sethostname::sethostname;
pub use setns::setns;
pub use umount::{UmountFlags, umount};
pub use unshare::unshare;

pub use nix::errno::Errno;
pub use nix::unistd::Pid;
