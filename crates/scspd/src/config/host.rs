//! The server id of a hub whose configuration names none.

use std::env;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use scsp_wire::ServerId;

/// Where systemd tells the directory that `StateDirectory=` made; the first one of several.
const STATE_DIRECTORY: &str = "STATE_DIRECTORY";

/// Documentation address (RFC 5737), used only to ask the routing table for a source address.
const FAR_AWAY: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// The machine's IPv4 address towards the default route, else its host name.
///
/// Connecting a datagram socket selects the source address and sends nothing. The default route is
/// asked rather than the interface list, because bridges of container hosts carry the same address
/// on every machine, and two hubs with one id would refuse each other (D-10).
pub(super) fn default_server_id() -> ServerId {
    route_address().map_or_else(host_name_id, ServerId::from)
}

/// The directory for data that the service manager made, if so.
pub(super) fn state_directory() -> Option<PathBuf> {
    let paths = env::var(STATE_DIRECTORY).ok()?;
    let first = paths.split(':').next()?;
    first.starts_with('/').then(|| PathBuf::from(first))
}

fn route_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(FAR_AWAY).ok()?;
    match socket.local_addr().ok()? {
        SocketAddr::V4(address) => {
            Some(*address.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
        }
        SocketAddr::V6(_) => None,
    }
}

fn host_name_id() -> ServerId {
    let host = rustix::system::uname();
    ServerId::from_bytes(host.nodename().to_bytes())
        .or_else(|| ServerId::from_bytes(b"localhost"))
        .expect("\"localhost\" has 9 octets")
}
