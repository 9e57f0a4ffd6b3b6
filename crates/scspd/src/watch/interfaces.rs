//! The interfaces of this machine at one moment.

use std::net::IpAddr;

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number, never used twice while the system runs.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Octets of the largest packet it carries.
    pub mtu: u32,
    /// Up, with carrier.
    pub is_up: bool,
    /// Addresses that can be used.
    pub addresses: Vec<IpAddr>,
}

/// All interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces(pub Vec<Interface>);

impl Interfaces {
    /// The interface of that name or, for a number, of that index.
    pub fn named(&self, zone: &str) -> Option<&Interface> {
        let by_name = self.0.iter().find(|it| it.name == zone);
        by_name.or_else(|| self.at(zone.parse().ok()?))
    }

    /// The interface of that index.
    pub fn at(&self, index: u32) -> Option<&Interface> {
        self.0.iter().find(|it| it.index == index)
    }

    /// Notes an address; of an interface that has just gone, none.
    pub(super) fn add_address(&mut self, index: u32, ip: IpAddr) {
        if let Some(interface) = self.0.iter_mut().find(|it| it.index == index) {
            interface.addresses.push(ip);
        }
    }
}
