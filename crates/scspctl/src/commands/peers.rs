//! `peers` and `peer ID clear`: the neighbours.

use std::io::Write;

use redis::cmd;
use scsp_wire::ServerId;
use serde_json::{Number, json};

use super::Session;
use crate::cli::PeerAction;
use crate::error::{Error, Outcome};
use crate::json;
use crate::model::{self, Peer};
use crate::render::{self, Columns, cell};

const HEADS: &[&str] = &[
    "GROUP",
    "PEER",
    "ID",
    "HELLO",
    "ALIGNMENT",
    "SINCE",
    "LAST-HELLO",
    "ROLE",
    "QUEUE",
    "REQUESTS",
    "ABNORMAL",
    "EVENTS",
];
const NUMBERS: &[usize] = &[5, 6, 8, 9, 10];

impl<W: Write> Session<'_, W> {
    /// Every neighbour, or those of one group.
    pub(super) fn peers(&mut self, group: Option<&str>) -> Result<Outcome, Error> {
        let peers = self.fetch_peers(group)?;
        if self.json {
            json::print(self.out, &peers)?;
            return Ok(Outcome::Done);
        }
        Columns::new(HEADS, NUMBERS).page(self.out, peers.into_iter().map(row))?;
        Ok(Outcome::Done)
    }

    /// Acts on the neighbour `id` in `group`, or wherever it is one.
    pub(super) fn peer(
        &mut self,
        id: &ServerId,
        action: PeerAction,
        group: Option<&str>,
    ) -> Result<Outcome, Error> {
        let PeerAction::Clear = action;
        let groups = match group {
            Some(group) => vec![group.to_owned()],
            None => self.groups_of(id)?,
        };
        for group in &groups {
            self.hub
                .call(cmd("SCSP.PEER").arg(group).arg(id.to_string()).arg("CLEAR"))?;
        }
        if self.json {
            json::print(
                self.out,
                &json!({ "id": id.to_string(), "cleared": groups }),
            )?;
        } else {
            for group in &groups {
                writeln!(self.out, "cleared {id} in {group}")?;
            }
        }
        Ok(Outcome::Done)
    }

    fn fetch_peers(&mut self, group: Option<&str>) -> Result<Vec<Peer>, Error> {
        let peers = self.hub.maps(cmd("SCSP.PEERS").arg(group))?;
        Ok(peers.into_iter().map(Peer::from).collect())
    }

    /// The groups that have heard a neighbour `id`, at least one.
    fn groups_of(&mut self, id: &ServerId) -> Result<Vec<String>, Error> {
        let peers = self.fetch_peers(None)?;
        let same = |peer: &Peer| peer.id.as_ref().and_then(|text| text.parse().ok()) == Some(*id);
        let mut groups: Vec<_> = peers
            .into_iter()
            .filter(same)
            .filter_map(|peer| peer.group)
            .collect();
        groups.dedup();
        if groups.is_empty() {
            Err(Error::NoSuchPeer(id.to_string()))
        } else {
            Ok(groups)
        }
    }
}

fn row(peer: Peer) -> Vec<String> {
    let span =
        |seconds: Option<Number>| cell(seconds.as_ref().and_then(model::span).map(render::span));
    let events = peer.events();
    vec![
        cell(peer.group),
        cell(peer.peer),
        cell(peer.id),
        cell(peer.hello),
        cell(peer.alignment),
        span(peer.since),
        span(peer.last_hello),
        cell(peer.role),
        cell(peer.queue),
        cell(peer.requests),
        cell(peer.abnormal),
        cell(Some(events).filter(|events| !events.is_empty())),
    ]
}
