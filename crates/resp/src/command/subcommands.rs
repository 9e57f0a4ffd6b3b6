//! Subcommands of the containers, sorted by name.

use crate::command::table::{ADMIN_SESSION, SESSION, STATE};
use crate::command::{Flags, Subcommand};

pub(super) static CLIENT_SUBCOMMANDS: [Subcommand; 11] = [
    subcommand(
        "getname",
        2,
        SESSION,
        "2.6.9",
        "Returns the name of the connection.",
    ),
    subcommand("help", 2, SESSION, "5.0.0", "Returns this text."),
    subcommand(
        "id",
        2,
        SESSION,
        "5.0.0",
        "Returns the id of the connection.",
    ),
    subcommand(
        "info",
        2,
        SESSION,
        "6.2.0",
        "Returns information about the connection.",
    ),
    subcommand("kill", -3, ADMIN_SESSION, "2.4.0", "Closes connections."),
    subcommand("list", -2, ADMIN_SESSION, "2.4.0", "Lists the connections."),
    subcommand(
        "no-evict",
        3,
        ADMIN_SESSION,
        "7.0.0",
        "Exempts the connection from eviction.",
    ),
    subcommand(
        "no-touch",
        3,
        SESSION,
        "7.2.0",
        "Keeps the connection's commands from marking keys as used.",
    ),
    subcommand(
        "reply",
        3,
        SESSION,
        "3.2.0",
        "Tells the server whether to reply to commands.",
    ),
    subcommand(
        "setinfo",
        4,
        SESSION,
        "7.2.0",
        "Sets information that belongs to the client's library.",
    ),
    subcommand(
        "setname",
        3,
        SESSION,
        "2.6.9",
        "Sets the name of the connection.",
    ),
];

pub(super) static COMMAND_SUBCOMMANDS: [Subcommand; 6] = [
    subcommand(
        "count",
        2,
        STATE,
        "2.8.13",
        "Returns the number of commands.",
    ),
    subcommand(
        "docs",
        -2,
        STATE,
        "7.0.0",
        "Returns the documentation of commands.",
    ),
    subcommand(
        "getkeys",
        -3,
        STATE,
        "2.8.13",
        "Returns the keys of a command.",
    ),
    subcommand("help", 2, STATE, "5.0.0", "Returns this text."),
    subcommand("info", -2, STATE, "2.8.13", "Returns details of commands."),
    subcommand(
        "list",
        -2,
        STATE,
        "7.0.0",
        "Returns the names of the commands.",
    ),
];

pub(super) static CONFIG_SUBCOMMANDS: [Subcommand; 2] = [
    subcommand(
        "get",
        -3,
        ADMIN_SESSION,
        "2.0.0",
        "Returns the values of configuration parameters.",
    ),
    subcommand("help", 2, ADMIN_SESSION, "5.0.0", "Returns this text."),
];

const fn subcommand(
    name: &'static str,
    arity: i8,
    flags: Flags,
    since: &'static str,
    summary: &'static str,
) -> Subcommand {
    Subcommand {
        name,
        arity,
        flags,
        summary,
        since,
    }
}
