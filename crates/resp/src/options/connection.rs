//! HELLO, AUTH and CLIENT.

use crate::args::Args;
use crate::command::CommandId;
use crate::encode::Protocol;
use crate::error::CommandError;
use crate::number;
use crate::options::{Tail, is};

/// User name and password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Auth<'a> {
    /// The user; `default` when the client names none.
    pub user: &'a [u8],
    /// The password; kept out of `Debug`.
    pub password: &'a [u8],
}

impl std::fmt::Debug for Auth<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth")
            .field("user", &String::from_utf8_lossy(self.user))
            .finish_non_exhaustive()
    }
}

impl<'a> Auth<'a> {
    /// Parses `AUTH [user] password`.
    pub fn parse(args: Args<'a>) -> Result<Self, CommandError<'a>> {
        match args.len() {
            2 => Ok(Self {
                user: b"default",
                password: args.at(1),
            }),
            3 => Ok(Self {
                user: args.at(1),
                password: args.at(2),
            }),
            _ => Err(CommandError::Syntax),
        }
    }
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The version to change to.
    pub protocol: Option<Protocol>,
    /// AUTH.
    pub auth: Option<Auth<'a>>,
    /// SETNAME; a valid name, empty to take the name away.
    pub name: Option<&'a [u8]>,
}

impl<'a> Hello<'a> {
    /// Parses the whole command.
    pub fn parse(args: Args<'a>) -> Result<Self, CommandError<'a>> {
        let mut hello = Self {
            protocol: None,
            auth: None,
            name: None,
        };
        let Some(version) = args.get(1) else {
            return Ok(hello);
        };
        hello.protocol = Some(match number::parse_i64(version) {
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return Err(CommandError::UnsupportedProtocol),
            None => return Err(CommandError::ProtocolNotInteger),
        });
        let mut tail = Tail::new(args, 2);
        while let Some(word) = tail.word() {
            let incomplete = || CommandError::HelloOption(word);
            if is(word, "auth") {
                let user = tail.word().ok_or_else(incomplete)?;
                let password = tail.word().ok_or_else(incomplete)?;
                hello.auth = Some(Auth { user, password });
            } else if is(word, "setname") {
                hello.name = Some(client_name(tail.word().ok_or_else(incomplete)?)?);
            } else {
                return Err(incomplete());
            }
        }
        Ok(hello)
    }
}

/// CLIENT and its subcommands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCommand<'a> {
    /// GETNAME.
    GetName,
    /// HELP: see [`reply_help`](crate::command::reply_help).
    Help,
    /// ID.
    Id,
    /// INFO.
    Info,
    /// KILL.
    Kill(Kill<'a>),
    /// LIST.
    List(ClientList<'a>),
    /// NO-EVICT.
    NoEvict(bool),
    /// NO-TOUCH.
    NoTouch(bool),
    /// REPLY.
    Reply(ReplyMode),
    /// SETINFO.
    SetInfo(LibraryInfo<'a>),
    /// SETNAME of a valid name, empty to take the name away.
    SetName(&'a [u8]),
}

/// Which commands of a connection are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyMode {
    /// All.
    On,
    /// None.
    Off,
    /// All but the next one.
    Skip,
}

/// What a client library tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LibraryInfo<'a> {
    /// LIB-NAME.
    Name(&'a [u8]),
    /// LIB-VER.
    Version(&'a [u8]),
}

/// Kind of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// An ordinary one.
    Normal,
    /// A master's; this server has none.
    Master,
    /// A replica's; this server has none.
    Replica,
    /// One that has subscribed.
    Pubsub,
}

/// `CLIENT LIST [TYPE kind] [ID id …]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientList<'a> {
    /// All connections.
    All,
    /// Those of one kind.
    Kind(ClientKind),
    /// Those with these ids: see [`ids`](Self::ids).
    Ids(Args<'a>),
}

/// CLIENT KILL in its two forms, which are answered differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill<'a> {
    /// CLIENT KILL address: OK, or [`NO_SUCH_CLIENT`](crate::error::NO_SUCH_CLIENT).
    Address(&'a [u8]),
    /// CLIENT KILL option value …: the number of connections closed.
    Filter(KillFilter<'a>),
}

/// A connection must meet every condition that is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KillFilter<'a> {
    /// ID.
    pub id: Option<u64>,
    /// ADDR: the client's address.
    pub address: Option<&'a [u8]>,
    /// LADDR: the server's address.
    pub local_address: Option<&'a [u8]>,
    /// USER.
    pub user: Option<&'a [u8]>,
    /// TYPE.
    pub kind: Option<ClientKind>,
    /// MAXAGE: connected for at least so many seconds.
    pub age_s: Option<u64>,
    /// SKIPME: spare the caller; the default.
    pub skips_me: bool,
}

/// Parses the whole CLIENT command, the subcommand's arity included.
pub fn client(args: Args<'_>) -> Result<ClientCommand<'_>, CommandError<'_>> {
    let container = CommandId::Client.command();
    let value = args.at(2);
    Ok(match container.subcommand(args)?.name {
        "getname" => ClientCommand::GetName,
        "help" => ClientCommand::Help,
        "id" => ClientCommand::Id,
        "info" => ClientCommand::Info,
        "kill" => ClientCommand::Kill(Kill::parse(args)?),
        "list" => ClientCommand::List(ClientList::parse(args)?),
        "no-evict" => ClientCommand::NoEvict(on_off(value)?),
        "no-touch" => ClientCommand::NoTouch(on_off(value)?),
        "reply" => ClientCommand::Reply(ReplyMode::parse(value)?),
        "setinfo" => ClientCommand::SetInfo(LibraryInfo::parse(value, args.at(3))?),
        "setname" => ClientCommand::SetName(client_name(value)?),
        _ => {
            return Err(CommandError::UnknownSubcommand {
                command: container.name,
                name: args.at(1),
            });
        }
    })
}

impl ReplyMode {
    fn parse(word: &[u8]) -> Result<Self, CommandError<'_>> {
        match word {
            _ if is(word, "skip") => Ok(Self::Skip),
            _ => Ok(if on_off(word)? { Self::On } else { Self::Off }),
        }
    }
}

impl<'a> LibraryInfo<'a> {
    fn parse(attribute: &'a [u8], value: &'a [u8]) -> Result<Self, CommandError<'a>> {
        let (name, info) = if is(attribute, "lib-name") {
            ("lib-name", Self::Name(value))
        } else if is(attribute, "lib-ver") {
            ("lib-ver", Self::Version(value))
        } else {
            return Err(CommandError::UnrecognizedOption(attribute));
        };
        if !value.iter().all(u8::is_ascii_graphic) {
            return Err(CommandError::ClientInfo(name));
        }
        Ok(info)
    }
}

impl ClientKind {
    fn parse(word: &[u8]) -> Result<Self, CommandError<'_>> {
        [
            ("normal", Self::Normal),
            ("master", Self::Master),
            ("replica", Self::Replica),
            ("slave", Self::Replica),
            ("pubsub", Self::Pubsub),
        ]
        .into_iter()
        .find_map(|(name, kind)| is(word, name).then_some(kind))
        .ok_or(CommandError::UnknownClientType(word))
    }
}

impl<'a> ClientList<'a> {
    fn parse(args: Args<'a>) -> Result<Self, CommandError<'a>> {
        let option = args.at(2);
        match args.len() {
            2 => Ok(Self::All),
            4 if is(option, "type") => Ok(Self::Kind(ClientKind::parse(args.at(3))?)),
            4.. if is(option, "id") => {
                let ids = args.skip(3);
                if ids.iter().any(|text| client_id(text).is_none()) {
                    return Err(CommandError::InvalidClientId);
                }
                Ok(Self::Ids(ids))
            }
            _ => Err(CommandError::Syntax),
        }
    }

    /// The ids asked for; none unless this is [`Ids`](Self::Ids).
    pub fn ids(&self) -> impl Iterator<Item = u64> + use<'a> {
        let ids = if let Self::Ids(ids) = self {
            *ids
        } else {
            Args::EMPTY
        };
        ids.iter().filter_map(client_id)
    }
}

impl<'a> Kill<'a> {
    fn parse(args: Args<'a>) -> Result<Self, CommandError<'a>> {
        if args.len() == 3 {
            return Ok(Self::Address(args.at(2)));
        }
        let mut filter = KillFilter {
            id: None,
            address: None,
            local_address: None,
            user: None,
            kind: None,
            age_s: None,
            skips_me: true,
        };
        let mut tail = Tail::new(args, 2);
        while let Some(word) = tail.word() {
            let value = tail.value()?;
            if is(word, "id") {
                filter.id = Some(client_id(value).ok_or(CommandError::KillId)?);
            } else if is(word, "addr") {
                filter.address = Some(value);
            } else if is(word, "laddr") {
                filter.local_address = Some(value);
            } else if is(word, "user") {
                filter.user = Some(value);
            } else if is(word, "type") {
                filter.kind = Some(ClientKind::parse(value)?);
            } else if is(word, "maxage") {
                filter.age_s = Some(number::parse_u64(value).ok_or(CommandError::NotInteger)?);
            } else if is(word, "skipme") {
                filter.skips_me = yes_no(value)?;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(Self::Filter(filter))
    }
}

fn client_name(name: &[u8]) -> Result<&[u8], CommandError<'_>> {
    if name.iter().all(u8::is_ascii_graphic) {
        Ok(name)
    } else {
        Err(CommandError::ClientName)
    }
}

fn client_id(text: &[u8]) -> Option<u64> {
    number::parse_u64(text).filter(|&id| id != 0)
}

fn on_off(word: &[u8]) -> Result<bool, CommandError<'_>> {
    either(word, "on", "off")
}

fn yes_no(word: &[u8]) -> Result<bool, CommandError<'_>> {
    either(word, "yes", "no")
}

fn either<'a>(word: &'a [u8], yes: &str, no: &str) -> Result<bool, CommandError<'a>> {
    if is(word, yes) {
        Ok(true)
    } else if is(word, no) {
        Ok(false)
    } else {
        Err(CommandError::Syntax)
    }
}
