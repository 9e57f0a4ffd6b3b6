//! Which links have connectivity (H-02), as the kernel's interfaces and routes say.
//!
//! A unicast link has it while there is a route to the neighbour whose interface is up with
//! carrier; a multicast or Ethernet link while its interface is there and up with carrier, with an
//! address for multicast. Where netlink is not to be had everything counts as up.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use scsp_engine::{LinkIndex, Time};
use scsp_net::{Endpoint, Interface as NetInterface, IoError, LinkSender, LinkSocket};
use tracing::{info, warn};

use crate::config::{Link, LinkKind, PeerAddress};
use crate::directory::Directory;
use crate::hub::Hub;
use crate::reach::{FarEnd, Reach, endpoint, own_ip};
use crate::sockets::{self, LinkSockets};
use crate::watch::{Interface, Interfaces, Watch, Way};

/// From the first report of a change to the look: several usually come together.
const SETTLE_TIME: Duration = Duration::from_millis(20);
/// Between two looks, however much is reported, for every [`LINKS_PER_GAP`] links.
const LOOK_GAP_MIN: Duration = Duration::from_millis(200);
/// So many links are looked up in a small part of the gap.
const LINKS_PER_GAP: usize = 1000;
/// Between two attempts to open the sockets of a link.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// What is to be done after a look.
#[derive(Debug)]
pub enum Change {
    /// Connectivity of a link came or went.
    Link(LinkIndex, bool),
    /// A `[link.NAME]` has other sockets now, one for each worker and one for the control thread.
    Sockets {
        /// Its position.
        link: usize,
        /// For the workers. The control thread has none to receive on: links on an interface are
        /// not steered.
        sockets: Vec<LinkSocket>,
        /// For the control thread to send with.
        sender: LinkSender,
    },
}

/// Why a link has no connectivity; `Ok` when it has.
type State = Result<(), String>;

/// Where the sockets of a link are open.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Index of the interface.
    index: u32,
    /// The address others see this hub at.
    local: Endpoint,
}

impl Opened {
    /// Where a socket is open, if on an interface.
    pub fn of(socket: &LinkSocket) -> Option<Self> {
        let index = socket.interface()?.index;
        let local = socket.local();
        Some(Self { index, local })
    }
}

/// Watches the links of a hub.
#[derive(Debug)]
pub struct Connectivity {
    hub: Arc<Hub>,
    directory: Arc<Directory>,
    watch: Option<Watch>,
    /// By [`LinkIndex`]; none is known before the first look.
    states: Vec<Option<State>>,
    /// Where the sockets of each `[link.NAME]` with an interface are open.
    opened: Vec<Option<Opened>>,
    /// What the interface of each carried when it was last seen.
    mtus: Vec<Option<u32>>,
    /// The last failure to open each, so that it is told once.
    failures: Vec<Option<String>>,
    look_at: Option<Time>,
    looked_at: Option<Time>,
}

impl Connectivity {
    /// Subscribes to changes; says so once when that is not possible. `opened` says where the
    /// sockets are that the hub started with.
    pub fn new(hub: &Arc<Hub>, directory: &Arc<Directory>, opened: Vec<Option<Opened>>) -> Self {
        let watch = Watch::open().map_err(|error| {
            warn!(%error, "cannot watch interfaces and routes: all links count as up");
        });
        Self {
            watch: watch.ok(),
            states: vec![None; hub.reaches.len()],
            mtus: vec![None; opened.len()],
            failures: vec![None; opened.len()],
            opened,
            look_at: None,
            looked_at: None,
            hub: Arc::clone(hub),
            directory: Arc::clone(directory),
        }
    }

    /// Waits for a report that something changed; then call [`note`](Self::note).
    pub async fn changed(&self) -> io::Result<()> {
        match &self.watch {
            Some(watch) => watch.changed().await,
            None => pending().await,
        }
    }

    /// Something was reported to have changed, or watching failed.
    pub fn note(&mut self, now: Time, report: io::Result<()>) {
        if let Err(error) = report {
            self.give_up(&error);
        }
        let parts = u32::try_from(1 + self.states.len() / LINKS_PER_GAP).unwrap_or(u32::MAX);
        let earliest = self
            .looked_at
            .map_or(now, |at| at.saturating_add(LOOK_GAP_MIN * parts))
            .max(now.saturating_add(SETTLE_TIME));
        self.look_no_later_than(earliest);
    }

    fn look_no_later_than(&mut self, at: Time) {
        self.look_at = Some(self.look_at.map_or(at, |known| known.min(at)));
    }

    fn give_up(&mut self, error: &io::Error) {
        if self.watch.take().is_some() {
            warn!(%error, "cannot watch interfaces and routes any more: all links count as up");
        }
    }

    /// When to [`look`](Self::look).
    pub fn next_deadline(&self) -> Option<Time> {
        self.look_at
    }

