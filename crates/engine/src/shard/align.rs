//! A shard's part of cache alignment (RFC 2334 2.2.2): summarizing what it holds, comparing what
//! the neighbour holds.

use scsp_cache::{EntryId, PASS_LEN};
use scsp_wire::{CsaSeq, MessageType, ServerId, Summaries, Summary, overhead};

use crate::Now;
use crate::message::{Epoch, Page, ToControl};
use crate::setup::DcsIndex;

use super::peer::Gate;
use super::purge::is_of_before;
use super::{Instance, Shard};

/// Hop count of a stand-alone summary (CSU-17).
pub(super) const SUMMARY_HOP_COUNT: u16 = 1;

impl Shard {
    /// A new exchange begins. From here on changes are queued for `dcs`, so that an entry changed
    /// after it was summarized, or created, reaches the neighbour once CSU may flow (CA-17).
    pub(super) fn handle_exchange(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        epoch: Epoch,
        id: ServerId,
        page_octets: usize,
    ) {
        self.note_whole(now);
        let peer = &mut self.peers[dcs.index()];
        let store = &mut self.instances[peer.instance.index()].store;
        store.clear_queue(peer.queue);
        peer.reset();
        peer.gate = Gate::Exchange;
        peer.moved_at = now.time;
        peer.epoch = epoch;
        peer.id = Some(id);
        peer.page_octets = page_octets;
        peer.cursor = Some(store.cursor());
        self.break_group(dcs);
        self.purges_without(now, dcs); // CSU-19
        self.send_page(dcs);
    }

    pub(super) fn handle_next_page(&mut self, now: Now, dcs: DcsIndex, epoch: Epoch) {
        if self.is_current(dcs, epoch) {
            self.peers[dcs.index()].moved_at = now.time;
            self.send_page(dcs);
        }
    }

    /// Prepares the next summaries; at least one if there is any left, even when it alone exceeds
    /// a page (D-14).
    fn send_page(&mut self, dcs: DcsIndex) {
        let peer = &mut self.peers[dcs.index()];
        let Instance {
            store, counters, ..
        } = &mut self.instances[peer.instance.index()];
        let Some(cursor) = &mut peer.cursor else {
            return;
        };
        let mut page = Page {
            bytes: Vec::with_capacity(peer.page_octets),
            more: false,
        };
        let ids = [
            self.setup.lsid.as_bytes().len(),
            peer.id.map_or(0, |id| id.as_bytes().len()),
        ];
        let setup = &self.setup.dcs[dcs.index()];
        let around = overhead(MessageType::Ca, ids[0], ids[1]) + setup.auth.room();
        let largest = setup.datagram_limit;
        let mut ahead = *cursor;
        while let Some(id) = store.cursor_next(&mut ahead) {
            let len = store.summary_len(id);
            if around + len > largest {
                counters.unsendable += 1; // D-14: nothing on this link can carry it.
                *cursor = ahead;
                continue;
            }
            if !page.bytes.is_empty() && page.bytes.len() + len > peer.page_octets {
                page.more = true;
                break;
            }
            let start = page.bytes.len();
            page.bytes.resize(start + len, 0);
            store.encode_summary(id, SUMMARY_HOP_COUNT, false, &mut page.bytes[start..]);
            *cursor = ahead;
        }
        let (epoch, shard) = (peer.epoch, self.index);
        self.tell_control(ToControl::Page {
            dcs,
            epoch,
            shard,
            page,
        });
    }

