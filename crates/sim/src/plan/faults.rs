//! The faults of a plan.

use crate::link::Quality;
use crate::plan::{MS, Plan, SEC, Scenario};
use crate::rng::Rng;

/// A fault and its moment.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) at: u64,
    pub(crate) kind: FaultKind,
}

/// What goes wrong, and for how long.
#[derive(Clone, Debug)]
pub(crate) enum FaultKind {
    /// One direction of a link gets worse.
    Degrade {
        link: usize,
        forth: bool,
        quality: Quality,
        lasts: u64,
    },
    /// One direction of a link passes nothing.
    OneWay {
        link: usize,
        forth: bool,
        lasts: u64,
    },
    /// Both directions of a link pass nothing.
    Cut { link: usize, lasts: u64 },
    /// Nothing passes between the hubs of `side` (a bit set) and the others.
    Partition { side: u32, lasts: u64 },
    /// The hub loses all its state; `None`: it never comes back.
    Crash { hub: usize, down: Option<u64> },
    /// The hub's process stands still; what comes meanwhile waits.
    Stall { hub: usize, lasts: u64 },
    /// A hub learns that a link is down, and later that it is up again (H-02).
    Carrier {
        hub: usize,
        neighbour: usize,
        lasts: u64,
    },
    /// The operator resets a neighbour.
    Clear { hub: usize, neighbour: usize },
    /// A packet with a right checksum and a wrong inside arrives (D-02).
    Malformed { link: usize, forth: bool },
    /// The wall clock of a hub is set.
    ClockStep { hub: usize, by_ms: i64 },
}

impl FaultKind {
    /// Names of all kinds, in the order of [`index`](Self::index).
    pub(crate) const LABELS: [&'static str; 10] = [
        "degraded",
        "one-way",
        "cut",
        "partition",
        "crash",
        "stall",
        "carrier",
        "clear",
        "malformed",
        "clock-step",
    ];

    pub(crate) const fn index(&self) -> usize {
        match self {
            Self::Degrade { .. } => 0,
            Self::OneWay { .. } => 1,
            Self::Cut { .. } => 2,
            Self::Partition { .. } => 3,
            Self::Crash { .. } => 4,
            Self::Stall { .. } => 5,
            Self::Carrier { .. } => 6,
            Self::Clear { .. } => 7,
            Self::Malformed { .. } => 8,
            Self::ClockStep { .. } => 9,
        }
    }

    /// How long it lasts, for those that end by themselves.
    pub(crate) const fn lasts(&self) -> Option<u64> {
        match self {
            Self::Degrade { lasts, .. }
            | Self::OneWay { lasts, .. }
            | Self::Cut { lasts, .. }
            | Self::Partition { lasts, .. }
            | Self::Carrier { lasts, .. } => Some(*lasts),
            Self::Crash { .. }
            | Self::Stall { .. }
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

/// Time that hubs stand still in all.
pub(super) fn stalled(faults: &[Fault]) -> u64 {
    let stalls = faults.iter().map(|fault| match fault.kind {
        FaultKind::Stall { lasts, .. } => lasts,
        _ => 0,
    });
    stalls.sum()
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
                kind: FaultKind::Crash { hub, down: None },
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
                    kind: FaultKind::Crash { hub, down },
                });
            }
            if rng.chance(300) {
                let at = rng.between(calm_at / 2, calm_at);
                for hub in 0..hubs {
                    let down = Some(rng.between(300 * MS, 4 * SEC));
                    faults.push(Fault {
                        at,
                        kind: FaultKind::Crash { hub, down },
                    });
                }
            }
        }
        Scenario::Skew => {
            for _ in 0..rng.below(4) {
                let by_ms = i64::try_from(rng.below(20_001)).expect("small") - 10_000;
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
    u32::try_from(rng.between(1, (1 << hubs) - 1)).expect("at most 7 hubs")
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
        crate::check::components(hubs, &plan.links, alive).len() <= 1
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
        down: Some(rng.between(300 * MS, 12 * SEC)),
    };
    if plan.links.is_empty() {
        return crash(rng);
    }
    let link = rng.index(plan.links.len());
    let forth = rng.chance(500);
    let degree = plan
        .links
        .iter()
        .filter(|(a, b)| *a == hub || *b == hub)
        .count();
    let neighbour = rng.index(degree.max(1));
    match rng.below(20) {
        0..4 => FaultKind::Degrade {
            link,
            forth,
            quality: worse(rng),
            lasts,
        },
        4..7 => FaultKind::OneWay { link, forth, lasts },
        7..9 => FaultKind::Cut { link, lasts },
        9..11 => FaultKind::Partition {
            side: side(plan.hubs.len(), rng),
            lasts,
        },
        11..15 => crash(rng),
        15 => FaultKind::Stall {
            hub,
            lasts: rng.pick(&[50 * MS, 500 * MS, 3 * SEC, 10 * SEC]),
        },
        16 => FaultKind::Carrier {
            hub,
            neighbour,
            lasts,
        },
        17 => FaultKind::Clear { hub, neighbour },
        18 => FaultKind::Malformed { link, forth },
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