    /// Looks at everything anew; what has changed, in the order in which it is to be done.
    pub fn look(&mut self, now: Time) -> Vec<Change> {
        self.look_at = None;
        self.looked_at = Some(now);
        let interfaces = self.watch.as_mut().map(Watch::interfaces).transpose();
        let interfaces = interfaces.unwrap_or_else(|error| {
            self.give_up(&error);
            None
        });
        let mut changes = Vec::new();
        for link in 0..self.opened.len() {
            self.renew(now, link, interfaces.as_ref(), &mut changes);
        }
        let mut routes = HashMap::new();
        for at in 0..self.states.len() {
            self.rescope(&self.hub.reaches[at], interfaces.as_ref());
            let state = match &interfaces {
                Some(interfaces) => self.state(at, interfaces, &mut routes),
                None => Ok(()),
            };
            self.settle(at, state, &mut changes);
        }
        changes
    }

    /// Takes over the state of a link of the cores.
    fn settle(&mut self, at: usize, state: State, changes: &mut Vec<Change>) {
        let was_up = self.states[at].as_ref().map(Result::is_ok);
        let is_up = state.is_ok();
        let reach = &self.hub.reaches[at];
        let link = self.hub.config.links[reach.link].name.as_str();
        let peer = match &reach.far_end {
            FarEnd::Station(address) => address.to_string(),
            FarEnd::Group(group) => group.to_string(),
        };
        match (&state, was_up) {
            (Ok(()), Some(false)) => info!(link, to = peer, "link is up"),
            (Err(reason), None | Some(true)) => info!(link, to = peer, reason, "link is down"),
            (Ok(()), None | Some(true)) | (Err(_), Some(false)) => {}
        }
        self.states[at] = Some(state);
        if was_up != Some(is_up) {
            let index = u16::try_from(at).expect("peers are limited by the configuration");
            changes.push(Change::Link(LinkIndex(index), is_up));
        }
    }

    /// Opens the sockets of a link on the interface it is to be on, when they are not open there.
    fn renew(
        &mut self,
        now: Time,
        link: usize,
        interfaces: Option<&Interfaces>,
        changes: &mut Vec<Change>,
    ) {
        let hub = Arc::clone(&self.hub);
        let Some(name) = hub.config.links[link].interface() else {
            return;
        };
        let found = interfaces.map(|all| all.named(name));
        let (wanted, is_ready) = match found {
            Some(Some(interface)) => {
                let is_ready = self.interface_state(link, interface).is_ok();
                (interface.index, is_ready)
            }
            Some(None) => (0, false),
            None => (NetInterface::find(name).map_or(0, |it| it.index), true),
        };
        let is_on = |opened: &Option<Opened>| opened.as_ref().is_some_and(|it| it.index == wanted);
        if self.opened[link].is_some() && !is_on(&self.opened[link]) {
            // Whoever was reached over the interface that is gone is lost.
            self.lose(link, changes);
            let sockets = sockets::absent(hub.workers());
            self.replace(link, sockets, changes);
        }
        if wanted != 0 && is_ready && self.opened[link].is_none() {
            let sockets = sockets::open_link(&hub.config, link, hub.workers());
            self.replace(link, sockets, changes);
        }
        if self.opened[link].is_none() && (is_ready || interfaces.is_none()) {
            self.look_no_later_than(now.saturating_add(RETRY_INTERVAL));
        }
        self.note_own(link, found.flatten());
        if let Some(Some(interface)) = found {
            self.note_mtu(link, interface);
        }
    }

    /// Tells the directory the addresses that this hub sends from on a link.
    fn note_own(&self, link: usize, interface: Option<&Interface>) {
        let bind = self.hub.config.links[link].bind();
        let on_interface = interface.into_iter().flat_map(|it| &it.addresses);
        let own = on_interface
            .filter_map(|ip| Some(Endpoint::Ip(SocketAddr::new(*ip, bind?.port()))))
            .chain(self.opened[link].as_ref().map(|it| it.local));
        self.directory.set_own(link, own);
    }

    /// The interface under a link has gone, even if another one of its name came.
    fn lose(&mut self, link: usize, changes: &mut Vec<Change>) {
        let hub = Arc::clone(&self.hub);
        for (at, reach) in hub.reaches.iter().enumerate() {
            if reach.link == link && matches!(self.states[at], Some(Ok(()))) {
                self.settle(at, Err("its interface was removed".to_owned()), changes);
            }
        }
    }

    /// Hands new sockets out, if there are any.
    fn replace(
        &mut self,
        link: usize,
        sockets: Result<LinkSockets, IoError>,
        changes: &mut Vec<Change>,
    ) {
        match sockets.and_then(|sockets| Ok((sockets.workers[0].sender()?, sockets))) {
            Ok((sender, sockets)) => {
                self.opened[link] = Opened::of(&sockets.workers[0]);
                self.failures[link] = None;
                changes.push(Change::Sockets {
                    link,
                    sockets: sockets.workers,
                    sender,
                });
            }
            Err(error) => {
                let failure = Some(error.to_string());
                if self.failures[link] != failure {
                    let name = self.hub.config.links[link].name.as_str();
                    warn!(link = name, %error, "cannot open the link");
                    self.failures[link] = failure;
                }
            }
        }
    }

