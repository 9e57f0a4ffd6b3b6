//! The commands: names, arity, flags, keys, documentation; lookup and the replies of COMMAND.
//!
//! A command is one row in `table.rs` and one variant of [`CommandId`], in the same order. Dispatch is
//! a `match` over [`CommandId`] in the daemon.

mod reply;
mod subcommands;
mod table;
#[cfg(test)]
mod tests;

pub use reply::{reply_command, reply_help};
pub use table::{COMMANDS, CommandId};

use crate::args::Args;
use crate::error::CommandError;

/// Properties of a command, a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// No property.
    pub const NONE: Self = Self(0);
    /// May change records.
    pub const WRITE: Self = Self(1);
    /// Reads records.
    pub const READONLY: Self = Self(1 << 1);
    /// Refused when memory is at its limit.
    pub const DENYOOM: Self = Self(1 << 2);
    /// For operators.
    pub const ADMIN: Self = Self(1 << 3);
    /// Subscribes or publishes.
    pub const PUBSUB: Self = Self(1 << 4);
    /// Not for scripts.
    pub const NOSCRIPT: Self = Self(1 << 5);
    /// Works while the group is held at boot (D-09).
    pub const LOADING: Self = Self(1 << 6);
    /// Works while neighbours are away.
    pub const STALE: Self = Self(1 << 7);
    /// Takes constant or logarithmic time.
    pub const FAST: Self = Self(1 << 8);
    /// Works before authentication.
    pub const NO_AUTH: Self = Self(1 << 9);
    /// May wait.
    pub const BLOCKING: Self = Self(1 << 10);

    /// Every flag with its name in COMMAND's replies.
    const NAMES: [(Self, &'static str); 11] = [
        (Self::WRITE, "write"),
        (Self::READONLY, "readonly"),
        (Self::DENYOOM, "denyoom"),
        (Self::ADMIN, "admin"),
        (Self::PUBSUB, "pubsub"),
        (Self::NOSCRIPT, "noscript"),
        (Self::LOADING, "loading"),
        (Self::STALE, "stale"),
        (Self::FAST, "fast"),
        (Self::NO_AUTH, "no_auth"),
        (Self::BLOCKING, "blocking"),
    ];

    /// The properties of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other`'s properties are here.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names of all properties here.
    pub fn names(self) -> impl Iterator<Item = &'static str> + Clone {
        Self::NAMES
            .iter()
            .filter(move |(flag, _)| self.contains(*flag))
            .map(|&(_, name)| name)
    }
}

/// Which arguments are keys, in Redis' convention: all 0 when none is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRange {
    /// Index of the first key.
    pub first: u8,
    /// Index of the last key; negative counts from the end, -1 being the last argument.
    pub last: i8,
    /// Distance from key to key.
    pub step: u8,
}

impl KeyRange {
    /// The command has no keys.
    pub const NONE: Self = Self {
        first: 0,
        last: 0,
        step: 0,
    };
    /// The first argument is the key.
    pub const FIRST: Self = Self {
        first: 1,
        last: 1,
        step: 1,
    };
    /// Every argument is a key.
    pub const ALL: Self = Self {
        first: 1,
        last: -1,
        step: 1,
    };
    /// Keys and values alternate.
    pub const PAIRS: Self = Self {
        first: 1,
        last: -1,
        step: 2,
    };
    /// The second argument is the key, the first names the group.
    pub const SECOND: Self = Self {
        first: 2,
        last: 2,
        step: 1,
    };
}

/// One row of the table.
#[derive(Debug)]
pub struct Command {
    /// What dispatch matches on.
    pub id: CommandId,
    /// Name in lower case.
    pub name: &'static str,
    /// Number of arguments, name included; negative: at least so many.
    pub arity: i8,
    /// Properties.
    pub flags: Flags,
    /// Where the keys are.
    pub keys: KeyRange,
    /// Categories besides those that follow from the flags, without `@`.
    pub categories: &'static [&'static str],
    /// One line for people.
    pub summary: &'static str,
    /// Group in the documentation.
    pub group: &'static str,
    /// Version that brought it: Redis' for its commands, ours for `scsp.*`.
    pub since: &'static str,
    /// Subcommands, sorted by name; empty for most.
    pub subcommands: &'static [Subcommand],
}

/// A subcommand of a container such as CLIENT.
#[derive(Debug)]
pub struct Subcommand {
    /// Name in lower case.
    pub name: &'static str,
    /// Number of arguments, both names included; negative: at least so many.
    pub arity: i8,
    /// Properties.
    pub flags: Flags,
    /// One line for people.
    pub summary: &'static str,
    /// Version that brought it.
    pub since: &'static str,
}

impl CommandId {
    /// Number of commands, for tables indexed by [`index`](Self::index).
    pub const COUNT: usize = COMMANDS.len();

    /// Position in [`COMMANDS`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The command's row.
    pub const fn command(self) -> &'static Command {
        &COMMANDS[self.index()]
    }
}

