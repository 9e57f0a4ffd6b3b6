//! Hubs in a world of virtual time: the cores pumped as the daemon's threads would, with every
//! packet they emit checked against what must hold in any state.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use scsp_engine::auth::Signing;
use scsp_engine::message::BatchKind;
use scsp_engine::shard::{
    Condition, DATAGRAM_LEN_MAX, Drop, KvValue, Life, Message, SEGMENTS_MAX, Transmit, shard_of,
};
use scsp_engine::{
    AuthSetup, Control, DcsIndex, DcsSetup, Destination, InstanceIndex, InstanceSetup, LinkIndex,
    LinkSetup, Notice, Now, PeerStatus, Setup, Shard, ShardIndex, Time, ToControl, ToShard,
    alignment, hello,
};
use scsp_profile::Profile;
use scsp_wire::{
    Envelope, FamilyId, Message as Packet, MessageType, ProtocolId, Record, Records, ServerGroupId,
    ServerId,
};

/// The only instance of most setups.
pub(crate) const I0: InstanceIndex = InstanceIndex(0);
/// The first DCS.
pub(crate) const D0: DcsIndex = DcsIndex(0);
/// The second DCS.
pub(crate) const D1: DcsIndex = DcsIndex(1);
/// Unix time at the start of every world.
pub(crate) const START_UNIX_MS: u64 = 1_790_000_000_000;

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A moment, counted from the start of the world.
pub(crate) fn at(since_start: Duration) -> Now {
    let time = Time::ZERO
        .saturating_add(secs(1000))
        .saturating_add(since_start);
    let unix_ms = START_UNIX_MS + u64::try_from(since_start.as_millis()).unwrap();
    Now { time, unix_ms }
}

/// A server id of four octets, `10.0.0.last`.
pub(crate) fn id(last: u8) -> ServerId {
    ServerId::from_bytes(&[10, 0, 0, last]).unwrap()
}

/// A kv instance with the default timers.
pub(crate) fn instance() -> InstanceSetup {
    InstanceSetup {
        protocol: ProtocolId::KV,
        group: ServerGroupId(1),
        family: FamilyId(0),
        profile: Profile::Kv,
        hello_interval_secs: 3,
        dead_factor: 3,
        ca_retransmit: secs(1),
        csus_retransmit: secs(1),
        csu_retransmit: secs(1),
        csu_retransmit_max: 5,
        csus_retransmit_max: 5,
        hop_count: 16,
        restart_increment: 1000,
        boot_hold: secs(10),
        purge_retention: secs(3600),
        ignore_abnormal: false,
    }
}

/// The same for records nobody looks into.
pub(crate) fn opaque_instance() -> InstanceSetup {
    InstanceSetup {
        protocol: ProtocolId::ATMARP,
        profile: Profile::Opaque,
        ..instance()
    }
}

pub(crate) fn dcs() -> DcsSetup {
    DcsSetup {
        instance: I0,
        link: LinkIndex(0),
        station: 0,
        packet_limit: 1472,
        datagram_limit: DATAGRAM_LEN_MAX,
        offer: None,
        expected_id: None,
        max_records: 0,
        auth: AuthSetup::default(),
    }
}

/// One instance with `peers` neighbours.
pub(crate) fn setup(last: u8, shards: u16, peers: usize) -> Setup {
    Setup {
        lsid: id(last),
        shards,
        hash_seed: 7,
        started_unix_ms: START_UNIX_MS,
        instances: vec![instance()],
        links: Vec::new(),
        dcs: vec![dcs(); peers],
    }
}

/// A link of its own for every DCS.
fn unicast(setup: &mut Setup) {
    for (dcs, link) in setup.dcs.iter_mut().zip(0..) {
        (dcs.link, dcs.station) = (LinkIndex(link), link);
    }
    setup.links = vec![
        LinkSetup {
            multipoint: false,
            segments: true
        };
        setup.dcs.len()
    ];
}

/// A message between cores.
#[derive(Debug)]
pub(crate) enum Note {
    ToControl(ToControl),
    ToShard(ToShard),
}

/// Key and originator id of an entry.
type Names = (Vec<u8>, Vec<u8>);

/// Number of a core of a hub: 0 is `Control`, then the shards.
type Core = usize;

