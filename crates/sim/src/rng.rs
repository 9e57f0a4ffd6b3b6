//! Seeded random numbers: `ChaCha` seeds replay on every machine and version.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// One stream of random numbers of a seed. Streams of a seed are independent, so that leaving a
/// fault out of a plan does not change what the network does to everything else.
#[derive(Debug)]
pub(crate) struct Rng(ChaCha8Rng);

/// What a stream is for.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Stream {
    /// Making the plan.
    Plan = 1,
    /// What links do to packets, by way.
    Network = 2,
    /// Who runs when, by hub.
    Schedule = 3,
    /// What clients do.
    Client = 4,
    /// Seeds of the hubs' own randomness, by hub.
    Hubs = 5,
}

impl Rng {
    pub(crate) fn new(seed: u64, stream: Stream) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64);
        Self(rng)
    }

    /// One of many independent parts of a stream.
    pub(crate) fn part(seed: u64, stream: Stream, part: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64 | (1 + part as u64) << 8);
        Self(rng)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number is below 0");
        u64::try_from((u128::from(self.next()) * u128::from(bound)) >> 64).expect("less than bound")
    }

    /// An index below `len`, which is at least 1.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("less than len")
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `permille` of 1,000 cases.
    pub(crate) fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.below(1000) < u64::from(permille)
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }
}
