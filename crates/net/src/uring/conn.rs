//! Connections on a ring.
//!
//! A connection has at most one multishot receive and one write under way. It leaves the table
//! only when neither is, so that no completion can come for a place used anew.

use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};

use super::Uring;
use crate::connection::{Phase, emptied, greet, shut_down};
use crate::event::Pool;
use crate::{ConnId, Event, ListenerId};

/// State of the multishot receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receive {
    Idle,
    Armed,
    /// Its end is asked for.
    Cancelling,
}

#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not states"
)]
pub(super) struct Conn {
    socket: OwnedFd,
    phase: Phase,
    receive: Receive,
    /// The application wants input and the peer has not ended its stream.
    reading: bool,
    ended: bool,
    /// The kernel owns the other buffer.
    writing: bool,
    /// Write `filling` as soon as the write under way is over.
    flush: bool,
    filling: Vec<u8>,
    spare: Vec<u8>,
    error: Option<io::Error>,
}

impl Conn {
    /// The buffer the application appends to, unless the connection is closing.
    pub(super) fn output(&mut self) -> Option<&mut Vec<u8>> {
        (self.phase == Phase::Open).then_some(&mut self.filling)
    }
}

impl Uring {
    pub(super) fn accepted(
        &mut self,
        listener: u16,
        outcome: io::Result<OwnedFd>,
    ) -> Option<Event> {
        let Ok(socket) = outcome else {
            self.counters.accept_failures += 1;
            return None;
        };
        if self.conns.is_full() {
            self.counters.connections_refused += 1;
            return None;
        }
        self.counters.connections_accepted += 1;
        let peer = greet(&socket);
        let conn = self.conns.insert(Conn {
            socket,
            phase: Phase::Open,
            receive: Receive::Idle,
            reading: true,
            ended: false,
            writing: false,
            flush: false,
            filling: Vec::new(),
            spare: Vec::new(),
            error: None,
        })?;
        self.advance(conn);
        Some(Event::Accepted {
            listener: ListenerId(listener),
            conn,
            peer,
        })
    }

    pub(super) fn stream_received(
        &mut self,
        id: ConnId,
        outcome: io::Result<Option<(u16, u32)>>,
        more: bool,
    ) -> Option<Event> {
        let conn = self
            .conns
            .get_mut(id)
            .expect("a connection outlives its operations");
        let open = conn.phase == Phase::Open;
        if !more {
            conn.receive = Receive::Idle;
        }
        let mut event = None;
        match outcome {
            Ok(Some((buffer, len))) => {
                self.counters.stream_bytes_received += u64::from(len);
                if open {
                    let buffer = self.lent.lend(Pool::Streams, buffer, 0, len);
                    event = Some(Event::Received { conn: id, buffer });
                } else {
                    self.ring.recycle_stream(buffer);
                }
            }
            Ok(None) => {
                if open && !mem::replace(&mut conn.ended, true) {
                    event = Some(Event::Ended { conn: id });
                }
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOBUFS) => self.counters.stream_buffers_exhausted += 1,
                Some(libc::ECANCELED | libc::EINTR | libc::EAGAIN) => {}
                _ => self.end(id, Some(error)),
            },
        }
        if !more && self.advance(id) {
            self.counters.rearmed += 1;
        }
        event
    }

    pub(super) fn written(&mut self, id: ConnId, outcome: io::Result<usize>) -> Option<Event> {
        let conn = self
            .conns
            .get_mut(id)
            .expect("a connection outlives its operations");
        let ending = conn.phase == Phase::Ending;
        let error = match outcome {
            Ok(len) => {
                self.counters.stream_bytes_sent += len as u64;
                let left = self.ring.write_left(id);
                if left > 0 && len > 0 && !ending {
                    self.ring.write_rest(id, conn.socket.as_fd());
                    return None;
                }
                (left > 0).then(|| io::ErrorKind::WriteZero.into())
            }
            Err(error) => Some(error),
        };
        conn.writing = false;
        conn.spare = emptied(self.ring.take_output(id), self.config.stream_keep_bytes);
        let drained = error.is_none() && conn.phase == Phase::Open && !conn.flush;
        if error.is_some() && !ending {
            self.end(id, error);
        }
        self.advance(id);
        drained.then_some(Event::Drained { conn: id })
    }

    /// Starts whatever the state asks for; `true` when a receive was started.
    fn advance(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id) else {
            return false;
        };
        if conn.phase != Phase::Ending && conn.flush && !conn.writing {
            conn.flush = false;
            let bytes = mem::replace(&mut conn.filling, mem::take(&mut conn.spare));
            if !bytes.is_empty() {
                conn.writing = true;
                self.ring.write(id, conn.socket.as_fd(), bytes);
            }
        }
        match conn.phase {
            Phase::Open => {
                let arm = conn.reading && !conn.ended && conn.receive == Receive::Idle;
                if arm {
                    conn.receive = Receive::Armed;
                    self.ring.arm_stream(id, conn.socket.as_fd());
                }
                arm
            }
            Phase::Closing if !conn.writing => {
                self.end(id, None);
                self.remove_if_idle(id);
                false
            }
            Phase::Closing => false,
            Phase::Ending => {
                self.remove_if_idle(id);
                false
            }
        }
    }

    /// Shuts a connection down; it is removed once nothing is under way.
    fn end(&mut self, id: ConnId, error: Option<io::Error>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if conn.phase == Phase::Ending {
            return;
        }
        conn.phase = Phase::Ending;
        conn.error = error;
        conn.filling = Vec::new();
        shut_down(&conn.socket);
        if conn.writing {
            self.ring.cancel_write(id);
        }
        if conn.receive == Receive::Armed {
            conn.receive = Receive::Cancelling;
            self.ring.cancel_stream(id);
        }
    }

    fn remove_if_idle(&mut self, id: ConnId) {
        let idle = |conn: &Conn| !conn.writing && conn.receive == Receive::Idle;
        if self.conns.get(id).is_some_and(idle) {
            let error = self.conns.remove(id).and_then(|conn| conn.error);
            self.notices.push_back(Event::Closed { conn: id, error });
        }
    }

    // --- What the application asks for.

    pub(crate) fn stream_buffer(&mut self, id: ConnId) -> Option<&mut Vec<u8>> {
        self.conns.get_mut(id)?.output()
    }

    pub(crate) fn flush(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if conn.phase == Phase::Open && !conn.filling.is_empty() {
            conn.flush = true;
            self.advance(id);
        }
    }

    pub(crate) fn pending_output(&self, id: ConnId) -> usize {
        let Some(conn) = self.conns.get(id) else {
            return 0;
        };
        let writing = if conn.writing {
            self.ring.write_left(id)
        } else {
            0
        };
        conn.filling.len() + writing
    }

    pub(crate) fn set_reading(&mut self, id: ConnId, on: bool) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.reading = on;
        if !on && conn.phase == Phase::Open && conn.receive == Receive::Armed {
            conn.receive = Receive::Cancelling;
            self.ring.cancel_stream(id);
        }
        self.advance(id);
    }

    pub(crate) fn close(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if conn.phase == Phase::Open {
            conn.phase = Phase::Closing;
            conn.flush = true;
            self.advance(id);
        }
    }

    pub(crate) fn abort(&mut self, id: ConnId) {
        self.end(id, None);
        self.remove_if_idle(id);
    }
}
