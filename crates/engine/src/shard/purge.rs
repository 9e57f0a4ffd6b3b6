//! The end of the sequence space (RFC 2334 B.2.0.2, CSU-19).
//!
//! An entry that cannot count any further is purged with sequence 2^31-1 and starts again once
//! the neighbours have acknowledged that. Its originator keeps the state that waits as the entry's
//! body, so clients read it at once and its life runs on; only what goes out is the purge. Every
//! other server keeps the purge until its own neighbours have acknowledged it, and takes nothing
//! else for the entry meanwhile: a server forgets the old record only after all around it have
//! replaced it, so none that could come back is left behind the purge.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use scsp_cache::{EntryFlags, EntryId, Store, Update};
use scsp_profile::{Profile, Stamp};
use scsp_wire::{CsaSeq, Record, Summary};

use crate::message::Epoch;
use crate::setup::{DcsIndex, InstanceIndex};
use crate::{Now, Time};

use super::kv::stamp_of;
use super::originate::{Originate, Refusal};
use super::outcome::Outcome;
use super::peer::Gate;
use super::receive::{Arrival, Came};
use super::{Instance, Shard};

/// Purges remembered after they are over. Beyond, the oldest are forgotten early: a copy of one
/// then costs another purge, no more.
const REMEMBERED_MAX: usize = 1 << 16;
/// Octets of records held back until a purge is over. Beyond, the neighbour has to resend them.
const HELD_BACK_OCTETS_MAX: usize = 1 << 20;

/// Own entries, and as many that are gone, of which it is known how far they had counted since they
/// started again.
const COUNTED_MAX: usize = 1 << 16;

/// Purges of one instance that are under way, and those that were lately.
#[derive(Debug, Default)]
pub(super) struct Purges {
    open: BTreeMap<EntryId, Open>,
    held_back_octets: usize,
    remembered: Remembered,
    /// Own entries that a client's choice, or a record of before the last purge that came back,
    /// took from the lower half of the space to the upper, and the number each had before.
    counted: BTreeMap<EntryId, CsaSeq>,
    /// The same for own entries that are gone, by hash of their key.
    counted_gone: BTreeMap<u64, CsaSeq>,
    /// Own entries that started again in this run.
    restarted: BTreeSet<EntryId>,
}

/// A purge that a neighbour has not acknowledged yet.
#[derive(Debug, Default)]
struct Open {
    /// An own entry goes on afterwards.
    next: Option<Next>,
    held_back: Option<HeldBack>,
}

/// How an own entry goes on; its body is what waits.
#[derive(Debug)]
struct Next {
    seq: CsaSeq,
    /// Body of the purge: the old state in the protocol's form of a withdrawal.
    purge: Box<[u8]>,
}

/// A record that came before the purge was over, most likely what the entry starts again with.
#[derive(Debug)]
struct HeldBack {
    dcs: DcsIndex,
    epoch: Epoch,
    came: Time,
    seq: CsaSeq,
    solicited: bool,
    broadcast: bool,
    wire: Box<[u8]>,
}

impl Purges {
    /// Whether the entry is being purged.
    pub(super) fn is_open(&self, id: EntryId) -> bool {
        self.open.contains_key(&id)
    }

    /// Whether what waits for the purge of the entry is this server's.
    fn is_waiting(&self, id: EntryId) -> bool {
        self.next_seq(id).is_some()
    }

    /// Sequence with which the own entry goes on.
    pub(super) fn next_seq(&self, id: EntryId) -> Option<CsaSeq> {
        Some(self.open.get(&id)?.next.as_ref()?.seq)
    }

    /// What goes out in place of the own entry's body.
    pub(super) fn body(&self, id: EntryId) -> Option<&[u8]> {
        Some(&self.open.get(&id)?.next.as_ref()?.purge)
    }

    /// Octets of the entry's record as it goes out.
    pub(super) fn outgoing_len(&self, store: &Store, id: EntryId) -> usize {
        match self.body(id) {
            Some(purge) => store.entry(id).summary_len() + purge.len(),
            None => store.wire_len(id),
        }
    }

