//! Summaries on their way to the shards, laid aside until they are worth waking a shard for: in the
//! lock step of CA messages that would cost more than the exchange itself.
//!
//! Nothing depends on when a shard compares them, as long as it has by Update Cache (CA-16). It is
//! to see the exchange come forward, though, so they do not wait for long.

use std::time::Duration;

use crate::Time;
use crate::message::{Epoch, ToShard};
use crate::setup::{DcsIndex, ShardIndex};

/// Octets that are worth it.
const ASIDE_OCTETS: usize = 16 * 1024;
/// How long the first ones wait while others come.
const ASIDE_TIME: Duration = Duration::from_millis(50);

/// What waits for one shard, of one DCS.
#[derive(Clone, Debug, Default)]
struct Part {
    epoch: Epoch,
    since: Time,
    bytes: Vec<u8>,
}

/// What waits for all shards.
#[derive(Debug)]
pub(super) struct Aside {
    shards: usize,
    parts: Vec<Part>,
}

impl Aside {
    pub(super) fn new(shards: u16, dcs: usize) -> Self {
        let shards = usize::from(shards);
        Self {
            shards,
            parts: vec![Part::default(); shards * dcs],
        }
    }

    fn part(&mut self, shard: ShardIndex, dcs: DcsIndex) -> &mut Part {
        &mut self.parts[dcs.index() * self.shards + shard.index()]
    }

    /// Takes in `message`, which is to go now; what has to go before it and what of it has to go.
    pub(super) fn pass(
        &mut self,
        now: Time,
        shard: ShardIndex,
        message: ToShard,
    ) -> [Option<ToShard>; 2] {
        match message {
            ToShard::Summaries { dcs, epoch, bytes } => {
                let part = self.part(shard, dcs);
                if part.bytes.is_empty() {
                    *part = Part {
                        epoch,
                        since: now,
                        bytes,
                    };
                } else {
                    part.bytes.extend_from_slice(&bytes);
                }
                let is_old = now >= part.since.saturating_add(ASIDE_TIME);
                let goes = is_old || part.bytes.len() >= ASIDE_OCTETS;
                [goes.then(|| part.take(dcs)).flatten(), None]
            }
            ToShard::Update { dcs, .. } => [self.part(shard, dcs).take(dcs), Some(message)],
            ToShard::Exchange { dcs, .. } | ToShard::Down { dcs } => {
                self.part(shard, dcs).bytes = Vec::new();
                [None, Some(message)]
            }
            message => [None, Some(message)],
        }
    }
}

impl Part {
    fn take(&mut self, dcs: DcsIndex) -> Option<ToShard> {
        let bytes = std::mem::take(&mut self.bytes);
        let epoch = self.epoch;
        (!bytes.is_empty()).then_some(ToShard::Summaries { dcs, epoch, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D0: DcsIndex = DcsIndex(0);
    const E: Epoch = Epoch(3);

    fn summaries(shard_byte: u8, len: usize) -> ToShard {
        let (dcs, epoch, bytes) = (D0, E, vec![shard_byte; len]);
        ToShard::Summaries { dcs, epoch, bytes }
    }

    /// Octets of the summaries that go, and whether anything else does.
    fn pass(aside: &mut Aside, ms: u64, shard: u16, message: ToShard) -> (Vec<u8>, bool) {
        let now = Time::from_nanos(ms * 1_000_000);
        let [first, second] = aside.pass(now, ShardIndex(shard), message);
        match first {
            None => (Vec::new(), second.is_some()),
            Some(ToShard::Summaries {
                dcs: D0,
                epoch: E,
                bytes,
            }) => (bytes, second.is_some()),
            Some(other) => panic!("{other:?}"),
        }
    }

    /// Goal: CA-16: summaries go together, each shard's in order, when they are many or have waited
    /// while others came, and all before Update Cache; those of an exchange that is over never do.
    #[test]
    fn ca_16_summaries_are_laid_aside_until_update() {
        let mut aside = Aside::new(2, 1);
        assert_eq!(pass(&mut aside, 0, 0, summaries(1, 10)), (vec![], false));
        assert_eq!(pass(&mut aside, 0, 1, summaries(2, 10)), (vec![], false));
        let (bytes, _) = pass(&mut aside, 1, 0, summaries(3, ASIDE_OCTETS));
        assert_eq!(bytes, [vec![1; 10], vec![3; ASIDE_OCTETS]].concat());
        // The other shard's has waited.
        let (bytes, _) = pass(&mut aside, 60, 1, summaries(4, 1));
        assert_eq!(bytes, [vec![2; 10], vec![4; 1]].concat());

        assert_eq!(pass(&mut aside, 61, 0, summaries(5, 5)), (vec![], false));
        let page = ToShard::NextPage { dcs: D0, epoch: E };
        assert_eq!(pass(&mut aside, 61, 0, page), (vec![], true));
        let update = || ToShard::Update { dcs: D0, epoch: E };
        assert_eq!(pass(&mut aside, 61, 1, update()), (vec![], true));
        assert_eq!(pass(&mut aside, 61, 0, update()), (vec![5; 5], true));

        assert_eq!(pass(&mut aside, 70, 0, summaries(6, 5)), (vec![], false));
        let down = ToShard::Down { dcs: D0 };
        assert_eq!(pass(&mut aside, 70, 0, down), (vec![], true));
        assert_eq!(pass(&mut aside, 71, 0, update()), (vec![], true));
    }
}