/// What must hold for everything sent to one DCS, and what was seen of it so far.
#[derive(Debug, Default)]
struct Watch {
    /// Shards in which CSU messages may flow.
    open: BTreeSet<Core>,
    /// What the outstanding CSUS asks for, and when it was sent.
    solicited: Option<(Time, BTreeSet<Names>)>,
    /// The master's CA that waits for its answer.
    unanswered_ca: Option<u32>,
    /// Number of the last opening.
    opened: Option<u32>,
    /// It offered more than lock step.
    offered: bool,
    /// Both sides did.
    agreed: bool,
    /// Shards that have not heard yet that the exchange in which both did is over.
    behind: BTreeSet<Core>,
}

/// One server: `Control`, its shards, and the queues between them.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) setup: Arc<Setup>,
    pub(crate) control: Control,
    pub(crate) shards: Vec<Shard>,
    pub(crate) notes: BTreeMap<(Core, Core), VecDeque<Note>>,
    pub(crate) out: VecDeque<(DcsIndex, Vec<u8>)>,
    /// Packets to everybody on a multipoint link.
    pub(crate) out_to_all: VecDeque<(LinkIndex, Vec<u8>)>,
    pub(crate) notices: Vec<Notice>,
    /// What the shards sent: to whom, and the octets of the packets that went as one.
    pub(crate) sends: Vec<(Destination, Vec<usize>)>,
    /// Hellos sent.
    pub(crate) hellos: usize,
    watches: Vec<Watch>,
    buffer: Vec<u8>,
    /// Shard that takes in the next packet.
    turn: usize,
}

impl Hub {
    /// A hub whose links are up.
    pub(crate) fn new(setup: Setup, now: Now) -> Self {
        let mut hub = Self::unlinked(setup, now);
        for link in (0..).map(LinkIndex).take(hub.setup.links.len()) {
            hub.control.handle_link(now, link, true);
        }
        hub.collect(now);
        hub
    }

    /// A hub whose links are down.
    pub(crate) fn unlinked(mut setup: Setup, now: Now) -> Self {
        if setup.links.is_empty() {
            unicast(&mut setup);
        }
        let setup = Arc::new(setup);
        let shards = (0..setup.shards)
            .map(|index| Shard::new(Arc::clone(&setup), ShardIndex(index), now))
            .collect();
        let mut hub = Self {
            control: Control::new(Arc::clone(&setup), now, 42),
            shards,
            notes: BTreeMap::new(),
            out: VecDeque::new(),
            out_to_all: VecDeque::new(),
            notices: Vec::new(),
            sends: Vec::new(),
            hellos: 0,
            watches: setup.dcs.iter().map(|_| Watch::default()).collect(),
            buffer: vec![0; DATAGRAM_LEN_MAX],
            turn: 0,
            setup,
        };
        hub.collect(now);
        hub
    }

    /// Polls every core until it has nothing more to say.
    pub(crate) fn collect(&mut self, now: Now) {
        self.collect_notes();
        self.collect_packets(now);
    }

    pub(crate) fn collect_notes(&mut self) {
        while let Some((shard, message)) = self.control.poll_message() {
            let to = shard.index() + 1;
            self.notes
                .entry((0, to))
                .or_default()
                .push_back(Note::ToShard(message));
        }
        while let Some(notice) = self.control.poll_notice() {
            self.notices.push(notice);
        }
        for (index, shard) in self.shards.iter_mut().enumerate() {
            while let Some(message) = shard.poll_message() {
                let (to, note) = match message {
                    Message::Control(message) => (0, Note::ToControl(message)),
                    Message::Shard(to, message) => (to.index() + 1, Note::ToShard(message)),
                };
                self.notes
                    .entry((index + 1, to))
                    .or_default()
                    .push_back(note);
            }
        }
    }

    pub(crate) fn collect_packets(&mut self, now: Now) {
        self.collect_control_packets(now);
        for index in 0..self.shards.len() {
            loop {
                let mut buffer = std::mem::take(&mut self.buffer);
                let sent = self.shards[index].poll_transmit(now, &mut buffer);
                self.buffer = buffer;
                let Some(sent) = sent else { break };
                let segment = sent.segment.unwrap_or(sent.len);
                let packets = self.buffer[..sent.len].chunks(segment);
                let packets: Vec<_> = packets.map(<[u8]>::to_vec).collect();
                self.check_segments(&sent, packets.len());
                self.sends
                    .push((sent.to, packets.iter().map(Vec::len).collect()));
                for bytes in packets {
                    self.emit(now, index + 1, sent.to, bytes);
                }
            }
        }
    }

