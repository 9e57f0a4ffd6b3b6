//! The cache alignment machine (RFC 2334 2.2, B.2.1): one for each DCS and instance.
//!
//! [`judge`] is the whole table: what a CA message means in each state and role. [`Alignment`]
//! holds what an exchange needs to remember; `control/exchange.rs` carries the verdicts out.

use std::cmp::Ordering;
use std::collections::VecDeque;

use scsp_wire::CaSeq;

use crate::Time;
use crate::message::{Epoch, Page};
use crate::setup::ShardIndex;

/// State of a cache alignment machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The hello machine is not Bidirectional.
    Down,
    /// Master/Slave Negotiation (2.2.1).
    Negotiation,
    /// Cache Summarize (2.2.2).
    Summarize,
    /// Update Cache (2.2.3).
    Update,
    /// Aligned (2.2.4).
    Aligned,
}

impl State {
    /// Every state, in the order of the metrics.
    pub const ALL: [Self; 5] = [
        Self::Down,
        Self::Negotiation,
        Self::Summarize,
        Self::Update,
        Self::Aligned,
    ];

    /// Name in metrics and replies.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Negotiation => "negotiation",
            Self::Summarize => "summarize",
            Self::Update => "update",
            Self::Aligned => "aligned",
        }
    }

    /// Whether CSU messages may be sent and taken in (CSU-01).
    pub const fn is_updating(self) -> bool {
        matches!(self, Self::Update | Self::Aligned)
    }
}

/// Role in the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Larger id: asks and resends.
    Master,
    /// Smaller id: answers.
    Slave,
}

impl Role {
    /// Name in replies.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Slave => "slave",
        }
    }
}

/// How a received CA sequence lies to ours. Sequences are compared as serial numbers, so that an
/// exchange may run over the end of the number space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offset {
    /// Smaller than own - 1.
    Older,
    /// own - 1.
    Previous,
    /// own.
    Same,
    /// own + 1.
    Next,
    /// Larger than own + 1.
    Newer,
}

impl Offset {
    /// Every offset.
    pub const ALL: [Self; 5] = [
        Self::Older,
        Self::Previous,
        Self::Same,
        Self::Next,
        Self::Newer,
    ];

    /// Where `received` lies relative to `own`.
    pub const fn of(received: CaSeq, own: CaSeq) -> Self {
        match received.0.wrapping_sub(own.0) {
            0 => Self::Same,
            1 => Self::Next,
            u32::MAX => Self::Previous,
            2..=0x7FFF_FFFF => Self::Newer,
            _ => Self::Older,
        }
    }
}

/// What the table needs to know of a CA message.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are the flags of the message"
)]
pub struct Signal {
    /// M bit.
    pub master: bool,
    /// I bit.
    pub initialize: bool,
    /// O bit.
    pub more: bool,
    /// No summaries in it.
    pub empty: bool,
    /// Its sequence against ours.
    pub offset: Offset,
    /// Sender id against LSID (D-01).
    pub sender: Ordering,
}

/// What a CA message means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Nothing.
    Ignore,
    /// Negotiation, rule 1 (CA-04).
    BecomeSlave,
    /// Negotiation, rule 2 (CA-05).
    BecomeMaster,
    /// The exchange starts over (CA-08, CA-14, D-17).
    Renegotiate,
    /// The exchange starts over and the message counts in it (CA-22).
    RenegotiateAndJudge,
    /// A repetition: our last CA goes out again (CA-12, CA-15).
    Resend,
    /// The next step of the exchange (CA-10, CA-13).
    Accept,
}

