//! The client interface: Redis protocol sessions on the workers.
//!
//! Each worker serves its own connections. A command on a key of the worker's shard is carried out
//! at once; others travel in batches, one for each other thread and call, and their replies are
//! put in order again.
//!
//! | file | holds |
//! |---|---|
//! | `session.rs` | one connection |
//! | `dispatch.rs`, `connection.rs`, `server.rs` | commands: arguments in, operations or replies out |
//! | `route.rs` | operations to their threads |
//! | `batch.rs` | operations and replies on their way between threads |
//! | `execute.rs` | operations on a shard |
//! | `replies.rs`, `combine.rs` | replies in order, and from parts |
//! | `control.rs` | what the control thread answers |

mod batch;
mod combine;
mod connection;
mod control;
mod dispatch;
mod execute;
mod replies;
mod route;
mod server;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use scsp_engine::{Now, Shard};
use scsp_net::{ConnId, Peer};
use scsp_resp::{CommandId, Decoded, Decoder, Writer};

use crate::hub::Hub;
use crate::mesh::Outbox;
use crate::message::{Executed, Message, Ticket};

use batch::{Batch, Kind};
use execute::Place;
use replies::Pool;
use route::{Call, Lane};
use session::{INPUT_LEN_MAX, Input, Session};

pub use control::{Effect, execute_on_control, health};

/// Part of a client's request that another thread does.
#[derive(Debug)]
pub struct Work(Batch);

/// What came of a [`Work`].
#[derive(Debug)]
pub struct Answer(Batch);

/// What a session may touch while it handles input.
#[derive(Debug)]
pub struct Context<'a> {
    /// This worker's number.
    pub worker: u16,
    /// This worker's shard.
    pub shard: &'a mut Shard,
    /// The moment of this turn.
    pub now: Now,
    /// To other workers (by number) and the control thread (by [`Hub::workers`]).
    pub outbox: &'a mut Outbox<Message>,
}

/// What the caller does with the connection after input was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Open,
    /// Flush, then close.
    Close,
}

#[derive(Debug)]
struct Slot {
    session: Session,
    input: Input,
}

/// Octets of replies that a client may leave unread before its further commands wait. One command
/// may exceed it by its own reply.
pub const OUTPUT_LEN_MAX: usize = 1024 * 1024;

/// Sessions of one worker.
#[derive(Debug)]
pub struct Clients {
    hub: Arc<Hub>,
    worker: u16,
    index: HashMap<ConnId, usize>,
    slots: Vec<Option<Box<Slot>>>,
    free: Vec<usize>,
    /// Connections accepted since the start.
    accepted: u64,
    /// Batches under construction, for each other thread.
    lanes: Vec<Option<Lane>>,
    /// A lane is to be sent before the next command.
    overfull: bool,
    pool: Pool,
    /// Part of a reply under construction, kept for its allocation.
    scratch: Vec<u8>,
    /// Commands carried out, by position in the command table.
    commands: [u64; CommandId::COUNT],
    killed: VecDeque<ConnId>,
}

impl Clients {
    /// No sessions.
    pub fn new(hub: Arc<Hub>, worker: u16) -> Self {
        let lanes = (0..=hub.workers()).map(|_| None).collect();
        Self {
            hub,
            worker,
            index: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            accepted: 0,
            lanes,
            overfull: false,
            pool: Pool::new(),
            scratch: Vec::new(),
            commands: [0; CommandId::COUNT],
            killed: VecDeque::new(),
        }
    }

