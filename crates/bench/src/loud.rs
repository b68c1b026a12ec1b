//! Scenario `loud`: many quiet rooms and one loud room. Phases with and without the loud room alternate; the
//! report compares the ack times of the quiet rooms.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddrV4,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    task::spawn_local,
    time::{interval_at, sleep},
};

use crate::{
    Error, quantile, quantiles,
    server::{ServerProcess, Usage},
    socket::{self, Socket},
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
    /// Messages per second in the loud room
    #[arg(long, default_value_t = 4000)]
    loud_rate: u32,
    /// Number of clients in the loud room that send and read
    #[arg(long, default_value_t = 4)]
    loud_senders: u32,
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

/// A phase of the scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Messages sent now are not measured.
    Between,
    /// Only the quiet rooms send.
    Base,
    /// The loud room sends too.
    Loud,
}

/// Ack times and errors of a group of clients.
#[derive(Debug)]
struct Group {
    start: Instant,
    /// Read at each send.
    phase: Rc<Cell<Phase>>,
    /// By client and ack id: the send time and phase.
    sent: HashMap<(usize, u64), (Instant, Phase)>,
    /// Ack times in the base phases, in microseconds.
    base: Vec<u32>,
    /// Ack times in the loud phases.
    loud: Vec<u32>,
    /// Refused messages.
    refused: u64,
    /// Connections that ended.
    ended: usize,
}

/// Runs the scenario. Returns why it fails.
#[expect(clippy::print_stdout, reason = "a tool of the command line")]
pub async fn run(args: Args) -> Result<Vec<String>, Error> {
    let server = ServerProcess::start(&args.server, FLAGS)?;
    let phase = Rc::new(Cell::new(Phase::Between));
    let (quiet, loud) = (Group::new(&phase), Group::new(&phase));
    let users = users::log_in(args.quiet + 1, server.address).await?;
    let (loud_owner, quiet_owners) = users.split_first().ok_or("no user")?;
    users::create_room(loud_owner, "loud", server.address).await?;
    let mut loud_senders = Vec::new();
    for client in 0..args.loud_senders as usize {
        loud_senders.push(open_client(loud_owner, client, server.address, &loud).await?);
    }
    quiet_rooms(quiet_owners, args.quiet_rate, server.address, &quiet).await?;

    let mut cpu = [0.0; 2];
    for _ in 0..args.rounds {
        for (n, now) in [Phase::Base, Phase::Loud].into_iter().enumerate() {
            let sending = (now == Phase::Loud).then(|| send_messages(&args, &loud_senders, &loud));
            sleep(BETWEEN).await;
            let before = Usage::of(server.pid()).unwrap_or_default();
            phase.set(now);
            sleep(Duration::from_secs(args.seconds)).await;
            phase.set(Phase::Between);
            cpu[n] += Usage::of(server.pid()).unwrap_or_default().cpu - before.cpu;
            sending.into_iter().flatten().for_each(|task| task.abort());
            sleep(BETWEEN).await;
        }
    }
    let (mut quiet, mut loud) = (quiet.borrow_mut(), loud.borrow_mut());
    quiet.base.sort_unstable();
    quiet.loud.sort_unstable();
    loud.loud.sort_unstable();
    let seconds = args.seconds as f64 * args.rounds as f64;
    let ratio = quiet.ratio();
    println!("quiet rooms base  {}", quantiles(&quiet.base));
    println!("quiet rooms loud  {}, {ratio:.2} times", quantiles(&quiet.loud));
    println!("loud room         {}", quantiles(&loud.loud));
    println!("                  {:.0} acked per second", loud.loud.len() as f64 / seconds);
    println!("                  {} refused, {} ended", loud.refused, loud.ended);
    println!("cpu               {:.2} and {:.2} cores", cpu[0] / seconds, cpu[1] / seconds);
    let checks = [
        (ratio > args.factor, "the acks of quiet rooms are slower beside the loud room"),
        (quiet.refused > 0, "quiet messages were refused"),
        (quiet.ended > 0, "quiet connections ended"),
        (quiet.base.is_empty() || quiet.loud.is_empty(), "no acks"),
        (loud.loud.is_empty(), "the loud room received no acks"),
    ];
    Ok(checks.into_iter().filter(|(fails, _)| *fails).map(|(_, why)| why.to_owned()).collect())
}

