//! Authentication (RFC 2334 B.3.1). Beyond what is tested here, every packet of every test is
//! checked for the signature it must have when it is sent (`Hub::check_sent`).

use scsp_engine::alignment::State::{Aligned, Down, Negotiation};
use scsp_engine::hello::State::{Bidirectional, Waiting};
use scsp_engine::message::{Abnormal, Epoch};
use scsp_engine::shard::{DATAGRAM_LEN_MAX, Drop};
use scsp_engine::{AuthFailure, AuthKey, AuthMode, AuthSetup, Notice, Period, Setup, ToControl};
use scsp_wire::{
    Algorithm, Builder, Header, HelloFields, MacKey, MessageType, OWN_VENDOR, Signer, checksum,
    overhead,
};

use crate::multipoint::{counted, mesh};
use crate::script::{LSID, Lab, Msg, ca, hello, rec, records, sum};
use crate::support::{D0, START_UNIX_MS, World, id, millis, secs};

const MODES: [AuthMode; 4] = [
    AuthMode::Off,
    AuthMode::Accept,
    AuthMode::Send,
    AuthMode::Require,
];

const ALWAYS: Option<Period> = Some(Period {
    from_ms: None,
    until_ms: None,
});

fn mac_key(secret: &[u8]) -> MacKey {
    MacKey::new(Algorithm::HmacSha256, secret)
}

/// A key for both directions and all times.
fn key(spi: u32, secret: &[u8]) -> AuthKey {
    AuthKey {
        spi,
        key: mac_key(secret),
        send: ALWAYS,
        receive: ALWAYS,
    }
}

/// Seconds of the world's time.
fn period(from: Option<u64>, until: Option<u64>) -> Period {
    let unix_ms = |secs: u64| START_UNIX_MS + secs * 1000;
    Period {
        from_ms: from.map(unix_ms),
        until_ms: until.map(unix_ms),
    }
}

fn auth(mode: AuthMode, keys: &[AuthKey]) -> AuthSetup {
    AuthSetup {
        mode,
        keys: keys.to_vec(),
        failure_resets: false,
    }
}

/// A hub whose neighbour 9 is asked for `mode` with one key of SPI 1.
fn lab(mode: AuthMode) -> Lab {
    lab_with(&auth(mode, &[key(1, b"secret")]))
}

fn lab_with(auth: &AuthSetup) -> Lab {
    Lab::with(&[9], |setup| setup.dcs[0].auth = auth.clone())
}

fn plain(lab: &Lab, msg: &Msg) -> Vec<u8> {
    let (us, them) = (id(LSID), id(lab.peers[0]));
    msg.build(&lab.hub.setup, D0, them.as_bytes(), us.as_bytes())
}

fn sign(mut bytes: Vec<u8>, spi: u32, key: &MacKey) -> Vec<u8> {
    let signer = Signer { spi, key };
    let len = bytes.len();
    bytes.resize(len + signer.extension_len(), 0);
    let signed = signer.sign(&mut bytes, len);
    assert_eq!(signed, Some(bytes.len()));
    bytes
}

/// The neighbour sends a message signed under `spi` with `secret`.
fn send_signed(lab: &mut Lab, spi: u32, secret: &[u8], msg: &Msg) {
    let bytes = sign(plain(lab, msg), spi, &mac_key(secret));
    lab.send_bytes(D0, &bytes);
}

/// From Waiting to Aligned, the neighbour being master and signing with the key of [`lab`].
fn align(lab: &mut Lab) {
    for msg in [hello(&[LSID]), ca(900, "MIO", &[]), ca(901, "M", &[])] {
        send_signed(lab, 1, b"secret", &msg);
    }
    assert_eq!(lab.alignment(D0), Aligned);
    lab.sent(D0);
    lab.notices();
}

fn failures(lab: &Lab) -> u64 {
    let dropped =
        |shard: &scsp_engine::Shard| shard.packets().dropped[Drop::Authentication.index()];
    let dropped = lab.hub.shards.iter().map(dropped).sum();
    let abnormal = lab.hub.peer(D0).abnormal[Abnormal::Authentication.index()];
    assert!(abnormal <= dropped, "what is told is what was dropped");
    dropped
}

fn said(notices: Vec<Notice>) -> Vec<(AuthFailure, u64)> {
    let failures = notices.into_iter().filter_map(|notice| match notice {
        Notice::Unauthenticated { failure, count, .. } => Some((failure, count)),
        _ => None,
    });
    failures.collect()
}