    /// What a kernel demands of packets that it is to cut from one send.
    fn check_segments(&self, sent: &Transmit, count: usize) {
        assert!(sent.len <= DATAGRAM_LEN_MAX);
        let Some(segment) = sent.segment else {
            assert_eq!(count, 1);
            return;
        };
        assert!((2..=SEGMENTS_MAX).contains(&count));
        let (link, limit) = match sent.to {
            Destination::Dcs(dcs) => {
                let setup = &self.setup.dcs[dcs.index()];
                (setup.link, setup.packet_limit)
            }
            Destination::Group(link) => {
                let on_link = self.setup.dcs_on(link);
                let limits = on_link.map(|dcs| self.setup.dcs[dcs.index()].packet_limit);
                (link, limits.max().unwrap())
            }
        };
        assert!(self.setup.takes_segments(link));
        assert!(
            segment <= limit,
            "D-14: what travels in fragments travels alone"
        );
    }

    fn collect_control_packets(&mut self, now: Now) {
        while let Some(packet) = self.control.poll_transmit() {
            self.emit(now, 0, packet.to, packet.bytes);
        }
    }

    fn emit(&mut self, now: Now, core: Core, to: Destination, bytes: Vec<u8>) {
        let parsed = Envelope::parse(&bytes);
        let is_hello = parsed.is_ok_and(|it| it.message_type() == MessageType::Hello);
        self.hellos += usize::from(is_hello);
        match to {
            Destination::Dcs(dcs) => {
                self.check_sent(now, core, dcs, &bytes);
                self.out.push_back((dcs, bytes));
            }
            Destination::Group(link) => {
                self.check_sent_to_all(now, core, link, &bytes);
                self.out_to_all.push_back((link, bytes));
            }
        }
    }

    /// What holds for every packet to everybody on a multipoint link.
    fn check_sent_to_all(&self, now: Now, core: Core, link: LinkIndex, bytes: &[u8]) {
        assert!(self.setup.is_multipoint(link));
        let packet = Packet::parse(bytes).expect("only valid packets are sent");
        let envelope = packet.envelope();
        assert_eq!(envelope.sender(), self.setup.lsid.as_bytes());
        let on_link = self.setup.dcs_on(link).filter(|dcs| {
            let instance = self.setup.instance_of(*dcs);
            (envelope.protocol(), envelope.group()) == (instance.protocol, instance.group)
        });
        let on_link: Vec<_> = on_link.collect();
        assert!(!on_link.is_empty());
        for dcs in &on_link {
            let auth = &self.setup.dcs[dcs.index()].auth;
            check_signature(auth.signing(now.unix_ms), envelope);
        }
        match &packet {
            Packet::Hello(hello) => {
                let ids: Vec<_> = hello.receivers().collect();
                let names = |dcs: &DcsIndex| {
                    let id = self.peer(*dcs).id;
                    id.is_none_or(|id| ids.contains(&id.as_bytes()))
                };
                assert!(on_link.iter().all(names), "H-04, H-10");
            }
            Packet::CsuRequest(request) => {
                assert_eq!(
                    envelope.receiver(),
                    vec![0xFF; self.setup.lsid.as_bytes().len()]
                );
                assert!(request.records().all(|record| record.summary.hop_count > 0));
                let open = on_link
                    .iter()
                    .filter(|dcs| self.watches[dcs.index()].open.contains(&core));
                assert!(
                    open.count() >= 2,
                    "CSU-14: sent to everybody for fewer than two"
                );
                for dcs in on_link {
                    let setup = &self.setup.dcs[dcs.index()];
                    let count = envelope.record_count();
                    assert!(
                        bytes.len() <= setup.packet_limit || count == 1,
                        "W-10, D-14"
                    );
                    assert!(setup.max_records == 0 || count <= setup.max_records);
                }
            }
            other => panic!("{other:?} sent to everybody"),
        }
    }

