//! The five messages as checked views (RFC 2334 B.2).

use core::iter::FusedIterator;
use core::time::Duration;

use crate::build::{Builder, HelloFields};
use crate::error::ParseError;
use crate::extensions::Extensions;
use crate::ids::{CaSeq, FamilyId};
use crate::layout::{CA_INITIALIZE, CA_MASTER, CA_MORE};
use crate::packet::Envelope;
use crate::record::{Records, Summaries};

/// A message whose every part is checked.
#[derive(Clone, Debug)]
pub enum Message<'a> {
    /// Cache Alignment.
    Ca(Ca<'a>),
    /// Cache State Update Request.
    CsuRequest(CsuRequest<'a>),
    /// Cache State Update Reply.
    CsuReply(CsuReply<'a>),
    /// Cache State Update Solicit.
    Csus(Csus<'a>),
    /// Hello.
    Hello(Hello<'a>),
}

impl<'a> Message<'a> {
    /// [`Envelope::parse`] and [`Envelope::open`] in one.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        Envelope::parse(bytes)?.open()
    }

    /// The envelope it came in.
    #[inline]
    pub const fn envelope(&self) -> &Envelope<'a> {
        match self {
            Self::Ca(message) => &message.envelope,
            Self::CsuRequest(message) => &message.envelope,
            Self::CsuReply(message) => &message.envelope,
            Self::Csus(message) => &message.envelope,
            Self::Hello(message) => &message.envelope,
        }
    }

    /// The extensions in their order.
    #[inline]
    pub fn extensions(&self) -> Extensions<'a> {
        match self {
            Self::Ca(message) => message.extensions.clone(),
            Self::CsuRequest(message) => message.extensions.clone(),
            Self::CsuReply(message) => message.extensions.clone(),
            Self::Csus(message) => message.extensions.clone(),
            Self::Hello(message) => message.extensions.clone(),
        }
    }

    /// Builds the message anew from its fields, in canonical form: unused fields zero, no empty
    /// list of extensions, the first receiver of a Hello in the common part (W-05, W-11, H-09).
    /// Returns the packet's octets; `None` when they exceed `buf` or `limit`.
    pub fn write(&self, buf: &mut [u8], limit: usize) -> Option<usize> {
        let mut header = self.envelope().header();
        let mut builder = match self {
            Self::Ca(ca) => Builder::ca(buf, limit, &header, ca.seq, ca.flags)?,
            Self::CsuRequest(_) => Builder::csu_request(buf, limit, &header)?,
            Self::CsuReply(_) => Builder::csu_reply(buf, limit, &header)?,
            Self::Csus(_) => Builder::csus(buf, limit, &header)?,
            Self::Hello(hello) => {
                header.receiver = hello.receivers().next().unwrap_or_default();
                Builder::hello(buf, limit, &header, hello.fields())?
            }
        };
        let fits = match self {
            Self::Ca(Ca { summaries, .. })
            | Self::CsuReply(CsuReply { summaries, .. })
            | Self::Csus(Csus { summaries, .. }) => summaries
                .clone()
                .all(|summary| builder.push_summary(&summary.fields())),
            Self::CsuRequest(request) => request
                .records()
                .all(|record| builder.push_record(&record.summary.fields(), record.body)),
            Self::Hello(hello) => hello
                .receivers()
                .skip(1)
                .all(|receiver| builder.push_receiver(receiver)),
        };
        let fits = fits
            && self
                .extensions()
                .all(|extension| builder.push_extension(extension.code(), extension.value));
        fits.then(|| builder.finish())
    }
}

/// M, I and O of a CA message.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct CaFlags {
    /// M: the sender is, or claims to be, the master.
    pub master: bool,
    /// I: negotiation, the first message.
    pub initialize: bool,
    /// O: more summaries follow (D-05).
    pub more: bool,
}

impl CaFlags {
    #[inline]
    pub(crate) const fn from_wire(flags: u16) -> Self {
        Self {
            master: flags & CA_MASTER != 0,
            initialize: flags & CA_INITIALIZE != 0,
            more: flags & CA_MORE != 0,
        }
    }

    #[inline]
    pub(crate) const fn to_wire(self) -> u16 {
        (if self.master { CA_MASTER } else { 0 })
            | (if self.initialize { CA_INITIALIZE } else { 0 })
            | (if self.more { CA_MORE } else { 0 })
    }
}

macro_rules! with_summaries {
    ($Name:ident) => {
        impl<'a> $Name<'a> {
            /// The envelope it came in.
            #[inline]
            pub const fn envelope(&self) -> &Envelope<'a> {
                &self.envelope
            }

            /// Its summaries in their order.
            #[inline]
            pub fn summaries(&self) -> Summaries<'a> {
                self.summaries.clone()
            }

            /// Its extensions in their order.
            #[inline]
            pub fn extensions(&self) -> Extensions<'a> {
                self.extensions.clone()
            }
        }
    };
}

