//! One shard's store under kv records of 8-octet keys and 40-octet values.
#![allow(missing_docs, reason = "the macros below make undocumented items")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use scsp_cache::{EntryFlags, EntryId, NewEntry, PASS_LEN, RequestList, Store, Time, Update};
use scsp_profile::{KvBody, KvKind, Profile, Stamp};
use scsp_wire::{CsaSeq, SummaryFields};

const SEED: u64 = 0x5EED;
const ORIGINATOR: &[u8] = &[10, 0, 0, 1];
const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];
const RECORD_LEN: usize = 12 + 8 + 4 + 16 + 40;

fn body() -> [u8; 56] {
    let mut out = [0; 56];
    let (kind, stamp) = (KvKind::Value, Stamp::new(1_790_000_000_000, 0));
    KvBody {
        kind,
        life_ms: None,
        stamp,
        value: &[0x5A; 40],
    }
    .encode(&mut out);
    out
}

/// Keys in an order that follows neither hash nor number.
fn keys(count: u64) -> Vec<[u8; 8]> {
    (1..=count)
        .map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes())
        .collect()
}

fn insert(store: &mut Store, key: &[u8], body: &[u8], expires: Option<Time>) -> EntryId {
    let new = NewEntry {
        key,
        originator: ORIGINATOR,
        seq: CsaSeq::FIRST,
        hop_count: 16,
        body,
        expires,
        changed: Time::ZERO,
        flags: EntryFlags::default(),
    };
    store.insert(store.hash(key), &new).expect("there is room")
}

fn filled(keys: &[[u8; 8]]) -> (Store, Vec<EntryId>) {
    let (mut store, body) = (Store::new(SEED), body());
    let ids = keys
        .iter()
        .map(|key| insert(&mut store, key, &body, None))
        .collect();
    (store, ids)
}

