//! Handing out what is to be kept, a bounded piece at a time, and taking it in again.

use std::time::Duration;

use scsp_cache::{EntryFlags, EntryId, Update};
use scsp_profile::{Facts, Profile, Stamp};
use scsp_wire::CsaSeq;

use crate::Now;
use crate::setup::InstanceIndex;
use crate::snapshot::{AGE_MAX, KEPT_HEAD_LEN, Kept, Memory, Part, Past, Restored, Walk};

use super::{Instance, Shard};

/// Entry numbers that one step looks at; many may be free.
const NUMBERS_MAX: u32 = 4096;

impl Shard {
    /// What is known of earlier runs in an instance. To be told before anything else is taken in,
    /// and after [`restore`](Self::restore).
    pub fn recall(&mut self, at: InstanceIndex, past: &Past) {
        let instance = &mut self.instances[at.index()];
        instance.memory = past.memory;
        instance.restart &= past.memory != Memory::Never; // D-19
        instance.clock.merge(past.clock); // K-05
        instance.floors.restore(&past.floors);
        if !instance.held {
            instance.begin(self.setup.started_unix_ms);
        }
    }

    /// Takes a kept entry of this shard into the cache, as nobody's news: it is not flooded, and the
    /// next exchange summarizes it. `elapsed` is the time since it was written.
    ///
    /// One whose time is over comes back without life, so that it ends as it would have: what it
    /// had replaced goes with it (K-04).
    pub fn restore(
        &mut self,
        now: Now,
        at: InstanceIndex,
        elapsed: Duration,
        kept: &Kept<'_>,
    ) -> Restored {
        let summary = &kept.record.summary;
        let profile = self.setup.instances[at.index()].profile;
        let is_own = summary.originator == self.setup.lsid.as_bytes();
        let seq = match summary.seq {
            // CSU-19: what waited for its purge goes on as it would have; nothing else was to stay.
            CsaSeq::PURGE if is_own && (!kept.withdrawn || kept.left_ms.is_some()) => CsaSeq::FIRST,
            CsaSeq::PURGE => return Restored::Older,
            seq => seq,
        };
        let Ok(facts) = profile.inspect(summary.key, kept.record.body) else {
            return Restored::Malformed;
        };
        if summary.null {
            return Restored::Malformed;
        }
        let hash = self.hasher.hash(summary.key);
        let instance = &mut self.instances[at.index()];
        instance.clock.merge(facts.stamp); // K-05
        let found = instance.store.find(hash, summary.key, summary.originator);
        // Taken out and brought in anew while the snapshot was written, it is in there twice.
        if found.is_some_and(|id| instance.store.entry(id).seq >= seq) {
            return Restored::Older;
        }
        let left = |ms| Duration::from_millis(ms).saturating_sub(elapsed);
        let age = Duration::from_millis(kept.age_ms).saturating_add(elapsed);
        let update = Update {
            seq,
            hop_count: summary.hop_count,
            body: kept.record.body,
            expires: kept.left_ms.map(|ms| now.time.saturating_add(left(ms))),
            changed: now.time.saturating_sub(age.min(AGE_MAX)),
            flags: EntryFlags {
                own_run: false,
                withdrawn: kept.withdrawn || facts.withdrawn,
            },
        };
        let names = (summary.key, summary.originator);
        // A limit that was lowered must not cost what is known.
        match instance.put(profile, hash, names, found, &update, usize::MAX) {
            Ok(_) => Restored::Taken,
            Err(_) => Restored::Full,
        }
    }

