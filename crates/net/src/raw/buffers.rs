//! A provided-buffer ring: receive buffers the kernel picks from by itself.
//!
//! ```text
//!   entries: page-aligned ring of (address, length, id); we write at the tail, the kernel reads
//!            at its own head. The tail sits in the unused tail end of entry 0.
//!   data:    `count` buffers of `stride` octets; buffer `id` starts at id * stride
//! ```
//!
//! A buffer belongs to the kernel from the moment the tail passes its entry until a completion
//! names its id; then it is ours until it is recycled. The ledger keeps exactly that.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use super::region::Region;
use crate::ledger::Ledger;

#[derive(Debug)]
pub(super) struct BufferRing {
    entries: Region,
    data: Region,
    ledger: Ledger,
    stride: usize,
    count: u16,
    tail: u16,
    group: u16,
}

impl BufferRing {
    /// `count` is a power of two (checked by the configuration).
    pub(super) fn new(group: u16, count: u16, stride: usize) -> Self {
        assert!(
            count.is_power_of_two(),
            "buffer ring length is a power of two"
        );
        let mut ring = Self {
            entries: Region::new(usize::from(count) * size_of::<BufRingEntry>()),
            data: Region::new(usize::from(count) * stride),
            ledger: Ledger::lent(count),
            stride,
            count,
            tail: 0,
            group,
        };
        for id in 0..count {
            ring.provide(id);
        }
        ring
    }

    pub(super) fn group(&self) -> u16 {
        self.group
    }

    /// Shows the ring to the kernel.
    pub(super) fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.entries.pointer(0, 1) as u64;
        // SAFETY: `address` is the start of `self.entries`: page-aligned, `count` entries long, and
        // every entry names a whole buffer inside `self.data`. Both regions live until the owner
        // has drained all receives and unregistered the group (`Ring::drop`), or are leaked.
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, self.group, 0) }
    }

    /// The kernel has put something into buffer `id`: it is ours now.
    pub(super) fn taken(&mut self, id: u16) {
        self.ledger.complete(id);
    }

    /// Gives a buffer of ours back to the kernel.
    pub(super) fn recycle(&mut self, id: u16) {
        self.ledger.lend(id, 1);
        self.provide(id);
    }

    /// Octets of a buffer of ours.
    pub(super) fn bytes(&self, id: u16, range: Range<usize>) -> &[u8] {
        self.ledger.expect_app(id);
        assert!(
            range.start <= range.end && range.end <= self.stride,
            "range inside the buffer"
        );
        let len = range.len();
        let start = self
            .data
            .pointer(usize::from(id) * self.stride + range.start, len);
        // SAFETY: `start` has `len` initialised octets inside buffer `id` (the region was zeroed
        // when made). The ledger says the buffer is ours, so the kernel does not write it; it gets
        // it back only through `recycle`, which needs `&mut self` and so ends this borrow first.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// Writes the entry for `id` at the tail, then moves the tail past it.
    fn provide(&mut self, id: u16) {
        let at = usize::from(self.tail & (self.count - 1)) * size_of::<BufRingEntry>();
        let entry = self.entries.place::<BufRingEntry>(at);
        let address = self
            .data
            .pointer(usize::from(id) * self.stride, self.stride) as u64;
        // SAFETY: `entry` is an aligned entry inside `self.entries`, zeroed when made. Its place is
        // beyond the published tail (at most `count` buffers exist and this one is not in the
        // ring), so the kernel reads it only after the store below; no other reference to it exists.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(u32::try_from(self.stride).expect("limits are checked"));
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        let first = self.entries.place::<BufRingEntry>(0);
        // SAFETY: `first` is entry 0 of the live ring; only the address of its tail field is taken.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: the tail field is aligned, inside `self.entries`, and after this line touched
        // only atomically, by us here and by the kernel as a reader.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
