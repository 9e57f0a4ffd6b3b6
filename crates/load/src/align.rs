//! `align`: how long a cold hub, or one that was cut off, takes to align with a full one.

use std::thread;
use std::time::{Duration, Instant};

use crate::cli::{self, HubOptions, Topology};
use crate::http::Metrics;
use crate::hub::{DEAD_SECS, Hub, Lab, Plan};
use crate::report::{Better, Report};
use crate::{state, wait, work};

/// What the first and the second load write.
const FIRST: u64 = 1;
const SECOND: u64 = 2;

/// All runs.
pub(crate) fn run(options: &cli::Align) -> anyhow::Result<Report> {
    let mut report = Report::new(job(options), String::new());
    for _ in 0..options.output.runs {
        let mut lab = Lab::new(Plan {
            hubs: 2,
            topology: Topology::Line,
            options: &options.hub,
            boot_hold: Duration::ZERO,
        })?;
        let result = match options.differences {
            None => cold(options, &mut lab, &mut report),
            Some(differences) => parted(options, differences, &mut lab, &mut report),
        };
        result.map_err(|error| lab.explain(error))?;
        lab.stop()?;
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

/// Names the system once its backend is known.
pub(crate) fn name_system(
    report: &mut Report,
    hub: &Hub,
    options: &HubOptions,
) -> anyhow::Result<()> {
    let workers = match options.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        workers => usize::from(workers),
    };
    report.system = format!("scspd {}, mtu {}", hub.backend()?, options.mtu);
    report
        .settings
        .insert("workers".to_owned(), workers.to_string());
    Ok(())
}

fn cold(options: &cli::Align, lab: &mut Lab, report: &mut Report) -> anyhow::Result<()> {
    let timeout = Duration::from_secs(options.timeout);
    let (full, cold) = lab.pair();
    full.start()?;
    full.wait_ready()?;
    name_system(report, full, &options.hub)?;
    let empty = full.process()?.resident_octets()?;
    work::load(full.client, options.records, FIRST, options.shape)?;
    let loaded = full.process()?.resident_octets()?;
    let used = full.process()?.processor_time()?;

    let start = Instant::now();
    cold.start()?;
    cold.wait_aligned(timeout)?;
    full.wait_aligned(timeout)?;
    let took = start.elapsed();

    let used = full.process()?.processor_time()?.saturating_sub(used);
    let used_cold = cold.process()?.processor_time()?;
    let copied = cold.process()?.resident_octets()?;
    let after = full.process()?.resident_octets()?;
    let span = Metrics::scrape(cold.admin)?.sum("scsp_alignment_duration_seconds_sum")?;
    report.equal &= state::settle(&mut lab.hubs, timeout)?;

    let records = f64::from(options.records);
    report.add("start to aligned", "s", Better::Less, took.as_secs_f64());
    report.add("negotiation to aligned", "s", Better::Less, span);
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
    report.add(
        "processor time of both",
        "s",
        Better::Less,
        (used + used_cold).as_secs_f64(),
    );
    Ok(())
}

fn parted(
    options: &cli::Align,
    differences: u32,
    lab: &mut Lab,
    report: &mut Report,
) -> anyhow::Result<()> {
    let timeout = Duration::from_secs(options.timeout);
    lab.start(timeout)?;
    name_system(report, &lab.hubs[0], &options.hub)?;
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
    let used = one.process()?.processor_time()? + other.process()?.processor_time()?;

    let start = Instant::now();
    other.resume()?;
    one.wait_aligned(timeout)?;
    other.wait_aligned(timeout)?;
    let aligned = start.elapsed();
    state::wait_alike(&mut lab.hubs, timeout)?;
    let alike = start.elapsed();

    let (one, other) = lab.pair();
    let used_now = one.process()?.processor_time()? + other.process()?.processor_time()?;
    let used = used_now.saturating_sub(used);
    let spans = Metrics::scrape(one.admin)?.sum("scsp_alignment_duration_seconds_sum")? - spans;
    report.equal &= state::settle(&mut lab.hubs, timeout)?;
    report.add(
        "contact to aligned",
        "s",
        Better::Less,
        aligned.as_secs_f64(),
    );
    report.add("contact to equal", "s", Better::Less, alike.as_secs_f64());
    report.add("negotiation to aligned", "s", Better::Less, spans);
    report.add(
        "processor time of both",
        "s",
        Better::Less,
        used.as_secs_f64(),
    );
    Ok(())
}

/// For measures, where the last digits do not count.
#[expect(
    clippy::cast_precision_loss,
    reason = "measures are shown with four digits"
)]
pub(crate) const fn octets_f64(octets: u64) -> f64 {
    octets as f64
}
