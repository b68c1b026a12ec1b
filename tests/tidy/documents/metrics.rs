//! docs/metrics.md is generated from the table of metrics, and the sources record all metrics of the table.

#[path = "../../../src/telemetry/metric/mod.rs"]
#[expect(dead_code, reason = "the program registers the descriptions")]
pub mod metric;

use std::fs;

use self::metric::{Kind, Metric, table::GROUPS};
use super::{check, code, files, table};
use crate::tidy::{none, root};

const INTRODUCTION: &str = "\
# Metrics

`/metrics` on the [admin address](operations.md#health-and-metrics) has these metrics in the text format of Prometheus. A metric appears when
it is recorded for the first time. A counter starts at 0 with the process. A histogram has the series `_bucket`, `_sum` and `_count`.

This page is generated from `src/telemetry/metric/table.rs` with `GODZILLA_WRITE_DOCS=1` (`tests/tidy/documents.rs`).
";

#[test]
fn the_sources_record_every_metric_of_the_table() {
    for group in GROUPS {
        let folder = root().join(if group.folder == "src" { "" } else { group.folder }).join("src");
        let sources = files(&folder).into_iter().filter(|path| !path.ends_with("telemetry/metric/table.rs"));
        let text: String = sources.map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
        let unused = group.metrics.iter().filter(|metric| !text.contains(&format!("\"{}\"", metric.name)));
        none("a metric that no source records", unused.map(|metric| metric.name.to_owned()));
    }
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
