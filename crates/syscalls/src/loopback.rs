//! rtnetlink(7)'s messages, in the machine's byte order.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small numbers, in the widths that the kernel's headers have them"
)]

use std::ffi::c_int;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use crate::failure::named;
use crate::{Failure, Result};

/// `lo` is the first interface of every network namespace: the kernel's `LOOPBACK_IFINDEX`.
const LOOPBACK: u32 = 1;

/// What brings `lo` up, made beforehand: sending it allocates nothing.
#[derive(Debug)]
pub struct Loopback {
    up: Vec<u8>,
    ipv4: Vec<u8>,
    ipv6: Vec<u8>,
}

impl Loopback {
    /// Makes the messages.
    #[must_use]
    pub fn new() -> Self {
        Self {
            up: set_up(),
            ipv4: new_address(libc::AF_INET, &Ipv4Addr::LOCALHOST.octets(), 8),
            ipv6: new_address(libc::AF_INET6, &Ipv6Addr::LOCALHOST.octets(), 128),
        }
    }

    /// Brings `lo` up in the calling thread's network namespace, with 127.0.0.1/8 and, where the kernel
    /// has IPv6, `::1/128`. What is there already stays.
    ///
    /// References: rtnetlink(7).
    ///
    /// # Errors
    ///
    /// EPERM without `CAP_NET_ADMIN` in the user namespace that owns the network namespace; socket(2)'s and send(2)'s.
    pub fn configure(&self) -> Result<()> {
        let socket = named(
            "socket",
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute),
        )?;
        ask(&socket, &self.up)?;
        match ask(&socket, &self.ipv4) {
            Err(Failure { errno: Errno::EEXIST, .. }) => {}
            other => other?,
        }
        match ask(&socket, &self.ipv6) {
            // Without IPv6, in the kernel or by disable_ipv6, there is no ::1 to be had.
            Err(Failure {
                errno: Errno::EEXIST | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EACCES,
                ..
            }) => Ok(()),
            other => other,
        }
    }
}

impl Default for Loopback {
    fn default() -> Self {
        Self::new()
    }
}

/// RTM_SETLINK with a `struct ifinfomsg`: the flag IFF_UP, and no other, is to be set.
fn set_up() -> Vec<u8> {
    let up = libc::IFF_UP.to_ne_bytes();
    let [family, kind] = [[0; 2]; 2];
    request(libc::RTM_SETLINK, 0, &[&family, &kind, &LOOPBACK.to_ne_bytes(), &up, &up])
}

/// RTM_NEWADDR with a `struct ifaddrmsg` and the address in two attributes, as interfaces without a peer have it.
fn new_address(family: c_int, address: &[u8], prefix: u8) -> Vec<u8> {
    let header = [family as u8, prefix, 0, libc::RT_SCOPE_HOST];
    let [local, address] = [libc::IFA_LOCAL, libc::IFA_ADDRESS].map(|kind| attribute(kind, address));
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    request(libc::RTM_NEWADDR, flags, &[&header, &LOOPBACK.to_ne_bytes(), &local, &address])
}

/// A `struct rtattr`, and what it is about.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (4 + value.len()) as u16;
    [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat()
}

/// A `struct nlmsghdr`, and what it is about: parts of whole multiples of four bytes.
fn request(kind: u16, flags: c_int, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().fold(16, |length, part| length + part.len()) as u32;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
    let [sequence, port] = [[0; 4]; 2];
    let header: [&[u8]; 5] =
        [&length.to_ne_bytes(), &kind.to_ne_bytes(), &flags.to_ne_bytes(), &sequence, &port];
    [header.concat(), parts.concat()].concat()
}

/// Sends one request and reads its acknowledgement: a `struct nlmsghdr`, then an errno, negative or 0.
fn ask(socket: &OwnedFd, request: &[u8]) -> Result<()> {
    const ERRNO: std::ops::Range<usize> = 16..20;
    let kernel = NetlinkAddr::new(0, 0);
    named("sendto", sendto(socket.as_raw_fd(), request, &kernel, MsgFlags::empty()))?;
    let mut reply = [0_u8; 1024];
    let length = named("recv", recv(socket.as_raw_fd(), &mut reply, MsgFlags::empty()))?;
    match reply.get(ERRNO).and_then(|errno| errno.try_into().ok()) {
        Some(errno) if length >= ERRNO.end => match i32::from_ne_bytes(errno) {
            0 => Ok(()),
            errno => Err(Failure::new("sendto", Errno::from_raw(-errno))),
        },
        _ => Err(Failure::new("recv", Errno::EBADMSG)),
    }
}
