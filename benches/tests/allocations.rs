//! What the record path allocates: nothing, once buffers have grown to what is in use.

use allocation_counter::measure;
use scsp_benches::pair::{Packets, Pair};

const HELD: u64 = 20_000;
const TURN: u64 = 1000;

/// Allocations of one pass over all keys in turns, after two of them that warm up.
fn allocations_of_updates(packet_limit: usize) -> u64 {
    let mut pair = Pair::aligned(packet_limit, HELD);
    let (mut requests, mut replies) = (Packets::default(), Packets::default());
    let mut pass = || {
        for from in (0..HELD).step_by(1000) {
            pair.flood(from..from + TURN, &mut requests, &mut replies);
        }
    };
    pass();
    pass();
    let info = measure(pass);
    assert!(pair.is_equal(), "B holds what A wrote");
    info.count_total
}

/// Goal: a known record that is written, sent, taken in, acknowledged and taken off the queue
/// allocates nothing, in packets of either size.
#[test]
fn updates_allocate_nothing() {
    assert_eq!(allocations_of_updates(1472), 0);
    assert_eq!(allocations_of_updates(65_507), 0);
}

/// Goal: duplicates and what they bring about allocate nothing.
#[test]
fn duplicates_allocate_nothing() {
    let mut pair = Pair::aligned(1472, HELD);
    let (mut requests, mut replies) = (Packets::default(), Packets::default());
    pair.originate(0..TURN);
    pair.encode(&mut requests);
    pair.insert(&requests);
    pair.reply(&mut replies);
    pair.acknowledge(&replies);
    let mut again = || {
        pair.duplicate(&requests);
        pair.reply(&mut replies);
        pair.acknowledge(&replies);
    };
    again();
    assert_eq!(measure(again).count_total, 0);
}

/// Goal: new records allocate what they are kept in, in chunks: far less than once a record.
#[test]
fn new_records_allocate_in_chunks() {
    let mut pair = Pair::aligned(1472, HELD);
    let (mut requests, mut replies) = (Packets::default(), Packets::default());
    let info = measure(|| {
        for from in (HELD..3 * HELD).step_by(1000) {
            pair.flood(from..from + TURN, &mut requests, &mut replies);
        }
    });
    let each = info.count_total * 100 / (2 * HELD);
    assert!(
        each == 0,
        "{} allocations for {} records",
        info.count_total,
        2 * HELD
    );
}

/// Goal: an alignment allocates for messages between cores and for packets, not for records.
#[test]
fn alignment_allocates_by_packet() {
    let mut pair = Pair::new(1472);
    pair.originate(0..HELD);
    let (mut requests, mut replies) = (Packets::default(), Packets::default());
    let mut counts = [0; 3];
    counts[0] = measure(|| pair.summarize()).count_total;
    counts[1] = measure(|| pair.compare()).count_total;
    counts[2] = measure(|| {
        pair.update();
        pair.solicit(&mut requests, &mut replies);
    })
    .count_total;
    assert!(pair.is_equal(), "B has everything");
    let per_record = counts.map(|count| count * 100 / HELD);
    assert!(
        per_record.iter().all(|percent| *percent <= 20),
        "{counts:?} allocations for {HELD} records"
    );
}
