//! Redis clients against real hubs.

mod support;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use redis::{Commands, Value};

use support::raw::Raw;
use support::{Backend, Hub, Net, Setup, eventually, on_both_backends};

on_both_backends! {
    pipelined_replies_come_in_order,
    commands_cut_anywhere_are_understood,
    resp3_has_maps_and_nulls,
    many_connections_share_the_workers,
    unix_sockets_serve_the_same,
    scans_visit_every_key_once,
    a_pipeline_may_change_groups_at_every_command,
    replies_wait_for_a_client_that_does_not_read,
}

/// A hub without neighbours, of several workers: keys of one pipeline belong to different ones.
fn hub(backend: Backend) -> (Net, Hub) {
    let net = Net::claim();
    let setup = Setup::hub(&net, 1, &[]).replace("workers = 2", "workers = 3");
    let hub = Hub::start(&setup, backend);
    (net, hub)
}

fn bulk(octets: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", octets.len()).as_bytes(), octets, b"\r\n"].concat()
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let head = format!("*{}\r\n", words.len()).into_bytes();
    [head, words.iter().flat_map(|word| bulk(word)).collect()].concat()
}

/// Goal: the replies to thousands of commands sent at once come in the order of the commands,
/// whichever worker owns the keys, and each command sees what those before it did.
fn pipelined_replies_come_in_order(backend: Backend) {
    let (_net, hub) = hub(backend);
    let mut client = hub.raw();
    let (mut request, mut replies) = (Vec::new(), Vec::new());
    for number in 0..2000u32 {
        let key = format!("key:{}", number % 37).into_bytes();
        let value = number
            .to_string()
            .repeat(1 + number as usize % 50)
            .into_bytes();
        request.extend(command(&[b"SET", &key, &value]));
        replies.extend_from_slice(b"+OK\r\n");
        request.extend(command(&[b"GET", &key]));
        replies.extend(bulk(&value));
        match number % 5 {
            0 => {
                request.extend_from_slice(b"PING\r\n");
                replies.extend_from_slice(b"+PONG\r\n");
            }
            1 => {
                request.extend(command(&[b"ECHO", &value]));
                replies.extend(bulk(&value));
            }
            2 => {
                request.extend(command(&[b"DEL", &key, b"missing"]));
                replies.extend_from_slice(b":1\r\n");
                request.extend(command(&[b"EXISTS", &key]));
                replies.extend_from_slice(b":0\r\n");
            }
            3 => {
                request.extend(command(&[b"MGET", &key, b"missing", &key]));
                let value = bulk(&value);
                replies.extend([b"*3\r\n", &value[..], b"$-1\r\n", &value].concat());
            }
            _ => {
                request.extend_from_slice(b"NOSUCH\r\n");
                replies.extend_from_slice(
                    b"-ERR unknown command 'NOSUCH', with args beginning with: \r\n",
                );
            }
        }
    }
    // All of it before the first reply is read; the hub must not wait for us to read.
    client.send(&request[..request.len() / 3]);
    client.expect(&replies[..replies.len() / 4]);
    client.send(&request[request.len() / 3..]);
    client.expect(&replies[replies.len() / 4..]);
    client.exchange("QUIT\r\n", "+OK\r\n");
    assert_eq!(client.rest(), "");
}

/// Goal: it does not matter where the octets of commands are cut.
fn commands_cut_anywhere_are_understood(backend: Backend) {
    let (_net, hub) = hub(backend);
    let mut client = hub.raw();
    let mut request = command(&[b"SET", b"k", b"a\r\nb"]);
    request.extend_from_slice(b"PING\r\n");
    request.extend(command(&[b"GET", b"k"]));
    for cut in 1..request.len() {
        client.send(&request[..cut]);
        // A reply in between makes sure that the first part was read by itself.
        let mut other = hub.raw();
        other.exchange("PING\r\n", "+PONG\r\n");
        client.send(&request[cut..]);
        client.expect("+OK\r\n+PONG\r\n$4\r\na\r\nb\r\n");
    }
}

