//! The test server as its own process, for tests that measure a process. Prints its address, and then its
//! number of sessions for each line on stdin.

#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code, missing_docs)]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicU64, Ordering},
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use socketio::Config;
use support::start;

/// The number of sessions from the server's own gauge.
static SESSIONS: LazyLock<Arc<AtomicU64>> = LazyLock::new(Arc::default);

/// A metrics recorder for this gauge.
struct Sessions;

impl metrics::Recorder for Sessions {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match key.name() {
            "socketio_sessions" => Gauge::from_arc(SESSIONS.clone()),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

fn main() {
    metrics::set_global_recorder(Sessions).map_err(|_| "a recorder is set").unwrap();
    let server = start(Config::default());
    println!("\naddress {}", server.address);
    for line in std::io::stdin().lines() {
        line.unwrap();
        println!("sessions {}", f64::from_bits(SESSIONS.load(Ordering::Relaxed)));
    }
}
