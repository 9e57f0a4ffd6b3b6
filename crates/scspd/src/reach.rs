//! Links as the cores know them (H-04): each unicast neighbour is a link of its own, each
//! multicast or Ethernet group is one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use scsp_engine::LinkIndex;
use scsp_net::Endpoint;

use crate::config::{Config, IpEndpoint, LinkKind, PeerAddress};

/// Who is at the other end of a link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FarEnd {
    /// One neighbour.
    Station(PeerAddress),
    /// All neighbours on a segment, reached by one packet.
    Group(Endpoint),
}

/// One link of the cores.
#[derive(Debug)]
pub struct Reach {
    /// Position of its `[link.NAME]`, whose sockets it uses.
    pub link: usize,
    /// Who is there.
    pub far_end: FarEnd,
    /// Index of the interface that a link-local address is on now; 0: none.
    scope: AtomicU32,
}

impl Reach {
    fn new(link: usize, far_end: FarEnd) -> Self {
        let scope = AtomicU32::new(0);
        Self {
            link,
            far_end,
            scope,
        }
    }

    /// Index of the interface that a link-local address is on now; 0: none.
    pub fn scope(&self) -> u32 {
        self.scope.load(Ordering::Relaxed)
    }

    /// The interface of a link-local address came, went or changed its index; the previous one.
    pub fn set_scope(&self, scope: u32) -> u32 {
        self.scope.swap(scope, Ordering::Relaxed)
    }

    /// Name or number of the interface that a link-local neighbour is on.
    pub fn zone(&self) -> Option<&str> {
        match &self.far_end {
            FarEnd::Station(PeerAddress::Ip(address)) => address.zone(),
            FarEnd::Station(PeerAddress::Ethernet(_)) | FarEnd::Group(_) => None,
        }
    }
}

/// All links of the cores, in the order of [`LinkIndex`], and the one of each peer in the order of
/// the configuration.
pub fn reaches(config: &Config) -> (Vec<Reach>, Vec<LinkIndex>) {
    let mut all: Vec<Reach> = Vec::new();
    let mut known = HashMap::new();
    let peers = config.groups.iter().flat_map(|group| &group.peers);
    let of_peers = peers
        .map(|peer| {
            let far_end = match &config.links[peer.link].kind {
                LinkKind::Multicast { group, .. } => FarEnd::Group(group.socket().into()),
                LinkKind::Ethernet {
                    group: Some(group), ..
                } => FarEnd::Group((*group).into()),
                LinkKind::Udp { .. } | LinkKind::Ethernet { group: None, .. } => {
                    FarEnd::Station(peer.address.clone())
                }
            };
            let at = known.entry((peer.link, far_end)).or_insert_with_key(|key| {
                let (link, far_end) = key.clone();
                all.push(Reach::new(link, far_end));
                all.len() - 1
            });
            LinkIndex(u16::try_from(*at).expect("peers are limited by the configuration"))
        })
        .collect();
    (all, of_peers)
}

/// Number of the server behind each peer's address, in the order of the configuration: that of the
/// first peer there, counted over all groups (H-14).
pub fn stations(config: &Config) -> Vec<u16> {
    let mut known = HashMap::<(usize, &PeerAddress), u16>::new();
    let peers = config.groups.iter().flat_map(|group| &group.peers);
    (0..)
        .zip(peers)
        .map(|(at, peer)| *known.entry((peer.link, &peer.address)).or_insert(at))
        .collect()
}

/// Where packets to a peer go, while its interface has the index `scope`.
pub fn endpoint(address: &PeerAddress, scope: u32) -> Endpoint {
    match address {
        PeerAddress::Ip(address) => Endpoint::Ip(address.with_scope(scope)),
        PeerAddress::Ethernet(address) => Endpoint::Mac(*address),
    }
}

/// Where this hub listens on a UDP link, unless on all addresses.
pub fn own_ip(bind: &IpEndpoint) -> Option<std::net::IpAddr> {
    Some(bind.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use scsp_wire::ServerId;

    use super::*;

    /// Goal: H-04: every unicast address is a link of its own, shared by the groups there; a
    /// multicast group is one link for all its members.
    #[test]
    fn h_04_unicast_peers_are_links_of_their_own() {
        let text = r#"
            [link.main]
            bind = "[::]:2334"
            [link.lan]
            kind = "multicast"
            group = "239.255.23.34:2334"
            interface = "eth1"
            [link.raw]
            kind = "ethernet"
            interface = "eth1"

            [[group]]
            [[group.peer]]
            address = "[2001:db8::2]:2334"
            [[group.peer]]
            address = "[fe80::2%eth0]:2334"
            [[group.peer]]
            address = "[fe80::2%eth1]:2334"
            [[group.peer]]
            address = "10.0.0.2:2334"
            link = "lan"
            [[group.peer]]
            address = "10.0.0.3:2334"
            link = "lan"
            [[group.peer]]
            address = "02:00:00:00:00:02"
            link = "raw"

            [[group]]
            name = "other"
            id = 2
            [[group.peer]]
            address = "[2001:db8::2]:2334"
            [[group.peer]]
            address = "10.0.0.3:2334"
            link = "lan"
            [[group.peer]]
            address = "02:00:00:00:00:03"
            link = "raw"
        "#;
        let id = ServerId::from_bytes(&[10, 0, 0, 1]).unwrap();
        let config = Config::parse("hub.toml", text, || id).unwrap();
        let (all, of_peers) = reaches(&config);
        let of_peers: Vec<u16> = of_peers.into_iter().map(|LinkIndex(at)| at).collect();
        assert_eq!(of_peers, [0, 1, 2, 3, 3, 4, 0, 3, 5]);
        assert_eq!(stations(&config), [0, 1, 2, 3, 4, 5, 0, 4, 8]);
        let links: Vec<usize> = all.iter().map(|it| it.link).collect();
        assert_eq!(links, [0, 0, 0, 1, 2, 2]);
        let group = "239.255.23.34:2334"
            .parse::<std::net::SocketAddr>()
            .unwrap();
        assert_eq!(all[3].far_end, FarEnd::Group(group.into()));

        assert_eq!(all[1].zone(), Some("eth0"));
        assert_eq!(
            (all[1].set_scope(7), all[1].set_scope(8), all[1].scope()),
            (0, 7, 8)
        );
        let FarEnd::Station(address) = &all[1].far_end else {
            panic!("a unicast link");
        };
        let kernel: std::net::SocketAddr = "[fe80::2%8]:2334".parse().unwrap();
        assert_eq!(endpoint(address, 8), Endpoint::Ip(kernel));
    }
}
