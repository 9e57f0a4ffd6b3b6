//! Cache alignment (RFC 2334 2.2, B.2.1). The neighbour 10.0.0.9 is master of the hub 10.0.0.5,
//! the neighbour 10.0.0.1 its slave.

use scsp_engine::alignment::Role;
use scsp_engine::alignment::State::{Aligned, Down, Negotiation, Summarize, Update};
use scsp_engine::hello as hello_machine;
use scsp_engine::message::{Abnormal, Epoch, Page, ToControl};
use scsp_engine::{DcsIndex, DcsSetup, Notice, ShardIndex};

use crate::script::{LSID, Lab, Msg, Sum, ca, hello, rec, records, replies, solicits, sum};
use crate::support::{D0, D1, START_UNIX_MS, dcs, id, millis, secs};

/// Own records to summarize, all from before the neighbour comes up: one page holds four.
fn publish_many(lab: &mut Lab, count: u8) {
    for n in 0..count {
        lab.publish(&[n; 200], b"body");
    }
}

/// A hub whose packets hold four summaries of `publish_many`, and that already may originate.
fn small_packets(peers: &[u8], entries: u8) -> Lab {
    let mut lab = Lab::with(peers, |setup| {
        setup.dcs = vec![
            DcsSetup {
                packet_limit: 36 + 4 * 216,
                ..dcs()
            };
            peers.len()
        ];
    });
    lab.wait(secs(10));
    publish_many(&mut lab, entries);
    lab
}

fn keys(sums: &[Sum]) -> Vec<u8> {
    let mut keys: Vec<_> = sums.iter().map(|sum| sum.key[0]).collect();
    keys.sort_unstable();
    keys
}

fn parts(msg: &Msg) -> (u32, &str, &[Sum]) {
    let Msg::Ca(seq, flags, sums) = msg else {
        panic!("{msg:?}")
    };
    (*seq, flags, sums)
}

/// Goal: the alignment follows the hello machine into Negotiation and back to Down.
#[test]
fn ca_01_follows_the_hello_machine() {
    let mut lab = Lab::new(&[9]);
    assert_eq!(lab.alignment(D0), Down);
    lab.send(D0, &hello(&[]));
    assert_eq!(lab.alignment(D0), Down);
    lab.meet(D0);
    assert_eq!(lab.alignment(D0), Negotiation);
    lab.send(D0, &hello(&[]));
    assert_eq!(lab.alignment(D0), Down);
}

/// Goal: Negotiation opens with an empty CA of M, I and O, repeated unchanged every
/// `CAReXmtInterval`; its sequence comes from the wall clock and never repeats.
#[test]
fn ca_02_negotiation_opens_with_a_new_sequence() {
    let mut lab = Lab::new(&[9]);
    lab.wait(secs(2));
    let first = lab.open(D0);
    #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
    let clock = START_UNIX_MS as u32 + 2000;
    assert_eq!(first, clock);
    lab.wait(millis(999));
    assert_eq!(lab.sent(D0), []);
    lab.wait(millis(2001));
    assert_eq!(lab.sent(D0), vec![ca(first, "MIO", &[]); 3]);
    // Within one millisecond, still larger.
    let mut last = lab.open_again(D0);
    assert!(last > first);
    for _ in 0..3 {
        let next = lab.open_again(D0);
        assert_eq!(next, last + 1);
        last = next;
    }
}

impl Lab {
    fn open_again(&mut self, dcs: DcsIndex) -> u32 {
        self.send(dcs, &hello(&[]));
        self.open(dcs)
    }
}

/// Goal: a CA for another receiver, or from another sender than the Hello announced, is discarded
/// in every state. What we send goes to DCSID (checked for all of these tests).
#[test]
fn ca_03_other_receivers_are_discarded() {
    let mut lab = Lab::new(&[9]);
    lab.open(D0);
    let (us, them, other) = (id(LSID), id(9), id(7));
    for (from, to) in [(them, other), (other, us)] {
        lab.send_as(D0, from.as_bytes(), to.as_bytes(), &ca(900, "MIO", &[]));
        assert_eq!((lab.alignment(D0), lab.sent(D0)), (Negotiation, vec![]));
    }
    lab.send(D0, &ca(900, "MIO", &[]));
    lab.sent(D0);
    for (from, to) in [(them, other), (other, us)] {
        lab.send_as(D0, from.as_bytes(), to.as_bytes(), &ca(901, "M", &[]));
        assert_eq!((lab.alignment(D0), lab.sent(D0)), (Summarize, vec![]));
    }
    lab.send(D0, &ca(901, "M", &[]));
    lab.sent(D0);
    lab.send_as(D0, them.as_bytes(), other.as_bytes(), &ca(1, "MIO", &[]));
    assert_eq!((lab.alignment(D0), lab.sent(D0)), (Aligned, vec![]));
}

