//! Groups of real hubs that keep one cache.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use redis::{Commands, Connection};
use rustix::process::Signal;

use support::records::{Instance, instances, records, wait_until_equal};
use support::{Backend, Hub, Net, Setup, eventually, on_both_backends, wait_for};

on_both_backends! {
    values_and_deletes_cross_the_line,
    k_03_life_shrinks_on_the_way_and_ends_everywhere,
    thousands_of_pipelined_values_arrive_byte_for_byte,
    flooded_packets_share_sends,
    k_01_concurrent_writers_converge,
    a_killed_hub_catches_up_deletes_included,
    records_of_a_lost_hub_live_on_until_they_expire,
    csu_20_a_restarted_hub_takes_its_records_back,
    d_09_a_hub_without_neighbours_is_released,
    d_14_the_largest_value_crosses_and_a_larger_one_is_refused,
    groups_are_independent_and_opaque_ones_carry_any_body,
}

/// The line A - B - C of `deploy/examples`, aligned.
struct Line {
    _net: Net,
    a: Hub,
    b: Hub,
    c: Hub,
}

impl Line {
    fn start(backend: Backend) -> Self {
        let net = Net::claim();
        let setups = ['a', 'b', 'c'].map(|letter| Setup::sample(&net, letter));
        let [a, b, c] = Hub::start_all(setups.each_ref(), backend);
        let line = Self { _net: net, a, b, c };
        line.wait_until_aligned();
        line
    }

    fn hubs(&self) -> [&Hub; 3] {
        [&self.a, &self.b, &self.c]
    }

    fn wait_until_aligned(&self) {
        for hub in self.hubs() {
            hub.wait_until_aligned();
        }
    }
}

fn wait_for_value(connection: &mut Connection, key: &str, value: Option<&str>) {
    wait_for(&format!("{key} becomes {value:?}"), || {
        let got: Option<String> = connection.get(key).expect("a reply");
        if got.as_deref() == value {
            Ok(())
        } else {
            Err(format!("it is {got:?}"))
        }
    });
}

/// Goal: what is written or deleted at one end of the line is so at the other end, and in between.
fn values_and_deletes_cross_the_line(backend: Backend) {
    let line = Line::start(backend);
    let [mut a, mut b, mut c] = line.hubs().map(Hub::redis);
    let () = a.set("from-a", "1").unwrap();
    let () = c.set("from-c", "2").unwrap();
    wait_for_value(&mut c, "from-a", Some("1"));
    wait_for_value(&mut a, "from-c", Some("2"));
    wait_for_value(&mut b, "from-a", Some("1"));
    wait_for_value(&mut b, "from-c", Some("2"));

    let held = wait_until_equal(&line.hubs(), "clients", true);
    let originators: Vec<&str> = held
        .keys()
        .map(|(_, originator)| originator.as_str())
        .collect();
    assert_eq!(originators, ["10.0.0.1", "10.0.0.3"]);

    // Deletes by the originator and by the other end.
    let deleted: u32 = a.del("from-c").unwrap();
    assert_eq!(deleted, 1);
    let deleted: u32 = c.del("from-a").unwrap();
    assert_eq!(deleted, 1);
    for one in [&mut a, &mut b, &mut c] {
        wait_for_value(one, "from-a", None);
        wait_for_value(one, "from-c", None);
    }
    wait_until_equal(&line.hubs(), "clients", true);
    for one in [&mut a, &mut b, &mut c] {
        let exists: u32 = redis::cmd("DBSIZE").query(one).unwrap();
        assert_eq!(exists, 0);
    }

    // A key that was deleted can come back, from the other end.
    let () = c.set("from-a", "again").unwrap();
    wait_for_value(&mut a, "from-a", Some("again"));
}

/// Goal: a life set at A arrives at C, goes down, and ends on every hub; other keys stay.
fn k_03_life_shrinks_on_the_way_and_ends_everywhere(backend: Backend) {
    const LIFE_MS: i64 = 1500;
    let line = Line::start(backend);
    let [mut a, mut b, mut c] = line.hubs().map(Hub::redis);
    let () = a.set("stays", "v").unwrap();
    let () = redis::cmd("SET")
        .arg("goes")
        .arg("v")
        .arg("PX")
        .arg(LIFE_MS)
        .query(&mut a)
        .unwrap();
    let arrived = wait_for("the life arrives", || {
        let left: i64 = c.pttl("goes").unwrap();
        if left > 0 {
            Ok(left)
        } else {
            Err(format!("PTTL is {left}"))
        }
    });
    assert!(arrived <= LIFE_MS, "{arrived} ms left of {LIFE_MS}");
    eventually("the life shrinks", || {
        c.pttl::<_, i64>("goes").unwrap() < arrived
    });
    for one in [&mut a, &mut b, &mut c] {
        wait_for_value(one, "goes", None);
        let left: i64 = one.pttl("goes").unwrap();
        assert_eq!(left, -2);
        let left: i64 = one.pttl("stays").unwrap();
        assert_eq!(left, -1);
    }
}

