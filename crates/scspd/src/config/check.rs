//! What no single value shows: clashes between links, groups, peers and listeners.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use scsp_wire::{ProtocolId, ServerId};

use super::raw::{Notes, bare_or_quoted};
use super::{Config, Group, Link, ListenAddress};

/// Notes every clash of a configuration whose values are fine one by one.
pub(super) fn check(config: &Config, notes: &mut Notes) {
    links(&config.links, notes);
    groups(config, notes);
    listeners(config, notes);
}

fn links(links: &[Link], notes: &mut Notes) {
    let mut binds = BTreeMap::new();
    for link in links {
        let name = bare_or_quoted(&link.name);
        if let Some(other) = binds.insert(link.bind(), &link.name) {
            let taken = format!("{} is already used by link.{other}", link.bind());
            notes.add(&format!("link.{name}.bind"), taken);
        }
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
        peers(config, group, &path, notes);
    }
}

/// Ids of NHRP, MARS and ATMARP servers are 4 octets (N-01).
fn needs_ipv4_ids(group: &Group) -> bool {
    [ProtocolId::NHRP, ProtocolId::MARS, ProtocolId::ATMARP].contains(&group.protocol)
}

fn peers(config: &Config, group: &Group, path: &str, notes: &mut Notes) {
    let mut addresses = BTreeMap::new();
    for (index, peer) in group.peers.iter().enumerate() {
        let path = format!("{path}.peer[{index}]");
        if let Some(fault) = address_fault(config, peer.address, &config.links[peer.link]) {
            notes.add(&format!("{path}.address"), fault);
        } else if let Some(other) = addresses.insert(peer.address, index) {
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
fn address_fault(config: &Config, address: SocketAddr, link: &Link) -> Option<String> {
    let (bind, name) = (link.bind(), bare_or_quoted(&link.name));
    if address.is_ipv4() != bind.is_ipv4() {
        let family = if bind.is_ipv4() { "IPv4" } else { "IPv6" };
        return Some(format!(
            "expected an {family} address, since link.{name} is bound to {bind}, got {address}"
        ));
    }
    if let Some(own) = config.links.iter().find(|link| link.bind() == address) {
        let own = bare_or_quoted(&own.name);
        return Some(format!(
            "expected the address of another hub, got {address} of link.{own}"
        ));
    }
    (bind.ip().is_loopback() && !address.ip().is_loopback())
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
    let admin = ListenAddress::Tcp(config.admin.listen);
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
