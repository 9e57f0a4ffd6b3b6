//! Point-to-multipoint links: one stream of Hellos, records sent once to everybody, and records
//! that somebody else sent to everybody (RFC 2334 2.1, 2.3).

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use scsp_engine::alignment::State::{Aligned, Update};
use scsp_engine::control::{HELLO_GAP_MIN, HELLO_RECEIVERS_MAX};
use scsp_engine::hello::State::{Bidirectional, Unidirectional, Waiting};
use scsp_engine::{DcsIndex, DcsSetup, LinkIndex, LinkSetup, Setup};
use scsp_wire::{Builder, Header, HelloFields, ServerId};

use crate::script::{LSID, Lab, Msg, ca, hello, rec, records, replies, sum};
use crate::support::{D0, D1, Hub, I0, World, at, dcs, id, millis, secs, setup};

const D2: DcsIndex = DcsIndex(2);
const L0: LinkIndex = LinkIndex(0);

/// All DCSs but the `apart` last ones are on one multipoint link, all records in one shard.
fn multipoint(setup: &mut Setup, apart: usize) {
    setup.shards = 1;
    let on_link = setup.dcs.len() - apart;
    for (dcs, station) in setup.dcs.iter_mut().zip(0..) {
        dcs.link =
            LinkIndex(u16::try_from(usize::from(station).saturating_sub(on_link - 1)).unwrap());
        dcs.station = station;
    }
    setup.links = vec![LinkSetup {
        multipoint: true,
        segments: true,
    }];
    setup.links.extend(vec![
        LinkSetup {
            multipoint: false,
            segments: true
        };
        apart
    ]);
}

/// A hub with these neighbours on a multipoint link.
fn lab(peers: &[u8]) -> Lab {
    Lab::with(peers, |setup| multipoint(setup, 0))
}

/// The same, all aligned.
pub(crate) fn aligned(peers: &[u8]) -> Lab {
    let mut lab = lab(peers);
    align_all(&mut lab);
    lab
}

fn align_all(lab: &mut Lab) {
    for dcs in (0..).map(DcsIndex).take(lab.peers.len()) {
        lab.align(dcs);
    }
    lab.wait(secs(1));
    lab.to_all.clear();
}

/// Hellos to everybody since the last call.
fn hellos(lab: &mut Lab) -> Vec<(Duration, BTreeSet<ServerId>)> {
    let sent = lab.to_all.drain(..);
    let hellos = sent.filter_map(|(at, msg)| match msg {
        Msg::Hello(ids, ..) => Some((at, ids.into_iter().collect())),
        _ => None,
    });
    hellos.collect()
}

/// Keys of the records sent to everybody since the last call.
fn broadcast(lab: &mut Lab) -> Vec<Vec<u8>> {
    let msgs: Vec<_> = lab.to_all.drain(..).map(|(_, msg)| msg).collect();
    records(&msgs).into_iter().map(|rec| rec.sum.key).collect()
}

/// Keys of the records sent to one neighbour since the last call.
fn unicast(lab: &mut Lab, dcs: DcsIndex) -> Vec<Vec<u8>> {
    let sent = lab.sent(dcs);
    records(&sent).into_iter().map(|rec| rec.sum.key).collect()
}

fn ids(last: &[u8]) -> BTreeSet<ServerId> {
    last.iter().map(|last| id(*last)).collect()
}