/// Goal: after HELLO 3 replies have RESP3 types, after HELLO 2 those of RESP2 again.
fn resp3_has_maps_and_nulls(backend: Backend) {
    let (_net, hub) = hub(backend);
    let mut raw = hub.raw();
    raw.exchange("GET missing\r\n", "$-1\r\n");
    raw.send("HELLO 3\r\n");
    raw.expect("%");
    let mut raw = hub.raw();
    raw.send("HELLO 4\r\n");
    raw.expect("-NOPROTO unsupported protocol version\r\n");
    raw.exchange("GET missing\r\n", "$-1\r\n");

    let mut client = hub.redis3();
    let hello: Value = redis::cmd("HELLO").arg(3).query(&mut client).unwrap();
    let Value::Map(fields) = hello else {
        panic!("HELLO 3 answers with a map, got {hello:?}")
    };
    let proto = fields
        .iter()
        .find(|(name, _)| *name == Value::BulkString(b"proto".to_vec()));
    assert_eq!(proto.map(|(_, value)| value.clone()), Some(Value::Int(3)));
    let missing: Value = client.get("missing").unwrap();
    assert_eq!(missing, Value::Nil);
    let status: Value = redis::cmd("SCSP.STATUS").query(&mut client).unwrap();
    assert!(matches!(status, Value::Map(_)), "{status:?}");
    let groups: Value = redis::cmd("SCSP.GROUPS").query(&mut client).unwrap();
    let Value::Array(groups) = groups else {
        panic!("an array, got {groups:?}")
    };
    assert!(matches!(groups[..], [Value::Map(_)]), "{groups:?}");
    let hello: Value = redis::cmd("HELLO").arg(2).query(&mut client).unwrap();
    assert!(matches!(hello, Value::Array(_)), "{hello:?}");
}

/// Goal: forty connections at once, on whichever worker, each see their own and each other's
/// writes.
fn many_connections_share_the_workers(backend: Backend) {
    let (_net, hub) = hub(backend);
    let mut clients: Vec<Raw> = (0..40).map(|_| hub.raw()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(command(&[
            b"SET",
            format!("of:{number}").as_bytes(),
            number.to_string().as_bytes(),
        ]));
    }
    for client in &mut clients {
        client.expect("+OK\r\n");
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let other = (number + 7) % 40;
        let reply = bulk(other.to_string().as_bytes());
        client.exchange(command(&[b"GET", format!("of:{other}").as_bytes()]), reply);
    }
    assert_eq!(hub.metric("scsp_client_connections", &[]), Some(40.0));
    clients[0].exchange("DBSIZE\r\n", ":40\r\n");
    assert_eq!(
        hub.count("scsp_client_commands_total", &[("command", "set")]),
        40
    );
    // NX is atomic on this hub, whoever asks.
    for client in &mut clients {
        client.send("SET once v NX\r\n");
    }
    let mut won = 0;
    for client in &mut clients {
        client.send("PING\r\n");
    }
    for mut client in clients {
        client.send("QUIT\r\n");
        match client.rest().as_str() {
            "+OK\\r\\n+PONG\\r\\n+OK\\r\\n" => won += 1,
            "$-1\\r\\n+PONG\\r\\n+OK\\r\\n" => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(won, 1);
}

/// Goal: a unix socket serves the same data as TCP.
fn unix_sockets_serve_the_same(backend: Backend) {
    let net = Net::claim();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scspd.sock");
    let client = net.address(1, 6390);
    let listen = format!("\"unix:{}\", \"{client}\"", path.display());
    let setup = Setup::hub(&net, 1, &[]).replace(&format!("\"{client}\""), &listen);
    let hub = Hub::start(&setup, backend);
    for number in 0..6 {
        let mut unix = Raw::connect_unix(&path);
        unix.exchange(format!("SET k v{number}\r\n"), "+OK\r\n");
        hub.raw()
            .exchange("GET k\r\n", format!("$2\r\nv{number}\r\n"));
    }
}

/// Goal: SCAN to its end finds every key exactly once when nothing changes, MATCH filters.
fn scans_visit_every_key_once(backend: Backend) {
    const KEYS: usize = 3000;
    let (_net, hub) = hub(backend);
    let mut client = hub.redis();
    let mut pipe = redis::pipe();
    for number in 0..KEYS {
        pipe.set(format!("key:{number}"), "v").ignore();
    }
    let () = pipe.query(&mut client).unwrap();
    let mut keys: Vec<String> = client
        .scan::<String>()
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(keys.len(), KEYS);
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), KEYS);
    let matching: Vec<String> = client
        .scan_match::<_, String>("key:??")
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(matching.len(), 90);
}

