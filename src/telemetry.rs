//! Logs and metrics of the process. Writing a log line neither blocks nor fails, in any state of standard error: a thread of
//! `tracing-appender` writes the lines, and lines that do not fit into its queue are counted and dropped.

#[expect(
    dead_code,
    reason = "labels and roles are for docs/metrics.md, which tests/tidy/documents.rs generates"
)]
mod metric;

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    os::fd::AsFd,
    panic::PanicHookInfo,
    str::FromStr,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::SystemTime,
};

use clap::ValueEnum;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::{Level, field};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, util::SubscriberInitExt};

use crate::{error::Error, supervision};

/// Maximum number of lines that wait to be written.
const MAX_LINES: usize = 8_192;

/// The library logs at ERROR when a client sends a malformed request or resets its connection. Any client can do that.
const FAULTS_OF_CLIENTS: &str = "actix_http::h1::dispatcher=off";

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
        let is_plain = |part: &str| levels.contains(&part.rsplit('=').next().unwrap_or_default());
        let is_good = text.split(',').all(is_plain) && EnvFilter::try_new(text).is_ok();
        if is_good { Ok(Self(text.to_owned())) } else { Err(NotAFilter) }
    }
}

/// The queue of log lines. Not set before [`start`].
static LINES: OnceLock<NonBlocking> = OnceLock::new();

/// Its drop waits until the lines are written, about a second at most.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// Whether lines outside of [`logs`] are JSON objects.
static JSON: AtomicBool = AtomicBool::new(false);

/// Starts the thread that writes the log, and sets the panic hook. Call it first, and once.
///
/// # Errors
/// When the system provides no descriptor.
pub fn start() -> io::Result<()> {
    // A separate descriptor: the lock of `std::io::stderr` must not be held during a write that blocks.
    let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let lines = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MAX_LINES).thread_name("log");
    let (lines, writer) = lines.finish(out);
    _ = LINES.set(lines);
    *WRITER.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
    std::panic::set_hook(Box::new(report));
    Ok(())
}

/// Sets the format of lines that are written before or after [`logs`].
pub fn prefer_json(json: bool) {
    JSON.store(json, Ordering::Relaxed);
}

/// Writes `text` as a log line, for messages before or after [`logs`].
pub fn write_line(level: Level, text: &str) {
    let mut line = format!("godzilla: {text}\n");
    if JSON.load(Ordering::Relaxed) {
        let timestamp = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        let fields = serde_json::json!({
            "timestamp": timestamp, "level": level.as_str(), "message": text, "target": "godzilla",
        });
        line = format!("{fields}\n");
    }
    if let Some(mut lines) = LINES.get().cloned() {
        // A line that does not fit into the queue is counted.
        _ = lines.write_all(line.as_bytes());
    }
}

/// Waits until all log lines are written, about a second at most, because standard error can block. Later lines are not written.
pub fn flush() {
    let writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner).take();
    // On a thread of its own: the drop prints to standard output when the queue is full, and panics if nobody reads that.
    _ = thread::spawn(move || drop(writer)).join();
}

/// Starts logging to standard error.
pub fn logs(config: &Config) -> Result<(), Error> {
    let filter = EnvFilter::try_new(format!("{},{FAULTS_OF_CLIENTS}", config.log.0));
    let filter = filter.map_err(|_| Error::part("log filter", NotAFilter))?;
    let lines = LINES.get().cloned().ok_or_else(|| Error::part("logs", "not started"))?;
    // Internal errors would be printed to standard error, and that panics when standard error cannot be written.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(lines)
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal());
    let started = match config.log_format {
        Format::Human => lines.finish().try_init(),
        Format::Json => lines.json().flatten_event(true).with_current_span(false).finish().try_init(),
    };
    started.map_err(|error| Error::part("logs", error))
}

/// The panic hook.
fn report(panic: &PanicHookInfo<'_>) {
    supervision::count_panic(panic);
    if tracing::dispatcher::has_been_set() {
        let place = panic.location().map(field::display);
        tracing::error!(place, reason = panic.payload_as_str(), "a task panicked");
    } else {
        write_line(Level::ERROR, &panic.to_string());
    }
}

/// Updates the counter of dropped log lines.
pub fn count_dropped_lines() {
    let dropped = LINES.get().map_or(0, |lines| lines.error_counter().dropped_lines());
    metrics::counter!("godzilla_log_lines_dropped_total").absolute(dropped as u64);
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
