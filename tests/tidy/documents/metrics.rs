//! docs/metrics.md is generated from the table of metrics, and the table describes the metrics that the sources record.

#[path = "../../../src/telemetry/metric/mod.rs"]
#[expect(dead_code, reason = "the program registers the descriptions")]
pub mod metric;

use std::collections::{BTreeMap, BTreeSet};

use self::metric::{Kind, Metric, table::GROUPS};
use super::{check, code, table};
use crate::tidy::{Source, none, sources};

const INTRODUCTION: &str = "\
# Metrics

`/metrics` on the [admin address](operations.md#health-and-metrics) has these metrics in the text format of Prometheus. A metric appears when
it is recorded for the first time. A counter starts at 0 with the process. A histogram has the series `_bucket`, `_sum` and `_count`.

This page is generated from `src/telemetry/metric/table.rs` with `GODZILLA_WRITE_DOCS=1` (`tests/tidy/documents.rs`).
";

/// A call of a macro that records a metric.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Recorded {
    folder: String,
    name: String,
    kind: &'static str,
    labels: BTreeSet<String>,
}

/// The folder of the crate of a source file.
fn folder(path: &str) -> &str {
    path.split_once("/src/").map_or("src", |(folder, _)| folder)
}

/// The code of a file without comments and unit tests.
fn code_of(source: &Source) -> String {
    source.code().map(|(_, line)| line.to_owned() + "\n").collect()
}

/// The arguments of a macro call up to its closing parenthesis.
fn arguments(rest: &str) -> &str {
    let mut depth = 1;
    let end = rest.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '(') - i32::from(*c == ')');
        depth == 0
    });
    end.map_or(rest, |(at, _)| &rest[..at])
}

/// The text of a string literal, or the value of the constant with this name.
fn name(argument: &str, constants: &BTreeMap<String, String>) -> String {
    let argument = argument.trim();
    let literal = argument.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let constant = || constants.get(argument.rsplit("::").next().unwrap_or_default()).cloned();
    literal.map(str::to_owned).or_else(constant).unwrap_or_else(|| {
        panic!("the name of a metric is a literal or a constant of its crate, and not {argument:?}")
    })
}

