//! Is it quiet, and is everything as it must be?

use std::collections::BTreeMap;

use scsp_engine::{InstanceIndex, alignment};
use scsp_wire::ServerId;

use crate::check::components;
use crate::client::{self, Write};
use crate::hub::Seen;
use crate::plan::{MS, SEC, Scenario};
use crate::report::{Check, Failure};

use super::{Event, PROBE_GAP, Step, World};

/// Nothing but Hellos has to be sent for so long.
const QUIET: u64 = 5 * SEC / 2;

/// What is over stays in the cache, without life, for a few retransmit intervals.
const LINGER_MAX: u64 = 10 * SEC;

/// (instance, key, originator).
type Name = (usize, u16, usize);
/// All records that a hub holds.
type Records<'a> = BTreeMap<Name, Seen<'a>>;

impl World {
    pub(super) fn probe(&mut self) -> Step {
        self.at(self.now + PROBE_GAP, Event::Probe);
        let Some(since) = self.calm_since else {
            if self.loss_overcome() {
                self.calm();
            }
            return Ok(());
        };
        if self.plan.scenario == Scenario::HeavyLoss && since >= self.plan.calm_at {
            let never = |hub: &crate::hub::Hub| hub.watches.iter().any(|watch| !watch.was_aligned);
            let hubs: Vec<usize> = (0..self.hubs.len())
                .filter(|hub| never(&self.hubs[*hub]))
                .collect();
            if !hubs.is_empty() {
                let detail = format!("30 % loss: hubs {hubs:?} never aligned with a neighbour");
                return self.fail((Check::Liveness, detail));
            }
        }
        let restless = self.restless();
        // Until everything with a short life is gone everywhere, hubs may rightly differ.
        let settled = since + client::SHORT_LIFE_MAX + self.plan.life_tolerance() + LINGER_MAX;
        match restless {
            None if self.now >= settled => {
                self.is_over = true;
                self.judge()
            }
            Some(reason) if self.now > since + self.plan.quiet_within() => {
                self.fail((Check::Liveness, reason))
            }
            _ => Ok(()),
        }
    }

    /// Why it is not quiet.
    fn restless(&self) -> Option<String> {
        for (index, hub) in self.hubs.iter().enumerate().filter(|(_, hub)| !hub.gone) {
            let Some(cores) = &hub.cores else {
                return Some(format!("hub {index} is down"));
            };
            for dcs in 0..hub.watches.len() {
                let dcs = scsp_engine::DcsIndex(u16::try_from(dcs).expect("few"));
                let peer = hub.neighbour(dcs).hub;
                let status = cores.control.peer(dcs);
                let is_aligned = status.alignment == alignment::State::Aligned;
                if !is_aligned && self.hubs[peer].cores.is_some() {
                    let (hello, alignment) = (status.hello, status.alignment);
                    return Some(format!(
                        "hub {index} to hub {peer}: {hello:?}, {alignment:?}"
                    ));
                }
                for shard in &cores.shards {
                    let (queued, wanted) = (shard.queue_len(dcs), shard.requests_len(dcs));
                    if queued + wanted > 0 {
                        return Some(format!(
                            "hub {index} to hub {peer}: {queued} records queued, {wanted} wanted"
                        ));
                    }
                }
            }
            let held = (0..self.plan.instances.len()).any(|at| {
                let at = InstanceIndex(u16::try_from(at).expect("at most two"));
                cores.control.is_held(at) || cores.shards.iter().any(|shard| shard.is_held(at))
            });
            if held {
                return Some(format!("hub {index} is still loading"));
            }
        }
        if self.in_flight > 0 {
            return Some(format!(
                "{} packets or core messages on their way",
                self.in_flight
            ));
        }
        (self.now < self.busy_at + QUIET).then(|| "packets are still being sent".into())
    }