/// Goal: on a multipoint link one Hello an interval goes to everybody and names all DCSs that are
/// heard and not stalled, each by its own timers; none goes to a single DCS.
#[test]
fn h_10_one_hello_names_all() {
    let mut lab = lab(&[9, 7, 1]);
    assert_eq!(hellos(&mut lab), [(secs(0), ids(&[]))]);
    lab.wait(secs(1));
    lab.send(D0, &Msg::Hello(vec![], 3, 4));
    assert_eq!(hellos(&mut lab), [(secs(1), ids(&[9]))], "H-06");
    lab.wait(millis(500));
    lab.send(D1, &Msg::Hello(vec![id(3), id(LSID), id(9)], 3, 100));
    assert_eq!(hellos(&mut lab), [(millis(1500), ids(&[9, 7]))]);
    let states = [D0, D1, D2].map(|dcs| lab.hub.hello(dcs));
    assert_eq!(states, [Unidirectional, Bidirectional, Waiting]);
    lab.wait(secs(12));
    let hellos = hellos(&mut lab);
    let gaps = hellos
        .windows(2)
        .map(|pair| pair[1].0.saturating_sub(pair[0].0));
    assert!(gaps.clone().all(|gap| gap < secs(3)), "{hellos:?}");
    assert_eq!(
        gaps.filter(|gap| *gap < millis(2700)).count(),
        1,
        "{hellos:?}"
    );
    let stalled: Vec<_> = hellos.iter().filter(|(_, ids)| ids.len() == 1).collect();
    assert_eq!(stalled[0], &(secs(13), ids(&[7])), "after 3 s × 4");
    assert_eq!(
        [D0, D1].map(|dcs| lab.hub.hello(dcs)),
        [Waiting, Bidirectional]
    );
    assert!([D0, D1, D2].iter().all(|dcs| lab.hellos(*dcs).is_empty()));
}

/// Goal: however many neighbours change at once, Hellos keep their smallest gap, and a neighbour
/// that had to wait for its name gets the opening CA once more right after it.
#[test]
fn h_10_changes_hasten_one_stream() {
    let mut lab = lab(&[9, 7, 1]);
    lab.wait(secs(1));
    lab.send(D0, &hello(&[]));
    hellos(&mut lab);
    for round in 0..40 {
        lab.wait(millis(10));
        let receivers: &[u8] = if round % 2 == 0 { &[LSID] } else { &[] };
        for dcs in [D0, D1, D2] {
            lab.send(dcs, &hello(receivers));
        }
    }
    let said = hellos(&mut lab);
    assert!(
        said.windows(2)
            .all(|pair| pair[1].0.saturating_sub(pair[0].0) >= HELLO_GAP_MIN),
        "{said:?}"
    );
    assert!(said.len() >= 3);

    let mut lab = self::lab(&[9, 7]);
    lab.wait(secs(1));
    lab.send(D0, &hello(&[]));
    lab.send(D1, &hello(&[LSID]));
    assert_eq!(
        hellos(&mut lab),
        [(secs(0), ids(&[])), (secs(1), ids(&[9]))]
    );
    let opening = lab.sent(D1);
    lab.wait(HELLO_GAP_MIN);
    assert_eq!(hellos(&mut lab), [(millis(1100), ids(&[9, 7]))]);
    assert_eq!(
        lab.sent(D1),
        opening,
        "once more, now that it knows its name"
    );
}

/// Goal: a Hello grows beyond the packet limit by need, up to the largest datagram; the promised
/// number of the longest ids fits.
#[test]
fn h_10_receivers_fit() {
    let long = |number: u16| {
        let mut octets = [7; 255];
        octets[..2].copy_from_slice(&number.to_be_bytes());
        ServerId::from_bytes(&octets).unwrap()
    };
    for (peers, fit) in [
        (40, 40),
        (HELLO_RECEIVERS_MAX, HELLO_RECEIVERS_MAX),
        (300, 254),
    ] {
        let mut setup = setup(LSID, 1, peers);
        setup.lsid = long(9999);
        multipoint(&mut setup, 0);
        let now = at(secs(1));
        let mut hub = Hub::unlinked(setup, now);
        hub.control.handle_link(now, L0, true);
        let setup = hub.setup.clone();
        for peer in 0..u16::try_from(peers).unwrap() {
            let instance = setup.instance_of(D0);
            let (id, mut bytes) = (long(peer), vec![0; 2000]);
            let header = Header {
                protocol: instance.protocol,
                group: instance.group,
                sender: id.as_bytes(),
                receiver: &[],
            };
            let fields = HelloFields {
                interval_secs: 3,
                dead_factor: 3,
                family: instance.family,
            };
            let len = Builder::hello(&mut bytes, 2000, &header, fields)
                .unwrap()
                .finish();
            let envelope = scsp_wire::Envelope::parse(&bytes[..len]).unwrap();
            hub.shards[0].handle_packet(now, DcsIndex(peer), &envelope);
        }
        while hub.shards[0].poll_message().is_some_and(|message| {
            if let scsp_engine::shard::Message::Control(message) = message {
                hub.control.handle_message(now, message);
            }
            true
        }) {}
        while hub.control.poll_transmit().is_some() {}
        hub.control.handle_timeouts(at(millis(1100)));
        let sent = hub.control.poll_transmit().unwrap().bytes;
        let Msg::Hello(named, ..) = Msg::parse(&sent) else {
            panic!("no Hello")
        };
        let expected: Vec<_> = (0..u16::try_from(fit).unwrap()).map(long).collect();
        assert_eq!(named, expected, "the first ones");
    }
}

