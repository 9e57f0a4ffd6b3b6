//! `soak`: writes, deletes and expiries at all hubs, while one after the other is killed and comes back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::cli;
use crate::hub::{DEAD_SECS, Hub, Lab, Plan};
use crate::pipeline::Pipeline;
use crate::report::{Better, Report, count_f64};
use crate::work::{Maker, Numbers};
use crate::{interrupt, state, wait, work};

/// Commands that a writer sends together.
const BATCH: u32 = 16;
/// Longest life of a value that expires, milliseconds.
const LIFE_MAX_MS: u32 = 10_000;
/// How long writers leave a hub alone that does not answer.
const RETRY: Duration = Duration::from_millis(100);
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// How long writers may take to finish what they send.
const PAUSE_TIMEOUT: Duration = Duration::from_mins(2);

/// What the writers of all hubs did.
#[derive(Debug, Default)]
struct Totals {
    done: AtomicBool,
    /// Writers are to wait.
    pause: AtomicBool,
    /// Writers that wait.
    waiting: AtomicU32,
    commands: AtomicU64,
    /// Batches that a dying or starting hub did not take.
    failures: AtomicU64,
}

impl Totals {
    /// Waits until the pause, or everything, is over.
    fn wait_out_pause(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        while self.pause.load(Ordering::Relaxed)
            && !self.done.load(Ordering::Relaxed)
            && !interrupt::came()
        {
            thread::sleep(RETRY);
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
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
        .setting("test", &"soak")
        .setting("seconds", &options.duration().as_secs())
        .setting("topology", &options.topology.label())
        .setting("check_every_seconds", &options.check_every)
        .setting("kill_every_seconds", &options.kill_every)
        .setting("rate", &options.rate)
        .setting("seed", &options.seed);
    let mut lab = Lab::new(Plan {
        topology: options.topology,
        boot_hold: Duration::from_secs(10),
        ..Plan::line(options.hubs, &options.hub)
    })?;
    once(options, &mut lab, &mut report).map_err(|error| lab.explain(error))?;
    lab.stop()?;
    Ok(report)
}

fn once(options: &cli::Soak, lab: &mut Lab, report: &mut Report) -> anyhow::Result<()> {
    lab.start(START_TIMEOUT)?;
    lab.hubs[0].describe(report)?;
    let addresses: Vec<_> = lab.hubs.iter().map(|hub| hub.client).collect();
    let totals = Totals::default();
    let disturbed = thread::scope(|scope| {
        for (number, address) in (0..).zip(addresses) {
            let totals = &totals;
            scope.spawn(move || write(options, number, address, totals));
        }
        let disturbed = disturb(options, lab, &totals);
        totals.done.store(true, Ordering::Relaxed);
        disturbed
    })?;
    let start = Instant::now();
    let settled = state::settle_winners(&mut lab.hubs, Duration::from_secs(options.timeout))?;
    report.equal &= disturbed.equal && settled.is_some();
    let took = start.elapsed().as_secs_f64();
    let seconds = options.duration().as_secs_f64();
    let count = |total: &AtomicU64| count_f64(total.load(Ordering::Relaxed));
    let commands = count(&totals.commands) / seconds;
    report.add("commands", "1/s", Better::More, commands);
    report.add("batches refused", "", Better::Less, count(&totals.failures));
    let kills = count_f64(disturbed.returns.len() as u64);
    report.add("kills", "", Better::More, kills);
    for back in disturbed.returns {
        report.add("start to aligned", "s", Better::Less, back.as_secs_f64());
    }
    for check in disturbed.checks {
        report.add("pause to equal", "s", Better::Less, check.as_secs_f64());
    }
    report.add("last write to equal", "s", Better::Less, took);
    let unseen = count_f64(settled.unwrap_or(0));
    report.add("losing records not everywhere", "", Better::Less, unseen);
    Ok(())
}

/// What happened to the hubs while clients wrote.
#[derive(Debug, Default)]
struct Disturbed {
    /// How long each killed hub took to be aligned again.
    returns: Vec<Duration>,
    /// How long the hubs took to be equal, by check.
    checks: Vec<Duration>,
    equal: bool,
}

/// Kills hubs, starts them again and compares all, each at its intervals, until the time is up or a
/// comparison has failed.
fn disturb(options: &cli::Soak, lab: &mut Lab, totals: &Totals) -> anyhow::Result<Disturbed> {
    let start = Instant::now();
    let end = start + options.duration();
    let bar = work::progress(options.duration().as_secs(), "soaking");
    let mut numbers = Numbers(options.seed);
    let mut disturbed = Disturbed {
        equal: true,
        ..Disturbed::default()
    };
    let interval = |seconds: u64| match seconds {
        0 => options.duration(),
        seconds => Duration::from_secs(seconds),
    };
    let (kill, check) = (interval(options.kill_every), interval(options.check_every));
    let (mut kill_at, mut check_at) = (start + kill, start + check);
    while disturbed.equal {
        let next = kill_at.min(check_at).min(end);
        sleep_until(next, || bar.set_position(start.elapsed().as_secs()))?;
        if next == end {
            break;
        }
        if next == kill_at {
            let victim = usize::try_from(numbers.below(u32::from(options.hubs)))?;
            // Sometimes the neighbours notice, sometimes they do not.
            let down = u64::from(numbers.below(2 * u32::try_from(DEAD_SECS)? * 1000));
            let back = kill_one(&mut lab.hubs[victim], Duration::from_millis(down))?;
            disturbed.returns.push(back);
            kill_at = Instant::now() + kill;
        } else {
            let took = check_now(options, lab, totals)?;
            disturbed.equal = took.is_some();
            disturbed.checks.extend(took);
            check_at = Instant::now() + check;
        }
    }
    bar.finish_and_clear();
    Ok(disturbed)
}

/// Kills a hub for a while; how long it took to be aligned once it was started again.
fn kill_one(hub: &mut Hub, down: Duration) -> anyhow::Result<Duration> {
    hub.kill();
    sleep_until(Instant::now() + down, || ())?;
    let start = Instant::now();
    hub.start()?;
    hub.wait_ready()?;
    hub.wait_aligned(START_TIMEOUT)?;
    Ok(start.elapsed())
}

/// Compares the hubs while nobody writes; how long it took until they were equal.
fn check_now(
    options: &cli::Soak,
    lab: &mut Lab,
    totals: &Totals,
) -> anyhow::Result<Option<Duration>> {
    totals.pause.store(true, Ordering::Relaxed);
    wait::until("writers to pause", PAUSE_TIMEOUT, RETRY, || {
        let waiting = totals.waiting.load(Ordering::Relaxed);
        Ok((waiting == u32::from(options.hubs)).then_some(()))
    })?;
    let start = Instant::now();
    let settled = state::settle_winners(&mut lab.hubs, Duration::from_secs(options.timeout));
    totals.pause.store(false, Ordering::Relaxed);
    Ok(settled?.map(|_| start.elapsed()))
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
        if totals.pause.load(Ordering::Relaxed) {
            totals.wait_out_pause();
        }
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
