//! Retransmit queues, one per DCS (RFC 2334 2.3): which entry still has to be sent to, or
//! acknowledged by, whom.
//!
//! One node per (entry, DCS), so a queue holds only the newest instance (CSU-07). A node is in two
//! lists: the entry's (few, one per DCS) and one of three of its DCS, each first-in first-out:
//!
//! ```text
//!            enqueue            mark_sent             take_overdue
//!           ─────────► unsent ───────────► sent ────────────────► resend ──┐
//!                                           ▲         mark_sent            │
//!                                           └──────────────────────────────┘
//! ```
//!
//! Clearing a queue only ages its nodes: they count as absent at once and are taken apart a few at
//! a time by later calls.
//!
//! A group queue says of an entry that one packet is to carry it to several DCSs (CSU-14). It never
//! waits for anybody: who has not acknowledged the entry is what the DCSs' own queues say.

use crate::arena::LINK_NIL;
use crate::blocks::Blocks;
use crate::slab::Slab;
use crate::store::EntryId;
use crate::time::Time;

const NIL: u32 = LINK_NIL;
const NEVER: Time = Time::MAX;
/// Aged nodes taken apart per call.
const COLLECT_MAX: usize = 4;
/// Slab chunks kept when no node is in use.
const CHUNKS_KEPT_MAX: usize = 16;

/// A DCS of this instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIndex(pub u16);

/// What was known of a record when it left a retransmit queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// When this instance was last sent; `None`: not yet.
    pub sent_at: Option<Time>,
    /// How often it was resent.
    pub retries: u8,
    /// Octets of the record when it was sent.
    pub octets: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Place {
    Unsent,
    Resend,
    Sent,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// When this instance was last sent, or [`NEVER`].
    sent_at: Time,
    entry: EntryId,
    /// Next node of the same entry, or next free node.
    sibling: u32,
    prev: u32,
    next: u32,
    /// Octets on the wire when last sent.
    wire_len: u16,
    peer: PeerIndex,
    /// The queue's when the node was made.
    generation: u8,
    retries: u8,
    place: Place,
    solicited: bool,
}

const _: () = assert!(size_of::<Node>() == 32, "two nodes fill a cache line");

