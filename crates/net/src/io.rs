//! One worker's I/O over either backend.

use std::marker::PhantomData;
use std::time::Duration;

use crate::poll::Poll;
use crate::uring::Uring;
use crate::{
    Backend, Buffer, ConnId, Counters, Endpoint, Event, IoConfig, IoError, LinkId, LinkSocket,
    Listener, ListenerId, SendSlot, TurnStats, Waker,
};

enum Inner {
    Uring(Box<Uring>),
    Poll(Box<Poll>),
}

/// Runs `$body` with `$io` bound to whichever backend is there.
macro_rules! each {
    ($inner:expr, $io:ident => $body:expr) => {
        match $inner {
            Inner::Uring($io) => $body,
            Inner::Poll($io) => $body,
        }
    };
}

/// One worker's sockets. Make it on the thread that uses it; it cannot be moved to another.
///
/// ```text
/// io.turn(wait)?;
/// while let Some(event) = io.next_event() { ... }     // to the end, then the next turn
/// ```
///
/// Calls on a connection that is gone do nothing.
pub struct Io {
    inner: Inner,
    /// A ring has one submitter, and its end must be waited for on that thread: not `Send`.
    thread: PhantomData<*const ()>,
}

impl Io {
    /// Makes the rings or the epoll instance and all buffers.
    pub fn new(backend: Backend, config: &IoConfig) -> Result<Self, IoError> {
        config.check()?;
        let inner = match backend {
            Backend::IoUring => Inner::Uring(Box::new(Uring::new(config)?)),
            Backend::Poll => Inner::Poll(Box::new(Poll::new(config)?)),
        };
        Ok(Self {
            inner,
            thread: PhantomData,
        })
    }

    /// Which backend this is.
    pub fn backend(&self) -> Backend {
        match self.inner {
            Inner::Uring(_) => Backend::IoUring,
            Inner::Poll(_) => Backend::Poll,
        }
    }

    /// Adds a link. With `receive` it receives from now on, else it only sends: of the handles
    /// of one socket only one may receive.
    pub fn add_link(
        &mut self,
        socket: impl Into<LinkSocket>,
        receive: bool,
    ) -> Result<LinkId, IoError> {
        each!(&mut self.inner, io => io.add_link(socket.into(), receive))
    }

    /// Puts another socket in place of a link's, which is closed: the interface has come back, or
    /// has gone. What the old one received and did not hand out is dropped. On an error the link is
    /// as it was.
    pub fn relink(&mut self, link: LinkId, socket: impl Into<LinkSocket>) -> Result<(), IoError> {
        each!(&mut self.inner, io => io.relink(link, socket.into()))
    }

    /// Adds a listener and starts to accept.
    pub fn add_listener(&mut self, listener: impl Into<Listener>) -> Result<ListenerId, IoError> {
        each!(&mut self.inner, io => io.add_listener(listener.into()))
    }

    /// Handle to wake this worker with.
    pub fn waker(&self) -> Waker {
        each!(&self.inner, io => io.waker().clone())
    }

    /// Wakes another worker: by ring message with the next turn when both have rings, else by its
    /// eventfd at once.
    pub fn wake(&mut self, target: &Waker) {
        each!(&mut self.inner, io => io.wake(target));
    }

    /// Submits what was queued, then waits until something happens or `wait` has passed (`None`:
    /// for ever; zero: only look). Does not wait while events of the last turn are left.
    pub fn turn(&mut self, wait: Option<Duration>) -> Result<TurnStats, IoError> {
        each!(&mut self.inner, io => io.turn(wait))
    }

    /// Whether the next turn would find something: for a loop that looks again and again before it
    /// sleeps. No system call is made where the backend allows it, so nothing is submitted either.
    pub fn look(&mut self) -> bool {
        each!(&mut self.inner, io => io.look())
    }

    /// The next thing that happened; `None` when the turn is over. Ends the loan of the previous
    /// event's buffer.
    pub fn next_event(&mut self) -> Option<Event> {
        each!(&mut self.inner, io => io.next_event())
    }

