//! A server as a child process, and what the kernel knows of its use of memory and processor.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::{interrupt, wait};

/// How long a server may take to stop when asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// Lines of its log that are shown when it fails.
const LOG_LINES_MAX: usize = 20;

/// A running child process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    pid: Pid,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `log`, after what is there already.
    pub(crate) fn start(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let pid = Pid::from_child(&child);
        let process = Self {
            name: name.to_owned(),
            child,
            pid,
            log: log.to_owned(),
        };
        interrupt::register(pid)?;
        Ok(process)
    }

    /// Fails with the end of its log when it has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                interrupt::forget(self.pid);
                anyhow::bail!("{} ended with {status}:\n{}", self.name, self.log_end())
            }
        }
    }

    /// The last lines of its log.
    pub(crate) fn log_end(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(self.pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Its number.
    pub(crate) const fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal and waits for the end, however it ends.
    pub(crate) fn end(mut self, signal: Signal) -> anyhow::Result<()> {
        self.signal(signal)?;
        self.wait_for_the_end().map(drop)
    }

    fn wait_for_the_end(&mut self) -> anyhow::Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::until(&what, STOP_TIMEOUT, Duration::from_millis(5), || {
            Ok(self.child.try_wait()?)
        })
    }

    /// Asks it to stop and waits until it has; an exit status other than 0 is an error.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.wait_for_the_end()?;
        anyhow::ensure!(
            status.success(),
            "{} stopped with {status}:\n{}",
            self.name,
            self.log_end()
        );
        Ok(())
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            name: self.name.clone(),
            folder: format!("/proc/{}", self.pid),
        }
    }
}

/// Memory and processor time of a process, as the kernel tells them.
#[derive(Debug)]
pub(crate) struct Usage {
    name: String,
    folder: String,
}

impl Usage {
    /// Of this program itself.
    pub(crate) fn own() -> Self {
        Self {
            name: "scsp-load".to_owned(),
            folder: "/proc/self".to_owned(),
        }
    }

    /// Octets of memory that are resident.
    pub(crate) fn resident_octets(&self) -> anyhow::Result<u64> {
        let text = self.file("status")?;
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
            .and_then(|kib| kib.trim().parse::<u64>().ok())
            .with_context(|| format!("no VmRSS for {}", self.name))?;
        Ok(kib * 1024)
    }

    /// Processor time used, with that of children that have ended.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        let text = self.file("stat")?;
        let (_, ticks) =
            processor_ticks(&text).with_context(|| format!("no times for {}", self.name))?;
        Ok(span_of(ticks))
    }

    /// Processor time used by each thread whose name starts with `prefix`, in the order of names.
    pub(crate) fn thread_times(&self, prefix: &str) -> anyhow::Result<Vec<Duration>> {
        let mut times = Vec::new();
        let tasks = format!("{}/task", self.folder);
        for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
            // A thread that has just ended is none of those that are asked for.
            let Ok(text) = fs::read_to_string(task?.path().join("stat")) else {
                continue;
            };
            if let Some((name, ticks)) = processor_ticks(&text)
                && name.starts_with(prefix)
            {
                times.push((name.to_owned(), span_of(ticks)));
            }
        }
        times.sort();
        Ok(times.into_iter().map(|(_, time)| time).collect())
    }

    fn file(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("{}/{file}", self.folder);
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }
}

fn span_of(ticks: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_millis(ticks * 1000 / per_second)
}

impl Drop for Process {
    fn drop(&mut self) {
        interrupt::forget(self.pid);
        // It may have ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Name, and utime + stime + cutime + cstime, of a `stat` file. The name may hold anything.
fn processor_ticks(stat: &str) -> Option<(&str, u64)> {
    let (name, fields) = stat.rsplit_once(')')?;
    let (_, name) = name.split_once('(')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let mut sum = 0;
    for _ in 0..4 {
        sum += times.next()?.parse::<u64>().ok()?;
    }
    Some((name, sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the four time fields are found behind a name with spaces and parentheses.
    #[test]
    fn processor_ticks_of_an_awkward_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 1 0 5 6 7";
        assert_eq!(processor_ticks(stat), Some(("a) b (c", 110)));
        assert_eq!(processor_ticks("7 (a) S 1 7"), None);
    }
}
