//! Real hubs at their limit of memory.

mod support;

use redis::{Commands, Connection};

use support::{Backend, Hub, Net, Setup, eventually, on_both_backends, wait_for};

on_both_backends! {
    csu_04_a_full_hub_refuses_writes_and_deletes_still_work,
    csu_04_a_full_neighbour_recovers_when_there_is_room,
}

/// Fills keys until the hub refuses; how many it took, and the refusal.
fn fill(connection: &mut Connection, prefix: &str, len: usize) -> (usize, redis::RedisError) {
    for n in 0.. {
        let set = connection.set::<_, _, ()>(format!("{prefix}{n}"), "v".repeat(len));
        if let Err(refusal) = set {
            return (n, refusal);
        }
    }
    unreachable!("it has a limit")
}

fn info(connection: &mut Connection, field: &str) -> u64 {
    let info: String = redis::cmd("INFO").arg("memory").query(connection).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.strip_prefix(':'));
    number
        .unwrap_or_else(|| panic!("no {field} in {info}"))
        .parse()
        .unwrap()
}

/// Goal: at the limit SET answers as Redis does and changes nothing; GET, DEL, EXPIRE and shorter
/// values work; used memory is shown, stays at the limit, and falls with what is gone for good, after
/// which there is room again.
fn csu_04_a_full_hub_refuses_writes_and_deletes_still_work(backend: Backend) {
    const LIMIT: u64 = 2 << 20;
    let net = Net::claim();
    let setup = Setup::hub(&net, 1, &[])
        .under("[server]", "max_memory = \"2MiB\"")
        .under("[[group]]", "purge_retention = \"1s\"");
    let hub = Hub::start(&setup, backend);
    let mut connection = hub.redis();
    assert_eq!(info(&mut connection, "maxmemory"), LIMIT);
    let (count, refusal) = fill(&mut connection, "key:", 1000);
    assert_eq!(refusal.code(), Some("OOM"), "{refusal}");
    assert!(
        refusal.to_string().contains("used memory > 'maxmemory'"),
        "{refusal}"
    );
    assert!(count > 1000, "{count} values of 1,000 octets");
    let used = || {
        hub.metric("scsp_cache_bytes", &[("group", "clients")])
            .unwrap()
    };
    eventually("the metric shows it", || {
        used() > 1_500_000.0 && used() < 2_200_000.0
    });
    let shown = info(&mut connection, "used_memory");
    assert!(shown > LIMIT / 2 && shown < LIMIT + LIMIT / 20, "{shown}");

    let size =
        |connection: &mut Connection| -> usize { redis::cmd("DBSIZE").query(connection).unwrap() };
    assert_eq!(size(&mut connection), count);
    let value: String = connection.get("key:7").unwrap();
    assert_eq!(value.len(), 1000);
    let done: bool = connection.expire("key:7", 1000).unwrap();
    assert!(done);
    let () = connection.set("key:8", "shorter").unwrap();
    let keys: Vec<String> = (100..count).map(|n| format!("key:{n}")).collect();
    let deleted: usize = connection.del(&keys).unwrap();
    assert_eq!(deleted, count - 100);
    eventually("used memory falls", || {
        info(&mut connection, "used_memory") < LIMIT / 4
    });
    let (again, refusal) = fill(&mut connection, "again:", 1000);
    assert_eq!(refusal.code(), Some("OOM"), "{refusal}");
    assert!(again > count / 2, "{again} of {count}");
}

/// Goal: A has more than B may hold: B says so in its metrics, serves what it has, and its own
/// writes are refused; once A has deleted enough, both hold the same and stay aligned.
fn csu_04_a_full_neighbour_recovers_when_there_is_room(backend: Backend) {
    let net = Net::claim();
    let quick = "purge_retention = \"1s\"";
    let a = Setup::hub(&net, 1, &[2]).under("[[group]]", quick);
    let b = Setup::hub(&net, 2, &[1])
        .under("[[group]]", quick)
        .under("[server]", "max_memory = \"1MiB\"");
    let [a, b] = Hub::start_all([&a, &b], backend);
    a.wait_until_aligned();
    b.wait_until_aligned();
    let (mut at_a, mut at_b) = (a.redis(), b.redis());
    let mut pipe = redis::pipe();
    for n in 0..1500 {
        pipe.set(format!("key:{n}"), "v".repeat(1000)).ignore();
    }
    let () = pipe.query(&mut at_a).unwrap();
    let group = ("group", "clients");
    let rejected = || {
        b.count(
            "scsp_records_received_total",
            &[group, ("outcome", "rejected")],
        )
    };
    eventually("B rejects records", || rejected() > 0);
    let refused = at_b.set::<_, _, ()>("own", "v".repeat(1000)).unwrap_err();
    assert_eq!(refused.code(), Some("OOM"), "{refused}");
    let peer = net.address(2, 2334).to_string();
    let resets = || {
        ["csu_retransmit", "csus_retransmit"].map(|event| {
            let peer = ("peer", peer.as_str());
            a.count(
                "scsp_peer_abnormal_events_total",
                &[group, peer, ("event", event)],
            )
        })
    };
    eventually("A gives up at least once", || {
        resets().iter().sum::<u64>() > 0
    });
    let size =
        |connection: &mut Connection| -> usize { redis::cmd("DBSIZE").query(connection).unwrap() };
    let held = size(&mut at_b);
    assert!(held > 300 && held < 1200, "{held}");

    let keys: Vec<String> = (0..1200).map(|n| format!("key:{n}")).collect();
    let deleted: usize = at_a.del(&keys).unwrap();
    assert_eq!(deleted, 1200);
    wait_for("B holds what is left", || {
        let values: Vec<Option<String>> = at_b
            .mget((0..1500).map(|n| format!("key:{n}")).collect::<Vec<_>>())
            .unwrap();
        let held = values.iter().filter(|value| value.is_some()).count();
        let wrong = values[..1200]
            .iter()
            .filter(|value| value.is_some())
            .count();
        if held == 300 && wrong == 0 {
            return Ok(());
        }
        Err(format!("{held} values, {wrong} of them deleted"))
    });
    a.wait_until_aligned();
    b.wait_until_aligned();
    let () = at_b.set("own", "v".repeat(1000)).unwrap();
    eventually("A has it", || {
        let found: Option<String> = at_a.get("own").unwrap();
        found.is_some()
    });
}