/// Goal: each CA that is discarded for its ids is counted.
#[test]
fn ca_03_discarded_messages_are_counted() {
    let mut lab = Lab::new(&[9]);
    lab.open(D0);
    let before = lab.hub.control.ignored();
    for (from, to) in [(9, 7), (7, LSID), (7, 8)] {
        lab.send_as(
            D0,
            id(from).as_bytes(),
            id(to).as_bytes(),
            &ca(900, "MIO", &[]),
        );
    }
    assert_eq!(lab.hub.control.ignored(), before + 3);
    lab.send(D0, &ca(900, "MIO", &[]));
    assert_eq!(lab.hub.control.ignored(), before + 3);
}

/// Goal: the larger id's opening CA makes us slave: its sequence, our first summaries, M and I
/// off, O while more remain; our own opening CA is not repeated any more.
#[test]
fn ca_04_becoming_slave() {
    for (entries, flags, count) in [(0, "", 0), (3, "", 3), (4, "", 4), (5, "O", 4)] {
        let mut lab = small_packets(&[9], entries);
        lab.open(D0);
        lab.send(D0, &ca(900, "MIO", &[]));
        let sent = lab.sent(D0);
        assert_eq!(sent.len(), 1);
        let (seq, sent_flags, sums) = parts(&sent[0]);
        assert_eq!((seq, sent_flags, sums.len()), (900, flags, count));
        assert_eq!(lab.alignment(D0), Summarize);
        assert_eq!(lab.hub.peer(D0).role, Some(Role::Slave));
        lab.wait(secs(5));
        assert_eq!(lab.sent(D0), []);
    }
}

/// Goal: the smaller id's answer to our opening CA makes us master: its summaries are taken in,
/// our first ones go out with M, sequence + 1, and O if more remain.
#[test]
fn ca_05_becoming_master() {
    for (entries, flags, count) in [(0, "M", 0), (4, "M", 4), (5, "MO", 4)] {
        let mut lab = small_packets(&[1], entries);
        let seq = lab.open(D0);
        lab.send(D0, &ca(seq, "O", &[sum(b"theirs", 1, 5)]));
        let sent = lab.sent(D0);
        assert_eq!(sent.len(), 1);
        let (sent_seq, sent_flags, sums) = parts(&sent[0]);
        assert_eq!((sent_seq, sent_flags, sums.len()), (seq + 1, flags, count));
        assert_eq!(lab.alignment(D0), Summarize);
        assert_eq!(lab.hub.peer(D0).role, Some(Role::Master));
        for answer in seq + 1.. {
            if lab.alignment(D0) != Summarize {
                break;
            }
            lab.send(D0, &ca(answer, "", &[]));
        }
        // By now the shards know all summaries.
        assert_eq!(lab.hub.home(b"theirs").requests_len(D0), 1);
    }
}

/// Goal: in Negotiation everything but rules 1 and 2 is ignored.
#[test]
fn ca_06_anything_else_is_ignored() {
    let one = [sum(b"key", 9, 1)];
    for (peer, flags) in [
        (9, "MI"),
        (9, "M"),
        (9, "IO"),
        (9, ""),
        (1, "MIO"),
        (1, "M"),
        (1, "I"),
    ] {
        let mut lab = Lab::new(&[peer]);
        let seq = lab.open(D0);
        lab.send(D0, &ca(seq, flags, &[]));
        assert_eq!(
            (lab.alignment(D0), lab.sent(D0)),
            (Negotiation, vec![]),
            "{peer} {flags}"
        );
    }
    // Rule 1 with a summary in it; rule 2 with another sequence.
    let mut lab = Lab::new(&[9]);
    lab.open(D0);
    lab.send(D0, &ca(900, "MIO", &one));
    assert_eq!((lab.alignment(D0), lab.sent(D0)), (Negotiation, vec![]));
    for step in [u32::MAX, 1, 2] {
        let mut lab = Lab::new(&[1]);
        let seq = lab.open(D0);
        lab.send(D0, &ca(seq.wrapping_add(step), "", &[]));
        assert_eq!((lab.alignment(D0), lab.sent(D0)), (Negotiation, vec![]));
    }
}

/// Goal: through an exchange of many pages, each CA of the master waits for its answer.
#[test]
fn ca_07_one_ca_outstanding() {
    let mut lab = small_packets(&[1], 10);
    let seq = lab.open(D0);
    lab.send(D0, &ca(seq, "O", &[]));
    for step in 1..=3 {
        let sent = lab.sent(D0);
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert_eq!(parts(&sent[0]).0, seq + step);
        lab.wait(millis(500));
        assert_eq!(lab.sent(D0), []);
        lab.send(D0, &ca(seq + step, "O", &[]));
    }
}

