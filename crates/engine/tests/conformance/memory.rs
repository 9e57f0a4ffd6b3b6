//! What outlives a run, and what a server does by it (D-12, D-19, CSU-20).

use std::time::Duration;

use scsp_engine::shard::{KEPT_LEN_MAX, shard_of};
use scsp_engine::snapshot::{Kept, Memory, Part, Past, Restored, Walk};
use scsp_engine::{DcsIndex, InstanceIndex, Now};
use scsp_profile::{KvBody, Stamp};
use scsp_wire::CsaSeq;

use proptest::prelude::*;

use crate::kv::{earlier_value, tombstone, value};
use crate::script::{LSID, Lab, Msg, rec, records, replies, sum};
use crate::support::{D0, D1, Hub, I0, Row, id, instance, millis, opaque_instance, secs};

/// What a hub left behind.
#[derive(Debug)]
struct Legacy {
    taken: Now,
    entries: Vec<Vec<u8>>,
    past: Past,
}

/// Everything that is kept of the hub, in pieces of about `octets`.
fn export(hub: &Hub, now: Now, octets: usize) -> Legacy {
    let (mut entries, mut past) = (Vec::new(), None::<Past>);
    for shard in &hub.shards {
        let mut walk = Walk::default();
        loop {
            let mut piece = Vec::new();
            match shard.export(now, &mut walk, octets, &mut piece) {
                Part::Entries { count, .. } => {
                    assert!(piece.len() < octets + KEPT_LEN_MAX);
                    assert_eq!(unpack(&piece).count(), usize::try_from(count).unwrap());
                    entries.push(piece);
                }
                Part::Past { past: its, .. } => match &mut past {
                    Some(known) => known.merge(&its),
                    unknown => *unknown = Some(its),
                },
                Part::End => break,
            }
        }
    }
    Legacy {
        taken: now,
        entries,
        past: past.unwrap(),
    }
}

fn unpack(mut piece: &[u8]) -> impl Iterator<Item = Kept<'_>> {
    std::iter::from_fn(move || {
        let (kept, rest) = Kept::split_first(piece).ok()?;
        piece = rest;
        Some(kept)
    })
}

/// A hub that has just started takes over what an earlier one left.
fn inherit(hub: &mut Hub, now: Now, legacy: &Legacy, memory: Memory) {
    let elapsed = Duration::from_millis(now.unix_ms - legacy.taken.unix_ms);
    for kept in legacy.entries.iter().flat_map(|piece| unpack(piece)) {
        let home = hub.home(kept.record.summary.key);
        assert_eq!(home.restore(now, I0, elapsed, &kept), Restored::Taken);
    }
    let past = Past {
        memory,
        ..legacy.past.clone()
    };
    for shard in &mut hub.shards {
        shard.recall(I0, &past);
    }
}

/// How the earlier run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Graceful,
    Killed,
}

/// The hub of `lab`, ended, and started again with the same neighbours after `down`.
fn restart(lab: &Lab, down: Duration, end: End, kv: bool) -> Lab {
    let legacy = export(&lab.hub, lab.now(), 1000);
    let memory = match end {
        End::Graceful => legacy.past.memory,
        End::Killed => Memory::Partial,
    };
    let mut again = Lab::started_at(lab.since_start + down, &lab.peers, |setup| {
        setup.instances[0] = if kv { instance() } else { opaque_instance() };
        setup.shards = 3;
    });
    let now = again.now();
    inherit(&mut again.hub, now, &legacy, memory);
    again
}

fn recall(lab: &mut Lab, memory: Memory) {
    let past = Past {
        memory,
        ..Past::default()
    };
    for shard in &mut lab.hub.shards {
        shard.recall(I0, &past);
    }
}

