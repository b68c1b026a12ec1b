//! A rate limit for log lines, independent of what clients and stores do: each call site writes a bounded number of lines
//! within a window ([`Limit`]). Lines of one call site with different keys ([`cause_key`]) are limited separately, at most
//! [`MAX_KEYS`] of them. Dropped lines are counted, and a line per window, call site and key contains their number.
//! Installed by [`super::logs`]. [`LogRateLimit::report`] is called by the thread that watches the others, so that the
//! number is also logged when no line follows.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
    time::{Duration, Instant},
};

use tracing::{Event, Level, Metadata, Subscriber, callsite::Identifier};
use tracing_subscriber::{Layer, layer::Context};

use super::cause_key;

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

/// Maximum number of keys of one call site that have windows of their own. Lines with further keys share one window.
const MAX_KEYS: usize = 32;

/// The windows of one call site, by key. The window of the empty key is also that of the keys beyond [`MAX_KEYS`].
type Windows = HashMap<Box<str>, Window>;

/// Limits the lines of each call site and key.
pub struct LogRateLimit {
    /// `None` before the first line.
    windows: Mutex<Option<HashMap<Identifier, Windows>>>,
}

/// A call site and a key whose lines were dropped, and their number.
#[derive(Debug, PartialEq, Eq)]
struct Dropped {
    metadata: &'static Metadata<'static>,
    key: Box<str>,
    lines: u64,
}

/// The lines of one call site and key since the begin of the window.
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
    /// Whether a line of this call site and key may be written now, and how many lines were dropped in the previous
    /// window.
    fn count(
        &self,
        metadata: &'static Metadata<'static>,
        key: Box<str>,
        limit: Limit,
        now: Instant,
    ) -> (bool, Option<Dropped>) {
        let Some(mut windows) = self.lock() else { return (true, None) };
        let windows = windows.get_or_insert_default().entry(metadata.callsite()).or_default();
        let has_room = windows.len() < MAX_KEYS || windows.contains_key(&key);
        let key = if has_room { key } else { Box::default() };
        let new = || Window { metadata, limit, since: now, lines: 0 };
        let window = windows.entry(key.clone()).or_insert_with(new);
        let lines = window.renew(now);
        window.lines += 1;
        (window.lines <= limit.lines, (lines > 0).then_some(Dropped { metadata, key, lines }))
    }

    /// Logs how many lines were dropped in windows that have ended.
    pub fn report(&self) {
        self.dropped(Instant::now()).iter().for_each(Dropped::report);
    }

    /// Removes the windows that have ended. Returns what was dropped in them.
    fn dropped(&self, now: Instant) -> Vec<Dropped> {
        let Some(mut windows) = self.lock() else { return Vec::new() };
        let mut dropped = Vec::new();
        windows.get_or_insert_default().retain(|_, windows| {
            windows.retain(|key, window| {
                let lines = window.renew(now);
                if lines > 0 {
                    dropped.push(Dropped { metadata: window.metadata, key: key.clone(), lines });
                }
                window.lines > 0
            });
            !windows.is_empty()
        });
        dropped
    }

    /// `None` in a panic hook that must not wait: its thread can hold the lock.
    fn lock(&self) -> Option<MutexGuard<'_, Option<HashMap<Identifier, Windows>>>> {
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

impl Dropped {
    fn report(&self) {
        let (of, line) = (self.metadata.target(), self.metadata.line());
        let key = (!self.key.is_empty()).then_some(&*self.key);
        tracing::warn!(target: REPORT, of, line, key, lines = self.lines, "log lines were dropped");
    }
}

