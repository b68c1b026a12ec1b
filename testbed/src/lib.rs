//! Real servers for tests: each started on a free loopback port with a directory of its own, killed when it is dropped. A
//! test that needs one fails, with words, where its program is missing.

mod mongo;
mod redis;

pub use mongo::Mongo;
pub use redis::Redis;

use std::{
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

/// Starts `command` and waits until it accepts connections on `port`.
fn start(mut command: Command, port: u16) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{name} does not start ({error}): scripts/test installs it"));
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if let Some(status) = child.try_wait().expect("our own child") {
            panic!("{name} ended: {status}");
        }
        assert!(Instant::now() < until, "{name} does not listen after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

/// Sends a signal by its name.
fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status();
    assert!(sent.expect("kill is everywhere").success());
}
