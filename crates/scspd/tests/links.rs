//! Links of every kind, between real hubs: IPv6 on loopback, and interfaces, routes, multicast and
//! Ethernet in network namespaces of their own. The latter need root and are run with
//! `--ignored`.

mod support;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use redis::{Commands, Connection};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value as Json;
use tempfile::TempDir;

use support::segment::Segment;
use support::{
    Backend, Net, PATIENCE, Setup, eventually, on_both_backends, sample, scspd, try_http, wait_for,
};

on_both_backends! {
    hubs_meet_over_ipv6_loopback,
}

/// Makes two tests of each scenario, one on each I/O backend, that need root.
macro_rules! in_namespaces {
    ($($name:ident),* $(,)?) => {
        mod namespaces {
            mod io_uring {
                $(#[test]
                #[ignore = "needs root"]
                fn $name() {
                    if crate::support::Backend::IoUring.is_usable() {
                        crate::$name(crate::support::Backend::IoUring);
                    }
                })*
            }
            mod poll {
                $(#[test]
                #[ignore = "needs root"]
                fn $name() {
                    crate::$name(crate::support::Backend::Poll);
                })*
            }
        }
    };
}

in_namespaces! {
    h_02_a_unicast_neighbour_is_down_without_a_route,
    h_02_a_multicast_link_follows_its_interface,
    h_02_a_link_waits_for_its_interface,
    h_10_multicast_hubs_meet_over_ipv4,
    h_10_multicast_hubs_meet_over_ipv6,
    h_10_ethernet_hubs_meet_in_a_group,
    ethernet_hubs_meet_one_by_one,
    link_local_neighbours_meet_over_unicast,
    links_share_a_port,
    d_14_ethernet_limits_the_size_of_values,
    h_14_families_share_their_hellos,
}

/// A hub in a namespace; its clients come over a Unix socket.
struct Hub {
    child: Child,
    folder: TempDir,
    space: String,
}

const ADMIN: &str = "127.0.0.1:9144";

impl Hub {
    /// Starts a hub with these links and groups.
    fn start(segment: &Segment, number: u8, backend: Backend, text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("socket");
        let text = format!(
            "[server]\nid = \"10.0.0.{number}\"\nworkers = 2\npin = false\n\
             [client]\nlisten = [\"unix:{}\"]\n[io]\nbackend = \"{}\"\n{text}",
            socket.display(),
            backend.name(),
        );
        let file = folder.path().join("hub.toml");
        fs::write(&file, text).expect("written");
        let output = |name| File::create(folder.path().join(name)).expect("an output file");
        let space = segment.space(number);
        let program = scspd();
        let child = Command::new("ip")
            .args(["netns", "exec", &space])
            .arg(program.get_program())
            .arg("--config")
            .arg(&file)
            .env_remove("RUST_LOG")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .expect("the program starts");
        let mut hub = Self {
            child,
            folder,
            space,
        };
        wait_for("the hub comes up", || {
            let status = hub.child.try_wait().expect("a child");
            assert!(
                status.is_none(),
                "the hub ended with {status:?}: {}",
                hub.log()
            );
            match hub.http("/healthz") {
                Some((200, _)) => Ok(()),
                other => Err(format!("/healthz answers {other:?}")),
            }
        });
        hub
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).expect("readable")
    }

    /// A GET from inside the namespace.
    fn http(&self, path: &str) -> Option<(u16, String)> {
        let space = PathBuf::from("/run/netns").join(&self.space);
        let path = path.to_owned();
        let asked = std::thread::spawn(move || {
            let space = File::open(space).expect("the namespace exists");
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&space), kind).expect("entered");
            let admin: SocketAddr = ADMIN.parse().expect("an address");
            try_http(admin, &path)
        });
        asked.join().expect("asked")
    }

    /// A number that is whole.
    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let (_, text) = self.http("/metrics").expect("the admin interface answers");
        let value = sample(&text, name, labels);
        let value = value.unwrap_or_else(|| panic!("no series {name}{labels:?}"));
        value.to_string().parse().expect("a whole number")
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.metric("scsp_packets_dropped_total", &[("reason", reason)])
    }

    fn redis(&self) -> Connection {
        let socket = self.folder.path().join("socket");
        let client = redis::Client::open(format!("redis+unix://{}", socket.display()));
        let connection = client.expect("a URL").get_connection_with_timeout(PATIENCE);
        connection.expect("the hub accepts")
    }

    /// Hello and alignment states of each neighbour.
    fn peers(&self) -> Vec<(String, String)> {
        let (_, body) = self.http("/status").expect("the admin interface answers");
        let status: Json = serde_json::from_str(&body).expect("/status is JSON");
        let state = |peer: &Json, key: &str| peer[key].as_str().expect("a state").to_owned();
        let peers = status["peers"].as_array().expect("an array");
        peers
            .iter()
            .map(|peer| (state(peer, "hello"), state(peer, "alignment")))
            .collect()
    }

    #[track_caller]
    fn wait_until_aligned(&self) {
        wait_for("all neighbours are aligned", || {
            let states = self.peers();
            let aligned = states.iter().all(|(_, alignment)| alignment == "aligned");
            aligned.then_some(()).ok_or_else(|| format!("{states:?}"))
        });
    }

    #[track_caller]
    fn wait_until_hellos_are(&self, wanted: &[&str]) {
        wait_for("the hello machines move", || {
            let states = self.peers();
            let hellos: Vec<&str> = states.iter().map(|(hello, _)| hello.as_str()).collect();
            (hellos == wanted)
                .then_some(())
                .ok_or_else(|| format!("{states:?}"))
        });
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the hub in {}:\n{}", self.space, self.log());
        }
    }
}

