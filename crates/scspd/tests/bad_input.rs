//! Wrong configurations, missing files, ports in use and clients that misbehave.

mod support;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::process::{Output, Stdio};

use support::{Backend, Hub, Net, Setup, eventually, on_both_backends, scspd, wait_for};

on_both_backends! {
    a_port_in_use_ends_the_start_with_one_line,
    garbage_closes_its_own_connection_only,
    a_client_that_vanishes_leaves_nothing_behind,
    connections_beyond_the_limit_are_refused,
}

/// Runs the program to its end.
fn run(arguments: &[&str]) -> Output {
    let mut child = scspd()
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // What it writes fits into a pipe.
    wait_for("the program ends", || {
        child
            .try_wait()
            .expect("a child")
            .ok_or_else(|| "it still runs".to_owned())
    });
    child.wait_with_output().expect("output")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// Runs it with a configuration; the configuration's path is `FILE` in what it says.
fn run_with(text: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let output = run(&[&["--config", path], more].concat());
    let said = stderr(&output).replace(path, "FILE");
    (output.status.code(), stdout(&output), said)
}

/// Goal: each wrong configuration ends with status 2 and one line that names file, line, key and
/// what was expected.
#[test]
fn wrong_configurations_are_refused_in_one_line() {
    for (text, place, expected) in [
        (
            "[server]\nworker = 3\n",
            "FILE:2: server.worker: ",
            "workers",
        ),
        (
            "[server]\n\nworkers = -1\n",
            "FILE:3: server.workers: ",
            "0 to",
        ),
        ("[server]\nid = \"hub a\"\n", "FILE:2: server.id: ", "IPv4"),
        (
            "[[group]]\nprotocol = \"redis\"\n",
            "FILE:2: group[0].protocol: ",
            "kv, nhrp",
        ),
        (
            "[[group]]\nhello_interval = 0\n",
            "FILE:2: group[0].hello_interval: ",
            "1 to 65535",
        ),
        (
            "[[group]]\ncsu_retransmit = \"1 week\"\n",
            "FILE:2: group[0].csu_retransmit: ",
            "500ms",
        ),
        (
            "[[group]]\n[[group.peer]]\naddress = \"a:1\"\n",
            "FILE:3: group[0].peer[0].address: ",
            "10.0.0.2:2334",
        ),
        (
            "[[group]]\n[[group.peer]]\nid = \"10.0.0.2\"\n",
            "group[0].peer[0].address: ",
            "expected",
        ),
        (
            "[io]\nbackend = \"epoll\"\n",
            "FILE:2: io.backend: ",
            "\"poll\"",
        ),
        (
            "[client]\nlisten = \"127.0.0.1:1\"\n",
            "FILE:2: client.listen: ",
            "array",
        ),
        (
            "[server]\ndata_dir = \"data\"\n",
            "FILE:2: server.data_dir: ",
            "absolute path",
        ),
        ("[server\n", "FILE:1: ", "not TOML"),
    ] {
        let (status, shown, said) = run_with(text, &[]);
        assert_eq!(status, Some(2), "{text}: {said}");
        assert_eq!(shown, "");
        assert_eq!(said.lines().count(), 1, "{text}: {said}");
        assert!(
            said.contains(place) && said.contains("FILE"),
            "{text}: {said}"
        );
        assert!(said.contains(expected), "{text}: {said}");
    }
}

/// Goal: a missing file and bad usage end with status 2 and say so.
#[test]
fn missing_files_and_bad_usage_are_refused() {
    let output = run(&["--config", "/nowhere/hub.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        said.starts_with("/nowhere/hub.toml: ") && said.contains("No such file"),
        "{said}"
    );
    for arguments in [
        &["--konfig"][..],
        &["demo", "--hubs", "0"],
        &["--check", "--print-default-config"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

/// Goal: `--check` prints what is in effect, which reads back as the same; nothing is opened.
#[test]
fn check_prints_the_effective_configuration() {
    let (status, shown, said) =
        run_with("[server]\nid = \"10.0.0.7\"\nworkers = 3\n", &["--check"]);
    assert_eq!((status, &*said), (Some(0), ""));
    assert!(
        shown.contains("10.0.0.7") && shown.contains("workers = 3"),
        "{shown}"
    );
    let (status, again, said) = run_with(&shown, &["--check"]);
    assert_eq!((status, &*said), (Some(0), ""));
    assert_eq!(again, shown);
    let (status, shown, said) = run_with("[server]\nworkers = true\n", &["--check"]);
    assert_eq!((status, &*shown), (Some(2), ""));
    assert!(said.starts_with("FILE:2: server.workers: "), "{said}");
}

/// Goal: the printed default configuration is a valid one that means the same as none, and the
/// samples of `deploy/examples` are valid.
#[test]
fn the_default_configuration_and_the_samples_are_valid() {
    let output = run(&["--print-default-config"]);
    assert_eq!(output.status.code(), Some(0));
    let printed = stdout(&output);
    let (status, effective, said) = run_with(&printed, &["--check"]);
    assert_eq!(status, Some(0), "{said}");
    let (_, of_nothing, _) = run_with("", &["--check"]);
    assert_eq!(effective, of_nothing);
    let net = Net::claim();
    for letter in ['a', 'b', 'c'] {
        let (status, _, said) = run_with(Setup::sample(&net, letter).text(), &["--check"]);
        assert_eq!(status, Some(0), "{letter}: {said}");
    }
}

/// Goal: a port that somebody has ends the start with status 1 and one line that names it.
fn a_port_in_use_ends_the_start_with_one_line(backend: Backend) {
    let net = Net::claim();
    let text = format!(
        "{}\n[io]\nbackend = \"{}\"\n",
        Setup::hub(&net, 1, &[]).text(),
        backend.name()
    );
    let refused = |what: String| {
        let (status, shown, said) = run_with(&text, &[]);
        assert_eq!(status, Some(1), "{said}");
        assert_eq!(shown, "");
        assert_eq!(
            said,
            format!("scspd: cannot bind {what}: address already in use\n")
        );
    };
    let (link, client, admin) = (
        net.address(1, 2334),
        net.address(1, 6390),
        net.address(1, 9144),
    );
    let taken = UdpSocket::bind(link).unwrap();
    refused(format!("{link}/udp"));
    drop(taken);
    for address in [client, admin] {
        let taken = TcpListener::bind(address).unwrap();
        refused(format!("{address}/tcp"));
        drop(taken);
    }
    // Also when another hub has it, whose workers share their ports.
    let hub = Hub::start(&Setup::hub(&net, 1, &[]), backend);
    refused(format!("{link}/udp"));
    drop(hub);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _taken = UnixListener::bind(&path).unwrap();
    let text = text.replace(
        &format!("\"{client}\""),
        &format!("\"unix:{}\"", path.display()),
    );
    let (status, _, said) = run_with(&text, &[]);
    assert_eq!(status, Some(1));
    let expected = format!(
        "scspd: cannot bind unix:{}: address already in use\n",
        path.display()
    );
    assert_eq!(said, expected);
}

/// Goal: a client that sends garbage gets a protocol error and is closed; others go on.
fn garbage_closes_its_own_connection_only(backend: Backend) {
    let net = Net::claim();
    let hub = Hub::start(&Setup::hub(&net, 1, &[]), backend);
    let mut other = hub.raw();
    other.exchange("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n", "+OK\r\n");
    for garbage in [
        &b"*1\r\n!4\r\nPING\r\n"[..],
        b"*99999999999\r\n",
        b"*1\r\n$-7\r\n",
        b"*1\r\n$4\r\nPINGxx",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$999999999999\r\n",
        b"\"unbalanced\r\n",
        &vec![b'a'; 70_000],
    ] {
        let mut client = hub.raw();
        client.exchange("PING\r\n", "+PONG\r\n");
        client.send(garbage);
        let rest = client.rest();
        assert!(
            rest.starts_with("-ERR Protocol error: "),
            "{:?}: {rest}",
            &garbage[..10.min(garbage.len())]
        );
        assert!(
            rest.ends_with("\\r\\n") && rest.matches("\\r\\n").count() == 1,
            "{rest}"
        );
        other.exchange("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "$1\r\nv\r\n");
    }
    // Wrong commands are answered and the connection stays.
    other.send("NOSUCH a b\r\nGET\r\nPING\r\n");
    other.expect("-ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' \r\n");
    other.expect("-ERR wrong number of arguments for 'get' command\r\n+PONG\r\n");
}

/// Goal: clients that disconnect in the middle of a command, or before they read their replies, are
/// forgotten; their unfinished commands do nothing.
fn a_client_that_vanishes_leaves_nothing_behind(backend: Backend) {
    let net = Net::claim();
    let hub = Hub::start(&Setup::hub(&net, 1, &[]), backend);
    let mut other = hub.raw();
    for round in 0..20 {
        let mut client = hub.raw();
        client.send(format!("*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$10\r\n{round}"));
        drop(client);
        let mut client = hub.raw();
        let request = b"*2\r\n$3\r\nGET\r\n$4\r\nhalf\r\n".repeat(500);
        client.send(request);
        drop(client);
    }
    other.exchange("EXISTS half\r\n", ":0\r\n");
    eventually("one connection is left", || {
        hub.metric("scsp_client_connections", &[]) == Some(1.0)
    });
    other.exchange("PING\r\n", "+PONG\r\n");
}

/// Goal: at most `max_connections` are served at once; the next one is told so; one that leaves
/// makes room.
fn connections_beyond_the_limit_are_refused(backend: Backend) {
    let net = Net::claim();
    let setup = Setup::hub(&net, 1, &[]).under("[client]", "max_connections = 3");
    let hub = Hub::start(&setup, backend);
    // The connection that saw the hub come up is gone.
    let open = || hub.metric("scsp_client_connections", &[]);
    eventually("no connection is left", || open() == Some(0.0));
    let mut clients: Vec<_> = (0..3).map(|_| hub.raw()).collect();
    for client in &mut clients {
        client.exchange("PING\r\n", "+PONG\r\n");
    }
    assert_eq!(hub.raw().rest(), "-ERR max number of clients reached\\r\\n");
    clients[0].exchange("PING\r\n", "+PONG\r\n");
    drop(clients.pop());
    wait_for("there is room again", || {
        let mut client = hub.raw();
        client.send("QUIT\r\n");
        let rest = client.rest();
        if rest == "+OK\\r\\n" {
            Ok(())
        } else {
            Err(rest)
        }
    });
    assert!(
        hub.metric("scsp_client_connections", &[])
            .is_some_and(|open| open <= 3.0)
    );
}
