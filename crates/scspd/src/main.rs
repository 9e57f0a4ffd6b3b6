//! `scspd`: command line of the daemon.

#![forbid(unsafe_code)]

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use scspd::config::{self, Config};
use scspd::daemon::Daemon;
use scspd::demo::{self, Topology};

/// Keeps the client caches of a group of servers identical (SCSP, RFC 2334).
///
/// Without arguments it runs a hub on embedded defaults: SCSP on 127.0.0.1:2334/udp, the Redis
/// protocol on 127.0.0.1:6390, metrics on <http://127.0.0.1:9144>.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Validate the configuration, print the effective one, and exit: 0 valid, 2 not.
    #[arg(long)]
    check: bool,
    /// Print the embedded default configuration and exit.
    #[arg(long, conflicts_with_all = ["config", "check"])]
    print_default_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run several hubs in this process, on loopback, over real sockets.
    Demo {
        /// How many hubs.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
        hubs: u8,
        /// Who is whose neighbour.
        #[arg(long, value_enum, default_value_t = Shape::Line)]
        topology: Shape,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Shape {
    /// Each with the next.
    Line,
    /// Each with each.
    Mesh,
    /// The first with all others.
    Star,
}

/// Exit status for a failed start or run.
const FAILED: u8 = 1;
/// Exit status for bad usage or configuration.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Demo { hubs, topology }) = arguments.command {
        let topology = match topology {
            Shape::Line => Topology::Line,
            Shape::Mesh => Topology::Mesh,
            Shape::Star => Topology::Star,
        };
        scspd::log::start(&config::Log {
            level: "warn".to_owned(),
            format: config::LogFormat::Text,
        });
        return finish(demo::run(usize::from(hubs), topology));
    }
    if arguments.print_default_config {
        return print(config::default_text());
    }
    let config = match arguments
        .config
        .as_deref()
        .map_or_else(|| Ok(Config::default()), Config::load)
    {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(USAGE);
        }
    };
    if arguments.check {
        for warning in config.warnings() {
            eprintln!("warning: {warning}");
        }
        return print(&config.to_toml());
    }
    scspd::log::start(&config.log);
    finish(run(config))
}

fn run(config: Config) -> anyhow::Result<()> {
    let daemon = Daemon::start(config)?;
    // Whoever started it may have closed the output; the hub runs all the same.
    let _ = std::io::stdout().write_all(daemon.greeting().as_bytes());
    // Without a service manager there is nobody to notify.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    daemon.wait()?;
    Ok(())
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scspd: {error}");
            ExitCode::from(FAILED)
        }
    }
}
