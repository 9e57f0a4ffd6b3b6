//! All is quiet: is everything as it must be?

use std::collections::BTreeMap;

use scsp_wire::ServerId;

use crate::client::{self, Write};
use crate::hub::{Seen, instance_index};
use crate::plan::{MS, components};
use crate::report::{Check, Excuse, Excuses, Failure};

use super::{Step, World};

/// What is wrong with what is held of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nobody wrote it.
    Foreign,
    /// Nothing is there.
    Missing,
    /// An older write is in its place.
    Older,
    /// It is withdrawn, and nobody did that.
    Withdrawn,
    /// Other content.
    Content,
    /// It lives shorter than promised, or longer than its ways took.
    Life,
}

/// (instance, key, originator).
type Name = (usize, u16, usize);
/// All records that a hub holds.
type Records<'a> = BTreeMap<Name, Seen<'a>>;

impl World {
    /// All is quiet: connected hubs hold the same, and hold what was acknowledged.
    pub(super) fn judge(&mut self) -> Step {
        for hub in &self.hubs {
            let Some(cores) = &hub.cores else { continue };
            for at in 0..cores.setup.instances.len() {
                let at = instance_index(at);
                let counts = cores
                    .shards
                    .iter()
                    .map(|shard| shard.counters(at).reoriginated);
                self.stats.reoriginated += counts.sum::<u64>();
            }
        }
        let alive = |hub: usize| self.hubs[hub].cores.is_some();
        let mut excuses = Excuses::default();
        let mut groups = Vec::new();
        for members in components(self.hubs.len(), &self.plan.pairs(), alive) {
            let first = self.records(members[0])?;
            self.reads(members[0], &first)?;
            for &hub in &members[1..] {
                let records = self.records(hub)?;
                self.reads(hub, &records)?;
                self.same((members[0], &first), (hub, &records), &mut excuses)?;
            }
            groups.push((members, first));
        }
        self.kept(&groups, &mut excuses)?;
        self.stats.excuses.add(&excuses);
        Ok(())
    }

