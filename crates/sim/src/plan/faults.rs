//! The faults of a plan.

use crate::rng::Rng;

use super::{MS, Plan, Quality, SEC, Scenario};

/// How long hubs and cores stand still.
const STALLS: [u64; 4] = [50 * MS, 500 * MS, 3 * SEC, 10 * SEC];

/// A fault and its moment.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) at: u64,
    pub(crate) kind: FaultKind,
}

/// What goes wrong, and for how long.
#[derive(Clone, Debug)]
pub(crate) enum FaultKind {
    /// One way of a link gets worse; its ends are positions among the link's members.
    Degrade {
        link: usize,
        from: usize,
        to: usize,
        quality: Quality,
        lasts: u64,
    },
    /// One way of a link passes nothing; `None`: for good.
    OneWay {
        link: usize,
        from: usize,
        to: usize,
        lasts: Option<u64>,
    },
    /// A link passes nothing.
    Cut { link: usize, lasts: u64 },
    /// Nothing passes between the hubs of `side` (a bit set) and the others.
    Partition { side: u32, lasts: u64 },
    /// The hub's process ends; `None`: it never comes back.
    Crash {
        hub: usize,
        down: Option<u64>,
        end: End,
    },
    /// The hub's process stands still; what comes meanwhile waits.
    Stall { hub: usize, lasts: u64 },
    /// One core of a hub stands still while the others go on: slot 0 is `Control`.
    SlowCore { hub: usize, slot: usize, lasts: u64 },
    /// A hub may use no more memory than so many permille of what it uses at that moment (CSU-04).
    Squeeze {
        hub: usize,
        permille: u64,
        lasts: u64,
    },
    /// A hub learns that a link is down, and later that it is up again (H-02).
    Carrier { hub: usize, link: usize, lasts: u64 },
    /// The operator resets a neighbour.
    Clear { hub: usize, neighbour: usize },
    /// A packet with a right checksum and a wrong inside arrives (D-02).
    Malformed { link: usize, from: usize, to: usize },
    /// The wall clock of a hub is set.
    ClockStep { hub: usize, by_ms: i64 },
}

/// How a process ends, and what that leaves on its disk, if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Killed: the last snapshot.
    Killed,
    /// Stopped gracefully: a snapshot of everything.
    Stopped,
    /// Killed, and part of the last snapshot is damaged.
    Damaged,
}

impl End {
    fn random(rng: &mut Rng) -> Self {
        rng.pick(&[
            Self::Killed,
            Self::Killed,
            Self::Stopped,
            Self::Stopped,
            Self::Damaged,
        ])
    }
}

impl FaultKind {
    /// Names of all kinds, in the order of [`index`](Self::index).
    pub(crate) const LABELS: [&'static str; 12] = [
        "degraded",
        "one-way",
        "cut",
        "partition",
        "crash",
        "stall",
        "slow-core",
        "carrier",
        "clear",
        "malformed",
        "clock-step",
        "squeeze",
    ];

    pub(crate) const fn index(&self) -> usize {
        match self {
            Self::Degrade { .. } => 0,
            Self::OneWay { .. } => 1,
            Self::Cut { .. } => 2,
            Self::Partition { .. } => 3,
            Self::Crash { .. } => 4,
            Self::Stall { .. } => 5,
            Self::SlowCore { .. } => 6,
            Self::Carrier { .. } => 7,
            Self::Clear { .. } => 8,
            Self::Malformed { .. } => 9,
            Self::ClockStep { .. } => 10,
            Self::Squeeze { .. } => 11,
        }
    }

    /// How long it lasts, for those that end by themselves.
    pub(crate) const fn lasts(&self) -> Option<u64> {
        match self {
            Self::OneWay { lasts, .. } => *lasts,
            Self::Degrade { lasts, .. }
            | Self::Cut { lasts, .. }
            | Self::Squeeze { lasts, .. }
            | Self::Partition { lasts, .. }
            | Self::Carrier { lasts, .. } => Some(*lasts),
            Self::Crash { .. }
            | Self::Stall { .. }
            | Self::SlowCore { .. }
            | Self::Clear { .. }
            | Self::Malformed { .. }
            | Self::ClockStep { .. } => None,
        }
    }
}

