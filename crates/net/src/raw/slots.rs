//! Send slots: the octets of a datagram and the headers that describe it, pinned while the kernel
//! sends it.

use std::mem::{MaybeUninit, offset_of};
use std::ptr;

use super::region::Region;
use crate::address::{NAME_LEN, Name, encode_name};
use crate::ledger::Ledger;
use crate::link_socket::{HEADROOM, Outgoing};

/// `UDP_SEGMENT` control message: the length of each datagram in the slot.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentControl {
    header: libc::cmsghdr,
    /// The value in its first two octets; the rest is padding, spelled out so that it is zero.
    data: [u8; 8],
}

impl SegmentControl {
    pub(super) fn new(segment: u16) -> Self {
        // SAFETY: `cmsghdr` is plain integers (with private padding on some systems): zero is valid.
        let mut header: libc::cmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<u16>()) as _;
        header.cmsg_level = libc::SOL_UDP;
        header.cmsg_type = libc::UDP_SEGMENT;
        let mut data = [0; 8];
        data[..2].copy_from_slice(&segment.to_ne_bytes());
        Self { header, data }
    }
}

/// A message header of zeros, the start of every one we fill in.
pub(super) fn empty_message() -> libc::msghdr {
    // SAFETY: `msghdr` is pointers and integers: zero is valid for each.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

#[repr(C)]
struct Header {
    message: libc::msghdr,
    vector: libc::iovec,
    control: SegmentControl,
    name: Name,
}

/// Where the kernel finds the pieces of one send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pointers {
    pub(super) message: *const libc::msghdr,
    pub(super) name: *const libc::sockaddr,
    pub(super) name_len: libc::socklen_t,
    pub(super) data: *const u8,
}

#[derive(Debug)]
pub(super) struct SlotTable {
    data: Region,
    headers: Region,
    pub(super) ledger: Ledger,
    /// Octets of a slot with its headroom.
    stride: usize,
}

impl SlotTable {
    pub(super) fn new(count: u16, len: usize) -> Self {
        let stride = HEADROOM + len;
        Self {
            data: Region::new(usize::from(count) * stride),
            headers: Region::new(usize::from(count) * size_of::<Header>()),
            ledger: Ledger::new(count),
            stride,
        }
    }

    /// Octets of a slot of ours.
    pub(super) fn bytes_mut(&mut self, slot: u16) -> &mut [u8] {
        &mut self.block_mut(slot)[HEADROOM..]
    }

    /// Octets of a slot of ours with the headroom before them.
    pub(super) fn block_mut(&mut self, slot: u16) -> &mut [u8] {
        self.ledger.expect_app(slot);
        let start = self
            .data
            .pointer(usize::from(slot) * self.stride, self.stride);
        // SAFETY: `start` has `stride` octets, initialised (zeroed) when the region was made. The
        // ledger says the slot is ours, so the kernel neither reads nor writes it; `&mut self`
        // keeps everybody else out until the borrow ends.
        unsafe { std::slice::from_raw_parts_mut(start, self.stride) }
    }

    /// Writes the headers for what goes out and lends the slot for `operations`.
    pub(super) fn lend(
        &mut self,
        slot: u16,
        outgoing: &Outgoing,
        segment: u16,
        operations: u16,
    ) -> Pointers {
        let Outgoing { name, range } = outgoing;
        let len = range.len();
        let fits = range.start <= range.end && range.end <= self.stride;
        assert!(fits, "datagram longer than its slot");
        self.ledger.expect_app(slot);
        let start = usize::from(slot) * self.stride + range.start;
        let data = self.data.pointer(start, len);
        let header = self
            .headers
            .place::<Header>(usize::from(slot) * size_of::<Header>());
        let field = |offset: usize| header.wrapping_byte_add(offset);
        let (name, name_len) = name.map_or((Name([0; NAME_LEN]), 0), encode_name);
        // The kernel takes no name for an empty one only where the pointer says so too.
        let name_at = match name_len {
            0 => ptr::null_mut(),
            _ => field(offset_of!(Header, name)),
        };
        let mut message = empty_message();
        message.msg_name = name_at.cast();
        message.msg_namelen = name_len;
        message.msg_iov = field(offset_of!(Header, vector)).cast();
        message.msg_iovlen = 1;
        message.msg_control = field(offset_of!(Header, control)).cast();
        message.msg_controllen = size_of::<SegmentControl>() as _;
        let vector = libc::iovec {
            iov_base: data.cast(),
            iov_len: len,
        };
        let control = SegmentControl::new(segment);
        // SAFETY: `header` is the slot's own header: inside the region, aligned (the region starts
        // on a page and headers lie back to back), not read by the kernel because the ledger says
        // the slot is ours. `Header` needs no drop, so overwriting the old one loses nothing.
        unsafe {
            header.write(Header {
                message,
                vector,
                control,
                name,
            });
        };
        self.ledger.lend(slot, operations);
        Pointers {
            message: field(offset_of!(Header, message)).cast(),
            name: name_at.cast_const().cast(),
            name_len,
            data,
        }
    }
}
