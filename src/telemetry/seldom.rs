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
const MOST: u64 = 50;

/// What is counted together.
const WINDOW: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Default)]
pub struct Seldom {
    places: Mutex<HashMap<Identifier, Window>>,
}

struct Window {
    since: Instant,
    lines: u64,
}

impl Seldom {
    /// Whether a line of this place may be written now, and how many were left out in the window before.
    fn count(&self, place: Identifier, now: Instant) -> (bool, u64) {
        let mut places = match self.places.try_lock() {
            Ok(places) => places,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // A panic hook does not wait: its thread may hold the lock.
            Err(TryLockError::WouldBlock) if super::IN_HOOK.get() => return (true, 0),
            Err(TryLockError::WouldBlock) => self.places.lock().unwrap_or_else(PoisonError::into_inner),
        };
        let window = places.entry(place).or_insert(Window { since: now, lines: 0 });
        let mut left_out = 0;
        if now.duration_since(window.since) >= WINDOW {
            left_out = window.lines.saturating_sub(MOST);
            *window = Window { since: now, lines: 0 };
        }
        window.lines += 1;
        (window.lines <= MOST, left_out)
    }
}

impl<S: Subscriber> Layer<S> for Seldom {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let place = event.metadata();
        if *place.level() > Level::INFO {
            return true;
        }
        let (passes, left_out) = self.count(place.callsite(), Instant::now());
        if !passes {
            metrics::counter!(super::LEFT_OUT, "reason" => "rate").increment(1);
        }
        if left_out > 0 {
            // A place of its own, counted like any other; it names the one that was too busy.
            tracing::warn!(
                of = place.target(),
                line = place.line(),
                lines = left_out,
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
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_place_writes_some_lines_a_second_and_another_is_not_concerned() {
        let paper = Paper::default();
        let writer = paper.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(lines.with(Seldom::default()));
        // More than two windows hold, however long it takes.
        for _ in 0..MOST * 20 {
            tracing::info!("again");
        }
        tracing::warn!("once");
        let written = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        let again = written.lines().filter(|line| line.ends_with("again")).count() as u64;
        assert!((MOST..MOST * 20).contains(&again), "{again}");
        assert!(written.contains("once"));
    }

    #[test]
    fn what_was_left_out_is_told_with_the_next_window() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        let place = tracing::callsite!(name: "here", kind: tracing::metadata::Kind::EVENT, fields: a);
        let place = || tracing::callsite::Callsite::metadata(place).callsite();
        for _ in 0..MOST {
            assert_eq!(seldom.count(place(), start), (true, 0));
        }
        for _ in 0..3 {
            assert_eq!(seldom.count(place(), start), (false, 0));
        }
        assert_eq!(seldom.count(place(), start + WINDOW), (true, 3));
        assert_eq!(seldom.count(place(), start + WINDOW), (true, 0));
    }
}
