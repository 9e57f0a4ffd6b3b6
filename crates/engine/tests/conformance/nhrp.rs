//! NHRP instances (N-01 to N-05, D-21).

use std::time::Duration;

use scsp_engine::message::Abnormal;
use scsp_engine::shard::Refusal;
use scsp_engine::{InstanceSetup, Notice, alignment, hello};
use scsp_profile::{NhrpBody, NhrpState, Profile};
use scsp_wire::{CsaSeq, ProtocolId};

use crate::script::{LSID, Lab, Msg, ca, rec, records, replies, sum};
use crate::support::{D0, D1, I0, id, instance, secs, setup};

/// Cache key of the client under test: its protocol address.
const KEY: [u8; 4] = [10, 255, 0, 5];

fn nhrp_instance() -> InstanceSetup {
    InstanceSetup {
        protocol: ProtocolId::NHRP,
        profile: Profile::Nhrp,
        ..instance()
    }
}

fn lab(peers: &[u8]) -> Lab {
    let mut lab = Lab::with(peers, |setup| setup.instances = vec![nhrp_instance()]);
    for dcs in [D0, D1].into_iter().take(peers.len()) {
        lab.align(dcs);
    }
    lab
}

/// A registration of a client behind 198.51.100.5.
fn body(state: NhrpState, holding_secs: u16, request_id: u32) -> Vec<u8> {
    let body = NhrpBody {
        family: 1,
        protocol_type: 0x0800,
        snap: [0; 5],
        flags: 0,
        request_id,
        state,
        prefix_len: 32,
        mtu: 1400,
        holding_secs,
        preference: 0,
        nbma_e164: false,
        subaddress_e164: false,
        nbma: &[198, 51, 100, 5],
        subaddress: &[],
        protocol_address: &KEY,
    };
    let mut out = vec![0; body.encoded_len()];
    body.encode(&mut out).unwrap();
    out
}

fn registered(holding_secs: u16) -> Vec<u8> {
    body(NhrpState::Registered, holding_secs, 7)
}

/// Live records of the key, withdrawn ones too with `all`.
fn seen(lab: &Lab, all: bool) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    let home = lab.hub.home_ref(&KEY);
    home.records(lab.now(), I0, &KEY, all, |view| {
        seen.push(view.body.to_vec());
    })
    .unwrap();
    seen
}

/// Goal: ids and keys of another length than 4 octets make a packet malformed, whole, which resets
/// the neighbour (D-02); nothing of it is taken in. Method: each place in turn, next to one that
/// fits; and the client interface, where the error names both lengths.
#[test]
fn n_01_ids_and_keys_have_four_octets() {
    let long = |octets: &[u8]| {
        let mut wrong = sum(&KEY, 9, 1);
        wrong.originator = scsp_wire::ServerId::from_bytes(octets).unwrap();
        wrong
    };
    let good = rec(&KEY, 9, 1, 3, &registered(60));
    let wrong_key = rec(b"five5", 9, 1, 3, &registered(60));
    let wrong_originator = long(&[9; 16]).hops(3).with(&registered(60));
    let messages = [
        Msg::Request(vec![good.clone(), wrong_key]),
        Msg::Request(vec![good, wrong_originator]),
        Msg::Reply(vec![sum(b"abc", LSID, 1)]),
        Msg::Csus(vec![sum(&[], LSID, 1)]),
        ca(1, "MIO", &[sum(b"five5", 9, 1)]),
    ];
    for message in messages {
        let mut lab = lab(&[9]);
        lab.notices();
        lab.send(D0, &message);
        let reset = Notice::Abnormal {
            dcs: D0,
            cause: Abnormal::Malformed,
            count: 1,
        };
        assert!(lab.notices().contains(&reset), "{message:?}");
        assert_eq!(lab.hub.hello(D0), hello::State::Waiting, "{message:?}");
        assert_eq!(lab.hub.entries(), [], "{message:?}");
    }
    let mut lab = lab(&[9]);
    lab.send_as(
        D0,
        id(9).as_bytes(),
        &[0xFF; 7],
        &Msg::Request(vec![rec(&KEY, 9, 1, 3, &registered(60))]),
    );
    assert_eq!(
        lab.alignment(D0),
        alignment::State::Aligned,
        "for everybody"
    );
    assert_eq!(seen(&lab, false), [registered(60)]);
    let now = lab.now();
    let refused = lab
        .hub
        .home(b"five5")
        .publish(now, I0, b"five5", &registered(9), None);
    let (len, min, max) = (5, 4, 4);
    assert_eq!(refused, Err(Refusal::Key { len, min, max }));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "key of 5 octets, expected 4"
    );
}

