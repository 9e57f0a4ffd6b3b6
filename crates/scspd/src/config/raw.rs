//! Reads tables of a TOML document key by key and notes every finding with its place.
//!
//! The document is walked by hand instead of derived from types: so every message has the same
//! form, unknown keys get a suggestion, and all findings are reported at once.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors, ERRORS_MAX, Position};
use super::values::expected;

/// Findings and the place of every key read so far, by octet offset.
#[derive(Default)]
pub(super) struct Notes {
    findings: Vec<(Option<usize>, String, String)>,
    places: BTreeMap<String, usize>,
}

impl Notes {
    pub(super) fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Notes a finding at the key's place, or at that of its nearest parent in the file.
    pub(super) fn add(&mut self, key: &str, message: String) {
        let mut known = key;
        let place = loop {
            if let Some(place) = self.places.get(known) {
                break Some(*place);
            }
            match known.rfind(['.', '[']) {
                Some(end) => known = &known[..end],
                None => break None,
            }
        };
        self.add_at(place, key, message);
    }

    fn add_at(&mut self, place: Option<usize>, key: &str, message: String) {
        if self.findings.len() < ERRORS_MAX {
            self.findings.push((place, key.to_owned(), message));
        }
    }

    /// The findings as errors of `file` with content `text`; `None` when there are none.
    pub(super) fn into_errors(self, file: &str, text: &str) -> Option<ConfigErrors> {
        let to_error = |(place, key, message): (Option<usize>, String, String)| ConfigError {
            file: file.to_owned(),
            position: place.map(|offset| Position::of(text, offset)),
            key,
            message,
        };
        let errors: Vec<_> = self.findings.into_iter().map(to_error).collect();
        (!errors.is_empty()).then(|| ConfigErrors::new(errors))
    }
}

/// One table of the document, possibly absent. Keys count as known once they were asked for;
/// [`Table::finish`] reports the others.
pub(super) struct Table<'t> {
    notes: &'t mut Notes,
    path: String,
    entries: Option<&'t DeTable<'t>>,
    known: Vec<&'static str>,
    unsupported: Vec<&'static str>,
}

impl<'t> Table<'t> {
    fn new(notes: &'t mut Notes, path: String, entries: Option<&'t DeTable<'t>>) -> Self {
        Self {
            notes,
            path,
            entries,
            known: Vec::new(),
            unsupported: Vec::new(),
        }
    }

    pub(super) fn root(notes: &'t mut Notes, entries: &'t DeTable<'t>) -> Self {
        Self::new(notes, String::new(), Some(entries))
    }

    /// Path of a key of this table.
    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Marks the key as known and notes its place.
    fn find(&mut self, key: &'static str) -> Option<&'t DeValue<'t>> {
        self.known.push(key);
        self.locate(key)
    }

    /// Marks the key as known but not built, so that it is not offered as a choice.
    fn find_unsupported(&mut self, key: &'static str) -> Option<&'t DeValue<'t>> {
        self.unsupported.push(key);
        self.locate(key)
    }

    fn locate(&mut self, key: &str) -> Option<&'t DeValue<'t>> {
        let value = self.entries?.get(key)?;
        let path = self.path_of(key);
        self.notes.places.insert(path, value.span().start);
        Some(value.get_ref())
    }

    /// Notes a finding about a key of this table.
    pub(super) fn refuse(&mut self, key: &str, message: String) {
        let path = self.path_of(key);
        self.notes.add(&path, message);
    }

    /// Notes a finding about the table itself.
    pub(super) fn refuse_all(&mut self, message: String) {
        self.notes.add(&self.path, message);
    }

