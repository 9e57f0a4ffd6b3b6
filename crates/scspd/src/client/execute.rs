//! Operations carried out on the shard that owns their key.

use std::time::Duration;

use scsp_engine::shard::{Condition, KvValue, Life, Refusal};
use scsp_engine::{InstanceIndex, Now, Shard, Time};
use scsp_resp::error::OOM;
use scsp_resp::options::{ExpireCondition, Expiry, SetCondition};
use scsp_resp::{Protocol, Writer, glob};
use scsp_wire::{CsaSeq, fmt_id};

use crate::hub::Hub;

use super::batch::{Kind, Op, SetReply, SetRule};
use super::combine::push_numbers;

/// Entries that a walk looks at between two looks at the length of its reply.
const STRIDE: usize = 64;
/// Entries that one SCAN looks at, whatever COUNT says.
const SCAN_COUNT_MAX: usize = 16 * 1024;
/// Octets of a SCAN reply after which it looks at no further entries.
const SCAN_REPLY_LEN_MAX: usize = 1024 * 1024;

/// Where an operation is carried out.
pub(super) struct Place<'a> {
    pub(super) hub: &'a Hub,
    pub(super) shard: &'a mut Shard,
    /// The shard's number.
    pub(super) number: u16,
    pub(super) now: Now,
    pub(super) at: InstanceIndex,
    pub(super) protocol: Protocol,
}

/// The error reply to a refused operation.
pub(super) fn refuse(writer: &mut Writer<'_>, refusal: Refusal) {
    match refusal {
        Refusal::Loading => writer.error(format_args!("LOADING {refusal}")),
        Refusal::Full => writer.error(OOM),
        Refusal::Key { .. }
        | Refusal::TooLarge { .. }
        | Refusal::Sequence { .. }
        | Refusal::Body(_)
        | Refusal::Life { .. } => writer.error(format_args!("ERR {refusal}")),
    }
}

