//! The effect of each signal on a running role: it drains, ignores the signal with a log line, or does what the system documents. No signal
//! that tools commonly send ends the process without a drain.

use std::{
    fs::File,
    net::{SocketAddr, TcpStream},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Instant,
};

use tempfile::{NamedTempFile, TempDir};

use crate::support::{TIMEOUT, free_addresses, program};

/// The effect of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// The process drains and exits with status 0.
    Drains,
    /// The process continues and logs that it ignores the signal.
    Noted,
    /// The process continues.
    Nothing,
    /// The process stops until SIGCONT, and then continues.
    Stops,
    /// The system kills the process: a signal of a program fault, or SIGKILL.
    Ends,
}

use Effect::{Drains, Ends, Noted, Nothing, Stops};

/// All signals of Linux by number, and the first and the last real-time signal.
const SIGNALS: [(i32, &str, Effect); 33] = [
    (1, "SIGHUP", Drains),
    (2, "SIGINT", Drains),
    (3, "SIGQUIT", Drains),
    (4, "SIGILL", Ends),
    (5, "SIGTRAP", Ends),
    (6, "SIGABRT", Ends),
    (7, "SIGBUS", Ends),
    (8, "SIGFPE", Ends),
    (9, "SIGKILL", Ends),
    (10, "SIGUSR1", Noted),
    (11, "SIGSEGV", Ends),
    (12, "SIGUSR2", Noted),
    (13, "SIGPIPE", Nothing),
    (14, "SIGALRM", Noted),
    (15, "SIGTERM", Drains),
    (16, "SIGSTKFLT", Noted),
    (17, "SIGCHLD", Nothing),
    (18, "SIGCONT", Nothing),
    (19, "SIGSTOP", Stops),
    (20, "SIGTSTP", Stops),
    (21, "SIGTTIN", Stops),
    (22, "SIGTTOU", Stops),
    (23, "SIGURG", Nothing),
    (24, "SIGXCPU", Drains),
    (25, "SIGXFSZ", Noted),
    (26, "SIGVTALRM", Noted),
    (27, "SIGPROF", Noted),
    (28, "SIGWINCH", Nothing),
    (29, "SIGIO", Noted),
    (30, "SIGPWR", Drains),
    (31, "SIGSYS", Ends),
    (34, "SIGRTMIN+0", Noted),
    (64, "SIGRTMIN+30", Noted),
];

/// A running role with its log; killed on drop.
struct Started {
    child: Child,
    log: NamedTempFile,
    _data: TempDir,
}

impl Started {
    /// Starts `role` through a shell that first runs `before`. Retries with other ports when another test has taken one.
    fn start(role: &str, before: &str) -> Self {
        for _ in 0..5 {
            let (mut started, address) = Self::spawn(role, before);
            if started.wait_until_listening(address) {
                return started;
            }
            assert!(started.log().contains("cannot listen"), "{}", started.log());
        }
        panic!("no port is free");
    }

