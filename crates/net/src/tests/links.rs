//! Multicast and ethernet links between two hosts, over a real interface.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::{Domain, SockRef, Socket, Type};

use super::lab::{A, B, Lab, await_carrier, ip};
use super::*;
use crate::{
    Endpoint, EthernetOptions, Interface, LinkSocket, MacAddress, bind_ethernet, bind_multicast,
    raw,
};

on_both_backends!(#[ignore = "needs root: opens network namespaces"] links:
    a_group_reaches_one_worker_of_every_hub,
    hubs_of_one_interface_hear_each_other,
    links_of_one_port_keep_to_their_interfaces,
    multicast_links_survive_their_interface,
    ethernet_carries_every_length,
    short_frames_are_padded,
    foreign_frames_stay_in_the_kernel,
    an_ethernet_group_reaches_its_members,
    workers_share_an_ethernet_link,
    ethernet_links_survive_their_interface,
    senders_need_no_io,
);

const GROUP_4: &str = "239.255.23.34:2334";
const GROUP_6: &str = "[ff02::2334]:2334";

fn shared() -> UdpOptions {
    UdpOptions {
        reuse_port: true,
        ..UdpOptions::default()
    }
}

fn multicast(bind: &str, group: &str, interface: &str, join: bool) -> LinkSocket {
    let (bind, group) = (bind.parse().unwrap(), group.parse().unwrap());
    bind_multicast(bind, group, interface, join, &shared()).unwrap()
}

fn ethernet(interface: &str, group: Option<&str>) -> LinkSocket {
    let group = group.map(|group| group.parse().unwrap());
    bind_ethernet(interface, group, &EthernetOptions::default()).unwrap()
}

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

/// The code with which the next send fails.
fn failed_send(io: &mut Io, link: LinkId, to: Endpoint, packet: &[u8]) -> Option<i32> {
    let slot = io.send_slot().unwrap();
    io.slot_mut(&slot)[..packet.len()].copy_from_slice(packet);
    io.send(slot, link, to, packet.len(), None);
    let mut code = None;
    turns_until(io, |_, event| {
        if let Event::SendFailed { to: of, error, .. } = event {
            assert_eq!(of, to);
            code = error.raw_os_error();
        }
        code.is_some()
    });
    code
}

/// Two workers of one hub: the first has joined; a plain UDP link has the same port.
struct Hub {
    joined: Io,
    other: Io,
    local: Endpoint,
}

const LAN: LinkId = LinkId(0);
const MAIN: LinkId = LinkId(1);

impl Hub {
    fn new(backend: Backend, bind: &str, group: &str) -> Self {
        let main = || bind_udp(bind.parse().unwrap(), &shared()).unwrap();
        let (mut joined, mut other) = (io(backend, &small()), io(backend, &small()));
        let socket = multicast(bind, group, "eth1", true);
        let local = socket.local();
        assert_eq!(joined.add_link(socket, true).unwrap(), LAN);
        assert_eq!(joined.add_link(main(), true).unwrap(), MAIN);
        let socket = multicast(bind, group, "eth1", false);
        assert_eq!(socket.local(), local);
        assert_eq!(other.add_link(socket, true).unwrap(), LAN);
        assert_eq!(other.add_link(main(), true).unwrap(), MAIN);
        Self {
            joined,
            other,
            local,
        }
    }

    /// Unicast goes to either worker: the first packet of them, of those that `send` sends. It
    /// sends again because an earlier socket of the port may still take one: a child that another
    /// test is just starting holds it open until it is started.
    fn receive_one(&mut self, mut send: impl FnMut()) -> (LinkId, Endpoint, Vec<u8>) {
        let until = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < until, "nothing came");
            send();
            for io in [&mut self.joined, &mut self.other] {
                io.turn(Some(Duration::from_millis(10))).unwrap();
                if let Some(Event::Datagram {
                    link, from, buffer, ..
                }) = io.next_event()
                {
                    return (link, from, io.bytes(buffer).to_vec());
                }
            }
        }
    }
}

