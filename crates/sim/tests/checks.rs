//! Every check can fail: hub 0, or the world, breaks a rule outside the cores, and that is
//! noticed for what it is.

use scsp_sim::{Check, Options, Plan, Sabotage, Scenario, Topology, run};

/// The check that notices `sabotage` first, by seed.
fn noticed(sabotage: Sabotage) -> Vec<Option<Check>> {
    let play = |seed| {
        let plan = Plan::new(seed, Some(Topology::Mesh), Some(Scenario::Chaos)).without_faults();
        let options = Options {
            trace: false,
            sabotage: Some(sabotage),
        };
        run(plan, options).1.err().map(|failure| failure.check)
    };
    (0..10).map(play).collect()
}

/// Most seeds notice, and all of those for one of the right reasons.
fn assert_noticed(sabotage: Sabotage, reasons: &[Check]) {
    let noticed = noticed(sabotage);
    let hits = noticed.iter().flatten().count();
    assert!(hits >= 7, "{sabotage:?}: {noticed:?}");
    assert!(
        noticed
            .iter()
            .flatten()
            .all(|check| reasons.contains(check)),
        "{noticed:?}"
    );
}

/// Goal: without sabotage the same worlds pass.
#[test]
fn nothing_to_notice() {
    for seed in 0..10 {
        let plan = Plan::new(seed, Some(Topology::Mesh), Some(Scenario::Chaos)).without_faults();
        let (_, result) = run(plan, Options::default());
        assert!(result.is_ok(), "seed {seed}: {result:?}");
    }
}

/// Goal: a record that was acknowledged and dropped makes hubs differ.
#[test]
fn swallowed_records() {
    assert_noticed(
        Sabotage::SwallowedRecords,
        &[Check::Divergence, Check::LostWrite],
    );
}

/// Goal: a hub that takes no part in alignment keeps the group from coming to rest.
#[test]
fn muted_alignment() {
    assert_noticed(Sabotage::MutedAlignment, &[Check::Liveness]);
}

/// Goal: CSU-16, a record without hops left is not sent.
#[test]
fn csu_16_spent_hops() {
    assert_noticed(Sabotage::SpentHops, &[Check::HopCount]);
}

/// Goal: CSU-01, no CSU message goes out during negotiation.
#[test]
fn csu_01_early_update() {
    assert_noticed(Sabotage::EarlyUpdate, &[Check::BeforeUpdate]);
}

/// Goal: CA-07, a second CA message does not go out before the first is answered.
#[test]
fn ca_07_second_ca() {
    assert_noticed(Sabotage::SecondCa, &[Check::CaOutstanding]);
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

/// Goal: an acknowledged write that no hub holds is missed.
#[test]
fn forgotten_write() {
    assert_noticed(Sabotage::ForgottenWrite, &[Check::LostWrite]);
}