/// Goal: where authentication is required, nothing of a packet without the right MAC counts,
/// whatever it says; each is dropped, counted and told with its reason.
#[test]
fn x_04_required_authentication_takes_nothing_else() {
    let expired = AuthKey {
        receive: Some(period(None, Some(0))),
        ..key(2, b"old")
    };
    let mut lab = lab_with(&auth(AuthMode::Require, &[key(1, b"secret"), expired]));
    lab.wait(secs(1));
    let msg = hello(&[LSID]);
    let bad = [
        (plain(&lab, &msg), AuthFailure::Missing),
        (
            sign(plain(&lab, &msg), 7, &mac_key(b"secret")),
            AuthFailure::UnknownSpi,
        ),
        (
            sign(plain(&lab, &msg), 2, &mac_key(b"old")),
            AuthFailure::Expired,
        ),
        (
            sign(plain(&lab, &msg), 1, &mac_key(b"other")),
            AuthFailure::WrongMac,
        ),
    ];
    for (count, (bytes, reason)) in (1..).zip(&bad) {
        lab.notices();
        lab.send_bytes(D0, bytes);
        assert_eq!(lab.hub.hello(D0), Waiting, "{reason:?}");
        assert_eq!(failures(&lab), count);
        assert_eq!(said(lab.notices()), [(*reason, 1)]);
        lab.wait(millis(200));
    }
    assert_eq!(
        lab.hub.peer(D0).abnormal[Abnormal::Authentication.index()],
        4
    );
    align(&mut lab);
    for (_, msg) in lab.hellos(D0) {
        assert!(matches!(msg, Msg::Hello(..)));
    }
    // CSU and CA messages neither.
    for msg in [
        Msg::Request(vec![rec(b"key", 9, 1, 3, b"body")]),
        Msg::Csus(vec![sum(b"key", 9, 1)]),
        ca(5000, "MIO", &[]),
    ] {
        let bytes = plain(&lab, &msg);
        lab.send_bytes(D0, &bytes);
        assert_eq!((lab.alignment(D0), lab.sent(D0)), (Aligned, vec![]));
    }
    assert_eq!(lab.entry(b"key", 9), None);
    send_signed(
        &mut lab,
        1,
        b"secret",
        &Msg::Request(vec![rec(b"key", 9, 1, 3, b"body")]),
    );
    assert_eq!(lab.entry(b"key", 9), Some((1, b"body".to_vec())));
}

/// Goal: a neighbour whose keys are all for sending cannot be verified, and that is said.
#[test]
fn x_04_no_key_to_verify_with() {
    let sender = AuthKey {
        receive: None,
        ..key(1, b"secret")
    };
    let mut lab = lab_with(&auth(AuthMode::Send, &[sender]));
    lab.notices();
    send_signed(&mut lab, 1, b"secret", &hello(&[LSID]));
    assert_eq!(said(lab.notices()), [(AuthFailure::NoKey, 1)]);
    assert_eq!(lab.hub.hello(D0), Waiting);
}

/// Goal: "accept" and "send" take packets without a MAC, and refuse a wrong one; "off" looks at
/// none.
#[test]
fn d_18_accept_verifies_what_is_present() {
    for mode in [AuthMode::Off, AuthMode::Accept, AuthMode::Send] {
        let mut lab = lab(mode);
        send_signed(&mut lab, 1, b"wrong", &hello(&[LSID]));
        if mode == AuthMode::Off {
            assert_eq!((lab.hub.hello(D0), failures(&lab)), (Bidirectional, 0));
            continue;
        }
        assert_eq!(
            (lab.hub.hello(D0), failures(&lab)),
            (Waiting, 1),
            "{mode:?}"
        );
        lab.meet(D0);
        assert_eq!(lab.hub.hello(D0), Bidirectional, "{mode:?}");
        let opening = ca(900, "MIO", &[]);
        send_signed(&mut lab, 1, b"secret", &opening);
        assert_ne!(lab.alignment(D0), Negotiation, "{mode:?}");
    }
}

/// A packet of the neighbour that is malformed beyond its envelope: the record count is wrong.
fn malformed(lab: &Lab) -> Vec<u8> {
    let mut bytes = plain(lab, &Msg::Request(vec![rec(b"key", 9, 1, 3, b"body")]));
    bytes[18..20].copy_from_slice(&[0, 2]);
    checksum::seal(&mut bytes);
    bytes
}

