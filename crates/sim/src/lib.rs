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
//! | `link.rs` | what links do to packets |
//! | `client.rs` | what clients do, and the ledger of what they were told |
//! | `check.rs` | rules for every packet and record |
//! | `report.rs` | counts, violations |
//! | `sabotage.rs` | rules broken on purpose, to test the checks |

#![forbid(unsafe_code)]

mod check;
mod client;
mod hub;
mod link;
pub mod plan;
pub mod report;
mod rng;
mod sabotage;
mod world;

pub use plan::{Plan, Scenario, Topology};
pub use report::{Check, Failure, Stats};
pub use sabotage::Sabotage;
pub use world::{Options, run};

/// Leaves out every fault that is not needed to make `plan` fail. Gives the plan back as it is
/// when it does not fail.
pub fn shrink(plan: &Plan) -> Plan {
    let fails = |plan: &Plan| run(plan.clone(), Options::default()).1.is_err();
    let mut plan = plan.clone();
    let mut step = plan.faults_len().div_ceil(2);
    while step > 0 {
        let mut from = 0;
        while from < plan.faults_len() {
            let fewer = plan.with_faults(|fault| !(from..from + step).contains(&fault));
            if fails(&fewer) {
                plan = fewer;
            } else {
                from += step;
            }
        }
        step = if step == 1 { 0 } else { step.div_ceil(2) };
    }
    plan
}
