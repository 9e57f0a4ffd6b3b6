//! Several packets in one send (`shard::Transmit::segment`). What a kernel demands of them is
//! checked with every send of every test (`Hub::check_segments`), as is each packet by itself.

use proptest::prelude::*;
use scsp_engine::shard::{DATAGRAM_LEN_MAX, SEGMENTS_MAX};
use scsp_engine::{AuthKey, AuthMode, AuthSetup, DcsIndex, Destination, LinkIndex, Period, Setup};
use scsp_wire::{Algorithm, MacKey};

use crate::multipoint;
use crate::script::{Lab, Msg, Rec, rec, records, replies, sum};
use crate::support::{D0, D1, I0, millis, secs};

/// Largest packet of these tests.
const LIMIT: usize = 1472;

/// A hub of one shard with an aligned neighbour.
fn aligned(adapt: impl FnOnce(&mut Setup)) -> Lab {
    let mut lab = Lab::with(&[9], |setup| {
        setup.shards = 1;
        adapt(setup);
    });
    lab.align(D0);
    lab.hub.sends.clear();
    lab.sent(D0);
    lab
}

/// Publishes records with bodies of these lengths within one turn.
fn publish(lab: &mut Lab, body_lens: impl IntoIterator<Item = usize>) {
    let now = lab.now();
    for (number, len) in (0_u32..).zip(body_lens) {
        let key = number.to_be_bytes();
        let home = lab.hub.home(&key);
        home.publish(now, I0, &key, &vec![7; len], None).unwrap();
    }
    lab.collect();
}

/// Octets of the packets of each send to the first neighbour since the last call.
fn sends(lab: &mut Lab) -> Vec<Vec<usize>> {
    let all = lab.hub.sends.drain(..);
    let to_first = all.filter(|(to, _)| *to == Destination::Dcs(D0));
    to_first.map(|(_, lens)| lens).collect()
}

/// Packets of one length, but for the last of each send, and as many as one send takes.
fn assert_dense(sends: &[Vec<usize>], len: usize) {
    let most = (DATAGRAM_LEN_MAX / len).min(SEGMENTS_MAX);
    for (at, lens) in sends.iter().enumerate() {
        let (last, full) = lens.split_last().unwrap();
        assert!(full.iter().all(|it| *it == len), "{lens:?}");
        if at + 1 < sends.len() {
            assert_eq!((lens.len(), *last), (most, len), "{sends:?}");
        }
    }
}

/// Goal: records of one size leave as full packets, as many in a send as 64 KiB hold; each record
/// once, and each packet counted.
#[test]
fn segments_full_packets_share_a_send() {
    let mut lab = aligned(|_| {});
    publish(&mut lab, [40; 1500]);
    let sends = sends(&mut lab);
    assert!(sends.len() >= 2 && sends[0].len() >= 44, "{sends:?}");
    assert_dense(&sends, sends[0][0]);
    assert!(LIMIT - sends[0][0] < 80, "filled up to the limit");
    let sent = lab.sent(D0);
    assert_eq!(records(&sent).len(), 1500);
    let packets: usize = sends.iter().map(Vec::len).sum();
    assert_eq!(sent.len(), packets);
    let counted = lab.hub.shards[0].packets().sent;
    assert_eq!(counted.iter().sum::<u64>(), packets as u64);
}

/// Goal: acknowledgements of what came within a turn leave in one send.
#[test]
fn segments_replies_share_a_send() {
    let mut lab = aligned(|_| {});
    let recs: Vec<Rec> = (0..500_u32)
        .map(|key| rec(&key.to_be_bytes(), 9, 1, 3, b"body"))
        .collect();
    let sent = lab.flood(D0, &recs);
    assert_eq!(replies(&sent).len(), 500);
    let sends = sends(&mut lab);
    assert_eq!(sends.len(), 1, "{sends:?}");
    assert!(sends[0].len() > 5);
}

/// Goal: what was asked for and is not held is answered in one send (CSU-11); so is what is sent
/// again (CSU-06).
#[test]
fn segments_null_records_and_resends_share_a_send() {
    let mut lab = aligned(|_| {});
    let asked = (0..500_u32)
        .map(|key| sum(&key.to_be_bytes(), 9, 1))
        .collect();
    lab.send(D0, &Msg::Csus(asked));
    assert_eq!(records(&lab.sent(D0)).len(), 500);
    let nulls = sends(&mut lab);
    assert_eq!(nulls.len(), 1, "{nulls:?}");
    assert!(nulls[0].len() > 5);
    publish(&mut lab, [40; 300]);
    let first = sends(&mut lab);
    assert_eq!(first.len(), 1, "{first:?}");
    lab.wait(millis(1100));
    assert_eq!(sends(&mut lab), first);
}

/// Goal: what goes to everybody on a multipoint link goes in one send (CSU-14).
#[test]
fn segments_group_packets_share_a_send() {
    let mut lab = multipoint::aligned(&[9, 1]);
    lab.hub.sends.clear();
    publish(&mut lab, [40; 300]);
    let all = std::mem::take(&mut lab.hub.sends);
    let [(to, lens)] = &all[..] else {
        panic!("{all:?}")
    };
    assert_eq!(*to, Destination::Group(LinkIndex(0)));
    assert!(lens.len() > 5);
    assert_dense(std::slice::from_ref(lens), lens[0]);
}

