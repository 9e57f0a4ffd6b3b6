//! A UDP socket and what it has turned out to support.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use crate::config::SEGMENTS_MAX;
use crate::{IoError, raw};

/// One datagram send, or several datagrams of one length, as the application asked for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    pub(crate) link: u16,
    pub(crate) to: SocketAddr,
    pub(crate) len: usize,
    /// Length of each datagram, 0 for one datagram.
    pub(crate) segment: u16,
    /// The kernel cuts the datagrams (`UDP_SEGMENT`).
    pub(crate) whole: bool,
}

impl Sending {
    /// Slot that was never used.
    pub(crate) const UNUSED: Self = Self {
        link: 0,
        to: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0),
        len: 0,
        segment: 0,
        whole: false,
    };

    /// Checks the application's request.
    pub(crate) fn new(link: u16, to: SocketAddr, len: usize, segment: Option<usize>) -> Self {
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
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) socket: UdpSocket,
    /// `UDP_SEGMENT` works for segments shorter than this.
    segment_limit: u16,
    /// Drops the socket has reported so far (`SO_RXQ_OVFL`, wraps).
    dropped: u32,
}

impl Link {
    pub(crate) fn new(socket: UdpSocket, blocking: bool, gro: bool) -> Result<Self, IoError> {
        socket
            .set_nonblocking(!blocking)
            .map_err(IoError::call("set a socket's blocking mode"))?;
        raw::set_option(&socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)
            .map_err(IoError::call("count a socket's dropped datagrams"))?;
        // Refused by kernels before 5.0: then every datagram comes by itself. Set to 0 when not
        // wanted, since the socket may have been used before.
        let _ = raw::set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, i32::from(gro));
        Ok(Self {
            socket,
            segment_limit: u16::MAX,
            dropped: 0,
        })
    }

    /// Whether the kernel is to cut this send.
    pub(crate) fn segments(&self, sending: &Sending) -> bool {
        sending.segment > 0 && sending.segment < self.segment_limit
    }

    /// Whether `error` means that segmentation was refused, and not the datagrams; remembered.
    pub(crate) fn refuses_segments(&mut self, error: &io::Error, segment: u16) -> bool {
        self.segment_limit = match error.raw_os_error() {
            Some(libc::EIO | libc::ENOPROTOOPT | libc::EOPNOTSUPP) => 0,
            // Too long for the path: segments are never fragmented, single datagrams are.
            Some(libc::EINVAL | libc::EMSGSIZE) => segment.min(self.segment_limit),
            _ => return false,
        };
        true
    }

    /// New drops since the last report.
    pub(crate) fn count_dropped(&mut self, total: Option<u32>) -> u64 {
        let Some(total) = total else { return 0 };
        let new = total.wrapping_sub(self.dropped);
        self.dropped = total;
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
    use super::*;

    fn link() -> Link {
        Link::new(UdpSocket::bind("127.0.0.1:0").unwrap(), true, true).unwrap()
    }

    /// Goal: a refusal for length stops longer segments only, any other kind stops all.
    #[test]
    fn refused_segments_are_remembered() {
        let to = "127.0.0.1:9".parse().unwrap();
        let sending = |segment| Sending::new(0, to, 6000, Some(segment));
        let mut link = link();
        assert!(link.segments(&sending(2000)));
        assert!(!link.segments(&Sending::new(0, to, 6000, None)));
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        assert!(!link.refuses_segments(&refused, 2000));
        assert!(link.refuses_segments(&io::Error::from_raw_os_error(libc::EMSGSIZE), 2000));
        assert!(!link.segments(&sending(2000)));
        assert!(link.segments(&sending(1999)));
        assert!(link.refuses_segments(&io::Error::from_raw_os_error(libc::EIO), 1000));
        assert!(!link.segments(&sending(500)));
    }

    /// Goal: the socket's running total becomes increments, across the wrap too.
    #[test]
    fn drops_are_counted_once() {
        let mut link = link();
        assert_eq!(link.count_dropped(None), 0);
        assert_eq!(link.count_dropped(Some(5)), 5);
        assert_eq!(link.count_dropped(Some(5)), 0);
        link.dropped = u32::MAX;
        assert_eq!(link.count_dropped(Some(1)), 2);
    }

    /// Goal: a segment that holds everything is one datagram.
    #[test]
    fn one_segment_is_one_datagram() {
        let to = "127.0.0.1:9".parse().unwrap();
        assert_eq!(Sending::new(0, to, 100, Some(100)).segment, 0);
        assert_eq!(Sending::new(0, to, 101, Some(100)).datagrams(), 2);
        assert_eq!(Sending::new(0, to, 0, None).datagrams(), 1);
    }
}
