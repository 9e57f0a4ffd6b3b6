//! A client that sends and reads octets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::PATIENCE;

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A connection to the client interface.
pub(crate) struct Raw(Box<dyn Stream>);

impl Raw {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the hub accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("an option");
        Self(Box::new(stream))
    }

    pub(crate) fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the hub accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self(Box::new(stream))
    }

    pub(crate) fn send(&mut self, octets: impl AsRef<[u8]>) {
        self.0.write_all(octets.as_ref()).expect("sent");
    }

    /// Reads exactly what is expected.
    #[track_caller]
    pub(crate) fn expect(&mut self, octets: impl AsRef<[u8]>) {
        let expected = octets.as_ref();
        let mut got = vec![0; expected.len()];
        let mut len = 0;
        while len < got.len() {
            match self.0.read(&mut got[len..]) {
                Ok(0) => break,
                Ok(more) => len += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} after {:?}", got[..len].escape_ascii().to_string()),
            }
            if got[..len] != expected[..len] {
                break;
            }
        }
        if got[..len] == *expected {
            return;
        }
        let (got, expected) = (got[..len].escape_ascii(), expected.escape_ascii());
        assert_eq!(got.to_string(), expected.to_string());
    }

    /// Sends, then reads exactly what is expected.
    #[track_caller]
    pub(crate) fn exchange(&mut self, octets: impl AsRef<[u8]>, reply: impl AsRef<[u8]>) {
        self.send(octets);
        self.expect(reply);
    }

    /// All that still comes before the hub closes the connection.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> String {
        let mut octets = Vec::new();
        match self.0.read_to_end(&mut octets) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the hub does not close the connection: {error}"),
        }
        octets.escape_ascii().to_string()
    }
}
