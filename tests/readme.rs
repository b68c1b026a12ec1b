//! The documents are tested: the example in README.md runs as printed, and the table of flags in docs/configuration.md is the one of
//! the program.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::support::{TestServer, programs::env_path};

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("the document exists")
}

/// The section of a document with this heading, which includes its line feeds.
fn section(name: &str, heading: &str) -> String {
    let text = document(name);
    let (_, section) = text.split_once(heading).expect("the document has this section");
    section.split("\n## ").next().unwrap_or_default().to_owned()
}

/// The flag and default of every row of the table of `serve`.
fn flags_in_the_document() -> BTreeMap<String, String> {
    let rows = section("docs/configuration.md", "\n## `serve`\n");
    let rows = rows.lines().filter_map(|line| line.strip_prefix("| `--"));
    let cells = rows.map(|row| {
        let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
        (cells.next().unwrap_or_default(), cells.next().unwrap_or_default())
    });
    cells.collect()
}

/// The flags and defaults of `--help`.
fn flags_in_help() -> BTreeMap<String, String> {
    let help = Command::new(env!("CARGO_BIN_EXE_godzilla"))
        .args(["serve", "--help"])
        .output()
        .expect("the program starts");
    let help = String::from_utf8(help.stdout).expect("help is text");
    let paragraphs = help.split("\n      --").skip(1);
    let flags = paragraphs.filter_map(|paragraph| {
        let name = paragraph.split([' ', '\n']).next()?.to_owned();
        let default = paragraph.split_once("[default: ").and_then(|(_, rest)| rest.split_once(']'));
        Some((name, default.map_or(String::new(), |(value, _)| value.to_owned())))
    });
    flags.collect()
}

#[test]
fn the_table_of_flags_equals_the_flags_of_the_program() {
    assert!(flags_in_help().contains_key("listen"));
    assert_eq!(flags_in_the_document(), flags_in_help());
}

/// The shell blocks of the section of README.md with this heading.
fn blocks(heading: &str) -> Vec<String> {
    let section = section("README.md", heading);
    let blocks = section.split("```sh\n").skip(1);
    blocks.filter_map(|block| block.split_once("```").map(|(block, _)| block.to_owned())).collect()
}

fn run(script: &str, directory: &TempDir, path: &str) -> Output {
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", script]).current_dir(directory.path()).env("PATH", path);
    shell.output().expect("bash runs")
}

#[tokio::test]
async fn the_example_works_as_printed() {
    let server = TestServer::start().await;
    let directory = TempDir::new().expect("a temporary directory");
    let tools = directory.path().join("tools");
    fs::create_dir(&tools).expect("an empty directory");
    for (name, variable) in [("http", "INTEROP_HTTPIE"), ("node", "INTEROP_NODE")] {
        if let Some(program) = env_path(variable) {
            symlink(program, tools.join(name)).expect("a link");
        }
    }
    // The packages are installed already; the test does not use a registry.
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/node_modules");
    fs::create_dir(directory.path().join("try-godzilla")).expect("an empty directory");
    symlink(packages, directory.path().join("try-godzilla/node_modules")).expect("a link");
    let port = server.system.address.port();
    let script = blocks("\n## Try it\n").concat();
    let script = script.replace(":8080", &format!(":{port}")).replace("npm install", "true npm install");
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/interop/bin");
    let path = format!(
        "{}:{}:{}",
        tools.display(),
        installed.display(),
        std::env::var_os("PATH").unwrap_or_default().display()
    );
    // Removes globals that Node has only since a release newer than 18, the oldest that README names.
    let script = script.replace("\nnode chat.mjs", "\nnode --import=../old.mjs chat.mjs");
    let newer = ["crypto", "CustomEvent", "navigator", "WebSocket", "CloseEvent", "Storage", "EventSource"];
    let old: String = newer.iter().map(|name| format!("delete globalThis.{name};\n")).collect();
    fs::write(directory.path().join("old.mjs"), old).expect("a directory");
    assert!(script.contains("--import"), "the example runs Node:\n{script}");
    let output = run(&script, &directory, &path);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    for expected in
        ["User registered successfully", "Welcome alice!", "bob receives #1 from alice: hello bob"]
    {
        assert!(printed.contains(expected), "{expected:?} is not in\n{printed}");
    }
    assert!(
        printed.trim_end().ends_with('}') && printed.contains(r#""text""#),
        "the history is printed:\n{printed}"
    );
}