    /// The octets an event lends. Panics when the loan is over.
    pub fn bytes(&self, buffer: Buffer) -> &[u8] {
        each!(&self.inner, io => io.bytes(buffer))
    }

    /// The octets an event lends together with the output buffer of a connection.
    pub fn exchange(&mut self, conn: ConnId, buffer: Buffer) -> Option<(&[u8], &mut Vec<u8>)> {
        each!(&mut self.inner, io => io.exchange(conn, buffer))
    }

    /// The octets an event lends together with a send slot.
    pub fn bytes_and_slot(&mut self, buffer: Buffer, slot: &SendSlot) -> (&[u8], &mut [u8]) {
        each!(&mut self.inner, io => io.bytes_and_slot(buffer, slot.0))
    }

    /// Takes a send slot; `None` while all are under way: then the next turn ends its wait as soon
    /// as one is free.
    pub fn send_slot(&mut self) -> Option<SendSlot> {
        each!(&mut self.inner, io => io.send_slot()).map(SendSlot)
    }

    /// The octets of a slot, what an earlier use left in it.
    pub fn slot_mut(&mut self, slot: &SendSlot) -> &mut [u8] {
        each!(&mut self.inner, io => io.slot_mut(slot.0))
    }

    /// Queues the first `len` octets of a slot; the next turn sends them. With `segment` they are
    /// datagrams of that length, the last may be shorter, at most
    /// [`SEGMENTS_MAX`](crate::SEGMENTS_MAX); not on an ethernet link. Panics when `len` exceeds the
    /// slot. What cannot be sent comes back as [`Event::SendFailed`].
    #[allow(clippy::needless_pass_by_value, reason = "the slot is used up")]
    pub fn send(
        &mut self,
        slot: SendSlot,
        link: LinkId,
        to: impl Into<Endpoint>,
        len: usize,
        segment: Option<usize>,
    ) {
        let (SendSlot(slot), to) = (slot, to.into());
        each!(&mut self.inner, io => io.send(slot, link, to, len, segment));
    }

    /// Gives an unused slot back.
    #[allow(clippy::needless_pass_by_value, reason = "the slot is used up")]
    pub fn release(&mut self, slot: SendSlot) {
        let SendSlot(slot) = slot;
        each!(&mut self.inner, io => io.release(slot));
    }

    /// Slots that can be taken now.
    pub fn free_slots(&self) -> usize {
        each!(&self.inner, io => io.free_slots())
    }

    /// Output buffer of a connection: append, then [`flush`](Self::flush).
    pub fn stream_buffer(&mut self, conn: ConnId) -> Option<&mut Vec<u8>> {
        each!(&mut self.inner, io => io.stream_buffer(conn))
    }

    /// Queues what has been appended; [`Event::Drained`] follows once all of it is written.
    pub fn flush(&mut self, conn: ConnId) {
        each!(&mut self.inner, io => io.flush(conn));
    }

    /// Octets appended and not yet written.
    pub fn pending_output(&self, conn: ConnId) -> usize {
        each!(&self.inner, io => io.pending_output(conn))
    }

    /// Stops reading, so that the peer's window fills. What the kernel has already taken from the
    /// socket still arrives.
    pub fn pause_reading(&mut self, conn: ConnId) {
        each!(&mut self.inner, io => io.set_reading(conn, false));
    }

    /// Reads again.
    pub fn resume_reading(&mut self, conn: ConnId) {
        each!(&mut self.inner, io => io.set_reading(conn, true));
    }

    /// Writes what has been appended, then closes. Nothing more is received.
    pub fn close(&mut self, conn: ConnId) {
        each!(&mut self.inner, io => io.close(conn));
    }

    /// Closes without writing what has been appended.
    pub fn abort(&mut self, conn: ConnId) {
        each!(&mut self.inner, io => io.abort(conn));
    }

    /// Connections that are open or closing.
    pub fn connections(&self) -> usize {
        each!(&self.inner, io => io.connections())
    }

    /// What has been counted since the start.
    pub fn counters(&self) -> &Counters {
        each!(&self.inner, io => io.counters())
    }
}
