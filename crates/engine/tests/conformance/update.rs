//! Cache state update (RFC 2334 2.3, 2.4, B.2.2 to B.2.4). Neighbours: 10.0.0.9 (first),
//! 10.0.0.1 (second), where not said otherwise; the hub is 10.0.0.5.

use scsp_engine::alignment::State::{Aligned, Down, Summarize, Update};
use scsp_engine::hello::State::{Bidirectional, Waiting};
use scsp_engine::message::Abnormal;
use scsp_engine::shard::{Drop, Outcome, Refusal};
use scsp_engine::{DcsIndex, DcsSetup};
use scsp_wire::CsaSeq;

use crate::script::{LSID, Lab, Msg, ca, hello, rec, records, replies, solicits, sum};
use crate::support::{D0, D1, I0, at, dcs, id, millis, opaque_instance, secs};

/// Both neighbours Aligned.
fn aligned() -> Lab {
    aligned_of(&[9, 1])
}

fn aligned_of(peers: &[u8]) -> Lab {
    let mut lab = Lab::new(peers);
    for index in 0..peers.len() {
        lab.align(DcsIndex(u16::try_from(index).unwrap()));
    }
    lab
}

fn dropped(lab: &Lab, reason: Drop) -> u64 {
    lab.hub
        .shards
        .iter()
        .map(|shard| shard.packets().dropped[reason.index()])
        .sum()
}

fn outcomes(lab: &Lab, outcome: Outcome) -> u64 {
    let slot = Outcome::ALL.iter().position(|&it| it == outcome).unwrap();
    lab.hub
        .shards
        .iter()
        .map(|shard| shard.counters(I0).received[slot])
        .sum()
}

/// Goal: CSU messages are neither taken in nor sent in Negotiation and Summarize, and are in
/// Update Cache and Aligned.
#[test]
fn csu_01_only_in_update_cache_and_aligned() {
    let mut lab = Lab::new(&[9, 1]);
    lab.align(D1);
    let flood = Msg::Request(vec![rec(b"key", 9, 1, 3, b"body")]);
    let asked = Msg::Csus(vec![sum(b"own", LSID, 1000)]);
    lab.publish(b"own", b"body");
    lab.open(D0);
    for step in 0..2 {
        lab.publish(b"own", b"again");
        lab.send(D0, &flood);
        lab.send(D0, &asked);
        lab.send(D0, &Msg::Reply(vec![sum(b"own", LSID, 1000)]));
        assert_eq!(lab.sent(D0), []);
        assert_eq!(lab.entry(b"key", 9), None);
        if step == 0 {
            lab.send(D0, &ca(900, "MIO", &[]));
            assert_eq!(lab.alignment(D0), Summarize);
            lab.sent(D0);
        }
    }
    assert_eq!(lab.hub.control.ignored(), 6);
    lab.send(D0, &ca(901, "M", &[sum(b"news", 9, 1)]));
    assert_eq!(lab.alignment(D0), Update);
    assert_eq!(
        records(&lab.sent(D0)),
        [rec(b"own", LSID, 1002, 16, b"again")]
    );
    assert_eq!(
        replies(&lab.flood(D0, &[rec(b"key", 9, 1, 3, b"body")])),
        [sum(b"key", 9, 1)]
    );
    lab.send(D0, &hello(&[]));
    lab.flood(D0, &[rec(b"late", 9, 1, 3, b"body")]);
    assert_eq!((lab.alignment(D0), lab.entry(b"late", 9)), (Down, None));
    assert_eq!(dropped(&lab, Drop::NotAligned), 1);
}

/// Goal: a local change goes to every DCS, a newer record to every other one and not back.
#[test]
fn csu_02_changes_go_to_every_other_server() {
    let mut lab = aligned_of(&[9, 1, 7]);
    let d2 = DcsIndex(2);
    assert_eq!(lab.publish(b"own", b"body"), 1000);
    for dcs in [D0, D1, d2] {
        assert_eq!(
            lab.sent(dcs),
            [Msg::Request(vec![rec(b"own", LSID, 1000, 16, b"body")])]
        );
    }
    let sent = lab.flood(D1, &[rec(b"key", 1, 5, 9, b"body")]);
    assert_eq!(sent, [Msg::Reply(vec![sum(b"key", 1, 5)])]);
    for dcs in [D0, d2] {
        assert_eq!(
            lab.sent(dcs),
            [Msg::Request(vec![rec(b"key", 1, 5, 8, b"body")])]
        );
    }
    assert_eq!(lab.entry(b"key", 1), Some((5, b"body".to_vec())));
}

