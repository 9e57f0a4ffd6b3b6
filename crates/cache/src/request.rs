//! CSA request list of one DCS (RFC 2334 2.2.2): summaries it holds newer than this server.

use std::collections::VecDeque;

use scsp_wire::{Summary, SummaryFields, encode_summary, summary_len};

const CHUNK_LEN: usize = 16 * 1024;

#[derive(Debug)]
struct Chunk {
    octets: Box<[u8]>,
    filled: usize,
}

/// First-in first-out list of packed summaries, in chunks that are freed as the list drains.
#[derive(Debug, Default)]
pub struct RequestList {
    chunks: VecDeque<Chunk>,
    /// Octets of the first chunk that were popped.
    popped: usize,
    /// One drained chunk, kept so that a short list does not allocate.
    spare: Option<Box<[u8]>>,
    len: usize,
    bytes: usize,
}

impl RequestList {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            chunks: VecDeque::new(),
            popped: 0,
            spare: None,
            len: 0,
            bytes: 0,
        }
    }

    /// Appends a summary, in stand-alone wire form.
    pub fn push(&mut self, summary: &SummaryFields<'_>) {
        let len = summary_len(summary);
        if self
            .chunks
            .back()
            .is_none_or(|chunk| chunk.filled + len > CHUNK_LEN)
        {
            let octets = self
                .spare
                .take()
                .unwrap_or_else(|| vec![0; CHUNK_LEN].into());
            self.chunks.push_back(Chunk { octets, filled: 0 });
        }
        let chunk = self.chunks.back_mut().expect("there is a chunk with room");
        chunk.filled += encode_summary(&mut chunk.octets[chunk.filled..], summary);
        self.len += 1;
        self.bytes += len;
    }

    /// The oldest summary.
    pub fn front(&self) -> Option<Summary<'_>> {
        let chunk = self.chunks.front()?;
        let octets = &chunk.octets[self.popped..chunk.filled];
        let (summary, _) = Summary::split_first(octets).expect("the list holds whole summaries");
        Some(summary)
    }

    /// Drops the oldest summary; whether there was one.
    pub fn pop(&mut self) -> bool {
        let Some(len) = self.front().map(|summary| summary.wire_len()) else {
            return false;
        };
        self.len -= 1;
        self.bytes -= len;
        self.popped += len;
        if self
            .chunks
            .front()
            .is_some_and(|chunk| chunk.filled == self.popped)
        {
            self.popped = 0;
            self.spare = self.chunks.pop_front().map(|chunk| chunk.octets);
        }
        true
    }

    /// All summaries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Summary<'_>> {
        self.chunks.iter().enumerate().flat_map(|(i, chunk)| {
            let start = if i == 0 { self.popped } else { 0 };
            scsp_wire::Summaries::over(&chunk.octets[start..chunk.filled])
        })
    }

    /// Summaries listed.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is listed.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Octets of the listed summaries on the wire.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Octets allocated.
    pub fn allocated_bytes(&self) -> usize {
        (self.chunks.len() + usize::from(self.spare.is_some())) * CHUNK_LEN
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests;
