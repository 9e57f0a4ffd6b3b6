//! Queues between the threads of one hub: one bounded queue for each ordered pair, and a doorbell
//! for each receiver.
//!
//! A sender pushes messages during its turn and rings once at its end. What does not fit a queue
//! waits in the sender's backlog; a sender with a backlog takes in no new input from sockets (see
//! `worker.rs`), so the backlog is bounded by what one turn can produce.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam::queue::ArrayQueue;
use crossbeam::sync::Unparker;
use crossbeam::utils::CachePadded;
use tokio::sync::Notify;

/// Messages that one pair's queue holds.
const LANE_LEN_MAX: usize = 1024;

/// Wakes a thread that sleeps.
#[derive(Debug)]
pub enum Doorbell {
    /// A worker asleep in its ring or in epoll.
    Worker {
        /// Set by the worker before it sleeps, cleared by whoever wakes it.
        asleep: CachePadded<AtomicBool>,
        /// Set once the worker has made its `Io`.
        waker: OnceLock<scsp_net::Waker>,
    },
    /// The control thread's task.
    Control(Notify),
    /// A thread of the program that the hub is embedded in.
    Program(Unparker),
}

impl Doorbell {
    /// Doorbell of a worker.
    pub fn worker() -> Self {
        Self::Worker {
            asleep: CachePadded::new(AtomicBool::new(false)),
            waker: OnceLock::new(),
        }
    }

    /// Says that the worker is about to sleep. Afterwards it must look at its queues once more:
    /// with both sides sequentially consistent, either it sees the message or the sender sees the
    /// flag.
    pub fn announce_sleep(&self) {
        if let Self::Worker { asleep, .. } = self {
            asleep.store(true, Ordering::SeqCst);
        }
    }

    /// Says that the worker is awake.
    pub fn announce_awake(&self) {
        if let Self::Worker { asleep, .. } = self {
            asleep.store(false, Ordering::SeqCst);
        }
    }

    /// Wakes the receiver if it sleeps; `wake` does it for a worker.
    fn ring(&self, wake: impl FnOnce(&scsp_net::Waker)) {
        match self {
            Self::Control(notify) => notify.notify_one(),
            Self::Program(unparker) => unparker.unpark(),
            Self::Worker { asleep, waker } => {
                if asleep.swap(false, Ordering::SeqCst)
                    && let Some(waker) = waker.get()
                {
                    wake(waker);
                }
            }
        }
    }
}

/// Sending ends of one thread.
#[derive(Debug)]
pub struct Outbox<M> {
    lanes: Vec<Lane<M>>,
}

#[derive(Debug)]
struct Lane<M> {
    queue: Arc<ArrayQueue<M>>,
    backlog: VecDeque<M>,
    doorbell: Arc<Doorbell>,
    /// Something was pushed since the last ring.
    touched: bool,
}

impl<M> Lane<M> {
    fn drain_backlog(&mut self) {
        while let Some(message) = self.backlog.pop_front() {
            if let Err(message) = self.queue.push(message) {
                self.backlog.push_front(message);
                return;
            }
            self.touched = true;
        }
    }
}

impl<M> Outbox<M> {
    /// Queues `message` for receiver `to`.
    pub fn send(&mut self, to: usize, message: M) {
        let lane = &mut self.lanes[to];
        lane.touched = true;
        if lane.backlog.is_empty() {
            if let Err(message) = lane.queue.push(message) {
                lane.backlog.push_back(message);
            }
        } else {
            lane.backlog.push_back(message);
        }
    }

    /// Queues `message` for receiver `to`, who finds it when it is awake anyway; drops it when the
    /// receiver is behind.
    pub fn send_quietly(&mut self, to: usize, message: M) {
        let lane = &mut self.lanes[to];
        if lane.backlog.is_empty() {
            drop(lane.queue.push(message));
        }
    }

    /// Ends a batch: wakes every receiver that got something, through `wake`.
    pub fn ring(&mut self, mut wake: impl FnMut(&scsp_net::Waker)) {
        for lane in &mut self.lanes {
            lane.drain_backlog();
            if std::mem::take(&mut lane.touched) {
                lane.doorbell.ring(&mut wake);
            }
        }
    }

    /// Whether some receiver is behind.
    pub fn is_backlogged(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.backlog.is_empty())
    }
}

/// Receiving ends of one thread.
#[derive(Debug)]
pub struct Inbox<M> {
    lanes: Vec<Arc<ArrayQueue<M>>>,
    doorbell: Arc<Doorbell>,
    /// Where the round over lanes goes on, so that no sender starves another.
    next: usize,
}