/// Goal: what any worker sends to the group comes to exactly one socket of every hub, on the
/// right link, our own hub included; answers by unicast come back. IPv4 and IPv6.
fn a_group_reaches_one_worker_of_every_hub(backend: Backend) {
    Lab::run(|lab| {
        lab.plug("eth1", 1);
        for (bind, group) in [
            ("0.0.0.0:2334", GROUP_4),
            ("[::]:2334", GROUP_6),
            ("[::]:2334", "[ff05::2334]:2334"),
            // The group's port may be another one.
            ("0.0.0.0:2334", "239.1.2.3:4000"),
        ] {
            lab.enter(A);
            let mut a = Hub::new(backend, bind, group);
            lab.enter(B);
            let mut b = Hub::new(backend, bind, group);
            assert_ne!(a.local, b.local);
            let packets = [&b"first"[..], b"second", b"third"];
            for packet in packets {
                send(&mut a.other, LAN, endpoint(group), packet);
            }
            for io in [&mut a.joined, &mut b.joined] {
                let came = receive(io, packets.len());
                let expected = packets.map(|packet| (LAN, a.local, packet.to_vec()));
                assert_eq!(came, expected, "{group}");
            }
            // The copies of the third may still be under way, those of the others are not.
            for io in [&mut a.joined, &mut a.other, &mut b.joined, &mut b.other] {
                expect_nothing(io);
            }
            // On either link, since both have the port.
            let to = a.local;
            let (_, from, answer) = a.receive_one(|| send(&mut b.other, LAN, to, b"answer"));
            let came = (from.without_scope(), &answer[..]);
            assert_eq!(came, (b.local, &b"answer"[..]), "{group}");
        }
    });
}

/// Goal: two hubs at addresses of one interface hear the group each, and unicast goes to the one
/// it is for.
fn hubs_of_one_interface_hear_each_other(backend: Backend) {
    Lab::run(|lab| {
        lab.plug("eth1", 1);
        ip("addr add 10.1.0.3/24 dev eth1");
        ip("addr add fd00:1::3/64 dev eth1 nodad");
        await_carrier("eth1");
        for (binds, group) in [
            (["10.1.0.1:2334", "10.1.0.3:2334"], GROUP_4),
            (["[fd00:1::1]:2334", "[fd00:1::3]:2334"], GROUP_6),
        ] {
            let mut hubs = binds.map(|bind| Hub::new(backend, bind, group));
            assert_eq!(hubs[0].local, endpoint(binds[0]));
            send(&mut hubs[0].joined, LAN, endpoint(group), b"hello");
            for hub in &mut hubs {
                let hello = (LAN, endpoint(binds[0]), b"hello".to_vec());
                assert_eq!(receive(&mut hub.joined, 1), [hello]);
            }
            let [first, second] = &mut hubs;
            let to = endpoint(binds[1]);
            let (_, from, packet) = second.receive_one(|| send(&mut first.joined, LAN, to, b"you"));
            assert_eq!((from, &packet[..]), (endpoint(binds[0]), &b"you"[..]));
        }
    });
}