/// Goal: of what came after the start, a kv server knows that it would still hold what it had not
/// withdrawn: an unknown own record stamped later is withdrawn above its sequence, one stamped
/// earlier is taken back, and so is one of a protocol without timestamps.
#[test]
fn d_12_memory_of_this_run_goes_by_the_timestamp() {
    let mut lab = Lab::kv(&[9, 1]);
    lab.align(D0);
    lab.align(D1);
    let sent = lab.flood(
        D0,
        &[
            rec(b"later", LSID, 70, 3, &value(1, None, b"v")),
            rec(b"earlier", LSID, 80, 3, &earlier_value(1, b"v")),
        ],
    );
    assert_eq!(
        replies(&sent),
        [sum(b"earlier", LSID, 80), sum(b"later", LSID, 70)]
    );
    let withdrawn = rec(b"later", LSID, 71, 16, &tombstone(1));
    assert_eq!(records(&sent), std::slice::from_ref(&withdrawn));
    assert_eq!(
        records(&lab.sent(D1)),
        [
            rec(b"earlier", LSID, 80, 16, &earlier_value(1, b"v")),
            withdrawn
        ]
    );
    assert_eq!(lab.hub.get(lab.now(), b"earlier").unwrap(), b"v");
    assert_eq!(lab.hub.get(lab.now(), b"later"), None);

    let mut lab = Lab::new(&[9]);
    lab.align(D0);
    lab.flood(D0, &[rec(b"k", LSID, 5, 3, b"body")]);
    assert_eq!(lab.entry(b"k", LSID), Some((5, b"body".to_vec())));
}

/// Goal: nothing is of this run before it may originate: a server whose clock was set back while it
/// was down takes back what its neighbours remember, although that is stamped later than the start.
#[test]
fn d_12_a_clock_set_back_loses_nothing_that_the_first_neighbour_remembers() {
    let mut lab = Lab::with(&[9, 1], |setup| {
        setup.instances[0] = instance();
        setup.shards = 1;
    });
    let remembered = value(3_600_000, None, b"written before the clock was set back");
    lab.exchange(D0, &[sum(b"k", LSID, 70)]);
    lab.flood(D0, &[rec(b"k", LSID, 70, 1, &remembered)]);
    assert_eq!(lab.entry(b"k", LSID), Some((70, remembered.clone())));
    // What this run writes is stamped later than that.
    let now = lab.now();
    lab.hub.set(now, b"other", b"v");
    let (_, body) = lab.entry(b"other", LSID).unwrap();
    let stamp = |body: &[u8]| KvBody::parse(body).unwrap().stamp;
    assert!(stamp(&body) > stamp(&remembered), "K-05");
    // A second neighbour's that is no later is an earlier run's as well.
    let second = value(3_599_000, None, b"written before that");
    lab.align(D1);
    lab.flood(D1, &[rec(b"second", LSID, 70, 3, &second)]);
    assert_eq!(lab.entry(b"second", LSID), Some((70, second)));
}

/// Goal: shows where the letter of D-12 loses a write: the clock was set back while the server was
/// down, and the only neighbour that remembers the write comes back after the release.
#[test]
fn d_12_a_clock_set_back_loses_what_only_a_late_neighbour_remembers() {
    let mut lab = Lab::kv(&[9, 1]);
    lab.align(D1);
    let remembered = value(3_600_000, None, b"written before the clock was set back");
    lab.exchange(D0, &[sum(b"k", LSID, 70)]);
    lab.flood(D0, &[rec(b"k", LSID, 70, 1, &remembered)]);
    assert_eq!(lab.hub.get(lab.now(), b"k"), None);
    // Where the last snapshot tells how far the clock was, nothing is lost.
    let mut lab = Lab::kv(&[9, 1]);
    let past = Past {
        clock: KvBody::parse(&remembered).unwrap().stamp,
        ..Past::default()
    };
    for shard in &mut lab.hub.shards {
        shard.recall(I0, &past);
    }
    lab.align(D1);
    lab.exchange(D0, &[sum(b"k", LSID, 70)]);
    lab.flood(D0, &[rec(b"k", LSID, 70, 1, &remembered)]);
    assert_eq!(lab.entry(b"k", LSID), Some((70, remembered)));
}

