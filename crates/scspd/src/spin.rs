//! Looking again and again before sleeping (`[io] busy_poll`).
//!
//! A thread that sleeps takes longer to wake than a neighbour on the same network takes to answer.
//! Who expects something soon looks for it for a while instead; who does not sleeps at once, so that
//! an idle hub takes no processor time.

use std::hint;
use std::thread;
use std::time::Duration;

use scsp_engine::Time;

use crate::clock::Clock;

/// Looks until others that wait for this processor get their turn: perhaps those that are waited
/// for.
const LOOKS_PER_YIELD: u32 = 64;

/// Bounds one time of looking.
#[derive(Debug)]
pub struct Spin {
    clock: Clock,
    until: Time,
    looks: u32,
}

impl Spin {
    /// For `limit` from `since` on.
    pub fn new(clock: Clock, since: Time, limit: Duration) -> Self {
        Self {
            clock,
            until: since.saturating_add(limit),
            looks: 0,
        }
    }

    /// After a look that found nothing: whether to look once more. Not when a core's deadline has
    /// come.
    pub fn goes_on(&mut self, deadline: Option<Time>) -> bool {
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS_PER_YIELD) {
            thread::yield_now();
        } else {
            hint::spin_loop();
        }
        let now = self.clock.time();
        now < self.until && deadline.is_none_or(|at| now < at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: without a limit, after it and at a deadline there is one look, however short.
    #[test]
    fn looking_ends() {
        let clock = Clock::start();
        let hour = Duration::from_hours(1);
        let now = clock.time();
        assert!(!Spin::new(clock, now, Duration::ZERO).goes_on(None));
        assert!(!Spin::new(clock, Time::ZERO, Duration::from_nanos(1)).goes_on(None));
        let mut long = Spin::new(clock, now, hour);
        assert!(long.goes_on(None) && long.goes_on(Some(now.saturating_add(hour))));
        assert!(!long.goes_on(Some(now)));
    }
}
