//! What the cores say: packets onto links, messages to other cores, notices, deadlines.

use std::time::Duration;

use scsp_engine::{AuthFailure, DcsIndex, Destination, Notice, shard};
use scsp_wire::{CsuRequest, Envelope, Message, MessageType, ServerId, checksum, is_broadcast};

use crate::check::{Rules, Violation};
use crate::client;
use crate::hub::{CoreMessage, instance_index};
use crate::link::Flaw;
use crate::plan::MS;
use crate::report::Check;
use crate::sabotage::Sabotage;

use super::input::life_of;
use super::{Event, Step, Travel, World, is_hello};

/// Octets of fixed and common part without ids: what was cut shorter is past repair.
const MCP_END: usize = 20;

impl World {
    /// Polls a shard now, or after it has collected some more.
    pub(super) fn drain_later(&mut self, hub: usize, slot: usize) -> Step {
        if self.plan.batch_max == 0 || self.hubs[hub].schedule.chance(300) {
            return self.drain(hub, slot);
        }
        if !self.cores(hub).flush_due[slot] {
            self.cores(hub).flush_due[slot] = true;
            let at = self.now + self.hubs[hub].schedule.below(self.plan.batch_max);
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
        let mut due = cores.clock().when(deadline).max(self.now + 1);
        if self.breaks(hub, Sabotage::RestlessTimer) {
            due = self.now + 1;
        }
        let known = self.cores(hub).wake_at[slot];
        if known.is_none_or(|at| due < at) {
            let at = due + self.hubs[hub].schedule.below(self.plan.lateness_max + 1);
            let at = known.map_or(at, |known| known.min(at));
            self.cores(hub).wake_at[slot] = Some(at);
            let run = self.hubs[hub].run;
            self.at(at, Event::Wake { hub, run, slot });
        }
        Ok(())
    }

    fn drain_control(&mut self, hub: usize) -> Step {
        while let Some(notice) = self.cores(hub).control.poll_notice() {
            self.notice(hub, &notice)?;
        }
        while let Some((shard, message)) = self.cores(hub).control.poll_message() {
            self.tell(hub, 0, 1 + shard.index(), CoreMessage::Shard(message));
        }
        while let Some(outgoing) = self.cores(hub).control.poll_transmit() {
            self.send(hub, outgoing.to, &outgoing.bytes)?;
        }
        Ok(())
    }

    fn notice(&mut self, hub: usize, notice: &Notice) -> Step {
        if self.options.trace {
            self.trace_line(format_args!("{hub} {notice:?}"));
        }
        let now = self.hubs[hub].local(self.now);
        match *notice {
            Notice::Hello { dcs, from, to } => {
                self.hubs[hub].watches[dcs.index()].hello_moved(now, from, to);
            }
            Notice::Alignment {
                dcs,
                from,
                to,
                took,
            } => {
                self.stats.alignments += u64::from(took.is_some());
                self.hubs[hub].watches[dcs.index()].alignment_moved(now, from, to);
            }
            Notice::Abnormal { count, .. } => self.stats.abnormal += count,
            Notice::Unauthenticated { failure, count, .. } => {
                self.stats.unauthenticated += count;
                // What waited in a hub that stood still may be too late; what a fault made up is
                // not signed.
                if failure != AuthFailure::Missing && !self.plan.outlives_keys() {
                    let detail = format!("hub {hub}: {count} times {failure:?}");
                    return self.fail((Check::Authentication, detail));
                }
            }
            Notice::NoSendKey { .. } => {
                return self.fail((Check::Authentication, format!("hub {hub} has no key")));
            }
            _ => {}
        }
        Ok(())
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
            self.stats.shared_sends += u64::from(transmit.segment.is_some());
            let segment = transmit.segment.unwrap_or(transmit.len).max(1);
            for packet in buffer[..transmit.len].chunks(segment) {
                self.send(hub, transmit.to, packet)?;
            }
        }
        self.buffer = buffer;
        self.queues_bounded(hub, shard)
    }

    /// CSU-07: a queue holds an entry at most once. A request list holds at most what an exchange
    /// put on it and one summary for every reply that showed a newer record (CSU-08).
    fn queues_bounded(&mut self, hub: usize, shard: usize) -> Step {
        let wanted_max = 2 * client::chains_len(&self.plan) as u64 + self.stats.writes;
        let this = &self.hubs[hub];
        let core = &this.cores.as_ref().expect("it is running").shards[shard];
        for index in 0..this.watches.len() {
            let dcs = DcsIndex(u16::try_from(index).expect("few"));
            let at = instance_index(this.instance_of(dcs));
            let (queued, entries) = (core.queue_len(dcs), core.entries(at));
            let wanted = core.requests_len(dcs) as u64;
            let queued = if self.breaks(hub, Sabotage::EndlessQueue) {
                entries + 1
            } else {
                queued
            };
            if queued > entries || wanted > wanted_max {
                let detail = format!("hub {hub}: {queued} of {entries} queued, {wanted} wanted");
                return self.fail((Check::QueueLen, detail));
            }
        }
        Ok(())
    }