/// Goal: newer is the larger signed sequence of the same key and originator; another originator
/// or key is another entry.
#[test]
fn csu_03_newer_is_the_larger_signed_sequence() {
    let mut lab = aligned();
    for (seq, body, newer) in [
        (-5, &b"first"[..], true),
        (-6, b"older", false),
        (-5, b"equal", false),
        (-4, b"newer", true),
        (3, b"positive", true),
        (-2_147_483_647, b"smallest", false),
        (2_147_483_646, b"largest", true),
        (4, b"positive", false),
    ] {
        lab.flood(D0, &[rec(b"key", 3, seq, 3, body)]);
        let held = lab.entry(b"key", 3).unwrap();
        assert_eq!(held == (seq, body.to_vec()), newer, "{seq}");
        assert_eq!(!lab.sent(D1).is_empty(), newer, "{seq}");
    }
    lab.flood(
        D0,
        &[rec(b"key", 4, -9, 3, b"b"), rec(b"keys", 3, -9, 3, b"b")],
    );
    assert_eq!(lab.hub.entries().len(), 3);
}

/// Goal: every record taken in is acknowledged by its summary; one there is no room for is not,
/// and may come again.
#[test]
fn csu_04_each_record_is_acknowledged() {
    let mut lab = aligned();
    let recs: Vec<_> = (0..30).map(|n| rec(&[n], 9, 7, 3, &[n; 40])).collect();
    let expected: Vec<_> = (0..30).map(|n| sum(&[n], 9, 7)).collect();
    assert_eq!(replies(&lab.flood(D0, &recs)), expected);
    assert_eq!(outcomes(&lab, Outcome::Newer), 30);
    // Originators beyond what a store can number: 2^16 in each of two shards.
    let mut unacknowledged = 0_u64;
    for chunk in 0..150_u32 {
        let one = |n: u32| {
            let number = (chunk * 1000 + n).to_be_bytes();
            let mut rec = rec(&number, 3, 1, 1, b"b");
            rec.sum.originator = scsp_wire::ServerId::from_bytes(&number).unwrap();
            rec
        };
        let recs: Vec<_> = (1..=1000).map(one).collect();
        unacknowledged += 1000 - u64::try_from(replies(&lab.flood(D0, &recs)).len()).unwrap();
    }
    assert!(unacknowledged > 0);
    assert_eq!(outcomes(&lab, Outcome::Rejected), unacknowledged);
}

/// Goal: requests go out while earlier ones wait; one reply may acknowledge several of them.
#[test]
fn csu_05_requests_do_not_wait() {
    let mut lab = aligned_of(&[9]);
    for key in [b"a", b"b", b"c"] {
        lab.publish(key, b"body");
        assert_eq!(records(&lab.sent(D0)).len(), 1);
    }
    let acks = [b"a", b"b", b"c"].map(|key| sum(key, LSID, 1000));
    lab.send(D0, &Msg::Reply(acks.to_vec()));
    lab.wait(secs(5));
    assert_eq!(lab.sent(D0), []);
}

/// Goal: what is not acknowledged, and nothing else, is resent to that DCS alone every
/// `CSUReXmtInterval`, `CSUReXmtMax` times; then the neighbour is reset.
#[test]
fn csu_06_unacknowledged_records_are_resent() {
    let mut lab = aligned();
    lab.publish(b"a", b"body");
    lab.publish(b"b", b"body");
    lab.sent(D0);
    lab.sent(D1);
    lab.send(
        D1,
        &Msg::Reply(vec![sum(b"a", LSID, 1000), sum(b"b", LSID, 1000)]),
    );
    lab.send(D0, &Msg::Reply(vec![sum(b"a", LSID, 1000)]));
    lab.wait(millis(999));
    assert_eq!(lab.sent(D0), []);
    for _ in 0..5 {
        lab.wait(millis(1));
        assert_eq!(
            lab.sent(D0),
            [Msg::Request(vec![rec(b"b", LSID, 1000, 16, b"body")])]
        );
        lab.wait(millis(999));
        assert_eq!((lab.sent(D0), lab.alignment(D0)), (vec![], Aligned));
    }
    lab.wait(millis(1));
    assert_eq!((lab.sent(D0), lab.hub.hello(D0)), (vec![], Waiting));
    assert_eq!((lab.sent(D1), lab.alignment(D1)), (vec![], Aligned));
    let slot = Abnormal::ALL
        .iter()
        .position(|&it| it == Abnormal::CsuRetransmit)
        .unwrap();
    assert_eq!(lab.hub.peer(D0).abnormal[slot], 1);
}

/// Goal: a neighbour that acknowledges nothing is reset in time even if what it is sent changes
/// before it is ever resent; one that acknowledges instances replaced by then is not, nor one that
/// has let go of what it was sent.
#[test]
fn csu_06_changing_records_do_not_hide_silence() {
    let changes = |lab: &mut Lab, answers: bool| {
        for n in 0..40 {
            let seq = lab.publish(b"own", &[n]);
            lab.sent(D0);
            lab.wait(millis(300));
            if answers {
                lab.send(D0, &Msg::Reply(vec![sum(b"own", LSID, seq - 1)]));
            }
            if lab.hub.hello(D0) == Waiting {
                return secs(6) <= lab.since_start && lab.since_start <= millis(6300);
            }
        }
        false
    };
    let mut lab = aligned_of(&[9]);
    assert!(changes(&mut lab, false));
    let mut lab = aligned_of(&[9]);
    assert!(!changes(&mut lab, true));
    assert_eq!(lab.alignment(D0), Aligned);
    // What it was sent is gone by other ways, so it owes nothing.
    let mut lab = aligned();
    lab.flood(D1, &[rec(b"a", 1, 5, 4, b"body")]);
    lab.wait(millis(500));
    lab.flood(D0, &[rec(b"a", 1, 6, 4, b"newer")]);
    lab.send(D1, &Msg::Reply(vec![sum(b"a", 1, 6)]));
    lab.wait(millis(5400));
    lab.sent(D0);
    lab.publish(b"own", b"body");
    lab.wait(millis(500));
    assert_eq!(lab.alignment(D0), Aligned);
}

