//! One test per requirement of the wire format, on packets written out by hand.

use std::time::Duration;

use scsp_wire::{
    Builder, COMMON_LEN, CaFlags, CaSeq, CsaSeq, EXTENSIONS_MAX, Envelope, ExtensionKind,
    FIXED_LEN, FamilyId, Header, HelloFields, Message, MessageType, ParseError, ProtocolId, Record,
    Records, SUMMARY_LEN, ServerGroupId, Summaries, Summary, SummaryFields, checksum,
    encode_record, overhead, set_hop_count,
};

const A: &[u8] = &[10, 0, 0, 1];
const B: &[u8] = &[10, 0, 0, 2];
const HEADER: Header<'_> = Header {
    protocol: ProtocolId::KV,
    group: ServerGroupId(7),
    sender: A,
    receiver: B,
};
const HELLO: HelloFields = HelloFields {
    interval_secs: 3,
    dead_factor: 4,
    family: FamilyId(5),
};
const BODY: &[u8] = b"body!";

/// Where the first record of [`request`] starts.
const RECORD: usize = FIXED_LEN + COMMON_LEN + 8;

fn entry() -> SummaryFields<'static> {
    SummaryFields {
        hop_count: 16,
        null: false,
        seq: CsaSeq::new(-5).unwrap(),
        key: b"key",
        originator: A,
    }
}

/// A CSU Request with one record; `change` may append extensions.
fn request(change: impl FnOnce(&mut Builder<'_>)) -> Vec<u8> {
    let mut buf = vec![0xEE; 65_535];
    let mut builder = Builder::csu_request(&mut buf, usize::MAX, &HEADER).unwrap();
    assert!(builder.push_record(&entry(), BODY));
    change(&mut builder);
    let len = builder.finish();
    buf.truncate(len);
    buf
}

fn solicit() -> Vec<u8> {
    let mut buf = vec![0; 200];
    let mut builder = Builder::csus(&mut buf, usize::MAX, &HEADER).unwrap();
    assert!(builder.push_summary(&entry()));
    let len = builder.finish();
    buf.truncate(len);
    buf
}

fn hello(receivers: &[&[u8]]) -> Vec<u8> {
    let mut buf = vec![0; 2_000];
    let header = Header {
        receiver: receivers.first().copied().unwrap_or_default(),
        ..HEADER
    };
    let mut builder = Builder::hello(&mut buf, usize::MAX, &header, HELLO).unwrap();
    assert!(receivers.iter().skip(1).all(|id| builder.push_receiver(id)));
    let len = builder.finish();
    buf.truncate(len);
    buf
}

/// Changes a packet and makes size and checksum right again.
fn with(mut packet: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut packet);
    let size = u16::try_from(packet.len()).unwrap();
    packet[2..4].copy_from_slice(&size.to_be_bytes());
    checksum::seal(&mut packet);
    packet
}

fn error(packet: &[u8]) -> ParseError {
    Message::parse(packet).expect_err("malformed")
}

/// W-01: version 1 is sent, any other one received is malformed.
#[test]
fn w_01_other_versions_are_malformed() {
    assert_eq!(request(|_| ())[0], 1);
    for version in [0, 2, 255] {
        let packet = with(request(|_| ()), |p| p[0] = version);
        assert_eq!(error(&packet), ParseError::Version(version));
    }
}

/// W-02: the packet size cuts link padding off; a datagram shorter than it is malformed.
#[test]
fn w_02_packet_size_governs_the_datagram() {
    let packet = request(|_| ());
    let mut padded = packet.clone();
    padded.extend_from_slice(&[0xAA; 9]);
    assert_eq!(Envelope::parse(&padded).unwrap().bytes(), packet);

    for have in 0..packet.len() {
        let expected = if have < FIXED_LEN {
            ParseError::Truncated { have }
        } else {
            ParseError::Size {
                field: u16::try_from(packet.len()).unwrap(),
                have,
            }
        };
        assert_eq!(error(&packet[..have]), expected);
    }
    let mut tiny = packet;
    tiny[2..4].copy_from_slice(&[0, 7]);
    assert!(matches!(error(&tiny), ParseError::Size { field: 7, .. }));
}

