//! The data directory: what lies in it, and in which order it changes.
//!
//! | file | holds |
//! |---|---|
//! | `lock` | nothing; held by the running hub |
//! | `snapshot` | the last whole snapshot |
//! | `snapshot.tmp` | the one that is being written |
//! | `graceful` | id of the snapshot that a graceful stop wrote; gone while a hub runs |
//! | `originated` | in which groups this server has originated records (D-19) |
//! | `snapshot.damaged` | a snapshot that could be read in part only |
//! | `snapshot.refused-TIME` | one of another server or version |
//!
//! Everything is written to a temporary file, synced and renamed, and the directory is synced after
//! every change of a name: at any moment a power cut leaves the old state or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use scsp_wire::{ProtocolId, ServerGroupId, ServerId};

use super::format::InstanceName;

const LOCK: &str = "lock";
const SNAPSHOT: &str = "snapshot";
const SNAPSHOT_TEMPORARY: &str = "snapshot.tmp";
const SNAPSHOT_DAMAGED: &str = "snapshot.damaged";
const GRACEFUL: &str = "graceful";
const ORIGINATED: &str = "originated";
/// What is not a snapshot is first written here.
const TEMPORARY: &str = "mark.tmp";
/// A line that makes no sense.
const UNKNOWN: &str = "unknown\n";
/// Octets of a mark that are looked at.
const MARK_LEN_MAX: u64 = 1 << 20;
/// The records may be nobody else's business.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// What is wrong with the data directory.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// Another hub uses it.
    #[error("server.data_dir: {} is in use by another scspd", .0.display())]
    InUse(PathBuf),
    /// Something could not be done in it.
    #[error("server.data_dir: cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
}

impl DirError {
    /// Whether it is for want of room only.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == ErrorKind::StorageFull)
    }
}

/// A data directory that this process alone uses.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

fn fault<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DirError + 'a {
    move |source| DirError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Makes the directory and those it is in, for good.
fn create(path: &Path) -> Result<(), DirError> {
    let missing: Vec<&Path> = path.ancestors().take_while(|dir| !dir.exists()).collect();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(DIR_MODE)
        .create(path)
        .map_err(fault("create", path))?;
    for parent in missing.iter().filter_map(|dir| dir.parent()) {
        sync_dir(parent)?;
    }
    Ok(())
}

fn sync_dir(path: &Path) -> Result<(), DirError> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(fault("sync", path))
}

