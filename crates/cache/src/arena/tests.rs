use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Walks every chunk: blocks in use (from the model) and free blocks tile it without gap or
/// overlap, no two free blocks touch, tags and class lists agree.
fn check(arena: &Arena, used: &BTreeMap<u32, u32>) {
    let mut listed = BTreeSet::new();
    for (class, head) in arena.heads.iter().enumerate() {
        let filled = arena.filled[class / 64] >> (class % 64) & 1 == 1;
        assert_eq!(filled, *head != NIL, "bitmap of class {class}");
        let (mut at, mut prev) = (*head, NIL);
        while at != NIL {
            assert!(listed.insert(at), "listed twice");
            assert_eq!(class_of(arena.word(at) & LINK_NIL), class);
            assert_eq!(arena.word(at + 2), prev);
            (prev, at) = (at, arena.word(at + 1));
        }
    }
    let (mut live, mut idle, mut free) = (0, 0, 0);
    for (chunk, octets) in arena.chunks.iter().enumerate() {
        let start = u32::try_from(chunk).unwrap() << CHUNK_BITS;
        let (mut at, mut prev_free) = (start, false);
        while octets.is_some() && at < start + CHUNK_UNITS {
            let word = arena.word(at);
            assert_eq!(
                word & PREV_FREE != 0,
                prev_free && word & FREE == 0,
                "tag at {at}"
            );
            let size = if word & FREE == 0 {
                used[&at] + ((word & SLACK) >> SLACK_SHIFT)
            } else {
                assert!(!prev_free, "free neighbours at {at}");
                let size = word & LINK_NIL;
                assert_eq!(arena.word(at + size - 1), size);
                assert!(listed.contains(&at));
                free += 1;
                idle += usize::from(size == CHUNK_UNITS);
                size
            };
            live += if word & FREE == 0 { u64::from(size) } else { 0 };
            prev_free = word & FREE != 0;
            at += size;
        }
        assert_eq!(
            at,
            if octets.is_none() {
                start
            } else {
                start + CHUNK_UNITS
            }
        );
    }
    assert_eq!(
        (live, idle, free),
        (arena.live_units, arena.idle_chunks, listed.len())
    );
}

fn fill(arena: &mut Arena, address: u32, units: u32) {
    arena.set_link(address, address % LINK_NIL);
    let octet = address.to_le_bytes()[0] ^ address.to_le_bytes()[1];
    arena.octets_mut(address, units as usize * UNIT)[UNIT..].fill(octet);
}

fn is_intact(arena: &Arena, address: u32, units: u32) -> bool {
    let octet = address.to_le_bytes()[0] ^ address.to_le_bytes()[1];
    arena.link(address) == address % LINK_NIL
        && arena.octets(address, units as usize * UNIT)[UNIT..]
            .iter()
            .all(|o| *o == octet)
}

/// Goal: every size is found by the class it is searched in, and classes never shrink.
#[test]
fn classes_cover_all_sizes() {
    for units in BLOCK_UNITS_MIN..=CHUNK_UNITS {
        let class = class_of(units);
        assert!(class < CLASSES && class >= class_of(units - 1));
        let fitting = class_fitting(units);
        assert!(fitting == class || fitting == class + 1);
        assert!(
            fitting > class || class_of(units - 1) < class,
            "{units}: class holds smaller"
        );
    }
}

/// Goal: the limit refuses, and freed space serves again; a whole chunk comes back in one piece.
#[test]
fn limit_is_kept_and_space_reused() {
    let mut arena = Arena::with_limit(2 * CHUNK_LEN);
    let blocks: Vec<_> = std::iter::from_fn(|| arena.allocate(1000)).collect();
    assert_eq!(blocks.len(), 2 * (CHUNK_UNITS as usize / 1000));
    assert_eq!(arena.bytes(), 2 * CHUNK_LEN);
    assert_eq!(arena.allocate(CHUNK_UNITS + 1), None);
    for block in &blocks {
        arena.release(*block, 1000);
    }
    assert_eq!(arena.live_bytes(), 0);
    assert_eq!(
        arena.bytes(),
        CHUNK_LEN,
        "the second idle chunk is given back"
    );
    let whole = [arena.allocate(CHUNK_UNITS), arena.allocate(CHUNK_UNITS)];
    assert!(whole.iter().all(Option::is_some), "no fragment left behind");
    assert_eq!(arena.allocate(4), None);
    check(
        &arena,
        &whole.iter().map(|at| (at.unwrap(), CHUNK_UNITS)).collect(),
    );
}

/// Goal: allocated octets stay within twice the live ones while block sizes change completely.
#[test]
fn size_churn_is_bounded() {
    let mut arena = Arena::with_limit(usize::MAX);
    let mut blocks: Vec<(u32, u32)> = Vec::new();
    for units in [21, 34, 8, 144, 5, 21, 700, 16_000, 13] {
        let count = 1_200_000 / units as usize;
        for i in 0..count.max(blocks.len()) {
            if let Some((address, old)) = blocks.get(i).copied() {
                arena.release(address, old);
            }
            if i < count {
                let block = (arena.allocate(units).unwrap(), units);
                match blocks.get_mut(i) {
                    Some(slot) => *slot = block,
                    None => blocks.push(block),
                }
            }
        }
        blocks.truncate(count);
        let live = usize::try_from(arena.live_bytes()).unwrap();
        assert!(
            arena.bytes() <= 2 * live + 2 * CHUNK_LEN,
            "{units}: {} of {live}",
            arena.bytes()
        );
    }
    check(&arena, &blocks.into_iter().collect());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Goal: blocks never overlap and keep their octets, whatever is allocated and released.
    #[test]
    fn blocks_are_disjoint(
        ops in proptest::collection::vec(
            (any::<bool>(), any::<prop::sample::Index>(), prop_oneof![
                8 => 4_u32..40, 2 => 40_u32..400, 1 => 400_u32..60_000,
            ]),
            1..400,
        ),
    ) {
        let mut arena = Arena::with_limit(4 * CHUNK_LEN);
        let mut used = BTreeMap::new();
        for (release, pick, units) in ops {
            if release && !used.is_empty() {
                let address = *used.keys().nth(pick.index(used.len())).unwrap();
                let units = used.remove(&address).unwrap();
                prop_assert!(is_intact(&arena, address, units));
                arena.release(address, units);
            } else if let Some(address) = arena.allocate(units) {
                prop_assert_eq!(arena.link(address), LINK_NIL);
                fill(&mut arena, address, units);
                prop_assert_eq!(used.insert(address, units), None);
            }
        }
        check(&arena, &used);
        for (address, units) in used {
            prop_assert!(is_intact(&arena, address, units));
            arena.release(address, units);
        }
        check(&arena, &BTreeMap::new());
        prop_assert!(arena.bytes() <= CHUNK_LEN);
    }
}
