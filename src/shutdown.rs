//! When to stop: SIGTERM or SIGINT starts the drain, a second one ends the process at once. Awaited by the roles.

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Error;

/// How long a drain may take before the process ends without it. Orchestrators usually wait 30 s.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(18);

/// Signals this soon after the first are the same request: `timeout` and terminals signal a whole process group besides.
const SAME: Duration = Duration::from_millis(500);

/// The signals that ask the process to end.
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Listens for the signals; from now on they no longer end the process by themselves. Needs a running runtime.
    pub fn listen() -> Result<Self, Error> {
        let signal = |kind| signal(kind).map_err(|error| Error::part("signals", error));
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Resolves with the name of the signal that came.
    pub async fn asked(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Runs the drain to its end or its deadline; a second signal ends the process at once, with status 130.
    pub async fn drain(mut self, drain: impl Future<Output = ()>) {
        tokio::select! {
            done = tokio::time::timeout(DRAIN_DEADLINE, drain) => {
                if done.is_err() {
                    tracing::warn!(deadline = ?DRAIN_DEADLINE, "drain did not finish in time");
                }
            }
            name = self.asked_again() => {
                tracing::warn!(signal = name, "asked twice, ending at once");
                std::process::exit(130);
            }
        }
    }

    async fn asked_again(&mut self) -> &'static str {
        let first = Instant::now();
        loop {
            let name = self.asked().await;
            if first.elapsed() >= SAME {
                return name;
            }
        }
    }
}
