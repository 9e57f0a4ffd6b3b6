//! One connection to the hub's client interface.

use std::time::Duration;

use redis::{Cmd, ConnectionAddr, ConnectionLike, IntoConnectionInfo, RedisConnectionInfo, Value};
use redis::{RedisError, RedisResult};

use crate::cli::Target;
use crate::error::Error;
use crate::model::Fields;

/// A connected client.
pub(crate) struct Client {
    connection: redis::Connection,
    target: Target,
}

impl Client {
    /// Connects; `timeout` bounds the connecting and the wait for each reply.
    pub(crate) fn connect(target: &Target, timeout: Duration) -> Result<Self, Error> {
        let open = || -> RedisResult<redis::Connection> {
            let address = match target {
                Target::Tcp(host, port) => ConnectionAddr::Tcp(host.clone(), *port),
                Target::Unix(path) => ConnectionAddr::Unix(path.clone()),
            };
            let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
            let info = address.into_connection_info()?.set_redis_settings(settings);
            let connection = redis::Client::open(info)?.get_connection_with_timeout(timeout)?;
            connection.set_read_timeout(Some(timeout))?;
            connection.set_write_timeout(Some(timeout))?;
            Ok(connection)
        };
        match open() {
            Ok(connection) => Ok(Self {
                connection,
                target: target.clone(),
            }),
            Err(error) => Err(unreachable(target, &error)),
        }
    }

    /// Sends one command and takes its reply; an error reply becomes [`Error::Refused`].
    pub(crate) fn call(&mut self, command: &Cmd) -> Result<Value, Error> {
        match self.connection.req_command(command) {
            Ok(Value::ServerError(error)) => Err(refused(error.code(), error.details())),
            Ok(value) => Ok(value),
            Err(error) => Err(match error.kind() {
                redis::ErrorKind::Io => unreachable(&self.target, &error),
                redis::ErrorKind::Parse => self.bad_reply(command, "a Redis protocol reply"),
                _ => match error.code() {
                    Some(code) => refused(code, error.detail()),
                    None => Error::Refused(error.to_string()),
                },
            }),
        }
    }

    /// Calls a command that answers an array of flat maps.
    pub(crate) fn maps(&mut self, command: &Cmd) -> Result<Vec<Fields>, Error> {
        let Value::Array(items) = self.call(command)? else {
            return Err(self.bad_reply(command, "an array of maps"));
        };
        items
            .into_iter()
            .map(|item| {
                Fields::new(item).ok_or_else(|| self.bad_reply(command, "an array of maps"))
            })
            .collect()
    }

    /// Calls a command that answers one flat map.
    pub(crate) fn map(&mut self, command: &Cmd) -> Result<Fields, Error> {
        let reply = self.call(command)?;
        Fields::new(reply).ok_or_else(|| self.bad_reply(command, "a map"))
    }

    /// The error for a reply of a shape that the interface does not give `command`.
    pub(crate) fn bad_reply(&self, command: &Cmd, expected: &'static str) -> Error {
        let name = match command.args_iter().next() {
            Some(redis::Arg::Simple(name)) => String::from_utf8_lossy(name).into_owned(),
            _ => String::new(),
        };
        Error::BadReply {
            target: self.target.to_string(),
            command: name,
            expected,
        }
    }
}

fn refused(code: &str, detail: Option<&str>) -> Error {
    Error::Refused(match detail {
        Some(detail) => format!("{code} {detail}"),
        None => code.to_owned(),
    })
}

fn unreachable(target: &Target, error: &RedisError) -> Error {
    let reason = if error.is_timeout() {
        "timed out".to_owned()
    } else {
        let text = error.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        let mut chars = text.chars();
        chars.next().map_or_else(String::new, |first| {
            first.to_lowercase().chain(chars).collect()
        })
    };
    Error::Unreachable {
        target: target.to_string(),
        reason,
    }
}