/// Goal: 5,000 values of 1 KiB, written in one pipeline, come out at the other end as they went in.
fn thousands_of_pipelined_values_arrive_byte_for_byte(backend: Backend) {
    const COUNT: usize = 5000;
    let line = Line::start(backend);
    let value = |number: usize| -> Vec<u8> {
        (0..1024usize)
            .map(|at| (number.wrapping_mul(31) ^ at.wrapping_mul(7)).to_le_bytes()[0])
            .collect()
    };
    let mut pipe = redis::pipe();
    for number in 0..COUNT {
        pipe.set(format!("key:{number}"), value(number)).ignore();
    }
    let mut a = line.a.redis();
    let () = pipe.query(&mut a).unwrap();
    let held = wait_until_equal(&line.hubs(), "clients", true);
    assert_eq!(held.len(), COUNT);
    let mut c = line.c.redis();
    for first in (0..COUNT).step_by(500) {
        let numbers = first..first + 500;
        let keys: Vec<String> = numbers
            .clone()
            .map(|number| format!("key:{number}"))
            .collect();
        let values: Vec<Vec<u8>> = c.mget(&keys).unwrap();
        for (number, got) in numbers.zip(values) {
            assert!(got == value(number), "key:{number} differs");
        }
    }
}

/// Goal: what is written in bursts crosses the line in packets that the kernel cuts from one send
/// and hands over together, requests and replies alike; nothing is lost on the way.
fn flooded_packets_share_sends(backend: Backend) {
    const COUNT: usize = 20_000;
    let line = Line::start(backend);
    let mut pipe = redis::pipe();
    for number in 0..COUNT {
        pipe.set(format!("key:{number:08}"), number).ignore();
    }
    let () = pipe.query(&mut line.a.redis()).unwrap();
    let held = wait_until_equal(&line.hubs(), "clients", true);
    assert_eq!(held.len(), COUNT);
    for hub in line.hubs() {
        let of_workers = |name| -> u64 {
            let workers = (0..).map(|worker: u32| worker.to_string());
            let counts = workers.map_while(|worker| hub.metric(name, &[("worker", &worker)]));
            counts.map(|count| u64::from(count > 0.0)).sum()
        };
        assert!(
            of_workers("scsp_segmented_sends_total") > 0,
            "{}",
            hub.log()
        );
        assert!(of_workers("scsp_coalesced_receives_total") > 0);
        assert_eq!(of_workers("scsp_segments_refused_total"), 0);
        let group = &[("group", "clients")];
        assert_eq!(hub.count("scsp_records_retransmitted_total", group), 0);
    }
}

/// Goal: whoever wrote last by the hybrid clock wins everywhere, however the writes interleave.
fn k_01_concurrent_writers_converge(backend: Backend) {
    const KEYS: usize = 100;
    const ROUNDS: usize = 20;
    let line = Line::start(backend);
    thread::scope(|scope| {
        for (name, hub) in [("a", &line.a), ("c", &line.c)] {
            scope.spawn(move || {
                let mut connection = hub.redis();
                for round in 0..ROUNDS {
                    let mut pipe = redis::pipe();
                    for key in 0..KEYS {
                        pipe.set(format!("key:{key}"), format!("{name}{round}"))
                            .ignore();
                    }
                    let () = pipe.query(&mut connection).unwrap();
                }
            });
        }
    });
    let held = wait_until_equal(&line.hubs(), "clients", true);
    assert_eq!(held.len(), 2 * KEYS, "an instance of each originator");
    let keys: Vec<String> = (0..KEYS).map(|key| format!("key:{key}")).collect();
    let [a, b, c] = line
        .hubs()
        .map(|hub| hub.redis().mget::<_, Vec<String>>(&keys).unwrap());
    assert_eq!(a, b);
    assert_eq!(a, c);
    let last = ["a", "c"].map(|name| format!("{name}{}", ROUNDS - 1));
    assert!(
        a.iter().all(|value| last.contains(value)),
        "an earlier write won: {a:?}"
    );
}

