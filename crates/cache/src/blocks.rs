//! Entries: number → arena block, and what stands where in a block.
//!
//! ```text
//!  0        4        8     10    12   13    14    16     20                        20 or 36
//!  +--------+--------+-----+-----+----+-----+-----+------+- - - - - - - - - - - - -+-----+------
//!  |pending |changed | hop |body |key |flags|origi|  seq | deadline:8 next:4 prev:4| key | body
//!  |(arena) |        |count|len  |len |     |nator|      | only when it expires    |     |
//!  +--------+--------+-----+-----+----+-----+-----+------+- - - - - - - - - - - - -+-----+------
//! ```
//!
//! Octets 8 to 20 are the summary header of the wire in host order, with the originator's number
//! where the wire has its length and flags. `pending` heads the entry's list of retransmit nodes,
//! `next` and `prev` are its place in the timer wheel.

use std::hint::black_box;

use scsp_wire::CsaSeq;

use crate::arena::{Arena, UNIT};
use crate::origin::OriginIndex;
use crate::slots::Slots;
use crate::store::{EntryFlags, EntryId};

const HEAD_LEN: usize = 20;
/// Where the sequence stands, in units.
const SEQ_UNIT: u32 = 4;
const TIMER_LEN: usize = 16;

/// Entries that are looked at together.
pub(crate) const PASS: usize = 32;

const FLAG_OWN_RUN: u8 = 0x01;
const FLAG_WITHDRAWN: u8 = 0x02;
const FLAG_EXPIRES: u8 = 0x04;

/// Fixed part of a block, decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) changed: u32,
    pub(crate) hop_count: u16,
    pub(crate) body_len: u16,
    pub(crate) key_len: u8,
    pub(crate) flags: EntryFlags,
    pub(crate) expires: bool,
    pub(crate) origin: OriginIndex,
    pub(crate) seq: CsaSeq,
}

impl Head {
    #[inline]
    const fn key_at(&self) -> usize {
        if self.expires {
            HEAD_LEN + TIMER_LEN
        } else {
            HEAD_LEN
        }
    }

    #[inline]
    const fn body_at(&self) -> usize {
        self.key_at() + self.key_len as usize
    }

    #[inline]
    fn units(&self) -> u32 {
        Arena::units(self.body_at() + usize::from(self.body_len))
    }

    #[inline]
    fn encode(&self, out: &mut [u8; HEAD_LEN]) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.flags.own_run, FLAG_OWN_RUN)
            | flag(self.flags.withdrawn, FLAG_WITHDRAWN)
            | flag(self.expires, FLAG_EXPIRES);
        out[4..8].copy_from_slice(&self.changed.to_ne_bytes());
        out[8..10].copy_from_slice(&self.hop_count.to_ne_bytes());
        out[10..12].copy_from_slice(&self.body_len.to_ne_bytes());
        out[12] = self.key_len;
        out[13] = flags;
        out[14..16].copy_from_slice(&self.origin.0.to_ne_bytes());
        out[16..20].copy_from_slice(&self.seq.get().to_ne_bytes());
    }

    #[inline]
    fn decode(block: &[u8; HEAD_LEN]) -> Self {
        let two = |at: usize| u16::from_ne_bytes([block[at], block[at + 1]]);
        let four = |at: usize| [block[at], block[at + 1], block[at + 2], block[at + 3]];
        Self {
            changed: u32::from_ne_bytes(four(4)),
            hop_count: two(8),
            body_len: two(10),
            key_len: block[12],
            flags: EntryFlags {
                own_run: block[13] & FLAG_OWN_RUN != 0,
                withdrawn: block[13] & FLAG_WITHDRAWN != 0,
            },
            expires: block[13] & FLAG_EXPIRES != 0,
            origin: OriginIndex(two(14)),
            seq: seq_of(i32::from_ne_bytes(four(16))),
        }
    }
}

#[inline]
fn seq_of(stored: i32) -> CsaSeq {
    CsaSeq::new(stored).unwrap_or(CsaSeq::FIRST) // Stored from a valid sequence.
}

/// An expiring entry's place in the timer wheel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer {
    pub(crate) deadline_nanos: u64,
    pub(crate) next: u32,
    pub(crate) prev: u32,
}

impl Timer {
    /// `prev` of an entry that is not in the wheel.
    pub(crate) const UNARMED: u32 = u32::MAX;
}

/// All entries of a store.
#[derive(Debug)]
pub(crate) struct Blocks {
    pub(crate) arena: Arena,
    pub(crate) slots: Slots,
}

impl Blocks {
    pub(crate) fn with_limit(arena_bytes: usize) -> Self {
        Self {
            arena: Arena::with_limit(arena_bytes),
            slots: Slots::new(),
        }
    }

    /// Octets of the block of such an entry.
    pub(crate) fn cost(key_len: usize, body_len: usize, expires: bool) -> usize {
        let timer = if expires { TIMER_LEN } else { 0 };
        Arena::units(HEAD_LEN + timer + key_len + body_len) as usize * UNIT
    }

    #[inline]
    fn head_at(&self, address: u32) -> Head {
        Head::decode(self.arena.array(address))
    }

    #[inline]
    pub(crate) fn head(&self, id: EntryId) -> Head {
        self.head_at(self.slots.address(id.0))
    }

    pub(crate) fn set_hop_count(&mut self, id: EntryId, hop_count: u16) {
        let address = self.slots.address(id.0);
        let head = Head {
            hop_count,
            ..self.head_at(address)
        };
        head.encode({
            let head = self.arena.octets_mut(address, HEAD_LEN);
            head.try_into().expect("it has that length")
        });
    }

    /// Sequence of the entry, read alone.
    #[inline]
    pub(crate) fn seq(&self, id: EntryId) -> CsaSeq {
        let word = self.arena.word(self.slots.address(id.0) + SEQ_UNIT);
        seq_of(word.cast_signed())
    }