/// Goal: where authentication is on, a malformed packet resets the neighbour only when its MAC is
/// right; the MAC comes before anything else of the packet.
#[test]
fn d_02_only_a_verified_packet_resets() {
    for mode in [AuthMode::Accept, AuthMode::Send, AuthMode::Require] {
        let mut lab = lab(mode);
        align(&mut lab);
        let bytes = malformed(&lab);
        lab.send_bytes(D0, &bytes);
        let forged = sign(bytes.clone(), 1, &mac_key(b"wrong"));
        lab.send_bytes(D0, &forged);
        lab.wait(secs(1));
        assert_eq!(lab.alignment(D0), Aligned, "{mode:?}");
        assert_eq!(lab.hub.peer(D0).abnormal[Abnormal::Malformed.index()], 0);
        let genuine = sign(bytes, 1, &mac_key(b"secret"));
        lab.send_bytes(D0, &genuine);
        assert_eq!((lab.hub.hello(D0), lab.alignment(D0)), (Waiting, Down));
        assert_eq!(lab.hub.peer(D0).abnormal[Abnormal::Malformed.index()], 1);
    }
}

/// Goal: the checksum is looked at before the MAC: a packet that the network damaged is nobody's
/// authentication failure.
#[test]
fn d_08_a_damaged_packet_is_no_failure() {
    let mut lab = lab(AuthMode::Require);
    let mut bytes = sign(plain(&lab, &hello(&[LSID])), 1, &mac_key(b"secret"));
    bytes[30] ^= 1;
    lab.send_bytes(D0, &bytes);
    assert_eq!((lab.hub.hello(D0), failures(&lab)), (Waiting, 0));
}

/// Goal: forged packets do not touch an adjacency that stands, by default; with the letter restored
/// one of them cuts it, as an abnormal event.
#[test]
fn d_03_a_failure_resets_only_by_the_letter() {
    for resets in [false, true] {
        let mut auth = auth(AuthMode::Require, &[key(1, b"secret")]);
        auth.failure_resets = resets;
        let mut lab = lab_with(&auth);
        align(&mut lab);
        // D-10, D-11, a new negotiation, and what is malformed.
        let stranger = hello(&[LSID]).build(&lab.hub.setup, D0, id(8).as_bytes(), &[]);
        let ours = hello(&[LSID]).build(&lab.hub.setup, D0, id(LSID).as_bytes(), &[]);
        let opening = plain(&lab, &ca(5000, "MIO", &[]));
        let malformed = malformed(&lab);
        for bytes in [stranger, ours, opening, malformed] {
            let forged = sign(bytes, 1, &mac_key(b"wrong"));
            lab.send_bytes(D0, &forged);
        }
        lab.wait(secs(1));
        let peer = lab.hub.peer(D0);
        assert!(!peer.duplicate_id);
        assert_eq!(peer.abnormal[Abnormal::Authentication.index()], 4);
        let told = lab.notices().into_iter().any(|notice| {
            matches!(
                notice,
                Notice::Abnormal {
                    cause: Abnormal::Authentication,
                    ..
                }
            )
        });
        assert_eq!(told, resets);
        let state = if resets {
            (Waiting, Down)
        } else {
            (Bidirectional, Aligned)
        };
        assert_eq!((peer.hello, peer.alignment), state);
    }
}

/// Goal: however many forged packets come, what the cores say of them is bundled, and none of them
/// goes uncounted.
#[test]
fn x_04_failures_are_told_in_bundles() {
    let mut lab = lab(AuthMode::Require);
    align(&mut lab);
    let forged = sign(plain(&lab, &hello(&[LSID])), 1, &mac_key(b"wrong"));
    for _ in 0..1000 {
        lab.send_bytes(D0, &forged);
    }
    let first: u64 = said(lab.notices()).iter().map(|(_, count)| count).sum();
    assert_eq!(first, 2, "the first of each shard");
    lab.wait(secs(1));
    let rest = said(lab.notices());
    assert_eq!(rest.len(), 2, "one for each shard");
    assert_eq!(
        first + rest.iter().map(|(_, count)| count).sum::<u64>(),
        1000
    );
    assert_eq!(failures(&lab), 1000);
}

