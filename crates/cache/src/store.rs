//! The store: entries of one shard and instance with everything that refers to them.

mod queues;

use std::hint::black_box;

use scsp_wire::{CsaSeq, SUMMARY_LEN, SummaryFields, encode_record, encode_summary};

use crate::blocks::{Blocks, Head, PASS};
use crate::expiry::Wheel;
use crate::hash::KeyHasher;
use crate::index::Index;
use crate::origin::{OriginIndex, Origins};
use crate::retransmit::Queues;
use crate::time::Time;

/// Step of [`Entry::changed`], which takes four octets per entry.
const CHANGED_STEP_NANOS: u64 = 16_000_000;

/// Hashes that [`Store::warm`] looks at together: enough for all reads that a processor keeps under
/// way, few enough that what was read is still there when it is used.
pub const PASS_LEN: usize = PASS;

/// Entries from which on looking ahead costs less than waiting: fewer, with their index, fit a cache of
/// two MiB.
const LARGE_LEN_MIN: usize = 1 << 14;

/// Number of an entry: stays while the entry lives, is given to another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub u32);

/// What this server remembers of an entry beside its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryFlags {
    /// Own record originated since this server started (CSU-20).
    pub own_run: bool,
    /// Tombstone, purge or withdrawal: kept for the retention time, not served.
    pub withdrawn: bool,
}

/// A new entry; (key, originator) must not be in the store.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'a> {
    /// At most 255 octets.
    pub key: &'a [u8],
    /// At most 255 octets.
    pub originator: &'a [u8],
    /// CSA sequence.
    pub seq: CsaSeq,
    /// As received, or as originated.
    pub hop_count: u16,
    /// Protocol specific part; the whole record has at most 65,535 octets.
    pub body: &'a [u8],
    /// When [`Store::pop_expired`] reports it; `None`: never.
    pub expires: Option<Time>,
    /// When the record was made or came.
    pub changed: Time,
    /// See [`EntryFlags`].
    pub flags: EntryFlags,
}

/// A newer instance of an entry: everything but key and originator.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// CSA sequence.
    pub seq: CsaSeq,
    /// As received, or as originated.
    pub hop_count: u16,
    /// Protocol specific part; the whole record has at most 65,535 octets.
    pub body: &'a [u8],
    /// When [`Store::pop_expired`] reports it; `None`: never.
    pub expires: Option<Time>,
    /// When the record was made or came.
    pub changed: Time,
    /// See [`EntryFlags`].
    pub flags: EntryFlags,
}

/// View of a stored entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// CSA sequence.
    pub seq: CsaSeq,
    /// As received, or as originated.
    pub hop_count: u16,
    /// Cache key.
    pub key: &'a [u8],
    /// Originator id.
    pub originator: &'a [u8],
    /// The originator id's number in this store.
    pub origin: OriginIndex,
    /// Protocol specific part as stored; its remaining life is that of the time `changed`.
    pub body: &'a [u8],
    /// When it expires, if it does.
    pub expires: Option<Time>,
    /// When the record was made or came, rounded down to 16 ms.
    pub changed: Time,
    /// See [`EntryFlags`].
    pub flags: EntryFlags,
}

impl Entry<'_> {
    /// Octets of the whole record on the wire.
    pub const fn wire_len(&self) -> usize {
        self.summary_len() + self.body.len()
    }

    /// Octets of the stand-alone summary on the wire.
    pub const fn summary_len(&self) -> usize {
        SUMMARY_LEN + self.key.len() + self.originator.len()
    }

    /// The summary that a record of the entry starts with.
    pub const fn summary(&self, hop_count: u16) -> SummaryFields<'_> {
        SummaryFields {
            hop_count,
            null: false,
            seq: self.seq,
            key: self.key,
            originator: self.originator,
        }
    }
}

/// Whether two names are the same; those of the usual lengths take no call.
#[inline]
fn is_same(a: &[u8], b: &[u8]) -> bool {
    match (a.len(), b.len()) {
        (4, 4) => a.first_chunk::<4>() == b.first_chunk::<4>(),
        (8, 8) => a.first_chunk::<8>() == b.first_chunk::<8>(),
        _ => a == b,
    }
}

/// A limit of the store is reached; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFull {
    /// No room for another block.
    #[error("no room for further records")]
    Arena,
    /// The caller's limit is reached.
    #[error("the limit of memory is reached")]
    Limit,
    /// No number left for another originator id.
    #[error("no room for further originators")]
    Originators,
}

