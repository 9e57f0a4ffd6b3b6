//! Packet sockets: addresses that no safe wrapper knows.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::MacAddress;

/// Binds a packet socket to frames of `protocol` on one interface; it receives from now on.
pub(crate) fn bind_packet(socket: impl AsFd, protocol: u16, index: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::sa_family_t::try_from(libc::AF_PACKET).expect("families are small"),
        sll_protocol: protocol.to_be(),
        sll_ifindex: interface_index(index)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = libc::socklen_t::try_from(size_of_val(&address)).expect("a small struct");
    let descriptor = socket.as_fd().as_raw_fd();
    let pointer: *const libc::sockaddr_ll = &raw const address;
    // SAFETY: `pointer` is the local `address`, alive and unshared until the call returns; the
    // kernel reads `len` octets of it, its exact size, and keeps nothing.
    let result = unsafe { libc::bind(descriptor, pointer.cast(), len) };
    answer(result)
}

/// Lets frames to a group of stations in.
pub(crate) fn join_packet(socket: impl AsFd, index: u32, group: MacAddress) -> io::Result<()> {
    let octets = group.octets();
    let mut address = [0; 8];
    address[..octets.len()].copy_from_slice(&octets);
    let request = libc::packet_mreq {
        mr_ifindex: interface_index(index)?,
        mr_type: u16::try_from(libc::PACKET_MR_MULTICAST).expect("a small constant"),
        mr_alen: 6,
        mr_address: address,
    };
    let len = libc::socklen_t::try_from(size_of_val(&request)).expect("a small struct");
    let descriptor = socket.as_fd().as_raw_fd();
    let pointer: *const libc::packet_mreq = &raw const request;
    let (level, name) = (libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP);
    // SAFETY: `pointer` is the local `request`, alive and unshared until the call returns; the
    // kernel reads `len` octets of it, its exact size, and keeps nothing.
    let result = unsafe { libc::setsockopt(descriptor, level, name, pointer.cast(), len) };
    answer(result)
}

fn interface_index(index: u32) -> io::Result<libc::c_int> {
    libc::c_int::try_from(index).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))
}

fn answer(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