/// A group `name` with these neighbours.
fn group(name: &str, id: u16, more: &str, peers: &[String]) -> String {
    let mut text = format!(
        "[[group]]\nname = \"{name}\"\nid = {id}\nhello_interval = 1\ndead_factor = 3\n\
         ca_retransmit = \"200ms\"\ncsus_retransmit = \"200ms\"\ncsu_retransmit = \"200ms\"\n\
         boot_hold = \"200ms\"\n{more}\n"
    );
    for address in peers {
        write!(text, "[[group.peer]]\naddress = \"{address}\"\n").expect("a text grows");
    }
    text
}

/// A segment of three hubs with one link, each the neighbour of the others at `address`.
struct Trio {
    segment: Segment,
    hubs: Vec<Hub>,
}

impl Trio {
    fn start(backend: Backend, link: &str, address: impl Fn(u8) -> String) -> Self {
        let segment = Segment::new(3);
        let start = |number: u8| {
            let others = (1..=3).filter(|other| *other != number);
            let peers: Vec<String> = others.map(&address).collect();
            let text = format!("[link.main]\n{link}\n{}", group("clients", 1, "", &peers));
            Hub::start(&segment, number, backend, &text)
        };
        let hubs: Vec<Hub> = (1..=3).map(start).collect();
        let trio = Self { segment, hubs };
        trio.wait_until_aligned();
        trio
    }

    fn wait_until_aligned(&self) {
        self.hubs.iter().for_each(Hub::wait_until_aligned);
    }

    /// Writes at each hub and reads at the others.
    fn share(&self, key: &str) {
        for writer in 0..self.hubs.len() {
            let key = format!("{key}-{writer}");
            let () = self.hubs[writer]
                .redis()
                .set(&key, "value")
                .expect("written");
            for reader in &self.hubs {
                let mut connection = reader.redis();
                wait_for("the value arrives", || {
                    let got: Option<String> = connection.get(&key).expect("a reply");
                    (got.as_deref() == Some("value"))
                        .then_some(())
                        .ok_or(format!("{got:?}"))
                });
            }
        }
    }
}

