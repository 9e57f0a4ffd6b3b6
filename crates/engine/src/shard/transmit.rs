//! Building CSU Requests, CSU Replies and CSUS messages (RFC 2334 B.2.2..B.2.4) straight into the
//! caller's buffer, bundled per DCS up to the packet limit.

use std::sync::Arc;

use scsp_wire::{Builder, Header, MessageType, ServerId, overhead};

use crate::message::{Abnormal, ToControl};
use crate::setup::{DcsIndex, Destination, Setup};
use crate::{Now, Time};

use super::peer::{Gate, Packed};
use super::solicit::Solicit;
use super::{Shard, Transmit};

/// Hop count of a solicited record (D-06).
const SOLICITED_HOP_COUNT: u16 = 1;
/// Largest UDP payload over IPv4 (D-14).
pub const DATAGRAM_LEN_MAX: usize = 65_507;

impl Shard {
    /// Builds the next packet into `out`, which must hold [`DATAGRAM_LEN_MAX`] octets; `None`
    /// when there is nothing to send now.
    pub fn poll_transmit(&mut self, now: Now, out: &mut [u8]) -> Option<Transmit> {
        for _ in 0..self.peers.len() {
            let index = self.turn % self.peers.len();
            let dcs = DcsIndex(u16::try_from(index).expect("checked when configured"));
            if let Some(len) = self.build(now, dcs, out) {
                return Some(Transmit {
                    to: Destination::Dcs(dcs),
                    len,
                    segment: None,
                });
            }
            self.turn = index + 1;
        }
        None
    }

    fn build(&mut self, now: Now, dcs: DcsIndex, out: &mut [u8]) -> Option<usize> {
        let peer = &self.peers[dcs.index()];
        if peer.gate != Gate::Open {
            return None; // CSU-01
        }
        let id = peer.id?;
        let setup = Arc::clone(&self.setup);
        let frame = Frame::new(&setup, dcs, &id);
        let peer = &mut self.peers[dcs.index()];
        let (kind, len) = if !peer.acks.is_empty() {
            (
                MessageType::CsuReply,
                frame.pack(MessageType::CsuReply, out, &mut peer.acks, 0)?,
            )
        } else if peer.solicit.due {
            let len = frame.solicit(out, &peer.solicit)?;
            peer.solicit.sent(now.time);
            (MessageType::Csus, len)
        } else if !peer.nulls.is_empty() {
            let max = setup.dcs[dcs.index()].max_records;
            (
                MessageType::CsuRequest,
                frame.pack(MessageType::CsuRequest, out, &mut peer.nulls, max)?,
            )
        } else {
            (
                MessageType::CsuRequest,
                self.build_request(now, dcs, &frame, out)?,
            )
        };
        self.packets.sent[usize::from(kind.code()) - 1] += 1;
        Some(len)
    }

    /// A CSU Request with what the window allows of the queue (CSU-05, CSU-07).
    fn build_request(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        frame: &Frame<'_>,
        out: &mut [u8],
    ) -> Option<usize> {
        let peer = &mut self.peers[dcs.index()];
        let setup = &self.setup.dcs[dcs.index()];
        let profile = self.setup.instances[peer.instance.index()].profile;
        let super::Instance {
            store, counters, ..
        } = &mut self.instances[peer.instance.index()];
        // A record that no packet can hold must not block those behind it.
        let first_len = loop {
            let (first, _) = store.peek_unsent(peer.queue)?;
            let first_len = store.wire_len(first);
            if frame.can_hold(MessageType::CsuRequest, out.len(), first_len) {
                break first_len;
            }
            store.acknowledge(first, peer.queue);
            counters.unsendable += 1;
        };
        if !peer
            .window
            .allows(store.in_flight_bytes(peer.queue), first_len)
        {
            return None;
        }
        let mut builder = frame.start(MessageType::CsuRequest, out, first_len)?;
        while let Some((id, solicited)) = store.peek_unsent(peer.queue) {
            let entry = store.entry(id);
            let len = entry.wire_len();
            let (body_len, expires) = (entry.body.len(), entry.expires);
            if !peer.window.allows(store.in_flight_bytes(peer.queue), len) {
                break;
            }
            let hop_count = if solicited {
                SOLICITED_HOP_COUNT
            } else {
                entry.hop_count.max(1)
            };
            let pushed = builder.push_with(len, |record| {
                store.encode_record(id, hop_count, record);
                if let Some(expires) = expires {
                    let body = record.len() - body_len;
                    profile.set_remaining(&mut record[body..], expires.since(now.time)); // K-03
                }
            });
            if !pushed {
                break;
            }
            store.mark_sent(peer.queue, now.time);
            if builder.record_count() == setup.max_records {
                break;
            }
        }
        (!builder.is_empty()).then(|| builder.finish())
    }