/// Goal: a new record goes once to everybody, is acknowledged by each DCS for itself, and resent to
/// the one that did not, by its own name, while further records go by unicast until it has.
#[test]
fn csu_14_new_records_go_once() {
    let mut lab = aligned(&[9, 7, 1]);
    let seq = lab.publish(b"k", b"v");
    assert_eq!(broadcast(&mut lab), [b"k"]);
    assert!([D0, D1, D2].iter().all(|dcs| lab.sent(*dcs).is_empty()));
    lab.send(D0, &Msg::Reply(vec![sum(b"k", LSID, seq)]));
    lab.send(D2, &Msg::Reply(vec![sum(b"k", LSID, seq)]));
    lab.wait(secs(1));
    assert_eq!(broadcast(&mut lab), [] as [Vec<u8>; 0]);
    assert_eq!(
        [D0, D1, D2].map(|dcs| unicast(&mut lab, dcs).len()),
        [0, 1, 0]
    );
    let seq = lab.publish(b"l", b"v");
    assert_eq!(broadcast(&mut lab), [] as [Vec<u8>; 0], "one is behind");
    assert_eq!([D0, D1, D2].map(|dcs| unicast(&mut lab, dcs).len()), [1; 3]);
    let acks = |seq| Msg::Reply([b"k", b"l"].map(|key| sum(key, LSID, seq)).to_vec());
    for dcs in [D0, D1, D2] {
        lab.send(dcs, &acks(seq));
    }
    lab.publish(b"m", b"v");
    assert_eq!(broadcast(&mut lab), [b"m"]);
    lab.wait(secs(7));
    assert!(
        [D0, D1, D2]
            .iter()
            .all(|dcs| lab.hub.hello(*dcs) == Waiting),
        "CSU-06"
    );
}

/// Goal: what only one DCS is to have goes by unicast, to the one that asks alone (CSU-10), and so
/// does everything while a DCS of the link is in an exchange.
#[test]
fn csu_14_unicast_where_one_is_meant() {
    let mut lab = lab(&[9, 7, 1]);
    lab.align(D0);
    lab.publish(b"k", b"v");
    assert_eq!(broadcast(&mut lab), [] as [Vec<u8>; 0]);
    assert_eq!(unicast(&mut lab, D0), [b"k"]);
    lab.send(D0, &Msg::Reply(vec![sum(b"k", LSID, 1000)]));

    let taken = [rec(b"n", 9, 1, 5, b"body")];
    lab.align(D1);
    lab.flood(D0, &taken);
    assert_eq!(
        (broadcast(&mut lab).len(), unicast(&mut lab, D1)),
        (0, vec![b"n".to_vec()])
    );
    lab.send(D1, &Msg::Reply(vec![sum(b"n", 9, 1)]));
    lab.send(D1, &Msg::Csus(vec![sum(b"k", LSID, 1000), sum(b"?", 3, 1)]));
    assert_eq!(broadcast(&mut lab).len(), 0);
    assert_eq!(unicast(&mut lab, D1), [b"?", b"k"]);
    lab.send(D1, &Msg::Reply(vec![sum(b"k", LSID, 1000)]));

    lab.open(D2);
    lab.publish(b"m", b"v");
    assert_eq!(broadcast(&mut lab).len(), 0);
    assert_eq!([D0, D1].map(|dcs| unicast(&mut lab, dcs)), [[b"m"], [b"m"]]);
}