/// Goal: one port and one group on two interfaces are two links; no route is needed to choose, and
/// no router carries the group on.
fn links_of_one_port_keep_to_their_interfaces(backend: Backend) {
    Lab::run(|lab| {
        for (name, net) in [("eth1", 1), ("eth2", 2)] {
            lab.plug(name, net);
        }
        for (bind, group) in [("0.0.0.0:2334", GROUP_4), ("[::]:2334", GROUP_6)] {
            let mut ends = [A, B].map(|host| {
                lab.enter(host);
                let mut io = io(backend, &small());
                let mut add = |interface| {
                    let socket = multicast(bind, group, interface, true);
                    let options = SockRef::from(&socket);
                    let hops = if bind.starts_with('[') {
                        options.multicast_hops_v6()
                    } else {
                        options.multicast_ttl_v4()
                    };
                    assert_eq!(hops.unwrap(), 1);
                    let local = socket.local();
                    (io.add_link(socket, true).unwrap(), local)
                };
                let links = [add("eth1"), add("eth2")];
                (io, links)
            });
            for at in [1, 0, 1] {
                let (from, links) = &mut ends[0];
                let (link, local) = links[at];
                send(from, link, endpoint(group), &[0; 7][..at]);
                for (io, links) in &mut ends {
                    let expected = (links[at].0, local, vec![0; at]);
                    assert_eq!(receive(io, 1), [expected]);
                }
            }
            for (io, _) in &mut ends {
                expect_nothing(io);
            }
        }
    });
}

/// Sends until it works, since the kernel takes a moment to bring an interface up.
fn send_until_heard(from: &mut Io, to_address: Endpoint, to: &mut Io, packet: &[u8]) {
    let until = Instant::now() + DEADLINE;
    loop {
        assert!(Instant::now() < until, "nothing is heard");
        send(from, LAN, to_address, packet);
        while from.next_event().is_some() {}
        to.turn(Some(Duration::from_millis(10))).unwrap();
        while let Some(event) = to.next_event() {
            if let Event::Datagram { buffer, .. } = event
                && to.bytes(buffer) == packet
            {
                return;
            }
        }
    }
}

/// An interface that goes down and up needs nothing; one that is removed fails sends and
/// nothing else; made again, it works with new sockets in place of the old ones.
fn survive(backend: Backend, open: impl Fn() -> LinkSocket + Sync, to: &str, gone: &[i32]) {
    Lab::run(|lab| {
        lab.plug("eth1", 1);
        let mut ends = [A, B].map(|host| {
            lab.enter(host);
            let mut io = io(backend, &small());
            assert_eq!(io.add_link(open(), true).unwrap(), LAN);
            io
        });
        let [a, b] = &mut ends;
        let to = endpoint(to);
        send_until_heard(a, to, b, b"start");
        lab.enter(A);
        ip("link set eth1 down");
        for io in [&mut *a, &mut *b] {
            drain(io);
            expect_rest(io);
        }
        ip("link set eth1 up");
        await_carrier("eth1");
        send_until_heard(a, to, b, b"up again");
        drain(a);

        lab.unplug("eth1");
        drain(a);
        let code = failed_send(a, LAN, to, b"into the void").unwrap();
        assert!(gone.contains(&code), "code {code}");
        for io in [&mut *a, &mut *b] {
            drain(io);
            expect_rest(io);
        }
        a.relink(LAN, LinkSocket::absent().unwrap()).unwrap();
        assert_eq!(failed_send(a, LAN, to, b"still"), Some(libc::ENETDOWN));
        expect_rest(a);
        lab.plug("eth1", 1);
        for (host, io) in [(A, &mut *a), (B, &mut *b)] {
            lab.enter(host);
            io.relink(LAN, open()).unwrap();
        }
        send_until_heard(a, to, b, b"new cable");
        send_until_heard(b, to, a, b"both ways");
        for io in [a, b] {
            drain(io);
            assert_eq!(io.free_slots(), 16);
        }
    });
}

/// Takes in what an interface's fall has brought.
fn drain(io: &mut Io) {
    for _ in 0..4 {
        io.turn(Some(Duration::from_millis(1))).unwrap();
        while io.next_event().is_some() {}
    }
}

/// Goal: as [`survive`] says, for IPv4 and IPv6.
fn multicast_links_survive_their_interface(backend: Backend) {
    for (bind, group) in [("0.0.0.0:2334", GROUP_4), ("[::]:2334", GROUP_6)] {
        let gone = [libc::ENODEV, libc::ENXIO, libc::ENETUNREACH];
        survive(
            backend,
            || multicast(bind, group, "eth1", true),
            group,
            &gone,
        );
    }
}

