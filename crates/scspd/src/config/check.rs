//! What no single value shows: clashes between links, groups, peers and listeners.

use std::collections::BTreeMap;

use scsp_wire::{FamilyId, ProtocolId, ServerId};

use super::defaults::PEERS_OF_HUB_MAX;
use super::raw::{Notes, bare_or_quoted};
use super::{Config, Group, IpEndpoint, Link, LinkKind, ListenAddress, PeerAddress, keys};

/// Notes every clash of a configuration whose values are fine one by one.
pub(super) fn check(config: &Config, notes: &mut Notes) {
    links(&config.links, notes);
    groups(config, notes);
    listeners(config, notes);
    keys::check(config, notes);
}

fn links(links: &[Link], notes: &mut Notes) {
    for (index, link) in links.iter().enumerate() {
        let name = bare_or_quoted(&link.name);
        if let LinkKind::Multicast {
            bind,
            group,
            interface,
        } = &link.kind
        {
            let path = format!("link.{name}.bind");
            if let Some(fault) = multicast_fault(bind, group, interface) {
                notes.add(&path, fault);
            }
        }
        for other in &links[..index] {
            if let Some((key, clash)) = clash(link, other) {
                let other = bare_or_quoted(&other.name);
                let message = format!("{clash} is already used by link.{other}");
                notes.add(&format!("link.{name}.{key}"), message);
            }
        }
    }
}

/// Why datagrams to `group` cannot be sent from `bind`, if so.
fn multicast_fault(bind: &IpEndpoint, group: &IpEndpoint, interface: &str) -> Option<String> {
    if bind.ip().is_ipv4() != group.ip().is_ipv4() {
        let family = family_of(group);
        return Some(format!(
            "expected an {family} address, since the group is {group}, got {bind}"
        ));
    }
    if bind.port() != group.port() {
        return Some(format!(
            "expected the group's port {}, got {bind}",
            group.port()
        ));
    }
    (bind.zone().is_some_and(|zone| zone != interface))
        .then(|| format!("expected an address on the link's interface {interface}, got {bind}"))
}

/// What two links cannot both have, and the key that names it. Links of different kinds or
/// interfaces may share an address: multicast sockets hear their own group only.
fn clash(link: &Link, other: &Link) -> Option<(&'static str, String)> {
    match (&link.kind, &other.kind) {
        (LinkKind::Udp { bind }, LinkKind::Udp { bind: taken }) if bind == taken => {
            Some(("bind", bind.to_string()))
        }
        (
            LinkKind::Multicast {
                bind, interface, ..
            },
            LinkKind::Multicast {
                bind: taken,
                interface: same,
                ..
            },
        ) if bind == taken && interface == same => {
            Some(("bind", format!("{bind} on interface {interface}")))
        }
        (
            LinkKind::Ethernet { interface, .. },
            LinkKind::Ethernet {
                interface: taken, ..
            },
        ) if interface == taken => Some(("interface", interface.clone())),
        _ => None,
    }
}

fn family_of(address: &IpEndpoint) -> &'static str {
    if address.ip().is_ipv4() {
        "IPv4"
    } else {
        "IPv6"
    }
}

fn groups(config: &Config, notes: &mut Notes) {
    let mut names = BTreeMap::new();
    let mut instances = BTreeMap::new();
    for (index, group) in config.groups.iter().enumerate() {
        let path = format!("group[{index}]");
        if let Some(other) = names.insert(&group.name, index) {
            let taken = format!("\"{}\" is already used by group[{other}]", group.name);
            notes.add(&format!("{path}.name"), taken);
        }
        if let Some(other) = instances.insert((group.protocol, group.id), index) {
            let taken = format!(
                "protocol {} with id {} is already used by group[{other}]",
                group.protocol, group.id
            );
            notes.add(&format!("{path}.id"), taken);
        }
        if needs_ipv4_ids(group) && config.server.id.as_bytes().len() != 4 {
            let wrong = format!(
                "{} needs server ids of 4 octets, but server.id is {}",
                group.protocol, config.server.id
            );
            notes.add(&format!("{path}.protocol"), wrong);
        }
        if let Some((key, fault)) = family_fault(&config.groups[..index], group) {
            notes.add(&format!("{path}.{key}"), fault);
        }
        peers(config, group, &path, notes);
    }
    let count = config
        .groups
        .iter()
        .map(|group| group.peers.len())
        .sum::<usize>();
    if count > PEERS_OF_HUB_MAX {
        let message = format!("expected at most {PEERS_OF_HUB_MAX} peers in all, got {count}");
        notes.add("group", message);
    }
}