/// Goal: what waits for the group when an exchange begins goes by unicast, and nothing is lost.
#[test]
fn csu_14_held_records_are_let_go() {
    let mut lab = aligned(&[9, 7, 1]);
    let body = vec![0; 50_000];
    for key in 0..4_u8 {
        lab.publish(&[key], &body);
    }
    let first = broadcast(&mut lab);
    assert!(
        (1..4).contains(&first.len()),
        "the window holds the rest: {first:?}"
    );
    assert!(unicast(&mut lab, D0).is_empty(), "it waits for the group");
    let (seqs, instance) = (first.clone(), lab.hub.setup.instances[0].restart_increment);
    let seq = i32::try_from(instance).unwrap();
    let acks = seqs.iter().map(|key| sum(key, LSID, seq)).collect();
    lab.send(D0, &Msg::Reply(acks));
    assert!(broadcast(&mut lab).is_empty() && unicast(&mut lab, D0).is_empty());
    lab.send(D2, &hello(&[]));
    lab.open(D2);
    assert_eq!(first.len() + unicast(&mut lab, D0).len(), 4);
    assert!(broadcast(&mut lab).is_empty());
}

/// Goal: the smallest packet limit and number of records of the link hold for everybody.
#[test]
fn csu_14_smallest_limits_hold() {
    let mut lab = Lab::with(&[9, 7, 1], |setup| {
        multipoint(setup, 0);
        for (dcs, max) in setup.dcs.iter_mut().zip([0, 3, 5]) {
            dcs.max_records = max;
        }
        setup.dcs[2].packet_limit = 300;
        // The last packet of a send may hold less than the limits allow.
        setup.links[0].segments = false;
    });
    align_all(&mut lab);
    let now = lab.now();
    for key in 0..20_u8 {
        let body = vec![0; if key < 10 { 0 } else { 100 }];
        lab.hub
            .home(&[key])
            .publish(now, I0, &[key], &body, None)
            .unwrap();
    }
    lab.collect();
    let counts = lab
        .to_all
        .iter()
        .map(|(_, msg)| records(std::slice::from_ref(msg)).len());
    assert_eq!(counts.clone().sum::<usize>(), 20);
    assert_eq!((counts.clone().max(), counts.min()), (Some(3), Some(2)));
}

/// Goal: a request to everybody is taken in and answered to its sender alone, whatever the length
/// of the receiver id; not by one that is not aligned with its sender (CSU-01). Other messages to
/// everybody, and messages to somebody else, are ignored.
#[test]
fn csu_14_requests_to_everybody_are_answered_to_the_sender() {
    let mut lab = aligned(&[9, 7, 1]);
    for (len, key) in [(1, b"a"), (4, b"b"), (255, b"c")] {
        let from = id(9);
        let msg = Msg::Request(vec![rec(key, 9, 1, 1, b"v")]);
        lab.send_as(D0, from.as_bytes(), &vec![0xFF; len], &msg);
        assert_eq!(replies(&lab.sent(D0)), [sum(key, 9, 1)]);
        assert!(lab.to_all.is_empty() && lab.sent(D1).is_empty());
    }
    let all = [0xFF; 4];
    lab.send_as(
        D0,
        id(9).as_bytes(),
        &all,
        &Msg::Csus(vec![sum(b"a", 9, 1)]),
    );
    lab.send_as(D0, id(9).as_bytes(), &all, &ca(1, "MIO", &[]));
    lab.send_as(
        D0,
        id(9).as_bytes(),
        id(7).as_bytes(),
        &Msg::Csus(vec![sum(b"a", 9, 1)]),
    );
    assert_eq!((lab.sent(D0), lab.alignment(D0)), (vec![], Aligned));

    let mut lab = self::lab(&[9, 7]);
    lab.open(D0);
    let msg = Msg::Request(vec![rec(b"k", 9, 1, 1, b"v")]);
    lab.send_as(D0, id(9).as_bytes(), &all, &msg);
    assert_eq!((lab.sent(D0), lab.entry(b"k", 9)), (vec![], None));
}

