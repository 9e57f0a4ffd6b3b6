//! Who says Hello to whom (RFC 2334 2.1, B.2.5): the servers behind the DCSs, the streams of Hellos
//! that reach them, and what hangs on the edges of their machines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use scsp_wire::{
    Builder, FamilyId, Header, Hello as Packet, HelloFields, MessageType, ServerId, overhead,
};

use crate::hello::{Edge, Event, Heard, Hello, State};
use crate::message::{Abnormal, Epoch};
use crate::setup::{DcsIndex, Destination, InstanceIndex, LinkIndex, Setup};
use crate::shard::{DATAGRAM_LEN_MAX, EXTENSIONS_LEN_MAX};
use crate::{Now, Time};

use super::mesh::Row;
use super::{Control, Notice};

/// Shortest time between two Hellos of one stream. State changes send a Hello at once so that
/// neighbours meet without waiting for an interval; this bounds what flapping ones can cause. On a
/// unicast link the Hello that makes a neighbour Bidirectional is answered without regard to it:
/// that one neighbour gets no more Hellos by it than it sends.
pub const HELLO_GAP_MIN: Duration = Duration::from_millis(100);
/// So many DCSs fit the Hello of a multipoint link whatever their ids. A Hello cannot be split over
/// packets, so it grows beyond the packet limit where it must, up to the largest datagram of its
/// link; DCSs that would not fit even then are not named, and those that were first configured are.
pub const HELLO_RECEIVERS_MAX: usize = 254;

/// Octets of a Hello before its extensions.
const HELLO_LEN_MAX: usize = DATAGRAM_LEN_MAX - EXTENSIONS_LEN_MAX;

const _: () = {
    let (fixed, id) = (overhead(MessageType::Hello, 255, 255), 1 + 255);
    assert!(fixed + (HELLO_RECEIVERS_MAX - 1) * id <= HELLO_LEN_MAX);
};

/// What one hello machine serves: an instance, or all instances of a family (H-14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Instance(InstanceIndex),
    Family(u16),
}

/// A neighbour and its hello machine, which its DCSs share when they are of one family (H-01,
/// H-14).
#[derive(Debug)]
pub(super) struct Server {
    pub(super) hello: Hello,
    /// Its DCSs, that of the lowest (protocol id, server group id) first.
    pub(super) dcs: Vec<DcsIndex>,
    pub(super) stream: usize,
    /// It announces our own id (D-10).
    pub(super) duplicate_id: bool,
    unexpected_id: Option<ServerId>,
    unexpected_family: Option<FamilyId>,
    pub(super) mesh: Row,
}

/// One series of Hellos: to one server, or to all on a multipoint link (H-10).
#[derive(Debug)]
pub(super) struct Stream {
    to: Destination,
    /// The instance it names is this one's (H-14).
    names: DcsIndex,
    pub(super) servers: Vec<usize>,
    due: Option<Time>,
    sent_at: Option<Time>,
}

impl Stream {
    fn earliest(&self, now: Time) -> Time {
        let after_gap = |sent: Time| sent.saturating_add(HELLO_GAP_MIN).max(now);
        self.sent_at.map_or(now, after_gap)
    }

    /// Says Hello as soon as the gap allows.
    fn hasten(&mut self, now: Time) {
        let earliest = self.earliest(now);
        self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
    }
}

