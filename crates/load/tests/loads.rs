//! Tiny loads from end to end, with the real programs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

const BACKENDS: [&str; 2] = ["auto", "poll"];

/// The scspd program beside the one under test, built by the first test that wants it.
fn scspd() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let load = Path::new(env!("CARGO_BIN_EXE_scsp-load"));
        let folder = load.parent().expect("programs sit in folders");
        let target = folder.parent().expect("profiles sit in a folder");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--offline", "--package", "scspd", "--target-dir"]);
        cargo.arg(target);
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo.status().expect("cargo starts");
        assert!(status.success(), "scspd is not built");
        folder.join("scspd")
    })
}

fn load(words: &[&str], json: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scsp-load"))
        .args(words)
        .arg("--json")
        .arg(json)
        .output()
        .expect("the program under test starts")
}

/// Runs a test of hubs on each backend; its result has to say that all is equal, and to hold these
/// measures with values above 0.
#[track_caller]
fn hubs(words: &[&str], measures: &[&str]) {
    for backend in BACKENDS {
        let folder = TempDir::new().expect("a temporary folder");
        let json = folder.path().join("result.json");
        let scspd = scspd().to_str().expect("a path of this tree is text");
        let more = ["--scspd", scspd, "--backend", backend, "--workers", "1"];
        let output = load(&[words, &more].concat(), &json);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?} on {backend}: {said}");
        let table = String::from_utf8(output.stdout).expect("a table is text");
        assert!(table.contains("state at the end: equal"), "{table}");
        let text = fs::read_to_string(&json).expect("a result");
        let result: Value = serde_json::from_str(&text).expect("a result is JSON");
        assert_eq!(result["equal"], true);
        let used = result["settings"]["backend"].as_str();
        assert!(backend == "auto" || used == Some(backend), "{used:?}");
        for name in measures {
            let found = result["measures"].as_array().expect("a list").iter();
            let median = found
                .filter(|measure| measure["name"] == *name)
                .find_map(|measure| measure["median"].as_f64());
            assert!(median.is_some_and(|it| it > 0.0), "{name}: {median:?}");
        }
    }
}

/// Whether a program is installed; says so when it is not.
fn have(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// Goal: a cold hub gets a thousand records.
#[test]
fn align_cold() {
    let measures = [
        "start to aligned",
        "negotiation to aligned",
        "time for each record",
    ];
    hubs(&["align", "--records", "1000", "--mtu", "65535"], &measures);
}

/// Goal: hubs that missed each other align what differs.
#[test]
fn align_differences() {
    let words = ["align", "--records", "1000", "--differences", "100"];
    hubs(&words, &["contact to equal"]);
}

/// Goal: updates originated inside the first hub of a line are acknowledged up to its end, signed
/// ones too.
#[test]
fn flood_along_a_line() {
    let words = [
        "flood",
        "--hubs",
        "3",
        "--updates",
        "2000",
        "--keys",
        "1000",
        "--auth",
        "blake3-256",
    ];
    let measures = [
        "updates acknowledged end to end",
        "batch to acknowledged p99",
    ];
    hubs(&words, &measures);
}

/// Goal: commands of many clients, and probes of the second hub.
#[test]
fn clients_of_two_hubs() {
    let words = [
        "clients",
        "--keys",
        "500",
        "--commands",
        "3000",
        "--probes",
        "20",
    ];
    let measures = [
        "SET, pipeline 64, replicated",
        "GET, pipeline 1",
        "write to far read p50",
    ];
    hubs(&words, &measures);
}

/// Goal: hubs are equal at checks and at the end, although one of them is killed in between.
#[test]
fn soak_with_a_kill() {
    let words = [
        "soak",
        "--hubs",
        "2",
        "--seconds",
        "4",
        "--kill-every",
        "1",
        "--check-every",
        "2",
        "--keys",
        "200",
        "--rate",
        "200",
    ];
    hubs(&words, &["commands", "kills", "pause to equal"]);
}

/// Goal: a bad value in a further key is the hub's error, and ends the test with status 1.
#[test]
fn a_hub_that_does_not_start_is_told() {
    let folder = TempDir::new().expect("a temporary folder");
    let scspd = scspd().to_str().expect("a path of this tree is text");
    let words = [
        "align",
        "--records",
        "10",
        "--set",
        "group.no_such_key=1",
        "--scspd",
        scspd,
    ];
    let output = load(&words, &folder.path().join("result.json"));
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no_such_key"), "{said}");
}

/// A redis-server whose replica has no room, and forgets what it is sent.
fn forgetful_redis(folder: &Path) -> PathBuf {
    let path = folder.join("redis-server");
    let script = r#"#!/bin/sh
case "$*" in
    *--replicaof*)
        set -- "$@" --maxmemory 1 --maxmemory-policy allkeys-random --replica-ignore-maxmemory no
        ;;
esac
exec redis-server "$@"
"#;
    fs::write(&path, script).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

/// Goal: servers that differ at the end are found, and the exit status is 1; the same work on honest
/// ones ends with 0.
#[test]
fn differing_state_fails() {
    if !have("redis-server") {
        return;
    }
    let folder = TempDir::new().expect("a temporary folder");
    let json = folder.path().join("result.json");
    let forgetful = forgetful_redis(folder.path());
    for (redis, status) in [(Path::new("redis-server"), 0), (&forgetful, 1)] {
        let redis = redis.to_str().expect("a temporary path is text");
        let words = [
            "clients",
            "--server",
            "redis",
            "--redis",
            redis,
            "--keys",
            "100",
            "--commands",
            "2000",
            "--kinds",
            "set",
            "--probes",
            "0",
        ];
        let output = load(&words, &json);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert_eq!(
            said.contains("do not hold the same state"),
            status == 1,
            "{said}"
        );
    }
}

/// Goal: Redis and BIRD do the work of align, where they are installed.
#[test]
fn others_align() {
    for (server, program) in [("redis", "redis-server"), ("bird-bgp", "bird")] {
        if have(program) {
            let folder = TempDir::new().expect("a temporary folder");
            let words = ["align", "--records", "1000", "--server", server];
            let output = load(&words, &folder.path().join("result.json"));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{server}: {said}");
        }
    }
}

/// Goal: results that are not equal fail the summary, which still shows them.
#[test]
fn unequal_results_fail_the_summary() {
    let folder = TempDir::new().expect("a temporary folder");
    let result = |equal| {
        serde_json::json!({
            "job": "align", "system": "scspd", "settings": {}, "equal": equal,
            "measures": [
                {"name": "time", "unit": "s", "better": "less", "values": [1.0], "median": 1.0},
            ],
        })
    };
    for (equal, status) in [(true, 0), (false, 1)] {
        let path = folder.path().join("result.json");
        fs::write(&path, result(equal).to_string()).expect("written");
        let path = path.to_str().expect("a temporary path is text");
        let output = load(&["summary", path], &folder.path().join("all.json"));
        assert_eq!(output.status.code(), Some(status));
        assert!(String::from_utf8_lossy(&output.stdout).contains("| time, s | 1.00 |"));
    }
}
