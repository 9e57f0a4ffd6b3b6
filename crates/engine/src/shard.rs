//! The `Shard` core: the entries whose key hashes to it, and all that flows about them.
//!
//! Contract: after any call that takes `&mut self`, poll [`Shard::poll_message`] until `None` and
//! [`Shard::poll_transmit`] until `None`, and come back with [`Shard::handle_timeouts`] at
//! [`Shard::next_deadline`]. Acknowledgements and updates are bundled between two polls, so a
//! caller that hands in a batch of packets first gets full packets out.

mod acknowledge;
mod align;
mod batches;
mod expire;
mod flood;
mod group;
mod kv;
mod originate;
mod outcome;
pub mod owner;
mod peer;
mod purge;
mod receive;
mod records;
mod reoriginate;
mod room;
mod snapshot;
mod solicit;
mod transmit;
mod window;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use scsp_cache::{KeyHasher, Store};
use scsp_profile::{Clock, Stamp};

use crate::doorkeeper::Doorkeeper;
use crate::message::{Epoch, ToControl, ToShard};
use crate::setup::{DcsIndex, Destination, InstanceIndex, Setup, ShardIndex};
use crate::snapshot::{AGE_MAX, Memory};
use crate::{Now, Time};

pub use crate::doorkeeper::{Drop, PacketCounters};
pub use scsp_cache::PASS_LEN;

pub use kv::{Condition, KvValue, Life};
pub use originate::Refusal;
pub use outcome::Outcome;
pub use owner::shard_of;
pub use records::RecordView;
pub use snapshot::KEPT_LEN_MAX;
pub use transmit::{DATAGRAM_LEN_MAX, SEGMENTS_MAX};

pub(crate) use originate::EXTENSIONS_LEN_MAX;
pub(crate) use owner::split_by_shard;

use batches::Batches;
use group::Group;
use originate::Floors;
use peer::{Gate, Peer};
use purge::Purges;
use reoriginate::Reoriginations;

/// A packet that was built into the caller's buffer, or several for one receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The receiver.
    pub to: Destination,
    /// Octets of the buffer used.
    pub len: usize,
    /// When the buffer holds several packets, [`SEGMENTS_MAX`] at most: octets of each but the last,
    /// which may be shorter.
    pub segment: Option<usize>,
}

/// A message for another core.
#[derive(Debug)]
pub enum Message {
    /// For `Control`.
    Control(ToControl),
    /// For another shard.
    Shard(ShardIndex, ToShard),
}

/// What a shard counted for one instance. All values only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InstanceCounters {
    /// Records received, by [`Outcome`].
    pub received: [u64; Outcome::ALL.len()],
    /// Own records originated.
    pub originated: u64,
    /// Records acknowledged by neighbours.
    pub acknowledged: u64,
    /// Records sent again.
    pub retransmitted: u64,
    /// Values whose life ended.
    pub expired: u64,
    /// Own records that came back newer than what was held (D-12).
    pub reoriginated: u64,
    /// Records sent once for several neighbours (CSU-14).
    pub broadcast: u64,
    /// Times that a record was kept from a neighbour, since its sender had sent it to everybody
    /// on the neighbour's link (CSU-15).
    pub spared: u64,
    /// Records that no packet for a neighbour can hold: its id and theirs are too long.
    pub unsendable: u64,
}

/// One instance's part of a shard.
#[derive(Debug)]
struct Instance {
    store: Store,
    clock: Clock,
    /// Boot hold (D-09).
    held: bool,
    /// CSU-20 applies.
    restart: bool,
    /// It originates without having heard what it originated before it restarted.
    blind: bool,
    /// kv keys with a live value.
    live_keys: u64,
    floors: Floors,
    reoriginations: Reoriginations,
    purges: Purges,
    /// What is left of earlier runs (D-12, D-19).
    memory: Memory,
    /// The hybrid clock when this run could first originate: what it stamps is later (D-12).
    began: Option<Stamp>,
    /// How long the last acknowledgement took, until the caller takes it.
    acknowledged_after: Option<Duration>,
    /// How old the last flooded record was when it came, until the caller takes it.
    propagated_after: Option<Duration>,
    counters: InstanceCounters,
    /// Octets that key and body of an own record may have together (D-14).
    own_record_room: usize,
}

