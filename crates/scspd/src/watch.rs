//! Watches interfaces, addresses and routes by rtnetlink (H-02).
//!
//! What is reported is not followed event by event: a report only says that something changed, and
//! everything of interest is then asked for anew. So a lost report, which the kernel announces with
//! `ENOBUFS`, is a report like any other.

mod interfaces;
mod message;

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use interfaces::{Interface, Interfaces};
use message::Answer;

/// Groups of reports: `RTMGRP_LINK`, `IPV4_IFADDR`, `IPV4_ROUTE`, `IPV4_RULE`, `IPV6_IFADDR`,
/// `IPV6_ROUTE`, `IPV6_RULE`, `NEXTHOP`.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18 | 1 << 31;
/// Octets of the largest datagram from the kernel.
const DATAGRAM_LEN_MAX: usize = 1 << 16;
/// The kernel answers within the call; this only bounds what should not happen.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Reports taken in at a time, so that a flood of them does not hold up everything else.
const REPORTS_MAX: usize = 1024;

/// Attempts to get interfaces that did not change while they were told.
const TRIES_MAX: usize = 4;

/// A route to be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Way {
    /// To this address.
    pub to: IpAddr,
    /// From this own address; `None`: any.
    pub from: Option<IpAddr>,
    /// Through the interface of this index, which link-local addresses need.
    pub scope: Option<u32>,
}

/// Connection to the kernel's routing tables. Its runtime must be running.
#[derive(Debug)]
pub struct Watch {
    reports: AsyncFd<OwnedFd>,
    requests: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Watch {
    /// Subscribes to changes. Fails where netlink is forbidden or absent.
    pub fn open() -> io::Result<Self> {
        let requests = socket(SocketFlags::CLOEXEC)?;
        bind(&requests, &SocketAddrNetlink::new(0, 0))?;
        set_socket_timeout(&requests, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        let reports = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        bind(&reports, &SocketAddrNetlink::new(0, GROUPS))?;
        #[allow(
            deprecated,
            reason = "the other constructor is unsafe for types that may change their \
                      descriptor, which an OwnedFd never does"
        )]
        let reports = AsyncFd::with_interest(reports, Interest::READABLE)?;
        Ok(Self {
            reports,
            requests,
            sequence: 0,
            buffer: vec![0; DATAGRAM_LEN_MAX],
        })
    }

    /// Waits until something is reported to have changed.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.reports.readable().await?;
            let mut is_reported = false;
            for _ in 0..REPORTS_MAX {
                // What it says does not matter, and it may be cut short.
                match recv(self.reports.get_ref(), &mut [0; 16][..], RecvFlags::empty()) {
                    Ok(_) | Err(Errno::NOBUFS) => is_reported = true,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if is_reported {
                return Ok(());
            }
        }
    }

    /// Interfaces and their addresses as they are now. What changes meanwhile is asked for again, a
    /// few times, and reported besides.
    pub fn interfaces(&mut self) -> io::Result<Interfaces> {
        let mut all = Interfaces::default();
        for _ in 0..TRIES_MAX {
            all = Interfaces::default();
            let whole = self.dump(message::RTM_GETLINK, &mut all)?;
            if self.dump(message::RTM_GETADDR, &mut all)? && whole {
                break;
            }
        }
        Ok(all)
    }

    /// Adds all there is of one kind; whether nothing changed meanwhile.
    fn dump(&mut self, kind: u16, all: &mut Interfaces) -> io::Result<bool> {
        let mut whole = true;
        let request = |sequence| message::dump(kind, sequence);
        self.ask(request, |answer| {
            match answer {
                Answer::Interface(interface) => all.0.push(interface),
                Answer::Address {
                    interface,
                    ip,
                    usable: true,
                } => all.add_address(interface, ip),
                Answer::Interrupted => whole = false,
                Answer::Done => return Some(Ok(())),
                Answer::Refused(code) => return Some(Err(Errno::from_raw_os_error(code))),
                Answer::Address { .. } | Answer::Route(_) | Answer::Other => {}
            }
            None
        })??;
        Ok(whole)
    }

    /// The interface through which packets go `way` now; `None` when there is no route.
    pub fn route(&mut self, way: Way) -> io::Result<Option<u32>> {
        self.ask(
            |sequence| message::route(way.to, way.from, way.scope, sequence),
            |answer| match answer {
                Answer::Route(interface) => Some(interface),
                // No route, one that forbids, or an address that is no longer ours.
                Answer::Refused(_) | Answer::Done => Some(None),
                Answer::Interface(_)
                | Answer::Address { .. }
                | Answer::Interrupted
                | Answer::Other => None,
            },
        )
    }

    /// Sends a request and takes answers in until `take` has what it wants.
    fn ask<T>(
        &mut self,
        request: impl FnOnce(u32) -> Vec<u8>,
        mut take: impl FnMut(Answer) -> Option<T>,
    ) -> io::Result<T> {
        self.sequence = self.sequence.wrapping_add(1);
        send(&self.requests, &request(self.sequence), SendFlags::empty())?;
        loop {
            let len = match recv(&self.requests, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((_, len)) => len,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let bytes = &self.buffer[..len.min(DATAGRAM_LEN_MAX)];
            for answer in message::answers(bytes, self.sequence) {
                if let Some(result) = take(answer) {
                    return Ok(result);
                }
            }
        }
    }
}

fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        flags,
        None,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_runtime<T>(run: impl AsyncFnOnce() -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(run())
    }

    /// Goal: H-02: the loopback interface is found with its address, and the route to itself.
    #[test]
    fn h_02_loopback_is_up_and_routed() {
        on_runtime(async || {
            let mut watch = Watch::open().unwrap();
            let all = watch.interfaces().unwrap();
            let loopback = all.named("lo").unwrap();
            assert!(loopback.is_up);
            assert!(loopback.mtu > 1500, "{loopback:?}");
            assert!(loopback.addresses.contains(&"127.0.0.1".parse().unwrap()));
            assert_eq!(all.named(&loopback.index.to_string()), Some(loopback));
            assert_eq!(all.named("no-such-one"), None);
            let way = |to: &str, from: Option<&str>| Way {
                to: to.parse().unwrap(),
                from: from.map(|from| from.parse().unwrap()),
                scope: None,
            };
            let mut route = |way| watch.route(way).unwrap();
            assert_eq!(route(way("127.0.0.2", None)), Some(loopback.index));
            assert_eq!(
                route(way("127.0.0.2", Some("127.0.0.1"))),
                Some(loopback.index)
            );
            // An address that is not ours leads nowhere.
            assert_eq!(route(way("127.0.0.2", Some("192.0.2.77"))), None);
        });
    }
}
