//! Which neighbour a datagram comes from: by link, source address and the instance it names.

use std::net::SocketAddr;

use dashmap::DashMap;
use scsp_engine::DcsIndex;
use scsp_net::Endpoint;
use scsp_wire::{ProtocolId, ServerGroupId};

use crate::hub::{GroupInfo, PeerInfo};

/// Instances served with one address: few, so a list is searched.
type Served = Vec<(ProtocolId, ServerGroupId, DcsIndex)>;

/// Read by every worker for every datagram, written only when neighbours are configured.
#[derive(Debug, Default)]
pub struct Directory {
    peers: DashMap<(usize, SocketAddr), Served>,
}

impl Directory {
    /// All configured neighbours.
    pub fn new(groups: &[GroupInfo], peers: &[PeerInfo]) -> Self {
        let directory = Self::default();
        for (dcs, peer) in (0..).map(DcsIndex).zip(peers) {
            let group = &groups[peer.group.index()];
            let key = (peer.link, canonical(peer.address));
            directory
                .peers
                .entry(key)
                .or_default()
                .push((group.protocol, group.id, dcs));
        }
        directory
    }

    /// The neighbour, unless the address or the instance is unknown (D-02).
    pub fn find(
        &self,
        link: usize,
        from: Endpoint,
        protocol: ProtocolId,
        group: ServerGroupId,
    ) -> Option<DcsIndex> {
        let served = self.peers.get(&(link, canonical(from.ip()?)))?;
        let found = served
            .iter()
            .find(|(pid, sgid, _)| *pid == protocol && *sgid == group);
        found.map(|(_, _, dcs)| *dcs)
    }
}

/// Flow labels and scope ids differ between what is configured and what the kernel reports.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port())
}

#[cfg(test)]
mod tests {
    use scsp_engine::InstanceIndex;

    use super::*;

    /// Goal: D-02: a neighbour is known by link, address, port and instance, all of them.
    #[test]
    fn d_02_unknown_addresses_and_instances_are_nobody() {
        let group = |id| GroupInfo {
            name: format!("g{id}"),
            protocol: ProtocolId::KV,
            id: ServerGroupId(id),
        };
        let address: SocketAddr = "127.0.0.2:2334".parse().unwrap();
        let peer = |group| PeerInfo {
            group: InstanceIndex(group),
            address,
            link: 0,
        };
        let directory = Directory::new(&[group(1), group(2)], &[peer(0), peer(1)]);
        let find = |link, from: &str, id| {
            let from = from.parse().unwrap();
            directory.find(link, from, ProtocolId::KV, ServerGroupId(id))
        };
        assert_eq!(find(0, "127.0.0.2:2334", 1), Some(DcsIndex(0)));
        assert_eq!(find(0, "127.0.0.2:2334", 2), Some(DcsIndex(1)));
        assert_eq!(find(0, "127.0.0.2:2334", 3), None);
        assert_eq!(find(0, "127.0.0.2:2335", 1), None);
        assert_eq!(find(0, "127.0.0.3:2334", 1), None);
        assert_eq!(find(1, "127.0.0.2:2334", 1), None);
    }
}
