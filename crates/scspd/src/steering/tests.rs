use std::net::UdpSocket;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use scsp_engine::shard::shard_of;
use scsp_net::{LinkSocket, STEERING_LEN_MAX, UdpOptions, bind_udp};
use scsp_wire::{Builder, CsaSeq, Header, ProtocolId, ServerGroupId, SummaryFields};

use super::*;

/// Octets of a built packet at most.
const PACKET_LEN_MAX: usize = 2048;

/// Runs a program as the kernel does.
fn run(program: &[Instruction], packet: &[u8]) -> u32 {
    let (mut a, mut x, mut scratch, mut at) = (0_u32, 0_u32, [0_u32; 16], 0);
    let octets = |at: u32, count: usize| packet.get(at as usize..)?.get(..count);
    loop {
        let it = program[at];
        let k = it.operand;
        at += 1;
        let loaded = match it.code {
            code::LOAD_OCTET => Some(octets(k, 1).map(|it| u32::from(it[0]))),
            code::LOAD_OCTET_AT_X => Some(octets(x + k, 1).map(|it| u32::from(it[0]))),
            code::LOAD_WORD_AT_X => {
                let word = |it: &[u8]| u32::from_be_bytes(it.try_into().unwrap());
                Some(octets(x + k, 4).map(word))
            }
            _ => None,
        };
        if let Some(loaded) = loaded {
            let Some(loaded) = loaded else { return 0 };
            a = loaded;
            continue;
        }
        match it.code {
            code::LOAD_CONSTANT => a = k,
            code::LOAD => a = scratch[k as usize],
            code::LOAD_X => x = scratch[k as usize],
            code::STORE => scratch[k as usize] = a,
            code::MOVE_TO_X => x = a,
            code::ADD => a = a.wrapping_add(k),
            code::ADD_X => a = a.wrapping_add(x),
            code::SUBTRACT => a = a.wrapping_sub(k),
            code::MULTIPLY => a = a.wrapping_mul(k),
            code::AND_X => a &= x,
            code::XOR => a ^= k,
            code::XOR_X => a ^= x,
            code::SHIFT_LEFT => a <<= k,
            code::SHIFT_LEFT_X => a <<= x,
            code::SHIFT_RIGHT => a >>= k,
            code::SKIP => at += k as usize,
            code::IF_EQUAL => at += usize::from(if a == k { it.if_true } else { it.if_false }),
            code::IF_AT_LEAST => at += usize::from(if a >= k { it.if_true } else { it.if_false }),
            code::ANSWER => return k,
            code::ANSWER_A => return a,
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// What a packet is made of.
#[derive(Clone, Debug)]
struct Recipe {
    kind: MessageType,
    sender: Vec<u8>,
    receiver: Vec<u8>,
    /// The first one decides.
    keys: Vec<Vec<u8>>,
    body: Vec<u8>,
}

impl Recipe {
    fn build(&self) -> Vec<u8> {
        let header = Header {
            protocol: ProtocolId::KV,
            group: ServerGroupId(1),
            sender: &self.sender,
            receiver: &self.receiver,
        };
        let mut bytes = vec![0; PACKET_LEN_MAX];
        let builder = match self.kind {
            MessageType::CsuRequest => Builder::csu_request(&mut bytes, PACKET_LEN_MAX, &header),
            MessageType::CsuReply => Builder::csu_reply(&mut bytes, PACKET_LEN_MAX, &header),
            MessageType::Csus => Builder::csus(&mut bytes, PACKET_LEN_MAX, &header),
            other => panic!("{other:?} is for the control thread"),
        };
        let mut builder = builder.expect("there is room");
        for key in &self.keys {
            let summary = SummaryFields {
                hop_count: 1,
                null: false,
                seq: CsaSeq::FIRST,
                key,
                originator: &[10, 0, 0, 1],
            };
            if self.kind == MessageType::CsuRequest {
                assert!(builder.push_record(&summary, &self.body));
            } else {
                assert!(builder.push_summary(&summary));
            }
        }
        let len = builder.finish();
        bytes.truncate(len);
        bytes
    }

    fn owner(&self, workers: u16) -> u32 {
        shard_of(&self.keys[0], workers).0.into()
    }
}

fn octets(len: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), len)
}

fn recipes() -> impl Strategy<Value = Recipe> {
    use MessageType::{CsuReply, CsuRequest, Csus};
    let kind = prop::sample::select(vec![CsuRequest, CsuReply, Csus]);
    // Every length of key, short ones more often.
    let key = || prop_oneof![octets(0..=9), octets(0..=255)];
    let keys = prop::collection::vec(key(), 1..4);
    let ids = (octets(1..=20), octets(0..=20));
    (kind, ids, keys, octets(0..=60)).prop_map(|(kind, (sender, receiver), keys, body)| Recipe {
        kind,
        sender,
        receiver,
        keys,
        body,
    })
}

/// The sockets of some workers and of the control thread, with the program attached as a hub does.
struct Group {
    sockets: Vec<UdpSocket>,
    sender: UdpSocket,
}

impl Group {
    fn new(address: &str, workers: u16) -> Self {
        let options = UdpOptions {
            reuse_port: true,
            ..UdpOptions::default()
        };
        let mut address = address.parse().unwrap();
        let mut sockets: Vec<UdpSocket> = Vec::new();
        for number in 0..=workers {
            let socket = bind_udp(address, &options).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            address = socket.local_addr().unwrap();
            sockets.push(socket);
            if number == 0 {
                let link = LinkSocket::from(sockets[0].try_clone().unwrap());
                link.steer(&program(workers)).unwrap();
            }
        }
        let sender = UdpSocket::bind((address.ip(), 0)).unwrap();
        sender.connect(address).unwrap();
        Self { sockets, sender }
    }

    /// Whether a packet goes to that socket.
    fn sends_to(&self, packet: &[u8], socket: u32) -> bool {
        self.sender.send(packet).unwrap();
        let mut got = vec![0; PACKET_LEN_MAX];
        let len = self.sockets[socket as usize].recv(&mut got);
        len.is_ok_and(|len| got[..len] == *packet)
    }
}

/// Goal: the program is within what kernels take, for the largest number of workers too.
#[test]
fn programs_are_short() {
    for workers in [1, 2, 3, 1024, u16::MAX] {
        let len = program(workers).len();
        assert!(len < STEERING_LEN_MAX / 4, "{len} instructions");
    }
}

proptest! {
    /// Goal: of every CSU Request, CSU Reply and CSUS the program picks the worker whose shard owns
    /// the first record.
    #[test]
    fn packets_go_to_the_owner_of_their_first_record(recipe in recipes(), workers in 1..300_u16) {
        let packet = recipe.build();
        prop_assert_eq!(run(&program(workers), &packet), recipe.owner(workers));
    }

    /// Goal: the control thread gets Hellos and CA messages, whatever else they hold, and no other
    /// payload leads anywhere but to a worker.
    #[test]
    fn any_payload_goes_to_some_thread(mut packet in octets(0..600), workers in 1..300_u16) {
        let program = program(workers);
        let kind = packet.get(KIND_AT).copied();
        let is_for_control = [MessageType::Ca, MessageType::Hello]
            .into_iter()
            .any(|it| Some(it.code()) == kind);
        let picked = run(&program, &packet);
        prop_assert_eq!(picked == u32::from(workers), is_for_control);
        prop_assert!(picked <= u32::from(workers));
        if let Some(octet) = packet.get_mut(KIND_AT) {
            for kind in MessageType::ALL {
                *octet = kind.code();
            }
            prop_assert!(run(&program, &packet) <= u32::from(workers));
        }
    }
}

/// Goal: the kernel runs the program as the interpreter does: real datagrams, over IPv4 and IPv6,
/// come to the socket of the owner's worker, Hellos and CA messages to the control thread's, and
/// what is cut off anywhere to the one that the interpreter names.
#[test]
fn the_kernel_steers_as_the_hash_says() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for (address, workers) in [("127.0.0.1:0", 2), ("[::1]:0", 3), ("127.0.0.1:0", 1)] {
        let group = Group::new(address, workers);
        let program = program(workers);
        for _ in 0..200 {
            let recipe = recipes().new_tree(&mut runner).unwrap().current();
            let mut packet = recipe.build();
            assert!(group.sends_to(&packet, recipe.owner(workers)), "{recipe:?}");
            let cut = packet.len() / 3;
            assert!(group.sends_to(&packet[..cut], run(&program, &packet[..cut])));
            for kind in [MessageType::Hello, MessageType::Ca] {
                packet[KIND_AT] = kind.code();
                assert!(group.sends_to(&packet, workers.into()));
            }
        }
    }
}
