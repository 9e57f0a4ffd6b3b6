//! Entry numbers: which arena block each entry has at the moment.

use crate::slab::Slab;

/// Top bit of a slot without an entry; the rest is the next such slot.
const DEAD: u32 = 1 << 31;
const NIL: u32 = DEAD - 1;

/// Table from entry number to arena address (31 bit); dead slots are chained and reused first.
#[derive(Debug)]
pub(crate) struct Slots {
    table: Slab<u32>,
    free: u32,
    live: u32,
}

impl Slots {
    pub(crate) const fn new() -> Self {
        Self {
            table: Slab::new(),
            free: NIL,
            live: 0,
        }
    }

    /// One more than the largest number ever given out.
    pub(crate) const fn end(&self) -> u32 {
        self.table.len()
    }

    /// Entries present.
    pub(crate) const fn live(&self) -> u32 {
        self.live
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.free == NIL && self.table.len() == NIL
    }

    /// Gives the block at `address` a number. The caller made sure of room.
    pub(crate) fn allocate(&mut self, address: u32) -> u32 {
        assert!(address & DEAD == 0, "arena addresses have 31 bits");
        self.live += 1;
        if self.free == NIL {
            return self.table.push(address);
        }
        let slot = self.free;
        self.free = *self.table.at(slot) & !DEAD;
        *self.table.at_mut(slot) = address;
        slot
    }

    pub(crate) fn release(&mut self, slot: u32) {
        *self.table.at_mut(slot) = DEAD | self.free;
        self.free = slot;
        self.live -= 1;
    }

    /// Arena address of a live entry.
    #[inline]
    pub(crate) fn address(&self, slot: u32) -> u32 {
        let address = *self.table.at(slot);
        assert!(address & DEAD == 0, "entry id of a removed entry");
        address
    }

    pub(crate) fn set_address(&mut self, slot: u32, address: u32) {
        *self.table.at_mut(slot) = address;
    }

    /// The first live slot in `from..end`, if any.
    pub(crate) fn next_live(&self, from: u32, end: u32) -> Option<u32> {
        (from..end.min(self.end())).find(|slot| *self.table.at(*slot) & DEAD == 0)
    }

    /// Octets of all numbers ever given out.
    pub(crate) const fn used_bytes(&self) -> usize {
        self.table.len() as usize * size_of::<u32>()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.table.bytes()
    }
}
