//! What a packet has to pass before anything of it counts: counting, authentication, form; and
//! telling of those that do not pass.
//!
//! Whichever core a packet comes to, it goes by that core's doorkeeper, once: what the cores say to
//! each other is judged already (D-08). Anyone who can forge a source address can send packets that
//! fail at line rate, so they are counted here and reported bundled.

mod ids;

use std::sync::Arc;
use std::time::Duration;

use scsp_wire::{Envelope, Message as Packet, ParseError};

use crate::auth::{AuthFailure, Trust};
use crate::message::{Abnormal, Epoch, ToControl};
use crate::setup::{DcsIndex, Setup};
use crate::{Now, Time};

/// Between two reports about one DCS; the first one is immediate.
const REPORT_GAP: Duration = Duration::from_millis(100);

/// Why a well-formed packet, or any malformed one, was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drop {
    /// Malformed.
    Malformed(ParseError),
    /// Addressed to another server (CA-21, CSU-13).
    Receiver,
    /// From another sender id than the neighbour's Hello announced.
    SenderId,
    /// The alignment is not in Update Cache or Aligned (CSU-01, H-12).
    NotAligned,
    /// An id or key of a length that the protocol does not have (N-01).
    IdLength,
    /// It failed authentication.
    Authentication,
}

impl Drop {
    /// Number of distinct reasons.
    pub const COUNT: usize = ParseError::REASONS.len() + 5;

    /// Position in counters.
    pub const fn index(self) -> usize {
        match self {
            Self::Malformed(error) => error.index(),
            Self::Receiver => ParseError::REASONS.len(),
            Self::SenderId => ParseError::REASONS.len() + 1,
            Self::NotAligned => ParseError::REASONS.len() + 2,
            Self::IdLength => ParseError::REASONS.len() + 3,
            Self::Authentication => ParseError::REASONS.len() + 4,
        }
    }

    /// Metric labels by [`index`](Self::index).
    pub fn labels() -> impl Iterator<Item = &'static str> {
        ParseError::REASONS.into_iter().chain([
            "receiver",
            "sender_id",
            "not_aligned",
            "id_length",
            "authentication",
        ])
    }
}

/// What a core counted of packets. All values only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketCounters {
    /// Packets received, by message type code - 1.
    pub received: [u64; 5],
    /// Packets built, by message type code - 1; `Control` leaves that to whoever sends them.
    pub sent: [u64; 5],
    /// Packets dropped, by [`Drop`].
    pub dropped: [u64; Drop::COUNT],
    /// Packets not sent, since no key was valid for them.
    pub withheld: u64,
    /// Packets with own vendor-private data that cannot be read.
    pub vendor_malformed: u64,
}

/// What is to be reported about one DCS.
#[derive(Clone, Debug, Default)]
struct Reports {
    malformed: u64,
    failures: [u64; AuthFailure::ALL.len()],
    /// Exchange in which the last of them came.
    epoch: Epoch,
    reported_at: Option<Time>,
}

impl Reports {
    fn is_empty(&self) -> bool {
        self.malformed == 0 && self.failures == [0; AuthFailure::ALL.len()]
    }

    fn next_due(&self) -> Option<Time> {
        let due = |at: Time| at.saturating_add(REPORT_GAP);
        (!self.is_empty()).then(|| self.reported_at.map_or(Time::ZERO, due))
    }
}

/// Judges packets for one core.
#[derive(Debug)]
pub(crate) struct Doorkeeper {
    setup: Arc<Setup>,
    pub(crate) packets: PacketCounters,
    /// By DCS.
    reports: Vec<Reports>,
}

impl Doorkeeper {
    pub(crate) fn new(setup: &Arc<Setup>) -> Self {
        Self {
            setup: Arc::clone(setup),
            packets: PacketCounters::default(),
            reports: vec![Reports::default(); setup.dcs.len()],
        }
    }

