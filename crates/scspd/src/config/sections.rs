//! One reader per section of the file, filling in the defaults.

use std::path::PathBuf;
use std::time::Duration;

use scsp_engine::AuthMode;
use scsp_wire::{FamilyId, ProtocolId, ServerGroupId, ServerId};
use toml::de::DeTable;

use super::defaults::{ADMIN_LISTEN, CLIENT_LISTEN, GROUPS_MAX, LISTEN_MAX, PEERS_MAX};
use super::raw::{Notes, Table, bare_or_quoted};
use super::{
    AbnormalEvents, Admin, AuthFailureAction, BackendChoice, Client, Config, Group, Io, Link,
    ListenAddress, Log, LogFormat, Peer, Server, defaults, keys, links, values,
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
const HOUR: Duration = Duration::from_hours(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const YEAR: Duration = Duration::from_hours(8760);

/// The whole file. Refused values are noted and replaced by their defaults.
pub(super) fn read(
    notes: &mut Notes,
    document: &DeTable<'_>,
    default_id: impl FnOnce() -> ServerId,
    default_dir: Option<PathBuf>,
) -> Config {
    let mut root = Table::root(notes, document);
    let server = server(&mut root, default_id, default_dir);
    let links = links::read(&mut root);
    let groups = root
        .tables("group", GROUPS_MAX, |table| group(table, &links))
        .unwrap_or_else(|| vec![Group::default()]);
    let client = client(&mut root);
    let admin = admin(&mut root);
    let io = io(&mut root);
    let log = log(&mut root);
    root.finish();
    Config {
        server,
        links,
        groups,
        client,
        admin,
        io,
        log,
    }
}

fn server(
    root: &mut Table<'_>,
    default_id: impl FnOnce() -> ServerId,
    default_dir: Option<PathBuf>,
) -> Server {
    let mut table = root.table("server");
    let server = Server {
        id: table
            .optional("id", values::server_id)
            .unwrap_or_else(default_id),
        data_dir: table.or("data_dir", default_dir, values::directory),
        snapshot_interval: table.or(
            "snapshot_interval",
            defaults::SNAPSHOT_INTERVAL,
            values::span(SECOND..=DAY),
        ),
        max_memory: table.or("max_memory", 0, values::size(defaults::MAX_MEMORY_MIN)),
        workers: table.or(
            "workers",
            defaults::WORKERS,
            values::whole(0..=defaults::WORKERS_MAX),
        ),
        pin: table.or("pin", defaults::PIN, values::flag),
    };
    table.finish();
    server
}

fn group(table: &mut Table<'_>, links: &[Link]) -> Group {
    let or = Group::default();
    table.not_yet("mars_redirect_interval");
    let retransmit = || values::span(MILLISECOND..=HOUR);
    Group {
        name: table.or("name", or.name, values::name),
        protocol: table.or("protocol", or.protocol, values::protocol),
        id: ServerGroupId(table.or("id", or.id.0, values::whole(0..=u16::MAX))),
        family: FamilyId(table.or("family", or.family.0, values::whole(0..=u16::MAX))),
        hello_interval_secs: table.or(
            "hello_interval",
            or.hello_interval_secs,
            values::wire_seconds,
        ),
        dead_factor: table.or("dead_factor", or.dead_factor, values::whole(1..=u16::MAX)),
        ca_retransmit: table.or("ca_retransmit", or.ca_retransmit, retransmit()),
        csus_retransmit: table.or("csus_retransmit", or.csus_retransmit, retransmit()),
        csu_retransmit: table.or("csu_retransmit", or.csu_retransmit, retransmit()),
        csu_retransmit_max: table.or(
            "csu_retransmit_max",
            or.csu_retransmit_max,
            values::whole(0..=defaults::RETRANSMIT_LIMIT),
        ),
        csus_retransmit_max: table.or(
            "csus_retransmit_max",
            or.csus_retransmit_max,
            values::whole(0..=defaults::RETRANSMIT_LIMIT),
        ),
        hop_count: table.or("hop_count", or.hop_count, values::whole(1..=u16::MAX)),
        restart_increment: table.or(
            "restart_increment",
            or.restart_increment,
            values::whole(1..=defaults::RESTART_INCREMENT_MAX),
        ),
        boot_hold: table.or(
            "boot_hold",
            or.boot_hold,
            values::span(Duration::ZERO..=HOUR),
        ),
        purge_retention: table.or(
            "purge_retention",
            or.purge_retention,
            values::span(Duration::from_secs(1)..=YEAR),
        ),
        abnormal_events: table.or(
            "abnormal_events",
            or.abnormal_events,
            values::choice(&AbnormalEvents::NAMES),
        ),
        auth_failure: table.or(
            "auth_failure",
            or.auth_failure,
            values::choice(&AuthFailureAction::NAMES),
        ),
        peers: table
            .tables("peer", PEERS_MAX, |table| peer(table, links))
            .unwrap_or_default()
            .into_iter()
            .flatten()
            .collect(),
    }
}

/// `None` when the peer has no usable address or link, which is noted.
fn peer(table: &mut Table<'_>, links: &[Link]) -> Option<Peer> {
    let link = peer_link(table, links);
    let address = links::peer_address(table, link.map(|at| &links[at]));
    let expected_id = table.optional("id", values::server_id);
    let max_records = table.or("max_records", 0, values::whole(0..=u16::MAX));
    let auth = table.or("auth", AuthMode::Off, values::choice(&keys::MODES));
    table.only("min_ttl", "0", values::is_zero);
    let keys = table.tables("key", keys::KEYS_MAX, keys::key);
    Some(Peer {
        address: address?,
        link: link?,
        expected_id,
        max_records,
        auth,
        keys: keys.unwrap_or_default().into_iter().flatten().collect(),
    })
}

/// Index of the peer's link: as named, else `main`, else the only one.
fn peer_link(table: &mut Table<'_>, links: &[Link]) -> Option<usize> {
    let named = |name: &str| links.iter().position(|link| link.name == name);
    let choices = || {
        let names: Vec<_> = links
            .iter()
            .map(|link| bare_or_quoted(&link.name))
            .collect();
        format!("the name of a link ({})", names.join(", "))
    };
    let given = table.optional("link", |value| {
        value
            .as_str()
            .and_then(named)
            .ok_or_else(|| values::expected(&choices(), value))
    });
    if given.is_some() || table.has("link") {
        return given;
    }
    let implied = named(defaults::LINK_NAME).or_else(|| (links.len() == 1).then_some(0));
    if implied.is_none() {
        table.refuse("link", format!("missing, expected {}", choices()));
    }
    implied
}

fn client(root: &mut Table<'_>) -> Client {
    let mut table = root.table("client");
    let client = Client {
        listen: table.or(
            "listen",
            vec![ListenAddress::Tcp(CLIENT_LISTEN.into())],
            values::listen_addresses(LISTEN_MAX),
        ),
        max_connections: table.or(
            "max_connections",
            defaults::CONNECTIONS,
            values::whole(1..=defaults::CONNECTIONS_MAX),
        ),
    };
    table.only("password_file", "\"\"", values::is_text(""));
    table.finish();
    client
}

fn admin(root: &mut Table<'_>) -> Admin {
    let mut table = root.table("admin");
    let listen = table.or("listen", ADMIN_LISTEN.into(), links::local_address);
    table.finish();
    Admin { listen }
}

fn io(root: &mut Table<'_>) -> Io {
    let mut table = root.table("io");
    let backend = table.or(
        "backend",
        BackendChoice::Auto,
        values::choice(&BackendChoice::NAMES),
    );
    let busy_poll = table.or(
        "busy_poll",
        defaults::BUSY_POLL,
        values::span(Duration::ZERO..=defaults::BUSY_POLL_MAX),
    );
    table.finish();
    Io { backend, busy_poll }
}

fn log(root: &mut Table<'_>) -> Log {
    let mut table = root.table("log");
    let level = table.or(
        "level",
        defaults::LOG_LEVEL,
        values::choice(&defaults::LOG_LEVELS),
    );
    let format = table.or("format", LogFormat::Text, values::choice(&LogFormat::NAMES));
    table.finish();
    Log {
        level: level.to_owned(),
        format,
    }
}

impl Default for Group {
    /// The group of an empty file: `clients`, kv, id 1, default timers, no peers.
    fn default() -> Self {
        Self {
            name: "clients".to_owned(),
            protocol: ProtocolId::KV,
            id: ServerGroupId(1),
            family: FamilyId(0),
            hello_interval_secs: 3,
            dead_factor: 3,
            ca_retransmit: Duration::from_secs(1),
            csus_retransmit: Duration::from_secs(1),
            csu_retransmit: Duration::from_secs(1),
            csu_retransmit_max: 5,
            csus_retransmit_max: 5,
            hop_count: 16,
            restart_increment: 1000,
            boot_hold: Duration::from_secs(10),
            purge_retention: HOUR,
            abnormal_events: AbnormalEvents::Reset,
            auth_failure: AuthFailureAction::Discard,
            peers: Vec::new(),
        }
    }
}
