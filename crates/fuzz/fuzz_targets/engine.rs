//! A hub among two neighbours that do anything: well-formed messages in any order and state,
//! mangled ones, silence, honest answers, lost links, clients in between. No panic, nothing sent
//! that the harness of the conformance tests objects to, no growth beyond what was fed.

#![no_main]
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "the harness serves the conformance tests as well")]

#[path = "../../engine/tests/conformance/script.rs"]
mod script;
#[path = "../../engine/tests/conformance/support.rs"]
mod support;

use std::time::Duration;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use scsp_engine::shard::{Condition, Life};
use scsp_engine::{DcsIndex, InstanceSetup, LinkIndex};
use scsp_profile::Profile;
use scsp_wire::{CsaSeq, ProtocolId, checksum};

use script::{Lab, Msg, Rec, Sum, ca, sum};
use support::{I0, instance, opaque_instance};

/// Ids of the neighbours: one larger, one smaller than the hub's.
const PEERS: [u8; 2] = [9, 1];
/// Steps of one run at most.
const OPS_MAX: usize = 64;
/// Records of one message at most.
const RECORDS_MAX: usize = 6;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Protocol {
    Kv,
    Nhrp,
    Opaque,
}

#[derive(Arbitrary, Clone, Debug)]
struct Entry {
    key: u8,
    originator: u8,
    seq: Seq,
    hops: u8,
    null: bool,
    body: Body,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Seq {
    Near(i8),
    FromStart(u8),
    FromEnd(u8),
}

#[derive(Arbitrary, Clone, Debug)]
enum Body {
    Value { life_ms: u16, stamp_ms: u16 },
    Withdrawn { stamp_ms: u16 },
    Any(Vec<u8>),
}

#[derive(Arbitrary, Clone, Debug)]
enum Message {
    Hello {
        names_us: bool,
        interval: u8,
        dead: u8,
    },
    Ca {
        ahead: i8,
        flags: u8,
        entries: Vec<Entry>,
    },
    Request(Vec<Entry>),
    Reply(Vec<Entry>),
    Csus(Vec<Entry>),
}

#[derive(Arbitrary, Clone, Debug)]
enum Op {
    Send {
        peer: bool,
        message: Message,
    },
    Mangle {
        peer: bool,
        message: Message,
        at: u16,
        octet: u8,
    },
    Raw {
        peer: bool,
        octets: Vec<u8>,
    },
    Answer {
        peer: bool,
    },
    Wait {
        ms: u16,
    },
    Link {
        peer: bool,
        up: bool,
    },
    Clear {
        peer: bool,
    },
    Publish(Entry),
    Purge {
        key: u8,
    },
    Set {
        key: u8,
        life_ms: Option<u16>,
    },
    Del {
        key: u8,
    },
}

#[derive(Arbitrary, Debug)]
struct Input {
    protocol: Protocol,
    shards: bool,
    ops: Vec<Op>,
}

struct Run {
    protocol: Protocol,
    lab: Lab,
    /// CA sequence each neighbour saw last.
    seen: [u32; 2],
    fed: usize,
}

fuzz_target!(|input: Input| {
    let mut run = Run::new(input.protocol, if input.shards { 2 } else { 1 });
    for op in input.ops.iter().take(OPS_MAX) {
        run.step(op);
    }
    run.lab.wait(Duration::from_secs(30));
    let entries = run.lab.hub.entries().len();
    assert!(entries <= run.fed, "{entries} entries of {} fed", run.fed);
    for dcs in [DcsIndex(0), DcsIndex(1)] {
        for shard in &run.lab.hub.shards {
            assert!(shard.queue_len(dcs) <= shard.entries(I0));
            assert!(shard.requests_len(dcs) <= run.fed);
        }
    }
});

impl Run {
    fn new(protocol: Protocol, shards: u16) -> Self {
        let lab = Lab::with(&PEERS, |setup| {
            setup.shards = shards;
            setup.instances[0] = match protocol {
                Protocol::Kv => instance(),
                Protocol::Opaque => opaque_instance(),
                Protocol::Nhrp => InstanceSetup {
                    protocol: ProtocolId::NHRP,
                    profile: Profile::Nhrp,
                    ..instance()
                },
            };
        });
        Self {
            protocol,
            lab,
            seen: [1; 2],
            fed: 0,
        }
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Send { peer, message } => {
                let msg = self.message(*peer, message);
                self.lab.send(dcs(*peer), &msg);
            }
            Op::Mangle {
                peer,
                message,
                at,
                octet,
            } => {
                let msg = self.message(*peer, message);
                let (from, to) = (
                    support::id(PEERS[usize::from(*peer)]),
                    self.lab.hub.setup.lsid,
                );
                let setup = self.lab.hub.setup.clone();
                let mut bytes = msg.build(&setup, dcs(*peer), from.as_bytes(), to.as_bytes());
                let at = usize::from(*at) % bytes.len();
                bytes[at] ^= octet;
                checksum::seal(&mut bytes);
                self.fed += RECORDS_MAX;
                self.lab.send_bytes(dcs(*peer), &bytes);
            }
            Op::Raw { peer, octets } => {
                let mut octets = octets.clone();
                if octets.len() >= scsp_wire::FIXED_LEN {
                    checksum::seal(&mut octets);
                }
                self.fed += octets.len();
                self.lab.send_bytes(dcs(*peer), &octets);
            }
            Op::Answer { peer } => self.answer(*peer),
            Op::Wait { ms } => self.lab.wait(Duration::from_millis((*ms).into())),
            Op::Link { peer, up } => {
                let (now, link) = (self.lab.now(), LinkIndex(u16::from(*peer)));
                self.lab.hub.control.handle_link(now, link, *up);
                self.lab.collect();
            }
            Op::Clear { peer } => {
                let now = self.lab.now();
                self.lab.hub.control.handle_clear(now, dcs(*peer));
                self.lab.collect();
            }
            Op::Publish(_) | Op::Purge { .. } | Op::Set { .. } | Op::Del { .. } => self.client(op),
        }
    }

