//! Numbers of the CA messages of one exchange (RFC 2334 2.2.2): what was sent and is kept, what has
//! come, what may be sent next.
//!
//! The master gives the numbers, the slave answers under the number it was asked by. In lock step,
//! as RFC 2334 has it, one number is under way at a time (CA-07). Between two servers that offer it
//! to each other, up to `width` are:
//!
//! * The master goes no further than `width` beyond the last number whose answer has come, with
//!   all answers before.
//! * The slave takes summaries in as they come, and answers a number when it has everything up to
//!   it: so an answer acknowledges all up to its number. A number of the master says that it has
//!   all answers up to `width` before it, and the slave keeps no others.
//! * O off marks each side's last summaries. Beyond them its messages are empty, so it may leave
//!   numbers out: the next message then stands for those, and one in a quarter of the window does.
//!
//! With a width of 1 all of this is lock step.

use std::collections::VecDeque;

use scsp_wire::CaSeq;

use super::{Offset, Role};

/// Largest width: numbers that came out of order are bits of a word.
pub(crate) const WIDTH_MAX: u16 = 64;
/// Messages behind a missing one after which it counts as lost and not only as late: half a window,
/// since they may take several ways through a server, and no less than this.
const LATE_MIN: u16 = 3;

/// The messages of one exchange.
#[derive(Debug)]
pub(crate) struct Flow {
    width: u16,
    /// The last number sent.
    sent: CaSeq,
    /// All of the neighbour's messages up to this number have come.
    came: CaSeq,
    /// Those beyond that have come too: bit n is number `came` + 1 + n.
    ahead: u64,
    /// The number of our last summaries, O off.
    ours: Option<CaSeq>,
    /// That of the neighbour's.
    theirs: Option<CaSeq>,
    /// Messages that may have to be sent again, not signed, in the order of their numbers.
    kept: VecDeque<(CaSeq, Vec<u8>)>,
    /// The neighbour asks again for what would be answered a little later.
    is_urgent: bool,
    /// The number that was sent again last before its time, or whose absence was pointed out.
    hastened: Option<CaSeq>,
}

impl Default for Flow {
    fn default() -> Self {
        Self::negotiating(CaSeq(0))
    }
}

impl Flow {
    /// Negotiation under a number of our own (CA-02).
    pub(crate) const fn negotiating(number: CaSeq) -> Self {
        Self {
            width: 1,
            sent: number,
            came: CaSeq(number.0.wrapping_sub(1)),
            ahead: 0,
            ours: None,
            theirs: None,
            kept: VecDeque::new(),
            is_urgent: false,
            hastened: None,
        }
    }

    /// Our opening was answered under its number, or that of the neighbour is to be answered; the
    /// message itself is still to be taken in.
    pub(crate) fn opened(role: Role, number: CaSeq, width: u16) -> Self {
        let negotiating = Self::negotiating(number);
        Self {
            width: width.clamp(1, WIDTH_MAX),
            sent: match role {
                Role::Master => number,
                Role::Slave => negotiating.came,
            },
            ..negotiating
        }
    }

    /// Numbers that may be under way.
    pub(crate) const fn width(&self) -> u16 {
        self.width
    }

    /// Where a received number lies, as the table of the machine has it (`judge`). Of several
    /// numbers that may come, each is the awaited one.
    pub(crate) fn place(&self, role: Role, number: CaSeq) -> Offset {
        if self.width == 1 {
            let own = match role {
                Role::Master => self.came.next(), // CA-10
                Role::Slave => self.came,
            };
            return Offset::of(number, own);
        }
        let beyond = distance(self.came, number);
        match role {
            Role::Master if distance(self.sent, number) > 0 => Offset::Newer,
            Role::Master if beyond <= 0 || self.has_come(beyond) => Offset::Previous,
            Role::Master => Offset::Same,
            // What it asks for again, and what it asks for beyond the end.
            Role::Slave if beyond <= 0 => Offset::Same,
            Role::Slave if beyond > i32::from(self.width) => Offset::Newer,
            Role::Slave if self.is_over(role) || self.has_come(beyond) => Offset::Same,
            Role::Slave => Offset::Next,
        }
    }

