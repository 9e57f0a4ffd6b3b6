//! How hubs are connected.

use crate::rng::Rng;

use super::MS;

/// How hubs are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Topology {
    /// Each with the next.
    Line,
    /// A line whose ends meet.
    Ring,
    /// All with the first.
    Star,
    /// Each with each.
    Mesh,
    /// Each with a random earlier one.
    Tree,
    /// A tree and some more links.
    Random,
    /// All on one multipoint link.
    Segment,
    /// Multipoint links that share hubs, and some unicast links, also beside them.
    Mixed,
}

/// One link.
#[derive(Clone, Debug)]
pub(crate) struct LinkPlan {
    /// The hubs it connects.
    pub(crate) members: Vec<usize>,
    /// One packet reaches all of them (H-10, CSU-14).
    pub(crate) multipoint: bool,
    /// Octets of the largest packet.
    pub(crate) packet_limit: usize,
}

/// What a way from one hub to another does to packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quality {
    /// Shortest time on the way.
    pub(crate) delay: u64,
    /// Up to this much is added at random, so that packets overtake each other.
    pub(crate) jitter: u64,
    pub(crate) loss_permille: u32,
    pub(crate) duplicate_permille: u32,
    pub(crate) corrupt_permille: u32,
}

impl Quality {
    /// A link that only takes its time.
    pub(crate) const CLEAN: Self = Self {
        delay: MS / 10,
        jitter: MS / 20,
        loss_permille: 0,
        duplicate_permille: 0,
        corrupt_permille: 0,
    };

    pub(crate) const fn transit_max(self) -> u64 {
        self.delay + self.jitter
    }
}

impl Topology {
    /// Every topology.
    pub const ALL: [Self; 8] = [
        Self::Line,
        Self::Ring,
        Self::Star,
        Self::Mesh,
        Self::Tree,
        Self::Random,
        Self::Segment,
        Self::Mixed,
    ];

    /// The hubs on each link, and whether that is a multipoint link.
    pub(super) fn links(self, hubs: usize, rng: &mut Rng) -> Vec<(Vec<usize>, bool)> {
        let pairs: Vec<(usize, usize)> = match self {
            Self::Line => (1..hubs).map(|hub| (hub - 1, hub)).collect(),
            Self::Ring => {
                let close = (hubs > 2).then_some((0, hubs.saturating_sub(1)));
                (1..hubs).map(|hub| (hub - 1, hub)).chain(close).collect()
            }
            Self::Star => (1..hubs).map(|hub| (0, hub)).collect(),
            Self::Mesh => (1..hubs)
                .flat_map(|hub| (0..hub).map(move |other| (other, hub)))
                .collect(),
            Self::Tree => tree(hubs, rng),
            Self::Random => {
                let mut pairs = tree(hubs, rng);
                let density = rng.pick(&[100, 300, 600]);
                for hub in 1..hubs {
                    for other in 0..hub {
                        if !pairs.contains(&(other, hub)) && rng.chance(density) {
                            pairs.push((other, hub));
                        }
                    }
                }
                pairs
            }
            Self::Segment if hubs == 1 => Vec::new(),
            Self::Segment => return vec![((0..hubs).collect(), true)],
            Self::Mixed => return mixed(hubs, rng),
        };
        let unicast = |(a, b)| (vec![a, b], false);
        pairs.into_iter().map(unicast).collect()
    }
}

/// Segments in a chain, each beginning with the last hub of the one before, and further links
/// between any two hubs.
fn mixed(hubs: usize, rng: &mut Rng) -> Vec<(Vec<usize>, bool)> {
    let mut links = Vec::new();
    let mut first = 0;
    while first + 1 < hubs {
        let last = (first + rng.pick(&[1, 2, 2, 3, 4])).min(hubs - 1);
        let multipoint = last - first > 1 || rng.chance(300);
        links.push(((first..=last).collect(), multipoint));
        first = last;
    }
    for hub in 1..hubs {
        for other in 0..hub {
            if rng.chance(150) {
                links.push((vec![other, hub], false));
            }
        }
    }
    links
}

fn tree(hubs: usize, rng: &mut Rng) -> Vec<(usize, usize)> {
    (1..hubs).map(|hub| (rng.index(hub), hub)).collect()
}

/// Groups of hubs that are connected by `pairs` through hubs which are `alive`.
pub(crate) fn components(
    hubs: usize,
    pairs: &[(usize, usize)],
    alive: impl Fn(usize) -> bool,
) -> Vec<Vec<usize>> {
    let mut group: Vec<usize> = (0..hubs).collect();
    for _ in 0..hubs {
        for &(a, b) in pairs.iter().filter(|(a, b)| alive(*a) && alive(*b)) {
            let least = group[a].min(group[b]);
            (group[a], group[b]) = (least, least);
        }
    }
    (0..hubs)
        .map(|root| {
            (0..hubs)
                .filter(|hub| alive(*hub) && group[*hub] == root)
                .collect()
        })
        .filter(|members: &Vec<usize>| !members.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    /// Goal: hubs are grouped by what connects them, through living hubs only.
    #[test]
    fn groups_of_hubs() {
        let links = [(0, 1), (1, 2), (2, 3)];
        assert_eq!(components(4, &links, |_| true), [vec![0, 1, 2, 3]]);
        assert_eq!(components(4, &links, |hub| hub != 1), [vec![0], vec![2, 3]]);
        assert!(components(4, &links, |_| false).is_empty());
    }

    /// Goal: every topology connects every number of hubs.
    #[test]
    fn topologies_are_connected() {
        let rng = &mut Rng::new(1, Stream::Plan);
        for topology in Topology::ALL {
            for hubs in 1..=12 {
                let mut pairs = Vec::new();
                for (members, multipoint) in topology.links(hubs, rng) {
                    assert!(multipoint || members.len() == 2, "{topology:?} of {hubs}");
                    pairs.extend(members.windows(2).map(|pair| (pair[0], pair[1])));
                }
                assert_eq!(components(hubs, &pairs, |_| true).len(), 1, "{topology:?}");
            }
        }
    }
}