/// Goal: two hubs over IPv6 loopback align and share; addresses are shown as configured, and the packet
/// limit leaves room for the larger headers.
fn hubs_meet_over_ipv6_loopback(backend: Backend) {
    let net = Net::claim();
    let [ours, theirs] = ipv6_ports();
    let setup = |number: u8, own: &SocketAddr, other: &SocketAddr| {
        let neighbour = net.address(9, 2334).to_string();
        Setup::hub(&net, number, &[9])
            .replace(
                &format!("bind = \"{}\"", net.address(number, 2334)),
                &format!("bind = \"{own}\""),
            )
            .replace(&neighbour, &other.to_string())
    };
    let setups = [setup(1, &ours, &theirs), setup(2, &theirs, &ours)];
    let hubs = support::Hub::start_all([&setups[0], &setups[1]], backend);
    hubs.iter().for_each(support::Hub::wait_until_aligned);
    let [mut a, mut b] = hubs.each_ref().map(support::Hub::redis);
    let large = "v".repeat(60_000);
    let () = a.set("key", &large).expect("written");
    wait_for("the value arrives", || {
        let got: Option<String> = b.get("key").expect("a reply");
        (got.as_ref() == Some(&large))
            .then_some(())
            .ok_or("not yet".to_owned())
    });
    let labels = [
        ("group", "clients"),
        ("peer", &*theirs.to_string()),
        ("state", "aligned"),
    ];
    assert_eq!(
        hubs[0].metric("scsp_peer_alignment_state", &labels),
        Some(1.0)
    );
    assert!(
        hubs[0].stdout().contains(&format!("{ours}/udp")),
        "{}",
        hubs[0].stdout()
    );
}

/// Two ports of IPv6 loopback that nobody uses at the moment.
fn ipv6_ports() -> [SocketAddr; 2] {
    let sockets = [(); 2].map(|()| std::net::UdpSocket::bind("[::1]:0").expect("a port"));
    sockets.map(|socket| socket.local_addr().expect("bound"))
}

const UNICAST: &str = "bind = \"0.0.0.0:2334\"";
const MULTICAST: &str = "kind = \"multicast\"\nbind = \"0.0.0.0:2334\"\n\
                         group = \"239.255.23.34:2334\"\ninterface = \"eth1\"";

/// Goal: H-02: a route that is withdrawn, an interface that is down and a cable that is pulled
/// take unicast neighbours to Down, and back.
fn h_02_a_unicast_neighbour_is_down_without_a_route(backend: Backend) {
    let trio = Trio::start(backend, UNICAST, |hub| format!("10.9.0.{hub}:2334"));
    trio.share("first");
    let (segment, hub) = (&trio.segment, &trio.hubs[0]);

    segment.run(1, "route add unreachable 10.9.0.2/32");
    hub.wait_until_hellos_are(&["down", "bidirectional"]);
    assert!(hub.log().contains("no route"), "{}", hub.log());
    segment.run(1, "route del unreachable 10.9.0.2/32");
    trio.wait_until_aligned();

    segment.run(1, "link set eth1 down");
    hub.wait_until_hellos_are(&["down", "down"]);
    segment.run(1, "link set eth1 up");
    trio.wait_until_aligned();

    segment.set_carrier(1, false);
    hub.wait_until_hellos_are(&["down", "down"]);
    segment.set_carrier(1, true);
    trio.wait_until_aligned();
    trio.share("last");
}

/// Goal: H-02: a multicast link goes down with its interface and comes back with it, also with
/// another one of its name.
fn h_02_a_multicast_link_follows_its_interface(backend: Backend) {
    let trio = Trio::start(backend, MULTICAST, |hub| format!("10.9.0.{hub}:2334"));
    let (segment, hub) = (&trio.segment, &trio.hubs[2]);
    segment.run(3, "link set eth1 down");
    hub.wait_until_hellos_are(&["down", "down"]);
    segment.run(3, "link set eth1 up");
    trio.wait_until_aligned();

    segment.run(3, "address del 10.9.0.3/24 dev eth1");
    hub.wait_until_hellos_are(&["down", "down"]);
    assert!(hub.log().contains("has no address"), "{}", hub.log());
    segment.run(3, "address add 10.9.0.3/24 dev eth1");
    trio.wait_until_aligned();

    segment.run(3, "link del eth1");
    hub.wait_until_hellos_are(&["down", "down"]);
    segment.plug(3);
    trio.wait_until_aligned();
    trio.share("last");
}

