//! Commands about the connection: HELLO, AUTH, CLIENT, SELECT, RESET, QUIT.

use scsp_engine::{InstanceIndex, Now};
use scsp_resp::command::reply_help;
use scsp_resp::error::{AUTH_UNCONFIGURED, DB_INDEX, WRONGPASS};
use scsp_resp::options::{
    Auth, ClientCommand, ClientKind, ClientList, Hello, Kill, LibraryInfo, ReplyMode, client,
    select,
};
use scsp_resp::{Args, CommandId, Protocol};

use super::Clients;
use super::batch::{KillRule, Kind, Op};
use super::combine::What;
use super::dispatch::Fault;
use super::route::Call;
use super::server::REDIS_VERSION;
use super::session::{Exempt, Mute};

/// Ids of connections as the octets of an operation.
fn octets_of(ids: impl Iterator<Item = u64>) -> Vec<u8> {
    ids.flat_map(u64::to_le_bytes).collect()
}

/// The ids that [`octets_of`] packed.
pub(super) fn ids_of(octets: &[u8]) -> impl Iterator<Item = u64> {
    let (words, _) = octets.as_chunks::<8>();
    words.iter().map(|word| u64::from_le_bytes(*word))
}

impl Clients {
    /// Lines of CLIENT LIST for the sessions that are not at hand.
    pub(super) fn describe_all(&self, now: Now, all: bool, ids: &[u8], out: &mut Vec<u8>) {
        for slot in self.slots.iter().flatten() {
            if all || ids_of(ids).any(|id| id == slot.session.id) {
                slot.session.describe(now.time, out);
                out.push(b'\n');
            }
        }
    }

    /// Marks sessions that are not at hand to be closed, and counts them.
    pub(super) fn kill_all(&mut self, now: Now, rule: &KillRule, address: &[u8]) -> usize {
        let before = self.killed.len();
        for slot in self.slots.iter_mut().flatten() {
            let session = &mut slot.session;
            if !session.closing && session.is_meant(rule, address, now.time) {
                session.closing = true;
                self.killed.push_back(session.conn);
            }
        }
        self.killed.len() - before
    }
}

impl Call<'_, '_> {
    /// This connection's line of CLIENT LIST.
    pub(super) fn describe_self(&self, all: bool, ids: &[u8], out: &mut Vec<u8>) {
        if all || ids_of(ids).any(|id| id == self.session.id) {
            self.session.describe(self.cx.now.time, out);
            out.push(b'\n');
        }
    }

    /// Closes this connection, once it has its replies, if CLIENT KILL means it.
    pub(super) fn kill_self(&mut self, rule: &KillRule, address: &[u8]) -> bool {
        let meant = self.session.is_meant(rule, address, self.cx.now.time);
        self.session.closing |= meant;
        meant
    }

