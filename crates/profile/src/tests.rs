use core::time::Duration;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn encode(body: &KvBody<'_>) -> Vec<u8> {
    let mut out = vec![0; body.encoded_len()];
    assert_eq!(body.encode(&mut out), out.len());
    out
}

/// Goal: the octets of a body stand where section 7 puts them.
#[test]
fn kv_body_golden_octets() {
    let body = KvBody {
        kind: KvKind::Tombstone,
        life_ms: Some(0x0102_0304),
        stamp: Stamp(0x1122_3344_5566_7788),
        value: b"v",
    };
    assert_eq!(
        encode(&body),
        [
            1, 1, 0, 1, 1, 2, 3, 4, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, b'v'
        ]
    );
}

/// Goal: every malformed form of section 7 is refused with its own reason.
#[test]
fn kv_malformed_bodies_are_rejected() {
    let good = encode(&KvBody {
        kind: KvKind::Value,
        life_ms: None,
        stamp: Stamp(7),
        value: b"x",
    });
    let with = |at: usize, octet: u8| {
        let mut body = good.clone();
        body[at] = octet;
        Profile::Kv.inspect(b"k", &body)
    };
    assert!(Profile::Kv.inspect(b"k", &good).is_ok());
    assert_eq!(
        Profile::Kv.inspect(b"k", &good[..15]),
        Err(BodyError::Truncated)
    );
    assert_eq!(with(0, 2), Err(BodyError::BadVersion));
    assert_eq!(with(1, 2), Err(BodyError::BadKind));
    assert_eq!(with(2, 0x80), Err(BodyError::BadFlags));
    assert_eq!(with(3, 0x02), Err(BodyError::BadFlags));
    assert_eq!(with(3, 0x03), Err(BodyError::BadFlags));
    assert_eq!(with(7, 1), Err(BodyError::BadFlags), "life without its bit");
    assert_eq!(Profile::Kv.inspect(b"", &good), Err(BodyError::BadKey));
    assert!(Profile::Kv.inspect(&[0; 255], &good).is_ok());
    assert_eq!(
        Profile::Kv.inspect(&[0; 256], &good),
        Err(BodyError::BadKey)
    );
    assert_eq!(BodyError::BadKey.reason(), "body_key");
}

/// Goal: an opaque body is a withdrawal exactly when it is empty, and has no life or stamp.
#[test]
fn d_20_empty_opaque_body_is_a_withdrawal() {
    let facts = |body: &[u8]| Profile::Opaque.inspect(b"", body).unwrap();
    assert!(facts(b"").withdrawn);
    assert_eq!(
        facts(b"x"),
        Facts {
            withdrawn: false,
            life: None,
            stamp: Stamp::ZERO
        }
    );
    assert_eq!(Profile::of(ProtocolId(0xFF00)), Profile::Kv);
    assert_eq!(Profile::of(ProtocolId(4)), Profile::Opaque);
}

/// Goal: outgoing life is rounded up, never grows, and never appears where there was none.
#[test]
fn k_03_d_21_remaining_life_only_shrinks() {
    let life = |before: Option<u32>, remaining: Duration| {
        let mut body = encode(&KvBody {
            kind: KvKind::Value,
            life_ms: before,
            stamp: Stamp(1),
            value: b"v",
        });
        Profile::Kv.set_remaining(&mut body, remaining);
        KvBody::parse(&body).unwrap().life_ms
    };
    assert_eq!(life(Some(5000), Duration::from_millis(1200)), Some(1200));
    assert_eq!(life(Some(5000), Duration::from_nanos(1_000_001)), Some(2));
    assert_eq!(life(Some(5000), Duration::ZERO), Some(0));
    assert_eq!(life(Some(5000), Duration::from_secs(9)), Some(5000));
    assert_eq!(life(Some(5000), Duration::MAX), Some(5000));
    assert_eq!(life(None, Duration::from_secs(9)), None);
    let mut short = [1, 0, 0, 1, 9];
    Profile::Kv.set_remaining(&mut short, Duration::ZERO);
    assert_eq!(short, [1, 0, 0, 1, 9]);
}

