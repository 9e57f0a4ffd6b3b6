//! Flooding (RFC 2334 2.3): which DCSs a changed entry is queued for, and whether by one packet.

use scsp_cache::{EntryId, Store};
use scsp_wire::CsaSeq;

use crate::setup::{DcsIndex, InstanceIndex};

use super::peer::Gate;
use super::{Instance, Shard};

/// Where a record came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) dcs: DcsIndex,
    /// By a packet to everybody.
    pub(super) broadcast: bool,
}

impl Shard {
    /// Queues an entry for every DCS but `from` (CSU-02).
    pub(super) fn flood(
        &mut self,
        at: InstanceIndex,
        id: EntryId,
        from: Option<DcsIndex>,
        travels: bool,
    ) {
        let broadcast = false;
        self.flood_from(at, id, from.map(|dcs| Source { dcs, broadcast }), travels);
    }

    /// Queues an entry for every DCS but that it came from, and those to which that one has sent it
    /// as well (CSU-15). Where an exchange is under way it is queued even when its hops are used
    /// up, or when somebody else has sent it: the exchange may have passed it already (CA-17).
    pub(super) fn flood_from(
        &mut self,
        at: InstanceIndex,
        id: EntryId,
        from: Option<Source>,
        travels: bool,
    ) {
        let Instance {
            store, counters, ..
        } = &mut self.instances[at.index()];
        // Whoever forgets a purge has seen all of its own neighbours acknowledge it (CSU-19).
        let is_purge = |store: &Store| store.seq(id) == CsaSeq::PURGE;
        let teller = from.filter(|from| from.broadcast && !is_purge(store));
        for (dcs, peer) in (0..).map(DcsIndex).zip(&self.peers) {
            if peer.instance != at || from.is_some_and(|from| from.dcs == dcs) {
                continue;
            }
            let mut group = peer.group.map(|index| &mut self.groups[index]);
            let (queues, spared) = match peer.gate {
                Gate::Closed => (false, false),
                Gate::Exchange => (true, false),
                Gate::Open => {
                    let sent = group
                        .as_ref()
                        .zip(teller)
                        .is_some_and(|(group, from)| group.is_meshed(from.dcs, dcs));
                    (travels && !sent, travels && sent)
                }
            };
            if queues {
                store.enqueue(id, peer.queue, false);
            }
            counters.spared += u64::from(spared);
            if let Some(group) = &mut group {
                group.count(queues, spared);
            }
        }
        self.group_up(at, id);
    }

    /// After a record was queued for each DCS that is to have it: whether those of a link are to
    /// get it by one packet (CSU-14).
    fn group_up(&mut self, at: InstanceIndex, id: EntryId) {
        for index in 0..self.groups.len() {
            let group = &mut self.groups[index];
            if group.instance != at {
                continue;
            }
            let (counted, queue) = (group.take_count(), group.queue);
            let together = counted && !self.is_broken(index);
            let store = &mut self.instances[at.index()].store;
            if together {
                store.enqueue(id, queue, false);
            } else {
                store.acknowledge(id, queue); // An older instance may have waited there.
            }
        }
    }
}
