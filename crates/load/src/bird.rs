//! BIRD 2 as two child processes: one announces routes, the other learns them, by iBGP or OSPF.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::cli::Shape;
use crate::pair::Pair;
use crate::process::{Process, Usage};
use crate::report::{Better, Report};
use crate::wait;

const READY_TIMEOUT: Duration = Duration::from_mins(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at how many routes there are.
const LOOK: Duration = Duration::from_millis(2);
/// A pause of this length in which no route comes is one that BIRD makes, not work.
const STALL_MIN: Duration = Duration::from_millis(500);
/// The first route, 20.0.0.0/32; the following ones follow.
const FIRST_ROUTE: u32 = 20 << 24;
const NAMES: [&str; 2] = ["source", "copy"];
/// Addresses of the two ends of the link between two namespaces.
const LINK: [&str; 2] = ["10.97.0.1", "10.97.0.2"];

/// The two of them; neither runs yet.
pub(crate) struct BirdPair<'a> {
    program: &'a Path,
    running: Vec<Process>,
    /// After the processes, so that it goes when they are gone.
    protocol: Protocol,
    /// From the first route at the copy until the last one.
    progress: Progress,
    exchange: Exchange,
    dir: TempDir,
}

enum Protocol {
    /// Both on loopback, at this port.
    Bgp(u16),
    Ospf(Namespaces),
}

impl<'a> BirdPair<'a> {
    /// iBGP; all routes have the same attributes.
    pub(crate) fn bgp(program: &'a Path) -> anyhow::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        Self::new(program, Protocol::Bgp(port.port()))
    }

    /// OSPF; every route is an external LSA.
    pub(crate) fn ospf(program: &'a Path) -> anyhow::Result<Self> {
        Self::new(program, Protocol::Ospf(Namespaces::make()?))
    }