    /// Hands over the first message from core to core; whether there was one.
    pub(crate) fn deliver(&mut self, now: Now, path: (Core, Core)) -> bool {
        let Some(note) = self.notes.get_mut(&path).and_then(VecDeque::pop_front) else {
            return false;
        };
        match note {
            Note::ToControl(message) => self.control.handle_message(now, message),
            Note::ToShard(message) => {
                self.watch(path.1, &message);
                self.shards[path.1 - 1].handle_message(now, message);
            }
        }
        true
    }

    fn watch(&mut self, core: Core, message: &ToShard) {
        match message {
            ToShard::Update { dcs, .. } => {
                self.watches[dcs.index()].open.insert(core);
            }
            ToShard::Exchange { dcs, .. } | ToShard::Down { dcs } => {
                let watch = &mut self.watches[dcs.index()];
                watch.open.remove(&core);
                watch.behind.remove(&core);
                watch.solicited = None;
                watch.unanswered_ca = None;
            }
            ToShard::Batch {
                dcs,
                kind: BatchKind::Request | BatchKind::Broadcast,
                bytes,
                ..
            } => {
                self.watch_records(*dcs, Records::over(bytes));
            }
            ToShard::Packet { dcs, bytes } => {
                let envelope = Envelope::parse(bytes).expect("it was parsed before");
                self.watch_received(*dcs, &envelope);
            }
            ToShard::Batch { .. }
            | ToShard::Spent { .. }
            | ToShard::NextPage { .. }
            | ToShard::Summaries { .. }
            | ToShard::Offer { .. }
            | ToShard::Turn { .. }
            | ToShard::Mesh { .. }
            | ToShard::Release { .. } => {}
        }
    }

    /// Delivers messages between cores until there are none.
    pub(crate) fn settle(&mut self, now: Now) {
        loop {
            self.collect_notes();
            let Some(path) = self
                .notes
                .iter()
                .find(|(_, q)| !q.is_empty())
                .map(|(p, _)| *p)
            else {
                break;
            };
            self.deliver(now, path);
            // What is checked of them is what holds as they leave.
            self.collect_control_packets(now);
        }
        self.collect_packets(now);
    }

    /// Takes in a datagram at the next shard in turn, as a worker would.
    pub(crate) fn receive(&mut self, now: Now, dcs: DcsIndex, bytes: &[u8]) {
        self.turn = (self.turn + 1) % self.shards.len();
        self.receive_at(now, self.turn, dcs, bytes);
    }

    pub(crate) fn receive_at(&mut self, now: Now, shard: usize, dcs: DcsIndex, bytes: &[u8]) {
        match Envelope::parse(bytes) {
            Ok(envelope) => {
                self.watch_received(dcs, &envelope);
                self.shards[shard].handle_packet(now, dcs, &envelope);
            }
            Err(error) => self.shards[shard].drop_packet(Drop::Malformed(error)),
        }
    }

    /// Takes in a datagram that is steered to `Control`.
    pub(crate) fn receive_at_control(&mut self, now: Now, dcs: DcsIndex, bytes: &[u8]) {
        match Envelope::parse(bytes) {
            Ok(envelope) => {
                self.watch_received(dcs, &envelope);
                self.control.handle_packet(now, dcs, &envelope);
            }
            Err(error) => self.control.drop_packet(Drop::Malformed(error)),
        }
    }

    fn watch_received(&mut self, dcs: DcsIndex, envelope: &Envelope<'_>) {
        let watch = &mut self.watches[dcs.index()];
        match envelope.open() {
            Ok(Packet::Ca(ca)) => {
                watch.unanswered_ca = watch.unanswered_ca.filter(|seq| *seq != ca.seq.0);
                let answers = !ca.flags.master && !ca.flags.initialize;
                watch.agreed |=
                    answers && watch.offered && ca.extensions().alignment_offer().is_some();
            }
            Ok(Packet::CsuRequest(request)) => self.watch_records(dcs, request.records()),
            Ok(_) | Err(_) => {}
        }
    }

