//! Ids, events and the handles they carry.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::Endpoint;

/// A link of an [`Io`](crate::Io).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub(crate) u16);

impl LinkId {
    /// Position in the order of `add_link`, from 0.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A listening socket of an [`Io`](crate::Io).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub(crate) u16);

impl ListenerId {
    /// Position in the order of `add_listener`, from 0.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One accepted connection; never names a later one that took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// The right to fill one send slot. Give it to `send` or to `release`; dropped, the slot is lost.
#[must_use = "a slot that is neither sent nor released is lost"]
#[derive(Debug, PartialEq, Eq)]
pub struct SendSlot(pub(crate) u16);

/// Which buffers a [`Buffer`] is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    Datagrams,
    Streams,
}

/// Received octets, lent until the next call of `next_event` or `turn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    pub(crate) serial: u64,
    pub(crate) pool: Pool,
    pub(crate) id: u16,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

impl Buffer {
    /// Received octets.
    pub fn len(self) -> usize {
        self.len as usize
    }

    /// Whether the datagram was empty.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// Far end of an accepted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP, from this address.
    Tcp(SocketAddr),
    /// Over a Unix socket.
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// One datagram, or several of `segment` octets (the last may be shorter).
    Datagram {
        /// Link it came in on.
        link: LinkId,
        /// Sender, in its [canonical](Endpoint::canonical) form.
        from: Endpoint,
        /// The octets.
        buffer: Buffer,
        /// Length of each datagram when several were coalesced.
        segment: Option<usize>,
    },
    /// The kernel refused to send a datagram.
    SendFailed {
        /// Link it was meant for.
        link: LinkId,
        /// Destination.
        to: Endpoint,
        /// Why.
        error: io::Error,
    },
    /// The kernel, or the device below, does not cut datagrams of this length on the link, at most
    /// once for each length: they go one by one from now on. Nothing was lost.
    SegmentsRefused {
        /// Which link.
        link: LinkId,
        /// The shortest length refused so far; 0: none is cut at all.
        segment: usize,
        /// Why.
        error: io::Error,
    },
    /// A connection was accepted; its octets follow as [`Event::Received`].
    Accepted {
        /// Where.
        listener: ListenerId,
        /// Its id.
        conn: ConnId,
        /// Far end.
        peer: Peer,
    },
    /// Octets from a connection.
    Received {
        /// Which connection.
        conn: ConnId,
        /// The octets, never empty.
        buffer: Buffer,
    },
    /// The peer will send no more. Output may still be written; the connection stays until `close`.
    Ended {
        /// Which connection.
        conn: ConnId,
    },
    /// All flushed output was written to the socket.
    Drained {
        /// Which connection.
        conn: ConnId,
    },
    /// The connection is gone. Comes exactly once for every [`Event::Accepted`], last of all.
    Closed {
        /// Which connection.
        conn: ConnId,
        /// What ended it, `None` after an orderly `close` or an `abort`.
        error: Option<io::Error>,
    },
    /// Somebody used a [`Waker`](crate::Waker); several wake-ups may come as one.
    Woken,
}

/// What one turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnStats {
    /// Completions or readiness reports taken in.
    pub completions: usize,
}

/// The datagrams of one [`Event::Datagram`].
pub fn segments(bytes: &[u8], segment: Option<usize>) -> Segments<'_> {
    let segment = segment.filter(|&len| len > 0 && len < bytes.len());
    Segments {
        rest: Some(bytes),
        segment: segment.unwrap_or(bytes.len()),
    }
}

/// Iterator of [`segments`]; an empty datagram gives one empty slice.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    rest: Option<&'a [u8]>,
    segment: usize,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let (head, tail) = rest.split_at(self.segment.min(rest.len()));
        self.rest = (!tail.is_empty()).then_some(tail);
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: coalesced datagrams come apart again, an empty one is still one.
    #[test]
    fn segments_split_at_the_segment_size() {
        let split = |bytes, segment| segments(bytes, segment).collect::<Vec<&[u8]>>();
        assert_eq!(split(b"aabbc", Some(2)), [&b"aa"[..], b"bb", b"c"]);
        assert_eq!(split(b"aabb", Some(2)), [&b"aa"[..], b"bb"]);
        assert_eq!(split(b"aabb", None), [&b"aabb"[..]]);
        assert_eq!(split(b"aabb", Some(0)), [&b"aabb"[..]]);
        assert_eq!(split(b"", None), [&b""[..]]);
    }
}
