//! Rules broken on purpose, outside the cores, to prove that the checks notice: at least one for
//! every [`Check`](crate::Check).

use scsp_engine::message::ToShard;
use scsp_engine::{DcsIndex, alignment};
use scsp_profile::KvBody;
use scsp_wire::{
    Builder, Envelope, Header, Message, MessageType, SummaryFields, checksum, overhead,
    set_hop_count,
};

use crate::client::{self, Write};
use crate::hub::{CoreMessage, instance_index};
use crate::plan::SEC;
use crate::world::World;

/// What hub 0, or the world, does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Hub 0 acknowledges records and drops them.
    SwallowedRecords,
    /// Hub 0 sends no CA messages.
    MutedAlignment,
    /// Hub 0 sends no Hellos any more.
    MutedHello,
    /// Hub 0 sends records without hops left.
    SpentHops,
    /// Hub 0 sends records on with all hops.
    RenewedHops,
    /// Hub 0 sends records with an earlier sequence than it holds.
    StaleRecord,
    /// Hub 0 sends records with a longer life than they have.
    RenewedLife,
    /// Hub 0 sends an update while it negotiates.
    EarlyUpdate,
    /// Hub 0 sends a second CA message without waiting for the answer to the first.
    SecondCa,
    /// Hub 0 sends a CA message further ahead than its window.
    OverrunWindow,
    /// Hub 0 answers a CA message that has not come to it.
    AnsweredGap,
    /// Hub 0 leaves the summaries out of its CA messages.
    LostPage,
    /// Hub 0 sends a CA message again with another O bit.
    ChangedCa,
    /// Hub 0 sends a second CSUS without waiting for what the first asked for.
    SecondCsus,
    /// Hub 0 sends a CA message before any Hello.
    EarlyCa,
    /// Hub 0 damages what it sends.
    DamagedPacket,
    /// Hub 0 signs wrongly.
    WrongMac,
    /// Hub 0 sends more than its link's packet limit allows.
    OversizedPacket,
    /// Links repair the checksum of what they damaged.
    RepairedDamage,
    /// Hub 0 remembers less than it held a moment ago.
    RewoundEntry,
    /// Hub 0 queues records again and again.
    EndlessQueue,
    /// Hub 0 wants to be called again at once, for ever.
    RestlessTimer,
    /// Hub 0 stores another value than it was given.
    WrongValue,
    /// Hub 0 writes at once after a restart, whoever remembers what it wrote before.
    SkippedHold,
    /// Hub 0 sends each Hello three times once all is quiet.
    RepeatedHello,
    /// Hub 0 sends an empty reply with each Hello once all is quiet.
    LateReply,
    /// An acknowledged write never reached a hub.
    ForgottenWrite,
    /// An acknowledged delete never reached a hub.
    ForgottenDelete,
    /// A core panics.
    Panic,
}

/// From here on hub 0 breaks the rules.
const BEGINS_AT: u64 = 4 * SEC;
/// Where a kv body holds the remaining life.
const LIFE_FIELD: std::ops::Range<usize> = 4..8;

impl World {
    /// Whether hub 0 is to break this rule now.
    pub(crate) fn breaks(&self, hub: usize, kind: Sabotage) -> bool {
        hub == 0 && self.options().sabotage == Some(kind) && self.now() >= BEGINS_AT
    }

    /// Hub 0 drops the records of a packet and acknowledges them all the same.
    pub(crate) fn swallows(
        &mut self,
        hub: usize,
        dcs: DcsIndex,
        message: Option<&Message<'_>>,
    ) -> bool {
        let Some(Message::CsuRequest(request)) = message else {
            return false;
        };
        if !self.breaks(hub, Sabotage::SwallowedRecords)
            || self.alignment(hub, dcs) != Some(alignment::State::Aligned)
        {
            return false;
        }
        let envelope = request.envelope();
        let header = Header {
            protocol: envelope.protocol(),
            group: envelope.group(),
            sender: envelope.receiver(),
            receiver: envelope.sender(),
        };
        let mut bytes = vec![0; 65_507];
        let mut reply = Builder::csu_reply(&mut bytes, 65_507, &header).expect("two ids fit");
        for record in request.records() {
            reply.push_summary(&SummaryFields {
                hop_count: 1,
                ..record.summary.fields()
            });
        }
        let len = reply.finish();
        self.carry_to(hub, dcs, &bytes[..len]);
        true
    }

