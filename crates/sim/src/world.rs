//! The world: hubs, links and clients in one virtual time, driven by one heap of events.
//!
//! | file | holds |
//! |---|---|
//! | `world.rs` | the events and the scheduler |
//! | `world/input.rs` | packets, messages and deadlines coming to cores |
//! | `world/output.rs` | what cores say: packets and messages onto their ways |
//! | `world/chaos.rs` | faults coming and going |
//! | `world/work.rs` | clients |
//! | `world/quiet.rs` | is it quiet, and does it stay so |
//! | `world/verdict.rs` | is everything as it must be |
//! | `world/trace.rs` | one line per event |

mod chaos;
mod input;
mod output;
mod quiet;
mod trace;
mod verdict;
mod work;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use scsp_engine::shard::DATAGRAM_LEN_MAX;
use scsp_engine::{DcsIndex, LinkIndex, Now, alignment};
use scsp_wire::ServerId;

use crate::client::{self, Keys, Ledger, Write};
use crate::hub::{CoreMessage, Cores, Hub, Seen, instance_index, is_hello};
use crate::link::{Flaw, Link};
use crate::plan::{Plan, SEC, Scenario};
use crate::report::{Check, Failure, Stats};
use crate::rng::{Rng, Stream};
use crate::sabotage::Sabotage;

/// How often the group is asked whether it is quiet.
const PROBE_GAP: u64 = SEC / 4;

/// Something that happens at a moment.
#[derive(Debug)]
enum Event {
    /// A hub is started for the first time, or again after run `run`.
    Start { hub: usize, run: u32 },
    /// A packet arrives.
    Packet(Box<Travel>),
    /// A message of another core of the same hub arrives at `slot`.
    Core {
        hub: usize,
        run: u32,
        slot: usize,
        message: CoreMessage,
    },
    /// The deadline of a core has come.
    Wake { hub: usize, run: u32, slot: usize },
    /// A shard that collected packets is polled.
    Flush { hub: usize, run: u32, slot: usize },
    /// A hub writes a piece of a snapshot.
    Snapshot { hub: usize, run: u32 },
    /// A client does something.
    Client,
    /// Fault number `fault` of the plan begins.
    Fault { fault: usize },
    /// It ends.
    FaultEnd { fault: usize },
    /// Faults and writes end.
    Calm,
    /// Is it quiet?
    Probe,
}

/// A packet on its way.
#[derive(Debug)]
struct Travel {
    hub: usize,
    link: usize,
    /// The hub that sent it.
    from: usize,
    bytes: Vec<u8>,
    flaw: Flaw,
    /// One that waited while the hub stood still is lost when that run ends.
    run: Option<u32>,
    /// The core it waits for.
    slot: Option<usize>,
}

/// Result of a step.
type Step = Result<(), Failure>;

/// What a run is to do besides running.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Prints every event.
    pub trace: bool,
    /// Makes the world break a rule, to prove that this is noticed.
    pub sabotage: Option<Sabotage>,
}

/// A world in the middle of its run.
pub(crate) struct World {
    plan: Plan,
    options: Options,
    now: u64,
    /// (moment, order of scheduling, position in `events`).
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    vacant: Vec<usize>,
    scheduled: u64,
    /// Packets but Hellos and core messages that are on their way.
    in_flight: u64,
    /// When the last of them was sent.
    busy_at: u64,
    calm_since: Option<u64>,
    /// When it was found quiet, and what had been counted until then.
    quiet_since: Option<(u64, Stats)>,
    clients: Rng,
    hubs: Vec<Hub>,
    links: Vec<Link>,
    keys: Keys,
    ledger: Ledger,
    /// The hub whose entries were looked at last.
    swept: usize,
    operations: u64,
    stats: Stats,
    buffer: Vec<u8>,
    is_over: bool,
}

/// Runs a plan to its end. A panic of a core is a failure like any other, where panics unwind.
pub fn run(plan: Plan, options: Options) -> (Stats, Result<(), Failure>) {
    let mut world = World::new(plan, options);
    let run = AssertUnwindSafe(|| world.run());
    let result = catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        world.fail((Check::Panic, text.unwrap_or("without a word").to_owned()))
    });
    world.stats.virtual_ns = world.now;
    (world.stats, result)
}