    /// The next piece of what is to be kept of this shard: appends about `octets` of entries to
    /// `out`, each as it is now. A walk meets every entry that is present all the while once.
    pub fn export(&self, now: Now, walk: &mut Walk, octets: usize, out: &mut Vec<u8>) -> Part {
        let at = InstanceIndex(walk.instance);
        let Some(instance) = self.instances.get(at.index()) else {
            return Part::End;
        };
        let from = if walk.begun { walk.next } else { Some(0) };
        walk.begun = true;
        let Some(from) = from else {
            // After the entries: what was forgotten meanwhile is noted.
            *walk = Walk {
                instance: walk.instance + 1,
                ..Walk::default()
            };
            let past = instance.past();
            return Part::Past { instance: at, past };
        };
        let profile = self.setup.instances[at.index()].profile;
        let (start, mut next, mut count) = (out.len(), from, 0);
        let end = instance.store.scan_end();
        let until = from.saturating_add(NUMBERS_MAX).min(end);
        while out.len() - start < octets {
            let Some((after, id)) = instance.store.scan_below(next, until) else {
                next = until;
                break;
            };
            next = after;
            instance.keep(profile, now, id, out);
            count += 1;
        }
        walk.next = (next < end).then_some(next);
        Part::Entries {
            instance: at,
            count,
        }
    }
}

impl Instance {
    /// Origination may begin: what this run stamps is later than this, and than every timestamp
    /// seen before (D-12, K-05).
    pub(super) fn begin(&mut self, started_unix_ms: u64) {
        if self.began.is_none() {
            let began = Stamp::new(started_unix_ms, 0).max(self.clock.last());
            self.clock.merge(began);
            self.began = Some(began);
        }
    }

    /// Whether this server would still hold the own record that says `facts`, had it not been
    /// withdrawn or expired here (D-12).
    pub(super) fn remembers(&self, profile: Profile, facts: Facts) -> bool {
        let later_than = |since: Stamp| profile == Profile::Kv && facts.stamp > since;
        self.began.is_some_and(later_than) || self.kept_whole(profile, facts)
    }

    /// The same for what an earlier run originated.
    pub(super) fn kept_whole(&self, profile: Profile, facts: Facts) -> bool {
        match self.memory {
            Memory::Whole { since } => {
                since == Stamp::ZERO || profile == Profile::Kv && facts.stamp > since
            }
            Memory::Never | Memory::Partial => false,
        }
    }

    /// What the next run is to know of this one, provided that this one ends gracefully.
    fn past(&self) -> Past {
        let memory = match (self.memory, self.began) {
            (Memory::Never, _) => Memory::Whole { since: Stamp::ZERO },
            (Memory::Whole { since }, _) => Memory::Whole { since },
            // Memory is not whole again for what was originated before this run: a neighbour that
            // is away may be the last one to hold it, and a write must not be lost with it (D-12).
            (Memory::Partial, Some(since)) => Memory::Whole { since },
            (Memory::Partial, None) => Memory::Partial,
        };
        Past {
            memory,
            clock: self.clock.last(),
            floors: self.floors.all(),
        }
    }

    /// Appends an entry as it is kept.
    fn keep(&self, profile: Profile, now: Now, id: EntryId, out: &mut Vec<u8>) {
        let entry = self.store.entry(id);
        let ms = |time: Duration| {
            u64::try_from(time.as_nanos().div_ceil(1_000_000)).expect("584 years at most")
        };
        let left = entry.expires.map(|at| at.since(now.time));
        let age_ms = ms(now.time.since(entry.changed));
        let head = Kept::encode_head(entry.flags.withdrawn, age_ms, left.map(ms));
        let (body_len, hop_count) = (entry.body.len(), entry.hop_count);
        out.extend_from_slice(&head);
        let start = out.len();
        out.resize(start + entry.wire_len(), 0);
        self.store.encode_record(id, hop_count, &mut out[start..]);
        if let Some(left) = left {
            let body = out.len() - body_len;
            profile.set_remaining(&mut out[body..], left); // K-03
        }
    }
}

/// Octets that one entry may add beyond what a piece was asked to have.
pub const KEPT_LEN_MAX: usize = KEPT_HEAD_LEN + u16::MAX as usize;
