//! Opening the sockets of a hub: every link and listener for every worker.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use scsp_net::{
    EthernetOptions, Interface, IoError, LinkSocket, Listener, UdpOptions, bind_ethernet,
    bind_multicast, bind_tcp, bind_udp, bind_unix,
};
use tracing::{info, warn};

use crate::config::{Config, IpEndpoint, Link, LinkKind, ListenAddress};
use crate::steering;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long an address may be in use before the start fails.
const IN_USE_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at an address in use.
const IN_USE_LOOK: Duration = Duration::from_millis(10);

/// Sockets of a worker.
#[derive(Debug)]
pub struct Sockets {
    /// One for each link, in the order of the configuration.
    pub links: Vec<LinkSocket>,
    /// For clients.
    pub listeners: Vec<Listener>,
}

/// Sockets of one link.
#[derive(Debug)]
pub struct LinkSockets {
    /// One for each worker.
    pub workers: Vec<LinkSocket>,
    /// One for the control thread, where Hellos and CA messages are steered to it.
    pub control: Option<LinkSocket>,
}

impl LinkSockets {
    fn of_workers(workers: Vec<LinkSocket>) -> Self {
        let control = None;
        Self { workers, control }
    }
}

/// Sockets of every worker, and those of the control thread for each link. Workers share ports (`SO_REUSEPORT`), so a first bind without sharing
/// makes sure that no other process has the port.
pub fn bind_all(
    config: &Config,
    workers: usize,
) -> Result<(Vec<Sockets>, Vec<Option<LinkSocket>>), IoError> {
    let mut all: Vec<Sockets> = (0..workers)
        .map(|_| Sockets {
            links: Vec::new(),
            listeners: Vec::new(),
        })
        .collect();
    let mut of_control = Vec::with_capacity(config.links.len());
    for link in &config.links {
        once_free(|| prove_free(link))?;
    }
    for at in 0..config.links.len() {
        let opened = open_or_absent(config, at, workers)?;
        for (sockets, socket) in all.iter_mut().zip(opened.workers) {
            sockets.links.push(socket);
        }
        of_control.push(opened.control);
    }
    for address in &config.client.listen {
        match address {
            ListenAddress::Tcp(address) => {
                let address = resolve(address, "tcp")?;
                drop(once_free(|| bind_tcp(address, BACKLOG, false))?);
                for sockets in &mut all {
                    let listener = bind_tcp(address, BACKLOG, workers > 1)?;
                    sockets.listeners.push(listener.into());
                }
            }
            ListenAddress::Unix(path) => {
                let listener = once_free(|| bind_unix(path, BACKLOG))?;
                for sockets in &mut all {
                    let clone = listener.try_clone().map_err(|source| IoError::Call {
                        action: "share a socket",
                        source,
                    })?;
                    sockets.listeners.push(Listener::from(clone));
                }
            }
        }
    }
    Ok((all, of_control))
}

/// The socket of the admin listener.
pub fn bind_admin(address: &IpEndpoint) -> Result<std::net::TcpListener, IoError> {
    let address = resolve(address, "tcp")?;
    once_free(|| bind_tcp(address, BACKLOG, false))
}

/// Sockets of the link at a position. The first worker's receives what is sent to the
/// link's group; Ethernet frames come to it alone, and the others only send.
pub fn open_link(config: &Config, at: usize, workers: usize) -> Result<LinkSockets, IoError> {
    let link = &config.links[at];
    match &link.kind {
        LinkKind::Udp { bind } => {
            let address = resolve(bind, "udp")?;
            open_udp(&link.name, address, workers)
        }
        LinkKind::Multicast {
            bind,
            group,
            interface,
        } => {
            let options = UdpOptions {
                reuse_port: workers > 1 || shares_port(config, link),
                ..UdpOptions::default()
            };
            let (bind, group) = (bind.socket(), group.socket());
            let one = |number| bind_multicast(bind, group, interface, number == 0, &options);
            let all: Result<_, _> = (0..workers).map(one).collect();
            all.map(LinkSockets::of_workers)
        }
        LinkKind::Ethernet { interface, group } => {
            let first = bind_ethernet(interface, *group, &EthernetOptions::default())?;
            let mut all = Vec::with_capacity(workers);
            for _ in 1..workers {
                all.push(first.try_clone()?);
            }
            all.insert(0, first);
            Ok(LinkSockets::of_workers(all))
        }
    }
}