    /// A client connected. Over the hub's limit it is told so in `output` and to be closed.
    pub fn accepted(
        &mut self,
        now: Now,
        conn: ConnId,
        peer: &Peer,
        output: &mut Vec<u8>,
    ) -> Verdict {
        let others = self.hub.stats.iter().enumerate();
        let others = others.filter(|(worker, _)| *worker != usize::from(self.worker));
        let open: u64 = others.map(|(_, stats)| stats.connections.get()).sum();
        if self.index.len() as u64 + open >= self.hub.connections_max as u64 {
            output.extend_from_slice(b"-ERR max number of clients reached\r\n");
            return Verdict::Close;
        }
        self.accepted += 1;
        let id = (self.accepted - 1) * self.hub.workers() as u64 + u64::from(self.worker) + 1;
        let session = Session::new(conn, id, *peer, now.time);
        let slot = Some(Box::new(Slot {
            session,
            input: Input::default(),
        }));
        let at = if let Some(at) = self.free.pop() {
            self.slots[at] = slot;
            at
        } else {
            self.slots.push(slot);
            self.slots.len() - 1
        };
        self.index.insert(conn, at);
        self.publish_connections();
        Verdict::Open
    }

    /// A connection is gone.
    pub fn closed(&mut self, conn: ConnId) {
        if let Some(at) = self.index.remove(&conn) {
            self.slots[at] = None;
            self.free.push(at);
        }
        self.publish_connections();
    }

    /// A client sent octets; answers go to `output`.
    pub fn received(
        &mut self,
        cx: &mut Context<'_>,
        conn: ConnId,
        input: &[u8],
        output: &mut Vec<u8>,
    ) -> Verdict {
        self.with(conn, |clients, slot| {
            slot.session.active = cx.now.time;
            if slot.input.is_empty() {
                let done = clients.feed(cx, slot, input, output);
                slot.input.push(input.get(done..).unwrap_or_default());
            } else {
                slot.input.push(input);
                clients.resume(cx, slot, output);
            }
            clients.settle(cx, slot, output)
        })
    }

    /// The client will send no more: the connection stays until everything is answered.
    pub fn ended(&mut self, conn: ConnId) -> Verdict {
        self.with(conn, |_, slot| {
            slot.session.ended = true;
            verdict(&slot.session)
        })
    }

    /// The client took all its replies: what waited for that goes on.
    pub fn drained(&mut self, cx: &mut Context<'_>, conn: ConnId, output: &mut Vec<u8>) -> Verdict {
        self.with(conn, |clients, slot| {
            if slot.session.stalled {
                clients.resume(cx, slot, output);
            }
            clients.settle(cx, slot, output)
        })
    }

    /// Another thread answered: completes the reply of connection `executed.ticket.conn` in
    /// `output`.
    pub fn executed(
        &mut self,
        cx: &mut Context<'_>,
        executed: Executed,
        output: &mut Vec<u8>,
    ) -> Verdict {
        let Executed {
            ticket,
            answer: Answer(batch),
        } = executed;
        self.with(ticket.conn, |clients, slot| {
            let replies = &mut slot.session.replies;
            replies.answered(
                &clients.hub,
                ticket.request,
                batch,
                output,
                &mut clients.pool,
            );
            if !slot.input.is_empty() {
                clients.resume(cx, slot, output);
            }
            clients.settle(cx, slot, output)
        })
    }

    /// Does another worker's work on this worker's shard and sessions.
    pub fn execute(&mut self, cx: &mut Context<'_>, _ticket: Ticket, work: Work) -> Answer {
        let Work(mut batch) = work;
        let hub = Arc::clone(&self.hub);
        let (at, protocol, now) = (batch.at, batch.protocol, cx.now);
        let number = self.worker;
        batch.run(|op, out| match op.kind {
            Kind::Clients { all } => self.describe_all(now, all, op.value, out),
            Kind::Kill(rule) => {
                let count = self.kill_all(now, &rule, op.value);
                Writer::new(out, protocol).count(count);
            }
            _ => {
                let shard = &mut *cx.shard;
                Place {
                    hub: &hub,
                    shard,
                    number,
                    now,
                    at,
                    protocol,
                }
                .execute(op, out);
            }
        });
        Answer(batch)
    }

