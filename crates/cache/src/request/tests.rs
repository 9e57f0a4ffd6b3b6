use std::collections::VecDeque;

use proptest::prelude::*;
use scsp_wire::CsaSeq;

use super::*;

fn fields<'a>(n: i32, key: &'a [u8], originator: &'a [u8]) -> SummaryFields<'a> {
    let seq = CsaSeq::new(n).unwrap();
    SummaryFields {
        hop_count: 1,
        null: n % 3 == 0,
        seq,
        key,
        originator,
    }
}

/// Goal: memory follows the list: it is freed while the list drains, and a short list that fills
/// and drains for ever keeps to one chunk.
#[test]
fn drained_chunks_are_freed() {
    let mut list = RequestList::new();
    for n in 0..10_000 {
        list.push(&fields(n, &n.to_be_bytes(), b"orig"));
    }
    assert_eq!(list.bytes(), 10_000 * 20);
    let full = list.allocated_bytes();
    assert!(full < 10_000 * 20 + 2 * CHUNK_LEN);
    (0..5_000).for_each(|_| assert!(list.pop()));
    assert!(list.allocated_bytes() < full / 2 + 3 * CHUNK_LEN);
    while list.pop() {}
    for n in 0..10_000 {
        list.push(&fields(n, b"key", b"orig"));
        assert!(list.pop());
        assert!(list.allocated_bytes() <= CHUNK_LEN);
    }
    assert!(!list.pop());
    list.push(&fields(1, b"key", b"orig"));
    list.clear();
    assert_eq!(
        (list.len(), list.bytes(), list.allocated_bytes()),
        (0, 0, 0)
    );
    assert!(list.is_empty() && list.front().is_none());
}

proptest! {
    /// Goal: summaries come out unchanged, in order of pushing.
    #[test]
    fn list_is_first_in_first_out(
        ops in proptest::collection::vec(
            proptest::option::weighted(0.6, (0..=255_usize, 1..=255_usize)), 1..500,
        ),
    ) {
        let mut list = RequestList::new();
        let mut model: VecDeque<(i32, usize, usize)> = VecDeque::new();
        let octets = [0xAB; 255];
        for (n, op) in (0..).zip(ops) {
            if let Some((key, originator)) = op {
                list.push(&fields(n, &octets[..key], &octets[..originator]));
                model.push_back((n, key, originator));
            } else {
                prop_assert_eq!(list.pop(), model.pop_front().is_some());
            }
            prop_assert_eq!(list.len(), model.len());
            prop_assert_eq!(list.bytes(), model.iter().map(|(_, k, o)| 12 + k + o).sum::<usize>());
            let front = model.front().map(|(n, k, o)| fields(*n, &octets[..*k], &octets[..*o]));
            prop_assert_eq!(list.front().map(|summary| summary.fields()), front);
        }
        let seqs: Vec<i32> = list.iter().map(|summary| summary.seq.get()).collect();
        prop_assert_eq!(seqs, model.iter().map(|m| m.0).collect::<Vec<_>>());
    }
}
