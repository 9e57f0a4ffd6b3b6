//! Codec properties over generated messages and octets.

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use scsp_wire::{
    Builder, CaFlags, CaSeq, CsaSeq, Envelope, FamilyId, Header, HelloFields, Message, ProtocolId,
    Record, Records, ServerGroupId, Summaries, Summary, SummaryFields, checksum,
};

/// A message as plain values, to compare what went in with what came out.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    instance: (u16, u16),
    sender: Vec<u8>,
    receiver: Vec<u8>,
    body: Body,
    extensions: Vec<(u16, Vec<u8>)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Body {
    Ca {
        seq: u32,
        flags: (bool, bool, bool),
        summaries: Vec<Entry>,
    },
    Request(Vec<Entry>),
    Reply(Vec<Entry>),
    Solicit(Vec<Entry>),
    Hello {
        timers: (u16, u16),
        family: u16,
        more: Vec<Vec<u8>>,
    },
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    hop_count: u16,
    null: bool,
    seq: i32,
    key: Vec<u8>,
    originator: Vec<u8>,
    body: Vec<u8>,
}

impl Entry {
    fn fields(&self) -> SummaryFields<'_> {
        SummaryFields {
            hop_count: self.hop_count,
            null: self.null,
            seq: CsaSeq::new(self.seq).unwrap(),
            key: &self.key,
            originator: &self.originator,
        }
    }

    fn of_summary(summary: &Summary<'_>) -> Self {
        Self {
            hop_count: summary.hop_count,
            null: summary.null,
            seq: summary.seq.get(),
            key: summary.key.to_vec(),
            originator: summary.originator.to_vec(),
            body: Vec::new(),
        }
    }

    fn of_record(record: &Record<'_>) -> Self {
        Self {
            body: record.body.to_vec(),
            ..Self::of_summary(&record.summary)
        }
    }
}

fn id() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => vec(any::<u8>(), 4..=4), 1 => vec(any::<u8>(), 1..=255)]
}

fn entry(with_body: bool) -> impl Strategy<Value = Entry> {
    let key = prop_oneof![4 => vec(any::<u8>(), 0..=12), 1 => vec(any::<u8>(), 0..=255)];
    let body_len = if with_body { 0..=40 } else { 0..=0 };
    (
        any::<u16>(),
        any::<bool>(),
        i32::MIN + 1..=i32::MAX,
        key,
        id(),
        vec(any::<u8>(), body_len),
    )
        .prop_map(|(hop_count, null, seq, key, originator, body)| {
            let null = null && body.is_empty();
            Entry {
                hop_count,
                null,
                seq,
                key,
                originator,
                body,
            }
        })
}

fn body() -> impl Strategy<Value = Body> {
    let timers = (1..=u16::MAX, 1..=u16::MAX);
    prop_oneof![
        (
            any::<u32>(),
            any::<(bool, bool, bool)>(),
            vec(entry(false), 0..12)
        )
            .prop_map(|(seq, flags, summaries)| Body::Ca {
                seq,
                flags,
                summaries
            }),
        vec(entry(true), 0..12).prop_map(Body::Request),
        vec(entry(false), 0..12).prop_map(Body::Reply),
        vec(entry(false), 0..12).prop_map(Body::Solicit),
        (timers, any::<u16>(), vec(id(), 0..5)).prop_map(|(timers, family, more)| Body::Hello {
            timers,
            family,
            more
        }),
    ]
}

/// Distinct types of 3 and up, with an authentication and two vendors now and then.
fn extensions() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    let own = proptest::collection::btree_map(3_u16.., vec(any::<u8>(), 0..20), 0..4);
    (own, any::<bool>(), any::<bool>()).prop_map(|(own, auth, vendors)| {
        let mut all: Vec<_> = own.into_iter().collect();
        if vendors {
            all.push((2, b"\x02SC\x01".to_vec()));
            all.push((2, b"\x00\x00\x5E".to_vec()));
        }
        if auth {
            all.push((1, vec![7; 20]));
        }
        all
    })
}