/// Cache alignment machine (RFC 2334 2.2): the meaning of a CA message. `keeps_last` says whether
/// a slave still keeps its last CA (CA-15).
pub fn judge(state: State, role: Role, keeps_last: bool, signal: Signal) -> Verdict {
    use Offset::{Newer, Next, Older, Previous, Same};
    match state {
        State::Down => Verdict::Ignore,
        State::Negotiation => judge_negotiation(signal),
        State::Summarize => match (role, signal.offset) {
            _ if signal.initialize => Verdict::Renegotiate, // CA-08
            (Role::Master, _) if signal.master => Verdict::Renegotiate, // CA-08
            (Role::Slave, _) if !signal.master => Verdict::Renegotiate, // CA-08
            (Role::Master, Previous) => Verdict::Ignore,    // CA-09
            (Role::Master, Same) => Verdict::Accept,        // CA-10
            (Role::Master, Older | Next | Newer) => Verdict::Ignore, // D-07
            (Role::Slave, Same) => Verdict::Resend,         // CA-12
            (Role::Slave, Next) => Verdict::Accept,         // CA-13
            (Role::Slave, Older | Previous | Newer) => Verdict::Renegotiate, // CA-14
        },
        State::Update | State::Aligned => match (role, signal.offset) {
            _ if signal.initialize => Verdict::RenegotiateAndJudge, // CA-22
            // D-17
            (_, Older | Previous) => Verdict::Ignore,
            (_, Next | Newer) => Verdict::Renegotiate,
            (Role::Master, Same) if signal.master => Verdict::Renegotiate,
            (Role::Slave, Same) if !signal.master => Verdict::Renegotiate,
            (Role::Slave, Same) if keeps_last => Verdict::Resend, // CA-15
            (Role::Master | Role::Slave, Same) => Verdict::Ignore,
        },
    }
}

fn judge_negotiation(signal: Signal) -> Verdict {
    let opens = signal.master && signal.initialize && signal.more && signal.empty;
    let answers = !signal.master && !signal.initialize && signal.offset == Offset::Same;
    match signal.sender {
        Ordering::Greater if opens => Verdict::BecomeSlave, // CA-04
        Ordering::Less if answers => Verdict::BecomeMaster, // CA-05
        Ordering::Less | Ordering::Equal | Ordering::Greater => Verdict::Ignore, // CA-06
    }
}

/// Prepared summaries of one shard that wait to be sent.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub(crate) pages: VecDeque<Page>,
    /// Octets of the first page that are sent already.
    pub(crate) consumed: usize,
    /// The first page has come, which the shard sends unasked. Nothing else counts before.
    pub(crate) opened: bool,
    /// Whether the shard has more after the pages it delivered.
    pub(crate) more: bool,
    /// A page is asked for and has not come.
    pub(crate) requested: bool,
}

/// Pages of one shard that are kept ready, so that an exchange does not wait for its shards.
const PAGES_AHEAD: usize = 2;

impl Source {
    pub(crate) fn is_drained(&self) -> bool {
        self.pages.is_empty() && !self.more
    }

    /// Whether another page is to be asked for; it counts as asked for then.
    pub(crate) fn wants_page(&mut self) -> bool {
        let wants = self.more && !self.requested && self.pages.len() < PAGES_AHEAD;
        self.requested |= wants;
        wants
    }
}

/// Who may solicit from the neighbour: one shard at a time, so that at most one CSUS is
/// outstanding (CA-19).
#[derive(Debug, Default)]
pub(crate) struct Turns {
    pub(crate) holder: Option<ShardIndex>,
    pub(crate) waiting: VecDeque<ShardIndex>,
    /// Shards that have not compared all summaries yet.
    pub(crate) comparing: u16,
}

impl Turns {
    /// The shard whose turn begins now, if any.
    pub(crate) fn grant(&mut self) -> Option<ShardIndex> {
        if self.holder.is_some() {
            return None;
        }
        self.holder = self.waiting.pop_front();
        self.holder
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.holder.is_none() && self.waiting.is_empty() && self.comparing == 0
    }
}

/// Cache alignment machine of one DCS.
#[derive(Debug)]
pub struct Alignment {
    pub(crate) state: State,
    pub(crate) since: Time,
    /// Meaningful from Summarize on.
    pub(crate) role: Role,
    pub(crate) epoch: Epoch,
    pub(crate) sequence: CaSeq,
    /// Last sequence of our own choice, so that the next one is larger.
    pub(crate) used: CaSeq,
    /// Last CA sent, for resending; empty when none is kept.
    pub(crate) last_ca: Vec<u8>,
    /// O bit of the last CA sent.
    pub(crate) sent_more: bool,
    /// O bit of the last CA taken in.
    pub(crate) received_more: bool,
    /// A CA is to be sent as soon as its summaries are there.
    pub(crate) owed: bool,
    /// When to resend the last CA.
    pub(crate) resend_at: Option<Time>,
    pub(crate) sources: Vec<Source>,
    pub(crate) turns: Turns,
    /// When Negotiation was entered last.
    pub(crate) started: Time,
    pub(crate) adopted: Adopted,
}

