//! Two servers of which the second gets a copy of what the first holds, whatever they are.

use std::time::Duration;

use crate::cli::Shape;
use crate::process::Usage;
use crate::report::Report;

/// What `align` does with a pair, in this order.
pub(crate) trait Pair {
    /// Starts the first one, empty, and notes in the report what it is.
    fn start_source(&mut self, report: &mut Report) -> anyhow::Result<()>;

    /// Gives it `records` records.
    fn load(&mut self, records: u32, shape: Shape) -> anyhow::Result<()>;

    /// What the first one uses.
    fn source(&mut self) -> anyhow::Result<Usage>;

    /// Starts the second one, empty; does not wait until it serves.
    fn start_copy(&mut self) -> anyhow::Result<()>;

    /// Waits until it holds all of them.
    fn wait_copied(&mut self, records: u32, timeout: Duration) -> anyhow::Result<()>;

    /// What the second one uses.
    fn copy(&mut self) -> anyhow::Result<Usage>;

    /// Adds what the pair itself knows of the time that `records` records took.
    fn report(&mut self, records: u32, report: &mut Report) -> anyhow::Result<()>;

    /// Whether both hold the same.
    fn are_equal(&mut self, timeout: Duration) -> anyhow::Result<bool>;

    /// Adds what the servers said to an error.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        error
    }

    /// Stops both.
    fn stop(self: Box<Self>) -> anyhow::Result<()>;
}
