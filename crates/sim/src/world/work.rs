//! Clients at work.

use std::time::Duration;

use scsp_engine::InstanceIndex;
use scsp_engine::shard::{Condition, Life, Refusal};

use crate::client::{self, Operation, Write};
use crate::report::Check;

use super::{Event, Step, World};

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
        let awake = self.hubs[hub].cores.is_some() && self.hubs[hub].stalled_until <= self.now;
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
        let octets = client::key_octets(self.plan.instances[instance].is_kv, key);
        let shard = self.cores(hub).owner(&octets);
        if self.options.trace {
            self.trace_line(format_args!(
                "{hub} instance {instance} key {key}: {operation}"
            ));
        }
        match self.ask(hub, shard, instance, &octets, operation) {
            Ok(true) => self.acknowledged(hub, instance, key, &octets, operation)?,
            Ok(false) => {}
            Err(Refusal::Loading) => self.stats.loading += 1,
            Err(refusal) => {
                return self.fail((Check::Client, format!("hub {hub} refused: {refusal}")));
            }
        }
        self.drain_later(hub, 1 + shard)
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
        let at = InstanceIndex(u16::try_from(instance).expect("at most two"));
        let core = &mut self.cores(hub).shards[shard];
        let set = |life: &Option<u64>| {
            life.map_or(Life::Forever, |life| Life::For(Duration::from_nanos(life)))
        };
        match operation {
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
        }
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
        let at = InstanceIndex(u16::try_from(instance).expect("at most two"));
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
        let chain = client::chain(&self.plan, instance, key, hub).expect("within the plan");
        let seq = write.seq;
        if self.options.trace {
            self.trace_line(format_args!(
                "{hub} key {key}: acknowledged with sequence {seq}"
            ));
        }
        self.ledger.note(chain, write);
        let sequences = &mut self.hubs[hub].sequences;
        let result = sequences
            .originated(chain, seq)
            .and_then(|()| sequences.held(chain, Some(seq)));
        result.or_else(|violation| self.fail(violation))
    }

    /// A client believes in a write that no hub has heard of.
    pub(super) fn forget_write(&mut self) {
        let chain = client::chain(&self.plan, 0, 0, 0).expect("every plan has a key");
        let write = Write {
            run: self.hubs[0].run,
            at: self.now,
            seq: i32::MAX,
            stamp: u64::MAX,
            withdrawn: false,
            content: b"never written".to_vec(),
            expires: None,
            lost: false,
        };
        self.ledger.note(chain, write);
    }
}