impl World {
    fn new(plan: Plan, options: Options) -> Self {
        let seed = plan.seed;
        let mut world = Self {
            options,
            now: 0,
            heap: BinaryHeap::new(),
            events: Vec::new(),
            vacant: Vec::new(),
            scheduled: 0,
            in_flight: 0,
            busy_at: 0,
            calm_since: None,
            quiet_since: None,
            clients: Rng::new(seed, Stream::Client),
            hubs: (0..plan.hubs.len())
                .map(|index| Hub::new(&plan, index))
                .collect(),
            links: plan
                .links
                .iter()
                .enumerate()
                .map(|(index, link)| Link::new(seed, index, link, plan.quality))
                .collect(),
            keys: Keys::new(&plan),
            swept: 0,
            ledger: Ledger::new(&plan),
            operations: 0,
            stats: Stats::default(),
            buffer: vec![0; DATAGRAM_LEN_MAX],
            is_over: false,
            plan,
        };
        for hub in 0..world.hubs.len() {
            world.at(world.plan.hubs[hub].starts_at, Event::Start { hub, run: 0 });
        }
        for fault in 0..world.plan.faults.len() {
            world.at(world.plan.faults[fault].at, Event::Fault { fault });
        }
        world.stats.signed_worlds = u64::from(world.plan.auth.is_some());
        world.at(SEC, Event::Client);
        world.at(world.plan.calm_at, Event::Calm);
        world.at(PROBE_GAP, Event::Probe);
        world
    }

    fn run(&mut self) -> Step {
        while !self.is_over {
            let Reverse((at, order, position)) =
                self.heap.pop().expect("a probe is always scheduled");
            let event = self.events[position].take().expect("scheduled once");
            self.vacant.push(position);
            self.now = at;
            self.stats.events += 1;
            self.stats.fold(at);
            if self.options.trace {
                self.trace(&event);
            }
            self.handle(order, event)?;
        }
        Ok(())
    }

    fn handle(&mut self, order: u64, mut event: Event) -> Step {
        if let Some((hub, until)) = self.stalled(&event) {
            if self.options.trace {
                self.trace_line(format_args!("{hub} stands still"));
            }
            if let Event::Packet(travel) = &mut event {
                travel.run = Some(self.hubs[hub].run);
            }
            // In its old place among those of one moment: messages do not overtake each other.
            self.push(until, order, event);
            return Ok(());
        }
        match event {
            Event::Start { hub, run } => self.start(hub, run),
            Event::Packet(travel) => {
                if travel.flaw == Flaw::None && !is_hello(&travel.bytes) {
                    self.in_flight -= 1;
                }
                if travel
                    .run
                    .is_none_or(|run| run == self.hubs[travel.hub].run)
                {
                    self.packet(*travel)
                } else {
                    Ok(())
                }
            }
            Event::Core {
                hub,
                run,
                slot,
                message,
            } => {
                self.in_flight -= u64::from(!message.is_hello());
                self.core_message(hub, run, slot, message)
            }
            Event::Wake { hub, run, slot } => self.wake(hub, run, slot),
            Event::Flush { hub, run, slot } => {
                if self.is_running(hub, run) {
                    self.cores(hub).flush_due[slot] = false;
                    self.drain(hub, slot)?;
                }
                Ok(())
            }
            Event::Snapshot { hub, run } => {
                self.snapshot(hub, run);
                Ok(())
            }
            Event::Client => self.client(),
            Event::Fault { fault } => self.fault(fault),
            Event::FaultEnd { fault } => self.fault_end(fault),
            Event::Calm => {
                self.calm();
                Ok(())
            }
            Event::Probe => self.probe(),
        }
    }

    /// The hub of an event that stands still, or whose core does, and until when.
    fn stalled(&self, event: &Event) -> Option<(usize, u64)> {
        let (hub, slot) = match event {
            Event::Packet(travel) => (travel.hub, None),
            Event::Core { hub, slot, .. }
            | Event::Wake { hub, slot, .. }
            | Event::Flush { hub, slot, .. } => (*hub, Some(*slot)),
            Event::Snapshot { hub, .. } => (*hub, Some(0)),
            _ => return None,
        };
        let until = self.hubs[hub].awake_at(slot);
        (until > self.now).then_some((hub, until))
    }

    fn at(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.push(at, self.scheduled, event);
    }

    fn push(&mut self, at: u64, order: u64, event: Event) {
        let position = if let Some(position) = self.vacant.pop() {
            self.events[position] = Some(event);
            position
        } else {
            self.events.push(Some(event));
            self.events.len() - 1
        };
        self.heap.push(Reverse((at.max(self.now), order, position)));
    }

