//! Waking a worker from another thread.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Wakes one [`Io`](crate::Io) from any thread. Clones wake the same one; waking an `Io` that is
/// gone does nothing.
#[derive(Clone, Debug)]
pub struct Waker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    event: OwnedFd,
    /// The target's ring, a duplicate that stays open as long as somebody may name it.
    ring: Option<OwnedFd>,
}

impl Waker {
    pub(crate) fn new(event: OwnedFd, ring: Option<OwnedFd>) -> Self {
        Self {
            inner: Arc::new(Inner { event, ring }),
        }
    }

    /// Wakes the target by its eventfd: one system call. A worker wakes another with
    /// [`Io::wake`](crate::Io::wake) instead.
    pub fn wake(&self) {
        // Only a full counter refuses (EAGAIN): then the target is awake already.
        let _ = rustix::io::write(&self.inner.event, &1_u64.to_ne_bytes());
    }

    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.inner.event.as_fd()
    }

    pub(crate) fn ring(&self) -> Option<BorrowedFd<'_>> {
        self.inner.ring.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}
