//! `docs/conformance.md`: one row for each requirement, each with code and a test or a reason.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    env, fs,
};

use crate::source::{File, functions, is_word, read, root, rust_files};

const DOCUMENT: &str = "docs/conformance.md";

/// Families of requirements, each numbered from 1 without gaps.
const FAMILIES: [(&str, u8); 8] = [
    ("W", 11),
    ("H", 14),
    ("CA", 22),
    ("CSU", 20),
    ("X", 7),
    ("N", 5),
    ("K", 5),
    ("D", 21),
];

/// Requirements that are not of level MUST; all of family D are decisions.
const SOFTER: [(&str, &str); 7] = [
    ("H-08", "SHOULD"),
    ("H-14", "MAY"),
    ("CSU-14", "MAY"),
    ("CSU-15", "MAY"),
    ("X-05", "MAY"),
    ("X-07", "MAY"),
    ("N-05", "MAY"),
];

/// What a cell starts with that says why there is nothing to name; it is kept by hand.
const EXCEPTION: &str = "exception: ";
/// What an updated cell says when nothing was found for it; the check refuses it.
const MISSING: &str = "missing";

/// Files and tests that a filled cell names at most.
const PLACES_MAX: usize = 3;
const TESTS_MAX: usize = 4;

struct Row {
    id: String,
    level: String,
    statement: String,
    place: String,
    tests: String,
}

impl Row {
    fn parse(line: &str) -> Option<Self> {
        let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
        let id = cells.next()?.trim();
        if family_of(id).is_none() && !id.contains('-') {
            return None;
        }
        let mut cell = || cells.next().map(|cell| cell.trim().to_owned());
        let row = Self {
            id: id.to_owned(),
            level: cell()?,
            statement: cell()?,
            place: cell()?,
            tests: cell()?,
        };
        assert!(
            cells.next().is_none(),
            "{DOCUMENT}: {id}: more than five cells"
        );
        (!id.starts_with('-')).then_some(row)
    }

    fn is_exception(&self) -> bool {
        self.tests.starts_with(EXCEPTION)
    }

    /// What is wrong with it, given the names of all tests.
    fn faults(&self, names: &BTreeSet<String>) -> Vec<String> {
        let mut faults = Vec::new();
        for name in code_spans(&self.tests) {
            if !names.contains(name) {
                faults.push(format!("there is no test {name}"));
            }
        }
        for path in code_spans(&self.place) {
            if !exists(path) {
                faults.push(format!("there is no file {path}"));
            }
        }
        if !self.is_exception() && code_spans(&self.tests).is_empty() {
            faults.push(format!("neither a test nor \"{EXCEPTION}why\""));
        }
        if !self.is_exception() && code_spans(&self.place).is_empty() {
            faults.push("names no file".to_owned());
        }
        faults
    }

    fn to_line(&self) -> String {
        let Self {
            id,
            level,
            statement,
            place,
            tests,
        } = self;
        format!("| {id} | {level} | {statement} | {place} | {tests} |")
    }
}

/// The family of a well-formed id, known or not.
fn family_of(id: &str) -> Option<&'static str> {
    let (family, number) = id.split_once('-')?;
    let two_digits = number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit());
    let known = FAMILIES.iter().find(|(name, _)| *name == family)?;
    two_digits.then_some(known.0)
}

fn requirements() -> Vec<String> {
    let numbers = |(family, count)| (1..=count).map(move |number| format!("{family}-{number:02}"));
    FAMILIES.into_iter().flat_map(numbers).collect()
}

fn level_of(id: &str) -> &'static str {
    match SOFTER.iter().find(|(softer, _)| *softer == id) {
        Some((_, level)) => level,
        None if id.starts_with("D-") => "decision",
        None => "MUST",
    }
}

fn rows() -> Vec<Row> {
    read(DOCUMENT).lines().filter_map(Row::parse).collect()
}

