//! At most one log line a second about one thing: what a peer does at line rate is counted.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use scsp_engine::Time;

/// Between two lines about the same.
const GAP: Duration = Duration::from_secs(1);

/// Remembers what was said when. Its size is bounded by that of `K`: neighbours times causes.
#[derive(Debug)]
pub struct Throttle<K>(HashMap<K, Slot>);

#[derive(Debug)]
struct Slot {
    said_at: Time,
    suppressed: u64,
}

impl<K> Default for Throttle<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash> Throttle<K> {
    /// `count` events of kind `key` happened: `None` when they are not to be spoken of now, else
    /// how many were not since the last line.
    pub fn admit(&mut self, now: Time, key: K, count: u64) -> Option<u64> {
        let Some(slot) = self.0.get_mut(&key) else {
            let (said_at, suppressed) = (now, 0);
            self.0.insert(
                key,
                Slot {
                    said_at,
                    suppressed,
                },
            );
            return Some(0);
        };
        if now < slot.said_at.saturating_add(GAP) {
            slot.suppressed += count;
            return None;
        }
        slot.said_at = now;
        Some(std::mem::take(&mut slot.suppressed))
    }

    /// What was held back and may be spoken of now, so that the last of a burst is not kept for
    /// ever.
    pub fn overdue(&mut self, now: Time) -> Vec<(K, u64)> {
        let mut overdue = Vec::new();
        self.0.retain(|key, slot| {
            if now < slot.said_at.saturating_add(GAP) {
                return true;
            }
            let suppressed = std::mem::take(&mut slot.suppressed);
            if suppressed > 0 {
                overdue.push((*key, suppressed));
                slot.said_at = now;
            }
            suppressed > 0
        });
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a burst makes one line a second, whose counts add up to all that happened; other things
    /// are not held back by it, and what is left is said later.
    #[test]
    fn a_burst_makes_one_line_a_second() {
        let mut throttle = Throttle::default();
        let at = |millis| Time::ZERO.saturating_add(Duration::from_millis(millis));
        let mut lines = 0;
        let mut spoken = 0;
        for millis in 0..3500 {
            if let Some(suppressed) = throttle.admit(at(millis), "burst", 1) {
                lines += 1;
                spoken += 1 + suppressed;
            }
        }
        assert_eq!((lines, spoken), (4, 3001));
        assert_eq!(throttle.admit(at(3500), "other", 1), Some(0));
        assert_eq!(throttle.overdue(at(3600)), []);
        assert_eq!(throttle.overdue(at(4600)), [("burst", 499)]);
        assert_eq!(throttle.overdue(at(9000)), []);
        assert_eq!(throttle.admit(at(9000), "burst", 1), Some(0));
    }
}
