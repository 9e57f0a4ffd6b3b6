//! Own records that come back newer than what is held, or unknown (D-12).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use scsp_cache::{EntryFlags, EntryId, Update};
use scsp_profile::Facts;
use scsp_wire::CsaSeq;

use crate::message::ToControl;
use crate::setup::InstanceIndex;
use crate::snapshot::Memory;
use crate::{Now, Time};

use super::originate::Originate;
use super::outcome::Outcome;
use super::purge::is_of_before;
use super::receive::Arrival;
use super::{Instance, Shard};

/// An entry is originated again at most once in this time (D-12).
const GAP: Duration = Duration::from_secs(1);
/// So many entries are remembered before those of more than [`GAP`] ago are forgotten.
const KEPT_MIN: usize = 1024;

/// Which own entries were originated again within the last second, and which are to be again.
#[derive(Debug, Default)]
pub(super) struct Reoriginations {
    entries: BTreeMap<EntryId, Last>,
    due: BinaryHeap<Reverse<(Time, EntryId)>>,
    /// Entries left by the last look at all of them.
    kept: usize,
}

#[derive(Debug)]
struct Last {
    at: Time,
    /// Something came since, so the own state has to go out once more.
    pending: bool,
}

/// Whether an entry may be originated again.
enum Turn {
    Now,
    /// Not before the second is over; it will be then.
    Later {
        /// Something came within this second for the first time.
        first: bool,
    },
}

impl Reoriginations {
    /// When [`pop_due`](Self::pop_due) is to be called.
    pub(super) fn next_due(&self) -> Option<Time> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// The entry is gone, and its number may be given to another one.
    pub(super) fn forget(&mut self, id: EntryId) {
        self.entries.remove(&id);
    }

    /// The own state went out in a newer record anyway.
    pub(super) fn settle(&mut self, id: EntryId) {
        if let Some(last) = self.entries.get_mut(&id) {
            last.pending = false;
        }
    }

    fn ask(&mut self, now: Time, id: EntryId) -> Turn {
        let Some(last) = self.entries.get_mut(&id) else {
            return Turn::Now;
        };
        let due = last.at.saturating_add(GAP);
        if now >= due {
            return Turn::Now;
        }
        let first = !std::mem::replace(&mut last.pending, true);
        if first {
            self.due.push(Reverse((due, id)));
        }
        Turn::Later { first }
    }

    pub(super) fn done(&mut self, now: Time, id: EntryId) {
        self.entries.insert(
            id,
            Last {
                at: now,
                pending: false,
            },
        );
        if self.entries.len() > KEPT_MIN.max(2 * self.kept) {
            self.entries
                .retain(|_, last| last.pending || now < last.at.saturating_add(GAP));
            self.kept = self.entries.len();
        }
    }

    /// An entry whose second is over. The number may have gone to another entry since; that one is
    /// returned only if something came for it as well.
    fn pop_due(&mut self, now: Time) -> Option<EntryId> {
        while self.next_due().is_some_and(|due| due <= now) {
            let Some(Reverse((_, id))) = self.due.pop() else {
                break;
            };
            let over = |last: &Last| last.pending && now >= last.at.saturating_add(GAP);
            if self.entries.get(&id).is_some_and(over) {
                return Some(id);
            }
        }
        None
    }
}

impl Shard {
    /// An own record came back newer than what is held, or unknown (D-12).
    pub(super) fn take_own(&mut self, now: Now, arrival: &Arrival<'_>) -> Outcome {
        let at = self.peers[arrival.dcs.index()].instance;
        let Some(id) = arrival.found else {
            return self.take_unknown_own(now, arrival);
        };
        let profile = self.setup.instances[at.index()].profile;
        let instance = &mut self.instances[at.index()];
        let entry = instance.store.entry(id);
        if arrival.record.summary.seq == CsaSeq::PURGE {
            // It ends the numbers of the entry, not what the entry says (CSU-19).
            self.acknowledge(arrival.dcs, &arrival.record.summary);
            self.reoriginate_after_purge(now, at, id, Some(arrival.dcs));
            return Outcome::Newer;
        }
        let before = entry.seq;
        let came = arrival.record.summary.seq;
        let of_before = instance.purges.is_outdated(id, before, came); // CSU-19
        if !entry.flags.own_run && !of_before && !instance.kept_whole(profile, arrival.facts) {
            // What is held was taken back from a neighbour as well, or kept by an earlier run that
            // went on after that: the newer one counts, unless it was forgotten here.
            return self.take_unknown_own(now, arrival);
        }
        // The own state with the sequence received: what the neighbours hold is no longer newer.
        let (body, expires, flags) = (entry.body.to_vec(), entry.expires, entry.flags);
        let update = Update {
            seq: if of_before {
                CsaSeq::LAST
            } else {
                arrival.record.summary.seq
            },
            hop_count: self.setup.instances[at.index()].hop_count,
            body: &body,
            expires,
            changed: now.time,
            flags,
        };
        if instance.store.update(id, &update).is_err() {
            return Outcome::Rejected;
        }
        instance
            .purges
            .renumbered(arrival.hash, id, Some(before), update.seq);
        let turn = instance.reoriginations.ask(now.time, id);
        self.acknowledge(arrival.dcs, &arrival.record.summary);
        match turn {
            Turn::Now => self.reoriginate(now, at, id),
            Turn::Later { first } => {
                // Not flooded, not even by what was queued before.
                let store = &mut self.instances[at.index()].store;
                let pending: Vec<_> = store.pending_peers(id).collect();
                for queue in pending {
                    store.acknowledge(id, queue);
                }
                if first {
                    self.tell_control(ToControl::OwnRepeated { dcs: arrival.dcs });
                }
            }
        }
        Outcome::Newer
    }

