//! Real hubs for the integration tests: each runs the `scspd` program on loopback addresses of its
//! own test, and is killed when it goes out of scope.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod neighbour;
pub(crate) mod raw;
pub(crate) mod records;
pub(crate) mod segment;
pub(crate) mod setup;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value as Json;
use tempfile::TempDir;

pub(crate) use setup::Setup;

/// What is waited for must come within this time, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// Which I/O backend a hub is to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    IoUring,
    Poll,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Poll => "poll",
        }
    }

    /// Whether this machine allows it; says so when it does not.
    pub(crate) fn is_usable(self) -> bool {
        static REFUSAL: OnceLock<Option<String>> = OnceLock::new();
        if self == Self::Poll {
            return true;
        }
        // A ring that closes may interrupt system calls of the thread that made it.
        let refusal =
            REFUSAL.get_or_init(|| thread::spawn(io_uring_refusal).join().expect("probed"));
        if let Some(reason) = refusal {
            eprintln!("skipped: {reason}");
        }
        refusal.is_none()
    }
}

/// Why this machine has no `io_uring`, if so.
fn io_uring_refusal() -> Option<String> {
    let selected = scsp_net::select(scsp_net::BackendChoice::Auto).expect("some backend works");
    (selected.backend == scsp_net::Backend::Poll).then(|| selected.reason.unwrap_or_default())
}

/// Makes two tests of each scenario, one on each I/O backend.
macro_rules! on_both_backends {
    ($($name:ident),* $(,)?) => {
        mod io_uring {
            $(#[test]
            fn $name() {
                if $crate::support::Backend::IoUring.is_usable() {
                    super::$name($crate::support::Backend::IoUring);
                }
            })*
        }
        mod poll {
            $(#[test]
            fn $name() {
                super::$name($crate::support::Backend::Poll);
            })*
        }
    };
}
pub(crate) use on_both_backends;

/// Waits for `look` to succeed; its last complaint is the failure.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(complaint) if Instant::now() >= deadline => panic!("{what}: {complaint}"),
            Err(_) => thread::sleep(LOOK),
        }
    }
}

/// Waits for a condition.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || {
        condition()
            .then_some(())
            .ok_or_else(|| "does not come true".to_owned())
    });
}

/// 254 loopback addresses that no other test uses, so that every hub has the usual ports.
#[derive(Debug)]
pub(crate) struct Net {
    prefix: String,
    _claim: UdpSocket,
}

impl Net {
    pub(crate) fn claim() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = std::process::id().wrapping_mul(61).wrapping_add(number) % (200 * 256);
            let prefix = format!("127.{}.{}.", 50 + number / 256, number % 256);
            if let Ok(claim) = UdpSocket::bind(format!("{prefix}254:2333")) {
                return Self {
                    prefix,
                    _claim: claim,
                };
            }
        }
    }

    /// The first three numbers of the addresses, and the point behind them.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn address(&self, host: u8, port: u16) -> SocketAddr {
        format!("{}{host}:{port}", self.prefix)
            .parse()
            .expect("an address")
    }
}

