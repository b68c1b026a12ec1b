//! House rules that tools can check, by reading the sources: dependency arrows, generated documents. Needs no server.

mod arrows;
pub mod documents;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A source file of the workspace.
pub struct Source {
    /// Relative to the repository, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// The text up to the unit tests at the end of the file.
    fn without_tests(&self) -> &str {
        let end = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        &self.text[..end]
    }

    /// Whether the whole file consists of tests, benches or examples.
    fn is_test(&self) -> bool {
        let parts = [
            "tests/",
            "/tests.rs",
            "_tests.rs",
            "/props.rs",
            "/testing.rs",
            "/benches/",
            "/examples/",
            "/fuzz/",
        ];
        parts.iter().any(|part| self.path.contains(part))
    }

    /// Lines that are not comments, numbered from 1.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.without_tests().lines().zip(1..).map(|(line, number)| (number, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// The folders of the workspace's crates; `""` is the root.
fn crates() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let members = manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']'));
    let (members, _) = members.expect("the workspace lists its members");
    let folders = members.split(',').map(|name| name.trim().trim_matches('"').to_owned());
    folders.filter(|name| !name.is_empty()).chain([String::new()]).collect()
}

/// Every Rust file of the workspace.
fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for folder in crates() {
        for part in ["src", "tests", "benches", "examples", "fuzz"] {
            collect(&root().join(&folder).join(part), &mut files);
        }
    }
    let relative = |path: &Path| {
        let path = path.strip_prefix(root()).expect("found under the root");
        path.to_string_lossy().replace('\\', "/")
    };
    let read = |path: PathBuf| Source {
        path: relative(&path),
        text: fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
    };
    let sources: Vec<Source> = files.into_iter().map(read).collect();
    assert!(sources.len() > 50, "only {} sources found: the search is broken", sources.len());
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "node_modules" && name != "target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Panics with all offences.
#[track_caller]
fn none(rule: &str, offences: impl IntoIterator<Item = String>) {
    let offences: Vec<String> = offences.into_iter().collect();
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}
