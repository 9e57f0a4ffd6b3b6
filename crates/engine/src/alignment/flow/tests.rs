use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// A message under way: number, O bit, page (none: empty).
type Said = (CaSeq, bool, Option<u32>);

/// One side of an exchange whose summaries are numbered pages.
struct Side {
    role: Role,
    flow: Flow,
    pages: u32,
    told: u32,
    heard: BTreeSet<u32>,
    /// By number, to see that it is repeated unchanged.
    said: BTreeMap<u32, Said>,
    out: Vec<Said>,
    messages: u32,
}

impl Side {
    fn new(role: Role, base: u32, width: u16, pages: u32) -> Self {
        Self {
            role,
            flow: Flow::opened(role, CaSeq(base), width),
            pages,
            told: 0,
            heard: BTreeSet::new(),
            said: BTreeMap::new(),
            out: Vec::new(),
            messages: 0,
        }
    }

    /// Sends what may go out.
    fn pay(&mut self) {
        while !self.flow.is_over(self.role)
            && let Some(number) = self.flow.next(self.role)
        {
            let page = (self.told < self.pages).then_some(self.told);
            self.told += u32::from(page.is_some());
            let more = self.told < self.pages;
            let bytes = number.0.to_be_bytes().to_vec();
            self.flow.sent(self.role, number, more, bytes);
            let under_way = self.flow.unanswered().count();
            assert!(
                self.role == Role::Slave || under_way <= usize::from(self.flow.width),
                "CA-07"
            );
            assert!(self.flow.kept.len() <= usize::from(self.flow.width));
            assert!(self.said.insert(number.0, (number, more, page)).is_none());
            self.say(number);
        }
        if self.role == Role::Slave
            && self.flow.next(Role::Slave).is_none()
            && self.flow.lost().is_some()
        {
            let last = self.flow.last_message().map(read);
            if let Some(last) = last {
                self.say(last);
            }
        }
    }

    fn say(&mut self, number: CaSeq) {
        let empty = (number, false, None);
        self.out
            .push(self.said.get(&number.0).copied().unwrap_or(empty));
        self.messages += 1;
    }

    fn receive(&mut self, (number, more, page): Said) {
        let offset = self.flow.place(self.role, number);
        let awaited = match self.role {
            Role::Master => Offset::Same,
            Role::Slave => Offset::Next,
        };
        if offset == awaited {
            self.flow.take(self.role, number, more);
            if let Some(page) = page {
                assert!(self.heard.insert(page), "taken in once");
            }
            if self.role == Role::Master {
                self.flow.lost().into_iter().for_each(|it| self.say(it));
            }
        } else if self.role == Role::Master {
            self.flow
                .lost_by(number)
                .into_iter()
                .for_each(|it| self.say(it));
        } else {
            assert_eq!(offset, Offset::Same, "CA-14: {number}, {:?}", self.flow);
            let said = self.flow.answer_again(number).map(read);
            if let Some(said) = said {
                self.say(said);
            }
        }
        self.pay();
    }

    fn resend(&mut self) {
        let unanswered: Vec<_> = self.flow.unanswered().collect();
        for number in unanswered {
            self.say(number);
        }
    }

    fn is_over(&self) -> bool {
        self.flow.is_over(self.role)
    }
}

fn read(bytes: &[u8]) -> CaSeq {
    CaSeq(u32::from_be_bytes(bytes.try_into().unwrap()))
}

struct Pair {
    master: Side,
    slave: Side,
    /// To the slave (`true`) or the master.
    flights: Vec<(bool, Said)>,
    random: u64,
}

impl Pair {
    fn new(width: u16, base: u32, pages: [u32; 2], random: u64) -> Self {
        let mut slave = Side::new(Role::Slave, base, width, pages[1]);
        slave.receive((CaSeq(base), true, None));
        Self {
            master: Side::new(Role::Master, base, width, pages[0]),
            slave,
            flights: Vec::new(),
            random,
        }
    }

    fn below(&mut self, below: usize) -> usize {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.random >> 33).unwrap() % below
    }

    fn collect(&mut self, loss: usize) {
        let out: Vec<_> = self.master.out.drain(..).map(|it| (true, it)).collect();
        let back: Vec<_> = self.slave.out.drain(..).map(|it| (false, it)).collect();
        for said in out.into_iter().chain(back) {
            if self.below(100) >= loss {
                self.flights.push(said);
            }
        }
    }

    fn land(&mut self, at: usize, stays: bool) {
        let (to_slave, said) = self.flights[at];
        if !stays {
            self.flights.remove(at);
        }
        let side = if to_slave {
            &mut self.slave
        } else {
            &mut self.master
        };
        side.receive(said);
    }

    fn is_over(&self) -> bool {
        self.master.is_over() && self.slave.is_over()
    }
}

