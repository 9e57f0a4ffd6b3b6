//! Clients' commands: the codec alone, and pipelines of SET and GET executed on a shard.
#![allow(missing_docs, reason = "the macros below make undocumented items")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use scsp_benches::pair::{Packets, Pair, VALUE_LEN, key};
use scsp_resp::{Command, CommandId, Decoder, Protocol, Writer};

/// Commands of a pipeline.
const PIPELINE: u64 = 64;
const SIZES: [u64; 2] = [10_000, 1_000_000];

fn sets(from: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for n in from..from + PIPELINE {
        let mut writer = Writer::new(&mut out, Protocol::Resp2);
        writer.array(3);
        writer.bulk(b"SET");
        writer.bulk(&key(n));
        writer.bulk(&[0x5A; VALUE_LEN]);
    }
    out
}

fn gets(from: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for n in from..from + PIPELINE {
        let mut writer = Writer::new(&mut out, Protocol::Resp2);
        writer.array(2);
        writer.bulk(b"GET");
        writer.bulk(&key(n));
    }
    out
}

/// Decodes a pipeline and hands each command to `run`; how many there were.
fn each(decoder: &mut Decoder, input: &[u8], mut run: impl FnMut(CommandId, &[u8], &[u8])) -> u64 {
    let (mut at, mut count) = (0, 0);
    loop {
        let decoded = decoder.decode(&input[at..]).expect("well-formed");
        let Some(args) = decoded.args else {
            return count;
        };
        let command = Command::resolve(args).expect("known");
        run(command.id, args.at(1), args.at(2));
        at += decoded.consumed;
        count += 1;
    }
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("clients/decode");
    group.throughput(Throughput::Elements(PIPELINE));
    for (name, input) in [("set", sets(0)), ("get", gets(0))] {
        let mut decoder = Decoder::default();
        group.bench_function(name, |b| {
            b.iter(|| {
                each(&mut decoder, black_box(&input), |id, _, _| {
                    black_box(id);
                })
            });
        });
    }
    group.finish();
}

/// Decoded, executed, answered and, what was written, sent to B and acknowledged.
fn commands(c: &mut Criterion) {
    for size in SIZES {
        let mut pair = Pair::aligned(1472, size);
        let (mut requests, mut replies) = (Packets::default(), Packets::default());
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        let mut turn = 0;
        for (name, pipeline) in [("get", gets as fn(u64) -> Vec<u8>), ("set", sets)] {
            let inputs: Vec<Vec<u8>> = (0..size / PIPELINE)
                .map(|n| pipeline(n * PIPELINE))
                .collect();
            let mut group = c.benchmark_group(format!("clients/{name}"));
            group.throughput(Throughput::Elements(PIPELINE));
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| {
                    turn = (turn + 1) % inputs.len();
                    out.clear();
                    let mut writer = Writer::new(&mut out, Protocol::Resp2);
                    each(&mut decoder, &inputs[turn], |id, key, value| match id {
                        CommandId::Set => {
                            pair.set(key, value);
                            writer.ok();
                        }
                        _ => writer.bulk(pair.get(key).unwrap_or_default()),
                    });
                    pair.settle(&mut requests, &mut replies);
                    black_box(&out);
                });
            });
            group.finish();
        }
    }
}

criterion_group!(clients, codec, commands);
criterion_main!(clients);
