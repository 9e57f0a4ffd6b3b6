use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::store::tests::{new_entry, put, seq};
use crate::{EntryFlags, NewEntry, Store, Update};

fn millis(ms: u64) -> Time {
    Time::from_nanos(ms * NANOS_PER_TICK)
}

fn refresh(store: &mut Store, id: EntryId, expires: Option<Time>) {
    let update = Update {
        seq: seq(2),
        hop_count: 1,
        body: b"b",
        expires,
        changed: Time::ZERO,
        flags: EntryFlags::default(),
    };
    store.update(id, &update).unwrap();
}

/// All that expire at `now`, in as many turns as it takes; the number of turns too.
fn drain(store: &mut Store, now: Time) -> (Vec<EntryId>, u32) {
    let (mut expired, mut turns) = (Vec::new(), 1);
    loop {
        if let Some(id) = store.pop_expired(now) {
            expired.push(id);
        } else if store.next_expiry().is_some_and(|next| next <= now) {
            turns += 1;
        } else {
            return (expired, turns);
        }
    }
}

/// Goal: a deadline is reported within its millisecond, never early, once, and in order.
#[test]
fn deadlines_are_reported_in_order() {
    let mut store = Store::new(1);
    let nanos = [5_000_001_u64, 4_999_999, 70_000_000, 3_600_000_000_000, 0];
    for (n, nanos) in (0_u8..).zip(nanos) {
        let expires = Some(Time::from_nanos(nanos));
        put(
            &mut store,
            &NewEntry {
                expires,
                ..new_entry(&[n], b"o", b"")
            },
        );
    }
    let at = |store: &mut Store, ms| -> Vec<u8> {
        drain(store, millis(ms))
            .0
            .iter()
            .map(|id| store.entry(*id).key[0])
            .collect()
    };
    assert_eq!(at(&mut store, 0), [4]);
    assert_eq!(at(&mut store, 4), []);
    assert_eq!(store.next_expiry(), Some(millis(5)));
    assert_eq!(at(&mut store, 5), [1]);
    assert_eq!(at(&mut store, 3_599_999), [0, 2]);
    assert_eq!(at(&mut store, 3_600_000), [3]);
    assert_eq!(store.next_expiry(), None);
    assert_eq!(store.len(), 5, "reporting removes nothing");
}

/// Goal: many deadlines in one far bucket never cost one call more than its share, and all
/// of them are reported.
#[test]
fn work_per_call_is_bounded() {
    let mut store = Store::new(1);
    let expires = Some(millis(100_000));
    for n in 0..10_000_u32 {
        put(
            &mut store,
            &NewEntry {
                expires,
                ..new_entry(&n.to_be_bytes(), b"o", b"")
            },
        );
    }
    assert!(store.next_expiry().unwrap() <= millis(100_000));
    let (expired, turns) = drain(&mut store, millis(99_999));
    assert_eq!(expired, []);
    assert!(turns >= 10_000 / MOVES_MAX, "{turns} turns");
    assert_eq!(drain(&mut store, millis(100_000)).0.len(), 10_000);
}

/// Goal: refreshing a deadline again and again leaves nothing behind.
#[test]
fn refreshes_do_not_leak() {
    let mut store = Store::new(1);
    let id = put(
        &mut store,
        &NewEntry {
            expires: Some(millis(1)),
            ..new_entry(b"k", b"o", b"")
        },
    );
    let before = store.stats();
    for ms in 0..100_000 {
        refresh(&mut store, id, Some(millis(ms)));
    }
    let after = store.stats();
    assert_eq!((before.expiring, after.expiring), (1, 1));
    assert_eq!(before.arena_live_bytes, after.arena_live_bytes);
    assert_eq!(drain(&mut store, millis(99_998)).0, []);
    assert_eq!(drain(&mut store, millis(99_999)).0, [id]);
}

#[derive(Clone, Debug)]
enum Op {
    Put(u8, Option<(bool, u64)>),
    Remove(u8),
    Advance(u64),
    PopOne,
}

fn op() -> impl Strategy<Value = Op> {
    let life = prop_oneof![
        0..300_000_u64,
        0..200_000_000_u64,
        0..1_u64 << 40,
        any::<u64>()
    ];
    let step = prop_oneof![0..2_000_000_u64, 0..500_000_000_u64, 0..1_u64 << 41];
    prop_oneof![
        6 => (0..20_u8, proptest::option::weighted(0.8, (prop::bool::weighted(0.8), life)))
            .prop_map(|(k, l)| Op::Put(k, l)),
        1 => (0..20_u8).prop_map(Op::Remove),
        3 => step.prop_map(Op::Advance),
        1 => Just(Op::PopOne),
    ]
}

proptest! {
    /// Goal: exactly the entries whose deadline has passed are reported, each once, whatever is
    /// refreshed and removed; next_expiry never lets one wait.
    #[test]
    fn wheel_is_a_sorted_list(
        start in prop_oneof![Just(0), any::<u32>().prop_map(u64::from)],
        ops in proptest::collection::vec(op(), 1..200),
    ) {
        let mut store = Store::new(1);
        let mut now = Time::from_nanos(start << 10);
        let mut ids: BTreeMap<u8, EntryId> = BTreeMap::new();
        let mut deadlines: BTreeMap<EntryId, u64> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Put(key, life) => {
                    let expires = life.map(|(ahead, nanos)| {
                        let nanos = Duration::from_nanos(nanos);
                        if ahead { now.saturating_add(nanos) } else { now.saturating_sub(nanos) }
                    });
                    let id = if let Some(id) = ids.get(&key) {
                        refresh(&mut store, *id, expires);
                        *id
                    } else {
                        let name = [key];
                        let new = NewEntry { expires, ..new_entry(&name, b"o", b"") };
                        let id = put(&mut store, &new);
                        ids.insert(key, id);
                        id
                    };
                    deadlines.remove(&id);
                    deadlines.extend(expires.map(|at| (id, at.as_nanos())));
                }
                Op::Remove(key) => {
                    if let Some(id) = ids.remove(&key) {
                        store.remove(id);
                        deadlines.remove(&id);
                    }
                }
                Op::Advance(step) => {
                    now = Time::from_nanos(now.as_nanos().saturating_add(step));
                    let (expired, _) = drain(&mut store, now);
                    let tick = now.as_nanos() / NANOS_PER_TICK;
                    let due: BTreeSet<_> = deadlines
                        .iter()
                        .filter(|(_, at)| at.div_ceil(NANOS_PER_TICK) <= tick)
                        .map(|(id, _)| *id)
                        .collect();
                    prop_assert_eq!(expired.len(), due.len());
                    prop_assert_eq!(&expired.iter().copied().collect::<BTreeSet<_>>(), &due);
                    deadlines.retain(|id, _| !due.contains(id));
                }
                Op::PopOne => {
                    if let Some(id) = store.pop_expired(now) {
                        let at = deadlines.remove(&id).unwrap();
                        prop_assert!(at <= now.as_nanos());
                    }
                }
            }
            prop_assert_eq!(store.stats().expiring, deadlines.len());
            let first = deadlines.values().min().map(|at| at.div_ceil(NANOS_PER_TICK));
            prop_assert_eq!(store.next_expiry().is_some(), first.is_some());
            if let (Some(next), Some(first)) = (store.next_expiry(), first) {
                let first = first.max(now.as_nanos() / NANOS_PER_TICK);
                prop_assert!(next.as_nanos() <= first.saturating_mul(NANOS_PER_TICK));
            }
        }
    }
}