/// Goal: as [`survive`] says.
fn ethernet_links_survive_their_interface(backend: Backend) {
    let group = "03:00:00:00:00:05";
    // The first send may be told that the interface went down.
    let gone = [libc::ENXIO, libc::ENODEV, libc::ENETDOWN];
    survive(backend, || ethernet("eth1", Some(group)), group, &gone);
}

const MAC_A: &str = "02:00:00:00:01:01";
const MAC_B: &str = "02:00:00:00:01:02";

/// One `Io` with a link at each end of the cable: `LinkId(0)` at `a`, `LinkId(1)` at `b`.
fn both_ends(lab: &Lab, io: &mut Io, group: Option<&str>) -> [LinkId; 2] {
    [A, B].map(|host| {
        lab.enter(host);
        io.add_link(ethernet("eth1", group), true).unwrap()
    })
}

/// Goal: packets of every length from empty to the largest come through, unpadded, with the
/// sender's address; one octet more is refused, whatever the interface would carry.
fn ethernet_carries_every_length(backend: Backend) {
    Lab::run(|lab| {
        lab.plug("eth1", 1);
        let mut io = io(backend, &small());
        let [a, b] = both_ends(lab, &mut io, None);
        let (from, to) = (endpoint(MAC_A), endpoint(MAC_B));
        let lens = [0, 1, 2, 37, 38, 39, 512, 1391, 1392, 1491, 1492];
        for (seed, len) in lens.into_iter().enumerate() {
            let packet = pattern(len, seed);
            send(&mut io, a, to, &packet);
            assert_eq!(receive(&mut io, 1), [(b, from, packet)], "{len}");
        }
        let total: usize = lens.iter().sum();
        assert_eq!(io.counters().bytes_sent, total as u64);
        assert_eq!(io.counters().bytes_received, total as u64);
        let long = failed_send(&mut io, a, to, &[0; 1493]);
        assert_eq!(long, Some(libc::EMSGSIZE));
        for (mtu, max) in [(1400, 1392), (9000, 1492)] {
            for host in [A, B] {
                lab.enter(host);
                ip(&format!("link set eth1 mtu {mtu}"));
            }
            let interface = Interface::find("eth1").unwrap();
            assert_eq!(interface.mtu, mtu);
            assert_eq!(interface.mac, MAC_B.parse().ok());
            assert_eq!(interface.frame_packet_len_max(), max);
            let packet = pattern(max, mtu);
            send(&mut io, a, to, &packet);
            assert_eq!(receive(&mut io, 1), [(b, from, packet)], "mtu {mtu}");
            let long = failed_send(&mut io, a, to, &vec![0; max + 1]);
            assert_eq!(long, Some(libc::EMSGSIZE), "mtu {mtu}");
        }
        let wrong = failed_send(&mut io, a, endpoint("10.1.0.2:2334"), b"x");
        assert_eq!(wrong, Some(libc::EAFNOSUPPORT));
        assert_eq!(io.free_slots(), 16);
        assert_eq!(io.counters().send_failures, 4);
    });
}