impl Default for Node {
    fn default() -> Self {
        Self {
            sent_at: NEVER,
            entry: EntryId(0),
            sibling: NIL,
            prev: NIL,
            next: NIL,
            wire_len: 0,
            peer: PeerIndex(0),
            generation: 0,
            retries: 0,
            place: Place::Unsent,
            solicited: false,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
    len: usize,
}

impl List {
    const EMPTY: Self = Self {
        head: NIL,
        tail: NIL,
        len: 0,
    };

    fn push_back(&mut self, nodes: &mut Slab<Node>, node: u32) {
        let links = nodes.at_mut(node);
        (links.prev, links.next) = (self.tail, NIL);
        if self.tail == NIL {
            self.head = node;
        } else {
            nodes.at_mut(self.tail).next = node;
        }
        self.tail = node;
        self.len += 1;
    }

    fn unlink(&mut self, nodes: &mut Slab<Node>, node: u32) {
        let Node { prev, next, .. } = *nodes.at(node);
        if prev == NIL {
            self.head = next;
        } else {
            nodes.at_mut(prev).next = next;
        }
        if next == NIL {
            self.tail = prev;
        } else {
            nodes.at_mut(next).prev = prev;
        }
        self.len -= 1;
    }

    /// Appends all of `other` at once.
    fn append(&mut self, nodes: &mut Slab<Node>, other: Self) {
        if other.len == 0 {
            return;
        }
        if self.tail == NIL {
            self.head = other.head;
        } else {
            nodes.at_mut(self.tail).next = other.head;
            nodes.at_mut(other.head).prev = self.tail;
        }
        self.tail = other.tail;
        self.len += other.len;
    }
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    lists: [List; 3],
    in_flight_bytes: usize,
    /// Nodes that were sent more than once.
    resent: usize,
    /// Since when something was sent and nothing acknowledged.
    unanswered_since: Option<Time>,
    generation: u8,
    /// Of a group, not of a DCS.
    group: bool,
}

impl Queue {
    const EMPTY: Self = Self {
        lists: [List::EMPTY; 3],
        in_flight_bytes: 0,
        resent: 0,
        unanswered_since: None,
        generation: 0,
        group: false,
    };

    const fn list(&self, place: Place) -> &List {
        &self.lists[place as usize]
    }

    const fn list_mut(&mut self, place: Place) -> &mut List {
        &mut self.lists[place as usize]
    }

    /// A node left for good.
    fn left(&mut self) {
        if self.lists.iter().all(|list| list.len == 0) {
            self.unanswered_since = None;
        }
    }
}

/// The queues of all DCSs of one store.
#[derive(Debug)]
pub(crate) struct Queues {
    nodes: Slab<Node>,
    free: u32,
    in_use: usize,
    peers: Vec<Queue>,
    aged: List,
}

impl Queues {
    pub(crate) const fn new() -> Self {
        Self {
            nodes: Slab::new(),
            free: NIL,
            in_use: 0,
            peers: Vec::new(),
            aged: List::EMPTY,
        }
    }

    pub(crate) fn add_peer(&mut self) -> PeerIndex {
        let index = u16::try_from(self.peers.len()).expect("at most 2^16 DCSs of an instance");
        self.peers.push(Queue::EMPTY);
        PeerIndex(index)
    }

    pub(crate) fn add_group(&mut self) -> PeerIndex {
        let index = self.add_peer();
        self.queue_mut(index).group = true;
        index
    }

    /// Octets of the nodes that stand for something.
    pub(crate) const fn used_bytes(&self) -> usize {
        (self.in_use - self.aged.len) * size_of::<Node>()
    }

    /// Octets allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.nodes.bytes()
    }

    /// Reads the node of a link; the value means nothing.
    #[inline]
    pub(crate) fn touch(&self, link: u32) -> u32 {
        if link == NIL {
            return 0;
        }
        self.nodes.at(link).prev
    }

    fn queue(&self, peer: PeerIndex) -> &Queue {
        &self.peers[usize::from(peer.0)]
    }

    fn queue_mut(&mut self, peer: PeerIndex) -> &mut Queue {
        &mut self.peers[usize::from(peer.0)]
    }

    fn is_live(&self, node: &Node) -> bool {
        node.generation == self.queue(node.peer).generation
    }

    /// The live node of (entry, DCS).
    fn find(&self, blocks: &Blocks, entry: EntryId, peer: PeerIndex) -> Option<u32> {
        let mut number = blocks.link(entry);
        while number != NIL {
            let node = self.nodes.at(number);
            if node.peer == peer && self.is_live(node) {
                return Some(number);
            }
            number = node.sibling;
        }
        None
    }

    /// Takes a node out of its DCS's list, or out of the aged ones.
    fn unlink(&mut self, number: u32) {
        let node = *self.nodes.at(number);
        if !self.is_live(&node) {
            self.aged.unlink(&mut self.nodes, number);
            return;
        }
        let queue = &mut self.peers[usize::from(node.peer.0)];
        if node.place == Place::Sent {
            queue.in_flight_bytes -= usize::from(node.wire_len);
        }
        queue.resent -= usize::from(node.retries > 0);
        queue.list_mut(node.place).unlink(&mut self.nodes, number);
    }

    /// Puts an unlinked node at the end of a list of its DCS.
    fn link(&mut self, number: u32, place: Place) {
        let node = self.nodes.at_mut(number);
        node.place = place;
        let queue = &mut self.peers[usize::from(node.peer.0)];
        if place == Place::Sent {
            queue.in_flight_bytes += usize::from(node.wire_len);
        }
        queue.resent += usize::from(node.retries > 0);
        queue.list_mut(place).push_back(&mut self.nodes, number);
    }

    fn allocate(&mut self) -> u32 {
        self.in_use += 1;
        if self.free == NIL {
            assert!(self.nodes.len() < NIL, "at most 2^28 - 1 pending records");
            return self.nodes.push(Node::default());
        }
        let number = self.free;
        self.free = self.nodes.at(number).sibling;
        number
    }

    fn release(&mut self, number: u32) {
        self.nodes.at_mut(number).sibling = self.free;
        self.free = number;
        self.in_use -= 1;
        if self.in_use == 0 {
            self.nodes.reset(CHUNKS_KEPT_MAX);
            self.free = NIL;
        }
    }

    /// Takes a node out of everything.
    fn drop_node(&mut self, blocks: &mut Blocks, number: u32) {
        self.unlink(number);
        let node @ Node { entry, sibling, .. } = *self.nodes.at(number);
        if self.is_live(&node) {
            self.queue_mut(node.peer).left();
        }
        let mut at = blocks.link(entry);
        if at == number {
            blocks.set_link(entry, sibling);
        } else {
            while self.nodes.at(at).sibling != number {
                at = self.nodes.at(at).sibling;
            }
            self.nodes.at_mut(at).sibling = sibling;
        }
        self.release(number);
    }

    fn collect(&mut self, blocks: &mut Blocks, max: usize) {
        for _ in 0..max {
            if self.aged.len == 0 {
                return;
            }
            self.drop_node(blocks, self.aged.head);
        }
    }

    /// CSU-07: the newest instance waits to be sent, whatever happened to an older one.
    pub(crate) fn enqueue(
        &mut self,
        blocks: &mut Blocks,
        entry: EntryId,
        peer: PeerIndex,
        solicited: bool,
    ) {
        self.collect(blocks, COLLECT_MAX);
        let number = if let Some(number) = self.find(blocks, entry, peer) {
            self.unlink(number);
            let node = self.nodes.at_mut(number);
            node.solicited &= solicited;
            node.retries = 0;
            node.sent_at = NEVER;
            node.wire_len = 0;
            number
        } else {
            self.add(blocks, entry, peer, solicited)
        };
        self.link(number, Place::Unsent);
    }

    /// The entry, which has no node for this DCS, counts as sent.
    pub(crate) fn enqueue_as_sent(
        &mut self,
        blocks: &mut Blocks,
        entry: EntryId,
        peer: PeerIndex,
        (wire_len, now): (usize, Time),
    ) {
        debug_assert!(!self.is_queued(blocks, entry, peer), "one node per DCS");
        let number = self.add(blocks, entry, peer, false);
        self.mark(number, wire_len, now);
    }

    /// A new node in no list of its DCS yet.
    fn add(
        &mut self,
        blocks: &mut Blocks,
        entry: EntryId,
        peer: PeerIndex,
        solicited: bool,
    ) -> u32 {
        let number = self.allocate();
        let generation = self.queue(peer).generation;
        let sibling = blocks.link(entry);
        let node = Node {
            entry,
            sibling,
            peer,
            generation,
            solicited,
            ..Node::default()
        };
        *self.nodes.at_mut(number) = node;
        blocks.set_link(entry, number);
        number
    }

    fn peek(&self, peer: PeerIndex) -> Option<u32> {
        let queue = self.queue(peer);
        let resend = queue.list(Place::Resend).head;
        let number = if resend == NIL {
            queue.list(Place::Unsent).head
        } else {
            resend
        };
        (number != NIL).then_some(number)
    }

    pub(crate) fn peek_unsent(&self, peer: PeerIndex) -> Option<(EntryId, bool)> {
        let node = self.nodes.at(self.peek(peer)?);
        Some((node.entry, node.solicited))
    }

    /// The entry that `peek_unsent` shows was sent as `wire_len` octets.
    pub(crate) fn mark_sent(&mut self, peer: PeerIndex, wire_len: usize, now: Time) {
        let Some(number) = self.peek(peer) else {
            return;
        };
        self.unlink(number);
        self.mark(number, wire_len, now);
    }

    /// An unlinked node was sent.
    fn mark(&mut self, number: u32, wire_len: usize, now: Time) {
        let node = self.nodes.at_mut(number);
        node.sent_at = now;
        node.wire_len = u16::try_from(wire_len).unwrap_or(u16::MAX);
        let peer = node.peer;
        self.link(number, Place::Sent);
        self.queue_mut(peer).unanswered_since.get_or_insert(now);
    }

    /// The DCS said something about what it was sent.
    pub(crate) fn answered(&mut self, peer: PeerIndex) {
        self.queue_mut(peer).unanswered_since = None;
    }

    pub(crate) fn unanswered_since(&self, peer: PeerIndex) -> Option<Time> {
        self.queue(peer).unanswered_since
    }

    fn is_untold(&self, node: &Node) -> bool {
        let group = self.queue(node.peer).group;
        node.place == Place::Unsent && !node.solicited && !group && self.is_live(node)
    }

    pub(crate) fn untold_peers(
        &self,
        blocks: &Blocks,
        entry: EntryId,
    ) -> impl Iterator<Item = PeerIndex> {
        self.nodes_of(blocks, entry)
            .filter(|node| self.is_untold(node))
            .map(|node| node.peer)
    }

    /// The entry was sent as `wire_len` octets to all of its untold DCSs that `was_told` picks.
    pub(crate) fn mark_told(
        &mut self,
        blocks: &Blocks,
        entry: EntryId,
        wire_len: usize,
        now: Time,
        was_told: impl Fn(PeerIndex) -> bool,
    ) {
        let mut number = blocks.link(entry);
        while number != NIL {
            let node = *self.nodes.at(number);
            if self.is_untold(&node) && was_told(node.peer) {
                self.unlink(number);
                self.mark(number, wire_len, now);
            }
            number = node.sibling;
        }
    }

    pub(crate) fn acknowledge(
        &mut self,
        blocks: &mut Blocks,
        entry: EntryId,
        peer: PeerIndex,
    ) -> Option<Acknowledged> {
        self.collect(blocks, COLLECT_MAX);
        let number = self.find(blocks, entry, peer)?;
        let node = *self.nodes.at(number);
        self.drop_node(blocks, number);
        Some(Acknowledged {
            sent_at: (node.sent_at != NEVER).then_some(node.sent_at),
            retries: node.retries,
            octets: usize::from(node.wire_len),
        })
    }

    pub(crate) fn is_queued(&self, blocks: &Blocks, entry: EntryId, peer: PeerIndex) -> bool {
        self.find(blocks, entry, peer).is_some()
    }

    pub(crate) fn oldest_sent(&self, peer: PeerIndex) -> Option<Time> {
        let head = self.queue(peer).list(Place::Sent).head;
        (head != NIL).then(|| self.nodes.at(head).sent_at)
    }

    pub(crate) fn take_overdue(
        &mut self,
        peer: PeerIndex,
        sent_before: Time,
    ) -> Option<(EntryId, u8)> {
        if self.oldest_sent(peer)? > sent_before {
            return None;
        }
        let number = self.queue(peer).list(Place::Sent).head;
        self.unlink(number);
        let node = self.nodes.at_mut(number);
        node.retries = node.retries.saturating_add(1);
        let taken = (node.entry, node.retries);
        self.link(number, Place::Resend);
        Some(taken)
    }

    pub(crate) fn unsent_len(&self, peer: PeerIndex) -> usize {
        let queue = self.queue(peer);
        queue.list(Place::Unsent).len + queue.list(Place::Resend).len
    }

    pub(crate) fn in_flight_len(&self, peer: PeerIndex) -> usize {
        self.queue(peer).list(Place::Sent).len
    }

    pub(crate) fn in_flight_bytes(&self, peer: PeerIndex) -> usize {
        self.queue(peer).in_flight_bytes
    }

    pub(crate) fn resent_len(&self, peer: PeerIndex) -> usize {
        self.queue(peer).resent
    }

    /// Empties a queue; the work is spread over later calls.
    pub(crate) fn clear(&mut self, blocks: &mut Blocks, peer: PeerIndex) {
        let Queue {
            generation, group, ..
        } = *self.queue(peer);
        if generation == u8::MAX {
            // Before generations repeat, no node of an earlier one may be left.
            self.collect(blocks, usize::MAX);
        }
        let cleared = Queue {
            generation: generation.wrapping_add(1),
            group,
            ..Queue::EMPTY
        };
        let old = std::mem::replace(self.queue_mut(peer), cleared);
        for list in old.lists {
            self.aged.append(&mut self.nodes, list);
        }
        self.collect(blocks, COLLECT_MAX);
    }

    /// Takes an entry out of every queue.
    pub(crate) fn forget(&mut self, blocks: &mut Blocks, entry: EntryId) {
        let mut number = blocks.link(entry);
        blocks.set_link(entry, NIL);
        while number != NIL {
            self.unlink(number);
            let node = *self.nodes.at(number);
            if self.is_live(&node) {
                self.queue_mut(node.peer).left();
            }
            self.release(number);
            number = node.sibling;
        }
    }

    fn nodes_of(&self, blocks: &Blocks, entry: EntryId) -> impl Iterator<Item = &Node> {
        let mut number = blocks.link(entry);
        std::iter::from_fn(move || {
            let node = (number != NIL).then(|| self.nodes.at(number))?;
            number = node.sibling;
            Some(node)
        })
    }

    pub(crate) fn pending_peers(
        &self,
        blocks: &Blocks,
        entry: EntryId,
    ) -> impl Iterator<Item = PeerIndex> {
        self.nodes_of(blocks, entry)
            .filter(|node| self.is_live(node) && !self.queue(node.peer).group)
            .map(|node| node.peer)
    }
}

#[cfg(test)]
mod tests;
