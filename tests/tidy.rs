//! House rules that tools can check, by reading the sources: dependency arrows, generated documents. Needs no server.

mod arrows;
pub mod documents;

use std::{fs, path::PathBuf};

/// The folders of the workspace's crates; `""` is the root.
fn crates() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let members = manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']'));
    let (members, _) = members.expect("the workspace lists its members");
    let folders = members.split(',').map(|name| name.trim().trim_matches('"').to_owned());
    folders.filter(|name| !name.is_empty()).chain([String::new()]).collect()
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
