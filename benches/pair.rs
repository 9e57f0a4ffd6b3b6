//! Two shards of two hubs in memory, without sockets and `Control`: what it costs to move records
//! from one to the other, step by step.

use std::sync::Arc;
use std::time::Duration;

use scsp_engine::message::Epoch;
use scsp_engine::shard::{Condition, DATAGRAM_LEN_MAX, Life, Message, PASS_LEN};
use scsp_engine::{
    AuthSetup, DcsIndex, DcsSetup, InstanceIndex, InstanceSetup, LinkIndex, LinkSetup, Now, Setup,
    Shard, ShardIndex, Time, ToControl, ToShard,
};
use scsp_profile::Profile;
use scsp_wire::{Envelope, FamilyId, ProtocolId, ServerGroupId, ServerId};

/// The instance.
pub const I0: InstanceIndex = InstanceIndex(0);
const D0: DcsIndex = DcsIndex(0);
const START: Duration = Duration::from_secs(1000);
const START_UNIX_MS: u64 = 1_790_000_000_000;
/// Octets of a value; keys have eight.
pub const VALUE_LEN: usize = 40;
/// Octets of a record on the wire: summary header, key, originator, kv header, value.
pub const RECORD_LEN: usize = 12 + 8 + 4 + 16 + VALUE_LEN;

/// The `n`-th key, in an order that follows neither hash nor number.
pub fn key(n: u64) -> [u8; 8] {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
}

/// Packets one behind the other, kept for their allocation.
#[derive(Debug, Default)]
pub struct Packets {
    octets: Vec<u8>,
    lens: Vec<usize>,
}

impl Packets {
    fn clear(&mut self) {
        self.octets.clear();
        self.lens.clear();
    }

    /// Octets of all.
    pub fn octets(&self) -> usize {
        self.octets.len()
    }

    /// Number of packets.
    pub fn count(&self) -> usize {
        self.lens.len()
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.octets[..];
        self.lens.iter().map(move |len| {
            let (packet, after) = rest.split_at(*len);
            rest = after;
            packet
        })
    }
}

/// One hub with one shard.
#[derive(Debug)]
pub struct Hub {
    /// Its only shard.
    pub shard: Shard,
    id: ServerId,
    epoch: u32,
    buffer: Vec<u8>,
    /// Packed summaries, one page each, that it sent in this exchange.
    pages: Vec<Vec<u8>>,
    wanting: bool,
}

impl Hub {
    fn new(last: u8, packet_limit: usize, now: Now) -> Self {
        let id = ServerId::from_bytes(&[10, 0, 0, last]).expect("four octets");
        let setup = Arc::new(Setup {
            lsid: id,
            shards: 1,
            hash_seed: 7,
            started_unix_ms: START_UNIX_MS,
            instances: vec![instance()],
            links: vec![LinkSetup {
                multipoint: false,
                segments: true,
            }],
            dcs: vec![DcsSetup {
                instance: I0,
                link: LinkIndex(0),
                station: 0,
                packet_limit,
                datagram_limit: DATAGRAM_LEN_MAX,
                expected_id: None,
                max_records: 0,
                auth: AuthSetup::default(),
                offer: None,
            }],
        });
        let mut shard = Shard::new(setup, ShardIndex(0), now);
        shard.handle_message(
            now,
            ToShard::Release {
                instance: I0,
                aligned: true,
            },
        );
        Self {
            shard,
            id,
            epoch: 0,
            buffer: vec![0; DATAGRAM_LEN_MAX],
            pages: Vec::new(),
            wanting: false,
        }
    }

    /// Takes what the shard says to `Control`.
    fn collect(&mut self) {
        while let Some(message) = self.shard.poll_message() {
            match message {
                Message::Control(ToControl::Page { page, .. }) => {
                    if page.more {
                        let next = ToShard::NextPage {
                            dcs: D0,
                            epoch: Epoch(self.epoch),
                        };
                        self.shard.handle_message(at(Duration::ZERO), next);
                    }
                    self.pages.push(page.bytes);
                }
                Message::Control(ToControl::Compared { wanting, .. }) => self.wanting = wanting,
                Message::Control(ToControl::TurnOver { .. }) => self.wanting = false,
                Message::Control(_) => {}
                Message::Shard(..) => unreachable!("there is one shard"),
            }
        }
    }

