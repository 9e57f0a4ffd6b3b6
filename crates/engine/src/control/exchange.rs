//! Carrying out the verdicts of the alignment machine (RFC 2334 2.2): who sends which CA message
//! when, with whose summaries.

use std::sync::Arc;

use scsp_wire::{Builder, Ca, CaFlags, Envelope, Header, Message, MessageType, ServerId, overhead};

use crate::Now;
use crate::alignment::{Offset, Role, Signal, Source, State, Verdict, judge};
use crate::message::{Epoch, Page, ToShard};
use crate::setup::{DcsIndex, Destination, ShardIndex};
use crate::shard::split_by_shard;

use super::{Control, Notice};

/// M, I and O off.
const NO_FLAGS: CaFlags = CaFlags {
    master: false,
    initialize: false,
    more: false,
};

impl Control {
    /// The only assignment to an alignment state.
    fn enter(&mut self, now: Now, dcs: DcsIndex, to: State) {
        let peer = &mut self.dcs[dcs.index()];
        let from = std::mem::replace(&mut peer.alignment.state, to);
        if from == to {
            return;
        }
        peer.alignment.since = now.time;
        peer.transitions[1] += 1;
        let took = (to == State::Aligned).then(|| now.time.since(peer.alignment.started));
        self.notices.push_back(Notice::Alignment {
            dcs,
            from,
            to,
            took,
        });
        if to == State::Aligned {
            self.release_due(now.time);
        }
    }

    /// The hello machine left Bidirectional (CA-01, H-13).
    pub(super) fn align_down(&mut self, now: Now, dcs: DcsIndex) {
        self.alignment_mut(dcs).reset();
        self.tell_all(|| ToShard::Down { dcs });
        self.enter(now, dcs, State::Down);
    }

    /// Enters Master/Slave Negotiation (CA-02).
    pub(super) fn negotiate(&mut self, now: Now, dcs: DcsIndex) {
        let Some(id) = self.dcsid(dcs) else {
            return;
        };
        let sequence = self.fresh_sequence(now, dcs);
        let alignment = self.alignment_mut(dcs);
        alignment.reset();
        alignment.sequence = sequence;
        alignment.used = sequence;
        alignment.started = now.time;
        let epoch = alignment.epoch;
        self.enter(now, dcs, State::Negotiation);
        let limit = self.setup.dcs[dcs.index()].packet_limit;
        let fixed = overhead(
            MessageType::Ca,
            self.setup.lsid.as_bytes().len(),
            id.as_bytes().len(),
        );
        let room = self.setup.dcs[dcs.index()].auth.room();
        let page_octets = limit.saturating_sub(fixed + room);
        self.tell_all(|| ToShard::Exchange {
            dcs,
            epoch,
            id: Box::new(id),
            page_octets,
        });
        let flags = CaFlags {
            master: true,
            initialize: true,
            more: true,
        };
        self.send_ca(now, dcs, &id, flags, false);
        self.arm(now, dcs);
    }

    /// A CA message of `dcs` (CA-03..CA-15, CA-22).
    pub(super) fn handle_ca(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        envelope: &Envelope<'_>,
        ca: &Ca<'_>,
    ) {
        let peer = &self.dcs[dcs.index()];
        let known = self
            .dcsid(dcs)
            .is_some_and(|id| id.as_bytes() == envelope.sender());
        if envelope.receiver() != self.setup.lsid.as_bytes() || !known {
            self.ignored += 1; // CA-03
            return;
        }
        let flags = ca.flags;
        let alignment = &peer.alignment;
        let signal = Signal {
            master: flags.master,
            initialize: flags.initialize,
            more: flags.more,
            empty: envelope.record_count() == 0,
            offset: Offset::of(ca.seq, alignment.sequence),
            sender: envelope.sender().cmp(self.setup.lsid.as_bytes()),
        };
        let keeps_last = !alignment.last_ca.is_empty();
        let mut verdict = judge(alignment.state, alignment.role, keeps_last, signal);
        if matches!(verdict, Verdict::Renegotiate | Verdict::RenegotiateAndJudge) {
            self.negotiate(now, dcs);
        }
        if verdict == Verdict::RenegotiateAndJudge {
            // CA-22: an opening message counts by its bits alone, whatever our new sequence is.
            verdict = judge(State::Negotiation, Role::Slave, false, signal);
        }
        match verdict {
            Verdict::Ignore | Verdict::Renegotiate | Verdict::RenegotiateAndJudge => {}
            Verdict::Resend => self.repeat_ca(now, dcs),
            Verdict::BecomeSlave => {
                let alignment = self.alignment_mut(dcs);
                alignment.role = Role::Slave;
                alignment.sequence = ca.seq;
                alignment.adopted.adopt(ca.seq);
                self.step(now, dcs, ca);
            }
            Verdict::BecomeMaster => {
                let alignment = self.alignment_mut(dcs);
                alignment.role = Role::Master;
                alignment.advance();
                self.step(now, dcs, ca);
            }
            Verdict::Accept => {
                // CA-10 for the master, CA-13 for the slave: both end at own + 1.
                self.alignment_mut(dcs).advance();
                self.step(now, dcs, ca);
            }
        }
    }

