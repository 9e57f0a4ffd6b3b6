//! Sending CA messages (RFC 2334 2.2.1, 2.2.2): summaries of the shards, packed as the numbers of the
//! exchange allow.

use std::sync::Arc;

use scsp_wire::{
    AlignmentOffer, Builder, CaFlags, CaSeq, Envelope, Header, Item, ItemKind, Message,
    MessageType, ServerId, items_len, overhead,
};

use crate::Now;
use crate::alignment::{Alignment, Role, Source, State};
use crate::message::{Epoch, Page, ToShard};
use crate::setup::{DcsIndex, Destination, Setup, ShardIndex};
use crate::shard::split_by_shard;

use super::Control;

/// Octets of an extension's header, and of the end marker.
const EXTENSION_HEADER_LEN: usize = 4;

impl Control {
    /// Summaries arrived from a shard.
    pub(super) fn handle_page(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        epoch: Epoch,
        shard: ShardIndex,
        page: Page,
    ) {
        let alignment = self.alignment_mut(dcs);
        if alignment.epoch != epoch
            || !matches!(alignment.state, State::Negotiation | State::Summarize)
        {
            return;
        }
        let source = &mut alignment.sources[shard.index()];
        source.more = page.more;
        source.requested = source.requested.saturating_sub(1);
        source.opened = true;
        if !page.bytes.is_empty() {
            source.pages.push_back(page);
        }
        self.prefetch(dcs);
        self.pay(now, dcs);
    }

    /// Asks the shards for pages, so that they are there before they are needed.
    fn prefetch(&mut self, dcs: DcsIndex) {
        let epoch = self.alignment_mut(dcs).epoch;
        for shard in (0..self.setup.shards).map(ShardIndex) {
            while self.alignment_mut(dcs).sources[shard.index()].wants_page() {
                self.tell(shard, ToShard::NextPage { dcs, epoch });
            }
        }
    }

    /// Sends the CA messages that may go out and whose summaries are there (CA-04, CA-05, CA-10,
    /// CA-13), and ends the exchange when both sides are done.
    pub(super) fn pay(&mut self, now: Now, dcs: DcsIndex) {
        let Some(id) = self.dcsid(dcs) else { return };
        loop {
            let alignment = self.alignment_mut(dcs);
            if alignment.state != State::Summarize {
                return;
            }
            if alignment.flow.is_over(alignment.role) {
                return self.enter_update(now, dcs); // CA-10, CA-13
            }
            match alignment.flow.next(alignment.role) {
                Some(number) if alignment.is_ready() => self.send_summaries(now, dcs, &id, number),
                _ => break,
            }
        }
        let alignment = self.alignment_mut(dcs);
        match alignment.role {
            Role::Master => {
                if alignment.flow.is_waiting() && alignment.resend_at.is_none() {
                    self.arm(now, dcs);
                }
            }
            Role::Slave => {
                let is_quits = alignment.flow.next(Role::Slave).is_none();
                if is_quits && alignment.flow.lost().is_some() {
                    let last = alignment.flow.last_message().map(<[u8]>::to_vec);
                    if let Some(bytes) = last {
                        self.transmit(now, dcs, Destination::Dcs(dcs), bytes);
                    }
                }
            }
        }
    }

    /// Sends the message of this number with the summaries at hand; O says whether more remain
    /// (D-05).
    fn send_summaries(&mut self, now: Now, dcs: DcsIndex, id: &ServerId, number: CaSeq) {
        let alignment = self.alignment_mut(dcs);
        let (role, opens) = (alignment.role, alignment.offers);
        // The slave's first answer belongs to the negotiation, and says that it agrees.
        alignment.offers = false;
        let offer = self.setup.dcs[dcs.index()].offer;
        let offer = offer.filter(|_| role == Role::Slave && opens);
        let (bytes, more) = self.build(dcs, id, number, offer);
        let alignment = self.alignment_mut(dcs);
        if role == Role::Master {
            alignment.used = number;
        }
        alignment.flow.sent(role, number, more, bytes.clone());
        self.transmit(now, dcs, Destination::Dcs(dcs), bytes);
        self.prefetch(dcs);
        if self.alignment_mut(dcs).adopted.take_doubt() {
            self.offer_summarized(dcs); // CA-17
        }
    }

