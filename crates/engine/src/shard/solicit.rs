//! Soliciting what the neighbour holds newer (RFC 2334 2.2.3): one CSUS outstanding at a time
//! (CA-19). `Control` grants one shard after the other the turn to solicit.
//!
//! Where the neighbour agreed to more, several shards have a turn at a time, and each may ask for
//! as much at once as several CSUS messages hold: more is asked for when half of that has come.

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

/// The outstanding CSUS of one DCS, or several of them.
#[derive(Debug, Default)]
pub(super) struct Solicit {
    /// This shard may solicit.
    has_turn: bool,
    /// Octets of summaries in a CSUS.
    packet_octets: usize,
    /// As much may be asked for at once as so many of them hold.
    packets: usize,
    /// Summaries asked for, packed.
    page: Vec<u8>,
    /// Positions in `page` of those not answered yet.
    open: HashTable<u32>,
    /// Octets of those.
    open_octets: usize,
    /// Position in `page` of those that were not sent yet.
    unsent: usize,
    /// Summaries of the next CSUS, kept for its allocation.
    packet: Vec<u8>,
    sent_at: Option<Time>,
    /// Resends since an answer came.
    resends: u32,
}

/// CSUS messages as they will be filled.
#[derive(Clone, Copy, Debug)]
struct Packing {
    octets: usize,
    /// Messages not begun yet.
    packets: usize,
    /// Octets left in the last one that was.
    room: usize,
}

impl Packing {
    /// Takes a summary in, if there is room; one that is too large has a message of its own (D-14).
    fn takes(&mut self, len: usize) -> bool {
        if len <= self.room {
            self.room -= len;
            return true;
        }
        let Some(packets) = self.packets.checked_sub(1) else {
            return false;
        };
        self.packets = packets;
        self.room = self.octets.saturating_sub(len);
        true
    }

    /// Leaves out what holds so many octets.
    fn reserve(&mut self, octets: usize) {
        let taken = octets.div_ceil(self.octets.max(1));
        self.packets = self.packets.saturating_sub(taken);
    }
}

impl Solicit {
    pub(super) fn clear(&mut self) {
        self.has_turn = false;
        self.finish();
    }

    fn finish(&mut self) {
        self.page.clear();
        self.open.clear();
        self.open_octets = 0;
        self.unsent = 0;
        self.sent_at = None;
        self.resends = 0;
    }

    /// Records asked for and not answered.
    pub(super) fn missing(&self) -> usize {
        self.open.len()
    }

    /// A CSUS is to be sent.
    pub(super) fn is_due(&self) -> bool {
        self.unsent < self.page.len()
    }

    /// When the last CSUS went out, while all are outstanding.
    pub(super) fn sent_at(&self) -> Option<Time> {
        self.sent_at
    }

    /// Gathers the summaries of the next CSUS: those whose records have come by themselves are left
    /// out. Whether any are left.
    pub(super) fn prepare(&mut self, now: Time, hash: impl Fn(&[u8]) -> u64) -> bool {
        self.packet.clear();
        while let Some(summary) = summary_at(&self.page, self.unsent) {
            let len = summary.wire.len();
            if !self.packet.is_empty() && self.packet.len() + len > self.packet_octets {
                break;
            }
            let is_this = |at: &u32| usize::try_from(*at) == Ok(self.unsent);
            if self.open.find(hash(summary.key), is_this).is_some() {
                self.packet.extend_from_slice(summary.wire);
            }
            self.unsent += len;
        }
        if self.packet.is_empty() {
            return false;
        }
        self.sent_at = Some(now);
        true
    }

    /// The summaries gathered.
    pub(super) fn packet(&self) -> &[u8] {
        &self.packet
    }

    /// Whether more is to be asked for: all that was has come, or enough of it.
    fn is_low(&self) -> bool {
        let spare = self.packets > 1 && !self.is_due();
        self.missing() == 0 || spare && self.open_octets <= self.packet_octets * self.packets / 2
    }

    fn packing(&self) -> Packing {
        Packing {
            octets: self.packet_octets,
            packets: self.packets,
            room: 0,
        }
    }

    fn ask(&mut self, hash: u64, wire: &[u8], rehash: impl Fn(&[u8]) -> u64) {
        let at = u32::try_from(self.page.len()).expect("a page is a few packets");
        self.page.extend_from_slice(wire);
        self.open_octets += wire.len();
        let page = &self.page;
        self.open.insert_unique(hash, at, |&at| {
            summary_of(page, at).map_or(0, |it| rehash(it.key))
        });
    }

