//! Client operations on a kv instance (K-01..K-05): the value of a key is that of the instance
//! with the largest (timestamp, OID).

use std::time::Duration;

use scsp_cache::EntryId;
use scsp_profile::kv::HEADER_LEN;
use scsp_profile::{Facts, KvBody, KvKind, Profile, Stamp};

use crate::setup::InstanceIndex;
use crate::{Now, Time};

use super::originate::{Originate, Refusal, refuse_key, tombstone};
use super::{Instance, Shard};

/// A live value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvValue<'a> {
    /// The client's octets.
    pub value: &'a [u8],
    /// When it expires; `None`: never.
    pub expires: Option<Time>,
}

/// Life of a value to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It does not expire.
    Forever,
    /// It expires after this time.
    For(Duration),
    /// It keeps the life of the value it replaces.
    Keep,
}

/// When a value is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    Always,
    /// Only if the key has no value (`NX`).
    Absent,
    /// Only if the key has a value (`XX`).
    Present,
}

impl Shard {
    /// Hash of a key in this shard's stores.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash(key)
    }

    /// The live value of `key`, if any.
    pub fn kv_get(
        &self,
        now: Now,
        at: InstanceIndex,
        key: &[u8],
    ) -> Result<Option<KvValue<'_>>, Refusal> {
        self.refuse_held(at)?;
        Ok(self.value(now, at, key))
    }

    fn value(&self, now: Now, at: InstanceIndex, key: &[u8]) -> Option<KvValue<'_>> {
        let instance = &self.instances[at.index()];
        let winner = instance.winner(self.hasher.hash(key), key)?;
        instance
            .is_live(now, winner)
            .then(|| instance.kv_value(winner))
    }

    /// Writes a value; whether the condition held.
    pub fn kv_set(
        &mut self,
        now: Now,
        at: InstanceIndex,
        key: &[u8],
        value: &[u8],
        life: Life,
        condition: Condition,
    ) -> Result<bool, Refusal> {
        self.refuse_held(at)?;
        refuse_key(Profile::Kv, key)?;
        let max = self.body_len_max(at, key.len()).saturating_sub(HEADER_LEN);
        if value.len() > max {
            return Err(Refusal::TooLarge {
                len: value.len(),
                max,
            });
        }
        let matters = condition != Condition::Always || life == Life::Keep;
        let current = matters.then(|| self.value(now, at, key)).flatten();
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => current.is_none(),
            Condition::Present => current.is_some(),
        };
        if !holds {
            return Ok(false);
        }
        let life = match life {
            Life::Forever => None,
            Life::For(life) => Some(life),
            Life::Keep => current
                .and_then(|it| it.expires)
                .map(|at| at.since(now.time)),
        };
        self.write(now, at, key, value, life)?;
        Ok(true)
    }

    /// Deletes a key (K-02); whether it had a value.
    pub fn kv_del(&mut self, now: Now, at: InstanceIndex, key: &[u8]) -> Result<bool, Refusal> {
        self.refuse_held(at)?;
        if self.value(now, at, key).is_none() {
            return Ok(false);
        }
        let stamp = self.instances[at.index()].tick(now);
        let mut body = [0; HEADER_LEN];
        tombstone(stamp).encode(&mut body);
        let facts = Facts {
            withdrawn: true,
            life: None,
            stamp,
        };
        let hash = self.hasher.hash(key);
        self.originate(
            now,
            at,
            hash,
            &Originate {
                key,
                body: &body,
                facts,
                seq: None,
            },
        )?;
        Ok(true)
    }

    /// Changes the life of a key's value, `None`: forever; whether it had a value.
    pub fn kv_expire(
        &mut self,
        now: Now,
        at: InstanceIndex,
        key: &[u8],
        life: Option<Duration>,
    ) -> Result<bool, Refusal> {
        self.refuse_held(at)?;
        let Some(current) = self.value(now, at, key) else {
            return Ok(false);
        };
        let value = current.value.to_vec();
        self.write(now, at, key, &value, life)?;
        Ok(true)
    }

    /// Keys with a live value.
    pub fn kv_len(&self, at: InstanceIndex) -> Result<u64, Refusal> {
        self.refuse_held(at)?;
        Ok(self.instances[at.index()].live_keys)
    }

    /// Visits up to `count` entries from position `from` on (0: the first) and hands the keys with
    /// a live value to `found`. Returns where to go on, `None` at the end.
    pub fn kv_scan(
        &self,
        now: Now,
        at: InstanceIndex,
        from: u32,
        count: usize,
        mut found: impl FnMut(&[u8]),
    ) -> Result<Option<u32>, Refusal> {
        self.refuse_held(at)?;
        let instance = &self.instances[at.index()];
        let mut position = from;
        for _ in 0..count {
            let Some((next, id)) = instance.store.scan_next(position) else {
                return Ok(None);
            };
            position = next;
            let entry = instance.store.entry(id);
            let winner = instance.winner(self.hasher.hash(entry.key), entry.key);
            if winner == Some(id) && instance.is_live(now, id) {
                found(entry.key);
            }
        }
        Ok(Some(position))
    }

    fn write(
        &mut self,
        now: Now,
        at: InstanceIndex,
        key: &[u8],
        value: &[u8],
        life: Option<Duration>,
    ) -> Result<(), Refusal> {
        let life_ms = life.map(life_ms).transpose()?;
        let stamp = self.instances[at.index()].tick(now);
        let kv = KvBody {
            kind: KvKind::Value,
            life_ms,
            stamp,
            value,
        };
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        body.resize(kv.encoded_len(), 0);
        kv.encode(&mut body);
        let facts = Facts {
            withdrawn: false,
            life,
            stamp,
        };
        let hash = self.hasher.hash(key);
        let done = self.originate(
            now,
            at,
            hash,
            &Originate {
                key,
                body: &body,
                facts,
                seq: None,
            },
        );
        self.body = body;
        done.map(|_| ())
    }

    pub(super) fn refuse_held(&self, at: InstanceIndex) -> Result<(), Refusal> {
        if self.is_held(at) {
            Err(Refusal::Loading)
        } else {
            Ok(())
        }
    }
}