    /// The entry is gone.
    pub(super) fn close(&mut self, hash: u64, id: EntryId) {
        self.take(id);
        self.restarted.remove(&id);
        if let Some(counted) = self.counted.remove(&id) {
            self.note_gone(hash, counted);
        }
    }

    /// An own entry with this sequence is about to go.
    pub(super) fn note_gone(&mut self, hash: u64, seq: CsaSeq) {
        if is_lower_half(seq) && self.counted_gone.len() < COUNTED_MAX {
            let counted = self.counted_gone.entry(hash).or_insert(seq);
            *counted = seq.max(*counted);
        }
    }

    /// Whether a record of an own entry that came is of before the entry started again, which left
    /// it with `held`. The numbers above it may be used, too.
    pub(super) fn is_outdated(&self, id: EntryId, held: CsaSeq, came: CsaSeq) -> bool {
        let known = self.restarted.contains(&id) || came.get() >= END_BEGINS;
        known && is_of_before(held, came)
    }

    /// How far the own entry of this key had counted since it started again, and went.
    pub(super) fn counted_gone(&self, hash: u64) -> Option<CsaSeq> {
        self.counted_gone.get(&hash).copied()
    }

    /// An own entry gets another sequence; `None`: it comes anew.
    pub(super) fn renumbered(&mut self, hash: u64, id: EntryId, from: Option<CsaSeq>, to: CsaSeq) {
        if is_lower_half(to) {
            return;
        }
        let from = from.or_else(|| self.counted_gone.remove(&hash));
        if let Some(from) = from.filter(|from| is_lower_half(*from))
            && self.counted.len() < COUNTED_MAX
        {
            self.counted.insert(id, from);
        }
    }

    /// With what an own entry starts again: the first number, unless that was used a short time
    /// ago. A server that did not hear of the purge, or took it for a copy of the last one, would
    /// take the new record for the old one.
    fn restart(&mut self, id: EntryId) -> CsaSeq {
        let used = self.counted.remove(&id);
        used.and_then(CsaSeq::next).unwrap_or(CsaSeq::FIRST)
    }

    fn take(&mut self, id: EntryId) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.held_back_octets -= open.held_back.as_ref().map_or(0, |it| it.wire.len());
        Some(open)
    }

    /// Keeps the newest record; whether one at least as new is kept.
    fn hold_back(&mut self, id: EntryId, record: HeldBack) -> bool {
        let Some(open) = self.open.get_mut(&id) else {
            return false;
        };
        let before = open.held_back.as_ref().map_or(0, |it| it.wire.len());
        let octets = self.held_back_octets - before + record.wire.len();
        let rank = |it: &HeldBack| (it.seq, it.solicited);
        let kept = open.held_back.as_ref();
        if kept.is_some_and(|it| rank(it) >= rank(&record)) {
            return true;
        }
        if octets > HELD_BACK_OCTETS_MAX {
            return false;
        }
        open.held_back = Some(record);
        self.held_back_octets = octets;
        true
    }

    /// Whether a purge of (key, originator), of which `held` is held, is a copy of one that is
    /// over. In the upper half of the space it is a new one: what it may end came after it, since
    /// nothing counts that far in the time for which purges are remembered.
    pub(super) fn is_copy(&self, now: Now, summary: &Summary<'_>, held: Option<CsaSeq>) -> bool {
        summary.seq == CsaSeq::PURGE
            && held.is_none_or(is_lower_half)
            && self
                .remembered
                .knows(now.time, summary.key, summary.originator)
    }
}

/// From here on an own record that came counts as one of before a purge, also where this run knows
/// of none.
const END_BEGINS: i32 = 1 << 30;

/// Whether `came` is further ahead of `held` than an entry gets by counting: a purge lies between
/// them, and `held` is the later one.
pub(super) fn is_of_before(held: CsaSeq, came: CsaSeq) -> bool {
    i64::from(came.get()) - i64::from(held.get()) > i64::from(i32::MAX)
}