    fn fail<T>(&self, (check, detail): (Check, String)) -> Result<T, Failure> {
        Err(Failure {
            check,
            at: self.now,
            detail,
        })
    }

    pub(crate) fn options(&self) -> Options {
        self.options
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether it was found quiet, and is watched.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet_since.is_some()
    }

    pub(crate) fn run_of(&self, hub: usize) -> u32 {
        self.hubs[hub].run
    }

    /// Enters a write in the ledger.
    pub(crate) fn believe(&mut self, chain: usize, write: Write) {
        self.ledger.note(chain, write);
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// The alignment of a running hub with a DCS.
    pub(crate) fn alignment(&self, hub: usize, dcs: DcsIndex) -> Option<alignment::State> {
        self.hubs[hub]
            .cores
            .as_ref()
            .map(|cores| cores.control.peer(dcs).alignment)
    }

    pub(crate) fn neighbour_id(&self, hub: usize, dcs: DcsIndex) -> ServerId {
        self.hubs[self.hubs[hub].neighbour(dcs).hub].id
    }

    fn is_running(&self, hub: usize, run: u32) -> bool {
        self.hubs[hub].run == run && self.hubs[hub].cores.is_some()
    }

    pub(crate) fn cores(&mut self, hub: usize) -> &mut Cores {
        self.hubs[hub]
            .cores
            .as_mut()
            .expect("only running hubs have work")
    }

    pub(crate) fn clocks(&self, hub: usize) -> Now {
        self.hubs[hub].clocks(self.now)
    }

    fn start(&mut self, hub: usize, run: u32) -> Step {
        let this = &mut self.hubs[hub];
        if this.run != run || this.cores.is_some() || this.gone {
            return Ok(());
        }
        this.start(&self.plan, hub, self.now);
        let clocks = self.clocks(hub);
        let links = self.cores(hub).setup.links.len();
        for link in (0..).map(LinkIndex).take(links) {
            self.cores(hub).control.handle_link(clocks, link, true);
        }
        self.skip_hold(hub);
        if let Some(interval) = self.plan.hubs[hub].snapshot_interval {
            let run = self.hubs[hub].run;
            self.at(self.now + interval, Event::Snapshot { hub, run });
        }
        // What its disk brought.
        (0..self.hubs[hub].shards()).try_for_each(|shard| self.sweep(hub, shard))?;
        (0..self.cores(hub).slots()).try_for_each(|slot| self.drain(hub, slot))
    }

    /// Whether the plan's heavy loss goes on and every adjacency has been aligned once.
    fn loss_overcome(&self) -> bool {
        let all = self.hubs.iter().flat_map(|hub| &hub.watches);
        self.plan.scenario == Scenario::HeavyLoss
            && self.now > self.plan.writes_until
            && all.clone().all(|watch| watch.was_aligned)
    }
}

impl World {
    /// The chain of some record of hub 0 that lives for ever.
    pub(crate) fn live_chain(&self) -> Option<usize> {
        (0..self.hubs[0].shards()).find_map(|shard| {
            let mut from = 0;
            while let Some((next, found)) = self.entry_at(0, shard, 0, from) {
                from = next;
                let (chain, seen) = found?;
                let own = chain % self.hubs.len() == 0;
                if own && !seen.withdrawn && seen.expires.is_none() {
                    return Some(chain);
                }
            }
            None
        })
    }

    /// The hub with this id.
    fn hub_of(&self, id: &[u8]) -> Option<usize> {
        self.hubs.iter().position(|hub| hub.id.as_bytes() == id)
    }

    /// The first entry of a shard from position `from` on, with its chain when anybody can have
    /// written it, and where to go on.
    fn entry_at(
        &self,
        hub: usize,
        shard: usize,
        instance: usize,
        from: u32,
    ) -> Option<(u32, Option<(usize, Seen<'_>)>)> {
        let cores = self.hubs[hub].cores.as_ref()?;
        let store = cores.shards[shard].store(instance_index(instance));
        let (next, id) = store.scan_next(from)?;
        let entry = store.entry(id);
        let key = self.keys.number(instance, entry.key);
        let originator = self.hub_of(entry.originator);
        let chain = key
            .zip(originator)
            .and_then(|(key, originator)| client::chain(&self.plan, instance, key, originator));
        let is_kv = self.plan.instances[instance].is_kv;
        Some((next, chain.map(|chain| (chain, cores.see(&entry, is_kv)))))
    }
}
