//! `flood`: updates originated inside a hub that is embedded here, until its neighbours have
//! acknowledged them, hop by hop along a line.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use scspd::embed::{Batch, Embedded, InstanceIndex};

use crate::cli;
use crate::http::Metrics;
use crate::hub::{GROUP, Hub, Lab, Plan};
use crate::report::{Better, Report, count_f64};
use crate::strace::Strace;
use crate::work::Maker;
use crate::{interrupt, state, work};

/// How long a start may take.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// How long the acknowledgements of what is under way may take.
const CATCH_UP_TIMEOUT: Duration = Duration::from_mins(2);

/// All runs.
pub(crate) fn run(options: &cli::Flood) -> anyhow::Result<Report> {
    let cli::Shape {
        key_octets,
        value_octets,
    } = options.shape;
    let job = format!(
        "updates of {} records of {key_octets}+{value_octets} octets, originated inside",
        options.keys
    );
    let mut report = Report::new(job, String::new())
        .setting("test", &"flood")
        .setting("label", &options.output.label)
        .setting("hubs", &options.hubs)
        .setting("records", &options.keys)
        .setting("batch", &options.batch)
        .setting("window", &options.window)
        .setting("auth", &options.auth.map_or("none", cli::Algorithm::label))
        .setting("strace", &options.strace);
    for _ in 0..options.output.runs {
        let mut lab = Lab::new(Plan {
            auth: options.auth,
            last_workers: options.receiver_workers,
            ..Plan::line(options.hubs, &options.hub)
        })?;
        once(options, &mut lab, &mut report).map_err(|error| lab.explain(error))?;
        lab.stop()?;
    }
    Ok(report)
}

fn once(options: &cli::Flood, lab: &mut Lab, report: &mut Report) -> anyhow::Result<()> {
    lab.hubs[0].embed()?;
    lab.start(START_TIMEOUT)?;
    describe(options, &lab.hubs[0], report)?;
    let mut source = Source::new(options, lab.hubs[0].embedded()?)?;
    let keys = u64::from(options.keys);
    source.drive(lab.hubs[0].embedded()?, Until::Count(keys), "loading")?;
    state::wait_quiet(&mut lab.hubs, CATCH_UP_TIMEOUT)?;
    source.forget();

    let traces = options.strace.then(|| Strace::attach_all(&lab.hubs));
    let traces = traces.transpose()?;
    let before = Meters::read(&mut lab.hubs)?;
    let until = match options.count {
        Some(count) => Until::Count(count),
        None => Until::Span(options.duration()),
    };
    let start = Instant::now();
    source.drive(lab.hubs[0].embedded()?, until, "updating")?;
    let acknowledged = start.elapsed();
    // What we ask the hubs from here on is not theirs to count.
    let calls = traces.map(Strace::finish_all).transpose()?;
    state::wait_quiet(&mut lab.hubs, CATCH_UP_TIMEOUT)?;
    let covered = start.elapsed();
    let used = Meters::read(&mut lab.hubs)?.since(&before);

    report.equal &= state::settle(&mut lab.hubs, CATCH_UP_TIMEOUT)?;
    source.report(report, acknowledged, covered);
    used.report(report, source.updates);
    let thousands = count_f64(source.updates) / 1000.0;
    if let Some(calls) = calls {
        let unit = "per 1,000 updates";
        for (place, calls) in ["first", "last"].iter().zip(&calls) {
            let name = format!("system calls of the {place} hub");
            report.add(&name, unit, Better::Less, count_f64(*calls) / thousands);
        }
        let both = count_f64(calls.iter().sum()) / thousands;
        report.add("system calls of both ends", unit, Better::Less, both);
    }
    Ok(())
}

fn describe(options: &cli::Flood, hub: &Hub, report: &mut Report) -> anyhow::Result<()> {
    hub.describe(report)?;
    report.system = format!("{}, {} hubs", report.system, options.hubs);
    if let Some(auth) = options.auth {
        report.system = format!("{}, {}", report.system, auth.label());
    }
    let receiver_workers = match options.receiver_workers {
        Some(workers) => {
            report.system = format!("{}, {workers} workers at the end", report.system);
            workers.to_string()
        }
        None => "as all".to_owned(),
    };
    if options.strace {
        report.system = format!("{}, traced", report.system);
    }
    report.set("receiver_workers", &receiver_workers);
    Ok(())
}