/// The string constants of a text.
fn constants(text: &str) -> BTreeMap<String, String> {
    let found = text.split("const ").skip(1).filter_map(|rest| {
        let (name, rest) = rest.split_once(": &str = \"")?;
        Some((name.to_owned(), rest.split_once('"')?.0.to_owned()))
    });
    found.filter(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_')).collect()
}

/// The metrics that a text records.
fn recorded(folder: &str, text: &str, constants: &BTreeMap<String, String>) -> Vec<Recorded> {
    let kinds = [Kind::Counter, Kind::Gauge, Kind::Histogram].map(Kind::as_str);
    let calls = kinds.into_iter().flat_map(|kind| {
        let call = format!("metrics::{kind}!(");
        let starts: Vec<usize> = text.match_indices(&call).map(|(at, found)| at + found.len()).collect();
        starts.into_iter().map(move |at| (kind, arguments(&text[at..])))
    });
    let calls = calls.map(|(kind, arguments)| {
        let (first, rest) = arguments.split_once(',').unwrap_or((arguments, ""));
        assert!(rest.trim().is_empty() || rest.contains("=>"), "labels are written in the call: {arguments}");
        let labels = rest.match_indices("=>").filter_map(|(at, _)| rest[..at].trim_end().rsplit('"').nth(1));
        Recorded {
            folder: folder.to_owned(),
            name: name(first, constants),
            kind,
            labels: labels.map(str::to_owned).collect(),
        }
    });
    calls.collect()
}

/// The production files of the workspace.
fn production() -> Vec<Source> {
    sources().into_iter().filter(|source| !source.is_test() && source.path.contains("src/")).collect()
}

#[test]
fn the_table_describes_the_metrics_that_the_sources_record() {
    let mut found = BTreeSet::new();
    let sources = production();
    for source in &sources {
        let (folder, text) = (folder(&source.path), code_of(source));
        let of_crate = sources.iter().filter(|other| self::folder(&other.path) == folder);
        // Constants are looked up only for the files that record metrics.
        if text.contains("metrics::") {
            let constants = of_crate.flat_map(|other| constants(&code_of(other))).collect();
            found.extend(recorded(folder, &text, &constants));
        }
    }
    assert!(found.len() > 30, "only {} metrics found: the search is broken", found.len());
    let described: BTreeSet<Recorded> = GROUPS
        .iter()
        .flat_map(|group| {
            group.metrics.iter().map(|metric| Recorded {
                folder: group.folder.to_owned(),
                name: metric.name.to_owned(),
                kind: metric.kind.as_str(),
                labels: metric.labels.iter().map(|(label, _)| (*label).to_owned()).collect(),
            })
        })
        .collect();
    let missing = found.difference(&described).map(|metric| format!("recorded, not described: {metric:?}"));
    let unused = described.difference(&found).map(|metric| format!("described, not recorded: {metric:?}"));
    none("src/telemetry/metric/table.rs describes every metric", missing.chain(unused));
}

/// The values of a label that are constant: the words in backticks.
fn constant_values(values: &str) -> impl Iterator<Item = &str> {
    let quoted = values.split('`').skip(1).step_by(2);
    quoted.filter(|value| !value.starts_with('-'))
}

#[test]
fn constant_values_of_labels_are_in_the_sources() {
    let sources = production();
    let code: String = sources
        .iter()
        .filter(|source| !source.path.starts_with("src/telemetry/metric/"))
        .map(code_of)
        .collect();
    let labels = metric::all().flat_map(|metric| metric.labels.iter().map(move |label| (metric.name, label)));
    let values = labels
        .flat_map(|(name, (label, values))| constant_values(values).map(move |value| (name, *label, value)));
    // The name of a store is the name of its file without the extension.
    let occurs = |value: &str| {
        code.contains(&format!("\"{value}\"")) || code.contains(&format!("\"{value}.sqlite3\""))
    };
    let absent = values.filter(|(.., value)| !occurs(value));
    none("a value of a label that the sources do not contain", absent.map(|value| format!("{value:?}")));
}

#[test]
fn names_and_descriptions_follow_the_conventions_of_prometheus() {
    let offends = |metric: &Metric| {
        let is_sentence =
            metric.help.ends_with('.') && metric.help.starts_with(|c: char| c.is_uppercase() || c == '1');
        let is_counter = metric.kind == Kind::Counter;
        !is_sentence
            || metric.help.contains('`')
            || metric.name.ends_with("_total") != is_counter
            || (metric.unit == "seconds") != metric.name.ends_with("_seconds")
            || !metric.labels.is_sorted()
    };
    let wrong = metric::all().filter(|metric| offends(metric)).map(|metric| format!("{metric:?}"));
    none("a counter ends in _total, a duration in _seconds; HELP is one sentence without Markdown", wrong);
    for group in GROUPS {
        assert!(group.metrics.is_sorted_by_key(|metric| metric.name), "{} is not in order", group.folder);
    }
}

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for group in GROUPS {
        page += &format!("\n## `{}`\n\nRoles: {}.\n\n", group.folder, group.roles);
        let labels = |metric: &Metric| {
            let labels = metric.labels.iter().map(|(label, values)| format!("{}: {values}", code(label)));
            labels.collect::<Vec<_>>().join("<br>")
        };
        let rows = group.metrics.iter().map(|metric| {
            let kind = metric.kind.as_str().to_owned();
            [code(metric.name), kind, metric.unit.to_owned(), labels(metric), metric.help.to_owned()]
        });
        page += &table(["Metric", "Type", "Unit", "Labels", "Meaning"], rows);
    }
    page
}

#[test]
fn the_page_of_metrics_is_current() {
    check("docs/metrics.md", &page());
}

#[test]
fn recorded_metrics_are_found() {
    let text = r#"
        metrics::counter!("a_total").increment(1);
        metrics::gauge!(super::NAME, "one" => first(1), "two" => "x")
            .set(2.0);
        metrics::describe_counter!("b", "c");
    "#;
    let constants = constants("pub const NAME: &str = \"b\";\nconst OTHER: u8 = 1;");
    let found = recorded("chat", text, &constants);
    let found: Vec<_> =
        found.iter().map(|metric| (&*metric.name, metric.kind, metric.labels.len())).collect();
    assert_eq!(found, [("a_total", "counter", 0), ("b", "gauge", 2)]);
    assert_eq!(folder("crates/embedded/src/reader.rs"), "crates/embedded");
    assert_eq!(folder("src/telemetry/sink.rs"), "src");
}