/// Goal: a neighbour that acknowledges everything but one record is reset for that one, as soon as if
/// it were silent.
#[test]
fn csu_06_replies_to_others_do_not_hide_a_record() {
    let mut lab = aligned_of(&[9]);
    lab.publish(b"stuck", b"body");
    for n in 0..12 {
        assert_eq!(lab.alignment(D0), Aligned, "{n}");
        lab.publish(&[n], b"body");
        lab.send(D0, &Msg::Reply(vec![sum(&[n], LSID, 1000)]));
        lab.wait(millis(500));
    }
    assert_eq!(lab.hub.hello(D0), Waiting);
}

/// Goal: a newer instance takes the place of the queued one, resends included.
#[test]
fn csu_07_queue_holds_the_newest_instance() {
    let mut lab = aligned_of(&[9]);
    lab.publish(b"a", b"one");
    lab.sent(D0);
    lab.wait(millis(500));
    lab.publish(b"a", b"two");
    assert_eq!(records(&lab.sent(D0)), [rec(b"a", LSID, 1001, 16, b"two")]);
    assert_eq!(lab.hub.home(b"a").queue_len(D0), 1);
    // The acknowledgement of the old one is late and counts for nothing.
    lab.send(D0, &Msg::Reply(vec![sum(b"a", LSID, 1000)]));
    lab.wait(secs(1));
    assert_eq!(
        lab.sent(D0),
        [Msg::Request(vec![rec(b"a", LSID, 1001, 16, b"two")])]
    );
    lab.send(D0, &Msg::Reply(vec![sum(b"a", LSID, 1001)]));
    assert_eq!(lab.hub.home(b"a").queue_len(D0), 0);
}

/// Goal: a newer record from one DCS replaces what is queued for the others.
#[test]
fn csu_07_a_newer_record_from_elsewhere() {
    let mut lab = aligned();
    lab.flood(D0, &[rec(b"a", 9, 1, 4, b"one")]);
    lab.flood(D0, &[rec(b"a", 9, 2, 4, b"two")]);
    lab.sent(D1);
    lab.wait(secs(1));
    assert_eq!(records(&lab.sent(D1)), [rec(b"a", 9, 2, 3, b"two")]);
    // Now the other side has a newer one: nothing is left to send there.
    lab.flood(D1, &[rec(b"a", 9, 3, 4, b"three")]);
    assert_eq!(lab.hub.home(b"a").queue_len(D1), 0);
    assert_eq!(records(&lab.sent(D0)), [rec(b"a", 9, 3, 3, b"three")]);
}

/// Goal: a matching reply dequeues, a smaller sequence is ignored, a larger one dequeues and has
/// the newer record asked for.
#[test]
fn csu_08_replies() {
    let mut lab = aligned();
    lab.flood(
        D1,
        &[
            rec(b"a", 1, 5, 4, b"body"),
            rec(b"b", 1, 5, 4, b"body"),
            rec(b"c", 1, 5, 4, b"body"),
        ],
    );
    lab.sent(D0);
    lab.send(
        D0,
        &Msg::Reply(vec![sum(b"a", 1, 5), sum(b"b", 1, 4), sum(b"c", 1, 6)]),
    );
    assert_eq!(lab.sent(D0), [Msg::Csus(vec![sum(b"c", 1, 6)])]);
    for (key, queued) in [(b"a", 0), (b"b", 1), (b"c", 0)] {
        assert_eq!(
            lab.hub.home(key).queue_len(D0) > 0 && lab.has_queued(key),
            queued == 1
        );
    }
    // The newer record comes, and goes on (D-06).
    lab.sent(D1);
    lab.flood(D0, &[rec(b"c", 1, 6, 1, b"newer")]);
    assert_eq!(records(&lab.sent(D1)), [rec(b"c", 1, 6, 16, b"newer")]);
    assert_eq!(lab.alignment(D0), Aligned);
    lab.wait(secs(1));
    assert_eq!(records(&lab.sent(D0)), [rec(b"b", 1, 5, 3, b"body")]);
}

