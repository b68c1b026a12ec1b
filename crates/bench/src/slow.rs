//! Scenario `slow`: readers among as many clients that read nothing. The same load runs twice, without and
//! with the blocked clients; the report compares both.

use std::{
    cell::RefCell,
    net::SocketAddrV4,
    path::PathBuf,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::sleep;

use crate::{
    error::Error,
    lobby::{connect_all, send_messages, wait_for_deliveries, wait_until_idle},
    process::{ServerProcess, Usage, allow_many_files},
    recorder::{Recorder, Size},
    report::{Report, mib, quantiles},
    socket::{self, Socket},
    users::{self, User},
};

/// A client that reads nothing must be closed within the ping interval and the ping timeout, with a margin.
const DROP_TIME: Duration = Duration::from_secs(20);

/// The longest wait for data that was sent before a connection ended.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Options of the scenario.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Start this binary on an empty store and measure it
    #[arg(long, value_name = "PATH")]
    server: PathBuf,
    /// Number of clients that read
    #[arg(long, default_value_t = 1000)]
    fast: usize,
    /// Number of clients that do not read
    #[arg(long, default_value_t = 1000)]
    slow: usize,
    /// Number of sockets per user
    #[arg(long, default_value_t = 20)]
    per_user: usize,
    /// Messages per second, all senders together
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Duration of each load, in seconds
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Number of clients that send; each stays below the server's limit of messages per socket
    #[arg(long, default_value_t = 10)]
    senders: usize,
    /// Additional bytes per message, to fill the queues of the blocked clients
    #[arg(long, default_value_t = 2000)]
    filler: usize,
    /// The largest allowed growth of the process through the blocked clients, in MiB: the limit of the bytes
    /// queued for all clients
    #[arg(long, default_value_t = 256)]
    growth: u64,
    /// The largest allowed ratio of the p99 to its base
    #[arg(long, default_value_t = 2.0)]
    factor: f64,
    /// A p99 below this passes for any base, in milliseconds
    #[arg(long, default_value_t = 0.0)]
    floor: f64,
}

/// The result of the scenario.
#[derive(Debug)]
pub struct Outcome {
    /// Without blocked clients.
    base: Report,
    /// With blocked clients.
    beside: Report,
    /// The number of blocked clients, and of those still connected at the end.
    slow: (usize, usize),
    /// The process before the blocked clients connect, and at the end of the load with them.
    usage: (Usage, Usage),
    /// The largest allowed growth in bytes.
    growth: u64,
    /// The largest allowed ratio of the p99 to its base, and the p99 in microseconds that always passes.
    bound: (f64, f64),
}

/// Runs the scenario.
pub async fn run(args: Args) -> Result<Outcome, Error> {
    allow_many_files()?;
    let process = ServerProcess::start(&args.server)?;
    let (server, pid) = (process.address, process.pid());
    let usage = || Usage::of(pid).ok_or(Error::Timeout("the server's usage"));

    let fast = args.fast.div_ceil(args.per_user);
    let users = users::log_in(fast + args.slow.div_ceil(args.per_user), server).await?;
    let (readers, blocked_users) = users.split_at(fast);
    let recorder = Rc::new(RefCell::new(args.recorder()));
    let sockets = connect_all(readers, args.fast, server, &recorder).await?;
    wait_until_idle(&recorder).await;
    let base = measure(&args, &sockets, &recorder).await;

    let before = usage()?;
    let blocked = connect_blocked(blocked_users, args.slow, server).await?;
    wait_until_idle(&recorder).await;
    recorder.replace(args.recorder());
    let watch = tokio::task::spawn_local(count_connected(blocked));
    let beside = measure(&args, &sockets, &recorder).await;
    let left = watch.await.map_err(|_| Error::Timeout("the end of the blocked clients"))?;
    Ok(Outcome {
        base,
        beside,
        slow: (args.slow, left),
        usage: (before, usage()?),
        growth: args.growth << 20,
        bound: (args.factor, args.floor * 1000.0),
    })
}

/// One load, from its first message to its last delivery.
async fn measure(args: &Args, sockets: &[Socket], recorder: &Rc<RefCell<Recorder>>) -> Report {
    let send_time = send_messages(args.rate, args.size(), sockets, recorder).await;
    wait_for_deliveries(recorder).await;
    recorder.borrow_mut().report(None, send_time, None)
}

