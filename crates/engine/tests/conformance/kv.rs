//! Record bodies of the kv protocol (KV).

use scsp_engine::shard::{Condition, Life, RecordView, Refusal};
use scsp_profile::{KvBody, KvKind, Stamp};
use scsp_wire::{CsaSeq, ServerId};

use crate::script::{LSID, Lab, Msg, Rec, ca, hello, rec, records, sum};
use crate::support::{D0, D1, I0, START_UNIX_MS, World, at, id, millis, secs};

/// A body with a stamp so many milliseconds after the start.
pub(crate) fn value(stamp_ms: u64, life_ms: Option<u32>, value: &[u8]) -> Vec<u8> {
    body(KvKind::Value, START_UNIX_MS + stamp_ms, life_ms, value)
}

/// A body with a stamp so many milliseconds before the start.
pub(crate) fn earlier_value(before_ms: u64, value: &[u8]) -> Vec<u8> {
    body(KvKind::Value, START_UNIX_MS - before_ms, None, value)
}

pub(crate) fn tombstone(stamp_ms: u64) -> Vec<u8> {
    body(KvKind::Tombstone, START_UNIX_MS + stamp_ms, None, &[])
}

fn body(kind: KvKind, unix_ms: u64, life_ms: Option<u32>, value: &[u8]) -> Vec<u8> {
    let stamp = Stamp::new(unix_ms, 0);
    let body = KvBody {
        kind,
        life_ms,
        stamp,
        value,
    };
    let mut bytes = vec![0; body.encoded_len()];
    body.encode(&mut bytes);
    bytes
}

fn aligned() -> Lab {
    let mut lab = Lab::kv(&[9, 1]);
    lab.align(D0);
    lab.align(D1);
    lab
}

fn get(lab: &Lab, key: &[u8]) -> Option<Vec<u8>> {
    lab.hub.get(lab.now(), key)
}

fn body_of(rec: &Rec) -> KvBody<'_> {
    KvBody::parse(&rec.body).unwrap()
}

fn live_keys(lab: &Lab) -> u64 {
    lab.hub
        .shards
        .iter()
        .map(|shard| shard.kv_len(I0).unwrap())
        .sum()
}

/// Goal: of several originators' values the one with the largest (timestamp, originator) is read,
/// in whatever order they come.
#[test]
fn k_01_largest_stamp_and_originator_wins() {
    let recs = [
        rec(b"k", 1, 9, 1, &value(50, None, b"old")),
        rec(b"k", 2, 1, 1, &value(70, None, b"late, small id")),
        rec(b"k", 9, 1, 1, &value(70, None, b"late, large id")),
        rec(b"k", 4, 5, 1, &value(60, None, b"middle")),
    ];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
        let mut lab = aligned();
        for index in order {
            lab.flood(D0, &[recs[index].clone()]);
        }
        assert_eq!(get(&lab, b"k").unwrap(), b"late, large id");
        assert_eq!(live_keys(&lab), 1);
    }
}

/// Goal: a delete leaves a tombstone that beats every earlier write, goes to the neighbours, and
/// goes away after the retention time.
#[test]
fn k_02_tombstone_beats_earlier_writes() {
    let mut lab = aligned();
    lab.flood(D0, &[rec(b"k", 9, 1, 1, &value(50, None, b"theirs"))]);
    let now = lab.now();
    assert!(lab.hub.del(now, b"k"));
    assert!(!lab.hub.del(now, b"k"), "gone already");
    lab.collect();
    let sent = records(&lab.sent(D1));
    assert_eq!(body_of(&sent[0]).kind, KvKind::Tombstone);
    assert_eq!((get(&lab, b"k"), live_keys(&lab)), (None, 0));
    // An earlier write that comes late changes nothing.
    lab.flood(D0, &[rec(b"k", 3, 1, 1, &value(0, None, b"earlier"))]);
    assert_eq!(get(&lab, b"k"), None);
    for dcs in [D0, D1] {
        lab.send(
            dcs,
            &Msg::Reply(sent.iter().map(|rec| rec.sum.clone()).collect()),
        );
    }
    lab.wait(secs(3599));
    assert_eq!(lab.hub.entries().len(), 3);
    lab.wait(secs(2));
    assert_eq!(
        (lab.hub.entries().len(), get(&lab, b"k")),
        (0, None),
        "K-04: all of the key"
    );
}

