//! Signals. SIGTERM, SIGINT, SIGQUIT, SIGPWR, SIGHUP and SIGXCPU start the drain; a second one ends the process at
//! once. Other signals that would end the process without a drain, and that do not request its end, are ignored. Faults
//! (SIGSEGV, SIGABRT and the like) and job control (SIGTSTP) keep the default action. Awaited by the roles.

use std::{
    fs,
    sync::{
        Arc,
        atomic::AtomicBool,
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use actix_web::rt::{System, spawn};
use futures_util::future::select_all;
use nix::{libc, sys::signal::SigSet};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{sleep, timeout},
};

use tracing::Level;

use crate::{error::Error, supervision, telemetry};

/// Deadline of a drain after its delay. The process then ends without it. Orchestrators usually wait 30 s.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(18);

/// Signals within this time after the first count as the same request: `timeout` and terminals also signal the whole
/// process group.
const SAME_REQUEST: Duration = Duration::from_millis(500);

/// How long the process waits for blocking calls after all other parts have ended. A DNS lookup without a response or a
/// disk that hangs would block it without a bound.
const BLOCKING_DEADLINE: Duration = Duration::from_secs(4);

/// Signals that always start the drain.
const DRAIN: [(&str, i32); 4] =
    [(TERMINATION, libc::SIGTERM), ("SIGINT", libc::SIGINT), ("SIGPWR", libc::SIGPWR), (CPU, libc::SIGXCPU)];

/// The limit of CPU time is reached. The system sends this signal once per second of CPU time, and then kills the
/// process.
const CPU: &str = "SIGXCPU";

/// Signals that start the drain unless the process was started with them ignored (`nohup`, a background job of a shell
/// script).
const DRAIN_UNLESS_IGNORED: [(&str, i32); 2] = [("SIGHUP", libc::SIGHUP), ("SIGQUIT", libc::SIGQUIT)];

/// Signals that are ignored and logged.
const IGNORED: [(&str, i32); 8] = [
    ("SIGUSR1", libc::SIGUSR1),
    ("SIGUSR2", libc::SIGUSR2),
    ("SIGALRM", libc::SIGALRM),
    ("SIGVTALRM", libc::SIGVTALRM),
    ("SIGPROF", libc::SIGPROF),
    ("SIGIO", libc::SIGIO),
    ("SIGSTKFLT", libc::SIGSTKFLT),
    ("SIGXFSZ", libc::SIGXFSZ),
];

/// Receives the signals that start the drain.
pub struct Stop {
    signals: Vec<(&'static str, Signal)>,
    /// Whether the signal that requested the end is [`TERMINATION`].
    is_terminated: bool,
}

/// The signal by which orchestrators end a process. A terminal sends another one.
const TERMINATION: &str = "SIGTERM";

/// Unblocks all signals of this thread and of those that it starts. A parent that blocks signals passes its mask on, and a blocked SIGTERM
/// has no effect. Call it before a thread is started.
///
/// # Errors
/// When the system refuses it.
pub fn unblock() -> std::io::Result<()> {
    Ok(SigSet::all().thread_unblock()?)
}

/// Ignores the signals of [`IGNORED`] and the real-time signals. Call it before the first log line: without it a write
/// beyond the file size limit (SIGXFSZ) ends the process, and with it the write fails. The standard library ignores
/// SIGPIPE.
///
/// # Errors
/// When the system refuses it.
pub fn ignore() -> std::io::Result<()> {
    // An empty handler instead of SIG_IGN, which needs unsafe code. The flags are not read.
    for (_, number) in ignored() {
        signal_hook::flag::register(number, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}

/// The signals that request the end of this process, with their names.
pub fn termination_signals() -> impl Iterator<Item = (&'static str, i32)> {
    let at_start = ignored_at_start();
    let wanted = DRAIN_UNLESS_IGNORED.into_iter().filter(move |(_, number)| !is_in(at_start, *number));
    DRAIN.into_iter().chain(wanted)
}

/// The ignored signals: [`IGNORED`] and the real-time signals, which the system does not use.
fn ignored() -> impl Iterator<Item = (String, i32)> {
    let first = libc::SIGRTMIN();
    let named = IGNORED.into_iter().map(|(name, number)| (name.to_owned(), number));
    named
        .chain((first..=libc::SIGRTMAX()).map(move |number| (format!("SIGRTMIN+{}", number - first), number)))
}

/// Runs `work` on the main thread until it completes. Blocking calls in progress then have 4 s before the process ends.
pub fn run(work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    let system = System::new();
    let outcome = system.block_on(work);
    let (status, text) = match &outcome {
        Ok(()) => (0, None),
        Err(error) => (error.exit_code(), Some(error.to_string())),
    };
    let (ended, has_ended) = channel::<()>();
    let wait = move || {
        if has_ended.recv_timeout(BLOCKING_DEADLINE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(waited = ?BLOCKING_DEADLINE, "blocking calls did not end in time; the process ends without them");
            text.iter().for_each(|text| telemetry::write_line(Level::ERROR, text));
            telemetry::exit(status.into());
        }
    };
    // Without this thread the process waits for the blocking calls without a bound.
    _ = thread::Builder::new().name("exit".to_owned()).spawn(wait);
    drop(system);
    drop(ended);
    outcome
}

impl Stop {
    /// Registers the signals. From then on they do not end the process themselves, and the unexpected end of a part
    /// does. Needs a running runtime.
    pub fn listen() -> Result<Self, Error> {
        supervision::start();
        let signals = termination_signals().map(listener).collect::<Result<_, _>>()?;
        for (name, signal) in ignored().map(listener).collect::<Result<Vec<_>, _>>()? {
            spawn(log_ignored(name, signal));
        }
        Ok(Self { signals, is_terminated: false })
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
                self.is_terminated = signal == TERMINATION;
                Ok(signal)
            }
            part = supervision::failed() => Err(Error::Ended(part)),
        }
    }

    /// Whether SIGTERM has requested the end.
    pub fn is_terminated(&self) -> bool {
        self.is_terminated
    }

    async fn signal(&mut self) -> &'static str {
        let next = self.signals.iter_mut().map(|(name, signal)| {
            Box::pin(async move {
                signal.recv().await;
                *name
            })
        });
        select_all(next).await.0
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
            name = self.requested_again() => {
                tracing::warn!(signal = name, "second signal, ending at once");
                telemetry::exit(130);
            }
        }
    }

    async fn requested_again(&mut self) -> &'static str {
        let first = Instant::now();
        loop {
            let name = self.signal().await;
            if first.elapsed() >= SAME_REQUEST && name != CPU {
                return name;
            }
        }
    }
}