    fn tell(&mut self, now: Now, message: ToShard) {
        self.shard.handle_message(now, message);
        self.collect();
    }
}

fn instance() -> InstanceSetup {
    InstanceSetup {
        protocol: ProtocolId::KV,
        group: ServerGroupId(1),
        family: FamilyId(0),
        profile: Profile::Kv,
        hello_interval_secs: 3,
        dead_factor: 3,
        ca_retransmit: Duration::from_secs(1),
        csus_retransmit: Duration::from_secs(1),
        csu_retransmit: Duration::from_secs(1),
        csu_retransmit_max: 5,
        csus_retransmit_max: 5,
        hop_count: 16,
        restart_increment: 1000,
        boot_hold: Duration::from_secs(10),
        purge_retention: Duration::from_hours(1),
        ignore_abnormal: false,
    }
}

fn at(since: Duration) -> Now {
    let unix_ms = START_UNIX_MS + u64::try_from(since.as_millis()).expect("not so late");
    Now {
        time: Time::ZERO.saturating_add(START + since),
        unix_ms,
    }
}

/// Hub A, where records are written, and hub B, which gets them.
///
/// Every step is a function of its own that is never inlined, so that an instrumenting tool can
/// tell the steps apart.
#[derive(Debug)]
pub struct Pair {
    /// The writer.
    pub a: Hub,
    /// The reader.
    pub b: Hub,
    packet_limit: usize,
    now: Now,
    elapsed: Duration,
    value: [u8; VALUE_LEN],
    /// Packets given twice.
    repeated: usize,
}

impl Pair {
    /// Two empty hubs that have not met.
    pub fn new(packet_limit: usize) -> Self {
        let now = at(Duration::ZERO);
        Self {
            a: Hub::new(1, packet_limit, now),
            b: Hub::new(2, packet_limit, now),
            packet_limit,
            now,
            elapsed: Duration::ZERO,
            value: [0x5A; VALUE_LEN],
            repeated: 0,
        }
    }

    /// Two hubs that are aligned, with `records` records each.
    pub fn aligned(packet_limit: usize, records: u64) -> Self {
        let mut pair = Self::new(packet_limit);
        pair.summarize();
        pair.update();
        let (mut requests, mut replies) = (Packets::default(), Packets::default());
        let mut from = 0;
        while from < records {
            let to = records.min(from + 1000);
            pair.flood(from..to, &mut requests, &mut replies);
            from = to;
        }
        pair
    }

    /// A millisecond passes.
    pub fn tick(&mut self) {
        self.elapsed += Duration::from_millis(1);
        self.now = at(self.elapsed);
    }

    /// One turn of steady updates: written at A, sent, taken in at B, acknowledged.
    pub fn flood(
        &mut self,
        keys: std::ops::Range<u64>,
        requests: &mut Packets,
        replies: &mut Packets,
    ) {
        self.originate(keys);
        self.settle(requests, replies);
    }

    /// What was written at A is sent, taken in at B, and acknowledged.
    pub fn settle(&mut self, requests: &mut Packets, replies: &mut Packets) {
        loop {
            self.encode(requests);
            if requests.count() == 0 {
                break;
            }
            self.insert(requests);
            self.reply(replies);
            self.acknowledge(replies);
        }
        self.tick();
    }

    /// One of A's clients writes.
    pub fn set(&mut self, key: &[u8], value: &[u8]) {
        let (now, shard) = (self.now, &mut self.a.shard);
        let set = shard.kv_set(now, I0, key, value, Life::Forever, Condition::Always);
        set.expect("there is room");
    }

