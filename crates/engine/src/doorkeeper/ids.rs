//! Lengths of ids and keys where the protocol fixes them (N-01).

use scsp_wire::{Envelope, Message as Packet, Summaries, Summary, is_broadcast};

/// Whether every id and key of a packet has `len` octets. A packet for everybody names a receiver
/// of any length (CSU-13).
pub(super) fn all_have(len: usize, envelope: &Envelope<'_>, packet: &Packet<'_>) -> bool {
    let fits = |id: &[u8]| id.len() == len;
    let summary = |it: &Summary<'_>| fits(it.key) && fits(it.originator);
    let summaries = |mut all: Summaries<'_>| all.all(|it| summary(&it));
    let receiver = envelope.receiver();
    fits(envelope.sender())
        && match packet {
            // It may name servers of other instances, those of its family or on its link.
            Packet::Hello(_) => true,
            Packet::Ca(ca) => fits(receiver) && summaries(ca.summaries()),
            Packet::Csus(csus) => fits(receiver) && summaries(csus.summaries()),
            Packet::CsuReply(reply) => {
                (fits(receiver) || is_broadcast(receiver)) && summaries(reply.summaries())
            }
            Packet::CsuRequest(request) => {
                (fits(receiver) || is_broadcast(receiver))
                    && request.records().all(|it| summary(&it.summary))
            }
        }
}