/// Goal: a request to everybody says nothing of the master's alignment with this server: the slave
/// still repeats its last CA for a master that missed it (CA-15).
#[test]
fn csu_14_a_request_to_everybody_keeps_the_last_ca() {
    let mut lab = lab(&[9, 7]);
    let wanted = [sum(b"k", 9, 1)];
    lab.exchange(D0, &wanted);
    assert_eq!(lab.alignment(D0), Update);
    let msg = Msg::Request(vec![rec(b"n", 9, 1, 1, b"v")]);
    lab.send_as(D0, id(9).as_bytes(), &[0xFF; 4], &msg);
    lab.sent(D0);
    lab.send(D0, &ca(901, "M", &wanted));
    assert_eq!(lab.sent(D0), [ca(901, "", &[])]);
}

/// Says Hello as each of the first DCSs, naming this server and all the others, so often.
fn mesh_up(lab: &mut Lab, meshed: &[DcsIndex], times: usize) {
    let names: Vec<u8> = meshed.iter().map(|dcs| lab.peers[dcs.index()]).collect();
    for _ in 0..times {
        for dcs in meshed {
            let own = lab.peers[dcs.index()];
            let named = names.iter().copied().filter(|name| *name != own);
            let named: Vec<u8> = [LSID].into_iter().chain(named).collect();
            let named = named.into_iter().map(id).collect();
            lab.send(*dcs, &Msg::Hello(named, 3, 4));
        }
    }
}

/// The neighbour floods records to everybody.
fn flood_all(lab: &mut Lab, dcs: DcsIndex, keys: &[&[u8]]) {
    let recs = keys.iter().map(|key| rec(key, 3, 1, 5, b"v")).collect();
    let from = id(lab.peers[dcs.index()]);
    lab.send_as(dcs, from.as_bytes(), &[0xFF; 4], &Msg::Request(recs));
}

/// Goal: a record heard by everybody on a full mesh is not flooded back into it, but elsewhere; two
/// neighbours count as meshed from the second Hello in a row by which each names the other.
#[test]
fn csu_15_not_flooded_back_into_the_mesh() {
    let mut lab = Lab::with(&[9, 7, 1, 8], |setup| multipoint(setup, 1));
    align_all(&mut lab);
    let d3 = DcsIndex(3);
    mesh_up(&mut lab, &[D0, D1, D2], 1);
    flood_all(&mut lab, D0, &[b"a"]);
    assert_eq!(
        (broadcast(&mut lab), unicast(&mut lab, d3)),
        (vec![b"a".to_vec()], vec![b"a".to_vec()])
    );
    for dcs in [D1, D2, d3] {
        lab.send(dcs, &Msg::Reply(vec![sum(b"a", 3, 1)]));
    }

    mesh_up(&mut lab, &[D0, D1, D2], 2);
    flood_all(&mut lab, D0, &[b"b"]);
    lab.wait(secs(1));
    assert!(broadcast(&mut lab).is_empty());
    assert_eq!([D1, D2].map(|dcs| unicast(&mut lab, dcs).len()), [0, 0]);
    assert_eq!(
        unicast(&mut lab, d3),
        [b"b", b"b"],
        "and again after a second"
    );
    assert_eq!(
        replies(&lab.sent(D0)),
        [b"a", b"b"].map(|key| sum(key, 3, 1))
    );
    lab.send(d3, &Msg::Reply(vec![sum(b"b", 3, 1)]));
    let spared: u64 = lab
        .hub
        .shards
        .iter()
        .map(|shard| shard.counters(I0).spared)
        .sum();
    assert_eq!(spared, 2);

    // From outside of the mesh, and by unicast: to everybody as ever.
    lab.flood(d3, &[rec(b"c", 8, 1, 5, b"v")]);
    assert_eq!(broadcast(&mut lab), [b"c"]);
    for dcs in [D0, D1, D2] {
        lab.send(dcs, &Msg::Reply(vec![sum(b"c", 8, 1)]));
    }
    lab.flood(D0, &[rec(b"d", 9, 1, 5, b"v")]);
    assert_eq!(broadcast(&mut lab), [b"d"]);
}

