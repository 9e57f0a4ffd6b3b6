use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;

use super::*;
use crate::{ConnId, Peer, bind_unix};

on_both_backends!(streams:
    large_payloads_are_echoed,
    unix_connections_are_echoed,
    half_closed_connections_get_their_answer,
    reset_connections_are_closed_once,
    close_writes_what_is_pending,
    abort_does_not_wait_for_the_peer,
    paused_connections_are_not_read,
    connections_beyond_the_limit_are_refused,
    calls_on_a_closed_connection_do_nothing,
);

const MIB: usize = 1 << 20;

/// Echoes until `count` connections have closed; reading pauses while much output is pending.
fn echo_connections(io: &mut Io, count: usize) {
    let mut closed = 0;
    turns_until(io, |io, event| {
        match event {
            Event::Received { conn, buffer } => {
                let (input, output) = io.exchange(conn, buffer).unwrap();
                output.extend_from_slice(input);
                io.flush(conn);
                if io.pending_output(conn) > MIB / 4 {
                    io.pause_reading(conn);
                }
            }
            Event::Drained { conn } => io.resume_reading(conn),
            Event::Ended { conn } => io.close(conn),
            Event::Closed { error, .. } => {
                assert!(error.is_none(), "closed by {error:?}");
                closed += 1;
            }
            _ => {}
        }
        closed == count
    });
}

/// Writes `payloads` without waiting for answers, and reads them all back.
fn pipeline(
    input: impl Read,
    mut output: impl Write + Send + 'static,
    end: impl FnOnce() + Send + 'static,
) {
    let payloads: Vec<_> = (0..8).map(|seed| pattern(MIB, seed)).collect();
    let sent = payloads.concat();
    let writer = thread::spawn(move || {
        for payload in payloads {
            output.write_all(&payload).unwrap();
        }
        end();
    });
    let mut answer = Vec::new();
    let mut input = input;
    input.read_to_end(&mut answer).unwrap();
    writer.join().unwrap();
    assert!(
        answer == sent,
        "{} octets came back for {}",
        answer.len(),
        sent.len()
    );
}

/// Goal: megabytes pipelined on several connections come back whole, in order.
fn large_payloads_are_echoed(backend: Backend) {
    let mut io = io(backend, &small());
    let address = add_tcp(&mut io);
    let clients: Vec<_> = (0..3)
        .map(|_| {
            thread::spawn(move || {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                let (output, end) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
                pipeline(stream, output, move || {
                    end.shutdown(Shutdown::Write).unwrap();
                });
            })
        })
        .collect();
    echo_connections(&mut io, 3);
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(io.connections(), 0);
    assert_eq!(io.counters().connections_accepted, 3);
    assert_eq!(io.counters().stream_bytes_received, 24 * MIB as u64);
    assert_eq!(io.counters().stream_bytes_sent, 24 * MIB as u64);
}

/// Goal: the same over a Unix socket.
fn unix_connections_are_echoed(backend: Backend) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("echo.sock");
    let mut io = io(backend, &small());
    io.add_listener(bind_unix(&path, 16).unwrap()).unwrap();
    let client = thread::spawn(move || {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let (output, end) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
        pipeline(stream, output, move || {
            end.shutdown(Shutdown::Write).unwrap();
        });
    });
    echo_connections(&mut io, 1);
    client.join().unwrap();
    assert_eq!(io.counters().stream_bytes_sent, 8 * MIB as u64);
}

/// Connects and takes turns until the connection is accepted.
fn connected(io: &mut Io, address: SocketAddr) -> (TcpStream, ConnId) {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut accepted = None;
    turns_until(io, |_, event| {
        if let Event::Accepted { conn, peer, .. } = event {
            assert_eq!(peer, Peer::Tcp(stream.local_addr().unwrap()));
            accepted = Some(conn);
        }
        accepted.is_some()
    });
    (stream, accepted.unwrap())
}

/// Goal: a peer that has ended its side still gets the answer, then the end.
fn half_closed_connections_get_their_answer(backend: Backend) {
    let mut io = io(backend, &small());
    let address = add_tcp(&mut io);
    let (mut stream, conn) = connected(&mut io, address);
    stream.write_all(b"question").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut question = Vec::new();
    turns_until(&mut io, |io, event| match event {
        Event::Received { buffer, .. } => {
            question.extend_from_slice(io.bytes(buffer));
            false
        }
        Event::Ended { conn: ended } => ended == conn,
        _ => false,
    });
    assert_eq!(question, b"question");
    io.stream_buffer(conn).unwrap().extend_from_slice(b"answer");
    io.flush(conn);
    turns_until(&mut io, |_, event| matches!(event, Event::Drained { .. }));
    io.stream_buffer(conn).unwrap().extend_from_slice(b", bye");
    io.close(conn);
    turns_until(&mut io, |_, event| {
        matches!(event, Event::Closed { error: None, .. })
    });
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer, bye");
}

/// Goal: a reset closes the connection with its error, once, and touches nobody else.
fn reset_connections_are_closed_once(backend: Backend) {
    let mut io = io(backend, &small());
    let address = add_tcp(&mut io);
    let (mut other, survivor) = connected(&mut io, address);
    let (stream, conn) = connected(&mut io, address);
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
    let mut closed = Vec::new();
    turns_until(&mut io, |_, event| {
        if let Event::Closed { conn, error } = event {
            closed.push((conn, error.and_then(|error| error.raw_os_error())));
        }
        !closed.is_empty()
    });
    assert_eq!(closed, [(conn, Some(libc::ECONNRESET))]);
    other.write_all(b"still here").unwrap();
    turns_until(&mut io, |io, event| match event {
        Event::Received { conn, buffer } => {
            assert_eq!((conn, io.bytes(buffer)), (survivor, &b"still here"[..]));
            true
        }
        event => panic!("unexpected {event:?}"),
    });
    assert_eq!(io.connections(), 1);
}

