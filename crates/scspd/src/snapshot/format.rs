//! The snapshot file: how it is written and read, without a file system.
//!
//! ```text
//! file:   "SCSPSNAP" | version:2 | 0:2 | id:8 | crc:4 | block…
//! block:  kind:1 | len:4 | payload | crc:4
//! ```
//!
//! All integers are big-endian. A block's checksum (CRC-32) covers the file's id, the block's
//! number, its head and payload: a block of another file, or one at another place, is damage too.
//!
//! | kind | payload |
//! |---|---|
//! | 1 server, the first block | hash seed:8, taken:8, server id |
//! | 2 entries of an instance | protocol:2, group:2, taken:8, count:4, entries |
//! | 3 past of an instance, after its entries | protocol:2, group:2, memory:1, since:8, clock:8, (slot:2, sequence:4)… |
//! | 4 end, the last block | number of all entries:8 |
//!
//! Times are Unix time in milliseconds. Entries are as [`Kept`] describes.

use std::io::{self, Read};

use scsp_engine::snapshot::{Kept, Memory, Past};
use scsp_profile::Stamp;
use scsp_profile::kv::STAMP_MILLIS_MAX;
use scsp_wire::{CsaSeq, ProtocolId, ServerGroupId, ServerId};

const MAGIC: [u8; 8] = *b"SCSPSNAP";
/// The version that is written, and the only one that is read.
pub const VERSION: u16 = 1;
/// Octets before the first block.
pub const FILE_HEAD_LEN: usize = 24;
/// Octets of a block before its payload.
const BLOCK_HEAD_LEN: usize = 5;
const CRC_LEN: usize = 4;
/// Octets of an entries block before the entries.
const ENTRIES_HEAD_LEN: usize = BLOCK_HEAD_LEN + 16;
/// Octets of a past block's payload before the floors, and of one floor.
const PAST_LEN: usize = 21;
const FLOOR_LEN: usize = 6;
/// Octets of the longest payload: nothing longer is written, or read into memory.
pub const PAYLOAD_LEN_MAX: usize = 1 << 20;

const KIND_SERVER: u8 = 1;
const KIND_ENTRIES: u8 = 2;
const KIND_PAST: u8 = 3;
const KIND_END: u8 = 4;

/// One (protocol, server group) pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstanceName {
    /// Protocol id.
    pub protocol: ProtocolId,
    /// SGID.
    pub group: ServerGroupId,
}

impl InstanceName {
    fn encode(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.protocol.0.to_be_bytes(), self.group.0.to_be_bytes());
        [a, b, c, d]
    }

    fn decode(payload: &mut &[u8]) -> Option<Self> {
        let [a, b, c, d] = take(payload)?;
        Some(Self {
            protocol: ProtocolId(u16::from_be_bytes([a, b])),
            group: ServerGroupId(u16::from_be_bytes([c, d])),
        })
    }
}

/// Who wrote a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// LSID.
    pub server: ServerId,
    /// Under which floors were noted.
    pub hash_seed: u64,
    /// When it was begun.
    pub taken_unix_ms: u64,
}

/// Writes the parts of one file, to be put behind each other. A part replaces what its buffer
/// holds.
#[derive(Debug)]
pub struct Encoder {
    id: u64,
    blocks: u32,
    entries: u64,
}

impl Encoder {
    /// `id` is this file's alone.
    pub const fn new(id: u64) -> Self {
        Self {
            id,
            blocks: 0,
            entries: 0,
        }
    }

    /// Entries so far.
    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// What every file starts with, and who wrote it.
    pub fn begin(&mut self, writer: &Writer) -> Vec<u8> {
        let mut out = file_head(self.id).to_vec();
        let mut block = vec![0; BLOCK_HEAD_LEN];
        block.extend_from_slice(&writer.hash_seed.to_be_bytes());
        block.extend_from_slice(&writer.taken_unix_ms.to_be_bytes());
        block.extend_from_slice(writer.server.as_bytes());
        self.seal(&mut block, KIND_SERVER);
        out.append(&mut block);
        out
    }

    /// Makes room for what [`entries_block`](Self::entries_block) puts before the entries.
    pub fn make_room(block: &mut Vec<u8>) {
        block.clear();
        block.resize(ENTRIES_HEAD_LEN, 0);
    }

    /// Completes a block whose entries stand behind the room made for its head.
    pub fn entries_block(
        &mut self,
        block: &mut Vec<u8>,
        instance: InstanceName,
        taken_unix_ms: u64,
        count: u32,
    ) {
        block[5..9].copy_from_slice(&instance.encode());
        block[9..17].copy_from_slice(&taken_unix_ms.to_be_bytes());
        block[17..21].copy_from_slice(&count.to_be_bytes());
        self.entries += u64::from(count);
        self.seal(block, KIND_ENTRIES);
    }

