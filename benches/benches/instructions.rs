//! Runs the engine's steps on so many records, for `scripts/instructions.sh`: under callgrind, which
//! counts what happens within one step's function of [`Pair`].
//!
//! Arguments: number of records held, number of records moved, and whether those are `new` or
//! `known`, so that they change what is held.

use scsp_benches::pair::{Packets, Pair};

/// Records of one turn.
const TURN: u64 = 1000;

fn main() {
    let mut numbers = std::env::args().filter_map(|arg| arg.parse().ok());
    let held: u64 = numbers.next().unwrap_or(10_000);
    let moved: u64 = numbers.next().unwrap_or(10_000);
    let is_new = std::env::args().all(|arg| arg != "known");
    let mut pair = Pair::aligned(1472, held);
    let (mut requests, mut replies) = (Packets::default(), Packets::default());
    for turn in 0..moved / TURN {
        let from = turn * TURN;
        let from = if is_new { held + from } else { from % held };
        pair.originate(from..from + TURN);
        loop {
            pair.encode(&mut requests);
            if requests.count() == 0 {
                break;
            }
            pair.insert(&requests);
            pair.reply(&mut replies);
            pair.acknowledge(&replies);
            pair.duplicate(&requests);
            pair.reply(&mut replies);
        }
        pair.tick();
    }
    pair.summarize();
    pair.compare();
    pair.update();
    assert!(pair.is_equal(), "both hold the same");
}