/// Goal: stamps strictly increase whatever the wall clock does, and pass every merged one.
#[test]
fn k_05_stamps_increase_past_everything_seen() {
    let mut clock = Clock::new();
    let first = clock.tick(1000);
    assert_eq!((first.millis(), first.counter()), (1000, 0));
    assert_eq!(clock.tick(999), Stamp::new(1000, 1), "clock stepped back");
    clock.merge(Stamp::new(5000, 9));
    assert_eq!(clock.tick(1001), Stamp::new(5000, 10), "neighbour is ahead");
    clock.merge(Stamp::new(4000, 0));
    assert_eq!(clock.tick(6000), Stamp::new(6000, 0));
}

/// Goal: a full counter carries into the milliseconds.
#[test]
fn k_05_counter_overflow_carries() {
    let mut clock = Clock::new();
    clock.merge(Stamp::new(77, u16::MAX));
    assert_eq!(clock.tick(0), Stamp::new(78, 0));
    clock.merge(Stamp(u64::MAX));
    assert_eq!(
        clock.tick(0),
        Stamp(u64::MAX),
        "no overflow at the very end"
    );
}

/// Goal: a tombstone lives as long as the retention says, whatever its own life (K-02); a clock
/// reading that leaves no room for later writes is malformed (K-05).
#[test]
fn k_02_tombstones_have_no_life_and_k_05_stamps_leave_room() {
    let last = Stamp::new(crate::kv::STAMP_MILLIS_MAX, u16::MAX);
    let inspect = |kind, stamp| {
        let body = KvBody {
            kind,
            life_ms: Some(100),
            stamp,
            value: b"",
        };
        Profile::Kv.inspect(b"k", &encode(&body))
    };
    assert_eq!(inspect(KvKind::Tombstone, last).unwrap().life, None);
    let life = Some(Duration::from_millis(100));
    assert_eq!(inspect(KvKind::Value, last).unwrap().life, life);
    let next = Stamp(last.0 + 1);
    assert_eq!(inspect(KvKind::Value, next), Err(BodyError::BadStamp));
}

proptest! {
    /// Goal: parse(encode(b)) = b, and the lasting parts do not depend on the life.
    #[test]
    fn kv_round_trip(
        tombstone: bool,
        life_ms: Option<u32>,
        stamp in 0..=Stamp::new(crate::kv::STAMP_MILLIS_MAX, u16::MAX).0,
        value in proptest::collection::vec(any::<u8>(), 0..80),
        remaining_ms: u32,
    ) {
        let kind = if tombstone { KvKind::Tombstone } else { KvKind::Value };
        let body = KvBody { kind, life_ms, stamp: Stamp(stamp), value: &value };
        let octets = encode(&body);
        prop_assert_eq!(KvBody::parse(&octets), Ok(body));
        let mut aged = octets.clone();
        Profile::Kv.set_remaining(&mut aged, Duration::from_millis(remaining_ms.into()));
        prop_assert_eq!(Profile::Kv.lasting_parts(&octets), Profile::Kv.lasting_parts(&aged));
        prop_assert_eq!(
            Profile::Kv.inspect(b"k", &aged).unwrap().life,
            life_ms
                .filter(|_| !tombstone)
                .map(|ms| Duration::from_millis(ms.min(remaining_ms).into()))
        );
    }

    /// Goal: no octets make a parser panic, and what parses encodes back to the same octets.
    #[test]
    fn kv_any_octets(
        key in proptest::collection::vec(any::<u8>(), 0..300),
        body in proptest::collection::vec(prop_oneof![0u8..3, any::<u8>()], 0..40),
    ) {
        for profile in [Profile::Kv, Profile::Opaque] {
            let _facts = profile.inspect(&key, &body);
            let _parts = profile.lasting_parts(&body);
            profile.set_remaining(&mut body.clone(), Duration::from_secs(1));
        }
        if let Ok(parsed) = KvBody::parse(&body) {
            prop_assert_eq!(encode(&parsed), body);
        }
    }
}
