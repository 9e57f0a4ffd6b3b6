//! Which backend the kernel allows: probed by using it, never by version.

use std::fmt;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::str::FromStr;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::link::Port;
use crate::raw::{Completion, Missing, Ring};
use crate::{ConnId, IoConfig, IoError};

/// How I/O is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Rings shared with the kernel.
    IoUring,
    /// epoll, `recvmmsg`, `sendmmsg`.
    Poll,
}

impl Backend {
    /// Name in configuration, logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Poll => "poll",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What the operator asked for (`[io] backend`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BackendChoice {
    /// `io_uring` where the kernel has and allows it, else poll.
    #[default]
    Auto,
    /// `io_uring` or an error.
    IoUring,
    /// Poll.
    Poll,
}

impl BackendChoice {
    /// Name in the configuration.
    pub fn label(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::IoUring => Backend::IoUring.label(),
            Self::Poll => Backend::Poll.label(),
        }
    }
}

impl FromStr for BackendChoice {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Auto, Self::IoUring, Self::Poll]
            .into_iter()
            .find(|choice| choice.label() == text)
            .ok_or("expected auto, io_uring or poll")
    }
}

/// The outcome of [`select`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// What to make every [`Io`](crate::Io) with.
    pub backend: Backend,
    /// Why `auto` fell back, with the cure, in one line.
    pub reason: Option<String>,
}

