//! Programs that others wrote, against the real server: the official `socket.io-client` on Node and in a browser,
//! python-socketio, rust_socketio, HTTPie with its session files, Google's gRPC for Python. They are found where
//! `scripts/test` put them, or on the PATH.

use std::{
    ffi::{OsStr, OsString},
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{TestServer, TestUser};

/// How long a foreign program may take: it starts an interpreter and compiles its packages on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn official_clients_chat() {
    with_official_clients("chat.mjs").await;
}

#[tokio::test]
async fn official_clients_get_acks_and_time_out_without_harm() {
    with_official_clients("acks.mjs").await;
}

#[tokio::test]
async fn official_clients_come_back_after_a_drop_and_not_after_being_put_out() {
    with_official_clients("reconnect.mjs").await;
}

#[tokio::test]
async fn official_clients_are_told_why_they_may_not_connect() {
    with_official_clients("refusal.mjs").await;
}

#[tokio::test]
async fn official_clients_come_in_every_way_and_come_back() {
    with_official_clients("transports.mjs").await;
}

#[tokio::test]
async fn official_clients_reconnect_after_a_login_and_stop_after_a_logout() {
    // Seven tests log in within a second.
    with_flagged_clients("sessions.mjs", &["--login-burst", "100"]).await;
}

#[tokio::test]
async fn official_clients_of_pages_elsewhere_show_a_token() {
    with_official_clients("tokens.mjs").await;
}

#[tokio::test]
async fn official_clients_without_cookie_or_origin_show_a_token() {
    with_flagged_clients("native.mjs", &["--allow-token-clients"]).await;
}

#[tokio::test]
async fn a_browser_chats_from_a_page_of_another_origin_that_is_allowed_and_from_no_other() {
    in_a_browser("browser.mjs").await;
}

#[tokio::test]
async fn a_browser_chats_with_a_token_from_another_site_and_reconnects_after_a_login_in_another_tab() {
    in_a_browser("browser_sessions.mjs").await;
}

#[tokio::test]
async fn python_socketio_chats_in_every_way() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let url = format!("http://{}", server.system.address);
    python("python_chat.py", &[&url, alice.token(), bob.token()]).await;
}

#[tokio::test]
async fn rust_socketio_chats_in_every_way() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/interop-rust/debug/rust-client");
    let mut command = Command::new(given("INTEROP_RUST_CLIENT").unwrap_or_else(|| built.into_os_string()));
    command.arg(format!("http://{}", server.system.address)).args([alice.token(), bob.token()]);
    finishes("rust-client", command).await;
}

#[tokio::test]
async fn httpie_registers_logs_in_and_reads_with_its_session_file() {
    let server = TestServer::start().await;
    let alice = server.unregistered_user("alice");
    let home = TempDir::new().expect("a temporary directory");
    let http = Httpie { home, user: alice };

    let registered =
        http.runs(&["POST", "/user/register", "username=alice", "password=alice keeps this"]).await;
    assert_eq!(registered["status"], "success");
    let login = ["--session=alice", "POST", "/user/login", "username=alice", "password=alice keeps this"];
    http.runs(&login).await;
    assert_eq!(http.runs(&["--session=alice", "GET", "/user/me"]).await, json!({"username": "alice"}));
    http.runs(&["--session=alice", "POST", "/rooms", "name=den", "private:=true"]).await;
    let rooms = http.runs(&["--session=alice", "GET", "/rooms"]).await;
    assert!(rooms.to_string().contains("den"), "{rooms}");

    let posted = http.runs(&["--session=alice", "POST", "/rooms/den/messages", "text=from HTTPie"]).await;
    let page = http.runs(&["--session=alice", "GET", "/rooms/den/messages", "limit==10"]).await;
    assert_eq!((&page["messages"][0]["seq"], &page["messages"][0]["id"]), (&posted["seq"], &posted["id"]));
    assert_eq!(page["messages"][0]["data"]["text"], "from HTTPie");

    http.runs(&["--session=alice", "POST", "/user/logout"]).await;
    let me = http.command(&["--session=alice", "GET", "/user/me"]).output().await.expect("HTTPie ran before");
    assert_eq!(me.status.code(), Some(4), "HTTPie ends with 4 on a 4xx answer");
}

