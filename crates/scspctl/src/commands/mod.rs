//! One file per group of commands.

mod kv;
mod peers;
mod records;
mod status;

use std::io::Write;

use redis::cmd;

use crate::cli::{Cli, Command};
use crate::client::Client;
use crate::error::{Error, Outcome};
use crate::model::Group;

/// Carries out the command line, with its answer going to `out`.
pub(crate) fn run(cli: &Cli, out: &mut impl Write) -> Result<Outcome, Error> {
    let mut session = Session {
        hub: Client::connect(&cli.connect, cli.timeout)?,
        json: cli.json,
        out,
    };
    match &cli.command {
        Command::Status => session.status(),
        Command::Groups => session.groups(),
        Command::Digest { group, all } => session.digest(group.as_deref(), *all),
        Command::Peers { group } => session.peers(group.as_deref()),
        Command::Peer { id, action, group } => session.peer(id, *action, group.as_deref()),
        Command::Get { key, group } => session.get(&key.0, group),
        Command::Put {
            key,
            value,
            ttl,
            group,
        } => session.put(&key.0, &value.0, *ttl, group),
        Command::Del { keys, group } => session.del(keys, group),
        Command::Scan { pattern, group } => session.scan(pattern.as_ref(), group),
        Command::Records {
            group,
            originator,
            key,
        } => session.records(group.as_deref(), originator.as_ref(), key.as_ref()),
    }
}

/// What every command works with; each file of this folder adds its own commands.
struct Session<'a, W> {
    hub: Client,
    json: bool,
    out: &'a mut W,
}

impl<W: Write> Session<'_, W> {
    /// The groups in the hub's order, which is also that of the database numbers.
    fn fetch_groups(&mut self) -> Result<Vec<Group>, Error> {
        let groups = self.hub.maps(&cmd("SCSP.GROUPS"))?;
        Ok(groups.into_iter().map(Group::from).collect())
    }

    /// The place of the group called `name`.
    fn position(groups: &[Group], name: &str) -> Result<usize, Error> {
        groups
            .iter()
            .position(|group| group.name.as_deref() == Some(name))
            .ok_or_else(|| {
                let known: Vec<_> = groups
                    .iter()
                    .filter_map(|group| group.name.as_deref())
                    .collect();
                Error::NoSuchGroup {
                    name: name.to_owned(),
                    known: known.join(", "),
                }
            })
    }
}