    /// What one shard knows of an instance beside the entries.
    pub fn past_block(&mut self, block: &mut Vec<u8>, instance: InstanceName, past: &Past) {
        let (memory, since) = match past.memory {
            Memory::Never => (0, Stamp::ZERO),
            Memory::Partial => (1, Stamp::ZERO),
            Memory::Whole { since } => (2, since),
        };
        block.clear();
        block.resize(BLOCK_HEAD_LEN, 0);
        block.extend_from_slice(&instance.encode());
        block.push(memory);
        block.extend_from_slice(&since.0.to_be_bytes());
        block.extend_from_slice(&past.clock.0.to_be_bytes());
        for (slot, seq) in &past.floors {
            block.extend_from_slice(&slot.to_be_bytes());
            block.extend_from_slice(&seq.get().to_be_bytes());
        }
        self.seal(block, KIND_PAST);
    }

    /// The last block: without it the file is not whole.
    pub fn end_block(&mut self, block: &mut Vec<u8>) {
        block.clear();
        block.resize(BLOCK_HEAD_LEN, 0);
        block.extend_from_slice(&self.entries.to_be_bytes());
        self.seal(block, KIND_END);
    }

    /// Fills in the head of a block and appends its checksum.
    fn seal(&mut self, block: &mut Vec<u8>, kind: u8) {
        let len = block.len() - BLOCK_HEAD_LEN;
        assert!(len <= PAYLOAD_LEN_MAX, "a block of {len} octets");
        block[0] = kind;
        let len = u32::try_from(len).expect("limited above");
        block[1..BLOCK_HEAD_LEN].copy_from_slice(&len.to_be_bytes());
        let crc = checksum(self.id, self.blocks, &[block]);
        block.extend_from_slice(&crc.to_be_bytes());
        self.blocks += 1;
    }
}

fn file_head(id: u64) -> [u8; FILE_HEAD_LEN] {
    let mut head = [0; FILE_HEAD_LEN];
    head[..8].copy_from_slice(&MAGIC);
    head[8..10].copy_from_slice(&VERSION.to_be_bytes());
    head[12..20].copy_from_slice(&id.to_be_bytes());
    let crc = crc32fast::hash(&head[..20]);
    head[20..].copy_from_slice(&crc.to_be_bytes());
    head
}

fn checksum(id: u64, number: u32, parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&id.to_be_bytes());
    hasher.update(&number.to_be_bytes());
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// Why a file is not read at all.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is something else, or its first octets are damaged.
    #[error("is no snapshot")]
    NoSnapshot,
    /// A later scspd wrote it.
    #[error("has format {0}, expected {VERSION}")]
    Version(u16),
}

/// Where and why reading ended before the end of the file.
#[derive(Debug, thiserror::Error)]
#[error("block {block} at octet {offset} {fault}")]
pub struct Damage {
    /// Number of the block, from 0.
    pub block: u32,
    /// Where it begins in the file.
    pub offset: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a block.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// The file ends within it, or before the last block.
    #[error("is cut off")]
    CutOff,
    /// Its octets changed.
    #[error("has a wrong checksum")]
    Checksum,
    /// Its checksum is right, its content is not.
    #[error("makes no sense")]
    Malformed,
    /// There is something behind the last block.
    #[error("is behind the end")]
    Trailing,
}

/// A block that was read.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Block<'a> {
    /// Who wrote the file.
    Server(Writer),
    /// Entries of one instance.
    Entries {
        /// The instance.
        instance: InstanceName,
        /// When they were written out.
        taken_unix_ms: u64,
        /// The entries, packed and checked.
        entries: KeptEntries<'a>,
    },
    /// What is known of an instance beside its entries.
    Past {
        /// The instance.
        instance: InstanceName,
        /// What is known.
        past: Past,
    },
    /// The file is whole.
    End,
}

/// Walk over checked entries.
#[derive(Clone, Debug)]
pub struct KeptEntries<'a>(&'a [u8]);

impl<'a> Iterator for KeptEntries<'a> {
    type Item = Kept<'a>;

    fn next(&mut self) -> Option<Kept<'a>> {
        let (kept, rest) = Kept::split_first(self.0).ok()?;
        self.0 = rest;
        Some(kept)
    }
}

