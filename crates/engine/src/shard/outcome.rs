//! What can become of a received record (RFC 2334 2.3, 2.4).

/// What became of a received record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It updated the cache.
    Newer,
    /// The cache held the same.
    Duplicate,
    /// The cache held a newer one.
    Older,
    /// It said that the neighbour no longer has it (CSU-11).
    Null,
    /// Its key or body is malformed for the protocol, or there was no room for it (CSU-04).
    Rejected,
    /// Its entry is being purged: it was not acknowledged and has to come again (CSU-19).
    Purging,
}

impl Outcome {
    /// Every outcome, in the order of the counters.
    pub const ALL: [Self; 6] = [
        Self::Newer,
        Self::Duplicate,
        Self::Older,
        Self::Null,
        Self::Rejected,
        Self::Purging,
    ];

    /// Metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Newer => "newer",
            Self::Duplicate => "duplicate",
            Self::Older => "older",
            Self::Null => "null",
            Self::Rejected => "rejected",
            Self::Purging => "purging",
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}
