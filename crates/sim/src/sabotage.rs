//! Rules broken on purpose, outside the cores, to prove that the checks notice.

use scsp_engine::{DcsIndex, alignment};
use scsp_wire::{
    Builder, Envelope, Header, Message, MessageType, SummaryFields, checksum, overhead,
    set_hop_count,
};

use crate::plan::SEC;
use crate::world::World;

/// What hub 0, or the world, does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Hub 0 acknowledges records and drops them.
    SwallowedRecords,
    /// Hub 0 sends no CA messages.
    MutedAlignment,
    /// Hub 0 sends records without hops left.
    SpentHops,
    /// Hub 0 sends an update while it negotiates.
    EarlyUpdate,
    /// Hub 0 sends a second CA message without waiting for the answer to the first.
    SecondCa,
    /// Hub 0 sends a CA message before any Hello.
    EarlyCa,
    /// Hub 0 damages what it sends.
    DamagedPacket,
    /// An acknowledged write never reached a hub.
    ForgottenWrite,
}

/// From here on hub 0 breaks the rules.
const BEGINS_AT: u64 = 4 * SEC;

impl World {
    fn is_sabotaged(&self, hub: usize, kind: Sabotage) -> bool {
        hub == 0 && self.options().sabotage == Some(kind)
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
        if !self.is_sabotaged(hub, Sabotage::SwallowedRecords)
            || self.now() < BEGINS_AT
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
        self.carry_back(hub, dcs, &bytes[..len]);
        true
    }

    /// What goes out in place of a packet: `None`: nothing; empty: the packet itself.
    pub(crate) fn sabotaged(
        &self,
        hub: usize,
        dcs: DcsIndex,
        bytes: &[u8],
    ) -> Option<Vec<Vec<u8>>> {
        let sabotage = self.options().sabotage.filter(|_| hub == 0);
        let Some(sabotage) = sabotage else {
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
        match (sabotage, kind) {
            (Sabotage::MutedAlignment, MessageType::Ca) => None,
            (Sabotage::SpentHops, MessageType::CsuRequest) if late => {
                let first = overhead(kind, header.sender.len(), header.receiver.len());
                set_hop_count(&mut copy[first..], 0);
                checksum::seal(&mut copy);
                Some(vec![copy])
            }
            (Sabotage::EarlyUpdate, MessageType::Ca)
                if self.alignment(hub, dcs) == Some(alignment::State::Negotiation) =>
            {
                let mut early = vec![0; 1024];
                let request = Builder::csu_request(&mut early, 1024, &header).expect("ids fit");
                let len = request.finish();
                early.truncate(len);
                Some(vec![copy, early])
            }
            (Sabotage::SecondCa, MessageType::Ca) => {
                let mut second = copy.clone();
                second[8] ^= 0x40; // In the CA sequence.
                checksum::seal(&mut second);
                let mut third = copy.clone();
                third[8] ^= 0x20;
                checksum::seal(&mut third);
                Some(vec![copy, second, third])
            }
            (Sabotage::EarlyCa, MessageType::Hello) if header.receiver.is_empty() => {
                let mut early = vec![0; 1024];
                let flags = scsp_wire::CaFlags {
                    master: true,
                    initialize: true,
                    more: true,
                };
                let seq = scsp_wire::CaSeq(1);
                let neighbour = self.neighbour_id(hub, dcs);
                let header = Header {
                    receiver: neighbour.as_bytes(),
                    ..header
                };
                let ca = Builder::ca(&mut early, 1024, &header, seq, flags).expect("ids fit");
                let len = ca.finish();
                early.truncate(len);
                Some(vec![early])
            }
            (Sabotage::DamagedPacket, _) if late => {
                *copy.last_mut().expect("packets are not empty") ^= 1;
                Some(vec![copy])
            }
            _ => Some(Vec::new()),
        }
    }
}
