//! A hub against a scripted neighbour: every message on real sockets, octet by octet.

mod support;

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use redis::Commands;
use scsp_wire::{ServerGroupId, checksum};

use support::neighbour::{HOP_COUNT, Neighbour, Packet, Record, Summary, id_of, kv_value};
use support::{Backend, Hub, Net, Setup, eventually, on_both_backends, wait_for};

on_both_backends! {
    ca_11_alignment_with_the_hub_as_master,
    ca_13_alignment_with_the_hub_as_slave,
    ca_22_a_restarted_neighbour_is_negotiated_with_anew,
    csu_06_only_the_unacknowledged_is_sent_again,
    csu_06_a_neighbour_that_never_acknowledges_is_reset,
    csu_10_solicitations_are_answered,
    csu_13_receivers_and_csu_09_old_records,
    csu_16_records_travel_from_neighbour_to_neighbour,
    d_02_garbage_is_counted_and_breaks_nothing,
    d_02_a_malformed_packet_of_a_neighbour_resets_it,
    d_02_or_is_only_counted_when_told_so,
    d_10_the_own_id_and_d_11_other_ids_are_refused,
    d_14_packets_keep_to_the_limit,
    h_03_hellos_keep_their_interval,
    h_07_a_silent_neighbour_is_stalled,
}

/// The hub of these tests.
const HUB: u8 = 5;
/// A neighbour with a smaller and one with a larger id.
const SMALL: u8 = 2;
const LARGE: u8 = 9;

fn peer_label(net: &Net, neighbour: u8) -> String {
    net.address(neighbour, 2334).to_string()
}

/// A hub with one scripted neighbour, aligned.
fn joined(
    backend: Backend,
    neighbour: u8,
    setup: impl FnOnce(Setup) -> Setup,
) -> (Net, Hub, Neighbour) {
    let net = Net::claim();
    let hub = Hub::start(&setup(Setup::hub(&net, HUB, &[neighbour])), backend);
    let neighbour = Neighbour::new(&net, neighbour, HUB);
    neighbour.join(&hub);
    (net, hub, neighbour)
}

/// A value that the neighbour originates.
fn record(neighbour: &Neighbour, key: &str, seq: i32, value: &[u8]) -> Record {
    Record {
        summary: Summary::new(key, &neighbour.id, seq),
        body: kv_value(value),
    }
}

/// Both sides have records; the exchange takes several messages each way.
fn align_with_records(backend: Backend, neighbour: u8) {
    const THEIRS: usize = 60;
    let net = Net::claim();
    let hub = Hub::start(&Setup::hub(&net, HUB, &[neighbour]), backend);
    let mut client = hub.redis();
    // Long keys: some six summaries fill a packet.
    let key = |number: usize| format!("{number:0200}");
    wait_for("the hub takes writes", || {
        client
            .set::<_, _, ()>(key(0), "v0")
            .map_err(|error| error.to_string())
    });
    for number in 1..THEIRS {
        let () = client.set(key(number), format!("v{number}")).unwrap();
    }

    let neighbour = Neighbour::new(&net, neighbour, HUB);
    let ours: Vec<Record> = (0..30)
        .map(|number| {
            record(
                &neighbour,
                &format!("ours:{number}"),
                number,
                b"from the neighbour",
            )
        })
        .collect();
    let summaries: Vec<Summary> = ours.iter().map(|record| record.summary.clone()).collect();
    let pages: Vec<Vec<Summary>> = summaries.chunks(10).map(<[_]>::to_vec).collect();
    neighbour.greet();
    let theirs = if neighbour.id > neighbour.hub_id {
        neighbour.align_as_master(&pages)
    } else {
        neighbour.align_as_slave(&pages)
    };
    assert!(
        theirs.len() > 4,
        "summaries came in {} messages",
        theirs.len()
    );
    let theirs = theirs.concat();
    assert_eq!(theirs.len(), THEIRS, "CA-17: each entry once");
    let keys: BTreeSet<&[u8]> = theirs
        .iter()
        .map(|summary| summary.key.as_slice())
        .collect();
    assert_eq!(keys.len(), THEIRS);
    for summary in &theirs {
        assert_eq!((summary.hop_count, summary.null), (1, false), "CSU-17");
        assert_eq!(summary.originator, neighbour.hub_id);
    }

    // CA-16, CA-19: the hub asks for what it has not, until it has it all.
    let mut wanted: Vec<Summary> = summaries;
    let mut acknowledged = Vec::new();
    while !wanted.is_empty() {
        let asked = neighbour.wait_for_csus();
        let (asked, left) = wanted
            .into_iter()
            .partition(|one| asked.iter().any(|it| it.matches(one)));
        let asked: Vec<Summary> = asked;
        assert!(!asked.is_empty(), "a CSUS for nothing that is missing");
        wanted = left;
        let records = ours
            .iter()
            .filter(|record| asked.iter().any(|it| it.matches(&record.summary)));
        neighbour.request(&records.cloned().collect::<Vec<_>>());
        acknowledged.extend(neighbour.wait_for_reply());
    }
    while acknowledged.len() < ours.len() {
        acknowledged.extend(neighbour.wait_for_reply());
    }
    hub.wait_until_aligned();
    let value: String = client.get("ours:29").unwrap();
    assert_eq!(value, "from the neighbour");

    // CSU-10 for one of theirs.
    neighbour.csus(&neighbour.hub_id, &theirs[7..8]);
    let records = neighbour.wait_for_request();
    assert_eq!(records.len(), 1);
    assert!(records[0].summary.matches(&theirs[7]));
    assert_eq!(records[0].summary.hop_count, 1, "CSU-10, D-06");
    assert_eq!(hub.status()["groups"][0]["entries"], 90);
}

