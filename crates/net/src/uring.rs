//! The `io_uring` backend: what completions mean for links, listeners and connections.

mod conn;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use self::conn::Conn;
use crate::connection::{Gate, resumed_gate, wait_for_gates};
use crate::event::Pool;
use crate::lent::Lent;
use crate::link::{Link, Port, Sending};
use crate::raw::{Completion, Datagram, Ring};
use crate::select::unavailable;
use crate::slab::Slab;
use crate::{
    Buffer, ConnId, Counters, Endpoint, Event, IoConfig, IoError, LinkId, LinkSocket, Listener,
    ListenerId, TurnStats, Waker,
};

pub(crate) struct Uring {
    /// First, so that it is dropped first: queued operations name descriptors of `conns`.
    ring: Ring,
    config: IoConfig,
    links: Vec<Link>,
    gates: Vec<Gate>,
    sends: Box<[Sending]>,
    conns: Slab<Conn>,
    notices: VecDeque<Event>,
    lent: Lent,
    counters: Counters,
    failure: Option<IoError>,
}

impl Uring {
    pub(crate) fn new(config: &IoConfig) -> Result<Self, IoError> {
        Ok(Self {
            ring: Ring::new(config).map_err(unavailable)?,
            config: config.clone(),
            links: Vec::new(),
            gates: Vec::new(),
            sends: vec![Sending::UNUSED; usize::from(config.send_slots)].into(),
            conns: Slab::new(config.connections_max),
            notices: VecDeque::new(),
            lent: Lent::default(),
            counters: Counters::default(),
            failure: None,
        })
    }

    pub(crate) fn add_link(
        &mut self,
        socket: LinkSocket,
        receive: bool,
    ) -> Result<LinkId, IoError> {
        let max = self.config.links_max;
        let index = next_index(self.links.len(), max).ok_or(IoError::Full {
            field: "links_max",
            max: max.into(),
        })?;
        // Blocking: the ring waits by itself; on a non-blocking socket it would give up instead.
        let link = Link::new(socket, receive, true, self.config.gro)?;
        self.start_link(index, &link)?;
        self.links.push(link);
        self.tell_refusal(index);
        Ok(LinkId(index))
    }

    pub(crate) fn relink(&mut self, link: LinkId, socket: LinkSocket) -> Result<(), IoError> {
        let old = &self.links[link.index()];
        let new = old.replaced(socket, true, self.config.gro)?;
        // What is queued was meant for the socket that is in the place now.
        self.ring.submit();
        self.start_link(link.0, &new)?;
        let old = std::mem::replace(&mut self.links[link.index()], new);
        for (port, _) in old.receiving(link.0) {
            self.ring.cancel_datagrams(port, old.generation);
        }
        self.tell_refusal(link.0);
        Ok(())
    }

    fn tell_refusal(&mut self, link: u16) {
        let refusal = self.links[usize::from(link)].take_refusal(link);
        self.notices.extend(refusal);
    }

    /// Shows a link's sockets to the ring and receives on them.
    fn start_link(&mut self, index: u16, link: &Link) -> Result<(), IoError> {
        let main = Port::main(index);
        let files = [main, Port::group(index)].map(|port| link.part(port));
        self.ring
            .register_files(main.0.into(), files)
            .map_err(IoError::call("register a socket with io_uring"))?;
        for (port, _) in link.receiving(index) {
            self.ring.arm_datagrams(port, link.generation);
        }
        Ok(())
    }

    pub(crate) fn add_listener(&mut self, listener: Listener) -> Result<ListenerId, IoError> {
        let max = self.config.listeners_max;
        let index = next_index(self.gates.len(), max).ok_or(IoError::Full {
            field: "listeners_max",
            max: max.into(),
        })?;
        listener
            .set_nonblocking(false)
            .map_err(IoError::call("set a listener's blocking mode"))?;
        self.ring
            .register_files(self.gate_file(index), [Some(listener.as_fd())])
            .map_err(IoError::call("register a listener with io_uring"))?;
        self.gates.push(Gate::new(listener));
        self.ring.arm_accept(index, self.gate_file(index));
        Ok(ListenerId(index))
    }

    /// Listeners follow the links in the table of fixed files.
    fn gate_file(&self, index: u16) -> u32 {
        u32::from(self.config.links_max) * u32::from(Port::PER_LINK) + u32::from(index)
    }

    pub(crate) fn waker(&self) -> &Waker {
        self.ring.waker()
    }

    pub(crate) fn wake(&mut self, target: &Waker) {
        if target.is_same(self.ring.waker()) {
            target.wake();
        } else {
            self.ring.wake(target);
        }
    }

