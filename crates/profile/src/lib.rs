//! Record bodies and their rules: what a body says about its entry, and how
//! its remaining life is rewritten on the way out. No I/O, no clock, no allocation.
//!
//! | file | holds |
//! |---|---|
//! | `kv.rs` | body of the generic key-value protocol (KV) |
//! | `nhrp.rs` | body of NHRP records (RFC 2335) |
//! | `hlc.rs` | hybrid logical clock of K-05 |
#![forbid(unsafe_code)]
#![no_std]

#[cfg(test)]
extern crate std;

pub mod hlc;
pub mod kv;
pub mod nhrp;

use core::time::Duration;

use scsp_wire::ProtocolId;

pub use hlc::{Clock, Stamp};
pub use kv::{KvBody, KvKind};
pub use nhrp::{NhrpBody, NhrpState};

/// Rules for the record bodies of one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Generic client state: key, value, life and timestamp (K-01..K-05).
    Kv,
    /// Clients of next hop servers: addresses and holding time (N-01..N-05).
    Nhrp,
    /// Bodies nobody looks into; an empty one is a withdrawal (D-20).
    Opaque,
}

/// What a body says about its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Tombstone (K-02), purge (N-04) or empty opaque body (D-20): kept for the retention time, not served.
    pub withdrawn: bool,
    /// Life that remained when the record was sent; `None`: does not expire.
    pub life: Option<Duration>,
    /// Hybrid logical clock of the write; zero where the protocol has none.
    pub stamp: Stamp,
}

/// Why a key or body is malformed for its protocol: the record is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BodyError {
    /// Shorter than the protocol's fixed part.
    #[error("body shorter than its fixed part")]
    Truncated,
    /// A version this server does not know.
    #[error("unknown body version")]
    BadVersion,
    /// A kind this server does not know.
    #[error("unknown body kind")]
    BadKind,
    /// Undefined flag bits, or a remaining life without the bit that announces it.
    #[error("undefined flags or unannounced life")]
    BadFlags,
    /// Key length outside what the protocol allows.
    #[error("cache key of wrong length")]
    BadKey,
    /// A clock reading that leaves no room for later ones.
    #[error("timestamp beyond every clock")]
    BadStamp,
    /// Addresses longer or shorter than the body says.
    #[error("addresses do not fill the body")]
    BadLength,
}

impl BodyError {
    /// Metric label: a closed set of short names.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Truncated => "body_truncated",
            Self::BadVersion => "body_version",
            Self::BadKind => "body_kind",
            Self::BadFlags => "body_flags",
            Self::BadKey => "body_key",
            Self::BadStamp => "body_stamp",
            Self::BadLength => "body_length",
        }
    }
}

impl Profile {
    /// The rules for `protocol`; every id without rules of its own is opaque.
    pub fn of(protocol: ProtocolId) -> Self {
        match protocol {
            ProtocolId::KV => Self::Kv,
            ProtocolId::NHRP => Self::Nhrp,
            _ => Self::Opaque,
        }
    }

    /// Octets of every server id and cache key, where the protocol fixes them (N-01).
    pub const fn id_len(self) -> Option<usize> {
        match self {
            Self::Nhrp => Some(nhrp::ID_LEN),
            Self::Kv | Self::Opaque => None,
        }
    }

    /// Lengths a cache key may have, the shortest and the longest.
    pub const fn key_len(self) -> (usize, usize) {
        match self {
            Self::Kv => (1, kv::KEY_LEN_MAX),
            Self::Nhrp => (nhrp::ID_LEN, nhrp::ID_LEN),
            Self::Opaque => (0, kv::KEY_LEN_MAX),
        }
    }

    /// What `body`, stored under `key`, says about its entry.
    ///
    /// Errors: malformed for this protocol; the record is to be rejected.
    pub fn inspect(self, key: &[u8], body: &[u8]) -> Result<Facts, BodyError> {
        match self {
            Self::Kv => kv::inspect(key, body),
            Self::Nhrp => nhrp::inspect(key, body),
            Self::Opaque => Ok(Facts {
                withdrawn: body.is_empty(),
                life: None,
                stamp: Stamp::ZERO,
            }),
        }
    }

    /// Rewrites the remaining life in an outgoing copy of a body (K-03, N-03).
    ///
    /// Rounds up to the protocol's unit and never lets the life grow (D-21). Bodies that carry no
    /// life, and malformed ones, stay as they are.
    pub fn set_remaining(self, body: &mut [u8], remaining: Duration) {
        match self {
            Self::Kv => kv::set_remaining(body, remaining),
            Self::Nhrp => nhrp::set_remaining(body, remaining),
            Self::Opaque => {}
        }
    }

    /// The body without the octets that shrink in transit (K-03, N-03), as the parts before and after
    /// them: what is the same on every server.
    pub fn lasting_parts(self, body: &[u8]) -> (&[u8], &[u8]) {
        match self {
            Self::Kv => kv::lasting_parts(body),
            Self::Nhrp => nhrp::lasting_parts(body),
            Self::Opaque => (body, &[]),
        }
    }

    /// Turns a body that [`inspect`](Self::inspect) accepted into the protocol's own form of a
    /// withdrawal, written at `stamp` (K-02, N-04, D-20), and returns how many of its octets that
    /// takes.
    pub fn withdraw(self, body: &mut [u8], stamp: Stamp) -> usize {
        match self {
            Self::Kv => kv::withdraw(body, stamp),
            Self::Nhrp => nhrp::withdraw(body),
            Self::Opaque => 0,
        }
    }
}

#[cfg(test)]
mod tests;