/// Goal: CA-13, CA-10: whatever is lost, overtaken or doubled on the way, every page of both sides
/// arrives, both sides see the end, and no more than the window is ever under way.
#[test]
fn ca_13_every_page_arrives() {
    let strategy = (
        1..=64_u16,
        any::<u32>(),
        (0..150_u32, 0..150_u32),
        0..35_usize,
        any::<u64>(),
    );
    let config = ProptestConfig::with_cases(400);
    proptest!(config, |((width, base, pages, loss, seed) in strategy)| {
        let mut pair = Pair::new(width, base, [pages.0, pages.1], seed);
        pair.collect(0); // The answer that makes the master one has come.
        let mut steps = 0;
        while !pair.is_over() {
            steps += 1;
            prop_assert!(steps < 100_000, "{:?}\n{:?}", pair.master.flow, pair.slave.flow);
            pair.collect(loss);
            if pair.flights.is_empty() {
                pair.master.resend(); // `CAReXmtInterval` passed
                continue;
            }
            // Messages mostly arrive in order; in lock step they have to (CA-14).
            let reach = if width == 1 { 1 } else { pair.flights.len().min(8) };
            let (at, stays) = (pair.below(reach), width > 1 && pair.below(20) == 0);
            pair.land(at, stays);
        }
        prop_assert_eq!(pair.slave.heard.len(), usize::try_from(pages.0).unwrap());
        prop_assert_eq!(pair.master.heard.len(), usize::try_from(pages.1).unwrap());
    });
}

/// Messages of both sides of an exchange on a link that does no harm, and its round trips.
fn cost(width: u16, pages: [u32; 2]) -> (u32, u32) {
    let mut pair = Pair::new(width, 7, pages, 1);
    let mut trips = 0;
    pair.collect(0);
    while !pair.is_over() {
        trips += 1;
        for to_slave in [false, true] {
            for _ in 0..pair.flights.len() {
                assert_eq!(pair.flights[0].0, to_slave);
                pair.land(0, false);
            }
            pair.collect(0);
        }
    }
    (pair.master.messages + pair.slave.messages, trips)
}

/// Goal: CA-07: in lock step a page takes a round trip of two messages; with a window, the trips
/// go down by its width, and a side that only listens says little.
#[test]
fn ca_07_what_an_exchange_costs() {
    let costs = |width| [[1000, 0], [0, 1000], [1000, 1000]].map(|pages| cost(width, pages));
    assert_eq!(costs(1), [(2001, 1001), (1999, 1000), (2001, 1001)]);
    assert_eq!(costs(64), [(1064, 17), (1069, 17), (2009, 17)]);
    assert_eq!(cost(64, [0, 0]), cost(1, [0, 0]));
}

/// Goal: with a window of 1 a received number lies where the table of RFC 2334 has it.
#[test]
fn ca_07_lock_step_is_a_window_of_one() {
    for role in [Role::Master, Role::Slave] {
        let mut flow = Flow::opened(role, CaSeq(u32::MAX), 0);
        assert_eq!(flow.width(), 1);
        flow.take(role, CaSeq(u32::MAX), true);
        flow.sent(role, flow.next(role).unwrap(), true, Vec::new());
        let own = if role == Role::Master { 0 } else { u32::MAX };
        for step in [0, 1, 2, 5, u32::MAX, u32::MAX - 1, 1 << 31] {
            let number = CaSeq(own.wrapping_add(step));
            assert_eq!(flow.place(role, number), Offset::of(number, CaSeq(own)));
        }
    }
}

/// Goal: a slave takes in what is ahead, up to the window, and answers only what is whole; half a
/// window behind a missing one has the master repeat it at once, and only once.
#[test]
fn ca_12_what_is_missing_is_pointed_out() {
    let mut pair = Pair::new(6, 100, [20, 0], 1);
    pair.collect(0);
    pair.land(0, false);
    pair.collect(0);
    assert_eq!(pair.flights.len(), 6, "101 to 106");
    let numbers = |pair: &Pair| -> Vec<u32> { pair.flights.iter().map(|it| it.1.0.0).collect() };
    pair.flights.remove(0);
    for _ in 0..2 {
        pair.land(0, false);
        pair.collect(0);
    }
    assert_eq!(numbers(&pair), [104, 105, 106], "no answer yet");
    assert_eq!(
        pair.slave.flow.place(Role::Slave, CaSeq(107)),
        Offset::Newer
    );
    pair.land(0, false);
    pair.collect(0);
    assert_eq!(numbers(&pair), [105, 106, 100], "the last answer once more");
    pair.land(2, false);
    pair.collect(0);
    assert_eq!(numbers(&pair), [105, 106, 101]);
    pair.land(2, false);
    pair.collect(0);
    assert_eq!(numbers(&pair), [105, 106, 104], "all that is whole");
    pair.land(2, false);
    pair.collect(0);
    assert_eq!(numbers(&pair), [105, 106, 107, 108, 109, 110]);
}

/// Goal: the slave keeps its answers for as long as the master may ask for them again, and answers
/// one that it was saving up at once when it is asked again.
#[test]
fn ca_15_answers_are_kept_for_a_window() {
    let mut slave = Side::new(Role::Slave, 0, 4, 100);
    slave.receive((CaSeq(0), true, None));
    for number in 1..=10 {
        slave.receive((CaSeq(number), true, Some(number)));
    }
    assert!(slave.flow.answer_again(CaSeq(6)).is_none());
    for number in 7..=10 {
        let again = slave.flow.answer_again(CaSeq(number)).map(read);
        assert_eq!(again, Some(CaSeq(number)));
    }

    let mut slave = Side::new(Role::Slave, 0, 64, 0);
    slave.receive((CaSeq(0), true, None));
    for number in 1..=15 {
        slave.receive((CaSeq(number), true, Some(number)));
    }
    assert_eq!(slave.out.len(), 1, "a quarter of the window is saved up");
    slave.receive((CaSeq(3), true, Some(3)));
    assert_eq!(slave.out.last(), Some(&(CaSeq(15), false, None)));
}