/// Goal: the whole exchange with a neighbour of a smaller id, which answers only repetitions.
fn ca_11_alignment_with_the_hub_as_master(backend: Backend) {
    align_with_records(backend, SMALL);
}

/// Goal: the whole exchange with a neighbour of a larger id, which says everything twice.
fn ca_13_alignment_with_the_hub_as_slave(backend: Backend) {
    align_with_records(backend, LARGE);
}

/// Goal: an opening CA in Aligned starts a new negotiation, which succeeds.
fn ca_22_a_restarted_neighbour_is_negotiated_with_anew(backend: Backend) {
    let (net, hub, neighbour) = joined(backend, LARGE, |setup| setup);
    let mut client = hub.redis();
    let () = client.set("k", "v").unwrap();
    let records = neighbour.wait_for_request();
    let old = neighbour.packet(|octets, header| {
        let flags = support::neighbour::OPENING;
        let seq = scsp_wire::CaSeq(9_000_000);
        scsp_wire::Builder::ca(octets, 1472, header, seq, flags)
            .unwrap()
            .finish()
    });
    neighbour.send(&old);
    // The same message makes the hub the slave: its answer carries the sequence (CA-22, CA-04).
    let summaries = neighbour.wait_for("the slave's first CA", |packet| match packet {
        Packet::Ca {
            seq,
            flags,
            summaries,
            ..
        } if seq.0 == 9_000_000 => {
            assert!(!flags.master && !flags.initialize && !flags.more);
            Some(summaries)
        }
        _ => None,
    });
    assert!(summaries.len() == 1 && summaries[0].matches(&records[0].summary));
    let flags = scsp_wire::CaFlags {
        master: true,
        initialize: false,
        more: false,
    };
    neighbour.ca(scsp_wire::CaSeq(9_000_001), flags, &[]);
    hub.wait_until_aligned();
    let peer = peer_label(&net, LARGE);
    let transitions = [
        ("group", "clients"),
        ("peer", &peer),
        ("machine", "alignment"),
    ];
    assert!(hub.count("scsp_peer_transitions_total", &transitions) >= 8);
    let hello = [
        ("group", "clients"),
        ("peer", peer.as_str()),
        ("machine", "hello"),
    ];
    let hellos = hub.count("scsp_peer_transitions_total", &hello);
    assert!(hellos <= 3, "the hello machine did not move: {hellos}");
}