/// The servers and streams of a setup, and the server of each DCS.
pub(super) fn arrange(setup: &Setup, now: Time) -> (Vec<Server>, Vec<Stream>, Vec<usize>) {
    let (mut servers, mut streams) = (Vec::<Server>::new(), Vec::<Stream>::new());
    let (mut server_at, mut stream_at) = (BTreeMap::new(), BTreeMap::new());
    let mut server_of = Vec::with_capacity(setup.dcs.len());
    for (dcs, own) in (0..).map(DcsIndex).zip(&setup.dcs) {
        let scope = match setup.instance_of(dcs).family {
            FamilyId(0) => Scope::Instance(own.instance),
            FamilyId(family) => Scope::Family(family),
        };
        let shared = setup.is_multipoint(own.link);
        let station = (!shared).then_some(own.station);
        let stream = *stream_at
            .entry((own.link, station, scope))
            .or_insert_with(|| {
                streams.push(Stream {
                    to: Destination::Group(own.link),
                    names: dcs,
                    servers: Vec::new(),
                    due: None,
                    sent_at: None,
                });
                streams.len() - 1
            });
        let server = *server_at
            .entry((own.link, own.station, scope))
            .or_insert_with(|| {
                servers.push(Server {
                    hello: Hello::new(now),
                    dcs: Vec::new(),
                    stream,
                    duplicate_id: false,
                    unexpected_id: None,
                    unexpected_family: None,
                    mesh: Row::default(),
                });
                streams[stream].servers.push(servers.len() - 1);
                servers.len() - 1
            });
        servers[server].dcs.push(dcs);
        server_of.push(server);
    }
    let rank = |dcs: DcsIndex| {
        let instance = setup.instance_of(dcs);
        (instance.protocol.0, instance.group.0, dcs)
    };
    for server in &mut servers {
        server.dcs.sort_by_key(|dcs| rank(*dcs)); // H-14
    }
    for stream in &mut streams {
        let lowest = stream.servers.iter().map(|at| servers[*at].dcs[0]);
        stream.names = lowest
            .min_by_key(|dcs| rank(*dcs))
            .expect("a stream is made with its first server");
        if !setup.is_multipoint(setup.dcs[stream.names.index()].link) {
            stream.to = Destination::Dcs(stream.names);
            continue;
        }
        for (position, at) in stream.servers.iter().enumerate() {
            servers[*at].mesh = Row::new(position, stream.servers.len());
        }
    }
    (servers, streams, server_of)
}

impl Control {
    /// Connectivity of `link` came or went, for all DCSs reached over it (H-02).
    pub fn handle_link(&mut self, now: Now, link: LinkIndex, up: bool) {
        let event = if up { Event::LinkUp } else { Event::LinkDown };
        for at in 0..self.servers.len() {
            if self.setup.dcs[self.servers[at].dcs[0].index()].link == link {
                let edge = self.servers[at].hello.handle(now.time, event);
                self.follow(now, at, edge);
            }
        }
        self.handle_timeouts(now);
    }

    /// DCSID, while the neighbour is heard and not stalled.
    pub(super) fn dcsid(&self, dcs: DcsIndex) -> Option<ServerId> {
        let server = &self.servers[self.dcs[dcs.index()].server];
        server.hello.dcsid().copied()
    }

    pub(super) fn handle_hello(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        sender: &ServerId,
        packet: &Packet<'_>,
    ) {
        let at = self.dcs[dcs.index()].server;
        if self.refuses(dcs, sender, packet.family) {
            return;
        }
        let heard = Heard {
            sender,
            names_us: packet
                .receivers()
                .any(|id| id == self.setup.lsid.as_bytes()),
            interval: packet.hello_interval,
            dead_factor: packet.dead_factor,
        };
        let edges = self.servers[at].hello.heard(now.time, heard);
        if edges[0].is_some() {
            self.note_abnormal(dcs, Abnormal::IdChanged, 1); // D-11
        }
        for edge in edges {
            self.follow(now, at, edge);
        }
        self.learn_names(at, packet);
        self.handle_timeouts(now);
    }

    /// Whether a Hello is none that this server may follow: counted, and said once for each reason.
    fn refuses(&mut self, dcs: DcsIndex, sender: &ServerId, family: FamilyId) -> bool {
        let refused = self.is_foreign(dcs, sender, family);
        self.ignored += u64::from(refused);
        refused
    }

