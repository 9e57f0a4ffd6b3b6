//! A link between hubs, two on a unicast link, more on a segment: what each way from one of them
//! to another does to the packets on it.

use crate::plan::{LinkPlan, Quality};
use crate::rng::{Rng, Stream};

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

/// From one hub on the link to another. It has random numbers of its own, so that what happens
/// elsewhere does not change what happens here.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) quality: Quality,
    /// Outages in force.
    pub(crate) blocked: u32,
    /// It passes nothing any more, whatever heals.
    pub(crate) dead: bool,
    rng: Rng,
}

/// One link.
#[derive(Debug)]
pub(crate) struct Link {
    /// The hubs it connects.
    pub(crate) members: Vec<usize>,
    /// From each member to each member, by position.
    ways: Vec<Way>,
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
    pub(crate) fn new(seed: u64, index: usize, plan: &LinkPlan, quality: Quality) -> Self {
        let members = plan.members.clone();
        let ways = 0..members.len() * members.len();
        let way = |way| Way {
            quality,
            blocked: 0,
            dead: false,
            rng: Rng::part(seed, Stream::Network, (index << 8) + way),
        };
        Self {
            ways: ways.map(way).collect(),
            members,
        }
    }

    /// The way between two members, by position.
    pub(crate) fn way_mut(&mut self, from: usize, to: usize) -> &mut Way {
        &mut self.ways[from * self.members.len() + to]
    }

    /// The way between two hubs.
    pub(crate) fn between_mut(&mut self, from: usize, to: usize) -> &mut Way {
        let at = |hub| self.members.iter().position(|member| *member == hub);
        let (from, to) = (at(from), at(to));
        self.way_mut(from.expect("a member"), to.expect("a member"))
    }

    /// Whether nothing can pass between two hubs any more in one direction or both.
    pub(crate) fn is_parted(&self, a: usize, b: usize) -> bool {
        let at = |hub| self.members.iter().position(|member| *member == hub);
        let (a, b) = (at(a).expect("a member"), at(b).expect("a member"));
        let way = |from, to| &self.ways[from * self.members.len() + to];
        way(a, b).dead || way(b, a).dead
    }

    /// All ways, with the hubs they connect.
    pub(crate) fn ways_mut(&mut self) -> impl Iterator<Item = (usize, usize, &mut Way)> {
        let members = &self.members;
        let names = members
            .iter()
            .flat_map(move |from| members.iter().map(move |to| (*from, *to)));
        names
            .zip(&mut self.ways)
            .map(|((from, to), way)| (from, to, way))
    }

    /// Nothing goes wrong on it any more, but for what is dead.
    pub(crate) fn heal(&mut self) {
        for way in &mut self.ways {
            way.quality = Quality::CLEAN;
            way.blocked = 0;
        }
    }
}

impl Way {
    /// Sends a packet: hands every copy that will arrive to `arrive`, with its time on the way.
    pub(crate) fn carry(
        &mut self,
        stats: &mut LinkStats,
        bytes: &[u8],
        mut arrive: impl FnMut(u64, Vec<u8>, Flaw),
    ) {
        if self.blocked > 0 || self.dead {
            stats.blocked += 1;
            return;
        }
        let (quality, rng) = (self.quality, &mut self.rng);
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