/// Goal: a Hello may name servers of other instances, whose ids have other lengths, and breaks
/// nothing.
#[test]
fn n_01_h_04_hellos_name_servers_of_any_kind() {
    let mut lab = lab(&[9]);
    lab.notices();
    let other = scsp_wire::ServerId::from_bytes(b"lengthy").unwrap();
    lab.send(D0, &Msg::Hello(vec![other, id(LSID)], 3, 3));
    assert_eq!(lab.alignment(D0), alignment::State::Aligned);
    assert_eq!(lab.notices(), []);
}

/// Goal: when the holding time is over the entry is gone here, and nothing is sent about it.
#[test]
fn n_02_expiry_sends_nothing() {
    let mut lab = lab(&[9, 1]);
    lab.flood(D0, &[rec(&KEY, 9, 1, 4, &registered(30))]);
    lab.send(D1, &Msg::Reply(vec![sum(&KEY, 9, 1)]));
    lab.sent(D0);
    lab.sent(D1);
    lab.wait(Duration::from_millis(29_999));
    assert_eq!(seen(&lab, false).len(), 1);
    lab.wait(secs(1));
    assert_eq!(seen(&lab, false), [] as [Vec<u8>; 0]);
    lab.wait(secs(60));
    assert_eq!((lab.sent(D0), lab.sent(D1)), (vec![], vec![]));
    assert_eq!(lab.hub.entries(), [], "nothing is kept of it");
}

/// Goal: what is forwarded and what is solicited carries the seconds that remain then, rounded up,
/// never more than came in (D-21).
#[test]
fn n_03_d_21_holding_time_shrinks_on_the_way() {
    let mut lab = Lab::with(&[9, 1], |setup| setup.instances = vec![nhrp_instance()]);
    lab.align(D0);
    let sent = lab.flood(D0, &[rec(&KEY, 9, 1, 4, &registered(30))]);
    assert_eq!(replies(&sent), [sum(&KEY, 9, 1)]);
    lab.wait(Duration::from_millis(10_500));
    assert_eq!(seen(&lab, false), [registered(20)], "19.5 s remain");
    lab.align(D1);
    lab.sent(D1);
    lab.wait(secs(5));
    lab.sent(D1);
    lab.send(D1, &Msg::Csus(vec![sum(&KEY, 9, 1)]));
    let solicited = records(&lab.sent(D1));
    assert_eq!(
        solicited,
        [rec(&KEY, 9, 1, 1, &registered(15))],
        "14.5 s remain"
    );
    lab.send(D1, &Msg::Reply(vec![sum(&KEY, 9, 1)]));
    // One that comes with more than its predecessor had left is new and counts from its own.
    lab.flood(D0, &[rec(&KEY, 9, 2, 4, &registered(40))]);
    assert_eq!(
        records(&lab.sent(D1)),
        [rec(&KEY, 9, 2, 3, &registered(40))],
        "at once: all of it"
    );
}

/// Goal: state 2 removes the client and is kept until every DCS has acknowledged it and the
/// retention is over; an old record does not come back meanwhile. Purging the own registration
/// sends the protocol's own form: the same body in state 2.
#[test]
fn n_04_purge_is_kept() {
    let mut lab = Lab::with(&[9, 1], |setup| {
        setup.instances = vec![nhrp_instance()];
        setup.instances[0].csu_retransmit_max = 5000;
    });
    lab.align(D0);
    lab.align(D1);
    lab.flood(D0, &[rec(&KEY, 9, 1, 4, &registered(3600))]);
    lab.send(D1, &Msg::Reply(vec![sum(&KEY, 9, 1)]));
    let purge = body(NhrpState::Purged, 0, 7);
    lab.flood(D0, &[rec(&KEY, 9, 2, 4, &purge)]);
    assert_eq!((seen(&lab, false).len(), seen(&lab, true).len()), (0, 1));
    lab.sent(D1);
    let sent = lab.flood(D0, &[rec(&KEY, 9, 1, 4, &registered(3600))]);
    assert_eq!(
        replies(&sent),
        [sum(&KEY, 9, 2)],
        "the old one is answered by the purge"
    );
    assert_eq!(seen(&lab, false).len(), 0);
    lab.wait(secs(3700));
    assert_eq!(lab.hub.entries().len(), 1, "not acknowledged by all");
    lab.send(D1, &Msg::Reply(vec![sum(&KEY, 9, 2)]));
    lab.wait(secs(2));
    assert_eq!(lab.hub.entries(), []);

    let now = lab.now();
    let home = lab.hub.home(&KEY);
    home.publish(now, I0, &KEY, &registered(600), None).unwrap();
    assert_eq!(home.purge(now, I0, &KEY), Ok(true));
    assert_eq!(home.purge(now, I0, &KEY), Ok(false), "purged already");
    lab.collect();
    let sent = records(&lab.sent(D0));
    assert_eq!(sent.len(), 1, "only the newest is queued");
    assert_eq!(sent[0].body, body(NhrpState::Purged, 600, 7));
}

