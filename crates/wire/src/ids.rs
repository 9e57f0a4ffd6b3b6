//! Newtypes for every id and sequence number on the wire.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use thiserror::Error;

/// Protocol id (PID): which protocol's records an instance holds.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ProtocolId(pub u16);

impl ProtocolId {
    /// ATMARP.
    pub const ATMARP: Self = Self(1);
    /// NHRP (RFC 2335).
    pub const NHRP: Self = Self(2);
    /// MARS (RFC 2443).
    pub const MARS: Self = Self(3);
    /// DHCP.
    pub const DHCP: Self = Self(4);
    /// LNNI.
    pub const LNNI: Self = Self(5);
    /// This project's generic client state (private).
    pub const KV: Self = Self(0xFF00);
}

impl fmt::Display for ProtocolId {
    /// The configuration's spelling: a name, or `0xNNNN`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ATMARP => f.pad("atmarp"),
            Self::NHRP => f.pad("nhrp"),
            Self::MARS => f.pad("mars"),
            Self::DHCP => f.pad("dhcp"),
            Self::LNNI => f.pad("lnni"),
            Self::KV => f.pad("kv"),
            Self(other) => write!(f, "{other:#06x}"),
        }
    }
}

/// Server group id (SGID).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServerGroupId(pub u16);

impl fmt::Display for ServerGroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Family id of Hellos; 0 means none (H-14).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FamilyId(pub u16);

impl fmt::Display for FamilyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// CA sequence number (RFC 2334 B.2.1), unsigned and without a largest value.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct CaSeq(pub u32);

impl CaSeq {
    /// The following number, 0 after the largest.
    #[inline]
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl fmt::Display for CaSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// CSA sequence number: signed, never -2^31 (CSU-18).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CsaSeq(i32);

impl CsaSeq {
    /// What an entry starts with: -2^31 + 1.
    pub const FIRST: Self = Self(i32::MIN + 1);
    /// The last ordinary number: 2^31 - 2 (CSU-19).
    pub const LAST: Self = Self(i32::MAX - 1);
    /// Marks the record as a purge: 2^31 - 1 (CSU-19).
    pub const PURGE: Self = Self(i32::MAX);

    /// `None` for the reserved -2^31.
    #[inline]
    pub const fn new(value: i32) -> Option<Self> {
        if value == i32::MIN {
            None
        } else {
            Some(Self(value))
        }
    }

    /// The number as on the wire.
    #[inline]
    pub const fn get(self) -> i32 {
        self.0
    }

    /// The following ordinary number; `None` from [`LAST`](Self::LAST) on, where CSU-19 applies.
    #[inline]
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    /// `increment` further on; `None` beyond [`LAST`](Self::LAST), where CSU-19 applies.
    #[inline]
    #[must_use]
    pub const fn checked_add(self, increment: u32) -> Option<Self> {
        match self.0.checked_add_unsigned(increment) {
            Some(sum) if sum <= Self::LAST.0 => Some(Self(sum)),
            _ => None,
        }
    }
}

impl fmt::Display for CsaSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Longest server id in octets: its length travels in one octet.
const SERVER_ID_LEN_MAX: usize = 255;

/// Server id (LSID, DCSID, OID): 1 to 255 opaque octets, owned inline.
///
/// Ordered as an octet string, a prefix being smaller (D-01).
#[derive(Clone, Copy)]
pub struct ServerId {
    len: u8,
    octets: [u8; SERVER_ID_LEN_MAX],
}

impl ServerId {
    /// `None` unless `bytes` has 1 to 255 octets.
    #[inline]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let len = u8::try_from(bytes.len()).ok().filter(|len| *len > 0)?;
        let mut octets = [0; SERVER_ID_LEN_MAX];
        octets[..bytes.len()].copy_from_slice(bytes);
        Some(Self { len, octets })
    }

    /// The id as on the wire.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }
}

impl AsRef<[u8]> for ServerId {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl From<Ipv4Addr> for ServerId {
    fn from(address: Ipv4Addr) -> Self {
        Self::from_bytes(&address.octets()).expect("4 octets are an id")
    }
}

impl From<Ipv6Addr> for ServerId {
    fn from(address: Ipv6Addr) -> Self {
        Self::from_bytes(&address.octets()).expect("16 octets are an id")
    }
}

impl PartialEq for ServerId {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for ServerId {}

impl PartialOrd for ServerId {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ServerId {
    #[inline]
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes()) // D-01
    }
}

impl Hash for ServerId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerId({self})")
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&fmt_id(self.as_bytes()), f)
    }
}

/// A text that names no server id.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ServerIdError {
    /// None of the four forms.
    #[error("expected an IPv4 address, an IPv6 address, \"hex:…\" or \"text:…\"")]
    Form,
    /// `hex:` without pairs of hexadecimal digits.
    #[error("expected pairs of hexadecimal digits after \"hex:\"")]
    Hex,
    /// Empty or too long.
    #[error("expected a server id of 1 to 255 octets")]
    Length,
}

impl FromStr for ServerId {
    type Err = ServerIdError;

    /// Reads the configuration's forms: IPv4, IPv6, `hex:0a000001`, `text:hub-a`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(digits) = text.strip_prefix("hex:") {
            return from_hex(digits.as_bytes());
        }
        if let Some(plain) = text.strip_prefix("text:") {
            return Self::from_bytes(plain.as_bytes()).ok_or(ServerIdError::Length);
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(address.into());
        }
        text.parse::<Ipv6Addr>()
            .map(Self::from)
            .map_err(|_| ServerIdError::Form)
    }
}

