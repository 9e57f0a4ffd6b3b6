//! Multipoint links (RFC 2334 2.3; CSU-14, CSU-15): records that go once to everybody, and records
//! that somebody else sent to everybody.
//!
//! **Sending.** A record for two or more DCSs of a link is on the retransmit queue of each, as
//! anywhere, and on the queue of the group besides. The group sends it once, to receiver id all
//! 0xFF, and marks it sent on the queue of each; whatever happens to it from then on happens
//! between this server and one DCS. While it waits for the group it is not sent otherwise. The
//! group waits until the window of every DCS that is to have the record allows it, so nobody is
//! sent more than its window holds; it does so for `CSUReXmtInterval` at most, since then something
//! in the window that is closed is overdue. While a DCS of the link has resends unacknowledged, or
//! is in an exchange, the group is *broken*: what it held, and what comes, goes by unicast.
//!
//! **Mesh.** A record that came by such a packet is not passed on to a DCS that is meshed with its
//! sender (`control/mesh.rs`). This converges because sending to everybody is a promise: the sender
//! does it only with what it owes each DCS of the link that it does not have it from, while none of
//! them is in an exchange, so each has been sent the record and is resent it until it acknowledges.
//! Whoever relies on another one's promise never makes it itself: a record that is kept from one
//! DCS of the link goes to the others by unicast. The promise is void when the two are meshed no
//! more, be it that one of them died. Then this server queues for both what changed within the
//! time that resends and the detection take, which is all that the promise may have left open; what
//! is older was acknowledged, or an alignment of the two has begun and compares everything. Where
//! that alignment itself lasts longer than this time and the sender dies in it, the next alignment
//! of the DCS with any other server brings the rest.

use std::time::Duration;

use scsp_cache::{EntryId, PeerIndex, Store};
use scsp_wire::MessageType;

use crate::auth::Signing;
use crate::setup::{DcsIndex, InstanceIndex, LinkIndex, Setup};
use crate::{Now, Time};

use super::peer::{Gate, Peer};
use super::purge::Purges;
use super::transmit::{Built, Encoder, Frame, is_full};
use super::{Instance, Shard};

/// Looks at all entries for the sake of one link are at least so far apart.
const SCAN_GAP: Duration = Duration::from_secs(1);
/// Entries looked at per turn, so that packets and clients get theirs in between.
const SCAN_SLICE: usize = 1 << 14;

/// A multipoint link as one instance uses it, with two DCSs or more.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) link: LinkIndex,
    pub(super) instance: InstanceIndex,
    /// What waits to be sent to everybody.
    pub(super) queue: PeerIndex,
    members: Vec<DcsIndex>,
    /// By retransmit queue of the instance: its DCS, if it is of this link.
    by_queue: Vec<Option<DcsIndex>>,
    /// Receiver id: all 0xFF, as long as this server's own id. The RFC leaves the length open;
    /// protocols that fix the length of ids fix it for all servers alike (N-01).
    receiver: Vec<u8>,
    packet_limit: usize,
    max_records: u16,
    /// Members × members: who is meshed with whom.
    meshed: Vec<bool>,
    debt: Option<Debt>,
    scanned_at: Option<Time>,
    /// While a record is flooded: DCSs that are to have it, and whether one is spared it.
    wanted: usize,
    spared: bool,
}

/// What changed since then goes to these, when the time has come.
#[derive(Debug)]
struct Debt {
    since: Time,
    due: Time,
    to: Vec<DcsIndex>,
    /// Where the look at all entries goes on.
    from: u32,
}

