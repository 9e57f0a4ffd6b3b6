//! One hub: the cores of the daemon, their slots in the scheduler, and what is watched of them.

use std::sync::Arc;

use scsp_cache::KeyHasher;
use scsp_engine::message::ToShard;
use scsp_engine::shard::{DATAGRAM_LEN_MAX, shard_of};
use scsp_engine::{
    AuthKey, AuthMode, AuthSetup, Control, DcsIndex, DcsSetup, InstanceIndex, InstanceSetup,
    LinkIndex, LinkSetup, Now, Period, Setup, Shard, ShardIndex, Time, ToControl,
};
use scsp_profile::{KvBody, Profile};
use scsp_wire::{FamilyId, MacKey, MessageType, ProtocolId, ServerGroupId, ServerId};

use crate::check::{RecordWatch, Watch};
use crate::client;
use crate::disk::{Disk, Writing};
use crate::plan::{MS, Plan, RESENDS_MAX};
use crate::rng::{Rng, Stream};

/// Unix time at which every world begins.
const EPOCH_UNIX_MS: u64 = 1_790_000_000_000;
/// How many times as long as a core stood still its hub may need to catch up.
const SLOW_AFTER: u64 = 2;
/// Protocol of the second instance.
const OPAQUE: ProtocolId = ProtocolId(0x0104);

/// A message on its way between two cores of a hub.
#[derive(Debug)]
pub(crate) enum CoreMessage {
    Control(ToControl),
    Shard(ToShard),
}

impl CoreMessage {
    pub(crate) fn is_hello(&self) -> bool {
        match self {
            Self::Control(ToControl::Packet { bytes, .. }) => is_hello(bytes),
            _ => false,
        }
    }
}

/// Whether a packet is a Hello.
pub(crate) fn is_hello(bytes: &[u8]) -> bool {
    bytes.get(1) == Some(&MessageType::Hello.code())
}

/// A neighbour and how it is reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbour {
    pub(crate) hub: usize,
    pub(crate) link: usize,
    /// The link among those of this hub.
    pub(crate) port: usize,
}

/// One run of the hub's process. Slot 0 is `Control`, slot `n + 1` is shard `n`.
#[derive(Debug)]
pub(crate) struct Cores {
    pub(crate) setup: Arc<Setup>,
    pub(crate) control: Control,
    pub(crate) shards: Vec<Shard>,
    /// When the scheduler calls a slot's timers.
    pub(crate) wake_at: Vec<Option<u64>>,
    /// A slot that is still to be polled.
    pub(crate) flush_due: Vec<bool>,
    /// A slot that stands still, until then.
    pub(crate) slow_until: Vec<u64>,
    /// When the last message from one slot to another arrives: they never overtake each other.
    arrivals: Vec<u64>,
    hasher: KeyHasher,
    rate: Rate,
}

/// A monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// What it showed when the world began.
    base: u64,
    /// How much faster than true time it runs.
    ppm: i64,
}

impl Rate {
    const MILLION: i64 = 1_000_000;

    /// What the clock counted since the world began.
    pub(crate) fn passed(self, now: u64) -> u64 {
        let now = i64::try_from(now).expect("worlds last minutes");
        // In two parts, so that nothing overflows.
        let (whole, part) = (now / Self::MILLION, now % Self::MILLION);
        now.saturating_add(whole * self.ppm + part * self.ppm / Self::MILLION)
            .unsigned_abs()
    }

    pub(crate) fn time(self, now: u64) -> Time {
        Time::from_nanos(self.base + self.passed(now))
    }

    /// The virtual time at which the clock shows `time`, or one soon after.
    pub(crate) fn when(self, time: Time) -> u64 {
        let passed = time.as_nanos().saturating_sub(self.base);
        let Ok(passed) = i64::try_from(passed) else {
            return u64::MAX;
        };
        let scale = Self::MILLION + self.ppm;
        let (whole, part) = (passed / scale, passed % scale);
        let now = whole * Self::MILLION + part * Self::MILLION / scale;
        (now + 2).unsigned_abs()
    }
}

impl Cores {
    pub(crate) fn slots(&self) -> usize {
        1 + self.shards.len()
    }