/// Longest time a packet is on its way while faults are on.
pub(super) fn transit_max(faults: &[Fault], base: Quality) -> u64 {
    let degraded = faults.iter().map(|fault| match &fault.kind {
        FaultKind::Degrade { quality, .. } => quality.transit_max(),
        _ => 0,
    });
    degraded.chain([base.transit_max()]).max().unwrap_or(0)
}

/// Time that hubs and cores stand still in all.
pub(super) fn stalled(faults: &[Fault]) -> u64 {
    let stalls = faults.iter().map(|fault| match fault.kind {
        FaultKind::Stall { lasts, .. } | FaultKind::SlowCore { lasts, .. } => lasts,
        _ => 0,
    });
    stalls.sum()
}

/// By how much wall clocks are set in all.
pub(super) fn stepped(faults: &[Fault]) -> u64 {
    let steps = faults.iter().map(|fault| match fault.kind {
        FaultKind::ClockStep { by_ms, .. } => by_ms.unsigned_abs() * MS,
        _ => 0,
    });
    steps.sum()
}

/// When the last of those faults ends that do not end with the others.
pub(super) fn end(plan: &Plan) -> u64 {
    let stalled = stalled(&plan.faults);
    let ends = plan.faults.iter().map(|fault| {
        let lasts = match fault.kind {
            FaultKind::Crash { down, .. } => {
                down.map_or(0, |down| down + plan.transit_max() + stalled)
            }
            FaultKind::Stall { .. } | FaultKind::SlowCore { .. } => stalled,
            FaultKind::Carrier { lasts, .. } => lasts + stalled,
            _ => 0,
        };
        fault.at + lasts
    });
    ends.max().unwrap_or(0)
}

/// Faults of the plan's scenario, in no order.
pub(super) fn make(plan: &Plan, rng: &mut Rng) -> Vec<Fault> {
    let mut faults = Vec::new();
    let (hubs, calm_at) = (plan.hubs.len(), plan.calm_at);
    let random = match plan.scenario {
        Scenario::Chaos => rng.below(14),
        Scenario::HeavyLoss => 0,
        _ => rng.below(5),
    };
    for _ in 0..random {
        let at = rng.between(SEC, calm_at);
        faults.push(Fault {
            at,
            kind: any(plan, rng),
        });
    }
    match plan.scenario {
        Scenario::Chaos | Scenario::LateJoiner | Scenario::HeavyLoss => {}
        Scenario::GoneForGood => {
            let at = calm_at * rng.between(30, 95) / 100;
            let hub = dispensable(plan, rng);
            faults.push(Fault {
                at,
                kind: FaultKind::Crash {
                    hub,
                    down: None,
                    end: End::Killed,
                },
            });
        }
        Scenario::LongPartition => {
            let at = calm_at * rng.between(5, 30) / 100;
            let lasts = calm_at * rng.between(40, 75) / 100;
            faults.push(Fault {
                at,
                kind: FaultKind::Partition {
                    side: side(hubs, rng),
                    lasts,
                },
            });
        }
        Scenario::RestartStorm => {
            for _ in 0..rng.between(2, 4 * hubs as u64) {
                let at = rng.between(2 * SEC, calm_at);
                let hub = rng.index(hubs);
                let down = Some(rng.between(300 * MS, 4 * SEC));
                faults.push(Fault {
                    at,
                    kind: FaultKind::Crash {
                        hub,
                        down,
                        end: End::random(rng),
                    },
                });
            }
            if rng.chance(300) {
                let at = rng.between(calm_at / 2, calm_at);
                for hub in 0..hubs {
                    let down = Some(rng.between(300 * MS, 4 * SEC));
                    faults.push(Fault {
                        at,
                        kind: FaultKind::Crash {
                            hub,
                            down,
                            end: End::random(rng),
                        },
                    });
                }
            }
        }
        Scenario::Skew => {
            for _ in 0..rng.below(4) {
                // Lives go on by the wall clock while a hub is down.
                let disks = plan.hubs.iter().any(|hub| hub.snapshot_interval.is_some());
                let far = if disks { 10_000 } else { 3_600_000 };
                let most = rng.pick(&[10_000, 10_000, far]);
                let by_ms = i64::try_from(rng.below(2 * most + 1)).expect("small");
                let by_ms = by_ms - i64::try_from(most).expect("small");
                let kind = FaultKind::ClockStep {
                    hub: rng.index(hubs),
                    by_ms,
                };
                faults.push(Fault {
                    at: rng.between(SEC, calm_at),
                    kind,
                });
            }
        }
    }
    faults
}