/// The program under test, without what the caller's environment would add.
pub(crate) fn scspd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scspd"));
    for name in ["RUST_LOG", "NOTIFY_SOCKET", "STATE_DIRECTORY"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// A hub in a process of its own.
#[derive(Debug)]
pub(crate) struct Hub {
    child: Option<Child>,
    folder: TempDir,
    /// First TCP address of the client interface.
    client: Option<SocketAddr>,
    admin: SocketAddr,
}

impl Hub {
    /// Starts a hub and waits until it is up; without neighbours, until it serves.
    pub(crate) fn start(setup: &Setup, backend: Backend) -> Self {
        let mut hub = Self::spawn(setup, backend);
        hub.wait_until_up();
        if !setup.text().contains("[[group.peer]]") && hub.client.is_some() {
            hub.wait_until_serving();
        }
        hub
    }

    /// Starts several hubs at once and waits until all are up.
    pub(crate) fn start_all<const N: usize>(setups: [&Setup; N], backend: Backend) -> [Self; N] {
        let mut hubs = setups.map(|setup| Self::spawn(setup, backend));
        hubs.iter_mut().for_each(Self::wait_until_up);
        hubs
    }

    fn spawn(setup: &Setup, backend: Backend) -> Self {
        let mut text = setup.text().to_owned();
        let line = format!("backend = \"{}\"\n", backend.name());
        match text.find("[io]\n") {
            Some(at) => text.insert_str(at + "[io]\n".len(), &line),
            None => text.extend(["\n[io]\n", &line]),
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("hub.toml"), &text).expect("written");
        let document: toml::Table = text.parse().expect("the test's configuration is TOML");
        let tcp = |value: &toml::Value| value.as_str().and_then(|text| text.parse().ok());
        let client = document
            .get("client")
            .and_then(|client| client["listen"].as_array());
        let client = client.and_then(|addresses| addresses.iter().find_map(tcp));
        let admin = tcp(&document["admin"]["listen"]).expect("an admin address");
        let mut hub = Self {
            child: None,
            folder,
            client,
            admin,
        };
        hub.run();
        hub
    }

    fn run(&mut self) {
        let output = |name| {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(self.path(name));
            file.expect("an output file")
        };
        let child = scspd()
            .arg("--config")
            .arg(self.path("hub.toml"))
            .stdout::<File>(output("stdout"))
            .stderr::<File>(output("stderr"))
            .spawn();
        self.child = Some(child.expect("the program starts"));
    }

    fn wait_until_up(&mut self) {
        let admin = self.admin;
        let child = self.child.as_mut().expect("running");
        wait_for("the hub comes up", || {
            let status = child.try_wait().expect("a child");
            assert!(status.is_none(), "the hub ended with {status:?}");
            match try_http(admin, "/healthz") {
                Some((200, _)) => Ok(()),
                other => Err(format!("/healthz answers {other:?}")),
            }
        });
    }

    /// A file of this hub's temporary folder: `hub.toml`, `stdout`, `stderr`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// All it wrote to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(self.path("stdout")).expect("readable")
    }

    /// All it logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("stderr")).expect("readable")
    }

    pub(crate) fn client_address(&self) -> SocketAddr {
        self.client.expect("the hub listens on TCP")
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// A connection of the redis crate.
    pub(crate) fn redis(&self) -> redis::Connection {
        self.redis_with("")
    }

    /// A connection that speaks RESP3.
    pub(crate) fn redis3(&self) -> redis::Connection {
        self.redis_with("/?protocol=resp3")
    }

    fn redis_with(&self, options: &str) -> redis::Connection {
        let client = redis::Client::open(format!("redis://{}{options}", self.client_address()));
        let connection = client.expect("a URL").get_connection_with_timeout(PATIENCE);
        let connection = connection.expect("the hub accepts");
        connection
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout");
        connection
    }

    /// A connection for octets.
    pub(crate) fn raw(&self) -> raw::Raw {
        raw::Raw::connect(self.client_address())
    }

    /// Status and body of a GET.
    pub(crate) fn http(&self, path: &str) -> (u16, String) {
        try_http(self.admin, path).expect("the admin interface answers")
    }

    /// `/status`, read.
    pub(crate) fn status(&self) -> Json {
        let (code, body) = self.http("/status");
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).expect("/status is JSON")
    }

    /// Value of the series `name{labels}`; `None` when there is none.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let (code, text) = self.http("/metrics");
        assert_eq!(code, 200);
        sample(&text, name, labels)
    }

    /// Value of a counter that exists.
    #[track_caller]
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let value = self.metric(name, labels);
        let value = value.unwrap_or_else(|| panic!("no series {name}{labels:?}"));
        assert!(
            value >= 0.0 && value.fract() == 0.0,
            "{name}{labels:?} is {value}"
        );
        format!("{value}").parse().expect("a whole number")
    }

    /// State of the alignment with each neighbour.
    pub(crate) fn alignments(&self) -> Vec<String> {
        let status = self.status();
        let peers = status["peers"].as_array().expect("peers are an array");
        let state = |peer: &Json| peer["alignment"].as_str().expect("a state").to_owned();
        peers.iter().map(state).collect()
    }

    /// Waits until every neighbour is Aligned, and clients are served.
    #[track_caller]
    pub(crate) fn wait_until_aligned(&self) {
        wait_for("all neighbours are aligned", || {
            let states = self.alignments();
            if states.iter().all(|state| state == "aligned") {
                return Ok(());
            }
            Err(format!("{states:?}"))
        });
        self.wait_until_serving();
    }

    /// Waits until no worker says LOADING in any group (D-09).
    #[track_caller]
    pub(crate) fn wait_until_serving(&self) {
        let mut connection = self.redis();
        let groups: redis::Value = redis::cmd("SCSP.GROUPS")
            .query(&mut connection)
            .expect("groups");
        for group in records::array(&groups) {
            let fields = records::array(group);
            let name = records::text(&fields[1]);
            wait_for("records are served", || {
                // The scan visits every worker.
                records::try_records(&mut connection, &name, false, false)
                    .map(drop)
                    .map_err(|error| error.to_string())
            });
        }
    }

    /// The most memory it ever held, KiB.
    pub(crate) fn peak_resident_kib(&self) -> usize {
        let status = fs::read_to_string(format!(
            "/proc/{}/status",
            self.child.as_ref().expect("running").id()
        ))
        .unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).unwrap()
    }

    /// The processor time it took so far, in ticks of the clock; the thread with `name` alone, or
    /// all.
    pub(crate) fn cpu_ticks(&self, name: Option<&str>) -> u64 {
        let process = format!("/proc/{}", self.child.as_ref().expect("running").id());
        let tasks = fs::read_dir(format!("{process}/task")).expect("the process is there");
        let stats = tasks.filter_map(|task| {
            // A thread of the pool may be gone by now.
            fs::read_to_string(task.ok()?.path().join("stat")).ok()
        });
        let ticks = stats.filter_map(|stat| {
            let (head, tail) = stat.rsplit_once(')')?;
            let is_wanted = name.is_none_or(|name| head.ends_with(&format!("({name}")));
            let mut fields = tail.split_whitespace().skip(11);
            let mut next = || fields.next()?.parse::<u64>().ok();
            is_wanted.then_some(next()? + next()?)
        });
        ticks.sum()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().expect("running").id();
        let pid = i32::try_from(id)
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        kill_process(pid, signal).expect("the process exists");
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("running");
        child.kill().expect("killed");
        let status = child.wait().expect("a child");
        assert_eq!(
            status.signal(),
            Some(9),
            "it ended before it was killed: {status}"
        );
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("running");
        wait_for("the hub ends", || {
            match child.try_wait().expect("a child") {
                Some(status) => Ok(status),
                None => Err("it still runs".to_owned()),
            }
        })
    }

    /// Runs it again after [`kill`](Self::kill), with the same configuration.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.is_none(), "still running");
        self.run();
        self.wait_until_up();
    }

    /// The same without waiting for it to serve.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| child.try_wait().expect("a child").is_none())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!(
                "--- log of the hub with clients at {:?}:\n{}",
                self.client,
                self.log()
            );
        }
    }
}

/// Status and body of a GET; `None` when nobody answers.
pub(crate) fn try_http(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// Value of the series `name{labels}` in a scrape; the order of labels does not matter.
pub(crate) fn sample(scrape: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let mut wanted: Vec<String> = labels
        .iter()
        .map(|(label, value)| format!("{label}=\"{value}\""))
        .collect();
    wanted.sort_unstable();
    scrape
        .lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, rest) = series.split_once('{').unwrap_or((series, "}"));
            let mut labels: Vec<&str> = rest.strip_suffix('}')?.split(',').collect();
            labels.retain(|label| !label.is_empty());
            labels.sort_unstable();
            (found == name && labels == wanted).then(|| value.parse().expect("a number"))
        })
}

/// The program `name` beside the one under test, if it was built.
pub(crate) fn sibling(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_scspd")).with_file_name(name);
    path.exists().then_some(path)
}