/// Connects the clients that do not read.
async fn connect_blocked(users: &[User], count: usize, server: SocketAddrV4) -> Result<Vec<Socket>, Error> {
    let opened = (0..count).map(|n| socket::open_blocked(&users[n % users.len()], server));
    stream::iter(opened).buffered(64).try_collect().await
}

/// Waits longer than the server tolerates, then counts the clients that are still connected. A socket reports
/// its end only after all data before it was read. A client that was not closed by then stays connected.
async fn count_connected(mut blocked: Vec<Socket>) -> usize {
    sleep(DROP_TIME).await;
    let deadline = Instant::now() + DRAIN_TIME;
    while !blocked.is_empty() && Instant::now() < deadline {
        blocked.retain(|socket| !socket.has_ended());
        sleep(Duration::from_millis(100)).await;
    }
    blocked.len()
}

impl Args {
    fn size(&self) -> Size {
        let senders = self.senders.clamp(1, self.fast.max(1));
        let per_sender = (self.rate * self.seconds) as usize / senders;
        Size { clients: self.fast.max(1), senders, per_sender }
    }

    fn recorder(&self) -> Recorder {
        Recorder::with_filler(self.size(), self.filler)
    }
}

impl Outcome {
    /// Why the run fails.
    pub fn failures(&self) -> Vec<String> {
        let (base, beside) = (f64::from(self.base.p99()), f64::from(self.beside.p99()));
        let (factor, floor) = self.bound;
        let grown = self.usage.1.peak.saturating_sub(self.usage.0.peak);
        let of = |report: &Report, when: &str| {
            report.failures().into_iter().map(|fault| format!("{fault} {when}")).collect::<Vec<_>>()
        };
        let more = [
            (beside > floor && beside > base * factor)
                .then(|| format!("p99 {:.1} times its base", beside / base)),
            (self.slow.1 > 0).then(|| format!("{} slow readers were not dropped", self.slow.1)),
            (grown > self.growth).then(|| format!("grew by {}, more than {}", mib(grown), mib(self.growth))),
        ];
        let reports = [of(&self.base, "without slow readers"), of(&self.beside, "beside slow readers")];
        reports.into_iter().flatten().chain(more.into_iter().flatten()).collect()
    }

    /// Prints the result. Returns the exit code.
    #[expect(clippy::print_stdout, reason = "a tool of the command line")]
    pub fn print(&self) -> ExitCode {
        for (name, report) in [("without", &self.base), ("beside", &self.beside)] {
            println!("{name:8}    {} of {} deliveries", report.received, report.expected);
            println!("            latency {}", quantiles(&report.latencies));
            println!("            ack     {}", quantiles(&report.acks));
        }
        println!("slow        {} readers, {} not dropped", self.slow.0, self.slow.1);
        let (before, end) = self.usage;
        println!("memory      {} peak before, {} peak beside", mib(before.peak), mib(end.peak));
        let failures = self.failures();
        if failures.is_empty() {
            println!("passed");
            return ExitCode::SUCCESS;
        }
        println!("failed: {}", failures.join(", "));
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(p99: u32) -> Report {
        let mut recorder = Recorder::new(Size { clients: 2, senders: 1, per_sender: 1 });
        let packet = recorder.record_send(0, 0).replacen("420[", "42[", 1);
        recorder.record(1, packet.as_bytes());
        recorder.record(0, br#"430[{"ok":true,"id":"a","seq":1}]"#);
        Report { latencies: vec![p99], ..recorder.report(None, Duration::from_secs(1), None) }
    }

    fn outcome() -> Outcome {
        let usage = Usage { resident: 1, peak: 100, cpu: 0.0 };
        Outcome {
            base: report(1000),
            beside: report(2000),
            slow: (1, 0),
            usage: (usage, Usage { peak: 200, ..usage }),
            growth: 100,
            bound: (2.0, 0.0),
        }
    }

    #[test]
    fn every_failure_alone_fails_the_run() {
        assert_eq!(outcome().failures(), Vec::<String>::new());
        let spoil: [fn(&mut Outcome); 5] = [
            |outcome| outcome.beside = report(2001),
            |outcome| outcome.slow.1 = 1,
            |outcome| outcome.growth = 99,
            |outcome| outcome.base.received = 0,
            |outcome| outcome.beside.dropped = 1,
        ];
        for (n, spoil) in spoil.into_iter().enumerate() {
            let mut outcome = outcome();
            spoil(&mut outcome);
            assert_eq!(outcome.failures().len(), 1, "case {n}: {:?}", outcome.failures());
        }
    }
}
