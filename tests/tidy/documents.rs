//! Generated documents: docs/metrics.md is what the sources describe.
//!
//! The test compares the page with the generated text. After a change of a metric, write it with
//!
//! ```sh
//! GODZILLA_WRITE_DOCS=1 cargo test --locked --test house tidy::documents
//! ```

mod metrics;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

pub use self::metrics::metric;
use super::{none, root};

/// The environment variable that makes the test write the page.
const WRITE: &str = "GODZILLA_WRITE_DOCS";

/// Compares a page with its generated text, or writes it.
#[track_caller]
fn check(path: &str, generated: &str) {
    if std::env::var_os(WRITE).is_some_and(|value| !value.is_empty()) {
        return fs::write(root().join(path), generated).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let page = fs::read_to_string(root().join(path)).unwrap_or_default();
    let differing = page.lines().zip(generated.lines()).find(|(page, generated)| page != generated);
    assert!(
        page == generated,
        "{path} is not current. Write it with {WRITE}=1 (see tests/tidy/documents.rs). First difference, or another length: \
         {differing:#?}"
    );
}

/// A Markdown table. `|` in a cell is escaped.
fn table<const N: usize>(columns: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let row =
        |cells: [String; N]| format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
    let head = row(columns.map(str::to_owned)) + &format!("|{}\n", "---|".repeat(N));
    rows.into_iter().fold(head, |text, cells| text + &row(cells))
}

/// `text` as code, or a dash where it is empty.
fn code(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { format!("`{text}`") }
}

/// The names of metrics in a text.
fn metric_names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("godzilla_") || word.starts_with("socketio_")).collect()
}

/// Every file in a folder and its folders.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn documents_and_manifests_name_only_metrics_that_exist() {
    let texts = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| root().join(name));
    let folders = ["docs", "manifests"].into_iter().flat_map(|folder| files(&root().join(folder)));
    let mut found = 0;
    let mut unknown = Vec::new();
    for path in texts.into_iter().chain(folders) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        for name in metric_names(&text) {
            found += 1;
            if !metric::all().any(|metric| metric.name == name) {
                unknown.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(found > 30, "only {found} names found: the search is broken");
    none("a metric that does not exist", unknown);
}
