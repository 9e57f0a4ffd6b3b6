//! Logging: set-up, and the log lines of the control core's notices.

use std::io::IsTerminal;

use scsp_engine::message::Abnormal;
use scsp_engine::{AuthFailure, DcsIndex, Notice, Time, alignment, hello};
use tracing::{debug, error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat, PeerAddress};
use crate::hub::Hub;
use crate::throttle::Throttle;

/// Starts logging to standard error; `RUST_LOG` wins over the configured level.
pub fn start(config: &Log) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(&config.level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// What a neighbour, or who pretends to be it, can cause over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
    Abnormal(Abnormal),
    Unauthenticated(AuthFailure),
    NoSendKey { withheld: bool },
    UnexpectedId,
    UnexpectedFamily,
    DuplicateId,
}

impl Fault {
    /// The fault a notice speaks of, how often, and of whom.
    fn of(notice: &Notice) -> Option<(DcsIndex, Self, u64)> {
        Some(match *notice {
            Notice::Abnormal { dcs, cause, count } => (dcs, Self::Abnormal(cause), count),
            Notice::Unauthenticated {
                dcs,
                failure,
                count,
            } => (dcs, Self::Unauthenticated(failure), count),
            Notice::NoSendKey { dcs, withheld } => (dcs, Self::NoSendKey { withheld }, 1),
            Notice::UnexpectedId { dcs, .. } => (dcs, Self::UnexpectedId, 1),
            Notice::UnexpectedFamily { dcs, .. } => (dcs, Self::UnexpectedFamily, 1),
            Notice::DuplicateId { dcs } => (dcs, Self::DuplicateId, 1),
            Notice::Hello { .. }
            | Notice::Alignment { .. }
            | Notice::SuspectedDuplicateId { .. }
            | Notice::Released { .. } => return None,
        })
    }

    fn label(self) -> &'static str {
        match self {
            Self::Abnormal(cause) => cause.label(),
            Self::Unauthenticated(failure) => failure.label(),
            Self::NoSendKey { .. } => "no key valid for sending",
            Self::UnexpectedId => "unexpected id",
            Self::UnexpectedFamily => "unexpected family",
            Self::DuplicateId => "duplicate id",
        }
    }
}

/// The log lines of notices; those of faults at a limited rate.
#[derive(Debug, Default)]
pub struct Notices {
    faults: Throttle<(DcsIndex, Fault)>,
}

impl Notices {
    /// Says what a notice says, unless it was said of this neighbour a moment ago.
    pub fn notice(&mut self, now: Time, hub: &Hub, notice: &Notice) {
        let suppressed = match Fault::of(notice) {
            None => Some(0),
            Some((dcs, fault, count)) => self.faults.admit(now, (dcs, fault), count),
        };
        if let Some(suppressed) = suppressed {
            say(hub, notice, suppressed);
        }
    }

    /// Says what was held back; to be called every few seconds.
    pub fn flush(&mut self, now: Time, hub: &Hub) {
        for ((dcs, fault), suppressed) in self.faults.overdue(now) {
            let (group, peer) = names(hub, dcs);
            warn!(group, %peer, cause = fault.label(), suppressed, "repeated");
        }
    }
}

fn names(hub: &Hub, dcs: DcsIndex) -> (&str, &PeerAddress) {
    let peer = &hub.peers[dcs.index()];
    (&hub.groups[peer.group.index()].name, &peer.address)
}

/// One line for each notice: adjacency changes at `info`, machine edges at `debug`; after
/// `suppressed` ones of the same kind that were not worth a line.
fn say(hub: &Hub, notice: &Notice, suppressed: u64) {
    let group = |dcs: DcsIndex| {
        hub.groups[hub.peers[dcs.index()].group.index()]
            .name
            .as_str()
    };
    let peer = |dcs: DcsIndex| &hub.peers[dcs.index()].address;
    match *notice {
        Notice::Hello { dcs, from, to } => {
            let (group, peer) = (group(dcs), peer(dcs));
            let (from_state, state) = (from.label(), to.label());
            if from == hello::State::Bidirectional || to == hello::State::Bidirectional {
                info!(group, %peer, from = from_state, state, "hello");
            } else {
                debug!(group, %peer, from = from_state, state, "hello");
            }
        }
        Notice::Alignment {
            dcs,
            from,
            to,
            took,
        } => {
            let (group, peer) = (group(dcs), peer(dcs));
            match (to, took) {
                (alignment::State::Aligned, Some(took)) => {
                    info!(group, %peer, ?took, "aligned");
                }
                _ => debug!(group, %peer, from = from.label(), state = to.label(), "alignment"),
            }
        }
        Notice::DuplicateId { dcs } => {
            error!(
                group = group(dcs), peer = %peer(dcs), id = %hub.lsid(),
                "neighbour announces this server's own id; its Hellos are ignored"
            );
        }
        Notice::SuspectedDuplicateId { dcs } => {
            warn!(
                group = group(dcs), peer = %peer(dcs), id = %hub.lsid(),
                "own records keep coming back changed: another server may use this server's id"
            );
        }
        Notice::UnexpectedId { dcs, id } => {
            error!(
                group = group(dcs), peer = %peer(dcs), %id,
                "neighbour announces another id than configured; its Hellos are ignored"
            );
        }
        Notice::UnexpectedFamily { dcs, family } => {
            error!(
                group = group(dcs), peer = %peer(dcs), family = family.0,
                "neighbour announces another family than configured; its Hellos are ignored"
            );
        }
        Notice::Abnormal { dcs, cause, count } => {
            warn!(
                group = group(dcs), peer = %peer(dcs), cause = cause.label(), count, suppressed,
                "abnormal event"
            );
        }
        Notice::Unauthenticated {
            dcs,
            failure,
            count,
        } => {
            warn!(
                group = group(dcs), peer = %peer(dcs), reason = failure.label(), count, suppressed,
                "authentication failed"
            );
        }
        Notice::NoSendKey { dcs, withheld } => {
            let (group, peer) = names(hub, dcs);
            if withheld {
                error!(group, %peer, suppressed, "no key is valid for sending: nothing is sent");
            } else {
                warn!(group, %peer, suppressed, "no key is valid for sending: packets go unsigned");
            }
        }
        Notice::Released { instance } => {
            info!(
                group = hub.groups[instance.index()].name,
                "ready to originate"
            );
        }
    }
}
