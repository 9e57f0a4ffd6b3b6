//! Where datagrams come from and where they go.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use crate::interface;

/// What [`MacAddress`] accepts as text.
const MAC_FORM: &str = "expected six octets such as 02:00:00:00:00:01";

/// What [`Endpoint`] accepts as text.
const ENDPOINT_FORM: &str = "expected ADDRESS:PORT such as 10.0.0.2:2334 or \
     [fe80::1%eth1]:2334, or a MAC address such as 02:00:00:00:00:01";

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// From its octets in the order of transmission.
    pub const fn new(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// Its octets in the order of transmission.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether it names a group of stations, broadcast included.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, octet) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{octet:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for MacAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or(MAC_FORM)?;
            let is_hex = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            let value = u8::from_str_radix(part, 16).map_err(|_| MAC_FORM)?;
            *octet = if is_hex { value } else { return Err(MAC_FORM) };
        }
        match parts.next() {
            None => Ok(Self(octets)),
            Some(_) => Err(MAC_FORM),
        }
    }
}

/// Far end of a link: an address and port over UDP, a MAC address on an ethernet link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// Over UDP.
    Ip(SocketAddr),
    /// On an ethernet link.
    Mac(MacAddress),
}

impl Endpoint {
    /// Address and port, unless it is a MAC address.
    pub fn ip(self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(address),
            Self::Mac(_) => None,
        }
    }

    /// Without what does not tell far ends apart: flow labels, and scope ids of addresses that
    /// mean the same on every interface. Events carry this form.
    #[must_use]
    pub fn canonical(self) -> Self {
        match self {
            Self::Ip(SocketAddr::V6(address)) => {
                let scoped = address.ip().is_unicast_link_local();
                let scope = if scoped { address.scope_id() } else { 0 };
                let address = SocketAddrV6::new(*address.ip(), address.port(), 0, scope);
                Self::Ip(SocketAddr::V6(address))
            }
            Self::Ip(SocketAddr::V4(_)) | Self::Mac(_) => self,
        }
    }

    /// Without scope id too: the form on a link that is bound to one interface.
    #[must_use]
    pub fn without_scope(self) -> Self {
        match self {
            Self::Ip(address) => Self::Ip(SocketAddr::new(address.ip(), address.port())),
            Self::Mac(_) => self,
        }
    }

    /// Whether it names a group.
    pub fn is_multicast(self) -> bool {
        match self {
            Self::Ip(address) => address.ip().is_multicast(),
            Self::Mac(address) => address.is_multicast(),
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl From<MacAddress> for Endpoint {
    fn from(address: MacAddress) -> Self {
        Self::Mac(address)
    }
}

/// As in the configuration; a scope id by the interface's name while there is such an interface.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(address) => address.fmt(f),
            Self::Ip(SocketAddr::V6(address)) if address.scope_id() != 0 => {
                match interface::name_of(address.scope_id()) {
                    Some(name) => write!(f, "[{}%{name}]:{}", address.ip(), address.port()),
                    None => address.fmt(f),
                }
            }
            Self::Ip(address) => address.fmt(f),
        }
    }
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Ip(address));
        }
        if let Ok(address) = text.parse::<MacAddress>() {
            return Ok(Self::Mac(address));
        }
        let (address, name, port) = scoped(text).ok_or(ENDPOINT_FORM)?;
        let Ok(IpAddr::V6(address)) = address.parse() else {
            return Err(ENDPOINT_FORM);
        };
        let port = port.parse().map_err(|_| ENDPOINT_FORM)?;
        let scope = interface::index_of(name).map_err(|_| "no such interface")?;
        let address = SocketAddrV6::new(address, port, 0, scope);
        Ok(Self::Ip(SocketAddr::V6(address)))
    }
}

/// The parts of `[address%interface]:port`.
fn scoped(text: &str) -> Option<(&str, &str, &str)> {
    let (inner, port) = text.strip_prefix('[')?.split_once("]:")?;
    let (address, name) = inner.split_once('%')?;
    Some((address, name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every form of the configuration is read, and shown as it was written.
    #[test]
    fn endpoints_are_shown_as_they_are_written() {
        for text in [
            "10.0.0.2:2334",
            "[2001:db8::1]:2334",
            "[fe80::1%lo]:2334",
            "[fe80::1%4000000000]:2334",
            "02:00:00:00:00:0a",
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
        }
        let upper: Endpoint = "02:00:00:00:00:0A".parse().unwrap();
        assert_eq!(upper.to_string(), "02:00:00:00:00:0a");
    }

    /// Goal: whatever else is refused, with what was expected.
    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "10.0.0.2",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "02:00:00:00:00:+1",
            "2:0:0:0:0:1",
            "[10.0.0.1%lo]:1",
            "[fe80::1%lo]:65536",
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(ENDPOINT_FORM), "{text}");
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
        let absent = "[fe80::1%no-such-one]:1".parse::<Endpoint>();
        assert_eq!(absent, Err("no such interface"));
    }

    /// Goal: the scope id stays exactly where it tells two neighbours apart.
    #[test]
    fn canonical_endpoints_keep_what_tells_them_apart() {
        let with = |address: &str, flow, scope| {
            let address = address.parse().unwrap();
            Endpoint::Ip(SocketAddrV6::new(address, 1, flow, scope).into())
        };
        assert_eq!(with("fe80::1", 7, 3).canonical(), with("fe80::1", 0, 3));
        assert_eq!(with("fe80::1", 7, 3).without_scope(), with("fe80::1", 0, 0));
        let global = with("2001:db8::1", 7, 3).canonical();
        assert_eq!(global, with("2001:db8::1", 0, 0));
        let mac: Endpoint = "02:00:00:00:00:01".parse().unwrap();
        assert_eq!(mac.canonical(), mac);
        assert!(!mac.is_multicast());
        assert!(
            "01:00:5e:00:00:01"
                .parse::<Endpoint>()
                .unwrap()
                .is_multicast()
        );
    }
}
