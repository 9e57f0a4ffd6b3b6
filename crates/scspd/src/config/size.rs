//! Sizes of the configuration: octets, or one whole number and one unit, `KiB` to `TiB`.

/// Units, largest first, with their octets.
const UNITS: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// Reads `"4GiB"`, `"512MiB"` or `"100000000"`. `None` for any other text and past 2^64.
pub(super) fn parse(text: &str) -> Option<u64> {
    let digits_len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(digits_len);
    let factor = match unit {
        "" => 1,
        unit => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// Writes a size in the largest unit that divides it.
pub(super) fn format(octets: u64) -> String {
    let fitting = UNITS.iter().find(|(_, unit)| octets.is_multiple_of(*unit));
    match fitting {
        Some((name, unit)) if octets > 0 => format!("{}{name}", octets / unit),
        _ => octets.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_reads_and_writes_back() {
        // Goal: the forms of the documentation are read exactly and written the same way.
        for (text, octets) in [
            ("0", 0),
            ("100000000", 100_000_000),
            ("1KiB", 1024),
            ("512MiB", 512 << 20),
            ("4GiB", 4 << 30),
            ("3TiB", 3 << 40),
        ] {
            assert_eq!(parse(text), Some(octets), "{text}");
            assert_eq!(format(octets), text);
        }
        assert_eq!(format(1 << 32), "4GiB", "the largest unit that divides it");
    }

    #[test]
    fn anything_else_is_refused() {
        // Goal: other units, signs, fractions, spaces and overflow are not sizes.
        for text in [
            "",
            "GiB",
            "4GB",
            "4G",
            "4gib",
            "-1",
            "+1",
            "1.5GiB",
            "4 GiB",
            "٣KiB",
            "18446744073709551616",
            "16777216TiB",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
