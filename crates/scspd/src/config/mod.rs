//! The configuration of a hub: TOML in, checked values out.
//!
//! `raw` walks the document and keeps places and findings, `values` reads single values,
//! `sections` knows the keys and their defaults, `check` looks for clashes, `print` writes back.
//! Functions that do not exist yet are refused as "not supported yet", never ignored.

mod address;
mod check;
mod defaults;
mod duration;
mod error;
mod host;
mod keys;
mod links;
mod print;
mod raw;
mod sections;
mod size;
#[cfg(test)]
mod tests;
mod values;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use scsp_engine::AuthMode;
use scsp_wire::{FamilyId, ProtocolId, ServerGroupId, ServerId};
use toml::de::DeTable;
use zeroize::Zeroizing;

pub use address::{AddressFault, IpEndpoint};
pub use error::{ConfigError, ConfigErrors, ERRORS_MAX, Position};
pub use keys::{Direction, Key, Secret};
use raw::Notes;
pub use scsp_net::MacAddress;

/// Octets of the LLC and SNAP headers.
const SNAP_LEN: usize = 8;

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
    /// Directory of the snapshots, absolute; `None`: there are none.
    pub data_dir: Option<PathBuf>,
    /// Time between two snapshots.
    pub snapshot_interval: Duration,
    /// Octets that the cache may take; 0: no limit.
    pub max_memory: u64,
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
    /// Octets of the largest IP packet, headers included, or of an Ethernet frame's payload;
    /// `None`: the interface's, on an Ethernet link.
    pub mtu: Option<u16>,
}

/// What a link runs over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LinkKind {
    /// Unicast datagrams, one SCSP packet each.
    Udp {
        /// Own address.
        bind: IpEndpoint,
    },
    /// Datagrams to a multicast group and to its members.
    Multicast {
        /// Own address, of the group's family.
        bind: IpEndpoint,
        /// The group.
        group: IpEndpoint,
        /// Where the group is.
        interface: String,
    },
    /// LLC/SNAP frames.
    Ethernet {
        /// Where the stations are.
        interface: String,
        /// The stations' multicast group; `None`: frames to each of them.
        group: Option<MacAddress>,
    },
}

/// Where a peer is, as configured.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PeerAddress {
    /// On a link over UDP.
    Ip(IpEndpoint),
    /// On an Ethernet link.
    Ethernet(MacAddress),
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
    /// Groups of one family share their Hellos (H-14); 0: none.
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
    /// What a packet that fails authentication causes (D-03).
    pub auth_failure: AuthFailureAction,
    /// DCSs.
    pub peers: Vec<Peer>,
}

/// `[[group.peer]]`: one DCS of a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Where it is; unique on its link and in the group, of the kind of its link.
    pub address: PeerAddress,
    /// Index into [`Config::links`].
    pub link: usize,
    /// The only id accepted from it (D-11); `None`: any.
    pub expected_id: Option<ServerId>,
    /// Records per CSU Request; 0: as many as fit.
    pub max_records: u16,
    /// What authentication is asked of it.
    pub auth: AuthMode,
    /// Keys shared with it.
    pub keys: Vec<Key>,
}

/// What a packet that fails authentication causes (D-03).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthFailureAction {
    /// Dropped, counted and logged only.
    Discard,
    /// HFSM to Waiting as well, by the letter.
    Reset,
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
    Tcp(IpEndpoint),
    /// Unix stream socket, absolute path.
    Unix(PathBuf),
}

/// `[admin]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admin {
    /// Where HTTP is served.
    pub listen: IpEndpoint,
}

