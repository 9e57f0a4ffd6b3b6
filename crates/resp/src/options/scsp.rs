//! The SCSP.* commands. Groups, server ids and actions on them are the
//! daemon's to look up: here they are octets.

use crate::args::Args;
use crate::error::CommandError;
use crate::number;
use crate::options::{SCAN_COUNT_DEFAULT, Tail, count, cursor, is};

/// Smallest sequence that SEQ may give (CSU-18).
pub const SEQUENCE_MIN: i32 = -i32::MAX;
/// Largest sequence that SEQ may give: 2^31-2 (CSU-19).
pub const SEQUENCE_MAX: i32 = i32::MAX - 1;

/// `SCSP.PUBLISH group key body [SEQ n]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScspPublish<'a> {
    /// The group's name.
    pub group: &'a [u8],
    /// The cache key.
    pub key: &'a [u8],
    /// The record's protocol specific part.
    pub body: &'a [u8],
    /// The sequence to originate with.
    pub sequence: Option<i32>,
}

impl<'a> ScspPublish<'a> {
    /// Parses the whole command.
    pub fn parse(args: Args<'a>) -> Result<Self, CommandError<'a>> {
        let mut sequence = None;
        let mut tail = Tail::new(args, 4);
        while let Some(word) = tail.word() {
            if !is(word, "seq") {
                return Err(CommandError::Syntax);
            }
            let value =
                number::parse_i64(tail.value()?).and_then(|value| i32::try_from(value).ok());
            sequence = value.filter(|value| (SEQUENCE_MIN..=SEQUENCE_MAX).contains(value));
            if sequence.is_none() {
                return Err(CommandError::InvalidSequence);
            }
        }
        Ok(Self {
            group: args.at(1),
            key: args.at(2),
            body: args.at(3),
            sequence,
        })
    }
}

/// `SCSP.GET group key [ORIGINATOR oid] [ALL]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScspGet<'a> {
    /// The group's name.
    pub group: &'a [u8],
    /// The cache key.
    pub key: &'a [u8],
    /// Only the instance of this originator, in any form of the configuration.
    pub originator: Option<&'a [u8]>,
    /// Tombstones and withdrawals too.
    pub all: bool,
}

impl<'a> ScspGet<'a> {
    /// Parses the whole command.
    pub fn parse(args: Args<'a>) -> Result<Self, CommandError<'a>> {
        let mut request = Self {
            group: args.at(1),
            key: args.at(2),
            originator: None,
            all: false,
        };
        let mut tail = Tail::new(args, 3);
        while let Some(word) = tail.word() {
            if is(word, "originator") {
                request.originator = Some(tail.value()?);
            } else if is(word, "all") {
                request.all = true;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(request)
    }
}

/// `SCSP.SCAN group cursor [COUNT n] [ALL]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScspScan<'a> {
    /// The group's name.
    pub group: &'a [u8],
    /// Where to go on; 0 starts.
    pub cursor: u64,
    /// Entries to look at, at least 1; the client may ask for more than is wise.
    pub count: usize,
    /// Tombstones and withdrawals too.
    pub all: bool,
}

impl<'a> ScspScan<'a> {
    /// Parses the whole command.
    pub fn parse(args: Args<'a>) -> Result<Self, CommandError<'a>> {
        let mut scan = Self {
            group: args.at(1),
            cursor: cursor(args.at(2))?,
            count: SCAN_COUNT_DEFAULT,
            all: false,
        };
        let mut tail = Tail::new(args, 3);
        while let Some(word) = tail.word() {
            if is(word, "count") {
                scan.count = count(tail.value()?)?;
            } else if is(word, "all") {
                scan.all = true;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(scan)
    }
}

/// `SCSP.DIGEST group [ALL]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScspDigest<'a> {
    /// The group's name.
    pub group: &'a [u8],
    /// Tombstones and withdrawals too.
    pub all: bool,
}

impl<'a> ScspDigest<'a> {
    /// Parses the whole command.
    pub fn parse(args: Args<'a>) -> Result<Self, CommandError<'a>> {
        let mut all = false;
        let mut tail = Tail::new(args, 2);
        while let Some(word) = tail.word() {
            if !is(word, "all") {
                return Err(CommandError::Syntax);
            }
            all = true;
        }
        Ok(Self {
            group: args.at(1),
            all,
        })
    }
}

/// `SCSP.PEER group id CLEAR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScspPeerClear<'a> {
    /// The group's name.
    pub group: &'a [u8],
    /// The neighbour's server id, in any form of the configuration.
    pub id: &'a [u8],
}

impl<'a> ScspPeerClear<'a> {
    /// Parses the whole command.
    pub fn parse(args: Args<'a>) -> Result<Self, CommandError<'a>> {
        if !is(args.at(3), "clear") {
            return Err(CommandError::Syntax);
        }
        Ok(Self {
            group: args.at(1),
            id: args.at(2),
        })
    }
}

/// The group that SCSP.PEERS is limited to.
pub fn scsp_peers(args: Args<'_>) -> Result<Option<&[u8]>, CommandError<'_>> {
    if args.len() > 2 {
        return Err(CommandError::WrongArity("scsp.peers"));
    }
    Ok(args.get(1))
}
