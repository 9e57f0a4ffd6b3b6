//! Socket addresses and control messages as the kernel writes them, read without `unsafe`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::{Endpoint, MacAddress};

/// Room for any Internet or link address, kept a multiple of 16 so that payloads stay aligned.
pub(crate) const NAME_LEN: usize = 32;

/// The same as the kernel counts it.
pub(crate) const NAME_SOCKLEN: libc::socklen_t = 32;

/// Room for the control messages we ask for (`UDP_GRO`, `SO_RXQ_OVFL`), each 24 octets.
pub(crate) const CONTROL_LEN: usize = 64;

/// What the control messages of a datagram say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Control {
    /// Length of each datagram when the kernel coalesced several (`UDP_GRO`).
    pub(crate) segment: Option<usize>,
    /// Datagrams dropped by this socket's full queue since it was made (`SO_RXQ_OVFL`).
    pub(crate) dropped: Option<u32>,
}

/// A socket address in the kernel's form, aligned for it.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) [u8; NAME_LEN]);

/// Writes a `sockaddr_in` or `sockaddr_in6` and gives its length.
pub(crate) fn encode_name(address: SocketAddr) -> (Name, libc::socklen_t) {
    let mut name = [0; NAME_LEN];
    name[2..4].copy_from_slice(&address.port().to_be_bytes());
    let (family, len) = match address {
        SocketAddr::V4(address) => {
            name[4..8].copy_from_slice(&address.ip().octets());
            (libc::AF_INET, 16)
        }
        SocketAddr::V6(address) => {
            name[4..8].copy_from_slice(&address.flowinfo().to_ne_bytes());
            name[8..24].copy_from_slice(&address.ip().octets());
            name[24..28].copy_from_slice(&address.scope_id().to_ne_bytes());
            (libc::AF_INET6, 28)
        }
    };
    let family = libc::sa_family_t::try_from(family).expect("families are small");
    name[..2].copy_from_slice(&family.to_ne_bytes());
    (Name(name), len)
}

/// Reads a `sockaddr_in`, `sockaddr_in6`, or a `sockaddr_ll` of an Ethernet interface; `None` for
/// any other or a short name.
pub(crate) fn decode_name(name: &[u8]) -> Option<Endpoint> {
    let family = u16::from_ne_bytes(array(name, 0)?);
    let port = u16::from_be_bytes(array(name, 2)?);
    match i32::from(family) {
        libc::AF_INET => {
            let address = Ipv4Addr::from(array::<4>(name, 4)?);
            let address = SocketAddrV4::new(address, port);
            Some(Endpoint::Ip(SocketAddr::V4(address)))
        }
        libc::AF_INET6 => {
            let flow = u32::from_ne_bytes(array(name, 4)?);
            let address = Ipv6Addr::from(array::<16>(name, 8)?);
            let scope = u32::from_ne_bytes(array(name, 24)?);
            let address = SocketAddrV6::new(address, port, flow, scope);
            Some(Endpoint::Ip(SocketAddr::V6(address)))
        }
        libc::AF_PACKET => {
            let address = MacAddress::new(array(name, 12)?);
            (name[11] == 6).then_some(Endpoint::Mac(address))
        }
        _ => None,
    }
}

/// Reads the control messages; unknown ones are skipped, a damaged one ends the list.
pub(crate) fn decode_control(mut bytes: &[u8]) -> Control {
    const HEADER_LEN: usize = size_of::<libc::cmsghdr>();
    const WORD_LEN: usize = size_of::<usize>();
    let mut control = Control::default();
    while let Some((len, level, kind)) = cmsg_header(bytes) {
        if len < HEADER_LEN || len > bytes.len() {
            break;
        }
        let data = &bytes[HEADER_LEN..len];
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let segment = array(data, 0).map(i32::from_ne_bytes);
                control.segment = segment.and_then(|len| usize::try_from(len).ok());
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                control.dropped = array(data, 0).map(u32::from_ne_bytes);
            }
            _ => {}
        }
        bytes = bytes
            .get(len.next_multiple_of(WORD_LEN)..)
            .unwrap_or_default();
    }
    control
}

