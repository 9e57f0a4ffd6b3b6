use proptest::prelude::*;
use scsp_wire::{SummaryFields, encode_record};

use super::*;

fn name(group: u16) -> InstanceName {
    InstanceName {
        protocol: ProtocolId::KV,
        group: ServerGroupId(group),
    }
}

fn writer() -> Writer {
    Writer {
        server: ServerId::from_bytes(&[10, 0, 0, 1]).unwrap(),
        hash_seed: 77,
        taken_unix_ms: 1_790_000_000_000,
    }
}

/// One entry as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    withdrawn: bool,
    age_ms: u64,
    left_ms: Option<u64>,
    key: Vec<u8>,
    seq: i32,
    body: Vec<u8>,
}

impl Row {
    fn encode(&self, out: &mut Vec<u8>) {
        let flags = u8::from(self.withdrawn) | u8::from(self.left_ms.is_some()) << 1;
        out.push(flags);
        out.extend(self.age_ms.to_be_bytes());
        out.extend(self.left_ms.unwrap_or(0).to_be_bytes());
        let summary = SummaryFields {
            hop_count: 16,
            null: false,
            seq: CsaSeq::new(self.seq).unwrap(),
            key: &self.key,
            originator: &[10, 0, 0, 9],
        };
        let mut record = vec![0; 12 + self.key.len() + 4 + self.body.len()];
        encode_record(&mut record, &summary, &self.body);
        out.append(&mut record);
    }

    fn decode(kept: &Kept<'_>) -> Self {
        Self {
            withdrawn: kept.withdrawn,
            age_ms: kept.age_ms,
            left_ms: kept.left_ms,
            key: kept.record.summary.key.to_vec(),
            seq: kept.record.summary.seq.get(),
            body: kept.record.body.to_vec(),
        }
    }
}

fn row(n: u8) -> Row {
    Row {
        withdrawn: n.is_multiple_of(2),
        age_ms: 1000 * u64::from(n),
        left_ms: n.is_multiple_of(3).then_some(60_000),
        key: vec![n],
        seq: i32::from(n) + 1,
        body: vec![n; 20],
    }
}

fn past() -> Past {
    Past {
        memory: Memory::Whole { since: Stamp(5) },
        clock: Stamp(99),
        floors: vec![(3, CsaSeq::FIRST), (16_383, CsaSeq::LAST)],
    }
}

/// A file with these blocks of rows, and where each of its blocks begins; its end comes last.
fn file(id: u64, blocks: &[Vec<Row>]) -> (Vec<u8>, Vec<usize>) {
    let mut encoder = Encoder::new(id);
    let mut out = encoder.begin(&writer());
    let mut starts = vec![FILE_HEAD_LEN];
    for (group, rows) in (0..).zip(blocks) {
        starts.push(out.len());
        let mut block = Vec::new();
        Encoder::make_room(&mut block);
        for row in rows {
            row.encode(&mut block);
        }
        let count = u32::try_from(rows.len()).unwrap();
        encoder.entries_block(&mut block, name(group), 4711, count);
        out.append(&mut block);
    }
    starts.push(out.len());
    let mut block = Vec::new();
    encoder.past_block(&mut block, name(0), &past());
    out.append(&mut block);
    starts.push(out.len());
    encoder.end_block(&mut block);
    out.append(&mut block);
    starts.push(out.len());
    (out, starts)
}

/// Rows up to the first damage, blocks that were read, and what ended it.
fn read(octets: &[u8]) -> Result<(Vec<Row>, usize, Option<Damage>), Refused> {
    let mut reader = Reader::new(octets)?;
    let (mut rows, mut blocks) = (Vec::new(), 0);
    loop {
        match reader.next_block() {
            Ok(Block::Entries {
                entries,
                taken_unix_ms,
                ..
            }) => {
                assert_eq!(taken_unix_ms, 4711);
                rows.extend(entries.map(|kept| Row::decode(&kept)));
            }
            Ok(Block::Server(it)) => assert_eq!(it, writer()),
            Ok(Block::Past { past: it, .. }) => assert_eq!(it, past()),
            Ok(Block::End) => return Ok((rows, blocks + 1, None)),
            Err(damage) => return Ok((rows, blocks, Some(damage))),
        }
        blocks += 1;
    }
}

fn sample() -> (Vec<u8>, Vec<usize>, Vec<Row>) {
    let blocks: Vec<Vec<Row>> = vec![(0..3).map(row).collect(), vec![], (3..9).map(row).collect()];
    let (octets, starts) = file(0xFEED, &blocks);
    (octets, starts, blocks.concat())
}

/// How many rows stand in whole blocks before `end`.
fn rows_before(starts: &[usize], end: usize) -> usize {
    let whole = starts[1..].iter().filter(|start| **start <= end).count();
    [0, 0, 3, 3, 9, 9, 9][whole]
}

/// Goal: the layout is fixed: a file written today is read by every later version 1.
#[test]
fn golden_octets() {
    let (octets, starts) = file(
        0x0102_0304_0506_0708,
        &[vec![Row {
            body: vec![3; 4],
            ..row(3)
        }]],
    );
    assert_eq!(starts, [24, 53, 116, 158, 175]);
    let hex: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    // Made by a few lines of another language from the description above.
    let expected = [
        "53435350534e415000010000010203040506070827e00c62010000001400000000000000",
        "4d000001a0c4506c000a0000014f39dc100200000036ff00000000000000000012670000",
        "0001020000000000000bb8000000000000ea60001000150104000000000004030a000009",
        "03030303855d98470300000021ff00000002000000000000000500000000000000630003",
        "800000013fff7ffffffed0e70e06040000000800000000000000019b531ac7",
    ];
    assert_eq!(hex.concat(), expected.concat());
}

