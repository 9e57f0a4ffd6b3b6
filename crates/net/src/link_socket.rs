//! Sockets of links: what they are bound to and what they send as.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::net::SendFlags;
use socket2::{Domain, Socket, Type};

use crate::{Endpoint, Interface, IoError, MacAddress, SEGMENTS_MAX, frame, raw};

/// Room before a packet for the header of a frame, kept a multiple of 16.
pub(crate) const HEADROOM: usize = 32;

/// How packets of a link are wrapped and addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// UDP.
    Udp,
    /// UDP through one interface: scope ids say nothing, and stale ones would harm.
    UdpThrough,
    /// Frames with this source.
    Ethernet(MacAddress),
    /// There is no interface at the moment.
    Absent,
}

/// What the kernel is given to send one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// Destination, unless the octets themselves tell.
    pub(crate) name: Option<SocketAddr>,
    /// The octets, counted from the start of the headroom.
    pub(crate) range: Range<usize>,
}

impl Framing {
    /// Makes a packet of `len` octets ready that lies behind the headroom in `block`.
    pub(crate) fn wrap(self, block: &mut [u8], to: Endpoint, len: usize) -> io::Result<Outgoing> {
        let error = |code| Err(io::Error::from_raw_os_error(code));
        let plain = |to: Endpoint| Outgoing {
            name: to.ip(),
            range: HEADROOM..HEADROOM + len,
        };
        match (self, to) {
            (Self::Udp, Endpoint::Ip(_)) => Ok(plain(to)),
            (Self::UdpThrough, Endpoint::Ip(_)) => Ok(plain(to.without_scope())),
            (Self::Ethernet(from), Endpoint::Mac(to)) => {
                let start = HEADROOM - frame::HEADER_LEN;
                match frame::seal(&mut block[start..], from, to, len) {
                    Some(len) => Ok(Outgoing {
                        name: None,
                        range: start..start + len,
                    }),
                    None => error(libc::EMSGSIZE),
                }
            }
            (Self::Absent, _) => error(libc::ENETDOWN),
            (Self::Udp | Self::UdpThrough, Endpoint::Mac(_))
            | (Self::Ethernet(_), Endpoint::Ip(_)) => error(libc::EAFNOSUPPORT),
        }
    }

    /// Where the packet lies in what was received; `None` when there is none.
    pub(crate) fn unwrap(self, bytes: &[u8]) -> Option<Range<usize>> {
        match self {
            Self::Ethernet(_) => frame::open(bytes),
            Self::Udp | Self::UdpThrough | Self::Absent => Some(0..bytes.len()),
        }
    }

    /// The form in which a sender is known.
    pub(crate) fn sender(self, from: Endpoint) -> Endpoint {
        match self {
            Self::UdpThrough => from.without_scope(),
            Self::Udp | Self::Ethernet(_) | Self::Absent => from.canonical(),
        }
    }

    /// Whether the kernel may cut and join datagrams.
    pub(crate) fn may_segment(self) -> bool {
        match self {
            Self::Udp | Self::UdpThrough => true,
            Self::Ethernet(_) | Self::Absent => false,
        }
    }
}

/// The socket or sockets of a link: UDP, UDP with a multicast group, or ethernet. Made by
/// [`bind_udp`](crate::bind_udp) and its kin.
#[derive(Debug)]
pub struct LinkSocket {
    /// Sends, and receives what is for us alone.
    main: OwnedFd,
    /// Receives what is for the group; the ethernet socket does both.
    group: Option<OwnedFd>,
    framing: Framing,
    local: Endpoint,
    interface: Option<Interface>,
}

impl LinkSocket {
    pub(crate) fn udp(socket: impl Into<OwnedFd>, local: SocketAddr) -> Self {
        Self {
            main: socket.into(),
            group: None,
            framing: Framing::Udp,
            local: local.into(),
            interface: None,
        }
    }

    pub(crate) fn multicast(
        main: OwnedFd,
        group: Option<OwnedFd>,
        local: SocketAddr,
        interface: Interface,
    ) -> Self {
        Self {
            main,
            group,
            framing: Framing::UdpThrough,
            local: Endpoint::Ip(local).without_scope(),
            interface: Some(interface),
        }
    }

    pub(crate) fn ethernet(main: OwnedFd, local: MacAddress, interface: Interface) -> Self {
        Self {
            main,
            group: None,
            framing: Framing::Ethernet(local),
            local: local.into(),
            interface: Some(interface),
        }
    }

    /// Stands in while a link's interface is not there: nothing is received, every send fails with
    /// the code `ENETDOWN`. To be replaced by [`Io::relink`](crate::Io::relink).
    pub fn absent() -> Result<Self, IoError> {
        let socket =
            Socket::new(Domain::UNIX, Type::DGRAM, None).map_err(IoError::call("make a socket"))?;
        Ok(Self {
            main: socket.into(),
            group: None,
            framing: Framing::Absent,
            local: MacAddress::new([0; 6]).into(),
            interface: None,
        })
    }

