//! Authentication of peers: modes, keys, secrets and their files, lifetimes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;
use scsp_engine::{AuthKey, AuthMode, AuthSetup, Period};
use scsp_wire::{Algorithm, FamilyId, MacKey};
use toml::de::DeValue;
use zeroize::Zeroizing;

use super::raw::{Notes, Table};
use super::values::{self, expected, quoted};
use super::{AuthFailureAction, Config, Peer};

/// Keys of a peer.
pub(super) const KEYS_MAX: usize = 64;
/// Octets of a secret.
const SECRET_LEN_MAX: usize = 1024;
/// A shorter secret is warned of: RFC 2104 asks for as many octets as the hash puts out.
const SECRET_LEN_ADVISED: usize = 16;
/// Octets of a secret's file: hexadecimal digits, prefix and newline.
const SECRET_FILE_LEN_MAX: u64 = 2 * SECRET_LEN_MAX as u64 + 16;
/// Permissions of everyone but the owner.
const OTHERS: u32 = 0o077;

pub(super) const MODES: [(&str, AuthMode); 4] = [
    ("off", AuthMode::Off),
    ("accept", AuthMode::Accept),
    ("send", AuthMode::Send),
    ("require", AuthMode::Require),
];
const DIRECTIONS: [(&str, Direction); 3] = [
    ("send", Direction::Send),
    ("receive", Direction::Receive),
    ("both", Direction::Both),
];

/// `[[group.peer.key]]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Key {
    /// Security parameter index.
    pub spi: u32,
    /// Which packets it is for.
    pub direction: Direction,
    /// How MACs are computed.
    pub algorithm: Algorithm,
    /// What only the two servers know.
    pub secret: Secret,
    /// Where the secret was read from; `None`: it is in the configuration itself.
    pub secret_file: Option<PathBuf>,
    /// When it may sign.
    pub send: Period,
    /// When it may verify.
    pub accept: Period,
}

/// Which packets a key is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// Those to the peer.
    Send,
    /// Those from the peer.
    Receive,
    /// Both.
    Both,
}

/// Octets that are wiped when dropped and never shown.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Key {
    /// Whether it can sign.
    pub fn sends(&self) -> bool {
        matches!(self.direction, Direction::Send | Direction::Both)
    }

    /// Whether it can verify.
    pub fn receives(&self) -> bool {
        matches!(self.direction, Direction::Receive | Direction::Both)
    }
}

impl Peer {
    /// Authentication as the cores take it.
    pub fn auth_setup(&self, failure: AuthFailureAction) -> AuthSetup {
        let key = |key: &Key| AuthKey {
            spi: key.spi,
            key: MacKey::new(key.algorithm, &key.secret.0),
            send: key.sends().then_some(key.send),
            receive: key.receives().then_some(key.accept),
        };
        AuthSetup {
            mode: self.auth,
            keys: self.keys.iter().map(key).collect(),
            failure_resets: failure == AuthFailureAction::Reset,
        }
    }
}

impl Config {
    /// What is allowed and probably not meant.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (at, group) in self.groups.iter().enumerate() {
            for (peer_at, peer) in group.peers.iter().enumerate() {
                let path = format!("group[{at}].peer[{peer_at}]");
                warn_of_peer(peer, &path, &mut warnings);
            }
        }
        warnings
    }
}

fn warn_of_peer(peer: &Peer, path: &str, warnings: &mut Vec<String>) {
    for (at, key) in peer.keys.iter().enumerate() {
        let len = key.secret.0.len();
        if len < SECRET_LEN_ADVISED {
            warnings.push(format!(
                "{path}.key[{at}]: a secret of {len} octets is easy to guess, \
                 {SECRET_LEN_ADVISED} or more are advised"
            ));
        }
    }
    if peer.auth == AuthMode::Send && !peer.keys.iter().any(Key::receives) {
        warnings.push(format!(
            "{path}.auth: no key can receive, so this peer's packets will be refused once it signs \
             them"
        ));
    }
    if peer.auth == AuthMode::Off && !peer.keys.is_empty() {
        warnings.push(format!("{path}.auth: \"off\", so its keys are not used"));
    }
}