/// Goal: signed packets share a send as others do.
#[test]
fn segments_signed_packets_share_a_send() {
    let always = Some(Period {
        from_ms: None,
        until_ms: None,
    });
    let key = AuthKey {
        spi: 1,
        key: MacKey::new(Algorithm::HmacSha256, b"secret"),
        send: always,
        receive: always,
    };
    let mut lab = aligned(|setup| {
        setup.dcs[0].auth = AuthSetup {
            mode: AuthMode::Send,
            keys: vec![key],
            failure_resets: false,
        };
    });
    publish(&mut lab, [40; 800]);
    let sends = sends(&mut lab);
    assert_dense(&sends, sends[0][0]);
    assert!(sends[0].len() >= 20, "{sends:?}");
    assert_eq!(records(&lab.sent(D0)).len(), 800);
}

/// Goal: small packets, where a neighbour takes only one record in each, share a send up to the
/// number that every kernel cuts.
#[test]
fn segments_are_limited_in_number() {
    let mut lab = aligned(|setup| setup.dcs[0].max_records = 1);
    publish(&mut lab, [40; 200]);
    let sends = sends(&mut lab);
    let counts: Vec<usize> = sends.iter().map(Vec::len).collect();
    assert_eq!(counts, [SEGMENTS_MAX, SEGMENTS_MAX, SEGMENTS_MAX, 8]);
}

/// Goal: links that take one packet at a time, and packets as large as a send, are as they were.
#[test]
fn segments_are_left_out_where_they_do_not_fit() {
    let mut lab = aligned(|setup| {
        let link = scsp_engine::LinkSetup {
            multipoint: false,
            segments: false,
        };
        setup.links = vec![link];
    });
    publish(&mut lab, [40; 300]);
    assert!(sends(&mut lab).iter().all(|lens| lens.len() == 1));
    let mut lab = aligned(|setup| setup.dcs[0].packet_limit = DATAGRAM_LEN_MAX);
    publish(&mut lab, [40; 1500]);
    let sends = sends(&mut lab);
    assert!(sends.len() >= 2, "{sends:?}");
    assert!(sends.iter().all(|lens| lens.len() == 1));
}

/// Goal: a record beyond the packet limit (D-14) goes alone, since it travels in fragments, and
/// those behind it share a send; a packet is not cut short for one before it.
#[test]
fn d_14_segments_leave_long_records_alone() {
    let mut lab = aligned(|_| {});
    publish(&mut lab, [4000, 4000].into_iter().chain([40; 200]));
    let sends = sends(&mut lab);
    assert_eq!([sends[0].len(), sends[1].len()], [1, 1]);
    assert!(sends[0][0] > LIMIT && sends[2].len() > 5, "{sends:?}");
    let mut lab = aligned(|_| {});
    publish(&mut lab, [700, 1000].into_iter().chain([40; 200]));
    let sends = self::sends(&mut lab);
    let (first, rest) = (&sends[0], &sends[1..]);
    assert_eq!(
        first.len(),
        1,
        "1,000 octets do not fit behind 700: {sends:?}"
    );
    assert!(
        rest.iter()
            .flatten()
            .all(|len| *len > 1300 || *len == *rest.last().unwrap().last().unwrap())
    );
}

/// Goal: two neighbours with the same to get get sends of their own.
#[test]
fn segments_do_not_mix_receivers() {
    let mut lab = Lab::with(&[9, 1], |setup| setup.shards = 1);
    for dcs in [D0, D1] {
        lab.align(dcs);
    }
    lab.wait(secs(1));
    lab.hub.sends.clear();
    publish(&mut lab, [40; 300]);
    let to = |dcs: DcsIndex| {
        let sends = lab.hub.sends.iter();
        let lens = sends.filter(|(to, _)| *to == Destination::Dcs(dcs));
        lens.map(|(_, lens)| lens.clone()).collect::<Vec<_>>()
    };
    assert_eq!(to(D0).len(), 1);
    assert_eq!(to(D0), to(D1));
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 64,
        ..ProptestConfig::default()
    })]

    /// Goal: records of any sizes are each sent once and in order, and only the last packet of a
    /// send may have left out a record that its limit allowed.
    #[test]
    fn segments_lose_nothing(
        sizes in proptest::collection::vec((1_usize..20, prop_oneof![Just(40_usize), 0_usize..200, 0_usize..1600]), 1..20),
        limit in prop_oneof![Just(LIMIT), 200_usize..3000],
        max_records in prop_oneof![Just(0_u16), 1_u16..5],
    ) {
        let mut lab = aligned(|setup| {
            setup.dcs[0].packet_limit = limit;
            setup.dcs[0].max_records = max_records;
        });
        let lens: Vec<usize> = sizes.iter().flat_map(|(count, len)| vec![*len; *count]).collect();
        publish(&mut lab, lens.iter().copied());
        let sends = sends(&mut lab);
        let packets: Vec<Vec<Rec>> = lab.sent(D0).into_iter().map(|msg| match msg {
            Msg::Request(recs) => recs,
            other => panic!("{other:?}"),
        }).collect();
        let in_order = packets.iter().flatten().map(|rec| rec.body.len());
        let sent: Vec<usize> = in_order.collect();
        prop_assert_eq!(&sent[..], &lens[..sent.len()]);
        prop_assert!(sent.len() == lens.len() || lens.iter().sum::<usize>() > 64 * 1024);
        let mut at = 0;
        for send in &sends {
            for (place, len) in send.iter().enumerate() {
                let next = packets.get(at + 1).and_then(|recs| recs.first());
                let recs = &packets[at];
                at += 1;
                let Some(next) = next.filter(|_| place + 1 < send.len()) else {
                    continue;
                };
                let full = recs.len() == usize::from(max_records);
                let next_len = 12 + 4 + 4 + next.body.len();
                prop_assert!(full || len + next_len > limit, "{} {} {}", len, next_len, limit);
            }
        }
        prop_assert_eq!(at, packets.len());
    }
}