    fn spawn(role: &str, before: &str) -> (Self, SocketAddr) {
        let [address, admin, presence] = free_addresses();
        let (log, data) = (NamedTempFile::new().expect("a file"), TempDir::new().expect("a directory"));
        let program = program();
        let mut command = Command::new("sh");
        // The stop signals of terminals have no effect on a process group without a parent in its session.
        command.args(["-c", &format!(r#"{before}ulimit -c 0; exec "$@""#), "sh"]).arg(program.get_program());
        command.args([role, "--listen", &address.to_string(), "--admin-listen", &admin.to_string()]);
        if role == "serve" {
            command
                .args(["--presence-listen", &presence.to_string(), "--data-dir"])
                .arg(data.path().join("data"));
        }
        for (name, _) in program.get_envs() {
            command.env_remove(name);
        }
        let stderr: File = log.reopen().expect("a file");
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().expect("a shell");
        (Self { child, log, _data: data }, address)
    }

    /// Waits until the address accepts connections; false when the process has exited.
    fn wait_until_listening(&mut self, address: SocketAddr) -> bool {
        let until = Instant::now() + TIMEOUT;
        while self.child.try_wait().expect("a child process").is_none() {
            if TcpStream::connect(address).is_ok() {
                return true;
            }
            assert!(Instant::now() < until, "the role does not listen");
            thread::yield_now();
        }
        false
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).expect("a log")
    }

    fn wait_for_log(&self, text: &str) {
        let until = Instant::now() + TIMEOUT;
        while !self.log().contains(text) {
            assert!(Instant::now() < until, "no {text} in {}", self.log());
            thread::yield_now();
        }
    }

    fn signal(&self, number: i32) {
        let arguments = [format!("-{number}"), self.child.id().to_string()];
        assert!(Command::new("kill").args(arguments).status().expect("kill").success());
    }

    /// The state letter of the process.
    fn state(&self) -> char {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("a running process");
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).expect("a state")
    }

    fn wait_for_exit(&mut self, what: &str) -> ExitStatus {
        let until = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child process") {
                return status;
            }
            assert!(Instant::now() < until, "{what}: still running after {TIMEOUT:?}: {}", self.log());
            thread::yield_now();
        }
    }

    /// Waits until the system has killed the process. A SIGSEGV or SIGBUS without a fault has an effect only when it is sent twice, because
    /// the standard library waits until the fault repeats.
    fn check_killed(&mut self, number: i32) {
        let until = Instant::now() + TIMEOUT;
        while self.child.try_wait().expect("a child process").is_none() {
            assert!(Instant::now() < until, "signal {number}: still running after {TIMEOUT:?}");
            self.signal(number);
        }
        assert_eq!(self.wait_for_exit("killed").signal(), Some(number));
    }

    fn check_drained(&mut self, name: &str) {
        assert_eq!(self.wait_for_exit(name).code(), Some(0), "{name}: {}", self.log());
        assert!(self.log().contains(&format!(r#"draining signal="{name}""#)), "{name}: {}", self.log());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends every signal: each signal that ends a process to a new process, the others to the same process.
fn send_every_signal(role: &str) {
    let mut lasting = Started::start(role, "");
    for (number, name, effect) in SIGNALS {
        match effect {
            Drains | Ends => {
                let mut started = Started::start(role, "");
                started.signal(number);
                match effect {
                    Drains => started.check_drained(name),
                    _ => started.check_killed(number),
                }
            }
            Noted => {
                lasting.signal(number);
                lasting.wait_for_log(&format!(r#"signal ignored signal="{name}""#));
            }
            Nothing => lasting.signal(number),
            Stops => {
                lasting.signal(number);
                // In a process group without a parent in its session the system ignores the stop signals of terminals.
                let until = Instant::now() + TIMEOUT / 20;
                while lasting.state() != 'T' && (number == 19 || Instant::now() < until) {
                    thread::yield_now();
                }
                lasting.signal(18);
            }
        }
        assert_eq!(lasting.child.try_wait().expect("a child process"), None, "{name}: {}", lasting.log());
    }
    lasting.signal(15);
    lasting.check_drained("SIGTERM");
}

#[test]
fn every_signal_to_serve_has_its_documented_effect() {
    send_every_signal("serve");
}

#[test]
fn every_signal_to_presence_has_its_documented_effect() {
    send_every_signal("presence");
}

#[test]
fn signals_ignored_at_the_start_stay_ignored_except_those_of_orchestrators() {
    for (before, number, name, drains) in [
        ("trap '' HUP; ", 1, "SIGHUP", false),
        ("trap '' QUIT; ", 3, "SIGQUIT", false),
        ("trap '' TERM; ", 15, "SIGTERM", true),
        ("trap '' XCPU; ", 24, "SIGXCPU", true),
        // Blocked, as children of a process that waits for signals inherit them.
        (r#"set -- env --block-signal "$@"; "#, 15, "SIGTERM", true),
        (r#"set -- env --block-signal=INT "$@"; "#, 2, "SIGINT", true),
    ] {
        let mut started = Started::start("presence", before);
        started.signal(number);
        if !drains {
            started.signal(15);
        }
        started.check_drained(if drains { name } else { "SIGTERM" });
    }
}

#[test]
fn signals_that_are_blocked_at_the_start_are_received() {
    for (number, name) in [(1, "SIGHUP"), (2, "SIGINT"), (15, "SIGTERM")] {
        let mut started = Started::start("presence", r#"set -- env --block-signal "$@"; "#);
        started.signal(number);
        started.check_drained(name);
    }
}

#[test]
fn repeated_signals_of_a_cpu_time_limit_drain_once() {
    let mut started = Started::start("presence", "");
    started.signal(24);
    started.signal(24);
    started.check_drained("SIGXCPU");
}
