//! How much may be unacknowledged towards one DCS.
//!
//! RFC 2334 lets requests flow without waiting for replies (CSU-05) and resends after a whole
//! second, so a burst that overflows the receiver's socket buffer costs far more than it gains.
//! The window grows while records are acknowledged and halves when some were not.

/// Smallest window: a loss must not stop the flow.
const MIN_OCTETS: usize = 4 * 1024;
/// First window: fits the default receive buffer of a Linux socket, overhead included.
const START_OCTETS: usize = 128 * 1024;
/// Largest window.
const MAX_OCTETS: usize = 1024 * 1024;

/// Octets of records that may be on their way to one DCS.
#[derive(Debug)]
pub(super) struct Window {
    limit: usize,
    /// Below it the window doubles per window acknowledged, above it grows by a packet.
    threshold: usize,
    packet: usize,
}

impl Window {
    pub(super) fn new(packet: usize) -> Self {
        Self {
            limit: START_OCTETS.max(packet),
            threshold: MAX_OCTETS,
            packet,
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.packet);
    }

    /// Whether `octets` more may be sent while `in_flight` are unacknowledged. The first record is
    /// always allowed.
    pub(super) fn allows(&self, in_flight: usize, octets: usize) -> bool {
        in_flight == 0 || in_flight + octets <= self.limit
    }

    pub(super) fn acknowledged(&mut self, octets: usize) {
        let growth = if self.limit < self.threshold {
            octets
        } else {
            octets * self.packet / self.limit.max(1)
        };
        self.limit = (self.limit + growth).min(MAX_OCTETS.max(self.packet));
    }

    pub(super) fn lost(&mut self) {
        self.limit = (self.limit / 2).max(MIN_OCTETS).max(self.packet);
        self.threshold = self.limit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest number of octets that may follow one that is in flight.
    fn room(window: &Window) -> usize {
        let octets = window.limit - 1;
        assert!(window.allows(1, octets) && !window.allows(1, octets + 1));
        octets + 1
    }

    /// Goal: one record always passes, growth and shrinking stay within the limits.
    #[test]
    fn csu_05_window_stays_within_limits() {
        let mut window = Window::new(1472);
        assert!(window.allows(0, 10 * MAX_OCTETS));
        for _ in 0..10_000 {
            window.acknowledged(1400);
        }
        assert_eq!(room(&window), 1_048_576);
        for _ in 0..100 {
            window.lost();
        }
        assert_eq!(room(&window), 4096);
        let mut window = Window::new(9000);
        for _ in 0..100 {
            window.lost();
        }
        assert_eq!(room(&window), 9000, "a packet always");
    }

    /// Goal: the window grows by what is acknowledged until a loss, and by a packet per window after
    /// it; a new exchange begins as the first one did.
    #[test]
    fn csu_05_window_grows_slowly_after_a_loss() {
        let mut window = Window::new(1472);
        for _ in 0..2 {
            assert_eq!(room(&window), 131_072);
            window.acknowledged(1000);
            assert_eq!(room(&window), 132_072);
            window.lost();
            assert_eq!(room(&window), 66_036);
            window.acknowledged(66_036);
            assert_eq!(room(&window), 66_036 + 1472);
            window.acknowledged(1000);
            assert_eq!(room(&window), 66_036 + 1472 + 21);
            window.reset();
        }
    }
}