/// `[io]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Io {
    /// Which backend serves the workers.
    pub backend: BackendChoice,
    /// How long threads look for more before they sleep.
    pub busy_poll: Duration,
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
        // Keys may stand in it.
        let mut octets = Zeroizing::new(Vec::new());
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
        match str::from_utf8(&octets) {
            Ok(text) => Self::read(
                &name,
                text,
                host::default_server_id,
                host::state_directory(),
            ),
            Err(error) => {
                let valid_len = error.valid_up_to();
                let valid = String::from_utf8_lossy(&octets[..valid_len]);
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
    /// text names no server id. Without a data directory in it there is none.
    pub fn parse(
        name: &str,
        text: &str,
        default_id: impl FnOnce() -> ServerId,
    ) -> Result<Self, ConfigErrors> {
        Self::read(name, text, default_id, None)
    }

    fn read(
        name: &str,
        text: &str,
        default_id: impl FnOnce() -> ServerId,
        default_dir: Option<PathBuf>,
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
        let config = sections::read(&mut notes, document.get_ref(), default_id, default_dir);
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
        let dir = host::state_directory();
        Self::read("default", "", host::default_server_id, dir).expect("the defaults are valid")
    }
}

impl Link {
    /// A link over unicast UDP.
    pub fn udp(name: &str, bind: IpEndpoint, mtu: u16) -> Self {
        let kind = LinkKind::Udp { bind };
        Self::new(name, kind, Some(mtu))
    }

    /// A link over a multicast group.
    pub fn multicast(
        name: &str,
        bind: IpEndpoint,
        group: IpEndpoint,
        interface: String,
        mtu: u16,
    ) -> Self {
        let kind = LinkKind::Multicast {
            bind,
            group,
            interface,
        };
        Self::new(name, kind, Some(mtu))
    }

    /// A link over Ethernet frames.
    pub fn ethernet(
        name: &str,
        interface: String,
        group: Option<MacAddress>,
        mtu: Option<u16>,
    ) -> Self {
        Self::new(name, LinkKind::Ethernet { interface, group }, mtu)
    }

    fn new(name: &str, kind: LinkKind, mtu: Option<u16>) -> Self {
        let name = name.to_owned();
        Self { name, kind, mtu }
    }

    /// Own address on a link over UDP.
    pub fn bind(&self) -> Option<&IpEndpoint> {
        match &self.kind {
            LinkKind::Udp { bind } | LinkKind::Multicast { bind, .. } => Some(bind),
            LinkKind::Ethernet { .. } => None,
        }
    }

    /// The interface that a multicast or Ethernet link is on.
    pub fn interface(&self) -> Option<&str> {
        match &self.kind {
            LinkKind::Udp { .. } => None,
            LinkKind::Multicast { interface, .. } | LinkKind::Ethernet { interface, .. } => {
                Some(interface)
            }
        }
    }

    /// Whether one packet can reach all peers on it (H-10, CSU-14).
    pub fn is_multipoint(&self) -> bool {
        matches!(
            self.kind,
            LinkKind::Multicast { .. } | LinkKind::Ethernet { group: Some(_), .. }
        )
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        match &self.kind {
            LinkKind::Udp { bind } => format!("{bind}/udp"),
            LinkKind::Multicast {
                bind,
                group,
                interface,
            } => format!("{bind}/udp with {group} on {interface}"),
            LinkKind::Ethernet { interface, group } => match group {
                Some(group) => format!("{interface}/ethernet with {group}"),
                None => format!("{interface}/ethernet"),
            },
        }
    }

    /// Octets of the largest SCSP packet sent on it, D-14 aside: what IP and UDP headers leave of
    /// the mtu, or the LLC/SNAP header of an Ethernet frame. `interface_mtu` is asked where the
    /// configuration names no mtu.
    pub fn packet_limit(&self, interface_mtu: Option<u32>) -> usize {
        let headers_len = match self.bind() {
            Some(bind) if bind.ip().is_ipv4() => 28,
            Some(_) => 48,
            None => SNAP_LEN,
        };
        match (self.mtu, interface_mtu) {
            (Some(mtu), _) => usize::from(mtu).saturating_sub(headers_len),
            (None, Some(mtu)) => Self::frame_limit(mtu),
            (None, None) => Self::frame_limit(defaults::ETHERNET_MTU_MAX.into()),
        }
    }

    /// Octets of the largest SCSP packet in an Ethernet frame on an interface with this mtu.
    pub fn frame_limit(interface_mtu: u32) -> usize {
        let largest = interface_mtu.min(defaults::ETHERNET_MTU_MAX.into());
        usize::try_from(largest)
            .expect("at most 1500")
            .saturating_sub(SNAP_LEN)
    }
}

impl PeerAddress {
    /// Whether a text means this address, in any of the forms it can be written in.
    pub fn is_written(&self, text: &str) -> bool {
        match self {
            Self::Ip(address) => IpEndpoint::parse_on_interface(text).as_ref() == Ok(address),
            Self::Ethernet(address) => text.parse() == Ok(*address),
        }
    }
}

impl fmt::Display for PeerAddress {
    /// As in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Ethernet(address) => address.fmt(f),
        }
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

impl AuthFailureAction {
    const NAMES: [(&'static str, Self); 2] = [("discard", Self::Discard), ("reset", Self::Reset)];

    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Discard => "discard",
            Self::Reset => "reset",
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
