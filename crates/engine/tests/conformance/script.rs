//! A hub under test among neighbours that the test plays: messages in and out as plain values.

use std::collections::VecDeque;
use std::time::Duration;

use scsp_engine::{DcsIndex, Notice, Now, Setup, alignment};
use scsp_wire::{
    Builder, CaFlags, CaSeq, CsaSeq, Header, HelloFields, Message as Packet, ServerId,
    SummaryFields,
};

use crate::support::{Hub, at, dcs, id, opaque_instance, setup};

/// Id of the hub under test: `10.0.0.5`.
pub(crate) const LSID: u8 = 5;

/// A summary as in a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) key: Vec<u8>,
    pub(crate) originator: ServerId,
    pub(crate) seq: i32,
    pub(crate) hop_count: u16,
    pub(crate) null: bool,
}

/// A stand-alone summary of the entry that `originator` made.
pub(crate) fn sum(key: &[u8], originator: u8, seq: i32) -> Sum {
    Sum {
        key: key.to_vec(),
        originator: id(originator),
        seq,
        hop_count: 1,
        null: false,
    }
}

impl Sum {
    pub(crate) fn null(self) -> Self {
        Self { null: true, ..self }
    }

    pub(crate) fn hops(self, hop_count: u16) -> Self {
        Self { hop_count, ..self }
    }

    /// The record with this summary.
    pub(crate) fn with(self, body: &[u8]) -> Rec {
        Rec {
            sum: self,
            body: body.to_vec(),
        }
    }

    fn fields(&self) -> SummaryFields<'_> {
        SummaryFields {
            hop_count: self.hop_count,
            null: self.null,
            seq: CsaSeq::new(self.seq).unwrap(),
            key: &self.key,
            originator: self.originator.as_bytes(),
        }
    }
}

/// A record as in a CSU Request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rec {
    pub(crate) sum: Sum,
    pub(crate) body: Vec<u8>,
}

/// A record that `originator` floods with so many hops.
pub(crate) fn rec(key: &[u8], originator: u8, seq: i32, hops: u16, body: &[u8]) -> Rec {
    sum(key, originator, seq).hops(hops).with(body)
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Msg {
    /// Receivers, interval in seconds, dead factor.
    Hello(Vec<ServerId>, u16, u16),
    /// Sequence, the flags that are set as letters of `MIO`, summaries.
    Ca(u32, String, Vec<Sum>),
    Request(Vec<Rec>),
    Reply(Vec<Sum>),
    Csus(Vec<Sum>),
}

/// A CA message with the flags of `MIO` named.
pub(crate) fn ca(seq: u32, flags: &str, sums: &[Sum]) -> Msg {
    Msg::Ca(seq, flags.to_owned(), sums.to_vec())
}

/// A Hello that stalls late enough not to matter.
pub(crate) fn hello(receivers: &[u8]) -> Msg {
    Msg::Hello(receivers.iter().map(|last| id(*last)).collect(), 3, 10_000)
}

impl Msg {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let own = |summary: scsp_wire::Summary<'_>| Sum {
            key: summary.key.to_vec(),
            originator: ServerId::from_bytes(summary.originator).unwrap(),
            seq: summary.seq.get(),
            hop_count: summary.hop_count,
            null: summary.null,
        };
        match Packet::parse(bytes).unwrap() {
            Packet::Hello(hello) => {
                let receivers = hello
                    .receivers()
                    .map(|id| ServerId::from_bytes(id).unwrap());
                Self::Hello(
                    receivers.collect(),
                    hello.hello_interval_secs,
                    hello.dead_factor,
                )
            }
            Packet::Ca(packet) => {
                let set = [
                    packet.flags.master,
                    packet.flags.initialize,
                    packet.flags.more,
                ];
                let flags = "MIO"
                    .chars()
                    .zip(set)
                    .filter_map(|(name, set)| set.then_some(name));
                Self::Ca(
                    packet.seq.0,
                    flags.collect(),
                    packet.summaries().map(own).collect(),
                )
            }
            Packet::CsuRequest(request) => {
                let record = |it: scsp_wire::Record<'_>| own(it.summary).with(it.body);
                Self::Request(request.records().map(record).collect())
            }
            Packet::CsuReply(reply) => Self::Reply(reply.summaries().map(own).collect()),
            Packet::Csus(csus) => Self::Csus(csus.summaries().map(own).collect()),
        }
    }

    pub(crate) fn build(&self, setup: &Setup, dcs: DcsIndex, from: &[u8], to: &[u8]) -> Vec<u8> {
        let instance = setup.instance_of(dcs);
        let (protocol, group) = (instance.protocol, instance.group);
        let header = Header {
            protocol,
            group,
            sender: from,
            receiver: to,
        };
        let (mut bytes, limit) = (vec![0; 65_507], 65_507);
        let mut builder = match self {
            Self::Hello(receivers, interval_secs, dead_factor) => {
                let first = receivers.first().map_or(&[][..], ServerId::as_bytes);
                let header = Header {
                    receiver: first,
                    ..header
                };
                let (interval_secs, dead_factor) = (*interval_secs, *dead_factor);
                let fields = HelloFields {
                    interval_secs,
                    dead_factor,
                    family: instance.family,
                };
                Builder::hello(&mut bytes, limit, &header, fields)
            }
            Self::Ca(seq, flags, _) => {
                let flags = CaFlags {
                    master: flags.contains('M'),
                    initialize: flags.contains('I'),
                    more: flags.contains('O'),
                };
                Builder::ca(&mut bytes, limit, &header, CaSeq(*seq), flags)
            }
            Self::Request(_) => Builder::csu_request(&mut bytes, limit, &header),
            Self::Reply(_) => Builder::csu_reply(&mut bytes, limit, &header),
            Self::Csus(_) => Builder::csus(&mut bytes, limit, &header),
        }
        .unwrap();
        let fits = match self {
            Self::Hello(receivers, ..) => receivers
                .iter()
                .skip(1)
                .all(|id| builder.push_receiver(id.as_bytes())),
            Self::Ca(_, _, sums) | Self::Reply(sums) | Self::Csus(sums) => {
                sums.iter().all(|sum| builder.push_summary(&sum.fields()))
            }
            Self::Request(recs) => recs
                .iter()
                .all(|rec| builder.push_record(&rec.sum.fields(), &rec.body)),
        };
        assert!(fits);
        let len = builder.finish();
        bytes.truncate(len);
        bytes
    }
}