/// HTTPie with a configuration directory of its own.
struct Httpie {
    home: TempDir,
    user: TestUser,
}

impl Httpie {
    /// Runs one request that must succeed, and returns the JSON answer (null when empty).
    async fn runs(&self, args: &[&str]) -> Value {
        let output = finishes("http", self.command(args)).await;
        serde_json::from_str(&output).unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> Command {
        let (options, request) = args.split_at(usize::from(args[0].starts_with("--")));
        let mut command = Command::new(tool("INTEROP_HTTPIE", "bin/http", "http"));
        command.env("HTTPIE_CONFIG_DIR", self.source.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        command.args(["--check-status", "--ignore-stdin", "--body", "--timeout=30"]).args(options);
        command.arg(request[0]).arg(format!("http://{}{}", self.user.server, request[1])).args(&request[2..]);
        command
    }
}

/// Runs a script of `tests/interop` for two people who are logged in; it gets the address, their tokens, the server's
/// process id and the origin of pages that are allowed.
async fn with_official_clients(script: &str) {
    with_flagged_clients(script, &[]).await;
}

/// The same, with more flags of the server.
async fn with_flagged_clients(script: &str, flags: &[&str]) {
    let page = "http://page.example";
    let server = TestServer::start_with(&[&["--allow-origin", page], flags].concat()).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let mut command = node(script);
    command.arg(format!("http://{}", server.system.address)).args([alice.token(), bob.token()]);
    command.args([&server.system.pid().to_string(), page, &alice.password, &bob.password]);
    finishes(script, command).await;
}

/// Runs a script of `tests/interop` that starts a browser. The pages' origin must be known before the server starts, so its port
/// is one that was free a moment ago. Under its second name it is another site than the server.
async fn in_a_browser(script: &str) {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port").local_addr();
    let port = port.expect("a bound socket").port().to_string();
    let allowed = format!("http://127.0.0.1:{port},http://localhost:{port}");
    let server = TestServer::start_with(&["--allow-origin", &allowed]).await;
    let alice = server.unregistered_user("alice");
    alice.register().await;
    let mut command = node(script);
    command.arg(format!("http://{}", server.system.address)).arg(port);
    command.arg(given("INTEROP_CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into())).arg(&alice.password);
    finishes(script, command).await;
}

/// A script of `tests/interop` on Node.
pub fn node(script: &str) -> Command {
    let mut command = Command::new(given("INTEROP_NODE").unwrap_or_else(|| "node".into()));
    command.arg(folder().join(script));
    command
}

/// Runs a Python script of `tests/interop`.
pub async fn python(script: &str, args: &[&str]) {
    let mut command = Command::new(tool("INTEROP_PYTHON", "bin/python", "python3"));
    command.arg(folder().join(script)).args(args);
    finishes(script, command).await;
}

/// Runs a program to its end; it must succeed. Returns what it printed, and shows everything when it fails.
pub async fn finishes(name: &str, mut command: Command) -> String {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(TIMEOUT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            panic!("{name} did not start ({error}): scripts/test installs what this test needs")
        }
        Err(_) => panic!("{name} did not end within {TIMEOUT:?}"),
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success(),
        "{name}: {} (if a package is missing: scripts/test installs what this test needs)\n{out}\n{err}",
        output.status
    );
    out.into_owned()
}

/// A tool: as given in the environment, else from the virtual environment of `scripts/test`, else from the PATH.
fn tool(variable: &str, installed: &str, otherwise: &str) -> OsString {
    let installed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/interop").join(installed);
    given(variable)
        .or_else(|| installed.exists().then(|| installed.into_os_string()))
        .unwrap_or_else(|| otherwise.into())
}

pub fn given(variable: impl AsRef<OsStr>) -> Option<OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop")
}
