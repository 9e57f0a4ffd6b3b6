//! A network segment of its own for a test: a bridge in a namespace, and a namespace with an
//! interface `eth1` on it for each hub. Needs root.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// Namespaces on one segment, numbered from 1; gone with the test.
#[derive(Debug)]
pub(crate) struct Segment {
    name: String,
    hubs: u8,
}

impl Segment {
    /// A bridge and so many namespaces, each with `eth1` as [`Self::plug`] makes it.
    pub(crate) fn new(hubs: u8) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("scsp-test-{}-{number}", std::process::id());
        let segment = Self { name, hubs };
        let bridge = segment.bridge();
        ip(&format!("netns add {bridge}"));
        ip(&format!(
            "-n {bridge} link add br0 type bridge mcast_snooping 0"
        ));
        ip(&format!("-n {bridge} link set br0 up"));
        for hub in 1..=hubs {
            let space = segment.space(hub);
            ip(&format!("netns add {space}"));
            ip(&format!("-n {space} link set lo up"));
            segment.plug(hub);
        }
        segment
    }

    fn bridge(&self) -> String {
        format!("{}-br", self.name)
    }

    /// Name of a hub's namespace.
    pub(crate) fn space(&self, hub: u8) -> String {
        format!("{}-{hub}", self.name)
    }

    /// Makes `eth1` of a hub: on the bridge, up, with MAC address 02:00:00:00:00:0N and the
    /// addresses `10.9.0.N`, `2001:db8:9::N` and `fe80::N`.
    pub(crate) fn plug(&self, hub: u8) {
        let (space, bridge) = (self.space(hub), self.bridge());
        ip(&format!(
            "-n {space} link add eth1 address 02:00:00:00:00:{hub:02x} type veth \
             peer name port{hub} netns {bridge}"
        ));
        ip(&format!(
            "-n {bridge} link set port{hub} master br0 addrgenmode none up"
        ));
        self.run(hub, "link set eth1 addrgenmode none");
        self.run(hub, "address add 2001:db8:9::{}/64 dev eth1 nodad");
        self.run(hub, "address add fe80::{}/64 dev eth1 nodad");
        self.run(hub, "address add 10.9.0.{}/24 dev eth1");
        self.run(hub, "link set eth1 up");
    }

    /// Runs `ip` in a hub's namespace; `{}` stands for its number.
    pub(crate) fn run(&self, hub: u8, command: &str) {
        let command = command.replace("{}", &hub.to_string());
        ip(&format!("-n {} {command}", self.space(hub)));
    }

    /// Pulls the cable out of a hub's `eth1` at the far end, or puts it back in.
    pub(crate) fn set_carrier(&self, hub: u8, on: bool) {
        let state = if on { "up" } else { "down" };
        ip(&format!("-n {} link set port{hub} {state}", self.bridge()));
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let spaces = (1..=self.hubs).map(|hub| self.space(hub));
        for space in spaces.chain([self.bridge()]) {
            // It may never have been made.
            let _ = Command::new("ip").args(["netns", "del", &space]).output();
        }
    }
}

fn ip(command: &str) {
    let output: Output = Command::new("ip")
        .args(command.split_whitespace())
        .output()
        .expect("ip starts");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {command}: {complaint}");
}
