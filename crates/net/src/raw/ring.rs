//! One worker's `io_uring` and all memory its operations name.
//!
//! ```text
//!   push an operation ──► submission queue ──enter──► kernel ──► completion queue ──► pending
//!        lends a slot, buffer or output                     next() takes it back ◄──────┘
//! ```
//!
//! Every operation is counted in `in_flight` until its last completion. `Drop` cancels all, enters
//! until the count is zero and only then frees; if the kernel does not comply the memory is leaked.

mod completion;
mod drain;
mod memory;
mod probe;

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, opcode, squeue};

use self::memory::{Memory, Output, receive_header};
use self::probe::check_opcodes;
use crate::address::Control;
use crate::link::Port;
use crate::link_socket::Outgoing;
use crate::token::{Kind, Token};
use crate::{ConnId, Endpoint, IoConfig, Waker};

/// Length of the submission queue; a fuller turn submits in between.
const SUBMISSION_LEN: u32 = 1024;

/// Completion queue: room for every buffer, slot and a few operations per connection, in bounds.
const COMPLETION_LEN_MAX: u32 = 32_768;

/// Ring messages under way at once; more wake-ups go by eventfd.
const RING_WAKES_MAX: usize = 256;

/// A kernel feature that is not there.
#[derive(Debug)]
pub(crate) struct Missing {
    pub(crate) feature: &'static str,
    pub(crate) source: io::Error,
}

fn missing(feature: &'static str) -> impl FnOnce(io::Error) -> Missing {
    move |source| Missing { feature, source }
}

/// One datagram in a receive buffer of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram {
    pub(crate) buffer: u16,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) from: Option<Endpoint>,
    pub(crate) control: Control,
    pub(crate) truncated: bool,
}

/// What an operation came to. `more`: the multishot operation goes on.
#[derive(Debug)]
pub(crate) enum Completion {
    Datagram {
        port: Port,
        generation: u32,
        outcome: io::Result<Datagram>,
        more: bool,
    },
    /// `done`: the last operation of this slot, which is ours again.
    Sent {
        slot: u16,
        outcome: io::Result<usize>,
        done: bool,
    },
    Accepted {
        listener: u16,
        outcome: io::Result<OwnedFd>,
        more: bool,
    },
    /// `Ok(None)`: the peer ended its stream.
    Received {
        conn: ConnId,
        outcome: io::Result<Option<(u16, u32)>>,
        more: bool,
    },
    Written {
        conn: ConnId,
        outcome: io::Result<usize>,
    },
    Woken,
    /// A cancel or a wake of somebody else is over.
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    user_data: u64,
    result: i32,
    flags: u32,
}

#[allow(
    clippy::struct_field_names,
    reason = "the kernel's ring is called a ring"
)]
pub(crate) struct Ring {
    ring: IoUring,
    memory: ManuallyDrop<Memory>,
    /// A copy of what `receive_header` holds, for parsing.
    header: libc::msghdr,
    pending: Vec<Entry>,
    next: usize,
    backlog: VecDeque<squeue::Entry>,
    in_flight: usize,
    waker: Waker,
    wakes: Vec<Option<Waker>>,
    closing: bool,
    lost: u32,
    pub(crate) enters: u64,
    pub(crate) completions: u64,
    pub(crate) overflows: u64,
}