/// Sizes of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries present.
    pub entries: usize,
    /// Different originator ids.
    pub originators: usize,
    /// Entries with a deadline that is still to come.
    pub expiring: usize,
    /// Octets allocated for blocks.
    pub arena_bytes: usize,
    /// Octets of blocks in use.
    pub arena_live_bytes: usize,
    /// Octets allocated for the index.
    pub index_bytes: usize,
    /// Octets allocated for entry numbers.
    pub slot_bytes: usize,
    /// Octets allocated for retransmit queues.
    pub queue_bytes: usize,
}

/// Entries of one instance in one shard.
///
/// Methods that take an [`EntryId`] or [`PeerIndex`](crate::PeerIndex) panic when it is not of this store.
#[derive(Debug)]
pub struct Store {
    pub(crate) blocks: Blocks,
    hasher: KeyHasher,
    epoch: Time,
    pub(crate) index: Index,
    origins: Origins,
    wheel: Wheel,
    queues: Queues,
}

fn deadline_nanos(expires: Option<Time>) -> u64 {
    expires.map_or(0, Time::as_nanos)
}

impl Store {
    /// An empty store; `hash_seed` should be secret where strangers choose keys.
    pub fn new(hash_seed: u64) -> Self {
        Self::with_limits(hash_seed, Time::ZERO, usize::MAX)
    }

    /// An empty store that keeps [`Entry::changed`] relative to `epoch` (2.1 years reach; earlier
    /// and later moments are held at the ends), with at most `arena_bytes_max` octets of blocks (in
    /// whole MiB, at least one, at most 8 GiB).
    pub fn with_limits(hash_seed: u64, epoch: Time, arena_bytes_max: usize) -> Self {
        Self {
            blocks: Blocks::with_limit(arena_bytes_max),
            hasher: KeyHasher::new(hash_seed),
            epoch,
            index: Index::new(),
            origins: Origins::with_limit(Origins::LEN_MAX),
            wheel: Wheel::new(),
            queues: Queues::new(),
        }
    }

