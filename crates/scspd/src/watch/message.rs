//! The few rtnetlink messages that are needed (RFC 3549, rtnetlink(7)).
//!
//! Only the attributes in use are read, and an odd one spoils nothing but itself: newer kernels
//! add attributes, and an interface must not seem to be gone because of one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{
    NLA_HEADER_SIZE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer, NlaBuffer, NlasIterator,
};

use super::interfaces::Interface;

/// Octets of a message's header.
const HEADER_LEN: usize = 16;

const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const INTERFACE_LEN: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_EXT_MASK: u16 = 29;
/// Leaves the statistics out of an answer, most of its length.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 1 << 3;
const IFF_RUNNING: u32 = 1 << 6;
const IFF_LOWER_UP: u32 = 1 << 16;

const ADDRESS_LEN: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;
const IFA_F_OPTIMISTIC: u32 = 0x04;

const ROUTE_LEN: usize = 12;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
/// Types of routes that lead somewhere: unicast, local, broadcast, anycast.
const RTN_LEADING: std::ops::RangeInclusive<u8> = 1..=4;

/// What a message from the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// An interface as it is now.
    Interface(Interface),
    /// An address of this machine.
    Address {
        /// Index of its interface.
        interface: u32,
        /// The address.
        ip: IpAddr,
        /// Whether it may be used: not while it is being probed for duplicates.
        usable: bool,
    },
    /// The interface that a route leads to; `None` when it leads nowhere.
    Route(Option<u32>),
    /// The answer is complete.
    Done,
    /// The tables changed while they were being told: something may be missing.
    Interrupted,
    /// The request was refused with this error number; 0: it was not.
    Refused(i32),
    /// Something else.
    Other,
}

/// Asks for everything of one kind.
pub(super) fn dump(kind: u16, sequence: u32) -> Vec<u8> {
    let mut body = vec![AF_UNSPEC];
    match kind {
        RTM_GETLINK => {
            body.resize(INTERFACE_LEN, 0);
            attribute(
                &mut body,
                IFLA_EXT_MASK,
                &RTEXT_FILTER_SKIP_STATS.to_ne_bytes(),
            );
        }
        _ => body.resize(ADDRESS_LEN, 0),
    }
    message(kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, &body)
}