impl Ring {
    pub(crate) fn new(config: &IoConfig) -> Result<Self, Missing> {
        let operations = u32::from(config.receive_buffers)
            + u32::from(config.send_slots)
            + u32::from(config.stream_buffers)
            + config.connections_max.saturating_mul(3);
        let completion_len = operations
            .next_power_of_two()
            .clamp(2048, COMPLETION_LEN_MAX);
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(completion_len)
            .setup_clamp()
            .build(SUBMISSION_LEN)
            .map_err(missing("ring with single issuer and deferred task running"))?;
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            let source = io::Error::from_raw_os_error(libc::EINVAL);
            return Err(Missing {
                feature: "wait with timeout and lossless completions",
                source,
            });
        }
        check_opcodes(&ring)?;
        let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)
            .map_err(|error| missing("eventfd")(error.into()))?;
        // SAFETY: the descriptor is the live ring's, and the borrow ends within this statement.
        let descriptor = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
        let duplicate = descriptor
            .try_clone_to_owned()
            .map_err(missing("ring descriptor"))?;
        let memory = Memory::new(config);
        let pending = Vec::with_capacity(ring.params().cq_entries() as usize);
        let mut ring = Self {
            ring,
            memory: ManuallyDrop::new(memory),
            header: receive_header(),
            pending,
            next: 0,
            backlog: VecDeque::new(),
            in_flight: 0,
            waker: Waker::new(event, Some(duplicate)),
            wakes: vec![None; RING_WAKES_MAX],
            closing: false,
            lost: 0,
            enters: 0,
            completions: 0,
            overflows: 0,
        };
        let links = u32::from(config.links_max) * u32::from(Port::PER_LINK);
        ring.register(links + u32::from(config.listeners_max))?;
        ring.arm_wake();
        Ok(ring)
    }

    fn register(&mut self, files: u32) -> Result<(), Missing> {
        let submitter = self.ring.submitter();
        submitter
            .register_files_sparse(files.max(1))
            .map_err(missing("registered files"))?;
        let feature = "provided-buffer rings";
        self.memory
            .datagrams
            .register(&submitter)
            .map_err(missing(feature))?;
        self.memory
            .streams
            .register(&submitter)
            .map_err(missing(feature))
    }

    pub(crate) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Puts descriptors into the places from `index` on of the fixed table, which keeps them open
    /// by itself, or empties them. Operations under way go on with what was there.
    pub(crate) fn register_files<const LEN: usize>(
        &self,
        index: u32,
        files: [Option<BorrowedFd<'_>>; LEN],
    ) -> io::Result<()> {
        let files = files.map(|file| file.map_or(-1, |file| file.as_raw_fd()));
        self.ring
            .submitter()
            .register_files_update(index, &files)
            .map(drop)
    }

    // --- Operations. All only queue; the next `enter` submits them.

    /// Multishot receive of datagrams from a socket of a link.
    pub(crate) fn arm_datagrams(&mut self, port: Port, generation: u32) {
        let header = self.memory.receive_header.place::<libc::msghdr>(0);
        let group = self.memory.datagrams.group();
        let entry = opcode::RecvMsgMulti::new(Fixed(port.0.into()), header, group).build();
        self.push(entry, Token::datagrams(port, generation));
    }

    /// Ends it.
    pub(crate) fn cancel_datagrams(&mut self, port: Port, generation: u32) {
        self.cancel(Token::datagrams(port, generation));
    }

    /// Multishot accept from the fixed file `file`.
    pub(crate) fn arm_accept(&mut self, listener: u16, file: u32) {
        let entry = opcode::AcceptMulti::new(Fixed(file))
            .flags(libc::SOCK_CLOEXEC)
            .build();
        self.push(entry, Token::new(Kind::Accept, 0, u32::from(listener)));
    }

    /// Multishot receive from a connection. The caller keeps `socket` open until it has ended.
    pub(crate) fn arm_stream(&mut self, conn: ConnId, socket: BorrowedFd<'_>) {
        let group = self.memory.streams.group();
        let entry = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), group).build();
        self.push(entry, Token::new(Kind::Stream, conn.generation, conn.index));
    }

    /// Ends the multishot receive of a connection early.
    pub(crate) fn cancel_stream(&mut self, conn: ConnId) {
        self.cancel(Token::new(Kind::Stream, conn.generation, conn.index));
    }

    /// Ends the write of a connection early.
    pub(crate) fn cancel_write(&mut self, conn: ConnId) {
        self.cancel(Token::new(Kind::Write, conn.generation, conn.index));
    }

    fn cancel(&mut self, target: Token) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(target.0)).build();
        self.push(entry, Token::new(Kind::Done, 0, 0));
    }

    /// Sends `bytes` on a connection; one such operation at a time.
    pub(crate) fn write(&mut self, conn: ConnId, socket: BorrowedFd<'_>, bytes: Vec<u8>) {
        let index = conn.index as usize;
        if self.memory.outputs.len() <= index {
            self.memory.outputs.resize_with(index + 1, Output::default);
        }
        let output = &mut self.memory.outputs[index];
        assert!(!output.busy, "connection is already being written to");
        output.bytes = bytes;
        output.sent = 0;
        self.write_rest(conn, socket);
    }

    /// Sends what the last write left over.
    pub(crate) fn write_rest(&mut self, conn: ConnId, socket: BorrowedFd<'_>) {
        let output = &mut self.memory.outputs[conn.index as usize];
        assert!(!output.busy, "connection is already being written to");
        output.busy = true;
        let rest = &output.bytes[output.sent..];
        let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        // `bytes` is not touched while `busy`: its heap block stays where it is even when
        // `outputs` grows, and `Memory` is freed only after the drain.
        let entry = opcode::Send::new(Fd(socket.as_raw_fd()), rest.as_ptr(), len)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.push(entry, Token::new(Kind::Write, conn.generation, conn.index));
    }

    /// Octets of the last write that are still to be sent.
    pub(crate) fn write_left(&self, conn: ConnId) -> usize {
        let output = self.memory.outputs.get(conn.index as usize);
        output.map_or(0, |output| output.bytes.len() - output.sent)
    }

    /// Takes the buffer of a finished write back.
    pub(crate) fn take_output(&mut self, conn: ConnId) -> Vec<u8> {
        let Some(output) = self.memory.outputs.get_mut(conn.index as usize) else {
            return Vec::new();
        };
        assert!(!output.busy, "connection is being written to");
        output.sent = 0;
        std::mem::take(&mut output.bytes)
    }

    /// Takes a free send slot.
    pub(crate) fn take_slot(&mut self) -> Option<u16> {
        self.memory.slots.ledger.take()
    }

    /// Frees a slot of ours.
    pub(crate) fn release_slot(&mut self, slot: u16) {
        self.memory.slots.ledger.release(slot);
    }

    pub(crate) fn free_slots(&self) -> usize {
        self.memory.slots.ledger.free_len()
    }

    /// Octets of a slot of ours.
    pub(crate) fn slot_mut(&mut self, slot: u16) -> &mut [u8] {
        self.memory.slots.bytes_mut(slot)
    }

    /// Octets of a slot of ours with the headroom before them.
    pub(crate) fn block_mut(&mut self, slot: u16) -> &mut [u8] {
        self.memory.slots.block_mut(slot)
    }

    /// Sends what a slot holds as one operation: one datagram, or with `segment` several of that
    /// length, cut by the kernel.
    pub(crate) fn send(&mut self, slot: u16, port: Port, outgoing: &Outgoing, segment: u16) {
        let file = u32::from(port.0);
        let token = Token::new(Kind::Send, 0, u32::from(slot));
        let pointers = self.memory.slots.lend(slot, outgoing, segment, 1);
        let entry = if segment == 0 {
            let len = u32::try_from(outgoing.range.len()).expect("limits are checked");
            opcode::Send::new(Fixed(file), pointers.data, len)
                .dest_addr(pointers.name)
                .dest_addr_len(pointers.name_len)
                .build()
        } else {
            opcode::SendMsg::new(Fixed(file), pointers.message).build()
        };
        self.push(entry, token);
    }

    /// Sends the datagrams of a slot one by one, for links that refuse `UDP_SEGMENT`.
    pub(crate) fn send_apart(&mut self, slot: u16, port: Port, outgoing: &Outgoing, segment: u16) {
        let (file, len) = (u32::from(port.0), outgoing.range.len());
        let segment = usize::from(segment);
        let operations = u16::try_from(len.div_ceil(segment)).expect("limits are checked");
        let token = Token::new(Kind::Send, 0, u32::from(slot));
        let pointers = self.memory.slots.lend(slot, outgoing, 0, operations);
        for offset in (0..len).step_by(segment) {
            let len = u32::try_from(segment.min(len - offset)).expect("limits are checked");
            let entry = opcode::Send::new(Fixed(file), pointers.data.wrapping_add(offset), len)
                .dest_addr(pointers.name)
                .dest_addr_len(pointers.name_len)
                .build();
            self.push(entry, token);
        }
    }

    /// Wakes the owner of another ring.
    pub(crate) fn wake(&mut self, target: &Waker) {
        let free = self.wakes.iter().position(Option::is_none);
        let (Some(place), Some(ring)) = (free, target.ring()) else {
            return target.wake();
        };
        let woken = Token::new(Kind::RingMessage, 0, 0);
        let entry = opcode::MsgRingData::new(Fd(ring.as_raw_fd()), 0, woken.0, None).build();
        // The clone keeps the target's descriptor open until the message is through.
        self.wakes[place] = Some(target.clone());
        let place = u32::try_from(place).expect("at most RING_WAKES_MAX");
        self.push(entry, Token::new(Kind::RingWake, 0, place));
    }

    /// Waits for the next use of the eventfd.
    fn arm_wake(&mut self) {
        let value = self.memory.wake_value.pointer(0, 8);
        let event = Fd(self.waker.event().as_raw_fd());
        let entry = opcode::Read::new(event, value, 8).build();
        self.push(entry, Token::new(Kind::Wake, 0, 0));
    }

    // --- Receive buffers.

    pub(crate) fn datagram(&self, buffer: u16, offset: u32, len: u32) -> &[u8] {
        let offset = offset as usize;
        self.memory
            .datagrams
            .bytes(buffer, offset..offset + len as usize)
    }

    pub(crate) fn recycle_datagram(&mut self, buffer: u16) {
        self.memory.datagrams.recycle(buffer);
    }

    pub(crate) fn stream(&self, buffer: u16, len: u32) -> &[u8] {
        self.memory.streams.bytes(buffer, 0..len as usize)
    }

    pub(crate) fn recycle_stream(&mut self, buffer: u16) {
        self.memory.streams.recycle(buffer);
    }

    /// A received datagram and a slot of ours, to answer in place.
    pub(crate) fn datagram_and_slot(
        &mut self,
        (buffer, offset, len): (u16, u32, u32),
        slot: u16,
    ) -> (&[u8], &mut [u8]) {
        let memory = &mut *self.memory;
        let offset = offset as usize;
        let bytes = memory
            .datagrams
            .bytes(buffer, offset..offset + len as usize);
        (bytes, memory.slots.bytes_mut(slot))
    }

    /// The same with octets of a connection.
    pub(crate) fn stream_and_slot(
        &mut self,
        buffer: u16,
        len: u32,
        slot: u16,
    ) -> (&[u8], &mut [u8]) {
        let memory = &mut *self.memory;
        (
            memory.streams.bytes(buffer, 0..len as usize),
            memory.slots.bytes_mut(slot),
        )
    }

    // --- The kernel's side.

    fn push(&mut self, entry: squeue::Entry, token: Token) {
        self.in_flight += 1;
        let entry = entry.user_data(token.0);
        if self.backlog.is_empty() {
            if self.push_now(&entry) {
                return;
            }
            // The queue is full.
            self.submit();
            if self.push_now(&entry) {
                return;
            }
        }
        self.backlog.push_back(entry);
    }

    /// Gives the kernel what is queued without waiting, which makes room. What it does not take
    /// now it takes with the next `enter`.
    pub(crate) fn submit(&mut self) {
        let _ = self.enter_kernel(0, None);
    }

    fn push_now(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: every entry is made in this file. What it points to (receive header, wake value,
        // slot and its headers, output octets) lies in `self.memory`, at an address that does not
        // change, and its ledger or `busy` flag keeps us from touching it until the completion.
        // `Drop` drains all operations before `memory` is freed, else leaks it.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Submits what is queued and waits until something completes or `wait` has passed (`None`:
    /// for ever). Gives the number of completions taken in.
    pub(crate) fn enter(&mut self, wait: Option<Duration>) -> io::Result<usize> {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.push_now(&entry) {
                self.backlog.push_front(entry);
                break;
            }
        }
        let busy = self.has_pending() || !self.backlog.is_empty();
        let wait = if busy { Some(Duration::ZERO) } else { wait };
        if self.ring.submission().cq_overflow() {
            self.overflows += 1;
        }
        self.enter_kernel(u32::from(wait != Some(Duration::ZERO)), wait)?;
        Ok(self.collect())
    }

    /// Whether an `enter` would find completions. With deferred task running they are made by that
    /// call only, but a flag in shared memory tells that there is something to make them of.
    pub(crate) fn look(&mut self) -> bool {
        if self.has_pending() || !self.backlog.is_empty() {
            return true;
        }
        let submissions = self.ring.submission();
        let is_due = submissions.taskrun() || submissions.cq_overflow();
        drop(submissions);
        is_due || !self.ring.completion().is_empty()
    }

    fn enter_kernel(&mut self, completions: u32, wait: Option<Duration>) -> io::Result<()> {
        self.enters += 1;
        let submissions = u32::try_from(self.ring.submission().len()).expect("a ring is smaller");
        let timeout = wait.map(Timespec::from);
        let arguments = SubmitArgs::new();
        let arguments = timeout
            .as_ref()
            .map_or(arguments, |timeout| arguments.timespec(timeout));
        let flags = (EnterFlags::GETEVENTS | EnterFlags::EXT_ARG).bits();
        // SAFETY: `arguments` is what EXT_ARG expects, of exactly this type; it and the `timeout`
        // it points to are locals that outlive the call. The entries were vouched for in `push`.
        let result = unsafe {
            self.ring
                .submitter()
                .enter(submissions, completions, flags, Some(&arguments))
        };
        match result {
            Ok(_) => Ok(()),
            // Time passed, a signal, or the kernel is short of room: the next turn goes on.
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn collect(&mut self) -> usize {
        if !self.has_pending() {
            self.pending.clear();
            self.next = 0;
        }
        let mut queue = self.ring.completion();
        let room = self.pending.capacity() - self.pending.len();
        let before = self.pending.len();
        self.pending
            .extend(queue.by_ref().take(room).map(|entry| Entry {
                user_data: entry.user_data(),
                result: entry.result(),
                flags: entry.flags(),
            }));
        let lost = queue.overflow();
        self.overflows += u64::from(lost.wrapping_sub(self.lost));
        self.lost = lost;
        let taken = self.pending.len() - before;
        self.completions += taken as u64;
        taken
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.next < self.pending.len()
    }
}
