//! The clocks of the machine, as the cores take them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use scsp_engine::snapshot::AGE_MAX;
use scsp_engine::{Now, Time};

/// What [`Clock`] shows at its start: entries of earlier runs are older than this one, and their
/// moments are times too.
const START: Duration = AGE_MAX;

/// Reads monotonic and Unix time. Threads of one hub share one origin, so that a [`Time`] means
/// the same to all of them.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Time starts in the middle, so that what was before exists from the start.
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Both clocks, once per batch.
    pub fn now(&self) -> Now {
        Now {
            time: self.time(),
            unix_ms: unix_ms(),
        }
    }

    /// The monotonic clock alone.
    pub fn time(&self) -> Time {
        Time::ZERO
            .saturating_add(START)
            .saturating_add(self.origin.elapsed())
    }
}

/// Unix time in milliseconds; 0 before 1970.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
