//! `records`: the raw entries of any protocol.

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use redis::{Cmd, Value, cmd};
use scsp_profile::{KvBody, KvKind};
use scsp_wire::ServerId;
use serde::Serialize;

use super::Session;
use crate::cli::Octets;
use crate::error::{Error, Outcome};
use crate::json;
use crate::model::{Group, Record};
use crate::render::{self, Columns, printable};

/// Records asked for per SCSP.SCAN.
const SCAN_COUNT: u32 = 1_000;
/// Octets of a value or body shown to people; `--json` has all of them.
const SHOWN_LEN_MAX: usize = 48;

/// Where records go while they arrive.
enum Sink {
    Text(Columns),
    Json(json::Stream),
}

/// One record for programs.
#[derive(Serialize)]
struct Shown<'a> {
    group: &'a str,
    key: String,
    originator: &'a str,
    seq: i64,
    age_ms: u64,
    /// Hexadecimal.
    body: String,
    #[serde(flatten)]
    decoded: Option<Decoded>,
}

/// What a kv body says.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Decoded {
    Kv {
        kind: &'static str,
        life_ms: Option<u32>,
        unix_ms: u64,
        counter: u16,
        value: String,
    },
    Malformed(String),
}

impl<W: Write> Session<'_, W> {
    /// Every record that passes the filters, tombstones and withdrawals included.
    pub(super) fn records(
        &mut self,
        group: Option<&str>,
        originator: Option<&ServerId>,
        key: Option<&Octets>,
    ) -> Result<Outcome, Error> {
        let mut groups = self.fetch_groups()?;
        if let Some(name) = group {
            let index = Self::position(&groups, name)?;
            groups = vec![groups.swap_remove(index)];
        }
        let mut sink = if self.json {
            Sink::Json(json::Stream::default())
        } else {
            let heads = &["GROUP", "KEY", "ORIGINATOR", "SEQ", "AGE", "BODY"];
            Sink::Text(Columns::new(heads, &[3, 4]))
        };
        for group in &groups {
            match key {
                Some(key) => self.instances(group, &key.0, originator, &mut sink)?,
                None => self.walk(group, originator, &mut sink)?,
            }
        }
        match sink {
            Sink::Json(stream) => stream.finish(self.out)?,
            Sink::Text(mut columns) => columns.page(self.out, [])?,
        }
        Ok(Outcome::Done)
    }

    /// All instances of one key.
    fn instances(
        &mut self,
        group: &Group,
        key: &[u8],
        originator: Option<&ServerId>,
        sink: &mut Sink,
    ) -> Result<(), Error> {
        let mut command = cmd("SCSP.GET");
        command.arg(group.name.as_deref()).arg(key);
        if let Some(id) = originator {
            command.arg("ORIGINATOR").arg(id.to_string());
        }
        command.arg("ALL");
        match self.hub.call(&command)? {
            Value::Array(items) => {
                let records = self.read(&command, items, Some(key))?;
                self.show(group, &records, sink)
            }
            Value::Nil => Ok(()),
            _ => Err(self.hub.bad_reply(&command, "an array of records")),
        }
    }

    /// All records of a group.
    fn walk(
        &mut self,
        group: &Group,
        originator: Option<&ServerId>,
        sink: &mut Sink,
    ) -> Result<(), Error> {
        let mut cursor = "0".to_owned();
        loop {
            let mut command = cmd("SCSP.SCAN");
            command.arg(group.name.as_deref()).arg(&cursor);
            command.arg("COUNT").arg(SCAN_COUNT).arg("ALL");
            let (next, items) = self.page(&command)?;
            let mut records = self.read(&command, items, None)?;
            if let Some(id) = originator {
                records.retain(|record| record.originator.parse() == Ok(*id));
            }
            self.show(group, &records, sink)?;
            if next == "0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    fn read(
        &self,
        command: &Cmd,
        items: Vec<Value>,
        key: Option<&[u8]>,
    ) -> Result<Vec<Record>, Error> {
        let records = items.into_iter().map(|item| Record::new(item, key));
        records
            .collect::<Option<_>>()
            .ok_or_else(|| self.hub.bad_reply(command, "an array of records"))
    }

    fn show(&mut self, group: &Group, records: &[Record], sink: &mut Sink) -> Result<(), Error> {
        let name = group.name.as_deref().unwrap_or(render::NONE);
        let is_kv = group.protocol.as_deref() == Some("kv");
        match sink {
            Sink::Json(stream) => {
                for record in records {
                    let shown = Shown {
                        group: name,
                        key: json::octets(&record.key),
                        originator: &record.originator,
                        seq: record.seq,
                        age_ms: record.age_ms,
                        body: json::hex(&record.body),
                        decoded: is_kv.then(|| decode(&record.body)),
                    };
                    stream.push(self.out, &shown)?;
                }
                Ok(())
            }
            Sink::Text(_) if records.is_empty() => Ok(()),
            Sink::Text(columns) => {
                let rows = records.iter().map(|record| {
                    vec![
                        name.to_owned(),
                        printable(&record.key),
                        record.originator.clone(),
                        record.seq.to_string(),
                        render::span(Duration::from_millis(record.age_ms)),
                        if is_kv {
                            describe(&record.body)
                        } else {
                            abridged(&record.body, json::hex)
                        },
                    ]
                });
                columns.page(self.out, rows)
            }
        }
    }
}

