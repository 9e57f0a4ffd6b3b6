//! A hub inside another program, which originates kv records without the client protocol: in
//! batches, carried out by the worker that owns the keys and handed back once every neighbour has
//! acknowledged them.
//!
//! The program is one more thread at the hub's queues (`mesh.rs`), after the workers and the control
//! thread. What it has not got back bounds what it may submit: see [`Embedded::submit`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::sync::Parker;
use scsp_engine::shard::{Condition, Life, PASS_LEN, shard_of};
use scsp_engine::{DcsIndex, Now, Setup, Shard, Time};

use crate::config::Config;
use crate::daemon::{Daemon, DaemonError};
use crate::hub::Hub;
use crate::mesh::{Doorbell, Inbox, Outbox};
use crate::message::Message;

pub use scsp_engine::InstanceIndex;

/// Kv records for one shard, and what became of them. Kept and used again by who submits them.
#[derive(Debug)]
pub struct Batch {
    instance: InstanceIndex,
    /// Key and value of each record, one after the other.
    octets: Vec<u8>,
    /// Where each key and each value ends.
    ends: Vec<(usize, usize)>,
    submitted: Time,
    acknowledged: Time,
    refused: usize,
}

impl Batch {
    /// Without records, for a kv group.
    pub const fn new(instance: InstanceIndex) -> Self {
        Self {
            instance,
            octets: Vec::new(),
            ends: Vec::new(),
            submitted: Time::ZERO,
            acknowledged: Time::ZERO,
            refused: 0,
        }
    }

    /// Forgets all records and keeps their memory.
    pub fn clear(&mut self) {
        self.octets.clear();
        self.ends.clear();
        self.refused = 0;
    }

    /// Adds a record. Its key has to belong to the worker that the batch is submitted to.
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        self.octets.extend_from_slice(key);
        let key_end = self.octets.len();
        self.octets.extend_from_slice(value);
        self.ends.push((key_end, self.octets.len()));
    }

    /// Records.
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no records.
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Records that the cache did not take.
    pub const fn refused(&self) -> usize {
        self.refused
    }

    /// From submitting until every neighbour had acknowledged the records.
    pub fn took(&self) -> Duration {
        self.acknowledged.since(self.submitted)
    }

    fn records(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(key_end, end)| {
            let record = (&self.octets[start..key_end], &self.octets[key_end..end]);
            start = end;
            record
        })
    }
}

/// A hub in this process.
#[derive(Debug)]
pub struct Embedded {
    daemon: Daemon,
    end: End,
}

/// The program's ends of the queues.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) outbox: Outbox<Message>,
    pub(crate) inbox: Inbox<Message>,
    pub(crate) parker: Parker,
}

impl Embedded {
    /// Starts the hub; returns once it serves.
    pub fn start(config: Config) -> Result<Self, DaemonError> {
        let parker = Parker::new();
        let doorbell = Doorbell::Program(parker.unparker().clone());
        let (daemon, ends) = Daemon::start_with(config, vec![Arc::new(doorbell)])?;
        let (outbox, inbox) = ends.into_iter().next().expect("one end for each doorbell");
        Ok(Self {
            daemon,
            end: End {
                outbox,
                inbox,
                parker,
            },
        })
    }

    /// The hub's constant part and its statistics.
    pub fn hub(&self) -> &Arc<Hub> {
        self.daemon.hub()
    }

    /// The worker whose shard owns a key.
    pub fn owner(&self, key: &[u8]) -> usize {
        shard_of(key, self.hub().setup.shards).index()
    }

    /// Has `worker` write the batch's records. Who writes a key again while it is under way has
    /// both acknowledged at once, by the newer record. Batches that were not received back must be few:
    /// they wait in a queue of bounded length, and a full one is waited for here.
    pub fn submit(&mut self, worker: usize, mut batch: Batch) {
        batch.submitted = self.daemon.clock().time();
        let message = Message::Originate(Box::new(batch));
        self.end.outbox.send(worker, message);
        loop {
            self.end.outbox.ring(scsp_net::Waker::wake);
            if !self.end.outbox.is_backlogged() {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// The next batch that is acknowledged; `None` after `timeout`, or when the hub has stopped.
    pub fn receive(&mut self, timeout: Duration) -> Option<Batch> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.end.inbox.receive() {
                Some(Message::Originated(batch)) => return Some(*batch),
                Some(_) => {} // Nothing else is sent here.
                None => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() || self.daemon.is_over() {
                        return None;
                    }
                    self.end.parker.park_timeout(left);
                }
            }
        }
    }

