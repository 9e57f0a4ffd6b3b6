//! What workers count, where the control thread can read it at a scrape: plain counters of one
//! writer, stored once a turn, never per record.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use scsp_engine::shard::{Drop, InstanceCounters, PacketCounters};
use scsp_engine::{DcsIndex, InstanceIndex, Setup, Shard};

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Numbers of one instance in one shard.
#[derive(Debug, Default)]
pub struct InstanceStats {
    /// Received records, by outcome.
    pub received: [Cell; scsp_engine::shard::Outcome::ALL.len()],
    /// Own records originated.
    pub originated: Cell,
    /// Records acknowledged.
    pub acknowledged: Cell,
    /// Records sent again.
    pub retransmitted: Cell,
    /// Own records originated again (D-12).
    pub reoriginated: Cell,
    /// Records sent once for several neighbours (CSU-14).
    pub broadcast: Cell,
    /// Times a record was kept from a neighbour that got it from its sender (CSU-15).
    pub spared: Cell,
    /// Records that no packet for a neighbour can hold.
    pub unsendable: Cell,
    /// Entries expired.
    pub expired: Cell,
    /// Whether the shard originates and answers clients: 0 while it is held (D-09).
    pub released: Cell,
    /// Entries.
    pub entries: Cell,
    /// Octets of entries.
    pub bytes: Cell,
}

/// Numbers of one DCS in one shard.
#[derive(Debug, Default)]
pub struct DcsStats {
    /// Records on the retransmit queue.
    pub queue: Cell,
    /// Records on the request list.
    pub requests: Cell,
    /// Milliseconds its clock is ahead.
    pub skew_ms: AtomicI64,
}

/// Samples of one worker that wait for the control thread; more replace the oldest.
const SAMPLES_MAX: usize = 1024;

/// One observation for a histogram, at most one of a kind per turn.
#[derive(Clone, Copy, Debug)]
pub enum Sample {
    /// Sending a record until it was acknowledged.
    Acknowledgement {
        /// The instance.
        group: InstanceIndex,
        /// How long it took.
        took: Duration,
    },
    /// Writing a record at its originator until it came here.
    Propagation {
        /// The instance.
        group: InstanceIndex,
        /// How long it took, by both servers' clocks.
        took: Duration,
    },
    /// Handling a batch of client commands.
    Command {
        /// How long it took.
        took: Duration,
    },
}

impl DcsStats {
    /// Milliseconds its clock is ahead.
    pub fn skew_ms(&self) -> i64 {
        self.skew_ms.load(Ordering::Relaxed)
    }
}

/// Numbers of one worker.
#[derive(Debug)]
pub struct WorkerStats {
    /// Observations for histograms.
    pub samples: ArrayQueue<Sample>,
    /// By instance.
    pub instances: Vec<InstanceStats>,
    /// By DCS.
    pub dcs: Vec<DcsStats>,
    /// Packets received, by type.
    pub packets_received: [Cell; 5],
    /// Packets sent by the shard, by type.
    pub packets_sent: [Cell; 5],
    /// Packets dropped by the shard, by reason.
    pub packets_dropped: [Cell; Drop::COUNT],
    /// Packets that the shard did not send for want of a key.
    pub packets_withheld: Cell,
    /// Packets with own vendor-private data that cannot be read.
    pub vendor_malformed: Cell,
    /// Packets from addresses that are no neighbour's, or naming an unknown instance (D-02).
    pub unknown_peer: Cell,
    /// Own packets that came back by multicast.
    pub own: Cell,
    /// Time spent working, in nanoseconds.
    pub busy_nanos: Cell,
    /// Counters of the I/O backend.
    pub io: IoStats,
    /// Client connections open.
    pub connections: Cell,
    /// Client commands, by position in the command table.
    pub commands: Vec<Cell>,
}

/// Numbers of what the control thread receives itself, written by it. What its core counts of
/// packets is in [`Control::packets`](scsp_engine::Control::packets).
#[derive(Debug, Default)]
pub struct InboundStats {
    /// Octets of datagrams received.
    pub bytes_received: Cell,
    /// Datagrams longer than a buffer.
    pub truncated: Cell,
    /// Datagrams the kernel dropped on full socket queues.
    pub receive_queue_overflow: Cell,
    /// Packets from addresses that are no neighbour's, or naming an unknown instance (D-02).
    pub unknown_peer: Cell,
    /// Own packets that came back.
    pub own: Cell,
}

/// Numbers of the snapshots, written by the control thread.
#[derive(Debug, Default)]
pub struct SnapshotStats {
    /// Unix time at which the last one was begun, milliseconds; 0: there is none.
    pub taken_unix_ms: Cell,
    /// Microseconds that it took; 0: it is of an earlier run.
    pub took_micros: Cell,
    /// How many failed.
    pub failures: Cell,
    /// Whether the last attempt failed: 0 or 1.
    pub is_failing: Cell,
    /// Whether one is being written: 0 or 1.
    pub running: Cell,
}