/// A kv body for programs.
fn decode(body: &[u8]) -> Decoded {
    match KvBody::parse(body) {
        Ok(body) => Decoded::Kv {
            kind: kind_name(body.kind),
            life_ms: body.life_ms,
            unix_ms: body.stamp.millis(),
            counter: body.stamp.counter(),
            value: json::octets(body.value),
        },
        Err(error) => Decoded::Malformed(error.to_string()),
    }
}

/// A kv body for people: kind, remaining life, time of the write, value.
fn describe(body: &[u8]) -> String {
    let body = match KvBody::parse(body) {
        Ok(body) => body,
        Err(error) => return format!("malformed ({error}) {}", abridged(body, json::hex)),
    };
    let written = time(body.stamp.millis());
    let mut words = vec![
        kind_name(body.kind).to_owned(),
        format!("{written}+{}", body.stamp.counter()),
    ];
    if let Some(life_ms) = body.life_ms {
        words.push(format!(
            "life {}",
            render::span(Duration::from_millis(life_ms.into()))
        ));
    }
    if body.kind == KvKind::Value {
        words.push(abridged(body.value, printable));
    }
    words.join(" ")
}

/// Unix milliseconds as a date; the 48 bits of a peer's stamp reach beyond what RFC 3339 can say.
fn time(unix_ms: u64) -> String {
    const YEAR_10000_MS: u64 = 253_402_300_800_000;
    if unix_ms < YEAR_10000_MS {
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(unix_ms)).to_string()
    } else {
        format!("{unix_ms}ms")
    }
}

const fn kind_name(kind: KvKind) -> &'static str {
    match kind {
        KvKind::Value => "value",
        KvKind::Tombstone => "tombstone",
    }
}

/// The front of long octet strings, and how long they are.
fn abridged(bytes: &[u8], show: fn(&[u8]) -> String) -> String {
    match bytes.get(..SHOWN_LEN_MAX) {
        Some(front) if bytes.len() > SHOWN_LEN_MAX => {
            format!("{}… ({} octets)", show(front), bytes.len())
        }
        _ => show(bytes),
    }
}

#[cfg(test)]
mod tests {
    use scsp_profile::Stamp;

    use super::*;

    fn body(kind: KvKind, life_ms: Option<u32>, stamp: Stamp, value: &[u8]) -> Vec<u8> {
        let body = KvBody {
            kind,
            life_ms,
            stamp,
            value,
        };
        let mut out = vec![0; body.encoded_len()];
        body.encode(&mut out);
        out
    }

    /// Goal: a kv body reads as a sentence: kind, time of the write, life, value.
    #[test]
    fn kv_bodies_for_people() {
        let stamp = Stamp::new(1_700_000_000_123, 4);
        assert_eq!(
            describe(&body(KvKind::Value, Some(90_000), stamp, b"a\n")),
            "value 2023-11-14T22:13:20.123Z+4 life 1m30s a\\x0a"
        );
        assert_eq!(
            describe(&body(KvKind::Tombstone, None, stamp, b"")),
            "tombstone 2023-11-14T22:13:20.123Z+4"
        );
        assert_eq!(
            describe(&body(KvKind::Value, None, stamp, &[b'x'; 49])),
            format!(
                "value 2023-11-14T22:13:20.123Z+4 {}… (49 octets)",
                "x".repeat(48)
            )
        );
    }

    /// Goal: the largest stamp a peer can send, and bodies that are none, are shown and not fatal.
    #[test]
    fn kv_bodies_at_the_edge() {
        let last = body(KvKind::Value, None, Stamp(u64::MAX), b"v");
        assert_eq!(describe(&last), "value 281474976710655ms+65535 v");
        assert_eq!(
            describe(b"\x01"),
            "malformed (body shorter than its fixed part) 01"
        );
        assert!(matches!(decode(b""), Decoded::Malformed(_)));
    }
}
