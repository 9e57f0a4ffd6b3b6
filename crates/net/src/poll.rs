//! The poll backend: level-triggered epoll, `recvmmsg`, `sendmmsg`.

mod conn;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;
use rustix::io::Errno;

use self::conn::Conn;
use crate::address::{decode_control, decode_name};
use crate::connection::{Gate, resumed_gate, wait_for_gates};
use crate::event::Pool;
use crate::ledger::Ledger;
use crate::lent::Lent;
use crate::link::{Link, Port, Sending};
use crate::link_socket::{HEADROOM, Outgoing};
use crate::raw::{MMSG_LEN_MAX, Piece, Receiver, Sender};
use crate::slab::Slab;
use crate::token::{Kind, Token};
use crate::{
    Buffer, ConnId, Counters, Endpoint, Event, IoConfig, IoError, LinkId, LinkSocket, Listener,
    ListenerId, TurnStats, Waker,
};

/// Readiness reports taken in by one turn.
const READY_LEN_MAX: usize = 256;

/// Connections taken from one listener before others have their turn.
const ACCEPTS_MAX: usize = 64;

struct PollLink {
    link: Link,
    queue: VecDeque<Piece>,
    /// The socket's queue is full: wait until it is writable.
    blocked: bool,
}

impl PollLink {
    /// Waits until the socket is writable, or no longer. One that only sends is watched only
    /// meanwhile: an error that waits for whoever receives on it would be reported for ever.
    fn set_blocked(&mut self, epoll: &OwnedFd, index: u16, blocked: bool) {
        if self.blocked == blocked {
            return;
        }
        self.blocked = blocked;
        let port = Port::main(index);
        let receives = self.link.receiving(index).any(|(of, _)| of == port);
        let out = epoll::EventFlags::OUT;
        let both = epoll::EventFlags::IN | out;
        let link = &self.link;
        // What is watched can be changed, what is not can be added: no memory is all that may lack.
        let _ = match (receives, blocked) {
            (true, true) => epoll::modify(epoll, link, port_token(port), both),
            (true, false) => epoll::modify(epoll, link, port_token(port), epoll::EventFlags::IN),
            (false, true) => epoll::add(epoll, link, port_token(port), out),
            (false, false) => epoll::delete(epoll, link),
        };
    }
}

/// Datagrams received by one call and not yet handed out.
#[derive(Clone, Copy)]
struct Batch {
    port: Port,
    next: usize,
    len: usize,
}

pub(crate) struct Poll {
    config: IoConfig,
    epoll: OwnedFd,
    waker: Waker,
    receiver: Receiver,
    batch: Batch,
    sender: Sender,
    ledger: Ledger,
    sends: Box<[Sending]>,
    /// A slot was wanted and none was free: the next one that is ends the wait.
    starved: bool,
    links: Vec<PollLink>,
    gates: Vec<Gate>,
    conns: Slab<Conn>,
    /// Connections with something to write, in the order they asked.
    dirty: Vec<ConnId>,
    stream: Box<[u8]>,
    ready: Vec<epoll::Event>,
    next_ready: usize,
    notices: VecDeque<Event>,
    lent: Lent,
    counters: Counters,
}

