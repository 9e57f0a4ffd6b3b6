//! Seeds of every topology and scenario, and that a seed always plays the same.

use scsp_sim::{Check, Options, Plan, Sabotage, Scenario, Topology, run, shrink, shrink_with};

/// Runs seeds and names the first that fails.
fn pass(seeds: std::ops::Range<u64>, topology: Option<Topology>, scenario: Option<Scenario>) {
    for seed in seeds {
        let plan = Plan::new(seed, topology, scenario);
        let (stats, result) = run(plan, Options::default());
        if let Err(failure) = result {
            panic!("seed {seed}, {topology:?}, {scenario:?}: {failure}\n{stats}");
        }
        assert!(stats.packets.iter().sum::<u64>() > 0 || stats.alignments == 0);
    }
}

/// Goal: hubs in a line end up equal, with every acknowledged write.
#[test]
fn seeds_in_a_line() {
    pass(0..10, Some(Topology::Line), None);
}

/// Goal: the same where records come round.
#[test]
fn seeds_in_a_ring() {
    pass(100..110, Some(Topology::Ring), None);
}

/// Goal: the same around one hub.
#[test]
fn seeds_in_a_star() {
    pass(200..210, Some(Topology::Star), None);
}

/// Goal: the same where every record comes from everywhere.
#[test]
fn seeds_in_a_mesh() {
    pass(300..310, Some(Topology::Mesh), None);
}

/// Goal: the same where trees have further links.
#[test]
fn seeds_in_random_graphs() {
    pass(450..460, Some(Topology::Random), None);
}

/// Goal: H-10, CSU-14: the same where one packet reaches everybody.
#[test]
fn seeds_on_a_segment() {
    pass(480..490, Some(Topology::Segment), None);
}

/// Goal: CSU-15: the same where segments share hubs, with unicast links across and beside them.
#[test]
fn seeds_on_mixed_links() {
    pass(510..520, Some(Topology::Mixed), None);
}

/// Goal: the same in random trees.
#[test]
fn seeds_in_a_tree() {
    pass(400..410, Some(Topology::Tree), None);
}

/// Goal: a hub that starts late gets everything.
#[test]
fn late_joiners() {
    pass(0..8, None, Some(Scenario::LateJoiner));
}

/// Goal: what a hub wrote stays readable elsewhere when it is gone for good.
#[test]
fn hubs_gone_for_good() {
    pass(0..8, None, Some(Scenario::GoneForGood));
}

/// Goal: both sides of a long partition agree after it, deletes included.
#[test]
fn long_partitions() {
    pass(0..8, None, Some(Scenario::LongPartition));
}

/// Goal: restarts of all hubs, at once too, lose nothing that another hub held.
#[test]
fn restart_storms() {
    pass(0..8, None, Some(Scenario::RestartStorm));
}

/// Goal: at 30 % loss every adjacency aligns within bounded time.
#[test]
fn alignment_at_heavy_loss() {
    pass(0..5, None, Some(Scenario::HeavyLoss));
}

/// Goal: CA-07: with windows and in lock step, in the same worlds and at 30 % loss as well.
#[test]
fn pipelined_or_not() {
    for seed in 0..4 {
        for scenario in [
            None,
            Some(Scenario::HeavyLoss),
            Some(Scenario::RestartStorm),
        ] {
            let plan = Plan::new(seed, None, scenario);
            for plan in [plan.clone().pipelined(), plan.in_lock_step()] {
                let (stats, result) = run(plan, Options::default());
                if let Err(failure) = result {
                    panic!("seed {seed}, {scenario:?}: {failure}\n{stats}");
                }
            }
        }
    }
}

/// Goal: wall clocks that are seconds apart and jump do no harm.
#[test]
fn skewed_clocks() {
    pass(0..8, None, Some(Scenario::Skew));
}

/// Goal: one seed, one course of events: the fold of all events is equal in two runs and differs
/// between seeds.
#[test]
fn a_seed_always_plays_the_same() {
    let play = |seed| {
        let (stats, _) = run(Plan::new(seed, None, None), Options::default());
        (stats.hash, stats.events, stats.packets, stats.writes)
    };
    let first: Vec<_> = (500..510).map(play).collect();
    let second: Vec<_> = (500..510).map(play).collect();
    assert_eq!(first, second);
    for (at, one) in first.iter().enumerate() {
        assert!(first[at + 1..].iter().all(|other| other.0 != one.0));
    }
}

/// Goal: leaving a fault out changes nothing but that fault, and a plan that passes is not shrunk.
#[test]
fn plans_are_data() {
    let plan = Plan::new(3, None, Some(Scenario::RestartStorm));
    assert!(plan.faults_len() >= 2);
    assert_eq!(
        plan.with_faults(|fault| fault != 0).faults_len(),
        plan.faults_len() - 1
    );
    assert!(shrink(&plan).is_none());
}

/// Goal: what a failure does not need is left out: a hub that panics in any case needs no fault.
#[test]
fn failing_plans_are_shrunk() {
    let plan = Plan::new(3, None, Some(Scenario::RestartStorm));
    let options = Options {
        trace: false,
        sabotage: Some(Sabotage::Panic),
    };
    let shrunk = shrink_with(&plan, options).expect("it fails");
    assert_eq!(shrunk.plan.faults_len(), 0);
    assert_eq!(shrunk.failure.check, Check::Panic);
    assert!(shrunk.is_minimal && shrunk.plan.schedule().is_empty());
}