/// Finds the backend to use. `auto` falls back only where `io_uring` is missing or forbidden
/// (ENOSYS, EPERM, EINVAL); any other failure, and any failure of a forced backend, is an error.
pub fn select(choice: BackendChoice) -> Result<Selected, IoError> {
    let selected = |backend, reason| Ok(Selected { backend, reason });
    if choice == BackendChoice::Poll {
        return selected(Backend::Poll, None);
    }
    match probe().map_err(unavailable) {
        Ok(()) => selected(Backend::IoUring, None),
        Err(error) if choice == BackendChoice::Auto && may_fall_back(&error) => {
            selected(Backend::Poll, Some(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

fn may_fall_back(error: &IoError) -> bool {
    let IoError::Unavailable { source, .. } = error else {
        return false;
    };
    matches!(
        source.raw_os_error(),
        Some(libc::ENOSYS | libc::EPERM | libc::EINVAL)
    )
}

/// Adds what the operator can do about it.
pub(crate) fn unavailable(missing: Missing) -> IoError {
    let Missing { feature, source } = missing;
    let cure = match source.raw_os_error() {
        Some(libc::ENOSYS) => {
            "use a kernel with io_uring (Linux 6.1 or later) or allow the io_uring system calls in \
             the container's seccomp profile"
        }
        Some(libc::EPERM) if disabled_by_sysctl() => "set sysctl kernel.io_uring_disabled=0",
        Some(libc::EPERM) => {
            "allow the io_uring system calls in the container's seccomp profile or security policy"
        }
        Some(libc::EINVAL) => "use Linux 6.1 or later",
        Some(libc::ENOMEM) => "raise the locked-memory limit (ulimit -l, LimitMEMLOCK)",
        Some(libc::EMFILE | libc::ENFILE) => "raise the open-files limit (ulimit -n, LimitNOFILE)",
        _ => "use [io] backend = \"poll\"",
    };
    IoError::Unavailable {
        feature,
        cure,
        source,
    }
}

fn disabled_by_sysctl() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .is_ok_and(|value| value.trim() != "0")
}

/// Makes a ring as a worker would and starts every multishot operation on real sockets; what the
/// kernel does not know it refuses at once, what it knows is cancelled.
fn probe() -> Result<(), Missing> {
    let config = IoConfig {
        receive_buffers: 2,
        send_slots: 2,
        stream_buffers: 2,
        connections_max: 2,
        links_max: 1,
        listeners_max: 1,
        ..IoConfig::default()
    };
    let mut ring = Ring::new(&config)?;
    let world = |source| Missing {
        feature: "sockets to probe with",
        source,
    };
    let (datagrams, listener, stream, _peer) = sockets().map_err(world)?;
    let files = [Some(datagrams.as_fd()), Some(listener.as_fd())];
    ring.register_files(0, files).map_err(world)?;
    ring.arm_datagrams(Port(0), 0);
    ring.arm_accept(0, 1);
    ring.arm_stream(
        ConnId {
            index: 0,
            generation: 0,
        },
        stream.as_fd(),
    );
    ring.enter(Some(Duration::ZERO)).map_err(|source| Missing {
        feature: "enter",
        source,
    })?;
    let mut refused = None;
    ring.drain(|completion| {
        let (feature, error) = match completion {
            Completion::Datagram { outcome, .. } => ("multishot recvmsg", outcome.err()),
            Completion::Accepted { outcome, .. } => ("multishot accept", outcome.err()),
            Completion::Received { outcome, .. } => ("multishot recv", outcome.err()),
            _ => return,
        };
        if let Some(source) = error.filter(|error| error.raw_os_error() != Some(libc::ECANCELED)) {
            refused = Some(Missing { feature, source });
        }
    });
    refused.map_or(Ok(()), Err)
}

/// Sockets that need no network: nothing is ever sent to them.
fn sockets() -> io::Result<(UdpSocket, Socket, UnixStream, UnixStream)> {
    let datagrams = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The empty name lets the kernel choose one outside the file system.
    listener.bind(&SockAddr::unix("")?)?;
    listener.listen(1)?;
    let (stream, peer) = UnixStream::pair()?;
    Ok((datagrams.into(), listener, stream, peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: names of the configuration are understood, others are answered with the valid ones.
    #[test]
    fn choices_are_read_by_name() {
        assert_eq!("auto".parse(), Ok(BackendChoice::Auto));
        assert_eq!("io_uring".parse(), Ok(BackendChoice::IoUring));
        assert_eq!("poll".parse(), Ok(BackendChoice::Poll));
        assert_eq!(
            "epoll".parse::<BackendChoice>(),
            Err("expected auto, io_uring or poll")
        );
    }

    /// Goal: poll needs no probe; what auto and a forced ring answer agrees with the probe.
    #[test]
    fn selection_follows_the_probe() {
        let poll = select(BackendChoice::Poll).unwrap();
        assert_eq!(
            poll,
            Selected {
                backend: Backend::Poll,
                reason: None
            }
        );
        match (select(BackendChoice::IoUring), select(BackendChoice::Auto)) {
            (Ok(forced), Ok(auto)) => {
                assert_eq!(
                    forced,
                    Selected {
                        backend: Backend::IoUring,
                        reason: None
                    }
                );
                assert_eq!(auto, forced);
            }
            (Err(error), Ok(auto)) => {
                assert_eq!(auto.backend, Backend::Poll);
                assert_eq!(auto.reason, Some(error.to_string()));
            }
            (Err(forced), Err(auto)) => assert_eq!(forced.to_string(), auto.to_string()),
            (Ok(_), Err(auto)) => panic!("auto failed where io_uring works: {auto}"),
        }
    }

    /// Goal: only a missing or forbidden ring lets auto fall back, and every cause has its cure.
    #[test]
    fn only_missing_or_forbidden_rings_fall_back() {
        for (code, falls_back, cure) in [
            (libc::ENOSYS, true, "seccomp"),
            (libc::EPERM, true, ""),
            (libc::EINVAL, true, "Linux 6.1"),
            (libc::ENOMEM, false, "LimitMEMLOCK"),
            (libc::EMFILE, false, "LimitNOFILE"),
            (libc::EBUSY, false, "poll"),
        ] {
            let source = io::Error::from_raw_os_error(code);
            let error = unavailable(Missing {
                feature: "ring",
                source,
            });
            assert_eq!(may_fall_back(&error), falls_back, "{error}");
            assert!(error.to_string().contains(cure), "{error}");
        }
    }
}
