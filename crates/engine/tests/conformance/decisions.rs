//! Decisions where the RFC is silent or loose (D-01 to D-21); some stand with what they decide.

use scsp_engine::alignment::Role;
use scsp_engine::alignment::State::{Aligned, Down, Negotiation, Summarize};
use scsp_engine::hello::State::{Bidirectional, Waiting};
use scsp_engine::message::Abnormal;
use scsp_engine::shard::{Condition, DATAGRAM_LEN_MAX, Drop, Life, Refusal};
use scsp_engine::{DcsIndex, DcsSetup, Notice};
use scsp_wire::{CsaSeq, ParseError, ServerId, checksum};

use crate::kv::{earlier_value, tombstone, value};
use crate::script::{LSID, Lab, Msg, ca, hello, rec, records, replies, sum};
use crate::support::{D0, D1, I0, World, dcs, id, instance, millis, secs};

/// Goal: roles follow the ids as octet strings, a prefix being smaller.
#[test]
fn d_01_roles_follow_octet_strings() {
    for (them, role) in [
        (&[10, 0, 0, 6][..], Role::Slave),
        (&[10, 0, 0, 5, 0], Role::Slave),
        (&[11], Role::Slave),
        (&[10, 0, 0, 4], Role::Master),
        (&[10, 0, 0], Role::Master),
        (&[9, 255, 255, 255, 255], Role::Master),
    ] {
        let mut lab = Lab::new(&[0]);
        let us = id(LSID);
        let now = lab.now();
        let mut seq = 900;
        for step in 0..2 {
            let msg = match (step, role) {
                (0, _) => hello(&[LSID]),
                (_, Role::Slave) => ca(seq, "MIO", &[]),
                (_, Role::Master) => ca(seq, "", &[]),
            };
            let bytes = msg.build(&lab.hub.setup, D0, them, us.as_bytes());
            lab.hub.receive(now, D0, &bytes);
            lab.hub.settle(now);
            let mut ours = lab.hub.out.drain(..).map(|(_, bytes)| Msg::parse(&bytes));
            if let (0, Role::Master, Some(Msg::Ca(ours, ..))) = (step, role, ours.next_back()) {
                seq = ours;
            }
        }
        assert_eq!(
            (lab.alignment(D0), lab.hub.peer(D0).role),
            (Summarize, Some(role)),
            "{them:?}"
        );
    }
}

/// A packet with one field changed and the checksum right again.
fn spoilt(lab: &Lab, msg: &Msg, offset: usize, octets: &[u8]) -> Vec<u8> {
    let (us, them) = (id(LSID), id(9));
    let mut bytes = msg.build(&lab.hub.setup, D0, them.as_bytes(), us.as_bytes());
    bytes[offset..offset + octets.len()].copy_from_slice(octets);
    checksum::seal(&mut bytes);
    bytes
}

/// Goal: what is wrong in version, type, size, checksum or common part is counted only; what is
/// malformed beyond that resets the neighbour, or is counted only with `abnormal_events = ignore`.
#[test]
fn d_02_who_may_reset_a_neighbour() {
    let request = Msg::Request(vec![rec(b"key", 9, 1, 3, b"body")]);
    for ignore in [false, true] {
        let mut lab = Lab::with(&[9], |setup| setup.instances[0].ignore_abnormal = ignore);
        lab.align(D0);
        // 1: not attributable: version, size, type, sender id length; checksum
        for (offset, octets) in [(0, &[2][..]), (2, &[0xFF, 0xFF]), (1, &[9]), (16, &[255])] {
            let bytes = spoilt(&lab, &request, offset, octets);
            lab.send_bytes(D0, &bytes);
        }
        let mut bytes = spoilt(&lab, &request, 0, &[1]);
        bytes[4] ^= 1;
        lab.send_bytes(D0, &bytes);
        lab.send_bytes(D0, &bytes[..7]);
        assert_eq!(
            (lab.hub.hello(D0), lab.alignment(D0)),
            (Bidirectional, Aligned)
        );
        assert_eq!(lab.hub.peer(D0).abnormal, [0; Abnormal::ALL.len()]);
        // 2: no sender id, or the record count is wrong
        let slot = Abnormal::ALL
            .iter()
            .position(|&it| it == Abnormal::Malformed)
            .unwrap();
        let bytes = spoilt(&lab, &request, 16, &[0]);
        lab.send_bytes(D0, &bytes);
        assert_eq!(lab.hub.peer(D0).abnormal[slot], 1);
        if !ignore {
            lab.align(D0);
        }
        lab.wait(secs(2)); // What comes in a row is told together.
        let bytes = spoilt(&lab, &request, 18, &[0, 2]);
        lab.send_bytes(D0, &bytes);
        assert_eq!(lab.hub.peer(D0).abnormal[slot], 2);
        let state = if ignore {
            (Bidirectional, Aligned)
        } else {
            (Waiting, Down)
        };
        assert_eq!((lab.hub.hello(D0), lab.alignment(D0)), state);
        assert_eq!(lab.entry(b"key", 9), None, "nothing of it is taken in");
        let dropped: u64 = lab
            .hub
            .shards
            .iter()
            .flat_map(|shard| shard.packets().dropped)
            .sum();
        assert_eq!(dropped, 8);
    }
}

