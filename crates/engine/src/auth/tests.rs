use scsp_wire::{Algorithm, MacKey};

use super::*;

fn key(spi: u32, from_ms: Option<u64>, until_ms: Option<u64>) -> AuthKey {
    let period = Some(Period { from_ms, until_ms });
    AuthKey {
        spi,
        key: MacKey::new(Algorithm::HmacMd5, b"secret"),
        send: period,
        receive: period,
    }
}

fn signing_spi(auth: &AuthSetup, unix_ms: u64) -> Option<u32> {
    auth.signing(unix_ms).signer().map(|signer| signer.spi)
}

fn with(mode: AuthMode, keys: Vec<AuthKey>) -> AuthSetup {
    AuthSetup {
        mode,
        keys,
        failure_resets: false,
    }
}

/// Goal: of the keys valid for sending the one with the latest start signs; no start counts as the
/// earliest, the first of equal ones wins, and neither a key only for receiving nor one that is not
/// valid is ever taken.
#[test]
fn d_18_the_latest_valid_start_signs() {
    let mut receiver = key(9, Some(15), None);
    receiver.send = None;
    let keys = vec![
        key(1, None, None),
        key(2, Some(10), None),
        receiver,
        key(3, Some(20), Some(30)),
        key(4, Some(20), None),
    ];
    let auth = with(AuthMode::Require, keys.clone());
    for (unix_ms, spi) in [(0, 1), (9, 1), (10, 2), (19, 2), (20, 3), (29, 3), (30, 4)] {
        assert_eq!(signing_spi(&auth, unix_ms), Some(spi), "at {unix_ms}");
    }
    let backwards = with(AuthMode::Send, keys.into_iter().rev().collect());
    for (unix_ms, spi) in [(0, 1), (10, 2), (20, 4), (30, 4)] {
        assert_eq!(signing_spi(&backwards, unix_ms), Some(spi), "at {unix_ms}");
    }
    let twins = with(AuthMode::Send, vec![key(7, None, None), key(6, None, None)]);
    assert_eq!(signing_spi(&twins, 0), Some(7));
}

/// Goal: what goes out without a valid key depends on the mode alone; modes that do not sign never
/// do (D-18), and room is kept for the longest MAC that may come.
#[test]
fn x_04_what_goes_out_without_a_key() {
    let expired = key(1, None, Some(10));
    let mut longer = key(2, Some(50), None);
    longer.key = MacKey::new(Algorithm::HmacSha512, b"secret");
    for (mode, before, after, room) in [
        (AuthMode::Off, "Plain", "Plain", 0),
        (AuthMode::Accept, "Plain", "Plain", 0),
        (AuthMode::Send, "Signed", "Unsigned", 44),
        (AuthMode::Require, "Signed", "Withheld", 44),
    ] {
        let auth = with(mode, vec![expired.clone(), longer.clone()]);
        for (unix_ms, wanted) in [(9, before), (10, after), (50, before)] {
            let shown = format!("{:?}", auth.signing(unix_ms));
            assert!(shown.starts_with(wanted), "{mode:?} at {unix_ms}: {shown}");
        }
        assert_eq!(auth.room(), room);
    }
}

/// Goal: a period begins at its first moment and is over at its end.
#[test]
fn x_06_periods_have_sharp_edges() {
    let period = |from_ms, until_ms| Period { from_ms, until_ms };
    for (period, unix_ms, inside) in [
        (period(None, None), 0, true),
        (period(Some(5), None), 4, false),
        (period(Some(5), None), 5, true),
        (period(None, Some(5)), 4, true),
        (period(None, Some(5)), 5, false),
        (period(Some(5), Some(6)), 5, true),
        (period(Some(5), Some(6)), 6, false),
    ] {
        assert_eq!(period.contains(unix_ms), inside, "{period:?} at {unix_ms}");
    }
}