/// Goal: a tombstone outlives its retention for as long as a neighbour has not acknowledged it.
#[test]
fn k_02_tombstone_waits_for_acknowledgements() {
    let mut lab = Lab::with(&[9], |setup| {
        setup.instances[0] = crate::support::instance();
        setup.instances[0].purge_retention = secs(2);
        setup.instances[0].csu_retransmit_max = 100;
    });
    lab.align(D0);
    let now = lab.now();
    lab.hub.set(now, b"k", b"v");
    lab.hub.del(now, b"k");
    lab.collect();
    let sent = records(&lab.sent(D0));
    lab.wait(secs(30));
    assert_eq!(lab.hub.entries().len(), 1);
    lab.send(D0, &Msg::Reply(vec![sent[0].sum.clone()]));
    lab.wait(secs(2));
    assert_eq!(lab.hub.entries().len(), 0);
}

/// Goal: a value is not served from the end of its life on, and what leaves carries what remains.
#[test]
fn k_03_life_shrinks_and_ends() {
    let mut lab = aligned();
    lab.flood(D0, &[rec(b"k", 9, 1, 4, &value(0, Some(5000), b"v"))]);
    assert_eq!(body_of(&records(&lab.sent(D1))[0]).life_ms, Some(5000));
    // A resend, and the answer to a CSUS.
    lab.wait(millis(1500));
    assert_eq!(body_of(&records(&lab.sent(D1))[0]).life_ms, Some(4000));
    lab.send(D0, &Msg::Csus(vec![crate::script::sum(b"k", 9, 1)]));
    assert_eq!(body_of(&records(&lab.sent(D0))[0]).life_ms, Some(3500));
    lab.wait(millis(3499));
    assert_eq!(get(&lab, b"k").unwrap(), b"v");
    // Even before its timer runs.
    lab.since_start += millis(1);
    assert_eq!(get(&lab, b"k"), None);
    let mut seen = 0;
    let now = lab.now();
    let shard = lab.hub.home(b"k");
    shard.records(now, I0, b"k", false, |_| seen += 1).unwrap();
    shard.kv_scan(now, I0, 0, 10, |_| seen += 1).unwrap();
    assert_eq!(seen, 0);
    lab.wait(millis(5));
    assert_eq!(live_keys(&lab), 0);
    lab.wait(secs(20));
    assert_eq!(lab.hub.entries().len(), 0);
}

/// Goal: a value that ends before a neighbour has acknowledged it does not leave there what it
/// replaced: its record goes on being sent, without life.
#[test]
fn k_03_replaced_value_does_not_outlive_its_successor() {
    let mut lab = aligned();
    let now = lab.now();
    lab.hub.set(now, b"k", b"lasting");
    lab.collect();
    let sent = records(&lab.sent(D0));
    lab.send(D0, &Msg::Reply(vec![sent[0].sum.clone()]));
    let short = Life::For(millis(100));
    lab.hub
        .home(b"k")
        .kv_set(now, I0, b"k", b"short", short, Condition::Always)
        .unwrap();
    lab.collect();
    lab.sent(D0);
    lab.wait(secs(1));
    assert_eq!(get(&lab, b"k"), None);
    let sent = records(&lab.sent(D0));
    assert_eq!(
        (body_of(&sent[0]).value, body_of(&sent[0]).life_ms),
        (&b"short"[..], Some(0))
    );
}

