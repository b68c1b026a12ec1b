//! Scenario `lobby`: many clients in the lobby, a few of them send. Every client records its deliveries; the
//! report compares them with the acks.

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
    process::{ServerProcess, Usage, allow_many_files},
    recorder::{Recorder, Size},
    report::Report,
    socket::{self, Reader, Socket},
    users::{self, User},
};

/// Options of the scenario.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server's URL
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Start this binary on an empty store and measure it, instead of --url
    #[arg(long, value_name = "PATH", conflicts_with_all = ["url", "pid"])]
    server: Option<PathBuf>,
    /// The server's process id, to measure its memory and CPU
    #[arg(long)]
    pid: Option<u32>,
    /// Number of clients
    #[arg(long, default_value_t = 5000)]
    clients: usize,
    /// Number of sockets per user
    #[arg(long, default_value_t = 20)]
    per_user: usize,
    /// Messages per second, all senders together
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Duration of the load, in seconds
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Number of clients that send; each stays below the server's limit of messages per socket
    #[arg(long, default_value_t = 4)]
    senders: usize,
    /// Fail if the server's peak memory exceeds this, in MiB
    #[arg(long)]
    max_memory: Option<u64>,
}

/// Without any packet for this long, no packet is in flight.
const IDLE_TIME: Duration = Duration::from_secs(2);

/// Runs the scenario.
pub async fn run(args: Args) -> Result<Report, Error> {
    allow_many_files()?;
    let process = args.server.as_deref().map(ServerProcess::start).transpose()?;
    let server = process.as_ref().map_or_else(|| http::address(&args.url), |process| Ok(process.address))?;
    let pid = process.as_ref().map(ServerProcess::pid).or(args.pid);

    let users = users::log_in(args.clients.div_ceil(args.per_user), server).await?;
    let recorder = Rc::new(RefCell::new(Recorder::new(args.size())));
    let sockets = connect_all(&users, args.clients, server, &recorder).await?;
    wait_until_idle(&recorder).await;
    let idle = pid.and_then(Usage::of);
    let send_time = send_messages(args.rate, args.size(), &sockets, &recorder).await;
    wait_for_deliveries(&recorder).await;
    let usage = idle.zip(pid.and_then(Usage::of));
    let limit = args.max_memory.map(|mib| mib << 20);
    Ok(recorder.borrow_mut().report(usage, send_time, limit))
}

/// Connects all clients, a bounded number at a time, and starts their readers.
pub(crate) async fn connect_all(
    users: &[User],
    clients: usize,
    server: SocketAddrV4,
    recorder: &Rc<RefCell<Recorder>>,
) -> Result<Vec<Socket>, Error> {
    let opened = stream::iter(0..clients).map(|n| socket::open(&users[n % users.len()], server));
    let opened: Vec<(Socket, Reader)> = opened.buffered(64).try_collect().await?;
    let mut sockets = Vec::with_capacity(opened.len());
    for (n, (socket, reader)) in opened.into_iter().enumerate() {
        sockets.push(socket);
        let recorder = Rc::clone(recorder);
        tokio::task::spawn_local(async move {
            let shared = Rc::clone(&recorder);
            reader.run(move |packet| shared.borrow_mut().record(n, packet)).await;
            recorder.borrow_mut().record_disconnect();
        });
    }
    Ok(sockets)
}

/// Waits until the server has sent the presence updates after the connects.
pub(crate) async fn wait_until_idle(recorder: &RefCell<Recorder>) {
    while recorder.borrow().quiet() < IDLE_TIME {
        sleep(Duration::from_millis(100)).await;
    }
}

/// All senders send at their share of the rate, one after another. Returns how long that took.
pub(crate) async fn send_messages(
    rate: u32,
    size: Size,
    sockets: &[Socket],
    recorder: &Rc<RefCell<Recorder>>,
) -> Duration {
    let begin = Instant::now();
    let interval = Duration::from_secs(1) / rate.max(1);
    let Size { senders, per_sender, .. } = size;
    let sending = sockets.iter().take(senders).zip(0..).map(|(socket, sender)| async move {
        let first = tokio::time::Instant::now() + interval * sender;
        let mut clock = interval_at(first, interval * u32::try_from(senders).unwrap_or(u32::MAX));
        for number in 0..per_sender {
            clock.tick().await;
            let text = recorder.borrow_mut().record_send(sender as usize, number);
            if socket.send(text.as_bytes()).await.is_err() {
                // The reader counts the lost connection. Unsent messages count as unanswered.
                return;
            }
        }
    });
    join_all(sending).await;
    begin.elapsed()
}

/// Waits until everything is received, and somewhat longer to detect duplicates, or until nothing arrives.
pub(crate) async fn wait_for_deliveries(recorder: &RefCell<Recorder>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        sleep(Duration::from_millis(50)).await;
        let recorder = recorder.borrow();
        let wait = if recorder.is_complete() { IDLE_TIME / 4 } else { IDLE_TIME * 5 };
        if recorder.quiet() > wait {
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
