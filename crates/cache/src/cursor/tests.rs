use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::store::tests::{new_entry, put};
use crate::{EntryFlags, EntryId, Store, Time, Update};

#[derive(Clone, Debug)]
enum Op {
    Step,
    Insert,
    Remove(prop::sample::Index),
    Grow(prop::sample::Index),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => Just(Op::Step),
        1 => Just(Op::Insert),
        1 => any::<prop::sample::Index>().prop_map(Op::Remove),
        1 => any::<prop::sample::Index>().prop_map(Op::Grow),
    ]
}

fn insert(store: &mut Store, live: &mut BTreeMap<EntryId, u32>, n: u32) {
    let id = put(store, &new_entry(&n.to_be_bytes(), b"o", b""));
    assert_eq!(live.insert(id, n), None, "number given out twice");
}

fn apply(store: &mut Store, live: &mut BTreeMap<EntryId, u32>, n: u32, op: &Op) {
    match op {
        Op::Remove(_) | Op::Grow(_) if live.is_empty() => {}
        Op::Step => {}
        Op::Insert => insert(store, live, n),
        Op::Remove(pick) => {
            let id = *live.keys().nth(pick.index(live.len())).unwrap();
            live.remove(&id);
            store.remove(id);
        }
        Op::Grow(pick) => {
            let id = *live.keys().nth(pick.index(live.len())).unwrap();
            let entry = store.entry(id);
            let body = vec![0; entry.body.len() * 2 + 5];
            let update = Update {
                seq: entry.seq.next().unwrap(),
                hop_count: 1,
                body: &body[..body.len().min(2000)],
                expires: None,
                changed: Time::ZERO,
                flags: EntryFlags::default(),
            };
            store.update(id, &update).unwrap();
        }
    }
}

/// Goal: more-to-come is exact, also when only free numbers are left behind.
#[test]
fn ca_17_has_more_is_exact() {
    let mut store = Store::new(1);
    assert!(!store.cursor_has_more(&mut store.cursor()));
    let mut live = BTreeMap::new();
    (0..10).for_each(|n| insert(&mut store, &mut live, n));
    let mut cursor = store.cursor();
    assert!(store.cursor_has_more(&mut cursor));
    let first = store.cursor_next(&mut cursor).unwrap();
    live.keys()
        .filter(|id| **id != first)
        .for_each(|id| store.remove(*id));
    assert!(!store.cursor_has_more(&mut cursor));
    assert_eq!(store.cursor_next(&mut cursor), None);
}

proptest! {
    /// Goal: what is present from the cursor's start to its end is met exactly once, nothing is
    /// met twice, and nothing absent is met.
    #[test]
    fn ca_17_every_lasting_entry_is_met_exactly_once(
        before in proptest::collection::vec(op(), 0..80),
        during in proptest::collection::vec(op(), 0..200),
    ) {
        let mut store = Store::new(2);
        let mut live = BTreeMap::new();
        (0..40).for_each(|n| insert(&mut store, &mut live, n));
        for (n, op) in (100..).zip(&before) {
            apply(&mut store, &mut live, n, op);
        }
        let present: BTreeSet<u32> = live.values().copied().collect();
        let mut cursor = store.cursor();
        let mut met = BTreeSet::new();
        let mut meet = |store: &Store, live: &BTreeMap<EntryId, u32>| {
            let more = store.cursor_has_more(&mut cursor);
            let next = store.cursor_next(&mut cursor);
            assert_eq!(next.is_some(), more);
            next.map(|id| assert!(met.insert(live[&id]), "met twice")).is_some()
        };
        for (n, op) in (10_000..).zip(&during) {
            if matches!(op, Op::Step) {
                meet(&store, &live);
            }
            apply(&mut store, &mut live, n, op);
        }
        while meet(&store, &live) {}
        for n in live.values().filter(|n| present.contains(n)) {
            prop_assert!(met.contains(n), "{} was missed", n);
        }
    }

    /// Goal: a scan whose position rests elsewhere meets every lasting entry exactly once.
    #[test]
    fn scan_meets_lasting_entries_once(ops in proptest::collection::vec(op(), 0..200)) {
        let mut store = Store::new(2);
        let mut live = BTreeMap::new();
        (0..40).for_each(|n| insert(&mut store, &mut live, n));
        let (mut met, mut from) = (BTreeSet::new(), 0);
        for (n, op) in (100..).zip(&ops) {
            apply(&mut store, &mut live, n, op);
            if matches!(op, Op::Step) && let Some((next, id)) = store.scan_next(from) {
                prop_assert!(met.insert(live[&id]));
                from = next;
            }
        }
        while let Some((next, id)) = store.scan_next(from) {
            prop_assert!(met.insert(live[&id]));
            from = next;
        }
        for n in live.values().filter(|n| **n < 40) {
            prop_assert!(met.contains(n));
        }
    }
}
