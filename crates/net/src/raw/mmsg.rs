//! `recvmmsg` and `sendmmsg`: batches without a ring. The kernel touches our memory only during
//! the call, so plain vectors do.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use super::slots::{SegmentControl, empty_message};
use crate::address::{CONTROL_LEN, NAME_LEN, NAME_SOCKLEN, Name, encode_name};
use crate::link_socket::HEADROOM;

/// Messages in one call.
pub(crate) const MMSG_LEN_MAX: usize = 64;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct ControlSpace([u8; CONTROL_LEN]);

fn mmsghdr(message: libc::msghdr) -> libc::mmsghdr {
    libc::mmsghdr {
        msg_hdr: message,
        msg_len: 0,
    }
}

/// Receives batches of datagrams.
pub(crate) struct Receiver {
    data: Box<[u8]>,
    names: Box<[Name]>,
    controls: Box<[ControlSpace]>,
    vectors: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
    stride: usize,
}

/// One received datagram.
pub(crate) struct Received<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) control: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) truncated: bool,
}

impl Receiver {
    /// Room for `count` datagrams (at most [`MMSG_LEN_MAX`] are used) of `stride` octets.
    pub(crate) fn new(count: usize, stride: usize) -> Self {
        let count = count.min(MMSG_LEN_MAX);
        Self {
            data: vec![0; count * stride].into(),
            names: vec![Name([0; NAME_LEN]); count].into(),
            controls: vec![ControlSpace([0; CONTROL_LEN]); count].into(),
            vectors: Vec::with_capacity(count),
            messages: Vec::with_capacity(count),
            stride,
        }
    }