/// What a writer of [`write_until`] left.
type Written = BTreeMap<String, Option<String>>;

/// Sets and deletes its own keys, a pipeline a round, until told to stop.
fn write_until(hub: &Hub, name: &str, rounds: &AtomicUsize, stop: &AtomicBool) -> Written {
    const KEYS: usize = 300;
    let mut connection = hub.redis();
    let mut written = Written::new();
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut pipe = redis::pipe();
        for step in 0..40 {
            let number = round * 40 + step;
            let key = format!("{name}:{}", number * 7 % KEYS);
            if number % 3 == 0 {
                pipe.del(&key).ignore();
                written.insert(key, None);
            } else {
                let value = format!("{name}{number}");
                pipe.set(&key, &value).ignore();
                written.insert(key, Some(value));
            }
        }
        let () = pipe.query(&mut connection).unwrap();
        round += 1;
        rounds.store(round, Ordering::Relaxed);
    }
    written
}

/// Sets a flag when it goes, on a panic too.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Goal: B is killed and started while A and C take writes and deletes; then all three hold what
/// was written last, and nothing that was deleted.
fn a_killed_hub_catches_up_deletes_included(backend: Backend) {
    let mut line = Line::start(backend);
    let stop = AtomicBool::new(false);
    let rounds = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let progress = |by: usize| {
        let past = rounds
            .each_ref()
            .map(|rounds| rounds.load(Ordering::Relaxed));
        eventually("both writers go on", || {
            let now = rounds
                .each_ref()
                .map(|rounds| rounds.load(Ordering::Relaxed));
            now[0] >= past[0] + by && now[1] >= past[1] + by
        });
    };
    let (a, b, c) = (&line.a, &mut line.b, &line.c);
    let written = thread::scope(|scope| {
        // A failure below must not leave the writers writing for ever.
        let _stop = SetOnDrop(&stop);
        let at_a = scope.spawn(|| write_until(a, "a", &rounds[0], &stop));
        let at_c = scope.spawn(|| write_until(c, "c", &rounds[1], &stop));
        progress(5);
        b.kill();
        progress(20);
        b.restart();
        progress(20);
        stop.store(true, Ordering::Relaxed);
        let mut written = at_a.join().unwrap();
        written.extend(at_c.join().unwrap());
        written
    });
    line.wait_until_aligned();
    wait_until_equal(&line.hubs(), "clients", true);
    let keys: Vec<&String> = written.keys().collect();
    let expected: Vec<Option<String>> = written.values().cloned().collect();
    assert!(expected.iter().any(Option::is_none) && expected.iter().any(Option::is_some));
    for hub in line.hubs() {
        let values: Vec<Option<String>> = hub.redis().mget(&keys).unwrap();
        assert!(
            values == expected,
            "a hub holds other values than were written"
        );
    }
}

/// Goal: A is gone for good; its records stay readable at B and C, until those that expire do, and
/// B and C go on without it.
fn records_of_a_lost_hub_live_on_until_they_expire(backend: Backend) {
    let mut line = Line::start(backend);
    let mut a = line.a.redis();
    let mut pipe = redis::pipe();
    for number in 0..100 {
        pipe.set(format!("stays:{number}"), number).ignore();
        pipe.cmd("SET")
            .arg(format!("goes:{number}"))
            .arg(number)
            .arg("PX")
            .arg(5000)
            .ignore();
    }
    let () = pipe.query(&mut a).unwrap();
    assert_eq!(wait_until_equal(&line.hubs(), "clients", true).len(), 200);
    line.a.kill();
    let (mut b, mut c) = (line.b.redis(), line.c.redis());
    let () = c.set("later", "v").unwrap();
    wait_for_value(&mut b, "later", Some("v"));

    // Dead for B after HelloInterval x DeadFactor (H-07); the records do not go with the neighbour.
    eventually("B notices", || line.b.alignments()[0] == "down");
    for one in [&mut b, &mut c] {
        let kept: Vec<u32> = one
            .mget((0..100).map(|n| format!("stays:{n}")).collect::<Vec<_>>())
            .unwrap();
        assert_eq!(kept, (0..100).collect::<Vec<u32>>());
        eventually("what expires is gone", || {
            let size: u32 = redis::cmd("DBSIZE").query(one).unwrap();
            size == 101
        });
        wait_for_value(one, "goes:7", None);
        wait_for_value(one, "stays:7", Some("7"));
    }
    wait_until_equal(&[&line.b, &line.c], "clients", true);
}