/// Goal: when the winner of a key expires, everything smaller goes with it, on each server by
/// itself; what arrives shortly after does not show either.
#[test]
fn k_04_nothing_older_shows_through() {
    let mut lab = aligned();
    lab.flood(D0, &[rec(b"k", 9, 1, 1, &value(10, None, b"older"))]);
    lab.flood(D0, &[rec(b"k", 1, 1, 1, &value(20, Some(1000), b"winner"))]);
    lab.flood(D0, &[rec(b"k", 3, 1, 1, &value(30, Some(1), b"short"))]);
    lab.wait(secs(1));
    lab.flood(D0, &[rec(b"k", 4, 1, 1, &value(5, None, b"late"))]);
    assert_eq!((get(&lab, b"k"), live_keys(&lab)), (None, 0));
    lab.wait(secs(20));
    assert_eq!(lab.hub.entries(), []);
    // What is newer than the one that goes, stays.
    lab.flood(D0, &[rec(b"k", 9, 2, 1, &value(90, None, b"newest"))]);
    lab.flood(
        D0,
        &[rec(b"k", 1, 2, 1, &value(80, Some(1000), b"shorter"))],
    );
    lab.wait(secs(20));
    assert_eq!(get(&lab, b"k").unwrap(), b"newest");
    assert_eq!(lab.hub.entries().len(), 1);
}

/// Goal: what expires while a neighbour is in an exchange is kept for it as long as the exchange
/// goes on, however long that takes, and let go when it comes to a standstill.
#[test]
fn k_04_expiry_waits_for_a_long_exchange() {
    let mut lab = Lab::kv(&[9, 1]);
    lab.align(D1);
    lab.open(D0);
    lab.send(D0, &ca(900, "MIO", &[]));
    let now = lab.now();
    let home = lab.hub.home(b"k");
    let life = Life::For(secs(1));
    let set = home.kv_set(now, I0, b"k", b"short", life, Condition::Always);
    assert_eq!(set, Ok(true));
    lab.collect();
    let mut seq = 900;
    let mut pass = |lab: &mut Lab, goes_on: bool| {
        for _ in 0..50 {
            for dcs in [D0, D1] {
                lab.send(dcs, &hello(&[LSID]));
            }
            let own = records(&lab.sent(D1));
            let acks = own.iter().map(|rec| rec.sum.clone()).collect();
            lab.send(D1, &Msg::Reply(acks));
            if goes_on {
                seq += 1;
                lab.send(D0, &ca(seq, "MO", &[sum(&seq.to_be_bytes(), 9, 1)]));
            }
            lab.wait(secs(2));
        }
    };
    pass(&mut lab, true);
    assert!(lab.entry(b"k", LSID).is_some());
    pass(&mut lab, false);
    assert_eq!(lab.entry(b"k", LSID), None);
}

/// Goal: a write after everything seen wins, even over a neighbour whose clock is an hour ahead;
/// how far ahead is known.
#[test]
fn k_05_later_write_wins_over_a_clock_ahead() {
    let mut lab = aligned();
    lab.flood(D0, &[rec(b"k", 9, 1, 1, &value(3_600_000, None, b"ahead"))]);
    let now = lab.now();
    lab.hub.set(now, b"k", b"later");
    assert_eq!(get(&lab, b"k").unwrap(), b"later");
    assert_eq!(lab.hub.home(b"k").skew_ms(D0), 3_600_000);
    assert!(lab.hub.del(now, b"k"));
    assert_eq!(get(&lab, b"k"), None);
    lab.hub.set(now, b"k", b"again");
    assert_eq!(get(&lab, b"k").unwrap(), b"again");
}

/// Goal: how old a flooded record was when it came is told once; of one that was asked for, or that
/// says nothing of its age, it is not, and what its stamp has ahead of the own clock counts as none.
#[test]
fn k_05_age_of_flooded_records_is_told() {
    let samples = |lab: &mut Lab| {
        let shards = lab.hub.shards.iter_mut();
        let taken = shards.filter_map(|shard| shard.take_samples(I0).1);
        taken.collect::<Vec<_>>()
    };
    let mut lab = Lab::kv(&[9]);
    lab.wait(secs(1));
    lab.exchange(D0, &[sum(b"asked", 9, 1)]);
    lab.flood(D0, &[rec(b"asked", 9, 1, 1, &value(0, None, b"v"))]);
    assert_eq!(samples(&mut lab), []);
    lab.flood(D0, &[rec(b"k", 9, 1, 3, &value(250, None, b"v"))]);
    assert_eq!(samples(&mut lab), [millis(750)]);
    assert_eq!(samples(&mut lab), []);
    lab.flood(D0, &[rec(b"k", 9, 2, 3, &value(5000, None, b"v"))]);
    assert_eq!(samples(&mut lab), [millis(0)]);
    // The clock of a neighbour shows in what it made itself, not in what it passes on.
    assert_eq!(lab.hub.home(b"k").skew_ms(D0), 4000);
    lab.flood(D0, &[rec(b"k", 3, 1, 3, &value(0, None, b"v"))]);
    assert_eq!(lab.hub.home(b"k").skew_ms(D0), 4000);
    assert_eq!(samples(&mut lab), [millis(1000)]);
    // A purge ends the numbers of an entry, it is no write.
    let purge = CsaSeq::PURGE.get();
    lab.flood(D0, &[rec(b"k", 9, purge, 3, &value(100, None, b"v"))]);
    assert_eq!(samples(&mut lab), []);
    assert_eq!(lab.hub.home(b"k").skew_ms(D0), 4000);
    let mut lab = Lab::new(&[9]);
    lab.align(D0);
    lab.flood(D0, &[rec(b"k", 9, 1, 3, b"opaque")]);
    assert_eq!(samples(&mut lab), []);
}

