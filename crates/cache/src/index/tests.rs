use std::collections::BTreeMap;

use crate::store::tests::{new_entry, put};
use crate::store::{EntryId, Store};

use super::*;

/// Goal: what comes and goes in any order is found, and nothing else, while pages split.
#[test]
fn every_entry_is_found_while_pages_split() {
    let (mut store, mut held) = (Store::new(5), BTreeMap::<u32, EntryId>::new());
    let mut state = 1_u64;
    for step in 0..120_000_u32 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let n = u32::try_from(state >> 40).unwrap() % 40_000;
        let key = n.to_be_bytes();
        let hash = store.hash(&key);
        assert!(!store.is_alone(hash) || store.index.candidates(hash).count() == 1);
        let found = store.find(hash, &key, b"o");
        assert_eq!(found, held.get(&n).copied(), "step {step}");
        match held.remove(&n) {
            Some(id) if step % 3 > 0 => store.remove(id),
            Some(id) => drop(held.insert(n, id)),
            None => drop(held.insert(n, put(&mut store, &new_entry(&key, b"o", b"")))),
        }
    }
    for (n, id) in &held {
        let key = n.to_be_bytes();
        assert_eq!(store.find(store.hash(&key), &key, b"o"), Some(*id));
    }
    let entries = store.index.states.iter().map(|page| usize::from(page.len));
    assert_eq!(entries.sum::<usize>(), held.len());
}

/// Goal: when all is gone, nothing is left that would slow later lookups down.
#[test]
fn removal_leaves_nothing_behind() {
    let mut store = Store::new(5);
    let ids: Vec<EntryId> = (0..5000_u32)
        .map(|n| put(&mut store, &new_entry(&n.to_be_bytes(), b"o", b"")))
        .collect();
    for id in ids {
        store.remove(id);
    }
    let buckets = || store.index.chunks.iter().flatten().flatten();
    assert!(buckets().all(|bucket| bucket.overflow == 0 && bucket.tags == [0; SLOTS]));
}

/// Goal: any number of servers may hold one key: their entries share a hash, so no split parts
/// them, and the directory does not grow for them.
#[test]
fn entries_of_one_key_are_chained() {
    let mut store = Store::new(5);
    let hash = store.hash(b"key");
    let mut ids = Vec::new();
    for n in 0..4000_u32 {
        let originator = n.to_be_bytes();
        ids.push(put(&mut store, &new_entry(b"key", &originator, b"")));
        put(&mut store, &new_entry(&originator, b"o", b""));
    }
    assert_eq!(store.instances(hash, b"key").count(), 4000);
    let pages = store.index.states.len();
    assert!(store.index.directory.len() <= pages * PLACES_PER_PAGE_MAX);
    assert!(pages < 100, "{pages} pages for 8,000 entries");
    for (n, id) in ids.iter().enumerate().filter(|(n, _)| n % 2 > 0) {
        let originator = u32::try_from(n).unwrap().to_be_bytes();
        assert_eq!(store.find(hash, b"key", &originator), Some(*id));
        store.remove(*id);
        assert_eq!(store.find(hash, b"key", &originator), None);
    }
    assert_eq!(store.instances(hash, b"key").count(), 2000);
    for n in 0..4000_u32 {
        let key = n.to_be_bytes();
        assert!(store.find(store.hash(&key), &key, b"o").is_some());
    }
}

/// Goal: octets per entry stay about the same however many there are: pages do not all split at
/// once.
#[test]
fn index_grows_evenly() {
    let mut store = Store::new(5);
    let (mut least, mut most) = (usize::MAX, 0);
    for n in 1..=200_000_u32 {
        put(&mut store, &new_entry(&n.to_be_bytes(), b"o", b""));
        if n >= 50_000 && n % 1000 == 0 {
            let tenths = store.index.bytes() * 10 / store.len();
            (least, most) = (least.min(tenths), most.max(tenths));
        }
    }
    assert!(least > 70 && most < 110, "{least} to {most} tenths");
    assert!(10 * most < 12 * least, "{least} to {most} tenths");
}

/// Goal: the places of a hash are those of all of them, in order, one end twice as dense.
#[test]
fn stretched_hashes_fill_the_directory() {
    assert_eq!((place(0), place(0xFFFF_FFFF)), (0, 0xFFFF_FFFF));
    let places: Vec<u64> = (0..4096).map(|n| place(n << 20)).collect();
    assert!(places.is_sorted_by(|a, b| a < b));
    let (wide, narrow) = (places[1] - places[0], places[4095] - places[4094]);
    assert!(
        (19 * narrow..22 * narrow).contains(&(10 * wide)),
        "{wide} {narrow}"
    );
}
