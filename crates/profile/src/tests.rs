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

fn nhrp() -> NhrpBody<'static> {
    NhrpBody {
        family: 1,
        protocol_type: 0x0800,
        snap: [1, 2, 3, 4, 5],
        flags: nhrp::FLAG_UNIQUE,
        request_id: 0x0102_0304,
        state: NhrpState::Reregistered,
        prefix_len: 32,
        mtu: 1400,
        holding_secs: 7200,
        preference: 9,
        nbma_e164: true,
        subaddress_e164: false,
        nbma: &[198, 51, 100, 5],
        subaddress: &[0xAA],
        protocol_address: &[10, 255, 0, 5],
    }
}

fn encode_nhrp(body: &NhrpBody<'_>) -> Vec<u8> {
    let mut out = vec![0; body.encoded_len()];
    assert_eq!(body.encode(&mut out), Some(out.len()));
    out
}

/// Goal: the octets of an NHRP body stand where RFC 2335 puts them.
#[test]
fn n_03_nhrp_body_golden_octets() {
    let octets = [
        0, 1, 8, 0, 1, 2, 3, 4, 5, 1, 0x80, 0, 1, 2, 3, 4, 1, 32, 0, 0, 0x05, 0x78, 0x1C, 0x20,
        0x44, 1, 4, 9, 198, 51, 100, 5, 0xAA, 10, 255, 0, 5,
    ];
    assert_eq!(encode_nhrp(&nhrp()), octets);
    assert_eq!(NhrpBody::parse(&octets), Ok(nhrp()));
    let mut unused = octets;
    (unused[10], unused[18], unused[24]) = (0xBF, 7, 0xC4);
    assert_eq!(
        NhrpBody::parse(&unused),
        Ok(nhrp()),
        "unused bits are ignored"
    );
}

/// Goal: every malformed NHRP body is refused with its own reason, and so are addresses that no
/// length field can say.
#[test]
fn n_01_nhrp_malformed_bodies() {
    let good = encode_nhrp(&nhrp());
    let with = |at: usize, octet: u8| {
        let mut body = good.clone();
        body[at] = octet;
        Profile::Nhrp.inspect(&[10, 255, 0, 5], &body)
    };
    assert!(with(17, 24).is_ok());
    assert_eq!(NhrpBody::parse(&good[..27]), Err(BodyError::Truncated));
    assert_eq!(with(9, 0), Err(BodyError::BadVersion));
    assert_eq!(with(16, 4), Err(BodyError::BadKind));
    for at in [24, 25, 26] {
        assert_eq!(with(at, 0x3F), Err(BodyError::BadLength));
        assert_eq!(with(at, 0), Err(BodyError::BadLength));
    }
    for key in [&[][..], b"abc", b"abcde"] {
        assert_eq!(Profile::Nhrp.inspect(key, &good), Err(BodyError::BadKey));
    }
    let long = NhrpBody {
        nbma: &[0; 64],
        ..nhrp()
    };
    assert_eq!(long.encode(&mut vec![0; long.encoded_len()]), None);
}

/// Goal: what the body says of the entry: life while registered, none for purges (N-04).
#[test]
fn n_04_nhrp_states() {
    let facts = |state| {
        let body = encode_nhrp(&NhrpBody { state, ..nhrp() });
        let facts = Profile::Nhrp.inspect(&[1, 2, 3, 4], &body).unwrap();
        (facts.withdrawn, facts.life)
    };
    let life = Some(Duration::from_hours(2));
    assert_eq!(facts(NhrpState::Registered), (false, life));
    assert_eq!(facts(NhrpState::Reregistered), (false, life));
    assert_eq!(facts(NhrpState::Purged), (true, None));
    assert_eq!(facts(NhrpState::NoSuchClient), (true, None));
    let mut body = encode_nhrp(&nhrp());
    assert_eq!(Profile::Nhrp.withdraw(&mut body, Stamp(9)), body.len());
    assert_eq!(NhrpBody::parse(&body).unwrap().state, NhrpState::Purged);
}

proptest! {
    /// Goal: parse(encode(b)) = b; seconds are rounded up and never grow (D-21); nothing else
    /// changes in transit.
    #[test]
    fn d_21_nhrp_round_trip(
        fields: (u16, u16, [u8; 5], u32, u8, u16, u16, u8),
        state in 0_u8..4,
        types: (bool, bool),
        nbma in prop::collection::vec(any::<u8>(), 0..=63),
        subaddress in prop::collection::vec(any::<u8>(), 0..=63),
        protocol_address in prop::collection::vec(any::<u8>(), 0..=255),
        remaining_ms in 0..=100_000_000_u64,
    ) {
        let (family, protocol_type, snap, request_id, prefix_len, mtu, holding_secs, preference) = fields;
        let states = [
            NhrpState::Registered,
            NhrpState::Reregistered,
            NhrpState::Purged,
            NhrpState::NoSuchClient,
        ];
        let body = NhrpBody {
            family,
            protocol_type,
            snap,
            flags: nhrp::FLAG_AUTHORITATIVE,
            request_id,
            state: states[usize::from(state)],
            prefix_len,
            mtu,
            holding_secs,
            preference,
            nbma_e164: types.0,
            subaddress_e164: types.1,
            nbma: &nbma,
            subaddress: &subaddress,
            protocol_address: &protocol_address,
        };
        let octets = encode_nhrp(&body);
        prop_assert_eq!(NhrpBody::parse(&octets), Ok(body));
        let mut later = octets.clone();
        Profile::Nhrp.set_remaining(&mut later, Duration::from_millis(remaining_ms));
        let seconds = u16::try_from(remaining_ms.div_ceil(1000)).unwrap_or(u16::MAX);
        let expected = if state >= 2 { holding_secs } else { holding_secs.min(seconds) };
        prop_assert_eq!(NhrpBody::parse(&later).unwrap().holding_secs, expected);
        prop_assert_eq!(Profile::Nhrp.lasting_parts(&later), Profile::Nhrp.lasting_parts(&octets));
    }

    /// Goal: no octets make the reader panic, and what it refuses is left alone.
    #[test]
    fn n_01_any_octets(octets in prop::collection::vec(any::<u8>(), 0..64), key: [u8; 4]) {
        let _ = Profile::Nhrp.inspect(&key, &octets);
        let mut copy = octets.clone();
        Profile::Nhrp.set_remaining(&mut copy, Duration::ZERO);
        prop_assert_eq!(Profile::Nhrp.lasting_parts(&copy), Profile::Nhrp.lasting_parts(&octets));
    }
}
