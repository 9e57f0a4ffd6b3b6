//! Acknowledging and being acknowledged (RFC 2334 2.3, B.2.3), and answers to a CSUS.

use scsp_cache::EntryId;
use scsp_wire::Summary;

use crate::Now;
use crate::setup::DcsIndex;

use super::Shard;
use super::align::SUMMARY_HOP_COUNT;

impl Shard {
    /// `dcs` holds the entry: it leaves the retransmit queue. Where that was the last one to
    /// acknowledge a purge, the entry is gone afterwards. Whether it was there.
    pub(super) fn dequeue(&mut self, now: Now, dcs: DcsIndex, id: EntryId) -> bool {
        let peer = &mut self.peers[dcs.index()];
        let instance = &mut self.instances[peer.instance.index()];
        let Some(done) = instance.store.acknowledge(id, peer.queue) else {
            return false;
        };
        if let Some(sent_at) = done.sent_at {
            peer.window.acknowledged(done.octets);
            instance.acknowledged_after = Some(now.time.since(sent_at));
        }
        let at = peer.instance;
        self.purge_acknowledged(now, at, id);
        true
    }

    /// One summary of a CSU Reply (CSU-08, D-16).
    pub(super) fn take_acknowledgement(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        hash: u64,
        summary: &Summary<'_>,
    ) {
        let peer = &self.peers[dcs.index()];
        let store = &mut self.instances[peer.instance.index()].store;
        // Also by a reply to an instance that is replaced by now: the neighbour takes records.
        store.answered(peer.queue);
        if summary.null {
            return; // It answers a record with the N bit, which is never queued.
        }
        let peer = &self.peers[dcs.index()];
        let instance = &mut self.instances[peer.instance.index()];
        let Some(id) = instance.store.find(hash, summary.key, summary.originator) else {
            return;
        };
        let seq = instance.store.seq(id);
        if summary.seq == seq {
            let at = peer.instance;
            let queued = self.dequeue(now, dcs, id);
            self.instances[at.index()].counters.acknowledged += u64::from(queued);
        } else if summary.seq > seq && !instance.purges.is_copy(now, summary, Some(seq)) {
            // Where it cannot be asked for now, the record brings the same reply once more.
            if self.want(dcs, hash, summary) {
                self.dequeue(now, dcs, id);
            }
        }
    }

    /// One summary of a CSUS (CSU-10, CSU-11). What is queued for the neighbour is on its way, or
    /// about to be resent (CSU-06): another CSUS does not send it sooner. Where it is queued since
    /// it is new, it keeps its hop count instead of the 1 of D-06: the neighbour floods it as far
    /// as it would have without asking, or further.
    pub(super) fn take_solicitation(&mut self, dcs: DcsIndex, hash: u64, summary: &Summary<'_>) {
        let peer = &mut self.peers[dcs.index()];
        let instance = &mut self.instances[peer.instance.index()];
        let found = instance.store.find(hash, summary.key, summary.originator);
        let is_held = found.is_some_and(|id| instance.store.seq(id) >= summary.seq);
        if let Some(id) = found
            && !instance.store.is_queued(id, peer.queue)
        {
            // An older instance is no answer but an offer, and travels like one.
            instance.store.enqueue(id, peer.queue, is_held);
        }
        // It alone would leave the solicitor asking for ever.
        if !is_held {
            let fields = scsp_wire::SummaryFields {
                null: true,
                hop_count: SUMMARY_HOP_COUNT,
                ..summary.fields()
            };
            peer.nulls.push_with(summary.wire_len(), |out| {
                scsp_wire::encode_summary(out, &fields);
            });
        }
    }

    /// Acknowledges a record by its own summary (CSU-04, CSU-17).
    pub(super) fn acknowledge(&mut self, dcs: DcsIndex, summary: &Summary<'_>) {
        let fields = scsp_wire::SummaryFields {
            hop_count: SUMMARY_HOP_COUNT,
            ..summary.fields()
        };
        self.peers[dcs.index()]
            .acks
            .push_with(summary.wire_len(), |out| {
                scsp_wire::encode_summary(out, &fields);
            });
    }

    /// Acknowledges by the summary of what the cache holds (CSU-09).
    pub(super) fn acknowledge_held(&mut self, dcs: DcsIndex, id: EntryId) {
        let peer = &mut self.peers[dcs.index()];
        let store = &self.instances[peer.instance.index()].store;
        let len = store.summary_len(id);
        peer.acks.push_with(len, |out| {
            store.encode_summary(id, SUMMARY_HOP_COUNT, false, out);
        });
    }

    /// The neighbour had summarized a newer instance than the one held, and no longer has it, or
    /// nothing but a purge that is over. It gets what is held, as it would have if the summary had
    /// come later; the originator then withdraws what is outdated (D-12). Where it was a reply that
    /// had shown the newer instance, that comes after a while only: it would bring the same reply
    /// again from a neighbour that is at odds with itself. Most likely the reply was late, of before
    /// the entry started again (CSU-19).
    pub(super) fn offer_older(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        hash: u64,
        summary: &Summary<'_>,
    ) {
        let peer = &self.peers[dcs.index()];
        let store = &mut self.instances[peer.instance.index()].store;
        let found = store.find(hash, summary.key, summary.originator);
        let Some(id) = found.filter(|id| store.seq(*id) < summary.seq) else {
            return;
        };
        // With the hops that it would have if it had been asked for (D-06): the originator that is to
        // withdraw it may be far.
        store.set_hop_count(id, self.setup.instance_of(dcs).hop_count);
        if !peer.first_turn_over {
            store.enqueue(id, peer.queue, false);
        } else if !store.is_queued(id, peer.queue) {
            store.enqueue_as_sent(id, peer.queue, now.time);
        }
    }
}
