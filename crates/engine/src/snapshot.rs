//! What outlives a run of the server: its entries, and what it knows of its own past (D-12, D-19).
//!
//! A kept entry is its CSA record in wire form behind a head of its own; times in it are relative
//! to the moment at which it was written, so that a clock set between two runs changes no age:
//!
//! ```text
//!  0     1        9              17
//!  +-----+--------+--------------+- - - - - - - -
//!  |flags| age ms | left ms      | CSA record
//!  +-----+--------+--------------+- - - - - - - -
//! ```

use std::time::Duration;

use scsp_profile::Stamp;
use scsp_wire::{CsaSeq, ParseError, Record};

use crate::setup::InstanceIndex;

/// Octets before the record of a kept entry.
pub const KEPT_HEAD_LEN: usize = 17;
/// Ages beyond this are not kept: an entry is never older than that after a restart.
pub const AGE_MAX: Duration = Duration::from_hours(90 * 24);

const FLAG_WITHDRAWN: u8 = 0x01;
const FLAG_ENDS: u8 = 0x02;

/// How much a server remembers of what it originated in earlier runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Memory {
    /// There was nothing: it never ran before (D-19).
    Never,
    /// Part of it, or nothing.
    #[default]
    Partial,
    /// Everything that bears a timestamp later than this; zero: everything (D-12).
    Whole {
        /// Where its memory begins.
        since: Stamp,
    },
}

/// What a server knows of its past in one instance, beside the entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// How much it remembers.
    pub memory: Memory,
    /// The hybrid clock's last reading (K-05).
    pub clock: Stamp,
    /// Sequences of own entries that are gone, by slot of their key's hash: of use only under the
    /// [`hash_seed`](crate::Setup::hash_seed) they were noted with.
    pub floors: Vec<(u16, CsaSeq)>,
}

impl Past {
    /// Adds what another shard of the same run knew.
    pub fn merge(&mut self, other: &Self) {
        self.memory = match (self.memory, other.memory) {
            (Memory::Never, Memory::Never) => Memory::Never,
            (Memory::Whole { since: a }, Memory::Whole { since: b }) => {
                Memory::Whole { since: a.max(b) }
            }
            _ => Memory::Partial,
        };
        self.clock = self.clock.max(other.clock);
        self.floors.extend_from_slice(&other.floors);
    }
}

/// An entry as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// Withdrawn, and kept for the retention time.
    pub withdrawn: bool,
    /// Milliseconds since it came or was written.
    pub age_ms: u64,
    /// Milliseconds until its life or its retention ends; `None`: it does not end.
    pub left_ms: Option<u64>,
    /// The record, with the hop count and the life that it had then.
    pub record: Record<'a>,
}

impl<'a> Kept<'a> {
    /// Reads the kept entry that `bytes` start with; returns it and the octets after it.
    pub fn split_first(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), ParseError> {
        let (head, rest) = bytes
            .split_first_chunk::<KEPT_HEAD_LEN>()
            .ok_or(ParseError::RecordTruncated)?;
        let number = |at: usize| {
            let octets = head[at..at + 8].try_into().expect("eight octets");
            u64::from_be_bytes(octets)
        };
        let (record, rest) = Record::split_first(rest)?;
        let flags = head[0];
        let kept = Self {
            withdrawn: flags & FLAG_WITHDRAWN != 0,
            age_ms: number(1),
            left_ms: (flags & FLAG_ENDS != 0).then(|| number(9)),
            record,
        };
        Ok((kept, rest))
    }

    /// Writes the head; the record's octets follow it.
    pub(crate) fn encode_head(withdrawn: bool, age_ms: u64, left_ms: Option<u64>) -> [u8; 17] {
        let mut head = [0; KEPT_HEAD_LEN];
        head[0] |= if withdrawn { FLAG_WITHDRAWN } else { 0 };
        head[0] |= if left_ms.is_some() { FLAG_ENDS } else { 0 };
        head[1..9].copy_from_slice(&age_ms.to_be_bytes());
        head[9..].copy_from_slice(&left_ms.unwrap_or(0).to_be_bytes());
        head
    }
}

/// How far a walk over everything that is kept of a shard has come. Starts with the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    pub(crate) instance: u16,
    /// Number of the next entry; `None`: all entries of the instance were met.
    pub(crate) next: Option<u32>,
    pub(crate) begun: bool,
}

/// What one step of a walk brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// So many entries, packed; perhaps none.
    Entries {
        /// Their instance.
        instance: InstanceIndex,
        /// How many.
        count: u32,
    },
    /// All entries of the instance were met; this is the rest.
    Past {
        /// The instance.
        instance: InstanceIndex,
        /// What is known of it.
        past: Past,
    },
    /// The walk is over.
    End,
}

/// What became of a kept entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It is in the cache again.
    Taken,
    /// A newer one is.
    Older,
    /// Its key or body is malformed for the protocol.
    Malformed,
    /// There was no room for it.
    Full,
}
