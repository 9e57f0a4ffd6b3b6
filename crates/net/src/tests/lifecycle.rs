use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use super::*;

on_both_backends!(lifecycle:
    a_waker_wakes_from_another_thread,
    workers_wake_each_other,
    deadlines_are_kept,
    a_full_table_is_an_error,
    stale_bytes_are_refused,
    dropped_with_everything_under_way,
    queued_sends_leave_with_the_next_turn,
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
