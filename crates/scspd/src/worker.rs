//! A worker: one thread with one ring, one shard core and the clients that connected to it.
//!
//! One turn: wait for the ring, hand every event to the shard or the client sessions, take in what
//! other threads sent, then let the shard build packets straight into send slots. Sending, waking
//! others and waiting are one system call.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use scsp_engine::shard::{Drop as Refused, Message as ShardMessage, SEGMENTS_MAX};
use scsp_engine::{InstanceIndex, Now, Shard, Time, ToShard};
use scsp_net::{ConnId, Endpoint, Event, Io, IoConfig, IoError, LinkId, LinkSocket, segments};
use scsp_wire::Envelope;
use tracing::{error, warn};

use crate::client::{Clients, Context, OUTPUT_LEN_MAX, Verdict};
use crate::clock::Clock;
use crate::directory::{Directory, Sender};
use crate::embed::Originations;
use crate::hub::Hub;
use crate::mesh::{Doorbell, Inbox, Outbox};
use crate::message::{Executed, Message};
use crate::sockets::{Sockets, receives};
use crate::spin::Spin;
use crate::stats::Sample;

/// Messages of other threads taken in per turn, so that sockets get their turn too.
const MESSAGES_PER_TURN_MAX: usize = 4096;

/// Connections beyond the configured limit that are accepted to be told so.
const CONNECTIONS_SPARE: usize = 64;

const _: () = assert!(SEGMENTS_MAX <= scsp_net::SEGMENTS_MAX);

/// Everything a worker thread is given.
#[derive(Debug)]
pub struct Worker {
    /// Its number, also that of its shard.
    pub number: u16,
    /// The hub it belongs to.
    pub hub: Arc<Hub>,
    /// Whom datagrams come from.
    pub directory: Arc<Directory>,
    /// Time.
    pub clock: Clock,
    /// Its shard.
    pub shard: Shard,
    /// To the other threads: workers by number, then the control thread.
    pub outbox: Outbox<Message>,
    /// From the other threads.
    pub inbox: Inbox<Message>,
    /// Told once the worker serves.
    pub ready: mpsc::Sender<()>,
}

/// A running worker.
struct Loop<'a> {
    worker: &'a mut Worker,
    io: Io,
    links: Vec<LinkId>,
    clients: Clients,
    originations: Originations,
    unknown_peer: u64,
    own: u64,
    busy: Duration,
    /// The turn took in or sent something.
    worked: bool,
    /// When the last turn that did ended.
    worked_at: Time,
    /// From the turn's start until its last batch of client commands was handled.
    commands_took: Option<Duration>,
    /// Only what the control thread says counts any more.
    quiet: bool,
    stopping: bool,
}

impl Worker {
    /// Makes the ring and runs until [`Message::Stop`]. A worker that fails stops the hub.
    pub fn run(mut self, sockets: Sockets) -> Result<(), IoError> {
        let result = Loop::new(&mut self, sockets).and_then(|mut running| {
            // Nobody listens when another thread's failure ended the start.
            let _ = running.worker.ready.send(());
            running.run()
        });
        if result.is_err() {
            self.outbox.send(self.hub.workers(), Message::Stop);
            self.outbox.ring(scsp_net::Waker::wake);
        }
        result
    }
}

impl Worker {
    /// Whom a packet comes from.
    fn sender(&self, link: usize, from: Endpoint, envelope: &Envelope<'_>) -> Sender {
        self.directory.sender(&self.hub.setup, link, from, envelope)
    }

    /// What client sessions may touch.
    fn context(&mut self, now: Now) -> Context<'_> {
        Context {
            worker: self.number,
            shard: &mut self.shard,
            now,
            outbox: &mut self.outbox,
        }
    }
}

impl<'a> Loop<'a> {
    fn new(worker: &'a mut Worker, sockets: Sockets) -> Result<Self, IoError> {
        let mut io = Io::new(worker.hub.backend, &io_config(&worker.hub))?;
        let configured = &worker.hub.config.links;
        let links = configured
            .iter()
            .zip(sockets.links)
            .map(|(link, socket)| io.add_link(socket, receives(link, worker.number)))
            .collect::<Result<Vec<_>, _>>()?;
        for listener in sockets.listeners {
            io.add_listener(listener)?;
        }
        if let Doorbell::Worker { waker, .. } = &**worker.inbox.doorbell() {
            waker.set(io.waker()).expect("a worker starts once");
        }
        let clients = Clients::new(Arc::clone(&worker.hub), worker.number);
        let (unknown_peer, own) = (0, 0);
        let (busy, commands_took, stopping) = (Duration::ZERO, None, false);
        Ok(Self {
            worker,
            io,
            links,
            clients,
            originations: Originations::default(),
            unknown_peer,
            own,
            busy,
            worked: false,
            worked_at: Time::ZERO,
            commands_took,
            quiet: false,
            stopping,
        })
    }
}

