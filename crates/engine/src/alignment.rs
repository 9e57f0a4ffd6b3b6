//! The cache alignment machine (RFC 2334 2.2, B.2.1): one for each DCS and instance.
//!
//! [`judge`] is the whole table: what a CA message means in each state and role. [`Alignment`]
//! holds what an exchange needs to remember, `Flow` its numbers; `control/exchange.rs` and
//! `control/summaries.rs` carry the verdicts out.

mod flow;

use std::cmp::Ordering;
use std::collections::VecDeque;

use scsp_wire::{AlignmentOffer, CaSeq};

use crate::Time;
use crate::message::{Epoch, Page};
use crate::setup::ShardIndex;

pub(crate) use flow::Flow;

/// Octets of CA messages in flight that fit the default receive buffer of a Linux socket, overhead
/// included.
const IN_FLIGHT_OCTETS: usize = 128 * 1024;
/// Smallest packet size that is taken seriously.
const PACKET_LEN_MIN: u16 = 128;

/// What to offer for alignments over a link with this packet limit: as many messages in flight as
/// a receiver takes in one go, each as large as the link carries in one piece. A larger packet would
/// be lost with any of its fragments, and the window makes up for the size.
pub fn offer(packet_limit: usize) -> AlignmentOffer {
    let packet = u16::try_from(packet_limit).unwrap_or(u16::MAX);
    let window = IN_FLIGHT_OCTETS / usize::from(packet.max(PACKET_LEN_MIN));
    let window = u16::try_from(window).unwrap_or(u16::MAX);
    AlignmentOffer {
        window: window.clamp(2, flow::WIDTH_MAX),
        packet,
    }
}

/// What two servers both offer: the smaller numbers. `None`: too little for more than lock step.
pub(crate) fn agree(ours: AlignmentOffer, theirs: AlignmentOffer) -> Option<AlignmentOffer> {
    let both = AlignmentOffer {
        window: ours.window.min(theirs.window).min(flow::WIDTH_MAX),
        packet: ours.packet.min(theirs.packet),
    };
    (both.window > 1 && both.packet >= PACKET_LEN_MIN).then_some(both)
}

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
    /// Whether the shard has more after the pages it delivered. True until the first comes.
    pub(crate) more: bool,
    /// Pages that are asked for and have not come.
    pub(crate) requested: usize,
}

/// Pages of one shard that are at hand or asked for, so that an exchange does not wait for its
/// shards.
const PAGES_AHEAD: usize = 4;

impl Source {
    pub(crate) fn is_drained(&self) -> bool {
        self.pages.is_empty() && !self.more
    }

    /// Whether another page is to be asked for; it counts as asked for then.
    pub(crate) fn wants_page(&mut self) -> bool {
        let wants = self.more && self.opened && self.pages.len() + self.requested < PAGES_AHEAD;
        self.requested += usize::from(wants);
        wants
    }
}

/// Who may solicit from the neighbour. In lock step one shard at a time, so that at most one CSUS
/// is outstanding (CA-19); otherwise as many as there may be CSUS messages.
#[derive(Debug)]
pub(crate) struct Turns {
    /// How many may at a time.
    pub(crate) most: u16,
    pub(crate) holders: Vec<ShardIndex>,
    pub(crate) waiting: VecDeque<ShardIndex>,
    /// Shards that have not compared all summaries yet.
    pub(crate) comparing: u16,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            most: 1,
            holders: Vec::new(),
            waiting: VecDeque::new(),
            comparing: 0,
        }
    }
}

impl Turns {
    /// A shard whose turn begins now, if any.
    pub(crate) fn grant(&mut self) -> Option<ShardIndex> {
        if self.holders.len() >= usize::from(self.most) {
            return None;
        }
        let shard = self.waiting.pop_front()?;
        self.holders.push(shard);
        Some(shard)
    }

    /// A turn is over; whether there was one.
    pub(crate) fn end(&mut self, shard: ShardIndex) -> bool {
        let held = self.holders.iter().position(|holder| *holder == shard);
        held.map(|at| self.holders.swap_remove(at)).is_some()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.holders.is_empty() && self.waiting.is_empty() && self.comparing == 0
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
    /// The messages of the exchange.
    pub(crate) flow: Flow,
    /// Octets of the largest packet with summaries.
    pub(crate) packet_limit: usize,
    /// Our CA messages under the number that was negotiated carry our offer.
    pub(crate) offers: bool,
    /// Times that unanswered messages were sent again since one was answered.
    pub(crate) fruitless: u32,
    /// Exchanges with several messages in flight did not come forward: until one ends, the next
    /// ones are in lock step.
    pub(crate) is_cautious: bool,
    /// Last sequence of our own choice, so that the next one is larger.
    pub(crate) used: CaSeq,
    /// When to resend what is not answered.
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

    /// Whether the sequence was adopted before.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.doubtful
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
            flow: Flow::default(),
            packet_limit: 0,
            offers: false,
            fruitless: 0,
            is_cautious: false,
            used: CaSeq(0),
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

    /// Forgets the exchange and begins a new incarnation.
    pub(crate) fn reset(&mut self) {
        self.epoch = Epoch(self.epoch.0.wrapping_add(1));
        self.flow = Flow::default();
        self.offers = false;
        self.fruitless = 0;
        self.resend_at = None;
        for source in &mut self.sources {
            *source = Source {
                more: true,
                requested: 1,
                ..Source::default()
            };
        }
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

    /// Goal: pages are asked for while fewer than four are at hand or on their way and the shard
    /// has more: what is prepared stays bounded.
    #[test]
    fn ca_10_four_pages_are_kept_ready() {
        let mut source = Source {
            more: true,
            opened: true,
            ..Source::default()
        };
        let asked = std::iter::from_fn(|| source.wants_page().then_some(())).count();
        assert_eq!((asked, source.requested), (PAGES_AHEAD, PAGES_AHEAD));
        for _ in 0..PAGES_AHEAD {
            source.pages.push_back(page());
            source.requested -= 1;
            assert!(!source.wants_page(), "as many are at hand");
        }
        source.pages.pop_front();
        assert!(source.wants_page());
        source.requested = 0;
        source.more = false;
        assert!(!source.wants_page(), "there are no more");
        source.more = true;
        source.opened = false;
        assert!(!source.wants_page(), "the first comes unasked");
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
