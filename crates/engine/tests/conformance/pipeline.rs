//! Alignment with several messages in flight, between servers that offer it to each other by item 3
//! of this project's own extension (RFC 2334 2.2, B.3.2). The hub under test is 10.0.0.5, master of
//! 10.0.0.1 and slave of 10.0.0.9.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use scsp_engine::alignment::State::{Aligned, Negotiation, Summarize, Update};
use scsp_engine::alignment::{Role, offer};
use scsp_engine::{DcsSetup, Now, Setup};
use scsp_wire::{
    AlignmentOffer, Builder, CaFlags, CaSeq, Header, Item, ItemKind, Message as Packet,
};

use crate::script::{LSID, Msg, Sum, ca, hello, sum};
use crate::support::{D0, Hub, World, at, dcs, id, millis, secs, setup};

/// What the hub offers in most of these tests.
const OURS: AlignmentOffer = AlignmentOffer {
    window: 8,
    packet: 1472,
};

/// The same in packets of four summaries.
const SMALL: AlignmentOffer = AlignmentOffer {
    window: 8,
    packet: 36 + 4 * 216,
};

fn with_window(window: u16) -> AlignmentOffer {
    AlignmentOffer { window, ..OURS }
}

/// A hub and one neighbour, played frame by frame.
struct Bench {
    hub: Hub,
    now: Now,
    peer: u8,
}

/// A CA message as it was sent, and what it offers.
type Said = (Msg, Option<AlignmentOffer>);

impl Bench {
    /// A hub with so many entries, four of which fit a packet.
    fn new(peer: u8, offer: Option<AlignmentOffer>, entries: u8) -> Self {
        let dcs = DcsSetup {
            packet_limit: 36 + 4 * 216,
            offer,
            ..dcs()
        };
        let setup = Setup {
            dcs: vec![dcs],
            instances: vec![crate::support::opaque_instance()],
            ..setup(LSID, 2, 1)
        };
        let mut hub = Hub::new(setup, at(secs(0)));
        let now = at(secs(10));
        hub.tick(now);
        for n in 0..entries {
            let key = [n; 200];
            let done = hub
                .home(&key)
                .publish(now, crate::support::I0, &key, b"body", None);
            done.unwrap();
        }
        let mut bench = Self { hub, now, peer };
        bench.sent();
        bench
    }

    /// What went to the neighbour since the last call, Hellos left out.
    fn sent(&mut self) -> Vec<Said> {
        self.hub.settle(self.now);
        let sent = self.hub.out.drain(..);
        let sent = sent.map(|(_, bytes)| {
            let offer = Packet::parse(&bytes)
                .unwrap()
                .extensions()
                .alignment_offer();
            (Msg::parse(&bytes), offer)
        });
        sent.filter(|(msg, _)| !matches!(msg, Msg::Hello(..)))
            .collect()
    }

    fn send(&mut self, msg: &Msg, offer: Option<AlignmentOffer>) -> Vec<Said> {
        let (from, to) = (id(self.peer), id(LSID));
        let bytes = match (msg, offer) {
            (Msg::Ca(seq, flags, sums), Some(offer)) => {
                assert!(sums.is_empty());
                offering(&self.hub.setup, self.peer, *seq, flags, offer)
            }
            _ => msg.build(&self.hub.setup, D0, from.as_bytes(), to.as_bytes()),
        };
        self.hub.receive(self.now, D0, &bytes);
        self.sent()
    }

    /// The neighbour says Hello; the sequence of the opening CA, and what it offers.
    fn meet(&mut self) -> (u32, Option<AlignmentOffer>) {
        self.send(&hello(&[]), None);
        let sent = self.send(&hello(&[LSID]), None);
        let [(Msg::Ca(seq, flags, _), offer)] = &sent[..] else {
            panic!("{sent:?}")
        };
        assert_eq!(flags, "MIO");
        (*seq, *offer)
    }

