//! `clients`: SET and GET on one hub without neighbours.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::align::{name_system, octets_f64};
use crate::cli::{self, Topology};
use crate::hub::{Lab, Plan};
use crate::pipeline::Pipeline;
use crate::report::{Better, Report, per_mille};
use crate::work::{Maker, Numbers};
use crate::{interrupt, state, work};

/// Commands under way on each connection.
const DEPTHS: [usize; 3] = [1, 16, 64];

#[derive(Clone, Copy, Debug)]
enum Command {
    Set,
    Get,
}

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
    let mut report = Report::new(job, String::new());
    for _ in 0..options.output.runs {
        let mut lab = Lab::new(Plan {
            hubs: 1,
            topology: Topology::Line,
            options: &options.hub,
            boot_hold: Duration::ZERO,
        })?;
        once(options, &mut lab, &mut report).map_err(|error| lab.explain(error))?;
        lab.stop()?;
    }
    Ok(report)
}

fn once(options: &cli::Clients, lab: &mut Lab, report: &mut Report) -> anyhow::Result<()> {
    let hub = &mut lab.hubs[0];
    hub.start()?;
    hub.wait_ready()?;
    name_system(report, hub, &options.hub)?;
    work::load(hub.client, options.keys, 0, options.shape)?;
    for (command, name) in [(Command::Set, "SET"), (Command::Get, "GET")] {
        for depth in DEPTHS {
            let start = Instant::now();
            let mut latencies = drive(options, hub.client, command, depth)?;
            let took = start.elapsed().as_secs_f64();
            latencies.sort_unstable();
            let label = format!("{name}, pipeline {depth}");
            let count = octets_f64((latencies.len() * depth) as u64);
            report.add(&label, "1/s", Better::More, count / took);
            for (share_name, share) in [("p50", 500), ("p99", 990)] {
                let micros = octets_f64(per_mille(&latencies, share)) / 1000.0;
                report.add(
                    &format!("{label}, {share_name}"),
                    "us",
                    Better::Less,
                    micros,
                );
            }
        }
    }
    let state = state::of_hub(hub.control()?)?;
    report.equal &= state.records == u64::from(options.keys);
    Ok(())
}

/// Nanoseconds that each batch took.
fn drive(
    options: &cli::Clients,
    address: SocketAddr,
    command: Command,
    depth: usize,
) -> anyhow::Result<Vec<u64>> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..options.connections)
            .map(|number| scope.spawn(move || client(options, address, command, depth, number)))
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().expect("clients do not panic")?);
        }
        Ok(all)
    })
}

fn client(
    options: &cli::Clients,
    address: SocketAddr,
    command: Command,
    depth: usize,
    number: u32,
) -> anyhow::Result<Vec<u64>> {
    let mut maker = Maker::new(options.shape);
    let mut pipeline = Pipeline::open(address)?;
    let mut numbers = Numbers(u64::from(number));
    let mut latencies = Vec::new();
    let end = Instant::now() + Duration::from_secs(options.seconds);
    loop {
        for _ in 0..depth {
            let (key, value) = maker.record(numbers.below(options.keys), latencies.len() as u64);
            match command {
                Command::Set => pipeline.push(&[b"SET", key, value]),
                Command::Get => pipeline.push(&[b"GET", key]),
            }
        }
        let start = Instant::now();
        pipeline.flush()?;
        latencies.push(u64::try_from(start.elapsed().as_nanos())?);
        interrupt::check()?;
        if start >= end {
            return Ok(latencies);
        }
    }
}