    fn client(&mut self, op: &Op) {
        let now = self.lab.now();
        self.fed += 1;
        let kv = matches!(self.protocol, Protocol::Kv);
        // Whether it is refused does not matter, only that nothing breaks.
        match op {
            Op::Publish(entry) => {
                let (key, body) = (key(entry.key), self.body(&entry.body));
                let seq = CsaSeq::new(seq(entry.seq)).filter(|_| entry.null);
                let _ = self.lab.hub.home(&key).publish(now, I0, &key, &body, seq);
            }
            Op::Purge { key: at } => {
                let _ = self.lab.hub.home(&key(*at)).purge(now, I0, &key(*at));
            }
            Op::Set { key: at, life_ms } if kv => {
                let life = life_ms.map_or(Life::Forever, |ms| {
                    Life::For(Duration::from_millis(ms.into()))
                });
                let (key, always) = (key(*at), Condition::Always);
                let _ = self
                    .lab
                    .hub
                    .home(&key)
                    .kv_set(now, I0, &key, b"own", life, always);
            }
            Op::Del { key: at } if kv => {
                let _ = self.lab.hub.home(&key(*at)).kv_del(now, I0, &key(*at));
            }
            _ => {}
        }
        self.lab.collect();
    }

    fn message(&mut self, peer: bool, message: &Message) -> Msg {
        match message {
            Message::Hello {
                names_us,
                interval,
                dead,
            } => {
                let receivers = if *names_us {
                    vec![self.lab.hub.setup.lsid]
                } else {
                    Vec::new()
                };
                Msg::Hello(
                    receivers,
                    u16::from(*interval).max(1),
                    u16::from(*dead).max(1),
                )
            }
            Message::Ca {
                ahead,
                flags,
                entries,
            } => {
                let seq = self.seen[usize::from(peer)].wrapping_add_signed((*ahead).into());
                let named = "MIO".chars().enumerate();
                let flags: String = named
                    .filter_map(|(bit, name)| (flags >> bit & 1 == 1).then_some(name))
                    .collect();
                ca(seq, &flags, &self.sums(entries))
            }
            Message::Reply(entries) => Msg::Reply(self.sums(entries)),
            Message::Csus(entries) => Msg::Csus(self.sums(entries)),
            Message::Request(entries) => {
                let sums = self.sums(entries);
                let recs = sums.into_iter().zip(entries).map(|(sum, entry)| {
                    let body = if sum.null {
                        Vec::new()
                    } else {
                        self.body(&entry.body)
                    };
                    sum.with(&body)
                });
                Msg::Request(recs.collect())
            }
        }
    }