/// W-03: the checksum is set on what is built and verified on what is read, odd lengths included.
#[test]
fn w_03_checksum_of_odd_length() {
    let packet = request(|_| ());
    assert_eq!(packet.len() % 2, 0);
    let odd = with(packet, |p| {
        p.push(b'!');
        p[RECORD + 3] += 1;
    });
    for mut packet in [request(|_| ()), odd] {
        assert!(Message::parse(&packet).is_ok());
        let last = packet.len() - 1;
        packet[last] ^= 1;
        assert_eq!(error(&packet), ParseError::Checksum);
    }
}

/// W-04: start of extensions is 0 or exactly where the records end.
#[test]
fn w_04_start_of_extensions_is_where_records_end() {
    let packet = request(|b| assert!(b.push_extension(9, b"xy")));
    let start = u16::from_be_bytes([packet[6], packet[7]]);
    assert_eq!(usize::from(start), RECORD + SUMMARY_LEN + 7 + BODY.len());
    assert!(Message::parse(&packet).is_ok());

    for wrong in [
        start - 1,
        start + 1,
        1,
        u16::try_from(RECORD).unwrap(),
        start + 100,
    ] {
        let packet = with(packet.clone(), |p| {
            p[6..8].copy_from_slice(&wrong.to_be_bytes());
        });
        let error = error(&packet);
        assert!(error.is_attributable(), "{wrong}: {error}");
    }
    let beyond = with(packet.clone(), |p| p[6..8].copy_from_slice(&[0xFF, 0xFF]));
    assert_eq!(
        error(&beyond),
        ParseError::ExtensionsStart { field: 0xFFFF }
    );
    let none = with(packet, |p| p[6..8].fill(0));
    assert_eq!(error(&none), ParseError::RecordsTrailing { left: 10 });
}

/// W-05: unused fields are sent as zero and ignored on receipt.
#[test]
fn w_05_unused_fields_are_ignored() {
    let clean = request(|_| ());
    assert_eq!(clean[12..16], [0; 4]);
    assert_eq!(clean[RECORD + 6..RECORD + 8], [0; 2]);
    let dirty = with(clean.clone(), |p| {
        p[12..16].fill(0xFF);
        p[RECORD + 6..RECORD + 8].copy_from_slice(&[0x7F, 0xFF]);
    });
    let message = Message::parse(&dirty).unwrap();
    let Message::CsuRequest(request) = &message else {
        panic!("a CSU Request")
    };
    assert_eq!(request.records().next().unwrap().summary.fields(), entry());
    let mut out = vec![0; dirty.len()];
    assert_eq!(message.write(&mut out, usize::MAX), Some(clean.len()));
    assert_eq!(out, clean);

    let dirty = with(hello(&[B]), |p| p[12..14].fill(0xFF));
    assert!(Message::parse(&dirty).is_ok());
}

/// W-06: exactly the counted records fill the space before the extensions or the packet's end.
#[test]
fn w_06_record_count_governs() {
    let packet = request(|_| ());
    let count = |n: u8| with(packet.clone(), |p| p[19] = n);
    let record_len = packet.len() - RECORD;
    assert_eq!(
        error(&count(0)),
        ParseError::RecordsTrailing { left: record_len }
    );
    assert!(Message::parse(&count(1)).is_ok());
    assert_eq!(error(&count(2)), ParseError::RecordTruncated);

    let more = with(packet.clone(), |p| p.push(0));
    assert_eq!(error(&more), ParseError::RecordsTrailing { left: 1 });
    let less = with(packet.clone(), |p| {
        p.pop();
    });
    assert_eq!(error(&less), ParseError::RecordTruncated);
    let cut_ids = with(packet, |p| p.truncate(RECORD - 1));
    assert_eq!(error(&cut_ids), ParseError::CommonPart);
    assert!(!ParseError::CommonPart.is_attributable());

    let ids = hello(&[A, B, A]);
    assert_eq!(
        error(&with(ids.clone(), |p| p[27] = 1)),
        ParseError::RecordsTrailing { left: 5 }
    );
    assert_eq!(
        error(&with(ids, |p| p[27] = 3)),
        ParseError::RecordTruncated
    );
}

