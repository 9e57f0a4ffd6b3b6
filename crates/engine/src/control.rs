//! The `Control` core: hello and alignment machines of every DCS.
//!
//! Contract: after any call that takes `&mut self`, poll [`Control::poll_message`],
//! [`Control::poll_transmit`] and [`Control::poll_notice`] until each returns `None`, and come back
//! with [`Control::handle_timeouts`] at [`Control::next_deadline`]. Messages come first: the answer
//! to a packet may be on its way to a shard before the shard knows that it may take it in.

mod boot;
mod exchange;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use scsp_wire::{Builder, CaSeq, Envelope, Header, HelloFields, Message, ServerId};

use crate::alignment::{self, Alignment, Role};
use crate::hello::{self, Edge, Heard, Hello};
use crate::message::{Abnormal, ToControl, ToShard};
use crate::setup::{DcsIndex, Destination, InstanceIndex, LinkIndex, Setup, ShardIndex};
use crate::{Now, Time};

use boot::Hold;

/// Octets of the largest Hello of a unicast link, and more: two ids of 255 octets and headers.
const HELLO_LEN_MAX: usize = 1024;
/// Between two notices of a suspected duplicate id behind one neighbour.
const SUSPICION_GAP: Duration = Duration::from_mins(1);

/// A packet that `Control` wants sent.
#[derive(Debug)]
pub struct Outgoing {
    /// Its receiver.
    pub to: Destination,
    /// The packet.
    pub bytes: Vec<u8>,
}

/// Something worth a log line or a metric.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "few are made, none is kept")]
pub enum Notice {
    /// A hello machine moved.
    Hello {
        /// The neighbour.
        dcs: DcsIndex,
        /// State left.
        from: hello::State,
        /// State entered.
        to: hello::State,
    },
    /// A cache alignment machine moved.
    Alignment {
        /// The neighbour.
        dcs: DcsIndex,
        /// State left.
        from: alignment::State,
        /// State entered.
        to: alignment::State,
        /// Time since Negotiation was entered, when the state entered is Aligned.
        took: Option<Duration>,
    },
    /// The neighbour announces this server's own id (D-10).
    DuplicateId {
        /// The neighbour.
        dcs: DcsIndex,
    },
    /// Own records keep coming back changed from behind the neighbour: some server there may use
    /// this server's id (D-12).
    SuspectedDuplicateId {
        /// The neighbour.
        dcs: DcsIndex,
    },
    /// The neighbour announces another id than configured (D-11).
    UnexpectedId {
        /// The neighbour.
        dcs: DcsIndex,
        /// What it announces.
        id: ServerId,
    },
    /// An abnormal event (H-11).
    Abnormal {
        /// The neighbour.
        dcs: DcsIndex,
        /// What happened.
        cause: Abnormal,
    },
    /// The boot hold of an instance is over (D-09).
    Released {
        /// The instance.
        instance: InstanceIndex,
    },
}

/// What there is to know of a DCS.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Announced id, while heard.
    pub id: Option<ServerId>,
    /// Hello machine.
    pub hello: hello::State,
    /// Alignment machine.
    pub alignment: alignment::State,
    /// Role in the exchange.
    pub role: Option<Role>,
    /// When the alignment state was entered.
    pub since: Time,
    /// When the last Hello came.
    pub last_hello: Option<Time>,
    /// Hellos later than the neighbour's own interval (H-08).
    pub late_hellos: u64,
    /// The neighbour announces our own id (D-10).
    pub duplicate_id: bool,
    /// Abnormal events, in the order of [`Abnormal::ALL`].
    pub abnormal: [u64; Abnormal::ALL.len()],
    /// Transitions of the hello and of the alignment machine.
    pub transitions: [u64; 2],
}

/// One DCS.
#[derive(Debug)]
struct Dcs {
    hello: Hello,
    alignment: Alignment,
    duplicate_id: bool,
    unexpected_id: Option<ServerId>,
    /// When a duplicate of this server's id was suspected behind the neighbour last (D-12).
    suspected_at: Option<Time>,
    abnormal: [u64; Abnormal::ALL.len()],
    transitions: [u64; 2],
}

