//! Waiting, always with an end.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::interrupt;

/// Asks every `pause` until there is an answer; fails after `timeout`, saying `what` was waited for.
pub(crate) fn until<T>(
    what: &str,
    timeout: Duration,
    pause: Duration,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        interrupt::check()?;
        let answer = ask().with_context(|| format!("while waiting for {what}"))?;
        if let Some(answer) = answer {
            return Ok(answer);
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "{what}: not within {} s",
            timeout.as_secs_f64()
        );
        thread::sleep(pause);
    }
}
