//! What a packet may cause beyond what it says: whether it is authentic, and telling `Control` of
//! those that are not or that are malformed.
//!
//! Anyone who can forge a source address can send such packets at line rate, so they are counted
//! here and reported bundled.

use std::time::Duration;

use scsp_wire::{Envelope, Message as Packet};

use crate::auth::{AuthFailure, Trust};
use crate::message::{Abnormal, Epoch, ToControl};
use crate::setup::DcsIndex;
use crate::{Now, Time};

use super::{Drop, Shard};

/// Between two reports about one DCS; the first one is immediate.
const REPORT_GAP: Duration = Duration::from_millis(100);

/// What is to be reported about one DCS.
#[derive(Debug, Default)]
pub(super) struct Reports {
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

    /// When the next report is due, if there is anything to say.
    pub(super) fn next_due(&self) -> Option<Time> {
        let due = |at: Time| at.saturating_add(REPORT_GAP);
        (!self.is_empty()).then(|| self.reported_at.map_or(Time::ZERO, due))
    }
}

impl Shard {
    /// Judges a packet before anything of it counts (D-08); `None` when it is dropped.
    pub(super) fn authenticate(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        envelope: &Envelope<'_>,
    ) -> Option<Trust> {
        match self.setup.dcs[dcs.index()]
            .auth
            .verify(now.unix_ms, envelope)
        {
            Ok(trust) => Some(trust),
            Err(failure) => {
                self.drop_packet(Drop::Authentication);
                let peer = &mut self.peers[dcs.index()];
                peer.reports.failures[failure.index()] += 1;
                peer.reports.epoch = peer.epoch;
                self.report_due(now, dcs);
                None
            }
        }
    }

    /// A malformed packet, which is held against whom it seems to be from where it may be (D-02).
    pub(super) fn drop_malformed(&mut self, now: Now, dcs: DcsIndex, trust: Trust, reason: Drop) {
        self.drop_packet(reason);
        if !trust.may_reset() {
            return;
        }
        let peer = &mut self.peers[dcs.index()];
        peer.reports.malformed += 1;
        peer.reports.epoch = peer.epoch;
        self.report_due(now, dcs);
    }

    /// Tells `Control` what came since the last report, unless that was a moment ago.
    pub(super) fn report_due(&mut self, now: Now, dcs: DcsIndex) {
        let reports = &mut self.peers[dcs.index()].reports;
        if reports.next_due().is_none_or(|due| now.time < due) {
            return;
        }
        reports.reported_at = Some(now.time);
        let epoch = reports.epoch;
        let count = std::mem::take(&mut reports.malformed);
        let counts = std::mem::take(&mut reports.failures);
        if count > 0 {
            let cause = Abnormal::Malformed;
            self.tell_control(ToControl::Abnormal {
                dcs,
                epoch,
                cause,
                count,
            });
        }
        if counts.iter().any(|count| *count > 0) {
            self.tell_control(ToControl::Unauthenticated { dcs, epoch, counts });
        }
    }

    /// Counts own vendor-private data that cannot be read; the packet is as good without.
    pub(super) fn look_at_items(&mut self, packet: &Packet<'_>) {
        if packet
            .extensions()
            .own_items()
            .is_some_and(|it| it.is_err())
        {
            self.packets.vendor_malformed += 1;
        }
    }
}
