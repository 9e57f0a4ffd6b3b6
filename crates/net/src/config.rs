//! Named limits of one worker's I/O.

use crate::IoError;

/// Datagrams in one send with a segment size: the smallest limit of any kernel that has
/// `UDP_SEGMENT`.
pub const SEGMENTS_MAX: usize = 64;

/// Longest UDP payload over IPv4, octets.
pub const DATAGRAM_LEN_MAX: usize = 65_507;

/// Entries of a provided-buffer ring, kernel limit.
const BUFFER_RING_LEN_MAX: u16 = 32_768;

/// Limits of one [`Io`](crate::Io). Every queue and table inside has its size from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoConfig {
    /// Receive buffers for datagrams, a power of two.
    pub receive_buffers: u16,
    /// Payload octets of one receive buffer; with `gro` several datagrams share one. All buffers
    /// together should fit the processor's second cache: what the kernel copies into them is then
    /// still there when it is read.
    pub receive_buffer_len_bytes: usize,
    /// Datagrams (or segmented sends) that may be under way at once.
    pub send_slots: u16,
    /// Octets of one send slot.
    pub send_slot_len_bytes: usize,
    /// Receive buffers shared by all connections, a power of two.
    pub stream_buffers: u16,
    /// Octets of one such buffer.
    pub stream_buffer_len_bytes: usize,
    /// Output buffers of connections that grew beyond this are freed once written.
    pub stream_keep_bytes: usize,
    /// Connections open at once; further ones are closed as soon as they are accepted.
    pub connections_max: u32,
    /// Links.
    pub links_max: u16,
    /// Listening sockets.
    pub listeners_max: u16,
    /// Ask for receive coalescing (`UDP_GRO`); off by itself where the kernel refuses it.
    pub gro: bool,
}

impl Default for IoConfig {
    fn default() -> Self {
        Self {
            receive_buffers: 16,
            receive_buffer_len_bytes: 65_536,
            send_slots: 32,
            send_slot_len_bytes: 65_536,
            stream_buffers: 64,
            stream_buffer_len_bytes: 16_384,
            stream_keep_bytes: 262_144,
            connections_max: 10_000,
            links_max: 16,
            listeners_max: 16,
            gro: true,
        }
    }
}

impl IoConfig {
    /// Checks what the backends rely on.
    pub(crate) fn check(&self) -> Result<(), IoError> {
        let refuse = |field, expected| Err(IoError::Limit { field, expected });
        for (field, count) in [
            ("receive_buffers", self.receive_buffers),
            ("stream_buffers", self.stream_buffers),
        ] {
            if !count.is_power_of_two() || count > BUFFER_RING_LEN_MAX {
                return refuse(field, "a power of two up to 32768");
            }
        }
        for (field, len) in [
            ("receive_buffer_len_bytes", self.receive_buffer_len_bytes),
            ("send_slot_len_bytes", self.send_slot_len_bytes),
            ("stream_buffer_len_bytes", self.stream_buffer_len_bytes),
        ] {
            if !(512..=1 << 20).contains(&len) {
                return refuse(field, "512 octets to 1 MiB");
            }
        }
        if self.send_slots == 0 || self.send_slots > BUFFER_RING_LEN_MAX {
            return refuse("send_slots", "1 to 32768");
        }
        if self.links_max > 1024 || self.listeners_max > 1024 {
            return refuse("links_max and listeners_max", "at most 1024");
        }
        if self.connections_max > 1 << 20 {
            return refuse("connections_max", "at most 1048576");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the defaults are valid and each broken limit is named.
    #[test]
    fn limits_are_checked_by_name() {
        assert!(IoConfig::default().check().is_ok());
        let named = |config: IoConfig| config.check().unwrap_err().to_string();
        let odd = IoConfig {
            receive_buffers: 100,
            ..IoConfig::default()
        };
        assert!(named(odd).contains("receive_buffers"));
        let small = IoConfig {
            stream_buffer_len_bytes: 0,
            ..IoConfig::default()
        };
        assert!(named(small).contains("stream_buffer_len_bytes"));
        let none = IoConfig {
            send_slots: 0,
            ..IoConfig::default()
        };
        assert!(named(none).contains("send_slots"));
    }
}