    /// Takes note of a message that was awaited.
    pub(crate) fn take(&mut self, role: Role, number: CaSeq, more: bool) {
        if self.width == 1 {
            self.theirs = (!more).then_some(number); // The last word counts.
        } else if !more {
            let first = |end| {
                if distance(end, number) < 0 {
                    number
                } else {
                    end
                }
            };
            self.theirs = Some(self.theirs.map_or(number, first));
        }
        if let Ok(beyond @ 1..=64) = u32::try_from(distance(self.came, number)) {
            self.ahead |= 1 << (beyond - 1);
        }
        let in_order = self.ahead.trailing_ones();
        self.pass(in_order);
        if self.has_theirs() {
            self.pass(u64::BITS - self.ahead.leading_zeros()); // One stands for all before.
        }
        match role {
            Role::Master => self.drop_kept(self.came),
            Role::Slave => {
                let last = u64::BITS - self.ahead.leading_zeros();
                let answered = self.came.0.wrapping_add(last);
                self.drop_kept(CaSeq(answered.wrapping_sub(self.width.into())));
            }
        }
    }

    /// The number of the message to be sent next, unless the neighbour's come first.
    pub(crate) fn next(&self, role: Role) -> Option<CaSeq> {
        let stride = i32::from(self.width / 4).max(1);
        match role {
            Role::Master => {
                let last = CaSeq(self.came.0.wrapping_add(self.width.into()));
                let free = distance(self.sent, last);
                let asked = self.theirs.is_some_and(|it| distance(self.sent, it) <= 0);
                match self.ours {
                    _ if free <= 0 => None, // CA-07
                    None => Some(self.sent.next()),
                    Some(_) if asked && self.width > 1 => None,
                    Some(_) => (free >= stride).then_some(last),
                }
            }
            Role::Slave => {
                let owed = distance(self.sent, self.came);
                let at_once = self.is_urgent || self.has_theirs() || self.misses_one();
                match self.ours {
                    _ if owed <= 0 => None,
                    None => Some(self.sent.next()),
                    Some(_) => (at_once || owed >= stride).then_some(self.came),
                }
            }
        }
    }

    /// Takes note of a message sent and keeps it. In lock step only the last one is kept, and a
    /// slave's until its answer has surely come.
    pub(crate) fn sent(&mut self, role: Role, number: CaSeq, more: bool, bytes: Vec<u8>) {
        self.sent = number;
        self.is_urgent = false;
        if !more {
            self.ours.get_or_insert(number);
        }
        if role == Role::Slave {
            self.drop_kept(CaSeq(number.0.wrapping_sub(self.width.into())));
        }
        self.kept.push_back((number, bytes));
    }

    /// Whether both sides have said everything and know it (CA-10, CA-13).
    pub(crate) fn is_over(&self, role: Role) -> bool {
        let (Some(ours), Some(theirs)) = (self.ours, self.theirs) else {
            return false;
        };
        let reached = |at, end| distance(end, at) >= 0;
        match role {
            Role::Master => reached(self.came, ours) && reached(self.came, theirs),
            Role::Slave => {
                self.has_theirs() && reached(self.sent, ours) && reached(self.sent, theirs)
            }
        }
    }

    /// Whether our last summaries are sent.
    pub(crate) const fn is_exhausted(&self) -> bool {
        self.ours.is_some()
    }

    /// Whether a message of the master waits for its answer.
    pub(crate) fn is_waiting(&self) -> bool {
        distance(self.came, self.sent) > 0
    }

