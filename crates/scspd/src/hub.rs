//! What every thread of a hub knows: configuration as the cores see it, names, statistics.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use scsp_engine::{DcsIndex, Destination, InstanceIndex, Setup};
use scsp_net::{Backend, Endpoint};
use scsp_wire::{ProtocolId, ServerGroupId, ServerId};

use crate::board::Board;
use crate::config::{Config, PeerAddress};
use crate::reach::{FarEnd, Reach, endpoint};
use crate::stats::{InboundStats, SnapshotStats, WorkerStats};

/// One instance, by name.
#[derive(Debug)]
pub struct GroupInfo {
    /// Its name in the configuration.
    pub name: String,
    /// Protocol id.
    pub protocol: ProtocolId,
    /// SGID.
    pub id: ServerGroupId,
}

/// One neighbour's address.
#[derive(Debug)]
pub struct PeerInfo {
    /// The instance it belongs to.
    pub group: InstanceIndex,
    /// Configured address, its name wherever it is shown.
    pub address: PeerAddress,
    /// Position of its link in the configuration.
    pub link: usize,
}

/// A hub's constant part, shared by its threads.
#[derive(Debug)]
pub struct Hub {
    /// What the cores were told.
    pub setup: Arc<Setup>,
    /// Instances in the order of their database numbers.
    pub groups: Vec<GroupInfo>,
    /// Neighbours by [`DcsIndex`].
    pub peers: Vec<PeerInfo>,
    /// Links as the cores know them, by `LinkIndex`.
    pub reaches: Vec<Reach>,
    /// I/O backend in use.
    pub backend: Backend,
    /// Why `auto` did not take the first choice.
    pub backend_reason: Option<String>,
    /// States of the neighbours, for lookers-on.
    pub board: Board,
    /// Statistics of every worker.
    pub stats: Vec<WorkerStats>,
    /// What came to the control thread's own sockets.
    pub inbound: InboundStats,
    /// Whether it was logged that a link has no segmentation offload, by position in the
    /// configuration.
    pub segments_refused: Vec<AtomicBool>,
    /// What came of the snapshots.
    pub snapshots: SnapshotStats,
    /// Client connections allowed, over all workers.
    pub connections_max: usize,
    /// The validated configuration.
    pub config: Config,
    /// Unix time of the start, milliseconds.
    pub started_unix_ms: u64,
}

impl Hub {
    /// This server's id.
    pub fn lsid(&self) -> &ServerId {
        &self.setup.lsid
    }

    /// The instance of that name.
    pub fn group(&self, name: &[u8]) -> Option<InstanceIndex> {
        let found = self
            .groups
            .iter()
            .position(|group| group.name.as_bytes() == name)?;
        u16::try_from(found).ok().map(InstanceIndex)
    }

    /// Whether every worker originates and answers in `instance` (D-09): they learn of it one after
    /// the other, and clients are not to meet some that did and some that did not.
    pub fn is_released(&self, instance: InstanceIndex) -> bool {
        let mut workers = self.stats.iter();
        workers.all(|worker| worker.instances[instance.index()].released.get() == 1)
    }

    /// Where a packet goes: position of the link in the configuration, and the address on it.
    pub fn destination(&self, to: Destination) -> (usize, Endpoint) {
        match to {
            Destination::Dcs(dcs) => {
                let peer = &self.peers[dcs.index()];
                let reach = &self.reaches[self.setup.dcs[dcs.index()].link.index()];
                (peer.link, endpoint(&peer.address, reach.scope()))
            }
            Destination::Group(link) => {
                let reach = &self.reaches[link.index()];
                let FarEnd::Group(group) = reach.far_end else {
                    unreachable!("only multipoint links have groups")
                };
                (reach.link, group)
            }
        }
    }

    /// Every neighbour with its index.
    pub fn peers(&self) -> impl Iterator<Item = (DcsIndex, &PeerInfo)> {
        (0..).map(DcsIndex).zip(&self.peers)
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.stats.len()
    }
}
