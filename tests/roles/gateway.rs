//! The gateway as a process of its own, in front of the real accounts role and of a chat node that the test plays.

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

/// A handshake for a WebSocket, to be answered with [`ACCEPTED`].
const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Says to Redis what a chat node says that lives for long.
fn announces(redis: &Redis, node: &str, address: SocketAddr) {
    let url = redis.admin_url();
    let server = url.trim_start_matches("redis://").trim_end_matches("/0").to_owned();
    let mut redis = TcpStream::connect(server).expect("Redis is there");
    let command = format!("HSET chat:nodes {node} \"9999999999999 http://{address}\"\r\n");
    redis.write_all(command.as_bytes()).expect("Redis is there");
    let mut answer = [0; 4];
    redis.read_exact(&mut answer).expect("Redis answers");
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

/// The connections to a chat node, each with the head of its first request. Those by which the gateway asks whether the node answers are
/// answered here.
fn plays(node: TcpListener) -> mpsc::Receiver<(Stream, String)> {
    let (connections, received) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = node.accept().await {
            let connections = connections.clone();
            tokio::spawn(async move {
                let mut asked = head(&mut stream).await;
                while asked.starts_with("GET /healthz ") {
                    let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
                    stream.write_all(answer).await.expect("an open connection");
                    asked = head(&mut stream).await;
                }
                _ = connections.send((stream, asked)).await;
            });
        }
    });
    received
}

/// Alice's WebSocket through the gateway: her end and the node's, which has found her name signed.
async fn joined(
    gateway: &Role,
    node: &mut mpsc::Receiver<(Stream, String)>,
    token: &str,
) -> (Stream, Stream) {
    let target = "/socket.io/?EIO=4&transport=websocket&sid=0a.chat-1";
    let mut client = Stream::connect(gateway.address).await.expect("the gateway listens");
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nCookie: auth_token={token}\r\n{HANDSHAKE}");
    client.write_all(request.as_bytes()).await.expect("an open connection");
    let (mut peer, asked) = with_timeout("a connection", node.recv()).await.expect("the gateway connects");
    let signed = asked.lines().find_map(|line| line.strip_prefix(&format!("{HEADER}: ")));
    let key = Key::new(KEY.as_bytes()).expect("a long key");
    let target = Target { method: "GET", path: target };
    let identity = key.verify(signed.expect("an identity"), target, Timestamp::now()).expect("signed");
    assert_eq!(identity.expect("not nobody").username.as_str(), "alice");
    peer.write_all(ACCEPTED.as_bytes()).await.expect("an open connection");
    assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
    (client, peer)
}

#[tokio::test]
async fn people_log_in_and_reach_their_node_through_the_gateway_which_sends_them_away_when_it_ends() {
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
        assert!(Instant::now() < until, "Redis is there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (status, why) = gateway.admin("/readyz").await;
    assert!(status == 503 && why.contains("chat has no live node"), "{status} {why}");
    let node = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    announces(&redis, "chat-1", node.local_addr().expect("a bound socket"));
    let mut node = plays(node);
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

    let (mut client, mut peer) = joined(&gateway, &mut node, &token).await;
    peer.write_all(b"hello").await.expect("an open connection");
    let mut hello = [0; 5];
    with_timeout("hello", client.read_exact(&mut hello)).await.expect("an open connection");
    assert_eq!(&hello, b"hello");

    accounts.stop();
    gateway.request(Request::post("/user/login", &alice)).await.expect_refusal(503);
    assert!(gateway.is_ready(), "who is logged in chats on");
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
fn a_gateway_says_what_it_lacks_and_shows_no_secret() {
    let key = key_file();
    let key = key.path().to_string_lossy();
    let redis = "redis://:hunter2@localhost";
    let lacking: [(&[&str], &str); 4] = [
        (&[], "--redis-url"),
        (&["--redis-url", redis], "--secret-file"),
        (&["--redis-url", redis, "--secret-file", &key], "--accounts-url (GODZILLA_ACCOUNTS_URL)"),
        (&["--redis-url", "hunter2", "--secret-file", &key, "--accounts-url", "http://a:1"], "--redis-url"),
    ];
    for (arguments, flag) in lacking {
        let free = ["gateway", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let output = runs(&[&free[..], arguments].concat(), &[]);
        let printed = text(&output);
        assert!(output.status.code() == Some(2) && printed.contains(flag), "{arguments:?}: {printed}");
        assert!(!printed.contains("hunter2"), "{arguments:?}: {printed}");
    }
}
