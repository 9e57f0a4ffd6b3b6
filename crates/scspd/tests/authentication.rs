//! Authentication between real hubs, and against a neighbour that forges.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use redis::Commands;
use scsp_wire::{Algorithm, CaSeq, MacKey, checksum};

use support::neighbour::{Neighbour, OPENING, Packet, Record, Summary, kv_value};
use support::records::{array, int, text};
use support::{Backend, Hub, Net, Setup, eventually, on_both_backends, scspd, wait_for};

on_both_backends! {
    x_05_hubs_align_with_every_algorithm,
    x_04_every_step_of_a_rollout,
    x_04_hubs_with_different_keys_never_align,
    x_03_packets_of_the_hub_are_signed,
    d_03_forged_packets_change_nothing,
    d_03_the_letter_resets,
    x_06_roll_over_between_hubs,
}

const SECRET: &str = "a secret of hubs, long enough";
const SPI: u32 = 256;

/// A `[[group.peer.key]]` with further lines.
fn key(spi: u32, algorithm: Algorithm, secret: &str, more: &str) -> String {
    let algorithm = algorithm.name();
    format!(
        "[[group.peer.key]]\nspi = {spi}\nalgorithm = \"{algorithm}\"\nsecret = \"text:{secret}\"\n\
         {more}\n"
    )
}

/// Hub `number` that asks `mode` of its only neighbour, with one key.
fn setup(net: &Net, number: u8, neighbour: u8, mode: &str, key: &str) -> Setup {
    let setup = Setup::hub(net, number, &[neighbour]);
    setup.plus(&format!("auth = \"{mode}\"\n{key}"))
}

fn usual_key() -> String {
    key(SPI, Algorithm::HmacSha256, SECRET, "")
}

fn start_pair(net: &Net, modes: [&str; 2], keys: [&str; 2], backend: Backend) -> [Hub; 2] {
    let a = setup(net, 1, 2, modes[0], keys[0]);
    let b = setup(net, 2, 1, modes[1], keys[1]);
    Hub::start_all([&a, &b], backend)
}

/// Writes at both hubs arrive at the other.
fn assert_works([a, b]: &[Hub; 2]) {
    for (from, to, name) in [(a, b, "a"), (b, a, "b")] {
        from.wait_until_aligned();
        to.wait_until_aligned();
        let () = from.redis().set(name, "value").expect("set");
        let mut reader = to.redis();
        eventually("the value arrives", || {
            reader
                .get::<_, Option<String>>(name)
                .expect("a reply")
                .as_deref()
                == Some("value")
        });
    }
}

fn dropped(hub: &Hub) -> u64 {
    hub.count(
        "scsp_packets_dropped_total",
        &[("reason", "authentication")],
    )
}

fn abnormal(hub: &Hub, net: &Net, neighbour: u8, event: &str) -> u64 {
    let peer = net.address(neighbour, 2334).to_string();
    let labels = [("group", "clients"), ("peer", &*peer), ("event", event)];
    hub.count("scsp_peer_abnormal_events_total", &labels)
}

/// Goal: two hubs that require it work with each algorithm, the last one's secret in a file.
fn x_05_hubs_align_with_every_algorithm(backend: Backend) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    fs::write(&path, format!("{SECRET}\n")).expect("written");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
    for algorithm in Algorithm::ALL {
        let net = Net::claim();
        let inline = key(SPI, algorithm, SECRET, "");
        let from_file = inline.replace(
            &format!("secret = \"text:{SECRET}\""),
            &format!("secret_file = \"{}\"", path.display()),
        );
        let hubs = start_pair(&net, ["require"; 2], [&inline, &from_file], backend);
        assert_works(&hubs);
        assert_eq!(hubs.each_ref().map(dropped), [0, 0], "{algorithm:?}");
    }
}

/// Goal: a group is taken to "require" hub by hub, and works at each step.
fn x_04_every_step_of_a_rollout(backend: Backend) {
    let key = usual_key();
    for modes in [
        ["off", "accept"],
        ["accept", "send"],
        ["send", "send"],
        ["send", "require"],
    ] {
        let net = Net::claim();
        let hubs = start_pair(&net, modes, [&key, &key], backend);
        assert_works(&hubs);
        assert_eq!(hubs.each_ref().map(dropped), [0, 0], "{modes:?}");
    }
}

/// Goal: hubs with different secrets, and a hub that signs nothing, stay strangers.
fn x_04_hubs_with_different_keys_never_align(backend: Backend) {
    let other = key(SPI, Algorithm::HmacSha256, "another secret of hubs", "");
    for (second, reason) in [("require", "wrong MAC"), ("accept", "missing")] {
        let net = Net::claim();
        let hubs = start_pair(&net, ["require", second], [&usual_key(), &other], backend);
        eventually("several packets fail", || {
            abnormal(&hubs[0], &net, 2, "authentication") > 3
        });
        for hub in &hubs {
            assert_eq!(hub.alignments(), ["down"]);
        }
        let said = format!("reason=\"{reason}\"");
        wait_for("the log says why", || {
            let log = hubs[0].log();
            let found = log
                .lines()
                .any(|line| line.contains("authentication failed") && line.contains(&said));
            found.then_some(()).ok_or(log)
        });
    }
}

