//! Scenario `loud`: many quiet rooms and one loud room. Phases with and without the loud room alternate; the
//! report compares the ack times of the quiet rooms. A second server with quiet rooms measures the effect of
//! the machine alone.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddrV4,
    path::PathBuf,
    process::ExitCode,
    rc::Rc,
    time::Duration,
};

use tokio::{
    task::spawn_local,
    time::{interval_at, sleep},
};

use crate::{
    error::Error,
    process::{ServerProcess, Usage, allow_many_files},
    report::quantiles,
    socket::{self, Socket},
    stats::{Phase, PhaseStats},
    users::{self, User},
};

/// The pause before and after each measured phase. Messages sent in it belong to no phase.
const BETWEEN: Duration = Duration::from_secs(1);

/// The server limits that would throttle the loud room.
const FLAGS: &[&str] = &[
    "--message-rate=100000",
    "--message-burst=100000",
    "--open-acks=100000",
    "--sockets-per-user=1000",
    "--rooms-per-user=1000",
];

/// Options of the scenario.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Start this binary on an empty store and measure it
    #[arg(long, value_name = "PATH")]
    server: PathBuf,
    /// Number of quiet rooms
    #[arg(long, default_value_t = 99)]
    quiet: usize,
    /// Messages per second in each quiet room
    #[arg(long, default_value_t = 4)]
    quiet_rate: u32,
    /// Number of quiet rooms on a second server, which the loud room affects only through the machine
    #[arg(long, default_value_t = 10)]
    elsewhere: usize,
    /// Messages per second in the loud room
    #[arg(long, default_value_t = 4000)]
    loud_rate: u32,
    /// Number of clients in the loud room that send and read
    #[arg(long, default_value_t = 4)]
    loud_senders: u32,
    /// Number of clients in the loud room that read slowly
    #[arg(long, default_value_t = 1)]
    laggards: usize,
    /// How long a slow client pauses after each 2 KiB, in milliseconds
    #[arg(long, default_value_t = 3)]
    lag: u64,
    /// Seconds of each phase
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Number of repetitions of both phases
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The largest allowed ratio of the p99 of the quiet rooms' acks to its base
    #[arg(long, default_value_t = 2.0)]
    factor: f64,
}

/// The result of the scenario.
#[derive(Debug)]
pub struct Outcome {
    quiet: PhaseStats,
    elsewhere: PhaseStats,
    loud_stats: PhaseStats,
    /// CPU seconds of the server in the base and the loud phases.
    cpu: [f64; 2],
    seconds: f64,
    factor: f64,
}

/// Runs the scenario.
pub async fn run(args: Args) -> Result<Outcome, Error> {
    allow_many_files()?;
    let server = ServerProcess::start_with(&args.server, FLAGS)?;
    let other = ServerProcess::start_with(&args.server, FLAGS)?;
    let phase = Rc::new(Cell::new(Phase::Between));
    let group = || Rc::new(RefCell::new(PhaseStats::new(phase.clone())));
    let (quiet, elsewhere, loud_stats) = (group(), group(), group());
    let users = users::log_in(args.quiet + 1, server.address).await?;
    let (loud_owner, quiet_owners) = users.split_first().ok_or(Error::Timeout("a user"))?;
    let loud_senders = loud_room(&args, loud_owner, server.address, &loud_stats).await?;
    quiet_rooms(quiet_owners, args.quiet_rate, server.address, &quiet).await?;
    let control_users = users::log_in(args.elsewhere, other.address).await?;
    quiet_rooms(&control_users, args.quiet_rate, other.address, &elsewhere).await?;

    let mut cpu = [0.0; 2];
    for _ in 0..args.rounds {
        for (n, now) in [Phase::Base, Phase::Loud].into_iter().enumerate() {
            let sending = (now == Phase::Loud).then(|| send_messages(&args, &loud_senders, &loud_stats));
            sleep(BETWEEN).await;
            let before = Usage::of(server.pid());
            phase.set(now);
            sleep(Duration::from_secs(args.seconds)).await;
            phase.set(Phase::Between);
            cpu[n] += before.zip(Usage::of(server.pid())).map_or(0.0, |(old, new)| new.cpu - old.cpu);
            sending.into_iter().flatten().for_each(|task| task.abort());
            sleep(BETWEEN).await;
        }
    }
    let take = |stats: &Rc<RefCell<PhaseStats>>| stats.replace(PhaseStats::new(phase.clone())).finished();
    Ok(Outcome {
        quiet: take(&quiet),
        elsewhere: take(&elsewhere),
        loud_stats: take(&loud_stats),
        cpu,
        seconds: args.seconds as f64 * args.rounds as f64,
        factor: args.factor,
    })
}

