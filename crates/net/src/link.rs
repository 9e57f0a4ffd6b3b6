//! A link's sockets, what they are used for and what they have turned out to support.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::config::SEGMENTS_MAX;
use crate::link_socket::{Framing, Outgoing};
use crate::{Endpoint, Event, IoError, LinkId, LinkSocket, MacAddress, raw};

/// One datagram send, or several datagrams of one length, as the application asked for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    pub(crate) link: u16,
    pub(crate) to: Endpoint,
    pub(crate) len: usize,
    /// Length of each datagram, 0 for one datagram.
    pub(crate) segment: u16,
    /// The kernel cuts the datagrams (`UDP_SEGMENT`).
    pub(crate) whole: bool,
    /// What the kernel said when it did not, if that may be for any reason but the cutting.
    pub(crate) doubt: Option<i32>,
}

impl Sending {
    /// Slot that was never used.
    pub(crate) const UNUSED: Self = Self {
        link: 0,
        to: Endpoint::Mac(MacAddress::new([0; 6])),
        len: 0,
        segment: 0,
        whole: false,
        doubt: None,
    };

    /// Checks the application's request.
    pub(crate) fn new(link: u16, to: Endpoint, len: usize, segment: Option<usize>) -> Self {
        let segment = segment.filter(|&segment| segment < len).unwrap_or(0);
        if segment > 0 {
            assert!(
                len.div_ceil(segment) <= SEGMENTS_MAX,
                "more than {SEGMENTS_MAX} segments"
            );
        }
        let segment = u16::try_from(segment).expect("a datagram is shorter than 64 KiB");
        Self {
            link,
            to,
            len,
            segment,
            whole: false,
            doubt: None,
        }
    }

    /// Datagrams in it.
    pub(crate) fn datagrams(&self) -> u64 {
        if self.segment == 0 {
            1
        } else {
            self.len.div_ceil(usize::from(self.segment)) as u64
        }
    }

    /// Payload octets of one of its operations that sent `sent`, headers of frames included.
    pub(crate) fn payload_len(&self, sent: usize) -> u64 {
        let is_whole = self.segment == 0 || self.whole;
        let len = if is_whole { self.len } else { sent };
        len as u64
    }
}

/// One of a link's sockets, by its place in tables of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port(pub(crate) u16);

impl Port {
    /// Sockets a link may have.
    pub(crate) const PER_LINK: u16 = 2;

    /// What a link sends from and receives on.
    pub(crate) fn main(link: u16) -> Self {
        Self(link * Self::PER_LINK)
    }

    /// What a link receives its group on.
    pub(crate) fn group(link: u16) -> Self {
        Self(link * Self::PER_LINK + 1)
    }

    pub(crate) fn link(self) -> u16 {
        self.0 / Self::PER_LINK
    }

    fn place(self) -> usize {
        usize::from(self.0 % Self::PER_LINK)
    }
}

#[derive(Debug)]
pub(crate) struct Link {
    socket: LinkSocket,
    /// Whether this worker receives, or others do.
    receive: bool,
    /// Which of the sockets that had this link's place.
    pub(crate) generation: u32,
    /// `UDP_SEGMENT` works for segments shorter than this.
    segment_limit: u16,
    /// Why that has become less, until somebody is told.
    refusal: Option<io::Error>,
    /// Drops the sockets have reported so far (`SO_RXQ_OVFL`, wraps).
    dropped: [u32; Port::PER_LINK as usize],
}

impl Link {
    pub(crate) fn new(
        socket: LinkSocket,
        receive: bool,
        blocking: bool,
        gro: bool,
    ) -> Result<Self, IoError> {
        let may_segment = socket.framing().may_segment();
        let mut refusal = None;
        for part in [Some(socket.as_fd()), socket.group()].into_iter().flatten() {
            rustix::io::ioctl_fionbio(part, !blocking)
                .map_err(IoError::call("set a socket's blocking mode"))?;
            raw::set_option(part, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)
                .map_err(IoError::call("count a socket's dropped datagrams"))?;
            if may_segment {
                // Refused by kernels before 5.0: then every datagram comes by itself. Set to 0
                // when not wanted, since the socket may have been used before.
                let _ = raw::set_option(part, libc::SOL_UDP, libc::UDP_GRO, i32::from(gro));
                // Kernels before 4.18 would take the control message for nothing, and send
                // everything as one datagram.
                let known = raw::set_option(part, libc::SOL_UDP, libc::UDP_SEGMENT, 0);
                refusal = refusal.or(known.err());
            }
        }
        Ok(Self {
            socket,
            receive,
            generation: 0,
            segment_limit: if may_segment && refusal.is_none() {
                u16::MAX
            } else {
                0
            },
            refusal,
            dropped: [0; Port::PER_LINK as usize],
        })
    }

    /// The same link with another socket.
    pub(crate) fn replaced(
        &self,
        socket: LinkSocket,
        blocking: bool,
        gro: bool,
    ) -> Result<Self, IoError> {
        let mut link = Self::new(socket, self.receive, blocking, gro)?;
        // Tokens hold 24 bits of it.
        link.generation = (self.generation + 1) & 0x00ff_ffff;
        Ok(link)
    }

    /// The sockets to receive on, each with its place; `index` is the link's.
    pub(crate) fn receiving(&self, index: u16) -> impl Iterator<Item = (Port, BorrowedFd<'_>)> {
        let is_there = self.receive && self.framing() != Framing::Absent;
        let main = Some((Port::main(index), self.socket.as_fd()));
        let group = self.socket.group().map(|part| (Port::group(index), part));
        [main, group]
            .into_iter()
            .flatten()
            .filter(move |_| is_there)
    }