/// Goal: what is not acknowledged is sent again, and only that.
fn csu_06_only_the_unacknowledged_is_sent_again(backend: Backend) {
    let (net, hub, neighbour) = joined(backend, LARGE, |setup| {
        setup.replace(
            "csu_retransmit = \"200ms\"",
            "csu_retransmit = \"200ms\"\ncsu_retransmit_max = 100",
        )
    });
    let mut client = hub.redis();
    let () = client.set("first", "1").unwrap();
    let first = neighbour.wait_for_request();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].summary.hop_count, HOP_COUNT, "CSU-16");
    assert_eq!(first[0].summary.originator, neighbour.hub_id);
    assert_eq!(neighbour.wait_for_request(), first, "sent again as it was");

    let () = client.set("second", "2").unwrap();
    let second = neighbour.wait_for("the second record", |packet| match packet {
        Packet::Request(records) => records
            .into_iter()
            .find(|record| record.summary.key == b"second"),
        _ => None,
    });
    neighbour.reply(&[first[0].summary.clone()]);
    // Resends that were under way may still hold the first; later ones do not.
    let queue = [("group", "clients"), ("peer", &*peer_label(&net, LARGE))];
    eventually("the acknowledged one leaves the queue", || {
        hub.metric("scsp_peer_retransmit_queue_records", &queue) == Some(1.0)
    });
    neighbour.wait_for("a resend of the second alone", |packet| match packet {
        Packet::Request(records) => (records == [second.clone()]).then_some(()),
        _ => None,
    });

    // CSU-07: a newer instance takes the place of the queued one.
    let () = client.set("second", "3").unwrap();
    let newer = neighbour.wait_for("the newer instance", |packet| match packet {
        Packet::Request(records) => records
            .into_iter()
            .find(|record| record.summary.seq > second.summary.seq),
        _ => None,
    });
    neighbour.reply(&[second.summary]);
    assert_eq!(
        neighbour.wait_for_request(),
        std::slice::from_ref(&newer),
        "CSU-08: a smaller sequence says nothing"
    );
    neighbour.reply(&[newer.summary]);
    eventually("the queue is empty", || {
        hub.metric("scsp_peer_retransmit_queue_records", &queue) == Some(0.0)
    });
    let group = [("group", "clients")];
    assert_eq!(hub.count("scsp_records_originated_total", &group), 3);
    assert_eq!(hub.count("scsp_records_acknowledged_total", &group), 2);
    assert!(hub.count("scsp_records_retransmitted_total", &group) >= 3);
    assert_eq!(hub.alignments(), ["aligned"]);
}

/// Goal: after `csu_retransmit_max` resends the neighbour is reset, and can come back.
fn csu_06_a_neighbour_that_never_acknowledges_is_reset(backend: Backend) {
    let (net, hub, neighbour) = joined(backend, SMALL, |setup| {
        setup.replace(
            "csu_retransmit = \"200ms\"",
            "csu_retransmit = \"100ms\"\ncsu_retransmit_max = 3",
        )
    });
    let mut client = hub.redis();
    let () = client.set("k", "v").unwrap();
    let mut sent = 0;
    neighbour.wait_for("a Hello that names nobody", |packet| match packet {
        Packet::Request(records) => {
            assert_eq!(records[0].summary.key, b"k");
            sent += 1;
            None
        }
        Packet::Hello { receivers, .. } => receivers.is_empty().then_some(()),
        _ => None,
    });
    assert_eq!(sent, 1 + 3, "sent once, and again so many times");
    let peer = peer_label(&net, SMALL);
    let abnormal = [
        ("group", "clients"),
        ("peer", &*peer),
        ("event", "csu_retransmit"),
    ];
    assert_eq!(hub.count("scsp_peer_abnormal_events_total", &abnormal), 1);
    let waiting = [("group", "clients"), ("peer", &*peer), ("state", "waiting")];
    assert_eq!(hub.metric("scsp_peer_hello_state", &waiting), Some(1.0));
    assert_eq!(hub.alignments(), ["down"]);

    neighbour.join(&hub);
    assert_eq!(client.get::<_, String>("k").unwrap(), "v");
}

