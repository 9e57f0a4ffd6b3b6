//! GET over HTTP/1.1, and what is read from `/metrics`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read.
const ANSWER_LEN_MAX: u64 = 16 * 1024 * 1024;

/// Status code and body of GET `path`.
pub(crate) fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(ANSWER_LEN_MAX).read_to_string(&mut answer)?;
    parse(&answer).with_context(|| format!("no HTTP answer from {address}"))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// One answer of `/metrics`.
#[derive(Debug)]
pub(crate) struct Metrics(String);

impl Metrics {
    /// Asks a hub's admin listener.
    pub(crate) fn scrape(admin: SocketAddr) -> anyhow::Result<Self> {
        let (status, text) = get(admin, "/metrics")?;
        anyhow::ensure!(status == 200, "/metrics of {admin} answered {status}");
        Ok(Self(text))
    }

    /// Sum over all series of `name`; none is an error.
    pub(crate) fn sum(&self, name: &str) -> anyhow::Result<f64> {
        let mut values = self.series(name).map(|(_, value)| value).peekable();
        anyhow::ensure!(values.peek().is_some(), "no metric {name}");
        Ok(values.sum())
    }

    /// A label of the first series of `name`.
    pub(crate) fn label(&self, name: &str, label: &str) -> Option<&str> {
        let (labels, _) = self.series(name).next()?;
        let (_, rest) = labels.split_once(&format!("{label}=\""))?;
        Some(rest.split_once('"')?.0)
    }

    fn series<'a>(&'a self, name: &str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once('}')?,
                None => ("", rest),
            };
            Some((labels, value.strip_prefix(' ')?.trim().parse().ok()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: series are told apart from those whose names only start alike.
    #[test]
    fn metrics_by_whole_name() {
        let metrics = Metrics(
            "# TYPE a counter\na{x=\"1\",y=\"two\"} 3\na{x=\"2\"} 4.5\na_total 9\nb 1\n".to_owned(),
        );
        assert!((metrics.sum("a").unwrap() - 7.5).abs() < 1e-9);
        assert!((metrics.sum("b").unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(metrics.label("a", "y"), Some("two"));
        assert!(metrics.sum("c").is_err());
    }

    /// Goal: status and body are cut out, and garbage is refused.
    #[test]
    fn answers_are_parsed() {
        assert_eq!(
            parse("HTTP/1.0 503 x\r\na: b\r\n\r\nno\n"),
            Some((503, "no\n".to_owned()))
        );
        assert_eq!(parse("HTTP/1.0 503 x\r\n"), None);
    }
}