    pub(crate) fn clock(&self) -> Rate {
        self.rate
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
        shard_of(key, self.setup.shards).index()
    }

    /// The record of (key, originator).
    pub(crate) fn find(
        &self,
        at: InstanceIndex,
        key: &[u8],
        originator: &[u8],
    ) -> Option<Seen<'_>> {
        let hash = self.hasher.hash(key);
        let store = self.shards[self.owner(key)].store(at);
        let id = store.find(hash, key, originator)?;
        let kv = self.setup.instances[at.index()].profile == Profile::Kv;
        Some(self.see(&store.entry(id), kv))
    }

    /// When by the hub's own clock the record of (key, originator) was taken in, and its sequence.
    pub(crate) fn changed(
        &self,
        at: InstanceIndex,
        key: &[u8],
        originator: &[u8],
    ) -> Option<(u64, i32)> {
        let store = self.shards[self.owner(key)].store(at);
        let entry = store.entry(store.find(self.hasher.hash(key), key, originator)?);
        let changed = entry.changed.as_nanos().saturating_sub(self.rate.base);
        Some((changed, entry.seq.get()))
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
            expires: entry.expires.map(|at| self.rate.when(at)),
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

/// An instance's index for the cores.
pub(crate) fn instance_index(instance: usize) -> InstanceIndex {
    InstanceIndex(u16::try_from(instance).expect("few"))
}

/// One hub.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) id: ServerId,
    pub(crate) neighbours: Vec<Neighbour>,
    /// Number of the current or last run; events of earlier ones are void.
    pub(crate) run: u32,
    pub(crate) cores: Option<Cores>,
    pub(crate) started_at: u64,
    /// What the wall clock showed when each run began.
    pub(crate) starts_unix_ms: Vec<u64>,
    /// It was short of memory in this run: what it asked for may have come when it had no room.
    pub(crate) was_squeezed: bool,
    /// Run from which on it remembers everything it originated.
    pub(crate) whole_since: u32,
    pub(crate) disk: Option<Disk>,
    pub(crate) writing: Option<Writing>,
    /// It never comes back.
    pub(crate) gone: bool,
    /// The process stands still until then.
    pub(crate) stalled_until: u64,
    pub(crate) clock_offset_ms: i64,
    clock_drift_ppm: i64,
    rate: Rate,
    /// The links it is on.
    pub(crate) ports: Vec<usize>,
    /// By DCS.
    pub(crate) watches: Vec<Watch>,
    pub(crate) records: RecordWatch,
    /// Until when its cores may know of each other's doings this much later than they should.
    pub(crate) slow: (u64, u64),
    /// Who runs when.
    pub(crate) schedule: Rng,
    seeds: Rng,
    /// Timer calls in the current window, and when it began.
    pub(crate) wakes: (u64, u64),
}