    /// Says so when an interface carries less than the cores were told at the start (D-14).
    fn note_mtu(&mut self, link: usize, interface: &Interface) {
        let configured = &self.hub.config.links[link];
        let is_ethernet = matches!(configured.kind, LinkKind::Ethernet { .. });
        if !is_ethernet || self.mtus[link].replace(interface.mtu) == Some(interface.mtu) {
            return;
        }
        let carried = Link::frame_limit(interface.mtu);
        let peers = self.hub.peers.iter().zip(&self.hub.setup.dcs);
        let told = peers
            .filter(|(peer, _)| peer.link == link)
            .map(|(_, dcs)| dcs.datagram_limit)
            .max();
        if told.is_some_and(|told| told > carried) {
            let (link, mtu) = (configured.name.as_str(), interface.mtu);
            let advice = "the interface carries smaller frames than the link sends: \
                          set the link's mtu, and restart";
            warn!(link, mtu, "{advice}");
        }
    }

    /// Whether an interface can carry a link.
    fn interface_state(&self, link: usize, interface: &Interface) -> State {
        let name = &interface.name;
        if !interface.is_up {
            return Err(format!("interface {name} is down"));
        }
        let LinkKind::Multicast { bind, group, .. } = &self.hub.config.links[link].kind else {
            return Ok(());
        };
        let has = |wanted: IpAddr| interface.addresses.contains(&wanted);
        let is_usable = match own_ip(bind) {
            Some(own) => has(own),
            None => interface
                .addresses
                .iter()
                .any(|ip| ip.is_ipv4() == group.ip().is_ipv4()),
        };
        if is_usable {
            Ok(())
        } else {
            Err(format!("interface {name} has no address for the link"))
        }
    }

    /// Looks up the interface of a link-local neighbour.
    fn rescope(&self, reach: &Reach, interfaces: Option<&Interfaces>) {
        let (Some(zone), FarEnd::Station(peer)) = (reach.zone(), &reach.far_end) else {
            return;
        };
        let index = match interfaces {
            Some(all) => all.named(zone).map(|it| it.index),
            None => NetInterface::find(zone)
                .map(|it| it.index)
                .ok()
                .or_else(|| zone.parse().ok()),
        };
        let index = index.unwrap_or(0);
        let before = reach.set_scope(index);
        if before != index {
            let (from, to) = (endpoint(peer, before), endpoint(peer, index));
            self.directory.readdress(reach.link, from, to);
        }
    }

    /// Whether a link of the cores has connectivity.
    fn state(
        &mut self,
        at: usize,
        interfaces: &Interfaces,
        routes: &mut HashMap<Way, Option<u32>>,
    ) -> State {
        let hub = Arc::clone(&self.hub);
        let reach = &hub.reaches[at];
        let kind = &hub.config.links[reach.link].kind;
        let (LinkKind::Udp { bind }, FarEnd::Station(PeerAddress::Ip(address))) =
            (kind, &reach.far_end)
        else {
            return self.state_on_interface(reach.link, interfaces);
        };
        let scope = Some(reach.scope()).filter(|scope| *scope != 0);
        if let (Some(zone), None) = (reach.zone(), scope) {
            return Err(format!("no interface {zone}"));
        }
        let way = Way {
            to: address.ip(),
            from: own_ip(bind),
            scope,
        };
        let interface = match routes.get(&way) {
            Some(known) => *known,
            None => *routes.entry(way).or_insert(self.route(way)),
        };
        match interface.map(|index| interfaces.at(index)) {
            None => Err("no route".to_owned()),
            Some(Some(interface)) if !interface.is_up => {
                Err(format!("interface {} is down", interface.name))
            }
            // One that came after the interfaces were asked for: another look is under way.
            Some(Some(_) | None) => Ok(()),
        }
    }

    /// Whether a multicast or Ethernet link has connectivity.
    fn state_on_interface(&self, link: usize, interfaces: &Interfaces) -> State {
        let name = self.hub.config.links[link].interface().unwrap_or_default();
        let interface = interfaces.named(name);
        let interface = interface.ok_or_else(|| format!("no interface {name}"))?;
        self.interface_state(link, interface)?;
        match &self.opened[link] {
            Some(opened) if opened.index == interface.index => Ok(()),
            Some(_) | None => Err(format!("cannot be opened on interface {name}")),
        }
    }

    /// Looks a route up. A failure that is not the network's counts as connectivity: better a
    /// Hello in vain than none.
    fn route(&mut self, way: Way) -> Option<u32> {
        let found = self.watch.as_mut().map(|watch| watch.route(way));
        match found {
            Some(Ok(found)) => found,
            Some(Err(error)) => {
                self.give_up(&error);
                Some(0)
            }
            None => Some(0),
        }
    }
}