    /// Has the shards queue what the last CA summarized.
    fn offer_summarized(&mut self, dcs: DcsIndex) {
        let setup = Arc::clone(&self.setup);
        let alignment = self.alignment_mut(dcs);
        let last = alignment.flow.last_message().map(<[u8]>::to_vec);
        let (epoch, bytes) = (alignment.epoch, last.unwrap_or_default());
        let opened = Envelope::parse(&bytes).and_then(|envelope| envelope.open());
        let Ok(Message::Ca(ca)) = opened else {
            unreachable!("the last CA is of this server's own making")
        };
        let wires = ca.summaries().map(|summary| (summary.key, summary.wire));
        split_by_shard(&setup, wires, |shard, bytes| {
            self.tell(shard, ToShard::Offer { dcs, epoch, bytes });
        });
    }

    /// Sends a message of the master once more. What lies beyond its last summaries says nothing
    /// but its number, and need not have been sent before.
    pub(super) fn send_again(&mut self, now: Now, dcs: DcsIndex, number: CaSeq) {
        let Some(id) = self.dcsid(dcs) else { return };
        let said = self
            .alignment_mut(dcs)
            .flow
            .message(number)
            .map(<[u8]>::to_vec);
        let bytes = said.unwrap_or_else(|| {
            let flags = CaFlags {
                master: true,
                initialize: false,
                more: false,
            };
            self.build_empty(dcs, &id, number, flags, None)
        });
        self.transmit(now, dcs, Destination::Dcs(dcs), bytes);
    }

    /// Sends and keeps the message that opens Negotiation (CA-02).
    pub(super) fn send_opening(&mut self, now: Now, dcs: DcsIndex, id: &ServerId, number: CaSeq) {
        let flags = CaFlags {
            master: true,
            initialize: true,
            more: true,
        };
        let offers = self.alignment_mut(dcs).offers;
        let offer = self.setup.dcs[dcs.index()].offer.filter(|_| offers);
        let bytes = self.build_empty(dcs, id, number, flags, offer);
        let flow = &mut self.alignment_mut(dcs).flow;
        flow.sent(Role::Master, number, true, bytes.clone());
        self.transmit(now, dcs, Destination::Dcs(dcs), bytes);
    }

    /// A message without summaries, not signed yet.
    fn build_empty(
        &self,
        dcs: DcsIndex,
        id: &ServerId,
        number: CaSeq,
        flags: CaFlags,
        offer: Option<AlignmentOffer>,
    ) -> Vec<u8> {
        let limit = self.setup.dcs[dcs.index()].packet_limit;
        let mut bytes = vec![0; limit];
        let header = ca_header(&self.setup, dcs, id);
        let builder = Builder::ca(&mut bytes, limit, &header, number, flags).expect(ROOM_FOR_IDS);
        let len = finish(builder, offer);
        bytes.truncate(len);
        bytes
    }

