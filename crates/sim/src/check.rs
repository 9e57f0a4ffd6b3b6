//! What is watched of every packet and every record, beside the cores and without asking them.
//! Times are those of the hub's own clock.

mod exchange;
mod records;

use std::collections::VecDeque;
use std::time::Duration;

use scsp_engine::{alignment, hello};
use scsp_wire::{Ca, Csus, Envelope, Message, MessageType, ServerId, Summary};

use crate::report::Check;

pub(crate) use exchange::Agreed;
pub(crate) use records::RecordWatch;

use exchange::Exchange;

/// Messages between cores that a record may take from its packet to the shard that owns it, when
/// `Control` has to say first whether it may flow.
const ROUNDABOUT: u64 = 4;

/// Octets of the fixed part: size and checksum among them, and where extensions start.
const FIXED_LEN: usize = 8;

/// A violation without its moment.
pub(crate) type Violation = (Check, String);

/// What has to hold for a packet that is sent.
pub(crate) struct Rules<'a> {
    pub(crate) now: u64,
    pub(crate) own: &'a ServerId,
    /// `None`: everybody on a multipoint link.
    pub(crate) neighbour: Option<&'a ServerId>,
    pub(crate) packet_limit: usize,
    pub(crate) datagram_limit: usize,
    /// What both hubs offer; `None`: lock step.
    pub(crate) agreed: Option<Agreed>,
    pub(crate) hello_interval: Duration,
    pub(crate) hop_count: u16,
    pub(crate) csus_retransmit: Duration,
    /// How much later than `Control` a shard may learn of a change.
    pub(crate) lag: u64,
}

/// A record that was asked for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    name: u64,
    octets: usize,
    at: u64,
}

/// What one hub and DCS did so far in this run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    /// When the last Hello was sent, or was to be, outside Down.
    hello_sent_at: Option<u64>,
    is_bidirectional: bool,
    left_bidirectional_at: Option<u64>,
    is_updating: bool,
    left_updating_at: Option<u64>,
    /// The last CA message.
    ca: Vec<u8>,
    /// New CA messages that may be sent: one per message received and per negotiation.
    ca_credit: u8,
    /// Between two hubs that both offer more than lock step.
    exchange: Exchange,
    csus_sent_at: Option<u64>,
    /// What was asked for and has not come: a number (see [`fold`]), octets, and when.
    csus_open: Vec<Asked>,
    /// What came lately, and when: a CSUS under construction may ask for it nevertheless.
    came: VecDeque<(u64, u64)>,
    /// When the current exchange began.
    pub(crate) negotiated_at: Option<u64>,
    /// Aligned at least once.
    pub(crate) was_aligned: bool,
}

impl Watch {
    /// The hello machine moved.
    pub(crate) fn hello_moved(&mut self, now: u64, from: hello::State, to: hello::State) {
        self.is_bidirectional = to == hello::State::Bidirectional;
        if from == hello::State::Bidirectional {
            self.left_bidirectional_at = Some(now);
        }
        match (from, to) {
            (_, hello::State::Down) => self.hello_sent_at = None,
            (hello::State::Down, _) => self.hello_sent_at = Some(now),
            _ => {}
        }
    }

    /// The alignment machine moved.
    pub(crate) fn alignment_moved(
        &mut self,
        now: u64,
        from: alignment::State,
        to: alignment::State,
    ) {
        if from.is_updating() && !to.is_updating() {
            self.left_updating_at = Some(now);
        }
        self.is_updating = to.is_updating();
        self.was_aligned |= to == alignment::State::Aligned;
        if to == alignment::State::Negotiation {
            self.negotiated_at = Some(now);
            self.credit_ca();
        }
        if to != alignment::State::Aligned {
            self.csus_open.clear();
        }
    }

    /// The hub stands still until then: its Hellos are late for a reason.
    pub(crate) fn pause_hellos(&mut self, until: u64) {
        self.hello_sent_at = self.hello_sent_at.map(|at| at.max(until));
    }

    pub(crate) fn is_updating(&self) -> bool {
        self.is_updating
    }

