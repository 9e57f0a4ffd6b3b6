//! `status`, `groups` and `digest`: the hub and its groups at a glance.

use std::io::Write;

use redis::{Value, cmd};

use super::Session;
use crate::error::{Error, Outcome};
use crate::json;
use crate::model::{self, Holding, Status};
use crate::render::{self, Columns, cell};

impl<W: Write> Session<'_, W> {
    /// One line: healthy or not, why, and which hub this is.
    pub(super) fn status(&mut self) -> Result<Outcome, Error> {
        let status = Status::from(self.hub.map(&cmd("SCSP.STATUS"))?);
        if self.json {
            json::print(self.out, &status)?;
        } else {
            let verdict = match (&status.reason, status.healthy) {
                (_, true) => "healthy".to_owned(),
                (Some(reason), false) => format!("degraded: {reason}"),
                (None, false) => "degraded".to_owned(),
            };
            writeln!(
                self.out,
                "{verdict} (id {}, scspd {}, backend {}, up {})",
                cell(status.id),
                cell(status.version),
                cell(status.backend),
                cell(
                    status
                        .uptime
                        .as_ref()
                        .and_then(model::span)
                        .map(render::span)
                ),
            )?;
        }
        Ok(if status.healthy {
            Outcome::Done
        } else {
            Outcome::Negative
        })
    }

    /// All groups, in the order of their database numbers.
    pub(super) fn groups(&mut self) -> Result<Outcome, Error> {
        let groups = self.fetch_groups()?;
        if self.json {
            json::print(self.out, &groups)?;
            return Ok(Outcome::Done);
        }
        let rows = groups.into_iter().map(|group| {
            vec![
                cell(group.name),
                cell(group.protocol),
                cell(group.id),
                cell(group.entries),
                cell(group.digest),
                cell(
                    group
                        .loading
                        .map(|loading| if loading { "yes" } else { "no" }),
                ),
            ]
        });
        let heads = &["NAME", "PROTOCOL", "ID", "ENTRIES", "DIGEST", "LOADING"];
        Columns::new(heads, &[2, 3]).page(self.out, rows)?;
        Ok(Outcome::Done)
    }

    /// What each group holds, in one number that hubs can compare.
    pub(super) fn digest(&mut self, group: Option<&str>, all: bool) -> Result<Outcome, Error> {
        let names = match group {
            Some(name) => vec![name.to_owned()],
            None => {
                let groups = self.fetch_groups()?.into_iter();
                groups.filter_map(|group| group.name).collect()
            }
        };
        let mut digests = Vec::new();
        for name in names {
            let mut command = cmd("SCSP.DIGEST");
            command.arg(&name);
            if all {
                command.arg("ALL");
            }
            let digest = match self.hub.call(&command)? {
                Value::Array(parts) => Holding::new(name, &parts),
                _ => None,
            };
            digests
                .push(digest.ok_or_else(|| self.hub.bad_reply(&command, "a number and a digest"))?);
        }
        if self.json {
            json::print(self.out, &digests)?;
            return Ok(Outcome::Done);
        }
        let rows = digests
            .into_iter()
            .map(|it| vec![it.group, it.entries.to_string(), it.digest]);
        Columns::new(&["GROUP", "ENTRIES", "DIGEST"], &[1]).page(self.out, rows)?;
        Ok(Outcome::Done)
    }
}
