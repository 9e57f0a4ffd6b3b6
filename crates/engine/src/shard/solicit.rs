//! Soliciting what the neighbour holds newer (RFC 2334 2.2.3): one CSUS outstanding at a time
//! (CA-19). `Control` grants one shard after the other the turn to solicit.

use hashbrown::HashTable;
use scsp_wire::Summary;

use crate::message::{Abnormal, Epoch, ToControl};
use crate::setup::DcsIndex;
use crate::{Now, Time};

use super::Shard;
use super::peer::Gate;

/// Records of one DCS that replies showed and that still wait to be asked for. Beyond, the reply
/// counts as lost.
const WANTED_MAX: usize = 1 << 14;

/// The outstanding CSUS of one DCS.
#[derive(Debug, Default)]
pub(super) struct Solicit {
    /// This shard may solicit.
    has_turn: bool,
    /// Summaries asked for, packed.
    page: Vec<u8>,
    /// Positions in `page` of those not answered yet.
    open: HashTable<u32>,
    /// The page is to be sent.
    pub(super) due: bool,
    pub(super) sent_at: Option<Time>,
    /// Resends since an answer came.
    resends: u32,
}

impl Solicit {
    pub(super) fn clear(&mut self) {
        self.has_turn = false;
        self.finish();
    }

    fn finish(&mut self) {
        self.page.clear();
        self.open.clear();
        self.due = false;
        self.sent_at = None;
        self.resends = 0;
    }

    /// Records asked for and not answered.
    pub(super) fn missing(&self) -> usize {
        self.open.len()
    }

    /// Octets of all summaries of the page.
    pub(super) fn page_len(&self) -> usize {
        self.page.len()
    }

    /// Summaries of the page whose records have not come.
    pub(super) fn open_summaries(&self) -> impl Iterator<Item = Summary<'_>> {
        let mut open: Vec<u32> = self.open.iter().copied().collect();
        open.sort_unstable();
        open.into_iter().filter_map(|at| summary_at(&self.page, at))
    }

    pub(super) fn sent(&mut self, now: Time) {
        self.due = false;
        self.sent_at = Some(now);
    }

    fn ask(&mut self, hash: u64, wire: &[u8], rehash: impl Fn(&[u8]) -> u64) {
        let at = u32::try_from(self.page.len()).expect("a page is smaller than a packet");
        self.page.extend_from_slice(wire);
        let page = &self.page;
        self.open.insert_unique(hash, at, |&at| {
            summary_at(page, at).map_or(0, |it| rehash(it.key))
        });
    }

    /// Whether the record, or a newer one, is asked for and has not come.
    fn asks(&self, hash: u64, summary: &Summary<'_>) -> bool {
        let asks = |asked: Summary<'_>| {
            (asked.key, asked.originator) == (summary.key, summary.originator)
                && asked.seq >= summary.seq
        };
        let found = |at: &u32| summary_at(&self.page, *at).is_some_and(asks);
        self.open.find(hash, found).is_some()
    }

    /// Whether the record answers what was asked for; it counts as answered then.
    pub(super) fn answer(&mut self, hash: u64, summary: &Summary<'_>) -> bool {
        if self.open.is_empty() {
            return false;
        }
        let page = &self.page;
        let answers = |asked: Summary<'_>| {
            asked.key == summary.key
                && asked.originator == summary.originator
                && (summary.null || summary.seq >= asked.seq) // CA-20
        };
        // The neighbour may have summarized it twice.
        let mut answered = false;
        while let Ok(entry) = self
            .open
            .find_entry(hash, |&at| summary_at(page, at).is_some_and(answers))
        {
            entry.remove();
            self.resends = 0;
            answered = true;
        }
        answered
    }
}

fn summary_at(page: &[u8], at: u32) -> Option<Summary<'_>> {
    let rest = page.get(usize::try_from(at).ok()?..)?;
    Summary::split_first(rest).ok().map(|(summary, _)| summary)
}

impl Shard {
    /// This shard's turn to solicit from `dcs`.
    pub(super) fn handle_turn(&mut self, now: Now, dcs: DcsIndex, epoch: Epoch) {
        if !self.is_current(dcs, epoch) {
            return;
        }
        self.peers[dcs.index()].solicit.has_turn = true;
        self.solicit_more(now, dcs);
    }

