//! The limit of memory (CSU-04), and storing within it.

use scsp_cache::{EntryId, NewEntry, Store, StoreFull, Update};
use scsp_profile::Profile;

use super::{Instance, Shard};

impl Shard {
    /// Octets that all instances may use together; without this call there is no limit.
    pub fn limit_memory(&mut self, octets: usize) {
        self.memory_max = octets;
    }

    /// Octets that may be added before the limit is reached.
    pub(super) fn room(&self) -> usize {
        if self.memory_max == usize::MAX {
            return usize::MAX;
        }
        let used = self.instances.iter().map(|it| it.store.used_bytes());
        self.memory_max.saturating_sub(used.sum())
    }
}

impl Instance {
    /// Whether a record finds room where `room` octets are left. What takes no more than it did
    /// always does, and so does a withdrawal of a key that is here: it makes room in the end, and
    /// there is one for each instance at most.
    fn fits(
        &self,
        hash: u64,
        key: &[u8],
        found: Option<EntryId>,
        update: &Update<'_>,
        room: usize,
    ) -> bool {
        let cost = Store::cost(key.len(), update.body.len(), update.expires.is_some());
        let Some(id) = found else {
            let withdraws = update.flags.withdrawn && self.is_known(hash, key);
            return withdraws || cost <= room;
        };
        let entry = self.store.entry(id);
        let before = Store::cost(key.len(), entry.body.len(), entry.expires.is_some());
        update.body.len() <= entry.body.len() || cost.saturating_sub(before) <= room
    }

    /// Whether there is any instance of the key.
    pub(super) fn is_known(&self, hash: u64, key: &[u8]) -> bool {
        self.store.instances(hash, key).next().is_some()
    }

    /// Stores a record of (key, originator id), in place of `found` if there is one, where `room`
    /// octets are left.
    pub(super) fn put(
        &mut self,
        profile: Profile,
        hash: u64,
        (key, originator): (&[u8], &[u8]),
        found: Option<EntryId>,
        update: &Update<'_>,
        room: usize,
    ) -> Result<EntryId, StoreFull> {
        if room < usize::MAX && !self.fits(hash, key, found, update, room) {
            return Err(StoreFull::Limit);
        }
        let what = (found, update.flags.withdrawn);
        self.put_counted(profile, (hash, key), what, |instance| {
            if let Some(id) = found {
                return instance.store.update(id, update).map(|()| id);
            }
            let Update {
                seq,
                hop_count,
                body,
                expires,
                changed,
                flags,
            } = *update;
            let new = NewEntry {
                key,
                originator,
                seq,
                hop_count,
                body,
                expires,
                changed,
                flags,
            };
            instance.store.insert(hash, &new)
        })
    }
}
