//! The real program with its own stores, as one process or as a split system. Started by `TestServer`; killed on drop, or by the test and
//! then restarted on the same data.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use testkit::Stores;

use super::{Request, TIMEOUT, split};

/// A running system: one process, or the roles of a split system.
pub struct System {
    /// The address of the gateway.
    pub address: SocketAddr,
    /// The address of the presence service's gRPC.
    pub presence: SocketAddr,
    /// The address of `/livez`, `/readyz` and `/metrics`; in a split system the gateway's.
    pub admin: SocketAddr,
    /// The directory of the data and the log; removed on drop.
    data: TempDir,
    /// The stores of a split system.
    pub stores: Option<Stores>,
    /// The processes; the first is the gateway, or the only process.
    pub processes: Vec<Process>,
}

/// One process of the program.
pub struct Process {
    /// The arguments, the same on every start.
    arguments: Vec<String>,
    /// The address of `/readyz` and `/metrics`.
    admin: SocketAddr,
    child: Child,
}

impl System {
    /// Starts the program on free ports and empty stores and waits until it is ready: as one process or, in the test binary
    /// `split` or with GODZILLA_SPLIT, as a gateway, accounts, two chat nodes and presence.
    pub async fn start(arguments: &[&str]) -> Self {
        Self::start_with_log(None, arguments).await
    }

    /// As [`System::start`], but until the next start standard error goes to `log` instead of the file of [`System::log`].
    pub async fn start_with_log(log: Option<File>, arguments: &[&str]) -> Self {
        if env!("CARGO_CRATE_NAME") == "split" || std::env::var_os("GODZILLA_SPLIT").is_some() {
            return Self::start_split(arguments, Stores::start().await).await;
        }
        Self::start_on(None, log, |data, _| {
            let [address, presence, admin] = free_addresses();
            let data = data.join("data");
            let fixed = [
                ("--listen", address.to_string()),
                ("--presence-listen", presence.to_string()),
                ("--admin-listen", admin.to_string()),
                ("--bcrypt-cost", "4".to_owned()),
                ("--data-dir", data.to_str().expect("a UTF-8 path").to_owned()),
            ];
            let whole = split::command("serve", &fixed, arguments.iter().map(ToString::to_string));
            (address, presence, vec![(whole, admin)])
        })
        .await
    }

    /// Starts the roles on `stores`.
    pub async fn start_split(arguments: &[&str], stores: Stores) -> Self {
        Self::start_on(Some(stores), None, |data, stores| {
            split::commands(data, stores.expect("stores are given"), arguments)
        })
        .await
    }

    /// Starts one process for each set of roles on stores of their own.
    pub async fn start_sets(sets: &[&str]) -> Self {
        Self::start_on(Some(Stores::start().await), None, |data, stores| {
            split::sets(data, stores.expect("stores are given"), sets)
        })
        .await
    }

    /// Starts the processes of `plan`: the addresses of the gateway and of presence, and the arguments and admin address of each process.
    async fn start_on(
        mut stores: Option<Stores>,
        log: Option<File>,
        plan: impl Fn(&Path, Option<&Stores>) -> (SocketAddr, SocketAddr, Vec<(Vec<String>, SocketAddr)>),
    ) -> Self {
        // Another test may take a free port before the program binds it: retry with other ports.
        for _ in 0..5 {
            let data = TempDir::new().expect("a temporary directory");
            let (address, presence, plans) = plan(data.path(), stores.as_ref());
            let start = |(arguments, admin): (Vec<String>, _)| {
                let child = spawn(data.path(), &arguments, log.as_ref());
                Process { arguments, admin, child }
            };
            let processes: Vec<Process> = plans.into_iter().map(start).collect();
            let admin = processes[0].admin;
            let mut system = Self { address, presence, admin, data, stores: stores.take(), processes };
            if system.becomes_ready().await {
                return system;
            }
            let log = system.log();
            let is_taken = log.to_lowercase().contains("in use") || log.contains("name the same port");
            assert!(is_taken, "the server did not become ready:\n{log}");
            stores = system.stores.take();
        }
        panic!("the ports were taken five times in a row");
    }

    /// Kills every process with SIGKILL: no process can write anything before it ends.
    pub fn kill(&mut self) {
        self.processes.iter_mut().for_each(Process::kill);
    }

    /// Restarts the program on the same ports and data.
    pub async fn restart(&mut self) {
        for process in &mut self.processes {
            process.child = spawn(self.data.path(), &process.arguments, None);
        }
        assert!(self.becomes_ready().await, "the server did not restart:\n{}", self.log());
    }

    /// Starts a process again that has exited.
    pub fn start_process(&mut self, index: usize) {
        let process = &mut self.processes[index];
        process.child = spawn(self.data.path(), &process.arguments, None);
    }