/// A socket that sees and sends whole frames of any kind.
fn wire() -> Socket {
    const EVERYTHING: u16 = 3; // ETH_P_ALL
    let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
    let index = Interface::find("eth1").unwrap().index;
    raw::bind_packet(&socket, EVERYTHING, index).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Goal: the octets on the cable: destination, source, length without the padding, LLC/SNAP of
/// SCSP, packet, zeros up to 60, even where an earlier packet was in the slot.
fn short_frames_are_padded(backend: Backend) {
    Lab::run(|lab| {
        lab.plug("eth1", 1);
        lab.enter(B);
        let mut wire = wire();
        lab.enter(A);
        let mut io = io(backend, &small());
        let link = io.add_link(ethernet("eth1", None), true).unwrap();
        for packet in [&[7; 100][..], b"abc"] {
            send(&mut io, link, endpoint(MAC_B), packet);
            // The next one is to be in the same slot.
            drain(&mut io);
        }
        let mut expected = vec![2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 1, 1, 0, 11];
        expected.extend([0xaa, 0xaa, 3, 0, 0, 0x5e, 0, 5]);
        expected.extend(b"abc");
        expected.resize(60, 0);
        let mut frame = [0; 2000];
        loop {
            // The kernel has things of its own to say on the cable.
            let len = wire.read(&mut frame).unwrap();
            if frame[..len].starts_with(&expected[..14]) {
                assert_eq!(frame[..len], expected);
                return;
            }
        }
    });
}

/// A frame of ours with some octets changed.
fn frame(changes: &[(usize, &[u8])], len: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 1, 2, 0, 11];
    frame.extend([0xaa, 0xaa, 3, 0, 0, 0x5e, 0, 5]);
    frame.extend(b"abc");
    frame.resize(len, 0x55);
    for (at, octets) in changes {
        frame[*at..at + octets.len()].copy_from_slice(octets);
    }
    frame
}

/// Goal: of all that comes along only frames to us or the group, untagged, with our header, wake
/// the worker; padding, of any octets, is not part of the packet.
fn foreign_frames_stay_in_the_kernel(backend: Backend) {
    Lab::run(|lab| {
        lab.plug("eth1", 1);
        let group = "03:00:00:00:00:05";
        let mut io = io(backend, &small());
        let link = io.add_link(ethernet("eth1", Some(group)), true).unwrap();
        // Even where the interface takes in everything.
        ip("link set eth1 promisc on allmulticast on");
        lab.enter(B);
        let wire = wire();
        let group_octets = group.parse::<MacAddress>().unwrap().octets();
        let tagged = [frame(&[], 60), frame(&[(0, &group_octets)], 60)];
        let [tagged, tagged_group] = tagged.map(|mut frame| {
            frame.splice(12..12, [0x81, 0, 0, 5]);
            frame
        });
        let mut long = frame(&[(12, &1501_u16.to_be_bytes())], 1515);
        long.truncate(1514);
        let foreign = [
            frame(&[(0, &[2, 0, 0, 0, 9, 9])], 60),
            frame(&[(0, &[3, 0, 0, 0, 0, 6])], 60),
            frame(&[(0, &[3, 0, 0, 0, 1, 5])], 60),
            frame(&[(0, &[0xff; 6])], 60),
            frame(&[(12, &[8, 0])], 60),
            frame(&[(12, &[0, 7])], 60),
            frame(&[(14, &[0x42, 0x42])], 60),
            frame(&[(14, &[0xff, 0xff])], 60),
            frame(&[(16, &[0x13])], 60),
            frame(&[(17, &[0, 0, 0])], 60),
            frame(&[(20, &[0, 1])], 60),
            frame(&[(20, &[8, 0])], 60),
            tagged,
            tagged_group,
            long,
        ];
        for frame in &foreign {
            wire.send(frame).unwrap();
        }
        for packet in [
            frame(&[], 60),
            frame(&[], 1514),
            frame(&[(0, &group_octets)], 25),
        ] {
            wire.send(&packet).unwrap();
        }
        let packet = (link, endpoint(MAC_B), b"abc".to_vec());
        let came = receive(&mut io, 3);
        assert_eq!(came, [packet.clone(), packet.clone(), packet]);
        expect_nothing(&mut io);
        assert_eq!(io.counters().truncated, 0, "nothing else came in");
        // A length that the frame does not have is not for the filter to judge.
        wire.send(&frame(&[(12, &[0, 48])], 60)).unwrap();
        wire.send(&frame(&[(12, &[0, 46])], 60)).unwrap();
        let came = receive(&mut io, 1);
        assert_eq!(came[0].2.len(), 38);
        assert_eq!(io.counters().truncated, 1);
    });
}

