//! What the wire tests and the fuzz target share.

use scsp_wire::{COMMON_LEN, FIXED_LEN, Message, MessageType, checksum};

/// The canonical form of a packet that `message` was parsed from: unused fields and bits zero, no
/// list of extensions that holds none, the checksum as computed. `None` for a Hello that leaves the
/// common part's receiver empty and names additional ones (H-09), since its form moves them about.
pub(crate) fn canonical(message: &Message<'_>) -> Option<Vec<u8>> {
    let envelope = message.envelope();
    let mut packet = envelope.bytes().to_vec();
    let common = match message {
        Message::Hello(hello) => {
            if envelope.receiver().is_empty() && hello.receivers().len() > 0 {
                return None;
            }
            packet[FIXED_LEN + 4..FIXED_LEN + 6].fill(0);
            FIXED_LEN + 8
        }
        Message::Ca(_) => FIXED_LEN + 4,
        _ => FIXED_LEN,
    };
    packet[common + 4..common + 6].fill(0);
    let ca = envelope.message_type() == MessageType::Ca;
    packet[common + 6] &= if ca { 0xE0 } else { 0 };
    packet[common + 7] = 0;

    let mut at = common + COMMON_LEN + envelope.sender().len() + envelope.receiver().len();
    if let Message::Hello(hello) = message {
        at += hello
            .receivers()
            .skip(1)
            .map(|id| 1 + id.len())
            .sum::<usize>();
    }
    for len in record_lens(message) {
        packet[at + 6] &= 0x80;
        packet[at + 7] = 0;
        at += len;
    }
    if message.extensions().len() == 0 {
        packet.truncate(at);
        packet[6..8].fill(0);
        packet[2..4].copy_from_slice(&u16::try_from(at).expect("was a packet").to_be_bytes());
    }
    checksum::seal(&mut packet);
    Some(packet)
}

fn record_lens(message: &Message<'_>) -> Vec<usize> {
    match message {
        Message::CsuRequest(request) => request.records().map(|r| r.wire.len()).collect(),
        Message::Ca(ca) => ca.summaries().map(|s| s.wire_len()).collect(),
        Message::CsuReply(reply) => reply.summaries().map(|s| s.wire_len()).collect(),
        Message::Csus(csus) => csus.summaries().map(|s| s.wire_len()).collect(),
        Message::Hello(_) => Vec::new(),
    }
}
