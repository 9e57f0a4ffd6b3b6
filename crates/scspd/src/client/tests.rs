//! Sessions on hubs of one, two and four workers whose threads are played by one loop: raw octets
//! in, raw octets out.

mod connection;
mod keys;
mod order;
mod scsp;

use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scsp_engine::{
    AuthSetup, Control, DcsIndex, DcsSetup, InstanceIndex, InstanceSetup, LinkIndex, LinkSetup,
    Setup, ShardIndex, Time,
};
use scsp_net::{Backend, Event, Io, IoConfig, bind_tcp};
use scsp_wire::ServerId;

use super::*;
use crate::board::Board;
use crate::config::{AbnormalEvents, Config};
use crate::hub::{GroupInfo, PeerInfo};
use crate::mesh::{Doorbell, Ends, connect};
use crate::stats::WorkerStats;

/// Two groups: keys and values, and a protocol without rules of its own.
const GROUPS: &str = "[[group]]\nname = \"clients\"\n[[group]]\nname = \"other\"\n\
    protocol = \"0x1234\"\nid = 7\n";
/// One group that waits for its neighbour.
const NEIGHBOUR: &str = "[[group]]\nname = \"clients\"\n[[group.peer]]\n\
    address = \"127.0.0.2:2334\"\n";
const STARTED_UNIX_MS: u64 = 1_700_000_000_000;
/// Connections of a test at most.
const CONNECTIONS: usize = 6;

struct Node {
    shard: Shard,
    clients: Clients,
    ends: Ends<Message>,
}

/// A hub without threads and sockets.
struct World {
    hub: Arc<Hub>,
    nodes: Vec<Node>,
    control: Control,
    control_ends: Ends<Message>,
    now: Now,
    free: Vec<ConnId>,
    /// Worker, output, whether it is to be closed.
    connections: HashMap<ConnId, (usize, Vec<u8>, bool)>,
    cleared: Vec<DcsIndex>,
    /// Messages are taken from the last worker first.
    backwards: bool,
}

/// Ids of real connections: nobody else can make any.
fn ids() -> Vec<ConnId> {
    let mut io = Io::new(Backend::Poll, &IoConfig::default()).unwrap();
    let listener = bind_tcp("127.0.0.1:0".parse().unwrap(), 16, false).unwrap();
    let address = listener.local_addr().unwrap();
    io.add_listener(listener).unwrap();
    let streams: Vec<_> = (0..CONNECTIONS)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut ids = Vec::new();
    while ids.len() < streams.len() {
        assert!(
            Instant::now() < deadline,
            "accepted {} connections only",
            ids.len()
        );
        io.turn(Some(Duration::from_secs(1))).unwrap();
        while let Some(event) = io.next_event() {
            if let Event::Accepted { conn, .. } = event {
                ids.push(conn);
            }
        }
    }
    ids
}

fn setup(config: &Config, workers: u16) -> Setup {
    let instance = |group: &crate::config::Group| InstanceSetup {
        protocol: group.protocol,
        group: group.id,
        family: group.family,
        profile: scsp_profile::Profile::of(group.protocol),
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
    };
    let dcs = |(index, group): (u16, &crate::config::Group)| {
        vec![
            DcsSetup {
                instance: InstanceIndex(index),
                link: LinkIndex(0),
                station: 0,
                packet_limit: 1472,
                datagram_limit: scsp_engine::shard::DATAGRAM_LEN_MAX,
                offer: None,
                expected_id: None,
                max_records: 0,
                auth: AuthSetup::default(),
            };
            group.peers.len()
        ]
    };
    Setup {
        lsid: config.server.id,
        shards: workers,
        hash_seed: 1,
        started_unix_ms: STARTED_UNIX_MS,
        instances: config.groups.iter().map(instance).collect(),
        links: vec![LinkSetup {
            multipoint: false,
            segments: true,
        }],
        dcs: (0..).zip(&config.groups).flat_map(dcs).collect(),
    }
}