/// Opens one room per user, in which one client sends and another one reads.
async fn quiet_rooms(
    users: &[User],
    rate: u32,
    server: SocketAddrV4,
    group: &Rc<RefCell<Group>>,
) -> Result<(), Error> {
    for (n, user) in users.iter().enumerate() {
        let room = format!("quiet-{n}");
        users::create_room(user, &room, server).await?;
        open_client(user, 2 * n + 1, server, group).await?;
        let socket = open_client(user, 2 * n, server, group).await?;
        // The rooms send at different times.
        let interval = Duration::from_secs(1) / rate.max(1);
        let first = interval.mul_f64(n as f64 / users.len() as f64);
        spawn_local(send_regularly(socket, 2 * n, room, (first, interval), group.clone()));
    }
    Ok(())
}

/// Opens a client whose packets are recorded in `group`.
async fn open_client(
    user: &User,
    client: usize,
    server: SocketAddrV4,
    group: &Rc<RefCell<Group>>,
) -> Result<Socket, Error> {
    let (socket, reader) = socket::open(user, server).await?;
    let group = group.clone();
    spawn_local(async move {
        reader.run(|packet| group.borrow_mut().record(client, packet)).await;
        group.borrow_mut().ended += 1;
    });
    Ok(socket)
}

/// Starts the senders of the loud room.
fn send_messages(
    args: &Args,
    loud_senders: &[Socket],
    group: &Rc<RefCell<Group>>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let interval = Duration::from_secs(1) / args.loud_rate.max(1);
    let tasks = loud_senders.iter().zip(0u32..).map(|(socket, n)| {
        let times = (interval * n, interval * args.loud_senders);
        spawn_local(send_regularly(socket.clone(), n as usize, "loud".into(), times, group.clone()))
    });
    tasks.collect()
}

/// Sends one message per interval until the connection ends, the first one after a delay.
async fn send_regularly(
    socket: Socket,
    client: usize,
    room: String,
    (first, interval): (Duration, Duration),
    group: Rc<RefCell<Group>>,
) {
    let mut clock = interval_at(tokio::time::Instant::now() + first, interval);
    loop {
        clock.tick().await;
        let ack = group.borrow_mut().record_send(client);
        let packet =
            format!(r#"42{ack}["message",{{"room":"{room}","text":"about as long as a message is"}}]"#);
        if socket.send(packet.as_bytes()).await.is_err() {
            return;
        }
    }
}

impl Group {
    fn new(phase: &Rc<Cell<Phase>>) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            start: Instant::now(),
            phase: phase.clone(),
            sent: HashMap::new(),
            base: Vec::new(),
            loud: Vec::new(),
            refused: 0,
            ended: 0,
        }))
    }

    /// Records a send. Returns the ack id.
    fn record_send(&mut self, client: usize) -> u64 {
        let ack = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.sent.insert((client, ack), (Instant::now(), self.phase.get()));
        ack
    }

    /// Records a packet that a client received.
    fn record(&mut self, client: usize, packet: &[u8]) {
        let Some(ack) = packet.strip_prefix(b"43") else { return };
        let digits = ack.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let id = std::str::from_utf8(&ack[..digits]).ok().and_then(|id| id.parse().ok());
        let Some((sent, phase)) = id.and_then(|id| self.sent.remove(&(client, id))) else { return };
        if !ack[digits..].starts_with(b"[{\"ok\":true") {
            self.refused += 1;
            return;
        }
        let took = u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX);
        match phase {
            Phase::Between => {}
            Phase::Base => self.base.push(took),
            Phase::Loud => self.loud.push(took),
        }
    }

    /// The ratio of the p99 of the loud phases to that of the base phases.
    fn ratio(&self) -> f64 {
        f64::from(quantile(&self.loud, 0.99)) / f64::from(quantile(&self.base, 0.99)).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_count_in_the_phase_in_which_their_message_was_sent() {
        let phase = Rc::new(Cell::new(Phase::Base));
        let group = Group::new(&phase);
        let mut group = group.borrow_mut();
        let base = group.record_send(1);
        phase.set(Phase::Loud);
        let (loud, refused) = (group.record_send(2), group.record_send(3));
        phase.set(Phase::Between);
        let between = group.record_send(4);
        for (client, ack) in [(1, base), (1, base), (2, loud), (4, between), (5, loud)] {
            group.record(client, format!(r#"43{ack}[{{"ok":true,"id":"a","seq":1}}]"#).as_bytes());
        }
        group.record(3, format!(r#"43{refused}[{{"ok":false}}]"#).as_bytes());
        assert_eq!((group.base.len(), group.loud.len(), group.refused), (1, 1, 1));
    }
}