/// The hub under test and what it sent to each neighbour.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) hub: Hub,
    pub(crate) since_start: Duration,
    /// Last octet of each neighbour's id.
    pub(crate) peers: Vec<u8>,
    sent: Vec<VecDeque<Msg>>,
    /// What was sent to everybody on a multipoint link, and when.
    pub(crate) to_all: VecDeque<(Duration, Msg)>,
    hellos: Vec<VecDeque<(Duration, Msg)>>,
}

impl Lab {
    /// A hub for records nobody looks into, with these neighbours, its links up.
    pub(crate) fn new(peers: &[u8]) -> Self {
        Self::with(peers, |_| {})
    }

    /// The same for kv records.
    pub(crate) fn kv(peers: &[u8]) -> Self {
        Self::with(peers, |setup| {
            setup.instances[0] = crate::support::instance();
        })
    }

    pub(crate) fn with(peers: &[u8], adapt: impl FnOnce(&mut Setup)) -> Self {
        Self::started_at(Duration::ZERO, peers, adapt)
    }

    /// The same at a later time.
    pub(crate) fn started_at(
        since_start: Duration,
        peers: &[u8],
        adapt: impl FnOnce(&mut Setup),
    ) -> Self {
        let now = at(since_start);
        let mut setup = Setup {
            instances: vec![opaque_instance()],
            ..setup(LSID, 2, 0)
        };
        setup.dcs = vec![dcs(); peers.len()];
        setup.started_unix_ms = now.unix_ms;
        adapt(&mut setup);
        let mut lab = Self {
            hub: Hub::new(setup, now),
            since_start,
            peers: peers.to_vec(),
            sent: vec![VecDeque::new(); peers.len()],
            to_all: VecDeque::new(),
            hellos: vec![VecDeque::new(); peers.len()],
        };
        lab.collect();
        lab
    }

    pub(crate) fn now(&self) -> Now {
        at(self.since_start)
    }

    /// Sorts what the hub sent.
    pub(crate) fn collect(&mut self) {
        let now = self.now();
        self.hub.settle(now);
        while let Some((_, bytes)) = self.hub.out_to_all.pop_front() {
            self.to_all
                .push_back((self.since_start, Msg::parse(&bytes)));
        }
        while let Some((to, bytes)) = self.hub.out.pop_front() {
            let msg = Msg::parse(&bytes);
            if matches!(msg, Msg::Hello(..)) {
                self.hellos[to.index()].push_back((self.since_start, msg));
            } else {
                let packet = Packet::parse(&bytes).unwrap();
                if let Some(dcsid) = self.hub.peer(to).id {
                    assert_eq!(packet.envelope().receiver(), dcsid.as_bytes(), "CA-03");
                }
                self.sent[to.index()].push_back(msg);
            }
        }
    }

    /// A neighbour sends a message to the hub.
    pub(crate) fn send(&mut self, dcs: DcsIndex, msg: &Msg) {
        let (from, to) = (id(self.peers[dcs.index()]), id(LSID));
        self.send_as(dcs, from.as_bytes(), to.as_bytes(), msg);
    }

    /// The same with any sender and receiver id.
    pub(crate) fn send_as(&mut self, dcs: DcsIndex, from: &[u8], to: &[u8], msg: &Msg) {
        let bytes = msg.build(&self.hub.setup, dcs, from, to);
        self.send_bytes(dcs, &bytes);
    }

    pub(crate) fn send_bytes(&mut self, dcs: DcsIndex, bytes: &[u8]) {
        let now = self.now();
        self.hub.receive(now, dcs, bytes);
        self.collect();
    }

    /// What was sent to the neighbour since the last call, Hellos left out.
    pub(crate) fn sent(&mut self, dcs: DcsIndex) -> Vec<Msg> {
        self.sent[dcs.index()].drain(..).collect()
    }

