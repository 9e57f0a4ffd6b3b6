//! `scspd demo`: several hubs in one process, over real loopback sockets, with a live table.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use scsp_wire::ServerId;

use crate::config::{Config, Group, Link, ListenAddress, Peer, PeerAddress};
use crate::daemon::Daemon;
use crate::hub::Hub;

/// UDP port of the first hub's SCSP link; the following hubs take the following ports.
const SCSP_PORT: u16 = 23_340;
/// TCP port of the first hub's client interface.
const CLIENT_PORT: u16 = 6401;
/// TCP port of the first hub's admin listener.
const ADMIN_PORT: u16 = 9151;
/// Time between two looks at the hubs.
const REFRESH: Duration = Duration::from_millis(500);

/// Who is whose neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Each with the next.
    Line,
    /// Each with each.
    Mesh,
    /// The first with all others.
    Star,
}

impl Topology {
    fn joins(self, a: usize, b: usize) -> bool {
        a != b
            && match self {
                Self::Line => a.abs_diff(b) == 1,
                Self::Mesh => true,
                Self::Star => a == 0 || b == 0,
            }
    }
}

/// Runs `count` hubs until a signal comes.
pub fn run(count: usize, topology: Topology) -> anyhow::Result<()> {
    let mut hubs = Vec::new();
    for number in 0..count {
        hubs.push(Daemon::start(hub_config(number, count, topology))?);
    }
    let over = Arc::new(AtomicBool::new(false));
    let shown: Vec<Arc<Hub>> = hubs.iter().map(|hub| Arc::clone(hub.hub())).collect();
    let screen = thread::Builder::new().name("demo".to_owned()).spawn({
        let over = Arc::clone(&over);
        move || show_until(&over, &shown)
    })?;
    let mut result = Ok(());
    for hub in hubs {
        result = result.and(hub.wait());
    }
    over.store(true, Ordering::Relaxed);
    screen.thread().unpark();
    let _ = screen.join();
    // Whoever read the table may have gone.
    let _ = writeln!(std::io::stdout(), "All hubs stopped.");
    Ok(result?)
}

fn port(first: u16, number: usize) -> u16 {
    first + u16::try_from(number).expect("the number of hubs is limited by the command line")
}

fn hub_config(number: usize, count: usize, topology: Topology) -> Config {
    let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let last = u8::try_from(number + 1).expect("the number of hubs is limited");
    let id = ServerId::from_bytes(&[10, 0, 0, last]).expect("four octets");
    let mut config = Config::with_id(id);
    config.server.pin = false;
    config.server.workers = 1;
    config.links = vec![Link::udp(
        "main",
        local(port(SCSP_PORT, number)).into(),
        1500,
    )];
    let peers = (0..count)
        .filter(|other| topology.joins(number, *other))
        .map(|other| Peer {
            address: PeerAddress::Ip(local(port(SCSP_PORT, other)).into()),
            link: 0,
            expected_id: None,
            max_records: 0,
            auth: scsp_engine::AuthMode::Off,
            keys: Vec::new(),
        });
    let group = Group {
        peers: peers.collect(),
        hello_interval_secs: 1,
        ..config.groups[0].clone()
    };
    config.groups = vec![group];
    config.client.listen = vec![ListenAddress::Tcp(local(port(CLIENT_PORT, number)).into())];
    config.admin.listen = local(port(ADMIN_PORT, number)).into();
    config
}

fn show_until(over: &AtomicBool, hubs: &[Arc<Hub>]) {
    let live = std::io::stdout().is_terminal();
    let mut last = String::new();
    while !over.load(Ordering::Relaxed) {
        let table = table(hubs);
        if table != last {
            // Home and clear below, so that the table stands still on a terminal.
            let lead = if live { "\x1b[H\x1b[2J" } else { "" };
            let mut out = std::io::stdout();
            if out
                .write_all(format!("{lead}{table}").as_bytes())
                .and_then(|()| out.flush())
                .is_err()
            {
                return;
            }
            last = table;
        }
        thread::park_timeout(REFRESH);
    }
}

fn table(hubs: &[Arc<Hub>]) -> String {
    let mut text = String::from(
        "HUB         REDIS PROTOCOL      ADMIN                     KEYS+TOMBSTONES  PEER                HELLO           ALIGNMENT   ROLE    QUEUE\n",
    );
    for hub in hubs {
        let config = &hub.config;
        let client = config
            .client
            .listen
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        let entries: u64 = hub
            .stats
            .iter()
            .flat_map(|worker| &worker.instances)
            .map(|it| it.entries.get())
            .sum();
        let admin = format!("http://{}", config.admin.listen);
        let mut lead = format!(
            "{:<11} {client:<19} {admin:<25} {entries:>15}",
            hub.lsid().to_string()
        );
        if hub.peers.is_empty() {
            let _ = writeln!(text, "{lead}  -");
        }
        for ((dcs, peer), shown) in hub.peers().zip(hub.board.peers()) {
            let queue: u64 = hub
                .stats
                .iter()
                .map(|worker| worker.dcs[dcs.index()].queue.get())
                .sum();
            let _ = writeln!(
                text,
                "{lead}  {:<19} {:<15} {:<11} {:<7} {queue:>5}",
                peer.address.to_string(),
                shown.hello.label(),
                shown.alignment.label(),
                shown.role.map_or("-", scsp_engine::alignment::Role::label),
            );
            lead = " ".repeat(lead.len());
        }
    }
    let first = hubs.first().map_or(CLIENT_PORT, |_| CLIENT_PORT);
    let last = port(CLIENT_PORT, hubs.len().saturating_sub(1));
    let _ = writeln!(
        text,
        "\nTry: redis-cli -p {first} set hello world    then: redis-cli -p {last} get hello\n\
         Ctrl-C ends it."
    );
    text
}
