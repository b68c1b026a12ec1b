//! What the program can be while it runs: one file per role, each with one `run`.

pub mod accounts;
mod caller;
pub mod chat;
pub mod gateway;
pub mod presence;
mod presence_thread;
pub mod serve;

use std::time::Duration;

use actix_web::rt::time::interval;
use metrics_exporter_prometheus::PrometheusHandle;

/// Connections per worker; beyond that they wait in the backlog.
const CONNECTIONS: usize = 200_000;

/// How long a client's connection may stay open between two requests.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long a finished connection waits for the client to close. actix reads a clock of half a second for it: less is none.
const DISCONNECT: Duration = Duration::from_secs(1);

/// How often.
const UPKEEP: Duration = Duration::from_secs(30);

/// Between two times that a quiet thread gives memory back.
const BREATH: Duration = Duration::from_secs(2);

/// A block so large that the allocator asks the system for it.
const BLOCK: usize = 16 * 1024 * 1024;

/// Run on every worker: the allocator (mimalloc) gives what was freed back to the system when it next frees something large, which on
/// a thread that has become quiet may be never. Nothing is written to the block, so it costs no memory.
async fn breathe() {
    let mut ticks = interval(BREATH);
    loop {
        ticks.tick().await;
        drop(std::hint::black_box(Vec::<u8>::with_capacity(BLOCK)));
    }
}

/// What has to be done now and then as long as the process lives: metrics, and what the role has besides.
async fn upkeep(metrics: PrometheusHandle, also: impl Fn()) {
    let mut ticks = interval(UPKEEP);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
        also();
    }
}
