#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method's path fixes the writer's lifetime and does not compile here"
)]

use super::*;

/// What `write` appends in one protocol version.
fn written(protocol: Protocol, write: impl FnOnce(&mut Writer<'_>)) -> String {
    let mut out = Vec::new();
    write(&mut Writer::new(&mut out, protocol));
    String::from_utf8(out).expect("the tests write text")
}

/// Checks what `write` appends in both versions.
fn check(write: impl Fn(&mut Writer<'_>), resp2: &str, resp3: &str) {
    assert_eq!(written(Protocol::Resp2, &write), resp2);
    assert_eq!(written(Protocol::Resp3, &write), resp3);
}

/// Goal: types that both versions have look the same in both.
#[test]
fn common_types() {
    check(|w| w.ok(), "+OK\r\n", "+OK\r\n");
    check(|w| w.simple("PONG"), "+PONG\r\n", "+PONG\r\n");
    check(
        |w| w.bulk(b"a\r\nb"),
        "$4\r\na\r\nb\r\n",
        "$4\r\na\r\nb\r\n",
    );
    check(|w| w.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n");
    check(|w| w.array(12), "*12\r\n", "*12\r\n");
    check(|w| w.count(3), ":3\r\n", ":3\r\n");
    check(
        |w| w.bulk_display(format_args!("{}-{}", 12345, 678_901)),
        "$12\r\n12345-678901\r\n",
        "$12\r\n12345-678901\r\n",
    );
}

/// Goal: types of version 3 have their stand-ins in version 2.
#[test]
fn types_of_version_3() {
    check(|w| w.null(), "$-1\r\n", "_\r\n");
    check(|w| w.null_array(), "*-1\r\n", "_\r\n");
    check(|w| w.map(2), "*4\r\n", "%2\r\n");
    check(|w| w.set(2), "*2\r\n", "~2\r\n");
    check(|w| w.push(3), "*3\r\n", ">3\r\n");
    check(|w| w.boolean(true), ":1\r\n", "#t\r\n");
    check(|w| w.boolean(false), ":0\r\n", "#f\r\n");
    check(|w| w.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n");
    check(
        |w| w.double(f64::NEG_INFINITY),
        "$4\r\n-inf\r\n",
        ",-inf\r\n",
    );
    check(|w| w.double(f64::NAN), "$3\r\nnan\r\n", ",nan\r\n");
    check(|w| w.double(1e300), "$5\r\n1e300\r\n", ",1e300\r\n");
    check(|w| w.double(0.0), "$1\r\n0\r\n", ",0\r\n");
    check(
        |w| w.verbatim(b"a: 1"),
        "$4\r\na: 1\r\n",
        "=8\r\ntxt:a: 1\r\n",
    );
}

/// Goal: integers of every length and both signs.
#[test]
fn integers() {
    for value in [0, 9, 10, -1, i64::MAX, i64::MIN] {
        assert_eq!(
            written(Protocol::Resp2, |w| w.integer(value)),
            format!(":{value}\r\n")
        );
    }
}

/// Goal: a line reply cannot be broken by what a client put into it.
#[test]
fn line_replies_stay_on_their_line() {
    let text = "ERR no such 'a\r\n+OK\n'";
    check(
        |w| w.error(text),
        "-ERR no such 'a  +OK '\r\n",
        "-ERR no such 'a  +OK '\r\n",
    );
    check(|w| w.simple("a\r\nb"), "+a  b\r\n", "+a  b\r\n");
}