    /// The socket at a place, if there is one.
    pub(crate) fn part(&self, port: Port) -> Option<BorrowedFd<'_>> {
        match port.place() {
            0 => Some(self.socket.as_fd()),
            _ => self.socket.group(),
        }
    }

    pub(crate) fn framing(&self) -> Framing {
        self.socket.framing()
    }

    /// Makes a send ready that lies behind the headroom in `block`.
    pub(crate) fn wrap(&self, block: &mut [u8], sending: &Sending) -> io::Result<Outgoing> {
        let framing = self.framing();
        let is_frame = matches!(framing, Framing::Ethernet(_));
        assert!(
            !is_frame || sending.segment == 0,
            "an ethernet link takes one packet a slot"
        );
        framing.wrap(block, sending.to, sending.len)
    }

    /// Whether the kernel is to cut this send.
    pub(crate) fn segments(&self, sending: &Sending) -> bool {
        sending.segment > 0 && sending.segment < self.segment_limit
    }

    /// Whether `error` may mean that cutting was refused, and not the datagrams: then they are to
    /// be sent one by one. What cannot mean anything else is remembered; else it is, once they
    /// have been taken so.
    pub(crate) fn refuses_segments(&mut self, error: &io::Error, sending: &mut Sending) -> bool {
        match error.raw_os_error() {
            Some(code @ (libc::EIO | libc::ENOPROTOOPT | libc::EOPNOTSUPP)) => {
                self.limit_segments(0, code);
            }
            // Too long for the path, as segments are never fragmented, single datagrams are; or
            // the destination itself is no good.
            code @ Some(libc::EINVAL | libc::EMSGSIZE) => sending.doubt = code,
            _ => return false,
        }
        true
    }

    /// One of the datagrams that were not cut was sent, so it was the cutting that was refused.
    pub(crate) fn sent_apart(&mut self, sending: &mut Sending) {
        if let Some(code) = sending.doubt.take() {
            self.limit_segments(sending.segment, code);
        }
    }

    fn limit_segments(&mut self, segment: u16, code: i32) {
        if segment < self.segment_limit {
            self.segment_limit = segment;
            self.refusal = Some(io::Error::from_raw_os_error(code));
        }
    }

    /// The news that some datagrams are not cut; `index` is the link's.
    pub(crate) fn take_refusal(&mut self, index: u16) -> Option<Event> {
        let error = self.refusal.take()?;
        Some(Event::SegmentsRefused {
            link: LinkId(index),
            segment: self.segment_limit.into(),
            error,
        })
    }

    /// New drops since the last report.
    pub(crate) fn count_dropped(&mut self, port: Port, total: Option<u32>) -> u64 {
        let Some(total) = total else { return 0 };
        let dropped = &mut self.dropped[port.place()];
        let new = total.wrapping_sub(*dropped);
        *dropped = total;
        u64::from(new)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};

    use super::*;

    fn link() -> Link {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        Link::new(socket.into(), true, true, true).unwrap()
    }

    fn discard() -> Endpoint {
        SocketAddr::from(([127, 0, 0, 1], 9)).into()
    }

    /// Goal: a refusal for length stops longer segments only, and only once the datagrams have
    /// passed without; any other kind stops all. Each is told once.
    #[test]
    fn refused_segments_are_remembered() {
        let sending = |segment| Sending::new(0, discard(), 6000, Some(segment));
        let error = io::Error::from_raw_os_error;
        let mut link = link();
        assert!(link.segments(&sending(2000)));
        assert!(!link.segments(&Sending::new(0, discard(), 6000, None)));
        let mut sent = sending(2000);
        assert!(!link.refuses_segments(&error(libc::ECONNREFUSED), &mut sent));
        assert!(link.refuses_segments(&error(libc::EMSGSIZE), &mut sent));
        assert!(link.segments(&sending(2000)), "it may be the destination");
        link.sent_apart(&mut sent);
        link.sent_apart(&mut sent);
        assert!(!link.segments(&sending(2000)));
        assert!(link.segments(&sending(1999)));
        let told = |link: &mut Link| match link.take_refusal(0)? {
            Event::SegmentsRefused { segment, error, .. } => Some((segment, error.raw_os_error())),
            other => panic!("{other:?}"),
        };
        assert_eq!(told(&mut link), Some((2000, Some(libc::EMSGSIZE))));
        assert_eq!(told(&mut link), None);
        assert!(link.refuses_segments(&error(libc::EIO), &mut sending(1000)));
        assert!(!link.segments(&sending(500)));
        assert_eq!(told(&mut link), Some((0, Some(libc::EIO))));
        assert!(link.refuses_segments(&error(libc::EIO), &mut sending(1000)));
        assert_eq!(told(&mut link), None);
    }

    /// Goal: the socket's running total becomes increments, across the wrap too.
    #[test]
    fn drops_are_counted_once() {
        let mut link = link();
        let (main, group) = (Port::main(3), Port::group(3));
        assert_eq!(link.count_dropped(main, None), 0);
        assert_eq!(link.count_dropped(main, Some(5)), 5);
        assert_eq!(link.count_dropped(group, Some(1)), 1);
        assert_eq!(link.count_dropped(main, Some(5)), 0);
        link.dropped[0] = u32::MAX;
        assert_eq!(link.count_dropped(main, Some(1)), 2);
    }

    /// Goal: a segment that holds everything is one datagram.
    #[test]
    fn one_segment_is_one_datagram() {
        let to = discard();
        assert_eq!(Sending::new(0, to, 100, Some(100)).segment, 0);
        assert_eq!(Sending::new(0, to, 101, Some(100)).datagrams(), 2);
        assert_eq!(Sending::new(0, to, 0, None).datagrams(), 1);
    }
}