fn only(found: &[Instance]) -> Instance {
    let [one] = found else {
        panic!("expected one instance, got {found:?}")
    };
    one.clone()
}

/// Goal: A, killed and started, serves nothing until its neighbour has told it what it had; then it
/// holds its records as its own (D-12), and its next change skips the restart increment.
fn csu_20_a_restarted_hub_takes_its_records_back(backend: Backend) {
    let mut line = Line::start(backend);
    let mut a = line.a.redis();
    let mut pipe = redis::pipe();
    for number in 0..50 {
        pipe.set(format!("key:{number}"), number).ignore();
    }
    let () = pipe.query(&mut a).unwrap();
    wait_until_equal(&line.hubs(), "clients", true);

    // While B does not run, A cannot know what it had.
    line.b.signal(Signal::STOP);
    line.a.kill();
    line.a.restart();
    let mut a = line.a.redis();
    let refused = a.get::<_, String>("key:1").unwrap_err();
    assert_eq!(refused.code(), Some("LOADING"), "{refused}");
    let refused = a.set::<_, _, ()>("key:1", "x").unwrap_err();
    assert_eq!(refused.code(), Some("LOADING"), "{refused}");
    let pong: String = redis::cmd("PING").query(&mut a).unwrap();
    assert_eq!(pong, "PONG");
    let info: String = redis::cmd("INFO").query(&mut a).unwrap();
    assert!(info.contains("loading:1"), "{info}");
    assert_eq!(line.a.http("/readyz").0, 503);
    assert_eq!(line.a.http("/healthz").0, 200);
    assert_eq!(line.a.metric("scsp_ready", &[]), Some(0.0));

    line.b.signal(Signal::CONT);
    line.wait_until_aligned();
    eventually("A is ready", || line.a.http("/readyz").0 == 200);
    let held = wait_until_equal(&line.hubs(), "clients", true);
    assert_eq!(held.len(), 50);
    assert!(held.keys().all(|(_, originator)| originator == "10.0.0.1"));
    let value: u32 = a.get("key:1").unwrap();
    assert_eq!(value, 1);
    let info: String = redis::cmd("INFO").query(&mut a).unwrap();
    assert!(info.contains("loading:0"), "{info}");

    let mut c = line.c.redis();
    let before = only(&instances(&mut c, "clients", b"key:1", &[]));
    for (value, step) in [("new", 1000), ("newer", 1001)] {
        let () = a.set("key:1", value).unwrap();
        wait_for_value(&mut c, "key:1", Some(value));
        let after = only(&instances(&mut c, "clients", b"key:1", &[]));
        assert_eq!(after.seq, before.seq + step, "sequence of {value}");
        assert_eq!(after.originator, "10.0.0.1");
    }
}

/// Goal: a hub whose neighbour never shows up serves after the boot hold.
fn d_09_a_hub_without_neighbours_is_released(backend: Backend) {
    let net = Net::claim();
    let setup = Setup::hub(&net, 1, &[2]);
    let hub = Hub::start(&setup, backend);
    let mut connection = hub.redis();
    wait_for("the hub serves", || {
        connection
            .set::<_, _, ()>("k", "v")
            .map_err(|e| e.to_string())
    });
    let value: String = connection.get("k").unwrap();
    assert_eq!(value, "v");
    eventually("the hub is ready", || hub.http("/readyz").0 == 200);
}