/// W-07: a record length covers at least its summary, and exactly that where it stands alone.
#[test]
fn w_07_record_length() {
    let len = |packet: Vec<u8>, field: u8| with(packet, |p| p[RECORD + 3] = field);
    let summary = SUMMARY_LEN + 7;
    assert_eq!(
        error(&len(request(|_| ()), 18)),
        ParseError::RecordLength { field: 18, summary }
    );
    assert_eq!(
        error(&len(request(|_| ()), 0)),
        ParseError::RecordLength { field: 0, summary }
    );

    assert!(Message::parse(&solicit()).is_ok());
    assert_eq!(
        error(&len(solicit(), 18)),
        ParseError::RecordLength { field: 18, summary }
    );
    let longer = with(len(solicit(), 20), |p| p.push(0));
    assert_eq!(
        error(&longer),
        ParseError::RecordLength { field: 20, summary }
    );
}

/// W-08: unknown message types are malformed, unknown extension types are values to skip.
#[test]
fn w_08_unknown_types() {
    for code in [0, 6, 255] {
        assert_eq!(
            error(&with(request(|_| ()), |p| p[1] = code)),
            ParseError::Type(code)
        );
    }
    let packet = request(|b| assert!(b.push_extension(0x8123, b"new")));
    let kinds: Vec<_> = Message::parse(&packet)
        .unwrap()
        .extensions()
        .map(|extension| extension.kind)
        .collect();
    assert_eq!(
        kinds,
        [ExtensionKind::Unknown {
            code: 0x8123,
            value: b"new"
        }]
    );
}

/// W-09: extensions keep their order and end with the marker, each type at most once, type 2 at
/// most once per vendor.
#[test]
fn w_09_extensions() {
    let packet = request(|b| {
        assert!(b.push_extension(2, b"\x02SCdata"));
        assert!(b.push_extension(2, b"\x00\x00\x5E"));
        assert!(b.push_extension(1, &[0, 0, 1, 0, 9, 9]));
        assert!(!b.push_extension(2, b"\x02SCmore"));
        assert!(!b.push_extension(1, &[0, 0, 2, 0]));
        assert!(!b.push_extension(0, &[]));
        assert!(!b.push_extension(1, &[0, 0, 2]));
        assert!(!b.push_record(&entry(), BODY));
    });
    assert!(packet.ends_with(&[0, 0, 0, 0]));
    let message = Message::parse(&packet).unwrap();
    let kinds: Vec<_> = message
        .extensions()
        .map(|extension| extension.kind)
        .collect();
    assert_eq!(
        kinds,
        [
            ExtensionKind::Vendor {
                oui: *b"\x02SC",
                data: b"data"
            },
            ExtensionKind::Vendor {
                oui: [0, 0, 0x5E],
                data: &[]
            },
            ExtensionKind::Authentication {
                spi: 256,
                mac: &[9, 9]
            },
        ]
    );

    let one = || request(|b| assert!(b.push_extension(3, b"abcd")));
    let end = one().len() - 4;
    let no_end = with(one(), |p| p.truncate(end));
    assert_eq!(error(&no_end), ParseError::ExtensionTruncated);
    let after_end = with(one(), |p| p.push(0));
    assert_eq!(error(&after_end), ParseError::ExtensionsTrailing);
    let long_end = with(one(), |p| p[end + 3] = 1);
    assert_eq!(error(&long_end), ParseError::ExtensionsTrailing);
    let too_long = with(one(), |p| p[end - 5] = 9);
    assert_eq!(error(&too_long), ParseError::ExtensionTruncated);
    let twice = with(one(), |p| {
        p.splice(end..end, [0, 3, 0, 0]);
    });
    assert_eq!(error(&twice), ParseError::ExtensionRepeated { code: 3 });
    let vendor_twice = with(request(|b| assert!(b.push_extension(2, b"SC1"))), |p| {
        let end = p.len() - 4;
        p.splice(end..end, [0, 2, 0, 4, b'S', b'C', b'1', 0]);
    });
    assert_eq!(
        error(&vendor_twice),
        ParseError::ExtensionRepeated { code: 2 }
    );
    for code in [1, 2] {
        let short = with(request(|b| assert!(b.push_extension(3, b"ab"))), |p| {
            let end = p.len() - 4;
            p[end - 5] = code;
        });
        assert_eq!(
            error(&short),
            ParseError::ExtensionLength { code: code.into() }
        );
    }
}

