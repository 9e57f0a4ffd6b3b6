//! One hub: the cores of the daemon, their slots in the scheduler, and what is watched of them.

use std::sync::Arc;

use scsp_cache::KeyHasher;
use scsp_engine::message::ToShard;
use scsp_engine::shard::{DATAGRAM_LEN_MAX, shard_of};
use scsp_engine::{
    AuthSetup, Control, DcsIndex, DcsSetup, InstanceIndex, InstanceSetup, LinkIndex, LinkSetup,
    Now, Setup, Shard, ShardIndex, Time, ToControl,
};
use scsp_profile::{KvBody, Profile};
use scsp_wire::{FamilyId, ProtocolId, ServerGroupId, ServerId};

use crate::check::{SequenceWatch, Watch};
use crate::client;
use crate::plan::{MS, Plan};
use crate::rng::Rng;

/// Unix time at which every world begins.
const EPOCH_UNIX_MS: u64 = 1_790_000_000_000;
/// Protocol of the second instance.
const OPAQUE: ProtocolId = ProtocolId(0x0104);

/// A message on its way between two cores of a hub.
#[derive(Debug)]
pub(crate) enum CoreMessage {
    Control(ToControl),
    Shard(ToShard),
}

/// A neighbour and how it is reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbour {
    pub(crate) hub: usize,
    pub(crate) link: usize,
    /// Whether packets to it go from the link's first end to the second.
    pub(crate) forth: bool,
}

/// One run of the hub's process. Slot 0 is `Control`, slot `n + 1` is shard `n`.
#[derive(Debug)]
pub(crate) struct Cores {
    pub(crate) setup: Arc<Setup>,
    pub(crate) control: Control,
    pub(crate) shards: Vec<Shard>,
    /// What the monotonic clock showed when the world began.
    pub(crate) clock_base: u64,
    /// When the scheduler calls a slot's timers.
    pub(crate) wake_at: Vec<Option<u64>>,
    /// A slot that is still to be polled.
    pub(crate) flush_due: Vec<bool>,
    /// When the last message from one slot to another arrives: they never overtake each other.
    arrivals: Vec<u64>,
}

impl Cores {
    pub(crate) fn slots(&self) -> usize {
        1 + self.shards.len()
    }

    /// The moment a message between two slots arrives when it takes `delay`.
    pub(crate) fn arrival(&mut self, from: usize, to: usize, now: u64, delay: u64) -> u64 {
        let slots = self.slots();
        let last = &mut self.arrivals[from * slots + to];
        *last = (now + delay).max(*last);
        *last
    }

    /// The shard that owns `key`.
    pub(crate) fn owner(&self, key: &[u8]) -> usize {
        let hash = KeyHasher::new(self.setup.hash_seed).hash(key);
        shard_of(hash, self.setup.shards).index()
    }

    /// The record of (key, originator).
    pub(crate) fn find(
        &self,
        at: InstanceIndex,
        key: &[u8],
        originator: &[u8],
    ) -> Option<Seen<'_>> {
        let shard = &self.shards[self.owner(key)];
        let store = shard.store(at);
        let id = store.find(store.hash(key), key, originator)?;
        let kv = self.setup.instances[at.index()].profile == Profile::Kv;
        Some(self.see(&store.entry(id), kv))
    }

    pub(crate) fn see<'a>(&self, entry: &scsp_cache::Entry<'a>, kv: bool) -> Seen<'a> {
        let (stamp, content) = match KvBody::parse(entry.body) {
            Ok(body) if kv => (body.stamp.0, body.value),
            _ => (0, entry.body),
        };
        Seen {
            seq: entry.seq.get(),
            withdrawn: entry.flags.withdrawn,
            stamp,
            content,
            expires: entry
                .expires
                .map(|at| at.as_nanos().saturating_sub(self.clock_base)),
        }
    }
}

/// A record as it is stored at a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen<'a> {
    pub(crate) seq: i32,
    pub(crate) withdrawn: bool,
    /// Of the hybrid clock; 0 where there is none.
    pub(crate) stamp: u64,
    /// What the client wrote.
    pub(crate) content: &'a [u8],
    /// Virtual time of its end.
    pub(crate) expires: Option<u64>,
}

/// One hub.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) id: ServerId,
    pub(crate) neighbours: Vec<Neighbour>,
    /// Number of the current or last run; events of earlier ones are void.
    pub(crate) run: u32,
    pub(crate) cores: Option<Cores>,
    /// It never comes back.
    pub(crate) gone: bool,
    /// The process stands still until then.
    pub(crate) stalled_until: u64,
    pub(crate) clock_offset_ms: i64,
    clock_drift_ppm: i64,
    /// By DCS.
    pub(crate) watches: Vec<Watch>,
    pub(crate) sequences: SequenceWatch,
    /// Timer calls in the current window, and when it began.
    pub(crate) wakes: (u64, u64),
}