/// Text between backticks.
fn code_spans(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The ids a test is named after: `k_03_d_21_life_shrinks` gives `K-03` and `D-21`.
fn ids_in_name(name: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut rest = name;
    while let Some((family, after)) = rest.split_once('_') {
        let Some((number, after)) = after.split_once('_') else {
            break;
        };
        let id = format!("{}-{number}", family.to_uppercase());
        if family.chars().any(|c| !c.is_ascii_lowercase()) || family_of(&id).is_none() {
            break;
        }
        ids.push(id);
        rest = after;
    }
    ids
}

/// Names of test functions, by the requirement they are named after.
fn tests_by_id(names: &BTreeSet<String>) -> BTreeMap<String, Vec<&str>> {
    let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in names {
        for id in ids_in_name(name) {
            found.entry(id).or_default().push(name);
        }
    }
    found
}

fn test_names(files: &[File]) -> BTreeSet<String> {
    files
        .iter()
        .flat_map(|file| functions(file.tests()))
        .collect()
}

/// Ids cited in a text, such as `CA-13` in a comment.
fn citations(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (dash, _) in text.match_indices('-') {
        let start = text[..dash]
            .rfind(|c: char| !c.is_ascii_uppercase())
            .map_or(0, |at| {
                at + text[at..].chars().next().map_or(0, char::len_utf8)
            });
        let Some(id) = text.get(start..dash + 3) else {
            continue;
        };
        let before = text[..start].chars().next_back();
        let after = text[dash + 3..].chars().next();
        let joined = |c: Option<char>| c.is_some_and(|c| is_word(c) || c == '-');
        if family_of(id).is_some() && !joined(before) && !joined(after) {
            found.push(id);
        }
    }
    found
}

/// Fills the last two cells of rows from what the tree now holds, except those kept by hand.
fn update(files: &[File], names: &BTreeSet<String>) {
    let tests = tests_by_id(names);
    let updated: Vec<String> = read(DOCUMENT)
        .lines()
        .map(|line| match Row::parse(line) {
            Some(mut row) if !row.is_exception() => {
                let listed = code_spans(&row.tests)
                    .into_iter()
                    .filter(|name| names.contains(*name));
                let found = tests.get(&row.id).into_iter().flatten().copied();
                row.tests = cell(listed.chain(found), TESTS_MAX);
                let listed = code_spans(&row.place)
                    .into_iter()
                    .filter(|path| exists(path));
                row.place = cell(listed.chain(places_of(&row.id, files)), PLACES_MAX);
                row.to_line()
            }
            _ => line.to_owned(),
        })
        .collect();
    fs::write(root().join(DOCUMENT), updated.join("\n") + "\n").expect("a writable document");
}

/// The files whose product code cites `id`, those that do so most first.
fn places_of<'a>(id: &str, files: &'a [File]) -> Vec<&'a str> {
    // Fuzz targets exercise, and lists of errors only name what other files do.
    let implements =
        |file: &&File| !file.path.starts_with("crates/fuzz/") && !file.path.ends_with("/error.rs");
    let mut places: Vec<(Reverse<usize>, &str)> = files
        .iter()
        .filter(implements)
        .map(|file| {
            let count = citations(file.product())
                .iter()
                .filter(|cited| **cited == id)
                .count();
            (Reverse(count), file.path.as_str())
        })
        .filter(|(count, _)| count.0 > 0)
        .collect();
    places.sort_unstable();
    places.into_iter().map(|(_, path)| path).collect()
}

fn exists(path: &str) -> bool {
    root().join(path).exists()
}

/// Up to `count_max` names in backticks, each once, or [`MISSING`].
fn cell<'a>(names: impl Iterator<Item = &'a str>, count_max: usize) -> String {
    let mut quoted: Vec<String> = Vec::new();
    for name in names.map(|name| format!("`{name}`")) {
        if quoted.len() < count_max && !quoted.contains(&name) {
            quoted.push(name);
        }
    }
    if quoted.is_empty() {
        MISSING.to_owned()
    } else {
        quoted.join(", ")
    }
}

