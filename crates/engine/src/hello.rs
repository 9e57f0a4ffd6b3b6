//! The hello machine (RFC 2334 2.1): one for each DCS and instance, or for each DCS and family.
//!
//! [`State::next`] is the whole table. [`Hello`] adds what the table cannot say: whom the
//! neighbour claims to be and when it was last heard. When our own Hellos are due is a matter of
//! the link (`control/hellos.rs`).

use std::mem;
use std::time::Duration;

use scsp_wire::ServerId;

use crate::Time;

/// State of a hello machine (H-01).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No link connectivity.
    Down,
    /// Connected, nobody heard.
    Waiting,
    /// The DCS is heard but does not name us.
    Unidirectional,
    /// The DCS is heard and names us.
    Bidirectional,
}

/// What can happen to a hello machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Link connectivity exists.
    LinkUp,
    /// Link connectivity is lost.
    LinkDown,
    /// A Hello named this server.
    HeardUs,
    /// A Hello did not name this server.
    HeardOther,
    /// Stalled: no Hello came within the window (H-07).
    Silent,
    /// The neighbour announced another id than before (D-11).
    IdChanged,
    /// An abnormal event (H-11).
    Abnormal,
}

impl State {
    /// Every state, in the order of the metrics.
    pub const ALL: [Self; 4] = [
        Self::Down,
        Self::Waiting,
        Self::Unidirectional,
        Self::Bidirectional,
    ];

    /// Name in metrics and replies.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Waiting => "waiting",
            Self::Unidirectional => "unidirectional",
            Self::Bidirectional => "bidirectional",
        }
    }

    /// Hello machine (RFC 2334 2.1; H-02, H-05, H-07, H-11). `None` means "stay".
    pub const fn next(self, event: Event) -> Option<Self> {
        use Event::{Abnormal, HeardOther, HeardUs, IdChanged, LinkDown, LinkUp, Silent};
        use State::{Bidirectional, Down, Unidirectional, Waiting};
        match (self, event) {
            (Down, LinkUp) => Some(Waiting),
            (Down, LinkDown | HeardUs | HeardOther | Silent | IdChanged | Abnormal) => None,
            (Waiting | Unidirectional | Bidirectional, LinkDown) => Some(Down),
            (Waiting | Unidirectional, HeardUs) => Some(Bidirectional),
            (Waiting | Bidirectional, HeardOther) => Some(Unidirectional),
            (Unidirectional | Bidirectional, Silent | IdChanged | Abnormal) => Some(Waiting),
            (Waiting, LinkUp | Silent | IdChanged | Abnormal)
            | (Unidirectional, LinkUp | HeardOther)
            | (Bidirectional, LinkUp | HeardUs) => None,
        }
    }
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 7] = [
        Self::LinkUp,
        Self::LinkDown,
        Self::HeardUs,
        Self::HeardOther,
        Self::Silent,
        Self::IdChanged,
        Self::Abnormal,
    ];
}

/// What a received Hello says of its sender.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// Sender id.
    pub sender: &'a ServerId,
    /// Whether this server is among the receivers.
    pub names_us: bool,
    /// `HelloInterval` of the sender.
    pub interval: Duration,
    /// `DeadFactor` of the sender.
    pub dead_factor: u16,
}

/// A change of state, for those who depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// State left.
    pub from: State,
    /// State entered.
    pub to: State,
}

/// Hello machine of one DCS.
#[derive(Debug)]
pub struct Hello {
    state: State,
    since: Time,
    dcsid: Option<ServerId>,
    interval: Duration,
    window: Duration,
    heard_at: Option<Time>,
    late_hellos: u64,
    late_counted: bool,
}

impl Hello {
    /// A machine in Down.
    pub fn new(now: Time) -> Self {
        Self {
            state: State::Down,
            since: now,
            dcsid: None,
            interval: Duration::ZERO,
            window: Duration::ZERO,
            heard_at: None,
            late_hellos: 0,
            late_counted: false,
        }
    }

