//! The SCSP.* commands.

use super::*;

/// Goal: records of a protocol without rules: written, read, withdrawn, binary-safe.
#[test]
fn records_of_any_protocol() {
    play(
        GROUPS,
        &[
            ("SCSP.PUBLISH other k1 body", ":-2147483647\r\n"),
            ("SCSP.PUBLISH other k1 body2", ":-2147483646\r\n"),
            ("SCSP.PUBLISH other k1 body3 SEQ 5", ":5\r\n"),
            (
                "SCSP.PUBLISH other k1 body4 SEQ 5",
                "-ERR sequence 5 is not within 6 to 2147483646\r\n",
            ),
            ("SCSP.PUBLISH other k2 \"\\x00\\r\\n\"", ":-2147483647\r\n"),
            (
                "SCSP.GET other k1",
                "*1\r\n*4\r\n$8\r\n10.0.0.1\r\n:5\r\n:0\r\n$5\r\nbody3\r\n",
            ),
            (
                "SCSP.GET other k1 ORIGINATOR hex:0a000001",
                "*1\r\n*4\r\n$8\r\n10.0.0.1\r\n:5\r\n:0\r\n$5\r\nbody3\r\n",
            ),
            ("SCSP.GET other k1 ORIGINATOR text:x", "*0\r\n"),
            (
                "SCSP.GET other k1 ORIGINATOR x",
                "-ERR server id 'x': expected an IPv4 address, an IPv6 address, \"hex:…\" or \
                 \"text:…\"\r\n",
            ),
            (
                "SCSP.GET other k2",
                "*1\r\n*4\r\n$8\r\n10.0.0.1\r\n:-2147483647\r\n:0\r\n$3\r\n\0\r\n\r\n",
            ),
            ("SCSP.PURGE other k1", ":1\r\n"),
            ("SCSP.PURGE other k1", ":0\r\n"),
            ("SCSP.PURGE other none", ":0\r\n"),
            ("SCSP.GET other k1", "*0\r\n"),
            (
                "SCSP.GET other k1 ALL",
                "*1\r\n*4\r\n$8\r\n10.0.0.1\r\n:6\r\n:0\r\n$0\r\n\r\n",
            ),
            (
                "SCSP.GET nope k",
                "-ERR no group 'nope', known groups: clients, other\r\n",
            ),
            (
                "SCSP.PEERS nope",
                "-ERR no group 'nope', known groups: clients, other\r\n",
            ),
            (
                "SCSP.PUBLISH clients k x",
                "-ERR body malformed for this protocol: body_truncated\r\n",
            ),
            ("SCSP.PEERS", "*0\r\n"),
            ("SCSP.PEERS other", "*0\r\n"),
            (
                "SCSP.PEER other 10.0.0.2 CLEAR",
                "-ERR no peer '10.0.0.2' in group other, known peers: none\r\n",
            ),
            ("SCSP.SCAN other 99999999999999", "*2\r\n$1\r\n0\r\n*0\r\n"),
        ],
    );
}

/// Goal: a walk over records meets each once on any number of workers, with its five parts.
#[test]
fn scan_of_records() {
    for workers in [1, 2, 4] {
        let mut world = World::new(workers);
        let conn = world.open(0);
        for number in 0..100 {
            world.line(conn, &format!("SCSP.PUBLISH other r{number} b"));
        }
        let (mut cursor, mut seen) = ("0".to_owned(), 0);
        loop {
            let answer = world.line(conn, &format!("SCSP.SCAN other {cursor} COUNT 7"));
            seen += answer.matches("*5\r\n$").count();
            cursor = answer.split("\r\n").nth(2).unwrap().to_owned();
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen, 100, "{workers} workers");
    }
}

/// Goal: groups with the same records show the same entries and digest, however they are spread.
#[test]
fn groups_and_digest() {
    let mut digests = Vec::new();
    for workers in [1, 2, 4] {
        let mut world = World::new(workers);
        let conn = world.open(0);
        let empty = world.line(conn, "SCSP.GROUPS");
        for number in 0..20 {
            world.line(conn, &format!("SCSP.PUBLISH other r{number} b{number}"));
        }
        world.line(conn, "SCSP.PURGE other r3");
        let groups = world.line(conn, "SCSP.GROUPS");
        let start = "*2\r\n*12\r\n$4\r\nname\r\n$7\r\nclients\r\n$8\r\nprotocol\r\n$2\r\nkv\r\n\
            $2\r\nid\r\n:1\r\n$7\r\nentries\r\n:0\r\n$6\r\ndigest\r\n$16\r\n0000000000000000\r\n\
            $7\r\nloading\r\n:0\r\n*12\r\n$4\r\nname\r\n$5\r\nother\r\n$8\r\nprotocol\r\n\
            $6\r\n0x1234\r\n$2\r\nid\r\n:7\r\n$7\r\nentries\r\n";
        assert!(empty.starts_with(&format!("{start}:0\r\n")), "{empty}");
        assert!(groups.starts_with(&format!("{start}:19\r\n")), "{groups}");
        digests.push(groups);
    }
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0], digests[2]);
}

