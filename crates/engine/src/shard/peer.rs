//! What a shard keeps of one DCS.

use std::collections::BTreeSet;
use std::time::Duration;

use scsp_cache::{Cursor, EntryId, PeerIndex, RequestList};
use scsp_wire::{ServerId, Summary, SummaryFields};

use crate::Time;
use crate::message::{BatchKind, Epoch};
use crate::setup::InstanceIndex;

use super::align::SUMMARY_HOP_COUNT;
use super::solicit::Solicit;
use super::window::Window;

/// Which messages may flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// No exchange: nothing is queued, the next exchange will summarize everything.
    Closed,
    /// Negotiation or Summarize: changes are queued and wait (CA-17), CSU messages are ignored.
    Exchange,
    /// Update Cache or Aligned: CSU messages flow (CSU-01).
    Open,
}

/// Packed summaries waiting to be sent, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Packed {
    bytes: Vec<u8>,
    sent: usize,
}

impl Packed {
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
    }

    /// Appends `len` octets that `write` fills in.
    pub(super) fn push_with(&mut self, len: usize, write: impl FnOnce(&mut [u8])) {
        let start = self.bytes.len();
        self.bytes.resize(start + len, 0);
        write(&mut self.bytes[start..]);
    }

    /// The first summary, as on the wire.
    pub(super) fn front(&self) -> Option<&[u8]> {
        let rest = &self.bytes[self.sent..];
        let field = rest.get(2..4)?;
        let len = usize::from(u16::from_be_bytes([field[0], field[1]]));
        rest.get(..len)
    }

    /// Drops the first summary, of `len` octets.
    pub(super) fn pop(&mut self, len: usize) {
        self.sent += len;
        if self.is_empty() {
            self.clear();
        }
    }
}

/// CRL (CA-16), in the order in which it is asked for.
#[derive(Debug, Default)]
pub(super) struct Requests {
    first: RequestList,
    last: RequestList,
}

impl Requests {
    /// The next summary to ask for.
    pub(super) fn front(&self) -> Option<Summary<'_>> {
        self.first.front().or_else(|| self.last.front())
    }

    /// Drops that one.
    pub(super) fn pop(&mut self) {
        if !self.first.pop() {
            self.last.pop();
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.first.len() + self.last.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn clear(&mut self) {
        self.first.clear();
        self.last.clear();
    }
}

/// See [`Peer::is_owed`].
const EXCHANGE_PATIENCES: u32 = 10;
/// The cache remembers to less than this when an entry changed.
const CHANGED_SLACK: Duration = Duration::from_secs(1);

/// A shard's part of one DCS.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are independent of each other"
)]
pub(super) struct Peer {
    pub(super) instance: InstanceIndex,
    pub(super) queue: PeerIndex,
    /// Its multipoint link, when that has further DCSs of the instance.
    pub(super) group: Option<usize>,
    pub(super) gate: Gate,
    pub(super) epoch: Epoch,
    /// DCSID while the gate is not closed.
    pub(super) id: Option<ServerId>,
    /// Entries still to be summarized (CA-17).
    pub(super) cursor: Option<Cursor>,
    pub(super) page_octets: usize,
    pub(super) requests: Requests,
    /// What is on it since replies showed it (CSU-08), by hashes of key and originator.
    pub(super) wanted: BTreeSet<(u64, u64)>,
    pub(super) solicit: Solicit,
    /// Summaries for the next CSU Replies.
    pub(super) acks: Packed,
    /// Summaries with the N bit for the next CSU Requests (CSU-11).
    pub(super) nulls: Packed,
    pub(super) window: Window,
    /// Records that another shard admitted, while Update Cache is on its way here, and since when.
    pub(super) early: Vec<(Time, BatchKind, Vec<u8>)>,
    /// When the gate opened, while it is open.
    pub(super) opened_at: Option<Time>,
    /// When the exchange began or last came forward.
    pub(super) moved_at: Time,
    /// What the exchange left to solicit has come.
    pub(super) first_turn_over: bool,
    /// Update Cache was reached with this neighbour since the start.
    pub(super) met: bool,
    /// A CSU or CSUS message came since the gate opened (CA-15).
    pub(super) moved_on: bool,
    /// `Control` knows that this shard wants to solicit.
    pub(super) asked_turn: bool,
    /// Something that was asked for found no room: it comes again as it would have if asked for
    /// (D-06).
    pub(super) is_starved: bool,
    /// Of what was stored until then the neighbour holds nothing older (N-04).
    pub(super) whole_until: Option<Time>,
    pub(super) skew_ms: i64,
    /// When to look again whether a key is valid for what waits to be sent.
    pub(super) retry_at: Option<Time>,
}