/// Goal: after a graceful stop memory is whole for every protocol: an unknown own record is
/// withdrawn in the protocol's own form, above what was forgotten too, and one newer than the copy
/// held is answered with the own state.
#[test]
fn d_12_whole_memory_withdraws_and_insists() {
    for kv in [false, true] {
        let mut lab = if kv { Lab::kv(&[9]) } else { Lab::new(&[9]) };
        recall(&mut lab, Memory::Never);
        lab.align(D0);
        lab.wait(secs(1));
        let now = lab.now();
        if kv {
            lab.hub.set(now, b"held", b"own");
        } else {
            lab.publish(b"held", b"own");
        }
        lab.collect();
        let (seq, own) = lab.entry(b"held", LSID).unwrap();
        assert_eq!(seq, CsaSeq::FIRST.get(), "D-19");

        let mut lab = restart(&lab, secs(100), End::Graceful, kv);
        lab.align(D0);
        lab.sent(D0);
        let stray = if kv {
            earlier_value(5000, b"v")
        } else {
            b"v".to_vec()
        };
        let sent = lab.flood(
            D0,
            &[
                rec(b"held", LSID, 90, 3, &stray),
                rec(b"stray", LSID, 70, 3, &stray),
            ],
        );
        assert_eq!(replies(&sent).len(), 2, "both are acknowledged");
        let flooded = records(&sent);
        assert_eq!(flooded[0], rec(b"held", LSID, 91, 16, &own));
        assert_eq!((flooded[1].sum.seq, lab.hub.entries().len()), (71, 2));
        let row = |key: &[u8]| {
            let rows = lab.hub.entries();
            rows.into_iter().find(|row| row.key == key).unwrap()
        };
        assert!(row(b"stray").withdrawn && !row(b"held").withdrawn);
        assert_eq!(flooded[1].body.is_empty(), !kv, "D-20");
    }
}

/// Goal: after a kill the snapshot is older than what neighbours may remember: theirs counts where
/// it is newer or unknown here.
#[test]
fn d_12_partial_memory_takes_back_what_is_newer() {
    for kv in [false, true] {
        let mut lab = if kv { Lab::kv(&[9]) } else { Lab::new(&[9]) };
        lab.align(D0);
        lab.wait(secs(1));
        let old = if kv {
            value(1000, None, b"old")
        } else {
            b"old".to_vec()
        };
        lab.flood(D0, &[rec(b"held", LSID, 70, 3, &earlier_or(&old, kv))]);
        let mut lab = restart(&lab, secs(100), End::Killed, kv);
        let new = if kv {
            value(2000, None, b"new")
        } else {
            b"new".to_vec()
        };
        lab.exchange(D0, &[sum(b"held", LSID, 75), sum(b"lost", LSID, 5)]);
        lab.flood(
            D0,
            &[
                rec(b"held", LSID, 75, 1, &new),
                rec(b"lost", LSID, 5, 1, &new),
            ],
        );
        assert_eq!(lab.entry(b"held", LSID), Some((75, new.clone())));
        assert_eq!(lab.entry(b"lost", LSID), Some((5, new)));
    }
}

/// A body of an earlier run of kv; opaque ones have no age.
fn earlier_or(body: &[u8], kv: bool) -> Vec<u8> {
    if kv {
        earlier_value(1000, b"old")
    } else {
        body.to_vec()
    }
}