    /// Hub 0 lets its shards write before the hold is over (D-09).
    pub(crate) fn skip_hold(&mut self, hub: usize) {
        if !self.breaks(hub, Sabotage::SkippedHold) {
            return;
        }
        let clocks = self.clocks(hub);
        for instance in 0..self.plan().instances.len() {
            let instance = instance_index(instance);
            for shard in &mut self.cores(hub).shards {
                let aligned = false;
                shard.handle_message(clocks, ToShard::Release { instance, aligned });
            }
        }
    }

    /// A client believes in something that no hub has heard of.
    pub(crate) fn forget(&mut self) {
        let withdrawn = match self.options().sabotage {
            Some(Sabotage::ForgottenWrite) => false,
            Some(Sabotage::ForgottenDelete) => true,
            _ => return,
        };
        let chain = if withdrawn {
            self.live_chain()
        } else {
            client::chain(self.plan(), 0, 0, 0)
        };
        let Some(chain) = chain else { return };
        let write = Write {
            run: self.run_of(0),
            at: self.now(),
            seq: i32::MAX,
            stamp: u64::MAX,
            withdrawn,
            content: if withdrawn {
                Vec::new()
            } else {
                b"never written".to_vec()
            },
            expires: None,
            lost: false,
        };
        self.believe(chain, write);
    }

    /// What goes out in place of a packet to `dcs`, or to all on its multipoint link: `None`:
    /// nothing; empty: the packet itself.
    pub(crate) fn sabotaged(
        &self,
        hub: usize,
        dcs: DcsIndex,
        to_all: bool,
        bytes: &[u8],
    ) -> Option<Vec<Vec<u8>>> {
        let Some(sabotage) = self.options().sabotage.filter(|_| hub == 0) else {
            return Some(Vec::new());
        };
        let envelope = Envelope::parse(bytes).expect("a core built it");
        let kind = envelope.message_type();
        let header = Header {
            protocol: envelope.protocol(),
            group: envelope.group(),
            sender: envelope.sender(),
            receiver: envelope.receiver(),
        };
        let late = self.now() >= BEGINS_AT;
        let mut copy = bytes.to_vec();
        let first = overhead(kind, header.sender.len(), header.receiver.len());
        if to_all
            && sabotage == Sabotage::EarlyUpdate
            && self.alignment(hub, dcs) == Some(alignment::State::Negotiation)
        {
            let receiver = &[0xFF; 4];
            let early = Header { receiver, ..header };
            return Some(vec![copy, empty(MessageType::CsuRequest, &early)]);
        }
        match (sabotage, kind) {
            (Sabotage::MutedAlignment, MessageType::Ca) => None,
            (Sabotage::MutedHello, MessageType::Hello) if late => None,
            (Sabotage::SpentHops, MessageType::CsuRequest) if late => {
                set_hop_count(&mut copy[first..], 0);
                Some(vec![sealed(copy)])
            }
            (Sabotage::RenewedHops, MessageType::CsuRequest) if late => {
                set_hop_count(&mut copy[first..], self.plan().timing.hop_count);
                Some(vec![sealed(copy)])
            }
            (Sabotage::StaleRecord, MessageType::CsuRequest) if late => {
                copy[first + SEQUENCE_LAST] ^= 0x40;
                Some(vec![sealed(copy)])
            }
            (Sabotage::RenewedLife, MessageType::CsuRequest) if late => {
                Some(vec![renew_life(copy, first)])
            }
            (Sabotage::EarlyUpdate, MessageType::Ca)
                if self.alignment(hub, dcs) == Some(alignment::State::Negotiation) =>
            {
                Some(vec![copy, empty(MessageType::CsuRequest, &header)])
            }
            (Sabotage::SecondCa, MessageType::Ca) => {
                let other = |bit| {
                    let mut other = copy.clone();
                    other[8] ^= bit; // In the CA sequence.
                    sealed(other)
                };
                Some(vec![copy.clone(), other(0x40), other(0x20)])
            }
            (
                Sabotage::OverrunWindow
                | Sabotage::AnsweredGap
                | Sabotage::LostPage
                | Sabotage::ChangedCa,
                MessageType::Ca,
            ) => Some(exchange_broken(sabotage, &envelope, &header)),
            (Sabotage::SecondCsus, MessageType::Csus) => Some(vec![copy.clone(), copy]),
            (Sabotage::EarlyCa, MessageType::Hello) if header.receiver.is_empty() => {
                let neighbour = self.neighbour_id(hub, dcs);
                let receiver = neighbour.as_bytes();
                Some(vec![empty(MessageType::Ca, &Header { receiver, ..header })])
            }
            (Sabotage::DamagedPacket, _) if late => {
                *copy.last_mut().expect("packets are not empty") ^= 1;
                Some(vec![copy])
            }
            (Sabotage::WrongMac, _) if late => {
                let mac = copy.len() - END_OF_EXTENSIONS - 1;
                copy[mac] ^= 1;
                Some(vec![sealed(copy)])
            }
            (Sabotage::OversizedPacket, MessageType::CsuReply) if late => {
                Some(vec![oversized(&envelope, &header)])
            }
            (Sabotage::RepeatedHello, MessageType::Hello) if self.is_quiet() => {
                Some(vec![copy.clone(), copy.clone(), copy])
            }
            (Sabotage::LateReply, MessageType::Hello)
                if self.is_quiet() && !header.receiver.is_empty() =>
            {
                Some(vec![copy, empty(MessageType::CsuReply, &header)])
            }
            _ => Some(Vec::new()),
        }
    }

