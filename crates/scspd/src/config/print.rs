//! Writes a configuration as the file that leads to it.

use std::fmt::{self, Write};

use scsp_engine::Period;

use super::{Config, Group, Key, Link, LinkKind, Peer, duration, keys, size};

impl Config {
    /// The effective configuration: every supported key, in the form that [`Config::parse`] reads
    /// back to an equal value; but a secret that is not in a file of its own is not shown.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        self.write(&mut out)
            .expect("writing to a string does not fail");
        out
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let server = &self.server;
        writeln!(out, "[server]\nid = \"{}\"", server.id)?;
        let data_dir = server.data_dir.as_ref();
        let data_dir = data_dir.map_or_else(String::new, |path| path.display().to_string());
        writeln!(out, "data_dir = {}", quoted(&data_dir))?;
        let interval = duration::format(server.snapshot_interval);
        writeln!(out, "snapshot_interval = \"{interval}\"")?;
        let max_memory = size::format(server.max_memory);
        writeln!(out, "max_memory = \"{max_memory}\"")?;
        writeln!(out, "workers = {}\npin = {}", server.workers, server.pin)?;
        for link in &self.links {
            write_link(out, link)?;
        }
        for group in &self.groups {
            write_group(out, group)?;
            for peer in &group.peers {
                write_peer(out, peer, &self.links[peer.link].name)?;
            }
        }
        let listen: Vec<_> = self
            .client
            .listen
            .iter()
            .map(|address| quoted(&address.to_string()))
            .collect();
        writeln!(out, "\n[client]\nlisten = [{}]", listen.join(", "))?;
        writeln!(out, "max_connections = {}", self.client.max_connections)?;
        writeln!(out, "\n[admin]\nlisten = \"{}\"", self.admin.listen)?;
        writeln!(out, "\n[io]\nbackend = \"{}\"", self.io.backend.name())?;
        let busy_poll = duration::format(self.io.busy_poll);
        writeln!(out, "busy_poll = \"{busy_poll}\"")?;
        writeln!(out, "\n[log]\nlevel = {}", quoted(&self.log.level))?;
        writeln!(out, "format = \"{}\"", self.log.format.name())
    }
}

fn write_link(out: &mut String, link: &Link) -> fmt::Result {
    writeln!(out, "\n[link.{}]", quoted(&link.name))?;
    match &link.kind {
        LinkKind::Udp { bind } => writeln!(out, "kind = \"udp\"\nbind = \"{bind}\"")?,
        LinkKind::Multicast {
            bind,
            group,
            interface,
        } => {
            writeln!(out, "kind = \"multicast\"\nbind = \"{bind}\"")?;
            writeln!(
                out,
                "group = \"{group}\"\ninterface = {}",
                quoted(interface)
            )?;
        }
        LinkKind::Ethernet { interface, group } => {
            writeln!(
                out,
                "kind = \"ethernet\"\ninterface = {}",
                quoted(interface)
            )?;
            if let Some(group) = group {
                writeln!(out, "group = \"{group}\"")?;
            }
        }
    }
    match link.mtu {
        Some(mtu) => writeln!(out, "mtu = {mtu}"),
        None => Ok(()),
    }
}

fn write_group(out: &mut String, group: &Group) -> fmt::Result {
    let seconds = duration::format;
    writeln!(out, "\n[[group]]\nname = {}", quoted(&group.name))?;
    writeln!(out, "protocol = \"{}\"\nid = {}", group.protocol, group.id)?;
    writeln!(out, "family = {}", group.family.0)?;
    writeln!(out, "hello_interval = {}", group.hello_interval_secs)?;
    writeln!(out, "dead_factor = {}", group.dead_factor)?;
    writeln!(out, "ca_retransmit = \"{}\"", seconds(group.ca_retransmit))?;
    writeln!(
        out,
        "csus_retransmit = \"{}\"",
        seconds(group.csus_retransmit)
    )?;
    writeln!(
        out,
        "csu_retransmit = \"{}\"",
        seconds(group.csu_retransmit)
    )?;
    writeln!(out, "csu_retransmit_max = {}", group.csu_retransmit_max)?;
    writeln!(out, "csus_retransmit_max = {}", group.csus_retransmit_max)?;
    writeln!(out, "hop_count = {}", group.hop_count)?;
    writeln!(out, "restart_increment = {}", group.restart_increment)?;
    writeln!(out, "boot_hold = \"{}\"", seconds(group.boot_hold))?;
    writeln!(
        out,
        "purge_retention = \"{}\"",
        seconds(group.purge_retention)
    )?;
    writeln!(
        out,
        "abnormal_events = \"{}\"",
        group.abnormal_events.name()
    )?;
    writeln!(out, "auth_failure = \"{}\"", group.auth_failure.name())
}

fn write_peer(out: &mut String, peer: &Peer, link: &str) -> fmt::Result {
    writeln!(
        out,
        "\n[[group.peer]]\naddress = \"{}\"\nlink = {}",
        peer.address,
        quoted(link)
    )?;
    if let Some(id) = peer.expected_id {
        writeln!(out, "id = \"{id}\"")?;
    }
    writeln!(out, "max_records = {}", peer.max_records)?;
    writeln!(out, "auth = \"{}\"", keys::mode_name(peer.auth))?;
    peer.keys.iter().try_for_each(|key| write_key(out, key))
}

/// A secret that stands in the file is not written, nor anything that would be read as one.
fn write_key(out: &mut String, key: &Key) -> fmt::Result {
    writeln!(out, "\n[[group.peer.key]]\nspi = {}", key.spi)?;
    writeln!(out, "direction = \"{}\"", key.direction.name())?;
    writeln!(out, "algorithm = \"{}\"", key.algorithm.name())?;
    match &key.secret_file {
        Some(path) => {
            let path = path.to_str().expect("it was read from text");
            writeln!(out, "secret_file = {}", quoted(path))?;
        }
        None => writeln!(out, "secret = \"(not shown)\"")?,
    }
    write_period(out, "send", key.send)?;
    write_period(out, "accept", key.accept)
}

fn write_period(out: &mut String, word: &str, period: Period) -> fmt::Result {
    for (end, moment) in [("from", period.from_ms), ("until", period.until_ms)] {
        if let Some(moment) = moment {
            let time = keys::format_moment(moment);
            writeln!(out, "{word}_{end} = \"{time}\"")?;
        }
    }
    Ok(())
}

/// A string as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
