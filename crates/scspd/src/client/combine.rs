//! One reply from the parts that several threads gave.

use std::fmt::Write as _;

use scsp_resp::error::NO_SUCH_CLIENT;
use scsp_resp::{Protocol, Writer};

use crate::hub::Hub;

/// Marks a part that is numbers, 8 octets each, rather than RESP.
const NUMBERS: u8 = b'#';

/// What becomes of the parts.
#[derive(Debug)]
pub(super) enum What {
    /// Integers are added up.
    Sum(u64),
    /// OK unless one failed.
    Done,
    /// Arrays are joined.
    Join { count: u64, elements: Vec<u8> },
    /// INFO: the text before its keyspace section, then live keys by instance.
    Info { text: String, keys: Vec<u64> },
    /// SCSP.GROUPS: who is held; entries and digest of each instance in turn.
    Groups { held: Vec<bool>, totals: Vec<u64> },
    /// SCSP.DIGEST: records and their digest.
    Digest([u64; 2]),
    /// Texts are joined.
    Text(Vec<u8>),
    /// CLIENT KILL of an address: OK if there was one.
    Killed(u64),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Combine {
    what: What,
    /// Parts still to come.
    pub(super) left: usize,
    silent: bool,
    protocol: Protocol,
    /// The first error among the parts: it is the reply.
    error: Option<Vec<u8>>,
}

impl Combine {
    pub(super) const fn new(what: What, silent: bool, protocol: Protocol) -> Self {
        Self {
            what,
            left: 0,
            silent,
            protocol,
            error: None,
        }
    }

    /// Takes in a part that was expected.
    pub(super) fn feed(&mut self, part: &[u8]) {
        self.left -= 1;
        self.add(part);
    }

    /// Takes in a part that was not counted.
    pub(super) fn add(&mut self, part: &[u8]) {
        if part.first() == Some(&b'-') {
            self.error.get_or_insert_with(|| part.to_vec());
            return;
        }
        match &mut self.what {
            What::Sum(sum) | What::Killed(sum) => *sum += number_of(part).0,
            What::Done => {}
            What::Join { count, elements } => {
                let (more, body) = number_of(part);
                *count += more;
                elements.extend_from_slice(body);
            }
            What::Info { keys: totals, .. } | What::Groups { totals, .. } => {
                add_up(totals, part);
            }
            What::Digest(totals) => add_up(totals, part),
            What::Text(text) => text.extend_from_slice(part),
        }
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.left == 0
    }

    /// Writes the reply.
    pub(super) fn finish(self, hub: &Hub, output: &mut Vec<u8>) {
        if self.silent {
            return;
        }
        if let Some(error) = self.error {
            return output.extend_from_slice(&error);
        }
        let mut writer = Writer::new(output, self.protocol);
        match self.what {
            What::Sum(sum) => writer.integer(integer(sum)),
            What::Done => writer.ok(),
            What::Join { count, elements } => {
                writer.array(usize::try_from(count).unwrap_or(usize::MAX));
                output.extend_from_slice(&elements);
            }
            What::Info { text, keys } => writer.verbatim(with_keyspace(text, &keys).as_bytes()),
            What::Groups { held, totals } => write_groups(&mut writer, hub, &held, &totals),
            What::Digest([entries, digest]) => {
                writer.array(2);
                writer.integer(integer(entries));
                write_digest(&mut writer, digest);
            }
            What::Text(text) => writer.verbatim(&text),
            What::Killed(0) => writer.error(NO_SUCH_CLIENT),
            What::Killed(_) => writer.ok(),
        }
    }
}

/// Appends a part of numbers.
pub(super) fn push_numbers(part: &mut Vec<u8>, numbers: impl IntoIterator<Item = u64>) {
    part.push(NUMBERS);
    for number in numbers {
        part.extend_from_slice(&number.to_le_bytes());
    }
}

fn numbers(part: &[u8]) -> impl Iterator<Item = u64> {
    let (words, _) = part
        .strip_prefix(&[NUMBERS])
        .unwrap_or_default()
        .as_chunks::<8>();
    words.iter().map(|word| u64::from_le_bytes(*word))
}

/// Adds a part of numbers to the totals, each to its own.
fn add_up(totals: &mut [u64], part: &[u8]) {
    for (total, number) in totals.iter_mut().zip(numbers(part)) {
        *total = total.wrapping_add(number);
    }
}

/// The number of a part that starts as `:n` or `*n`, and what follows its line.
fn number_of(part: &[u8]) -> (u64, &[u8]) {
    let end = part
        .iter()
        .position(|&octet| octet == b'\r')
        .unwrap_or(part.len());
    let number = part
        .get(1..end)
        .and_then(scsp_resp::number::parse_u64)
        .unwrap_or(0);
    (number, part.get(end + 2..).unwrap_or_default())
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn with_keyspace(mut text: String, keys: &[u64]) -> String {
    if !text.is_empty() {
        text.push_str("\r\n");
    }
    text.push_str("# Keyspace\r\n");
    for (database, keys) in keys.iter().enumerate().filter(|(_, keys)| **keys > 0) {
        write!(text, "db{database}:keys={keys},expires=0,avg_ttl=0\r\n").expect("a text grows");
    }
    text
}

fn write_groups(writer: &mut Writer<'_>, hub: &Hub, held: &[bool], totals: &[u64]) {
    let (pairs, _) = totals.as_chunks::<2>();
    writer.array(hub.groups.len());
    for ((group, held), [entries, digest]) in hub.groups.iter().zip(held).zip(pairs) {
        writer.map(6);
        writer.bulk(b"name");
        writer.bulk(group.name.as_bytes());
        writer.bulk(b"protocol");
        writer.bulk_display(group.protocol);
        writer.bulk(b"id");
        writer.integer(i64::from(group.id.0));
        writer.bulk(b"entries");
        writer.integer(integer(*entries));
        writer.bulk(b"digest");
        write_digest(writer, *digest);
        writer.bulk(b"loading");
        writer.integer(i64::from(*held));
    }
}

/// As text: not every client's integers have 64 bits without a sign.
fn write_digest(writer: &mut Writer<'_>, digest: u64) {
    writer.bulk_display(format_args!("{digest:016x}"));
}
