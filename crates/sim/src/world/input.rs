//! What comes to the cores: packets, messages of other cores, deadlines.

use scsp_engine::message::BatchKind;
use scsp_engine::{DcsIndex, LinkIndex, ToControl, ToShard, shard};
use scsp_profile::KvBody;
use scsp_wire::{Ca, Envelope, Message, Record, Summaries, Summary};

use crate::check::Violation;
use crate::client;
use crate::hub::{CoreMessage, Cores, Seen, instance_index};
use crate::link::Flaw;
use crate::plan::{MS, SEC};
use crate::report::Check;

use super::{Event, Step, Travel, World, is_hello};

/// Timer calls of one hub per [`SPIN_WINDOW`] that no work explains.
const WAKES_MAX: u64 = 20_000;
const SPIN_WINDOW: u64 = SEC / 10;

impl World {
    /// A packet arrives at a hub, whose kernel hands it to some thread.
    pub(super) fn packet(&mut self, travel: Travel) -> Step {
        let Travel {
            hub, link, from, ..
        } = travel;
        let this = &self.hubs[hub];
        let (Some(cores), Some(position)) = (&this.cores, this.position(link, from)) else {
            return Ok(());
        };
        let slots = cores.slots();
        let envelope = match Envelope::parse(&travel.bytes) {
            Ok(envelope) => envelope,
            Err(error) if travel.flaw == Flaw::None => {
                return self.fail((Check::Packet, format!("{error:?} in what arrived whole")));
            }
            Err(error) => {
                let slot = self.hubs[hub].schedule.index(slots);
                let (cores, reason) = (self.cores(hub), shard::Drop::Malformed(error));
                match slot {
                    0 => cores.control.drop_packet(reason),
                    _ => cores.shards[slot - 1].drop_packet(reason),
                }
                return Ok(());
            }
        };
        match travel.flaw {
            Flaw::None => {}
            Flaw::SizeDamaged => return Ok(()),
            Flaw::Damaged => return self.fail((Check::Damage, format!("{:?}", envelope.bytes()))),
        }
        let Some(instance) = this.instance(envelope.protocol(), envelope.group()) else {
            return Ok(());
        };
        let message = envelope.open().ok();
        let dcs = match &message {
            Some(Message::Hello(hello)) => {
                let station = u16::try_from(position).expect("few");
                let port = LinkIndex(u16::try_from(this.neighbours[position].port).expect("few"));
                let names = (envelope.protocol(), envelope.group());
                cores.setup.hello_dcs(port, station, names, hello.family)
            }
            _ => Some(this.dcs(instance, position)),
        };
        let Some(dcs) = dcs else { return Ok(()) };
        let slot = match travel.slot {
            Some(slot) => slot,
            None => self.steer(hub, slots, message.as_ref()),
        };
        let until = self.cores(hub).slow_until[slot];
        if until > self.now {
            let (run, slot) = (Some(self.hubs[hub].run), Some(slot));
            self.in_flight += u64::from(!is_hello(&travel.bytes));
            let travel = Travel {
                run,
                slot,
                ..travel
            };
            self.at(until, Event::Packet(Box::new(travel)));
            return Ok(());
        }
        self.stats.fold_bytes(&travel.bytes);
        if let Some(message) = &message {
            let this = &mut self.hubs[hub];
            let lag = this.lag(&self.plan, self.now);
            let now = this.local(self.now);
            this.watches[dcs.index()].received(now, lag, message);
        }
        if self.swallows(hub, dcs, message.as_ref()) {
            return Ok(());
        }
        let wanting = self.wanting(hub, dcs);
        let clocks = self.clocks(hub);
        if slot == 0 {
            let control = &mut self.cores(hub).control;
            let dropped = control.packets().dropped;
            control.handle_packet(clocks, dcs, &envelope);
            let is_taken_in = control.packets().dropped == dropped;
            if let Some(Message::Ca(ca)) = message.as_ref().filter(|_| is_taken_in) {
                self.ca_received(hub, dcs, ca);
            }
            return self.drain(hub, slot);
        }
        self.cores(hub).shards[slot - 1].handle_packet(clocks, dcs, &envelope);
        if let Some(Message::CsuRequest(request)) = &message {
            for record in request.records() {
                self.look(hub, dcs, &record, wanting)?;
            }
        }
        self.drain_later(hub, slot)
    }

    /// The core whose socket gets a packet: mostly the one that the kernel is told to find,
    /// `Control` for its messages and the owner of the first record for the others.
    fn steer(&mut self, hub: usize, slots: usize, message: Option<&Message<'_>>) -> usize {
        let is_for_control = matches!(message, Some(Message::Hello(_) | Message::Ca(_)));
        let first = match message {
            Some(Message::CsuRequest(it)) => it.records().next().map(|record| record.summary.key),
            Some(Message::CsuReply(it)) => it.summaries().next().map(|summary| summary.key),
            Some(Message::Csus(it)) => it.summaries().next().map(|summary| summary.key),
            _ => None,
        };
        match first {
            _ if !self.hubs[hub].schedule.chance(700) => self.hubs[hub].schedule.index(slots),
            Some(key) => 1 + self.cores(hub).owner(key),
            None if is_for_control => 0,
            None => self.hubs[hub].schedule.index(slots),
        }
    }

