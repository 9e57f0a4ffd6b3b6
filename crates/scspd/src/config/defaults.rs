//! Defaults and limits of the configuration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The commented default configuration.
pub(super) const TEXT: &str = include_str!("default.toml");

/// Octets of a configuration file.
pub(super) const FILE_LEN_MAX: u64 = 1 << 20;
/// Links of a hub.
pub(super) const LINKS_MAX: usize = 64;
/// Groups of a hub.
pub(super) const GROUPS_MAX: usize = 256;
/// Peers of a group.
pub(super) const PEERS_MAX: usize = 1024;
/// Peers of all groups together; the cores number them with 16 bits.
pub(super) const PEERS_OF_HUB_MAX: usize = 1 << 15;
/// Addresses of the client interface.
pub(super) const LISTEN_MAX: usize = 16;

/// One worker per core.
pub(super) const WORKERS: usize = 0;
pub(super) const WORKERS_MAX: usize = 1024;
pub(super) const PIN: bool = true;

pub(super) const SNAPSHOT_INTERVAL: Duration = Duration::from_mins(1);
/// Less would not hold anything worth a limit.
pub(super) const MAX_MEMORY_MIN: u64 = 1 << 20;

pub(super) const LINK_NAME: &str = "main";
pub(super) const LINK_BIND: SocketAddr = SocketAddr::new(LOOPBACK, 2334);
pub(super) const MTU: u16 = 1500;
/// Every IPv4 host takes datagrams of 576 octets (RFC 1122 3.3.3).
pub(super) const MTU_MIN: u16 = 576;
pub(super) const MTU_MAX: u16 = u16::MAX;
/// The largest length an 802.3 frame can state.
pub(super) const ETHERNET_MTU_MAX: u16 = 1500;

/// Resends before an abnormal event (CSU-06, D-13).
pub(super) const RETRANSMIT_LIMIT: u32 = 1000;
/// Leaves more than half of the sequence space to a server that restarts once (CSU-20).
pub(super) const RESTART_INCREMENT_MAX: u32 = 1_000_000_000;

pub(super) const CLIENT_LISTEN: SocketAddr = SocketAddr::new(LOOPBACK, 6390);
pub(super) const CONNECTIONS: usize = 10_000;
pub(super) const CONNECTIONS_MAX: usize = 1_000_000;
pub(super) const ADMIN_LISTEN: SocketAddr = SocketAddr::new(LOOPBACK, 9144);

/// Sleep at once.
pub(super) const BUSY_POLL: Duration = Duration::ZERO;
/// Whatever takes longer to answer may as well be slept for.
pub(super) const BUSY_POLL_MAX: Duration = Duration::from_millis(10);

pub(super) const LOG_LEVEL: &str = "info";
pub(super) const LOG_LEVELS: [(&str, &str); 6] = [
    ("off", "off"),
    ("error", "error"),
    ("warn", "warn"),
    ("info", "info"),
    ("debug", "debug"),
    ("trace", "trace"),
];