    fn new(program: &'a Path, protocol: Protocol) -> anyhow::Result<Self> {
        let dir = TempDir::with_prefix("scsp-load-").context("cannot make a temporary folder")?;
        fs::write(dir.path().join("routes"), "")?;
        // It calls itself once for each of many routes, deeper than the usual limit; ours is also its.
        let mut stack = getrlimit(Resource::Stack);
        stack.current = stack.maximum;
        setrlimit(Resource::Stack, stack).context("cannot raise the limit of the stack")?;
        Ok(Self {
            program,
            protocol,
            running: Vec::new(),
            progress: Progress::default(),
            exchange: Exchange::default(),
            dir,
        })
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn socket(&self, which: usize) -> PathBuf {
        self.path(&format!("{}.ctl", NAMES[which]))
    }

    fn start(&mut self, which: usize) -> anyhow::Result<()> {
        let name = NAMES[which];
        let config = self.path(&format!("{name}.conf"));
        fs::write(&config, self.configuration(which))?;
        let mut command = match &self.protocol {
            Protocol::Bgp(_) => Command::new(self.program),
            Protocol::Ospf(namespaces) => namespaces.command(which, self.program),
        };
        command.arg("-f").arg("-c").arg(&config);
        command.arg("-s").arg(self.socket(which));
        command.arg("-P").arg(self.path(&format!("{name}.pid")));
        let log = self.path(&format!("{name}.out"));
        let process = Process::start(&format!("bird {name}"), &mut command, &log)?;
        self.running.push(process);
        Ok(())
    }

    fn configuration(&self, which: usize) -> String {
        let log = self.path(&format!("{}.log", NAMES[which]));
        let routes = self.path("routes");
        let (export, import) = [("all", "none"), ("none", "all")][which];
        let channel = format!("ipv4 {{ import {import}; export {export}; next hop self; }};");
        let protocol = match &self.protocol {
            Protocol::Bgp(port) => {
                let (own, other) = (which + 1, 2 - which);
                format!(
                    "protocol bgp peer1 {{\n local 127.0.0.{own} port {port} as 65000;\n \
                     neighbor 127.0.0.{other} port {port} as 65000;\n strict bind on; multihop;\n \
                     connect delay time 1; connect retry time 1; error wait time 1, 1;\n \
                     {channel}\n}}\n"
                )
            }
            Protocol::Ospf(_) => {
                let channel = channel
                    .replace(" next hop self;", "")
                    .replace("import none", "import all");
                format!(
                    "protocol ospf v2 peer1 {{\n {channel}\n area 0 {{\n  \
                     interface \"scsp*\" {{ type ptp; hello 1; dead 4; }};\n }};\n}}\n"
                )
            }
        };
        let source = if which == 0 {
            format!(
                "protocol static feed1 {{\n ipv4;\n include \"{}\";\n}}\n",
                routes.display()
            )
        } else {
            String::new()
        };
        format!(
            "log \"{}\" all;\ntimeformat log iso long us;\nrouter id {};\nprotocol device {{}}\n\
             {source}{protocol}",
            log.display(),
            LINK[which],
        )
    }

    /// Routes in the table of one of them.
    fn routes(&self, which: usize) -> anyhow::Result<u32> {
        let answer = ask(&self.socket(which), "show route count")?;
        count_of_routes(&answer).with_context(|| format!("no count of routes in {answer:?}"))
    }

    fn wait_for_routes(&self, which: usize, routes: u32, timeout: Duration) -> anyhow::Result<()> {
        wait::until("routes", timeout, LOOK, || {
            Ok((self.routes(which).unwrap_or(0) >= routes).then_some(()))
        })
    }

    fn usage(&self, which: usize) -> anyhow::Result<Usage> {
        let process = self.running.get(which).context("it does not run yet")?;
        Ok(process.usage())
    }
}

impl Pair for BirdPair<'_> {
    fn start_source(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let (server, system) = match self.protocol {
            Protocol::Bgp(_) => ("bird-bgp", "bird iBGP, routes of identical attributes"),
            Protocol::Ospf(_) => ("bird-ospf", "bird OSPF, external LSAs"),
        };
        system.clone_into(&mut report.system);
        report.set("server", &server);
        self.start(0)?;
        let socket = self.socket(0);
        let status = wait::until("bird", READY_TIMEOUT, LOOK, || {
            self.running[0].check()?;
            Ok(ask(&socket, "show status").ok())
        })?;
        let version = status.lines().find_map(|line| line.split("BIRD ").nth(1));
        report.set("version", &version.unwrap_or_default());
        Ok(())
    }

    fn load(&mut self, records: u32, _: Shape) -> anyhow::Result<()> {
        let mut text = String::new();
        for number in 0..records {
            let address = Ipv4Addr::from(FIRST_ROUTE + number);
            writeln!(text, "route {address}/32 unreachable;").expect("a text grows");
        }
        fs::write(self.path("routes"), text)?;
        let answer = ask(&self.socket(0), "configure")?;
        anyhow::ensure!(!answer.contains("rror"), "configure: {answer}");
        self.wait_for_routes(0, records, READY_TIMEOUT)
    }

    fn source(&mut self) -> anyhow::Result<Usage> {
        self.usage(0)
    }

    fn start_copy(&mut self) -> anyhow::Result<()> {
        self.start(1)
    }

    fn wait_copied(&mut self, records: u32, timeout: Duration) -> anyhow::Result<()> {
        let is_ospf = matches!(self.protocol, Protocol::Ospf(_));
        let (mut progress, mut exchange) = (Progress::default(), Exchange::default());
        let socket = self.socket(1);
        // OSPF learns the link as well.
        let records = records + u32::from(is_ospf);
        wait::until("all routes", timeout, LOOK, || {
            self.running[1].check()?;
            if is_ospf && exchange.full.is_none() {
                let answer = ask(&socket, "show ospf neighbors").unwrap_or_default();
                exchange.note(Instant::now(), &answer);
                return Ok(None);
            }
            // While it starts, nobody listens.
            let answer = ask(&socket, "show route count").unwrap_or_default();
            let routes = count_of_routes(&answer).unwrap_or(0);
            progress.note(Instant::now(), routes);
            Ok((routes >= records).then_some(()))
        })?;
        (self.progress, self.exchange) = (progress, exchange);
        Ok(())
    }

