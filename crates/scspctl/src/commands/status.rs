//! `status` and `groups`: the hub and its groups at a glance.

use std::io::Write;

use redis::cmd;

use super::Session;
use crate::error::{Error, Outcome};
use crate::json;
use crate::model::{self, Status};
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
}
