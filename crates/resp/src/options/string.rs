//! SET, SETEX, PSETEX, EXPIRE, PEXPIRE, MSET and SCAN.

use crate::args::Args;
use crate::error::CommandError;
use crate::options::{SCAN_COUNT_DEFAULT, Tail, count, cursor, integer, is};

/// Milliseconds of a time to live at most: no sum with a 48-bit wall clock overflows.
const TTL_MS_MAX: i64 = i64::MAX - (1 << 48);
const MS_PER_S: i64 = 1000;

/// When a value is to expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    Never,
    /// When the value it replaces would have (KEEPTTL).
    Keep,
    /// So many milliseconds from now; at least 1.
    AfterMs(u64),
    /// At this Unix time in milliseconds; may be past.
    AtUnixMs(u64),
}

/// What SET asks of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetCondition {
    /// Nothing.
    Always,
    /// NX.
    IfAbsent,
    /// XX.
    IfPresent,
}

/// `SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// NX, XX.
    pub condition: SetCondition,
    /// Reply with the old value.
    pub returns_old: bool,
    /// EX and its like.
    pub expiry: Expiry,
}

/// Unit and origin of a time argument.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
    UnixSeconds,
    UnixMilliseconds,
}

impl<'a> Set<'a> {
    /// Parses the whole command.
    pub fn parse(args: Args<'a>) -> Result<Self, CommandError<'a>> {
        let mut condition = SetCondition::Always;
        let mut returns_old = false;
        let mut keeps = false;
        let mut time: Option<(Unit, &[u8])> = None;
        let mut tail = Tail::new(args, 3);
        while let Some(word) = tail.word() {
            if is(word, "nx") && condition != SetCondition::IfPresent {
                condition = SetCondition::IfAbsent;
            } else if is(word, "xx") && condition != SetCondition::IfAbsent {
                condition = SetCondition::IfPresent;
            } else if is(word, "get") {
                returns_old = true;
            } else if is(word, "keepttl") && time.is_none() {
                keeps = true;
            } else if let Some(unit) = Unit::of_option(word)
                && !keeps
                && time.is_none_or(|(other, _)| other == unit)
            {
                time = Some((unit, tail.value()?));
            } else {
                return Err(CommandError::Syntax);
            }
        }
        let expiry = match time {
            Some((unit, text)) => unit.expiry(text, "set")?,
            None if keeps => Expiry::Keep,
            None => Expiry::Never,
        };
        Ok(Self {
            key: args.at(1),
            value: args.at(2),
            condition,
            returns_old,
            expiry,
        })
    }
}

impl Unit {
    fn of_option(word: &[u8]) -> Option<Self> {
        [
            ("ex", Self::Seconds),
            ("px", Self::Milliseconds),
            ("exat", Self::UnixSeconds),
            ("pxat", Self::UnixMilliseconds),
        ]
        .into_iter()
        .find_map(|(name, unit)| is(word, name).then_some(unit))
    }

    const fn in_seconds(self) -> bool {
        matches!(self, Self::Seconds | Self::UnixSeconds)
    }

    /// A time that must be positive.
    fn expiry(self, text: &[u8], command: &'static str) -> Result<Expiry, CommandError<'static>> {
        let ms = self.milliseconds(text, command)?;
        let ms = u64::try_from(ms).ok().filter(|&ms| ms != 0);
        let ms = ms.ok_or(CommandError::InvalidExpire(command))?;
        Ok(match self {
            Self::Seconds | Self::Milliseconds => Expiry::AfterMs(ms),
            Self::UnixSeconds | Self::UnixMilliseconds => Expiry::AtUnixMs(ms),
        })
    }

    /// A time of either sign, in milliseconds.
    fn milliseconds(
        self,
        text: &[u8],
        command: &'static str,
    ) -> Result<i64, CommandError<'static>> {
        let factor = if self.in_seconds() { MS_PER_S } else { 1 };
        integer(text)?
            .checked_mul(factor)
            .filter(|&ms| ms <= TTL_MS_MAX)
            .ok_or(CommandError::InvalidExpire(command))
    }
}

/// `SETEX key s value, PSETEX key ms value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timed<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// Milliseconds to live, at least 1.
    pub ttl_ms: u64,
}

impl<'a> Timed<'a> {
    /// Parses SETEX.
    pub fn parse_setex(args: Args<'a>) -> Result<Self, CommandError<'a>> {
        Self::parse(args, Unit::Seconds, "setex")
    }

    /// Parses PSETEX.
    pub fn parse_psetex(args: Args<'a>) -> Result<Self, CommandError<'a>> {
        Self::parse(args, Unit::Milliseconds, "psetex")
    }

    fn parse(args: Args<'a>, unit: Unit, command: &'static str) -> Result<Self, CommandError<'a>> {
        let ttl_ms = u64::try_from(unit.milliseconds(args.at(2), command)?).unwrap_or(0);
        if ttl_ms == 0 {
            return Err(CommandError::InvalidExpire(command));
        }
        Ok(Self {
            key: args.at(1),
            value: args.at(3),
            ttl_ms,
        })
    }
}

/// What EXPIRE asks of the time to live that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpireCondition {
    /// Nothing.
    Always,
    /// NX: there is none.
    IfNone,
    /// XX: there is one.
    IfSome,
    /// GT (XX implied, since none counts as endless): the new one is longer.
    IfLonger,
    /// LT: the new one is shorter, or there is none.
    IfShorter,
    /// XX and LT: there is one, and the new one is shorter.
    IfSomeAndShorter,
}

