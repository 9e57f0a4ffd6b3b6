//! Inline commands: a line split on blanks, with quoting as Redis has it.

use crate::args::Span;
use crate::decode::{ProtocolError, narrow};

/// Splits `line` into `spans` of `unquoted`, both of which come in empty.
///
/// Blanks separate. Double quotes allow `\xHH`, `\n`, `\r`, `\t`, `\b`, `\a` and `\` before any other
/// octet for itself; single quotes allow `\'`. A quote may open inside a word, but a blank or the
/// end has to follow where it closes.
pub(super) fn split(
    line: &[u8],
    unquoted: &mut Vec<u8>,
    spans: &mut Vec<Span>,
) -> Result<(), ProtocolError> {
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let start = unquoted.len();
        rest = word(rest, unquoted)?.trim_ascii_start();
        spans.push(Span {
            start: narrow(start),
            len: narrow(unquoted.len() - start),
        });
    }
    Ok(())
}

/// Takes one word off the front; gives what follows it.
fn word<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        match rest {
            [] => return Ok(rest),
            [blank, ..] if blank.is_ascii_whitespace() => return Ok(rest),
            [b'"', quoted @ ..] => return closed(double_quoted(quoted, out)?),
            [b'\'', quoted @ ..] => return closed(single_quoted(quoted, out)?),
            [octet, tail @ ..] => {
                out.push(*octet);
                rest = tail;
            }
        }
    }
}

fn closed(rest: &[u8]) -> Result<&[u8], ProtocolError> {
    match rest.first() {
        Some(octet) if !octet.is_ascii_whitespace() => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok(rest),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (octet, tail) = match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'"', tail @ ..] => return Ok(tail),
            [b'\\', b'x', high, low, tail @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (nibble(*high) << 4 | nibble(*low), tail)
            }
            [b'\\', escaped, tail @ ..] => (unescaped(*escaped), tail),
            [octet, tail @ ..] => (*octet, tail),
        };
        out.push(octet);
        rest = tail;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (octet, tail) = match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'\'', tail @ ..] => return Ok(tail),
            [b'\\', b'\'', tail @ ..] => (b'\'', tail),
            [octet, tail @ ..] => (*octet, tail),
        };
        out.push(octet);
        rest = tail;
    }
}

const fn unescaped(octet: u8) -> u8 {
    match octet {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

/// Value of a hexadecimal digit.
const fn nibble(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a').wrapping_add(10),
    }
}