/// Cache Alignment (B.2.1).
#[derive(Clone, Debug)]
pub struct Ca<'a> {
    /// CA sequence number.
    pub seq: CaSeq,
    /// M, I and O.
    pub flags: CaFlags,
    pub(crate) envelope: Envelope<'a>,
    pub(crate) summaries: Summaries<'a>,
    pub(crate) extensions: Extensions<'a>,
}

with_summaries!(Ca);

/// Cache State Update Reply (B.2.3).
#[derive(Clone, Debug)]
pub struct CsuReply<'a> {
    pub(crate) envelope: Envelope<'a>,
    pub(crate) summaries: Summaries<'a>,
    pub(crate) extensions: Extensions<'a>,
}

with_summaries!(CsuReply);

/// Cache State Update Solicit (B.2.4).
#[derive(Clone, Debug)]
pub struct Csus<'a> {
    pub(crate) envelope: Envelope<'a>,
    pub(crate) summaries: Summaries<'a>,
    pub(crate) extensions: Extensions<'a>,
}

with_summaries!(Csus);

/// Cache State Update Request (B.2.2).
#[derive(Clone, Debug)]
pub struct CsuRequest<'a> {
    pub(crate) envelope: Envelope<'a>,
    pub(crate) records: Records<'a>,
    pub(crate) extensions: Extensions<'a>,
}

impl<'a> CsuRequest<'a> {
    /// The envelope it came in.
    #[inline]
    pub const fn envelope(&self) -> &Envelope<'a> {
        &self.envelope
    }

    /// Its records in their order.
    #[inline]
    pub fn records(&self) -> Records<'a> {
        self.records.clone()
    }

    /// Its extensions in their order.
    #[inline]
    pub fn extensions(&self) -> Extensions<'a> {
        self.extensions.clone()
    }
}

/// Hello (B.2.5).
#[derive(Clone, Debug)]
pub struct Hello<'a> {
    /// `HelloInterval`: the longest time to the sender's next Hello, in whole seconds, not 0.
    pub hello_interval: Duration,
    /// The same as the number on the wire.
    pub hello_interval_secs: u16,
    /// `DeadFactor`: intervals after which the sender counts as stalled, not 0.
    pub dead_factor: u16,
    /// Family ID, 0 for none.
    pub family: FamilyId,
    pub(crate) envelope: Envelope<'a>,
    pub(crate) receivers: Receivers<'a>,
    pub(crate) extensions: Extensions<'a>,
}

impl<'a> Hello<'a> {
    /// The envelope it came in.
    #[inline]
    pub const fn envelope(&self) -> &Envelope<'a> {
        &self.envelope
    }

    /// Every receiver id: that of the common part, then the additional ones (H-09).
    #[inline]
    pub fn receivers(&self) -> Receivers<'a> {
        self.receivers.clone()
    }

    /// Its extensions in their order.
    #[inline]
    pub fn extensions(&self) -> Extensions<'a> {
        self.extensions.clone()
    }

    /// Its own fields as builder input.
    #[inline]
    pub const fn fields(&self) -> HelloFields {
        HelloFields {
            interval_secs: self.hello_interval_secs,
            dead_factor: self.dead_factor,
            family: self.family,
        }
    }
}

/// Checked receiver ids of a Hello, each of 1 to 255 octets.
#[derive(Clone, Debug)]
pub struct Receivers<'a> {
    /// From the common part.
    first: Option<&'a [u8]>,
    /// Additional receiver id records.
    rest: &'a [u8],
    rest_count: usize,
}

impl<'a> Receivers<'a> {
    /// Checks that exactly `count` additional ids fill `records` (W-06).
    pub(crate) fn counted(
        first: &'a [u8],
        records: &'a [u8],
        count: u16,
    ) -> Result<Self, ParseError> {
        let mut rest = records;
        for _ in 0..count {
            let (id, after) = split_id(rest).ok_or(ParseError::RecordTruncated)?;
            if id.is_empty() {
                return Err(ParseError::Receiver);
            }
            rest = after;
        }
        if !rest.is_empty() {
            return Err(ParseError::RecordsTrailing { left: rest.len() });
        }
        let first = Some(first).filter(|id| !id.is_empty());
        Ok(Self {
            first,
            rest: records,
            rest_count: usize::from(count),
        })
    }
}

/// Reads an additional receiver id record: length, id.
#[inline]
fn split_id(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*len))
}

impl<'a> Iterator for Receivers<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let (id, rest) = split_id(self.rest)?;
        self.rest = rest;
        self.rest_count -= 1;
        Some(id)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.rest_count + usize::from(self.first.is_some());
        (left, Some(left))
    }
}

impl ExactSizeIterator for Receivers<'_> {}
impl FusedIterator for Receivers<'_> {}
