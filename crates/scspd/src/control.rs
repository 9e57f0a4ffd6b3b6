//! The control thread: the control core with its timers, signals, snapshots and the admin listener,
//! on one tokio task.

use std::future::ready;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use scsp_engine::{Control, Now, Time};
use scsp_net::{LinkSender, LinkSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use crate::admin::{self, Request};
use crate::bundle::Bundle;
use crate::client::{Effect, execute_on_control};
use crate::clock::Clock;
use crate::connectivity::{Change, Connectivity, Opened};
use crate::directory::Directory;
use crate::hub::Hub;
use crate::inbound::Inbound;
use crate::log::Notices;
use crate::mesh::{Doorbell, Inbox, Outbox};
use crate::message::{Executed, Message};
use crate::metrics::Metrics;
use crate::runtime;
use crate::snapshot::Slice;
use crate::snapshot::schedule::{self, Event, Snapshots};
use crate::spin::Spin;

/// Admin requests that wait at most.
const REQUESTS_MAX: usize = 64;
/// How often samples and gauges are moved out of the workers when nobody scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Turns of the loop that the rest of the runtime has to wait for at most, while messages keep
/// coming.
const TURNS_ALONE_MAX: u32 = 32;

/// Everything the control thread is given.
pub struct ControlThread {
    /// The hub it belongs to.
    pub hub: Arc<Hub>,
    /// Its core.
    pub control: Control,
    /// Time.
    pub clock: Clock,
    /// To the workers.
    pub outbox: Outbox<Message>,
    /// From the workers.
    pub inbox: Inbox<Message>,
    /// One for each link of the configuration, to send Hellos and CA messages.
    pub links: Vec<LinkSender>,
    /// By link, the socket that Hellos and CA messages are steered to, if they are.
    pub steered: Vec<Option<LinkSocket>>,
    /// Packets that are about to be sent.
    pub bundle: Bundle,
    /// Where the sockets of the links are open.
    pub opened: Vec<Option<Opened>>,
    /// Whom datagrams come from.
    pub directory: Arc<Directory>,
    /// Where the admin listener accepts.
    pub admin: std::net::TcpListener,
    /// Snapshots, where there is a data directory.
    pub snapshots: Option<Snapshots>,
    /// Tells of the end.
    pub on_ready: Box<dyn FnOnce() + Send>,
}

/// Runs until a signal or [`Message::Stop`]; stops the workers then.
pub fn run(thread: ControlThread) -> io::Result<()> {
    let backend = thread.hub.backend;
    runtime::run(backend, thread.serve())?
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

impl ControlThread {
    async fn serve(mut self) -> io::Result<()> {
        let result = match self.serve_until_stopped().await {
            Ok(Some(signals)) => self.take_last_snapshot(signals).await,
            Ok(None) => Ok(()),
            Err(error) => {
                error!(%error, "control thread failed");
                Ok(())
            }
        };
        for worker in 0..self.hub.workers() {
            self.outbox.send(worker, Message::Stop);
        }
        self.ring();
        result
    }

    /// Until a signal, which may come again, or until a worker has failed.
    async fn serve_until_stopped(&mut self) -> io::Result<Option<Signals>> {
        let (requests, mut requested) = mpsc::channel(REQUESTS_MAX);
        let listener = self.admin.try_clone()?;
        listener.set_nonblocking(true)?;
        let serving = tokio::spawn(admin::serve(
            tokio::net::TcpListener::from_std(listener)?,
            requests,
        ));
        let mut signals = Signals::new()?;
        let mut metrics = Metrics::new(&self.hub);
        let mut notices = Notices::default();
        let doorbell = Arc::clone(self.inbox.doorbell());
        let Doorbell::Control(notify) = &*doorbell else {
            unreachable!("the control thread has a control doorbell")
        };
        let mut inbound = Inbound::new(std::mem::take(&mut self.steered))?;
        let opened = std::mem::take(&mut self.opened);
        let mut connectivity = Connectivity::new(&self.hub, &self.directory, opened);
        let now = self.clock.now();
        let changes = connectivity.look(now.time);
        self.apply(now, changes);
        self.settle(&mut metrics, &mut notices);
        std::mem::replace(&mut self.on_ready, Box::new(|| {}))();
        let mut upkeep = tokio::time::interval(UPKEEP_INTERVAL);
        let mut turns_alone = 0;
        loop {
            let deadlines = [self.control.next_deadline(), connectivity.next_deadline()];
            let deadline = deadlines.into_iter().flatten().min();
            turns_alone += 1;
            let is_busy = turns_alone < TURNS_ALONE_MAX && self.spin(&mut inbound, deadline);
            if !is_busy {
                turns_alone = 0;
            }
            tokio::select! {
                () = ready(()), if is_busy => {}
                () = inbound.received() => {}
                report = connectivity.changed() => connectivity.note(self.clock.time(), report),
                () = notify.notified() => {}
                () = sleep_until(self.clock, deadline) => {}
                Some(request) = requested.recv() => self.answer(request, &mut metrics),
                event = schedule::next(&mut self.snapshots) => self.snapshot(event, &mut metrics),
                _ = upkeep.tick() => {
                    metrics.collect(&self.hub, &self.control, self.clock.now());
                    notices.flush(self.clock.time(), &self.hub);
                }
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                _ = signals.hangup.recv() => {
                    warn!("reload is not supported yet: restart to take over a changed configuration");
                }
            }
            let now = self.clock.now();
            inbound.deliver(now, &self.hub, &self.directory, &mut self.control);
            if self.messages(now) {
                serving.abort();
                return Ok(None);
            }
            if connectivity
                .next_deadline()
                .is_some_and(|at| at <= now.time)
            {
                let changes = connectivity.look(now.time);
                self.apply(now, changes);
            }
            if self
                .control
                .next_deadline()
                .is_some_and(|at| at <= now.time)
            {
                self.control.handle_timeouts(now);
            }
            self.settle(&mut metrics, &mut notices);
        }
        info!("stopping");
        serving.abort();
        Ok(Some(signals))
    }

    /// Whether something came while it was looked for: that is done only while an exchange is under
    /// way, whose lock step waits for what comes next.
    fn spin(&mut self, inbound: &mut Inbound, deadline: Option<Time>) -> bool {
        let limit = self.hub.config.io.busy_poll;
        if limit.is_zero() || !self.control.is_exchanging() {
            return false;
        }
        let mut spin = Spin::new(self.clock, self.clock.time(), limit);
        loop {
            if !self.inbox.is_empty() || inbound.look() {
                return true;
            }
            if !spin.goes_on(deadline) {
                return false;
            }
        }
    }

    /// What a snapshot needs next.
    fn snapshot(&mut self, event: Event, metrics: &mut Metrics) {
        match event {
            Event::Due => {
                let slices = self.snapshots.as_mut().map(|it| it.begin(false));
                slices.into_iter().flatten().for_each(|it| self.fill(it));
            }
            Event::Fill(slice) => self.fill(slice),
            Event::Ended(Ok(written)) => metrics.snapshot(written.took),
            Event::Ended(Err(_)) => {}
        }
    }

    fn fill(&mut self, slice: Box<Slice>) {
        let worker = slice.worker;
        self.outbox.send(worker, Message::Export(slice));
    }

    /// The state at a graceful stop. Workers do nothing any more from when they are told until they
    /// end, so what a client was told is in it. A second signal ends the process without it.
    async fn take_last_snapshot(&mut self, mut signals: Signals) -> io::Result<()> {
        let Some(snapshots) = &mut self.snapshots else {
            return Ok(());
        };
        let mut cancelled = snapshots.cancel();
        for worker in 0..self.hub.workers() {
            self.outbox.send(worker, Message::Quiesce);
        }
        let doorbell = Arc::clone(self.inbox.doorbell());
        let Doorbell::Control(notify) = &*doorbell else {
            unreachable!("the control thread has a control doorbell")
        };
        if !cancelled {
            self.begin_last_snapshot();
        }
        loop {
            self.ring();
            tokio::select! {
                () = notify.notified() => {}
                event = schedule::next(&mut self.snapshots) => match event {
                    Event::Due => {}
                    Event::Fill(slice) => self.fill(slice),
                    Event::Ended(_) if cancelled => {
                        cancelled = false;
                        self.begin_last_snapshot();
                    }
                    Event::Ended(ended) => return ended.map(drop).map_err(io::Error::other),
                },
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
            }
            while let Some(message) = self.inbox.receive() {
                match message {
                    Message::Exported(slice) => self.exported(slice),
                    Message::Stop => return Ok(()),
                    _ => {} // Nobody waits for it any more.
                }
            }
        }
        warn!("signalled again: stopping without a snapshot of the last state");
        Ok(())
    }

    fn begin_last_snapshot(&mut self) {
        let slices = self.snapshots.as_mut().map(|it| it.begin(true));
        slices.into_iter().flatten().for_each(|it| self.fill(it));
    }

    fn exported(&mut self, slice: Box<Slice>) {
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.filled(slice);
        }
    }

    /// What workers sent; whether to stop.
    fn messages(&mut self, now: Now) -> bool {
        while let Some(message) = self.inbox.receive() {
            match message {
                Message::Control(message) => self.control.handle_message(now, message),
                Message::Execute(execute) => {
                    let ticket = execute.ticket;
                    let (answer, effect) =
                        execute_on_control(&self.hub, &self.control, now, execute.work);
                    if let Some(Effect::Clear(dcs)) = effect {
                        self.control.handle_clear(now, dcs);
                    }
                    let executed = Box::new(Executed { ticket, answer });
                    self.outbox
                        .send(usize::from(ticket.worker), Message::Executed(executed));
                }
                Message::Exported(slice) => self.exported(slice),
                Message::Stop => return true,
                Message::Shard(_)
                | Message::Executed(_)
                | Message::Originate(_)
                | Message::Originated(_)
                | Message::Relink { .. }
                | Message::Export(_)
                | Message::Quiesce => {
                    unreachable!("only workers are sent these")
                }
            }
        }
        false
    }

    /// Passes on what became of the links (H-02).
    fn apply(&mut self, now: Now, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Link(link, up) => self.control.handle_link(now, link, up),
                Change::Sockets {
                    link,
                    sockets,
                    sender,
                } => {
                    self.links[link] = sender;
                    for (worker, socket) in sockets.into_iter().enumerate() {
                        let socket = Box::new(socket);
                        self.outbox.send(worker, Message::Relink { link, socket });
                    }
                }
            }
        }
    }

    /// Carries out what the core wants.
    fn settle(&mut self, metrics: &mut Metrics, notices: &mut Notices) {
        while let Some((shard, message)) = self.control.poll_message() {
            self.outbox.send(shard.index(), Message::Shard(message));
        }
        while let Some(packet) = self.control.poll_transmit() {
            let to = self.hub.destination(packet.to);
            if !self.bundle.push(to, &packet.bytes) {
                self.send_bundle(metrics);
                let fits = self.bundle.push(to, &packet.bytes);
                assert!(fits, "an empty bundle takes any packet");
            }
        }
        self.send_bundle(metrics);
        let mut noticed = false;
        while let Some(notice) = self.control.poll_notice() {
            metrics.notice(&self.hub, &notice);
            notices.notice(self.clock.time(), &self.hub, &notice);
            noticed = true;
        }
        if noticed {
            for (dcs, _) in self.hub.peers() {
                self.hub.board.post(dcs.index(), &self.control.peer(dcs));
            }
        }
        self.ring();
    }

    fn send_bundle(&mut self, metrics: &mut Metrics) {
        let Some(((link, to), packets, segment)) = self.bundle.packets() else {
            return;
        };
        let (code, count) = (self.bundle.code(), self.bundle.count());
        match self.links[link].send_segments(packets, segment, to) {
            Ok(len) => metrics.sent(code, count, len),
            // A lost Hello or CA is sent again; the neighbour may simply not be there yet.
            Err(error) => {
                metrics.send_failed(count);
                debug!(%to, %error, "send failed");
            }
        }
        self.bundle.clear();
    }

    /// Wakes the workers that got something. One that is behind drains its queue on its own; what
    /// did not fit goes with a later ring.
    fn ring(&mut self) {
        loop {
            self.outbox.ring(scsp_net::Waker::wake);
            if !self.outbox.is_backlogged() {
                return;
            }
            std::thread::yield_now();
        }
    }

    fn answer(&mut self, request: Request, metrics: &mut Metrics) {
        let now = self.clock.now();
        match request {
            Request::Metrics(reply) => {
                metrics.collect(&self.hub, &self.control, now);
                // The client may have gone; then nobody waits for it.
                let _ = reply.send(metrics.render());
            }
            Request::Ready(reply) => {
                let _ = reply.send(admin::readiness(&self.hub, &self.control));
            }
            Request::Status(reply) => {
                let _ = reply.send(admin::status(&self.hub, &self.control, now));
            }
        }
    }
}

/// Sleeps until a core's deadline; for ever without one.
async fn sleep_until(clock: Clock, deadline: Option<Time>) {
    match deadline {
        Some(at) => tokio::time::sleep(at.since(clock.time())).await,
        None => std::future::pending().await,
    }
}