/// Groups of a family send the same Hellos (H-14); the key that differs, and why that is wrong.
fn family_fault(earlier: &[Group], group: &Group) -> Option<(&'static str, String)> {
    if group.family == FamilyId(0) {
        return None;
    }
    let (at, other) = (0..)
        .zip(earlier)
        .find(|(_, other)| other.family == group.family)?;
    [
        ("hello_interval", group.hello_interval_secs, other.hello_interval_secs),
        ("dead_factor", group.dead_factor, other.dead_factor),
    ]
    .into_iter()
    .find(|(_, own, first)| own != first)
    .map(|(key, own, first)| {
        let (family, name) = (group.family.0, &other.name);
        let fault = format!(
            "expected {first} as in group[{at}] \"{name}\", which is of family {family} too, got {own}"
        );
        (key, fault)
    })
}

/// Ids of NHRP, MARS and ATMARP servers are 4 octets (N-01).
fn needs_ipv4_ids(group: &Group) -> bool {
    [ProtocolId::NHRP, ProtocolId::MARS, ProtocolId::ATMARP].contains(&group.protocol)
}

fn peers(config: &Config, group: &Group, path: &str, notes: &mut Notes) {
    let mut addresses = BTreeMap::new();
    for (index, peer) in group.peers.iter().enumerate() {
        let path = format!("{path}.peer[{index}]");
        let is_global =
            matches!(&peer.address, PeerAddress::Ip(address) if !address.is_link_local());
        let place = (!is_global).then_some(peer.link);
        if let Some(fault) = address_fault(config, &peer.address, &config.links[peer.link]) {
            notes.add(&format!("{path}.address"), fault);
        } else if let Some(other) = addresses.insert((&peer.address, place), index) {
            let taken = format!("{} is already peer[{other}] of this group", peer.address);
            notes.add(&format!("{path}.address"), taken);
        }
        if let Some(id) = peer.expected_id
            && let Some(fault) = id_fault(config, group, id)
        {
            notes.add(&format!("{path}.id"), fault);
        }
    }
}

/// Why the peer cannot be reached over its link, if so.
fn address_fault(config: &Config, address: &PeerAddress, link: &Link) -> Option<String> {
    let PeerAddress::Ip(address) = address else {
        return None; // Its form was that of its link.
    };
    let (bind, name) = (link.bind()?, bare_or_quoted(&link.name));
    if address.ip().is_ipv4() != bind.ip().is_ipv4() {
        let family = family_of(bind);
        return Some(format!(
            "expected an {family} address, since link.{name} is bound to {bind}, got {address}"
        ));
    }
    if let Some(own) = config
        .links
        .iter()
        .find(|link| link.bind() == Some(address))
    {
        let own = bare_or_quoted(&own.name);
        return Some(format!(
            "expected the address of another hub, got {address} of link.{own}"
        ));
    }
    if let (Some(zone), Some(interface)) = (address.zone(), link.interface())
        && zone != interface
    {
        return Some(format!(
            "expected an address on {interface}, the interface of link.{name}, got {address}"
        ));
    }
    let is_elsewhere = bind.ip().is_loopback() && !address.ip().is_loopback()
        || bind
            .zone()
            .is_some_and(|own| address.zone().is_some_and(|zone| zone != own));
    is_elsewhere
        .then(|| format!("{address} cannot be reached from {bind}, to which link.{name} is bound"))
}

/// Why no neighbour of the group can have this id, if so.
fn id_fault(config: &Config, group: &Group, id: ServerId) -> Option<String> {
    if id == config.server.id {
        return Some(format!(
            "expected the id of another hub, got this hub's own {id}"
        ));
    }
    (needs_ipv4_ids(group) && id.as_bytes().len() != 4).then(|| {
        format!(
            "expected an id of 4 octets as {} needs, got {id}",
            group.protocol
        )
    })
}

fn listeners(config: &Config, notes: &mut Notes) {
    let admin = ListenAddress::Tcp(config.admin.listen.clone());
    for (index, address) in config.client.listen.iter().enumerate() {
        if config.client.listen[..index].contains(address) {
            notes.add("client.listen", format!("{address} is listed twice"));
        } else if *address == admin {
            notes.add(
                "admin.listen",
                format!("{address} is already used by client.listen"),
            );
        }
    }
}