    /// A CA message comes to `Control`.
    pub(crate) fn ca_received(&mut self, ca: &Ca<'_>, agreed: Option<Agreed>) {
        self.credit_ca();
        if let Some(agreed) = agreed {
            self.exchange.received(ca, agreed);
        }
    }

    /// A CA message came, or a negotiation began: a new one may go out.
    fn credit_ca(&mut self) {
        self.ca_credit = (self.ca_credit + 1).min(2);
    }

    /// A whole packet of the neighbour arrived; a shard may be `lag` behind.
    pub(crate) fn received(&mut self, now: u64, lag: u64, message: &Message<'_>) {
        match message {
            Message::CsuRequest(request) => {
                while self
                    .came
                    .front()
                    .is_some_and(|(at, _)| at + ROUNDABOUT * lag < now)
                {
                    self.came.pop_front();
                }
                for record in request.records() {
                    let name = fold(&record.summary);
                    self.csus_open.retain(|open| open.name != name);
                    self.came.push_back((now, name));
                }
            }
            Message::Ca(_) | Message::CsuReply(_) | Message::Csus(_) | Message::Hello(_) => {}
        }
    }

    /// Judges a packet that is about to be sent.
    pub(crate) fn sent(
        &mut self,
        rules: &Rules<'_>,
        envelope: &Envelope<'_>,
        message: &Message<'_>,
    ) -> Result<(), Violation> {
        let (kind, bytes) = (envelope.message_type(), envelope.bytes());
        if envelope.sender() != rules.own.as_bytes() {
            return Err((Check::Packet, format!("{kind:?} with wrong sender")));
        }
        let agreed = rules
            .agreed
            .filter(|_| matches!(kind, MessageType::Ca | MessageType::Csus));
        let agreed = agreed.map_or(0, |agreed| agreed.packet.min(rules.datagram_limit));
        let limit = if envelope.record_count() == 1 {
            rules.datagram_limit
        } else {
            rules.packet_limit.max(agreed)
        };
        if bytes.len() > limit {
            let len = bytes.len();
            let detail = format!("{kind:?} of {len} octets, limit {limit}");
            return Err((Check::Packet, detail)); // D-14
        }
        let addressed = rules
            .neighbour
            .is_none_or(|id| id.as_bytes() == envelope.receiver());
        if !addressed && (kind != MessageType::Hello || !envelope.receiver().is_empty()) {
            return Err((Check::Packet, format!("{kind:?} to another receiver id")));
        }
        let lately = |at: Option<u64>, lag| at.is_some_and(|at| at + lag >= rules.now);
        match kind {
            MessageType::Hello => self.hello(rules)?,
            MessageType::Ca => {
                if !self.is_bidirectional && !lately(self.left_bidirectional_at, 0) {
                    return Err((Check::BeforeBidirectional, "CA".into()));
                }
            }
            MessageType::CsuRequest | MessageType::CsuReply | MessageType::Csus => {
                if !self.is_updating && !lately(self.left_updating_at, rules.lag) {
                    return Err((Check::BeforeUpdate, format!("{kind:?}")));
                }
            }
        }
        self.records(rules, message, bytes)
    }

    /// H-03: another Hello is due, and none was sent.
    pub(crate) fn hello_overdue(&self, now: u64, interval: u64) -> Option<u64> {
        let gap = now.saturating_sub(self.hello_sent_at?);
        (gap > interval).then_some(gap)
    }

    /// H-03.
    fn hello(&mut self, rules: &Rules<'_>) -> Result<(), Violation> {
        let before = self.hello_sent_at.replace(rules.now);
        let gap = before.map(|at| Duration::from_nanos(rules.now.saturating_sub(at)));
        match gap {
            Some(gap) if gap > rules.hello_interval => {
                Err((Check::HelloGap, format!("{gap:?} after the last Hello")))
            }
            _ => Ok(()),
        }
    }

