//! Ctrl-C and SIGTERM: the servers are killed, so that whatever waits for them fails and cleans up on its way
//! out.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

static CAME: AtomicBool = AtomicBool::new(false);
static CHILDREN: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Whether a signal came.
pub(crate) fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}

/// Fails once a signal came; to be asked in every loop that does not talk to a server.
pub(crate) fn check() -> anyhow::Result<()> {
    anyhow::ensure!(!came(), "interrupted");
    Ok(())
}

/// Starts to listen for signals.
pub(crate) fn watch() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot listen for signals")?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(guard);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    CAME.store(true, Ordering::Relaxed);
                    kill_all();
                }
            });
        })?;
    Ok(())
}

/// `pid` is to be killed with us. Fails when a signal has come: it is to be killed now.
pub(crate) fn register(pid: Pid) -> anyhow::Result<()> {
    children().push(pid);
    check()
}

/// `pid` is about to be waited for.
pub(crate) fn forget(pid: Pid) {
    children().retain(|known| *known != pid);
}

fn kill_all() {
    for pid in children().iter() {
        // One that has just ended is as good.
        let _ = kill_process(*pid, Signal::KILL);
    }
}

fn children() -> std::sync::MutexGuard<'static, Vec<Pid>> {
    CHILDREN
        .lock()
        .expect("no thread panics while it holds the list")
}