    /// Counts a packet whose envelope names an instance and came from the address of `dcs`, and
    /// opens it. `None` when it is dropped: then see [`take_report`](Self::take_report). `epoch` is
    /// the exchange that a malformed one resets.
    pub(crate) fn admit<'p>(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        epoch: Epoch,
        envelope: &Envelope<'p>,
    ) -> Option<Packet<'p>> {
        let code = usize::from(envelope.message_type().code());
        self.packets.received[code - 1] += 1;
        let trust = self.authenticate(now, dcs, epoch, envelope)?;
        let opened = envelope.open();
        if let Ok(packet) = &opened {
            self.look_at_items(packet);
        }
        let profile = self.setup.instance_of(dcs).profile;
        match opened {
            Ok(packet)
                if profile
                    .id_len()
                    .is_some_and(|len| !ids::all_have(len, envelope, &packet)) =>
            {
                self.drop_malformed(dcs, epoch, trust, Drop::IdLength);
                None
            }
            Ok(packet) => Some(packet),
            Err(error) if error.is_attributable() => {
                self.drop_malformed(dcs, epoch, trust, Drop::Malformed(error));
                None
            }
            Err(error) => {
                self.drop_packet(Drop::Malformed(error));
                None
            }
        }
    }

    /// Counts a packet that is dropped.
    pub(crate) fn drop_packet(&mut self, reason: Drop) {
        self.packets.dropped[reason.index()] += 1;
    }

    /// Judges a packet before anything of it counts (D-08); `None` when it is dropped.
    fn authenticate(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        epoch: Epoch,
        envelope: &Envelope<'_>,
    ) -> Option<Trust> {
        match self.setup.dcs[dcs.index()]
            .auth
            .verify(now.unix_ms, envelope)
        {
            Ok(trust) => Some(trust),
            Err(failure) => {
                self.drop_packet(Drop::Authentication);
                let reports = &mut self.reports[dcs.index()];
                reports.failures[failure.index()] += 1;
                reports.epoch = epoch;
                None
            }
        }
    }

    /// A malformed packet, which is held against whom it seems to be from where it may be (D-02).
    fn drop_malformed(&mut self, dcs: DcsIndex, epoch: Epoch, trust: Trust, reason: Drop) {
        self.drop_packet(reason);
        if trust.may_reset() {
            let reports = &mut self.reports[dcs.index()];
            reports.malformed += 1;
            reports.epoch = epoch;
        }
    }

    /// Counts own vendor-private data that cannot be read; the packet is as good without.
    fn look_at_items(&mut self, packet: &Packet<'_>) {
        if packet
            .extensions()
            .own_items()
            .is_some_and(|it| it.is_err())
        {
            self.packets.vendor_malformed += 1;
        }
    }

    /// What came from `dcs` since the last report, unless that was a moment ago.
    pub(crate) fn take_report(
        &mut self,
        now: Now,
        dcs: DcsIndex,
    ) -> impl Iterator<Item = ToControl> + use<> {
        let reports = &mut self.reports[dcs.index()];
        let is_due = reports.next_due().is_some_and(|due| now.time >= due);
        let taken = is_due.then(|| {
            reports.reported_at = Some(now.time);
            let counts = std::mem::take(&mut reports.failures);
            (std::mem::take(&mut reports.malformed), counts)
        });
        let (count, counts) = taken.unwrap_or_default();
        let epoch = reports.epoch;
        let malformed = (count > 0).then_some(ToControl::Abnormal {
            dcs,
            epoch,
            cause: Abnormal::Malformed,
            count,
        });
        let failed = counts.iter().any(|count| *count > 0);
        let failed = failed.then_some(ToControl::Unauthenticated { dcs, epoch, counts });
        malformed.into_iter().chain(failed)
    }

    /// When the next report about `dcs` is due, if there is anything to say.
    pub(crate) fn next_due(&self, dcs: DcsIndex) -> Option<Time> {
        self.reports[dcs.index()].next_due()
    }
}
