use super::*;
use crate::command::Command;
use crate::decode::Decoder;
use crate::encode::Protocol;

/// Parses an inline command with `parse`, after the arity check, and shows the outcome. The command
/// is leaked, which spares the parsers of the tests a lifetime.
fn shown<T: std::fmt::Debug>(
    line: &str,
    parse: impl FnOnce(Args<'static>) -> Result<T, CommandError<'static>>,
) -> String {
    let decoder = Box::leak(Box::new(Decoder::default()));
    let line = format!("{line}\n").leak();
    let args = decoder
        .decode(line.as_bytes())
        .expect("well-formed")
        .args
        .expect("complete");
    match Command::resolve(args).and_then(|_| parse(args)) {
        Ok(value) => format!("{value:?}"),
        Err(error) => error.to_string(),
    }
}

const SYNTAX: &str = "ERR syntax error";
const NOT_INTEGER: &str = "ERR value is not an integer or out of range";

/// Goal: SET's options, alone and together, and what does not go together.
#[test]
fn set_options() {
    let set = |options: &str| {
        shown(&format!("set k v {options}"), |args| {
            Set::parse(args).map(|set| (set.condition, set.returns_old, set.expiry))
        })
    };
    for (options, expected) in [
        ("", "(Always, false, Never)"),
        ("nx", "(IfAbsent, false, Never)"),
        ("XX GET", "(IfPresent, true, Never)"),
        ("nx get", "(IfAbsent, true, Never)"),
        ("ex 10 NX", "(IfAbsent, false, AfterMs(10000))"),
        ("PX 1", "(Always, false, AfterMs(1))"),
        (
            "exat 1700000000",
            "(Always, false, AtUnixMs(1700000000000))",
        ),
        ("pxat 5", "(Always, false, AtUnixMs(5))"),
        ("keepttl", "(Always, false, Keep)"),
        ("nx xx", SYNTAX),
        ("ex 10 px 10", SYNTAX),
        ("ex 10 keepttl", SYNTAX),
        ("keepttl ex 10", SYNTAX),
        ("ex", SYNTAX),
        ("foo", SYNTAX),
        ("ex a", NOT_INTEGER),
        ("ex 1.5", NOT_INTEGER),
        ("ex 0", "ERR invalid expire time in 'set' command"),
        ("px -1", "ERR invalid expire time in 'set' command"),
        (
            "ex 9223372036854775",
            "ERR invalid expire time in 'set' command",
        ),
        (
            "ex 9223372036854775807",
            "ERR invalid expire time in 'set' command",
        ),
        (
            "px 9223372036854775807",
            "ERR invalid expire time in 'set' command",
        ),
    ] {
        assert_eq!(set(options), expected, "{options}");
    }
}

/// Goal: SETEX and PSETEX name themselves in their refusals.
#[test]
fn setex_times() {
    let ttl = |timed: Timed<'static>| timed.ttl_ms;
    assert_eq!(
        shown("setex k 3 v", |args| Timed::parse_setex(args).map(ttl)),
        "3000"
    );
    assert_eq!(
        shown("psetex k 3 v", |args| Timed::parse_psetex(args).map(ttl)),
        "3"
    );
    let refused = shown("setex k 0 v", Timed::parse_setex);
    assert_eq!(refused, "ERR invalid expire time in 'setex' command");
    let refused = shown("psetex k -5 v", Timed::parse_psetex);
    assert_eq!(refused, "ERR invalid expire time in 'psetex' command");
    assert_eq!(shown("setex k x v", Timed::parse_setex), NOT_INTEGER);
}

/// Goal: EXPIRE's conditions and refusals.
#[test]
fn expire_options() {
    let expire = |options: &str| {
        shown(&format!("expire k {options}"), |args| {
            Expire::parse_expire(args).map(|expire| (expire.after_ms, expire.condition))
        })
    };
    for (options, expected) in [
        ("10", "(10000, Always)"),
        ("-1", "(-1000, Always)"),
        ("1 nx", "(1000, IfNone)"),
        ("1 XX", "(1000, IfSome)"),
        ("1 gt", "(1000, IfLonger)"),
        ("1 xx gt", "(1000, IfLonger)"),
        ("1 lt", "(1000, IfShorter)"),
        ("1 lt xx", "(1000, IfSomeAndShorter)"),
        (
            "1 nx xx",
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ),
        (
            "1 gt nx",
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ),
        (
            "1 gt lt",
            "ERR GT and LT options at the same time are not compatible",
        ),
        ("1 foo", "ERR Unsupported option foo"),
        ("x", NOT_INTEGER),
        (
            "9223372036854775807",
            "ERR invalid expire time in 'expire' command",
        ),
        (
            "-9223372036854775808",
            "ERR invalid expire time in 'expire' command",
        ),
    ] {
        assert_eq!(expire(options), expected, "{options}");
    }
    let refused = shown("pexpire k 9223372036854775807", Expire::parse_pexpire);
    assert_eq!(refused, "ERR invalid expire time in 'pexpire' command");
}

/// Goal: each condition against none, a shorter and a longer time to live.
#[test]
fn expire_conditions() {
    use ExpireCondition::{Always, IfLonger, IfNone, IfShorter, IfSome, IfSomeAndShorter};
    for (condition, on_none, on_shorter, on_longer) in [
        (Always, true, true, true),
        (IfNone, true, false, false),
        (IfSome, false, true, true),
        (IfLonger, false, true, false),
        (IfShorter, true, false, true),
        (IfSomeAndShorter, false, false, true),
    ] {
        assert_eq!(condition.allows(None, 10), on_none, "{condition:?}");
        assert_eq!(condition.allows(Some(5), 10), on_shorter, "{condition:?}");
        assert_eq!(condition.allows(Some(15), 10), on_longer, "{condition:?}");
    }
}

/// Goal: SCAN, KEYS' sibling with options.
#[test]
fn scan_options() {
    let scan = |options: &str| {
        shown(&format!("scan {options}"), |args| {
            let text = |octets: &[u8]| octets.escape_ascii().to_string();
            Scan::parse(args).map(|scan| {
                (
                    scan.cursor,
                    scan.pattern.map(text),
                    scan.count,
                    scan.kind.map(text),
                )
            })
        })
    };
    for (options, expected) in [
        ("0", "(0, None, 10, None)"),
        (
            "18446744073709551615 count 5",
            "(18446744073709551615, None, 5, None)",
        ),
        (
            "0 match a* type string",
            "(0, Some(\"a*\"), 10, Some(\"string\"))",
        ),
        ("x", "ERR invalid cursor"),
        ("-1", "ERR invalid cursor"),
        ("0 count 0", SYNTAX),
        ("0 count -1", SYNTAX),
        ("0 count x", NOT_INTEGER),
        ("0 match", SYNTAX),
        ("0 foo a", SYNTAX),
    ] {
        assert_eq!(scan(options), expected, "{options}");
    }
}

/// Goal: PING, SELECT, AUTH and MSET.
#[test]
fn small_commands() {
    assert_eq!(shown("ping", ping), "None");
    assert_eq!(
        shown("ping a b", ping),
        "ERR wrong number of arguments for 'ping' command"
    );
    assert_eq!(shown("select 3", select), "Some(3)");
    assert_eq!(shown("select -1", select), "None");
    assert_eq!(shown("select 4294967296", select), NOT_INTEGER);
    assert_eq!(
        shown("auth secret", Auth::parse),
        "Auth { user: \"default\", .. }"
    );
    assert_eq!(
        shown("auth bob secret", Auth::parse),
        "Auth { user: \"bob\", .. }"
    );
    assert_eq!(shown("auth a b c", Auth::parse), SYNTAX);
    let pairs = |args| mset_pairs(args).map(|pairs| pairs.map(|(k, v)| (k[0], v[0])).collect());
    assert_eq!(
        shown::<Vec<(u8, u8)>>("mset a 1 b 2", pairs),
        "[(97, 49), (98, 50)]"
    );
    let refused = shown::<Vec<(u8, u8)>>("mset a 1 b", pairs);
    assert_eq!(refused, "ERR wrong number of arguments for 'mset' command");
}

/// Goal: HELLO's versions, options and refusals.
#[test]
fn hello_options() {
    let hello = |options: &str| {
        shown(&format!("hello {options}"), |args| {
            Hello::parse(args).map(|hello| (hello.protocol, hello.auth.is_some(), hello.name))
        })
    };
    assert_eq!(hello(""), "(None, false, None)");
    assert_eq!(
        hello("3"),
        format!("({:?}, false, None)", Some(Protocol::Resp3))
    );
    assert_eq!(
        hello("2 auth u p setname n"),
        "(Some(Resp2), true, Some([110]))"
    );
    for (options, expected) in [
        ("4", "NOPROTO unsupported protocol version"),
        ("1", "NOPROTO unsupported protocol version"),
        (
            "x",
            "ERR Protocol version is not an integer or out of range",
        ),
        ("3 auth u", "ERR Syntax error in HELLO option 'auth'"),
        ("3 foo", "ERR Syntax error in HELLO option 'foo'"),
        (
            "3 setname 'a b'",
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ),
    ] {
        assert_eq!(hello(options), expected, "{options}");
    }
}

/// Goal: every subcommand in the table has a parser, and each refusal is Redis'.
#[test]
fn client_subcommands() {
    for (line, expected) in [
        ("id", "Id"),
        ("INFO", "Info"),
        ("help", "Help"),
        ("getname", "GetName"),
        ("setname n", "SetName([110])"),
        ("setinfo lib-name n", "SetInfo(Name([110]))"),
        ("setinfo LIB-VER 1", "SetInfo(Version([49]))"),
        ("list", "List(All)"),
        ("list type normal", "List(Kind(Normal))"),
        ("no-evict on", "NoEvict(true)"),
        ("no-touch OFF", "NoTouch(false)"),
        ("reply skip", "Reply(Skip)"),
        ("reply off", "Reply(Off)"),
        ("list id 0", "ERR Invalid client ID"),
        ("list type foo", "ERR Unknown client type 'foo'"),
        ("list foo", SYNTAX),
        ("no-evict maybe", SYNTAX),
        ("reply maybe", SYNTAX),
        ("kill id 0", "ERR client-id should be greater than 0"),
        ("kill id 1 skipme maybe", SYNTAX),
        ("kill id 1 addr", SYNTAX),
        (
            "setname 'a b'",
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ),
        (
            "setinfo lib-name 'a b'",
            "ERR lib-name cannot contain spaces, newlines or special characters.",
        ),
        ("setinfo foo a", "ERR Unrecognized option 'foo'"),
        (
            "setname",
            "ERR wrong number of arguments for 'client|setname' command",
        ),
        (
            "Nosuch",
            "ERR unknown subcommand 'Nosuch'. Try CLIENT HELP.",
        ),
    ] {
        assert_eq!(shown(&format!("client {line}"), client), expected, "{line}");
    }
    let ids = |args| match client(args)? {
        ClientCommand::List(list) => Ok(list.ids().collect::<Vec<_>>()),
        other => panic!("{other:?}"),
    };
    assert_eq!(shown("client list id 3 4", ids), "[3, 4]");
    let kill = |args| match client(args)? {
        ClientCommand::Kill(Kill::Filter(filter)) => {
            Ok((filter.id, filter.kind, filter.age_s, filter.skips_me))
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(
        shown("client kill id 7 maxage 3 skipme no", kill),
        "(Some(7), None, Some(3), false)"
    );
    assert_eq!(
        shown("client kill type replica", kill),
        "(None, Some(Replica), None, true)"
    );
    assert!(shown("client kill 127.0.0.1:5", client).starts_with("Kill(Address("));
}

/// Goal: every row of CLIENT has a parser: none falls through to "unknown subcommand".
#[test]
fn client_rows_have_parsers() {
    for row in crate::CommandId::Client.command().subcommands {
        let values = " x".repeat(usize::from(row.arity.unsigned_abs()) - 2);
        let outcome = shown(&format!("client {}{values}", row.name), client);
        assert!(!outcome.contains("unknown subcommand"), "{}", row.name);
    }
}

/// Goal: the SCSP commands' options; CSU-18 and CSU-19 bound the sequence.
#[test]
fn scsp_options() {
    let publish = |options: &str| {
        shown(&format!("scsp.publish g k b {options}"), |args| {
            ScspPublish::parse(args).map(|publish| publish.sequence)
        })
    };
    assert_eq!(publish(""), "None");
    assert_eq!(publish("SEQ -2147483647"), "Some(-2147483647)");
    assert_eq!(publish("seq 2147483646"), "Some(2147483646)");
    for value in ["2147483647", "-2147483648", "99999999999", "x"] {
        let refused = publish(&format!("seq {value}"));
        assert_eq!(
            refused,
            "ERR SEQ is not an integer from -2147483647 to 2147483646"
        );
    }
    assert_eq!(publish("seq"), SYNTAX);
    assert_eq!(publish("foo 1"), SYNTAX);

    let get = |options: &str| {
        shown(&format!("scsp.get g k {options}"), |args| {
            ScspGet::parse(args).map(|get| (get.originator.is_some(), get.all))
        })
    };
    assert_eq!(get(""), "(false, false)");
    assert_eq!(get("all ORIGINATOR 10.0.0.1"), "(true, true)");
    assert_eq!(get("originator"), SYNTAX);
    assert_eq!(get("foo"), SYNTAX);

    let scan = |options: &str| {
        shown(&format!("scsp.scan g {options}"), |args| {
            ScspScan::parse(args).map(|scan| (scan.cursor, scan.count, scan.all))
        })
    };
    assert_eq!(scan("0"), "(0, 10, false)");
    assert_eq!(scan("7 count 3 all"), "(7, 3, true)");
    assert_eq!(scan("x"), "ERR invalid cursor");
    assert_eq!(scan("0 match *"), SYNTAX);

    let digest = |options: &str| {
        shown(&format!("scsp.digest g {options}"), |args| {
            ScspDigest::parse(args).map(|digest| digest.all)
        })
    };
    assert_eq!(digest(""), "false");
    assert_eq!(digest("all"), "true");
    assert_eq!(digest("foo"), SYNTAX);

    assert_eq!(
        shown("scsp.peer g i clear", ScspPeerClear::parse),
        "ScspPeerClear { group: [103], id: [105] }"
    );
    assert_eq!(shown("scsp.peer g i drop", ScspPeerClear::parse), SYNTAX);
    assert_eq!(shown("scsp.peers g", scsp_peers), "Some([103])");
    let refused = shown("scsp.peers g h", scsp_peers);
    assert_eq!(
        refused,
        "ERR wrong number of arguments for 'scsp.peers' command"
    );
}