    /// A message with the summaries at hand, not signed yet, and whether more remain.
    fn build(
        &mut self,
        dcs: DcsIndex,
        id: &ServerId,
        number: CaSeq,
        offer: Option<AlignmentOffer>,
    ) -> (Vec<u8>, bool) {
        let setup = Arc::clone(&self.setup);
        let alignment = &mut self.dcs[dcs.index()].alignment;
        let ids_len = (setup.lsid.as_bytes().len(), id.as_bytes().len());
        let room = setup.dcs[dcs.index()].auth.room();
        let fixed = overhead(MessageType::Ca, ids_len.0, ids_len.1) + room;
        // D-14: a summary that alone exceeds the packet limit travels in a larger packet; not with
        // an offer, which may take the octets that it needs.
        let next_len = alignment.sources.iter().find_map(Source::next_len);
        let first_len = next_len.filter(|_| offer.is_none()).unwrap_or(0);
        let limit = alignment.packet_limit.max(fixed + first_len);
        let header = ca_header(&setup, dcs, id);
        let mut flags = CaFlags {
            master: alignment.role == Role::Master,
            initialize: false,
            more: false,
        };
        let mut bytes = vec![0; limit];
        let mut builder =
            Builder::ca(&mut bytes, limit - room, &header, number, flags).expect(ROOM_FOR_IDS);
        let has_room =
            offer.is_none() || builder.reserve(items_len(&[offer_item(&[0; AlignmentOffer::LEN])]));
        debug_assert!(has_room, "nothing is offered where an offer does not fit");
        for source in &mut alignment.sources {
            if !fill(&mut builder, source) {
                break;
            }
        }
        flags.more = alignment.sources.iter().any(|source| !source.is_drained());
        builder.set_ca_flags(flags);
        let len = finish(builder, offer);
        bytes.truncate(len);
        (bytes, flags.more)
    }
}

const ROOM_FOR_IDS: &str = "the packet limit leaves room for two ids";

fn ca_header<'a>(setup: &'a Setup, dcs: DcsIndex, id: &'a ServerId) -> Header<'a> {
    let instance = setup.instance_of(dcs);
    Header {
        protocol: instance.protocol,
        group: instance.group,
        sender: setup.lsid.as_bytes(),
        receiver: id.as_bytes(),
    }
}

fn offer_item(value: &[u8; AlignmentOffer::LEN]) -> Item<'_> {
    Item {
        kind: ItemKind::Alignment,
        value,
    }
}

fn finish(mut builder: Builder<'_>, offer: Option<AlignmentOffer>) -> usize {
    if let Some(offer) = offer {
        let pushed = builder.push_items(&[offer_item(&offer.encode())]);
        debug_assert!(pushed, "room for the offer is kept");
    }
    builder.finish()
}

/// Octets of a packet that an offer takes.
pub(super) fn offer_room() -> usize {
    items_len(&[offer_item(&[0; AlignmentOffer::LEN])]) + 2 * EXTENSION_HEADER_LEN
}

impl Alignment {
    /// Whether a message is to be sent with what is at hand. Where several are under way, one that
    /// is not full waits for the page that will fill it.
    fn is_ready(&self) -> bool {
        if self.flow.is_exhausted() {
            return true;
        }
        let sources = || self.sources.iter().filter(|source| !source.is_drained());
        let opened = self.sources.iter().all(|source| source.opened);
        if self.flow.width() == 1 {
            return opened && sources().next().is_none_or(|it| !it.pages.is_empty());
        }
        let octets: usize = self.sources.iter().map(Source::octets).sum();
        opened && (octets >= self.packet_limit || sources().all(|it| it.requested == 0))
    }
}

/// Copies summaries of `source` into `builder`; `false` when that is full.
fn fill(builder: &mut Builder<'_>, source: &mut Source) -> bool {
    while let Some(page) = source.pages.front() {
        let mut rest = &page.bytes[source.consumed..];
        while let Some(len) = record_len(rest) {
            if !builder.push_wire(&rest[..len], 1) {
                return false;
            }
            source.consumed += len;
            rest = &rest[len..];
        }
        source.consumed = 0;
        source.pages.pop_front();
    }
    true
}

impl Source {
    /// Octets of the next summary at hand.
    fn next_len(&self) -> Option<usize> {
        record_len(self.pages.front()?.bytes.get(self.consumed..)?)
    }

    /// Octets of all summaries at hand.
    fn octets(&self) -> usize {
        let pages = self.pages.iter().map(|page| page.bytes.len());
        pages.sum::<usize>() - self.consumed
    }
}

/// Octets of the first record of `bytes`, which holds whole records of this server's own making.
fn record_len(bytes: &[u8]) -> Option<usize> {
    let field = bytes.get(2..4)?;
    Some(usize::from(u16::from_be_bytes([field[0], field[1]])))
}