/// Goal: H-02: a hub whose interface does not exist runs, with its links down, until it does.
fn h_02_a_link_waits_for_its_interface(backend: Backend) {
    let segment = Segment::new(2);
    segment.run(2, "link del eth1");
    let text = |other: u8| {
        format!(
            "[link.lan]\n{MULTICAST}\n[link.raw]\nkind = \"ethernet\"\ninterface = \"eth1\"\n{}{}",
            group(
                "clients",
                1,
                "",
                &[format!("10.9.0.{other}:2334\"\nlink = \"lan")]
            ),
            group(
                "raw",
                2,
                "",
                &[format!("02:00:00:00:00:{other:02}\"\nlink = \"raw")]
            ),
        )
    };
    let hubs =
        [(1, 2), (2, 1)].map(|(own, other)| Hub::start(&segment, own, backend, &text(other)));
    hubs[1].wait_until_hellos_are(&["down", "down"]);
    hubs[0].wait_until_hellos_are(&["waiting", "waiting"]);
    segment.plug(2);
    hubs.iter().for_each(Hub::wait_until_aligned);
}

/// Goal: H-10: three hubs of an IPv4 multicast group share; their own packets are recognized.
fn h_10_multicast_hubs_meet_over_ipv4(backend: Backend) {
    let trio = Trio::start(backend, MULTICAST, |hub| format!("10.9.0.{hub}:2334"));
    trio.share("key");
    assert!(trio.hubs[0].metric("scsp_records_broadcast_total", &[("group", "clients")]) > 0);
    for hub in &trio.hubs {
        eventually("own packets come back", || hub.dropped("own_packet") > 0);
        assert_eq!(hub.dropped("unknown_peer"), 0);
    }
}

/// Goal: the same over IPv6, on a link-local group, where members have link-local addresses.
fn h_10_multicast_hubs_meet_over_ipv6(backend: Backend) {
    let link = "kind = \"multicast\"\ngroup = \"[ff02::2334]:2334\"\ninterface = \"eth1\"";
    let trio = Trio::start(backend, link, |hub| format!("[fe80::{hub}]:2334"));
    trio.share("key");
    for hub in &trio.hubs {
        eventually("own packets come back", || hub.dropped("own_packet") > 0);
        assert_eq!(hub.dropped("unknown_peer"), 0);
    }
}

/// Goal: three hubs of an Ethernet group share, and after their interface was away again.
fn h_10_ethernet_hubs_meet_in_a_group(backend: Backend) {
    let link = "kind = \"ethernet\"\ninterface = \"eth1\"\ngroup = \"03:00:00:00:23:34\"";
    let trio = Trio::start(backend, link, |hub| format!("02:00:00:00:00:{hub:02x}"));
    trio.share("key");
    let (segment, hub) = (&trio.segment, &trio.hubs[1]);
    segment.run(2, "link set eth1 down");
    hub.wait_until_hellos_are(&["down", "down"]);
    segment.run(2, "link set eth1 up");
    trio.wait_until_aligned();
    segment.run(2, "link del eth1");
    hub.wait_until_hellos_are(&["down", "down"]);
    segment.plug(2);
    trio.wait_until_aligned();
    trio.share("last");
    assert_eq!(hub.dropped("unknown_peer"), 0);
}

/// Goal: Ethernet without a group: each neighbour by its own address.
fn ethernet_hubs_meet_one_by_one(backend: Backend) {
    let link = "kind = \"ethernet\"\ninterface = \"eth1\"";
    let trio = Trio::start(backend, link, |hub| format!("02:00:00:00:00:{hub:02x}"));
    trio.share("key");
    assert_eq!(trio.hubs[0].dropped("unknown_peer"), 0);
}