    pub(crate) fn turn(&mut self, wait: Option<Duration>) -> Result<TurnStats, IoError> {
        self.end_loan();
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        while let Some(index) = resumed_gate(&mut self.gates) {
            self.counters.rearmed += 1;
            self.ring.arm_accept(index, self.gate_file(index));
        }
        let wait = if self.notices.is_empty() {
            wait
        } else {
            Some(Duration::ZERO)
        };
        let wait = wait_for_gates(&self.gates, wait);
        let completions = self
            .ring
            .enter(wait)
            .map_err(IoError::call("enter io_uring"))?;
        self.counters.enters = self.ring.enters;
        self.counters.completions = self.ring.completions;
        self.counters.completion_overflow = self.ring.overflows;
        Ok(TurnStats { completions })
    }

    pub(crate) fn look(&mut self) -> bool {
        !self.notices.is_empty() || self.failure.is_some() || self.ring.look()
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        self.end_loan();
        loop {
            if let Some(event) = self.notices.pop_front() {
                return Some(event);
            }
            let completion = self.ring.next()?;
            if let Some(event) = self.complete(completion) {
                return Some(event);
            }
        }
    }

    fn end_loan(&mut self) {
        match self.lent.end() {
            Some((Pool::Datagrams, id)) => self.ring.recycle_datagram(id),
            Some((Pool::Streams, id)) => self.ring.recycle_stream(id),
            None => {}
        }
    }

    fn complete(&mut self, completion: Completion) -> Option<Event> {
        match completion {
            Completion::Datagram {
                port,
                generation,
                outcome,
                more,
            } => {
                let is_current = generation == self.links[usize::from(port.link())].generation;
                if !more && is_current {
                    self.counters.rearmed += 1;
                    self.ring.arm_datagrams(port, generation);
                }
                match outcome {
                    Ok(datagram) if is_current => self.received(port, datagram),
                    Ok(datagram) => {
                        self.ring.recycle_datagram(datagram.buffer);
                        None
                    }
                    Err(error) if is_current => self.receive_failed(&error),
                    // The end of a receive on a socket that was replaced.
                    Err(_) => None,
                }
            }
            Completion::Sent {
                slot,
                outcome,
                done,
            } => self.sent(slot, outcome, done),
            Completion::Accepted {
                listener,
                outcome,
                more,
            } => {
                match &outcome {
                    // Out of descriptors or memory: asking again at once would spin.
                    Err(_) if !more => self.gates[usize::from(listener)].pause(),
                    Ok(_) if !more => {
                        self.counters.rearmed += 1;
                        self.ring.arm_accept(listener, self.gate_file(listener));
                    }
                    _ => {}
                }
                self.accepted(listener, outcome)
            }
            Completion::Received {
                conn,
                outcome,
                more,
            } => self.stream_received(conn, outcome, more),
            Completion::Written { conn, outcome } => self.written(conn, outcome),
            Completion::Woken => {
                self.counters.wakes += 1;
                Some(Event::Woken)
            }
            Completion::Done => None,
        }
    }

    fn received(&mut self, port: Port, datagram: Datagram) -> Option<Event> {
        let Datagram {
            buffer,
            offset,
            len,
            from,
            control,
            truncated,
        } = datagram;
        let link = &mut self.links[usize::from(port.link())];
        self.counters.receive_queue_overflow += link.count_dropped(port, control.dropped);
        let framing = link.framing();
        let packet = framing.unwrap(self.ring.datagram(buffer, offset, len));
        let (Some(from), Some(packet), false) = (from, packet, truncated) else {
            self.counters.truncated += 1;
            self.ring.recycle_datagram(buffer);
            return None;
        };
        let segment = self.counters.count_received(packet.len(), control.segment);
        let within = |at: usize| u32::try_from(at).expect("limits are checked");
        let (start, len) = (offset + within(packet.start), within(packet.len()));
        let buffer = self.lent.lend(Pool::Datagrams, buffer, start, len);
        Some(Event::Datagram {
            link: LinkId(port.link()),
            from: framing.sender(from),
            buffer,
            segment,
        })
    }