    /// An own record that this server does not hold, or only as something taken back: where its
    /// memory is whole it was withdrawn or has expired, and is withdrawn again; else it is taken
    /// back (D-12).
    fn take_unknown_own(&mut self, now: Now, arrival: &Arrival<'_>) -> Outcome {
        let &Arrival {
            dcs,
            hash,
            record,
            facts,
            found,
            ..
        } = arrival;
        let at = self.peers[dcs.index()].instance;
        let profile = self.setup.instances[at.index()].profile;
        let instance = &self.instances[at.index()];
        // One that is withdrawn already is taken in as it is.
        let is_ours = instance.remembers(profile, facts) && !facts.withdrawn;
        let of_before = instance
            .purges
            .counted_gone(hash)
            .is_some_and(|gone| is_of_before(gone, record.summary.seq)); // CSU-19
        let floor = instance.floors.above(hash);
        if !is_ours {
            return self.take_back(now, arrival);
        }
        let above = floor.max(Some(record.summary.seq));
        let seq = above.and_then(CsaSeq::next).filter(|_| !of_before);
        // The stamp of what is withdrawn, so that later writes of others stay.
        let mut body = record.body.to_vec();
        let len = profile.withdraw(&mut body, facts.stamp);
        body.truncate(len);
        let facts = Facts {
            withdrawn: true,
            life: None,
            stamp: facts.stamp,
        };
        let what = Originate {
            key: record.summary.key,
            body: &body,
            facts,
            seq: None,
        };
        let seq_now = seq.unwrap_or(CsaSeq::PURGE);
        let Ok(id) = self.store_own(now, at, hash, &what, seq_now, found) else {
            return Outcome::Rejected;
        };
        self.acknowledge(dcs, &record.summary);
        let instance = &mut self.instances[at.index()];
        instance.reoriginations.done(now.time, id);
        instance.counters.reoriginated += 1;
        if seq.is_some() {
            self.flood(at, id, None, true);
        } else {
            self.purge_own(now, at, id, body, None, None); // CSU-19
        }
        Outcome::Newer
    }

    /// A neighbour remembers what this server does not: it becomes own again, and travels as far
    /// as other own records.
    fn take_back(&mut self, now: Now, arrival: &Arrival<'_>) -> Outcome {
        let at = self.peers[arrival.dcs.index()].instance;
        let instance = &mut self.instances[at.index()];
        if instance.memory == Memory::Never {
            // It did run before, where no mark was left of it.
            instance.memory = Memory::Partial;
        }
        let store = &instance.store;
        let before = arrival.found.map(|id| store.entry(id).seq);
        let outcome = self.take_newer(
            now,
            &Arrival {
                solicited: true,
                ..*arrival
            },
        );
        let summary = &arrival.record.summary;
        let Instance { store, purges, .. } = &mut self.instances[at.index()];
        if let Some(id) = store.find(arrival.hash, summary.key, summary.originator) {
            purges.renumbered(arrival.hash, id, before, store.entry(id).seq);
        }
        outcome
    }