    pub(super) fn hello<'a>(&mut self, args: Args<'a>) -> Result<(), Fault<'a>> {
        let hello = Hello::parse(args)?;
        if let Some(auth) = hello.auth {
            check(auth)?;
        }
        if let Some(name) = hello.name {
            self.session.name = name.to_vec();
        }
        if let Some(protocol) = hello.protocol {
            self.session.replies.protocol = protocol;
        }
        let (id, protocol) = (self.session.id, self.session.replies.protocol);
        self.reply(|writer| {
            writer.map(7);
            writer.bulk(b"server");
            writer.bulk(b"redis");
            writer.bulk(b"version");
            writer.bulk(REDIS_VERSION.as_bytes());
            writer.bulk(b"proto");
            writer.integer(i64::from(protocol.number()));
            writer.bulk(b"id");
            writer.integer(i64::try_from(id).unwrap_or(i64::MAX));
            writer.bulk(b"mode");
            writer.bulk(b"standalone");
            writer.bulk(b"role");
            writer.bulk(b"master");
            writer.bulk(b"modules");
            writer.array(0);
        });
        Ok(())
    }

    pub(super) fn auth<'a>(&mut self, args: Args<'a>) -> Result<(), Fault<'a>> {
        let auth = Auth::parse(args)?;
        if args.len() == 2 {
            return Err(Fault::Static(AUTH_UNCONFIGURED));
        }
        check(auth)?;
        self.ok();
        Ok(())
    }

    pub(super) fn select<'a>(&mut self, args: Args<'a>) -> Result<(), Fault<'a>> {
        let index = select(args)?.filter(|index| *index < self.clients.hub.groups.len());
        let index = index.and_then(|index| u16::try_from(index).ok());
        self.session.database = index.map(InstanceIndex).ok_or(Fault::Static(DB_INDEX))?;
        self.ok();
        Ok(())
    }

    pub(super) fn reset(&mut self) {
        let session = &mut *self.session;
        session.database = InstanceIndex(0);
        session.name.clear();
        session.mute = Mute::Never;
        session.exempt = Exempt::default();
        session.replies.silent = false;
        session.replies.protocol = Protocol::Resp2;
        self.reply(|writer| writer.simple("RESET"));
    }

    pub(super) fn quit(&mut self) {
        self.ok();
        self.session.closing = true;
    }

    pub(super) fn client<'a>(&mut self, args: Args<'a>) -> Result<(), Fault<'a>> {
        match client(args)? {
            ClientCommand::GetName => {
                let (replies, name) = (&mut self.session.replies, &self.session.name);
                replies.write(self.output, |writer| match name.as_slice() {
                    [] => writer.null(),
                    name => writer.bulk(name),
                });
            }
            ClientCommand::Help => self.reply(|writer| reply_help(writer, CommandId::Client)),
            ClientCommand::Id => {
                let id = i64::try_from(self.session.id).unwrap_or(i64::MAX);
                self.reply(|writer| writer.integer(id));
            }
            ClientCommand::Info => {
                let mut line = Vec::new();
                self.describe_self(true, &[], &mut line);
                self.reply(|writer| writer.verbatim(&line));
            }
            ClientCommand::Kill(kill) => self.kill(kill),
            ClientCommand::List(list) => self.list(list),
            change => {
                self.change(change);
                self.ok();
            }
        }
        Ok(())
    }

    /// Subcommands that change the session and are answered with OK.
    fn change(&mut self, change: ClientCommand<'_>) {
        let session = &mut *self.session;
        match change {
            ClientCommand::NoEvict(on) => session.exempt.evict = on,
            ClientCommand::NoTouch(on) => session.exempt.touch = on,
            ClientCommand::Reply(mode) => self.mute(mode),
            ClientCommand::SetInfo(LibraryInfo::Name(name)) => {
                session.library_name = name.to_vec();
            }
            ClientCommand::SetInfo(LibraryInfo::Version(version)) => {
                session.library_version = version.to_vec();
            }
            ClientCommand::SetName(name) => session.name = name.to_vec(),
            ClientCommand::GetName
            | ClientCommand::Help
            | ClientCommand::Id
            | ClientCommand::Info
            | ClientCommand::Kill(_)
            | ClientCommand::List(_) => unreachable!("handled by the caller"),
        }
    }

    fn mute(&mut self, mode: ReplyMode) {
        let session = &mut *self.session;
        let (mute, silent) = match mode {
            ReplyMode::On => (Mute::Never, false),
            ReplyMode::Off => (Mute::Always, true),
            ReplyMode::Skip if session.mute == Mute::Always => (Mute::Always, true),
            ReplyMode::Skip => (Mute::Next, true),
        };
        session.mute = mute;
        session.replies.silent = silent;
    }

    fn list(&mut self, list: ClientList<'_>) {
        let (all, ids) = match list {
            ClientList::All | ClientList::Kind(ClientKind::Normal) => (true, Vec::new()),
            ClientList::Kind(_) => (false, Vec::new()),
            ClientList::Ids(_) => (false, octets_of(list.ids())),
        };
        let op = Op {
            kind: Kind::Clients { all },
            key: &[],
            value: &ids,
        };
        self.on_all(InstanceIndex(0), op, What::Text(Vec::new()));
    }

    fn kill(&mut self, kill: Kill<'_>) {
        let (rule, address, what) = match kill {
            Kill::Address(address) => {
                let rule = KillRule {
                    id: None,
                    has_address: true,
                    age_s: None,
                    spared: None,
                };
                (rule, address, What::Killed(0))
            }
            Kill::Filter(filter) => {
                // There is one user and one kind of connection, and no local address is known.
                let nobody = filter.user.is_some_and(|user| user != b"default")
                    || filter.kind.is_some_and(|kind| kind != ClientKind::Normal)
                    || filter.local_address.is_some();
                if nobody {
                    return self.reply(|writer| writer.integer(0));
                }
                let rule = KillRule {
                    id: filter.id,
                    has_address: filter.address.is_some(),
                    age_s: filter.age_s,
                    spared: filter.skips_me.then_some(self.session.id),
                };
                (rule, filter.address.unwrap_or_default(), What::Sum(0))
            }
        };
        self.on_all(
            InstanceIndex(0),
            Op {
                kind: Kind::Kill(rule),
                key: &[],
                value: address,
            },
            what,
        );
    }
}

/// No password is configured: the default user may have any, and there is no other.
fn check(auth: Auth<'_>) -> Result<(), Fault<'static>> {
    if auth.user == b"default" {
        Ok(())
    } else {
        Err(Fault::Static(WRONGPASS))
    }
}
