//! A rate limit for log lines: each call site writes at most [`MAX_LINES`] lines per second, independent of what
//! clients and stores do. Dropped lines are counted. Installed by [`super::logs`].

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, TryLockError},
    time::{Duration, Instant},
};

use tracing::{Event, Level, Subscriber, callsite::Identifier};
use tracing_subscriber::{Layer, layer::Context};

/// Maximum number of lines of one call site within [`WINDOW`]. Debug and trace lines are requested by the operator and
/// not limited.
const MAX_LINES: u64 = 50;

/// The time over which lines are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// The `tracing` layer that limits the lines of each call site.
#[derive(Default)]
pub struct LogRateLimit {
    windows: Mutex<HashMap<Identifier, Window>>,
}

struct Window {
    since: Instant,
    lines: u64,
}

impl LogRateLimit {
    /// Whether a line of this call site may be written now, and how many lines were dropped in the previous window.
    fn count(&self, callsite: Identifier, now: Instant) -> (bool, u64) {
        let mut windows = match self.windows.try_lock() {
            Ok(windows) => windows,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // A panic hook must not wait: its thread can hold the lock.
            Err(TryLockError::WouldBlock) if super::IN_PANIC_HOOK.get() => return (true, 0),
            Err(TryLockError::WouldBlock) => self.windows.lock().unwrap_or_else(PoisonError::into_inner),
        };
        let window = windows.entry(callsite).or_insert(Window { since: now, lines: 0 });
        let mut dropped = 0;
        if now.duration_since(window.since) >= WINDOW {
            dropped = window.lines.saturating_sub(MAX_LINES);
            *window = Window { since: now, lines: 0 };
        }
        window.lines += 1;
        (window.lines <= MAX_LINES, dropped)
    }
}

impl<S: Subscriber> Layer<S> for LogRateLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO {
            return true;
        }
        let (passes, dropped) = self.count(metadata.callsite(), Instant::now());
        if !passes {
            metrics::counter!(super::DROPPED_LINES, "reason" => "rate").increment(1);
        }
        if dropped > 0 {
            // This line has its own call site, which is limited as well. Its fields name the call site that exceeded
            // the limit.
            tracing::warn!(
                of = metadata.target(),
                line = metadata.line(),
                lines = dropped,
                "log lines were dropped"
            );
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
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(lines.with(LogRateLimit::default()));
        // More lines than two windows allow, for the case that the loop takes long.
        for _ in 0..MAX_LINES * 20 {
            tracing::info!("again");
        }
        tracing::warn!("once");
        let written = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        let again = written.lines().filter(|line| line.ends_with("again")).count() as u64;
        assert!((MAX_LINES..MAX_LINES * 20).contains(&again), "{again}");
        assert!(written.contains("once"));
    }

    #[test]
    fn dropped_lines_are_reported_in_the_next_window() {
        let (limit, start) = (LogRateLimit::default(), Instant::now());
        let callsite = tracing::callsite!(name: "here", kind: tracing::metadata::Kind::EVENT, fields: a);
        let callsite = || tracing::callsite::Callsite::metadata(callsite).callsite();
        for _ in 0..MAX_LINES {
            assert_eq!(limit.count(callsite(), start), (true, 0));
        }
        for _ in 0..3 {
            assert_eq!(limit.count(callsite(), start), (false, 0));
        }
        assert_eq!(limit.count(callsite(), start + WINDOW), (true, 3));
        assert_eq!(limit.count(callsite(), start + WINDOW), (true, 0));
    }
}
