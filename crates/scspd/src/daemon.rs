//! A hub put together: sockets bound, cores made, threads started.

use std::net::Ipv4Addr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use scsp_engine::shard::DATAGRAM_LEN_MAX;
use scsp_engine::{
    Control, DcsSetup, InstanceIndex, InstanceSetup, LinkIndex, LinkSetup, Setup, Shard, ShardIndex,
};
use scsp_net::{Interface, LinkSocket};
use scsp_profile::Profile;
use scsp_resp::command::COMMANDS;
use tracing::{error, warn};

use crate::board::Board;
use crate::bundle::Bundle;
use crate::clock::{Clock, unix_ms};
use crate::config::{AbnormalEvents, BackendChoice, Config, Group, Link, LinkKind, ListenAddress};
use crate::connectivity::Opened;
use crate::control::{self, ControlThread};
use crate::directory::Directory;
use crate::hub::{GroupInfo, Hub, PeerInfo};
use crate::mesh::{self, Doorbell, Ends};
use crate::message::Message;
use crate::reach::{Reach, reaches, stations};
use crate::snapshot::dir::{DataDir, DirError};
use crate::snapshot::load::Past;
use crate::sockets::{Sockets, bind_admin, bind_all};
use crate::stats::{InboundStats, SnapshotStats, WorkerStats};
use crate::worker::Worker;

/// How long a start may take before it counts as failed.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a hub does not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A socket or ring.
    #[error(transparent)]
    Io(#[from] scsp_net::IoError),
    /// The operating system refused a thread, a socket option or random numbers.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: std::io::Error,
    },
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DirError),
    /// A thread ended that should not have.
    #[error("{0} failed; the log says why")]
    Thread(String),
    /// Threads did not come up.
    #[error("the hub did not start within {} s", START_TIMEOUT.as_secs())]
    Timeout,
}

/// A running hub.
#[derive(Debug)]
pub struct Daemon {
    hub: Arc<Hub>,
    clock: Clock,
    threads: Vec<JoinHandle<Result<(), DaemonError>>>,
}

impl Daemon {
    /// Binds every socket, starts every thread, and returns once the hub serves.
    pub fn start(config: Config) -> Result<Self, DaemonError> {
        Self::start_with(config, Vec::new()).map(|(daemon, _)| daemon)
    }

