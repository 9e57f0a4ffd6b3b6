//! `soak`: writes, deletes and expiries at all hubs, while one after the other is killed and comes back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::align::{name_system, octets_f64};
use crate::cli;
use crate::hub::{DEAD_SECS, Lab, Plan};
use crate::pipeline::Pipeline;
use crate::report::{Better, Report};
use crate::work::{Maker, Numbers};
use crate::{interrupt, state, work};

/// Commands that a writer sends together.
const BATCH: u32 = 16;
/// Longest life of a value that expires, milliseconds.
const LIFE_MAX_MS: u32 = 10_000;
/// How long writers leave a hub alone that does not answer.
const RETRY: Duration = Duration::from_millis(100);
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// What the writers of all hubs did.
#[derive(Debug, Default)]
struct Totals {
    done: AtomicBool,
    commands: AtomicU64,
    /// Batches that a dying or starting hub did not take.
    failures: AtomicU64,
}

/// The one run.
pub(crate) fn run(options: &cli::Soak) -> anyhow::Result<Report> {
    let cli::Shape {
        key_octets,
        value_octets,
    } = options.shape;
    let job = format!(
        "soak: {} hubs, {} keys of {key_octets}+{value_octets} octets",
        options.hubs, options.keys
    );
    let mut report = Report::new(job, String::new())
        .setting("minutes", &options.minutes)
        .setting(
            "topology",
            &format!("{:?}", options.topology).to_lowercase(),
        )
        .setting("kill_every_seconds", &options.kill_every)
        .setting("rate", &options.rate)
        .setting("seed", &options.seed);
    let mut lab = Lab::new(Plan {
        hubs: options.hubs,
        topology: options.topology,
        options: &options.hub,
        boot_hold: Duration::from_secs(10),
    })?;
    once(options, &mut lab, &mut report).map_err(|error| lab.explain(error))?;
    lab.stop()?;
    Ok(report)
}

fn once(options: &cli::Soak, lab: &mut Lab, report: &mut Report) -> anyhow::Result<()> {
    lab.start(START_TIMEOUT)?;
    name_system(report, &lab.hubs[0], &options.hub)?;
    let addresses: Vec<_> = lab.hubs.iter().map(|hub| hub.client).collect();
    let totals = Totals::default();
    let returns = thread::scope(|scope| {
        for (number, address) in (0..).zip(addresses) {
            let totals = &totals;
            scope.spawn(move || write(options, number, address, totals));
        }
        let returns = kill_in_turn(options, lab);
        totals.done.store(true, Ordering::Relaxed);
        returns
    })?;
    let start = Instant::now();
    let settled = state::settle_winners(&mut lab.hubs, Duration::from_secs(options.timeout))?;
    report.equal &= settled.is_some();
    let took = start.elapsed().as_secs_f64();
    let seconds = octets_f64(options.minutes * 60);
    let count = |total: &AtomicU64| octets_f64(total.load(Ordering::Relaxed));
    report.add(
        "commands",
        "1/s",
        Better::More,
        count(&totals.commands) / seconds,
    );
    report.add("batches refused", "", Better::Less, count(&totals.failures));
    report.add("kills", "", Better::More, octets_f64(returns.len() as u64));
    for back in returns {
        report.add("start to aligned", "s", Better::Less, back.as_secs_f64());
    }
    report.add("last write to equal", "s", Better::Less, took);
    let unseen = settled.unwrap_or(0);
    report.add(
        "losing records not everywhere",
        "",
        Better::Less,
        octets_f64(unseen),
    );
    Ok(())
}

