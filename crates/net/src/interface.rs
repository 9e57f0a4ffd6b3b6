//! Network interfaces by name.

use std::io;

use rustix::net::netdevice;
use socket2::{Domain, Socket, Type};

use crate::frame::{LENGTH_MAX, SNAP_LEN};
use crate::{MacAddress, raw};

/// A network interface as it is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index; another one after it was removed and made again.
    pub index: u32,
    /// Octets of the largest packet it carries, without its own header.
    pub mtu: usize,
    /// Its Ethernet address, where it is of that kind.
    pub mac: Option<MacAddress>,
}

impl Interface {
    /// Looks an interface up by name; an error of kind [`io::ErrorKind::NotFound`] or the code
    /// `ENODEV` when there is none.
    pub fn find(name: &str) -> io::Result<Self> {
        let socket = any_socket()?;
        Ok(Self {
            name: name.to_owned(),
            index: netdevice::name_to_index(&socket, name)?,
            mtu: raw::interface_mtu(&socket, name)?,
            mac: raw::interface_mac(&socket, name)?.map(MacAddress::new),
        })
    }

    /// Largest packet in an LLC/SNAP frame on this interface, octets.
    pub fn frame_packet_len_max(&self) -> usize {
        self.mtu.min(LENGTH_MAX).saturating_sub(SNAP_LEN)
    }
}

/// Name of the interface with this index.
pub(crate) fn name_of(index: u32) -> Option<String> {
    netdevice::index_to_name(any_socket().ok()?, index).ok()
}

/// Index of the interface with this name.
pub(crate) fn index_of(name: &str) -> io::Result<u32> {
    Ok(netdevice::name_to_index(any_socket()?, name)?)
}

/// Any socket will do to ask for interfaces; this kind is always there.
fn any_socket() -> io::Result<Socket> {
    Socket::new(Domain::UNIX, Type::DGRAM, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the loopback interface is found with all it has, an absent one is named as such.
    #[test]
    fn interfaces_are_found_by_name() {
        let loopback = Interface::find("lo").unwrap();
        assert_eq!(name_of(loopback.index).as_deref(), Some("lo"));
        assert_eq!(index_of("lo").unwrap(), loopback.index);
        assert!(loopback.mtu >= 1500, "{}", loopback.mtu);
        assert_eq!(loopback.mac, None, "it has no Ethernet address");
        assert_eq!(loopback.frame_packet_len_max(), 1492);
        let absent = Interface::find("no-such-one").unwrap_err();
        assert_eq!(absent.raw_os_error(), Some(libc::ENODEV));
        assert!(Interface::find("a-name-that-is-far-too-long").is_err());
        assert!(Interface::find("").is_err());
        assert_eq!(name_of(u32::MAX), None);
    }
}
