use std::collections::BTreeMap;

use proptest::prelude::*;
use scsp_wire::{Record, Summary};

use super::*;

pub(crate) fn seq(n: i32) -> CsaSeq {
    CsaSeq::new(n).unwrap()
}

pub(crate) fn new_entry<'a>(key: &'a [u8], originator: &'a [u8], body: &'a [u8]) -> NewEntry<'a> {
    NewEntry {
        key,
        originator,
        seq: seq(1),
        hop_count: 3,
        body,
        expires: None,
        changed: Time::ZERO,
        flags: EntryFlags::default(),
    }
}

pub(crate) fn put(store: &mut Store, new: &NewEntry<'_>) -> EntryId {
    store.insert(store.hash(new.key), new).unwrap()
}

fn ids(store: &Store, key: &[u8]) -> Vec<EntryId> {
    let mut ids: Vec<_> = store.instances(store.hash(key), key).collect();
    ids.sort_unstable();
    ids
}

/// Goal: a stored record leaves in the wire form it would have had on arrival.
#[test]
fn encode_gives_the_wire_form() {
    let mut store = Store::new(1);
    let id = put(&mut store, &new_entry(b"key", b"\x0A\0\0\x01", b"body"));
    let mut out = [0xEE; 64];
    let len = store.encode_record(id, 7, &mut out);
    assert_eq!(len, store.wire_len(id));
    assert_eq!(len, store.entry(id).wire_len());
    assert_eq!(
        out[..len],
        *b"\0\x07\0\x17\x03\x04\0\0\0\0\0\x01key\x0A\0\0\x01body"
    );
    let (record, rest) = Record::split_first(&out[..len]).unwrap();
    assert_eq!((record.body, rest.len()), (&b"body"[..], 0));

    let len = store.encode_summary(id, 1, true, &mut out);
    assert_eq!(len, store.entry(id).summary_len());
    let (summary, _) = Summary::split_first(&out[..len]).unwrap();
    assert!(summary.null);
    assert_eq!((summary.hop_count, summary.key), (1, &b"key"[..]));
}

/// Goal: an entry's number survives changes of size and life; its key and queues stay with it.
#[test]
fn update_keeps_number_and_queue() {
    let mut store = Store::new(1);
    let peer = store.add_peer();
    let id = put(&mut store, &new_entry(b"k", b"o", b"small"));
    store.enqueue(id, peer, false);
    for (n, body, expires) in [
        (2, vec![7; 5], None),
        (3, vec![8; 900], Some(Time::from_nanos(5_000_000))),
        (4, vec![9; 901], Some(Time::from_nanos(9_000_000))),
        (5, vec![], None),
    ] {
        let flags = EntryFlags {
            own_run: n % 2 == 0,
            withdrawn: n == 5,
        };
        let changed = Time::from_nanos(160_000_000 * u64::try_from(n).unwrap() + 1);
        let update = Update {
            seq: seq(n),
            hop_count: 9,
            body: &body,
            expires,
            changed,
            flags,
        };
        store.update(id, &update).unwrap();
        let entry = store.entry(id);
        assert_eq!(
            (entry.key, entry.originator, entry.body),
            (&b"k"[..], &b"o"[..], &body[..])
        );
        assert_eq!(
            (entry.seq, entry.expires, entry.flags),
            (seq(n), expires, flags)
        );
        assert_eq!(entry.changed, Time::from_nanos(changed.as_nanos() - 1));
        assert_eq!(store.find(store.hash(b"k"), b"k", b"o"), Some(id));
        assert_eq!(store.peek_unsent(peer), Some((id, false)));
    }
    assert_eq!(store.next_expiry(), None);
    assert_eq!(store.stats().expiring, 0);
}

/// Goal: at a limit an insert or update is refused and nothing at all has changed.
#[test]
fn full_store_changes_nothing() {
    let mut store = Store::with_limits(1, Time::ZERO, 1 << 20);
    let body = vec![5; 60_000];
    let expires = Some(Time::from_nanos(3_000_000));
    let small = NewEntry {
        expires,
        ..new_entry(b"small", b"o", b"x")
    };
    let id = put(&mut store, &small);
    let mut n = 0_u32;
    loop {
        let key = n.to_be_bytes();
        if let Err(full) = store.insert(store.hash(&key), &new_entry(&key, b"p", &body)) {
            assert_eq!(full, StoreFull::Arena);
            assert_eq!(store.find(store.hash(&key), &key, b"p"), None);
            break;
        }
        n += 1;
    }
    let refused = new_entry(b"other", b"unseen originator", &body);
    assert_eq!(
        store.insert(store.hash(b"other"), &refused),
        Err(StoreFull::Arena)
    );
    let before = store.stats();
    assert_eq!((before.entries, before.originators), (n as usize + 1, 2));
    let update = Update {
        seq: seq(2),
        hop_count: 1,
        body: &body,
        expires: None,
        changed: Time::ZERO,
        flags: EntryFlags::default(),
    };
    assert_eq!(store.update(id, &update), Err(StoreFull::Arena));
    assert_eq!(store.stats(), before);
    assert_eq!(
        (store.entry(id).seq, store.entry(id).body),
        (seq(1), &b"x"[..])
    );
    assert_eq!(
        store.pop_expired(Time::from_nanos(3_000_000)),
        Some(id),
        "timer still set"
    );
}

