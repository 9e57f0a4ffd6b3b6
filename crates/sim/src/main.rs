//! `scsp-sim`: runs seeds of the simulator, or replays one.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use scsp_sim::{Failure, Options, Plan, Scenario, Shrunk, Stats, Topology, run, shrink};

/// Seeded simulator of hubs under faults.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Number of seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// First seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Stop after so many minutes, however many seeds are left.
    #[arg(long)]
    minutes: Option<u64>,
    /// Replay this one seed.
    #[arg(long, conflicts_with_all = ["seeds", "first", "minutes"])]
    seed: Option<u64>,
    /// Print every event of the replay.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Leave out what the failure does not need, then replay.
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Threads; 0: one per core.
    #[arg(long, default_value_t = 0)]
    jobs: usize,
    /// Every world has this topology.
    #[arg(long)]
    topology: Option<Topology>,
    /// Every world plays this scenario.
    #[arg(long)]
    scenario: Option<Scenario>,
}

thread_local! {
    /// The seed under way, for panics.
    static SEED: Cell<u64> = const { Cell::new(0) };
}

impl Arguments {
    fn plan(&self, seed: u64) -> Plan {
        SEED.set(seed);
        Plan::new(seed, self.topology, self.scenario)
    }

    /// The options that replaying a seed needs beside it.
    fn overrides(&self) -> String {
        let name = |value: Option<clap::builder::PossibleValue>| {
            value.map_or(String::new(), |value| value.get_name().to_owned())
        };
        let topology = self
            .topology
            .map(|it| format!(" --topology {}", name(it.to_possible_value())));
        let scenario = self
            .scenario
            .map(|it| format!(" --scenario {}", name(it.to_possible_value())));
        [topology, scenario].into_iter().flatten().collect()
    }
}

/// The command that plays a seed again.
fn replay_command(seed: u64, overrides: &str) -> String {
    format!("cargo run --release -p scsp-sim -- --seed {seed}{overrides}")
}

/// A campaign ends after so many failures.
const FAILURES_MAX: usize = 20;
/// So many of them are shrunk.
const SHRUNK_MAX: usize = 3;

/// What all threads found together.
#[derive(Default)]
struct Found {
    stats: Stats,
    passed: u64,
    failed: Vec<(u64, Failure)>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    name_seed_in_panics(arguments.overrides());
    match arguments.seed {
        Some(seed) => replay(&arguments, seed),
        None => campaign(&arguments),
    }
}

/// A panic of a core is a failure like any other. Release builds end with it, so its seed is said
/// here.
fn name_seed_in_panics(overrides: String) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let seed = SEED.get();
        eprintln!(
            "seed {seed} panicked\nreplay: {}",
            replay_command(seed, &overrides)
        );
        report(panic);
    }));
}

fn replay(arguments: &Arguments, seed: u64) -> ExitCode {
    let mut plan = arguments.plan(seed);
    if arguments.shrink
        && let Some(shrunk) = shrink(&plan)
    {
        print_shrunk(&shrunk);
        plan = shrunk.plan;
    }
    println!("{plan:#?}");
    let (stats, result) = run(
        plan,
        Options {
            trace: arguments.trace,
            sabotage: None,
        },
    );
    println!("{stats}\nhash         {:016x}", stats.hash);
    match result {
        Ok(()) => {
            println!("1 passed, 0 failed");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("seed {seed} failed: {failure}\n0 passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}

fn print_shrunk(shrunk: &Shrunk) {
    let (runs, least) = (shrunk.runs, shrunk.is_minimal);
    let least = if least { "" } else { ", given up early" };
    println!("shrunk in {runs} runs{least}: {}", shrunk.failure);
    print!("{}", shrunk.plan.schedule());
}

fn campaign(arguments: &Arguments) -> ExitCode {
    let started = Instant::now();
    let jobs = match arguments.jobs {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        jobs => jobs,
    };
    let ends = arguments
        .minutes
        .map(|minutes| started + Duration::from_secs(60 * minutes));
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let found = Mutex::new(Found::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let offset = next.fetch_add(1, Ordering::Relaxed);
                    let late = ends.is_some_and(|ends| Instant::now() >= ends);
                    if offset >= arguments.seeds || late || stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let seed = arguments.first + offset;
                    let (stats, result) = run(arguments.plan(seed), Options::default());
                    let mut found = found.lock().expect("runs do not panic");
                    found.stats.add(&stats);
                    match result {
                        Ok(()) => found.passed += 1,
                        Err(failure) => {
                            eprintln!("seed {seed} failed: {failure}");
                            found.failed.push((seed, failure));
                            let enough = found.failed.len() >= FAILURES_MAX;
                            stop.store(enough, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    eprintln!(
        "took {:.1} s with {jobs} jobs",
        started.elapsed().as_secs_f64()
    );
    report(arguments, found.into_inner().expect("runs do not panic"))
}

/// Prints what was found: the same for the same seeds, whatever the number of jobs.
fn report(arguments: &Arguments, mut found: Found) -> ExitCode {
    println!("{}", found.stats);
    println!("hash         {:016x}", found.stats.hash);
    found.failed.sort_by_key(|(seed, _)| *seed);
    for (at, (seed, failure)) in found.failed.iter().enumerate() {
        println!("seed {seed} failed: {failure}");
        println!("replay: {}", replay_command(*seed, &arguments.overrides()));
        if at < SHRUNK_MAX
            && let Some(shrunk) = shrink(&arguments.plan(*seed))
        {
            print_shrunk(&shrunk);
        }
    }
    println!("{} passed, {} failed", found.passed, found.failed.len());
    if found.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
