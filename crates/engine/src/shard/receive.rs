//! Taking in packets (RFC 2334 2.3, 2.4): checks, sorting by shard, and the CSU machines.

use std::time::Duration;

use scsp_cache::{EntryFlags, EntryId, KeyHasher, PASS_LEN, Update};
use scsp_profile::{BodyError, Facts, Profile, Stamp};
use scsp_wire::{CsaSeq, Envelope, Keys, Message as Packet, Record, Records, is_broadcast};

use crate::Now;
use crate::message::{BatchKind, Epoch, ToControl, ToShard};
use crate::setup::{DcsIndex, InstanceIndex, ShardIndex};

use super::expire::expiry;
use super::flood::Source;
use super::outcome::Outcome;
use super::peer::Gate;
use super::purge::is_of_before;
use super::transmit::SOLICITED_HOP_COUNT;
use super::{Drop, Instance, Message, Shard, shard_of};

/// How a record came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    /// This server asked for it.
    pub(super) solicited: bool,
    /// By a packet to everybody on a multipoint link (CSU-14).
    pub(super) broadcast: bool,
    /// How long ago (K-03).
    pub(super) waited: Duration,
}

impl Came {
    /// Just now; whether it was asked for is still to be seen.
    fn now(broadcast: bool) -> Self {
        Self {
            solicited: false,
            broadcast,
            waited: Duration::ZERO,
        }
    }
}

/// A record that came, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival<'a> {
    pub(super) dcs: DcsIndex,
    /// It came by a packet to everybody on a multipoint link (CSU-14).
    pub(super) broadcast: bool,
    /// Hash of its key.
    pub(super) hash: u64,
    pub(super) record: &'a Record<'a>,
    pub(super) facts: Facts,
    /// This server asked for it.
    pub(super) solicited: bool,
    /// What the cache holds of it.
    pub(super) found: Option<EntryId>,
}

impl Shard {
    /// Takes in a packet whose envelope names an instance and came from the address of `dcs`.
    pub fn handle_packet(&mut self, now: Now, dcs: DcsIndex, envelope: &Envelope<'_>) {
        let peer = &self.peers[dcs.index()];
        let (epoch, gate) = (peer.epoch, peer.gate);
        match self.door.admit(now, dcs, epoch, envelope) {
            None => self.report_due(now, dcs),
            Some(packet @ (Packet::CsuRequest(_) | Packet::CsuReply(_) | Packet::Csus(_)))
                if gate != Gate::Exchange =>
            {
                self.admit(now, dcs, envelope, &packet);
            }
            Some(_) => {
                let (shard, bytes) = (self.index, envelope.bytes().to_vec());
                self.tell_control(ToControl::Packet { dcs, shard, bytes });
            }
        }
    }

    /// Counts a packet that was dropped before it reached [`handle_packet`](Self::handle_packet).
    pub fn drop_packet(&mut self, reason: Drop) {
        self.door.drop_packet(reason);
    }

    /// Tells `Control` of packets that were dropped, unless it was told a moment ago.
    pub(super) fn report_due(&mut self, now: Now, dcs: DcsIndex) {
        for message in self.door.take_report(now, dcs) {
            self.tell_control(message);
        }
    }

    /// A packet that came during an exchange and that `Control` found to be behind its end.
    pub(super) fn handle_returned(&mut self, now: Now, dcs: DcsIndex, bytes: &[u8]) {
        let Ok(envelope) = Envelope::parse(bytes) else {
            return;
        };
        if let Ok(packet) = envelope.open() {
            self.admit(now, dcs, &envelope, &packet);
        }
    }