/// Goal: a graceful stop does not make a memory whole that was not: a write of a run that was
/// killed, which only a neighbour holds that was away ever since, is not lost after two more runs.
#[test]
fn d_12_a_graceful_stop_does_not_mend_a_partial_memory() {
    let first = Lab::kv(&[9]);
    let lost = value(500, None, b"acknowledged, and in no snapshot");
    // The second run starts from a kill, and stops gracefully.
    let mut second = restart(&first, secs(10), End::Killed, true);
    second.wait(secs(30)); // D-09: nobody is there.
    let now = second.now();
    second.hub.set(now, b"own", b"v");
    let forgotten = second.entry(b"own", LSID).unwrap().1;
    let mut third = restart(&second, secs(10), End::Graceful, true);
    assert_eq!(third.entry(b"own", LSID).unwrap().1, forgotten);
    third.exchange(D0, &[sum(b"k", LSID, 70)]);
    let later = value(20_000, None, b"of the second run, and withdrawn in it");
    third.flood(
        D0,
        &[
            rec(b"k", LSID, 70, 1, &lost),
            rec(b"gone", LSID, 70, 3, &later),
        ],
    );
    assert_eq!(third.entry(b"k", LSID), Some((70, lost)));
    assert_eq!(third.hub.get(third.now(), b"gone"), None);
    assert_eq!(third.entry(b"gone", LSID).unwrap().0, 71);
}

/// Goal: a server that is told of its earlier records knows that it ran before the marks were kept:
/// its next graceful stop does not claim to remember that time.
#[test]
fn d_19_a_neighbour_may_know_better() {
    for told in [false, true] {
        let mut lab = Lab::new(&[9]);
        recall(&mut lab, Memory::Never);
        lab.align(D0);
        if told {
            lab.flood(D0, &[rec(b"k", LSID, 70, 3, b"body")]);
        }
        let past = export(&lab.hub, lab.now(), 1000).past;
        let everything = Memory::Whole { since: Stamp::ZERO };
        assert_eq!(past.memory == everything, !told);
    }
}

/// Goal: only a server that knows that it never ran before starts low; what comes after counts up
/// from there, and its hold is that of every other one.
#[test]
fn d_19_a_server_that_never_ran_starts_low() {
    let mut lab = Lab::new(&[9]);
    recall(&mut lab, Memory::Never);
    assert!(lab.hub.control.is_held(I0), "D-09");
    lab.align(D0);
    assert_eq!(lab.publish(b"own", b"body"), CsaSeq::FIRST.get());
    assert_eq!(lab.publish(b"own", b"body"), CsaSeq::FIRST.get() + 1);
    for end in [End::Graceful, End::Killed] {
        let mut again = restart(&lab, secs(1), end, false);
        again.align(D0);
        let next = CsaSeq::FIRST.get() + 1 + 1000;
        assert_eq!(again.publish(b"own", b"body"), next, "CSU-20");
        assert_eq!(again.publish(b"own", b"body"), next + 1);
        assert_eq!(again.publish(b"new", b"body"), 1000, "CSU-20");
    }
}

/// Goal: an own entry that was forgotten before the restart starts above what it had, as it would
/// have without one.
#[test]
fn csu_18_forgotten_sequences_outlive_the_run() {
    let mut lab = Lab::with(&[9], |setup| {
        setup.instances[0].purge_retention = secs(1);
    });
    lab.align(D0);
    let now = lab.now();
    let home = lab.hub.home(b"k");
    let high = CsaSeq::new(5000);
    home.publish(now, I0, b"k", b"body", high).unwrap();
    home.purge(now, I0, b"k").unwrap();
    lab.collect();
    let sent = records(&lab.sent(D0));
    lab.send(D0, &Msg::Reply(vec![sent[0].sum.clone()]));
    lab.wait(secs(30));
    assert_eq!(lab.hub.entries(), []);
    let mut again = restart(&lab, secs(1), End::Graceful, false);
    again.align(D0);
    assert_eq!(again.publish(b"k", b"body"), 5002);
}