/// One key; `None` when it has no usable SPI or secret, which is noted.
pub(super) fn key(table: &mut Table<'_>) -> Option<Key> {
    let spi = table.required(
        "spi",
        "a number from 0 to 4294967295",
        values::whole(0..=u32::MAX),
    );
    let direction = table.or("direction", Direction::Both, values::choice(&DIRECTIONS));
    let algorithms = Algorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
    let algorithm = table.required(
        "algorithm",
        "an algorithm such as \"hmac-sha-256-128\"",
        values::choice(&algorithms),
    );
    let inline = table.optional("secret", inline_secret);
    let file = table.optional("secret_file", values::absolute_path);
    let from_file = file.as_deref().and_then(|path| {
        read_secret(path)
            .map_err(|message| table.refuse("secret_file", message))
            .ok()
    });
    match (table.has("secret"), table.has("secret_file")) {
        (true, true) => table.refuse(
            "secret_file",
            "expected one of secret and secret_file, got both".into(),
        ),
        (false, false) => table.refuse("secret", "missing, expected secret or secret_file".into()),
        _ => {}
    }
    let send = period(table, ["send_from", "send_until"]);
    let accept = period(table, ["accept_from", "accept_until"]);
    for (direction_not, keys) in [
        (Direction::Receive, ["send_from", "send_until"]),
        (Direction::Send, ["accept_from", "accept_until"]),
    ] {
        for key in keys.into_iter().filter(|_| direction == direction_not) {
            if table.has(key) {
                let word = direction.name();
                table.refuse(
                    key,
                    format!("means nothing for a key with direction \"{word}\""),
                );
            }
        }
    }
    Some(Key {
        spi: spi?,
        direction,
        algorithm: algorithm?,
        secret: inline.or(from_file)?,
        secret_file: file,
        send,
        accept,
    })
}

/// From when until when, each optional.
fn period(table: &mut Table<'_>, keys: [&'static str; 2]) -> Period {
    let [from_ms, until_ms] = keys.map(|key| table.optional(key, moment));
    if let (Some(from), Some(until)) = (from_ms, until_ms)
        && from >= until
    {
        let message = format!(
            "expected a time after {} ({})",
            keys[0],
            format_moment(from)
        );
        table.refuse(keys[1], message);
    }
    Period { from_ms, until_ms }
}

const MOMENT_FORM: &str =
    "a time such as \"2026-01-01T00:00:00Z\" or \"2026-01-01T01:00:00+01:00\"";

/// A time in the form of RFC 3339, as a string or as TOML's own; Unix milliseconds.
fn moment(value: &DeValue<'_>) -> Result<u64, String> {
    let text = match value {
        DeValue::Datetime(time) => time.to_string(),
        _ => value.as_str().unwrap_or_default().to_owned(),
    };
    parse_moment(&text).ok_or_else(|| expected(MOMENT_FORM, value))
}

fn parse_moment(text: &str) -> Option<u64> {
    let (civil, offset_secs) = match text.strip_suffix('Z') {
        Some(civil) => (civil, 0),
        None => split_offset(text)?,
    };
    let time = humantime::parse_rfc3339(&format!("{civil}Z")).ok()?;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    let utc_ms = i64::try_from(since.as_millis()).ok()? - offset_secs * 1000;
    u64::try_from(utc_ms).ok()
}

/// What stands before `+01:00`, and that in seconds.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    let (civil, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let sign = match offset.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = offset[1..].split_once(':')?;
    let number = |digits: &str, end: i64| {
        let is_fine = digits.len() == 2 && digits.bytes().all(|octet| octet.is_ascii_digit());
        let number = digits.parse().ok().filter(|number| *number < end);
        number.filter(|_| is_fine)
    };
    let (hours, minutes): (i64, i64) = (number(hours, 24)?, number(minutes, 60)?);
    Some((civil, sign * (hours * 60 + minutes) * 60))
}

/// As [`parse_moment`] reads it.
pub(super) fn format_moment(unix_ms: u64) -> String {
    let time: SystemTime = UNIX_EPOCH + Duration::from_millis(unix_ms);
    humantime::format_rfc3339(time).to_string()
}

const SECRET_FORM: &str = "\"hex:…\" or \"text:…\" with 1 to 1024 octets";

/// `secret`; what is refused is not shown.
fn inline_secret(value: &DeValue<'_>) -> Result<Secret, String> {
    let Some(text) = value.as_str() else {
        return Err(expected(SECRET_FORM, value));
    };
    prefixed_secret(text.as_bytes())
        .unwrap_or(None)
        .ok_or_else(|| format!("expected {SECRET_FORM}, got a string of another form"))
}

/// The secret behind `hex:` or `text:`; `Err` when there is no such prefix.
fn prefixed_secret(octets: &[u8]) -> Result<Option<Secret>, ()> {
    let secret = if let Some(text) = octets.strip_prefix(b"text:") {
        Some(Zeroizing::new(text.to_vec()))
    } else {
        hex_octets(octets.strip_prefix(b"hex:").ok_or(())?)
    };
    let is_fine = |len| (1..=SECRET_LEN_MAX).contains(&len);
    Ok(secret.filter(|secret| is_fine(secret.len())).map(Secret))
}

fn hex_octets(digits: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut octets = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    let (pairs, rest) = digits.as_chunks::<2>();
    for [high, low] in pairs {
        let nibble = |digit: u8| char::from(digit).to_digit(16);
        let octet = nibble(*high)? << 4 | nibble(*low)?;
        octets.push(u8::try_from(octet).ok()?);
    }
    rest.is_empty().then_some(octets)
}

