//! Reading a snapshot at the start, and what this server remembers by it (D-12, D-19).

use std::fs::File;
use std::io::{BufReader, Read};
use std::sync::Arc;
use std::time::Duration;

use scsp_engine::shard::shard_of;
use scsp_engine::snapshot::{self, Memory, Restored};
use scsp_engine::{InstanceIndex, Now, Setup, Shard};
use tracing::{error, info, warn};

use crate::hub::Hub;

use super::dir::{DataDir, DirError, Originated};
use super::format::{Block, Damage, InstanceName, KeptEntries, Reader, Refused, Writer};
use super::schedule::Snapshots;

/// Octets that are read at once.
const READ_LEN: usize = 256 * 1024;

/// What the data directory holds of earlier runs.
#[derive(Debug)]
pub struct Past {
    dir: DataDir,
    /// The snapshot, if there is one of this server.
    snapshot: Option<(Reader<BufReader<File>>, Writer)>,
    /// The snapshot that a graceful stop wrote last.
    graceful: Option<u64>,
    originated: Originated,
}

/// Entries of a snapshot, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In the cache again.
    pub taken: u64,
    /// Of groups that are not configured.
    pub foreign: u64,
    /// Malformed for the protocol that the group has now, without room, or there twice.
    pub left_out: u64,
}

/// What was read of a snapshot.
#[derive(Debug)]
pub struct Loaded {
    /// Its entries.
    pub counts: Counts,
    /// What is known of each instance beside its entries, in order.
    pub pasts: Vec<Option<snapshot::Past>>,
    /// Why reading ended early.
    pub damage: Option<Damage>,
}

impl Past {
    /// Looks into the directory. A snapshot that cannot be this server's is put aside; the hash
    /// seed of one that is gives its notes their meaning.
    pub fn look(dir: DataDir, setup: &mut Setup) -> Result<Self, DirError> {
        let mut past = Self {
            snapshot: None,
            graceful: dir.graceful()?,
            originated: dir.originated()?,
            dir,
        };
        let Some(file) = past.dir.snapshot()? else {
            return Ok(past);
        };
        let refusal = match Reader::new(BufReader::with_capacity(READ_LEN, file)) {
            Ok(mut reader) => match reader.next_block() {
                Ok(Block::Server(writer)) if writer.server == setup.lsid => {
                    setup.hash_seed = writer.hash_seed;
                    past.snapshot = Some((reader, writer));
                    return Ok(past);
                }
                Ok(Block::Server(writer)) => {
                    format!("it is of server {}, this is {}", writer.server, setup.lsid)
                }
                Ok(_) => "it does not say whose it is".to_owned(),
                Err(damage) => format!("it is damaged: {damage}"),
            },
            Err(Refused::Io(source)) => return Err(past.dir.unreadable(source)),
            Err(refused) => format!("it {refused}"),
        };
        let (path, aside) = (
            past.dir.snapshot_path(),
            past.dir.put_aside(setup.started_unix_ms)?,
        );
        error!(
            snapshot = %path.display(), kept_as = %aside.display(),
            "snapshot refused, starting without it: {refusal}"
        );
        Ok(past)
    }

    /// Fills the shards and tells them what this server remembers. From here on the state goes on
    /// past the snapshot, and the directory says so.
    pub fn restore(
        mut self,
        hub: &Arc<Hub>,
        shards: &mut [Shard],
        now: Now,
        seed: u64,
    ) -> Result<Snapshots, DirError> {
        let setup = &hub.setup;
        self.dir.clear_graceful()?; // D-12
        let is_marked = self.leave_marks(setup)?;
        let mut pasts = vec![None; setup.instances.len()];
        let mut is_whole = false;
        if let Some((mut reader, writer)) = self.snapshot.take() {
            let loaded = load(&mut reader, setup, shards, now);
            is_whole = loaded.damage.is_none() && self.graceful == Some(reader.id());
            self.tell(&loaded, is_whole)?;
            hub.snapshots.taken_unix_ms.set(writer.taken_unix_ms);
            pasts = loaded.pasts;
        }
        for (at, (name, past)) in names(setup).zip(pasts).enumerate() {
            let ran = past.is_some() || self.originated.contains(setup.lsid, name);
            let mut past = past.unwrap_or_default();
            if !ran && is_marked {
                past.memory = Memory::Never; // D-19
            } else if !is_whole {
                past.memory = Memory::Partial; // D-12
            }
            for shard in &mut *shards {
                shard.recall(index(at), &past);
            }
        }
        let interval = hub.config.server.snapshot_interval;
        Ok(Snapshots::new(self.dir, Arc::clone(hub), interval, seed))
    }

