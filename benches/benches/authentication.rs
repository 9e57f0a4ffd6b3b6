//! Signing and verifying packets of three sizes with every algorithm.
#![allow(missing_docs, reason = "the macros below make undocumented items")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use scsp_wire::{
    Algorithm, Builder, CsaSeq, Envelope, Header, MacKey, ProtocolId, ServerGroupId, Signer,
    SummaryFields,
};

/// A Hello or acknowledgement, a packet of the usual limit, and the largest datagram.
const SIZES: [usize; 3] = [100, 1472, 65_507];
const SPI: u32 = 256;

/// A CSU Request of exactly `size` octets once it is signed, in a buffer of that size; and its
/// octets before that.
fn unsigned(signer: &Signer<'_>, size: usize) -> (Vec<u8>, usize) {
    let header = Header {
        protocol: ProtocolId::KV,
        group: ServerGroupId(1),
        sender: &[10, 0, 0, 1],
        receiver: &[10, 0, 0, 2],
    };
    let fields = SummaryFields {
        hop_count: 16,
        null: false,
        seq: CsaSeq::FIRST,
        key: b"key",
        originator: &[10, 0, 0, 1],
    };
    let mut bytes = vec![0; size];
    let mut builder = Builder::csu_request(&mut bytes, size, &header).expect("it fits");
    let body = builder.room() - signer.extension_len() - scsp_wire::summary_len(&fields);
    assert!(builder.push_record(&fields, &vec![0x5A; body]));
    let len = builder.finish();
    (bytes, len)
}

fn authentication(c: &mut Criterion) {
    for algorithm in Algorithm::ALL {
        let key = MacKey::new(algorithm, b"sixteen octets or more");
        let signer = Signer {
            spi: SPI,
            key: &key,
        };
        let mut group = c.benchmark_group(format!("wire/sign/{}", algorithm.name()));
        for size in SIZES {
            let (mut bytes, len) = unsigned(&signer, size);
            let plain: Vec<u8> = bytes[..8].to_vec();
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| {
                    bytes[..8].copy_from_slice(&plain);
                    let signed = signer.sign(&mut bytes, len);
                    assert_eq!(signed, Some(size));
                    black_box(&mut bytes);
                });
            });
        }
        group.finish();
        let mut group = c.benchmark_group(format!("wire/verify/{}", algorithm.name()));
        for size in SIZES {
            let (mut bytes, len) = unsigned(&signer, size);
            assert_eq!(signer.sign(&mut bytes, len), Some(size));
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| {
                    let envelope = Envelope::parse(black_box(&bytes)).expect("well-formed");
                    let found = envelope.authentication().expect("signed");
                    assert!(found.verify(&key));
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, authentication);
criterion_main!(benches);
