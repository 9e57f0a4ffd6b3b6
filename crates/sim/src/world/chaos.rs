//! Faults coming and going.

use scsp_engine::{DcsIndex, LinkIndex};
use scsp_wire::checksum;

use crate::client;
use crate::disk::Writing;
use crate::hub::instance_index;
use crate::link::Flaw;
use crate::plan::{End, FaultKind, MS};

use super::{Event, Step, Travel, World};

/// Between two steps of writing a snapshot.
const SNAPSHOT_STEP: u64 = 20 * MS;
/// Where the start of extensions stands in every packet.
const EXTENSIONS_FIELD: std::ops::Range<usize> = 6..8;

impl World {
    pub(super) fn fault(&mut self, fault: usize) -> Step {
        if self.calm_since.is_some() {
            return Ok(());
        }
        let kind = self.plan.faults[fault].kind.clone();
        self.stats.faults[kind.index()] += 1;
        if let Some(lasts) = kind.lasts() {
            self.at(self.now + lasts, Event::FaultEnd { fault });
        }
        match kind {
            FaultKind::Degrade {
                link,
                from,
                to,
                quality,
                ..
            } => self.links[link].way_mut(from, to).quality = quality,
            FaultKind::OneWay {
                link,
                from,
                to,
                lasts,
            } => {
                let way = self.links[link].way_mut(from, to);
                way.blocked += 1;
                way.dead |= lasts.is_none();
            }
            FaultKind::Cut { link, .. } => self.block(|at, _| at == link, true),
            FaultKind::Partition { side, .. } => self.block(|_, ends| parted(side, ends), true),
            FaultKind::Crash { hub, down, end } => self.crash(hub, down, end),
            FaultKind::Squeeze { hub, permille, .. } => self.squeeze(hub, permille),
            FaultKind::Stall { hub, lasts } => self.stall(hub, lasts),
            FaultKind::SlowCore { hub, slot, lasts } => self.slow_down(hub, slot, lasts),
            FaultKind::Carrier { hub, link, .. } => return self.carrier(hub, link, false),
            FaultKind::Clear { hub, neighbour } => return self.clear(hub, neighbour),
            FaultKind::Malformed { link, from, to } => self.malformed(link, from, to),
            FaultKind::ClockStep { hub, by_ms } => self.hubs[hub].clock_offset_ms += by_ms,
        }
        Ok(())
    }

    pub(super) fn fault_end(&mut self, fault: usize) -> Step {
        let kind = &self.plan.faults[fault].kind;
        if self.calm_since.is_some() && !matches!(kind, FaultKind::Carrier { .. }) {
            return Ok(());
        }
        match *kind {
            FaultKind::Degrade { link, from, to, .. } => {
                self.links[link].way_mut(from, to).quality = self.plan.quality;
            }
            FaultKind::OneWay { link, from, to, .. } => {
                self.links[link].way_mut(from, to).blocked -= 1;
            }
            FaultKind::Squeeze { hub, .. } => self.release(hub),
            FaultKind::Cut { link, .. } => self.block(|at, _| at == link, false),
            FaultKind::Partition { side, .. } => self.block(|_, ends| parted(side, ends), false),
            FaultKind::Carrier { hub, link, .. } => {
                let until = self.hubs[hub].awake_at(Some(0));
                if until <= self.now {
                    return self.carrier(hub, link, true);
                }
                self.at(until, Event::FaultEnd { fault });
            }
            _ => {}
        }
        Ok(())
    }

    /// Faults and writes end: links are clean from here on. Stalls, lost carriers and the absence
    /// of crashed hubs end in their own time.
    pub(super) fn calm(&mut self) {
        if self.calm_since.is_some() {
            return;
        }
        self.calm_since = Some(self.now);
        self.busy_at = self.now;
        for link in &mut self.links {
            link.heal();
        }
        for hub in 0..self.hubs.len() {
            self.release(hub);
        }
        self.forget();
    }

    /// Outages of the ways, given by link and the hubs at its ends, that `hits` picks.
    fn block(&mut self, hits: impl Fn(usize, (usize, usize)) -> bool, on: bool) {
        for (position, link) in self.links.iter_mut().enumerate() {
            for (from, to, way) in link.ways_mut() {
                if hits(position, (from, to)) {
                    way.blocked = if on { way.blocked + 1 } else { way.blocked - 1 };
                }
            }
        }
    }

