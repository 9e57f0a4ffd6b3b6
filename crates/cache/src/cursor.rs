//! Walks over all entries while others come and go.
//!
//! A walk follows entry numbers, which never change while an entry lives. A cursor ends at the
//! largest number given out when it was made; it therefore meets every entry of that moment that is
//! still present exactly once (CA-17). A later entry is met only when it took over a number not
//! yet passed: its summary is then sent once more than needed, which is harmless.

use crate::store::{EntryId, Store};

/// Position of a walk bound to the entries present at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    next: u32,
    end: u32,
}

impl Cursor {
    /// Whether the walk has yet to come to an entry.
    pub const fn is_before(&self, id: EntryId) -> bool {
        self.next <= id.0 && id.0 < self.end
    }
}

impl Store {
    /// Starts a walk over the entries present now (CA-17).
    pub const fn cursor(&self) -> Cursor {
        Cursor {
            next: 0,
            end: self.blocks.slots.end(),
        }
    }

    /// The next entry of the walk; `None` at its end.
    pub fn cursor_next(&self, cursor: &mut Cursor) -> Option<EntryId> {
        if !self.cursor_has_more(cursor) {
            return None;
        }
        let id = EntryId(cursor.next);
        cursor.next += 1;
        Some(id)
    }

    /// Whether [`cursor_next`](Self::cursor_next) has an entry, exactly; passes over free numbers
    /// for good, so a whole walk looks at each number once.
    pub fn cursor_has_more(&self, cursor: &mut Cursor) -> bool {
        let live = self.blocks.slots.next_live(cursor.next, cursor.end);
        cursor.next = live.unwrap_or(cursor.end);
        live.is_some()
    }

    /// The first entry with a number of at least `from`, and where to go on; starts at 0. `None` at
    /// the end. The position alone carries the walk, so it may rest with a client (SCAN): entries
    /// present all the while are met exactly once.
    pub fn scan_next(&self, from: u32) -> Option<(u32, EntryId)> {
        let live = self.blocks.slots.next_live(from, u32::MAX)?;
        Some((live + 1, EntryId(live)))
    }

    /// The same among the numbers below `until` only: a step whose work is bounded however many
    /// numbers are free.
    pub fn scan_below(&self, from: u32, until: u32) -> Option<(u32, EntryId)> {
        let live = self.blocks.slots.next_live(from, until)?;
        Some((live + 1, EntryId(live)))
    }

    /// One more than the largest number that an entry has or had.
    pub const fn scan_end(&self) -> u32 {
        self.blocks.slots.end()
    }
}

#[cfg(test)]
mod tests;