    /// What came is not outstanding any more.
    fn watch_records<'a>(&mut self, dcs: DcsIndex, records: impl Iterator<Item = Record<'a>>) {
        if let Some((_, asked)) = &mut self.watches[dcs.index()].solicited {
            for summary in records.map(|record| record.summary) {
                asked.remove(&(summary.key.to_vec(), summary.originator.to_vec()));
            }
        }
    }

    /// What holds for every packet sent.
    fn check_sent(&mut self, now: Now, core: Core, dcs: DcsIndex, bytes: &[u8]) {
        let packet = Packet::parse(bytes).expect("only valid packets are sent");
        let envelope = packet.envelope();
        let (setup, instance) = (&self.setup.dcs[dcs.index()], self.setup.instance_of(dcs));
        assert_eq!(envelope.bytes().len(), bytes.len());
        assert_eq!(
            (envelope.protocol(), envelope.group()),
            (instance.protocol, instance.group)
        );
        assert_eq!(
            envelope.sender(),
            self.setup.lsid.as_bytes(),
            "sender is LSID"
        );
        check_signature(setup.auth.signing(now.unix_ms), envelope);
        let kind = envelope.message_type();
        let offered = setup.offer.map_or(0, |offer| usize::from(offer.packet));
        assert!(
            bytes.len() <= setup.packet_limit.max(offered)
                || kind != MessageType::Hello && envelope.record_count() == 1,
            "W-10, D-14: {kind:?} of {} octets",
            bytes.len()
        );
        let state = self.control.peer(dcs);
        let watch = &mut self.watches[dcs.index()];
        match &packet {
            Packet::Hello(_) => return,
            Packet::Ca(ca) => {
                assert_eq!(state.hello, hello::State::Bidirectional, "H-12: CA sent");
                if ca.flags.initialize {
                    // The shards may hear of the new exchange later.
                    watch.unanswered_ca = None;
                    watch.offered = ca.extensions().alignment_offer().is_some();
                    // An opening may be repeated while its answer is on its way to `Control`.
                    let repeated = watch.opened.replace(ca.seq.0) == Some(ca.seq.0);
                    if watch.agreed && !repeated {
                        watch.behind.clone_from(&watch.open);
                    }
                    watch.agreed &= repeated;
                } else if ca.extensions().alignment_offer().is_some() {
                    watch.agreed = true;
                }
                let master = state.role == Some(alignment::Role::Master);
                if master && ca.flags.master && !ca.flags.initialize {
                    // CA-07
                    let waits = watch.unanswered_ca.is_some_and(|seq| seq != ca.seq.0);
                    assert!(!waits || watch.agreed);
                    watch.unanswered_ca = Some(ca.seq.0);
                }
                return assert!(ca.summaries().all(|it| it.hop_count == 1), "CSU-17");
            }
            Packet::CsuRequest(request) => {
                assert!(request.records().all(|record| record.summary.hop_count > 0));
                let max = setup.max_records;
                assert!(max == 0 || envelope.record_count() <= max);
            }
            Packet::CsuReply(reply) => {
                assert!(reply.summaries().all(|it| it.hop_count == 1), "CSU-17");
            }
            Packet::Csus(csus) => {
                assert!(csus.summaries().all(|it| it.hop_count == 1), "CSU-17");
                if let Some((sent, open)) = &watch.solicited {
                    let waited = now.time.since(*sent) >= instance.csus_retransmit;
                    assert!(
                        open.is_empty() || waited || watch.agreed || watch.behind.contains(&core),
                        "CA-19: core {core} asks again at {:?}, {open:?} open since {sent:?}",
                        now.time
                    );
                }
                let asked = csus
                    .summaries()
                    .map(|it| (it.key.to_vec(), it.originator.to_vec()));
                watch.solicited = Some((now.time, asked.collect()));
            }
        }
        assert!(
            watch.open.contains(&core),
            "CSU-01: {kind:?} sent while not in Update Cache"
        );
        assert!(envelope.record_count() > 0);
    }

    /// Lets timers run out. Afterwards no deadline may lie in the past.
    pub(crate) fn tick(&mut self, now: Now) {
        self.control.handle_timeouts(now);
        for shard in &mut self.shards {
            shard.handle_timeouts(now);
        }
        self.settle(now);
        let next = self.next_deadline();
        assert!(
            next.is_none_or(|next| next > now.time),
            "{next:?} is not after {now:?}"
        );
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let shards = self.shards.iter().filter_map(Shard::next_deadline);
        shards.chain(self.control.next_deadline()).min()
    }

    pub(crate) fn peer(&self, dcs: DcsIndex) -> PeerStatus {
        self.control.peer(dcs)
    }

    pub(crate) fn hello(&self, dcs: DcsIndex) -> hello::State {
        self.control.peer(dcs).hello
    }

    pub(crate) fn alignment(&self, dcs: DcsIndex) -> alignment::State {
        self.control.peer(dcs).alignment
    }

    /// The shard that owns `key`.
    pub(crate) fn home(&mut self, key: &[u8]) -> &mut Shard {
        let index = shard_of(key, self.setup.shards);
        &mut self.shards[index.index()]
    }

    pub(crate) fn home_ref(&self, key: &[u8]) -> &Shard {
        let index = shard_of(key, self.setup.shards);
        &self.shards[index.index()]
    }

    pub(crate) fn set(&mut self, now: Now, key: &[u8], value: &[u8]) {
        let shard = self.home(key);
        let done = shard.kv_set(now, I0, key, value, Life::Forever, Condition::Always);
        assert_eq!(done, Ok(true));
    }

    pub(crate) fn del(&mut self, now: Now, key: &[u8]) -> bool {
        self.home(key).kv_del(now, I0, key).unwrap()
    }

    pub(crate) fn get(&self, now: Now, key: &[u8]) -> Option<Vec<u8>> {
        let found = self.home_ref(key).kv_get(now, I0, key).unwrap();
        found.map(|KvValue { value, .. }| value.to_vec())
    }

    /// Every entry of the first instance: key, originator, sequence, body without its life,
    /// withdrawn.
    pub(crate) fn entries(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for shard in &self.shards {
            let (store, mut from) = (shard.store(I0), 0);
            while let Some((next, entry)) = store.scan_next(from) {
                from = next;
                let entry = store.entry(entry);
                let (before, after) = self.setup.instances[0].profile.lasting_parts(entry.body);
                rows.push(Row {
                    key: entry.key.to_vec(),
                    originator: entry.originator.to_vec(),
                    seq: entry.seq.get(),
                    body: [before, after].concat(),
                    withdrawn: entry.flags.withdrawn,
                });
            }
        }
        rows.sort();
        rows
    }
}

