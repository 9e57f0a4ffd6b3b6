//! Which shard owns a key.
//!
//! Every hub picks by the same hash, so that of two hubs with equally many shards each shard of the
//! one exchanges packets with one shard of the other. A datagram is steered to the thread of its
//! shard in the kernel, by a program without loops or wide products: hence 32 bits, four octets a
//! step. There is no seed, so whoever may choose keys may choose a shard for them; buckets within a
//! shard are picked by another hash, which is seeded.

use crate::setup::{Setup, ShardIndex};

/// What the length of the key is mixed with in the beginning.
pub const START: u32 = 0x5343_5350;
/// Odd, with bits spread evenly: a step can be undone, so that it loses nothing.
pub const STEP_FACTOR: u32 = 0x9E37_79B1;
/// How far the state is shifted onto itself after each step.
pub const STEP_SHIFT: u32 = 15;
/// Factors of the end, which spread what the last steps changed over the upper half.
pub const END_FACTORS: [u32; 2] = [0x85EB_CA6B, 0xC2B2_AE35];
/// How far the state is shifted onto itself between them.
pub const END_SHIFT: u32 = 13;
/// Octets of a step.
pub const STEP_LEN: usize = 4;

/// The shard of `shards` that owns a key.
#[inline]
pub fn shard_of(key: &[u8], shards: u16) -> ShardIndex {
    if shards == 1 {
        return ShardIndex(0);
    }
    // The upper half, which every bit of the key reaches, as a fraction of the number of shards.
    let scaled = ((hash(key) >> 16) * u32::from(shards)) >> 16;
    ShardIndex(u16::try_from(scaled).expect("less than the number of shards"))
}

/// All whole words but the last, then the last four octets, which may overlap the word before; of a
/// shorter key what there is.
#[inline]
fn hash(key: &[u8]) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "at most 255 octets")]
    let mut state = START ^ key.len() as u32;
    let Some((_, last)) = key.split_last_chunk::<STEP_LEN>() else {
        let short = key
            .iter()
            .fold(0, |word, octet| word << 8 | u32::from(*octet));
        return end(step(state, short));
    };
    for word in key[..key.len() - 1].chunks_exact(STEP_LEN) {
        let word = word.try_into().expect("a chunk has this length");
        state = step(state, u32::from_be_bytes(word));
    }
    end(step(state, u32::from_be_bytes(*last)))
}

#[inline]
const fn step(state: u32, word: u32) -> u32 {
    let state = (state ^ word).wrapping_mul(STEP_FACTOR);
    state ^ state >> STEP_SHIFT
}

#[inline]
const fn end(state: u32) -> u32 {
    let state = state.wrapping_mul(END_FACTORS[0]);
    (state ^ state >> END_SHIFT).wrapping_mul(END_FACTORS[1])
}

/// Sorts packed records by the shard that owns them; `put` gets the octets for each shard, once.
pub(crate) fn split_by_shard<'a>(
    setup: &Setup,
    records: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    mut put: impl FnMut(ShardIndex, Vec<u8>),
) {
    let mut parts: Vec<Vec<u8>> = vec![Vec::new(); usize::from(setup.shards)];
    for (key, wire) in records {
        parts[shard_of(key, setup.shards).index()].extend_from_slice(wire);
    }
    for (shard, bytes) in (0..).map(ShardIndex).zip(parts) {
        if !bytes.is_empty() {
            put(shard, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `keys` each shard gets.
    fn counts(keys: impl Iterator<Item = Vec<u8>>, shards: u16) -> Vec<usize> {
        let mut counts = vec![0; usize::from(shards)];
        for key in keys {
            counts[shard_of(&key, shards).index()] += 1;
        }
        counts
    }

    /// Goal: keys as people make them, counters in binary or in text, with or without a common
    /// head or tail, spread evenly over any number of shards.
    #[test]
    fn shards_get_equal_parts() {
        const KEYS: u32 = 40_000;
        type Form = fn(u32) -> Vec<u8>;
        let forms: [Form; 7] = [
            |n| n.to_be_bytes().to_vec(),
            |n| u64::from(n).to_be_bytes().to_vec(),
            |n| u64::from(n).to_le_bytes().to_vec(),
            |n| (u64::from(n) << 16).to_be_bytes().to_vec(),
            |n| format!("user:{n}").into_bytes(),
            |n| format!("{n:012}:session").into_bytes(),
            |n| format!("{:0250}{:05}", n % 200, n / 200).into_bytes(),
        ];
        for (at, form) in forms.into_iter().enumerate() {
            for shards in [1, 2, 3, 4, 7, 16, 64] {
                let counts = counts((0..KEYS).map(form), shards);
                let even = f64::from(KEYS) / f64::from(shards);
                for count in counts {
                    #[expect(clippy::cast_precision_loss, reason = "a small number")]
                    let off = (count as f64 - even).abs();
                    assert!(
                        off <= 5.0 * even.sqrt(),
                        "form {at}, {shards} shards: {count}"
                    );
                }
            }
        }
    }

    /// Goal: the choice is the same on every hub and in every version: neighbours that differ in it
    /// would pass every record between their threads.
    #[test]
    fn the_choice_is_fixed() {
        let hashes = [
            (&b""[..], 0x4311_206F),
            (b"k", 0x2EE4_B1CD),
            (b"key", 0x2C81_3E45),
            (b"four", 0xDED5_046D),
            (b"12345678", 0xF608_A969),
            (b"a key of some length", 0x9ED5_688C),
        ];
        for (key, expected) in hashes {
            assert_eq!(hash(key), expected, "{key:?}");
        }
    }

    /// Goal: where one hub has a multiple of the other's shards, each of its shards deals with
    /// one of the other's.
    #[test]
    fn shards_of_multiples_nest() {
        for n in 0..10_000_u32 {
            let key = n.to_be_bytes();
            let ShardIndex(of_four) = shard_of(&key, 4);
            assert_eq!(shard_of(&key, 2), ShardIndex(of_four / 2));
        }
    }
}
