//! Logging: set-up, and the log lines of the control core's notices.

use std::io::IsTerminal;

use scsp_engine::{DcsIndex, Notice, alignment, hello};
use tracing::{debug, error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};
use crate::hub::Hub;

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

/// One line for each notice: adjacency changes at `info`, machine edges at `debug`.
pub fn notice(hub: &Hub, notice: &Notice) {
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
        Notice::Abnormal { dcs, cause } => {
            warn!(group = group(dcs), peer = %peer(dcs), cause = cause.label(), "abnormal event");
        }
        Notice::Released { instance } => {
            info!(
                group = hub.groups[instance.index()].name,
                "ready to originate"
            );
        }
    }
}