impl Hub {
    pub(crate) fn new(plan: &Plan, index: usize) -> Self {
        let is_on = |link: &usize| plan.links[*link].members.contains(&index);
        let ports: Vec<usize> = (0..plan.links.len()).filter(is_on).collect();
        let behind = |(port, link): (usize, &usize)| {
            let link = *link;
            let others = plan.links[link].members.iter().filter(|hub| **hub != index);
            let neighbour = move |hub: &usize| Neighbour {
                hub: *hub,
                link,
                port,
            };
            others.map(neighbour).collect::<Vec<_>>()
        };
        let neighbours: Vec<Neighbour> = ports.iter().enumerate().flat_map(behind).collect();
        let hub = &plan.hubs[index];
        Self {
            id: hub.id,
            watches: vec![Watch::default(); neighbours.len() * plan.instances.len()],
            records: RecordWatch::new(plan),
            slow: (0, 0),
            schedule: Rng::part(plan.seed, Stream::Schedule, index),
            seeds: Rng::part(plan.seed, Stream::Hubs, index),
            rate: Rate {
                base: 0,
                ppm: hub.rate_ppm,
            },
            neighbours,
            ports,
            run: 0,
            cores: None,
            started_at: 0,
            starts_unix_ms: Vec::new(),
            was_squeezed: false,
            whole_since: 1,
            disk: hub.snapshot_interval.map(|_| Disk::default()),
            writing: None,
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
        Now {
            time: self.rate.time(now),
            unix_ms: self.unix_ms(now),
        }
    }

    /// What the hub's own clock counted since the world began.
    pub(crate) fn local(&self, now: u64) -> u64 {
        self.rate.passed(now)
    }

    /// Whether a run after `run` began at a time, by the hub's own wall clock, before `stamp`: what
    /// that run was told then seems to be its own (D-12).
    pub(crate) fn is_mistaken(&self, run: u32, stamp: u64) -> bool {
        let mut later = self.starts_unix_ms.iter().skip(run as usize);
        later.any(|start| *start <= stamp >> 16)
    }

    /// Shards that run.
    pub(crate) fn shards(&self) -> usize {
        self.cores.as_ref().map_or(0, |cores| cores.shards.len())
    }

    /// When the hub, or one core of it, no longer stands still.
    pub(crate) fn awake_at(&self, slot: Option<usize>) -> u64 {
        let slow = |slot: usize| Some(self.cores.as_ref()?.slow_until[slot]);
        let slow = slot.and_then(slow).unwrap_or(0);
        self.stalled_until.max(slow)
    }

    /// Starts a new run with nothing of the earlier one.
    pub(crate) fn start(&mut self, plan: &Plan, index: usize, now: u64) {
        self.run += 1;
        self.started_at = now;
        self.starts_unix_ms.push(self.unix_ms(now));
        self.was_squeezed = false;
        self.stalled_until = now;
        self.watches.fill(Watch::default());
        self.records = RecordWatch::new(plan);
        self.rate.base = self.seeds.below(1 << 50);
        let drawn = self.seeds.next();
        let hash_seed = self
            .disk
            .as_ref()
            .and_then(Disk::hash_seed)
            .unwrap_or(drawn);
        self.writing = None;
        let setup = Arc::new(self.setup(plan, index, now, hash_seed));
        let clocks = self.clocks(now);
        let control = Control::new(Arc::clone(&setup), clocks, self.seeds.next());
        let mut shards: Vec<Shard> = (0..setup.shards)
            .map(|shard| Shard::new(Arc::clone(&setup), ShardIndex(shard), clocks))
            .collect();
        let disk = self.disk.as_mut();
        if !disk.is_some_and(|disk| disk.restore(&setup, &mut shards, clocks)) {
            self.whole_since = self.run;
        }
        let slots = 1 + shards.len();
        self.cores = Some(Cores {
            setup,
            control,
            shards,
            hasher: KeyHasher::new(hash_seed),
            rate: self.rate,
            slow_until: vec![0; slots],
            wake_at: vec![None; slots],
            flush_due: vec![false; slots],
            arrivals: vec![0; slots * slots],
        });
    }

    fn setup(&self, plan: &Plan, index: usize, now: u64, hash_seed: u64) -> Setup {
        let timing = &plan.timing;
        let groups = (1..).map(ServerGroupId);
        let instances = plan.instances.iter().zip(groups);
        let instances = instances.map(|(instance, group)| InstanceSetup {
            protocol: if instance.is_kv {
                ProtocolId::KV
            } else {
                OPAQUE
            },
            group,
            family: FamilyId(instance.family),
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
            csu_retransmit_max: RESENDS_MAX,
            csus_retransmit_max: RESENDS_MAX,
            hop_count: timing.hop_count,
            restart_increment: 1000,
            boot_hold: timing.boot_hold,
            purge_retention: client::RETENTION,
            ignore_abnormal: false,
        });
        let number = |index: usize| u16::try_from(index).expect("few");
        let dcs = (0..plan.instances.len()).flat_map(|instance| {
            let neighbours = self.neighbours.iter().enumerate();
            neighbours.map(move |(station, neighbour)| DcsSetup {
                instance: instance_index(instance),
                link: LinkIndex(number(neighbour.port)),
                station: number(station),
                packet_limit: plan.links[neighbour.link].packet_limit,
                datagram_limit: plan.datagram_limit,
                offer: plan.hubs[index].offer,
                expected_id: plan.expect_ids.then(|| plan.hubs[neighbour.hub].id),
                max_records: plan.max_records,
                auth: auth(plan),
            })
        });
        Setup {
            lsid: self.id,
            shards: plan.hubs[index].shards,
            hash_seed,
            started_unix_ms: self.unix_ms(now),
            instances: instances.collect(),
            links: self
                .ports
                .iter()
                .map(|link| LinkSetup {
                    multipoint: plan.links[*link].multipoint,
                    // Not on Ethernet: what it carries is a frame each.
                    segments: plan.datagram_limit == DATAGRAM_LEN_MAX,
                })
                .collect(),
            dcs: dcs.collect(),
        }
    }

    /// The DCS by which `instance` reaches the neighbour at `position`.
    pub(crate) fn dcs(&self, instance: usize, position: usize) -> DcsIndex {
        let index = instance * self.neighbours.len() + position;
        DcsIndex(u16::try_from(index).expect("few neighbours and instances"))
    }

    /// The instance of a DCS.
    pub(crate) fn instance_of(&self, dcs: DcsIndex) -> usize {
        dcs.index() / self.neighbours.len()
    }

    /// The hub, or a core of it, stands still from now on. A message may wait for one slow core
    /// after the other.
    pub(crate) fn lags_by(&mut self, now: u64, until: u64, lasts: u64) {
        let (before, longer) = self.slow;
        let longer = lasts + if now < before { longer } else { 0 };
        self.slow = (until.max(before) + SLOW_AFTER * longer, longer);
    }

    /// How much later than `Control` a shard may learn of something.
    pub(crate) fn lag(&self, plan: &Plan, now: u64) -> u64 {
        let (until, longer) = self.slow;
        let longer = if now < until { longer } else { 0 };
        plan.core_delay_max + plan.batch_max + plan.lateness_max + longer
    }

    /// The neighbour behind a DCS.
    pub(crate) fn neighbour(&self, dcs: DcsIndex) -> Neighbour {
        self.neighbours[dcs.index() % self.neighbours.len()]
    }

    /// The position among the neighbours of `hub` behind `link`.
    pub(crate) fn position(&self, link: usize, hub: usize) -> Option<usize> {
        self.neighbours
            .iter()
            .position(|neighbour| (neighbour.link, neighbour.hub) == (link, hub))
    }

    /// The DCSs whose Hellos go with that of `dcs`: those of its family behind the same neighbour
    /// (H-14).
    pub(crate) fn relatives(&self, plan: &Plan, dcs: DcsIndex) -> Vec<DcsIndex> {
        let position = dcs.index() % self.neighbours.len();
        let family = plan.instances[self.instance_of(dcs)].family;
        let related = |instance: &usize| plan.instances[*instance].family == family;
        let all = (0..plan.instances.len()).filter(related);
        let all = all.map(|instance| self.dcs(instance, position));
        all.filter(|other| family != 0 || *other == dcs).collect()
    }

    /// The DCSs by which `instance` reaches those on a link.
    pub(crate) fn dcs_on(&self, instance: usize, port: usize) -> Vec<DcsIndex> {
        let all = self.neighbours.iter().enumerate();
        all.filter(|(_, neighbour)| neighbour.port == port)
            .map(|(position, _)| self.dcs(instance, position))
            .collect()
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

/// Keys that follow each other while traffic flows: each is taken for a while before it signs, and
/// for a while after the next one does.
fn auth(plan: &Plan) -> AuthSetup {
    let Some(auth) = plan.auth else {
        return AuthSetup::default();
    };
    let unix_ms = |at: u64| EPOCH_UNIX_MS + at / MS;
    let key = |number: u64| {
        let begins = number * auth.period;
        let until = unix_ms(begins + auth.period + auth.overlap);
        // The first one is good for clocks that are behind, too.
        let from = |at| (number > 0).then(|| unix_ms(at));
        AuthKey {
            spi: 256 + u32::try_from(number).expect("few keys"),
            key: MacKey::new(auth.algorithm, &number.to_be_bytes()),
            send: Some(Period {
                from_ms: from(begins),
                until_ms: Some(until),
            }),
            receive: Some(Period {
                from_ms: from(begins.saturating_sub(auth.overlap)),
                until_ms: Some(until),
            }),
        }
    };
    AuthSetup {
        mode: AuthMode::Require,
        keys: (0..auth.keys).map(key).collect(),
        failure_resets: false,
    }
}
