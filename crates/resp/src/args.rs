//! A command's arguments, borrowed from the receive buffer.

use std::fmt;

/// Place of one argument in the buffer it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

/// A command and its arguments in order; element 0 is the command's name. Cheap to copy.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// No arguments at all.
    pub const EMPTY: Self = Self {
        bytes: &[],
        spans: &[],
    };

    pub(crate) const fn new(bytes: &'a [u8], spans: &'a [Span]) -> Self {
        Self { bytes, spans }
    }

    /// Number of arguments, the command's name included.
    pub const fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is not even a name.
    pub const fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Argument `index`, or `None` when there are fewer.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|&span| slice(self.bytes, span))
    }

    /// Argument `index`; empty when there are fewer, so for use after the arity check.
    pub fn at(&self, index: usize) -> &'a [u8] {
        self.get(index).unwrap_or_default()
    }

    /// The command's name as sent.
    pub fn name(&self) -> &'a [u8] {
        self.at(0)
    }

    /// The arguments from `count` on; empty when there are fewer.
    #[must_use]
    pub fn skip(&self, count: usize) -> Self {
        Self {
            bytes: self.bytes,
            spans: self.spans.get(count..).unwrap_or_default(),
        }
    }

    /// All arguments in order, the command's name first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + use<'a> {
        let bytes = self.bytes;
        self.spans.iter().map(move |&span| slice(bytes, span))
    }
}

impl fmt::Debug for Args<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(<[u8]>::escape_ascii))
            .finish()
    }
}

impl PartialEq for Args<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Args<'_> {}

/// The octets of a span. The decoder makes spans that lie inside their buffer; any other is empty.
fn slice(bytes: &[u8], span: Span) -> &[u8] {
    let start = span.start as usize;
    bytes
        .get(start..start + span.len as usize)
        .unwrap_or_default()
}
