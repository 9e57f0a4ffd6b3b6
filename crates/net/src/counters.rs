//! What one worker's I/O counts.

/// Counters of one [`Io`](crate::Io), all monotonic since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// System calls that submit or wait: `io_uring_enter`, or `epoll_wait` of the poll backend.
    pub enters: u64,
    /// Completions (`io_uring`) or readiness reports (poll).
    pub completions: u64,
    /// Datagrams received, coalesced ones counted one by one.
    pub datagrams_received: u64,
    /// Payload octets of those.
    pub bytes_received: u64,
    /// Datagrams handed to the network, segments counted one by one.
    pub datagrams_sent: u64,
    /// Payload octets of those.
    pub bytes_sent: u64,
    /// Sends that the kernel cut into several datagrams (`UDP_SEGMENT`).
    pub segmented_sends: u64,
    /// Sends that it refused to cut, whose datagrams went one by one instead.
    pub refused_segments: u64,
    /// Sends the kernel refused, each also reported by an event.
    pub send_failures: u64,
    /// Receive buffers that came with several datagrams in them (`UDP_GRO`).
    pub coalesced_receives: u64,
    /// Errors reported by a socket on receive (a refused datagram's ICMP, for one).
    pub receive_failures: u64,
    /// Datagrams longer than a receive buffer or from no usable address, dropped.
    pub truncated: u64,
    /// Times the datagram buffers had run out when the kernel wanted one.
    pub receive_buffers_exhausted: u64,
    /// The same for the buffers of connections; nothing is lost, the peer waits.
    pub stream_buffers_exhausted: u64,
    /// Turns that found the completion queue overflown, plus completions lost by it.
    pub completion_overflow: u64,
    /// Datagrams the kernel dropped because a socket's queue was full, all sockets (`SO_RXQ_OVFL`).
    pub receive_queue_overflow: u64,
    /// Multishot operations started again after the kernel had ended them.
    pub rearmed: u64,
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Connections closed at once because the limit was reached.
    pub connections_refused: u64,
    /// Accepts that failed (descriptors or memory ran out).
    pub accept_failures: u64,
    /// Octets read from connections.
    pub stream_bytes_received: u64,
    /// Octets written to connections.
    pub stream_bytes_sent: u64,
    /// Wake-ups received.
    pub wakes: u64,
}

impl Counters {
    /// Counts what one receive buffer holds; gives the segment size when it is several datagrams.
    pub(crate) fn count_received(&mut self, len: usize, segment: Option<usize>) -> Option<usize> {
        let segment = segment.filter(|&segment| segment > 0 && segment < len);
        self.datagrams_received += segment.map_or(1, |segment| len.div_ceil(segment) as u64);
        self.bytes_received += len as u64;
        self.coalesced_receives += u64::from(segment.is_some());
        segment
    }
}
