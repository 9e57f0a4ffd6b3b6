//! What clients wrote and were told: the ledger against which the hubs are judged.

use std::fmt;
use std::time::Duration;

use crate::hub::Seen;
use crate::plan::{InstancePlan, Plan, SEC};
use crate::rng::Rng;

/// How long hubs keep withdrawn records: longer than any world lasts.
pub(crate) const RETENTION: Duration = Duration::from_hours(24);
/// Sequences from here on are those of entries that are about to start again.
pub(crate) const END_BEGINS: i32 = i32::MAX - 16;
/// Longest life of a record that is to expire before a world is judged.
pub(crate) const SHORT_LIFE_MAX: u64 = 20 * SEC;
/// Life of a record that outlives its world.
const LONG_LIFE: u64 = 6 * 3600 * SEC;

/// What a client asks for.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// `SET`, with a life in nanoseconds.
    Set { value: Vec<u8>, life: Option<u64> },
    /// `SET NX`.
    SetAbsent { value: Vec<u8> },
    /// `SET XX KEEPTTL`.
    SetKeeping { value: Vec<u8> },
    /// `EXPIRE` or `PERSIST`.
    Expire { life: Option<u64> },
    /// `DEL`.
    Delete,
    /// `GET`.
    Get,
    /// `SCSP.PUBLISH`.
    Publish { body: Vec<u8> },
    /// `SCSP.PURGE`.
    Purge,
    /// `SCSP.PUBLISH … SEQ n`, n so far below the end of the space (CSU-19).
    Number { value: Vec<u8>, below: i32 },
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set { value, life } => write!(f, "set {} octets, life {life:?}", value.len()),
            Self::SetAbsent { value } => write!(f, "set if absent {} octets", value.len()),
            Self::SetKeeping { value } => write!(f, "set keeping life {} octets", value.len()),
            Self::Expire { life } => write!(f, "expire {life:?}"),
            Self::Delete => f.write_str("delete"),
            Self::Get => f.write_str("get"),
            Self::Publish { body } => write!(f, "publish {} octets", body.len()),
            Self::Purge => f.write_str("purge"),
            Self::Number { below, .. } => write!(f, "publish {below} below the end"),
        }
    }
}

impl Operation {
    pub(crate) fn random(instance: &InstancePlan, number: u64, rng: &mut Rng) -> Self {
        let content = |rng: &mut Rng| {
            let filler = match rng.below(100) {
                0..90 => rng.index(40),
                90..98 => rng.index(400),
                _ => rng.index(4000),
            };
            let mut content = number.to_be_bytes().to_vec();
            content.resize(8 + filler, u8::try_from(number % 251).expect("below 251"));
            content
        };
        if rng.chance(instance.wraps_permille) {
            let below = i32::try_from(rng.below(4)).expect("small");
            let value = content(rng);
            return Self::Number { value, below };
        }
        if !instance.is_kv {
            return match rng.below(10) {
                0..8 => Self::Publish { body: content(rng) },
                _ => Self::Purge,
            };
        }
        let short = |rng: &mut Rng| rng.between(SEC / 10, SHORT_LIFE_MAX);
        match rng.below(100) {
            0..55 => Self::Set {
                value: content(rng),
                life: None,
            },
            55..68 => Self::Set {
                value: content(rng),
                life: Some(short(rng)),
            },
            68..74 => Self::Set {
                value: content(rng),
                life: Some(LONG_LIFE),
            },
            74..78 => Self::SetAbsent {
                value: content(rng),
            },
            78..81 => Self::SetKeeping {
                value: content(rng),
            },
            81..83 => Self::Expire {
                life: Some(short(rng)),
            },
            83..84 => Self::Expire { life: None },
            84..97 => Self::Delete,
            _ => Self::Get,
        }
    }
}

/// Cache key number `key`: of different lengths, an empty one and very long ones among them.
fn key_octets(is_kv: bool, key: u16) -> Vec<u8> {
    if !is_kv && key == 0 {
        return Vec::new();
    }
    let len = if key % 29 == 7 {
        255
    } else {
        2 + usize::from(key) * 37 % 24
    };
    let mut octets = key.to_be_bytes().to_vec();
    octets.resize(len, b'k');
    octets
}

/// All cache keys, by instance and number.
#[derive(Debug)]
pub(crate) struct Keys(Vec<Vec<Vec<u8>>>);

impl Keys {
    pub(crate) fn new(plan: &Plan) -> Self {
        let keys = plan.instances.iter().map(|instance| {
            let all = 0..instance.keys;
            all.map(|key| key_octets(instance.is_kv, key)).collect()
        });
        Self(keys.collect())
    }

    pub(crate) fn octets(&self, instance: usize, key: u16) -> &[u8] {
        &self.0[instance][usize::from(key)]
    }

