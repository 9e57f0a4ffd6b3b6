//! What a seed decides: the hubs, the links between them, the clients' work and every fault with
//! its moment. A plan is data, so that a failing one can be shrunk by leaving faults out.

mod bounds;
mod faults;
mod network;

use std::time::Duration;

use scsp_engine::shard::DATAGRAM_LEN_MAX;
use scsp_wire::{Algorithm, AlignmentOffer, ServerId};

use crate::check::Agreed;
use crate::rng::{Rng, Stream};

pub use network::Topology;

pub(crate) use faults::{End, Fault, FaultKind};
pub(crate) use network::{LinkPlan, Quality, components};

/// One millisecond of virtual time.
pub(crate) const MS: u64 = 1_000_000;
/// One second of virtual time.
pub(crate) const SEC: u64 = 1_000 * MS;
/// Most hubs in all but a few worlds.
const HUBS_MAX: u64 = 7;
/// Most hubs in any world.
const CROWD_MAX: u64 = 12;
/// Octets of the largest packet in an Ethernet frame.
const FRAME_LEN_MAX: usize = 1492;
/// `CSUReXmtMax` and `CSUSReXmtMax`.
pub(crate) const RESENDS_MAX: u32 = 5;

/// What the faults of a plan are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Anything at any time.
    Chaos,
    /// Some hubs start late, into a group that has state.
    LateJoiner,
    /// A hub dies and never comes back.
    GoneForGood,
    /// The group is in two parts for most of the time, with writes and deletes on both sides.
    LongPartition,
    /// Every hub crashes again and again, at times all at once.
    RestartStorm,
    /// Every link loses 30 % of all packets; every adjacency has to align nevertheless.
    HeavyLoss,
    /// Wall clocks are seconds apart and are stepped.
    Skew,
}

impl Scenario {
    /// Every scenario.
    pub const ALL: [Self; 7] = [
        Self::Chaos,
        Self::LateJoiner,
        Self::GoneForGood,
        Self::LongPartition,
        Self::RestartStorm,
        Self::HeavyLoss,
        Self::Skew,
    ];

    fn of(rng: &mut Rng) -> Self {
        match rng.below(20) {
            0..8 => Self::Chaos,
            8..10 => Self::LateJoiner,
            10..12 => Self::GoneForGood,
            12..15 => Self::LongPartition,
            15..17 => Self::RestartStorm,
            17 => Self::HeavyLoss,
            _ => Self::Skew,
        }
    }
}

/// One hub.
#[derive(Clone, Debug)]
pub(crate) struct HubPlan {
    pub(crate) id: ServerId,
    pub(crate) shards: u16,
    /// Wall clock minus true time, at the start.
    pub(crate) clock_offset_ms: i64,
    /// How much faster than true time the wall clock runs.
    pub(crate) clock_drift_ppm: i64,
    /// How much faster than true time the monotonic clock runs.
    pub(crate) rate_ppm: i64,
    /// When it is started first.
    pub(crate) starts_at: u64,
    /// How often it writes a snapshot; `None`: it has no disk.
    pub(crate) snapshot_interval: Option<u64>,
    /// What it offers for alignments; `None`: lock step with everybody.
    pub(crate) offer: Option<AlignmentOffer>,
}

/// One instance that every hub serves.
#[derive(Clone, Debug)]
pub(crate) struct InstancePlan {
    pub(crate) is_kv: bool,
    /// Family id, 0: none (H-14).
    pub(crate) family: u16,
    /// How many of 1,000 client operations put an entry near the end of its sequences.
    pub(crate) wraps_permille: u32,
    /// Different keys that clients use.
    pub(crate) keys: u16,
}

/// Timers and limits, the same on all hubs.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    pub(crate) hello_interval_secs: u16,
    pub(crate) dead_factor: u16,
    pub(crate) ca_retransmit: Duration,
    pub(crate) csus_retransmit: Duration,
    pub(crate) csu_retransmit: Duration,
    pub(crate) boot_hold: Duration,
    pub(crate) hop_count: u16,
}

impl Timing {
    /// The daemon's defaults.
    const DEFAULT: Self = Self {
        hello_interval_secs: 3,
        dead_factor: 3,
        ca_retransmit: Duration::from_secs(1),
        csus_retransmit: Duration::from_secs(1),
        csu_retransmit: Duration::from_secs(1),
        boot_hold: Duration::from_secs(10),
        hop_count: 16,
    };
}