impl Poll {
    pub(crate) fn new(config: &IoConfig) -> Result<Self, IoError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(IoError::call("make an epoll instance"))?;
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let event = rustix::event::eventfd(0, flags).map_err(IoError::call("make an eventfd"))?;
        let token = epoll::EventData::new_u64(Token::new(Kind::Wake, 0, 0).0);
        epoll::add(&epoll, &event, token, epoll::EventFlags::IN)
            .map_err(IoError::call("watch an eventfd"))?;
        let receive_len = config.receive_buffer_len_bytes;
        Ok(Self {
            config: config.clone(),
            epoll,
            waker: Waker::new(event, None),
            receiver: Receiver::new(config.receive_buffers.into(), receive_len),
            batch: Batch {
                port: Port(0),
                next: 0,
                len: 0,
            },
            sender: Sender::new(config.send_slots, config.send_slot_len_bytes),
            ledger: Ledger::new(config.send_slots),
            sends: vec![Sending::UNUSED; usize::from(config.send_slots)].into(),
            starved: false,
            links: Vec::new(),
            gates: Vec::new(),
            conns: Slab::new(config.connections_max),
            dirty: Vec::new(),
            stream: vec![0; config.stream_buffer_len_bytes].into(),
            ready: Vec::with_capacity(READY_LEN_MAX),
            next_ready: 0,
            notices: VecDeque::new(),
            lent: Lent::default(),
            counters: Counters::default(),
        })
    }

    pub(crate) fn add_link(
        &mut self,
        socket: LinkSocket,
        receive: bool,
    ) -> Result<LinkId, IoError> {
        let max = self.config.links_max;
        let index = u16::try_from(self.links.len())
            .ok()
            .filter(|&index| index < max)
            .ok_or(IoError::Full {
                field: "links_max",
                max: max.into(),
            })?;
        let link = Link::new(socket, receive, false, self.config.gro)?;
        watch_receiving(&self.epoll, &link, index)?;
        self.links.push(PollLink {
            link,
            queue: VecDeque::new(),
            blocked: false,
        });
        self.tell_refusal(index);
        Ok(LinkId(index))
    }

    pub(crate) fn relink(&mut self, link: LinkId, socket: LinkSocket) -> Result<(), IoError> {
        let old = &mut self.links[link.index()];
        let new = old.link.replaced(socket, false, self.config.gro)?;
        watch_receiving(&self.epoll, &new, link.0)?;
        // Other handles may keep the old sockets open: closing ours would not end the watch.
        old.set_blocked(&self.epoll, link.0, false);
        for (_, part) in old.link.receiving(link.0) {
            let _ = epoll::delete(&self.epoll, part);
        }
        old.link = new;
        if self.batch.port.link() == link.0 {
            self.batch.len = self.batch.next;
        }
        self.tell_refusal(link.0);
        Ok(())
    }

    fn tell_refusal(&mut self, link: u16) {
        let refusal = self.links[usize::from(link)].link.take_refusal(link);
        self.notices.extend(refusal);
    }

    pub(crate) fn add_listener(&mut self, listener: Listener) -> Result<ListenerId, IoError> {
        let max = self.config.listeners_max;
        let index = u16::try_from(self.gates.len())
            .ok()
            .filter(|&index| index < max)
            .ok_or(IoError::Full {
                field: "listeners_max",
                max: max.into(),
            })?;
        listener
            .set_nonblocking(true)
            .map_err(IoError::call("set a listener's blocking mode"))?;
        let token = epoll::EventData::new_u64(Token::new(Kind::Accept, 0, index.into()).0);
        epoll::add(&self.epoll, &listener, token, epoll::EventFlags::IN)
            .map_err(IoError::call("watch a listener"))?;
        self.gates.push(Gate::new(listener));
        Ok(ListenerId(index))
    }

    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    #[allow(
        clippy::unused_self,
        reason = "the other backend wakes through its ring"
    )]
    pub(crate) fn wake(&mut self, target: &Waker) {
        target.wake();
    }

    pub(crate) fn turn(&mut self, wait: Option<Duration>) -> Result<TurnStats, IoError> {
        self.lent.end();
        while let Some(index) = resumed_gate(&mut self.gates) {
            self.counters.rearmed += 1;
            watch_gate(&self.epoll, &self.gates[usize::from(index)], index, true);
        }
        for index in 0..self.links.len() {
            self.send_queued(index);
        }
        self.write_dirty();
        let relieved = self.starved && self.ledger.free_len() > 0;
        self.starved &= !relieved;
        let busy = !self.notices.is_empty() || self.has_ready() || relieved;
        let wait = if busy { Some(Duration::ZERO) } else { wait };
        let wait = wait_for_gates(&self.gates, wait);
        let completions = if self.has_ready() {
            0
        } else {
            self.wait(wait)?
        };
        Ok(TurnStats { completions })
    }

    pub(crate) fn look(&mut self) -> bool {
        // A failure comes again with the turn.
        !self.notices.is_empty()
            || self.has_ready()
            || !matches!(self.wait(Some(Duration::ZERO)), Ok(0))
    }

    fn wait(&mut self, wait: Option<Duration>) -> Result<usize, IoError> {
        self.ready.clear();
        self.next_ready = 0;
        self.counters.enters += 1;
        let timeout = wait.and_then(|wait| rustix::event::Timespec::try_from(wait).ok());
        let buffer = rustix::buffer::spare_capacity(&mut self.ready);
        match epoll::wait(&self.epoll, buffer, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(IoError::call("wait for events")(error)),
        }
        self.counters.completions += self.ready.len() as u64;
        Ok(self.ready.len())
    }

    fn has_ready(&self) -> bool {
        self.next_ready < self.ready.len() || self.batch.next < self.batch.len
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.lent.end();
        loop {
            if let Some(event) = self.notices.pop_front() {
                return Some(event);
            }
            if self.batch.next < self.batch.len {
                if let Some(event) = self.next_datagram() {
                    return Some(event);
                }
                continue;
            }
            let ready = *self.ready.get(self.next_ready)?;
            self.next_ready += 1;
            let token = Token(ready.data.u64());
            let flags = ready.flags;
            let event = match token.kind() {
                Kind::Datagram => {
                    self.link_ready(Port(token.short()), flags);
                    None
                }
                Kind::Accept => {
                    self.accept(token.short());
                    None
                }
                Kind::Stream => self.conn_ready(token.conn(), flags),
                Kind::Wake => self.woken(),
                kind => unreachable!("{kind:?} is never watched"),
            };
            if event.is_some() {
                return event;
            }
        }
    }

    fn woken(&mut self) -> Option<Event> {
        let mut value = [0; 8];
        // Nothing to read is no wake-up: another look already took it.
        rustix::io::read(self.waker.event(), &mut value).ok()?;
        self.counters.wakes += 1;
        Some(Event::Woken)
    }

    // --- Datagrams in.

    fn link_ready(&mut self, port: Port, flags: epoll::EventFlags) {
        let index = port.link();
        let link = &mut self.links[usize::from(index)];
        let is_done = flags.intersects(epoll::EventFlags::OUT | epoll::EventFlags::ERR);
        if is_done && link.blocked {
            link.set_blocked(&self.epoll, index, false);
        }
        let has_more = flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::ERR);
        let mut receiving = link.link.receiving(index);
        let part = receiving.find(|(receiving, _)| *receiving == port);
        let Some((_, part)) = part.filter(|_| has_more) else {
            return;
        };
        match self.receiver.receive(part) {
            Ok(len) => self.batch = Batch { port, next: 0, len },
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
                _ => self.counters.receive_failures += 1,
            },
        }
    }

    fn next_datagram(&mut self) -> Option<Event> {
        let Batch { port, next, .. } = self.batch;
        self.batch.next += 1;
        let message = self.receiver.message(next);
        let control = decode_control(message.control);
        let link = &mut self.links[usize::from(port.link())].link;
        self.counters.receive_queue_overflow += link.count_dropped(port, control.dropped);
        let framing = link.framing();
        let from = decode_name(message.name);
        let packet = framing.unwrap(message.payload);
        let (Some(from), Some(packet), false) = (from, packet, message.truncated) else {
            self.counters.truncated += 1;
            return None;
        };
        let segment = self.counters.count_received(packet.len(), control.segment);
        let id = u16::try_from(next).expect("at most MMSG_LEN_MAX");
        let within = |at: usize| u32::try_from(at).expect("limits are checked");
        let (start, len) = (within(packet.start), within(packet.len()));
        let buffer = self.lent.lend(Pool::Datagrams, id, start, len);
        Some(Event::Datagram {
            link: LinkId(port.link()),
            from: framing.sender(from),
            buffer,
            segment,
        })
    }

    // --- Datagrams out.

    pub(crate) fn send_slot(&mut self) -> Option<u16> {
        let slot = self.ledger.take();
        self.starved |= slot.is_none();
        slot
    }

    pub(crate) fn slot_mut(&mut self, slot: u16) -> &mut [u8] {
        self.ledger.expect_app(slot);
        self.sender.bytes_mut(slot)
    }

    pub(crate) fn release(&mut self, slot: u16) {
        self.ledger.release(slot);
    }

    pub(crate) fn free_slots(&self) -> usize {
        self.ledger.free_len()
    }

    pub(crate) fn send(
        &mut self,
        slot: u16,
        link: LinkId,
        to: Endpoint,
        len: usize,
        segment: Option<usize>,
    ) {
        assert!(link.index() < self.links.len(), "link of another Io");
        assert!(
            len <= self.config.send_slot_len_bytes,
            "datagram longer than its slot"
        );
        self.ledger.expect_app(slot);
        let mut sending = Sending::new(link.0, to, len, segment);
        let PollLink {
            link: socket,
            queue,
            ..
        } = &mut self.links[link.index()];
        sending.whole = socket.segments(&sending);
        self.sends[usize::from(slot)] = sending;
        let Outgoing { name, range } = match socket.wrap(self.sender.block_mut(slot), &sending) {
            Ok(outgoing) => outgoing,
            Err(error) => {
                self.ledger.release(slot);
                self.counters.send_failures += 1;
                self.notices
                    .push_back(Event::SendFailed { link, to, error });
                return;
            }
        };
        self.sender.set_destination(slot, name);
        let operations = if sending.whole {
            1
        } else {
            sending.datagrams()
        };
        self.ledger.lend(
            slot,
            u16::try_from(operations).expect("at most SEGMENTS_MAX"),
        );
        queue.extend(pieces(slot, &sending, range));
    }

    fn send_queued(&mut self, index: usize) {
        let PollLink {
            link,
            queue,
            blocked,
        } = &mut self.links[index];
        let mut is_full = *blocked;
        while !queue.is_empty() && !is_full {
            match self
                .sender
                .send(&*link, queue.iter().copied().take(MMSG_LEN_MAX))
            {
                Ok(sent) => {
                    for piece in queue.drain(..sent) {
                        let sending = &mut self.sends[usize::from(piece.slot)];
                        if piece.segment > 0 {
                            self.counters.datagrams_sent += sending.datagrams();
                            self.counters.segmented_sends += 1;
                        } else {
                            self.counters.datagrams_sent += 1;
                            link.sent_apart(sending);
                        }
                        self.counters.bytes_sent += sending.payload_len(piece.len as usize);
                        if self.ledger.complete(piece.slot) {
                            self.ledger.release(piece.slot);
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => is_full = true,
                Err(error) => {
                    let piece = queue.pop_front().expect("the queue is not empty");
                    let done = self.ledger.complete(piece.slot);
                    let sending = &mut self.sends[usize::from(piece.slot)];
                    if piece.segment > 0 && link.refuses_segments(&error, sending) {
                        sending.whole = false;
                        self.counters.refused_segments += 1;
                        let operations = sending.datagrams();
                        let operations = u16::try_from(operations).expect("at most SEGMENTS_MAX");
                        self.ledger.lend(piece.slot, operations);
                        let range = HEADROOM..HEADROOM + sending.len;
                        for piece in pieces(piece.slot, sending, range).rev() {
                            queue.push_front(piece);
                        }
                        continue;
                    }
                    if done {
                        self.ledger.release(piece.slot);
                    }
                    self.counters.send_failures += 1;
                    let (link, to) = (LinkId(sending.link), sending.to);
                    self.notices
                        .push_back(Event::SendFailed { link, to, error });
                }
            }
        }
        let at = u16::try_from(index).expect("at most links_max");
        self.notices.extend(link.take_refusal(at));
        if is_full && !*blocked {
            self.links[index].set_blocked(&self.epoll, at, true);
        }
    }

    // --- What an event lends.

    pub(crate) fn bytes(&self, buffer: Buffer) -> &[u8] {
        self.lent.check(buffer);
        lent_bytes(&self.receiver, &self.stream, buffer)
    }

    pub(crate) fn exchange(
        &mut self,
        conn: ConnId,
        buffer: Buffer,
    ) -> Option<(&[u8], &mut Vec<u8>)> {
        self.lent.check(buffer);
        let output = self.conns.get_mut(conn)?.output()?;
        Some((lent_bytes(&self.receiver, &self.stream, buffer), output))
    }

    pub(crate) fn bytes_and_slot(&mut self, buffer: Buffer, slot: u16) -> (&[u8], &mut [u8]) {
        self.lent.check(buffer);
        self.ledger.expect_app(slot);
        let bytes = lent_bytes(&self.receiver, &self.stream, buffer);
        (bytes, self.sender.bytes_mut(slot))
    }

    pub(crate) fn connections(&self) -> usize {
        self.conns.len()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
}

fn lent_bytes<'a>(receiver: &'a Receiver, stream: &'a [u8], buffer: Buffer) -> &'a [u8] {
    match buffer.pool {
        Pool::Datagrams => receiver.bytes(buffer.id.into(), buffer.offset as usize, buffer.len()),
        Pool::Streams => &stream[..buffer.len()],
    }
}

/// The operations one send takes: one for the kernel to cut, else one per datagram.
fn pieces(
    slot: u16,
    sending: &Sending,
    range: Range<usize>,
) -> impl DoubleEndedIterator<Item = Piece> + use<> {
    let segment = if sending.whole { sending.segment } else { 0 };
    let count = if sending.whole {
        1
    } else {
        sending.datagrams()
    };
    let step = if count == 1 {
        range.len()
    } else {
        usize::from(sending.segment)
    };
    let count = usize::try_from(count).expect("at most SEGMENTS_MAX");
    (0..count).map(move |index| {
        let offset = range.start + index * step;
        let len = step.min(range.end - offset);
        Piece {
            slot,
            offset: u32::try_from(offset).expect("limits are checked"),
            len: u32::try_from(len).expect("limits are checked"),
            segment,
        }
    })
}

fn port_token(port: Port) -> epoll::EventData {
    epoll::EventData::new_u64(Token::datagrams(port, 0).0)
}

/// Watches every socket that a link receives on.
fn watch_receiving(epoll: &OwnedFd, link: &Link, index: u16) -> Result<(), IoError> {
    for (port, part) in link.receiving(index) {
        epoll::add(epoll, part, port_token(port), epoll::EventFlags::IN)
            .map_err(IoError::call("watch a socket"))?;
    }
    Ok(())
}

fn watch_gate(epoll: &OwnedFd, gate: &Gate, index: u16, on: bool) {
    let token = epoll::EventData::new_u64(Token::new(Kind::Accept, 0, index.into()).0);
    let flags = if on {
        epoll::EventFlags::IN
    } else {
        epoll::EventFlags::empty()
    };
    // A registered descriptor that is open cannot be refused.
    let _ = epoll::modify(epoll, gate.listener.as_fd(), token, flags);
}