    /// Restarts one process and waits until all are ready.
    pub async fn restart_process(&mut self, index: usize) {
        self.start_process(index);
        assert!(self.becomes_ready().await, "a process did not restart:\n{}", self.log());
    }

    /// Starts one more gateway of a split system, waits until it is ready and returns its address.
    pub async fn add_gateway(&mut self) -> SocketAddr {
        let [address, admin] = free_addresses();
        let mut arguments = self.processes[split::GATEWAY].arguments.clone();
        for (flag, value) in [("--listen", address), ("--admin-listen", admin)] {
            let at = arguments.iter().position(|argument| argument == flag).expect("every role has it");
            arguments[at + 1] = value.to_string();
        }
        let child = spawn(self.data.path(), &arguments, None);
        self.processes.push(Process { arguments, admin, child });
        self.wait_until_ready().await;
        address
    }

    /// Starts one more chat node of a split system with this name, waits until it is ready and returns its index.
    pub async fn add_node(&mut self, name: &str) -> usize {
        let [address, admin] = free_addresses();
        let mut arguments = self.processes[split::NODES[0]].arguments.clone();
        let values = [
            ("--listen", address.to_string()),
            ("--admin-listen", admin.to_string()),
            ("--node", name.to_owned()),
        ];
        for (flag, value) in values {
            let at = arguments.iter().position(|argument| argument == flag).expect("every chat node has it");
            arguments[at + 1] = value;
        }
        let child = spawn(self.data.path(), &arguments, None);
        self.processes.push(Process { arguments, admin, child });
        self.wait_until_ready().await;
        self.processes.len() - 1
    }

    /// Waits until every process is ready.
    pub async fn wait_until_ready(&mut self) {
        assert!(self.becomes_ready().await, "a process has ended:\n{}", self.log());
    }

