//! The configuration of a hub: TOML in, checked values out.
//!
//! `raw` walks the document and keeps places and findings, `values` reads single values,
//! `sections` knows the keys and their defaults, `check` looks for clashes, `print` writes back.
//! Functions that do not exist yet are refused as "not supported yet", never ignored.

mod check;
mod defaults;
mod duration;
mod error;
mod host;
mod print;
mod raw;
mod sections;
#[cfg(test)]
mod tests;
mod values;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use scsp_wire::{FamilyId, ProtocolId, ServerGroupId, ServerId};
use toml::de::DeTable;

pub use error::{ConfigError, ConfigErrors, ERRORS_MAX, Position};
use raw::Notes;

/// Everything a hub is told at its start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The hub itself.
    pub server: Server,
    /// Ways to reach peers, in the order of the file; never empty.
    pub links: Vec<Link>,
    /// Instances, in the order of the file, which is that of the RESP databases; never empty.
    pub groups: Vec<Group>,
    /// Client interface.
    pub client: Client,
    /// Admin interface.
    pub admin: Admin,
    /// I/O backend.
    pub io: Io,
    /// Logging.
    pub log: Log,
}

/// `[server]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Server {
    /// LSID.
    pub id: ServerId,
    /// Directory of the snapshots; always `None` so far.
    pub data_dir: Option<PathBuf>,
    /// Worker threads; 0: one per core.
    pub workers: usize,
    /// Whether each worker stays on its core.
    pub pin: bool,
}

/// `[link.NAME]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// Unique name.
    pub name: String,
    /// What it runs over.
    pub kind: LinkKind,
    /// Octets of the largest SCSP packet sent on it, D-14 aside.
    pub packet_limit: usize,
    /// Octets of the largest IP packet, headers included.
    pub mtu: u16,
}

/// What a link runs over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkKind {
    /// Unicast datagrams, one SCSP packet each.
    Udp {
        /// Own address.
        bind: SocketAddr,
    },
}

/// `[[group]]`: one instance, that is one (PID, SGID) pair. Timers and limits: docs/configuration.md.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Group {
    /// Unique name.
    pub name: String,
    /// PID.
    pub protocol: ProtocolId,
    /// SGID.
    pub id: ServerGroupId,
    /// Family of the Hellos; always 0 (none) so far.
    pub family: FamilyId,
    /// `HelloInterval` in seconds, not 0.
    pub hello_interval_secs: u16,
    /// `DeadFactor`, not 0.
    pub dead_factor: u16,
    /// `CAReXmtInterval`.
    pub ca_retransmit: Duration,
    /// `CSUSReXmtInterval`.
    pub csus_retransmit: Duration,
    /// `CSUReXmtInterval`.
    pub csu_retransmit: Duration,
    /// `CSUReXmtMax`: resends of a record before an abnormal event.
    pub csu_retransmit_max: u32,
    /// `CSUSReXmtMax`: resends of a solicitation before an abnormal event.
    pub csus_retransmit_max: u32,
    /// Hop count of originated records (CSU-16), not 0.
    pub hop_count: u16,
    /// Added to the sequence after a restart (CSU-20), not 0.
    pub restart_increment: u32,
    /// Boot hold (D-09).
    pub boot_hold: Duration,
    /// How long purges and tombstones are kept (N-04, K-02).
    pub purge_retention: Duration,
    /// What a malformed packet of a peer causes (D-02).
    pub abnormal_events: AbnormalEvents,
    /// DCSs.
    pub peers: Vec<Peer>,
}

/// `[[group.peer]]`: one DCS of a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Where it is; unique in the group, of the family of its link.
    pub address: SocketAddr,
    /// Index into [`Config::links`].
    pub link: usize,
    /// The only id accepted from it (D-11); `None`: any.
    pub expected_id: Option<ServerId>,
    /// Records per CSU Request; 0: as many as fit.
    pub max_records: u16,
}

/// What a malformed packet of a known DCS causes (D-02).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AbnormalEvents {
    /// HFSM to Waiting, by the letter (H-11).
    Reset,
    /// Dropped and counted only.
    Ignore,
}

/// `[client]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Client {
    /// Where clients connect; may be empty.
    pub listen: Vec<ListenAddress>,
    /// Connections served at once.
    pub max_connections: usize,
}