    /// Summaries of the neighbour: what is absent or newer there goes onto the CRL (CA-16).
    pub(super) fn handle_summaries(&mut self, now: Now, dcs: DcsIndex, epoch: Epoch, bytes: &[u8]) {
        if !self.is_current(dcs, epoch) {
            return;
        }
        let mut rivals = Vec::new();
        let limited = self.memory_max < usize::MAX;
        let peer = &mut self.peers[dcs.index()];
        peer.moved_at = now.time;
        let at = peer.instance;
        let instance = &self.instances[at.index()];
        let blind = instance.blind && !peer.met;
        let mut keys = Summaries::over(bytes).keys();
        for (n, summary) in Summaries::over(bytes).enumerate() {
            if n % PASS_LEN == 0 {
                instance.look_ahead(&self.hasher, &mut keys);
            }
            let hash = self.hasher.hash(summary.key);
            if instance.is_news(now, hash, &summary) {
                peer.require(&summary, limited && !instance.is_known(hash, summary.key));
            } else if blind && summary.originator == self.setup.lsid.as_bytes() {
                rivals.extend(instance.rival(hash, &summary));
            }
        }
        for id in rivals {
            self.reoriginate(now, at, id);
        }
    }

    /// Entries whose summaries may not have reached the neighbour (CA-17).
    pub(super) fn handle_offer(&mut self, dcs: DcsIndex, epoch: Epoch, bytes: &[u8]) {
        if !self.is_current(dcs, epoch) {
            return;
        }
        let peer = &self.peers[dcs.index()];
        let hop_count = self.setup.instance_of(dcs).hop_count;
        let store = &mut self.instances[peer.instance.index()].store;
        for summary in Summaries::over(bytes) {
            let hash = self.hasher.hash(summary.key);
            if let Some(id) = store.find(hash, summary.key, summary.originator) {
                store.set_hop_count(id, hop_count); // D-06: as if it had been asked for.
                store.enqueue(id, peer.queue, false);
            }
        }
    }

    /// Update Cache is entered: CSU messages flow from here on (CSU-01).
    pub(super) fn handle_update(&mut self, now: Now, dcs: DcsIndex, epoch: Epoch) {
        if !self.is_current(dcs, epoch) {
            return;
        }
        let shard = self.index;
        let peer = &mut self.peers[dcs.index()];
        peer.gate = Gate::Open;
        peer.met = true;
        peer.opened_at = Some(now.time);
        peer.cursor = None;
        let wanting = !peer.requests.is_empty();
        peer.asked_turn = wanting;
        let early = std::mem::take(&mut peer.early);
        self.owe_purges(dcs); // CSU-19
        self.tell_control(ToControl::Compared {
            dcs,
            epoch,
            shard,
            wanting,
        });
        for (came, kind, bytes) in early {
            self.take_batch(now, dcs, kind, &bytes, now.time.since(came));
        }
    }

    /// The alignment went down.
    pub(super) fn handle_down(&mut self, now: Now, dcs: DcsIndex) {
        self.note_whole(now);
        let peer = &mut self.peers[dcs.index()];
        self.instances[peer.instance.index()]
            .store
            .clear_queue(peer.queue);
        peer.reset();
        self.purges_without(now, dcs); // CSU-19
    }
}

impl Instance {
    /// An own entry of this run with the very sequence that the neighbour remembers of an earlier
    /// one. Only a server that started without hearing of its earlier records can have given it
    /// out twice; its own state is the later one (D-12).
    fn rival(&self, hash: u64, summary: &Summary<'_>) -> Option<EntryId> {
        let id = self.store.find(hash, summary.key, summary.originator)?;
        let entry = self.store.entry(id);
        (entry.flags.own_run && entry.seq == summary.seq).then_some(id)
    }

    /// Whether `summary` speaks of something unknown or newer (CSU-03, CA-16).
    ///
    /// CSU-19: what another server's entry started again with is news while the purge is under
    /// way, or still to come here, or the neighbour would not offer it once what is held has gone.
    /// The purge itself is none when it is over.
    pub(super) fn is_news(&self, now: Now, hash: u64, summary: &Summary<'_>) -> bool {
        let found = self.store.find(hash, summary.key, summary.originator);
        let held = found.map(|id| self.store.seq(id));
        match (found, held) {
            (Some(id), Some(CsaSeq::PURGE)) => {
                self.purges.next_seq(id).is_none() && summary.seq != CsaSeq::PURGE
            }
            _ => {
                let newer = |seq| seq < summary.seq || is_of_before(summary.seq, seq);
                held.is_none_or(newer) && !self.purges.is_copy(now, summary, held)
            }
        }
    }
}