    /// Sends SIGTERM to every process, the gateway first, waits until all have exited and returns the first status.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut statuses = Vec::new();
        for index in 0..self.processes.len() {
            statuses.push(self.stop_process(index).await);
        }
        statuses[0]
    }

    /// Sends SIGTERM to one process and waits until it has exited.
    pub async fn stop_process(&mut self, index: usize) -> ExitStatus {
        self.processes[index].signal("TERM");
        self.wait_for_exit(index).await
    }

    /// Waits until one process has exited.
    pub async fn wait_for_exit(&mut self, index: usize) -> ExitStatus {
        self.exited(index)
            .await
            .unwrap_or_else(|| panic!("still running {TIMEOUT:?} after SIGTERM:\n{}", self.log()))
    }

    /// Makes a part of a process panic. Returns false when the program is not a debug build, because only debug builds have the fault points.
    pub async fn inject_fault(&self, index: usize, part: &str) -> bool {
        let request = Request::new("POST", &fault(part));
        let answer = request.try_send(Ipv4Addr::LOCALHOST, self.processes[index].admin).await;
        // A process may exit before it responds.
        answer.is_none_or(|answer| answer.status == 204)
    }

    /// Whether the part has panicked after the injection, or its process has exited.
    pub async fn has_panicked(&self, index: usize, part: &str) -> bool {
        let asked = Request::get(&fault(part)).try_send(Ipv4Addr::LOCALHOST, self.processes[index].admin);
        asked.await.is_none_or(|answer| answer.body == "false")
    }

    /// Makes a request to the HTTP server of a process panic; checks that the response is 500, that the panic is counted, and that the
    /// next request succeeds as before. Does nothing when the program is not a debug build.
    pub async fn check_panic_responses(&self, index: usize) {
        let process = &self.processes[index];
        let get = async |path: &str, to| Request::get(path).send(Ipv4Addr::LOCALHOST, to).await;
        let count = async || {
            let metrics = get("/metrics", process.admin).await.expect(200).body;
            let line =
                metrics.lines().find_map(|line| line.strip_prefix("godzilla_panics_total{part=\"src\"} "));
            line.and_then(|count| count.parse::<usize>().ok()).unwrap_or_default()
        };
        let (expected, before) = (get("/", process.address()).await.status, count().await);
        if self.inject_fault(index, "http request").await {
            let answer = get("/", process.address()).await;
            assert_eq!((answer.status, answer.header("connection")), (500, Some("close")), "{answer:?}");
            assert_eq!(count().await, before + 1);
            assert_eq!(get("/", process.address()).await.status, expected);
        }
    }

    /// The process id; in a split system the gateway's.
    pub fn pid(&self) -> u32 {
        self.processes[0].child.id()
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// Resident memory of all processes together, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// Peak resident memory in bytes; with several processes the sum of the peaks.
    pub fn peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, key: &str) -> u64 {
        self.processes.iter().map(|process| process.status_bytes(key)).sum()
    }

    /// The sum of a counter over all processes, such as `name{label="value"}`; 0 where it was never incremented.
    pub async fn counter(&self, counter: &str) -> usize {
        let mut sum = 0;
        for process in &self.processes {
            let response = Request::get("/metrics").send(Ipv4Addr::LOCALHOST, process.admin).await;
            let metrics = response.expect(200).body;
            let line = metrics.lines().find_map(|line| line.strip_prefix(counter)?.strip_prefix(' '));
            sum += line.and_then(|count| count.parse::<usize>().ok()).unwrap_or_default();
        }
        sum
    }

    /// The body of `/readyz` of one process.
    pub async fn readiness(&self, process: usize) -> String {
        Request::get("/readyz").send(Ipv4Addr::LOCALHOST, self.processes[process].admin).await.body
    }

    /// The log of all processes, over all restarts.
    pub fn log(&self) -> String {
        fs::read_to_string(log_path(self.data.path())).unwrap_or_default()
    }

    /// Waits until the log contains `text`: a line is written a moment after its event.
    pub async fn wait_for_log(&self, text: &str) {
        let until = Instant::now() + TIMEOUT;
        while !self.log().contains(text) {
            assert!(Instant::now() < until, "{text:?} is not in the log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until every `/readyz` responds with 200; false when a process has exited before.
    async fn becomes_ready(&mut self) -> bool {
        let until = Instant::now() + 2 * TIMEOUT;
        let mut ready = 0;
        while Instant::now() < until {
            if self.processes.iter_mut().any(Process::has_ended) {
                return false;
            }
            let admin = self.processes[ready].admin;
            let is_ready = TcpStream::connect(admin).is_ok()
                && Request::get("/readyz")
                    .try_send(Ipv4Addr::LOCALHOST, admin)
                    .await
                    .is_some_and(|answer| answer.status == 200);
            if is_ready {
                ready += 1;
                if ready == self.processes.len() {
                    return true;
                }
                continue;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not ready after {:?}:\n{}", 2 * TIMEOUT, self.log());
    }

    /// Waits until a process has exited; `None` after the timeout.
    async fn exited(&mut self, index: usize) -> Option<ExitStatus> {
        let until = Instant::now() + TIMEOUT;
        while Instant::now() < until {
            if let Some(status) = self.processes[index].child.try_wait().expect("a child") {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }
}

impl Process {
    /// The address for clients or for other roles.
    pub fn address(&self) -> SocketAddr {
        let flag =
            self.arguments.iter().position(|argument| argument == "--listen").expect("every role has it");
        self.arguments[flag + 1].parse().expect("an address")
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child");
        self.child.wait().expect("a child");
    }

    /// Sends it a signal, by name.
    pub fn signal(&self, name: &str) {
        let arguments = [format!("-{name}"), self.child.id().to_string()];
        assert!(Command::new("kill").args(arguments).status().expect("kill is installed").success());
    }

    fn status_bytes(&self, key: &str) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a running process");
        let line = status.lines().find(|line| line.starts_with(key)).expect("a line of Linux");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("a number of kB") * 1024
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }
}

impl Drop for System {
    #[expect(clippy::print_stderr, reason = "the test harness prints it with a failure")]
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let start = log.lines().count().saturating_sub(40);
            let tail: Vec<&str> = log.lines().skip(start).collect();
            eprintln!("the last lines of the server's log:\n{}", tail.join("\n"));
        }
    }
}

/// A command of the program under test: the binary in `GODZILLA_BIN`, else the binary built by cargo. Variables `GODZILLA_*`
/// are removed from its environment: only its arguments configure it.
pub fn program() -> Command {
    let given = std::env::var_os("GODZILLA_BIN").filter(|given| !given.is_empty());
    let mut command = Command::new(given.unwrap_or_else(|| env!("CARGO_BIN_EXE_godzilla").into()));
    let settings = std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"GODZILLA_"));
    for (name, _) in settings {
        command.env_remove(name);
    }
    command
}

fn spawn(data: &Path, arguments: &[String], stderr: Option<&File>) -> Child {
    let log = File::options().create(true).append(true).open(log_path(data)).expect("a directory");
    let stderr = stderr.unwrap_or(&log).try_clone().expect("a file");
    program()
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(stderr)
        .spawn()
        .unwrap_or_else(|error| panic!("the program does not start: {error}"))
}

fn fault(part: &str) -> String {
    format!("/debug/fault/{}", part.replace(' ', "%20"))
}

fn log_path(data: &Path) -> PathBuf {
    data.join("server.log")
}

/// Free ports; all are bound at the same time, so that they differ.
pub fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("a bound socket"))
}