/// Goal: in Summarize the wrong M bit, or I, starts over with a new sequence.
#[test]
fn ca_08_wrong_m_or_i_renegotiates() {
    for (peer, flags) in [
        (9, ""),
        (9, "O"),
        (9, "MI"),
        (9, "MIO"),
        (1, "M"),
        (1, "MO"),
        (1, "I"),
    ] {
        let mut lab = Lab::new(&[peer]);
        let seq = lab.open(D0);
        let (opening, next) = if peer == 9 {
            (ca(900, "MIO", &[]), 901)
        } else {
            (ca(seq, "O", &[]), seq + 1)
        };
        lab.send(D0, &opening);
        assert_eq!(lab.alignment(D0), Summarize);
        lab.sent(D0);
        lab.send(D0, &ca(next, flags, &[]));
        assert_eq!(lab.alignment(D0), Negotiation, "{peer} {flags}");
        let sent = lab.sent(D0);
        let (again, sent_flags, _) = parts(&sent[0]);
        assert_eq!((sent.len(), sent_flags), (1, "MIO"));
        assert!(again > seq + 1 || peer == 9 && again > seq);
    }
}

/// Goal: the master discards a repetition of the message before, summaries included.
#[test]
fn ca_09_master_discards_a_duplicate() {
    let mut lab = Lab::new(&[1]);
    let seq = lab.open(D0);
    lab.send(D0, &ca(seq, "O", &[]));
    lab.sent(D0);
    lab.send(D0, &ca(seq, "O", &[sum(b"key", 1, 1)]));
    assert_eq!((lab.alignment(D0), lab.sent(D0)), (Summarize, vec![]));
    assert_eq!(lab.hub.home(b"key").requests_len(D0), 0);
}

/// Goal: the master's three ways on: more of its own; an empty CA with O off while the slave has
/// more; Update Cache when both are done.
#[test]
fn ca_10_master_goes_on() {
    let mut lab = small_packets(&[1], 6);
    let seq = lab.open(D0);
    // 1: our first page
    lab.send(D0, &ca(seq, "O", &[sum(b"a", 1, 1)]));
    let first = lab.sent(D0);
    let (_, flags, page) = parts(&first[0]);
    assert_eq!((flags, page.len()), ("MO", 4));
    let mut met = keys(page);
    // 2: more of ours
    lab.send(D0, &ca(seq + 1, "O", &[sum(b"b", 1, 1)]));
    let second = lab.sent(D0);
    let (next, flags, page) = parts(&second[0]);
    assert_eq!((next, flags, page.len()), (seq + 2, "M", 2));
    met.extend(keys(page));
    met.sort_unstable();
    assert_eq!(met, [0, 1, 2, 3, 4, 5]);
    // 3: none of ours left, the slave has more
    lab.send(D0, &ca(seq + 2, "O", &[sum(b"c", 1, 1)]));
    assert_eq!(lab.sent(D0), [ca(seq + 3, "M", &[])]);
    assert_eq!(lab.alignment(D0), Summarize);
    // 4: done
    lab.send(D0, &ca(seq + 3, "", &[sum(b"d", 1, 1)]));
    assert_eq!(lab.alignment(D0), Update);
    let sent = lab.sent(D0);
    assert_eq!(sent.len(), 1, "one CSUS, no CA: {sent:?}");
    let asked: usize = lab
        .hub
        .shards
        .iter()
        .map(|shard| shard.requests_len(D0))
        .sum();
    assert_eq!(asked, 4);
}

/// Goal: a CA waits for the first summaries of every shard, and for the next ones of the shard whose turn it is,
/// rather than say too early that there are none, or go out empty.
#[test]
fn ca_10_a_ca_waits_for_its_summaries() {
    let mut lab = small_packets(&[9], 240);
    let (now, them, us) = (lab.now(), id(9), id(LSID));
    let said = |lab: &mut Lab, msg: &Msg| {
        let bytes = msg.build(&lab.hub.setup, D0, them.as_bytes(), us.as_bytes());
        lab.hub.receive_at(now, 0, D0, &bytes);
        deliver(lab, (1, 0));
    };
    let cas = |lab: &mut Lab| -> Vec<Msg> {
        lab.hub.collect_packets(now);
        let sent = lab.hub.out.drain(..).map(|(_, bytes)| Msg::parse(&bytes));
        sent.filter(|msg| matches!(msg, Msg::Ca(..))).collect()
    };
    said(&mut lab, &hello(&[LSID]));
    assert_eq!(parts(&cas(&mut lab)[0]).1, "MIO");
    // 1: one shard's summaries are there, those of the other are not
    said(&mut lab, &ca(900, "MIO", &[]));
    deliver(&mut lab, (0, 1));
    deliver(&mut lab, (1, 0));
    assert_eq!(cas(&mut lab), []);
    deliver(&mut lab, (0, 2));
    deliver(&mut lab, (2, 0));
    let sent = cas(&mut lab);
    assert_eq!((sent.len(), parts(&sent[0]).2.len()), (1, 4));
    // 2: all that is there is sent, and the first shard's next summaries are not there yet
    let unanswered = (901..980).find(|seq| {
        said(&mut lab, &ca(*seq, "MO", &[]));
        cas(&mut lab).is_empty()
    });
    let seq = unanswered.expect("fewer summaries come unasked than there are");
    said(&mut lab, &ca(seq, "MO", &[]));
    assert_eq!(cas(&mut lab), [], "a repetition of what is being answered");
    deliver(&mut lab, (0, 1));
    deliver(&mut lab, (1, 0));
    let sent = cas(&mut lab);
    assert_eq!((sent.len(), parts(&sent[0]).2.len()), (1, 4));
}

