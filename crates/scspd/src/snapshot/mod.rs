//! Snapshots: what of a hub outlives its process.
//!
//! Workers hand their entries over a slice at a time, whenever the control thread asks for the next
//! one, so that none of them is kept from its packets for long; the control thread writes the slices
//! out through its runtime as they come.
//!
//! | file | holds |
//! |---|---|
//! | `format.rs` | the octets of a snapshot |
//! | `dir.rs` | the data directory: files, lock and marks |
//! | `load.rs` | the start: what is read, and what this server remembers by it |
//! | `write.rs` | one snapshot written |
//! | `schedule.rs` | when, and what comes of it |

pub mod dir;
pub mod format;
pub mod load;
pub mod schedule;
pub mod write;

use scsp_engine::snapshot::{Part, Walk};
use scsp_engine::{Now, Shard};

use format::Encoder;

/// Octets of entries that a worker hands over at once: some ten microseconds of its time.
const SLICE_LEN: usize = 64 * 1024;

/// A piece of one shard on its way to the file, and back for the next one.
#[derive(Debug)]
pub struct Slice {
    /// The snapshot it belongs to; slices of earlier ones are void.
    pub snapshot: u64,
    /// The worker that fills it.
    pub worker: usize,
    /// How far it has come.
    pub walk: Walk,
    /// What the octets are.
    pub part: Part,
    /// When it was filled.
    pub taken_unix_ms: u64,
    /// A block without its head.
    pub block: Vec<u8>,
}

impl Slice {
    /// For the first piece of a worker's shard.
    pub fn new(snapshot: u64, worker: usize) -> Self {
        Self {
            snapshot,
            worker,
            walk: Walk::default(),
            part: Part::End,
            taken_unix_ms: 0,
            block: Vec::with_capacity(2 * SLICE_LEN),
        }
    }

    /// Takes the next piece of the shard.
    pub fn fill(&mut self, now: Now, shard: &Shard) {
        Encoder::make_room(&mut self.block);
        self.taken_unix_ms = now.unix_ms;
        self.part = shard.export(now, &mut self.walk, SLICE_LEN, &mut self.block);
    }
}