    /// The same, with further threads at the hub's queues: their ends, in the order of their doorbells.
    pub(crate) fn start_with(
        config: Config,
        further: Vec<Arc<Doorbell>>,
    ) -> Result<(Self, Vec<Ends<Message>>), DaemonError> {
        raise_file_limit();
        for warning in config.warnings() {
            warn!("{warning}");
        }
        let selected = scsp_net::select(match config.io.backend {
            BackendChoice::Auto => scsp_net::BackendChoice::Auto,
            BackendChoice::IoUring => scsp_net::BackendChoice::IoUring,
            BackendChoice::Poll => scsp_net::BackendChoice::Poll,
        })?;
        if let Some(reason) = &selected.reason {
            warn!(backend = selected.backend.label(), "{reason}");
        }
        let workers = worker_count(&config);
        let clock = Clock::start();
        let now = clock.now();
        let seed = random_seed()?;
        let (reaches, links_of_peers) = reaches(&config);
        let mut setup = engine_setup(&config, &reaches, &links_of_peers, workers, seed);
        let data_dir = config.server.data_dir.as_deref().map(DataDir::open);
        let past = data_dir
            .transpose()?
            .map(|dir| Past::look(dir, &mut setup))
            .transpose()?;
        let setup = Arc::new(setup);
        let (mut sockets, steered) = bind_all(&config, workers)?;
        let senders = sockets[0].links.iter().map(LinkSocket::sender);
        let links = senders.collect::<Result<_, _>>()?;
        let opened = sockets[0].links.iter().map(Opened::of).collect();
        let admin = bind_admin(&config.admin.listen)?;
        let hub = Arc::new(assemble(config, &setup, reaches, &selected, workers));
        let shards = (0..setup.shards).map(ShardIndex);
        let mut shards: Vec<Shard> = shards
            .map(|number| Shard::new(Arc::clone(&setup), number, now))
            .collect();
        limit_memory(&hub.config, &mut shards);
        let snapshots = past
            .map(|past| past.restore(&hub, &mut shards, now, seed))
            .transpose()?;
        let directory = Directory::new(&hub.config.links, &hub.groups, &hub.peers);
        let directory = Arc::new(directory);

        let doorbells: Vec<_> = (0..workers)
            .map(|_| Arc::new(Doorbell::worker()))
            .chain([Arc::new(Doorbell::Control(tokio::sync::Notify::new()))])
            .chain(further)
            .collect();
        let mut ends = mesh::connect::<Message>(&doorbells);
        let further = ends.split_off(workers + 1);
        let (outbox, inbox) = ends.pop().expect("one end for each doorbell");
        let mut threads = Vec::new();
        let cores = allowed_cores();
        let (ready, is_ready) = mpsc::channel();
        for (number, (((outbox, inbox), sockets), shard)) in ends
            .into_iter()
            .zip(sockets.drain(..))
            .zip(shards)
            .enumerate()
        {
            let number = u16::try_from(number).expect("workers are limited by the configuration");
            let worker = Worker {
                number,
                hub: Arc::clone(&hub),
                directory: Arc::clone(&directory),
                clock,
                shard,
                outbox,
                inbox,
                ready: ready.clone(),
            };
            threads.push(spawn_worker(worker, sockets, cores.clone())?);
        }
        let control = ControlThread {
            control: Control::new(Arc::clone(&setup), now, seed.rotate_left(32)),
            hub: Arc::clone(&hub),
            clock,
            outbox,
            inbox,
            links,
            steered,
            bundle: Bundle::default(),
            opened,
            directory,
            admin,
            snapshots,
            on_ready: Box::new(move || {
                // The starter gave up waiting if nobody listens.
                let _ = ready.send(());
            }),
        };
        threads.push(spawn("control", move || {
            control::run(control).map_err(|source| DaemonError::System {
                what: "run the control thread",
                source,
            })
        })?);
        let mut daemon = Self {
            hub,
            clock,
            threads,
        };
        daemon.await_ready(&is_ready)?;
        Ok((daemon, further))
    }

    /// Waits until every thread has said that it serves.
    fn await_ready(&mut self, is_ready: &mpsc::Receiver<()>) -> Result<(), DaemonError> {
        let deadline = Instant::now() + START_TIMEOUT;
        let mut starting = self.threads.len();
        loop {
            match is_ready.recv_timeout(Duration::from_millis(50)) {
                Ok(()) => {
                    starting -= 1;
                    if starting == 0 {
                        return Ok(());
                    }
                }
                Err(_) if self.threads.iter().any(JoinHandle::is_finished) => {
                    let at = self.threads.iter().position(JoinHandle::is_finished);
                    let thread = self.threads.swap_remove(at.expect("one has finished"));
                    join(thread)?;
                    return Err(DaemonError::Thread("a thread".to_owned()));
                }
                Err(_) if Instant::now() >= deadline => return Err(DaemonError::Timeout),
                Err(_) => {}
            }
        }
    }

    /// The clock of all its threads.
    pub(crate) const fn clock(&self) -> Clock {
        self.clock
    }

    /// Whether a thread has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// The hub's constant part.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Three lines for who started it: what this is, where it listens, how to try it.
    pub fn greeting(&self) -> String {
        let (hub, config) = (&self.hub, &self.hub.config);
        let group = |group: &GroupInfo| format!("{} ({} {})", group.name, group.protocol, group.id);
        let groups: Vec<String> = hub.groups.iter().map(group).collect();
        let links: Vec<String> = config.links.iter().map(Link::place).collect();
        let clients: Vec<String> = config
            .client
            .listen
            .iter()
            .map(ToString::to_string)
            .collect();
        let first_tcp = config.client.listen.iter().find_map(|listen| match listen {
            ListenAddress::Tcp(address) => Some(address),
            ListenAddress::Unix(_) => None,
        });
        let port = first_tcp.map_or(String::new(), |address| {
            let is_default = address.ip().is_unspecified() || address.ip() == Ipv4Addr::LOCALHOST;
            let host = if is_default {
                String::new()
            } else {
                format!(" -h {}", address.ip())
            };
            format!("{host} -p {}", address.port())
        });
        format!(
            "scspd {} hub {} with {}, {} workers on {}\n\
             listens: SCSP on {}, Redis protocol on {}, admin on http://{}\n\
             try: redis-cli{port} set hello world; scspctl status; curl http://{}/metrics\n",
            env!("CARGO_PKG_VERSION"),
            hub.lsid(),
            groups.join(", "),
            hub.workers(),
            hub.backend.label(),
            links.join(", "),
            if clients.is_empty() {
                "nothing".to_owned()
            } else {
                clients.join(", ")
            },
            config.admin.listen,
            config.admin.listen,
        )
    }

