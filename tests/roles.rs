//! Each role as a process of its own.

mod chat;
mod drain_delay;
mod draining;
mod together;

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use proto::{
    Identity, Timestamp,
    signature::{HEADER, Key, Target},
};
use serde_json::json;
use tempfile::{NamedTempFile, TempDir};
use testkit::{Mongo, Redis};

use crate::{
    config::{run, text},
    support::{Request, Response, TIMEOUT, free_addresses, program},
};

/// The content of the key file.
const KEY: &str = "a key for tests that is long enough";

/// A running role; killed on drop.
struct Role {
    address: SocketAddr,
    admin: SocketAddr,
    child: Child,
    /// Standard error. Printed when the test fails.
    log: NamedTempFile,
}

impl Role {
    /// Starts the role and waits until `godzilla healthcheck` succeeds.
    fn start(name: &str, arguments: &[&str]) -> Self {
        let mut role = Self::start_unready(name, arguments);
        role.wait_until_ready();
        role
    }

    /// Starts the role without waiting until it is ready.
    fn start_unready(name: &str, arguments: &[&str]) -> Self {
        Self::spawn(program(), name, arguments)
    }

    /// Like [`Role::start_unready`], with a command that runs the program with further arguments.
    fn spawn(mut command: Command, name: &str, arguments: &[&str]) -> Self {
        let [address, admin] = free_addresses();
        command.args([name, "--listen", &address.to_string(), "--admin-listen", &admin.to_string()]);
        command.args(arguments);
        let has_delay = arguments.contains(&"--drain-delay");
        if ["gateway", "accounts"].contains(&name) && !has_delay {
            command.args(["--drain-delay", "0s"]);
        }
        let log = NamedTempFile::new().expect("a temporary file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.reopen().expect("a file"));
        let child = command.spawn().expect("the program starts");
        Self { address, admin, child, log }
    }

    fn wait_until_ready(&mut self) {
        let until = Instant::now() + TIMEOUT;
        while !self.is_ready() {
            assert!(self.child.try_wait().expect("a child process").is_none(), "the role exited");
            assert!(Instant::now() < until, "not ready after {TIMEOUT:?}");
        }
    }

    /// Waits until both addresses accept connections.
    async fn wait_until_listening(&mut self) {
        self.wait_for_addresses(&[self.address, self.admin]).await;
    }

    /// Waits until the admin address accepts connections.
    async fn wait_for_admin(&mut self) {
        self.wait_for_addresses(&[self.admin]).await;
    }

    async fn wait_for_addresses(&mut self, addresses: &[SocketAddr]) {
        let until = Instant::now() + TIMEOUT;
        for address in addresses {
            while TcpStream::connect(address).is_err() {
                assert!(self.child.try_wait().expect("a child process").is_none(), "the role exited");
                assert!(Instant::now() < until, "nothing listens on {address} after {TIMEOUT:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// The status and body of a response of the admin address.
    async fn admin(&self, path: &str) -> (u16, String) {
        let answer = Request::get(path).send(Ipv4Addr::LOCALHOST, self.admin).await;
        (answer.status, answer.body)
    }

    async fn request(&self, request: Request) -> Response {
        request.send(Ipv4Addr::LOCALHOST, self.address).await
    }

    fn is_ready(&self) -> bool {
        run(&["healthcheck", "--admin-listen", &self.admin.to_string()], &[]).status.success()
    }

    /// Sends SIGTERM and returns the exit status.
    fn stop(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill is installed").success());
        let until = Instant::now() + TIMEOUT;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("a child process") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("still running {TIMEOUT:?} after SIGTERM");
    }

    /// Stops the role, whose drain must complete within its deadline.
    fn stop_in_time(&mut self) {
        assert_eq!(self.stop(), Some(0));
        let log = std::fs::read_to_string(self.log.path()).expect("a log");
        assert!(log.contains("stopped") && !log.contains("drain did not finish in time"), "{log}");
    }
}

impl Drop for Role {
    #[expect(clippy::print_stderr, reason = "the test harness prints it with a failure")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.log.path()).unwrap_or_default());
        }
    }
}

/// A file with [`KEY`] that only its owner can read.
pub fn key_file() -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    writeln!(file, "{KEY}").expect("a writable file");
    file
}

/// The gateway's signature of `GET target` for `user`.
fn signed(key: &str, user: &str, target: &str) -> String {
    let identity = Identity { username: user.parse().expect("a good name"), session: "0a".repeat(32) };
    let key = Key::new(key.as_bytes()).expect("a long key");
    key.sign(Some(&identity), Target { method: "GET", path: target }, Timestamp::now())
}

#[tokio::test]
async fn a_redis_of_another_database_ends_the_role() {
    let (mongo, redis, key) = (Mongo::start().await, Redis::start(), key_file());
    let (url, key) = (redis.url(), key.path().to_string_lossy().into_owned());
    let (one, other) = (mongo.uri(), mongo.uri().replacen("/godzilla?", "/other?", 1));
    let arguments =
        |uri| ["--mongo-uri", uri, "--redis-url", &*url, "--bcrypt-cost", "4", "--secret-file", &*key];
    let _first = Role::start("accounts", &arguments(&one));
    let free = ["accounts", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let refused = run(&[&free[..], &arguments(&other)].concat(), &[]);
    let printed = text(&refused);
    assert!(!refused.status.success() && printed.contains("--deployment"), "{printed}");
    let _second = Role::start("accounts", &[&arguments(&other)[..], &["--deployment", "other"]].concat());
}

#[tokio::test]
async fn accounts_alone_accepts_only_the_gateways_signature() {
    let key = key_file();
    // The identity of a request does not need the stores.
    let stores = ["--mongo-uri", "mongodb://127.0.0.1:1/", "--redis-url", "redis://127.0.0.1:1"];
    let secret = ["--bcrypt-cost", "4", "--secret-file", &key.path().to_string_lossy()];
    let mut accounts = Role::start_unready("accounts", &[&stores[..], &secret[..]].concat());
    accounts.wait_until_listening().await;
    let me = || Request::get("/user/me");
    let good = signed(KEY, "alice", "/user/me");
    let answer = accounts.request(me().header(HEADER, &good)).await.expect(200);
    assert_eq!(answer.json(), json!({ "username": "alice" }));
    let forged = [
        me(),
        me().header("X-Authenticated-User", "alice"),
        me().header("X_Authenticated_Identity", &good),
        me().header(HEADER, "alice"),
        me().header(HEADER, &signed(&KEY.to_uppercase(), "alice", "/user/me")),
        me().header(HEADER, &signed(KEY, "alice", "/rooms")),
        me().header(HEADER, &good.replacen("alice", "bob", 1)),
        me().header(HEADER, &good).header(HEADER, &good),
        Request::get("/user/me?x").header(HEADER, &good),
    ];
    for request in forged {
        let shown = format!("{request:?}");
        assert_eq!(accounts.request(request).await.status, 401, "{shown}");
    }
}

#[test]
fn accounts_alone_reports_missing_settings_and_prints_no_secret() {
    let (key, directory) = (key_file(), TempDir::new().expect("a temporary directory"));
    let key = key.path().to_string_lossy();
    let short = directory.path().join("short");
    std::fs::write(&short, "hunter2").expect("a writable directory");
    let short = short.to_string_lossy();
    let (mongo, redis) = ("mongodb://user:hunter2@localhost/", "redis://:hunter2@localhost");
    let in_file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).expect("a writable directory");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a file");
        path.to_string_lossy().into_owned()
    };
    let bad = in_file("bad", "hunter2");
    let given = ["--mongo-uri", mongo, "--redis-url", redis];
    let lacking: [(&[&str], &str); 6] = [
        (
            &["--mongo-uri", mongo, "--redis-url-file", &bad, "--secret-file", &key],
            "--redis-url-file (GODZILLA_REDIS_URL_FILE) is refused",
        ),
        (
            &[&given[..], &["--secret-file", "/nowhere"]].concat(),
            "--secret-file (GODZILLA_SECRET_FILE) is refused",
        ),
        (&["--redis-url", redis, "--secret-file", &key], "--mongo-uri"),
        (&["--mongo-uri", mongo, "--secret-file", &key], "--redis-url"),
        (&given, "--secret-file"),
        (&[&given[..], &["--secret-file", &short]].concat(), "--secret-file"),
    ];
    for (arguments, flag) in lacking {
        let free = ["accounts", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let output = run(&[&free[..], arguments].concat(), &[]);
        let printed = text(&output);
        assert!(output.status.code() == Some(2) && printed.contains(flag), "{arguments:?}: {printed}");
        assert!(!printed.contains("hunter2"), "{arguments:?}: {printed}");
    }
}