/// Keys of all packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AuthPlan {
    pub(crate) algorithm: Algorithm,
    /// After so long the next key signs.
    pub(crate) period: u64,
    /// A key is taken for so long before and after it signs.
    pub(crate) overlap: u64,
    pub(crate) keys: u64,
}

/// Everything a seed decides before the first event.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// How hubs are connected.
    pub topology: Topology,
    /// What the faults are about.
    pub scenario: Scenario,
    pub(crate) hubs: Vec<HubPlan>,
    pub(crate) links: Vec<LinkPlan>,
    /// Octets of the largest packet that links carry at all (D-14): that of a frame on links
    /// without fragments.
    pub(crate) datagram_limit: usize,
    /// Packets are signed, by keys that follow each other.
    pub(crate) auth: Option<AuthPlan>,
    /// Records per CSU Request at most; 0: as many as fit.
    pub(crate) max_records: u16,
    /// Neighbours' ids are configured (D-11).
    pub(crate) expect_ids: bool,
    pub(crate) instances: Vec<InstancePlan>,
    pub(crate) timing: Timing,
    /// What links do while faults are on, apart from the faults of the list.
    pub(crate) quality: Quality,
    /// Longest time a message between two cores of a hub takes.
    pub(crate) core_delay_max: u64,
    /// A core may run this much after its deadline.
    pub(crate) lateness_max: u64,
    /// A shard may collect packets this long before it is polled; 0: it is polled after each.
    pub(crate) batch_max: u64,
    /// Faults and writes end here.
    pub(crate) calm_at: u64,
    /// Writes end here, at `calm_at` or earlier.
    pub(crate) writes_until: u64,
    /// Mean time between two client operations.
    pub(crate) write_gap: u64,
    pub(crate) faults: Vec<Fault>,
}

impl Plan {
    /// The plan of `seed`; `topology` and `scenario` override what the seed says.
    pub fn new(seed: u64, topology: Option<Topology>, scenario: Option<Scenario>) -> Self {
        let rng = &mut Rng::new(seed, Stream::Plan);
        let drawn = rng.pick(&Topology::ALL);
        let topology = topology.unwrap_or(drawn);
        let drawn = Scenario::of(rng);
        let scenario = scenario.unwrap_or(drawn);
        let count = usize::try_from(match rng.below(20) {
            0 => 1,
            1..5 => 2,
            5..11 => 3,
            11..15 => 4,
            _ if rng.chance(80) => rng.between(HUBS_MAX + 1, CROWD_MAX),
            _ => rng.between(5, HUBS_MAX),
        })
        .expect("few");
        let members = topology.links(count, rng);
        let calm_at = SEC
            * match scenario {
                Scenario::LongPartition => rng.between(25, 60),
                Scenario::HeavyLoss => 20,
                _ => rng.between(8, 35),
            };
        let hubs = hubs(count, scenario, calm_at, rng);
        let limit = rng.pick(&[200, 576, 1472, 1472, 1472, 9000, 65_507]);
        let links = members
            .into_iter()
            .map(|(members, multipoint)| LinkPlan {
                members,
                multipoint,
                packet_limit: if rng.chance(200) {
                    rng.pick(&[256, 1472, 4000])
                } else {
                    limit
                },
            })
            .collect();
        let mut plan = Self {
            seed,
            topology,
            scenario,
            datagram_limit: DATAGRAM_LEN_MAX,
            auth: None,
            max_records: if rng.chance(150) {
                rng.pick(&[1, 2, 5])
            } else {
                0
            },
            expect_ids: rng.chance(300),
            instances: instances(rng),
            timing: timing(count, rng),
            quality: quality(scenario, rng),
            core_delay_max: rng.pick(&[50_000, 200_000, 2 * MS, 20 * MS]),
            lateness_max: rng.pick(&[0, MS, 5 * MS]),
            batch_max: rng.pick(&[0, 100_000, MS]),
            calm_at,
            writes_until: calm_at,
            write_gap: rng.pick(&[5, 20, 20, 60, 200]) * MS,
            hubs,
            links,
            faults: Vec::new(),
        };
        if scenario == Scenario::HeavyLoss {
            plan.timing = Timing {
                hop_count: plan.timing.hop_count,
                ..Timing::DEFAULT
            };
            plan.links
                .iter_mut()
                .for_each(|link| link.packet_limit = 1472);
            plan.calm_at = plan.writes_until + plan.aligned_within();
        }
        plan.faults = faults::make(&plan, rng);
        if rng.chance(100) {
            plan.datagram_limit = FRAME_LEN_MAX;
            let limits = plan.links.iter_mut().map(|link| &mut link.packet_limit);
            limits.for_each(|limit| *limit = FRAME_LEN_MAX.min(*limit));
        }
        // Clocks that are far apart would need lifetimes that overlap by more.
        if rng.chance(120) && !matches!(scenario, Scenario::Skew | Scenario::HeavyLoss) {
            let period = rng.pick(&[4, 15, 40]) * SEC;
            plan.auth = Some(AuthPlan {
                algorithm: rng.pick(&Algorithm::ALL),
                period,
                overlap: 2 * SEC + plan.transit_max(),
                // For longer than any world lasts.
                keys: 600 * SEC / period,
            });
        }
        let often = rng.pick(&[0, 500, 1000, 1000]);
        for hub in &mut plan.hubs {
            hub.offer = rng.chance(often).then(|| AlignmentOffer {
                window: rng.pick(&[1, 2, 3, 8, 64, 64, u16::MAX]),
                packet: rng.pick(&[50, 200, 576, 1472, 1472, 4000, u16::MAX]),
            });
        }
        plan
    }

