use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily as SocketFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
    socket,
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
        let mut link = LinkMessage::default();
        link.header.index = LOOPBACK;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        Self {
            up: request(RouteNetlinkMessage::SetLink(link), 0),
            ipv4: new_address(AddressFamily::Inet, IpAddr::V4(Ipv4Addr::LOCALHOST), 8),
            ipv6: new_address(AddressFamily::Inet6, IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
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
            socket(SocketFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute),
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

fn new_address(family: AddressFamily, address: IpAddr, prefix: u8) -> Vec<u8> {
    let mut message = AddressMessage::default();
    message.header.family = family;
    message.header.prefix_len = prefix;
    message.header.scope = AddressScope::Host;
    message.header.index = LOOPBACK;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
}

fn request(message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    bytes
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
