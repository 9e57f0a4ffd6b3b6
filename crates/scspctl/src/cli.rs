//! The command line.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};
use scsp_wire::ServerId;

const DEFAULT_PORT: u16 = 6390;

const AFTER_HELP: &str = "\
Octets that are not text:
  KEY and VALUE are taken as they are; written as hex:00ff… they stand for the octets given in hexadecimal.
  Text output prints other octets as \\xHH. With --json, keys and values are strings where they are UTF-8, and
  \"hex:00ff…\" where they are not (or where the text itself begins with \"hex:\").

Exit status:
  0  done (status: healthy)
  1  the operation failed, the key is absent, nothing was deleted (status: degraded)
  2  bad usage
  3  the hub is not reachable or does not answer";

/// Look into and steer a running scspd hub.
#[derive(Debug, Parser)]
#[command(name = "scspctl", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// Client interface of the hub: HOST, HOST:PORT or unix:PATH
    #[arg(
        long,
        global = true,
        env = "SCSPCTL_CONNECT",
        value_name = "ADDR",
        default_value = "127.0.0.1:6390",
        value_parser = parse_target
    )]
    pub(crate) connect: Target,
    /// Print JSON for programs instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Give up connecting, or waiting for one reply, after this many seconds
    #[arg(long, global = true, value_name = "S", default_value = "2", value_parser = parse_seconds)]
    pub(crate) timeout: Duration,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say whether the hub is healthy, or why not
    Status,
    /// List the server groups of the hub
    Groups,
    /// Show how many records each group holds and their digest: equal on hubs that hold the same
    Digest {
        /// Only this group; default: every group
        group: Option<String>,
        /// Count tombstones and withdrawals too
        #[arg(long)]
        all: bool,
    },
    /// List the neighbours and the state of each
    Peers {
        /// Only those of this group
        group: Option<String>,
    },
    /// Act on one neighbour
    Peer {
        /// Server id of the neighbour: IPv4, IPv6, hex:… or text:…
        id: ServerId,
        /// What to do with it
        #[arg(value_enum)]
        action: PeerAction,
        /// Only in this group; default: in every group that has the neighbour
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
    },
    /// Print the value of a key and a newline
    Get {
        #[arg(value_parser = octets_parser())]
        key: Octets,
        #[command(flatten)]
        group: KvGroup,
    },
    /// Set a key
    Put {
        #[arg(value_parser = octets_parser())]
        key: Octets,
        #[arg(value_parser = octets_parser(), allow_hyphen_values = true)]
        value: Octets,
        /// Let the key expire after this many seconds
        #[arg(long, value_name = "S", value_parser = parse_seconds)]
        ttl: Option<Duration>,
        #[command(flatten)]
        group: KvGroup,
    },
    /// Delete keys
    Del {
        #[arg(value_name = "KEY", required = true, value_parser = octets_parser())]
        keys: Vec<Octets>,
        #[command(flatten)]
        group: KvGroup,
    },
    /// List keys, one per line
    Scan {
        /// Glob: * ? [a-z], as Redis has it
        #[arg(value_parser = octets_parser())]
        pattern: Option<Octets>,
        #[command(flatten)]
        group: KvGroup,
    },
    /// Show the raw entries of any protocol, tombstones and withdrawals included
    Records {
        /// Only those of this group; default: every group
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
        /// Only those that this server originated: IPv4, IPv6, hex:… or text:…
        #[arg(long, value_name = "ID")]
        originator: Option<ServerId>,
        /// Only those of this cache key, in hexadecimal
        #[arg(long, value_name = "HEX", value_parser = parse_hex_key)]
        key: Option<Octets>,
    },
}

/// Group that a key-value command works on.
#[derive(Debug, clap::Args)]
pub(crate) struct KvGroup {
    /// Group to use; default: the first kv group of the hub
    #[arg(long = "group", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// What can be done to a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PeerAction {
    /// Force its hello machine to Waiting; it comes back by itself
    Clear,
}

/// Where the hub listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Host name or address, and port.
    Tcp(String, u16),
    /// Path of a socket.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A key or value: any octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Octets(pub(crate) Vec<u8>);

fn parse_target(text: &str) -> Result<Target, String> {
    const EXPECTED: &str = "expected HOST[:PORT], [IPV6[%INTERFACE]]:PORT or unix:PATH";
    if let Some(path) = text.strip_prefix("unix:") {
        return match path {
            "" => Err(EXPECTED.to_owned()),
            path => Ok(Target::Unix(path.into())),
        };
    }
    let (host, port) = if is_ipv6(text) {
        (text, None)
    } else if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(EXPECTED)?;
        is_ipv6(host).then_some(()).ok_or(EXPECTED)?;
        match rest {
            "" => (host, None),
            rest => (host, Some(rest.strip_prefix(':').ok_or(EXPECTED)?)),
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(EXPECTED.to_owned());
    }
    if host
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_unspecified())
    {
        return Err("a hub may listen on every address, but connecting needs one".to_owned());
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(format!("{port:?} is no port; expected 1 to 65535")),
        },
    };
    Ok(Target::Tcp(host.to_owned(), port))
}