    /// A connection that CLIENT KILL closed: to be closed by the caller. Poll until `None` after
    /// [`received`](Self::received), [`executed`](Self::executed) and [`execute`](Self::execute).
    pub fn poll_killed(&mut self) -> Option<ConnId> {
        self.killed.pop_front()
    }

    /// Whether a connection has so many requests under way that its further input waits: reading
    /// from it may pause until a call for it makes this false.
    pub fn is_behind(&self, conn: ConnId) -> bool {
        self.index
            .get(&conn)
            .and_then(|at| self.slots[*at].as_ref())
            .is_some_and(|slot| slot.session.stalled || slot.session.replies.is_full())
    }

    /// Sessions.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Publishes what was counted, once a turn.
    pub fn publish(&self) {
        let stats = &self.hub.stats[usize::from(self.worker)];
        for (cell, count) in stats.commands.iter().zip(self.commands) {
            cell.set(count);
        }
        self.publish_connections();
    }

    fn publish_connections(&self) {
        self.hub.stats[usize::from(self.worker)]
            .connections
            .set(self.index.len() as u64);
    }

    /// Hands out a session while the others can be looked at; a connection without one is to be
    /// closed.
    fn with(&mut self, conn: ConnId, act: impl FnOnce(&mut Self, &mut Slot) -> Verdict) -> Verdict {
        let Some(&at) = self.index.get(&conn) else {
            return Verdict::Close;
        };
        let Some(mut slot) = self.slots[at].take() else {
            return Verdict::Close;
        };
        let verdict = act(self, &mut slot);
        self.slots[at] = Some(slot);
        verdict
    }

    /// Carries out the commands at the front of `octets`; gives the octets dealt with.
    fn feed(
        &mut self,
        cx: &mut Context<'_>,
        slot: &mut Slot,
        octets: &[u8],
        output: &mut Vec<u8>,
    ) -> usize {
        let Slot { session, input } = slot;
        self.decode(cx, session, &mut input.decoder, octets, output)
    }

    fn decode(
        &mut self,
        cx: &mut Context<'_>,
        session: &mut Session,
        decoder: &mut Decoder,
        octets: &[u8],
        output: &mut Vec<u8>,
    ) -> usize {
        let mut done = 0;
        session.stalled = false;
        while !session.closing && !session.replies.is_full() {
            if output.len() >= OUTPUT_LEN_MAX {
                session.stalled = true;
                break;
            }
            match decoder.decode(octets.get(done..).unwrap_or_default()) {
                Ok(Decoded { consumed, args }) => {
                    done += consumed;
                    let Some(args) = args else { return done };
                    Call {
                        clients: self,
                        cx,
                        session,
                        output,
                    }
                    .command(args);
                    if std::mem::take(&mut self.overfull) {
                        self.flush(cx, session);
                    }
                }
                Err(error) => {
                    session.replies.silent = false;
                    session.replies.write(output, |writer| writer.error(error));
                    session.closing = true;
                }
            }
        }
        if session.closing { octets.len() } else { done }
    }

    /// Goes on with the input that waited.
    fn resume(&mut self, cx: &mut Context<'_>, slot: &mut Slot, output: &mut Vec<u8>) {
        let (octets, done) = slot.input.lend();
        let more = self.feed(cx, slot, octets.get(done..).unwrap_or_default(), output);
        slot.input.give_back(octets, done + more);
    }

    /// Sends what was gathered for other threads and says what becomes of the connection.
    fn settle(&mut self, cx: &mut Context<'_>, slot: &mut Slot, output: &mut Vec<u8>) -> Verdict {
        let Slot { session, input } = slot;
        self.flush(cx, session);
        if input.len() > INPUT_LEN_MAX {
            let error = "ERR Protocol error: too much input waits for replies";
            session.replies.write(output, |writer| writer.error(error));
            session.closing = true;
        }
        if session.closing {
            input.clear();
        }
        verdict(session)
    }
}

fn verdict(session: &Session) -> Verdict {
    if session.is_over() {
        Verdict::Close
    } else {
        Verdict::Open
    }
}