    /// Takes in the summaries of an accepted CA and owes the next one.
    fn step(&mut self, now: Now, dcs: DcsIndex, ca: &Ca<'_>) {
        let alignment = self.alignment_mut(dcs);
        alignment.resend_at = None;
        alignment.received_more = ca.flags.more;
        alignment.owed = true;
        let epoch = alignment.epoch;
        self.enter(now, dcs, State::Summarize);
        let setup = Arc::clone(&self.setup);
        let wires = ca.summaries().map(|summary| (summary.key, summary.wire));
        split_by_shard(&setup, wires, |shard, bytes| {
            self.tell(shard, ToShard::Summaries { dcs, epoch, bytes });
        });
        self.pay(now, dcs);
    }

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
        source.requested = false;
        source.opened = true;
        if !page.bytes.is_empty() {
            source.pages.push_back(page);
        }
        if source.wants_page() {
            self.tell(shard, ToShard::NextPage { dcs, epoch });
        }
        self.pay(now, dcs);
    }

    /// Sends the owed CA if its summaries are there (CA-04, CA-05, CA-10, CA-13).
    fn pay(&mut self, now: Now, dcs: DcsIndex) {
        let Some(id) = self.dcsid(dcs) else { return };
        let alignment = self.alignment_mut(dcs);
        if !alignment.owed || alignment.state != State::Summarize {
            return;
        }
        // Some shard's next summaries are still being prepared, and none before them are at hand.
        let first = alignment.sources.iter().find(|source| !source.is_drained());
        let opened = alignment.sources.iter().all(|source| source.opened);
        if !opened || first.is_some_and(|source| source.pages.is_empty()) {
            return;
        }
        alignment.owed = false;
        let nothing_left = first.is_none();
        let settled = !alignment.received_more && !alignment.sent_more;
        match alignment.role {
            Role::Master if nothing_left && settled => self.enter_update(now, dcs), // CA-10
            Role::Master => {
                self.send_ca(
                    now,
                    dcs,
                    &id,
                    CaFlags {
                        master: true,
                        ..NO_FLAGS
                    },
                    true,
                );
                self.arm(now, dcs);
            }
            Role::Slave => {
                self.send_ca(now, dcs, &id, NO_FLAGS, true);
                let alignment = self.alignment_mut(dcs);
                if alignment.adopted.take_doubt() {
                    self.offer_summarized(dcs); // CA-17
                }
                let alignment = self.alignment_mut(dcs);
                if !alignment.sent_more && !alignment.received_more {
                    self.enter_update(now, dcs); // CA-13
                }
            }
        }
    }

    /// Has the shards queue what the last CA summarized.
    fn offer_summarized(&mut self, dcs: DcsIndex) {
        let setup = Arc::clone(&self.setup);
        let alignment = self.alignment_mut(dcs);
        let (epoch, bytes) = (alignment.epoch, alignment.last_ca.clone());
        let opened = Envelope::parse(&bytes).and_then(|envelope| envelope.open());
        let Ok(Message::Ca(ca)) = opened else {
            unreachable!("the last CA is of this server's own making")
        };
        let wires = ca.summaries().map(|summary| (summary.key, summary.wire));
        split_by_shard(&setup, wires, |shard, bytes| {
            self.tell(shard, ToShard::Offer { dcs, epoch, bytes });
        });
    }

    /// Builds and sends a CA message and keeps it for resending, not signed yet. With `summaries`, those at hand
    /// go in and O says whether more remain (D-05).
    fn send_ca(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        id: &ServerId,
        mut flags: CaFlags,
        summaries: bool,
    ) {
        let setup = Arc::clone(&self.setup);
        let instance = setup.instance_of(dcs);
        let alignment = &mut self.dcs[dcs.index()].alignment;
        let first_len = alignment
            .sources
            .iter()
            .find_map(Source::next_len)
            .filter(|_| summaries);
        let fixed = overhead(
            MessageType::Ca,
            setup.lsid.as_bytes().len(),
            id.as_bytes().len(),
        );
        // D-14: a summary that alone exceeds the packet limit travels in a larger packet.
        let room = setup.dcs[dcs.index()].auth.room();
        let limit = setup.dcs[dcs.index()]
            .packet_limit
            .max(fixed + first_len.unwrap_or(0) + room)
            - room;
        let header = Header {
            protocol: instance.protocol,
            group: instance.group,
            sender: setup.lsid.as_bytes(),
            receiver: id.as_bytes(),
        };
        let mut bytes = std::mem::take(&mut alignment.last_ca);
        bytes.clear();
        bytes.resize(limit, 0);
        let mut builder = Builder::ca(&mut bytes, limit, &header, alignment.sequence, flags)
            .expect("the packet limit leaves room for two ids");
        let mut wanted = Vec::new();
        if summaries {
            for (source, shard) in alignment.sources.iter_mut().zip((0..).map(ShardIndex)) {
                fill(&mut builder, source);
                if source.wants_page() {
                    wanted.push(shard);
                }
                if !source.is_drained() {
                    break;
                }
            }
            flags.more = alignment.sources.iter().any(|source| !source.is_drained());
            builder.set_ca_flags(flags);
        }
        let len = builder.finish();
        bytes.truncate(len);
        alignment.sent_more = flags.more;
        alignment.last_ca.clone_from(&bytes);
        let epoch = alignment.epoch;
        self.transmit(now, dcs, Destination::Dcs(dcs), bytes);
        for shard in wanted {
            self.tell(shard, ToShard::NextPage { dcs, epoch });
        }
    }

    fn arm(&mut self, now: Now, dcs: DcsIndex) {
        let interval = self.setup.instance_of(dcs).ca_retransmit;
        self.alignment_mut(dcs).resend_at = Some(now.time.saturating_add(interval));
    }

    /// `CAReXmtInterval` passed without an answer (CA-02, CA-11).
    pub(super) fn resend_ca(&mut self, now: Now, dcs: DcsIndex) {
        self.repeat_ca(now, dcs);
        self.arm(now, dcs);
    }

    /// Sends the last CA once more, unless the next one is owed already: then the message that
    /// asked for it is a repetition of one that is being answered.
    fn repeat_ca(&mut self, now: Now, dcs: DcsIndex) {
        let alignment = &self.dcs[dcs.index()].alignment;
        if alignment.last_ca.is_empty() || alignment.owed {
            return;
        }
        let bytes = alignment.last_ca.clone();
        self.transmit(now, dcs, Destination::Dcs(dcs), bytes);
    }

    /// Update Cache (2.2.3). The slave keeps its last CA (CA-15).
    fn enter_update(&mut self, now: Now, dcs: DcsIndex) {
        let shards = self.setup.shards;
        let alignment = self.alignment_mut(dcs);
        alignment.resend_at = None;
        alignment.turns.comparing = shards;
        if alignment.role == Role::Master {
            alignment.last_ca.clear();
        }
        let epoch = alignment.epoch;
        self.enter(now, dcs, State::Update);
        self.tell_all(|| ToShard::Update { dcs, epoch });
    }

    /// A shard has compared all summaries of the neighbour (CA-18).
    pub(super) fn handle_compared(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        epoch: Epoch,
        shard: ShardIndex,
        wanting: bool,
    ) {
        let alignment = self.alignment_mut(dcs);
        if alignment.epoch != epoch || !alignment.state.is_updating() {
            return;
        }
        alignment.turns.comparing = alignment.turns.comparing.saturating_sub(1);
        if wanting {
            alignment.turns.waiting.push_back(shard);
        }
        self.pass_turn(now, dcs);
    }

    /// A shard wants to solicit again (CSU-08).
    pub(super) fn handle_wanting(&mut self, dcs: DcsIndex, epoch: Epoch, shard: ShardIndex) {
        let alignment = self.alignment_mut(dcs);
        if alignment.epoch != epoch || !alignment.state.is_updating() {
            return;
        }
        alignment.turns.waiting.push_back(shard);
        self.grant(dcs);
    }

    /// A shard's request list is empty.
    pub(super) fn handle_turn_over(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        epoch: Epoch,
        shard: ShardIndex,
    ) {
        let alignment = self.alignment_mut(dcs);
        if alignment.epoch != epoch || alignment.turns.holder != Some(shard) {
            return;
        }
        alignment.turns.holder = None;
        self.pass_turn(now, dcs);
    }

    fn grant(&mut self, dcs: DcsIndex) {
        let alignment = self.alignment_mut(dcs);
        let epoch = alignment.epoch;
        if let Some(shard) = alignment.turns.grant() {
            self.tell(shard, ToShard::Turn { dcs, epoch });
        }
    }

    fn pass_turn(&mut self, now: Now, dcs: DcsIndex) {
        self.grant(dcs);
        let alignment = self.alignment_mut(dcs);
        if alignment.state == State::Update && alignment.turns.is_idle() {
            self.enter(now, dcs, State::Aligned); // CA-18, CA-19
        }
    }
}

/// Copies summaries of `source` into `builder` until either ends.
fn fill(builder: &mut Builder<'_>, source: &mut Source) {
    while let Some(page) = source.pages.front() {
        let mut rest = &page.bytes[source.consumed..];
        while let Some(len) = record_len(rest) {
            if !builder.push_wire(&rest[..len], 1) {
                return;
            }
            source.consumed += len;
            rest = &rest[len..];
        }
        source.consumed = 0;
        source.pages.pop_front();
    }
}

impl Source {
    /// Octets of the next summary at hand.
    fn next_len(&self) -> Option<usize> {
        record_len(self.pages.front()?.bytes.get(self.consumed..)?)
    }
}

/// Octets of the first record of `bytes`, which holds whole records of this server's own making.
fn record_len(bytes: &[u8]) -> Option<usize> {
    let field = bytes.get(2..4)?;
    Some(usize::from(u16::from_be_bytes([field[0], field[1]])))
}
