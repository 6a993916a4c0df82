//! clone(2)'s family of system calls as safe functions, one call a file.
//!
//! Each function makes one system call, takes its flags as a type and its descriptors as whatever has one (a number is
//! what JavaScript has), and reports what the kernel said as a [`Failure`]. Nothing here retries, decides or keeps state,
//! and nothing allocates once its arguments are made: every call may be made in a child between clone and exec.
//!
//! Bits that the kernel does not know are passed on as they are: refusing them is its part.

pub mod clone;
pub mod clone3;
pub mod constants;
mod errno;
mod failure;
mod flags;
mod kcmp;
mod loopback;
mod mount;
pub mod nsfs;
mod pidfd_getfd;
mod pidfd_open;
mod pidfd_send_signal;
mod pivot_root;
mod setdomainname;
mod sethostname;
mod setns;
mod umount;
mod unshare;

pub use errno::{message, name};
pub use failure::{Failure, Result};
pub use flags::{CloneFlags, Namespace};
pub use kcmp::{EpollSlot, kcmp, kcmp_epoll};
pub use loopback::Loopback;
pub use mount::{MountFlags, MountOption, OCTAL_OPTIONS, OPTIONS as MOUNT_OPTIONS, mount, mount_data_length};
pub use pidfd_getfd::pidfd_getfd;
pub use pidfd_open::{PidfdFlags, pidfd_open};
pub use pidfd_send_signal::{PidfdSignalFlags, pidfd_send_signal};
pub use pivot_root::pivot_root;
pub use setdomainname::setdomainname;
pub use sethostname::sethostname;
pub use setns::setns;
pub use umount::{UmountFlags, umount};
pub use unshare::unshare;

pub use nix::errno::Errno;
pub use nix::unistd::Pid;
