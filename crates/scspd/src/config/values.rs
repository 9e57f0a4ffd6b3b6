//! Readers of single values. Each says what it expected and what it got instead.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use scsp_wire::{ProtocolId, ServerId, is_broadcast};
use toml::de::DeValue;

use super::{ListenAddress, duration, links, size};

/// Characters of a refused value that a message shows.
const SHOWN_MAX: usize = 60;
/// Characters of the name of a group or link.
const NAME_LEN_MAX: usize = 64;
/// Octets of a socket path: the kernel's 108 less the closing zero.
const UNIX_PATH_LEN_MAX: usize = 107;

const PROTOCOLS: [ProtocolId; 6] = [
    ProtocolId::KV,
    ProtocolId::NHRP,
    ProtocolId::ATMARP,
    ProtocolId::MARS,
    ProtocolId::DHCP,
    ProtocolId::LNNI,
];

/// `expected WHAT, got VALUE`.
pub(super) fn expected(what: &str, value: &DeValue<'_>) -> String {
    format!("expected {what}, got {}", shown(value))
}

/// A value as a message shows it: on one line, long strings cut.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// A string in quotes, on one line, cut after [`SHOWN_MAX`] characters.
pub(super) fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_MAX).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}

/// The reader every string value shares: `read` gets the text, `None` refuses it.
fn text_value<T>(
    value: &DeValue<'_>,
    what: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, String> {
    value
        .as_str()
        .and_then(read)
        .ok_or_else(|| expected(what, value))
}

fn integer(value: &DeValue<'_>) -> Option<i128> {
    let number = value.as_integer()?;
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

pub(super) fn flag(value: &DeValue<'_>) -> Result<bool, String> {
    value
        .as_bool()
        .ok_or_else(|| expected("true or false", value))
}

/// A whole number within `range`.
pub(super) fn whole<T>(range: RangeInclusive<T>) -> impl FnOnce(&DeValue<'_>) -> Result<T, String>
where
    T: TryFrom<i128> + PartialOrd + std::fmt::Display,
{
    move |value| {
        integer(value)
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let what = format!("a whole number from {} to {}", range.start(), range.end());
                expected(&what, value)
            })
    }
}

/// Whole seconds of the wire's 16 bits, not zero (D-04), also as a duration text.
pub(super) fn wire_seconds(value: &DeValue<'_>) -> Result<u16, String> {
    any_duration(value)
        .filter(|duration| duration.subsec_nanos() == 0)
        .and_then(|duration| u16::try_from(duration.as_secs()).ok())
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| expected("whole seconds from 1 to 65535", value))
}

/// A duration text, or whole seconds as a number.
fn any_duration(value: &DeValue<'_>) -> Option<Duration> {
    match value.as_str() {
        Some(text) => duration::parse(text),
        None => integer(value)
            .and_then(|number| u64::try_from(number).ok())
            .map(Duration::from_secs),
    }
}

/// A duration within `range`.
pub(super) fn span(
    range: RangeInclusive<Duration>,
) -> impl FnOnce(&DeValue<'_>) -> Result<Duration, String> {
    move |value| {
        any_duration(value)
            .filter(|duration| range.contains(duration))
            .ok_or_else(|| {
                let [start, end] =
                    [range.start(), range.end()].map(|bound| duration::format(*bound));
                expected(
                    &format!("a duration from {start} to {end}, such as \"500ms\" or 3"),
                    value,
                )
            })
    }
}

/// A size of at least `min` octets, or 0.
pub(super) fn size(min: u64) -> impl FnOnce(&DeValue<'_>) -> Result<u64, String> {
    move |value| {
        let octets = match value.as_str() {
            Some(text) => size::parse(text),
            None => integer(value).and_then(|number| u64::try_from(number).ok()),
        };
        octets
            .filter(|octets| *octets == 0 || *octets >= min)
            .ok_or_else(|| {
                let min = size::format(min);
                expected(
                    &format!("\"0\" or a size from {min} on, such as \"4GiB\" or 100000000"),
                    value,
                )
            })
    }
}

/// An absolute path of a directory; empty: none.
pub(super) fn directory(value: &DeValue<'_>) -> Result<Option<PathBuf>, String> {
    text_value(value, "an absolute path, or \"\" for none", |text| {
        let is_fine = text.starts_with('/') && !text.contains('\0');
        (is_fine || text.is_empty()).then(|| is_fine.then(|| PathBuf::from(text)))
    })
}

/// Whether a value is the number zero.
pub(super) fn is_zero(value: &DeValue<'_>) -> bool {
    integer(value) == Some(0)
}

