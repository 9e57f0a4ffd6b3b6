//! Commands on keys and values.

use scsp_profile::kv::HEADER_LEN;

use super::*;

/// Every command on keys, with its answer. Values of one connection only, so that the answers are
/// the same whatever the number of workers.
const SCRIPT: &[(&str, &str)] = &[
    ("SET a 1", "+OK\r\n"),
    ("get a", "$1\r\n1\r\n"),
    ("GET none", "$-1\r\n"),
    ("SET a 2 NX", "$-1\r\n"),
    ("SET b 2 XX", "$-1\r\n"),
    ("SET a 3 XX GET", "$1\r\n1\r\n"),
    ("SET c 1 NX GET", "$-1\r\n"),
    ("SET c 2 NX GET", "$1\r\n1\r\n"),
    ("GET c", "$1\r\n1\r\n"),
    ("SETNX a 4", ":0\r\n"),
    ("SETNX d 4", ":1\r\n"),
    ("SETEX e 10 five", "+OK\r\n"),
    ("TTL e", ":10\r\n"),
    ("PTTL e", ":10000\r\n"),
    ("SET e six KEEPTTL", "+OK\r\n"),
    ("PTTL e", ":10000\r\n"),
    ("SET e seven", "+OK\r\n"),
    ("TTL e", ":-1\r\n"),
    ("TTL none", ":-2\r\n"),
    ("PTTL none", ":-2\r\n"),
    ("PSETEX f 1499 x", "+OK\r\n"),
    ("TTL f", ":1\r\n"),
    ("PSETEX f 1500 x", "+OK\r\n"),
    ("TTL f", ":2\r\n"),
    ("SET f x EX 7", "+OK\r\n"),
    ("PTTL f", ":7000\r\n"),
    ("SET f x PX 70", "+OK\r\n"),
    ("PTTL f", ":70\r\n"),
    ("SET f x EXAT 1700000003", "+OK\r\n"),
    ("PTTL f", ":3000\r\n"),
    ("SET f x PXAT 1700000000004", "+OK\r\n"),
    ("PTTL f", ":4\r\n"),
    ("SET f x PXAT 1600000000000", "+OK\r\n"),
    ("GET f", "$-1\r\n"),
    ("SET f x PX 4294967295", "+OK\r\n"),
    (
        "SET f y PX 4294967296",
        "-ERR life of 4294967296 ms exceeds the limit of 4294967295 ms\r\n",
    ),
    ("GET f", "$1\r\nx\r\n"),
    (
        "EXPIRE f 4294968",
        "-ERR life of 4294968000 ms exceeds the limit of 4294967295 ms\r\n",
    ),
    (
        "SET f x EX 0",
        "-ERR invalid expire time in 'set' command\r\n",
    ),
    ("SET f x NX XX", "-ERR syntax error\r\n"),
    ("EXPIRE a 100", ":1\r\n"),
    ("TTL a", ":100\r\n"),
    ("EXPIRE a 50 NX", ":0\r\n"),
    ("EXPIRE a 50 GT", ":0\r\n"),
    ("EXPIRE a 200 LT", ":0\r\n"),
    ("EXPIRE a 50 LT", ":1\r\n"),
    ("PEXPIRE a 60000 XX", ":1\r\n"),
    ("PTTL a", ":60000\r\n"),
    ("PERSIST a", ":1\r\n"),
    ("PERSIST a", ":0\r\n"),
    ("PERSIST none", ":0\r\n"),
    ("EXPIRE a 10 GT", ":0\r\n"),
    ("EXPIRE none 10", ":0\r\n"),
    ("EXPIRE a -1", ":1\r\n"),
    ("EXISTS a", ":0\r\n"),
    ("GETDEL d", "$1\r\n4\r\n"),
    ("GETDEL d", "$-1\r\n"),
    ("TYPE e", "+string\r\n"),
    ("TYPE d", "+none\r\n"),
    ("STRLEN e", ":5\r\n"),
    ("STRLEN d", ":0\r\n"),
    ("MSET m1 1 m2 2 m3 3 m1 4", "+OK\r\n"),
    (
        "MGET m1 nil m2 m3 m1",
        "*5\r\n$1\r\n4\r\n$-1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n",
    ),
    (
        "MSET m1 1 m2",
        "-ERR wrong number of arguments for 'mset' command\r\n",
    ),
    ("EXISTS m1 m2 m3 none m1", ":4\r\n"),
    ("DBSIZE", ":6\r\n"),
    ("DEL m1 m1 none m2", ":2\r\n"),
    ("UNLINK m3", ":1\r\n"),
    ("DBSIZE", ":3\r\n"),
    ("KEYS e*", "*1\r\n$1\r\ne\r\n"),
    ("KEYS nothing", "*0\r\n"),
    (
        "MSET ok 1 \"\" 2",
        "-ERR key of 0 octets, expected 1 to 255\r\n",
    ),
    ("EXISTS ok", ":0\r\n"),
    (
        "GET",
        "-ERR wrong number of arguments for 'get' command\r\n",
    ),
    ("SCAN x", "-ERR invalid cursor\r\n"),
    ("SCAN 99999999999999", "*2\r\n$1\r\n0\r\n*0\r\n"),
    ("SCAN 0 TYPE hash", "*2\r\n$1\r\n0\r\n*0\r\n"),
    (
        "NOPE x",
        "-ERR unknown command 'NOPE', with args beginning with: 'x' \r\n",
    ),
];