/// Goal: a reply that says again what is acknowledged already, or speaks of what is not held, puts
/// nothing on the request list.
#[test]
fn csu_08_repeated_replies_ask_for_nothing() {
    let mut lab = Lab::with(&[9], |setup| setup.shards = 1);
    lab.align(D0);
    lab.publish(b"a", b"body");
    lab.sent(D0);
    let (now, them, us) = (lab.now(), id(9), id(LSID));
    let said = Msg::Reply(vec![sum(b"a", LSID, 1000), sum(b"none", 9, 1)]);
    let bytes = said.build(&lab.hub.setup, D0, them.as_bytes(), us.as_bytes());
    for _ in 0..3 {
        lab.hub.receive_at(now, 0, D0, &bytes);
        assert_eq!(lab.hub.shards[0].requests_len(D0), 0);
        lab.collect();
        assert_eq!(lab.sent(D0), []);
    }
}

/// Goal: however often replies show newer records while a CSUS is outstanding, each is on the
/// request list once.
#[test]
fn csu_08_each_record_is_wanted_once() {
    let mut lab = aligned();
    for seq in 5..60 {
        lab.flood(
            D1,
            &[rec(b"a", 1, seq, 4, b"body"), rec(b"b", 1, seq, 4, b"body")],
        );
        lab.sent(D0);
        // The first one takes the turn, whatever comes then waits.
        for other in [0, 1] {
            lab.send(
                D0,
                &Msg::Reply(vec![
                    sum(b"a", 1, 100 + other + seq / 2),
                    sum(b"b", 1, 100 + other),
                ]),
            );
        }
        assert!(lab.alignment(D0).is_updating());
        let wanted: usize = lab.hub.shards.iter().map(|it| it.requests_len(D0)).sum();
        assert!(wanted <= 4, "{wanted} after {seq}");
    }
}

/// Goal: the N that answers a CSUS may get lost, even where all else that was asked for came: the
/// next CSUS asks again.
#[test]
fn csu_11_lost_null_answer() {
    let mut lab = Lab::with(&[9], |setup| setup.shards = 1);
    let sent = lab.exchange(D0, &[sum(b"a", 9, 1), sum(b"b", 9, 1), sum(b"c", 9, 1)]);
    assert_eq!(solicits(&sent).len(), 3);
    lab.flood(
        D0,
        &[rec(b"a", 9, 1, 1, b"body"), rec(b"c", 9, 1, 1, b"body")],
    );
    assert!(!lab.is_aligned(D0));
    lab.wait(millis(999));
    assert_eq!(solicits(&lab.sent(D0)), []);
    lab.wait(millis(1));
    assert_eq!(solicits(&lab.sent(D0)), [sum(b"b", 9, 1)]);
    lab.flood(D0, &[sum(b"b", 9, 1).null().with(b"")]);
    assert!(lab.is_aligned(D0));
}

impl Lab {
    fn is_aligned(&self, dcs: DcsIndex) -> bool {
        self.alignment(dcs) == Aligned
    }

    /// Whether the second neighbour's record waits for the first one.
    fn has_queued(&mut self, key: &[u8]) -> bool {
        let shard = self.hub.home(key);
        let store = shard.store(I0);
        let found = store.find(shard.hash(key), key, id(1).as_bytes()).unwrap();
        store.pending_peers(found).any(|peer| peer.0 == 0)
    }
}

/// Goal: packets are counted by their type as they come and go, records as they are originated,
/// acknowledged and sent again, and the time to an acknowledgement is told once.
#[test]
fn csu_05_packets_and_records_are_counted() {
    let mut lab = Lab::with(&[9], |setup| setup.shards = 1);
    lab.align(D0);
    let counts = |lab: &Lab| {
        (
            lab.hub.shards[0].packets().received,
            lab.hub.shards[0].packets().sent,
        )
    };
    // In the order of the types: CA, CSU Request, CSU Reply, CSUS, Hello.
    assert_eq!(counts(&lab), ([2, 0, 0, 0, 1], [0; 5]));
    lab.publish(b"a", b"body");
    lab.publish(b"b", b"body");
    assert_eq!(counts(&lab), ([2, 0, 0, 0, 1], [0, 2, 0, 0, 0]));
    lab.wait(millis(300));
    lab.send(D0, &Msg::Reply(vec![sum(b"a", LSID, 1000)]));
    assert_eq!(
        lab.hub.shards[0].take_samples(I0),
        (Some(millis(300)), None)
    );
    assert_eq!(lab.hub.shards[0].take_samples(I0), (None, None));
    lab.wait(secs(1));
    assert_eq!(counts(&lab), ([2, 0, 1, 0, 1], [0, 3, 0, 0, 0]));
    lab.send(D0, &Msg::Reply(vec![sum(b"b", LSID, 1000)]));
    lab.flood(
        D0,
        &[rec(b"c", 9, 1, 3, b"body"), rec(b"d", 9, 1, 3, b"body")],
    );
    assert_eq!(counts(&lab), ([2, 1, 2, 0, 1], [0, 3, 1, 0, 0]));
    lab.send(D0, &Msg::Csus(vec![sum(b"a", LSID, 1000)]));
    lab.send(D0, &Msg::Reply(vec![sum(b"c", 9, 2)]));
    assert_eq!(counts(&lab), ([2, 1, 3, 1, 1], [0, 4, 1, 1, 0]));
    let counters = lab.hub.shards[0].counters(I0);
    assert_eq!(
        (
            counters.originated,
            counters.acknowledged,
            counters.retransmitted
        ),
        (2, 2, 1)
    );
}

