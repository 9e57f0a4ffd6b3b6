use std::collections::HashSet;

use super::*;
use crate::decode::Decoder;
use crate::encode::{Protocol, Writer};

/// Runs `check` on the arguments of an inline command.
fn with_args<T>(line: &str, check: impl FnOnce(Args<'_>) -> T) -> T {
    let mut decoder = Decoder::default();
    let line = format!("{line}\n");
    check(
        decoder
            .decode(line.as_bytes())
            .expect("well-formed")
            .args
            .expect("complete"),
    )
}

fn reply(protocol: Protocol, line: &str) -> String {
    let mut out = Vec::new();
    with_args(line, |args| {
        reply_command(&mut Writer::new(&mut out, protocol), args);
    });
    String::from_utf8(out).expect("the table is text")
}

/// Checks that `text` is exactly one reply, aggregates complete.
fn assert_one_reply(text: &str) {
    fn skip_value(lines: &mut std::str::Split<'_, &str>) {
        let line = lines.next().expect("a reply starts here");
        let number = |line: &str| line[1..].parse::<i64>().expect("a length");
        let elements = match line.as_bytes()[0] {
            b'+' | b'-' | b':' | b'_' => 0,
            b'$' => {
                let bulk_len = lines.next().expect("a bulk").len();
                assert_eq!(i64::try_from(bulk_len), Ok(number(line)));
                0
            }
            b'*' | b'~' => number(line).max(0),
            b'%' => 2 * number(line),
            other => panic!("marker {}", other.escape_ascii()),
        };
        (0..elements).for_each(|_| skip_value(lines));
    }
    let mut lines = text.split("\r\n");
    skip_value(&mut lines);
    assert_eq!(lines.collect::<Vec<_>>(), [""], "{text}");
}

/// Goal: rows and variants are in the same order, sorted and without repetition; summaries are lines.
#[test]
fn table_is_in_order() {
    for (index, command) in COMMANDS.iter().enumerate() {
        assert_eq!(command.id.index(), index, "{}", command.name);
        assert_eq!(command.name, command.name.to_ascii_lowercase());
        assert!(
            command.summary.ends_with('.') && !command.group.is_empty(),
            "{}",
            command.name
        );
        assert!(
            command.subcommands.is_sorted_by(|a, b| a.name < b.name),
            "{}",
            command.name
        );
        assert_ne!(command.arity, 0);
        let is_data =
            command.flags.contains(Flags::WRITE) || command.flags.contains(Flags::READONLY);
        // D-09: what touches records waits for the boot hold, all else works.
        assert_ne!(
            is_data,
            command.flags.contains(Flags::LOADING),
            "{}",
            command.name
        );
    }
    assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
}

/// Goal: every name is found in any case, and nothing else is.
#[test]
fn lookup_ignores_case() {
    for command in &COMMANDS {
        let upper = command.name.to_ascii_uppercase();
        for name in [command.name, upper.as_str()] {
            assert_eq!(
                Command::find(name.as_bytes()).map(|found| found.id),
                Some(command.id)
            );
        }
        let longer = format!("{}x", command.name);
        assert!(Command::find(longer.as_bytes()).is_none_or(|found| found.name == longer));
    }
    assert!(Command::find(b"").is_none());
    assert!(Command::find(&[0xff; 1000]).is_none());
}

/// Goal: refusals are in the words of Redis.
#[test]
fn refusals_are_worded_like_redis() {
    let refusal = |line: &str| {
        with_args(line, |args| {
            Command::resolve(args).expect_err("refused").to_string()
        })
    };
    assert_eq!(
        refusal("GET"),
        "ERR wrong number of arguments for 'get' command"
    );
    assert_eq!(
        refusal("get a b"),
        "ERR wrong number of arguments for 'get' command"
    );
    assert_eq!(
        refusal("foo a b"),
        "ERR unknown command 'foo', with args beginning with: 'a' 'b' "
    );
    assert_eq!(
        refusal("Foo"),
        "ERR unknown command 'Foo', with args beginning with: "
    );
    let long = "x".repeat(200);
    let text = refusal(&format!("{long} {long} b"));
    let shown = "x".repeat(128);
    assert_eq!(
        text,
        format!("ERR unknown command '{shown}', with args beginning with: '{shown}' ")
    );
    assert_eq!(
        with_args("SET a b NX", |args| Command::resolve(args)
            .expect("known")
            .id),
        CommandId::Set
    );
}

/// Goal: keys are where Redis' key specifications say.
#[test]
fn keys_follow_the_table() {
    let keys = |line: &str| {
        with_args(line, |args| {
            let command = Command::resolve(args).expect("known");
            command
                .keys(args)
                .map(|key| key.escape_ascii().to_string())
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(keys("get a"), ["a"]);
    assert_eq!(keys("set a b ex 10"), ["a"]);
    assert_eq!(keys("del a b c"), ["a", "b", "c"]);
    assert_eq!(keys("mset a 1 b 2"), ["a", "b"]);
    assert_eq!(keys("scsp.publish g k body"), ["k"]);
    assert!(keys("ping").is_empty());
    assert!(keys("scan 0").is_empty());
}

/// Goal: every reply of COMMAND is one whole reply in both versions.
#[test]
fn replies_are_complete() {
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        for line in [
            "command",
            "command count",
            "command info",
            "command info get nosuch client|id client|nosuch config",
            "command docs",
            "command docs get nosuch client client|kill",
            "command list",
            "command list filterby aclcat string",
            "command list filterby pattern *ex*",
            "command list filterby module none",
            "command list filterby nothing x",
            "command getkeys mset a 1 b 2",
            "command help",
            "command nosuch",
            "command count too many",
        ] {
            assert_one_reply(&reply(protocol, line));
        }
    }
}

/// Goal: COMMAND INFO of one command, octet for octet.
#[test]
fn command_info_has_ten_elements() {
    let expected = "*1\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n\
        *3\r\n+@string\r\n+@read\r\n+@fast\r\n*0\r\n*1\r\n*6\r\n$5\r\nflags\r\n*1\r\n+RO\r\n\
        $12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:1\r\n\
        $9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n*6\r\n$7\r\nlastkey\r\n:0\r\n\
        $7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n";
    assert_eq!(reply(Protocol::Resp2, "COMMAND INFO GET"), expected);
}

/// Goal: COMMAND DOCS of one command in version 3, octet for octet.
#[test]
fn command_docs_is_a_map_of_maps() {
    let expected = "%1\r\n$3\r\nttl\r\n%3\r\n$7\r\nsummary\r\n\
        $45\r\nReturns the time to live of a key in seconds.\r\n\
        $5\r\nsince\r\n$5\r\n1.0.0\r\n$5\r\ngroup\r\n$7\r\ngeneric\r\n";
    assert_eq!(reply(Protocol::Resp3, "command docs ttl nosuch"), expected);
}

/// Goal: the refusals of COMMAND's subcommands.
#[test]
fn command_refusals() {
    for (line, text) in [
        ("command getkeys nosuch a", "ERR Invalid command specified"),
        (
            "command getkeys get a b",
            "ERR Invalid number of arguments specified for command",
        ),
        (
            "command getkeys ping a",
            "ERR The command has no key arguments",
        ),
        (
            "command getkeys",
            "ERR wrong number of arguments for 'command|getkeys' command",
        ),
        (
            "command Nosuch",
            "ERR unknown subcommand 'Nosuch'. Try COMMAND HELP.",
        ),
        ("command list filterby", "ERR syntax error"),
    ] {
        assert_eq!(reply(Protocol::Resp2, line), format!("-{text}\r\n"));
    }
    assert_eq!(
        reply(Protocol::Resp2, "command count"),
        format!(":{}\r\n", COMMANDS.len())
    );
}

/// Goal: no category is named twice, whether given in the row or following from a flag.
#[test]
fn categories_do_not_repeat() {
    for command in &COMMANDS {
        let distinct: HashSet<_> = command.categories().collect();
        assert_eq!(
            distinct.len(),
            command.categories().count(),
            "{}",
            command.name
        );
    }
}
