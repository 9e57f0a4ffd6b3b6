//! Operations to the threads that carry them out.

use scsp_engine::InstanceIndex;
use scsp_engine::shard::shard_of;
use scsp_resp::Writer;

use crate::message::{Execute, Message, Ticket};

use super::batch::{Batch, Kind, Op};
use super::combine::{Combine, What};
use super::execute::Place;
use super::session::Session;
use super::{Clients, Context, Work};

/// Octets of operations after which a batch is sent.
const BATCH_LEN_MAX: usize = 128 * 1024;

/// A batch for one thread, and its number on the connection at hand.
#[derive(Debug)]
pub(super) struct Lane {
    request: u64,
    batch: Batch,
}

/// One command of a connection being carried out.
pub(super) struct Call<'c, 'x> {
    pub(super) clients: &'c mut Clients,
    pub(super) cx: &'c mut Context<'x>,
    pub(super) session: &'c mut Session,
    pub(super) output: &'c mut Vec<u8>,
}

impl Clients {
    /// Sends every batch of the connection at hand.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>, session: &Session) {
        for to in 0..self.lanes.len() {
            self.flush_lane(to, cx, session);
        }
    }

    fn flush_lane(&mut self, to: usize, cx: &mut Context<'_>, session: &Session) {
        if let Some(Lane { request, batch }) = self.lanes[to].take() {
            let ticket = Ticket {
                worker: self.worker,
                conn: session.conn,
                request,
            };
            let execute = Execute {
                ticket,
                work: Work(batch),
            };
            cx.outbox.send(to, Message::Execute(Box::new(execute)));
        }
    }
}

impl Call<'_, '_> {
    /// Answers the command at hand.
    pub(super) fn reply(&mut self, answer: impl FnOnce(&mut Writer<'_>)) {
        self.session.replies.write(self.output, answer);
    }

    /// Has an operation on a key carried out by the shard that owns it; its reply is the reply.
    pub(super) fn on_key(&mut self, at: InstanceIndex, op: Op<'_>) {
        self.on_shard(self.owner(op.key), at, op);
    }

    /// Has an operation carried out by a shard; its reply is the reply.
    pub(super) fn on_shard(&mut self, to: usize, at: InstanceIndex, op: Op<'_>) {
        if to != usize::from(self.clients.worker) {
            return self.enqueue(to, at, op);
        }
        let protocol = self.session.replies.protocol;
        let mut place = Place {
            hub: &self.clients.hub,
            shard: &mut *self.cx.shard,
            number: self.clients.worker,
            now: self.cx.now,
            at,
            protocol,
        };
        self.session
            .replies
            .append(self.output, |out| place.execute(op, out));
    }

    /// Has an operation carried out by the control thread; its reply is the reply.
    pub(super) fn on_control(&mut self, at: InstanceIndex, op: Op<'_>) {
        let to = self.clients.hub.workers();
        self.enqueue(to, at, op);
        // One operation at a time: an effect comes with its own answer.
        self.clients.flush_lane(to, self.cx, self.session);
    }

    /// Has operations on keys carried out by the shards that own them; the reply is `what` becomes
    /// of theirs. Those for one shard are carried out in one go.
    pub(super) fn on_keys<'a>(
        &mut self,
        at: InstanceIndex,
        ops: impl Iterator<Item = Op<'a>> + Clone,
        what: What,
    ) {
        let me = usize::from(self.clients.worker);
        let mut combine = self.combine(what);
        for op in ops.clone() {
            if self.owner(op.key) == me {
                self.add_own(at, op, &mut combine);
            } else {
                combine.left += 1;
            }
        }
        if self.answer_combined(combine) {
            return;
        }
        for op in ops {
            let to = self.owner(op.key);
            if to != me {
                self.enqueue(to, at, op);
            }
        }
    }

    /// Has an operation carried out by every worker; the reply is `what` becomes of theirs.
    pub(super) fn on_all(&mut self, at: InstanceIndex, op: Op<'_>, what: What) {
        let me = usize::from(self.clients.worker);
        let workers = self.clients.hub.workers();
        let mut combine = self.combine(what);
        combine.left = workers - 1;
        self.add_own(at, op, &mut combine);
        if self.answer_combined(combine) {
            return;
        }
        for to in (0..workers).filter(|to| *to != me) {
            self.enqueue(to, at, op);
        }
    }

    /// The worker whose shard owns a key.
    fn owner(&self, key: &[u8]) -> usize {
        shard_of(key, self.clients.hub.setup.shards).index()
    }

    fn combine(&self, what: What) -> Combine {
        let replies = &self.session.replies;
        Combine::new(what, replies.silent, replies.protocol)
    }

    /// Answers if no part is missing; else the parts are expected next.
    fn answer_combined(&mut self, combine: Combine) -> bool {
        let complete = combine.is_complete();
        if complete {
            let hub = &self.clients.hub;
            self.session
                .replies
                .append(self.output, |out| combine.finish(hub, out));
        } else {
            self.session.replies.expect_combined(combine);
        }
        complete
    }

    /// This worker's part.
    fn add_own(&mut self, at: InstanceIndex, op: Op<'_>, combine: &mut Combine) {
        let mut part = std::mem::take(&mut self.clients.scratch);
        part.clear();
        let (now, protocol) = (self.cx.now, self.session.replies.protocol);
        match op.kind {
            Kind::Clients { all } => {
                self.clients.describe_all(now, all, op.value, &mut part);
                self.describe_self(all, op.value, &mut part);
            }
            Kind::Kill(rule) => {
                let others = self.clients.kill_all(now, &rule, op.value);
                let count = others + usize::from(self.kill_self(&rule, op.value));
                Writer::new(&mut part, protocol).count(count);
            }
            _ => {
                let (hub, number) = (&self.clients.hub, self.clients.worker);
                let shard = &mut *self.cx.shard;
                Place {
                    hub,
                    shard,
                    number,
                    now,
                    at,
                    protocol,
                }
                .execute(op, &mut part);
            }
        }
        combine.add(&part);
        self.clients.scratch = part;
    }

    /// Adds an operation to the batch for thread `to`; its reply is expected next.
    fn enqueue(&mut self, to: usize, at: InstanceIndex, op: Op<'_>) {
        let protocol = self.session.replies.protocol;
        let other = |lane: &Lane| lane.batch.at != at || lane.batch.protocol != protocol;
        if self.clients.lanes[to].as_ref().is_some_and(other) {
            self.clients.flush_lane(to, self.cx, self.session);
        }
        let Clients {
            lanes,
            pool,
            overfull,
            ..
        } = &mut *self.clients;
        let lane = lanes[to].get_or_insert_with(|| {
            let mut batch = pool.pop().unwrap_or_else(Batch::new);
            (batch.at, batch.protocol) = (at, protocol);
            Lane {
                request: self.session.replies.open_task(),
                batch,
            }
        });
        lane.batch.push(op);
        *overfull |= lane.batch.octets_len() > BATCH_LEN_MAX;
        self.session.replies.expect(lane.request);
    }
}
