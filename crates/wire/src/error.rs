//! Why a packet is refused.

use thiserror::Error;

/// A malformed packet: the peer's fault, so it is counted by [`reason`](Self::reason) and dropped.
#[derive(Clone, Copy, Debug, Eq, Error, Hash, PartialEq)]
#[non_exhaustive]
pub enum ParseError {
    /// The datagram ends inside the fixed part (W-02).
    #[error("{have} octets are no SCSP packet, the fixed part alone takes 8")]
    Truncated {
        /// Octets received.
        have: usize,
    },
    /// Another version than 1 (W-01).
    #[error("version {0}, expected 1")]
    Version(u8),
    /// The packet size exceeds the datagram, or does not even cover the fixed part (W-02).
    #[error("packet size {field} in a datagram of {have} octets")]
    Size {
        /// Packet size field.
        field: u16,
        /// Octets received.
        have: usize,
    },
    /// The Internet checksum over the packet is wrong (W-03).
    #[error("wrong checksum")]
    Checksum,
    /// Unknown message type (W-08).
    #[error("unknown message type {0}")]
    Type(u8),
    /// The packet ends before its common part and ids do.
    #[error("packet ends inside the mandatory common part")]
    CommonPart,
    /// Sender id of length 0.
    #[error("sender id is empty")]
    Sender,
    /// `HelloInterval` or `DeadFactor` is 0 (D-04).
    #[error("HelloInterval or DeadFactor is 0")]
    HelloTimer,
    /// Start of extensions lies inside the ids or beyond the packet (W-04).
    #[error("start of extensions {field} is outside the packet's records")]
    ExtensionsStart {
        /// Start of extensions field.
        field: u16,
    },
    /// Fewer records than counted: one runs past the extensions or the packet's end (W-06).
    #[error("records end before their count is reached")]
    RecordTruncated,
    /// Octets are left between the last counted record and the extensions or packet end (W-06).
    #[error("{left} octets after the last counted record")]
    RecordsTrailing {
        /// Octets not accounted for.
        left: usize,
    },
    /// A record length below its summary's, or a stand-alone summary with another one (W-07).
    #[error("record length {field} does not fit a summary of {summary} octets")]
    RecordLength {
        /// Record length field.
        field: u16,
        /// 12 + cache key length + originator id length.
        summary: usize,
    },
    /// A record without originator id.
    #[error("originator id is empty")]
    Originator,
    /// A record with the N bit and a body (B.2.0.2).
    #[error("null record with a body")]
    NullBody,
    /// CSA sequence -2^31, which is reserved (CSU-18).
    #[error("reserved CSA sequence -2147483648")]
    Sequence,
    /// An additional receiver id of length 0 in a Hello (H-09).
    #[error("additional receiver id is empty")]
    Receiver,
    /// An extension runs past the packet, or the End-of-Extensions marker is missing (W-09).
    #[error("packet ends before its extensions do")]
    ExtensionTruncated,
    /// End-of-Extensions has a value or is not the packet's end (W-09).
    #[error("octets after End-of-Extensions")]
    ExtensionsTrailing,
    /// An extension too short for its own fields (B.3).
    #[error("extension type {code} is too short")]
    ExtensionLength {
        /// Extension type.
        code: u16,
    },
    /// A type, or for type 2 a vendor id, occurs twice (W-09).
    #[error("extension type {code} occurs twice")]
    ExtensionRepeated {
        /// Extension type.
        code: u16,
    },
    /// More than [`EXTENSIONS_MAX`](crate::EXTENSIONS_MAX) extensions.
    #[error("too many extensions")]
    ExtensionCount,
}

impl ParseError {
    /// Every label [`reason`](Self::reason) can return, for counters that exist from the start.
    pub const REASONS: [&'static str; 21] = [
        "truncated",
        "version",
        "size",
        "checksum",
        "type",
        "common_part",
        "sender",
        "hello_timer",
        "extensions_start",
        "record_truncated",
        "records_trailing",
        "record_length",
        "originator",
        "null_body",
        "sequence",
        "receiver_empty",
        "extension_truncated",
        "extensions_trailing",
        "extension_length",
        "extension_repeated",
        "extension_count",
    ];

    /// Position of [`reason`](Self::reason) in [`REASONS`](Self::REASONS), to index counters.
    #[inline]
    pub const fn index(self) -> usize {
        match self {
            Self::Truncated { .. } => 0,
            Self::Version(_) => 1,
            Self::Size { .. } => 2,
            Self::Checksum => 3,
            Self::Type(_) => 4,
            Self::CommonPart => 5,
            Self::Sender => 6,
            Self::HelloTimer => 7,
            Self::ExtensionsStart { .. } => 8,
            Self::RecordTruncated => 9,
            Self::RecordsTrailing { .. } => 10,
            Self::RecordLength { .. } => 11,
            Self::Originator => 12,
            Self::NullBody => 13,
            Self::Sequence => 14,
            Self::Receiver => 15,
            Self::ExtensionTruncated => 16,
            Self::ExtensionsTrailing => 17,
            Self::ExtensionLength { .. } => 18,
            Self::ExtensionRepeated { .. } => 19,
            Self::ExtensionCount => 20,
        }
    }

    /// Metric label (`scsp_packets_dropped_total{reason}`).
    #[inline]
    pub const fn reason(self) -> &'static str {
        Self::REASONS[self.index()]
    }

    /// Whether the packet was whole enough to hold its sender responsible (D-02): true exactly for
    /// what [`Envelope::open`](crate::Envelope::open) finds.
    #[inline]
    pub const fn is_attributable(self) -> bool {
        self.index() >= Self::Sender.index()
    }
}