/// Goal: an older or equal record is acknowledged with what the cache holds, and changes nothing.
#[test]
fn csu_09_older_and_equal_records() {
    let mut lab = aligned();
    lab.flood(D0, &[rec(b"a", 9, 5, 4, b"held")]);
    lab.sent(D1);
    for seq in [4, 5] {
        assert_eq!(
            lab.flood(D0, &[rec(b"a", 9, seq, 4, b"other")]),
            [Msg::Reply(vec![sum(b"a", 9, 5)])]
        );
        assert_eq!(lab.entry(b"a", 9), Some((5, b"held".to_vec())));
        assert_eq!(lab.sent(D1), []);
    }
    assert_eq!(
        (
            outcomes(&lab, Outcome::Older),
            outcomes(&lab, Outcome::Duplicate)
        ),
        (1, 1)
    );
}

/// Goal: a CSUS is answered to its sender alone with full records of hop count 1, which are
/// resent like others.
#[test]
fn csu_10_solicits_are_answered() {
    let mut lab = aligned();
    lab.flood(
        D1,
        &[rec(b"a", 1, 5, 4, b"body"), rec(b"b", 1, 5, 4, b"body")],
    );
    lab.sent(D0);
    lab.send(D0, &Msg::Reply(vec![sum(b"a", 1, 5), sum(b"b", 1, 5)]));
    lab.send(D0, &Msg::Csus(vec![sum(b"a", 1, 5), sum(b"b", 1, 4)]));
    let expected = [rec(b"a", 1, 5, 1, b"body"), rec(b"b", 1, 5, 1, b"body")];
    assert_eq!(records(&lab.sent(D0)), expected);
    assert_eq!(lab.sent(D1), []);
    lab.wait(secs(1));
    assert_eq!(records(&lab.sent(D0)), expected);
}

/// Goal: a CSUS that is repeated brings nothing that is on its way, nor does it put off the end of
/// the resends; what is queued since it is new keeps its hop count (D-06).
#[test]
fn csu_10_repeated_solicits() {
    let mut lab = aligned();
    lab.flood(D1, &[rec(b"a", 1, 5, 4, b"body")]);
    let csus = Msg::Csus(vec![sum(b"a", 1, 5)]);
    let now = [rec(b"a", 1, 5, 3, b"body")];
    assert_eq!(records(&lab.sent(D0)), now);
    lab.send(D0, &csus);
    assert_eq!(lab.sent(D0), []);
    lab.send(D0, &Msg::Reply(vec![sum(b"a", 1, 5)]));
    for n in 0..60 {
        lab.send(D0, &csus);
        let sent = records(&lab.sent(D0));
        assert_eq!(sent.len(), usize::from(n % 10 == 0), "{n}");
        assert!(sent.iter().all(|rec| rec.sum.hop_count == 1));
        assert_eq!(lab.alignment(D0), Aligned);
        lab.wait(millis(100));
    }
    assert_eq!(lab.hub.hello(D0), Waiting);
}

/// Goal: what is gone is answered by its summary with N and no body; one received is acknowledged
/// and not cached. An instance newer than what is held is gone too.
#[test]
fn csu_11_null_records() {
    let mut lab = aligned();
    lab.flood(D0, &[rec(b"held", 9, 3, 4, b"body")]);
    lab.send(
        D0,
        &Msg::Csus(vec![sum(b"gone", 9, 7).hops(3), sum(b"held", 9, 4)]),
    );
    let null = |key, seq| sum(key, 9, seq).null().with(b"");
    let mut expected = vec![
        null(b"gone", 7),
        null(b"held", 4),
        rec(b"held", 9, 3, 3, b"body"),
    ];
    expected.sort_by_key(|rec| (rec.sum.key.clone(), rec.sum.seq));
    let mut sent = records(&lab.sent(D0));
    sent.sort_by_key(|rec| (rec.sum.key.clone(), rec.sum.seq));
    assert_eq!(sent, expected);
    // One received.
    let sent = lab.flood(D0, &[null(b"other", 5)]);
    assert_eq!(sent, [Msg::Reply(vec![sum(b"other", 9, 5).null()])]);
    assert_eq!(lab.entry(b"other", 9), None);
    assert_eq!(outcomes(&lab, Outcome::Null), 1);
    // Its acknowledgement in turn means nothing.
    lab.send(D0, &Msg::Reply(vec![sum(b"gone", 9, 7).null()]));
    assert_eq!(lab.sent(D0), []);
}

/// Goal: an N in answer to a CSUS carries hop count 1, whatever was asked with (D-16).
#[test]
fn csu_17_null_records_have_hop_count_one() {
    let mut lab = aligned();
    lab.send(D0, &Msg::Csus(vec![sum(b"gone", 1, 5).hops(9)]));
    let null = sum(b"gone", 1, 5).null();
    assert_eq!(lab.sent(D0), [Msg::Request(vec![null.with(b"")])]);
}

