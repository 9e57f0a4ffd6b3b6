//! The CA messages of two hubs that both offer more than lock step, numbers and all (CA-07): a model
//! of its own, fed with what comes to `Control` and what leaves the hub.

use std::collections::{BTreeMap, BTreeSet};

use scsp_wire::{Ca, CaFlags};

use crate::report::Check;

use super::Violation;

/// What both hubs of a pair offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// CA messages in flight, and CSUS messages' worth of summaries asked for.
    pub(crate) width: u32,
    /// Octets of the largest packet with summaries.
    pub(crate) packet: usize,
}

/// Numbers that came, in whatever order.
#[derive(Clone, Debug, Default)]
struct Came {
    /// All up to it have.
    up_to: u32,
    /// Steps behind it, of those that came beyond.
    beyond: BTreeSet<u32>,
    /// The number of the last summaries.
    end: Option<u32>,
}

impl Came {
    fn from(number: u32) -> Self {
        Self {
            up_to: number,
            ..Self::default()
        }
    }

    fn take(&mut self, number: u32, more: bool, width: u32) {
        let step = number.wrapping_sub(self.up_to);
        if !(1..=width).contains(&step) {
            return;
        }
        self.beyond.insert(step);
        if !more && self.end.is_none_or(|end| behind(number, end)) {
            self.end = Some(number);
        }
        while self.beyond.contains(&1) {
            self.pass(1);
        }
        let has_all = self.end.is_some_and(|end| !behind(self.up_to, end));
        if let Some(last) = self.beyond.last().copied().filter(|_| has_all) {
            self.pass(last);
        }
    }

    fn pass(&mut self, steps: u32) {
        self.up_to = self.up_to.wrapping_add(steps);
        let left = self.beyond.iter().filter(|step| **step > steps);
        self.beyond = left.map(|step| step - steps).collect();
    }
}

/// Whether a number lies before another one.
fn behind(number: u32, other: u32) -> bool {
    other.wrapping_sub(number).wrapping_sub(1) < 1 << 31
}

/// One hub's view of an exchange.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exchange {
    /// The number of our last opening, which an answer makes the master's first one.
    opened: Option<u32>,
    /// Answers that came, as master.
    answers: Option<Came>,
    /// The master's messages that came, as slave.
    asked: Option<Came>,
    /// What was said under which number.
    said: BTreeMap<u32, Vec<u8>>,
}

impl Exchange {
    /// A CA message comes to `Control`.
    pub(crate) fn received(&mut self, ca: &Ca<'_>, agreed: Agreed) {
        let (
            number,
            CaFlags {
                master,
                initialize,
                more,
            },
        ) = (ca.seq.0, ca.flags);
        match (master, initialize) {
            (true, true) => self.asked = Some(Came::from(number)),
            (true, false) => {
                if let Some(asked) = &mut self.asked {
                    asked.take(number, more, agreed.width);
                }
            }
            (false, _) if self.answers.is_none() && self.opened == Some(number) => {
                let mut answers = Came::from(number);
                answers.end = (!more).then_some(number);
                self.answers = Some(answers);
            }
            (false, _) => {
                if let Some(answers) = &mut self.answers {
                    answers.take(number, more, agreed.width);
                }
            }
        }
    }

    /// A CA message leaves: `bytes` are what may not change when it is sent again.
    pub(crate) fn sent(
        &mut self,
        ca: &Ca<'_>,
        bytes: &[u8],
        agreed: Agreed,
    ) -> Result<(), Violation> {
        let number = ca.seq.0;
        if ca.flags.initialize {
            if self.opened != Some(number) {
                self.said.clear();
            }
            self.opened = Some(number);
            self.answers = None;
            return Ok(());
        }
        let outstanding = |detail: String| Err((Check::CaOutstanding, detail));
        if ca.flags.master {
            let Some(answers) = &self.answers else {
                return outstanding(format!("number {number} without an answer to the opening"));
            };
            let step = number.wrapping_sub(answers.up_to);
            if step > agreed.width && !behind(number, answers.up_to) {
                return outstanding(format!("number {number}, answered up to {}", answers.up_to));
            }
        } else {
            let Some(asked) = &self.asked else {
                return outstanding(format!("number {number} answers nothing"));
            };
            if behind(asked.up_to, number) {
                return outstanding(format!("number {number}, whole up to {}", asked.up_to));
            }
        }
        let said = self.said.entry(number).or_insert_with(|| bytes.to_vec());
        if said != bytes {
            return outstanding(format!("number {number} once more with something else"));
        }
        while self.said.len() > 4 * 64 {
            let first = self.said.keys().next().copied();
            first.and_then(|first| self.said.remove(&first));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: numbers come in any order, over the end of the number space, and end early.
    #[test]
    fn numbers_that_came() {
        let mut came = Came::from(u32::MAX - 1);
        for number in [1, u32::MAX, 5, 70] {
            came.take(number, true, 8);
        }
        assert_eq!((came.up_to, came.beyond.len()), (u32::MAX, 2));
        came.take(2, false, 8);
        came.take(0, true, 8);
        assert_eq!((came.up_to, came.beyond.len()), (5, 0), "2 was the end");
        assert!(behind(5, 6) && behind(u32::MAX, 0) && !behind(6, 6) && !behind(6, 5));
    }
}