/// Goal: every command on keys answers as Redis does, on any number of workers.
#[test]
fn commands_on_keys() {
    play(GROUPS, SCRIPT);
}

/// Goal: the same script in one piece, in two pieces cut anywhere, and octet by octet gives the
/// same octets, whichever worker is faster.
#[test]
fn pipelines_in_any_pieces_answer_in_order() {
    let input = SCRIPT
        .iter()
        .map(|(line, _)| format!("{line}\r\n"))
        .collect::<Vec<_>>()
        .concat();
    let wanted: String = SCRIPT.iter().map(|(_, answer)| *answer).collect();
    for workers in [1, 2, 4] {
        for backwards in [false, true] {
            let mut world = World::new(workers);
            world.backwards = backwards;
            let conn = world.open(0);
            assert_eq!(world.send(conn, &input), wanted, "{workers} workers");
        }
        let mut world = World::new(workers);
        let conn = world.open(0);
        for octet in input.as_bytes() {
            world.receive(conn, &[*octet]);
        }
        world.settle();
        assert_eq!(
            world.answers(conn),
            wanted,
            "octet by octet, {workers} workers"
        );
    }
}

/// Goal: arrays with binary values, cut at every place.
#[test]
fn arrays_cut_anywhere() {
    let value: Vec<u8> = (0..=255).collect();
    let mut input = array(&[b"SET", b"k\r\n\0", &value]);
    input.extend(array(&[b"GET", b"k\r\n\0"]));
    let mut wanted = b"+OK\r\n$256\r\n".to_vec();
    wanted.extend_from_slice(&value);
    wanted.extend_from_slice(b"\r\n");
    let mut world = World::new(2);
    let conn = world.open(0);
    for cut in 0..input.len() {
        world.receive(conn, &input[..cut]);
        world.settle();
        world.receive(conn, &input[cut..]);
        world.settle();
        let output = &mut world.connections.get_mut(&conn).unwrap().1;
        assert_eq!(std::mem::take(output), wanted, "cut at {cut}");
    }
}

/// Goal: expired values are gone, and a group of another protocol says which commands it has.
#[test]
fn lives_end_and_groups_differ() {
    for workers in [1, 2] {
        let mut world = World::new(workers);
        let conn = world.open(0);
        assert_eq!(world.line(conn, "SET a 1 PX 100"), "+OK\r\n");
        world.advance(40);
        assert_eq!(world.line(conn, "PTTL a"), ":60\r\n");
        world.advance(60);
        assert_eq!(world.line(conn, "GET a"), "$-1\r\n");
        assert_eq!(world.line(conn, "SELECT 1"), "+OK\r\n");
        let refusal = "-ERR group other is of protocol 0x1234, which has no keys and values: use \
            SCSP.PUBLISH, SCSP.PURGE, SCSP.GET and SCSP.SCAN\r\n";
        for line in [
            "GET a", "SET a 1", "MGET a b", "DBSIZE", "KEYS *", "SCAN 0", "DEL a b",
        ] {
            assert_eq!(world.line(conn, line), refusal, "{line}");
        }
        assert_eq!(
            world.line(conn, "SELECT 2"),
            "-ERR DB index is out of range\r\n"
        );
        assert_eq!(
            world.line(conn, "SELECT -1"),
            "-ERR DB index is out of range\r\n"
        );
    }
}

