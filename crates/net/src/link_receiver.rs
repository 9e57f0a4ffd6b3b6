//! Receiving from a link without an [`Io`](crate::Io), for a thread with a loop of its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::address::{decode_control, decode_name};
use crate::config::DATAGRAM_LEN_MAX;
use crate::link::{Link, Port};
use crate::raw::Receiver;
use crate::{Counters, Endpoint, IoError, LinkSocket};

/// Receive buffers, each for the longest datagram or as many as the kernel coalesces. Those beyond
/// what comes at a time are never touched.
const BUFFERS: usize = 16;

/// What came in one receive buffer.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// Its sender.
    pub from: Endpoint,
    /// The packet, or several.
    pub bytes: &'a [u8],
    /// As in [`Event::Datagram`](crate::Event::Datagram): cut with [`segments`](crate::segments).
    pub segment: Option<usize>,
}

/// Receives packets of a link in batches; never blocks.
pub struct LinkReceiver {
    link: Link,
    receiver: Receiver,
    /// Datagrams of the batch that were handed out, and all.
    next: usize,
    len: usize,
    counters: Counters,
}

impl LinkReceiver {
    /// Receives on the socket that `socket` sends from.
    pub fn new(socket: LinkSocket) -> Result<Self, IoError> {
        Ok(Self {
            link: Link::new(socket, true, false, true)?,
            receiver: Receiver::new(BUFFERS, DATAGRAM_LEN_MAX),
            next: 0,
            len: 0,
            counters: Counters::default(),
        })
    }

    /// Takes in what has come, after the last batch was handed out. Whether there may be more.
    pub fn receive(&mut self) -> bool {
        if self.next < self.len {
            return true;
        }
        (self.next, self.len) = (0, 0);
        match self.receiver.receive(&self.link) {
            Ok(len) => {
                self.len = len;
                len == BUFFERS
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => false,
                io::ErrorKind::Interrupted => true,
                _ => {
                    self.counters.receive_failures += 1;
                    true
                }
            },
        }
    }

    /// Whether a batch is waiting to be handed out.
    pub fn has_incoming(&self) -> bool {
        self.next < self.len
    }

    /// The next datagram of the batch.
    pub fn next_incoming(&mut self) -> Option<Incoming<'_>> {
        while self.next < self.len {
            let at = self.next;
            self.next += 1;
            let message = self.receiver.message(at);
            let control = decode_control(message.control);
            let overflow = self.link.count_dropped(Port::main(0), control.dropped);
            self.counters.receive_queue_overflow += overflow;
            let framing = self.link.framing();
            let from = decode_name(message.name);
            let packet = framing.unwrap(message.payload);
            let (Some(from), Some(packet), false) = (from, packet, message.truncated) else {
                self.counters.truncated += 1;
                continue;
            };
            let segment = self.counters.count_received(packet.len(), control.segment);
            let bytes = self.receiver.bytes(at, packet.start, packet.len());
            let from = framing.sender(from);
            return Some(Incoming {
                from,
                bytes,
                segment,
            });
        }
        None
    }

    /// What has been counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl AsFd for LinkReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::{UdpOptions, bind_udp};

    /// Goal: batches are handed out in order, whole and with their sender, and nothing waits when
    /// nothing came.
    #[test]
    fn datagrams_come_in_batches() {
        let socket = bind_udp("127.0.0.1:0".parse().unwrap(), &UdpOptions::default()).unwrap();
        let address = socket.local_addr().unwrap();
        let mut receiver = LinkReceiver::new(socket.into()).unwrap();
        assert!(!receiver.receive());
        assert!(!receiver.has_incoming());
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let from: Endpoint = sender.local_addr().unwrap().into();
        let count = u8::try_from(BUFFERS + 3).unwrap();
        for number in 0..count {
            sender.send_to(&[number; 5], address).unwrap();
        }
        let mut numbers = Vec::new();
        while numbers.len() < usize::from(count) {
            receiver.receive();
            while let Some(incoming) = receiver.next_incoming() {
                assert_eq!((incoming.from, incoming.segment), (from, None));
                assert_eq!(incoming.bytes, [incoming.bytes[0]; 5]);
                numbers.push(incoming.bytes[0]);
            }
        }
        assert!(numbers.into_iter().eq(0..count));
        assert_eq!(receiver.counters().datagrams_received, u64::from(count));
        assert_eq!(receiver.counters().bytes_received, 5 * u64::from(count));
    }
}