/// Hands over what one core has to say to another.
fn deliver(lab: &mut Lab, path: (usize, usize)) {
    let now = lab.now();
    lab.hub.collect_notes();
    while lab.hub.deliver(now, path) {}
    lab.hub.collect_notes();
}

/// Goal: the master repeats its last CA until it is answered; the slave repeats nothing unasked.
#[test]
fn ca_11_only_the_master_repeats() {
    let mut lab = small_packets(&[1], 1);
    let seq = lab.open(D0);
    lab.send(D0, &ca(seq, "O", &[]));
    let first = lab.sent(D0);
    lab.wait(millis(3500));
    assert_eq!(lab.sent(D0), vec![first[0].clone(); 3]);
    lab.send(D0, &ca(seq + 1, "", &[]));
    lab.sent(D0);
    lab.wait(secs(5));
    assert!(
        !lab.sent(D0).iter().any(|msg| matches!(msg, Msg::Ca(..))),
        "Update Cache"
    );

    let mut lab = small_packets(&[9], 10);
    lab.open(D0);
    lab.send(D0, &ca(900, "MIO", &[]));
    lab.sent(D0);
    lab.wait(secs(5));
    assert_eq!((lab.alignment(D0), lab.sent(D0)), (Summarize, vec![]));
}

/// Goal: the slave answers a repetition with its last CA, and does not take it in twice.
#[test]
fn ca_12_slave_repeats_when_asked() {
    let mut lab = small_packets(&[9], 10);
    lab.open(D0);
    lab.send(D0, &ca(900, "MIO", &[]));
    lab.sent(D0);
    let said = ca(901, "MO", &[sum(b"key", 9, 1)]);
    lab.send(D0, &said);
    let answer = lab.sent(D0);
    for _ in 0..3 {
        lab.send(D0, &said);
        assert_eq!(lab.sent(D0), answer);
    }
    for seq in 902.. {
        if lab.alignment(D0) != Summarize {
            break;
        }
        lab.send(D0, &ca(seq, "M", &[]));
    }
    // By now the shards know all summaries.
    assert_eq!(lab.hub.home(b"key").requests_len(D0), 1);
}

/// Goal: the slave takes in the next sequence, answers with the next summaries, and enters Update
/// Cache with the message by which both sides have said O off.
#[test]
fn ca_13_slave_goes_on() {
    let mut lab = small_packets(&[9], 6);
    lab.open(D0);
    lab.send(D0, &ca(900, "MIO", &[]));
    let sent = lab.sent(D0);
    assert_eq!((parts(&sent[0]).1, parts(&sent[0]).2.len()), ("O", 4));
    // 1: our last summaries; the master has more: stay, O off
    lab.send(D0, &ca(901, "MO", &[sum(b"a", 9, 1)]));
    let sent = lab.sent(D0);
    let (seq, flags, sums) = parts(&sent[0]);
    assert_eq!((seq, flags, sums.len()), (901, "", 2));
    assert_eq!(lab.alignment(D0), Summarize);
    // 2: still more there: an empty CA
    lab.send(D0, &ca(902, "MO", &[]));
    assert_eq!(lab.sent(D0), [ca(902, "", &[])]);
    assert_eq!(lab.alignment(D0), Summarize);
    // 3: its last: an empty CA, then Update Cache
    lab.send(D0, &ca(903, "M", &[]));
    let sent = lab.sent(D0);
    assert_eq!(sent[0], ca(903, "", &[]));
    assert_eq!(solicits(&sent), [sum(b"a", 9, 1)]);
    assert_eq!(lab.alignment(D0), Update);
}

/// Goal: our last summaries in answer to the master's last: that message ends the exchange.
#[test]
fn ca_13_last_message_of_both_sides() {
    let mut lab = small_packets(&[9], 6);
    lab.open(D0);
    lab.send(D0, &ca(900, "MIO", &[]));
    lab.sent(D0);
    lab.send(D0, &ca(901, "M", &[]));
    let sent = lab.sent(D0);
    assert_eq!(
        (sent.len(), parts(&sent[0]).1, parts(&sent[0]).2.len()),
        (1, "", 2)
    );
    assert_eq!(lab.alignment(D0), Aligned);
}

