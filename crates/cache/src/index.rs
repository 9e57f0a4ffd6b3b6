//! Index from key hash to entry numbers: extendible hashing in pages of 4 KiB.
//!
//! ```text
//! hash:  |  …  | tag: 8 |  …  | bucket: 6 | place: 32 |
//! place ──stretch──► top bits ──► directory ──► page ──► bucket: 12 tags, 12 numbers, 64 octets
//! ```
//!
//! A lookup looks at one cache line, mostly. A bucket counts the entries that had to go on to a
//! later bucket of the page, so removal leaves nothing behind. A page that is full is split in two,
//! and only its own entries are hashed again: growing takes a few microseconds, copies no table and
//! frees no memory.
//!
//! Hashes are stretched so that one end of the directory is filled twice as densely as the other.
//! With even hashes all pages would be full at the same time; so at any number of entries some have
//! just been split and others are nearly full, and memory grows as evenly as entries do.

use crate::blocks::{Blocks, PASS};
use crate::hash::KeyHasher;
use crate::store::EntryId;

const SLOTS: usize = 12;
const BUCKETS: usize = 64;
/// Entries of a page at most: eleven of twelve slots.
const PAGE_LEN_MAX: u16 = 704;
/// Pages allocated at once.
const CHUNK_PAGES: usize = 16;
/// Bits of a hash that the directory sees.
const PLACE_BITS: u32 = 32;
const BUCKET_SHIFT: u32 = 32;
/// Above the bucket's bits, below those that pick the shard.
const TAG_OCTET: usize = 5;
/// The directory has at most so many places for each page. What is crowded beyond, since many
/// entries have the same key, is in pages that are chained.
const PLACES_PER_PAGE_MAX: usize = 8;
const PLACES_MIN: usize = 16;
const NIL: u32 = u32::MAX;

/// A cache line of entries.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Bucket {
    /// 0: the slot is empty.
    tags: [u8; SLOTS],
    /// Entries of this bucket that are in a later one.
    overflow: u16,
    /// Whether the page has another one chained to it: 1 or 0.
    chained: u16,
    ids: [u32; SLOTS],
}

const _: () = assert!(size_of::<Bucket>() == 64, "a bucket is a cache line");

impl Bucket {
    const EMPTY: Self = Self {
        tags: [0; SLOTS],
        overflow: 0,
        chained: 0,
        ids: [0; SLOTS],
    };

    /// Slots with this tag, as the top bit of one octet each.
    #[inline]
    fn matches(&self, tag: u8) -> Matches {
        const LOW: u64 = 0x0101_0101_0101_0101;
        const MOST: u64 = 0x7F7F_7F7F_7F7F_7F7F;
        let first = self.tags.first_chunk().copied().unwrap_or_default();
        let last = self.tags.last_chunk().copied().unwrap_or_default();
        let splat = LOW * u64::from(tag);
        let zeros = |word: u64| !((word & MOST).wrapping_add(MOST) | word | MOST);
        let first = zeros(u64::from_le_bytes(first) ^ splat);
        let last = zeros(u64::from(u32::from_le_bytes(last)) ^ (splat & 0xFFFF_FFFF));
        Matches {
            first,
            last: last & 0x8080_8080,
        }
    }
}

/// Numbers of slots.
struct Matches {
    first: u64,
    last: u64,
}

impl Iterator for Matches {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let (bits, base) = if self.first != 0 {
            (&mut self.first, 0)
        } else if self.last != 0 {
            (&mut self.last, 8)
        } else {
            return None;
        };
        let slot = bits.trailing_zeros() / 8;
        *bits &= *bits - 1;
        Some(base + slot as usize)
    }
}

type Page = [Bucket; BUCKETS];

/// What is known of a page.
#[derive(Clone, Copy, Debug)]
struct PageState {
    len: u16,
    /// Bits of the place that its entries have in common.
    depth: u8,
    /// Another page for the same places.
    next: u32,
}