/// Goal: exhausted resends reset the neighbour even where abnormal events are ignored.
#[test]
fn d_02_exhausted_resends_always_reset() {
    let mut lab = Lab::with(&[9], |setup| setup.instances[0].ignore_abnormal = true);
    lab.align(D0);
    lab.publish(b"own", b"body");
    lab.wait(secs(6));
    assert_eq!(lab.hub.hello(D0), Waiting);
}

/// Goal: a Hello with an interval or factor of 0 is malformed.
#[test]
fn d_04_zero_timers_are_malformed() {
    for offset in [8, 10] {
        let mut lab = Lab::new(&[9]);
        lab.meet(D0);
        let bytes = spoilt(&lab, &hello(&[LSID]), offset, &[0, 0]);
        lab.send_bytes(D0, &bytes);
        assert_eq!(lab.hub.hello(D0), Waiting);
        let reason = Drop::Malformed(ParseError::HelloTimer).index();
        let dropped: u64 = lab
            .hub
            .shards
            .iter()
            .map(|shard| shard.packets().dropped[reason])
            .sum();
        assert_eq!(dropped, 1);
    }
}

/// Goal: O means that summaries remain after this message, in the master's first one as well; a
/// master whose last message has O on, and only its next one off, is understood too.
#[test]
fn d_05_both_readings_of_o() {
    let mut lab = Lab::new(&[1]);
    lab.wait(secs(10));
    lab.publish(b"one", b"body");
    let seq = lab.open(D0);
    lab.send(D0, &ca(seq, "", &[]));
    assert_eq!(lab.sent(D0), [ca(seq + 1, "M", &[sum(b"one", LSID, 1000)])]);

    let mut lab = Lab::new(&[9]);
    lab.open(D0);
    lab.send(D0, &ca(900, "MIO", &[]));
    lab.sent(D0);
    lab.send(D0, &ca(901, "MO", &[sum(b"one", 9, 1)]));
    assert_eq!(
        (lab.alignment(D0), lab.sent(D0)),
        (Summarize, vec![ca(901, "", &[])])
    );
    lab.send(D0, &ca(902, "M", &[]));
    assert_eq!(lab.sent(D0)[0], ca(902, "", &[]));
    // The slave's first message likewise.
    let mut lab = Lab::new(&[1]);
    let seq = lab.open(D0);
    lab.send(D0, &ca(seq, "O", &[sum(b"one", 1, 1)]));
    assert_eq!(lab.sent(D0), [ca(seq + 1, "M", &[])]);
    lab.send(D0, &ca(seq + 1, "", &[]));
    assert!(lab.alignment(D0).is_updating());
}

/// Goal: a solicited record that is newer goes on with our own hop count; one that merely came
/// with hop count 1 does not.
#[test]
fn d_06_solicited_news_travel_on() {
    let mut lab = Lab::with(&[9, 1], |setup| setup.instances[0].hop_count = 6);
    lab.align(D1);
    lab.exchange(D0, &[sum(b"asked", 3, 5)]);
    lab.flood(
        D0,
        &[
            rec(b"asked", 3, 5, 1, b"body"),
            rec(b"unasked", 3, 5, 1, b"body"),
        ],
    );
    assert_eq!(records(&lab.sent(D1)), [rec(b"asked", 3, 5, 6, b"body")]);
    // Once answered, it is not solicited any more.
    lab.flood(D0, &[rec(b"asked", 3, 6, 1, b"body")]);
    assert_eq!(lab.sent(D1), []);
}

/// Goal: a record that is on the request list counts as solicited when it comes before it was asked
/// for: the CSUS that would ask for it never comes.
#[test]
fn d_06_wanted_news_travel_on() {
    let mut lab = Lab::with(&[9, 1], |setup| {
        setup.instances[0].hop_count = 6;
        setup.shards = 1;
    });
    lab.align(D1);
    let keys: Vec<[u8; 100]> = (0..40).map(|n| [n; 100]).collect();
    let wanted: Vec<_> = keys.iter().map(|key| sum(key, 3, 5)).collect();
    lab.exchange(D0, &wanted);
    let last = &keys[39];
    lab.flood(D0, &[rec(last, 3, 5, 1, b"body")]);
    assert_eq!(records(&lab.sent(D1)), [rec(last, 3, 5, 6, b"body")]);
}