/// Reads a file block by block, one of them in memory at a time.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    id: u64,
    offset: u64,
    blocks: u32,
    entries: u64,
    payload: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// Reads what every file starts with.
    pub fn new(mut from: R) -> Result<Self, Refused> {
        let mut head = [0; FILE_HEAD_LEN];
        let len = read_up_to(&mut from, &mut head)?;
        if len < 10 || head[..8] != MAGIC {
            return Err(Refused::NoSnapshot);
        }
        let version = u16::from_be_bytes([head[8], head[9]]);
        let crc = crc32fast::hash(&head[..20]).to_be_bytes();
        let is_whole = len == FILE_HEAD_LEN && head[20..] == crc;
        if version != VERSION {
            return Err(Refused::Version(version));
        }
        if !is_whole {
            return Err(Refused::NoSnapshot);
        }
        Ok(Self {
            from,
            id: u64::from_be_bytes(head[12..20].try_into().expect("eight octets")),
            offset: FILE_HEAD_LEN as u64,
            blocks: 0,
            entries: 0,
            payload: Vec::new(),
        })
    }

    /// The file's id.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// The next block. After [`Block::End`] or an error there is none.
    pub fn next_block(&mut self) -> Result<Block<'_>, Damage> {
        let (block, offset) = (self.blocks, self.offset);
        let damage = |fault| Damage {
            block,
            offset,
            fault,
        };
        let kind = self.load().map_err(damage)?;
        self.blocks += 1;
        self.offset += (BLOCK_HEAD_LEN + self.payload.len() + CRC_LEN) as u64;
        if kind == KIND_END {
            let mut one = [0];
            match read_up_to(&mut self.from, &mut one) {
                Ok(0) => {}
                Ok(_) => return Err(damage(Fault::Trailing)),
                Err(error) => return Err(damage(Fault::Io(error))),
            }
        }
        // The server's block is the first one, and only that.
        let in_place = (block == 0) == (kind == KIND_SERVER);
        parse(kind, &self.payload, &mut self.entries)
            .filter(|_| in_place)
            .ok_or(damage(Fault::Malformed))
    }

    /// Reads a block and checks it.
    fn load(&mut self) -> Result<u8, Fault> {
        let mut head = [0; BLOCK_HEAD_LEN];
        self.fill(&mut head)?;
        let [kind, len @ ..] = head;
        let len = usize::try_from(u32::from_be_bytes(len)).map_err(|_| Fault::Checksum)?;
        if len > PAYLOAD_LEN_MAX {
            return Err(Fault::Checksum);
        }
        let mut payload = std::mem::take(&mut self.payload);
        payload.resize(len, 0);
        let filled = self.fill(&mut payload);
        self.payload = payload;
        filled?;
        let mut crc = [0; CRC_LEN];
        self.fill(&mut crc)?;
        if checksum(self.id, self.blocks, &[&head, &self.payload]).to_be_bytes() != crc {
            return Err(Fault::Checksum);
        }
        Ok(kind)
    }

    fn fill(&mut self, octets: &mut [u8]) -> Result<(), Fault> {
        match read_up_to(&mut self.from, octets) {
            Ok(len) if len == octets.len() => Ok(()),
            Ok(_) => Err(Fault::CutOff),
            Err(error) => Err(Fault::Io(error)),
        }
    }
}

/// Reads until `octets` are full or the file ends; how many were read.
fn read_up_to(from: &mut impl Read, octets: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < octets.len() {
        match from.read(&mut octets[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

fn take<const N: usize>(payload: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = payload.split_first_chunk()?;
    *payload = rest;
    Some(*taken)
}

fn take_u64(payload: &mut &[u8]) -> Option<u64> {
    take(payload).map(u64::from_be_bytes)
}

/// What a payload says; `None` when it says nothing that is written.
fn parse<'a>(kind: u8, mut payload: &'a [u8], total: &mut u64) -> Option<Block<'a>> {
    let payload = &mut payload;
    match kind {
        KIND_SERVER => {
            let (hash_seed, taken_unix_ms) = (take_u64(payload)?, take_u64(payload)?);
            Some(Block::Server(Writer {
                server: ServerId::from_bytes(payload)?,
                hash_seed,
                taken_unix_ms,
            }))
        }
        KIND_ENTRIES => {
            let instance = InstanceName::decode(payload)?;
            let taken_unix_ms = take_u64(payload)?;
            let count = u32::from_be_bytes(take(payload)?);
            let entries = KeptEntries(payload);
            let mut rest = *payload;
            for _ in 0..count {
                (_, rest) = Kept::split_first(rest).ok()?;
            }
            *total += u64::from(count);
            rest.is_empty().then_some(Block::Entries {
                instance,
                taken_unix_ms,
                entries,
            })
        }
        KIND_PAST => parse_past(payload),
        KIND_END => {
            let entries = take_u64(payload)?;
            (payload.is_empty() && entries == *total).then_some(Block::End)
        }
        _ => None,
    }
}

fn parse_past<'a>(payload: &mut &[u8]) -> Option<Block<'a>> {
    let is_fine = payload.len() >= PAST_LEN && (payload.len() - PAST_LEN).is_multiple_of(FLOOR_LEN);
    let instance = InstanceName::decode(payload).filter(|_| is_fine)?;
    let [memory] = take(payload)?;
    let (since, clock) = (Stamp(take_u64(payload)?), Stamp(take_u64(payload)?));
    if clock.millis() > STAMP_MILLIS_MAX {
        return None; // No clock goes on from there.
    }
    let memory = match memory {
        0 => Memory::Never,
        1 => Memory::Partial,
        2 => Memory::Whole { since },
        _ => return None,
    };
    let mut floors = Vec::with_capacity(payload.len() / FLOOR_LEN);
    while !payload.is_empty() {
        let slot = u16::from_be_bytes(take(payload)?);
        let seq = CsaSeq::new(i32::from_be_bytes(take(payload)?))?;
        floors.push((slot, seq));
    }
    let past = Past {
        memory,
        clock,
        floors,
    };
    Some(Block::Past { instance, past })
}

#[cfg(test)]
mod tests;
