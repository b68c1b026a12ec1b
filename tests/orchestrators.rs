//! What service managers see of a process: systemd's notifications, and a limit of open files that clients use up.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use crate::support::{Request, TIMEOUT, connect, free_addresses, program};

/// A running process of the program; killed on drop.
struct Started {
    child: Child,
    admin: SocketAddr,
    address: SocketAddr,
}

impl Started {
    /// Starts a role through a shell that first runs `before`.
    fn start(before: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let [address, admin] = free_addresses();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!(r#"{before}exec "$@""#), "sh"]).arg(program().get_program());
        command.args(arguments).args([
            "--listen",
            &address.to_string(),
            "--admin-listen",
            &admin.to_string(),
        ]);
        command.env_clear().envs(variables.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.spawn().expect("a shell");
        let until = Instant::now() + TIMEOUT;
        while TcpStream::connect(admin).is_err() || TcpStream::connect(address).is_err() {
            assert_eq!(child.try_wait().expect("a child process"), None, "the process exited");
            assert!(Instant::now() < until, "the process does not listen");
        }
        Self { child, admin, address }
    }

    async fn admin(&self, path: &str) -> u16 {
        Request::get(path).send(Ipv4Addr::LOCALHOST, self.admin).await.status
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn systemd_is_notified_when_the_service_is_ready_alive_and_stopping() {
    let folder = TempDir::new().expect("a temporary directory");
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).expect("a socket");
    systemd.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    let next = || {
        let mut message = [0; 256];
        let length = systemd.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let until =
        |expected: &str| std::iter::repeat_with(next).take(100).any(|message| message.contains(expected));
    let socket = path.to_string_lossy().into_owned();
    let variables = [("NOTIFY_SOCKET", socket.as_str()), ("WATCHDOG_USEC", "10000000")];
    let mut started = Started::start("", &["presence"], &variables);
    assert!(until("READY=1") && until("WATCHDOG=1"));
    let pid = started.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    assert!(until("STOPPING=1"));
    assert_eq!(started.child.wait().expect("a child process").code(), Some(0));
}

#[tokio::test]
async fn when_clients_use_all_descriptors_the_operators_and_the_stores_still_have_some() {
    let data = TempDir::new().expect("a temporary directory");
    let folder = data.path().join("data").to_string_lossy().into_owned();
    let arguments =
        ["serve", "--presence-listen", "127.0.0.1:0", "--body-timeout", "120", "--data-dir", &folder];
    let started = Started::start("ulimit -n 256; ", &arguments, &[]);
    let until = Instant::now() + TIMEOUT;
    while started.admin("/readyz").await != 200 {
        assert!(Instant::now() < until, "not ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // More than the limit, from several addresses, each in the middle of a request; connections that are not accepted wait in the backlog.
    let login =
        "POST /user/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n";
    let mut clients = Vec::new();
    for n in (0..4).cycle().take(400) {
        let mut client = connect(Ipv4Addr::new(127, 0, 0, 1 + n), started.address).await;
        // A refusal shows when the connection is read.
        let _ = client.write_all(login.as_bytes()).await;
        clients.push(client);
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(started.admin(path).await, 200, "{path}");
    }
    drop(clients);
    let until = Instant::now() + TIMEOUT;
    let health = || Request::get("/healthz").try_send(Ipv4Addr::LOCALHOST, started.address);
    while health().await.is_none_or(|answer| answer.status != 200) {
        assert!(Instant::now() < until, "clients are not served again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
