//! Order, bounds and ends of connections.

use super::*;
use crate::client::replies::WAITING_MAX;

/// Goal: replies that are ready wait behind those that are not, and nothing else does.
#[test]
fn ready_replies_wait_for_earlier_ones() {
    let mut world = World::new(2);
    let conn = world.open(0);
    let (own, other) = (world.key_of(0, 0), world.key_of(1, 0));
    world.receive(
        conn,
        format!("SET {own} 1\r\nSET {other} 2\r\nGET {own}\r\nPING\r\n").as_bytes(),
    );
    assert_eq!(world.answers(conn), "+OK\r\n");
    world.receive(conn, b"ECHO x\r\n");
    assert_eq!(world.answers(conn), "");
    world.settle();
    assert_eq!(
        world.answers(conn),
        "+OK\r\n$1\r\n1\r\n+PONG\r\n$1\r\nx\r\n"
    );
    world.receive(conn, b"PING\r\n");
    assert_eq!(world.answers(conn), "+PONG\r\n");
}

/// Goal: one call's commands for another worker travel in one message; its own command sees what
/// they wrote.
#[test]
fn commands_for_one_worker_travel_together() {
    let mut world = World::new(2);
    let conn = world.open(0);
    let lines = (0..64)
        .map(|number| format!("SET {} v{number}\r\n", world.key_of(1, number)))
        .collect::<Vec<_>>()
        .concat();
    world.receive(conn, format!("{lines}DBSIZE\r\n").as_bytes());
    world.nodes[0].ends.0.ring(|_| {});
    let message = world.nodes[1].ends.1.receive().unwrap();
    assert!(world.nodes[1].ends.1.is_empty(), "a second message");
    world.handle(1, message);
    world.settle();
    assert_eq!(
        world.answers(conn),
        format!("{}:64\r\n", "+OK\r\n".repeat(64))
    );
}

/// Goal: with too much under way decoding stops, input is kept, and all is answered in the end.
#[test]
fn waiting_requests_are_bounded() {
    let mut world = World::new(2);
    let conn = world.open(0);
    let key = world.key_of(1, 0);
    let total = 3 * WAITING_MAX + 17;
    let lines = (0..total)
        .map(|number| format!("SET {key} {number} GET\r\n"))
        .collect::<Vec<_>>()
        .concat();
    world.receive(conn, lines.as_bytes());
    assert!(world.nodes[0].clients.is_behind(conn));
    assert_eq!(world.answers(conn), "");
    world.settle();
    assert!(!world.nodes[0].clients.is_behind(conn));
    let old = (0..total - 1).map(|number| number.to_string());
    let wanted = old
        .map(|old| format!("${}\r\n{old}\r\n", old.len()))
        .collect::<Vec<_>>()
        .concat();
    assert_eq!(world.answers(conn), format!("$-1\r\n{wanted}"));
    assert!(!world.is_closed(conn));
}

/// Goal: QUIT, an end of input and garbage all let earlier commands have their replies first.
#[test]
fn a_close_waits_for_replies() {
    let mut world = World::new(2);
    let key = world.key_of(1, 0);
    let quit = world.open(0);
    world.receive(
        quit,
        format!("SET {key} 1\r\nQUIT\r\nGET {key}\r\n").as_bytes(),
    );
    assert!(!world.is_closed(quit));
    world.settle();
    assert_eq!(world.answers(quit), "+OK\r\n+OK\r\n");
    assert!(world.is_closed(quit));

    let ended = world.open(0);
    world.receive(ended, format!("GET {key}\r\n").as_bytes());
    assert_eq!(world.nodes[0].clients.ended(ended), Verdict::Open);
    world.settle();
    assert_eq!(world.answers(ended), "$1\r\n1\r\n");
    assert!(world.is_closed(ended));
    let idle = world.open(0);
    assert_eq!(world.nodes[0].clients.ended(idle), Verdict::Close);

    let garbage = world.open(0);
    let other = world.open(0);
    world.receive(
        garbage,
        format!("GET {key}\r\n*1\r\n+x\r\nPING\r\n").as_bytes(),
    );
    assert!(!world.is_closed(garbage));
    world.settle();
    assert_eq!(
        world.answers(garbage),
        "$1\r\n1\r\n-ERR Protocol error: expected '$', got '+'\r\n"
    );
    assert!(world.is_closed(garbage) && !world.is_closed(other));
    assert_eq!(world.line(other, "PING"), "+PONG\r\n");
}

/// Goal: answers for a connection that is gone do no harm; its slot serves the next one.
#[test]
fn answers_for_nobody_are_dropped() {
    let mut world = World::new(2);
    let conn = world.open(0);
    let key = world.key_of(1, 0);
    world.receive(conn, format!("SET {key} 1\r\n").as_bytes());
    world.nodes[0].clients.closed(conn);
    world.settle();
    assert_eq!(world.answers(conn), "");
    assert!(world.nodes[0].clients.is_empty());
    let next = world.open(0);
    assert_eq!(world.line(next, &format!("GET {key}")), "$1\r\n1\r\n");
    assert_eq!(world.line(next, "CLIENT ID"), ":3\r\n");
}

/// Goal: warm, the same buffers go back and forth.
#[test]
fn batches_are_used_again() {
    let mut world = World::new(2);
    let conn = world.open(0);
    let key = world.key_of(1, 0);
    for _ in 0..10 {
        assert_eq!(world.line(conn, &format!("SET {key} 1")), "+OK\r\n");
    }
    assert_eq!(world.nodes[0].clients.pool.len(), 1);
}
