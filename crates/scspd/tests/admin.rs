//! The admin interface, the operator's program, and the life of the process.

mod support;

use std::process::{Command, Output};

use redis::Commands;
use rustix::process::Signal;
use serde_json::Value as Json;

use support::neighbour::Neighbour;
use support::{Backend, Hub, Net, Setup, eventually, on_both_backends, sample, sibling, try_http};

on_both_backends! {
    every_series_exists_from_the_start,
    d_09_ready_is_told_only_when_it_is_so,
    the_status_page_tells_all,
    scspctl_works_on_real_hubs,
    signals_end_a_hub_cleanly,
}

/// Goal: every metric that has a meaning is there before anything happened,
/// with the labels of the configured groups and peers.
fn every_series_exists_from_the_start(backend: Backend) {
    let net = Net::claim();
    let setup = Setup::hub(&net, 1, &[2]).with_group(&net, "things", "0x1234", 7, &[3]);
    let hub = Hub::start(&setup, backend);
    let (status, scrape) = hub.http("/metrics");
    assert_eq!(status, 200);
    let has = |name: &str, labels: &[(&str, &str)]| {
        assert!(
            sample(&scrape, name, labels).is_some(),
            "no {name}{labels:?} in:\n{scrape}"
        );
    };
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        scrape.contains(&format!("version=\"{version}\"")),
        "{scrape}"
    );
    let line = scrape
        .lines()
        .find(|line| line.starts_with("scsp_io_backend_info{"));
    assert!(
        line.is_some_and(|line| line.contains(backend.name())),
        "{line:?}"
    );
    for name in [
        "scsp_ready",
        "scsp_bytes_received_total",
        "scsp_bytes_sent_total",
        "scsp_receive_queue_overflow_total",
        "scsp_client_connections",
        "scsp_client_command_seconds_count",
    ] {
        has(name, &[]);
    }
    for kind in ["ca", "csu_request", "csu_reply", "csus", "hello"] {
        has("scsp_packets_received_total", &[("type", kind)]);
        has("scsp_packets_sent_total", &[("type", kind)]);
    }
    for reason in scsp_wire::ParseError::REASONS {
        has("scsp_packets_dropped_total", &[("reason", reason)]);
    }
    for name in [
        "scsp_snapshot_duration_seconds_count",
        "scsp_snapshot_timestamp_seconds",
        "scsp_snapshot_failures_total",
    ] {
        has(name, &[]);
    }
    for worker in ["0", "1"] {
        for name in [
            "scsp_worker_busy_seconds_total",
            "scsp_ring_enter_total",
            "scsp_ring_completions_total",
            "scsp_receive_buffers_exhausted_total",
            "scsp_segmented_sends_total",
            "scsp_segments_refused_total",
            "scsp_coalesced_receives_total",
        ] {
            has(name, &[("worker", worker)]);
        }
    }
    for command in ["get", "set", "scsp.publish"] {
        has("scsp_client_commands_total", &[("command", command)]);
    }
    for (name, host) in [("clients", 2), ("things", 3)] {
        let group = ("group", name);
        for metric in [
            "scsp_records_originated_total",
            "scsp_records_acknowledged_total",
            "scsp_records_retransmitted_total",
            "scsp_cache_entries",
            "scsp_cache_bytes",
            "scsp_cache_expired_total",
            "scsp_records_reoriginated_total",
            "scsp_records_broadcast_total",
            "scsp_records_spared_total",
            "scsp_records_unsendable_total",
            "scsp_alignment_duration_seconds_count",
            "scsp_acknowledgement_seconds_count",
            "scsp_propagation_seconds_count",
        ] {
            has(metric, &[group]);
        }
        for outcome in ["newer", "duplicate", "older", "null", "rejected"] {
            has(
                "scsp_records_received_total",
                &[group, ("outcome", outcome)],
            );
        }
        let address = net.address(host, 2334).to_string();
        let peer = ("peer", address.as_str());
        for metric in [
            "scsp_peer_late_hellos_total",
            "scsp_peer_duplicate_id",
            "scsp_peer_last_hello_timestamp_seconds",
            "scsp_peer_retransmit_queue_records",
            "scsp_peer_request_list_records",
            "scsp_clock_skew_seconds",
        ] {
            has(metric, &[group, peer]);
        }
        let labelled: [(&str, &str, &[&str]); 4] = [
            (
                "scsp_peer_hello_state",
                "state",
                &["down", "waiting", "unidirectional", "bidirectional"],
            ),
            (
                "scsp_peer_alignment_state",
                "state",
                &["down", "negotiation", "summarize", "update", "aligned"],
            ),
            (
                "scsp_peer_transitions_total",
                "machine",
                &["hello", "alignment"],
            ),
            (
                "scsp_peer_abnormal_events_total",
                "event",
                &["malformed", "csu_retransmit", "csus_retransmit", "cleared"],
            ),
        ];
        for (metric, label, values) in labelled {
            for value in values {
                has(metric, &[group, peer, (label, value)]);
            }
        }
    }
    for line in scrape
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        assert!(line.starts_with("scsp_"), "{line}");
    }
}

