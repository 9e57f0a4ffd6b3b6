//! `scsp-load`, load tests of `scspd`: it starts real hubs on loopback, gives them work, measures, and checks
//! that all of them hold the same state at the end. Redis and BIRD do the same work where they can.
//!
//! | file | holds |
//! |---|---|
//! | `cli.rs` | the command line |
//! | `interrupt.rs`, `process.rs` | child processes: clean end, memory, processor time |
//! | `hub.rs`, `redis_server.rs`, `bird.rs` | servers: configuration, start, questions to them |
//! | `pair.rs` | what all pairs of servers have in common |
//! | `http.rs`, `connection.rs`, `pipeline.rs`, `crowd.rs` | metrics; single commands; many; many by many |
//! | `strace.rs` | system calls |
//! | `work.rs`, `state.rs` | records and their loading; comparison of what servers hold |
//! | `align.rs`, `flood.rs`, `clients.rs`, `soak.rs` | the load tests |
//! | `report.rs`, `summary.rs`, `targets.rs` | results as table, JSON, Markdown; what they were to be |
#![forbid(unsafe_code)]

mod align;
mod bird;
mod cli;
mod clients;
mod connection;
mod crowd;
mod flood;
mod http;
mod hub;
mod interrupt;
mod pair;
mod pipeline;
mod process;
mod redis_server;
mod report;
mod soak;
mod state;
mod strace;
mod summary;
mod targets;
mod wait;
mod work;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::report::Report;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = interrupt::watch().and_then(|()| run(&cli.command));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupt::came() => {
            eprintln!("scsp-load: interrupted");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("scsp-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    let (report, json) = match command {
        Command::Align(options) => (align::run(options)?, &options.output.json),
        Command::Flood(options) => (flood::run(options)?, &options.output.json),
        Command::Clients(options) => (clients::run(options)?, &options.output.json),
        Command::Soak(options) => (soak::run(options)?, &options.json),
        Command::Summary(options) => return summary::run(options),
        Command::Targets(options) => return targets::run(options),
    };
    print!("{report}");
    if let Some(path) = json {
        write_json(path, &report)?;
    }
    anyhow::ensure!(report.equal, "the servers do not hold the same state");
    Ok(())
}

fn write_json(path: &Path, report: &Report) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}