#[test]
fn conformance_table_names_every_requirement() {
    // Goal: every requirement has one row that states it, at its own level.
    let rows = rows();
    let stated: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(
        stated,
        requirements(),
        "{DOCUMENT}: one row for each id, in order"
    );
    for row in &rows {
        assert_eq!(
            row.level,
            level_of(&row.id),
            "{DOCUMENT}: level of {}",
            row.id
        );
        assert!(
            row.statement.len() > 20,
            "{DOCUMENT}: {} says next to nothing",
            row.id
        );
    }
}

#[test]
fn conformance_tests_exist() {
    // Goal: every row names code and tests that exist, or gives a reason.
    let files = rust_files();
    let names = test_names(&files);
    if env::var_os("UPDATE_CONFORMANCE").is_some() {
        update(&files, &names);
    }
    let rows = rows();
    let wrong: Vec<String> = rows
        .iter()
        .flat_map(|row| {
            let faults = row.faults(&names).into_iter();
            faults.map(|fault| format!("{}: {fault}", row.id))
        })
        .collect();
    println!("{} requirements, {} faults", rows.len(), wrong.len());
    assert!(wrong.is_empty(), "{DOCUMENT}\n{}", wrong.join("\n"));
}

#[test]
fn cited_requirements_exist() {
    // Goal: neither a test's name nor a comment cites a requirement that does not exist.
    let known: BTreeSet<String> = requirements().into_iter().collect();
    let files = rust_files();
    let mut wrong = Vec::new();
    // This folder alone writes ids that do not exist, to test its own reading.
    for file in files
        .iter()
        .filter(|file| !file.path.contains("/tests/house/"))
    {
        let cited = citations(&file.text).into_iter().map(str::to_owned);
        let named = functions(file.tests())
            .into_iter()
            .flat_map(|name| ids_in_name(&name));
        let unknown = cited.chain(named).filter(|id| !known.contains(id));
        wrong.extend(unknown.map(|id| format!("{}: {id}", file.path)));
    }
    assert!(
        wrong.is_empty(),
        "unknown requirements\n{}",
        wrong.join("\n")
    );
}

#[test]
fn ids_are_told_from_look_alikes() {
    // Goal: ids are read from names and comments, and look-alikes are not.
    assert_eq!(ids_in_name("ca_13_slave_answers"), ["CA-13"]);
    assert_eq!(ids_in_name("csu_99_d_01_unknown"), ["CSU-99", "D-01"]);
    assert!(ids_in_name("ca_1_short").is_empty());
    assert!(ids_in_name("parse_13_octets").is_empty());
    assert_eq!(
        citations("// CA-13, (H-05) – D-02. SHA-256 AB-CA-01 W-011"),
        ["CA-13", "H-05", "D-02"]
    );
}

#[test]
fn rows_that_promise_nothing_are_faults() {
    // Goal: an empty row, one that is only planned, and one that names what does not exist fail.
    let names = BTreeSet::from(["h_01_a_test".to_owned()]);
    let faults = |place: &str, tests: &str| {
        let row = format!("| H-01 | MUST | machines start down | {place} | {tests} |");
        Row::parse(&row).expect("a row").faults(&names).len()
    };
    let (place, test) = ("`Cargo.toml`", "`h_01_a_test`");
    assert_eq!(faults(place, test), 0);
    assert_eq!(faults(place, "exception: cannot be seen from outside"), 0);
    assert_eq!(faults(place, "planned"), 1);
    assert_eq!(faults("planned: links", "planned"), 2);
    assert_eq!(faults(" ", " "), 2);
    assert_eq!(faults("`no/such/file.rs`", test), 1);
    assert_eq!(faults(place, "`h_01_no_such_test`"), 1);
}