/// One address of the client interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ListenAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// Unix stream socket, absolute path.
    Unix(PathBuf),
}

/// `[admin]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admin {
    /// Where HTTP is served.
    pub listen: SocketAddr,
}

/// `[io]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Io {
    /// Which backend serves the workers.
    pub backend: BackendChoice,
}

/// Which I/O backend to use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BackendChoice {
    /// `io_uring`, or `poll` where that is missing or forbidden.
    Auto,
    /// `io_uring` or no start.
    IoUring,
    /// epoll.
    Poll,
}

/// `[log]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Log {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// Form of a line.
    pub format: LogFormat,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The commented default configuration; reading it gives the same as reading an empty file.
pub fn default_text() -> &'static str {
    defaults::TEXT
}

impl Config {
    /// Reads and checks a file. All findings are returned at once.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let name = path.display().to_string();
        let refuse = |message| ConfigErrors::whole_file(&name, None, message);
        let mut octets = Vec::new();
        File::open(path)
            .and_then(|file| {
                file.take(defaults::FILE_LEN_MAX + 1)
                    .read_to_end(&mut octets)
            })
            .map_err(|error| refuse(format!("cannot be read: {error}")))?;
        if octets.len() as u64 > defaults::FILE_LEN_MAX {
            return Err(refuse(format!(
                "expected at most {} octets",
                defaults::FILE_LEN_MAX
            )));
        }
        match String::from_utf8(octets) {
            Ok(text) => Self::parse(&name, &text, host::default_server_id),
            Err(error) => {
                let valid_len = error.utf8_error().valid_up_to();
                let valid = String::from_utf8_lossy(&error.as_bytes()[..valid_len]);
                let position = Position::of(&valid, valid_len);
                Err(ConfigErrors::whole_file(
                    &name,
                    Some(position),
                    "expected UTF-8".to_owned(),
                ))
            }
        }
    }

    /// Reads and checks a text; `name` stands for it in errors, `default_id` is asked when the
    /// text names no server id.
    pub fn parse(
        name: &str,
        text: &str,
        default_id: impl FnOnce() -> ServerId,
    ) -> Result<Self, ConfigErrors> {
        let document = DeTable::parse(text).map_err(|error| {
            let position = error.span().map(|span| Position::of(text, span.start));
            let message = error
                .message()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            ConfigErrors::whole_file(name, position, format!("not TOML: {message}"))
        })?;
        let mut notes = Notes::default();
        let config = sections::read(&mut notes, document.get_ref(), default_id);
        if notes.is_clean() {
            check::check(&config, &mut notes);
        }
        match notes.into_errors(name, text) {
            None => Ok(config),
            Some(errors) => Err(errors),
        }
    }

    /// The configuration of an empty file for the hub `id`.
    pub fn with_id(id: ServerId) -> Self {
        Self::parse("default", "", || id).expect("the defaults are valid")
    }
}

impl Default for Config {
    /// The configuration of an empty file on this machine.
    fn default() -> Self {
        Self::with_id(host::default_server_id())
    }
}

impl Link {
    /// A link over unicast UDP; the packet limit is what `mtu` leaves after IP and UDP headers.
    pub fn udp(name: &str, bind: SocketAddr, mtu: u16) -> Self {
        let headers_len = if bind.is_ipv4() { 28 } else { 48 };
        Self {
            name: name.to_owned(),
            kind: LinkKind::Udp { bind },
            packet_limit: usize::from(mtu).saturating_sub(headers_len),
            mtu,
        }
    }

    /// Own address on the link.
    pub fn bind(&self) -> SocketAddr {
        let LinkKind::Udp { bind } = self.kind;
        bind
    }
}

impl fmt::Display for ListenAddress {
    /// As in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl AbnormalEvents {
    const NAMES: [(&'static str, Self); 2] = [("reset", Self::Reset), ("ignore", Self::Ignore)];

    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Ignore => "ignore",
        }
    }
}

impl BackendChoice {
    const NAMES: [(&'static str, Self); 3] = [
        ("auto", Self::Auto),
        ("io_uring", Self::IoUring),
        ("poll", Self::Poll),
    ];

    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::IoUring => "io_uring",
            Self::Poll => "poll",
        }
    }
}

impl LogFormat {
    const NAMES: [(&'static str, Self); 2] = [("text", Self::Text), ("json", Self::Json)];

    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}
