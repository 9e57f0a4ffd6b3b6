//! Expiry (N-02, N-04, K-03, K-04): a value whose life ended is not served from that moment on, but
//! its record stays for a while, so that neighbours which have not acknowledged it, or were told of
//! it in an exchange and have yet to ask for it, do not keep what it replaced, and what arrives late
//! still loses against it.

use std::time::Duration;

use scsp_cache::{Entry, EntryFlags, EntryId, Update};
use scsp_profile::{Facts, Profile, Stamp};
use scsp_wire::CsaSeq;

use crate::{Now, Time};

use super::kv::stamp_of;
use super::peer::Gate;
use super::{Instance, Shard};

/// A withdrawn entry is kept at least this long after it came, however old it says it is, so that
/// it outlives the resends of what it replaces (N-04).
const WITHDRAWN_MIN: Duration = Duration::from_secs(10);
/// So many times the patience with a neighbour, a record that found no room may come again.
const STARVED_PATIENCES: u32 = 10;
/// Longest time between two looks at a withdrawn entry that is kept for a neighbour that is away.
const AWAY_LOOK_MAX: Duration = Duration::from_mins(1);

impl Shard {
    /// Notes with which neighbours nothing is open any more (N-04).
    pub(super) fn note_whole(&mut self, now: Now) {
        for (peer, dcs) in self.peers.iter_mut().zip(&self.setup.dcs) {
            let setup = &self.setup.instances[dcs.instance.index()];
            let patience = setup.csus_retransmit * setup.csus_retransmit_max.saturating_add(1);
            let store = &self.instances[dcs.instance.index()].store;
            let is_whole = peer.gate == Gate::Open
                && !peer.is_settling(now.time, patience)
                && store.queue_len(peer.queue) == 0;
            if is_whole {
                peer.whole_until = Some(now.time);
            }
        }
    }

    /// Withdraws values whose life ended, and removes what was withdrawn long enough ago.
    pub(super) fn expire(&mut self, now: Now, index: usize) {
        let setup = &self.setup.instances[index];
        let patience = setup.csus_retransmit * setup.csus_retransmit_max.saturating_add(1);
        let peers = || {
            self.peers
                .iter()
                .filter(|peer| peer.instance.index() == index)
        };
        // A neighbour whose records find no room is met again and again: what is to make the room
        // must not wait for the end of that, but for its summary alone, or the neighbour would keep
        // what it replaced. Whoever asks for it after all is told that it is gone (CSU-11).
        let is_recent = |at: Time| now.time < at.saturating_add(patience * STARVED_PATIENCES);
        let starved = self.starved_at.is_some_and(is_recent);
        let settling = !starved && peers().any(|peer| peer.is_settling(now.time, patience));
        let is_owed =
            |queue| peers().any(|peer| peer.queue == queue && peer.is_owed(now.time, patience));
        let may_be_lacked = |entry: &Entry<'_>| {
            is_kept_for_all(setup.profile, entry)
                && peers().any(|peer| peer.may_lack(entry.changed))
        };
        let (soon, away) = (
            setup.csu_retransmit,
            setup
                .purge_retention
                .min(AWAY_LOOK_MAX)
                .max(setup.csu_retransmit),
        );
        let instance = &mut self.instances[index];
        while let Some(id) = instance.store.pop_expired(now.time) {
            let entry = instance.store.entry(id);
            let hash = self.hasher.hash(entry.key);
            let withdrawn = entry.flags.withdrawn;
            let owed = settling
                || peers().any(|peer| peer.is_to_summarize(id) && peer.is_owed(now.time, patience))
                || instance.store.pending_peers(id).any(is_owed);
            let wait = if !withdrawn {
                Some(soon * setup.csu_retransmit_max.saturating_add(1))
            } else if owed || instance.purges.is_open(id) {
                Some(soon)
            } else {
                may_be_lacked(&entry).then_some(away)
            };
            if let Some(wait) = wait {
                instance.linger(now, setup.profile, hash, id, wait, &mut self.body);
                continue;
            }
            match setup.profile {
                Profile::Kv => instance.remove_kv(hash, id, self.setup.lsid.as_bytes()),
                Profile::Nhrp | Profile::Opaque => {
                    instance.forget(hash, id, self.setup.lsid.as_bytes());
                }
            }
        }
    }
}

