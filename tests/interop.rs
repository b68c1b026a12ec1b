//! Clients of other projects against the real server: the official `socket.io-client` on Node and in a browser, python-socketio,
//! HTTPie with its session files, Google's gRPC for Python, schemathesis with the OpenAPI document. They are where `scripts/test` installed
//! them, or on the PATH.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::Stdio,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{
    TestServer, TestUser,
    programs::{env_path, folder, node, python, run_python, run_to_end, tool},
};

#[tokio::test]
async fn official_clients_exchange_messages() {
    run_official_clients("chat.mjs").await;
}

#[tokio::test]
async fn official_clients_receive_acks_and_tolerate_ack_timeouts() {
    run_official_clients("acks.mjs").await;
}

#[tokio::test]
async fn official_clients_reconnect_after_a_drop_and_not_after_a_disconnect_by_the_server() {
    run_official_clients("reconnect.mjs").await;
}

#[tokio::test]
async fn official_clients_receive_the_reason_of_a_refused_connection() {
    run_official_clients("refusal.mjs").await;
}

#[tokio::test]
async fn official_clients_beyond_the_limit_of_sockets_connect_when_one_has_ended() {
    run_official_clients_with("too_many_sockets.mjs", &["--sockets-per-user", "2"]).await;
}

#[tokio::test]
async fn official_clients_connect_and_reconnect_over_every_transport() {
    run_official_clients("transports.mjs").await;
}

#[tokio::test]
async fn official_clients_reconnect_after_a_login_and_stop_after_a_logout() {
    // Seven tests log in within a second.
    run_official_clients_with("sessions.mjs", &["--login-burst", "100"]).await;
}

#[tokio::test]
async fn official_clients_of_other_origins_authenticate_with_a_token() {
    run_official_clients("tokens.mjs").await;
}

#[tokio::test]
async fn official_clients_without_cookie_or_origin_authenticate_with_a_token() {
    run_official_clients_with("native.mjs", &["--allow-token-clients"]).await;
}

#[tokio::test]
async fn a_browser_chats_from_an_allowed_origin_and_from_no_other() {
    run_browser("browser.mjs").await;
}

#[tokio::test]
async fn a_browser_chats_with_a_token_from_another_site_and_reconnects_after_a_login_in_another_tab() {
    run_browser("browser_sessions.mjs").await;
}

#[tokio::test]
async fn python_socketio_exchanges_messages_over_every_transport() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let url = format!("http://{}", server.system.address);
    run_python("python_chat.py", &[&url, alice.token(), bob.token()]).await;
}

/// Generated requests to every operation of the document. The rate limits are high, so that the requests reach the handlers.
#[tokio::test]
async fn schemathesis_finds_no_difference_between_the_server_and_its_openapi_document() {
    let limits = ["--login-rate", "--login-burst", "--message-rate", "--message-burst", "--rooms-per-user"];
    let flags: Vec<&str> = limits.iter().flat_map(|flag| [*flag, "10000"]).collect();
    let server = TestServer::start_with(&flags).await;
    // The user of the document's example of a login.
    let mut alice = server.unregistered_user("alice");
    alice.password = "correct horse".to_owned();
    alice.register().await;
    let (user, other_session) = (server.user("carol").await, server.user_on_another_device("carol").await);
    let directory = TempDir::new().expect("a temporary directory");
    let mut command = python();
    command.args(["-m", "schemathesis.cli", "--config-file"]).arg(folder().join("schemathesis.toml"));
    // A fixed seed, because a random one could fail unrelated changes. The fuzzing ends with the time.
    command.args(["run", "--no-color", "--seed", "1", "--continue-on-failure"]);
    command.args(["--max-examples", "10", "--max-time", "45", "--suppress-health-check", "too_slow"]);
    // The file, because schemathesis does not test the path of a document that it has fetched.
    command
        .arg("--url")
        .arg(format!("http://{}", server.system.address))
        .arg(folder().join("../../docs/openapi.yaml"));
    command.env("GODZILLA_TOKEN", user.token()).env("GODZILLA_LOGOUT_TOKEN", other_session.token());
    command.current_dir(&directory);
    let report = run_to_end("schemathesis", command).await;
    let (_, tested) = report.split_once("Tested: ").expect("a summary");
    let operations = include_str!("../docs/openapi.yaml").matches("\n      operationId: ").count();
    assert_eq!(tested.lines().next(), Some(operations.to_string().as_str()), "{report}");
}