    /// What two hubs both offer, if that is more than lock step.
    pub(crate) fn agreed(&self, hub: usize, other: usize) -> Option<Agreed> {
        let (a, b) = (self.hubs[hub].offer?, self.hubs[other].offer?);
        let (window, packet) = (a.window.min(b.window), a.packet.min(b.packet));
        (window >= 2 && packet >= 128).then(|| Agreed {
            width: u32::from(window).min(64),
            packet: packet.into(),
        })
    }

    /// The same plan with hubs that all offer a window for alignments.
    #[must_use]
    pub fn pipelined(mut self) -> Self {
        for hub in &mut self.hubs {
            hub.offer = Some(AlignmentOffer {
                window: 64,
                packet: 200,
            });
        }
        self
    }

    /// The same plan with hubs that know lock step alone.
    #[must_use]
    pub fn in_lock_step(mut self) -> Self {
        self.hubs.iter_mut().for_each(|hub| hub.offer = None);
        self
    }

    /// The same plan without its faults, on links that do no harm.
    #[must_use]
    pub fn without_faults(mut self) -> Self {
        self.faults.clear();
        self.quality = Quality::CLEAN;
        self
    }

    /// Pairs of hubs that can reach each other directly, those left out with which a fault does
    /// away for good.
    pub(crate) fn pairs(&self) -> Vec<(usize, usize)> {
        let is_dead = |link: usize, a: usize, b: usize| {
            self.faults.iter().any(|fault| match fault.kind {
                FaultKind::OneWay {
                    link: at,
                    from,
                    to,
                    lasts: None,
                } => at == link && ((from, to) == (a, b) || (from, to) == (b, a)),
                _ => false,
            })
        };
        let mut pairs = Vec::new();
        for (index, link) in self.links.iter().enumerate() {
            for (at, a) in link.members.iter().enumerate() {
                for (beyond, b) in link.members.iter().enumerate().skip(at + 1) {
                    if !is_dead(index, at, beyond) {
                        pairs.push((*a, *b));
                    }
                }
            }
        }
        pairs
    }

    /// Neighbours of a hub, counted once for each link they share.
    pub(crate) fn neighbours_len(&self, hub: usize) -> usize {
        let links = self.links.iter().filter(|link| link.members.contains(&hub));
        links.map(|link| link.members.len() - 1).sum()
    }

    /// The same plan with packets that are not signed, so that a world may change them.
    #[must_use]
    pub fn unsigned(mut self) -> Self {
        self.auth = None;
        self
    }

    /// The same plan with packets that are signed by a key for a few seconds each.
    #[must_use]
    pub fn signed(mut self) -> Self {
        let period = 4 * SEC;
        self.auth = Some(AuthPlan {
            algorithm: Algorithm::HmacSha256,
            period,
            overlap: 2 * SEC + self.transit_max(),
            keys: 600 * SEC / period,
        });
        self
    }