    /// The hub's process ends. What only its memory held ends with it.
    fn crash(&mut self, hub: usize, down: Option<u64>, end: End) {
        let is_running = self.hubs[hub].cores.is_some();
        if is_running {
            self.leave(hub, end);
        }
        let this = &mut self.hubs[hub];
        let run = this.run;
        this.cores = None;
        match down {
            // Packets of a run are gone before the next one can have aligned.
            Some(down) if is_running => {
                let at = self.now + down + self.plan.transit_max();
                self.at(at, Event::Start { hub, run });
            }
            Some(_) => return,
            None => this.gone = true,
        }
        for instance in 0..self.plan.instances.len() {
            for key in 0..self.plan.instances[instance].keys {
                for originator in 0..self.hubs.len() {
                    self.mourn(instance, key, originator);
                }
            }
        }
    }

    /// What a process leaves on its disk when it ends.
    fn leave(&mut self, hub: usize, end: End) {
        let clocks = self.clocks(hub);
        let this = &mut self.hubs[hub];
        let (Some(cores), Some(disk)) = (&this.cores, &mut this.disk) else {
            return;
        };
        match end {
            End::Killed => {}
            End::Damaged => disk.damage(),
            End::Stopped => {
                let mut writing = Writing::new(cores.shards.len());
                while !writing.step(clocks, &cores.shards) {}
                disk.commit(writing, cores.setup.hash_seed, true);
            }
        }
    }

    /// A hub gets less memory.
    fn squeeze(&mut self, hub: usize, permille: u64) {
        let instances = self.plan.instances.len();
        let this = &mut self.hubs[hub];
        let Some(cores) = &mut this.cores else {
            return;
        };
        this.was_squeezed = true;
        for shard in &mut cores.shards {
            let used = (0..instances).map(|at| shard.bytes(instance_index(at)));
            let most = used.sum::<usize>() as u64 * permille / 1000;
            shard.limit_memory(usize::try_from(most).expect("little"));
        }
    }

    /// It gets enough again.
    fn release(&mut self, hub: usize) {
        if let Some(cores) = &mut self.hubs[hub].cores {
            for shard in &mut cores.shards {
                shard.limit_memory(usize::MAX);
            }
        }
    }

    /// One step of writing a snapshot.
    pub(super) fn snapshot(&mut self, hub: usize, run: u32) {
        let Some(interval) = self.plan.hubs[hub].snapshot_interval else {
            return;
        };
        if !self.is_running(hub, run) {
            return;
        }
        let clocks = self.clocks(hub);
        let this = &mut self.hubs[hub];
        let (Some(cores), Some(disk)) = (&this.cores, &mut this.disk) else {
            return;
        };
        let mut writing = this
            .writing
            .take()
            .unwrap_or_else(|| Writing::new(cores.shards.len()));
        let wait = if writing.step(clocks, &cores.shards) {
            disk.commit(writing, cores.setup.hash_seed, false);
            self.stats.snapshots += 1;
            interval
        } else {
            this.writing = Some(writing);
            SNAPSHOT_STEP
        };
        if self.calm_since.is_none() {
            self.at(self.now + wait, Event::Snapshot { hub, run });
        }
    }

    /// Notes which writes of a chain no hub holds any more.
    fn mourn(&mut self, instance: usize, key: u16, originator: usize) {
        let chain = client::chain(&self.plan, instance, key, originator).expect("within the plan");
        if self.ledger.last_safe(chain).is_none() {
            return;
        }
        let is_kv = self.plan.instances[instance].is_kv;
        let at = instance_index(instance);
        let octets = self.keys.octets(instance, key);
        let id = self.hubs[originator].id;
        let held = self.hubs.iter().filter(|hub| !hub.gone).filter_map(|hub| {
            let seen = match &hub.cores {
                Some(cores) => cores.find(at, octets, id.as_bytes())?,
                None => hub
                    .disk
                    .as_ref()?
                    .find(instance, is_kv, octets, id.as_bytes())?,
            };
            self.ledger.identify(chain, is_kv, &seen)
        });
        let survivor = held.max();
        self.stats.lost_with_hub += self.ledger.crashed(chain, survivor);
    }