    /// Takes in a CSU or CSUS message, or counts why not.
    fn admit(&mut self, now: Now, dcs: DcsIndex, envelope: &Envelope<'_>, packet: &Packet<'_>) {
        let broadcast = matches!(packet, Packet::CsuRequest(_) | Packet::CsuReply(_));
        if let Err(reason) = self.check(dcs, envelope, broadcast) {
            return self.drop_packet(reason);
        }
        let addressed = envelope.receiver() == self.setup.lsid.as_bytes();
        let peer = &mut self.peers[dcs.index()];
        // What it sends to everybody says nothing of its alignment with this server.
        if addressed && !peer.moved_on {
            peer.moved_on = true;
            let epoch = peer.epoch;
            self.tell_control(ToControl::MovedOn { dcs, epoch }); // CA-15
        }
        match packet {
            Packet::Hello(_) | Packet::Ca(_) => {}
            Packet::CsuRequest(request) => {
                let kind = if addressed {
                    BatchKind::Request
                } else {
                    BatchKind::Broadcast
                };
                let mut keys = request.records().keys();
                for (n, record) in request.records().enumerate() {
                    if n % PASS_LEN == 0 {
                        self.look_ahead(dcs, &mut keys);
                    }
                    let summary = &record.summary;
                    let came = Came::now(!addressed);
                    self.sort(dcs, kind, summary.key, record.wire, |shard, hash| {
                        shard.take_record(now, dcs, hash, &record, came);
                    });
                }
                self.solicit_if_answered(now, dcs);
            }
            Packet::CsuReply(reply) => {
                let mut keys = reply.summaries().keys();
                for (n, summary) in reply.summaries().enumerate() {
                    if n % PASS_LEN == 0 {
                        self.look_ahead(dcs, &mut keys);
                    }
                    self.sort(
                        dcs,
                        BatchKind::Reply,
                        summary.key,
                        summary.wire,
                        |shard, hash| {
                            shard.take_acknowledgement(now, dcs, hash, &summary);
                        },
                    );
                }
            }
            Packet::Csus(solicit) => {
                let mut keys = solicit.summaries().keys();
                for (n, summary) in solicit.summaries().enumerate() {
                    if n % PASS_LEN == 0 {
                        self.look_ahead(dcs, &mut keys);
                    }
                    self.sort(
                        dcs,
                        BatchKind::Solicit,
                        summary.key,
                        summary.wire,
                        |shard, hash| {
                            shard.take_solicitation(dcs, hash, &summary);
                        },
                    );
                }
            }
        }
    }

    /// Whether a CSU or CSUS message is for us and may flow.
    fn check(&self, dcs: DcsIndex, envelope: &Envelope<'_>, broadcast: bool) -> Result<(), Drop> {
        let receiver = envelope.receiver();
        let ours = receiver == self.setup.lsid.as_bytes() || broadcast && is_broadcast(receiver);
        if !ours {
            return Err(Drop::Receiver); // CA-21, CSU-13
        }
        let peer = &self.peers[dcs.index()];
        if peer.gate != Gate::Open {
            return Err(Drop::NotAligned); // CSU-01, H-12
        }
        if peer.id.is_none_or(|id| id.as_bytes() != envelope.sender()) {
            return Err(Drop::SenderId);
        }
        Ok(())
    }

    fn look_ahead(&self, dcs: DcsIndex, keys: &mut Keys<'_>) {
        self.expect(self.peers[dcs.index()].instance, keys);
    }