/// Goal: an N for what came from elsewhere meanwhile, with the very sequence asked for, brings the
/// neighbour nothing that it has not let go of.
#[test]
fn csu_11_null_answer_for_what_is_held_by_now() {
    let mut lab = Lab::new(&[9, 1]);
    lab.align(D1);
    lab.exchange(D0, &[sum(b"k", 3, 5)]);
    lab.flood(D1, &[rec(b"k", 3, 5, 3, b"body")]);
    assert_eq!(records(&lab.sent(D0)), [rec(b"k", 3, 5, 2, b"body")]);
    lab.send(D0, &Msg::Reply(vec![sum(b"k", 3, 5)]));
    let null = sum(b"k", 3, 5).null();
    let sent = lab.flood(D0, &[null.clone().with(b"")]);
    assert_eq!(
        (sent, lab.alignment(D0)),
        (vec![Msg::Reply(vec![null])], Aligned)
    );
    lab.wait(secs(3));
    assert_eq!(lab.sent(D0), []);
}

/// Goal: a record equal to the queued one acknowledges it, and is acknowledged all the same.
#[test]
fn csu_12_implicit_acknowledgement() {
    let mut lab = aligned();
    lab.flood(D1, &[rec(b"a", 1, 5, 4, b"body")]);
    lab.sent(D0);
    let sent = lab.flood(D0, &[rec(b"a", 1, 5, 4, b"body")]);
    assert_eq!(sent, [Msg::Reply(vec![sum(b"a", 1, 5)])]);
    lab.wait(secs(5));
    assert_eq!(
        (lab.sent(D0), lab.hub.home(b"a").queue_len(D0)),
        (vec![], 0)
    );
}

/// Goal: CSU Requests and Replies are for LSID or for all ones of any length, else discarded.
#[test]
fn csu_13_receiver_ids() {
    let mut lab = aligned_of(&[9]);
    let from = id(9);
    for (to, taken) in [
        (&[10, 0, 0, LSID][..], true),
        (&[0xFF], true),
        (&[0xFF; 4], true),
        (&[0xFF; 255], true),
        (&[], false),
        (&[10, 0, 0, 7], false),
        (&[0xFF, 0xFF, 0xFF, 0xFE], false),
        (&[10, 0, 0, LSID, 0], false),
    ] {
        let key = [to, b"#"].concat();
        let key = &key[..key.len().min(20)];
        lab.send_as(
            D0,
            from.as_bytes(),
            to,
            &Msg::Request(vec![rec(key, 9, 1, 3, b"body")]),
        );
        assert_eq!(lab.sent(D0).len(), usize::from(taken), "{to:?}");
        lab.publish(b"own", b"body");
        let seq = lab.entry(b"own", LSID).unwrap().0;
        lab.sent(D0);
        lab.send_as(
            D0,
            from.as_bytes(),
            to,
            &Msg::Reply(vec![sum(b"own", LSID, seq)]),
        );
        assert_eq!(lab.hub.home(b"own").queue_len(D0) == 0, taken, "{to:?}");
    }
    assert_eq!(dropped(&lab, Drop::Receiver), 8);
}

/// Goal: every reason for which a packet is dropped has a place and a label of its own: two of one
/// label would be one series, in which the larger count hides the other.
#[test]
fn csu_13_reasons_to_drop_are_told_apart() {
    let labels: Vec<_> = Drop::labels().collect();
    assert_eq!(labels.len(), Drop::COUNT);
    let distinct: std::collections::BTreeSet<_> = labels.iter().collect();
    assert_eq!(distinct.len(), Drop::COUNT);
    for (reason, label) in [
        (Drop::Receiver, "receiver"),
        (Drop::SenderId, "sender_id"),
        (Drop::NotAligned, "not_aligned"),
        (Drop::IdLength, "id_length"),
        (Drop::Authentication, "authentication"),
    ] {
        assert_eq!(labels[reason.index()], label);
    }
}

/// Goal: hop counts: the configured one at first, one less with each server, nothing passed on at
/// 0 and 1.
#[test]
fn csu_16_hop_counts() {
    let mut lab = Lab::with(&[9, 1], |setup| setup.instances[0].hop_count = 7);
    lab.align(D0);
    lab.align(D1);
    lab.publish(b"own", b"body");
    assert_eq!(records(&lab.sent(D1))[0].sum.hop_count, 7);
    for (arrives, leaves) in [
        (0, None),
        (1, None),
        (2, Some(1)),
        (3, Some(2)),
        (65_535, Some(65_534)),
    ] {
        let key = format!("{arrives}").into_bytes();
        let sent = lab.flood(D0, &[rec(&key, 9, 1, arrives, b"body")]);
        assert_eq!(replies(&sent), [sum(&key, 9, 1)]);
        assert!(lab.entry(&key, 9).is_some());
        let hops = records(&lab.sent(D1)).first().map(|rec| rec.sum.hop_count);
        assert_eq!(hops, leaves, "{arrives}");
    }
}