/// Goal: an abnormal event of an earlier adjacency is counted and leaves the present one alone.
#[test]
fn h_11_a_late_event_spares_the_next_adjacency() {
    let mut lab = Lab::new(&[9]);
    lab.align(D0);
    lab.hub.control.handle_clear(lab.now(), D0);
    lab.collect();
    lab.align(D0);
    let event = |epoch| ToControl::Abnormal {
        dcs: D0,
        epoch: Epoch(epoch),
        cause: Abnormal::CsuRetransmit,
        count: 1,
    };
    // Up and down, and up again: each began an epoch.
    for (epoch, state) in [(1, Aligned), (2, Aligned), (3, Down)] {
        lab.hub.control.handle_message(lab.now(), event(epoch));
        lab.collect();
        assert_eq!(lab.alignment(D0), state, "epoch {epoch}");
    }
    assert_eq!(
        lab.hub.peer(D0).abnormal[Abnormal::CsuRetransmit.index()],
        3
    );
}

/// Goal: several keys are live at once, each under its own SPI, with its own algorithm; each way
/// has its own.
#[test]
fn x_01_several_keys_are_live() {
    let mut keys = Vec::new();
    for (spi, algorithm) in (10..).zip(Algorithm::ALL) {
        keys.push(AuthKey {
            spi,
            key: MacKey::new(algorithm, b"receive"),
            send: None,
            receive: ALWAYS,
        });
    }
    keys.push(AuthKey {
        receive: None,
        ..key(99, b"send")
    });
    let mut lab = lab_with(&auth(AuthMode::Require, &keys));
    for key in &keys[..4] {
        let bytes = sign(plain(&lab, &hello(&[LSID])), key.spi, &key.key);
        lab.send_bytes(D0, &bytes);
        assert_eq!((lab.hub.hello(D0), failures(&lab)), (Bidirectional, 0));
    }
    let bytes = sign(plain(&lab, &hello(&[LSID])), 99, &mac_key(b"send"));
    lab.send_bytes(D0, &bytes);
    assert_eq!(failures(&lab), 1, "a key for sending does not verify");
}

/// Goal: one SPI may have keys one after the other; each verifies in its own time only.
#[test]
fn x_06_an_expired_key_does_not_verify() {
    let old = AuthKey {
        receive: Some(period(None, Some(10))),
        ..key(1, b"old")
    };
    let new = AuthKey {
        receive: Some(period(Some(8), None)),
        ..key(1, b"new")
    };
    let mut lab = lab_with(&auth(AuthMode::Accept, &[old, new]));
    let mut wanted = 0;
    for (second, old, new) in [(0, true, false), (9, true, true), (10, false, true)] {
        lab.wait(secs(second).saturating_sub(lab.since_start));
        for (secret, verifies) in [(b"old", old), (b"new", new)] {
            send_signed(&mut lab, 1, secret, &hello(&[LSID]));
            wanted += u64::from(!verifies);
            assert_eq!(failures(&lab), wanted, "{secret:?} at {second}");
        }
    }
}

/// Goal: while no key is valid for sending, nothing is sent where authentication is required; what
/// waits goes out once there is one. "send" goes on unsigned. Both say so.
#[test]
fn x_04_nothing_goes_out_without_a_key() {
    for mode in [AuthMode::Send, AuthMode::Require] {
        let keys = [
            AuthKey {
                send: Some(period(None, Some(10))),
                ..key(1, b"secret")
            },
            AuthKey {
                send: Some(period(Some(14), None)),
                ..key(2, b"next")
            },
        ];
        let mut lab = lab_with(&auth(mode, &keys));
        align(&mut lab);
        lab.wait(secs(11));
        lab.hellos(D0);
        lab.sent(D0);
        lab.publish(b"mine", b"body");
        let theirs = Msg::Request(vec![rec(b"theirs", 9, 1, 3, b"body")]);
        send_signed(&mut lab, 1, b"secret", &theirs);
        lab.wait(secs(2));
        let (sent, hellos) = (lab.sent(D0), lab.hellos(D0));
        let withheld: u64 = lab
            .hub
            .shards
            .iter()
            .map(|shard| shard.packets().withheld)
            .sum();
        let told: Vec<bool> = (lab.notices().into_iter())
            .filter_map(|notice| match notice {
                Notice::NoSendKey { withheld, .. } => Some(withheld),
                _ => None,
            })
            .collect();
        assert!(!told.is_empty());
        if mode == AuthMode::Send {
            assert!(records(&sent).iter().all(|it| it.sum.key == b"mine") && !sent.is_empty());
            assert!(!hellos.is_empty() && !told.contains(&true) && withheld == 0);
            continue;
        }
        assert_eq!((sent, hellos.len()), (vec![], 0));
        assert!(!told.contains(&false) && withheld == 1 && lab.hub.control.withheld() > 0);
        lab.wait(secs(3));
        assert_eq!(records(&lab.sent(D0))[0].sum.key, b"mine");
        assert!(!lab.hellos(D0).is_empty());
    }
}