    /// The originator's number, and the key.
    #[inline]
    pub(crate) fn names(&self, id: EntryId) -> (OriginIndex, &[u8]) {
        let address = self.slots.address(id.0);
        let head = self.head_at(address);
        let block = self.arena.octets(address, head.body_at());
        (head.origin, &block[head.key_at()..])
    }

    /// Head, key and body.
    #[inline]
    pub(crate) fn parts(&self, id: EntryId) -> (Head, &[u8], &[u8]) {
        let address = self.slots.address(id.0);
        let head = self.head_at(address);
        let len = head.body_at() + usize::from(head.body_len);
        let (rest, body) = self.arena.octets(address, len).split_at(head.body_at());
        (head, &rest[head.key_at()..], body)
    }

    #[inline]
    pub(crate) fn key(&self, id: EntryId) -> &[u8] {
        self.names(id).1
    }

    /// A new block for `head`, `key` and `body`; `None` when the arena's limit is reached.
    fn write(&mut self, head: &Head, deadline_nanos: u64, key: &[u8], body: &[u8]) -> Option<u32> {
        let address = self.arena.allocate(head.units())?;
        let (key_at, key_end) = (head.key_at(), head.body_at());
        self.rewrite(address, head, deadline_nanos, body)[key_at..key_end].copy_from_slice(key);
        Some(address)
    }

    /// Writes everything but link and key; returns the block.
    #[inline]
    fn rewrite(
        &mut self,
        address: u32,
        head: &Head,
        deadline_nanos: u64,
        body: &[u8],
    ) -> &mut [u8] {
        let block = self.arena.octets_mut(address, head.body_at() + body.len());
        let fixed = block.first_chunk_mut();
        head.encode(fixed.expect("a block begins with its head"));
        if head.expires {
            block[20..28].copy_from_slice(&deadline_nanos.to_ne_bytes());
            block[28..36].fill(0xFF); // Unarmed.
        }
        block[head.body_at()..].copy_from_slice(body);
        block
    }

    /// Stores a new entry, not yet in the timer wheel.
    pub(crate) fn insert(
        &mut self,
        head: &Head,
        deadline_nanos: u64,
        key: &[u8],
        body: &[u8],
    ) -> Option<EntryId> {
        if self.slots.is_full() {
            return None;
        }
        let address = self.write(head, deadline_nanos, key, body)?;
        Some(EntryId(self.slots.allocate(address)))
    }

    /// Replaces everything but the key; the entry must not be in the timer wheel. On `None` (the
    /// arena's limit) the entry is as before.
    pub(crate) fn update(
        &mut self,
        id: EntryId,
        head: &Head,
        deadline_nanos: u64,
        body: &[u8],
    ) -> Option<()> {
        let old = self.slots.address(id.0);
        let before = self.head_at(old);
        if before.units() == head.units() && before.expires == head.expires {
            self.rewrite(old, head, deadline_nanos, body);
            return Some(());
        }
        let mut key = [0; u8::MAX as usize];
        let key = &mut key[..usize::from(head.key_len)];
        key.copy_from_slice(self.key(id));
        let link = self.arena.link(old);
        let new = self.write(head, deadline_nanos, key, body)?;
        self.arena.set_link(new, link);
        self.arena.release(old, before.units());
        self.slots.set_address(id.0, new);
        Some(())
    }

    pub(crate) fn remove(&mut self, id: EntryId) {
        let address = self.slots.address(id.0);
        let units = self.head_at(address).units();
        self.arena.release(address, units);
        self.slots.release(id.0);
    }

    /// Reads the first cache lines of entries, so many at once that the reads overlap: what follows
    /// finds them in the cache. `touch` likewise reads what an entry's link refers to.
    pub(crate) fn warm(&self, ids: impl Iterator<Item = EntryId>, touch: impl Fn(u32) -> u32) {
        let mut addresses = [0; PASS];
        let mut len = 0;
        for (address, id) in addresses.iter_mut().zip(ids) {
            *address = self.slots.address(id.0);
            len += 1;
        }
        let touched = addresses[..len].iter().map(|it| self.arena.touch(*it));
        black_box(touched.fold(0, |all, it| all ^ it));
        let linked = addresses[..len]
            .iter()
            .map(|it| touch(self.arena.link(*it)));
        black_box(linked.fold(0, |all, it| all ^ it));
    }

    /// First node of the entry's pending list.
    #[inline]
    pub(crate) fn link(&self, id: EntryId) -> u32 {
        self.arena.link(self.slots.address(id.0))
    }

    #[inline]
    pub(crate) fn set_link(&mut self, id: EntryId, link: u32) {
        self.arena.set_link(self.slots.address(id.0), link);
    }

    /// `None` for an entry that does not expire.
    #[inline]
    pub(crate) fn timer(&self, id: EntryId) -> Option<Timer> {
        let address = self.slots.address(id.0);
        if !self.head_at(address).expires {
            return None;
        }
        let deadline = self.arena.octets(address + 5, 8);
        Some(Timer {
            deadline_nanos: u64::from_ne_bytes(deadline.try_into().expect("eight octets")),
            next: self.arena.word(address + 7),
            prev: self.arena.word(address + 8),
        })
    }

    /// Sets the links of an entry that expires.
    #[inline]
    pub(crate) fn set_timer_next(&mut self, id: EntryId, next: u32) {
        let address = self.slots.address(id.0);
        self.arena.set_word(address + 7, next);
    }

    #[inline]
    pub(crate) fn set_timer_prev(&mut self, id: EntryId, prev: u32) {
        let address = self.slots.address(id.0);
        self.arena.set_word(address + 8, prev);
    }
}
