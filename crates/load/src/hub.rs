//! Hubs on loopback, each with a generated configuration: processes of their own, or embedded in this one.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, getpid};
use scspd::config::Config;
use scspd::embed::Embedded;
use tempfile::TempDir;

use crate::cli::{Algorithm, HubOptions, Section, Topology};
use crate::connection::{Connection, Fields};
use crate::http::{self, Metrics};
use crate::process::{Process, Usage};
use crate::report::Report;
use crate::wait;

/// The group of every load test.
pub(crate) const GROUP: &str = "load";
/// Seconds without a Hello after which a hub counts as lost: the least the protocol knows.
pub(crate) const DEAD_SECS: u64 = 3;
const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// Hubs that are neighbours of each other, none of them started yet.
#[derive(Debug)]
pub(crate) struct Lab {
    /// In the order of the line.
    pub(crate) hubs: Vec<Hub>,
    /// After the hubs, so that it goes when they are gone.
    _dir: TempDir,
}

/// How the hubs of a lab are configured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) hubs: u8,
    pub(crate) topology: Topology,
    pub(crate) options: &'a HubOptions,
    /// How long a hub waits for neighbours before it serves on its own.
    pub(crate) boot_hold: Duration,
    /// How packets are authenticated.
    pub(crate) auth: Option<Algorithm>,
    /// Workers of the last hub, if not as of all.
    pub(crate) last_workers: Option<u16>,
}

impl<'a> Plan<'a> {
    /// A line of hubs that serve at once.
    pub(crate) const fn line(hubs: u8, options: &'a HubOptions) -> Self {
        Self {
            hubs,
            topology: Topology::Line,
            options,
            boot_hold: Duration::ZERO,
            auth: None,
            last_workers: None,
        }
    }
}

impl Lab {
    /// Writes the configurations.
    pub(crate) fn new(plan: Plan<'_>) -> anyhow::Result<Self> {
        let program = program(plan.options)?;
        let dir = TempDir::with_prefix("scsp-load-").context("cannot make a temporary folder")?;
        let seats = (0..plan.hubs)
            .map(Seat::find)
            .collect::<anyhow::Result<Vec<_>>>()?;
        let hubs = (0..seats.len())
            .map(|number| {
                let config = dir.path().join(format!("hub-{number}.toml"));
                fs::write(&config, configuration(plan, &seats, number))?;
                Ok(Hub {
                    name: format!("hub {number}"),
                    program: program.clone(),
                    log: config.with_extension("log"),
                    config,
                    client: seats[number].client,
                    admin: seats[number].admin,
                    peers: neighbours(plan, number).count(),
                    options: plan.options.clone(),
                    server: None,
                    control: None,
                })
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { hubs, _dir: dir })
    }

    /// Starts all that do not run yet and waits until all are aligned.
    pub(crate) fn start(&mut self, timeout: Duration) -> anyhow::Result<()> {
        for hub in self.hubs.iter_mut().filter(|hub| hub.server.is_none()) {
            hub.start()?;
        }
        for hub in &mut self.hubs {
            hub.wait_ready()?;
            hub.wait_aligned(timeout)?;
        }
        Ok(())
    }

    /// Stops all that run.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.hubs.iter_mut().try_for_each(Hub::stop)
    }

    /// Hubs 0 and 1.
    pub(crate) fn pair(&mut self) -> (&mut Hub, &mut Hub) {
        let [first, second, ..] = self.hubs.as_mut_slice() else {
            unreachable!("every lab of two or more hubs was asked for as such");
        };
        (first, second)
    }

    /// Adds the logs of the hubs to an error.
    pub(crate) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let mut logs = String::new();
        for hub in &self.hubs {
            let end = match &hub.server {
                Some(Server::Process(process)) => process.log_end(),
                Some(Server::Embedded(_)) | None => String::new(),
            };
            if !end.is_empty() {
                write!(logs, "\n--- log of {}:\n{end}", hub.name).expect("a text grows");
            }
        }
        if logs.is_empty() {
            error
        } else {
            anyhow::anyhow!("{error:#}{logs}")
        }
    }
}

/// A running hub.
enum Server {
    Process(Process),
    Embedded(Box<Embedded>),
}

/// One hub; it may be down.
pub(crate) struct Hub {
    pub(crate) name: String,
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    /// Client interface.
    pub(crate) client: SocketAddr,
    /// Admin listener.
    pub(crate) admin: SocketAddr,
    peers: usize,
    options: HubOptions,
    server: Option<Server>,
    control: Option<Connection>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// How many entries a hub holds, and their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) entries: String,
    pub(crate) digest: String,
}

