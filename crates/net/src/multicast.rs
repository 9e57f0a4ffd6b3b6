//! UDP sockets of multicast links.
//!
//! ```text
//!   every worker   bind address ── sends to anybody, receives what is for us alone
//!   one worker     group address ─ receives what is for the group
//! ```
//!
//! A datagram to a group is copied to every socket that joined it, so only one joins. Bound to the
//! group's own address it gets nothing else, and the group's port may differ from ours.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use rustix::net::sockopt;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use crate::socket::{allow_fragments, set_queues};
use crate::{Interface, IoError, LinkSocket, UdpOptions, raw};

/// What to open.
#[derive(Clone, Copy, Debug)]
struct Wanted<'a> {
    bind: SocketAddr,
    group: SocketAddr,
    interface: &'a Interface,
}

/// Opens the sockets of a multicast link on one interface. With `join` it receives what is sent to
/// the group; of all sockets of a hub's link exactly one does. What comes and goes is bound to the
/// interface, so links on other interfaces may have the same port. Where a plain UDP link has the
/// same port too, unicast that comes through the interface comes in on either.
///
/// Sockets of several workers, and links that share a port, need `reuse_port`; without it, and
/// without `join`, the address is proven to be free.
pub fn bind_multicast(
    bind: SocketAddr,
    group: SocketAddr,
    interface: &str,
    join: bool,
    options: &UdpOptions,
) -> Result<LinkSocket, IoError> {
    let open = || {
        if !group.ip().is_multicast() || bind.ip().is_multicast() {
            let reason = "the group, and only the group, is a multicast address";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        if bind.is_ipv4() != group.is_ipv4() {
            let reason = "bind and group are of different address families";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let interface = Interface::find(interface)?;
        let wanted = Wanted {
            bind: on_interface(bind, interface.index),
            group: on_interface(group, interface.index),
            interface: &interface,
        };
        let main = wanted.main(options.reuse_port || join, options)?;
        let group = join.then(|| wanted.joined(options)).transpose()?;
        let local = wanted.local()?;
        let group = group.map(Into::into);
        Ok(LinkSocket::multicast(main.into(), group, local, interface))
    };
    open().map_err(|source| IoError::Interface {
        what: format!("multicast link {bind} with group {group}"),
        interface: interface.to_owned(),
        source,
    })
}

/// Link-local addresses need the interface.
fn on_interface(address: SocketAddr, index: u32) -> SocketAddr {
    let SocketAddr::V6(v6) = address else {
        return address;
    };
    SocketAddrV6::new(*v6.ip(), v6.port(), 0, index).into()
}

impl Wanted<'_> {
    /// A socket that sees nothing but the interface and no group that it has not joined.
    fn socket(&self, options: &UdpOptions) -> io::Result<Socket> {
        let domain = Domain::for_address(self.bind);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        // Before the bind: sockets on different interfaces do not share a port group.
        socket.bind_device(Some(self.interface.name.as_bytes()))?;
        if self.bind.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        ignore_groups(&socket, self.bind)?;
        set_queues(
            &socket,
            options.receive_buffer_bytes,
            options.send_buffer_bytes,
        )?;
        Ok(socket)
    }

    fn main(&self, reuse_port: bool, options: &UdpOptions) -> io::Result<Socket> {
        let socket = self.socket(options)?;
        allow_fragments(&socket, self.bind)?;
        let index = self.interface.index;
        // The group reaches this segment only, other hubs on this machine included.
        if self.bind.is_ipv6() {
            socket.set_multicast_if_v6(index)?;
            socket.set_multicast_hops_v6(1)?;
            socket.set_multicast_loop_v6(true)?;
        } else {
            let any = Ipv4Addr::UNSPECIFIED;
            sockopt::set_ip_multicast_if_with_ifindex(&socket, &any, &any, index)?;
            socket.set_multicast_ttl_v4(1)?;
            socket.set_multicast_loop_v4(true)?;
        }
        socket.set_reuse_port(reuse_port)?;
        socket.bind(&self.bind.into())?;
        Ok(socket)
    }

    fn joined(&self, options: &UdpOptions) -> io::Result<Socket> {
        let socket = self.socket(options)?;
        // Other hubs on this machine, of other users too, hear the group as well.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&self.group.into())?;
        let index = self.interface.index;
        match self.group.ip() {
            IpAddr::V4(group) => {
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))?;
            }
            IpAddr::V6(group) => socket.join_multicast_v6(&group, index)?,
        }
        Ok(socket)
    }

    /// The address the group sees us at.
    fn local(&self) -> io::Result<SocketAddr> {
        if !self.bind.ip().is_unspecified() {
            return Ok(self.bind);
        }
        let domain = Domain::for_address(self.bind);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        let address = if self.bind.is_ipv4() {
            IpAddr::V4(raw::interface_ipv4(&socket, &self.interface.name)?)
        } else {
            // Which of its addresses the interface uses depends on the scope of the group.
            socket.bind_device(Some(self.interface.name.as_bytes()))?;
            socket.connect(&self.group.into())?;
            let address = socket.local_addr()?.as_socket();
            address.expect("an IPv6 socket has such an address").ip()
        };
        Ok(SocketAddr::new(address, self.bind.port()))
    }
}

/// Takes only what is sent to groups that this very socket has joined.
pub(crate) fn ignore_groups(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_multicast_all_v6(false)
    } else {
        socket.set_multicast_all_v4(false)
    }
}
