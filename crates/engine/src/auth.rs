//! Authentication of packets (RFC 2334 B.3.1): which key signs, which one verifies.
//!
//! The verdict on a packet is made once, in the shard that receives it, before anything of the
//! packet counts (D-08). What the cores say to each other is verified already.

use scsp_wire::{Envelope, MacKey, Signer};

use crate::setup::{DcsIndex, Setup};

/// What is asked of a DCS, in the order of a staged rollout: two servers that are at most one stage
/// apart understand each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// Nothing: an authentication extension is skipped like any other that means nothing here
    /// (W-08), so that the DCS may sign already.
    #[default]
    Off,
    /// A MAC that is present must be right; nothing is signed (D-18).
    Accept,
    /// The same, and packets are signed; while no key is valid for sending they go unsigned, since
    /// nobody requires it yet.
    Send,
    /// Nothing is taken or sent without a MAC.
    Require,
}

/// When a key may be used, in Unix milliseconds; without a bound: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// First moment.
    pub from_ms: Option<u64>,
    /// First moment at which it is over.
    pub until_ms: Option<u64>,
}

impl Period {
    /// Whether it is under way.
    pub fn contains(&self, unix_ms: u64) -> bool {
        self.from_ms.is_none_or(|from| from <= unix_ms)
            && self.until_ms.is_none_or(|until| unix_ms < until)
    }
}

/// A key that this server shares with one DCS.
#[derive(Clone, Debug)]
pub struct AuthKey {
    /// Security parameter index: in packets sent the one the DCS allocated, in packets received our
    /// own.
    pub spi: u32,
    /// Algorithm and secret.
    pub key: MacKey,
    /// When it may sign; `None`: never.
    pub send: Option<Period>,
    /// When it may verify; `None`: never.
    pub receive: Option<Period>,
}

/// Authentication between this server and one DCS.
#[derive(Clone, Debug, Default)]
pub struct AuthSetup {
    /// What is asked of the DCS.
    pub mode: AuthMode,
    /// The keys, several live at once; where nothing else decides, an earlier one wins.
    pub keys: Vec<AuthKey>,
    /// A packet that fails authentication resets the DCS, by the letter (D-03).
    pub failure_resets: bool,
}

/// Why a packet failed authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthFailure {
    /// It has no authentication extension, and must have one.
    Missing,
    /// No key may verify packets of the DCS.
    NoKey,
    /// No key has its SPI.
    UnknownSpi,
    /// The keys with its SPI are not valid yet, or not any more.
    Expired,
    /// The MAC is wrong.
    WrongMac,
}

impl AuthFailure {
    /// Every failure.
    pub const ALL: [Self; 5] = [
        Self::Missing,
        Self::NoKey,
        Self::UnknownSpi,
        Self::Expired,
        Self::WrongMac,
    ];

    /// Word for logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NoKey => "no key",
            Self::UnknownSpi => "unknown SPI",
            Self::Expired => "expired key",
            Self::WrongMac => "wrong MAC",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// What is known of a packet's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Authentication is off.
    Unchecked,
    /// It may go without a MAC, and does.
    Unsigned,
    /// Its MAC is right.
    Verified,
}

impl Trust {
    /// Whether the packet may reset the neighbour when it is malformed (D-02).
    pub const fn may_reset(self) -> bool {
        !matches!(self, Self::Unsigned)
    }
}

/// How a packet for a DCS goes out.
#[derive(Clone, Copy, Debug)]
pub enum Signing<'k> {
    /// As it is.
    Plain,
    /// Signed.
    Signed(Signer<'k>),
    /// As it is, for want of a valid key.
    Unsigned,
    /// Not at all, for want of a valid key.
    Withheld,
}

impl<'k> Signing<'k> {
    /// What signs the packet, if anything does.
    pub fn signer(self) -> Option<Signer<'k>> {
        match self {
            Self::Signed(signer) => Some(signer),
            Self::Plain | Self::Unsigned | Self::Withheld => None,
        }
    }
}

impl AuthSetup {
    /// How a packet is to go out now: of the keys valid for sending the one with the latest start
    /// signs, no start counting as the earliest; of several of these the first (D-18).
    pub fn signing(&self, unix_ms: u64) -> Signing<'_> {
        let without = match self.mode {
            AuthMode::Off | AuthMode::Accept => return Signing::Plain,
            AuthMode::Send => Signing::Unsigned,
            AuthMode::Require => Signing::Withheld,
        };
        let valid = |key: &&AuthKey| key.send.is_some_and(|period| period.contains(unix_ms));
        // The last of several equal ones is taken, so the first comes last.
        let latest = self.keys.iter().rev().filter(valid);
        let latest = latest.max_by_key(|key| key.send.and_then(|period| period.from_ms));
        latest.map_or(without, |key| {
            let (spi, key) = (key.spi, &key.key);
            Signing::Signed(Signer { spi, key })
        })
    }

    /// Octets to keep free in a packet for any key that may come to sign it: what is packed for the
    /// DCS now may go out under a later key (W-10).
    pub fn room(&self) -> usize {
        let signs = matches!(self.mode, AuthMode::Send | AuthMode::Require);
        let sending = self.keys.iter().filter(|key| key.send.is_some());
        let lens = sending.map(|key| key.key.algorithm().extension_len());
        lens.filter(|_| signs).max().unwrap_or(0)
    }

    /// Judges a received packet by the keys of its SPI that are valid now.
    pub fn verify(&self, unix_ms: u64, envelope: &Envelope<'_>) -> Result<Trust, AuthFailure> {
        if self.mode == AuthMode::Off {
            return Ok(Trust::Unchecked);
        }
        let Some(found) = envelope.authentication() else {
            return match self.mode {
                AuthMode::Require => Err(AuthFailure::Missing),
                AuthMode::Off | AuthMode::Accept | AuthMode::Send => Ok(Trust::Unsigned),
            };
        };
        let mut failure = AuthFailure::NoKey;
        for key in &self.keys {
            let Some(period) = key.receive else { continue };
            let reason = if key.spi != found.spi() {
                AuthFailure::UnknownSpi
            } else if !period.contains(unix_ms) {
                AuthFailure::Expired
            } else if !found.verify(&key.key) {
                AuthFailure::WrongMac
            } else {
                return Ok(Trust::Verified);
            };
            // The reason of the key that came closest.
            if reason.index() > failure.index() {
                failure = reason;
            }
        }
        Err(failure)
    }
}

impl Setup {
    /// How a packet for `dcs` is to go out now. What goes to a whole link goes out as for any one
    /// of its DCSs, which share their keys.
    pub fn signing(&self, dcs: DcsIndex, unix_ms: u64) -> Signing<'_> {
        self.dcs[dcs.index()].auth.signing(unix_ms)
    }
}

#[cfg(test)]
mod tests;