/// Goal: summaries on their own carry hop count 1, whatever the record's was: in CA messages,
/// replies, solicits and null records.
#[test]
fn csu_17_summaries_have_hop_count_one() {
    let mut lab = Lab::new(&[9, 1]);
    lab.align(D1);
    assert_eq!(
        lab.flood(D1, &[rec(b"a", 1, 1, 9, b"b")]),
        [Msg::Reply(vec![sum(b"a", 1, 1)])]
    );
    lab.open(D0);
    lab.send(D0, &ca(900, "MIO", &[]));
    assert_eq!(lab.sent(D0), [ca(900, "", &[sum(b"a", 1, 1)])]);
    lab.send(D0, &ca(901, "M", &[sum(b"b", 9, 1).hops(0)]));
    assert_eq!(solicits(&lab.sent(D0)), [sum(b"b", 9, 1)]);
    lab.send(D0, &Msg::Csus(vec![sum(b"c", 9, 1).hops(9)]));
    assert_eq!(records(&lab.sent(D0)), [sum(b"c", 9, 1).null().with(b"")]);
}

/// Goal: without anybody who could remember an earlier run, a sequence starts at -2^31+1 and goes
/// up by one with each change.
#[test]
fn csu_18_sequences_start_low_and_count() {
    let mut lab = Lab::new(&[]);
    for seq in 0..3 {
        assert_eq!(lab.publish(b"own", b"body"), CsaSeq::FIRST.get() + seq);
    }
    let now = lab.now();
    assert_eq!(lab.hub.home(b"own").purge(now, I0, b"own"), Ok(true));
    assert_eq!(lab.publish(b"own", b"body"), CsaSeq::FIRST.get() + 4);
    // Chosen sequences: above the current one, up to 2^31-2.
    let mut choose = |seq: i32| {
        lab.hub
            .home(b"own")
            .publish(now, I0, b"own", b"body", CsaSeq::new(seq))
            .map(CsaSeq::get)
    };
    assert_eq!(choose(10), Ok(10));
    assert!(matches!(choose(10), Err(Refusal::Sequence { min: 11, .. })));
    assert!(matches!(choose(i32::MAX), Err(Refusal::Sequence { .. })));
    assert_eq!(choose(i32::MAX - 1), Ok(i32::MAX - 1));
}

/// Goal: after a restart the first own change takes the sequence that neighbours remember, or 0,
/// plus the increment; further ones count by one. Before a neighbour is Aligned there is none.
#[test]
fn csu_20_restart_increment() {
    let mut lab = Lab::new(&[9]);
    let now = lab.now();
    let refused = lab.hub.home(b"own").publish(now, I0, b"own", b"body", None);
    assert_eq!(refused, Err(Refusal::Loading));
    lab.exchange(D0, &[sum(b"old", LSID, 70)]);
    lab.flood(D0, &[rec(b"old", LSID, 70, 1, b"before")]);
    assert_eq!(lab.alignment(D0), Aligned);
    assert_eq!(lab.entry(b"old", LSID), Some((70, b"before".to_vec())));
    assert_eq!(lab.publish(b"old", b"body"), 1070);
    assert_eq!(lab.publish(b"old", b"body"), 1071);
    assert_eq!(lab.publish(b"new", b"body"), 1000);
    assert_eq!(lab.publish(b"new", b"body"), 1001);
}

/// Goal: the packet limit and the number of records per request hold; resends keep them too.
#[test]
fn csu_05_packets_keep_their_limits() {
    for max_records in [0, 1, 3] {
        let limits = DcsSetup {
            packet_limit: 300,
            max_records,
            ..dcs()
        };
        let mut lab = Lab::with(&[9], |setup| setup.dcs = vec![limits]);
        lab.align(D0);
        let now = lab.now();
        for n in 0..40 {
            lab.hub
                .home(&[n])
                .publish(now, I0, &[n], &[n; 60], None)
                .unwrap();
        }
        lab.collect();
        let sent = lab.sent(D0);
        let lens: Vec<_> = sent
            .iter()
            .map(|msg| records(std::slice::from_ref(msg)).len())
            .collect();
        assert_eq!(lens.iter().sum::<usize>(), 40);
        let full = if max_records == 0 {
            3
        } else {
            usize::from(max_records)
        };
        assert_eq!(
            lens.iter().filter(|len| **len == full).count(),
            lens.iter().filter(|len| **len > 0).count()
                - lens.iter().filter(|len| **len < full).count()
        );
        assert!(lens.iter().all(|len| *len <= full), "{lens:?}");
        lab.wait(secs(1));
        assert_eq!(records(&lab.sent(D0)).len(), 40);
    }
}

