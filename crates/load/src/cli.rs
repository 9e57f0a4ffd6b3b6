//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Load tests of scspd with real hubs on loopback.
///
/// Every test checks at the end that all servers hold the same state, and exits with 1 when they do not.
#[derive(Debug, Parser)]
#[command(name = "scsp-load", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// How long a cold hub takes to align with a full one
    Align(Align),
    /// Updates at one hub until its neighbours have acknowledged them
    Flood(Flood),
    /// SET and GET on one hub
    Clients(Clients),
    /// Writes, deletes and expiries at all hubs while one after the other is killed
    Soak(Soak),
    /// The work of align, done by Redis replication
    RedisAlign(RedisAlign),
    /// The work of flood, done by Redis replication
    RedisFlood(RedisFlood),
    /// Medians and ratios of JSON results as Markdown
    Summary(Summary),
}

/// Where the results go.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Repeat the test on fresh servers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) runs: u32,
    /// Write the results to this file as well
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// How hubs are run.
#[derive(Clone, Debug, Args)]
pub(crate) struct HubOptions {
    /// The scspd program; default: the one beside scsp-load
    #[arg(long, value_name = "PATH")]
    pub(crate) scspd: Option<PathBuf>,
    /// I/O backend of the hubs
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub(crate) backend: Backend,
    /// Worker threads of each hub; 0: one per core
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=256))]
    pub(crate) workers: u16,
    /// Size of the links' IP packets; 65535 gives the largest datagrams
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(576..=65535))]
    pub(crate) mtu: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    Auto,
    #[value(name = "io_uring")]
    IoUring,
    Poll,
}

impl Backend {
    /// As the configuration has it.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::IoUring => "io_uring",
            Self::Poll => "poll",
        }
    }
}

/// Shape of the records.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Shape {
    /// Octets of a key
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(8..=255))]
    pub(crate) key_octets: u16,
    /// Octets of a value
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(16..=60000))]
    pub(crate) value_octets: u16,
}

#[derive(Debug, Args)]
pub(crate) struct Align {
    /// Records at the full hub
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) records: u32,
    /// Both hubs hold the records, then miss each other while this many are written anew at one
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) differences: Option<u32>,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 300)]
    pub(crate) timeout: u64,
    #[command(flatten)]
    pub(crate) shape: Shape,
    #[command(flatten)]
    pub(crate) hub: HubOptions,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct RedisAlign {
    /// Keys at the primary
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) records: u32,
    /// How the replica gets its first copy
    #[arg(long, value_enum, default_value_t = Sync::Default)]
    pub(crate) sync: Sync,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 300)]
    pub(crate) timeout: u64,
    #[command(flatten)]
    pub(crate) shape: Shape,
    /// The redis-server program
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    pub(crate) redis: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sync {
    /// As the server's own defaults have it
    Default,
    /// Through a file on disk
    Disk,
    /// From memory to memory, without delay
    Diskless,
}

impl Sync {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Disk => "disk",
            Self::Diskless => "diskless",
        }
    }
}

/// Steady updates.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Updates {
    /// Write for this many seconds
    #[arg(long, default_value_t = 5, conflicts_with = "count")]
    pub(crate) seconds: u64,
    /// Write this many updates instead
    #[arg(long = "updates", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Keys that are written, at random
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keys: u32,
    /// Connections that write
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) connections: u32,
    /// Updates under way on each connection
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) pipeline: u32,
    /// Pause between latency probes, milliseconds
    #[arg(long, default_value_t = 10)]
    pub(crate) probe_pause_ms: u64,
    /// Measure no latency, which takes processor time from the servers
    #[arg(long)]
    pub(crate) no_probe: bool,
    #[command(flatten)]
    pub(crate) shape: Shape,
}

impl Updates {
    pub(crate) const fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Flood {
    /// Hubs, in a line; updates enter at one end, latency is measured to the other
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=8))]
    pub(crate) hubs: u8,
    #[command(flatten)]
    pub(crate) updates: Updates,
    #[command(flatten)]
    pub(crate) hub: HubOptions,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct RedisFlood {
    #[command(flatten)]
    pub(crate) updates: Updates,
    /// The redis-server program
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    pub(crate) redis: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Clients {
    /// Seconds for each command and pipeline depth
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,
    /// Keys, picked at random
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keys: u32,
    /// Connections
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) connections: u32,
    #[command(flatten)]
    pub(crate) shape: Shape,
    #[command(flatten)]
    pub(crate) hub: HubOptions,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// How long clients write
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) minutes: u64,
    /// Hubs
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=8))]
    pub(crate) hubs: u8,
    /// Who is whose neighbour
    #[arg(long, value_enum, default_value_t = Topology::Line)]
    pub(crate) topology: Topology,
    /// Seconds between two kills; 0: none
    #[arg(long, default_value_t = 20)]
    pub(crate) kill_every: u64,
    /// Keys, picked at random
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keys: u32,
    /// Writes a second at each hub; 0: as many as it takes
    #[arg(long, default_value_t = 2000)]
    pub(crate) rate: u32,
    /// Seed of keys and commands
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Give up when the hubs are not equal so many seconds after the last write
    #[arg(long, default_value_t = 120)]
    pub(crate) timeout: u64,
    #[command(flatten)]
    pub(crate) shape: Shape,
    #[command(flatten)]
    pub(crate) hub: HubOptions,
    /// Write the results to this file as well
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Topology {
    Line,
    Mesh,
}

#[derive(Debug, Args)]
pub(crate) struct Summary {
    /// Results written with --json; the runs of one job and system are put together
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Write all of them to this file as well
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}
