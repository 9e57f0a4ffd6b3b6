//! Any octets, sealed and signed in part, against a table of keys: no panic (W-10), and a packet
//! verifies exactly when a key of its SPI that is valid gives its MAC, computed here over a copy by
//! the plain functions of the hash crates.

#![no_main]
#![forbid(unsafe_code)]

mod sealed;

use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use scsp_engine::auth::Trust;
use scsp_engine::{AuthKey, AuthMode, AuthSetup, Period};
use scsp_wire::{Algorithm, Envelope, FIXED_LEN, Items, MacKey, Message, Signer};
use sealed::sealed;

const BLAKE3_CONTEXT: &str = "scspd 2026-11 packet authentication";

#[derive(Arbitrary, Clone, Debug)]
struct Key {
    spi: u8,
    algorithm: u8,
    secret: u8,
    receives: bool,
    from: Option<u8>,
    until: Option<u8>,
}

#[derive(Arbitrary, Debug)]
struct Input {
    keys: Vec<Key>,
    requires: bool,
    now: u8,
    /// Which key signs the packet, if any.
    signs: Option<u8>,
    /// Where an octet is changed afterwards, and how.
    change: Option<(u16, u8)>,
    packet: Vec<u8>,
}

impl Key {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ALL[usize::from(self.algorithm) % Algorithm::ALL.len()]
    }

    fn mac_key(&self) -> MacKey {
        MacKey::new(self.algorithm(), &[self.secret])
    }

    fn is_valid(&self, now: u8) -> bool {
        self.receives
            && self.from.is_none_or(|from| from <= now)
            && self.until.is_none_or(|until| now < until)
    }

    /// The MAC over octets in which it is blank.
    fn mac(&self, blank: &[u8]) -> Vec<u8> {
        fn hmac<M: Mac + KeyInit>(secret: u8, blank: &[u8]) -> Vec<u8> {
            let keyed = <M as KeyInit>::new_from_slice(&[secret]).expect("any length");
            keyed.chain_update(blank).finalize().into_bytes().to_vec()
        }
        let mut mac = match self.algorithm() {
            Algorithm::HmacMd5 => hmac::<Hmac<md5::Md5>>(self.secret, blank),
            Algorithm::HmacSha256 => hmac::<Hmac<sha2::Sha256>>(self.secret, blank),
            Algorithm::HmacSha512 => hmac::<Hmac<sha2::Sha512>>(self.secret, blank),
            Algorithm::Blake3 => {
                let key = blake3::derive_key(BLAKE3_CONTEXT, &[self.secret]);
                blake3::keyed_hash(&key, blank).as_bytes().to_vec()
            }
        };
        mac.truncate(self.algorithm().mac_len());
        mac
    }
}

fuzz_target!(|input: Input| {
    let _ = Items::parse(&input.packet);
    let Some(mut packet) = sealed(&input.packet) else {
        return;
    };
    let signing = input.signs.and_then(|at| input.keys.get(usize::from(at)));
    if let Some(key) = signing {
        let (len, mac_key) = (packet.len(), key.mac_key());
        packet.resize(len + 64, 0);
        let signer = Signer {
            spi: key.spi.into(),
            key: &mac_key,
        };
        let signed = signer.sign(&mut packet, len);
        packet.truncate(signed.unwrap_or(len));
    }
    if let Some((at, octet)) = input.change {
        let at = usize::from(at) % packet.len();
        packet[at] = octet;
        let Some(changed) = sealed(&packet) else {
            return;
        };
        packet = changed;
    }
    let Ok(envelope) = Envelope::parse(&packet) else {
        return;
    };
    judge(&input, &envelope);
    if let Ok(message) = envelope.open() {
        look(&message);
    }
});

/// The engine's verdict is the one that follows from the plain functions.
fn judge(input: &Input, envelope: &Envelope<'_>) {
    let moment = |at: Option<u8>| at.map(u64::from);
    let keys = input.keys.iter().map(|key| AuthKey {
        spi: key.spi.into(),
        key: key.mac_key(),
        send: None,
        receive: key.receives.then_some(Period {
            from_ms: moment(key.from),
            until_ms: moment(key.until),
        }),
    });
    let mode = if input.requires {
        AuthMode::Require
    } else {
        AuthMode::Accept
    };
    let auth = AuthSetup {
        mode,
        keys: keys.collect(),
        failure_resets: false,
    };
    let verdict = auth.verify(input.now.into(), envelope);
    let Some((spi, mac, blank)) = find(envelope.bytes()) else {
        assert_eq!(verdict.is_err(), input.requires);
        assert_ne!(verdict, Ok(Trust::Verified));
        return;
    };
    let right = input
        .keys
        .iter()
        .any(|key| u32::from(key.spi) == spi && key.is_valid(input.now) && key.mac(&blank) == mac);
    assert_eq!(verdict.is_ok(), right, "{input:?}");
    assert!(!right || verdict == Ok(Trust::Verified));
}

/// SPI and MAC of the first authentication extension, and the packet with MAC and checksum blank;
/// written anew from the layout of B.1 and B.3.
fn find(packet: &[u8]) -> Option<(u32, Vec<u8>, Vec<u8>)> {
    let u16_at = |at: usize| {
        let field = packet.get(at..at + 2)?;
        Some(usize::from(u16::from_be_bytes([field[0], field[1]])))
    };
    let prefix = match packet[1] {
        1 => 4,
        5 => 8,
        _ => 0,
    };
    let common = FIXED_LEN + prefix;
    let ids = usize::from(packet[common + 8]) + usize::from(packet[common + 9]);
    let mut at = u16_at(6)?;
    if at < common + 12 + ids {
        return None;
    }
    for _ in 0..64 {
        let (code, len) = (u16_at(at)?, u16_at(at + 2)?);
        let value = at + 4..at + 4 + len;
        packet.get(value.clone())?;
        match code {
            0 => return None,
            1 if len >= 4 => {
                let spi = packet[value.start..value.start + 4].try_into().ok()?;
                let mac = packet[value.start + 4..value.end].to_vec();
                let mut blank = packet.to_vec();
                blank[4..6].fill(0);
                blank[value.start + 4..value.end].fill(0);
                return Some((u32::from_be_bytes(spi), mac, blank));
            }
            1 => return None,
            2 if len < 3 => return None,
            _ => at = value.end,
        }
    }
    None
}

fn look(message: &Message<'_>) {
    if let Some(Ok(items)) = message.extensions().own_items() {
        assert!(items.count() <= message.envelope().bytes().len());
    }
}
