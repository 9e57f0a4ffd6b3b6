//! Tables of good and bad files. Bad ones are compared with the exact lines an operator sees.

use super::*;

mod links;

fn own_id() -> ServerId {
    ServerId::from_bytes(&[10, 0, 0, 1]).unwrap()
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse("hub.toml", text, own_id)
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

/// Asserts that `text` is refused with exactly these lines.
fn refused(text: &str, lines: &[&str]) {
    match parse(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(errors) => assert_eq!(errors.to_string(), lines.join("\n"), "for:\n{text}"),
    }
}

fn refused_each(cases: &[(&str, &str)]) {
    for (text, line) in cases {
        refused(text, &[line]);
    }
}

const TWO_LINKS: &str = "[link.a]\n[link.b]\nbind = \"10.0.0.1:2334\"\n";

#[test]
fn an_empty_file_is_a_single_hub() {
    // Goal: every default, spelled out.
    let second = Duration::from_secs(1);
    let wanted = Config {
        server: Server {
            id: own_id(),
            data_dir: None,
            snapshot_interval: Duration::from_mins(1),
            max_memory: 0,
            workers: 0,
            pin: true,
        },
        links: vec![Link {
            name: "main".to_owned(),
            kind: LinkKind::Udp {
                bind: "127.0.0.1:2334".parse().unwrap(),
            },
            mtu: Some(1500),
        }],
        groups: vec![Group {
            name: "clients".to_owned(),
            protocol: ProtocolId(0xFF00),
            id: ServerGroupId(1),
            family: FamilyId(0),
            hello_interval_secs: 3,
            dead_factor: 3,
            ca_retransmit: second,
            csus_retransmit: second,
            csu_retransmit: second,
            csu_retransmit_max: 5,
            csus_retransmit_max: 5,
            hop_count: 16,
            restart_increment: 1000,
            boot_hold: 10 * second,
            purge_retention: 3600 * second,
            abnormal_events: AbnormalEvents::Reset,
            auth_failure: AuthFailureAction::Discard,
            peers: Vec::new(),
        }],
        client: Client {
            listen: vec![ListenAddress::Tcp("127.0.0.1:6390".parse().unwrap())],
            max_connections: 10_000,
        },
        admin: Admin {
            listen: "127.0.0.1:9144".parse().unwrap(),
        },
        io: Io {
            backend: BackendChoice::Auto,
            busy_poll: Duration::ZERO,
        },
        log: Log {
            level: "info".to_owned(),
            format: LogFormat::Text,
        },
    };
    assert_eq!(good(""), wanted);
    assert_eq!(Config::with_id(own_id()), wanted);
    for empty_sections in [
        "[server]\n[link]\n[client]\n[admin]\n[io]\n[log]",
        "group = []",
        "[[group]]",
    ] {
        assert_eq!(good(empty_sections), wanted, "{empty_sections}");
    }
}

#[test]
fn the_default_text_says_what_an_empty_file_means() {
    // Goal: the commented file shows every key that `to_toml` writes, at its default; its
    // commented examples are valid too.
    assert_eq!(good(default_text()), good(""));
    for line in good("")
        .to_toml()
        .lines()
        .filter(|line| !line.starts_with("id = \"") && !line.starts_with("data_dir = "))
    {
        let key = line.split(" = ").next().unwrap().replace('"', "");
        let is_shown = default_text().lines().any(|shown| shown.starts_with(&key));
        assert!(is_shown, "{key} is not in default.toml");
    }
    let uncommented: String = default_text()
        .replace("127.0.0.1:2334", "0.0.0.0:2334")
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(example) if !example.starts_with(' ') => format!("{example}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let config = good(&uncommented);
    assert_eq!(config.server.id, own_id());
    assert_eq!(
        config.groups[0].peers[0].expected_id.unwrap().to_string(),
        "10.0.0.2"
    );
}

const FULL: &str = r#"
[server]
id = "text:hub-a"
workers = 4
pin = false
data_dir = "/var/lib/scspd"
snapshot_interval = "5m"
max_memory = "4GiB"

[link.wan]
bind = "[2001:db8::1]:2334"
mtu = 65535

[link.lan]
kind = "udp"
bind = "0.0.0.0:2335"
mtu = 576

[link.many]
kind = "multicast"
bind = "10.0.1.1:2334"
group = "239.255.23.34:2334"
interface = "eth1"
mtu = 9000

[link.six]
kind = "multicast"
group = "[ff02::2334]:2334"
interface = "eth1"

[link.raw]
kind = "ethernet"
interface = "eth1"

[link.raw-many]
kind = "ethernet"
interface = "eth2"
group = "03:00:00:00:23:34"
mtu = 600

[[group]]
name = "clients"
hello_interval = "5s"
dead_factor = 65535
ca_retransmit = "1ms"
csus_retransmit = "250ms"
csu_retransmit = 2
csu_retransmit_max = 0
csus_retransmit_max = 1000
hop_count = 1
restart_increment = 1
boot_hold = 0
purge_retention = "24h"
abnormal_events = "ignore"
auth_failure = "reset"
family = 7

[[group.peer]]
address = "10.0.0.2:2334"
link = "lan"
id = "hex:0a000002"
max_records = 1
auth = "off"
min_ttl = 0

[[group.peer]]
address = "[2001:db8::2]:2334"
link = "wan"

[[group.peer]]
address = "10.0.1.2:2334"
link = "many"

[[group.peer]]
address = "[fe80::2]:2334"
link = "six"

[[group.peer]]
address = "[fe80::2%eth1]:2334"
link = "wan"

[[group.peer]]
address = "02:00:00:00:00:0A"
link = "raw"

[[group.peer]]
address = "02:00:00:00:00:0a"
link = "raw-many"

[[group]]
name = "dhcp.lan"
protocol = "dhcp"
id = 0
family = 7
hello_interval = 5
dead_factor = 65535

[[group]]
name = "own"
protocol = 0xFF01

[[group]]
name = "other"
protocol = "0x0007"

[client]
listen = ["[::1]:6390", "[fe80::1%eth0]:6390", "unix:/run/scspd/a \"b\".sock"]
password_file = ""
max_connections = 1

[admin]
listen = "0.0.0.0:80"

[io]
backend = "poll"
busy_poll = "250us"

[log]
level = "debug"
format = "json"
"#;

#[test]
fn every_key_is_taken_over() {
    // Goal: values other than the defaults arrive in their fields, links in the file's order.
    let config = good(FULL);
    assert_eq!(config.server.id.as_bytes(), b"hub-a");
    assert_eq!((config.server.workers, config.server.pin), (4, false));
    let links: Vec<_> = config
        .links
        .iter()
        .map(|link| (link.name.as_str(), link.packet_limit(None)))
        .collect();
    let wanted = [
        ("wan", 65_535 - 48),
        ("lan", 548),
        ("many", 8972),
        ("six", 1452),
        ("raw", 1492),
        ("raw-many", 592),
    ];
    assert_eq!(links, wanted);
    let bind = |at: usize| config.links[at].bind().map(ToString::to_string);
    assert_eq!(bind(1).as_deref(), Some("0.0.0.0:2335"));
    assert_eq!(bind(2).as_deref(), Some("10.0.1.1:2334"));
    assert_eq!(bind(3).as_deref(), Some("[::]:2334"));
    assert_eq!(bind(4), None);
    let multipoint: Vec<_> = config.links.iter().map(Link::is_multipoint).collect();
    assert_eq!(multipoint, [false, false, true, true, false, true]);
    assert_eq!(config.links[2].interface(), Some("eth1"));

    let group = &config.groups[0];
    assert_eq!(
        (
            group.hello_interval_secs,
            group.dead_factor,
            group.hop_count
        ),
        (5, 65_535, 1)
    );
    assert_eq!(group.ca_retransmit, Duration::from_millis(1));
    assert_eq!(group.csus_retransmit, Duration::from_millis(250));
    assert_eq!(group.csu_retransmit, Duration::from_secs(2));
    assert_eq!(
        (group.csu_retransmit_max, group.csus_retransmit_max),
        (0, 1000)
    );
    assert_eq!(
        (group.restart_increment, group.boot_hold),
        (1, Duration::ZERO)
    );
    assert_eq!(group.purge_retention, Duration::from_hours(24));
    assert_eq!(group.abnormal_events, AbnormalEvents::Ignore);
    assert_eq!(group.auth_failure, AuthFailureAction::Reset);
    let lan_peer = Peer {
        address: PeerAddress::Ip("10.0.0.2:2334".parse().unwrap()),
        link: 1,
        expected_id: ServerId::from_bytes(&[10, 0, 0, 2]),
        max_records: 1,
        auth: AuthMode::Off,
        keys: Vec::new(),
    };
    assert_eq!(group.peers[0], lan_peer);
    let wan_peer = Peer {
        address: PeerAddress::Ip("[2001:db8::2]:2334".parse().unwrap()),
        link: 0,
        expected_id: None,
        max_records: 0,
        auth: AuthMode::Off,
        keys: Vec::new(),
    };
    assert_eq!(group.peers[1], wan_peer);
    let peers: Vec<_> = group.peers[2..]
        .iter()
        .map(|peer| (peer.address.to_string(), peer.link))
        .collect();
    let wanted = [
        ("10.0.1.2:2334", 2),
        ("[fe80::2]:2334", 3),
        ("[fe80::2%eth1]:2334", 0),
        ("02:00:00:00:00:0a", 4),
        ("02:00:00:00:00:0a", 5),
    ];
    assert_eq!(
        peers,
        wanted.map(|(address, link)| (address.to_owned(), link))
    );
    assert_eq!(
        (group.family, config.groups[1].family),
        (FamilyId(7), FamilyId(7))
    );

    let others: Vec<_> = config.groups[1..]
        .iter()
        .map(|group| (group.protocol, group.id.0))
        .collect();
    assert_eq!(
        others,
        [
            (ProtocolId::DHCP, 0),
            (ProtocolId(0xFF01), 1),
            (ProtocolId(7), 1)
        ]
    );
    assert_eq!(
        config.client.listen[2],
        ListenAddress::Unix("/run/scspd/a \"b\".sock".into())
    );
    assert_eq!(config.client.max_connections, 1);
    assert_eq!(config.admin.listen.to_string(), "0.0.0.0:80");
    assert_eq!(config.io.backend, BackendChoice::Poll);
    assert_eq!(config.io.busy_poll, Duration::from_micros(250));
    assert_eq!(
        (config.log.level.as_str(), config.log.format),
        ("debug", LogFormat::Json)
    );
}

#[test]
fn the_effective_configuration_reads_back_equal() {
    // Goal: parse(to_toml(c)) == c, and printing that again changes nothing; the id is printed.
    for text in ["", FULL, TWO_LINKS, "[client]\nlisten = []"] {
        let config = good(text);
        let printed = config.to_toml();
        let again = Config::parse("printed", &printed, || panic!("the id is printed"));
        let again = again.unwrap_or_else(|errors| panic!("{printed}\n{errors}"));
        assert_eq!(again, config, "{printed}");
        assert_eq!(again.to_toml(), printed);
    }
}

#[test]
fn the_packet_limit_follows_the_mtu() {
    // Goal: IPv4 takes 28 octets, IPv6 48, up to the largest datagram (D-14).
    for (bind, mtu, limit) in [
        ("127.0.0.1:1", 1500, 1472),
        ("127.0.0.1:1", 576, 548),
        ("127.0.0.1:1", 65_535, 65_507),
        ("[::1]:1", 1500, 1452),
        ("[::1]:1", 65_535, 65_487),
    ] {
        let config = good(&format!("[link.main]\nbind = \"{bind}\"\nmtu = {mtu}"));
        assert_eq!(config.links[0].packet_limit(None), limit, "{bind} {mtu}");
    }
    // LLC and SNAP take 8; no frame says more than 1500, whatever the interface carries.
    let raw = "[link.raw]\nkind = \"ethernet\"\ninterface = \"eth1\"\n";
    let link = &good(raw).links[0];
    let limits = [None, Some(1400), Some(9000)].map(|mtu| link.packet_limit(mtu));
    assert_eq!(limits, [1492, 1392, 1492]);
    let link = &good(&format!("{raw}mtu = 1000")).links[0];
    assert_eq!(link.packet_limit(Some(9000)), 992);
}

#[test]
fn a_peer_without_a_link_takes_main_or_the_only_one() {
    // Goal: the implied link is main, else the only one, else there is an error.
    let peer = "[[group]]\n[[group.peer]]\naddress = \"10.0.0.2:2334\"\n";
    let main_second = "[link.lan]\n[link.main]\nbind = \"10.0.0.1:2334\"\n";
    assert_eq!(
        good(&format!("{main_second}{peer}")).groups[0].peers[0].link,
        1
    );
    let only = "[link.lan]\nbind = \"10.0.0.1:2334\"\n";
    assert_eq!(good(&format!("{only}{peer}")).groups[0].peers[0].link, 0);
    refused(
        &format!("{TWO_LINKS}{peer}"),
        &["hub.toml:5: group[0].peer[0].link: missing, expected the name of a link (a, b)"],
    );
}

#[test]
fn unknown_keys_are_errors() {
    // Goal: at every level; a near miss is suggested, else the choices are listed.
    refused_each(&[
        (
            "[sever]\n",
            "hub.toml:1: sever: unknown key, did you mean \"server\"?",
        ),
        (
            "colour = 1",
            "hub.toml:1: colour: unknown key, expected one of server, link, group, client, admin, io, log",
        ),
        (
            "[server]\n\nworkerz = 2",
            "hub.toml:3: server.workerz: unknown key, did you mean \"workers\"?",
        ),
        (
            "[admin]\nport = 9144",
            "hub.toml:2: admin.port: unknown key, expected one of listen",
        ),
        (
            "[link.main]\nmtuu = 9000",
            "hub.toml:2: link.main.mtuu: unknown key, did you mean \"mtu\"?",
        ),
        (
            "[[group]]\nhelo_interval = 9000",
            "hub.toml:2: group[0].helo_interval: unknown key, did you mean \"hello_interval\"?",
        ),
        (
            "[[group]]\n[[group.peer]]\naddress = \"127.0.0.1:1\"\nadress = 1",
            "hub.toml:4: group[0].peer[0].adress: unknown key, did you mean \"address\"?",
        ),
        (
            "[io]\n\"back end\" = 1",
            "hub.toml:2: io.\"back end\": unknown key, did you mean \"backend\"?",
        ),
    ]);
}

#[test]
fn values_of_the_wrong_kind_or_size_are_errors() {
    // Goal: each reader says what it expected and what it got, with line and key.
    refused_each(&[
        ("server = 1", "hub.toml:1: server: expected a table, got 1"),
        (
            "[group]\nname = \"x\"",
            "hub.toml:1: group: expected tables, each under [[group]], got a table",
        ),
        (
            "group = [1]",
            "hub.toml:1: group[0]: expected a table, got 1",
        ),
        (
            "[[group]]\npeer = \"10.0.0.2:2334\"",
            "hub.toml:2: group[0].peer: expected tables, each under [[group.peer]], got \"10.0.0.2:2334\"",
        ),
        (
            "[[link]]",
            "hub.toml:1: link: expected tables such as [link.main], got an array",
        ),
        (
            "[link]\nkind = \"udp\"",
            "hub.toml:2: link.kind: expected a table, got \"udp\"",
        ),
        (
            "[link.\"my lan\"]",
            "hub.toml:1: link.\"my lan\": expected a name of 1 to 64 letters, digits, '.', '_' or '-', got \"my lan\"",
        ),
        (
            "[server]\nid = \"hub-a\"",
            "hub.toml:2: server.id: expected an IPv4 address, an IPv6 address, \"hex:…\" or \"text:…\", got \"hub-a\"",
        ),
        (
            "[server]\nid = \"text:\"",
            "hub.toml:2: server.id: expected a server id of 1 to 255 octets, got \"text:\"",
        ),
        (
            "[server]\nid = 7",
            "hub.toml:2: server.id: expected a server id such as \"10.0.0.1\" or \"text:hub-a\", got 7",
        ),
        (
            "[server]\nid = \"255.255.255.255\"",
            "hub.toml:2: server.id: expected an id other than all ones, got \"255.255.255.255\"",
        ),
        (
            "[server]\nworkers = \"two\"",
            "hub.toml:2: server.workers: expected a whole number from 0 to 1024, got \"two\"",
        ),
        (
            "[server]\nworkers = -1",
            "hub.toml:2: server.workers: expected a whole number from 0 to 1024, got -1",
        ),
        (
            "[server]\npin = 1",
            "hub.toml:2: server.pin: expected true or false, got 1",
        ),
        (
            "[link.main]\nkind = \"tcp\"",
            "hub.toml:2: link.main.kind: expected \"udp\" or \"multicast\" or \"ethernet\", got \"tcp\"",
        ),
        (
            "[link.main]\nbind = \"0.0.0.0\"",
            "hub.toml:2: link.main.bind: expected an address of this machine with a port, such as \"127.0.0.1:2334\", got \"0.0.0.0\"",
        ),
        (
            "[link.main]\nbind = \"0.0.0.0:0\"",
            "hub.toml:2: link.main.bind: expected an address of this machine with a port, such as \"127.0.0.1:2334\", got \"0.0.0.0:0\"",
        ),
        (
            "[link.main]\nbind = \"239.1.1.1:2334\"",
            "hub.toml:2: link.main.bind: expected an address of this machine with a port, such as \"127.0.0.1:2334\", got \"239.1.1.1:2334\"",
        ),
        (
            "[link.main]\nmtu = 575",
            "hub.toml:2: link.main.mtu: expected a whole number from 576 to 65535, got 575",
        ),
        (
            "[link.main]\nmtu = 0x10000",
            "hub.toml:2: link.main.mtu: expected a whole number from 576 to 65535, got 0x10000",
        ),
        (
            "[[group]]\nname = \"\"",
            "hub.toml:2: group[0].name: expected a name of 1 to 64 letters, digits, '.', '_' or '-', got \"\"",
        ),
        (
            "[[group]]\nprotocol = \"bgp\"",
            "hub.toml:2: group[0].protocol: expected kv, nhrp, atmarp, mars, dhcp, lnni or a number such as 0xFF01, got \"bgp\"",
        ),
        (
            "[[group]]\nprotocol = \"0x+123\"",
            "hub.toml:2: group[0].protocol: expected kv, nhrp, atmarp, mars, dhcp, lnni or a number such as 0xFF01, got \"0x+123\"",
        ),
        (
            "[[group]]\nid = 65536",
            "hub.toml:2: group[0].id: expected a whole number from 0 to 65535, got 65536",
        ),
        (
            "[[group]]\nhello_interval = \"soon\"",
            "hub.toml:2: group[0].hello_interval: expected whole seconds from 1 to 65535, got \"soon\"",
        ),
        (
            "[[group]]\nhello_interval = 0",
            "hub.toml:2: group[0].hello_interval: expected whole seconds from 1 to 65535, got 0",
        ),
        (
            "[[group]]\nhello_interval = \"1500ms\"",
            "hub.toml:2: group[0].hello_interval: expected whole seconds from 1 to 65535, got \"1500ms\"",
        ),
        (
            "[[group]]\nhello_interval = \"19h\"",
            "hub.toml:2: group[0].hello_interval: expected whole seconds from 1 to 65535, got \"19h\"",
        ),
        (
            "[[group]]\ndead_factor = 0",
            "hub.toml:2: group[0].dead_factor: expected a whole number from 1 to 65535, got 0",
        ),
        (
            "[[group]]\nca_retransmit = \"999us\"",
            "hub.toml:2: group[0].ca_retransmit: expected a duration from 1ms to 1h, such as \"500ms\" or 3, got \"999us\"",
        ),
        (
            "[[group]]\ncsus_retransmit = 3601",
            "hub.toml:2: group[0].csus_retransmit: expected a duration from 1ms to 1h, such as \"500ms\" or 3, got 3601",
        ),
        (
            "[[group]]\ncsu_retransmit = 0.5",
            "hub.toml:2: group[0].csu_retransmit: expected a duration from 1ms to 1h, such as \"500ms\" or 3, got 0.5",
        ),
        (
            "[[group]]\ncsu_retransmit_max = 1001",
            "hub.toml:2: group[0].csu_retransmit_max: expected a whole number from 0 to 1000, got 1001",
        ),
        (
            "[[group]]\nhop_count = 0",
            "hub.toml:2: group[0].hop_count: expected a whole number from 1 to 65535, got 0",
        ),
        (
            "[[group]]\nrestart_increment = 0",
            "hub.toml:2: group[0].restart_increment: expected a whole number from 1 to 1000000000, got 0",
        ),
        (
            "[[group]]\nboot_hold = \"2h\"",
            "hub.toml:2: group[0].boot_hold: expected a duration from 0s to 1h, such as \"500ms\" or 3, got \"2h\"",
        ),
        (
            "[[group]]\npurge_retention = true",
            "hub.toml:2: group[0].purge_retention: expected a duration from 1s to 8760h, such as \"500ms\" or 3, got true",
        ),
        (
            "[[group]]\nabnormal_events = \"drop\"",
            "hub.toml:2: group[0].abnormal_events: expected \"reset\" or \"ignore\", got \"drop\"",
        ),
        (
            "[client]\nlisten = \"127.0.0.1:6390\"",
            "hub.toml:2: client.listen: expected an array of at most 16 addresses, got \"127.0.0.1:6390\"",
        ),
        (
            "[client]\nlisten = [\"6390\"]",
            "hub.toml:2: client.listen: expected addresses such as \"127.0.0.1:6390\" or \"unix:/run/scspd/scspd.sock\", got \"6390\"",
        ),
        (
            "[client]\nlisten = [\"unix:scspd.sock\"]",
            "hub.toml:2: client.listen: expected an absolute path of at most 107 octets, got \"unix:scspd.sock\"",
        ),
        (
            "[client]\nmax_connections = 0",
            "hub.toml:2: client.max_connections: expected a whole number from 1 to 1000000, got 0",
        ),
        (
            "[admin]\nlisten = 9144",
            "hub.toml:2: admin.listen: expected an address of this machine with a port, such as \"127.0.0.1:2334\", got 9144",
        ),
        (
            "[io]\nbackend = \"epoll\"",
            "hub.toml:2: io.backend: expected \"auto\" or \"io_uring\" or \"poll\", got \"epoll\"",
        ),
        (
            "[io]\nbusy_poll = \"11ms\"",
            "hub.toml:2: io.busy_poll: expected a duration from 0s to 10ms, such as \"500ms\" or 3, got \"11ms\"",
        ),
        (
            "[log]\nlevel = \"loud\"",
            "hub.toml:2: log.level: expected \"off\" or \"error\" or \"warn\" or \"info\" or \"debug\" or \"trace\", got \"loud\"",
        ),
        (
            "[log]\nformat = 1979-05-27",
            "hub.toml:2: log.format: expected \"text\" or \"json\", got 1979-05-27",
        ),
    ]);
}

#[test]
fn peers_that_cannot_be_are_errors() {
    // Goal: address, link and id of a peer are checked alone and against the hub and its links.
    const FORM: &str = "the address of one host with a port, such as \"10.0.0.2:2334\"";
    let link = "[link.main]\nbind = \"10.0.0.1:2334\"\n[link.lo]\n";
    for (peer, line) in [
        ("", format!("5: group[0].peer[0].address: missing, expected {FORM}")),
        (
            "address = \"10.0.0.2\"",
            format!("6: group[0].peer[0].address: expected {FORM}, got \"10.0.0.2\""),
        ),
        (
            "address = \"hub-b:2334\"",
            format!("6: group[0].peer[0].address: expected {FORM}, got \"hub-b:2334\""),
        ),
        (
            "address = \"10.0.0.2:0\"",
            format!("6: group[0].peer[0].address: expected {FORM}, got \"10.0.0.2:0\""),
        ),
        (
            "address = \"0.0.0.0:2334\"",
            format!("6: group[0].peer[0].address: expected {FORM}, got \"0.0.0.0:2334\""),
        ),
        (
            "address = \"224.0.0.5:2334\"",
            format!("6: group[0].peer[0].address: expected {FORM}, got \"224.0.0.5:2334\""),
        ),
        (
            "address = \"[::2]:2334\"",
            "6: group[0].peer[0].address: expected an IPv4 address, since link.main is bound to 10.0.0.1:2334, got [::2]:2334".to_owned(),
        ),
        (
            "address = \"10.0.0.1:2334\"",
            "6: group[0].peer[0].address: expected the address of another hub, got 10.0.0.1:2334 of link.main".to_owned(),
        ),
        (
            "address = \"127.0.0.1:2334\"",
            "6: group[0].peer[0].address: expected the address of another hub, got 127.0.0.1:2334 of link.lo".to_owned(),
        ),
        (
            "address = \"10.0.0.2:2334\"\nlink = \"lo\"",
            "6: group[0].peer[0].address: 10.0.0.2:2334 cannot be reached from 127.0.0.1:2334, to which link.lo is bound".to_owned(),
        ),
        (
            "address = \"10.0.0.2:2334\"\nlink = \"wan\"",
            "7: group[0].peer[0].link: expected the name of a link (main, lo), got \"wan\"".to_owned(),
        ),
        (
            "address = \"10.0.0.2:2334\"\nid = \"10.0.0.1\"",
            "7: group[0].peer[0].id: expected the id of another hub, got this hub's own 10.0.0.1".to_owned(),
        ),
        (
            "address = \"10.0.0.2:2334\"\nid = \"hub-b\"",
            "7: group[0].peer[0].id: expected an IPv4 address, an IPv6 address, \"hex:…\" or \"text:…\", got \"hub-b\"".to_owned(),
        ),
        (
            "address = \"10.0.0.2:2334\"\nmax_records = 65536",
            "7: group[0].peer[0].max_records: expected a whole number from 0 to 65535, got 65536".to_owned(),
        ),
        (
            "address = \"10.0.0.2:2334\"\n[[group.peer]]\naddress = \"10.0.0.2:2334\"",
            "8: group[0].peer[1].address: 10.0.0.2:2334 is already peer[0] of this group".to_owned(),
        ),
    ] {
        let text = format!("{link}[[group]]\n[[group.peer]]\n{peer}");
        refused(&text, &[&format!("hub.toml:{line}")]);
    }
}

#[test]
fn the_same_peer_may_serve_several_groups() {
    // Goal: peer addresses are unique per group, not per hub.
    let peer = "[[group.peer]]\naddress = \"127.0.0.2:2334\"\n";
    let config = good(&format!(
        "[[group]]\n{peer}[[group]]\nname = \"b\"\nid = 2\n{peer}"
    ));
    assert_eq!(config.groups[0].peers, config.groups[1].peers);
}

#[test]
fn clashes_are_errors() {
    // Goal: what is unique in the hub is refused the second time, naming the first.
    refused_each(&[
        (
            "[link.a]\n[link.b]",
            "hub.toml:2: link.b.bind: 127.0.0.1:2334 is already used by link.a",
        ),
        (
            "[[group]]\nname = \"a\"\n[[group]]\nid = 2\nname = \"a\"",
            "hub.toml:5: group[1].name: \"a\" is already used by group[0]",
        ),
        (
            "[[group]]\nname = \"a\"\n[[group]]\nname = \"b\"\nprotocol = 0xff00",
            "hub.toml:3: group[1].id: protocol kv with id 1 is already used by group[0]",
        ),
        (
            "[client]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:1\"]",
            "hub.toml:2: client.listen: 127.0.0.1:1 is listed twice",
        ),
        (
            "[admin]\nlisten = \"127.0.0.1:6390\"",
            "hub.toml:2: admin.listen: 127.0.0.1:6390 is already used by client.listen",
        ),
    ]);
}

#[test]
fn n_01_servers_of_nhrp_have_ids_of_four_octets() {
    // Goal: an id of another length would be malformed to every neighbour, so it is refused.
    refused_each(&[
        (
            "[server]\nid = \"text:hub-a\"\n[[group]]\nprotocol = \"nhrp\"",
            "hub.toml:4: group[0].protocol: nhrp needs server ids of 4 octets, but server.id is hex:6875622d61",
        ),
        (
            "[[group]]\nprotocol = \"mars\"\n[[group.peer]]\naddress = \"127.0.0.2:1\"\nid = \"::1\"",
            "hub.toml:5: group[0].peer[0].id: expected an id of 4 octets as mars needs, got ::1",
        ),
    ]);
    assert_eq!(
        good("[[group]]\nprotocol = \"nhrp\"").groups[0].protocol,
        ProtocolId::NHRP
    );
}

#[test]
fn memory_and_disk_have_limits_and_places() {
    // Goal: every form of the three keys, and what is wrong with others.
    let server = |line: &str| good(&format!("[server]\n{line}")).server;
    let path = server("data_dir = \"/var/lib/scspd\"").data_dir.unwrap();
    assert_eq!(path.to_str(), Some("/var/lib/scspd"));
    assert_eq!(server("data_dir = \"\"").data_dir, None);
    let interval = server("snapshot_interval = 90").snapshot_interval;
    assert_eq!(interval, Duration::from_secs(90));
    for (line, octets) in [
        ("max_memory = \"0\"", 0),
        ("max_memory = 0", 0),
        ("max_memory = \"512MiB\"", 512 << 20),
        ("max_memory = \"100000000\"", 100_000_000),
        ("max_memory = 100000000", 100_000_000),
    ] {
        assert_eq!(server(line).max_memory, octets, "{line}");
    }
    refused_each(&[
        (
            "[server]\ndata_dir = \"data\"",
            "hub.toml:2: server.data_dir: expected an absolute path, or \"\" for none, got \"data\"",
        ),
        (
            "[server]\nsnapshot_interval = \"10ms\"",
            "hub.toml:2: server.snapshot_interval: expected a duration from 1s to 24h, such as \"500ms\" or 3, got \"10ms\"",
        ),
        (
            "[server]\nmax_memory = \"4GB\"",
            "hub.toml:2: server.max_memory: expected \"0\" or a size from 1MiB on, such as \"4GiB\" or 100000000, got \"4GB\"",
        ),
        (
            "[server]\nmax_memory = 1000",
            "hub.toml:2: server.max_memory: expected \"0\" or a size from 1MiB on, such as \"4GiB\" or 100000000, got 1000",
        ),
    ]);
}

#[test]
fn what_is_not_built_is_refused() {
    // Goal: no key is ignored; the value that means "off" is accepted.
    let peer = "[[group]]\n[[group.peer]]\naddress = \"127.0.0.2:1\"\n";
    let ttl = format!("{peer}min_ttl = 255");
    refused_each(&[
        (
            "[[group]]\nmars_redirect_interval = \"60s\"",
            "hub.toml:2: group[0].mars_redirect_interval: not supported yet",
        ),
        (
            &ttl,
            "hub.toml:4: group[0].peer[0].min_ttl: not supported yet, expected 0, got 255",
        ),
        (
            "[client]\npassword_file = \"/etc/scspd/password\"",
            "hub.toml:2: client.password_file: not supported yet, expected \"\", got \"/etc/scspd/password\"",
        ),
    ]);
}

#[test]
fn all_findings_come_at_once_in_the_order_of_the_file() {
    // Goal: one line per finding, by place; a parallel structured form has line and column.
    let text = "[log]\nlevel = 7\n\n[server]\nid = \"äö\"\nwrkers = 1\n[[group]]\nhop_count = 0";
    refused(
        text,
        &[
            "hub.toml:2: log.level: expected \"off\" or \"error\" or \"warn\" or \"info\" or \"debug\" or \"trace\", got 7",
            "hub.toml:5: server.id: expected an IPv4 address, an IPv6 address, \"hex:…\" or \"text:…\", got \"äö\"",
            "hub.toml:6: server.wrkers: unknown key, did you mean \"workers\"?",
            "hub.toml:8: group[0].hop_count: expected a whole number from 1 to 65535, got 0",
        ],
    );
    let errors = parse(text).unwrap_err();
    let places: Vec<_> = errors.iter().filter_map(|error| error.position).collect();
    assert_eq!(places[1], Position { line: 5, column: 6 });
    assert_eq!(errors.iter().last().unwrap().key, "group[0].hop_count");

    let many: Vec<_> = (0..1000).map(|index| format!("key-{index} = 0")).collect();
    assert_eq!(
        parse(&many.join("\n")).unwrap_err().iter().count(),
        ERRORS_MAX
    );
}

#[test]
fn counts_are_bounded() {
    // Goal: the named limits on links, groups, peers and client addresses hold.
    let groups = "[[group]]\n".repeat(257);
    let links: Vec<_> = (0..65).map(|index| format!("[link.l{index}]")).collect();
    let links = links.join("\n");
    let peers = format!("[[group]]\n{}", "[[group.peer]]\n".repeat(1025));
    let group = |id: usize, count: usize| {
        let peer = |at: usize| {
            format!(
                "[[group.peer]]\naddress = \"127.0.{}.{}:{}\"\n",
                at / 250,
                at % 250 + 1,
                id + 3000
            )
        };
        let peers: String = (0..count).map(peer).collect();
        format!("[[group]]\nname = \"g{id}\"\nid = {id}\n{peers}")
    };
    // The most there can be, and one more.
    let most: String = (0..31).map(|id| group(id, 1024)).collect();
    assert_eq!(good(&format!("{most}{}", group(31, 1024))).groups.len(), 32);
    refused(
        &format!("{most}{}{}", group(31, 1024), group(32, 1)),
        &["hub.toml:1: group: expected at most 32768 peers in all, got 32769"],
    );
    let listen = format!("[client]\nlisten = [{}]", "\"127.0.0.1:1\",".repeat(17));
    refused_each(&[
        (
            &groups,
            "hub.toml:1: group: expected at most 256 tables, got 257",
        ),
        (
            &links,
            "hub.toml:1: link: expected at most 64 tables, got 65",
        ),
        (
            &peers,
            "hub.toml:2: group[0].peer: expected at most 1024 tables, got 1025",
        ),
        (
            &listen,
            "hub.toml:2: client.listen: expected an array of at most 16 addresses, got an array",
        ),
    ]);
}

#[test]
fn text_that_is_not_toml_has_a_place_too() {
    // Goal: syntax errors and repeated keys name the line, on one line of output.
    for (text, start) in [
        ("[server]\nid = \n", "hub.toml:2: not TOML: "),
        ("[server]\n[server]\n", "hub.toml:2: not TOML: "),
        (
            "[log]\nlevel = \"a\"\nlevel = \"b\"",
            "hub.toml:3: not TOML: ",
        ),
        ("\n\n}", "hub.toml:3: not TOML: "),
        ("[server", "hub.toml:1: not TOML: "),
    ] {
        let shown = parse(text).unwrap_err().to_string();
        assert!(shown.starts_with(start), "{shown}");
        assert!(!shown.contains('\n'), "{shown}");
    }
}

#[test]
fn files_that_cannot_be_used_say_why() {
    // Goal: missing, oversized and non-UTF-8 files give one line with the name.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    let refusal = || Config::load(&path).unwrap_err().to_string();
    let name = path.display();
    assert_eq!(
        refusal(),
        format!("{name}: cannot be read: No such file or directory (os error 2)")
    );
    std::fs::write(&path, vec![b'\n'; (1 << 20) + 1]).unwrap();
    assert_eq!(
        refusal(),
        format!("{name}: expected at most 1048576 octets")
    );
    std::fs::write(&path, b"[log]\nlevel = \"\xFF\"").unwrap();
    assert_eq!(refusal(), format!("{name}:2: expected UTF-8"));
    std::fs::write(&path, FULL).unwrap();
    assert_eq!(Config::load(&path).unwrap(), good(FULL));
}

#[test]
fn the_default_id_is_asked_only_when_needed() {
    // Goal: a file with an id does not look at the machine; one without has a usable id.
    let config = Config::parse("x", "[server]\nid = \"::1\"", || panic!("asked")).unwrap();
    assert_eq!(config.server.id.as_bytes().len(), 16);
    let id = Config::default().server.id;
    assert_ne!(id, ServerId::from_bytes(&[127, 0, 0, 1]).unwrap());
    assert_eq!(id, host::default_server_id());
}

#[test]
fn no_text_panics() {
    // Goal: every prefix of a full file, and the file with any one octet replaced, is either read
    // or refused; what is read prints and reads back.
    let mut read_count = 0;
    let mut try_text = |octets: &[u8]| {
        let Ok(text) = std::str::from_utf8(octets) else {
            return;
        };
        if let Ok(config) = parse(text) {
            read_count += 1;
            assert_eq!(good(&config.to_toml()), config, "{text}");
        }
    };
    for index in 0..FULL.len() {
        try_text(&FULL.as_bytes()[..index]);
        for octet in [b'"', b'[', b'\n', b'9'] {
            let mut octets = FULL.as_bytes().to_vec();
            octets[index] = octet;
            try_text(&octets);
        }
    }
    assert!(read_count > 100, "only {read_count} variants were valid");
}

#[test]
fn the_example_files_are_valid() {
    // Goal: every sample configuration of deploy/ loads and prints back.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let config = Config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(good(&config.to_toml()), config, "{}", path.display());
            count += 1;
        }
    }
    assert!(count >= 3, "{count} examples in {}", folder.display());
}