/// Into an empty store, growth included.
fn bench_insert(c: &mut Criterion) {
    let mut group = c.benchmark_group("cache/insert");
    for count in SIZES {
        let (keys, body) = (keys(count), body());
        group
            .throughput(Throughput::Elements(count))
            .sample_size(10);
        group.bench_function(count.to_string(), |b| {
            b.iter_batched(
                || Store::new(SEED),
                |mut store| {
                    for key in &keys {
                        insert(&mut store, key, &body, None);
                    }
                    store
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// One record of a filled store at a time, in scattered order.
fn bench_single(c: &mut Criterion) {
    for count in SIZES {
        let keys = keys(count);
        let (mut store, ids) = filled(&keys);
        let mut turn = 0;
        let mut next = || {
            turn = (turn + 7919) % keys.len();
            turn
        };
        let mut out = [0; 128];

        let mut group = c.benchmark_group("cache/find");
        group.throughput(Throughput::Elements(1));
        group.bench_function(count.to_string(), |b| {
            b.iter(|| {
                let key = &keys[next()];
                store.find(store.hash(key), key, ORIGINATOR)
            });
        });
        group.finish();

        let mut group = c.benchmark_group("cache/find_in_passes");
        group.throughput(Throughput::Elements(PASS_LEN as u64));
        group.bench_function(count.to_string(), |b| {
            b.iter(|| {
                let keys: [&[u8; 8]; PASS_LEN] = std::array::from_fn(|_| &keys[next()]);
                let hashes = keys.map(|key| store.hash(key));
                store.warm(&hashes);
                for (key, hash) in keys.iter().zip(hashes) {
                    black_box(store.find(hash, *key, ORIGINATOR));
                }
            });
        });
        group.finish();

        let mut group = c.benchmark_group("cache/encode_record");
        group.throughput(Throughput::Bytes(RECORD_LEN as u64));
        group.bench_function(count.to_string(), |b| {
            b.iter(|| store.encode_record(ids[next()], 1, black_box(&mut out)));
        });
        group.finish();

        let mut group = c.benchmark_group("cache/update");
        group.throughput(Throughput::Elements(1));
        let body = body();
        group.bench_function(count.to_string(), |b| {
            b.iter(|| {
                let key = &keys[next()];
                let id = store
                    .find(store.hash(key), key, ORIGINATOR)
                    .expect("it is there");
                let update = Update {
                    seq: store.entry(id).seq.next().expect("far from the last"),
                    hop_count: 15,
                    body: &body,
                    expires: None,
                    changed: Time::ZERO,
                    flags: EntryFlags::default(),
                };
                store.update(id, &update).expect("there is room");
            });
        });
        group.finish();
    }
}

/// All entries of a filled store.
fn bench_walk(c: &mut Criterion) {
    for count in SIZES {
        let (store, _) = filled(&keys(count));
        let mut out = [0; 128];

        let mut group = c.benchmark_group("cache/summarize");
        group
            .throughput(Throughput::Elements(count))
            .sample_size(10);
        group.bench_function(count.to_string(), |b| {
            b.iter(|| {
                let mut cursor = store.cursor();
                while let Some(id) = store.cursor_next(&mut cursor) {
                    store.encode_summary(id, 1, false, black_box(&mut out));
                }
            });
        });
        group.finish();

        let mut group = c.benchmark_group("cache/digest");
        group
            .throughput(Throughput::Elements(count))
            .sample_size(10);
        group.bench_function(count.to_string(), |b| {
            b.iter(|| store.digest(Profile::Kv, |entry| !entry.flags.withdrawn));
        });
        group.finish();
    }
}

/// Queued, sent and acknowledged once by each of two DCSs.
fn bench_retransmit(c: &mut Criterion) {
    for count in SIZES {
        let (mut store, ids) = filled(&keys(count));
        let peers = [store.add_peer(), store.add_peer()];
        let mut group = c.benchmark_group("cache/retransmit");
        group
            .throughput(Throughput::Elements(count))
            .sample_size(10);
        group.bench_function(count.to_string(), |b| {
            b.iter(|| {
                for peer in peers {
                    for id in &ids {
                        store.enqueue(*id, peer, false);
                    }
                    while store.peek_unsent(peer).is_some() {
                        store.mark_sent(peer, Time::ZERO);
                    }
                }
                for peer in peers {
                    for id in &ids {
                        black_box(store.acknowledge(*id, peer));
                    }
                }
            });
        });
        group.finish();
    }
}

/// Every entry expires once and gets a new deadline.
fn bench_expiry(c: &mut Criterion) {
    for count in SIZES {
        let (mut store, body) = (Store::new(SEED), body());
        let life = |n: u64| Duration::from_millis(60_000 + n % 60_000);
        let mut now = Time::ZERO;
        for (n, key) in (0..).zip(&keys(count)) {
            insert(&mut store, key, &body, Some(now.saturating_add(life(n))));
        }
        let mut group = c.benchmark_group("cache/expire");
        group
            .throughput(Throughput::Elements(count))
            .sample_size(10);
        group.bench_function(count.to_string(), |b| {
            b.iter(|| {
                now = now.saturating_add(Duration::from_mins(2));
                let mut left = count;
                while left > 0 {
                    let Some(id) = store.pop_expired(now) else {
                        continue;
                    };
                    left -= 1;
                    let entry = store.entry(id);
                    let update = Update {
                        seq: entry.seq,
                        hop_count: entry.hop_count,
                        body: &body,
                        expires: Some(now.saturating_add(life(left))),
                        changed: now,
                        flags: entry.flags,
                    };
                    store.update(id, &update).expect("same size");
                }
            });
        });
        group.finish();
    }
}

/// A request list filled and drained.
fn bench_request(c: &mut Criterion) {
    for count in SIZES {
        let keys = keys(count);
        let mut group = c.benchmark_group("cache/request_list");
        group
            .throughput(Throughput::Elements(count))
            .sample_size(10);
        group.bench_function(count.to_string(), |b| {
            b.iter(|| {
                let mut list = RequestList::new();
                for key in &keys {
                    let (seq, originator) = (CsaSeq::FIRST, ORIGINATOR);
                    list.push(&SummaryFields {
                        hop_count: 1,
                        null: false,
                        seq,
                        key,
                        originator,
                    });
                }
                while list.pop() {}
                list
            });
        });
        group.finish();
    }
}

criterion_group!(
    cache,
    bench_insert,
    bench_single,
    bench_walk,
    bench_retransmit,
    bench_expiry,
    bench_request
);
criterion_main!(cache);
