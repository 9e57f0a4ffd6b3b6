//! `clients`: SET and GET in the shape of redis-benchmark, while a second server gets every write;
//! then how soon a write at the first can be read at the second.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use redis::Value;

use crate::cli::{self, ClientCommand, KeyServer};
use crate::connection::Connection;
use crate::crowd::{Crowd, Work};
use crate::hub::{Lab, Plan};
use crate::pair::Pair as _;
use crate::process::Usage;
use crate::redis_server::RedisPair;
use crate::report::{Better, Report, count_f64};
use crate::{interrupt, state, work};

/// How long a start, or the end of replication, may take.
const CATCH_UP_TIMEOUT: Duration = Duration::from_mins(2);
/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_mins(1);
const PROBE_KEY: &[u8] = b"probe";

/// All runs.
pub(crate) fn run(options: &cli::Clients) -> anyhow::Result<Report> {
    let cli::Shape {
        key_octets,
        value_octets,
    } = options.shape;
    let job = format!(
        "clients: {} keys of {key_octets}+{value_octets} octets, {} connections",
        options.keys, options.connections
    );
    let mut report = Report::new(job, String::new())
        .setting("test", &"clients")
        .setting("label", &options.output.label)
        .setting("records", &options.keys)
        .setting("connections", &options.connections)
        .setting("commands", &options.commands);
    for _ in 0..options.output.runs {
        match options.server {
            KeyServer::Scspd => {
                let mut lab = Lab::new(Plan::line(2, &options.hub))?;
                once(options, &mut lab, &mut report).map_err(|error| lab.explain(error))?;
                lab.stop()?;
            }
            KeyServer::Redis => {
                let others = &options.others;
                let mut pair = Box::new(RedisPair::new(&others.redis, others.redis_sync)?);
                once(options, &mut *pair, &mut report)?;
                pair.stop()?;
            }
        }
    }
    Ok(report)
}

/// Two servers of the Redis protocol; what is written at the first also comes to the second.
trait Replicated {
    /// Starts both and waits until the second follows the first.
    fn start(&mut self, report: &mut Report) -> anyhow::Result<()>;
    fn addresses(&mut self) -> anyhow::Result<[SocketAddr; 2]>;
    fn usages(&mut self) -> anyhow::Result<[Usage; 2]>;
    /// Waits until the second has everything.
    fn catch_up(&mut self) -> anyhow::Result<()>;
    fn are_equal(&mut self) -> anyhow::Result<bool>;
}

impl Replicated for Lab {
    fn start(&mut self, report: &mut Report) -> anyhow::Result<()> {
        Self::start(self, CATCH_UP_TIMEOUT)?;
        self.hubs[0].describe(report)
    }

    fn addresses(&mut self) -> anyhow::Result<[SocketAddr; 2]> {
        Ok([self.hubs[0].client, self.hubs[1].client])
    }

    fn usages(&mut self) -> anyhow::Result<[Usage; 2]> {
        Ok([self.hubs[0].usage()?, self.hubs[1].usage()?])
    }

    fn catch_up(&mut self) -> anyhow::Result<()> {
        state::wait_quiet(&mut self.hubs, CATCH_UP_TIMEOUT)
    }

    fn are_equal(&mut self) -> anyhow::Result<bool> {
        state::settle(&mut self.hubs, CATCH_UP_TIMEOUT)
    }
}

impl Replicated for RedisPair<'_> {
    fn start(&mut self, report: &mut Report) -> anyhow::Result<()> {
        self.start_source(report)?;
        self.start_copy()?;
        self.wait_copied(0, CATCH_UP_TIMEOUT)
    }

    fn addresses(&mut self) -> anyhow::Result<[SocketAddr; 2]> {
        Ok([self.primary()?.address, self.replica()?.address])
    }

    fn usages(&mut self) -> anyhow::Result<[Usage; 2]> {
        Ok([self.source()?, self.copy()?])
    }

    fn catch_up(&mut self) -> anyhow::Result<()> {
        self.wait_caught_up(CATCH_UP_TIMEOUT)
    }

    fn are_equal(&mut self) -> anyhow::Result<bool> {
        self.catch_up()?;
        crate::pair::Pair::are_equal(self, CATCH_UP_TIMEOUT)
    }
}

fn once(
    options: &cli::Clients,
    servers: &mut dyn Replicated,
    report: &mut Report,
) -> anyhow::Result<()> {
    servers.start(report)?;
    let [near, far] = servers.addresses()?;
    work::load(near, options.keys, 0, options.shape)?;
    servers.catch_up()?;
    for kind in &options.kinds {
        for pipeline in &options.pipelines {
            drive(options, servers, (*kind, *pipeline), near, report)?;
        }
    }
    if options.probes > 0 {
        let latencies = probe(options.probes, near, far)?;
        report.add_latencies("write to far read", &latencies);
    }
    report.equal &= servers.are_equal()?;
    Ok(())
}

/// One kind of command at one depth; writes count when the second server has them.
fn drive(
    options: &cli::Clients,
    servers: &mut dyn Replicated,
    (kind, pipeline): (ClientCommand, u32),
    near: SocketAddr,
    report: &mut Report,
) -> anyhow::Result<()> {
    let used = used(servers)?;
    let start = Instant::now();
    let mut crowd = Crowd::connect(near, options.connections, pipeline)?;
    let work = Work {
        kind,
        commands: options.commands,
        keys: options.keys,
        shape: options.shape,
    };
    let mut latencies = crowd.drive(&work)?;
    let replied = start.elapsed().as_secs_f64();
    servers.catch_up()?;
    let covered = start.elapsed().as_secs_f64();
    let used = self::used(servers)?.saturating_sub(used).as_secs_f64();

    let name = match kind {
        ClientCommand::Set => "SET",
        ClientCommand::Get => "GET",
    };
    let label = format!("{name}, pipeline {pipeline}");
    let commands = count_f64(options.commands);
    report.add(&label, "1/s", Better::More, commands / replied);
    if kind == ClientCommand::Set {
        let label = format!("{label}, replicated");
        report.add(&label, "1/s", Better::More, commands / covered);
    }
    latencies.sort_unstable();
    report.add_latencies(&format!("{label}, reply"), &latencies);
    let label = format!("{label}, processor time of both");
    let used = used / commands * 1e6;
    report.add(&label, "s per million", Better::Less, used);
    Ok(())
}

fn used(servers: &mut dyn Replicated) -> anyhow::Result<Duration> {
    let [near, far] = servers.usages()?;
    Ok(near.processor_time()? + far.processor_time()?)
}

/// Writes a value at `near` and asks for it at `far` until it is there, again and again; sorted
/// nanoseconds.
fn probe(probes: u32, near: SocketAddr, far: SocketAddr) -> anyhow::Result<Vec<u64>> {
    let bar = work::progress(u64::from(probes), "probing");
    let (mut near, mut far) = (Connection::open(near)?, Connection::open(far)?);
    let mut latencies = Vec::new();
    for version in 0..probes {
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
        interrupt::check()?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    latencies.sort_unstable();
    Ok(latencies)
}
