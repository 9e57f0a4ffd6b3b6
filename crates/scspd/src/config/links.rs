//! `[link.NAME]` and the addresses of peers: which keys belong to which kind of link.

use std::net::IpAddr;

use toml::de::DeValue;

use super::MacAddress;
use super::address::{AddressFault, IpEndpoint, is_interface};
use super::defaults::{self, LINK_BIND, LINKS_MAX, MTU};
use super::raw::Table;
use super::{Link, LinkKind, PeerAddress, values};

/// What an interface's name looks like.
const INTERFACE_FORM: &str = "the name of a network interface, such as \"eth1\"";
/// The multicast group of a `multicast` link.
const GROUP_FORM: &str = "a multicast address with a port, such as \"239.255.23.34:2334\"";
/// The multicast group of an `ethernet` link.
const MAC_GROUP_FORM: &str =
    "a multicast MAC address, such as \"03:00:00:00:23:34\", not that of everyone";
/// A peer on a link over IP.
const PEER_FORM: &str = "the address of one host with a port, such as \"10.0.0.2:2334\"";
/// A peer on an `ethernet` link.
const STATION_FORM: &str = "the MAC address of one station, such as \"02:00:00:00:00:02\"";
/// An address to listen on.
pub(super) const LOCAL_FORM: &str =
    "an address of this machine with a port, such as \"127.0.0.1:2334\"";

/// Kind of a link, before its other keys are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Udp,
    Multicast,
    Ethernet,
}

