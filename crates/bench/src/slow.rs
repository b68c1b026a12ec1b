//! Readers among as many clients that read nothing. The readers hear the same talk twice, without the others and with them;
//! the report compares. Called by `main`; stands on the parts of `lobby`.

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
    lobby::{connect_all, hear_out, settle, talk},
    people::{self, Person},
    process::{Started, Usage, allow_many_files},
    report::{Report, mib, quantiles},
    socket::{self, Socket},
    tape::{Size, Tape},
};

/// A client that reads nothing is dropped within a ping's interval and its time for an answer, and a little.
const ASLEEP: Duration = Duration::from_secs(20);

/// How long what was sent before the end may take to be read.
const AWAKE: Duration = Duration::from_secs(10);

/// Options of the scenario.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Start this binary on an empty store and measure it
    #[arg(long, value_name = "PATH")]
    server: PathBuf,
    /// How many clients read
    #[arg(long, default_value_t = 1000)]
    fast: usize,
    /// How many clients do not
    #[arg(long, default_value_t = 1000)]
    slow: usize,
    /// How many sockets one user may have
    #[arg(long, default_value_t = 20)]
    per_user: usize,
    /// Messages per second, all senders together
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// How long they talk, in seconds, each time
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// How many talk; each stays below the server's limit of messages per socket
    #[arg(long, default_value_t = 10)]
    senders: usize,
    /// How much longer than their marks messages are, in bytes: what fills the slow ones' queues
    #[arg(long, default_value_t = 2000)]
    filler: usize,
    /// By how much the process may grow because of the slow ones, in MiB: what may wait for all clients together
    #[arg(long, default_value_t = 256)]
    growth: u64,
    /// How many times its base the p99 may be
    #[arg(long, default_value_t = 2.0)]
    factor: f64,
    /// A p99 below this is no sign of trouble, whatever the base was, in milliseconds
    #[arg(long, default_value_t = 0.0)]
    floor: f64,
}

/// What the scenario found.
#[derive(Debug)]
pub struct Outcome {
    /// Without slow readers.
    base: Report,
    /// With them.
    beside: Report,
    /// How many slow readers there were, and how many were still connected at the end.
    slow: (usize, usize),
    /// The process before they came, and at the end of the talk beside them.
    usage: (Usage, Usage),
    /// By how many bytes the process may have grown.
    growth: u64,
    /// How many times its base the p99 may be, and what is never too much, in microseconds.
    bound: (f64, f64),
}

/// Runs the scenario.
pub async fn run(args: Args) -> Result<Outcome, Error> {
    allow_many_files()?;
    let started = Started::start(&args.server)?;
    let (server, pid) = (started.address, started.pid());
    let usage = || Usage::of(pid).ok_or(Error::Late("the server's usage"));

    let fast = args.fast.div_ceil(args.per_user);
    let people = people::log_in(fast + args.slow.div_ceil(args.per_user), server).await?;
    let (readers, sleepers) = people.split_at(fast);
    let tape = Rc::new(RefCell::new(args.tape()));
    let sockets = connect_all(readers, args.fast, server, &tape).await?;
    settle(&tape).await;
    let base = hear(&args, &sockets, &tape).await;

    let before = usage()?;
    let asleep = fall_asleep(sleepers, args.slow, server).await?;
    settle(&tape).await;
    tape.replace(args.tape());
    let watch = tokio::task::spawn_local(still_there(asleep));
    let beside = hear(&args, &sockets, &tape).await;
    let left = watch.await.map_err(|_| Error::Late("the slow ones' end"))?;
    Ok(Outcome {
        base,
        beside,
        slow: (args.slow, left),
        usage: (before, usage()?),
        growth: args.growth << 20,
        bound: (args.factor, args.floor * 1000.0),
    })
}

/// One talk, from its first message to its last delivery.
async fn hear(args: &Args, sockets: &[Socket], tape: &Rc<RefCell<Tape>>) -> Report {
    let talked = talk(args.rate, args.size(), sockets, tape).await;
    hear_out(tape).await;
    tape.borrow_mut().report(None, talked, None)
}

/// Connects those that do not read.
async fn fall_asleep(people: &[Person], count: usize, server: SocketAddrV4) -> Result<Vec<Socket>, Error> {
    let opened = (0..count).map(|n| socket::open_asleep(&people[n % people.len()], server));
    stream::iter(opened).buffered(64).try_collect().await
}

/// Lets them sleep for longer than the server bears it, then looks how many are still connected. A socket shows its end only
/// after what came before it was read; one that was not dropped by then stays, however much it reads now.
async fn still_there(mut asleep: Vec<Socket>) -> usize {
    sleep(ASLEEP).await;
    let until = Instant::now() + AWAKE;
    while !asleep.is_empty() && Instant::now() < until {
        asleep.retain(|socket| !socket.has_ended());
        sleep(Duration::from_millis(100)).await;
    }
    asleep.len()
}

impl Args {
    fn size(&self) -> Size {
        let senders = self.senders.clamp(1, self.fast.max(1));
        let per_sender = (self.rate * self.seconds) as usize / senders;
        Size { clients: self.fast.max(1), senders, per_sender }
    }

    fn tape(&self) -> Tape {
        Tape::with_filler(self.size(), self.filler)
    }
}

impl Outcome {
    /// Why the run does not pass.
    pub fn faults(&self) -> Vec<String> {
        let (base, beside) = (f64::from(self.base.p99()), f64::from(self.beside.p99()));
        let (factor, floor) = self.bound;
        let grown = self.usage.1.peak.saturating_sub(self.usage.0.peak);
        let of = |report: &Report, when: &str| {
            report.faults().into_iter().map(|fault| format!("{fault} {when}")).collect::<Vec<_>>()
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

    /// Prints everything and returns the verdict.
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
        let faults = self.faults();
        if faults.is_empty() {
            println!("passed");
            return ExitCode::SUCCESS;
        }
        println!("failed: {}", faults.join(", "));
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(p99: u32) -> Report {
        let mut tape = Tape::new(Size { clients: 2, senders: 1, per_sender: 1 });
        let packet = tape.sends(0, 0).replacen("420[", "42[", 1);
        tape.hears(1, packet.as_bytes());
        tape.hears(0, br#"430[{"ok":true,"id":"a","seq":1}]"#);
        Report { latencies: vec![p99], ..tape.report(None, Duration::from_secs(1), None) }
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
    fn every_fault_alone_fails_the_run() {
        assert_eq!(outcome().faults(), Vec::<String>::new());
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
            assert_eq!(outcome.faults().len(), 1, "case {n}: {:?}", outcome.faults());
        }
    }
}