    /// Whether the key is in the file.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries
            .is_some_and(|entries| entries.contains_key(key))
    }

    /// The value of a key if it is there and `read` accepts it; its refusal is noted.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.find(key)?;
        read(value)
            .map_err(|message| self.refuse(key, message))
            .ok()
    }

    /// The value of a key, or its default when it is absent or refused.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> T {
        self.optional(key, read).unwrap_or(default)
    }

    /// The value of a key that has no default; its absence is noted.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        what: &str,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.optional(key, read);
        if !self.has(key) {
            self.refuse(key, format!("missing, expected {what}"));
        }
        value
    }

    /// Refuses any use of a key that belongs to tables of another kind, `whose`.
    pub(super) fn not_of(&mut self, key: &'static str, whose: &str) {
        if self.find_unsupported(key).is_some() {
            self.refuse(key, format!("only {whose} have this key"));
        }
    }

    /// Refuses any use of a key whose function is not built yet.
    pub(super) fn not_yet(&mut self, key: &'static str) {
        if self.find_unsupported(key).is_some() {
            self.refuse(key, "not supported yet".to_owned());
        }
    }

    /// Accepts only the value that leaves a function off which is not built yet.
    pub(super) fn only(
        &mut self,
        key: &'static str,
        off: &str,
        is_off: impl FnOnce(&DeValue<'_>) -> bool,
    ) {
        if let Some(value) = self.find_unsupported(key)
            && !is_off(value)
        {
            self.refuse(key, format!("not supported yet, {}", expected(off, value)));
        }
    }

    /// A table that may be absent, with all its keys then.
    pub(super) fn table(&mut self, key: &'static str) -> Table<'_> {
        let path = self.path_of(key);
        let entries = self.find(key).and_then(|value| {
            if value.as_table().is_none() {
                self.refuse(key, expected("a table", value));
            }
            value.as_table()
        });
        Table::new(self.notes, path, entries)
    }

    /// Reads every table `[key.name]` in the order of the file. `None` when there is none.
    pub(super) fn named_tables<T>(
        &mut self,
        key: &'static str,
        count_max: usize,
        mut read: impl FnMut(&str, &mut Table<'_>) -> T,
    ) -> Option<Vec<T>> {
        let value = self.find(key)?;
        let Some(entries) = value.as_table() else {
            self.refuse(
                key,
                expected(&format!("tables such as [{key}.main]"), value),
            );
            return None;
        };
        self.bound(key, entries.len(), count_max)?;
        let mut entries: Vec<_> = entries.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let mut results = Vec::new();
        for (name, value) in entries {
            let path = self.path_of(&format!("{key}.{}", bare_or_quoted(name.get_ref())));
            let Some(mut table) = self.inner(path, name.span().start, value.get_ref()) else {
                continue;
            };
            results.push(read(name.get_ref(), &mut table));
            table.finish();
        }
        (!results.is_empty()).then_some(results)
    }

    /// Reads every table `[[key]]`. `None` when there is none.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        count_max: usize,
        mut read: impl FnMut(&mut Table<'_>) -> T,
    ) -> Option<Vec<T>> {
        let path = self.path_of(key);
        let value = self.find(key)?;
        let Some(items) = value.as_array() else {
            self.refuse(
                key,
                expected(&format!("tables, each under [[{}]]", dotted(&path)), value),
            );
            return None;
        };
        self.bound(key, items.len(), count_max)?;
        let mut results = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(mut table) = self.inner(path, item.span().start, item.get_ref()) else {
                continue;
            };
            results.push(read(&mut table));
            table.finish();
        }
        (!results.is_empty()).then_some(results)
    }

    /// `None`, and a finding, for more tables than allowed.
    fn bound(&mut self, key: &str, count: usize, count_max: usize) -> Option<()> {
        if count > count_max {
            self.refuse(
                key,
                format!("expected at most {count_max} tables, got {count}"),
            );
            return None;
        }
        Some(())
    }

    /// One of several tables, at a known place.
    fn inner(&mut self, path: String, place: usize, value: &'t DeValue<'t>) -> Option<Table<'_>> {
        self.notes.places.insert(path.clone(), place);
        let Some(entries) = value.as_table() else {
            self.notes.add(&path, expected("a table", value));
            return None;
        };
        Some(Table::new(self.notes, path, Some(entries)))
    }

    /// Reports the keys nobody asked for.
    pub(super) fn finish(&mut self) {
        for name in self.entries.into_iter().flat_map(DeTable::keys) {
            let key = name.get_ref().as_ref();
            if self.known.contains(&key) || self.unsupported.contains(&key) {
                continue;
            }
            let hint = match nearest(key, &self.known) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("expected one of {}", self.known.join(", ")),
            };
            let path = self.path_of(&bare_or_quoted(key));
            self.notes.add_at(
                Some(name.span().start),
                &path,
                format!("unknown key, {hint}"),
            );
        }
    }
}

/// A key as TOML writes it in a path.
pub(super) fn bare_or_quoted(key: &str) -> String {
    let is_bare = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'_' || octet == b'-';
    if !key.is_empty() && key.len() <= 64 && key.bytes().all(is_bare) {
        return key.to_owned();
    }
    super::values::quoted(key)
}

/// A path without its indexes, as a table header writes it.
fn dotted(path: &str) -> String {
    path.split('.')
        .map(|part| part.split('[').next().unwrap_or(part))
        .collect::<Vec<_>>()
        .join(".")
}

/// The known key within a third of `key`'s letters of it, if any.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let most = (key.len() / 3).max(1);
    known
        .iter()
        .filter(|name| name.len().abs_diff(key.len()) <= most)
        .map(|name| (edit_distance(key.as_bytes(), name.as_bytes()), *name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| name)
}

/// Octets to insert, delete or replace to get from `a` to `b`.
fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