    fn copy(&mut self) -> anyhow::Result<Usage> {
        self.usage(1)
    }

    fn report(&mut self, _: u32, report: &mut Report) -> anyhow::Result<()> {
        let mut add = |name: &str, span: Duration| {
            report.add(name, "s", Better::Less, span.as_secs_f64());
        };
        match self.protocol {
            Protocol::Bgp(_) => {
                add("first to last record", self.progress.took());
                let worked = self.progress.worked();
                add("first to last record without stalls", worked);
            }
            Protocol::Ospf(_) => {
                let span = self.exchange.took().context("the exchange was not seen")?;
                add("exchange start to full", span);
            }
        }
        Ok(())
    }

    fn are_equal(&mut self, timeout: Duration) -> anyhow::Result<bool> {
        self.wait_for_routes(1, self.routes(0)?, timeout)?;
        let tables: Vec<_> = (0..2)
            .map(|which| ask(&self.socket(which), "show route"))
            .collect::<anyhow::Result<_>>()?;
        Ok(networks(&tables[0]) == networks(&tables[1]))
    }

    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let outputs = self.running.iter().map(Process::log_end);
        outputs.fold(error, |error, output| match &*output {
            "" => error,
            output => anyhow::anyhow!("{error:#}\n{output}"),
        })
    }

    fn stop(mut self: Box<Self>) -> anyhow::Result<()> {
        std::mem::take(&mut self.running)
            .into_iter()
            .try_for_each(Process::stop)
    }
}

/// How the number of routes grew.
#[derive(Debug, Default)]
struct Progress {
    first: Option<Instant>,
    last: Option<Instant>,
    routes: u32,
    stalled: Duration,
}

impl Progress {
    fn note(&mut self, now: Instant, routes: u32) {
        if routes <= self.routes {
            return;
        }
        let pause = self.last.map_or(Duration::ZERO, |last| now - last);
        if pause >= STALL_MIN {
            self.stalled += pause;
        }
        self.first.get_or_insert(now);
        (self.last, self.routes) = (Some(now), routes);
    }

    fn took(&self) -> Duration {
        let span = self.first.zip(self.last).map(|(first, last)| last - first);
        span.unwrap_or_default()
    }

    fn worked(&self) -> Duration {
        self.took().saturating_sub(self.stalled)
    }
}

/// How the exchange of OSPF went on.
#[derive(Debug, Default)]
struct Exchange {
    /// The last look at which it had not begun.
    before: Option<Instant>,
    full: Option<Instant>,
}

impl Exchange {
    /// Takes in an answer to `show ospf neighbors`; whether the exchange is over.
    fn note(&mut self, now: Instant, answer: &str) -> bool {
        if answer.contains("Full/") {
            self.full.get_or_insert(now);
        } else if !answer.contains("Exchange/") && !answer.contains("Loading/") {
            self.before = Some(now);
        }
        self.full.is_some()
    }

    fn took(&self) -> Option<Duration> {
        let (before, full) = self.before.zip(self.full)?;
        Some(full - before)
    }
}

/// Two network namespaces with a link between them; gone when dropped.
struct Namespaces([String; 2]);

impl Namespaces {
    fn make() -> anyhow::Result<Self> {
        let id = std::process::id();
        let names = [0, 1].map(|which| format!("scsp-load-{id}-{which}"));
        let made = Self(names);
        for name in &made.0 {
            ip(&["netns", "add", name])?;
        }
        let [a, b] = &made.0;
        ip(&[
            "-n", a, "link", "add", "scsp0", "type", "veth", "peer", "name", "scsp1", "netns", b,
        ])?;
        for (which, name) in made.0.iter().enumerate() {
            let (device, address) = (format!("scsp{which}"), format!("{}/30", LINK[which]));
            ip(&["-n", name, "address", "add", &address, "dev", &device])?;
            ip(&["-n", name, "link", "set", &device, "up"])?;
        }
        Ok(made)
    }

