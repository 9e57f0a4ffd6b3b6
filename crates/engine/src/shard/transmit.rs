//! Building CSU Requests, CSU Replies and CSUS messages (RFC 2334 B.2.2..B.2.4) straight into the
//! caller's buffer, bundled per DCS up to the packet limit.
//!
//! Full packets follow each other in one buffer, so that one send takes all of them (the kernel or
//! the device cuts them apart, `UDP_SEGMENT`):
//!
//! ```text
//!   ├── segment ──┼── segment ──┼── segment ──┼─ rest ─┤    len
//!     packet 0      packet 1      packet 2      packet 3
//! ```
//!
//! Only the last one may be shorter than the first. So the first one sets the length at which all
//! others stop taking records, and one that leaves out, for that reason alone, a record that its
//! own limit allowed is the last: no packet is sent short for the sake of bundling but that one.

use std::sync::Arc;
use std::time::Duration;

use scsp_cache::{EntryId, PeerIndex, Store};
use scsp_profile::Profile;
use scsp_wire::{Builder, Header, MessageType, Signer, Summaries, encode_record, overhead};

use crate::auth::Signing;
use crate::message::{Abnormal, ToControl};
use crate::setup::{DcsIndex, Destination, Setup};
use crate::{Now, Time};

use super::peer::{Gate, Packed};
use super::purge::Purges;
use super::{Instance, Shard, Transmit};

/// Hop count of a solicited record (D-06).
pub(super) const SOLICITED_HOP_COUNT: u16 = 1;
/// Between two looks whether a key has become valid.
const WITHHELD_RETRY: Duration = Duration::from_secs(1);
/// Largest UDP payload over IPv4 (D-14).
pub const DATAGRAM_LEN_MAX: usize = 65_507;
/// Packets in one buffer: the smallest limit of any kernel that cuts packets.
pub const SEGMENTS_MAX: usize = 64;

impl Shard {
    /// Builds the next packet into `out`, which must hold [`DATAGRAM_LEN_MAX`] octets, and behind
    /// it those for the same receiver that may go with it; `None` when there is nothing to send
    /// now.
    pub fn poll_transmit(&mut self, now: Now, out: &mut [u8]) -> Option<Transmit> {
        assert!(
            out.len() >= DATAGRAM_LEN_MAX,
            "room for the largest packet (D-14)"
        );
        let (peers, turns) = (self.peers.len(), self.peers.len() + self.groups.len());
        // Groups come last, and what they leave to unicast needs another round.
        let rounds = if self.groups.is_empty() { 1 } else { 2 };
        for _ in 0..rounds * turns {
            let index = self.turn % turns;
            let dcs = |index| DcsIndex(u16::try_from(index).expect("checked when configured"));
            let turn = match index.checked_sub(peers) {
                None => Turn::Dcs(dcs(index)),
                Some(group) => Turn::Group(group),
            };
            if let Some(first) = self.build_turn(now, turn, out, None) {
                return Some(self.extend(now, turn, &first, out));
            }
            self.turn = index + 1;
        }
        None
    }

    /// A packet for whoever has the turn; behind others of `segment` octets it is no longer.
    fn build_turn(
        &mut self,
        now: Now,
        turn: Turn,
        out: &mut [u8],
        segment: Option<usize>,
    ) -> Option<Built> {
        match turn {
            Turn::Dcs(dcs) => self.build(now, dcs, out, segment),
            Turn::Group(group) => self.build_group(now, group, out, segment),
        }
    }

    /// Builds on behind the first packet while there are further ones of its length.
    fn extend(&mut self, now: Now, turn: Turn, first: &Built, out: &mut [u8]) -> Transmit {
        let (to, link) = match turn {
            Turn::Dcs(dcs) => (Destination::Dcs(dcs), self.setup.dcs[dcs.index()].link),
            Turn::Group(group) => {
                let link = self.groups[group].link;
                (Destination::Group(link), link)
            }
        };
        let segment = first.len;
        let (mut len, mut count) = (segment, 1);
        let mut goes_on = first.more && self.setup.takes_segments(link);
        while goes_on && count < SEGMENTS_MAX && len + segment <= DATAGRAM_LEN_MAX {
            let Some(next) = self.build_turn(now, turn, &mut out[len..], Some(segment)) else {
                break;
            };
            len += next.len;
            count += 1;
            goes_on = next.more && next.len == segment;
        }
        let segment = (count > 1).then_some(segment);
        Transmit { to, len, segment }
    }

