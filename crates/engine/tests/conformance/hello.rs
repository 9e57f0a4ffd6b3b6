//! Hello protocol (RFC 2334 2.1, B.2.5).

use std::time::Duration;

use scsp_engine::hello::State::{Bidirectional, Down, Unidirectional, Waiting};
use scsp_engine::{LinkIndex, Notice, alignment};

use crate::script::{LSID, Lab, Msg, ca, hello, sum};
use crate::support::{D0, D1, Hub, at, id, millis, secs, setup};

/// Goal: a machine for each DCS, each starting in Down, where nothing is sent and nothing heard.
#[test]
fn h_01_machines_start_down() {
    let now = at(Duration::ZERO);
    let mut hub = Hub::unlinked(setup(LSID, 2, 2), now);
    assert_eq!((hub.hello(D0), hub.hello(D1)), (Down, Down));
    let bytes = hello(&[LSID]).build(&hub.setup, D0, id(9).as_bytes(), &[]);
    hub.receive(now, D0, &bytes);
    hub.settle(now);
    assert_eq!((hub.hello(D0), hub.hello(D1)), (Down, Down));
    assert!(hub.out.is_empty());
}

/// Goal: each machine minds its own DCS.
#[test]
fn h_01_machines_are_independent() {
    let mut lab = Lab::new(&[9, 1]);
    lab.meet(D0);
    assert_eq!(
        (lab.hub.hello(D0), lab.hub.hello(D1)),
        (Bidirectional, Waiting)
    );
}

/// Goal: connectivity takes Down to Waiting, its loss any state to Down, in which Hellos stop.
#[test]
fn h_02_link_connectivity() {
    for (receivers, state) in [
        (None, Waiting),
        (Some(&[][..]), Unidirectional),
        (Some(&[LSID][..]), Bidirectional),
    ] {
        let mut lab = Lab::new(&[9]);
        assert_eq!(lab.hub.hello(D0), Waiting);
        if let Some(receivers) = receivers {
            lab.send(D0, &hello(receivers));
        }
        assert_eq!(lab.hub.hello(D0), state);
        let now = lab.now();
        lab.hub.control.handle_link(now, LinkIndex(0), false);
        lab.collect();
        assert_eq!(lab.hub.hello(D0), Down);
        lab.hellos(D0);
        lab.wait(secs(30));
        assert_eq!(lab.hellos(D0), []);
        let now = lab.now();
        lab.hub.control.handle_link(now, LinkIndex(0), true);
        lab.collect();
        assert_eq!(lab.hub.hello(D0), Waiting);
        assert_eq!(lab.hellos(D0).len(), 1);
    }
}

/// Goal: gaps between Hellos never exceed the advertised interval, and jitter only shortens them.
#[test]
fn h_03_gaps_never_exceed_the_interval() {
    let mut lab = Lab::new(&[9]);
    lab.wait(secs(100));
    lab.meet(D0);
    lab.wait(secs(100));
    let hellos = lab.hellos(D0);
    let gaps: Vec<_> = hellos
        .windows(2)
        .map(|pair| pair[1].0.saturating_sub(pair[0].0))
        .collect();
    assert!(gaps.iter().all(|gap| *gap < secs(3)), "{gaps:?}");
    assert!(
        gaps.iter().filter(|gap| **gap < millis(2700)).count() <= 2,
        "{gaps:?}"
    );
    let distinct: std::collections::BTreeSet<_> = gaps.iter().collect();
    assert!(distinct.len() > gaps.len() / 2, "jitter");
}

/// Goal: a Hello carries the own timers and names its own DCS once heard, but no other link's.
#[test]
fn h_04_hello_of_a_unicast_link() {
    let mut lab = Lab::new(&[9, 1]);
    lab.hellos(D1);
    lab.wait(secs(1));
    lab.send(D0, &hello(&[]));
    lab.send(D1, &hello(&[LSID]));
    assert_eq!(lab.hellos(D1), [(secs(1), Msg::Hello(vec![id(1)], 3, 3))]);
    lab.wait(secs(3));
    assert_eq!(
        lab.hellos(D0).last().unwrap().1,
        Msg::Hello(vec![id(9)], 3, 3)
    );
}