/// Output of a program that must be installed.
fn output_of(program: &str, arguments: &[&str], input: &str) -> String {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input.as_bytes())
        .expect("written");
    let output = child.wait_with_output().expect("output");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {text}{errors}"
    );
    text
}

fn on_each_backend(scenario: impl Fn(&str, &str)) {
    for backend in [Backend::IoUring, Backend::Poll] {
        if backend.is_usable() {
            let (_net, hub) = hub(backend);
            let address = hub.client_address();
            scenario(&address.ip().to_string(), &address.port().to_string());
        }
    }
}

/// Goal: redis-cli works unmodified, one command at a time, interactively and with RESP3.
#[test]
#[ignore = "needs redis-cli (Debian: redis-tools)"]
fn redis_cli_works() {
    on_each_backend(|host, port| {
        let cli = |arguments: &[&str]| {
            output_of(
                "redis-cli",
                &[&["-h", host, "-p", port], arguments].concat(),
                "",
            )
        };
        assert_eq!(cli(&["set", "k", "a value"]), "OK\n");
        assert_eq!(cli(&["get", "k"]), "a value\n");
        assert_eq!(cli(&["-3", "get", "k"]), "a value\n");
        assert_eq!(cli(&["--no-raw", "get", "missing"]), "(nil)\n");
        assert_eq!(cli(&["set", "t", "v", "EX", "100"]), "OK\n");
        assert!(["99\n", "100\n"].contains(&cli(&["ttl", "t"]).as_str()));
        assert_eq!(cli(&["mset", "x", "1", "y", "2"]), "OK\n");
        assert_eq!(cli(&["mget", "x", "y", "z"]), "1\n2\n\n");
        assert_eq!(cli(&["del", "x", "y", "z"]), "2\n");
        assert_eq!(cli(&["dbsize"]), "2\n");
        assert!(cli(&["info"]).contains("# Server"));
        assert!(cli(&["--scan"]).lines().count() == 2);
        assert!(cli(&["scsp.status"]).contains("10.0.0.1"));
        let connect = ["-h", host, "-p", port];
        let said = output_of("redis-cli", &connect, "set i 1\nget i\nnosuch\n");
        assert!(
            said.starts_with("OK\n1\n") && said.contains("ERR unknown command"),
            "{said}"
        );
        let piped = output_of(
            "redis-cli",
            &[&connect[..], &["--pipe"]].concat(),
            "SET p 1\r\nSET q 2\r\n",
        );
        assert!(piped.contains("errors: 0, replies: 2"), "{piped}");
    });
}

/// Goal: redis-benchmark runs through, without an error.
#[test]
#[ignore = "needs redis-benchmark (Debian: redis-tools)"]
fn redis_benchmark_runs() {
    on_each_backend(|host, port| {
        let arguments = [
            "-h", host, "-p", port, "-t", "set,get", "-n", "20000", "-P", "16", "-r", "1000",
            "--csv",
        ];
        let table = output_of("redis-benchmark", &arguments, "");
        assert!(
            table.contains("\"SET\"") && table.contains("\"GET\""),
            "{table}"
        );
        assert!(!table.to_lowercase().contains("error"), "{table}");
    });
}