/// Whether an entry may have counted this far since it started again.
fn is_lower_half(seq: CsaSeq) -> bool {
    seq.get() < 0
}

/// Names of entries whose purge was over a short time ago.
#[derive(Debug, Default)]
struct Remembered {
    until: BTreeMap<Arc<[u8]>, Time>,
    order: VecDeque<(Time, Arc<[u8]>)>,
}

impl Remembered {
    fn names(key: &[u8], originator: &[u8]) -> Vec<u8> {
        let key_len = u8::try_from(key.len()).expect("a key has at most 255 octets");
        [&[key_len], key, originator].concat()
    }

    fn knows(&self, now: Time, key: &[u8], originator: &[u8]) -> bool {
        let names = Self::names(key, originator);
        self.until.get(&names[..]).is_some_and(|until| now < *until)
    }

    fn note(&mut self, now: Time, until: Time, key: &[u8], originator: &[u8]) {
        let names: Arc<[u8]> = Self::names(key, originator).into();
        self.until.insert(Arc::clone(&names), until);
        self.order.push_back((until, names));
        while let Some((until, names)) = self.order.front() {
            if now < *until && self.order.len() <= REMEMBERED_MAX {
                break;
            }
            if self.until.get(names) == Some(until) {
                self.until.remove(names);
            }
            self.order.pop_front();
        }
    }
}

/// Purging.
impl Shard {
    /// An own change that the sequence numbers no longer reach: it waits for the purge (CSU-19).
    pub(super) fn originate_after_purge(
        &mut self,
        now: Now,
        at: InstanceIndex,
        hash: u64,
        what: &Originate<'_>,
        found: Option<EntryId>,
    ) -> Result<CsaSeq, Refusal> {
        let profile = self.setup.instances[at.index()].profile;
        let instance = &self.instances[at.index()];
        let purge = match found {
            Some(id) => instance.purge_body(profile, id),
            // Nobody here knows what it said: the purge takes nothing else of the key along.
            None => withdrawn(profile, what.body, Stamp::ZERO),
        };
        let id = self.store_own(now, at, hash, what, CsaSeq::PURGE, found)?;
        self.instances[at.index()].counters.originated += 1;
        Ok(self.purge_own(now, at, id, purge, what.seq, None))
    }

    /// The own state goes on behind a purge, since a record of this server came back that leaves
    /// no sequence above it (D-12, CSU-19).
    pub(super) fn reoriginate_after_purge(
        &mut self,
        now: Now,
        at: InstanceIndex,
        id: EntryId,
        from: Option<DcsIndex>,
    ) {
        let setup = &self.setup.instances[at.index()];
        let instance = &mut self.instances[at.index()];
        let purge = instance.purge_body(setup.profile, id);
        instance.renumber(now, id, CsaSeq::PURGE, setup.hop_count);
        instance.reoriginations.done(now.time, id);
        instance.counters.reoriginated += 1;
        self.purge_own(now, at, id, purge, None, from);
    }

    /// Floods the purge of an own entry, whose body is what is to follow it, and returns the
    /// sequence of that.
    pub(super) fn purge_own(
        &mut self,
        now: Now,
        at: InstanceIndex,
        id: EntryId,
        purge: Vec<u8>,
        chosen: Option<CsaSeq>,
        from: Option<DcsIndex>,
    ) -> CsaSeq {
        let purges = &mut self.instances[at.index()].purges;
        let under_way = purges.is_open(id);
        let restart = purges.restart(id);
        let next = purges
            .open
            .entry(id)
            .or_default()
            .next
            .get_or_insert_with(|| Next {
                seq: restart,
                purge: purge.into(),
            });
        next.seq = chosen.unwrap_or(next.seq);
        let seq = next.seq;
        if !under_way {
            self.flood(at, id, from, true);
        }
        self.purge_acknowledged(now, at, id);
        seq
    }