    /// The master's numbers without an answer.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = CaSeq> + use<> {
        let (came, ahead) = (self.came, self.ahead);
        let count = u32::try_from(distance(came, self.sent)).unwrap_or(0);
        (0..count.min(WIDTH_MAX.into()))
            .filter(move |bit| ahead >> bit & 1 == 0)
            .map(move |bit| CaSeq(came.0.wrapping_add(bit + 1)))
    }

    /// What was sent under a number.
    pub(crate) fn message(&self, number: CaSeq) -> Option<&[u8]> {
        let found = self.kept.iter().find(|(kept, _)| *kept == number);
        found.map(|(_, bytes)| &bytes[..])
    }

    /// The slave's answer to a number that came again: the one that stands for it, if it is kept.
    /// One that is still to come comes at once.
    pub(crate) fn answer_again(&mut self, number: CaSeq) -> Option<&[u8]> {
        let is_late = distance(self.sent, number) > 0;
        if is_late && !self.is_over(Role::Slave) {
            self.is_urgent |= self.width > 1 && distance(number, self.came) >= 0;
            return None;
        }
        let stands =
            |kept: &CaSeq| *kept == number || distance(number, *kept) > 0 && self.is_empty(*kept);
        let found = self.kept.iter().find(|(kept, _)| stands(kept));
        let last = self.kept.back().filter(|_| is_late);
        found.or(last).map(|(_, bytes)| &bytes[..])
    }

    /// The last message sent, while it is kept.
    pub(crate) fn last_message(&self) -> Option<&[u8]> {
        self.kept.back().map(|(_, bytes)| &bytes[..])
    }

    /// Nothing has to be sent again.
    pub(crate) fn release(&mut self) {
        self.kept.clear();
    }

    /// Whether anything is kept (CA-15).
    pub(crate) fn keeps_any(&self) -> bool {
        !self.kept.is_empty()
    }

    /// The number that must be lost, judged by those that came behind it; each is named once.
    pub(crate) fn lost(&mut self) -> Option<CaSeq> {
        let first = self.came.next();
        (self.misses_one() && self.hastened != Some(first)).then(|| {
            self.hastened = Some(first);
            first
        })
    }

    /// The same, judged by an answer that came again: the slave points out what it misses.
    pub(crate) fn lost_by(&mut self, number: CaSeq) -> Option<CaSeq> {
        let first = self.came.next();
        let told = self.width > 1 && number == self.came && self.is_waiting();
        (told && self.hastened != Some(first)).then(|| {
            self.hastened = Some(first);
            first
        })
    }

    fn misses_one(&self) -> bool {
        self.ahead.count_ones() >= u32::from(LATE_MIN.max(self.width / 2))
    }

    fn has_come(&self, beyond: i32) -> bool {
        u32::try_from(beyond)
            .is_ok_and(|it| (1..=64).contains(&it) && self.ahead >> (it - 1) & 1 == 1)
    }

    /// Everything that the neighbour has to say has come.
    fn has_theirs(&self) -> bool {
        self.theirs.is_some_and(|end| distance(end, self.came) >= 0)
    }

    /// Whether our message under this number says nothing but that it is one.
    fn is_empty(&self, number: CaSeq) -> bool {
        self.ours.is_some_and(|end| distance(end, number) > 0)
    }

    fn pass(&mut self, numbers: u32) {
        self.came = CaSeq(self.came.0.wrapping_add(numbers));
        self.ahead = self.ahead.checked_shr(numbers).unwrap_or(0);
    }

    fn drop_kept(&mut self, up_to: CaSeq) {
        while self
            .kept
            .front()
            .is_some_and(|(kept, _)| distance(*kept, up_to) >= 0)
        {
            self.kept.pop_front();
        }
    }
}

/// How far `to` lies behind `from`, as serial numbers.
const fn distance(from: CaSeq, to: CaSeq) -> i32 {
    to.0.wrapping_sub(from.0).cast_signed()
}

#[cfg(test)]
mod tests;
