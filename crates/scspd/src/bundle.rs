//! Packets of the control thread that go as one send: those for one destination that come one
//! after the other, of one type and one length, but for the last, which may be shorter.

use scsp_engine::shard::{DATAGRAM_LEN_MAX, SEGMENTS_MAX};
use scsp_net::Endpoint;

/// Position of a link in the configuration, and the address on it.
pub type Target = (usize, Endpoint);

/// Packets that wait for more of their kind.
#[derive(Debug, Default)]
pub struct Bundle {
    to: Option<Target>,
    packets: Vec<u8>,
    /// Octets of the first packet.
    segment: usize,
    /// No packet fits behind a shorter one.
    closed: bool,
}

impl Bundle {
    /// Takes a packet in behind the others; `false` when those have to be sent before it.
    pub fn push(&mut self, to: Target, packet: &[u8]) -> bool {
        let is_empty = self.packets.is_empty();
        if is_empty {
            self.to = Some(to);
            self.segment = packet.len();
        }
        let fits = is_empty
            || !self.closed
                && self.to == Some(to)
                && self.code() == code(packet)
                && packet.len() <= self.segment
                && self.count() < SEGMENTS_MAX
                && self.packets.len() + packet.len() <= DATAGRAM_LEN_MAX;
        if fits {
            self.packets.extend_from_slice(packet);
            self.closed = packet.len() < self.segment;
        }
        fits
    }

    /// Where the packets go, back to back, and the octets of each but the last.
    pub fn packets(&self) -> Option<(Target, &[u8], usize)> {
        let to = self.to.filter(|_| !self.packets.is_empty())?;
        Some((to, &self.packets, self.segment))
    }

    /// Message type of the packets.
    pub fn code(&self) -> u8 {
        code(&self.packets)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.packets.len().div_ceil(self.segment.max(1))
    }

    /// They are sent, or given up.
    pub fn clear(&mut self) {
        self.packets.clear();
        self.closed = false;
    }
}

/// Message type of a packet.
fn code(packet: &[u8]) -> u8 {
    packet.get(1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(link: usize) -> Target {
        (link, Endpoint::Ip(([127, 0, 0, 1], 2334).into()))
    }

    fn packet(code: u8, len: usize) -> Vec<u8> {
        let mut packet = vec![0; len];
        packet[1] = code;
        packet
    }

    /// Goal: packets of one length and one shorter one go together; longer ones, others behind a
    /// shorter one, of another type or for somebody else do not.
    #[test]
    fn packets_of_one_length_go_together() {
        let mut bundle = Bundle::default();
        assert!(bundle.packets().is_none());
        assert!(bundle.push(target(0), &packet(1, 100)));
        assert!(!bundle.push(target(1), &packet(1, 100)), "another receiver");
        assert!(!bundle.push(target(0), &packet(5, 100)), "another type");
        assert!(!bundle.push(target(0), &packet(1, 101)), "longer");
        assert!(bundle.push(target(0), &packet(1, 100)));
        assert!(bundle.push(target(0), &packet(1, 40)));
        assert!(
            !bundle.push(target(0), &packet(1, 40)),
            "behind a shorter one"
        );
        let (to, packets, segment) = bundle.packets().unwrap();
        assert_eq!((to, packets.len(), segment), (target(0), 240, 100));
        assert_eq!((bundle.count(), bundle.code()), (3, 1));
        bundle.clear();
        assert!(bundle.packets().is_none());
        assert!(bundle.push(target(1), &packet(5, 300)));
    }

    /// Goal: no more go together than the kernel cuts, in number and in octets.
    #[test]
    fn bundles_are_limited() {
        let fill = |len| {
            let mut bundle = Bundle::default();
            while bundle.push(target(0), &packet(1, len)) {}
            bundle.count()
        };
        assert_eq!(fill(10), SEGMENTS_MAX);
        assert_eq!(fill(1472), 44);
        assert_eq!(fill(DATAGRAM_LEN_MAX), 1);
    }
}
