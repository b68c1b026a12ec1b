//! The end of the process. SIGTERM, SIGINT and SIGHUP start the drain, a second one ends the process at once. Awaited by the roles.

use std::time::{Duration, Instant};

use actix_web::rt::System;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{sleep, timeout},
};

use crate::{error::Error, supervision, telemetry};

/// Deadline of a drain after its delay. The process then ends without it. Orchestrators usually wait 30 s.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(18);

/// Signals within this time after the first count as the same request: `timeout` and terminals also signal the whole
/// process group.
const SAME_REQUEST: Duration = Duration::from_millis(500);

/// Receives the signals that start the drain.
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
    /// `None` when the process was started with SIGHUP ignored (`nohup`).
    hangup: Option<Signal>,
    /// Whether SIGTERM, the signal by which orchestrators end a process, has requested the end.
    is_terminated: bool,
}

/// Runs `work` on this thread until it completes. Blocking calls in progress, such as a DNS lookup, do not delay the end of the process.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    let system = System::new();
    let outcome = system.block_on(work);
    // Its drop waits for blocking calls without a bound.
    std::mem::forget(system);
    outcome
}

impl Stop {
    /// Registers the signals. From then on they do not end the process themselves, and the unexpected end of a part
    /// does. Needs a running runtime.
    pub fn listen() -> Result<Self, Error> {
        supervision::start();
        let on = |kind| signal(kind).map_err(|error| Error::part("signals", error));
        let (terminate, interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
        let hangup = if ignores_hangup() { None } else { Some(on(SignalKind::hangup())?) };
        Ok(Self { terminate, interrupt, hangup, is_terminated: false })
    }

    /// Resolves with the name of the received signal.
    ///
    /// # Errors
    /// When an essential part of the process has ended unexpectedly. The process must then end without a drain, because
    /// the remaining parts cannot work.
    pub async fn requested(&mut self) -> Result<&'static str, Error> {
        tokio::select! {
            signal = self.signal() => {
                supervision::drain();
                self.is_terminated = signal == "SIGTERM";
                Ok(signal)
            }
            part = supervision::failed() => Err(Error::Ended(part)),
        }
    }

    /// Whether SIGTERM has requested the end. A terminal sends another signal.
    pub fn is_terminated(&self) -> bool {
        self.is_terminated
    }

    async fn signal(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            Some(_) = async { self.hangup.as_mut()?.recv().await } => "SIGHUP",
        }
    }

    /// Runs the drain after `delay`, until it completes or its deadline passes. A second signal ends the process at once, with
    /// status 130.
    pub async fn drain(mut self, delay: Duration, drain: impl Future<Output = ()>) {
        supervision::drain();
        let delayed = async {
            if !delay.is_zero() {
                tracing::info!(?delay, "requests are accepted during the drain delay");
                sleep(delay).await;
            }
            timeout(DRAIN_DEADLINE, drain).await
        };
        tokio::select! {
            done = delayed => {
                if done.is_err() {
                    tracing::warn!(deadline = ?DRAIN_DEADLINE, "drain did not finish in time");
                }
            }
            signal = self.requested_again() => {
                tracing::warn!(signal, "second signal, ending at once");
                telemetry::flush();
                std::process::exit(130);
            }
        }
    }

    async fn requested_again(&mut self) -> &'static str {
        let first = Instant::now();
        loop {
            let name = self.signal().await;
            if first.elapsed() >= SAME_REQUEST {
                return name;
            }
        }
    }
}

/// Whether SIGHUP, the first signal of the mask, was ignored at the start.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

impl Drop for Stop {
    /// The role has returned. Its remaining parts end with it and are not reported.
    fn drop(&mut self) {
        supervision::drain();
    }
}
