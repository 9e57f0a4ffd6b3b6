//! What operations under way point into.

use super::super::buffers::BufferRing;
use super::super::region::Region;
use super::super::slots::{SlotTable, empty_message};
use crate::IoConfig;
use crate::address::{CONTROL_LEN, NAME_LEN, NAME_SOCKLEN};

pub(super) const DATAGRAM_GROUP: u16 = 0;
pub(super) const STREAM_GROUP: u16 = 1;

/// What the kernel writes before the payload of a multishot `recvmsg`.
pub(super) const RECEIVE_HEADER_LEN: usize = 16 + NAME_LEN + CONTROL_LEN;

/// Output of one connection while the kernel sends it.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) bytes: Vec<u8>,
    pub(super) sent: usize,
    pub(super) busy: bool,
}

/// What operations under way point into.
pub(super) struct Memory {
    pub(super) datagrams: BufferRing,
    pub(super) streams: BufferRing,
    pub(super) slots: SlotTable,
    pub(super) outputs: Vec<Output>,
    /// The `msghdr` of every multishot `recvmsg`, constant.
    pub(super) receive_header: Region,
    /// Where the eventfd's counter is read to.
    pub(super) wake_value: Region,
}

impl Memory {
    pub(super) fn new(config: &IoConfig) -> Self {
        let stride = (config.receive_buffer_len_bytes + RECEIVE_HEADER_LEN).next_multiple_of(64);
        let memory = Self {
            datagrams: BufferRing::new(DATAGRAM_GROUP, config.receive_buffers, stride),
            streams: BufferRing::new(
                STREAM_GROUP,
                config.stream_buffers,
                config.stream_buffer_len_bytes,
            ),
            slots: SlotTable::new(config.send_slots, config.send_slot_len_bytes),
            outputs: Vec::new(),
            receive_header: Region::new(size_of::<libc::msghdr>()),
            wake_value: Region::new(8),
        };
        let header = memory.receive_header.place::<libc::msghdr>(0);
        // SAFETY: `header` is the start of a region of this very size, page-aligned, made just now
        // and known to nobody else. After this line it is only read.
        unsafe { header.write(receive_header()) };
        memory
    }
}

/// What multishot `recvmsg` reads of its header: the room for name and control messages.
pub(super) fn receive_header() -> libc::msghdr {
    let mut header = empty_message();
    header.msg_namelen = NAME_SOCKLEN;
    header.msg_controllen = CONTROL_LEN as _;
    header
}
