//! Log lines about deployments that refuse valid clients or cannot distinguish clients: once a minute, with the remedy.

use std::{net::Ipv4Addr, time::Duration};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Request, TestServer, connect, with_timeout};

/// The address of a trusted proxy, and of another peer.
const TRUSTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const UNTRUSTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 10);

/// Headers of a request.
type Sent = &'static [(&'static str, &'static str)];

/// All warnings that contain `text`; waits for the first.
async fn warned(server: &TestServer, text: &str) -> Vec<String> {
    let found = async {
        loop {
            let log = server.system.log();
            let lines = log.lines().filter(|line| line.contains("WARN") && line.contains(text));
            let lines: Vec<String> = lines.map(str::to_owned).collect();
            if !lines.is_empty() {
                return lines;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    with_timeout(&format!("a warning about {text}"), found).await
}

#[tokio::test]
async fn a_refused_origin_is_logged_once_with_the_expected_origin_and_the_remedy() {
    let server = TestServer::start_with(&["--trusted-proxy", "127.0.0.9"]).await;
    let login = json!({ "username": "alice", "password": "the password of alice" });
    let ask = async |from: Ipv4Addr, request: Request| request.send(from, server.system.address).await;
    for _ in 0..3 {
        let request = Request::post("/user/login", &login).header("Origin", "https://elsewhere.example");
        let refused = ask(UNTRUSTED, request).await.expect(403);
        assert!(
            refused.body.contains("--allow-origin") && refused.body.contains("X-Forwarded-Proto"),
            "{}",
            refused.body
        );
    }
    // A proxy that forwards the wrong scheme, and a page that only reads.
    let proxied = Request::post("/user/login", &login).header("Origin", "https://chat.example");
    let proxied = proxied.header("X-Forwarded-Proto", "http").header("X-Forwarded-Host", "chat.example");
    ask(TRUSTED, proxied.header("X-Forwarded-For", "198.51.100.7")).await.expect(403);
    ask(UNTRUSTED, Request::get("/healthz").header("Origin", "capacitor://localhost")).await.expect(200);
    for (seen, expected, remedy) in [
        ("https://elsewhere.example", "http://127.0.0.1", "--trusted-proxy"),
        ("https://chat.example", "http://chat.example", "X-Forwarded-Proto"),
        ("capacitor://localhost", "http://127.0.0.1", "--allow-origin"),
    ] {
        let found = warned(&server, seen).await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(expected) && found[0].contains(remedy), "{}", found[0]);
    }
}

#[tokio::test]
async fn indistinguishable_clients_are_logged_once_with_the_remedy() {
    let server = TestServer::start_with(&["--trusted-proxy", "127.0.0.9"]).await;
    let table: [(Ipv4Addr, Sent, &str, &str); 9] = [
        (
            UNTRUSTED,
            &[("X-Forwarded-For", "198.51.100.7")],
            "the peer sends x-forwarded-for, as a proxy does",
            "--trusted-proxy",
        ),
        (TRUSTED, &[], "names no client", "X-Forwarded-For"),
        (TRUSTED, &[("X-Forwarded-For", "unknown")], "has no IP address", "X-Forwarded-For"),
        (
            TRUSTED,
            &[("X-Forwarded-For", "1.1.1.1"), ("X-Real-IP", "2.2.2.2")],
            "name different clients",
            "remove the header",
        ),
        (TRUSTED, &[("X-Forwarded-For", "1.1.1.1, 10.0.0.7")], "10.0.0.7 names clients", "--trusted-proxy"),
        (
            TRUSTED,
            &[("X-Forwarded-For", "1.1.1.1, 172.70.1.1"), ("CF-Connecting-IP", "1.1.1.1")],
            "cf-connecting-ip names another client",
            "CDN",
        ),
        // A client that forges one of these headers does not suppress the warning about another one.
        (
            TRUSTED,
            &[("X-Forwarded-For", "172.70.1.1"), ("X-Original-Forwarded-For", "1.1.1.1")],
            "x-original-forwarded-for names another client",
            "use-forwarded-headers",
        ),
        (TRUSTED, &[("True-Client-IP", "1.1.1.1")], "only in true-client-ip", "X-Forwarded-For"),
        (TRUSTED, &[("Fastly-Client-IP", "1.1.1.1")], "only in fastly-client-ip", "X-Forwarded-For"),
    ];
    for (from, headers, _, _) in table {
        for _ in 0..2 {
            let request = headers
                .iter()
                .fold(Request::get("/user/me"), |request, (name, value)| request.header(name, value));
            request.send(from, server.system.address).await.expect(401);
        }
    }
    Request::get("/healthz").send(TRUSTED, server.system.address).await.expect(200);
    for (_, headers, cause, remedy) in table {
        let found = warned(&server, cause).await;
        assert!(found.len() == 1 && found[0].contains(remedy), "{headers:?}: {found:?}");
    }
    assert_eq!(server.system.counter("godzilla_forwarding_issues_total{reason=\"absent\"}").await, 2);
}

/// The headers of a WebSocket handshake; the function removes or replaces one of them.
const HANDSHAKE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// A handshake with this query in which the header `name` has another value, or is absent.
fn damaged_handshake(query: &str, name: &str, value: Option<&str>) -> Request {
    let request = Request::get(&format!("/socket.io/?{query}"));
    let kept = HANDSHAKE.iter().copied().filter(|(other, _)| *other != name);
    let pairs = kept.chain(value.map(|value| (name, value)));
    pairs.fold(request, |request, (name, value)| request.header(name, value))
}

/// One damage of a handshake: its query and header, the response, and the start of the cause in the log.
struct Damage {
    query: &'static str,
    header: (&'static str, Option<&'static str>),
    status: u16,
    body: &'static str,
    cause: &'static str,
    reason: &'static str,
}

#[tokio::test]
async fn damaged_websocket_handshakes_are_refused_and_logged_once_with_the_remedy() {
    let server = TestServer::start_with(&["--trusted-proxy", "127.0.0.9", "--allow-token-clients"]).await;
    let alice = server.user("alice").await;
    let websocket = "EIO=4&transport=websocket";
    let fixed = r#"{"code":3,"message":"Bad request"}"#;
    let table = [
        (websocket, ("Upgrade", None), 400, fixed, "transport=websocket without", "no_upgrade"),
        (
            websocket,
            ("Connection", Some("close")),
            400,
            "Connection: Upgrade",
            "the header Upgrade: websocket without",
            "no_connection",
        ),
        (
            websocket,
            ("Sec-WebSocket-Version", Some("8")),
            426,
            "is not 13",
            "Sec-WebSocket-Version is",
            "version",
        ),
        (websocket, ("Sec-WebSocket-Key", Some("short")), 400, "16 bytes", "Sec-WebSocket-Key is", "key"),
        (
            "EIO=4&transport=polling",
            ("X", None),
            400,
            "not a GET",
            "the header Upgrade: websocket on",
            "not_websocket",
        ),
    ];
    let table = table.map(|(query, header, status, body, cause, reason)| Damage {
        query,
        header,
        status,
        body,
        cause,
        reason,
    });
    for Damage { query, header, status, body, .. } in &table {
        for from in [TRUSTED, TRUSTED, UNTRUSTED] {
            let request = damaged_handshake(query, header.0, header.1).cookie(alice.token());
            let request = request.header("X-Forwarded-For", "198.51.100.7");
            let response = request.send(from, server.system.address).await.expect(*status);
            assert!(response.body.contains(body), "{header:?}: {}", response.body);
            let version = response.header("sec-websocket-version");
            assert_eq!(version, (*status == 426).then_some("13"), "{header:?}");
            let reason = response.header("x-refusal-reason");
            assert_eq!(reason.is_some(), *body == fixed, "{header:?}: {reason:?}");
        }
    }
    for Damage { cause, reason, .. } in &table {
        let counter = format!("godzilla_handshake_issues_total{{reason=\"{reason}\"}}");
        assert_eq!(server.system.counter(&counter).await, 3, "{reason}");
        for peer in [TRUSTED, UNTRUSTED] {
            let found = warned(&server, &format!("peer={peer} cause={cause}")).await;
            assert!(found.len() == 1 && found[0].contains("docs/proxies.md"), "{cause}: {found:?}");
        }
    }
}

#[tokio::test]
async fn a_valid_handshake_of_another_version_gets_the_answer_of_engine_io() {
    let server = TestServer::start_with(&["--allow-token-clients"]).await;
    let alice = server.user("alice").await;
    let old = damaged_handshake("EIO=3&transport=websocket", "X", None).cookie(alice.token());
    let old = old.send(UNTRUSTED, server.system.address).await.expect(400);
    assert!(old.body.contains("Unsupported protocol version"), "{}", old.body);
}

#[tokio::test]
async fn a_malformed_request_is_no_error_of_the_server() {
    let server = TestServer::start_with(&["--log", "info,actix_http=debug"]).await;
    for bad in ["GET / HTTP/1.1\r\nHost: a\r\nBad Header: 1\r\n\r\n", "GET / HTTP/1.1\r\nHost: \x01\r\n\r\n"]
    {
        let mut stream = connect(UNTRUSTED, server.system.address).await;
        with_timeout("a write", stream.write_all(bad.as_bytes())).await.expect("an open connection");
        let mut response = Vec::new();
        _ = with_timeout("the end", stream.read_to_end(&mut response)).await;
    }
    server.system.wait_for_log("stream error: ").await;
    let log = server.system.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("actix_http::h1::dispatcher")).collect();
    assert!(lines.iter().any(|line| line.contains("DEBUG") && line.contains("invalid Header")), "{lines:?}");
    assert!(!log.contains("ERROR"), "{lines:?}");
}
