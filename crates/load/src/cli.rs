//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Load tests of scspd with real hubs on loopback, and the same work on Redis and BIRD.
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
    /// How long a cold server takes to get a copy of what a full one holds
    Align(Align),
    /// Updates originated inside one hub until its neighbours have acknowledged them
    Flood(Flood),
    /// SET and GET by many clients, and how soon a write can be read at the other server
    Clients(Clients),
    /// Writes, deletes and expiries at all hubs while one after the other is killed
    Soak(Soak),
    /// Medians and ratios of JSON results as Markdown
    Summary(Summary),
    /// The targets of the project against JSON results, as Markdown
    Targets(Targets),
}

/// Where the results go.
#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Repeat the test on fresh servers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) runs: u32,
    /// Keep these results apart from others of the same test
    #[arg(long, default_value = "")]
    pub(crate) label: String,
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
    /// A further key of the hubs' configuration, its value as TOML; SECTION is server, link, group,
    /// peer or io
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = parse_set)]
    pub(crate) set: Vec<Set>,
}

/// One key of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) section: Section,
    /// `KEY = VALUE`.
    pub(crate) line: String,
}

/// Where a further key goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    Server,
    Link,
    Group,
    Peer,
    Io,
}

fn parse_set(text: &str) -> Result<Set, String> {
    let parts = text.split_once('=').and_then(|(name, value)| {
        let (section, key) = name.trim().split_once('.')?;
        Some((section, key.trim(), value.trim()))
    });
    let (section, key, value) = parts.ok_or("expected SECTION.KEY=VALUE")?;
    Ok(Set {
        section: Section::from_str(section, false)?,
        line: format!("{key} = {value}"),
    })
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

/// Other programs that do the same work.
#[derive(Clone, Debug, Args)]
pub(crate) struct Others {
    /// How a Redis replica gets its first copy
    #[arg(long, value_enum, default_value_t = Sync::Diskless)]
    pub(crate) redis_sync: Sync,
    /// The redis-server program
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    pub(crate) redis: PathBuf,
    /// The bird program
    #[arg(long, value_name = "PATH", default_value = "bird")]
    pub(crate) bird: PathBuf,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Copier {
    Scspd,
    /// Redis replication
    Redis,
    /// BIRD, routes with identical attributes by iBGP
    BirdBgp,
    /// BIRD, external LSAs by OSPF; needs root for two network namespaces
    BirdOspf,
}

#[derive(Debug, Args)]
pub(crate) struct Align {
    /// What does the work
    #[arg(long, value_enum, default_value_t = Copier::Scspd)]
    pub(crate) server: Copier,
    /// Records at the full server
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
    pub(crate) others: Others,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Flood {
    /// Hubs, in a line; updates enter at one end, which is embedded in this program
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=8))]
    pub(crate) hubs: u8,
    /// Originate for this many seconds
    #[arg(long, default_value_t = 5, conflicts_with = "count")]
    pub(crate) seconds: u64,
    /// Originate this many updates instead
    #[arg(long = "updates", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Keys that are written, in turn
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keys: u32,
    /// Records originated together
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) batch: u32,
    /// Records under way
    #[arg(long, default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub(crate) window: u32,
    /// Authenticate every packet
    #[arg(long, value_enum)]
    pub(crate) auth: Option<Algorithm>,
    /// Worker threads of the hub at the far end, if not as of all
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) receiver_workers: Option<u16>,
    /// Count the system calls of both ends with strace, which slows them down
    #[arg(long)]
    pub(crate) strace: bool,
    #[command(flatten)]
    pub(crate) shape: Shape,
    #[command(flatten)]
    pub(crate) hub: HubOptions,
    #[command(flatten)]
    pub(crate) output: Output,
}

impl Flood {
    pub(crate) const fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// Algorithms of packet authentication, by their names in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Algorithm {
    #[value(name = "hmac-md5-128")]
    HmacMd5,
    #[value(name = "hmac-sha-256-128")]
    HmacSha256,
    #[value(name = "hmac-sha-512-256")]
    HmacSha512,
    #[value(name = "blake3-256")]
    Blake3,
}

impl Algorithm {
    /// As the configuration has it.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::HmacMd5 => "hmac-md5-128",
            Self::HmacSha256 => "hmac-sha-256-128",
            Self::HmacSha512 => "hmac-sha-512-256",
            Self::Blake3 => "blake3-256",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyServer {
    Scspd,
    Redis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientCommand {
    Set,
    Get,
}

#[derive(Debug, Args)]
pub(crate) struct Clients {
    /// What serves; a second server gets every write
    #[arg(long, value_enum, default_value_t = KeyServer::Scspd)]
    pub(crate) server: KeyServer,
    /// Commands of each kind and pipeline depth
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) commands: u64,
    /// Keys, picked at random
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keys: u32,
    /// Connections, served by one thread
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) connections: u32,
    /// Commands under way on each connection, one test for each number
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1], value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) pipelines: Vec<u32>,
    /// Kinds of commands
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [ClientCommand::Set, ClientCommand::Get])]
    pub(crate) kinds: Vec<ClientCommand>,
    /// Writes at the first server that are then asked for at the second until they are there, one
    /// after the other; 0: none
    #[arg(long, default_value_t = 2000)]
    pub(crate) probes: u32,
    #[command(flatten)]
    pub(crate) shape: Shape,
    #[command(flatten)]
    pub(crate) hub: HubOptions,
    #[command(flatten)]
    pub(crate) others: Others,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// How long clients write
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "seconds")]
    pub(crate) minutes: u64,
    /// The same in seconds
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: Option<u64>,
    /// Hubs
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=8))]
    pub(crate) hubs: u8,
    /// Who is whose neighbour
    #[arg(long, value_enum, default_value_t = Topology::Line)]
    pub(crate) topology: Topology,
    /// Seconds between two kills; 0: none
    #[arg(long, default_value_t = 20)]
    pub(crate) kill_every: u64,
    /// Seconds between two comparisons of all hubs, for which writing pauses; 0: only at the end
    #[arg(long, default_value_t = 60)]
    pub(crate) check_every: u64,
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

impl Soak {
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(self.minutes * 60))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Topology {
    Line,
    Mesh,
}

impl Topology {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Mesh => "mesh",
        }
    }
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

#[derive(Debug, Args)]
pub(crate) struct Targets {
    /// Results written with --json, by the tests or by summary
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Write the table to this file as JSON as well
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a key of the configuration is taken with any value, and a wrong section is refused.
    #[test]
    fn further_keys_name_their_section() {
        let set = parse_set(r#"io.busy_poll = "50us""#).unwrap();
        assert_eq!(set.section, Section::Io);
        assert_eq!(set.line, r#"busy_poll = "50us""#);
        assert!(parse_set("nowhere.key=1").is_err());
        assert!(parse_set("io.key").is_err());
        assert!(parse_set("io=1").is_err());
    }

    /// Goal: the command line is well-formed.
    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    /// Goal: what goes into configurations is what the command line calls it.
    #[test]
    fn labels_are_the_names_on_the_command_line() {
        fn name(value: &impl ValueEnum) -> String {
            let value = value.to_possible_value().expect("no value is skipped");
            value.get_name().to_owned()
        }
        for it in Algorithm::value_variants() {
            assert_eq!(name(it), it.label());
        }
        for it in Backend::value_variants() {
            assert_eq!(name(it), it.label());
        }
        for it in Topology::value_variants() {
            assert_eq!(name(it), it.label());
        }
        for it in Sync::value_variants() {
            assert_eq!(name(it), it.label());
        }
    }
}