/// Goal: a CSUS is answered with full records, or with the N bit when there is no such entry.
fn csu_10_solicitations_are_answered(backend: Backend) {
    let (_net, hub, neighbour) = joined(backend, SMALL, |setup| setup);
    let mut client = hub.redis();
    let () = client.set("k", "value").unwrap();
    let sent = neighbour.wait_for_request();
    neighbour.reply(&[sent[0].summary.clone()]);

    let unknown = Summary::new("unknown", &id_of(77), 42);
    neighbour.csus(
        &neighbour.hub_id,
        &[sent[0].summary.clone(), unknown.clone()],
    );
    let mut records = Vec::new();
    while records.len() < 2 {
        records.extend(neighbour.wait_for_request());
    }
    records.sort_by_key(|record| record.summary.null);
    assert!(records[0].summary.matches(&sent[0].summary));
    assert_eq!(
        (records[0].summary.hop_count, &records[0].body),
        (1, &sent[0].body),
        "CSU-10"
    );
    assert!(
        records[1].summary.null && records[1].summary.matches(&unknown),
        "CSU-11"
    );
    assert_eq!(records[1].body, b"", "CSU-11");

    // CA-21: one for another server is not.
    neighbour.csus(&id_of(77), &[sent[0].summary.clone()]);
    let dropped = [("reason", "receiver")];
    eventually("it is dropped", || {
        hub.count("scsp_packets_dropped_total", &dropped) == 1
    });
    neighbour.reply(
        &records
            .into_iter()
            .map(|record| record.summary)
            .collect::<Vec<_>>(),
    );
}

/// Goal: requests to everyone are taken in, those to others are not; old and equal records are
/// acknowledged with what the cache holds; bodies that make no sense are rejected.
fn csu_13_receivers_and_csu_09_old_records(backend: Backend) {
    let (_net, hub, neighbour) = joined(backend, LARGE, |setup| setup);
    let mut client = hub.redis();
    let mut current = record(&neighbour, "k", 10, b"ten");
    current.summary.hop_count = 9;
    for receiver in [vec![0xFF], vec![0xFF; 4], vec![0xFF; 20]] {
        neighbour.send(&neighbour.request_packet(&receiver, std::slice::from_ref(&current)));
        let acknowledged = neighbour.wait_for_reply();
        assert_eq!(acknowledged.len(), 1);
        assert!(acknowledged[0].matches(&current.summary));
        assert_eq!(acknowledged[0].hop_count, 1, "CSU-17");
    }
    neighbour.send(&neighbour.request_packet(&id_of(77), &[record(&neighbour, "other", 1, b"v")]));
    eventually("it is dropped", || {
        hub.count("scsp_packets_dropped_total", &[("reason", "receiver")]) == 1
    });

    neighbour.request(&[record(&neighbour, "k", 9, b"nine")]);
    let acknowledged = neighbour.wait_for_reply();
    assert!(
        acknowledged[0].matches(&current.summary),
        "CSU-09: {acknowledged:?}"
    );
    assert_eq!(client.get::<_, String>("k").unwrap(), "ten");
    assert_eq!(client.get::<_, Option<String>>("other").unwrap(), None);

    let mut broken = record(&neighbour, "broken", 1, b"v");
    broken.body[0] = 77;
    neighbour.request(&[broken, record(&neighbour, "sound", 1, b"v")]);
    wait_for("the sound one is taken in", || {
        let value: Option<String> = client.get("sound").unwrap();
        value.ok_or_else(|| "it is not there".to_owned())
    });
    let outcome = |outcome| {
        hub.count(
            "scsp_records_received_total",
            &[("group", "clients"), ("outcome", outcome)],
        )
    };
    let outcomes = ["newer", "duplicate", "older", "null", "rejected"].map(outcome);
    assert_eq!(outcomes, [2, 2, 1, 0, 1]);
}