    /// Waits until the hub stops, which signals cause.
    pub fn wait(self) -> Result<(), DaemonError> {
        let mut result = Ok(());
        for thread in self.threads {
            result = result.and(join(thread));
        }
        for address in &self.hub.config.client.listen {
            if let ListenAddress::Unix(path) = address {
                // Already gone is as good.
                let _ = std::fs::remove_file(path);
            }
        }
        result
    }
}

fn join(thread: JoinHandle<Result<(), DaemonError>>) -> Result<(), DaemonError> {
    let name = thread.thread().name().unwrap_or("a thread").to_owned();
    thread.join().unwrap_or(Err(DaemonError::Thread(name)))
}

fn spawn(
    name: &str,
    run: impl FnOnce() -> Result<(), DaemonError> + Send + 'static,
) -> Result<JoinHandle<Result<(), DaemonError>>, DaemonError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|source| DaemonError::System {
            what: "start a thread",
            source,
        })
}

fn spawn_worker(
    worker: Worker,
    sockets: Sockets,
    cores: Vec<usize>,
) -> Result<JoinHandle<Result<(), DaemonError>>, DaemonError> {
    let number = worker.number;
    spawn(&format!("worker-{number}"), move || {
        if worker.hub.config.server.pin {
            pin(usize::from(number), &cores);
        }
        let result = worker.run(sockets);
        if let Err(failure) = &result {
            error!(worker = number, error = %failure, "worker failed");
        }
        Ok(result?)
    })
}

/// Cores that this process may use; empty where the system does not tell.
fn allowed_cores() -> Vec<usize> {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|core| allowed.is_set(*core))
        .collect()
}

/// Keeps the calling thread on one of `cores`; where that is forbidden it roams.
fn pin(number: usize, cores: &[usize]) {
    let Some(core) = cores.get(number % cores.len().max(1)) else {
        return;
    };
    let mut set = rustix::thread::CpuSet::new();
    set.set(*core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        warn!(%error, "cannot pin a worker to its core");
    }
}

/// Allows as many open files as the system lets this process have: every client takes one.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "cannot raise the limit of open files");
    }
}

fn worker_count(config: &Config) -> usize {
    match config.server.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    }
}

/// Gives every shard an equal part of the memory: keys spread evenly, and shards share nothing.
fn limit_memory(config: &Config, shards: &mut [Shard]) {
    let count = u64::try_from(shards.len()).expect("workers are limited by the configuration");
    if config.server.max_memory > 0 {
        let part = config.server.max_memory / count;
        for shard in shards {
            shard.limit_memory(usize::try_from(part).unwrap_or(usize::MAX));
        }
    }
}

fn random_seed() -> Result<u64, DaemonError> {
    let mut seed = [0; 8];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty()).map_err(|error| {
        DaemonError::System {
            what: "get random numbers",
            source: error.into(),
        }
    })?;
    Ok(u64::from_ne_bytes(seed))
}