    fn receive_failed(&mut self, error: &io::Error) -> Option<Event> {
        match error.raw_os_error() {
            Some(libc::ENOBUFS) => self.counters.receive_buffers_exhausted += 1,
            // The receive was refused as such: armed again it would only be refused again.
            Some(libc::EBADF | libc::EINVAL | libc::EFAULT | libc::ENOTSOCK | libc::EOPNOTSUPP) => {
                let code = error.raw_os_error().unwrap_or_default();
                let source = io::Error::from_raw_os_error(code);
                self.failure = Some(IoError::Call {
                    action: "receive datagrams",
                    source,
                });
            }
            // An earlier datagram's ICMP answer, a passing shortage, or the interface went down:
            // each is told once, and the socket waits for what comes next.
            _ => self.counters.receive_failures += 1,
        }
        None
    }

    fn sent(&mut self, slot: u16, outcome: io::Result<usize>, done: bool) -> Option<Event> {
        let sending = &mut self.sends[usize::from(slot)];
        let link = &mut self.links[usize::from(sending.link)];
        match outcome {
            Ok(len) => {
                if sending.whole {
                    self.counters.datagrams_sent += sending.datagrams();
                    self.counters.segmented_sends += 1;
                } else {
                    self.counters.datagrams_sent += 1;
                    link.sent_apart(sending);
                }
                self.counters.bytes_sent += sending.payload_len(len);
                if done {
                    self.ring.release_slot(slot);
                }
                link.take_refusal(sending.link)
            }
            Err(error) => {
                if sending.whole && link.refuses_segments(&error, sending) {
                    let sending = *sending;
                    self.counters.refused_segments += 1;
                    self.tell_refusal(sending.link);
                    self.start_send(slot, sending);
                    return None;
                }
                let sending = *sending;
                if done {
                    self.ring.release_slot(slot);
                }
                self.counters.send_failures += 1;
                Some(Event::SendFailed {
                    link: LinkId(sending.link),
                    to: sending.to,
                    error,
                })
            }
        }
    }

    // --- Datagrams out.

    pub(crate) fn send_slot(&mut self) -> Option<u16> {
        self.ring.take_slot()
    }

    pub(crate) fn slot_mut(&mut self, slot: u16) -> &mut [u8] {
        self.ring.slot_mut(slot)
    }

    pub(crate) fn release(&mut self, slot: u16) {
        self.ring.release_slot(slot);
    }

    pub(crate) fn free_slots(&self) -> usize {
        self.ring.free_slots()
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
        self.start_send(slot, Sending::new(link.0, to, len, segment));
    }

    fn start_send(&mut self, slot: u16, mut sending: Sending) {
        let Sending { to, segment, .. } = sending;
        let link = &self.links[usize::from(sending.link)];
        sending.whole = sending.doubt.is_none() && link.segments(&sending);
        let outgoing = link.wrap(self.ring.block_mut(slot), &sending);
        self.sends[usize::from(slot)] = sending;
        let port = Port::main(sending.link);
        match outgoing {
            Ok(outgoing) if sending.whole || segment == 0 => {
                self.ring.send(slot, port, &outgoing, segment);
            }
            Ok(outgoing) => self.ring.send_apart(slot, port, &outgoing, segment),
            Err(error) => {
                self.ring.release_slot(slot);
                self.counters.send_failures += 1;
                let link = LinkId(sending.link);
                self.notices
                    .push_back(Event::SendFailed { link, to, error });
            }
        }
    }

    // --- What an event lends.

    pub(crate) fn bytes(&self, buffer: Buffer) -> &[u8] {
        self.lent.check(buffer);
        lent_bytes(&self.ring, buffer)
    }

    pub(crate) fn exchange(
        &mut self,
        conn: ConnId,
        buffer: Buffer,
    ) -> Option<(&[u8], &mut Vec<u8>)> {
        self.lent.check(buffer);
        let conn = self.conns.get_mut(conn)?;
        Some((lent_bytes(&self.ring, buffer), conn.output()?))
    }

    pub(crate) fn bytes_and_slot(&mut self, buffer: Buffer, slot: u16) -> (&[u8], &mut [u8]) {
        self.lent.check(buffer);
        let Buffer {
            id, offset, len, ..
        } = buffer;
        match buffer.pool {
            Pool::Datagrams => self.ring.datagram_and_slot((id, offset, len), slot),
            Pool::Streams => self.ring.stream_and_slot(id, len, slot),
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.conns.len()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
}

fn lent_bytes(ring: &Ring, buffer: Buffer) -> &[u8] {
    match buffer.pool {
        Pool::Datagrams => ring.datagram(buffer.id, buffer.offset, buffer.len),
        Pool::Streams => ring.stream(buffer.id, buffer.len),
    }
}

/// The index of one more socket, unless the table is full.
fn next_index(len: usize, max: u16) -> Option<u16> {
    u16::try_from(len).ok().filter(|&index| index < max)
}