    fn build(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        out: &mut [u8],
        segment: Option<usize>,
    ) -> Option<Built> {
        let peer = &self.peers[dcs.index()];
        if peer.gate != Gate::Open {
            return None; // CSU-01
        }
        let id = peer.id?;
        let setup = Arc::clone(&self.setup);
        let signing = setup.signing(dcs, now.unix_ms);
        if matches!(signing, Signing::Withheld) {
            self.withhold(now, dcs);
            return None;
        }
        let limit = setup.dcs[dcs.index()].packet_limit;
        let signer = signing.signer();
        let frame = Frame::new(&setup, dcs, id.as_bytes(), limit, signer).of(segment);
        let max = setup.dcs[dcs.index()].max_records;
        let hasher = self.hasher;
        let peer = &mut self.peers[dcs.index()];
        let (kind, built) = if !peer.acks.is_empty() {
            let kind = MessageType::CsuReply;
            (kind, frame.pack(kind, out, &mut peer.acks, 0)?)
        } else if peer.solicit.is_due() && peer.solicit.prepare(now.time, |key| hasher.hash(key)) {
            let built = frame.solicit(out, peer.solicit.packet())?;
            (MessageType::Csus, built)
        } else if !peer.nulls.is_empty() {
            let kind = MessageType::CsuRequest;
            (kind, frame.pack(kind, out, &mut peer.nulls, max)?)
        } else {
            let built = self.build_request(now, dcs, &frame, out)?;
            (MessageType::CsuRequest, built)
        };
        self.door.packets.sent[usize::from(kind.code()) - 1] += 1;
        Some(built)
    }

    /// No key is valid: nothing is sent (X-04). What answers the neighbour is given up, since it
    /// will ask again; what it must get waits.
    fn withhold(&mut self, now: Now, dcs: DcsIndex) {
        let peer = &mut self.peers[dcs.index()];
        if !peer.acks.is_empty() || !peer.nulls.is_empty() {
            peer.acks.clear();
            peer.nulls.clear();
            self.door.packets.withheld += 1;
        }
        let store = &self.instances[peer.instance.index()].store;
        if peer.solicit.is_due() || store.peek_unsent(peer.queue).is_some() {
            let retry_at = now.time.saturating_add(WITHHELD_RETRY);
            peer.retry_at.get_or_insert(retry_at);
        }
    }

    /// A CSU Request with what the window allows of the queue (CSU-05, CSU-07).
    fn build_request(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        frame: &Frame<'_>,
        out: &mut [u8],
    ) -> Option<Built> {
        let at = self.peers[dcs.index()].instance;
        let max_records = self.setup.dcs[dcs.index()].max_records;
        let profile = self.setup.instances[at.index()].profile;
        let len_max = frame.record_len_max(MessageType::CsuRequest);
        let first_len = self.first_sendable(now, dcs, len_max)?;
        let group = self.group_ahead(dcs);
        let peer = &mut self.peers[dcs.index()];
        let Instance { store, purges, .. } = &mut self.instances[at.index()];
        if !peer
            .window
            .allows(store.in_flight_bytes(peer.queue), first_len)
        {
            return None;
        }
        let encoder = Encoder {
            profile,
            now,
            purges,
        };
        let (mut builder, spare) = frame.start(MessageType::CsuRequest, out, first_len)?;
        let mut more = false;
        while let Some((id, solicited)) = store.peek_unsent(peer.queue) {
            let len = purges.outgoing_len(store, id);
            let is_held = group.is_some_and(|group| store.is_queued(id, group));
            if is_held || !peer.window.allows(store.in_flight_bytes(peer.queue), len) {
                break;
            }
            if is_full(&builder, max_records) {
                more = true;
                break;
            }
            let hop_count = solicited.then_some(SOLICITED_HOP_COUNT);
            if !encoder.push(&mut builder, store, id, hop_count) {
                more = len > builder.room() + spare;
                break;
            }
            store.mark_sent(peer.queue, now.time);
        }
        (!builder.is_empty()).then(|| frame.finish(builder, more))
    }