impl Group {
    /// The groups of a setup. `queue_of` tells each DCS's retransmit queue.
    pub(super) fn all(
        setup: &Setup,
        instances: &mut [Instance],
        queue_of: impl Fn(DcsIndex) -> PeerIndex,
    ) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for (dcs, own) in (0..).map(DcsIndex).zip(&setup.dcs) {
            let is_same = |group: &Self| (group.link, group.instance) == (own.link, own.instance);
            if !setup.is_multipoint(own.link) || groups.iter().any(is_same) {
                continue;
            }
            let on_link = setup.dcs_on(own.link);
            let members: Vec<DcsIndex> = on_link
                .filter(|other| setup.dcs[other.index()].instance == own.instance)
                .collect();
            if members.len() < 2 {
                continue;
            }
            let mut by_queue = vec![None; setup.dcs_of(own.instance).count()];
            for member in &members {
                by_queue[usize::from(queue_of(*member).0)] = Some(*member);
            }
            let limits = members.iter().map(|it| setup.dcs[it.index()].packet_limit);
            let records = members.iter().map(|it| setup.dcs[it.index()].max_records);
            groups.push(Self {
                link: own.link,
                instance: own.instance,
                queue: instances[own.instance.index()].store.add_group(),
                by_queue,
                receiver: vec![0xFF; setup.lsid.as_bytes().len()],
                packet_limit: limits.min().unwrap_or(own.packet_limit),
                max_records: records.filter(|max| *max > 0).min().unwrap_or(0),
                meshed: vec![false; members.len() * members.len()],
                members,
                debt: None,
                scanned_at: None,
                wanted: 0,
                spared: false,
            });
            debug_assert!(groups.last().is_some_and(|group| group.has(dcs)));
        }
        groups
    }

    /// Whether the DCS is on this link.
    pub(super) fn has(&self, dcs: DcsIndex) -> bool {
        self.position(dcs).is_some()
    }

    fn position(&self, dcs: DcsIndex) -> Option<usize> {
        self.members.binary_search(&dcs).ok()
    }

    fn pair(&mut self, a: usize, b: usize) -> [usize; 2] {
        let len = self.members.len();
        [a * len + b, b * len + a]
    }

    /// Whether `to` gets what `from` sends to everybody (CSU-15).
    pub(super) fn is_meshed(&self, from: DcsIndex, to: DcsIndex) -> bool {
        let at = self.position(from).zip(self.position(to));
        at.is_some_and(|(from, to)| self.meshed[from * self.members.len() + to])
    }

    /// A record that is flooded goes to one member more, or is kept from one.
    pub(super) fn count(&mut self, queued: bool, spared: bool) {
        self.wanted += usize::from(queued);
        self.spared |= spared;
    }

    /// Whether the record goes out once for all, as far as its receivers tell.
    pub(super) fn take_count(&mut self) -> bool {
        let together = self.wanted >= 2 && !self.spared;
        (self.wanted, self.spared) = (0, false);
        together
    }

    fn member(&self, queue: PeerIndex) -> Option<DcsIndex> {
        self.by_queue.get(usize::from(queue.0)).copied().flatten()
    }

    /// What to send next, and its octets, if all that are to have it may be sent as much. What is
    /// for fewer than two by now, or too long for a packet, is left to unicast.
    fn next(
        &self,
        store: &mut Store,
        purges: &Purges,
        peers: &[Peer],
        len_max: usize,
    ) -> Option<(EntryId, usize)> {
        loop {
            let (id, _) = store.peek_unsent(self.queue)?;
            let len = purges.outgoing_len(store, id);
            let (mut wanted, mut allowed) = (0, true);
            for queue in store.untold_peers(id) {
                if let Some(dcs) = self.member(queue) {
                    let window = &peers[dcs.index()].window;
                    wanted += 1;
                    allowed &= window.allows(store.in_flight_bytes(queue), len);
                }
            }
            if wanted >= 2 && len <= len_max {
                return allowed.then_some((id, len));
            }
            store.acknowledge(id, self.queue);
        }
    }

    pub(super) fn next_due(&self) -> Option<Time> {
        self.debt.as_ref().map(|debt| debt.due)
    }
}

impl Shard {
    /// Whether what is for the group goes by unicast.
    pub(super) fn is_broken(&self, index: usize) -> bool {
        let group = &self.groups[index];
        let store = &self.instances[group.instance.index()].store;
        group.members.iter().any(|dcs| {
            let peer = &self.peers[dcs.index()];
            match peer.gate {
                Gate::Closed => false,
                Gate::Exchange => true,
                Gate::Open => store.resent_len(peer.queue) > 0,
            }
        })
    }

    /// The group of a DCS is broken: what it holds goes by unicast.
    pub(super) fn break_group(&mut self, dcs: DcsIndex) {
        if let Some(index) = self.peers[dcs.index()].group {
            let group = &self.groups[index];
            let store = &mut self.instances[group.instance.index()].store;
            store.clear_queue(group.queue);
        }
    }

