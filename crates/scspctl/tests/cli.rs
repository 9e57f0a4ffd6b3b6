//! The program against a hub that answers from a script: every command in both forms, every exit status.

mod hub;

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};

use hub::{Hub, array, bulk, map, map3};

const GROUPS: [&[(&str, &str)]; 3] = [
    &[
        ("name", "routes"),
        ("protocol", "nhrp"),
        ("id", "7"),
        ("entries", "2"),
        ("digest", "00ff"),
        ("loading", "0"),
    ],
    &[
        ("name", "clients"),
        ("protocol", "kv"),
        ("id", "1"),
        ("entries", "60123"),
        ("digest", "c0ffee"),
        ("loading", "1"),
    ],
    &[
        ("name", "more"),
        ("protocol", "kv"),
        ("id", "2"),
        ("entries", "0"),
        ("digest", "0"),
        ("loading", "0"),
    ],
];

fn groups() -> Vec<u8> {
    array(GROUPS.map(map))
}

fn peers() -> Vec<u8> {
    array([
        map(&[
            ("group", "clients"),
            ("peer", "127.0.0.2:2334"),
            ("id", "10.0.0.2"),
            ("hello", "bidirectional"),
            ("alignment", "aligned"),
            ("since", "312"),
            ("last_hello", "1.25"),
            ("role", "master"),
            ("queue", "3"),
            ("requests", "0"),
            ("abnormal", "3"),
            ("abnormal_malformed", "1"),
            ("abnormal_authentication", "2"),
            ("abnormal_cleared", "0"),
        ]),
        map3(&[
            ("group", "more"),
            ("peer", "127.0.0.3:2334"),
            ("id", ""),
            ("hello", "waiting"),
            ("alignment", "down"),
            ("since", "0"),
            ("last_hello", "-1"),
            ("role", ""),
            ("queue", "0"),
            ("requests", "0"),
            ("abnormal", "0"),
            ("shard", "x"),
        ]),
    ])
}

/// A kv body: kind, remaining life in milliseconds, value.
fn kv(kind: u8, life_ms: u32, value: &[u8]) -> Vec<u8> {
    let mut body = vec![1, kind, 0, u8::from(life_ms > 0)];
    body.extend(life_ms.to_be_bytes());
    body.extend((1_700_000_000_123_u64 << 16 | 4).to_be_bytes());
    body.extend(value);
    body
}

fn record(key: Option<&[u8]>, oid: &str, seq: i32, age_ms: u32, body: &[u8]) -> Vec<u8> {
    let numbers = [
        format!(":{seq}\r\n").into_bytes(),
        format!(":{age_ms}\r\n").into_bytes(),
    ];
    let [seq, age] = numbers;
    array(
        key.map(bulk)
            .into_iter()
            .chain([bulk(oid), seq, age, bulk(body)]),
    )
}

fn page(next: &str, items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    array([bulk(next), array(items)])
}

/// Runs the program; `SCSPCTL_CONNECT` never leaks in from outside.
fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scspctl"))
        .args(arguments)
        .env_remove("SCSPCTL_CONNECT")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs the program against `hub`, split into words; returns status, stdout, stderr.