fn assemble(
    config: Config,
    setup: &Arc<Setup>,
    reaches: Vec<Reach>,
    selected: &scsp_net::Selected,
    workers: usize,
) -> Hub {
    let groups = config
        .groups
        .iter()
        .map(|group| GroupInfo {
            name: group.name.clone(),
            protocol: group.protocol,
            id: group.id,
        })
        .collect();
    let peers: Vec<PeerInfo> = (0..)
        .map(InstanceIndex)
        .zip(&config.groups)
        .flat_map(|(group, configured)| {
            configured.peers.iter().map(move |peer| PeerInfo {
                group,
                address: peer.address.clone(),
                link: peer.link,
            })
        })
        .collect();
    Hub {
        setup: Arc::clone(setup),
        board: Board::new(peers.len()),
        groups,
        peers,
        reaches,
        backend: selected.backend,
        backend_reason: selected.reason.clone(),
        stats: (0..workers)
            .map(|_| WorkerStats::new(setup, COMMANDS.len()))
            .collect(),
        inbound: InboundStats::default(),
        segments_refused: config
            .links
            .iter()
            .map(|_| AtomicBool::new(false))
            .collect(),
        snapshots: SnapshotStats::default(),
        connections_max: config.client.max_connections,
        started_unix_ms: setup.started_unix_ms,
        config,
    }
}

/// The configuration as the cores take it.
pub(crate) fn engine_setup(
    config: &Config,
    reaches: &[Reach],
    links_of_peers: &[LinkIndex],
    workers: usize,
    hash_seed: u64,
) -> Setup {
    let instances = config.groups.iter().map(instance_setup).collect();
    let limits: Vec<_> = config.links.iter().map(Limits::of).collect();
    let dcs = (0..)
        .map(InstanceIndex)
        .zip(&config.groups)
        .flat_map(|(instance, group)| group.peers.iter().map(move |peer| (instance, peer)))
        .zip(links_of_peers.iter().zip(stations(config)))
        .map(|((instance, peer), (link, station))| DcsSetup {
            instance,
            link: *link,
            station,
            packet_limit: limits[peer.link].packet,
            datagram_limit: limits[peer.link].datagram,
            offer: Some(scsp_engine::alignment::offer(limits[peer.link].packet)),
            expected_id: peer.expected_id,
            max_records: peer.max_records,
            auth: peer.auth_setup(config.groups[instance.index()].auth_failure),
        })
        .collect();
    let link_setup = |reach: &Reach| {
        let link = &config.links[reach.link];
        LinkSetup {
            multipoint: link.is_multipoint(),
            segments: !matches!(link.kind, LinkKind::Ethernet { .. }), // A frame is one packet.
        }
    };
    Setup {
        lsid: config.server.id,
        shards: u16::try_from(workers).expect("workers are limited by the configuration"),
        hash_seed,
        started_unix_ms: unix_ms(),
        instances,
        links: reaches.iter().map(link_setup).collect(),
        dcs,
    }
}

/// How large packets on a link may be.
struct Limits {
    packet: usize,
    datagram: usize,
}

impl Limits {
    fn of(link: &Link) -> Self {
        let mtu = link.interface().and_then(|name| Interface::find(name).ok());
        let packet = link.packet_limit(mtu.and_then(|it| u32::try_from(it.mtu).ok()));
        // D-14: IP fragments larger datagrams, Ethernet does not.
        let datagram = match link.kind {
            LinkKind::Udp { .. } | LinkKind::Multicast { .. } => DATAGRAM_LEN_MAX,
            LinkKind::Ethernet { .. } => packet,
        };
        Self { packet, datagram }
    }
}

fn instance_setup(group: &Group) -> InstanceSetup {
    InstanceSetup {
        protocol: group.protocol,
        group: group.id,
        family: group.family,
        profile: Profile::of(group.protocol),
        hello_interval_secs: group.hello_interval_secs,
        dead_factor: group.dead_factor,
        ca_retransmit: group.ca_retransmit,
        csus_retransmit: group.csus_retransmit,
        csu_retransmit: group.csu_retransmit,
        csu_retransmit_max: group.csu_retransmit_max,
        csus_retransmit_max: group.csus_retransmit_max,
        hop_count: group.hop_count,
        restart_increment: group.restart_increment,
        boot_hold: group.boot_hold,
        purge_retention: group.purge_retention,
        ignore_abnormal: group.abnormal_events == AbnormalEvents::Ignore,
    }
}