/// Opens the clients of the loud room. Returns those that send.
async fn loud_room(
    args: &Args,
    owner: &User,
    server: SocketAddrV4,
    stats: &Rc<RefCell<PhaseStats>>,
) -> Result<Vec<Socket>, Error> {
    users::create_room(owner, "loud", server).await?;
    let mut senders = Vec::new();
    for client in 0..args.loud_senders as usize {
        senders.push(open_client(owner, client, Duration::ZERO, server, stats).await?);
    }
    for client in 0..args.laggards {
        let pause = Duration::from_millis(args.lag);
        open_client(owner, client + senders.len(), pause, server, stats).await?;
    }
    Ok(senders)
}

/// Opens one room per user, in which one client sends and another one reads.
async fn quiet_rooms(
    users: &[User],
    rate: u32,
    server: SocketAddrV4,
    stats: &Rc<RefCell<PhaseStats>>,
) -> Result<(), Error> {
    for (n, user) in users.iter().enumerate() {
        let room = format!("quiet-{n}");
        users::create_room(user, &room, server).await?;
        open_client(user, 2 * n + 1, Duration::ZERO, server, stats).await?;
        let socket = open_client(user, 2 * n, Duration::ZERO, server, stats).await?;
        // The rooms send at different times.
        let interval = Duration::from_secs(1) / rate.max(1);
        let first = interval.mul_f64(n as f64 / users.len() as f64);
        spawn_local(send_regularly(socket, 2 * n, room, first, interval, stats.clone()));
    }
    Ok(())
}

/// Opens a client whose packets are recorded in `stats`.
async fn open_client(
    user: &User,
    client: usize,
    pause: Duration,
    server: SocketAddrV4,
    stats: &Rc<RefCell<PhaseStats>>,
) -> Result<Socket, Error> {
    let (socket, reader) = match pause.is_zero() {
        true => socket::open(user, server).await?,
        false => socket::open_lagging(user, server).await?,
    };
    let stats = stats.clone();
    spawn_local(async move {
        let shared = stats.clone();
        reader.run_with_pauses(pause, move |packet| shared.borrow_mut().record(client, packet)).await;
        stats.borrow_mut().ended += 1;
    });
    Ok(socket)
}

/// Starts the senders of the loud room.
fn send_messages(
    args: &Args,
    loud_senders: &[Socket],
    stats: &Rc<RefCell<PhaseStats>>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let interval = Duration::from_secs(1) / args.loud_rate.max(1);
    let tasks = loud_senders.iter().zip(0u32..).map(|(socket, n)| {
        let each = interval * args.loud_senders;
        spawn_local(send_regularly(
            socket.clone(),
            n as usize,
            "loud".into(),
            interval * n,
            each,
            stats.clone(),
        ))
    });
    tasks.collect()
}

/// Sends one message per `interval` until the connection ends.
async fn send_regularly(
    socket: Socket,
    client: usize,
    room: String,
    first: Duration,
    interval: Duration,
    stats: Rc<RefCell<PhaseStats>>,
) {
    let mut clock = interval_at(tokio::time::Instant::now() + first, interval);
    loop {
        clock.tick().await;
        let ack = stats.borrow_mut().record_send(client);
        let packet =
            format!(r#"42{ack}["message",{{"room":"{room}","text":"about as long as a message is"}}]"#);
        if socket.send(packet.as_bytes()).await.is_err() {
            return;
        }
    }
}

impl Outcome {
    /// Why the run fails.
    fn failures(&self) -> Vec<String> {
        let (ratio, factor) = (self.quiet.ratio(), self.factor);
        [
            (ratio > factor).then(|| format!("p99 of quiet rooms {ratio:.2} times its base")),
            (self.quiet.refused > 0).then(|| format!("{} quiet messages were refused", self.quiet.refused)),
            (self.quiet.ended > 0).then(|| format!("{} quiet connections ended", self.quiet.ended)),
            (self.quiet.base.is_empty() || self.quiet.loud.is_empty()).then(|| "no acks".to_owned()),
            self.loud_stats.loud.is_empty().then(|| "the loud room received no acks".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Prints the result. Returns the exit code.
    #[expect(clippy::print_stdout, reason = "a tool of the command line")]
    pub fn print(&self) -> ExitCode {
        for (name, stats) in [("quiet", &self.quiet), ("elsewhere", &self.elsewhere)] {
            println!("{name:10} base  {}", quantiles(&stats.base));
            println!("{name:10} loud  {}, {:.2} times", quantiles(&stats.loud), stats.ratio());
        }
        let (loud_stats, seconds) = (&self.loud_stats, self.seconds);
        println!("loud room        {}", quantiles(&loud_stats.loud));
        println!("                 {:.0} acked per second", loud_stats.loud.len() as f64 / seconds);
        println!(
            "                 {} refused, {} ended, {} received",
            loud_stats.refused, loud_stats.ended, loud_stats.received
        );
        println!("cpu              {:.2} and {:.2} cores", self.cpu[0] / seconds, self.cpu[1] / seconds);
        let failures = self.failures();
        if failures.is_empty() {
            println!("passed");
            return ExitCode::SUCCESS;
        }
        println!("failed: {}", failures.join(", "));
        ExitCode::FAILURE
    }
}
