//! Records on their way to the shards that own them: one batch for each shard, neighbour and kind
//! between two polls, in buffers that come back when they are read.

use std::collections::VecDeque;

use crate::message::{BatchKind, Epoch, ToShard};
use crate::setup::{DcsIndex, ShardIndex};

/// Buffers kept for later.
const SPARE_MAX: usize = 64;
/// Octets that a buffer may have room for to be kept: a turn brings some hundred packets.
const SPARE_LEN_MAX: usize = 1 << 20;

/// Records on their way to another shard.
#[derive(Debug)]
struct Batch {
    shard: ShardIndex,
    dcs: DcsIndex,
    epoch: Epoch,
    kind: BatchKind,
    bytes: Vec<u8>,
}

/// Batches that are being filled.
#[derive(Debug, Default)]
pub(super) struct Batches {
    open: VecDeque<Batch>,
    spare: Vec<Vec<u8>>,
}

impl Batches {
    /// Lays a record aside for `shard`.
    pub(super) fn add(
        &mut self,
        shard: ShardIndex,
        (dcs, epoch): (DcsIndex, Epoch),
        kind: BatchKind,
        wire: &[u8],
    ) {
        let names = (shard, dcs, epoch, kind);
        // The last one most likely: records of a packet are of one neighbour and kind.
        let mut open = self.open.iter_mut().rev();
        let found = open.find(|it| (it.shard, it.dcs, it.epoch, it.kind) == names);
        if let Some(batch) = found {
            batch.bytes.extend_from_slice(wire);
            return;
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.extend_from_slice(wire);
        self.open.push_back(Batch {
            shard,
            dcs,
            epoch,
            kind,
            bytes,
        });
    }

    /// The next batch, for its shard; `from` gets the buffer back.
    pub(super) fn poll(&mut self, from: ShardIndex) -> Option<(ShardIndex, ToShard)> {
        let Batch {
            shard,
            dcs,
            epoch,
            kind,
            bytes,
        } = self.open.pop_front()?;
        let message = ToShard::Batch {
            dcs,
            epoch,
            kind,
            from,
            bytes,
        };
        Some((shard, message))
    }

    /// A buffer has come back.
    pub(super) fn keep(&mut self, mut bytes: Vec<u8>) {
        if self.spare.len() < SPARE_MAX && bytes.capacity() <= SPARE_LEN_MAX {
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: ShardIndex = ShardIndex(0);

    fn add(batches: &mut Batches, shard: u16, dcs: u16, epoch: u32, kind: BatchKind, wire: &[u8]) {
        let neighbour = (DcsIndex(dcs), Epoch(epoch));
        batches.add(ShardIndex(shard), neighbour, kind, wire);
    }

    fn poll(batches: &mut Batches) -> Option<(u16, u16, u32, BatchKind, Vec<u8>)> {
        let (ShardIndex(shard), message) = batches.poll(ME)?;
        let ToShard::Batch {
            dcs: DcsIndex(dcs),
            epoch: Epoch(epoch),
            kind,
            from: ME,
            bytes,
        } = message
        else {
            panic!("{message:?}")
        };
        Some((shard, dcs, epoch, kind, bytes))
    }

    /// Goal: what goes to one shard about one neighbour's exchange, of one kind, goes together and
    /// in order; nothing else does.
    #[test]
    fn batches_hold_what_belongs_together() {
        use BatchKind::{Reply, Request};
        let mut batches = Batches::default();
        for (shard, dcs, epoch, kind, wire) in [
            (1, 0, 1, Request, &b"a"[..]),
            (2, 0, 1, Request, b"b"),
            (1, 0, 1, Reply, b"c"),
            (1, 0, 1, Request, b"d"),
            (1, 1, 1, Request, b"e"),
            (1, 0, 2, Request, b"f"),
            (1, 0, 1, Request, b"g"),
        ] {
            add(&mut batches, shard, dcs, epoch, kind, wire);
        }
        let polled: Vec<_> = std::iter::from_fn(|| poll(&mut batches)).collect();
        let of = |shard, dcs, epoch, kind, bytes: &[u8]| (shard, dcs, epoch, kind, bytes.to_vec());
        assert_eq!(
            polled,
            [
                of(1, 0, 1, Request, b"adg"),
                of(2, 0, 1, Request, b"b"),
                of(1, 0, 1, Reply, b"c"),
                of(1, 1, 1, Request, b"e"),
                of(1, 0, 2, Request, b"f"),
            ]
        );
    }

    /// Goal: buffers that come back are filled again, within bounds.
    #[test]
    fn buffers_are_used_again() {
        let mut batches = Batches::default();
        let mut buffer = Vec::with_capacity(4096);
        buffer.push(9);
        let at = buffer.as_ptr();
        batches.keep(buffer);
        batches.keep(Vec::with_capacity(SPARE_LEN_MAX + 1));
        add(&mut batches, 1, 0, 1, BatchKind::Request, b"record");
        let (.., bytes) = poll(&mut batches).unwrap();
        assert_eq!((bytes.as_ptr(), &bytes[..]), (at, &b"record"[..]));
        for _ in 0..=SPARE_MAX {
            batches.keep(Vec::new());
        }
        assert_eq!(batches.spare.len(), SPARE_MAX);
    }
}