/// Kills and restarts hubs until the time is up; how long each took to be aligned again.
fn kill_in_turn(options: &cli::Soak, lab: &mut Lab) -> anyhow::Result<Vec<Duration>> {
    let end = Instant::now() + Duration::from_secs(options.minutes * 60);
    let bar = work::progress(options.minutes * 60, "soaking");
    let mut numbers = Numbers(options.seed);
    let mut returns = Vec::new();
    let pause = match options.kill_every {
        0 => Duration::from_secs(options.minutes * 60),
        seconds => Duration::from_secs(seconds),
    };
    while sleep_until(end.min(Instant::now() + pause), || {
        let left = end.saturating_duration_since(Instant::now());
        bar.set_position((options.minutes * 60).saturating_sub(left.as_secs()));
    })? < end
    {
        let victim = numbers.below(u32::from(options.hubs));
        let hub = &mut lab.hubs[usize::try_from(victim)?];
        hub.kill();
        // Sometimes the neighbours notice, sometimes they do not.
        let down = u64::from(numbers.below(2 * u32::try_from(DEAD_SECS)? * 1000));
        sleep_until(Instant::now() + Duration::from_millis(down), || ())?;
        let start = Instant::now();
        hub.start()?;
        hub.wait_ready()?;
        hub.wait_aligned(START_TIMEOUT)?;
        returns.push(start.elapsed());
    }
    bar.finish_and_clear();
    Ok(returns)
}

/// The moment at which it returns.
fn sleep_until(moment: Instant, mut tick: impl FnMut()) -> anyhow::Result<Instant> {
    loop {
        interrupt::check()?;
        let now = Instant::now();
        let left = moment.saturating_duration_since(now);
        if left.is_zero() {
            return Ok(now);
        }
        tick();
        thread::sleep(left.min(RETRY));
    }
}

/// Writes at one hub until all is done, whatever becomes of the hub.
fn write(options: &cli::Soak, number: u32, address: SocketAddr, totals: &Totals) {
    let mut writer = Writer {
        maker: Maker::new(options.shape),
        numbers: Numbers(
            options
                .seed
                .wrapping_mul(31)
                .wrapping_add(u64::from(number)),
        ),
        keys: options.keys,
        version: u64::from(number) << 48,
    };
    let mut pipeline = None;
    let interval = match options.rate {
        0 => Duration::ZERO,
        rate => Duration::from_secs(1) * BATCH / rate,
    };
    let mut next = Instant::now();
    while !totals.done.load(Ordering::Relaxed) && !interrupt::came() {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        next = Instant::now().max(next) + interval;
        match writer.batch(&mut pipeline, address) {
            Ok(()) => {
                totals
                    .commands
                    .fetch_add(u64::from(BATCH), Ordering::Relaxed);
            }
            Err(_) => {
                pipeline = None;
                totals.failures.fetch_add(1, Ordering::Relaxed);
                thread::sleep(RETRY);
            }
        }
    }
}

struct Writer {
    maker: Maker,
    numbers: Numbers,
    keys: u32,
    version: u64,
}

impl Writer {
    /// Of twenty commands twelve set, three set with a life, four delete and one gives a life.
    fn batch(
        &mut self,
        pipeline: &mut Option<Pipeline>,
        address: SocketAddr,
    ) -> anyhow::Result<()> {
        let pipeline = match pipeline {
            Some(pipeline) => pipeline,
            None => pipeline.insert(Pipeline::open(address)?),
        };
        for _ in 0..BATCH {
            self.version += 1;
            let number = self.numbers.below(self.keys);
            let life = (1 + self.numbers.below(LIFE_MAX_MS)).to_string();
            let (key, value) = self.maker.record(number, self.version);
            match self.numbers.below(20) {
                0..12 => pipeline.push(&[b"SET", key, value]),
                12..15 => pipeline.push(&[b"SET", key, value, b"PX", life.as_bytes()]),
                15..19 => pipeline.push(&[b"DEL", key]),
                _ => pipeline.push(&[b"PEXPIRE", key, life.as_bytes()]),
            }
        }
        pipeline.flush()
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use crate::cli::Topology;

    /// Goal: topologies keep the names under which results are compared.
    #[test]
    fn topologies_are_named_as_on_the_command_line() {
        for topology in Topology::value_variants() {
            let name = topology.to_possible_value().unwrap();
            assert_eq!(format!("{topology:?}").to_lowercase(), name.get_name());
        }
    }
}