/// Goal: exchanges end with several shards and nothing to say on one or both sides.
#[test]
fn ca_13_empty_caches() {
    for (peer, ours, theirs) in [
        (9, 0, 0),
        (9, 2, 0),
        (9, 0, 1),
        (1, 0, 0),
        (1, 2, 0),
        (1, 0, 1),
    ] {
        let mut lab = Lab::with(&[peer], |setup| setup.shards = 4);
        lab.wait(secs(10));
        publish_many(&mut lab, ours);
        let sums: Vec<_> = (0..theirs).map(|_| sum(b"theirs", peer, 1)).collect();
        let sent = lab.exchange(D0, &sums);
        assert_eq!(solicits(&sent), sums);
        assert_eq!(
            lab.alignment(D0),
            if theirs == 0 { Aligned } else { Update }
        );
    }
}

/// Goal: the slave starts over at any sequence but its own and the next.
#[test]
fn ca_14_slave_renegotiates_on_other_sequences() {
    for seq in [899, 902, 903, 0] {
        let mut lab = Lab::new(&[9]);
        lab.open(D0);
        lab.send(D0, &ca(900, "MIO", &[]));
        lab.sent(D0);
        lab.send(D0, &ca(seq, "MO", &[]));
        assert_eq!(lab.alignment(D0), Negotiation, "{seq}");
        assert_eq!(parts(&lab.sent(D0)[0]).1, "MIO");
    }
}

/// Goal: in Update Cache the slave repeats its last CA for a master that missed it, until a CSU
/// message of that master, and no longer.
#[test]
fn ca_15_slave_keeps_its_last_ca() {
    for steps_on in [
        Msg::Csus(vec![sum(b"none", 9, 1)]),
        Msg::Request(vec![rec(b"key", 9, 1, 3, b"b")]),
    ] {
        let mut lab = Lab::new(&[9]);
        lab.align(D0);
        for _ in 0..3 {
            lab.wait(secs(20));
            lab.sent(D0);
            lab.send(D0, &ca(901, "M", &[]));
            assert_eq!(lab.sent(D0), [ca(901, "", &[])]);
        }
        lab.send(D0, &steps_on);
        lab.sent(D0);
        lab.send(D0, &ca(901, "M", &[]));
        assert_eq!((lab.alignment(D0), lab.sent(D0)), (Aligned, vec![]));
    }
}

/// Goal: what is absent, or newer there, is asked for; what is equal or older there is not.
#[test]
fn ca_16_news_go_onto_the_request_list() {
    for peer in [1, 9] {
        let mut lab = Lab::new(&[peer, 7]);
        lab.align(D1);
        let known = [
            rec(b"equal", 3, 5, 3, b"b"),
            rec(b"newer", 3, 5, 3, b"b"),
            rec(b"older", 3, -5, 3, b"b"),
        ];
        lab.flood(D1, &known);
        let theirs = [
            sum(b"absent", 3, -7),
            sum(b"equal", 3, 5),
            sum(b"equal", 4, 5), // another originator
            sum(b"newer", 3, 6),
            sum(b"older", 3, -6),
        ];
        let mut sent = lab.exchange(D0, &theirs);
        // The shards take turns.
        let asked = solicits(&sent);
        let answer: Vec<_> = asked.iter().map(|sum| sum.clone().with(b"b")).collect();
        sent.extend(lab.flood(D0, &answer));
        assert_eq!(
            solicits(&sent),
            [theirs[0].clone(), theirs[2].clone(), theirs[3].clone()]
        );
    }
}

/// Goal: what is changed or made after the exchange began arrives too: as a summary if there is
/// time, and as a CSU Request once CSU may flow, never before.
#[test]
fn ca_17_no_lost_update_window() {
    let mut lab = small_packets(&[9], 6);
    lab.open(D0);
    lab.send(D0, &ca(900, "MIO", &[]));
    let sent = lab.sent(D0);
    let mut met = parts(&sent[0]).2.to_vec();
    for n in 0..6 {
        lab.publish(&[n; 200], b"changed");
    }
    lab.publish(&[6; 200], b"made");
    assert_eq!(lab.sent(D0), []);
    lab.send(D0, &ca(901, "M", &[]));
    let sent = lab.sent(D0);
    met.extend_from_slice(parts(&sent[0]).2);
    assert_eq!(keys(&met)[..6], [0, 1, 2, 3, 4, 5], "each exactly once");
    let flooded = records(&sent);
    assert_eq!(flooded.len(), 7, "{flooded:?}");
    for (rec, n) in flooded.iter().zip(0..) {
        assert_eq!(rec.sum.key, [n; 200]);
        assert_eq!(rec.body, if n < 6 { &b"changed"[..] } else { b"made" });
    }
}

/// Goal: a record that arrives from elsewhere during the exchange goes on afterwards.
#[test]
fn ca_17_arrivals_during_the_exchange() {
    let mut lab = Lab::new(&[9, 7]);
    lab.align(D1);
    lab.open(D0);
    lab.send(D0, &ca(900, "MIO", &[]));
    lab.sent(D0);
    lab.flood(
        D1,
        &[
            rec(b"key", 7, 1, 3, b"body"),
            rec(b"spent", 7, 1, 1, b"body"),
        ],
    );
    assert_eq!(lab.sent(D0), []);
    lab.send(D0, &ca(901, "M", &[]));
    let flooded = records(&lab.sent(D0));
    assert_eq!(
        flooded,
        [
            rec(b"key", 7, 1, 2, b"body"),
            rec(b"spent", 7, 1, 1, b"body")
        ]
    );
}

