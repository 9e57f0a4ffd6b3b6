//! Real hubs with a data directory: what they remember after a stop, a kill, and worse.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use redis::{Commands, Connection};
use rustix::process::Signal;

use support::neighbour::{HOP_COUNT, Neighbour, Record, Summary, id_of, kv_value};
use support::records::{instances, records};
use support::{Backend, Hub, Net, Setup, eventually, on_both_backends, scspd};

on_both_backends! {
    a_graceful_restart_keeps_records_and_their_lives,
    a_killed_hub_starts_from_its_last_snapshot,
    d_12_whole_memory_withdraws_on_the_wire,
    d_12_after_a_kill_the_neighbours_memory_counts,
    d_19_first_sequences_on_the_wire,
    kills_at_any_moment_leave_a_snapshot_that_loads,
    a_damaged_snapshot_is_loaded_up_to_the_damage,
    a_foreign_snapshot_is_put_aside,
}

/// A hub whose data directory is in its own folder.
struct Home {
    net: Net,
    folder: tempfile::TempDir,
    data: PathBuf,
    setup: Setup,
}

impl Home {
    fn new(neighbours: &[u8], interval: &str) -> Self {
        let (net, folder) = (Net::claim(), tempfile::tempdir().unwrap());
        let data = folder.path().join("data");
        let setup = Setup::hub(&net, 1, neighbours)
            .under("[server]", &format!("data_dir = \"{}\"", data.display()))
            .under("[server]", &format!("snapshot_interval = \"{interval}\""));
        Self {
            net,
            folder,
            data,
            setup,
        }
    }

    fn with(mut self, group: &str, protocol: &str) -> Self {
        self.setup = self.setup.with_group(&self.net, group, protocol, 7, &[]);
        self
    }

    fn start(&self, backend: Backend) -> Hub {
        Hub::start(&self.setup, backend)
    }

    fn snapshot(&self) -> PathBuf {
        self.data.join("snapshot")
    }
}

fn stop(hub: &mut Hub) {
    hub.signal(Signal::TERM);
    let status = hub.wait_for_end();
    assert!(status.success(), "{status}");
}

fn info(connection: &mut Connection, field: &str) -> String {
    let info: String = redis::cmd("INFO").query(connection).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix(field));
    line.unwrap_or_else(|| panic!("no {field} in {info}"))
        .trim_start_matches(':')
        .to_owned()
}

/// Goal: after a stop by either signal, without any neighbour, every record of every group is there
/// again, with the life that remains and the same sequence; what was deleted or ended is not.
fn a_graceful_restart_keeps_records_and_their_lives(backend: Backend) {
    let home = Home::new(&[], "1h").with("opaque", "0xFF01");
    let mut hub = home.start(backend);
    let mut connection = hub.redis();
    let mut pipe = redis::pipe();
    for n in 0..2000 {
        pipe.set(format!("key:{n}"), "v".repeat(n % 300)).ignore();
    }
    pipe.pset_ex("lives", "v", 600_000).ignore();
    pipe.pset_ex("ends", "v", 1).ignore();
    pipe.del("key:7").ignore();
    for n in 0..50 {
        pipe.cmd("SCSP.PUBLISH")
            .arg("opaque")
            .arg(format!("o{n}"))
            .arg("body")
            .ignore();
    }
    let () = pipe.query(&mut connection).unwrap();
    let before = records(&mut connection, "clients", true, true);
    let opaque = records(&mut connection, "opaque", false, true);
    for signal in [Signal::TERM, Signal::INT] {
        hub.signal(signal);
        assert!(hub.wait_for_end().success());
        assert!(home.data.join("graceful").exists());
        hub.restart();
        hub.wait_until_serving();
        assert!(!home.data.join("graceful").exists(), "D-12");
        let mut connection = hub.redis();
        let after = records(&mut connection, "clients", true, true);
        let gone = |key: &str| !after.keys().any(|(known, _)| known == key.as_bytes());
        let shared = before.iter().filter(|((key, _), _)| key != b"ends");
        assert!(
            shared
                .clone()
                .all(|(key, record)| after.get(key) == Some(record))
        );
        assert!(after.len() == before.len() || gone("ends"));
        assert_eq!(records(&mut connection, "opaque", false, true), opaque);
        let size: usize = redis::cmd("DBSIZE").query(&mut connection).unwrap();
        assert!((2000..=2001).contains(&size), "{size}");
        let left: i64 = connection.pttl("lives").unwrap();
        assert!(left > 500_000 && left < 600_000, "{left} ms left");
        let (ends, deleted): (Option<String>, Option<String>) =
            connection.mget(&["ends", "key:7"]).unwrap();
        assert_eq!((ends, deleted), (None, None));
        assert!(
            info(&mut connection, "rdb_last_save_time")
                .parse::<u64>()
                .unwrap()
                > 1_700_000_000
        );
        let taken = hub.metric("scsp_snapshot_timestamp_seconds", &[]).unwrap();
        assert!(taken > 1_700_000_000.0, "{taken}");
    }
    assert!(hub.log().contains("graceful=true"), "{}", hub.log());
}