/// Goal: conditions, lives and limits of client writes.
#[test]
fn k_01_client_writes() {
    let mut lab = Lab::kv(&[]);
    let now = lab.now();
    let max = lab.hub.shards[0].body_len_max(I0, 1) - 16;
    let shard = lab.hub.home(b"k");
    let mut set =
        |value: &[u8], life, condition| shard.kv_set(now, I0, b"k", value, life, condition);
    assert_eq!(set(b"1", Life::Forever, Condition::Present), Ok(false));
    assert_eq!(set(b"1", Life::For(secs(10)), Condition::Absent), Ok(true));
    assert_eq!(set(b"2", Life::Keep, Condition::Absent), Ok(false));
    assert_eq!(set(b"2", Life::Keep, Condition::Present), Ok(true));
    assert_eq!(
        set(&vec![0; max + 1], Life::Keep, Condition::Always),
        Err(Refusal::TooLarge { len: max + 1, max })
    );
    assert!(matches!(
        set(b"", Life::For(secs(5_000_000)), Condition::Always),
        Err(Refusal::Life { .. })
    ));
    let value = shard.kv_get(now, I0, b"k").unwrap().unwrap();
    assert_eq!(
        (value.value, value.expires),
        (&b"2"[..], Some(at(secs(10)).time))
    );
    assert_eq!(shard.kv_expire(now, I0, b"k", None), Ok(true));
    assert_eq!(shard.kv_get(now, I0, b"k").unwrap().unwrap().expires, None);
    assert_eq!(shard.kv_expire(now, I0, b"k", Some(secs(1))), Ok(true));
    assert_eq!(
        shard.kv_set(now, I0, b"", b"", Life::Forever, Condition::Always),
        Err(Refusal::Key {
            len: 0,
            min: 1,
            max: 255
        })
    );
    assert_eq!(shard.kv_expire(now, I0, b"none", None), Ok(false));
    lab.wait(secs(2));
    assert_eq!(get(&lab, b"k"), None);
    // The largest value there is fits one datagram.
    let now = lab.now();
    let done = lab.hub.home(b"k").kv_set(
        now,
        I0,
        b"k",
        &vec![7; max],
        Life::Forever,
        Condition::Always,
    );
    assert_eq!((done, get(&lab, b"k").unwrap().len()), (Ok(true), max));
}

/// Goal: what clients see of records, with and without withdrawn ones.
#[test]
fn k_02_views_of_records() {
    let mut lab = Lab::kv(&[]);
    let now = lab.now();
    for n in 0..50_u8 {
        lab.hub.set(now, &[n], b"v");
    }
    for n in 0..10_u8 {
        assert!(lab.hub.del(now, &[n]));
    }
    for (all, count) in [(false, 40), (true, 50)] {
        let mut keys = std::collections::BTreeSet::new();
        for shard in &lab.hub.shards {
            let mut from = Some(0);
            while let Some(position) = from {
                let take = |view: RecordView<'_>| {
                    assert_eq!(view.withdrawn, view.key[0] < 10);
                    assert_eq!(view.originator, id(LSID).as_bytes());
                    assert!(keys.insert(view.key.to_vec()));
                };
                from = shard.scan(now, I0, position, 7, all, take).unwrap();
            }
        }
        assert_eq!(keys.len(), count);
    }
    assert_eq!(live_keys(&lab), 40);
}

