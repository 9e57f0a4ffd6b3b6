//! Boot hold: no originating before a neighbour could tell what this server originated before it
//! restarted (CSU-20, D-09).

use std::time::Duration;

use crate::Time;
use crate::alignment;
use crate::hello;
use crate::message::ToShard;
use crate::setup::{InstanceIndex, Setup};

use super::{Control, Notice};

/// After so many times `boot_hold` the hold ends in any case (D-09).
const HOLDS_MAX: u32 = 6;

/// Boot hold of one instance.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) released: bool,
    /// From here on the hold ends when no neighbour is beyond Waiting.
    lenient_at: Time,
    ends_at: Time,
    lenient_passed: bool,
}

impl Hold {
    pub(super) fn all(setup: &Setup, now: Time) -> Vec<Self> {
        let hold = |boot_hold: Duration| Self {
            released: false,
            lenient_at: now.saturating_add(boot_hold),
            ends_at: now.saturating_add(boot_hold * HOLDS_MAX),
            lenient_passed: false,
        };
        setup
            .instances
            .iter()
            .map(|instance| hold(instance.boot_hold))
            .collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        match (self.released, self.lenient_passed) {
            (true, _) => None,
            (false, true) => Some(self.ends_at),
            (false, false) => Some(self.lenient_at),
        }
    }
}

impl Control {
    /// Ends the holds that are to end by `now`.
    pub(super) fn release_due(&mut self, now: Time) {
        for index in 0..self.holds.len() {
            let instance = InstanceIndex(u16::try_from(index).expect("checked when configured"));
            if self.holds[index].released || !self.may_release(instance, now) {
                continue;
            }
            self.holds[index].released = true;
            let aligned = self
                .setup
                .dcs_of(instance)
                .any(|dcs| self.dcs[dcs.index()].alignment.state == alignment::State::Aligned);
            self.tell_all(|| ToShard::Release { instance, aligned });
            self.notices.push_back(Notice::Released { instance });
        }
    }

    fn may_release(&mut self, instance: InstanceIndex, now: Time) -> bool {
        let hold = &mut self.holds[instance.index()];
        hold.lenient_passed |= now >= hold.lenient_at;
        let (lenient, over) = (hold.lenient_passed, now >= hold.ends_at);
        let peers = || {
            self.setup
                .dcs_of(instance)
                .map(|dcs| &self.dcs[dcs.index()])
        };
        let hello = |server: usize| self.servers[server].hello.state();
        peers().next().is_none()
            || over
            || peers().any(|peer| peer.alignment.state == alignment::State::Aligned)
            || lenient
                && peers().all(|peer| {
                    matches!(
                        hello(peer.server),
                        hello::State::Down | hello::State::Waiting
                    )
                })
    }
}
