//! Every check can fail: hub 0, or the world, breaks a rule outside the cores, and that is
//! noticed for what it is.

use scsp_sim::{Check, Options, Plan, Sabotage, Scenario, Topology, run};

/// The worlds in which a rule is broken: three hubs or more, so that records are sent on.
fn worlds(scenario: Scenario) -> impl Iterator<Item = Plan> {
    linked(Topology::Mesh, scenario)
}

fn linked(topology: Topology, scenario: Scenario) -> impl Iterator<Item = Plan> {
    let plan = move |seed| Plan::new(seed, Some(topology), Some(scenario)).unsigned();
    (0..).map(plan).filter(|plan| plan.hubs_len() > 2).take(6)
}

/// The check that notices `sabotage` first, by world.
fn noticed(sabotage: Sabotage, worlds: impl Iterator<Item = Plan>) -> Vec<Option<Check>> {
    let options = Options {
        trace: false,
        sabotage: Some(sabotage),
    };
    worlds
        .map(|plan| run(plan, options).1.err().map(|failure| failure.check))
        .collect()
}

/// Most worlds notice, and all of those for one of the right reasons.
fn assert_reasons(sabotage: Sabotage, noticed: &[Option<Check>], reasons: &[Check]) {
    let hits = noticed.iter().flatten().count();
    assert!(hits >= 4, "{sabotage:?}: {noticed:?}");
    let is_right = |check: &Check| reasons.contains(check);
    assert!(
        noticed.iter().flatten().all(is_right),
        "{sabotage:?}: {noticed:?}"
    );
}

/// It is noticed in worlds without any fault.
fn assert_noticed(sabotage: Sabotage, reasons: &[Check]) {
    let worlds = worlds(Scenario::Chaos).map(Plan::without_faults);
    assert_reasons(sabotage, &noticed(sabotage, worlds), reasons);
}

/// Goal: without sabotage the same worlds pass.
#[test]
fn nothing_to_notice() {
    let segments = linked(Topology::Segment, Scenario::Chaos);
    for plan in worlds(Scenario::Chaos)
        .chain(segments)
        .map(Plan::without_faults)
    {
        let seed = plan.seed;
        let (_, result) = run(plan, Options::default());
        assert!(result.is_ok(), "seed {seed}: {result:?}");
    }
}

/// Goal: a record that was acknowledged and dropped makes hubs differ.
#[test]
fn swallowed_records() {
    let reasons = [Check::Divergence, Check::LostWrite, Check::Resurrection];
    assert_noticed(Sabotage::SwallowedRecords, &reasons);
}

/// Goal: a hub that takes no part in alignment keeps the group from coming to rest.
#[test]
fn muted_alignment() {
    assert_noticed(Sabotage::MutedAlignment, &[Check::Liveness]);
}

/// Goal: H-03, a hub that stops sending Hellos is noticed.
#[test]
fn h_03_muted_hello() {
    assert_noticed(Sabotage::MutedHello, &[Check::HelloGap]);
}

/// Goal: CSU-16, a record without hops left is not sent.
#[test]
fn csu_16_spent_hops() {
    assert_noticed(Sabotage::SpentHops, &[Check::HopCount]);
}

/// Goal: CSU-16, hop counts do not grow on the way.
#[test]
fn csu_16_renewed_hops() {
    assert_noticed(Sabotage::RenewedHops, &[Check::HopCount]);
}

/// Goal: CSU-07, what is sent is what is held.
#[test]
fn csu_07_stale_record() {
    assert_noticed(Sabotage::StaleRecord, &[Check::Stale]);
}

/// Goal: K-03, lives do not grow on the way.
#[test]
fn k_03_renewed_life() {
    assert_noticed(Sabotage::RenewedLife, &[Check::Life]);
}

/// Goal: CSU-01, no CSU message goes out during negotiation.
#[test]
fn csu_01_early_update() {
    assert_noticed(Sabotage::EarlyUpdate, &[Check::BeforeUpdate]);
}

/// Goal: CA-07, a second CA message does not go out before the first is answered.
#[test]
fn ca_07_second_ca() {
    let worlds = worlds(Scenario::Chaos).map(|plan| plan.without_faults().in_lock_step());
    let noticed = noticed(Sabotage::SecondCa, worlds);
    assert_reasons(Sabotage::SecondCa, &noticed, &[Check::CaOutstanding]);
}

/// Goal: CA-07, where several CA messages may be in flight, one beyond the window is noticed, and so
/// is an answer to what has not come, and one that says something else when it is repeated.
#[test]
fn ca_07_broken_pipelines() {
    for sabotage in [
        Sabotage::OverrunWindow,
        Sabotage::AnsweredGap,
        Sabotage::ChangedCa,
    ] {
        let worlds = worlds(Scenario::RestartStorm).map(Plan::pipelined);
        let noticed = noticed(sabotage, worlds);
        assert_reasons(sabotage, &noticed, &[Check::CaOutstanding]);
    }
}

/// Goal: CA-17, summaries that are lost on the way through the window make hubs differ.
#[test]
fn ca_17_lost_page() {
    let worlds = linked(Topology::Star, Scenario::LateJoiner);
    let worlds = worlds.map(|plan| plan.without_faults().pipelined());
    let noticed = noticed(Sabotage::LostPage, worlds);
    let reasons = [Check::Divergence, Check::LostWrite, Check::Resurrection];
    assert_reasons(Sabotage::LostPage, &noticed, &reasons);
}

