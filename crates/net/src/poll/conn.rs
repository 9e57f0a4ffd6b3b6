//! Connections under epoll.

use std::io;
use std::mem;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, sockopt};

use super::{ACCEPTS_MAX, Poll, watch_gate};
use crate::connection::{Phase, emptied, greet, shut_down};
use crate::event::Pool;
use crate::token::{Kind, Token};
use crate::{ConnId, Event, ListenerId};

#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not states"
)]
pub(super) struct Conn {
    socket: OwnedFd,
    phase: Phase,
    /// The application wants input.
    reading: bool,
    ended: bool,
    /// The socket's queue is full: wait until it is writable.
    blocked: bool,
    /// In `dirty`: to be written to by the next turn.
    dirty: bool,
    watched: EventFlags,
    /// What is flushed, and how much of it is written.
    sending: Vec<u8>,
    sent: usize,
    filling: Vec<u8>,
}

impl Conn {
    /// The buffer the application appends to, unless the connection is closing.
    pub(super) fn output(&mut self) -> Option<&mut Vec<u8>> {
        (self.phase == Phase::Open).then_some(&mut self.filling)
    }

    fn wanted(&self) -> EventFlags {
        let mut wanted = EventFlags::empty();
        if self.phase == Phase::Open && self.reading && !self.ended {
            wanted |= EventFlags::IN;
        }
        if self.blocked {
            wanted |= EventFlags::OUT;
        }
        wanted
    }

    /// Writes until all is written or the socket's queue is full; gives the octets written.
    fn write(&mut self) -> Result<usize, Errno> {
        let before = self.sent;
        while self.sent < self.sending.len() && !self.blocked {
            match rustix::net::send(
                &self.socket,
                &self.sending[self.sent..],
                SendFlags::NOSIGNAL,
            ) {
                Ok(len) => self.sent += len,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.blocked = true,
                Err(error) => return Err(error),
            }
        }
        Ok(self.sent - before)
    }
}

impl Poll {
    pub(super) fn accept(&mut self, index: u16) {
        for _ in 0..ACCEPTS_MAX {
            let gate = &mut self.gates[usize::from(index)];
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::accept_with(&gate.listener, flags) {
                Ok(socket) => self.accepted(index, socket),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => {
                    // Out of descriptors or memory: level-triggered, it would spin.
                    self.counters.accept_failures += 1;
                    gate.pause();
                    return watch_gate(&self.epoll, gate, index, false);
                }
            }
        }
    }

    fn accepted(&mut self, listener: u16, socket: OwnedFd) {
        if self.conns.is_full() {
            self.counters.connections_refused += 1;
            return;
        }
        let peer = greet(&socket);
        let conn = Conn {
            socket,
            phase: Phase::Open,
            reading: true,
            ended: false,
            blocked: false,
            dirty: false,
            watched: EventFlags::IN,
            sending: Vec::new(),
            sent: 0,
            filling: Vec::new(),
        };
        let Some(id) = self.conns.insert(conn) else {
            return;
        };
        let token = epoll::EventData::new_u64(Token::new(Kind::Stream, id.generation, id.index).0);
        let conn = self.conns.get(id).expect("just inserted");
        if epoll::add(&self.epoll, &conn.socket, token, EventFlags::IN).is_err() {
            // The kernel's limit of watched descriptors: as good as no descriptor.
            self.counters.accept_failures += 1;
            self.conns.remove(id);
            return;
        }
        self.counters.connections_accepted += 1;
        self.notices.push_back(Event::Accepted {
            listener: ListenerId(listener),
            conn: id,
            peer,
        });
    }

