//! Addresses as an operator writes them: IP with a port, link-local ones with their interface,
//! and those of Ethernet.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Octets of an interface's name: the kernel's 16 less the closing zero.
const INTERFACE_LEN_MAX: usize = 15;

/// An IP address with a port. A link-local one names its interface, by which it is looked up
/// anew whenever interfaces come and go: numbers change, names are what the operator meant.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct IpEndpoint {
    /// Address and port; its scope id and flow label are 0.
    socket: SocketAddr,
    /// Name or number of the interface.
    zone: Option<String>,
}

/// What is wrong with the text of an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AddressFault {
    /// No address with a port.
    #[error("an address with a port")]
    Form,
    /// An IPv4 address in IPv6 clothes: it would never equal what packets come from.
    #[error("the IPv4 address itself instead of an IPv4-mapped one")]
    Mapped,
    /// The same link-local address may be on every interface.
    #[error("the interface of a link-local address as well, such as \"[fe80::1%eth0]:2334\"")]
    ZoneMissing,
    /// Only link-local addresses depend on an interface.
    #[error("an interface only behind a link-local address")]
    ZoneNeedless,
    /// What follows `%` cannot be an interface.
    #[error("the name or number of an interface behind %")]
    Zone,
}

impl IpEndpoint {
    /// The address without its interface; scope id 0.
    pub fn socket(&self) -> SocketAddr {
        self.socket
    }

    /// The host.
    pub fn ip(&self) -> IpAddr {
        self.socket.ip()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.socket.port()
    }

    /// Name or number of the interface of a link-local address.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// Whether it means something else on every interface.
    pub fn is_link_local(&self) -> bool {
        is_link_local(self.ip())
    }

    /// The address as the kernel takes it, on the interface with index `scope`; 0: none.
    pub fn with_scope(&self, scope: u32) -> SocketAddr {
        match self.socket {
            SocketAddr::V6(mut socket) if self.is_link_local() => {
                socket.set_scope_id(scope);
                SocketAddr::V6(socket)
            }
            socket => socket,
        }
    }

    /// Reads a link-local address without its interface too, where something else names that.
    pub(super) fn parse_on_interface(text: &str) -> Result<Self, AddressFault> {
        match text.parse() {
            Err(AddressFault::ZoneMissing) => {
                let socket = text.parse().map_err(|_| AddressFault::Form)?;
                Ok(Self { socket, zone: None })
            }
            result => result,
        }
    }
}

/// Whether an address is IPv6 link-local unicast (`fe80::/10`).
fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

impl FromStr for IpEndpoint {
    type Err = AddressFault;

    fn from_str(text: &str) -> Result<Self, AddressFault> {
        let (plain, zone) = match text.split_once('%') {
            None => (text.to_owned(), None),
            Some((head, rest)) => {
                let (zone, port) = rest.split_once(']').ok_or(AddressFault::Form)?;
                (format!("{head}]{port}"), Some(zone))
            }
        };
        let socket: SocketAddr = plain.parse().map_err(|_| AddressFault::Form)?;
        if matches!(socket.ip(), IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some()) {
            return Err(AddressFault::Mapped);
        }
        match (is_link_local(socket.ip()), zone) {
            (false, None) => {}
            (true, Some(zone)) if is_zone(zone) => {}
            (true, Some(_)) => return Err(AddressFault::Zone),
            (true, None) => return Err(AddressFault::ZoneMissing),
            (false, Some(_)) => return Err(AddressFault::ZoneNeedless),
        }
        let zone = zone.map(str::to_owned);
        Ok(Self { socket, zone })
    }
}

impl From<SocketAddr> for IpEndpoint {
    /// An address of this machine's kernel: its scope id becomes the interface's number.
    fn from(socket: SocketAddr) -> Self {
        let zone = match socket {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => Some(v6.scope_id().to_string()),
            SocketAddr::V4(_) | SocketAddr::V6(_) => None,
        };
        let socket = SocketAddr::new(socket.ip(), socket.port());
        Self { socket, zone }
    }
}

impl fmt::Display for IpEndpoint {
    /// As in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => write!(f, "[{}%{zone}]:{}", self.ip(), self.port()),
            None => self.socket.fmt(f),
        }
    }
}

/// Whether a text can be an interface's name or number.
fn is_zone(text: &str) -> bool {
    let is_number = text.bytes().all(|octet| octet.is_ascii_digit());
    is_interface(text) && (!is_number || text.parse::<u32>().is_ok_and(|number| number > 0))
}

/// Whether a text can be the name of an interface, by the kernel's rules and those of `%`.
pub(super) fn is_interface(text: &str) -> bool {
    let is_fine = |octet: u8| octet.is_ascii_graphic() && !b"/:%]\"\\".contains(&octet);
    (1..=INTERFACE_LEN_MAX).contains(&text.len())
        && !matches!(text, "." | "..")
        && text.bytes().all(is_fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every family and zone form reads, prints back, and means the kernel's address.
    #[test]
    fn addresses_read_and_print_back() {
        for (text, on_seven) in [
            ("10.0.0.1:2334", "10.0.0.1:2334"),
            ("[2001:db8::1]:2334", "[2001:db8::1]:2334"),
            ("[fe80::1%eth0]:2334", "[fe80::1%7]:2334"),
            ("[fe80::1%3]:2334", "[fe80::1%7]:2334"),
        ] {
            let endpoint: IpEndpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
            assert_eq!(endpoint.with_scope(7).to_string(), on_seven);
        }
        let kernel: SocketAddr = "[fe80::1%3]:2334".parse().unwrap();
        assert_eq!(IpEndpoint::from(kernel).to_string(), "[fe80::1%3]:2334");
    }

    /// Goal: each fault is named for what it is.
    #[test]
    fn faulty_addresses_say_why() {
        use AddressFault::{Form, Mapped, Zone, ZoneMissing, ZoneNeedless};
        for (text, fault) in [
            ("10.0.0.1", Form),
            ("10.0.0.1%eth0:1", Form),
            ("[fe80::1%eth0]", Form),
            ("[::ffff:10.0.0.1]:1", Mapped),
            ("[fe80::1]:1", ZoneMissing),
            ("[::1%lo]:1", ZoneNeedless),
            ("[fe80::1%]:1", Zone),
            ("[fe80::1%0]:1", Zone),
            ("[fe80::1%99999999999]:1", Zone),
            ("[fe80::1%a name]:1", Zone),
            ("[fe80::1%sixteen_letters_]:1", Zone),
        ] {
            assert_eq!(text.parse::<IpEndpoint>(), Err(fault), "{text}");
        }
        let implied = IpEndpoint::parse_on_interface("[fe80::1]:1").unwrap();
        assert_eq!(implied.zone(), None);
    }
}
