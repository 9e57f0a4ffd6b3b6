//! `align`: how long a cold server, or a hub that was cut off, takes to align with a full one.

use std::time::{Duration, Instant};

use crate::bird::BirdPair;
use crate::cli::{self, Copier};
use crate::http::Metrics;
use crate::hub::{DEAD_SECS, Lab, Plan};
use crate::pair::Pair;
use crate::redis_server::RedisPair;
use crate::report::{Better, Report, count_f64};
use crate::{state, wait, work};

/// What the first and the second load write.
const FIRST: u64 = 1;
const SECOND: u64 = 2;

/// All runs.
pub(crate) fn run(options: &cli::Align) -> anyhow::Result<Report> {
    let mut report = Report::new(job(options), String::new())
        .setting("test", &"align")
        .setting("label", &options.output.label)
        .setting("records", &options.records);
    for _ in 0..options.output.runs {
        match options.differences {
            None => cold(options, &mut report)?,
            Some(differences) => parted(options, differences, &mut report)?,
        }
    }
    Ok(report)
}

fn job(options: &cli::Align) -> String {
    let cli::Shape {
        key_octets,
        value_octets,
    } = options.shape;
    let what = match options.differences {
        None => String::new(),
        Some(differences) => format!(", {differences} of them different"),
    };
    format!(
        "align {} records of {key_octets}+{value_octets} octets{what}",
        options.records
    )
}

fn pair(options: &cli::Align) -> anyhow::Result<Box<dyn Pair + '_>> {
    let others = &options.others;
    Ok(match options.server {
        Copier::Scspd => Box::new(Lab::new(Plan::line(2, &options.hub))?),
        Copier::Redis => Box::new(RedisPair::new(&others.redis, others.redis_sync)?),
        Copier::BirdBgp => Box::new(BirdPair::bgp(&others.bird)?),
        Copier::BirdOspf => Box::new(BirdPair::ospf(&others.bird)?),
    })
}

fn cold(options: &cli::Align, report: &mut Report) -> anyhow::Result<()> {
    let mut pair = pair(options)?;
    copy(options, &mut *pair, report).map_err(|error| pair.explain(error))?;
    pair.stop()
}

fn copy(options: &cli::Align, pair: &mut dyn Pair, report: &mut Report) -> anyhow::Result<()> {
    let timeout = Duration::from_secs(options.timeout);
    pair.start_source(report)?;
    let empty = pair.source()?.resident_octets()?;
    pair.load(options.records, options.shape)?;
    let loaded = pair.source()?.resident_octets()?;
    let used = pair.source()?.processor_time()?;

    let start = Instant::now();
    pair.start_copy()?;
    pair.wait_copied(options.records, timeout)?;
    let took = start.elapsed().as_secs_f64();

    let used = pair.source()?.processor_time()?.saturating_sub(used);
    let used = used + pair.copy()?.processor_time()?;
    let copied = pair.copy()?.resident_octets()?;
    let after = pair.source()?.resident_octets()?;

    let records = f64::from(options.records);
    report.add("start to aligned", "s", Better::Less, took);
    pair.report(options.records, report)?;
    report.add("records aligned", "1/s", Better::More, records / took);
    for (name, octets) in [
        ("resident at the source", loaded),
        ("resident at the source after", after),
        ("resident at the copy", copied),
    ] {
        let octets = count_f64(octets.saturating_sub(empty)) / records;
        report.add(name, "octets/record", Better::Less, octets);
    }
    let used = used.as_secs_f64();
    report.add("processor time of both", "s", Better::Less, used);
    report.equal &= pair.are_equal(timeout)?;
    Ok(())
}

impl Pair for Lab {
    fn start_source(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let full = &mut self.hubs[0];
        full.start()?;
        full.wait_ready()?;
        full.describe(report)
    }

    fn load(&mut self, records: u32, shape: cli::Shape) -> anyhow::Result<()> {
        work::load(self.hubs[0].client, records, FIRST, shape)
    }