fn model() -> impl Strategy<Value = Model> {
    let receiver = prop_oneof![1 => Just(Vec::new()), 4 => id()];
    (any::<(u16, u16)>(), id(), receiver, body(), extensions()).prop_map(
        |(instance, sender, mut receiver, body, extensions)| {
            if matches!(&body, Body::Hello { more, .. } if !more.is_empty()) && receiver.is_empty()
            {
                receiver.push(1); // H-09: the first one goes in the common part.
            }
            Model {
                instance,
                sender,
                receiver,
                body,
                extensions,
            }
        },
    )
}

/// Builds as the daemon does; `None` when the packet is full.
fn build(model: &Model, buf: &mut [u8], limit: usize) -> Option<usize> {
    let header = Header {
        protocol: ProtocolId(model.instance.0),
        group: ServerGroupId(model.instance.1),
        sender: &model.sender,
        receiver: &model.receiver,
    };
    let (mut builder, fits) = match &model.body {
        Body::Ca {
            seq,
            flags: (master, initialize, more),
            summaries,
        } => {
            let none = CaFlags {
                master: false,
                initialize: false,
                more: false,
            };
            let mut builder = Builder::ca(buf, limit, &header, CaSeq(*seq), none)?;
            let fits = summaries
                .iter()
                .all(|entry| builder.push_summary(&entry.fields()));
            builder.set_ca_flags(CaFlags {
                master: *master,
                initialize: *initialize,
                more: *more,
            });
            (builder, fits)
        }
        Body::Request(entries) => {
            let mut builder = Builder::csu_request(buf, limit, &header)?;
            let fits = entries
                .iter()
                .all(|e| builder.push_record(&e.fields(), &e.body));
            (builder, fits)
        }
        Body::Reply(entries) => {
            let mut builder = Builder::csu_reply(buf, limit, &header)?;
            let fits = entries
                .iter()
                .all(|entry| builder.push_summary(&entry.fields()));
            (builder, fits)
        }
        Body::Solicit(entries) => {
            let mut builder = Builder::csus(buf, limit, &header)?;
            let fits = entries
                .iter()
                .all(|entry| builder.push_summary(&entry.fields()));
            (builder, fits)
        }
        Body::Hello {
            timers: (interval_secs, dead_factor),
            family,
            more,
        } => {
            let fields = HelloFields {
                interval_secs: *interval_secs,
                dead_factor: *dead_factor,
                family: FamilyId(*family),
            };
            let mut builder = Builder::hello(buf, limit, &header, fields)?;
            let fits = more.iter().all(|receiver| builder.push_receiver(receiver));
            (builder, fits)
        }
    };
    let fits = fits
        && model
            .extensions
            .iter()
            .all(|(code, value)| builder.push_extension(*code, value));
    fits.then(|| builder.finish())
}

fn read(message: &Message<'_>) -> Model {
    let envelope = message.envelope();
    let all = |summaries: Summaries<'_>| summaries.map(|s| Entry::of_summary(&s)).collect();
    let body = match message {
        Message::Ca(ca) => Body::Ca {
            seq: ca.seq.0,
            flags: (ca.flags.master, ca.flags.initialize, ca.flags.more),
            summaries: all(ca.summaries()),
        },
        Message::CsuRequest(request) => Body::Request(
            request
                .records()
                .map(|record| Entry::of_record(&record))
                .collect(),
        ),
        Message::CsuReply(reply) => Body::Reply(all(reply.summaries())),
        Message::Csus(csus) => Body::Solicit(all(csus.summaries())),
        Message::Hello(hello) => Body::Hello {
            timers: (hello.hello_interval_secs, hello.dead_factor),
            family: hello.family.0,
            more: hello.receivers().skip(1).map(<[u8]>::to_vec).collect(),
        },
    };
    Model {
        instance: (envelope.protocol().0, envelope.group().0),
        sender: envelope.sender().to_vec(),
        receiver: envelope.receiver().to_vec(),
        body,
        extensions: message
            .extensions()
            .map(|e| (e.code(), e.value.to_vec()))
            .collect(),
    }
}

fn packet(model: &Model) -> Vec<u8> {
    let mut buf = vec![0xEE; 65_535];
    let len = build(model, &mut buf, usize::MAX).expect("a generated message fits");
    buf.truncate(len);
    buf
}