    /// One of A's clients reads.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let found = self.a.shard.kv_get(self.now, I0, key);
        found.expect("the hold is over").map(|it| it.value)
    }

    /// A's clients write.
    #[inline(never)]
    pub fn originate(&mut self, keys: std::ops::Range<u64>) {
        for n in keys.clone() {
            if (n - keys.start).is_multiple_of(PASS_LEN as u64) {
                let ahead: [_; PASS_LEN] = std::array::from_fn(|i| key(n + i as u64));
                let mut ahead = ahead.iter().map(<[u8; 8]>::as_slice);
                self.a.shard.expect(I0, &mut ahead);
            }
            self.a
                .shard
                .kv_set(
                    self.now,
                    I0,
                    &key(n),
                    &self.value,
                    Life::Forever,
                    Condition::Always,
                )
                .expect("there is room");
        }
    }

    /// A builds CSU Requests, as far as its window allows.
    #[inline(never)]
    pub fn encode(&mut self, out: &mut Packets) {
        transmit(&mut self.a, self.now, out);
    }

    /// B takes CSU Requests in: records that are new, or, given again, duplicates.
    #[inline(never)]
    pub fn insert(&mut self, packets: &Packets) {
        receive(&mut self.b, self.now, packets);
    }

    /// B takes the same CSU Requests in once more.
    #[inline(never)]
    pub fn duplicate(&mut self, packets: &Packets) {
        self.repeated += packets.count(); // Keeps this from being one function with `insert`.
        receive(&mut self.b, self.now, packets);
    }

    /// B builds CSU Replies.
    #[inline(never)]
    pub fn reply(&mut self, out: &mut Packets) {
        transmit(&mut self.b, self.now, out);
    }

    /// A takes CSU Replies in.
    #[inline(never)]
    pub fn acknowledge(&mut self, packets: &Packets) {
        receive(&mut self.a, self.now, packets);
    }

    /// Both begin an exchange; A prepares all of its summaries.
    #[inline(never)]
    pub fn summarize(&mut self) {
        let ids = [self.a.id, self.b.id];
        for (hub, id) in [&mut self.a, &mut self.b].into_iter().zip([ids[1], ids[0]]) {
            hub.epoch += 1;
            hub.pages.clear();
            let exchange = ToShard::Exchange {
                dcs: D0,
                epoch: Epoch(hub.epoch),
                id: Box::new(id),
                page_octets: self.packet_limit - 64,
            };
            hub.tell(self.now, exchange);
        }
    }

    /// B compares A's summaries with what it holds.
    #[inline(never)]
    pub fn compare(&mut self) {
        for bytes in std::mem::take(&mut self.a.pages) {
            let epoch = Epoch(self.b.epoch);
            let summaries = ToShard::Summaries {
                dcs: D0,
                epoch,
                bytes,
            };
            self.b.tell(self.now, summaries);
        }
    }

    /// Both enter Update Cache; B gets its turn to solicit.
    #[inline(never)]
    pub fn update(&mut self) {
        for hub in [&mut self.a, &mut self.b] {
            let epoch = Epoch(hub.epoch);
            hub.tell(self.now, ToShard::Update { dcs: D0, epoch });
        }
        if self.b.wanting {
            let epoch = Epoch(self.b.epoch);
            let turn = ToShard::Turn {
                dcs: D0,
                epoch,
                octets: self.packet_limit - 64,
                packets: 1,
            };
            self.b.tell(self.now, turn);
        }
    }

    /// All that B wants goes over: CSUS, CSU Requests and Replies in turn.
    #[inline(never)]
    pub fn solicit(&mut self, requests: &mut Packets, replies: &mut Packets) {
        loop {
            self.reply(replies);
            if replies.count() == 0 && !self.b.wanting {
                break;
            }
            self.acknowledge(replies);
            self.encode(requests);
            self.insert(requests);
        }
    }

    /// Whether both hold the same.
    pub fn is_equal(&self) -> bool {
        let digests = [&self.a, &self.b].map(|hub| hub.shard.digest(self.now, I0, false));
        digests[0] == digests[1]
    }
}

fn transmit(hub: &mut Hub, now: Now, out: &mut Packets) {
    out.clear();
    while let Some(transmit) = hub.shard.poll_transmit(now, &mut hub.buffer) {
        let octets = &hub.buffer[..transmit.len];
        out.octets.extend_from_slice(octets);
        let segment = transmit.segment.unwrap_or(transmit.len);
        out.lens.extend(octets.chunks(segment).map(<[u8]>::len));
    }
    hub.collect();
}

fn receive(hub: &mut Hub, now: Now, packets: &Packets) {
    for packet in packets.iter() {
        let envelope = Envelope::parse(packet).expect("the other hub made it");
        hub.shard.handle_packet(now, D0, &envelope);
    }
    hub.collect();
}