    fn sums(&mut self, entries: &[Entry]) -> Vec<Sum> {
        let entries = &entries[..entries.len().min(RECORDS_MAX)];
        self.fed += entries.len();
        entries
            .iter()
            .map(|entry| {
                let originators = [PEERS[0], PEERS[1], script::LSID, 7];
                let originator = originators[usize::from(entry.originator) % originators.len()];
                let sum = sum(&key(entry.key), originator, seq(entry.seq));
                let sum = sum.hops(entry.hops.into());
                if entry.null { sum.null() } else { sum }
            })
            .collect()
    }

    /// What an honest neighbour says to all it was sent.
    fn answer(&mut self, peer: bool) {
        let (at, hub) = (dcs(peer), self.lab.hub.setup.lsid);
        self.lab.send(at, &Msg::Hello(vec![hub], 3, 10));
        for sent in self.lab.sent(at) {
            let answer = match sent {
                Msg::Hello(..) | Msg::Reply(_) => continue,
                Msg::Ca(seq, flags, _) => {
                    let larger = PEERS[usize::from(peer)] > script::LSID;
                    self.seen[usize::from(peer)] = seq;
                    match (larger, flags.contains('I')) {
                        (true, true) => ca(seq, "MIO", &[]),
                        (true, false) => ca(seq.wrapping_add(1), "M", &[]),
                        (false, _) => ca(seq, "", &[]),
                    }
                }
                Msg::Request(recs) => {
                    Msg::Reply(recs.into_iter().map(|rec| rec.sum.hops(1)).collect())
                }
                Msg::Csus(sums) => {
                    let body = self.body(&Body::Value {
                        life_ms: 60_000,
                        stamp_ms: 5,
                    });
                    self.fed += sums.len();
                    let recs = sums.into_iter().map(|sum| {
                        let body = if sum.null { Vec::new() } else { body.clone() };
                        Rec { sum, body }
                    });
                    Msg::Request(recs.collect())
                }
            };
            self.lab.send(at, &answer);
        }
    }

    fn body(&self, body: &Body) -> Vec<u8> {
        let (kind, life_ms, stamp_ms) = match body {
            Body::Value { life_ms, stamp_ms } => (0_u8, *life_ms, *stamp_ms),
            Body::Withdrawn { stamp_ms } => (1, 0, *stamp_ms),
            Body::Any(octets) => return octets.clone(),
        };
        match self.protocol {
            Protocol::Kv => {
                let mut octets = vec![1, kind, 0, u8::from(life_ms > 0), 0, 0];
                octets.extend(life_ms.to_be_bytes());
                octets.extend((u64::from(stamp_ms) << 16).to_be_bytes());
                octets.extend(b"value");
                octets
            }
            Protocol::Nhrp => {
                let mut octets = vec![0; scsp_profile::nhrp::HEADER_LEN];
                (octets[9], octets[16]) = (1, kind * 2);
                octets[22..24].copy_from_slice(&(life_ms / 1000).to_be_bytes());
                octets
            }
            Protocol::Opaque if kind == 1 => Vec::new(),
            Protocol::Opaque => b"body".to_vec(),
        }
    }
}

fn dcs(peer: bool) -> DcsIndex {
    DcsIndex(u16::from(peer))
}

/// Few keys, so that entries meet; now and then one of another length.
fn key(key: u8) -> Vec<u8> {
    match key {
        0xFF => Vec::new(),
        0xFE => vec![b'k'; 255],
        _ => vec![b'k', b'e', b'y', key % 4],
    }
}

fn seq(seq: Seq) -> i32 {
    match seq {
        Seq::Near(offset) => 1000 + i32::from(offset),
        Seq::FromStart(offset) => i32::MIN + 1 + i32::from(offset),
        Seq::FromEnd(offset) => i32::MAX - i32::from(offset),
    }
}
