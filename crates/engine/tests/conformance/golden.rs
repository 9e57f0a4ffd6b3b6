//! Replays what FreeBSD's scspd said to its like: this hub in the place of one of the two.

use scsp_engine::alignment::Role;
use scsp_engine::alignment::State::{Aligned, Summarize};
use scsp_engine::{Setup, shard::Outcome};
use scsp_wire::Message as Packet;

use crate::script::{Msg, records, replies, solicits};
use crate::support::{D0, Hub, I0, at, dcs, id, opaque_instance, secs, setup};

const FRAMES: &str = include_str!("../../../wire/tests/vectors/freebsd-scspd.txt");

/// The frames of a section sent by A (`true`) or B.
fn frames(section: usize, from_a: bool) -> Vec<Vec<u8>> {
    let section = FRAMES.split("\n## ").nth(section).unwrap();
    let arrow = if from_a { "A->B" } else { "B->A" };
    let lines = section
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>());
    let of_sender = lines.filter(|columns| columns.get(1) == Some(&arrow));
    let octet = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    of_sender
        .map(|columns| columns[2].as_bytes().chunks(2).map(octet).collect())
        .collect()
}

struct Replay {
    hub: Hub,
    now: scsp_engine::Now,
    frames: std::vec::IntoIter<Vec<u8>>,
}

impl Replay {
    /// A hub with `last` as the last octet of its id, that holds what the original held.
    fn new(last: u8, section: usize, from_a: bool) -> Self {
        let mut setup = Setup {
            instances: vec![opaque_instance()],
            ..setup(last, 2, 1)
        };
        setup.dcs = vec![dcs()];
        setup.instances[0].hop_count = 3;
        let mut hub = Hub::new(setup, at(secs(0)));
        let now = at(secs(10));
        hub.tick(now);
        let original: Vec<_> = frames(section, !from_a);
        for frame in &original {
            if let Packet::Ca(ca) = Packet::parse(frame).unwrap() {
                for summary in ca.summaries() {
                    let (key, seq) = (summary.key, Some(summary.seq));
                    hub.home(key).publish(now, I0, key, b"body", seq).unwrap();
                }
            }
        }
        hub.settle(now);
        hub.out.clear();
        Self {
            hub,
            now,
            frames: frames(section, from_a).into_iter(),
        }
    }

    /// The next recorded frame comes; what the hub answers, Hellos left out. Sequences of the
    /// recorded server's answers are those of the original conversation: `sequence` replaces them.
    fn step(&mut self, sequence: Option<u32>) -> Vec<Msg> {
        let mut frame = self.frames.next().expect("a recorded frame");
        if let Some(sequence) = sequence {
            assert!(matches!(Msg::parse(&frame), Msg::Ca(..)));
            frame[8..12].copy_from_slice(&sequence.to_be_bytes());
            scsp_wire::checksum::seal(&mut frame);
        }
        self.hub.receive(self.now, D0, &frame);
        self.hub.settle(self.now);
        let sent = self.hub.out.drain(..).map(|(_, bytes)| Msg::parse(&bytes));
        sent.filter(|msg| !matches!(msg, Msg::Hello(..))).collect()
    }

    fn newer(&self) -> u64 {
        let slot = Outcome::ALL
            .iter()
            .position(|&it| it == Outcome::Newer)
            .unwrap();
        self.hub
            .shards
            .iter()
            .map(|shard| shard.counters(I0).received[slot])
            .sum()
    }
}

fn parts(msg: &Msg) -> (u32, &str, usize) {
    let Msg::Ca(seq, flags, sums) = msg else {
        panic!("{msg:?}")
    };
    assert!(sums.iter().all(|sum| sum.hop_count == 1));
    (*seq, flags, sums.len())
}

