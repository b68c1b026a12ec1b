//! The environment of a server: load balancers with their health checks and headers, clients of other protocols, subprotocols. Runs against
//! `serve` and against the split system.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{RawSocket, Request, TestServer, connect, with_timeout};

/// The time between two pieces, in which the server reads the first.
const PIECE_PAUSE: Duration = Duration::from_millis(20);

/// Sends bytes and reads until the server closes the connection.
async fn response(to: SocketAddr, bytes: &[u8]) -> String {
    response_to_pieces(to, &[bytes]).await
}

/// Sends pieces one after the other and reads until the server closes the connection.
async fn response_to_pieces(to: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut stream = connect(Ipv4Addr::LOCALHOST, to).await;
    stream.set_nodelay(true).expect("an open connection");
    let mut response = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        if at > 0 {
            tokio::time::sleep(PIECE_PAUSE).await;
        }
        stream.write_all(piece).await.expect("an open connection");
    }
    // A reset after the response also ends the connection.
    let _ = with_timeout("the end of the response", stream.read_to_end(&mut response)).await;
    String::from_utf8_lossy(&response).into_owned()
}

#[tokio::test]
async fn other_protocols_are_refused_and_logged_with_cause_and_remedy() {
    let server = TestServer::start().await;
    let table: [(&[u8], &str, &str, &str); 17] = [
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 80\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
            "400",
            "PROXY protocol",
            "disable the PROXY protocol",
        ),
        (b"PROXY UNKNOWN\r\n", "400", "PROXY protocol", "disable the PROXY protocol"),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x50\0\x50GET / HTTP/1.1\r\n\r\n",
            "400",
            "PROXY protocol",
            "disable the PROXY protocol",
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400", "TLS", "a proxy that terminates TLS"),
        (b"\x16\x03\x03\x00\x05\r\n\r\n\n", "400", "TLS", "a proxy that terminates TLS"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505", "HTTP/2", "HTTP/1.1"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "400", "not HTTP", "another service"),
        (b"*1\r\n$4\r\nPING\r\n", "400", "not HTTP", "another service"),
        (b"PING\r\n", "400", "not HTTP", "another service"),
        (b"EHLO mail.example\r\n", "400", "not HTTP", "another service"),
        (b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04abcd", "400", "not HTTP", "another service"),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", "400", "not HTTP", "another service"),
        (b"AMQP\0\0\x09\x01", "400", "not HTTP", "another service"),
        (b"\x3a\0\0\0\x01\0\0\0\0\0\0\0\xd4\x07\0\0", "400", "not HTTP", "another service"),
        (b"0032git-upload-pack /a\0host=a\0", "400", "not HTTP", "another service"),
        (b"CONNECT\naccept-version:1.2\n\n\0", "400", "not HTTP", "another service"),
        (b"\n\n\n\n\n", "400", "not HTTP", "another service"),
    ];
    for (bytes, code, words, remedy) in table {
        let shown = String::from_utf8_lossy(bytes).into_owned();
        let response = response(server.system.address, bytes).await;
        let is_refused = response.split(' ').nth(1) == Some(code) && response.contains(words);
        assert!(is_refused && response.contains(r#""status":"error""#), "{shown:?}: {response}");
        server.system.wait_for_log(remedy).await;
        // The first bytes arrive in pieces, at both ports.
        for to in [server.system.address, server.system.admin] {
            for at in [1, 4, bytes.len() - 1] {
                let (one, two) = bytes.split_at(at);
                let response = response_to_pieces(to, &[one, two]).await;
                let is_refused = response.split(' ').nth(1) == Some(code) && response.contains(words);
                assert!(is_refused, "{shown:?} split at {at}: {response}");
            }
        }
    }
    let log = server.system.log();
    for remedy in ["disable the PROXY protocol", "a proxy that terminates TLS", "another service"] {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(remedy)).collect();
        assert!(lines.iter().all(|line| line.contains("peer=127.0.0.1")), "{lines:?}");
        assert_eq!(lines.len(), 1, "once a minute: {lines:?}");
    }
    // Valid HTTP is accepted, also after an empty line.
    for request in ["GET /healthz HTTP/1.0\r\n\r\n", "\r\nGET /healthz HTTP/1.0\r\n\r\n"] {
        assert!(response(server.system.address, request.as_bytes()).await.contains("200 OK"), "{request:?}");
    }
}

#[tokio::test]
async fn health_checks_of_load_balancers_succeed() {
    let server = TestServer::start().await;
    // HAProxy sends the first request by default; the others are of other load balancers.
    let table = [
        ("OPTIONS / HTTP/1.0\r\n\r\n", 204),
        ("OPTIONS / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 204),
        ("OPTIONS /healthz HTTP/1.0\r\n\r\n", 204),
        ("HEAD / HTTP/1.0\r\n\r\n", 200),
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: 10.0.0.1\r\nUser-Agent: GoogleHC/1.0\r\nConnection: close\r\n\r\n", 200),
    ];
    for (request, code) in table {
        let response = response(server.system.address, request.as_bytes()).await;
        assert_eq!(response.split(' ').nth(1), Some(code.to_string().as_str()), "{request:?}: {response}");
        let allows = response.to_ascii_lowercase().contains("\r\nallow: get, head, options\r\n");
        assert_eq!(allows, code == 204, "{request:?}: {response}");
        assert_eq!(response.ends_with("\r\n\r\n"), !request.starts_with("GET"), "{request:?}: {response}");
    }
}

#[tokio::test]
async fn the_admin_endpoints_respond_to_head() {
    let server = TestServer::start().await;
    for path in ["/livez", "/readyz", "/metrics"] {
        let head = format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let response = response(server.system.admin, head.as_bytes()).await;
        assert!(
            response.starts_with("HTTP/1.1 200 ") && response.ends_with("\r\n\r\n"),
            "{path}: {response}"
        );
    }
}

#[tokio::test]
async fn the_first_offered_subprotocol_is_chosen() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let table: [(&[&str], &str, Option<&str>); 8] = [
        (&[], "101", None),
        (&["chat"], "101", Some("chat")),
        (&["v1.chat, v2.chat"], "101", Some("v1.chat")),
        (&["v1.chat,v2.chat", "v3"], "101", Some("v1.chat")),
        (&[""], "101", None),
        (&["", "late"], "101", Some("late")),
        (&[" , spaced ,x"], "101", Some("spaced")),
        (&["not a token"], "400", None),
    ];
    for (offered, code, chosen) in table {
        let mut request = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nCookie: auth_token={}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            alice.token()
        );
        for line in offered {
            request.push_str(&format!("Sec-WebSocket-Protocol: {line}\r\n"));
        }
        let mut stream = connect(Ipv4Addr::LOCALHOST, server.system.address).await;
        stream.write_all(format!("{request}\r\n").as_bytes()).await.expect("an open connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(with_timeout("a head", stream.read_u8()).await.expect("an open connection"));
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        assert_eq!(head.split(' ').nth(1), Some(code), "{offered:?}: {head}");
        let received: Vec<_> = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"))
            .map(|(_, value)| value)
            .collect();
        assert_eq!(received, chosen.into_iter().collect::<Vec<_>>(), "{offered:?}: {head}");
    }
}

/// Proxies add options to `Connection`: lighttpd `close`, HAProxy and clients `keep-alive`.
#[tokio::test]
async fn a_handshake_may_list_other_options_of_the_connection() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    for connection in [
        "Connection: Upgrade",
        "Connection: close, upgrade",
        "Connection: upgrade, close",
        "Connection: close\r\nConnection: upgrade",
        "Connection: upgrade\r\nConnection: Close",
        "Connection: keep-alive, Upgrade",
        "Connection: Keep-Alive, Upgrade, TE",
        "Connection: upgrade,,",
    ] {
        let request = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nCookie: auth_token={}\r\n{connection}\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            alice.token()
        );
        let mut raw =
            RawSocket::open_with_request(Ipv4Addr::LOCALHOST, server.system.address, &request).await;
        raw.join().await;
    }
}

