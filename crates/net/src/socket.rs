//! Opening sockets. Errors name address and kind.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::IoError;
use crate::multicast::ignore_groups;

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// Over TCP.
    Tcp(TcpListener),
    /// Over a Unix socket.
    Unix(UnixListener),
}

impl Listener {
    pub(crate) fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(on),
            Self::Unix(listener) => listener.set_nonblocking(on),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

/// Options of [`bind_udp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    /// Several sockets share the address (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// Wanted octets of the receive queue, 0: the system's default. Beyond the system's limit
    /// only with `CAP_NET_ADMIN`, else the limit.
    pub receive_buffer_bytes: usize,
    /// The same for the send queue.
    pub send_buffer_bytes: usize,
}

impl Default for UdpOptions {
    fn default() -> Self {
        let buffer_bytes = 4 << 20;
        Self {
            reuse_port: false,
            receive_buffer_bytes: buffer_bytes,
            send_buffer_bytes: buffer_bytes,
        }
    }
}

/// Opens a UDP socket. An IPv6 address means IPv6 only; datagrams may be fragmented (D-14). What
/// is sent to a multicast group does not come in here.
pub fn bind_udp(address: SocketAddr, options: &UdpOptions) -> Result<UdpSocket, IoError> {
    named(format_args!("{address}/udp"), || {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        allow_fragments(&socket, address)?;
        // A multicast link may have the same port.
        ignore_groups(&socket, address)?;
        socket.set_reuse_port(options.reuse_port)?;
        let (receive, send) = (options.receive_buffer_bytes, options.send_buffer_bytes);
        set_queues(&socket, receive, send)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    })
}

/// D-14: IP fragments what exceeds the path.
pub(crate) fn allow_fragments(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        sockopt::set_ipv6_mtu_discover(socket, sockopt::Ipv6PathMtuDiscovery::DONT)?;
    } else {
        sockopt::set_ip_mtu_discover(socket, sockopt::Ipv4PathMtuDiscovery::DONT)?;
    }
    Ok(())
}

/// Asks for queues of so many octets, 0: as they are.
pub(crate) fn set_queues(socket: &Socket, receive: usize, send: usize) -> io::Result<()> {
    if receive > 0 && sockopt::set_socket_recv_buffer_size_force(socket, receive).is_err() {
        socket.set_recv_buffer_size(receive)?;
    }
    if send > 0 && sockopt::set_socket_send_buffer_size_force(socket, send).is_err() {
        socket.set_send_buffer_size(send)?;
    }
    Ok(())
}

/// Opens a TCP listener. An IPv6 address means IPv6 only.
pub fn bind_tcp(
    address: SocketAddr,
    backlog: u32,
    reuse_port: bool,
) -> Result<TcpListener, IoError> {
    named(format_args!("{address}/tcp"), || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // A restart must not wait for old connections to time out.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse_port)?;
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(socket.into())
    })
}

/// Opens a Unix listener. A socket file that nobody listens on is replaced; any other file there
/// is an error.
pub fn bind_unix(path: &Path, backlog: u32) -> Result<UnixListener, IoError> {
    named(format_args!("unix:{}", path.display()), || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let address = SockAddr::unix(path)?;
        if let Err(error) = socket.bind(&address) {
            if error.kind() != io::ErrorKind::AddrInUse || !is_stale(path) {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(socket.into())
    })
}

/// A socket file whose listener is gone.
fn is_stale(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).err().is_some_and(refused)
}

fn named<T>(
    what: std::fmt::Arguments<'_>,
    open: impl FnOnce() -> io::Result<T>,
) -> Result<T, IoError> {
    open().map_err(|source| IoError::Bind {
        what: what.to_string(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a taken address is named, with its kind, in one line.
    #[test]
    fn taken_addresses_are_named() {
        let options = UdpOptions::default();
        let first = bind_udp("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind_udp(address, &options).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("cannot bind {address}/udp: address already in use")
        );
        let first = bind_tcp("127.0.0.1:0".parse().unwrap(), 16, false).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind_tcp(address, 16, false).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("cannot bind {address}/tcp: address already in use")
        );
    }

    /// Goal: D-14, what we send may be fragmented; several workers share a port when asked to.
    #[test]
    fn d_14_datagrams_may_be_fragmented() {
        let options = UdpOptions {
            reuse_port: true,
            ..UdpOptions::default()
        };
        let first = bind_udp("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let second = bind_udp(first.local_addr().unwrap(), &options).unwrap();
        for socket in [first, second] {
            let mode = sockopt::ip_mtu_discover(&socket).unwrap();
            assert_eq!(mode, sockopt::Ipv4PathMtuDiscovery::DONT);
        }
    }

    /// Goal: an IPv6 socket leaves the IPv4 port of the same number alone.
    #[test]
    fn ipv6_sockets_are_ipv6_only() {
        let socket = bind_udp("[::]:0".parse().unwrap(), &UdpOptions::default()).unwrap();
        assert!(sockopt::ipv6_v6only(&socket).unwrap());
        let listener = bind_tcp("[::]:0".parse().unwrap(), 16, false).unwrap();
        assert!(sockopt::ipv6_v6only(&listener).unwrap());
    }

    /// Goal: a stale socket file is replaced, a live one and a plain file are not.
    #[test]
    fn only_stale_socket_files_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scspd.sock");
        let first = bind_unix(&path, 16).unwrap();
        let error = bind_unix(&path, 16).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "cannot bind unix:{}: address already in use",
                path.display()
            )
        );
        drop(first);
        assert!(path.exists());
        bind_unix(&path, 16).unwrap();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "kept").unwrap();
        assert!(bind_unix(&plain, 16).is_err());
        assert_eq!(std::fs::read_to_string(&plain).unwrap(), "kept");
    }
}