    fn source(&mut self) -> anyhow::Result<crate::process::Usage> {
        self.hubs[0].usage()
    }

    fn start_copy(&mut self) -> anyhow::Result<()> {
        self.hubs[1].start()
    }

    fn wait_copied(&mut self, _: u32, timeout: Duration) -> anyhow::Result<()> {
        self.hubs[1].wait_aligned(timeout)?;
        self.hubs[0].wait_aligned(timeout)
    }

    fn copy(&mut self) -> anyhow::Result<crate::process::Usage> {
        self.hubs[1].usage()
    }

    fn report(&mut self, records: u32, report: &mut Report) -> anyhow::Result<()> {
        let metrics = Metrics::scrape(self.hubs[1].admin)?;
        let span = metrics.sum("scsp_alignment_duration_seconds_sum")?;
        report.add("negotiation to aligned", "s", Better::Less, span);
        let each = span * 1e6 / f64::from(records);
        report.add("time for each record", "us", Better::Less, each);
        Ok(())
    }

    fn are_equal(&mut self, timeout: Duration) -> anyhow::Result<bool> {
        state::settle(&mut self.hubs, timeout)
    }

    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        Self::explain(self, error)
    }

    fn stop(self: Box<Self>) -> anyhow::Result<()> {
        Self::stop(*self)
    }
}

/// Both hold the records, then one of them is frozen while the other is written to.
fn parted(options: &cli::Align, differences: u32, report: &mut Report) -> anyhow::Result<()> {
    anyhow::ensure!(
        options.server == Copier::Scspd,
        "only hubs align what differs; others copy all of it"
    );
    let mut lab = Lab::new(Plan::line(2, &options.hub))?;
    meet_again(options, differences, &mut lab, report).map_err(|error| lab.explain(error))?;
    lab.stop()
}

fn meet_again(
    options: &cli::Align,
    differences: u32,
    lab: &mut Lab,
    report: &mut Report,
) -> anyhow::Result<()> {
    let timeout = Duration::from_secs(options.timeout);
    lab.start(timeout)?;
    lab.hubs[0].describe(report)?;
    work::load(lab.hubs[0].client, options.records, FIRST, options.shape)?;
    state::wait_alike(&mut lab.hubs, timeout)?;

    let (one, other) = lab.pair();
    other.pause()?;
    let lost = Duration::from_secs(4 * DEAD_SECS);
    wait::until(
        "the loss of a neighbour",
        lost,
        Duration::from_millis(10),
        || Ok(one.misses_a_peer()?.then_some(())),
    )?;
    work::load(
        one.client,
        differences.min(options.records),
        SECOND,
        options.shape,
    )?;
    let spans = Metrics::scrape(one.admin)?.sum("scsp_alignment_duration_seconds_sum")?;
    let used = one.usage()?.processor_time()? + other.usage()?.processor_time()?;

    let start = Instant::now();
    other.resume()?;
    one.wait_aligned(timeout)?;
    other.wait_aligned(timeout)?;
    let aligned = start.elapsed();
    state::wait_alike(&mut lab.hubs, timeout)?;
    let alike = start.elapsed();

    let (one, other) = lab.pair();
    let used_now = one.usage()?.processor_time()? + other.usage()?.processor_time()?;
    let used = used_now.saturating_sub(used);
    let spans = Metrics::scrape(one.admin)?.sum("scsp_alignment_duration_seconds_sum")? - spans;
    report.equal &= state::settle(&mut lab.hubs, timeout)?;
    for (name, seconds) in [
        ("contact to aligned", aligned.as_secs_f64()),
        ("contact to equal", alike.as_secs_f64()),
        ("negotiation to aligned", spans),
        ("processor time of both", used.as_secs_f64()),
    ] {
        report.add(name, "s", Better::Less, seconds);
    }
    Ok(())
}