/// Goal: a purge stays after its retention for a DCS that is away, until that one has it; one that
/// was acknowledged before the DCS went, and an expired registration, do not wait for it.
#[test]
fn n_04_purge_waits_for_who_is_away() {
    let mut lab = Lab::with(&[9, 1], |setup| {
        setup.instances = vec![nhrp_instance()];
        setup.instances[0].purge_retention = secs(30);
    });
    lab.align(D0);
    lab.align(D1);
    let (early, late, mortal) = ([10, 255, 0, 1], [10, 255, 0, 2], [10, 255, 0, 3]);
    let purge = body(NhrpState::Purged, 0, 7);
    lab.flood(D0, &[rec(&early, 9, 1, 4, &purge)]);
    lab.send(D1, &Msg::Reply(vec![sum(&early, 9, 1)]));
    lab.wait(secs(12));
    lab.hub.control.handle_clear(lab.now(), D1);
    lab.collect();
    lab.wait(secs(2));
    lab.flood(
        D0,
        &[
            rec(&late, 9, 1, 4, &purge),
            rec(&mortal, 9, 1, 4, &registered(10)),
        ],
    );
    lab.wait(secs(3000));
    let held: Vec<_> = lab.hub.entries().into_iter().map(|row| row.key).collect();
    assert_eq!(held, [late.to_vec()]);
    lab.align(D1);
    lab.wait(secs(100));
    assert_eq!(lab.hub.entries(), []);
}

/// Goal: a number that a neighbour may remember of a record that is gone here is not given out
/// again, though a client chose it.
#[test]
fn n_05_chosen_sequence_stays_above_what_is_forgotten() {
    let mut lab = Lab::with(&[9], |setup| {
        setup.instances = vec![nhrp_instance()];
        setup.instances[0].purge_retention = secs(1);
    });
    lab.align(D0);
    let publish = |lab: &mut Lab, seq: i32| {
        let now = lab.now();
        let octets = registered(600);
        let done = lab
            .hub
            .home(&KEY)
            .publish(now, I0, &KEY, &octets, CsaSeq::new(seq));
        lab.collect();
        done.map(CsaSeq::get)
    };
    assert_eq!(publish(&mut lab, 700), Ok(700));
    let now = lab.now();
    assert_eq!(lab.hub.home(&KEY).purge(now, I0, &KEY), Ok(true));
    lab.collect();
    lab.sent(D0);
    lab.send(D0, &Msg::Reply(vec![sum(&KEY, LSID, 701)]));
    lab.wait(secs(30));
    assert_eq!(lab.hub.entries(), []);
    assert_eq!(publish(&mut lab, 701), Ok(702), "701 was the purge");
    assert_eq!(publish(&mut lab, 9000), Ok(9000));
}

/// Goal: a registering client's request id may serve as CSA sequence; the next has to be above it.
#[test]
fn n_05_request_id_as_sequence() {
    let mut lab = lab(&[9]);
    let mut register = |request_id: u32| {
        let now = lab.now();
        let seq = CsaSeq::new(i32::try_from(request_id).unwrap());
        let octets = body(NhrpState::Registered, 600, request_id);
        let done = lab.hub.home(&KEY).publish(now, I0, &KEY, &octets, seq);
        lab.collect();
        let sent = records(&lab.sent(D0));
        (done, sent.first().map(|rec| rec.sum.seq))
    };
    assert_eq!(register(700), (Ok(CsaSeq::new(700).unwrap()), Some(700)));
    let (given, min, max) = (700, 701, i64::from(CsaSeq::LAST.get()));
    assert_eq!(
        register(700),
        (Err(Refusal::Sequence { given, min, max }), None)
    );
    assert_eq!(register(701), (Ok(CsaSeq::new(701).unwrap()), Some(701)));
}

/// Goal: a body that says something else than its octets is counted as rejected and acknowledged,
/// and breaks no adjacency.
#[test]
fn n_01_malformed_bodies_are_rejected() {
    let mut lab = lab(&[9]);
    let mut short = registered(60);
    short.pop();
    let sent = lab.flood(D0, &[rec(&KEY, 9, 1, 4, &short)]);
    assert_eq!(replies(&sent), [sum(&KEY, 9, 1)]);
    assert_eq!(lab.alignment(D0), alignment::State::Aligned);
    assert_eq!(lab.hub.entries(), []);
    let setup = setup(LSID, 1, 1);
    assert_eq!(
        setup.instances[0].profile.id_len(),
        None,
        "kv ids have any length"
    );
}