/// Goal: what is held goes to a neighbour that has lost what it had newer, with all hops: it stands
/// for what the neighbour would have asked for, and has to reach the originator behind it.
#[test]
fn d_06_older_news_travel_on() {
    let mut lab = Lab::with(&[9, 1], |setup| setup.instances[0].hop_count = 6);
    lab.align(D1);
    lab.flood(D1, &[rec(b"k", 3, 1, 1, b"older")]);
    lab.exchange(D0, &[sum(b"k", 3, 5)]);
    let sent = lab.flood(D0, &[sum(b"k", 3, 5).null().with(b"")]);
    assert_eq!(records(&sent), [rec(b"k", 3, 1, 6, b"older")]);
}

/// Goal: a partition that heals converges beyond one hop.
#[test]
fn d_06_healed_partition_converges() {
    let mut world = World::line(&[1, 2, 1, 2]);
    world.align();
    world.cut.insert(1);
    world.run(secs(30));
    let now = world.now();
    for n in 0..50_u8 {
        world.hubs[0].set(now, &[n, 0], b"left");
        world.hubs[3].set(now, &[n, 1], b"right");
    }
    world.run(secs(5));
    world.cut.clear();
    world.align();
    world.run(secs(5));
    world.assert_equal();
    assert_eq!(world.hubs[0].entries().len(), 100);
}

/// Goal: a master discards late duplicates of any age, and what is ahead of it.
#[test]
fn d_07_master_discards_other_sequences() {
    let mut lab = Lab::new(&[1]);
    let seq = lab.open(D0);
    lab.send(D0, &ca(seq, "O", &[]));
    lab.sent(D0);
    for other in [seq - 1, seq - 100, seq + 2, seq + 100] {
        lab.send(D0, &ca(other, "O", &[sum(b"key", 1, 1)]));
        assert_eq!((lab.alignment(D0), lab.sent(D0)), (Summarize, vec![]));
    }
    assert_eq!(lab.hub.home(b"key").requests_len(D0), 0);
}

fn is_held(lab: &Lab) -> bool {
    let held = lab.hub.control.is_held(I0);
    assert!(lab.hub.shards.iter().all(|shard| shard.is_held(I0) == held));
    held
}

/// Goal: every command on records of a held instance answers Loading.
#[test]
fn d_09_held_instances_refuse_commands() {
    let mut lab = Lab::kv(&[9]);
    assert!(is_held(&lab));
    let now = lab.now();
    let shard = &mut lab.hub.shards[0];
    let held = Some(Refusal::Loading);
    assert_eq!(shard.kv_get(now, I0, b"k").err(), held);
    assert_eq!(shard.kv_del(now, I0, b"k").err(), held);
    assert_eq!(shard.kv_expire(now, I0, b"k", None).err(), held);
    assert_eq!(shard.kv_len(I0).err(), held);
    assert_eq!(shard.kv_scan(now, I0, 0, 1, |_| ()).err(), held);
    assert_eq!(shard.publish(now, I0, b"k", b"", None).err(), held);
    assert_eq!(shard.purge(now, I0, b"k").err(), held);
    assert_eq!(shard.records(now, I0, b"k", true, |_| ()).err(), held);
    assert_eq!(shard.scan(now, I0, 0, 1, true, |_| ()).err(), held);
}

/// Goal: the hold ends at once without DCSs; with the first Aligned one; after `boot_hold` when
/// none is beyond Waiting; after six times as long in any case.
#[test]
fn d_09_end_of_the_hold() {
    // 1: no DCS
    assert!(!is_held(&Lab::new(&[])));
    // 2: Aligned
    let mut lab = Lab::new(&[9, 1]);
    lab.align(D0);
    assert!(!is_held(&lab));
    assert!(lab.notices().contains(&Notice::Released { instance: I0 }));
    // 3: silence
    let mut lab = Lab::new(&[9, 1]);
    lab.wait(millis(9999));
    assert!(is_held(&lab));
    lab.wait(millis(1));
    assert!(!is_held(&lab));
    // 4: heard, never aligned
    let mut lab = Lab::new(&[9, 1]);
    lab.send(D0, &hello(&[]));
    lab.wait(millis(59_999));
    assert!(is_held(&lab));
    lab.wait(millis(1));
    assert!(!is_held(&lab));
    // 5: heard, then silent
    let mut lab = Lab::new(&[9, 1]);
    lab.send(D0, &Msg::Hello(vec![id(LSID)], 3, 5));
    lab.wait(millis(14_999));
    assert!(is_held(&lab));
    lab.wait(millis(1));
    assert!(!is_held(&lab));
}

/// Goal: a DCS that announces our own id is ignored and reported once, until it is another one.
#[test]
fn d_10_duplicate_id() {
    let mut lab = Lab::new(&[9]);
    let us = id(LSID);
    lab.notices();
    for _ in 0..3 {
        lab.send_as(D0, us.as_bytes(), us.as_bytes(), &hello(&[LSID]));
    }
    assert_eq!(lab.notices(), [Notice::DuplicateId { dcs: D0 }]);
    assert_eq!(
        (lab.hub.hello(D0), lab.hub.peer(D0).duplicate_id),
        (Waiting, true)
    );
    assert_eq!(lab.hub.control.ignored(), 3);
    lab.meet(D0);
    assert_eq!(
        (lab.hub.hello(D0), lab.hub.peer(D0).duplicate_id),
        (Bidirectional, false)
    );
}

