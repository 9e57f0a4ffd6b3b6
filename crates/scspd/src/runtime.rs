//! The control thread's runtime and its files: the only module that knows tokio-uring.
//!
//! With the `io_uring` backend the runtime is tokio-uring's, entered only after the probe
//! succeeded (`tokio_uring::start` panics where `io_uring` is forbidden); otherwise a plain
//! current-thread tokio runtime takes its place, and files are written by a thread of its pool.
//! Nothing on the record path depends on either.

use std::fs::File;
use std::future::Future;
use std::io::{self, Write};
use std::sync::Arc;

use scsp_net::Backend;
use tokio::task::{JoinHandle, LocalSet};

/// Runs the future to its end on the runtime that fits the backend.
pub fn run<F: Future>(backend: Backend, future: F) -> io::Result<F::Output> {
    match backend {
        Backend::IoUring => Ok(tokio_uring::start(future)),
        Backend::Poll => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            Ok(LocalSet::new().block_on(&runtime, future))
        }
    }
}

/// Runs the future beside the one that [`run`] was given, on the same thread.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    tokio::task::spawn_local(future)
}

/// Lets a thread of the pool do what may block.
pub async fn blocking<T, F>(work: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

/// A file that is written from its start to its end.
pub enum Output {
    /// Through the runtime's ring.
    Ring {
        /// The file.
        file: tokio_uring::fs::File,
        /// Octets written.
        len: u64,
    },
    /// By a thread of the runtime's pool.
    Thread(Arc<File>),
}

impl Output {
    /// Writes to an empty file.
    pub fn new(backend: Backend, file: File) -> Self {
        match backend {
            Backend::IoUring => Self::Ring {
                file: tokio_uring::fs::File::from_std(file),
                len: 0,
            },
            Backend::Poll => Self::Thread(Arc::new(file)),
        }
    }

    /// Appends all octets; hands the buffer back.
    pub async fn append(&mut self, octets: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        match self {
            Self::Ring { file, len } => {
                let (result, octets) = file.write_all_at(octets, *len).await;
                *len += octets.len() as u64;
                (result, octets)
            }
            Self::Thread(file) => {
                let mut file = Arc::clone(file);
                blocking(move || (file.write_all(&octets), octets)).await
            }
        }
    }

    /// Returns once everything is on the disk.
    pub async fn sync(&self) -> io::Result<()> {
        match self {
            Self::Ring { file, .. } => file.sync_all().await,
            Self::Thread(file) => {
                let file = Arc::clone(file);
                blocking(move || file.sync_all()).await
            }
        }
    }
}
