//! Octets of all blocks, in chunks of 1 MiB.
//!
//! A block is a run of 4-octet units inside one chunk. Its owner knows its length, so a block in
//! use costs no octet of overhead; only the top bits of its first word belong to the arena:
//!
//! ```text
//! in use:  [0|P|slack:2|link:28] …owner's octets…        P: the block before this one is free
//! free:    [1|0|size in units  ] [next] [prev] … [size]  of the same size class; size at the end
//! ```
//!
//! Free blocks merge with free neighbours at once and are kept in lists by size class (exact up to
//! 63 units, then 32 classes per power of two), found through a bitmap: every operation is O(1).

/// Octets of the unit that blocks are measured in.
pub(crate) const UNIT: usize = 4;
const CHUNK_BITS: u32 = 18;
/// Units of a chunk, and of the largest block.
const CHUNK_UNITS: u32 = 1 << CHUNK_BITS;
const CHUNK_LEN: usize = CHUNK_UNITS as usize * UNIT;
/// Chunks an address of 31 bits reaches: 8 GiB.
const CHUNKS_MAX: usize = 1 << (31 - CHUNK_BITS);

const FREE: u32 = 1 << 31;
const PREV_FREE: u32 = 1 << 30;
const SLACK_SHIFT: u32 = 28;
const SLACK: u32 = 3 << SLACK_SHIFT;
/// Largest value of a block's link word, by convention "none".
pub(crate) const LINK_NIL: u32 = (1 << SLACK_SHIFT) - 1;

/// Units of the smallest block: a free one holds four words.
const BLOCK_UNITS_MIN: u32 = 4;
const NIL: u32 = u32::MAX;
const GONE: &str = "a chunk with a block is there";
const CLASSES: usize = 449;
const CLASS_WORDS: usize = CLASSES.div_ceil(64);

type Chunk = [u8; CHUNK_LEN];

/// Allocator of blocks; addresses are in units.
#[derive(Debug)]
pub(crate) struct Arena {
    /// A dropped chunk leaves its place empty, whose index is in `holes`.
    chunks: Vec<Option<Box<Chunk>>>,
    holes: Vec<usize>,
    chunks_max: usize,
    /// Chunks that are one free block; a second one is given back to the system.
    idle_chunks: usize,
    heads: [u32; CLASSES],
    filled: [u64; CLASS_WORDS],
    live_units: u64,
}

/// The class a free block of `units` is listed in.
fn class_of(units: u32) -> usize {
    if units < 32 {
        return units as usize;
    }
    let top = units.ilog2();
    (32 * (top - 4) + (units >> (top - 5)) - 32) as usize
}

/// The first class whose blocks all have at least `units`.
fn class_fitting(units: u32) -> usize {
    let class = class_of(units);
    let exact = units < 64 || units.trailing_zeros() >= units.ilog2() - 5;
    if exact { class } else { class + 1 }
}

impl Arena {
    /// Holds at most `limit_bytes`, rounded down to whole chunks (at least one, at most 8 GiB).
    pub(crate) fn with_limit(limit_bytes: usize) -> Self {
        Self {
            chunks: Vec::new(),
            holes: Vec::new(),
            chunks_max: (limit_bytes / CHUNK_LEN).clamp(1, CHUNKS_MAX),
            idle_chunks: 0,
            heads: [NIL; CLASSES],
            filled: [0; CLASS_WORDS],
            live_units: 0,
        }
    }

    /// Units of a block of `len` octets.
    #[inline]
    pub(crate) fn units(len: usize) -> u32 {
        u32::try_from(len.div_ceil(UNIT))
            .unwrap_or(u32::MAX)
            .max(BLOCK_UNITS_MIN)
    }

    /// Octets allocated from the system.
    pub(crate) fn bytes(&self) -> usize {
        (self.chunks.len() - self.holes.len()) * CHUNK_LEN
    }

    /// Octets of blocks in use.
    pub(crate) const fn live_bytes(&self) -> u64 {
        self.live_units * UNIT as u64
    }

    /// The block's octets from its start.
    #[inline]
    pub(crate) fn octets(&self, address: u32, len: usize) -> &[u8] {
        let start = (address % CHUNK_UNITS) as usize * UNIT;
        let chunk = self.chunks[(address >> CHUNK_BITS) as usize].as_ref();
        &chunk.expect(GONE)[start..start + len]
    }

    /// The first `LEN` of them.
    #[inline]
    pub(crate) fn array<const LEN: usize>(&self, address: u32) -> &[u8; LEN] {
        let octets = self.octets(address, LEN);
        octets.try_into().expect("it has that length")
    }

    #[inline]
    pub(crate) fn octets_mut(&mut self, address: u32, len: usize) -> &mut [u8] {
        let start = (address % CHUNK_UNITS) as usize * UNIT;
        let chunk = self.chunks[(address >> CHUNK_BITS) as usize].as_mut();
        &mut chunk.expect(GONE)[start..start + len]
    }

    #[inline]
    pub(crate) fn word(&self, address: u32) -> u32 {
        u32::from_ne_bytes(*self.array(address))
    }

    #[inline]
    pub(crate) fn set_word(&mut self, address: u32, value: u32) {
        self.octets_mut(address, UNIT)
            .copy_from_slice(&value.to_ne_bytes());
    }

    /// Reads the cache lines in which a block's head and key begin; the value means nothing.
    #[inline]
    pub(crate) fn touch(&self, address: u32) -> u32 {
        const KEY: u32 = 6;
        let key = (address & !(CHUNK_UNITS - 1)) | ((address + KEY) % CHUNK_UNITS);
        self.word(address) ^ self.word(key)
    }

