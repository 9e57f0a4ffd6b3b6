//! Originating this server's own records (CSU-18, CSU-20, D-19).

use scsp_cache::{EntryFlags, EntryId, Update};
use scsp_profile::{Facts, KvBody, KvKind, Profile, Stamp};
use scsp_wire::{CsaSeq, MessageType, SUMMARY_LEN, overhead};

use crate::Now;
use crate::setup::{InstanceIndex, Setup};

use super::Shard;
use super::expire::expiry;
use super::transmit::DATAGRAM_LEN_MAX;

/// Octets kept for extensions of the packet around the largest record.
pub(crate) const EXTENSIONS_LEN_MAX: usize = 64;
/// Octets allowed for a neighbour's id around the largest record.
const DCSID_LEN_ALLOWED: usize = 16;

/// Octets that key and body of an own record of `at` may have together.
pub(super) fn own_record_room(setup: &Setup, at: InstanceIndex) -> usize {
    let lsid = setup.lsid.as_bytes().len();
    let around = overhead(MessageType::CsuRequest, lsid, lsid.max(DCSID_LEN_ALLOWED));
    let limits = setup.dcs_of(at);
    let limits = limits.map(|dcs| setup.dcs[dcs.index()].datagram_limit);
    let largest = limits.chain([DATAGRAM_LEN_MAX]).min();
    largest
        .unwrap_or_default()
        .saturating_sub(around + EXTENSIONS_LEN_MAX + SUMMARY_LEN + lsid)
}

/// Why a client's operation was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The boot hold is not over (D-09).
    #[error("the group waits for its neighbours")]
    Loading,
    /// Key of a length the protocol does not allow.
    #[error("key of {len} octets, expected {}", span(*min, *max))]
    Key {
        /// Octets given.
        len: usize,
        /// Octets at least.
        min: usize,
        /// Octets at most.
        max: usize,
    },
    /// The record would exceed the largest packet (D-14).
    #[error("value of {len} octets exceeds the limit of {max} octets for this key")]
    TooLarge {
        /// Octets given.
        len: usize,
        /// Octets at most.
        max: usize,
    },
    /// No room in the cache.
    #[error("the cache is full")]
    Full,
    /// The given sequence is not above the current one, or too large.
    #[error("sequence {given} is not within {min} to {max}")]
    Sequence {
        /// Sequence given.
        given: i64,
        /// Smallest allowed.
        min: i64,
        /// Largest allowed.
        max: i64,
    },
    /// The body is malformed for the protocol.
    #[error("body malformed for this protocol: {0}")]
    Body(&'static str),
    /// Remaining life beyond what the protocol carries.
    #[error("life of {given_ms} ms exceeds the limit of {max_ms} ms")]
    Life {
        /// Milliseconds given.
        given_ms: u128,
        /// Milliseconds at most.
        max_ms: u128,
    },
}

/// A range in words.
fn span(min: usize, max: usize) -> String {
    if min == max {
        min.to_string()
    } else {
        format!("{min} to {max}")
    }
}

/// Sequences of own entries that are gone, by hash of their key. An entry that comes anew starts
/// above, since a neighbour may still hold the old one and would take the new one for it.
#[derive(Debug, Default)]
pub(super) struct Floors(Vec<Option<CsaSeq>>);

impl Floors {
    const LEN: usize = 1 << 14;

    pub(super) fn note(&mut self, hash: u64, seq: CsaSeq) {
        if self.0.is_empty() {
            self.0 = vec![None; Self::LEN];
        }
        let floor = &mut self.0[Self::slot(hash)];
        *floor = (*floor).max(Some(seq));
    }

    pub(super) fn above(&self, hash: u64) -> Option<CsaSeq> {
        self.0.get(Self::slot(hash)).copied().flatten()
    }

    /// Every slot that is not empty.
    pub(super) fn all(&self) -> Vec<(u16, CsaSeq)> {
        let slots = (0..).zip(&self.0);
        slots
            .filter_map(|(slot, floor)| floor.map(|seq| (slot, seq)))
            .collect()
    }

    /// Adds what an earlier run noted under the same seed.
    pub(super) fn restore(&mut self, floors: &[(u16, CsaSeq)]) {
        for (slot, seq) in floors {
            self.note(u64::from(*slot), *seq);
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "masked to the table's length"
    )]
    fn slot(hash: u64) -> usize {
        hash as usize & (Self::LEN - 1)
    }
}

/// What an own record says.
pub(super) struct Originate<'a> {
    pub(super) key: &'a [u8],
    pub(super) body: &'a [u8],
    pub(super) facts: Facts,
    /// Sequence chosen by the client, for protocols that allow it (N-05).
    pub(super) seq: Option<CsaSeq>,
}

impl Shard {
    /// Octets a body may have under a key of `key_len` octets, for every neighbour of `at` to be
    /// reached over its link (D-14); at most that of the largest datagram over IP.
    pub fn body_len_max(&self, at: InstanceIndex, key_len: usize) -> usize {
        let room = self.instances[at.index()].own_record_room;
        room.saturating_sub(key_len)
    }

