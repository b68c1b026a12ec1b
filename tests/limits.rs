//! Limits of the system on a process: a limit that is too low is reported at the start with its value, the required value and the remedy,
//! and by the doctor. When threads or random bytes run out later, requests fail and `/readyz` reports the cause.

mod group;
mod library_threads;
mod memory;
mod stack;
mod threads;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::{
    config::text,
    support::{Request, TIMEOUT, TestServer, free_addresses, program},
};

/// A user id without an entry in the user database. Each test process has its own, because the system counts threads by user.
fn uid() -> u32 {
    1_000_000 + std::process::id()
}

/// A command that runs the program under `limit`, arguments of prlimit; with `drops`, as the user of [`uid`].
fn limited(limit: &str, drops: bool) -> Command {
    let program = program();
    let mut command = Command::new("sh");
    let drop = match drops {
        true => format!("setpriv --reuid={0} --regid={0} --clear-groups ", uid()),
        false => String::new(),
    };
    command.args(["-c", &format!(r#"exec {drop}prlimit {limit} "$@""#), "sh"]).arg(program.get_program());
    for (name, _) in program.get_envs() {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Whether the program can run as the user of [`uid`]: the test is root, and that user can execute the program.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root() && {
        let can_execute = format!("setpriv --reuid={0} --regid={0} --clear-groups test -x \"$0\"", uid());
        let shell = Command::new("sh").args(["-c", &can_execute]).arg(program().get_program()).status();
        shell.is_ok_and(|status| status.success())
    }
}

/// A directory; it belongs to the user of [`uid`] where the test is root.
fn folder() -> TempDir {
    let folder = TempDir::new().expect("a temporary directory");
    if is_root() {
        chown(folder.path(), Some(uid()), Some(uid())).expect("root changes owners");
    }
    folder
}

const ADDRESSES: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];

fn role<'a>(command: &'a mut Command, role: &str, data: &Path) -> &'a mut Command {
    command.args([role]).args(ADDRESSES);
    if role == "serve" {
        command.args(["--presence-listen", "127.0.0.1:0", "--data-dir"]).arg(data.join("data"));
    }
    command
}

/// Runs a command that must exit by itself.
fn run_to_end(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shell");
    let until = Instant::now() + TIMEOUT;
    while child.try_wait().expect("a child process").is_none() {
        if Instant::now() >= until {
            child.kill().expect("a child process");
            break;
        }
        std::thread::yield_now();
    }
    child.wait_with_output().expect("a child process")
}

#[test]
fn a_limit_that_is_too_low_is_reported_at_the_start_and_by_the_doctor() {
    // The limit, whether it limits only an unprivileged user, the roles, the words of the report.
    let all = &["serve", "presence"][..];
    let table: [(&str, bool, &[&str], &[&str]); 9] = [
        ("--nofile=20", false, all, &["open files is 20", "at least", "ulimit -n", "LimitNOFILE="]),
        ("--nofile=40", false, all, &["open files is 40", "at least", "ulimit -n", "--ulimit"]),
        ("--nofile=150", false, all, &["open files is 150", "at least", "ulimit -n"]),
        ("--nproc=4", true, all, &["can be started", "of the user is 4", "LimitNPROC="]),
        (
            "--nproc=16",
            true,
            all,
            &["threads can be started", "are needed", "of the user is 16", "ulimit -u"],
        ),
        ("--as=307200000", false, all, &["address space is limited to 292 MiB", "at least", "ulimit -v"]),
        ("--data=104857600", false, all, &["private memory is limited to 100 MiB", "at least", "ulimit -d"]),
        ("--fsize=0", false, &["serve"], &["files may have 0 KiB", "needs at least", "ulimit -f"]),
        ("--fsize=102400", false, &["serve"], &["files may have", "needs at least", "LimitFSIZE="]),
    ];
    for (limit, unprivileged, roles, words) in table {
        if unprivileged && !is_root() {
            continue;
        }
        for name in roles {
            let folder = folder();
            for doctor in [false, true] {
                let mut command = limited(limit, unprivileged);
                if doctor {
                    command.arg("doctor");
                }
                let output = run_to_end(role(&mut command, name, folder.path()));
                let printed = text(&output);
                let what = format!("{limit} {name}, doctor {doctor}: {:?} {printed}", output.status);
                assert_eq!(output.status.code(), Some(1), "{what}");
                let fits = |line: &str| words.iter().all(|word| line.contains(word));
                assert!(printed.lines().any(fits), "{words:?} {what}");
                assert!(!printed.contains("panicked"), "{what}");
            }
        }
    }
}

#[test]
fn a_limit_below_one_thread_is_reported_with_its_cause() {
    if !is_root() {
        return;
    }
    let output = run_to_end(role(&mut limited("--nproc=1", true), "serve", folder().path()));
    let printed = text(&output);
    assert!(output.status.code() == Some(1) && printed.contains("no thread can be started"), "{printed}");
    assert!(printed.contains("ulimit -u") && printed.contains("LimitNPROC="), "{printed}");
}

/// A server that runs as the user of [`uid`]; killed on drop.
struct Started {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    _folder: TempDir,
}

impl Started {
    async fn start() -> Self {
        let [address, admin] = free_addresses();
        let folder = folder();
        let mut command = limited("--core=0", true);
        command.args(["serve", "--listen", &address.to_string(), "--admin-listen", &admin.to_string()]);
        command.args(["--presence-listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data"));
        let child =
            command.env_remove("HOME").current_dir("/").stdout(Stdio::null()).spawn().expect("a shell");
        let mut this = Self { child, address, admin, _folder: folder };
        this.wait_for_readiness(200, "").await;
        this
    }

    /// Waits until `/readyz` has this status and these words.
    async fn wait_for_readiness(&mut self, status: u16, words: &str) {
        let until = Instant::now() + TIMEOUT;
        loop {
            assert_eq!(self.child.try_wait().expect("a child process"), None, "the server exited");
            if TcpStream::connect(self.admin).is_ok() {
                let answer = Request::get("/readyz").send(Ipv4Addr::LOCALHOST, self.admin).await;
                if answer.status == status && answer.body.contains(words) {
                    return;
                }
                assert!(Instant::now() < until, "{} {}", answer.status, answer.body);
            }
            assert!(Instant::now() < until, "the server does not listen");
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn limit_threads(&self, most: &str) {
        let user = [format!("--reuid={}", uid()), format!("--regid={}", uid()), "--clear-groups".to_owned()];
        let limit = [
            "prlimit".to_owned(),
            format!("--nproc={most}:"),
            "--pid".to_owned(),
            self.child.id().to_string(),
        ];
        assert!(Command::new("setpriv").args(user).args(limit).status().expect("setpriv").success());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn when_threads_run_out_readyz_reports_it_and_no_request_hangs() {
    if !is_root() {
        return;
    }
    let mut started = Started::start().await;
    started.limit_threads("1");
    started.wait_for_readiness(503, "no thread can be started").await;
    for (method, path, status) in [("GET", "/healthz", 200), ("GET", "/rooms", 401), ("GET", "/user/me", 401)]
    {
        let response = Request::new(method, path).send(Ipv4Addr::LOCALHOST, started.address);
        let answer = timeout(TIMEOUT, response).await.unwrap_or_else(|_| panic!("{path} hangs"));
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
    started.limit_threads("1000");
    started.wait_for_readiness(200, "").await;
}

async fn wait_for_readiness(server: &TestServer, status: u16, words: &str) {
    let until = Instant::now() + TIMEOUT;
    loop {
        let answer = Request::get("/readyz").send(Ipv4Addr::LOCALHOST, server.system.admin).await;
        if answer.status == status && answer.body.contains(words) {
            return;
        }
        assert!(Instant::now() < until, "{} {}", answer.status, answer.body);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn without_random_bytes_requests_are_refused_without_a_panic_and_readyz_reports_it() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = (server.connected_user("alice").await, server.connected_user("bob").await);
    let acked = alice.send_message("before").await["id"].clone();
    let new_user = server.unregistered_user("carol");
    let no_entropy = server.system.block_random_bytes(0).await;
    for round in 0..3 {
        let refused = alice.emit_with_ack("message", &json!({"text": format!("lost {round}")})).await;
        assert_eq!((&refused["ok"], &refused["code"]), (&json!(false), &json!("unavailable")), "{refused}");
    }
    let message = Request::post("/rooms/lobby/messages", &json!({"text": "lost"})).cookie(alice.user.token());
    let requests = [
        ("a message", message),
        ("a registration", Request::post("/user/register", &new_user.credentials())),
        ("a login", Request::post("/user/login", &alice.user.credentials())),
        ("a session", Request::get("/socket.io/?EIO=4&transport=polling").cookie(alice.user.token())),
    ];
    for (what, request) in requests {
        let answer = request.send(new_user.source, new_user.server).await;
        assert_eq!(answer.status, 503, "{what}: {}", answer.body);
    }
    let handshake = alice.user.try_connect(alice.user.handshake()).await;
    assert!(handshake.is_err(), "the WebSocket was opened");
    // Operations without random bytes work.
    let stored = bob.user.read_history("lobby").await;
    assert_eq!(stored.len(), 1, "{stored:?}");
    assert_eq!(stored[0]["id"], acked);
    assert_eq!(alice.emit_with_ack("typing", &json!({"isTyping": true})).await["ok"], true);
    drop(no_entropy);
    wait_for_readiness(&server, 200, "").await;
    let after = alice.send_message("after").await;
    assert_eq!(after["seq"], 2, "{after}");
    bob.receive_message("after").await;
    server.user("late").await;
    for counter in ["godzilla_chat_entropy_failures_total", "godzilla_accounts_entropy_failures_total"] {
        assert!(server.system.counter(counter).await > 0, "{counter}");
    }
    assert!(!server.system.log().contains("panicked"), "{}", server.system.log());
}

#[test]
fn an_unusable_secret_file_is_refused_with_the_cause() {
    let folder = folder();
    let key = "WXlm7c2Ue0Rr9vQkq4Zt1Jb8sNf3hPyA6dGoTiLx5Ew=";
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, content: &str, mode: u32| {
        std::fs::write(at(name), content).expect("a file");
        std::fs::set_permissions(at(name), PermissionsExt::from_mode(mode)).expect("a mode");
    };
    std::fs::create_dir(at("..2026_01")).expect("a directory");
    write("..2026_01/key", &format!("{key}\r\n"), 0o440);
    std::os::unix::fs::symlink("..2026_01", at("..data")).expect("a link");
    std::os::unix::fs::symlink("..data/key", at("mounted")).expect("a link");
    std::os::unix::fs::symlink("nowhere", at("dangling")).expect("a link");
    std::fs::create_dir(at("directory")).expect("a directory");
    write("empty", "", 0o400);
    write("blank", "\r\n \n", 0o400);
    write("lines", &format!("\n{key}\n\n"), 0o400);
    write("open", key, 0o644);
    write("docker", key, 0o444);
    write("others", key, 0o600);
    // The file, and the words of the refusal; an accepted file is followed by the refusal of `--redis-url`.
    let unreadable = format!("user {0} of group {0} cannot read it", uid());
    let mut table = vec![
        ("mounted", "--redis-url"),
        ("lines", "--redis-url"),
        ("dangling", "does not exist"),
        ("absent", "does not exist"),
        ("directory", "is a directory; name a file in it"),
        ("empty", "it is empty"),
        ("blank", "it is empty"),
        ("open", "defaultMode: 0440"),
        ("docker", "mode: 0440 (Docker)"),
    ];
    if is_root() {
        // Owned by root, so that the user of `uid` cannot read it.
        table.push(("others", &*unreadable));
    }
    for (name, words) in table {
        let mut command = limited("--core=0", is_root() && name == "others");
        command.args(["accounts"]).args(ADDRESSES).args([
            "--redis-url",
            "none",
            "--mongo-uri",
            "mongodb://127.0.0.1:1/",
        ]);
        let output = command.arg("--secret-file").arg(at(name)).output().expect("a shell");
        let printed = text(&output);
        assert!(output.status.code() == Some(2) && printed.contains(words), "{name}: {printed}");
    }
}