/// The `Control` core.
#[derive(Debug)]
pub struct Control {
    setup: Arc<Setup>,
    dcs: Vec<Dcs>,
    holds: Vec<Hold>,
    jitter: Jitter,
    transmits: VecDeque<Outgoing>,
    messages: VecDeque<(ShardIndex, ToShard)>,
    notices: VecDeque<Notice>,
    /// Packets not taken in, by what was wrong with them.
    ignored: u64,
}

impl Control {
    /// All machines in Down. `seed` feeds the Hello jitter.
    pub fn new(setup: Arc<Setup>, now: Now, seed: u64) -> Self {
        let dcs = setup
            .dcs
            .iter()
            .map(|_| Dcs {
                hello: Hello::new(now.time),
                alignment: Alignment::new(now.time, setup.shards),
                duplicate_id: false,
                unexpected_id: None,
                suspected_at: None,
                abnormal: [0; Abnormal::ALL.len()],
                transitions: [0; 2],
            })
            .collect();
        let holds = Hold::all(&setup, now.time);
        let mut control = Self {
            setup,
            dcs,
            holds,
            jitter: Jitter(seed),
            transmits: VecDeque::new(),
            messages: VecDeque::new(),
            notices: VecDeque::new(),
            ignored: 0,
        };
        control.release_due(now.time);
        control
    }

    /// Connectivity of `link` came or went, for all DCSs reached over it (H-02).
    pub fn handle_link(&mut self, now: Now, link: LinkIndex, up: bool) {
        let event = if up {
            hello::Event::LinkUp
        } else {
            hello::Event::LinkDown
        };
        let setup = Arc::clone(&self.setup);
        for dcs in setup.dcs_on(link) {
            let edge = self.dcs[dcs.index()].hello.handle(now.time, event);
            self.follow(now, dcs, edge);
        }
        self.handle_timeouts(now);
    }

    /// The operator resets a neighbour.
    pub fn handle_clear(&mut self, now: Now, dcs: DcsIndex) {
        self.handle_abnormal(now, dcs, Abnormal::Cleared);
    }

    /// Takes in a message of shard cores.
    pub fn handle_message(&mut self, now: Now, message: ToControl) {
        match message {
            ToControl::Packet { dcs, shard, bytes } => self.handle_packet(now, dcs, shard, bytes),
            ToControl::Abnormal { dcs, cause } => self.handle_abnormal(now, dcs, cause),
            ToControl::Page {
                dcs,
                epoch,
                shard,
                page,
            } => {
                self.handle_page(now, dcs, epoch, shard, page);
            }
            ToControl::Compared {
                dcs,
                epoch,
                shard,
                wanting,
            } => {
                self.handle_compared(now, dcs, epoch, shard, wanting);
            }
            ToControl::Wanting { dcs, epoch, shard } => self.handle_wanting(dcs, epoch, shard),
            ToControl::TurnOver { dcs, epoch, shard } => {
                self.handle_turn_over(now, dcs, epoch, shard);
            }
            ToControl::MovedOn { dcs, epoch } => {
                let alignment = &mut self.dcs[dcs.index()].alignment;
                if alignment.epoch == epoch && alignment.state.is_updating() {
                    alignment.last_ca.clear(); // CA-15
                }
            }
            ToControl::OwnRepeated { dcs } => self.handle_own_repeated(now, dcs),
        }
    }

    /// Takes in a packet that was found valid.
    fn handle_packet(&mut self, now: Now, dcs: DcsIndex, shard: ShardIndex, bytes: Vec<u8>) {
        let Ok(envelope) = Envelope::parse(&bytes) else {
            return;
        };
        let Ok(message) = envelope.open() else { return };
        let Some(sender) = ServerId::from_bytes(envelope.sender()) else {
            self.ignored += 1;
            return;
        };
        match message {
            Message::Hello(hello) => {
                let heard = Heard {
                    sender: &sender,
                    names_us: hello.receivers().any(|id| id == self.setup.lsid.as_bytes()),
                    interval: hello.hello_interval,
                    dead_factor: hello.dead_factor,
                };
                self.handle_hello(now, dcs, heard);
            }
            Message::Ca(ca) => self.handle_ca(now, dcs, &envelope, &ca),
            Message::CsuRequest(_) | Message::CsuReply(_) | Message::Csus(_) => {
                // CSU-01: the shard did not know yet whether it may flow.
                if self.dcs[dcs.index()].alignment.state.is_updating() {
                    self.tell(shard, ToShard::Packet { dcs, bytes });
                } else {
                    self.ignored += 1;
                }
            }
        }
    }

