//! The clocks of the machine, as the cores take them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use scsp_engine::{Now, Time};

/// Reads monotonic and Unix time. Threads of one hub share one origin, so that a [`Time`] means
/// the same to all of them.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Time starts a second before now, so that "a moment ago" exists from the start.
    pub fn start() -> Self {
        let now = Instant::now();
        Self {
            origin: now.checked_sub(Duration::from_secs(1)).unwrap_or(now),
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
        let nanos = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Time::from_nanos(nanos)
    }
}

/// Unix time in milliseconds; 0 before 1970.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