/// Goal: a killed hub comes back with what the last snapshot holds, and counts its own next change
/// from there; snapshots come by themselves.
fn a_killed_hub_starts_from_its_last_snapshot(backend: Backend) {
    let home = Home::new(&[], "1s");
    let mut hub = home.start(backend);
    let mut connection = hub.redis();
    let () = connection.set("k", "one").unwrap();
    let taken = |hub: &Hub| hub.count("scsp_snapshot_duration_seconds_count", &[]);
    let before = taken(&hub);
    eventually("two snapshots are taken", || taken(&hub) >= before + 2);
    assert_eq!(info(&mut connection, "rdb_last_bgsave_status"), "ok");
    hub.kill();
    assert!(!home.data.join("graceful").exists());
    hub.restart();
    hub.wait_until_serving();
    let mut connection = hub.redis();
    let value: String = connection.get("k").unwrap();
    assert_eq!(value, "one");
    assert!(hub.log().contains("graceful=false"), "{}", hub.log());
}

/// The hub's answer to own records that it does not hold.
fn exchange_of_unknown(home: &Home, hub: &Hub) -> (Neighbour, Vec<Record>) {
    let neighbour = Neighbour::new(&home.net, 2, 1);
    neighbour.join(hub);
    let strays = [Record {
        summary: Summary {
            hop_count: HOP_COUNT,
            ..Summary::new("stray", &id_of(1), 70)
        },
        // As old as the age of computers.
        body: old_value(b"stray"),
    }];
    neighbour.request(&strays);
    let acknowledged = neighbour.wait_for_reply();
    assert!(acknowledged[0].matches(&strays[0].summary));
    (neighbour, strays.to_vec())
}

/// A kv value with a timestamp long before any run.
fn old_value(value: &[u8]) -> Vec<u8> {
    let mut body = kv_value(value);
    body[8..16].copy_from_slice(&(1_000_000_000_000_u64 << 16).to_be_bytes());
    body
}

/// Goal: after a graceful stop, and a start before it that had never run, an own record that a
/// neighbour brings and that is not held is withdrawn with the next sequence.
fn d_12_whole_memory_withdraws_on_the_wire(backend: Backend) {
    let home = Home::new(&[2], "1h");
    let mut hub = home.start(backend);
    hub.wait_until_serving();
    stop(&mut hub);
    hub.restart();
    let (neighbour, _) = exchange_of_unknown(&home, &hub);
    let withdrawn = neighbour.wait_for_request();
    assert_eq!(withdrawn[0].summary.key, b"stray");
    assert_eq!(withdrawn[0].summary.seq, 71);
    assert_eq!(withdrawn[0].body[1], 1, "a tombstone");
    let value: Option<String> = hub.redis().get("stray").unwrap();
    assert_eq!(value, None);
}

/// Goal: after a kill the same record is taken back, and served.
fn d_12_after_a_kill_the_neighbours_memory_counts(backend: Backend) {
    let home = Home::new(&[2], "1h");
    let mut hub = home.start(backend);
    hub.wait_until_serving();
    hub.kill();
    hub.restart();
    let (_neighbour, _) = exchange_of_unknown(&home, &hub);
    let value: String = hub.redis().get("stray").unwrap();
    assert_eq!(value, "stray");
}

