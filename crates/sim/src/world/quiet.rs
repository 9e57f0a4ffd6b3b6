//! Is it quiet, and does it stay so?

use scsp_engine::{DcsIndex, alignment, hello};
use scsp_wire::MessageType;

use crate::hub::{Hub, instance_index};
use crate::plan::{SEC, Scenario};
use crate::report::Check;

use super::{Event, PROBE_GAP, Step, World};

/// Nothing but Hellos has to be sent for so long.
const QUIET: u64 = 5 * SEC / 2;
/// Calls of timers in a quiet group, for each Hello that is sent: one to send it, one when it is
/// heard, since that moves when its sender counts as dead, and as many again.
const WAKES_PER_HELLO: u64 = 4;

impl World {
    /// Looks at everything that is to hold at any time, and whether it is over.
    pub(super) fn probe(&mut self) -> Step {
        self.at(self.now + PROBE_GAP, Event::Probe);
        self.swept = (self.swept + 1) % self.hubs.len();
        let shards = self.hubs[self.swept].shards();
        (0..shards).try_for_each(|shard| self.sweep(self.swept, shard))?;
        self.hellos_flow()?;
        let Some(since) = self.calm_since else {
            if self.loss_overcome() {
                let took = self.now - self.plan.writes_until;
                self.stats.align_permille = 1000 * took / self.plan.aligned_within();
                self.calm();
            }
            return Ok(());
        };
        if self.plan.scenario == Scenario::HeavyLoss && since >= self.plan.calm_at {
            let never = |hub: &Hub| hub.watches.iter().any(|watch| !watch.was_aligned);
            let hubs: Vec<usize> = (0..self.hubs.len())
                .filter(|hub| never(&self.hubs[*hub]))
                .collect();
            if !hubs.is_empty() {
                let detail = format!("30 % loss: hubs {hubs:?} never aligned with a neighbour");
                return self.fail((Check::Liveness, detail));
            }
        }
        let restless = self.restless();
        if let Some((quiet, _)) = &self.quiet_since {
            let quiet = *quiet;
            self.stays_quiet(restless)?;
            if self.now < quiet + self.plan.watched_for() {
                return Ok(());
            }
            self.moves_little()?;
            self.is_over = true;
            return self.judge();
        }
        match restless {
            None => {
                let took = self.busy_at.saturating_sub(since);
                self.stats.rest_permille = 1000 * took / self.plan.quiet_within();
                if self.now >= since + self.plan.settled_after() {
                    self.quiet_since = Some((self.now, self.stats.clone()));
                }
                Ok(())
            }
            Some(reason) if self.now > since + self.plan.quiet_within() + QUIET => {
                self.fail((Check::Liveness, reason))
            }
            Some(_) => Ok(()),
        }
    }

    /// H-03, for hubs that send none at all.
    fn hellos_flow(&self) -> Step {
        let interval = self.plan.hello_interval();
        for (index, hub) in self.hubs.iter().enumerate() {
            if hub.cores.is_none() || hub.awake_at(Some(0)) > self.now {
                continue;
            }
            let now = hub.local(self.now);
            for watch in &hub.watches {
                if let Some(gap) = watch.hello_overdue(now, interval + self.plan.lateness_max) {
                    let detail = format!("hub {index}: none for {gap} ns");
                    return self.fail((Check::HelloGap, detail));
                }
            }
        }
        Ok(())
    }

    /// Quiet means quiet: nothing but Hellos flows any more.
    fn stays_quiet(&self, restless: Option<String>) -> Step {
        let (_, before) = self.quiet_since.as_ref().expect("it was found quiet");
        if let Some(reason) = restless {
            return self.fail((Check::Restless, reason));
        }
        for kind in MessageType::ALL {
            let at = usize::from(kind.code()) - 1;
            let sent = self.stats.packets[at] - before.packets[at];
            if kind != MessageType::Hello && sent > 0 {
                return self.fail((Check::Restless, format!("{sent} {kind:?} were sent")));
            }
        }
        Ok(())
    }

    /// Hellos flow no more often than they are jittered to, and timers are called for them alone.
    fn moves_little(&self) -> Step {
        let (since, before) = self.quiet_since.as_ref().expect("it was found quiet");
        let running = || (0..self.hubs.len()).filter(|hub| self.hubs[*hub].cores.is_some());
        let streams: u64 = running().map(|hub| self.plan.streams(hub)).sum();
        let neighbours: usize = running().map(|hub| self.hubs[hub].watches.len()).sum();
        let intervals = (self.now - since) / (self.plan.hello_interval() * 85 / 100) + 2;
        let at = usize::from(MessageType::Hello.code()) - 1;
        let hellos = self.stats.packets[at] - before.packets[at];
        if hellos > streams * intervals {
            let detail = format!("{hellos} Hellos in {streams} series");
            return self.fail((Check::Restless, detail));
        }
        let wakes = self.stats.wakes - before.wakes;
        let most = WAKES_PER_HELLO * intervals * neighbours as u64 + self.stats.expiring;
        if wakes > most {
            let detail = format!("{wakes} calls of timers with {hellos} Hellos");
            return self.fail((Check::Restless, detail));
        }
        Ok(())
    }

    /// Why it is not quiet.
    fn restless(&self) -> Option<String> {
        for (index, hub) in self.hubs.iter().enumerate().filter(|(_, hub)| !hub.gone) {
            let Some(cores) = &hub.cores else {
                return Some(format!("hub {index} is down"));
            };
            for dcs in 0..hub.watches.len() {
                let dcs = DcsIndex(u16::try_from(dcs).expect("few"));
                let neighbour = hub.neighbour(dcs);
                let peer = neighbour.hub;
                let status = cores.control.peer(dcs);
                let (hello, alignment) = (status.hello, status.alignment);
                let parted = self.links[neighbour.link].is_parted(index, peer);
                let is_as_it_must = if parted || self.hubs[peer].cores.is_none() {
                    hello != hello::State::Bidirectional
                } else {
                    alignment == alignment::State::Aligned
                };
                if !is_as_it_must {
                    return Some(format!(
                        "hub {index} to hub {peer}: {hello:?}, {alignment:?}"
                    ));
                }
                for shard in &cores.shards {
                    let (queued, wanted) = (shard.queue_len(dcs), shard.requests_len(dcs));
                    if queued + wanted > 0 {
                        return Some(format!(
                            "hub {index} to hub {peer}: {queued} records queued, {wanted} wanted"
                        ));
                    }
                }
            }
            let held = (0..self.plan.instances.len()).any(|at| {
                let at = instance_index(at);
                cores.control.is_held(at) || cores.shards.iter().any(|shard| shard.is_held(at))
            });
            if held {
                return Some(format!("hub {index} is still loading"));
            }
        }
        if self.in_flight > 0 {
            return Some(format!(
                "{} packets or core messages on their way",
                self.in_flight
            ));
        }
        (self.now < self.busy_at + QUIET).then(|| "packets are still being sent".into())
    }
}
