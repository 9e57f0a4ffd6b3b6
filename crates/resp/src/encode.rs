//! Replies in RESP2 or RESP3, appended to a buffer that the caller lends.

#[cfg(test)]
mod tests;

use std::fmt::{self, Display, Write as _};

/// Protocol version of a connection (HELLO).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// Version 2, every connection's first.
    #[default]
    Resp2,
    /// Version 3: maps, sets, nulls, booleans and doubles have forms of their own.
    Resp3,
}

impl Protocol {
    /// The version's number, 2 or 3.
    pub const fn number(self) -> u8 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// Writes replies to the end of a buffer. Aggregates are headers only: the caller writes as many
/// elements after them as it announced.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl<'a> Writer<'a> {
    /// A writer that appends to `out`.
    pub const fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    /// The version replies are written in.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Octets in the buffer so far, those of others included.
    pub const fn buffered_len(&self) -> usize {
        self.out.len()
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A simple string; CR and LF in it become blanks.
    pub fn simple(&mut self, text: impl Display) {
        self.line(b'+', text);
    }

    /// An error reply. `text` starts with its code, such as `ERR`; CR and LF in it become blanks.
    pub fn error(&mut self, text: impl Display) {
        self.line(b'-', text);
    }

    /// An integer.
    pub fn integer(&mut self, value: i64) {
        self.out.push(b':');
        if value < 0 {
            self.out.push(b'-');
        }
        self.push_number(value.unsigned_abs());
        self.out.extend_from_slice(b"\r\n");
    }

    /// A count as an integer; what `i64` cannot hold is written as its largest value.
    pub fn count(&mut self, value: usize) {
        self.integer(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// A bulk string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.header(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A bulk string that is `value`'s text, formatted in place.
    pub fn bulk_display(&mut self, value: impl Display) {
        let start = self.out.len();
        write!(Tail(self.out), "{value}").expect("a buffer takes every write");
        let body_len = self.out.len() - start;
        self.header(b'$', body_len);
        let header_len = self.out.len() - start - body_len;
        if let Some(tail) = self.out.get_mut(start..) {
            tail.rotate_right(header_len);
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// Nothing in place of a value (RESP2: null bulk string).
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// Nothing in place of an array.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// An array of `len` elements.
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len);
    }

    /// A map of `len` pairs: twice as many elements follow, field before value. Flat in RESP2.
    pub fn map(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', len.saturating_mul(2)),
            Protocol::Resp3 => self.header(b'%', len),
        }
    }

    /// A set of `len` elements; an array in RESP2.
    pub fn set(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', len),
            Protocol::Resp3 => self.header(b'~', len),
        }
    }

    /// A message out of order, of `len` elements; an array in RESP2.
    pub fn push(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', len),
            Protocol::Resp3 => self.header(b'>', len),
        }
    }

    /// A truth value; 1 or 0 in RESP2.
    pub fn boolean(&mut self, value: bool) {
        self.out.extend_from_slice(match (self.protocol, value) {
            (Protocol::Resp2, true) => b":1\r\n",
            (Protocol::Resp2, false) => b":0\r\n",
            (Protocol::Resp3, true) => b"#t\r\n",
            (Protocol::Resp3, false) => b"#f\r\n",
        });
    }

    /// A floating-point number in its shortest exact text; a bulk string in RESP2.
    pub fn double(&mut self, value: f64) {
        match self.protocol {
            Protocol::Resp2 => self.bulk_display(Double(value)),
            Protocol::Resp3 => {
                self.out.push(b',');
                write!(Tail(self.out), "{}\r\n", Double(value))
                    .expect("a buffer takes every write");
            }
        }
    }

    /// Text for people, such as INFO's; a bulk string in RESP2.
    pub fn verbatim(&mut self, text: &[u8]) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text),
            Protocol::Resp3 => {
                self.header(b'=', text.len().saturating_add(4));
                self.out.extend_from_slice(b"txt:");
                self.out.extend_from_slice(text);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    fn header(&mut self, marker: u8, len: usize) {
        self.out.push(marker);
        self.push_number(len as u64);
        self.out.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, marker: u8, text: impl Display) {
        self.out.push(marker);
        let start = self.out.len();
        write!(Tail(self.out), "{text}").expect("a buffer takes every write");
        blank_line_ends(self.out.get_mut(start..).unwrap_or_default());
        self.out.extend_from_slice(b"\r\n");
    }

    fn push_number(&mut self, mut value: u64) {
        let mut digits = [0u8; crate::number::I64_TEXT_LEN_MAX];
        let mut start = digits.len();
        while let Some(place) = start.checked_sub(1) {
            start = place;
            digits[place] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[start..]);
    }
}

/// The end of a buffer as a target of `write!`.
struct Tail<'a>(&'a mut Vec<u8>);

impl fmt::Write for Tail<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// A number as RESP spells it.
struct Double(f64);

impl Display for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0;
        match value.abs() {
            _ if value.is_nan() => f.write_str("nan"),
            _ if value.is_infinite() => f.write_str(if value > 0.0 { "inf" } else { "-inf" }),
            // Beyond this range plain decimal notation grows long.
            size if size != 0.0 && !(1e-5..1e17).contains(&size) => write!(f, "{value:e}"),
            _ => write!(f, "{value}"),
        }
    }
}

fn blank_line_ends(text: &mut [u8]) {
    for octet in text {
        if matches!(octet, b'\r' | b'\n') {
            *octet = b' ';
        }
    }
}
