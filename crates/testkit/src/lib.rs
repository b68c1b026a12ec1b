//! Real servers for tests, each on a free loopback port with its own directory, killed on drop. A test panics
//! with a message if the program is not installed.

mod mongo;
mod redis;
mod stores;

pub use mongo::Mongo;
pub use redis::{Redis, RedisFault};
pub use stores::Stores;

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Time within which a server must accept connections.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A port that is free at the moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket").port()
}

/// Starts the command for a free port. Retries on another port if a process has bound the port in the
/// meantime.
fn start_on_free_port(command: impl Fn(u16) -> Command) -> (u16, Child) {
    let tries = (0..5).map(|_| free_port());
    let mut started = tries.filter_map(|port| start(command(port), port).map(|child| (port, child)));
    started.next().expect("the server exited five times in a row")
}

/// Starts `command` and waits until it accepts connections on `port`. `None` if the process exits.
fn start(mut command: Command, port: u16) -> Option<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{name} does not start ({error}): scripts/test installs it"));
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let is_accepting = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        if child.try_wait().expect("the child exists").is_some() {
            return None;
        }
        if is_accepting {
            return Some(child);
        }
        assert!(Instant::now() < deadline, "{name} does not listen after {START_TIMEOUT:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends the signal with mongo name.
fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.expect("kill is installed").success());
}

/// Stops a process with SIGSTOP and waits until all its threads are stopped: a running thread could still
/// answer.
fn stop_process(child: &Child) {
    signal(child, "STOP");
    let is_stopped = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
    };
    let deadline = Instant::now() + START_TIMEOUT;
    let threads = || fs::read_dir(format!("/proc/{}/task", child.id())).expect("the child exists");
    while !threads().flatten().all(is_stopped) {
        assert!(Instant::now() < deadline, "the process does not stop");
        std::thread::sleep(Duration::from_millis(1));
    }
}