    fn records(
        &mut self,
        rules: &Rules<'_>,
        message: &Message<'_>,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let alone = |hop_count: u16| match hop_count {
            1 => Ok(()),
            _ => Err((Check::HopCount, format!("{hop_count} in a summary"))), // CSU-17
        };
        match message {
            Message::Hello(_) => Ok(()),
            Message::Ca(ca) => {
                ca.summaries()
                    .try_for_each(|summary| alone(summary.hop_count))?;
                self.ca(rules, ca, bytes)
            }
            Message::CsuReply(reply) => reply
                .summaries()
                .try_for_each(|summary| alone(summary.hop_count)),
            Message::Csus(csus) => {
                csus.summaries()
                    .try_for_each(|summary| alone(summary.hop_count))?;
                self.csus(rules, csus)
            }
            Message::CsuRequest(request) => {
                let fits = 1..=rules.hop_count; // CSU-16
                let wrong = request
                    .records()
                    .find(|record| !fits.contains(&record.summary.hop_count));
                wrong.map_or(Ok(()), |record| {
                    let hops = record.summary.hop_count;
                    Err((Check::HopCount, format!("a record with {hops}")))
                })
            }
        }
    }

    /// CA-19: a CSUS goes out when all that was asked for has come or is overdue. Between two hubs
    /// that offer more, what is outstanding fits as many CSUS messages as both offer.
    fn csus(&mut self, rules: &Rules<'_>, csus: &Csus<'_>) -> Result<(), Violation> {
        let interval = rules.csus_retransmit;
        let is_due = |at: u64| Duration::from_nanos(rules.now - at) >= interval;
        let due = self.csus_sent_at.map(is_due);
        if rules.agreed.is_none() && !self.csus_open.is_empty() && due == Some(false) {
            let open = self.csus_open.len();
            let detail = format!("{open} records not answered");
            return Err((Check::CsusOutstanding, detail));
        }
        self.csus_sent_at = Some(rules.now);
        let lately = |name| {
            let came =
                |(at, it): &(u64, u64)| *it == name && at + ROUNDABOUT * rules.lag >= rules.now;
            self.came.iter().any(came)
        };
        let asked: Vec<Asked> = csus
            .summaries()
            .map(|summary| Asked {
                name: fold(&summary),
                octets: summary.wire.len(),
                at: rules.now,
            })
            .filter(|asked| !lately(asked.name))
            .collect();
        let Some(agreed) = rules.agreed else {
            self.csus_open = asked;
            return Ok(());
        };
        let is_new = |open: &Asked| asked.iter().all(|asked| asked.name != open.name);
        self.csus_open
            .retain(|open| is_new(open) && !is_due(open.at));
        self.csus_open.extend(asked);
        // D-14: one that exceeds a packet has one of its own.
        let octets = self.csus_open.iter().map(|open| open.octets);
        let octets: usize = octets.filter(|octets| *octets <= agreed.packet).sum();
        // An exchange may be in lock step all the same.
        let most = (agreed.width as usize * agreed.packet).max(rules.packet_limit);
        if octets > most {
            let detail = format!("{octets} octets of {most} not answered");
            return Err((Check::CsusOutstanding, detail));
        }
        Ok(())
    }

    /// CA-07: a CA message is new only when something called for it; between two hubs that offer
    /// more, when its number may be under way.
    fn ca(&mut self, rules: &Rules<'_>, ca: &Ca<'_>, bytes: &[u8]) -> Result<(), Violation> {
        // Without what changes when a message is signed anew.
        let end = match u16::from_be_bytes([bytes[6], bytes[7]]) {
            0 => bytes.len(),
            extensions => extensions.into(),
        };
        let bytes = &bytes[FIXED_LEN..end];
        if let Some(agreed) = rules.agreed {
            return self.exchange.sent(ca, bytes, agreed);
        }
        if self.ca == bytes {
            return Ok(()); // It is resent.
        }
        if self.ca_credit == 0 {
            return Err((Check::CaOutstanding, format!("sequence {}", ca.seq)));
        }
        self.ca_credit -= 1;
        self.ca.clear();
        self.ca.extend_from_slice(bytes);
        Ok(())
    }
}

/// A number for (key, originator).
fn fold(summary: &Summary<'_>) -> u64 {
    const PRIME: u64 = 0x0100_0000_01B3;
    let octets = summary.key.iter().chain([&0xFF]).chain(summary.originator);
    octets.fold(0xCBF2_9CE4_8422_2325, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(PRIME)
    })
}