/// The `Shard` core.
#[derive(Debug)]
pub struct Shard {
    setup: Arc<Setup>,
    index: ShardIndex,
    hasher: KeyHasher,
    instances: Vec<Instance>,
    peers: Vec<Peer>,
    groups: Vec<Group>,
    messages: VecDeque<Message>,
    batches: Batches,
    door: Doorkeeper,
    /// Octets that the stores may use.
    memory_max: usize,
    /// When a record found no room last.
    starved_at: Option<Time>,
    /// Where the round over peers goes on.
    turn: usize,
    /// Body under construction, kept for its allocation.
    body: Vec<u8>,
}

impl Shard {
    /// An empty shard, `index` of `setup.shards`.
    pub fn new(setup: Arc<Setup>, index: ShardIndex, now: Now) -> Self {
        // Entries of earlier runs may be older than this one.
        let minutes = now.time.since(Time::ZERO).as_secs() / 60;
        let epoch = now
            .time
            .saturating_sub(AGE_MAX.min(Duration::from_mins(minutes)));
        let mut instances: Vec<Instance> = (0..)
            .map(InstanceIndex)
            .zip(&setup.instances)
            .map(|(instance, _)| Instance {
                store: Store::with_limits(setup.hash_seed, epoch, usize::MAX),
                clock: Clock::new(),
                held: setup.is_restart(instance),
                restart: setup.is_restart(instance),
                blind: false,
                live_keys: 0,
                floors: Floors::default(),
                reoriginations: Reoriginations::default(),
                purges: Purges::default(),
                memory: Memory::default(),
                began: None,
                acknowledged_after: None,
                propagated_after: None,
                counters: InstanceCounters::default(),
                own_record_room: originate::own_record_room(&setup, instance),
            })
            .collect();
        let mut peers: Vec<Peer> = setup
            .dcs
            .iter()
            .map(|dcs| {
                let queue = instances[dcs.instance.index()].store.add_peer();
                Peer::new(dcs.instance, queue, dcs.packet_limit)
            })
            .collect();
        let groups = Group::all(&setup, &mut instances, |dcs| peers[dcs.index()].queue);
        for (peer, dcs) in peers.iter_mut().zip((0..).map(DcsIndex)) {
            peer.group = groups.iter().position(|group| group.has(dcs));
        }
        Self {
            hasher: KeyHasher::new(setup.hash_seed),
            door: Doorkeeper::new(&setup),
            setup,
            index,
            instances,
            peers,
            groups,
            messages: VecDeque::new(),
            batches: Batches::default(),
            memory_max: usize::MAX,
            starved_at: None,
            turn: 0,
            body: Vec::new(),
        }
    }

    /// Takes in a message of `Control` or another shard.
    pub fn handle_message(&mut self, now: Now, message: ToShard) {
        match message {
            ToShard::Exchange {
                dcs,
                epoch,
                id,
                page_octets,
            } => {
                self.handle_exchange(now, dcs, epoch, *id, page_octets);
            }
            ToShard::NextPage { dcs, epoch } => self.handle_next_page(now, dcs, epoch),
            ToShard::Summaries { dcs, epoch, bytes } => {
                self.handle_summaries(now, dcs, epoch, &bytes);
            }
            ToShard::Offer { dcs, epoch, bytes } => self.handle_offer(dcs, epoch, &bytes),
            ToShard::Update { dcs, epoch } => self.handle_update(now, dcs, epoch),
            ToShard::Turn {
                dcs,
                epoch,
                octets,
                packets,
            } => self.handle_turn(now, dcs, epoch, octets, packets),
            ToShard::Down { dcs } => self.handle_down(now, dcs),
            ToShard::Packet { dcs, bytes } => self.handle_returned(now, dcs, &bytes),
            ToShard::Batch {
                dcs,
                epoch,
                kind,
                from,
                bytes,
            } => {
                self.handle_batch(now, dcs, epoch, (kind, from), bytes);
            }
            ToShard::Spent { bytes } => self.batches.keep(bytes),
            ToShard::Mesh { dcs, with, recent } => self.handle_mesh(now, dcs, &with, recent),
            ToShard::Release { instance, aligned } => {
                let instance = &mut self.instances[instance.index()];
                instance.held = false;
                let whole = matches!(instance.memory, Memory::Whole { .. });
                instance.blind = instance.restart && !aligned && !whole;
                instance.begin(self.setup.started_unix_ms);
            }
        }
    }

