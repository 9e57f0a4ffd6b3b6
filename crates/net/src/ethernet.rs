//! Packet sockets of ethernet links.

use std::io;

use socket2::{Domain, SockFilter, Socket, Type};

use crate::frame::{HEADER_LEN, LENGTH_MAX, LLC_SNAP, SNAP_LEN};
use crate::socket::set_queues;
use crate::{Interface, IoError, LinkSocket, MacAddress, raw};

/// Frames with a length field, as the kernel names them.
const PROTOCOL: u16 = 0x0004; // ETH_P_802_2, which libc has as another integer.

/// Whom the kernel found a frame to be for.
const FOR_US: u32 = libc::PACKET_HOST as u32;
const FOR_OTHERS: u32 = libc::PACKET_OTHERHOST as u32;
const FROM_US: u32 = libc::PACKET_OUTGOING as u32;

/// Octets of an accepted frame that are handed over: all.
const WHOLE: u32 = u32::MAX;

/// Options of [`bind_ethernet`]: wanted octets of the queues, 0: the system's default. Beyond the
/// system's limit only with `CAP_NET_ADMIN`, else the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetOptions {
    /// Of the receive queue.
    pub receive_buffer_bytes: usize,
    /// Of the send queue.
    pub send_buffer_bytes: usize,
}

impl Default for EthernetOptions {
    fn default() -> Self {
        let crate::UdpOptions {
            receive_buffer_bytes,
            send_buffer_bytes,
            ..
        } = crate::UdpOptions::default();
        Self {
            receive_buffer_bytes,
            send_buffer_bytes,
        }
    }
}