    /// The address others see us at: what we send to a multicast group comes back `from` it. A
    /// plain UDP link bound to no address in particular gives that.
    pub fn local(&self) -> Endpoint {
        self.local
    }

    /// The interface it is bound to, as it was then.
    pub fn interface(&self) -> Option<&Interface> {
        self.interface.as_ref()
    }

    /// Another handle of the same socket, to send from: it receives nothing of the group.
    pub fn try_clone(&self) -> Result<Self, IoError> {
        let main = self.main.try_clone();
        Ok(Self {
            main: main.map_err(IoError::call("share a socket"))?,
            group: None,
            framing: self.framing,
            local: self.local,
            interface: self.interface.clone(),
        })
    }

    /// A handle that sends without an [`Io`](crate::Io).
    pub fn sender(&self) -> Result<LinkSender, IoError> {
        let socket = self.main.try_clone();
        Ok(LinkSender {
            socket: socket.map_err(IoError::call("share a socket"))?,
            framing: self.framing,
            segment_limit: AtomicUsize::new(if self.framing.may_segment() {
                usize::MAX
            } else {
                0
            }),
        })
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    pub(crate) fn group(&self) -> Option<BorrowedFd<'_>> {
        self.group.as_ref().map(AsFd::as_fd)
    }
}

impl AsFd for LinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.main.as_fd()
    }
}

impl From<UdpSocket> for LinkSocket {
    fn from(socket: UdpSocket) -> Self {
        // The address of an open socket is always known.
        let unknown = SocketAddr::from(([0; 4], 0));
        let local = socket.local_addr().unwrap_or(unknown);
        Self::udp(socket, local)
    }
}

/// Sends packets on a link, from any thread.
#[derive(Debug)]
pub struct LinkSender {
    socket: OwnedFd,
    framing: Framing,
    /// Packets shorter than this go as one send.
    segment_limit: AtomicUsize,
}

impl LinkSender {
    /// Sends one packet; never blocks. Gives its length.
    pub fn send(&self, packet: &[u8], to: Endpoint) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match self.framing {
            Framing::Ethernet(_) => {
                let mut block = [0; HEADROOM + frame::PACKET_LEN_MAX];
                let room = block.get_mut(HEADROOM..HEADROOM + packet.len());
                let room = room.ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
                room.copy_from_slice(packet);
                let outgoing = self.framing.wrap(&mut block, to, packet.len())?;
                rustix::net::send(&self.socket, &block[outgoing.range], flags)?;
            }
            Framing::Udp | Framing::UdpThrough | Framing::Absent => {
                let outgoing = self.framing.wrap(&mut [], to, packet.len())?;
                let to = outgoing.name.expect("UDP has a destination");
                rustix::net::sendto(&self.socket, packet, flags, &to)?;
            }
        }
        Ok(packet.len())
    }

    /// Sends packets that lie back to back in `packets`, each `segment` octets but for the last,
    /// which may be shorter: as one send where the kernel and the device cut them apart, else one
    /// by one. At most [`SEGMENTS_MAX`], and no more octets than one datagram holds. Never blocks.
    /// Gives the octets sent; on an error those before it were sent, those after it were not.
    pub fn send_segments(&self, packets: &[u8], segment: usize, to: Endpoint) -> io::Result<usize> {
        if packets.len() <= segment {
            return self.send(packets, to);
        }
        assert!(
            segment > 0 && packets.len().div_ceil(segment) <= SEGMENTS_MAX,
            "1 to {SEGMENTS_MAX} segments"
        );
        let mut refused = None;
        if segment < self.segment_limit.load(Ordering::Relaxed) {
            let outgoing = self.framing.wrap(&mut [], to, packets.len())?;
            let to = outgoing.name.expect("UDP has a destination");
            let len = u16::try_from(segment).expect("a datagram is shorter than 64 KiB");
            match raw::send_segments(&self.socket, packets, len, to) {
                Err(error) => refused = Some(refused_from(&error, segment).ok_or(error)?),
                Ok(len) => return Ok(len),
            }
        }
        for packet in packets.chunks(segment) {
            self.send(packet, to)?;
        }
        // The same packets pass one by one: so it was the cutting that was refused.
        if let Some(from) = refused {
            self.segment_limit.fetch_min(from, Ordering::Relaxed);
        }
        Ok(packets.len())
    }
}

/// From which length on packets are not cut, where an error may be meant for the cutting of
/// packets of `segment` octets instead of the packets.
fn refused_from(error: &io::Error, segment: usize) -> Option<usize> {
    match error.raw_os_error()? {
        libc::EIO | libc::ENOPROTOOPT | libc::EOPNOTSUPP => Some(0),
        libc::EINVAL | libc::EMSGSIZE => Some(segment),
        _ => None,
    }
}
