//! CSAS and CSA records (RFC 2334 B.2.0.2), inside packets and on their own.

use core::iter::FusedIterator;

use zerocopy::network_endian::{I32, U16};
use zerocopy::{FromBytes, IntoBytes};

use crate::error::ParseError;
use crate::ids::CsaSeq;
use crate::layout::{SUMMARY_LEN, SUMMARY_NULL, SummaryHeader};

/// Summary of an entry: a CSAS record, or the head of a CSA record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Summary<'a> {
    /// Servers the record may still travel over (CSU-16).
    pub hop_count: u16,
    /// N bit: the entry no longer exists (CSU-11).
    pub null: bool,
    /// CSA sequence number.
    pub seq: CsaSeq,
    /// Cache key, 0 to 255 octets.
    pub key: &'a [u8],
    /// Originator id, 1 to 255 octets.
    pub originator: &'a [u8],
    /// The octets this was read from. In the head of a [`Record`] with a body their record length
    /// counts that body too, so only a stand-alone summary may be sent on as it is.
    pub wire: &'a [u8],
}

impl<'a> Summary<'a> {
    /// Octets of this summary when it stands alone.
    #[inline]
    pub const fn wire_len(&self) -> usize {
        self.wire.len()
    }

    /// The same as builder input.
    #[inline]
    pub const fn fields(&self) -> SummaryFields<'a> {
        SummaryFields {
            hop_count: self.hop_count,
            null: self.null,
            seq: self.seq,
            key: self.key,
            originator: self.originator,
        }
    }

    /// Reads the stand-alone summary that `bytes` start with; returns it and the octets after it.
    #[inline]
    pub fn split_first(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), ParseError> {
        let (record, rest) = Record::split_first(bytes)?;
        if record.wire.len() == record.summary.wire.len() {
            return Ok((record.summary, rest));
        }
        // W-07: stand-alone, the record length covers nothing but the summary.
        Err(ParseError::RecordLength {
            field: u16::try_from(record.wire.len()).unwrap_or(u16::MAX),
            summary: record.summary.wire.len(),
        })
    }
}

/// A CSA record: summary and protocol specific body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Record<'a> {
    /// The summary it starts with.
    pub summary: Summary<'a>,
    /// Protocol specific part; empty in a null record.
    pub body: &'a [u8],
    /// The whole record as on the wire.
    pub wire: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads the record that `bytes` start with; returns it and the octets after it.
    #[inline]
    pub fn split_first(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), ParseError> {
        let (header, _) =
            SummaryHeader::ref_from_prefix(bytes).map_err(|_| ParseError::RecordTruncated)?;
        let field = header.record_len.get();
        let key_end = SUMMARY_LEN + usize::from(header.key_len);
        let summary_len = key_end + usize::from(header.originator_len);
        if usize::from(field) < summary_len {
            return Err(ParseError::RecordLength {
                field,
                summary: summary_len,
            }); // W-07
        }
        let (wire, rest) = bytes
            .split_at_checked(usize::from(field))
            .ok_or(ParseError::RecordTruncated)?;
        let (head, body) = wire.split_at(summary_len);
        let (fixed_and_key, originator) = head.split_at(key_end);
        if originator.is_empty() {
            return Err(ParseError::Originator);
        }
        let null = header.flags.get() & SUMMARY_NULL != 0;
        if null && !body.is_empty() {
            return Err(ParseError::NullBody);
        }
        let seq = CsaSeq::new(header.sequence.get()).ok_or(ParseError::Sequence)?; // CSU-18
        let hop_count = header.hop_count.get();
        let key = &fixed_and_key[SUMMARY_LEN..];
        let summary = Summary {
            hop_count,
            null,
            seq,
            key,
            originator,
            wire: head,
        };
        Ok((
            Self {
                summary,
                body,
                wire,
            },
            rest,
        ))
    }
}