    fn is_foreign(&mut self, dcs: DcsIndex, sender: &ServerId, family: FamilyId) -> bool {
        let server = &mut self.servers[self.dcs[dcs.index()].server];
        if family != self.setup.instance_of(dcs).family {
            // H-14: the RFC lets one machine serve what has one Family ID, and nothing else. Taking
            // a Hello of another family for this instance alone would let the two sides disagree on
            // which instances go up and down together.
            if server.unexpected_family.replace(family) != Some(family) {
                self.notices
                    .push_back(Notice::UnexpectedFamily { dcs, family });
            }
            return true;
        }
        if *sender == self.setup.lsid {
            if !server.duplicate_id {
                self.notices.push_back(Notice::DuplicateId { dcs }); // D-10
            }
            server.duplicate_id = true;
            return true;
        }
        let expected = |dcs: &DcsIndex| self.setup.dcs[dcs.index()].expected_id;
        if server
            .dcs
            .iter()
            .filter_map(expected)
            .any(|id| id != *sender)
        {
            if server.unexpected_id.replace(*sender) != Some(*sender) {
                let id = *sender;
                self.notices.push_back(Notice::UnexpectedId { dcs, id }); // D-11
            }
            return true;
        }
        server.duplicate_id = false;
        server.unexpected_id = None;
        server.unexpected_family = None;
        false
    }

    /// Counts an abnormal event, and says so.
    fn note_abnormal(&mut self, dcs: DcsIndex, cause: Abnormal, count: u64) {
        self.dcs[dcs.index()].abnormal[cause.index()] += count;
        self.notices
            .push_back(Notice::Abnormal { dcs, cause, count });
    }

    /// An abnormal event resets the neighbour (H-11, CSU-06, D-02, D-13), and with it all instances
    /// of its family (H-14), unless it belongs to an earlier adjacency than the one that stands.
    pub(super) fn handle_abnormal(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        epoch: Option<Epoch>,
        cause: Abnormal,
        count: u64,
    ) {
        self.note_abnormal(dcs, cause, count);
        let peer = &self.dcs[dcs.index()];
        let at = peer.server;
        let is_late = self.servers[at].hello.state() == State::Bidirectional
            && epoch.is_some_and(|epoch| epoch != peer.alignment.epoch);
        let is_ignored =
            cause == Abnormal::Malformed && self.setup.instance_of(dcs).ignore_abnormal;
        if is_late || is_ignored {
            return; // D-02
        }
        let edge = self.servers[at].hello.handle(now.time, Event::Abnormal);
        self.follow(now, at, edge);
        self.handle_timeouts(now);
    }

    /// Effects of a hello edge on what depends on it (CA-01, H-13): the next Hello, and the
    /// alignments of all instances that the machine serves (H-14).
    fn follow(&mut self, now: Now, at: usize, edge: Option<Edge>) {
        let Some(Edge { from, to }) = edge else {
            return;
        };
        let (stream, members) = (self.servers[at].stream, self.servers[at].dcs.clone());
        for &dcs in &members {
            self.dcs[dcs.index()].transitions[0] += 1;
            self.notices.push_back(Notice::Hello { dcs, from, to });
        }
        match to {
            State::Down => self.stop_if_down(stream),
            State::Waiting | State::Unidirectional => self.streams[stream].hasten(now.time), // H-06
            State::Bidirectional => {
                let named_at = self.announce(now, stream);
                for &dcs in &members {
                    self.negotiate(now, dcs);
                    let resend_at = &mut self.alignment_mut(dcs).resend_at;
                    *resend_at = [*resend_at, named_at].into_iter().flatten().min();
                }
            }
        }
        if from == State::Bidirectional {
            for &dcs in &members {
                self.align_down(now, dcs);
            }
        }
        if matches!(to, State::Down | State::Waiting) {
            self.forget_names(at);
        }
        self.release_due(now.time);
    }