#[tokio::test]
async fn events_and_acks_match_the_asyncapi_document() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let url = format!("http://{}", server.system.address);
    run_python("asyncapi.py", &[&url, alice.token(), bob.token()]).await;
}

#[tokio::test]
async fn the_typescript_types_are_current_and_compile_in_a_client() {
    let mut generate = python();
    generate.arg(folder().join("../../clients/types/generate.py")).arg("--check");
    run_to_end("generate.py", generate).await;
    let mut compile = node("node_modules/typescript/bin/tsc");
    compile.arg("--project").arg(folder());
    run_to_end("tsc", compile).await;
}

#[tokio::test]
async fn httpie_registers_logs_in_and_reads_with_its_session_file() {
    let server = TestServer::start().await;
    let alice = server.unregistered_user("alice");
    let config = TempDir::new().expect("a temporary directory");
    let http = Httpie { config, user: alice };

    let registered =
        http.run(&["POST", "/user/register", "username=alice", "password=the password of alice"]).await;
    assert_eq!(registered["status"], "success");
    let login =
        ["--session=alice", "POST", "/user/login", "username=alice", "password=the password of alice"];
    http.run(&login).await;
    assert_eq!(http.run(&["--session=alice", "GET", "/user/me"]).await, json!({"username": "alice"}));
    http.run(&["--session=alice", "POST", "/rooms", "name=den", "private:=true"]).await;
    let rooms = http.run(&["--session=alice", "GET", "/rooms"]).await;
    assert!(rooms.to_string().contains("den"), "{rooms}");

    let posted = http.run(&["--session=alice", "POST", "/rooms/den/messages", "text=from HTTPie"]).await;
    let page = http.run(&["--session=alice", "GET", "/rooms/den/messages", "limit==10"]).await;
    assert_eq!((&page["messages"][0]["seq"], &page["messages"][0]["id"]), (&posted["seq"], &posted["id"]));
    assert_eq!(page["messages"][0]["data"]["text"], "from HTTPie");

    http.run(&["--session=alice", "POST", "/user/logout"]).await;
    let me =
        http.command(&["--session=alice", "GET", "/user/me"]).output().await.expect("HTTPie is installed");
    assert_eq!(me.status.code(), Some(4), "HTTPie exits with 4 on a 4xx response");
}

/// HTTPie with its own configuration directory.
struct Httpie {
    config: TempDir,
    user: TestUser,
}

impl Httpie {
    /// Runs one request that must succeed, and returns the JSON of the response (null when empty).
    async fn run(&self, args: &[&str]) -> Value {
        let output = run_to_end("http", self.command(args)).await;
        serde_json::from_str(&output).unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> Command {
        let (options, request) = args.split_at(usize::from(args[0].starts_with("--")));
        let mut command = Command::new(tool("INTEROP_HTTPIE", "bin/http", "http"));
        command.env("HTTPIE_CONFIG_DIR", self.config.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        command.args(["--check-status", "--ignore-stdin", "--body", "--timeout=30"]).args(options);
        command.arg(request[0]).arg(format!("http://{}{}", self.user.server, request[1])).args(&request[2..]);
        command
    }
}

/// Runs a script of `tests/interop` for two logged-in users. Its arguments: the address, the users' tokens, the server's process id, the
/// allowed origin, the users' passwords.
async fn run_official_clients(script: &str) {
    run_official_clients_with(script, &[]).await;
}

/// As [`run_official_clients`], with further flags of the server.
async fn run_official_clients_with(script: &str, flags: &[&str]) {
    let page = "http://page.example";
    let server = TestServer::start_with(&[&["--allow-origin", page], flags].concat()).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let mut command = node(script);
    command.arg(format!("http://{}", server.system.address)).args([alice.token(), bob.token()]);
    command.args([&server.system.pid().to_string(), page, &alice.password, &bob.password]);
    run_to_end(script, command).await;
}

/// Runs a script of `tests/interop` that starts a browser. The origin of its pages is a flag of the server, so their port is chosen
/// before the server starts. Under the host name `localhost` the pages are another site than the server.
async fn run_browser(script: &str) {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port").local_addr();
    let port = port.expect("a bound socket").port().to_string();
    let allowed = format!("http://127.0.0.1:{port},http://localhost:{port}");
    let server = TestServer::start_with(&["--allow-origin", &allowed]).await;
    let alice = server.unregistered_user("alice");
    alice.register().await;
    let mut command = node(script);
    command.arg(format!("http://{}", server.system.address)).arg(port);
    command
        .arg(env_path("INTEROP_CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into()))
        .arg(&alice.password);
    run_to_end(script, command).await;
}