/// Goal: nothing to ask for: Aligned at once, in both roles.
#[test]
fn ca_18_aligned_at_once() {
    for peer in [1, 9] {
        let mut lab = Lab::new(&[peer]);
        assert_eq!(lab.exchange(D0, &[]), []);
        assert_eq!(lab.alignment(D0), Aligned);
    }
}

/// Goal: every edge of the alignment is told once, and with the one to Aligned how long it took since
/// Negotiation was entered last.
#[test]
fn ca_18_aligned_tells_how_long_it_took() {
    let mut lab = Lab::new(&[9]);
    lab.wait(secs(1));
    lab.open(D0);
    lab.wait(secs(2));
    lab.open_again(D0);
    lab.notices();
    lab.wait(millis(1500));
    lab.send(D0, &ca(900, "MIO", &[]));
    lab.wait(millis(500));
    lab.send(D0, &ca(901, "M", &[]));
    let edges = lab.notices().into_iter().filter_map(|notice| match notice {
        Notice::Alignment { from, to, took, .. } => Some((from, to, took)),
        _ => None,
    });
    let expected = [
        (Negotiation, Summarize, None),
        (Summarize, Update, None),
        (Update, Aligned, Some(secs(2))),
    ];
    assert_eq!(edges.collect::<Vec<_>>(), expected);
}

/// Goal: what a shard says of another exchange than the one that stands has no effect, in any state.
#[test]
fn ca_17_messages_of_another_exchange_are_void() {
    let (dcs, epoch) = (D0, Epoch(u32::MAX));
    let say_all = |lab: &mut Lab| {
        let (now, state) = (lab.now(), lab.alignment(D0));
        lab.notices();
        for shard in [0, 1].map(ShardIndex) {
            let (bytes, more) = (vec![0; 8], true);
            for message in [
                ToControl::Page {
                    dcs,
                    epoch,
                    shard,
                    page: Page { bytes, more },
                },
                ToControl::Compared {
                    dcs,
                    epoch,
                    shard,
                    wanting: true,
                },
                ToControl::Wanting { dcs, epoch, shard },
                ToControl::TurnOver { dcs, epoch, shard },
                ToControl::MovedOn { dcs, epoch },
            ] {
                let said = format!("{message:?} in {state:?}");
                lab.hub.control.handle_message(now, message);
                assert!(lab.hub.control.poll_message().is_none(), "{said}");
            }
        }
        lab.collect();
        assert_eq!((lab.sent(D0), lab.notices()), (vec![], vec![]), "{state:?}");
    };
    let mut lab = Lab::new(&[9]);
    say_all(&mut lab);
    lab.open(D0);
    say_all(&mut lab);
    lab.send(D0, &ca(900, "MIO", &[]));
    assert_eq!(lab.sent(D0), [ca(900, "", &[])]);
    say_all(&mut lab);
    let asked = sum(b"key", 9, 1);
    lab.send(D0, &ca(901, "M", std::slice::from_ref(&asked)));
    assert_eq!(lab.alignment(D0), Update);
    lab.sent(D0);
    say_all(&mut lab);
    lab.send(D0, &ca(901, "M", std::slice::from_ref(&asked)));
    assert_eq!(lab.sent(D0), [ca(901, "", &[])], "CA-15");
    lab.flood(D0, &[asked.with(b"b")]);
    assert_eq!(lab.alignment(D0), Aligned);
    say_all(&mut lab);
}

/// Goal: one CSUS at a time over all shards; the next at once when all came, or with what is
/// missing after `CSUSReXmtInterval`; Aligned when the list is empty.
#[test]
fn ca_19_one_solicit_at_a_time() {
    let mut lab = Lab::with(&[9], |setup| setup.shards = 1);
    let keys: Vec<[u8; 200]> = (0..15).map(|n| [n; 200]).collect();
    lab.open(D0);
    lab.send(D0, &ca(900, "MIO", &[]));
    let theirs: Vec<_> = keys.iter().map(|key| sum(key, 9, 1)).collect();
    lab.send(D0, &ca(901, "MO", &theirs[..7]));
    lab.sent(D0);
    lab.send(D0, &ca(902, "M", &theirs[7..]));
    // 1: as many as a packet holds
    let asked = solicits(&lab.sent(D0));
    assert_eq!(asked, theirs[..6]);
    let answer =
        |sums: &[Sum]| -> Vec<_> { sums.iter().map(|sum| sum.clone().with(b"b")).collect() };
    // 2: some come: nothing more is asked before the interval ends
    let sent = lab.flood(D0, &answer(&asked[..4]));
    assert_eq!((solicits(&sent), replies(&sent).len()), (vec![], 4));
    lab.wait(millis(999));
    assert_eq!(lab.sent(D0), []);
    // 3: then the missing ones and further ones
    lab.wait(millis(1));
    let asked = solicits(&lab.sent(D0));
    assert_eq!(asked, theirs[4..10]);
    // 4: all come: the next follows at once
    let asked = solicits(&lab.flood(D0, &answer(&asked)));
    assert_eq!(asked, theirs[10..]);
    assert_eq!(lab.alignment(D0), Update);
    lab.flood(D0, &answer(&asked));
    assert_eq!((lab.alignment(D0), lab.sent(D0)), (Aligned, vec![]));
    lab.wait(secs(10));
    assert_eq!(lab.sent(D0), []);
}