fn ask(hub: &Hub, arguments: &str) -> (i32, String, String) {
    let words: Vec<_> = ["--connect", hub.address()]
        .into_iter()
        .chain(arguments.split(' '))
        .collect();
    told(&run(&words))
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn done(stdout: &str) -> (i32, String, String) {
    (0, stdout.to_owned(), String::new())
}

/// Goal: a healthy hub is one line and status 0, in both forms and as a RESP2 or RESP3 map.
#[test]
fn status_healthy() {
    let fields = [
        ("version", "0.1.0"),
        ("id", "10.0.0.1"),
        ("backend", "poll"),
        ("uptime", "93784"),
        ("healthy", "1"),
        ("reason", ""),
    ];
    for reply in [map(&fields), map3(&fields)] {
        let hub = Hub::start(vec![("SCSP.STATUS", reply)]);
        assert_eq!(
            ask(&hub, "status"),
            done("healthy (id 10.0.0.1, scspd 0.1.0, backend poll, up 1d2h)\n")
        );
        assert_eq!(
            ask(&hub, "--json status"),
            done(concat!(
                r#"{"version":"0.1.0","id":"10.0.0.1","backend":"poll","uptime":93784,"healthy":true,"reason":null}"#,
                "\n"
            ))
        );
    }
}

/// Goal: a degraded hub names its reason and is status 1, in both forms.
#[test]
fn status_degraded() {
    let fields = [
        ("id", "hex:0a"),
        ("healthy", "0"),
        ("reason", "clients: no neighbour is aligned"),
    ];
    let hub = Hub::start(vec![("SCSP.STATUS", map(&fields))]);
    let (status, out, _) = ask(&hub, "status");
    assert_eq!(status, 1);
    assert_eq!(
        out,
        "degraded: clients: no neighbour is aligned (id hex:0a, scspd -, backend -, up -)\n"
    );
    let (status, out, _) = ask(&hub, "status --json");
    assert_eq!(status, 1);
    assert!(
        out.contains(r#""healthy":false,"reason":"clients: no neighbour is aligned""#),
        "{out}"
    );
}

/// Goal: groups keep the hub's order; numbers are numbers in JSON.
#[test]
fn groups_in_both_forms() {
    let hub = Hub::start(vec![("SCSP.GROUPS", groups())]);
    let table = "\
NAME     PROTOCOL  ID  ENTRIES  DIGEST  LOADING
routes   nhrp       7        2  00ff    no
clients  kv         1    60123  c0ffee  yes
more     kv         2        0  0       no
";
    assert_eq!(ask(&hub, "groups"), done(table));
    let (status, out, _) = ask(&hub, "--json groups");
    assert_eq!(status, 0);
    assert!(out.starts_with(concat!(
        r#"[{"name":"routes","protocol":"nhrp","id":7,"entries":2,"digest":"00ff","loading":false},"#,
        r#"{"name":"clients","protocol":"kv","id":1,"entries":60123,"digest":"c0ffee","loading":true},"#
    )), "{out}");
}

/// Goal: digests of all groups or of one, with or without what was withdrawn.
#[test]
fn digest_in_both_forms() {
    let digest =
        |entries: &str, digest: &str| array([format!(":{entries}\r\n").into_bytes(), bulk(digest)]);
    let hub = Hub::start(vec![
        ("SCSP.GROUPS", groups()),
        ("SCSP.DIGEST routes", digest("2", "00000000000000ff")),
        ("SCSP.DIGEST clients", digest("60123", "0123456789abcdef")),
        ("SCSP.DIGEST more", digest("0", "0000000000000000")),
        ("SCSP.DIGEST routes ALL", digest("3", "00000000000001ff")),
        ("SCSP.DIGEST odd", array([bulk("x")])),
        ("SCSP.DIGEST held", b"-LOADING not yet\r\n".to_vec()),
    ]);
    let table = "\
GROUP    ENTRIES  DIGEST
routes         2  00000000000000ff
clients    60123  0123456789abcdef
more           0  0000000000000000
";
    assert_eq!(ask(&hub, "digest"), done(table));
    assert_eq!(
        ask(&hub, "--json digest routes --all"),
        done("[{\"group\":\"routes\",\"entries\":3,\"digest\":\"00000000000001ff\"}]\n")
    );
    let (status, out, err) = ask(&hub, "digest odd");
    assert_eq!((status, out.as_str()), (1, ""), "{err}");
    let (status, out, err) = ask(&hub, "digest held");
    assert_eq!((status, out.as_str()), (1, ""));
    assert!(err.contains("LOADING not yet"), "{err}");
}

/// Goal: what is not known yet is a dash or null; unknown fields reach programs only.
#[test]
fn peers_in_both_forms() {
    let hub = Hub::start(vec![
        ("SCSP.PEERS", peers()),
        ("SCSP.PEERS more", array([])),
    ]);
    let table = "\
GROUP    PEER            ID        HELLO          ALIGNMENT  SINCE  LAST-HELLO  ROLE    QUEUE  REQUESTS  ABNORMAL  EVENTS
clients  127.0.0.2:2334  10.0.0.2  bidirectional  aligned    5m12s        1.2s  master      3         0         3  authentication 2, malformed 1
more     127.0.0.3:2334  -         waiting        down          0s           -  -           0         0         0  -
";
    assert_eq!(ask(&hub, "peers"), done(table));
    assert_eq!(ask(&hub, "--json peers more"), done("[]\n"));
    let (_, out, _) = ask(&hub, "--json peers");
    assert!(
        out.contains(concat!(
            r#""alignment":"aligned","since":312,"last_hello":1.25,"role":"master","queue":3,"#,
            r#""requests":0,"abnormal":3,"abnormal_authentication":"2","abnormal_cleared":"0","#,
            r#""abnormal_malformed":"1"}"#
        )),
        "{out}"
    );
    assert!(out.contains(concat!(
        r#""id":null,"hello":"waiting","alignment":"down","since":0,"last_hello":null,"role":null,"#,
        r#""queue":0,"requests":0,"abnormal":0,"shard":"x"}"#
    )), "{out}");
}

/// Goal: a neighbour is cleared in the named group, or in every group that heard it, and nowhere else.
#[test]
fn peer_clear() {
    let hub = Hub::start(vec![
        ("SCSP.PEERS", peers()),
        ("SCSP.PEER clients 10.0.0.2 CLEAR", b"+OK\r\n".to_vec()),
    ]);
    assert_eq!(
        ask(&hub, "peer hex:0a000002 clear"),
        done("cleared 10.0.0.2 in clients\n")
    );
    assert_eq!(
        ask(&hub, "--json peer 10.0.0.2 clear --group clients"),
        done("{\"cleared\":[\"clients\"],\"id\":\"10.0.0.2\"}\n")
    );
    let (status, out, err) = ask(&hub, "peer text:hub-x clear");
    assert_eq!((status, out.as_str()), (1, ""));
    assert_eq!(err, "scspctl: no peer with id hex:6875622d78\n");
}

/// Goal: the first kv group is the default and gives the database number; values come back octet for octet.
#[test]
fn get_in_both_forms() {
    let hub = Hub::start(vec![
        ("SCSP.GROUPS", groups()),
        ("SELECT 1", b"+OK\r\n".to_vec()),
        ("SELECT 2", b"+OK\r\n".to_vec()),
        ("GET text", bulk("gr\u{fc}n\n")),
        ("GET raw", bulk(b"\x00\xff")),
        ("GET OK", b"+OK\r\n".to_vec()),
        ("GET absent", b"$-1\r\n".to_vec()),
    ]);
    assert_eq!(ask(&hub, "get text"), done("gr\u{fc}n\n\n"));
    assert_eq!(hub.seen(), ["SCSP.GROUPS", "SELECT 1", "GET text"]);
    assert_eq!(ask(&hub, "get OK --group more"), done("OK\n"));
    assert_eq!(hub.seen(), ["SCSP.GROUPS", "SELECT 2", "GET OK"]);
    assert_eq!(
        run(&["--connect", hub.address(), "get", "raw"]).stdout,
        b"\x00\xff\n"
    );
    assert_eq!(
        ask(&hub, "--json get hex:726177"),
        done("{\"key\":\"raw\",\"value\":\"hex:00ff\"}\n")
    );
    assert_eq!(
        ask(&hub, "get absent"),
        (
            1,
            String::new(),
            "scspctl: no such key: absent\n".to_owned()
        )
    );
}

/// Goal: put sends key, value and life in milliseconds.
#[test]
fn put_in_both_forms() {
    let hub = Hub::start(vec![
        ("SCSP.GROUPS", groups()),
        ("SELECT 1", b"+OK\r\n".to_vec()),
        ("SET k v", b"+OK\r\n".to_vec()),
        ("SET k \\x00\\xff PX 1500", b"+OK\r\n".to_vec()),
        ("SET k -1", b"+OK\r\n".to_vec()),
    ]);
    assert_eq!(ask(&hub, "put k v"), done("OK\n"));
    assert_eq!(
        ask(&hub, "--json put k hex:00ff --ttl 1.5"),
        done("{\"key\":\"k\",\"ok\":true}\n")
    );
    assert_eq!(ask(&hub, "put k -1"), done("OK\n"));
}

/// Goal: del counts, and is status 1 when there was nothing to delete.
#[test]
fn del_in_both_forms() {
    let hub = Hub::start(vec![
        ("SCSP.GROUPS", groups()),
        ("SELECT 1", b"+OK\r\n".to_vec()),
        ("DEL a b", b":1\r\n".to_vec()),
        ("DEL c", b":0\r\n".to_vec()),
    ]);
    assert_eq!(ask(&hub, "del a b"), done("deleted 1\n"));
    assert_eq!(ask(&hub, "--json del a b"), done("{\"deleted\":1}\n"));
    assert_eq!(
        ask(&hub, "del c"),
        (1, "deleted 0\n".to_owned(), String::new())
    );
}

/// Goal: scan follows the cursor to its end, escapes for people, and is one array for programs.
#[test]
fn scan_in_both_forms() {
    let hub = Hub::start(vec![
        ("SCSP.GROUPS", groups()),
        ("SELECT 1", b"+OK\r\n".to_vec()),
        (
            "SCAN 0 COUNT 1000",
            page("77", [bulk("a"), bulk(b"b\n\xff")]),
        ),
        ("SCAN 77 COUNT 1000", page("0", [bulk("c")])),
        ("SCAN 0 MATCH x* COUNT 1000", page("0", [])),
    ]);
    assert_eq!(ask(&hub, "scan"), done("a\nb\\x0a\\xff\nc\n"));
    assert_eq!(
        ask(&hub, "--json scan"),
        done("[\"a\",\n\"hex:620aff\",\n\"c\"]\n")
    );
    assert_eq!(ask(&hub, "--json scan x*"), done("[]\n"));
}

/// Goal: records of every group, kv bodies decoded, others in hexadecimal, filtered by originator.
#[test]
fn records_walk_every_group() {
    let hub = Hub::start(vec![
        ("SCSP.GROUPS", groups()),
        (
            "SCSP.SCAN routes 0 COUNT 1000 ALL",
            page(
                "0",
                [record(Some(&[10, 0, 0, 9]), "10.0.0.3", 5, 90, &[1, 2])],
            ),
        ),
        (
            "SCSP.SCAN clients 0 COUNT 1000 ALL",
            page(
                "9",
                [record(
                    Some(b"k"),
                    "10.0.0.1",
                    -2_147_483_647,
                    61_000,
                    &kv(0, 5_000, b"hello"),
                )],
            ),
        ),
        (
            "SCSP.SCAN clients 9 COUNT 1000 ALL",
            page(
                "0",
                [record(Some(b"gone"), "10.0.0.3", 8, 0, &kv(1, 0, b""))],
            ),
        ),
        ("SCSP.SCAN more 0 COUNT 1000 ALL", page("0", [])),
    ]);
    let table = "\
GROUP   KEY               ORIGINATOR  SEQ   AGE  BODY
routes  \\x0a\\x00\\x00\\x09  10.0.0.3      5  90ms  0102
clients  k                 10.0.0.1    -2147483647   1m1s  value 2023-11-14T22:13:20.123Z+4 life 5s hello
clients  gone              10.0.0.3      8    0s  tombstone 2023-11-14T22:13:20.123Z+4
";
    let squeeze = |text: &str| -> Vec<Vec<String>> {
        text.lines()
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect()
    };
    let (status, out, err) = ask(&hub, "records");
    assert_eq!((status, err.as_str()), (0, ""));
    assert_eq!(squeeze(&out), squeeze(table));
    let json = concat!(
        r#"[{"group":"routes","key":"\n\u0000\u0000\t","originator":"10.0.0.3","seq":5,"age_ms":90,"body":"0102"},"#,
        "\n",
        r#"{"group":"clients","key":"gone","originator":"10.0.0.3","seq":8,"age_ms":0,"#,
        r#""body":"0101000000000000018bcfe5687b0004","kv":{"kind":"tombstone","life_ms":null,"#,
        r#""unix_ms":1700000000123,"counter":4,"value":""}}]"#,
        "\n"
    );
    assert_eq!(
        ask(&hub, "--json records --originator hex:0a000003"),
        done(json)
    );
}

/// Goal: one key is asked for directly, with its originator, tombstones included.
#[test]
fn records_of_one_key() {
    let hub = Hub::start(vec![
        ("SCSP.GROUPS", groups()),
        (
            "SCSP.GET clients \\x00k ORIGINATOR 10.0.0.1 ALL",
            array([record(None, "10.0.0.1", 3, 2_000, b"\x02")]),
        ),
        ("SCSP.GET clients \\xaa ALL", array([])),
    ]);
    let (status, out, _) = ask(
        &hub,
        "records --group clients --key 006b --originator 10.0.0.1",
    );
    assert_eq!(status, 0);
    assert_eq!(
        out.lines().nth(1),
        Some(
            "clients  \\x00k  10.0.0.1      3   2s  malformed (body shorter than its fixed part) 02"
        )
    );
    let (status, out, _) = ask(
        &hub,
        "--json records --group clients --key 006b --originator 10.0.0.1",
    );
    assert_eq!(status, 0);
    assert!(
        out.ends_with("\"body\":\"02\",\"malformed\":\"body shorter than its fixed part\"}]\n"),
        "{out}"
    );
    assert_eq!(
        ask(&hub, "--json records --group clients --key aa"),
        done("[]\n")
    );
    assert_eq!(
        ask(&hub, "records --group clients --key aa"),
        done("GROUP  KEY  ORIGINATOR  SEQ  AGE  BODY\n")
    );
}

/// Goal: an error reply is shown as it came, with status 1.
#[test]
fn error_replies_as_they_are() {
    let hub = Hub::start(vec![
        ("SCSP.GROUPS", groups()),
        ("SELECT 1", b"+OK\r\n".to_vec()),
        ("GET k", b"-LOADING waiting for a neighbour\r\n".to_vec()),
        ("SET k v", b"-OOM limit of 1 GiB reached\r\n".to_vec()),
        ("DEL k", b"-ERR no\r\n".to_vec()),
    ]);
    for (arguments, line) in [
        ("get k", "scspctl: LOADING waiting for a neighbour\n"),
        ("put k v", "scspctl: OOM limit of 1 GiB reached\n"),
        ("del k", "scspctl: ERR no\n"),
    ] {
        assert_eq!(ask(&hub, arguments), (1, String::new(), line.to_owned()));
    }
}

/// Goal: a group that is not there, or speaks another protocol, is named.
#[test]
fn wrong_groups() {
    let hub = Hub::start(vec![("SCSP.GROUPS", groups())]);
    for (arguments, line) in [
        (
            "get k --group nil",
            "scspctl: no such group: nil (the hub has: routes, clients, more)\n",
        ),
        (
            "get k --group routes",
            "scspctl: group routes speaks nhrp, this command needs a kv group\n",
        ),
    ] {
        assert_eq!(ask(&hub, arguments), (1, String::new(), line.to_owned()));
    }
    let hub = Hub::start(vec![("SCSP.GROUPS", array([]))]);
    assert_eq!(ask(&hub, "scan").2, "scspctl: the hub has no kv group\n");
}

/// Goal: something that is no hub is called so.
#[test]
fn replies_of_something_else() {
    let hub = Hub::start(vec![
        ("SCSP.STATUS", b":5\r\n".to_vec()),
        ("SCSP.PEERS", b"?what\r\n".to_vec()),
    ]);
    let (status, _, err) = ask(&hub, "status");
    assert_eq!(status, 1);
    assert_eq!(
        err,
        format!(
            "scspctl: {} answered SCSP.STATUS with something else than a map\n",
            hub.address()
        )
    );
    let (status, _, err) = ask(&hub, "peers");
    assert_eq!(status, 1);
    assert!(
        err.ends_with("with something else than a Redis protocol reply\n"),
        "{err}"
    );
}

/// Goal: bad usage is status 2 and reaches no hub.
#[test]
fn usage_errors() {
    for arguments in [
        &["frobnicate"][..],
        &[],
        &["get"],
        &["del"],
        &["put", "k", "v", "--ttl", "0"],
        &["get", "hex:0"],
        &["peer", "not an id", "clear"],
        &["peer", "10.0.0.1", "reset"],
        &["records", "--key", "xyz"],
        &["--connect", "127.0.0.1:x", "status"],
        &["--connect", "0.0.0.0:1", "status"],
    ] {
        let (status, out, err) = told(&run(arguments));
        assert_eq!((status, out.as_str()), (2, ""), "{arguments:?}");
        assert!(!err.is_empty(), "{arguments:?}");
    }
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}

/// Goal: nobody listening is status 3 and one line that names the address; the environment gives it too.
#[test]
fn not_reachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let line = format!("scspctl: cannot reach {address}: connection refused\n");
    assert_eq!(
        told(&run(&["--connect", &address, "status"])),
        (3, String::new(), line.clone())
    );
    let output = Command::new(env!("CARGO_BIN_EXE_scspctl"))
        .arg("groups")
        .env("SCSPCTL_CONNECT", &address)
        .output()
        .unwrap();
    assert_eq!(told(&output), (3, String::new(), line));
    let (status, _, err) = told(&run(&[
        "--connect",
        "unix:/nonexistent/scspd.sock",
        "status",
    ]));
    assert_eq!(status, 3);
    assert_eq!(
        err,
        "scspctl: cannot reach unix:/nonexistent/scspd.sock: no such file or directory\n"
    );
}

/// Goal: a hub that takes the connection and stays silent, or hangs up, is not reachable either.
#[test]
fn silent_or_hanging_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    assert_eq!(
        told(&run(&[
            "--connect",
            &address,
            "--timeout",
            "0.05",
            "status"
        ])),
        (
            3,
            String::new(),
            format!("scspctl: cannot reach {address}: timed out\n")
        )
    );
    let hub = Hub::start(vec![("SCSP.STATUS", vec![])]);
    let (status, _, err) = ask(&hub, "status");
    assert_eq!(status, 3, "{err}");
    assert!(
        err.starts_with(&format!("scspctl: cannot reach {}: ", hub.address())),
        "{err}"
    );
    assert_eq!(err.lines().count(), 1);
}

/// Goal: the unix socket serves like the port.
#[test]
fn over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scspd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let hub = Hub::serve_unix(
        listener,
        format!("unix:{}", path.display()),
        vec![("SCSP.GROUPS", array([]))],
    );
    assert_eq!(ask(&hub, "--json groups"), done("[]\n"));
}

/// Goal: a reader that closes its end of the pipe ends the program quietly.
#[test]
fn closed_pipe_is_quiet() {
    let keys = (0..1_000).map(|n| bulk(format!("key {n} {}", "x".repeat(200))));
    let hub = Hub::start(vec![
        ("SCSP.GROUPS", groups()),
        ("SELECT 1", b"+OK\r\n".to_vec()),
        ("SCAN 0 COUNT 1000", page("0", keys)),
    ]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_scspctl"))
        .args(["--connect", hub.address(), "scan"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(told(&output), (0, String::new(), String::new()));
}