/// Goal: link-local neighbours by interface name, under another index after it was made anew.
fn link_local_neighbours_meet_over_unicast(backend: Backend) {
    let trio = Trio::start(backend, "bind = \"[::]:2334\"", |hub| {
        format!("[fe80::{hub}%eth1]:2334")
    });
    trio.share("key");
    trio.segment.run(1, "link del eth1");
    trio.hubs[0].wait_until_hellos_are(&["down", "down"]);
    trio.segment.plug(1);
    trio.wait_until_aligned();
    trio.share("last");
    let labels = [
        ("group", "clients"),
        ("peer", "[fe80::2%eth1]:2334"),
        ("state", "aligned"),
    ];
    assert_eq!(trio.hubs[0].metric("scsp_peer_alignment_state", &labels), 1);
}

/// Goal: a unicast and a multicast link on one port and one interface: each has its neighbours.
fn links_share_a_port(backend: Backend) {
    let segment = Segment::new(3);
    let start = |number: u8| {
        let (lan, main) = match number {
            1 => (2, 3),
            2 => (1, 3),
            _ => (0, 1),
        };
        let mut text = format!("[link.main]\n{UNICAST}\n");
        if lan != 0 {
            write!(text, "[link.lan]\n{MULTICAST}\n").expect("a text grows");
            let peer = format!("10.9.0.{lan}:2334\"\nlink = \"lan");
            text += &group("near", 1, "", &[peer]);
        }
        if number != 2 {
            text += &group(
                "far",
                2,
                "",
                &[format!("10.9.0.{main}:2334\"\nlink = \"main")],
            );
        }
        Hub::start(&segment, number, backend, &text)
    };
    let hubs: Vec<Hub> = (1..=3).map(start).collect();
    hubs.iter().for_each(Hub::wait_until_aligned);
    assert_eq!(hubs[0].dropped("unknown_peer"), 0);
}

/// Goal: D-14: what no frame can carry is refused to the client, with the limit; the largest
/// value that is taken arrives.
fn d_14_ethernet_limits_the_size_of_values(backend: Backend) {
    let link = "kind = \"ethernet\"\ninterface = \"eth1\"";
    let trio = Trio::start(backend, link, |hub| format!("02:00:00:00:00:{hub:02x}"));
    let mut writer = trio.hubs[0].redis();
    let refusal = redis::cmd("SET")
        .arg("key")
        .arg("v".repeat(1492))
        .query::<()>(&mut writer)
        .expect_err("refused")
        .to_string();
    let limit = refusal
        .split("the limit of ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let limit: usize = limit
        .and_then(|limit| limit.parse().ok())
        .unwrap_or_else(|| panic!("{refusal}"));
    assert!((1300..1492).contains(&limit), "{refusal}");
    let largest = "v".repeat(limit);
    let () = writer.set("key", &largest).expect("written");
    for hub in &trio.hubs {
        let mut reader = hub.redis();
        wait_for("the value arrives", || {
            let got: Option<String> = reader.get("key").expect("a reply");
            (got.as_ref() == Some(&largest))
                .then_some(())
                .ok_or("not yet".to_owned())
        });
        assert_eq!(hub.dropped("send_failed"), 0);
    }
}

/// Goal: H-14: two groups of a family meet and part together, over one stream of Hellos; a hub
/// that has another lowest group of the family is met all the same.
fn h_14_families_share_their_hellos(backend: Backend) {
    let segment = Segment::new(2);
    let start = |number: u8, ids: &[u16]| {
        let peer = format!("10.9.0.{}:2334", 3 - number);
        let mut text = format!("[link.main]\n{UNICAST}\n");
        for id in ids {
            text += &group(
                &format!("g{id}"),
                *id,
                "family = 7",
                std::slice::from_ref(&peer),
            );
        }
        Hub::start(&segment, number, backend, &text)
    };
    let hubs = [start(1, &[2, 3]), start(2, &[1, 2, 3])];
    hubs[0].wait_until_aligned();
    wait_for("the groups that both have are aligned", || {
        let states = hubs[1].peers();
        let aligned = states[1..]
            .iter()
            .all(|(_, alignment)| alignment == "aligned");
        aligned.then_some(()).ok_or_else(|| format!("{states:?}"))
    });
    segment.run(1, "link set eth1 down");
    hubs[0].wait_until_hellos_are(&["down", "down"]);
    segment.run(1, "link set eth1 up");
    hubs[0].wait_until_aligned();
}