    /// Whether the marks are left. A full disk must not keep a hub from starting: it then counts as
    /// one that ran before, and the next snapshot brings the marks.
    fn leave_marks(&self, setup: &Setup) -> Result<bool, DirError> {
        match leave_marks(&self.dir, setup) {
            Ok(()) => Ok(true),
            Err(failure) if failure.is_full() => {
                warn!(error = %failure, "the data directory has no room");
                Ok(false)
            }
            Err(failure) => Err(failure),
        }
    }

    fn tell(&self, loaded: &Loaded, is_whole: bool) -> Result<(), DirError> {
        let (path, counts) = (self.dir.snapshot_path(), loaded.counts);
        match &loaded.damage {
            Some(damage) => {
                let kept = self.dir.keep_damaged()?;
                warn!(
                    snapshot = %path.display(), kept_as = %kept.display(), records = counts.taken,
                    "snapshot damaged, only the records before that were loaded: {damage}"
                );
            }
            None => info!(
                snapshot = %path.display(), records = counts.taken, graceful = is_whole,
                "snapshot loaded"
            ),
        }
        if counts.foreign + counts.left_out > 0 {
            warn!(
                of_groups_not_configured = counts.foreign,
                not_usable = counts.left_out,
                "records of the snapshot left out"
            );
        }
        Ok(())
    }
}

/// Hands every kept entry to the shard that owns it now, up to the end of the file or the first
/// damaged block.
pub fn load<R: Read>(
    reader: &mut Reader<R>,
    setup: &Setup,
    shards: &mut [Shard],
    now: Now,
) -> Loaded {
    let names: Vec<InstanceName> = names(setup).collect();
    let position = |instance| names.iter().position(|name| *name == instance);
    let mut counts = Counts::default();
    let mut pasts: Vec<Option<snapshot::Past>> = vec![None; names.len()];
    let damage = loop {
        match reader.next_block() {
            Ok(Block::Entries {
                instance,
                taken_unix_ms,
                entries,
            }) => match position(instance) {
                Some(at) => {
                    let elapsed = now.unix_ms.saturating_sub(taken_unix_ms);
                    let elapsed = Duration::from_millis(elapsed);
                    restore_all(shards, now, index(at), elapsed, entries, &mut counts);
                }
                None => counts.foreign += entries.count() as u64,
            },
            Ok(Block::Past { instance, past }) => {
                if let Some(at) = position(instance) {
                    match &mut pasts[at] {
                        Some(known) => known.merge(&past),
                        unknown => *unknown = Some(past),
                    }
                }
            }
            // Where it is not the first one, the reader takes it for damage.
            Ok(Block::Server(_)) => {}
            Ok(Block::End) => break None,
            Err(damage) => break Some(damage),
        }
    };
    Loaded {
        counts,
        pasts,
        damage,
    }
}

/// Leaves the mark of every instance before this server originates in it (D-19).
pub fn leave_marks(dir: &DataDir, setup: &Setup) -> Result<(), DirError> {
    let mut originated = dir.originated()?;
    let mut news = false;
    for name in names(setup) {
        news |= originated.add(setup.lsid, name);
    }
    if news {
        dir.note_originated(&originated)?;
    }
    Ok(())
}

/// The instances by name, in order.
pub fn names(setup: &Setup) -> impl Iterator<Item = InstanceName> {
    setup.instances.iter().map(|instance| InstanceName {
        protocol: instance.protocol,
        group: instance.group,
    })
}

fn index(at: usize) -> InstanceIndex {
    InstanceIndex(u16::try_from(at).expect("groups are limited by the configuration"))
}

fn restore_all(
    shards: &mut [Shard],
    now: Now,
    at: InstanceIndex,
    elapsed: Duration,
    entries: KeptEntries<'_>,
    counts: &mut Counts,
) {
    let count = u16::try_from(shards.len()).expect("workers are limited by the configuration");
    for kept in entries {
        let owner = shard_of(kept.record.summary.key, count);
        match shards[owner.index()].restore(now, at, elapsed, &kept) {
            Restored::Taken => counts.taken += 1,
            Restored::Older | Restored::Malformed | Restored::Full => counts.left_out += 1,
        }
    }
}

#[cfg(test)]
mod tests;