/// Goal: a frame to the group comes to every member but its sender, to nobody else, and no
/// frame of ours comes back.
fn an_ethernet_group_reaches_its_members(backend: Backend) {
    Lab::run(|lab| {
        lab.plug("eth1", 1);
        let group = "03:00:00:00:00:05";
        let mut io = io(backend, &small());
        let [a, b] = both_ends(lab, &mut io, Some(group));
        lab.enter(B);
        let outsider = io.add_link(ethernet("eth1", None), true).unwrap();
        for packet in [&b"first"[..], b"second"] {
            send(&mut io, a, endpoint(group), packet);
        }
        let came = receive(&mut io, 2);
        let expected = |packet: &[u8]| (b, endpoint(MAC_A), packet.to_vec());
        assert_eq!(came, [expected(b"first"), expected(b"second")]);
        // What is for the host is for all its sockets.
        send(&mut io, a, endpoint(MAC_B), b"you");
        let mut links: Vec<_> = receive(&mut io, 2).into_iter().map(|(at, ..)| at).collect();
        links.sort_unstable();
        assert_eq!(links, [b, outsider]);
        expect_nothing(&mut io);
    });
}

/// Goal: one worker receives, the other sends from the same socket and hears nothing, not even
/// that the interface fell.
fn workers_share_an_ethernet_link(backend: Backend) {
    Lab::run(|lab| {
        lab.plug("eth1", 1);
        lab.enter(B);
        let mut far = io(backend, &small());
        let far_link = far.add_link(ethernet("eth1", None), true).unwrap();
        lab.enter(A);
        let socket = ethernet("eth1", None);
        let (mut first, mut second) = (io(backend, &small()), io(backend, &small()));
        second.add_link(socket.try_clone().unwrap(), false).unwrap();
        first.add_link(socket, true).unwrap();
        for packet in [&b"first"[..], b"later"] {
            let from = if packet == b"first" {
                &mut first
            } else {
                &mut second
            };
            send(from, LAN, endpoint(MAC_B), packet);
            let came = receive(&mut far, 1);
            assert_eq!(came, [(far_link, endpoint(MAC_A), packet.to_vec())]);
            send(&mut far, far_link, endpoint(MAC_A), b"answer");
            assert_eq!(receive(&mut first, 1)[0].2, b"answer");
            expect_nothing(&mut second);
        }
        ip("link set eth1 down");
        expect_rest(&mut second);
        drain(&mut first);
        let code = failed_send(&mut second, LAN, endpoint(MAC_B), b"down");
        assert_eq!(code, Some(libc::ENETDOWN));
        expect_rest(&mut second);
        ip("link set eth1 up");
        await_carrier("eth1");
        send_until_heard(&mut second, endpoint(MAC_B), &mut far, b"up again");
    });
}

/// Goal: packets of every kind of link leave without an `Io`, from another thread too.
fn senders_need_no_io(backend: Backend) {
    Lab::run(|lab| {
        lab.plug("eth1", 1);
        lab.enter(B);
        let mut io = io(backend, &small());
        let udp = bind_udp("10.1.0.2:2335".parse().unwrap(), &shared()).unwrap();
        for socket in [
            udp.into(),
            multicast("0.0.0.0:2334", GROUP_4, "eth1", true),
            ethernet("eth1", None),
        ] {
            io.add_link(socket, true).unwrap();
        }
        lab.enter(A);
        let udp = bind_udp("10.1.0.1:2335".parse().unwrap(), &shared()).unwrap();
        let sockets: [(LinkSocket, &str); 3] = [
            (udp.into(), "10.1.0.2:2335"),
            (multicast("0.0.0.0:2334", GROUP_4, "eth1", true), GROUP_4),
            (ethernet("eth1", None), MAC_B),
        ];
        for (at, (socket, to)) in sockets.into_iter().enumerate() {
            let (sender, to) = (socket.sender().unwrap(), endpoint(to));
            let packet = pattern(1000, at);
            let sent = std::thread::scope(|scope| {
                let (sender, packet) = (&sender, &packet);
                scope.spawn(move || sender.send(packet, to)).join().unwrap()
            });
            assert_eq!(sent.unwrap(), 1000);
            let link = LinkId(u16::try_from(at).unwrap());
            assert_eq!(receive(&mut io, 1), [(link, socket.local(), packet)]);
        }
        let sender = ethernet("eth1", None).sender().unwrap();
        for len in [1493, 5000] {
            let long = sender.send(&vec![0; len], endpoint(MAC_B)).unwrap_err();
            assert_eq!(long.raw_os_error(), Some(libc::EMSGSIZE), "{len}");
        }
        let wrong = sender.send(b"x", endpoint("10.1.0.2:1")).unwrap_err();
        assert_eq!(wrong.raw_os_error(), Some(libc::EAFNOSUPPORT));
        let absent = LinkSocket::absent().unwrap().sender().unwrap();
        let gone = absent.send(b"x", endpoint(MAC_B)).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ENETDOWN));
    });
}