/// Whether a text is an IPv6 address, a link-local one perhaps with its interface.
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let is_zone = |zone: &str| !zone.is_empty() && !zone.contains(['%', '/', ':', ']']);
    address.parse::<Ipv6Addr>().is_ok_and(|address| match zone {
        Some(zone) => address.is_unicast_link_local() && is_zone(zone),
        None => true,
    })
}

/// Seconds, whole or with decimals; at least one millisecond, at most 100 years.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    const MAX_SECS: f64 = 100.0 * 366.0 * 86_400.0;
    match text.parse::<f64>() {
        Ok(secs) if (0.001..=MAX_SECS).contains(&secs) => Ok(Duration::from_secs_f64(secs)),
        _ => Err("expected seconds above zero, such as 30 or 0.5".to_owned()),
    }
}

fn octets_parser() -> impl TypedValueParser<Value = Octets> {
    OsStringValueParser::new().try_map(|text: OsString| parse_octets(&text))
}

fn parse_octets(text: &OsStr) -> Result<Octets, String> {
    let bytes = text.as_bytes();
    match bytes.strip_prefix(b"hex:") {
        None => Ok(Octets(bytes.to_vec())),
        Some(digits) => unhex(digits)
            .map(Octets)
            .ok_or_else(|| "expected pairs of hexadecimal digits after hex:".to_owned()),
    }
}

fn parse_hex_key(text: &str) -> Result<Octets, String> {
    let digits = text.strip_prefix("hex:").unwrap_or(text);
    unhex(digits.as_bytes())
        .map(Octets)
        .ok_or_else(|| "expected pairs of hexadecimal digits".to_owned())
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, odd) = digits.as_chunks::<2>();
    if !odd.is_empty() {
        return None;
    }
    let nibble = |digit: u8| {
        char::from(digit)
            .to_digit(16)
            .and_then(|n| u8::try_from(n).ok())
    };
    pairs
        .iter()
        .map(|&[high, low]| Some(nibble(high)? << 4 | nibble(low)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Goal: the declarations of the command line hold together.
    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Goal: every documented form of an address is understood and prints again in full.
    #[test]
    fn targets_of_every_form() {
        let shown = |text: &str| parse_target(text).map(|target| target.to_string());
        assert_eq!(shown("10.0.0.1:7000").as_deref(), Ok("10.0.0.1:7000"));
        assert_eq!(shown("hub-a").as_deref(), Ok("hub-a:6390"));
        assert_eq!(shown("[::1]:7000").as_deref(), Ok("[::1]:7000"));
        assert_eq!(shown("::1").as_deref(), Ok("[::1]:6390"));
        assert_eq!(shown("[fe80::1]").as_deref(), Ok("[fe80::1]:6390"));
        assert_eq!(shown("[fe80::1%eth0]:1").as_deref(), Ok("[fe80::1%eth0]:1"));
        assert_eq!(shown("fe80::1%2").as_deref(), Ok("[fe80::1%2]:6390"));
        assert_eq!(shown("unix:/run/x.sock").as_deref(), Ok("unix:/run/x.sock"));
    }

    /// Goal: what is no address is refused before anything is sent.
    #[test]
    fn targets_that_are_none() {
        for text in [
            "",
            ":6390",
            "a:0",
            "a:65536",
            "a:b",
            "unix:",
            "[x]:1",
            "[::1]6390",
            "[::1%lo]:6390",
            "[fe80::1%]:6390",
            "0.0.0.0:1",
        ] {
            assert!(parse_target(text).is_err(), "{text:?} was accepted");
        }
    }

    /// Goal: plain octets stay as they are, the hex form is decoded, a broken one refused.
    #[test]
    fn octets_plain_and_hex() {
        let parse = |bytes: &[u8]| parse_octets(OsStr::from_bytes(bytes)).map(|octets| octets.0);
        assert_eq!(parse(b"a\xff b"), Ok(b"a\xff b".to_vec()));
        assert_eq!(parse(b"hex:00fF"), Ok(vec![0, 255]));
        assert_eq!(parse(b"hex:"), Ok(vec![]));
        assert!(parse(b"hex:0").is_err());
        assert!(parse(b"hex:zz").is_err());
    }

    /// Goal: seconds take decimals and refuse what no timer can be set to.
    #[test]
    fn seconds_in_range() {
        assert_eq!(parse_seconds("1.5"), Ok(Duration::from_millis(1500)));
        for text in ["0", "-1", "nan", "inf", "1e300", "5m", ""] {
            assert!(parse_seconds(text).is_err(), "{text:?} was accepted");
        }
    }
}