/// W-09: the number of extensions has a limit, the same for building and reading.
#[test]
fn w_09_number_of_extensions() {
    let most = request(|b| {
        for code in 3..67 {
            assert!(b.push_extension(code, &[]));
        }
        assert!(!b.push_extension(67, &[]));
    });
    assert_eq!(
        Message::parse(&most).unwrap().extensions().len(),
        EXTENSIONS_MAX
    );
    let more = with(most, |p| {
        let end = p.len() - 4;
        p.splice(end..end, [0, 67, 0, 0]);
    });
    assert_eq!(error(&more), ParseError::ExtensionCount);
}

/// W-10: a packet takes records up to the limit and no octet more, minus what is reserved.
#[test]
fn w_10_limit_is_exact() {
    let start = overhead(MessageType::CsuRequest, 4, 4);
    let record = SUMMARY_LEN + 7 + BODY.len();
    let limit = start + 3 * record;
    let mut buf = [0xEE; 1_000];

    let mut builder = Builder::csu_request(&mut buf, limit, &HEADER).unwrap();
    assert_eq!(builder.room(), 3 * record);
    assert!(builder.is_empty());
    let wire = {
        let mut wire = [0; 64];
        let len = encode_record(&mut wire, &entry(), BODY);
        wire[..len].to_vec()
    };
    assert!(builder.push_wire(&wire, 1));
    assert!(builder.push_with(record, |out| out.copy_from_slice(&wire)));
    assert!(builder.push_record(&entry(), BODY));
    assert!(!builder.push_record(&entry(), &[]));
    assert!(!builder.push_wire(&wire, 1));
    assert!(!builder.push_with(record, |_| panic!("must not be called")));
    assert!(!builder.push_extension(3, &[]));
    assert_eq!((builder.record_count(), builder.room()), (3, 0));
    assert_eq!(builder.finish(), limit);
    assert!(buf[limit..].iter().all(|octet| *octet == 0xEE));
    let Ok(Message::CsuRequest(request)) = Message::parse(&buf) else {
        panic!("a CSU Request")
    };
    assert!(request.records().all(|read| read.wire == wire));

    let mut builder = Builder::csu_request(&mut buf, limit, &HEADER).unwrap();
    assert!(builder.reserve(20));
    assert_eq!(builder.room(), 3 * record - 28);
    assert!(!builder.reserve(builder.room() - 3));
    assert!(builder.push_record(&entry(), BODY));
    assert!(!builder.push_record(&entry(), &[0; 40]));
    assert!(builder.push_extension(1, &[1; 20]));
    let len = builder.finish();
    assert!(len <= limit && Message::parse(&buf[..len]).is_ok());

    assert!(Builder::csus(&mut buf, start - 1, &HEADER).is_none());
    assert!(Builder::csus(&mut buf[..start - 1], usize::MAX, &HEADER).is_none());
    assert!(
        Builder::csus(
            &mut buf,
            999,
            &Header {
                sender: &[],
                ..HEADER
            }
        )
        .is_none()
    );
    assert!(
        Builder::csus(
            &mut buf,
            999,
            &Header {
                receiver: &[0; 256],
                ..HEADER
            }
        )
        .is_none()
    );
}