/// Goal: the first record of a hub that never ran has the first sequence there is; a hub that did
/// starts new ones at the increment, and its old ones skip it, also after a kill; a hub that lost
/// its directory is one that never ran.
fn d_19_first_sequences_on_the_wire(backend: Backend) {
    const FIRST: i32 = -i32::MAX;
    let home = Home::new(&[2], "1h");
    let mut hub = home.start(backend);
    let written = |hub: &Hub, neighbour: &Neighbour, key: &str| {
        let () = hub.redis().set(key, "v").unwrap();
        let sent = neighbour.wait_for_request();
        let record = sent.iter().find(|it| it.summary.key == key.as_bytes());
        let summary = record.expect("it was written last").summary.clone();
        neighbour.reply(std::slice::from_ref(&summary));
        summary.seq
    };
    let neighbour = Neighbour::new(&home.net, 2, 1);
    neighbour.join(&hub);
    hub.wait_until_serving();
    assert_eq!(written(&hub, &neighbour, "k"), FIRST);
    assert_eq!(written(&hub, &neighbour, "k"), FIRST + 1);
    stop(&mut hub);
    for (key, seq) in [("k", FIRST + 1001), ("new", 1000)] {
        hub.restart();
        hub.wait_until_serving();
        let mut found = hub.redis();
        let () = found.set(key, "v").unwrap();
        let held = instances(&mut found, "clients", key.as_bytes(), &[]);
        assert_eq!(held[0].seq, i64::from(seq), "{key}");
        hub.kill();
    }
    fs::remove_dir_all(&home.data).unwrap();
    hub.restart();
    hub.wait_until_serving();
    let mut connection = hub.redis();
    let () = connection.set("k", "v").unwrap();
    let held = instances(&mut connection, "clients", b"k", &[]);
    assert_eq!(held[0].seq, i64::from(FIRST));
}

/// Goal: whenever the process is killed, writing its snapshots one after the other, the next one
/// finds a whole snapshot, at least as new as the last one that was reported, and no leftovers.
fn kills_at_any_moment_leave_a_snapshot_that_loads(backend: Backend) {
    let home = Home::new(&[], "1s");
    let mut hub = home.start(backend);
    let mut pipe = redis::pipe();
    for n in 0..3000 {
        pipe.set(format!("key:{n}"), "v".repeat(1000)).ignore();
    }
    let () = pipe.query(&mut hub.redis()).unwrap();
    eventually("a snapshot holds them", || {
        fs::metadata(home.snapshot()).is_ok_and(|it| it.len() > 3_000_000)
    });
    for _ in 0..6 {
        // While the next one is being written.
        eventually("a snapshot begins", || {
            home.data.join("snapshot.tmp").exists()
        });
        hub.kill();
        hub.restart();
        hub.wait_until_serving();
        assert!(!hub.log().contains("WARN"), "{}", hub.log());
        let size: usize = redis::cmd("DBSIZE").query(&mut hub.redis()).unwrap();
        assert_eq!(size, 3000);
    }
}

/// Goal: a snapshot that was cut off or changed by the disk gives what comes before; the log says
/// how much, the file is kept, and what was graceful is not whole any more.
fn a_damaged_snapshot_is_loaded_up_to_the_damage(backend: Backend) {
    let home = Home::new(&[], "1h");
    let mut hub = home.start(backend);
    let mut pipe = redis::pipe();
    for n in 0..3000 {
        pipe.set(format!("key:{n}"), "v".repeat(100)).ignore();
    }
    let () = pipe.query(&mut hub.redis()).unwrap();
    stop(&mut hub);
    let whole = fs::read(home.snapshot()).unwrap();
    let graceful = fs::read(home.data.join("graceful")).unwrap();
    let cut = whole[..whole.len() / 2].to_vec();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [cut, flipped] {
        fs::write(home.snapshot(), &damaged).unwrap();
        fs::write(home.data.join("graceful"), &graceful).unwrap();
        hub.restart();
        hub.wait_until_serving();
        let log = hub.log();
        let line = log
            .lines()
            .rfind(|line| line.contains("snapshot damaged"))
            .unwrap();
        assert!(line.contains("WARN") && line.contains("block"), "{line}");
        let count = line.split("records=").nth(1).unwrap();
        let count: usize = count.split(' ').next().unwrap().parse().unwrap();
        let size: usize = redis::cmd("DBSIZE").query(&mut hub.redis()).unwrap();
        assert_eq!(size, count);
        assert!(size > 0 && size < 3000, "{size}");
        assert_eq!(
            fs::read(home.data.join("snapshot.damaged")).unwrap(),
            damaged
        );
        hub.kill();
    }
}

