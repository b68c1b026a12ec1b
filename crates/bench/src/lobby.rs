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
    Error,
    delivery::{Deliveries, Marker},
    quantiles,
    server::{ServerProcess, Usage},
    socket::{self, Reader, Socket},
    users::{self, User},
};

/// Options of the scenario.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server's IPv4 address and port
    #[arg(long, default_value = "127.0.0.1:8080")]
    address: SocketAddrV4,
    /// Start this binary on an empty store and measure it, instead of --address
    #[arg(long, value_name = "PATH", conflicts_with_all = ["address", "pid"])]
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

/// The deliveries, acks and latencies of all clients, which run on one thread. Client `n` is sender `n`.
struct Recorder {
    /// The number of messages of the run.
    messages: u64,
    start: Instant,
    deliveries: Vec<Deliveries>,
    /// In microseconds.
    latencies: Vec<u32>,
    acks: Vec<u32>,
    accepted: u64,
    refused: u64,
    dropped: usize,
    /// When the last packet of any kind arrived.
    last: Instant,
    /// Per sender: the send time of each message, in microseconds.
    sent: Vec<Vec<u64>>,
}

/// Runs the scenario. Returns why it fails.
#[expect(clippy::print_stdout, reason = "a tool of the command line")]
pub async fn run(args: Args) -> Result<Vec<String>, Error> {
    let process = args.server.as_deref().map(|path| ServerProcess::start(path, &[])).transpose()?;
    let server = process.as_ref().map_or(args.address, |process| process.address);
    let pid = process.as_ref().map(ServerProcess::pid).or(args.pid);
    let senders = args.senders.clamp(1, args.clients.max(1));
    let per_sender = (args.rate * args.seconds) as usize / senders;

    let users = users::log_in(args.clients.div_ceil(args.per_user), server).await?;
    let recorder = Rc::new(RefCell::new(Recorder::new(args.clients, senders, per_sender)));
    let begin = Instant::now();
    let sockets = connect_all(&users, args.clients, server, &recorder).await?;
    println!("connects    {} in {:.1} s", args.clients, begin.elapsed().as_secs_f64());
    // The server sends presence updates after the connects.
    while recorder.borrow().quiet() < IDLE_TIME {
        sleep(Duration::from_millis(100)).await;
    }
    let idle = pid.and_then(Usage::of);
    let begin = Instant::now();
    send_messages(args.rate, per_sender, &sockets[..senders], &recorder).await;
    let seconds = begin.elapsed().as_secs_f64();
    wait_for_deliveries(&recorder).await;
    let mut failures = recorder.borrow_mut().report();
    if let Some((idle, end)) = idle.zip(pid.and_then(Usage::of)) {
        let mib = |bytes: u64| bytes >> 20;
        println!(
            "memory      {} MiB idle, {} MiB at the end, {} MiB peak",
            mib(idle.resident),
            mib(end.resident),
            mib(end.peak)
        );
        println!("cpu         {:.1} s in {seconds:.1} s", end.cpu - idle.cpu);
        let is_over = args.max_memory.is_some_and(|limit| mib(end.peak) > limit);
        failures.extend(is_over.then(|| "too much memory".to_owned()));
    }
    Ok(failures)
}

/// Connects all clients, a bounded number at a time, and starts their readers.
async fn connect_all(
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
            reader.run(|packet| recorder.borrow_mut().record(n, packet)).await;
            recorder.borrow_mut().dropped += 1;
        });
    }
    Ok(sockets)
}

