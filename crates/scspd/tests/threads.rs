//! How datagrams find the threads of a hub, and how threads wait for them.

mod support;

use std::net::UdpSocket;
use std::time::Instant;

use redis::Commands;

use support::neighbour::Neighbour;
use support::records::wait_until_equal;
use support::{Backend, Hub, Net, Setup, eventually, on_both_backends, wait_for};

on_both_backends! {
    busy_hubs_serve_and_idle_ones_sleep,
    datagrams_come_to_the_thread_that_they_are_for,
    d_02_strangers_and_garbage_are_counted_on_the_control_thread,
}

/// Ticks of processor time in a second (`USER_HZ`).
const TICKS_PER_SEC: f64 = 100.0;

/// Goal: with `busy_poll`, hubs align, flood both ways and over idle times; and once nothing is
/// going on they take no processor time but for Hellos: a thread that went on looking would take
/// all it can get.
fn busy_hubs_serve_and_idle_ones_sleep(backend: Backend) {
    let net = Net::claim();
    let setup = |number, neighbour| {
        Setup::hub(&net, number, &[neighbour]).plus("\n[io]\nbusy_poll = \"2ms\"\n")
    };
    let [a, b] = Hub::start_all([&setup(1, 2), &setup(2, 1)], backend);
    for hub in [&a, &b] {
        hub.wait_until_aligned();
    }
    let (mut at_a, mut at_b) = (a.redis(), b.redis());
    for number in 0..200 {
        let () = at_a.set(format!("a:{number}"), number).unwrap();
        let () = at_b.set(format!("b:{number}"), number).unwrap();
    }
    wait_until_equal(&[&a, &b], "clients", true);
    let hellos = || a.count("scsp_packets_received_total", &[("type", "hello")]);
    let (first, began, ticks) = (hellos(), Instant::now(), a.cpu_ticks(None));
    eventually("some Hellos pass", || hellos() >= first + 3);
    let used = u32::try_from(a.cpu_ticks(None) - ticks).unwrap();
    let share = f64::from(used) / TICKS_PER_SEC / began.elapsed().as_secs_f64();
    assert!(share < 0.25, "{share} of a processor, idle");
    // It wakes from sleep all the same.
    let () = at_a.set("late", "1").unwrap();
    wait_for("the value crosses", || match at_b.get("late").unwrap() {
        Some(1) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// Goal: Hellos and CA messages come to the control thread, so that the workers of a hub without
/// clients and records have nothing to do; alignment and records work in either case.
fn datagrams_come_to_the_thread_that_they_are_for(backend: Backend) {
    const HELLOS: u64 = 3;
    let net = Net::claim();
    let [a, b] = [(1, 2), (2, 1)].map(|(own, other)| Setup::hub(&net, own, &[other]));
    let [a, b] = Hub::start_all([&a, &b], backend);
    for hub in [&a, &b] {
        hub.wait_until_aligned();
    }
    let received = |kind| a.count("scsp_packets_received_total", &[("type", kind)]);
    assert!(received("ca") >= 2);
    let by_workers = || -> u64 {
        let of = |worker| a.count("scsp_ring_completions_total", &[("worker", worker)]);
        of("0") + of("1")
    };
    let (hellos, before) = (received("hello"), by_workers());
    eventually("some Hellos pass", || received("hello") >= hellos + HELLOS);
    let completions = by_workers() - before;
    assert!(
        completions < HELLOS,
        "{completions} completions of the workers"
    );
    let mut client = a.redis();
    for number in 0..100 {
        let () = client.set(format!("key:{number}"), number).unwrap();
    }
    wait_until_equal(&[&a, &b], "clients", true);
}

/// Goal: D-02: what comes to the control thread and is of nobody, or nothing, is counted like what
/// comes to a worker, and the neighbour stays aligned.
fn d_02_strangers_and_garbage_are_counted_on_the_control_thread(backend: Backend) {
    const EACH: u64 = 20;
    let net = Net::claim();
    let hub = Hub::start(&Setup::hub(&net, 5, &[9]), backend);
    let neighbour = Neighbour::new(&net, 9, 5);
    neighbour.join(&hub);
    let dropped = |reason| hub.count("scsp_packets_dropped_total", &[("reason", reason)]);
    let (strangers, broken) = (dropped("unknown_peer"), dropped("truncated"));
    let stranger = UdpSocket::bind(net.address(77, 2334)).unwrap();
    let mut hello = neighbour.hello_packet(true);
    for kind in [1, 5] {
        for _ in 0..EACH / 2 {
            stranger
                .send_to(&[1, kind, 0, 4], net.address(5, 2334))
                .unwrap();
        }
    }
    for _ in 0..EACH {
        stranger.send_to(&hello, net.address(5, 2334)).unwrap();
    }
    eventually("all are counted", || {
        dropped("unknown_peer") == strangers + EACH && dropped("truncated") == broken + EACH
    });
    // One octet of a neighbour's own Hello was damaged on the way.
    let checksums = dropped("checksum");
    *hello.last_mut().unwrap() ^= 1;
    neighbour.send(&hello);
    eventually("it is counted", || dropped("checksum") == checksums + 1);
    assert_eq!(hub.alignments(), ["aligned"]);
}
