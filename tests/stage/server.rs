//! One process of the real program with a data directory of its own. Started by `Stage`; killed on drop, or by the test,
//! and then started again on the same data.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{PATIENCE, Request};

/// A running server.
pub struct Server {
    /// Where the gateway listens.
    pub address: SocketAddr,
    /// Where the presence service's gRPC listens.
    pub presence: SocketAddr,
    /// Where `/livez`, `/readyz` and `/metrics` are.
    pub admin: SocketAddr,
    /// The data directory, removed at the end.
    data: TempDir,
    /// More arguments, the same on every start.
    arguments: Vec<String>,
    /// The process.
    child: Child,
}

impl Server {
    /// Starts the program on free ports and an empty directory and waits until it is ready.
    pub async fn start(arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        // Between finding a free port and the program binding it, another test may take it: then try other ports.
        for _ in 0..5 {
            let data = TempDir::new().expect("a temporary directory");
            let [address, presence, admin] = free_addresses();
            let child = spawn(&[address, presence, admin], data.path(), &arguments);
            let mut server = Self { address, presence, admin, data, arguments: arguments.clone(), child };
            if server.becomes_ready().await {
                return server;
            }
            let log = server.log();
            assert!(log.to_lowercase().contains("in use"), "the server did not become ready:\n{log}");
        }
        panic!("five times in a row the ports were taken");
    }

    /// Kills the process as a crash would: no chance to write anything.
    pub fn crashes(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Starts the program again on the same ports and data.
    pub async fn returns(&mut self) {
        let addresses = [self.address, self.presence, self.admin];
        self.child = spawn(&addresses, self.data.path(), &self.arguments);
        assert!(self.becomes_ready().await, "the server did not come back:\n{}", self.log());
    }

    /// Asks the process to end (SIGTERM) and waits until it has.
    pub async fn is_asked_to_stop(&mut self) -> ExitStatus {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill is everywhere");
        assert!(sent.success());
        self.ends()
            .await
            .unwrap_or_else(|| panic!("still running {PATIENCE:?} after SIGTERM:\n{}", self.log()))
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// Makes everything that the chat's store remembers older, so that a test need not wait.
    pub fn ages_by(&self, seconds: u64) {
        let store =
            rusqlite::Connection::open(self.data_dir().join("chat.sqlite3")).expect("the server's store");
        store.busy_timeout(PATIENCE).expect("a setting");
        let ms = seconds * 1000;
        for change in [
            format!("UPDATE tickets SET issued = issued - {ms}"),
            format!("UPDATE messages SET timestamp = timestamp - {ms}"),
        ] {
            store.execute(&change, []).unwrap_or_else(|error| panic!("{change}: {error}"));
        }
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most memory that was ever resident, in bytes.
    pub fn peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process runs");
        let line = status.lines().find(|line| line.starts_with(key)).expect("Linux says so");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("a number of kB") * 1024
    }

    /// Everything the process has written so far, over all its lives.
    pub fn log(&self) -> String {
        fs::read_to_string(log_path(self.data.path())).unwrap_or_default()
    }

    /// Waits for `/readyz`; false when the process ended before.
    async fn becomes_ready(&mut self) -> bool {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.child.try_wait().expect("our own child").is_some() {
                return false;
            }
            if TcpStream::connect(self.admin).is_ok() {
                let answer = Request::get("/readyz").send(Ipv4Addr::LOCALHOST, self.admin).await;
                if answer.status == 200 {
                    return true;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not ready after {PATIENCE:?}:\n{}", self.log());
    }

    /// Waits for the process to end by itself; none when it does not.
    async fn ends(&mut self) -> Option<ExitStatus> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "the test harness shows it beside a failure")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let start = log.lines().count().saturating_sub(40);
            let tail: Vec<&str> = log.lines().skip(start).collect();
            eprintln!("the server's last words:\n{}", tail.join("\n"));
        }
    }
}

/// A command of the program under test: the one given in the environment, else the one cargo built for this test. It is
/// configured by its arguments only, whatever the environment of the test says.
pub fn program() -> Command {
    let given = std::env::var_os("GODZILLA_BIN").filter(|given| !given.is_empty());
    let mut command = Command::new(given.unwrap_or_else(|| env!("CARGO_BIN_EXE_godzilla").into()));
    let ours = std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"GODZILLA_"));
    for (name, _) in ours {
        command.env_remove(name);
    }
    command
}

fn spawn(addresses: &[SocketAddr; 3], data: &Path, arguments: &[String]) -> Child {
    let log = File::options().create(true).append(true).open(log_path(data)).expect("our own directory");
    let [address, presence, admin] = addresses.map(|address| address.to_string());
    program()
        .args(["serve", "--listen", &address, "--presence-listen", &presence, "--admin-listen", &admin])
        .args(["--bcrypt-cost", "4", "--data-dir"])
        .arg(data.join("data"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("the program does not start: {error}"))
}

fn log_path(data: &Path) -> PathBuf {
    data.join("server.log")
}

/// Ports that are free now; held together while choosing, so that they differ.
pub fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("a bound socket"))
}
