//! Configurations: the samples of `deploy/examples`, and one for any number of hubs.

use std::fmt::Write as _;
use std::fs;

use super::Net;

/// Text of a configuration.
#[derive(Clone, Debug)]
pub(crate) struct Setup(String);

impl Setup {
    /// `deploy/examples/hub-{letter}.toml` with the addresses of this test.
    pub(crate) fn sample(net: &Net, letter: char) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/examples");
        let text = fs::read_to_string(format!("{folder}/hub-{letter}.toml")).expect("a sample");
        assert!(
            text.contains("127.0.0."),
            "the samples use loopback addresses"
        );
        Self(text.replace("127.0.0.", net.prefix()))
    }

    /// Hub `number` with id 10.0.0.`number` at that address, its neighbours likewise; two workers,
    /// short timers.
    pub(crate) fn hub(net: &Net, number: u8, neighbours: &[u8]) -> Self {
        let at = |port| net.address(number, port);
        let mut text = format!(
            r#"
[server]
id = "10.0.0.{number}"
workers = 2
pin = false

[link.main]
bind = "{}"

[client]
listen = ["{}"]

[admin]
listen = "{}"
"#,
            at(2334),
            at(6390),
            at(9144),
        );
        text += &group(net, "clients", "kv", 1, neighbours);
        Self(text)
    }

    /// Adds a group with the same neighbours' addresses.
    pub(crate) fn with_group(
        mut self,
        net: &Net,
        name: &str,
        protocol: &str,
        id: u16,
        neighbours: &[u8],
    ) -> Self {
        self.0 += &group(net, name, protocol, id, neighbours);
        self
    }

    /// Adds a line at the head of every `section`.
    pub(crate) fn under(mut self, section: &str, line: &str) -> Self {
        let head = format!("{section}\n");
        assert!(self.0.contains(&head), "no {section} in the configuration");
        self.0 = self.0.replace(&head, &format!("{head}{line}\n"));
        self
    }

    /// Adds lines at the end: to the last neighbour of the last group.
    pub(crate) fn plus(mut self, text: &str) -> Self {
        self.0 += text;
        self
    }

    /// Replaces part of the text.
    pub(crate) fn replace(mut self, from: &str, to: &str) -> Self {
        assert!(self.0.contains(from), "no {from} in the configuration");
        self.0 = self.0.replace(from, to);
        self
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

fn group(net: &Net, name: &str, protocol: &str, id: u16, neighbours: &[u8]) -> String {
    let mut text = format!(
        r#"
[[group]]
name = "{name}"
protocol = "{protocol}"
id = {id}
hello_interval = 1
dead_factor = 3
ca_retransmit = "200ms"
csus_retransmit = "200ms"
csu_retransmit = "200ms"
boot_hold = "200ms"
"#
    );
    for neighbour in neighbours {
        let address = net.address(*neighbour, 2334);
        write!(text, "\n[[group.peer]]\naddress = \"{address}\"\n").expect("a text grows");
    }
    text
}