    fn tell(&mut self, hub: usize, from: usize, slot: usize, message: CoreMessage) {
        let longest = self.plan.core_delay_max;
        let schedule = &mut self.hubs[hub].schedule;
        let delay = if schedule.chance(900) {
            longest / 20
        } else {
            longest
        };
        let delay = schedule.below(delay + 1);
        let now = self.now;
        let at = self.cores(hub).arrival(from, slot, now, delay);
        if !message.is_hello() {
            self.in_flight += 1;
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
    fn send(&mut self, hub: usize, to: Destination, bytes: &[u8]) -> Step {
        let this = &self.hubs[hub];
        let (dcs, port) = match to {
            Destination::Dcs(dcs) => (dcs, None),
            Destination::Group(link) => (this.dcs_on(0, link.index())[0], Some(link.index())),
        };
        let Some(altered) = self.sabotaged(hub, dcs, port.is_some(), bytes) else {
            return Ok(());
        };
        for bytes in altered
            .iter()
            .map(Vec::as_slice)
            .chain(altered.is_empty().then_some(bytes))
        {
            if let Some(port) = port {
                let judged = self.judge_group(hub, port, bytes);
                self.sent(hub, judged)?;
                self.carry_to_all(hub, port, bytes);
            } else {
                let judged = self.judge_packet(hub, dcs, bytes);
                self.sent(hub, judged)?;
                self.carry_to(hub, dcs, bytes);
            }
        }
        Ok(())
    }

    fn carry_to_all(&mut self, hub: usize, port: usize, bytes: &[u8]) {
        let link = self.hubs[hub].ports[port];
        let members = self.links[link].members.clone();
        for other in members.into_iter().filter(|other| *other != hub) {
            self.carry(link, hub, other, bytes);
        }
    }

    fn sent(&mut self, hub: usize, judged: Result<MessageType, Violation>) -> Step {
        let kind = match judged {
            Ok(kind) => kind,
            Err((check, detail)) => return self.fail((check, format!("hub {hub} {detail}"))),
        };
        self.stats.packets[usize::from(kind.code()) - 1] += 1;
        if kind != MessageType::Hello {
            self.busy_at = self.now;
        }
        Ok(())
    }

    fn judge_packet(
        &mut self,
        hub: usize,
        dcs: DcsIndex,
        bytes: &[u8],
    ) -> Result<MessageType, Violation> {
        let (envelope, message) = whole(bytes)?;
        let family = match &message {
            Message::Hello(_) => self.hubs[hub].relatives(&self.plan, dcs),
            _ => vec![dcs],
        };
        for dcs in family {
            let this = &self.hubs[hub];
            let neighbour = this.neighbour(dcs);
            let (own, peer) = (this.id, self.hubs[neighbour.hub].id);
            let agreed = self.plan.agreed(hub, neighbour.hub);
            let rules = Rules {
                agreed,
                ..self.rules(hub, neighbour.link, &own, Some(&peer))
            };
            let result = self.hubs[hub].watches[dcs.index()].sent(&rules, &envelope, &message);
            result.map_err(|(check, detail)| {
                (check, format!("to hub {}: {detail}", neighbour.hub))
            })?;
        }
        if let Message::CsuRequest(request) = &message {
            self.judge_records(hub, self.hubs[hub].instance_of(dcs), request)?;
        }
        Ok(envelope.message_type())
    }

    /// To everybody on a multipoint link go Hellos (H-10), and CSU Requests (CSU-14) that at least
    /// one of them may have (CSU-01).
    fn judge_group(
        &mut self,
        hub: usize,
        port: usize,
        bytes: &[u8],
    ) -> Result<MessageType, Violation> {
        let (envelope, message) = whole(bytes)?;
        let kind = envelope.message_type();
        let this = &self.hubs[hub];
        let (own, link) = (this.id, this.ports[port]);
        let Some(instance) = this.instance(envelope.protocol(), envelope.group()) else {
            return Err((Check::Packet, format!("{kind:?} of no instance")));
        };
        let all = this.dcs_on(instance, port);
        let dcs: Vec<DcsIndex> = match &message {
            Message::Hello(_) => {
                let relatives = |dcs: &DcsIndex| this.relatives(&self.plan, *dcs);
                all.iter().flat_map(relatives).collect()
            }
            Message::CsuRequest(_) if is_broadcast(envelope.receiver()) => {
                let open = |dcs: &&DcsIndex| this.watches[dcs.index()].is_updating();
                let open: Vec<DcsIndex> = all.iter().filter(open).copied().collect();
                // Where there is none, whether that is only just so is found out from any.
                if open.is_empty() { all } else { open }
            }
            _ => return Err((Check::Packet, format!("{kind:?} to everybody"))),
        };
        let rules = self.rules(hub, link, &own, None);
        let mut first = Err((Check::Packet, "to nobody".to_owned()));
        for dcs in dcs {
            let result = self.hubs[hub].watches[dcs.index()].sent(&rules, &envelope, &message);
            if kind == MessageType::Hello {
                result?;
                first = Ok(());
            } else {
                first = first.or(result);
            }
        }
        first?;
        if let Message::CsuRequest(request) = &message {
            self.judge_records(hub, instance, request)?;
        }
        Ok(kind)
    }

    fn rules<'a>(
        &self,
        hub: usize,
        link: usize,
        own: &'a ServerId,
        neighbour: Option<&'a ServerId>,
    ) -> Rules<'a> {
        let (this, timing) = (&self.hubs[hub], &self.plan.timing);
        Rules {
            now: this.local(self.now),
            own,
            neighbour,
            packet_limit: self.plan.links[link].packet_limit,
            datagram_limit: self.plan.datagram_limit,
            agreed: None,
            hello_interval: Duration::from_secs(timing.hello_interval_secs.into()),
            hop_count: timing.hop_count,
            csus_retransmit: timing.csus_retransmit,
            lag: this.lag(&self.plan, self.now),
        }
    }

