//! `get`, `put`, `del` and `scan`: one kv group as a key-value store.

use std::io::Write;
use std::time::Duration;

use redis::{Cmd, Value, cmd};
use serde_json::json;

use super::Session;
use crate::cli::{KvGroup, Octets};
use crate::error::{Error, Outcome};
use crate::{json, model, render};

/// Keys asked for per SCAN.
const SCAN_COUNT: u32 = 1_000;

impl<W: Write> Session<'_, W> {
    /// The value, raw, and a newline.
    pub(super) fn get(&mut self, key: &[u8], group: &KvGroup) -> Result<Outcome, Error> {
        self.select(group)?;
        let command = command("GET", [key]);
        let reply = self.hub.call(&command)?;
        if reply == Value::Nil {
            return Err(Error::NoSuchKey(render::printable(key)));
        }
        let value = model::octets(reply).ok_or_else(|| self.hub.bad_reply(&command, "a string"))?;
        if self.json {
            let shown = json!({ "key": json::octets(key), "value": json::octets(&value) });
            json::print(self.out, &shown)?;
        } else {
            self.out.write_all(&value)?;
            writeln!(self.out)?;
        }
        Ok(Outcome::Done)
    }

    /// Sets a key, for good or for `ttl`.
    pub(super) fn put(
        &mut self,
        key: &[u8],
        value: &[u8],
        ttl: Option<Duration>,
        group: &KvGroup,
    ) -> Result<Outcome, Error> {
        self.select(group)?;
        let mut command = command("SET", [key, value]);
        if let Some(ttl) = ttl {
            command.arg("PX").arg(ttl.as_millis().to_string());
        }
        match self.hub.call(&command)? {
            Value::Okay => {}
            _ => return Err(self.hub.bad_reply(&command, "OK")),
        }
        if self.json {
            json::print(self.out, &json!({ "key": json::octets(key), "ok": true }))?;
        } else {
            writeln!(self.out, "OK")?;
        }
        Ok(Outcome::Done)
    }

    /// Deletes keys; says how many there were.
    pub(super) fn del(&mut self, keys: &[Octets], group: &KvGroup) -> Result<Outcome, Error> {
        self.select(group)?;
        let command = command("DEL", keys.iter().map(|key| key.0.as_slice()));
        let Value::Int(deleted) = self.hub.call(&command)? else {
            return Err(self.hub.bad_reply(&command, "a number"));
        };
        if self.json {
            json::print(self.out, &json!({ "deleted": deleted }))?;
        } else {
            writeln!(self.out, "deleted {deleted}")?;
        }
        Ok(if deleted > 0 {
            Outcome::Done
        } else {
            Outcome::Negative
        })
    }

    /// The keys, as they come.
    pub(super) fn scan(
        &mut self,
        pattern: Option<&Octets>,
        group: &KvGroup,
    ) -> Result<Outcome, Error> {
        self.select(group)?;
        let mut stream = json::Stream::default();
        let mut cursor = "0".to_owned();
        loop {
            let mut command = command("SCAN", [cursor.as_bytes()]);
            if let Some(pattern) = pattern {
                command.arg("MATCH").arg(pattern.0.as_slice());
            }
            command.arg("COUNT").arg(SCAN_COUNT);
            let (next, keys) = self.page(&command)?;
            for key in keys {
                let key = model::octets(key).ok_or_else(|| self.hub.bad_reply(&command, "keys"))?;
                if self.json {
                    stream.push(self.out, &json::octets(&key))?;
                } else {
                    writeln!(self.out, "{}", render::printable(&key))?;
                }
            }
            if next == "0" {
                break;
            }
            cursor = next;
        }
        if self.json {
            stream.finish(self.out)?;
        }
        Ok(Outcome::Done)
    }

    /// Calls a command that answers `[next cursor, array]`.
    pub(super) fn page(&mut self, command: &Cmd) -> Result<(String, Vec<Value>), Error> {
        if let Value::Array(parts) = self.hub.call(command)?
            && let Ok([cursor, Value::Array(items)]) = <[Value; 2]>::try_from(parts)
            && let Some(cursor) = model::text(&cursor)
        {
            return Ok((cursor, items));
        }
        Err(self.hub.bad_reply(command, "a cursor and an array"))
    }

    /// Turns the connection to the database of a kv group: the named one, or the first.
    fn select(&mut self, group: &KvGroup) -> Result<(), Error> {
        const PROTOCOL: &str = "kv";
        let groups = self.fetch_groups()?;
        let database = match &group.name {
            None => groups
                .iter()
                .position(|group| group.protocol.as_deref() == Some(PROTOCOL))
                .ok_or(Error::NoKvGroup)?,
            Some(name) => {
                let index = Self::position(&groups, name)?;
                let protocol = groups[index].protocol.as_deref().unwrap_or(render::NONE);
                if protocol != PROTOCOL {
                    let protocol = protocol.to_owned();
                    return Err(Error::NotKv {
                        name: name.clone(),
                        protocol,
                    });
                }
                index
            }
        };
        if database > 0 {
            self.hub.call(cmd("SELECT").arg(database))?;
        }
        Ok(())
    }
}

fn command<'a>(name: &str, octets: impl IntoIterator<Item = &'a [u8]>) -> Cmd {
    let mut command = cmd(name);
    for argument in octets {
        command.arg(argument);
    }
    command
}
