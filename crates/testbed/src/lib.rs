//! Real servers for tests: each started on a free loopback port with a directory of its own, killed when it is dropped. A
//! test that needs one fails, with words, where its program is missing.

mod mongo;
mod redis;
mod stores;

pub use mongo::{Fault, Mongo};
pub use redis::{Redis, Refusal};
pub use stores::Stores;

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a server may take to come up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A port that is free now.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket").port()
}

/// Starts what `command` makes of a free port, on another one if somebody took it meanwhile.
fn start_anywhere(command: impl Fn(u16) -> Command) -> (u16, Child) {
    let tries = (0..5).map(|_| free_port());
    let mut started = tries.filter_map(|port| start(command(port), port).map(|child| (port, child)));
    started.next().expect("five times in a row it ended at once")
}

/// Starts `command` and waits until it accepts connections on `port`; none if it ends instead.
fn start(mut command: Command, port: u16) -> Option<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{name} does not start ({error}): scripts/test installs it"));
    let until = Instant::now() + PATIENCE;
    loop {
        let answers = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        if child.try_wait().expect("our own child").is_some() {
            return None;
        }
        if answers {
            return Some(child);
        }
        assert!(Instant::now() < until, "{name} does not listen after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a signal by its name.
fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.expect("kill is everywhere").success());
}

/// Stops a server and waits until each of its threads stands still: one that runs on for a moment could answer once more.
fn freeze(child: &Child) {
    signal(child, "STOP");
    let stands = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
    };
    let until = Instant::now() + PATIENCE;
    let threads = || fs::read_dir(format!("/proc/{}/task", child.id())).expect("our own child");
    while !threads().flatten().all(stands) {
        assert!(Instant::now() < until, "it does not stop");
        std::thread::sleep(Duration::from_millis(1));
    }
}