/// Goal: one that is not part of the mesh gets the record, by unicast: what goes to everybody is
/// a promise to all of them, and others of the mesh are left to the sender.
#[test]
fn csu_15_who_is_not_meshed_gets_it_by_unicast() {
    let mut lab = aligned(&[9, 7, 1, 8]);
    let d3 = DcsIndex(3);
    mesh_up(&mut lab, &[D0, D1], 2);
    lab.to_all.clear();
    flood_all(&mut lab, D0, &[b"k"]);
    assert!(broadcast(&mut lab).is_empty());
    let sent = [D1, D2, d3].map(|dcs| unicast(&mut lab, dcs).len());
    assert_eq!(sent, [0, 1, 1]);
}

/// Goal: when two are meshed no more, since one names the other no longer or is gone, what came
/// lately is queued for those whom it may not have reached; what is old is not.
#[test]
fn csu_15_a_broken_mesh_is_made_up_for() {
    let gone: [fn(&mut Lab); 2] = [
        |lab| lab.send(D0, &Msg::Hello(vec![id(LSID), id(1)], 3, 4)),
        |lab| lab.send(D0, &Msg::Hello(vec![], 3, 4)),
    ];
    for (case, gone) in gone.into_iter().enumerate() {
        let mut lab = Lab::with(&[9, 7, 1], |setup| multipoint(setup, 0));
        align_all(&mut lab);
        mesh_up(&mut lab, &[D0, D1, D2], 2);
        flood_all(&mut lab, D0, &[b"old"]);
        // Windows of both, here 12 s each, and resends for 6 s.
        for _ in 0..11 {
            lab.wait(secs(3));
            mesh_up(&mut lab, &[D0, D1, D2], 1);
        }
        flood_all(&mut lab, D0, &[b"a", b"b"]);
        lab.to_all.clear();
        for dcs in [D0, D1, D2] {
            lab.sent(dcs);
        }
        gone(&mut lab);
        lab.wait(millis(1));
        let (all, one) = (
            broadcast(&mut lab),
            [D1, D2].map(|dcs| unicast(&mut lab, dcs)),
        );
        if case == 0 {
            // 9 and 7 are apart: 9 has it, but might not have what 7 sent.
            assert_eq!(
                (all, one),
                (vec![], [vec![b"a".to_vec(), b"b".to_vec()], vec![]])
            );
            assert_eq!(unicast(&mut lab, D0), [b"a", b"b"]);
        } else {
            // 9 names nobody: it is down here, and apart from both.
            assert_eq!(
                (all, one),
                (vec![b"a".to_vec(), b"b".to_vec()], [vec![], vec![]])
            );
        }
    }
}

/// Goal: what came within the resends of both and the windows of both, here 6 s and 12 s each, is made up for
/// when the mesh breaks; what came before is not.
#[test]
fn csu_15_made_up_for_as_far_as_the_windows_reach() {
    for (ago, keys) in [(27, vec![b"k".to_vec()]), (33, vec![])] {
        let mut lab = aligned(&[9, 7, 1]);
        mesh_up(&mut lab, &[D0, D1, D2], 2);
        flood_all(&mut lab, D0, &[b"k"]);
        for _ in 0..ago / 3 {
            lab.wait(secs(3));
            mesh_up(&mut lab, &[D0, D1, D2], 1);
        }
        assert_eq!(unicast(&mut lab, D1), [] as [Vec<u8>; 0]);
        lab.send(D0, &Msg::Hello(vec![id(LSID), id(1)], 3, 4));
        lab.wait(millis(1));
        assert_eq!(unicast(&mut lab, D1), keys, "{ago} s ago");
    }
}

