//! The time after SIGTERM in which a role is not ready and accepts requests (`--drain-delay`), and requests whose body arrives during a
//! drain.

use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;
use testkit::{Mongo, Redis};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use super::{Role, key_file};
use crate::support::{Request, TIMEOUT, TestServer, with_timeout};

/// The delay of the roles that end after it.
const DELAY: Duration = Duration::from_secs(2);

/// Longer than [`TIMEOUT`].
const LONG: &str = "10m";

/// The arguments of a role: its own, and the stores.
fn arguments(
    role: &str,
    data: &TempDir,
    mongo: &Mongo,
    redis: &Redis,
    key: &str,
    delay: &str,
) -> Vec<String> {
    let data = data.path().join(role).to_string_lossy().into_owned();
    let (uri, url) = (mongo.uri(), redis.url());
    let shared = ["--redis-url", &url, "--secret-file", key];
    let own: Vec<&str> = match role {
        "serve" => vec!["--presence-listen", "127.0.0.1:0", "--bcrypt-cost", "4", "--data-dir", &data],
        "presence" => Vec::new(),
        "gateway" => [&shared[..], &["--accounts-url", "http://127.0.0.1:1"]].concat(),
        "accounts" => [&shared[..], &["--mongo-uri", &uri, "--bcrypt-cost", "4"]].concat(),
        _ => [&shared[..], &["--mongo-uri", &uri, "--node", "one"]].concat(),
    };
    own.into_iter().chain(["--drain-delay", delay]).map(str::to_owned).collect()
}

async fn start(role: &str, data: &TempDir, mongo: &Mongo, redis: &Redis, key: &str, delay: &str) -> Role {
    let arguments = arguments(role, data, mongo, redis, key, delay);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut started = Role::start_unready(role, &arguments);
    started.wait_until_listening().await;
    // Without a chat node a gateway is never ready.
    if role != "gateway" {
        started.wait_until_ready();
    }
    started
}

fn signal(role: &Role, name: &str) {
    let pid = role.child.id().to_string();
    assert!(
        Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill is installed").success()
    );
}

async fn wait_for_draining(role: &Role, name: &str) {
    role.wait_for_readiness(name, 503, &["draining"]).await;
}

async fn exit(role: &mut Role) -> Option<i32> {
    let until = Instant::now() + TIMEOUT;
    loop {
        if let Some(status) = role.child.try_wait().expect("a child process") {
            return status.code();
        }
        assert!(Instant::now() < until, "still running");
        sleep(Duration::from_millis(10)).await;
    }
}

const ROLES: [&str; 5] = ["serve", "gateway", "accounts", "chat", "presence"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_are_not_ready_at_once_after_sigterm_and_accept_requests_until_the_delay_is_over() {
    let (mongo, redis, data, key) =
        (Mongo::start().await, Redis::start(), TempDir::new().expect("a directory"), key_file());
    let key = key.path().to_string_lossy().into_owned();
    for name in ROLES {
        let delay = format!("{}s", DELAY.as_secs());
        let mut role = start(name, &data, &mongo, &redis, &key, &delay).await;
        let signalled = Instant::now();
        signal(&role, "TERM");
        wait_for_draining(&role, name).await;
        // Each connection is new. The first one that is refused is after the delay, however slow the machine is.
        while TcpStream::connect(role.address).await.is_ok() {
            if ["serve", "gateway"].contains(&name) {
                let answer = Request::get("/healthz").try_send([127, 0, 0, 1].into(), role.address).await;
                assert!(
                    answer.as_ref().is_none_or(|answer| answer.status == 200) || signalled.elapsed() >= DELAY,
                    "{name}: {answer:?}"
                );
            }
        }
        assert!(
            signalled.elapsed() >= DELAY,
            "{name}: connections are refused after {:?}",
            signalled.elapsed()
        );
        assert_eq!(exit(&mut role).await, Some(0), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_and_sigint_end_the_delay() {
    let (mongo, redis, data, key) =
        (Mongo::start().await, Redis::start(), TempDir::new().expect("a directory"), key_file());
    let key = key.path().to_string_lossy().into_owned();
    for (name, first, second) in [("serve", "TERM", Some("INT")), ("chat", "INT", None)] {
        let mut role = start(name, &data, &mongo, &redis, &key, LONG).await;
        signal(&role, first);
        let Some(second) = second else {
            assert_eq!(exit(&mut role).await, Some(0), "{name} {first}");
            continue;
        };
        wait_for_draining(&role, name).await;
        // A signal soon after the first one counts as the same request.
        let until = Instant::now() + TIMEOUT;
        let status = loop {
            if let Some(status) = role.child.try_wait().expect("a child process") {
                break status.code();
            }
            signal(&role, second);
            assert!(Instant::now() < until, "{name}: still running");
            sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(status, Some(130), "{name} {first} {second}");
    }
}

/// Sends a message slowly: its body arrives for longer than the servers wait for their last connections.
async fn send_slowly(address: SocketAddr, token: &str) -> (TcpStream, String) {
    let body = json!({"text": "slow", "clientId": "1"}).to_string();
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    let head = format!(
        "POST /rooms/lobby/messages HTTP/1.1\r\nHost: a\r\nCookie: auth_token={token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("an open connection");
    let mut interim = [0; 25];
    with_timeout("100 Continue", stream.read_exact(&mut interim)).await.expect("an open connection");
    assert!(interim.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&interim));
    (stream, body)
}

/// The response to the message, whose body is sent from now on, for 4 s.
async fn finish(mut stream: TcpStream, body: String) -> String {
    for byte in body.as_bytes() {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(4_000 / body.len() as u64)).await;
    }
    let mut response = Vec::new();
    let _ = with_timeout("the response", stream.read_to_end(&mut response)).await;
    String::from_utf8_lossy(&response).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_body_arrives_during_the_drain_is_answered() {
    for is_split in [false, true] {
        let mut server = if is_split {
            Box::pin(TestServer::start_split()).await
        } else {
            Box::pin(TestServer::start()).await
        };
        let alice = server.user("alice").await;
        let (stream, body) = send_slowly(alice.server, alice.token()).await;
        // The session of the first request is found, too: a gateway counts a request from then on.
        alice.get("/user/me").await.expect(200);
        server.system.processes[0].signal("TERM");
        let response = finish(stream, body).await;
        assert!(response.starts_with("HTTP/1.1 201"), "split: {is_split}: {response}");
        assert_eq!(server.system.wait_for_exit(0).await.code(), Some(0), "split: {is_split}");
        let log = server.system.log();
        assert!(!log.contains("drain did not finish"), "{log}");
    }
}
