//! Clients at work.

use std::time::Duration;

use scsp_engine::alignment;
use scsp_engine::shard::{Condition, Life, Refusal};
use scsp_profile::{KvBody, KvKind, Stamp};
use scsp_wire::CsaSeq;

use crate::client::{self, Operation, Write};
use crate::hub::{Hub, Seen, instance_index};
use crate::plan::{FaultKind, MS};
use crate::report::Check;
use crate::sabotage::Sabotage;

use super::{Event, Step, World};

/// Stores round down to this when a record was taken in, and more.
const CHANGED_STEP: u64 = 32 * MS;

impl World {
    /// One client does something, or a burst of things.
    pub(super) fn client(&mut self) -> Step {
        if self.calm_since.is_some() || self.now >= self.plan.writes_until {
            return Ok(());
        }
        let gap = self.plan.write_gap;
        let at = self.now + 1 + self.clients.below(2 * gap);
        self.at(at, Event::Client);
        let hub = self.clients.index(self.hubs.len());
        let count = if self.clients.chance(15) {
            self.clients.between(20, 100)
        } else {
            1
        };
        let awake = self.hubs[hub].cores.is_some() && self.hubs[hub].awake_at(None) <= self.now;
        for _ in 0..count {
            let instance = self.clients.index(self.plan.instances.len());
            let keys = self.plan.instances[instance].keys;
            let key = u16::try_from(self.clients.below(keys.into())).expect("below a u16");
            self.operations += 1;
            let operation = Operation::random(
                &self.plan.instances[instance],
                self.operations,
                &mut self.clients,
            );
            if awake {
                self.operate(hub, instance, key, &operation)?;
            }
        }
        Ok(())
    }

    fn operate(&mut self, hub: usize, instance: usize, key: u16, operation: &Operation) -> Step {
        let chain = client::chain(&self.plan, instance, key, hub).expect("within the plan");
        if matches!(operation, Operation::Number { .. }) && !self.ledger.may_wrap(chain) {
            return Ok(());
        }
        let octets = self.keys.octets(instance, key).to_vec();
        let shard = self.cores(hub).owner(&octets);
        if self.hubs[hub].awake_at(Some(1 + shard)) > self.now {
            return Ok(()); // The client waits, and goes.
        }
        if self.options.trace {
            self.trace_line(format_args!(
                "{hub} instance {instance} key {key}: {operation}"
            ));
        }
        match self.ask(hub, shard, instance, &octets, operation) {
            Ok(true) => self.acknowledged(hub, instance, key, &octets, operation)?,
            Ok(false) => {}
            Err(Refusal::Loading) => self.stats.loading += 1,
            Err(Refusal::Sequence { .. }) => {}
            Err(Refusal::Full) if self.is_squeezed(hub) => self.stats.full += 1,
            // D-14: the value fits no frame.
            Err(Refusal::TooLarge { max, .. }) if max < self.plan.datagram_limit => {
                self.stats.too_large += 1;
            }
            Err(refusal) => {
                return self.fail((Check::Client, format!("hub {hub} refused: {refusal}")));
            }
        }
        self.drain_later(hub, 1 + shard)
    }

    /// Whether a fault keeps the hub short of memory.
    fn is_squeezed(&self, hub: usize) -> bool {
        self.plan.faults.iter().any(|fault| match fault.kind {
            FaultKind::Squeeze { hub: at, lasts, .. } => {
                at == hub && (fault.at..=fault.at + lasts).contains(&self.now)
            }
            _ => false,
        })
    }