    /// Creates or changes this server's own entry and floods it (CSU-02, CSU-18).
    pub(super) fn originate(
        &mut self,
        now: Now,
        at: InstanceIndex,
        hash: u64,
        what: &Originate<'_>,
    ) -> Result<CsaSeq, Refusal> {
        let max = self.body_len_max(at, what.key.len());
        if what.body.len() > max {
            return Err(Refusal::TooLarge {
                len: what.body.len(),
                max,
            });
        }
        let lsid = self.setup.lsid;
        let found = self.instances[at.index()]
            .store
            .find(hash, what.key, lsid.as_bytes());
        let Some(seq) = self.next_seq(at, hash, found, what.seq)? else {
            return self.originate_after_purge(now, at, hash, what, found);
        };
        let id = self.store_own(now, at, hash, what, seq, found)?;
        self.instances[at.index()].counters.originated += 1;
        self.flood(at, id, None, true);
        Ok(seq)
    }

    /// CSU-18, CSU-20, D-19; `None` where the entry has to be purged first (CSU-19).
    fn next_seq(
        &self,
        at: InstanceIndex,
        hash: u64,
        found: Option<EntryId>,
        chosen: Option<CsaSeq>,
    ) -> Result<Option<CsaSeq>, Refusal> {
        let instance = &self.instances[at.index()];
        let increment = self.setup.instances[at.index()].restart_increment;
        let held = found.map(|id| {
            let own_run = instance.store.flags(id).own_run;
            (instance.store.seq(id), own_run)
        });
        let purging = held.is_some_and(|(seq, _)| seq == CsaSeq::PURGE);
        if let Some(given) = chosen {
            let current = if purging {
                found.and_then(|id| instance.purges.next_seq(id))
            } else {
                held.map(|(seq, _)| seq)
            };
            return if current.is_none_or(|current| given > current) && given <= CsaSeq::LAST {
                // What is forgotten here, a neighbour may still hold: it would take the record
                // for the one of that number.
                let forgotten = instance.floors.above(hash).filter(|_| held.is_none());
                let above = forgotten.map_or(Some(given), CsaSeq::next);
                Ok(above.map(|above| above.max(given)).filter(|_| !purging))
            } else {
                let min = current.map_or(i64::from(CsaSeq::FIRST.get()), |seq| {
                    i64::from(seq.get()) + 1
                });
                let (given, max) = (i64::from(given.get()), i64::from(CsaSeq::LAST.get()));
                Err(Refusal::Sequence { given, min, max })
            };
        }
        let gone = instance.purges.counted_gone(hash);
        if let (None, Some(gone)) = (held, gone) {
            return Ok(gone.next()); // Everything above was used before the last purge (CSU-19).
        }
        let next = match held {
            Some((seq, true)) => seq.next(),
            Some((seq, false)) if !instance.restart => seq.next(),
            Some((seq, false)) => seq.checked_add(increment),
            None if instance.restart => CsaSeq::new(0).and_then(|zero| zero.checked_add(increment)),
            None => Some(CsaSeq::FIRST),
        };
        // What was taken back may be older than what this run sent and forgot since.
        let forgotten = instance
            .floors
            .above(hash)
            .filter(|_| held.is_none_or(|(_, own_run)| !own_run));
        let next = match forgotten.map(CsaSeq::next) {
            Some(above) => above.and_then(|above| next.map(|next| next.max(above))),
            None => next,
        };
        Ok(next)
    }

    /// Stores an own record of this run.
    pub(super) fn store_own(
        &mut self,
        now: Now,
        at: InstanceIndex,
        hash: u64,
        what: &Originate<'_>,
        seq: CsaSeq,
        found: Option<EntryId>,
    ) -> Result<EntryId, Refusal> {
        let setup = &self.setup.instances[at.index()];
        let update = Update {
            seq,
            hop_count: setup.hop_count,
            body: what.body,
            expires: expiry(setup.purge_retention, what.facts, now),
            changed: now.time,
            flags: EntryFlags {
                own_run: true,
                withdrawn: what.facts.withdrawn,
            },
        };
        let room = self.room();
        let instance = &mut self.instances[at.index()];
        let before = found.map(|id| instance.store.seq(id));
        let names = (what.key, self.setup.lsid.as_bytes());
        let id = instance
            .put(setup.profile, hash, names, found, &update, room)
            .map_err(|_| Refusal::Full)?;
        instance.reoriginations.settle(id);
        instance.purges.renumbered(hash, id, before, seq);
        Ok(id)
    }
}

/// Refuses a key of a length that the protocol does not allow (N-01).
pub(super) fn refuse_key(profile: Profile, key: &[u8]) -> Result<(), Refusal> {
    let ((min, max), len) = (profile.key_len(), key.len());
    if (min..=max).contains(&len) {
        Ok(())
    } else {
        Err(Refusal::Key { len, min, max })
    }
}

/// Body of a kv tombstone (K-02).
pub(super) fn tombstone(stamp: Stamp) -> KvBody<'static> {
    KvBody {
        kind: KvKind::Tombstone,
        life_ms: None,
        stamp,
        value: &[],
    }
}
