//! Client operations on records of any protocol: publish, purge, look at, walk over.

use std::time::Duration;

use scsp_cache::{Entry, EntryId};
use scsp_profile::{Facts, Profile, Stamp};
use scsp_wire::CsaSeq;

use crate::Now;
use crate::setup::InstanceIndex;

use super::originate::{Originate, Refusal, refuse_key};
use super::{Instance, Shard};

/// A record as clients see it.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Cache key.
    pub key: &'a [u8],
    /// Originator id.
    pub originator: &'a [u8],
    /// CSA sequence.
    pub seq: CsaSeq,
    /// Time since it was taken in or written.
    pub age: Duration,
    /// Protocol specific part, with the life that remains.
    pub body: &'a [u8],
    /// Withdrawn: shown only on request.
    pub withdrawn: bool,
}

impl Shard {
    /// Originates or updates this server's own record (design: `SCSP.PUBLISH`).
    ///
    /// On a kv instance the body's timestamp is what the client chose; the clock follows it.
    pub fn publish(
        &mut self,
        now: Now,
        at: InstanceIndex,
        key: &[u8],
        body: &[u8],
        seq: Option<CsaSeq>,
    ) -> Result<CsaSeq, Refusal> {
        self.refuse_held(at)?;
        let profile = self.setup.instances[at.index()].profile;
        refuse_key(profile, key)?;
        let facts = profile
            .inspect(key, body)
            .map_err(|error| Refusal::Body(error.reason()))?;
        self.instances[at.index()].clock.merge(facts.stamp);
        let hash = self.hasher.hash(key);
        self.originate(
            now,
            at,
            hash,
            &Originate {
                key,
                body,
                facts,
                seq,
            },
        )
    }

    /// Withdraws this server's own record in the protocol's own form (D-20, K-02, N-04); whether there
    /// was one.
    pub fn purge(&mut self, now: Now, at: InstanceIndex, key: &[u8]) -> Result<bool, Refusal> {
        self.refuse_held(at)?;
        refuse_key(self.setup.instances[at.index()].profile, key)?;
        let hash = self.hasher.hash(key);
        let lsid = self.setup.lsid;
        let instance = &mut self.instances[at.index()];
        let found = instance.store.find(hash, key, lsid.as_bytes());
        let Some(id) = found.filter(|id| !instance.store.entry(*id).flags.withdrawn) else {
            return Ok(false);
        };
        let profile = self.setup.instances[at.index()].profile;
        let stamp = match profile {
            Profile::Kv => instance.tick(now),
            Profile::Nhrp | Profile::Opaque => Stamp::ZERO,
        };
        let mut body = instance.store.entry(id).body.to_vec();
        let len = profile.withdraw(&mut body, stamp);
        body.truncate(len);
        let facts = Facts {
            withdrawn: true,
            life: None,
            stamp,
        };
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

    /// Hands every instance of `key` to `found`; withdrawn and expired ones only with `all`.
    pub fn records(
        &self,
        now: Now,
        at: InstanceIndex,
        key: &[u8],
        all: bool,
        mut found: impl FnMut(RecordView<'_>),
    ) -> Result<(), Refusal> {
        self.refuse_held(at)?;
        let instance = &self.instances[at.index()];
        let profile = self.setup.instances[at.index()].profile;
        let mut body = Vec::new();
        for id in instance.store.instances(self.hasher.hash(key), key) {
            instance.view(profile, now, id, all, &mut body, &mut found);
        }
        Ok(())
    }

    /// Visits up to `count` records from position `from` on (0: the first). Returns where to go
    /// on, `None` at the end.
    pub fn scan(
        &self,
        now: Now,
        at: InstanceIndex,
        from: u32,
        count: usize,
        all: bool,
        mut found: impl FnMut(RecordView<'_>),
    ) -> Result<Option<u32>, Refusal> {
        self.refuse_held(at)?;
        let instance = &self.instances[at.index()];
        let profile = self.setup.instances[at.index()].profile;
        let (mut position, mut body) = (from, Vec::new());
        for _ in 0..count {
            let Some((next, id)) = instance.store.scan_next(position) else {
                return Ok(None);
            };
            position = next;
            instance.view(profile, now, id, all, &mut body, &mut found);
        }
        Ok(Some(position))
    }

    /// Number and digest of the records, withdrawn and expired ones only with `all`; of an
    /// instance that is held as well.
    pub fn digest(&self, now: Now, at: InstanceIndex, all: bool) -> (usize, u64) {
        let profile = self.setup.instances[at.index()].profile;
        let store = &self.instances[at.index()].store;
        store.digest(profile, |entry| all || is_live(entry, now))
    }
}

fn is_live(entry: &Entry<'_>, now: Now) -> bool {
    let expired = entry.expires.is_some_and(|expires| expires <= now.time);
    !entry.flags.withdrawn && !expired
}

impl Instance {
    fn view(
        &self,
        profile: Profile,
        now: Now,
        id: EntryId,
        all: bool,
        body: &mut Vec<u8>,
        found: &mut impl FnMut(RecordView<'_>),
    ) {
        let entry = self.store.entry(id);
        if !all && !is_live(&entry, now) {
            return;
        }
        body.clear();
        body.extend_from_slice(entry.body);
        if let Some(expires) = entry.expires {
            profile.set_remaining(body, expires.since(now.time));
        }
        found(RecordView {
            key: entry.key,
            originator: entry.originator,
            seq: entry.seq,
            age: now.time.since(entry.changed),
            body,
            withdrawn: entry.flags.withdrawn,
        });
    }
}
