//! SCSP packets (RFC 2334 appendix B) as checked zero-copy views and in-place builders.
//!
//! Receiving takes two steps, because D-02 blames them differently: [`Envelope::parse`] checks what
//! makes a packet a packet, [`Envelope::open`] everything else; the views cannot fail afterwards.
//! Sending goes through [`Builder`], which writes straight into the send slot. Nothing here
//! allocates, does I/O or knows the time, and no octet string makes it panic (W-10).

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod authentication;
mod build;
pub mod checksum;
mod error;
mod extensions;
mod ids;
mod layout;
mod message;
mod packet;
mod record;
mod vendor;

pub use authentication::{Algorithm, Authentication, MAC_LEN_MAX, MacKey, Signer};
pub use build::{Builder, Header, HelloFields, overhead};
pub use checksum::{checksum, verify};
pub use error::ParseError;
pub use extensions::{
    EXTENSION_AUTHENTICATION, EXTENSION_VENDOR, EXTENSIONS_MAX, Extension, ExtensionKind,
    Extensions,
};
pub use ids::{
    CaSeq, CsaSeq, FamilyId, ProtocolId, ServerGroupId, ServerId, ServerIdError, fmt_id,
    is_broadcast,
};
pub use layout::{
    COMMON_LEN, EXTENSION_HEADER_LEN, FIXED_LEN, KEY_LEN_AT, KIND_AT, SUMMARY_LEN,
    UPDATE_RECEIVER_LEN_AT, UPDATE_SENDER_LEN_AT, VERSION,
};
pub use message::{Ca, CaFlags, CsuReply, CsuRequest, Csus, Hello, Message, Receivers};
pub use packet::{Envelope, MessageType};
pub use record::{
    Keys, Record, RecordWalk, Records, Summaries, Summary, SummaryFields, SummaryWalk,
    encode_record, encode_summary, record_len, set_hop_count, summary_len,
};
pub use vendor::{AlignmentOffer, Item, ItemKind, Items, OWN_VENDOR, VendorError, items_len};
