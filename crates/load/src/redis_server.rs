//! redis-server as a child process.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::cli::Sync;
use crate::connection::Connection;
use crate::process::Process;
use crate::wait;

const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// A primary and the place of its replica, which is started when its time comes.
pub(crate) struct RedisPair<'a> {
    program: &'a Path,
    sync: Sync,
    pub(crate) primary: RedisServer,
    dir: TempDir,
}

impl<'a> RedisPair<'a> {
    /// Starts the primary.
    pub(crate) fn start(program: &'a Path, sync: Sync) -> anyhow::Result<Self> {
        let dir = TempDir::with_prefix("scsp-load-").context("cannot make a temporary folder")?;
        let mut primary = RedisServer::spawn(program, "primary", dir.path(), sync, None)?;
        primary.wait_ready()?;
        Ok(Self {
            program,
            sync,
            primary,
            dir,
        })
    }

    /// Starts an empty replica; does not wait until it serves.
    pub(crate) fn start_replica(&self) -> anyhow::Result<RedisServer> {
        let primary = Some(self.primary.address);
        RedisServer::spawn(self.program, "replica", self.dir.path(), self.sync, primary)
    }
}

/// One running server.
pub(crate) struct RedisServer {
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
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
    pub(crate) fn is_synced(&mut self, records: u64) -> anyhow::Result<bool> {
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
    pub(crate) fn replication(&mut self, field: &str) -> anyhow::Result<u64> {
        let info = self.control()?.info("replication")?;
        let value = info
            .get(field)
            .with_context(|| format!("INFO replication: no {field}"))?;
        Ok(value.parse()?)
    }

    /// Asks it to stop and waits for the end.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
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
