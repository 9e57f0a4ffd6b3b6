//! Configuration of the cores: the same value is shared by `Control` and every `Shard`.

use std::time::Duration;

use scsp_profile::Profile;
use scsp_wire::{AlignmentOffer, FamilyId, ProtocolId, ServerGroupId, ServerId};

use crate::auth::AuthSetup;

/// Index of an instance, one (protocol id, server group id) pair, in [`Setup::instances`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceIndex(pub u16);

/// Index of a directly connected server of one instance in [`Setup::dcs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DcsIndex(pub u16);

/// Index of a link in [`Setup::links`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkIndex(pub u16);

/// Index of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardIndex(pub u16);

impl InstanceIndex {
    /// As an index into a slice.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl DcsIndex {
    /// As an index into a slice.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl LinkIndex {
    /// As an index into a slice.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl ShardIndex {
    /// As an index into a slice.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Everything the cores are told at start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// LSID: this server's id.
    pub lsid: ServerId,
    /// Number of shards, 1 or more.
    pub shards: u16,
    /// Seed of the key hash that picks buckets; random in the daemon. Shards are picked without.
    /// See [`shard_of`](crate::shard::shard_of).
    pub hash_seed: u64,
    /// Unix time at which this run began, in milliseconds (D-12).
    pub started_unix_ms: u64,
    /// The instances.
    pub instances: Vec<InstanceSetup>,
    /// The links.
    pub links: Vec<LinkSetup>,
    /// Every DCS of every instance.
    pub dcs: Vec<DcsSetup>,
}

/// One link: a way to reach neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkSetup {
    /// One packet can reach all neighbours on it (H-10, CSU-14).
    pub multipoint: bool,
    /// One send carries several packets of one length (`shard::Transmit::segment`).
    pub segments: bool,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// To one DCS.
    Dcs(DcsIndex),
    /// To everybody on a multipoint link.
    Group(LinkIndex),
}

/// One instance: an independent cache with its own alignment machines.
#[derive(Clone, Debug)]
pub struct InstanceSetup {
    /// Protocol id.
    pub protocol: ProtocolId,
    /// Server group id.
    pub group: ServerGroupId,
    /// Family id sent in Hellos; 0: none.
    pub family: FamilyId,
    /// Rules of the record bodies.
    pub profile: Profile,
    /// Seconds between Hellos, as advertised.
    pub hello_interval_secs: u16,
    /// Missed intervals after which a neighbour is stalled, as advertised.
    pub dead_factor: u16,
    /// `CAReXmtInterval`.
    pub ca_retransmit: Duration,
    /// `CSUSReXmtInterval`.
    pub csus_retransmit: Duration,
    /// `CSUReXmtInterval`.
    pub csu_retransmit: Duration,
    /// `CSUReXmtMax`.
    pub csu_retransmit_max: u32,
    /// `CSUSReXmtMax` (D-13).
    pub csus_retransmit_max: u32,
    /// Hop count of originated records (CSU-16).
    pub hop_count: u16,
    /// Added to an own entry's sequence at its first change after a restart (CSU-20).
    pub restart_increment: u32,
    /// How long to wait for a neighbour before originating (D-09).
    pub boot_hold: Duration,
    /// How long withdrawals are kept (N-04, K-02).
    pub purge_retention: Duration,
    /// Malformed packets of a DCS are counted only, instead of resetting it (D-02).
    pub ignore_abnormal: bool,
}

/// One DCS of one instance.
#[derive(Clone, Debug)]
pub struct DcsSetup {
    /// The instance it belongs to.
    pub instance: InstanceIndex,
    /// The link it is reached over.
    pub link: LinkIndex,
    /// Which server on the link it is: DCSs of several instances behind one address share it
    /// (H-14).
    pub station: u16,
    /// Octets of the largest packet for it, as long as that holds more than one record.
    pub packet_limit: usize,
    /// Octets of the largest packet that its link carries at all (D-14).
    pub datagram_limit: usize,
    /// Refuse any other id (D-11).
    pub expected_id: Option<ServerId>,
    /// Records per CSU Request at most; 0: as many as fit.
    pub max_records: u16,
    /// What is offered to it for alignments; `None`: lock step, as with everybody who offers nothing.
    pub offer: Option<AlignmentOffer>,
    /// Authentication of packets from and to it.
    pub auth: AuthSetup,
}

impl Setup {
    /// The instance of `dcs`.
    pub fn instance_of(&self, dcs: DcsIndex) -> &InstanceSetup {
        &self.instances[self.dcs[dcs.index()].instance.index()]
    }

    /// The DCSs of `instance`.
    pub fn dcs_of(&self, instance: InstanceIndex) -> impl Iterator<Item = DcsIndex> + '_ {
        (0..)
            .map(DcsIndex)
            .zip(&self.dcs)
            .filter(move |(_, dcs)| dcs.instance == instance)
            .map(|(index, _)| index)
    }

    /// Whether one packet can reach everybody on `link`.
    pub fn is_multipoint(&self, link: LinkIndex) -> bool {
        self.links
            .get(link.index())
            .is_some_and(|link| link.multipoint)
    }

    /// Whether one send on `link` carries several packets.
    pub fn takes_segments(&self, link: LinkIndex) -> bool {
        self.links
            .get(link.index())
            .is_some_and(|link| link.segments)
    }

    /// The DCS whose machine a Hello of `station` on `link` is for. With a family it is one of that
    /// family's DCSs, whichever instance the Hello names (H-14); without one, and where no instance
    /// shared with the station is of that family, it is the DCS of the instance named. `None`: the
    /// Hello is a stranger's.
    pub fn hello_dcs(
        &self,
        link: LinkIndex,
        station: u16,
        (protocol, group): (ProtocolId, ServerGroupId),
        family: FamilyId,
    ) -> Option<DcsIndex> {
        let mut named = None;
        for (dcs, setup) in (0..).map(DcsIndex).zip(&self.dcs) {
            if (setup.link, setup.station) != (link, station) {
                continue;
            }
            let instance = self.instance_of(dcs);
            if family != FamilyId(0) && instance.family == family {
                return Some(dcs);
            }
            if (instance.protocol, instance.group) == (protocol, group) {
                named = Some(dcs);
            }
        }
        named
    }

    /// The DCSs reached over `link`.
    pub fn dcs_on(&self, link: LinkIndex) -> impl Iterator<Item = DcsIndex> + '_ {
        (0..)
            .map(DcsIndex)
            .zip(&self.dcs)
            .filter(move |(_, dcs)| dcs.link == link)
            .map(|(index, _)| index)
    }

    /// Whether this start counts as a restart for `instance` (D-19): without neighbours nobody
    /// can remember an earlier run.
    pub fn is_restart(&self, instance: InstanceIndex) -> bool {
        self.dcs_of(instance).next().is_some()
    }
}