/// Opens the socket of an ethernet link: LLC/SNAP frames on one interface, to our address or to
/// `group`. Needs `CAP_NET_RAW`. What we send ourselves is never received, not even by another
/// such socket of this machine.
pub fn bind_ethernet(
    interface: &str,
    group: Option<MacAddress>,
    options: &EthernetOptions,
) -> Result<LinkSocket, IoError> {
    let open = || {
        if group.is_some_and(|group| !group.is_multicast()) {
            let reason = "the group is not a multicast address";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        // Protocol 0: nothing is received before the filter is in place.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        let interface = Interface::find(interface)?;
        let Some(mac) = interface.mac else {
            let reason = "not an Ethernet interface";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        };
        socket.attach_filter(&filter(group))?;
        let (receive, send) = (options.receive_buffer_bytes, options.send_buffer_bytes);
        set_queues(&socket, receive, send)?;
        raw::set_option(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        if let Some(group) = group {
            raw::join_packet(&socket, interface.index, group)?;
        }
        raw::bind_packet(&socket, PROTOCOL, interface.index)?;
        Ok(LinkSocket::ethernet(socket.into(), mac, interface))
    };
    open().map_err(|source| {
        let what = match group {
            Some(group) => format!("ethernet link with group {group}"),
            None => "ethernet link".to_owned(),
        };
        IoError::Interface {
            what,
            interface: interface.to_owned(),
            source,
        }
    })
}

/// Lets frames through that are for us or the group, without a VLAN tag, with our LLC/SNAP header.
fn filter(group: Option<MacAddress>) -> Vec<SockFilter> {
    let word = |octets: &[u8]| {
        let octets = octets.try_into().expect("four octets");
        u32::from_be_bytes(octets)
    };
    let half = |octets: &[u8]| {
        let octets = octets.try_into().expect("two octets");
        u32::from(u16::from_be_bytes(octets))
    };
    let length_max = u32::try_from(LENGTH_MAX).expect("a small constant");
    let length_min = u32::try_from(SNAP_LEN).expect("a small constant");
    let snap = u32::try_from(HEADER_LEN - SNAP_LEN).expect("a small constant");
    let mut program = Program::default();
    // Tagged frames of VLANs that nobody serves come as frames for others.
    program.load_ancillary(libc::SKF_AD_PKTTYPE);
    program.refuse_equal(FOR_OTHERS);
    program.refuse_equal(FROM_US);
    match group.map(MacAddress::octets) {
        None => program.expect_equal(FOR_US),
        Some(group) => {
            // For us: past the four instructions that compare the group.
            program.skip_if_equal(FOR_US, 4);
            program.load_word(0);
            program.expect_equal(word(&group[..4]));
            program.load_half(4);
            program.expect_equal(half(&group[4..]));
        }
    }
    program.load_half(12);
    program.refuse_greater(length_max);
    program.expect_at_least(length_min);
    program.load_word(snap);
    program.expect_equal(word(&LLC_SNAP[..4]));
    program.load_word(snap + 4);
    program.expect_equal(word(&LLC_SNAP[4..]));
    program.finish()
}

/// Where a comparison leads.
#[derive(Clone, Copy, Debug)]
enum Jump {
    /// Past this many instructions.
    Skip(u8),
    /// To the end, where the frame is refused.
    Refuse,
}

/// One instruction of a filter whose end is not known yet.
#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u32,
    value: u32,
    if_true: Jump,
    if_false: Jump,
}

/// A filter under construction: it runs from comparison to comparison, and accepts what comes to
/// its end.
#[derive(Debug, Default)]
struct Program(Vec<Instruction>);

impl Program {
    fn load(&mut self, size: u32, offset: u32) {
        self.0.push(Instruction {
            code: libc::BPF_LD | size | libc::BPF_ABS,
            value: offset,
            if_true: Jump::Skip(0),
            if_false: Jump::Skip(0),
        });
    }

    fn load_half(&mut self, offset: u32) {
        self.load(libc::BPF_H, offset);
    }

    fn load_word(&mut self, offset: u32) {
        self.load(libc::BPF_W, offset);
    }

    /// Loads what the kernel knows beside the octets.
    fn load_ancillary(&mut self, which: libc::c_int) {
        let offset = libc::SKF_AD_OFF.wrapping_add(which);
        self.load_half(offset.cast_unsigned());
    }

    fn jump(&mut self, condition: u32, value: u32, if_true: Jump, if_false: Jump) {
        self.0.push(Instruction {
            code: libc::BPF_JMP | condition | libc::BPF_K,
            value,
            if_true,
            if_false,
        });
    }

    fn expect_equal(&mut self, value: u32) {
        self.jump(libc::BPF_JEQ, value, Jump::Skip(0), Jump::Refuse);
    }

    fn refuse_equal(&mut self, value: u32) {
        self.jump(libc::BPF_JEQ, value, Jump::Refuse, Jump::Skip(0));
    }

    fn skip_if_equal(&mut self, value: u32, count: u8) {
        self.jump(libc::BPF_JEQ, value, Jump::Skip(count), Jump::Skip(0));
    }

    fn refuse_greater(&mut self, value: u32) {
        self.jump(libc::BPF_JGT, value, Jump::Refuse, Jump::Skip(0));
    }

    fn expect_at_least(&mut self, value: u32) {
        self.jump(libc::BPF_JGE, value, Jump::Skip(0), Jump::Refuse);
    }

    fn finish(self) -> Vec<SockFilter> {
        let accept_at = self.0.len();
        let code = |code: u32| u16::try_from(code).expect("codes are small");
        let offset = |jump: Jump, at: usize| match jump {
            Jump::Skip(count) => count,
            Jump::Refuse => u8::try_from(accept_at - at).expect("a short program"),
        };
        let last = [WHOLE, 0].map(|len| SockFilter::new(code(libc::BPF_RET), 0, 0, len));
        let steps = self.0.iter().enumerate().map(|(at, step)| {
            let (if_true, if_false) = (offset(step.if_true, at), offset(step.if_false, at));
            SockFilter::new(code(step.code), if_true, if_false, step.value)
        });
        steps.chain(last).collect()
    }
}