/// Goal: remaining life and retention count the time the server was down, never grow where the
/// clock was set back meanwhile, and what ended shows nothing older.
#[test]
fn k_03_life_counts_the_time_down() {
    let mut lab = Lab::kv(&[]);
    lab.wait(secs(1));
    let now = lab.now();
    let home = lab.hub.home(b"k");
    let life = scsp_engine::shard::Life::For(secs(60));
    let always = scsp_engine::shard::Condition::Always;
    assert!(home.kv_set(now, I0, b"k", b"v", life, always).unwrap());
    lab.wait(secs(10));
    let left = |lab: &Lab| {
        let found = lab.hub.home_ref(b"k").kv_get(lab.now(), I0, b"k").unwrap();
        found.map(|found| found.expires.unwrap().since(lab.now().time))
    };
    for (down, expected) in [(0, Some(50)), (20, Some(30)), (49, Some(1)), (50, None)] {
        let mut again = restart(&lab, secs(down), End::Graceful, true);
        assert_eq!(left(&again), expected.map(secs), "{down} s down");
        again.wait(secs(60));
        assert_eq!(left(&again), None);
        again.wait(secs(4000));
        assert_eq!(again.hub.entries(), []);
    }
    // The age goes on too, as far as this test's clock reaches back.
    let again = restart(&lab, secs(5), End::Graceful, true);
    let mut age = None;
    let home = again.hub.home_ref(b"k");
    home.records(again.now(), I0, b"k", false, |it| age = Some(it.age))
        .unwrap();
    assert!(age.unwrap() >= secs(15) && age.unwrap() < secs(16));
}

/// Goal: a value that ended while the server was down takes what it had replaced with it.
#[test]
fn k_04_nothing_older_shows_through_after_a_restart() {
    let mut lab = Lab::kv(&[9]);
    lab.align(D0);
    let older = value(1, None, b"older");
    let newer = value(2, Some(1000), b"newer");
    lab.flood(
        D0,
        &[rec(b"k", 9, 1, 3, &older), rec(b"k", 1, 1, 3, &newer)],
    );
    let mut again = restart(&lab, secs(100), End::Killed, true);
    again.align(D0);
    assert_eq!(again.hub.get(again.now(), b"k"), None);
    again.wait(secs(4000));
    assert_eq!(again.hub.get(again.now(), b"k"), None);
    assert_eq!(again.hub.entries(), []);
}

/// Goal: the hybrid clock goes on from where it was, although the wall clock was set back.
#[test]
fn k_05_the_clock_outlives_the_run() {
    let mut lab = Lab::kv(&[9]);
    lab.align(D0);
    let ahead = value(3_600_000, None, b"of a clock that is ahead");
    lab.flood(D0, &[rec(b"k", 9, 1, 3, &ahead)]);
    let legacy = export(&lab.hub, lab.now(), 1000);
    let stamp = KvBody::parse(&ahead).unwrap().stamp;
    assert!(legacy.past.clock >= stamp);
    // Also where the record itself is gone.
    let mut again = Lab::kv(&[9]);
    for shard in &mut again.hub.shards {
        shard.recall(I0, &legacy.past);
    }
    again.align(D0);
    let now = again.now();
    again.hub.set(now, b"k", b"later");
    let (_, body) = again.entry(b"k", LSID).unwrap();
    assert!(KvBody::parse(&body).unwrap().stamp > stamp);
}

/// Goal: what is restored is nobody's news: it is summarized in the exchange, and not flooded.
#[test]
fn ca_17_restored_entries_are_summarized() {
    let mut lab = Lab::new(&[9, 1]);
    lab.align(D0);
    lab.align(D1);
    lab.flood(D0, &[rec(b"theirs", 9, 7, 3, b"body")]);
    lab.publish(b"own", b"body");
    let mut again = restart(&lab, secs(1), End::Graceful, false);
    let seq = again.open(D0);
    again.send(D0, &crate::script::ca(900, "MIO", &[]));
    assert!(seq > 0);
    let Some(Msg::Ca(_, _, sums)) = again.sent(D0).pop() else {
        panic!("no summaries")
    };
    let mut keys: Vec<_> = sums.iter().map(|sum| (&sum.key[..], sum.seq)).collect();
    keys.sort_unstable();
    assert_eq!(keys, [(&b"own"[..], 1000), (b"theirs", 7)]);
    assert_eq!(records(&again.sent(D1)), []);
}

