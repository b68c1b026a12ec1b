//! Logs and metrics of the process. [`start`] is called before everything else, [`logs`] and [`metrics`] by a role or
//! tool before it starts other parts, [`flush`] or [`exit`] at the end. Writing a log line neither blocks nor fails:
//! see [`sink`].

mod cause_key;
mod library_levels;
mod log_rate_limit;
#[expect(
    dead_code,
    reason = "labels and roles are for docs/metrics.md, which tests/tidy/documents.rs generates"
)]
mod metric;
mod sink;

use std::{
    cell::Cell,
    io::{self, IsTerminal, Write},
    panic::PanicHookInfo,
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use clap::ValueEnum;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::{Level, field};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use self::{
    library_levels::LibraryLevels,
    log_rate_limit::{LIMIT, LimitLayer},
};
use crate::{error::Error, supervision};

/// Configuration of the log.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
#[command(next_help_heading = "Logs")]
pub struct Config {
    /// What is logged: error, warn, info, debug or trace, for all or per part (info,chat=debug)
    #[arg(long, env = "GODZILLA_LOG", value_name = "FILTER", default_value = "info,actix_server=warn")]
    pub log: Filter,

    /// How a log line looks; json is one object per line
    #[arg(long, env = "GODZILLA_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t = Format::Human)]
    pub log_format: Format,
}

/// Valid log filter directives.
#[derive(Debug, Clone)]
pub struct Filter(String);

/// The log filter directives are invalid.
#[derive(Debug, thiserror::Error)]
#[error("expected error, warn, info, debug, trace or off, or a list of part=level")]
pub struct NotAFilter;

/// Format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text.
    Human,
    /// JSON.
    Json,
}

impl FromStr for Filter {
    type Err = NotAFilter;

    fn from_str(text: &str) -> Result<Self, NotAFilter> {
        let levels = ["error", "warn", "info", "debug", "trace", "off"];
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let text = &parts.collect::<Vec<_>>().join(",");
        let plain = |part: &str| levels.contains(&part.rsplit('=').next().unwrap_or_default());
        let good = text.split(',').all(plain) && EnvFilter::try_new(text).is_ok();
        if good { Ok(Self(text.to_owned())) } else { Err(NotAFilter) }
    }
}

/// How long the end of the process waits for unwritten lines.
const FLUSH: Duration = Duration::from_millis(500);

/// Counter of log lines that were dropped, by reason. [`log_rate_limit`] counts the reason `rate`.
pub const DROPPED_LINES: &str = "godzilla_log_lines_dropped_total";

/// Whether lines outside of [`logs`] are JSON objects.
static JSON: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Whether the panic hook runs on this thread.
    static IN_PANIC_HOOK: Cell<bool> = const { Cell::new(false) };
}

/// Writes log lines to the sink.
struct SinkWriter;

impl Write for SinkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if IN_PANIC_HOOK.get() {
            sink::SINK.try_push(bytes)
        } else {
            sink::SINK.push(bytes)
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the thread that writes the log, and sets the panic hook.
///
/// # Errors
/// When the system provides no descriptor or no thread.
pub fn start() -> io::Result<()> {
    std::panic::set_hook(Box::new(report));
    sink::start()
}

/// Sets the format of lines that are written before or after [`logs`].
pub fn prefer_json(json: bool) {
    JSON.store(json, Ordering::Relaxed);
}

/// Writes `text` as a log line, for messages before or after [`logs`].
pub fn write_line(level: Level, text: &str) {
    sink::SINK.push(format_line(level, text).as_bytes());
}

/// Formats a line outside of [`logs`].
pub fn format_line(level: Level, text: &str) -> String {
    if !JSON.load(Ordering::Relaxed) {
        return format!("godzilla: {text}\n");
    }
    let timestamp = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let fields = serde_json::json!({
        "timestamp": timestamp, "level": level.as_str(), "message": text, "target": "godzilla",
    });
    format!("{fields}\n")
}

/// Waits until all log lines are written, at most half a second, because standard error can block.
pub fn flush() {
    report_dropped_lines();
    sink::SINK.flush(FLUSH);
}

/// Ends the process at once, after [`flush`].
pub fn exit(status: i32) -> ! {
    flush();
    std::process::exit(status)
}

/// Logs how many lines of each call site the limit has dropped. Called about once per second.
pub fn report_dropped_lines() {
    LIMIT.report();
}

/// Starts logging to standard error, with a limit of lines for each call site.
pub fn logs(config: &Config) -> Result<(), Error> {
    let filter = EnvFilter::try_new(&config.log.0).map_err(|_| Error::part("log filter", NotAFilter))?;
    // Internal errors would be printed to standard error, and that panics when standard error cannot be written.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| SinkWriter)
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal());
    let started = match config.log_format {
        Format::Human => lines.finish().with(LimitLayer(&LIMIT)).with(LibraryLevels).try_init(),
        Format::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false);
            lines.finish().with(LimitLayer(&LIMIT)).with(LibraryLevels).try_init()
        }
    };
    started.map_err(|error| Error::part("logs", error))
}

/// The panic hook. It takes no lock that this thread can hold, and does not run inside itself: a panic in a panic hook
/// ends the process.
fn report(panic: &PanicHookInfo<'_>) {
    if IN_PANIC_HOOK.replace(true) {
        return;
    }
    supervision::count_panic(panic);
    if tracing::dispatcher::has_been_set() {
        let place = panic.location().map(field::display);
        tracing::error!(place, reason = panic.payload_as_str(), "a task panicked");
    } else {
        sink::SINK.try_push(format_line(Level::ERROR, &panic.to_string()).as_bytes());
    }
    supervision::note_foreign_thread();
    IN_PANIC_HOOK.set(false);
}

/// Updates the counters of dropped log lines. Lines are counted without the locks of the metrics, so that the log
/// depends on no other part.
pub fn count_lost_lines() {
    let lost = sink::SINK.lost();
    metrics::counter!(DROPPED_LINES, "reason" => "queue").absolute(lost.overflowed);
    metrics::counter!(DROPPED_LINES, "reason" => "write").absolute(lost.failed);
}

/// Starts collecting metrics. The handle renders them for `/metrics`, each with its description in [`metric`].
pub fn metrics() -> Result<PrometheusHandle, Error> {
    let mut builder = PrometheusBuilder::new();
    for metric in metric::all().filter(|metric| !metric.buckets().is_empty()) {
        let name = Matcher::Full(metric.name.to_owned());
        builder = builder
            .set_buckets_for_metric(name, metric.buckets())
            .map_err(|error| Error::part("metrics", error))?;
    }
    let handle = builder.install_recorder().map_err(|error| Error::part("metrics", error))?;
    metric::describe();
    Ok(handle)
}