/// Goal: cut off at any octet, everything before the block that is cut is read, and the rest is
/// known to be missing.
#[test]
fn every_truncation_keeps_the_whole_blocks_before_it() {
    let (octets, starts, rows) = sample();
    for len in 0..octets.len() {
        match read(&octets[..len]) {
            Err(refused) => {
                assert!(len < FILE_HEAD_LEN, "{len}: {refused}");
                assert!(matches!(refused, Refused::NoSnapshot));
            }
            Ok((got, blocks, damage)) => {
                let whole = starts[1..].iter().filter(|start| **start <= len).count();
                assert_eq!(blocks, whole, "cut at {len}");
                assert_eq!(got, rows[..rows_before(&starts, len)], "cut at {len}");
                let damage = damage.expect("it is not whole");
                assert!(matches!(damage.fault, Fault::CutOff), "{damage}");
                assert_eq!(damage.offset, starts[whole] as u64);
            }
        }
    }
    let (got, _, damage) = read(&octets).unwrap();
    assert!(damage.is_none());
    assert_eq!(got, rows);
}

/// Goal: one flipped bit anywhere ends the reading at its block; nothing wrong is ever read.
#[test]
fn every_flipped_bit_is_found() {
    let (octets, starts, rows) = sample();
    for at in 0..octets.len() {
        for bit in 0..8 {
            let mut flipped = octets.clone();
            flipped[at] ^= 1 << bit;
            match read(&flipped) {
                Err(_) => assert!(at < FILE_HEAD_LEN),
                Ok((got, blocks, damage)) => {
                    let whole = starts[1..].iter().filter(|start| **start <= at).count();
                    assert_eq!((blocks, damage.is_some()), (whole, true), "{at}.{bit}");
                    assert_eq!(got, rows[..rows_before(&starts, at)]);
                }
            }
        }
    }
}

/// Goal: blocks that are left out, doubled, exchanged or of another file are damage, and so is
/// anything behind the end.
#[test]
fn blocks_stand_where_they_were_written() {
    let (octets, starts, rows) = sample();
    let block = |n: usize| &octets[starts[n]..starts[n + 1]];
    let count = starts.len() - 1;
    let join = |order: &[usize]| {
        let blocks = order.iter().map(|n| block(*n)).collect::<Vec<_>>().concat();
        [&octets[..FILE_HEAD_LEN], &blocks].concat()
    };
    for order in [
        vec![0, 2, 3, 4, 5],
        vec![0, 1, 1, 2, 3, 4, 5],
        vec![0, 3, 2, 1, 4, 5],
        vec![1, 2, 3, 4, 5],
        vec![0, 1, 2, 3, 5],
    ] {
        assert!(order.iter().all(|n| *n < count));
        let (_, _, damage) = read(&join(&order)).unwrap();
        assert!(damage.is_some(), "{order:?}");
    }
    let (other, _) = file(0xBEEF, std::slice::from_ref(&rows));
    let mixed = [&octets[..starts[1]], &other[starts[1]..]].concat();
    assert!(read(&mixed).unwrap().2.is_some(), "of another file");
    let longer = [&octets[..], &[0]].concat();
    let (_, _, damage) = read(&longer).unwrap();
    assert!(matches!(damage.unwrap().fault, Fault::Trailing));
}

/// Goal: a version that is not known is told from a file that is no snapshot.
#[test]
fn other_versions_and_other_files_are_refused() {
    let (mut octets, ..) = sample();
    octets[9] = 2;
    assert!(matches!(read(&octets), Err(Refused::Version(2))));
    assert!(matches!(read(&octets[..10]), Err(Refused::Version(2))));
    assert!(matches!(read(b"REDIS0011"), Err(Refused::NoSnapshot)));
    assert!(matches!(read(b""), Err(Refused::NoSnapshot)));
}

/// Goal: a length that no block has is not believed: nothing is reserved for it.
#[test]
fn lengths_are_bounded() {
    let (mut octets, starts, _) = sample();
    octets[starts[1] + 1..starts[1] + 5].fill(0xFF);
    let mut reader = Reader::new(&octets[..]).unwrap();
    reader.next_block().unwrap();
    assert!(reader.next_block().is_err());
    assert!(reader.payload.capacity() <= PAYLOAD_LEN_MAX);
}

prop_compose! {
    fn rows()(
        rows in prop::collection::vec(
            (any::<bool>(), any::<u64>(), any::<Option<u64>>(), prop::collection::vec(any::<u8>(), 0..=255),
                1..i32::MAX, prop::collection::vec(any::<u8>(), 0..600)),
            0..20,
        ),
    ) -> Vec<Row> {
        rows.into_iter().map(|(withdrawn, age_ms, left_ms, key, seq, body)| {
            Row { withdrawn, age_ms, left_ms, key, seq, body }
        }).collect()
    }
}

proptest! {
    /// Goal: what is written is read.
    #[test]
    fn writing_and_reading_is_identity(id in any::<u64>(), blocks in prop::collection::vec(rows(), 0..4)) {
        let (octets, _) = file(id, &blocks);
        let (got, _, damage) = read(&octets).unwrap();
        prop_assert!(damage.is_none());
        prop_assert_eq!(got, blocks.concat());
    }

    /// Goal: no octets make the reader panic.
    #[test]
    fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&octets);
        let (mut whole, ..) = sample();
        whole.truncate(FILE_HEAD_LEN);
        whole.extend_from_slice(&octets);
        let (_, _, damage) = read(&whole).unwrap();
        prop_assert!(damage.is_some());
    }
}
