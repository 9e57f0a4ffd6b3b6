//! The smallest plan that still fails like a given one.

use crate::plan::Plan;
use crate::report::Failure;
use crate::world::{Options, run};

/// Most runs of one search.
const RUNS_MAX: u32 = 400;
/// Most events of one search, so that it ends within a minute or two on any machine.
const EVENTS_MAX: u64 = 60_000_000;

/// What was found.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The plan, with nothing in it that the failure does not need.
    pub plan: Plan,
    /// How it fails.
    pub failure: Failure,
    /// Runs it took.
    pub runs: u32,
    /// It went to its end, so that leaving out any one fault makes the plan pass.
    pub is_minimal: bool,
}

struct Search {
    options: Options,
    best: Plan,
    failure: Failure,
    runs: u32,
    events: u64,
}

impl Search {
    fn is_over(&self) -> bool {
        self.runs >= RUNS_MAX || self.events >= EVENTS_MAX
    }

    /// Takes `plan` for the best one if it fails in the same way.
    fn offer(&mut self, plan: Plan) -> bool {
        if self.is_over() {
            return false;
        }
        let (stats, result) = run(plan.clone(), self.options);
        self.runs += 1;
        self.events += stats.events;
        let Err(failure) = result else { return false };
        if failure.check != self.failure.check {
            return false;
        }
        (self.best, self.failure) = (plan, failure);
        true
    }

    /// Leaves out faults, many at once first; returns whether any could go.
    fn leave_out_faults(&mut self) -> bool {
        let before = self.best.faults_len();
        let mut step = before.div_ceil(2);
        while step > 0 {
            let mut from = 0;
            while from < self.best.faults_len() && !self.is_over() {
                let fewer = self
                    .best
                    .with_faults(|fault| !(from..from + step).contains(&fault));
                if !self.offer(fewer) {
                    from += step;
                }
            }
            step = if step == 1 { 0 } else { step.div_ceil(2) };
        }
        self.best.faults_len() < before
    }
}

/// Leaves out of `plan` every fault, and every complication, that is not needed to make it fail
/// as it does; `None` when it does not fail. The search is bounded, and finds the same each time.
pub fn shrink(plan: &Plan) -> Option<Shrunk> {
    shrink_with(plan, Options::default())
}

/// The same for runs with `options`.
pub fn shrink_with(plan: &Plan, options: Options) -> Option<Shrunk> {
    let (stats, result) = run(plan.clone(), options);
    let failure = result.err()?;
    let mut search = Search {
        options,
        best: plan.clone(),
        failure,
        runs: 1,
        events: stats.events,
    };
    loop {
        let mut progress = search.leave_out_faults();
        for simpler in search.best.simpler() {
            progress |= search.offer(simpler);
        }
        if !progress || search.is_over() {
            break;
        }
    }
    Some(Shrunk {
        is_minimal: !search.is_over(),
        plan: search.best,
        failure: search.failure,
        runs: search.runs,
    })
}
