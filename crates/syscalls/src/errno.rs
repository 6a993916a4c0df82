use nix::errno::Errno;

/// The name of an errno, e.g. `"EUSERS"`; `None` where Linux has no such number.
///
/// References: errno(3).
#[must_use]
pub fn name(errno: i32) -> Option<String> {
    known(errno).map(|errno| format!("{errno:?}"))
}

/// What an errno means, in words.
#[must_use]
pub fn message(errno: i32) -> Option<&'static str> {
    known(errno).map(Errno::desc)
}

fn known(errno: i32) -> Option<Errno> {
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => None,
        errno => Some(errno),
    }
}
