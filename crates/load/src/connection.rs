//! One connection for single commands.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use redis::{Cmd, ConnectionAddr, ConnectionLike as _, IntoConnectionInfo as _, Value};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A connected client.
pub(crate) struct Connection(redis::Connection);

/// Fields of a flat map, as text.
pub(crate) type Fields = BTreeMap<String, String>;

impl Connection {
    /// Connects to a server of the Redis protocol.
    pub(crate) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let settings = redis::RedisConnectionInfo::default().set_skip_set_lib_name();
        let info = ConnectionAddr::Tcp(address.ip().to_string(), address.port())
            .into_connection_info()?
            .set_redis_settings(settings);
        let connection = redis::Client::open(info)?.get_connection_with_timeout(TIMEOUT)?;
        connection.set_read_timeout(Some(TIMEOUT))?;
        connection.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self(connection))
    }

    /// One command, its words in `words`; an error reply is an error.
    pub(crate) fn call(&mut self, words: &[&[u8]]) -> anyhow::Result<Value> {
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        Ok(self.0.req_command(&command)?.extract_error()?)
    }

    /// A command with plain words.
    pub(crate) fn ask(&mut self, words: &str) -> anyhow::Result<Value> {
        let words: Vec<_> = words.split(' ').map(str::as_bytes).collect();
        self.call(&words)
    }

    /// A command that answers an array of flat maps.
    pub(crate) fn maps(&mut self, words: &str) -> anyhow::Result<Vec<Fields>> {
        let Value::Array(items) = self.ask(words)? else {
            anyhow::bail!("{words}: not an array");
        };
        items
            .into_iter()
            .map(|item| fields(item).with_context(|| format!("{words}: not flat maps")))
            .collect()
    }

    /// The `name:value` lines that INFO answers for a section.
    pub(crate) fn info(&mut self, section: &str) -> anyhow::Result<Fields> {
        let text = text(&self.call(&[b"INFO", section.as_bytes()])?).context("INFO: not a text")?;
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Ok(lines
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect())
    }

    /// A command that answers an integer.
    pub(crate) fn integer(&mut self, words: &str) -> anyhow::Result<u64> {
        match self.ask(words)? {
            Value::Int(number) => Ok(u64::try_from(number)?),
            other => anyhow::bail!("{words}: {other:?} is no integer"),
        }
    }
}

fn fields(map: Value) -> Option<Fields> {
    match map {
        Value::Array(items) => items
            .chunks(2)
            .map(|pair| Some((text(pair.first()?)?, text(pair.get(1)?)?)))
            .collect(),
        Value::Map(pairs) => pairs
            .iter()
            .map(|(name, value)| Some((text(name)?, text(value)?)))
            .collect(),
        _ => None,
    }
}

/// Strings and numbers as text.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(octets) => Some(String::from_utf8_lossy(octets).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Nil => Some(String::new()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: flat maps are read in both protocol versions, and an odd number of items is refused.
    #[test]
    fn fields_of_both_protocols() {
        let name = || Value::BulkString(b"entries".to_vec());
        let flat = fields(Value::Array(vec![name(), Value::Int(3)])).unwrap();
        let map = fields(Value::Map(vec![(name(), Value::Int(3))])).unwrap();
        assert_eq!(flat["entries"], "3");
        assert_eq!(flat, map);
        assert!(fields(Value::Array(vec![name()])).is_none());
    }
}
