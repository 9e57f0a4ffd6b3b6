//! Parsing and building packets of records of 8-octet keys and 40-octet values, and their checksum.
#![allow(missing_docs, reason = "the macros below make undocumented items")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use scsp_benches::pair::key;
use scsp_wire::{
    Builder, CsaSeq, Envelope, Header, Message, ProtocolId, ServerGroupId, SummaryFields, checksum,
};

/// A packet of the usual limit, and the largest datagram.
const SIZES: [usize; 2] = [1472, 65_507];
const BODY: [u8; 56] = [0x5A; 56];

const fn header() -> Header<'static> {
    Header {
        protocol: ProtocolId::KV,
        group: ServerGroupId(1),
        sender: &[10, 0, 0, 1],
        receiver: &[10, 0, 0, 2],
    }
}

const fn fields(key: &[u8]) -> SummaryFields<'_> {
    SummaryFields {
        hop_count: 16,
        null: false,
        seq: CsaSeq::FIRST,
        key,
        originator: &[10, 0, 0, 1],
    }
}

/// Fills `out` with a CSU Request; records and octets of it.
fn request(out: &mut [u8]) -> (u64, usize) {
    let limit = out.len();
    let mut builder = Builder::csu_request(out, limit, &header()).expect("it fits");
    let mut count = 0;
    while builder.push_record(&fields(&key(count)), &BODY) {
        count += 1;
    }
    (count, builder.finish())
}

/// The same of a CSU Reply.
fn reply(out: &mut [u8]) -> (u64, usize) {
    let limit = out.len();
    let mut builder = Builder::csu_reply(out, limit, &header()).expect("it fits");
    let mut count = 0;
    while builder.push_summary(&fields(&key(count))) {
        count += 1;
    }
    (count, builder.finish())
}

/// Octets of all keys, so that every record is looked at.
fn walk(packet: &[u8]) -> usize {
    let envelope = Envelope::parse(packet).expect("well-formed");
    match envelope.open().expect("well-formed") {
        Message::CsuRequest(request) => request.records().map(|it| it.summary.key.len()).sum(),
        Message::CsuReply(reply) => reply.summaries().map(|it| it.key.len()).sum(),
        _ => 0,
    }
}

type Build = fn(&mut [u8]) -> (u64, usize);

fn packets(c: &mut Criterion) {
    for (name, build) in [("request", request as Build), ("reply", reply)] {
        for size in SIZES {
            let mut out = vec![0; size];
            let (count, len) = build(&mut out);
            let mut group = c.benchmark_group(format!("wire/build/{name}"));
            group.throughput(Throughput::Elements(count));
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| build(black_box(&mut out)));
            });
            group.finish();
            let mut group = c.benchmark_group(format!("wire/parse/{name}"));
            group.throughput(Throughput::Elements(count));
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| walk(black_box(&out[..len])));
            });
            group.finish();
        }
    }
}

fn sums(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire/checksum");
    for size in SIZES {
        let bytes = vec![0x5A; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| checksum(black_box(&bytes)));
        });
    }
    group.finish();
}

criterion_group!(wire, packets, sums);
criterion_main!(wire);