    /// As master of a neighbour that answers with this offer; the number of the opening, and what
    /// is sent then.
    fn lead(&mut self, offer: Option<AlignmentOffer>) -> (u32, Vec<Said>) {
        let (seq, _) = self.meet();
        let sent = self.send(&ca(seq, "O", &[]), offer);
        (seq, sent)
    }

    /// As slave of a neighbour that opens under 900 with this offer; the answer.
    fn follow(&mut self, offer: Option<AlignmentOffer>) -> Said {
        self.meet();
        let mut sent = self.send(&ca(900, "MIO", &[]), offer);
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    fn wait(&mut self, since_start: std::time::Duration) -> Vec<Said> {
        self.now = at(since_start);
        self.hub.tick(self.now);
        self.sent()
    }
}

fn offering(setup: &Setup, from: u8, seq: u32, flags: &str, offer: AlignmentOffer) -> Vec<u8> {
    let instance = setup.instance_of(D0);
    let (sender, receiver) = (id(from), id(LSID));
    let header = Header {
        protocol: instance.protocol,
        group: instance.group,
        sender: sender.as_bytes(),
        receiver: receiver.as_bytes(),
    };
    let flags = CaFlags {
        master: flags.contains('M'),
        initialize: flags.contains('I'),
        more: flags.contains('O'),
    };
    let mut bytes = vec![0; 200];
    let mut builder = Builder::ca(&mut bytes, 200, &header, CaSeq(seq), flags).unwrap();
    let value = &offer.encode();
    let kind = ItemKind::Alignment;
    assert!(builder.push_items(&[Item { kind, value }]));
    let len = builder.finish();
    bytes.truncate(len);
    bytes
}

fn numbers(sent: &[Said]) -> Vec<u32> {
    let number = |said: &Said| match &said.0 {
        Msg::Ca(seq, ..) => *seq,
        other => panic!("{other:?}"),
    };
    sent.iter().map(number).collect()
}

fn summaries(sent: &[Said]) -> Vec<Sum> {
    let sums = sent.iter().flat_map(|said| match &said.0 {
        Msg::Ca(_, _, sums) | Msg::Csus(sums) => sums.clone(),
        _ => Vec::new(),
    });
    sums.collect()
}

/// Goal: the opening CA carries the offer where there is one worth the name, also when it is sent
/// again, and nothing else does: a neighbour that offers nothing sees RFC 2334 from there on.
#[test]
fn ca_02_the_opening_offers() {
    for (ours, said) in [
        (None, None),
        (Some(with_window(1)), None),
        (Some(with_window(0)), None),
        (Some(OURS), Some(OURS)),
    ] {
        let mut bench = Bench::new(1, ours, 20);
        let (seq, offered) = bench.meet();
        assert_eq!(offered, said);
        let again = bench.wait(millis(11_000));
        assert_eq!(again, [(ca(seq, "MIO", &[]), said)]);
        for number in seq..seq + 4 {
            let sent = bench.send(&ca(number, "O", &[]), None);
            assert_eq!(numbers(&sent), [number + 1], "CA-07");
            assert_eq!(sent[0].1, None);
        }
    }
}

/// Goal: the slave's first answer carries its own offer, if and only if the opening had one.
#[test]
fn ca_04_the_slave_agrees_to_what_is_offered() {
    for (ours, theirs, said) in [
        (Some(OURS), Some(with_window(3)), Some(OURS)),
        (Some(OURS), None, None),
        (None, Some(OURS), None),
        (Some(OURS), Some(with_window(1)), None),
        (Some(OURS), Some(with_window(0)), None),
        (
            Some(OURS),
            Some(AlignmentOffer {
                window: 9,
                packet: 127,
            }),
            None,
        ),
    ] {
        let mut bench = Bench::new(9, ours, 20);
        let (answer, agreed) = bench.follow(theirs);
        assert_eq!(agreed, said, "{ours:?} {theirs:?}");
        assert!(
            matches!(answer, Msg::Ca(900, ref flags, ref sums) if flags == "O" && !sums.is_empty())
        );
        // A number that is ahead starts over in lock step (CA-14), and waits otherwise.
        let sent = bench.send(&ca(902, "MO", &[]), None);
        let expected = if said.is_some() {
            Summarize
        } else {
            Negotiation
        };
        assert_eq!(bench.hub.alignment(D0), expected);
        if said.is_some() {
            assert_eq!(numbers(&sent), [] as [u32; 0], "nothing answers a gap");
            let sent = bench.send(&ca(901, "MO", &[]), None);
            assert_eq!(numbers(&sent), [901, 902]);
            assert!(sent.iter().all(|said| said.1.is_none()));
        }
    }
}

/// Goal: CA-07: as many messages are in flight as both offer, never more than 64, and the next one
/// goes out when an answer comes.
#[test]
fn ca_07_the_smaller_window_counts() {
    for (ours, theirs, width) in [
        (8, 3, 3_u32),
        (3, 8, 3),
        (8, u16::MAX, 8),
        (u16::MAX, u16::MAX, 64),
        (8, 1, 1),
        (8, 0, 1),
    ] {
        let packet = 36 + 3 * 216;
        let offer = |window| Some(AlignmentOffer { window, packet });
        let mut bench = Bench::new(1, offer(ours), u8::MAX);
        let (seq, sent) = bench.lead(offer(theirs));
        let in_flight: Vec<_> = (1..=width).map(|step| seq + step).collect();
        assert_eq!(numbers(&sent), in_flight, "{ours} {theirs}");
        let next = bench.send(&ca(seq + 1, "O", &[]), None);
        assert_eq!(numbers(&next), [seq + 1 + width]);
    }
}

/// Goal: CA-11: what is not answered in time goes out again, all of it and unchanged, and nothing
/// that was answered.
#[test]
fn ca_11_all_that_is_unanswered_is_repeated() {
    let mut bench = Bench::new(1, Some(OURS), 40);
    let (seq, sent) = bench.lead(Some(with_window(4)));
    assert_eq!(sent.len(), 4);
    let next = bench.send(&ca(seq + 1, "O", &[]), None);
    // 3 was answered, 2 was not.
    assert_eq!(bench.send(&ca(seq + 3, "O", &[]), None), []);
    let again = bench.wait(millis(11_000));
    assert_eq!(again, [sent[1].clone(), sent[3].clone(), next[0].clone()]);
    assert_eq!(bench.wait(millis(12_000)), again);
    let more = bench.send(&ca(seq + 2, "O", &[]), None);
    assert_eq!(numbers(&more), [seq + 6, seq + 7]);
    assert_eq!(bench.hub.alignment(D0), Summarize);
}

/// Goal: every summary of both sides goes once, in whatever order messages come, and each side's
/// are all taken in (CA-16, CA-17).
#[test]
fn ca_17_order_does_not_matter() {
    let mut bench = Bench::new(9, Some(OURS), 10);
    let (answer, _) = bench.follow(Some(OURS));
    let mut ours = vec![(answer, None)];
    let key = |n: u32| vec![u8::try_from(n).unwrap(); 3];
    for n in [3, 1, 5, 2, 4, 3, 1] {
        let flags = if n == 5 { "M" } else { "MO" };
        let sent = bench.send(&ca(900 + n, flags, &[sum(&key(n), 9, 1)]), None);
        ours.extend(sent);
    }
    let asked: BTreeSet<_> = summaries(&ours)
        .into_iter()
        .filter(|it| it.key.len() == 3)
        .collect();
    assert_eq!(asked.len(), 5, "{asked:?}");
    assert_eq!(bench.hub.alignment(D0), Update);
    let said = ours
        .into_iter()
        .filter(|said| matches!(said.0, Msg::Ca(..)));
    let said: BTreeMap<u32, Said> = said
        .map(|it| (numbers(std::slice::from_ref(&it))[0], it))
        .collect();
    assert_eq!(said.keys().last(), Some(&905));
    let said: Vec<Said> = said.into_values().collect();
    let mut keys: Vec<u8> = summaries(&said).iter().map(|sum| sum.key[0]).collect();
    keys.sort_unstable();
    assert!(keys.into_iter().eq(0..10), "each of them once");
}

impl PartialOrd for Sum {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sum {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.key, self.seq).cmp(&(&other.key, other.seq))
    }
}

