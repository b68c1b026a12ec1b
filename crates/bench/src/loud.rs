//! Many quiet rooms and one loud room. Phases without and with the loud room alternate, and the report compares how long the
//! acks of the quiet rooms take. A second server with quiet rooms of its own shows what the machine alone adds.

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
    notes::{Notes, Phase},
    people::{self, Person},
    process::{Started, Usage, allow_many_files},
    report::quantiles,
    socket::{self, Socket},
};

/// After a phase begins, what is sent in this time belongs to no phase.
const BETWEEN: Duration = Duration::from_secs(1);

/// The limits of the server that would end the loud room.
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
    /// Quiet rooms
    #[arg(long, default_value_t = 99)]
    quiet: usize,
    /// Messages per second in each quiet room
    #[arg(long, default_value_t = 4)]
    quiet_rate: u32,
    /// Quiet rooms on a second server, which the loud room cannot slow down but by using the machine
    #[arg(long, default_value_t = 10)]
    elsewhere: usize,
    /// Messages per second in the loud room
    #[arg(long, default_value_t = 4000)]
    loud_rate: u32,
    /// Clients that send them, and read them
    #[arg(long, default_value_t = 4)]
    loud_senders: u32,
    /// Clients in the loud room that read, but slowly
    #[arg(long, default_value_t = 1)]
    laggards: usize,
    /// How long a slow client pauses after each 2 KiB, in milliseconds
    #[arg(long, default_value_t = 3)]
    lag: u64,
    /// Seconds of each phase
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// How often both phases are run
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many times its base the p99 of the quiet rooms' acks may be
    #[arg(long, default_value_t = 2.0)]
    factor: f64,
}

/// What the scenario found.
#[derive(Debug)]
pub struct Outcome {
    quiet: Notes,
    elsewhere: Notes,
    crowd: Notes,
    /// CPU seconds of the server in the base and the loud phases.
    cpu: [f64; 2],
    seconds: f64,
    factor: f64,
}

/// Runs the scenario.
pub async fn run(args: Args) -> Result<Outcome, Error> {
    allow_many_files()?;
    let server = Started::start_with(&args.server, FLAGS)?;
    let other = Started::start_with(&args.server, FLAGS)?;
    let phase = Rc::new(Cell::new(Phase::Between));
    let group = || Rc::new(RefCell::new(Notes::new(phase.clone())));
    let (quiet, elsewhere, crowd) = (group(), group(), group());
    let people = people::log_in(args.quiet + 1, server.address).await?;
    let (owner, residents) = people.split_first().ok_or(Error::Late("a person"))?;
    let speakers = loud_room(&args, owner, server.address, &crowd).await?;
    quiet_rooms(residents, args.quiet_rate, server.address, &quiet).await?;
    let strangers = people::log_in(args.elsewhere, other.address).await?;
    quiet_rooms(&strangers, args.quiet_rate, other.address, &elsewhere).await?;

    let mut cpu = [0.0; 2];
    for _ in 0..args.rounds {
        for (n, now) in [Phase::Base, Phase::Loud].into_iter().enumerate() {
            let talking = (now == Phase::Loud).then(|| talk(&args, &speakers, &crowd));
            sleep(BETWEEN).await;
            let before = Usage::of(server.pid());
            phase.set(now);
            sleep(Duration::from_secs(args.seconds)).await;
            phase.set(Phase::Between);
            cpu[n] += before.zip(Usage::of(server.pid())).map_or(0.0, |(old, new)| new.cpu - old.cpu);
            talking.into_iter().flatten().for_each(|task| task.abort());
            sleep(BETWEEN).await;
        }
    }
    let take = |notes: &Rc<RefCell<Notes>>| notes.replace(Notes::new(phase.clone())).finished();
    Ok(Outcome {
        quiet: take(&quiet),
        elsewhere: take(&elsewhere),
        crowd: take(&crowd),
        cpu,
        seconds: args.seconds as f64 * args.rounds as f64,
        factor: args.factor,
    })
}

/// Opens the sockets of the loud room; answers with those that send.
async fn loud_room(
    args: &Args,
    owner: &Person,
    server: SocketAddrV4,
    notes: &Rc<RefCell<Notes>>,
) -> Result<Vec<Socket>, Error> {
    people::create_room(owner, "loud", server).await?;
    let mut senders = Vec::new();
    for client in 0..args.loud_senders as usize {
        senders.push(listen(owner, client, Duration::ZERO, server, notes).await?);
    }
    for client in 0..args.laggards {
        let pause = Duration::from_millis(args.lag);
        listen(owner, client + senders.len(), pause, server, notes).await?;
    }
    Ok(senders)
}