    /// One `recvmmsg`; gives the number of datagrams. Never blocks.
    pub(crate) fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        self.vectors.clear();
        self.vectors.extend(
            self.data
                .chunks_exact_mut(self.stride)
                .map(|chunk| libc::iovec {
                    iov_base: chunk.as_mut_ptr().cast(),
                    iov_len: chunk.len(),
                }),
        );
        self.messages.clear();
        let parts = self
            .vectors
            .iter_mut()
            .zip(&mut self.names)
            .zip(&mut self.controls);
        self.messages.extend(parts.map(|((vector, name), control)| {
            let mut message = empty_message();
            message.msg_name = ptr::from_mut(name).cast();
            message.msg_namelen = NAME_SOCKLEN;
            message.msg_iov = vector;
            message.msg_iovlen = 1;
            message.msg_control = ptr::from_mut(control).cast();
            message.msg_controllen = CONTROL_LEN as _;
            mmsghdr(message)
        }));
        let count = libc::c_uint::try_from(self.messages.len()).expect("at most MMSG_LEN_MAX");
        let descriptor = socket.as_fd().as_raw_fd();
        let messages = self.messages.as_mut_ptr();
        // SAFETY: `messages` are `count` headers made just above; each points to its own vector,
        // name, control space and disjoint chunk of `self.data`, with their exact lengths. All are
        // owned by `self`, borrowed mutably until the call returns; no timeout is passed.
        let result = unsafe {
            libc::recvmmsg(
                descriptor,
                messages,
                count,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    /// Datagram `index` of the last batch.
    pub(crate) fn message(&self, index: usize) -> Received<'_> {
        let header = &self.messages[index];
        let name_len = (header.msg_hdr.msg_namelen as usize).min(NAME_LEN);
        let control_len = header.msg_hdr.msg_controllen.min(CONTROL_LEN as _);
        Received {
            name: &self.names[index].0[..name_len],
            control: &self.controls[index].0[..control_len],
            payload: self.bytes(index, 0, (header.msg_len as usize).min(self.stride)),
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        }
    }

    /// Octets of buffer `index`, from `offset` on.
    pub(crate) fn bytes(&self, index: usize, offset: usize, len: usize) -> &[u8] {
        &self.data[index * self.stride..][..self.stride][offset..][..len]
    }
}

/// One `sendmsg` of datagrams of `segment` octets each, the last may be shorter. Never blocks.
pub(crate) fn send_segments(
    socket: impl AsFd,
    packets: &[u8],
    segment: u16,
    to: SocketAddr,
) -> io::Result<usize> {
    let (mut name, name_len) = encode_name(to);
    let mut control = SegmentControl::new(segment);
    let mut vector = libc::iovec {
        iov_base: packets.as_ptr().cast_mut().cast(),
        iov_len: packets.len(),
    };
    let mut message = empty_message();
    message.msg_name = ptr::from_mut(&mut name).cast();
    message.msg_namelen = name_len;
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_mut(&mut control).cast();
    message.msg_controllen = size_of::<SegmentControl>() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: `message` points to the locals `name`, `vector` and `control` with their exact
    // lengths, and `vector` to `packets`; all outlive the call, which only reads them.
    let result = unsafe { libc::sendmsg(descriptor, &raw const message, flags) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// A datagram, or several of one length, inside a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) slot: u16,
    /// From the start of the slot's headroom.
    pub(crate) offset: u32,
    pub(crate) len: u32,
    /// Length of each datagram, 0 for one datagram.
    pub(crate) segment: u16,
}

/// Send slots and the batches made of them.
pub(crate) struct Sender {
    data: Box<[u8]>,
    names: Box<[(Name, libc::socklen_t)]>,
    controls: Vec<SegmentControl>,
    vectors: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
    /// Octets of a slot with its headroom.
    stride: usize,
}

impl Sender {
    pub(crate) fn new(count: u16, len: usize) -> Self {
        let (count, stride) = (usize::from(count), HEADROOM + len);
        Self {
            data: vec![0; count * stride].into(),
            names: vec![(Name([0; NAME_LEN]), 0); count].into(),
            controls: Vec::with_capacity(MMSG_LEN_MAX),
            vectors: Vec::with_capacity(MMSG_LEN_MAX),
            messages: Vec::with_capacity(MMSG_LEN_MAX),
            stride,
        }
    }

    pub(crate) fn bytes_mut(&mut self, slot: u16) -> &mut [u8] {
        &mut self.block_mut(slot)[HEADROOM..]
    }

    /// Octets of a slot with the headroom before them.
    pub(crate) fn block_mut(&mut self, slot: u16) -> &mut [u8] {
        &mut self.data[usize::from(slot) * self.stride..][..self.stride]
    }

    /// Whereto; `None` where the octets tell it.
    pub(crate) fn set_destination(&mut self, slot: u16, to: Option<SocketAddr>) {
        self.names[usize::from(slot)] = to.map_or((Name([0; NAME_LEN]), 0), encode_name);
    }

    /// One `sendmmsg` of the first [`MMSG_LEN_MAX`] pieces; gives the number sent. An error is the
    /// first piece's. Never blocks.
    pub(crate) fn send(
        &mut self,
        socket: impl AsFd,
        pieces: impl Iterator<Item = Piece>,
    ) -> io::Result<usize> {
        self.controls.clear();
        self.vectors.clear();
        self.messages.clear();
        for piece in pieces.take(MMSG_LEN_MAX) {
            let slot = usize::from(piece.slot);
            let bytes = &mut self.data[slot * self.stride..][..self.stride];
            let bytes = &mut bytes[piece.offset as usize..][..piece.len as usize];
            self.controls.push(SegmentControl::new(piece.segment));
            self.vectors.push(libc::iovec {
                iov_base: bytes.as_mut_ptr().cast(),
                iov_len: bytes.len(),
            });
            let (name, name_len) = &mut self.names[slot];
            let mut message = empty_message();
            if *name_len > 0 {
                message.msg_name = ptr::from_mut(name).cast();
                message.msg_namelen = *name_len;
            }
            message.msg_iovlen = 1;
            if piece.segment > 0 {
                message.msg_controllen = size_of::<SegmentControl>() as _;
            }
            self.messages.push(mmsghdr(message));
        }
        // The vectors have their final places only now that nothing is pushed any more.
        let parts = self.vectors.iter_mut().zip(&mut self.controls);
        for (message, (vector, control)) in self.messages.iter_mut().zip(parts) {
            message.msg_hdr.msg_iov = vector;
            if message.msg_hdr.msg_controllen > 0 {
                message.msg_hdr.msg_control = ptr::from_mut(control).cast();
            }
        }
        let count = libc::c_uint::try_from(self.messages.len()).expect("at most MMSG_LEN_MAX");
        let descriptor = socket.as_fd().as_raw_fd();
        let messages = self.messages.as_mut_ptr();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: `messages` are `count` headers made just above; each points to its own vector,
        // control message and to a name and octets of its slot, with their exact lengths. All are
        // owned by `self`, borrowed mutably until the call returns; the kernel only reads them,
        // but for `msg_len` in `messages` itself.
        let result = unsafe { libc::sendmmsg(descriptor, messages, count, flags) };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }
}
