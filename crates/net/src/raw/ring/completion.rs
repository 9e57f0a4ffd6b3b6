//! From completion queue entries to what they mean; each takes back what its operation lent.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use io_uring::cqueue;
use io_uring::types::RecvMsgOut;

use super::memory::RECEIVE_HEADER_LEN;
use super::{Completion, Datagram, Ring};
use crate::address::{Control, decode_control, decode_name};
use crate::link::Port;
use crate::token::{Kind, Token};

impl Ring {
    /// The next completion taken in by `enter`.
    pub(crate) fn next(&mut self) -> Option<Completion> {
        let entry = *self.pending.get(self.next)?;
        self.next += 1;
        let token = Token(entry.user_data);
        let more = cqueue::more(entry.flags);
        let kind = token.kind();
        if !more && kind != Kind::RingMessage {
            self.in_flight -= 1;
        }
        let result = usize::try_from(entry.result)
            .map_err(|_| io::Error::from_raw_os_error(entry.result.wrapping_neg()));
        let buffer = cqueue::buffer_select(entry.flags);
        Some(match kind {
            Kind::Datagram => {
                let outcome = self.datagram_outcome(result, buffer);
                Completion::Datagram {
                    port: Port(token.short()),
                    generation: token.generation(),
                    outcome,
                    more,
                }
            }
            Kind::Send => {
                let slot = token.short();
                let done = self.memory.slots.ledger.complete(slot);
                Completion::Sent {
                    slot,
                    outcome: result,
                    done,
                }
            }
            Kind::Accept => {
                let outcome = result.map(|_| owned(entry.result));
                Completion::Accepted {
                    listener: token.short(),
                    outcome,
                    more,
                }
            }
            Kind::Stream => {
                let outcome = self.stream_outcome(result, buffer);
                Completion::Received {
                    conn: token.conn(),
                    outcome,
                    more,
                }
            }
            Kind::Write => {
                let output = &mut self.memory.outputs[token.index() as usize];
                output.busy = false;
                if let Ok(sent) = &result {
                    output.sent += sent;
                }
                Completion::Written {
                    conn: token.conn(),
                    outcome: result,
                }
            }
            Kind::Wake => {
                if !self.closing {
                    self.arm_wake();
                }
                Completion::Woken
            }
            Kind::RingMessage => Completion::Woken,
            Kind::RingWake => {
                let target = self.wakes[token.index() as usize].take();
                if let (Err(_), Some(target)) = (result, target) {
                    target.wake();
                }
                Completion::Done
            }
            Kind::Done => Completion::Done,
        })
    }

    fn datagram_outcome(
        &mut self,
        result: io::Result<usize>,
        buffer: Option<u16>,
    ) -> io::Result<Datagram> {
        if let Some(id) = buffer {
            self.memory.datagrams.taken(id);
        }
        let written = result.inspect_err(|_| {
            if let Some(id) = buffer {
                self.memory.datagrams.recycle(id);
            }
        })?;
        let Some(id) = buffer else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let bytes = self.memory.datagrams.bytes(id, 0..written);
        let offset = u32::try_from(RECEIVE_HEADER_LEN).expect("a small constant");
        // A completion too short for the header cannot be; treated as a damaged datagram.
        let Ok(message) = RecvMsgOut::parse(bytes, &self.header) else {
            let control = Control::default();
            return Ok(Datagram {
                buffer: id,
                offset,
                len: 0,
                from: None,
                control,
                truncated: true,
            });
        };
        Ok(Datagram {
            buffer: id,
            offset,
            len: u32::try_from(message.payload_data().len()).expect("limits are checked"),
            from: decode_name(message.name_data()),
            control: decode_control(message.control_data()),
            truncated: message.is_payload_truncated(),
        })
    }

    fn stream_outcome(
        &mut self,
        result: io::Result<usize>,
        buffer: Option<u16>,
    ) -> io::Result<Option<(u16, u32)>> {
        if let Some(id) = buffer {
            self.memory.streams.taken(id);
        }
        match (result, buffer) {
            (Ok(len), Some(id)) if len > 0 => {
                Ok(Some((id, u32::try_from(len).expect("limits are checked"))))
            }
            (result, buffer) => {
                if let Some(id) = buffer {
                    self.memory.streams.recycle(id);
                }
                result.map(|_| None)
            }
        }
    }
}

/// The descriptor an accept made for us.
fn owned(descriptor: RawFd) -> OwnedFd {
    // SAFETY: called once per successful accept completion; the kernel opened the descriptor for
    // us and nothing else knows it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