/// Opens one room for each of `people`, in which one client of theirs speaks and another one reads.
async fn quiet_rooms(
    people: &[Person],
    rate: u32,
    server: SocketAddrV4,
    notes: &Rc<RefCell<Notes>>,
) -> Result<(), Error> {
    for (n, person) in people.iter().enumerate() {
        let room = format!("quiet-{n}");
        people::create_room(person, &room, server).await?;
        listen(person, 2 * n + 1, Duration::ZERO, server, notes).await?;
        let socket = listen(person, 2 * n, Duration::ZERO, server, notes).await?;
        // The rooms do not speak at the same time.
        let turn = Duration::from_secs(1) / rate.max(1);
        let first = turn.mul_f64(n as f64 / people.len() as f64);
        spawn_local(speak(socket, 2 * n, room, first, turn, notes.clone()));
    }
    Ok(())
}

/// Opens a client whose packets go into `notes`.
async fn listen(
    person: &Person,
    client: usize,
    pause: Duration,
    server: SocketAddrV4,
    notes: &Rc<RefCell<Notes>>,
) -> Result<Socket, Error> {
    let (socket, reader) = match pause.is_zero() {
        true => socket::open(person, server).await?,
        false => socket::open_lagging(person, server).await?,
    };
    let notes = notes.clone();
    spawn_local(async move {
        let heard = notes.clone();
        reader.run_with_pauses(pause, move |packet| heard.borrow_mut().hears(client, packet)).await;
        notes.borrow_mut().ended += 1;
    });
    Ok(socket)
}

/// Lets the senders of the loud room speak.
fn talk(args: &Args, speakers: &[Socket], notes: &Rc<RefCell<Notes>>) -> Vec<tokio::task::JoinHandle<()>> {
    let turn = Duration::from_secs(1) / args.loud_rate.max(1);
    let speaking = speakers.iter().zip(0u32..).map(|(socket, n)| {
        let each = turn * args.loud_senders;
        spawn_local(speak(socket.clone(), n as usize, "loud".into(), turn * n, each, notes.clone()))
    });
    speaking.collect()
}

/// Sends one message per `turn` until the connection ends.
async fn speak(
    socket: Socket,
    client: usize,
    room: String,
    first: Duration,
    turn: Duration,
    notes: Rc<RefCell<Notes>>,
) {
    let mut clock = interval_at(tokio::time::Instant::now() + first, turn);
    loop {
        clock.tick().await;
        let ack = notes.borrow_mut().sends(client);
        let packet =
            format!(r#"42{ack}["message",{{"room":"{room}","text":"about as long as a message is"}}]"#);
        if socket.send(packet.as_bytes()).await.is_err() {
            return;
        }
    }
}

impl Outcome {
    /// Why the run does not pass.
    fn faults(&self) -> Vec<String> {
        let (ratio, factor) = (self.quiet.ratio(), self.factor);
        [
            (ratio > factor).then(|| format!("p99 of quiet rooms {ratio:.2} times its base")),
            (self.quiet.refused > 0).then(|| format!("{} quiet messages were refused", self.quiet.refused)),
            (self.quiet.ended > 0).then(|| format!("{} quiet connections ended", self.quiet.ended)),
            (self.quiet.base.is_empty() || self.quiet.loud.is_empty()).then(|| "no acks".to_owned()),
            self.crowd.loud.is_empty().then(|| "the loud room was silent".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Prints everything and returns the verdict.
    #[expect(clippy::print_stdout, reason = "a tool of the command line")]
    pub fn print(&self) -> ExitCode {
        for (name, notes) in [("quiet", &self.quiet), ("elsewhere", &self.elsewhere)] {
            println!("{name:10} base  {}", quantiles(&notes.base));
            println!("{name:10} loud  {}, {:.2} times", quantiles(&notes.loud), notes.ratio());
        }
        let (crowd, seconds) = (&self.crowd, self.seconds);
        println!("loud room        {}", quantiles(&crowd.loud));
        println!("                 {:.0} acked per second", crowd.loud.len() as f64 / seconds);
        println!("                 {} refused, {} ended, {} heard", crowd.refused, crowd.ended, crowd.heard);
        println!("cpu              {:.2} and {:.2} cores", self.cpu[0] / seconds, self.cpu[1] / seconds);
        let faults = self.faults();
        if faults.is_empty() {
            println!("passed");
            return ExitCode::SUCCESS;
        }
        println!("failed: {}", faults.join(", "));
        ExitCode::FAILURE
    }
}