    pub(super) fn core_message(
        &mut self,
        hub: usize,
        run: u32,
        slot: usize,
        message: CoreMessage,
    ) -> Step {
        if !self.is_running(hub, run) {
            return Ok(());
        }
        self.panics(hub, &message);
        let clocks = self.clocks(hub);
        match message {
            CoreMessage::Control(message) => {
                if let ToControl::Packet { dcs, bytes, .. } = &message
                    && let Ok(Message::Ca(ca)) = Message::parse(bytes)
                {
                    self.ca_received(hub, *dcs, &ca);
                }
                self.cores(hub).control.handle_message(clocks, message);
                self.drain(hub, slot)
            }
            CoreMessage::Shard(message) => {
                let sweeps = matches!(message, ToShard::Update { .. }); // It may take in more.
                let records = match &message {
                    ToShard::Batch {
                        dcs,
                        kind: BatchKind::Request | BatchKind::Broadcast,
                        bytes,
                        ..
                    } => Some((*dcs, bytes.clone())),
                    ToShard::Packet { dcs, bytes } => Some((*dcs, request_of(bytes))),
                    ToShard::Offer { dcs, bytes, .. } => {
                        self.offered(hub, *dcs, bytes);
                        None
                    }
                    _ => None,
                };
                let wanting = records
                    .as_ref()
                    .is_some_and(|(dcs, _)| self.wanting(hub, *dcs));
                self.cores(hub).shards[slot - 1].handle_message(clocks, message);
                if let Some((dcs, bytes)) = records {
                    let mut rest = &bytes[..];
                    while let Ok((record, after)) = Record::split_first(rest) {
                        self.look(hub, dcs, &record, wanting)?;
                        rest = after;
                    }
                }
                if sweeps {
                    self.sweep(hub, slot - 1)?;
                }
                self.drain_later(hub, slot)
            }
        }
    }

    fn ca_received(&mut self, hub: usize, dcs: DcsIndex, ca: &Ca<'_>) {
        let agreed = self.plan.agreed(hub, self.hubs[hub].neighbour(dcs).hub);
        self.hubs[hub].watches[dcs.index()].ca_received(ca, agreed);
    }

    /// Whether a hub may have asked `dcs` for what it is about to get.
    fn wanting(&self, hub: usize, dcs: DcsIndex) -> bool {
        let cores = self.hubs[hub].cores.as_ref().expect("it is running");
        cores.shards.iter().any(|shard| shard.requests_len(dcs) > 0)
    }

    /// Where the records of (key, originator) stand in tables.
    pub(super) fn chain_of(&self, instance: usize, summary: &Summary<'_>) -> Option<usize> {
        let originator = self.hub_of(summary.originator)?;
        let key = self.keys.number(instance, summary.key)?;
        client::chain(&self.plan, instance, key, originator)
    }

    /// Looks at the entry that a record which just came is about.
    fn look(&mut self, hub: usize, dcs: DcsIndex, record: &Record<'_>, wanting: bool) -> Step {
        let summary = &record.summary;
        let instance = self.hubs[hub].instance_of(dcs);
        let Some(chain) = self.chain_of(instance, summary) else {
            return self.fail((Check::LostWrite, format!("nobody ever wrote {summary:?}")));
        };
        let this = &mut self.hubs[hub];
        let cores = this.cores.as_ref().expect("it is running");
        let found = cores.find(instance_index(instance), summary.key, summary.originator);
        let shard = cores.owner(summary.key);
        if summary.null {
            // What is held goes back with all hops (D-06).
            if let Some(seen) = &found {
                let hops = self.plan.timing.hop_count;
                this.records.came(chain, seen.seq, hops);
            }
        }
        let before = this.records.last(chain);
        let mut result = this.records.held(chain, shard, found.as_ref());
        let is_this = |seen: &Seen<'_>| seen.seq == summary.seq.get() && before != Some(seen.seq);
        if let Some(seen) = found.filter(is_this) {
            // CSU-16, D-06
            let hops = if wanting || this.was_squeezed || summary.originator == this.id.as_bytes() {
                self.plan.timing.hop_count
            } else {
                summary.hop_count.saturating_sub(1)
            };
            this.records.came(chain, seen.seq, hops);
            let is_kv = self.plan.instances[instance].is_kv;
            // An own record may have been answered with the own state (D-12).
            let own = summary.originator == this.id.as_bytes();
            let life = life_of(record).filter(|_| is_kv && !own && seen.seq < i32::MAX);
            if let (Some(life), Some(expires), false) = (life, seen.expires, seen.withdrawn)
                && expires > self.now + life + self.plan.rate_tolerance(life)
            {
                let detail = format!("came with {life} ns, held until {expires} ns"); // K-03
                result = result.and(Err((Check::Life, detail)));
            }
        }
        let result = self.or_restarted(chain, result);
        result.or_else(|violation| self.fail(violation))
    }