/// Whether a value is exactly this string.
pub(super) fn is_text(text: &str) -> impl FnOnce(&DeValue<'_>) -> bool {
    move |value| value.as_str() == Some(text)
}

/// One of a closed set of words.
pub(super) fn choice<T: Copy>(
    choices: &[(&'static str, T)],
) -> impl FnOnce(&DeValue<'_>) -> Result<T, String> {
    move |value| {
        let find = |text: &str| choices.iter().find(|(name, _)| *name == text);
        value
            .as_str()
            .and_then(find)
            .map(|(_, choice)| *choice)
            .ok_or_else(|| {
                let names: Vec<_> = choices
                    .iter()
                    .map(|(name, _)| format!("\"{name}\""))
                    .collect();
                expected(&names.join(" or "), value)
            })
    }
}

const NAME_FORM: &str = "a name of 1 to 64 letters, digits, '.', '_' or '-'";

fn is_name(text: &str) -> bool {
    let is_fine = |octet: u8| octet.is_ascii_alphanumeric() || b"._-".contains(&octet);
    (1..=NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(is_fine)
}

/// The name of a group.
pub(super) fn name(value: &DeValue<'_>) -> Result<String, String> {
    text_value(value, NAME_FORM, |text| {
        is_name(text).then(|| text.to_owned())
    })
}

/// What is wrong with the name of a link, if anything.
pub(super) fn name_fault(text: &str) -> Option<String> {
    (!is_name(text)).then(|| format!("expected {NAME_FORM}, got {}", quoted(text)))
}

/// A server id that is not the address of everyone (CSU-13).
pub(super) fn server_id(value: &DeValue<'_>) -> Result<ServerId, String> {
    let Some(text) = value.as_str() else {
        return Err(expected(
            "a server id such as \"10.0.0.1\" or \"text:hub-a\"",
            value,
        ));
    };
    match text.parse::<ServerId>() {
        Ok(id) if is_broadcast(id.as_bytes()) => Err(expected("an id other than all ones", value)),
        Ok(id) => Ok(id),
        Err(error) => Err(format!("{error}, got {}", quoted(text))),
    }
}

/// A protocol by name or number.
pub(super) fn protocol(value: &DeValue<'_>) -> Result<ProtocolId, String> {
    let number = match value.as_str() {
        Some(text) => PROTOCOLS
            .into_iter()
            .find(|protocol| protocol.to_string() == text)
            .or_else(|| {
                let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 4)?;
                let is_hex = digits.bytes().all(|octet| octet.is_ascii_hexdigit());
                u16::from_str_radix(digits, 16)
                    .ok()
                    .filter(|_| is_hex)
                    .map(ProtocolId)
            }),
        None => integer(value)
            .and_then(|number| u16::try_from(number).ok())
            .map(ProtocolId),
    };
    number.ok_or_else(|| {
        expected(
            "kv, nhrp, atmarp, mars, dhcp, lnni or a number such as 0xFF01",
            value,
        )
    })
}

/// A file by its absolute path: a relative one would depend on where the hub was started.
pub(super) fn absolute_path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    text_value(value, "an absolute path", |text| {
        (text.starts_with('/') && !text.contains('\0')).then(|| PathBuf::from(text))
    })
}

/// A list of client addresses; an empty one closes the client interface.
pub(super) fn listen_addresses(
    count_max: usize,
) -> impl FnOnce(&DeValue<'_>) -> Result<Vec<ListenAddress>, String> {
    move |value| {
        let Some(items) = value.as_array().filter(|items| items.len() <= count_max) else {
            let what = format!("an array of at most {count_max} addresses");
            return Err(expected(&what, value));
        };
        items
            .iter()
            .map(|item| listen_address(item.get_ref()))
            .collect()
    }
}

fn listen_address(value: &DeValue<'_>) -> Result<ListenAddress, String> {
    const FORM: &str = "addresses such as \"127.0.0.1:6390\" or \"unix:/run/scspd/scspd.sock\"";
    if let Some(path) = value.as_str().and_then(|text| text.strip_prefix("unix:")) {
        let is_fine =
            path.starts_with('/') && path.len() <= UNIX_PATH_LEN_MAX && !path.contains('\0');
        return is_fine
            .then(|| ListenAddress::Unix(PathBuf::from(path)))
            .ok_or_else(|| {
                expected(
                    &format!("an absolute path of at most {UNIX_PATH_LEN_MAX} octets"),
                    value,
                )
            });
    }
    links::local_address(value)
        .map(ListenAddress::Tcp)
        .map_err(|fault| {
            if fault == expected(links::LOCAL_FORM, value) {
                expected(FORM, value)
            } else {
                fault
            }
        })
}