    /// The next [`PASS_LEN`] of `keys`, or as many as there are, are about to be read or written: what
    /// is held of them is looked at together, so that reads from memory overlap. It changes nothing;
    /// worth while for two or more.
    pub fn expect<'a>(&self, at: InstanceIndex, keys: &mut impl Iterator<Item = &'a [u8]>) {
        self.instances[at.index()].look_ahead(&self.hasher, keys);
    }

    /// Handles a record here, or lays it aside for the shard that owns it.
    fn sort(
        &mut self,
        dcs: DcsIndex,
        kind: BatchKind,
        key: &[u8],
        wire: &[u8],
        here: impl FnOnce(&mut Self, u64),
    ) {
        let shard = shard_of(key, self.setup.shards);
        if shard == self.index {
            let hash = self.hasher.hash(key);
            here(self, hash);
            return;
        }
        let epoch = self.peers[dcs.index()].epoch;
        self.batches.add(shard, (dcs, epoch), kind, wire);
    }

    /// Records of a packet that another shard received and admitted. Where that one learned of
    /// Update Cache first, they wait for it here.
    pub(super) fn handle_batch(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        epoch: Epoch,
        (kind, from): (BatchKind, ShardIndex),
        bytes: Vec<u8>,
    ) {
        let is_current = self.is_current(dcs, epoch);
        match self.peers[dcs.index()].gate {
            Gate::Exchange if is_current => {
                let early = &mut self.peers[dcs.index()].early;
                return early.push((now.time, kind, bytes));
            }
            Gate::Open if is_current => self.take_batch(now, dcs, kind, &bytes, Duration::ZERO),
            Gate::Closed | Gate::Exchange | Gate::Open => {}
        }
        let spent = Message::Shard(from, ToShard::Spent { bytes });
        self.messages.push_back(spent);
    }

    /// Records that came `waited` ago.
    pub(super) fn take_batch(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        kind: BatchKind,
        bytes: &[u8],
        waited: Duration,
    ) {
        let mut keys = Records::over(bytes).keys();
        for (n, record) in Records::over(bytes).enumerate() {
            if n % PASS_LEN == 0 {
                self.look_ahead(dcs, &mut keys);
            }
            let hash = self.hasher.hash(record.summary.key);
            match kind {
                BatchKind::Request | BatchKind::Broadcast => {
                    let came = Came {
                        waited,
                        ..Came::now(kind == BatchKind::Broadcast)
                    };
                    self.take_record(now, dcs, hash, &record, came);
                }
                BatchKind::Reply => self.take_acknowledgement(now, dcs, hash, &record.summary),
                BatchKind::Solicit => self.take_solicitation(dcs, hash, &record.summary),
            }
        }
        if matches!(kind, BatchKind::Request | BatchKind::Broadcast) {
            self.solicit_if_answered(now, dcs);
        }
    }

    /// One CSA record (2.3; CSU-02..CSU-04, CSU-09, CSU-11, CSU-12).
    fn take_record(&mut self, now: Now, dcs: DcsIndex, hash: u64, record: &Record<'_>, came: Came) {
        let solicited = self.peers[dcs.index()]
            .solicit
            .answer(hash, &record.summary);
        self.judge(now, dcs, hash, record, Came { solicited, ..came });
    }

    /// The same, when it is known whether this server asked for it.
    pub(super) fn judge(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        hash: u64,
        record: &Record<'_>,
        came: Came,
    ) {
        let summary = &record.summary;
        let at = self.peers[dcs.index()].instance;
        let profile = self.setup.instances[at.index()].profile;
        let outcome = if summary.null {
            self.acknowledge(dcs, summary); // CSU-11
            if came.solicited {
                self.offer_older(now, dcs, hash, summary);
            }
            Outcome::Null
        } else {
            match inspect(profile, record) {
                Ok(mut facts) => {
                    facts.life = facts.life.map(|life| life.saturating_sub(came.waited)); // K-03
                    let found = None;
                    let arrival = Arrival {
                        dcs,
                        broadcast: came.broadcast,
                        hash,
                        record,
                        facts,
                        solicited: came.solicited,
                        found,
                    };
                    self.compare(now, arrival)
                }
                Err(_) => {
                    // It can never be stored. Acknowledging it keeps the neighbour from resending
                    // it until the adjacency breaks.
                    self.acknowledge(dcs, summary);
                    Outcome::Rejected
                }
            }
        };
        self.instances[at.index()].counters.received[outcome.index()] += 1;
    }

    /// Judges a record against the cache (2.4).
    fn compare(&mut self, now: Now, mut arrival: Arrival<'_>) -> Outcome {
        let Arrival {
            dcs,
            hash,
            record,
            facts,
            ..
        } = arrival;
        let summary = &record.summary;
        let peer = &mut self.peers[dcs.index()];
        let instance = &mut self.instances[peer.instance.index()];
        instance.clock.merge(facts.stamp); // K-05
        arrival.found = instance.store.find(hash, summary.key, summary.originator);
        let held = arrival.found.map(|id| (id, instance.store.seq(id)));
        let copy = instance
            .purges
            .is_copy(now, summary, held.map(|(_, seq)| seq));
        match held {
            Some((id, CsaSeq::PURGE)) if summary.seq != CsaSeq::PURGE => {
                self.refuse_while_purged(now, &arrival, id)
            }
            _ if copy => {
                self.acknowledge(dcs, summary); // CSU-19
                if arrival.solicited {
                    self.offer_older(now, dcs, hash, summary);
                }
                Outcome::Duplicate
            }
            Some((id, seq)) if seq >= summary.seq => {
                let same = seq == summary.seq;
                self.acknowledge_held(dcs, id); // CSU-09
                if same {
                    self.dequeue(now, dcs, id); // CSU-12
                }
                if same {
                    Outcome::Duplicate
                } else {
                    Outcome::Older
                }
            }
            _ if summary.originator == self.setup.lsid.as_bytes() => self.take_own(now, &arrival),
            _ => self.take_newer(now, &arrival),
        }
    }

    /// A newer record updates the cache and goes on to every other DCS (CSU-02, CSU-16, D-06).
    pub(super) fn take_newer(&mut self, now: Now, arrival: &Arrival<'_>) -> Outcome {
        let &Arrival {
            dcs,
            broadcast,
            hash,
            record,
            facts,
            solicited,
            found,
        } = arrival;
        let summary = &record.summary;
        let peer = &self.peers[dcs.index()];
        let at = peer.instance;
        // What was asked for when there was no room for it, and what is still to be asked for, may
        // come by itself (D-06). And a late copy of before a purge is to reach its originator, who
        // ends it once more (CSU-19, D-12).
        let store = &self.instances[at.index()].store;
        let returns = found.is_some_and(|id| is_of_before(store.entry(id).seq, summary.seq));
        let wants = peer.is_starved || !peer.requests.is_empty() || returns;
        let solicited = solicited || wants && summary.hop_count <= SOLICITED_HOP_COUNT;
        let setup = &self.setup.instances[at.index()];
        let hop_count = if solicited {
            setup.hop_count // D-06
        } else {
            summary.hop_count.saturating_sub(1) // CSU-16
        };
        let purge = summary.seq == CsaSeq::PURGE;
        let update = Update {
            seq: summary.seq,
            hop_count,
            body: record.body,
            // A purge goes as soon as it is acknowledged (CSU-19).
            expires: (!purge)
                .then(|| expiry(setup.purge_retention, facts, now))
                .flatten(),
            changed: now.time,
            flags: EntryFlags {
                own_run: false,
                withdrawn: facts.withdrawn,
            },
        };
        let room = self.room();
        let instance = &mut self.instances[at.index()];
        let names = (summary.key, summary.originator);
        let stored = instance.put(setup.profile, hash, names, found, &update, room);
        let Ok(id) = stored else {
            if summary.originator == self.setup.lsid.as_bytes() {
                instance.floors.note(hash, summary.seq); // CSU-20
            }
            self.starved_at = Some(now.time);
            self.peers[dcs.index()].is_starved |= solicited;
            return Outcome::Rejected; // CSU-04: not acknowledged
        };
        if !solicited && !purge && facts.stamp != Stamp::ZERO {
            let age_ms = now.unix_ms.saturating_sub(facts.stamp.millis());
            instance.propagated_after = Some(Duration::from_millis(age_ms));
            let peer = &mut self.peers[dcs.index()];
            if peer
                .id
                .is_some_and(|id| id.as_bytes() == summary.originator)
            {
                peer.skew_ms = skew_ms(facts.stamp, now);
            }
        }
        instance
            .store
            .acknowledge(id, self.peers[dcs.index()].queue); // CSU-07: that was older
        self.flood_from(at, id, Some(Source { dcs, broadcast }), hop_count > 0);
        self.acknowledge(dcs, summary);
        if purge {
            self.purge_taken(now, at, id);
        }
        Outcome::Newer
    }
}