/// Goal: in A's place (slave) against the recorded B: alignment of 3 with 2 entries, B's records
/// taken in and acknowledged, ours given when asked for.
#[test]
fn ca_04_recorded_master_aligns_with_us() {
    let mut replay = Replay::new(1, 1, false);
    // 1: opening CA before its Hello: ignored (H-12)
    let opening = replay.frames.as_slice()[0].clone();
    assert_eq!(replay.step(None), []);
    // 2: Hello
    assert_eq!(parts(&replay.step(None)[0]).1, "MIO");
    // 3: the opening CA again
    replay.hub.receive(replay.now, D0, &opening);
    replay.hub.settle(replay.now);
    let answer = Msg::parse(&replay.hub.out.drain(..).next_back().unwrap().1);
    assert_eq!(parts(&answer), (1_795_356_340, "", 3));
    assert_eq!(replay.hub.peer(D0).role, Some(Role::Slave));
    // 4: its summaries: the last CA, and we ask for them, shard by shard
    let sent = replay.step(None);
    assert_eq!(parts(&sent[0]), (1_795_356_341, "", 0));
    let mut asked = solicits(&sent).len();
    // 5: its CSUS: full records
    let sent = replay.step(None);
    assert_eq!(records(&sent).len(), 3);
    assert!(
        records(&sent)
            .iter()
            .all(|rec| rec.sum.hop_count == 1 && rec.sum.originator == id(1))
    );
    // 6: its records, one by one
    for _ in 0..2 {
        let sent = replay.step(None);
        assert_eq!(replies(&sent).len(), 1);
        asked += solicits(&sent).len();
    }
    assert_eq!((replay.newer(), replay.hub.alignment(D0)), (2, Aligned));
    // A shard whose records came before its turn had nothing left to ask for.
    assert!((1..=2).contains(&asked), "{asked}");
    // 7: its replies echo hop counts and are taken all the same (D-16)
    let left = |hub: &Hub| {
        hub.shards
            .iter()
            .map(|shard| shard.queue_len(D0))
            .sum::<usize>()
    };
    assert_eq!(left(&replay.hub), 3);
    assert_eq!(replay.step(None), []);
    assert_eq!(left(&replay.hub), 0);
}

/// Goal: in B's place (master) against the recorded A, whose answers carry our sequences.
#[test]
fn ca_05_recorded_slave_aligns_with_us() {
    let mut replay = Replay::new(2, 1, true);
    // 1: Hello
    let sent = replay.step(None);
    let (seq, flags, _) = parts(&sent[0]);
    assert_eq!(flags, "MIO");
    // 2: its own opening CA counts for nothing
    assert_eq!(replay.step(None), []);
    // 3: its summaries
    let sent = replay.step(Some(seq));
    assert_eq!(parts(&sent[0]), (seq + 1, "M", 2));
    // 4: its last CA: Update Cache
    let sent = replay.step(Some(seq + 1));
    let asked = solicits(&sent).len();
    assert!((1..=3).contains(&asked));
    // 5: its CSUS, its records
    assert_eq!(records(&replay.step(None)).len(), 2);
    for _ in 0..3 {
        assert_eq!(replies(&replay.step(None)).len(), 1);
    }
    assert_eq!((replay.newer(), replay.hub.alignment(D0)), (3, Aligned));
    // 6: its reply; a purge and another registration
    assert_eq!(replay.step(None), []);
    for _ in 0..2 {
        assert_eq!(replies(&replay.step(None)).len(), 1);
    }
    assert_eq!(replay.newer(), 5);
}

/// Goal: in B's place through an exchange of several pages on its side.
#[test]
fn ca_10_recorded_slave_with_several_pages() {
    let mut replay = Replay::new(2, 2, true);
    let now_bidirectional = |replay: &mut Replay| {
        let hello = crate::script::hello(&[2]).build(&replay.hub.setup, D0, id(1).as_bytes(), &[]);
        replay.hub.receive(replay.now, D0, &hello);
        replay.hub.settle(replay.now);
        parts(&Msg::parse(
            &replay.hub.out.drain(..).next_back().unwrap().1,
        ))
        .0
    };
    let seq = now_bidirectional(&mut replay);
    assert_eq!(replay.step(None), [], "its opening CA");
    let sent = replay.step(Some(seq));
    assert_eq!(parts(&sent[0]), (seq + 1, "M", 9));
    assert_eq!(replay.hub.alignment(D0), Summarize);
    // Its second page says O off: the exchange is over.
    let sent = replay.step(Some(seq + 1));
    let shards = replay.hub.shards.iter();
    let wanted: Vec<usize> = shards.map(|shard| shard.requests_len(D0)).collect();
    assert_eq!(wanted.iter().sum::<usize>(), 10);
    assert!(
        wanted.contains(&solicits(&sent).len()),
        "{wanted:?}: the turn of one shard"
    );
}
