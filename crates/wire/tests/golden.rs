//! Packets recorded from FreeBSD's scspd: an independent implementation reads like this one.

mod support;

use scsp_wire::{Envelope, FamilyId, Message, ParseError, ProtocolId, ServerGroupId, checksum};

const FRAMES: &str = include_str!("vectors/freebsd-scspd.txt");
const ID_A: &[u8] = &[10, 0, 0, 1];
const ID_B: &[u8] = &[10, 0, 0, 2];

struct Frame {
    label: &'static str,
    from_a: bool,
    packet: Vec<u8>,
}

fn frames() -> Vec<Frame> {
    FRAMES
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let mut columns = line.split('\t');
            let mut column = || columns.next().expect("label, direction, hex");
            let (label, direction, hex) = (column(), column(), column());
            let packet = hex
                .as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect();
            Frame {
                label,
                from_a: direction == "A->B",
                packet,
            }
        })
        .collect()
}

/// The value of `name=` in a label such as `CA(M=1,I=1,O=1,seq=1,csas=0)`.
fn labelled(label: &str, name: &str) -> u32 {
    let (_, inside) = label.split_once('(').unwrap();
    let value = inside
        .trim_end_matches(')')
        .split(',')
        .find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    value
        .unwrap_or_else(|| panic!("{label} has no {name}"))
        .parse()
        .unwrap()
}

fn check(frame: &Frame) {
    let Frame {
        label,
        from_a,
        packet,
    } = frame;
    let message = Message::parse(packet).unwrap_or_else(|error| panic!("{label}: {error}"));
    let (from, to) = if *from_a { (ID_A, ID_B) } else { (ID_B, ID_A) };
    let envelope = message.envelope();
    assert_eq!(envelope.protocol(), ProtocolId::ATMARP);
    assert_eq!(envelope.group(), ServerGroupId(1));
    assert_eq!(
        (envelope.sender(), envelope.receiver()),
        (from, to),
        "{label}"
    );
    assert_eq!(message.extensions().len(), 0);

    let count = match &message {
        Message::Hello(hello) => {
            assert_eq!(*label, "Hello(receiver=DCS)");
            assert!(hello.receivers().eq([to]));
            assert_eq!((hello.hello_interval.as_secs(), hello.dead_factor), (3, 3));
            assert_eq!(hello.family, FamilyId(0));
            return;
        }
        Message::Ca(ca) => {
            assert!(label.starts_with("CA("));
            assert_eq!(ca.seq.0, labelled(label, "seq"));
            for (flag, name) in [
                (ca.flags.master, "M"),
                (ca.flags.initialize, "I"),
                (ca.flags.more, "O"),
            ] {
                assert_eq!(u32::from(flag), labelled(label, name), "{label}");
            }
            assert!(ca.summaries().all(|summary| summary.hop_count == 0)); // D-16
            assert_eq!(ca.summaries().len(), ca.summaries().count());
            assert_eq!(ca.summaries().len(), labelled(label, "csas") as usize);
            return;
        }
        Message::CsuRequest(request) => {
            assert!(label.starts_with("CSU-Request("));
            assert!(
                request
                    .records()
                    .all(|record| record.summary.originator == from)
            );
            assert!(
                request
                    .records()
                    .all(|record| record.body.starts_with(&[0, 19, 8, 0]))
            );
            assert!(
                request
                    .records()
                    .all(|record| record.summary.key.len() == 4)
            );
            request.records().count()
        }
        Message::CsuReply(reply) => {
            assert!(label.starts_with("CSU-Reply("));
            assert!(reply.summaries().all(|summary| summary.originator == to));
            reply.summaries().count()
        }
        Message::Csus(csus) => {
            assert!(label.starts_with("CSUS("));
            assert!(
                csus.summaries()
                    .all(|s| s.hop_count == 1 && s.originator == to)
            );
            csus.summaries().count()
        }
    };
    let expected = if label.contains("E.164") {
        1
    } else {
        labelled(label, "n")
    };
    assert_eq!(count, expected as usize, "{label}");
}

fn rebuilt(packet: &[u8]) -> Vec<u8> {
    let mut out = vec![0xEE; packet.len()];
    let len = Message::parse(packet)
        .unwrap()
        .write(&mut out, packet.len())
        .unwrap();
    out.truncate(len);
    out
}

/// W-11: every recorded packet reads as labelled and is rebuilt to the same octets.
#[test]
fn w_11_recorded_packets_read_and_rebuild() {
    let even: Vec<_> = frames()
        .into_iter()
        .filter(|f| f.packet.len().is_multiple_of(2))
        .collect();
    assert_eq!(even.len(), 36);
    for frame in &even {
        check(frame);
        assert_eq!(rebuilt(&frame.packet), frame.packet, "{}", frame.label);
        let message = Message::parse(&frame.packet).unwrap();
        assert_eq!(support::canonical(&message).as_ref(), Some(&frame.packet));
    }
}

/// W-03: that server sums the last octet of an odd packet in the wrong half, so its one odd packet
/// is refused; with the checksum of the standard it reads and rebuilds.
#[test]
fn w_03_recorded_odd_packet_has_a_wrong_checksum() {
    let odd: Vec<_> = frames()
        .into_iter()
        .filter(|f| !f.packet.len().is_multiple_of(2))
        .collect();
    let [frame] = &odd[..] else {
        panic!("one packet of odd length")
    };
    assert_eq!(frame.packet.len(), 83);
    assert_eq!(
        Envelope::parse(&frame.packet).err(),
        Some(ParseError::Checksum)
    );

    let mut packet = frame.packet.clone();
    checksum::seal(&mut packet);
    assert_ne!(packet[4..6], frame.packet[4..6]);
    check(&Frame {
        packet: packet.clone(),
        ..*frame
    });
    assert_eq!(rebuilt(&packet), packet);
}