impl Peer {
    pub(super) fn new(instance: InstanceIndex, queue: PeerIndex, packet_limit: usize) -> Self {
        Self {
            instance,
            queue,
            group: None,
            gate: Gate::Closed,
            epoch: Epoch::default(),
            id: None,
            cursor: None,
            page_octets: 0,
            requests: Requests::default(),
            wanted: BTreeSet::new(),
            solicit: Solicit::default(),
            acks: Packed::default(),
            nulls: Packed::default(),
            window: Window::new(packet_limit),
            early: Vec::new(),
            opened_at: None,
            moved_at: Time::from_nanos(0),
            first_turn_over: false,
            met: false,
            moved_on: false,
            asked_turn: false,
            is_starved: false,
            whole_until: None,
            skew_ms: 0,
            retry_at: None,
        }
    }

    /// Whether the neighbour may still ask for what was summarized: until `patience` after Update
    /// Cache was entered.
    pub(super) fn is_settling(&self, now: Time, patience: Duration) -> bool {
        match self.gate {
            Gate::Closed => false,
            Gate::Exchange => self.is_owed(now, patience),
            Gate::Open => self
                .opened_at
                .is_some_and(|at| now < at.saturating_add(patience)),
        }
    }

    /// Whether the neighbour has yet to be told of the entry by a summary (CA-17).
    pub(super) fn is_to_summarize(&self, id: EntryId) -> bool {
        let cursor = self.cursor.filter(|_| self.gate == Gate::Exchange);
        cursor.is_some_and(|cursor| cursor.is_before(id))
    }

    /// Whether what is queued for the neighbour is worth keeping: not for one with which an
    /// exchange has not come forward for [`EXCHANGE_PATIENCES`] times `patience`.
    pub(super) fn is_owed(&self, now: Time, patience: Duration) -> bool {
        match self.gate {
            Gate::Closed => false,
            Gate::Exchange => now < self.moved_at.saturating_add(patience * EXCHANGE_PATIENCES),
            Gate::Open => true,
        }
    }

    /// Whether the neighbour may hold something older than what was stored at `changed`: it was
    /// not met since, or an exchange with it is under way (N-04). What it is sent and has not
    /// acknowledged is on its queue.
    pub(super) fn may_lack(&self, changed: Time) -> bool {
        let known = |until| changed.saturating_add(CHANGED_SLACK) <= until;
        self.gate != Gate::Open && !self.whole_until.is_some_and(known)
    }

    /// Puts a summary on the CRL (CA-16), as it will be sent in a CSUS (CSU-17): what hop count it
    /// came with does not matter (D-16). Where memory is limited, what may find no room comes last:
    /// it must not keep away what replaces or withdraws something, and so makes room.
    pub(super) fn require(&mut self, summary: &Summary<'_>, is_last: bool) {
        let list = if is_last {
            &mut self.requests.last
        } else {
            &mut self.requests.first
        };
        list.push(&SummaryFields {
            hop_count: SUMMARY_HOP_COUNT,
            ..summary.fields()
        });
    }

    /// Forgets everything of the exchange.
    pub(super) fn reset(&mut self) {
        self.gate = Gate::Closed;
        self.id = None;
        self.first_turn_over = false;
        self.skew_ms = 0;
        self.cursor = None;
        self.requests.clear();
        self.wanted.clear();
        self.solicit.clear();
        self.acks.clear();
        self.nulls.clear();
        self.window.reset();
        self.early.clear();
        self.opened_at = None;
        self.moved_on = false;
        self.asked_turn = false;
        self.is_starved = false;
        self.retry_at = None;
    }
}