/// Goal: D-14: what no packet can carry is refused, naming the limit, and nothing is written.
#[test]
fn d_14_oversize_is_refused() {
    let mut world = World::new(2);
    let conn = world.open(0);
    let max = world.nodes[0].shard.body_len_max(InstanceIndex(0), 1) - HEADER_LEN;
    let value = vec![b'v'; max + 1];
    let refusal = format!(
        "-ERR value of {} octets exceeds the limit of {max} octets for this key\r\n",
        max + 1,
    );
    for key in [b"a", b"b", b"c", b"d"] {
        assert_eq!(world.send(conn, array(&[b"SET", key, &value])), refusal);
        assert_eq!(
            world.send(conn, array(&[b"SET", key, &value[1..]])),
            "+OK\r\n"
        );
    }
    assert_eq!(
        world.send(conn, array(&[b"MSET", b"x", b"1", b"y", &value])),
        refusal
    );
    assert_eq!(world.line(conn, "EXISTS x y"), ":0\r\n");
    let key = vec![b'k'; 256];
    let refusal = "-ERR key of 256 octets, expected 1 to 255\r\n";
    assert_eq!(world.send(conn, array(&[b"SET", &key, b"1"])), refusal);
    assert_eq!(world.send(conn, array(&[b"GET", &key])), "$-1\r\n");
    assert_eq!(
        world.send(conn, array(&[b"SET", &key[1..], b"1"])),
        "+OK\r\n"
    );
}

/// The bulks of an answer to SCAN: the cursor, then keys.
fn bulks(answer: &str) -> Vec<String> {
    let lines: Vec<&str> = answer.split("\r\n").collect();
    let bulk = |pair: &[&str]| pair[0].starts_with('$').then(|| pair[1].to_owned());
    lines.windows(2).filter_map(bulk).collect()
}

/// Goal: a walk meets every key exactly once over all shards, with and without a pattern.
#[test]
fn scan_meets_every_key_once() {
    for workers in [1, 2, 4] {
        let mut world = World::new(workers);
        let conn = world.open(0);
        for number in 0..500 {
            assert_eq!(world.line(conn, &format!("SET key:{number} 1")), "+OK\r\n");
        }
        for (options, count) in [("", 500), ("COUNT 100 TYPE STRING", 500), ("MATCH *7", 50)] {
            let (mut cursor, mut seen) = ("0".to_owned(), Vec::new());
            loop {
                let answer = world.line(conn, &format!("SCAN {cursor} {options}"));
                let mut found = bulks(&answer).into_iter();
                cursor = found.next().unwrap();
                seen.extend(found);
                if cursor == "0" {
                    break;
                }
            }
            assert_eq!(seen.len(), count, "{options} on {workers} workers");
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), count, "{options} on {workers} workers");
        }
        assert_eq!(bulks(&world.line(conn, "KEYS key:1*")).len(), 111);
    }
}

/// Goal: D-09: while the group is held, commands on records are refused and others work.
#[test]
fn d_09_held_groups_answer_loading() {
    for workers in [1, 2] {
        let mut world = World::with(workers, NEIGHBOUR, 10);
        let conn = world.open(0);
        let loading = "-LOADING the group waits for its neighbours\r\n";
        for line in [
            "GET a",
            "SET a 1",
            "DEL a",
            "DEL a b c d",
            "MGET a b c d",
            "MSET a 1 b 2",
            "DBSIZE",
            "KEYS *",
            "SCAN 0",
            "TTL a",
            "SCSP.PUBLISH clients a b",
            "SCSP.PURGE clients a",
            "SCSP.GET clients a",
            "SCSP.SCAN clients 0",
            "SCSP.DIGEST clients",
        ] {
            assert_eq!(
                world.line(conn, line),
                loading,
                "{line} on {workers} workers"
            );
        }
        assert_eq!(world.line(conn, "PING"), "+PONG\r\n");
        assert!(world.line(conn, "INFO").contains("\r\nloading:1\r\n"));
    }
}
