//! The `Control` core: hello and alignment machines of every DCS.
//!
//! Contract: after any call that takes `&mut self`, poll [`Control::poll_message`],
//! [`Control::poll_transmit`] and [`Control::poll_notice`] until each returns `None`, and come back
//! with [`Control::handle_timeouts`] at [`Control::next_deadline`]. Messages come first: the answer
//! to a packet may be on its way to a shard before the shard knows that it may take it in.

mod aside;
mod auth;
mod boot;
mod exchange;
mod hellos;
mod mesh;
mod summaries;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use scsp_wire::{CaSeq, Envelope, FamilyId, Message, ServerId};

use crate::alignment::{self, Alignment, Role};
use crate::auth::AuthFailure;
use crate::doorkeeper::{Doorkeeper, Drop, PacketCounters};
use crate::hello;
use crate::message::{Abnormal, ToControl, ToShard};
use crate::setup::{DcsIndex, Destination, InstanceIndex, Setup, ShardIndex};
use crate::shard::shard_of;
use crate::{Now, Time};

use aside::Aside;
use boot::Hold;
use hellos::{Server, Stream};

pub use hellos::{HELLO_GAP_MIN, HELLO_RECEIVERS_MAX};

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
    /// The neighbour's Hellos are of another family than this server's instance; they are ignored
    /// (H-14).
    UnexpectedFamily {
        /// The neighbour.
        dcs: DcsIndex,
        /// The family announced.
        family: FamilyId,
    },
    /// An abnormal event (H-11).
    Abnormal {
        /// The neighbour.
        dcs: DcsIndex,
        /// What happened.
        cause: Abnormal,
        /// How often.
        count: u64,
    },
    /// Packets that seemed to be of the neighbour failed authentication and were dropped.
    Unauthenticated {
        /// The neighbour.
        dcs: DcsIndex,
        /// Why.
        failure: AuthFailure,
        /// How many.
        count: u64,
    },
    /// No key is valid for sending to the neighbour.
    NoSendKey {
        /// The neighbour.
        dcs: DcsIndex,
        /// A packet was not sent; otherwise it went unsigned.
        withheld: bool,
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
    /// Its hello machine in [`Control::servers`].
    server: usize,
    alignment: Alignment,
    /// When a duplicate of this server's id was suspected behind the neighbour last (D-12).
    suspected_at: Option<Time>,
    abnormal: [u64; Abnormal::ALL.len()],
    transitions: [u64; 2],
}

/// The `Control` core.
#[derive(Debug)]
pub struct Control {
    setup: Arc<Setup>,
    door: Doorkeeper,
    dcs: Vec<Dcs>,
    servers: Vec<Server>,
    streams: Vec<Stream>,
    holds: Vec<Hold>,
    jitter: hellos::Jitter,
    transmits: VecDeque<Outgoing>,
    messages: VecDeque<(ShardIndex, ToShard)>,
    aside: Aside,
    /// Time of the latest input.
    now: Time,
    notices: VecDeque<Notice>,
    /// Packets not taken in, by what was wrong with them.
    ignored: u64,
    /// Packets not sent for want of a key.
    withheld: u64,
}

impl Control {
    /// All machines in Down. `seed` feeds the Hello jitter.
    pub fn new(setup: Arc<Setup>, now: Now, seed: u64) -> Self {
        let (servers, streams, server_of) = hellos::arrange(&setup, now.time);
        let dcs = server_of
            .into_iter()
            .map(|server| Dcs {
                server,
                alignment: Alignment::new(now.time, setup.shards),
                suspected_at: None,
                abnormal: [0; Abnormal::ALL.len()],
                transitions: [0; 2],
            })
            .collect();
        let holds = Hold::all(&setup, now.time);
        let aside = Aside::new(setup.shards, setup.dcs.len());
        let mut control = Self {
            door: Doorkeeper::new(&setup),
            setup,
            dcs,
            servers,
            streams,
            holds,
            jitter: hellos::Jitter(seed),
            transmits: VecDeque::new(),
            messages: VecDeque::new(),
            aside,
            now: now.time,
            notices: VecDeque::new(),
            ignored: 0,
            withheld: 0,
        };
        control.release_due(now.time);
        control
    }

    /// The operator resets a neighbour, in all instances of its family (H-14).
    pub fn handle_clear(&mut self, now: Now, dcs: DcsIndex) {
        self.handle_abnormal(now, dcs, None, Abnormal::Cleared, 1);
    }