fn from_hex(digits: &[u8]) -> Result<ServerId, ServerIdError> {
    let (pairs, odd) = digits.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(ServerIdError::Hex);
    }
    if pairs.is_empty() || pairs.len() > SERVER_ID_LEN_MAX {
        return Err(ServerIdError::Length);
    }
    let mut octets = [0; SERVER_ID_LEN_MAX];
    for (octet, [high, low]) in octets.iter_mut().zip(pairs) {
        let digit = |c: u8| {
            char::from(c)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
            return Err(ServerIdError::Hex);
        };
        *octet = high << 4 | low;
    }
    ServerId::from_bytes(&octets[..pairs.len()]).ok_or(ServerIdError::Length)
}

/// An id as text: 4 octets as IPv4, 16 as IPv6, anything else as `hex:…`.
pub fn fmt_id(id: &[u8]) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        if let Ok(v4) = <[u8; 4]>::try_from(id) {
            return fmt::Display::fmt(&Ipv4Addr::from(v4), f);
        }
        if let Ok(v6) = <[u8; 16]>::try_from(id) {
            return fmt::Display::fmt(&Ipv6Addr::from(v6), f);
        }
        f.write_str("hex:")?;
        id.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    })
}

/// Whether a receiver id addresses everyone: all 0xFF, of any length from 1 (CSU-13, CSU-14).
#[inline]
pub fn is_broadcast(id: &[u8]) -> bool {
    !id.is_empty() && id.iter().all(|octet| *octet == 0xFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ServerId {
        text.parse().unwrap()
    }

    /// D-01: ids compare as octet strings, left to right, a prefix being smaller.
    #[test]
    fn d_01_ids_compare_as_octet_strings() {
        let sorted = [
            "hex:00", "hex:0000", "text:a", "text:aa", "text:b", "hex:ff", "hex:ff00",
        ]
        .map(id);
        assert!(sorted.is_sorted_by(|a, b| a < b));
        assert!(id("10.0.0.2") > id("10.0.0.1"));
        assert!(id("10.0.0.200") < id("11.0.0.1"));
        assert_eq!(id("10.0.0.1"), id("hex:0A000001"));
    }

    /// Every form of the configuration is read, and shown in the form replies use.
    #[test]
    fn ids_as_text() {
        for (text, shown) in [
            ("10.0.0.1", "10.0.0.1"),
            ("text:abcd", "97.98.99.100"),
            ("2001:db8::1", "2001:db8::1"),
            ("text:hub-a", "hex:6875622d61"),
            ("hex:0a", "hex:0a"),
        ] {
            assert_eq!(id(text).to_string(), shown);
            assert_eq!(id(shown), id(text));
        }
        assert_eq!(
            id(&format!("hex:{}", "ab".repeat(255))).as_bytes(),
            [0xAB; 255]
        );
    }

    /// A text that is no id says what was expected.
    #[test]
    fn ids_that_are_none() {
        for (text, error) in [
            ("", ServerIdError::Form),
            ("hub-a", ServerIdError::Form),
            ("10.0.0", ServerIdError::Form),
            ("hex:", ServerIdError::Length),
            ("text:", ServerIdError::Length),
            ("hex:0", ServerIdError::Hex),
            ("hex:+1", ServerIdError::Hex),
            ("hex:zz", ServerIdError::Hex),
        ] {
            assert_eq!(text.parse::<ServerId>(), Err(error), "{text:?}");
        }
        let long = format!("text:{}", "x".repeat(256));
        assert_eq!(long.parse::<ServerId>(), Err(ServerIdError::Length));
        assert!(
            ServerIdError::Form
                .to_string()
                .contains("expected an IPv4 address")
        );
        assert!(ServerId::from_bytes(&[]).is_none());
        assert!(ServerId::from_bytes(&[0; 256]).is_none());
    }

    /// CSU-18: -2^31 is reserved, -2^31+1 the first, 2^31-2 the last that may be counted up to.
    #[test]
    fn csu_18_sequence_range() {
        assert_eq!(CsaSeq::new(i32::MIN), None);
        assert_eq!(CsaSeq::new(i32::MIN + 1), Some(CsaSeq::FIRST));
        assert_eq!(CsaSeq::FIRST.next().map(CsaSeq::get), Some(i32::MIN + 2));
        assert_eq!(CsaSeq::LAST.get(), i32::MAX - 1);
        assert_eq!(CsaSeq::LAST.next(), None);
        assert_eq!(CsaSeq::PURGE.next(), None);
        assert_eq!(CsaSeq::PURGE.checked_add(0), None);
        assert_eq!(CsaSeq::new(0).unwrap().checked_add(1000), CsaSeq::new(1000));
        assert_eq!(CsaSeq::FIRST.checked_add(u32::MAX - 2), Some(CsaSeq::LAST));
        assert_eq!(CsaSeq::FIRST.checked_add(u32::MAX - 1), None);
        assert!(CsaSeq::FIRST < CsaSeq::new(-1).unwrap());
        assert!(CsaSeq::LAST < CsaSeq::PURGE);
    }

    /// CA sequences wrap.
    #[test]
    fn ca_sequence_wraps() {
        assert_eq!(CaSeq(u32::MAX).next(), CaSeq(0));
    }

    /// CSU-13: all ones of any length address everyone, an empty id does not.
    #[test]
    fn csu_13_all_ones_is_everyone() {
        assert!(is_broadcast(&[0xFF]));
        assert!(is_broadcast(&[0xFF; 16]));
        assert!(!is_broadcast(&[]));
        assert!(!is_broadcast(&[0xFF, 0xFE]));
    }

    /// Protocol ids read as in the configuration.
    #[test]
    fn protocols_as_text() {
        assert_eq!(ProtocolId::NHRP.to_string(), "nhrp");
        assert_eq!(ProtocolId(0xFF00).to_string(), "kv");
        assert_eq!(ProtocolId(0x12).to_string(), "0x0012");
    }
}
