//! A bound on the log: no place in the code writes more than some lines a second, whatever clients do or stores do not, and what was
//! left out is counted. Put in by [`super::logs`].

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, TryLockError},
    time::{Duration, Instant},
};

use tracing::{Event, Level, Subscriber, callsite::Identifier};
use tracing_subscriber::{Layer, layer::Context};

/// Lines of one place within [`WINDOW`]. Those of debug and trace are asked for and not counted.
const MAX_LINES: u64 = 50;

/// What is counted together.
const WINDOW: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Default)]
pub struct LogRateLimit {
    windows: Mutex<HashMap<Identifier, Window>>,
}

struct Window {
    since: Instant,
    lines: u64,
}

impl LogRateLimit {
    /// Whether a line of this place may be written now, and how many were left out in the window before.
    fn count(&self, callsite: Identifier, now: Instant) -> (bool, u64) {
        let mut windows = match self.windows.try_lock() {
            Ok(windows) => windows,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // A panic hook does not wait: its thread may hold the lock.
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
        let callsite = event.metadata();
        if *callsite.level() > Level::INFO {
            return true;
        }
        let (passes, dropped) = self.count(callsite.callsite(), Instant::now());
        if !passes {
            metrics::counter!(super::DROPPED_LINES, "reason" => "rate").increment(1);
        }
        if dropped > 0 {
            // A place of its own, counted like any other; it names the one that was too busy.
            tracing::warn!(
                of = callsite.target(),
                line = callsite.line(),
                lines = dropped,
                "log lines were left out"
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
    fn a_place_writes_some_lines_a_second_and_another_is_not_concerned() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(lines.with(LogRateLimit::default()));
        // More than two windows hold, however long it takes.
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
    fn what_was_left_out_is_told_with_the_next_window() {
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
