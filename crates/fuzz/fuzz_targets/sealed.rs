//! Random octets never have a right checksum.

use scsp_wire::{FIXED_LEN, VERSION, checksum};

/// The octets with version, packet size and checksum made right, so that mutations reach what is
/// behind these; `None`: too short.
pub fn sealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let size = u16::try_from(bytes.len()).ok()?;
    if bytes.len() < FIXED_LEN {
        return None;
    }
    let mut packet = bytes.to_vec();
    packet[0] = VERSION;
    packet[2..4].copy_from_slice(&size.to_be_bytes());
    checksum::seal(&mut packet);
    Some(packet)
}
