//! The description of every metric: [`table::GROUPS`]. [`describe`] registers the descriptions, which `/metrics` then contains as HELP
//! lines. docs/metrics.md is generated from the same table by `tests/tidy/documents.rs`, which includes this module.

pub mod table;

use metrics::Unit;

/// The metrics that one crate records.
#[derive(Debug)]
pub struct Group {
    /// The folder of the crate; `src` is the program itself.
    pub folder: &'static str,
    /// The roles whose `/metrics` can contain them.
    pub roles: &'static str,
    /// The metrics in alphabetical order.
    pub metrics: &'static [Metric],
}

/// The description of a metric.
#[derive(Debug)]
pub struct Metric {
    /// The name in `/metrics`.
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// What is counted, in the plural, or the unit of measurement.
    pub unit: &'static str,
    /// The labels in alphabetical order, each with its values as Markdown. A value in backticks is constant.
    pub labels: &'static [(&'static str, &'static str)],
    /// The meaning: one sentence.
    pub help: &'static str,
}

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number that only increases.
    Counter,
    /// A number that increases and decreases.
    Gauge,
    /// A distribution in buckets.
    Histogram,
}

impl Kind {
    /// The name of the type in `/metrics`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The unit of durations.
const SECONDS: &str = "seconds";

/// Upper bounds of histograms of durations, in seconds.
const DURATIONS: [f64; 13] =
    [0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Upper bounds of histograms of sizes and numbers.
const SIZES: [f64; 9] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0];

impl Metric {
    /// Upper bounds of the buckets. Empty for metrics that are not histograms.
    pub fn buckets(&self) -> &'static [f64] {
        match (self.kind, self.unit) {
            (Kind::Histogram, SECONDS) => &DURATIONS,
            (Kind::Histogram, _) => &SIZES,
            _ => &[],
        }
    }

    fn describe(&self) {
        let unit = if self.unit == SECONDS { Unit::Seconds } else { Unit::Count };
        match self.kind {
            Kind::Counter => metrics::describe_counter!(self.name, unit, self.help),
            Kind::Gauge => metrics::describe_gauge!(self.name, unit, self.help),
            Kind::Histogram => metrics::describe_histogram!(self.name, unit, self.help),
        }
    }
}

/// All metrics.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    table::GROUPS.iter().flat_map(|group| group.metrics)
}

/// Registers all descriptions. Called once, after the recorder is installed.
pub fn describe() {
    all().for_each(Metric::describe);
}
