//! What each signal does to a running role: it drains, or the signal is ignored. No signal that is sent by habit ends it at once.

use std::{
    fs::File,
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Instant,
};

use tempfile::NamedTempFile;

use crate::stage::{PATIENCE, free_addresses, program};

/// Starts a presence service through a shell that first does `before`. Its log goes to the file `log`.
fn starts(before: &str, log: &File) -> Child {
    let [address, admin] = free_addresses();
    let program = program();
    let mut command = Command::new("sh");
    command.args(["-c", &format!(r#"{before}exec "$@""#), "sh"]).arg(program.get_program());
    command.args(["presence", "--listen", &address.to_string(), "--admin-listen", &admin.to_string()]);
    for (name, _) in program.get_envs() {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.try_clone().expect("a file"));
    let mut child = command.spawn().expect("a shell");
    let until = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        assert_eq!(child.try_wait().expect("our own child"), None, "it ended");
        assert!(Instant::now() < until, "it does not listen");
    }
    child
}

fn signal(child: &Child, name: &str) {
    let arguments = [format!("-{name}"), child.id().to_string()];
    assert!(Command::new("kill").args(arguments).status().expect("kill").success());
}

/// The exit status; of a process that a signal ended, none.
fn ends(what: &str, child: &mut Child) -> Option<i32> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            return status.code();
        }
        if Instant::now() >= until {
            let _ = child.kill();
            panic!("{what}: still running after {PATIENCE:?}");
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_signal_drains_or_is_ignored() {
    // What the shell does before, the signal, and whether the process drains upon it.
    let table = [
        ("", "TERM", true),
        ("", "INT", true),
        ("", "HUP", true),
        ("", "QUIT", true),
        ("", "PWR", true),
        ("trap '' HUP; ", "HUP", false),
        ("trap '' QUIT; ", "QUIT", false),
        ("", "PIPE", false),
        ("", "USR1", false),
        ("", "USR2", false),
        ("", "ALRM", false),
        ("", "XFSZ", false),
        ("", "PROF", false),
        ("", "WINCH", false),
    ];
    for (before, name, drains) in table {
        let what = format!("{before}SIG{name}");
        let log = NamedTempFile::new().expect("a temporary file");
        let mut child = starts(before, log.as_file());
        signal(&child, name);
        if !drains {
            signal(&child, "TERM");
        }
        assert_eq!(ends(&what, &mut child), Some(0), "{what}");
        let cause = if drains { name } else { "TERM" };
        let log = std::fs::read_to_string(log.path()).expect("a log");
        assert!(log.contains(&format!(r#"draining signal="SIG{cause}""#)), "{what}: {log}");
    }
}