#[tokio::test]
async fn an_empty_session_id_opens_a_session() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    for query in
        ["EIO=4&transport=polling&sid=", "sid=&EIO=4&transport=polling", "EIO=4&transport=polling&sid"]
    {
        let opened = alice.request(Request::get(&format!("/socket.io/?{query}"))).await.expect(200);
        assert!(opened.body.starts_with(r#"0{"sid":""#), "{query}: {opened:?}");
    }
}

#[tokio::test]
async fn refusals_name_their_cause() {
    let server = TestServer::start().await;
    let login = json!({ "username": "alice", "password": "correct horse" });
    for coding in ["gzip", "br", "deflate, gzip", "zstd"] {
        let request = Request::post("/user/login", &login).header("Content-Encoding", coding);
        let refused = request.send(Ipv4Addr::LOCALHOST, server.system.address).await.expect_refusal(415);
        assert!(refused.body.contains("Content-Encoding"), "{coding}: {refused:?}");
    }
    let plain = Request::post("/user/login", &login).header("Content-Encoding", "identity");
    plain.send(Ipv4Addr::LOCALHOST, server.system.address).await.expect_refusal(401);
    for name in [".", ".."] {
        let body = json!({ "username": name, "password": "correct horse" });
        let request = Request::post("/user/register", &body);
        let refused = request.send(Ipv4Addr::LOCALHOST, server.system.address).await.expect_refusal(400);
        assert!(refused.body.contains("'.' or '..'"), "{name}: {refused:?}");
    }
    let alice = server.user("alice").await;
    let refused = alice.request(Request::post("/rooms", &json!({ "name": ".." }))).await.expect_refusal(400);
    assert!(refused.body.contains("'.' or '..'"), "{refused:?}");
}
