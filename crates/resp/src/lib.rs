//! Redis protocol, server side: codec and command table.
//!
//! [`decode`] turns a connection's receive buffer into borrowed commands, [`command`] names them and
//! checks their arity, [`options`] gives their arguments types, [`encode`] writes replies in RESP2 or
//! RESP3, [`glob`] matches keys. Nothing here knows of SCSP, sockets or time: octets in, octets out.

#![forbid(unsafe_code)]

pub mod args;
pub mod command;
pub mod decode;
pub mod encode;
pub mod error;
pub mod glob;
pub mod number;
pub mod options;

pub use args::Args;
pub use command::{Command, CommandId};
pub use decode::{Decoded, Decoder, Limits, ProtocolError};
pub use encode::{Protocol, Writer};
pub use error::CommandError;
