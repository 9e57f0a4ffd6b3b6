//! Integer socket options that no safe wrapper offers.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

const VALUE_LEN: libc::socklen_t = 4;

/// `setsockopt` with an integer.
pub(crate) fn set_option(
    socket: impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let descriptor = socket.as_fd().as_raw_fd();
    let pointer: *const libc::c_int = &raw const value;
    // SAFETY: `pointer` is the local `value`, alive and unshared until the call returns; the kernel
    // reads `VALUE_LEN` octets of it, its exact size, and keeps nothing.
    let result = unsafe { libc::setsockopt(descriptor, level, name, pointer.cast(), VALUE_LEN) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a set option is in force, an unknown one is an error.
    #[test]
    fn options_are_set_or_refused() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        set_option(&socket, libc::SOL_SOCKET, libc::SO_BROADCAST, 1).unwrap();
        assert!(socket.broadcast().unwrap());
        assert!(set_option(&socket, libc::SOL_SOCKET, -1, 1).is_err());
    }
}