impl Instance {
    /// The instance that decides what clients read (K-01).
    fn winner(&self, hash: u64, key: &[u8]) -> Option<EntryId> {
        self.standing(hash, key).map(|standing| standing.winner)
    }

    fn standing(&self, hash: u64, key: &[u8]) -> Option<Standing> {
        let mut instances = self.store.instances(hash, key);
        let mut winner = instances.next()?;
        let mut alone = true;
        for other in instances {
            let rank = |id| (stamp_of(self.store.body(id)), self.store.originator(id));
            alone = false;
            if rank(other) > rank(winner) {
                winner = other;
            }
        }
        Some(Standing { winner, alone })
    }

    fn is_live(&self, now: Now, id: EntryId) -> bool {
        let entry = self.store.entry(id);
        !entry.flags.withdrawn && entry.expires.is_none_or(|expires| now.time < expires)
    }

    fn kv_value(&self, id: EntryId) -> KvValue<'_> {
        let entry = self.store.entry(id);
        KvValue {
            value: entry.body.get(HEADER_LEN..).unwrap_or_default(),
            expires: entry.expires,
        }
    }

    /// Whether `key` counts among the live keys: its winner is a value that is still here. One
    /// that expired counts until it is removed.
    pub(super) fn counts(&self, profile: Profile, hash: u64, key: &[u8]) -> bool {
        match profile {
            Profile::Kv => self
                .winner(hash, key)
                .is_some_and(|winner| !self.store.flags(winner).withdrawn),
            Profile::Nhrp | Profile::Opaque => false,
        }
    }

    /// Keeps the number of live keys after a change of `key`; `before` is what
    /// [`counts`](Self::counts) said before it.
    pub(super) fn recount(&mut self, before: bool, profile: Profile, hash: u64, key: &[u8]) {
        self.tally(before, self.counts(profile, hash, key));
    }

    fn tally(&mut self, before: bool, after: bool) {
        match (before, after) {
            (false, true) => self.live_keys += 1,
            (true, false) => self.live_keys -= 1,
            (false, false) | (true, true) => {}
        }
    }

    /// Stores with `put` what is `withdrawn` or not, in place of `found` if there is one, and keeps
    /// the number of live keys. Most keys have one instance, which is looked for only once.
    pub(super) fn put_counted<E>(
        &mut self,
        profile: Profile,
        (hash, key): (u64, &[u8]),
        (found, withdrawn): (Option<EntryId>, bool),
        put: impl FnOnce(&mut Self) -> Result<EntryId, E>,
    ) -> Result<EntryId, E> {
        if profile != Profile::Kv {
            return put(self);
        }
        let standing = match found {
            Some(winner) if self.store.is_alone(hash) => Some(Standing {
                winner,
                alone: true,
            }),
            _ => self.standing(hash, key),
        };
        let before = standing.is_some_and(|it| !self.store.flags(it.winner).withdrawn);
        let id = put(self)?;
        let after = match standing {
            None => !withdrawn,
            Some(it) if it.alone && found == Some(it.winner) => !withdrawn,
            Some(_) => self.counts(profile, hash, key),
        };
        self.tally(before, after);
        Ok(id)
    }
}

/// How the instances of a key stand to each other.
#[derive(Clone, Copy, Debug)]
struct Standing {
    winner: EntryId,
    /// There is no other one.
    alone: bool,
}

pub(super) fn stamp_of(body: &[u8]) -> Stamp {
    KvBody::parse(body).map_or(Stamp::ZERO, |body| body.stamp)
}

/// Remaining life as the body carries it: whole milliseconds, rounded up (D-21).
fn life_ms(life: Duration) -> Result<u32, Refusal> {
    let given_ms = life.as_nanos().div_ceil(1_000_000);
    u32::try_from(given_ms).map_err(|_| Refusal::Life {
        given_ms,
        max_ms: u128::from(u32::MAX),
    })
}
