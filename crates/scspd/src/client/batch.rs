//! Operations on their way to the thread that owns what they concern, and back with replies.

use scsp_engine::InstanceIndex;
use scsp_resp::Protocol;
use scsp_resp::options::{ExpireCondition, Expiry, SetCondition};
use scsp_wire::CsaSeq;

/// Octets that each buffer of a batch keeps allocated for its next use.
const KEPT_LEN_MAX: usize = 256 * 1024;

/// What an operation does; scalars only, its octets are beside it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// GET.
    Get,
    /// STRLEN.
    Strlen,
    /// TYPE.
    Type,
    /// TTL, or PTTL.
    Ttl { in_ms: bool },
    /// GETDEL.
    Getdel,
    /// PERSIST.
    Persist,
    /// DEL of one key.
    Del,
    /// EXISTS of one key.
    Exists,
    /// SET and its relatives.
    Set(SetRule),
    /// EXPIRE and PEXPIRE.
    Expire {
        after_ms: i64,
        condition: ExpireCondition,
    },
    /// The shard's part of DBSIZE.
    Len,
    /// The shard's part of KEYS; the pattern is in `value`.
    Keys,
    /// SCAN; the pattern, if any, is in `value`.
    Scan {
        position: u32,
        count: usize,
        has_pattern: bool,
    },
    /// SCSP.PUBLISH.
    Publish { seq: Option<CsaSeq> },
    /// SCSP.PURGE.
    Purge,
    /// SCSP.GET; the originator, if any, is in `value`.
    Records { all: bool, of_one: bool },
    /// SCSP.SCAN.
    ScanRecords {
        position: u32,
        count: usize,
        all: bool,
    },
    /// Live keys of every instance, as numbers.
    Census,
    /// Live records of every instance and their digest, as numbers.
    Digests,
    /// SCSP.DIGEST: records and their digest, as numbers.
    Digest { all: bool },
    /// The worker's part of CLIENT LIST; `value` is [`ids`](super::connection::ids_of) unless `all`.
    Clients { all: bool },
    /// The worker's part of CLIENT KILL; the address, if any, is in `value`.
    Kill(KillRule),
    /// SCSP.PEERS, for the control thread.
    Peers { group: Option<InstanceIndex> },
    /// SCSP.STATUS, for the control thread.
    Status,
    /// SCSP.PEER … CLEAR, for the control thread; the neighbour is in `value`.
    Clear,
}

/// How a value is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct SetRule {
    pub(super) condition: SetCondition,
    pub(super) expiry: Expiry,
    pub(super) reply: SetReply,
}

/// What a SET answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetReply {
    /// OK, or nothing when the condition did not hold.
    Ok,
    /// The old value.
    Old,
    /// 1 or 0.
    Flag,
}

/// Which connections CLIENT KILL closes.
#[derive(Clone, Copy, Debug)]
pub(super) struct KillRule {
    pub(super) id: Option<u64>,
    pub(super) has_address: bool,
    pub(super) age_s: Option<u64>,
    /// The caller, when it is to be spared.
    pub(super) spared: Option<u64>,
}

/// An operation with its octets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Op<'a> {
    pub(super) kind: Kind,
    /// The key that picks the shard; empty when none does.
    pub(super) key: &'a [u8],
    /// Value, body, pattern: see [`Kind`].
    pub(super) value: &'a [u8],
}

impl Op<'static> {
    /// An operation without octets.
    pub(super) const fn plain(kind: Kind) -> Self {
        Self {
            kind,
            key: &[],
            value: &[],
        }
    }
}

impl<'a> Op<'a> {
    /// An operation on a key.
    pub(super) const fn on(kind: Kind, key: &'a [u8]) -> Self {
        Self {
            kind,
            key,
            value: &[],
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Head {
    kind: Kind,
    key_len: usize,
    value_len: usize,
}

/// Operations for one thread, packed; later their replies, packed as well. The same buffers travel
/// there and back and are used again.
#[derive(Debug)]
pub(super) struct Batch {
    /// The instance that all operations are on.
    pub(super) at: InstanceIndex,
    /// How replies are written.
    pub(super) protocol: Protocol,
    heads: Vec<Head>,
    /// Keys and values, in order.
    octets: Vec<u8>,
    /// Octets of each reply.
    reply_lens: Vec<usize>,
    replies: Vec<u8>,
}

/// How far the replies of a batch have been taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Position {
    reply: usize,
    octet: usize,
}

impl Batch {
    pub(super) const fn new() -> Self {
        Self {
            at: InstanceIndex(0),
            protocol: Protocol::Resp2,
            heads: Vec::new(),
            octets: Vec::new(),
            reply_lens: Vec::new(),
            replies: Vec::new(),
        }
    }

    /// Empties it for its next use, and gives back what it allocated beyond the ordinary.
    pub(super) fn clear(&mut self) {
        self.heads.clear();
        self.octets.clear();
        self.reply_lens.clear();
        self.replies.clear();
        self.octets.shrink_to(KEPT_LEN_MAX);
        self.replies.shrink_to(KEPT_LEN_MAX);
        self.heads.shrink_to(KEPT_LEN_MAX / size_of::<Head>());
        self.reply_lens.shrink_to(KEPT_LEN_MAX / size_of::<usize>());
    }

    /// Adds an operation.
    pub(super) fn push(&mut self, op: Op<'_>) {
        let (key_len, value_len) = (op.key.len(), op.value.len());
        self.heads.push(Head {
            kind: op.kind,
            key_len,
            value_len,
        });
        self.octets.extend_from_slice(op.key);
        self.octets.extend_from_slice(op.value);
    }

    /// Octets of keys and values.
    pub(super) const fn octets_len(&self) -> usize {
        self.octets.len()
    }

    /// Has every operation carried out, in order; `execute` appends each reply.
    pub(super) fn run(&mut self, mut execute: impl FnMut(Op<'_>, &mut Vec<u8>)) {
        let mut rest = self.octets.as_slice();
        for head in &self.heads {
            let (key, tail) = rest.split_at(head.key_len);
            let (value, tail) = tail.split_at(head.value_len);
            rest = tail;
            let before = self.replies.len();
            execute(
                Op {
                    kind: head.kind,
                    key,
                    value,
                },
                &mut self.replies,
            );
            self.reply_lens.push(self.replies.len() - before);
        }
    }

    /// The next reply.
    pub(super) fn take(&self, position: &mut Position) -> Option<&[u8]> {
        let len = *self.reply_lens.get(position.reply)?;
        let reply = self.replies.get(position.octet..position.octet + len)?;
        position.reply += 1;
        position.octet += len;
        Some(reply)
    }

    /// Whether every reply was taken.
    pub(super) const fn is_spent(&self, position: Position) -> bool {
        position.reply >= self.reply_lens.len()
    }
}