/// Goal: an answer with the N bit settles its place on the list.
#[test]
fn ca_20_null_answer_settles() {
    let mut lab = Lab::new(&[9]);
    let sent = lab.exchange(D0, &[sum(b"gone", 9, 5)]);
    assert_eq!(solicits(&sent), [sum(b"gone", 9, 5)]);
    let null = sum(b"gone", 9, 5).null();
    let sent = lab.flood(D0, &[null.clone().with(b"")]);
    assert_eq!(sent, [Msg::Reply(vec![null])]);
    assert_eq!(lab.alignment(D0), Aligned);
    assert_eq!(lab.entry(b"gone", 9), None);
}

/// Goal: a CSUS for another receiver is discarded, all ones included; one in Aligned is answered.
#[test]
fn ca_21_solicits_for_others_are_discarded() {
    let mut lab = Lab::new(&[9, 7]);
    lab.align(D1);
    lab.flood(D1, &[rec(b"key", 7, 1, 3, b"body")]);
    lab.align(D0);
    let asked = Msg::Csus(vec![sum(b"key", 7, 1)]);
    for to in [&[10, 0, 0, 7][..], &[0xFF; 4], &[]] {
        lab.send_as(D0, id(9).as_bytes(), to, &asked);
        assert_eq!(lab.sent(D0), []);
    }
    lab.send(D0, &asked);
    assert_eq!(
        lab.sent(D0),
        [Msg::Request(vec![rec(b"key", 7, 1, 1, b"body")])]
    );
}

/// Goal: I in Update Cache or Aligned: the neighbour restarted; we start over, and its opening CA
/// counts in the new Negotiation.
#[test]
fn ca_22_restart_of_the_neighbour() {
    for news in [vec![], vec![sum(b"key", 3, 1)]] {
        // 1: the larger id restarts: our opening CA, then our answer as slave
        let mut lab = Lab::new(&[9]);
        lab.exchange(D0, &news);
        let state = if news.is_empty() { Aligned } else { Update };
        assert_eq!(lab.alignment(D0), state);
        lab.sent(D0);
        lab.send(D0, &ca(5, "MIO", &[]));
        let sent = lab.sent(D0);
        assert_eq!((sent.len(), parts(&sent[0]).1), (2, "MIO"));
        assert_eq!(sent[1], ca(5, "", &[]));
        assert_eq!(lab.alignment(D0), Summarize);
        lab.send(D0, &ca(6, "M", &[]));
        assert_eq!(lab.alignment(D0), Aligned);
        // 2: the smaller id restarts: our opening CA, which it answers
        let mut lab = Lab::new(&[1]);
        lab.exchange(D0, &news);
        lab.sent(D0);
        lab.send(D0, &ca(5, "MIO", &[]));
        let sent = lab.sent(D0);
        assert_eq!((sent.len(), parts(&sent[0]).1), (1, "MIO"));
        assert_eq!(lab.alignment(D0), Negotiation);
        lab.send(D0, &ca(parts(&sent[0]).0, "", &[]));
        assert_eq!(lab.alignment(D0), Summarize);
    }
}

/// Goal: opening CAs that cross, or come twice, lead to Aligned in the end.
#[test]
fn ca_22_crossing_messages() {
    let mut lab = Lab::new(&[1]);
    lab.exchange(D0, &[]);
    // 1: it restarts; its opening CA comes twice, the second behind its answer
    lab.sent(D0);
    lab.send(D0, &ca(5, "MIO", &[]));
    let (seq, ..) = {
        let sent = lab.sent(D0);
        (parts(&sent[0]).0, ())
    };
    lab.send(D0, &ca(seq, "", &[]));
    lab.send(D0, &ca(5, "MIO", &[]));
    assert_eq!(lab.alignment(D0), Negotiation, "CA-08");
    let sent = lab.sent(D0);
    let seq = parts(sent.last().unwrap()).0;
    // 2: it answers what it heard last
    lab.send(D0, &ca(seq, "", &[]));
    lab.send(D0, &ca(seq + 1, "", &[]));
    assert_eq!(lab.alignment(D0), Aligned);
}

