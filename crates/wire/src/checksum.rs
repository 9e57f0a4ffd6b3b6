//! The Internet checksum (RFC 1071) over whole packets, odd lengths included (W-03).

/// Octets summed per turn of the main loop: four words into two sums, so that neither addition waits
/// for the other's carry.
const BLOCK_LEN: usize = 32;
/// Where the fixed part keeps the checksum.
pub(crate) const FIELD: core::ops::Range<usize> = 4..6;

/// Internet checksum over `bytes`, an odd length counting as if one 0x00 were appended.
///
/// Sums 64-bit words in the machine's own order, carries gathering in the upper half, and folds once
/// at the end: one's complement addition commutes with swapping octets (RFC 1071 section 2(B)).
#[inline]
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    let word = |octets: &[u8; 8]| u128::from(u64::from_ne_bytes(*octets));
    let (mut even, mut odd) = (0_u128, 0_u128);
    let (blocks, rest) = bytes.as_chunks::<BLOCK_LEN>();
    for block in blocks {
        for pair in block.as_chunks::<8>().0.as_chunks::<2>().0 {
            even += word(&pair[0]);
            odd += word(&pair[1]);
        }
    }
    let (words, tail) = rest.as_chunks::<8>();
    for octets in words {
        even += word(octets);
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    odd += word(&last);
    fold(even + odd)
}

/// Complement of the 16-bit one's complement sum of all parts of `sum`, in network order.
#[inline]
fn fold(sum: u128) -> u16 {
    const LOW: u128 = 0xFFFF_FFFF;
    let mut sum = (sum & LOW) + (sum >> 32 & LOW) + (sum >> 64);
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    let sum = u16::try_from(sum).unwrap_or(u16::MAX); // Folded above.
    !u16::from_be_bytes(sum.to_ne_bytes())
}

/// Whether `packet`, its checksum field included, sums up to a valid checksum.
#[inline]
#[must_use]
pub fn verify(packet: &[u8]) -> bool {
    checksum(packet) == 0
}

/// Sets the checksum field of `packet`; one shorter than the fixed part is left alone.
#[inline]
pub fn seal(packet: &mut [u8]) {
    if packet.len() < crate::FIXED_LEN {
        return;
    }
    packet[FIELD].fill(0);
    let sum = checksum(packet);
    packet[FIELD].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// W-03: agrees with an independent implementation for every length, odd ones included.
        #[test]
        fn w_03_checksum_agrees_with_an_independent_one(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            prop_assert_eq!(checksum(&bytes), u16::from_be_bytes(internet_checksum::checksum(&bytes)));
        }

        /// W-03: a sealed packet verifies, and no longer does with any one octet changed.
        #[test]
        fn w_03_one_changed_octet_is_seen(
            mut bytes in proptest::collection::vec(any::<u8>(), 8..120),
            at in any::<prop::sample::Index>(),
            change in 1_u8..=255,
        ) {
            bytes[0] = 1;
            seal(&mut bytes);
            prop_assert!(verify(&bytes));
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            prop_assert!(!verify(&bytes));
        }
    }

    /// W-03: the largest packets, all ones, keep every carry.
    #[test]
    fn w_03_carries_of_the_largest_packet() {
        for len in [65_504, 65_534, 65_535] {
            let bytes = vec![0xFF; len];
            assert_eq!(
                checksum(&bytes),
                u16::from_be_bytes(internet_checksum::checksum(&bytes))
            );
        }
    }

    /// W-03: an odd length counts as if one 0x00 were appended.
    #[test]
    fn w_03_checksum_of_odd_length() {
        assert_eq!(
            checksum(&[0x12, 0x34, 0x56]),
            checksum(&[0x12, 0x34, 0x56, 0x00])
        );
        assert_ne!(
            checksum(&[0x12, 0x34, 0x56]),
            checksum(&[0x12, 0x34, 0x00, 0x56])
        );
    }

    /// W-03: known value of RFC 1071 section 3.
    #[test]
    fn w_03_example_of_rfc_1071() {
        assert_eq!(
            checksum(&[0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7]),
            !0xDDF2
        );
    }
}