impl Kind {
    const NAMES: [(&'static str, Self); 3] = [
        ("udp", Self::Udp),
        ("multicast", Self::Multicast),
        ("ethernet", Self::Ethernet),
    ];
}

/// The links in the order of the file; without any, the default one.
pub(super) fn read(root: &mut Table<'_>) -> Vec<Link> {
    root.named_tables("link", LINKS_MAX, |name, table| {
        if let Some(fault) = values::name_fault(name) {
            table.refuse_all(fault);
        }
        link(name, table)
    })
    .unwrap_or_else(|| vec![Link::udp(defaults::LINK_NAME, LINK_BIND.into(), MTU)])
}

fn link(name: &str, table: &mut Table<'_>) -> Link {
    let mtu = |max| values::whole(defaults::MTU_MIN..=max);
    match table.or("kind", Kind::Udp, values::choice(&Kind::NAMES)) {
        Kind::Udp => {
            table.not_of("group", "links of kind \"multicast\" or \"ethernet\"");
            table.not_of("interface", "links of kind \"multicast\" or \"ethernet\"");
            let bind = table.or("bind", LINK_BIND.into(), local_address);
            let mtu = table.or("mtu", MTU, mtu(defaults::MTU_MAX));
            Link::udp(name, bind, mtu)
        }
        Kind::Multicast => {
            let group = table.required("group", GROUP_FORM, multicast_group);
            let interface = table.required("interface", INTERFACE_FORM, interface);
            let bind = table.optional("bind", multicast_bind);
            let mtu = table.or("mtu", MTU, mtu(defaults::MTU_MAX));
            // What was refused is noted; any valid address stands in for it.
            let group = group.unwrap_or(LINK_BIND.into());
            let interface = interface.unwrap_or_default();
            let bind = bind.unwrap_or_else(|| any_address(&group));
            Link::multicast(name, bind, group, interface, mtu)
        }
        Kind::Ethernet => {
            table.not_of("bind", "links of kind \"udp\" or \"multicast\"");
            let interface = table.required("interface", INTERFACE_FORM, interface);
            let group = table.optional("group", mac_group);
            let mtu = table.optional("mtu", mtu(defaults::ETHERNET_MTU_MAX));
            Link::ethernet(name, interface.unwrap_or_default(), group, mtu)
        }
    }
}

/// Where a multicast link without `bind` listens: on the group's port, all addresses of its family.
fn any_address(group: &IpEndpoint) -> IpEndpoint {
    let any = match group.ip() {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    };
    std::net::SocketAddr::new(any, group.port()).into()
}

/// The address of a peer, as its link takes it; `None` when it is absent or refused.
pub(super) fn peer_address(table: &mut Table<'_>, link: Option<&Link>) -> Option<PeerAddress> {
    match link.map(|link| &link.kind) {
        Some(LinkKind::Ethernet { .. }) => table.required("address", STATION_FORM, station_address),
        Some(LinkKind::Multicast { .. }) => table.required("address", PEER_FORM, |value| {
            host_address(value, IpEndpoint::parse_on_interface)
        }),
        Some(LinkKind::Udp { .. }) => table.required("address", PEER_FORM, |value| {
            host_address(value, str::parse)
        }),
        // The link is refused already: either form will do.
        None => table.required("address", PEER_FORM, |value| {
            station_address(value).or_else(|_| host_address(value, IpEndpoint::parse_on_interface))
        }),
    }
}

fn host_address(
    value: &DeValue<'_>,
    parse: impl FnOnce(&str) -> Result<IpEndpoint, AddressFault>,
) -> Result<PeerAddress, String> {
    let endpoint = endpoint(value, PEER_FORM, parse)?;
    let is_host = !is_many(endpoint.ip()) && !endpoint.ip().is_unspecified();
    (is_host && endpoint.port() != 0)
        .then_some(PeerAddress::Ip(endpoint))
        .ok_or_else(|| values::expected(PEER_FORM, value))
}

fn station_address(value: &DeValue<'_>) -> Result<PeerAddress, String> {
    mac_address(value, STATION_FORM, is_station).map(PeerAddress::Ethernet)
}

fn mac_group(value: &DeValue<'_>) -> Result<MacAddress, String> {
    mac_address(value, MAC_GROUP_FORM, |address| {
        address.is_multicast() && address.octets() != [0xFF; 6]
    })
}

fn mac_address(
    value: &DeValue<'_>,
    form: &str,
    is_fine: impl FnOnce(MacAddress) -> bool,
) -> Result<MacAddress, String> {
    let address: Option<MacAddress> = value.as_str().and_then(|text| text.parse().ok());
    address
        .filter(|address| is_fine(*address))
        .ok_or_else(|| values::expected(form, value))
}

fn interface(value: &DeValue<'_>) -> Result<String, String> {
    value
        .as_str()
        .filter(|text| is_interface(text))
        .map(str::to_owned)
        .ok_or_else(|| values::expected(INTERFACE_FORM, value))
}

fn multicast_group(value: &DeValue<'_>) -> Result<IpEndpoint, String> {
    let group = endpoint(value, GROUP_FORM, str::parse)?;
    (group.ip().is_multicast() && group.port() != 0)
        .then_some(group)
        .ok_or_else(|| values::expected(GROUP_FORM, value))
}

/// An address to listen on, with a port that others can know beforehand.
pub(super) fn local_address(value: &DeValue<'_>) -> Result<IpEndpoint, String> {
    local(value, str::parse)
}

/// The same, where the link's interface is that of a link-local address.
fn multicast_bind(value: &DeValue<'_>) -> Result<IpEndpoint, String> {
    local(value, IpEndpoint::parse_on_interface)
}

fn local(
    value: &DeValue<'_>,
    parse: impl FnOnce(&str) -> Result<IpEndpoint, AddressFault>,
) -> Result<IpEndpoint, String> {
    let endpoint = endpoint(value, LOCAL_FORM, parse)?;
    (endpoint.port() != 0 && !is_many(endpoint.ip()))
        .then_some(endpoint)
        .ok_or_else(|| values::expected(LOCAL_FORM, value))
}

/// An address; `form` says what is expected where it has none of the finer faults.
fn endpoint(
    value: &DeValue<'_>,
    form: &str,
    parse: impl FnOnce(&str) -> Result<IpEndpoint, AddressFault>,
) -> Result<IpEndpoint, String> {
    let Some(text) = value.as_str() else {
        return Err(values::expected(form, value));
    };
    parse(text).map_err(|fault| match fault {
        AddressFault::Form => values::expected(form, value),
        fault => values::expected(&fault.to_string(), value),
    })
}

/// Whether one station can have the address.
fn is_station(address: MacAddress) -> bool {
    !address.is_multicast() && address.octets() != [0; 6]
}

/// Whether an address stands for many hosts.
fn is_many(ip: IpAddr) -> bool {
    ip.is_multicast() || matches!(ip, IpAddr::V4(v4) if v4.is_broadcast())
}
