//! Many commands on one connection: written together, their replies only counted.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;

use crate::wait;

const TIMEOUT: Duration = Duration::from_mins(1);
const INPUT_LEN: usize = 64 * 1024;
/// Longest line of a reply, beyond which the server talks nonsense.
const LINE_LEN_MAX: usize = 4096;

/// A connection with commands that wait to be written.
#[derive(Debug)]
pub(crate) struct Pipeline {
    stream: TcpStream,
    output: Vec<u8>,
    input: Vec<u8>,
    replies: Replies,
    waiting: usize,
}

impl Pipeline {
    /// Connects.
    pub(crate) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT)
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self {
            stream,
            output: Vec::new(),
            input: vec![0; INPUT_LEN],
            replies: Replies::default(),
            waiting: 0,
        })
    }

    /// Connects and waits until commands are served: the workers of a starting hub may answer
    /// `LOADING` a moment longer than the hub as a whole.
    pub(crate) fn open_serving(address: SocketAddr) -> anyhow::Result<Self> {
        let mut pipeline = Self::open(address)?;
        wait::until(
            "a serving server",
            TIMEOUT,
            Duration::from_millis(1),
            || {
                pipeline.push(&[b"DBSIZE"]);
                match pipeline.flush() {
                    Ok(()) => Ok(Some(())),
                    Err(error) if error.to_string().contains("LOADING") => Ok(None),
                    Err(error) => Err(error),
                }
            },
        )?;
        Ok(pipeline)
    }

    /// Adds a command.
    pub(crate) fn push(&mut self, words: &[&[u8]]) {
        encode(&mut self.output, words);
        self.waiting += 1;
    }

    /// Commands that were added since the last flush.
    pub(crate) const fn len(&self) -> usize {
        self.waiting
    }

    /// Writes all commands and waits for all replies; the first error reply among them is an error.
    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.output)?;
        self.output.clear();
        while self.waiting > 0 {
            let len = self.stream.read(&mut self.input)?;
            anyhow::ensure!(len > 0, "the server closed the connection");
            let count = self.replies.feed(&self.input[..len])?;
            self.waiting = self
                .waiting
                .checked_sub(count)
                .context("more replies than commands")?;
        }
        self.replies.check()
    }
}

/// Appends a command as an array of strings.
pub(crate) fn encode(output: &mut Vec<u8>, words: &[&[u8]]) {
    let mut number = |mark: u8, number: usize| {
        output.push(mark);
        output.extend_from_slice(number.to_string().as_bytes());
        output.extend_from_slice(b"\r\n");
    };
    number(b'*', words.len());
    for word in words {
        output.push(b'$');
        output.extend_from_slice(word.len().to_string().as_bytes());
        output.extend_from_slice(b"\r\n");
        output.extend_from_slice(word);
        output.extend_from_slice(b"\r\n");
    }
}

/// Counts replies that are lines or strings, however they are cut into pieces.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    line: Vec<u8>,
    /// Octets of a string, with its line end, that are still to come.
    skip: usize,
    /// The first error reply.
    error: Option<String>,
}

impl Replies {
    /// The replies that end in `input`.
    pub(crate) fn feed(&mut self, mut input: &[u8]) -> anyhow::Result<usize> {
        let mut count = 0;
        loop {
            if self.skip > 0 {
                let len = self.skip.min(input.len());
                self.skip -= len;
                input = &input[len..];
                if self.skip > 0 {
                    return Ok(count);
                }
                count += 1;
            }
            let Some(end) = input.iter().position(|&octet| octet == b'\n') else {
                self.line.extend_from_slice(input);
                anyhow::ensure!(self.line.len() <= LINE_LEN_MAX, "endless line in a reply");
                return Ok(count);
            };
            self.line.extend_from_slice(&input[..end]);
            input = &input[end + 1..];
            count += usize::from(self.end_of_line()?);
            self.line.clear();
        }
    }

    /// Fails with the first error reply, once.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.error.take() {
            Some(error) => anyhow::bail!("the server answered: {error}"),
            None => Ok(()),
        }
    }

    /// Takes in a whole line; whether a reply is complete with it.
    fn end_of_line(&mut self) -> anyhow::Result<bool> {
        let line = self
            .line
            .strip_suffix(b"\r")
            .context("a line without CR in a reply")?;
        match line.split_first() {
            Some((b'+' | b':' | b'_', _)) => Ok(true),
            Some((b'-', text)) => {
                self.error
                    .get_or_insert_with(|| String::from_utf8_lossy(text).into_owned());
                Ok(true)
            }
            Some((b'$', b"-1")) => Ok(true),
            Some((b'$', digits)) => {
                let len: Option<usize> = std::str::from_utf8(digits)?.parse().ok();
                self.skip = len
                    .and_then(|len| len.checked_add(2))
                    .context("a bad length")?;
                Ok(false)
            }
            _ => anyhow::bail!("unexpected reply {}", line.escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: commands are arrays of strings.
    #[test]
    fn encode_arrays_of_strings() {
        let mut output = Vec::new();
        encode(&mut output, &[b"SET", b"k", b""]);
        assert_eq!(output, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
    }

    /// Goal: the count does not depend on where the stream is cut, and the first error is kept.
    #[test]
    fn replies_cut_anywhere() {
        let stream = b"+OK\r\n$5\r\na\r\nbc\r\n:12\r\n$-1\r\n-ERR one\r\n$0\r\n\r\n-ERR two\r\n";
        for cut in 0..stream.len() {
            let mut replies = Replies::default();
            let (left, right) = stream.split_at(cut);
            let count = replies.feed(left).unwrap() + replies.feed(right).unwrap();
            assert_eq!(count, 7, "cut at {cut}");
            assert_eq!(replies.error.as_deref(), Some("ERR one"));
        }
    }

    /// Goal: what no reply starts with, and lengths that are none, are refused.
    #[test]
    fn garbage_is_refused() {
        for garbage in [
            b"hello\r\n".as_slice(),
            b"$x\r\n",
            b"$-7\r\n",
            b"+OK\n",
            b"*1\r\n",
        ] {
            assert!(
                Replies::default().feed(garbage).is_err(),
                "{}",
                garbage.escape_ascii()
            );
        }
        assert!(Replies::default().feed(&[b'+'; LINE_LEN_MAX + 1]).is_err());
    }
}
