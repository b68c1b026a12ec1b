//! A rate limit for log lines, independent of what clients and stores do: each call site writes a bounded number of lines
//! within a window ([`Limit`]). Dropped lines are counted, and a line per window and call site contains their number.
//! Installed by [`super::logs`]. [`LogRateLimit::report`] is called by the thread that watches the others, so that the
//! number is also logged when no line follows.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
    time::{Duration, Instant},
};

use tracing::{Event, Level, Metadata, Subscriber, callsite::Identifier};
use tracing_subscriber::{Layer, layer::Context};

/// The limit of the process.
pub static LIMIT: LogRateLimit = LogRateLimit { windows: Mutex::new(None) };

/// The target of the lines that contain the number of dropped lines. They are at most one per call site and window.
const REPORT: &str = "godzilla::log";

/// The target of warnings that have a budget for each client of their own. A smaller limit would let a few clients hide those about others.
const BUDGETED: &str = "gateway::warnings";

/// The maximum number of lines of one call site within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit {
    lines: u64,
    window: Duration,
}

impl Limit {
    /// The limit of warnings and errors. A store that fails causes one for each request.
    const WARNING: Self = Self { lines: 10, window: Duration::from_secs(10) };

    /// The limit of information, and of warnings with a budget of their own.
    const INFO: Self = Self { lines: 50, window: Duration::from_secs(1) };

    /// The limit of a call site. `None` for debug and trace lines, which the operator requests.
    fn of(metadata: &Metadata<'_>) -> Option<Self> {
        match *metadata.level() {
            _ if metadata.target() == REPORT => None,
            _ if metadata.target() == BUDGETED => Some(Self::INFO),
            Level::ERROR | Level::WARN => Some(Self::WARNING),
            Level::INFO => Some(Self::INFO),
            _ => None,
        }
    }
}

/// Limits the lines of each call site.
pub struct LogRateLimit {
    /// `None` before the first line.
    windows: Mutex<Option<HashMap<Identifier, Window>>>,
}

/// The lines of one call site since the begin of its window.
struct Window {
    metadata: &'static Metadata<'static>,
    limit: Limit,
    since: Instant,
    lines: u64,
}

impl Window {
    /// Begins a new window if this one has ended. Returns the number of lines that were dropped in it.
    fn renew(&mut self, now: Instant) -> u64 {
        if now.duration_since(self.since) < self.limit.window {
            return 0;
        }
        let dropped = self.lines.saturating_sub(self.limit.lines);
        (self.since, self.lines) = (now, 0);
        dropped
    }
}

impl LogRateLimit {
    /// Whether a line of this call site may be written now, and how many lines were dropped in the previous window.
    fn count(&self, metadata: &'static Metadata<'static>, limit: Limit, now: Instant) -> (bool, u64) {
        let Some(mut windows) = self.lock() else { return (true, 0) };
        let windows = windows.get_or_insert_default();
        let new = || Window { metadata, limit, since: now, lines: 0 };
        let window = windows.entry(metadata.callsite()).or_insert_with(new);
        let dropped = window.renew(now);
        window.lines += 1;
        (window.lines <= limit.lines, dropped)
    }

    /// Logs how many lines were dropped in windows that have ended.
    pub fn report(&self) {
        self.dropped(Instant::now()).into_iter().for_each(|(metadata, lines)| report(metadata, lines));
    }

    /// Removes the windows that have ended. Returns the call sites whose lines were dropped, and their number.
    fn dropped(&self, now: Instant) -> Vec<(&'static Metadata<'static>, u64)> {
        let Some(mut windows) = self.lock() else { return Vec::new() };
        let mut dropped = Vec::new();
        windows.get_or_insert_default().retain(|_, window| {
            let lines = window.renew(now);
            if lines > 0 {
                dropped.push((window.metadata, lines));
            }
            window.lines > 0
        });
        dropped
    }

    /// `None` in a panic hook that must not wait: its thread can hold the lock.
    fn lock(&self) -> Option<MutexGuard<'_, Option<HashMap<Identifier, Window>>>> {
        match self.windows.try_lock() {
            Ok(windows) => Some(windows),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if super::IN_PANIC_HOOK.get() => None,
            Err(TryLockError::WouldBlock) => {
                Some(self.windows.lock().unwrap_or_else(PoisonError::into_inner))
            }
        }
    }
}

/// Logs that lines of a call site were dropped.
fn report(of: &Metadata<'_>, lines: u64) {
    tracing::warn!(
        target: REPORT, of = of.target(), line = of.line(), lines, "log lines were dropped"
    );
}

/// The `tracing` layer that applies a [`LogRateLimit`].
pub struct LimitLayer(pub &'static LogRateLimit);

impl<S: Subscriber> Layer<S> for LimitLayer {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let Some(limit) = Limit::of(metadata) else { return true };
        let (passes, dropped) = self.0.count(metadata, limit, Instant::now());
        if !passes {
            metrics::counter!(super::DROPPED_LINES, "reason" => "rate").increment(1);
        }
        if dropped > 0 {
            report(metadata, dropped);
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::Arc,
    };

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_limit_of_one_call_site_does_not_affect_another() {
        static OWN: LogRateLimit = LogRateLimit { windows: Mutex::new(None) };
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(lines.with(LimitLayer(&OWN)));
        let most = Limit::INFO.lines.max(Limit::WARNING.lines) * 20;
        for _ in 0..most {
            tracing::info!("information");
            tracing::warn!("a warning");
            tracing::error!("an error");
            tracing::warn!(target: BUDGETED, "an origin");
        }
        tracing::warn!("once");
        let written = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        let count = |text: &str| written.lines().filter(|line| line.ends_with(text)).count() as u64;
        // The loop can take several windows.
        let limits = [
            ("information", Limit::INFO),
            ("a warning", Limit::WARNING),
            ("an error", Limit::WARNING),
            ("an origin", Limit::INFO),
        ];
        for (text, limit) in limits {
            assert!((limit.lines..most).contains(&count(text)), "{text}: {}", count(text));
        }
        assert_eq!(count("once"), 1);
    }

    #[test]
    fn dropped_lines_are_reported_in_the_next_window() {
        let limit = LogRateLimit { windows: Mutex::new(None) };
        let metadata = || {
            let callsite = tracing::callsite!(name: "here", kind: tracing::metadata::Kind::EVENT, fields: a);
            tracing::callsite::Callsite::metadata(callsite)
        };
        for of in [Limit::WARNING, Limit::INFO] {
            let start = Instant::now();
            for _ in 0..of.lines {
                assert_eq!(limit.count(metadata(), of, start), (true, 0));
            }
            for _ in 0..3 {
                assert_eq!(limit.count(metadata(), of, start), (false, 0));
            }
            assert_eq!(limit.count(metadata(), of, start + of.window), (true, 3));
            assert_eq!(limit.count(metadata(), of, start + of.window), (true, 0));
            // Also when no line follows.
            for _ in 0..of.lines {
                limit.count(metadata(), of, start + of.window);
            }
            assert!(limit.dropped(start + of.window).is_empty(), "the window has not ended");
            let dropped: Vec<u64> =
                limit.dropped(start + 2 * of.window).into_iter().map(|(_, lines)| lines).collect();
            assert_eq!(dropped, [2]);
            assert!(limit.dropped(start + 4 * of.window).is_empty());
            assert!(limit.windows.lock().unwrap().as_ref().is_some_and(HashMap::is_empty));
        }
    }
}