/// Goal: `close` writes all that was appended, however slowly the peer reads, then ends.
fn close_writes_what_is_pending(backend: Backend) {
    let mut io = io(backend, &small());
    let address = add_tcp(&mut io);
    let (mut stream, conn) = connected(&mut io, address);
    let sent = pattern(16 * MIB, 4);
    io.stream_buffer(conn)
        .unwrap()
        .extend_from_slice(&sent[..MIB]);
    io.flush(conn);
    io.turn(Some(Duration::ZERO)).unwrap();
    io.stream_buffer(conn)
        .unwrap()
        .extend_from_slice(&sent[MIB..]);
    io.close(conn);
    assert!(
        io.stream_buffer(conn).is_none(),
        "nothing can be appended after close"
    );
    let reader = thread::spawn(move || {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    });
    turns_until(&mut io, |_, event| match event {
        Event::Closed { error, .. } => {
            assert!(error.is_none());
            true
        }
        _ => false,
    });
    assert!(reader.join().unwrap() == sent);
    assert_eq!(io.connections(), 0);
}

/// Goal: `abort` ends a connection whose peer does not read, with output under way.
fn abort_does_not_wait_for_the_peer(backend: Backend) {
    let mut io = io(backend, &small());
    let address = add_tcp(&mut io);
    let (stream, conn) = connected(&mut io, address);
    io.stream_buffer(conn).unwrap().resize(16 * MIB, 1);
    io.flush(conn);
    io.turn(Some(Duration::ZERO)).unwrap();
    assert!(io.pending_output(conn) > 0);
    io.abort(conn);
    turns_until(&mut io, |_, event| matches!(event, Event::Closed { .. }));
    assert_eq!(io.connections(), 0);
    drop(stream);
}

/// Goal: while reading is paused the peer's writes pile up in the sockets; resumed, all arrives.
fn paused_connections_are_not_read(backend: Backend) {
    let mut io = io(backend, &small());
    let address = add_tcp(&mut io);
    let (mut stream, conn) = connected(&mut io, address);
    io.pause_reading(conn);
    io.turn(Some(Duration::ZERO)).unwrap();
    while io.next_event().is_some() {}
    stream.set_nonblocking(true).unwrap();
    let chunk = pattern(MIB, 5);
    let mut written = 0;
    while let Ok(len) = stream.write(&chunk[written % MIB..]) {
        written += len;
    }
    for _ in 0..10 {
        io.turn(Some(Duration::ZERO)).unwrap();
        assert!(io.next_event().is_none(), "read while paused");
    }
    io.resume_reading(conn);
    let mut received = 0;
    turns_until(&mut io, |io, event| {
        let Event::Received { buffer, .. } = event else {
            return false;
        };
        let at = received % MIB;
        let bytes = io.bytes(buffer);
        assert!(
            bytes
                .iter()
                .zip(chunk[at..].iter().chain(&chunk))
                .all(|(got, sent)| got == sent)
        );
        received += bytes.len();
        received == written
    });
}

/// Goal: one connection too many is closed at once and counted; the others go on.
fn connections_beyond_the_limit_are_refused(backend: Backend) {
    let config = IoConfig {
        connections_max: 1,
        ..small()
    };
    let mut io = io(backend, &config);
    let address = add_tcp(&mut io);
    let (first, conn) = connected(&mut io, address);
    let mut second = TcpStream::connect(address).unwrap();
    second.set_read_timeout(Some(DEADLINE)).unwrap();
    let until = Instant::now() + DEADLINE;
    while io.counters().connections_refused == 0 {
        assert!(Instant::now() < until, "never refused");
        io.turn(Some(DEADLINE)).unwrap();
        assert!(io.next_event().is_none());
    }
    assert_eq!(second.read(&mut [0; 1]).unwrap_or(0), 0);
    drop(first);
    turns_until(&mut io, |io, event| match event {
        Event::Ended { conn: ended } => {
            assert_eq!(ended, conn);
            io.close(ended);
            false
        }
        Event::Closed { .. } => true,
        event => panic!("unexpected {event:?}"),
    });
    let (_third, third) = connected(&mut io, address);
    assert_ne!(third, conn);
}

/// Goal: an id that is dead does nothing, even when its place is in use again.
fn calls_on_a_closed_connection_do_nothing(backend: Backend) {
    let mut io = io(backend, &small());
    let address = add_tcp(&mut io);
    let (_old, dead) = connected(&mut io, address);
    io.close(dead);
    turns_until(&mut io, |_, event| matches!(event, Event::Closed { .. }));
    let (mut stream, live) = connected(&mut io, address);
    assert_ne!(dead, live);
    assert!(io.stream_buffer(dead).is_none());
    assert_eq!(io.pending_output(dead), 0);
    io.flush(dead);
    io.pause_reading(dead);
    io.resume_reading(dead);
    io.close(dead);
    io.abort(dead);
    stream.write_all(b"x").unwrap();
    turns_until(&mut io, |_, event| match event {
        Event::Received { conn, .. } => conn == live,
        event => panic!("unexpected {event:?}"),
    });
}