    /// A purge of another server's entry is stored and flooded.
    pub(super) fn purge_taken(&mut self, now: Now, at: InstanceIndex, id: EntryId) {
        let purges = &mut self.instances[at.index()].purges;
        purges.open.entry(id).or_default();
        self.purge_acknowledged(now, at, id);
    }

    /// A record of an entry that is being purged came: it is neither taken in nor acknowledged. The
    /// one that the entry starts again with is looked at as soon as the purge is over, which the
    /// neighbour's resends would do as well, a second later; one of before must not come back.
    pub(super) fn refuse_while_purged(
        &mut self,
        now: Now,
        arrival: &Arrival<'_>,
        id: EntryId,
    ) -> Outcome {
        let &Arrival {
            dcs,
            record,
            solicited,
            broadcast,
            ..
        } = arrival;
        let peer = &self.peers[dcs.index()];
        let purges = &mut self.instances[peer.instance.index()].purges;
        let seq = record.summary.seq;
        if purges.is_waiting(id) {
            return Outcome::Purging;
        }
        let held_back = HeldBack {
            dcs,
            epoch: peer.epoch,
            came: now.time,
            seq,
            solicited,
            broadcast,
            wire: record.wire.into(),
        };
        let is_held_back = is_lower_half(seq) && purges.hold_back(id, held_back);
        if solicited && !is_held_back {
            self.want(dcs, arrival.hash, &record.summary); // or it would not travel on (D-06)
        }
        Outcome::Purging
    }

    /// A neighbour in Update Cache owes an acknowledgement for every purge that is under way, also
    /// if it was not there when the purge began.
    pub(super) fn owe_purges(&mut self, dcs: DcsIndex) {
        let peer = &self.peers[dcs.index()];
        let Instance { store, purges, .. } = &mut self.instances[peer.instance.index()];
        for &id in purges.open.keys() {
            if !store.is_queued(id, peer.queue) {
                store.enqueue(id, peer.queue, false);
            }
        }
    }

    /// A neighbour left Update Cache and Aligned: no purge waits for it any more.
    pub(super) fn purges_without(&mut self, now: Now, dcs: DcsIndex) {
        let at = self.peers[dcs.index()].instance;
        let open: Vec<EntryId> = self.instances[at.index()]
            .purges
            .open
            .keys()
            .copied()
            .collect();
        for id in open {
            self.purge_acknowledged(now, at, id);
        }
    }

    /// Ends the purge of an entry, if it is being purged and no neighbour in Update Cache or
    /// Aligned owes its acknowledgement.
    pub(super) fn purge_acknowledged(&mut self, now: Now, at: InstanceIndex, id: EntryId) {
        let instance = &self.instances[at.index()];
        if !instance.purges.is_open(id) {
            return;
        }
        let mut peers = self
            .peers
            .iter()
            .filter(|peer| peer.instance == at && peer.gate == Gate::Open);
        if !peers.any(|peer| instance.store.is_queued(id, peer.queue)) {
            self.end_purge(now, at, id);
        }
    }

