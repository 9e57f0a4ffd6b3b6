//! What `ioctl` tells of a network interface and no safe wrapper asks for.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

/// Room for the interface's name and the zero behind it.
const NAME_LEN: usize = libc::IFNAMSIZ;

/// Where the value follows the name.
const VALUE: usize = NAME_LEN;

/// `struct ifreq`: a name, then a value that depends on the request, 24 octets at most.
#[repr(C, align(8))]
struct Request([u8; NAME_LEN + 24]);

/// Asks for one value of an interface.
fn ask(socket: impl AsFd, name: &str, request: libc::c_ulong) -> io::Result<Request> {
    let mut asked = Request([0; NAME_LEN + 24]);
    let is_name = name.len() < NAME_LEN && !name.contains('\0');
    if !is_name {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    asked.0[..name.len()].copy_from_slice(name.as_bytes());
    let descriptor = socket.as_fd().as_raw_fd();
    let pointer = &raw mut asked;
    // SAFETY: `pointer` is the local `asked`, unshared until the call returns, of the size and
    // alignment of `struct ifreq`. The callers below pass only requests that read the name and
    // write a value within the struct.
    let result = unsafe { libc::ioctl(descriptor, request as _, pointer) };
    if result == 0 {
        Ok(asked)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn array<const N: usize>(asked: &Request, at: usize) -> [u8; N] {
    let bytes = asked.0[at..].first_chunk();
    *bytes.expect("values are shorter than the struct")
}

/// Octets of the largest packet.
pub(crate) fn interface_mtu(socket: impl AsFd, name: &str) -> io::Result<usize> {
    let asked = ask(socket, name, libc::SIOCGIFMTU)?;
    Ok(usize::try_from(i32::from_ne_bytes(array(&asked, VALUE))).unwrap_or(0))
}

/// The Ethernet address, `None` on an interface of another kind.
pub(crate) fn interface_mac(socket: impl AsFd, name: &str) -> io::Result<Option<[u8; 6]>> {
    let asked = ask(socket, name, libc::SIOCGIFHWADDR)?;
    let kind = u16::from_ne_bytes(array(&asked, VALUE));
    Ok((kind == libc::ARPHRD_ETHER).then(|| array(&asked, VALUE + 2)))
}

/// The first IPv4 address; the code `EADDRNOTAVAIL` when there is none.
pub(crate) fn interface_ipv4(socket: impl AsFd, name: &str) -> io::Result<Ipv4Addr> {
    let asked = ask(socket, name, libc::SIOCGIFADDR)?;
    Ok(Ipv4Addr::from(array::<4>(&asked, VALUE + 4)))
}
