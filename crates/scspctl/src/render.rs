//! Text for people: tables, octets, spans of time.

use std::fmt::{Display, Write as _};
use std::io::Write;
use std::time::Duration;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width};

use crate::error::Error;

/// What stands for "nothing" in a cell, so that every column has a word in every line.
pub(crate) const NONE: &str = "-";

/// A table printed page by page: the first page sets the widths, later ones widen where they must.
pub(crate) struct Columns {
    heads: &'static [&'static str],
    /// Columns of numbers, flushed right.
    right: &'static [usize],
    widths: Option<Vec<u16>>,
}

impl Columns {
    /// `right` holds the indexes of the columns to flush right.
    pub(crate) const fn new(heads: &'static [&'static str], right: &'static [usize]) -> Self {
        Self {
            heads,
            right,
            widths: None,
        }
    }

    /// Prints `rows`, the first time below the heads. An empty first page is the heads alone.
    pub(crate) fn page(
        &mut self,
        out: &mut impl Write,
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> Result<(), Error> {
        let mut table = Table::new();
        table.load_preset(comfy_table::presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        if self.widths.is_none() {
            table.add_row(self.heads);
        }
        table.add_rows(rows);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if self.right.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
            if let Some(width) = self.widths.as_ref().and_then(|widths| widths.get(index)) {
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(*width)));
            }
        }
        self.widths.get_or_insert_with(|| {
            table
                .column_max_content_widths()
                .into_iter()
                .map(|width| width + 2)
                .collect()
        });
        for line in table.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A cell, or [`NONE`].
pub(crate) fn cell(value: Option<impl Display>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

/// Octets on one line: text as it is, control characters, backslashes and what is no UTF-8 as `\xHH`.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    let escape = |shown: &mut String, bytes: &[u8]| {
        for octet in bytes {
            write!(shown, "\\x{octet:02x}").expect("a string takes what it is given");
        }
    };
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\\' {
                escape(&mut shown, character.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                shown.push(character);
            }
        }
        escape(&mut shown, chunk.invalid());
    }
    shown
}

/// A span of time in its two largest units, such as `3d4h`, `5m12s`, `1.5s` or `350ms`.
pub(crate) fn span(span: Duration) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let secs = span.as_secs();
    if secs == 0 {
        return match span.subsec_millis() {
            0 => "0s".to_owned(),
            millis => format!("{millis}ms"),
        };
    }
    if secs < 10 && span.subsec_millis() >= 100 {
        return format!("{secs}.{}s", span.subsec_millis() / 100);
    }
    let first = UNITS
        .iter()
        .position(|(_, unit)| secs >= *unit)
        .unwrap_or(UNITS.len() - 1);
    let (name, unit) = UNITS[first];
    let mut shown = format!("{}{name}", secs / unit);
    if let Some((name, smaller)) = UNITS.get(first + 1) {
        let rest = secs % unit / smaller;
        if rest > 0 {
            write!(shown, "{rest}{name}").expect("a string takes what it is given");
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: people can read every octet string, and tell an escape from text that looks like one.
    #[test]
    fn octets_print_on_one_line() {
        assert_eq!(printable("grün 1".as_bytes()), "grün 1");
        assert_eq!(printable(b"a\n\x00\xff\x7f"), "a\\x0a\\x00\\xff\\x7f");
        assert_eq!(printable(b"\\x0a"), "\\x5cx0a");
        assert_eq!(printable("\u{85}".as_bytes()), "\\xc2\\x85");
    }

    /// Goal: spans show two units at most, and the edges between units.
    #[test]
    fn spans_in_two_units() {
        let shown = |millis| span(Duration::from_millis(millis));
        let spans = [
            0, 1, 999, 1_000, 1_540, 9_999, 10_900, 59_999, 60_000, 312_000, 3_600_000,
        ];
        let texts = [
            "0s", "1ms", "999ms", "1s", "1.5s", "9.9s", "10s", "59s", "1m", "5m12s", "1h",
        ];
        assert_eq!(spans.map(shown), texts);
        assert_eq!(
            span(Duration::from_secs(3 * 86_400 + 4 * 3_600 + 59)),
            "3d4h"
        );
    }

    /// Goal: a later page keeps the columns of the first one, without trailing blanks.
    #[test]
    fn pages_share_their_columns() {
        let mut out = Vec::new();
        let mut columns = Columns::new(&["KEY", "SEQ", "BODY"], &[1]);
        let row = |key: &str, seq: &str, body: &str| vec![key.into(), seq.into(), body.into()];
        columns
            .page(&mut out, [row("first", "10", "x"), row("b", "7", "yy")])
            .unwrap();
        columns.page(&mut out, [row("c", "8", "")]).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "KEY    SEQ  BODY\nfirst   10  x\nb        7  yy\nc        8\n"
        );
    }
}
