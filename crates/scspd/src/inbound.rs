//! What is steered to the control thread: Hellos and CA messages of the links that the kernel
//! steers. The thread takes them in itself, so that the lock step of CA messages does not pass
//! through a worker.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll};

use scsp_engine::shard::Drop as Refused;
use scsp_engine::{Control, Now};
use scsp_net::{Counters, Incoming, LinkReceiver, LinkSocket, segments};
use scsp_wire::Envelope;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::directory::{Directory, Sender};
use crate::hub::Hub;

/// The control thread's sockets.
pub struct Inbound {
    /// By position of the link.
    links: Vec<Option<Watched>>,
    unknown_peer: u64,
    own: u64,
}

/// A receiver, and its socket as the runtime knows it.
struct Watched {
    receiver: LinkReceiver,
    readiness: UdpSocket,
}

impl Watched {
    fn new(socket: LinkSocket) -> io::Result<Self> {
        let receiver = LinkReceiver::new(socket).map_err(io::Error::other)?;
        let socket = receiver.as_fd().try_clone_to_owned()?;
        let readiness = UdpSocket::from_std(socket.into())?;
        Ok(Self {
            receiver,
            readiness,
        })
    }

    /// Whether datagrams have come; whoever waits is woken when some do.
    fn poll_received(&mut self, context: &mut Context<'_>) -> bool {
        while !self.receiver.has_incoming() && self.readiness.poll_recv_ready(context).is_ready() {
            let receiver = &mut self.receiver;
            // Would block: its queue was seen empty, and the next datagram makes it ready anew.
            let _ = self.readiness.try_io(Interest::READABLE, || {
                if receiver.receive() {
                    Ok(())
                } else {
                    Err(io::ErrorKind::WouldBlock.into())
                }
            });
        }
        self.receiver.has_incoming()
    }
}

impl Inbound {
    /// Receives from one socket of each link that has one. To be called within the runtime.
    pub fn new(sockets: Vec<Option<LinkSocket>>) -> io::Result<Self> {
        let links = sockets.into_iter();
        let links = links.map(|socket| socket.map(Watched::new).transpose());
        Ok(Self {
            links: links.collect::<io::Result<_>>()?,
            unknown_peer: 0,
            own: 0,
        })
    }

    /// Waits until datagrams have come, for [`deliver`](Self::deliver).
    pub async fn received(&mut self) {
        poll_fn(|context| {
            let mut came = false;
            // Each is to wake the task, also when another one has something already.
            for watched in self.links.iter_mut().flatten() {
                came |= watched.poll_received(context);
            }
            if came { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Whether datagrams have come, without asking the runtime.
    pub fn look(&mut self) -> bool {
        let mut came = false;
        for Watched { receiver, .. } in self.links.iter_mut().flatten() {
            receiver.receive();
            came |= receiver.has_incoming();
        }
        came
    }

    /// Hands what came to the core.
    pub fn deliver(&mut self, now: Now, hub: &Hub, directory: &Directory, control: &mut Control) {
        let mut came = false;
        for (link, watched) in self.links.iter_mut().enumerate() {
            let Some(watched) = watched else { continue };
            while let Some(incoming) = watched.receiver.next_incoming() {
                came = true;
                let Incoming {
                    from,
                    bytes,
                    segment,
                } = incoming;
                for datagram in segments(bytes, segment) {
                    match Envelope::parse(datagram) {
                        Ok(envelope) => match directory.sender(&hub.setup, link, from, &envelope) {
                            Sender::Dcs(dcs) => control.handle_packet(now, dcs, &envelope),
                            Sender::Own => self.own += 1,
                            Sender::Unknown => self.unknown_peer += 1, // D-02
                        },
                        Err(error) => control.drop_packet(Refused::Malformed(error)),
                    }
                }
            }
        }
        if came {
            self.publish(hub);
        }
    }

    fn publish(&self, hub: &Hub) {
        let receivers = || self.links.iter().flatten().map(|it| &it.receiver);
        let total = |value: fn(&Counters) -> u64| -> u64 {
            receivers().map(|it| value(it.counters())).sum()
        };
        let stats = &hub.inbound;
        stats.unknown_peer.set(self.unknown_peer);
        stats.own.set(self.own);
        stats.bytes_received.set(total(|it| it.bytes_received));
        stats.truncated.set(total(|it| it.truncated));
        let overflow = total(|it| it.receive_queue_overflow);
        stats.receive_queue_overflow.set(overflow);
    }
}