/// Goal: a DCS that changes its id goes through Waiting, and its alignment starts over; one that
/// differs from the configured id is ignored and reported.
#[test]
fn d_11_changed_and_unexpected_ids() {
    let mut lab = Lab::new(&[9]);
    lab.align(D0);
    lab.notices();
    lab.peers[0] = 8;
    lab.meet(D0);
    assert_eq!(
        (lab.hub.hello(D0), lab.alignment(D0)),
        (Bidirectional, Negotiation)
    );
    assert_eq!(lab.hub.peer(D0).id, Some(id(8)));
    assert_eq!(lab.hub.peer(D0).abnormal[Abnormal::IdChanged.index()], 1);
    let hellos: Vec<_> = lab
        .notices()
        .into_iter()
        .filter(|it| matches!(it, Notice::Hello { .. }))
        .collect();
    let edge = |from, to| Notice::Hello { dcs: D0, from, to };
    assert_eq!(
        hellos,
        [edge(Bidirectional, Waiting), edge(Waiting, Bidirectional)]
    );

    let mut lab = Lab::with(&[9], |setup| setup.dcs[0].expected_id = Some(id(9)));
    lab.notices();
    lab.peers[0] = 8;
    lab.meet(D0);
    lab.meet(D0);
    assert_eq!(lab.hub.hello(D0), Waiting);
    assert_eq!(lab.notices(), [Notice::UnexpectedId { dcs: D0, id: id(8) }]);
    assert_eq!(lab.hub.control.ignored(), 2);
    lab.peers[0] = 9;
    lab.align(D0);
    lab.peers[0] = 8;
    lab.meet(D0);
    assert_eq!(
        (lab.hub.hello(D0), lab.alignment(D0)),
        (Bidirectional, Aligned)
    );
}

/// A kv hub with two Aligned neighbours and an own value of `k` with sequence 1000.
fn with_own_value() -> Lab {
    let mut lab = Lab::kv(&[9, 1]);
    lab.align(D0);
    lab.align(D1);
    lab.wait(secs(1));
    let now = lab.now();
    lab.hub.set(now, b"k", b"own");
    acknowledge_all(&mut lab);
    lab
}

/// Both neighbours acknowledge what was sent to them.
fn acknowledge_all(lab: &mut Lab) {
    lab.collect();
    for dcs in [D0, D1] {
        let sent = records(&lab.sent(dcs));
        let acks = sent.iter().map(|rec| rec.sum.clone()).collect();
        lab.send(dcs, &Msg::Reply(acks));
    }
}

/// Goal: an own record that comes back newer is answered by the own state with that sequence + 1.
#[test]
fn d_12_own_state_is_originated_again() {
    let mut lab = with_own_value();
    let own = lab.entry(b"k", LSID).unwrap();
    assert_eq!(own.0, 1000);
    let sent = lab.flood(
        D0,
        &[rec(b"k", LSID, 1500, 9, &value(9000, None, b"foreign"))],
    );
    assert_eq!(replies(&sent), [sum(b"k", LSID, 1500)]);
    let expected = [rec(b"k", LSID, 1501, 16, &own.1)];
    assert_eq!(records(&sent), expected);
    assert_eq!(records(&lab.sent(D1)), expected);
    assert_eq!(lab.hub.get(lab.now(), b"k").unwrap(), b"own");
}

/// Goal: at most once a second: what comes within it is stored and acknowledged, not flooded,
/// reported once, and answered when the second is over; clients read the own state throughout.
#[test]
fn d_12_once_a_second() {
    let mut lab = with_own_value();
    let body = lab.entry(b"k", LSID).unwrap().1;
    let foreign = value(9000, None, b"foreign");
    lab.flood(D0, &[rec(b"k", LSID, 1500, 9, &foreign)]);
    acknowledge_all(&mut lab);
    lab.notices();
    for seq in [1600, 1700, 1800] {
        lab.wait(millis(300));
        let sent = lab.flood(D0, &[rec(b"k", LSID, seq, 9, &foreign)]);
        assert_eq!(sent, [Msg::Reply(vec![sum(b"k", LSID, seq)])]);
        assert_eq!(
            (lab.sent(D1), lab.entry(b"k", LSID)),
            (vec![], Some((seq, body.clone())))
        );
        assert_eq!(lab.hub.get(lab.now(), b"k").unwrap(), b"own");
    }
    assert_eq!(lab.notices(), [Notice::SuspectedDuplicateId { dcs: D0 }]);
    lab.wait(millis(100));
    for dcs in [D0, D1] {
        assert_eq!(
            records(&lab.sent(dcs)),
            [rec(b"k", LSID, 1801, 16, &body)],
            "once"
        );
    }
    // A client's write in between is such an answer too.
    lab.wait(millis(500));
    lab.flood(D0, &[rec(b"k", LSID, 1900, 9, &foreign)]);
    let now = lab.now();
    lab.hub.set(now, b"k", b"written");
    lab.collect();
    assert_eq!(records(&lab.sent(D1))[0].sum.seq, 1901);
    acknowledge_all(&mut lab);
    lab.wait(millis(700));
    assert_eq!(lab.entry(b"k", LSID).unwrap().0, 1901);
}

