//! A scripted neighbour of a hub: a UDP socket, the wire crate, and no state machines of its own.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use scsp_profile::{KvBody, KvKind, Stamp};
use scsp_wire::{
    Builder, CaFlags, CaSeq, CsaSeq, FamilyId, Header, HelloFields, MacKey, Message, ProtocolId,
    ServerGroupId, Signer, SummaryFields,
};

use super::{Hub, Net, PATIENCE};

/// CA sequence of the next negotiation that a scripted neighbour leads.
static NEXT_SEQ: AtomicU32 = AtomicU32::new(10_000_000);

/// Hop count that hubs originate with.
pub(crate) const HOP_COUNT: u16 = 16;
/// Largest UDP datagram over IPv4.
const DATAGRAM_LEN_MAX: usize = 65_507;
/// Packet limit of a link of the default MTU.
const PACKET_LIMIT: usize = 1472;

/// M, I and O of the first CA of a negotiation.
pub(crate) const OPENING: CaFlags = CaFlags {
    master: true,
    initialize: true,
    more: true,
};

/// A summary, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) hop_count: u16,
    pub(crate) null: bool,
    pub(crate) seq: i32,
    pub(crate) key: Vec<u8>,
    pub(crate) originator: Vec<u8>,
}

impl Summary {
    pub(crate) fn new(key: impl AsRef<[u8]>, originator: &[u8], seq: i32) -> Self {
        let (key, originator) = (key.as_ref().to_vec(), originator.to_vec());
        Self {
            hop_count: 1,
            null: false,
            seq,
            key,
            originator,
        }
    }

    fn fields(&self) -> SummaryFields<'_> {
        SummaryFields {
            hop_count: self.hop_count,
            null: self.null,
            seq: CsaSeq::new(self.seq).expect("not the reserved sequence"),
            key: &self.key,
            originator: &self.originator,
        }
    }

    /// Key, originator and sequence: what an acknowledgement is matched by (D-16).
    pub(crate) fn matches(&self, other: &Self) -> bool {
        (&self.key, &self.originator, self.seq) == (&other.key, &other.originator, other.seq)
    }
}

impl From<scsp_wire::Summary<'_>> for Summary {
    fn from(it: scsp_wire::Summary<'_>) -> Self {
        Self {
            hop_count: it.hop_count,
            null: it.null,
            seq: it.seq.get(),
            key: it.key.to_vec(),
            originator: it.originator.to_vec(),
        }
    }
}

/// A record, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) summary: Summary,
    pub(crate) body: Vec<u8>,
}

/// A packet of the hub, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    Hello {
        receivers: Vec<Vec<u8>>,
        interval_secs: u16,
        dead_factor: u16,
    },
    Ca {
        seq: CaSeq,
        flags: CaFlags,
        summaries: Vec<Summary>,
        octets: Vec<u8>,
    },
    Request(Vec<Record>),
    Reply(Vec<Summary>),
    Csus(Vec<Summary>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Neighbour {
    socket: UdpSocket,
    hub: SocketAddr,
    pub(crate) id: Vec<u8>,
    pub(crate) hub_id: Vec<u8>,
    pub(crate) protocol: ProtocolId,
    pub(crate) group: ServerGroupId,
    /// What it says of its own Hellos; they are never late when this is long.
    pub(crate) hello_interval_secs: u16,
    /// Signs what it builds with this key, under this SPI, and takes nothing else from the hub.
    pub(crate) key: Option<(u32, MacKey)>,
}

/// Id that [`Setup::hub`](super::Setup::hub) gives hub `number`.
pub(crate) fn id_of(number: u8) -> Vec<u8> {
    vec![10, 0, 0, number]
}

/// A kv value that was written now.
pub(crate) fn kv_value(value: &[u8]) -> Vec<u8> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let millis = u64::try_from(now.as_millis()).expect("before the year 10889");
    let body = KvBody {
        kind: KvKind::Value,
        life_ms: None,
        stamp: Stamp::new(millis, 0),
        value,
    };
    let mut octets = vec![0; body.encoded_len()];
    body.encode(&mut octets);
    octets
}

