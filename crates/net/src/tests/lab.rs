//! Network namespaces with a cable between them, for tests that need root.

use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace, there as long as its keeper runs: that is until we close its input, or end.
struct Namespace {
    keeper: Child,
    file: std::fs::File,
}

impl Namespace {
    fn new() -> Self {
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut ready = [0; 6];
        let output = keeper.stdout.as_mut().unwrap();
        output.read_exact(&mut ready).expect("root may unshare");
        let file = std::fs::File::open(format!("/proc/{}/ns/net", keeper.id())).unwrap();
        Self { keeper, file }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Two hosts, `a` and `b`.
pub(super) struct Lab {
    hosts: [Namespace; 2],
}

pub(super) const A: usize = 0;
pub(super) const B: usize = 1;

impl Lab {
    /// Runs `test` on a thread of its own, which alone moves between the hosts.
    pub(super) fn run(test: impl FnOnce(&Self) + Send) {
        thread::scope(|scope| {
            let lab = scope.spawn(|| {
                let lab = Self {
                    hosts: [Namespace::new(), Namespace::new()],
                };
                for host in [A, B] {
                    lab.enter(host);
                    for (name, value) in [("accept_dad", 0), ("router_solicitations", 0)] {
                        for which in ["all", "default"] {
                            let path = format!("/proc/sys/net/ipv6/conf/{which}/{name}");
                            std::fs::write(path, value.to_string()).unwrap();
                        }
                    }
                    ip("link set lo up");
                }
                test(&lab);
            });
            if let Err(panic) = lab.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }

    /// From now on sockets are opened, and commands run, at `host`.
    pub(super) fn enter(&self, host: usize) {
        let file = self.hosts[host].file.as_fd();
        move_into_link_name_space(file, Some(LinkNameSpaceType::Network)).unwrap();
    }

    /// A cable with an interface of this name at both hosts. With `net` 7 they are `10.7.0.1`,
    /// `fd00:7::1` and `02:00:00:00:07:01` at `a`; the same with 2 at `b`. Leaves at `a`.
    pub(super) fn plug(&self, name: &str, net: u8) {
        self.enter(A);
        let peer = self.hosts[B].keeper.id();
        ip(&format!(
            "link add {name} address 02:00:00:00:{net:02x}:01 type veth \
             peer name {name} address 02:00:00:00:{net:02x}:02 netns {peer}"
        ));
        for host in [B, A] {
            self.enter(host);
            let last = host + 1;
            ip(&format!("addr add 10.{net}.0.{last}/24 dev {name}"));
            ip(&format!("addr add fd00:{net}::{last}/64 dev {name} nodad"));
            ip(&format!("link set {name} up"));
        }
        // The interface is up at its address as soon as the other end is: wait for the kernel.
        for host in [B, A] {
            self.enter(host);
            await_carrier(name);
        }
    }

    /// Pulls a cable out and throws it away.
    pub(super) fn unplug(&self, name: &str) {
        self.enter(A);
        ip(&format!("link del {name}"));
    }
}

/// Runs `ip` at the present host.
pub(super) fn ip(arguments: &str) {
    let done = Command::new("ip")
        .args(arguments.split_whitespace())
        .status();
    assert!(done.expect("ip starts").success(), "ip {arguments}");
}

/// Waits until an interface can send, its link-local address is there, and all its addresses are
/// in use: the kernel routes to IPv6 addresses of its own only some time after they were added.
pub(super) fn await_carrier(name: &str) {
    let until = std::time::Instant::now() + super::DEADLINE;
    loop {
        let link = output(&format!("-o link show dev {name}"));
        let addresses = output(&format!("-o -6 addr show dev {name}"));
        let routes = output(&format!("-6 route show table local dev {name}"));
        let mut lines = addresses.lines();
        let are_used = lines.all(|line| {
            let (_, after) = line.split_once("inet6 ").expect("every line has one");
            let (address, _) = after.split_once('/').expect("with its prefix");
            let route = format!("local {address} ");
            !line.contains("tentative") && routes.contains(&route)
        });
        if link.contains("state UP") && addresses.contains("fe80::") && are_used {
            return;
        }
        assert!(
            std::time::Instant::now() < until,
            "{link}{addresses}{routes}"
        );
        thread::yield_now();
    }
}

fn output(arguments: &str) -> String {
    let mut command = Command::new("ip");
    let done = command.args(arguments.split_whitespace()).output().unwrap();
    String::from_utf8(done.stdout).unwrap()
}