    fn stall(&mut self, hub: usize, lasts: u64) {
        let until = self.hubs[hub].stalled_until.max(self.now + lasts);
        self.hubs[hub].stalled_until = until;
        self.hubs[hub].lags_by(self.now, until, lasts);
        self.pause_hellos(hub, until);
    }

    fn slow_down(&mut self, hub: usize, slot: usize, lasts: u64) {
        let (now, is_control) = (self.now, slot == 0);
        let this = &mut self.hubs[hub];
        let Some(cores) = &mut this.cores else {
            return;
        };
        let Some(slow) = cores.slow_until.get_mut(slot) else {
            return; // A plan that was shrunk has fewer shards.
        };
        let until = (*slow).max(now + lasts);
        *slow = until;
        this.lags_by(now, until, lasts);
        if is_control {
            self.pause_hellos(hub, until);
        }
    }

    fn pause_hellos(&mut self, hub: usize, until: u64) {
        let until = self.hubs[hub].local(until);
        for watch in &mut self.hubs[hub].watches {
            watch.pause_hellos(until);
        }
    }

    /// A link of a hub goes down or comes up (H-02).
    fn carrier(&mut self, hub: usize, port: usize, up: bool) -> Step {
        if !self.is_awake(hub) || port >= self.hubs[hub].ports.len() {
            return Ok(());
        }
        let clocks = self.clocks(hub);
        let link = LinkIndex(u16::try_from(port).expect("few"));
        self.cores(hub).control.handle_link(clocks, link, up);
        self.drain(hub, 0)
    }

    /// Whether the hub runs and its `Control` does not stand still.
    fn is_awake(&self, hub: usize) -> bool {
        self.hubs[hub].cores.is_some() && self.hubs[hub].awake_at(Some(0)) <= self.now
    }

    fn clear(&mut self, hub: usize, neighbour: usize) -> Step {
        for dcs in self.dcs_of(hub, neighbour) {
            let clocks = self.clocks(hub);
            self.cores(hub).control.handle_clear(clocks, dcs);
            self.drain(hub, 0)?;
        }
        Ok(())
    }

    /// The DCSs of a neighbour, none while the hub does not run or stands still.
    fn dcs_of(&self, hub: usize, neighbour: usize) -> Vec<DcsIndex> {
        let this = &self.hubs[hub];
        let runs = self.is_awake(hub) && neighbour < this.neighbours.len();
        let instances = if runs { self.plan.instances.len() } else { 0 };
        (0..instances)
            .map(|instance| this.dcs(instance, neighbour))
            .collect()
    }

    /// A CSUS whose extensions start where none can: whole, but malformed beyond its common part.
    fn malformed(&mut self, link: usize, from: usize, to: usize) {
        let members = &self.links[link].members;
        let (from, to) = (members[from], members[to]);
        let Some(cores) = &self.hubs[from].cores else {
            return;
        };
        let instance = &cores.setup.instances[0];
        let header = scsp_wire::Header {
            protocol: instance.protocol,
            group: instance.group,
            sender: self.hubs[from].id.as_bytes(),
            receiver: self.hubs[to].id.as_bytes(),
        };
        let mut bytes = [0; 256];
        let builder = scsp_wire::Builder::csus(&mut bytes, 256, &header).expect("two ids fit");
        let len = builder.finish();
        let bytes = &mut bytes[..len];
        bytes[EXTENSIONS_FIELD].copy_from_slice(&3_u16.to_be_bytes());
        checksum::seal(bytes);
        self.in_flight += 1;
        let travel = Travel {
            hub: to,
            link,
            from,
            bytes: bytes.to_vec(),
            flaw: Flaw::None,
            run: None,
            slot: None,
        };
        self.at(self.now + MS, Event::Packet(Box::new(travel)));
    }
}

/// Whether the ends of a link are on different sides.
fn parted(side: u32, (a, b): (usize, usize)) -> bool {
    (side >> a ^ side >> b) & 1 == 1
}
