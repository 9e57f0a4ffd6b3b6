//! A hub that answers from a script, on a socket of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::thread;

/// Command (octets that do not print as `\xHH`, words joined by spaces) and the reply to it, already
/// encoded; an empty reply hangs up.
type Script = Vec<(&'static str, Vec<u8>)>;

/// Serves until the test process ends.
pub(crate) struct Hub {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// Listens on a free port of 127.0.0.1.
    pub(crate) fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self::serve(address, script, move || {
            let (stream, _) = listener.accept().unwrap();
            (stream.try_clone().unwrap(), stream)
        })
    }

    /// Listens on a unix socket.
    pub(crate) fn serve_unix(listener: UnixListener, address: String, script: Script) -> Self {
        Self::serve(address, script, move || {
            let (stream, _) = listener.accept().unwrap();
            (stream.try_clone().unwrap(), stream)
        })
    }

    fn serve<R: Read, W: Write>(
        address: String,
        script: Script,
        accept: impl Fn() -> (R, W) + Send + 'static,
    ) -> Self {
        let seen = Arc::default();
        let hub = Self {
            address,
            seen: Arc::clone(&seen),
        };
        thread::spawn(move || {
            loop {
                let (reader, mut writer) = accept();
                let mut reader = BufReader::new(reader);
                while let Some(command) = read_command(&mut reader) {
                    seen.lock().unwrap().push(command.clone());
                    let reply = script.iter().find(|(known, _)| *known == command);
                    let unknown = format!("-ERR not in the script: {command}\r\n").into_bytes();
                    let reply = reply.map_or(&unknown, |(_, reply)| reply);
                    if reply.is_empty() || writer.write_all(reply).is_err() {
                        break;
                    }
                }
            }
        });
        hub
    }

    /// What `--connect` takes.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The commands since the last look, in order.
    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// `None` at the end of the connection.
fn read_command(reader: &mut impl BufRead) -> Option<String> {
    let count = read_number(reader, '*')?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut word = vec![0; read_number(reader, '$')? + 2];
        reader.read_exact(&mut word).ok()?;
        let word = word.strip_suffix(b"\r\n").expect("strings end with CR LF");
        words.push(word.escape_ascii().to_string());
    }
    Some(words.join(" "))
}

fn read_number(reader: &mut impl BufRead, mark: char) -> Option<usize> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let number = line
        .strip_prefix(mark)
        .expect("commands are arrays of strings");
    Some(number.trim_end().parse().expect("lengths are numbers"))
}

/// A string reply.
pub(crate) fn bulk(octets: impl AsRef<[u8]>) -> Vec<u8> {
    let octets = octets.as_ref();
    [format!("${}\r\n", octets.len()).as_bytes(), octets, b"\r\n"].concat()
}

/// An array of encoded replies.
pub(crate) fn array(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let items: Vec<_> = items.into_iter().collect();
    [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat()
}

/// A flat map as RESP2 has it.
pub(crate) fn map(fields: &[(&str, &str)]) -> Vec<u8> {
    array(
        fields
            .iter()
            .flat_map(|(name, value)| [bulk(name), bulk(value)]),
    )
}

/// A flat map as RESP3 has it, numbers as integers.
pub(crate) fn map3(fields: &[(&str, &str)]) -> Vec<u8> {
    let value = |text: &str| match text.parse::<i64>() {
        Ok(number) => format!(":{number}\r\n").into_bytes(),
        Err(_) => bulk(text),
    };
    let fields_encoded = fields
        .iter()
        .flat_map(|(name, text)| [bulk(name), value(text)]);
    let head = format!("%{}\r\n", fields.len()).into_bytes();
    [head, fields_encoded.collect::<Vec<_>>().concat()].concat()
}
