//! Commands about connections and the hub.

use scsp_resp::command::COMMANDS;

use super::*;

const SCRIPT: &[(&str, &str)] = &[
    ("PING", "+PONG\r\n"),
    ("PING hello", "$5\r\nhello\r\n"),
    ("ECHO \"a b\"", "$3\r\na b\r\n"),
    ("CLIENT GETNAME", "$-1\r\n"),
    ("CLIENT SETNAME me", "+OK\r\n"),
    ("CLIENT GETNAME", "$2\r\nme\r\n"),
    ("CLIENT SETINFO LIB-NAME lib", "+OK\r\n"),
    ("CLIENT SETINFO LIB-VER 1.0", "+OK\r\n"),
    ("CLIENT NO-EVICT on", "+OK\r\n"),
    ("CLIENT NO-TOUCH on", "+OK\r\n"),
    ("CLIENT LIST TYPE pubsub", "$0\r\n\r\n"),
    ("CLIENT LIST ID 99", "$0\r\n\r\n"),
    ("CLIENT KILL 10.9.9.9:1", "-ERR No such client\r\n"),
    ("CLIENT KILL ID 99", ":0\r\n"),
    (
        "CLIENT NOPE",
        "-ERR unknown subcommand 'NOPE'. Try CLIENT HELP.\r\n",
    ),
    ("AUTH default any", "+OK\r\n"),
    (
        "AUTH other any",
        "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    ),
    (
        "AUTH any",
        "-ERR AUTH <password> called without any password configured for the default user. Are \
         you sure your configuration is correct?\r\n",
    ),
    ("TIME", "*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n"),
    ("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
    (
        "CONFIG GET appendonly databases",
        "*4\r\n$10\r\nappendonly\r\n$2\r\nno\r\n$9\r\ndatabases\r\n$1\r\n2\r\n",
    ),
    ("CONFIG GET nothing", "*0\r\n"),
    ("COMMAND COUNT", ":42\r\n"),
    ("CLIENT REPLY SKIP", ""),
    ("PING", ""),
    ("PING", "+PONG\r\n"),
    ("CLIENT REPLY OFF", ""),
    ("SET a 1", ""),
    ("SET b 1", ""),
    ("SET c 1", ""),
    ("MGET a b c d", ""),
    ("DEL a b c d", ""),
    ("NOPE", ""),
    ("CLIENT REPLY ON", "+OK\r\n"),
    ("EXISTS a b c", ":0\r\n"),
    ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
    (
        "HELLO 3 AUTH other x",
        "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
    ),
    ("GET a", "$-1\r\n"),
    ("RESET", "+RESET\r\n"),
    ("CLIENT GETNAME", "$-1\r\n"),
];

/// Goal: commands about the connection answer as Redis does, muted ones not at all.
#[test]
fn commands_about_connections() {
    play(GROUPS, SCRIPT);
}

/// Goal: HELLO 3 changes the form of maps and nulls, from other workers too.
#[test]
fn resp3_forms() {
    let mut world = World::new(2);
    let conn = world.open(0);
    assert_eq!(
        world.line(conn, "HELLO 3 AUTH default x SETNAME me"),
        "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.0\r\n$5\r\nproto\r\n:3\r\n\
         $2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n\
         $7\r\nmodules\r\n*0\r\n"
    );
    let keys = (world.key_of(0, 0), world.key_of(1, 0));
    assert_eq!(
        world.line(conn, &format!("MGET {} {}", keys.0, keys.1)),
        "*2\r\n_\r\n_\r\n"
    );
    assert!(world.line(conn, "CLIENT INFO").contains(" name=me "));
    assert!(world.line(conn, "INFO").starts_with('='));
    assert!(world.line(conn, "SCSP.STATUS").starts_with("%6\r\n"));
    // The version may change while replies are under way.
    let lines = format!("GET {0}\r\nHELLO 2\r\nGET {0}\r\n", keys.1);
    let answer = world.send(conn, lines);
    assert!(
        answer.starts_with("_\r\n*14\r\n") && answer.ends_with("$-1\r\n"),
        "{answer}"
    );
}

/// Goal: CLIENT LIST shows and CLIENT KILL closes connections of every worker.
#[test]
fn clients_of_all_workers() {
    let mut world = World::new(2);
    let (me, near, far, spared) = (world.open(0), world.open(0), world.open(1), world.open(1));
    let lines = world.line(me, "CLIENT LIST");
    assert_eq!(lines.matches("\nid=").count(), 4, "{lines}");
    assert!(lines.contains("id=3 addr=127.0.0.1:5004 "), "{lines}");
    assert_eq!(
        world.line(me, "CLIENT LIST ID 3 2").matches("id=").count(),
        2
    );
    assert_eq!(world.line(me, "CLIENT KILL ID 2"), ":1\r\n");
    assert!(world.is_closed(far) && !world.is_closed(near));
    assert_eq!(world.line(me, "CLIENT KILL 127.0.0.1:5004"), "+OK\r\n");
    assert!(world.is_closed(near) && !world.is_closed(spared));
    world.nodes[0].clients.closed(near);
    world.nodes[1].clients.closed(far);
    assert_eq!(
        world.line(me, "CLIENT KILL USER default SKIPME no"),
        ":2\r\n"
    );
    assert!(world.is_closed(me) && world.is_closed(spared));
}

/// Goal: over the limit a client is told so; a place that becomes free is used.
#[test]
fn connections_are_limited() {
    let mut world = World::with(2, GROUPS, 2);
    let first = world.open(0);
    let second = world.open(1);
    let third = world.open(0);
    assert_eq!(
        world.answers(third),
        "-ERR max number of clients reached\r\n"
    );
    assert!(world.is_closed(third) && !world.is_closed(first) && !world.is_closed(second));
    world.nodes[0].clients.closed(third);
    world.nodes[1].clients.closed(second);
    let fourth = world.open(0);
    assert_eq!(world.line(fourth, "PING"), "+PONG\r\n");
}

/// Goal: INFO has its sections, one or all; the keyspace counts over all workers.
#[test]
fn info_sections() {
    for workers in [1, 2] {
        let mut world = World::new(workers);
        let conn = world.open(0);
        assert_eq!(world.line(conn, "MSET a 1 b 2 c 3 d 4 e 5"), "+OK\r\n");
        let all = world.line(conn, "INFO");
        for text in [
            "# Server\r\nredis_version:",
            "\r\n\r\n# Clients\r\nconnected_clients:1\r\n",
            "# Memory\r\n",
            "# Persistence\r\nloading:0\r\n",
            "# Stats\r\n",
            "# Replication\r\nrole:master\r\n",
            "# Scsp\r\nserver_id:10.0.0.1\r\n",
            "atomic on this hub only",
            "# Keyspace\r\ndb0:keys=5,expires=0,avg_ttl=0\r\n",
        ] {
            assert!(all.contains(text), "{text} in {all}");
        }
        let one = world.line(conn, "INFO replication");
        assert_eq!(
            one,
            "$48\r\n# Replication\r\nrole:master\r\nconnected_slaves:0\r\n\r\n"
        );
        let keyspace = world.line(conn, "INFO keyspace");
        assert!(
            keyspace.contains("\r\n# Keyspace\r\ndb0:keys=5"),
            "{keyspace}"
        );
    }
}

/// Goal: every command of the table is carried out: it answers, and not that it is unknown.
#[test]
fn every_command_of_the_table_answers() {
    for command in &COMMANDS {
        for workers in [1, 2] {
            let mut world = World::new(workers);
            let conn = world.open(0);
            let count = usize::from(command.arity.unsigned_abs());
            let mut args = vec![command.name.as_bytes()];
            args.resize(count, b"1");
            let answer = world.send(conn, array(&args));
            assert!(!answer.is_empty(), "{}", command.name);
            assert!(
                !answer.starts_with("-ERR unknown command"),
                "{}",
                command.name
            );
            world.nodes[0].clients.publish();
            let stats = &world.hub.stats[0];
            assert_eq!(
                stats.commands[command.id.index()].get(),
                1,
                "{}",
                command.name
            );
            assert_eq!(stats.connections.get(), 1);
        }
    }
}