    /// All have acknowledged: an own entry starts again, any other is forgotten at once.
    fn end_purge(&mut self, now: Now, at: InstanceIndex, id: EntryId) {
        let setup = &self.setup.instances[at.index()];
        let wait = setup.csu_retransmit * setup.csu_retransmit_max.saturating_add(1);
        let until = now.time.saturating_add(wait);
        let instance = &mut self.instances[at.index()];
        let Some(open) = instance.purges.take(id) else {
            return;
        };
        let entry = instance.store.entry(id);
        let (hash, key) = (self.hasher.hash(entry.key), entry.key.to_vec());
        let stamp = stamp_of(open.next.as_ref().map_or(entry.body, |next| &next.purge));
        instance
            .purges
            .remembered
            .note(now.time, until, entry.key, entry.originator);
        let lsid = self.setup.lsid;
        let before = instance.counts(setup.profile, hash, &key);
        if setup.profile == Profile::Kv {
            // K-04. A record of before that came back may be on its way to its originator, which
            // has to hear of it: it replaced one that no server would offer here again.
            let kept = Some(now.time.saturating_add(setup.csu_retransmit));
            instance.forget_smaller(hash, id, stamp, lsid.as_bytes(), kept);
        }
        let goes_on = open.next.is_some();
        match open.next {
            Some(next) => {
                instance.renumber(now, id, next.seq, setup.hop_count);
                if instance.purges.restarted.len() < COUNTED_MAX {
                    instance.purges.restarted.insert(id);
                }
            }
            None => {
                if instance.store.entry(id).originator == lsid.as_bytes() {
                    // All of before is used up, and perhaps some of what an earlier run counted.
                    let counted = CsaSeq::FIRST.checked_add(setup.restart_increment);
                    let counted = counted.unwrap_or(CsaSeq::FIRST);
                    instance.purges.note_gone(hash, counted);
                }
                instance.forget(hash, id, lsid.as_bytes());
            }
        }
        instance.recount(before, setup.profile, hash, &key);
        if goes_on {
            self.flood(at, id, None, true);
        }
        if let Some(record) = open.held_back {
            self.take_held_back(now, &record);
        }
    }

    fn take_held_back(&mut self, now: Now, held_back: &HeldBack) {
        let &HeldBack {
            dcs,
            epoch,
            came,
            solicited,
            broadcast,
            ..
        } = held_back;
        if !self.is_current(dcs, epoch) || self.peers[dcs.index()].gate != Gate::Open {
            return;
        }
        if let Ok((record, _)) = Record::split_first(&held_back.wire) {
            let hash = self.hasher.hash(record.summary.key);
            let waited = now.time.since(came);
            let came = Came {
                solicited,
                broadcast,
                waited,
            };
            self.judge(now, dcs, hash, &record, came);
        }
    }
}

impl Instance {
    /// The own entry's state in the form in which it is purged.
    fn purge_body(&self, profile: Profile, id: EntryId) -> Vec<u8> {
        let entry = self.store.entry(id);
        if entry.seq == CsaSeq::PURGE {
            return entry.body.to_vec(); // as it came
        }
        withdrawn(profile, entry.body, stamp_of(entry.body))
    }

    /// Nothing follows the purge of an entry any more; whether there was room to say so.
    pub(super) fn drop_waiting(&mut self, id: EntryId) -> bool {
        let open = self.purges.open.get_mut(&id);
        let Some(next) = open.and_then(|open| open.next.take()) else {
            return true;
        };
        let entry = self.store.entry(id);
        self.purges.note_gone(self.store.hash(entry.key), next.seq);
        let update = Update {
            seq: CsaSeq::PURGE,
            hop_count: entry.hop_count,
            body: &next.purge,
            expires: None,
            changed: entry.changed,
            flags: EntryFlags {
                own_run: false,
                withdrawn: true,
            },
        };
        self.store.update(id, &update).is_ok()
    }

    /// Gives an own entry another sequence.
    fn renumber(&mut self, now: Now, id: EntryId, seq: CsaSeq, hop_count: u16) {
        let entry = self.store.entry(id);
        let (hash, body) = (self.store.hash(entry.key), entry.body.to_vec());
        self.purges.renumbered(hash, id, Some(entry.seq), seq);
        let update = Update {
            seq,
            hop_count,
            body: &body,
            expires: entry.expires,
            changed: now.time,
            flags: EntryFlags {
                own_run: true,
                ..entry.flags
            },
        };
        self.store
            .update(id, &update)
            .expect("a body of the same length replaces the old one");
    }
}

/// A body in the protocol's own form of a withdrawal.
fn withdrawn(profile: Profile, body: &[u8], stamp: Stamp) -> Vec<u8> {
    let mut body = body.to_vec();
    let len = profile.withdraw(&mut body, stamp);
    body.truncate(len);
    body
}
