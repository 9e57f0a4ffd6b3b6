//! Messages between the threads of a hub.

use scsp_engine::{ToControl, ToShard};
use scsp_net::{ConnId, LinkSocket};

use crate::embed::Batch;
use crate::snapshot::Slice;

/// Identifies a client request that another thread works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Worker that serves the client.
    pub worker: u16,
    /// The client's connection on that worker.
    pub conn: ConnId,
    /// Number of the request on that connection.
    pub request: u64,
}

/// A client's request, or its part, for the thread that owns what it concerns.
#[derive(Debug)]
pub struct Execute {
    /// Where the answer belongs.
    pub ticket: Ticket,
    /// What to do.
    pub work: crate::client::Work,
}

/// The answer to an [`Execute`].
#[derive(Debug)]
pub struct Executed {
    /// Where it belongs.
    pub ticket: Ticket,
    /// What came of it.
    pub answer: crate::client::Answer,
}

/// Any message of a hub.
#[derive(Debug)]
pub enum Message {
    /// For the shard core of the receiving worker.
    Shard(ToShard),
    /// For the control core.
    Control(ToControl),
    /// A client's request.
    Execute(Box<Execute>),
    /// Its answer.
    Executed(Box<Executed>),
    /// Records of the program that the hub is embedded in.
    Originate(Box<Batch>),
    /// The same, acknowledged by every neighbour.
    Originated(Box<Batch>),
    /// Another socket for a link: its interface came, went or was replaced.
    Relink {
        /// Position of the link in the configuration.
        link: usize,
        /// The socket.
        socket: Box<LinkSocket>,
    },
    /// Fill the slice with the next piece of the shard.
    Export(Box<Slice>),
    /// The filled slice.
    Exported(Box<Slice>),
    /// Take in and send out nothing more: what is there now is what the last snapshot holds.
    Quiesce,
    /// Stop at the end of the turn.
    Stop,
}
