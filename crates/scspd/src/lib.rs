//! The daemon as a library; `main.rs` only parses the command line and runs it.
//!
//! | file | holds |
//! |---|---|
//! | `config.rs`, `config/` | the configuration file: reading, checking, printing |
//! | `daemon.rs` | a hub put together: sockets, cores, threads |
//! | `hub.rs`, `directory.rs`, `stats.rs` | what the threads of a hub share |
//! | `reach.rs`, `sockets.rs` | links as the cores know them, and their sockets |
//! | `steering.rs` | which socket of a UDP link gets which datagram |
//! | `watch.rs`, `watch/`, `connectivity.rs` | interfaces and routes by rtnetlink, and what they mean for links |
//! | `mesh.rs`, `message.rs` | queues between threads and what goes through them |
//! | `worker.rs` | a worker thread: ring, shard core, clients |
//! | `client.rs`, `client/` | the Redis protocol interface |
//! | `spin.rs` | looking before sleeping |
//! | `control.rs`, `inbound.rs`, `runtime.rs`, `admin.rs`, `metrics.rs`, `log.rs` | the control thread and what it serves |
//! | `bundle.rs` | several of its packets in one send |
//! | `snapshot/` | what outlives the process |
//! | `demo.rs`, `board.rs` | several hubs in one process |
//! | `embed.rs` | a hub inside another program |

#![forbid(unsafe_code)]

pub mod admin;
pub mod board;
pub mod bundle;
pub mod client;
pub mod clock;
pub mod config;
pub mod connectivity;
pub mod control;
pub mod daemon;
pub mod demo;
pub mod directory;
pub mod embed;
pub mod hub;
pub mod inbound;
pub mod log;
pub mod mesh;
pub mod message;
pub mod metrics;
pub mod reach;
pub mod runtime;
pub mod snapshot;
pub mod sockets;
pub mod spin;
pub mod stats;
pub mod steering;
pub mod throttle;
pub mod watch;
pub mod worker;