/// Goal: CA-15: in Update Cache the slave repeats every answer that the master may have missed, and
/// the last one for a number beyond it.
#[test]
fn ca_15_the_slave_keeps_a_window() {
    let mut bench = Bench::new(9, Some(SMALL), 14);
    let first = bench.follow(Some(SMALL));
    let mut said = vec![first];
    for n in 1..=3 {
        let flags = if n == 3 { "M" } else { "MO" };
        said.extend(bench.send(&ca(900 + n, flags, &[]), None));
    }
    // Three summaries beside the offer, then four and four, then the rest.
    assert_eq!(
        (numbers(&said), bench.hub.alignment(D0)),
        ((900..=903).collect(), Aligned)
    );
    for n in [901, 903, 902] {
        let again = bench.send(&ca(n, "MO", &[]), None);
        assert_eq!(again, [said[usize::try_from(n - 900).unwrap()].clone()]);
    }
    assert_eq!(bench.send(&ca(905, "M", &[]), None), [said[3].clone()]);
    bench.send(&Msg::Csus(vec![sum(b"none", 9, 1)]), None);
    assert_eq!(
        bench.send(&ca(903, "M", &[]), None),
        [],
        "the master has moved on"
    );
    // What no window explains starts over (D-17).
    bench.send(&ca(940, "M", &[]), None);
    assert_eq!(bench.hub.alignment(D0), Negotiation);
}