/// Goal: unacknowledged octets stay within a window, which a loss shrinks and acknowledgements
/// open again; a record larger than the window still passes.
#[test]
fn csu_05_window() {
    let mut lab = aligned_of(&[9]);
    let now = lab.now();
    for n in 0..100_u8 {
        lab.hub
            .home(&[n])
            .publish(now, I0, &[n], &[n; 4000], None)
            .unwrap();
    }
    lab.hub
        .home(b"large")
        .publish(now, I0, b"large", &vec![0; 65_000], None)
        .unwrap();
    lab.collect();
    let mut left: std::collections::BTreeSet<_> = (0..100_u8).map(|n| vec![n]).collect();
    left.insert(b"large".to_vec());
    let first = records(&lab.sent(D0)).len();
    assert!(first < 70, "two shards, 128 KiB each");
    // The first burst is lost; from then on everything is acknowledged.
    lab.wait(secs(1));
    for _ in 0..200 {
        let sent = records(&lab.sent(D0));
        if sent.is_empty() {
            break;
        }
        for rec in &sent {
            left.remove(&rec.sum.key);
        }
        let acks = sent
            .iter()
            .map(|rec| sum(&rec.sum.key, LSID, rec.sum.seq))
            .collect();
        lab.send(D0, &Msg::Reply(acks));
    }
    assert!(left.is_empty(), "{left:?}");
    lab.wait(secs(3));
    assert_eq!(lab.sent(D0), []);
}

/// Goal: the window ends a packet that could hold more.
#[test]
fn csu_05_window_ends_a_packet() {
    let mut lab = Lab::with(&[9], |setup| {
        setup.shards = 1;
        setup.dcs[0].packet_limit = 60_000;
    });
    lab.align(D0);
    let now = lab.now();
    for key in 0..250_u8 {
        let shard = &mut lab.hub.shards[0];
        shard.publish(now, I0, &[key], &[0; 1000], None).unwrap();
    }
    lab.collect();
    let sent = lab.sent(D0);
    let lens = sent
        .iter()
        .map(|msg| records(std::slice::from_ref(msg)).len());
    let lens: Vec<_> = lens.collect();
    assert_eq!((lens.len(), lens[0], lens[1]), (3, 58, 58), "{lens:?}");
    // Records of 1,017 octets: 128 KiB hold 128 of them.
    assert_eq!(lens[2], 12);
}

/// Goal: a record that no packet for a neighbour can hold is counted, and blocks nothing behind it.
#[test]
fn csu_05_unsendable_records_block_nothing() {
    let long = scsp_wire::ServerId::from_bytes(&[0xFE; 255]).unwrap();
    let mut lab = Lab::with(&[9, 1], |setup| setup.shards = 1);
    lab.align(D0);
    // The second neighbour has the longest id there is.
    let us = id(LSID);
    let now = lab.now();
    let bytes = hello(&[LSID]).build(&lab.hub.setup, D1, long.as_bytes(), us.as_bytes());
    lab.hub.receive(now, D1, &bytes);
    lab.hub.settle(now);
    assert_eq!(lab.hub.hello(D1), Bidirectional);
    let bytes = ca(900, "MIO", &[]).build(&lab.hub.setup, D1, long.as_bytes(), us.as_bytes());
    lab.hub.receive(now, D1, &bytes);
    lab.hub.settle(now);
    let bytes = ca(901, "M", &[]).build(&lab.hub.setup, D1, long.as_bytes(), us.as_bytes());
    lab.hub.receive(now, D1, &bytes);
    lab.hub.settle(now);
    assert_eq!(lab.alignment(D1), Aligned);
    lab.hub.out.clear();
    let body = vec![7; 65_300];
    for (key, body) in [(b"a", &body[..]), (b"b", b"small")] {
        let bytes = Msg::Request(vec![rec(key, 9, 1, 4, body)]).build(
            &lab.hub.setup,
            D0,
            id(9).as_bytes(),
            us.as_bytes(),
        );
        lab.hub.receive(now, D0, &bytes);
        lab.hub.settle(now);
    }
    let to_d1: Vec<_> = lab.hub.out.drain(..).filter(|(to, _)| *to == D1).collect();
    assert_eq!(to_d1.len(), 1);
    assert_eq!(records(&[Msg::parse(&to_d1[0].1)])[0].sum.key, b"b");
    assert_eq!(lab.hub.shards[0].counters(I0).unsendable, 1);
    assert_eq!(lab.hub.shards[0].queue_len(D1), 1);
}

/// Goal: at the very start of the clock nothing counts as overdue.
#[test]
fn csu_06_nothing_is_overdue_at_time_zero() {
    use scsp_engine::{Now, Setup, Time};
    let mut setup = Setup {
        instances: vec![opaque_instance()],
        ..crate::support::setup(LSID, 1, 1)
    };
    setup.instances[0].boot_hold = secs(0);
    let start = Now {
        time: Time::ZERO,
        unix_ms: at(secs(0)).unix_ms,
    };
    let mut hub = crate::support::Hub::new(setup, start);
    hub.settle(start);
    for msg in [hello(&[LSID]), ca(900, "MIO", &[]), ca(901, "M", &[])] {
        let bytes = msg.build(&hub.setup, D0, id(9).as_bytes(), id(LSID).as_bytes());
        hub.receive(start, D0, &bytes);
        hub.settle(start);
    }
    hub.home(b"a")
        .publish(start, I0, b"a", b"body", None)
        .unwrap();
    hub.settle(start);
    hub.out.clear();
    hub.tick(start);
    assert!(hub.out.is_empty());
}
