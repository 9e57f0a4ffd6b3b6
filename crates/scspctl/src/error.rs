//! What a command may end with, and the exit status of each ending. Bad usage ends in the
//! command line parser, with status 2.

use std::io;

/// Exit status of a command that was carried out, or of a healthy hub.
pub(crate) const DONE: u8 = 0;
/// Exit status of an operation that failed, or of a degraded hub.
pub(crate) const FAILED: u8 = 1;
/// Exit status when the hub cannot be reached or stops answering.
pub(crate) const UNREACHABLE: u8 = 3;

/// How a command ended that printed an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Carried out, or healthy.
    Done,
    /// The answer is a "no": nothing deleted, hub degraded.
    Negative,
}

impl Outcome {
    /// Exit status of this outcome.
    pub(crate) const fn status(self) -> u8 {
        match self {
            Self::Done => DONE,
            Self::Negative => FAILED,
        }
    }
}

/// Why a command ended without an answer. Prints as one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No connection, or one that broke or fell silent.
    #[error("cannot reach {target}: {reason}")]
    Unreachable {
        /// Address as the user gave it.
        target: String,
        /// Cause, without the system's error number.
        reason: String,
    },
    /// Error reply of the hub (`LOADING …`, `ERR …`), as it came.
    #[error("{0}")]
    Refused(String),
    /// A reply this program does not understand: not a hub, or another version of one.
    #[error("{target} answered {command} with something else than {expected}")]
    BadReply {
        /// Address as the user gave it.
        target: String,
        /// Command that was sent.
        command: String,
        /// Shape that the client interface gives the reply.
        expected: &'static str,
    },
    /// The key is not there, or no longer.
    #[error("no such key: {0}")]
    NoSuchKey(String),
    /// A group name that the hub does not have.
    #[error("no such group: {name} (the hub has: {known})")]
    NoSuchGroup {
        /// Name that was asked for.
        name: String,
        /// Names the hub has, comma separated.
        known: String,
    },
    /// Key-value commands need a group of that protocol.
    #[error("group {name} speaks {protocol}, this command needs a kv group")]
    NotKv {
        /// Group that was asked for.
        name: String,
        /// Its protocol.
        protocol: String,
    },
    /// The hub has no group for key-value commands.
    #[error("the hub has no kv group")]
    NoKvGroup,
    /// No neighbour of that id.
    #[error("no peer with id {0}")]
    NoSuchPeer(String),
    /// Standard output went away or is full.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Error {
    /// Exit status of this error.
    pub(crate) const fn status(&self) -> u8 {
        match self {
            Self::Unreachable { .. } => UNREACHABLE,
            Self::Refused(_)
            | Self::BadReply { .. }
            | Self::NoSuchKey(_)
            | Self::NoSuchGroup { .. }
            | Self::NotKv { .. }
            | Self::NoKvGroup
            | Self::NoSuchPeer(_)
            | Self::Output(_) => FAILED,
        }
    }
}