impl Command {
    /// The command of that name, in any case.
    pub fn find(name: &[u8]) -> Option<&'static Self> {
        let mut slot = slot_of(name);
        loop {
            let command = COMMANDS.get(usize::from(*SLOTS.get(slot)?))?;
            if command.name.as_bytes().eq_ignore_ascii_case(name) {
                return Some(command);
            }
            slot = (slot + 1) % SLOTS_LEN;
        }
    }

    /// The command that `args` asks for, its arity checked.
    pub fn resolve(args: Args<'_>) -> Result<&'static Self, CommandError<'_>> {
        let command = Self::find(args.name()).ok_or(CommandError::UnknownCommand(args))?;
        if !command.accepts(args.len()) {
            return Err(CommandError::WrongArity(command.name));
        }
        Ok(command)
    }

    /// Whether the command takes `count` arguments, its name included.
    pub const fn accepts(&self, count: usize) -> bool {
        accepts(self.arity, count)
    }

    /// The subcommand that `args` asks for, its arity checked. For containers only.
    pub fn subcommand<'a>(&self, args: Args<'a>) -> Result<&'static Subcommand, CommandError<'a>> {
        let name = args.at(1);
        let found = self
            .find_subcommand(name)
            .ok_or(CommandError::UnknownSubcommand {
                command: self.name,
                name,
            })?;
        if !accepts(found.arity, args.len()) {
            return Err(CommandError::WrongSubcommandArity {
                command: self.name,
                subcommand: found.name,
            });
        }
        Ok(found)
    }

    /// The keys among `args`, a call of this command with its arity checked.
    pub fn keys<'a>(&self, args: Args<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let KeyRange { first, last, step } = self.keys;
        let last = match u8::try_from(last) {
            Ok(last) => usize::from(last),
            Err(_) => args.len().saturating_sub(usize::from(last.unsigned_abs())),
        };
        // Without keys all three are 0: `len` is 0 then, and the step is not used.
        let len = if first == 0 {
            0
        } else {
            (last + 1).min(args.len())
        };
        (usize::from(first)..len)
            .step_by(usize::from(step.max(1)))
            .filter_map(move |i| args.get(i))
    }

    /// The categories, explicit ones first, without `@`.
    pub fn categories(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.categories
            .iter()
            .copied()
            .chain(implied_categories(self.flags))
    }

    fn find_subcommand(&self, name: &[u8]) -> Option<&'static Subcommand> {
        self.subcommands
            .iter()
            .find(|entry| entry.name.as_bytes().eq_ignore_ascii_case(name))
    }
}

/// The categories that follow from flags.
fn implied_categories(flags: Flags) -> impl Iterator<Item = &'static str> + Clone {
    let is = move |flag| flags.contains(flag);
    [
        ("write", is(Flags::WRITE)),
        ("read", is(Flags::READONLY)),
        ("admin", is(Flags::ADMIN)),
        ("dangerous", is(Flags::ADMIN)),
        ("pubsub", is(Flags::PUBSUB)),
        ("blocking", is(Flags::BLOCKING)),
        ("fast", is(Flags::FAST)),
        ("slow", !is(Flags::FAST)),
    ]
    .into_iter()
    .filter_map(|(name, holds)| holds.then_some(name))
}

const fn accepts(arity: i8, count: usize) -> bool {
    let bound = arity.unsigned_abs() as usize;
    if arity < 0 {
        count >= bound
    } else {
        count == bound
    }
}

/// Slots of the name index: a power of two, four times the table or more, so that probes are short.
const SLOTS_LEN: usize = 512;
/// Marks a free slot; no row has this number.
const FREE: u8 = u8::MAX;
/// Row numbers by hash of the name, built by the compiler; a collision takes the next free slot.
static SLOTS: [u8; SLOTS_LEN] = build_slots();

const _: () = assert!(COMMANDS.len() * 4 <= SLOTS_LEN && COMMANDS.len() < FREE as usize);

const fn build_slots() -> [u8; SLOTS_LEN] {
    let mut slots = [FREE; SLOTS_LEN];
    let mut row = 0;
    while row < COMMANDS.len() {
        let mut slot = slot_of(COMMANDS[row].name.as_bytes());
        while slots[slot] != FREE {
            slot = (slot + 1) % SLOTS_LEN;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "asserted above to be below FREE"
        )]
        let number = row as u8;
        slots[slot] = number;
        row += 1;
    }
    slots
}

/// Slot of a name in any case: FNV-1a over its first octets, so that a long name costs no more.
const fn slot_of(name: &[u8]) -> usize {
    const HASHED_LEN_MAX: usize = 16;
    let mut hash = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < name.len() && at < HASHED_LEN_MAX {
        hash = (hash ^ name[at].to_ascii_lowercase() as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ hash >> 16) as usize % SLOTS_LEN
}