impl Hub {
    /// Starts the process; does not wait until it serves.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        command
            .arg("--config")
            .arg(&self.config)
            .env_remove("RUST_LOG");
        let process = Process::start(&self.name, &mut command, &self.log)?;
        self.server = Some(Server::Process(process));
        Ok(())
    }

    /// Starts it within this program.
    pub(crate) fn embed(&mut self) -> anyhow::Result<()> {
        let embedded = Embedded::start(Config::load(&self.config)?)?;
        self.server = Some(Server::Embedded(Box::new(embedded)));
        Ok(())
    }

    /// The hub that [`embed`](Self::embed) started.
    pub(crate) fn embedded(&mut self) -> anyhow::Result<&mut Embedded> {
        match &mut self.server {
            Some(Server::Embedded(embedded)) => Ok(embedded),
            Some(Server::Process(_)) | None => anyhow::bail!("{} is not embedded", self.name),
        }
    }

    /// Fails when it is down, with the end of its log.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match &mut self.server {
            Some(Server::Process(process)) => process.check(),
            Some(Server::Embedded(_)) => Ok(()),
            None => anyhow::bail!("{} is down", self.name),
        }
    }

    /// The process, which runs.
    pub(crate) fn process(&mut self) -> anyhow::Result<&mut Process> {
        self.check()?;
        match &mut self.server {
            Some(Server::Process(process)) => Ok(process),
            Some(Server::Embedded(_)) | None => {
                anyhow::bail!("{} is no process of its own", self.name)
            }
        }
    }

    /// Memory and processor time of its process.
    pub(crate) fn usage(&mut self) -> anyhow::Result<Usage> {
        self.check()?;
        Ok(match &self.server {
            Some(Server::Process(process)) => process.usage(),
            Some(Server::Embedded(_)) | None => Usage::own(),
        })
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> Pid {
        match &self.server {
            Some(Server::Process(process)) => process.pid(),
            Some(Server::Embedded(_)) | None => getpid(),
        }
    }

    /// Waits until `/readyz` answers 200.
    pub(crate) fn wait_ready(&mut self) -> anyhow::Result<()> {
        let what = format!("{} to be ready", self.name);
        wait::until(&what, READY_TIMEOUT, Duration::from_millis(10), || {
            self.check()?;
            // Refused connections: it is not that far yet.
            Ok(matches!(http::get(self.admin, "/readyz"), Ok((200, _))).then_some(()))
        })
    }

    /// Waits until every neighbour is aligned, in this hub's view.
    pub(crate) fn wait_aligned(&mut self, timeout: Duration) -> anyhow::Result<()> {
        let what = format!("{} to be aligned", self.name);
        let pause = Duration::from_millis(1);
        wait::until(&what, timeout, pause, || {
            Ok(self.is_aligned()?.then_some(()))
        })
    }

    /// Whether every neighbour is aligned; a hub that does not answer yet has none.
    pub(crate) fn is_aligned(&mut self) -> anyhow::Result<bool> {
        let peers = self.peers_or_none()?;
        Ok(peers.len() == self.peers
            && peers
                .iter()
                .all(|peer| peer.get("alignment").is_some_and(|it| it == "aligned")))
    }

    /// Whether some neighbour has not been heard for too long.
    pub(crate) fn misses_a_peer(&mut self) -> anyhow::Result<bool> {
        let peers = self.peers_or_none()?;
        Ok(peers
            .iter()
            .any(|peer| peer.get("hello").is_some_and(|it| it == "waiting")))
    }

    /// Records that neighbours have yet to acknowledge.
    pub(crate) fn queued(&mut self) -> anyhow::Result<u64> {
        let peers = self.control()?.maps("SCSP.PEERS")?;
        let queue = |peer: &Fields| peer.get("queue")?.parse::<u64>().ok();
        peers
            .iter()
            .map(|peer| queue(peer).context("SCSP.PEERS: no queue"))
            .sum()
    }

    /// Count and digest of the live records.
    pub(crate) fn census(&mut self) -> anyhow::Result<Census> {
        let mut groups = self.control()?.maps("SCSP.GROUPS")?;
        let group = groups.first_mut().context("SCSP.GROUPS: no group")?;
        let mut field = |name: &str| group.remove(name).with_context(|| format!("no {name}"));
        Ok(Census {
            entries: field("entries")?,
            digest: field("digest")?,
        })
    }

    /// A connection for single commands, opened when needed and kept while the hub runs.
    pub(crate) fn control(&mut self) -> anyhow::Result<&mut Connection> {
        self.check()?;
        if self.control.is_none() {
            self.control = Some(Connection::open(self.client)?);
        }
        Ok(self.control.as_mut().expect("just opened"))
    }

    fn peers_or_none(&mut self) -> anyhow::Result<Vec<Fields>> {
        self.check()?;
        let answer = self
            .control()
            .and_then(|control| control.maps("SCSP.PEERS"));
        if answer.is_err() {
            // While it starts, nobody listens.
            self.control = None;
        }
        Ok(answer.unwrap_or_default())
    }

    /// Notes in the report what hub this is.
    pub(crate) fn describe(&self, report: &mut Report) -> anyhow::Result<()> {
        let (backend, options) = (self.backend()?, &self.options);
        let sets: Vec<_> = options.set.iter().map(|set| set.line.as_str()).collect();
        let workers = match options.workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            workers => usize::from(workers),
        };
        report.system = format!("scspd {backend}, mtu {}", options.mtu);
        for line in &sets {
            report.system = format!("{}, {line}", report.system);
        }
        report.set("server", &"scspd");
        report.set("backend", &backend);
        report.set("mtu", &options.mtu);
        report.set("workers", &workers);
        report.set("set", &sets.join(", "));
        Ok(())
    }

    /// The backend that the hub runs on.
    pub(crate) fn backend(&self) -> anyhow::Result<String> {
        let metrics = Metrics::scrape(self.admin)?;
        let backend = metrics.label("scsp_io_backend_info", "backend");
        Ok(backend
            .context("no metric scsp_io_backend_info")?
            .to_owned())
    }

    /// Asks it to stop and waits for the end.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        self.control = None;
        match self.server.take() {
            Some(Server::Process(process)) => process.stop(),
            Some(Server::Embedded(embedded)) => Ok(embedded.stop()?),
            None => Ok(()),
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.control = None;
        self.server = None;
    }

    /// Freezes it.
    pub(crate) fn pause(&mut self) -> anyhow::Result<()> {
        self.process()?.signal(Signal::STOP)
    }

    /// Lets it run again.
    pub(crate) fn resume(&mut self) -> anyhow::Result<()> {
        self.process()?.signal(Signal::CONT)
    }
}