    /// Core messages are of no use to a sabotage that only panics.
    pub(crate) fn panics(&self, hub: usize, message: &CoreMessage) {
        let sabotaged = self.breaks(hub, Sabotage::Panic) && !message.is_hello();
        assert!(!sabotaged, "sabotage");
    }
}

/// Octets behind the MAC.
const END_OF_EXTENSIONS: usize = 4;
/// The lowest octet of a record's sequence.
const SEQUENCE_LAST: usize = 11;

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    checksum::seal(&mut bytes);
    bytes
}

/// What goes out in place of a CA message beyond the negotiation; empty: the message itself.
fn exchange_broken(
    sabotage: Sabotage,
    envelope: &Envelope<'_>,
    header: &Header<'_>,
) -> Vec<Vec<u8>> {
    let Ok(Message::Ca(ca)) = envelope.open() else {
        return Vec::new();
    };
    let bytes = envelope.bytes();
    let (number, flags) = (ca.seq.0, ca.flags);
    let renumbered = |number: u32| {
        let mut copy = bytes.to_vec();
        copy[8..12].copy_from_slice(&number.to_be_bytes());
        sealed(copy)
    };
    match sabotage {
        _ if flags.initialize => Vec::new(),
        Sabotage::OverrunWindow if flags.master => vec![renumbered(number.wrapping_add(65))],
        Sabotage::AnsweredGap if !flags.master => vec![renumbered(number.wrapping_add(2))],
        Sabotage::ChangedCa => {
            let mut copy = bytes.to_vec();
            copy[18] ^= 0x20; // O
            vec![bytes.to_vec(), sealed(copy)]
        }
        Sabotage::LostPage if ca.extensions().len() == 0 => {
            let mut copy = vec![0; 1024];
            let builder = Builder::ca(&mut copy, 1024, header, ca.seq, flags);
            let len = builder.expect("two ids fit").finish();
            copy.truncate(len);
            vec![copy]
        }
        _ => Vec::new(),
    }
}

/// A message without records.
fn empty(kind: MessageType, header: &Header<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    let builder = match kind {
        MessageType::CsuRequest => Builder::csu_request(&mut bytes, 1024, header),
        MessageType::CsuReply => Builder::csu_reply(&mut bytes, 1024, header),
        _ => {
            let flags = scsp_wire::CaFlags {
                master: true,
                initialize: true,
                more: true,
            };
            Builder::ca(&mut bytes, 1024, header, scsp_wire::CaSeq(1), flags)
        }
    };
    let len = builder.expect("two ids fit").finish();
    bytes.truncate(len);
    bytes
}

/// A reply that acknowledges its first record until no datagram can hold more.
fn oversized(envelope: &Envelope<'_>, header: &Header<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 65_507];
    let mut reply = Builder::csu_reply(&mut bytes, 65_507, header).expect("two ids fit");
    if let Ok(Message::CsuReply(given)) = envelope.open()
        && let Some(summary) = given.summaries().next()
    {
        while reply.push_summary(&summary.fields()) {}
    }
    let len = reply.finish();
    bytes.truncate(len);
    bytes
}

/// The packet, with two more minutes for its first kv record if that has a limited life.
fn renew_life(mut bytes: Vec<u8>, first: usize) -> Vec<u8> {
    let envelope = Envelope::parse(&bytes).expect("a core built it");
    let Ok(Message::CsuRequest(request)) = envelope.open() else {
        return bytes;
    };
    let Some(record) = request.records().next() else {
        return bytes;
    };
    let Some(life) = KvBody::parse(record.body)
        .ok()
        .and_then(|body| body.life_ms)
    else {
        return bytes;
    };
    let body = first + record.wire.len() - record.body.len();
    let field = body + LIFE_FIELD.start..body + LIFE_FIELD.end;
    bytes[field].copy_from_slice(&(life + 120_000).to_be_bytes());
    sealed(bytes)
}
