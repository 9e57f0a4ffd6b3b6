//! What outlives a hub's process: marks, and the last snapshot that was written to its end.

use std::collections::BTreeMap;
use std::time::Duration;

use scsp_engine::snapshot::{Kept, Memory, Part, Past, Walk};
use scsp_engine::{InstanceIndex, Now, Setup, Shard};
use scsp_profile::KvBody;

use crate::hub::Seen;

/// Octets of entries in one piece of a snapshot.
const PIECE_LEN: usize = 2048;

/// A piece of a snapshot, as one step of writing brings it.
#[derive(Clone, Debug)]
enum Piece {
    Entries {
        instance: InstanceIndex,
        taken_unix_ms: u64,
        octets: Vec<u8>,
    },
    Past {
        instance: InstanceIndex,
        past: Past,
    },
}

/// (instance, key, originator).
type Name = (usize, Vec<u8>, Vec<u8>);

/// A whole snapshot.
#[derive(Debug)]
struct Snapshot {
    hash_seed: u64,
    pieces: Vec<Piece>,
    /// It was the last word of its process.
    graceful: bool,
    /// What it holds: sequence, withdrawn, body.
    names: BTreeMap<Name, (i32, bool, Vec<u8>)>,
}

/// A snapshot that is being written.
#[derive(Debug)]
pub(crate) struct Writing {
    walks: Vec<Option<Walk>>,
    pieces: Vec<Piece>,
}

/// The disk of a hub.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// A process that originates has left its mark (D-19).
    marked: bool,
    snapshot: Option<Snapshot>,
}

impl Writing {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            walks: vec![Some(Walk::default()); shards],
            pieces: Vec::new(),
        }
    }

    /// One piece of each shard; whether that was all.
    pub(crate) fn step(&mut self, now: Now, shards: &[Shard]) -> bool {
        for (walk, shard) in self.walks.iter_mut().zip(shards) {
            let Some(going) = walk else { continue };
            let mut octets = Vec::new();
            match shard.export(now, going, PIECE_LEN, &mut octets) {
                Part::Entries { instance, .. } => self.pieces.push(Piece::Entries {
                    instance,
                    taken_unix_ms: now.unix_ms,
                    octets,
                }),
                Part::Past { instance, past } => self.pieces.push(Piece::Past { instance, past }),
                Part::End => *walk = None,
            }
        }
        self.walks.iter().all(Option::is_none)
    }
}

impl Disk {
    /// What was written is there from now on, in place of what was.
    pub(crate) fn commit(&mut self, writing: Writing, hash_seed: u64, graceful: bool) {
        let mut names = BTreeMap::new();
        for piece in &writing.pieces {
            let Piece::Entries {
                instance, octets, ..
            } = piece
            else {
                continue;
            };
            let mut rest = &octets[..];
            while let Ok((kept, after)) = Kept::split_first(rest) {
                rest = after;
                let summary = &kept.record.summary;
                let (key, originator) = (summary.key.to_vec(), summary.originator.to_vec());
                let body = kept.record.body.to_vec();
                names.insert(
                    (instance.index(), key, originator),
                    (summary.seq.get(), kept.withdrawn, body),
                );
            }
        }
        self.snapshot = Some(Snapshot {
            hash_seed,
            pieces: writing.pieces,
            graceful,
            names,
        });
    }

    /// The second half of the snapshot is gone.
    pub(crate) fn damage(&mut self) {
        if let Some(snapshot) = &mut self.snapshot {
            let half = snapshot.pieces.len() / 2;
            snapshot.pieces.truncate(half);
            snapshot.graceful = false;
            // What is left may be less than these: nobody can be blamed for what was in it.
            snapshot.names.clear();
        }
    }

    /// The record of (key, originator) that the next run begins with.
    pub(crate) fn find(
        &self,
        instance: usize,
        is_kv: bool,
        key: &[u8],
        originator: &[u8],
    ) -> Option<Seen<'_>> {
        let name = (instance, key.to_vec(), originator.to_vec());
        let (seq, withdrawn, body) = self.snapshot.as_ref()?.names.get(&name)?;
        let (stamp, content) = match KvBody::parse(body) {
            Ok(kv) if is_kv => (kv.stamp.0, kv.value),
            _ => (0, &body[..]),
        };
        Some(Seen {
            seq: *seq,
            withdrawn: *withdrawn,
            stamp,
            content,
            expires: None,
        })
    }

    /// The seed under which the notes of the last run have a meaning.
    pub(crate) fn hash_seed(&self) -> Option<u64> {
        self.snapshot.as_ref().map(|snapshot| snapshot.hash_seed)
    }

    /// Fills the shards of a new run and tells them what is left of earlier ones, as the daemon
    /// does; whether that is everything.
    pub(crate) fn restore(&mut self, setup: &Setup, shards: &mut [Shard], now: Now) -> bool {
        let ran = std::mem::replace(&mut self.marked, true);
        let mut pasts: Vec<Option<Past>> = vec![None; setup.instances.len()];
        let mut is_whole = false;
        if let Some(snapshot) = &mut self.snapshot {
            is_whole = std::mem::take(&mut snapshot.graceful); // D-12
            for piece in &snapshot.pieces {
                match piece {
                    Piece::Entries {
                        instance,
                        taken_unix_ms,
                        octets,
                    } => {
                        let elapsed = now.unix_ms.saturating_sub(*taken_unix_ms);
                        let elapsed = Duration::from_millis(elapsed);
                        restore_entries(shards, now, *instance, elapsed, octets);
                    }
                    Piece::Past { instance, past } => match &mut pasts[instance.index()] {
                        Some(known) => known.merge(past),
                        unknown => *unknown = Some(past.clone()),
                    },
                }
            }
        }
        for (instance, past) in (0..).map(InstanceIndex).zip(pasts) {
            let mut past = past.unwrap_or_default();
            if !ran {
                past.memory = Memory::Never; // D-19
            } else if !is_whole {
                past.memory = Memory::Partial; // D-12
            }
            for shard in &mut *shards {
                shard.recall(instance, &past);
            }
        }
        is_whole || !ran
    }
}

fn restore_entries(
    shards: &mut [Shard],
    now: Now,
    instance: InstanceIndex,
    elapsed: Duration,
    octets: &[u8],
) {
    let count = u16::try_from(shards.len()).expect("few");
    let mut rest = octets;
    while let Ok((kept, after)) = Kept::split_first(rest) {
        rest = after;
        let owner = scsp_engine::shard::shard_of(kept.record.summary.key, count).index();
        shards[owner].restore(now, instance, elapsed, &kept);
    }
}
