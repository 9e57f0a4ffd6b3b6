//! Replies of COMMAND and its subcommands, and of HELP.

use crate::args::Args;
use crate::command::{
    COMMANDS, Command, CommandId, Flags, KeyRange, Subcommand, implied_categories,
};
use crate::encode::Writer;
use crate::error::CommandError;
use crate::glob;

/// A command or a subcommand, as COMMAND INFO and DOCS name them.
#[derive(Clone, Copy)]
enum Entry {
    Command(&'static Command),
    Subcommand(&'static Command, &'static Subcommand),
}

/// What COMMAND LIST FILTERBY keeps.
enum Filter<'a> {
    None,
    /// Commands of a module; there are no modules.
    Module,
    Category(&'a [u8]),
    Pattern(&'a [u8]),
}

/// Answers COMMAND and all of its subcommands; `args` is the whole command.
pub fn reply_command(writer: &mut Writer<'_>, args: Args<'_>) {
    if args.len() == 1 {
        return reply_all(writer);
    }
    let outcome = CommandId::Command
        .command()
        .subcommand(args)
        .and_then(|subcommand| {
            let rest = args.skip(2);
            match subcommand.name {
                "count" => writer.count(COMMANDS.len()),
                "docs" => reply_docs(writer, rest),
                "getkeys" => return reply_getkeys(writer, rest),
                "help" => reply_help(writer, CommandId::Command),
                "info" if rest.is_empty() => reply_all(writer),
                "info" => reply_info(writer, rest),
                _ => return reply_list(writer, rest),
            }
            Ok(())
        });
    if let Err(error) = outcome {
        writer.error(error);
    }
}

/// Answers HELP of a container: its subcommands with their summaries.
pub fn reply_help(writer: &mut Writer<'_>, id: CommandId) {
    let command = id.command();
    writer.array(1 + 2 * command.subcommands.len());
    let name = command.name.to_ascii_uppercase();
    writer.simple(format_args!(
        "{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    for subcommand in command.subcommands {
        writer.simple(subcommand.name.to_ascii_uppercase());
        writer.simple(format_args!("    {}", subcommand.summary));
    }
}

fn reply_all(writer: &mut Writer<'_>) {
    writer.array(COMMANDS.len());
    for command in &COMMANDS {
        write_info(writer, Entry::Command(command));
    }
}

fn reply_info(writer: &mut Writer<'_>, names: Args<'_>) {
    writer.array(names.len());
    for name in names.iter() {
        match Entry::find(name) {
            Some(entry) => write_info(writer, entry),
            None => writer.null_array(),
        }
    }
}

fn reply_docs(writer: &mut Writer<'_>, names: Args<'_>) {
    if names.is_empty() {
        writer.map(COMMANDS.len());
        for command in &COMMANDS {
            write_docs(writer, Entry::Command(command));
        }
        return;
    }
    // Unknown names are left out, so they are counted first.
    writer.map(names.iter().filter_map(Entry::find).count());
    for entry in names.iter().filter_map(Entry::find) {
        write_docs(writer, entry);
    }
}

fn reply_list<'a>(writer: &mut Writer<'_>, args: Args<'a>) -> Result<(), CommandError<'a>> {
    let filter = Filter::parse(args)?;
    writer.array(
        COMMANDS
            .iter()
            .filter(|command| filter.keeps(command))
            .count(),
    );
    for command in COMMANDS.iter().filter(|command| filter.keeps(command)) {
        writer.bulk(command.name.as_bytes());
    }
    Ok(())
}

fn reply_getkeys<'a>(writer: &mut Writer<'_>, args: Args<'a>) -> Result<(), CommandError<'a>> {
    let command = Command::find(args.name()).ok_or(CommandError::InvalidCommand)?;
    if command.keys == KeyRange::NONE {
        return Err(CommandError::NoKeys);
    }
    if !command.accepts(args.len()) {
        return Err(CommandError::InvalidCommandArity);
    }
    writer.array(command.keys(args).count());
    for key in command.keys(args) {
        writer.bulk(key);
    }
    Ok(())
}

impl Entry {
    /// The entry of `name` or `container|name`.
    fn find(name: &[u8]) -> Option<Self> {
        let Some(bar) = memchr::memchr(b'|', name) else {
            return Command::find(name).map(Self::Command);
        };
        let (container, rest) = name.split_at(bar);
        let command = Command::find(container)?;
        let subcommand = command.find_subcommand(rest.strip_prefix(b"|")?)?;
        Some(Self::Subcommand(command, subcommand))
    }

    fn write_name(self, writer: &mut Writer<'_>) {
        match self {
            Self::Command(command) => writer.bulk(command.name.as_bytes()),
            Self::Subcommand(command, subcommand) => {
                writer.bulk_display(format_args!("{}|{}", command.name, subcommand.name));
            }
        }
    }

    const fn arity(self) -> i8 {
        match self {
            Self::Command(command) => command.arity,
            Self::Subcommand(_, subcommand) => subcommand.arity,
        }
    }

    const fn flags(self) -> Flags {
        match self {
            Self::Command(command) => command.flags,
            Self::Subcommand(_, subcommand) => subcommand.flags,
        }
    }

    const fn keys(self) -> KeyRange {
        match self {
            Self::Command(command) => command.keys,
            Self::Subcommand(..) => KeyRange::NONE,
        }
    }

    const fn subcommands(self) -> &'static [Subcommand] {
        match self {
            Self::Command(command) => command.subcommands,
            Self::Subcommand(..) => &[],
        }
    }

    /// The container's entry for each subcommand.
    fn children(self) -> impl Iterator<Item = Self> {
        let (Self::Command(command) | Self::Subcommand(command, _)) = self;
        self.subcommands()
            .iter()
            .map(move |subcommand| Self::Subcommand(command, subcommand))
    }

    fn categories(self) -> impl Iterator<Item = &'static str> + Clone {
        let (Self::Command(command) | Self::Subcommand(command, _)) = self;
        command
            .categories
            .iter()
            .copied()
            .chain(implied_categories(self.flags()))
    }
}

/// The ten elements of COMMAND INFO.
fn write_info(writer: &mut Writer<'_>, entry: Entry) {
    let keys = entry.keys();
    writer.array(10);
    entry.write_name(writer);
    writer.integer(i64::from(entry.arity()));
    writer.set(entry.flags().names().count());
    for name in entry.flags().names() {
        writer.simple(name);
    }
    writer.integer(i64::from(keys.first));
    writer.integer(i64::from(keys.last));
    writer.integer(i64::from(keys.step));
    writer.set(entry.categories().count());
    for name in entry.categories() {
        writer.simple(format_args!("@{name}"));
    }
    writer.set(0); // tips for proxies: none
    write_key_specification(writer, keys, entry.flags());
    writer.array(entry.subcommands().len());
    for child in entry.children() {
        write_info(writer, child);
    }
}

/// Key positions in the newer form, in which the last key is counted from the first.
fn write_key_specification(writer: &mut Writer<'_>, keys: KeyRange, flags: Flags) {
    if keys == KeyRange::NONE {
        return writer.set(0);
    }
    let last = if keys.last < 0 {
        i64::from(keys.last)
    } else {
        i64::from(keys.last) - i64::from(keys.first)
    };
    writer.set(1);
    writer.map(3);
    writer.bulk(b"flags");
    writer.set(1);
    writer.simple(if flags.contains(Flags::WRITE) {
        "RW"
    } else {
        "RO"
    });
    writer.bulk(b"begin_search");
    writer.map(2);
    writer.bulk(b"type");
    writer.bulk(b"index");
    writer.bulk(b"spec");
    writer.map(1);
    writer.bulk(b"index");
    writer.integer(i64::from(keys.first));
    writer.bulk(b"find_keys");
    writer.map(2);
    writer.bulk(b"type");
    writer.bulk(b"range");
    writer.bulk(b"spec");
    writer.map(3);
    writer.bulk(b"lastkey");
    writer.integer(last);
    writer.bulk(b"keystep");
    writer.integer(i64::from(keys.step));
    writer.bulk(b"limit");
    writer.integer(0);
}

/// Name and documentation, one pair of a map.
fn write_docs(writer: &mut Writer<'_>, entry: Entry) {
    let (Entry::Command(command) | Entry::Subcommand(command, _)) = entry;
    let (summary, since) = match entry {
        Entry::Command(command) => (command.summary, command.since),
        Entry::Subcommand(_, subcommand) => (subcommand.summary, subcommand.since),
    };
    let fields = [
        ("summary", summary),
        ("since", since),
        ("group", command.group),
    ];
    let has_children = !entry.subcommands().is_empty();
    entry.write_name(writer);
    writer.map(fields.len() + usize::from(has_children));
    for (field, value) in fields {
        writer.bulk(field.as_bytes());
        writer.bulk(value.as_bytes());
    }
    if has_children {
        writer.bulk(b"subcommands");
        writer.map(entry.subcommands().len());
        for child in entry.children() {
            write_docs(writer, child);
        }
    }
}

impl<'a> Filter<'a> {
    fn parse(args: Args<'a>) -> Result<Self, CommandError<'a>> {
        if args.is_empty() {
            return Ok(Self::None);
        }
        if args.len() != 3 || !args.at(0).eq_ignore_ascii_case(b"filterby") {
            return Err(CommandError::Syntax);
        }
        let value = args.at(2);
        match args.at(1).to_ascii_lowercase().as_slice() {
            b"module" => Ok(Self::Module),
            b"aclcat" => Ok(Self::Category(value)),
            b"pattern" => Ok(Self::Pattern(value)),
            _ => Err(CommandError::Syntax),
        }
    }

    fn keeps(&self, command: &Command) -> bool {
        match self {
            Self::None => true,
            Self::Module => false,
            Self::Category(wanted) => command
                .categories()
                .any(|name| name.as_bytes().eq_ignore_ascii_case(wanted)),
            Self::Pattern(pattern) => glob::matches_ignore_case(pattern, command.name.as_bytes()),
        }
    }
}
