//! What hubs hold, compared.

use std::collections::BTreeMap;

use redis::{Connection, Value};

use super::{Hub, wait_for};

/// Sequence and body of every instance, by cache key and originator. In bodies of the kv protocol
/// the remaining life, which differs from moment to moment, is blanked.
pub(crate) type Records = BTreeMap<(Vec<u8>, String), (i64, Vec<u8>)>;

/// Where the remaining life stands in a kv body.
const LIFE: std::ops::Range<usize> = 4..8;

pub(crate) fn bulk(value: &Value) -> Vec<u8> {
    match value {
        Value::BulkString(octets) => octets.clone(),
        Value::SimpleString(text) => text.clone().into_bytes(),
        other => panic!("expected a string, got {other:?}"),
    }
}

pub(crate) fn text(value: &Value) -> String {
    String::from_utf8(bulk(value)).expect("text")
}

pub(crate) fn int(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        other => panic!("expected a number, got {other:?}"),
    }
}

pub(crate) fn array(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        other => panic!("expected an array, got {other:?}"),
    }
}

/// One instance of a key, as SCSP.GET shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) originator: String,
    pub(crate) seq: i64,
    pub(crate) body: Vec<u8>,
}

/// SCSP.GET with further arguments.
pub(crate) fn instances(
    connection: &mut Connection,
    group: &str,
    key: &[u8],
    more: &[&str],
) -> Vec<Instance> {
    let reply: Value = redis::cmd("SCSP.GET")
        .arg(group)
        .arg(key)
        .arg(more)
        .query(connection)
        .expect("a reply");
    let mut found: Vec<Instance> = array(&reply)
        .iter()
        .map(|item| match array(item) {
            [originator, seq, age, body] => {
                assert!(int(age) >= 0);
                Instance {
                    originator: text(originator),
                    seq: int(seq),
                    body: bulk(body),
                }
            }
            other => panic!("expected [oid, seq, age-ms, body], got {other:?}"),
        })
        .collect();
    found.sort_by(|a, b| a.originator.cmp(&b.originator));
    found
}

/// All of a group: SCSP.SCAN to its end; with `all`, tombstones and withdrawals too.
pub(crate) fn records(connection: &mut Connection, group: &str, kv: bool, all: bool) -> Records {
    try_records(connection, group, kv, all).expect("a reply")
}

/// The same; the error is the hub's.
pub(crate) fn try_records(
    connection: &mut Connection,
    group: &str,
    kv: bool,
    all: bool,
) -> redis::RedisResult<Records> {
    let mut records = Records::new();
    let mut cursor = "0".to_owned();
    loop {
        let mut command = redis::cmd("SCSP.SCAN");
        command.arg(group).arg(&cursor).arg("COUNT").arg(1000);
        if all {
            command.arg("ALL");
        }
        let reply: Value = command.query(connection)?;
        let [next, items] = array(&reply) else {
            panic!("expected a pair, got {reply:?}")
        };
        for item in array(items) {
            let [key, originator, seq, age, body] = array(item) else {
                panic!("expected [key, oid, seq, age-ms, body], got {item:?}")
            };
            assert!(int(age) >= 0);
            let mut body = bulk(body);
            if kv {
                body[LIFE].fill(0);
            }
            records.insert((bulk(key), text(originator)), (int(seq), body));
        }
        cursor = text(next);
        if cursor == "0" {
            return Ok(records);
        }
    }
}

/// Waits until all hubs hold the same records of `group`, tombstones included, and returns them.
#[track_caller]
pub(crate) fn wait_until_equal(hubs: &[&Hub], group: &str, kv: bool) -> Records {
    let mut connections: Vec<Connection> = hubs.iter().map(|hub| hub.redis()).collect();
    wait_for("all hubs hold the same", || {
        let mut all = connections
            .iter_mut()
            .map(|one| records(one, group, kv, true));
        let first = all.next().expect("a hub");
        for (number, other) in all.enumerate() {
            if other != first {
                let differs = |key: &&(Vec<u8>, String)| first.get(*key) != other.get(*key);
                let key = first
                    .keys()
                    .chain(other.keys())
                    .find(differs)
                    .expect("they differ");
                let seq = |records: &Records| records.get(key).map(|(seq, _)| *seq);
                return Err(format!(
                    "{} records and {}; hub 0 and hub {} differ first at {:?} of {}: {:?} and {:?}",
                    first.len(),
                    other.len(),
                    number + 1,
                    key.0.escape_ascii().to_string(),
                    key.1,
                    seq(&first),
                    seq(&other),
                ));
            }
        }
        Ok(first)
    })
}