/// One socket for each worker and one for the control thread share the address, in this order, and
/// a program chooses among them. Where the kernel refuses it, its own hash chooses among the
/// workers.
fn open_udp(link: &str, address: SocketAddr, workers: usize) -> Result<LinkSockets, IoError> {
    let options = UdpOptions {
        reuse_port: true,
        ..UdpOptions::default()
    };
    let bind = || bind_udp(address, &options).map(LinkSocket::from);
    let mut opened =
        LinkSockets::of_workers((0..workers).map(|_| bind()).collect::<Result<_, _>>()?);
    let count = u16::try_from(workers).expect("workers are limited by the configuration");
    match opened.workers[0].steer(&steering::program(count)) {
        Ok(()) => opened.control = Some(bind()?),
        Err(error) => {
            info!(link, %error, "the kernel's own hash spreads datagrams over the workers");
        }
    }
    Ok(opened)
}

/// Whether a worker receives from its socket of a link.
pub fn receives(link: &Link, worker: u16) -> bool {
    worker == 0 || !matches!(link.kind, LinkKind::Ethernet { .. })
}

/// Whether another link has the same port: then the kernel tells them apart by interface.
fn shares_port(config: &Config, link: &Link) -> bool {
    let port = link.bind().map(IpEndpoint::port);
    let count = config
        .links
        .iter()
        .filter(|other| other.bind().map(IpEndpoint::port) == port)
        .count();
    count > 1
}

/// Stand-ins for the sockets of a link whose interface is not there.
pub fn absent(workers: usize) -> Result<LinkSockets, IoError> {
    let workers: Result<_, _> = (0..workers).map(|_| LinkSocket::absent()).collect();
    workers.map(LinkSockets::of_workers)
}

/// Sockets of a link, or stand-ins while its interface is not there: it may come later.
fn open_or_absent(config: &Config, at: usize, workers: usize) -> Result<LinkSockets, IoError> {
    let link = &config.links[at];
    match open_link(config, at, workers) {
        Err(error) if link.interface().is_some() && is_about_interface(&error) => {
            warn!(link = link.name, %error, "link waits for its interface");
            absent(workers)
        }
        result => result,
    }
}

/// Whether a link cannot be opened for what its interface is now, which may change.
pub fn is_about_interface(error: &IoError) -> bool {
    // ENODEV, ENXIO, ENETDOWN, EADDRNOTAVAIL, ENETUNREACH.
    const CODES: [i32; 5] = [19, 6, 100, 99, 101];
    match error {
        IoError::Interface { source, .. } => {
            source.kind() == ErrorKind::NotFound
                || source
                    .raw_os_error()
                    .is_some_and(|code| CODES.contains(&code))
        }
        _ => false,
    }
}

/// Binds without sharing the port, and lets go at once.
fn prove_free(link: &Link) -> Result<(), IoError> {
    let exclusive = UdpOptions::default();
    match &link.kind {
        LinkKind::Udp { bind } => bind_udp(resolve(bind, "udp")?, &exclusive).map(drop),
        LinkKind::Multicast {
            bind,
            group,
            interface,
        } => match bind_multicast(bind.socket(), group.socket(), interface, false, &exclusive) {
            Err(error) if is_about_interface(&error) => Ok(()),
            result => result.map(drop),
        },
        LinkKind::Ethernet { .. } => Ok(()),
    }
}

/// An own address as the kernel takes it: a link-local one with its interface, which must be there.
fn resolve(address: &IpEndpoint, protocol: &str) -> Result<SocketAddr, IoError> {
    let Some(zone) = address.zone() else {
        return Ok(address.socket());
    };
    let by_name = Interface::find(zone).map(|interface| interface.index);
    let index = by_name.or_else(|error| zone.parse().map_err(|_| error));
    index
        .map(|index| address.with_scope(index))
        .map_err(|_| IoError::Bind {
            what: format!("{address}/{protocol}"),
            source: io::Error::new(ErrorKind::NotFound, "no such interface"),
        })
}

/// Binds as soon as the address is free. The kernel closes what a killed process had in its rings
/// only some time after the process is gone, so a hub that is started again at once has to wait.
fn once_free<T>(mut bind: impl FnMut() -> Result<T, IoError>) -> Result<T, IoError> {
    let deadline = Instant::now() + IN_USE_PATIENCE;
    loop {
        match bind() {
            Err(IoError::Bind { source, .. } | IoError::Interface { source, .. })
                if source.kind() == ErrorKind::AddrInUse && Instant::now() < deadline =>
            {
                thread::sleep(IN_USE_LOOK);
            }
            result => return result,
        }
    }
}
