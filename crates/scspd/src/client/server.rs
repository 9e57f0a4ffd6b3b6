//! Commands about the hub: INFO, CONFIG, TIME.

use std::fmt::Write as _;

use scsp_engine::InstanceIndex;
use scsp_resp::command::reply_help;
use scsp_resp::{Args, CommandId, glob};

use crate::config::ListenAddress;
use crate::stats::WorkerStats;

use super::batch::{Kind, Op};
use super::combine::What;
use super::dispatch::Fault;
use super::route::Call;

/// The version whose behaviour the commands follow, as clients ask for it.
pub(super) const REDIS_VERSION: &str = "7.2.0";

/// Sections of INFO before the keyspace, in order.
const SECTIONS: [&str; 7] = [
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "scsp",
];

impl Call<'_, '_> {
    pub(super) fn time(&mut self) {
        let unix_ms = self.cx.now.unix_ms;
        self.reply(|writer| {
            writer.array(2);
            writer.bulk_display(unix_ms / 1000);
            writer.bulk_display(unix_ms % 1000 * 1000);
        });
    }

    pub(super) fn config<'a>(&mut self, args: Args<'a>) -> Result<(), Fault<'a>> {
        let subcommand = CommandId::Config.command().subcommand(args)?;
        if subcommand.name == "help" {
            self.reply(|writer| reply_help(writer, CommandId::Config));
            return Ok(());
        }
        let patterns = args.skip(2);
        let parameters = self.parameters();
        let found: Vec<_> = parameters
            .iter()
            .filter(|(name, _)| {
                patterns
                    .iter()
                    .any(|pattern| glob::matches_ignore_case(pattern, name.as_bytes()))
            })
            .collect();
        self.reply(|writer| {
            writer.map(found.len());
            for (name, value) in found {
                writer.bulk(name.as_bytes());
                writer.bulk(value.as_bytes());
            }
        });
        Ok(())
    }

    /// What CONFIG GET knows: what clients and tools ask for.
    fn parameters(&self) -> [(&'static str, String); 13] {
        let hub = &self.clients.hub;
        let server = &hub.config.server;
        let data_dir = server.data_dir.as_ref();
        // As Redis would say it: after so many seconds, if anything has changed.
        let save = data_dir.map(|_| format!("{} 1", server.snapshot_interval.as_secs()));
        let addresses = || {
            hub.config
                .client
                .listen
                .iter()
                .filter_map(|listen| match listen {
                    ListenAddress::Tcp(address) => Some(address),
                    ListenAddress::Unix(_) => None,
                })
        };
        let socket = hub
            .config
            .client
            .listen
            .iter()
            .find_map(|listen| match listen {
                ListenAddress::Unix(path) => Some(path.display().to_string()),
                ListenAddress::Tcp(_) => None,
            });
        let bind: Vec<String> = addresses()
            .map(|address| address.ip().to_string())
            .collect();
        let port = addresses()
            .next()
            .map_or(0, crate::config::IpEndpoint::port);
        [
            ("appendonly", "no".to_owned()),
            ("bind", bind.join(" ")),
            (
                "dir",
                data_dir.map_or_else(String::new, |dir| dir.display().to_string()),
            ),
            ("databases", hub.groups.len().to_string()),
            ("maxclients", hub.connections_max.to_string()),
            ("maxmemory", server.max_memory.to_string()),
            ("maxmemory-policy", "noeviction".to_owned()),
            ("port", port.to_string()),
            (
                "proto-max-bulk-len",
                scsp_resp::decode::BULK_LEN_MAX.to_string(),
            ),
            ("save", save.unwrap_or_default()),
            ("tcp-keepalive", "300".to_owned()),
            ("timeout", "0".to_owned()),
            ("unixsocket", socket.unwrap_or_default()),
        ]
    }

    pub(super) fn info(&mut self, args: Args<'_>) {
        let wanted = |section: &str| {
            args.len() == 1
                || args.skip(1).iter().any(|name| {
                    [section, "default", "all", "everything"]
                        .iter()
                        .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
                })
        };
        let mut text = String::new();
        for section in SECTIONS.into_iter().filter(|section| wanted(section)) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            self.describe(section, &mut text).expect("a text grows");
        }
        if wanted("keyspace") {
            let keys = vec![0; self.clients.hub.groups.len()];
            self.on_all(
                InstanceIndex(0),
                Op::plain(Kind::Census),
                What::Info { text, keys },
            );
        } else {
            self.reply(|writer| writer.verbatim(text.as_bytes()));
        }
    }

    fn describe(&self, section: &str, text: &mut String) -> std::fmt::Result {
        match section {
            "server" => self.describe_server(text),
            "clients" => self.describe_clients(text),
            "memory" => self.describe_memory(text),
            "persistence" => self.describe_persistence(text),
            "stats" => self.describe_stats(text),
            "replication" => write!(
                text,
                "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"
            ),
            _ => self.describe_scsp(text),
        }
    }

    fn describe_server(&self, text: &mut String) -> std::fmt::Result {
        let hub = &self.clients.hub;
        let uptime_s = self.cx.now.unix_ms.saturating_sub(hub.started_unix_ms) / 1000;
        let port = self
            .parameters()
            .into_iter()
            .find(|(name, _)| *name == "port");
        write!(text, "# Server\r\nredis_version:{REDIS_VERSION}\r\n")?;
        write!(text, "scspd_version:{}\r\n", env!("CARGO_PKG_VERSION"))?;
        write!(
            text,
            "redis_mode:standalone\r\nos:{}\r\n",
            std::env::consts::OS
        )?;
        write!(
            text,
            "arch_bits:{}\r\nmultiplexing_api:{}\r\n",
            usize::BITS,
            hub.backend
        )?;
        write!(text, "process_id:{}\r\n", std::process::id())?;
        write!(
            text,
            "tcp_port:{}\r\n",
            port.map_or_else(String::new, |(_, port)| port)
        )?;
        write!(
            text,
            "server_time_usec:{}\r\n",
            u128::from(self.cx.now.unix_ms) * 1000
        )?;
        write!(
            text,
            "uptime_in_seconds:{uptime_s}\r\nuptime_in_days:{}\r\n",
            uptime_s / 86_400
        )?;
        write!(
            text,
            "io_threads_active:{}\r\n",
            u8::from(hub.workers() > 1)
        )
    }

    fn describe_clients(&self, text: &mut String) -> std::fmt::Result {
        let connected = self.sum(|worker| worker.connections.get());
        write!(text, "# Clients\r\nconnected_clients:{connected}\r\n")?;
        write!(
            text,
            "maxclients:{}\r\nblocked_clients:0\r\n",
            self.clients.hub.connections_max
        )
    }

    fn describe_memory(&self, text: &mut String) -> std::fmt::Result {
        let dataset = self.sum(|worker| {
            worker
                .instances
                .iter()
                .map(|instance| instance.bytes.get())
                .sum()
        });
        write!(
            text,
            "# Memory\r\nused_memory:{dataset}\r\nused_memory_dataset:{dataset}\r\n"
        )?;
        let max = self.clients.hub.config.server.max_memory;
        write!(
            text,
            "used_memory_human:{}\r\nmaxmemory:{max}\r\nmaxmemory_human:{}\r\n",
            human(dataset),
            human(max)
        )?;
        write!(text, "maxmemory_policy:noeviction\r\n")
    }

    fn describe_persistence(&self, text: &mut String) -> std::fmt::Result {
        // D-09.
        let hub = &self.clients.hub;
        let mut groups = (0..).map(InstanceIndex).zip(&hub.groups);
        let loading = groups.any(|(at, _)| !hub.is_released(at));
        write!(text, "# Persistence\r\nloading:{}\r\n", u8::from(loading))?;
        let (stats, is_kept) = (&hub.snapshots, hub.config.server.data_dir.is_some());
        write!(
            text,
            "rdb_bgsave_in_progress:{}\r\nrdb_last_save_time:{}\r\n",
            stats.running.get(),
            stats.taken_unix_ms.get() / 1000,
        )?;
        let status = if stats.is_failing.get() == 0 {
            "ok"
        } else {
            "err"
        };
        // -1, as Redis says before the first one.
        let took = match stats.took_micros.get() {
            0 => -1,
            micros => i64::try_from(micros.div_ceil(1_000_000)).unwrap_or(i64::MAX),
        };
        write!(
            text,
            "rdb_last_bgsave_status:{status}\r\nrdb_last_bgsave_time_sec:{took}\r\n"
        )?;
        write!(
            text,
            "snapshots_enabled:{}\r\nsnapshot_failures:{}\r\naof_enabled:0\r\n",
            u8::from(is_kept),
            stats.failures.get(),
        )
    }

    fn describe_stats(&self, text: &mut String) -> std::fmt::Result {
        let own = self.clients.commands.iter().sum::<u64>();
        let me = usize::from(self.clients.worker);
        let others = self
            .clients
            .hub
            .stats
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != me);
        let others: u64 = others
            .flat_map(|(_, worker)| &worker.commands)
            .map(crate::stats::Cell::get)
            .sum();
        let expired = self.sum(|worker| {
            worker
                .instances
                .iter()
                .map(|instance| instance.expired.get())
                .sum()
        });
        write!(
            text,
            "# Stats\r\ntotal_commands_processed:{}\r\n",
            own + others
        )?;
        write!(text, "expired_keys:{expired}\r\nevicted_keys:0\r\n")
    }

    fn describe_scsp(&self, text: &mut String) -> std::fmt::Result {
        let hub = &self.clients.hub;
        write!(text, "# Scsp\r\nserver_id:{}\r\n", hub.lsid())?;
        write!(
            text,
            "groups:{}\r\npeers:{}\r\n",
            hub.groups.len(),
            hub.peers.len()
        )?;
        write!(
            text,
            "workers:{}\r\nbackend:{}\r\n",
            hub.workers(),
            hub.backend
        )?;
        write!(
            text,
            "atomicity:NX, XX and INCR are atomic on this hub only\r\n"
        )
    }

    fn sum(&self, number: impl Fn(&WorkerStats) -> u64) -> u64 {
        self.clients.hub.stats.iter().map(number).sum()
    }
}

/// Octets as Redis shows them to people: two places and the first letter of the unit.
fn human(octets: u64) -> String {
    let units = [
        (1 << 40, 'T'),
        (1 << 30, 'G'),
        (1 << 20, 'M'),
        (1 << 10, 'K'),
    ];
    let Some((unit, letter)) = units.into_iter().find(|(unit, _)| octets >= *unit) else {
        return format!("{octets}B");
    };
    let hundredths = u128::from(octets) * 100 / u128::from(unit);
    format!("{}.{:02}{letter}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: sizes look as in Redis.
    #[test]
    fn sizes_for_people() {
        for (octets, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (1_572_864, "1.50M"),
            (4 << 30, "4.00G"),
            (u64::MAX, "16777215.99T"),
        ] {
            assert_eq!(human(octets), text);
        }
    }
}
