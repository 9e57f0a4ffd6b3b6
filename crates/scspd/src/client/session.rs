//! One client connection.

use std::fmt::Write as _;

use scsp_engine::{InstanceIndex, Time};
use scsp_net::{ConnId, Peer};
use scsp_resp::Decoder;

use super::batch::KillRule;
use super::replies::Replies;

/// Octets of input that wait for replies or for the rest of a command at most; beyond, the
/// connection is closed.
pub(super) const INPUT_LEN_MAX: usize = scsp_resp::decode::COMMAND_LEN_MAX as usize + 1024 * 1024;
/// Octets that the input buffer keeps allocated.
const KEPT_LEN_MAX: usize = 16 * 1024;

/// Which commands are answered (CLIENT REPLY).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mute {
    /// All.
    #[default]
    Never,
    /// All but the next.
    Next,
    /// None.
    Always,
}

/// What a client asked not to happen; it never does here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exempt {
    /// CLIENT NO-EVICT.
    pub(super) evict: bool,
    /// CLIENT NO-TOUCH.
    pub(super) touch: bool,
}

/// What commands of a connection know and change.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) conn: ConnId,
    /// Number for CLIENT ID, unique on the hub.
    pub(super) id: u64,
    peer: Peer,
    since: Time,
    /// When it was heard last.
    pub(super) active: Time,
    pub(super) replies: Replies,
    /// The group that SELECT chose.
    pub(super) database: InstanceIndex,
    pub(super) name: Vec<u8>,
    pub(super) library_name: Vec<u8>,
    pub(super) library_version: Vec<u8>,
    /// Name of the last command.
    pub(super) last: Option<&'static str>,
    pub(super) mute: Mute,
    pub(super) exempt: Exempt,
    /// To be closed once everything is answered; takes no more commands.
    pub(super) closing: bool,
    /// The client sends no more.
    pub(super) ended: bool,
    /// Commands wait until the client has taken its replies.
    pub(super) stalled: bool,
}

impl Session {
    pub(super) fn new(conn: ConnId, id: u64, peer: Peer, now: Time) -> Self {
        Self {
            conn,
            id,
            peer,
            since: now,
            active: now,
            replies: Replies::default(),
            database: InstanceIndex(0),
            name: Vec::new(),
            library_name: Vec::new(),
            library_version: Vec::new(),
            last: None,
            mute: Mute::Never,
            exempt: Exempt::default(),
            closing: false,
            ended: false,
            stalled: false,
        }
    }

    /// Whether the connection is to be closed now.
    pub(super) fn is_over(&self) -> bool {
        self.replies.is_empty() && (self.closing || self.ended && !self.stalled)
    }

    /// Whether CLIENT KILL means this connection.
    pub(super) fn is_meant(&self, rule: &KillRule, address: &[u8], now: Time) -> bool {
        rule.spared != Some(self.id)
            && rule.id.is_none_or(|id| id == self.id)
            && rule
                .age_s
                .is_none_or(|age_s| now.since(self.since).as_secs() >= age_s)
            && (!rule.has_address || self.peer.to_string().as_bytes() == address)
    }

    /// Appends the line of CLIENT LIST and INFO, without its end.
    pub(super) fn describe(&self, now: Time, out: &mut Vec<u8>) {
        let mut line = String::new();
        let text = String::from_utf8_lossy;
        write!(
            line,
            "id={} addr={} name={} age={} idle={} flags={} db={} sub=0 psub=0 multi=-1 cmd={} \
             user=default lib-name={} lib-ver={} resp={}",
            self.id,
            self.peer,
            text(&self.name),
            now.since(self.since).as_secs(),
            now.since(self.active).as_secs(),
            self.flags(),
            self.database.0,
            self.last.unwrap_or("NULL"),
            text(&self.library_name),
            text(&self.library_version),
            self.replies.protocol.number(),
        )
        .expect("a text grows");
        out.extend_from_slice(line.as_bytes());
    }

    const fn flags(&self) -> &'static str {
        match (self.exempt.evict, self.exempt.touch) {
            (false, false) => "N",
            (true, false) => "e",
            (false, true) => "T",
            (true, true) => "eT",
        }
    }
}

/// A connection's input that is not dealt with yet.
#[derive(Debug, Default)]
pub(super) struct Input {
    pub(super) decoder: Decoder,
    octets: Vec<u8>,
    /// Octets at the front that are dealt with.
    done: usize,
}

impl Input {
    pub(super) const fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// Octets not dealt with.
    pub(super) const fn len(&self) -> usize {
        self.octets.len() - self.done
    }

    pub(super) fn push(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// Lends the octets out, with the decoder that belongs to them.
    pub(super) fn lend(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.octets), self.done)
    }

    /// Takes them back, dealt with up to `done`. What is left moves to the front only once it is
    /// the smaller part, so that each octet moves at most once on average.
    pub(super) fn give_back(&mut self, mut octets: Vec<u8>, done: usize) {
        self.done = done;
        if done >= octets.len() {
            octets.clear();
            octets.shrink_to(KEPT_LEN_MAX);
            self.done = 0;
        } else if done > octets.len() / 2 {
            octets.drain(..done);
            self.done = 0;
        }
        self.octets = octets;
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.octets = Vec::new();
        self.done = 0;
    }
}
