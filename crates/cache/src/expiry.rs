//! Expiry: a hierarchical timer wheel threaded through the entries' blocks.
//!
//! Eight levels of 64 buckets; a tick is a millisecond. An entry stands on the level of the highest
//! group of six bits in which its tick differs from the wheel's `now`, so all entries of a level
//! are due after those of the levels below, and bucket numbers never wrap. When `now` reaches a
//! bucket of a higher level, its entries move down one by one, a bounded number per call.

use crate::blocks::{Blocks, Timer};
use crate::store::EntryId;
use crate::time::Time;

const NANOS_PER_TICK: u64 = 1_000_000;
const LEVEL_BITS: u32 = 6;
const LEVELS: usize = 8;
const BUCKETS: usize = 1 << LEVEL_BITS;
const SLOT_MASK: u64 = (1 << LEVEL_BITS) - 1;
const NIL: u32 = u32::MAX;
/// In `prev`: the first entry of a bucket; the rest is the bucket's number.
const FIRST: u32 = 1 << 31;
/// Entries moved down per call at most.
const MOVES_MAX: u32 = 1024;

const _: () = assert!(
    LEVEL_BITS as usize * LEVELS >= 45,
    "levels span all of Time"
);

/// The wheel; the links are in the blocks.
#[derive(Debug)]
pub(crate) struct Wheel {
    heads: [u32; LEVELS * BUCKETS],
    filled: [u64; LEVELS],
    now: u64,
    /// The bucket `now` has just reached, while its entries move down.
    cascading: Option<usize>,
    len: usize,
}

impl Wheel {
    pub(crate) const fn new() -> Self {
        Self {
            heads: [NIL; LEVELS * BUCKETS],
            filled: [0; LEVELS],
            now: 0,
            cascading: None,
            len: 0,
        }
    }

    /// Entries armed.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Puts an entry with a deadline into the wheel.
    pub(crate) fn arm(&mut self, blocks: &mut Blocks, id: EntryId) {
        let timer = blocks.timer(id).expect("an armed entry expires");
        debug_assert_eq!(timer.prev, Timer::UNARMED, "armed twice");
        let tick = timer.deadline_nanos.div_ceil(NANOS_PER_TICK).max(self.now);
        let level = ((tick ^ self.now) | 1).ilog2() / LEVEL_BITS;
        let slot = (tick >> (level * LEVEL_BITS)) & SLOT_MASK;
        let bucket = level as usize * BUCKETS + slot as usize;
        let head = self.heads[bucket];
        if head != NIL {
            blocks.set_timer_prev(EntryId(head), id.0);
        }
        blocks.set_timer_next(id, head);
        blocks.set_timer_prev(id, FIRST | u32::try_from(bucket).expect("512 buckets"));
        self.heads[bucket] = id.0;
        self.filled[level as usize] |= 1 << (bucket % BUCKETS);
        self.len += 1;
    }

    /// Whether the entry is in the wheel.
    pub(crate) fn is_armed(&self, blocks: &Blocks, id: EntryId) -> bool {
        self.len > 0
            && blocks
                .timer(id)
                .is_some_and(|timer| timer.prev != Timer::UNARMED)
    }

    /// Takes an entry out; does nothing when it is not in the wheel.
    pub(crate) fn disarm(&mut self, blocks: &mut Blocks, id: EntryId) {
        let Some(timer) = blocks.timer(id) else {
            return;
        };
        if timer.prev == Timer::UNARMED {
            return;
        }
        if timer.next != NIL {
            blocks.set_timer_prev(EntryId(timer.next), timer.prev);
        }
        if timer.prev & FIRST == 0 {
            blocks.set_timer_next(EntryId(timer.prev), timer.next);
        } else {
            let bucket = (timer.prev & !FIRST) as usize;
            self.heads[bucket] = timer.next;
            if timer.next == NIL {
                self.filled[bucket / BUCKETS] &= !(1 << (bucket % BUCKETS));
            }
        }
        blocks.set_timer_prev(id, Timer::UNARMED);
        self.len -= 1;
    }

    /// The earliest bucket and the tick at which it begins.
    fn earliest(&self) -> Option<(usize, u64)> {
        let level = self.filled.iter().position(|bits| *bits != 0)?;
        let slot = self.filled[level].trailing_zeros();
        let shift = u32::try_from(level).expect("eight levels") * LEVEL_BITS;
        let group = self.now >> shift >> LEVEL_BITS << LEVEL_BITS | u64::from(slot);
        Some((level * BUCKETS + slot as usize, group << shift))
    }

    /// When to call [`Self::pop`] next: no later than the earliest deadline, rounded up to a tick.
    pub(crate) fn next(&self) -> Option<Time> {
        let tick = match self.cascading {
            Some(_) => self.now,
            None => self.earliest()?.1,
        };
        Some(Time::from_nanos(tick.saturating_mul(NANOS_PER_TICK)))
    }

    /// Takes one due entry out. `None`: nothing is due, or this call's share of moves is used up
    /// and `next()` is not after `now`.
    pub(crate) fn pop(&mut self, blocks: &mut Blocks, now: Time) -> Option<EntryId> {
        let now_tick = now.as_nanos() / NANOS_PER_TICK;
        let mut moves = 0;
        loop {
            if let Some(bucket) = self.cascading {
                if self.heads[bucket] == NIL {
                    self.cascading = None;
                    continue;
                }
                if moves == MOVES_MAX {
                    return None;
                }
                moves += 1;
                let id = EntryId(self.heads[bucket]);
                self.disarm(blocks, id);
                self.arm(blocks, id);
                continue;
            }
            let due = self.earliest().filter(|(_, tick)| *tick <= now_tick);
            let Some((bucket, tick)) = due else {
                self.now = self.now.max(now_tick);
                return None;
            };
            self.now = self.now.max(tick);
            if bucket < BUCKETS {
                let id = EntryId(self.heads[bucket]);
                self.disarm(blocks, id);
                return Some(id);
            }
            self.cascading = Some(bucket);
        }
    }
}

#[cfg(test)]
mod tests;