impl World {
    fn new(workers: u16) -> Self {
        Self::with(workers, GROUPS, 10)
    }

    fn with(workers: u16, text: &str, connections_max: usize) -> Self {
        let id = ServerId::from_bytes(&[10, 0, 0, 1]).unwrap();
        let config = Config::parse("hub.toml", text, || id).unwrap();
        let setup = Arc::new(setup(&config, workers));
        let groups = config.groups.iter().map(|group| GroupInfo {
            name: group.name.clone(),
            protocol: group.protocol,
            id: group.id,
        });
        let peers = (0..).zip(&config.groups).flat_map(|(index, group)| {
            group.peers.iter().map(move |peer| PeerInfo {
                group: InstanceIndex(index),
                address: peer.address.clone(),
                link: peer.link,
            })
        });
        let hub = Arc::new(Hub {
            groups: groups.collect(),
            peers: peers.collect(),
            reaches: crate::reach::reaches(&config).0,
            backend: Backend::Poll,
            backend_reason: None,
            board: Board::new(setup.dcs.len()),
            stats: (0..workers)
                .map(|_| WorkerStats::new(&setup, CommandId::COUNT))
                .collect(),
            inbound: crate::stats::InboundStats::default(),
            segments_refused: Vec::new(),
            snapshots: crate::stats::SnapshotStats::default(),
            connections_max,
            config: config.clone(),
            started_unix_ms: STARTED_UNIX_MS,
            setup: Arc::clone(&setup),
        });
        let now = Now {
            time: Time::from_nanos(1 << 40),
            unix_ms: STARTED_UNIX_MS,
        };
        let doorbells: Vec<_> = (0..=workers)
            .map(|_| Arc::new(Doorbell::worker()))
            .collect();
        let mut ends = connect(&doorbells);
        let control_ends = ends.pop().unwrap();
        let node = |(number, ends)| Node {
            shard: Shard::new(Arc::clone(&setup), ShardIndex(number), now),
            clients: Clients::new(Arc::clone(&hub), number),
            ends,
        };
        let mut world = Self {
            nodes: (0..).zip(ends).map(node).collect(),
            control: Control::new(Arc::clone(&setup), now, 1),
            control_ends,
            now,
            free: ids(),
            connections: HashMap::new(),
            cleared: Vec::new(),
            backwards: false,
            hub,
        };
        while let Some((shard, message)) = world.control.poll_message() {
            world.nodes[shard.index()]
                .shard
                .handle_message(now, message);
        }
        for (node, stats) in world.nodes.iter().zip(&world.hub.stats) {
            stats.publish_shard(&node.shard);
        }
        world
    }

    /// Opens a connection on a worker.
    fn open(&mut self, worker: usize) -> ConnId {
        let conn = self.free.pop().expect("CONNECTIONS is enough");
        let address = format!("127.0.0.1:{}", 5000 + self.free.len())
            .parse()
            .unwrap();
        let mut output = Vec::new();
        let clients = &mut self.nodes[worker].clients;
        let verdict = clients.accepted(self.now, conn, &Peer::Tcp(address), &mut output);
        self.connections
            .insert(conn, (worker, output, verdict == Verdict::Close));
        conn
    }

    fn context(node: &mut Node, worker: usize, now: Now) -> (&mut Clients, Context<'_>) {
        let Node {
            shard,
            clients,
            ends,
        } = node;
        let worker = u16::try_from(worker).unwrap();
        (
            clients,
            Context {
                worker,
                shard,
                now,
                outbox: &mut ends.0,
            },
        )
    }

    /// Octets come in on a connection; nothing else happens.
    fn receive(&mut self, conn: ConnId, input: &[u8]) {
        let (worker, output, closed) = self.connections.get_mut(&conn).unwrap();
        let (clients, mut cx) = Self::context(&mut self.nodes[*worker], *worker, self.now);
        *closed |= clients.received(&mut cx, conn, input, output) == Verdict::Close;
    }

