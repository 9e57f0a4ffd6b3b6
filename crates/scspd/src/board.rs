//! States of the neighbours, posted by the control thread for those in the same process who only
//! look (the demo's table).

use std::sync::atomic::{AtomicU8, Ordering};

use scsp_engine::{PeerStatus, alignment, hello};

/// State of one neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Hello machine.
    pub hello: hello::State,
    /// Alignment machine.
    pub alignment: alignment::State,
    /// Role in the exchange.
    pub role: Option<alignment::Role>,
}

/// One cell for each neighbour, in the order of the configuration.
#[derive(Debug)]
pub struct Board(Vec<AtomicU8>);

impl Board {
    /// Everybody down.
    pub fn new(peers: usize) -> Self {
        Self((0..peers).map(|_| AtomicU8::new(0)).collect())
    }

    /// Posts the state of neighbour `index`.
    pub fn post(&self, index: usize, peer: &PeerStatus) {
        let role = match peer.role {
            None => 0,
            Some(alignment::Role::Master) => 1,
            Some(alignment::Role::Slave) => 2,
        };
        let packed = role << 6 | (peer.alignment as u8) << 3 | peer.hello as u8;
        self.0[index].store(packed, Ordering::Relaxed);
    }

    /// What is posted.
    pub fn peers(&self) -> impl Iterator<Item = Posted> + '_ {
        self.0
            .iter()
            .map(|cell| unpack(cell.load(Ordering::Relaxed)))
    }
}

fn unpack(packed: u8) -> Posted {
    let at = |shift: u8| usize::from(packed >> shift & 7);
    let role = match packed >> 6 {
        1 => Some(alignment::Role::Master),
        2 => Some(alignment::Role::Slave),
        _ => None,
    };
    Posted {
        hello: hello::State::ALL[at(0)],
        alignment: alignment::State::ALL[at(3)],
        role,
    }
}