/// W-10: 65,535 octets are the most, whatever buffer and limit allow.
#[test]
fn w_10_largest_packet() {
    let mut buf = vec![0; 100_000];
    let mut builder = Builder::csu_request(&mut buf, usize::MAX, &HEADER).unwrap();
    let body = vec![7; builder.room() - SUMMARY_LEN - 7];
    assert!(builder.push_record(&entry(), &body));
    assert_eq!(builder.finish(), 65_535);
    let Ok(Message::CsuRequest(request)) = Message::parse(&buf) else {
        panic!("a CSU Request")
    };
    assert_eq!(request.records().next().unwrap().body, body);
}

/// W-11: a CA message reads back with its sequence, flags and summaries, to the octet as laid out.
#[test]
fn w_11_octets_of_a_ca_message() {
    let mut buf = [0; 200];
    let flags = CaFlags {
        master: true,
        initialize: false,
        more: true,
    };
    let mut builder = Builder::ca(&mut buf, 200, &HEADER, CaSeq(0x0102_0304), flags).unwrap();
    assert!(builder.push_summary(&SummaryFields {
        null: true,
        hop_count: 1,
        ..entry()
    }));
    let len = builder.finish();
    let expected = [
        &[1, 1, 0, 51, buf[4], buf[5], 0, 0, 1, 2, 3, 4][..],
        &[
            0xFF, 0, 0, 7, 0, 0, 0xA0, 0, 4, 4, 0, 1, 10, 0, 0, 1, 10, 0, 0, 2,
        ],
        &[
            0, 1, 0, 19, 3, 4, 0x80, 0, 0xFF, 0xFF, 0xFF, 0xFB, b'k', b'e', b'y', 10, 0, 0, 1,
        ],
    ]
    .concat();
    assert_eq!(buf[..len], expected);
    let Ok(Message::Ca(ca)) = Message::parse(&buf[..len]) else {
        panic!("a CA message")
    };
    assert_eq!((ca.seq, ca.flags), (CaSeq(0x0102_0304), flags));
    assert!(ca.summaries().next().unwrap().null);
}

/// H-09: no receiver, one, several: the first in the common part, the others as records.
#[test]
fn h_09_receivers_of_a_hello() {
    let ids = [B, &[9], &[7; 255]];
    for count in 0..=3 {
        let packet = hello(&ids[..count]);
        let envelope = Envelope::parse(&packet).unwrap();
        assert_eq!(
            envelope.receiver(),
            ids[..count].first().copied().unwrap_or_default()
        );
        assert_eq!(
            usize::from(envelope.record_count()),
            count.saturating_sub(1)
        );
        assert_eq!(envelope.family(), Some(FamilyId(5)));
        let Ok(Message::Hello(hello)) = envelope.open() else {
            panic!("a Hello")
        };
        assert!(hello.receivers().eq(ids[..count].iter().copied()));
        assert_eq!(hello.receivers().len(), count);
        assert_eq!(hello.hello_interval, Duration::from_secs(3));
        assert_eq!(hello.fields(), HELLO);
    }
    let empty = with(hello(&[B, B]), |p| {
        let at = p.len() - 5;
        p.truncate(at);
        p.push(0);
    });
    assert_eq!(error(&empty), ParseError::Receiver);
}

/// D-04: `HelloInterval` or `DeadFactor` of 0 is malformed, and the sender's own fault.
#[test]
fn d_04_hello_timers_of_zero_are_malformed() {
    for at in [8, 10] {
        let packet = with(hello(&[B]), |p| p[at..at + 2].fill(0));
        assert_eq!(error(&packet), ParseError::HelloTimer);
    }
    assert!(ParseError::HelloTimer.is_attributable());
}

/// D-02: what is wrong with the envelope is found without opening it and blames nobody; what is
/// wrong beyond it leaves a readable envelope and may be held against its sender.
#[test]
fn d_02_two_kinds_of_malformed() {
    let packet = with(request(|_| ()), |p| p[19] = 9);
    let envelope = Envelope::parse(&packet).unwrap();
    assert_eq!((envelope.sender(), envelope.group()), (A, ServerGroupId(7)));
    assert!(envelope.open().unwrap_err().is_attributable());

    let no_sender = with(request(|_| ()), |p| p[16] = 0);
    let error = Envelope::parse(&no_sender).unwrap().open().unwrap_err();
    assert_eq!(error, ParseError::Sender);
    assert!(error.is_attributable());

    let long_sender = with(request(|_| ()), |p| p[16] = 255);
    let error = Envelope::parse(&long_sender).unwrap_err();
    assert_eq!(error, ParseError::CommonPart);
    assert!(!error.is_attributable());
}

