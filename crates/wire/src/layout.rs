//! Octet layouts of RFC 2334 appendix B; every offset and byte swap of the project is here.

use core::mem::offset_of;

use zerocopy::network_endian::{I32, U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The one protocol version (W-01).
pub const VERSION: u8 = 1;
/// Octets of the fixed part (B.1).
pub const FIXED_LEN: usize = size_of::<FixedPart>();
/// Octets of the mandatory common part without its ids (B.2.0.1).
pub const COMMON_LEN: usize = size_of::<CommonPart>();
/// Octets of a summary (CSAS record) without key and originator id (B.2.0.2).
pub const SUMMARY_LEN: usize = size_of::<SummaryHeader>();
/// Octets of an extension without its value, and of the End-of-Extensions marker (B.3).
pub const EXTENSION_HEADER_LEN: usize = size_of::<ExtensionHeader>();

/// Where a packet says of which type it is.
pub const KIND_AT: usize = offset_of!(FixedPart, kind);
/// Where a CSU or CSUS message gives the length of the sender id.
pub const UPDATE_SENDER_LEN_AT: usize = FIXED_LEN + offset_of!(CommonPart, sender_len);
/// Where a CSU or CSUS message gives the length of the receiver id.
pub const UPDATE_RECEIVER_LEN_AT: usize = FIXED_LEN + offset_of!(CommonPart, receiver_len);
/// Where a summary gives the length of its key.
pub const KEY_LEN_AT: usize = offset_of!(SummaryHeader, key_len);

/// M, I and O of a CA message, in the flags of its common part (B.2.1).
pub(crate) const CA_MASTER: u16 = 0x8000;
pub(crate) const CA_INITIALIZE: u16 = 0x4000;
pub(crate) const CA_MORE: u16 = 0x2000;
/// N in the flags of a summary (B.2.0.2).
pub(crate) const SUMMARY_NULL: u16 = 0x8000;

/// Fixed part (B.1).
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct FixedPart {
    pub(crate) version: u8,
    pub(crate) kind: u8,
    pub(crate) packet_size: U16,
    pub(crate) checksum: U16,
    pub(crate) extensions_start: U16,
}

/// Mandatory common part (B.2.0.1); sender and receiver id follow.
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct CommonPart {
    pub(crate) protocol: U16,
    pub(crate) group: U16,
    pub(crate) unused: U16,
    pub(crate) flags: U16,
    pub(crate) sender_len: u8,
    pub(crate) receiver_len: u8,
    pub(crate) record_count: U16,
}

/// What stands before the common part of a CA message (B.2.1).
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct CaPrefix {
    pub(crate) sequence: U32,
}

/// What stands before the common part of a Hello (B.2.5).
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct HelloPrefix {
    pub(crate) hello_interval: U16,
    pub(crate) dead_factor: U16,
    pub(crate) unused: U16,
    pub(crate) family: U16,
}

/// Head of a CSAS or CSA record (B.2.0.2); cache key, originator id and body follow.
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SummaryHeader {
    pub(crate) hop_count: U16,
    pub(crate) record_len: U16,
    pub(crate) key_len: u8,
    pub(crate) originator_len: u8,
    pub(crate) flags: U16,
    pub(crate) sequence: I32,
}

/// Head of an extension (B.3); the value follows.
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ExtensionHeader {
    pub(crate) code: U16,
    pub(crate) value_len: U16,
}

const _: () = {
    assert!(FIXED_LEN == 8);
    assert!(COMMON_LEN == 12);
    assert!(SUMMARY_LEN == 12);
    assert!(EXTENSION_HEADER_LEN == 4);
    assert!(size_of::<CaPrefix>() == 4);
    assert!(size_of::<HelloPrefix>() == 8);
};