/// Goal: a newer record goes on to the other neighbour with one hop less, its last hop does not,
/// and an equal record from there acknowledges it (CSU-12).
fn csu_16_records_travel_from_neighbour_to_neighbour(backend: Backend) {
    let net = Net::claim();
    let hub = Hub::start(&Setup::hub(&net, HUB, &[SMALL, LARGE]), backend);
    let neighbours = [SMALL, LARGE].map(|number| Neighbour::new(&net, number, HUB));
    for neighbour in &neighbours {
        neighbour.greet();
    }
    neighbours[0].align_as_slave(&[]);
    neighbours[1].align_as_master(&[]);
    hub.wait_until_aligned();

    let mut sent = record(&neighbours[0], "k", 1, b"v");
    sent.summary.hop_count = 4;
    neighbours[0].request(std::slice::from_ref(&sent));
    assert!(neighbours[0].wait_for_reply()[0].matches(&sent.summary));
    let got = neighbours[1].wait_for_request();
    assert_eq!(got.len(), 1);
    assert!(got[0].summary.matches(&sent.summary));
    assert_eq!((got[0].summary.hop_count, &got[0].body), (3, &sent.body));

    // CSU-12: the same record from the other side.
    neighbours[1].request(&got);
    assert!(neighbours[1].wait_for_reply()[0].matches(&sent.summary));
    let queue = [("group", "clients"), ("peer", &*peer_label(&net, LARGE))];
    eventually("the queue is empty", || {
        hub.metric("scsp_peer_retransmit_queue_records", &queue) == Some(0.0)
    });

    // The last hop: stored, not flooded. What is flooded after it comes alone.
    let last = record(&neighbours[0], "last", 1, b"v");
    assert_eq!(last.summary.hop_count, 1);
    neighbours[0].request(&[last]);
    neighbours[0].wait_for_reply();
    let mut after = record(&neighbours[0], "after", 1, b"v");
    after.summary.hop_count = 2;
    neighbours[0].request(&[after]);
    let got = neighbours[1].wait_for_request();
    assert!(
        got.iter().all(|record| record.summary.key == b"after"),
        "{got:?}"
    );
    neighbours[1].reply(&[got[0].summary.clone()]);
    assert_eq!(hub.redis().get::<_, String>("last").unwrap(), "v");
}

/// Goal: datagrams that are no packets of a neighbour are counted by what is wrong with them, and
/// change nothing.
fn d_02_garbage_is_counted_and_breaks_nothing(backend: Backend) {
    let (net, hub, mut neighbour) = joined(backend, LARGE, |setup| setup);
    let whole = neighbour.hello_packet(true);
    let with = |at: usize, value: u8, sealed: bool| {
        let mut packet = whole.clone();
        packet[at] = value;
        if sealed {
            checksum::seal(&mut packet);
        }
        packet
    };
    let garbage = [
        ("truncated", whole[..5].to_vec()),
        ("size", whole[..whole.len() - 1].to_vec()),
        ("version", with(0, 2, true)),
        ("type", with(1, 9, true)),
        ("checksum", with(9, 77, false)),
        ("common_part", with(24, 255, true)),
    ];
    let dropped = |reason| hub.count("scsp_packets_dropped_total", &[("reason", reason)]);
    for (reason, packet) in &garbage {
        assert_eq!(dropped(reason), 0, "{reason}");
        neighbour.send(packet);
        eventually(&format!("{reason} is counted"), || dropped(reason) == 1);
    }
    neighbour.send(&[]);

    // Valid, but from nobody we know, or about an instance that is not ours.
    let stranger = UdpSocket::bind(net.address(77, 2334)).unwrap();
    stranger.send_to(&whole, net.address(HUB, 2334)).unwrap();
    eventually("the stranger is counted", || dropped("unknown_peer") == 1);
    neighbour.group = ServerGroupId(99);
    neighbour.send(&neighbour.hello_packet(true));
    let unknown = || {
        dropped("unknown_peer")
            + hub
                .metric(
                    "scsp_packets_dropped_total",
                    &[("reason", "unknown_instance")],
                )
                .map_or(0, |_| dropped("unknown_instance"))
    };
    eventually("the unknown instance is counted", || unknown() == 2);
    neighbour.group = ServerGroupId(1);

    // CA-03: not for us.
    let hub_id = std::mem::replace(&mut neighbour.hub_id, id_of(77));
    neighbour.ca(scsp_wire::CaSeq(1), support::neighbour::OPENING, &[]);
    neighbour.hub_id = hub_id;

    // The largest datagram of noise.
    let noise: Vec<u8> = (0..65_507u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0])
        .collect();
    let total = |hub: &Hub| -> u64 {
        ["version", "size", "checksum", "datagram_truncated"]
            .map(|reason| hub.count("scsp_packets_dropped_total", &[("reason", reason)]))
            .iter()
            .sum()
    };
    let before = total(&hub);
    neighbour.send(&noise);
    eventually("the noise is counted", || total(&hub) == before + 1);

    let mut client = hub.redis();
    let () = client.set("k", "v").unwrap();
    let records = neighbour.wait_for_request();
    neighbour.reply(&[records[0].summary.clone()]);
    assert_eq!(hub.alignments(), ["aligned"]);
    let peer = peer_label(&net, LARGE);
    let abnormal = [
        ("group", "clients"),
        ("peer", &*peer),
        ("event", "malformed"),
    ];
    assert_eq!(hub.count("scsp_peer_abnormal_events_total", &abnormal), 0);
}

