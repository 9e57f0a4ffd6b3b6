//! Seeded simulator: many hubs, each with the very cores of the daemon, in one virtual time with
//! lossy links, crashes, partitions and clients. One seed decides everything; a run of a seed can
//! be repeated to the last event.
//!
//! Faults and writes go on for a while, then end; the group has to come to rest in bounded time,
//! hold the same records everywhere and have kept every acknowledged write. Beside that every
//! packet is judged when it is sent.
//!
//! | file | holds |
//! |---|---|
//! | `plan.rs`, `plan/` | what a seed decides |
//! | `world.rs`, `world/` | the events and what they do |
//! | `hub.rs` | a hub: the cores and their slots |
//! | `disk.rs` | what outlives a hub's process |
//! | `link.rs` | what links do to packets |
//! | `client.rs` | what clients do, and the ledger of what they were told |
//! | `check.rs`, `check/` | rules for every packet and record |
//! | `report.rs` | counts, violations |
//! | `sabotage.rs` | rules broken on purpose, to test the checks |
//! | `shrink.rs` | the smallest plan that still fails |

#![forbid(unsafe_code)]

mod check;
mod client;
mod disk;
mod hub;
mod link;
pub mod plan;
pub mod report;
mod rng;
mod sabotage;
mod shrink;
mod world;

pub use plan::{Plan, Scenario, Topology};
pub use report::{Check, Excuse, Failure, Stats};
pub use sabotage::Sabotage;
pub use shrink::{Shrunk, shrink, shrink_with};
pub use world::{Options, run};
