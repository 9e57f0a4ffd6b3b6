//! What is wrong with a configuration, one line per finding.

use std::fmt;

/// Findings kept of one file; more would not help the reader.
pub const ERRORS_MAX: usize = 64;

/// Place in a configuration file.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// Position of the octet `offset` of `text`.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line_start = before
            .iter()
            .rposition(|octet| *octet == b'\n')
            .map_or(0, |at| at + 1);
        // Octets that do not continue a character start one.
        let is_start = |octet: &&u8| **octet & 0xC0 != 0x80;
        Self {
            line: before.split(|octet| *octet == b'\n').count(),
            column: before[line_start..].iter().filter(is_start).count() + 1,
        }
    }
}

/// One finding: where, which key, and what was expected there instead.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}{message}", self.place())]
pub struct ConfigError {
    /// File name as given on the command line.
    pub file: String,
    /// Place of the value; `None` when the file as a whole is meant or the key is not in it.
    pub position: Option<Position>,
    /// Path of the key, such as `group[0].peer[1].address`; empty for syntax and file errors.
    pub key: String,
    /// What was wrong and what was expected.
    pub message: String,
}

impl ConfigError {
    /// `file:line: key: `, without the parts that are not known.
    fn place(&self) -> String {
        let line = self
            .position
            .map_or_else(String::new, |place| format!(":{}", place.line));
        let key = if self.key.is_empty() {
            String::new()
        } else {
            format!("{}: ", self.key)
        };
        format!("{}{line}: {key}", self.file)
    }
}

/// All findings of one file in the order of the file; never empty. Displayed one per line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Sorts the findings by place; those without one come first.
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Self {
        assert!(!errors.is_empty(), "a refusal needs a reason");
        errors.sort_by_key(|error| error.position);
        Self(errors)
    }

    /// The only finding: the file cannot be read or is not TOML.
    pub(super) fn whole_file(file: &str, position: Option<Position>, message: String) -> Self {
        let key = String::new();
        Self(vec![ConfigError {
            file: file.to_owned(),
            position,
            key,
            message,
        }])
    }

    /// The findings, in the order of the file; at most [`ERRORS_MAX`].
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