/// A Hello whose envelope is right and whose interval is 0 (D-04).
fn malformed_hello(neighbour: &Neighbour) -> Vec<u8> {
    let mut packet = neighbour.hello_packet(true);
    packet[8..10].fill(0);
    checksum::seal(&mut packet);
    packet
}

/// Goal: a malformed body of a known neighbour takes it to Waiting (H-11), from where it returns.
fn d_02_a_malformed_packet_of_a_neighbour_resets_it(backend: Backend) {
    let (net, hub, neighbour) = joined(backend, SMALL, |setup| setup);
    neighbour.send(&malformed_hello(&neighbour));
    neighbour.wait_for_hello(false);
    let peer = peer_label(&net, SMALL);
    let abnormal = [
        ("group", "clients"),
        ("peer", &*peer),
        ("event", "malformed"),
    ];
    assert_eq!(hub.count("scsp_peer_abnormal_events_total", &abnormal), 1);
    assert_eq!(
        hub.count("scsp_packets_dropped_total", &[("reason", "hello_timer")]),
        1
    );
    assert_eq!(hub.alignments(), ["down"]);
    neighbour.join(&hub);

    // No sender id.
    let mut packet = neighbour.hello_packet(true);
    packet[8 + 8 + 8] = 0;
    checksum::seal(&mut packet);
    neighbour.send(&packet);
    neighbour.wait_for_hello(false);
    assert_eq!(hub.count("scsp_peer_abnormal_events_total", &abnormal), 2);
    neighbour.join(&hub);

    // A record that runs past the packet's end.
    let mut packet =
        neighbour.request_packet(&neighbour.hub_id, &[record(&neighbour, "k", 1, b"v")]);
    let body_len = u16::try_from(packet.len()).unwrap();
    packet[8 + 12 + 8 + 2..][..2].copy_from_slice(&body_len.to_be_bytes());
    checksum::seal(&mut packet);
    neighbour.send(&packet);
    neighbour.wait_for_hello(false);
    assert_eq!(hub.count("scsp_peer_abnormal_events_total", &abnormal), 3);
    assert_eq!(hub.redis().get::<_, Option<String>>("k").unwrap(), None);
}

/// Goal: with `abnormal_events = "ignore"` the same is counted and nothing else happens.
fn d_02_or_is_only_counted_when_told_so(backend: Backend) {
    let (net, hub, neighbour) = joined(backend, SMALL, |setup| {
        setup.under("[[group]]", "abnormal_events = \"ignore\"")
    });
    neighbour.send(&malformed_hello(&neighbour));
    eventually("it is counted", || {
        hub.count("scsp_packets_dropped_total", &[("reason", "hello_timer")]) == 1
    });
    let mut client = hub.redis();
    let () = client.set("k", "v").unwrap();
    let records = neighbour.wait_for_request();
    neighbour.reply(&[records[0].summary.clone()]);
    assert_eq!(hub.alignments(), ["aligned"]);
    let peer = peer_label(&net, SMALL);
    let hello = [("group", "clients"), ("peer", &*peer), ("machine", "hello")];
    assert!(hub.count("scsp_peer_transitions_total", &hello) <= 3);
}