/// Goal: a snapshot of another server, of another version, or of nobody is not read and not
/// overwritten, and the log says why.
fn a_foreign_snapshot_is_put_aside(backend: Backend) {
    let home = Home::new(&[], "1h");
    let mut hub = home.start(backend);
    let () = hub.redis().set("k", "v").unwrap();
    stop(&mut hub);
    let own = fs::read(home.snapshot()).unwrap();
    let mut later = own.clone();
    later[9] = 9;
    let start = |octets: &[u8], id: &str, reason: &str| {
        let setup = home.setup.clone().replace("id = \"10.0.0.1\"", id);
        fs::write(home.snapshot(), octets).unwrap();
        let mut hub = Hub::start(&setup, backend);
        let size: usize = redis::cmd("DBSIZE").query(&mut hub.redis()).unwrap();
        assert_eq!(size, 0);
        let log = hub.log();
        assert!(log.contains("ERROR") && log.contains(reason), "{log}");
        stop(&mut hub);
    };
    start(
        &own,
        "id = \"10.0.0.77\"",
        "server 10.0.0.1, this is 10.0.0.77",
    );
    start(&later, "id = \"10.0.0.1\"", "has format 9, expected 1");
    start(
        b"REDIS0011 and more of it",
        "id = \"10.0.0.1\"",
        "is no snapshot",
    );
    let aside = fs::read_dir(&home.data).unwrap().filter(|file| {
        let name = file.as_ref().unwrap().file_name();
        name.to_str().unwrap().starts_with("snapshot.refused-")
    });
    assert_eq!(aside.count(), 3);
}

/// What a start that fails says.
fn refusal(setup: &Setup) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    fs::write(&path, setup.text()).unwrap();
    let output = scspd().arg("--config").arg(&path).output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Goal: two hubs cannot share a directory, and a place where none can be ends the start; both say
/// which key and path.
#[test]
fn a_directory_that_cannot_be_used_ends_the_start() {
    let home = Home::new(&[], "1h");
    let _hub = home.start(Backend::Poll);
    let other = Setup::hub(&home.net, 2, &[]).under(
        "[server]",
        &format!("data_dir = \"{}\"", home.data.display()),
    );
    let (status, said) = refusal(&other);
    assert_eq!(status, Some(1));
    assert!(
        said.contains("server.data_dir: ") && said.contains("in use"),
        "{said}"
    );

    let file = home.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let other = Setup::hub(&home.net, 2, &[])
        .under("[server]", &format!("data_dir = \"{}\"", file.display()));
    let (status, said) = refusal(&other);
    assert_eq!(status, Some(1));
    assert!(said.contains("server.data_dir: cannot create "), "{said}");
}

/// A file system in memory.
struct Mount {
    path: PathBuf,
    /// Removed after it is unmounted.
    folder: Option<tempfile::TempDir>,
}

impl Mount {
    /// One of so many octets.
    fn new(len: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Self::over(folder.path(), &format!("size={len}"));
        mount.folder = Some(folder);
        mount
    }

    fn over(path: &Path, options: &str) -> Self {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(path)
            .status();
        assert!(status.is_ok_and(|status| status.success()), "mount");
        Self {
            path: path.to_owned(),
            folder: None,
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.path).status();
        assert!(status.is_ok_and(|status| status.success()), "umount");
    }
}

