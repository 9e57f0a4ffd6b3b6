//! What the cores say: packets onto links, messages to other cores, notices, deadlines.

use std::time::Duration;

use scsp_engine::{DcsIndex, Destination, InstanceIndex, Notice, ToControl, shard};
use scsp_wire::MessageType;

use crate::check::Rules;
use crate::client;
use crate::hub::CoreMessage;
use crate::link::Flaw;
use crate::report::Check;

use super::{Event, Step, World, is_hello};

impl World {
    /// Polls a shard now, or after it has collected some more.
    pub(super) fn drain_later(&mut self, hub: usize, slot: usize) -> Step {
        if self.plan.batch_max == 0 || self.schedule.chance(300) {
            return self.drain(hub, slot);
        }
        if !self.cores(hub).flush_due[slot] {
            self.cores(hub).flush_due[slot] = true;
            let at = self.now + self.schedule.below(self.plan.batch_max);
            let run = self.hubs[hub].run;
            self.at(at, Event::Flush { hub, run, slot });
        }
        Ok(())
    }

    /// Polls a core until it has nothing more to say.
    pub(super) fn drain(&mut self, hub: usize, slot: usize) -> Step {
        if slot == 0 {
            self.drain_control(hub)?;
        } else {
            self.drain_shard(hub, slot - 1)?;
        }
        let cores = self.cores(hub);
        let deadline = match slot {
            0 => cores.control.next_deadline(),
            _ => cores.shards[slot - 1].next_deadline(),
        };
        let Some(deadline) = deadline else {
            return Ok(());
        };
        let due = deadline
            .as_nanos()
            .saturating_sub(cores.clock_base)
            .max(self.now + 1);
        let known = self.cores(hub).wake_at[slot];
        if known.is_none_or(|at| due < at) {
            let at = due + self.schedule.below(self.plan.lateness_max + 1);
            let at = known.map_or(at, |known| known.min(at));
            self.cores(hub).wake_at[slot] = Some(at);
            let run = self.hubs[hub].run;
            self.at(at, Event::Wake { hub, run, slot });
        }
        Ok(())
    }

    fn drain_control(&mut self, hub: usize) -> Step {
        while let Some(notice) = self.cores(hub).control.poll_notice() {
            self.notice(hub, &notice);
        }
        while let Some((shard, message)) = self.cores(hub).control.poll_message() {
            self.tell(hub, 0, 1 + shard.index(), CoreMessage::Shard(message));
        }
        while let Some(outgoing) = self.cores(hub).control.poll_transmit() {
            self.send(hub, one(outgoing.to), &outgoing.bytes)?;
        }
        Ok(())
    }

    fn notice(&mut self, hub: usize, notice: &Notice) {
        if self.options.trace {
            self.trace_line(format_args!("{hub} {notice:?}"));
        }
        match *notice {
            Notice::Hello { dcs, from, to } => {
                self.hubs[hub].watches[dcs.index()].hello_moved(self.now, from, to);
            }
            Notice::Alignment {
                dcs,
                from,
                to,
                took,
            } => {
                self.stats.alignments += u64::from(took.is_some());
                self.hubs[hub].watches[dcs.index()].alignment_moved(self.now, from, to);
            }
            Notice::Abnormal { .. } => self.stats.abnormal += 1,
            _ => {}
        }
    }

