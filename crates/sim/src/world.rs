//! The world: hubs, links and clients in one virtual time, driven by one heap of events.
//!
//! | file | holds |
//! |---|---|
//! | `world.rs` | the events and the scheduler |
//! | `world/input.rs` | packets, messages and deadlines coming to cores |
//! | `world/output.rs` | what cores say: packets and messages onto their ways |
//! | `world/chaos.rs` | faults coming and going |
//! | `world/work.rs` | clients |
//! | `world/verdict.rs` | is it quiet, is everything as it must be |
//! | `world/trace.rs` | one line per event |

mod chaos;
mod input;
mod output;
mod trace;
mod verdict;
mod work;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use scsp_engine::shard::DATAGRAM_LEN_MAX;
use scsp_engine::{DcsIndex, LinkIndex, Now, alignment};
use scsp_wire::{MessageType, ServerId};

use crate::client::Ledger;
use crate::hub::{CoreMessage, Cores, Hub};
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
    /// A packet arrives; one that waited while the hub stood still is lost when that run ends.
    Packet {
        hub: usize,
        link: usize,
        bytes: Vec<u8>,
        flaw: Flaw,
        run: Option<u32>,
    },
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
    network: Rng,
    schedule: Rng,
    clients: Rng,
    hub_seeds: Rng,
    hubs: Vec<Hub>,
    links: Vec<Link>,
    ledger: Ledger,
    operations: u64,
    stats: Stats,
    buffer: Vec<u8>,
    is_over: bool,
}

/// Runs a plan to its end.
pub fn run(plan: Plan, options: Options) -> (Stats, Result<(), Failure>) {
    let mut world = World::new(plan, options);
    let result = world.run();
    world.stats.virtual_ns = world.now;
    (world.stats, result)
}

impl World {
    fn new(plan: Plan, options: Options) -> Self {
        let seed = plan.seed;
        let rng = |stream| Rng::new(seed, stream);
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
            network: rng(Stream::Network),
            schedule: rng(Stream::Schedule),
            clients: rng(Stream::Client),
            hub_seeds: rng(Stream::Hubs),
            hubs: (0..plan.hubs.len())
                .map(|index| Hub::new(&plan, index))
                .collect(),
            links: plan
                .links
                .iter()
                .map(|ends| Link::new(*ends, plan.quality))
                .collect(),
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
        world.at(SEC, Event::Client);
        world.at(world.plan.calm_at, Event::Calm);
        world.at(PROBE_GAP, Event::Probe);
        world
    }

    fn run(&mut self) -> Step {
        while !self.is_over {
            let Reverse((at, _, position)) = self.heap.pop().expect("a probe is always scheduled");
            let event = self.events[position].take().expect("scheduled once");
            self.vacant.push(position);
            self.now = at;
            self.stats.events += 1;
            self.stats.fold(at);
            if self.options.trace {
                self.trace(&event);
            }
            self.handle(event)?;
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Step {
        if let Some((hub, until)) = self.stalled(&event) {
            if self.options.trace {
                self.trace_line(format_args!("{hub} stands still"));
            }
            let event = match event {
                Event::Packet {
                    hub,
                    link,
                    bytes,
                    flaw,
                    ..
                } => Event::Packet {
                    hub,
                    link,
                    bytes,
                    flaw,
                    run: Some(self.hubs[hub].run),
                },
                other => other,
            };
            self.at(until, event);
            return Ok(());
        }
        match event {
            Event::Start { hub, run } => self.start(hub, run),
            Event::Packet {
                hub,
                link,
                bytes,
                flaw,
                run,
            } => {
                if flaw == Flaw::None && !is_hello(&bytes) {
                    self.in_flight -= 1;
                }
                if run.is_none_or(|run| run == self.hubs[hub].run) {
                    self.packet(hub, link, &bytes, flaw)
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
                self.in_flight -= 1;
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

    /// The hub of an event that stands still, and until when.
    fn stalled(&self, event: &Event) -> Option<(usize, u64)> {
        let hub = match event {
            Event::Packet { hub, .. }
            | Event::Core { hub, .. }
            | Event::Wake { hub, .. }
            | Event::Flush { hub, .. } => *hub,
            _ => return None,
        };
        let until = self.hubs[hub].stalled_until;
        (until > self.now).then_some((hub, until))
    }

    fn at(&mut self, at: u64, event: Event) {
        let position = if let Some(position) = self.vacant.pop() {
            self.events[position] = Some(event);
            position
        } else {
            self.events.push(Some(event));
            self.events.len() - 1
        };
        self.scheduled += 1;
        self.heap
            .push(Reverse((at.max(self.now), self.scheduled, position)));
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

    /// Sends a packet past the checks.
    pub(crate) fn carry_back(&mut self, hub: usize, dcs: DcsIndex, bytes: &[u8]) {
        let neighbour = self.hubs[hub].neighbour(dcs);
        self.carry(neighbour.link, neighbour.forth, bytes);
    }

    fn is_running(&self, hub: usize, run: u32) -> bool {
        self.hubs[hub].run == run && self.hubs[hub].cores.is_some()
    }

    fn cores(&mut self, hub: usize) -> &mut Cores {
        self.hubs[hub]
            .cores
            .as_mut()
            .expect("only running hubs have work")
    }

    fn clocks(&self, hub: usize) -> Now {
        self.hubs[hub].clocks(self.now)
    }

    fn start(&mut self, hub: usize, run: u32) -> Step {
        let this = &mut self.hubs[hub];
        if this.run != run || this.cores.is_some() || this.gone {
            return Ok(());
        }
        this.start(&self.plan, hub, self.now, &mut self.hub_seeds);
        let clocks = self.clocks(hub);
        let links = self.cores(hub).setup.links.len();
        for link in (0..).map(LinkIndex).take(links) {
            self.cores(hub).control.handle_link(clocks, link, true);
        }
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

fn is_hello(bytes: &[u8]) -> bool {
    bytes.get(1) == Some(&MessageType::Hello.code())
}