impl Drop for Stop {
    /// The role has returned. Its remaining parts end with it and are not reported.
    fn drop(&mut self) {
        supervision::drain();
    }
}

fn listener<N>((name, number): (N, i32)) -> Result<(N, Signal), Error> {
    let signal = signal(SignalKind::from_raw(number)).map_err(|error| Error::part("signals", error))?;
    Ok((name, signal))
}

/// Logs each ignored signal.
async fn log_ignored(name: String, mut signal: Signal) {
    while signal.recv().await.is_some() {
        tracing::info!(signal = &*name, "signal ignored");
    }
}

/// The mask of the signals that this process ignores. 0 when the system does not report it.
fn ignored_at_start() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

fn is_in(mask: u64, number: i32) -> bool {
    mask >> (number - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Set in the child process of the test.
    const CHILD: &str = "ENDS_WITH_A_BLOCKED_CALL";

    #[test]
    fn a_blocking_call_does_not_delay_the_exit() {
        if std::env::var_os(CHILD).is_some() {
            let work = async {
                let (begun, has_begun) = tokio::sync::oneshot::channel();
                tokio::task::spawn_blocking(move || {
                    begun.send(()).unwrap();
                    loop {
                        thread::park();
                    }
                });
                has_begun.await.unwrap();
                Err(Error::Refused("a reason"))
            };
            _ = run(work);
            return;
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "shutdown::tests::a_blocking_call_does_not_delay_the_exit", "--nocapture"]);
        command.env(CHILD, "1").stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            if let Some(status) = child.try_wait().unwrap() {
                assert_eq!(status.code(), Some(1));
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("it still runs");
    }
}
