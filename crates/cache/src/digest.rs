//! Order-independent digest: equal on servers that hold the same records.
//!
//! The wrapping sum of one 64-bit hash per record, over key, originator, sequence and the body
//! without its remaining life. The seed is fixed, so that servers can compare.

use scsp_profile::Profile;

use crate::hash::KeyHasher;
use crate::store::{Entry, Store};

const DIGEST_HASHER: KeyHasher = KeyHasher::new(0x5343_5350_2D32_3333);

/// One record's share of the digest.
pub fn digest_of(profile: Profile, entry: &Entry<'_>) -> u64 {
    let (before, after) = profile.lasting_parts(entry.body);
    let seq = entry.seq.get().to_be_bytes();
    [entry.key, entry.originator, &seq, before, after]
        .iter()
        .fold(0, |state, part| DIGEST_HASHER.absorb(state, part))
}

impl Store {
    /// Number and digest of the entries that `filter` keeps. Looks at every entry; to do that in
    /// portions, add up [`digest_of`] along [`Store::scan_next`].
    pub fn digest(
        &self,
        profile: Profile,
        mut filter: impl FnMut(&Entry<'_>) -> bool,
    ) -> (usize, u64) {
        let (mut count, mut sum, mut from) = (0, 0_u64, 0);
        while let Some((next, id)) = self.scan_next(from) {
            let entry = self.entry(id);
            if filter(&entry) {
                count += 1;
                sum = sum.wrapping_add(digest_of(profile, &entry));
            }
            from = next;
        }
        (count, sum)
    }
}

#[cfg(test)]
mod tests;
