//! A unicast link between two hubs: what each direction does to the packets on it.

use crate::rng::Rng;

/// What a direction does to packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quality {
    /// Shortest time on the way.
    pub(crate) delay: u64,
    /// Up to this much is added at random, so that packets overtake each other.
    pub(crate) jitter: u64,
    pub(crate) loss_permille: u32,
    pub(crate) duplicate_permille: u32,
    pub(crate) corrupt_permille: u32,
}

impl Quality {
    /// A link that only takes its time.
    pub(crate) const CLEAN: Self = Self {
        delay: 100_000,
        jitter: 50_000,
        loss_permille: 0,
        duplicate_permille: 0,
        corrupt_permille: 0,
    };

    pub(crate) const fn transit_max(self) -> u64 {
        self.delay + self.jitter
    }
}

/// What is wrong with a packet on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing.
    None,
    /// Bits were flipped or octets cut off: to be refused by size or checksum.
    Damaged,
    /// Damaged in the size field: what is left may pass as a whole packet by chance.
    SizeDamaged,
}

/// One direction.
#[derive(Clone, Debug)]
pub(crate) struct Direction {
    pub(crate) quality: Quality,
    /// Outages in force.
    pub(crate) blocked: u32,
}

/// One link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// The hubs it connects.
    pub(crate) ends: (usize, usize),
    /// From the first end to the second, and back.
    pub(crate) directions: [Direction; 2],
}

/// Counts of what links did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkStats {
    pub(crate) lost: u64,
    pub(crate) blocked: u64,
    pub(crate) duplicated: u64,
    pub(crate) damaged: u64,
}

impl Link {
    pub(crate) fn new(ends: (usize, usize), quality: Quality) -> Self {
        let direction = Direction {
            quality,
            blocked: 0,
        };
        Self {
            ends,
            directions: [direction.clone(), direction],
        }
    }

    pub(crate) fn direction_mut(&mut self, forth: bool) -> &mut Direction {
        &mut self.directions[usize::from(!forth)]
    }

    /// Nothing goes wrong on it any more.
    pub(crate) fn heal(&mut self) {
        for direction in &mut self.directions {
            direction.quality = Quality::CLEAN;
            direction.blocked = 0;
        }
    }
}

impl Direction {
    /// Sends a packet: hands every copy that will arrive to `arrive`, with its time on the way.
    pub(crate) fn carry(
        &self,
        rng: &mut Rng,
        stats: &mut LinkStats,
        bytes: &[u8],
        mut arrive: impl FnMut(u64, Vec<u8>, Flaw),
    ) {
        if self.blocked > 0 {
            stats.blocked += 1;
            return;
        }
        let quality = self.quality;
        let copies = if rng.chance(quality.duplicate_permille) {
            stats.duplicated += 1;
            2
        } else {
            1
        };
        for _ in 0..copies {
            if rng.chance(quality.loss_permille) {
                stats.lost += 1;
                continue;
            }
            let delay = quality.delay + rng.below(quality.jitter + 1);
            let mut bytes = bytes.to_vec();
            let flaw = if rng.chance(quality.corrupt_permille) {
                stats.damaged += 1;
                damage(rng, &mut bytes)
            } else {
                Flaw::None
            };
            arrive(delay, bytes, flaw);
        }
    }
}

/// Flips one to three bits of one 16-bit word, which an Internet checksum never misses, or cuts
/// the packet short.
fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) -> Flaw {
    if rng.chance(150) {
        bytes.truncate(rng.index(bytes.len()));
        return Flaw::Damaged;
    }
    let word = rng.index(bytes.len().div_ceil(2)) * 2;
    let before = [bytes[word], bytes.get(word + 1).copied().unwrap_or(0)];
    for _ in 0..rng.between(1, 3) {
        let octet = word + rng.index(2);
        if let Some(octet) = bytes.get_mut(octet) {
            *octet ^= 1 << rng.below(8);
        }
    }
    let after = [bytes[word], bytes.get(word + 1).copied().unwrap_or(0)];
    match (before == after, word) {
        (true, _) => Flaw::None,
        (false, 2) => Flaw::SizeDamaged,
        (false, _) => Flaw::Damaged,
    }
}
