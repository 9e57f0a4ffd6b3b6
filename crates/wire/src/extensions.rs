//! Extensions (RFC 2334 B.3): type, length, value, up to the End-of-Extensions marker.

use core::iter::FusedIterator;
use core::ops::Range;

use zerocopy::FromBytes;

use crate::error::ParseError;
use crate::layout::ExtensionHeader;
use crate::vendor::OWN_VENDOR;

/// End-of-Extensions: length 0, the packet's last octets (W-09).
pub(crate) const EXTENSION_END: u16 = 0;
/// Type of the authentication extension (B.3.1).
pub const EXTENSION_AUTHENTICATION: u16 = 1;
/// Type of the vendor-private extension (B.3.2).
pub const EXTENSION_VENDOR: u16 = 2;
/// Most extensions in a packet, the end marker not counted. RFC 2334 defines two types; the limit
/// keeps the search for repeated ones (W-09) short whatever a packet holds.
pub const EXTENSIONS_MAX: usize = 64;

/// What an extension says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExtensionKind<'a> {
    /// Type 1 (B.3.1).
    Authentication {
        /// Security parameter index, allocated by the receiver.
        spi: u32,
        /// Message authentication code.
        mac: &'a [u8],
    },
    /// Type 2 (B.3.2).
    Vendor {
        /// IEEE organization id of the vendor.
        oui: [u8; 3],
        /// The vendor's data.
        data: &'a [u8],
    },
    /// Any other type, to be skipped (W-08).
    Unknown {
        /// Extension type.
        code: u16,
        /// Its octets.
        value: &'a [u8],
    },
}

/// One extension.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extension<'a> {
    /// What it says.
    pub kind: ExtensionKind<'a>,
    /// Its whole value, for every type.
    pub value: &'a [u8],
}

impl<'a> Extension<'a> {
    /// Our own vendor-private extension, without its data.
    pub(crate) const OWN_VENDOR: Extension<'static> = Extension {
        kind: ExtensionKind::Vendor {
            oui: OWN_VENDOR,
            data: &[],
        },
        value: &OWN_VENDOR,
    };

    /// Extension type.
    #[inline]
    pub const fn code(&self) -> u16 {
        match self.kind {
            ExtensionKind::Authentication { .. } => EXTENSION_AUTHENTICATION,
            ExtensionKind::Vendor { .. } => EXTENSION_VENDOR,
            ExtensionKind::Unknown { code, .. } => code,
        }
    }

    /// Whether both may not stand in one packet: equal types, for type 2 equal vendors (W-09).
    fn repeats(&self, other: &Extension<'_>) -> bool {
        match (&self.kind, &other.kind) {
            (ExtensionKind::Vendor { oui: a, .. }, ExtensionKind::Vendor { oui: b, .. }) => a == b,
            _ => self.code() == other.code(),
        }
    }

    pub(crate) fn new(code: u16, value: &'a [u8]) -> Result<Self, ParseError> {
        let too_short = ParseError::ExtensionLength { code };
        let kind = match code {
            EXTENSION_AUTHENTICATION => {
                let (spi, mac) = value.split_first_chunk().ok_or(too_short)?;
                ExtensionKind::Authentication {
                    spi: u32::from_be_bytes(*spi),
                    mac,
                }
            }
            EXTENSION_VENDOR => {
                let (oui, data) = value.split_first_chunk().ok_or(too_short)?;
                ExtensionKind::Vendor { oui: *oui, data }
            }
            _ => ExtensionKind::Unknown { code, value },
        };
        Ok(Self { kind, value })
    }
}

/// Reads one extension; `None` at the end marker, which must end `bytes`.
fn split_first(bytes: &[u8]) -> Result<Option<(Extension<'_>, &[u8])>, ParseError> {
    let (header, rest) =
        ExtensionHeader::ref_from_prefix(bytes).map_err(|_| ParseError::ExtensionTruncated)?;
    if header.code.get() == EXTENSION_END {
        return match (header.value_len.get(), rest) {
            (0, []) => Ok(None),
            _ => Err(ParseError::ExtensionsTrailing),
        };
    }
    let (value, rest) = rest
        .split_at_checked(usize::from(header.value_len.get()))
        .ok_or(ParseError::ExtensionTruncated)?;
    Ok(Some((Extension::new(header.code.get(), value)?, rest)))
}

/// SPI of the first authentication extension, and where in `bytes` its MAC is. Looks no further
/// than octets that are no extension.
pub(crate) fn find_authentication(bytes: &[u8]) -> Option<(u32, Range<usize>)> {
    let mut rest = bytes;
    for _ in 0..EXTENSIONS_MAX {
        let (extension, after) = split_first(rest).ok()??;
        if let ExtensionKind::Authentication { spi, mac } = extension.kind {
            let end = bytes.len() - after.len();
            return Some((spi, end - mac.len()..end));
        }
        rest = after;
    }
    None
}

/// Checked extensions of a packet, in their order.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Extensions<'a> {
    /// No extensions at all.
    pub(crate) const NONE: Self = Self { rest: &[], left: 0 };

    /// Checks a whole extensions part, end marker included (W-08, W-09).
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut rest = bytes;
        let mut left = 0;
        while let Some((extension, after)) = split_first(rest)? {
            if left == EXTENSIONS_MAX {
                return Err(ParseError::ExtensionCount);
            }
            if (Self { rest: bytes, left }).any(|earlier| earlier.repeats(&extension)) {
                return Err(ParseError::ExtensionRepeated {
                    code: extension.code(),
                });
            }
            rest = after;
            left += 1;
        }
        Ok(Self { rest: bytes, left })
    }

    /// Whether `extension` may follow the `count` ones packed at the start of `bytes`.
    pub(crate) fn admits(bytes: &'a [u8], count: usize, extension: &Extension<'_>) -> bool {
        let mut earlier = Self {
            rest: bytes,
            left: count,
        };
        count < EXTENSIONS_MAX && !earlier.any(|earlier| earlier.repeats(extension))
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Extension<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (extension, rest) = split_first(self.rest).ok()??;
        self.rest = rest;
        Some(extension)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Extensions<'_> {}
impl FusedIterator for Extensions<'_> {}