/// Goal: an own value of this run that is gone here is withdrawn again, above every sequence used.
#[test]
fn d_12_unknown_of_this_run_is_withdrawn() {
    let mut lab = Lab::with(&[9, 1], |setup| {
        setup.instances[0] = instance();
        setup.instances[0].purge_retention = secs(1);
    });
    lab.align(D0);
    lab.align(D1);
    let now = lab.now();
    lab.hub.set(now, b"k", b"own");
    let (seq, old) = lab.entry(b"k", LSID).unwrap();
    assert!(lab.hub.del(now, b"k"));
    acknowledge_all(&mut lab);
    lab.wait(secs(20));
    assert_eq!(lab.entry(b"k", LSID), None);
    // A neighbour that missed the delete brings the value back.
    let sent = lab.flood(D0, &[rec(b"k", LSID, seq, 9, &old)]);
    assert_eq!(replies(&sent), [sum(b"k", LSID, seq)]);
    let (again, body) = lab.entry(b"k", LSID).unwrap();
    assert_eq!(again, seq + 2, "above the tombstone's");
    for flooded in [records(&sent), records(&lab.sent(D1))] {
        assert_eq!(flooded, [rec(b"k", LSID, again, 16, &body)]);
    }
    assert_eq!(lab.hub.get(lab.now(), b"k"), None);
    // A later write of another server stays.
    lab.flood(D1, &[rec(b"k", 1, 1, 9, &value(5000, None, b"later"))]);
    assert_eq!(lab.hub.get(lab.now(), b"k").unwrap(), b"later");
}

/// Goal: what this run forgot is withdrawn also where an older tombstone of it came back first.
#[test]
fn d_12_unknown_behind_an_older_tombstone_is_withdrawn() {
    let mut lab = Lab::with(&[9, 1], |setup| {
        setup.instances[0] = instance();
        setup.instances[0].purge_retention = secs(1);
    });
    lab.align(D0);
    lab.align(D1);
    let now = lab.now();
    lab.hub.set(now, b"k", b"first");
    assert!(lab.hub.del(now, b"k"));
    let (deleted, tombstone) = lab.entry(b"k", LSID).unwrap();
    lab.hub.set(now, b"k", b"second");
    let (written, value) = lab.entry(b"k", LSID).unwrap();
    let home = lab.hub.home(b"k");
    let life = Life::For(secs(1));
    let set = home.kv_set(now, I0, b"k", b"third", life, Condition::Always);
    assert_eq!(set, Ok(true));
    acknowledge_all(&mut lab);
    lab.wait(secs(20));
    assert_eq!(lab.entry(b"k", LSID), None);
    lab.flood(D0, &[rec(b"k", LSID, deleted, 9, &tombstone)]);
    lab.sent(D1);
    lab.flood(D1, &[rec(b"k", LSID, written, 9, &value)]);
    assert_eq!(lab.hub.get(lab.now(), b"k"), None);
    let again = lab.entry(b"k", LSID).unwrap().0;
    assert_eq!(again, written + 2, "above what was forgotten");
    assert_eq!(records(&lab.sent(D0))[0].sum.seq, again);
}

/// Goal: an own value of an earlier run is taken back and travels on, also where a second
/// neighbour remembers a newer one.
#[test]
fn d_12_unknown_of_an_earlier_run_is_taken_back() {
    let mut lab = Lab::kv(&[9, 1]);
    lab.wait(secs(1));
    lab.align(D1);
    lab.exchange(D0, &[sum(b"k", LSID, 70)]);
    let before = earlier_value(2, b"first");
    lab.flood(D0, &[rec(b"k", LSID, 70, 1, &before)]);
    assert_eq!(lab.hub.get(lab.now(), b"k").unwrap(), b"first");
    assert_eq!(records(&lab.sent(D1)), [rec(b"k", LSID, 70, 16, &before)]);
    let newer = earlier_value(1, b"second");
    lab.flood(D1, &[rec(b"k", LSID, 71, 3, &newer)]);
    assert_eq!(lab.hub.get(lab.now(), b"k").unwrap(), b"second");
    assert_eq!(lab.entry(b"k", LSID).unwrap().0, 71);
    assert_eq!(records(&lab.sent(D0)), [rec(b"k", LSID, 71, 16, &newer)]);
}

