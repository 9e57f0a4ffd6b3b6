//! Durations of the configuration: one whole number and one unit, `us`, `ms`, `s`, `m` or `h`.

use std::time::Duration;

/// Units, largest first, with their length in microseconds.
const UNITS: [(&str, u64); 5] = [
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// Reads `"250us"`, `"500ms"`, `"3s"`, `"5m"` or `"1h"`. `None` for any other text and past 2^64 us.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let digits_len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(digits_len);
    let (_, micros) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let count: u64 = digits.parse().ok()?;
    count.checked_mul(*micros).map(Duration::from_micros)
}

/// Writes a duration in the largest unit that divides it; below a microsecond is cut off.
pub(super) fn format(duration: Duration) -> String {
    let micros = duration.as_micros();
    if micros == 0 {
        return "0s".to_owned();
    }
    let (name, length) = UNITS
        .iter()
        .find(|(_, length)| micros.is_multiple_of(u128::from(*length)))
        .expect("one microsecond divides every whole number of microseconds");
    format!("{}{name}", micros / u128::from(*length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_reads_and_writes_back() {
        // Goal: the forms of the documentation are read exactly and written the same way.
        for (text, micros) in [
            ("250us", 250),
            ("500ms", 500_000),
            ("3s", 3_000_000),
            ("5m", 300_000_000),
            ("1h", 3_600_000_000),
            ("90s", 90_000_000),
            ("0s", 0),
        ] {
            let duration = parse(text).expect(text);
            assert_eq!(duration, Duration::from_micros(micros), "{text}");
            assert_eq!(format(duration), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        // Goal: no unit, no number, signs, fractions, spaces and overflow are not durations.
        for text in [
            "",
            "s",
            "5",
            "-1s",
            "+1s",
            "1.5s",
            "1 s",
            "1S",
            "1h30m",
            "٣s",
            "18446744073709551616us",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse("18446744073709551615h"), None);
    }
}