    fn drain_shard(&mut self, hub: usize, shard: usize) -> Step {
        let clocks = self.clocks(hub);
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            while let Some(message) = self.cores(hub).shards[shard].poll_message() {
                let (slot, message) = match message {
                    shard::Message::Control(message) => (0, CoreMessage::Control(message)),
                    shard::Message::Shard(to, message) => {
                        (1 + to.index(), CoreMessage::Shard(message))
                    }
                };
                self.tell(hub, 1 + shard, slot, message);
            }
            let transmit = self.cores(hub).shards[shard].poll_transmit(clocks, &mut buffer);
            let Some(transmit) = transmit else { break };
            let segment = transmit.segment.unwrap_or(transmit.len).max(1);
            for packet in buffer[..transmit.len].chunks(segment) {
                self.send(hub, one(transmit.to), packet)?;
            }
        }
        self.buffer = buffer;
        self.queues_bounded(hub, shard)
    }

    /// CSU-07: a queue holds an entry at most once. A request list holds at most what an exchange
    /// put on it and one summary for every reply that showed a newer record (CSU-08).
    fn queues_bounded(&mut self, hub: usize, shard: usize) -> Step {
        let neighbours = self.hubs[hub].neighbours.len();
        let wanted_max = 2 * client::chains_len(&self.plan) as u64 + self.stats.writes;
        for index in 0..self.hubs[hub].watches.len() {
            let dcs = DcsIndex(u16::try_from(index).expect("few"));
            let at = InstanceIndex(u16::try_from(index / neighbours).expect("at most two"));
            let core = &self.cores(hub).shards[shard];
            let (queued, entries) = (core.queue_len(dcs), core.entries(at));
            let wanted = core.requests_len(dcs) as u64;
            if queued > entries || wanted > wanted_max {
                let detail = format!("hub {hub}: {queued} of {entries} queued, {wanted} wanted");
                return self.fail((Check::QueueLen, detail));
            }
        }
        Ok(())
    }

    fn tell(&mut self, hub: usize, from: usize, slot: usize, message: CoreMessage) {
        let longest = self.plan.core_delay_max;
        let delay = if self.schedule.chance(900) {
            longest / 20
        } else {
            longest
        };
        let delay = self.schedule.below(delay + 1);
        let now = self.now;
        let at = self.cores(hub).arrival(from, slot, now, delay);
        self.in_flight += 1;
        let hello = |message: &CoreMessage| match message {
            CoreMessage::Control(ToControl::Packet { bytes, .. }) => is_hello(bytes),
            _ => false,
        };
        if !hello(&message) {
            self.busy_at = now;
        }
        let run = self.hubs[hub].run;
        self.at(
            at,
            Event::Core {
                hub,
                run,
                slot,
                message,
            },
        );
    }

    /// A core sends a packet: it is judged and goes onto its link.
    fn send(&mut self, hub: usize, dcs: DcsIndex, bytes: &[u8]) -> Step {
        let Some(altered) = self.sabotaged(hub, dcs, bytes) else {
            return Ok(());
        };
        for bytes in altered
            .iter()
            .map(Vec::as_slice)
            .chain(altered.is_empty().then_some(bytes))
        {
            self.send_one(hub, dcs, bytes)?;
        }
        Ok(())
    }

    fn send_one(&mut self, hub: usize, dcs: DcsIndex, bytes: &[u8]) -> Step {
        let this = &self.hubs[hub];
        let neighbour = this.neighbour(dcs);
        let (own, peer) = (this.id, self.hubs[neighbour.hub].id);
        let timing = &self.plan.timing;
        let rules = Rules {
            now: self.now,
            own: &own,
            neighbour: &peer,
            packet_limit: self.plan.packet_limits[neighbour.link],
            hello_interval: Duration::from_secs(timing.hello_interval_secs.into()),
            csus_retransmit: timing.csus_retransmit,
            lag: self.lag(),
        };
        let kind = match self.hubs[hub].watches[dcs.index()].sent(&rules, bytes) {
            Ok(kind) => kind,
            Err((check, detail)) => {
                let detail = format!("hub {hub} to hub {}: {detail}", neighbour.hub);
                return self.fail((check, detail));
            }
        };
        self.stats.packets[usize::from(kind.code()) - 1] += 1;
        if kind != MessageType::Hello {
            self.busy_at = self.now;
        }
        self.carry(neighbour.link, neighbour.forth, bytes);
        Ok(())
    }

    /// How much later than `Control` a shard may learn of something.
    pub(super) fn lag(&self) -> u64 {
        self.plan.core_delay_max + self.plan.batch_max + self.plan.lateness_max
    }

    pub(super) fn carry(&mut self, link: usize, forth: bool, bytes: &[u8]) {
        let (a, b) = self.links[link].ends;
        let hub = if forth { b } else { a };
        let mut arriving = Vec::new();
        self.links[link].direction_mut(forth).carry(
            &mut self.network,
            &mut self.stats.links,
            bytes,
            |delay, bytes, flaw| arriving.push((delay, bytes, flaw)),
        );
        for (delay, bytes, flaw) in arriving {
            if flaw == Flaw::None && !is_hello(&bytes) {
                self.in_flight += 1;
            }
            self.at(
                self.now + delay,
                Event::Packet {
                    hub,
                    link,
                    bytes,
                    flaw,
                    run: None,
                },
            );
        }
    }
}

/// The DCS a packet goes to.
fn one(to: Destination) -> DcsIndex {
    match to {
        Destination::Dcs(dcs) => dcs,
        Destination::Group(_) => unreachable!("all links are unicast"),
    }
}