/// Goal: a neighbour with our own id is a duplicate and ignored; one that changes its id goes
/// through Waiting; one with another id than configured is ignored.
fn d_10_the_own_id_and_d_11_other_ids_are_refused(backend: Backend) {
    let (net, hub, mut neighbour) = joined(backend, LARGE, |setup| setup);
    let peer = peer_label(&net, LARGE);
    let duplicate = [("group", "clients"), ("peer", &*peer)];
    assert_eq!(hub.metric("scsp_peer_duplicate_id", &duplicate), Some(0.0));
    neighbour.id.clone_from(&neighbour.hub_id);
    neighbour.hello(true);
    eventually("the duplicate is told", || {
        hub.metric("scsp_peer_duplicate_id", &duplicate) == Some(1.0)
    });
    assert_eq!(hub.alignments(), ["aligned"], "its Hello changed nothing");
    let errors = hub
        .log()
        .lines()
        .filter(|line| line.contains("ERROR"))
        .count();
    assert_eq!(errors, 1, "{}", hub.log());

    // D-11: another id, one that is allowed, is another server.
    neighbour.id = id_of(99);
    neighbour.hello(false);
    eventually("the change is noticed", || hub.alignments() == ["down"]);
    assert_eq!(hub.metric("scsp_peer_duplicate_id", &duplicate), Some(0.0));
    neighbour.join(&hub);
    assert_eq!(hub.status()["peers"][0]["id"], "10.0.0.99");
    drop((hub, neighbour));

    let setup = Setup::hub(&net, HUB, &[LARGE]).under("[[group.peer]]", "id = \"10.0.0.9\"");
    let hub = Hub::start(&setup, backend);
    let mut neighbour = Neighbour::new(&net, LARGE, HUB);
    neighbour.id = id_of(99);
    neighbour.hello(false);
    eventually("the error is logged", || hub.log().contains("10.0.0.99"));
    neighbour.id = id_of(LARGE);
    neighbour.join(&hub);
    assert_eq!(hub.status()["peers"][0]["id"], "10.0.0.9");
}

/// Goal: many records fill packets up to the limit and not beyond, one that is larger travels in a
/// datagram of its own ([`Neighbour`] checks every packet).
fn d_14_packets_keep_to_the_limit(backend: Backend) {
    let (_net, hub, neighbour) = joined(backend, LARGE, |setup| setup);
    let mut client = hub.redis();
    let mut pipe = redis::pipe();
    for number in 0..200 {
        pipe.set(format!("small:{number}"), vec![b'x'; 90]).ignore();
    }
    pipe.set("big", vec![b'y'; 30_000]).ignore();
    let () = pipe.query(&mut client).unwrap();
    let mut seen = BTreeSet::new();
    let mut packets = 0;
    while seen.len() < 201 {
        let records = neighbour.wait_for_request();
        packets += 1;
        let summaries: Vec<Summary> = records
            .iter()
            .map(|record| record.summary.clone())
            .collect();
        neighbour.reply(&summaries);
        for record in records {
            if record.summary.key == b"big" {
                assert_eq!(record.body.len(), 16 + 30_000);
            }
            seen.insert(record.summary.key);
        }
    }
    assert!(packets < 200, "records share packets");
    eventually("the queue is empty", || {
        hub.status()["peers"][0]["queue"] == 0
    });
}

/// Goal: Hellos come at least once per advertised interval, and say so.
fn h_03_hellos_keep_their_interval(backend: Backend) {
    let (_net, _hub, neighbour) = joined(backend, LARGE, |setup| setup);
    let mut gaps = Vec::new();
    let mut last = None;
    neighbour.wait_for("four Hellos", |packet| {
        let Packet::Hello {
            receivers,
            interval_secs,
            dead_factor,
        } = packet
        else {
            return None;
        };
        assert_eq!((interval_secs, dead_factor), (1, 3));
        assert_eq!(receivers, [id_of(LARGE)], "H-04: this neighbour alone");
        let now = Instant::now();
        gaps.extend(last.replace(now).map(|last| now - last));
        (gaps.len() == 3).then_some(())
    });
    // An interval, and what a busy machine adds.
    assert!(
        gaps.iter().all(|gap| *gap < Duration::from_millis(1500)),
        "{gaps:?}"
    );
}

/// Goal: a neighbour that says nothing for its own interval times its dead factor is gone.
fn h_07_a_silent_neighbour_is_stalled(backend: Backend) {
    let (net, hub, mut neighbour) = joined(backend, LARGE, |setup| setup);
    let peer = peer_label(&net, LARGE);
    neighbour.hello_interval_secs = 1;
    let heard = Instant::now();
    neighbour.hello(true);
    neighbour.wait_for_hello(false);
    assert!(
        heard.elapsed() >= Duration::from_secs(3),
        "H-07: the window is 1 s times 3"
    );
    let waiting = [("group", "clients"), ("peer", &*peer), ("state", "waiting")];
    assert_eq!(hub.metric("scsp_peer_hello_state", &waiting), Some(1.0));
    assert_eq!(hub.alignments(), ["down"]);
    let late = [("group", "clients"), ("peer", &*peer)];
    assert_eq!(hub.count("scsp_peer_late_hellos_total", &late), 1, "H-08");
}