/// Goal: `/readyz` is 503 while an instance waits for its neighbours, 200 once it does not;
/// `/healthz` is 200 all the while; other paths are 404.
fn d_09_ready_is_told_only_when_it_is_so(backend: Backend) {
    let net = Net::claim();
    let setup = Setup::hub(&net, 1, &[9]).replace("boot_hold = \"200ms\"", "boot_hold = \"1h\"");
    let hub = Hub::start(&setup, backend);
    let (status, reason) = hub.http("/readyz");
    assert_eq!(status, 503);
    assert!(reason.contains("clients"), "{reason}");
    assert_eq!(hub.http("/healthz").0, 200);
    assert_eq!(hub.metric("scsp_ready", &[]), Some(0.0));
    assert_eq!(hub.status()["groups"][0]["loading"], true);
    let mut client = hub.raw();
    client.send("GET k\r\n");
    client.expect("-LOADING ");

    Neighbour::new(&net, 9, 1).join(&hub);
    eventually("the hub is ready", || hub.http("/readyz").0 == 200);
    assert_eq!(hub.metric("scsp_ready", &[]), Some(1.0));
    let mut client = hub.raw();
    client.exchange("GET k\r\n", "$-1\r\n");
    assert_eq!(hub.http("/nothing").0, 404);
}

/// Goal: `/status` names the hub, its groups and peers with their states.
fn the_status_page_tells_all(backend: Backend) {
    let net = Net::claim();
    let [a, b] = Hub::start_all(
        [&Setup::hub(&net, 1, &[2]), &Setup::hub(&net, 2, &[1])],
        backend,
    );
    a.wait_until_aligned();
    b.wait_until_aligned();
    let () = a.redis().set("k", "v").unwrap();
    eventually("b has the record", || {
        b.status()["groups"][0]["entries"] == 1
    });
    let status = b.status();
    assert_eq!(status["id"], "10.0.0.2");
    assert_eq!(status["backend"], backend.name());
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["healthy"], true, "{status:#}");
    assert_eq!(status["groups"][0]["name"], "clients");
    assert_eq!(status["groups"][0]["loading"], false);
    let peer = &status["peers"][0];
    assert_eq!(peer["id"], "10.0.0.1");
    assert_eq!(peer["peer"], net.address(1, 2334).to_string());
    assert_eq!(
        (&peer["hello"], &peer["alignment"]),
        (&Json::from("bidirectional"), &Json::from("aligned"))
    );
    assert_eq!(peer["role"], "master", "the larger id");
    assert_eq!(a.status()["peers"][0]["role"], "slave");
    drop(a);
    eventually("the loss shows", || b.status()["healthy"] == false);
    assert_ne!(b.status()["reason"], "");
}

fn scspctl(hub: &Hub, arguments: &[&str]) -> Option<Output> {
    let program = sibling("scspctl")?;
    let address = hub.client_address().to_string();
    let output = Command::new(program)
        .args(["--timeout", "20", "--connect", &address])
        .args(arguments)
        .output();
    Some(output.expect("the program runs"))
}

