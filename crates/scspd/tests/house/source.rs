//! The Rust files of the tree, and just enough lexing to look at code without its comments.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One Rust file.
pub(crate) struct File {
    /// Path from the top of the repository, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The whole file is test code.
    pub(crate) is_test: bool,
}

impl File {
    /// The part that ships: nothing of a test file, otherwise all before an inline test module.
    pub(crate) fn product(&self) -> &str {
        &self.text[..self.split()]
    }

    /// The part that is test code.
    pub(crate) fn tests(&self) -> &str {
        &self.text[self.split()..]
    }

    fn split(&self) -> usize {
        if self.is_test {
            return 0;
        }
        test_modules(&self.text)
            .find(|(_, header)| header.ends_with('{'))
            .map_or(self.text.len(), |(at, _)| at)
    }
}

/// The top of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the package sits two folders below the top")
        .to_path_buf()
}

/// Reads a file of the repository by its path from the top.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file under `crates` and `benches`, sorted by path.
pub(crate) fn rust_files() -> Vec<File> {
    let mut files = Vec::new();
    for top in ["benches", "crates"] {
        collect(&root().join(top), top, &mut files);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let outline: Vec<String> = files.iter().flat_map(test_files_named_by).collect();
    for file in &mut files {
        file.is_test |= outline.contains(&file.path);
    }
    assert!(files.len() > 10, "the walk found next to nothing");
    files
}

fn collect(folder: &Path, path: &str, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{path}: {error}")) {
        let entry = entry.expect("a readable folder");
        let name = entry
            .file_name()
            .into_string()
            .expect("file names are UTF-8");
        let path = format!("{path}/{name}");
        if entry.file_type().expect("a file type").is_dir() {
            if !["target", "artifacts", "corpus"].contains(&name.as_str()) {
                collect(&entry.path(), &path, files);
            }
        } else if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "rs")
        {
            let is_test = path.contains("/tests/") || name == "tests.rs";
            files.push(File {
                text: read(&path),
                path,
                is_test,
            });
        }
    }
}

/// Offset and `mod` line of every module that exists under test only.
fn test_modules(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices("#[cfg(").filter_map(|(at, _)| {
        let starts_line = at == 0 || text[..at].ends_with('\n');
        let mut lines = text[at..].lines();
        let attribute = lines.next()?;
        let is_test =
            attribute.starts_with("#[cfg(test)") || attribute.starts_with("#[cfg(all(test");
        let header = lines.find(|line| !line.starts_with("#["))?;
        let is_module = header.starts_with("mod ") || header.starts_with("pub(crate) mod ");
        (starts_line && is_test && is_module).then_some((at, header))
    })
}

/// The files that `#[cfg(test)] mod name;` lines of `file` may refer to.
fn test_files_named_by(file: &File) -> Vec<String> {
    let (folder, name) = file.path.rsplit_once('/').expect("files sit in folders");
    let folder = match name {
        "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
        _ => file.path.trim_end_matches(".rs").to_owned(),
    };
    test_modules(&file.text)
        .filter_map(|(_, header)| header.rsplit_once(' ')?.1.strip_suffix(';'))
        .flat_map(|module| {
            [
                format!("{folder}/{module}.rs"),
                format!("{folder}/{module}/mod.rs"),
            ]
        })
        .collect()
}

/// The names of all functions defined in `text`.
pub(crate) fn functions(text: &str) -> Vec<String> {
    let code = code_only(text);
    let mut names = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at]
            .chars()
            .next_back()
            .is_none_or(|before| !is_word(before))
        {
            let name: String = code[at + 3..].chars().take_while(|c| is_word(*c)).collect();
            if !name.is_empty() {
                names.push(name);
            }
        }
    }
    names
}

/// Whether `word` stands in `code` with no word character on either side.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `text` with comments and the insides of literals taken out; line breaks stay.
pub(crate) fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => comment_end(&chars, at),
            '"' => string_end(&chars, at),
            'r' => raw_string_end(&chars, at),
            '\'' => char_end(&chars, at),
            _ => at,
        };
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().filter(|c| **c == '\n'));
            at = end;
        }
    }
    code
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..]
        .iter()
        .position(|c| *c == '\n')
        .map_or(chars.len(), |len| at + len)
}

fn comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut next = at;
    while next + 1 < chars.len() {
        match (chars[next], chars[next + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                next += 1;
                continue;
            }
        }
        next += 2;
        if depth == 0 {
            return next;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut next = at + 1;
    while next < chars.len() {
        match chars[next] {
            '\\' => next += 2,
            '"' => return next + 1,
            _ => next += 1,
        }
    }
    chars.len()
}

fn raw_string_end(chars: &[char], at: usize) -> usize {
    let prefix = at.checked_sub(1).map(|before| chars[before]);
    if prefix.is_some_and(|c| is_word(c) && c != 'b' && c != 'c') {
        return at;
    }
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return at;
    }
    let mut next = at + 2 + hashes;
    while next < chars.len() {
        let closes = chars[next] == '"'
            && chars[next + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes;
        if closes {
            return next + 1 + hashes;
        }
        next += 1;
    }
    chars.len()
}

/// The end of a character literal, or `at` when the quote opens a lifetime.
fn char_end(chars: &[char], at: usize) -> usize {
    if chars.get(at + 1) == Some(&'\\') {
        let close = chars.iter().skip(at + 3).position(|c| *c == '\'');
        return close.map_or(chars.len(), |len| at + 3 + len + 1);
    }
    if chars.get(at + 2) == Some(&'\'') {
        at + 3
    } else {
        at
    }
}

#[test]
fn code_only_drops_comments_and_literals() {
    // Goal: the checks below look at code, not at what comments and literals say.
    let text = "a /* b /* c */ d */ e // f\n\"g \\\" h\" 'i' '\\'' '\\u{6a}' &'k l r#\"m \" n\"# b\"o\" for";
    let words: Vec<String> = code_only(text)
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert_eq!(words, ["a", "e", "&'k", "l", "b", "for"]);
}

#[test]
fn test_code_is_told_from_product_code() {
    // Goal: an inline test module is no part of the product, an outlined one names its file.
    let inline = File {
        path: "crates/a/src/b.rs".into(),
        text: "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\n".into(),
        is_test: false,
    };
    assert_eq!(functions(inline.product()), ["a"]);
    assert_eq!(functions(inline.tests()), ["b"]);
    let outlined = File {
        text: "#[cfg(test)]\nmod cases;\nfn a() {}\n".into(),
        ..inline
    };
    assert_eq!(functions(outlined.product()), ["a"]);
    assert!(test_files_named_by(&outlined).contains(&"crates/a/src/b/cases.rs".to_owned()));
}