    /// `CSUReXmtInterval` passed: what `dcs` did not acknowledge is sent again, to it alone; too
    /// often, and the neighbour is reset (CSU-06).
    pub(super) fn resend_overdue(&mut self, now: Now, dcs: DcsIndex) {
        let setup = self.setup.instance_of(dcs);
        let (interval, max) = (setup.csu_retransmit, setup.csu_retransmit_max);
        let peer = &mut self.peers[dcs.index()];
        if peer.gate != Gate::Open {
            return;
        }
        let instance = &mut self.instances[peer.instance.index()];
        let due = |at: Time| now.time >= at.saturating_add(interval);
        let mut resent = 0_u64;
        let mut exhausted = false;
        while let Some(sent_at) = instance.store.oldest_sent(peer.queue).filter(|at| due(*at)) {
            let taken = instance.store.take_overdue(peer.queue, sent_at);
            let (_, retries) = taken.expect("the oldest one was sent then");
            resent += 1;
            exhausted |= u32::from(retries) > max;
        }
        if resent > 0 {
            instance.counters.retransmitted += resent;
            peer.window.lost();
        }
        if exhausted {
            self.handle_down(dcs); // Nothing more is sent until `Control` has reset it.
            self.tell_control(ToControl::Abnormal {
                dcs,
                cause: Abnormal::CsuRetransmit,
            });
        }
    }
}

/// What every packet for one DCS starts with.
struct Frame<'a> {
    header: Header<'a>,
    limit: usize,
}

impl<'a> Frame<'a> {
    fn new(setup: &'a Setup, dcs: DcsIndex, id: &'a ServerId) -> Self {
        let instance = setup.instance_of(dcs);
        let header = Header {
            protocol: instance.protocol,
            group: instance.group,
            sender: setup.lsid.as_bytes(),
            receiver: id.as_bytes(),
        };
        Self {
            header,
            limit: setup.dcs[dcs.index()].packet_limit,
        }
    }

    /// Whether a packet in a buffer of `out_len` octets can hold a record of `len`.
    fn can_hold(&self, kind: MessageType, out_len: usize, len: usize) -> bool {
        let fixed = overhead(kind, self.header.sender.len(), self.header.receiver.len());
        fixed + len <= out_len.min(DATAGRAM_LEN_MAX)
    }

    /// A packet within the limit, or as large as its first record alone needs (D-14).
    fn start<'b>(
        &self,
        kind: MessageType,
        out: &'b mut [u8],
        first_len: usize,
    ) -> Option<Builder<'b>> {
        let fixed = overhead(kind, self.header.sender.len(), self.header.receiver.len());
        let limit = self.limit.max(fixed + first_len).min(DATAGRAM_LEN_MAX);
        match kind {
            MessageType::CsuRequest => Builder::csu_request(out, limit, &self.header),
            MessageType::CsuReply => Builder::csu_reply(out, limit, &self.header),
            MessageType::Csus => Builder::csus(out, limit, &self.header),
            MessageType::Ca | MessageType::Hello => None,
        }
    }

    /// Moves as many summaries as fit from `packed` into a packet, `max` at most, 0: any number.
    fn pack(
        &self,
        kind: MessageType,
        out: &mut [u8],
        packed: &mut Packed,
        max: u16,
    ) -> Option<usize> {
        let mut builder = self.start(kind, out, packed.front()?.len())?;
        while let Some(wire) = packed.front() {
            let len = wire.len();
            if !builder.push_wire(wire, 1) {
                break;
            }
            packed.pop(len);
            if builder.record_count() == max {
                break;
            }
        }
        (!builder.is_empty()).then(|| builder.finish())
    }

    /// A CSUS for what is still missing of the page; a page is at most a packet.
    fn solicit(&self, out: &mut [u8], solicit: &Solicit) -> Option<usize> {
        let mut builder = self.start(MessageType::Csus, out, solicit.page_len())?;
        for summary in solicit.open_summaries() {
            builder.push_wire(summary.wire, 1);
        }
        Some(builder.finish())
    }
}