/// Counters of the I/O backend that are served as metrics.
#[derive(Debug, Default)]
pub struct IoStats {
    /// System calls of turns.
    pub enters: Cell,
    /// Completions or readiness events.
    pub completions: Cell,
    /// Octets of datagrams received.
    pub bytes_received: Cell,
    /// Octets of datagrams sent.
    pub bytes_sent: Cell,
    /// Datagrams that found no buffer at once.
    pub receive_buffers_exhausted: Cell,
    /// Datagrams the kernel dropped on full socket queues.
    pub receive_queue_overflow: Cell,
    /// Times completions found no room in the completion queue.
    pub completion_overflow: Cell,
    /// Datagrams longer than a buffer.
    pub truncated: Cell,
    /// Sends that failed.
    pub send_failures: Cell,
    /// Sends that the kernel cut into several packets.
    pub segmented_sends: Cell,
    /// Sends that it refused to cut.
    pub refused_segments: Cell,
    /// Receive buffers that came with several packets.
    pub coalesced_receives: Cell,
}

impl WorkerStats {
    /// All zero.
    pub fn new(setup: &Setup, commands: usize) -> Self {
        Self {
            samples: ArrayQueue::new(SAMPLES_MAX),
            instances: setup
                .instances
                .iter()
                .map(|_| InstanceStats::default())
                .collect(),
            dcs: setup.dcs.iter().map(|_| DcsStats::default()).collect(),
            packets_received: Default::default(),
            packets_sent: Default::default(),
            packets_dropped: std::array::from_fn(|_| Cell::default()),
            packets_withheld: Cell::default(),
            vendor_malformed: Cell::default(),
            unknown_peer: Cell::default(),
            own: Cell::default(),
            busy_nanos: Cell::default(),
            io: IoStats::default(),
            connections: Cell::default(),
            commands: (0..commands).map(|_| Cell::default()).collect(),
        }
    }

    /// Publishes what the shard counted.
    pub fn publish_shard(&self, shard: &Shard) {
        let PacketCounters {
            received,
            sent,
            dropped,
            withheld,
            vendor_malformed,
        } = shard.packets();
        self.packets_withheld.set(*withheld);
        self.vendor_malformed.set(*vendor_malformed);
        publish_all(&self.packets_received, received);
        publish_all(&self.packets_sent, sent);
        publish_all(&self.packets_dropped, dropped);
        for (index, stats) in (0..).map(InstanceIndex).zip(&self.instances) {
            let counters: &InstanceCounters = shard.counters(index);
            publish_all(&stats.received, &counters.received);
            stats.originated.set(counters.originated);
            stats.acknowledged.set(counters.acknowledged);
            stats.retransmitted.set(counters.retransmitted);
            stats.reoriginated.set(counters.reoriginated);
            stats.broadcast.set(counters.broadcast);
            stats.spared.set(counters.spared);
            stats.unsendable.set(counters.unsendable);
            stats.expired.set(counters.expired);
            stats.released.set(u64::from(!shard.is_held(index)));
            stats.entries.set(shard.entries(index) as u64);
            stats.bytes.set(shard.bytes(index) as u64);
        }
        for (index, stats) in (0..).map(DcsIndex).zip(&self.dcs) {
            stats.queue.set(shard.queue_len(index) as u64);
            stats.requests.set(shard.requests_len(index) as u64);
            stats.skew_ms.store(shard.skew_ms(index), Ordering::Relaxed);
        }
    }

    /// Keeps an observation for the control thread.
    pub fn sample(&self, sample: Sample) {
        self.samples.force_push(sample);
    }

    /// Publishes what the I/O backend counted.
    pub fn publish_io(&self, counters: &scsp_net::Counters) {
        self.io.enters.set(counters.enters);
        self.io.completions.set(counters.completions);
        self.io.bytes_received.set(counters.bytes_received);
        self.io.bytes_sent.set(counters.bytes_sent);
        self.io
            .receive_buffers_exhausted
            .set(counters.receive_buffers_exhausted);
        self.io
            .receive_queue_overflow
            .set(counters.receive_queue_overflow);
        self.io
            .completion_overflow
            .set(counters.completion_overflow);
        self.io.truncated.set(counters.truncated);
        self.io.send_failures.set(counters.send_failures);
        self.io.segmented_sends.set(counters.segmented_sends);
        self.io.refused_segments.set(counters.refused_segments);
        self.io.coalesced_receives.set(counters.coalesced_receives);
    }
}

fn publish_all<const N: usize>(cells: &[Cell; N], values: &[u64; N]) {
    for (cell, value) in cells.iter().zip(values) {
        cell.set(*value);
    }
}