/// Goal: what a neighbour asks for and sends while shards do not know yet of Update Cache is not
/// lost, whatever the order of messages between the cores.
#[test]
fn csu_01_messages_behind_the_last_ca_are_taken_in() {
    let mut lab = Lab::with(&[1], |setup| setup.shards = 3);
    let seq = lab.open(D0);
    lab.send(D0, &ca(seq, "", &[]));
    lab.sent(D0);
    let (now, them, us) = (lab.now(), id(1), id(LSID));
    let recs: Vec<_> = (0..20).map(|n| rec(&[n], 1, 1, 3, b"body")).collect();
    for msg in [ca(seq + 1, "", &[]), Msg::Request(recs)] {
        let bytes = msg.build(&lab.hub.setup, D0, them.as_bytes(), us.as_bytes());
        lab.hub.receive_at(now, 0, D0, &bytes);
    }
    lab.collect();
    assert_eq!(lab.alignment(D0), Aligned);
    assert_eq!(replies(&lab.sent(D0)).len(), 20);
}

/// Goal: shards that learn of Update Cache late still take in what others received for them.
#[test]
fn csu_01_records_for_a_shard_that_is_behind() {
    let mut lab = Lab::with(&[1], |setup| setup.shards = 2);
    let seq = lab.open(D0);
    lab.send(D0, &ca(seq, "", &[]));
    lab.sent(D0);
    let (now, them, us) = (lab.now(), id(1), id(LSID));
    let bytes = ca(seq + 1, "", &[]).build(&lab.hub.setup, D0, them.as_bytes(), us.as_bytes());
    lab.hub.receive_at(now, 0, D0, &bytes);
    // Only the first shard hears of Update Cache.
    lab.hub.collect_notes();
    while lab.hub.deliver(now, (1, 0)) {}
    lab.hub.collect_notes();
    while lab.hub.deliver(now, (0, 1)) {}
    let recs: Vec<_> = (0..20).map(|n| rec(&[n], 1, 1, 3, b"body")).collect();
    let bytes = Msg::Request(recs).build(&lab.hub.setup, D0, them.as_bytes(), us.as_bytes());
    lab.hub.receive_at(now, 0, D0, &bytes);
    lab.hub.collect_notes();
    while lab.hub.deliver(now, (1, 2)) {}
    lab.collect();
    assert_eq!(replies(&lab.sent(D0)).len(), 20);
    assert_eq!(lab.hub.entries().len(), 20);
}

/// Goal: a CSUS that stays unanswered resets the neighbour (D-13) from Update Cache, not before.
#[test]
fn d_13_solicits_are_resent_so_often() {
    let mut lab = Lab::with(&[9], |setup| setup.instances[0].csus_retransmit_max = 2);
    let asked = Msg::Csus(vec![sum(b"key", 9, 1)]);
    assert_eq!(
        lab.exchange(D0, &[sum(b"key", 9, 1)]),
        std::slice::from_ref(&asked)
    );
    lab.wait(millis(2999));
    assert_eq!(lab.sent(D0), vec![asked; 2]);
    assert_eq!(lab.alignment(D0), Update);
    lab.wait(millis(1));
    assert_eq!(lab.hub.hello(D0), hello_machine::State::Waiting);
    assert_eq!((lab.alignment(D0), lab.sent(D0)), (Down, vec![]));
    let causes = lab.hub.peer(D0).abnormal;
    let slot = Abnormal::ALL
        .iter()
        .position(|&it| it == Abnormal::CsusRetransmit)
        .unwrap();
    assert_eq!((causes[slot], causes.iter().sum::<u64>()), (1, 1));
}

/// Goal: a slave that answered the same opening twice, with what it held at two moments, does not
/// know which answer the master took in: what the second one summarized goes by CSU Request too.
#[test]
fn ca_17_opening_answered_twice_offers_what_it_summarized() {
    let mut lab = Lab::new(&[9]);
    lab.wait(secs(10));
    lab.open(D0);
    // 1. The first answer, which the master takes in, summarizes nothing.
    lab.send(D0, &ca(900, "MIO", &[]));
    assert_eq!(parts(&lab.sent(D0)[0]).2, []);
    lab.publish(b"late", b"body");
    // 2. The opening again, twice: Negotiation, then another answer, which the master discards.
    lab.send(D0, &ca(900, "MIO", &[]));
    assert_eq!(lab.alignment(D0), Negotiation, "CA-08");
    lab.sent(D0);
    lab.send(D0, &ca(900, "MIO", &[]));
    assert_eq!(keys(parts(&lab.sent(D0)[0]).2).len(), 1);
    // 3. The master goes on (CA-13).
    lab.send(D0, &ca(901, "M", &[]));
    assert_eq!(lab.alignment(D0), Aligned);
    let flooded = records(&lab.sent(D0));
    assert_eq!(flooded.len(), 1, "{flooded:?}");
    assert_eq!(
        (&flooded[0].sum.key[..], &flooded[0].body[..]),
        (&b"late"[..], &b"body"[..])
    );
}