    /// Stops the hub, without a last snapshot, and waits for its end.
    pub fn stop(mut self) -> Result<(), DaemonError> {
        let control = self.hub().workers();
        self.end.outbox.send(control, Message::Stop);
        self.end.outbox.ring(scsp_net::Waker::wake);
        self.daemon.wait()
    }
}

/// Batches that wait on a worker until neighbours have acknowledged them.
#[derive(Debug, Default)]
pub(crate) struct Originations {
    waiting: VecDeque<Waiting>,
    done: VecDeque<Box<Batch>>,
}

#[derive(Debug)]
struct Waiting {
    batch: Box<Batch>,
    /// How many acknowledgements the shard will have counted when those of this batch are among
    /// them: neighbours acknowledge in the order in which records are sent, or nearly so.
    mark: u64,
}

impl Originations {
    /// Writes the records of a batch.
    pub(crate) fn take(&mut self, now: Now, shard: &mut Shard, setup: &Setup, batch: Box<Batch>) {
        let mut batch = batch;
        let at = batch.instance;
        let mut refused = 0;
        let mut keys = batch.records().map(|(key, _)| key);
        for (n, (key, value)) in batch.records().enumerate() {
            if n % PASS_LEN == 0 {
                shard.expect(at, &mut keys);
            }
            let done = shard.kv_set(now, at, key, value, Life::Forever, Condition::Always);
            refused += usize::from(done.is_err());
        }
        drop(keys);
        batch.refused = refused;
        let mark = shard.counters(at).acknowledged + queued(shard, setup, at);
        self.waiting.push_back(Waiting { batch, mark });
    }

    /// Hands back what is acknowledged. Several at a time: half of all that are here, since whoever
    /// waits for them is woken each time.
    pub(crate) fn settle(
        &mut self,
        shard: &Shard,
        setup: &Setup,
        time: impl Fn() -> Time,
        give: impl FnMut(Box<Batch>),
    ) {
        let mut acknowledged_at = None;
        while let Some(Waiting { batch, mark }) = self.waiting.front() {
            let at = batch.instance;
            // A neighbour that is lost acknowledges nothing more, and nothing is queued for it.
            if shard.counters(at).acknowledged < *mark && queued(shard, setup, at) > 0 {
                break;
            }
            let time = *acknowledged_at.get_or_insert_with(&time);
            if let Some(mut waiting) = self.waiting.pop_front() {
                waiting.batch.acknowledged = time;
                self.done.push_back(waiting.batch);
            }
        }
        if self.done.len() >= self.waiting.len() {
            self.done.drain(..).for_each(give);
        }
    }
}

/// Records that neighbours of the instance have yet to acknowledge.
fn queued(shard: &Shard, setup: &Setup, at: InstanceIndex) -> u64 {
    (0..)
        .map(DcsIndex)
        .zip(&setup.dcs)
        .filter(|(_, dcs)| dcs.instance == at)
        .map(|(index, _)| shard.queue_len(index) as u64)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: records come out as they went in, also empty ones and after the batch was cleared.
    #[test]
    fn batches_keep_their_records() {
        let mut batch = Batch::new(InstanceIndex(0));
        assert!(batch.is_empty());
        batch.push(b"gone", b"with the first use");
        batch.clear();
        let records: [(&[u8], &[u8]); 3] = [(b"a", b"1"), (b"bc", b""), (b"d", b"234")];
        for (key, value) in records {
            batch.push(key, value);
        }
        assert!(batch.records().eq(records));
        assert_eq!(batch.len(), 3);
    }
}
