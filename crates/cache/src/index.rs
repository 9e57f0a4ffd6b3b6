//! Index from key hash to entry numbers, in segments: when one grows, only its share of the entries
//! is hashed again.

use hashbrown::HashTable;

use crate::blocks::Blocks;
use crate::hash::KeyHasher;
use crate::store::EntryId;

const SEGMENTS: usize = 256;
/// Below the table's tag (top seven bits), above its bucket number (low bits).
const SEGMENT_SHIFT: u32 = 48;

#[derive(Debug)]
pub(crate) struct Index {
    segments: Box<[HashTable<u32>]>,
    bytes: usize,
}

#[inline]
const fn segment(hash: u64) -> usize {
    (hash >> SEGMENT_SHIFT) as usize % SEGMENTS
}

impl Index {
    pub(crate) fn new() -> Self {
        let segments = (0..SEGMENTS).map(|_| HashTable::new()).collect();
        Self {
            segments,
            bytes: SEGMENTS * size_of::<HashTable<u32>>(),
        }
    }

    /// Octets that entries made it allocate.
    pub(crate) const fn used_bytes(&self) -> usize {
        self.bytes - SEGMENTS * size_of::<HashTable<u32>>()
    }

    /// Octets allocated.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    pub(crate) fn find(
        &self,
        hash: u64,
        mut is_it: impl FnMut(EntryId) -> bool,
    ) -> Option<EntryId> {
        self.segments[segment(hash)]
            .find(hash, |id| is_it(EntryId(*id)))
            .map(|id| EntryId(*id))
    }

    /// Candidates for the key of `hash`: the caller compares.
    #[inline]
    pub(crate) fn candidates(&self, hash: u64) -> impl Iterator<Item = EntryId> {
        self.segments[segment(hash)]
            .iter_hash(hash)
            .map(|id| EntryId(*id))
    }

    pub(crate) fn insert(&mut self, hasher: &KeyHasher, blocks: &Blocks, hash: u64, id: EntryId) {
        let table = &mut self.segments[segment(hash)];
        let grows = table.len() == table.capacity();
        let before = if grows { table.allocation_size() } else { 0 };
        table.insert_unique(hash, id.0, |other| hasher.hash(blocks.key(EntryId(*other))));
        if grows {
            self.bytes = self.bytes + table.allocation_size() - before;
        }
    }

    pub(crate) fn remove(&mut self, hash: u64, id: EntryId) {
        let found = self.segments[segment(hash)].find_entry(hash, |other| *other == id.0);
        found.expect("every entry is in the index").remove();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What `bytes` must be, counted anew.
    pub(crate) fn counted_bytes(index: &Index) -> usize {
        let tables = index.segments.iter().map(HashTable::allocation_size);
        SEGMENTS * size_of::<HashTable<u32>>() + tables.sum::<usize>()
    }
}
