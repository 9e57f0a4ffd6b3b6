//! What both backends do with accepted sockets and with listeners that cannot accept.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, Shutdown, sockopt};

use crate::{Listener, Peer};

/// Pause after an accept failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Life of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// What was appended is written, then it closes.
    Closing,
    /// Shut down; gone as soon as no operation is under way.
    Ending,
}

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) listener: Listener,
    pub(crate) retry_at: Option<Instant>,
}

impl Gate {
    pub(crate) fn new(listener: Listener) -> Self {
        Self {
            listener,
            retry_at: None,
        }
    }

    pub(crate) fn pause(&mut self) {
        self.retry_at = Some(Instant::now() + ACCEPT_PAUSE);
    }
}

/// Shortens `wait` to the next retry of a paused listener.
pub(crate) fn wait_for_gates(gates: &[Gate], wait: Option<Duration>) -> Option<Duration> {
    let Some(retry_at) = gates.iter().filter_map(|gate| gate.retry_at).min() else {
        return wait;
    };
    let until = retry_at.saturating_duration_since(Instant::now());
    Some(wait.map_or(until, |wait| wait.min(until)))
}

/// A listener whose pause is over, by index; its pause is cleared.
pub(crate) fn resumed_gate(gates: &mut [Gate]) -> Option<u16> {
    let (index, gate) = (0_u16..).zip(gates).find(|(_, gate)| {
        gate.retry_at
            .is_some_and(|retry_at| retry_at <= Instant::now())
    })?;
    gate.retry_at = None;
    Some(index)
}

/// How long a connection may be silent before its peer is asked whether it is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(5);

/// Sets an accepted socket up and tells who is at the other end.
pub(crate) fn greet(socket: impl AsFd) -> Peer {
    let domain = sockopt::socket_domain(&socket);
    if !matches!(domain, Ok(AddressFamily::INET | AddressFamily::INET6)) {
        return Peer::Unix;
    }
    // Answers go out at once. Refused only for a connection that is already gone.
    let _ = sockopt::set_tcp_nodelay(&socket, true);
    // A peer that vanished without a word is noticed in the end.
    let _ = sockopt::set_socket_keepalive(&socket, true);
    let _ = sockopt::set_tcp_keepidle(&socket, KEEPALIVE_IDLE);
    let name = rustix::net::getpeername(&socket).ok().flatten();
    let address = name.and_then(|name| name.try_into().ok());
    // Reset before we asked: the address is lost, the reset follows.
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    Peer::Tcp(address.unwrap_or(unknown))
}

/// Ends both directions; refused only for a connection that is already gone.
pub(crate) fn shut_down(socket: impl AsFd) {
    let _ = rustix::net::shutdown(socket, Shutdown::Both);
}

/// Empties an output buffer for its next use; one that grew beyond `keep` octets is freed.
pub(crate) fn emptied(mut bytes: Vec<u8>, keep: usize) -> Vec<u8> {
    bytes.clear();
    if bytes.capacity() > keep {
        Vec::new()
    } else {
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Goal: a paused listener shortens the wait and comes back once, not before its time.
    #[test]
    fn paused_listeners_come_back_once() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let mut gates = [Gate::new(listener.into())];
        assert_eq!(wait_for_gates(&gates, None), None);
        gates[0].pause();
        assert!(wait_for_gates(&gates, None).unwrap() <= ACCEPT_PAUSE);
        assert_eq!(
            wait_for_gates(&gates, Some(Duration::ZERO)),
            Some(Duration::ZERO)
        );
        gates[0].retry_at = Some(Instant::now());
        assert_eq!(resumed_gate(&mut gates), Some(0));
        assert_eq!(resumed_gate(&mut gates), None);
    }

    /// Goal: a small buffer keeps its memory, a large one gives it back.
    #[test]
    fn large_output_buffers_are_freed() {
        assert!(emptied(Vec::with_capacity(100), 100).capacity() >= 100);
        assert_eq!(emptied(vec![1; 1000], 100).capacity(), 0);
    }
}