/// CSU-18: -2^31 is malformed on the wire, its neighbour and the purge are not.
#[test]
fn csu_18_reserved_sequence_is_malformed() {
    let seq = |value: i32| {
        with(request(|_| ()), |p| {
            p[RECORD + 8..RECORD + 12].copy_from_slice(&value.to_be_bytes());
        })
    };
    assert_eq!(error(&seq(i32::MIN)), ParseError::Sequence);
    for good in [i32::MIN + 1, 0, i32::MAX - 1, i32::MAX] {
        let packet = seq(good);
        let Ok(Message::CsuRequest(request)) = Message::parse(&packet) else {
            panic!("{good}")
        };
        assert_eq!(request.records().next().unwrap().summary.seq.get(), good);
    }
}

/// CSU-11: a null record has no body; B.2.0.2: a record has an originator.
#[test]
fn csu_11_null_record_has_no_body() {
    let null = with(request(|_| ()), |p| p[RECORD + 6] = 0x80);
    assert_eq!(error(&null), ParseError::NullBody);
    let mut buf = [0; 100];
    let mut builder = Builder::csu_request(&mut buf, 100, &HEADER).unwrap();
    assert!(builder.push_summary(&SummaryFields {
        null: true,
        ..entry()
    }));
    let len = builder.finish();
    let Ok(Message::CsuRequest(request)) = Message::parse(&buf[..len]) else {
        panic!("null")
    };
    assert!(
        request
            .records()
            .all(|record| record.summary.null && record.body.is_empty())
    );

    let nobody = with(self::request(|_| ()), |p| p[RECORD + 5] = 0);
    assert_eq!(error(&nobody), ParseError::Originator);
}

/// Packed records outside packets: checked as a whole, walked up to the first malformed one, and
/// their hop count set in place (CSU-16).
#[test]
fn records_on_their_own() {
    let mut wire = vec![0; 100];
    let first = encode_record(&mut wire, &entry(), BODY);
    let second = encode_record(&mut wire[first..], &entry(), &[]);
    wire.truncate(first + second);
    set_hop_count(&mut wire[first..], 3);

    let all = Records::new(&wire).unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(
        all.clone()
            .map(|record| record.summary.hop_count)
            .collect::<Vec<_>>(),
        [16, 3]
    );
    assert_eq!(all.wire(), wire);
    assert!(Records::over(&wire).eq(all));

    let (record, rest) = Record::split_first(&wire).unwrap();
    assert_eq!(
        (record.body, record.wire.len(), rest.len()),
        (BODY, first, second)
    );
    assert!(Summary::split_first(&wire).is_err());
    assert_eq!(Summary::split_first(rest).unwrap().0.wire_len(), second);
    assert_eq!(Summaries::new(rest).unwrap().len(), 1);

    let cut = &wire[..wire.len() - 1];
    assert_eq!(Records::new(cut).err(), Some(ParseError::RecordTruncated));
    let mut walk = Records::over(cut);
    assert_eq!(walk.by_ref().count(), 1);
    assert_eq!(walk.wire().len(), second - 1);
    set_hop_count(&mut [0; 11], 1);
}

/// Every reason is a label of its own, known before it first occurs.
#[test]
fn reasons_are_a_closed_set() {
    let mut reasons = ParseError::REASONS.to_vec();
    reasons.sort_unstable();
    reasons.dedup();
    assert_eq!(reasons.len(), ParseError::REASONS.len());
    assert_eq!(ParseError::Checksum.reason(), "checksum");
    assert_eq!(ParseError::ExtensionCount.reason(), "extension_count");
    assert_eq!(
        ParseError::REASONS[ParseError::Sequence.index()],
        "sequence"
    );
}
