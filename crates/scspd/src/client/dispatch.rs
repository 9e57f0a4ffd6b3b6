//! Commands: what each asks of which thread.

use scsp_engine::InstanceIndex;
use scsp_engine::shard::Refusal;
use scsp_profile::Profile;
use scsp_profile::kv::{HEADER_LEN, KEY_LEN_MAX};
use scsp_resp::command::reply_command;
use scsp_resp::error::CommandError;
use scsp_resp::options::{
    Expire, Expiry, Scan, ScspDigest, ScspGet, ScspPeerClear, ScspPublish, ScspScan, Set,
    SetCondition, Timed, mset_pairs, ping, scsp_peers,
};
use scsp_resp::{Args, Command, CommandId, Writer};
use scsp_wire::{CsaSeq, ServerId};

use super::batch::{Kind, Op, SetReply, SetRule};
use super::combine::What;
use super::execute::refuse;
use super::route::Call;
use super::session::Mute;

/// Why a command is answered with an error before it reaches a shard.
pub(super) enum Fault<'a> {
    /// Its arguments.
    Command(CommandError<'a>),
    /// A fixed text.
    Static(&'static str),
    /// A text that names things.
    Text(String),
    /// What a shard would refuse too.
    Refused(Refusal),
}

impl<'a> From<CommandError<'a>> for Fault<'a> {
    fn from(error: CommandError<'a>) -> Self {
        Self::Command(error)
    }
}

impl Fault<'_> {
    fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Self::Command(error) => writer.error(error),
            Self::Static(text) => writer.error(text),
            Self::Text(text) => writer.error(text),
            Self::Refused(refusal) => refuse(writer, *refusal),
        }
    }
}

const PLAIN_SET: SetRule = SetRule {
    condition: SetCondition::Always,
    expiry: Expiry::Never,
    reply: SetReply::Ok,
};

impl Call<'_, '_> {
    /// Carries out one command, or sends it on its way.
    pub(super) fn command(&mut self, args: Args<'_>) {
        let session = &mut *self.session;
        session.replies.silent = session.mute != Mute::Never;
        if session.mute == Mute::Next {
            session.mute = Mute::Never;
        }
        let outcome = match Command::resolve(args) {
            Ok(command) => {
                session.last = Some(command.name);
                self.clients.commands[command.id.index()] += 1;
                self.dispatch(command.id, args)
            }
            Err(error) => Err(error.into()),
        };
        if let Err(fault) = outcome {
            self.reply(|writer| fault.write(writer));
        }
    }

