//! `flood`: updates at one server until the others have them, for hubs and for Redis.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redis::Value;

use crate::align::{name_system, octets_f64};
use crate::cli::{self, Sync, Topology, Updates};
use crate::connection::Connection;
use crate::http::Metrics;
use crate::hub::{Lab, Plan};
use crate::pipeline::Pipeline;
use crate::redis_server::RedisPair;
use crate::report::{Better, Report, per_mille};
use crate::work::{Maker, Numbers};
use crate::{interrupt, redis_align, state, wait, work};

/// How long the last updates may take to arrive.
const CATCH_UP_TIMEOUT: Duration = Duration::from_mins(2);
/// How long a start may take.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_mins(1);
const PROBE_KEY: &[u8] = b"probe";

/// All runs with hubs.
pub(crate) fn hubs(options: &cli::Flood) -> anyhow::Result<Report> {
    let mut report = new_report(&options.updates).setting("hubs", &options.hubs);
    for _ in 0..options.output.runs {
        let mut lab = Lab::new(Plan {
            hubs: options.hubs,
            topology: Topology::Line,
            options: &options.hub,
            boot_hold: Duration::ZERO,
        })?;
        once_hubs(options, &mut lab, &mut report).map_err(|error| lab.explain(error))?;
        lab.stop()?;
    }
    Ok(report)
}

fn new_report(updates: &Updates) -> Report {
    let cli::Shape {
        key_octets,
        value_octets,
    } = updates.shape;
    let job = format!(
        "updates of {} records of {key_octets}+{value_octets} octets, {} connections, pipeline {}",
        updates.keys, updates.connections, updates.pipeline
    );
    Report::new(job, String::new())
}

fn once_hubs(options: &cli::Flood, lab: &mut Lab, report: &mut Report) -> anyhow::Result<()> {
    lab.start(START_TIMEOUT)?;
    let [first, .., last] = lab.hubs.as_slice() else {
        unreachable!("a line has two ends")
    };
    name_system(report, first, &options.hub)?;
    let (ends, admin) = ((first.client, last.client), first.admin);
    work::load(ends.0, options.updates.keys, 0, options.updates.shape)?;
    state::wait_alike(&mut lab.hubs, CATCH_UP_TIMEOUT)?;

    let acknowledged =
        || Metrics::scrape(admin).and_then(|it| it.sum("scsp_records_acknowledged_total"));
    let acknowledged_before = acknowledged()?;
    let used = used_by_hubs(lab)?;
    let driven = drive(&options.updates, ends.0, ends.1)?;
    state::wait_alike(&mut lab.hubs, CATCH_UP_TIMEOUT)?;
    let covered = driven.start.elapsed();
    let used = used_by_hubs(lab)?.saturating_sub(used);
    let acknowledged = acknowledged()? - acknowledged_before;
    report.equal &= state::settle(&mut lab.hubs, CATCH_UP_TIMEOUT)?;
    driven.report(report, covered, used);
    let rate = acknowledged / covered.as_secs_f64();
    report.add("record acknowledgements", "1/s", Better::More, rate);
    Ok(())
}

fn used_by_hubs(lab: &mut Lab) -> anyhow::Result<Duration> {
    lab.hubs
        .iter_mut()
        .map(|hub| hub.process()?.processor_time())
        .sum()
}

/// All runs with Redis.
pub(crate) fn redis(options: &cli::RedisFlood) -> anyhow::Result<Report> {
    let mut report = new_report(&options.updates);
    "redis replication".clone_into(&mut report.system);
    for _ in 0..options.output.runs {
        once_redis(options, &mut report)?;
    }
    Ok(report)
}

fn once_redis(options: &cli::RedisFlood, report: &mut Report) -> anyhow::Result<()> {
    let mut pair = RedisPair::start(&options.redis, Sync::Diskless)?;
    report.settings.extend(redis_align::version(&mut pair)?);
    let keys = options.updates.keys;
    work::load(pair.primary.address, keys, 0, options.updates.shape)?;
    let mut replica = pair.start_replica()?;
    let pause = Duration::from_millis(1);
    wait::until("the replica", START_TIMEOUT, pause, || {
        Ok(replica.is_synced(u64::from(keys))?.then_some(()))
    })?;

    let used = pair.primary.process.processor_time()? + replica.process.processor_time()?;
    let driven = drive(&options.updates, pair.primary.address, replica.address)?;
    wait::until("the replica's offset", CATCH_UP_TIMEOUT, pause, || {
        let offset = pair.primary.replication("master_repl_offset")?;
        Ok((replica.replication("slave_repl_offset")? >= offset).then_some(()))
    })?;
    let covered = driven.start.elapsed();
    let used_now = pair.primary.process.processor_time()? + replica.process.processor_time()?;
    let used = used_now.saturating_sub(used);
    let states = [
        state::of_redis(pair.primary.control()?)?,
        state::of_redis(replica.control()?)?,
    ];
    report.equal &= states[0] == states[1];
    driven.report(report, covered, used);
    replica.stop()?;
    pair.primary.stop()
}

