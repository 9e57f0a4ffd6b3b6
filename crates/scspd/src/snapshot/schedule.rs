//! When snapshots are taken, and what comes of them.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::clock::unix_ms;
use crate::hub::Hub;
use crate::runtime;

use super::Slice;
use super::dir::DataDir;
use super::write::{Order, WriteError, Written, write};

/// Between two warnings that snapshots fail.
const WARNING_GAP: Duration = Duration::from_mins(1);

/// The snapshots of a hub; the control thread has them.
pub struct Snapshots {
    dir: Arc<DataDir>,
    hub: Arc<Hub>,
    interval: Duration,
    due: Instant,
    /// Number of the snapshot that runs, or ran last; random at the start.
    id: u64,
    running: Option<Running>,
    warned: Option<Instant>,
}

struct Running {
    job: JoinHandle<Result<Written, WriteError>>,
    /// `None`: it was cancelled.
    filled: Option<mpsc::Sender<Box<Slice>>>,
    empty: mpsc::Receiver<Box<Slice>>,
    is_last: bool,
}

/// What is to be done for a snapshot.
#[derive(Debug)]
pub enum Event {
    /// It is time for one.
    Due,
    /// A worker is to fill the next slice.
    Fill(Box<Slice>),
    /// One has ended.
    Ended(Result<Written, WriteError>),
}

impl Snapshots {
    /// The first one is taken after `interval`.
    pub fn new(dir: DataDir, hub: Arc<Hub>, interval: Duration, seed: u64) -> Self {
        Self {
            dir: Arc::new(dir),
            hub,
            interval,
            due: Instant::now() + interval,
            id: seed,
            running: None,
            warned: None,
        }
    }

    /// Ends the running snapshot; whether there is one, which then ends soon.
    pub fn cancel(&mut self) -> bool {
        if let Some(running) = &mut self.running {
            running.filled = None;
        }
        self.running.is_some()
    }

    /// Begins a snapshot while none is running; returns the slices that the workers are to fill
    /// first.
    pub fn begin(&mut self, is_last: bool) -> Vec<Box<Slice>> {
        assert!(self.running.is_none(), "two snapshots at once");
        self.id = self.id.wrapping_add(1);
        self.due = Instant::now() + self.interval;
        let workers = self.hub.workers();
        let order = Order {
            id: self.id,
            taken_unix_ms: unix_ms(),
            is_last,
            setup: Arc::clone(&self.hub.setup),
            backend: self.hub.backend,
        };
        // Each worker has one slice.
        let (filled, slices) = mpsc::channel(workers);
        let (returns, empty) = mpsc::channel(workers);
        self.running = Some(Running {
            job: runtime::spawn(write(Arc::clone(&self.dir), order, slices, returns)),
            filled: Some(filled),
            empty,
            is_last,
        });
        self.hub.snapshots.running.set(1);
        (0..workers)
            .map(|worker| Box::new(Slice::new(self.id, worker)))
            .collect()
    }

    /// A worker has filled a slice.
    pub fn filled(&mut self, slice: Box<Slice>) {
        if let Some(running) = &self.running
            && let Some(filled) = &running.filled
            && slice.snapshot == self.id
        {
            // Where it does not fit, the job has ended.
            let _ = filled.try_send(slice);
        }
    }

    /// Waits for what is to be done next; may be dropped and called again at any time.
    pub async fn next(&mut self) -> Event {
        let Some(running) = &mut self.running else {
            tokio::time::sleep_until(self.due).await;
            return Event::Due;
        };
        let ended = tokio::select! {
            ended = &mut running.job => match ended {
                Ok(ended) => ended,
                Err(failed) => std::panic::resume_unwind(failed.into_panic()),
            },
            Some(slice) = running.empty.recv() => return Event::Fill(slice),
            else => pending().await,
        };
        let (is_last, cancelled) = (running.is_last, running.filled.is_none());
        self.running = None;
        self.hub.snapshots.running.set(0);
        if ended.is_ok() || !cancelled {
            self.note(&ended, is_last);
        }
        Event::Ended(ended)
    }

    fn note(&mut self, ended: &Result<Written, WriteError>, is_last: bool) {
        let stats = &self.hub.snapshots;
        match ended {
            Ok(written) => {
                stats.taken_unix_ms.set(written.taken_unix_ms);
                let took = u64::try_from(written.took.as_micros()).unwrap_or(u64::MAX);
                stats.took_micros.set(took);
                stats.is_failing.set(0);
                let (records, took) = (written.entries, written.took);
                if is_last || self.warned.take().is_some() {
                    info!(records, ?took, "snapshot written");
                } else {
                    debug!(records, ?took, "snapshot written");
                }
            }
            Err(failure) => {
                stats.failures.set(stats.failures.get() + 1);
                stats.is_failing.set(1);
                if is_last {
                    error!(error = %failure, "last snapshot failed: the last state is not on the disk");
                } else if self.warned.is_none_or(|at| at.elapsed() >= WARNING_GAP) {
                    self.warned = Some(Instant::now());
                    warn!(
                        error = %failure, retry_in = ?self.interval,
                        "snapshot failed; the hub goes on, and the last snapshot stays"
                    );
                }
            }
        }
    }
}

/// Waits on snapshots, or for ever where there are none.
pub async fn next(snapshots: &mut Option<Snapshots>) -> Event {
    match snapshots {
        Some(snapshots) => snapshots.next().await,
        None => pending().await,
    }
}