    /// Current state.
    pub fn state(&self) -> State {
        self.state
    }

    /// When the current state was entered.
    pub fn since(&self) -> Time {
        self.since
    }

    /// DCSID, while the neighbour is heard and not stalled (H-04).
    pub fn dcsid(&self) -> Option<&ServerId> {
        self.dcsid.as_ref()
    }

    /// When the last Hello came.
    pub fn heard_at(&self) -> Option<Time> {
        self.heard_at
    }

    /// How long the neighbour may be silent before it counts as stalled (H-07).
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Hellos that came later than the neighbour's own interval (H-08).
    pub fn late_hellos(&self) -> u64 {
        self.late_hellos
    }

    /// Takes in a Hello of this DCS (H-05). Returns the edges taken: none, one, or two when the
    /// neighbour changed its id (D-11).
    pub fn heard(&mut self, now: Time, hello: Heard<'_>) -> [Option<Edge>; 2] {
        if self.state == State::Down {
            return [None, None];
        }
        let changed = self
            .dcsid
            .as_ref()
            .is_some_and(|known| known != hello.sender);
        let first = if changed {
            self.handle(now, Event::IdChanged)
        } else {
            None
        };
        self.count_late(now);
        self.late_counted = false;
        self.interval = hello.interval;
        self.window = hello.interval * u32::from(hello.dead_factor);
        self.heard_at = Some(now);
        self.dcsid = Some(*hello.sender);
        let event = if hello.names_us {
            Event::HeardUs
        } else {
            Event::HeardOther
        };
        [first, self.handle(now, event)]
    }

    /// Applies `event`; the edge taken, if any.
    pub fn handle(&mut self, now: Time, event: Event) -> Option<Edge> {
        let next = self.state.next(event)?;
        Some(self.enter(now, next))
    }

    /// The only assignment to `self.state`; effects hang on the edge, not on the event.
    fn enter(&mut self, now: Time, next: State) -> Edge {
        let from = mem::replace(&mut self.state, next);
        self.since = now;
        match next {
            State::Down | State::Waiting => self.forget(), // H-07: DCSID leaves the receiver list.
            State::Unidirectional | State::Bidirectional => {}
        }
        Edge { from, to: next }
    }

    fn forget(&mut self) {
        self.dcsid = None;
        self.late_counted = false;
    }

    /// Counts a gap longer than the neighbour's interval, once a gap (H-08).
    fn count_late(&mut self, now: Time) {
        let Some(heard) = self.heard_at.filter(|_| self.dcsid.is_some()) else {
            return;
        };
        if !self.late_counted && now > heard.saturating_add(self.interval) {
            self.late_hellos += 1;
            self.late_counted = true;
        }
    }

    /// The stall that has happened by `now`, if any (H-07). A neighbour that goes on saying Hello
    /// without naming this server has left Bidirectional by the first such Hello (H-05), so only
    /// silence is left to wait for.
    pub fn stalled(&mut self, now: Time) -> Option<Edge> {
        self.count_late(now);
        let is_over = self.next_deadline().is_some_and(|at| now >= at);
        is_over.then(|| self.handle(now, Event::Silent)).flatten()
    }

    /// When to call [`stalled`](Self::stalled).
    pub fn next_deadline(&self) -> Option<Time> {
        match self.state {
            State::Down | State::Waiting => None,
            State::Unidirectional | State::Bidirectional => {
                self.heard_at.map(|at| at.saturating_add(self.window))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a state counts from the edge that led to it, not from what came later and changed
    /// nothing.
    #[test]
    fn h_02_a_state_counts_from_its_edge() {
        let at = |secs| Time::ZERO.saturating_add(Duration::from_secs(secs));
        let mut hello = Hello::new(at(1));
        assert_eq!(hello.since(), at(1));
        hello.handle(at(2), Event::LinkUp);
        hello.handle(at(3), Event::LinkUp);
        assert_eq!((hello.state(), hello.since()), (State::Waiting, at(2)));
    }
}