/// Goal: records of opaque protocols say nothing of their age: an unknown own one is taken back;
/// a withdrawal too.
#[test]
fn d_12_opaque_records_are_taken_back() {
    let mut lab = Lab::new(&[9]);
    lab.align(D0);
    lab.publish(b"other", b"body");
    lab.flood(
        D0,
        &[rec(b"k", LSID, 5, 3, b"body"), rec(b"w", LSID, 5, 3, b"")],
    );
    assert_eq!(lab.entry(b"k", LSID), Some((5, b"body".to_vec())));
    assert_eq!(lab.publish(b"k", b"body"), 1005, "CSU-20");
    let withdrawn: Vec<_> = lab
        .hub
        .entries()
        .into_iter()
        .filter(|row| row.withdrawn)
        .collect();
    assert_eq!(withdrawn[0].key, b"w");
}

/// Goal: a record beyond the packet limit goes in one larger datagram, alone; beyond the largest
/// datagram it is refused.
#[test]
fn d_14_large_records() {
    let limits = DcsSetup {
        packet_limit: 500,
        ..dcs()
    };
    let mut lab = Lab::with(&[9], |setup| {
        setup.dcs = vec![limits];
        setup.shards = 1;
    });
    lab.align(D0);
    let now = lab.now();
    let shard = &mut lab.hub.shards[0];
    let max = shard.body_len_max(I0, 1);
    for (key, len) in [(b"a", 10), (b"b", 3000), (b"c", 10)] {
        shard.publish(now, I0, key, &vec![0; len], None).unwrap();
    }
    lab.collect();
    let sent = lab.sent(D0);
    let lens: Vec<_> = sent
        .iter()
        .map(|msg| records(std::slice::from_ref(msg)).len())
        .collect();
    assert_eq!(lens, [1, 1, 1]);
    let shard = &mut lab.hub.shards[0];
    let refused = shard.publish(now, I0, b"d", &vec![0; max + 1], None);
    assert_eq!(refused, Err(Refusal::TooLarge { len: max + 1, max }));
    assert!(max < DATAGRAM_LEN_MAX && max > 65_000);
    shard.publish(now, I0, b"d", &vec![0; max], None).unwrap();
    lab.send(
        D0,
        &Msg::Reply(
            sent.iter()
                .flat_map(|msg| records(std::slice::from_ref(msg)))
                .map(|rec| rec.sum)
                .collect(),
        ),
    );
    lab.wait(secs(1));
    assert_eq!(records(&lab.sent(D0))[0].body.len(), max);
}

/// Goal: a link that carries no larger datagram sets the limit for the records of its instance;
/// what another link brought and this one cannot carry is left out of everything sent over it, and
/// counted.
#[test]
fn d_14_links_that_do_not_fragment() {
    let ethernet = DcsSetup {
        packet_limit: 500,
        datagram_limit: 500,
        ..dcs()
    };
    let mut lab = Lab::with(&[9, 8], |setup| {
        setup.dcs = vec![ethernet, dcs()];
        setup.shards = 1;
    });
    lab.align(D0);
    lab.align(D1);
    let now = lab.now();
    let shard = &mut lab.hub.shards[0];
    let max = shard.body_len_max(I0, 1);
    assert!((300..500).contains(&max), "{max}");
    let refused = shard.publish(now, I0, b"d", &vec![0; max + 1], None);
    assert_eq!(refused, Err(Refusal::TooLarge { len: max + 1, max }));
    shard.publish(now, I0, b"d", &vec![0; max], None).unwrap();
    lab.collect();
    assert_eq!(records(&lab.sent(D0))[0].body.len(), max);
    assert_eq!(lab.sent(D1).len(), 1);

    // A record and a summary that came over the other link.
    lab.flood(D1, &[rec(b"large", 8, 1, 16, &[0; 600])]);
    assert!(records(&lab.sent(D0)).is_empty());
    let unsendable = |lab: &Lab| lab.hub.shards[0].counters(I0).unsendable;
    assert_eq!(unsendable(&lab), 1);
}

/// Goal: a summary beyond the packet limit goes in one larger CA and CSUS, whatever precedes it.
#[test]
fn d_14_large_summaries() {
    for peer in [1, 9] {
        let limits = DcsSetup {
            packet_limit: 36 + 2 * 25,
            ..dcs()
        };
        let mut lab = Lab::with(&[peer], |setup| {
            setup.dcs = vec![limits];
            setup.shards = 1;
            // A page that holds more than a packet does.
        });
        lab.wait(secs(10));
        for key in [&[1][..], &[2; 255], &[3], &[4; 255], &[5; 255]] {
            lab.publish(key, b"body");
        }
        let seq = lab.open(D0);
        let mut met = 0;
        if peer == 9 {
            lab.send(D0, &ca(900, "MIO", &[]));
        } else {
            lab.send(D0, &ca(seq, "O", &[]));
        }
        for step in 1..20 {
            let sent = lab.sent(D0);
            let [Msg::Ca(_, flags, sums)] = &sent[..] else {
                panic!("{sent:?}")
            };
            met += sums.len();
            if !flags.contains('O') {
                break;
            }
            lab.send(
                D0,
                &if peer == 9 {
                    ca(900 + step, "MO", &[])
                } else {
                    ca(seq + step, "O", &[])
                },
            );
        }
        assert_eq!(met, 5);
    }
}

