//! Errors that a command answers with, in the words of Redis, and texts that the daemon needs.

use std::fmt::{self, Display};

use crate::args::Args;

/// Octets of an argument that an error text repeats at most.
const ECHO_LEN_MAX: usize = 128;

/// A command is wanted before authentication.
pub const NOAUTH: &str = "NOAUTH Authentication required.";
/// HELLO is wanted before authentication and brings none.
pub const NOAUTH_HELLO: &str = "NOAUTH HELLO must be called with the client already authenticated, \
    otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
    select the RESP protocol version at the same time";
/// AUTH with the wrong name or password.
pub const WRONGPASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";
/// AUTH where no password is configured.
pub const AUTH_UNCONFIGURED: &str = "ERR AUTH <password> called without any password configured \
    for the default user. Are you sure your configuration is correct?";
/// SELECT of a number that no group has.
pub const DB_INDEX: &str = "ERR DB index is out of range";
/// The operation needs a value of another type.
pub const WRONGTYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
/// The memory limit is reached.
pub const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";
/// CLIENT KILL of an address that is not connected.
pub const NO_SUCH_CLIENT: &str = "ERR No such client";

/// Why a command is refused before it is carried out. Its text is the error reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError<'a> {
    /// No such command; holds the whole command.
    #[error("ERR unknown command '{}', with args beginning with: {}", Echo(.0.name()), Beginning(.0))]
    UnknownCommand(Args<'a>),
    /// No such subcommand.
    #[error("ERR unknown subcommand '{}'. Try {} HELP.", Echo(.name), .command.to_ascii_uppercase())]
    UnknownSubcommand {
        /// The command, in lower case.
        command: &'static str,
        /// The subcommand as sent.
        name: &'a [u8],
    },
    /// Too few or too many arguments.
    #[error("ERR wrong number of arguments for '{0}' command")]
    WrongArity(&'static str),
    /// Too few or too many arguments of a subcommand.
    #[error("ERR wrong number of arguments for '{command}|{subcommand}' command")]
    WrongSubcommandArity {
        /// The command, in lower case.
        command: &'static str,
        /// The subcommand, in lower case.
        subcommand: &'static str,
    },
    /// Options that are unknown, incomplete or do not go together.
    #[error("ERR syntax error")]
    Syntax,
    /// An integer is expected.
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    /// A time to live that is not positive or too long; holds the command.
    #[error("ERR invalid expire time in '{0}' command")]
    InvalidExpire(&'static str),
    /// EXPIRE with NX and another condition.
    #[error("ERR NX and XX, GT or LT options at the same time are not compatible")]
    NxConflict,
    /// EXPIRE with GT and LT.
    #[error("ERR GT and LT options at the same time are not compatible")]
    GtLtConflict,
    /// EXPIRE with another option.
    #[error("ERR Unsupported option {}", Echo(.0))]
    UnsupportedOption(&'a [u8]),
    /// A cursor that no SCAN has given.
    #[error("ERR invalid cursor")]
    InvalidCursor,
    /// HELLO with a version that is no number.
    #[error("ERR Protocol version is not an integer or out of range")]
    ProtocolNotInteger,
    /// HELLO with a version other than 2 and 3.
    #[error("NOPROTO unsupported protocol version")]
    UnsupportedProtocol,
    /// HELLO with an unknown option.
    #[error("ERR Syntax error in HELLO option '{}'", Echo(.0))]
    HelloOption(&'a [u8]),
    /// A connection name with octets outside `!` to `~`.
    #[error("ERR Client names cannot contain spaces, newlines or special characters.")]
    ClientName,
    /// A CLIENT SETINFO value with octets outside `!` to `~`; holds the attribute.
    #[error("ERR {0} cannot contain spaces, newlines or special characters.")]
    ClientInfo(&'static str),
    /// CLIENT SETINFO of an unknown attribute.
    #[error("ERR Unrecognized option '{}'", Echo(.0))]
    UnrecognizedOption(&'a [u8]),
    /// CLIENT LIST or KILL with an unknown TYPE.
    #[error("ERR Unknown client type '{}'", Echo(.0))]
    UnknownClientType(&'a [u8]),
    /// CLIENT LIST with an ID that is no positive number.
    #[error("ERR Invalid client ID")]
    InvalidClientId,
    /// CLIENT KILL with an ID that is no positive number.
    #[error("ERR client-id should be greater than 0")]
    KillId,
    /// COMMAND GETKEYS of an unknown command.
    #[error("ERR Invalid command specified")]
    InvalidCommand,
    /// COMMAND GETKEYS with the wrong number of arguments for that command.
    #[error("ERR Invalid number of arguments specified for command")]
    InvalidCommandArity,
    /// COMMAND GETKEYS of a command without keys.
    #[error("ERR The command has no key arguments")]
    NoKeys,
    /// SCSP.PUBLISH with a sequence outside the range of CSU-18 and CSU-19.
    #[error("ERR SEQ is not an integer from -2147483647 to 2147483646")]
    InvalidSequence,
}

/// An argument in an error text: shortened, what is no UTF-8 replaced.
struct Echo<'a>(&'a [u8]);

impl Display for Echo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_text(f, self.0, ECHO_LEN_MAX)
    }
}

/// The arguments after the name, each quoted and followed by a blank, until they are long enough.
struct Beginning<'a>(&'a Args<'a>);

impl Display for Beginning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written_len = 0;
        for arg in self.0.iter().skip(1) {
            if written_len >= ECHO_LEN_MAX {
                break;
            }
            let len_max = ECHO_LEN_MAX - written_len;
            f.write_str("'")?;
            write_text(f, arg, len_max)?;
            f.write_str("' ")?;
            written_len += arg.len().min(len_max) + 3;
        }
        Ok(())
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, bytes: &[u8], len_max: usize) -> fmt::Result {
    for chunk in bytes.get(..len_max).unwrap_or(bytes).utf8_chunks() {
        f.write_str(chunk.valid())?;
        if !chunk.invalid().is_empty() {
            f.write_str("\u{FFFD}")?;
        }
    }
    Ok(())
}
