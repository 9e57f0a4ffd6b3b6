//! Which neighbour a datagram comes from: by link, source address and the instance it names.

use dashmap::{DashMap, DashSet};
use scsp_engine::{DcsIndex, DcsSetup, Setup};
use scsp_net::Endpoint;
use scsp_wire::{Envelope, FamilyId, ProtocolId, ServerGroupId};

use crate::config::{Link, LinkKind};
use crate::hub::{GroupInfo, PeerInfo};
use crate::reach::endpoint;

/// Instances served with one address: few, so a list is searched.
type Served = Vec<(ProtocolId, ServerGroupId, DcsIndex)>;

/// Whom a datagram comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A neighbour of the instance.
    Dcs(DcsIndex),
    /// This hub: its own multicast came back.
    Own,
    /// Nobody configured.
    Unknown,
}

/// Read by every worker for every datagram, written only when neighbours are configured or
/// interfaces change.
#[derive(Debug, Default)]
pub struct Directory {
    peers: DashMap<(usize, Endpoint), Served>,
    /// Own addresses on multicast links.
    own: DashSet<(usize, Endpoint)>,
    /// By link: the others whose datagrams the kernel may hand over here.
    siblings: Vec<Vec<usize>>,
}

impl Directory {
    /// All configured neighbours.
    pub fn new(links: &[Link], groups: &[GroupInfo], peers: &[PeerInfo]) -> Self {
        let mut directory = Self::default();
        for (dcs, peer) in (0..).map(DcsIndex).zip(peers) {
            let group = &groups[peer.group.index()];
            let key = (peer.link, endpoint(&peer.address, 0));
            directory
                .peers
                .entry(key)
                .or_default()
                .push((group.protocol, group.id, dcs));
        }
        directory.siblings = links
            .iter()
            .map(|link| {
                let others = (0..).zip(links);
                let others = others.filter(|(_, other)| takes_from(link, other));
                others.map(|(at, _)| at).collect()
            })
            .collect();
        directory
    }

    /// The sender of a packet that came in on `link`.
    pub fn sender(
        &self,
        setup: &Setup,
        link: usize,
        from: Endpoint,
        envelope: &Envelope<'_>,
    ) -> Sender {
        let named = (envelope.protocol(), envelope.group());
        match envelope.family() {
            None | Some(FamilyId(0)) => self.find(link, from, named.0, named.1),
            Some(family) => self.find_family(setup, link, from, named, family),
        }
    }

    /// The sender of a datagram that came in on `link`.
    pub fn find(
        &self,
        link: usize,
        from: Endpoint,
        protocol: ProtocolId,
        group: ServerGroupId,
    ) -> Sender {
        self.find_by(link, from, |served| {
            let found = served
                .iter()
                .find(|(pid, sgid, _)| *pid == protocol && *sgid == group);
            found.map(|(_, _, dcs)| *dcs)
        })
    }

    /// The sender of a Hello with a family, which may name any instance of that (H-14).
    pub fn find_family(
        &self,
        setup: &Setup,
        link: usize,
        from: Endpoint,
        instance: (ProtocolId, ServerGroupId),
        family: FamilyId,
    ) -> Sender {
        self.find_by(link, from, |served| {
            let (_, _, any) = served.first()?;
            let DcsSetup { link, station, .. } = setup.dcs[any.index()];
            setup.hello_dcs(link, station, instance, family)
        })
    }

    /// Sockets bound to an interface are handed what comes in there for others on the same port
    /// too, so those are asked as well.
    fn find_by(
        &self,
        link: usize,
        from: Endpoint,
        pick: impl Fn(&Served) -> Option<DcsIndex>,
    ) -> Sender {
        let find_on = |link| pick(&*self.peers.get(&(link, from))?);
        if let Some(dcs) = find_on(link) {
            return Sender::Dcs(dcs);
        }
        if self.own.contains(&(link, from)) {
            return Sender::Own;
        }
        let mut siblings = self.siblings[link].iter();
        siblings
            .find_map(|sibling| find_on(*sibling))
            .map_or(Sender::Unknown, Sender::Dcs)
    }

    /// The interface of a link-local neighbour has another index now.
    pub fn readdress(&self, link: usize, from: Endpoint, to: Endpoint) {
        if let Some((_, served)) = self.peers.remove(&(link, from)) {
            self.peers.insert((link, to), served);
        }
    }

    /// Replaces the addresses of this hub on a link.
    pub fn set_own(&self, link: usize, addresses: impl Iterator<Item = Endpoint>) {
        self.own.retain(|(other, _)| *other != link);
        for address in addresses {
            self.own.insert((link, address));
        }
    }
}

/// Whether the kernel may give to `link` what is sent to `other`: of two sockets on one port it
/// prefers that which is bound to the interface.
fn takes_from(link: &Link, other: &Link) -> bool {
    let (LinkKind::Multicast { bind: own, .. }, LinkKind::Udp { bind }) = (&link.kind, &other.kind)
    else {
        return false;
    };
    let overlap = own.ip() == bind.ip() || own.ip().is_unspecified() || bind.ip().is_unspecified();
    own.port() == bind.port() && own.ip().is_ipv4() == bind.ip().is_ipv4() && overlap
}

