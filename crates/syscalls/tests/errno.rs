//! Every errno has a name and a meaning.

use linux_clone_syscalls::{Errno, message, name};

#[test]
fn numbers_have_the_names_of_the_kernels_headers() {
    assert_eq!(name(libc::EUSERS).as_deref(), Some("EUSERS"));
    assert_eq!(name(libc::EPERM).as_deref(), Some("EPERM"));
    assert_eq!(name(libc::EHWPOISON).as_deref(), Some("EHWPOISON"));
}

#[test]
fn only_the_two_gaps_of_the_list_have_none() {
    let nameless: Vec<i32> = (1..=133).filter(|errno| name(*errno).is_none()).collect();
    assert_eq!(nameless, [41, 58]);
    assert!((1..=133).all(|errno| name(errno).is_some() == message(errno).is_some()));
}

#[test]
fn what_is_no_errno_has_none() {
    assert_eq!((name(0), name(-1), name(134)), (None, None, None));
    assert_eq!(Errno::EUSERS as i32, libc::EUSERS);
}
