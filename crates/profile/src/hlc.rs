//! Hybrid logical clock (K-05): wall-clock milliseconds that never run backwards and stay ahead of
//! every timestamp seen, so that a later write wins even over a neighbour whose clock is ahead.

/// One moment of the hybrid clock: 48 bit Unix milliseconds, then a 16 bit counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Smaller than the stamp of any write.
    pub const ZERO: Self = Self(0);

    const COUNTER_BITS: u32 = 16;
    const MILLIS_MAX: u64 = u64::MAX >> Self::COUNTER_BITS;

    /// `millis`: Unix milliseconds, held at 48 bit (year 10889).
    pub const fn new(millis: u64, counter: u16) -> Self {
        let millis = if millis > Self::MILLIS_MAX {
            Self::MILLIS_MAX
        } else {
            millis
        };
        Self((millis << Self::COUNTER_BITS) | counter as u64)
    }

    /// Unix milliseconds.
    pub const fn millis(self) -> u64 {
        self.0 >> Self::COUNTER_BITS
    }

    /// Position among the stamps of the same millisecond.
    pub const fn counter(self) -> u16 {
        (self.0 & 0xFFFF) as u16
    }
}

/// Source of strictly increasing stamps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    last: Stamp,
}

impl Clock {
    /// A clock that has seen nothing.
    pub const fn new() -> Self {
        Self { last: Stamp::ZERO }
    }

    /// The stamp of a write at `unix_ms`: larger than every stamp ticked or merged before.
    ///
    /// A full counter carries into the milliseconds. Only behind the very last 64 bit stamp, which
    /// no clock reaches by itself, does the clock stand still.
    pub fn tick(&mut self, unix_ms: u64) -> Stamp {
        self.last = Stamp(self.last.0.saturating_add(1)).max(Stamp::new(unix_ms, 0));
        self.last
    }

    /// Takes note of a stamp seen in a record.
    pub fn merge(&mut self, seen: Stamp) {
        self.last = self.last.max(seen);
    }

    /// The largest stamp ticked or merged so far.
    pub const fn last(&self) -> Stamp {
        self.last
    }
}