#[cfg(test)]
mod tests {
    use scsp_engine::InstanceIndex;

    use super::*;
    use crate::config::{Config, PeerAddress};

    fn directory(text: &str) -> Directory {
        let id = scsp_wire::ServerId::from_bytes(&[10, 0, 0, 1]).unwrap();
        let config = Config::parse("hub.toml", text, || id).unwrap();
        let group = |group: &crate::config::Group| GroupInfo {
            name: group.name.clone(),
            protocol: group.protocol,
            id: group.id,
        };
        let groups: Vec<_> = config.groups.iter().map(group).collect();
        let peers = config.groups.iter().enumerate().flat_map(|(at, group)| {
            group.peers.iter().map(move |peer| PeerInfo {
                group: InstanceIndex(u16::try_from(at).unwrap()),
                address: peer.address.clone(),
                link: peer.link,
            })
        });
        let peers: Vec<_> = peers.collect();
        Directory::new(&config.links, &groups, &peers)
    }

    fn from(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    /// Goal: D-02: a neighbour is known by link, address, port and instance, all of them.
    #[test]
    fn d_02_unknown_addresses_and_instances_are_nobody() {
        let directory = directory(
            r#"
            [link.main]
            [link.other]
            bind = "127.0.0.1:2335"
            [[group]]
            [[group.peer]]
            address = "127.0.0.2:2334"
            [[group]]
            name = "second"
            id = 2
            [[group.peer]]
            address = "127.0.0.2:2334"
            "#,
        );
        let find = |link, text: &str, id| {
            directory.find(link, from(text), ProtocolId::KV, ServerGroupId(id))
        };
        assert_eq!(find(0, "127.0.0.2:2334", 1), Sender::Dcs(DcsIndex(0)));
        assert_eq!(find(0, "127.0.0.2:2334", 2), Sender::Dcs(DcsIndex(1)));
        assert_eq!(find(0, "127.0.0.2:2334", 3), Sender::Unknown);
        assert_eq!(find(0, "127.0.0.2:2335", 1), Sender::Unknown);
        assert_eq!(find(0, "127.0.0.3:2334", 1), Sender::Unknown);
        assert_eq!(find(1, "127.0.0.2:2334", 1), Sender::Unknown);
    }

    /// Goal: a link-local neighbour is known on its own interface only, under whichever index
    /// that has.
    #[test]
    fn link_local_neighbours_are_told_apart_by_interface() {
        let directory = directory(
            r#"
            [link.main]
            bind = "[::]:2334"
            [[group]]
            [[group.peer]]
            address = "[fe80::2%eth0]:2334"
            "#,
        );
        let find = |text: &str| directory.find(0, from(text), ProtocolId::KV, ServerGroupId(1));
        assert_eq!(find("[fe80::2%7]:2334"), Sender::Unknown);
        let on = |scope| {
            let peer = PeerAddress::Ip("[fe80::2%eth0]:2334".parse().unwrap());
            endpoint(&peer, scope)
        };
        directory.readdress(0, on(0), on(7));
        assert_eq!(find("[fe80::2%7]:2334"), Sender::Dcs(DcsIndex(0)));
        assert_eq!(find("[fe80::2%8]:2334"), Sender::Unknown);
        directory.readdress(0, on(7), on(8));
        assert_eq!(find("[fe80::2%7]:2334"), Sender::Unknown);
        assert_eq!(find("[fe80::2%8]:2334"), Sender::Dcs(DcsIndex(0)));
    }

    /// Goal: own multicast is no stranger's; what a socket on an interface is handed for another
    /// link of that port finds its neighbour.
    #[test]
    fn own_packets_and_those_of_other_links_are_recognized() {
        let directory = directory(
            r#"
            [link.main]
            bind = "0.0.0.0:2334"
            [link.lan]
            kind = "multicast"
            group = "239.255.23.34:2334"
            interface = "eth1"
            [[group]]
            [[group.peer]]
            address = "10.0.0.2:2334"
            link = "lan"
            [[group.peer]]
            address = "10.0.1.2:2334"
            "#,
        );
        let find =
            |link, text: &str| directory.find(link, from(text), ProtocolId::KV, ServerGroupId(1));
        directory.set_own(
            1,
            [from("10.0.0.1:2334"), from("10.0.0.9:2334")].into_iter(),
        );
        assert_eq!(find(1, "10.0.0.1:2334"), Sender::Own);
        assert_eq!(find(1, "10.0.0.9:2334"), Sender::Own);
        assert_eq!(find(0, "10.0.0.1:2334"), Sender::Unknown);
        assert_eq!(find(1, "10.0.0.2:2334"), Sender::Dcs(DcsIndex(0)));
        assert_eq!(find(1, "10.0.1.2:2334"), Sender::Dcs(DcsIndex(1)));
        directory.set_own(1, [from("10.0.0.1:2334")].into_iter());
        assert_eq!(find(1, "10.0.0.9:2334"), Sender::Unknown);
    }
}