    /// Sends the own state with the next sequence.
    pub(super) fn reoriginate(&mut self, now: Now, at: InstanceIndex, id: EntryId) {
        let instance = &mut self.instances[at.index()];
        let entry = instance.store.entry(id);
        if instance.purges.is_open(id) {
            return; // It goes on as soon as its purge is over.
        }
        let Some(seq) = entry.seq.next() else {
            return self.reoriginate_after_purge(now, at, id, None);
        };
        let (body, expires) = (entry.body.to_vec(), entry.expires);
        let flags = EntryFlags {
            own_run: true,
            ..entry.flags
        };
        let hop_count = self.setup.instances[at.index()].hop_count;
        let update = Update {
            seq,
            hop_count,
            body: &body,
            expires,
            changed: now.time,
            flags,
        };
        if instance.store.update(id, &update).is_ok() {
            instance.reoriginations.done(now.time, id);
            instance.counters.reoriginated += 1;
            self.flood(at, id, None, true);
        }
    }

    /// Sends the own state of entries whose second is over.
    pub(super) fn reoriginate_due(&mut self, now: Now, index: usize) {
        let at = InstanceIndex(u16::try_from(index).expect("checked when configured"));
        while let Some(id) = self.instances[index].reoriginations.pop_due(now.time) {
            self.reoriginate(now, at, id);
        }
    }
}

impl Instance {
    /// The timestamp of a write (K-05).
    pub(super) fn tick(&mut self, now: Now) -> scsp_profile::Stamp {
        self.clock.tick(now.unix_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO.saturating_add(Duration::from_millis(millis))
    }

    /// Goal: an entry is originated again at once, then not before a second is over, and only if
    /// something came meanwhile: of that the first is told.
    #[test]
    fn d_12_at_most_once_a_second() {
        let (mut entries, id) = (Reoriginations::default(), EntryId(3));
        assert!(matches!(entries.ask(at(0), id), Turn::Now));
        entries.done(at(0), id);
        assert_eq!(entries.next_due(), None);
        assert!(matches!(
            entries.ask(at(999), id),
            Turn::Later { first: true }
        ));
        assert!(matches!(
            entries.ask(at(999), id),
            Turn::Later { first: false }
        ));
        assert_eq!(entries.next_due(), Some(at(1000)));
        assert_eq!(entries.pop_due(at(999)), None);
        assert_eq!(entries.pop_due(at(1000)), Some(id));
        assert_eq!(entries.pop_due(at(1000)), None);
        assert!(matches!(entries.ask(at(1000), id), Turn::Now));
    }

    /// Goal: what went out anyway is not due any more, nor is what is gone, nor an entry that has
    /// taken the number of one that is gone and to which nothing came.
    #[test]
    fn d_12_nothing_is_due_for_another_entry() {
        let id = EntryId(3);
        let after: [fn(&mut Reoriginations, EntryId); 3] = [
            |entries, id| entries.settle(id),
            |entries, id| entries.forget(id),
            |entries, id| {
                entries.forget(id);
                entries.done(at(500), id);
            },
        ];
        for after in after {
            let mut entries = Reoriginations::default();
            entries.done(at(0), id);
            entries.ask(at(400), id);
            after(&mut entries, id);
            assert_eq!(entries.pop_due(at(1000)), None);
        }
        // Something came to the later one as well: its own second counts.
        let mut entries = Reoriginations::default();
        entries.done(at(0), id);
        entries.ask(at(400), id);
        entries.forget(id);
        entries.done(at(500), id);
        entries.ask(at(600), id);
        assert_eq!(entries.pop_due(at(1000)), None);
        assert_eq!(entries.pop_due(at(1500)), Some(id));
    }

    /// Goal: entries of more than a second ago are forgotten as soon as there are many, those that
    /// still have to go out are not, and looks at all of them stay rare however many are fresh.
    #[test]
    fn d_12_old_entries_are_forgotten() {
        let mut entries = Reoriginations::default();
        for id in 0..1024 {
            entries.done(at(0), EntryId(id));
        }
        entries.ask(at(1), EntryId(7));
        assert_eq!(entries.entries.len(), 1024);
        entries.done(at(1000), EntryId(1024));
        assert_eq!(
            entries.entries.len(),
            2,
            "the one that came and the one due"
        );
        for id in 2000..5000 {
            entries.done(at(1500), EntryId(id));
        }
        assert_eq!(entries.entries.len(), 3002, "within the second");
        let kept = entries.kept;
        assert!((1000..3002).contains(&kept), "{kept}");
        let more = 2 * kept + 1 - 3002;
        for id in (5000..).take(more) {
            assert!(entries.entries.len() >= 3002, "{id}: looked at too soon");
            entries.done(at(2600), EntryId(id));
        }
        assert_eq!(entries.entries.len(), more + 1);
        assert!(entries.entries.contains_key(&EntryId(7)), "it is due");
    }
}
