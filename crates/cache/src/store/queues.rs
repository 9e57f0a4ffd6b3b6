//! The store's retransmit queues: what of it is to be sent to whom.

use super::{EntryId, Store};
use crate::retransmit::{Acknowledged, PeerIndex};
use crate::time::Time;

/// Retransmit queues, one per DCS.
impl Store {
    /// One more DCS, with an empty queue.
    pub fn add_peer(&mut self) -> PeerIndex {
        self.queues.add_peer()
    }

    /// A queue for what one packet is to carry to several DCSs (CSU-14). Entries go on it and off
    /// it with [`enqueue`](Self::enqueue), [`peek_unsent`](Self::peek_unsent) and
    /// [`acknowledge`](Self::acknowledge); it counts as nobody's in
    /// [`pending_peers`](Self::pending_peers).
    pub fn add_group(&mut self) -> PeerIndex {
        self.queues.add_group()
    }

    /// CSU-07: queues the entry's newest instance behind everything unsent. An older instance that
    /// is queued makes way and its retries are forgotten. `solicited` holds only when no instance
    /// of it in the queue has to be flooded.
    pub fn enqueue(&mut self, id: EntryId, peer: PeerIndex, solicited: bool) {
        self.queues.enqueue(&mut self.blocks, id, peer, solicited);
    }

    /// Queues an entry that is in no place of the queue as if it had been sent `now`: it is sent when
    /// a resend is due.
    pub fn enqueue_as_sent(&mut self, id: EntryId, peer: PeerIndex, now: Time) {
        let wire_len = self.wire_len(id);
        self.queues
            .enqueue_as_sent(&mut self.blocks, id, peer, (wire_len, now));
    }

    /// What to send next and whether it was solicited: resends first, then in order of queueing.
    pub fn peek_unsent(&self, peer: PeerIndex) -> Option<(EntryId, bool)> {
        self.queues.peek_unsent(peer)
    }

    /// The entry of [`peek_unsent`](Self::peek_unsent) was sent: it now waits for its
    /// acknowledgement. Does nothing when there is none.
    pub fn mark_sent(&mut self, peer: PeerIndex, now: Time) {
        if let Some((id, _)) = self.queues.peek_unsent(peer) {
            let wire_len = self.wire_len(id);
            self.queues.mark_sent(peer, wire_len, now);
        }
    }

    /// The DCSs to which the newest instance is to be flooded and was not sent yet.
    pub fn untold_peers(&self, id: EntryId) -> impl Iterator<Item = PeerIndex> {
        self.queues.untold_peers(&self.blocks, id)
    }

    /// One packet took the entry to all of its [`untold_peers`](Self::untold_peers) that `was_told`
    /// picks: from each of them it now waits for its acknowledgement.
    pub fn mark_told(&mut self, id: EntryId, now: Time, was_told: impl Fn(PeerIndex) -> bool) {
        let wire_len = self.wire_len(id);
        self.queues
            .mark_told(&self.blocks, id, wire_len, now, was_told);
    }

    /// Takes the entry out of the queue; `None` when it was not in it.
    pub fn acknowledge(&mut self, id: EntryId, peer: PeerIndex) -> Option<Acknowledged> {
        self.queues.acknowledge(&mut self.blocks, id, peer)
    }

    /// Whether the entry is to be sent to, or acknowledged by, the DCS.
    pub fn is_queued(&self, id: EntryId, peer: PeerIndex) -> bool {
        self.queues.is_queued(&self.blocks, id, peer)
    }

    /// When the record waiting longest for its acknowledgement was sent.
    pub fn oldest_sent(&self, peer: PeerIndex) -> Option<Time> {
        self.queues.oldest_sent(peer)
    }

    /// CSU-06: takes the record waiting longest, if it was sent at `sent_before` or earlier, back to
    /// be resent ahead of everything unsent, and returns it with the number of its resends, this
    /// one included.
    pub fn take_overdue(&mut self, peer: PeerIndex, sent_before: Time) -> Option<(EntryId, u8)> {
        self.queues.take_overdue(peer, sent_before)
    }

    /// The DCS acknowledged something, be it an instance that is queued no more.
    pub fn answered(&mut self, peer: PeerIndex) {
        self.queues.answered(peer);
    }

    /// Since when the DCS, having been sent something, has acknowledged nothing at all (CSU-06).
    /// Unlike the resends of an entry this goes on when the entry changes.
    pub fn unanswered_since(&self, peer: PeerIndex) -> Option<Time> {
        self.queues.unanswered_since(peer)
    }

    /// Records unsent and unacknowledged.
    pub fn queue_len(&self, peer: PeerIndex) -> usize {
        self.unsent_len(peer) + self.in_flight_len(peer)
    }

    /// Records to be sent or resent.
    pub fn unsent_len(&self, peer: PeerIndex) -> usize {
        self.queues.unsent_len(peer)
    }

    /// Records sent and not acknowledged.
    pub fn in_flight_len(&self, peer: PeerIndex) -> usize {
        self.queues.in_flight_len(peer)
    }

    /// Unacknowledged records that had to be sent again.
    pub fn resent_len(&self, peer: PeerIndex) -> usize {
        self.queues.resent_len(peer)
    }

    /// Octets of those records as they were sent.
    pub fn in_flight_bytes(&self, peer: PeerIndex) -> usize {
        self.queues.in_flight_bytes(peer)
    }

    /// Empties the queue of a DCS.
    pub fn clear_queue(&mut self, peer: PeerIndex) {
        self.queues.clear(&mut self.blocks, peer);
    }

    /// The DCSs that have not acknowledged the entry.
    pub fn pending_peers(&self, id: EntryId) -> impl Iterator<Item = PeerIndex> {
        self.queues.pending_peers(&self.blocks, id)
    }
}
