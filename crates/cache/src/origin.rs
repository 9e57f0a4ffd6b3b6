//! Interned originator ids: two octets per entry instead of up to 255.

use hashbrown::HashTable;

use crate::hash::KeyHasher;

/// Number of an interned originator id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginIndex(pub(crate) u16);

#[derive(Debug)]
struct Origin {
    id: Box<[u8]>,
    entries: u32,
}

/// Originator ids in use, counted by entry; the last entry's removal frees the number.
#[derive(Debug)]
pub(crate) struct Origins {
    table: Vec<Origin>,
    free: Vec<u16>,
    index: HashTable<u16>,
    len_max: usize,
    /// Whom the last new entry was of: most often the next one is, too.
    last: u16,
    /// Octets of all ids.
    id_bytes: usize,
}

impl Origins {
    pub(crate) const LEN_MAX: usize = 1 << 16;

    pub(crate) const fn with_limit(len_max: usize) -> Self {
        Self {
            table: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            len_max,
            last: 0,
            id_bytes: 0,
        }
    }

    #[inline]
    pub(crate) fn id(&self, origin: OriginIndex) -> &[u8] {
        &self.table[usize::from(origin.0)].id
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Octets in use.
    pub(crate) fn bytes(&self) -> usize {
        self.id_bytes + self.table.len() * size_of::<Origin>()
    }

    pub(crate) fn find(&self, hasher: &KeyHasher, id: &[u8]) -> Option<OriginIndex> {
        let is_it = |origin: &u16| *self.table[usize::from(*origin)].id == *id;
        self.index
            .find(hasher.hash(id), is_it)
            .map(|origin| OriginIndex(*origin))
    }

    /// One more entry of `id`; `None` when the table is full.
    pub(crate) fn acquire(&mut self, hasher: &KeyHasher, id: &[u8]) -> Option<OriginIndex> {
        if let Some(last) = self.table.get_mut(usize::from(self.last))
            && *last.id == *id
            && last.entries > 0
        {
            last.entries += 1;
            return Some(OriginIndex(self.last));
        }
        if let Some(origin) = self.find(hasher, id) {
            self.last = origin.0;
            self.table[usize::from(origin.0)].entries += 1;
            return Some(origin);
        }
        if self.free.is_empty() && self.table.len() == self.len_max {
            return None;
        }
        self.id_bytes += id.len();
        let new = Origin {
            id: id.into(),
            entries: 1,
        };
        let origin = if let Some(origin) = self.free.pop() {
            self.table[usize::from(origin)] = new;
            origin
        } else {
            self.table.push(new);
            u16::try_from(self.table.len() - 1).expect("at most 2^16 originators")
        };
        let table = &self.table;
        self.index.insert_unique(hasher.hash(id), origin, |other| {
            hasher.hash(&table[usize::from(*other)].id)
        });
        Some(OriginIndex(origin))
    }

    /// One entry fewer.
    pub(crate) fn release(&mut self, hasher: &KeyHasher, origin: OriginIndex) {
        let entry = &mut self.table[usize::from(origin.0)];
        entry.entries -= 1;
        if entry.entries > 0 {
            return;
        }
        let hash = hasher.hash(&entry.id);
        let found = self.index.find_entry(hash, |other| *other == origin.0);
        found.expect("an interned id is in the index").remove();
        let id = std::mem::take(&mut self.table[usize::from(origin.0)].id);
        self.id_bytes -= id.len();
        self.free.push(origin.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: numbers are shared, freed with the last entry, reused, and limited.
    #[test]
    fn origins_are_counted() {
        let hasher = KeyHasher::new(3);
        let mut origins = Origins::with_limit(2);
        let a = origins.acquire(&hasher, b"a").unwrap();
        assert_eq!(origins.acquire(&hasher, b"a"), Some(a));
        let b = origins.acquire(&hasher, b"bb").unwrap();
        assert_ne!(a, b);
        assert_eq!(origins.acquire(&hasher, b"c"), None, "limit");
        origins.release(&hasher, a);
        assert_eq!(origins.find(&hasher, b"a"), Some(a));
        origins.release(&hasher, a);
        assert_eq!(origins.find(&hasher, b"a"), None);
        assert_eq!(origins.acquire(&hasher, b"c"), Some(a), "number reused");
        assert_eq!(
            (origins.id(a), origins.id(b), origins.len()),
            (&b"c"[..], &b"bb"[..], 2)
        );
    }
}