/// Goal: the digest of one group is what SCSP.GROUPS shows; withdrawals count only with ALL; it does
/// not depend on how records are spread, and changes with each of them.
#[test]
fn digest_of_a_group() {
    let mut seen = Vec::new();
    for workers in [1, 2, 4] {
        let mut world = World::new(workers);
        let conn = world.open(0);
        let empty = "*2\r\n:0\r\n$16\r\n0000000000000000\r\n";
        assert_eq!(world.line(conn, "SCSP.DIGEST other"), empty);
        for number in 0..20 {
            world.line(conn, &format!("SCSP.PUBLISH other r{number} b{number}"));
        }
        let full = world.line(conn, "SCSP.DIGEST other");
        assert_eq!(world.line(conn, "SCSP.DIGEST other ALL"), full);
        world.line(conn, "SCSP.PURGE other r3");
        let live = world.line(conn, "SCSP.DIGEST other");
        let all = world.line(conn, "SCSP.DIGEST other all");
        assert!(full.starts_with("*2\r\n:20\r\n$16\r\n"), "{full}");
        assert!(live.starts_with("*2\r\n:19\r\n$16\r\n"), "{live}");
        assert!(all.starts_with("*2\r\n:20\r\n$16\r\n"), "{all}");
        let digest = |reply: &str| reply.split("\r\n").nth(3).unwrap().to_owned();
        assert_ne!(digest(&full), digest(&live));
        assert_ne!(digest(&full), digest(&all));
        let groups = world.line(conn, "SCSP.GROUPS");
        assert!(groups.contains(&digest(&live)), "{groups}");
        seen.push((full, live, all));
        assert_eq!(world.line(conn, "SCSP.DIGEST clients"), empty);
        assert_eq!(
            world.line(conn, "SCSP.DIGEST nope"),
            "-ERR no group 'nope', known groups: clients, other\r\n"
        );
        assert_eq!(
            world.line(conn, "SCSP.DIGEST other some"),
            "-ERR syntax error\r\n"
        );
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
}

/// Goal: the control thread answers about health and neighbours, and resets one.
#[test]
fn status_and_peers() {
    for workers in [1, 2] {
        let mut world = World::with(workers, NEIGHBOUR, 10);
        let conn = world.open(usize::from(workers) - 1);
        world.advance(2500);
        assert_eq!(
            world.line(conn, "SCSP.STATUS"),
            format!(
                "*12\r\n$7\r\nversion\r\n$5\r\n{}\r\n$2\r\nid\r\n$8\r\n10.0.0.1\r\n$7\r\nbackend\
                 \r\n$4\r\npoll\r\n$6\r\nuptime\r\n:2\r\n$7\r\nhealthy\r\n:0\r\n$6\r\nreason\r\n\
                 $42\r\ngroup clients: peer 127.0.0.2:2334 is down\r\n",
                env!("CARGO_PKG_VERSION"),
            ),
        );
        let peers = "*1\r\n*34\r\n$5\r\ngroup\r\n$7\r\nclients\r\n$4\r\npeer\r\n$14\r\n\
            127.0.0.2:2334\r\n$2\r\nid\r\n$-1\r\n$5\r\nhello\r\n$4\r\ndown\r\n$9\r\nalignment\r\n\
            $4\r\ndown\r\n$5\r\nsince\r\n:2\r\n$10\r\nlast_hello\r\n$-1\r\n$4\r\nrole\r\n$-1\r\n\
            $5\r\nqueue\r\n:0\r\n$8\r\nrequests\r\n:0\r\n$8\r\nabnormal\r\n:0\r\n\
            $18\r\nabnormal_malformed\r\n:0\r\n$23\r\nabnormal_authentication\r\n:0\r\n\
            $19\r\nabnormal_id_changed\r\n:0\r\n$23\r\nabnormal_csu_retransmit\r\n:0\r\n\
            $24\r\nabnormal_csus_retransmit\r\n:0\r\n$16\r\nabnormal_cleared\r\n:0\r\n";
        assert_eq!(world.line(conn, "SCSP.PEERS"), peers);
        assert_eq!(world.line(conn, "SCSP.PEERS clients"), peers);
        assert_eq!(
            world.line(conn, "SCSP.PEER clients 10.0.0.9 CLEAR"),
            "-ERR no peer '10.0.0.9' in group clients, known peers: 127.0.0.2:2334\r\n"
        );
        assert!(world.cleared.is_empty());
        let lines = "SCSP.PEER clients 127.0.0.2:2334 CLEAR\r\n".repeat(2);
        assert_eq!(world.send(conn, lines), "+OK\r\n+OK\r\n");
        assert_eq!(world.cleared, [DcsIndex(0), DcsIndex(0)]);
        let down = health(&world.hub, &world.control).unwrap_err();
        assert_eq!(down, "group clients: peer 127.0.0.2:2334 is down");
        world.control.handle_link(world.now, LinkIndex(0), true);
        let waiting = health(&world.hub, &world.control).unwrap_err();
        assert_eq!(waiting, "group clients: peer 127.0.0.2:2334 is waiting");
    }
    let mut single = World::new(1);
    let conn = single.open(0);
    let status = single.line(conn, "SCSP.STATUS");
    assert!(
        status.ends_with("$7\r\nhealthy\r\n:1\r\n$6\r\nreason\r\n$0\r\n\r\n"),
        "{status}"
    );
}