/// Goal: a newly heard DCS is named in the very next Hello, which goes at once; right after
/// another one, it waits for a tenth of a second.
#[test]
fn h_06_newly_heard_is_named_next() {
    for (said_at, named_at) in [(secs(1), secs(1)), (millis(30), millis(100))] {
        let mut lab = Lab::new(&[9]);
        lab.hellos(D0);
        lab.wait(said_at);
        lab.send(D0, &hello(&[]));
        lab.wait(millis(100));
        assert_eq!(lab.hellos(D0), [(named_at, Msg::Hello(vec![id(9)], 3, 3))]);
    }
}

/// Goal: with nobody heard the receiver id is empty and there are no records; with one it stands
/// in the common part.
#[test]
fn h_09_receivers_of_our_hello() {
    let now = at(Duration::ZERO);
    let mut hub = Hub::new(setup(LSID, 1, 1), now);
    for receiver in [&[][..], id(9).as_bytes()] {
        hub.settle(now);
        let (_, bytes) = hub.out.pop_back().unwrap();
        let envelope = scsp_wire::Envelope::parse(&bytes).unwrap();
        assert_eq!(
            (envelope.receiver(), envelope.record_count()),
            (receiver, 0)
        );
        let now = at(secs(1));
        let bytes = hello(&[]).build(&hub.setup, D0, id(9).as_bytes(), &[]);
        hub.receive(now, D0, &bytes);
        hub.settle(now);
    }
}

/// Goal: the machine follows at once what a Hello says of us, wherever we stand in its list.
#[test]
fn h_05_hello_decides_at_once() {
    let mut lab = Lab::new(&[9]);
    for (receivers, state) in [
        (&[][..], Unidirectional),
        (&[7][..], Unidirectional),
        (&[LSID][..], Bidirectional),
        (&[7, 8][..], Unidirectional),
        (&[7, 8, LSID][..], Bidirectional),
        (&[LSID, 7][..], Bidirectional),
        (&[][..], Unidirectional),
    ] {
        lab.send(D0, &hello(receivers));
        assert_eq!(lab.hub.hello(D0), state, "{receivers:?}");
        assert_eq!(lab.hub.peer(D0).id, Some(id(9)));
    }
}

/// Goal: silence for the interval × dead factor that the DCS advertised leads to Waiting, and it
/// leaves the receiver list.
#[test]
fn h_07_silence_leads_to_waiting() {
    for (receivers, state) in [(vec![id(LSID)], Bidirectional), (vec![], Unidirectional)] {
        let mut lab = Lab::new(&[9]);
        lab.wait(secs(1));
        lab.send(D0, &Msg::Hello(receivers, 2, 4));
        lab.wait(millis(7999));
        assert_eq!(lab.hub.hello(D0), state);
        lab.hellos(D0);
        lab.wait(millis(1));
        assert_eq!(lab.hub.hello(D0), Waiting);
        assert_eq!(lab.hub.peer(D0).id, None);
        lab.wait(millis(100));
        assert_eq!(lab.hellos(D0)[0].1, Msg::Hello(vec![], 3, 3));
        assert_eq!(lab.alignment(D0), alignment::State::Down);
    }
}

/// Goal: silence is one edge, from Bidirectional to Waiting, and nothing on the way.
#[test]
fn h_07_silence_is_one_edge() {
    let mut lab = Lab::new(&[9]);
    lab.meet(D0);
    let edges = lab.hub.peer(D0).transitions[0];
    lab.send(D0, &Msg::Hello(vec![id(LSID)], 2, 2));
    lab.notices();
    lab.wait(secs(10));
    let hellos = lab.notices().into_iter().filter_map(|notice| match notice {
        Notice::Hello { from, to, .. } => Some((from, to)),
        _ => None,
    });
    assert_eq!(hellos.collect::<Vec<_>>(), [(Bidirectional, Waiting)]);
    assert_eq!(lab.hub.peer(D0).transitions[0], edges + 1);
}

