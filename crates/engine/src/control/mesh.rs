//! Who hears whom on a multipoint link, as far as their Hellos tell (CSU-15).
//!
//! Two DCSs are *meshed* while each names the other: then what one of them sends to everybody needs
//! not be passed on to the other by this server. Nothing but the last Hellos counts. A name counts
//! from the second Hello in a row on, so that who has just met its neighbour, and has yet to tell
//! its own shards, is not relied on; it stops to count with the first Hello that leaves it out.

use std::time::Duration;

use scsp_wire::Hello as Packet;

use crate::message::ToShard;
use crate::setup::DcsIndex;

use super::{Control, HELLO_RECEIVERS_MAX};

/// So many Hellos in a row make a name count.
const STEADY: u8 = 2;

/// One server's row in the matrix of its multipoint link; empty on a unicast link.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// Where it stands among the servers of its stream.
    position: usize,
    /// How many of its last Hellos in a row named each other server, up to [`STEADY`].
    named: Vec<u8>,
    meshed: Vec<bool>,
}

impl Row {
    pub(super) fn new(position: usize, servers: usize) -> Self {
        Self {
            position,
            named: vec![0; servers],
            meshed: vec![false; servers],
        }
    }
}

impl Control {
    /// Takes in whom a Hello of the server names. Names beyond [`HELLO_RECEIVERS_MAX`] do not
    /// count: nobody relies on a name that is not counted, and looking for every server among all
    /// that fit into a datagram would cost a multiple of any other packet.
    pub(super) fn learn_names(&mut self, at: usize, packet: &Packet<'_>) {
        let stream = self.servers[at].stream;
        for position in 0..self.servers[at].mesh.named.len() {
            let other = self.streams[stream].servers[position];
            let id = self.servers[other].hello.dcsid();
            let mut named = packet.receivers().take(HELLO_RECEIVERS_MAX);
            let names = id.is_some_and(|id| named.any(|named| named == id.as_bytes()));
            let count = &mut self.servers[at].mesh.named[position];
            *count = if names { STEADY.min(*count + 1) } else { 0 };
        }
        self.settle_mesh(at);
    }

    /// The server is not heard any more, or says that it is another one.
    pub(super) fn forget_names(&mut self, at: usize) {
        let (stream, position) = (self.servers[at].stream, self.servers[at].mesh.position);
        self.servers[at].mesh.named.fill(0);
        for of in 0..self.servers[at].mesh.named.len() {
            let other = self.streams[stream].servers[of];
            self.servers[other].mesh.named[position] = 0;
        }
        self.settle_mesh(at);
    }

    /// Tells the shards when the pairs of one server changed.
    fn settle_mesh(&mut self, at: usize) {
        let (stream, position) = (self.servers[at].stream, self.servers[at].mesh.position);
        let (mut changed, mut window) = (false, Duration::ZERO);
        for of in 0..self.servers[at].mesh.named.len() {
            let other = self.streams[stream].servers[of];
            let steady =
                |from: usize, to: usize| self.servers[from].mesh.named[to] == STEADY && at != other;
            let meshed = steady(at, of) && steady(other, position);
            if self.servers[at].mesh.meshed[of] == meshed {
                continue;
            }
            changed = true;
            window = window.max(self.servers[other].hello.window());
            self.servers[at].mesh.meshed[of] = meshed;
            self.servers[other].mesh.meshed[position] = meshed;
        }
        if changed {
            window += self.servers[at].hello.window();
            self.tell_mesh(at, window);
        }
    }

    /// What one of a pair sent to everybody has reached the other, or the pair is seen to break,
    /// within the time that all resends take (CSU-06) and the windows of both: one for their
    /// machines to notice, one for this server's.
    fn tell_mesh(&mut self, at: usize, windows: Duration) {
        for of in 0..self.servers[at].dcs.len() {
            let dcs = self.servers[at].dcs[of];
            let setup = self.setup.instance_of(dcs);
            let resends = setup.csu_retransmit * setup.csu_retransmit_max.saturating_add(1);
            let with = self.meshed_with(at, dcs);
            let recent = windows + resends;
            self.tell_all(|| ToShard::Mesh {
                dcs,
                with: with.clone(),
                recent,
            });
        }
    }

    /// The DCSs of the instance of `dcs` behind the servers that `at` is meshed with. The Hellos of
    /// a family say who hears whom, not who is whose neighbour in each of its instances, so nobody
    /// counts as meshed where they serve several.
    fn meshed_with(&self, at: usize, dcs: DcsIndex) -> Vec<DcsIndex> {
        let server = &self.servers[at];
        let instance = |dcs: DcsIndex| self.setup.dcs[dcs.index()].instance;
        let servers = self.streams[server.stream].servers.iter();
        let mut served = servers.flat_map(|other| &self.servers[*other].dcs);
        if served.any(|other| instance(*other) != instance(dcs)) {
            return Vec::new();
        }
        let all = self.streams[server.stream].servers.iter();
        all.zip(&server.mesh.meshed)
            .filter(|(_, meshed)| **meshed)
            .flat_map(|(other, _)| &self.servers[*other].dcs)
            .copied()
            .filter(|other| instance(*other) == instance(dcs))
            .collect()
    }
}
