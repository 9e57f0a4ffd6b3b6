use super::*;
use crate::{DATAGRAM_LEN_MAX, LinkSocket, SEGMENTS_MAX, raw, segments};

on_both_backends!(datagrams:
    echo_of_every_size,
    echo_over_ipv6,
    many_datagrams_arrive_when_paced,
    exhausted_buffers_recover,
    long_datagrams_are_dropped_and_counted,
    segments_are_cut_and_coalesced,
    segments_come_apart_without_coalescing,
    refused_segmentation_falls_back,
    segments_too_long_for_the_path_fall_back,
    refused_destinations_leave_segmentation_alone,
    more_operations_than_the_rings_hold,
    failed_sends_are_reported,
    refused_datagrams_do_not_stop_a_link,
);

/// Answers every datagram in place until `count` have been answered.
fn echo(io: &mut Io, count: usize) {
    let mut left = count;
    turns_until(io, |io, event| {
        let Event::Datagram {
            link,
            from,
            buffer,
            segment,
        } = event
        else {
            return false;
        };
        assert_eq!(segment, None);
        let slot = io.send_slot().expect("a free slot");
        let (bytes, answer) = io.bytes_and_slot(buffer, &slot);
        let len = bytes.len();
        answer[..len].copy_from_slice(bytes);
        io.send(slot, link, from, len, None);
        left -= 1;
        left == 0
    });
    io.turn(Some(Duration::ZERO)).unwrap();
}

/// Goal: datagrams from empty to the longest possible come back byte for byte, one at a time.
fn echo_of_every_size(backend: Backend) {
    let mut io = io(backend, &small());
    let (_, address) = add_link(&mut io);
    let peer = client("127.0.0.1:0");
    let mut answer = vec![0; 70_000];
    let sizes = [
        0, 1, 2, 3, 8, 100, 511, 512, 1399, 1472, 1473, 4096, 9000, 32_768, 65_000,
    ];
    let sizes = sizes
        .into_iter()
        .chain([DATAGRAM_LEN_MAX - 1, DATAGRAM_LEN_MAX]);
    for (seed, len) in sizes.enumerate() {
        let sent = pattern(len, seed);
        peer.send_to(&sent, address).unwrap();
        echo(&mut io, 1);
        let (len, from) = peer.recv_from(&mut answer).unwrap();
        assert_eq!(from, address);
        assert!(
            answer[..len] == sent,
            "datagram of {} octets came back changed",
            sent.len()
        );
    }
    assert!(io.next_event().is_none());
    assert_eq!(io.counters().datagrams_received, 17);
    assert_eq!(io.counters().datagrams_sent, 17);
    assert_eq!(io.counters().bytes_sent, io.counters().bytes_received);
    assert_eq!(io.free_slots(), 16);
}

/// Goal: the same over IPv6.
fn echo_over_ipv6(backend: Backend) {
    let Ok(socket) = bind_udp("[::1]:0".parse().unwrap(), &UdpOptions::default()) else {
        eprintln!("skipped: no IPv6 loopback address");
        return;
    };
    let address = socket.local_addr().unwrap();
    let mut io = io(backend, &small());
    io.add_link(socket, true).unwrap();
    let peer = client("[::1]:0");
    for len in [0, 1452, 65_000] {
        peer.send_to(&pattern(len, 1), address).unwrap();
        echo(&mut io, 1);
        let mut answer = vec![0; 70_000];
        let (len, from) = peer.recv_from(&mut answer).unwrap();
        assert_eq!(from, address);
        assert!(answer[..len] == pattern(len, 1));
    }
}

