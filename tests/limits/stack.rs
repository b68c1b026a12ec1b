//! A small stack limit of the process does not end it.

use std::{net::Ipv4Addr, process::Stdio, time::Instant};

use super::{folder, limited, run_to_end};
use crate::{
    config::text,
    support::{Request, TIMEOUT, free_addresses},
};

/// The limits in KiB. The last one is the usual limit.
const STACKS: [u32; 5] = [64, 128, 256, 1_024, 8_192];

fn limit(stack: u32) -> String {
    format!("--stack={}", stack << 10)
}

#[test]
fn every_command_works_with_a_small_stack() {
    for stack in STACKS {
        // The command, and the exit status.
        let rows: [(&[&str], i32); 6] = [
            (&["--help"], 0),
            (&["serve", "--help"], 0),
            (&["gateway"], 2),
            (&["healthcheck", "--admin-listen", "127.0.0.1:1"], 1),
            (&["doctor", "presence", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"], 0),
            (&["check", "--data-dir", "/nowhere"], 1),
        ];
        for (arguments, status) in rows {
            let output = run_to_end(limited(&limit(stack), false).args(arguments));
            assert_eq!(output.status.code(), Some(status), "{stack} {arguments:?}: {}", text(&output));
        }
    }
}

#[tokio::test]
async fn every_role_starts_and_stops_with_a_small_stack() {
    for stack in STACKS {
        for name in ["serve", "presence"] {
            let (folder, [admin]) = (folder(), free_addresses());
            let mut command = limited(&limit(stack), false);
            command.args([name, "--listen", "127.0.0.1:0", "--drain-delay", "0s", "--admin-listen"]);
            command.arg(admin.to_string());
            if name == "serve" {
                command.args(["--presence-listen", "127.0.0.1:0", "--data-dir"]);
                command.arg(folder.path().join("data"));
            }
            let mut child = command.stdout(Stdio::null()).spawn().expect("a shell");
            let until = Instant::now() + TIMEOUT;
            loop {
                assert_eq!(child.try_wait().expect("a child process"), None, "{name} ended, {stack} KiB");
                assert!(Instant::now() < until, "{name} is not ready, {stack} KiB");
                if Request::get("/readyz")
                    .try_send(Ipv4Addr::LOCALHOST, admin)
                    .await
                    .is_some_and(|ready| ready.status == 200)
                {
                    break;
                }
            }
            let pid = nix::unistd::Pid::from_raw(child.id().try_into().expect("a process id"));
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a child process");
            assert!(child.wait().expect("a child process").success(), "{name}, {stack} KiB");
        }
    }
}