    fn command(&self, which: usize, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0[which]]).arg(program);
        command
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.0 {
            // One that was not made is as good as gone.
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

fn ip(words: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(words)
        .output()
        .context("cannot start ip (iproute2)")?;
    anyhow::ensure!(
        output.status.success(),
        "ip {}: {}; OSPF needs root for network namespaces",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// One command at the control socket; the lines of its answer.
fn ask(socket: &Path, command: &str) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    answer(&mut lines)?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    answer(&mut lines)
}

/// Reads until a line starts with four digits and a space, which ends an answer.
fn answer(lines: &mut impl BufRead) -> anyhow::Result<String> {
    let mut answer = String::new();
    loop {
        let start = answer.len();
        anyhow::ensure!(lines.read_line(&mut answer)? > 0, "bird hung up");
        let line = &answer.as_bytes()[start..];
        if line.len() > 4 && line[..4].iter().all(u8::is_ascii_digit) && line[4] == b' ' {
            return Ok(answer);
        }
    }
}

/// The first number of `N of M routes for K networks in table master4`.
fn count_of_routes(answer: &str) -> Option<u32> {
    let line = answer
        .lines()
        .find(|line| line.ends_with("table master4"))?;
    let (count, _) = line.get(5..)?.split_once(' ')?;
    count.parse().ok()
}

/// The networks of `show route`, sorted.
fn networks(answer: &str) -> Vec<&str> {
    let words = answer.split_ascii_whitespace();
    let mut networks: Vec<_> = words
        .filter_map(|word| word.rsplit('-').next())
        .filter(|word| word.ends_with("/32"))
        .collect();
    networks.sort_unstable();
    networks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: counts and networks are read from answers as BIRD gives them.
    #[test]
    fn answers_are_read() {
        let text = "0001 BIRD 2.0.12 ready.\n0014-1000 of 1001 routes for 1002 networks in table master4\n \
                    0 of 0 routes for 0 networks in table master6\n0014 Total: x\nmore";
        let mut lines = BufReader::new(text.as_bytes());
        assert_eq!(answer(&mut lines).unwrap(), "0001 BIRD 2.0.12 ready.\n");
        let count = answer(&mut lines).unwrap();
        assert!(count.ends_with("Total: x\n"));
        assert_eq!(count_of_routes(&count), Some(1000));
        assert!(answer(&mut lines).is_err());
        let routes = "1007-Table master4:\n 20.0.0.1/32   unreachable [feed1 22:33:04.4] * (200)\n\
                      1007-20.0.0.0/32   unicast\n0000 \n";
        assert_eq!(networks(routes), ["20.0.0.0/32", "20.0.0.1/32"]);
    }

    /// Goal: the exchange is timed from the last look before it to the first one after it, and being
    /// set back to its start begins anew.
    #[test]
    fn exchanges_are_timed() {
        let start = Instant::now();
        let mut exchange = Exchange::default();
        let states = [
            "", "Init", "ExStart", "Exchange", "ExStart", "ExStart", "Loading", "Full", "Full",
        ];
        for (ms, state) in (0..).zip(states) {
            assert!(exchange.took().is_none());
            let answer = format!(
                "peer1:\n1015-10.97.0.1 \t  1\t{state}/PtP \t 3.9 scsp1 10.97.0.1\n0000 \n"
            );
            if exchange.note(start + Duration::from_millis(ms), &answer) {
                break;
            }
        }
        assert_eq!(exchange.took(), Some(Duration::from_millis(2)));
    }

    /// Goal: a pause without routes is told from slow progress.
    #[test]
    fn stalls_are_left_out() {
        let start = Instant::now();
        let mut progress = Progress::default();
        for (ms, routes) in [(0, 0), (10, 5), (400, 6), (900, 9), (1500, 9), (3900, 10)] {
            progress.note(start + Duration::from_millis(ms), routes);
        }
        assert_eq!(progress.took(), Duration::from_millis(3890));
        assert_eq!(progress.worked(), Duration::from_millis(390));
    }
}