/// Every packet goes out as it has to at its moment.
fn check_signature(signing: Signing<'_>, envelope: &Envelope<'_>) {
    let found = envelope.authentication();
    match signing {
        Signing::Plain | Signing::Unsigned => assert!(found.is_none()),
        Signing::Withheld => panic!("X-04: sent without a valid key"),
        Signing::Signed(signer) => {
            let found = found.expect("X-04: sent unsigned");
            assert_eq!(found.spi(), signer.spi, "X-02");
            assert!(found.verify(signer.key), "X-03");
        }
    }
}

/// An entry, for comparing hubs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) key: Vec<u8>,
    pub(crate) originator: Vec<u8>,
    pub(crate) seq: i32,
    pub(crate) body: Vec<u8>,
    pub(crate) withdrawn: bool,
}

/// Hubs, cables between them, and the time.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) since_start: Duration,
    pub(crate) hubs: Vec<Hub>,
    /// (hub, its DCS) at both ends.
    pub(crate) cables: Vec<[(usize, DcsIndex); 2]>,
    pub(crate) cut: BTreeSet<usize>,
    /// Multipoint links: hubs, and their link to it. A hub's number is its station.
    pub(crate) segments: Vec<Vec<(usize, LinkIndex)>>,
    /// Percent of all packets lost, each receiver's for itself.
    pub(crate) loss: u64,
    pub(crate) random: Random,
    /// Packets sent, by message type code.
    pub(crate) launched: [usize; 6],
    /// Hubs that crashed.
    pub(crate) dead: BTreeSet<usize>,
    flights: VecDeque<(Duration, usize, DcsIndex, Vec<u8>)>,
}

/// How long a packet is under way.
const DELAY: Duration = Duration::from_millis(1);

impl World {
    /// Hubs in a line, with 1, 2, … as the last octet of their ids and so many shards each.
    pub(crate) fn line(shards: &[u16]) -> Self {
        Self::line_of(shards, |_, setup| setup)
    }