    /// The number of a cache key, if it is one of ours.
    pub(crate) fn number(&self, instance: usize, octets: &[u8]) -> Option<u16> {
        let number = match octets {
            [] => 0,
            [high, low, ..] => u16::from_be_bytes([*high, *low]),
            [_] => return None,
        };
        let known = self.0[instance].get(usize::from(number))?;
        (known == octets).then_some(number)
    }
}

/// Where a chain, all records of one (instance, key, originator), stands in tables.
pub(crate) fn chain(plan: &Plan, instance: usize, key: u16, hub: usize) -> Option<usize> {
    let before: usize = plan.instances[..instance]
        .iter()
        .map(|it| usize::from(it.keys))
        .sum();
    let known = key < plan.instances[instance].keys && hub < plan.hubs.len();
    known.then(|| (before + usize::from(key)) * plan.hubs.len() + hub)
}

/// Key and originator of a chain.
pub(crate) fn unchain(plan: &Plan, instance: usize, chain: usize) -> (u16, usize) {
    let before: usize = plan.instances[..instance]
        .iter()
        .map(|it| usize::from(it.keys))
        .sum();
    let key = u16::try_from(chain / plan.hubs.len() - before).expect("few keys");
    (key, chain % plan.hubs.len())
}

/// Number of chains.
pub(crate) fn chains_len(plan: &Plan) -> usize {
    plan.instances
        .iter()
        .map(|it| usize::from(it.keys))
        .sum::<usize>()
        * plan.hubs.len()
}

/// An acknowledged write.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    /// Run of the hub that took it.
    pub(crate) run: u32,
    pub(crate) at: u64,
    pub(crate) seq: i32,
    pub(crate) stamp: u64,
    pub(crate) withdrawn: bool,
    pub(crate) content: Vec<u8>,
    pub(crate) expires: Option<u64>,
    /// Only hubs that crashed held it: nobody can be blamed when it is gone.
    pub(crate) lost: bool,
}

impl Write {
    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// All acknowledged writes, by chain, in the order in which they were acknowledged.
#[derive(Debug)]
pub(crate) struct Ledger {
    chains: Vec<Vec<Write>>,
}

impl Ledger {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            chains: vec![Vec::new(); chains_len(plan)],
        }
    }

    pub(crate) fn note(&mut self, chain: usize, write: Write) {
        self.chains[chain].push(write);
    }

    /// Whether a run of a hub reused sequences of an earlier one, because nobody it could reach
    /// remembered them when it wrote again. Two records with one sequence cannot be told apart by
    /// their summaries (RFC 2334 2.4): a known limit of CSU-20 for hubs without a disk.
    pub(crate) fn is_ambiguous(&self, chain: usize) -> bool {
        let writes = &self.chains[chain];
        let twice = |at: usize, write: &Write| {
            writes[..at]
                .iter()
                .any(|it| it.run != write.run && it.seq >= write.seq)
        };
        writes
            .iter()
            .enumerate()
            .any(|(at, write)| twice(at, write))
    }

    /// Whether a client may take a chain to the end of its sequences: once, and not where a copy of
    /// its first ones may be about. Nobody gets through four billion changes in a minute.
    pub(crate) fn may_wrap(&self, chain: usize) -> bool {
        let writes = &self.chains[chain];
        !self.wraps(chain) && writes.iter().all(|write| write.seq > 0)
    }

    /// Whether the sequences of a chain came to their end (CSU-19).
    pub(crate) fn wraps(&self, chain: usize) -> bool {
        self.chains[chain]
            .iter()
            .any(|write| write.seq >= END_BEGINS)
    }

    pub(crate) fn chain(&self, chain: usize) -> &[Write] {
        &self.chains[chain]
    }

    /// The write that a stored record stands for.
    pub(crate) fn identify(&self, chain: usize, is_kv: bool, seen: &Seen<'_>) -> Option<usize> {
        let wraps = self.wraps(chain);
        let same = |write: &Write| match (is_kv, seen.withdrawn) {
            (true, _) => write.stamp == seen.stamp,
            (false, true) => write.withdrawn && (wraps || write.seq <= seen.seq),
            (false, false) => !write.withdrawn && write.content == seen.content,
        };
        self.chains[chain].iter().rposition(same)
    }

    /// Position of the last write that must have survived.
    pub(crate) fn last_safe(&self, chain: usize) -> Option<usize> {
        self.chains[chain].iter().rposition(|write| !write.lost)
    }

    /// A hub crashed; of this chain the hubs still alive hold nothing newer than the write at
    /// `survivor`. Returns how many writes that takes with it.
    pub(crate) fn crashed(&mut self, chain: usize, survivor: Option<usize>) -> u64 {
        let from = survivor.map_or(0, |survivor| survivor + 1);
        let mut lost = 0;
        for write in self.chains[chain]
            .iter_mut()
            .skip(from)
            .filter(|write| !write.lost)
        {
            write.lost = true;
            lost += 1;
        }
        lost
    }
}
