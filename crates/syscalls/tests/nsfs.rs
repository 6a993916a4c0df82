//! The ioctls of a namespace's descriptor, on this process's own namespaces.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs::{File, metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use linux_clone_syscalls::{Errno, Namespace, Pid, nsfs};

fn open(kind: &str) -> File {
    File::open(format!("/proc/self/ns/{kind}")).unwrap()
}

#[test]
fn each_kind_is_what_its_name_says() {
    for kind in Namespace::ALL {
        assert_eq!(nsfs::get_nstype(open(kind.name).as_fd()), Ok(kind.flag), "{}", kind.name);
    }
}

#[test]
fn the_owner_of_ours_is_our_user_namespace() {
    let owner = File::from(nsfs::get_userns(open("pid").as_fd()).unwrap());
    assert_eq!(owner.metadata().unwrap().ino(), metadata("/proc/self/ns/user").unwrap().ino());
}

#[test]
fn a_pid_is_itself_in_our_own_namespace() {
    let own = Pid::this().as_raw();
    assert_eq!(nsfs::get_pid_in_pidns(open("pid").as_fd(), own), Ok(own));
    assert_eq!(nsfs::get_tgid_from_pidns(open("pid").as_fd(), own), Ok(own));
}

#[test]
fn a_plain_file_is_no_namespace() {
    let file = File::open("/dev/null").unwrap();
    let failure = nsfs::get_nstype(file.as_fd()).unwrap_err();
    assert_eq!((failure.call, failure.errno), ("ioctl", Errno::ENOTTY));
    assert_eq!(nsfs::get_mntns_id(open("uts").as_fd()).unwrap_err().errno, Errno::EINVAL);
}