impl<M> Inbox<M> {
    /// The next message, from any sender; those of one sender in their order.
    pub fn receive(&mut self) -> Option<M> {
        for _ in 0..self.lanes.len() {
            if let Some(message) = self.lanes[self.next].pop() {
                return Some(message);
            }
            self.next = (self.next + 1) % self.lanes.len();
        }
        None
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.is_empty())
    }

    /// This receiver's doorbell.
    pub fn doorbell(&self) -> &Arc<Doorbell> {
        &self.doorbell
    }
}

/// Both ends of one thread.
pub type Ends<M> = (Outbox<M>, Inbox<M>);

/// Connects as many threads as there are doorbells, each with each; their ends in order.
pub fn connect<M>(doorbells: &[Arc<Doorbell>]) -> Vec<Ends<M>> {
    let count = doorbells.len();
    let queues: Vec<Vec<Arc<ArrayQueue<M>>>> = (0..count)
        .map(|_| {
            (0..count)
                .map(|_| Arc::new(ArrayQueue::new(LANE_LEN_MAX)))
                .collect()
        })
        .collect();
    let ends = |me: usize| {
        let lanes = queues[me]
            .iter()
            .zip(doorbells)
            .map(|(queue, doorbell)| Lane {
                queue: Arc::clone(queue),
                backlog: VecDeque::new(),
                doorbell: Arc::clone(doorbell),
                touched: false,
            });
        let outbox = Outbox {
            lanes: lanes.collect(),
        };
        let lanes = queues.iter().map(|row| Arc::clone(&row[me])).collect();
        (
            outbox,
            Inbox {
                lanes,
                doorbell: Arc::clone(&doorbells[me]),
                next: 0,
            },
        )
    };
    (0..count).map(ends).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: more messages than a queue holds arrive complete and in order.
    #[test]
    fn backlog_keeps_the_order() {
        let doorbells = [Arc::new(Doorbell::worker()), Arc::new(Doorbell::worker())];
        let mut ends = connect::<usize>(&doorbells);
        let (_, mut inbox) = ends.pop().unwrap();
        let (mut outbox, _) = ends.pop().unwrap();
        let total = 3 * LANE_LEN_MAX;
        for number in 0..total {
            outbox.send(1, number);
        }
        assert!(outbox.is_backlogged());
        let mut seen = Vec::new();
        while seen.len() < total {
            outbox.ring(|_| {});
            while let Some(number) = inbox.receive() {
                seen.push(number);
            }
        }
        assert!(seen.into_iter().eq(0..total));
        assert!(!outbox.is_backlogged() && inbox.is_empty());
    }

    /// Goal: a quiet message arrives in its turn without waking anybody, and does not make its sender
    /// wait for a receiver that is behind.
    #[test]
    fn quiet_messages_wake_nobody() {
        let doorbells = [Arc::new(Doorbell::worker()), Arc::new(Doorbell::worker())];
        let mut ends = connect::<usize>(&doorbells);
        let (_, mut inbox) = ends.pop().unwrap();
        let (mut outbox, _) = ends.pop().unwrap();
        let is_asleep = || match &*doorbells[1] {
            Doorbell::Worker { asleep, .. } => asleep.load(Ordering::SeqCst),
            Doorbell::Program(_) | Doorbell::Control(_) => unreachable!("made above"),
        };
        doorbells[1].announce_sleep();
        outbox.send_quietly(1, 7);
        outbox.ring(|_| {});
        assert!(is_asleep());
        outbox.send(1, 8);
        outbox.ring(|_| {});
        assert!(!is_asleep());
        assert_eq!((inbox.receive(), inbox.receive()), (Some(7), Some(8)));
        for number in 0..=LANE_LEN_MAX {
            outbox.send_quietly(1, number);
        }
        assert!(!outbox.is_backlogged());
        let received = std::iter::from_fn(|| inbox.receive()).collect::<Vec<_>>();
        assert!(received.into_iter().eq(0..LANE_LEN_MAX));
    }

    /// Goal: a receiver that announced its sleep is found asleep exactly once.
    #[test]
    fn a_sleeper_is_woken_once() {
        let doorbell = Doorbell::worker();
        doorbell.announce_sleep();
        let Doorbell::Worker { asleep, .. } = &doorbell else {
            unreachable!("made above")
        };
        assert!(asleep.load(Ordering::SeqCst));
        doorbell.ring(|_| {});
        assert!(!asleep.load(Ordering::SeqCst));
    }
}