    fn handle_hello(&mut self, now: Now, dcs: DcsIndex, heard: Heard<'_>) {
        let peer = &mut self.dcs[dcs.index()];
        if *heard.sender == self.setup.lsid {
            if !peer.duplicate_id {
                self.notices.push_back(Notice::DuplicateId { dcs }); // D-10
            }
            peer.duplicate_id = true;
            return;
        }
        if self.setup.dcs[dcs.index()]
            .expected_id
            .is_some_and(|id| id != *heard.sender)
        {
            if peer.unexpected_id != Some(*heard.sender) {
                self.notices.push_back(Notice::UnexpectedId {
                    dcs,
                    id: *heard.sender,
                }); // D-11
            }
            peer.unexpected_id = Some(*heard.sender);
            return;
        }
        peer.duplicate_id = false;
        peer.unexpected_id = None;
        let edges = peer.hello.heard(now.time, heard);
        for edge in edges {
            self.follow(now, dcs, edge);
        }
        self.handle_timeouts(now);
    }

    /// Another server may use our id (D-12); said once per neighbour in [`SUSPICION_GAP`].
    fn handle_own_repeated(&mut self, now: Now, dcs: DcsIndex) {
        let peer = &mut self.dcs[dcs.index()];
        if peer
            .suspected_at
            .is_none_or(|at| now.time >= at.saturating_add(SUSPICION_GAP))
        {
            peer.suspected_at = Some(now.time);
            self.notices.push_back(Notice::SuspectedDuplicateId { dcs });
        }
    }

    /// An abnormal event resets the neighbour (H-11, CSU-06, D-02, D-13).
    fn handle_abnormal(&mut self, now: Now, dcs: DcsIndex, cause: Abnormal) {
        let peer = &mut self.dcs[dcs.index()];
        let slot = Abnormal::ALL.iter().position(|&known| known == cause);
        peer.abnormal[slot.expect("ALL lists every cause")] += 1;
        self.notices.push_back(Notice::Abnormal { dcs, cause });
        if cause == Abnormal::Malformed && self.setup.instance_of(dcs).ignore_abnormal {
            return; // D-02
        }
        let edge = self.dcs[dcs.index()]
            .hello
            .handle(now.time, hello::Event::Abnormal);
        self.follow(now, dcs, edge);
        self.handle_timeouts(now);
    }

    /// Effects of a hello edge on what depends on it (CA-01, H-13).
    fn follow(&mut self, now: Now, dcs: DcsIndex, edge: Option<Edge>) {
        let Some(Edge { from, to }) = edge else {
            return;
        };
        self.dcs[dcs.index()].transitions[0] += 1;
        self.notices.push_back(Notice::Hello { dcs, from, to });
        match (from, to) {
            (_, hello::State::Bidirectional) => {
                self.send_hello(now, dcs); // before the first CA message
                self.negotiate(now, dcs);
            }
            (hello::State::Bidirectional, _) => self.align_down(now, dcs),
            _ => {}
        }
        self.release_due(now.time);
    }

    /// Sends what is due and notices who is stalled.
    pub fn handle_timeouts(&mut self, now: Now) {
        for index in 0..self.dcs.len() {
            let dcs = DcsIndex(u16::try_from(index).expect("checked when configured"));
            while let Some(edge) = self.dcs[index].hello.stalled(now.time) {
                self.follow(now, dcs, Some(edge));
            }
            if self.dcs[index].hello.is_due(now.time) {
                self.send_hello(now, dcs);
            }
            if self.dcs[index]
                .alignment
                .resend_at
                .is_some_and(|at| now.time >= at)
            {
                self.resend_ca(now, dcs);
            }
        }
        self.release_due(now.time);
    }