/// Asks which way packets to `to` go, from `from` where the sender is bound to an address, through
/// the interface `scope` where the address is link-local.
pub(super) fn route(
    to: IpAddr,
    from: Option<IpAddr>,
    scope: Option<u32>,
    sequence: u32,
) -> Vec<u8> {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (family, bits) = if to.is_ipv4() {
        (AF_INET, 32)
    } else {
        (AF_INET6, 128)
    };
    let mut body = vec![0; ROUTE_LEN];
    body[0] = family;
    body[1] = bits;
    attribute(&mut body, RTA_DST, &octets(to));
    if let Some(from) = from {
        body[2] = bits;
        attribute(&mut body, RTA_SRC, &octets(from));
    }
    if let Some(scope) = scope {
        attribute(&mut body, RTA_OIF, &scope.to_ne_bytes());
    }
    message(RTM_GETROUTE, NLM_F_REQUEST, sequence, &body)
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(NLA_HEADER_SIZE + value.len()).expect("values are short");
    body.extend(len.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let len = HEADER_LEN + body.len();
    let mut bytes = vec![0; len];
    let mut buffer = NetlinkBuffer::new(&mut bytes);
    buffer.set_length(u32::try_from(len).expect("requests are short"));
    buffer.set_message_type(kind);
    buffer.set_flags(flags);
    buffer.set_sequence_number(sequence);
    bytes[HEADER_LEN..].copy_from_slice(body);
    bytes
}

/// The messages of one datagram that answer request `sequence`; a damaged one ends them.
pub(super) fn answers(mut bytes: &[u8], sequence: u32) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Ok(buffer) = NetlinkBuffer::new_checked(bytes) {
        let len = usize::try_from(buffer.length()).unwrap_or(usize::MAX);
        if buffer.sequence_number() == sequence {
            if buffer.flags() & NLM_F_DUMP_INTR != 0 {
                answers.push(Answer::Interrupted);
            }
            answers.push(answer(buffer.message_type(), &bytes[HEADER_LEN..len]));
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    answers
}

fn answer(kind: u16, body: &[u8]) -> Answer {
    let answer = match kind {
        RTM_NEWLINK => interface(body),
        RTM_NEWADDR => address(body),
        RTM_NEWROUTE => leading_route(body),
        NLMSG_DONE => Some(Answer::Done),
        NLMSG_ERROR => word(body, 0).map(|code| Answer::Refused(-code.cast_signed())),
        _ => None,
    };
    answer.unwrap_or(Answer::Other)
}

fn interface(body: &[u8]) -> Option<Answer> {
    let (index, flags) = (word(body, 4)?, word(body, 8)?);
    let mut interface = Interface {
        index,
        name: String::new(),
        mtu: 0,
        // A loopback interface has no carrier to lose.
        is_up: flags & IFF_UP != 0
            && (flags & IFF_LOOPBACK != 0 || flags & IFF_RUNNING != 0 && flags & IFF_LOWER_UP != 0),
        addresses: Vec::new(),
    };
    for (kind, value) in attributes(body, INTERFACE_LEN) {
        match kind {
            IFLA_IFNAME => {
                let name = value.split(|octet| *octet == 0).next().unwrap_or_default();
                interface.name = String::from_utf8_lossy(name).into_owned();
            }
            IFLA_MTU => interface.mtu = word(value, 0)?,
            _ => {}
        }
    }
    Some(Answer::Interface(interface))
}

fn address(body: &[u8]) -> Option<Answer> {
    let mut flags = u32::from(*body.get(2)?);
    let interface = word(body, 4)?;
    let (mut own, mut other) = (None, None);
    for (kind, value) in attributes(body, ADDRESS_LEN) {
        match kind {
            IFA_LOCAL => own = ip(value),
            // The far end's on a point-to-point interface, where it comes beside the own one.
            IFA_ADDRESS => other = ip(value),
            IFA_FLAGS => flags = word(value, 0)?,
            _ => {}
        }
    }
    let is_probed = flags & IFA_F_TENTATIVE != 0 && flags & IFA_F_OPTIMISTIC == 0;
    Some(Answer::Address {
        interface,
        ip: own.or(other)?,
        usable: !is_probed && flags & IFA_F_DADFAILED == 0,
    })
}

fn leading_route(body: &[u8]) -> Option<Answer> {
    let leads = RTN_LEADING.contains(body.get(7)?);
    let mut interface = None;
    for (kind, value) in attributes(body, ROUTE_LEN) {
        if kind == RTA_OIF {
            interface = word(value, 0);
        }
    }
    Some(Answer::Route(interface.filter(|_| leads)))
}

/// Kinds and values of the attributes behind the first `skip` octets; a damaged one ends them.
fn attributes(body: &[u8], skip: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let rest = body.get(skip..).unwrap_or_default();
    NlasIterator::new(rest)
        .map_while(Result::ok)
        .map(|nla: NlaBuffer<&[u8]>| {
            let value_len = nla.value_length();
            let bytes: &[u8] = nla.into_inner();
            let end = (NLA_HEADER_SIZE + value_len).min(bytes.len());
            let kind =
                u16::from_ne_bytes([bytes[2], bytes[3]]) & netlink_packet_core::NLA_TYPE_MASK;
            (kind, &bytes[NLA_HEADER_SIZE..end])
        })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let octets = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(octets))
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value)
            .ok()
            .map(|it| Ipv4Addr::from(it).into()),
        16 => <[u8; 16]>::try_from(value)
            .ok()
            .map(|it| Ipv6Addr::from(it).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answered(kind: u16, body: &[u8]) -> Vec<Answer> {
        answers(&message(kind, 0, 7, body), 7)
    }

    /// Goal: name, mtu and state of an interface are read, past attributes of no interest.
    #[test]
    fn h_02_interfaces_are_read() {
        for (flags, is_up) in [
            (IFF_UP | IFF_RUNNING | IFF_LOWER_UP, true),
            (IFF_UP | IFF_LOWER_UP, false),
            (IFF_UP | IFF_RUNNING, false),
            (IFF_RUNNING | IFF_LOWER_UP, false),
            (IFF_UP | IFF_LOOPBACK, true),
            (IFF_LOOPBACK, false),
        ] {
            let mut body = vec![0; 4];
            body.extend(3_u32.to_ne_bytes());
            body.extend(flags.to_ne_bytes());
            body.resize(INTERFACE_LEN, 0);
            attribute(&mut body, 999, b"odd");
            attribute(&mut body, IFLA_IFNAME, b"eth1\0");
            attribute(&mut body, IFLA_MTU, &9000_u32.to_ne_bytes());
            let wanted = Interface {
                index: 3,
                name: "eth1".to_owned(),
                mtu: 9000,
                is_up,
                addresses: Vec::new(),
            };
            let answer = Answer::Interface(wanted);
            assert_eq!(answered(RTM_NEWLINK, &body), [answer], "{flags:#x}");
        }
    }

    /// Goal: the own address counts, not the far end's; one under probe is not usable yet.
    #[test]
    fn addresses_are_read() {
        let mut body = vec![AF_INET, 24, 0, 0];
        body.extend(3_u32.to_ne_bytes());
        attribute(&mut body, IFA_ADDRESS, &[10, 0, 0, 9]);
        attribute(&mut body, IFA_LOCAL, &[10, 0, 0, 1]);
        let wanted = |usable| Answer::Address {
            interface: 3,
            ip: "10.0.0.1".parse().unwrap(),
            usable,
        };
        assert_eq!(answered(RTM_NEWADDR, &body), [wanted(true)]);
        for (flags, usable) in [
            (IFA_F_TENTATIVE, false),
            (IFA_F_TENTATIVE | IFA_F_OPTIMISTIC, true),
            (IFA_F_DADFAILED, false),
            (0x80, true),
        ] {
            let mut body = body.clone();
            attribute(&mut body, IFA_FLAGS, &flags.to_ne_bytes());
            assert_eq!(answered(RTM_NEWADDR, &body), [wanted(usable)]);
        }
    }

    /// Goal: H-02: a route that leads nowhere is none; several messages share a datagram, and
    /// those of other requests are not taken for answers.
    #[test]
    fn h_02_routes_are_read() {
        let mut body = vec![0; ROUTE_LEN];
        attribute(&mut body, RTA_OIF, &5_u32.to_ne_bytes());
        for (kind, leads) in [(0, false), (1, true), (2, true), (6, false), (7, false)] {
            body[7] = kind;
            let wanted = Answer::Route(leads.then_some(5));
            assert_eq!(answered(RTM_NEWROUTE, &body), [wanted], "{kind}");
        }
        body[7] = 1;
        let mut bytes = message(RTM_NEWROUTE, 0, 6, &body);
        bytes.extend(message(RTM_NEWROUTE, 0, 7, &body));
        bytes.extend(message(NLMSG_ERROR, 0, 7, &(-101_i32).to_ne_bytes()));
        bytes.extend(message(NLMSG_DONE, 0, 7, &[0; 4]));
        let wanted = [Answer::Route(Some(5)), Answer::Refused(101), Answer::Done];
        assert_eq!(answers(&bytes, 7), wanted);
        let bytes = message(NLMSG_DONE, NLM_F_DUMP_INTR, 7, &[0; 4]);
        assert_eq!(answers(&bytes, 7), [Answer::Interrupted, Answer::Done]);
    }

    proptest! {
        /// Goal: no octets make the reader panic or loop.
        #[test]
        fn any_octets_are_survived(
            kind in prop::sample::select(vec![RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE, NLMSG_ERROR]),
            body in prop::collection::vec(any::<u8>(), 0..128),
            raw in prop::collection::vec(any::<u8>(), 0..128),
        ) {
            prop_assert_eq!(answered(kind, &body).len(), 1);
            prop_assert!(answers(&raw, 0).len() <= raw.len() / HEADER_LEN);
        }
    }
}