/// Goal: CA-08, CA-22: a neighbour that starts over in the middle is followed, and what it offers
/// then counts: less, more, or nothing.
#[test]
fn ca_08_a_neighbour_that_starts_over() {
    for theirs in [None, Some(with_window(2)), Some(with_window(64))] {
        let mut bench = Bench::new(9, Some(OURS), 200);
        bench.follow(Some(OURS));
        for n in [901, 902, 905] {
            bench.send(&ca(n, "MO", &[]), None);
        }
        // Its own opening goes out again.
        let sent = bench.send(&ca(5000, "MIO", &[]), theirs);
        assert_eq!((sent.len(), bench.hub.alignment(D0)), (1, Negotiation));
        assert_eq!(sent[0].1, Some(OURS));
        let sent = bench.send(&ca(5000, "MIO", &[]), theirs);
        assert_eq!(numbers(&sent), [5000]);
        assert_eq!(sent[0].1, theirs.and(Some(OURS)));
        assert_eq!(bench.hub.peer(D0).role, Some(Role::Slave));
        // Numbers of before are nothing any more; in lock step they start over (CA-14).
        bench.send(&ca(906, "MO", &[]), None);
        let expected = if theirs.is_some() {
            Summarize
        } else {
            Negotiation
        };
        assert_eq!(bench.hub.alignment(D0), expected);
    }
}

/// Goal: a sequence adopted twice is agreed on in lock step alone: how far its master is, nobody
/// knows (CA-14, CA-17).
#[test]
fn ca_14_a_sequence_adopted_twice_is_in_lock_step() {
    let mut bench = Bench::new(9, Some(OURS), 20);
    assert_eq!(bench.follow(Some(OURS)).1, Some(OURS));
    bench.send(&ca(900, "MIO", &[]), Some(OURS));
    let sent = bench.send(&ca(900, "MIO", &[]), Some(OURS));
    assert_eq!((numbers(&sent), sent[0].1), (vec![900], None));
    bench.send(&ca(902, "MO", &[]), None);
    assert_eq!(bench.hub.alignment(D0), Negotiation);
}

