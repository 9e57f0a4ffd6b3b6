//! What comes to the cores: packets, messages of other cores, deadlines.

use scsp_engine::message::BatchKind;
use scsp_engine::{InstanceIndex, ToShard, shard};
use scsp_wire::{Envelope, Message, Record};

use crate::client;
use crate::hub::{CoreMessage, Cores};
use crate::link::Flaw;
use crate::plan::SEC;
use crate::report::Check;

use super::{Step, World};

/// Timer calls of one hub per [`SPIN_WINDOW`] that no work explains.
const WAKES_MAX: u64 = 20_000;
const SPIN_WINDOW: u64 = SEC / 10;

impl World {
    /// A packet arrives at a hub, whose kernel hands it to some worker.
    pub(super) fn packet(&mut self, hub: usize, link: usize, bytes: &[u8], flaw: Flaw) -> Step {
        let this = &self.hubs[hub];
        let (Some(cores), Some(position)) = (&this.cores, this.position(link)) else {
            return Ok(());
        };
        let shards = cores.shards.len();
        let envelope = match Envelope::parse(bytes) {
            Ok(envelope) => envelope,
            Err(error) if flaw == Flaw::None => {
                return self.fail((Check::Packet, format!("{error:?} in what arrived whole")));
            }
            Err(error) => {
                let shard = self.schedule.index(shards);
                self.cores(hub).shards[shard].drop_packet(shard::Drop::Malformed(error));
                return Ok(());
            }
        };
        match flaw {
            Flaw::None => {}
            Flaw::SizeDamaged => return Ok(()),
            Flaw::Damaged => return self.fail((Check::Damage, format!("{:?}", envelope.bytes()))),
        }
        let Some(instance) = this.instance(envelope.protocol(), envelope.group()) else {
            return Ok(());
        };
        let dcs = this.dcs(instance, position);
        self.stats.fold_bytes(bytes);
        let message = envelope.open().ok();
        if let Some(message) = &message {
            let (now, lag) = (self.now, self.lag());
            self.hubs[hub].watches[dcs.index()].received(now, lag, message);
        }
        if self.swallows(hub, dcs, message.as_ref()) {
            return Ok(());
        }
        let first = match &message {
            Some(Message::CsuRequest(it)) => it.records().next().map(|record| record.summary.key),
            Some(Message::CsuReply(it)) => it.summaries().next().map(|summary| summary.key),
            Some(Message::Csus(it)) => it.summaries().next().map(|summary| summary.key),
            _ => None,
        };
        // The kernel's steering mostly finds the shard of the first record.
        let shard = match first {
            Some(key) if self.schedule.chance(700) => self.cores(hub).owner(key),
            _ => self.schedule.index(shards),
        };
        let clocks = self.clocks(hub);
        self.cores(hub).shards[shard].handle_packet(clocks, dcs, &envelope);
        if let Some(Message::CsuRequest(request)) = &message {
            for record in request.records() {
                self.look(hub, instance, &record)?;
            }
        }
        self.drain_later(hub, 1 + shard)
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
        let clocks = self.clocks(hub);
        match message {
            CoreMessage::Control(message) => {
                self.cores(hub).control.handle_message(clocks, message);
                self.drain(hub, slot)
            }
            CoreMessage::Shard(message) => {
                let records = match &message {
                    ToShard::Batch {
                        dcs,
                        kind: BatchKind::Request | BatchKind::Broadcast,
                        bytes,
                        ..
                    } => Some((*dcs, bytes.clone())),
                    _ => None,
                };
                self.cores(hub).shards[slot - 1].handle_message(clocks, message);
                if let Some((dcs, bytes)) = records {
                    let instance = dcs.index() / self.hubs[hub].neighbours.len();
                    let mut rest = &bytes[..];
                    while let Ok((record, after)) = Record::split_first(rest) {
                        self.look(hub, instance, &record)?;
                        rest = after;
                    }
                }
                self.drain_later(hub, slot)
            }
        }
    }

    /// Looks at the entry that a record which just came is about.
    fn look(&mut self, hub: usize, instance: usize, record: &Record<'_>) -> Step {
        let summary = &record.summary;
        let at = InstanceIndex(u16::try_from(instance).expect("at most two"));
        let is_kv = self.plan.instances[instance].is_kv;
        let originator = self
            .hubs
            .iter()
            .position(|it| it.id.as_bytes() == summary.originator);
        let key = client::key_number(is_kv, summary.key);
        let chain = key
            .zip(originator)
            .and_then(|(key, originator)| client::chain(&self.plan, instance, key, originator));
        let Some(chain) = chain else {
            return self.fail((Check::LostWrite, format!("nobody ever wrote {summary:?}")));
        };
        let found = self.cores(hub).find(at, summary.key, summary.originator);
        let seq = found.map(|seen| seen.seq);
        let result = self.hubs[hub].sequences.held(chain, seq);
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
        let clocks = self.clocks(hub);
        let cores = self.cores(hub);
        cores.wake_at[slot] = None;
        if slot == 0 {
            cores.control.handle_timeouts(clocks);
        } else {
            let before = entries(cores, slot - 1);
            cores.shards[slot - 1].handle_timeouts(clocks);
            if entries(cores, slot - 1) < before {
                self.look_again(hub);
            }
        }
        self.drain(hub, slot)
    }

    /// Entries expired: those that are gone may come back with any sequence.
    fn look_again(&mut self, hub: usize) {
        let hubs = self.hubs.len();
        let this = &self.hubs[hub];
        let cores = this.cores.as_ref().expect("it is running");
        let mut gone = Vec::new();
        for chain in this.sequences.present() {
            let (mut key, mut instance) = (chain / hubs, 0);
            while key >= usize::from(self.plan.instances[instance].keys) {
                key -= usize::from(self.plan.instances[instance].keys);
                instance += 1;
            }
            let at = InstanceIndex(u16::try_from(instance).expect("at most two"));
            let key = u16::try_from(key).expect("few keys");
            let key = client::key_octets(self.plan.instances[instance].is_kv, key);
            if cores
                .find(at, &key, self.hubs[chain % hubs].id.as_bytes())
                .is_none()
            {
                gone.push(chain);
            }
        }
        for chain in gone {
            let nothing = self.hubs[hub].sequences.held(chain, None);
            nothing.expect("an entry may go");
        }
    }
}

/// Entries of a shard.
fn entries(cores: &Cores, shard: usize) -> usize {
    let instances = 0..u16::try_from(cores.setup.instances.len()).expect("at most two");
    instances
        .map(|at| cores.shards[shard].entries(InstanceIndex(at)))
        .sum()
}
