//! How many system calls a process makes, counted by strace.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::hub::Hub;
use crate::process::Process;
use crate::wait;

const ATTACH_TIMEOUT: Duration = Duration::from_secs(30);

/// An attached strace.
pub(crate) struct Strace {
    process: Process,
    counts: PathBuf,
    _dir: TempDir,
}

impl Strace {
    /// Counts the calls of the first and the last hub.
    pub(crate) fn attach_all(hubs: &[Hub]) -> anyhow::Result<Vec<Self>> {
        let ends = [hubs.first(), hubs.last()];
        ends.into_iter()
            .flatten()
            .map(|hub| Self::attach(hub.pid()))
            .collect()
    }

    /// Starts counting; returns once all threads are watched.
    fn attach(pid: Pid) -> anyhow::Result<Self> {
        let dir = TempDir::with_prefix("scsp-load-").context("cannot make a temporary folder")?;
        let counts = dir.path().join("counts");
        let mut command = Command::new("strace");
        command.args(["-c", "-f", "-o"]).arg(&counts);
        command.arg("-p").arg(pid.to_string());
        let mut process = Process::start("strace", &mut command, &dir.path().join("log"))?;
        wait::until("strace", ATTACH_TIMEOUT, Duration::from_millis(5), || {
            process.check()?;
            Ok(process.log_end().contains("attached").then_some(()))
        })?;
        Ok(Self {
            process,
            counts,
            _dir: dir,
        })
    }

    /// Stops counting; the counts in order.
    pub(crate) fn finish_all(traces: Vec<Self>) -> anyhow::Result<Vec<u64>> {
        traces.into_iter().map(Self::finish).collect()
    }

    fn finish(self) -> anyhow::Result<u64> {
        self.process.end(Signal::INT)?;
        let text = fs::read_to_string(&self.counts)?;
        total(&text).with_context(|| format!("strace counted nothing:\n{text}"))
    }
}

/// The number of calls on the last line of a table of `strace -c`.
fn total(table: &str) -> Option<u64> {
    let mut words = table.lines().last()?.split_ascii_whitespace();
    let calls = words.nth(3)?.parse().ok();
    calls.filter(|_| words.last() == Some("total"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the total is found with and without a column of errors.
    #[test]
    fn totals_are_read() {
        let table = "% time     seconds  usecs/call     calls    errors syscall\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     100.00    0.000000           0       144        19 total\n";
        assert_eq!(total(table), Some(144));
        assert_eq!(total(&table.replace("       19", "")), Some(144));
        assert_eq!(total("nothing"), None);
    }
}
