//! The table itself, sorted by name. Where a command is Redis' own, arity, flags, keys and version are
//! those Redis gives for it.

use crate::command::subcommands::{CLIENT_SUBCOMMANDS, COMMAND_SUBCOMMANDS, CONFIG_SUBCOMMANDS};
use crate::command::{Command, Flags, KeyRange, Subcommand};

/// Names a command; in the order of [`COMMANDS`].
#[expect(missing_docs, reason = "each variant is the command of its name")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CommandId {
    Auth,
    Client,
    Command,
    Config,
    Dbsize,
    Del,
    Echo,
    Exists,
    Expire,
    Get,
    Getdel,
    Hello,
    Info,
    Keys,
    Mget,
    Mset,
    Persist,
    Pexpire,
    Ping,
    Psetex,
    Pttl,
    Quit,
    Reset,
    Scan,
    ScspDigest,
    ScspGet,
    ScspGroups,
    ScspPeer,
    ScspPeers,
    ScspPublish,
    ScspPurge,
    ScspScan,
    ScspStatus,
    Select,
    Set,
    Setex,
    Setnx,
    Strlen,
    Time,
    Ttl,
    Type,
    Unlink,
}

const WRITE: Flags = Flags::WRITE;
const WRITE_FAST: Flags = Flags::WRITE.and(Flags::FAST);
const WRITE_OOM: Flags = Flags::WRITE.and(Flags::DENYOOM);
const WRITE_OOM_FAST: Flags = Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST);
const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = Flags::READONLY.and(Flags::FAST);
pub(super) const STATE: Flags = Flags::LOADING.and(Flags::STALE);
const STATE_FAST: Flags = Flags::LOADING.and(Flags::STALE).and(Flags::FAST);
pub(super) const SESSION: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
const SESSION_FIRST: Flags = Flags::NOSCRIPT
    .and(Flags::LOADING)
    .and(Flags::STALE)
    .and(Flags::FAST)
    .and(Flags::NO_AUTH);
const ADMIN: Flags = Flags::ADMIN.and(Flags::LOADING).and(Flags::STALE);
pub(super) const ADMIN_SESSION: Flags = Flags::ADMIN
    .and(Flags::NOSCRIPT)
    .and(Flags::LOADING)
    .and(Flags::STALE);