/// Goal: a small kv record (8-octet key, 40-octet value) costs about 100 octets with everything,
/// and the sizes reported are the sizes there are.
#[test]
fn overhead_per_record_is_small() {
    let mut store = Store::new(1);
    for n in 0..100_000_u64 {
        put(
            &mut store,
            &new_entry(&n.to_be_bytes(), b"\x0A\0\0\x01", &[0; 56]),
        );
    }
    let stats = store.stats();
    let records = 100_000 * (20 + 8 + 56);
    assert!(
        (records..records + 1000).contains(&stats.arena_live_bytes),
        "{stats:?}"
    );
    assert!(store.bytes() / 100_000 <= 107, "{stats:?}");
    assert_eq!(
        store.bytes(),
        stats.arena_bytes + stats.index_bytes + stats.slot_bytes
    );
}

#[derive(Clone, Debug)]
enum Op {
    Put {
        key: u8,
        originator: u8,
        len: usize,
        life: Option<u64>,
    },
    Remove {
        key: u8,
        originator: u8,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![4 => 0..60_usize, 1 => 60..3000_usize];
    prop_oneof![
        3 => (0..12_u8, 0..4_u8, len, any::<Option<u64>>())
            .prop_map(|(key, originator, len, life)| Op::Put { key, originator, len, life }),
        1 => (0..12_u8, 0..4_u8).prop_map(|(key, originator)| Op::Remove { key, originator }),
    ]
}

/// What the model remembers of an entry.
type Stored = (EntryId, i32, Vec<u8>, Option<Time>);

/// Keys and ids of several lengths, one the start of another (D-15).
fn key_of(key: u8) -> Vec<u8> {
    match key % 4 {
        0 => vec![key; usize::from(key.min(1))],
        n => vec![key / 4; usize::from(n) * 85],
    }
}

fn originator_of(originator: u8) -> Vec<u8> {
    vec![1; 1 + usize::from(originator)]
}

proptest! {
    /// Goal: the store answers like a map from (key, originator), whatever is put and removed.
    #[test]
    fn d_15_store_is_a_map(ops in proptest::collection::vec(op(), 1..300), seed: u64) {
        let mut store = Store::new(seed);
        let mut model: BTreeMap<(u8, u8), Stored> = BTreeMap::new();
        for (n, op) in (1..).zip(&ops) {
            match *op {
                Op::Put { key, originator, len, life } => {
                    let (name, from) = (key_of(key), originator_of(originator));
                    let body = vec![u8::try_from(n & 0xFF).unwrap(); len];
                    let expires = life.map(Time::from_nanos);
                    let (changed, flags) = (Time::ZERO, EntryFlags::default());
                    let hash = store.hash(&name);
                    let found = store.find(hash, &name, &from);
                    prop_assert_eq!(found, model.get(&(key, originator)).map(|e| e.0));
                    let id = if let Some(id) = found {
                        let update = Update {
                            seq: seq(n), hop_count: 2, body: &body, expires, changed, flags,
                        };
                        store.update(id, &update).unwrap();
                        id
                    } else {
                        let new = NewEntry { seq: seq(n), expires, ..new_entry(&name, &from, &body) };
                        store.insert(hash, &new).unwrap()
                    };
                    model.insert((key, originator), (id, n, body, expires));
                }
                Op::Remove { key, originator } => {
                    if let Some((id, ..)) = model.remove(&(key, originator)) {
                        store.remove(id);
                    }
                }
            }
        }
        prop_assert_eq!(store.len(), model.len());
        for key in 0..12 {
            let mut expected: Vec<_> =
                model.iter().filter(|(at, _)| at.0 == key).map(|(_, e)| e.0).collect();
            expected.sort_unstable();
            prop_assert_eq!(ids(&store, &key_of(key)), expected);
        }
        for ((key, originator), (id, n, body, expires)) in &model {
            let entry = store.entry(*id);
            prop_assert_eq!(entry.key, key_of(*key));
            prop_assert_eq!(entry.originator, originator_of(*originator));
            prop_assert_eq!((entry.seq, entry.body), (seq(*n), &body[..]));
            prop_assert_eq!(entry.expires, *expires);
            store.remove(*id);
        }
        let stats = store.stats();
        prop_assert_eq!((stats.entries, stats.originators, stats.expiring), (0, 0, 0));
        prop_assert_eq!(stats.arena_live_bytes, 0);
    }
}

/// Goal: looking ahead is for the processor alone: it takes any hashes, of what is there, of what is
/// not, more than a pass, none, and changes nothing.
#[test]
fn looking_ahead_changes_nothing() {
    let mut store = Store::new(1);
    let peer = store.add_peer();
    let key = |n: u32| n.to_be_bytes();
    for n in 0..20_000 {
        let id = put(&mut store, &new_entry(&key(n), b"o", b"body"));
        store.enqueue(id, peer, false);
    }
    assert!(store.is_large());
    let before = (store.stats(), store.queue_len(peer));
    for from in (0..60_000).step_by(1000) {
        let hashes: Vec<u64> = (from..from + 100).map(|n| store.hash(&key(n))).collect();
        store.warm(&hashes);
        store.warm(&hashes[..1]);
    }
    store.warm(&[]);
    store.warm(&[0, u64::MAX, 0x0000_00FF_FFFF_FFFF]);
    assert_eq!((store.stats(), store.queue_len(peer)), before);
    for n in 0..20_000 {
        assert!(store.find(store.hash(&key(n)), &key(n), b"o").is_some());
    }
}