    /// The group of the DCS, if it has something to send: what is on its queue goes out with it
    /// (CSU-14).
    fn group_ahead(&self, dcs: DcsIndex) -> Option<PeerIndex> {
        let peer = &self.peers[dcs.index()];
        let store = &self.instances[peer.instance.index()].store;
        let group = peer.group.map(|index| self.groups[index].queue);
        group.filter(|group| store.unsent_len(*group) > 0)
    }

    /// Octets of the first record of the queue, unless it goes out with the group. One that no
    /// packet can hold must not block those behind it, nor a purge.
    fn first_sendable(&mut self, now: Now, dcs: DcsIndex, len_max: usize) -> Option<usize> {
        let group = self.group_ahead(dcs);
        let (at, queue) = (
            self.peers[dcs.index()].instance,
            self.peers[dcs.index()].queue,
        );
        loop {
            let Instance {
                store,
                counters,
                purges,
                ..
            } = &mut self.instances[at.index()];
            let (first, _) = store.peek_unsent(queue)?;
            if group.is_some_and(|group| store.is_queued(first, group)) {
                return None;
            }
            let first_len = purges.outgoing_len(store, first);
            if first_len <= len_max {
                return Some(first_len);
            }
            store.acknowledge(first, queue);
            counters.unsendable += 1;
            self.purge_acknowledged(now, at, first);
        }
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
        // A record that keeps changing is never resent so often, and where the window holds back
        // resends as well, the count of each is behind the time.
        let patience = interval * max.saturating_add(1);
        let unanswered = instance.store.unanswered_since(peer.queue);
        exhausted |= unanswered.is_some_and(|at| now.time >= at.saturating_add(patience));
        if resent > 0 {
            instance.counters.retransmitted += resent;
            peer.window.lost();
            self.break_group(dcs); // CSU-14: a resend names its receiver.
        }
        if exhausted {
            let epoch = self.peers[dcs.index()].epoch;
            self.handle_down(now, dcs); // Nothing more is sent until `Control` has reset it.
            self.tell_control(ToControl::Abnormal {
                dcs,
                epoch,
                cause: Abnormal::CsuRetransmit,
                count: 1,
            });
        }
    }
}

/// Writes records as they leave.
pub(super) struct Encoder<'a> {
    pub(super) profile: Profile,
    pub(super) now: Now,
    pub(super) purges: &'a Purges,
}

impl Encoder<'_> {
    /// Appends an entry with the life that is left of it (K-03), and with its own hop count unless
    /// another is given; `false`: it does not fit.
    pub(super) fn push(
        &self,
        builder: &mut Builder<'_>,
        store: &Store,
        id: EntryId,
        hop_count: Option<u16>,
    ) -> bool {
        let entry = store.entry(id);
        let hop_count = hop_count.unwrap_or(entry.hop_count.max(1));
        if let Some(purge) = self.purges.body(id) {
            let fields = entry.summary(hop_count); // CSU-19
            let len = entry.summary_len() + purge.len();
            return builder.push_with(len, |record| {
                encode_record(record, &fields, purge);
            });
        }
        builder.push_with(entry.wire_len(), |record| {
            encode_record(record, &entry.summary(hop_count), entry.body);
            if let Some(expires) = entry.expires {
                let body = record.len() - entry.body.len();
                let left = expires.since(self.now.time);
                self.profile.set_remaining(&mut record[body..], left);
            }
        })
    }
}

/// Who has the turn to be sent something.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Dcs(DcsIndex),
    /// A multipoint link, by position of its group.
    Group(usize),
}

/// A packet that was built.
#[derive(Clone, Copy, Debug)]
pub(super) struct Built {
    len: usize,
    /// It is full, and there is more for its receiver to come in packets of its kind.
    more: bool,
}

/// What every packet for one DCS, or for all on a link, starts with.
pub(super) struct Frame<'a> {
    header: Header<'a>,
    limit: usize,
    /// Octets of the largest packet that the link carries (D-14).
    largest: usize,
    /// Octets of the packets that it comes behind: it must not be longer.
    segment: Option<usize>,
    signer: Option<Signer<'a>>,
}