    /// Takes in a message of shard cores.
    pub fn handle_message(&mut self, now: Now, message: ToControl) {
        self.now = now.time;
        match message {
            ToControl::Packet { dcs, shard, bytes } => {
                self.handle_forwarded(now, dcs, shard, bytes);
            }
            ToControl::Abnormal {
                dcs,
                epoch,
                cause,
                count,
            } => self.handle_abnormal(now, dcs, Some(epoch), cause, count),
            ToControl::Unauthenticated { dcs, epoch, counts } => {
                self.handle_unauthenticated(now, dcs, epoch, counts);
            }
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
                    alignment.flow.release(); // CA-15
                }
            }
            ToControl::OwnRepeated { dcs } => self.handle_own_repeated(now, dcs),
        }
    }

    /// Takes in a packet whose envelope names an instance and came from the address of `dcs`: the
    /// caller may hand Hellos and CA messages in here as well as to a shard, whichever they reach.
    pub fn handle_packet(&mut self, now: Now, dcs: DcsIndex, envelope: &Envelope<'_>) {
        self.now = now.time;
        let epoch = self.dcs[dcs.index()].alignment.epoch;
        let Some(message) = self.door.admit(now, dcs, epoch, envelope) else {
            return self.report_due(now, dcs);
        };
        if self.take_in(now, dcs, envelope, &message) {
            let first = match &message {
                Message::CsuRequest(it) => it.records().next().map(|it| it.summary.key),
                Message::CsuReply(it) => it.summaries().next().map(|it| it.key),
                Message::Csus(it) => it.summaries().next().map(|it| it.key),
                Message::Hello(_) | Message::Ca(_) => None,
            };
            let owner = shard_of(first.unwrap_or_default(), self.setup.shards);
            let bytes = envelope.bytes().to_vec();
            self.tell(owner, ToShard::Packet { dcs, bytes });
        }
    }

    /// Counts a packet that was dropped before it reached [`handle_packet`](Self::handle_packet).
    pub fn drop_packet(&mut self, reason: Drop) {
        self.door.drop_packet(reason);
    }

    /// What was counted of packets that came here first.
    pub fn packets(&self) -> &PacketCounters {
        &self.door.packets
    }

    fn report_due(&mut self, now: Now, dcs: DcsIndex) {
        for message in self.door.take_report(now, dcs) {
            self.handle_message(now, message);
        }
    }

    /// Takes in a packet that a shard found valid.
    fn handle_forwarded(&mut self, now: Now, dcs: DcsIndex, shard: ShardIndex, bytes: Vec<u8>) {
        let Ok(envelope) = Envelope::parse(&bytes) else {
            return;
        };
        let Ok(message) = envelope.open() else { return };
        if self.take_in(now, dcs, &envelope, &message) {
            self.tell(shard, ToShard::Packet { dcs, bytes });
        }
    }

    /// Takes in a valid Hello or CA message. Whether it is for a shard instead: a CSU or CSUS
    /// message that may flow, although the shard that it came to, if any, did not know it yet
    /// (CSU-01).
    fn take_in(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        envelope: &Envelope<'_>,
        message: &Message<'_>,
    ) -> bool {
        let Some(sender) = ServerId::from_bytes(envelope.sender()) else {
            self.ignored += 1;
            return false;
        };
        match message {
            Message::Hello(hello) => self.handle_hello(now, dcs, &sender, hello),
            Message::Ca(ca) => self.handle_ca(now, dcs, envelope, ca),
            Message::CsuRequest(_) | Message::CsuReply(_) | Message::Csus(_) => {
                let may_flow = self.dcs[dcs.index()].alignment.state.is_updating();
                self.ignored += u64::from(!may_flow);
                return may_flow;
            }
        }
        false
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

    /// Sends what is due and notices who is stalled.
    pub fn handle_timeouts(&mut self, now: Now) {
        self.handle_hello_timeouts(now);
        for index in 0..self.dcs.len() {
            let dcs = DcsIndex(u16::try_from(index).expect("checked when configured"));
            let resend_at = self.dcs[index].alignment.resend_at;
            if resend_at.is_some_and(|at| now.time >= at) {
                self.resend_ca(now, dcs);
            }
            self.report_due(now, dcs);
        }
        self.release_due(now.time);
    }

    /// When to call [`handle_timeouts`](Self::handle_timeouts) at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        let alignments = self.dcs.iter().filter_map(|dcs| dcs.alignment.resend_at);
        alignments
            .chain(self.next_hello_deadline())
            .chain(
                (0..)
                    .map(DcsIndex)
                    .zip(&self.dcs)
                    .filter_map(|(dcs, _)| self.door.next_due(dcs)),
            )
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
        let server = &self.servers[peer.server];
        PeerStatus {
            id: server.hello.dcsid().copied(),
            hello: server.hello.state(),
            alignment: peer.alignment.state,
            role: peer.alignment.role(),
            since: peer.alignment.since,
            last_hello: server.hello.heard_at(),
            late_hellos: server.hello.late_hellos(),
            duplicate_id: server.duplicate_id,
            abnormal: peer.abnormal,
            transitions: peer.transitions,
        }
    }

    /// Whether `instance` still waits for its neighbours before it originates (D-09).
    pub fn is_held(&self, instance: InstanceIndex) -> bool {
        !self.holds[instance.index()].released
    }

    /// Whether some exchange of summaries is under way, so that a neighbour's next CA message is
    /// waited for.
    pub fn is_exchanging(&self) -> bool {
        use alignment::State::{Negotiation, Summarize};
        let mut states = self.dcs.iter().map(|dcs| dcs.alignment.state);
        states.any(|state| matches!(state, Negotiation | Summarize))
    }

    /// Packets that `Control` did not take in.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    fn tell(&mut self, shard: ShardIndex, message: ToShard) {
        for message in self.aside.pass(self.now, shard, message) {
            self.messages.extend(message.map(|it| (shard, it)));
        }
    }

    fn tell_all(&mut self, mut message: impl FnMut() -> ToShard) {
        for shard in (0..self.setup.shards).map(ShardIndex) {
            self.tell(shard, message());
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