    /// The Hellos sent to the neighbour since the last call, and when.
    pub(crate) fn hellos(&mut self, dcs: DcsIndex) -> Vec<(Duration, Msg)> {
        self.hellos[dcs.index()].drain(..).collect()
    }

    pub(crate) fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.hub.notices)
    }

    /// Lets time pass, from deadline to deadline.
    pub(crate) fn wait(&mut self, duration: Duration) {
        let end = self.since_start + duration;
        loop {
            let epoch = at(Duration::ZERO).time;
            let next = self.hub.next_deadline().map(|time| time.since(epoch));
            self.since_start = next.filter(|next| *next < end).unwrap_or(end);
            let now = self.now();
            self.hub.tick(now);
            self.collect();
            if self.since_start >= end {
                return;
            }
        }
    }

    /// The neighbour says Hello and names the hub.
    pub(crate) fn meet(&mut self, dcs: DcsIndex) {
        self.send(dcs, &hello(&[LSID]));
    }

    pub(crate) fn alignment(&self, dcs: DcsIndex) -> alignment::State {
        self.hub.alignment(dcs)
    }

    /// The neighbour says Hello; returns the sequence of the CA that opens Negotiation.
    pub(crate) fn open(&mut self, dcs: DcsIndex) -> u32 {
        self.sent(dcs);
        self.meet(dcs);
        let sent = self.sent(dcs);
        let [Msg::Ca(seq, flags, sums)] = &sent[..] else {
            panic!("{sent:?}")
        };
        assert_eq!((flags.as_str(), sums.len()), ("MIO", 0));
        *seq
    }

    /// From Waiting to Update Cache; the neighbour holds `sums`, all of which fit one CA. Returns
    /// what the hub sent after the exchange.
    pub(crate) fn exchange(&mut self, dcs: DcsIndex, sums: &[Sum]) -> Vec<Msg> {
        let seq = self.open(dcs);
        if self.peers[dcs.index()] > LSID {
            // 1: the neighbour is master
            self.send(dcs, &ca(900, "MIO", &[]));
            self.sent(dcs);
            self.send(dcs, &ca(901, "M", sums));
            let sent = self.sent(dcs);
            assert_eq!(sent[0], ca(901, "", &[]));
            sent[1..].to_vec()
        } else {
            // 2: the hub is master
            self.send(dcs, &ca(seq, "", sums));
            self.sent(dcs);
            self.send(dcs, &ca(seq + 1, "", &[]));
            self.sent(dcs)
        }
    }

    /// From Waiting to Aligned, the neighbour holding nothing newer.
    pub(crate) fn align(&mut self, dcs: DcsIndex) {
        self.exchange(dcs, &[]);
        assert_eq!(self.alignment(dcs), alignment::State::Aligned);
    }

    /// Publishes an own record of the first instance.
    pub(crate) fn publish(&mut self, key: &[u8], body: &[u8]) -> i32 {
        let now = self.now();
        let seq = self
            .hub
            .home(key)
            .publish(now, crate::support::I0, key, body, None)
            .unwrap();
        self.collect();
        seq.get()
    }

    /// Sequence and body of an entry.
    pub(crate) fn entry(&self, key: &[u8], originator: u8) -> Option<(i32, Vec<u8>)> {
        let shard = self.hub.home_ref(key);
        let store = shard.store(crate::support::I0);
        let found = store.find(shard.hash(key), key, id(originator).as_bytes())?;
        let entry = store.entry(found);
        Some((entry.seq.get(), entry.body.to_vec()))
    }

    /// The neighbour floods records; returns what the hub sent back to it.
    pub(crate) fn flood(&mut self, dcs: DcsIndex, recs: &[Rec]) -> Vec<Msg> {
        self.send(dcs, &Msg::Request(recs.to_vec()));
        self.sent(dcs)
    }
}

/// The records of all CSU Requests among `msgs`, by key.
pub(crate) fn records(msgs: &[Msg]) -> Vec<Rec> {
    let requests = msgs.iter().filter_map(|msg| match msg {
        Msg::Request(recs) => Some(recs.clone()),
        _ => None,
    });
    sorted(requests.flatten().collect(), |rec| rec.sum.key.clone())
}

/// The summaries of all CSU Replies among `msgs`, by key.
pub(crate) fn replies(msgs: &[Msg]) -> Vec<Sum> {
    let replies = msgs.iter().filter_map(|msg| match msg {
        Msg::Reply(sums) => Some(sums.clone()),
        _ => None,
    });
    sorted(replies.flatten().collect(), |sum| sum.key.clone())
}

/// The summaries of all CSUS messages among `msgs`, by key.
pub(crate) fn solicits(msgs: &[Msg]) -> Vec<Sum> {
    let solicits = msgs.iter().filter_map(|msg| match msg {
        Msg::Csus(sums) => Some(sums.clone()),
        _ => None,
    });
    sorted(solicits.flatten().collect(), |sum| sum.key.clone())
}

fn sorted<T, K: Ord>(mut items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    items.sort_by_key(key);
    items
}