#[derive(Debug)]
pub(crate) struct Index {
    chunks: Vec<Box<[Page]>>,
    states: Vec<PageState>,
    /// Page of each place: `1 << depth` of them.
    directory: Vec<u32>,
    depth: u32,
    /// Pages that are not in use.
    free: Vec<u32>,
    /// Entries of a page that is being split, kept for its allocation.
    moving: Vec<u32>,
}

/// Where in the directory a hash falls, of 2^32.
#[inline]
const fn place(hash: u64) -> u64 {
    let even = hash & 0xFFFF_FFFF;
    let bend = (even * (0xFFFF_FFFF - even)) >> PLACE_BITS;
    even + ((bend * 87) >> 8)
}

#[inline]
const fn home(hash: u64) -> usize {
    (hash >> BUCKET_SHIFT) as usize % BUCKETS
}

#[inline]
const fn tag(hash: u64) -> u8 {
    let tag = hash.to_le_bytes()[TAG_OCTET];
    if tag == 0 { 1 } else { tag }
}

impl Index {
    pub(crate) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            states: Vec::new(),
            directory: Vec::new(),
            depth: 0,
            free: Vec::new(),
            moving: Vec::new(),
        }
    }

    /// Octets that entries made it allocate.
    pub(crate) const fn used_bytes(&self) -> usize {
        (self.states.len() - self.free.len()) * size_of::<Page>()
            + self.directory.len() * size_of::<u32>()
    }

    /// Octets allocated.
    pub(crate) fn bytes(&self) -> usize {
        let pages = self.chunks.iter().map(|chunk| chunk.len()).sum::<usize>();
        pages * size_of::<Page>()
            + self.states.capacity() * size_of::<PageState>()
            + (self.directory.capacity() + self.free.capacity()) * size_of::<u32>()
    }

    #[inline]
    fn page(&self, page: u32) -> &Page {
        &self.chunks[page as usize / CHUNK_PAGES][page as usize % CHUNK_PAGES]
    }

    #[inline]
    fn page_mut(&mut self, page: u32) -> &mut Page {
        &mut self.chunks[page as usize / CHUNK_PAGES][page as usize % CHUNK_PAGES]
    }

    /// The first page for a hash; there is one once anything was inserted.
    #[inline]
    fn first_page(&self, hash: u64) -> Option<u32> {
        let at = place(hash) >> (PLACE_BITS - self.depth);
        self.directory.get(usize::try_from(at).ok()?).copied()
    }

    #[inline]
    pub(crate) fn find(
        &self,
        hash: u64,
        mut is_it: impl FnMut(EntryId) -> bool,
    ) -> Option<EntryId> {
        let mut candidates = self.candidates(hash);
        loop {
            let id = candidates.next()?;
            if is_it(id) {
                return Some(id);
            }
        }
    }

    /// Candidates for the key of `hash`: the caller compares.
    #[inline]
    pub(crate) fn candidates(&self, hash: u64) -> Candidates<'_> {
        let page = self.first_page(hash).unwrap_or(NIL);
        let (bucket, matches) = if page == NIL {
            (&Bucket::EMPTY, Matches { first: 0, last: 0 })
        } else {
            let bucket = &self.page(page)[home(hash)];
            (bucket, bucket.matches(tag(hash)))
        };
        Candidates {
            index: self,
            hash,
            page,
            bucket,
            matches,
            passed: 0,
        }
    }

    /// Whether, by its one cache line alone, an entry with this hash is the only one; `false` may be
    /// wrong.
    #[inline]
    pub(crate) fn is_alone(&self, hash: u64) -> bool {
        self.first_page(hash).is_some_and(|page| {
            let bucket = &self.page(page)[home(hash)];
            let matches = bucket.matches(tag(hash));
            let count = matches.first.count_ones() + matches.last.count_ones();
            count == 1 && bucket.overflow | bucket.chained == 0
        })
    }

    /// Reads the cache line in which a lookup begins; the value means nothing.
    #[inline]
    pub(crate) fn touch(&self, hash: u64) -> u32 {
        let page = self.first_page(hash).map(|page| self.page(page));
        page.map_or(0, |page| page[home(hash)].ids[0])
    }

    /// The entry that a lookup will see first.
    #[inline]
    pub(crate) fn guess(&self, hash: u64) -> Option<EntryId> {
        let bucket = &self.page(self.first_page(hash)?)[home(hash)];
        let slot = bucket.matches(tag(hash)).next()?;
        Some(EntryId(bucket.ids[slot]))
    }

    pub(crate) fn insert(&mut self, hasher: &KeyHasher, blocks: &Blocks, hash: u64, id: EntryId) {
        let page = self.page_with_room(hasher, blocks, hash);
        self.put(page, hash, id.0);
    }

    /// A page for the hash that has room, made if need be.
    fn page_with_room(&mut self, hasher: &KeyHasher, blocks: &Blocks, hash: u64) -> u32 {
        loop {
            let Some(first) = self.first_page(hash) else {
                let page = self.add_page(0);
                self.directory.push(page);
                continue;
            };
            let mut page = first;
            while self.states[page as usize].len == PAGE_LEN_MAX {
                page = self.states[page as usize].next;
                if page == NIL {
                    break;
                }
            }
            if page != NIL {
                return page;
            }
            if !self.split(hasher, blocks, hash, first) {
                return self.chain_page(first);
            }
        }
    }

    /// One more page for the places of `first`.
    fn chain_page(&mut self, first: u32) -> u32 {
        let page = self.add_page(self.states[first as usize].depth);
        let after = std::mem::replace(&mut self.states[first as usize].next, page);
        self.states[page as usize].next = after;
        for (page, next) in [(first, page), (page, after)] {
            for bucket in self.page_mut(page) {
                bucket.chained = u16::from(next != NIL);
            }
        }
        page
    }

    fn add_page(&mut self, depth: u8) -> u32 {
        let state = PageState {
            len: 0,
            depth,
            next: NIL,
        };
        if let Some(page) = self.free.pop() {
            self.states[page as usize] = state;
            return page;
        }
        let page = self.states.len();
        let empty = [Bucket::EMPTY; BUCKETS];
        if page == 0 {
            self.chunks.push(vec![empty].into_boxed_slice());
        } else if page < CHUNK_PAGES && page == self.chunks[0].len() {
            // The first chunk grows, since a small store is not to pay for a whole one.
            let mut pages = std::mem::take(&mut self.chunks[0]).into_vec();
            pages.resize(2 * page, empty);
            self.chunks[0] = pages.into_boxed_slice();
        } else if page / CHUNK_PAGES == self.chunks.len() {
            let chunk = vec![empty; CHUNK_PAGES].into_boxed_slice();
            self.chunks.push(chunk);
        }
        self.states.push(state);
        u32::try_from(page).expect("fewer pages than entries")
    }

    /// Splits the first page of a hash, with those chained to it, in two; `false` when the directory
    /// is as large as the pages deserve.
    fn split(&mut self, hasher: &KeyHasher, blocks: &Blocks, hash: u64, first: u32) -> bool {
        let depth = self.states[first as usize].depth;
        if u32::from(depth) == self.depth {
            let places = self.directory.len() * 2;
            let max = (self.states.len() * PLACES_PER_PAGE_MAX).max(PLACES_MIN);
            if places > max || self.depth + 1 > PLACE_BITS - 1 {
                return false;
            }
            self.directory = self.directory.iter().flat_map(|it| [*it, *it]).collect();
            self.depth += 1;
        }
        // Then all find room in the two, whichever they fall to.
        let is_single = self.states[first as usize].next == NIL;
        let mut moving = std::mem::take(&mut self.moving);
        moving.clear();
        let mut page = first;
        while page != NIL {
            for bucket in self.page_mut(page) {
                let full = bucket.tags.iter().zip(&bucket.ids);
                moving.extend(full.filter(|(tag, _)| **tag != 0).map(|(_, id)| *id));
                *bucket = Bucket::EMPTY;
            }
            let next = std::mem::replace(&mut self.states[page as usize].next, NIL);
            if page != first {
                self.free.push(page);
            }
            page = next;
        }
        let second = self.add_page(depth + 1);
        self.states[first as usize] = self.states[second as usize];
        // The places of the old page are a run; its second half gets the new page.
        let run = 1_usize << (self.depth - u32::from(depth));
        let at = usize::try_from(place(hash) >> (PLACE_BITS - self.depth)).unwrap_or(0);
        let start = at & !(run - 1);
        self.directory[start + run / 2..start + run].fill(second);
        for ids in moving.chunks(PASS) {
            blocks.warm(ids.iter().map(|id| EntryId(*id)), |_| 0);
            for id in ids {
                let hash = hasher.hash(blocks.key(EntryId(*id)));
                let page = if is_single {
                    let bit = PLACE_BITS - 1 - u32::from(depth);
                    if place(hash) >> bit & 1 == 0 {
                        first
                    } else {
                        second
                    }
                } else {
                    self.page_with_room(hasher, blocks, hash)
                };
                self.put(page, hash, *id);
            }
        }
        self.moving = moving;
        true
    }

    /// Puts an entry into a page that has room.
    fn put(&mut self, page: u32, hash: u64, id: u32) {
        let tag = tag(hash);
        self.states[page as usize].len += 1;
        let buckets = self.page_mut(page);
        let mut at = home(hash);
        loop {
            let bucket = &mut buckets[at];
            if let Some(slot) = bucket.matches(0).next() {
                bucket.tags[slot] = tag;
                bucket.ids[slot] = id;
                return;
            }
            bucket.overflow += 1;
            at = (at + 1) % BUCKETS;
        }
    }

    pub(crate) fn remove(&mut self, hash: u64, id: EntryId) {
        let mut page = self.first_page(hash).unwrap_or(NIL);
        while page != NIL {
            if take(self.page_mut(page), hash, id.0) {
                self.states[page as usize].len -= 1;
                return;
            }
            page = self.states[page as usize].next;
        }
        panic!("every entry is in the index");
    }
}