impl ExpireCondition {
    /// Whether a time to live of `new_ms` may replace `current_ms` (`None`: endless).
    pub const fn allows(self, current_ms: Option<i64>, new_ms: i64) -> bool {
        match (self, current_ms) {
            (Self::Always, _)
            | (Self::IfNone | Self::IfShorter, None)
            | (Self::IfSome, Some(_)) => true,
            (Self::IfNone, Some(_))
            | (Self::IfSome | Self::IfLonger | Self::IfSomeAndShorter, None) => false,
            (Self::IfLonger, Some(current_ms)) => new_ms > current_ms,
            (Self::IfShorter | Self::IfSomeAndShorter, Some(current_ms)) => new_ms < current_ms,
        }
    }
}

/// `EXPIRE key s [NX | XX | GT | LT], PEXPIRE key ms […]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expire<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Milliseconds from now; zero or less deletes the key.
    pub after_ms: i64,
    /// NX, XX, GT, LT.
    pub condition: ExpireCondition,
}

impl<'a> Expire<'a> {
    /// Parses EXPIRE.
    pub fn parse_expire(args: Args<'a>) -> Result<Self, CommandError<'a>> {
        Self::parse(args, Unit::Seconds, "expire")
    }

    /// Parses PEXPIRE.
    pub fn parse_pexpire(args: Args<'a>) -> Result<Self, CommandError<'a>> {
        Self::parse(args, Unit::Milliseconds, "pexpire")
    }

    fn parse(args: Args<'a>, unit: Unit, command: &'static str) -> Result<Self, CommandError<'a>> {
        let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
        for word in args.skip(3).iter() {
            let flags = [
                ("nx", &mut nx),
                ("xx", &mut xx),
                ("gt", &mut gt),
                ("lt", &mut lt),
            ];
            let Some((_, flag)) = flags.into_iter().find(|(name, _)| is(word, name)) else {
                return Err(CommandError::UnsupportedOption(word));
            };
            *flag = true;
        }
        if nx && (xx || gt || lt) {
            return Err(CommandError::NxConflict);
        }
        let condition = match (nx, xx, gt, lt) {
            (_, _, true, true) => return Err(CommandError::GtLtConflict),
            (true, ..) => ExpireCondition::IfNone,
            (_, _, true, _) => ExpireCondition::IfLonger,
            (_, true, _, true) => ExpireCondition::IfSomeAndShorter,
            (_, _, _, true) => ExpireCondition::IfShorter,
            (_, true, ..) => ExpireCondition::IfSome,
            (false, false, false, false) => ExpireCondition::Always,
        };
        Ok(Self {
            key: args.at(1),
            after_ms: unit.milliseconds(args.at(2), command)?,
            condition,
        })
    }
}

/// The pairs of MSET in order; they may repeat a key.
pub fn mset_pairs(
    args: Args<'_>,
) -> Result<impl ExactSizeIterator<Item = (&[u8], &[u8])>, CommandError<'_>> {
    if args.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity("mset"));
    }
    Ok((1..args.len())
        .step_by(2)
        .map(move |key| (args.at(key), args.at(key + 1))))
}

/// `SCAN cursor [MATCH pattern] [COUNT n] [TYPE name]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan<'a> {
    /// Where to go on; 0 starts.
    pub cursor: u64,
    /// Glob that keys have to match.
    pub pattern: Option<&'a [u8]>,
    /// Entries to look at, at least 1; the client may ask for more than is wise.
    pub count: usize,
    /// Type that values have to have, as sent.
    pub kind: Option<&'a [u8]>,
}

impl<'a> Scan<'a> {
    /// Parses the whole command.
    pub fn parse(args: Args<'a>) -> Result<Self, CommandError<'a>> {
        let mut scan = Self {
            cursor: cursor(args.at(1))?,
            pattern: None,
            count: SCAN_COUNT_DEFAULT,
            kind: None,
        };
        let mut tail = Tail::new(args, 2);
        while let Some(word) = tail.word() {
            if is(word, "match") {
                scan.pattern = Some(tail.value()?);
            } else if is(word, "count") {
                scan.count = count(tail.value()?)?;
            } else if is(word, "type") {
                scan.kind = Some(tail.value()?);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(scan)
    }
}
