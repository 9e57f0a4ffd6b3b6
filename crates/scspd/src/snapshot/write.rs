//! Writing one snapshot.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scsp_engine::Setup;
use scsp_engine::snapshot::Part;
use scsp_net::Backend;
use tokio::sync::mpsc;

use crate::runtime::{Output, blocking};

use super::Slice;
use super::dir::{DataDir, DirError};
use super::format::{Encoder, InstanceName, Writer};
use super::load;

/// What one snapshot is.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its number, unlike any other's.
    pub id: u64,
    /// When it begins.
    pub taken_unix_ms: u64,
    /// It is the last word of this process.
    pub is_last: bool,
    /// The cores' configuration.
    pub setup: Arc<Setup>,
    /// How its file is written.
    pub backend: Backend,
}

/// A snapshot that is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// When it was begun.
    pub taken_unix_ms: u64,
    /// How long it took.
    pub took: Duration,
    /// Entries in it.
    pub entries: u64,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The directory.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The file.
    #[error("cannot write the snapshot: {0}")]
    File(#[from] io::Error),
    /// The workers stopped.
    #[error("the workers stopped")]
    Stopped,
}

/// Writes what comes in `slices` until every worker is at its end; each slice goes back by `empty`
/// for the next piece.
pub async fn write(
    dir: Arc<DataDir>,
    order: Order,
    slices: mpsc::Receiver<Box<Slice>>,
    empty: mpsc::Sender<Box<Slice>>,
) -> Result<Written, WriteError> {
    let result = write_file(&dir, &order, slices, empty).await;
    if result.is_err() {
        let dir = Arc::clone(&dir);
        // What is left over goes with the next one, or the next start.
        let _ = blocking(move || dir.abandon_snapshot()).await;
    }
    result
}

async fn write_file(
    dir: &Arc<DataDir>,
    order: &Order,
    mut slices: mpsc::Receiver<Box<Slice>>,
    empty: mpsc::Sender<Box<Slice>>,
) -> Result<Written, WriteError> {
    let began = Instant::now();
    let names: Vec<InstanceName> = load::names(&order.setup).collect();
    let file = {
        let dir = Arc::clone(dir);
        blocking(move || dir.new_snapshot()).await?
    };
    let mut output = Output::new(order.backend, file);
    let mut encoder = Encoder::new(order.id);
    let first = encoder.begin(&Writer {
        server: order.setup.lsid,
        hash_seed: order.setup.hash_seed,
        taken_unix_ms: order.taken_unix_ms,
    });
    output.append(first).await.0?;
    let mut working = order.setup.shards;
    while working > 0 {
        let mut slice = slices.recv().await.ok_or(WriteError::Stopped)?;
        match &slice.part {
            Part::Entries { instance, count } => {
                let (name, count) = (names[instance.index()], *count);
                encoder.entries_block(&mut slice.block, name, slice.taken_unix_ms, count);
            }
            Part::Past { instance, past } => {
                encoder.past_block(&mut slice.block, names[instance.index()], past);
            }
            Part::End => {
                working -= 1;
                continue;
            }
        }
        let (result, block) = output.append(std::mem::take(&mut slice.block)).await;
        result?;
        slice.block = block;
        empty.send(slice).await.map_err(|_| WriteError::Stopped)?;
    }
    let mut last = Vec::new();
    encoder.end_block(&mut last);
    output.append(last).await.0?;
    output.sync().await?;
    drop(output);
    let (dir, setup) = (Arc::clone(dir), Arc::clone(&order.setup));
    let (id, is_last) = (order.id, order.is_last);
    blocking(move || {
        load::leave_marks(&dir, &setup)?;
        dir.commit_snapshot()?;
        if is_last {
            dir.mark_graceful(id)?;
        }
        Ok::<_, DirError>(())
    })
    .await?;
    Ok(Written {
        taken_unix_ms: order.taken_unix_ms,
        took: began.elapsed(),
        entries: encoder.entries(),
    })
}