    pub(crate) fn line_of(shards: &[u16], adapt: impl Fn(usize, Setup) -> Setup) -> Self {
        let last = shards.len() - 1;
        let hubs = shards.iter().enumerate().map(|(index, shards)| {
            let peers = if index == 0 || index == last { 1 } else { 2 };
            let peers = if last == 0 { 0 } else { peers };
            let setup = setup(u8::try_from(index + 1).unwrap(), *shards, peers);
            Hub::new(adapt(index, setup), at(Duration::ZERO))
        });
        // The DCS towards the left comes first.
        let cables = (0..last).map(|left| [(left, DcsIndex(u16::from(left > 0))), (left + 1, D0)]);
        let (hubs, cables) = (hubs.collect(), cables.collect());
        Self::of(hubs, cables)
    }

    pub(crate) fn of(hubs: Vec<Hub>, cables: Vec<[(usize, DcsIndex); 2]>) -> Self {
        Self {
            since_start: Duration::ZERO,
            hubs,
            cables,
            cut: BTreeSet::new(),
            segments: Vec::new(),
            loss: 0,
            random: Random(1),
            launched: [0; 6],
            dead: BTreeSet::new(),
            flights: VecDeque::new(),
        }
    }

    /// The same in a ring of three or more: the DCS towards the hub before comes first.
    pub(crate) fn ring_of(shards: &[u16], adapt: impl Fn(usize, Setup) -> Setup) -> Self {
        let hubs = shards.iter().enumerate().map(|(index, shards)| {
            let setup = setup(u8::try_from(index + 1).unwrap(), *shards, 2);
            Hub::new(adapt(index, setup), at(Duration::ZERO))
        });
        let hubs: Vec<Hub> = hubs.collect();
        let cables = (0..hubs.len()).map(|left| [(left, D1), ((left + 1) % shards.len(), D0)]);
        let cables = cables.collect();
        Self::of(hubs, cables)
    }

    /// A hub loses all it held and starts anew.
    pub(crate) fn restart(&mut self, hub: usize) {
        let now = self.now();
        let setup = Setup {
            started_unix_ms: now.unix_ms,
            ..(*self.hubs[hub].setup).clone()
        };
        self.hubs[hub] = Hub::new(setup, now);
    }

    pub(crate) fn now(&self) -> Now {
        at(self.since_start)
    }

    fn other_end(&self, hub: usize, dcs: DcsIndex) -> Option<(usize, DcsIndex)> {
        self.cables.iter().enumerate().find_map(|(index, [a, b])| {
            let other = match () {
                () if *a == (hub, dcs) => *b,
                () if *b == (hub, dcs) => *a,
                () => return None,
            };
            (!self.cut.contains(&index)).then_some(other)
        })
    }

    pub(crate) fn send_all(&mut self) {
        let now = self.now();
        for hub in 0..self.hubs.len() {
            if self.dead.contains(&hub) {
                continue;
            }
            self.hubs[hub].settle(now);
            while let Some((link, bytes)) = self.hubs[hub].out_to_all.pop_front() {
                let segment = self.segment(hub, link);
                for (other, its_link) in segment.into_iter().filter(|(other, _)| *other != hub) {
                    if let Some(dcs) = self.addressee(hub, other, its_link, &bytes) {
                        self.launch(other, dcs, bytes.clone());
                    }
                }
            }
            while let Some((to, bytes)) = self.hubs[hub].out.pop_front() {
                let target = &self.hubs[hub].setup.dcs[to.index()];
                if self.hubs[hub].setup.is_multipoint(target.link) {
                    let other = usize::from(target.station);
                    let segment = self.segment(hub, target.link);
                    let end = segment.iter().find(|(member, _)| *member == other);
                    let link = end.expect("it is on the same link").1;
                    if let Some(dcs) = self.addressee(hub, other, link, &bytes) {
                        self.launch(other, dcs, bytes);
                    }
                } else if let Some((other, dcs)) = self.other_end(hub, to) {
                    self.launch(other, dcs, bytes);
                }
            }
        }
    }

    fn segment(&self, hub: usize, link: LinkIndex) -> Vec<(usize, LinkIndex)> {
        let found = self.segments.iter().find(|it| it.contains(&(hub, link)));
        found.expect("it is on a multipoint link").clone()
    }

