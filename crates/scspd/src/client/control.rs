//! What the control thread answers: neighbours, health, resets.

use scsp_engine::message::Abnormal;
use scsp_engine::{Control, DcsIndex, InstanceIndex, Now, Time};
use scsp_resp::Writer;
use scsp_wire::ServerId;

use crate::hub::{Hub, PeerInfo};

use super::batch::{Kind, Op};
use super::{Answer, Work};

/// What the control thread does besides answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Resets a neighbour (`Control::handle_clear`).
    Clear(DcsIndex),
}

/// Answers a client's request on the control thread.
pub fn execute_on_control(
    hub: &Hub,
    control: &Control,
    now: Now,
    work: Work,
) -> (Answer, Option<Effect>) {
    let Work(mut batch) = work;
    let (at, protocol) = (batch.at, batch.protocol);
    let mut effect = None;
    batch.run(|op, out| {
        let writer = &mut Writer::new(out, protocol);
        match op.kind {
            Kind::Peers { group } => write_peers(writer, hub, control, now.time, group),
            Kind::Status => write_status(writer, hub, control, now),
            Kind::Clear => match find_peer(hub, control, at, op) {
                Ok(dcs) => {
                    effect = Some(Effect::Clear(dcs));
                    writer.ok();
                }
                Err(error) => writer.error(error),
            },
            _ => unreachable!("not sent to the control thread"),
        }
    });
    (Answer(batch), effect)
}

/// Healthy: every configured neighbour is Aligned and no instance is held. Else why not, in one
/// line.
///
/// # Errors
/// The first reason found.
pub fn health(hub: &Hub, control: &Control) -> Result<(), String> {
    for (dcs, peer) in hub.peers() {
        let state = state_of(control, dcs);
        if state != scsp_engine::alignment::State::Aligned.label() {
            let group = &hub.groups[peer.group.index()].name;
            return Err(format!("group {group}: peer {} is {state}", peer.address));
        }
    }
    for (index, group) in (0..).map(InstanceIndex).zip(&hub.groups) {
        if control.is_held(index) {
            return Err(format!("group {} waits for its neighbours", group.name));
        }
    }
    Ok(())
}

/// State of a neighbour in one word: that of the hello machine until it is Bidirectional.
fn state_of(control: &Control, dcs: DcsIndex) -> &'static str {
    let status = control.peer(dcs);
    if status.hello == scsp_engine::hello::State::Bidirectional {
        status.alignment.label()
    } else {
        status.hello.label()
    }
}

fn write_status(writer: &mut Writer<'_>, hub: &Hub, control: &Control, now: Now) {
    let health = health(hub, control);
    let uptime_ms = now.unix_ms.saturating_sub(hub.started_unix_ms);
    writer.map(6);
    writer.bulk(b"version");
    writer.bulk(env!("CARGO_PKG_VERSION").as_bytes());
    writer.bulk(b"id");
    writer.bulk_display(hub.lsid());
    writer.bulk(b"backend");
    writer.bulk_display(hub.backend);
    writer.bulk(b"uptime");
    writer.integer(i64::try_from(uptime_ms / 1000).unwrap_or(i64::MAX));
    writer.bulk(b"healthy");
    writer.integer(health.is_ok().into());
    writer.bulk(b"reason");
    writer.bulk(health.err().unwrap_or_default().as_bytes());
}

fn write_peers(
    writer: &mut Writer<'_>,
    hub: &Hub,
    control: &Control,
    now: Time,
    group: Option<InstanceIndex>,
) {
    let wanted = || {
        hub.peers()
            .filter(|(_, peer)| group.is_none_or(|group| peer.group == group))
    };
    writer.array(wanted().count());
    for (dcs, peer) in wanted() {
        write_peer(writer, hub, control, now, dcs, peer);
    }
}

fn write_peer(
    writer: &mut Writer<'_>,
    hub: &Hub,
    control: &Control,
    now: Time,
    dcs: DcsIndex,
    peer: &PeerInfo,
) {
    let status = control.peer(dcs);
    let elapsed = |since: Time| i64::try_from(now.since(since).as_secs()).unwrap_or(i64::MAX);
    let sum = |number: fn(&crate::stats::DcsStats) -> u64| {
        let shards = hub
            .stats
            .iter()
            .filter_map(|worker| worker.dcs.get(dcs.index()));
        i64::try_from(shards.map(number).sum::<u64>()).unwrap_or(i64::MAX)
    };
    writer.map(11 + Abnormal::ALL.len());
    writer.bulk(b"group");
    writer.bulk(hub.groups[peer.group.index()].name.as_bytes());
    writer.bulk(b"peer");
    writer.bulk_display(&peer.address);
    writer.bulk(b"id");
    match status.id {
        Some(id) => writer.bulk_display(id),
        None => writer.null(),
    }
    writer.bulk(b"hello");
    writer.bulk(status.hello.label().as_bytes());
    writer.bulk(b"alignment");
    writer.bulk(status.alignment.label().as_bytes());
    writer.bulk(b"since");
    writer.integer(elapsed(status.since));
    writer.bulk(b"last_hello");
    match status.last_hello {
        Some(at) => writer.integer(elapsed(at)),
        None => writer.null(),
    }
    writer.bulk(b"role");
    match status.role {
        Some(role) => writer.bulk(role.label().as_bytes()),
        None => writer.null(),
    }
    writer.bulk(b"queue");
    writer.integer(sum(|stats| stats.queue.get()));
    writer.bulk(b"requests");
    writer.integer(sum(|stats| stats.requests.get()));
    writer.bulk(b"abnormal");
    let integer = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    writer.integer(integer(status.abnormal.iter().sum()));
    for (cause, count) in Abnormal::ALL.into_iter().zip(status.abnormal) {
        writer.bulk_display(format_args!("abnormal_{}", cause.label()));
        writer.integer(integer(count));
    }
}

/// The neighbour that the octets name: by its id once it is heard, or by its configured address.
fn find_peer(
    hub: &Hub,
    control: &Control,
    at: InstanceIndex,
    op: Op<'_>,
) -> Result<DcsIndex, String> {
    let text = String::from_utf8_lossy(op.value);
    let id = text.parse::<ServerId>().ok();
    let mut known = Vec::new();
    for (dcs, peer) in hub.peers().filter(|(_, peer)| peer.group == at) {
        let heard = control.peer(dcs).id;
        if (heard.is_some() && heard == id) || peer.address.is_written(&text) {
            return Ok(dcs);
        }
        known.push(match heard {
            Some(heard) => format!("{} ({heard})", peer.address),
            None => peer.address.to_string(),
        });
    }
    let group = &hub.groups[at.index()].name;
    let known = if known.is_empty() {
        "none".to_owned()
    } else {
        known.join(", ")
    };
    Err(format!(
        "ERR no peer '{text}' in group {group}, known peers: {known}"
    ))
}