    /// Where an entry starts again, sequences go backwards, and entries of its key go and come
    /// between two looks (CSU-19).
    pub(super) fn or_restarted(
        &self,
        chain: usize,
        looked: Result<(), Violation>,
    ) -> Result<(), Violation> {
        match looked {
            Err((Check::Sequence | Check::Life, _)) if self.starts_again(chain) => Ok(()),
            other => other,
        }
    }

    /// Whether any record of the key of a chain came to the end of its sequences.
    pub(super) fn starts_again(&self, chain: usize) -> bool {
        let hubs = self.hubs.len();
        let first = chain - chain % hubs;
        let wraps = self.plan.instances.iter().any(|it| it.wraps_permille > 0);
        wraps && (first..first + hubs).any(|rival| self.ledger.wraps(rival))
    }

    /// What is offered goes with all hops, as if it had been asked for (D-06).
    fn offered(&mut self, hub: usize, dcs: DcsIndex, bytes: &[u8]) {
        let instance = self.hubs[hub].instance_of(dcs);
        let hops = self.plan.timing.hop_count;
        for summary in Summaries::over(bytes) {
            let chain = self.chain_of(instance, &summary);
            let this = &mut self.hubs[hub];
            let cores = this.cores.as_ref().expect("it is running");
            let found = cores.find(instance_index(instance), summary.key, summary.originator);
            if let (Some(chain), Some(seen)) = (chain, found) {
                this.records.came(chain, seen.seq, hops);
            }
        }
    }

    /// Looks at every entry of a shard.
    pub(super) fn sweep(&mut self, hub: usize, shard: usize) -> Step {
        let mut records = std::mem::take(&mut self.hubs[hub].records);
        records.begin_sweep();
        let mut result = Ok(());
        for instance in 0..self.plan.instances.len() {
            let mut from = 0;
            while let Some((next, found)) = self.entry_at(hub, shard, instance, from) {
                from = next;
                let strange = || format!("hub {hub} holds what nobody wrote");
                let held = match found {
                    Some((chain, seen)) => {
                        let held = records.held(chain, shard, Some(&seen));
                        self.or_restarted(chain, held)
                    }
                    None => Err((Check::LostWrite, strange())),
                };
                result = result.and(held);
            }
        }
        records.end_sweep(shard);
        self.hubs[hub].records = records;
        result.or_else(|violation| self.fail(violation))
    }

    pub(super) fn wake(&mut self, hub: usize, run: u32, slot: usize) -> Step {
        let now = self.now;
        // An earlier deadline may have been served since. A stalled hub is late with all of them.
        let is_due = |at: Option<u64>| at.is_some_and(|at| at <= now);
        if !self.is_running(hub, run) || !is_due(self.cores(hub).wake_at[slot]) {
            return Ok(());
        }
        let this = &mut self.hubs[hub];
        let (count, since) = this.wakes;
        this.wakes = if now - since > SPIN_WINDOW {
            (1, now)
        } else {
            (count + 1, since)
        };
        if this.wakes.0 > WAKES_MAX {
            return self.fail((Check::Spin, format!("hub {hub}, slot {slot}")));
        }
        self.stats.wakes += 1;
        let clocks = self.clocks(hub);
        let cores = self.cores(hub);
        cores.wake_at[slot] = None;
        if slot == 0 {
            cores.control.handle_timeouts(clocks);
        } else {
            let before = entries(cores, slot - 1);
            cores.shards[slot - 1].handle_timeouts(clocks);
            if entries(cores, slot - 1) < before {
                self.sweep(hub, slot - 1)?;
            }
        }
        self.drain(hub, slot)
    }
}

/// The records of a CSU Request.
fn request_of(bytes: &[u8]) -> Vec<u8> {
    let envelope = Envelope::parse(bytes).expect("it was found whole");
    let mut records = Vec::new();
    if let Ok(Message::CsuRequest(request)) = envelope.open() {
        for record in request.records() {
            records.extend_from_slice(record.wire);
        }
    }
    records
}

/// The life that a kv record comes with.
pub(super) fn life_of(record: &Record<'_>) -> Option<u64> {
    let body = KvBody::parse(record.body).ok()?;
    body.life_ms.map(|life| u64::from(life) * MS)
}

/// Entries of a shard.
fn entries(cores: &Cores, shard: usize) -> usize {
    let instances = 0..cores.setup.instances.len();
    instances
        .map(|at| cores.shards[shard].entries(instance_index(at)))
        .sum()
}
