//! How long things may take, computed from timers and faults.

use std::time::Duration;

use super::{MS, Plan, SEC, faults};
use crate::client;

/// One alignment at 30 % loss fails so often at most that its bound is a fault of the hubs:
/// 1 in 10 million.
const PATIENCE_NEPERS: f64 = 16.2;
/// An attempt to align at 30 % loss succeeds at least this often: two hello machines have to stay
/// up, and every round trip takes two packets.
const ATTEMPT_SUCCESS: f64 = 0.5;
/// How often a round trip fails on average before it succeeds at 30 % loss in either direction,
/// rounded up: 1 / 0.7² - 1.
const FAILED_TRIPS: u64 = 2;
/// Octets that a summary takes at most in these worlds, on average.
const SUMMARY_LEN: u64 = 80;
/// Octets of the smallest packet that hubs agree on.
const PACKET_LEN_MIN: usize = 128;
/// What is over stays in the cache, without life, for a few retransmit intervals (K-03).
const LINGER_MAX: u64 = 10 * SEC;

impl Plan {
    /// How long a neighbour may be silent before it counts as dead.
    pub(crate) fn dead_interval(&self) -> u64 {
        self.hello_interval() * u64::from(self.timing.dead_factor)
    }

    pub(crate) fn hello_interval(&self) -> u64 {
        u64::from(self.timing.hello_interval_secs) * SEC
    }

    /// From noticing that a neighbour went to being aligned with it again on links that do no
    /// harm: its silence, two Hellos, CA messages of which one is lost at the moment of healing,
    /// and resends of CSUS and CSU Requests that run out first.
    fn round(&self) -> u64 {
        let timing = &self.timing;
        let resends = 1 + u64::from(super::RESENDS_MAX);
        self.dead_interval()
            + 2 * self.hello_interval()
            + 2 * nanos(timing.ca_retransmit)
            + resends * (nanos(timing.csus_retransmit) + nanos(timing.csu_retransmit))
    }

    /// Virtual time within which the group has to be quiet after faults and writes ended: what
    /// outlasts them, the longest boot hold (D-09), and two rounds, since one may end with an
    /// abnormal event that begins another.
    pub(crate) fn quiet_within(&self) -> u64 {
        let outlasting = faults::end(self).saturating_sub(self.calm_at);
        outlasting + 6 * nanos(self.timing.boot_hold) + 2 * self.round() + self.transit_max()
    }

    /// Virtual time after the end of faults and writes until which hubs may rightly differ, since
    /// records with a short life are on their way out.
    pub(crate) fn settled_after(&self) -> u64 {
        client::SHORT_LIFE_MAX + self.life_tolerance(client::SHORT_LIFE_MAX) + LINGER_MAX
    }

    /// How long a quiet group is watched (K-03: without life nothing moves).
    pub(crate) fn watched_for(&self) -> u64 {
        self.dead_interval() + 3 * self.hello_interval()
    }

    /// Virtual time within which every adjacency has to be aligned once at 30 % loss: an attempt
    /// takes the Hellos and the round trips of the exchange, each of them several times.
    pub(crate) fn aligned_within(&self) -> u64 {
        let summaries = client::chains_len(self) as u64;
        let limits = self.links.iter().map(|link| link.packet_limit);
        let offers = self.hubs.iter().filter_map(|hub| hub.offer);
        let offered = offers.map(|offer| usize::from(offer.packet).max(PACKET_LEN_MIN));
        let page = limits.chain(offered).min().unwrap_or(1472) as u64;
        let messages = 4 + (summaries * SUMMARY_LEN).div_ceil(page);
        let timing = &self.timing;
        let exchange = messages * nanos(timing.ca_retransmit);
        let asking = (messages + u64::from(self.shards_max())) * nanos(timing.csus_retransmit);
        let meeting = 2 * self.hello_interval();
        let attempt = self.dead_interval() + FAILED_TRIPS * (meeting + exchange + asking);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "minutes in nanoseconds"
        )]
        let bound = (attempt as f64 * PATIENCE_NEPERS / -(1.0 - ATTEMPT_SUCCESS).ln()) as u64;
        bound
    }

    fn shards_max(&self) -> u16 {
        self.hubs.iter().map(|hub| hub.shards).max().unwrap_or(1)
    }

    /// Longest time a packet is on its way.
    pub(crate) fn transit_max(&self) -> u64 {
        faults::transit_max(&self.faults, self.quality)
    }

    /// How much longer than at its originator a record with a life of `life` may live elsewhere:
    /// what its packets spent on the way and in hubs that stood still, and what monotonic clocks
    /// differ by.
    pub(crate) fn life_tolerance(&self, life: u64) -> u64 {
        let transit = self.transit_max() + self.lateness_max;
        // After a crash, records are learnt anew from hubs that had them late.
        let hops = (self.hubs.len() + self.faults.len()) as u64;
        hops * (transit + self.core_delay_max + self.batch_max + 2 * MS)
            + faults::stalled(&self.faults)
            + self.wall_tolerance()
            + self.rate_tolerance(life)
    }

    /// Whether a packet may wait for so long that its key is not taken any more.
    pub(crate) fn outlives_keys(&self) -> bool {
        let wait = self.transit_max() + faults::stalled(&self.faults) + SEC;
        self.auth.is_some_and(|auth| auth.overlap < wait)
    }

    /// What lives may be wrong by, in either direction, where a wall clock counted them while a hub
    /// was down.
    pub(crate) fn wall_tolerance(&self) -> u64 {
        if self.hubs.iter().any(|hub| hub.snapshot_interval.is_some()) {
            faults::stepped(&self.faults) + self.faults.len() as u64 * 2 * MS
        } else {
            0
        }
    }

    /// What two monotonic clocks differ by after `life`.
    pub(crate) fn rate_tolerance(&self, life: u64) -> u64 {
        let fastest = self
            .hubs
            .iter()
            .map(|hub| hub.rate_ppm.unsigned_abs())
            .max();
        // One of them counts more than a million where the other counts a million.
        let spread = 2 * fastest.unwrap_or(0) * 102 / 100 + 1;
        life / 1_000_000 * spread + MS
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("timers last seconds")
}
