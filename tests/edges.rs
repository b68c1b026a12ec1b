//! The environment of a server: load balancers with their health checks and headers, subprotocols. Runs against
//! `serve` and against the split system.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{RawSocket, Request, TestServer, connect, with_timeout};

/// Sends bytes and reads until the server closes the connection.
async fn response(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(Ipv4Addr::LOCALHOST, to).await;
    stream.write_all(bytes).await.expect("an open connection");
    let mut response = Vec::new();
    // A reset after the response also ends the connection.
    let _ = with_timeout("the end of the response", stream.read_to_end(&mut response)).await;
    String::from_utf8_lossy(&response).into_owned()
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