impl Place<'_> {
    /// Carries out `op` and appends its reply, or its part of one.
    pub(super) fn execute(&mut self, op: Op<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        if let Err(refusal) = self.attempt(op, out) {
            out.truncate(start);
            refuse(&mut Writer::new(out, self.protocol), refusal);
        }
    }

    fn attempt(&mut self, op: Op<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let (now, at, key) = (self.now, self.at, op.key);
        let mut writer = Writer::new(out, self.protocol);
        match op.kind {
            Kind::Get => match self.shard.kv_get(now, at, key)? {
                Some(found) => writer.bulk(found.value),
                None => writer.null(),
            },
            Kind::Strlen => {
                let found = self.shard.kv_get(now, at, key)?;
                writer.count(found.map_or(0, |found| found.value.len()));
            }
            Kind::Type => {
                let found = self.shard.kv_get(now, at, key)?.is_some();
                writer.simple(if found { "string" } else { "none" });
            }
            Kind::Ttl { in_ms } => {
                let found = self.shard.kv_get(now, at, key)?;
                writer.integer(ttl(found, now.time, in_ms));
            }
            Kind::Getdel => match self.shard.kv_get(now, at, key)? {
                Some(found) => {
                    writer.bulk(found.value);
                    self.shard.kv_del(now, at, key)?;
                }
                None => writer.null(),
            },
            Kind::Persist => {
                let found = self.shard.kv_get(now, at, key)?;
                let expires = found.is_some_and(|found| found.expires.is_some());
                let done = expires && self.shard.kv_expire(now, at, key, None)?;
                writer.integer(done.into());
            }
            Kind::Del => writer.integer(self.shard.kv_del(now, at, key)?.into()),
            Kind::Exists => {
                writer.integer(self.shard.kv_get(now, at, key)?.is_some().into());
            }
            Kind::Set(rule) => self.set(rule, op, &mut writer)?,
            Kind::Expire {
                after_ms,
                condition,
            } => {
                let done = self.expire(key, after_ms, condition)?;
                writer.integer(done.into());
            }
            Kind::Len => {
                let len = self.shard.kv_len(at)?;
                writer.integer(i64::try_from(len).unwrap_or(i64::MAX));
            }
            Kind::Keys => self.keys(op.value, out)?,
            Kind::Scan {
                position,
                count,
                has_pattern,
            } => {
                self.scan(position, count, has_pattern.then_some(op.value), out)?;
            }
            Kind::Publish { seq } => {
                let seq = self.shard.publish(now, at, key, op.value, seq)?;
                writer.integer(seq.get().into());
            }
            Kind::Purge => writer.integer(self.shard.purge(now, at, key)?.into()),
            Kind::Records { all, of_one } => {
                self.records(key, all, of_one.then_some(op.value), out)?;
            }
            Kind::ScanRecords {
                position,
                count,
                all,
            } => {
                self.scan_records(position, count, all, out)?;
            }
            Kind::Census => {
                let shard = &self.shard;
                push_numbers(
                    out,
                    self.instances().map(|at| shard.kv_len(at).unwrap_or(0)),
                );
            }
            Kind::Digests => {
                let totals = self.instances().flat_map(|at| self.digest(at, false));
                push_numbers(out, totals);
            }
            Kind::Digest { all } => push_numbers(out, self.digest(at, all)),
            Kind::Clients { .. }
            | Kind::Kill(_)
            | Kind::Peers { .. }
            | Kind::Status
            | Kind::Clear => unreachable!("carried out elsewhere"),
        }
        Ok(())
    }

    fn set(&mut self, rule: SetRule, op: Op<'_>, writer: &mut Writer<'_>) -> Result<(), Refusal> {
        let (now, at, key) = (self.now, self.at, op.key);
        if rule.reply == SetReply::Old {
            match self.shard.kv_get(now, at, key)? {
                Some(old) => writer.bulk(old.value),
                None => writer.null(),
            }
        }
        let condition = match rule.condition {
            SetCondition::Always => Condition::Always,
            SetCondition::IfAbsent => Condition::Absent,
            SetCondition::IfPresent => Condition::Present,
        };
        let life = match rule.expiry {
            Expiry::Never => Life::Forever,
            Expiry::Keep => Life::Keep,
            Expiry::AfterMs(ms) => Life::For(Duration::from_millis(ms)),
            Expiry::AtUnixMs(at_ms) => {
                Life::For(Duration::from_millis(at_ms.saturating_sub(now.unix_ms)))
            }
        };
        let done = if life == Life::For(Duration::ZERO) {
            self.set_expired(op, condition)?
        } else {
            self.shard.kv_set(now, at, key, op.value, life, condition)?
        };
        match (rule.reply, done) {
            (SetReply::Old, _) => {}
            (SetReply::Ok, true) => writer.ok(),
            (SetReply::Ok, false) => writer.null(),
            (SetReply::Flag, done) => writer.integer(done.into()),
        }
        Ok(())
    }

    /// A value that would expire at once: the key goes.
    fn set_expired(&mut self, op: Op<'_>, condition: Condition) -> Result<bool, Refusal> {
        let exists = self.shard.kv_get(self.now, self.at, op.key)?.is_some();
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => !exists,
            Condition::Present => exists,
        };
        if holds && exists {
            self.shard.kv_del(self.now, self.at, op.key)?;
        }
        Ok(holds)
    }

    fn expire(
        &mut self,
        key: &[u8],
        after_ms: i64,
        condition: ExpireCondition,
    ) -> Result<bool, Refusal> {
        let (now, at) = (self.now, self.at);
        let Some(found) = self.shard.kv_get(now, at, key)? else {
            return Ok(false);
        };
        let current_ms = found.expires.map(|expires| remaining_ms(expires, now.time));
        if !condition.allows(current_ms, after_ms) {
            return Ok(false);
        }
        match u64::try_from(after_ms) {
            Ok(0) | Err(_) => self.shard.kv_del(now, at, key),
            Ok(ms) => self
                .shard
                .kv_expire(now, at, key, Some(Duration::from_millis(ms))),
        }
    }

    /// All keys that match, as an array.
    fn keys(&self, pattern: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let (mut count, mut elements) = (0, Vec::new());
        let mut position = Some(0);
        while let Some(from) = position {
            let mut writer = Writer::new(&mut elements, self.protocol);
            position = self.shard.kv_scan(self.now, self.at, from, STRIDE, |key| {
                if glob::matches(pattern, key) {
                    count += 1;
                    writer.bulk(key);
                }
            })?;
        }
        Writer::new(out, self.protocol).array(count);
        out.extend_from_slice(&elements);
        Ok(())
    }

    fn scan(
        &self,
        position: u32,
        count: usize,
        pattern: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        self.walk(position, count, out, |from, stride, found, elements| {
            let mut writer = Writer::new(elements, self.protocol);
            self.shard.kv_scan(self.now, self.at, from, stride, |key| {
                if pattern.is_none_or(|pattern| glob::matches(pattern, key)) {
                    *found += 1;
                    writer.bulk(key);
                }
            })
        })
    }

    fn scan_records(
        &self,
        position: u32,
        count: usize,
        all: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        self.walk(position, count, out, |from, stride, found, elements| {
            let mut writer = Writer::new(elements, self.protocol);
            self.shard
                .scan(self.now, self.at, from, stride, all, |record| {
                    *found += 1;
                    writer.array(5);
                    writer.bulk(record.key);
                    write_record(
                        &mut writer,
                        record.originator,
                        record.seq,
                        record.age,
                        record.body,
                    );
                })
        })
    }

    /// Steps along the shard until `count` entries are passed or the reply is long; the reply is
    /// the cursor to go on with and the array of what was found.
    fn walk(
        &self,
        position: u32,
        count: usize,
        out: &mut Vec<u8>,
        mut step: impl FnMut(u32, usize, &mut usize, &mut Vec<u8>) -> Result<Option<u32>, Refusal>,
    ) -> Result<(), Refusal> {
        let (mut found, mut elements) = (0, Vec::new());
        let mut left = count.min(SCAN_COUNT_MAX);
        let mut next = Some(position);
        while let Some(from) = next
            && left > 0
            && elements.len() < SCAN_REPLY_LEN_MAX
        {
            let stride = left.min(STRIDE);
            left -= stride;
            next = step(from, stride, &mut found, &mut elements)?;
        }
        let cursor = match next {
            Some(position) => u64::from(self.number) << 32 | u64::from(position),
            None if self.number + 1 < self.hub.setup.shards => u64::from(self.number + 1) << 32,
            None => 0,
        };
        let mut writer = Writer::new(out, self.protocol);
        writer.array(2);
        writer.bulk_display(cursor);
        writer.array(found);
        out.extend_from_slice(&elements);
        Ok(())
    }

    fn records(
        &self,
        key: &[u8],
        all: bool,
        originator: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let (mut count, mut elements) = (0, Vec::new());
        let mut writer = Writer::new(&mut elements, self.protocol);
        self.shard.records(self.now, self.at, key, all, |record| {
            if originator.is_none_or(|wanted| wanted == record.originator) {
                count += 1;
                writer.array(4);
                write_record(
                    &mut writer,
                    record.originator,
                    record.seq,
                    record.age,
                    record.body,
                );
            }
        })?;
        Writer::new(out, self.protocol).array(count);
        out.extend_from_slice(&elements);
        Ok(())
    }

    /// The shard's number of records of an instance, and their digest.
    fn digest(&self, at: InstanceIndex, all: bool) -> [u64; 2] {
        let (entries, digest) = self.shard.digest(self.now, at, all);
        [entries as u64, digest]
    }

    fn instances(&self) -> impl Iterator<Item = InstanceIndex> + use<> {
        (0..self.hub.groups.len())
            .map_while(|at| u16::try_from(at).ok())
            .map(InstanceIndex)
    }
}

fn write_record(
    writer: &mut Writer<'_>,
    originator: &[u8],
    seq: CsaSeq,
    age: Duration,
    body: &[u8],
) {
    writer.bulk_display(fmt_id(originator));
    writer.integer(seq.get().into());
    writer.integer(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    writer.bulk(body);
}

/// Milliseconds left, rounded up: a value that is still there has at least one.
fn remaining_ms(expires: Time, now: Time) -> i64 {
    let ms = expires.since(now).as_nanos().div_ceil(1_000_000);
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// Answer of TTL and PTTL: -2 without a value, -1 without an end; seconds to the nearest.
fn ttl(found: Option<KvValue<'_>>, now: Time, in_ms: bool) -> i64 {
    match found.map(|found| found.expires) {
        None => -2,
        Some(None) => -1,
        Some(Some(expires)) => {
            let ms = remaining_ms(expires, now);
            if in_ms { ms } else { (ms + 500) / 1000 }
        }
    }
}
