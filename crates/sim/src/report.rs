//! What a run counted, and why it failed.

use std::fmt;

use scsp_wire::MessageType;

use crate::link::LinkStats;
use crate::plan::{FaultKind, SEC};

/// What a run found violated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// A packet sent does not parse, exceeds its limit or is addressed wrongly (W-10, D-14).
    Packet,
    /// A record without hops left was sent (CSU-16), or a summary with other than 1 (CSU-17).
    HopCount,
    /// Something but a Hello was sent before Bidirectional (H-12).
    BeforeBidirectional,
    /// A CSU or CSUS message was sent outside Update Cache and Aligned (CSU-01).
    BeforeUpdate,
    /// A second CA message was outstanding (CA-07).
    CaOutstanding,
    /// A second CSUS message was outstanding (CA-19).
    CsusOutstanding,
    /// Hellos were further apart than announced (H-03).
    HelloGap,
    /// A damaged packet was taken for a whole one (W-03).
    Damage,
    /// An entry's sequence went backwards (CSU-03, CSU-18).
    Sequence,
    /// A queue outgrew what it is about (CSU-07).
    QueueLen,
    /// A core wants to be called again and again at one moment.
    Spin,
    /// A client was not answered as it must be (K-01..K-05).
    Client,
    /// The group did not come to rest in time.
    Liveness,
    /// Connected hubs hold different records.
    Divergence,
    /// An acknowledged write is gone, or an older or a foreign one is in its place.
    LostWrite,
}

/// A violation.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was violated.
    pub check: Check,
    /// Virtual time in nanoseconds.
    pub at: u64,
    /// Who, and how.
    pub detail: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, micros) = (self.at / SEC, self.at % SEC / 1000);
        write!(
            f,
            "{:?} at {secs}.{micros:06} s: {}",
            self.check, self.detail
        )
    }
}

/// Counts of one run or of many.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Virtual time, nanoseconds.
    pub virtual_ns: u64,
    /// Events handled.
    pub events: u64,
    /// Packets sent, by message type code - 1.
    pub packets: [u64; 5],
    /// Faults of the plan that came about, by kind.
    pub(crate) faults: [u64; FaultKind::LABELS.len()],
    pub(crate) links: LinkStats,
    /// Client writes acknowledged.
    pub writes: u64,
    /// Client operations refused because the hub was still waiting for its neighbours.
    pub loading: u64,
    /// Writes that only crashed hubs held.
    pub lost_with_hub: u64,
    /// Records that differ between two hubs because one took them away with their winner (K-04).
    pub gone_with_winner: u64,
    /// Records that differ because a run of their originator reused sequences (CSU-20).
    pub reused_sequence: u64,
    /// Times an alignment was reached.
    pub alignments: u64,
    /// Abnormal events (H-11).
    pub abnormal: u64,
    /// Own records that came back newer (D-12).
    pub reoriginated: u64,
    /// Fold of every event: equal for equal runs.
    pub hash: u64,
}

impl Stats {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        self.virtual_ns += other.virtual_ns;
        self.events += other.events;
        for (sum, part) in self.packets.iter_mut().zip(other.packets) {
            *sum += part;
        }
        for (sum, part) in self.faults.iter_mut().zip(other.faults) {
            *sum += part;
        }
        self.links.lost += other.links.lost;
        self.links.blocked += other.links.blocked;
        self.links.duplicated += other.links.duplicated;
        self.links.damaged += other.links.damaged;
        self.writes += other.writes;
        self.loading += other.loading;
        self.lost_with_hub += other.lost_with_hub;
        self.gone_with_winner += other.gone_with_winner;
        self.reused_sequence += other.reused_sequence;
        self.alignments += other.alignments;
        self.abnormal += other.abnormal;
        self.reoriginated += other.reoriginated;
        self.hash = self.hash.wrapping_add(other.hash);
    }

    /// Folds `value` into the hash.
    pub(crate) fn fold(&mut self, value: u64) {
        self.hash = (self.hash.rotate_left(23) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    /// Folds octets into the hash.
    pub(crate) fn fold_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.virtual_ns / SEC / 60;
        writeln!(
            f,
            "simulated    {}.{:02} hours, {} events",
            minutes / 60,
            minutes % 60 * 100 / 60,
            self.events
        )?;
        write!(f, "packets      {}", self.packets.iter().sum::<u64>())?;
        for (kind, count) in MessageType::ALL.iter().zip(self.packets) {
            write!(f, ", {} {count}", kind.label())?;
        }
        writeln!(f)?;
        let links = self.links;
        write!(
            f,
            "faults       lost {}, blocked {}, duplicated {}, damaged {}",
            links.lost, links.blocked, links.duplicated, links.damaged
        )?;
        for (label, count) in FaultKind::LABELS.iter().zip(self.faults) {
            write!(f, ", {label} {count}")?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "clients      {} writes acknowledged, {} refused while loading, {} lost with their hubs",
            self.writes, self.loading, self.lost_with_hub
        )?;
        writeln!(
            f,
            "known limits {} records gone with their winner on some hubs only, {} of reused sequences",
            self.gone_with_winner, self.reused_sequence
        )?;
        write!(
            f,
            "machines     {} alignments, {} abnormal events, {} records re-originated",
            self.alignments, self.abnormal, self.reoriginated
        )
    }
}