/// Goal: a CA that is sent again after its key expired is signed with the key that is valid then
/// (the signature is checked as it is sent), also when its MAC is longer.
#[test]
fn x_06_a_resent_ca_is_signed_anew() {
    let keys = [
        AuthKey {
            send: Some(period(None, Some(2))),
            ..key(1, b"secret")
        },
        AuthKey {
            key: MacKey::new(Algorithm::Blake3, b"next"),
            send: Some(period(Some(2), None)),
            ..key(2, b"next")
        },
    ];
    let mut lab = lab_with(&auth(AuthMode::Require, &keys));
    send_signed(&mut lab, 1, b"secret", &hello(&[LSID]));
    lab.wait(secs(5));
    let sent = lab.sent(D0);
    assert_eq!(sent.len(), 6);
    assert!(
        sent.iter().all(|msg| *msg == sent[0]),
        "CA-02: all the same but for the MAC"
    );
}

/// Two hubs that ask each other for these modes, with one key for both directions.
fn pair(modes: [AuthMode; 2], algorithm: Algorithm) -> World {
    World::line_of(&[2, 1], |hub, setup| {
        let key = AuthKey {
            key: MacKey::new(algorithm, b"secret"),
            ..key(256, b"")
        };
        adapt(setup, &auth(modes[hub], &[key]))
    })
}

fn adapt(mut setup: Setup, auth: &AuthSetup) -> Setup {
    for dcs in &mut setup.dcs {
        dcs.auth = auth.clone();
    }
    setup
}

/// Writes at both ends reach the other.
fn assert_works(world: &mut World) {
    world.align();
    let now = world.now();
    world.hubs[0].set(now, b"a", b"1");
    world.hubs[1].set(now, b"b", b"2");
    world.run(secs(3));
    world.assert_equal();
    assert_eq!(world.hubs[0].entries().len(), 2);
}

/// Goal: at every step of a staged rollout, one hub after the other, two hubs work together; where
/// one requires what the other does not give, they never meet.
#[test]
fn x_04_staged_rollout() {
    for (a, first) in MODES.into_iter().enumerate() {
        for (b, second) in MODES.into_iter().enumerate() {
            let mut world = pair([first, second], Algorithm::HmacMd5);
            let (most, least) = if a > b {
                (first, second)
            } else {
                (second, first)
            };
            let works =
                most != AuthMode::Require || matches!(least, AuthMode::Send | AuthMode::Require);
            if works {
                assert_works(&mut world);
            } else {
                assert!(
                    !world.run_until(secs(30), World::is_aligned),
                    "{first:?} {second:?}"
                );
                let states = world.states();
                assert!(
                    states.iter().all(|(hello, _)| *hello != Bidirectional),
                    "{states:?}"
                );
            }
            assert!(a.abs_diff(b) > 1 || works, "neighbouring stages work");
        }
    }
}

/// Goal: every algorithm carries an alignment and floods.
#[test]
fn x_05_every_algorithm_works() {
    for algorithm in Algorithm::ALL {
        assert_works(&mut pair([AuthMode::Require; 2], algorithm));
    }
}

/// Goal: each hub allocates the SPIs under which it is spoken to; the other one signs with those and
/// no others.
#[test]
fn x_02_each_side_allocates_its_spis() {
    let mut world = World::line_of(&[1, 2], |hub, setup| {
        let towards = |to: usize| key([700, 800][to], [b"to hub 0", b"to hub 1"][to]);
        let keys = [
            AuthKey {
                receive: None,
                ..towards(1 - hub)
            },
            AuthKey {
                send: None,
                ..towards(hub)
            },
        ];
        adapt(setup, &auth(AuthMode::Require, &keys))
    });
    assert_works(&mut world);
}

