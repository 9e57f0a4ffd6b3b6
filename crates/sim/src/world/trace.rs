//! One line per event, for the eye.

use std::fmt::{self, Write as _};
use std::time::Duration;

use scsp_engine::ToShard;
use scsp_wire::{Envelope, Message, Summary};

use crate::hub::CoreMessage;

use super::{Event, Travel, World};

impl World {
    pub(super) fn trace(&self, event: &Event) {
        match event {
            Event::Packet(travel) => {
                let Travel {
                    hub, from, flaw, ..
                } = &**travel;
                let packet = self.packet_text(&travel.bytes);
                self.trace_line(format_args!("{from} -> {hub} {flaw:?} {packet}"));
            }
            Event::Core {
                hub,
                slot,
                message: CoreMessage::Shard(message),
                ..
            } => {
                let text = match message {
                    ToShard::Batch { kind, bytes, .. } => {
                        format!("{kind:?}{}", self.summaries_text(bytes))
                    }
                    ToShard::Summaries { bytes, .. } => {
                        format!("Summaries{}", self.summaries_text(bytes))
                    }
                    other => format!("{other:?}"),
                };
                self.trace_line(format_args!("{hub} slot {slot} {text}"));
            }
            Event::Core { .. } | Event::Client | Event::Probe | Event::Flush { .. } => {}
            Event::Snapshot { .. } => {}
            Event::Wake { .. } => {}
            other => self.trace_line(format_args!("{other:?}")),
        }
    }

    pub(super) fn trace_line(&self, line: fmt::Arguments<'_>) {
        let now = Duration::from_nanos(self.now).as_secs_f64();
        println!("{now:14.9} {line}");
    }

    fn packet_text(&self, bytes: &[u8]) -> String {
        let message = match Envelope::parse(bytes).and_then(|envelope| envelope.open()) {
            Ok(message) => message,
            Err(error) => return format!("{error:?}"),
        };
        match message {
            Message::Hello(hello) => format!("Hello to {} ids", hello.receivers().count()),
            Message::Ca(ca) => {
                let bits = [
                    (ca.flags.master, 'M'),
                    (ca.flags.initialize, 'I'),
                    (ca.flags.more, 'O'),
                ];
                let bits: String = bits
                    .iter()
                    .filter(|(on, _)| *on)
                    .map(|(_, bit)| bit)
                    .collect();
                let all: String = ca.summaries().map(|it| self.summary_text(&it)).collect();
                format!("CA {} {bits}{all}", ca.seq)
            }
            Message::CsuReply(reply) => {
                let all: String = reply.summaries().map(|it| self.summary_text(&it)).collect();
                format!("Reply{all}")
            }
            Message::Csus(csus) => {
                let all: String = csus.summaries().map(|it| self.summary_text(&it)).collect();
                format!("CSUS{all}")
            }
            Message::CsuRequest(request) => {
                let all: String = request
                    .records()
                    .map(|it| self.summary_text(&it.summary))
                    .collect();
                format!("Request{all}")
            }
        }
    }

    fn summaries_text(&self, bytes: &[u8]) -> String {
        let (mut rest, mut text) = (bytes, String::new());
        while let Ok((record, after)) = scsp_wire::Record::split_first(rest) {
            text += &self.summary_text(&record.summary);
            rest = after;
        }
        text
    }

    /// `key/originator:sequence`, with hop count where it is not 1, and N.
    pub(super) fn summary_text(&self, summary: &Summary<'_>) -> String {
        let originator = self.hub_of(summary.originator);
        let mut instances = 0..self.plan.instances.len();
        let key = instances.find_map(|instance| self.keys.number(instance, summary.key));
        let mut text = format!(" {key:?}/{originator:?}:{}", summary.seq).replace("Some", "");
        if summary.hop_count != 1 {
            let _ = write!(text, "h{}", summary.hop_count);
        }
        if summary.null {
            text.push('N');
        }
        text
    }
}