impl Instance {
    /// Keeps an entry whose deadline has passed, without life: a value for as long as a neighbour
    /// may take to acknowledge something, a withdrawn one until the next look at it (N-04).
    fn linger(
        &mut self,
        now: Now,
        profile: Profile,
        hash: u64,
        id: EntryId,
        wait: Duration,
        scratch: &mut Vec<u8>,
    ) {
        let entry = self.store.entry(id);
        self.counters.expired += u64::from(!entry.flags.withdrawn);
        scratch.clear();
        scratch.extend_from_slice(entry.body);
        profile.set_remaining(scratch, Duration::ZERO); // K-03
        let key = entry.key.to_vec();
        let update = Update {
            seq: entry.seq,
            hop_count: entry.hop_count,
            body: scratch,
            expires: Some(now.time.saturating_add(wait)),
            changed: entry.changed,
            flags: EntryFlags {
                withdrawn: true,
                ..entry.flags
            },
        };
        let before = self.counts(profile, hash, &key);
        self.store
            .update(id, &update)
            .expect("a body of the same length replaces the old one");
        self.recount(before, profile, hash, &key);
    }

    /// An instance of a key goes, and all smaller ones go with it: nothing older may show through
    /// (K-04). They go even if a larger one hides them: on another server, where that one came
    /// later, the instance that goes decided what clients read, and both are to end up the same.
    fn remove_kv(&mut self, hash: u64, id: EntryId, lsid: &[u8]) {
        let key = self.store.entry(id).key.to_vec();
        let before = self.counts(Profile::Kv, hash, &key);
        self.forget_smaller(hash, id, stamp_of(self.store.entry(id).body), lsid, None);
        self.forget(hash, id, lsid);
        self.recount(before, Profile::Kv, hash, &key);
    }

    /// Removes the instances of the key of `id` that are smaller than (`stamp`, its originator).
    /// Those that a neighbour still has to acknowledge are only withdrawn until `kept`, if given.
    pub(super) fn forget_smaller(
        &mut self,
        hash: u64,
        id: EntryId,
        stamp: Stamp,
        lsid: &[u8],
        kept: Option<Time>,
    ) {
        let entry = self.store.entry(id);
        let (key, limit) = (entry.key, (stamp, entry.originator));
        let is_smaller = |other: &EntryId| {
            let other = self.store.entry(*other);
            (stamp_of(other.body), other.originator) < limit
        };
        let instances = self.store.instances(hash, key);
        let smaller: Vec<EntryId> = instances
            .filter(|other| *other != id)
            .filter(is_smaller)
            .collect();
        for id in smaller {
            // What is being purged goes with the last acknowledgement (CSU-19).
            let purging = self.purges.is_open(id);
            let kept = kept.filter(|_| self.store.pending_peers(id).next().is_some());
            let stays = match kept {
                _ if purging => self.drop_waiting(id),
                Some(until) => self.withdraw_until(id, until),
                None => false,
            };
            if !stays {
                self.forget(hash, id, lsid);
            }
        }
    }

    /// Keeps an entry that nobody reads any more; whether there was room for its deadline.
    fn withdraw_until(&mut self, id: EntryId, until: Time) -> bool {
        let entry = self.store.entry(id);
        let body = entry.body.to_vec();
        let update = Update {
            seq: entry.seq,
            hop_count: entry.hop_count,
            body: &body,
            expires: Some(until),
            changed: entry.changed,
            flags: EntryFlags {
                withdrawn: true,
                ..entry.flags
            },
        };
        self.store.update(id, &update).is_ok()
    }

    /// Removes an entry for good.
    pub(super) fn forget(&mut self, hash: u64, id: EntryId, lsid: &[u8]) {
        let entry = self.store.entry(id);
        if entry.originator == lsid {
            if entry.seq != CsaSeq::PURGE {
                self.floors.note(hash, entry.seq);
                self.purges.note_gone(hash, entry.seq);
            }
            self.reoriginations.forget(id);
        }
        self.purges.close(hash, id);
        self.store.remove(id);
    }
}

/// Whether a withdrawn entry stays until every DCS has it, also those that are away (N-04, D-20). An
/// expired one does not (N-02), nor does a tombstone, which goes after its retention (K-02).
fn is_kept_for_all(profile: Profile, entry: &Entry<'_>) -> bool {
    let withdraws = || profile.inspect(entry.key, entry.body);
    profile != Profile::Kv && withdraws().is_ok_and(|facts| facts.withdrawn)
}

/// When an entry's deadline is: the end of its life or, withdrawn, of its retention.
pub(super) fn expiry(purge_retention: Duration, facts: Facts, now: Now) -> Option<Time> {
    let kept = || {
        facts
            .withdrawn
            .then(|| retention(purge_retention, facts.stamp, now))
    };
    facts
        .life
        .or_else(kept)
        .map(|left| now.time.saturating_add(left))
}

/// How long a withdrawn entry is kept: retention counts from the write, as far as its timestamp
/// can be trusted, so that it does not start over on every server that learns of it later.
fn retention(retention: Duration, stamp: Stamp, now: Now) -> Duration {
    if stamp == Stamp::ZERO {
        return retention;
    }
    let age = Duration::from_millis(now.unix_ms.saturating_sub(stamp.millis()));
    retention
        .saturating_sub(age)
        .max(WITHDRAWN_MIN.min(retention))
}