impl<'a> Frame<'a> {
    /// `dcs` is the receiver, or any of several of one instance.
    pub(super) fn new(
        setup: &'a Setup,
        dcs: DcsIndex,
        receiver: &'a [u8],
        limit: usize,
        signer: Option<Signer<'a>>,
    ) -> Self {
        let instance = setup.instance_of(dcs);
        let header = Header {
            protocol: instance.protocol,
            group: instance.group,
            sender: setup.lsid.as_bytes(),
            receiver,
        };
        Self {
            header,
            limit,
            largest: setup.dcs[dcs.index()].datagram_limit.min(DATAGRAM_LEN_MAX),
            segment: None,
            signer,
        }
    }

    /// The same for a packet behind others of `segment` octets.
    pub(super) fn of(self, segment: Option<usize>) -> Self {
        Self { segment, ..self }
    }

    /// Octets of a packet without records.
    fn fixed_len(&self, kind: MessageType) -> usize {
        let signature = self.signer.map_or(0, |signer| signer.extension_len());
        overhead(kind, self.header.sender.len(), self.header.receiver.len()) + signature
    }

    /// The last step: signature and checksum (D-08). A packet beyond the limit (D-14) travels in
    /// fragments, and so by itself.
    pub(super) fn finish(&self, builder: Builder<'_>, more: bool) -> Built {
        let len = match &self.signer {
            Some(signer) => builder.finish_signed(signer),
            None => builder.finish(),
        };
        let more = more && len <= self.limit;
        Built { len, more }
    }

    /// Octets of the largest record that any packet can hold.
    pub(super) fn record_len_max(&self, kind: MessageType) -> usize {
        self.largest.saturating_sub(self.fixed_len(kind))
    }

    /// A packet within the limit, or as large as its first record alone needs (D-14), and how much
    /// longer it could be if it was not to come behind others.
    pub(super) fn start<'b>(
        &self,
        kind: MessageType,
        out: &'b mut [u8],
        first_len: usize,
    ) -> Option<(Builder<'b>, usize)> {
        let len_min = self.fixed_len(kind) + first_len;
        let own_limit = self.limit.max(len_min).min(self.largest);
        let limit = self.segment.map_or(own_limit, |len| len.min(own_limit));
        if limit < len_min {
            return None;
        }
        let mut builder = match kind {
            MessageType::CsuRequest => Builder::csu_request(out, limit, &self.header),
            MessageType::CsuReply => Builder::csu_reply(out, limit, &self.header),
            MessageType::Csus => Builder::csus(out, limit, &self.header),
            MessageType::Ca | MessageType::Hello => None,
        }?;
        let fits = self
            .signer
            .is_none_or(|signer| builder.reserve_signature(&signer));
        fits.then_some((builder, own_limit - limit))
    }

    /// Moves as many summaries as fit from `packed` into a packet, `max` at most, 0: any number.
    fn pack(
        &self,
        kind: MessageType,
        out: &mut [u8],
        packed: &mut Packed,
        max: u16,
    ) -> Option<Built> {
        let (mut builder, spare) = self.start(kind, out, packed.front()?.len())?;
        let mut more = false;
        while let Some(wire) = packed.front() {
            let len = wire.len();
            if is_full(&builder, max) {
                more = true;
                break;
            }
            if !builder.push_wire(wire, 1) {
                more = len > builder.room() + spare;
                break;
            }
            packed.pop(len);
        }
        (!builder.is_empty()).then(|| self.finish(builder, more))
    }

    /// A CSUS with these summaries, which are at most a packet.
    fn solicit(&self, out: &mut [u8], packed: &[u8]) -> Option<Built> {
        let (mut builder, _) = self.start(MessageType::Csus, out, packed.len())?;
        for summary in Summaries::over(packed) {
            builder.push_wire(summary.wire, 1);
        }
        Some(self.finish(builder, false))
    }
}

/// Whether a packet holds `max` records, 0: any number.
pub(super) fn is_full(builder: &Builder<'_>, max: u16) -> bool {
    max > 0 && builder.record_count() == max
}
