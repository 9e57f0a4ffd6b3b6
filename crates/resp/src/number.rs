//! Decimal integers as Redis reads them: no plus sign, no blanks, no leading zeros, no `-0`.

/// Digits and sign of the longest `i64`.
pub const I64_TEXT_LEN_MAX: usize = 20;

/// A signed integer, or `None` when `text` is not one in canonical form or out of range.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    match text {
        [b'-', digits @ ..] => {
            let magnitude = parse_u64(digits).filter(|&magnitude| magnitude != 0)?;
            0i64.checked_sub_unsigned(magnitude)
        }
        digits => i64::try_from(parse_u64(digits)?).ok(),
    }
}

/// An unsigned integer, or `None` when `text` is not one in canonical form or out of range.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    match text {
        [b'0'] => Some(0),
        [] | [b'0', ..] => None,
        digits if digits.len() > I64_TEXT_LEN_MAX => None,
        digits => digits.iter().try_fold(0u64, |value, &digit| {
            let digit = digit.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value.checked_mul(10)?.checked_add(u64::from(digit))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the canonical form is accepted to the edges of the range, every other spelling refused.
    #[test]
    fn integers_are_strict() {
        assert_eq!(parse_i64(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(parse_i64(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_i64(b"0"), Some(0));
        for bad in [
            "",
            "-",
            "+1",
            " 1",
            "1 ",
            "01",
            "-0",
            "--1",
            "1a",
            "9223372036854775808",
        ] {
            assert_eq!(parse_i64(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse_u64(b"18446744073709551616"), None);
    }
}