/// Goal: a pipeline of which every command is a message of its own to another worker, more of them
/// than the queue between two workers holds, is answered in full.
fn a_pipeline_may_change_groups_at_every_command(backend: Backend) {
    let net = Net::claim();
    let setup = Setup::hub(&net, 1, &[]).with_group(&net, "second", "kv", 2, &[]);
    let hub = Hub::start(&setup, backend);
    let mut client = hub.raw();
    let (mut request, mut replies) = (Vec::new(), Vec::new());
    for number in 0..4000u32 {
        let group = (number % 2).to_string().into_bytes();
        let key = format!("key:{number}").into_bytes();
        request.extend(command(&[b"SELECT", &group]));
        request.extend(command(&[b"SET", &key, b"value"]));
        replies.extend_from_slice(b"+OK\r\n+OK\r\n");
    }
    client.exchange(request, replies);
}

/// Goal: a client that asks for much and reads nothing costs the hub a bounded amount of memory,
/// and gets everything once it reads.
fn replies_wait_for_a_client_that_does_not_read(backend: Backend) {
    const READS: usize = 4000;
    let (_net, hub) = hub(backend);
    let mut client = hub.raw();
    let value = vec![b'v'; 60_000];
    client.exchange(command(&[b"SET", b"k", &value]), "+OK\r\n");
    client.send(command(&[b"GET", b"k"]).repeat(READS));
    eventually("the first commands are carried out", || {
        hub.count("scsp_client_commands_total", &[("command", "get")]) > 0
    });
    let reply = bulk(&value);
    for _ in 0..READS {
        client.expect(&reply);
    }
    let peak = hub.peak_resident_kib();
    let asked_for = READS * value.len() / 1024;
    assert!(peak < asked_for / 2, "{peak} KiB of {asked_for} KiB");
}

const PYTHON: &str = r#"
import sys, redis
host, port = sys.argv[1], int(sys.argv[2])
# RESP3 came with version 5.
options = [{}] if int(redis.__version__.split(".")[0]) < 5 else [{"protocol": 2}, {"protocol": 3}]
for option in options:
    client = redis.Redis(host=host, port=port, **option)
    assert client.ping()
    value = bytes(range(256))
    assert client.set("k", value) and client.get("k") == value
    assert client.get("missing") is None
    assert client.set("t", "v", ex=100) and 0 < client.ttl("t") <= 100
    assert client.set("k", "other", nx=True) is None
    assert client.mset({"a": 1, "b": 2}) and client.mget("a", "b", "c") == [b"1", b"2", None]
    with client.pipeline(transaction=False) as pipe:
        for n in range(1000):
            pipe.set("key:%d" % n, n)
        assert all(pipe.execute())
    assert sorted(client.scan_iter("key:*", count=100)) == sorted(b"key:%d" % n for n in range(1000))
    assert client.delete(*("key:%d" % n for n in range(1000))) == 1000
    assert client.dbsize() == 4, client.dbsize()
    assert client.info()["loading"] == 0
    try:
        client.execute_command("NOSUCH")
        raise SystemExit("no error")
    except redis.ResponseError:
        pass
    assert client.delete("k", "t", "a", "b") == 4
print("done")
"#;

/// Goal: redis-py works unmodified, with every protocol version it knows.
#[test]
#[ignore = "needs redis-py for /usr/bin/python3 (Debian: python3-redis)"]
fn redis_py_works() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("client.py");
    fs::write(&script, PYTHON).unwrap();
    assert!(
        Path::new("/usr/bin/python3").exists(),
        "/usr/bin/python3 is needed"
    );
    on_each_backend(|host, port| {
        let script = script.to_str().unwrap();
        assert_eq!(
            output_of("/usr/bin/python3", &[script, host, port], ""),
            "done\n"
        );
    });
}