    pub(super) fn conn_ready(&mut self, id: ConnId, flags: EventFlags) -> Option<Event> {
        // Gone since epoll reported it.
        let conn = self.conns.get_mut(id)?;
        if flags.contains(EventFlags::OUT) && conn.blocked {
            conn.blocked = false;
            self.mark_dirty(id);
        }
        let conn = self.conns.get_mut(id)?;
        let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        if conn.wanted().contains(EventFlags::IN) {
            return if broken || flags.contains(EventFlags::IN) {
                self.read(id)
            } else {
                None
            };
        }
        if broken {
            // Not reading, so only the socket's state tells why.
            let error = sockopt::socket_error(&conn.socket)
                .ok()
                .and_then(Result::err);
            let error = error.unwrap_or(Errno::PIPE);
            self.end(id, Some(error.into()));
        }
        None
    }

    fn read(&mut self, id: ConnId) -> Option<Event> {
        let conn = self.conns.get_mut(id)?;
        match rustix::net::recv(&conn.socket, &mut self.stream[..], RecvFlags::empty()) {
            Ok((0, _)) => {
                conn.ended = true;
                self.watch(id);
                Some(Event::Ended { conn: id })
            }
            Ok((len, _)) => {
                self.counters.stream_bytes_received += len as u64;
                let len = u32::try_from(len).expect("limits are checked");
                let buffer = self.lent.lend(Pool::Streams, 0, 0, len);
                Some(Event::Received { conn: id, buffer })
            }
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(error) => {
                self.end(id, Some(error.into()));
                None
            }
        }
    }

    /// Tells epoll what we wait for now.
    fn watch(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let wanted = conn.wanted();
        if wanted == conn.watched {
            return;
        }
        conn.watched = wanted;
        let token = epoll::EventData::new_u64(Token::new(Kind::Stream, id.generation, id.index).0);
        // A registered descriptor that is open cannot be refused.
        let _ = epoll::modify(&self.epoll, &conn.socket, token, wanted);
    }

    fn mark_dirty(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(id);
        }
    }

    pub(super) fn write_dirty(&mut self) {
        let mut dirty = mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            self.write(id);
        }
        self.dirty = dirty;
    }

    fn write(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.dirty = false;
        loop {
            if conn.sent == conn.sending.len() {
                let spare = mem::take(&mut conn.sending);
                let spare = emptied(spare, self.config.stream_keep_bytes);
                conn.sending = mem::replace(&mut conn.filling, spare);
                conn.sent = 0;
                if conn.sending.is_empty() {
                    break;
                }
            }
            match conn.write() {
                Ok(len) => self.counters.stream_bytes_sent += len as u64,
                Err(error) => return self.end(id, Some(error.into())),
            }
            if conn.blocked {
                return self.watch(id);
            }
        }
        if conn.phase == Phase::Closing {
            return self.end(id, None);
        }
        self.watch(id);
        self.notices.push_back(Event::Drained { conn: id });
    }

    fn end(&mut self, id: ConnId, error: Option<io::Error>) {
        let Some(conn) = self.conns.remove(id) else {
            return;
        };
        shut_down(&conn.socket);
        self.notices.push_back(Event::Closed { conn: id, error });
    }

    // --- What the application asks for.

    pub(crate) fn stream_buffer(&mut self, id: ConnId) -> Option<&mut Vec<u8>> {
        self.conns.get_mut(id)?.output()
    }

    pub(crate) fn flush(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        if conn.phase == Phase::Open && !conn.filling.is_empty() && !conn.blocked {
            self.mark_dirty(id);
        }
    }

    pub(crate) fn pending_output(&self, id: ConnId) -> usize {
        let Some(conn) = self.conns.get(id) else {
            return 0;
        };
        conn.filling.len() + conn.sending.len() - conn.sent
    }

    pub(crate) fn set_reading(&mut self, id: ConnId, on: bool) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.reading = on;
        self.watch(id);
    }

    pub(crate) fn close(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if conn.phase == Phase::Open {
            conn.phase = Phase::Closing;
            if conn.blocked {
                return self.watch(id);
            }
            self.mark_dirty(id);
        }
    }

    pub(crate) fn abort(&mut self, id: ConnId) {
        self.end(id, None);
    }
}
