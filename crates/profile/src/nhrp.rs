//! Body of an NHRP record (RFC 2335 B.1; N-01 to N-05).
//!
//! ```text
//!  0        2        4            9        10       12           16
//!  +--------+--------+------------+--------+--------+------------+
//!  | family | type   | SNAP       | version| flags  | request id |
//!  +-----+--+-----+--+----+-------+--+-----+-------++-----+------+-----+------
//!  |state|prefix|unused| MTU| holding|client|sub-  |protocol|prefe-|addresses
//!  |     |length|      |    | time   |T/L   |T/L   |length  |rence |
//!  +-----+------+------+----+--------+------+------+--------+------+---------
//!  16    17     18     20   22       24     25     26       27     28
//! ```

use core::ops::Range;
use core::time::Duration;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{BodyError, Facts, Stamp};

/// Octets of a body before its addresses.
pub const HEADER_LEN: usize = size_of::<Header>();
/// Octets of every server id and cache key (N-01).
pub const ID_LEN: usize = 4;
/// The registration is unique (U).
pub const FLAG_UNIQUE: u16 = 0x8000;
/// The client asked for an authoritative answer (A).
pub const FLAG_AUTHORITATIVE: u16 = 0x4000;

const VERSION: u8 = 1;
/// Length bits of a T/L octet; bit 6 tells NSAP form from E.164, bit 7 is unused (RFC 2332 5.1).
const LENGTH_BITS: u8 = 0x3F;
const STATE: usize = 16;
/// Where the holding time stands: the only octets that change in transit.
const HOLDING: Range<usize> = 22..24;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    family: U16,
    protocol_type: U16,
    snap: [u8; 5],
    version: u8,
    flags: U16,
    request_id: U32,
    state: u8,
    prefix_len: u8,
    unused: U16,
    mtu: U16,
    holding_secs: U16,
    client_tl: u8,
    subaddress_tl: u8,
    protocol_len: u8,
    preference: u8,
}

const _: () = assert!(HEADER_LEN == 28);

/// What a record says about its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NhrpState {
    /// The client registered.
    Registered = 0,
    /// The client registered again, to change what it said before.
    Reregistered = 1,
    /// The client purged its registration (N-04).
    Purged = 2,
    /// There is no such client.
    NoSuchClient = 3,
}

impl NhrpState {
    /// Whether the client is to be forgotten (N-04).
    pub const fn is_withdrawn(self) -> bool {
        match self {
            Self::Registered | Self::Reregistered => false,
            Self::Purged | Self::NoSuchClient => true,
        }
    }
}

/// A checked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NhrpBody<'a> {
    /// Address family number of the NBMA address.
    pub family: u16,
    /// Protocol type of the client's internetwork address.
    pub protocol_type: u16,
    /// SNAP of the protocol type, where that needs one.
    pub snap: [u8; 5],
    /// [`FLAG_UNIQUE`] and [`FLAG_AUTHORITATIVE`].
    pub flags: u16,
    /// Request id of the registration (N-05).
    pub request_id: u32,
    /// What became of the client.
    pub state: NhrpState,
    /// Bits of the protocol address that count.
    pub prefix_len: u8,
    /// Largest packet the client takes, octets.
    pub mtu: u16,
    /// Seconds for which the registration is still valid.
    pub holding_secs: u16,
    /// Larger values are preferred.
    pub preference: u8,
    /// Type bit of the NBMA address: E.164 instead of NSAP form.
    pub nbma_e164: bool,
    /// Type bit of the NBMA subaddress.
    pub subaddress_e164: bool,
    /// NBMA address of the client, 63 octets at most.
    pub nbma: &'a [u8],
    /// NBMA subaddress, 63 octets at most.
    pub subaddress: &'a [u8],
    /// Internetwork address of the client, 255 octets at most.
    pub protocol_address: &'a [u8],
}