/// Length, level and type that open a control message.
fn cmsg_header(bytes: &[u8]) -> Option<(usize, i32, i32)> {
    const WORD_LEN: usize = size_of::<usize>();
    let len = usize::from_ne_bytes(array(bytes, 0)?);
    let level = i32::from_ne_bytes(array(bytes, WORD_LEN)?);
    let kind = i32::from_ne_bytes(array(bytes, WORD_LEN + 4)?);
    Some((len, level, kind))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cmsg(level: i32, kind: i32, data: [u8; 4]) -> Vec<u8> {
        let mut bytes = (size_of::<libc::cmsghdr>() + 4).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(size_of::<usize>()), 0);
        bytes
    }

    /// Goal: both messages are found, in any order, past unknown ones.
    #[test]
    fn control_messages_are_found() {
        let mut bytes = cmsg(libc::SOL_IP, libc::IP_TTL, [1; 4]);
        bytes.extend(cmsg(
            libc::SOL_SOCKET,
            libc::SO_RXQ_OVFL,
            7_u32.to_ne_bytes(),
        ));
        bytes.extend(cmsg(libc::SOL_UDP, libc::UDP_GRO, 1400_i32.to_ne_bytes()));
        assert_eq!(
            decode_control(&bytes),
            Control {
                segment: Some(1400),
                dropped: Some(7)
            }
        );
    }

    /// Goal: names of all three families are read, others refused.
    #[test]
    fn names_of_all_families_are_read() {
        let mut four = vec![0; 16];
        four[..2].copy_from_slice(&2_u16.to_ne_bytes());
        four[2..8].copy_from_slice(&[0x09, 0x1e, 10, 0, 0, 1]);
        assert_eq!(decode_name(&four), "10.0.0.1:2334".parse().ok());
        let mut six = vec![0; 28];
        six[..2].copy_from_slice(&10_u16.to_ne_bytes());
        six[2..4].copy_from_slice(&[0x09, 0x1e]);
        six[23] = 1;
        assert_eq!(decode_name(&six), "[::1]:2334".parse().ok());
        assert_eq!(decode_name(&six[..20]), None);
        let mut link = vec![0; 20];
        link[..2].copy_from_slice(&17_u16.to_ne_bytes());
        link[11..18].copy_from_slice(&[6, 2, 0, 0, 0, 0, 9]);
        assert_eq!(decode_name(&link), "02:00:00:00:00:09".parse().ok());
        assert_eq!(decode_name(&link[..17]), None);
        link[11] = 8;
        assert_eq!(decode_name(&link), None, "an address of another length");
        assert_eq!(decode_name(&[1, 0, 0, 0]), None);
        assert_eq!(decode_name(&[]), None);
    }

    /// Goal: what we write is what the system's own conversion writes, and reads back.
    #[test]
    fn names_are_written_like_the_system_does() {
        for text in ["10.0.0.1:2334", "[fe80::1%3]:9", "[::1]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            let (name, len) = encode_name(address);
            let system = socket2::SockAddr::from(address);
            assert_eq!(len, system.len(), "{text}");
            assert_eq!(
                decode_name(&name.0[..len as usize]),
                Some(address.into()),
                "{text}"
            );
            assert_eq!(system.as_socket(), Some(address), "{text}");
        }
    }

    proptest! {
        /// Goal: no bytes make the readers panic or loop.
        #[test]
        fn readers_accept_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            let control = decode_control(&bytes);
            prop_assert!(control.segment.is_none_or(|len| i32::try_from(len).is_ok()));
            let named = decode_name(&bytes);
            prop_assert!(named.is_none() || bytes.len() >= 8);
        }
    }
}
