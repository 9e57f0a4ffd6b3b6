//! SCSP's protocol machines (RFC 2334) without I/O.
//!
//! Two kinds of core hold all protocol behaviour. [`Control`] owns, per directly connected server
//! (DCS), the hello and cache alignment machines and their timers; a [`Shard`] owns the entries
//! whose key hashes to it, with their expiry, retransmit queues and request lists. Cores never
//! touch a socket, a thread, a clock or a random source: octets, messages and the time come in as
//! arguments, packets, messages and the next deadline are polled out. The daemon gives each core a
//! thread, the simulator a slot in one seeded scheduler; both run the same code.
//!
//! | file | holds | RFC 2334 |
//! |---|---|---|
//! | `hello.rs` | hello machine (HFSM): table, timers | 2.1, B.2.5 |
//! | `alignment.rs`, `alignment/` | cache alignment machine (CAFSM): judgement of CA messages, exchange state, numbers | 2.2, B.2.1 |
//! | `control.rs`, `control/` | the `Control` core: packets and messages in, hello and CA packets out | 2.1, 2.2 |
//! | `control/aside.rs`, `shard/batches.rs` | what waits to be worth a wake | |
//! | `control/hellos.rs` | who says Hello to whom: links, families | 2.1, B.2.5 |
//! | `shard/group.rs`, `control/mesh.rs` | multipoint links: records sent once, meshes | 2.3 |
//! | `shard.rs`, `shard/` | the `Shard` core: CSU Requests, Replies and CSUS, client operations | 2.2.3, 2.3, 2.4 |
//! | `message.rs` | what cores say to each other | |
//! | `doorkeeper.rs` | what a packet has to pass in either core | B.1, B.3.1 |
//! | `auth.rs` | which key signs and which one verifies | B.3.1 |
//! | `setup.rs` | configuration of the cores | |
//! | `snapshot.rs` | what outlives a run | |

#![forbid(unsafe_code)]

pub mod alignment;
pub mod auth;
pub mod control;
mod doorkeeper;
pub mod hello;
pub mod message;
pub mod setup;
pub mod shard;
pub mod snapshot;

pub use auth::{AuthFailure, AuthKey, AuthMode, AuthSetup, Period};
pub use control::{Control, Notice, Outgoing, PeerStatus};
pub use message::{CoreId, ToControl, ToShard};
pub use scsp_cache::Time;
pub use setup::{
    DcsIndex, DcsSetup, Destination, InstanceIndex, InstanceSetup, LinkIndex, LinkSetup, Setup,
    ShardIndex,
};
pub use shard::{Shard, Transmit};

/// The moment at which an input is handled: one reading per batch, given by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time; all timers use it.
    pub time: Time,
    /// Unix time in milliseconds; only clocks that leave this server use it (K-05, CA-02).
    pub unix_ms: u64,
}
