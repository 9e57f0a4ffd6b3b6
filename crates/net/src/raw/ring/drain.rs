//! The end of a ring: closing it is not enough, the kernel finishes later.

use std::mem::ManuallyDrop;
use std::time::Duration;

use io_uring::opcode;
use io_uring::types::CancelBuilder;

use super::memory::{DATAGRAM_GROUP, STREAM_GROUP};
use super::{Completion, Ring};
use crate::token::{Kind, Token};

/// Rounds of cancel and wait before the memory is given up as lost.
const DRAIN_ROUNDS_MAX: usize = 100;
const DRAIN_WAIT: Duration = Duration::from_millis(50);

impl Ring {
    /// Cancels everything and hands each completion to `each` until nothing is under way; `false`
    /// when the kernel did not let go.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(Completion)) -> bool {
        self.closing = true;
        for _ in 0..DRAIN_ROUNDS_MAX {
            while let Some(completion) = self.next() {
                each(completion);
            }
            if self.in_flight == 0 {
                return true;
            }
            let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
            self.push(entry, Token::new(Kind::Done, 0, 0));
            if self.enter(Some(DRAIN_WAIT)).is_err() {
                return false;
            }
        }
        false
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Accepted descriptors that were never handed out are closed by dropping the completion.
        if !self.drain(drop) {
            return;
        }
        for group in [DATAGRAM_GROUP, STREAM_GROUP] {
            // Refused only for a group that was never registered.
            let _ = self.ring.submitter().unregister_buf_ring(group);
        }
        // Wakers may keep the ring itself open; the sockets in its table close now. Refused only
        // when there is no table.
        let _ = self.ring.submitter().unregister_files();
        // SAFETY: nothing is under way any more, so the kernel holds no pointer into `memory`; it
        // is not used after this, since `self` is being dropped.
        unsafe { ManuallyDrop::drop(&mut self.memory) };
    }
}