    /// Expires entries, resends what is overdue (CSU-06, CA-19), originates again what waited.
    pub fn handle_timeouts(&mut self, now: Now) {
        // What neighbours let go of first: a record that was held back for them may be over.
        for index in 0..self.peers.len() {
            let dcs = DcsIndex(u16::try_from(index).expect("checked when configured"));
            self.resend_overdue(now, dcs);
            self.solicit_overdue(now, dcs);
            self.report_due(now, dcs);
            let peer = &mut self.peers[index];
            peer.retry_at = peer.retry_at.filter(|at| now.time < *at);
        }
        self.pay_debts(now);
        self.note_whole(now);
        for index in 0..self.instances.len() {
            self.expire(now, index);
            self.reoriginate_due(now, index);
        }
    }

    /// When to call [`handle_timeouts`](Self::handle_timeouts) at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        let instances = self.instances.iter().flat_map(|instance| {
            [
                instance.store.next_expiry(),
                instance.reoriginations.next_due(),
            ]
        });
        let peers = self
            .peers
            .iter()
            .zip((0..).map(DcsIndex).zip(&self.setup.dcs))
            .flat_map(|(peer, (at, dcs))| {
                let instance = &self.setup.instances[dcs.instance.index()];
                let store = &self.instances[dcs.instance.index()].store;
                let (sent, unanswered) = (
                    store.oldest_sent(peer.queue),
                    store.unanswered_since(peer.queue),
                );
                let patience =
                    instance.csu_retransmit * instance.csu_retransmit_max.saturating_add(1);
                [
                    sent.map(|at| at.saturating_add(instance.csu_retransmit)),
                    unanswered.map(|at| at.saturating_add(patience)),
                    peer.solicit
                        .sent_at()
                        .map(|at| at.saturating_add(instance.csus_retransmit)),
                    self.door.next_due(at),
                    peer.retry_at,
                ]
            });
        let groups = self.groups.iter().map(Group::next_due);
        instances.chain(peers).chain(groups).flatten().min()
    }

    /// The next message for another core.
    pub fn poll_message(&mut self) -> Option<Message> {
        if let Some((shard, batch)) = self.batches.poll(self.index) {
            return Some(Message::Shard(shard, batch));
        }
        self.messages.pop_front()
    }

    /// What was counted of packets.
    pub fn packets(&self) -> &PacketCounters {
        &self.door.packets
    }

    /// What was counted for `instance`.
    pub fn counters(&self, instance: InstanceIndex) -> &InstanceCounters {
        &self.instances[instance.index()].counters
    }

    /// Entries of `instance`, withdrawn ones included.
    pub fn entries(&self, instance: InstanceIndex) -> usize {
        self.instances[instance.index()].store.len()
    }

    /// Octets in use for `instance`: entries, index, originator ids and retransmit queues.
    pub fn bytes(&self, instance: InstanceIndex) -> usize {
        self.instances[instance.index()].store.used_bytes()
    }

    /// Records that wait for `dcs`: sent and unacknowledged, or not sent yet.
    pub fn queue_len(&self, dcs: DcsIndex) -> usize {
        let peer = &self.peers[dcs.index()];
        self.instances[peer.instance.index()]
            .store
            .queue_len(peer.queue)
    }

    /// Records still to be asked of `dcs`.
    pub fn requests_len(&self, dcs: DcsIndex) -> usize {
        let peer = &self.peers[dcs.index()];
        peer.requests.len() + peer.solicit.missing()
    }

    /// How far ahead the clock of `dcs` seems, in milliseconds (K-05).
    pub fn skew_ms(&self, dcs: DcsIndex) -> i64 {
        self.peers[dcs.index()].skew_ms
    }

    /// Whether `instance` still waits for its neighbours (D-09).
    pub fn is_held(&self, instance: InstanceIndex) -> bool {
        self.instances[instance.index()].held
    }

    /// One sample each since the last call, for histograms: how long `instance` waited for an
    /// acknowledgement, and how old by both servers' clocks a flooded record was when it came.
    pub fn take_samples(
        &mut self,
        instance: InstanceIndex,
    ) -> (Option<Duration>, Option<Duration>) {
        let instance = &mut self.instances[instance.index()];
        (
            instance.acknowledged_after.take(),
            instance.propagated_after.take(),
        )
    }

    /// The store of `instance`, to look at.
    pub fn store(&self, instance: InstanceIndex) -> &Store {
        &self.instances[instance.index()].store
    }

    fn tell_control(&mut self, message: ToControl) {
        self.messages.push_back(Message::Control(message));
    }

    /// Whether `dcs` is in the exchange `epoch`; messages of earlier ones are void.
    fn is_current(&self, dcs: DcsIndex, epoch: Epoch) -> bool {
        let peer = &self.peers[dcs.index()];
        peer.gate != Gate::Closed && peer.epoch == epoch
    }
}