/// The `tracing` layer that applies a [`LogRateLimit`].
pub struct LimitLayer(pub &'static LogRateLimit);

impl<S: Subscriber> Layer<S> for LimitLayer {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let Some(limit) = Limit::of(metadata) else { return true };
        let (passes, dropped) = self.0.count(metadata, cause_key::of(event), limit, Instant::now());
        if !passes {
            metrics::counter!(super::DROPPED_LINES, "reason" => "rate").increment(1);
        }
        dropped.iter().for_each(Dropped::report);
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

    /// The lines that `log` writes with a limit.
    fn written(limit: &'static LogRateLimit, log: impl FnOnce()) -> Vec<String> {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(lines.with(LimitLayer(limit)), log);
        let written = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        written.lines().map(str::to_owned).collect()
    }

    #[test]
    fn many_lines_about_one_part_do_not_hide_those_about_another() {
        static OWN: LogRateLimit = LogRateLimit { windows: Mutex::new(None) };
        let most = Limit::WARNING.lines * 20;
        // A field of each kind, its value in most lines, another value, and a value with the key of the first one.
        let table = [
            ("place", "chat/src/room/mod.rs:1:2", "presence/src/actor.rs:1:2", None),
            ("part", "shard", "roster", None),
            ("store", "sessions", "users", None),
            ("path", "/data/chat.sqlite3", "/data/users.sqlite3", None),
            ("backend", "http://10.0.0.1:3000", "http://10.0.0.2:3000", None),
            ("node", "chat-1", "chat-2", None),
            ("peer", "10.0.0.1:5000", "10.0.0.2:5000", Some("10.0.0.1:5001")),
            ("peer", "[::1]:5000", "[::2]:5000", Some("[::1]:5001")),
            ("cause", "refused", "unavailable", None),
        ];
        for (field, usual, other, same) in table {
            let line = |value: &str| match field {
                "place" => tracing::error!(place = %value, "panicked"),
                "part" => tracing::warn!(part = value, "restarting"),
                "store" => tracing::warn!(store = value, "failed"),
                "path" => tracing::error!(path = Some(value), "damaged"),
                "backend" => tracing::warn!(backend = %value, "does not respond"),
                "node" => tracing::warn!(node = value, "report refused"),
                "peer" => tracing::warn!(peer = %value, "no signature"),
                _ => tracing::warn!(cause = value, "event refused"),
            };
            let lines = written(&OWN, || {
                (0..most).for_each(|_| line(usual));
                same.into_iter().for_each(line);
                line(other);
            });
            let count = |value: &str| lines.iter().filter(|line| line.contains(value)).count() as u64;
            assert!((Limit::WARNING.lines..most).contains(&count(usual)), "{field}: {lines:?}");
            assert_eq!(count(other), 1, "{field}: {lines:?}");
            if let Some(same) = same {
                assert_eq!(count(same), 0, "{field}: {lines:?}");
            }
        }
    }

    #[test]
    fn values_that_differ_in_every_line_share_the_limit_of_the_call_site() {
        static OWN: LogRateLimit = LogRateLimit { windows: Mutex::new(None) };
        let many = MAX_KEYS * 20;
        let lines = written(&OWN, || {
            (0..many).for_each(|number| tracing::warn!(room = number, "of a room"));
            (0..many).for_each(|number| tracing::warn!(node = format!("node-{number}"), "of a node"));
        });
        let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        let (rooms, nodes) = (count("of a room"), count("of a node"));
        // The loop can take two windows.
        let limit = usize::try_from(Limit::WARNING.lines).unwrap();
        assert!((limit..=2 * limit).contains(&rooms), "{rooms}");
        assert!((MAX_KEYS..=2 * (MAX_KEYS + limit)).contains(&nodes), "{nodes}");
        let windows = OWN.windows.lock().unwrap();
        assert!(windows.as_ref().unwrap().values().all(|windows| windows.len() <= MAX_KEYS + 1));
    }

    #[test]
    fn the_limit_of_one_call_site_does_not_affect_another() {
        static OWN: LogRateLimit = LogRateLimit { windows: Mutex::new(None) };
        let most = Limit::INFO.lines.max(Limit::WARNING.lines) * 20;
        let written = written(&OWN, || {
            for _ in 0..most {
                tracing::info!("information");
                tracing::warn!("a warning");
                tracing::error!("an error");
                tracing::warn!(target: BUDGETED, "an origin");
            }
            tracing::warn!("once");
        });
        let count = |text: &str| written.iter().filter(|line| line.ends_with(text)).count() as u64;
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
        let count = |of: Limit, at| {
            let (passes, dropped) = limit.count(metadata(), "part=one".into(), of, at);
            (passes, dropped.map_or(0, |dropped| dropped.lines))
        };
        for of in [Limit::WARNING, Limit::INFO] {
            let start = Instant::now();
            for _ in 0..of.lines {
                assert_eq!(count(of, start), (true, 0));
            }
            for _ in 0..3 {
                assert_eq!(count(of, start), (false, 0));
            }
            assert_eq!(count(of, start + of.window), (true, 3));
            assert_eq!(count(of, start + of.window), (true, 0));
            // Also when no line follows.
            for _ in 0..of.lines {
                count(of, start + of.window);
            }
            assert!(limit.dropped(start + of.window).is_empty(), "the window has not ended");
            let expected = Dropped { metadata: metadata(), key: "part=one".into(), lines: 2 };
            assert_eq!(limit.dropped(start + 2 * of.window), [expected]);
            assert!(limit.dropped(start + 4 * of.window).is_empty());
            assert!(limit.windows.lock().unwrap().as_ref().is_some_and(HashMap::is_empty));
        }
    }
}