/// Goal: identity is the exact pair of key and originator: shifting octets between them, or other
/// lengths, make other entries.
#[test]
fn d_15_identity_is_key_and_originator() {
    let mut lab = Lab::new(&[9]);
    lab.align(D0);
    let of = |key: &[u8], originator: &[u8]| {
        let mut rec = rec(key, 9, 1, 3, b"body");
        rec.sum.originator = ServerId::from_bytes(originator).unwrap();
        rec
    };
    let recs = [
        of(b"ab", b"c"),
        of(b"a", b"bc"),
        of(b"", b"abc"),
        of(b"abc", b"c"),
        of(b"ab", b"cc"),
        of(b"ab", b"c\0"),
    ];
    assert_eq!(replies(&lab.flood(D0, &recs)).len(), 6);
    assert_eq!(lab.hub.entries().len(), 6);
    lab.flood(D0, &recs);
    assert_eq!(lab.hub.entries().len(), 6);
}

/// Goal: the hop count of a stand-alone summary is not judged.
#[test]
fn d_16_hop_counts_of_summaries_are_not_judged() {
    for hops in [0, 1, 3, 65_535] {
        let mut lab = Lab::new(&[9]);
        lab.exchange(D0, &[sum(b"theirs", 9, 1).hops(hops)]);
        lab.flood(D0, &[rec(b"theirs", 9, 1, 1, b"body")]);
        assert_eq!(lab.alignment(D0), Aligned);
        lab.publish(b"own", b"body");
        lab.sent(D0);
        lab.send(D0, &Msg::Reply(vec![sum(b"own", LSID, 1000).null()]));
        assert_eq!(lab.hub.home(b"own").queue_len(D0), 1, "N differs");
        lab.send(D0, &Msg::Reply(vec![sum(b"own", LSID, 1000).hops(hops)]));
        assert_eq!(lab.hub.home(b"own").queue_len(D0), 0);
        lab.send(D0, &Msg::Csus(vec![sum(b"own", LSID, 1000).hops(hops)]));
        assert_eq!(
            records(&lab.sent(D0)),
            [rec(b"own", LSID, 1000, 1, b"body")]
        );
    }
}

/// Goal: a CA without I after the exchange, by role, sequence and M bit.
#[test]
fn d_17_ca_after_the_exchange() {
    // (peer, offset of the sequence, flags, starts over)
    for (peer, offset, flags, over) in [
        (9, -2, "M", false),
        (9, -1, "", false),
        (9, 0, "", true),
        (9, 1, "M", true),
        (9, 9, "", true),
        (1, -2, "", false),
        (1, -1, "M", false),
        (1, 0, "", false),
        (1, 0, "M", true),
        (1, 1, "", true),
        (1, 9, "M", true),
    ] {
        let mut lab = Lab::new(&[peer]);
        let seq = lab.open(D0);
        let last = if peer == 9 {
            lab.send(D0, &ca(900, "MIO", &[]));
            lab.send(D0, &ca(901, "M", &[]));
            901
        } else {
            lab.send(D0, &ca(seq, "", &[]));
            lab.send(D0, &ca(seq + 1, "", &[]));
            seq + 2 // CA-10
        };
        assert_eq!(lab.alignment(D0), Aligned);
        lab.sent(D0);
        lab.send(D0, &ca(last.wrapping_add_signed(offset), flags, &[]));
        let sent = lab.sent(D0);
        if over {
            assert_eq!(lab.alignment(D0), Negotiation, "{peer} {offset} {flags}");
            assert!(matches!(&sent[..], [Msg::Ca(_, flags, _)] if flags == "MIO"));
        } else {
            assert_eq!(
                (lab.alignment(D0), sent),
                (Aligned, vec![]),
                "{peer} {offset} {flags}"
            );
        }
    }
}

/// Goal: sequences start low only where nobody can remember an earlier run.
#[test]
fn d_19_first_sequences() {
    assert_eq!(Lab::new(&[]).publish(b"own", b"body"), CsaSeq::FIRST.get());
    let mut lab = Lab::new(&[9]);
    lab.wait(secs(10));
    assert_eq!(lab.publish(b"own", b"body"), 1000);
}

