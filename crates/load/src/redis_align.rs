//! `redis-align`: the work of `align`, done by Redis replication.

use std::time::{Duration, Instant};

use crate::align::octets_f64;
use crate::redis_server::RedisPair;
use crate::report::{Better, Report};
use crate::{cli, state, wait, work};

/// All runs.
pub(crate) fn run(options: &cli::RedisAlign) -> anyhow::Result<Report> {
    let cli::Shape {
        key_octets,
        value_octets,
    } = options.shape;
    let job = format!(
        "align {} records of {key_octets}+{value_octets} octets",
        options.records
    );
    let mut report = Report::new(job, format!("redis {}", options.sync.label()));
    for _ in 0..options.output.runs {
        once(options, &mut report)?;
    }
    Ok(report)
}

fn once(options: &cli::RedisAlign, report: &mut Report) -> anyhow::Result<()> {
    let timeout = Duration::from_secs(options.timeout);
    let mut pair = RedisPair::start(&options.redis, options.sync)?;
    report.settings.extend(version(&mut pair)?);
    let empty = pair.primary.process.resident_octets()?;
    work::load(pair.primary.address, options.records, 1, options.shape)?;
    let loaded = pair.primary.process.resident_octets()?;
    let used = pair.primary.process.processor_time()?;

    let start = Instant::now();
    let mut replica = pair.start_replica()?;
    let pause = Duration::from_millis(1);
    wait::until("the replica", timeout, pause, || {
        Ok(replica.is_synced(u64::from(options.records))?.then_some(()))
    })?;
    let took = start.elapsed();

    let used = pair.primary.process.processor_time()?.saturating_sub(used);
    let used_replica = replica.process.processor_time()?;
    let copied = replica.process.resident_octets()?;
    let after = pair.primary.process.resident_octets()?;
    let states = [
        state::of_redis(pair.primary.control()?)?,
        state::of_redis(replica.control()?)?,
    ];
    report.equal &= states[0] == states[1];

    let records = f64::from(options.records);
    report.add("start to aligned", "s", Better::Less, took.as_secs_f64());
    report.add(
        "records aligned",
        "1/s",
        Better::More,
        records / took.as_secs_f64(),
    );
    let per_record = |octets: u64| octets_f64(octets.saturating_sub(empty)) / records;
    report.add(
        "resident at the source",
        "octets/record",
        Better::Less,
        per_record(loaded),
    );
    report.add(
        "resident at the source after",
        "octets/record",
        Better::Less,
        per_record(after),
    );
    report.add(
        "resident at the copy",
        "octets/record",
        Better::Less,
        per_record(copied),
    );
    let used = (used + used_replica).as_secs_f64();
    report.add("processor time of both", "s", Better::Less, used);
    replica.stop()?;
    pair.primary.stop()
}

/// Which Redis this is.
pub(crate) fn version(pair: &mut RedisPair<'_>) -> anyhow::Result<Option<(String, String)>> {
    let mut info = pair.primary.control()?.info("server")?;
    Ok(info
        .remove("redis_version")
        .map(|version| ("version".to_owned(), version)))
}
