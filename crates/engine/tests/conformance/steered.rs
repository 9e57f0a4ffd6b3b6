//! Packets that come to `Control` first, as those do that the kernel steers to it.

use scsp_engine::alignment::State::{Aligned, Down, Negotiation, Update};
use scsp_engine::hello::State::{Bidirectional, Waiting};
use scsp_engine::message::Abnormal;
use scsp_engine::shard::Drop;
use scsp_engine::{AuthKey, AuthMode, AuthSetup, Notice, Period};
use scsp_wire::{Algorithm, MacKey, ParseError, checksum};

use crate::script::{LSID, Lab, Msg, ca, hello, rec, sum};
use crate::support::{D0, id, secs};

fn build(lab: &Lab, msg: &Msg) -> Vec<u8> {
    let (us, them) = (id(LSID), id(lab.peers[0]));
    msg.build(&lab.hub.setup, D0, them.as_bytes(), us.as_bytes())
}

fn come(lab: &mut Lab, bytes: &[u8]) {
    let now = lab.now();
    lab.hub.receive_at_control(now, D0, bytes);
    lab.collect();
}

fn say(lab: &mut Lab, msg: &Msg) {
    let bytes = build(lab, msg);
    come(lab, &bytes);
}

/// Goal: CA-16, CSU-01: a whole alignment through `Control`, and then records: those that come there
/// end up in the shard that owns them, before Update Cache they do not count.
#[test]
fn csu_01_packets_that_come_to_control_find_their_shard() {
    let mut lab = Lab::new(&[9]);
    say(&mut lab, &hello(&[LSID]));
    assert_eq!(
        (lab.hub.hello(D0), lab.alignment(D0)),
        (Bidirectional, Negotiation)
    );
    let early = Msg::Request(vec![rec(b"early", 9, 1, 3, b"body")]);
    say(&mut lab, &early);
    say(&mut lab, &ca(900, "MIO", &[]));
    say(&mut lab, &ca(901, "M", &[sum(b"asked", 9, 4)]));
    assert_eq!(lab.alignment(D0), Update);
    assert_eq!(lab.entry(b"early", 9), None, "CSU-01");
    let keys: Vec<Vec<u8>> = (0..20).map(|n| format!("key {n}").into_bytes()).collect();
    let mut records = vec![rec(b"asked", 9, 4, 1, b"body")];
    records.extend(keys.iter().map(|key| rec(key, 9, 1, 3, b"body")));
    say(&mut lab, &Msg::Request(records));
    assert_eq!(lab.alignment(D0), Aligned);
    for key in keys.iter().map(Vec::as_slice).chain([&b"asked"[..]]) {
        assert!(lab.entry(key, 9).is_some(), "{key:?}");
    }
    let received = lab.hub.control.packets().received;
    assert_eq!(received, [2, 2, 0, 0, 1], "CA, CSU Requests and a Hello");
    assert_eq!(lab.hub.control.ignored(), 1);
}

/// Goal: D-02: what is malformed is counted, and resets the neighbour where it can be held against
/// it, as in a shard.
#[test]
fn d_02_control_judges_what_comes_to_it() {
    let mut lab = Lab::new(&[9]);
    lab.align(D0);
    let whole = build(&lab, &Msg::Request(vec![rec(b"key", 9, 1, 3, b"body")]));
    let mut damaged = whole.clone();
    damaged[10] ^= 1;
    come(&mut lab, &damaged);
    come(&mut lab, &whole[..5]);
    assert_eq!(lab.alignment(D0), Aligned);
    // The record count is wrong.
    let mut bytes = whole;
    bytes[18..20].copy_from_slice(&2_u16.to_be_bytes());
    checksum::seal(&mut bytes);
    come(&mut lab, &bytes);
    assert_eq!((lab.hub.hello(D0), lab.alignment(D0)), (Waiting, Down));
    assert_eq!(lab.hub.peer(D0).abnormal[Abnormal::Malformed.index()], 1);
    let dropped = lab.hub.control.packets().dropped;
    assert_eq!(dropped.iter().sum::<u64>(), 3);
    assert_eq!(dropped[Drop::Malformed(ParseError::Checksum).index()], 1);
}

/// Goal: X-04, D-08: what fails authentication at `Control` does not count, and is told at once for
/// the first time and bundled then, by a timer of its own.
#[test]
fn x_04_control_takes_nothing_unauthenticated() {
    let forever = Some(Period::default());
    let key = MacKey::new(Algorithm::HmacMd5, b"secret");
    let keys = vec![AuthKey {
        spi: 1,
        key,
        send: forever,
        receive: forever,
    }];
    let mut lab = Lab::with(&[9], |setup| {
        setup.dcs[0].auth = AuthSetup {
            mode: AuthMode::Require,
            keys: keys.clone(),
            failure_resets: false,
        };
    });
    let mut told = Vec::new();
    for _ in 0..3 {
        say(&mut lab, &hello(&[LSID]));
        told.push(told_of(&lab.notices()));
    }
    lab.wait(secs(1));
    told.push(told_of(&lab.notices()));
    assert_eq!(told, [1, 0, 0, 2]);
    assert_eq!(lab.hub.hello(D0), Waiting);
    let dropped = lab.hub.control.packets().dropped;
    assert_eq!(dropped[Drop::Authentication.index()], 3);
}

fn told_of(notices: &[Notice]) -> u64 {
    let counts = notices.iter().map(|notice| match notice {
        Notice::Unauthenticated { count, .. } => *count,
        _ => 0,
    });
    counts.sum()
}