    /// The 28 bits of the first word that are the owner's.
    #[inline]
    pub(crate) fn link(&self, address: u32) -> u32 {
        self.word(address) & LINK_NIL
    }

    #[inline]
    pub(crate) fn set_link(&mut self, address: u32, link: u32) {
        let tags = self.word(address) & !LINK_NIL;
        self.set_word(address, tags | link);
    }

    /// A block of `units` with link [`LINK_NIL`]; `None` when the limit is reached.
    pub(crate) fn allocate(&mut self, units: u32) -> Option<u32> {
        if units > CHUNK_UNITS {
            return None;
        }
        let address = match self.find_fitting(units) {
            Some(found) => found,
            None => {
                let chunk = self.add_chunk()?;
                self.list_free(chunk, CHUNK_UNITS);
                self.idle_chunks += 1;
                chunk
            }
        };
        let size = self.word(address) & LINK_NIL;
        self.idle_chunks -= usize::from(size == CHUNK_UNITS);
        let mut rest = size - units;
        if rest >= BLOCK_UNITS_MIN {
            self.shrink_free(address, units, rest);
            self.set_word(address, LINK_NIL);
            rest = 0;
        } else {
            self.unlist(address);
            self.set_word(address, rest << SLACK_SHIFT | LINK_NIL);
            self.mark_next(address, size, false);
        }
        self.live_units += u64::from(units + rest);
        Some(address)
    }

    /// Gives a block of `units` back.
    pub(crate) fn release(&mut self, address: u32, units: u32) {
        let tags = self.word(address);
        assert!(tags & FREE == 0, "block released twice");
        let (mut start, mut size) = (address, units + ((tags & SLACK) >> SLACK_SHIFT));
        self.live_units -= u64::from(size);
        let next = start + size;
        if !next.is_multiple_of(CHUNK_UNITS) && self.word(next) & FREE != 0 {
            size += self.unlist(next);
        }
        if tags & PREV_FREE != 0 {
            start -= self.word(start - 1);
            size += self.unlist(start);
        }
        if size == CHUNK_UNITS {
            if self.idle_chunks > 0 {
                let chunk = (start >> CHUNK_BITS) as usize;
                self.chunks[chunk] = None;
                self.holes.push(chunk);
                return;
            }
            self.idle_chunks += 1;
        }
        self.list_free(start, size);
        self.mark_next(start, size, true);
    }

    /// Tells the block behind `address..address + size` whether this one is free.
    fn mark_next(&mut self, address: u32, size: u32, free: bool) {
        let next = address + size;
        if !next.is_multiple_of(CHUNK_UNITS) {
            let word = self.word(next) & !PREV_FREE;
            self.set_word(next, if free { word | PREV_FREE } else { word });
        }
    }

    /// A free block of at least `units`.
    fn find_fitting(&self, units: u32) -> Option<u32> {
        let near = self.heads[class_of(units)];
        if near != NIL && self.word(near) & LINK_NIL >= units {
            return Some(near);
        }
        Some(self.heads[self.first_filled(class_fitting(units))?])
    }

    fn first_filled(&self, class: usize) -> Option<usize> {
        let mut word = class / 64;
        let mut bits = self.filled.get(word)? & (u64::MAX << (class % 64));
        while bits == 0 {
            word += 1;
            bits = *self.filled.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    fn add_chunk(&mut self) -> Option<u32> {
        if self.chunks.len() - self.holes.len() == self.chunks_max {
            return None;
        }
        let chunk = self.holes.pop().unwrap_or(self.chunks.len());
        let octets = vec![0; CHUNK_LEN].into_boxed_slice().try_into().ok();
        match self.chunks.get_mut(chunk) {
            Some(hole) => *hole = octets,
            None => self.chunks.push(octets),
        }
        Some(u32::try_from(chunk << CHUNK_BITS).expect("at most 2^13 chunks"))
    }

    fn list_free(&mut self, address: u32, size: u32) {
        let class = class_of(size);
        let head = self.heads[class];
        self.set_word(address, FREE | size);
        self.set_word(address + 1, head);
        self.set_word(address + 2, NIL);
        self.set_word(address + size - 1, size);
        if head != NIL {
            self.set_word(head + 2, address);
        }
        self.heads[class] = address;
        self.filled[class / 64] |= 1 << (class % 64);
    }

    /// Takes `units` from the front of a free block and leaves `rest`; of a large block that is what
    /// nearly every new one is cut from, so it stays in its list as long as its class allows.
    fn shrink_free(&mut self, address: u32, units: u32, rest: u32) {
        let class = class_of(rest);
        if class != class_of(units + rest) {
            self.unlist(address);
            self.list_free(address + units, rest);
            return;
        }
        let (next, prev) = (self.word(address + 1), self.word(address + 2));
        let left = address + units;
        self.set_word(left, FREE | rest);
        self.set_word(left + 1, next);
        self.set_word(left + 2, prev);
        self.set_word(left + rest - 1, rest);
        if next != NIL {
            self.set_word(next + 2, left);
        }
        if prev == NIL {
            self.heads[class] = left;
        } else {
            self.set_word(prev + 1, left);
        }
    }

    /// Takes a free block out of its list and returns its units.
    fn unlist(&mut self, address: u32) -> u32 {
        let size = self.word(address) & LINK_NIL;
        let (next, prev) = (self.word(address + 1), self.word(address + 2));
        if next != NIL {
            self.set_word(next + 2, prev);
        }
        if prev == NIL {
            let class = class_of(size);
            self.heads[class] = next;
            if next == NIL {
                self.filled[class / 64] &= !(1 << (class % 64));
            }
        } else {
            self.set_word(prev + 1, next);
        }
        size
    }
}

#[cfg(test)]
mod tests;
