//! The hub's replies with names and types.
//!
//! Readers are tolerant: maps may come as RESP3 maps or as field, value, field, value; numbers as integers or
//! text; what a hub leaves out is absent here, and fields this program does not know are kept for `--json`.

use std::time::Duration;

use redis::Value;
use serde::Serialize;
use serde_json::{Map, Number, Value as Json};

use crate::json;

/// One flat map of a reply, its fields taken out one by one.
pub(crate) struct Fields(Vec<(String, Value)>);

impl Fields {
    /// `None` when the reply is no flat map.
    pub(crate) fn new(reply: Value) -> Option<Self> {
        let pairs: Vec<(Value, Value)> = match reply {
            Value::Map(pairs) => pairs,
            Value::Array(items) if items.len().is_multiple_of(2) => {
                let mut items = items.into_iter();
                std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect()
            }
            _ => return None,
        };
        let named = pairs
            .into_iter()
            .map(|(name, value)| Some((text(&name)?, value)));
        named.collect::<Option<_>>().map(Self)
    }

    fn take(&mut self, name: &str) -> Value {
        match self.0.iter().position(|(field, _)| field == name) {
            Some(at) => self.0.remove(at).1,
            None => Value::Nil,
        }
    }

    /// Text that is there and not empty.
    fn text(&mut self, name: &str) -> Option<String> {
        text(&self.take(name)).filter(|text| !text.is_empty())
    }

    fn count(&mut self, name: &str) -> Option<u64> {
        text(&self.take(name))?.parse().ok()
    }

    fn flag(&mut self, name: &str) -> Option<bool> {
        match text(&self.take(name))?.as_str() {
            "1" | "true" | "yes" => Some(true),
            "0" | "false" | "no" => Some(false),
            _ => None,
        }
    }

    /// Seconds, whole or with decimals; absent when the hub says nil, nothing, or a negative number.
    fn seconds(&mut self, name: &str) -> Option<Number> {
        let text = text(&self.take(name))?;
        if let Ok(whole) = text.parse::<u64>() {
            return Some(whole.into());
        }
        text.parse()
            .ok()
            .filter(|secs: &f64| *secs >= 0.0)
            .and_then(Number::from_f64)
    }

    fn digest(&mut self, name: &str) -> Option<String> {
        hex_digest(&self.take(name))
    }

    fn rest(self) -> Map<String, Json> {
        self.0
            .into_iter()
            .map(|(name, value)| (name, json::plain(&value)))
            .collect()
    }
}

/// `count` of seconds as a span of time, for people.
pub(crate) fn span(seconds: &Number) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.as_f64()?).ok()
}

/// Text of a scalar reply; `None` for nil and for what is no scalar.
pub(crate) fn text(value: &Value) -> Option<String> {
    Some(match value {
        Value::BulkString(bytes) | Value::BigNumber(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        Value::Okay => "OK".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        _ => return None,
    })
}

/// Octets of a string reply.
pub(crate) fn octets(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::Okay => Some(b"OK".to_vec()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.into_bytes()),
        _ => None,
    }
}

/// One server group (SCSP.GROUPS).
#[derive(Debug, Serialize)]
pub(crate) struct Group {
    pub(crate) name: Option<String>,
    pub(crate) protocol: Option<String>,
    /// SGID.
    pub(crate) id: Option<u64>,
    pub(crate) entries: Option<u64>,
    /// 64-bit digest of the live records, hexadecimal.
    pub(crate) digest: Option<String>,
    /// Boot hold (D-09).
    pub(crate) loading: Option<bool>,
    #[serde(flatten)]
    rest: Map<String, Json>,
}

impl From<Fields> for Group {
    fn from(mut fields: Fields) -> Self {
        Self {
            name: fields.text("name"),
            protocol: fields.text("protocol"),
            id: fields.count("id"),
            entries: fields.count("entries"),
            digest: fields.digest("digest"),
            loading: fields.flag("loading"),
            rest: fields.rest(),
        }
    }
}

/// What a group holds, in one number (SCSP.DIGEST).
#[derive(Debug, Serialize)]
pub(crate) struct Holding {
    pub(crate) group: String,
    pub(crate) entries: u64,
    /// 64 bits, hexadecimal.
    pub(crate) digest: String,
}

