//! What the world can do to us.

use std::io;

/// Errors of this crate, one line each, naming what was tried.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// A limit of [`IoConfig`](crate::IoConfig) is out of range.
    #[error("I/O limit {field}: expected {expected}")]
    Limit {
        /// Name of the field.
        field: &'static str,
        /// What would be valid.
        expected: &'static str,
    },
    /// A socket cannot be bound; `what` is like `127.0.0.1:2334/udp`.
    #[error("cannot bind {what}: {}", plain(source))]
    Bind {
        /// Address and kind.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A link cannot be put on its interface; `what` is like `ethernet link`.
    #[error(
        "cannot open {what} on interface {interface}: {}",
        interface_cause(source)
    )]
    Interface {
        /// Kind of link with its addresses.
        what: String,
        /// Name of the interface.
        interface: String,
        /// The kernel's answer, or what does not fit.
        source: io::Error,
    },
    /// The `io_uring` backend lacks something.
    #[error("io_uring is not usable: {feature}: {}; {cure}", plain(source))]
    Unavailable {
        /// Missing feature or refused call.
        feature: &'static str,
        /// What the operator can do.
        cure: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A call on an open descriptor failed.
    #[error("cannot {action}: {}", plain(source))]
    Call {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A table named by [`IoConfig`](crate::IoConfig) is full.
    #[error("cannot add another socket: {field} is {max}")]
    Full {
        /// Name of the limit.
        field: &'static str,
        /// Its value.
        max: usize,
    },
}

impl IoError {
    /// Wraps an error of `action`, for `map_err`.
    pub(crate) fn call<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Call {
            action,
            source: source.into(),
        }
    }
}

/// What the kernel's answer means for a link on an interface.
fn interface_cause(source: &io::Error) -> String {
    match source.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => "no such interface".to_owned(),
        Some(libc::EADDRNOTAVAIL) => "the interface has no such address".to_owned(),
        Some(libc::ENETDOWN | libc::ENETUNREACH) => "the interface is down".to_owned(),
        Some(libc::EPERM | libc::EACCES) => {
            format!("{}; it needs CAP_NET_RAW", plain(source))
        }
        _ => plain(source),
    }
}

/// The system's message without Rust's "(os error N)", first letter small.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an error reads as one plain line.
    #[test]
    fn errors_read_as_one_plain_line() {
        let source = io::Error::from_raw_os_error(libc::EADDRINUSE);
        let error = IoError::Bind {
            what: "127.0.0.1:2334/udp".into(),
            source,
        };
        assert_eq!(
            error.to_string(),
            "cannot bind 127.0.0.1:2334/udp: address already in use"
        );
    }
}
