//! Batched datagram and stream I/O for a thread-per-core daemon.
//!
//! [`Io`] is one worker's I/O: it is made on the worker's thread and never leaves it. Two backends
//! stand behind it: `io_uring` (multishot receive into provided-buffer rings, one enter per turn)
//! and `poll` (epoll, `recvmmsg`, `sendmmsg`). [`select`] probes which of them the kernel allows.
//!
//! ```text
//!   turn(wait)     submit what was queued, wait for something to happen or the time to pass
//!   next_event()   hand out what happened, one event at a time
//!
//!   receive buffer   Kernel ──completion──► App (lent by one event) ──next_event──► Kernel
//!   send slot        Free ──send_slot──► App ──send──► Kernel ──completion──► Free
//! ```
//!
//! Datagrams are read in place in the receive buffer and written in place into the send slot. They
//! come and go on links: UDP sockets, UDP with a multicast group, or LLC/SNAP frames on an Ethernet
//! interface, whose headers the application never sees. A link's socket can be replaced while all
//! goes on, for interfaces that come and go.
//! The crate knows datagrams and streams; it knows nothing about the packets inside. Only the
//! module `raw` has `unsafe` code: it owns every byte that the kernel may touch.

mod address;
mod config;
mod connection;
mod counters;
mod endpoint;
mod error;
mod ethernet;
mod event;
mod frame;
mod interface;
mod io;
mod ledger;
mod lent;
mod link;
mod link_receiver;
mod link_socket;
mod multicast;
mod poll;
#[allow(unsafe_code)]
mod raw;
mod select;
mod slab;
mod socket;
mod steering;
mod token;
mod uring;
mod waker;

pub use crate::config::{DATAGRAM_LEN_MAX, IoConfig, SEGMENTS_MAX};
pub use crate::counters::Counters;
pub use crate::endpoint::{Endpoint, MacAddress};
pub use crate::error::IoError;
pub use crate::ethernet::{EthernetOptions, bind_ethernet};
pub use crate::event::{
    Buffer, ConnId, Event, LinkId, ListenerId, Peer, Segments, SendSlot, TurnStats, segments,
};
pub use crate::interface::Interface;
pub use crate::io::Io;
pub use crate::link_receiver::{Incoming, LinkReceiver};
pub use crate::link_socket::{LinkSender, LinkSocket};
pub use crate::multicast::bind_multicast;
pub use crate::select::{Backend, BackendChoice, Selected, select};
pub use crate::socket::{Listener, UdpOptions, bind_tcp, bind_udp, bind_unix};
pub use crate::steering::{Instruction, STEERING_LEN_MAX};
pub use crate::waker::Waker;

#[cfg(test)]
mod tests;