    /// Whether the operation wrote.
    fn ask(
        &mut self,
        hub: usize,
        shard: usize,
        instance: usize,
        key: &[u8],
        operation: &Operation,
    ) -> Result<bool, Refusal> {
        let clocks = self.clocks(hub);
        let at = instance_index(instance);
        let wrong = self.breaks(hub, Sabotage::WrongValue);
        let core = &mut self.cores(hub).shards[shard];
        let set = |life: &Option<u64>| {
            life.map_or(Life::Forever, |life| Life::For(Duration::from_nanos(life)))
        };
        match operation {
            Operation::Set { life, .. } if wrong => {
                core.kv_set(clocks, at, key, b"wrong", set(life), Condition::Always)
            }
            Operation::Set { value, life } => {
                core.kv_set(clocks, at, key, value, set(life), Condition::Always)
            }
            Operation::SetAbsent { value } => {
                core.kv_set(clocks, at, key, value, Life::Forever, Condition::Absent)
            }
            Operation::SetKeeping { value } => {
                core.kv_set(clocks, at, key, value, Life::Keep, Condition::Present)
            }
            Operation::Expire { life } => {
                core.kv_expire(clocks, at, key, life.map(Duration::from_nanos))
            }
            Operation::Delete => core.kv_del(clocks, at, key),
            Operation::Get => core.kv_get(clocks, at, key).map(|_| false),
            Operation::Publish { body } => core.publish(clocks, at, key, body, None).map(|_| true),
            Operation::Purge => core.purge(clocks, at, key),
            Operation::Number { value, below } => {
                let body = self.body(hub, instance, key, value);
                let seq = CsaSeq::new(CsaSeq::LAST.get() - below);
                let core = &mut self.cores(hub).shards[shard];
                core.publish(clocks, at, key, &body, seq).map(|_| true)
            }
        }
    }

    /// The body of a record that a client publishes itself: on kv, of a write after all that the
    /// hub knows of the key.
    fn body(&self, hub: usize, instance: usize, key: &[u8], value: &[u8]) -> Vec<u8> {
        if !self.plan.instances[instance].is_kv {
            return value.to_vec();
        }
        let this = &self.hubs[hub];
        let cores = this.cores.as_ref().expect("it is running");
        let at = instance_index(instance);
        let seen = |rival: &Hub| {
            cores
                .find(at, key, rival.id.as_bytes())
                .map(|seen| seen.stamp)
        };
        let known = self.hubs.iter().filter_map(seen).max().unwrap_or(0);
        let stamp = Stamp::new(this.clocks(self.now).unix_ms, 0);
        let body = KvBody {
            kind: KvKind::Value,
            life_ms: None,
            stamp: stamp.max(Stamp(known + 1)),
            value,
        };
        let mut bytes = vec![0; body.encoded_len()];
        body.encode(&mut bytes);
        bytes
    }

    /// Enters a write in the ledger, after a look at what the hub made of it.
    fn acknowledged(
        &mut self,
        hub: usize,
        instance: usize,
        key: u16,
        octets: &[u8],
        operation: &Operation,
    ) -> Step {
        let at = instance_index(instance);
        let (now, id) = (self.now, self.hubs[hub].id);
        let clocks = self.clocks(hub);
        let cores = self.hubs[hub].cores.as_ref().expect("it just answered");
        let shard = &cores.shards[cores.owner(octets)];
        let Some(seen) = cores.find(at, octets, id.as_bytes()) else {
            return self.fail((Check::Client, format!("hub {hub} holds nothing it wrote")));
        };
        let expected = match operation {
            Operation::Set { value, .. }
            | Operation::SetAbsent { value }
            | Operation::SetKeeping { value }
            | Operation::Number { value, .. }
            | Operation::Publish { body: value } => Some(&value[..]),
            Operation::Expire { .. } => Some(seen.content),
            Operation::Delete | Operation::Purge | Operation::Get => None,
        };
        let write = Write {
            run: self.hubs[hub].run,
            at: now,
            seq: seen.seq,
            stamp: seen.stamp,
            withdrawn: seen.withdrawn,
            content: seen.content.to_vec(),
            expires: seen.expires.filter(|_| !seen.withdrawn),
            lost: false,
        };
        let mut wrong = write.withdrawn != expected.is_none()
            || expected.is_some_and(|expected| expected != seen.content);
        if self.plan.instances[instance].is_kv {
            // K-05: whatever was known before, this write wins.
            let read = shard.kv_get(clocks, at, octets);
            let read = read.map(|value| value.map(|value| value.value));
            wrong |= read != Ok(expected);
        }
        if wrong {
            return self.fail((Check::Client, format!("hub {hub} holds {write:?} instead")));
        }
        self.stats.writes += 1;
        let ahead = i32::from(self.breaks(hub, Sabotage::RewoundEntry));
        let chain = client::chain(&self.plan, instance, key, hub).expect("within the plan");
        let seq = write.seq;
        let hops = self.plan.timing.hop_count;
        if self.options.trace {
            self.trace_line(format_args!(
                "{hub} key {key}: acknowledged with sequence {seq}"
            ));
        }
        let this = &mut self.hubs[hub];
        let cores = this.cores.as_ref().expect("it just answered");
        let seen = cores.find(at, octets, id.as_bytes()).map(|seen| Seen {
            seq: seen.seq + ahead,
            ..seen
        });
        let shard = cores.owner(octets);
        this.records.came(chain, seq, hops);
        let result = this.records.originated(chain, seq);
        let result = result.and_then(|()| this.records.held(chain, shard, seen.as_ref()));
        self.ledger.note(chain, write);
        let result = self.or_restarted(chain, result);
        result.or_else(|violation| self.fail(violation))?;
        self.could_not_know(hub, instance, key, chain)
    }