/// Goal: the operator's program, where it was built, reads and writes real hubs.
fn scspctl_works_on_real_hubs(backend: Backend) {
    let net = Net::claim();
    let [a, mut b] = Hub::start_all(
        [&Setup::hub(&net, 1, &[2]), &Setup::hub(&net, 2, &[1])],
        backend,
    );
    a.wait_until_aligned();
    b.wait_until_aligned();
    let run = |hub: &Hub, arguments: &[&str]| -> (Option<i32>, String) {
        let output = scspctl(hub, arguments).expect("looked for before");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    if sibling("scspctl").is_none() {
        eprintln!("skipped: scspctl was not built; cargo test --workspace builds it");
        return;
    }
    let json = |hub: &Hub, arguments: &[&str]| -> Json {
        let (status, text) = run(hub, &[&["--json"], arguments].concat());
        assert_eq!(status, Some(0), "{arguments:?}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    let (status, text) = run(&a, &["status"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(
        text.starts_with("healthy") && text.contains("10.0.0.1"),
        "{text}"
    );
    assert_eq!(json(&a, &["status"])["healthy"], true);
    assert_eq!(json(&a, &["groups"])[0]["name"], "clients");
    let peers = json(&a, &["peers"]);
    assert_eq!(peers[0]["id"], "10.0.0.2", "{peers}");
    assert_eq!(peers[0]["alignment"], "aligned");
    let (status, text) = run(&a, &["peers"]);
    assert!(
        status == Some(0) && text.contains("aligned") && text.lines().count() == 2,
        "{text}"
    );

    assert_eq!(run(&a, &["put", "k", "some value"]).0, Some(0));
    assert_eq!(run(&a, &["put", "short", "v", "--ttl", "3600"]).0, Some(0));
    eventually("it arrives", || {
        run(&b, &["get", "k"]) == (Some(0), "some value\n".to_owned())
    });
    eventually("the other too", || run(&b, &["get", "short"]).0 == Some(0));
    let (status, text) = run(&b, &["scan"]);
    let mut keys: Vec<&str> = text.lines().collect();
    keys.sort_unstable();
    assert_eq!((status, keys), (Some(0), vec!["k", "short"]));
    assert_eq!(run(&b, &["scan", "sh*"]), (Some(0), "short\n".to_owned()));
    let records = json(&b, &["records", "--originator", "10.0.0.1"]);
    assert_eq!(records.as_array().map(Vec::len), Some(2), "{records}");
    assert_eq!(records[0]["originator"], "10.0.0.1");
    assert_eq!(
        json(&b, &["records", "--originator", "10.0.0.2"]),
        serde_json::json!([])
    );
    let (status, text) = run(&b, &["records"]);
    assert!(status == Some(0) && text.lines().count() == 3, "{text}");
    assert_eq!(run(&b, &["del", "k"]).0, Some(0));
    eventually("the delete arrives", || run(&a, &["get", "k"]).0 == Some(1));
    assert_eq!(run(&b, &["del", "k"]).0, Some(1), "nothing to delete");

    assert_eq!(run(&a, &["peer", "10.0.0.2", "clear"]).0, Some(0));
    let peer = net.address(2, 2334).to_string();
    let cleared = [
        ("group", "clients"),
        ("peer", peer.as_str()),
        ("event", "cleared"),
    ];
    assert_eq!(a.count("scsp_peer_abnormal_events_total", &cleared), 1);
    a.wait_until_aligned();

    b.kill();
    eventually("the loss shows", || run(&a, &["status"]).0 == Some(1));
    assert_eq!(json(&a, &["groups"])[0]["loading"], false);
    assert_eq!(run(&b, &["status"]).0, Some(3), "nobody there");
}

/// Goal: TERM and INT end a hub with status 0, HUP does not end it; what it listened on is free
/// again and its socket file gone.
fn signals_end_a_hub_cleanly(backend: Backend) {
    let net = Net::claim();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("scspd.sock");
    let client = net.address(1, 6390);
    let listen = format!("\"{client}\", \"unix:{}\"", socket.display());
    let setup = Setup::hub(&net, 1, &[2]).replace(&format!("\"{client}\""), &listen);
    for signal in [Signal::TERM, Signal::INT] {
        let mut hub = Hub::start(&setup, backend);
        eventually("the greeting is there", || {
            hub.stdout().lines().count() == 3
        });
        let greeting = hub.stdout();
        for part in [
            client.to_string(),
            hub.admin_address().to_string(),
            net.address(1, 2334).to_string(),
        ] {
            assert!(greeting.contains(&part), "{part} is not in: {greeting}");
        }
        let mut raw = hub.raw();
        raw.exchange("PING\r\n", "+PONG\r\n");
        hub.signal(Signal::HUP);
        raw.exchange("PING\r\n", "+PONG\r\n");
        assert!(hub.is_running());
        assert!(socket.exists());
        hub.signal(signal);
        let status = hub.wait_for_end();
        assert_eq!(status.code(), Some(0), "{}", hub.log());
        assert_eq!(raw.rest(), "");
        assert!(!socket.exists());
        assert_eq!(try_http(hub.admin_address(), "/healthz"), None);
    }
}
