//! JSON for programs.

use std::io::Write;

use redis::Value;
use serde::Serialize;
use serde_json::Value as Json;

use crate::error::Error;

/// Prints one value and a newline.
pub(crate) fn print(out: &mut impl Write, value: &impl Serialize) -> Result<(), Error> {
    write(out, value)?;
    Ok(writeln!(out)?)
}

/// An array printed while its elements arrive, one per line.
#[derive(Default)]
pub(crate) struct Stream {
    started: bool,
}

impl Stream {
    /// Prints the next element.
    pub(crate) fn push(
        &mut self,
        out: &mut impl Write,
        item: &impl Serialize,
    ) -> Result<(), Error> {
        out.write_all(if self.started { b",\n" } else { b"[" })?;
        self.started = true;
        write(out, item)
    }

    /// Closes the array.
    pub(crate) fn finish(self, out: &mut impl Write) -> Result<(), Error> {
        Ok(out.write_all(if self.started { b"]\n" } else { b"[]\n" })?)
    }
}

fn write(out: &mut impl Write, value: &impl Serialize) -> Result<(), Error> {
    serde_json::to_writer(out, value).map_err(|error| Error::Output(error.into()))
}

/// A key or value: the text where it is UTF-8 and cannot be taken for the other form, else `hex:…`.
pub(crate) fn octets(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) if !text.starts_with("hex:") => text.to_owned(),
        _ => format!("hex:{}", hex(bytes)),
    }
}

/// Octets as pairs of hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|octet| [digit(octet >> 4), digit(octet & 15)])
        .collect()
}

/// A field this program has no type for, as it came.
pub(crate) fn plain(value: &Value) -> Json {
    match value {
        Value::Int(number) => Json::from(*number),
        Value::Double(number) => Json::from(*number),
        Value::Boolean(flag) => Json::from(*flag),
        Value::BulkString(bytes) => Json::from(octets(bytes)),
        Value::Array(items) | Value::Set(items) => items.iter().map(plain).collect(),
        other => crate::model::text(other).map_or(Json::Null, Json::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no two octet strings share a JSON form.
    #[test]
    fn octets_stay_distinct() {
        assert_eq!(octets("grün".as_bytes()), "grün");
        assert_eq!(octets(b"\xff\x00"), "hex:ff00");
        assert_eq!(octets(b"hex:ff00"), "hex:6865783a66663030");
        assert_eq!(octets(b""), "");
    }

    /// Goal: a streamed array is valid JSON whether it has none, one or more elements.
    #[test]
    fn streams_are_arrays() {
        for items in [vec![], vec![1], vec![1, 2, 3]] {
            let mut out = Vec::new();
            let mut stream = Stream::default();
            for item in &items {
                stream.push(&mut out, item).unwrap();
            }
            stream.finish(&mut out).unwrap();
            assert_eq!(serde_json::from_slice::<Vec<i32>>(&out).unwrap(), items);
        }
    }
}
