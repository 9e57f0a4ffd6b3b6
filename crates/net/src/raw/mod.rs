//! The only `unsafe` code: every octet the kernel may touch, and every call that shows it to the
//! kernel.
//!
//! Functions take ids, lengths and borrowed descriptors, never entries or pointers, so they are
//! sound for any caller: ranges are asserted, and a [`Ledger`](crate::ledger::Ledger) says whether
//! a slot is ours or the kernel's at the moment.

mod buffers;
mod interface;
mod mmsg;
mod option;
mod packet;
mod region;
mod ring;
mod slots;
mod steering;

pub(crate) use self::interface::{interface_ipv4, interface_mac, interface_mtu};
pub(crate) use self::mmsg::{MMSG_LEN_MAX, Piece, Receiver, Sender, send_segments};
pub(crate) use self::option::set_option;
pub(crate) use self::packet::{bind_packet, join_packet};
pub(crate) use self::ring::{Completion, Datagram, Missing, Ring};
pub(crate) use self::steering::attach_steering;