impl Holding {
    /// Reads `[entries, digest]`.
    pub(crate) fn new(group: String, parts: &[Value]) -> Option<Self> {
        let [entries, digest] = parts else {
            return None;
        };
        Some(Self {
            group,
            entries: text(entries)?.parse().ok()?,
            digest: hex_digest(digest)?,
        })
    }
}

/// A 64-bit digest as 16 hexadecimal digits, whether it came as a number or as text.
fn hex_digest(value: &Value) -> Option<String> {
    match value {
        Value::Int(number) => Some(format!("{:016x}", number.cast_unsigned())),
        other => text(other).filter(|text| !text.is_empty()),
    }
}

/// One neighbour in one group (SCSP.PEERS).
#[derive(Debug, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "the interface calls the address \"peer\""
)]
pub(crate) struct Peer {
    pub(crate) group: Option<String>,
    /// Configured address.
    pub(crate) peer: Option<String>,
    /// Server id, once heard.
    pub(crate) id: Option<String>,
    pub(crate) hello: Option<String>,
    pub(crate) alignment: Option<String>,
    /// Seconds in the present alignment state.
    pub(crate) since: Option<Number>,
    /// Seconds since the last Hello; absent before the first.
    pub(crate) last_hello: Option<Number>,
    /// master or slave.
    pub(crate) role: Option<String>,
    /// Records awaiting acknowledgement.
    pub(crate) queue: Option<u64>,
    /// Records still to be solicited.
    pub(crate) requests: Option<u64>,
    /// Abnormal events so far.
    pub(crate) abnormal: Option<u64>,
    #[serde(flatten)]
    rest: Map<String, Json>,
}

impl Peer {
    /// The abnormal events that happened, by cause: `malformed 1, cleared 2`.
    pub(crate) fn events(&self) -> String {
        let happened = self.rest.iter().filter_map(|(name, count)| {
            let cause = name.strip_prefix("abnormal_")?;
            let count = count.as_u64().or_else(|| count.as_str()?.parse().ok())?;
            (count > 0).then(|| format!("{cause} {count}"))
        });
        happened.collect::<Vec<_>>().join(", ")
    }
}

impl From<Fields> for Peer {
    fn from(mut fields: Fields) -> Self {
        Self {
            group: fields.text("group"),
            peer: fields.text("peer"),
            id: fields.text("id"),
            hello: fields.text("hello"),
            alignment: fields.text("alignment"),
            since: fields.seconds("since"),
            last_hello: fields.seconds("last_hello"),
            role: fields.text("role"),
            queue: fields.count("queue"),
            requests: fields.count("requests"),
            abnormal: fields.count("abnormal"),
            rest: fields.rest(),
        }
    }
}

/// The hub itself (SCSP.STATUS).
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) version: Option<String>,
    /// LSID.
    pub(crate) id: Option<String>,
    /// I/O backend.
    pub(crate) backend: Option<String>,
    /// Seconds since the start.
    pub(crate) uptime: Option<Number>,
    pub(crate) healthy: bool,
    /// Why it is not healthy.
    pub(crate) reason: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Json>,
}

impl From<Fields> for Status {
    fn from(mut fields: Fields) -> Self {
        Self {
            version: fields.text("version"),
            id: fields.text("id"),
            backend: fields.text("backend"),
            uptime: fields.seconds("uptime"),
            healthy: fields.flag("healthy").unwrap_or(false),
            reason: fields.text("reason"),
            rest: fields.rest(),
        }
    }
}

/// One entry of a cache (SCSP.GET, SCSP.SCAN).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: Vec<u8>,
    /// Originator's server id as text.
    pub(crate) originator: String,
    /// CSA sequence.
    pub(crate) seq: i64,
    /// Time since this hub took it in.
    pub(crate) age_ms: u64,
    /// Protocol specific body.
    pub(crate) body: Vec<u8>,
}

impl Record {
    /// Reads `[key, oid, seq, age-ms, body]`, or `[oid, seq, age-ms, body]` when the key is known already.
    pub(crate) fn new(reply: Value, key: Option<&[u8]>) -> Option<Self> {
        let Value::Array(items) = reply else {
            return None;
        };
        let mut items = items.into_iter();
        let key = match key {
            Some(key) => key.to_vec(),
            None => octets(items.next()?)?,
        };
        let record = Self {
            key,
            originator: text(&items.next()?)?,
            seq: text(&items.next()?)?.parse().ok()?,
            age_ms: text(&items.next()?)?.parse().ok()?,
            body: octets(items.next()?)?,
        };
        items.next().is_none().then_some(record)
    }
}