    /// Says Hello before the first CA message, which a neighbour that has not heard its own name
    /// would ignore (H-12). On a multipoint link many may get here at once, so the gap holds; then
    /// the time of the Hello is returned, after which the CA message is to go out once more.
    fn announce(&mut self, now: Now, stream: usize) -> Option<Time> {
        let own = &mut self.streams[stream];
        let earliest = own.earliest(now.time);
        if matches!(own.to, Destination::Group(_)) && earliest > now.time {
            own.hasten(now.time);
            return Some(earliest);
        }
        self.send_hello(now, stream);
        None
    }

    fn stop_if_down(&mut self, stream: usize) {
        let own = &mut self.streams[stream];
        let is_down = |at: &usize| self.servers[*at].hello.state() == State::Down;
        if own.servers.iter().all(is_down) {
            own.due = None;
        }
    }

    /// Notices who is stalled (H-07) and sends the Hellos that are due (H-03).
    pub(super) fn handle_hello_timeouts(&mut self, now: Now) {
        for at in 0..self.servers.len() {
            while let Some(edge) = self.servers[at].hello.stalled(now.time) {
                self.follow(now, at, Some(edge));
            }
        }
        for stream in 0..self.streams.len() {
            if self.streams[stream].due.is_some_and(|due| now.time >= due) {
                self.send_hello(now, stream);
            }
        }
    }

    pub(super) fn next_hello_deadline(&self) -> Option<Time> {
        let stalls = self
            .servers
            .iter()
            .filter_map(|server| server.hello.next_deadline());
        stalls
            .chain(self.streams.iter().filter_map(|stream| stream.due))
            .min()
    }

    /// Hello (RFC 2334 B.2.5): names the DCSs of its stream that are heard and not stalled, so on a
    /// unicast link at most that one (H-04, H-09).
    fn send_hello(&mut self, now: Now, stream: usize) {
        let setup = Arc::clone(&self.setup);
        let own = &self.streams[stream];
        let (to, names, instance) = (own.to, own.names, setup.instance_of(own.names));
        let heard = own
            .servers
            .iter()
            .filter_map(|at| self.servers[*at].hello.dcsid());
        let ids: Vec<&[u8]> = heard.map(ServerId::as_bytes).collect();
        let first = ids.first().copied().unwrap_or_default();
        let header = Header {
            protocol: instance.protocol,
            group: instance.group,
            sender: setup.lsid.as_bytes(),
            receiver: first,
        };
        let fields = HelloFields {
            interval_secs: instance.hello_interval_secs,
            dead_factor: instance.dead_factor,
            family: instance.family,
        };
        let fixed = overhead(MessageType::Hello, header.sender.len(), first.len());
        let further = ids.iter().skip(1).map(|id| 1 + id.len());
        let own = &setup.dcs[names.index()];
        let largest = own.datagram_limit.saturating_sub(own.auth.room());
        let largest = largest.min(HELLO_LEN_MAX);
        let needed = (fixed + further.sum::<usize>()).min(largest).max(fixed);
        let mut bytes = vec![0; needed];
        let mut builder =
            Builder::hello(&mut bytes, needed, &header, fields).expect("a Hello of two ids fits");
        for id in ids.iter().skip(1) {
            if !builder.push_receiver(id) {
                break; // More than HELLO_RECEIVERS_MAX, with long ids.
            }
        }
        let len = builder.finish();
        bytes.truncate(len);
        self.transmit(now, names, to, bytes);
        let interval = Duration::from_secs(u64::from(instance.hello_interval_secs));
        let interval = self.jitter.shorten(interval);
        let own = &mut self.streams[stream];
        own.sent_at = Some(now.time);
        own.due = Some(now.time.saturating_add(interval));
    }
}

/// Source of the Hello jitter, seeded from outside (splitmix64).
#[derive(Debug)]
pub(super) struct Jitter(pub(super) u64);

impl Jitter {
    /// Shortens by 3 to 10 percent, so that neither the jitter nor a late wake-up lets the gap
    /// exceed what was advertised (H-03).
    pub(super) fn shorten(&mut self, interval: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        let permille = u32::try_from(900 + mixed % 71).expect("at most 970");
        interval * permille / 1000
    }
}