macro_rules! iterators {
    ($Checked:ident, $Walk:ident, $Item:ident, $what:literal) => {
        #[doc = concat!("Checked ", $what, "; iterating cannot fail.")]
        #[derive(Clone, Debug)]
        pub struct $Checked<'a> {
            walk: $Walk<'a>,
            left: usize,
        }

        impl<'a> $Checked<'a> {
            #[doc = concat!("Checks that `bytes` are packed ", $what, " and nothing else.")]
            pub fn new(bytes: &'a [u8]) -> Result<Self, ParseError> {
                let mut rest = bytes;
                let mut left = 0;
                while !rest.is_empty() {
                    (_, rest) = $Item::split_first(rest)?;
                    left += 1;
                }
                Ok(Self {
                    walk: $Walk { rest: bytes },
                    left,
                })
            }

            /// Checks that exactly `count` of them fill `bytes` (W-06).
            #[inline]
            pub(crate) fn counted(bytes: &'a [u8], count: u16) -> Result<Self, ParseError> {
                let mut rest = bytes;
                for _ in 0..count {
                    (_, rest) = $Item::split_first(rest)?;
                }
                if rest.is_empty() {
                    Ok(Self {
                        walk: $Walk { rest: bytes },
                        left: usize::from(count),
                    })
                } else {
                    Err(ParseError::RecordsTrailing { left: rest.len() })
                }
            }

            #[doc = concat!("Walks packed ", $what, " that were checked before, up to the first \
                             malformed one.")]
            #[inline]
            pub const fn over(bytes: &'a [u8]) -> $Walk<'a> {
                $Walk { rest: bytes }
            }

            /// Their cache keys, read without anything else of them.
            #[inline]
            pub const fn keys(&self) -> Keys<'a> {
                Keys {
                    rest: self.walk.rest,
                }
            }

            /// The octets not yet iterated over.
            #[inline]
            pub const fn wire(&self) -> &'a [u8] {
                self.walk.rest
            }
        }

        impl<'a> Iterator for $Checked<'a> {
            type Item = $Item<'a>;

            #[inline]
            fn next(&mut self) -> Option<Self::Item> {
                let item = self.walk.next()?;
                self.left -= 1;
                Some(item)
            }

            #[inline]
            fn size_hint(&self) -> (usize, Option<usize>) {
                (self.left, Some(self.left))
            }
        }

        impl ExactSizeIterator for $Checked<'_> {}
        impl FusedIterator for $Checked<'_> {}

        #[doc = concat!("Walk over packed ", $what, " of unknown number; stops at the first \
                         malformed one.")]
        #[derive(Clone, Debug)]
        pub struct $Walk<'a> {
            rest: &'a [u8],
        }

        impl<'a> $Walk<'a> {
            /// Their cache keys, read without anything else of them: a malformed one of the octets
            /// not yet walked over gives any key.
            #[inline]
            pub const fn keys(&self) -> Keys<'a> {
                Keys { rest: self.rest }
            }

            /// The octets not yet walked over: empty at the end unless something was malformed.
            #[inline]
            pub const fn wire(&self) -> &'a [u8] {
                self.rest
            }
        }

        impl<'a> Iterator for $Walk<'a> {
            type Item = $Item<'a>;

            #[inline]
            fn next(&mut self) -> Option<Self::Item> {
                let (item, rest) = $Item::split_first(self.rest).ok()?;
                self.rest = rest;
                Some(item)
            }
        }

        impl FusedIterator for $Walk<'_> {}
    };
}

/// Cache keys of packed records or summaries; stops where there cannot be another one.
#[derive(Clone, Debug)]
pub struct Keys<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Keys<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (header, _) = SummaryHeader::ref_from_prefix(self.rest).ok()?;
        let key_end = SUMMARY_LEN + usize::from(header.key_len);
        let len = usize::from(header.record_len.get()).max(SUMMARY_LEN);
        let key = self.rest.get(SUMMARY_LEN..key_end)?;
        self.rest = self.rest.get(len..)?;
        Some(key)
    }
}

impl FusedIterator for Keys<'_> {}

iterators!(Records, RecordWalk, Record, "CSA records");
iterators!(Summaries, SummaryWalk, Summary, "stand-alone summaries");

/// What a summary is built from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SummaryFields<'a> {
    /// Servers the record may still travel over; 1 when stand-alone (CSU-17).
    pub hop_count: u16,
    /// N bit.
    pub null: bool,
    /// CSA sequence number.
    pub seq: CsaSeq,
    /// Cache key, 0 to 255 octets.
    pub key: &'a [u8],
    /// Originator id, 1 to 255 octets.
    pub originator: &'a [u8],
}

/// Octets of the stand-alone summary.
#[inline]
pub const fn summary_len(fields: &SummaryFields<'_>) -> usize {
    SUMMARY_LEN + fields.key.len() + fields.originator.len()
}

/// Octets of the record with a body of `body_len` octets.
#[inline]
pub const fn record_len(fields: &SummaryFields<'_>, body_len: usize) -> usize {
    summary_len(fields) + body_len
}

/// Writes the stand-alone summary to the start of `out`; returns its octets.
///
/// # Panics
/// When `out` is shorter, the originator id has not 1 to 255 octets or the key more than 255.
#[inline]
pub fn encode_summary(out: &mut [u8], fields: &SummaryFields<'_>) -> usize {
    encode_record(out, fields, &[])
}

/// Writes the record to the start of `out`; returns its octets.
///
/// # Panics
/// When `out` is shorter, the originator id has not 1 to 255 octets, the key more than 255, the
/// record more than 65,535, or a null record has a body.
#[inline]
pub fn encode_record(out: &mut [u8], fields: &SummaryFields<'_>, body: &[u8]) -> usize {
    assert!(!fields.originator.is_empty(), "a record has an originator");
    assert!(!fields.null || body.is_empty(), "a null record has no body");
    let len = record_len(fields, body.len());
    let header = SummaryHeader {
        hop_count: U16::new(fields.hop_count),
        record_len: U16::new(u16::try_from(len).expect("a record's length fits 16 bits")),
        key_len: u8::try_from(fields.key.len()).expect("a key has at most 255 octets"),
        originator_len: u8::try_from(fields.originator.len())
            .expect("an originator id has at most 255 octets"),
        flags: U16::new(if fields.null { SUMMARY_NULL } else { 0 }),
        sequence: I32::new(fields.seq.get()),
    };
    let (head, rest) = out[..len].split_at_mut(SUMMARY_LEN);
    let (key, rest) = rest.split_at_mut(fields.key.len());
    let (originator, rest) = rest.split_at_mut(fields.originator.len());
    head.copy_from_slice(header.as_bytes());
    key.copy_from_slice(fields.key);
    originator.copy_from_slice(fields.originator);
    rest.copy_from_slice(body);
    len
}

/// Sets the hop count of the record or summary that `wire` starts with, as each server that passes
/// a record on does (CSU-16); shorter octets are left alone.
#[inline]
pub fn set_hop_count(wire: &mut [u8], hop_count: u16) {
    if let Ok((header, _)) = SummaryHeader::mut_from_prefix(wire) {
        header.hop_count = U16::new(hop_count);
    }
}
