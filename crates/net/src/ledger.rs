//! Who owns each slot: pure bookkeeping that `raw` trusts with its memory.

/// Owner of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nobody: may be taken.
    Free,
    /// The application: may read and write it.
    App,
    /// The kernel, for this many operations: hands off.
    Kernel(u16),
}

/// Owners of a fixed number of slots, with a stack of the free ones (the last used comes first,
/// its memory is still in the cache).
#[derive(Debug)]
pub(crate) struct Ledger {
    owners: Box<[Owner]>,
    free: Vec<u16>,
}

impl Ledger {
    /// All slots free.
    pub(crate) fn new(count: u16) -> Self {
        Self {
            owners: vec![Owner::Free; usize::from(count)].into(),
            free: (0..count).rev().collect(),
        }
    }

    /// All slots with the kernel, one operation each: a provided-buffer ring that was just filled.
    pub(crate) fn lent(count: u16) -> Self {
        Self {
            owners: vec![Owner::Kernel(1); usize::from(count)].into(),
            free: Vec::new(),
        }
    }

    /// Free → App.
    pub(crate) fn take(&mut self) -> Option<u16> {
        let slot = self.free.pop()?;
        self.owners[usize::from(slot)] = Owner::App;
        Some(slot)
    }

    /// App → Free.
    pub(crate) fn release(&mut self, slot: u16) {
        self.expect_app(slot);
        self.owners[usize::from(slot)] = Owner::Free;
        self.free.push(slot);
    }

    /// App → Kernel for `operations` (at least one).
    pub(crate) fn lend(&mut self, slot: u16, operations: u16) {
        self.expect_app(slot);
        assert!(operations > 0, "lending a slot for nothing");
        self.owners[usize::from(slot)] = Owner::Kernel(operations);
    }

    /// One operation is over; with the last one Kernel → App, and `true`.
    pub(crate) fn complete(&mut self, slot: u16) -> bool {
        let owner = &mut self.owners[usize::from(slot)];
        match *owner {
            Owner::Kernel(1) => {
                *owner = Owner::App;
                true
            }
            Owner::Kernel(operations) => {
                *owner = Owner::Kernel(operations - 1);
                false
            }
            Owner::Free | Owner::App => panic!("slot {slot} completed but was not lent"),
        }
    }

    /// Panics unless the application owns the slot.
    pub(crate) fn expect_app(&self, slot: u16) {
        let owner = self.owners[usize::from(slot)];
        assert_eq!(owner, Owner::App, "slot {slot} is not the application's");
    }

    /// Slots that may be taken.
    pub(crate) fn free_len(&self) -> usize {
        self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Goal: under any order of valid steps the ledger agrees with a plain model, and the free
        /// stack holds exactly the free slots.
        #[test]
        fn ledger_follows_a_model(steps in prop::collection::vec((0_u8..4, 0_u16..8, 1_u16..4), 0..200)) {
            let mut ledger = Ledger::new(8);
            let mut model = [Owner::Free; 8];
            for (step, slot, operations) in steps {
                let at = usize::from(slot);
                match (step, model[at]) {
                    (0, _) => match ledger.take() {
                        Some(taken) => {
                            prop_assert_eq!(model[usize::from(taken)], Owner::Free);
                            model[usize::from(taken)] = Owner::App;
                        }
                        None => prop_assert!(model.iter().all(|owner| *owner != Owner::Free)),
                    },
                    (1, Owner::App) => {
                        ledger.release(slot);
                        model[at] = Owner::Free;
                    }
                    (2, Owner::App) => {
                        ledger.lend(slot, operations);
                        model[at] = Owner::Kernel(operations);
                    }
                    (3, Owner::Kernel(left)) => {
                        prop_assert_eq!(ledger.complete(slot), left == 1);
                        model[at] = if left == 1 { Owner::App } else { Owner::Kernel(left - 1) };
                    }
                    _ => {}
                }
                prop_assert_eq!(&ledger.owners[..], &model[..]);
                let free = model.iter().filter(|owner| **owner == Owner::Free).count();
                prop_assert_eq!(ledger.free_len(), free);
            }
        }

        /// Goal: every step that the owner does not allow panics instead of corrupting the ledger.
        #[test]
        fn ledger_refuses_foreign_slots(step in 0_u8..4, owner in 0_u8..3) {
            let outcome = std::panic::catch_unwind(|| {
                let mut ledger = Ledger::new(1);
                if owner > 0 {
                    ledger.take();
                }
                if owner > 1 {
                    ledger.lend(0, 1);
                }
                match step {
                    0 => ledger.release(0),
                    1 => ledger.lend(0, 1),
                    2 => ledger.expect_app(0),
                    _ => { ledger.complete(0); }
                }
            });
            let allowed = match step { 0..=2 => owner == 1, _ => owner == 2 };
            prop_assert_eq!(outcome.is_ok(), allowed);
        }
    }

    /// Goal: a lent ledger starts with the kernel and gives nothing away.
    #[test]
    fn lent_ledger_starts_with_the_kernel() {
        let mut ledger = Ledger::lent(2);
        assert_eq!(ledger.take(), None);
        assert!(ledger.complete(1));
        ledger.expect_app(1);
        ledger.lend(1, 1);
        assert!(ledger.complete(1));
    }
}