/// A hub that requires authentication and a neighbour that signs, aligned.
fn joined(backend: Backend, adapt: impl FnOnce(Setup) -> Setup) -> (Net, Hub, Neighbour) {
    let net = Net::claim();
    let setup = adapt(setup(&net, 5, 9, "require", &usual_key()));
    let hub = Hub::start(&setup, backend);
    let mut neighbour = Neighbour::new(&net, 9, 5);
    neighbour.key = Some((SPI, MacKey::new(Algorithm::HmacSha256, SECRET.as_bytes())));
    neighbour.join(&hub);
    (net, hub, neighbour)
}

fn record(neighbour: &Neighbour, key: &str, seq: i32) -> Record {
    Record {
        summary: Summary::new(key, &neighbour.id, seq),
        body: kv_value(b"value"),
    }
}

/// Goal: every packet that a neighbour gets of the hub, of all five types, has the right MAC.
fn x_03_packets_of_the_hub_are_signed(backend: Backend) {
    let (_net, hub, neighbour) = joined(backend, |setup| setup);
    // The neighbour checks each packet as it comes; Hello and CA came already.
    neighbour.request(&[record(&neighbour, "theirs", 1)]);
    assert_eq!(neighbour.wait_for_reply().len(), 1);
    let () = hub.redis().set("mine", "value").expect("set");
    let sent = neighbour.wait_for_request();
    assert_eq!(sent[0].summary.key, b"mine");
    // A reply that knows a newer record makes the hub ask for it (CSU-08).
    let newer = Summary {
        seq: sent[0].summary.seq + 5,
        ..sent[0].summary.clone()
    };
    neighbour.reply(&[newer]);
    assert_eq!(neighbour.wait_for_csus()[0].key, b"mine");
    assert_eq!(dropped(&hub), 0);
}

/// Packets that would change much if they were believed.
fn forgeries(neighbour: &Neighbour) -> Vec<Vec<u8>> {
    let mut malformed = neighbour.request_packet(&neighbour.hub_id, &[record(neighbour, "x", 1)]);
    malformed[18..20].copy_from_slice(&[0, 9]);
    checksum::seal(&mut malformed);
    let opening = neighbour.packet(|octets, header| {
        let builder = scsp_wire::Builder::ca(octets, 1472, header, CaSeq(7), OPENING);
        builder.expect("it fits").finish()
    });
    vec![
        neighbour.hello_packet(false),
        malformed,
        opening,
        neighbour.request_packet(&neighbour.hub_id, &[record(neighbour, "x", 1)]),
    ]
}

/// Goal: a flood of forged packets, unsigned or signed with another key, neither cuts the adjacency
/// nor changes a record; all are counted, few are logged, and operators see the cause.
fn d_03_forged_packets_change_nothing(backend: Backend) {
    let (net, hub, mut neighbour) = joined(backend, |setup| setup);
    let right = neighbour.key.take();
    let mut forged = forgeries(&neighbour);
    neighbour.key = Some((SPI, MacKey::new(Algorithm::HmacSha256, b"wrong")));
    forged.extend(forgeries(&neighbour));
    let mut all = 0;
    for _ in 0..20 {
        // No more at once than a socket's queue holds.
        for octets in forged.iter().cycle().take(5 * forged.len()) {
            neighbour.send(octets);
            all += 1;
        }
        eventually("all are counted", || dropped(&hub) == all);
    }
    eventually("all are told", || {
        abnormal(&hub, &net, 9, "authentication") == all
    });
    assert_eq!(hub.alignments(), ["aligned"]);
    assert_eq!(abnormal(&hub, &net, 9, "malformed"), 0);
    assert_eq!(
        hub.redis().get::<_, Option<String>>("x").expect("a reply"),
        None
    );
    let said = hub
        .log()
        .lines()
        .filter(|line| line.contains("authentication failed"))
        .count();
    assert!((1..50).contains(&said), "{said} lines");
    let peers = redis::cmd("SCSP.PEERS")
        .query(&mut hub.redis())
        .expect("peers");
    let fields = array(&array(&peers)[0]);
    let shown = fields
        .chunks(2)
        .find(|field| text(&field[0]) == "abnormal_authentication");
    let shown = shown.map(|field| int(&field[1]));
    assert_eq!(shown, i64::try_from(all).ok());
    neighbour.key = right;
    neighbour.request(&[record(&neighbour, "k", 1)]);
    neighbour.wait_for_reply();
}

