//! What the documents say about the tree is so.

use std::fs;

use crate::source::{read, root};

/// Beginnings of what looks like a path of this repository.
const FOLDERS: [&str; 6] = [
    ".ci/", "benches/", "crates/", "deploy/", "docs/", "scripts/",
];

/// The documents that are checked: top level and `docs`, but not the log of past changes.
fn documents() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["", "docs/"] {
        for entry in fs::read_dir(root().join(folder)).expect("a readable folder") {
            let name = entry.expect("a readable folder").file_name();
            let name = name.into_string().expect("file names are UTF-8");
            let is_document = name
                .rsplit_once('.')
                .is_some_and(|(_, extension)| extension == "md");
            if is_document && name != "CHANGELOG.md" {
                found.push(format!("{folder}{name}"));
            }
        }
    }
    found.sort();
    found
}

/// Repository paths that `document` names in code or links to.
fn paths_in(document: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced || line.starts_with("    ") {
            found.extend(line.split_whitespace().filter_map(repository_path));
            continue;
        }
        let spans = line.split('`').skip(1).step_by(2);
        found.extend(
            spans
                .flat_map(str::split_whitespace)
                .filter_map(repository_path),
        );
        let links = line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'));
        found.extend(links.filter_map(|(target, _)| {
            let target = target.split('#').next().unwrap_or_default();
            let outside = target.contains(':') || target.is_empty();
            (!outside).then(|| target.to_owned())
        }));
    }
    found
}

fn repository_path(token: &str) -> Option<String> {
    let token = token
        .trim_start_matches("./")
        .trim_end_matches([',', ';', ':', '.', ')']);
    let path = token.split(['#', ':']).next()?;
    let is_pattern = path.contains(['*', '<', '{', '…', '$']);
    let is_path = FOLDERS.iter().any(|folder| path.starts_with(folder));
    (is_path && !is_pattern).then(|| path.to_owned())
}

#[test]
fn documents_name_existing_files() {
    // Goal: a path in a document leads somewhere.
    let mut wrong = Vec::new();
    let mut checked = 0;
    for document in documents() {
        let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
        for path in paths_in(&read(&document)) {
            checked += 1;
            let here = root().join(&path).exists() || root().join(folder).join(&path).exists();
            if !here {
                wrong.push(format!("{document}: {path} does not exist"));
            }
        }
    }
    assert!(checked > 20, "only {checked} paths found in all documents");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn readme_opens_with_two_commands() {
    // Goal: the two commands of the first page are the ones that continuous integration runs.
    let readme = read("README.md");
    let run = readme
        .find("cargo run --release\n")
        .expect("README.md: how to run it");
    let test = readme
        .find("cargo test --workspace\n")
        .expect("README.md: how to test it");
    let demo = readme
        .find("cargo run --release -- demo")
        .expect("README.md: the demo");
    assert!(
        run < test && test < demo,
        "README.md: run, then test, then the demo"
    );
    assert!(
        read(".ci/run").contains("cargo test --workspace\n"),
        ".ci/run: the tests of README.md"
    );
}

#[test]
fn paths_are_found_where_documents_put_them() {
    // Goal: paths are found in code spans, fences and links, and patterns are left alone.
    let text = "see `crates/a.rs:7`, `x y docs/b.md` and [c](d.md#e) or [f](https://g)\n\
                ```\nrun ./scripts/h.sh\n```\n`crates/*/src`\n";
    assert_eq!(
        paths_in(text),
        ["crates/a.rs", "docs/b.md", "d.md", "scripts/h.sh"]
    );
}