impl Neighbour {
    /// Neighbour `number` of hub `hub`, in the group of [`Setup::hub`](super::Setup::hub).
    pub(crate) fn new(net: &Net, number: u8, hub: u8) -> Self {
        let socket = UdpSocket::bind(net.address(number, 2334)).expect("a free address");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a timeout");
        Self {
            socket,
            hub: net.address(hub, 2334),
            id: id_of(number),
            hub_id: id_of(hub),
            protocol: ProtocolId::KV,
            group: ServerGroupId(1),
            hello_interval_secs: 60,
            key: None,
        }
    }

    pub(crate) fn send(&self, octets: &[u8]) {
        let sent = self.socket.send_to(octets, self.hub).expect("sent");
        assert_eq!(sent, octets.len());
    }

    /// The packet that `build` makes with the usual header.
    pub(crate) fn packet(&self, build: impl FnOnce(&mut [u8], &Header<'_>) -> usize) -> Vec<u8> {
        let header = Header {
            protocol: self.protocol,
            group: self.group,
            sender: &self.id,
            receiver: &self.hub_id,
        };
        let mut octets = vec![0; DATAGRAM_LEN_MAX];
        let mut len = build(&mut octets, &header);
        if let Some((spi, key)) = &self.key {
            let signer = Signer { spi: *spi, key };
            len = signer.sign(&mut octets, len).expect("there is room");
        }
        octets.truncate(len);
        octets
    }

    /// A Hello that names the hub, or nobody.
    pub(crate) fn hello_packet(&self, names_hub: bool) -> Vec<u8> {
        let fields = HelloFields {
            interval_secs: self.hello_interval_secs,
            dead_factor: 3,
            family: FamilyId(0),
        };
        self.packet(|octets, header| {
            let receiver = if names_hub { header.receiver } else { &[] };
            let header = Header {
                receiver,
                ..*header
            };
            Builder::hello(octets, DATAGRAM_LEN_MAX, &header, fields)
                .expect("it fits")
                .finish()
        })
    }

    pub(crate) fn hello(&self, names_hub: bool) {
        self.send(&self.hello_packet(names_hub));
    }

    pub(crate) fn ca(&self, seq: CaSeq, flags: CaFlags, summaries: &[Summary]) {
        self.send(&self.packet(|octets, header| {
            let builder = Builder::ca(octets, DATAGRAM_LEN_MAX, header, seq, flags);
            with_summaries(builder.expect("it fits"), summaries)
        }));
    }

    pub(crate) fn request_packet(&self, receiver: &[u8], records: &[Record]) -> Vec<u8> {
        self.packet(|octets, header| {
            let header = Header {
                receiver,
                ..*header
            };
            let mut builder =
                Builder::csu_request(octets, DATAGRAM_LEN_MAX, &header).expect("it fits");
            for record in records {
                assert!(builder.push_record(&record.summary.fields(), &record.body));
            }
            builder.finish()
        })
    }

    pub(crate) fn request(&self, records: &[Record]) {
        self.send(&self.request_packet(&self.hub_id, records));
    }

    pub(crate) fn reply(&self, summaries: &[Summary]) {
        self.send(&self.packet(|octets, header| {
            let builder = Builder::csu_reply(octets, DATAGRAM_LEN_MAX, header);
            with_summaries(builder.expect("it fits"), summaries)
        }));
    }

    pub(crate) fn csus(&self, receiver: &[u8], summaries: &[Summary]) {
        self.send(&self.packet(|octets, header| {
            let header = Header {
                receiver,
                ..*header
            };
            let builder = Builder::csus(octets, DATAGRAM_LEN_MAX, &header);
            with_summaries(builder.expect("it fits"), summaries)
        }));
    }

    /// The next packet, if one comes within the socket's short patience. Every packet must be a
    /// valid one of the hub, to us, within the link's limit unless a single record needs more.
    fn receive(&self) -> Option<Packet> {
        let mut octets = vec![0; DATAGRAM_LEN_MAX];
        let (len, from) = self.socket.recv_from(&mut octets).ok()?;
        octets.truncate(len);
        assert_eq!(from, self.hub, "from another address than the link's");
        let message = Message::parse(&octets).expect("the hub sends valid packets");
        let envelope = message.envelope();
        assert_eq!(envelope.bytes().len(), len, "W-02: no padding");
        assert_eq!(
            (envelope.protocol(), envelope.group()),
            (self.protocol, self.group)
        );
        assert_eq!(envelope.sender(), self.hub_id);
        if let Some((spi, key)) = &self.key {
            let found = envelope.authentication().expect("X-04: signed");
            assert!(found.spi() == *spi && found.verify(key), "X-03");
        }
        assert!(
            len <= PACKET_LIMIT || envelope.record_count() == 1,
            "W-10: {len} octets"
        );
        if let Message::Hello(hello) = &message {
            return Some(Packet::Hello {
                receivers: hello.receivers().map(<[u8]>::to_vec).collect(),
                interval_secs: hello.hello_interval_secs,
                dead_factor: hello.dead_factor,
            });
        }
        assert_eq!(envelope.receiver(), self.id, "addressed to us alone");
        Some(match &message {
            Message::Ca(ca) => Packet::Ca {
                seq: ca.seq,
                flags: ca.flags,
                summaries: ca.summaries().map(Summary::from).collect(),
                octets: octets.clone(),
            },
            Message::CsuRequest(request) => Packet::Request(
                request
                    .records()
                    .map(|it| Record {
                        summary: it.summary.into(),
                        body: it.body.to_vec(),
                    })
                    .collect(),
            ),
            Message::CsuReply(reply) => {
                Packet::Reply(reply.summaries().map(Summary::from).collect())
            }
            Message::Csus(csus) => Packet::Csus(csus.summaries().map(Summary::from).collect()),
            Message::Hello(_) => unreachable!("returned above"),
        })
    }

    /// Waits for a packet that `pick` takes; the others are gone.
    #[track_caller]
    pub(crate) fn wait_for<T>(&self, what: &str, mut pick: impl FnMut(Packet) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < deadline {
            let Some(packet) = self.receive() else {
                continue;
            };
            last = Some(format!("{packet:?}"));
            if let Some(found) = pick(packet) {
                return found;
            }
        }
        panic!("the hub does not send {what}; last packet: {last:?}");
    }

    /// Waits for a Hello that names us, or does not.
    #[track_caller]
    pub(crate) fn wait_for_hello(&self, naming_us: bool) {
        let what = if naming_us {
            "a Hello naming us"
        } else {
            "a Hello that names nobody"
        };
        self.wait_for(what, |packet| match packet {
            Packet::Hello { receivers, .. } if naming_us => {
                (receivers == [self.id.clone()]).then_some(())
            }
            Packet::Hello { receivers, .. } => receivers.is_empty().then_some(()),
            _ => None,
        });
    }

    #[track_caller]
    pub(crate) fn wait_for_request(&self) -> Vec<Record> {
        self.wait_for("a CSU Request", |packet| match packet {
            Packet::Request(records) => Some(records),
            _ => None,
        })
    }

    #[track_caller]
    pub(crate) fn wait_for_reply(&self) -> Vec<Summary> {
        self.wait_for("a CSU Reply", |packet| match packet {
            Packet::Reply(summaries) => Some(summaries),
            _ => None,
        })
    }

    #[track_caller]
    pub(crate) fn wait_for_csus(&self) -> Vec<Summary> {
        self.wait_for("a CSUS", |packet| match packet {
            Packet::Csus(summaries) => Some(summaries),
            _ => None,
        })
    }

    /// Both sides hear each other (H-05, H-06).
    #[track_caller]
    pub(crate) fn greet(&self) {
        self.hello(false);
        self.wait_for_hello(true);
        self.hello(true);
    }

    /// Waits for the CA that opens a negotiation; its sequence.
    #[track_caller]
    pub(crate) fn wait_for_opening(&self) -> CaSeq {
        self.wait_for("the first CA of a negotiation", |packet| match packet {
            Packet::Ca {
                seq,
                flags,
                summaries,
                ..
            } if flags == OPENING => {
                assert_eq!(summaries, [], "CA-02: no records");
                Some(seq)
            }
            _ => None,
        })
    }

    /// Waits for a CA with this sequence and M bit, past the negotiation.
    #[track_caller]
    fn wait_for_ca(&self, wanted: CaSeq, master: bool) -> (bool, Vec<Summary>, Vec<u8>) {
        self.wait_for("the next CA", |packet| match packet {
            Packet::Ca {
                seq,
                flags,
                summaries,
                octets,
            } if seq == wanted && !flags.initialize => {
                assert_eq!(flags.master, master, "M bit");
                Some((flags.more, summaries, octets))
            }
            _ => None,
        })
    }

    /// Drives the exchange as the larger id, with our summaries in these pages; sends everything
    /// twice, which the slave answers twice alike (CA-12). The hub's summaries, page by page.
    #[track_caller]
    pub(crate) fn align_as_master(&self, pages: &[Vec<Summary>]) -> Vec<Vec<Summary>> {
        assert!(self.id > self.hub_id);
        self.wait_for_opening();
        // CA-02: one that the hub has not seen.
        let mut seq = CaSeq(NEXT_SEQ.fetch_add(1_000_000, Ordering::Relaxed));
        self.ca(seq, OPENING, &[]);
        let (mut more, first, _) = self.wait_for_ca(seq, false);
        let mut theirs = vec![first];
        let mut pages = pages.iter();
        loop {
            let page = pages.next();
            seq = seq.next();
            let flags = CaFlags {
                master: true,
                initialize: false,
                more: pages.len() > 0,
            };
            self.ca(seq, flags, page.map_or(&[][..], Vec::as_slice));
            let (their_more, summaries, octets) = self.wait_for_ca(seq, false);
            assert!(
                more || summaries.is_empty(),
                "CA-04: summaries after O was off"
            );
            self.ca(seq, flags, page.map_or(&[][..], Vec::as_slice));
            let (_, _, repeated) = self.wait_for_ca(seq, false);
            assert!(repeated == octets, "CA-12: the repetition differs");
            theirs.push(summaries);
            more = their_more;
            if !more && !flags.more {
                return theirs;
            }
        }
    }

    /// The same as the smaller id; takes no notice of each CA until the master repeats it (CA-11).
    #[track_caller]
    pub(crate) fn align_as_slave(&self, pages: &[Vec<Summary>]) -> Vec<Vec<Summary>> {
        assert!(self.id < self.hub_id);
        let mut seq = self.wait_for_opening();
        let mut theirs = Vec::new();
        let mut pages = pages.iter();
        loop {
            let page = pages.next();
            let flags = CaFlags {
                master: false,
                initialize: false,
                more: pages.len() > 0,
            };
            self.ca(seq, flags, page.map_or(&[][..], Vec::as_slice));
            if theirs.last().is_some_and(|(more, _)| !more) && !flags.more {
                return theirs.into_iter().map(|(_, page)| page).collect();
            }
            seq = seq.next();
            let (more, summaries, octets) = self.wait_for_ca(seq, true);
            let (_, _, repeated) = self.wait_for_ca(seq, true);
            assert!(repeated == octets, "CA-11: the repetition differs");
            theirs.push((more, summaries));
        }
    }

    /// Meets the hub and aligns with it, neither side having anything new for the other.
    #[track_caller]
    pub(crate) fn join(&self, hub: &Hub) {
        self.greet();
        if self.id > self.hub_id {
            self.align_as_master(&[]);
        } else {
            self.align_as_slave(&[]);
        }
        super::eventually("the hub is aligned", || {
            hub.alignments().iter().any(|state| state == "aligned")
        });
    }
}

fn with_summaries(mut builder: Builder<'_>, summaries: &[Summary]) -> usize {
    for summary in summaries {
        assert!(builder.push_summary(&summary.fields()));
    }
    builder.finish()
}