/// Goal: a value of the largest size crosses a line of small packets, the next larger one is
/// refused with the limit in the error, and so is a key that is too long.
fn d_14_the_largest_value_crosses_and_a_larger_one_is_refused(backend: Backend) {
    let line = Line::start(backend);
    let (mut a, mut c) = (line.a.redis(), line.c.redis());
    let octets =
        |len: usize| -> Vec<u8> { (0..len).map(|at| at.to_le_bytes()[0] ^ 0x55).collect() };
    let () = a.set("big", octets(60_000)).unwrap();
    let refusal = a
        .set::<_, _, ()>("big", octets(70_000))
        .unwrap_err()
        .to_string();
    let numbers = refusal.split(|letter: char| !letter.is_ascii_digit());
    let mut numbers = numbers.filter_map(|text| text.parse::<usize>().ok());
    let limit = numbers.find(|number| (60_000..65_507).contains(number));
    let limit = limit.unwrap_or_else(|| panic!("no limit in {refusal:?}"));
    let refusal = a
        .set::<_, _, ()>("big", octets(limit + 1))
        .unwrap_err()
        .to_string();
    assert!(refusal.contains(&limit.to_string()), "{refusal}");
    // Keys of one length have one limit.
    let () = a.set("max", octets(limit)).unwrap();
    eventually("the largest value arrives", || {
        c.get::<_, Option<Vec<u8>>>("max").unwrap().as_deref() == Some(&octets(limit)[..])
    });
    assert!(c.get::<_, Vec<u8>>("big").unwrap() == octets(60_000));

    let refusal = a
        .set::<_, _, ()>("k".repeat(256), "v")
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("255"), "{refusal}");
    let () = a.set("k".repeat(255), "v").unwrap();
    wait_for_value(&mut c, &"k".repeat(255), Some("v"));
}

/// Goal: two kv groups, chosen by SELECT, and an opaque one live side by side on two hubs.
fn groups_are_independent_and_opaque_ones_carry_any_body(backend: Backend) {
    let net = Net::claim();
    let setup = |hub, neighbour| {
        Setup::hub(&net, hub, &[neighbour])
            .with_group(&net, "things", "0x1234", 7, &[neighbour])
            .with_group(&net, "others", "kv", 2, &[neighbour])
    };
    let [a, b] = Hub::start_all([&setup(1, 2), &setup(2, 1)], backend);
    a.wait_until_aligned();
    b.wait_until_aligned();
    let (mut at_a, mut at_b) = (a.redis(), b.redis());

    let select = |connection: &mut Connection, database: u32| -> Result<(), redis::RedisError> {
        redis::cmd("SELECT").arg(database).query(connection)
    };
    let () = at_a.set("k", "first").unwrap();
    select(&mut at_a, 2).unwrap();
    let missing: Option<String> = at_a.get("k").unwrap();
    assert_eq!(missing, None);
    let () = at_a.set("k", "second").unwrap();
    wait_for_value(&mut at_b, "k", Some("first"));
    select(&mut at_b, 2).unwrap();
    wait_for_value(&mut at_b, "k", Some("second"));
    let refusal = select(&mut at_a, 3).unwrap_err().to_string();
    assert!(refusal.contains("out of range"), "{refusal}");
    // The database of an opaque group takes no values.
    if select(&mut at_a, 1).is_ok() {
        assert!(at_a.set::<_, _, ()>("k", "v").is_err());
    }

    let body: Vec<u8> = (0..=255).collect();
    let key = [0u8, 1, 0xFF, b'\r', b'\n'];
    let publish = |connection: &mut Connection, body: &[u8], more: &[&str]| {
        let mut command = redis::cmd("SCSP.PUBLISH");
        command
            .arg("things")
            .arg(&key[..])
            .arg(body)
            .arg(more)
            .query::<redis::Value>(connection)
    };
    publish(&mut at_a, &body, &[]).unwrap();
    publish(&mut at_b, b"from b", &["SEQ", "5"]).unwrap();
    let held = wait_until_equal(&[&a, &b], "things", false);
    assert_eq!(held.len(), 2);
    let found = instances(&mut at_b, "things", &key, &[]);
    assert_eq!(found[0].body, body);
    assert_eq!(found[1].body, b"from b");
    assert_eq!(found[1].seq, 5);
    let one = only(&instances(
        &mut at_b,
        "things",
        &key,
        &["ORIGINATOR", "10.0.0.1"],
    ));
    assert_eq!(one, found[0]);
    assert!(
        publish(&mut at_b, b"older", &["SEQ", "5"]).is_err(),
        "a sequence that is not above"
    );

    let purge = redis::cmd("SCSP.PURGE")
        .arg("things")
        .arg(&key[..])
        .query::<redis::Value>(&mut at_a);
    purge.unwrap();
    eventually("the withdrawal arrives", || {
        instances(&mut at_b, "things", &key, &[]).len() == 1
    });
    let all = instances(&mut at_b, "things", &key, &["ALL"]);
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].body, b"", "a withdrawal has an empty body");
    assert_eq!(records(&mut at_b, "things", false, false).len(), 1);
    assert_eq!(wait_until_equal(&[&a, &b], "things", false).len(), 2);
    wait_until_equal(&[&a, &b], "clients", true);
    wait_until_equal(&[&a, &b], "others", true);
}