    /// Builds the next CSU Request for everybody on a link.
    pub(super) fn build_group(
        &mut self,
        now: Now,
        index: usize,
        out: &mut [u8],
        segment: Option<usize>,
    ) -> Option<Built> {
        let group = &self.groups[index];
        let profile = self.setup.instances[group.instance.index()].profile;
        let Instance {
            store,
            counters,
            purges,
            ..
        } = &mut self.instances[group.instance.index()];
        let any = *group.members.first()?;
        let signing = self.setup.signing(any, now.unix_ms);
        if matches!(signing, Signing::Withheld) {
            return None; // What waits is looked at again for each member.
        }
        let (limit, signer) = (group.packet_limit, signing.signer());
        let frame = Frame::new(&self.setup, any, &group.receiver, limit, signer).of(segment);
        let len_max = frame.record_len_max(MessageType::CsuRequest);
        let (_, first_len) = group.next(store, purges, &self.peers, len_max)?;
        let encoder = Encoder {
            profile,
            now,
            purges,
        };
        let (mut builder, spare) = frame.start(MessageType::CsuRequest, out, first_len)?;
        let mut more = false;
        while let Some((id, len)) = group.next(store, purges, &self.peers, len_max) {
            if is_full(&builder, group.max_records) {
                more = true;
                break;
            }
            if !encoder.push(&mut builder, store, id, None) {
                more = len > builder.room() + spare;
                break;
            }
            store.mark_told(id, now.time, |queue| group.member(queue).is_some());
            store.acknowledge(id, group.queue);
            counters.broadcast += 1;
        }
        self.door.packets.sent[usize::from(MessageType::CsuRequest.code()) - 1] += 1;
        Some(frame.finish(builder, more))
    }

    /// With whom `dcs` is meshed from now on. Those that it is not any more are owed, and so is it,
    /// what the other one may have kept.
    pub(super) fn handle_mesh(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        with: &[DcsIndex],
        recent: Duration,
    ) {
        let Some(index) = self.peers[dcs.index()].group else {
            return;
        };
        let group = &mut self.groups[index];
        let Some(row) = group.position(dcs) else {
            return;
        };
        let mut owed = Vec::new();
        for column in 0..group.members.len() {
            let meshed = with.contains(&group.members[column]);
            for pair in group.pair(row, column) {
                if group.meshed[pair] && !meshed {
                    owed.push(group.members[column]);
                }
                group.meshed[pair] = meshed;
            }
        }
        if owed.is_empty() {
            return;
        }
        owed.push(dcs);
        let earliest = group
            .scanned_at
            .map_or(now.time, |at| at.saturating_add(SCAN_GAP));
        let since = Time::from_nanos(
            now.time
                .as_nanos()
                .saturating_sub(u64::try_from(recent.as_nanos()).unwrap_or(u64::MAX)),
        );
        let debt = group.debt.get_or_insert(Debt {
            since,
            due: earliest.max(now.time),
            to: Vec::new(),
            from: 0,
        });
        debt.from = 0;
        debt.since = debt.since.min(since);
        debt.to.extend(owed);
        debt.to.sort_unstable();
        debt.to.dedup();
        self.pay_debts(now);
    }

    /// Queues what changed lately for those whom it may not have reached (CSU-15).
    pub(super) fn pay_debts(&mut self, now: Now) {
        for index in 0..self.groups.len() {
            let group = &mut self.groups[index];
            let Some(mut debt) = group.debt.take_if(|debt| debt.due <= now.time) else {
                continue;
            };
            let peers = &self.peers;
            let is_reachable = |dcs: &DcsIndex| peers[dcs.index()].gate != Gate::Closed;
            debt.to.retain(is_reachable);
            let others = group.members.iter().filter(|dcs| is_reachable(dcs));
            let all = others.count() == debt.to.len();
            let (at, queue) = (group.instance, group.queue);
            let together = all && debt.to.len() >= 2 && !self.is_broken(index);
            let store = &mut self.instances[at.index()].store;
            let mut looked_at = 0;
            let is_over = loop {
                let next = store.scan_next(debt.from).filter(|_| !debt.to.is_empty());
                let Some((next, id)) = next else { break true };
                if looked_at == SCAN_SLICE {
                    break false;
                }
                looked_at += 1;
                debt.from = next;
                let entry = store.entry(id);
                if entry.changed < debt.since || entry.hop_count == 0 {
                    continue;
                }
                for dcs in &debt.to {
                    let queue = self.peers[dcs.index()].queue;
                    if !store.is_queued(id, queue) {
                        store.enqueue(id, queue, false);
                    }
                }
                if together {
                    store.enqueue(id, queue, false);
                }
            };
            let group = &mut self.groups[index];
            if is_over {
                group.scanned_at = Some(now.time);
            } else {
                group.debt = Some(debt);
            }
        }
    }
}