/// When to stop originating.
#[derive(Clone, Copy, Debug)]
enum Until {
    Count(u64),
    Span(Duration),
}

impl Until {
    /// Updates that may still be originated.
    fn left(self, done: u64, start: Instant) -> u64 {
        match self {
            Self::Count(count) => count.saturating_sub(done),
            Self::Span(span) if start.elapsed() < span => u64::MAX,
            Self::Span(_) => 0,
        }
    }
}

/// Makes the updates: all keys in turn, each worker's by itself, every time with another value.
struct Source {
    /// Keys by the worker that owns them, one after the other.
    keys: Vec<Turn>,
    key_len: usize,
    /// The end of it changes with every update.
    value: Vec<u8>,
    version: u64,
    batch_len: usize,
    window: usize,
    free: Vec<Batch>,
    instance: InstanceIndex,
    updates: u64,
    /// Nanoseconds that each batch took to be acknowledged.
    latencies: Vec<u64>,
}

#[derive(Clone, Debug, Default)]
struct Turn {
    octets: Vec<u8>,
    next: usize,
}

impl Source {
    fn new(options: &cli::Flood, hub: &Embedded) -> anyhow::Result<Self> {
        let mut maker = Maker::new(options.shape);
        let mut keys = vec![Turn::default(); hub.hub().workers()];
        for number in 0..options.keys {
            let (key, _) = maker.record(number, 0);
            keys[hub.owner(key)].octets.extend_from_slice(key);
        }
        // Few keys may all belong to the same workers.
        keys.retain(|turn| !turn.octets.is_empty());
        let instance = hub.hub().group(GROUP.as_bytes());
        let key_len = usize::from(options.shape.key_octets);
        let window = usize::try_from(options.window)?;
        // A key that is written again while it is under way is sent once; that is not to be measured.
        let shortest = keys.iter().map(|turn| turn.octets.len() / key_len).min();
        let fits = shortest.unwrap_or(0).min(window);
        Ok(Self {
            keys,
            key_len,
            value: maker.record(0, 0).1.to_vec(),
            version: 0,
            batch_len: usize::try_from(options.batch)?.min(fits).max(1),
            window,
            free: Vec::new(),
            instance: instance.context("the hub does not know the group")?,
            updates: 0,
            latencies: Vec::new(),
        })
    }

    /// Forgets what was measured.
    fn forget(&mut self) {
        self.updates = 0;
        self.latencies.clear();
    }

    /// Originates, and waits until all of it is acknowledged.
    fn drive(
        &mut self,
        hub: &mut Embedded,
        until: Until,
        what: &'static str,
    ) -> anyhow::Result<()> {
        let bar = match until {
            Until::Count(count) => work::progress(count, what),
            Until::Span(_) => work::spinner(what),
        };
        let start = Instant::now();
        let workers: Vec<usize> = (0..self.keys.len())
            .map(|turn| hub.owner(&self.keys[turn].octets[..self.key_len]))
            .collect();
        let (mut under_way, mut turn) = (0, 0);
        loop {
            while under_way + self.batch_len <= self.window.max(self.batch_len) {
                let len = self
                    .batch_len
                    .min(usize::try_from(until.left(self.updates, start))?);
                if len == 0 {
                    break;
                }
                let batch = self.fill(turn, len);
                hub.submit(workers[turn], batch);
                turn = (turn + 1) % workers.len();
                under_way += len;
                self.updates += len as u64;
            }
            if under_way == 0 {
                bar.finish_and_clear();
                return Ok(());
            }
            let mut timeout = CATCH_UP_TIMEOUT;
            while let Some(batch) = hub.receive(timeout) {
                anyhow::ensure!(batch.refused() == 0, "the hub refused records");
                under_way -= batch.len();
                self.latencies.push(u64::try_from(batch.took().as_nanos())?);
                self.free.push(batch);
                timeout = Duration::ZERO;
            }
            anyhow::ensure!(timeout.is_zero(), "updates are not acknowledged");
            interrupt::check()?;
            bar.set_position(self.updates);
        }
    }

