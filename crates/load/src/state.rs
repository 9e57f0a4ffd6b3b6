//! What a server holds, reduced to a count and a digest that do not depend on order.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use redis::Value;
use scsp_profile::{KvBody, Profile};
use scsp_wire::ProtocolId;

use crate::connection::{Connection, text};
use crate::hub::{GROUP, Hub};
use crate::interrupt;
use crate::wait;

/// Records asked for at a time.
const SCAN_COUNT: &[u8] = b"1000";

/// Differing records of a pair of hubs that are told, each way.
const DIFFERENCES_TOLD_MAX: usize = 10;

/// Records and the sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) records: u64,
    pub(crate) digest: u64,
}

impl State {
    const fn add(&mut self, fingerprint: u64) {
        self.records += 1;
        self.digest = self.digest.wrapping_add(fingerprint);
    }
}

fn fingerprint(parts: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}

/// One record as a hub shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    key: Vec<u8>,
    oid: String,
    seq: String,
    body: Vec<u8>,
}

impl Record {
    fn new(value: Value) -> Option<Self> {
        let Value::Array(fields) = value else {
            return None;
        };
        let [
            Value::BulkString(key),
            oid,
            seq,
            _age,
            Value::BulkString(body),
        ] = <[Value; 5]>::try_from(fields).ok()?
        else {
            return None;
        };
        Some(Self {
            key,
            oid: text(&oid)?,
            seq: text(&seq)?,
            body,
        })
    }

    /// The largest wins its key (K-01). Ids of equal length compare as their text here.
    fn rank(&self) -> (u64, &str) {
        (
            KvBody::parse(&self.body).map_or(0, |body| body.stamp.0),
            &self.oid,
        )
    }

    /// Of all that does not change while a record only gets older.
    fn fingerprint(&self) -> u64 {
        let body = Profile::of(ProtocolId::KV).lasting_parts(&self.body);
        fingerprint((&self.key, &self.oid, &self.seq, body))
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, oid, seq) = (self.key.escape_ascii(), &self.oid, &self.seq);
        write!(f, "{key} of {oid}, sequence {seq}, ")?;
        match KvBody::parse(&self.body) {
            Ok(KvBody {
                kind,
                life_ms,
                stamp,
                ..
            }) => {
                write!(f, "{kind:?}, life {life_ms:?} ms, stamp {:016x}", stamp.0)
            }
            Err(error) => write!(f, "{error}"),
        }
    }
}

/// Every record of a hub, tombstones too.
fn records(connection: &mut Connection, mut take: impl FnMut(Record)) -> anyhow::Result<()> {
    let mut cursor = b"0".to_vec();
    loop {
        let words: [&[u8]; 6] = [
            b"SCSP.SCAN",
            GROUP.as_bytes(),
            &cursor,
            b"COUNT",
            SCAN_COUNT,
            b"ALL",
        ];
        let (next, records) = page(connection.call(&words)?).context("SCSP.SCAN: not a page")?;
        for record in records {
            take(Record::new(record).context("SCSP.SCAN: not a record")?);
        }
        interrupt::check()?;
        if next == b"0" {
            return Ok(());
        }
        cursor = next;
    }
}

/// Key, originator, sequence and body without remaining life of every record of a hub.
pub(crate) fn of_hub(connection: &mut Connection) -> anyhow::Result<State> {
    let mut state = State::default();
    records(connection, |record| {
        state.add(record.fingerprint());
    })?;
    Ok(state)
}

/// Tells on standard error what each hub holds that the next one does not, or not so.
fn tell_differences(hubs: &mut [Hub]) -> anyhow::Result<()> {
    let mut held = Vec::new();
    for hub in hubs {
        let (aligned, queued, census) = (hub.is_aligned()?, hub.queued()?, hub.census()?);
        let mut map = BTreeMap::new();
        records(hub.control()?, |record| {
            map.insert((record.key.clone(), record.oid.clone()), record);
        })?;
        eprintln!(
            "{}: {} records with tombstones; of its own count {} with digest {}; aligned {aligned}, \
             {queued} unacknowledged",
            hub.name,
            map.len(),
            census.entries,
            census.digest
        );
        held.push((hub.name.clone(), map));
    }
    for pair in held.windows(2) {
        for ((name, here), (_, there)) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            let differs = |record: &&Record| {
                let other = there.get(&(record.key.clone(), record.oid.clone()));
                other.is_none_or(|other| other.fingerprint() != record.fingerprint())
            };
            for record in here.values().filter(differs).take(DIFFERENCES_TOLD_MAX) {
                eprintln!("only at {name}: {record}");
                for sibling in here.values().filter(|other| other.key == record.key) {
                    eprintln!("    beside it: {sibling}");
                }
            }
        }
    }
    Ok(())
}