    /// Lets every thread handle its messages until there are none.
    fn settle(&mut self) {
        loop {
            let mut idle = true;
            let mut order: Vec<usize> = (0..self.nodes.len()).collect();
            if self.backwards {
                order.reverse();
            }
            for worker in order {
                self.nodes[worker].ends.0.ring(|_| {});
                while let Some(message) = self.nodes[worker].ends.1.receive() {
                    idle = false;
                    self.handle(worker, message);
                }
                self.nodes[worker].ends.0.ring(|_| {});
            }
            while let Some(message) = self.control_ends.1.receive() {
                idle = false;
                let Message::Execute(execute) = message else {
                    panic!("{message:?}")
                };
                let (answer, effect) =
                    execute_on_control(&self.hub, &self.control, self.now, execute.work);
                if let Some(Effect::Clear(dcs)) = effect {
                    self.cleared.push(dcs);
                }
                let ticket = execute.ticket;
                let executed = Message::Executed(Box::new(Executed { ticket, answer }));
                self.control_ends
                    .0
                    .send(usize::from(ticket.worker), executed);
            }
            if idle {
                return;
            }
        }
    }

    fn handle(&mut self, worker: usize, message: Message) {
        let (clients, mut cx) = Self::context(&mut self.nodes[worker], worker, self.now);
        match message {
            Message::Execute(execute) => {
                let ticket = execute.ticket;
                let answer = clients.execute(&mut cx, ticket, execute.work);
                let executed = Message::Executed(Box::new(Executed { ticket, answer }));
                cx.outbox.send(usize::from(ticket.worker), executed);
            }
            Message::Executed(executed) => {
                let conn = executed.ticket.conn;
                if let Some((_, output, closed)) = self.connections.get_mut(&conn) {
                    let verdict = clients.executed(&mut cx, *executed, output);
                    *closed |= verdict == Verdict::Close;
                }
            }
            other => panic!("{other:?}"),
        }
        while let Some(conn) = clients.poll_killed() {
            self.connections.get_mut(&conn).unwrap().2 = true;
        }
    }

    /// What was answered since the last call.
    fn answers(&mut self, conn: ConnId) -> String {
        let output = &mut self.connections.get_mut(&conn).unwrap().1;
        String::from_utf8_lossy(&std::mem::take(output)).into_owned()
    }

    fn is_closed(&self, conn: ConnId) -> bool {
        self.connections[&conn].2
    }

    /// Sends octets and gives the answer.
    fn send(&mut self, conn: ConnId, input: impl AsRef<[u8]>) -> String {
        self.receive(conn, input.as_ref());
        self.settle();
        self.answers(conn)
    }

    /// Sends one command line and gives the answer.
    fn line(&mut self, conn: ConnId, line: &str) -> String {
        self.send(conn, format!("{line}\r\n"))
    }

    fn advance(&mut self, ms: u64) {
        self.now.time = self.now.time.saturating_add(Duration::from_millis(ms));
        self.now.unix_ms += ms;
        for node in &mut self.nodes {
            node.shard.handle_timeouts(self.now);
        }
    }

    /// The `number`th key that a worker's shard owns.
    fn key_of(&self, worker: usize, number: usize) -> String {
        let shards = self.hub.setup.shards;
        let owned =
            |key: &String| scsp_engine::shard::shard_of(key.as_bytes(), shards).index() == worker;
        (0..)
            .map(|at| format!("key:{at}"))
            .filter(owned)
            .nth(number)
            .unwrap()
    }
}

/// A command as an array of bulks.
fn array(args: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend(format!("${}\r\n", arg.len()).bytes());
        out.extend_from_slice(arg);
        out.extend(b"\r\n");
    }
    out
}

/// Runs a script of command lines and answers on one, two and four workers.
fn play(text: &str, script: &[(&str, &str)]) {
    for workers in [1, 2, 4] {
        let mut world = World::with(workers, text, 10);
        let conn = world.open(usize::from(workers) - 1);
        for (line, wanted) in script {
            assert_eq!(
                world.line(conn, line),
                *wanted,
                "{line} on {workers} workers"
            );
        }
    }
}
