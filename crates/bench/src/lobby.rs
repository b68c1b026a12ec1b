//! Many clients in the lobby, a few of them talking. Every client keeps an account of what it heard; the report compares
//! that with what was acked. Called by `main`; stands on `people`, `socket` and `tape`.

use std::{
    cell::RefCell,
    net::SocketAddrV4,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use tokio::time::{interval_at, sleep};

use crate::{
    error::Error,
    http,
    people::{self, Person},
    process::{Started, Usage, allow_many_files},
    report::Report,
    socket::{self, Reader, Socket},
    tape::{Size, Tape},
};

/// Options of the scenario.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Start this binary on an empty store and measure it, instead of --url
    #[arg(long, value_name = "PATH", conflicts_with_all = ["url", "pid"])]
    server: Option<PathBuf>,
    /// The server's process id, to measure its memory and CPU
    #[arg(long)]
    pid: Option<u32>,
    /// How many clients connect
    #[arg(long, default_value_t = 5000)]
    clients: usize,
    /// How many sockets one user may have
    #[arg(long, default_value_t = 20)]
    per_user: usize,
    /// Messages per second, all senders together
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// How long they talk, in seconds
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// How many talk; each stays below the server's limit of messages per socket
    #[arg(long, default_value_t = 4)]
    senders: usize,
    /// Fail when the server ever used more memory than this, in MiB
    #[arg(long)]
    max_memory: Option<u64>,
}

/// Nothing has arrived for so long that nothing is under way.
const QUIET: Duration = Duration::from_secs(2);

/// Runs the scenario.
pub async fn run(args: Args) -> Result<Report, Error> {
    allow_many_files()?;
    let started = args.server.as_deref().map(Started::start).transpose()?;
    let server = started.as_ref().map_or_else(|| http::address(&args.url), |started| Ok(started.address))?;
    let pid = started.as_ref().map(Started::pid).or(args.pid);

    let people = people::log_in(args.clients.div_ceil(args.per_user), server).await?;
    let tape = Rc::new(RefCell::new(Tape::new(args.size())));
    let sockets = connect_all(&people, args.clients, server, &tape).await?;
    settle(&tape).await;
    let idle = pid.and_then(Usage::of);
    let talked = talk(args.rate, args.size(), &sockets, &tape).await;
    hear_out(&tape).await;
    let usage = idle.zip(pid.and_then(Usage::of));
    let limit = args.max_memory.map(|mib| mib << 20);
    Ok(tape.borrow_mut().report(usage, talked, limit))
}

/// Opens every client, some at a time, and leaves each listening.
pub(crate) async fn connect_all(
    people: &[Person],
    clients: usize,
    server: SocketAddrV4,
    tape: &Rc<RefCell<Tape>>,
) -> Result<Vec<Socket>, Error> {
    let opened = stream::iter(0..clients).map(|n| socket::open(&people[n % people.len()], server));
    let opened: Vec<(Socket, Reader)> = opened.buffered(64).try_collect().await?;
    let mut sockets = Vec::with_capacity(opened.len());
    for (n, (socket, reader)) in opened.into_iter().enumerate() {
        sockets.push(socket);
        let tape = Rc::clone(tape);
        tokio::task::spawn_local(async move {
            let heard = Rc::clone(&tape);
            reader.run(move |packet| heard.borrow_mut().hears(n, packet)).await;
            tape.borrow_mut().loses_one();
        });
    }
    Ok(sockets)
}

/// Waits until the server is done telling everybody who is online.
pub(crate) async fn settle(tape: &RefCell<Tape>) {
    while tape.borrow().quiet() < QUIET {
        sleep(Duration::from_millis(100)).await;
    }
}

/// Every sender talks at its share of the rate, taking turns; returns how long that took.
pub(crate) async fn talk(rate: u32, size: Size, sockets: &[Socket], tape: &Rc<RefCell<Tape>>) -> Duration {
    let begin = Instant::now();
    let turn = Duration::from_secs(1) / rate.max(1);
    let Size { senders, per_sender, .. } = size;
    let talking = sockets.iter().take(senders).zip(0..).map(|(socket, sender)| async move {
        let first = tokio::time::Instant::now() + turn * sender;
        let mut clock = interval_at(first, turn * u32::try_from(senders).unwrap_or(u32::MAX));
        for number in 0..per_sender {
            clock.tick().await;
            let text = tape.borrow_mut().sends(sender as usize, number);
            if socket.send(text.as_bytes()).await.is_err() {
                // Its reader counts the lost connection; what was not said counts as unanswered.
                return;
            }
        }
    });
    join_all(talking).await;
    begin.elapsed()
}

/// Waits until everything has arrived, and a little longer, for what would arrive twice; or until nothing arrives any more.
pub(crate) async fn hear_out(tape: &RefCell<Tape>) {
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        sleep(Duration::from_millis(50)).await;
        let tape = tape.borrow();
        let wait = if tape.is_complete() { QUIET / 4 } else { QUIET * 5 };
        if tape.quiet() > wait {
            return;
        }
    }
}

impl Args {
    fn size(&self) -> Size {
        let senders = self.senders.clamp(1, self.clients.max(1));
        Size {
            clients: self.clients.max(1),
            senders,
            per_sender: (self.rate * self.seconds) as usize / senders,
        }
    }
}