impl Instance {
    /// Has the store look at the next keys of a packet together, [`PASS_LEN`] at most. What comes of
    /// each record is judged afterwards, one by one, so that each sees what those before it did.
    pub(super) fn look_ahead<'a>(
        &self,
        hasher: &KeyHasher,
        keys: &mut impl Iterator<Item = &'a [u8]>,
    ) {
        if !self.store.is_large() {
            return;
        }
        let mut hashes = [0; PASS_LEN];
        let mut len = 0;
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = hasher.hash(key);
            len += 1;
        }
        if len > 1 {
            self.store.warm(&hashes[..len]);
        }
    }
}

/// What a record says. A purge is one whatever its body (CSU-19).
fn inspect(profile: Profile, record: &Record<'_>) -> Result<Facts, BodyError> {
    let key = record.summary.key;
    let facts = profile.inspect(key, record.body);
    let (shortest, longest) = profile.key_len();
    if record.summary.seq != CsaSeq::PURGE || !(shortest..=longest).contains(&key.len()) {
        return facts;
    }
    Ok(Facts {
        withdrawn: true,
        life: None,
        stamp: facts.map_or(Stamp::ZERO, |facts| facts.stamp),
    })
}

fn skew_ms(stamp: Stamp, now: Now) -> i64 {
    let ahead = i128::from(stamp.millis()) - i128::from(now.unix_ms);
    i64::try_from(ahead).unwrap_or(0)
}