    /// Whether the record, or a newer one, is asked for and has not come.
    fn asks(&self, hash: u64, summary: &Summary<'_>) -> bool {
        let asks = |asked: Summary<'_>| {
            (asked.key, asked.originator) == (summary.key, summary.originator)
                && asked.seq >= summary.seq
        };
        let found = |at: &u32| summary_of(&self.page, *at).is_some_and(asks);
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
            .find_entry(hash, |&at| summary_of(page, at).is_some_and(answers))
        {
            let (at, _) = entry.remove();
            self.open_octets -= summary_of(page, at).map_or(0, |it| it.wire.len());
            self.resends = 0;
            answered = true;
        }
        answered
    }
}

fn summary_of(page: &[u8], at: u32) -> Option<Summary<'_>> {
    summary_at(page, usize::try_from(at).ok()?)
}

fn summary_at(page: &[u8], at: usize) -> Option<Summary<'_>> {
    let (summary, _) = Summary::split_first(page.get(at..)?).ok()?;
    Some(summary)
}

impl Shard {
    /// This shard's turn to solicit from `dcs`.
    pub(super) fn handle_turn(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        epoch: Epoch,
        octets: usize,
        packets: u16,
    ) {
        if !self.is_current(dcs, epoch) {
            return;
        }
        let solicit = &mut self.peers[dcs.index()].solicit;
        solicit.has_turn = true;
        solicit.packet_octets = octets;
        solicit.packets = packets.into();
        self.solicit_more(now, dcs, true);
    }

    /// What was asked for, or was about to be, has come: ask for more, or end the turn (CA-19).
    pub(super) fn solicit_if_answered(&mut self, now: Now, dcs: DcsIndex) {
        let peer = &self.peers[dcs.index()];
        let solicit = &peer.solicit;
        let is_over = solicit.missing() == 0;
        if solicit.has_turn
            && !solicit.page.is_empty()
            && solicit.is_low()
            && (is_over || !peer.requests.is_empty())
        {
            self.solicit_more(now, dcs, false);
        }
    }

    /// Fills the page with what is missing of the last one and with more of the CRL, as far as the
    /// window holds; what came meanwhile by other ways is not asked for. What is missing is asked
    /// for `again`, or stays asked for.
    fn solicit_more(&mut self, now: Now, dcs: DcsIndex, again: bool) {
        let (epoch, shard) = (self.peers[dcs.index()].epoch, self.index);
        let peer = &mut self.peers[dcs.index()];
        let instance = &self.instances[peer.instance.index()];
        let hasher = self.hasher;
        let old = std::mem::take(&mut peer.solicit.page);
        let mut missing: Vec<u32> = peer.solicit.open.drain().collect();
        missing.sort_unstable();
        let (resends, sent_at) = (peer.solicit.resends, peer.solicit.sent_at);
        let outstanding = peer.solicit.open_octets;
        peer.solicit.finish();
        peer.solicit.resends = resends;
        let mut packing = peer.solicit.packing();
        for summary in missing.into_iter().filter_map(|at| summary_of(&old, at)) {
            let hash = hasher.hash(summary.key);
            if !again || instance.is_news(now, hash, &summary) {
                peer.solicit.ask(hash, summary.wire, |key| hasher.hash(key));
                packing.takes(summary.wire.len());
            }
        }
        if !again && !peer.solicit.page.is_empty() {
            peer.solicit.unsent = peer.solicit.page.len();
            peer.solicit.sent_at = sent_at;
            packing = peer.solicit.packing();
            packing.reserve(outstanding);
        }
        while let Some(summary) = peer.requests.front() {
            let hash = hasher.hash(summary.key);
            if instance.is_news(now, hash, &summary) {
                if !packing.takes(summary.wire.len()) {
                    break;
                }
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
        }
    }

    /// `CSUSReXmtInterval` passed with records missing (CA-19, D-13).
    pub(super) fn solicit_overdue(&mut self, now: Now, dcs: DcsIndex) {
        let instance = self.setup.instance_of(dcs);
        let (interval, max) = (instance.csus_retransmit, instance.csus_retransmit_max);
        let solicit = &mut self.peers[dcs.index()].solicit;
        if solicit
            .sent_at()
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
            self.solicit_more(now, dcs, true);
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