/// Goal: a DCS that goes on saying Hello without naming us keeps us in Unidirectional, and in its
/// receiver list, for as long as it does.
#[test]
fn h_07_heard_but_not_named() {
    let mut lab = Lab::new(&[9]);
    lab.send(D0, &Msg::Hello(vec![id(LSID)], 2, 2));
    for _ in 0..5 {
        lab.wait(millis(3900));
        lab.send(D0, &Msg::Hello(vec![], 2, 2));
        assert_eq!(lab.hub.hello(D0), Unidirectional);
        assert_eq!(lab.hub.peer(D0).id, Some(id(9)));
    }
    lab.wait(secs(4));
    assert_eq!(lab.hub.hello(D0), Waiting);
}

/// Goal: a gap above the DCS's interval counts once, however long; one below does not.
#[test]
fn h_08_late_hellos_count_once() {
    let mut lab = Lab::new(&[9]);
    let said = Msg::Hello(vec![id(LSID)], 2, 10);
    lab.send(D0, &said);
    for (gap, late) in [(1000, 0), (2000, 0), (2001, 1), (9000, 2), (1999, 2)] {
        lab.wait(millis(gap));
        lab.send(D0, &said);
        assert_eq!(lab.hub.peer(D0).late_hellos, late, "after {gap} ms");
    }
}

/// Goal: it is told when the last Hello came, whatever it said, and still after the stall.
#[test]
fn h_08_the_last_hello_is_told() {
    let mut lab = Lab::new(&[9]);
    assert_eq!(lab.hub.peer(D0).last_hello, None);
    for (said_at, receivers) in [(1, &[LSID][..]), (2, &[]), (3, &[LSID])] {
        lab.wait(secs(1));
        lab.send(
            D0,
            &Msg::Hello(receivers.iter().map(|it| id(*it)).collect(), 2, 2),
        );
        assert_eq!(lab.hub.peer(D0).last_hello, Some(at(secs(said_at)).time));
    }
    lab.wait(secs(10));
    assert_eq!(lab.hub.hello(D0), Waiting);
    assert_eq!(lab.hub.peer(D0).last_hello, Some(at(secs(3)).time));
}

/// Goal: an abnormal event leads to Waiting, forgets the DCS, and the way back is open.
#[test]
fn h_11_abnormal_event_leads_to_waiting() {
    let mut lab = Lab::new(&[9]);
    lab.meet(D0);
    lab.wait(secs(1));
    lab.hellos(D0);
    let now = lab.now();
    lab.hub.control.handle_clear(now, D0);
    lab.collect();
    assert_eq!(lab.hub.hello(D0), Waiting);
    assert_eq!(lab.hellos(D0), [(secs(1), Msg::Hello(vec![], 3, 3))]);
    lab.meet(D0);
    assert_eq!(lab.hub.hello(D0), Bidirectional);
}

/// Goal: before Bidirectional, well-formed messages other than Hello change and cause nothing.
#[test]
fn h_12_only_hello_counts_before_bidirectional() {
    let mut lab = Lab::new(&[9]);
    for receivers in [None, Some(&[][..])] {
        if let Some(receivers) = receivers {
            lab.send(D0, &hello(receivers));
        }
        let state = lab.hub.hello(D0);
        for msg in [
            ca(1, "MIO", &[]),
            Msg::Request(vec![sum(b"key", 9, 1).hops(3).with(b"body")]),
            Msg::Reply(vec![sum(b"key", 9, 1)]),
            Msg::Csus(vec![sum(b"key", 9, 1)]),
        ] {
            lab.send(D0, &msg);
        }
        assert_eq!(lab.hub.hello(D0), state);
        assert_eq!(lab.alignment(D0), alignment::State::Down);
        assert_eq!(lab.sent(D0), []);
        assert_eq!(lab.entry(b"key", 9), None);
    }
}

/// Goal: leaving Bidirectional takes the alignment down from every state, and it stays silent.
#[test]
fn h_13_leaving_bidirectional_takes_alignment_down() {
    for steps in 1..=3 {
        let mut lab = Lab::new(&[9]);
        lab.meet(D0);
        if steps > 1 {
            lab.send(D0, &ca(900, "MIO", &[]));
        }
        if steps > 2 {
            lab.send(D0, &ca(901, "M", &[]));
        }
        assert_ne!(lab.alignment(D0), alignment::State::Down);
        lab.sent(D0);
        lab.send(D0, &hello(&[]));
        assert_eq!(lab.alignment(D0), alignment::State::Down);
        lab.wait(secs(10));
        assert_eq!(lab.sent(D0), []);
    }
}