/// A random non-empty set of hubs.
fn side(hubs: usize, rng: &mut Rng) -> u32 {
    u32::try_from(rng.between(1, (1 << hubs) - 1)).expect("few hubs")
}

/// Mostly a hub without which the others stay connected.
fn dispensable(plan: &Plan, rng: &mut Rng) -> usize {
    let hubs = plan.hubs.len();
    let start = rng.index(hubs);
    if rng.chance(150) {
        return start;
    }
    let fits = |gone: &usize| {
        let alive = |hub: usize| hub != *gone;
        super::components(hubs, &plan.pairs(), alive).len() <= 1
    };
    (0..hubs)
        .map(|step| (start + step) % hubs)
        .find(fits)
        .unwrap_or(start)
}

fn any(plan: &Plan, rng: &mut Rng) -> FaultKind {
    let hub = rng.index(plan.hubs.len());
    let lasts = rng.pick(&[200 * MS, SEC, 3 * SEC, 8 * SEC, 15 * SEC]);
    let crash = |rng: &mut Rng| FaultKind::Crash {
        hub,
        end: End::random(rng),
        down: Some(rng.between(300 * MS, 12 * SEC)),
    };
    if plan.links.is_empty() {
        return crash(rng);
    }
    let link = rng.index(plan.links.len());
    let members = plan.links[link].members.len();
    let from = rng.index(members);
    let to = (from + 1 + rng.index(members - 1)) % members;
    let degree = |hub| {
        let all = plan.links.iter();
        all.filter(|link| link.members.contains(&hub)).count()
    };
    let port = rng.index(degree(hub).max(1));
    let neighbour = rng.index(plan.neighbours_len(hub).max(1));
    match rng.below(23) {
        0..4 => FaultKind::Degrade {
            link,
            from,
            to,
            quality: worse(rng),
            lasts,
        },
        4..7 => FaultKind::OneWay {
            link,
            from,
            to,
            lasts: (!rng.chance(80)).then_some(lasts),
        },
        7..9 => FaultKind::Cut { link, lasts },
        9..11 => FaultKind::Partition {
            side: side(plan.hubs.len(), rng),
            lasts,
        },
        11..15 => crash(rng),
        15 => FaultKind::Stall {
            hub,
            lasts: rng.pick(&STALLS),
        },
        16..18 => FaultKind::SlowCore {
            hub,
            slot: rng.index(1 + usize::from(plan.hubs[hub].shards)),
            lasts: rng.pick(&STALLS),
        },
        18 => FaultKind::Carrier {
            hub,
            link: port,
            lasts,
        },
        19 => FaultKind::Clear { hub, neighbour },
        20 => FaultKind::Malformed { link, from, to },
        21 => FaultKind::Squeeze {
            hub,
            permille: rng.pick(&[500, 900, 1000, 1100]),
            lasts,
        },
        _ => FaultKind::ClockStep {
            hub,
            by_ms: i64::try_from(rng.below(41)).expect("small") - 20,
        },
    }
}

fn worse(rng: &mut Rng) -> Quality {
    Quality {
        delay: rng.pick(&[MS, 50 * MS, 300 * MS]),
        jitter: rng.pick(&[0, 20 * MS, 200 * MS, SEC]),
        loss_permille: rng.pick(&[50, 150, 300, 600]),
        duplicate_permille: rng.pick(&[0, 50, 400]),
        corrupt_permille: rng.pick(&[0, 10, 100]),
    }
}