    /// The DCS of `to` that a packet of the hub `from` on a multipoint link is for.
    fn addressee(&self, from: usize, to: usize, link: LinkIndex, bytes: &[u8]) -> Option<DcsIndex> {
        let (setup, station) = (&self.hubs[to].setup, u16::try_from(from).unwrap());
        let envelope = Envelope::parse(bytes).expect("hubs send valid packets");
        let named = (envelope.protocol(), envelope.group());
        if let Some(family) = envelope.family() {
            return setup.hello_dcs(link, station, named, family);
        }
        setup.dcs_on(link).find(|dcs| {
            let instance = setup.instance_of(*dcs);
            setup.dcs[dcs.index()].station == station
                && (instance.protocol, instance.group) == named
        })
    }

    fn launch(&mut self, hub: usize, dcs: DcsIndex, bytes: Vec<u8>) {
        self.launched[usize::from(bytes[1])] += 1;
        if !self.dead.contains(&hub) && !self.random.percent(self.loss) {
            let lands_at = self.since_start + DELAY;
            self.flights.push_back((lands_at, hub, dcs, bytes));
        }
    }

    /// Lets `duration` pass.
    pub(crate) fn run(&mut self, duration: Duration) {
        self.run_until(duration, |_| false);
    }

    /// Lets time pass until `done`, at most `limit`; whether it was done.
    pub(crate) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.since_start + limit;
        loop {
            self.send_all();
            if done(self) {
                return true;
            }
            let epoch = at(Duration::ZERO).time;
            let dead = &self.dead;
            let hubs = self.hubs.iter().enumerate();
            let deadlines = hubs
                .filter(|(hub, _)| !dead.contains(hub))
                .filter_map(|(_, hub)| hub.next_deadline());
            let deadline = deadlines.map(|time| time.since(epoch)).min();
            let landing = self.flights.front().map(|flight| flight.0);
            let next = [deadline, landing]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(end);
            if next > end {
                self.since_start = end;
                return done(self);
            }
            self.since_start = next.max(self.since_start);
            while self
                .flights
                .front()
                .is_some_and(|flight| flight.0 <= self.since_start)
            {
                let (_, hub, dcs, bytes) = self.flights.pop_front().unwrap();
                if self.dead.contains(&hub) {
                    continue;
                }
                let now = self.now();
                self.hubs[hub].receive(now, dcs, &bytes);
                self.hubs[hub].collect_notes();
            }
            let now = self.now();
            for (index, hub) in self.hubs.iter_mut().enumerate() {
                if !self.dead.contains(&index) {
                    hub.settle(now);
                    hub.tick(now);
                }
            }
            if self.since_start >= end && self.flights.is_empty() {
                return done(self);
            }
        }
    }

    pub(crate) fn is_aligned(&self) -> bool {
        let live = |(index, _): &(usize, &Hub)| !self.dead.contains(index);
        self.hubs.iter().enumerate().filter(live).all(|(_, hub)| {
            let dcs = (0..).map(DcsIndex).take(hub.setup.dcs.len());
            dcs.into_iter()
                .all(|dcs| hub.alignment(dcs) == alignment::State::Aligned)
        })
    }

    /// Runs until every alignment is Aligned.
    pub(crate) fn align(&mut self) {
        assert!(
            self.run_until(secs(60), Self::is_aligned),
            "not aligned: {:#?}",
            self.states()
        );
    }

    pub(crate) fn states(&self) -> Vec<(hello::State, alignment::State)> {
        let states = self.hubs.iter().flat_map(|hub| {
            let dcs = (0..).map(DcsIndex).take(hub.setup.dcs.len());
            dcs.map(|dcs| (hub.hello(dcs), hub.alignment(dcs)))
        });
        states.collect()
    }

    /// All hubs that live hold the same entries.
    pub(crate) fn assert_equal(&self) {
        let live = (0..self.hubs.len()).filter(|hub| !self.dead.contains(hub));
        let live: Vec<_> = live.collect();
        let first: BTreeSet<_> = self.hubs[live[0]].entries().into_iter().collect();
        for hub in &live[1..] {
            let entries: BTreeSet<_> = self.hubs[*hub].entries().into_iter().collect();
            let differences: Vec<_> = first.symmetric_difference(&entries).take(4).collect();
            assert!(differences.is_empty(), "hub {hub}: {differences:?}");
        }
    }
}

/// splitmix64.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `end` - 1.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(u64::try_from(len).unwrap())).unwrap()
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