fn on(mount: &Mount, net: &Net, interval: &str) -> Setup {
    Setup::hub(net, 1, &[])
        .under(
            "[server]",
            &format!("data_dir = \"{}\"", mount.path().display()),
        )
        .under("[server]", &format!("snapshot_interval = \"{interval}\""))
}

/// Goal: on a full disk the hub goes on, says so once, keeps the last snapshot, and takes the next
/// one when there is room again; a stop on a full disk says that the state is not saved, and a start
/// on one works.
#[test]
#[ignore = "needs root to mount a file system"]
fn a_full_disk_stops_snapshots_and_nothing_else() {
    let (net, disk) = (Net::claim(), Mount::new(4 << 20));
    let mut hub = Hub::start(&on(&disk, &net, "1s"), Backend::Poll);
    let mut connection = hub.redis();
    let () = connection.set("k", "v").unwrap();
    let taken = |hub: &Hub| hub.metric("scsp_snapshot_timestamp_seconds", &[]).unwrap();
    let failures = |hub: &Hub| hub.count("scsp_snapshot_failures_total", &[]);
    let first = taken(&hub);
    eventually("a snapshot is taken", || taken(&hub) > first);
    fs::write(disk.path().join("ballast"), vec![0; 3 << 20]).unwrap();
    let fill = || {
        let mut pipe = redis::pipe();
        for n in 0..2000 {
            pipe.set(format!("key:{n}"), "v".repeat(1000)).ignore();
        }
        let () = pipe.query(&mut hub.redis()).unwrap();
    };
    fill();
    let before = failures(&hub);
    eventually("snapshots fail", || failures(&hub) >= before + 3);
    let last = taken(&hub);
    assert_eq!(info(&mut connection, "rdb_last_bgsave_status"), "err");
    let warnings = |hub: &Hub| hub.log().matches("snapshot failed").count();
    assert_eq!(warnings(&hub), 1, "{}", hub.log());
    assert!(hub.log().contains("os error 28"), "{}", hub.log());
    let value: String = connection.get("key:7").unwrap();
    assert_eq!(value.len(), 1000);
    assert!(taken(&hub) >= last);
    assert!(disk.path().join("snapshot").exists());

    // Room again.
    fs::remove_file(disk.path().join("ballast")).unwrap();
    eventually("a snapshot is taken again", || taken(&hub) > last + 0.5);
    assert_eq!(info(&mut connection, "rdb_last_bgsave_status"), "ok");

    // Full at the stop, and at the start.
    let left = 3 << 20;
    let _ = fs::write(disk.path().join("ballast"), vec![0; left]);
    hub.signal(Signal::TERM);
    let status = hub.wait_for_end();
    assert_eq!(status.code(), Some(1), "{}", hub.log());
    assert!(hub.log().contains("last snapshot failed"), "{}", hub.log());
    hub.restart();
    hub.wait_until_serving();
    let size: usize = redis::cmd("DBSIZE").query(&mut hub.redis()).unwrap();
    assert_eq!(size, 2001);
}

/// Goal: a directory that becomes read-only stops snapshots and nothing else; one that is at the
/// start ends it.
#[test]
#[ignore = "needs root to mount a file system"]
fn a_read_only_disk_stops_snapshots_and_nothing_else() {
    let (net, disk) = (Net::claim(), Mount::new(4 << 20));
    let setup = on(&disk, &net, "1s");
    let mut hub = Hub::start(&setup, Backend::Poll);
    let mut connection = hub.redis();
    let failures = |hub: &Hub| hub.count("scsp_snapshot_failures_total", &[]);
    // Over the first one, whose files the hub has open.
    let _read_only = Mount::over(disk.path(), "ro");
    eventually("snapshots fail", || failures(&hub) >= 2);
    let () = connection.set("k", "v").unwrap();
    assert_eq!(hub.log().matches("snapshot failed").count(), 1);
    hub.kill();
    let (status, said) = refusal(&setup);
    assert_eq!(status, Some(1));
    assert!(
        said.contains("server.data_dir: ") && said.contains("os error 30"),
        "{said}"
    );
}