/// Goal: far more datagrams than there are buffers and slots, none lost or changed while as many
/// are under way as fit.
fn many_datagrams_arrive_when_paced(backend: Backend) {
    const COUNT: u32 = 20_000;
    let config = IoConfig {
        receive_buffers: 8,
        send_slots: 4,
        gro: false,
        ..small()
    };
    let mut io = io(backend, &config);
    let (from, _) = add_link(&mut io);
    let (_, to) = add_link(&mut io);
    let (mut sent, mut seen) = (0, vec![false; COUNT as usize]);
    let mut received = 0;
    let until = Instant::now() + DEADLINE;
    while received < COUNT {
        while sent < COUNT && sent - received < 4 {
            let Some(slot) = io.send_slot() else { break };
            io.slot_mut(&slot)[..4].copy_from_slice(&sent.to_be_bytes());
            io.send(slot, from, to, 4, None);
            sent += 1;
        }
        assert!(
            Instant::now() < until,
            "{received} of {COUNT} arrived: {:?}",
            io.counters()
        );
        io.turn(Some(DEADLINE)).unwrap();
        while let Some(event) = io.next_event() {
            let Event::Datagram { buffer, .. } = event else {
                panic!("unexpected {event:?}")
            };
            let number = u32::from_be_bytes(io.bytes(buffer).try_into().unwrap());
            assert!(
                !std::mem::replace(&mut seen[number as usize], true),
                "{number} came twice"
            );
            received += 1;
        }
    }
    assert_eq!(io.counters().datagrams_received, u64::from(COUNT));
    assert_eq!(io.counters().receive_queue_overflow, 0);
    assert_eq!(io.counters().send_failures, 0);
}

/// Goal: a burst beyond the buffers is counted and still arrives whole from the socket's queue.
fn exhausted_buffers_recover(backend: Backend) {
    let config = IoConfig {
        receive_buffers: 4,
        gro: false,
        ..small()
    };
    let mut io = io(backend, &config);
    let (_, address) = add_link(&mut io);
    let peer = client("127.0.0.1:0");
    for round in 0..3 {
        for number in 0..64 {
            peer.send_to(&[round, number], address).unwrap();
        }
        let mut next = 0;
        turns_until(&mut io, |io, event| {
            let Event::Datagram { buffer, .. } = event else {
                return false;
            };
            assert_eq!(io.bytes(buffer), [round, next]);
            next += 1;
            next == 64
        });
    }
    let exhausted = io.counters().receive_buffers_exhausted;
    match backend {
        Backend::IoUring => assert!(exhausted >= 3, "only {exhausted} times exhausted"),
        Backend::Poll => assert_eq!(exhausted, 0, "poll has no buffers to run out of"),
    }
}

/// Goal: what does not fit a buffer is dropped whole, and the next datagram is fine.
fn long_datagrams_are_dropped_and_counted(backend: Backend) {
    let config = IoConfig {
        receive_buffer_len_bytes: 1024,
        gro: false,
        ..small()
    };
    let mut io = io(backend, &config);
    let (_, address) = add_link(&mut io);
    let peer = client("127.0.0.1:0");
    for len in [1023, 1024, 1200, 60_000, 10] {
        peer.send_to(&pattern(len, 2), address).unwrap();
    }
    let mut lens = Vec::new();
    turns_until(&mut io, |io, event| {
        let Event::Datagram { buffer, .. } = event else {
            return false;
        };
        assert_eq!(io.bytes(buffer), pattern(buffer.len(), 2));
        lens.push(buffer.len());
        buffer.len() == 10
    });
    assert_eq!(lens, [1023, 1024, 10]);
    assert_eq!(io.counters().truncated, 2);
}