    /// The same plan on hubs without disks.
    #[must_use]
    pub fn without_disks(mut self) -> Self {
        for hub in &mut self.hubs {
            hub.snapshot_interval = None;
        }
        self
    }

    /// The same plan on links that damage every tenth packet.
    #[must_use]
    pub fn on_bad_links(mut self) -> Self {
        self.quality.corrupt_permille = 100;
        self
    }

    /// Plans like this one with one complication less each.
    pub(crate) fn simpler(&self) -> Vec<Self> {
        let mut plans = Vec::new();
        let mut with = |differs: bool, change: &dyn Fn(&mut Self)| {
            if differs {
                let mut plan = self.clone();
                change(&mut plan);
                plans.push(plan);
            }
        };
        let quality = self.quality;
        with(quality.loss_permille > 0, &|it| {
            it.quality.loss_permille = 0;
        });
        with(quality.duplicate_permille > 0, &|it| {
            it.quality.duplicate_permille = 0;
        });
        with(quality.corrupt_permille > 0, &|it| {
            it.quality.corrupt_permille = 0;
        });
        with(quality.jitter > 0, &|it| it.quality.jitter = 0);
        with(self.instances.len() > 1, &|it| {
            it.instances.pop();
        });
        with(self.instances.iter().any(|it| it.family > 0), &|it| {
            it.instances.iter_mut().for_each(|it| it.family = 0);
        });
        with(
            self.hubs.iter().any(|hub| hub.snapshot_interval.is_some()),
            &|it| {
                it.hubs
                    .iter_mut()
                    .for_each(|hub| hub.snapshot_interval = None);
            },
        );
        with(
            self.instances.iter().any(|it| it.wraps_permille > 0),
            &|it| {
                for instance in &mut it.instances {
                    instance.wraps_permille = 0;
                }
            },
        );
        with(self.hubs.iter().any(|hub| hub.offer.is_some()), &|it| {
            it.hubs.iter_mut().for_each(|hub| hub.offer = None);
        });
        with(self.auth.is_some(), &|it| it.auth = None);
        with(self.batch_max > 0, &|it| it.batch_max = 0);
        with(self.lateness_max > 0, &|it| it.lateness_max = 0);
        with(self.max_records > 0, &|it| it.max_records = 0);
        with(self.hubs.iter().any(|hub| hub.shards > 1), &|it| {
            it.hubs.iter_mut().for_each(|hub| hub.shards = 1);
        });
        with(self.writes_until > 2 * SEC, &|it| {
            it.writes_until = it.writes_until * 2 / 3;
        });
        plans
    }

    /// The faults, in their order, one a line.
    pub fn schedule(&self) -> String {
        let mut faults: Vec<&Fault> = self.faults.iter().collect();
        faults.sort_by_key(|fault| fault.at);
        let line = |fault: &&Fault| {
            let (secs, millis) = (fault.at / SEC, fault.at % SEC / MS);
            format!("{secs:4}.{millis:03} s {:?}\n", fault.kind)
        };
        faults.iter().map(line).collect()
    }

    /// Series of Hellos that a hub sends: for every neighbour, or for all on a multipoint link
    /// (H-10), one for each family and each instance without one (H-14).
    pub(crate) fn streams(&self, hub: usize) -> u64 {
        let mut scopes: Vec<(u16, usize)> = self
            .instances
            .iter()
            .enumerate()
            .map(|(index, it)| (it.family, if it.family == 0 { index } else { 0 }))
            .collect();
        scopes.sort_unstable();
        scopes.dedup();
        let links = self.links.iter().filter(|link| link.members.contains(&hub));
        let series = |link: &LinkPlan| {
            if link.multipoint {
                1
            } else {
                link.members.len() - 1
            }
        };
        (scopes.len() * links.map(series).sum::<usize>()) as u64
    }

    /// Number of hubs.
    pub fn hubs_len(&self) -> usize {
        self.hubs.len()
    }

    /// Number of faults in the list.
    pub fn faults_len(&self) -> usize {
        self.faults.len()
    }