    /// Hash of a key for [`find`](Self::find), [`instances`](Self::instances) and
    /// [`insert`](Self::insert); equals `KeyHasher::new(hash_seed).hash(key)`.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash(key)
    }

    /// The entry of (key, originator).
    #[inline]
    // D-15: the pair is compared octet for octet.
    pub fn find(&self, hash: u64, key: &[u8], originator: &[u8]) -> Option<EntryId> {
        self.index.find(hash, |id| {
            let (origin, stored) = self.blocks.names(id);
            is_same(stored, key) && is_same(self.origins.id(origin), originator)
        })
    }

    /// The entries of a key, one per originator, in no order.
    #[inline]
    pub fn instances(&self, hash: u64, key: &[u8]) -> impl Iterator<Item = EntryId> {
        self.index
            .candidates(hash)
            .filter(move |id| is_same(self.blocks.key(*id), key))
    }

    /// Whether it can be told at a glance that an entry with this hash is the only instance of its
    /// key; `false`: ask [`instances`](Self::instances).
    #[inline]
    pub fn is_alone(&self, hash: u64) -> bool {
        self.index.is_alone(hash)
    }

    /// The look at the cache that many lookups take, all at once: first the index for every hash,
    /// then the entries it shows, so that reads from memory overlap instead of waiting for each
    /// other. It changes nothing and decides nothing; lookups afterwards are as right as before,
    /// and find what they need in the processor's cache. Only the first [`PASS_LEN`] hashes count.
    #[inline]
    pub fn warm(&self, hashes: &[u64]) {
        if self.is_large() {
            self.warm_all(hashes);
        }
    }

    /// Whether the processor's own cache is too small for all of it.
    #[inline]
    pub const fn is_large(&self) -> bool {
        self.len() >= LARGE_LEN_MIN
    }

    fn warm_all(&self, hashes: &[u64]) {
        let hashes = &hashes[..hashes.len().min(PASS_LEN)];
        let touched = hashes.iter().map(|hash| self.index.touch(*hash));
        black_box(touched.fold(0, |all, it| all ^ it));
        let shown = hashes.iter().filter_map(|hash| self.index.guess(*hash));
        self.blocks.warm(shown, |link| self.queues.touch(link));
    }

    /// Sequence of an entry: the same as that of its view.
    #[inline]
    pub fn seq(&self, id: EntryId) -> CsaSeq {
        self.blocks.seq(id)
    }

    /// Body of an entry: the same as that of its view.
    #[inline]
    pub fn body(&self, id: EntryId) -> &[u8] {
        self.blocks.parts(id).2
    }

    /// Flags of an entry: the same as those of its view.
    #[inline]
    pub fn flags(&self, id: EntryId) -> EntryFlags {
        self.blocks.head(id).flags
    }

    /// Originator id of an entry: the same as that of its view.
    #[inline]
    pub fn originator(&self, id: EntryId) -> &[u8] {
        self.origins.id(self.blocks.names(id).0)
    }

    /// View of an entry.
    #[inline]
    pub fn entry(&self, id: EntryId) -> Entry<'_> {
        let (head, key, body) = self.blocks.parts(id);
        Entry {
            seq: head.seq,
            hop_count: head.hop_count,
            key,
            originator: self.origins.id(head.origin),
            origin: head.origin,
            body,
            expires: self
                .blocks
                .timer(id)
                .map(|timer| Time::from_nanos(timer.deadline_nanos)),
            changed: self.changed_at(head.changed),
            flags: head.flags,
        }
    }

    /// Octets of the stand-alone summary on the wire.
    #[inline]
    pub fn summary_len(&self, id: EntryId) -> usize {
        let (origin, key) = self.blocks.names(id);
        SUMMARY_LEN + key.len() + self.origins.id(origin).len()
    }

    /// Octets of the whole record on the wire.
    #[inline]
    pub fn wire_len(&self, id: EntryId) -> usize {
        let head = self.blocks.head(id);
        let originator = self.origins.id(head.origin);
        SUMMARY_LEN + usize::from(head.key_len) + originator.len() + usize::from(head.body_len)
    }

    /// Adds an entry. `hash` is that of its key.
    ///
    /// Errors: [`StoreFull`]; nothing was changed.
    pub fn insert(&mut self, hash: u64, new: &NewEntry<'_>) -> Result<EntryId, StoreFull> {
        debug_assert!(
            self.find(hash, new.key, new.originator).is_none(),
            "entry exists"
        );
        let origin = self
            .origins
            .acquire(&self.hasher, new.originator)
            .ok_or(StoreFull::Originators)?;
        let head = Head {
            changed: self.changed_steps(new.changed),
            hop_count: new.hop_count,
            body_len: u16::try_from(new.body.len()).expect("a record has at most 65,535 octets"),
            key_len: u8::try_from(new.key.len()).expect("a key has at most 255 octets"),
            flags: new.flags,
            expires: new.expires.is_some(),
            origin,
            seq: new.seq,
        };
        let deadline = deadline_nanos(new.expires);
        let Some(id) = self.blocks.insert(&head, deadline, new.key, new.body) else {
            self.origins.release(&self.hasher, origin);
            return Err(StoreFull::Arena);
        };
        self.index.insert(&self.hasher, &self.blocks, hash, id);
        if head.expires {
            self.wheel.arm(&mut self.blocks, id);
        }
        Ok(id)
    }

    /// Replaces an entry's record; it keeps its number and its places in retransmit queues.
    ///
    /// Errors: [`StoreFull`]; nothing was changed.
    pub fn update(&mut self, id: EntryId, update: &Update<'_>) -> Result<(), StoreFull> {
        let head = Head {
            changed: self.changed_steps(update.changed),
            hop_count: update.hop_count,
            body_len: u16::try_from(update.body.len()).expect("a record has at most 65,535 octets"),
            flags: update.flags,
            expires: update.expires.is_some(),
            seq: update.seq,
            ..self.blocks.head(id)
        };
        let armed = self.wheel.is_armed(&self.blocks, id);
        self.wheel.disarm(&mut self.blocks, id);
        let deadline = deadline_nanos(update.expires);
        if self
            .blocks
            .update(id, &head, deadline, update.body)
            .is_none()
        {
            if armed {
                self.wheel.arm(&mut self.blocks, id);
            }
            return Err(StoreFull::Arena);
        }
        if head.expires {
            self.wheel.arm(&mut self.blocks, id);
        }
        Ok(())
    }

    /// Gives an entry other hops to travel on with; nothing else of it changes.
    pub fn set_hop_count(&mut self, id: EntryId, hop_count: u16) {
        self.blocks.set_hop_count(id, hop_count);
    }

    /// Removes an entry from the store and from every retransmit queue.
    pub fn remove(&mut self, id: EntryId) {
        let (head, key, _) = self.blocks.parts(id);
        self.index.remove(self.hasher.hash(key), id);
        self.queues.forget(&mut self.blocks, id);
        self.wheel.disarm(&mut self.blocks, id);
        self.blocks.remove(id);
        self.origins.release(&self.hasher, head.origin);
    }

    /// Entries present.
    pub const fn len(&self) -> usize {
        self.blocks.slots.live() as usize
    }

    /// Whether there is no entry.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets allocated for blocks, index and entry numbers.
    pub fn bytes(&self) -> usize {
        self.blocks.arena.bytes() + self.index.bytes() + self.blocks.slots.bytes()
    }

    /// Octets in use for what the store was given: blocks, index, entry numbers, originator ids and
    /// retransmit queues, without the room that is free for more in what is allocated.
    pub fn used_bytes(&self) -> usize {
        let blocks = usize::try_from(self.blocks.arena.live_bytes()).unwrap_or(usize::MAX);
        let slots = self.blocks.slots.used_bytes();
        let tables = self.index.used_bytes() + slots + self.origins.bytes();
        blocks
            .saturating_add(tables)
            .saturating_add(self.queues.used_bytes())
    }

    /// Octets that a new entry adds to [`used_bytes`](Self::used_bytes), growth of tables and a new
    /// originator id aside.
    pub fn cost(key_len: usize, body_len: usize, expires: bool) -> usize {
        Blocks::cost(key_len, body_len, expires) + size_of::<u32>()
    }

    /// Sizes in detail.
    pub fn stats(&self) -> Stats {
        Stats {
            entries: self.len(),
            originators: self.origins.len(),
            expiring: self.wheel.len(),
            arena_bytes: self.blocks.arena.bytes(),
            arena_live_bytes: usize::try_from(self.blocks.arena.live_bytes()).unwrap_or(usize::MAX),
            index_bytes: self.index.bytes(),
            slot_bytes: self.blocks.slots.bytes(),
            queue_bytes: self.queues.bytes(),
        }
    }

    /// Writes the entry's record to the front of `out` and returns its octets (at most
    /// [`wire_len`](Self::wire_len), which `out` must hold). The body is as stored: rewrite its
    /// remaining life afterwards (K-03).
    #[inline]
    pub fn encode_record(&self, id: EntryId, hop_count: u16, out: &mut [u8]) -> usize {
        let (head, key, body) = self.blocks.parts(id);
        encode_record(out, &self.summary(&head, key, hop_count, false), body)
    }

    /// Writes the entry's stand-alone summary to the front of `out` and returns its octets.
    #[inline]
    pub fn encode_summary(&self, id: EntryId, hop_count: u16, null: bool, out: &mut [u8]) -> usize {
        let (head, key, _) = self.blocks.parts(id);
        encode_summary(out, &self.summary(&head, key, hop_count, null))
    }

    fn summary<'a>(
        &'a self,
        head: &Head,
        key: &'a [u8],
        hop_count: u16,
        null: bool,
    ) -> SummaryFields<'a> {
        let originator = self.origins.id(head.origin);
        SummaryFields {
            hop_count,
            null,
            seq: head.seq,
            key,
            originator,
        }
    }

    #[inline]
    fn changed_at(&self, steps: u32) -> Time {
        let since = u64::from(steps) * CHANGED_STEP_NANOS;
        Time::from_nanos(self.epoch.as_nanos().saturating_add(since))
    }

    #[inline]
    fn changed_steps(&self, changed: Time) -> u32 {
        let since = changed.as_nanos().saturating_sub(self.epoch.as_nanos());
        u32::try_from(since / CHANGED_STEP_NANOS).unwrap_or(u32::MAX)
    }
}

/// Expiry. After every call that may move a deadline ([`insert`](Store::insert),
/// [`update`](Store::update), [`remove`](Store::remove), [`pop_expired`](Store::pop_expired)) ask
/// [`next_expiry`](Store::next_expiry) anew.
impl Store {
    /// When to call [`pop_expired`](Self::pop_expired) next: at the latest one millisecond after
    /// the earliest deadline, possibly before it.
    pub fn next_expiry(&self) -> Option<Time> {
        self.wheel.next()
    }

    /// One entry whose deadline has passed. It is still present but its deadline is forgotten: the
    /// caller removes or updates it. `None`: no more for now; when `next_expiry()` is nevertheless
    /// not after `now`, the bounded work of this call was used up: go on in the next turn.
    pub fn pop_expired(&mut self, now: Time) -> Option<EntryId> {
        self.wheel.pop(&mut self.blocks, now)
    }
}

#[cfg(test)]
pub(crate) mod tests;
