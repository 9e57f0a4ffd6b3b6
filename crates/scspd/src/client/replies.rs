//! Replies of one connection in the order of its requests, while some wait for other threads.
//!
//! ```text
//!  slots   [ Parts(7,×3) | Ready(120 octets) | Combine(DEL) | Parts(7,×1) | Parts(8,×1) ]
//!  tasks   [ 7: answered | 8: under way ]      a task is one batch sent to another thread
//!  ready   one buffer with the octets of all Ready slots
//! ```
//! Replies go straight to the connection's output while no slot waits.

use std::collections::VecDeque;

use scsp_resp::{Protocol, Writer};

use crate::hub::Hub;

use super::batch::{Batch, Position};
use super::combine::Combine;

/// Operations of one connection that wait for other threads at most; no further command is taken
/// from its input then. One command with many keys may go beyond by the number of its keys.
pub(super) const WAITING_MAX: usize = 256;
/// Octets of replies that wait behind another one at most, as above.
const READY_LEN_MAX: usize = 4 * 1024 * 1024;
/// Octets that the buffer of waiting replies keeps allocated.
const KEPT_LEN_MAX: usize = 64 * 1024;
/// Batches kept for reuse.
const POOL_LEN_MAX: usize = 64;

/// Batches to be used again.
pub(super) type Pool = Vec<Batch>;

#[derive(Debug)]
enum Slot {
    /// So many octets of `ready`.
    Ready { len: usize },
    /// So many replies of a task.
    Parts {
        request: u64,
        count: usize,
        silent: bool,
    },
    /// The next replies of tasks are parts of one.
    Combine(Box<Combine>),
}

#[derive(Debug, Default)]
struct Task {
    answer: Option<Batch>,
    position: Position,
    spent: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// Protocol of replies to come.
    pub(super) protocol: Protocol,
    /// The command at hand is not answered (CLIENT REPLY).
    pub(super) silent: bool,
    slots: VecDeque<Slot>,
    tasks: VecDeque<Task>,
    /// Number of the first task.
    base: u64,
    ready: Vec<u8>,
    /// Octets of `ready` already written.
    written: usize,
    combining: Option<Box<Combine>>,
    waiting: usize,
}

impl Replies {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether so much waits that no further command is to be taken.
    pub(super) fn is_full(&self) -> bool {
        self.waiting >= WAITING_MAX || self.ready.len() - self.written >= READY_LEN_MAX
    }

    /// Answers the command at hand, or a part of it, in its turn.
    pub(super) fn write(&mut self, output: &mut Vec<u8>, answer: impl FnOnce(&mut Writer<'_>)) {
        let protocol = self.protocol;
        self.append(output, |out| answer(&mut Writer::new(out, protocol)));
    }

    /// As [`write`](Self::write), in octets.
    pub(super) fn append(&mut self, output: &mut Vec<u8>, answer: impl FnOnce(&mut Vec<u8>)) {
        let waits = !self.slots.is_empty();
        let target = if waits { &mut self.ready } else { output };
        let before = target.len();
        answer(target);
        if self.silent {
            target.truncate(before);
        }
        let added = target.len() - before;
        if waits && added > 0 {
            match self.slots.back_mut() {
                Some(Slot::Ready { len }) => *len += added,
                _ => self.slots.push_back(Slot::Ready { len: added }),
            }
        }
    }

    /// Numbers a batch that is about to be sent.
    pub(super) fn open_task(&mut self) -> u64 {
        self.tasks.push_back(Task::default());
        self.base + self.tasks.len() as u64 - 1
    }

    /// The next reply is the next one of task `request`.
    pub(super) fn expect(&mut self, request: u64) {
        self.waiting += 1;
        if let Some(Slot::Parts {
            request: last,
            count,
            silent,
        }) = self.slots.back_mut()
            && *last == request
            && *silent == self.silent
        {
            *count += 1;
            return;
        }
        self.slots.push_back(Slot::Parts {
            request,
            count: 1,
            silent: self.silent,
        });
    }

    /// The replies expected next are parts of one: `combine` says how many.
    pub(super) fn expect_combined(&mut self, combine: Combine) {
        self.slots.push_back(Slot::Combine(Box::new(combine)));
    }

    /// Takes in the answer to task `request` and writes what is complete now.
    pub(super) fn answered(
        &mut self,
        hub: &Hub,
        request: u64,
        answer: Batch,
        output: &mut Vec<u8>,
        pool: &mut Pool,
    ) {
        let index = request
            .checked_sub(self.base)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(task) = index.and_then(|at| self.tasks.get_mut(at)) {
            task.answer = Some(answer);
        }
        while self.advance(hub, output) {}
        while self.tasks.front().is_some_and(|task| task.spent) {
            let task = self.tasks.pop_front().and_then(|task| task.answer);
            self.base += 1;
            if let Some(mut batch) = task
                && pool.len() < POOL_LEN_MAX
            {
                batch.clear();
                pool.push(batch);
            }
        }
        if self.slots.is_empty() {
            self.ready.clear();
            self.ready.shrink_to(KEPT_LEN_MAX);
            self.written = 0;
        }
    }

    /// Writes the first slot if it is complete; whether to go on.
    fn advance(&mut self, hub: &Hub, output: &mut Vec<u8>) -> bool {
        match self.slots.front_mut() {
            None => false,
            Some(Slot::Ready { len }) => {
                let end = self.written + *len;
                output.extend_from_slice(self.ready.get(self.written..end).unwrap_or_default());
                self.written = end;
                self.slots.pop_front();
                true
            }
            Some(Slot::Combine(_)) => {
                if let Some(Slot::Combine(combine)) = self.slots.pop_front() {
                    self.combining = Some(combine);
                }
                true
            }
            Some(Slot::Parts {
                request,
                count,
                silent,
            }) => {
                let index = usize::try_from(*request - self.base).expect("tasks fit in memory");
                let task = &mut self.tasks[index];
                let Some(answer) = &task.answer else {
                    return false;
                };
                while *count > 0 {
                    let reply = answer
                        .take(&mut task.position)
                        .expect("one reply per operation");
                    *count -= 1;
                    self.waiting -= 1;
                    let Some(combine) = &mut self.combining else {
                        if !*silent {
                            output.extend_from_slice(reply);
                        }
                        continue;
                    };
                    combine.feed(reply);
                    if combine.is_complete()
                        && let Some(combine) = self.combining.take()
                    {
                        combine.finish(hub, output);
                    }
                }
                task.spent = answer.is_spent(task.position);
                self.slots.pop_front();
                true
            }
        }
    }
}
