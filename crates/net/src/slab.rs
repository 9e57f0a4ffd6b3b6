//! Connections by generation-tagged id: a late completion can never touch a new connection.

use crate::ConnId;

/// Generations wrap here: the id shares a 64-bit token with a kind and an index.
const GENERATION_MASK: u32 = 0x00ff_ffff;

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// At most `max` values, each under an id of its own.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    len: usize,
    max: usize,
}

impl<T> Slab<T> {
    pub(crate) fn new(max: u32) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            len: 0,
            max: max as usize,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len >= self.max
    }

    /// `None` when full.
    pub(crate) fn insert(&mut self, value: T) -> Option<ConnId> {
        if self.is_full() {
            return None;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                generation: 0,
                value: None,
            });
            u32::try_from(self.entries.len() - 1).expect("the slab's max is a u32")
        });
        let entry = &mut self.entries[index as usize];
        entry.value = Some(value);
        self.len += 1;
        Some(ConnId {
            index,
            generation: entry.generation,
        })
    }

    pub(crate) fn get(&self, id: ConnId) -> Option<&T> {
        let entry = self.entries.get(id.index as usize)?;
        entry
            .value
            .as_ref()
            .filter(|_| entry.generation == id.generation)
    }

    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        let entry = self.entries.get_mut(id.index as usize)?;
        entry
            .value
            .as_mut()
            .filter(|_| entry.generation == id.generation)
    }

    pub(crate) fn remove(&mut self, id: ConnId) -> Option<T> {
        self.get(id)?;
        let entry = &mut self.entries[id.index as usize];
        entry.generation = entry.generation.wrapping_add(1) & GENERATION_MASK;
        self.free.push(id.index);
        self.len -= 1;
        entry.value.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an id dies with its value even when the place is used again, and the limit holds.
    #[test]
    fn stale_ids_find_nothing() {
        let mut slab = Slab::new(2);
        let first = slab.insert('a').unwrap();
        let second = slab.insert('b').unwrap();
        assert!(slab.is_full());
        assert_eq!(slab.insert('c'), None);
        assert_eq!(slab.remove(first), Some('a'));
        assert_eq!(slab.remove(first), None);
        let third = slab.insert('c').unwrap();
        assert_eq!(third.index, first.index);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.get(third), Some(&'c'));
        assert_eq!(slab.get(second), Some(&'b'));
        assert_eq!(slab.len(), 2);
    }
}
