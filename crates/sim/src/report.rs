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
    /// A record was sent with more hops than it came with or its originator gave it, or with none
    /// (CSU-16), or a summary with other than 1 (CSU-17).
    HopCount,
    /// A record was sent that is not what its sender holds (CSU-07).
    Stale,
    /// A record's life grew (K-03, D-21).
    Life,
    /// Something but a Hello was sent before Bidirectional (H-12).
    BeforeBidirectional,
    /// A CSU or CSUS message was sent outside Update Cache and Aligned (CSU-01).
    BeforeUpdate,
    /// A second CA message was outstanding (CA-07).
    CaOutstanding,
    /// A second CSUS message was outstanding (CA-19).
    CsusOutstanding,
    /// Hellos were further apart than announced, or stayed away (H-03).
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
    /// A quiet group does not stay quiet: something but Hellos flows, or too many of them.
    Restless,
    /// Connected hubs hold different records.
    Divergence,
    /// An acknowledged write is gone, or an older or a foreign one is in its place.
    LostWrite,
    /// What was deleted, purged or over is there again.
    Resurrection,
    /// A sequence was used again though a neighbour could have told (CSU-20, D-09).
    Forgotten,
    /// A packet of a neighbour failed authentication though its key was valid, or none was.
    Authentication,
    /// A core, or a check, panicked.
    Panic,
}

/// A documented limit that let a difference or a loss pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// A hub crashed, lost its disk with it, and wrote again before any neighbour was aligned
    /// that held its earlier record, so that two records have one sequence (CSU-20, D-09). That
    /// no such neighbour was aligned is checked at each of those writes ([`Check::Forgotten`]).
    ReusedSequence,
    /// A record is on one hub only, and a later write to its key, by another originator, is over
    /// and took it along elsewhere (K-04).
    GoneWithWinner,
    /// A record of an earlier run of its originator, or of one that is gone, lives though a later
    /// write to its key by another originator is over: nobody is left who can know better (K-04).
    LoserBack,
    /// A record of an earlier run of its originator, or of one that is gone, lives though a later
    /// write of the originator itself was withdrawn or is over: it was taken back, since losing an
    /// acknowledged write would be worse (D-12).
    TakenBack,
    /// A record of an earlier run was withdrawn, though it was a client's last word: a later run
    /// of its originator began, by that server's own clock, before the record's timestamp, and
    /// took it for one that it had withdrawn itself. That is the letter of D-12 where clocks are
    /// far apart.
    Mistaken,
    /// A record is of before its entry came to the end of its sequences and started again. Its
    /// originator restarted since or is gone, and nobody else can tell that the larger sequence is
    /// the older one (CSU-19).
    BeforePurge,
}

impl Excuse {
    const LABELS: [&'static str; 6] = [
        "reused sequence",
        "gone with winner",
        "loser back",
        "taken back",
        "mistaken for own",
        "of before a purge",
    ];
}

/// How often excuses were used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Excuses([u64; Excuse::LABELS.len()]);

impl Excuses {
    pub(crate) fn count(&mut self, excuse: Excuse) {
        self.0[excuse as usize] += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, part) in self.0.iter_mut().zip(other.0) {
            *sum += part;
        }
    }
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
    /// Sends of several packets at once.
    pub shared_sends: u64,
    /// Faults of the plan that came about, by kind.
    pub(crate) faults: [u64; FaultKind::LABELS.len()],
    pub(crate) links: LinkStats,
    /// Client writes acknowledged.
    pub writes: u64,
    /// Client operations refused because the hub was still waiting for its neighbours.
    pub loading: u64,
    /// Packets refused because they were not signed, or too late.
    pub unauthenticated: u64,
    /// Worlds in which packets were signed.
    pub(crate) signed_worlds: u64,
    /// Snapshots written.
    pub(crate) snapshots: u64,
    /// Client operations refused for want of memory.
    pub(crate) full: u64,
    /// Client operations refused because no packet could carry them.
    pub(crate) too_large: u64,
    /// Writes that only crashed hubs held.
    pub lost_with_hub: u64,
    pub(crate) excuses: Excuses,
    /// Calls of timers.
    pub(crate) wakes: u64,
    /// Records that are to expire while a quiet group is watched.
    pub(crate) expiring: u64,
    /// How much of the time allowed it took to come to rest, at most.
    pub(crate) rest_permille: u64,
    /// How much of the time allowed it took to align everybody at 30 % loss, at most.
    pub(crate) align_permille: u64,
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
        self.unauthenticated += other.unauthenticated;
        self.signed_worlds += other.signed_worlds;
        self.snapshots += other.snapshots;
        self.full += other.full;
        self.too_large += other.too_large;
        self.lost_with_hub += other.lost_with_hub;
        self.excuses.add(&other.excuses);
        self.wakes += other.wakes;
        self.align_permille = self.align_permille.max(other.align_permille);
        self.rest_permille = self.rest_permille.max(other.rest_permille);
        self.alignments += other.alignments;
        self.shared_sends += other.shared_sends;
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
            "clients      {} writes acknowledged, {} refused while loading, {} without memory, {} too large, \
             {} lost with their hubs",
            self.writes, self.loading, self.full, self.too_large, self.lost_with_hub
        )?;
        write!(f, "excuses     ")?;
        for (label, count) in Excuse::LABELS.iter().zip(self.excuses.0) {
            write!(f, " {label} {count};")?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "bounds       {} ‰ of the time allowed to come to rest were used, {} ‰ of that to align at 30 % loss",
            self.rest_permille, self.align_permille
        )?;
        write!(
            f,
            "machines     {} alignments, {} abnormal events, {} records re-originated, {} snapshots, \
             {} worlds signed, {} packets unauthenticated, {} sends of several packets",
            self.alignments,
            self.abnormal,
            self.reoriginated,
            self.snapshots,
            self.signed_worlds,
            self.unauthenticated,
            self.shared_sends
        )
    }
}