/// Goal: one that was gone is meshed anew: neither the names it gave before count, nor those that others
/// gave of it, however soon it is back.
#[test]
fn csu_15_who_was_gone_is_meshed_anew() {
    let mut lab = aligned(&[9, 7]);
    mesh_up(&mut lab, &[D0, D1], 2);
    flood_all(&mut lab, D1, &[b"a"]);
    assert_eq!(unicast(&mut lab, D0), [] as [Vec<u8>; 0]);
    let now = lab.now();
    lab.hub.control.handle_clear(now, D0);
    lab.send(D0, &Msg::Hello(vec![id(LSID), id(7)], 3, 4));
    lab.send(D0, &ca(900, "MIO", &[]));
    lab.send(D0, &ca(901, "M", &[]));
    assert_eq!(lab.alignment(D0), Aligned);
    lab.sent(D0);
    for (key, spared) in [(b"b", false), (b"c", false), (b"d", true)] {
        flood_all(&mut lab, D1, &[key]);
        let sent = if spared { vec![] } else { vec![key.to_vec()] };
        assert_eq!(unicast(&mut lab, D0), sent);
        lab.send(D0, &Msg::Reply(vec![sum(key, 3, 1)]));
        mesh_up(&mut lab, &[D0, D1], 1);
    }
}

/// Goal: a mesh that breaks again and again does not have the whole store looked at each time.
#[test]
fn csu_15_looks_at_the_store_are_rare() {
    let mut lab = aligned(&[9, 7, 1]);
    mesh_up(&mut lab, &[D0, D1, D2], 2);
    flood_all(&mut lab, D0, &[b"k"]);
    lab.to_all.clear();
    let mut sent = 0;
    for _ in 0..20 {
        lab.send(D0, &hello(&[LSID]));
        mesh_up(&mut lab, &[D0, D1, D2], 2);
        lab.wait(millis(10));
        let keys = [D0, D1].map(|dcs| {
            lab.send(dcs, &Msg::Reply(vec![sum(b"k", 3, 1)]));
            unicast(&mut lab, dcs).len()
        });
        lab.send(D2, &Msg::Reply(vec![sum(b"k", 3, 1)]));
        sent += keys.iter().sum::<usize>() + broadcast(&mut lab).len();
    }
    assert!((1..=3).contains(&sent), "{sent}");
    lab.wait(secs(1));
    assert!(
        !broadcast(&mut lab).is_empty(),
        "in the end it is made up for"
    );
}

/// Hubs on one multipoint link, with so many shards each, and perhaps a line of further ones that
/// begins at the last of them.
pub(crate) fn mesh(shards: &[u16], line: usize, adapt: impl Fn(&mut Setup)) -> World {
    let (hubs, all) = (shards.len(), shards.len() + line);
    let hub = |index: usize| {
        let mut setup = setup(u8::try_from(index + 1).unwrap(), shards[index % hubs], 0);
        setup.dcs.clear();
        let mut join = |link: usize, station: usize| {
            setup.dcs.push(DcsSetup {
                link: LinkIndex(u16::try_from(link).unwrap()),
                station: u16::try_from(station).unwrap(),
                ..dcs()
            });
        };
        if index < hubs {
            (0..hubs)
                .filter(|other| *other != index)
                .for_each(|other| join(0, other));
        } else {
            join(0, index - 1);
        }
        if (hubs - 1..all - 1).contains(&index) {
            join(1, index + 1);
        }
        setup.links = vec![
            LinkSetup {
                multipoint: index < hubs,
                segments: true,
            },
            LinkSetup {
                multipoint: false,
                segments: true,
            },
        ];
        adapt(&mut setup);
        Hub::new(setup, at(Duration::ZERO))
    };
    // The DCS towards the end of the line comes last.
    let cable = |left: usize| {
        let last = if left < hubs { hubs - 1 } else { 1 };
        [
            (left, DcsIndex(u16::try_from(last).unwrap())),
            (left + 1, D0),
        ]
    };
    let mut world = World::of(
        (0..all).map(hub).collect(),
        (hubs - 1..all - 1).map(cable).collect(),
    );
    world.segments = vec![(0..hubs).map(|hub| (hub, L0)).collect()];
    world
}

pub(crate) fn counted(
    world: &World,
    count: impl Fn(&scsp_engine::shard::InstanceCounters) -> u64,
) -> Vec<u64> {
    let of = |hub: &Hub| {
        hub.shards
            .iter()
            .map(|shard| count(shard.counters(I0)))
            .sum()
    };
    world.hubs.iter().map(of).collect()
}