/// Goal: an exchange that does not come forward, however often everything is sent again, starts
/// over in lock step; once one has ended, the next is pipelined again.
#[test]
fn ca_11_what_does_not_come_forward_falls_back() {
    let mut bench = Bench::new(1, Some(OURS), 4);
    let (seq, _) = bench.lead(Some(OURS));
    let mut since_start = secs(10);
    for _ in 0..8 {
        since_start += secs(1);
        bench.wait(since_start);
        assert_eq!(bench.hub.alignment(D0), Summarize);
    }
    let sent = bench.wait(since_start + secs(1));
    let (Msg::Ca(again, flags, _), None) = &sent[0] else {
        panic!("{sent:?}")
    };
    assert_eq!((flags.as_str(), *again > seq), ("MIO", true));
    let sent = bench.send(&ca(*again, "", &[]), Some(OURS));
    assert_eq!(numbers(&sent), [again + 1], "lock step");
    bench.send(&ca(again + 1, "", &[]), None);
    assert_eq!(bench.hub.alignment(D0), Aligned);
    assert_eq!(bench.meet().1, Some(OURS));
}

/// Goal: W-10: packets with summaries are as large as both offer, smaller or larger than the
/// link's packet limit; in lock step the link's limit stands.
#[test]
fn w_10_the_smaller_packet_counts() {
    for (ours, theirs, sums) in [
        (1472, 500, 2),
        (500, 1472, 2),
        (2000, 4000, 9),
        (900, u16::MAX, 4),
    ] {
        let ours = AlignmentOffer {
            window: 2,
            packet: ours,
        };
        let theirs = AlignmentOffer {
            window: 2,
            packet: theirs,
        };
        let mut bench = Bench::new(1, Some(ours), 60);
        let (_, sent) = bench.lead(Some(theirs));
        assert_eq!(summaries(&sent[..1]).len(), sums);
        let mut bench = Bench::new(1, Some(ours), 60);
        let (_, sent) = bench.lead(None);
        assert_eq!(summaries(&sent).len(), 4);
    }
}

/// Goal: what is offered keeps within a receive buffer, and packets within what a link carries in
/// one piece.
#[test]
fn w_10_what_is_offered() {
    let of = |limit| {
        let AlignmentOffer { window, packet } = offer(limit);
        (window, packet)
    };
    assert_eq!(of(1472), (64, 1472));
    assert_eq!(of(8972), (14, 8972));
    assert_eq!(of(65_507), (2, 65_507));
    assert_eq!(of(0), (64, 0));
}

