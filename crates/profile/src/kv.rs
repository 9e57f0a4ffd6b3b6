//! Body of the key-value protocol (K-01 to K-05).
//!
//! ```text
//!  0        1      2         4                  8                     16
//!  +--------+------+---------+------------------+---------------------+------
//!  | version| kind | flags   | remaining life   | hybrid clock stamp  | value
//!  +--------+------+---------+------------------+---------------------+------
//! ```

use core::ops::Range;
use core::time::Duration;

use zerocopy::byteorder::network_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{BodyError, Facts, Stamp};

/// Octets of a body before its value.
pub const HEADER_LEN: usize = size_of::<Header>();
/// Longest key; the shortest is one octet.
pub const KEY_LEN_MAX: usize = 255;

const VERSION: u8 = 1;
const FLAG_LIFE: u16 = 0x0001;
/// Where the remaining life stands: the only octets that change in transit.
const LIFE: Range<usize> = 4..8;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    version: u8,
    kind: u8,
    flags: U16,
    life_ms: U32,
    stamp: U64,
}

const _: () = assert!(HEADER_LEN == 16);

/// What a record does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum KvKind {
    /// The key has this value.
    Value = 0,
    /// The key is deleted (K-02); the value octets mean nothing.
    Tombstone = 1,
}

/// A checked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvBody<'a> {
    /// Value or tombstone.
    pub kind: KvKind,
    /// Remaining life, milliseconds; `None`: does not expire.
    pub life_ms: Option<u32>,
    /// Hybrid logical clock of the write (K-05).
    pub stamp: Stamp,
    /// The client's octets.
    pub value: &'a [u8],
}

impl<'a> KvBody<'a> {
    /// Checks and reads a body.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let (header, value) = Header::ref_from_prefix(body).map_err(|_| BodyError::Truncated)?;
        if header.version != VERSION {
            return Err(BodyError::BadVersion);
        }
        let kind = match header.kind {
            0 => KvKind::Value,
            1 => KvKind::Tombstone,
            _ => return Err(BodyError::BadKind),
        };
        let life_ms = match (header.flags.get(), header.life_ms.get()) {
            (0, 0) => None,
            (FLAG_LIFE, life_ms) => Some(life_ms),
            _ => return Err(BodyError::BadFlags),
        };
        Ok(Self {
            kind,
            life_ms,
            stamp: Stamp(header.stamp.get()),
            value,
        })
    }

    /// Octets of the encoded body.
    pub const fn encoded_len(&self) -> usize {
        HEADER_LEN + self.value.len()
    }

    /// Writes the body to the front of `out` and returns its octets.
    ///
    /// Panics when `out` is shorter than `encoded_len()`.
    pub fn encode(&self, out: &mut [u8]) -> usize {
        let header = Header {
            version: VERSION,
            kind: self.kind as u8,
            flags: U16::new(if self.life_ms.is_some() { FLAG_LIFE } else { 0 }),
            life_ms: U32::new(self.life_ms.unwrap_or(0)),
            stamp: U64::new(self.stamp.0),
        };
        let (head, rest) = out.split_at_mut(HEADER_LEN);
        head.copy_from_slice(header.as_bytes());
        rest[..self.value.len()].copy_from_slice(self.value);
        self.encoded_len()
    }
}

/// Largest clock reading taken in, in the year 6429. What clocks merge has to leave room for later
/// writes (K-05): one reading at the end of the range would be the last for ever.
pub const STAMP_MILLIS_MAX: u64 = (1 << 47) - 1;

pub(crate) fn inspect(key: &[u8], body: &[u8]) -> Result<Facts, BodyError> {
    if !(1..=KEY_LEN_MAX).contains(&key.len()) {
        return Err(BodyError::BadKey);
    }
    let body = KvBody::parse(body)?;
    if body.stamp.millis() > STAMP_MILLIS_MAX {
        return Err(BodyError::BadStamp);
    }
    let withdrawn = body.kind == KvKind::Tombstone;
    // A tombstone stays for the retention time, whatever it says (K-02).
    let life_ms = body.life_ms.filter(|_| !withdrawn);
    Ok(Facts {
        withdrawn,
        life: life_ms.map(|ms| Duration::from_millis(ms.into())),
        stamp: body.stamp,
    })
}

/// K-03, D-21: whole milliseconds, rounded up, never more than the body said before.
pub(crate) fn set_remaining(body: &mut [u8], remaining: Duration) {
    let Ok((header, _)) = Header::mut_from_prefix(body) else {
        return;
    };
    if header.flags.get() != FLAG_LIFE {
        return;
    }
    let ms = remaining.as_nanos().div_ceil(1_000_000);
    let ms = u32::try_from(ms)
        .unwrap_or(u32::MAX)
        .min(header.life_ms.get());
    header.life_ms = U32::new(ms);
}

/// A tombstone in the place of the body (K-02).
pub(crate) fn withdraw(body: &mut [u8], stamp: Stamp) -> usize {
    let tombstone = KvBody {
        kind: KvKind::Tombstone,
        life_ms: None,
        stamp,
        value: &[],
    };
    tombstone.encode(body)
}

pub(crate) fn lasting_parts(body: &[u8]) -> (&[u8], &[u8]) {
    let (before, rest) = body.split_at(body.len().min(LIFE.start));
    (before, rest.get(LIFE.len()..).unwrap_or(&[]))
}