    /// A sequence is used again only where no neighbour could have told: none is aligned that held
    /// the earlier record when their exchange began (CSU-20), and the hold is over (D-09).
    fn could_not_know(&self, hub: usize, instance: usize, key: u16, chain: usize) -> Step {
        let writes = self.ledger.chain(chain);
        let Some((last, before)) = writes.split_last() else {
            return Ok(());
        };
        if self.ledger.wraps(chain) {
            return Ok(()); // Every sequence is used again (CSU-19).
        }
        let again = |write: &&Write| write.run != last.run && write.seq >= last.seq;
        let Some(again) = before.iter().find(again) else {
            return Ok(());
        };
        let this = &self.hubs[hub];
        if again.run >= this.whole_since {
            let detail = format!("hub {hub} wrote {} again, of run {}", last.seq, again.run);
            return self.fail((Check::Forgotten, detail)); // D-12
        }
        let (at, octets) = (instance_index(instance), self.keys.octets(instance, key));
        let cores = this.cores.as_ref().expect("it just answered");
        let met = |position| this.watches[this.dcs(instance, position).index()].was_aligned;
        let is_alone = !(0..this.neighbours.len()).any(met) && !this.neighbours.is_empty();
        for (position, neighbour) in this.neighbours.iter().enumerate() {
            let status = cores.control.peer(this.dcs(instance, position));
            if status.alignment != alignment::State::Aligned {
                continue;
            }
            let peer = &self.hubs[neighbour.hub];
            let back = peer
                .position(neighbour.link, hub)
                .expect("they are neighbours");
            let Some(cores) = &peer.cores else { continue };
            let back = peer.dcs(instance, back);
            let began = peer.watches[back.index()].negotiated_at;
            let is_aligned = cores.control.peer(back).alignment == alignment::State::Aligned;
            // What came later flows by itself and may still be on its way (CA-17).
            let was_there = |changed| began.is_some_and(|began| changed + CHANGED_STEP < began);
            if is_aligned
                && let Some((changed, seq)) = cores.changed(at, octets, this.id.as_bytes())
                && seq >= last.seq
                && was_there(changed)
            {
                let detail = format!(
                    "hub {hub} wrote {}, hub {} held {seq}",
                    last.seq, neighbour.hub
                );
                return self.fail((Check::Forgotten, detail));
            }
        }
        let up = this.local(self.now) - this.local(this.started_at);
        if is_alone && u128::from(up) < self.plan.timing.boot_hold.as_nanos() {
            let detail = format!("hub {hub} wrote {} {up} ns after its start", last.seq);
            return self.fail((Check::Forgotten, detail));
        }
        Ok(())
    }
}
