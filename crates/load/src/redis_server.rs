//! redis-server as a child process, and a primary with its replica.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::cli::{Shape, Sync};
use crate::connection::Connection;
use crate::pair::Pair;
use crate::process::{Process, Usage};
use crate::report::Report;
use crate::{state, wait, work};

const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// A primary and its replica; neither runs yet.
pub(crate) struct RedisPair<'a> {
    program: &'a Path,
    sync: Sync,
    primary: Option<RedisServer>,
    replica: Option<RedisServer>,
    dir: TempDir,
}

impl<'a> RedisPair<'a> {
    /// Makes the place for both.
    pub(crate) fn new(program: &'a Path, sync: Sync) -> anyhow::Result<Self> {
        let dir = TempDir::with_prefix("scsp-load-").context("cannot make a temporary folder")?;
        Ok(Self {
            program,
            sync,
            primary: None,
            replica: None,
            dir,
        })
    }

    /// The primary, which runs.
    pub(crate) fn primary(&mut self) -> anyhow::Result<&mut RedisServer> {
        self.primary.as_mut().context("there is no primary yet")
    }

    /// The replica, which runs.
    pub(crate) fn replica(&mut self) -> anyhow::Result<&mut RedisServer> {
        self.replica.as_mut().context("there is no replica yet")
    }

    /// Waits until the replica has got everything that was written at the primary.
    pub(crate) fn wait_caught_up(&mut self, timeout: Duration) -> anyhow::Result<()> {
        let pause = Duration::from_millis(1);
        wait::until("the replica's offset", timeout, pause, || {
            let offset = self.primary()?.replication("master_repl_offset")?;
            let reached = self.replica()?.replication("slave_repl_offset")?;
            Ok((reached >= offset).then_some(()))
        })
    }

    fn spawn(&self, name: &str, primary: Option<SocketAddr>) -> anyhow::Result<RedisServer> {
        RedisServer::spawn(self.program, name, self.dir.path(), self.sync, primary)
    }
}

impl Pair for RedisPair<'_> {
    fn start_source(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let mut primary = self.spawn("primary", None)?;
        primary.wait_ready()?;
        let version = primary.control()?.info("server")?.remove("redis_version");
        self.primary = Some(primary);
        report.system = format!("redis {}", self.sync.label());
        report.set("server", &"redis");
        report.set("sync", &self.sync.label());
        report.set("version", &version.unwrap_or_default());
        Ok(())
    }

    fn load(&mut self, records: u32, shape: Shape) -> anyhow::Result<()> {
        work::load(self.primary()?.address, records, 1, shape)
    }

    fn source(&mut self) -> anyhow::Result<Usage> {
        Ok(self.primary()?.process.usage())
    }

    fn start_copy(&mut self) -> anyhow::Result<()> {
        let primary = Some(self.primary()?.address);
        self.replica = Some(self.spawn("replica", primary)?);
        Ok(())
    }

    fn wait_copied(&mut self, records: u32, timeout: Duration) -> anyhow::Result<()> {
        let pause = Duration::from_millis(1);
        wait::until("the replica", timeout, pause, || {
            let synced = self.replica()?.is_synced(u64::from(records))?;
            Ok(synced.then_some(()))
        })
    }

    fn copy(&mut self) -> anyhow::Result<Usage> {
        Ok(self.replica()?.process.usage())
    }

    fn report(&mut self, _: u32, _: &mut Report) -> anyhow::Result<()> {
        Ok(())
    }

    fn are_equal(&mut self, _: Duration) -> anyhow::Result<bool> {
        let primary = state::of_redis(self.primary()?.control()?)?;
        Ok(primary == state::of_redis(self.replica()?.control()?)?)
    }

    fn stop(mut self: Box<Self>) -> anyhow::Result<()> {
        for server in [self.replica.take(), self.primary.take()] {
            server.map_or(Ok(()), RedisServer::stop)?;
        }
        Ok(())
    }
}

/// One running server.
pub(crate) struct RedisServer {
    pub(crate) address: SocketAddr,
    process: Process,
    control: Option<Connection>,
}

impl RedisServer {
    fn spawn(
        program: &Path,
        name: &str,
        dir: &Path,
        sync: Sync,
        primary: Option<SocketAddr>,
    ) -> anyhow::Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let home = dir.join(name);
        fs::create_dir(&home)?;
        let mut command = Command::new(program);
        command.arg("--port").arg(address.port().to_string());
        command.arg("--dir").arg(&home);
        for option in [
            "bind 127.0.0.1",
            "daemonize no",
            "appendonly no",
            "loglevel notice",
        ] {
            set_option(&mut command, option);
        }
        command.args(["--save", ""]);
        for option in sync_options(sync) {
            set_option(&mut command, option);
        }
        if let Some(primary) = primary {
            let (ip, port) = (primary.ip().to_string(), primary.port().to_string());
            command.args(["--replicaof", &ip, &port]);
        }
        let log = dir.join(format!("{name}.log"));
        let process = Process::start(name, &mut command, &log)?;
        Ok(Self {
            address,
            process,
            control: None,
        })
    }

    fn wait_ready(&mut self) -> anyhow::Result<()> {
        wait::until(
            "redis-server",
            READY_TIMEOUT,
            Duration::from_millis(5),
            || {
                self.process.check()?;
                let answer = self.control().and_then(|control| control.ask("PING"));
                Ok(answer.is_ok().then_some(()))
            },
        )
    }

    /// A connection for single commands, kept.
    pub(crate) fn control(&mut self) -> anyhow::Result<&mut Connection> {
        if self.control.is_none() {
            self.control = Some(Connection::open(self.address)?);
        }
        Ok(self.control.as_mut().expect("just opened"))
    }

    /// Whether this replica's link is up and it holds `records` keys; one that does not answer
    /// yet does not.
    fn is_synced(&mut self, records: u64) -> anyhow::Result<bool> {
        self.process.check()?;
        let synced = self.control().and_then(|control| {
            let info = control.info("replication")?;
            let is_up = info
                .get("master_link_status")
                .is_some_and(|status| status == "up");
            Ok(is_up && control.integer("DBSIZE")? == records)
        });
        if synced.is_err() {
            self.control = None;
        }
        Ok(synced.unwrap_or(false))
    }

    /// A number from INFO replication.
    fn replication(&mut self, field: &str) -> anyhow::Result<u64> {
        let info = self.control()?.info("replication")?;
        let value = info
            .get(field)
            .with_context(|| format!("INFO replication: no {field}"))?;
        Ok(value.parse()?)
    }

    /// Asks it to stop and waits for the end.
    fn stop(self) -> anyhow::Result<()> {
        self.process.stop()
    }
}

fn set_option(command: &mut Command, option: &str) {
    let (name, value) = option
        .split_once(' ')
        .expect("options have a name and a value");
    command.arg(format!("--{name}")).arg(value);
}

const fn sync_options(sync: Sync) -> &'static [&'static str] {
    match sync {
        Sync::Default => &[],
        Sync::Disk => &["repl-diskless-sync no", "repl-diskless-load disabled"],
        Sync::Diskless => &[
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
            "repl-diskless-load swapdb",
        ],
    }
}
