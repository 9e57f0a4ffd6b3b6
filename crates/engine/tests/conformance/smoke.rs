//! The main road.

use crate::support::{World, secs};

/// Goal: hubs of one to four shards align with what each held before, and flood what comes after.
#[test]
fn hubs_align_and_flood() {
    for shards in [[1, 1], [1, 2], [4, 3]] {
        let mut world = World::line(&shards);
        world.align();
        let now = world.now();
        for n in 0..500_u32 {
            let hub = usize::from(n % 3 == 0);
            world.hubs[hub].set(now, &n.to_be_bytes(), format!("value {n}").as_bytes());
        }
        world.run(secs(5));
        world.assert_equal();
        assert_eq!(world.hubs[0].entries().len(), 500);

        world.cut.insert(0);
        world.run(secs(20));
        let now = world.now();
        for n in 400..700_u32 {
            let hub = usize::from(n % 2 == 0);
            world.hubs[hub].set(now, &n.to_be_bytes(), format!("other {n}").as_bytes());
        }
        world.cut.clear();
        world.align();
        world.run(secs(5));
        world.assert_equal();
        let now = world.now();
        for n in 0..700_u32 {
            let word = if n < 400 { "value" } else { "other" };
            let expected = Some(format!("{word} {n}").into_bytes());
            assert_eq!(world.hubs[0].get(now, &n.to_be_bytes()), expected);
            assert_eq!(world.hubs[1].get(now, &n.to_be_bytes()), expected);
        }
    }
}

/// Goal: what is written at one end of a line is read at the other, deletes too.
#[test]
fn a_line_of_three_is_one_cache() {
    let mut world = World::line(&[2, 3, 1]);
    world.align();
    let now = world.now();
    world.hubs[0].set(now, b"k", b"v");
    world.run(secs(2));
    let now = world.now();
    assert_eq!(world.hubs[2].get(now, b"k"), Some(b"v".to_vec()));
    assert!(world.hubs[2].del(now, b"k"));
    world.run(secs(2));
    assert_eq!(world.hubs[0].get(world.now(), b"k"), None);
    world.assert_equal();
}
