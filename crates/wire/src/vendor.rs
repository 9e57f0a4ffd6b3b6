//! This project's own vendor-private extension (RFC 2334 B.3.2): the registry of its items.
//!
//! Foreign servers ignore it, so nothing may depend on it for correctness. Its data are one
//! octet of version, 1, then items: u8 type, u8 length, value. At most one per packet (W-09).

use core::iter::FusedIterator;

use thiserror::Error;

use crate::extensions::{ExtensionKind, Extensions};

/// Vendor id of this project: locally administered, so the IEEE never assigns it.
pub const OWN_VENDOR: [u8; 3] = [0x02, 0x53, 0x43];
/// The one version of the data.
const VENDOR_VERSION: u8 = 1;
/// Octets of an item without its value.
const ITEM_HEADER_LEN: usize = 2;

/// Types of items: all numbers that are given out.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum ItemKind {
    /// Digest of the sender's cache.
    Digest = 1,
    /// Counter against replayed packets.
    ReplayCounter = 2,
    /// What the sender offers for alignments.
    Alignment = 3,
}

impl ItemKind {
    /// Every type, in the order of the codes.
    pub const ALL: [Self; 3] = [Self::Digest, Self::ReplayCounter, Self::Alignment];

    /// Code on the wire.
    #[inline]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The type with this code.
    #[inline]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Digest),
            2 => Some(Self::ReplayCounter),
            3 => Some(Self::Alignment),
            _ => None,
        }
    }
}

/// One item of a known type.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Item<'a> {
    /// Its type.
    pub kind: ItemKind,
    /// Its value, at most 255 octets.
    pub value: &'a [u8],
}

/// What a server offers for an alignment (item 3): sent in the CA messages by which master and slave
/// are negotiated (RFC 2334 2.2.1). Where both offer it, several CA messages may be in flight; else
/// the exchange is in lock step (CA-07).
///
/// Its value: u16 window, u16 packet size. Octets behind them are for later versions.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct AlignmentOffer {
    /// CA messages that may be in flight.
    pub window: u16,
    /// Octets of the largest packet with summaries.
    pub packet: u16,
}

impl AlignmentOffer {
    /// Octets of the item's value.
    pub const LEN: usize = 4;

    /// The item's value.
    pub const fn encode(self) -> [u8; Self::LEN] {
        let ([a, b], [c, d]) = (self.window.to_be_bytes(), self.packet.to_be_bytes());
        [a, b, c, d]
    }

    /// Reads an item's value; `None` when it is too short.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (&[a, b, c, d], _) = value.split_first_chunk()?;
        Some(Self {
            window: u16::from_be_bytes([a, b]),
            packet: u16::from_be_bytes([c, d]),
        })
    }
}

/// Data of our own extension that cannot be read. The packet is as good without them.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum VendorError {
    /// No version, or another one than 1.
    #[error("unknown version of the vendor-private data")]
    Version,
    /// An item runs past the end.
    #[error("vendor-private item ends early")]
    Truncated,
}

/// Checked items in their order; those of unknown types are skipped.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    rest: &'a [u8],
}

impl<'a> Items<'a> {
    /// Checks the data behind the vendor id.
    pub fn parse(data: &'a [u8]) -> Result<Self, VendorError> {
        let Some((&VENDOR_VERSION, items)) = data.split_first() else {
            return Err(VendorError::Version);
        };
        let mut rest = items;
        while !rest.is_empty() {
            (_, _, rest) = split_first(rest).ok_or(VendorError::Truncated)?;
        }
        Ok(Self { rest: items })
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (code, value, rest) = split_first(self.rest)?;
            self.rest = rest;
            if let Some(kind) = ItemKind::from_code(code) {
                return Some(Item { kind, value });
            }
        }
    }
}

impl FusedIterator for Items<'_> {}

impl<'a> Extensions<'a> {
    /// Items of our own vendor-private extension; `None` when the packet has none, and those of
    /// other vendors are none of our business.
    pub fn own_items(&self) -> Option<Result<Items<'a>, VendorError>> {
        self.clone().find_map(|extension| match extension.kind {
            ExtensionKind::Vendor { oui, data } if oui == OWN_VENDOR => Some(Items::parse(data)),
            _ => None,
        })
    }

    /// What the sender offers for the alignment; `None` also when that cannot be read.
    pub fn alignment_offer(&self) -> Option<AlignmentOffer> {
        let mut items = self.own_items()?.ok()?;
        let item = items.find(|item| item.kind == ItemKind::Alignment)?;
        AlignmentOffer::parse(item.value)
    }
}

/// Octets of the extension's value with these items, to reserve room for it.
pub fn items_len(items: &[Item<'_>]) -> usize {
    let lens = items.iter().map(|item| ITEM_HEADER_LEN + item.value.len());
    OWN_VENDOR.len() + 1 + lens.sum::<usize>()
}

/// Writes the extension's value into `out`, which has [`items_len`] octets; no value is longer than
/// 255 octets.
pub(crate) fn encode_items(out: &mut [u8], items: &[Item<'_>]) {
    let (vendor, data) = out.split_at_mut(OWN_VENDOR.len());
    vendor.copy_from_slice(&OWN_VENDOR);
    data[0] = VENDOR_VERSION;
    let mut at = 1;
    for item in items {
        let len = u8::try_from(item.value.len()).expect("the caller has checked it");
        let (start, end) = (
            at + ITEM_HEADER_LEN,
            at + ITEM_HEADER_LEN + item.value.len(),
        );
        data[at..start].copy_from_slice(&[item.kind.code(), len]);
        data[start..end].copy_from_slice(item.value);
        at = end;
    }
}

/// Code and value of the first item, and what follows it.
fn split_first(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[code, len], rest) = bytes.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(usize::from(len))?;
    Some((code, value, rest))
}