/// Goal: a body that is malformed for kv is acknowledged, so that it is not resent for ever, and
/// neither stored nor passed on.
#[test]
fn k_01_malformed_bodies_are_rejected() {
    let mut lab = aligned();
    let mut empty_key = rec(b"", 9, 1, 4, &value(0, None, b"v"));
    empty_key.sum.originator = ServerId::from_bytes(&[10, 0, 0, 9]).unwrap();
    let bad = [
        rec(b"short", 9, 1, 4, b"short"),
        rec(
            b"kind",
            9,
            1,
            4,
            &[1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        empty_key,
    ];
    let sent = lab.flood(D0, &bad);
    assert_eq!(crate::script::replies(&sent).len(), 3);
    assert_eq!((lab.hub.entries(), lab.sent(D1)), (vec![], vec![]));
}

/// Goal: deletes, overwrites and expiry reach the far end of a line, both ways.
#[test]
fn k_02_a_line_of_three_agrees() {
    let mut world = World::line(&[2, 1, 3]);
    world.align();
    let now = world.now();
    for n in 0..60_u8 {
        let from = usize::from(n % 3);
        world.hubs[from].set(now, &[n], b"first");
    }
    world.run(secs(2));
    let now = world.now();
    for n in 0..60_u8 {
        let from = usize::from((n + 1) % 3);
        match n % 4 {
            0 => assert!(world.hubs[from].del(now, &[n])),
            1 => world.hubs[from].set(now, &[n], b"second"),
            2 => {
                let shard = world.hubs[from].home(&[n]);
                assert_eq!(shard.kv_expire(now, I0, &[n], Some(secs(3))), Ok(true));
            }
            _ => {}
        }
    }
    world.run(secs(20));
    let now = world.now();
    for n in 0..60_u8 {
        let expected = match n % 4 {
            1 => Some(b"second".to_vec()),
            3 => Some(b"first".to_vec()),
            _ => None,
        };
        for hub in &world.hubs {
            assert_eq!(hub.get(now, &[n]), expected, "{n}");
        }
    }
    let live: Vec<u64> = world
        .hubs
        .iter()
        .map(|hub| {
            hub.shards
                .iter()
                .map(|shard| shard.kv_len(I0).unwrap())
                .sum()
        })
        .collect();
    assert_eq!(live, [30, 30, 30]);
}

/// Goal: a record's life goes on while it waits for its shard, which has yet to hear of Update
/// Cache.
#[test]
fn k_03_life_shrinks_while_a_shard_is_behind() {
    let mut lab = Lab::kv(&[1]);
    let seq = lab.open(D0);
    lab.send(D0, &ca(seq, "", &[]));
    lab.sent(D0);
    let (them, us) = (id(1), id(LSID));
    let now = lab.now();
    let last = ca(seq + 1, "", &[]).build(&lab.hub.setup, D0, them.as_bytes(), us.as_bytes());
    lab.hub.receive_at(now, 0, D0, &last);
    lab.hub.collect_notes();
    while lab.hub.deliver(now, (1, 0)) {}
    lab.hub.collect_notes();
    while lab.hub.deliver(now, (0, 1)) {}
    let keys: Vec<[u8; 1]> = (0..20).map(|n| [n]).collect();
    let body = value(0, Some(60_000), b"v");
    let recs = keys.iter().map(|key| rec(key, 1, 1, 3, &body)).collect();
    let request = Msg::Request(recs).build(&lab.hub.setup, D0, them.as_bytes(), us.as_bytes());
    lab.hub.receive_at(now, 0, D0, &request);
    lab.hub.collect_notes();
    while lab.hub.deliver(now, (1, 2)) {}
    lab.since_start += secs(20);
    lab.collect();
    for key in &keys {
        let found = lab.hub.home_ref(key).kv_get(lab.now(), I0, key).unwrap();
        let left = found.unwrap().expires.unwrap().since(lab.now().time);
        assert_eq!(left, secs(40), "{key:?}");
    }
}