/// Every key of a Redis server with its value.
pub(crate) fn of_redis(connection: &mut Connection) -> anyhow::Result<State> {
    let mut state = State::default();
    let mut cursor = b"0".to_vec();
    // A key may come twice while the table is resized; nobody writes then, so it is not.
    loop {
        let answer = connection.call(&[b"SCAN", &cursor, b"COUNT", SCAN_COUNT])?;
        let (next, keys) = page(answer).context("SCAN: not a page")?;
        let keys: Vec<&[u8]> = keys
            .iter()
            .map(|key| {
                if let Value::BulkString(key) = key {
                    Some(&**key)
                } else {
                    None
                }
            })
            .collect::<Option<_>>()
            .context("SCAN: not a key")?;
        if !keys.is_empty() {
            let words: Vec<&[u8]> = [b"MGET".as_slice()]
                .into_iter()
                .chain(keys.clone())
                .collect();
            let Value::Array(values) = connection.call(&words)? else {
                anyhow::bail!("MGET: not an array");
            };
            for (key, value) in keys.iter().zip(&values) {
                let Value::BulkString(value) = value else {
                    anyhow::bail!("MGET: not a string")
                };
                state.add(fingerprint((key, value)));
            }
        }
        interrupt::check()?;
        if next == b"0" {
            return Ok(state);
        }
        cursor = next;
    }
}

/// Next cursor and items.
fn page(answer: Value) -> Option<(Vec<u8>, Vec<Value>)> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let [cursor, Value::Array(items)] = <[Value; 2]>::try_from(parts).ok()? else {
        return None;
    };
    Some((text(&cursor)?.into_bytes(), items))
}

/// Waits until the hubs are aligned, owe each other nothing and report equal digests.
pub(crate) fn wait_alike(hubs: &mut [Hub], timeout: Duration) -> anyhow::Result<()> {
    let pause = Duration::from_millis(1);
    wait::until("equal hubs", timeout, pause, || {
        Ok(are_alike(hubs)?.then_some(()))
    })
}

/// Waits until the hubs are aligned and owe each other nothing: in a line, asked from the end where
/// updates enter, each then has what the one before it had.
pub(crate) fn wait_quiet(hubs: &mut [Hub], timeout: Duration) -> anyhow::Result<()> {
    let pause = Duration::from_millis(1);
    wait::until("quiet hubs", timeout, pause, || {
        Ok(are_quiet(hubs)?.then_some(()))
    })
}