impl DataDir {
    /// Opens the directory, makes it where it is missing, and locks it.
    pub fn open(path: &Path) -> Result<Self, DirError> {
        create(path)?;
        let file = path.join(LOCK);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&file)
            .map_err(fault("write to", &file))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(DirError::InUse(path.to_owned())),
            Err(error) => return Err(fault("lock", &file)(error.into())),
        }
        let dir = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        for leftover in [SNAPSHOT_TEMPORARY, TEMPORARY] {
            dir.remove(leftover)?;
        }
        Ok(dir)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Removes a file; whether there was one.
    fn remove(&self, name: &str) -> Result<bool, DirError> {
        let path = self.file(name);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(fault("remove", &path)(error)),
        }
    }

    /// Makes changes of names last.
    fn sync(&self) -> Result<(), DirError> {
        sync_dir(&self.path)
    }

    /// The last snapshot, if there is one.
    pub fn snapshot(&self) -> Result<Option<File>, DirError> {
        let path = self.file(SNAPSHOT);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fault("read", &path)(error)),
        }
    }

    /// Where the snapshot is.
    pub fn snapshot_path(&self) -> PathBuf {
        self.file(SNAPSHOT)
    }

    /// Why reading the snapshot failed.
    pub fn unreadable(&self, source: io::Error) -> DirError {
        fault("read", &self.snapshot_path())(source)
    }

    /// An empty file for the next snapshot.
    pub fn new_snapshot(&self) -> Result<File, DirError> {
        let path = self.file(SNAPSHOT_TEMPORARY);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(fault("create", &path))
    }

    /// The new snapshot, whole and synced, takes the place of the last one.
    pub fn commit_snapshot(&self) -> Result<(), DirError> {
        let path = self.file(SNAPSHOT);
        fs::rename(self.file(SNAPSHOT_TEMPORARY), &path).map_err(fault("replace", &path))?;
        self.sync()
    }

    /// The new snapshot did not come about.
    pub fn abandon_snapshot(&self) -> Result<(), DirError> {
        self.remove(SNAPSHOT_TEMPORARY).map(drop)
    }

    /// Keeps a snapshot that is read in part; the next one will replace it.
    pub fn keep_damaged(&self) -> Result<PathBuf, DirError> {
        let kept = self.file(SNAPSHOT_DAMAGED);
        self.remove(SNAPSHOT_DAMAGED)?;
        fs::hard_link(self.file(SNAPSHOT), &kept).map_err(fault("create", &kept))?;
        Ok(kept)
    }

    /// Puts a snapshot that is not read at all out of the way; where to.
    pub fn put_aside(&self, unix_ms: u64) -> Result<PathBuf, DirError> {
        let aside = self.file(&format!("snapshot.refused-{unix_ms}"));
        fs::rename(self.file(SNAPSHOT), &aside).map_err(fault("create", &aside))?;
        self.sync()?;
        Ok(aside)
    }

    /// Replaces a small file.
    fn write(&self, name: &str, text: &str) -> Result<(), DirError> {
        let (temporary, path) = (self.file(TEMPORARY), self.file(name));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(&temporary)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            });
        if let Err(error) = written {
            // The next start removes it otherwise.
            let _ = fs::remove_file(&temporary);
            return Err(fault("write", &path)(error));
        }
        fs::rename(&temporary, &path).map_err(fault("replace", &path))?;
        self.sync()
    }

    /// The octets of a small file as text; `None` when there is none.
    fn read(&self, name: &str) -> Result<Option<String>, DirError> {
        let path = self.file(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault("read", &path)(error)),
        };
        let mut octets = Vec::new();
        file.take(MARK_LEN_MAX)
            .read_to_end(&mut octets)
            .map_err(fault("read", &path))?;
        Ok(Some(String::from_utf8_lossy(&octets).into_owned()))
    }

    /// The snapshot that a graceful stop wrote, if nothing ran since (D-12).
    pub fn graceful(&self) -> Result<Option<u64>, DirError> {
        let text = self.read(GRACEFUL)?;
        Ok(text.and_then(|text| u64::from_str_radix(text.trim_end(), 16).ok()))
    }

    /// This process stops gracefully, and the snapshot is its last word.
    pub fn mark_graceful(&self, snapshot: u64) -> Result<(), DirError> {
        self.write(GRACEFUL, &format!("{snapshot:016x}\n"))
    }

    /// From here on the state goes on past the snapshot.
    pub fn clear_graceful(&self) -> Result<(), DirError> {
        if self.remove(GRACEFUL)? {
            self.sync()?;
        }
        Ok(())
    }

    /// Where this server has originated before (D-19).
    pub fn originated(&self) -> Result<Originated, DirError> {
        Ok(match self.read(ORIGINATED)? {
            None => Originated::default(),
            // Never written so.
            Some(text) if text.is_empty() => Originated(UNKNOWN.to_owned()),
            Some(text) => Originated(text),
        })
    }

    /// Replaces that.
    pub fn note_originated(&self, originated: &Originated) -> Result<(), DirError> {
        self.write(ORIGINATED, &originated.0)
    }
}

/// Servers and instances, one to a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Originated(String);

impl Originated {
    fn line(server: ServerId, instance: InstanceName) -> String {
        let InstanceName {
            protocol: ProtocolId(protocol),
            group: ServerGroupId(group),
        } = instance;
        format!("{server} 0x{protocol:04x} {group}")
    }

    /// Whether the server may have originated in the instance.
    pub fn contains(&self, server: ServerId, instance: InstanceName) -> bool {
        let wanted = Self::line(server, instance);
        // A text that makes no sense says nothing of what it once said.
        let is_fine = |line: &str| line.split(' ').count() == 3;
        let mut lines = self.0.lines();
        lines.any(|line| line == wanted || !is_fine(line))
    }

    /// Adds the instance; whether it was missing.
    pub fn add(&mut self, server: ServerId, instance: InstanceName) -> bool {
        let line = Self::line(server, instance);
        let is_new = !self.0.lines().any(|known| known == line);
        if is_new {
            if !self.0.is_empty() && !self.0.ends_with('\n') {
                self.0.push('\n');
            }
            self.0 += &line;
            self.0.push('\n');
        }
        is_new
    }
}

#[cfg(test)]
mod tests;