    /// When to call [`handle_timeouts`](Self::handle_timeouts) at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        let peers = self
            .dcs
            .iter()
            .flat_map(|dcs| [dcs.hello.next_deadline(), dcs.alignment.resend_at])
            .flatten();
        peers
            .chain(self.holds.iter().filter_map(Hold::next_deadline))
            .min()
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Outgoing> {
        self.transmits.pop_front()
    }

    /// The next message for a shard.
    pub fn poll_message(&mut self) -> Option<(ShardIndex, ToShard)> {
        self.messages.pop_front()
    }

    /// The next notice.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// State of `dcs`.
    pub fn peer(&self, dcs: DcsIndex) -> PeerStatus {
        let peer = &self.dcs[dcs.index()];
        PeerStatus {
            id: peer.hello.dcsid().copied(),
            hello: peer.hello.state(),
            alignment: peer.alignment.state,
            role: peer.alignment.role(),
            since: peer.alignment.since,
            last_hello: peer.hello.heard_at(),
            late_hellos: peer.hello.late_hellos(),
            duplicate_id: peer.duplicate_id,
            abnormal: peer.abnormal,
            transitions: peer.transitions,
        }
    }

    /// Whether `instance` still waits for its neighbours before it originates (D-09).
    pub fn is_held(&self, instance: InstanceIndex) -> bool {
        !self.holds[instance.index()].released
    }

    /// Packets that `Control` did not take in.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Hello (RFC 2334 B.2.5): on a unicast link it names at most this DCS (H-04, H-09).
    fn send_hello(&mut self, now: Now, dcs: DcsIndex) {
        let setup = Arc::clone(&self.setup);
        let instance = setup.instance_of(dcs);
        let peer = &mut self.dcs[dcs.index()];
        let header = Header {
            protocol: instance.protocol,
            group: instance.group,
            sender: setup.lsid.as_bytes(),
            receiver: peer.hello.dcsid().map_or(&[][..], |id| id.as_bytes()),
        };
        let fields = HelloFields {
            interval_secs: instance.hello_interval_secs,
            dead_factor: instance.dead_factor,
            family: instance.family,
        };
        let mut bytes = vec![0; HELLO_LEN_MAX];
        let builder = Builder::hello(&mut bytes, HELLO_LEN_MAX, &header, fields)
            .expect("a Hello of two ids fits");
        let len = builder.finish();
        bytes.truncate(len);
        let to = Destination::Dcs(dcs);
        self.transmits.push_back(Outgoing { to, bytes });
        let interval = Duration::from_secs(u64::from(instance.hello_interval_secs));
        let interval = self.jitter.shorten(interval);
        self.dcs[dcs.index()].hello.sent(now.time, interval);
    }

    fn tell(&mut self, shard: ShardIndex, message: ToShard) {
        self.messages.push_back((shard, message));
    }

    fn tell_all(&mut self, mut message: impl FnMut() -> ToShard) {
        for shard in (0..self.setup.shards).map(ShardIndex) {
            self.messages.push_back((shard, message()));
        }
    }

    fn alignment_mut(&mut self, dcs: DcsIndex) -> &mut Alignment {
        &mut self.dcs[dcs.index()].alignment
    }

    /// A CA sequence that the DCS has not seen: Unix milliseconds, or one more than the last one
    /// where the exchanges ran ahead of the clock (CA-02).
    fn fresh_sequence(&mut self, now: Now, dcs: DcsIndex) -> CaSeq {
        let last = self.dcs[dcs.index()].alignment.used;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "serial numbers wrap by design"
        )]
        let clock = CaSeq(now.unix_ms as u32);
        match alignment::Offset::of(clock, last) {
            alignment::Offset::Next | alignment::Offset::Newer => clock,
            _ if last == CaSeq(0) => clock,
            _ => last.next(),
        }
    }
}

/// Source of the Hello jitter, seeded from outside (splitmix64).
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    /// Shortens by 3 to 10 percent, so that neither the jitter nor a late wake-up lets the gap
    /// exceed what was advertised (H-03).
    fn shorten(&mut self, interval: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        let permille = u32::try_from(900 + mixed % 71).expect("at most 970");
        interval * permille / 1000
    }
}