/// Addresses of one hub.
#[derive(Clone, Copy, Debug)]
struct Seat {
    link: SocketAddr,
    client: SocketAddr,
    admin: SocketAddr,
}

impl Seat {
    /// Free ports, as binding finds them.
    fn find(number: u8) -> anyhow::Result<Self> {
        let ip = IpAddr::V4(Ipv4Addr::new(127, 0, 0, number + 1));
        let link = UdpSocket::bind((ip, 0))?;
        let (client, admin) = (TcpListener::bind((ip, 0))?, TcpListener::bind((ip, 0))?);
        Ok(Self {
            link: link.local_addr()?,
            client: client.local_addr()?,
            admin: admin.local_addr()?,
        })
    }
}

fn neighbours(plan: Plan<'_>, of: usize) -> impl Iterator<Item = usize> {
    (0..usize::from(plan.hubs)).filter(move |&other| match plan.topology {
        Topology::Line => other.abs_diff(of) == 1,
        Topology::Mesh => other != of,
    })
}

fn configuration(plan: Plan<'_>, seats: &[Seat], number: usize) -> String {
    let Seat {
        link,
        client,
        admin,
    } = seats[number];
    let id = |number: usize| format!("10.0.0.{}", number + 1);
    let set = |section: Section| {
        let chosen = plan.options.set.iter().filter(|set| set.section == section);
        chosen.fold(String::new(), |lines, set| lines + &set.line + "\n")
    };
    let auth = plan.auth.map_or(String::new(), |algorithm| {
        format!(
            "auth = \"require\"\n[[group.peer.key]]\nspi = 256\nalgorithm = \"{}\"\n\
             secret = \"text:of one load test only, no secret\"\n",
            algorithm.label()
        )
    });
    let mut peers = String::new();
    for peer in neighbours(plan, number) {
        let (address, id) = (seats[peer].link, id(peer));
        write!(
            peers,
            "[[group.peer]]\naddress = \"{address}\"\nid = \"{id}\"\n{}{auth}\n",
            set(Section::Peer)
        )
        .expect("a text grows");
    }
    let workers = plan
        .last_workers
        .filter(|_| number + 1 == seats.len())
        .unwrap_or(plan.options.workers);
    format!(
        "[server]\nid = \"{}\"\nworkers = {workers}\npin = false\n{}\n\
         [link.main]\nbind = \"{link}\"\nmtu = {}\n{}\n\
         [[group]]\nname = \"{GROUP}\"\nprotocol = \"kv\"\nid = 1\n\
         hello_interval = 1\ndead_factor = {DEAD_SECS}\nboot_hold = \"{}ms\"\n{}\n\
         {peers}\
         [client]\nlisten = [\"{client}\"]\n\n\
         [admin]\nlisten = \"{admin}\"\n\n\
         [io]\nbackend = \"{}\"\n{}\n\
         [log]\nlevel = \"warn\"\n",
        id(number),
        set(Section::Server),
        plan.options.mtu,
        set(Section::Link),
        plan.boot_hold.as_millis(),
        set(Section::Group),
        plan.options.backend.label(),
        set(Section::Io),
    )
}

/// The given program, or the one in our own folder.
fn program(options: &HubOptions) -> anyhow::Result<PathBuf> {
    let path = match &options.scspd {
        Some(path) => path.clone(),
        None => beside(&std::env::current_exe()?),
    };
    anyhow::ensure!(
        path.is_file(),
        "no program {}: build scspd (cargo build --release -p scspd) or say --scspd PATH",
        path.display()
    );
    Ok(path)
}

fn beside(program: &Path) -> PathBuf {
    program.with_file_name("scspd")
}