/// Goal: an error names link, interface and cause in one line.
#[test]
#[ignore = "needs root: opens network namespaces"]
fn errors_name_link_interface_and_cause() {
    Lab::run(|lab| {
        lab.plug("eth1", 1);
        let error = |bind: &str, group: &str, interface: &str| {
            let (bind, group) = (bind.parse().unwrap(), group.parse().unwrap());
            let result = bind_multicast(bind, group, interface, true, &shared());
            result.unwrap_err().to_string()
        };
        assert_eq!(
            error("0.0.0.0:2334", GROUP_4, "eth9"),
            "cannot open multicast link 0.0.0.0:2334 with group 239.255.23.34:2334 on interface \
             eth9: no such interface"
        );
        ip("addr del 10.1.0.1/24 dev eth1");
        let text = error("0.0.0.0:2334", GROUP_4, "eth1");
        assert!(
            text.ends_with("eth1: the interface has no such address"),
            "{text}"
        );
        let text = error("10.1.0.1:2334", GROUP_4, "eth1");
        assert!(
            text.ends_with("eth1: the interface has no such address"),
            "{text}"
        );
        let text = error("0.0.0.0:2334", "10.1.0.9:2334", "eth1");
        assert!(text.contains("is a multicast address"), "{text}");
        let text = error("0.0.0.0:2334", GROUP_6, "eth1");
        assert!(text.contains("different address families"), "{text}");
        let error = |interface: &str, group: Option<&str>| {
            let group = group.map(|group| group.parse().unwrap());
            let result = bind_ethernet(interface, group, &EthernetOptions::default());
            result.unwrap_err().to_string()
        };
        let group = Some("03:00:00:00:00:05");
        assert_eq!(
            error("eth9", group),
            "cannot open ethernet link with group 03:00:00:00:00:05 on interface eth9: no such \
             interface"
        );
        assert_eq!(
            error("lo", None),
            "cannot open ethernet link on interface lo: not an Ethernet interface"
        );
        let text = error("eth1", Some(MAC_A));
        assert!(text.ends_with("not a multicast address"), "{text}");
        ip("link set eth1 down");
        let text = {
            let result = bind_multicast(
                SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 2334),
                GROUP_4.parse().unwrap(),
                "eth1",
                false,
                &UdpOptions::default(),
            );
            result.unwrap_err().to_string()
        };
        assert!(text.ends_with("no such address"), "{text}");
        // From here on this thread may not open packet sockets.
        let mut allowed = rustix::thread::capabilities(None).unwrap();
        allowed.effective -= rustix::thread::CapabilitySet::NET_RAW;
        rustix::thread::set_capabilities(None, allowed).unwrap();
        let text = error("eth1", None);
        assert!(text.ends_with("it needs CAP_NET_RAW"), "{text}");
    });
}