/// Goal: a record that is malformed for the protocol, or that says it does not exist, is left out;
/// of a record that is there twice the newer one counts, in any order.
#[test]
fn d_19_restoring_checks_every_entry() {
    let keep = |hub: &Hub, now| export(hub, now, 1000).entries.concat();
    let mut lab = Lab::new(&[9]);
    lab.align(D0);
    let now = lab.now();
    lab.publish(b"k", b"one");
    let one = keep(&lab.hub, now);
    lab.publish(b"k", b"two");
    let two = keep(&lab.hub, now);
    let (one, two) = (
        Kept::split_first(&one).unwrap().0,
        Kept::split_first(&two).unwrap().0,
    );
    for (first, then) in [(one, two), (two, one)] {
        let mut again = Lab::new(&[9]);
        let home = again.hub.home(b"k");
        assert_eq!(home.restore(now, I0, secs(0), &first), Restored::Taken);
        let taken = home.restore(now, I0, secs(0), &then);
        assert_eq!(taken == Restored::Older, then == one);
        assert_eq!(again.entry(b"k", LSID), Some((1001, b"two".to_vec())));
    }
    let mut kv = Lab::kv(&[9]);
    let home = kv.hub.home(b"k");
    assert_eq!(home.restore(now, I0, secs(0), &one), Restored::Malformed);
}

/// Goal: a piece takes no more than it was asked for, however many numbers are free.
#[test]
fn d_19_pieces_are_bounded() {
    let mut lab = Lab::with(&[], |setup| {
        setup.shards = 1;
        setup.instances[0].purge_retention = millis(1);
    });
    let now = lab.now();
    for n in 0..30_000_u32 {
        let key = n.to_be_bytes();
        let home = lab.hub.home(&key);
        home.publish(now, I0, &key, b"body", None).unwrap();
        if n < 29_000 {
            home.purge(now, I0, &key).unwrap();
        }
    }
    lab.since_start = secs(60);
    let now = lab.now();
    while lab.hub.shards[0]
        .next_deadline()
        .is_some_and(|at| at <= now.time)
    {
        lab.hub.shards[0].handle_timeouts(now);
    }
    assert_eq!(lab.hub.entries().len(), 1000);
    let (mut walk, mut pieces, mut entries) = (Walk::default(), 0, 0);
    loop {
        let mut out = Vec::new();
        match lab.hub.shards[0].export(lab.now(), &mut walk, 2000, &mut out) {
            Part::Entries { count, .. } => {
                pieces += 1;
                entries += count;
                assert!(out.len() < 2100, "{} octets", out.len());
            }
            Part::Past { .. } => {}
            Part::End => break,
        }
    }
    assert_eq!(entries, 1000);
    assert!(pieces > 7, "4,096 numbers at most: {pieces} pieces");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Goal: whatever a hub holds, one with another number of shards holds the same after it.
    #[test]
    fn d_19_everything_is_restored(
        ops in prop::collection::vec((0..40_u8, 0..4_u8, 0..300_usize, any::<bool>()), 1..120),
        octets in 1..4000_usize,
        shards in 1..5_u16,
    ) {
        let mut lab = Lab::kv(&[9]);
        lab.align(D0);
        for (index, (key, who, len, gone)) in ops.into_iter().enumerate() {
            let now = lab.now();
            let step = u32::try_from(index).unwrap();
            match (who, gone) {
                (0, true) => drop(lab.hub.del(now, &[key])),
                (0, false) => lab.hub.set(now, &[key], &vec![key; len]),
                (_, gone) => {
                    let stamp = u64::from(step) + 1;
                    let life = (len % 3 == 0).then_some(1_000_000 + step);
                    let body = if gone { tombstone(stamp) } else { value(stamp, life, &vec![who; len]) };
                    let seq = i32::try_from(step).unwrap() + 1;
                    lab.flood(D0, &[rec(&[key], 10 + who, seq, 3, &body)]);
                }
            }
            lab.collect();
        }
        let legacy = export(&lab.hub, lab.now(), octets);
        let mut again = Lab::started_at(lab.since_start, &[9], |setup| {
            setup.instances[0] = instance();
            setup.shards = shards;
        });
        let now = again.now();
        inherit(&mut again.hub, now, &legacy, legacy.past.memory);
        again.wait(secs(11)); // D-09: nobody is there.
        let (before, after): (Vec<Row>, Vec<Row>) = (lab.hub.entries(), again.hub.entries());
        prop_assert_eq!(before, after);
        let len = |hub: &Hub| hub.shards.iter().map(|it| it.kv_len(I0).unwrap()).sum::<u64>();
        prop_assert_eq!(len(&lab.hub), len(&again.hub));
        for shard in 0..shards {
            let at = usize::from(shard);
            let store = again.hub.shards[at].store(InstanceIndex(0));
            let mut from = 0;
            while let Some((next, entry)) = store.scan_next(from) {
                from = next;
                let entry = store.entry(entry);
                prop_assert_eq!(shard_of(entry.key, shards).index(), at);
                prop_assert!(!entry.flags.own_run, "CSU-20");
                prop_assert!(entry.originator != id(LSID).as_bytes() || entry.hop_count == 16);
            }
            prop_assert_eq!(again.hub.shards[at].queue_len(DcsIndex(0)), 0);
        }
    }
}