    /// All that was asked for, or was about to be, has come: ask for more, or end the turn (CA-19).
    pub(super) fn solicit_if_answered(&mut self, now: Now, dcs: DcsIndex) {
        let solicit = &self.peers[dcs.index()].solicit;
        if solicit.has_turn && !solicit.page.is_empty() && solicit.missing() == 0 {
            self.solicit_more(now, dcs);
        }
    }

    /// Fills the page with what is missing of the last one and with more of the CRL, as far as a
    /// packet holds; what came meanwhile by other ways is not asked for.
    fn solicit_more(&mut self, now: Now, dcs: DcsIndex) {
        let (epoch, shard) = (self.peers[dcs.index()].epoch, self.index);
        let peer = &mut self.peers[dcs.index()];
        let instance = &self.instances[peer.instance.index()];
        let hasher = self.hasher;
        let old = std::mem::take(&mut peer.solicit.page);
        let mut missing: Vec<u32> = peer.solicit.open.drain().collect();
        missing.sort_unstable();
        let resends = peer.solicit.resends;
        peer.solicit.finish();
        peer.solicit.resends = resends;
        for summary in missing.into_iter().filter_map(|at| summary_at(&old, at)) {
            let hash = hasher.hash(summary.key);
            if instance.is_news(now, hash, &summary) {
                peer.solicit.ask(hash, summary.wire, |key| hasher.hash(key));
            }
        }
        while let Some(summary) = peer.requests.front() {
            let len = summary.wire.len();
            if !peer.solicit.page.is_empty() && peer.solicit.page.len() + len > peer.page_octets {
                break;
            }
            let hash = hasher.hash(summary.key);
            if instance.is_news(now, hash, &summary) {
                peer.solicit.ask(hash, summary.wire, |key| hasher.hash(key));
            }
            if !peer.wanted.is_empty() {
                let names = (hash, hasher.hash(summary.originator));
                peer.wanted.remove(&names);
            }
            peer.requests.pop();
        }
        if peer.solicit.page.is_empty() {
            peer.solicit.clear();
            peer.asked_turn = false;
            peer.first_turn_over = true;
            self.tell_control(ToControl::TurnOver { dcs, epoch, shard });
        } else {
            peer.solicit.due = true;
        }
    }

    /// `CSUSReXmtInterval` passed with records missing (CA-19, D-13).
    pub(super) fn solicit_overdue(&mut self, now: Now, dcs: DcsIndex) {
        let instance = self.setup.instance_of(dcs);
        let (interval, max) = (instance.csus_retransmit, instance.csus_retransmit_max);
        let solicit = &mut self.peers[dcs.index()].solicit;
        if solicit
            .sent_at
            .is_none_or(|at| now.time < at.saturating_add(interval))
        {
            return;
        }
        solicit.sent_at = None;
        solicit.resends += 1;
        if solicit.resends > max {
            solicit.clear();
            let epoch = self.peers[dcs.index()].epoch;
            self.tell_control(ToControl::Abnormal {
                dcs,
                epoch,
                cause: Abnormal::CsusRetransmit,
                count: 1,
            });
        } else {
            self.solicit_more(now, dcs);
        }
    }

    /// A reply showed a newer record at `dcs` than the one sent (CSU-08): it is solicited as in
    /// Update Cache, once, however many replies show it. Whether it is going to be.
    pub(super) fn want(&mut self, dcs: DcsIndex, hash: u64, summary: &Summary<'_>) -> bool {
        let shard = self.index;
        let names = (hash, self.hasher.hash(summary.originator));
        let peer = &mut self.peers[dcs.index()];
        if peer.gate != Gate::Open {
            return false;
        }
        if peer.wanted.contains(&names) || peer.solicit.asks(hash, summary) {
            return true;
        }
        if peer.wanted.len() >= WANTED_MAX {
            return false;
        }
        peer.wanted.insert(names);
        peer.require(summary, false);
        if !peer.asked_turn {
            peer.asked_turn = true;
            let epoch = peer.epoch;
            self.tell_control(ToControl::Wanting { dcs, epoch, shard });
        }
        true
    }
}