/// Sends `len` octets in segments of 1,400 from one link to another and gives what arrives, the
/// largest number of datagrams that came as one, and how often a refusal was told.
fn segmented(
    io: &mut Io,
    from: LinkId,
    to: SocketAddr,
    len: usize,
) -> (Vec<Vec<u8>>, usize, usize) {
    let slot = io.send_slot().unwrap();
    io.slot_mut(&slot)[..len].copy_from_slice(&pattern(len, 3));
    io.send(slot, from, to, len, Some(1400));
    let (mut arrived, mut most, mut refusals) = (Vec::new(), 0, 0);
    turns_until(io, |io, event| {
        let Event::Datagram {
            buffer, segment, ..
        } = event
        else {
            let is_news = matches!(event, Event::SegmentsRefused { .. });
            assert!(is_news, "{event:?}");
            refusals += 1;
            return false;
        };
        let parts: Vec<_> = segments(io.bytes(buffer), segment)
            .map(<[u8]>::to_vec)
            .collect();
        most = most.max(parts.len());
        arrived.extend(parts);
        arrived.iter().map(Vec::len).sum::<usize>() >= len
    });
    (arrived, most, refusals)
}

fn expect_segments(arrived: &[Vec<u8>], len: usize) {
    let sent = pattern(len, 3);
    let expected: Vec<_> = sent.chunks(1400).collect();
    assert_eq!(arrived.len(), expected.len());
    assert!(
        arrived
            .iter()
            .zip(expected)
            .all(|(arrived, sent)| arrived == sent)
    );
}

/// Goal: one send becomes many datagrams, which arrive as few where the kernel coalesces.
fn segments_are_cut_and_coalesced(backend: Backend) {
    let mut io = io(backend, &small());
    let (from, _) = add_link(&mut io);
    let (_, to) = add_link(&mut io);
    for len in [1401, 2800, 28_100, 1400 * 46] {
        let (arrived, most, refusals) = segmented(&mut io, from, to, len);
        expect_segments(&arrived, len);
        assert_eq!(refusals, 0);
        assert_eq!(
            most,
            len.div_ceil(1400),
            "loopback keeps a segmented send together"
        );
    }
    io.turn(Some(Duration::ZERO)).unwrap();
    assert!(io.next_event().is_none());
    let count = 2 + 2 + 21 + 46;
    let counters = io.counters();
    assert_eq!(counters.datagrams_sent, count);
    assert_eq!(counters.datagrams_received, count);
    assert_eq!(counters.segmented_sends, 4);
    assert_eq!(counters.coalesced_receives, 4);
}

/// Goal: without coalescing every datagram comes by itself.
fn segments_come_apart_without_coalescing(backend: Backend) {
    let config = IoConfig {
        receive_buffers: 64,
        gro: false,
        ..small()
    };
    let mut io = io(backend, &config);
    let (from, _) = add_link(&mut io);
    let (_, to) = add_link(&mut io);
    let (arrived, most, _) = segmented(&mut io, from, to, 28_100);
    expect_segments(&arrived, 28_100);
    assert_eq!(most, 1);
}