impl<'a> NhrpBody<'a> {
    /// Checks and reads a body. Unused fields and bits are not looked at.
    pub fn parse(body: &'a [u8]) -> Result<Self, BodyError> {
        let (header, rest) = Header::ref_from_prefix(body).map_err(|_| BodyError::Truncated)?;
        if header.version != VERSION {
            return Err(BodyError::BadVersion);
        }
        let state = match header.state {
            0 => NhrpState::Registered,
            1 => NhrpState::Reregistered,
            2 => NhrpState::Purged,
            3 => NhrpState::NoSuchClient,
            _ => return Err(BodyError::BadKind),
        };
        let (nbma, rest) = take(rest, header.client_tl & LENGTH_BITS)?;
        let (subaddress, rest) = take(rest, header.subaddress_tl & LENGTH_BITS)?;
        let (protocol_address, rest) = take(rest, header.protocol_len)?;
        if !rest.is_empty() {
            return Err(BodyError::BadLength);
        }
        Ok(Self {
            family: header.family.get(),
            protocol_type: header.protocol_type.get(),
            snap: header.snap,
            flags: header.flags.get() & (FLAG_UNIQUE | FLAG_AUTHORITATIVE),
            request_id: header.request_id.get(),
            state,
            prefix_len: header.prefix_len,
            mtu: header.mtu.get(),
            holding_secs: header.holding_secs.get(),
            preference: header.preference,
            nbma_e164: is_e164(header.client_tl),
            subaddress_e164: is_e164(header.subaddress_tl),
            nbma,
            subaddress,
            protocol_address,
        })
    }

    /// Octets of the encoded body.
    pub const fn encoded_len(&self) -> usize {
        HEADER_LEN + self.nbma.len() + self.subaddress.len() + self.protocol_address.len()
    }

    /// Writes the body to the front of `out` and returns its octets; `None` when an address is
    /// longer than its length field can say.
    ///
    /// Panics when `out` is shorter than `encoded_len()`.
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let header = Header {
            family: U16::new(self.family),
            protocol_type: U16::new(self.protocol_type),
            snap: self.snap,
            version: VERSION,
            flags: U16::new(self.flags & (FLAG_UNIQUE | FLAG_AUTHORITATIVE)),
            request_id: U32::new(self.request_id),
            state: self.state as u8,
            prefix_len: self.prefix_len,
            unused: U16::ZERO,
            mtu: U16::new(self.mtu),
            holding_secs: U16::new(self.holding_secs),
            client_tl: type_length(self.nbma, self.nbma_e164)?,
            subaddress_tl: type_length(self.subaddress, self.subaddress_e164)?,
            protocol_len: u8::try_from(self.protocol_address.len()).ok()?,
            preference: self.preference,
        };
        let (head, mut rest) = out.split_at_mut(HEADER_LEN);
        head.copy_from_slice(header.as_bytes());
        for address in [self.nbma, self.subaddress, self.protocol_address] {
            let (place, after) = rest.split_at_mut(address.len());
            place.copy_from_slice(address);
            rest = after;
        }
        Some(self.encoded_len())
    }
}

fn take(bytes: &[u8], len: u8) -> Result<(&[u8], &[u8]), BodyError> {
    bytes
        .split_at_checked(usize::from(len))
        .ok_or(BodyError::BadLength)
}

const fn is_e164(type_length: u8) -> bool {
    type_length & !LENGTH_BITS & 0x40 != 0
}

fn type_length(address: &[u8], e164: bool) -> Option<u8> {
    let len = u8::try_from(address.len()).ok()?;
    (len <= LENGTH_BITS).then_some(len | if e164 { 0x40 } else { 0 })
}

pub(crate) fn inspect(key: &[u8], body: &[u8]) -> Result<Facts, BodyError> {
    if key.len() != ID_LEN {
        return Err(BodyError::BadKey); // N-01
    }
    let body = NhrpBody::parse(body)?;
    let withdrawn = body.state.is_withdrawn();
    let holding = Duration::from_secs(body.holding_secs.into());
    Ok(Facts {
        withdrawn,
        // A purge stays for the retention time, whatever it says (N-04).
        life: (!withdrawn).then_some(holding),
        stamp: Stamp::ZERO,
    })
}

/// N-03, D-21: whole seconds, rounded up, never more than the body said before. The holding time of
/// a purge says nothing about how long that is kept and stays as it is.
pub(crate) fn set_remaining(body: &mut [u8], remaining: Duration) {
    let Ok((header, _)) = Header::mut_from_prefix(body) else {
        return;
    };
    if header.state >= NhrpState::Purged as u8 {
        return;
    }
    let secs = remaining.as_nanos().div_ceil(1_000_000_000);
    let secs = u16::try_from(secs)
        .unwrap_or(u16::MAX)
        .min(header.holding_secs.get());
    header.holding_secs = U16::new(secs);
}

pub(crate) fn lasting_parts(body: &[u8]) -> (&[u8], &[u8]) {
    let (before, rest) = body.split_at(body.len().min(HOLDING.start));
    (before, rest.get(HOLDING.len()..).unwrap_or(&[]))
}

/// The same body as a purge (N-04).
pub(crate) fn withdraw(body: &mut [u8]) -> usize {
    if let Some(state) = body.get_mut(STATE) {
        *state = NhrpState::Purged as u8;
    }
    body.len()
}