impl Hub {
    pub(crate) fn new(plan: &Plan, index: usize) -> Self {
        let own = |(link, ends): (usize, &(usize, usize))| match *ends {
            (a, b) if a == index => Some(Neighbour {
                hub: b,
                link,
                forth: true,
            }),
            (a, b) if b == index => Some(Neighbour {
                hub: a,
                link,
                forth: false,
            }),
            _ => None,
        };
        let neighbours: Vec<Neighbour> = plan.links.iter().enumerate().filter_map(own).collect();
        let hub = &plan.hubs[index];
        Self {
            id: hub.id,
            watches: vec![Watch::default(); neighbours.len() * plan.instances.len()],
            sequences: SequenceWatch::new(plan),
            neighbours,
            run: 0,
            cores: None,
            gone: false,
            stalled_until: 0,
            clock_offset_ms: hub.clock_offset_ms,
            clock_drift_ppm: hub.clock_drift_ppm,
            wakes: (0, 0),
        }
    }

    /// What the wall clock shows.
    fn unix_ms(&self, now: u64) -> u64 {
        let passed = i64::try_from(now / MS).expect("worlds last minutes");
        let drift = passed * self.clock_drift_ppm / 1_000_000;
        EPOCH_UNIX_MS.saturating_add_signed(passed + drift + self.clock_offset_ms)
    }

    /// What the clocks show.
    pub(crate) fn clocks(&self, now: u64) -> Now {
        let base = self.cores.as_ref().map_or(0, |cores| cores.clock_base);
        Now {
            time: Time::from_nanos(base + now),
            unix_ms: self.unix_ms(now),
        }
    }

    /// Starts a new run with nothing of the earlier one.
    pub(crate) fn start(&mut self, plan: &Plan, index: usize, now: u64, rng: &mut Rng) {
        self.run += 1;
        self.stalled_until = now;
        self.watches.fill(Watch::default());
        self.sequences = SequenceWatch::new(plan);
        let clock_base = rng.below(1 << 50);
        let setup = Arc::new(self.setup(plan, index, now, rng.next()));
        let clocks = Now {
            time: Time::from_nanos(clock_base + now),
            unix_ms: self.unix_ms(now),
        };
        let control = Control::new(Arc::clone(&setup), clocks, rng.next());
        let shards: Vec<Shard> = (0..setup.shards)
            .map(|shard| Shard::new(Arc::clone(&setup), ShardIndex(shard), clocks))
            .collect();
        let slots = 1 + shards.len();
        self.cores = Some(Cores {
            setup,
            control,
            shards,
            clock_base,
            wake_at: vec![None; slots],
            flush_due: vec![false; slots],
            arrivals: vec![0; slots * slots],
        });
    }

    fn setup(&self, plan: &Plan, index: usize, now: u64, hash_seed: u64) -> Setup {
        let timing = &plan.timing;
        let instances = plan.instances.iter().map(|instance| InstanceSetup {
            protocol: if instance.is_kv {
                ProtocolId::KV
            } else {
                OPAQUE
            },
            group: ServerGroupId(1),
            family: FamilyId(0),
            profile: if instance.is_kv {
                Profile::Kv
            } else {
                Profile::Opaque
            },
            hello_interval_secs: timing.hello_interval_secs,
            dead_factor: timing.dead_factor,
            ca_retransmit: timing.ca_retransmit,
            csus_retransmit: timing.csus_retransmit,
            csu_retransmit: timing.csu_retransmit,
            csu_retransmit_max: 5,
            csus_retransmit_max: 5,
            hop_count: timing.hop_count,
            restart_increment: 1000,
            boot_hold: timing.boot_hold,
            purge_retention: client::RETENTION,
            ignore_abnormal: false,
        });
        let dcs = (0..plan.instances.len()).flat_map(|instance| {
            let links = (0..).map(LinkIndex).zip(&self.neighbours);
            links.map(move |(link, neighbour)| DcsSetup {
                instance: InstanceIndex(u16::try_from(instance).expect("at most two")),
                link,
                station: link.0,
                packet_limit: plan.packet_limits[neighbour.link],
                datagram_limit: DATAGRAM_LEN_MAX,
                expected_id: plan.expect_ids.then(|| plan.hubs[neighbour.hub].id),
                max_records: plan.max_records,
                auth: AuthSetup::default(),
            })
        });
        Setup {
            lsid: self.id,
            shards: plan.hubs[index].shards,
            hash_seed,
            started_unix_ms: self.unix_ms(now),
            instances: instances.collect(),
            links: vec![LinkSetup { multipoint: false }; self.neighbours.len()],
            dcs: dcs.collect(),
        }
    }

    /// The DCS by which `instance` reaches the neighbour at `position`.
    pub(crate) fn dcs(&self, instance: usize, position: usize) -> DcsIndex {
        let index = instance * self.neighbours.len() + position;
        DcsIndex(u16::try_from(index).expect("at most 12 neighbours and instances"))
    }

    /// The neighbour behind a DCS.
    pub(crate) fn neighbour(&self, dcs: DcsIndex) -> Neighbour {
        self.neighbours[dcs.index() % self.neighbours.len()]
    }

    /// The position among the neighbours of the one behind `link`.
    pub(crate) fn position(&self, link: usize) -> Option<usize> {
        self.neighbours
            .iter()
            .position(|neighbour| neighbour.link == link)
    }

    /// The instance that a packet names.
    pub(crate) fn instance(&self, protocol: ProtocolId, group: ServerGroupId) -> Option<usize> {
        let cores = self.cores.as_ref()?;
        let instances = &cores.setup.instances;
        instances
            .iter()
            .position(|it| it.protocol == protocol && it.group == group)
    }
}