    fn records(&self, hub: usize) -> Result<Records<'_>, Failure> {
        let cores = self.hubs[hub].cores.as_ref().expect("it is alive");
        let mut records = Records::new();
        for instance in 0..self.plan.instances.len() {
            for shard in 0..cores.shards.len() {
                let mut from = 0;
                while let Some((next, found)) = self.entry_at(hub, shard, instance, from) {
                    from = next;
                    let Some((chain, seen)) = found else {
                        let detail = format!("hub {hub} holds what nobody wrote");
                        return self.fail((Check::LostWrite, detail));
                    };
                    let (key, originator) = client::unchain(&self.plan, instance, chain);
                    records.insert((instance, key, originator), seen);
                }
            }
        }
        Ok(records)
    }

    /// Two connected hubs hold the same records, for about as long.
    fn same(
        &self,
        (a, left): (usize, &Records<'_>),
        (b, right): (usize, &Records<'_>),
        excuses: &mut Excuses,
    ) -> Step {
        let names = left
            .keys()
            .chain(right.keys().filter(|name| !left.contains_key(name)));
        for name in names {
            let (one, other) = (left.get(name), right.get(name));
            let equal = match (one, other) {
                (Some(one), Some(other)) => !self.differ(one, other),
                _ => false,
            };
            if equal {
                continue;
            }
            let Some(excuse) = self.may_differ(*name, one, other) else {
                let detail = format!(
                    "{name:?}: hub {a} holds {}, hub {b} {}; {}",
                    brief(one),
                    brief(other),
                    self.history(*name)
                );
                return self.fail((Check::Divergence, detail));
            };
            excuses.count(excuse);
        }
        Ok(())
    }

    fn differ(&self, one: &Seen<'_>, other: &Seen<'_>) -> bool {
        let life = match (one.expires, other.expires) {
            (Some(one), Some(other)) => one.abs_diff(other) > self.plan.life_tolerance(one),
            (one, other) => one.is_some() != other.is_some(),
        };
        (one.seq, one.withdrawn, one.stamp, one.content)
            != (other.seq, other.withdrawn, other.stamp, other.content)
            || life && !one.withdrawn
    }

    /// The documented limit by which two hubs may differ in this, if there is one.
    fn may_differ(
        &self,
        name: Name,
        one: Option<&Seen<'_>>,
        other: Option<&Seen<'_>>,
    ) -> Option<Excuse> {
        let (instance, key, _) = name;
        if let Some(excuse) = self.indistinct(name) {
            return Some(excuse);
        }
        let ((Some(seen), None) | (None, Some(seen))) = (one, other) else {
            return None;
        };
        if !self.plan.instances[instance].is_kv {
            return None;
        }
        // It went with its winner on one hub, and stayed or came anew on another that had seen
        // the winner replaced, or gone, before.
        if self.outlived_by_rivals(name, seen.stamp) {
            return Some(Excuse::GoneWithWinner);
        }
        // It went with a rival that one of two records with one sequence made the winner.
        let reused = (0..self.hubs.len()).any(|rival| self.is_ambiguous((instance, key, rival)));
        reused.then_some(Excuse::ReusedSequence)
    }

    /// Whether a run of the originator reused sequences.
    fn is_ambiguous(&self, (instance, key, originator): Name) -> bool {
        let chain = client::chain(&self.plan, instance, key, originator).expect("within the plan");
        self.ledger.is_ambiguous(chain)
    }

    /// The documented limit by which nobody can tell which of the originator's records is the last.
    fn indistinct(&self, name: Name) -> Option<Excuse> {
        let (instance, key, originator) = name;
        let chain = client::chain(&self.plan, instance, key, originator).expect("within the plan");
        let hub = &self.hubs[originator];
        if self.ledger.wraps(chain) && (hub.gone || hub.run > 1) {
            Some(Excuse::BeforePurge)
        } else {
            self.is_ambiguous(name).then_some(Excuse::ReusedSequence)
        }
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
            let at = instance_index(instance);
            let mut live = 0;
            for key in 0..plan.keys {
                let octets = self.keys.octets(instance, key);
                let winner = self.winner(records, instance, key);
                let expected = winner.map(|(_, seen)| seen).filter(|seen| !seen.withdrawn);
                let expected = expected.map(|seen| seen.content);
                live += u64::from(expected.is_some());
                let shard = &cores.shards[cores.owner(octets)];
                let read = shard.kv_get(this.clocks(self.now), at, octets);
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

    /// Every acknowledged write is there unless something later replaced it: where its originator
    /// is and remembers it, or else in some part of the group.
    fn kept(&self, groups: &[(Vec<usize>, Records<'_>)], excuses: &mut Excuses) -> Step {
        for (instance, plan) in self.plan.instances.iter().enumerate() {
            for key in 0..plan.keys {
                for originator in 0..self.hubs.len() {
                    self.kept_somewhere((instance, key, originator), groups, excuses)?;
                }
            }
        }
        Ok(())
    }

    fn kept_somewhere(
        &self,
        name: Name,
        groups: &[(Vec<usize>, Records<'_>)],
        excuses: &mut Excuses,
    ) -> Step {
        let (instance, key, originator) = name;
        let chain = client::chain(&self.plan, instance, key, originator).expect("within the plan");
        let safe = self.ledger.last_safe(chain);
        let wrote = |safe: usize| self.ledger.chain(chain)[safe].run;
        let remembers = safe.is_some_and(|safe| wrote(safe) == self.hubs[originator].run);
        let is_home = |members: &[usize]| remembers && members.contains(&originator);
        let has_home = groups.iter().any(|(members, _)| is_home(members));
        let mut lost = Ok(());
        for (members, records) in groups {
            let seen = records.get(&name);
            match self.kept_one(name, seen) {
                Ok(excuse) if is_home(members) || !has_home => {
                    if let Some(excuse) = excuse {
                        excuses.count(excuse);
                    }
                    return Ok(()); // That the others hold the same, or are parted, is known.
                }
                // It parted from the originator, and knows what it knew then.
                Ok(_) => {}
                Err((_, fault)) if has_home && !is_home(members) && fault != Fault::Foreign => {}
                Err((check, fault)) => {
                    let (seen, history) = (brief(seen), self.history(name));
                    let detail = format!("{name:?}: {fault:?}; held: {seen}; {history}");
                    lost = self.fail((check, detail));
                    if is_home(members) || fault == Fault::Foreign {
                        return lost;
                    }
                }
            }
        }
        lost
    }

    /// Whether what is held is the last safe write of a chain or a later one, or why it may be
    /// another.
    fn kept_one(
        &self,
        name: Name,
        seen: Option<&Seen<'_>>,
    ) -> Result<Option<Excuse>, (Check, Fault)> {
        let (instance, key, originator) = name;
        let is_kv = self.plan.instances[instance].is_kv;
        let chain = client::chain(&self.plan, instance, key, originator).expect("within the plan");
        let writes = self.ledger.chain(chain);
        let found = seen.map(|seen| self.ledger.identify(chain, is_kv, seen));
        if found == Some(None) {
            return Err((Check::LostWrite, Fault::Foreign));
        }
        let found = seen.zip(found.flatten());
        let Some(safe) = self.ledger.last_safe(chain) else {
            return Ok(None); // Nothing has to be there, and what is there was written.
        };
        let excuse = self.indistinct(name);
        let fail = |check, fault| excuse.map_or(Err((check, fault)), |excuse| Ok(Some(excuse)));
        let rank = (writes[safe].stamp, self.hubs[originator].id);
        let outlived = is_kv && self.outlived(instance, key, &rank);
        let Some((seen, at)) = found else {
            return if writes[safe].is_over(self.now) || outlived {
                Ok(None)
            } else {
                fail(Check::LostWrite, Fault::Missing)
            };
        };
        let write = &writes[at];
        // What is brought back after that, the originator withdraws if it still knows.
        let this = &self.hubs[originator];
        let forgotten = this.gone || write.run < this.whole_since;
        if outlived && (seen.withdrawn || forgotten) {
            return Ok((!seen.withdrawn).then_some(Excuse::LoserBack));
        }
        if at < safe && !seen.withdrawn {
            let over = writes[safe].withdrawn || writes[safe].is_over(self.now);
            // The rest of a record that went elsewhere with a rival, not with what came after it.
            let went = self.outlived_by_rivals(name, seen.stamp);
            return if over && forgotten {
                Ok(Some(Excuse::TakenBack))
            } else if over && is_kv && went {
                Ok(Some(Excuse::GoneWithWinner))
            } else if over {
                fail(Check::Resurrection, Fault::Older)
            } else {
                fail(Check::LostWrite, Fault::Older)
            };
        }
        if at < safe && !writes[safe].is_over(self.now) {
            return fail(Check::LostWrite, Fault::Older);
        }
        if writes[safe].is_over(self.now) {
            return Ok(None);
        }
        if seen.withdrawn && !write.withdrawn && this.is_mistaken(write.run, write.stamp) {
            return Ok(Some(Excuse::Mistaken));
        }
        if seen.withdrawn != write.withdrawn {
            return fail(Check::LostWrite, Fault::Withdrawn);
        }
        if seen.content != write.content {
            return fail(Check::LostWrite, Fault::Content);
        }
        if !self.lives(seen, write) {
            return fail(Check::Life, Fault::Life);
        }
        Ok(None)
    }

    /// D-21: nothing lives shorter than promised, or longer than its ways took.
    fn lives(&self, seen: &Seen<'_>, write: &Write) -> bool {
        match (seen.expires, write.expires) {
            (Some(seen), Some(promised)) => {
                let life = promised - write.at;
                seen + self.plan.rate_tolerance(life) + self.plan.wall_tolerance() >= promised
                    && seen.saturating_sub(promised) <= self.plan.life_tolerance(life)
            }
            (seen, promised) => seen.is_some() == promised.is_some() || write.withdrawn,
        }
    }

    /// K-04: a later write to this key is over, and takes what ranks below it along.
    fn outlived(&self, instance: usize, key: u16, rank: &(u64, ServerId)) -> bool {
        (0..self.hubs.len()).any(|rival| self.outlived_by(instance, key, rival, rank))
    }

    /// The same for later writes of other originators alone.
    fn outlived_by_rivals(&self, (instance, key, originator): Name, stamp: u64) -> bool {
        let rank = (stamp, self.hubs[originator].id);
        (0..self.hubs.len())
            .filter(|rival| *rival != originator)
            .any(|rival| self.outlived_by(instance, key, rival, &rank))
    }

    fn outlived_by(&self, instance: usize, key: u16, rival: usize, rank: &(u64, ServerId)) -> bool {
        let chain = client::chain(&self.plan, instance, key, rival).expect("within the plan");
        let id = self.hubs[rival].id;
        // A purge at the end of the sequences takes along what is smaller, too (CSU-19).
        let wraps = self.ledger.wraps(chain);
        let mut writes = self.ledger.chain(chain).iter();
        writes.any(|it| (it.stamp, id) > *rank && (wraps || it.is_over(self.now)))
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
