//! Roles as processes of their own.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    config::runs,
    interop,
    stage::{PATIENCE, program},
};

/// A running role, killed at the end if it still runs.
struct Role {
    address: SocketAddr,
    admin: SocketAddr,
    child: Child,
}

impl Role {
    /// Starts the role and waits until `godzilla healthcheck` is content with it.
    fn starts(name: &str) -> Self {
        let held = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
        let [address, admin] = held.each_ref().map(|port| port.local_addr().expect("a bound socket"));
        drop(held);
        let mut command = program();
        command.args([name, "--listen", &address.to_string(), "--admin-listen", &admin.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the program starts");
        let mut role = Self { address, admin, child };
        let until = Instant::now() + PATIENCE;
        while !role.is_ready() {
            assert!(role.child.try_wait().expect("our own child").is_none(), "{name} ended");
            assert!(Instant::now() < until, "{name} is not ready after {PATIENCE:?}");
        }
        role
    }

    fn is_ready(&self) -> bool {
        runs(&["healthcheck", "--admin-listen", &self.admin.to_string()], &[]).status.success()
    }

    /// Asks it to end, and answers with its exit status.
    fn is_asked_to_stop(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill is everywhere").success());
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("still running {PATIENCE:?} after SIGTERM");
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn presence_alone_answers_the_five_calls_and_ends_when_asked() {
    let mut presence = Role::starts("presence");
    interop::python("presence_calls.py", &[&presence.address.to_string()]).await;
    assert_eq!(presence.is_asked_to_stop(), Some(0));
}