/// What the writers did.
struct Driven {
    start: Instant,
    updates: u64,
    writing: Duration,
    /// Nanoseconds from a write at one end to its reading at the other, sorted.
    latencies: Vec<u64>,
}

impl Driven {
    fn report(&self, report: &mut Report, covered: Duration, used: Duration) {
        let updates = octets_f64(self.updates);
        let per_second = |span: Duration| updates / span.as_secs_f64();
        report.add(
            "updates accepted",
            "1/s",
            Better::More,
            per_second(self.writing),
        );
        report.add(
            "updates acknowledged end to end",
            "1/s",
            Better::More,
            per_second(covered),
        );
        let behind = covered.saturating_sub(self.writing).as_secs_f64();
        report.add("last update to all acknowledged", "s", Better::Less, behind);
        if !self.latencies.is_empty() {
            for (name, share) in [("p50", 500), ("p99", 990)] {
                let micros = octets_f64(per_mille(&self.latencies, share)) / 1000.0;
                report.add(
                    &format!("write to far read {name}"),
                    "us",
                    Better::Less,
                    micros,
                );
            }
        }
        let used = used.as_secs_f64() / updates * 1e6;
        report.add(
            "processor time of all",
            "s per million updates",
            Better::Less,
            used,
        );
    }
}

/// Writes at `near` until time or number are up, while a probe looks at `far`.
fn drive(updates: &Updates, near: SocketAddr, far: SocketAddr) -> anyhow::Result<Driven> {
    let bar = work::progress(updates.count.unwrap_or(u64::from(u32::MAX)), "updating");
    let (written, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let start = Instant::now();
    let (writing, latencies) = thread::scope(|scope| {
        let writers: Vec<_> = (0..updates.connections)
            .map(|number| {
                let written = &written;
                scope.spawn(move || write(updates, near, number, start, written))
            })
            .collect();
        let done = &done;
        let probe =
            (!updates.no_probe).then(|| scope.spawn(move || probe(updates, near, far, done)));
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
            bar.set_position(written.load(Ordering::Relaxed));
            thread::sleep(Duration::from_millis(1));
        }
        let writing = start.elapsed();
        done.store(true, Ordering::Relaxed);
        let result = writers
            .into_iter()
            .try_for_each(|it| it.join().expect("writers do not panic"));
        let latencies = match probe {
            Some(probe) => probe.join().expect("the probe does not panic")?,
            None => Vec::new(),
        };
        result.map(|()| (writing, latencies))
    })?;
    bar.finish_and_clear();
    Ok(Driven {
        start,
        updates: written.into_inner(),
        writing,
        latencies,
    })
}

fn write(
    updates: &Updates,
    near: SocketAddr,
    number: u32,
    start: Instant,
    written: &AtomicU64,
) -> anyhow::Result<()> {
    let mut maker = Maker::new(updates.shape);
    let mut pipeline = Pipeline::open(near)?;
    let mut numbers = Numbers(u64::from(number));
    let depth = u64::from(updates.pipeline);
    // Parts of the whole that differ by one at most.
    let connections = u64::from(updates.connections);
    let mut left = updates
        .count
        .map(|updates| (updates + connections - 1 - u64::from(number)) / connections);
    let mut version = 0;
    while left != Some(0) && (left.is_some() || start.elapsed() < updates.duration()) {
        let count = left.map_or(depth, |left| left.min(depth));
        for _ in 0..count {
            version += 1;
            let (key, value) = maker.record(numbers.below(updates.keys), version);
            pipeline.push(&[b"SET", key, value]);
        }
        pipeline.flush()?;
        left = left.map(|left| left - count);
        written.fetch_add(count, Ordering::Relaxed);
        interrupt::check()?;
    }
    Ok(())
}

/// Writes a value at `near` and asks for it at `far` until it is there, again and again.
fn probe(
    updates: &Updates,
    near: SocketAddr,
    far: SocketAddr,
    done: &AtomicBool,
) -> anyhow::Result<Vec<u64>> {
    let (mut near, mut far) = (Connection::open(near)?, Connection::open(far)?);
    let mut latencies = Vec::new();
    let mut version: u64 = 0;
    while !done.load(Ordering::Relaxed) {
        version += 1;
        let value = version.to_string().into_bytes();
        let start = Instant::now();
        near.call(&[b"SET", PROBE_KEY, &value])?;
        while !matches!(far.call(&[b"GET", PROBE_KEY])?, Value::BulkString(found) if found == value)
        {
            anyhow::ensure!(
                start.elapsed() < PROBE_TIMEOUT,
                "a write does not reach the other end"
            );
        }
        latencies.push(u64::try_from(start.elapsed().as_nanos())?);
        thread::sleep(Duration::from_millis(updates.probe_pause_ms));
    }
    latencies.sort_unstable();
    Ok(latencies)
}