/// All senders send at their share of the rate, one after another.
async fn send_messages(rate: u32, per_sender: usize, senders: &[Socket], recorder: &RefCell<Recorder>) {
    let interval = Duration::from_secs(1) / rate.max(1);
    let each = interval * u32::try_from(senders.len()).unwrap_or(u32::MAX);
    let sending = senders.iter().zip(0..).map(|(socket, sender)| async move {
        let mut clock = interval_at(tokio::time::Instant::now() + interval * sender, each);
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
}

/// Waits until everything is received, and somewhat longer to detect duplicates, or until nothing arrives.
async fn wait_for_deliveries(recorder: &RefCell<Recorder>) {
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

impl Recorder {
    /// An empty recorder. The run starts now.
    fn new(clients: usize, senders: usize, per_sender: usize) -> Self {
        let now = Instant::now();
        Self {
            messages: (per_sender * senders) as u64,
            start: now,
            deliveries: vec![Deliveries::new(senders, per_sender); clients],
            latencies: Vec::with_capacity(clients * senders * per_sender),
            acks: Vec::new(),
            accepted: 0,
            refused: 0,
            dropped: 0,
            last: now,
            sent: vec![Vec::new(); senders],
        }
    }

    /// The packet of one message with its marker. The ack id is the message's number.
    fn record_send(&mut self, sender: usize, number: usize) -> String {
        let now = self.micros();
        self.sent[sender].push(now);
        format!(
            r#"42{number}["message",{{"text":"b/{sender}/{number}/{now}/ is one message of this bench"}}]"#
        )
    }

    /// Records a packet that a client received.
    fn record(&mut self, client: usize, packet: &[u8]) {
        self.last = Instant::now();
        match packet {
            [b'4', b'2', ..] => {
                let Some(message) = Marker::find(packet) else { return };
                if self.deliveries[client].record(message) {
                    self.latencies.push(self.since(message.sent));
                }
            }
            [b'4', b'3', ack @ ..] => self.answered(client, ack),
            _ => {}
        }
    }

    fn answered(&mut self, sender: usize, ack: &[u8]) {
        if !ack.windows(9).any(|window| window == b"\"ok\":true") {
            self.refused += 1;
            return;
        }
        self.accepted += 1;
        let digits = ack.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let id = std::str::from_utf8(&ack[..digits]).ok().and_then(|id| id.parse::<usize>().ok());
        if let Some(sent) = id.and_then(|id| self.sent.get(sender)?.get(id)) {
            self.acks.push(self.since(*sent));
        }
    }

    /// The time since the last packet.
    fn quiet(&self) -> Duration {
        self.last.elapsed()
    }

    /// Whether every message is acknowledged and delivered to all clients.
    fn is_complete(&self) -> bool {
        let received: u64 = self.deliveries.iter().map(|client| client.deliveries).sum();
        self.accepted + self.refused == self.messages && received == self.expected()
    }

    /// Prints the figures. Returns why the run fails.
    #[expect(clippy::print_stdout, reason = "a tool of the command line")]
    fn report(&mut self) -> Vec<String> {
        self.latencies.sort_unstable();
        self.acks.sort_unstable();
        let sum = |part: fn(&Deliveries) -> u64| -> u64 { self.deliveries.iter().map(part).sum() };
        let (received, expected) = (sum(|client| client.deliveries), self.expected());
        let (duplicates, late) = (sum(|client| client.duplicates), sum(|client| client.out_of_order));
        let refused = self.messages - self.accepted;
        println!("messages    {} accepted, {refused} refused or unanswered", self.accepted);
        println!("deliveries  {received} of {expected}, {duplicates} duplicates, {late} out of order");
        println!("latency     {}", quantiles(&self.latencies));
        println!("ack         {}", quantiles(&self.acks));
        let checks = [
            (received != expected, "deliveries are missing"),
            (duplicates > 0, "messages were delivered twice"),
            (late > 0, "messages were delivered out of order"),
            (self.dropped > 0, "connections ended"),
            (refused > 0, "messages were refused or unanswered"),
            (self.accepted == 0, "no message was accepted"),
        ];
        checks.into_iter().filter(|(fails, _)| *fails).map(|(_, why)| why.to_owned()).collect()
    }

    /// Every client receives all messages except its own.
    fn expected(&self) -> u64 {
        self.accepted * (self.deliveries.len() as u64 - 1)
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn since(&self, micros: u64) -> u32 {
        u32::try_from(self.micros().saturating_sub(micros)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_complete_when_all_is_acknowledged_and_delivered() {
        let mut recorder = Recorder::new(3, 1, 2);
        let first = recorder.record_send(0, 0).replacen("420[", "42[", 1);
        let second = recorder.record_send(0, 1).replacen("421[", "42[", 1);
        for packet in [&first, &second] {
            recorder.record(1, packet.as_bytes());
        }
        recorder.record(2, second.as_bytes());
        recorder.record(0, br#"430[{"ok":true,"id":"a","seq":1}]"#);
        assert_eq!(recorder.report(), ["deliveries are missing", "messages were refused or unanswered"]);
        recorder.record(0, br#"431[{"ok":true,"id":"b","seq":2}]"#);
        assert!(!recorder.is_complete(), "client 2 has not received the first message");
        recorder.record(2, first.as_bytes());
        assert!(recorder.is_complete());
        assert_eq!(recorder.report(), ["messages were delivered out of order"]);
        assert_eq!((recorder.latencies.len(), recorder.acks.len()), (4, 2));
    }
}
