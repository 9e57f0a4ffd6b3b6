//! Incremental, zero-copy parser of a connection's receive buffer.
//!
//! The caller keeps received octets in one buffer, hands all that is not consumed yet to
//! [`Decoder::decode`], and drops what it reports as consumed. The decoder remembers how far it came
//! inside an unfinished command, so more octets cost only the work for these octets: a large bulk
//! that trickles in is never scanned again. Multibulk arguments stay in the caller's buffer; inline
//! commands are unquoted into a buffer of the decoder, both without allocation once warm.

mod inline;
#[cfg(test)]
mod tests;

use crate::args::{Args, Span};
use crate::number;

/// Arguments of one command at most, its name included (as Redis before 7).
pub const ARGS_MAX: u32 = 1024 * 1024;
/// Octets of one argument at most. Values are limited far below it, by an ordinary error (D-14).
pub const BULK_LEN_MAX: u32 = 16 * 1024 * 1024;
/// Octets of an inline command's line at most.
pub const INLINE_LEN_MAX: u32 = 64 * 1024;
/// Octets of one whole command at most.
pub const COMMAND_LEN_MAX: u32 = 64 * 1024 * 1024;
/// Arguments at most while the client has not authenticated.
pub const UNAUTHENTICATED_ARGS_MAX: u32 = 10;
/// Octets of one argument at most while the client has not authenticated.
pub const UNAUTHENTICATED_BULK_LEN_MAX: u32 = 16 * 1024;

/// Spans and unquoted octets kept allocated between commands; what a large command needed beyond
/// is given back, so that ten thousand idle connections stay small.
const KEPT_MAX: usize = 4096;
/// A length line (digits, CR) that is longer cannot be a number.
const LENGTH_LINE_MAX: usize = number::I64_TEXT_LEN_MAX + 2;

/// What a client may send; a violation is a [`ProtocolError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Arguments of one command.
    pub args_max: u32,
    /// Octets of one argument.
    pub bulk_len_max: u32,
    /// Octets of an inline command's line.
    pub inline_len_max: u32,
    /// Octets of one whole command.
    pub command_len_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            args_max: ARGS_MAX,
            bulk_len_max: BULK_LEN_MAX,
            inline_len_max: INLINE_LEN_MAX,
            command_len_max: COMMAND_LEN_MAX,
        }
    }
}

/// Octets that are no Redis protocol. Its text is the error reply; the connection is closed after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The number after `*` is none or too large.
    #[error("ERR Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// The number after `$` is none, negative or too large.
    #[error("ERR Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// Too many arguments for a client that has not authenticated.
    #[error("ERR Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// Too long an argument for a client that has not authenticated.
    #[error("ERR Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// An argument of an array does not start with `$`.
    #[error("ERR Protocol error: expected '$', got '{}'", .0.escape_ascii())]
    ExpectedBulk(u8),
    /// An argument's octets are not followed by CR LF.
    #[error("ERR Protocol error: expected end of bulk")]
    ExpectedBulkEnd,
    /// A line that does not end in time.
    #[error("ERR Protocol error: too big inline request")]
    TooBigInline,
    /// The arguments together are too long.
    #[error("ERR Protocol error: too big request")]
    TooBigCommand,
    /// A quote of an inline command is not closed, or something follows it at once.
    #[error("ERR Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
}

/// Outcome of one call of [`Decoder::decode`].
#[derive(Debug)]
pub struct Decoded<'a> {
    /// Octets to drop from the front of the buffer once `args` has been dealt with; may be more than
    /// zero without a command, when empty ones were skipped.
    pub consumed: usize,
    /// The next command, or `None` until more octets arrive.
    pub args: Option<Args<'a>>,
}

/// Parser state of one connection.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    authenticated: bool,
    stage: Stage,
    /// Offset of the first octet not looked at, counted from the start of the command.
    at: usize,
    spans: Vec<Span>,
    unquoted: Vec<u8>,
}