    /// All is quiet: connected hubs hold the same, and hold what was acknowledged.
    fn judge(&mut self) -> Step {
        for hub in &self.hubs {
            let Some(cores) = &hub.cores else { continue };
            for at in 0..cores.setup.instances.len() {
                let at = InstanceIndex(u16::try_from(at).expect("at most two"));
                let counts = cores
                    .shards
                    .iter()
                    .map(|shard| shard.counters(at).reoriginated);
                self.stats.reoriginated += counts.sum::<u64>();
            }
        }
        let alive = |hub: usize| self.hubs[hub].cores.is_some();
        let groups = components(self.hubs.len(), &self.plan.links, alive);
        let whole = groups.len() == 1;
        let mut remnants = (0, 0);
        for group in groups {
            let first = self.records(group[0])?;
            self.reads(group[0], &first)?;
            for &hub in &group[1..] {
                let records = self.records(hub)?;
                self.reads(hub, &records)?;
                let (gone, reused) = self.same(group[0], &first, hub, &records)?;
                remnants = (remnants.0 + gone, remnants.1 + reused);
            }
            if whole {
                self.kept(&first)?;
            }
        }
        self.stats.gone_with_winner += remnants.0;
        self.stats.reused_sequence += remnants.1;
        Ok(())
    }

    fn records(&self, hub: usize) -> Result<Records<'_>, Failure> {
        let cores = self.hubs[hub].cores.as_ref().expect("it is alive");
        let mut records = Records::new();
        for (instance, plan) in self.plan.instances.iter().enumerate() {
            let at = InstanceIndex(u16::try_from(instance).expect("at most two"));
            for shard in &cores.shards {
                let (store, mut from) = (shard.store(at), 0);
                while let Some((next, id)) = store.scan_next(from) {
                    from = next;
                    let entry = store.entry(id);
                    let originator = self
                        .hubs
                        .iter()
                        .position(|it| it.id.as_bytes() == entry.originator);
                    let key = client::key_number(plan.is_kv, entry.key);
                    let Some((key, originator)) = key.zip(originator) else {
                        let detail = format!("hub {hub} holds {entry:?}, which nobody wrote");
                        return self.fail((Check::LostWrite, detail));
                    };
                    records.insert((instance, key, originator), cores.see(&entry, plan.is_kv));
                }
            }
        }
        Ok(records)
    }

    /// Two connected hubs hold the same records, for about as long. Returns how many differ within
    /// the known limits of K-04 and of CSU-20.
    fn same(
        &self,
        a: usize,
        left: &Records<'_>,
        b: usize,
        right: &Records<'_>,
    ) -> Result<(u64, u64), Failure> {
        let tolerance = self.plan.life_tolerance();
        let differ = |one: &Seen<'_>, other: &Seen<'_>| {
            let life = match (one.expires, other.expires) {
                (Some(one), Some(other)) => one.abs_diff(other) > tolerance,
                (one, other) => one.is_some() != other.is_some(),
            };
            (one.seq, one.withdrawn, one.stamp, one.content)
                != (other.seq, other.withdrawn, other.stamp, other.content)
                || life && !one.withdrawn
        };
        let mut remnants = (0, 0);
        let names = left
            .keys()
            .chain(right.keys().filter(|name| !left.contains_key(name)));
        for name in names {
            let (one, other) = (left.get(name), right.get(name));
            let equal = match (one, other) {
                (Some(one), Some(other)) => !differ(one, other),
                _ => false,
            };
            if equal {
                continue;
            }
            if self.is_ambiguous(*name) {
                remnants.1 += 1;
            } else if self.taken_along(*name, left, right) {
                remnants.0 += 1;
            } else {
                let detail = format!(
                    "{name:?}: hub {a} holds {}, hub {b} {}; {}",
                    brief(one),
                    brief(other),
                    self.history(*name)
                );
                return self.fail((Check::Divergence, detail));
            }
        }
        Ok(remnants)
    }

    /// Whether a run of an originator reused sequences. Among the instances of a kv key that
    /// touches all, since one may win over, or go with, another (K-01, K-04).
    fn is_ambiguous(&self, (instance, key, originator): Name) -> bool {
        let all = self.plan.instances[instance].is_kv;
        let originators = if all {
            0..self.hubs.len()
        } else {
            originator..originator + 1
        };
        originators.into_iter().any(|hub| {
            let chain = client::chain(&self.plan, instance, key, hub).expect("within the plan");
            self.ledger.is_ambiguous(chain)
        })
    }

    /// K-04: a record went with its winner on one hub, and stayed or came anew on another that had
    /// seen the winner replaced, or gone, before. A known limit while each server decides by
    /// itself what goes.
    fn taken_along(&self, name: Name, left: &Records<'_>, right: &Records<'_>) -> bool {
        let (instance, key, originator) = name;
        let ((Some(seen), None) | (None, Some(seen))) = (left.get(&name), right.get(&name)) else {
            return false;
        };
        let rank = (seen.stamp, self.hubs[originator].id);
        self.plan.instances[instance].is_kv && self.outlived(instance, key, &rank)
    }

    /// Who wrote what clients read (K-01), and that.
    fn winner<'a>(
        &self,
        records: &'a Records<'_>,
        instance: usize,
        key: u16,
    ) -> Option<(usize, &'a Seen<'a>)> {
        let rivals = records.range((instance, key, 0)..(instance, key + 1, 0));
        let ranked = rivals.map(|((_, _, originator), seen)| (*originator, seen));
        ranked.max_by_key(|(originator, seen)| (seen.stamp, self.hubs[*originator].id))
    }

    /// K-01: clients of every hub read the value with the largest (timestamp, originator).
    fn reads(&self, hub: usize, records: &Records<'_>) -> Step {
        let this = &self.hubs[hub];
        let cores = this.cores.as_ref().expect("it is alive");
        for (instance, plan) in self
            .plan
            .instances
            .iter()
            .enumerate()
            .filter(|(_, it)| it.is_kv)
        {
            let at = InstanceIndex(u16::try_from(instance).expect("at most two"));
            let mut live = 0;
            for key in 0..plan.keys {
                let octets = client::key_octets(true, key);
                let winner = self.winner(records, instance, key);
                let expected = winner.map(|(_, seen)| seen).filter(|seen| !seen.withdrawn);
                let expected = expected.map(|seen| seen.content);
                live += u64::from(expected.is_some());
                let shard = &cores.shards[cores.owner(&octets)];
                let read = shard.kv_get(this.clocks(self.now), at, &octets);
                if read.map(|value| value.map(|value| value.value)) != Ok(expected) {
                    return self.fail((Check::Client, format!("hub {hub}, key {key}: {read:?}")));
                }
            }
            let counted: u64 = cores
                .shards
                .iter()
                .filter_map(|shard| shard.kv_len(at).ok())
                .sum();
            if counted != live {
                let detail = format!("hub {hub} counts {counted} keys, there are {live}");
                return self.fail((Check::Client, detail));
            }
        }
        Ok(())
    }

    /// Every acknowledged write is there unless something later replaced it.
    fn kept(&self, records: &Records<'_>) -> Step {
        for (instance, plan) in self.plan.instances.iter().enumerate() {
            for key in 0..plan.keys {
                for originator in 0..self.hubs.len() {
                    let name = (instance, key, originator);
                    if let Err(reason) = self.kept_one(name, records.get(&name)) {
                        let seen = brief(records.get(&name));
                        let detail =
                            format!("{name:?}: {reason}; held: {seen}; {}", self.history(name));
                        return self.fail((Check::LostWrite, detail));
                    }
                }
            }
        }
        Ok(())
    }

    fn kept_one(&self, name: Name, seen: Option<&Seen<'_>>) -> Result<(), &'static str> {
        let (instance, key, originator) = name;
        let is_kv = self.plan.instances[instance].is_kv;
        let chain = client::chain(&self.plan, instance, key, originator).expect("within the plan");
        let writes = self.ledger.chain(chain);
        let found = seen.map(|seen| self.ledger.identify(chain, is_kv, seen));
        if found == Some(None) {
            return Err("nobody wrote this");
        }
        if self.is_ambiguous(name) {
            return Ok(());
        }
        let safe = self.ledger.last_safe(chain);
        let Some(safe) = safe.filter(|safe| !writes[*safe].is_over(self.now)) else {
            return Ok(()); // Nothing has to be there, and what is there was written.
        };
        let rank = (writes[safe].stamp, self.hubs[originator].id);
        let outlived = is_kv && self.outlived(instance, key, &rank);
        match (seen, found.flatten()) {
            (Some(seen), Some(at)) => {
                let write = &writes[at];
                // What is brought back after that, the originator withdraws if it still knows.
                let forgetful = self.hubs[originator].run > 1 || self.hubs[originator].gone;
                if outlived && (seen.withdrawn || forgetful) {
                    return Ok(());
                }
                if at < safe {
                    return Err("an older write is in its place");
                }
                if seen.withdrawn != write.withdrawn {
                    return Err("withdrawn by nobody");
                }
                if seen.content != write.content {
                    return Err("other content");
                }
                self.lives(seen, write)
            }
            _ if outlived => Ok(()),
            _ => Err("an acknowledged write is gone"),
        }
    }

    /// D-21: nothing lives shorter than promised, or longer than its ways took.
    fn lives(&self, seen: &Seen<'_>, write: &Write) -> Result<(), &'static str> {
        let fits = match (seen.expires, write.expires) {
            (Some(seen), Some(promised)) => {
                seen >= promised && seen - promised <= self.plan.life_tolerance()
            }
            (seen, promised) => seen.is_some() == promised.is_some() || write.withdrawn,
        };
        if fits { Ok(()) } else { Err("wrong life") }
    }

    /// K-04: a later write to this key is over, and takes what ranks below it along.
    fn outlived(&self, instance: usize, key: u16, rank: &(u64, ServerId)) -> bool {
        (0..self.hubs.len()).any(|rival| {
            let chain = client::chain(&self.plan, instance, key, rival).expect("within the plan");
            let id = self.hubs[rival].id;
            let writes = self.ledger.chain(chain).iter();
            writes
                .filter(|it| (it.stamp, id) > *rank)
                .any(|it| it.is_over(self.now))
        })
    }

    fn history(&self, (instance, key, originator): Name) -> String {
        let chain = client::chain(&self.plan, instance, key, originator).expect("within the plan");
        let writes = self.ledger.chain(chain);
        let from = self
            .ledger
            .last_safe(chain)
            .unwrap_or(0)
            .min(writes.len().saturating_sub(4));
        let last = writes[from..].iter().map(|write| {
            format!(
                "[run {} at {} ms seq {} stamp {:#x}{}{}{}]",
                write.run,
                write.at / MS,
                write.seq,
                write.stamp,
                if write.withdrawn { " withdrawn" } else { "" },
                write
                    .expires
                    .map_or(String::new(), |at| format!(" until {} ms", at / MS)),
                if write.lost { " lost" } else { "" },
            )
        });
        format!("last writes {}", last.collect::<Vec<_>>().join(" "))
    }
}

fn brief(seen: Option<&Seen<'_>>) -> String {
    seen.map_or("nothing".into(), |seen| {
        let withdrawn = if seen.withdrawn { " withdrawn" } else { "" };
        let expires = seen.expires.map(|at| at / MS);
        let len = seen.content.len();
        format!(
            "seq {} stamp {:#x}{withdrawn} {len} octets until {expires:?} ms",
            seen.seq, seen.stamp
        )
    })
}
