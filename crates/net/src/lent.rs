//! The one receive buffer that the application may be reading.

use crate::Buffer;
use crate::event::Pool;

/// At most one buffer is lent at a time; its serial number tells it from all earlier ones.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    serial: u64,
    current: Option<(Pool, u16)>,
}

impl Lent {
    pub(crate) fn lend(&mut self, pool: Pool, id: u16, offset: u32, len: u32) -> Buffer {
        assert!(self.current.is_none(), "one buffer is lent at a time");
        self.serial += 1;
        self.current = Some((pool, id));
        Buffer {
            serial: self.serial,
            pool,
            id,
            offset,
            len,
        }
    }

    /// Ends the loan; the buffer to give back, if one was lent.
    pub(crate) fn end(&mut self) -> Option<(Pool, u16)> {
        self.current.take()
    }

    /// Panics when the loan is over.
    pub(crate) fn check(&self, buffer: Buffer) {
        let live = self.serial == buffer.serial && self.current == Some((buffer.pool, buffer.id));
        assert!(
            live,
            "received bytes used after the next event was asked for"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a handle works until its loan ends and never after, even for the same buffer.
    #[test]
    fn a_loan_ends_for_good() {
        let mut lent = Lent::default();
        let first = lent.lend(Pool::Streams, 3, 0, 5);
        lent.check(first);
        assert_eq!(lent.end(), Some((Pool::Streams, 3)));
        assert_eq!(lent.end(), None);
        let second = lent.lend(Pool::Streams, 3, 0, 5);
        lent.check(second);
        let stale = std::panic::AssertUnwindSafe(|| lent.check(first));
        assert!(std::panic::catch_unwind(stale).is_err());
    }
}