    /// The same plan with only those faults whose position `keep` accepts.
    #[must_use]
    pub fn with_faults(&self, mut keep: impl FnMut(usize) -> bool) -> Self {
        let mut plan = self.clone();
        let mut position = 0;
        plan.faults.retain(|_| {
            position += 1;
            keep(position - 1)
        });
        plan
    }
}

fn hubs(count: usize, scenario: Scenario, calm_at: u64, rng: &mut Rng) -> Vec<HubPlan> {
    let long_ids = rng.chance(200);
    let disks = rng.pick(&[0, 0, 500, 1000]);
    let (spread_ms, rate_max) = match scenario {
        Scenario::Skew => (rng.pick(&[2_000, 30_000]), rng.pick(&[0, 500, 3_000])),
        _ => (40, rng.pick(&[0, 20, 200])),
    };
    let mut hubs: Vec<HubPlan> = (0..count)
        .map(|_| {
            // The first octets are random, so that roles do not follow the order of the hubs.
            let mut octets = rng.next().to_be_bytes().to_vec();
            octets.truncate(4);
            if long_ids {
                octets.resize(4 + rng.index(20), 0x2E);
            }
            let offset = i64::try_from(rng.below(2 * spread_ms + 1)).expect("small");
            HubPlan {
                id: ServerId::from_bytes(&octets).expect("4 to 23 octets"),
                shards: u16::try_from(rng.between(1, 4)).expect("small"),
                clock_offset_ms: offset - i64::try_from(spread_ms).expect("small"),
                clock_drift_ppm: i64::try_from(rng.below(101)).expect("small") - 50,
                rate_ppm: i64::try_from(rng.below(2 * rate_max + 1)).expect("small")
                    - i64::try_from(rate_max).expect("small"),
                starts_at: rng.below(SEC),
                snapshot_interval: rng
                    .chance(disks)
                    .then(|| rng.pick(&[500 * MS, 2 * SEC, 10 * SEC])),
                offer: None,
            }
        })
        .collect();
    if scenario == Scenario::LateJoiner && count > 1 {
        for _ in 0..rng.between(1, 2) {
            let late = rng.index(count);
            hubs[late].starts_at = calm_at * rng.between(30, 90) / 100;
        }
    }
    hubs
}

fn instances(rng: &mut Rng) -> Vec<InstancePlan> {
    let families = rng.chance(250);
    let further = if families {
        rng.between(1, 2)
    } else {
        u64::from(rng.chance(300))
    };
    let wraps_permille = rng.pick(&[0, 0, 0, 0, 10, 100]);
    let mut instance = |is_kv| InstancePlan {
        is_kv,
        wraps_permille,
        family: if families { rng.pick(&[0, 7, 7, 7]) } else { 0 },
        keys: rng.pick(&[4, 4, 12, 12, 40, 40, 120, 120, 600]),
    };
    let mut instances = vec![instance(true)];
    for further in 0..further {
        instances.push(instance(further == 1));
    }
    instances
}

fn timing(hubs: usize, rng: &mut Rng) -> Timing {
    let interval = |rng: &mut Rng| Duration::from_millis(rng.pick(&[200, 500, 1000, 1000]));
    let exact = u16::try_from(hubs.saturating_sub(1).max(1)).expect("small");
    Timing {
        hello_interval_secs: rng.pick(&[1, 1, 2, 3]),
        dead_factor: rng.pick(&[2, 3, 3, 4]),
        ca_retransmit: interval(rng),
        csus_retransmit: interval(rng),
        csu_retransmit: interval(rng),
        boot_hold: Duration::from_millis(rng.pick(&[500, 2000, 5000])),
        hop_count: if rng.chance(250) { exact } else { 16 },
    }
}

fn quality(scenario: Scenario, rng: &mut Rng) -> Quality {
    let loss = match scenario {
        Scenario::HeavyLoss => 300,
        _ => rng.pick(&[0, 0, 5, 20, 80]),
    };
    Quality {
        delay: rng.pick(&[20_000, 500_000, 5 * MS, 30 * MS]),
        jitter: rng.pick(&[0, 10_000, MS, 10 * MS, 60 * MS]),
        loss_permille: loss,
        duplicate_permille: rng.pick(&[0, 0, 10, 100]),
        corrupt_permille: rng.pick(&[0, 0, 2, 20]),
    }
}