/// Goal: hubs with different secrets never meet, however long they try.
#[test]
fn x_04_a_wrong_key_never_aligns() {
    let mut world = World::line_of(&[1, 1], |hub, setup| {
        let secret = [b"one", b"two"][hub];
        adapt(setup, &auth(AuthMode::Require, &[key(256, secret)]))
    });
    world.run(secs(60));
    for hub in &world.hubs {
        let peer = hub.peer(D0);
        assert_eq!((peer.hello, peer.alignment), (Waiting, Down));
        assert!(peer.abnormal[Abnormal::Authentication.index()] >= 20);
    }
}

/// Goal: keys are changed by overlapping lifetimes under live traffic, each hub at a moment of its
/// own, without one failure, one resent record or one reset, and nothing is lost; also to an
/// algorithm with a longer MAC.
#[test]
fn x_06_roll_over_under_live_traffic() {
    // SPI, algorithm, and when hubs 0 and 1 begin to sign with it; both accept it from 5 s before
    // the first until 5 s after the last moment at which it can be signed with.
    let generations = [
        (256, Algorithm::HmacMd5, [None, None], [Some(20), Some(22)]),
        (
            257,
            Algorithm::HmacSha512,
            [Some(20), Some(22)],
            [Some(42), Some(40)],
        ),
        (256, Algorithm::Blake3, [Some(42), Some(40)], [None, None]),
    ];
    let mut world = World::line_of(&[2, 3], |hub, mut setup| {
        let keys = generations.map(|(spi, algorithm, from, until)| AuthKey {
            spi,
            key: MacKey::new(algorithm, format!("{algorithm:?}").as_bytes()),
            // Longer than until the next one starts: the latest start signs (D-18).
            send: Some(period(from[hub], until[hub].map(|secs| secs + 1))),
            receive: Some(period(
                from.into_iter().min().flatten().map(|secs| secs - 5),
                until.into_iter().max().flatten().map(|secs| secs + 5),
            )),
        });
        setup.dcs[0].packet_limit = 300;
        adapt(setup, &auth(AuthMode::Require, &keys))
    });
    world.align();
    let transitions = [0, 1].map(|hub: usize| world.hubs[hub].peer(D0).transitions);
    let mut written = 0_u32;
    while world.since_start < secs(60) {
        let now = world.now();
        for hub in 0..2 {
            for _ in 0..5 {
                world.hubs[hub].set(now, &written.to_be_bytes(), &[7; 40]);
                written += 1;
            }
        }
        world.run(millis(90));
    }
    world.run(secs(3));
    world.assert_equal();
    assert_eq!(
        world.hubs[0].entries().len(),
        usize::try_from(written).unwrap()
    );
    for (hub, before) in world.hubs.iter().zip(transitions) {
        let peer = hub.peer(D0);
        assert_eq!(peer.transitions, before, "no adjacency was touched");
        assert_eq!(peer.abnormal, [0; Abnormal::ALL.len()]);
        for shard in &hub.shards {
            assert_eq!(shard.counters(crate::support::I0).retransmitted, 0);
            assert_eq!(shard.packets().dropped[Drop::Authentication.index()], 0);
        }
    }
}

/// Goal: what goes to everybody on a multipoint link is signed with the keys that its DCSs share,
/// before and after they change (the signature is checked as it is sent).
#[test]
fn x_03_packets_for_everybody_are_signed() {
    let keys = [
        AuthKey {
            send: Some(period(None, Some(20))),
            ..key(1, b"old")
        },
        AuthKey {
            send: Some(period(Some(20), None)),
            ..key(2, b"new")
        },
    ];
    let auth = auth(AuthMode::Require, &keys);
    let mut world = mesh(&[2, 1, 1], 0, |setup| {
        setup.dcs.iter_mut().for_each(|dcs| dcs.auth = auth.clone());
    });
    world.align();
    for round in 0..2_u8 {
        world.run(secs(15));
        let now = world.now();
        for n in 0..50 {
            world.hubs[0].set(now, &[round, n], b"value");
        }
        world.run(secs(5));
        world.assert_equal();
    }
    assert_eq!(world.hubs[2].entries().len(), 100);
    assert_eq!(counted(&world, |it| it.broadcast), [100, 0, 0]);
    for shard in world.hubs.iter().flat_map(|hub| &hub.shards) {
        assert_eq!(shard.packets().dropped[Drop::Authentication.index()], 0);
    }
}