    fn dispatch<'a>(&mut self, id: CommandId, args: Args<'a>) -> Result<(), Fault<'a>> {
        let none = InstanceIndex(0);
        match id {
            CommandId::Get => self.on_first(Kind::Get, args)?,
            CommandId::Set => self.set(args)?,
            CommandId::Setex => self.set_timed(&Timed::parse_setex(args)?)?,
            CommandId::Psetex => self.set_timed(&Timed::parse_psetex(args)?)?,
            CommandId::Setnx => {
                let condition = SetCondition::IfAbsent;
                let rule = SetRule {
                    condition,
                    reply: SetReply::Flag,
                    ..PLAIN_SET
                };
                self.write_key(rule, args.at(1), args.at(2))?;
            }
            CommandId::Mget => self.mget(args)?,
            CommandId::Mset => self.mset(args)?,
            CommandId::Getdel => self.on_first(Kind::Getdel, args)?,
            CommandId::Strlen => self.on_first(Kind::Strlen, args)?,
            CommandId::Type => self.on_first(Kind::Type, args)?,
            CommandId::Ttl => self.on_first(Kind::Ttl { in_ms: false }, args)?,
            CommandId::Pttl => self.on_first(Kind::Ttl { in_ms: true }, args)?,
            CommandId::Persist => self.on_first(Kind::Persist, args)?,
            CommandId::Expire => self.expire(&Expire::parse_expire(args)?)?,
            CommandId::Pexpire => self.expire(&Expire::parse_pexpire(args)?)?,
            CommandId::Del | CommandId::Unlink => self.count_keys(Kind::Del, args)?,
            CommandId::Exists => self.count_keys(Kind::Exists, args)?,
            CommandId::Dbsize => {
                let at = self.kv()?;
                self.on_all(at, Op::plain(Kind::Len), What::Sum(0));
            }
            CommandId::Keys => {
                let at = self.kv()?;
                let op = Op {
                    kind: Kind::Keys,
                    key: &[],
                    value: args.at(1),
                };
                self.on_all(
                    at,
                    op,
                    What::Join {
                        count: 0,
                        elements: Vec::new(),
                    },
                );
            }
            CommandId::Scan => self.scan(args)?,
            CommandId::ScspPublish => self.publish(args)?,
            CommandId::ScspPurge => {
                let at = self.released_group(args.at(1))?;
                self.on_key(at, Op::on(Kind::Purge, args.at(2)));
            }
            CommandId::ScspDigest => self.digest(args)?,
            CommandId::ScspGet => self.records(args)?,
            CommandId::ScspScan => self.scan_records(args)?,
            CommandId::ScspGroups => self.groups(),
            CommandId::ScspPeers => {
                let group = scsp_peers(args)?.map(|name| self.group(name)).transpose()?;
                self.on_control(none, Op::plain(Kind::Peers { group }));
            }
            CommandId::ScspPeer => {
                let clear = ScspPeerClear::parse(args)?;
                let at = self.group(clear.group)?;
                self.on_control(
                    at,
                    Op {
                        kind: Kind::Clear,
                        key: &[],
                        value: clear.id,
                    },
                );
            }
            CommandId::ScspStatus => self.on_control(none, Op::plain(Kind::Status)),
            CommandId::Ping => match ping(args)? {
                Some(text) => self.reply(|writer| writer.bulk(text)),
                None => self.reply(|writer| writer.simple("PONG")),
            },
            CommandId::Echo => self.reply(|writer| writer.bulk(args.at(1))),
            CommandId::Command => self.reply(|writer| reply_command(writer, args)),
            CommandId::Hello => self.hello(args)?,
            CommandId::Auth => self.auth(args)?,
            CommandId::Select => self.select(args)?,
            CommandId::Client => self.client(args)?,
            CommandId::Reset => self.reset(),
            CommandId::Quit => self.quit(),
            CommandId::Config => self.config(args)?,
            CommandId::Info => self.info(args),
            CommandId::Time => self.time(),
        }
        Ok(())
    }

    /// Answers OK.
    pub(super) fn ok(&mut self) {
        self.reply(|writer| writer.simple("OK"));
    }

    /// The selected group, if keys and values are what it holds and it is not held (D-09).
    fn kv(&self) -> Result<InstanceIndex, Fault<'static>> {
        let at = self.session.database;
        let hub = &self.clients.hub;
        if hub.setup.instances[at.index()].profile != Profile::Kv {
            let group = &hub.groups[at.index()];
            return Err(Fault::Text(format!(
                "ERR group {} is of protocol {}, which has no keys and values: use SCSP.PUBLISH, \
                 SCSP.PURGE, SCSP.GET and SCSP.SCAN",
                group.name, group.protocol,
            )));
        }
        self.refuse_held(at)
    }

    /// `at`, unless it is held (D-09).
    fn refuse_held(&self, at: InstanceIndex) -> Result<InstanceIndex, Fault<'static>> {
        if self.clients.hub.is_released(at) {
            Ok(at)
        } else {
            Err(Fault::Refused(Refusal::Loading))
        }
    }

    /// The group of that name, unless it is held.
    fn released_group(&self, name: &[u8]) -> Result<InstanceIndex, Fault<'static>> {
        self.group(name).and_then(|at| self.refuse_held(at))
    }

    /// The group of that name.
    fn group(&self, name: &[u8]) -> Result<InstanceIndex, Fault<'static>> {
        let hub = &self.clients.hub;
        hub.group(name).ok_or_else(|| {
            let known: Vec<&str> = hub.groups.iter().map(|group| group.name.as_str()).collect();
            let name = String::from_utf8_lossy(name);
            Fault::Text(format!(
                "ERR no group '{name}', known groups: {}",
                known.join(", ")
            ))
        })
    }

    /// An operation on the first argument.
    fn on_first(&mut self, kind: Kind, args: Args<'_>) -> Result<(), Fault<'static>> {
        let at = self.kv()?;
        self.on_key(at, Op::on(kind, args.at(1)));
        Ok(())
    }

    fn write_key(&mut self, rule: SetRule, key: &[u8], value: &[u8]) -> Result<(), Fault<'static>> {
        let at = self.kv()?;
        self.on_key(
            at,
            Op {
                kind: Kind::Set(rule),
                key,
                value,
            },
        );
        Ok(())
    }

    fn set<'a>(&mut self, args: Args<'a>) -> Result<(), Fault<'a>> {
        let set = Set::parse(args)?;
        let reply = if set.returns_old {
            SetReply::Old
        } else {
            SetReply::Ok
        };
        let rule = SetRule {
            condition: set.condition,
            expiry: set.expiry,
            reply,
        };
        self.write_key(rule, set.key, set.value)
    }

    fn set_timed(&mut self, set: &Timed<'_>) -> Result<(), Fault<'static>> {
        let rule = SetRule {
            expiry: Expiry::AfterMs(set.ttl_ms),
            ..PLAIN_SET
        };
        self.write_key(rule, set.key, set.value)
    }

    fn expire(&mut self, expire: &Expire<'_>) -> Result<(), Fault<'static>> {
        let at = self.kv()?;
        let kind = Kind::Expire {
            after_ms: expire.after_ms,
            condition: expire.condition,
        };
        self.on_key(at, Op::on(kind, expire.key));
        Ok(())
    }

    /// One operation for each argument; the reply is how many had an effect.
    fn count_keys(&mut self, kind: Kind, args: Args<'_>) -> Result<(), Fault<'static>> {
        let at = self.kv()?;
        if args.len() == 2 {
            self.on_key(at, Op::on(kind, args.at(1)));
        } else {
            let ops = (1..args.len()).map(|index| Op::on(kind, args.at(index)));
            self.on_keys(at, ops, What::Sum(0));
        }
        Ok(())
    }

    fn mget(&mut self, args: Args<'_>) -> Result<(), Fault<'static>> {
        let at = self.kv()?;
        self.reply(|writer| writer.array(args.len() - 1));
        for key in args.skip(1).iter() {
            self.on_key(at, Op::on(Kind::Get, key));
        }
        Ok(())
    }

    fn mset<'a>(&mut self, args: Args<'a>) -> Result<(), Fault<'a>> {
        let at = self.kv()?;
        // All or nothing as far as it can be known before.
        for (key, value) in mset_pairs(args)? {
            if !(1..=KEY_LEN_MAX).contains(&key.len()) {
                let (len, min, max) = (key.len(), 1, KEY_LEN_MAX);
                return Err(Fault::Refused(Refusal::Key { len, min, max }));
            }
            let max = self.cx.shard.body_len_max(at, key.len());
            let (len, max) = (value.len(), max.saturating_sub(HEADER_LEN));
            if len > max {
                return Err(Fault::Refused(Refusal::TooLarge { len, max }));
            }
        }
        let kind = Kind::Set(PLAIN_SET);
        let ops = (1..args.len()).step_by(2);
        let ops = ops.map(|index| Op {
            kind,
            key: args.at(index),
            value: args.at(index + 1),
        });
        self.on_keys(at, ops, What::Done);
        Ok(())
    }

    fn scan<'a>(&mut self, args: Args<'a>) -> Result<(), Fault<'a>> {
        let scan = Scan::parse(args)?;
        let at = self.kv()?;
        let is_string = scan
            .kind
            .is_none_or(|kind| kind.eq_ignore_ascii_case(b"string"));
        let Some((shard, position)) = self.position(scan.cursor).filter(|_| is_string) else {
            self.reply(write_end);
            return Ok(());
        };
        let has_pattern = scan.pattern.is_some();
        let kind = Kind::Scan {
            position,
            count: scan.count,
            has_pattern,
        };
        let op = Op {
            kind,
            key: &[],
            value: scan.pattern.unwrap_or_default(),
        };
        self.on_shard(shard, at, op);
        Ok(())
    }

    /// Shard, and position in it, of a cursor; `None` for one that no SCAN has given.
    fn position(&self, cursor: u64) -> Option<(usize, u32)> {
        let shard = usize::try_from(cursor >> 32).ok()?;
        let position = u32::try_from(cursor & u64::from(u32::MAX)).ok()?;
        (shard < self.clients.hub.workers()).then_some((shard, position))
    }

    fn publish<'a>(&mut self, args: Args<'a>) -> Result<(), Fault<'a>> {
        let publish = ScspPublish::parse(args)?;
        let at = self.released_group(publish.group)?;
        let seq = publish.sequence.and_then(CsaSeq::new);
        let op = Op {
            kind: Kind::Publish { seq },
            key: publish.key,
            value: publish.body,
        };
        self.on_key(at, op);
        Ok(())
    }

    fn records<'a>(&mut self, args: Args<'a>) -> Result<(), Fault<'a>> {
        let get = ScspGet::parse(args)?;
        let at = self.released_group(get.group)?;
        let originator = get.originator.map(server_id).transpose()?;
        let value = originator.as_ref().map_or(&[][..], ServerId::as_bytes);
        let kind = Kind::Records {
            all: get.all,
            of_one: originator.is_some(),
        };
        self.on_key(
            at,
            Op {
                kind,
                key: get.key,
                value,
            },
        );
        Ok(())
    }

    fn scan_records<'a>(&mut self, args: Args<'a>) -> Result<(), Fault<'a>> {
        let scan = ScspScan::parse(args)?;
        let at = self.released_group(scan.group)?;
        let Some((shard, position)) = self.position(scan.cursor) else {
            self.reply(write_end);
            return Ok(());
        };
        let kind = Kind::ScanRecords {
            position,
            count: scan.count,
            all: scan.all,
        };
        self.on_shard(shard, at, Op::plain(kind));
        Ok(())
    }

    fn digest<'a>(&mut self, args: Args<'a>) -> Result<(), Fault<'a>> {
        let digest = ScspDigest::parse(args)?;
        let at = self.released_group(digest.group)?;
        let op = Op::plain(Kind::Digest { all: digest.all });
        self.on_all(at, op, What::Digest([0; 2]));
        Ok(())
    }

    fn groups(&mut self) {
        let count = self.clients.hub.groups.len();
        let indexes = (0..count)
            .filter_map(|at| u16::try_from(at).ok())
            .map(InstanceIndex);
        let hub = &self.clients.hub;
        let held = indexes.map(|at| !hub.is_released(at)).collect();
        let what = What::Groups {
            held,
            totals: vec![0; 2 * count],
        };
        self.on_all(InstanceIndex(0), Op::plain(Kind::Digests), what);
    }
}

/// The end of a walk: nothing found, nothing left.
fn write_end(writer: &mut Writer<'_>) {
    writer.array(2);
    writer.bulk(b"0");
    writer.array(0);
}

fn server_id(text: &[u8]) -> Result<ServerId, Fault<'static>> {
    let text = String::from_utf8_lossy(text);
    text.parse()
        .map_err(|error| Fault::Text(format!("ERR server id '{text}': {error}")))
}
