//! One shard's store of the entries of one instance: everything the record path keeps.
//!
//! An entry lives in one arena block (header, key, body), its originator id is interned, and its
//! number, the [`EntryId`], stays the same while it lives. Times and seeds are arguments; nothing
//! allocates per record once warm, and memory grows in chunks.
//!
//! | file | holds |
//! |---|---|
//! | `store.rs`, `store/queues.rs` | [`Store`]: find, look ahead, insert, update, remove, encode; queues |
//! | `arena.rs`, `slots.rs`, `blocks.rs` | octets of blocks, entry numbers, the layout of a block |
//! | `index.rs`, `hash.rs`, `origin.rs` | (key, originator) → entry in pages that split, its hash, interned ids |
//! | `cursor.rs` | stable walk of a summary exchange (CA-17), client scans |
//! | `expiry.rs` | timer wheel |
//! | `retransmit.rs`, `request.rs` | per DCS: retransmit queue (CSU-06..08), request list (CRL) |
//! | `digest.rs` | order-independent digest |
#![forbid(unsafe_code)]

mod arena;
mod blocks;
mod cursor;
mod digest;
mod expiry;
mod hash;
mod index;
mod origin;
mod request;
mod retransmit;
mod slab;
mod slots;
mod store;
mod time;

pub use cursor::Cursor;
pub use digest::digest_of;
pub use hash::KeyHasher;
pub use origin::OriginIndex;
pub use request::RequestList;
pub use retransmit::{Acknowledged, PeerIndex};
pub use store::{Entry, EntryFlags, EntryId, NewEntry, PASS_LEN, Stats, Store, StoreFull, Update};
pub use time::Time;