/// Goal: signed packets keep the packet limit, pages of summaries and solicitations included (the
/// limit is checked as they are sent), and the largest record still travels.
#[test]
fn w_10_signed_packets_keep_the_limit() {
    for algorithm in Algorithm::ALL {
        let mut world = World::line_of(&[1, 2], |hub, mut setup| {
            setup.dcs[0].packet_limit = 300 + 7 * hub;
            let key = AuthKey {
                key: MacKey::new(algorithm, b"secret"),
                ..key(256, b"")
            };
            adapt(setup, &auth(AuthMode::Require, &[key]))
        });
        world.cut.insert(0);
        world.run(secs(70));
        let now = world.now();
        let max = world.hubs[0].shards[0].body_len_max(crate::support::I0, 8) - 16;
        for hub in 0..2_u64 {
            for n in 0..200 {
                let key = (hub * 1000 + n).to_be_bytes();
                world.hubs[usize::try_from(hub).unwrap()].set(now, &key, &[1; 50]);
            }
        }
        world.hubs[0].set(now, b"largest!", &vec![2; max]);
        world.cut.clear();
        world.align();
        world.run(secs(5));
        world.assert_equal();
        assert_eq!(
            world.hubs[1].get(world.now(), b"largest!").unwrap().len(),
            max
        );
        assert!(max < DATAGRAM_LEN_MAX && max > 65_000);
    }
}

/// Goal: what a link can carry is what is left beside the signature: an entry whose summary alone fits
/// only without it is left out of the exchange and counted, and the exchange ends (D-14).
#[test]
fn d_14_the_signature_takes_room_from_summaries() {
    let signature = Signer {
        spi: 1,
        key: &mac_key(b"secret"),
    }
    .extension_len();
    // A CA with two ids of 4 octets around a summary with one of 4 octets, its key left out.
    let (around, summary) = (overhead(MessageType::Ca, 4, 4), 16);
    for (key_len, summarized) in [(200, true), (201, false), (200 + signature, false)] {
        let keys = auth(AuthMode::Require, &[key(1, b"secret")]);
        let mut lab = Lab::with(&[9, 8], |setup| {
            setup.shards = 1;
            setup.dcs[0].auth = keys.clone();
            setup.dcs[0].datagram_limit = around + signature + summary + 200;
            setup.dcs[0].packet_limit = around + signature + summary + 200;
        });
        lab.align(crate::support::D1);
        lab.flood(crate::support::D1, &[rec(&vec![7; key_len], 8, 1, 1, b"")]);
        align(&mut lab);
        assert_eq!(lab.alignment(D0), Aligned, "{key_len}");
        let counters = lab.hub.shards[0].counters(crate::support::I0);
        assert_eq!(counters.unsendable, u64::from(!summarized), "{key_len}");
    }
}

/// Goal: own vendor-private data that cannot be read are counted, and the packet is taken in like
/// any other; those of other vendors are not even counted.
#[test]
fn x_07_unreadable_items_harm_nothing() {
    let mut lab = Lab::new(&[9]);
    let (us, them) = (id(LSID), id(9));
    let header = Header {
        protocol: lab.hub.setup.instances[0].protocol,
        group: lab.hub.setup.instances[0].group,
        sender: them.as_bytes(),
        receiver: us.as_bytes(),
    };
    let fields = HelloFields {
        interval_secs: 3,
        dead_factor: 100,
        family: scsp_wire::FamilyId(0),
    };
    for (value, malformed) in [
        (vec![0, 0, 1, 1, 2, 3], 0),
        ([&OWN_VENDOR[..], &[1, 1, 1, 0]].concat(), 0),
        ([&OWN_VENDOR[..], &[1, 1, 9]].concat(), 1),
        ([&OWN_VENDOR[..], &[2]].concat(), 2),
    ] {
        let mut bytes = vec![0; 200];
        let mut builder = Builder::hello(&mut bytes, 200, &header, fields).unwrap();
        assert!(builder.push_extension(2, &value));
        let len = builder.finish();
        lab.hub.control.handle_clear(lab.now(), D0);
        lab.send_bytes(D0, &bytes[..len]);
        assert_eq!(lab.hub.hello(D0), Bidirectional, "{value:?}");
        let counted = lab
            .hub
            .shards
            .iter()
            .map(|it| it.packets().vendor_malformed);
        assert_eq!(counted.sum::<u64>(), malformed);
    }
}
