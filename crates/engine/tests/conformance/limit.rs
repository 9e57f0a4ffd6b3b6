//! A limit on memory (CSU-04): what still works at it, and how a group gets over it.

use scsp_engine::message::Abnormal;
use scsp_engine::shard::{Condition, Life, Outcome, Refusal};
use scsp_engine::{DcsIndex, alignment};

use crate::kv::{earlier_value, tombstone, value};
use crate::script::{LSID, Lab, Msg, ca, hello, rec, records, replies, sum};
use crate::support::{D0, D1, Hub, I0, World, id, instance, secs};

/// Octets that each shard may use.
const LIMIT: usize = 64 * 1024;

fn limit(hub: &mut Hub, octets: usize) {
    for shard in &mut hub.shards {
        shard.limit_memory(octets);
    }
}

fn used(hub: &Hub) -> usize {
    let used = hub.shards.iter().map(|shard| shard.bytes(I0));
    used.max().unwrap()
}

/// A kv hub with one Aligned neighbour, full of its records; their number.
fn full() -> (Lab, u32) {
    let mut lab = Lab::with(&[9], |setup| {
        setup.instances[0] = instance();
        setup.instances[0].purge_retention = secs(20);
        setup.shards = 1;
    });
    limit(&mut lab.hub, LIMIT);
    lab.align(D0);
    let mut stored = 0_u32;
    for len in [100, 0] {
        loop {
            let key = stored.to_be_bytes();
            let record = rec(&key, 9, 1, 3, &value(1, None, &vec![7; len]));
            let acknowledged = replies(&lab.flood(D0, &[record]));
            if acknowledged.is_empty() {
                break;
            }
            assert_eq!(acknowledged, [sum(&key, 9, 1)]);
            stored += 1;
        }
    }
    (lab, stored)
}

fn set(lab: &mut Lab, key: &[u8], value: &[u8], life: Life) -> Result<bool, Refusal> {
    let now = lab.now();
    let home = lab.hub.home(key);
    let done = home.kv_set(now, I0, key, value, life, Condition::Always);
    lab.collect();
    done
}

/// Goal: at the limit a received record is neither stored nor acknowledged nor passed on, and counts
/// as rejected; an own write is refused; what takes no more than before, and what withdraws a key
/// that is here, is taken in; the limit is that of what is in use.
#[test]
fn csu_04_at_the_limit_of_memory() {
    let (mut lab, stored) = full();
    assert!(stored > 300, "{stored} records of 160 octets");
    let overshoot = used(&lab.hub).saturating_sub(LIMIT);
    assert!(overshoot < 4096, "{overshoot} octets of a table's growth");
    let outcome =
        |lab: &Lab, outcome: Outcome| lab.hub.shards[0].counters(I0).received[outcome as usize];
    assert_eq!(outcome(&lab, Outcome::Rejected), 2);
    assert_eq!(lab.hub.entries().len(), usize::try_from(stored).unwrap());

    let refused = set(&mut lab, b"own", &[7; 100], Life::Forever);
    assert_eq!(refused, Err(Refusal::Full));
    assert_eq!(lab.hub.entries().len(), usize::try_from(stored).unwrap());
    let longer = value(2, None, &[7; 200]);
    let shorter = value(2, None, &[7; 90]);
    let [a, b, c] = [0_u32, 1, 2].map(u32::to_be_bytes);
    let unknown = rec(b"nobody's", 3, 1, 3, &tombstone(3));
    assert_eq!(lab.flood(D0, &[unknown]), []);
    let sent = lab.flood(
        D0,
        &[
            rec(&a, 9, 2, 3, &longer),
            rec(&b, 9, 2, 3, &shorter),
            rec(&c, 9, 2, 3, &tombstone(2)),
            rec(&a, 3, 1, 3, &tombstone(3)),
        ],
    );
    let mut expected = [sum(&a, 3, 1), sum(&b, 9, 2), sum(&c, 9, 2)];
    expected.sort_by_key(|sum| sum.key.clone());
    assert_eq!(replies(&sent), expected);
    for (key, lives) in [(a, false), (b, true), (c, false)] {
        assert_eq!(lab.hub.get(lab.now(), &key).is_some(), lives);
    }
}