/// Limits of the backend that follow the configuration.
fn io_config(hub: &Hub) -> IoConfig {
    let config = &hub.config;
    let count = |len: usize| {
        u16::try_from(len)
            .expect("limited by the configuration")
            .max(1)
    };
    let connections = hub.connections_max.saturating_add(CONNECTIONS_SPARE);
    IoConfig {
        links_max: count(config.links.len()),
        listeners_max: count(config.client.listen.len()),
        connections_max: u32::try_from(connections).unwrap_or(u32::MAX),
        ..IoConfig::default()
    }
}

impl Loop<'_> {
    fn run(&mut self) -> Result<(), IoError> {
        while !self.stopping {
            let now = self.worker.clock.now();
            // Before a neighbour's answer comes what it answers to has been told.
            self.messages(now);
            self.events(now);
            self.close_killed();
            if !self.quiet {
                if self
                    .worker
                    .shard
                    .next_deadline()
                    .is_some_and(|at| at <= now.time)
                {
                    self.worker.shard.handle_timeouts(now);
                }
                self.transmit(now);
                self.hand_back();
            }
            let took_in_more = self.deliver(now);
            let ended = self.worker.clock.time();
            self.busy += ended.since(now.time);
            self.publish();
            if self.spin(ended)? {
                continue;
            }
            let wait = self.prepare_to_wait(took_in_more);
            self.io.turn(wait)?;
            self.worker.inbox.doorbell().announce_awake();
        }
        Ok(())
    }

    /// Looks for more instead of sleeping, as long as the last turn that had anything to do is not
    /// longer ago than `busy_poll`. Whether something came.
    fn spin(&mut self, now: Time) -> Result<bool, IoError> {
        let limit = self.worker.hub.config.io.busy_poll;
        if std::mem::take(&mut self.worked) {
            self.worked_at = now;
        }
        if self.stopping || now.since(self.worked_at) >= limit {
            return Ok(false);
        }
        // What the turn has to send goes now.
        if self.io.turn(Some(Duration::ZERO))?.completions > 0 {
            return Ok(true);
        }
        let deadline = self.worker.shard.next_deadline().filter(|_| !self.quiet);
        let mut spin = Spin::new(self.worker.clock, self.worked_at, limit);
        loop {
            if self.io.look() {
                self.io.turn(Some(Duration::ZERO))?;
                return Ok(true);
            }
            if !self.worker.inbox.is_empty() {
                return Ok(true);
            }
            if !spin.goes_on(deadline) {
                return Ok(false);
            }
        }
    }

    /// Everything the ring brought.
    fn events(&mut self, now: Now) {
        while let Some(event) = self.io.next_event() {
            self.worked = true;
            match event {
                _ if self.quiet => {}
                Event::Datagram {
                    link,
                    from,
                    buffer,
                    segment,
                } => {
                    let link = self.links.iter().position(|known| *known == link);
                    let link = link.expect("only links that were added receive");
                    for datagram in segments(self.io.bytes(buffer), segment) {
                        match Envelope::parse(datagram) {
                            Ok(envelope) => match self.worker.sender(link, from, &envelope) {
                                Sender::Dcs(dcs) => {
                                    self.worker.shard.handle_packet(now, dcs, &envelope);
                                }
                                Sender::Own => self.own += 1,
                                Sender::Unknown => self.unknown_peer += 1, // D-02
                            },
                            Err(error) => {
                                self.worker.shard.drop_packet(Refused::Malformed(error));
                            }
                        }
                    }
                }
                Event::Accepted { conn, peer, .. } => self.accepted(now, conn, &peer),
                Event::Received { conn, buffer } => self.received(now, conn, buffer),
                Event::Ended { conn } => {
                    let verdict = self.clients.ended(conn);
                    self.settle(conn, verdict);
                }
                Event::Closed { conn, .. } => self.clients.closed(conn),
                Event::Drained { conn } => self.drained(now, conn),
                Event::SegmentsRefused {
                    link,
                    segment,
                    error,
                } => self.segments_refused(link, segment, &error),
                // Counted by the backend; resends and Hellos go on as if the datagram was lost.
                Event::SendFailed { .. } | Event::Woken => {}
            }
        }
    }

    /// Packets on a link are sent one by one from now on. All workers come to the same.
    fn segments_refused(&self, link: LinkId, segment: usize, error: &std::io::Error) {
        let hub = &self.worker.hub;
        if !hub.segments_refused[link.index()].swap(true, Ordering::Relaxed) {
            let link = hub.config.links[link.index()].name.as_str();
            let longest = segment.saturating_sub(1);
            warn!(link, longest, %error, "no segmentation offload for packets longer than this");
        }
    }

    fn accepted(&mut self, now: Now, conn: ConnId, peer: &scsp_net::Peer) {
        if let Some(output) = self.io.stream_buffer(conn) {
            let verdict = self.clients.accepted(now, conn, peer, output);
            self.settle(conn, verdict);
        }
    }

    fn received(&mut self, now: Now, conn: ConnId, buffer: scsp_net::Buffer) {
        let Some((input, output)) = self.io.exchange(conn, buffer) else {
            return;
        };
        let verdict = self
            .clients
            .received(&mut self.worker.context(now), conn, input, output);
        self.settle(conn, verdict);
        self.commands_took = Some(self.worker.clock.time().since(now.time));
    }

    /// The client took its replies: commands that waited for that go on.
    fn drained(&mut self, now: Now, conn: ConnId) {
        let Some(output) = self.io.stream_buffer(conn) else {
            return;
        };
        let verdict = self
            .clients
            .drained(&mut self.worker.context(now), conn, output);
        self.settle(conn, verdict);
    }

    fn settle(&mut self, conn: ConnId, verdict: Verdict) {
        match verdict {
            Verdict::Open => {
                self.io.flush(conn);
                self.pace(conn);
            }
            Verdict::Close => self.io.close(conn),
        }
    }

    /// Reads on from a client only as fast as it takes its replies and other threads answer.
    fn pace(&mut self, conn: ConnId) {
        if self.io.pending_output(conn) > OUTPUT_LEN_MAX || self.clients.is_behind(conn) {
            self.io.pause_reading(conn);
        } else {
            self.io.resume_reading(conn);
        }
    }

    /// What other threads sent.
    fn messages(&mut self, now: Now) {
        for _ in 0..MESSAGES_PER_TURN_MAX {
            let Some(message) = self.worker.inbox.receive() else {
                return;
            };
            self.worked = true;
            match message {
                Message::Export(mut slice) => {
                    slice.fill(now, &self.worker.shard);
                    let control = self.worker.hub.workers();
                    self.worker.outbox.send(control, Message::Exported(slice));
                }
                Message::Quiesce => self.quiet = true,
                Message::Shard(_)
                | Message::Execute(_)
                | Message::Executed(_)
                | Message::Originate(_)
                | Message::Relink { .. }
                    if self.quiet => {}
                Message::Shard(message) => self.worker.shard.handle_message(now, message),
                Message::Execute(execute) => {
                    let ticket = execute.ticket;
                    let answer =
                        self.clients
                            .execute(&mut self.worker.context(now), ticket, execute.work);
                    let executed = Box::new(Executed { ticket, answer });
                    self.worker
                        .outbox
                        .send(usize::from(ticket.worker), Message::Executed(executed));
                }
                Message::Executed(executed) => {
                    let conn = executed.ticket.conn;
                    if let Some(output) = self.io.stream_buffer(conn) {
                        let verdict =
                            self.clients
                                .executed(&mut self.worker.context(now), *executed, output);
                        self.settle(conn, verdict);
                    }
                }
                Message::Originate(batch) => {
                    let Worker { shard, hub, .. } = &mut *self.worker;
                    self.originations.take(now, shard, &hub.setup, batch);
                }
                Message::Relink { link, socket } => self.relink(link, *socket),
                Message::Stop => self.stopping = true,
                Message::Control(_) | Message::Exported(_) | Message::Originated(_) => {
                    unreachable!("only other threads are sent these")
                }
            }
        }
    }

    /// The interface under a link came, went or was replaced.
    fn relink(&mut self, link: usize, socket: LinkSocket) {
        if let Err(error) = self.io.relink(self.links[link], socket) {
            let link = self.worker.hub.config.links[link].name.as_str();
            error!(link, worker = self.worker.number, %error, "cannot use the link's new socket");
        }
    }

    /// Closes the connections that clients asked to be closed.
    fn close_killed(&mut self) {
        while let Some(conn) = self.clients.poll_killed() {
            self.io.abort(conn);
        }
    }

    /// Packets of the shard into send slots, until either ends. When slots run out, the completion
    /// of a send brings the next turn.
    fn transmit(&mut self, now: Now) {
        while let Some(slot) = self.io.send_slot() {
            let out = self.io.slot_mut(&slot);
            let Some(packet) = self.worker.shard.poll_transmit(now, out) else {
                self.io.release(slot);
                return;
            };
            let (link, to) = self.worker.hub.destination(packet.to);
            let link = self.links[link];
            self.io.send(slot, link, to, packet.len, packet.segment);
            self.worked = true;
        }
    }

    /// Acknowledged batches to the program that submitted them.
    fn hand_back(&mut self) {
        let Worker {
            shard,
            hub,
            clock,
            outbox,
            ..
        } = &mut *self.worker;
        let program = hub.workers() + 1;
        let give = |batch| outbox.send(program, Message::Originated(batch));
        self.originations
            .settle(shard, &hub.setup, || clock.time(), give);
    }

    /// Messages to other threads; wakes those that sleep. A receiver that is behind is waited for
    /// here, while this worker goes on taking in messages itself, so that two that are behind
    /// with each other both move. Whether it took in any: then there may be packets to send.
    fn deliver(&mut self, now: Now) -> bool {
        let mut took_in_more = false;
        loop {
            while let Some(message) = self.worker.shard.poll_message() {
                match message {
                    ShardMessage::Control(message) => {
                        let control = self.worker.hub.workers();
                        self.worker.outbox.send(control, Message::Control(message));
                    }
                    ShardMessage::Shard(to, message @ ToShard::Spent { .. }) => {
                        let outbox = &mut self.worker.outbox;
                        outbox.send_quietly(to.index(), Message::Shard(message));
                    }
                    ShardMessage::Shard(to, message) => {
                        self.worker.outbox.send(to.index(), Message::Shard(message));
                    }
                }
            }
            // A ring message leaves with the next turn, which is too late for a receiver that is
            // waited for here.
            let is_behind = self.worker.outbox.is_backlogged();
            self.worker.outbox.ring(|waker| {
                if is_behind {
                    waker.wake();
                } else {
                    self.io.wake(waker);
                }
            });
            if !self.worker.outbox.is_backlogged() || self.stopping {
                return took_in_more;
            }
            took_in_more = true;
            self.messages(now);
            std::thread::yield_now();
        }
    }

    /// How long the next turn may wait.
    fn prepare_to_wait(&mut self, took_in_more: bool) -> Option<Duration> {
        let doorbell = self.worker.inbox.doorbell();
        doorbell.announce_sleep();
        if took_in_more || !self.worker.inbox.is_empty() || self.stopping {
            doorbell.announce_awake();
            return Some(Duration::ZERO);
        }
        let deadline = self.worker.shard.next_deadline().filter(|_| !self.quiet)?;
        Some(deadline.since(self.worker.clock.time()))
    }

    fn publish(&mut self) {
        let stats = &self.worker.hub.stats[usize::from(self.worker.number)];
        stats.publish_shard(&self.worker.shard);
        stats.publish_io(self.io.counters());
        stats.unknown_peer.set(self.unknown_peer);
        stats.own.set(self.own);
        stats
            .busy_nanos
            .set(u64::try_from(self.busy.as_nanos()).unwrap_or(u64::MAX));
        self.clients.publish();
        if let Some(took) = self.commands_took.take() {
            stats.sample(Sample::Command { took });
        }
        for group in (0..).map(InstanceIndex).take(stats.instances.len()) {
            let (acknowledged, propagated) = self.worker.shard.take_samples(group);
            if let Some(took) = acknowledged {
                stats.sample(Sample::Acknowledgement { group, took });
            }
            if let Some(took) = propagated {
                stats.sample(Sample::Propagation { group, took });
            }
        }
    }
}