/// Walks everything a well-formed packet offers and rebuilds it; malformed ones end at once.
fn exercise(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(message) = Message::parse(bytes) else {
        return Ok(());
    };
    let again = rebuilt(&message);
    if let Some(canonical) = support::canonical(&message) {
        prop_assert_eq!(&again, &canonical);
    }
    let second = Message::parse(&again).expect("what is built is well-formed");
    prop_assert_eq!(rebuilt(&second), again.clone());
    if let Message::Hello(hello) = &message {
        prop_assert_eq!(hello.receivers().len(), hello.receivers().count());
    } else {
        prop_assert_eq!(read(&message), read(&second));
    }
    Ok(())
}

fn rebuilt(message: &Message<'_>) -> Vec<u8> {
    let len = message.envelope().bytes().len();
    let mut out = vec![0xEE; len];
    let written = message
        .write(&mut out, len)
        .expect("the canonical form is not longer");
    out.truncate(written);
    out
}

proptest! {
    /// W-11: what is built reads as it went in, and rebuilds to the same octets.
    #[test]
    fn w_11_build_and_parse_are_inverse(model in model()) {
        let packet = packet(&model);
        let message = Message::parse(&packet).expect("what is built is well-formed");
        prop_assert_eq!(read(&message), model);
        prop_assert_eq!(rebuilt(&message), packet.clone());
        prop_assert_eq!(support::canonical(&message), Some(packet));
    }

    /// W-10: a limit is kept to the octet, whatever is pushed; nothing beyond it is touched.
    #[test]
    fn w_10_building_keeps_the_limit(model in model(), cut in any::<prop::sample::Index>()) {
        let whole = packet(&model).len();
        let limit = cut.index(whole + 1);
        let mut buf = vec![0xEE; whole];
        let built = build(&model, &mut buf, limit);
        prop_assert_eq!(built.is_some(), limit == whole);
        prop_assert!(buf[limit..].iter().all(|octet| *octet == 0xEE));
        prop_assert_eq!(build(&model, &mut buf[..limit], usize::MAX).is_some(), limit == whole);
    }

    /// W-10: any octets at all are read without a panic.
    #[test]
    fn w_10_any_octets(bytes in vec(any::<u8>(), 0..200)) {
        exercise(&bytes)?;
        let records = Records::over(&bytes).count();
        prop_assert_eq!(Records::new(&bytes).ok().map_or(records, |all| all.len()), records);
        let summaries = Summaries::over(&bytes).count();
        prop_assert_eq!(
            Summaries::new(&bytes).ok().map_or(summaries, |all| all.len()),
            summaries
        );
        prop_assert!(Records::over(&bytes).keys().count() <= bytes.len());
    }

    /// Goal: keys read by themselves are those of the records.
    #[test]
    fn keys_alone_are_those_of_the_records(model in model()) {
        let packet = packet(&model);
        let (keys, alone): (Vec<_>, Vec<_>) = match Message::parse(&packet).unwrap() {
            Message::CsuRequest(request) => (
                request.records().map(|record| record.summary.key).collect(),
                request.records().keys().collect(),
            ),
            Message::Ca(ca) => (
                ca.summaries().map(|summary| summary.key).collect(),
                Summaries::over(ca.summaries().wire()).keys().collect(),
            ),
            Message::CsuReply(reply) => (
                reply.summaries().map(|summary| summary.key).collect(),
                reply.summaries().keys().collect(),
            ),
            Message::Csus(_) | Message::Hello(_) => (Vec::new(), Vec::new()),
        };
        prop_assert_eq!(alone, keys);
    }

    /// W-10: octets behind a right size and checksum, and changed valid packets, likewise.
    #[test]
    fn w_10_changed_packets(
        model in model(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut packet = packet(&model);
        for (at, octet) in changes {
            let len = packet.len();
            packet[at.index(len)] = octet;
        }
        if let Some(cut) = cut {
            packet.truncate(cut.index(packet.len()).max(8));
        }
        exercise(&packet)?;
        let size = u16::try_from(packet.len()).unwrap();
        packet[0] = 1;
        packet[2..4].copy_from_slice(&size.to_be_bytes());
        checksum::seal(&mut packet);
        exercise(&packet)?;
        if let Ok(envelope) = Envelope::parse(&packet) {
            let error = envelope.open().err();
            prop_assert!(error.is_none_or(scsp_wire::ParseError::is_attributable));
        }
    }
}