/// Goal: at the limit clients can delete, also what others wrote, shorten, and give a life to what
/// they wrote; once enough is gone for good they write again.
#[test]
fn csu_04_deleting_makes_room() {
    let (mut lab, stored) = full();
    for n in 0..stored {
        let now = lab.now();
        assert!(lab.hub.del(now, &n.to_be_bytes()), "DEL {n}");
        lab.collect();
    }
    assert!(
        used(&lab.hub) > LIMIT,
        "a tombstone of our own beside each record"
    );
    let refused = set(&mut lab, b"own", b"v", Life::Forever);
    assert_eq!(refused, Err(Refusal::Full));
    let acks: Vec<_> = records(&lab.sent(D0))
        .into_iter()
        .map(|it| it.sum)
        .collect();
    lab.send(D0, &Msg::Reply(acks));
    for _ in 0..40 {
        // The window opens as they are acknowledged.
        let acks: Vec<_> = records(&lab.sent(D0))
            .into_iter()
            .map(|it| it.sum)
            .collect();
        lab.send(D0, &Msg::Reply(acks));
        lab.wait(secs(1));
    }
    assert_eq!(lab.hub.entries(), [], "the retention is over");
    assert!(used(&lab.hub) < LIMIT / 2, "{} octets", used(&lab.hub));
    for n in 0..100_u32 {
        set(&mut lab, &n.to_be_bytes(), &[7; 100], Life::Forever).unwrap();
    }

    // Own values at the limit.
    let mut lab = Lab::with(&[], |setup| {
        setup.instances[0] = instance();
        setup.shards = 1;
    });
    limit(&mut lab.hub, LIMIT);
    lab.wait(secs(1));
    let mut n = 0_u32;
    while set(&mut lab, &n.to_be_bytes(), &[7; 100], Life::Forever).is_ok() {
        n += 1;
    }
    let now = lab.now();
    let key = 5_u32.to_be_bytes();
    let home = lab.hub.home(&key);
    assert_eq!(home.kv_expire(now, I0, &key, Some(secs(9))), Ok(true));
    assert_eq!(home.kv_expire(now, I0, &key, None), Ok(true));
    assert_eq!(set(&mut lab, &key, &[7; 100], Life::Forever), Ok(true));
    assert_eq!(set(&mut lab, &key, &[7; 10], Life::Forever), Ok(true));
    assert_eq!(
        set(&mut lab, &key, &[7; 1000], Life::Forever),
        Err(Refusal::Full)
    );
    assert_eq!(lab.hub.get(now, &key).unwrap(), [7; 10]);
}

/// Two hubs, the second of which may use so many octets in its one shard.
fn pair(octets: usize) -> World {
    let mut world = World::line_of(&[2, 1], |_, mut setup| {
        setup.instances[0].purge_retention = secs(15);
        setup
    });
    limit(&mut world.hubs[1], octets);
    world.align();
    world
}

/// How often one of the two gave up: the first waits for acknowledgements (CSU-06), the second for
/// what did not come since the first one's window is full (D-13).
fn resets(world: &World) -> u64 {
    let causes = [Abnormal::CsuRetransmit, Abnormal::CsusRetransmit];
    let slots = (0..).zip(Abnormal::ALL);
    let slots = slots.filter(|(_, cause)| causes.contains(cause));
    slots
        .flat_map(|(slot, _)| {
            world
                .hubs
                .iter()
                .map(move |hub| hub.peer(D0).abnormal[slot])
        })
        .sum()
}

/// Goal: a neighbour without room is reset and met again for as long as that lasts, at the pace of
/// the protocol's timers, and what fits goes on arriving; once there is room, the two hold the same
/// and stay Aligned without anybody's help.
#[test]
fn csu_04_a_full_neighbour_recovers_by_itself() {
    let mut world = pair(LIMIT);
    let count = 1500_u32;
    let now = world.now();
    for n in 0..count {
        world.hubs[0].set(now, &n.to_be_bytes(), &[7; 100]);
    }
    world.run(secs(60));
    let held = world.hubs[1].entries().len();
    assert!(held > 300 && held < 1000, "{held}");
    assert!(used(&world.hubs[1]) < LIMIT + 4096);
    assert!((3..=15).contains(&resets(&world)), "{}", resets(&world));
    let packets = |world: &World| {
        let shards = world.hubs.iter().flat_map(|hub| &hub.shards);
        shards.flat_map(|shard| shard.packets().sent).sum::<u64>()
    };
    let before = packets(&world);
    world.run(secs(60));
    let rate = (packets(&world) - before) / 60;
    assert!(
        rate < 500,
        "{rate} packets a second for 1,000 records without room"
    );

    // The second hub still serves and passes on what it can.
    let now = world.now();
    let key = world.hubs[1].entries()[0].key.clone();
    assert!(world.hubs[1].del(now, &key));
    assert!(world.run_until(secs(60), |world| {
        let now = world.now();
        world.hubs[0].get(now, &key).is_none()
    }));

    // What makes room are deletes, of any key, at the first hub.
    let now = world.now();
    for n in 0..count - 200 {
        world.hubs[0].del(now, &n.to_be_bytes());
    }
    let recovered =
        |world: &World| world.is_aligned() && world.hubs[0].entries() == world.hubs[1].entries();
    assert!(
        world.run_until(secs(600), recovered),
        "{} and {} entries, {:?}",
        world.hubs[0].entries().len(),
        world.hubs[1].entries().len(),
        world.states()
    );
    let resets_then = resets(&world);
    world.run(secs(120));
    world.assert_equal();
    assert!(world.hubs[0].entries().len() >= 199);
    assert_eq!(resets(&world), resets_then, "it stays Aligned");
    assert!(world.is_aligned());
}

