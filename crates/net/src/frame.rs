//! IEEE 802.3 frames with LLC/SNAP, the encapsulation of RFC 2334.
//!
//! ```text
//!   0            6            12       14        17          20        22
//!   destination  source       length   AA AA 03  00 00 5E    00 05     packet, padding
//!   └──────────── Ethernet ──────────┘ └─ LLC ─┘ └─ OUI ──┘ └ protocol ┘
//! ```
//!
//! The length counts LLC, SNAP and packet. Padding to the minimum frame is not counted.

use std::ops::Range;

use crate::MacAddress;

/// Octets before the packet.
pub(crate) const HEADER_LEN: usize = 22;

/// Octets of the header that the length counts.
pub(crate) const SNAP_LEN: usize = 8;

/// Shortest frame, without its check sequence.
pub(crate) const FRAME_LEN_MIN: usize = 60;

/// Largest length; above it the field is a protocol number.
pub(crate) const LENGTH_MAX: usize = 1500;

/// Largest packet.
pub(crate) const PACKET_LEN_MAX: usize = LENGTH_MAX - SNAP_LEN;

/// Unnumbered information between SNAP stations, IANA's OUI, SCSP.
pub(crate) const LLC_SNAP: [u8; SNAP_LEN] = [0xaa, 0xaa, 0x03, 0x00, 0x00, 0x5e, 0x00, 0x05];

/// Writes the header before the packet of `len` octets that begins `HEADER_LEN` octets into
/// `frame`, and the padding behind it. Gives the frame's length, `None` when it would be too long.
pub(crate) fn seal(
    frame: &mut [u8],
    from: MacAddress,
    to: MacAddress,
    len: usize,
) -> Option<usize> {
    let length = u16::try_from(SNAP_LEN + len).ok()?;
    let end = HEADER_LEN + len;
    let padded = end.max(FRAME_LEN_MIN);
    if usize::from(length) > LENGTH_MAX || padded > frame.len() {
        return None;
    }
    frame[..6].copy_from_slice(&to.octets());
    frame[6..12].copy_from_slice(&from.octets());
    frame[12..14].copy_from_slice(&length.to_be_bytes());
    frame[14..HEADER_LEN].copy_from_slice(&LLC_SNAP);
    frame[end..padded].fill(0);
    Some(padded)
}

/// Where the packet lies in a received frame; `None` when the frame is cut short or not ours.
pub(crate) fn open(frame: &[u8]) -> Option<Range<usize>> {
    let header = frame.get(..HEADER_LEN)?;
    let length = usize::from(u16::from_be_bytes([header[12], header[13]]));
    let end = length.checked_add(HEADER_LEN - SNAP_LEN)?;
    let is_ours = header[14..] == LLC_SNAP && length <= LENGTH_MAX;
    (is_ours && length >= SNAP_LEN && end <= frame.len()).then_some(HEADER_LEN..end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FROM: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 1]);
    const TO: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 2]);

    /// Goal: the octets of a short frame, one by one: header, packet, zeros up to 60.
    #[test]
    fn short_packets_are_padded() {
        let mut frame = [0xff; 100];
        frame[HEADER_LEN..HEADER_LEN + 3].copy_from_slice(b"abc");
        let len = seal(&mut frame, FROM, TO, 3).unwrap();
        assert_eq!(len, FRAME_LEN_MIN);
        let head = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0, 11];
        assert_eq!(frame[..14], head);
        assert_eq!(frame[14..22], [0xaa, 0xaa, 3, 0, 0, 0x5e, 0, 5]);
        assert_eq!(&frame[22..25], b"abc");
        assert_eq!(frame[25..60], [0; 35]);
        assert_eq!(
            frame[60..],
            [0xff; 40],
            "nothing behind the frame is touched"
        );
        assert_eq!(open(&frame[..len]), Some(22..25));
    }

    /// Goal: the largest packet fits, one octet more does not, whatever room there is.
    #[test]
    fn the_length_field_is_the_limit() {
        let mut frame = vec![0; 4000];
        assert_eq!(seal(&mut frame, FROM, TO, 1492), Some(1514));
        assert_eq!(open(&frame[..1514]), Some(22..1514));
        assert_eq!(seal(&mut frame, FROM, TO, 1493), None);
        assert_eq!(seal(&mut frame, FROM, TO, usize::from(u16::MAX)), None);
        assert_eq!(seal(&mut frame[..1513], FROM, TO, 1492), None);
    }

    /// Goal: frames that are cut short, of another protocol or with a type field are not ours.
    #[test]
    fn other_frames_are_refused() {
        let mut frame = vec![7; 122];
        let len = seal(&mut frame, FROM, TO, 100).unwrap();
        assert!(open(&frame[..len]).is_some());
        assert_eq!(open(&frame[..len - 1]), None);
        for at in 12..HEADER_LEN {
            let mut other = frame.clone();
            other[at] ^= 0x80;
            assert_eq!(open(&other), None, "octet {at}");
        }
    }

    proptest! {
        /// Goal: what is sealed opens to the same packet; no octets make `open` panic.
        #[test]
        fn frames_open_to_what_was_sealed(packet in prop::collection::vec(any::<u8>(), 0..1600)) {
            let mut frame = vec![0; 1700];
            frame[HEADER_LEN..HEADER_LEN + packet.len()].copy_from_slice(&packet);
            match seal(&mut frame, FROM, TO, packet.len()) {
                Some(len) => {
                    prop_assert!(len >= FRAME_LEN_MIN);
                    let range = open(&frame[..len]).unwrap();
                    prop_assert_eq!(&frame[range], &packet[..]);
                }
                None => prop_assert!(packet.len() > LENGTH_MAX - SNAP_LEN),
            }
            let range = open(&packet);
            prop_assert!(range.is_none_or(|range| range.end <= packet.len()));
        }
    }
}