/// Goal: with `auth_failure = "reset"` one forged packet takes the neighbour to Waiting, as the RFC
/// says, and it finds back.
fn d_03_the_letter_resets(backend: Backend) {
    let reset = |setup: Setup| setup.under("[[group]]", "auth_failure = \"reset\"");
    let (net, hub, mut neighbour) = joined(backend, reset);
    let right = neighbour.key.take();
    let forged = neighbour.hello_packet(true);
    neighbour.key = right;
    neighbour.send(&forged);
    neighbour.wait_for("a Hello that names nobody", |packet| match packet {
        Packet::Hello { receivers, .. } => receivers.is_empty().then_some(()),
        _ => None,
    });
    assert_eq!(abnormal(&hub, &net, 9, "authentication"), 1);
    neighbour.join(&hub);
}

/// Goal: two hubs change their keys at moments of their own, by overlapping lifetimes, while
/// clients write; no packet fails, no adjacency moves, no write is lost.
fn x_06_roll_over_between_hubs(backend: Backend) {
    let net = Net::claim();
    let start = SystemTime::now();
    let at = |seconds| humantime::format_rfc3339_millis(start + Duration::from_secs(seconds));
    let old_over = 9;
    // Hub 1 signs with the new key from 5 s on, hub 2 from 6 s on; both verify either until 9 s.
    let keys = [5, 6].map(|change| {
        let old = format!(
            "send_until = \"{}\"\naccept_until = \"{}\"",
            at(7),
            at(old_over)
        );
        let new = format!("send_from = \"{}\"", at(change));
        key(1, Algorithm::HmacMd5, SECRET, &old) + &key(2, Algorithm::Blake3, SECRET, &new)
    });
    // A busy machine must not look like a dead neighbour.
    let hubs = [(1, 2), (2, 1)].map(|(number, other)| {
        setup(
            &net,
            number,
            other,
            "require",
            &keys[usize::from(number) - 1],
        )
        .replace("dead_factor = 3", "dead_factor = 30")
    });
    let hubs = Hub::start_all(hubs.each_ref(), backend);
    hubs.iter().for_each(Hub::wait_until_aligned);
    let mut writers = hubs.each_ref().map(Hub::redis);
    let mut written = 0_u32;
    while start.elapsed().expect("time goes on") < Duration::from_secs(old_over + 1) {
        for (writer, name) in writers.iter_mut().zip(["a", "b"]) {
            let () = writer
                .set(format!("{name}{written}"), "value")
                .expect("set");
        }
        written += 1;
        std::thread::sleep(Duration::from_millis(2));
    }
    for (hub, mut reader) in hubs.iter().zip(writers) {
        wait_for("every write is there", || {
            let count: u32 = redis::cmd("DBSIZE").query(&mut reader).expect("a number");
            (count == 2 * written)
                .then_some(())
                .ok_or(format!("{count} of {}", 2 * written))
        });
        let log = hub.log();
        assert_eq!(
            (dropped(hub), hub.alignments()),
            (0, vec!["aligned".to_owned()]),
            "{log}"
        );
        assert_eq!(log.matches("aligned").count(), 1, "{log}");
    }
}

/// Goal: the program names a secret's file, its mode and what is expected; it never prints a secret,
/// and warns of a short one.
#[test]
fn x_01_secrets_stay_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let (config, secret) = (
        folder.path().join("hub.toml"),
        folder.path().join("hub-b.key"),
    );
    fs::write(&secret, "swordfish-in-a-file").expect("written");
    let check = |secret_line: &str| {
        let text = format!(
            "[[group]]\n[[group.peer]]\naddress = \"127.0.0.2:2334\"\nauth = \"require\"\n\
             [[group.peer.key]]\nspi = 1\nalgorithm = \"hmac-md5-128\"\n{secret_line}\n"
        );
        fs::write(&config, text).expect("written");
        let output = scspd().arg("--check").arg("--config").arg(&config).output();
        let output = output.expect("the program starts");
        let text = |octets| String::from_utf8(octets).expect("text");
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let file_line = format!("secret_file = \"{}\"", secret.display());
    fs::set_permissions(&secret, Permissions::from_mode(0o644)).expect("a mode");
    let (status, shown, said) = check(&file_line);
    assert_eq!((status, shown.as_str()), (Some(2), ""));
    for wanted in ["hub.toml:8: ", "hub-b.key", "mode 0600", "mode 0644"] {
        assert!(said.contains(wanted), "{said}");
    }
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).expect("a mode");
    let (status, shown, said) = check(&file_line);
    assert_eq!((status, said.as_str()), (Some(0), ""));
    assert!(
        shown.contains(&file_line) && !shown.contains("swordfish"),
        "{shown}"
    );
    let (status, shown, said) = check("secret = \"text:swordfish\"");
    assert_eq!(status, Some(0));
    assert!(shown.contains("secret = \"(not shown)\""), "{shown}");
    assert!(
        said.contains("warning: ") && said.contains("9 octets"),
        "{said}"
    );
    let (status, _, refusal) = check("secret = \"swordfish\"");
    assert_eq!(status, Some(2));
    for text in [shown, said, refusal] {
        assert!(!text.contains("swordfish"), "{text}");
    }
}
