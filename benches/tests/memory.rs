//! What records take in memory.

use scsp_benches::pair::{I0, Pair};

/// Goal: at any number of records of 8-octet keys and 40-octet values, what is allocated for them is
/// less than 100 octets each: it does not jump when tables grow.
#[test]
fn a_record_takes_less_than_100_octets() {
    let mut pair = Pair::new(1472);
    let mut most = 0;
    for thousand in 0..400_u64 {
        pair.originate(thousand * 1000..(thousand + 1) * 1000);
        let records = usize::try_from((thousand + 1) * 1000).expect("few");
        if records >= 100_000 {
            let bytes = pair.a.shard.store(I0).bytes();
            most = most.max(bytes.saturating_sub(1 << 20) / records); // A chunk may just be begun.
        }
    }
    assert!(most < 100, "{most} octets for each");
}
