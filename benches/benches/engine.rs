//! Steps of the engine between two shards in memory.
#![allow(missing_docs, reason = "the macros below make undocumented items")]

use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use scsp_benches::pair::{Packets, Pair};

const SIZES: [u64; 2] = [10_000, 1_000_000];
const LIMITS: [usize; 2] = [1472, 65_507];
/// Records of one turn.
const TURN: u64 = 1000;

/// One step of a turn, timed alone.
#[derive(Clone, Copy)]
enum Step {
    Originate,
    Encode,
    Insert,
    Duplicate,
    Reply,
    Acknowledge,
}

impl Step {
    const ALL: [(Self, &str); 6] = [
        (Self::Originate, "originate"),
        (Self::Encode, "encode"),
        (Self::Insert, "insert"),
        (Self::Duplicate, "duplicate"),
        (Self::Reply, "reply"),
        (Self::Acknowledge, "acknowledge"),
    ];
}

/// Turns of new or known keys, in which only `step` counts.
struct Turns {
    pair: Pair,
    requests: Packets,
    replies: Packets,
    again: Packets,
    next: u64,
    /// Keys go round within so many; `None`: all are new.
    within: Option<u64>,
}

impl Turns {
    fn new(limit: usize, records: u64, within: Option<u64>) -> Self {
        Self {
            pair: Pair::aligned(limit, records),
            requests: Packets::default(),
            replies: Packets::default(),
            again: Packets::default(),
            next: if within.is_some() { 0 } else { records },
            within,
        }
    }

    fn turn(&mut self, step: Option<Step>) -> Duration {
        let mut spent = Duration::ZERO;
        let from = self.next;
        self.next += TURN;
        if self.within == Some(self.next) {
            self.next = 0;
        }
        let Self {
            pair,
            requests,
            replies,
            again,
            ..
        } = self;
        let mut timed = |which: Step, run: &mut dyn FnMut()| {
            let is_it = step.is_some_and(|step| step as u8 == which as u8);
            let start = is_it.then(Instant::now);
            run();
            spent += start.map_or(Duration::ZERO, |start| start.elapsed());
        };
        timed(Step::Originate, &mut || pair.originate(from..from + TURN));
        loop {
            timed(Step::Encode, &mut || pair.encode(requests));
            if requests.count() == 0 {
                break;
            }
            timed(Step::Insert, &mut || pair.insert(requests));
            if matches!(step, Some(Step::Duplicate)) {
                pair.reply(again);
                timed(Step::Duplicate, &mut || pair.duplicate(requests));
            }
            timed(Step::Reply, &mut || pair.reply(replies));
            timed(Step::Acknowledge, &mut || pair.acknowledge(replies));
        }
        pair.tick();
        spent
    }
}

/// Steady updates of known records, whole turns: what one core does for both hubs.
fn flood(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine/flood");
    group.throughput(Throughput::Elements(TURN));
    for limit in LIMITS {
        for size in SIZES {
            let mut turns = Turns::new(limit, size, Some(size));
            group.bench_function(BenchmarkId::new(limit.to_string(), size), |b| {
                b.iter(|| turns.turn(None));
            });
        }
    }
    group.finish();
}

/// Each step of it alone.
fn steps(c: &mut Criterion) {
    for size in SIZES {
        let mut turns = Turns::new(1472, size, Some(size));
        for (step, name) in Step::ALL {
            let mut group = c.benchmark_group(format!("engine/{name}"));
            group.throughput(Throughput::Elements(TURN)).sample_size(20);
            group.bench_function(size.to_string(), |b| {
                b.iter_custom(|count| (0..count).map(|_| turns.turn(Some(step))).sum());
            });
            group.finish();
        }
    }
}

/// An empty hub gets all records of a full one.
fn align(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine/align");
    group.sample_size(10);
    for limit in LIMITS {
        for size in SIZES {
            group.throughput(Throughput::Elements(size));
            group.bench_function(BenchmarkId::new(limit.to_string(), size), |b| {
                b.iter_batched(
                    || {
                        let mut pair = Pair::new(limit);
                        pair.originate(0..size);
                        pair
                    },
                    |mut pair| {
                        pair.summarize();
                        pair.compare();
                        pair.update();
                        let mut packets = (Packets::default(), Packets::default());
                        pair.solicit(&mut packets.0, &mut packets.1);
                        pair
                    },
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

/// Two hubs with the same records compare them.
fn compare(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine/compare");
    group.sample_size(10);
    for size in SIZES {
        let mut pair = Pair::aligned(1472, size);
        group.throughput(Throughput::Elements(size));
        group.bench_function(size.to_string(), |b| {
            b.iter_custom(|count| {
                let mut spent = Duration::ZERO;
                for _ in 0..count {
                    pair.summarize();
                    let start = Instant::now();
                    pair.compare();
                    spent += start.elapsed();
                    pair.update();
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(engine, flood, steps, align, compare);
criterion_main!(engine);
