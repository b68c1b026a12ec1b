//! Dependencies run one way: godzilla -> gateway, accounts, chat, presence -> sessions, cluster, socketio, embedded -> proto.

use super::{crates, none, read};

/// The crates of the workspace, and the crates that each may depend on.
const ARROWS: [(&str, &[&str]); 15] = [
    (
        "godzilla",
        &[
            "gateway",
            "accounts",
            "chat",
            "presence",
            "cluster",
            "sessions",
            "socketio",
            "embedded",
            "remote",
            "runtime",
            "proto",
            "supervision",
        ],
    ),
    ("gateway", &["cluster", "sessions", "socketio", "embedded", "runtime", "proto", "supervision"]),
    ("accounts", &["sessions", "socketio", "embedded", "remote", "runtime", "proto", "supervision"]),
    ("chat", &["sessions", "socketio", "embedded", "remote", "runtime", "proto", "supervision"]),
    ("presence", &["sessions", "socketio", "embedded", "proto", "supervision"]),
    ("sessions", &["embedded", "remote", "runtime", "proto", "supervision"]),
    ("bench", &["proto"]),
    ("testkit", &[]),
    ("socketio", &[]),
    ("embedded", &[]),
    ("cluster", &["remote", "supervision"]),
    ("remote", &[]),
    ("runtime", &[]),
    ("proto", &[]),
    ("supervision", &[]),
];

#[test]
fn dependencies_run_one_way() {
    let names: Vec<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    let mut offences = Vec::new();
    for folder in crates() {
        let manifest = read(format!("{folder}/Cargo.toml").trim_start_matches('/'));
        // The name of a crate is the last part of its folder.
        let name = folder.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("godzilla");
        let Some((_, allowed)) = ARROWS.iter().find(|(listed, _)| *listed == name) else {
            offences.push(format!("{name}: the crate is not listed in ARROWS"));
            continue;
        };
        let dependencies = dependencies(&manifest);
        assert!(!dependencies.is_empty(), "{name}: no dependency found, the parser is broken");
        let wrong = dependencies.iter().filter(|used| names.contains(used) && !allowed.contains(used));
        offences.extend(wrong.map(|used| format!("{name} -> {used}")));
    }
    none("forbidden dependencies", offences);
}

/// Services and their contract are at the top level; libraries and tools, which do not depend on the chat, under `crates/`.
#[test]
fn the_top_level_holds_services_only() {
    let services = ["accounts", "chat", "gateway", "presence", "proto"];
    let folders = crates();
    let misplaced = folders.iter().filter(|folder| {
        !folder.is_empty() && !folder.starts_with("crates/") && !services.contains(&folder.as_str())
    });
    none("a library belongs under crates/", misplaced.cloned());
    let missing = services.iter().filter(|service| !folders.iter().any(|folder| folder == *service));
    none("a service stands at the top level", missing.map(ToString::to_string));
    let dependent = folders.iter().filter(|folder| folder.starts_with("crates/")).filter(|folder| {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        dependencies(&manifest).iter().any(|used| *used != "proto" && services.contains(used))
    });
    none("a crate under crates/ depends on no service", dependent.cloned());
}

/// The names under `[dependencies]` and `[build-dependencies]`; dev-dependencies are not checked.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section.ends_with("dependencies")
                && !section.ends_with("dev-dependencies")
                && !section.starts_with("workspace");
            continue;
        }
        let end =
            line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).unwrap_or(line.len());
        if inside && end > 0 {
            names.push(&line[..end]);
        }
    }
    names
}
