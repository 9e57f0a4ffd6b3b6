//! Both backends through the same tests: `uring::name` and `poll::name`.
//!
//! Nothing sleeps: everything waits by turns, until what is expected has come or a generous
//! deadline has passed.

mod datagrams;
mod lab;
mod lifecycle;
mod links;
mod streams;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::{
    Backend, BackendChoice, Endpoint, Event, Io, IoConfig, LinkId, UdpOptions, bind_tcp, bind_udp,
    select,
};

const DEADLINE: Duration = Duration::from_secs(20);

/// Whether the `io_uring` tests can run; a machine without it must say so on purpose.
fn has_uring() -> bool {
    let Err(error) = select(BackendChoice::IoUring) else {
        return true;
    };
    let allowed = std::env::var("SCSP_ALLOW_NO_URING").is_ok_and(|value| value == "1");
    assert!(
        allowed,
        "{error}; set SCSP_ALLOW_NO_URING=1 to skip the io_uring tests"
    );
    eprintln!("skipped, SCSP_ALLOW_NO_URING=1: {error}");
    false
}

/// Declares one test per backend for each function of `$suite`.
macro_rules! on_both_backends {
    ($suite:ident: $($name:ident),* $(,)?) => {
        on_both_backends!(#[cfg(true)] $suite: $($name),*);
    };
    (#[$attribute:meta] $suite:ident: $($name:ident),* $(,)?) => {
        mod uring {
            $(#[test]
            #[$attribute]
            fn $name() {
                if super::super::has_uring() {
                    super::$name(crate::Backend::IoUring);
                }
            })*
        }
        mod poll {
            $(#[test]
            #[$attribute]
            fn $name() {
                super::$name(crate::Backend::Poll);
            })*
        }
    };
}
use on_both_backends;

fn small() -> IoConfig {
    IoConfig {
        receive_buffers: 16,
        send_slots: 16,
        stream_buffers: 8,
        connections_max: 16,
        links_max: 4,
        listeners_max: 4,
        ..IoConfig::default()
    }
}

fn io(backend: Backend, config: &IoConfig) -> Io {
    Io::new(backend, config).unwrap()
}

fn add_link(io: &mut Io) -> (LinkId, SocketAddr) {
    let socket = bind_udp("127.0.0.1:0".parse().unwrap(), &UdpOptions::default()).unwrap();
    let address = socket.local_addr().unwrap();
    (io.add_link(socket, true).unwrap(), address)
}

fn add_tcp(io: &mut Io) -> SocketAddr {
    let listener = bind_tcp("127.0.0.1:0".parse().unwrap(), 16, false).unwrap();
    let address = listener.local_addr().unwrap();
    io.add_listener(listener).unwrap();
    address
}

/// A peer that blocks, but not for ever.
fn client(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Takes turns until `done` says so; panics at the deadline.
fn turns_until(io: &mut Io, mut done: impl FnMut(&mut Io, Event) -> bool) {
    let until = Instant::now() + DEADLINE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        assert!(
            !left.is_zero(),
            "nothing more happened; counted {:?}",
            io.counters()
        );
        io.turn(Some(left)).unwrap();
        let mut finished = false;
        while let Some(event) = io.next_event() {
            finished |= done(io, event);
        }
        if finished {
            return;
        }
    }
}

/// Octets that tell their position.
fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at * 31 + at / 251 + seed * 7).to_le_bytes()[0])
        .collect()
}

/// Queues a packet and hands it to the kernel.
fn send(io: &mut Io, link: LinkId, to: impl Into<Endpoint>, packet: &[u8]) {
    let slot = io.send_slot().unwrap();
    io.slot_mut(&slot)[..packet.len()].copy_from_slice(packet);
    io.send(slot, link, to, packet.len(), None);
    io.turn(Some(Duration::ZERO)).unwrap();
}

/// The next `count` packets, with link and sender.
fn receive(io: &mut Io, count: usize) -> Vec<(LinkId, Endpoint, Vec<u8>)> {
    let mut packets = Vec::new();
    while packets.len() < count {
        turns_until(io, |io, event| {
            let Event::Datagram {
                link, from, buffer, ..
            } = event
            else {
                panic!("{event:?}");
            };
            packets.push((link, from, io.bytes(buffer).to_vec()));
            true
        });
    }
    packets
}

/// Whatever has come by now.
fn expect_nothing(io: &mut Io) {
    io.turn(Some(Duration::ZERO)).unwrap();
    if let Some(event) = io.next_event() {
        panic!("{event:?}");
    }
}

/// Takes turns for a while and sees that it slept nearly all the time.
fn expect_rest(io: &mut Io) {
    let before = io.counters().completions;
    let until = Instant::now() + Duration::from_millis(50);
    while Instant::now() < until {
        io.turn(Some(Duration::from_millis(10))).unwrap();
        if let Some(event) = io.next_event() {
            panic!("{event:?}");
        }
    }
    let more = io.counters().completions - before;
    assert!(
        more < 10,
        "{more} completions of nothing: {:?}",
        io.counters()
    );
}