/// Goal: an empty body of an opaque protocol is a withdrawal: hidden, flooded, kept for the
/// retention time and until every DCS has acknowledged it.
#[test]
fn d_20_opaque_withdrawals() {
    let mut lab = Lab::with(&[9, 1], |setup| {
        setup.instances[0].csu_retransmit_max = 5000;
    });
    lab.align(D0);
    lab.align(D1);
    lab.publish(b"own", b"body");
    lab.flood(D0, &[rec(b"theirs", 9, 1, 4, b"body")]);
    acknowledge_all(&mut lab);
    let now = lab.now();
    assert_eq!(lab.hub.home(b"own").purge(now, I0, b"own"), Ok(true));
    assert_eq!(lab.hub.home(b"own").purge(now, I0, b"own"), Ok(false));
    assert_eq!(
        lab.hub.home(b"theirs").purge(now, I0, b"theirs"),
        Ok(false),
        "not ours"
    );
    lab.flood(D0, &[rec(b"theirs", 9, 2, 4, b"")]);
    let seen = |lab: &Lab, key: &[u8], all| {
        let mut seen = 0;
        lab.hub
            .home_ref(key)
            .records(lab.now(), I0, key, all, |_| seen += 1)
            .unwrap();
        seen
    };
    for key in [&b"own"[..], b"theirs"] {
        assert_eq!((seen(&lab, key, false), seen(&lab, key, true)), (0, 1));
    }
    assert_eq!(
        records(&lab.sent(D1)),
        [
            rec(b"own", LSID, 1001, 16, b""),
            rec(b"theirs", 9, 2, 3, b"")
        ]
    );
    // The first neighbour acknowledges, the second one does not.
    lab.send(D0, &Msg::Reply(vec![sum(b"own", LSID, 1001)]));
    lab.wait(secs(3700));
    assert_eq!(lab.hub.entries().len(), 2);
    lab.send(
        D1,
        &Msg::Reply(vec![sum(b"own", LSID, 1001), sum(b"theirs", 9, 2)]),
    );
    lab.wait(secs(2));
    assert_eq!(lab.hub.entries(), []);
}

/// Goal: remaining life is rounded up and never grows from hop to hop.
#[test]
fn d_21_life_is_rounded_up_and_never_grows() {
    let mut lab = Lab::kv(&[9, 1]);
    lab.align(D0);
    lab.align(D1);
    lab.flood(D0, &[rec(b"k", 9, 1, 4, &value(0, Some(1500), b"v"))]);
    let life = |lab: &mut Lab| {
        let sent = records(&lab.sent(D1));
        scsp_profile::KvBody::parse(&sent[0].body).unwrap().life_ms
    };
    assert_eq!(life(&mut lab), Some(1500));
    lab.wait(std::time::Duration::from_micros(1_000_001));
    assert_eq!(life(&mut lab), Some(500), "resent at 1 s");
    lab.send(D1, &Msg::Reply(vec![sum(b"k", 9, 1)]));
    lab.since_start += std::time::Duration::from_micros(100_001);
    lab.send(D1, &Msg::Csus(vec![sum(b"k", 9, 1)]));
    assert_eq!(life(&mut lab), Some(400), "399.998 ms");
}

/// Goal: tombstones and values of several neighbours, brought in any order by several of them,
/// leave the same state (checked on the digest-relevant entries).
#[test]
fn d_15_order_does_not_matter() {
    let recs = [
        rec(b"k", 9, 1, 4, &value(1, None, b"a")),
        rec(b"k", 9, 2, 4, &tombstone(4)),
        rec(b"k", 1, 1, 4, &value(2, None, b"b")),
        rec(b"k", 1, 2, 4, &value(3, None, b"c")),
    ];
    let mut states = Vec::new();
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
        let mut lab = Lab::kv(&[9, 1]);
        lab.align(D0);
        lab.align(D1);
        for index in order {
            lab.flood(
                DcsIndex(u16::try_from(index % 2).unwrap()),
                &[recs[index].clone()],
            );
        }
        states.push(lab.hub.entries());
    }
    assert!(
        states
            .iter()
            .all(|state| *state == states[0] && state.len() == 2)
    );
}

/// Goal: a server that restarted without hearing of its earlier records may give a sequence out for
/// a second time; when a neighbour shows the earlier one, its own later state goes on top.
#[test]
fn d_12_equal_sequence_after_a_blind_start() {
    let mut lab = Lab::new(&[9]);
    lab.wait(secs(11)); // D-09: nobody is there
    lab.publish(b"k", b"later");
    lab.open(D0);
    lab.send(D0, &ca(900, "MIO", &[]));
    lab.sent(D0);
    lab.send(D0, &ca(901, "M", &[sum(b"k", LSID, 1000)]));
    let flooded = records(&lab.sent(D0));
    assert_eq!(flooded.len(), 1, "{flooded:?}");
    assert_eq!(
        (flooded[0].sum.seq, &flooded[0].body[..]),
        (1001, &b"later"[..])
    );
}