    /// The next keys of a worker, with new values.
    fn fill(&mut self, turn: usize, len: usize) -> Batch {
        let new = || Batch::new(self.instance);
        let mut batch = self.free.pop().unwrap_or_else(new);
        batch.clear();
        let Turn { octets, next } = &mut self.keys[turn];
        let changes = self.value.len() - size_of::<u64>();
        for _ in 0..len {
            let key = &octets[*next..*next + self.key_len];
            *next = (*next + self.key_len) % octets.len();
            self.version += 1;
            self.value[changes..].copy_from_slice(&self.version.to_be_bytes());
            batch.push(key, &self.value);
        }
        batch
    }

    fn report(&mut self, report: &mut Report, acknowledged: Duration, covered: Duration) {
        let updates = count_f64(self.updates);
        for (name, span) in [
            ("updates acknowledged by the neighbour", acknowledged),
            ("updates acknowledged end to end", covered),
        ] {
            report.add(name, "1/s", Better::More, updates / span.as_secs_f64());
        }
        self.latencies.sort_unstable();
        report.add_latencies("batch to acknowledged", &self.latencies);
    }
}

/// What the hubs count, and what the kernel counts of them.
#[derive(Clone, Debug)]
struct Meters {
    used: Duration,
    /// Of the busiest worker of the last hub.
    workers_of_last: Vec<Duration>,
    turns: f64,
    retransmitted: f64,
}

impl Meters {
    fn read(hubs: &mut [Hub]) -> anyhow::Result<Self> {
        let mut meters = Self {
            used: Duration::ZERO,
            workers_of_last: Vec::new(),
            turns: 0.0,
            retransmitted: 0.0,
        };
        for hub in hubs {
            let usage = hub.usage()?;
            meters.used += usage.processor_time()?;
            meters.workers_of_last = usage.thread_times("worker-")?;
            let metrics = Metrics::scrape(hub.admin)?;
            meters.turns += metrics.sum("scsp_ring_enter_total")?;
            meters.retransmitted += metrics.sum("scsp_records_retransmitted_total")?;
        }
        Ok(meters)
    }

    fn since(&self, before: &Self) -> Self {
        let workers = self.workers_of_last.iter().zip(&before.workers_of_last);
        Self {
            used: self.used.saturating_sub(before.used),
            workers_of_last: workers
                .map(|(now, then)| now.saturating_sub(*then))
                .collect(),
            turns: self.turns - before.turns,
            retransmitted: self.retransmitted - before.retransmitted,
        }
    }

    fn report(&self, report: &mut Report, updates: u64) {
        let updates = count_f64(updates);
        let used = self.used.as_secs_f64() / updates * 1e6;
        let unit = "s per million updates";
        report.add("processor time of all", unit, Better::Less, used);
        // How many the last hub would take if nobody else used the processors.
        let busiest = self.workers_of_last.iter().max().copied();
        let busiest = busiest.unwrap_or_default().as_secs_f64();
        if busiest > 0.0 {
            let rate = updates / busiest;
            let name = "capacity of the last hub by its busiest worker";
            report.add(name, "1/s", Better::More, rate);
        }
        let thousands = updates / 1000.0;
        for (name, count) in [
            ("turns of all workers", self.turns),
            ("resent", self.retransmitted),
        ] {
            report.add(name, "per 1,000 updates", Better::Less, count / thousands);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is left is what was asked for less what is done, and time ends it too.
    #[test]
    fn work_ends() {
        let start = Instant::now();
        assert_eq!(Until::Count(5).left(3, start), 2);
        assert_eq!(Until::Count(5).left(5, start), 0);
        assert_eq!(
            Until::Span(Duration::from_hours(1)).left(1, start),
            u64::MAX
        );
        assert_eq!(Until::Span(Duration::ZERO).left(1, start), 0);
    }
}