/// Goal: where the kernel refuses to cut (here: a socket without checksums), the datagrams are
/// sent one by one, this time and from then on.
fn refused_segmentation_falls_back(backend: Backend) {
    let config = IoConfig {
        receive_buffers: 64,
        ..small()
    };
    let mut io = io(backend, &config);
    let socket = bind_udp("127.0.0.1:0".parse().unwrap(), &UdpOptions::default()).unwrap();
    raw::set_option(&socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
    let from = io.add_link(socket, true).unwrap();
    let (_, to) = add_link(&mut io);
    for round in 0..3 {
        let (arrived, most, refusals) = segmented(&mut io, from, to, 28_100);
        expect_segments(&arrived, 28_100);
        assert_eq!(most, 1, "nothing was cut by the kernel");
        assert_eq!(refusals, usize::from(round == 0), "told once");
    }
    io.turn(Some(Duration::ZERO)).unwrap();
    assert!(io.next_event().is_none());
    assert_eq!(io.counters().datagrams_sent, 63);
    assert_eq!(io.counters().segmented_sends, 0);
    assert_eq!(io.counters().refused_segments, 1);
    assert_eq!(io.counters().send_failures, 0);
    assert_eq!(io.free_slots(), 16);
}

/// Goal: segments longer than the path takes come apart, which fragments them, and shorter ones
/// are still cut by the kernel.
fn segments_too_long_for_the_path_fall_back(backend: Backend) {
    let mut io = io(backend, &small());
    let socket = bind_udp("127.0.0.1:0".parse().unwrap(), &UdpOptions::default()).unwrap();
    let from = io.add_link(socket, true).unwrap();
    let (_, to) = add_link(&mut io);
    // Nothing on loopback is too long, but more octets than any datagram holds are refused alike.
    let slot = io.send_slot().unwrap();
    let len = DATAGRAM_LEN_MAX + 1;
    io.send(slot, from, to, len, Some(len / 2 + 1));
    let (mut octets, mut told) = (0, Vec::new());
    turns_until(&mut io, |io, event| {
        match event {
            Event::Datagram { buffer, .. } => octets += io.bytes(buffer).len(),
            Event::SegmentsRefused { segment, .. } => told.push(segment),
            other => panic!("{other:?}"),
        }
        octets == len
    });
    assert_eq!(told, [len / 2 + 1]);
    let (arrived, most, refusals) = segmented(&mut io, from, to, 28_100);
    expect_segments(&arrived, 28_100);
    assert_eq!((most, refusals), (21, 0));
    assert_eq!(io.counters().refused_segments, 1);
    assert_eq!(io.counters().send_failures, 0);
}

/// Goal: a destination that the kernel refuses, with an error that could be meant for the
/// segments, fails for each datagram and leaves the link as it was.
fn refused_destinations_leave_segmentation_alone(backend: Backend) {
    let mut io = io(backend, &small());
    let (from, _) = add_link(&mut io);
    let (_, to) = add_link(&mut io);
    let nowhere: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let slot = io.send_slot().unwrap();
    io.send(slot, from, nowhere, 4200, Some(1400));
    let mut failures = 0;
    turns_until(&mut io, |_, event| {
        let Event::SendFailed { error, .. } = event else {
            panic!("{event:?}")
        };
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        failures += 1;
        failures == 3
    });
    assert_eq!(io.counters().refused_segments, 1);
    let (arrived, most, refusals) = segmented(&mut io, from, to, 28_100);
    expect_segments(&arrived, 28_100);
    assert_eq!((most, refusals), (21, 0));
}

/// Goal: a sender without an `Io` has packets cut as well, and sends them one by one where the
/// kernel refuses; what is no packet at all fails.
#[test]
fn senders_send_segments() {
    let mut io = io(Backend::Poll, &small());
    let (_, to) = add_link(&mut io);
    for refuses in [false, true] {
        let socket = bind_udp("127.0.0.1:0".parse().unwrap(), &UdpOptions::default()).unwrap();
        let no_check = i32::from(refuses);
        raw::set_option(&socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, no_check).unwrap();
        let sender = LinkSocket::from(socket).sender().unwrap();
        for len in [1, 1400, 1401, 28_100] {
            let sent = sender.send_segments(&pattern(len, 3), 1400, to.into());
            assert_eq!(sent.unwrap(), len);
            let (mut arrived, mut events) = (Vec::new(), 0);
            turns_until(&mut io, |io, event| {
                let Event::Datagram {
                    buffer, segment, ..
                } = event
                else {
                    panic!("{event:?}")
                };
                events += 1;
                let parts = segments(io.bytes(buffer), segment);
                arrived.extend(parts.map(<[u8]>::to_vec));
                arrived.iter().map(Vec::len).sum::<usize>() == len
            });
            expect_segments(&arrived, len);
            assert_eq!(events == 1, !refuses || len <= 1400);
        }
        let nowhere: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let error = sender.send_segments(&[0; 10], 4, nowhere.into());
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
    let absent = LinkSocket::absent().unwrap().sender().unwrap();
    let error = absent.send_segments(&[0; 10], 4, to.into()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN));
}

/// Goal: thousands of operations queued in one turn overflow both of the ring's queues, and still
/// every one is done and accounted for.
fn more_operations_than_the_rings_hold(backend: Backend) {
    const SENDS: usize = 64;
    let config = IoConfig {
        send_slots: 64,
        ..small()
    };
    let mut io = io(backend, &config);
    let socket = bind_udp("127.0.0.1:0".parse().unwrap(), &UdpOptions::default()).unwrap();
    raw::set_option(&socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
    let link = io.add_link(socket, true).unwrap();
    let sink = client("127.0.0.1:0");
    for _ in 0..SENDS {
        let slot = io.send_slot().unwrap();
        let len = SEGMENTS_MAX * 10;
        io.send(slot, link, sink.local_addr().unwrap(), len, Some(10));
    }
    assert!(io.send_slot().is_none(), "all slots are under way");
    let until = Instant::now() + DEADLINE;
    while io.free_slots() < SENDS {
        assert!(Instant::now() < until, "stuck: {:?}", io.counters());
        // Somebody asked for a slot in vain, so freed ones end the wait.
        io.turn(Some(DEADLINE)).unwrap();
        while let Some(event) = io.next_event() {
            assert!(matches!(event, Event::SegmentsRefused { .. }), "{event:?}");
        }
    }
    assert!(Instant::now() < until, "freed slots did not end the wait");
    let counters = io.counters();
    assert_eq!(counters.datagrams_sent, (SENDS * SEGMENTS_MAX) as u64);
    assert_eq!(counters.bytes_sent, (SENDS * SEGMENTS_MAX * 10) as u64);
    let overflown = counters.completion_overflow > 0;
    assert_eq!(overflown, backend == Backend::IoUring);
}

/// Goal: a send the kernel refuses is reported with its destination, its slot comes back, and the
/// link goes on.
fn failed_sends_are_reported(backend: Backend) {
    let mut io = io(backend, &small());
    let (link, address) = add_link(&mut io);
    let slot = io.send_slot().unwrap();
    io.send(slot, link, address, DATAGRAM_LEN_MAX + 1, None);
    turns_until(&mut io, |_, event| {
        let Event::SendFailed {
            link: of,
            to,
            error,
        } = event
        else {
            return false;
        };
        assert_eq!((of, to), (link, address.into()));
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        true
    });
    assert_eq!(io.counters().send_failures, 1);
    assert_eq!(io.free_slots(), 16);
    let slot = io.send_slot().unwrap();
    io.slot_mut(&slot)[0] = 7;
    io.send(slot, link, address, 1, None);
    turns_until(
        &mut io,
        |io, event| matches!(event, Event::Datagram { buffer, .. } if io.bytes(buffer) == [7]),
    );
}

/// Goal: the ICMP answer to a datagram (port unreachable) is counted, and the link still receives.
fn refused_datagrams_do_not_stop_a_link(backend: Backend) {
    let mut io = io(backend, &small());
    let absent = client("127.0.0.1:0").local_addr().unwrap();
    let socket = bind_udp("127.0.0.1:0".parse().unwrap(), &UdpOptions::default()).unwrap();
    let address = socket.local_addr().unwrap();
    socket.connect(absent).unwrap();
    let link = io.add_link(socket, true).unwrap();
    let slot = io.send_slot().unwrap();
    io.send(slot, link, absent, 1, None);
    let until = Instant::now() + DEADLINE;
    while io.counters().receive_failures + io.counters().send_failures == 0 {
        assert!(Instant::now() < until, "no refusal: {:?}", io.counters());
        io.turn(Some(DEADLINE)).unwrap();
        while io.next_event().is_some() {}
    }
    let peer = UdpSocket::bind(absent).unwrap();
    peer.send_to(b"here", address).unwrap();
    turns_until(
        &mut io,
        |io, event| matches!(event, Event::Datagram { buffer, .. } if io.bytes(buffer) == b"here"),
    );
}
