use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use super::*;
use crate::LinkSocket;

on_both_backends!(lifecycle:
    a_waker_wakes_from_another_thread,
    workers_wake_each_other,
    deadlines_are_kept,
    a_full_table_is_an_error,
    stale_bytes_are_refused,
    dropped_with_everything_under_way,
    queued_sends_leave_with_the_next_turn,
    replaced_sockets_are_closed,
    replaced_sockets_are_heard_no_more,
    links_that_only_send_hear_nothing,
);

/// Goal: a worker that waits for ever is woken by another thread, again and again.
fn a_waker_wakes_from_another_thread(backend: Backend) {
    let mut io = io(backend, &small());
    let waker = io.waker();
    let (ask, asked) = mpsc::channel();
    let other = thread::spawn(move || {
        for () in asked {
            waker.wake();
        }
    });
    for round in 1..=100 {
        ask.send(()).unwrap();
        turns_until(&mut io, |_, event| matches!(event, Event::Woken));
        assert_eq!(io.counters().wakes, round);
    }
    drop(ask);
    other.join().unwrap();
}

/// Goal: two workers play ping-pong by wake-ups alone (ring messages where both have rings).
fn workers_wake_each_other(backend: Backend) {
    const ROUNDS: usize = 500;
    let (give, take) = mpsc::channel();
    let mut first = io(backend, &small());
    let waker = first.waker();
    let other = thread::spawn(move || {
        let mut second = io(backend, &small());
        give.send(second.waker()).unwrap();
        for _ in 0..ROUNDS {
            turns_until(&mut second, |_, event| matches!(event, Event::Woken));
            second.wake(&waker);
        }
        second.turn(Some(Duration::ZERO)).unwrap();
        second.counters().wakes
    });
    let neighbour = take.recv().unwrap();
    for _ in 0..ROUNDS {
        first.wake(&neighbour);
        turns_until(&mut first, |_, event| matches!(event, Event::Woken));
    }
    assert_eq!(other.join().unwrap(), ROUNDS as u64);
    assert_eq!(first.counters().wakes, ROUNDS as u64);
    // The neighbour is gone: waking it, or oneself, is harmless.
    first.wake(&neighbour);
    let own = first.waker();
    first.wake(&own);
    turns_until(&mut first, |_, event| matches!(event, Event::Woken));
}

/// Goal: a turn with nothing to do ends after its time, never before.
fn deadlines_are_kept(backend: Backend) {
    let mut io = io(backend, &small());
    add_link(&mut io);
    for wait in [
        Duration::ZERO,
        Duration::from_micros(1500),
        Duration::from_millis(20),
    ] {
        let start = Instant::now();
        io.turn(Some(wait)).unwrap();
        assert!(
            start.elapsed() >= wait,
            "{wait:?} ended after {:?}",
            start.elapsed()
        );
        assert!(io.next_event().is_none());
    }
}

/// Goal: sockets beyond the limits are refused by name of the limit.
fn a_full_table_is_an_error(backend: Backend) {
    let config = IoConfig {
        links_max: 1,
        listeners_max: 1,
        ..small()
    };
    let mut io = io(backend, &config);
    add_link(&mut io);
    add_tcp(&mut io);
    let error = io.add_link(client("127.0.0.1:0"), true).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot add another socket: links_max is 1"
    );
    let error = io
        .add_listener(TcpListener::bind("127.0.0.1:0").unwrap())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot add another socket: listeners_max is 1"
    );
}

/// Goal: a handle kept beyond its loan is caught, not read.
fn stale_bytes_are_refused(backend: Backend) {
    let mut io = io(backend, &small());
    let (_, address) = add_link(&mut io);
    client("127.0.0.1:0").send_to(b"a", address).unwrap();
    let mut kept = None;
    turns_until(&mut io, |_, event| {
        if let Event::Datagram { buffer, .. } = event {
            kept = Some(buffer);
        }
        kept.is_some()
    });
    let read = std::panic::AssertUnwindSafe(|| io.bytes(kept.unwrap()).len());
    assert!(std::panic::catch_unwind(read).is_err());
}

/// Goal: dropping with receives, sends, accepts, connections and wake-ups all under way frees
/// every address and ends every connection, each time.
fn dropped_with_everything_under_way(backend: Backend) {
    for round in 0..100 {
        let mut io = io(backend, &small());
        let (link, udp) = add_link(&mut io);
        let tcp = add_tcp(&mut io);
        let waker = io.waker();
        let peer = client("127.0.0.1:0");
        let mut streams: Vec<_> = (0..3).map(|_| TcpStream::connect(tcp).unwrap()).collect();
        let mut conns = Vec::new();
        turns_until(&mut io, |_, event| {
            if let Event::Accepted { conn, .. } = event {
                conns.push(conn);
            }
            conns.len() == 3
        });
        for &conn in &conns[1..] {
            io.stream_buffer(conn).unwrap().resize(8 << 20, 1);
            io.flush(conn);
        }
        for _ in 0..round % 16 {
            let slot = io.send_slot().unwrap();
            io.send(slot, link, udp, 50_000, Some(1000));
        }
        io.pause_reading(conns[0]);
        peer.send_to(&pattern(1000, 6), udp).unwrap();
        waker.wake();
        io.wake(&waker);
        // Odd rounds leave it all queued, even rounds let the kernel have it.
        if round % 2 == 0 {
            io.turn(Some(Duration::ZERO)).unwrap();
            io.next_event();
            io.close(conns[1]);
            io.abort(conns[2]);
            streams.push(TcpStream::connect(tcp).unwrap());
        }
        drop(io);
        waker.wake();
        for mut stream in streams {
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let ended = std::io::copy(&mut stream.by_ref(), &mut std::io::sink());
            let kind = ended.err().map(|error| error.kind());
            assert_ne!(
                kind,
                Some(std::io::ErrorKind::WouldBlock),
                "round {round} left it open"
            );
        }
        bind_udp(udp, &UdpOptions::default()).unwrap();
        bind_tcp(tcp, 1, false).unwrap();
    }
}