/// Goal: the same where the room comes from a higher limit, as a restart brings it, and the hub was
/// full before it met its neighbour.
#[test]
fn csu_04_more_memory_is_enough() {
    let mut world = World::line(&[1, 1]);
    limit(&mut world.hubs[1], LIMIT);
    world.cut.insert(0);
    world.run(secs(30));
    let now = world.now();
    for n in 0..1000_u32 {
        world.hubs[0].set(now, &n.to_be_bytes(), &[7; 100]);
    }
    world.cut.clear();
    world.run(secs(60));
    assert!(world.hubs[1].entries().len() < 1000);
    limit(&mut world.hubs[1], 10 * LIMIT);
    let recovered = |world: &World| {
        let peer = world.hubs[1].peer(DcsIndex(0));
        peer.alignment == alignment::State::Aligned && world.hubs[1].entries().len() == 1000
    };
    assert!(world.run_until(secs(60), recovered));
    world.run(secs(30));
    world.assert_equal();
    assert!(world.is_aligned());
}

/// Goal: a record that was asked for and found no room is still one that was asked for when it comes
/// again and does: it travels on, or a healed partition would not converge beyond this server.
#[test]
fn d_06_solicited_news_travel_on_once_there_is_room() {
    let mut lab = Lab::with(&[9, 1], |setup| {
        setup.instances[0].hop_count = 6;
        setup.shards = 1;
    });
    lab.align(D1);
    lab.exchange(D0, &[sum(b"asked", 3, 5)]);
    limit(&mut lab.hub, 0);
    let asked = rec(b"asked", 3, 5, 1, b"body");
    assert_eq!(replies(&lab.flood(D0, std::slice::from_ref(&asked))), []);
    assert_eq!(lab.sent(D1), []);
    limit(&mut lab.hub, usize::MAX);
    assert_eq!(replies(&lab.flood(D0, &[asked])), [sum(b"asked", 3, 5)]);
    assert_eq!(records(&lab.sent(D1)), [rec(b"asked", 3, 5, 6, b"body")]);
}

/// Goal: an own record of an earlier run that finds no room still says which sequences are used:
/// the next change goes above it.
#[test]
fn csu_20_own_records_without_room_are_not_forgotten() {
    let mut lab = Lab::with(&[9, 1], |setup| {
        setup.instances[0] = instance();
        setup.shards = 1;
    });
    lab.exchange(D0, &[sum(b"k", LSID, 5000)]);
    limit(&mut lab.hub, 0);
    let earlier = rec(b"k", LSID, 5000, 1, &earlier_value(2, b"earlier"));
    assert_eq!(replies(&lab.flood(D0, &[earlier])), []);
    limit(&mut lab.hub, usize::MAX);
    assert_eq!(set(&mut lab, b"k", b"now", Life::Forever), Ok(true));
    assert_eq!(lab.entry(b"k", LSID).unwrap().0, 5001);
}

/// Goal: what expires during an exchange is summarized before it makes room: the neighbour would
/// keep what it replaced, since its own summary of that may have been no news.
#[test]
fn ca_17_expired_entries_are_summarized_before_they_make_room() {
    let mut lab = Lab::with(&[1, 9], |setup| {
        setup.instances[0] = instance();
        setup.shards = 1;
    });
    lab.align(D0);
    let long = |n: u8| [&[n][..], &[0; 250]].concat();
    for n in 0..200 {
        lab.flood(D0, &[rec(&long(n), 1, 1, 3, &value(1, None, b"v"))]);
    }
    set(&mut lab, b"mortal", b"v", Life::For(secs(5))).unwrap();
    lab.sent(D0);
    let octets = used(&lab.hub);
    limit(&mut lab.hub, octets);
    let refused = rec(&long(200), 1, 1, 3, &value(1, None, &[7; 1000]));
    assert_eq!(lab.flood(D0, &[refused]), [], "there is no room");

    // The exchange begins, and the first page is all that was asked for.
    let (them, us) = (id(9), id(LSID));
    let now = lab.now();
    let opening = [
        (hello(&[LSID]), &[(1, 0), (0, 1)][..]),
        (ca(900, "MIO", &[]), &[(1, 0)]),
    ];
    for (msg, paths) in opening {
        let bytes = msg.build(&lab.hub.setup, D1, them.as_bytes(), us.as_bytes());
        lab.hub.receive_at(now, 0, D1, &bytes);
        for path in paths {
            lab.hub.collect_notes();
            while lab.hub.deliver(now, *path) {}
        }
    }
    for wait in [5, 7] {
        lab.since_start += secs(wait);
        let now = lab.now();
        lab.hub.shards[0].handle_timeouts(now);
    }
    lab.collect();
    let mut summarized = Vec::new();
    for seq in 901.. {
        let sent = lab.sent(D1);
        let Some(Msg::Ca(_, flags, sums)) = sent.into_iter().find(|msg| matches!(msg, Msg::Ca(..)))
        else {
            panic!("every CA is answered");
        };
        summarized.extend(sums.into_iter().map(|sum| sum.key));
        if !flags.contains('O') {
            break;
        }
        lab.send(D1, &ca(seq, "M", &[]));
    }
    assert!(summarized.contains(&b"mortal".to_vec()));
}
