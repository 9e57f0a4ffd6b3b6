//! What cores say to each other. Messages between two cores arrive in the order sent.

use std::time::Duration;

use scsp_wire::ServerId;

use crate::auth::AuthFailure;
use crate::setup::{DcsIndex, InstanceIndex, ShardIndex};

/// Names a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CoreId {
    /// The `Control` core.
    Control,
    /// A `Shard` core.
    Shard(ShardIndex),
}

/// One incarnation of the alignment with a DCS. Messages of an earlier one are void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u32);

/// Why a neighbour is to be reset (RFC 2334 2.1, "abnormal event").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Abnormal {
    /// A malformed packet (D-02).
    Malformed,
    /// A packet that failed authentication; it resets the neighbour only where the letter is asked
    /// for (D-03).
    Authentication,
    /// The neighbour announced another id than before (D-11).
    IdChanged,
    /// A record stayed unacknowledged after `CSUReXmtMax` resends (CSU-06).
    CsuRetransmit,
    /// Solicited records did not come after `CSUSReXmtMax` resends (D-13).
    CsusRetransmit,
    /// The operator asked for it.
    Cleared,
}

impl Abnormal {
    /// Every cause, for metrics that exist from the start.
    pub const ALL: [Self; 6] = [
        Self::Malformed,
        Self::Authentication,
        Self::IdChanged,
        Self::CsuRetransmit,
        Self::CsusRetransmit,
        Self::Cleared,
    ];

    /// Position in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Authentication => "authentication",
            Self::IdChanged => "id_changed",
            Self::CsuRetransmit => "csu_retransmit",
            Self::CsusRetransmit => "csus_retransmit",
            Self::Cleared => "cleared",
        }
    }
}

/// Summaries of one shard, ready to be copied into a CA message.
#[derive(Debug, Default)]
pub struct Page {
    /// Packed CSAS records.
    pub bytes: Vec<u8>,
    /// Whether this shard has entries left after this page.
    pub more: bool,
}

