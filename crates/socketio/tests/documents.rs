//! README.md names every option and every metric of the crate. Its examples are doctests.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeSet, fs, path::Path};

use socketio::Config;

const README: &str = include_str!("../README.md");

/// The names in the first cells of the table rows of the section with this heading.
fn first_cells(heading: &str) -> BTreeSet<String> {
    let (_, section) = README.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    // Names are in backticks: every second piece. A remark in parentheses is not a name of this crate.
    let names =
        cells.flat_map(|cell| cell.split(" (").next().unwrap_or_default().split('`').skip(1).step_by(2));
    names.map(str::to_owned).collect()
}

#[test]
fn readme_lists_exactly_the_fields_of_the_configuration() {
    let fields: BTreeSet<String> = format!("{:#?}", Config::default())
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(": "))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert!(fields.contains("max_payload"), "{fields:?}");
    assert_eq!(first_cells("Options"), fields);
}

#[test]
fn readme_lists_exactly_the_metrics_of_the_source() {
    let mut metrics = BTreeSet::new();
    collect_metrics(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut metrics);
    assert!(metrics.contains("socketio_sessions"), "{metrics:?}");
    assert_eq!(first_cells("Metrics and logs"), metrics);
}

/// Adds the string literals of all sources that are names of metrics.
fn collect_metrics(folder: &Path, metrics: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_metrics(&path, metrics);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            let literals = text.split('"').filter(|piece| piece.starts_with("socketio_"));
            metrics.extend(literals.filter(|name| !name.contains(' ')).map(str::to_owned));
        }
    }
}
