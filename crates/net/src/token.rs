//! What a completion belongs to: kind (8 bits), generation (24), index (32).

use crate::ConnId;
use crate::link::Port;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Datagram = 1,
    Send = 2,
    Accept = 3,
    Stream = 4,
    Write = 5,
    /// Our eventfd was written.
    Wake = 6,
    /// Another ring woke us: no operation of ours.
    RingMessage = 7,
    /// Our message to another ring.
    RingWake = 8,
    Done = 9,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) u64);

impl Token {
    pub(crate) fn new(kind: Kind, generation: u32, index: u32) -> Self {
        let generation = u64::from(generation & 0x00ff_ffff);
        Self((kind as u64) << 56 | generation << 32 | u64::from(index))
    }

    /// Of what comes in on a socket of a link.
    pub(crate) fn datagrams(port: Port, generation: u32) -> Self {
        Self::new(Kind::Datagram, generation, port.0.into())
    }

    pub(crate) fn kind(self) -> Kind {
        match self.0 >> 56 {
            1 => Kind::Datagram,
            2 => Kind::Send,
            3 => Kind::Accept,
            4 => Kind::Stream,
            5 => Kind::Write,
            6 => Kind::Wake,
            7 => Kind::RingMessage,
            8 => Kind::RingWake,
            9 => Kind::Done,
            kind => panic!("completion of unknown kind {kind}"),
        }
    }

    pub(crate) fn index(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// The index of a table of at most 65,536.
    pub(crate) fn short(self) -> u16 {
        u16::try_from(self.index()).expect("made from a u16")
    }

    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 32 & 0x00ff_ffff) as u32
    }

    pub(crate) fn conn(self) -> ConnId {
        ConnId {
            index: self.index(),
            generation: self.generation(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a token gives back what it was made of, at the edges too.
    #[test]
    fn tokens_hold_their_parts() {
        for (generation, index) in [(0, 0), (1, 2), (0x00ff_ffff, u32::MAX)] {
            let token = Token::new(Kind::Write, generation, index);
            assert_eq!(token.kind(), Kind::Write);
            assert_eq!(token.conn(), ConnId { index, generation });
        }
        assert_eq!(Token::new(Kind::Send, 0, 65_535).short(), 65_535);
    }
}