/// From a shard to `Control`.
#[derive(Debug)]
pub enum ToControl {
    /// A packet of `dcs`, valid in full: a Hello or CA; or a CSU or CSUS message that came during
    /// an exchange and may be behind the CA message that ends it. `Control` returns the latter as
    /// [`ToShard::Packet`] when it is in Update Cache.
    Packet {
        /// Its sender.
        dcs: DcsIndex,
        /// The shard that received it.
        shard: ShardIndex,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// Something happened that resets the neighbour (H-11).
    Abnormal {
        /// The neighbour.
        dcs: DcsIndex,
        /// The exchange it happened in: a later adjacency is not reset by it.
        epoch: Epoch,
        /// What it was.
        cause: Abnormal,
        /// How often, since the shard spoke of it last.
        count: u64,
    },
    /// Packets of the neighbour failed authentication and were dropped.
    Unauthenticated {
        /// The neighbour.
        dcs: DcsIndex,
        /// The exchange.
        epoch: Epoch,
        /// How many since the shard spoke of it last, in the order of [`AuthFailure::ALL`].
        counts: [u64; AuthFailure::ALL.len()],
    },
    /// Next summaries of the exchange.
    Page {
        /// The neighbour they are for.
        dcs: DcsIndex,
        /// The exchange.
        epoch: Epoch,
        /// The shard they come from.
        shard: ShardIndex,
        /// The summaries.
        page: Page,
    },
    /// Answer to [`ToShard::Update`]: all summaries received are compared.
    Compared {
        /// The neighbour.
        dcs: DcsIndex,
        /// The exchange.
        epoch: Epoch,
        /// The shard.
        shard: ShardIndex,
        /// Whether its request list has entries.
        wanting: bool,
    },
    /// The shard has records to solicit outside an exchange (CSU-08).
    Wanting {
        /// The neighbour.
        dcs: DcsIndex,
        /// The exchange.
        epoch: Epoch,
        /// The shard.
        shard: ShardIndex,
    },
    /// The shard's request list is empty; its turn to solicit is over.
    TurnOver {
        /// The neighbour.
        dcs: DcsIndex,
        /// The exchange.
        epoch: Epoch,
        /// The shard.
        shard: ShardIndex,
    },
    /// First CSU or CSUS message after Update Cache was entered: the master has moved on (CA-15).
    MovedOn {
        /// The neighbour.
        dcs: DcsIndex,
        /// The exchange.
        epoch: Epoch,
    },
    /// An own record came back newer twice within a second: perhaps another server uses this
    /// server's id (D-12).
    OwnRepeated {
        /// The neighbour it came from.
        dcs: DcsIndex,
    },
}

/// To a shard, from `Control` or another shard.
#[derive(Debug)]
pub enum ToShard {
    /// A new exchange begins: note the entries present now and prepare the first page (CA-17).
    Exchange {
        /// The neighbour.
        dcs: DcsIndex,
        /// The exchange.
        epoch: Epoch,
        /// DCSID: receiver of all that follows.
        id: Box<ServerId>,
        /// Octets of summaries in a page.
        page_octets: usize,
    },
    /// Prepare another page.
    NextPage {
        /// The neighbour.
        dcs: DcsIndex,
        /// The exchange.
        epoch: Epoch,
    },
    /// Summaries from the neighbour's CA message that fall to this shard (CA-16).
    Summaries {
        /// The neighbour.
        dcs: DcsIndex,
        /// The exchange.
        epoch: Epoch,
        /// Packed CSAS records.
        bytes: Vec<u8>,
    },
    /// These entries of this shard go to the neighbour by CSU Request as well, since their
    /// summaries may not have reached it (CA-17).
    Offer {
        /// The neighbour.
        dcs: DcsIndex,
        /// The exchange.
        epoch: Epoch,
        /// Packed CSAS records.
        bytes: Vec<u8>,
    },
    /// Update Cache is entered: CSU messages may flow (CSU-01).
    Update {
        /// The neighbour.
        dcs: DcsIndex,
        /// The exchange.
        epoch: Epoch,
    },
    /// This shard may solicit from the neighbour until it says [`TurnOver`](ToControl::TurnOver)
    /// (CA-19); in lock step it alone.
    Turn {
        /// The neighbour.
        dcs: DcsIndex,
        /// The exchange.
        epoch: Epoch,
        /// Octets of summaries in a CSUS.
        octets: usize,
        /// What may be outstanding: as much as so many CSUS messages hold.
        packets: u16,
    },
    /// The alignment went down: forget its queues and lists.
    Down {
        /// The neighbour.
        dcs: DcsIndex,
    },
    /// A CSU or CSUS message that the shard handed over as [`ToControl::Packet`] (CSU-01).
    Packet {
        /// Its sender.
        dcs: DcsIndex,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// Records of a packet that another shard received.
    Batch {
        /// Sender of the packet.
        dcs: DcsIndex,
        /// The exchange.
        epoch: Epoch,
        /// What they are.
        kind: BatchKind,
        /// Who gets the buffer back.
        from: ShardIndex,
        /// Packed records.
        bytes: Vec<u8>,
    },
    /// The buffer of a [`Batch`](Self::Batch) that was read, to be filled again. It is worth no
    /// waking, and no matter if it is lost.
    Spent {
        /// The buffer.
        bytes: Vec<u8>,
    },
    /// With whom of its multipoint link `dcs` is meshed now (CSU-15).
    Mesh {
        /// The neighbour.
        dcs: DcsIndex,
        /// Those that it names in its Hellos and that name it.
        with: Vec<DcsIndex>,
        /// What came within this time may not have reached those that are left out now.
        recent: Duration,
    },
    /// The boot hold is over (D-09).
    Release {
        /// The instance.
        instance: InstanceIndex,
        /// A neighbour was Aligned, so what it remembers of this server is known.
        aligned: bool,
    },
}

/// What the records of a [`ToShard::Batch`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchKind {
    /// CSA records of a CSU Request.
    Request,
    /// CSA records of a CSU Request to everybody (CSU-14).
    Broadcast,
    /// CSAS records of a CSU Reply.
    Reply,
    /// CSAS records of a CSUS.
    Solicit,
}
