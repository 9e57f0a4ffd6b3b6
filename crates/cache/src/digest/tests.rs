use std::time::Duration;

use scsp_profile::{KvBody, KvKind, Profile, Stamp};

use crate::store::tests::{new_entry, put, seq};
use crate::{EntryFlags, NewEntry, Store};

fn kv(life_ms: Option<u32>, stamp: u64, value: &[u8]) -> Vec<u8> {
    let body = KvBody {
        kind: KvKind::Value,
        life_ms,
        stamp: Stamp(stamp),
        value,
    };
    let mut out = vec![0; body.encoded_len()];
    body.encode(&mut out);
    out
}

fn digest(store: &Store) -> (usize, u64) {
    store.digest(Profile::Kv, |entry| !entry.flags.withdrawn)
}

/// Goal: servers with other seeds, orders and remaining lives agree, and the value never changes
/// between versions.
#[test]
fn digest_is_the_same_on_all_servers() {
    let records = [
        (b"a", kv(Some(900), 5, b"x")),
        (b"b", kv(None, 6, b"y")),
        (b"c", kv(None, 7, b"")),
    ];
    let mut one = Store::new(1);
    for (key, body) in &records {
        put(&mut one, &new_entry(*key, b"hub", body));
    }
    let mut two = Store::new(99);
    put(&mut two, &new_entry(b"gone", b"hub", b""));
    for (key, body) in records.iter().rev() {
        let mut body = body.clone();
        Profile::Kv.set_remaining(&mut body, Duration::from_millis(123));
        put(
            &mut two,
            &NewEntry {
                hop_count: 9,
                ..new_entry(*key, b"hub", &body)
            },
        );
    }
    two.remove(two.find(two.hash(b"gone"), b"gone", b"hub").unwrap());
    assert_eq!(digest(&one), digest(&two));
    assert_eq!(digest(&one), (3, 12_769_948_606_546_151_482));
}

/// Goal: every part of a record counts, and the filter decides what does.
#[test]
fn digest_sees_every_part() {
    let body = kv(None, 5, b"x");
    let base = new_entry(b"k", b"o", &body);
    let other_body = kv(None, 5, b"z");
    let other_stamp = kv(None, 6, b"x");
    let variants = [
        base,
        NewEntry { key: b"l", ..base },
        NewEntry {
            originator: b"p",
            ..base
        },
        NewEntry {
            key: b"ko",
            originator: b"",
            ..base
        },
        NewEntry {
            seq: seq(2),
            ..base
        },
        NewEntry {
            body: &other_body,
            ..base
        },
        NewEntry {
            body: &other_stamp,
            ..base
        },
    ];
    let mut digests: Vec<_> = variants
        .iter()
        .map(|new| {
            let mut store = Store::new(1);
            put(&mut store, new);
            digest(&store)
        })
        .collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), variants.len());

    let mut store = Store::new(1);
    let flags = EntryFlags {
        withdrawn: true,
        own_run: false,
    };
    put(&mut store, &NewEntry { flags, ..base });
    assert_eq!(digest(&store), (0, 0));
}