/// Goal: CA-19, a second CSUS does not go out before the first is answered.
#[test]
fn ca_19_second_csus() {
    let worlds = worlds(Scenario::RestartStorm).map(Plan::in_lock_step);
    let noticed = noticed(Sabotage::SecondCsus, worlds);
    assert_reasons(Sabotage::SecondCsus, &noticed, &[Check::CsusOutstanding]);
}

/// Goal: nothing but Hellos goes out before Bidirectional.
#[test]
fn h_12_early_ca() {
    assert_noticed(Sabotage::EarlyCa, &[Check::BeforeBidirectional]);
}

/// Goal: W-03, what is sent has a right checksum.
#[test]
fn w_03_damaged_packet() {
    assert_noticed(Sabotage::DamagedPacket, &[Check::Packet]);
}

/// Goal: W-03, damage that a checksum does not show is noticed by the world.
#[test]
fn w_03_repaired_damage() {
    let harsh = worlds(Scenario::Chaos).map(|plan| plan.without_faults().on_bad_links());
    let noticed = noticed(Sabotage::RepairedDamage, harsh);
    assert_reasons(Sabotage::RepairedDamage, &noticed, &[Check::Damage]);
}

/// Goal: D-14, packets of several records keep the limit of their link.
#[test]
fn d_14_oversized_packet() {
    let narrow = worlds(Scenario::HeavyLoss).map(Plan::without_faults);
    let noticed = noticed(Sabotage::OversizedPacket, narrow);
    assert_reasons(Sabotage::OversizedPacket, &noticed, &[Check::Packet]);
}

/// Goal: CSU-03, an entry that goes backwards is noticed.
#[test]
fn csu_03_rewound_entry() {
    assert_noticed(Sabotage::RewoundEntry, &[Check::Sequence]);
}

/// Goal: CSU-07, a queue that holds an entry twice is noticed.
#[test]
fn csu_07_endless_queue() {
    assert_noticed(Sabotage::EndlessQueue, &[Check::QueueLen]);
}

/// Goal: a core that wants to be called again and again at one moment is noticed.
#[test]
fn restless_timer() {
    assert_noticed(Sabotage::RestlessTimer, &[Check::Spin, Check::Restless]);
}

/// Goal: a hub that stores something else than its client said is noticed.
#[test]
fn wrong_value() {
    assert_noticed(Sabotage::WrongValue, &[Check::Client]);
}

/// Goal: D-09, a hub that writes again before it can have heard what it wrote is noticed.
#[test]
fn d_09_skipped_hold() {
    let noticed = noticed(
        Sabotage::SkippedHold,
        worlds(Scenario::RestartStorm).map(Plan::without_disks),
    );
    assert_reasons(Sabotage::SkippedHold, &noticed, &[Check::Forgotten]);
}

/// Goal: quiet means quiet: more Hellos than the interval asks for are noticed.
#[test]
fn repeated_hello() {
    assert_noticed(Sabotage::RepeatedHello, &[Check::Restless]);
}

/// Goal: quiet means quiet: anything but a Hello is noticed.
#[test]
fn late_reply() {
    assert_noticed(Sabotage::LateReply, &[Check::Restless]);
}

/// Goal: an acknowledged write that no hub holds is missed.
#[test]
fn forgotten_write() {
    assert_noticed(Sabotage::ForgottenWrite, &[Check::LostWrite]);
}

/// Goal: what lives though its delete was acknowledged is noticed.
#[test]
fn forgotten_delete() {
    let reasons = [Check::Resurrection, Check::LostWrite];
    assert_noticed(Sabotage::ForgottenDelete, &reasons);
}

/// Goal: a panic of a core is a failure with a seed, and ends nothing else.
#[test]
fn panics_are_failures() {
    assert_noticed(Sabotage::Panic, &[Check::Panic]);
}

/// Goal: what goes to everybody on a multipoint link is judged as what goes to one neighbour
/// (H-10, CSU-14).
#[test]
fn csu_14_sabotage_on_segments() {
    for (sabotage, check) in [
        (Sabotage::MutedHello, Check::HelloGap),
        (Sabotage::EarlyUpdate, Check::BeforeUpdate),
        (Sabotage::SpentHops, Check::HopCount),
        (Sabotage::StaleRecord, Check::Stale),
        (Sabotage::RenewedLife, Check::Life),
        (Sabotage::DamagedPacket, Check::Packet),
        (Sabotage::RepeatedHello, Check::Restless),
    ] {
        let worlds = linked(Topology::Segment, Scenario::Chaos).map(Plan::without_faults);
        assert_reasons(sabotage, &noticed(sabotage, worlds), &[check]);
    }
}

/// Goal: X-06: keys follow each other every few seconds under traffic, and no packet is refused.
#[test]
fn x_06_keys_follow_each_other() {
    for plan in worlds(Scenario::Chaos).map(|plan| plan.without_faults().signed()) {
        let seed = plan.seed;
        let (stats, result) = run(plan, Options::default());
        assert!(result.is_ok(), "seed {seed}: {result:?}");
        assert_eq!(stats.unauthenticated, 0, "seed {seed}");
    }
}

/// Goal: X-04: packets that are refused though their sender has the key are noticed.
#[test]
fn x_04_wrong_mac() {
    let signed = worlds(Scenario::Chaos).map(|plan| plan.without_faults().signed());
    let noticed = noticed(Sabotage::WrongMac, signed);
    assert_reasons(Sabotage::WrongMac, &noticed, &[Check::Authentication]);
}