/// Goal: a change that waits for its purge outlives the run, deletes included; the purge of another
/// server's entry is over with it.
#[test]
fn csu_19_waiting_changes_are_kept() {
    for deleted in [false, true] {
        let mut lab = Lab::kv(&[9]);
        lab.align(D0);
        lab.wait(secs(1));
        let now = lab.now();
        let last = Some(CsaSeq::LAST);
        let home = lab.hub.home(b"own");
        home.publish(now, I0, b"own", &value(1000, None, b"old"), last)
            .unwrap();
        lab.flood(D0, &[rec(b"other", 9, 5, 3, &value(5, None, b"v"))]);
        lab.hub.set(now, b"own", b"new");
        if deleted {
            assert!(lab.hub.del(now, b"own"));
        }
        assert_eq!(lab.entry(b"own", LSID).unwrap().0, CsaSeq::PURGE.get());
        let mut lab = restart(&lab, secs(5), End::Killed, true);
        lab.align(D0);
        let expected = (!deleted).then(|| b"new".to_vec());
        assert_eq!(lab.hub.get(lab.now(), b"own"), expected);
        let seq = CsaSeq::FIRST.get();
        assert_eq!(lab.entry(b"own", LSID).unwrap().0, seq);
        let now = lab.now();
        lab.hub.set(now, b"own", b"next");
        assert_eq!(lab.entry(b"own", LSID).unwrap().0, seq + 1000, "CSU-20");
    }
    let mut lab = Lab::new(&[9, 1]);
    lab.align(D0);
    lab.align(D1);
    lab.flood(D0, &[rec(b"other", 9, CsaSeq::PURGE.get(), 3, b"")]);
    let legacy = export(&lab.hub, lab.now(), 1000);
    let kept: Vec<_> = legacy.entries.iter().flat_map(|it| unpack(it)).collect();
    let now = lab.now();
    let done = lab.hub.home(b"other").restore(now, I0, secs(1), &kept[0]);
    assert_eq!((done, kept.len()), (Restored::Older, 1));
}
