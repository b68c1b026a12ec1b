//! The gateway as a process of its own, in front of the real accounts role and of a chat node that is simulated by the test.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use proto::{
    Timestamp,
    signature::{HEADER, Key, Target},
};
use serde_json::json;
use testkit::{Mongo, Redis};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream as Stream},
    sync::mpsc,
};

use super::{KEY, Role, key_file};
use crate::{
    config::{run, text},
    support::{Request, with_timeout},
};

/// The headers of a WebSocket handshake; [`ACCEPTED`] is its response.
const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Registers a chat node in Redis as a live node does, with a lease that does not expire.
fn register_node(redis: &Redis, node: &str, address: SocketAddr) {
    let url = redis.admin_url();
    let server = url.trim_start_matches("redis://").trim_end_matches("/0").to_owned();
    let mut redis = TcpStream::connect(server).expect("Redis responds");
    let expires = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock after 1970")
        .as_millis()
        + 3_600_000;
    let command = format!("HSET chat:nodes {node} \"{expires} http://{address} open\"\r\n");
    redis.write_all(command.as_bytes()).expect("Redis responds");
    let mut answer = [0; 4];
    redis.read_exact(&mut answer).expect("Redis responds");
    assert_eq!(&answer, b":1\r\n");
}

async fn head(stream: &mut Stream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(
            with_timeout("the next byte of a head", stream.read_u8()).await.expect("an open connection"),
        );
    }
    String::from_utf8(head).expect("a head is text")
}

/// Simulates a chat node: returns its connections, each with the head of its first request.
fn simulate_node(node: TcpListener) -> mpsc::Receiver<(Stream, String)> {
    let (connections, received) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = node.accept().await {
            let connections = connections.clone();
            tokio::spawn(async move {
                let request = head(&mut stream).await;
                _ = connections.send((stream, request)).await;
            });
        }
    });
    received
}

/// Opens a WebSocket of alice through the gateway and checks the signed identity; returns the client's end and the node's end.
async fn open_websocket(
    gateway: &Role,
    node: &mut mpsc::Receiver<(Stream, String)>,
    token: &str,
) -> (Stream, Stream) {
    let target = "/socket.io/?EIO=4&transport=websocket&sid=0a.chat-1";
    let mut client = Stream::connect(gateway.address).await.expect("the gateway listens");
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nCookie: auth_token={token}\r\n{HANDSHAKE}");
    client.write_all(request.as_bytes()).await.expect("an open connection");
    let (mut peer, head_at_node) =
        with_timeout("a connection", node.recv()).await.expect("the gateway connects");
    let signed = head_at_node.lines().find_map(|line| line.strip_prefix(&format!("{HEADER}: ")));
    let key = Key::new(KEY.as_bytes()).expect("a long key");
    let target = Target { method: "GET", path: target };
    let identity = key.verify(signed.expect("an identity"), target, Timestamp::now()).expect("signed");
    assert_eq!(identity.expect("a user").username.as_str(), "alice");
    peer.write_all(ACCEPTED.as_bytes()).await.expect("an open connection");
    assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
    (client, peer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_serves_logins_forwards_websockets_and_closes_them_when_it_stops() {
    let (mongo, mut redis) = (Mongo::start().await, Redis::start());
    let key = key_file();
    let key = key.path().to_string_lossy().into_owned();
    let shared = ["--redis-url", &redis.url(), "--secret-file", &key];
    let stores = ["--mongo-uri", &mongo.uri(), "--bcrypt-cost", "4"];
    let mut accounts = Role::start("accounts", &[&shared[..], &stores[..]].concat());
    let url = format!("http://{}", accounts.address);
    let flags = ["--accounts-url", &url, "--trusted-proxy", "127.0.0.0/8"];
    let mut gateway = Role::start_unready("gateway", &[&shared[..], &flags[..]].concat());
    gateway.wait_until_listening().await;
    let until = Instant::now() + Duration::from_secs(20);
    while gateway.admin("/readyz").await.1.contains("Redis") {
        assert!(Instant::now() < until, "not ready because of Redis");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (status, why) = gateway.admin("/readyz").await;
    assert!(status == 503 && why.contains("chat has no node"), "{status} {why}");
    let node = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    register_node(&redis, "chat-1", node.local_addr().expect("a bound socket"));
    let mut node = simulate_node(node);
    gateway.wait_until_ready();

    let alice = json!({ "username": "alice", "password": "correct horse" });
    gateway.request(Request::post("/user/register", &alice)).await.expect(201);
    let login = gateway.request(Request::post("/user/login", &alice)).await.expect(200);
    let plain = login.header("set-cookie").expect("a cookie").to_owned();
    let by_tls = Request::post("/user/login", &alice).header("X-Forwarded-Proto", "https");
    let by_tls = gateway.request(by_tls).await.expect(200);
    assert!(!plain.contains("Secure") && by_tls.header("set-cookie").expect("a cookie").contains("; Secure"));
    let token = login.token().expect("a cookie");
    let me = gateway.request(Request::get("/user/me").cookie(&token)).await.expect(200);
    assert_eq!(me.json(), json!({ "username": "alice" }));
    gateway.request(Request::get("/user/me").header(HEADER, "1:alice:0:9:00")).await.expect_refusal(401);

    let (mut client, mut peer) = open_websocket(&gateway, &mut node, &token).await;
    peer.write_all(b"hello").await.expect("an open connection");
    let mut hello = [0; 5];
    with_timeout("hello", client.read_exact(&mut hello)).await.expect("an open connection");
    assert_eq!(&hello, b"hello");

    accounts.stop();
    gateway.request(Request::post("/user/login", &alice)).await.expect_refusal(503);
    assert!(gateway.is_ready(), "without accounts the gateway stays ready");
    redis.kill();
    gateway.request(Request::get("/user/me").cookie(&token)).await.expect_refusal(503);
    redis.restart();
    let started = Instant::now();
    let stopped = std::thread::spawn(move || (gateway.stop(), gateway));
    let mut rest = Vec::new();
    with_timeout("the end of the socket", client.read_to_end(&mut rest)).await.expect("an orderly end");
    with_timeout("the end at the node", peer.read_to_end(&mut rest)).await.expect("an orderly end");
    assert_eq!(rest, b"");
    assert_eq!(stopped.join().expect("no panic").0, Some(0));
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_gateway_reports_missing_settings_and_prints_no_secret() {
    let key = key_file();
    let key = key.path().to_string_lossy();
    let redis = "redis://:hunter2@localhost";
    let lacking: [(&[&str], &str); 4] = [
        (&["--secret-file", &key], "--redis-url"),
        (&["--redis-url", redis], "--secret-file"),
        (&["--redis-url", redis, "--secret-file", &key], "--accounts-url (GODZILLA_ACCOUNTS_URL)"),
        (&["--redis-url", "hunter2", "--secret-file", &key, "--accounts-url", "http://a:1"], "--redis-url"),
    ];
    for (arguments, flag) in lacking {
        let free = ["gateway", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let output = run(&[&free[..], arguments].concat(), &[]);
        let printed = text(&output);
        assert!(output.status.code() == Some(2) && printed.contains(flag), "{arguments:?}: {printed}");
        assert!(!printed.contains("hunter2"), "{arguments:?}: {printed}");
    }
}
