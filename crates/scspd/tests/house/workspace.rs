//! Arrows between crates, `unsafe`, clocks in the cores, lengths of files, reasons for dependencies.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

use crate::source::{code_only, has_word, read, root, rust_files};

/// The arrows: a package and the packages of the workspace that it may depend on.
const ARROWS: [(&str, &[&str]); 11] = [
    ("scsp-wire", &[]),
    ("scsp-profile", &["scsp-wire"]),
    ("scsp-cache", &["scsp-wire", "scsp-profile"]),
    ("scsp-engine", &["scsp-wire", "scsp-profile", "scsp-cache"]),
    ("scsp-net", &[]),
    ("scsp-resp", &[]),
    (
        "scspd",
        &[
            "scsp-wire",
            "scsp-profile",
            "scsp-cache",
            "scsp-engine",
            "scsp-net",
            "scsp-resp",
        ],
    ),
    ("scspctl", &["scsp-wire", "scsp-profile"]),
    // The daemon as a library: one hub of a load test runs within the load generator, which originates
    // there without the client protocol.
    ("scsp-load", &["scsp-wire", "scsp-profile", "scspd"]),
    (
        "scsp-sim",
        &["scsp-wire", "scsp-profile", "scsp-cache", "scsp-engine"],
    ),
    (
        "scsp-benches",
        &[
            "scsp-wire",
            "scsp-profile",
            "scsp-cache",
            "scsp-engine",
            "scsp-net",
            "scsp-resp",
        ],
    ),
];

/// Crates whose code is handed time, randomness and packets, and never fetches them.
const CORES: [&str; 4] = [
    "crates/wire/",
    "crates/profile/",
    "crates/cache/",
    "crates/engine/",
];

/// What a core may not name.
const NOT_IN_CORES: [&str; 12] = [
    "Instant::now",
    "SystemTime",
    "thread_rng",
    "RandomState",
    "rand",
    "tokio",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "std::thread",
    "std::fs",
];

/// Lines a file may have besides its tests.
const LINES_MAX: usize = 600;

/// Files that are longer, each with its reason.
const LONG_FILES: [(&str, &str); 0] = [];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field]
        .as_array()
        .unwrap_or_else(|| panic!("no list {field}"))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("no text {field}"))
}

#[test]
fn workspace_arrows_point_one_way() {
    // Goal: no crate depends on one to its right; development dependencies count too.
    let metadata = metadata();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for package in list(&metadata, "packages") {
        let name = text(package, "name");
        seen.insert(name);
        let allowed = ARROWS
            .iter()
            .find(|(from, _)| *from == name)
            .map(|(_, to)| *to);
        let Some(allowed) = allowed else {
            wrong.push(format!("{name} is not in the table of arrows"));
            continue;
        };
        for dependency in list(package, "dependencies") {
            let to = text(dependency, "name");
            let is_ours = ARROWS.iter().any(|(package, _)| *package == to);
            if is_ours && !allowed.contains(&to) {
                wrong.push(format!("{name} may not depend on {to}"));
            }
        }
    }
    let gone = ARROWS.iter().filter(|(name, _)| !seen.contains(name));
    wrong.extend(gone.map(|(name, _)| format!("{name} is not in the workspace")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stays_in_net() {
    // Goal: `unsafe` stands in one module of `net`, and every other crate forbids it.
    let mut wrong = Vec::new();
    for file in rust_files() {
        let raw =
            file.path == "crates/net/src/raw.rs" || file.path.starts_with("crates/net/src/raw/");
        if !raw && has_word(&code_only(&file.text), "unsafe") {
            wrong.push(format!(
                "{}: unsafe belongs to crates/net/src/raw",
                file.path
            ));
        }
    }
    let metadata = metadata();
    for package in list(&metadata, "packages") {
        for target in list(package, "targets") {
            let product = list(target, "kind")
                .iter()
                .any(|kind| kind == "lib" || kind == "bin");
            let path = text(target, "src_path");
            let forbids = || {
                let source = std::fs::read_to_string(path).expect("a readable source file");
                code_only(&source).contains("#![forbid(unsafe_code)]")
            };
            if product && text(package, "name") != "scsp-net" && !forbids() {
                wrong.push(format!("{path}: lacks #![forbid(unsafe_code)]"));
            }
        }
    }
    let net = code_only(&read("crates/net/src/lib.rs"));
    if net.matches("allow(unsafe_code)").count() > 1 {
        wrong.push("crates/net/src/lib.rs: allows unsafe code more than once".into());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn cores_know_no_clock() {
    // Goal: the cores are sans-IO: no clock, no randomness, no socket, no thread in their code.
    let mut wrong = Vec::new();
    for file in rust_files() {
        if CORES.iter().any(|core| file.path.starts_with(core)) {
            let code = code_only(file.product());
            let found = NOT_IN_CORES.iter().filter(|name| has_word(&code, name));
            wrong.extend(found.map(|name| format!("{}: {name}", file.path)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_short() {
    // Goal: a file can be read in one sitting; exceptions are named, and lapse when not needed.
    let files = rust_files();
    let mut wrong = Vec::new();
    for file in &files {
        let lines = file.product().lines().count();
        let excused = LONG_FILES.iter().any(|(path, _)| *path == file.path);
        if lines > LINES_MAX && !excused {
            wrong.push(format!("{}: {lines} lines without tests", file.path));
        }
        if lines <= LINES_MAX && excused {
            wrong.push(format!("{}: no longer needs its exception", file.path));
        }
    }
    let gone = LONG_FILES
        .iter()
        .filter(|(path, _)| !files.iter().any(|file| file.path == *path));
    wrong.extend(gone.map(|(path, reason)| format!("{path} ({reason}): does not exist")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_dependency_has_a_reason() {
    // Goal: `docs/dependencies.md` gives a reason for each dependency, and for nothing else.
    let metadata = metadata();
    let used: BTreeSet<&str> = list(&metadata, "packages")
        .iter()
        .flat_map(|package| list(package, "dependencies"))
        .map(|dependency| text(dependency, "name"))
        .filter(|name| !ARROWS.iter().any(|(ours, _)| ours == name))
        .collect();
    let document = read("docs/dependencies.md");
    let explained: BTreeSet<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    let missing: Vec<_> = used.difference(&explained).collect();
    assert!(missing.is_empty(), "docs/dependencies.md lacks {missing:?}");
    // A crate may be in the workspace's list before its first user arrives.
    let manifest = read("Cargo.toml");
    let unknown: Vec<_> = explained
        .iter()
        .filter(|name| !manifest.contains(&format!("\n{name} = ")))
        .collect();
    assert!(
        unknown.is_empty(),
        "docs/dependencies.md explains {unknown:?}, which nothing uses"
    );
}
