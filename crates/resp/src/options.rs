//! Arguments of commands as typed values; every refusal is in the words of Redis.
//!
//! Each parser takes the whole command with its name, arity already checked by
//! [`Command::resolve`](crate::Command::resolve), and allocates nothing.

mod connection;
mod scsp;
mod string;
#[cfg(test)]
mod tests;

pub use connection::{
    Auth, ClientCommand, ClientKind, ClientList, Hello, Kill, KillFilter, LibraryInfo, ReplyMode,
    client,
};
pub use scsp::{
    SEQUENCE_MAX, SEQUENCE_MIN, ScspDigest, ScspGet, ScspPeerClear, ScspPublish, ScspScan,
    scsp_peers,
};
pub use string::{Expire, ExpireCondition, Expiry, Scan, Set, SetCondition, Timed, mset_pairs};

use crate::args::Args;
use crate::error::CommandError;
use crate::number;

/// Entries that SCAN and SCSP.SCAN look at when COUNT does not say.
pub const SCAN_COUNT_DEFAULT: usize = 10;

/// A signed integer.
pub fn integer(text: &[u8]) -> Result<i64, CommandError<'static>> {
    number::parse_i64(text).ok_or(CommandError::NotInteger)
}

/// The number of SELECT; [`DB_INDEX`](crate::error::DB_INDEX) is the daemon's to answer, who knows
/// how many groups there are. A negative number is given as `None`.
pub fn select(args: Args<'_>) -> Result<Option<usize>, CommandError<'_>> {
    let index = integer(args.at(1))?;
    if i32::try_from(index).is_err() {
        return Err(CommandError::NotInteger);
    }
    Ok(usize::try_from(index).ok())
}

/// The text that PING is to repeat.
pub fn ping(args: Args<'_>) -> Result<Option<&[u8]>, CommandError<'_>> {
    if args.len() > 2 {
        return Err(CommandError::WrongArity("ping"));
    }
    Ok(args.get(1))
}

fn cursor(text: &[u8]) -> Result<u64, CommandError<'static>> {
    number::parse_u64(text).ok_or(CommandError::InvalidCursor)
}

/// The value of COUNT: positive.
fn count(text: &[u8]) -> Result<usize, CommandError<'static>> {
    match usize::try_from(integer(text)?) {
        Ok(0) | Err(_) => Err(CommandError::Syntax),
        Ok(count) => Ok(count),
    }
}

/// Arguments from some index on, taken one by one.
struct Tail<'a> {
    args: Args<'a>,
    next: usize,
}

impl<'a> Tail<'a> {
    const fn new(args: Args<'a>, first: usize) -> Self {
        Self { args, next: first }
    }

    /// The next argument if there is one.
    fn word(&mut self) -> Option<&'a [u8]> {
        let word = self.args.get(self.next)?;
        self.next += 1;
        Some(word)
    }

    /// The next argument, which an option needs.
    fn value(&mut self) -> Result<&'a [u8], CommandError<'a>> {
        self.word().ok_or(CommandError::Syntax)
    }
}

/// Whether `word` is the option `name`, in any case.
const fn is(word: &[u8], name: &str) -> bool {
    word.eq_ignore_ascii_case(name.as_bytes())
}
