//! Scenario `connects`: the same clients connect to two servers, one after the other, several times. The report compares connects per
//! second and the memory that an idle connection costs.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    Error,
    server::{ServerProcess, Usage},
    socket::{self, Reader},
    users::{self, User},
};

/// Options of the scenario.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Start this binary on an empty store and measure it
    #[arg(long, value_name = "PATH")]
    server: PathBuf,
    /// The server to compare with: crates/bench/peer, or another binary with its flags
    #[arg(long, value_name = "PATH")]
    peer: PathBuf,
    /// Number of clients
    #[arg(long, default_value_t = 5000)]
    clients: usize,
    /// Number of sockets per user
    #[arg(long, default_value_t = 20)]
    per_user: usize,
    /// Number of times that all clients connect to each server. The median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The smallest allowed ratio of the connects per second to the peer's
    #[arg(long, default_value_t = 0.6)]
    ratio: f64,
}

/// One of the two servers.
struct Side {
    name: &'static str,
    process: ServerProcess,
    users: Vec<User>,
    /// Connects per second, by round.
    rates: Vec<f64>,
    /// Seconds of CPU for the connects of all rounds.
    cpu: f64,
    /// Bytes per connection: growth of the resident memory in the first round.
    memory: u64,
}

/// Runs the scenario. Returns why it fails.
#[expect(clippy::print_stdout, reason = "a tool of the command line")]
pub async fn run(args: Args) -> Result<Vec<String>, Error> {
    let users = args.clients.div_ceil(args.per_user.max(1));
    let mut sides =
        [Side::start("server", &args.server, users).await?, Side::start("peer", &args.peer, users).await?];
    for _ in 0..args.rounds.max(1) {
        for side in &mut sides {
            side.round(args.clients).await?;
        }
    }
    for side in &mut sides {
        side.rates.sort_unstable_by(f64::total_cmp);
        let (rates, cpu) = (&side.rates, side.cpu * 1e3 / (args.clients * side.rates.len()) as f64);
        println!(
            "{:6} {:.0} connects/s ({:.0} to {:.0}), {cpu:.3} ms of CPU each, {:.1} KiB per idle connection",
            side.name,
            side.median(),
            rates[0],
            rates[rates.len() - 1],
            side.memory as f64 / 1024.0
        );
    }
    let ratio = sides[0].median() / sides[1].median();
    println!("ratio  {ratio:.2} of the peer's connects/s");
    Ok((ratio < args.ratio).then(|| format!("the ratio is below {}", args.ratio)).into_iter().collect())
}

impl Side {
    async fn start(name: &'static str, binary: &Path, users: usize) -> Result<Self, Error> {
        let process = ServerProcess::start(binary, &[])?;
        let users = users::log_in(users, process.address).await?;
        Ok(Self { name, process, users, rates: Vec::new(), cpu: 0.0, memory: 0 })
    }

    /// Connects all clients, a bounded number at a time, and ends their connections.
    async fn round(&mut self, clients: usize) -> Result<(), Error> {
        let before = self.usage()?;
        let (users, address) = (&self.users, self.process.address);
        let opened = stream::iter(0..clients).map(|n| socket::open(&users[n % users.len()], address));
        let begin = Instant::now();
        let opened: Vec<(_, Reader)> = opened.buffer_unordered(64).try_collect().await?;
        self.rates.push(clients as f64 / begin.elapsed().as_secs_f64());
        // The readers answer pings and take what the server sends after the connects.
        let mut readers = JoinSet::new();
        for (_, reader) in opened {
            readers.spawn_local(reader.run(|_| {}));
        }
        sleep(Duration::from_secs(3)).await;
        let after = self.usage()?;
        self.cpu += after.cpu - before.cpu;
        if self.memory == 0 {
            self.memory = after.resident.saturating_sub(before.resident) / clients.max(1) as u64;
        }
        readers.shutdown().await;
        // The other server has the machine for itself.
        sleep(Duration::from_secs(3)).await;
        Ok(())
    }

    fn usage(&self) -> Result<Usage, Error> {
        Usage::of(self.process.pid()).ok_or_else(|| format!("the {} has ended", self.name).into())
    }

    /// The median of the sorted rates.
    fn median(&self) -> f64 {
        self.rates[self.rates.len() / 2]
    }
}