/// Every command that this server knows, sorted by name.
pub static COMMANDS: [Command; 42] = [
    command(CommandId::Auth, "auth", -2, SESSION_FIRST).about(
        "connection",
        &["connection"],
        "1.0.0",
        "Authenticates the connection.",
    ),
    command(CommandId::Client, "client", -2, SESSION)
        .with_subcommands(&CLIENT_SUBCOMMANDS)
        .about(
            "connection",
            &["connection"],
            "2.4.0",
            "A container for client connection commands.",
        ),
    command(CommandId::Command, "command", -1, STATE)
        .with_subcommands(&COMMAND_SUBCOMMANDS)
        .about(
            "server",
            &["connection"],
            "2.8.13",
            "Returns detailed information about all commands.",
        ),
    command(CommandId::Config, "config", -2, ADMIN_SESSION)
        .with_subcommands(&CONFIG_SUBCOMMANDS)
        .about(
            "server",
            &[],
            "2.0.0",
            "A container for server configuration commands.",
        ),
    command(CommandId::Dbsize, "dbsize", 1, READ_FAST).about(
        "server",
        &["keyspace"],
        "1.0.0",
        "Returns the number of keys in the group.",
    ),
    command(CommandId::Del, "del", -2, WRITE)
        .with_keys(KeyRange::ALL)
        .about(
            "generic",
            &["keyspace"],
            "1.0.0",
            "Deletes one or more keys.",
        ),
    command(CommandId::Echo, "echo", 2, STATE_FAST).about(
        "connection",
        &["connection"],
        "1.0.0",
        "Returns the given string.",
    ),
    command(CommandId::Exists, "exists", -2, READ_FAST)
        .with_keys(KeyRange::ALL)
        .about(
            "generic",
            &["keyspace"],
            "1.0.0",
            "Counts the given keys that exist.",
        ),
    command(CommandId::Expire, "expire", -3, WRITE_FAST)
        .with_keys(KeyRange::FIRST)
        .about(
            "generic",
            &["keyspace"],
            "1.0.0",
            "Sets the time to live of a key in seconds.",
        ),
    command(CommandId::Get, "get", 2, READ_FAST)
        .with_keys(KeyRange::FIRST)
        .about(
            "string",
            &["string"],
            "1.0.0",
            "Returns the value of a key.",
        ),
    command(CommandId::Getdel, "getdel", 2, WRITE_FAST)
        .with_keys(KeyRange::FIRST)
        .about(
            "string",
            &["string"],
            "6.2.0",
            "Returns the value of a key and deletes the key.",
        ),
    command(CommandId::Hello, "hello", -1, SESSION_FIRST).about(
        "connection",
        &["connection"],
        "6.0.0",
        "Handshakes with the server: protocol version, authentication, name.",
    ),
    command(CommandId::Info, "info", -1, STATE).about(
        "server",
        &["dangerous"],
        "1.0.0",
        "Returns information and statistics about the server.",
    ),
    command(CommandId::Keys, "keys", 2, READ).about(
        "generic",
        &["keyspace", "dangerous"],
        "1.0.0",
        "Returns all keys that match a pattern.",
    ),
    command(CommandId::Mget, "mget", -2, READ_FAST)
        .with_keys(KeyRange::ALL)
        .about(
            "string",
            &["string"],
            "1.0.0",
            "Returns the values of several keys.",
        ),
    command(CommandId::Mset, "mset", -3, WRITE_OOM)
        .with_keys(KeyRange::PAIRS)
        .about(
            "string",
            &["string"],
            "1.0.1",
            "Sets several keys to their values.",
        ),
    command(CommandId::Persist, "persist", 2, WRITE_FAST)
        .with_keys(KeyRange::FIRST)
        .about(
            "generic",
            &["keyspace"],
            "2.2.0",
            "Removes the time to live of a key.",
        ),
    command(CommandId::Pexpire, "pexpire", -3, WRITE_FAST)
        .with_keys(KeyRange::FIRST)
        .about(
            "generic",
            &["keyspace"],
            "2.6.0",
            "Sets the time to live of a key in milliseconds.",
        ),
    command(CommandId::Ping, "ping", -1, STATE_FAST).about(
        "connection",
        &["connection"],
        "1.0.0",
        "Answers PONG, or the given string.",
    ),
    command(CommandId::Psetex, "psetex", 4, WRITE_OOM)
        .with_keys(KeyRange::FIRST)
        .about(
            "string",
            &["string"],
            "2.6.0",
            "Sets a value and its time to live in milliseconds.",
        ),
    command(CommandId::Pttl, "pttl", 2, READ_FAST)
        .with_keys(KeyRange::FIRST)
        .about(
            "generic",
            &["keyspace"],
            "2.6.0",
            "Returns the time to live of a key in milliseconds.",
        ),
    command(CommandId::Quit, "quit", -1, SESSION_FIRST).about(
        "connection",
        &["connection"],
        "1.0.0",
        "Closes the connection.",
    ),
    command(CommandId::Reset, "reset", 1, SESSION_FIRST).about(
        "connection",
        &["connection"],
        "6.2.0",
        "Resets the connection to its first state.",
    ),
    command(CommandId::Scan, "scan", -2, READ).about(
        "generic",
        &["keyspace"],
        "2.8.0",
        "Iterates over the keys of the group.",
    ),
    command(CommandId::ScspDigest, "scsp.digest", -2, READ).about(
        "scsp",
        &["scsp"],
        "0.1.0",
        "Returns how many records a group holds, and their digest.",
    ),
    command(CommandId::ScspGet, "scsp.get", -3, READ)
        .with_keys(KeyRange::SECOND)
        .about(
            "scsp",
            &["scsp"],
            "0.1.0",
            "Returns all instances of a key, one for each originator.",
        ),
    command(CommandId::ScspGroups, "scsp.groups", 1, STATE).about(
        "scsp",
        &["scsp"],
        "0.1.0",
        "Returns the server groups and their state.",
    ),
    command(CommandId::ScspPeer, "scsp.peer", 4, ADMIN).about(
        "scsp",
        &["scsp"],
        "0.1.0",
        "Makes a neighbour start again from Waiting.",
    ),
    command(CommandId::ScspPeers, "scsp.peers", -1, STATE).about(
        "scsp",
        &["scsp"],
        "0.1.0",
        "Returns the neighbours and their state.",
    ),
    command(CommandId::ScspPublish, "scsp.publish", -4, WRITE_OOM)
        .with_keys(KeyRange::SECOND)
        .about(
            "scsp",
            &["scsp"],
            "0.1.0",
            "Originates or updates a record of this server.",
        ),
    command(CommandId::ScspPurge, "scsp.purge", 3, WRITE)
        .with_keys(KeyRange::SECOND)
        .about(
            "scsp",
            &["scsp"],
            "0.1.0",
            "Withdraws a record of this server.",
        ),
    command(CommandId::ScspScan, "scsp.scan", -3, READ).about(
        "scsp",
        &["scsp"],
        "0.1.0",
        "Iterates over the records of a group.",
    ),
    command(CommandId::ScspStatus, "scsp.status", 1, STATE).about(
        "scsp",
        &["scsp"],
        "0.1.0",
        "Returns the state of this server.",
    ),
    command(CommandId::Select, "select", 2, STATE_FAST).about(
        "connection",
        &["connection"],
        "1.0.0",
        "Selects the group that later commands work on.",
    ),
    command(CommandId::Set, "set", -3, WRITE_OOM)
        .with_keys(KeyRange::FIRST)
        .about(
            "string",
            &["string"],
            "1.0.0",
            "Sets the value of a key, with conditions and time to live.",
        ),
    command(CommandId::Setex, "setex", 4, WRITE_OOM)
        .with_keys(KeyRange::FIRST)
        .about(
            "string",
            &["string"],
            "2.0.0",
            "Sets a value and its time to live in seconds.",
        ),
    command(CommandId::Setnx, "setnx", 3, WRITE_OOM_FAST)
        .with_keys(KeyRange::FIRST)
        .about(
            "string",
            &["string"],
            "1.0.0",
            "Sets the value of a key that does not exist.",
        ),
    command(CommandId::Strlen, "strlen", 2, READ_FAST)
        .with_keys(KeyRange::FIRST)
        .about(
            "string",
            &["string"],
            "2.2.0",
            "Returns the length of a value.",
        ),
    command(CommandId::Time, "time", 1, STATE_FAST).about(
        "server",
        &[],
        "2.6.0",
        "Returns the server's time.",
    ),
    command(CommandId::Ttl, "ttl", 2, READ_FAST)
        .with_keys(KeyRange::FIRST)
        .about(
            "generic",
            &["keyspace"],
            "1.0.0",
            "Returns the time to live of a key in seconds.",
        ),
    command(CommandId::Type, "type", 2, READ_FAST)
        .with_keys(KeyRange::FIRST)
        .about(
            "generic",
            &["keyspace"],
            "1.0.0",
            "Returns the type of the value of a key.",
        ),
    command(CommandId::Unlink, "unlink", -2, WRITE_FAST)
        .with_keys(KeyRange::ALL)
        .about(
            "generic",
            &["keyspace"],
            "4.0.0",
            "Deletes one or more keys.",
        ),
];

/// A row without keys, subcommands and documentation.
const fn command(id: CommandId, name: &'static str, arity: i8, flags: Flags) -> Command {
    Command {
        id,
        name,
        arity,
        flags,
        keys: KeyRange::NONE,
        categories: &[],
        summary: "",
        group: "",
        since: "",
        subcommands: &[],
    }
}

impl Command {
    const fn with_keys(mut self, keys: KeyRange) -> Self {
        self.keys = keys;
        self
    }

    const fn with_subcommands(mut self, subcommands: &'static [Subcommand]) -> Self {
        self.subcommands = subcommands;
        self
    }

    const fn about(
        mut self,
        group: &'static str,
        categories: &'static [&'static str],
        since: &'static str,
        summary: &'static str,
    ) -> Self {
        self.group = group;
        self.categories = categories;
        self.since = since;
        self.summary = summary;
        self
    }
}