fn are_alike(hubs: &mut [Hub]) -> anyhow::Result<bool> {
    if !are_quiet(hubs)? {
        return Ok(false);
    }
    let mut first = None;
    for hub in hubs {
        let census = hub.census()?;
        if *first.get_or_insert_with(|| census.clone()) != census {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Compares the hubs record by record until they are equal, at most for `timeout`; what does not
/// agree is told on standard error.
pub(crate) fn settle(hubs: &mut [Hub], timeout: Duration) -> anyhow::Result<bool> {
    let deadline = Instant::now() + timeout;
    loop {
        let alike = wait_alike(hubs, deadline.saturating_duration_since(Instant::now()));
        interrupt::check()?;
        let states = hubs
            .iter_mut()
            .map(|hub| of_hub(hub.control()?))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let equal = states.windows(2).all(|pair| pair[0] == pair[1]);
        match alike {
            Ok(()) if equal => return Ok(true),
            Ok(()) if Instant::now() < deadline => {}
            Ok(()) | Err(_) => {
                tell_differences(hubs)?;
                return Ok(false);
            }
        }
    }
}

/// Waits until clients read the same at all hubs, whatever the order in which expiry and a later
/// write met on each: the winning record of every key is compared (K-01). Returns how many of the
/// other records, which no client sees, are not on every hub; `None` after `timeout`.
pub(crate) fn settle_winners(hubs: &mut [Hub], timeout: Duration) -> anyhow::Result<Option<u64>> {
    let deadline = Instant::now() + timeout;
    let pause = Duration::from_millis(10);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let quiet = wait::until("quiet hubs", left, pause, || {
            Ok(are_quiet(hubs)?.then_some(()))
        });
        interrupt::check()?;
        let held = hubs
            .iter_mut()
            .map(|hub| {
                let mut held = Held::default();
                records(hub.control()?, |record| held.add(record))?;
                Ok(held)
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let winners: Vec<_> = held.iter().map(Held::winners).collect();
        if quiet.is_ok() && winners.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(Some(not_everywhere(&held)));
        }
        if Instant::now() >= deadline {
            tell_differences(hubs)?;
            return Ok(None);
        }
        thread::sleep(pause);
    }
}

fn are_quiet(hubs: &mut [Hub]) -> anyhow::Result<bool> {
    for hub in hubs {
        if !hub.is_aligned()? || hub.queued()? > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The records of one hub.
#[derive(Debug, Default)]
struct Held {
    by_key: BTreeMap<Vec<u8>, Record>,
    all: HashSet<u64>,
}

impl Held {
    fn add(&mut self, record: Record) {
        self.all.insert(record.fingerprint());
        match self.by_key.get(&record.key) {
            Some(known) if known.rank() > record.rank() => {}
            _ => {
                self.by_key.insert(record.key.clone(), record);
            }
        }
    }

    fn winners(&self) -> State {
        let mut state = State::default();
        for record in self.by_key.values() {
            state.add(record.fingerprint());
        }
        state
    }
}

/// Records that some hub lacks.
fn not_everywhere(held: &[Held]) -> u64 {
    let union: HashSet<_> = held.iter().flat_map(|held| &held.all).collect();
    union
        .into_iter()
        .filter(|hash| !held.iter().all(|held| held.all.contains(hash)))
        .count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, seq: i64, life: u8) -> Value {
        let mut body = vec![1, 0, 0, 1, 0, 0, 0, life];
        body.extend_from_slice(&seq.to_be_bytes());
        body.extend_from_slice(b"value");
        let text = |text: &str| Value::BulkString(text.into());
        let age = Value::Int(i64::from(life));
        Value::Array(vec![
            text(key),
            text("10.0.0.1"),
            Value::Int(seq),
            age,
            Value::BulkString(body),
        ])
    }

    fn state(records: &[Value]) -> State {
        let mut state = State::default();
        for record in records {
            let record = Record::new(record.clone()).unwrap();
            state.add(record.fingerprint());
        }
        state
    }

    /// Goal: neither order nor remaining life counts; key and sequence do.
    #[test]
    fn digest_of_records() {
        let (a, b) = (record("a", 1, 9), record("b", 2, 9));
        let one = state(&[a.clone(), b.clone()]);
        assert_eq!(one, state(&[b.clone(), record("a", 1, 5)]));
        assert_ne!(one, state(std::slice::from_ref(&a)));
        assert_ne!(one, state(&[a, record("b", 3, 9)]));
        assert!(Record::new(Value::Int(1)).is_none());
    }

    /// Goal: what loses its key does not count among the winners, and is told apart.
    #[test]
    fn k_01_winners_are_compared() {
        let held = |records: &[(&str, i64)]| {
            let mut held = Held::default();
            for (key, seq) in records {
                held.add(Record::new(record(key, *seq, 1)).unwrap());
            }
            held
        };
        let (one, other) = (
            held(&[("a", 1), ("a", 2), ("b", 1)]),
            held(&[("b", 1), ("a", 2)]),
        );
        assert_eq!(one.winners(), other.winners());
        assert_ne!(one.winners(), held(&[("a", 1), ("b", 1)]).winners());
        assert_eq!(not_everywhere(&[one, other]), 1);
    }
}
