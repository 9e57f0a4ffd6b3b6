//! Many connections served by one thread, as redis-benchmark does it: each sends a pipeline of
//! commands, waits for all replies, and sends the next.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::Timespec;

use crate::cli::{ClientCommand, Shape};
use crate::interrupt;
use crate::pipeline::{Replies, encode};
use crate::work::{self, Maker, Numbers};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server may take to say anything.
const PATIENCE: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};
const EVENTS_MAX: usize = 64;
const INPUT_LEN: usize = 64 * 1024;

/// What all connections together are to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) kind: ClientCommand,
    pub(crate) commands: u64,
    pub(crate) keys: u32,
    pub(crate) shape: Shape,
}

/// The connections.
pub(crate) struct Crowd {
    clients: Vec<Client>,
    epoll: OwnedFd,
    pipeline: u32,
    input: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    output: Vec<u8>,
    /// Octets of the output that are written.
    written: usize,
    replies: Replies,
    waiting: usize,
    since: Instant,
}

impl Crowd {
    /// Connects them all.
    pub(crate) fn connect(
        address: SocketAddr,
        connections: u32,
        pipeline: u32,
    ) -> anyhow::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let clients = (0..connections)
            .map(|number| {
                let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)
                    .with_context(|| format!("cannot connect to {address}"))?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                let data = EventData::new_u64(u64::from(number));
                epoll::add(&epoll, &stream, data, EventFlags::IN)?;
                Ok(Client {
                    stream,
                    output: Vec::new(),
                    written: 0,
                    replies: Replies::default(),
                    waiting: 0,
                    since: Instant::now(),
                })
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            clients,
            epoll,
            pipeline,
            input: vec![0; INPUT_LEN],
        })
    }

    /// Has the commands carried out; nanoseconds that each pipeline took.
    pub(crate) fn drive(&mut self, work: &Work) -> anyhow::Result<Vec<u64>> {
        let bar = work::progress(work.commands, "commands");
        let mut commands = Commands::new(work, self.pipeline);
        let mut latencies = Vec::new();
        let mut busy = 0;
        for number in 0..self.clients.len() {
            busy += usize::from(self.send_next(number, &mut commands)?);
        }
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        while busy > 0 {
            events.clear();
            let space = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, space, Some(&PATIENCE)) {
                Ok(0) => anyhow::bail!("the server says nothing any more"),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let number = usize::try_from(event.data.u64())?;
                let client = &mut self.clients[number];
                let flags = event.flags;
                if flags.contains(EventFlags::OUT) {
                    self.write(number)?;
                } else if client.read(&mut self.input)? {
                    latencies.push(u64::try_from(client.since.elapsed().as_nanos())?);
                    busy -= usize::from(!self.send_next(number, &mut commands)?);
                }
            }
            bar.set_position(work.commands - commands.left);
            interrupt::check()?;
        }
        bar.finish_and_clear();
        Ok(latencies)
    }

    /// Sends the next pipeline of a connection; whether there was one.
    fn send_next(&mut self, number: usize, commands: &mut Commands) -> anyhow::Result<bool> {
        let client = &mut self.clients[number];
        client.output.clear();
        client.written = 0;
        client.waiting = commands.make(&mut client.output);
        client.since = Instant::now();
        if client.waiting > 0 {
            self.write(number)?;
        }
        Ok(self.clients[number].waiting > 0)
    }

    /// Writes what the kernel takes; asks to be told when it takes more.
    fn write(&mut self, number: usize) -> anyhow::Result<()> {
        let client = &mut self.clients[number];
        let before = client.written;
        while client.written < client.output.len() {
            match client.stream.write(&client.output[client.written..]) {
                Ok(len) => client.written += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let whole = client.written == client.output.len();
        if !whole || before > 0 {
            let flags = if whole {
                EventFlags::IN
            } else {
                EventFlags::IN | EventFlags::OUT
            };
            let data = EventData::new_u64(number as u64);
            epoll::modify(&self.epoll, &client.stream, data, flags)?;
        }
        Ok(())
    }
}

impl Client {
    /// Takes in replies; whether they are complete.
    fn read(&mut self, input: &mut [u8]) -> anyhow::Result<bool> {
        let len = match self.stream.read(input) {
            Ok(0) => anyhow::bail!("the server closed the connection"),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let count = self.replies.feed(&input[..len])?;
        self.replies.check()?;
        self.waiting = self
            .waiting
            .checked_sub(count)
            .context("more replies than commands")?;
        Ok(self.waiting == 0)
    }
}

/// Makes commands on random keys.
struct Commands {
    kind: ClientCommand,
    left: u64,
    keys: u32,
    pipeline: u64,
    maker: Maker,
    numbers: Numbers,
}

impl Commands {
    fn new(work: &Work, pipeline: u32) -> Self {
        Self {
            kind: work.kind,
            left: work.commands,
            keys: work.keys,
            pipeline: u64::from(pipeline),
            maker: Maker::new(work.shape),
            numbers: Numbers(1),
        }
    }

    /// Appends a pipeline of commands; how many.
    fn make(&mut self, output: &mut Vec<u8>) -> usize {
        let count = self.pipeline.min(self.left);
        for _ in 0..count {
            self.left -= 1;
            let (key, value) = self.maker.record(self.numbers.below(self.keys), self.left);
            match self.kind {
                ClientCommand::Set => encode(output, &[b"SET", key, value]),
                ClientCommand::Get => encode(output, &[b"GET", key]),
            }
        }
        usize::try_from(count).expect("a pipeline is short")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: pipelines are full but for the last one, and their sum is what was asked for.
    #[test]
    fn pipelines_add_up() {
        let work = Work {
            kind: ClientCommand::Get,
            commands: 150,
            keys: 10,
            shape: Shape {
                key_octets: 8,
                value_octets: 16,
            },
        };
        let mut commands = Commands::new(&work, 64);
        let counts: Vec<_> = (0..4).map(|_| commands.make(&mut Vec::new())).collect();
        assert_eq!(counts, [64, 64, 22, 0]);
    }
}
