//! Carrying out the verdicts of the alignment machine (RFC 2334 2.2): negotiation, what is taken in
//! and sent again, Update Cache and the turns to solicit. What is sent: `summaries.rs`.

use std::sync::Arc;

use scsp_wire::{AlignmentOffer, Ca, Envelope, MessageType, overhead};

use crate::Now;
use crate::alignment::{Flow, Role, Signal, State, Verdict, agree, judge};
use crate::message::{Epoch, ToShard};
use crate::setup::{DcsIndex, Destination, ShardIndex};
use crate::shard::split_by_shard;

use super::summaries::offer_room;
use super::{Control, Notice};

/// Octets of summaries that a shard hands over in one go, where packets are smaller.
const PAGE_OCTETS: usize = 16 * 1024;
/// Times that everything in flight is sent again without any answer before the exchange starts over
/// in lock step.
const FRUITLESS_MAX: u32 = 8;

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
        let packet_limit = self.setup.dcs[dcs.index()].packet_limit;
        let offers = self.offer_to(dcs).is_some();
        let alignment = self.alignment_mut(dcs);
        alignment.reset();
        alignment.role = Role::Master; // As every opening says of its sender.
        alignment.flow = Flow::negotiating(sequence);
        alignment.packet_limit = packet_limit;
        alignment.offers = offers;
        alignment.used = sequence;
        alignment.started = now.time;
        let epoch = alignment.epoch;
        self.enter(now, dcs, State::Negotiation);
        let page_octets = self.summary_octets(dcs).max(PAGE_OCTETS);
        self.tell_all(|| ToShard::Exchange {
            dcs,
            epoch,
            id: Box::new(id),
            page_octets,
        });
        self.send_opening(now, dcs, &id, sequence);
        self.arm(now, dcs);
    }

    /// Octets of a packet of the exchange that are left for summaries.
    fn summary_octets(&self, dcs: DcsIndex) -> usize {
        let limit = self.dcs[dcs.index()].alignment.packet_limit;
        limit.saturating_sub(self.fixed_octets(dcs))
    }

    /// Octets of a CA message without summaries.
    fn fixed_octets(&self, dcs: DcsIndex) -> usize {
        let id_len = self.dcsid(dcs).map_or(0, |id| id.as_bytes().len());
        let lsid_len = self.setup.lsid.as_bytes().len();
        let room = self.setup.dcs[dcs.index()].auth.room();
        overhead(MessageType::Ca, lsid_len, id_len) + room
    }

    /// What is offered to `dcs` for an exchange; `None`: lock step.
    fn offer_to(&self, dcs: DcsIndex) -> Option<AlignmentOffer> {
        let setup = &self.setup.dcs[dcs.index()];
        let fits = self.fixed_octets(dcs) + offer_room() <= setup.packet_limit;
        let is_cautious = self.dcs[dcs.index()].alignment.is_cautious;
        let offer = setup.offer.filter(|offer| offer.window > 1);
        offer.filter(|_| fits && !is_cautious)
    }

    /// The exchange begins: in lock step, unless both sides offer more.
    fn begin(&mut self, dcs: DcsIndex, role: Role, ca: &Ca<'_>) {
        let (ours, shards) = (self.offer_to(dcs), self.setup.shards);
        let datagram_limit = self.setup.dcs[dcs.index()].datagram_limit;
        let alignment = self.alignment_mut(dcs);
        // How far the master is with a sequence that was adopted before, nobody here knows.
        let is_doubtful = role == Role::Slave && alignment.adopted.is_doubtful();
        let theirs = ca.extensions().alignment_offer();
        let both = ours.filter(|_| !is_doubtful).zip(theirs);
        let agreed = both.and_then(|(ours, theirs)| agree(ours, theirs));
        let window = agreed.map_or(1, |agreed| agreed.window);
        alignment.role = role;
        alignment.flow = Flow::opened(role, ca.seq, window);
        alignment.offers = agreed.is_some();
        alignment.turns.most = window.min(shards);
        if let Some(agreed) = agreed {
            alignment.packet_limit = usize::from(agreed.packet).min(datagram_limit);
        }
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
            offset: alignment.flow.place(alignment.role, ca.seq),
            sender: envelope.sender().cmp(self.setup.lsid.as_bytes()),
        };
        let keeps_last = alignment.flow.keeps_any();
        let mut verdict = judge(alignment.state, alignment.role, keeps_last, signal);
        if matches!(verdict, Verdict::Renegotiate | Verdict::RenegotiateAndJudge) {
            self.negotiate(now, dcs);
        }
        if verdict == Verdict::RenegotiateAndJudge {
            // CA-22: an opening message counts by its bits alone, whatever our new sequence is.
            verdict = judge(State::Negotiation, Role::Slave, false, signal);
        }
        match verdict {
            Verdict::Renegotiate | Verdict::RenegotiateAndJudge => {}
            Verdict::Ignore => {
                let alignment = self.alignment_mut(dcs);
                if alignment.state == State::Summarize
                    && alignment.role == Role::Master
                    && let Some(lost) = alignment.flow.lost_by(ca.seq)
                {
                    self.send_again(now, dcs, lost);
                }
            }
            Verdict::Resend => self.answer_again(now, dcs, ca),
            Verdict::BecomeSlave => {
                self.alignment_mut(dcs).adopted.adopt(ca.seq);
                self.begin(dcs, Role::Slave, ca);
                self.step(now, dcs, ca);
            }
            Verdict::BecomeMaster => {
                self.begin(dcs, Role::Master, ca);
                self.step(now, dcs, ca);
            }
            Verdict::Accept => self.step(now, dcs, ca), // CA-10, CA-13
        }
    }

    /// Takes in the summaries of an awaited CA and sends what it calls for.
    fn step(&mut self, now: Now, dcs: DcsIndex, ca: &Ca<'_>) {
        let alignment = self.alignment_mut(dcs);
        alignment.resend_at = None;
        alignment.fruitless = 0;
        alignment.flow.take(alignment.role, ca.seq, ca.flags.more);
        let is_master = alignment.role == Role::Master;
        let lost = is_master.then(|| alignment.flow.lost()).flatten();
        let epoch = alignment.epoch;
        self.enter(now, dcs, State::Summarize);
        let setup = Arc::clone(&self.setup);
        let wires = ca.summaries().map(|summary| (summary.key, summary.wire));
        split_by_shard(&setup, wires, |shard, bytes| {
            self.tell(shard, ToShard::Summaries { dcs, epoch, bytes });
        });
        if let Some(lost) = lost {
            self.send_again(now, dcs, lost);
        }
        self.pay(now, dcs);
    }

    /// The master repeats itself (CA-12, CA-15).
    fn answer_again(&mut self, now: Now, dcs: DcsIndex, ca: &Ca<'_>) {
        let alignment = self.alignment_mut(dcs);
        let said = alignment.flow.answer_again(ca.seq).map(<[u8]>::to_vec);
        if let Some(bytes) = said {
            self.transmit(now, dcs, Destination::Dcs(dcs), bytes);
        }
        self.pay(now, dcs);
    }

    pub(super) fn arm(&mut self, now: Now, dcs: DcsIndex) {
        let interval = self.setup.instance_of(dcs).ca_retransmit;
        self.alignment_mut(dcs).resend_at = Some(now.time.saturating_add(interval));
    }

    /// `CAReXmtInterval` passed without an answer (CA-02, CA-11): all that is not answered goes out
    /// again.
    pub(super) fn resend_ca(&mut self, now: Now, dcs: DcsIndex) {
        let alignment = self.alignment_mut(dcs);
        alignment.fruitless += 1;
        if alignment.flow.width() > 1 && alignment.fruitless > FRUITLESS_MAX {
            alignment.is_cautious = true;
            return self.negotiate(now, dcs);
        }
        let unanswered = alignment.flow.unanswered();
        for number in unanswered {
            self.send_again(now, dcs, number);
        }
        self.arm(now, dcs);
    }

    /// Update Cache (2.2.3). The slave keeps its last CA messages (CA-15).
    pub(super) fn enter_update(&mut self, now: Now, dcs: DcsIndex) {
        let shards = self.setup.shards;
        let alignment = self.alignment_mut(dcs);
        alignment.resend_at = None;
        alignment.is_cautious = false;
        alignment.turns.comparing = shards;
        if alignment.role == Role::Master {
            alignment.flow.release();
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
        if alignment.epoch != epoch || !alignment.turns.end(shard) {
            return;
        }
        self.pass_turn(now, dcs);
    }

    fn grant(&mut self, dcs: DcsIndex) {
        let octets = self.summary_octets(dcs);
        let alignment = self.alignment_mut(dcs);
        let epoch = alignment.epoch;
        // CA-19: one CSUS, or as many as CA messages.
        let packets = (alignment.flow.width() / alignment.turns.most).max(1);
        while let Some(shard) = self.alignment_mut(dcs).turns.grant() {
            let turn = ToShard::Turn {
                dcs,
                epoch,
                octets,
                packets,
            };
            self.tell(shard, turn);
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