/// Goal: CA-19: between two that agreed, as much is asked for at once as the window's CSUS messages
/// hold, more when half has come; a neighbour that offers nothing gets one CSUS at a time.
#[test]
fn ca_19_several_csus_where_both_offer() {
    for (offers, outstanding) in [(None, 1), (Some(SMALL), 8), (Some(OURS), 8)] {
        let mut bench = Bench::new(1, Some(OURS), 0);
        let (seq, _) = bench.lead(offers);
        let sums: Vec<Sum> = (0..100).map(|n| sum(&[n; 200], 1, 1)).collect();
        let mut sent = Vec::new();
        for (step, part) in (1..).zip(sums.chunks(4)) {
            let flags = if step == 25 { "" } else { "O" };
            sent = bench.send(&ca(seq + step, flags, part), None);
        }
        let csus: Vec<Vec<Sum>> = sent
            .iter()
            .filter_map(|said| match &said.0 {
                Msg::Csus(sums) => Some(sums.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(csus.len(), outstanding);
        let most = if offers == Some(OURS) { 6 } else { 4 };
        assert!(csus.iter().all(|sums| sums.len() <= most), "{csus:?}");
        // All of it comes in the end, and nothing is asked for twice.
        let mut asked: Vec<Sum> = csus.concat();
        let mut at = 0;
        while at < asked.len() {
            let rec = asked[at].clone().with(b"body");
            at += 1;
            let sent = bench.send(&Msg::Request(vec![rec]), None);
            asked.extend(summaries(&sent));
        }
        asked.sort();
        assert_eq!(asked, sums);
        assert_eq!(bench.hub.alignment(D0), Aligned);
    }
}

/// Two hubs, one of which holds `entries`, with what each of them offers.
fn pair(entries: u32, full: usize, offers: [Option<AlignmentOffer>; 2]) -> World {
    let mut world = World::line_of(&[2, 3], |hub, mut setup| {
        setup.dcs[0].offer = offers[hub];
        setup
    });
    world.dead.insert(1 - full);
    world.run(secs(10));
    let now = world.now();
    for n in 0..entries {
        world.hubs[full].set(now, &n.to_be_bytes(), b"value");
    }
    world.dead.clear();
    world.restart(1 - full);
    world.launched = [0; 6];
    world
}

/// Goal: CA-07, CA-19: what the alignment of 5,000 records costs, in messages and in round trips:
/// the same packets of summaries, but a fraction of the trips.
#[test]
fn ca_07_what_a_window_saves() {
    let cost = |full, offers| {
        let mut world = pair(5000, full, offers);
        let start = world.since_start;
        world.align();
        world.assert_equal();
        let waited = world.since_start.checked_sub(start).unwrap().as_millis();
        (world.launched[1], world.launched[4], waited)
    };
    let both = Some(offer(1472));
    for full in [0, 1] {
        let (ca, csus, trips) = cost(full, [None, None]);
        let (mixed_ca, mixed_csus, mixed_trips) = cost(full, [both, None]);
        assert_eq!(
            (ca, csus, trips),
            (mixed_ca, mixed_csus, mixed_trips),
            "a plain neighbour"
        );
        let (fast_ca, fast_csus, fast_trips) = cost(full, [both, both]);
        assert!(ca > 120 && fast_ca < ca * 2 / 3, "{ca} {fast_ca}");
        assert!(fast_csus <= csus + 6, "{csus} {fast_csus}");
        assert!(
            trips > 250 && fast_trips * 4 < trips,
            "{trips} {fast_trips}"
        );
    }
}

/// Goal: at 30 % loss both ways, pipelined pairs, plain ones and mixed ones align and are equal.
#[test]
fn ca_11_alignment_at_heavy_loss() {
    let both = Some(offer(1472));
    for offers in [[both, both], [both, None], [None, None]] {
        let mut world = pair(300, 0, offers);
        world.loss = 30;
        let limit = secs(300);
        assert!(
            world.run_until(limit, World::is_aligned),
            "{:?}",
            world.states()
        );
        world.loss = 0;
        world.run(secs(60));
        world.assert_equal();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Goal: X-07: whatever a neighbour offers and whatever numbers it then uses, what is in flight
    /// keeps within 64 and within the own offer, and nothing panics.
    #[test]
    fn x_07_hostile_offers(
        peer in prop_oneof![Just(1_u8), Just(9)],
        window: u16,
        packet in prop_oneof![Just(0_u16), 1..300_u16, any::<u16>()],
        steps in proptest::collection::vec((0..90_u32, 0..8_u8), 0..40),
    ) {
        let theirs = Some(AlignmentOffer { window, packet });
        let mut bench = Bench::new(peer, Some(OURS), 100);
        let (base, sent) = if peer == 1 {
            bench.lead(theirs)
        } else {
            (900, vec![bench.follow(theirs)])
        };
        prop_assert!(sent.len() <= usize::from(OURS.window));
        for (step, flags) in steps {
            let flags: String = "MIO"
                .chars()
                .enumerate()
                .filter_map(|(bit, name)| (flags >> bit & 1 == 1).then_some(name))
                .collect();
            let number = base.wrapping_add(step).wrapping_sub(8);
            let sent = bench.send(&ca(number, &flags, &[]), theirs);
            prop_assert!(sent.len() <= 2 * usize::from(OURS.window) + 2, "{:?}", sent);
        }
    }
}