    /// Records are sent as they are held: the newest instance (CSU-07), with the hops that are
    /// left (CSU-16) and no more life (K-03).
    fn judge_records(
        &self,
        hub: usize,
        instance: usize,
        request: &CsuRequest<'_>,
    ) -> Result<(), Violation> {
        let this = &self.hubs[hub];
        let is_kv = self.plan.instances[instance].is_kv;
        let cores = this.cores.as_ref().expect("it is running");
        for record in request.records().filter(|record| !record.summary.null) {
            let summary = &record.summary;
            let held = cores.find(instance_index(instance), summary.key, summary.originator);
            let Some(seen) = held.filter(|seen| seen.seq == summary.seq.get()) else {
                let text = self.summary_text(summary);
                return Err((Check::Stale, format!("{text}, held: {held:?}")));
            };
            if seen.seq == i32::MAX {
                continue; // What goes out is the purge, what is held waits for its end (CSU-19).
            }
            let content = match scsp_profile::KvBody::parse(record.body) {
                Ok(body) if is_kv => body.value,
                _ => record.body,
            };
            if content != seen.content {
                let text = self.summary_text(summary);
                return Err((Check::Stale, format!("{text} with other content")));
            }
            let chain = self.chain_of(instance, summary);
            // What goes and comes with a purge is not seen to do so (CSU-19).
            let chain = chain.filter(|chain| !self.starts_again(*chain));
            let hops = chain.and_then(|chain| this.records.hops(chain, seen.seq));
            if summary.originator != this.id.as_bytes()
                && hops.is_some_and(|hops| summary.hop_count > hops.max(1))
            {
                let detail = format!("{}, {hops:?} hops left", self.summary_text(summary));
                return Err((Check::HopCount, detail));
            }
            let life = life_of(&record).filter(|_| is_kv && !seen.withdrawn);
            if let (Some(life), Some(expires)) = (life, seen.expires)
                && self.now + life > expires.max(self.now) + self.plan.rate_tolerance(life) + MS
            {
                let text = self.summary_text(summary);
                let detail = format!("{text} with {life} ns, held until {expires} ns");
                return Err((Check::Life, detail));
            }
        }
        Ok(())
    }

    /// Sends a packet past the checks.
    pub(crate) fn carry_to(&mut self, hub: usize, dcs: DcsIndex, bytes: &[u8]) {
        let neighbour = self.hubs[hub].neighbour(dcs);
        self.carry(neighbour.link, hub, neighbour.hub, bytes);
    }

    fn carry(&mut self, link: usize, from: usize, hub: usize, bytes: &[u8]) {
        let mut arriving = Vec::new();
        self.links[link].between_mut(from, hub).carry(
            &mut self.stats.links,
            bytes,
            |delay, bytes, flaw| arriving.push((delay, bytes, flaw)),
        );
        let repairs = self.options.sabotage == Some(Sabotage::RepairedDamage);
        for (delay, mut bytes, flaw) in arriving {
            if repairs && flaw == Flaw::Damaged && bytes.len() > MCP_END {
                checksum::seal(&mut bytes);
            }
            if flaw == Flaw::None && !is_hello(&bytes) {
                self.in_flight += 1;
            }
            let travel = Travel {
                hub,
                link,
                from,
                bytes,
                flaw,
                run: None,
                slot: None,
            };
            self.at(self.now + delay, Event::Packet(Box::new(travel)));
        }
    }
}

/// A packet that is sent is well-formed, and nothing follows it.
fn whole(bytes: &[u8]) -> Result<(Envelope<'_>, Message<'_>), Violation> {
    let malformed = |error| (Check::Packet, format!("{error:?} in what was sent"));
    let envelope = Envelope::parse(bytes).map_err(malformed)?;
    let message = envelope.open().map_err(malformed)?;
    if envelope.bytes().len() != bytes.len() {
        let kind = envelope.message_type();
        return Err((Check::Packet, format!("{kind:?} with wrong size")));
    }
    Ok((envelope, message))
}