/// Reads a file that only its owner may read: its octets without a newline at the end, or what
/// `hex:` or `text:` makes of them.
fn read_secret(path: &Path) -> Result<Secret, String> {
    let shown = quoted(&path.display().to_string());
    let unreadable = |error: std::io::Error| format!("{shown} cannot be read: {error}");
    // Opening something else than a file may block, or do something.
    check_secret_file(&path.metadata().map_err(unreadable)?, &shown)?;
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .map_err(unreadable)?;
    check_secret_file(&file.metadata().map_err(unreadable)?, &shown)?;
    let mut octets = Zeroizing::new(Vec::with_capacity(4096));
    file.take(SECRET_FILE_LEN_MAX + 1)
        .read_to_end(&mut octets)
        .map_err(unreadable)?;
    let bare = octets.strip_suffix(b"\n").unwrap_or(&octets);
    let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
    let secret = prefixed_secret(bare).unwrap_or_else(|()| {
        let fits = (1..=SECRET_LEN_MAX).contains(&bare.len());
        fits.then(|| Secret(Zeroizing::new(bare.to_vec())))
    });
    secret.ok_or_else(|| {
        format!("expected a file with 1 to {SECRET_LEN_MAX} octets, or {SECRET_FORM}, got {shown} with other content")
    })
}

fn check_secret_file(metadata: &std::fs::Metadata, shown: &str) -> Result<(), String> {
    if !metadata.is_file() {
        return Err(format!("expected a file, {shown} is none"));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(format!(
            "expected a file that only its owner may use (mode 0600), got mode {mode:04o} of {shown}"
        ));
    }
    Ok(())
}

/// Notes what is wrong with keys as a whole.
pub(super) fn check(config: &Config, notes: &mut Notes) {
    let mut sharing = BTreeMap::new();
    for (group_at, group) in config.groups.iter().enumerate() {
        for (peer_at, peer) in group.peers.iter().enumerate() {
            let path = format!("group[{group_at}].peer[{peer_at}]");
            check_peer(peer, &path, notes);
            // One packet, signed once, may go to all on a multipoint link (H-10, CSU-14) and speak
            // for all groups of a family (H-14).
            let shared = config.links[peer.link].is_multipoint();
            let station = (!shared).then_some(&peer.address);
            let own_group = (group.family == FamilyId(0)).then_some(group_at);
            let (first, first_path) = sharing
                .entry((peer.link, station, group.family.0, own_group))
                .or_insert((peer, path.clone()));
            if (first.auth, &first.keys) != (peer.auth, &peer.keys) {
                let message = format!(
                    "expected auth and keys as {first_path} has, which gets the same packets"
                );
                notes.add(&format!("{path}.auth"), message);
            }
        }
    }
}

/// Notes what is wrong with the keys of one peer.
fn check_peer(peer: &Peer, path: &str, notes: &mut Notes) {
    let lacks = |word: &str| {
        format!(
            "\"{}\" needs a [[group.peer.key]] with direction \"{word}\" or \"both\"",
            mode_name(peer.auth)
        )
    };
    let signs = matches!(peer.auth, AuthMode::Send | AuthMode::Require);
    if signs && !peer.keys.iter().any(Key::sends) {
        notes.add(&format!("{path}.auth"), lacks("send"));
    }
    let verifies = matches!(peer.auth, AuthMode::Accept | AuthMode::Require);
    if verifies && !peer.keys.iter().any(Key::receives) {
        notes.add(&format!("{path}.auth"), lacks("receive"));
    }
    for (at, key) in peer.keys.iter().enumerate() {
        let clashes = |other: &&Key| {
            (other.spi, other.receives(), key.receives()) == (key.spi, true, true)
                && overlap(other.accept, key.accept)
        };
        let mut earlier = peer.keys[..at].iter();
        if let Some(other) = earlier.position(|other| clashes(&other)) {
            let taken = format!(
                "{} already receives with key[{other}] at the same time",
                key.spi
            );
            notes.add(&format!("{path}.key[{at}].spi"), taken);
        }
    }
}

fn overlap(a: Period, b: Period) -> bool {
    let ends_before = |a: Period, b: Period| {
        let (until, from) = (a.until_ms, b.from_ms);
        until.is_some_and(|until| from.is_some_and(|from| until <= from))
    };
    !ends_before(a, b) && !ends_before(b, a)
}

/// As in the configuration.
pub(super) fn mode_name(mode: AuthMode) -> &'static str {
    match mode {
        AuthMode::Off => "off",
        AuthMode::Accept => "accept",
        AuthMode::Send => "send",
        AuthMode::Require => "require",
    }
}

impl Direction {
    /// As in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Both => "both",
        }
    }
}

#[cfg(test)]
mod tests;