/// Sequences that this server adopted as slave.
///
/// A repeated or delayed opening CA may lead it to adopt a sequence for a second time (CA-08,
/// CA-04). The master may then have taken in the summaries of the first time, and what the first
/// page holds only now would be lost to it (CA-17).
#[derive(Debug, Default)]
pub(crate) struct Adopted {
    recent: [Option<CaSeq>; 8],
    next: usize,
    /// The first summaries of this exchange may not reach the master.
    doubtful: bool,
}

impl Adopted {
    pub(crate) fn adopt(&mut self, sequence: CaSeq) {
        self.doubtful = self.recent.contains(&Some(sequence));
        self.recent[self.next] = Some(sequence);
        self.next = (self.next + 1) % self.recent.len();
    }

    /// Whether what was just summarized is to be offered by CSU Request as well; said once.
    pub(crate) fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.doubtful)
    }
}

impl Alignment {
    /// A machine in Down that serves `shards` shards.
    pub fn new(now: Time, shards: u16) -> Self {
        Self {
            state: State::Down,
            since: now,
            role: Role::Slave,
            epoch: Epoch::default(),
            sequence: CaSeq(0),
            used: CaSeq(0),
            last_ca: Vec::new(),
            sent_more: true,
            received_more: true,
            owed: false,
            resend_at: None,
            sources: (0..shards).map(|_| Source::default()).collect(),
            turns: Turns::default(),
            started: now,
            adopted: Adopted::default(),
        }
    }

    /// Current state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Role, from Summarize on.
    pub fn role(&self) -> Option<Role> {
        match self.state {
            State::Down | State::Negotiation => None,
            State::Summarize | State::Update | State::Aligned => Some(self.role),
        }
    }

    /// The sequence of the next message.
    pub(crate) fn advance(&mut self) {
        self.sequence = self.sequence.next();
        if self.role == Role::Master {
            self.used = self.sequence;
        }
    }

    /// Forgets the exchange and begins a new incarnation.
    pub(crate) fn reset(&mut self) {
        self.epoch = Epoch(self.epoch.0.wrapping_add(1));
        self.last_ca.clear();
        self.sent_more = true;
        self.received_more = true;
        self.owed = false;
        self.resend_at = None;
        self.sources.fill_with(Source::default);
        self.turns = Turns::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        Page {
            bytes: vec![0; 8],
            more: true,
        }
    }

    /// Goal: sequences are compared as serial numbers, each of the five places for itself, over the
    /// end of the number space as well.
    #[test]
    fn ca_14_sequences_are_serial_numbers() {
        for own in [0, 1, 900, 0x7FFF_FFFF, 0x8000_0000, u32::MAX] {
            for (ahead, offset) in [
                (0, Offset::Same),
                (1, Offset::Next),
                (2, Offset::Newer),
                (0x7FFF_FFFF, Offset::Newer),
                (0x8000_0000, Offset::Older),
                (u32::MAX - 1, Offset::Older),
                (u32::MAX, Offset::Previous),
            ] {
                let received = CaSeq(own.wrapping_add(ahead));
                assert_eq!(Offset::of(received, CaSeq(own)), offset, "{own} + {ahead}");
            }
        }
    }

    /// Goal: a page is asked for while fewer than two are at hand and the shard has more, and never
    /// a second one before the first has come: what is prepared stays bounded.
    #[test]
    fn ca_10_two_pages_are_kept_ready() {
        let mut source = Source {
            more: true,
            opened: true,
            ..Source::default()
        };
        assert!(source.wants_page());
        assert!(!source.wants_page(), "asked for already");
        for (pages, wants) in [(1, true), (2, false)] {
            source.pages.push_back(page());
            source.requested = false;
            assert_eq!(source.wants_page(), wants, "{pages} at hand");
        }
        source.pages.clear();
        source.more = false;
        assert!(!source.wants_page(), "there are no more");
    }

    /// Goal: a sequence counts as adopted before while at most seven others were adopted since, and
    /// the doubt is said once.
    #[test]
    fn ca_17_adopted_sequences_are_remembered() {
        let mut adopted = Adopted::default();
        for sequence in 0..9 {
            adopted.adopt(CaSeq(sequence));
            assert!(!adopted.take_doubt(), "{sequence} is new");
        }
        for sequence in 1..9 {
            let mut adopted = Adopted {
                recent: adopted.recent,
                ..Adopted::default()
            };
            adopted.adopt(CaSeq(sequence));
            assert!(adopted.take_doubt(), "{sequence} came before");
            assert!(!adopted.take_doubt());
        }
        adopted.adopt(CaSeq(0));
        assert!(!adopted.take_doubt(), "too long ago");
    }
}