/// Goal: a queued datagram is with the kernel when the next turn returns, and not before.
fn queued_sends_leave_with_the_next_turn(backend: Backend) {
    let mut io = io(backend, &small());
    let (link, _) = add_link(&mut io);
    let peer = client("127.0.0.1:0");
    let slot = io.send_slot().unwrap();
    io.slot_mut(&slot)[..5].copy_from_slice(b"hello");
    io.send(slot, link, peer.local_addr().unwrap(), 5, None);
    peer.set_nonblocking(true).unwrap();
    assert!(peer.recv(&mut [0; 8]).is_err());
    io.turn(Some(Duration::ZERO)).unwrap();
    let mut answer = [0; 8];
    assert_eq!(peer.recv(&mut answer).unwrap(), 5);
    assert_eq!(&answer[..5], b"hello");
    let unused = io.send_slot().unwrap();
    io.release(unused);
    while io.free_slots() < 16 {
        io.turn(Some(DEADLINE)).unwrap();
        while io.next_event().is_some() {}
    }
}

fn bind(address: &str) -> UdpSocket {
    bind_udp(address.parse().unwrap(), &UdpOptions::default()).unwrap()
}

/// Goal: a link goes on with each socket put in its place, whether or not a turn came between, and
/// the one before is closed.
fn replaced_sockets_are_closed(backend: Backend) {
    let mut io = io(backend, &small());
    let (link, first) = add_link(&mut io);
    // The first receive is with the kernel; the later ones are replaced before it sees them.
    io.turn(Some(Duration::ZERO)).unwrap();
    let peer = client("127.0.0.1:0");
    for round in 0..8 {
        let next = bind("127.0.0.1:0");
        let address = next.local_addr().unwrap();
        io.relink(link, next).unwrap();
        if round % 3 == 0 {
            peer.send_to(&[round], address).unwrap();
            let from = peer.local_addr().unwrap().into();
            assert_eq!(receive(&mut io, 1), [(link, from, vec![round])]);
            let answer = [round, round];
            send(&mut io, link, from, &answer);
            let mut came = [0; 4];
            assert_eq!(peer.recv_from(&mut came).unwrap(), (2, address));
        }
    }
    let until = Instant::now() + DEADLINE;
    while bind_udp(first, &UdpOptions::default()).is_err() {
        assert!(Instant::now() < until, "{first} is still bound");
        io.turn(Some(Duration::from_millis(1))).unwrap();
    }
}

/// Goal: what a replaced socket had received or still receives, because another handle keeps it
/// open, is nobody's; it does not even wake.
fn replaced_sockets_are_heard_no_more(backend: Backend) {
    let mut io = io(backend, &small());
    let old: LinkSocket = bind("127.0.0.1:0").into();
    let kept = old.try_clone().unwrap();
    let Endpoint::Ip(address) = kept.local() else {
        unreachable!("it is a UDP socket")
    };
    let link = io.add_link(old, true).unwrap();
    io.turn(Some(Duration::ZERO)).unwrap();
    let peer = client("127.0.0.1:0");
    for at in 0..3 {
        peer.send_to(&[at], address).unwrap();
    }
    io.turn(Some(DEADLINE)).unwrap();
    assert!(matches!(io.next_event(), Some(Event::Datagram { .. })));
    let next = bind("127.0.0.1:0");
    let to = next.local_addr().unwrap();
    io.relink(link, next).unwrap();
    for _ in 0..3 {
        expect_nothing(&mut io);
    }
    peer.send_to(b"too late", address).unwrap();
    expect_rest(&mut io);
    peer.send_to(b"new", to).unwrap();
    assert_eq!(receive(&mut io, 1)[0].2, b"new");
}

/// Goal: a handle that was added to send from leaves what comes in to the others.
fn links_that_only_send_hear_nothing(backend: Backend) {
    let (mut first, mut second) = (io(backend, &small()), io(backend, &small()));
    let socket: LinkSocket = bind("127.0.0.1:0").into();
    let (peer, local) = (client("127.0.0.1:0"), socket.local());
    let link = second.add_link(socket.try_clone().unwrap(), false).unwrap();
    first.add_link(socket, true).unwrap();
    for round in 0..3 {
        send(&mut second, link, peer.local_addr().unwrap(), &[round]);
        let (len, from) = peer.recv_from(&mut [0; 8]).unwrap();
        assert_eq!((len, Endpoint::Ip(from)), (1, local));
        peer.send_to(b"answer", from).unwrap();
        expect_rest(&mut second);
        assert_eq!(receive(&mut first, 1)[0].2, b"answer");
    }
}