/// Takes an entry out of a page; whether it was there.
fn take(buckets: &mut Page, hash: u64, id: u32) -> bool {
    let (home, tag) = (home(hash), tag(hash));
    for passed in 0..BUCKETS {
        let bucket = &mut buckets[(home + passed) % BUCKETS];
        let found = bucket.matches(tag).find(|slot| bucket.ids[*slot] == id);
        if let Some(slot) = found {
            bucket.tags[slot] = 0;
            for before in 0..passed {
                buckets[(home + before) % BUCKETS].overflow -= 1;
            }
            return true;
        }
        if bucket.overflow == 0 {
            return false;
        }
    }
    false
}

/// Walk over the entries whose key may have a hash.
pub(crate) struct Candidates<'a> {
    index: &'a Index,
    hash: u64,
    page: u32,
    bucket: &'a Bucket,
    matches: Matches,
    /// Buckets of the page before this one.
    passed: usize,
}

impl Candidates<'_> {
    /// The next bucket that may have something of the hash.
    #[cold]
    fn go_on(&mut self) -> bool {
        self.passed += 1;
        if self.bucket.overflow == 0 || self.passed == BUCKETS {
            let next = self.index.states[self.page as usize].next;
            if next == NIL {
                self.bucket = &Bucket::EMPTY;
                return false;
            }
            (self.page, self.passed) = (next, 0);
        }
        let at = (home(self.hash) + self.passed) % BUCKETS;
        self.bucket = &self.index.page(self.page)[at];
        self.matches = self.bucket.matches(tag(self.hash));
        true
    }
}

impl Iterator for Candidates<'_> {
    type Item = EntryId;

    #[inline]
    fn next(&mut self) -> Option<EntryId> {
        loop {
            if let Some(slot) = self.matches.next() {
                return Some(EntryId(self.bucket.ids[slot]));
            }
            if self.bucket.overflow | self.bucket.chained == 0 || !self.go_on() {
                return None;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
