//! Seeded 64-bit hash of short octet strings: multiply two words to 128 bits, fold the halves.
//!
//! Every word that is multiplied is first mixed with a secret of the seed, so that keys chosen by a
//! stranger neither cancel the state nor pile up in one bucket.

/// Hashes cache keys.
#[derive(Clone, Copy, Debug)]
pub struct KeyHasher {
    secrets: [u64; 4],
}

const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128) * (b as u128);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves of the product"
    )]
    let halves = (product as u64, (product >> 64) as u64);
    halves.0 ^ halves.1
}

/// One step of a generator with full period: spreads the seed over the secrets.
const fn spread(state: u64) -> u64 {
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The first and the last eight octets, if there are as many.
#[inline]
fn words(octets: &[u8]) -> Option<(u64, u64)> {
    let (first, last) = (octets.first_chunk()?, octets.last_chunk()?);
    Some((u64::from_le_bytes(*first), u64::from_le_bytes(*last)))
}

/// The same of four.
#[inline]
fn halves(octets: &[u8]) -> Option<(u64, u64)> {
    let (first, last) = (octets.first_chunk()?, octets.last_chunk()?);
    let half = |octets: &[u8; 4]| u64::from(u32::from_le_bytes(*octets));
    Some((half(first), half(last)))
}

impl KeyHasher {
    /// A hasher of its own for every `seed`.
    pub const fn new(seed: u64) -> Self {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let a = seed.wrapping_add(STEP);
        let b = a.wrapping_add(STEP);
        let c = b.wrapping_add(STEP);
        let d = c.wrapping_add(STEP);
        Self {
            secrets: [spread(a), spread(b), spread(c), spread(d)],
        }
    }

    /// The same on every platform for the same seed and key.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.absorb(self.secrets[0], key)
    }

    /// Chains `octets` and their length onto `state`.
    #[inline]
    pub(crate) fn absorb(&self, state: u64, octets: &[u8]) -> u64 {
        let [_, one, two, three] = self.secrets;
        let len = octets.len() as u64;
        let mut state = state ^ one;
        let mut rest = octets;
        while rest.len() > 16
            && let Some((block, after)) = rest.split_first_chunk::<16>()
        {
            let (low, high) = words(block).unwrap_or_default();
            state = fold(low ^ two, high ^ state);
            rest = after;
        }
        let (low, high) = words(rest)
            .or_else(|| halves(rest))
            .unwrap_or_else(|| match rest {
                [first, .., last] => {
                    let ends = u64::from(*first) | u64::from(*last) << 8;
                    (ends, u64::from(rest[rest.len() / 2]))
                }
                [only] => (u64::from(*only) | u64::from(*only) << 8, u64::from(*only)),
                [] => (0, 0),
            });
        state = fold(low ^ two, high ^ state);
        fold(state ^ three, len ^ one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the value depends on the seed, every octet and the length, and is stable.
    #[test]
    fn hash_depends_on_everything() {
        let hasher = KeyHasher::new(1);
        let mut seen = std::collections::BTreeSet::new();
        for len in 0..70_usize {
            let key = vec![0xAA_u8; len];
            assert!(seen.insert(hasher.hash(&key)), "length {len}");
            assert_ne!(
                hasher.hash(&key),
                KeyHasher::new(2).hash(&key),
                "seed, length {len}"
            );
            for at in 0..len {
                let mut other = key.clone();
                other[at] ^= 1;
                assert!(seen.insert(hasher.hash(&other)), "length {len}, octet {at}");
            }
        }
        assert_eq!(hasher.hash(b"key"), KeyHasher::new(1).hash(b"key"));
    }

    /// Goal: counting keys fill the low, middle and top bits evenly (buckets, segments, tags).
    #[test]
    fn hash_spreads_counters_evenly() {
        let hasher = KeyHasher::new(7);
        for shift in [0, 48, 56] {
            let mut buckets = [0_u32; 256];
            for i in 0..256_000_u64 {
                let hash = hasher.hash(&i.to_be_bytes());
                buckets[usize::try_from(hash >> shift & 0xFF).unwrap()] += 1;
            }
            let (least, most) = (buckets.iter().min().unwrap(), buckets.iter().max().unwrap());
            assert!(
                *least > 850 && *most < 1150,
                "shift {shift}: {least}..{most} of 1000"
            );
        }
    }
}