/// What the octet at `at` belongs to.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Start,
    Inline,
    BulkLength { left: u32 },
    Bulk { left: u32, len: u32 },
    Failed(ProtocolError),
}

/// What one command's worth of work came to; lengths are octets from the command's start.
enum Step {
    Partial,
    Empty(usize),
    Multibulk(usize),
    Inline(usize),
}

/// A length line after its marker.
enum Length {
    Partial,
    Bad,
    /// The number, and the octets of the line with its CR LF.
    Known(i64, usize),
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Decoder {
    /// A decoder at the start of a connection, which counts as authenticated.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            authenticated: true,
            stage: Stage::Start,
            at: 0,
            spans: Vec::new(),
            unquoted: Vec::new(),
        }
    }

    /// Narrows the limits while a client that has to authenticate has not done so.
    pub const fn set_authenticated(&mut self, authenticated: bool) {
        self.authenticated = authenticated;
    }

    /// Octets the buffer must hold from its start, at least, before [`decode`](Self::decode) can get
    /// further: exact inside a bulk, so a hint for making room before the next receive.
    pub const fn needed_len(&self) -> usize {
        match self.stage {
            Stage::Bulk { len, .. } => self.at + len as usize + 2,
            Stage::Start | Stage::Inline | Stage::BulkLength { .. } | Stage::Failed(_) => {
                self.at + 1
            }
        }
    }

    /// Takes the next command from the front of `buf`, which holds everything received and not yet
    /// consumed. Call again after dropping `consumed` octets until `args` is `None`; empty lines,
    /// `*0` and `*-1` are skipped.
    ///
    /// # Errors
    /// The stream is unusable from here on; every later call gives the same error.
    pub fn decode<'a>(&'a mut self, buf: &'a [u8]) -> Result<Decoded<'a>, ProtocolError> {
        let mut skipped = 0;
        loop {
            let rest = buf.get(skipped..).unwrap_or_default();
            let (consumed, args) = match self.step(rest) {
                Ok(Step::Empty(len)) => {
                    skipped += len;
                    self.stage = Stage::Start;
                    continue;
                }
                Ok(Step::Partial) => {
                    return Ok(Decoded {
                        consumed: skipped,
                        args: None,
                    });
                }
                Ok(Step::Multibulk(len)) => (skipped + len, Args::new(rest, &self.spans)),
                Ok(Step::Inline(len)) => (skipped + len, Args::new(&self.unquoted, &self.spans)),
                Err(error) => {
                    self.stage = Stage::Failed(error);
                    return Err(error);
                }
            };
            self.stage = Stage::Start;
            self.at = 0;
            return Ok(Decoded {
                consumed,
                args: Some(args),
            });
        }
    }

    fn step(&mut self, rest: &[u8]) -> Result<Step, ProtocolError> {
        loop {
            match self.stage {
                Stage::Failed(error) => return Err(error),
                Stage::Start => {
                    self.restart();
                    match rest.first() {
                        None => return Ok(Step::Partial),
                        Some(b'*') => match length_line(rest.get(1..).unwrap_or_default()) {
                            Length::Partial => return Ok(Step::Partial),
                            Length::Bad => return Err(ProtocolError::InvalidMultibulkLength),
                            Length::Known(..=0, used) => return Ok(Step::Empty(1 + used)),
                            Length::Known(count, used) => {
                                let left = self.checked_count(count)?;
                                self.at = 1 + used;
                                self.stage = Stage::BulkLength { left };
                            }
                        },
                        Some(_) => self.stage = Stage::Inline,
                    }
                }
                Stage::Inline => return self.step_inline(rest),
                Stage::BulkLength { left: 0 } => return Ok(Step::Multibulk(self.at)),
                Stage::BulkLength { left } => {
                    let line = match rest.get(self.at..) {
                        None | Some([]) => return Ok(Step::Partial),
                        Some([b'$', line @ ..]) => line,
                        Some([other, ..]) => return Err(ProtocolError::ExpectedBulk(*other)),
                    };
                    match length_line(line) {
                        Length::Partial => return Ok(Step::Partial),
                        Length::Bad => return Err(ProtocolError::InvalidBulkLength),
                        Length::Known(len, used) => {
                            let len = self.checked_len(len)?;
                            self.at += 1 + used;
                            self.check_command_len(len)?;
                            self.stage = Stage::Bulk { left, len };
                        }
                    }
                }
                Stage::Bulk { left, len } => {
                    let end = self.at + len as usize;
                    match rest.get(end..) {
                        None | Some([] | [b'\r']) => return Ok(Step::Partial),
                        Some([b'\r', b'\n', ..]) => {}
                        Some(_) => return Err(ProtocolError::ExpectedBulkEnd),
                    }
                    self.spans.push(Span {
                        start: narrow(self.at),
                        len,
                    });
                    self.at = end + 2;
                    self.stage = Stage::BulkLength { left: left - 1 };
                }
            }
        }
    }

    /// Forgets the last command, and what it allocated beyond the ordinary.
    fn restart(&mut self) {
        self.at = 0;
        self.spans.clear();
        self.unquoted.clear();
        if self.spans.capacity() > KEPT_MAX {
            self.spans.shrink_to(KEPT_MAX);
        }
        if self.unquoted.capacity() > KEPT_MAX {
            self.unquoted.shrink_to(KEPT_MAX);
        }
    }

    fn step_inline(&mut self, rest: &[u8]) -> Result<Step, ProtocolError> {
        let len_max = self.limits.inline_len_max as usize;
        let unseen = rest.get(self.at..).unwrap_or_default();
        let Some(found) = memchr::memchr(b'\n', unseen) else {
            if rest.len() > len_max {
                return Err(ProtocolError::TooBigInline);
            }
            self.at = rest.len();
            return Ok(Step::Partial);
        };
        let end = self.at + found;
        if end > len_max {
            return Err(ProtocolError::TooBigInline);
        }
        let line = rest.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        inline::split(line, &mut self.unquoted, &mut self.spans)?;
        if self.spans.is_empty() {
            return Ok(Step::Empty(end + 1));
        }
        Ok(Step::Inline(end + 1))
    }

    fn checked_count(&self, count: i64) -> Result<u32, ProtocolError> {
        let count = u32::try_from(count)
            .ok()
            .filter(|&count| count <= self.limits.args_max)
            .ok_or(ProtocolError::InvalidMultibulkLength)?;
        if !self.authenticated && count > UNAUTHENTICATED_ARGS_MAX {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        Ok(count)
    }

    fn checked_len(&self, len: i64) -> Result<u32, ProtocolError> {
        let len = u32::try_from(len)
            .ok()
            .filter(|&len| len <= self.limits.bulk_len_max)
            .ok_or(ProtocolError::InvalidBulkLength)?;
        if !self.authenticated && len > UNAUTHENTICATED_BULK_LEN_MAX {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        Ok(len)
    }

    fn check_command_len(&self, len: u32) -> Result<(), ProtocolError> {
        let end = self.at as u64 + u64::from(len) + 2;
        if end > u64::from(self.limits.command_len_max) {
            return Err(ProtocolError::TooBigCommand);
        }
        Ok(())
    }
}

fn length_line(line: &[u8]) -> Length {
    let Some(end) = line
        .iter()
        .take(LENGTH_LINE_MAX)
        .position(|&octet| octet == b'\r')
    else {
        return if line.len() < LENGTH_LINE_MAX {
            Length::Partial
        } else {
            Length::Bad
        };
    };
    match line.get(end + 1) {
        None => Length::Partial,
        Some(b'\n') => number::parse_i64(line.get(..end).unwrap_or_default())
            .map_or(Length::Bad, |value| Length::Known(value, end + 2)),
        Some(_) => Length::Bad,
    }
}

/// An offset inside a command, which the `u32` limits keep below 2^32.
fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).expect("commands are shorter than command_len_max, a u32")
}