/// Goal: hubs on a multipoint link, and a line that hangs off it, become one cache; a record goes
/// into the link once and comes back from nobody.
#[test]
fn csu_15_a_mesh_is_one_logical_port() {
    let mut world = mesh(&[2, 1, 3, 1], 2, |_| {});
    world.align();
    world.run(secs(10));
    let now = world.now();
    for n in 0..100_u8 {
        world.hubs[0].set(now, &[n], b"mesh");
        world.hubs[5].set(now, &[n, n], b"line");
    }
    world.run(secs(2));
    world.assert_equal();
    assert_eq!(world.hubs[1].entries().len(), 200);
    assert_eq!(counted(&world, |it| it.broadcast), [100, 0, 0, 100, 0, 0]);
    assert_eq!(counted(&world, |it| it.retransmitted), [0; 6]);
    // 1, 2 and 3 keep from two others each what 0 sent; 0, 1 and 2 what 3 passed on.
    assert_eq!(counted(&world, |it| it.spared), [200, 400, 400, 200, 0, 0]);
}

/// Goal: a hub that dies half-way through its sending to everybody leaves its neighbours equal: what
/// reached one of them reaches all.
#[test]
fn csu_15_originator_dies_in_the_middle() {
    for seed in 0..20 {
        let mut world = mesh(&[1, 2, 1, 1], 1, |setup| {
            setup.instances[0].hello_interval_secs = 1;
        });
        world.random.0 = seed;
        world.align();
        world.run(secs(5));
        let now = world.now();
        for n in 0..50_u8 {
            world.hubs[0].set(now, &[n, 0, 0, 0], &[n; 300]);
        }
        world.loss = 60;
        world.send_all();
        world.loss = 0;
        world.dead.insert(0);
        world.run(millis(500));
        let held: BTreeSet<usize> = world.hubs[1..]
            .iter()
            .map(|hub| hub.entries().len())
            .collect();
        world.run(secs(30));
        world.assert_equal();
        let most = held.iter().max().unwrap();
        assert!(
            world.hubs[1].entries().len() >= *most,
            "nothing that arrived is lost"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 48,
        ..ProptestConfig::default()
    })]

    /// Goal: four hubs on a multipoint link and a line that hangs off one of them, losing packets,
    /// written to everywhere, neighbours reset, one of them crashing after it sent something that only some may have
    /// heard: all that live end with the same entries.
    #[test]
    fn csu_15_any_crash_and_loss_converge(
        seed: u64,
        shards in proptest::collection::vec(1_u16..4, 4),
        line in 0_usize..3,
        loss in prop_oneof![Just(0_u64), 0_u64..30],
        rounds in 3_usize..25,
        victim in 0_usize..4,
    ) {
        let mut world = mesh(&shards, line, |setup| {
            setup.instances[0].hello_interval_secs = 1;
            setup.instances[0].csu_retransmit = millis(500);
        });
        world.random.0 = seed;
        world.align();
        world.loss = loss;
        let crash = world.random.index(rounds);
        for round in 0..rounds {
            let now = world.now();
            for _ in 0..world.random.below(30) {
                let hub = world.random.index(world.hubs.len());
                let key = [u8::try_from(world.random.below(80)).unwrap(); 4];
                let value = world.random.next().to_be_bytes();
                if !world.dead.contains(&hub) {
                    world.hubs[hub].set(now, &key, &value);
                }
            }
            if round == crash && (line == 0 || victim != 3) {
                world.loss = 50;
                world.send_all();
                world.dead.insert(victim);
                world.loss = loss;
            }
            if world.random.percent(10) {
                let hub = world.random.index(world.hubs.len());
                world.hubs[hub].control.handle_clear(now, D0);
            }
            let pause = millis(world.random.below(800));
            world.run(pause);
        }
        world.loss = 0;
        world.run(secs(40));
        world.assert_equal();
        let live = (0..world.hubs.len()).filter(|hub| !world.dead.contains(hub));
        for hub in live {
            for dcs in (0..).map(DcsIndex).take(world.hubs[hub].setup.dcs.len()) {
                let left: usize = world.hubs[hub].shards.iter().map(|it| it.queue_len(dcs)).sum();
                prop_assert_eq!(left, 0);
            }
        }
    }
}
